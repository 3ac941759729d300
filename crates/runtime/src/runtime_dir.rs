//! The folders of one project: where they are, and that they are ours alone.
//!
//! Owns finding, making and checking of the state folder (`.devrun/`) and of the short runtime folder for sockets and
//! rendered files. Owns no file in them. The runtime folder depends on `XDG_RUNTIME_DIR`, which differs between a login
//! and a cron job, so the first supervisor writes its path down in the state folder and everybody else reads it there.
//!
//! Nothing in a folder is believed before owner and mode of the folder were looked at, for root as for everybody, and before
//! it was compared with where it says that it lies ([`devrun_keeper::state_location`]).

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags};
use sha2::{Digest, Sha256};

use devrun_keeper::state_location::{self, LOCATION_FILE, StateLocation};
use devrun_keeper::{journal, lock_holders};
use devrun_model::{Failure, FailureKind, Paths};
pub use devrun_store::atomic_file::replace;

/// The name of the state folder beside the procfile.
pub const STATE: &str = ".devrun";
/// The file in the state folder that names the runtime folder in use.
const RUN_POINTER: &str = "run";
/// The file in `.devrun/` that names a state folder elsewhere.
const STATE_POINTER: &str = "state-dir";
/// The folder of named instances in a state folder.
const INSTANCES: &str = "instances";

/// The file in the runtime folder that names state folder and project: all that `ls` and `down --emergency --all` have to
/// go by where the supervisor is dead. The dot keeps it apart from the folders of services.
const STATE_OF: &str = ".state";
/// The file in a state folder that says that it is thrown away with its run, so that nothing may point to it.
const EPHEMERAL: &str = ".ephemeral";

/// Works the folders out and looks at owner and mode of those that are there; makes nothing.
///
/// `state_dir` is `--state-dir` or `DEVRUN_STATE_DIR`, absolute; an earlier one is found through its pointer.
///
/// # Errors
/// `Config` for a folder that is not ours alone; `Elsewhere` where it is another user's and a stack runs from it.
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

/// The state folder that `.devrun/state-dir` names, if that one says that it belongs to this project.
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

/// The runtime folder: the one that is in use where that can be told, else the usual one.
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

/// Whether a runtime folder is this project's, or can become it.
fn is_run_of(run: &Path, places: &Paths) -> bool {
    match fs::symlink_metadata(run) {
        Err(_) => true,
        // Of another user, or open: `prepare` says so, and nobody connects to what lies in it.
        Ok(_) if !is_private(run) => false,
        Ok(_) => StateLocation::read(&run.join(STATE_OF)).is_none_or(|of| of.matches(&places.root, &places.state)),
    }
}

/// The project that the state folder was copied from.
fn other_owner(places: &Paths) -> Option<PathBuf> {
    // A journal that cannot be used is reported by whoever needs it.
    state_location::other_owner(places, || journal::read(&places.journal()).ok())
}

/// Makes a state folder that was copied from another project a new one: what it says about processes, locks and folders of
/// the original is removed, data and logs stay. Returns what to tell the user.
///
/// # Errors
/// `Elsewhere` when a stack of the other project runs from this very folder.
pub fn claim(places: &Paths) -> Result<Option<String>, Failure> {
    let mut said = None;
    let pointer = places.root.join(STATE).join(STATE_POINTER);
    if let Some(target) = read_path(&pointer)
        && !is_ephemeral(places)
        && base_of(&places.state).starts_with(places.root.join(STATE))
        && StateLocation::read(&target.join(LOCATION_FILE)).is_some_and(|location| !location.is_same_project(&places.root))
    {
        let gone = fs::remove_file(&pointer).err().map(|error| format!(" ({} stays: {error})", pointer.display()));
        said = Some(format!("{} belongs to another project; it is not used{}", target.display(), gone.unwrap_or_default()));
    }
    let Some(original) = other_owner(places) else { return Ok(said) };
    let unusable = |error: io::Error| {
        format!("{} was copied from {} and cannot be changed: {error}", places.state.display(), original.display())
    };
    // Two commands may meet it at once; a keeper holds its own folder for as long as it lives.
    let folder = match fs::File::open(&places.state) {
        Ok(folder) => folder,
        Err(error) => return Ok(Some(unusable(error))),
    };
    let give_up = std::time::Instant::now() + std::time::Duration::from_secs(2);
    while let Err(error) = folder.try_lock() {
        if let fs::TryLockError::Error(error) = error {
            return Ok(Some(unusable(error)));
        }
        if std::time::Instant::now() > give_up {
            return Err(Failure::new(
                FailureKind::Elsewhere,
                format!("the state directory {} is in use by the stack of {}", places.state.display(), original.display()),
            )
            .help(format!("choose another one with --state-dir DIR, or stop it: devrun -C '{}' down", original.display())));
        }
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    if other_owner(places).is_none() {
        return Ok(said);
    }
    let renew = || {
        let files = [
            places.journal(),
            places.instance_lock(),
            places.last_state(),
            places.intents(),
            places.state.join(RUN_POINTER),
            places.state.join("ports-auto"),
            places.state.join("ports.json"),
        ];
        for file in files {
            match fs::remove_file(&file) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        replace(&places.state.join(LOCATION_FILE), &StateLocation::of(places)?.text())
    };
    Ok(Some(match renew() {
        Ok(()) => format!(
            "{} was copied from {}: it is treated as new, and what runs there is left alone",
            places.state.display(),
            original.display()
        ),
        Err(error) => unusable(error),
    }))
}

/// The state folder of the unnamed instance.
fn base_of(state: &Path) -> &Path {
    let instances = state.parent().filter(|parent| parent.file_name().is_some_and(|name| name == INSTANCES));
    instances.and_then(Path::parent).unwrap_or(state)
}

/// A path that a file holds, up to its newline.
fn read_path(file: &Path) -> Option<PathBuf> {
    let opened = fs::OpenOptions::new().read(true).custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK).open(file).ok()?;
    if !opened.metadata().ok()?.is_file() {
        return None;
    }
    let mut bytes = Vec::new();
    opened.take(16 * 1024).read_to_end(&mut bytes).ok()?;
    let path = PathBuf::from(OsString::from_vec(bytes.strip_suffix(b"\n").unwrap_or(&bytes).to_vec()));
    path.is_absolute().then_some(path)
}

fn line_of(path: &Path) -> Vec<u8> {
    [path.as_os_str().as_bytes(), b"\n"].concat()
}

/// Twelve hex digits that stand for a state folder; short, so that no socket path reaches the limit of 104 bytes.
fn hash(parts: &[&[u8]]) -> String {
    let mut digest = Sha256::new();
    parts.iter().for_each(|part| digest.update(part));
    digest.finalize().iter().take(6).map(|byte| format!("{byte:02x}")).collect()
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

/// Whether it is a folder that is ours and that nobody else can write to.
fn is_private(path: &Path) -> bool {
    let us = nix::unistd::geteuid().as_raw();
    fs::symlink_metadata(path).is_ok_and(|meta| meta.is_dir() && meta.uid() == us && meta.mode() & 0o022 == 0)
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
pub fn prepare(places: &Paths) -> Result<(), Failure> {
    let home = places.root.join(STATE);
    let ephemeral = is_ephemeral(places);
    if !ephemeral {
        make_private(&home, "state")?;
        // The folder ignores itself, so that no project has to be told about it.
        write_once(&home.join(".gitignore"), b"*\n")?;
    }
    make_private(&places.state, "state")?;
    let located = StateLocation::of(places).map_err(|error| cannot_write(&places.state, &error))?;
    let base = base_of(&places.state);
    if !ephemeral && !base.starts_with(&home) {
        // Only a closed folder may point elsewhere.
        fs::set_permissions(&home, fs::Permissions::from_mode(0o700)).map_err(|error| cannot_write(&home, &error))?;
        if base != places.state {
            let of_base = Paths { state: base.to_path_buf(), ..places.clone() };
            let located = StateLocation::of(&of_base).map_err(|error| cannot_write(base, &error))?;
            write(&base.join(LOCATION_FILE), &located.text())?;
        }
        write(&home.join(STATE_POINTER), &line_of(base))?;
    }
    write(&places.state.join(LOCATION_FILE), &located.text())?;
    make_private(&places.logs(), "log")?;
    if let Some(base) = places.run.parent() {
        make_private(base, "runtime")?;
    }
    make_private(&places.run, "runtime")?;
    write(&places.run.join(STATE_OF), &located.text())?;
    write(&places.state.join(RUN_POINTER), &line_of(&places.run))
}

/// Makes the runtime directory again where it was cleaned away while the stack is up: no start may fail for that.
///
/// # Errors
/// As [`prepare`].
pub fn ensure_run(places: &Paths) -> Result<(), Failure> {
    if places.run.is_dir() { Ok(()) } else { prepare(places) }
}

/// Folders for one run that is thrown away: state in `folder`, nothing in the project's own `.devrun/`.
///
/// # Errors
/// `Config` when the folder cannot be made.
pub fn ephemeral(root: &Path, folder: &Path, env: &BTreeMap<String, String>) -> Result<Paths, Failure> {
    make_private(folder, "state")?;
    write_once(&folder.join(EPHEMERAL), b"")?;
    let run = runtime_base(env).join(hash(&[folder.as_os_str().as_bytes()]));
    Ok(Paths { root: root.to_path_buf(), state: folder.to_path_buf(), run })
}

/// Whether these are the folders of a run that is thrown away.
#[must_use]
pub fn is_ephemeral(places: &Paths) -> bool {
    places.state.join(EPHEMERAL).exists()
}

/// Every stack of this user that has a runtime folder, whether its supervisor lives or not.
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

/// Removes what is in the runtime folder, and the folder. Only what a supervisor put there; links are not followed.
///
/// # Errors
/// When something in it cannot be removed.
pub fn remove_run(places: &Paths) -> std::io::Result<()> {
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
        return Err(Failure::new(FailureKind::Config, format!("cannot create the {what} directory {}: {error}", path.display()))
            .help(format!("make {} writable, or choose another place with --state-dir DIR", parent.display())));
    }
    check_private(path, what)?;
    if what == "state" || what == "log" {
        // A read-only project is noticed before anything is spawned, not at the first log line.
        nix::unistd::access(path, nix::unistd::AccessFlags::W_OK).map_err(|error| {
            Failure::new(FailureKind::Config, format!("the {what} directory {} cannot be written to: {error}", path.display()))
                .help("choose another place with --state-dir DIR")
        })?;
    }
    Ok(())
}

/// Looks at a folder before anything in it is believed: no link, ours, and closed to the writes of others. False: it is not
/// there.
///
/// # Errors
/// `Config`, naming the folder; `Elsewhere` when it is another user's and a stack runs from it.
pub fn check_private(path: &Path, what: &str) -> Result<bool, Failure> {
    let flags = libc::O_DIRECTORY | libc::O_NOFOLLOW;
    let opened = fs::OpenOptions::new().read(true).custom_flags(flags).open(path);
    let meta = match opened {
        Ok(folder) => folder.metadata(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        // Closed to us: whose it is can be told all the same.
        Err(error) => fs::symlink_metadata(path).map_err(|_| error),
    };
    let refused = |reason: String| Failure::new(FailureKind::Config, reason);
    let meta = meta.map_err(|error| {
        refused(format!("cannot read the {what} directory {}: {error}", path.display()))
            .help("run devrun as the user who owns it, or choose another one with --state-dir DIR")
    })?;
    let us = nix::unistd::geteuid().as_raw();
    if !meta.is_dir() {
        return Err(refused(format!("{} is not a directory but a symbolic link or a file", path.display()))
            .help(format!("remove it: rm '{}'", path.display())));
    }
    if meta.uid() != us {
        let owner = user(meta.uid());
        if let Some(pid) = lock_holders::pids(path).into_iter().chain(lock_holders::pids(&path.join("lock"))).next() {
            let whose = path.parent().unwrap_or(path);
            return Err(Failure::new(
                FailureKind::Elsewhere,
                format!("the stack in {} is run by {owner} (pid {pid})", whose.display()),
            )
            .help("run devrun as that user"));
        }
        return Err(refused(format!("the {what} directory {} belongs to {owner}, not to {}", path.display(), user(us)))
            .help("run devrun as that user, or choose another place with --state-dir DIR"));
    }
    if meta.mode() & 0o022 != 0 {
        return Err(refused(format!(
            "the {what} directory {} can be written to by others (mode {:04o})",
            path.display(),
            meta.mode() & 0o7777
        ))
        .help(format!("chmod 700 '{}'", path.display())));
    }
    Ok(true)
}

/// A user for people.
fn user(uid: u32) -> String {
    match nix::unistd::User::from_uid(uid.into()) {
        Ok(Some(user)) => format!("{} (uid {uid})", user.name),
        _ => format!("uid {uid}"),
    }
}

fn write(path: &Path, text: &[u8]) -> Result<(), Failure> {
    let now = fs::symlink_metadata(path).ok().filter(fs::Metadata::is_file).and_then(|_| fs::read(path).ok());
    if now.is_some_and(|now| now == text) {
        return Ok(());
    }
    replace(path, text).map_err(|error| cannot_write(path, &error))
}

fn cannot_write(path: &Path, error: &io::Error) -> Failure {
    Failure::new(FailureKind::Config, format!("cannot write {}: {error}", path.display()))
        .help(devrun_keeper::file_size_limit::write_error_help(error))
}

fn write_once(path: &Path, text: &[u8]) -> Result<(), Failure> {
    if path.exists() { Ok(()) } else { write(path, text) }
}

/// Opens a file of ours for appending: made with mode 0600, never through a link.
///
/// # Errors
/// As the file system says.
pub fn append(path: &Path) -> io::Result<fs::File> {
    fs::OpenOptions::new().create(true).append(true).mode(0o600).custom_flags(libc::O_NOFOLLOW).open(path)
}

/// Writes a file that the user has named, readable by them alone. An older one is replaced; a link, and what is no file, is
/// refused.
///
/// # Errors
/// As the file system says.
pub fn write_named(path: &Path, bytes: &[u8]) -> io::Result<()> {
    match fs::symlink_metadata(path) {
        Ok(meta) if meta.is_symlink() => return Err(io::Error::other("it is a symbolic link")),
        Ok(meta) if !meta.is_file() => return Err(io::Error::other("it is not a regular file")),
        _ => {}
    }
    // The parent of a bare name is empty.
    let path =
        if path.parent().is_some_and(|parent| parent.as_os_str().is_empty()) { Path::new(".").join(path) } else { path.into() };
    replace(&path, bytes)
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
    give(folder, uid, gid)?;
    for above in folder.ancestors().skip(1).take(2) {
        let mode = fs::metadata(above)?.permissions().mode();
        fs::set_permissions(above, fs::Permissions::from_mode(mode | 0o011))?;
    }
    Ok(())
}

/// Gives a file, or a folder with all that is in it, to another user. Links are changed themselves and never followed, and a
/// folder is given last, so that its new owner can put nothing in the way.
///
/// # Errors
/// As the file system says; `EMLINK` for a file that has other names and is not that user's already.
pub fn give(path: &Path, uid: u32, gid: u32) -> io::Result<()> {
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else { return Err(io::ErrorKind::InvalidInput.into()) };
    let parent = rustix::fs::open(parent, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    let name = std::ffi::CString::new(name.as_bytes())?;
    Ok(give_below(parent.as_fd(), &name, (uid, gid))?)
}

fn give_below(parent: std::os::fd::BorrowedFd<'_>, name: &std::ffi::CStr, (uid, gid): (u32, u32)) -> rustix::io::Result<()> {
    let (owner, group) = (rustix::fs::Uid::from_raw(uid), rustix::fs::Gid::from_raw(gid));
    let stat = rustix::fs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW)?;
    if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
        let folder = super::init::remove_tree::open_below(parent, name)?;
        for entry in Dir::read_from(&folder)? {
            let entry = entry?;
            if !matches!(entry.file_name().to_bytes(), b"." | b"..") {
                give_below(folder.as_fd(), entry.file_name(), (uid, gid))?;
            }
        }
        return rustix::fs::fchown(&folder, Some(owner), Some(group));
    }
    if stat.st_uid == uid && stat.st_gid == gid {
        return Ok(());
    }
    // The other name may be in a folder that is none of this service's.
    if stat.st_nlink > 1 && stat.st_uid != uid {
        return Err(rustix::io::Errno::MLINK);
    }
    rustix::fs::chownat(parent, name, Some(owner), Some(group), AtFlags::SYMLINK_NOFOLLOW)
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
        let usual = locate(dir.path(), "", None, &env).unwrap();
        let other = locate(dir.path(), "b", None, &env).unwrap();
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
    fn nothing_is_given_away_through_a_link() {
        if !nix::unistd::geteuid().is_root() {
            return;
        }
        let owner = |path: &Path| fs::symlink_metadata(path).unwrap().uid();
        let dir = tempfile::tempdir().unwrap();
        let (outside, own) = (dir.path().join("outside"), dir.path().join("own"));
        fs::create_dir_all(outside.join("sub")).unwrap();
        fs::write(outside.join("sub/file"), "x").unwrap();
        fs::create_dir_all(own.join("deep/deeper")).unwrap();
        fs::write(own.join("deep/deeper/file"), "x").unwrap();
        std::os::unix::fs::symlink(&outside, own.join("deep/link")).unwrap();
        give(&own, 65_534, 65_534).unwrap();
        for given in [own.clone(), own.join("deep/deeper/file"), own.join("deep/link")] {
            assert_eq!(owner(&given), 65_534, "{}", given.display());
        }
        for kept in [outside.clone(), outside.join("sub"), outside.join("sub/file")] {
            assert_eq!(owner(&kept), 0, "{}", kept.display());
        }
        // Another name of a file that is not the user's.
        fs::hard_link(outside.join("sub/file"), own.join("name")).unwrap();
        assert!(give(&own, 65_534, 65_534).is_err());
        assert_eq!(owner(&outside.join("sub/file")), 0);
        // The folder itself is a link.
        std::os::unix::fs::symlink(&outside, dir.path().join("link")).unwrap();
        give(&dir.path().join("link"), 65_534, 65_534).unwrap();
        assert_eq!(owner(&outside), 0);
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
