//! The folders of one project: where they are, and that they are ours alone.
//!
//! Owns finding, making and checking of the state folder (`.devrun/`) and of the short runtime folder for sockets and
//! rendered files. Owns no file in them. The runtime folder depends on `XDG_RUNTIME_DIR`, which differs between a login
//! and a cron job, so the first supervisor writes its path down in the state folder and everybody else reads it there.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use crate::model::{Failure, FailureKind, Places};

/// The name of the state folder beside the procfile.
pub const STATE: &str = ".devrun";
/// The file in the state folder that names the runtime folder in use.
const RUN_POINTER: &str = "run";
/// The file in `.devrun/` that names a state folder elsewhere.
const STATE_POINTER: &str = "state-dir";

/// The file in the runtime folder that names state folder and project: all that `ls` and `down --emergency --all` have to
/// go by where the supervisor is dead. The dot keeps it apart from the folders of services.
const STATE_OF: &str = ".state";
/// The file in a state folder that says that it is thrown away with its run, so that nothing may point to it.
const EPHEMERAL: &str = ".ephemeral";

/// Works the folders out; makes nothing.
///
/// `state_dir` is `--state-dir` or `DEVRUN_STATE_DIR`, absolute; an earlier one is found through its pointer.
#[must_use]
pub fn locate(root: &Path, instance: &str, state_dir: Option<&Path>, env: &BTreeMap<String, String>) -> Places {
    let home = root.join(STATE);
    let pointed = || fs::read_to_string(home.join(STATE_POINTER)).ok().map(|text| PathBuf::from(text.trim_end()));
    let base = state_dir.map(Path::to_path_buf).or_else(pointed).unwrap_or(home);
    let state = if instance.is_empty() { base } else { base.join("instances").join(instance) };
    let run = fs::read_to_string(state.join(RUN_POINTER))
        .ok()
        .map(|text| PathBuf::from(text.trim_end()))
        .filter(|run| run.is_absolute() && run.file_name().is_some_and(|name| name.to_string_lossy() == hash(&state)))
        .unwrap_or_else(|| runtime_base(env).join(hash(&state)));
    Places { root: root.to_path_buf(), state, run }
}

/// Twelve hex digits that stand for a state folder; short, so that no socket path reaches the limit of 104 bytes.
fn hash(state: &Path) -> String {
    let digest = Sha256::digest(state.as_os_str().as_encoded_bytes());
    digest.iter().take(6).map(|byte| format!("{byte:02x}")).collect()
}

fn runtime_base(env: &BTreeMap<String, String>) -> PathBuf {
    match env.get("XDG_RUNTIME_DIR") {
        Some(dir) if dir.starts_with('/') && dir.len() < 60 && Path::new(dir).is_dir() => PathBuf::from(dir).join("devrun"),
        _ => PathBuf::from(format!("/tmp/devrun-{}", nix::unistd::geteuid())),
    }
}

/// The file in which the user's stacks set their ports aside: one for all of them, so it does not follow
/// `XDG_RUNTIME_DIR`, which a login has and a cron job has not. Makes the folder.
///
/// # Errors
/// `Config` when the folder cannot be made or is not ours alone.
pub fn ports_file() -> Result<PathBuf, Failure> {
    let us = nix::unistd::geteuid();
    let own = PathBuf::from(format!("/run/user/{us}"));
    let ours = fs::symlink_metadata(&own).is_ok_and(|meta| meta.is_dir() && meta.uid() == us.as_raw());
    let base = if ours { own.join("devrun") } else { PathBuf::from(format!("/tmp/devrun-{us}")) };
    make_private(&base, "runtime")?;
    Ok(base.join("ports"))
}

/// Makes both folders, checks owner and mode, and writes the pointers.
///
/// # Errors
/// `Config` when a folder cannot be made or written to, belongs to somebody else, or is open to others.
pub fn prepare(places: &Places) -> Result<(), Failure> {
    let home = places.root.join(STATE);
    let ephemeral = is_ephemeral(places);
    if !ephemeral {
        make_private(&home, "state")?;
        // The folder ignores itself, so that no project has to be told about it.
        write_once(&home.join(".gitignore"), "*\n")?;
    }
    make_private(&places.state, "state")?;
    if !ephemeral && !places.state.starts_with(&home) {
        write(&home.join(STATE_POINTER), &format!("{}\n", places.state.display()))?;
    }
    make_private(&places.logs(), "log")?;
    if let Some(base) = places.run.parent() {
        make_private(base, "runtime")?;
    }
    make_private(&places.run, "runtime")?;
    // A path may hold a newline.
    write(&places.run.join(STATE_OF), &format!("{}\0{}\0", places.state.display(), places.root.display()))?;
    write(&places.state.join(RUN_POINTER), &format!("{}\n", places.run.display()))
}

/// Makes the runtime directory again where it was cleaned away while the stack is up: no start may fail for that.
///
/// # Errors
/// As [`prepare`].
pub fn ensure_run(places: &Places) -> Result<(), Failure> {
    if places.run.is_dir() { Ok(()) } else { prepare(places) }
}

/// Folders for one run that is thrown away: state in `folder`, nothing in the project's own `.devrun/`.
///
/// # Errors
/// `Config` when the folder cannot be made.
pub fn ephemeral(root: &Path, folder: &Path, env: &BTreeMap<String, String>) -> Result<Places, Failure> {
    make_private(folder, "state")?;
    write_once(&folder.join(EPHEMERAL), "")?;
    Ok(Places { root: root.to_path_buf(), state: folder.to_path_buf(), run: runtime_base(env).join(hash(folder)) })
}

/// Whether these are the folders of a run that is thrown away.
#[must_use]
pub fn is_ephemeral(places: &Places) -> bool {
    places.state.join(EPHEMERAL).exists()
}

/// Every stack of this user that has a runtime folder, whether its supervisor lives or not.
#[must_use]
pub fn stacks(env: &BTreeMap<String, String>) -> Vec<Places> {
    let us = nix::unistd::geteuid();
    let mut bases =
        vec![runtime_base(env), PathBuf::from(format!("/run/user/{us}/devrun")), PathBuf::from(format!("/tmp/devrun-{us}"))];
    bases.sort();
    bases.dedup();
    let ours = |path: &Path| fs::symlink_metadata(path).is_ok_and(|meta| meta.is_dir() && meta.uid() == us.as_raw());
    let mut found = Vec::new();
    for base in bases.into_iter().filter(|base| ours(base)) {
        for entry in fs::read_dir(&base).into_iter().flatten().flatten() {
            let run = entry.path();
            if !ours(&run) {
                continue;
            }
            let Ok(text) = fs::read_to_string(run.join(STATE_OF)) else { continue };
            let mut paths = text.split('\0').map(PathBuf::from).filter(|path| path.is_absolute());
            if let (Some(state), Some(root)) = (paths.next(), paths.next()) {
                found.push(Places { root, state, run });
            }
        }
    }
    found.sort_by(|one, other| one.state.cmp(&other.state));
    found
}

/// Removes what is in the runtime folder, and the folder. Only what a supervisor put there; links are not followed.
///
/// # Errors
/// When something in it cannot be removed.
pub fn remove_run(places: &Places) -> std::io::Result<()> {
    match fs::remove_dir_all(&places.run) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// A folder with mode 0700 that is ours, made if it is missing. A folder made by somebody else, one that others can
/// write to, and a link in its place are refused.
///
/// # Errors
/// `Config`, naming the folder.
pub fn make_private(path: &Path, what: &str) -> Result<(), Failure> {
    let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(path);
    if let Err(error) = made {
        let parent = path.parent().unwrap_or(path);
        return Err(Failure::new(FailureKind::Config, format!("the {what} folder {} cannot be made: {error}", path.display()))
            .help(format!("make {} writable, or choose another place with --state-dir DIR", parent.display())));
    }
    let meta = fs::symlink_metadata(path).map_err(|error| {
        Failure::new(FailureKind::Config, format!("the {what} folder {} cannot be read: {error}", path.display()))
    })?;
    let us = nix::unistd::geteuid().as_raw();
    if !meta.is_dir() {
        return Err(Failure::new(FailureKind::Config, format!("{} is no folder but a link or a file", path.display()))
            .help(format!("remove {}", path.display())));
    }
    if meta.uid() != us {
        return Err(Failure::new(
            FailureKind::Config,
            format!("the {what} folder {} belongs to uid {}, not to us", path.display(), meta.uid()),
        )
        .help(format!("run devrun as that user, or remove {}", path.display())));
    }
    if meta.permissions().mode() & 0o022 != 0 {
        return Err(Failure::new(
            FailureKind::Config,
            format!(
                "the {what} folder {} can be written to by others (mode {:04o})",
                path.display(),
                meta.permissions().mode() & 0o7777
            ),
        )
        .help(format!("chmod 700 {}", path.display())));
    }
    if what == "state" || what == "log" {
        // A read-only project is noticed before anything is spawned, not at the first log line.
        nix::unistd::access(path, nix::unistd::AccessFlags::W_OK).map_err(|error| {
            Failure::new(FailureKind::Config, format!("the {what} folder {} cannot be written to: {error}", path.display()))
                .help("choose another place with --state-dir DIR")
        })?;
    }
    Ok(())
}

fn write(path: &Path, text: &str) -> Result<(), Failure> {
    if fs::read_to_string(path).is_ok_and(|now| now == text) {
        return Ok(());
    }
    replace(path, text.as_bytes()).map_err(|error| {
        Failure::new(FailureKind::Config, format!("{} cannot be written: {error}", path.display()))
            .help(super::process::file_size::no_room(&error))
    })
}

fn write_once(path: &Path, text: &str) -> Result<(), Failure> {
    if path.exists() { Ok(()) } else { write(path, text) }
}

/// Replaces a file of ours by a temporary file and a rename, so that a reader sees the old text or the new one.
///
/// # Errors
/// As the file system says.
pub fn replace(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let folder = path.parent().unwrap_or(Path::new("."));
    let mut file = tempfile::Builder::new().prefix(".new-").tempfile_in(folder)?;
    file.write_all(bytes)?;
    file.persist(path).map_err(|error| error.error)?;
    Ok(())
}

/// Writes a file that only we can read, in place; for what lies in the runtime folder.
///
/// # Errors
/// As the file system says.
pub fn write_private(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    if let Some(folder) = path.parent() {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    }
    // A file left by an earlier run may have other permissions; a new inode has ours.
    match fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?.write_all(bytes)
}

/// An empty folder, 0700 and ours, in the place of whatever is there: what a user of an earlier run may have put into its
/// own folder can lead no file of ours astray.
///
/// # Errors
/// As the file system says.
pub fn empty(folder: &Path) -> std::io::Result<()> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)
}

/// Gives a service's folder below the runtime folder, with all that is in it, to the user that the service runs as. The
/// two folders above it are opened to pass through and to nothing else: nobody can list them, and what lies in them is
/// closed to others by its own mode.
///
/// # Errors
/// As the file system says.
pub fn hand_over(folder: &Path, uid: u32, gid: u32) -> std::io::Result<()> {
    let mut folders = vec![folder.to_path_buf()];
    while let Some(next) = folders.pop() {
        for entry in fs::read_dir(&next)? {
            let entry = entry?;
            if entry.file_type()?.is_dir() {
                folders.push(entry.path());
            } else {
                std::os::unix::fs::lchown(entry.path(), Some(uid), Some(gid))?;
            }
        }
        std::os::unix::fs::lchown(&next, Some(uid), Some(gid))?;
    }
    for above in folder.ancestors().skip(1).take(2) {
        let mode = fs::metadata(above)?.permissions().mode();
        fs::set_permissions(above, fs::Permissions::from_mode(mode | 0o011))?;
    }
    Ok(())
}

/// The first folder on the way to `path`, itself included where it is one, that this user cannot pass through. ACLs are not
/// looked at: where they open a folder, its mode shows it.
#[must_use]
pub fn impassable(path: &Path, uid: u32, gid: u32, groups: &[u32]) -> Option<PathBuf> {
    use std::os::unix::fs::MetadataExt;
    if uid == 0 {
        return None;
    }
    let path = fs::canonicalize(path).unwrap_or_else(|_| path.to_path_buf());
    let mut folders: Vec<&Path> = path.ancestors().collect();
    folders.reverse();
    folders
        .into_iter()
        .filter_map(|folder| fs::metadata(folder).ok().filter(fs::Metadata::is_dir).map(|meta| (folder, meta)))
        .find(|(_, meta)| {
            let bit = if meta.uid() == uid {
                0o100
            } else if meta.gid() == gid || groups.contains(&meta.gid()) {
                0o010
            } else {
                0o001
            };
            meta.mode() & bit == 0
        })
        .map(|(folder, _)| folder.to_path_buf())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_instance_has_its_own_folders() {
        let dir = tempfile::tempdir().unwrap();
        let env = BTreeMap::new();
        let usual = locate(dir.path(), "", None, &env);
        let other = locate(dir.path(), "b", None, &env);
        assert_eq!(usual.state, dir.path().join(".devrun"));
        assert_eq!(other.state, dir.path().join(".devrun/instances/b"));
        assert_ne!(usual.run, other.run);
        assert!(usual.socket().as_os_str().len() < 100);
    }

    #[test]
    fn a_folder_open_to_others_is_refused_and_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let open = dir.path().join("open");
        fs::create_dir(&open).unwrap();
        fs::set_permissions(&open, fs::Permissions::from_mode(0o777)).unwrap();
        let failure = make_private(&open, "runtime").unwrap_err();
        assert!(failure.help.unwrap().contains("chmod 700"));
        assert_eq!(fs::metadata(&open).unwrap().permissions().mode() & 0o777, 0o777);
        let link = dir.path().join("link");
        std::os::unix::fs::symlink(dir.path(), &link).unwrap();
        assert!(make_private(&link, "runtime").is_err());
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
        let first = locate(dir.path(), "", None, &with);
        prepare(&first).unwrap();
        assert_eq!(locate(dir.path(), "", None, &BTreeMap::new()).run, first.run);
    }
}
