//! Where the directories of a project are.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use super::pointers::{EPHEMERAL, INSTANCES, RUN_POINTER, STATE, STATE_OF, STATE_POINTER, is_ephemeral, other_owner, read_path};
use super::prepare::write_once;
use super::private::{check_private, is_private, make_private};
use devrun_keeper::state_location::{LOCATION_FILE, StateLocation};
use devrun_model::hex::hex;
use devrun_model::{Failure, FailureKind, Paths};

/// Works the directories out and looks at owner and mode of those that are there; makes nothing.
///
/// `state_dir` is `--state-dir` or `DEVRUN_STATE_DIR`, absolute; an earlier one is found through its pointer.
///
/// # Errors
/// `Config` for a directory that is not ours alone; `Elsewhere` where it is another user's and a stack runs from it.
pub fn locate(root: &Path, instance: &str, state_dir: Option<&Path>, env: &BTreeMap<String, String>) -> Result<Paths, Failure> {
    let home = root.join(STATE);
    let there = check_private(&home, "state")?;
    let base = match state_dir {
        Some(dir) => dir.to_path_buf(),
        None if there => pointed_state(&home, root)?.unwrap_or(home),
        None => home,
    };
    let state = if instance.is_empty() { base.clone() } else { base.join(INSTANCES).join(instance) };
    for folder in [&base, &base.join(INSTANCES), &state] {
        if state.starts_with(folder) {
            check_private(folder, "state")?;
        }
    }
    let mut places = Paths { root: root.to_path_buf(), state, run: PathBuf::new() };
    places.run = run_folder(&places, env);
    Ok(places)
}

/// The state directory that `.devrun/state-dir` names, if that one says that it belongs to this project.
fn pointed_state(home: &Path, root: &Path) -> Result<Option<PathBuf>, Failure> {
    let pointer = home.join(STATE_POINTER);
    let Some(target) = read_path(&pointer) else { return Ok(None) };
    // Git cannot deliver a directory that others may not read, and what it delivers names another project. Passing through may be
    // allowed: for services with a `user_id`.
    let mode = fs::symlink_metadata(home).map_or(0, |meta| meta.permissions().mode());
    if mode & 0o066 != 0 {
        return Err(Failure::new(
            FailureKind::Config,
            format!(
                "{} names another state directory, and {} is open to others (mode {:04o})",
                pointer.display(),
                home.display(),
                mode & 0o7777
            ),
        )
        .help(format!("if the pointer is yours: chmod 700 '{}'; else: rm '{}'", home.display(), pointer.display())));
    }
    if !check_private(&target, "state")? {
        return Ok(None);
    }
    let ours = StateLocation::read(&target.join(LOCATION_FILE)).is_some_and(|location| location.matches(root, &target));
    Ok(ours.then_some(target))
}

/// The runtime directory: the one that is in use where that can be told, else the usual one.
fn run_folder(places: &Paths, env: &BTreeMap<String, String>) -> PathBuf {
    if other_owner(places).is_none()
        && let Some(run) = read_path(&places.state.join(RUN_POINTER))
        && run.file_name().is_some_and(is_hash)
        && is_run_of(&run, places)
    {
        return run;
    }
    let base = runtime_base(env);
    let usual = base.join(hash(&[places.state.as_os_str().as_bytes()]));
    if is_run_of(&usual, places) {
        return usual;
    }
    // It belongs to a project that was here and has been moved.
    let (dev, ino) = devrun_keeper::file_id::file_id(&places.root).unwrap_or_default();
    base.join(hash(&[places.state.as_os_str().as_bytes(), format!("\0{dev}:{ino}").as_bytes()]))
}

/// Whether a runtime directory is this project's, or can become it.
fn is_run_of(run: &Path, places: &Paths) -> bool {
    match fs::symlink_metadata(run) {
        Err(_) => true,
        // Of another user, or open: `prepare` says so, and no one connects to what lies in it.
        Ok(_) if !is_private(run) => false,
        Ok(_) => StateLocation::read(&run.join(STATE_OF)).is_none_or(|of| of.matches(&places.root, &places.state)),
    }
}

/// Directories for one run that is thrown away: state in `folder`, nothing in the project's own `.devrun/`.
///
/// # Errors
/// `Config` when the directory cannot be made.
pub fn ephemeral(root: &Path, folder: &Path, env: &BTreeMap<String, String>) -> Result<Paths, Failure> {
    make_private(folder, "state")?;
    write_once(&folder.join(EPHEMERAL), b"")?;
    Ok(places_of_ephemeral(root, folder, env))
}

/// Where the directories of a run that is thrown away are, whether they are there or not.
#[must_use]
pub fn places_of_ephemeral(root: &Path, folder: &Path, env: &BTreeMap<String, String>) -> Paths {
    let run = runtime_base(env).join(hash(&[folder.as_os_str().as_bytes()]));
    Paths { root: root.to_path_buf(), state: folder.to_path_buf(), run }
}

/// The directories of a run that is thrown away, as a process of that run finds them: by the state directory that it was given. `None`
/// where that belongs to another project, or the run has ended.
#[must_use]
pub fn ephemeral_of(root: &Path, state: &Path, env: &BTreeMap<String, String>) -> Option<Paths> {
    let places = places_of_ephemeral(root, state, env);
    let is_ours = state.is_absolute() && is_private(state) && is_ephemeral(&places) && is_private(&places.run);
    let is_of_root = || StateLocation::read(&places.run.join(STATE_OF)).is_some_and(|of| of.matches(root, state));
    (is_ours && is_of_root()).then_some(places)
}

/// Every stack of this user that has a runtime directory, whether its supervisor lives or not.
#[must_use]
pub fn stacks(env: &BTreeMap<String, String>) -> Vec<Paths> {
    let us = nix::unistd::geteuid();
    let mut bases =
        vec![runtime_base(env), PathBuf::from(format!("/run/user/{us}/devrun")), PathBuf::from(format!("/tmp/devrun-{us}"))];
    bases.sort();
    bases.dedup();
    let mut found = Vec::new();
    for base in bases.into_iter().filter(|base| is_private(base)) {
        for entry in fs::read_dir(&base).into_iter().flatten().flatten() {
            let run = entry.path();
            if !is_private(&run) {
                continue;
            }
            let Some(of) = StateLocation::read(&run.join(STATE_OF)) else { continue };
            // What lies there now after a move is another project's; then the runtime directory is all there is to go by.
            let moved = of.state().exists() && !of.matches(of.root(), of.state());
            let state = if moved { run.clone() } else { of.state().to_path_buf() };
            found.push(Paths { root: of.root().to_path_buf(), state, run });
        }
    }
    found.sort_by(|one, other| one.state.cmp(&other.state));
    found
}

/// Twelve hex digits that stand for a state directory; short, so that no socket path reaches the limit of 104 bytes.
fn hash(parts: &[&[u8]]) -> String {
    let mut digest = Sha256::new();
    parts.iter().for_each(|part| digest.update(part));
    hex(&digest.finalize()[..6])
}

fn is_hash(name: &OsStr) -> bool {
    name.len() == 12 && name.as_bytes().iter().all(u8::is_ascii_hexdigit)
}

/// `XDG_RUNTIME_DIR` where it is what the XDG Base Directory Specification says: this user's own, closed to others. After
/// `su` and `sudo -E` it is another user's.
fn runtime_base(env: &BTreeMap<String, String>) -> PathBuf {
    match env.get("XDG_RUNTIME_DIR") {
        Some(dir) if dir.starts_with('/') && dir.len() < 60 && is_private(Path::new(dir)) => PathBuf::from(dir).join("devrun"),
        _ => PathBuf::from(format!("/tmp/devrun-{}", nix::unistd::geteuid())),
    }
}

/// The file in which the user's stacks set their ports aside: one for all of them, so it does not follow
/// `XDG_RUNTIME_DIR`, which a login has and a cron job has not. Makes the directory.
///
/// # Errors
/// `Config` when the directory cannot be made or is not ours alone.
pub fn ports_file() -> Result<PathBuf, Failure> {
    let us = nix::unistd::geteuid();
    let own = PathBuf::from(format!("/run/user/{us}"));
    let ours = fs::symlink_metadata(&own).is_ok_and(|meta| meta.is_dir() && meta.uid() == us.as_raw());
    let base = if ours { own.join("devrun") } else { PathBuf::from(format!("/tmp/devrun-{us}")) };
    make_private(&base, "runtime")?;
    Ok(base.join("ports"))
}

#[cfg(test)]
mod tests {
    use super::super::prepare::{prepare, remove_run};
    use super::*;

    #[test]
    fn an_instance_has_its_own_folders() {
        let dir = tempfile::tempdir().unwrap();
        let env = BTreeMap::new();
        let usual = locate(dir.path(), "", None, &env).unwrap();
        let other = locate(dir.path(), "b", None, &env).unwrap();
        assert_eq!(usual.state, dir.path().join(".devrun"));
        assert_eq!(other.state, dir.path().join(".devrun/instances/b"));
        assert_ne!(usual.run, other.run);
        assert!(usual.socket().as_os_str().len() < 100);
    }

    #[test]
    fn a_runtime_directory_that_is_open_or_a_link_is_not_used() {
        let dir = tempfile::tempdir().unwrap();
        let env = |path: &Path| BTreeMap::from([("XDG_RUNTIME_DIR".to_owned(), path.display().to_string())]);
        assert_eq!(runtime_base(&env(dir.path())), dir.path().join("devrun"));
        let usual = PathBuf::from(format!("/tmp/devrun-{}", nix::unistd::geteuid()));
        std::os::unix::fs::symlink(dir.path(), dir.path().join("link")).unwrap();
        assert_eq!(runtime_base(&env(&dir.path().join("link"))), usual);
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o777)).unwrap();
        assert_eq!(runtime_base(&env(dir.path())), usual);
    }

    #[test]
    fn a_stack_is_found_by_its_runtime_folder_and_a_throw_away_one_leaves_the_project_alone() {
        let dir = tempfile::tempdir().unwrap();
        let (root, xdg) = (dir.path().join("p\nq"), dir.path().join("x"));
        fs::create_dir(&root).unwrap();
        fs::create_dir(&xdg).unwrap();
        let env = BTreeMap::from([("XDG_RUNTIME_DIR".to_owned(), xdg.display().to_string())]);
        let places = ephemeral(&root, &dir.path().join("t"), &env).unwrap();
        prepare(&places).unwrap();
        assert!(stacks(&env).contains(&places));
        assert!(!root.join(STATE).exists());
        remove_run(&places).unwrap();
        assert!(!stacks(&env).contains(&places));
    }

    #[test]
    fn the_runtime_folder_is_found_again_without_the_variable() {
        let dir = tempfile::tempdir().unwrap();
        let xdg = dir.path().join("x");
        fs::create_dir(&xdg).unwrap();
        let with = BTreeMap::from([("XDG_RUNTIME_DIR".to_owned(), xdg.display().to_string())]);
        let first = locate(dir.path(), "", None, &with).unwrap();
        prepare(&first).unwrap();
        assert_eq!(locate(dir.path(), "", None, &BTreeMap::new()).unwrap().run, first.run);
    }
}
