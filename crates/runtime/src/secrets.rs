//! Generated secrets: one file each, 0600 in a 0700 folder, made once whatever races.
//!
//! Owner and mode are read from the open descriptor, never from a path that could be swapped in between. A value appears
//! under its name by `link`, whole and synced, so whoever loses a race reads the winner's value: there are never two.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::os::fd::OwnedFd;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::Path;

use rustix::fs::{AtFlags, FileType, Mode, OFlags, RenameFlags, Stat};
use rustix::io::Errno;

use devrun_model::{Failure, FailureKind};

const ALPHABET: &[u8; 62] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
/// Long enough for any key, short enough to hold in memory.
const LARGEST: u64 = 64 * 1024;
const NOT_REGULAR: &str = "not a regular file";
const NEW_VALUE: &str = "a new value";
/// Random characters in the name of a value that does not count yet.
const DRAFT: usize = 12;

/// Reads the secret, or makes it. Two processes that race get one value.
///
/// # Errors
/// `Config` when folder or file belong to somebody else or are open to others.
pub fn read_or_create(dir: &Path, name: &str, length: usize) -> Result<String, Failure> {
    check_name(name)?;
    let folder = match open_folder(dir)? {
        Some(folder) => folder,
        None => {
            make_folder(dir)?;
            // Generated values belong to one machine: the folder ignores itself in git, as the state folder does. Without
            // the file everything works, so a failure to write it is none.
            let _kept_out_of_git = std::fs::write(dir.join(".gitignore"), "*\n");
            open_folder(dir)?.ok_or_else(|| refused(dir, "it vanished"))?
        }
    };
    if let Some(value) = read_below(&folder, dir, name)? {
        return Ok(value);
    }
    publish(&folder, dir, name, &random(length.max(1))?)?;
    read_below(&folder, dir, name)?.ok_or_else(|| refused(&dir.join(name), "it vanished"))
}

/// Puts a new random value in the place of the secret, or makes the first one. `before` is called when the new value lies
/// on the disk under a name of its own and before the one rename that makes it count: killed before, nothing has happened.
///
/// # Errors
/// As [`read_or_create`], and what `before` says.
pub fn renew(dir: &Path, name: &str, length: usize, before: impl FnOnce() -> Result<(), Failure>) -> Result<(), Failure> {
    // An unsafe folder or a value open to others is told here; an empty one may be renewed.
    check_name(name)?;
    if open_folder(dir)?.is_none() {
        make_folder(dir)?;
        let _kept_out_of_git = std::fs::write(dir.join(".gitignore"), "*\n");
    }
    let folder = open_folder(dir)?.ok_or_else(|| refused(dir, "it vanished"))?;
    for stale in drafts(dir, name) {
        // Left by one that was killed. Nobody counts on it.
        let _gone = std::fs::remove_file(stale);
    }
    let draft = draft(&folder, &dir.join(name), name, &random(length.max(1))?)?;
    let renamed = before().and_then(|()| {
        rustix::fs::renameat(&folder, draft.as_str(), &folder, name).map_err(|error| refused(&dir.join(name), error))
    });
    if renamed.is_err() {
        let _unused = rustix::fs::unlinkat(&folder, draft.as_str(), AtFlags::empty());
    }
    renamed?;
    rustix::fs::fsync(&folder).map_err(|error| refused(dir, error))
}

/// Values that never came to count, left by runs that were killed.
#[must_use]
pub fn drafts(dir: &Path, name: &str) -> Vec<std::path::PathBuf> {
    let start = format!(".{name}.");
    let random = |end: &str| end.len() == DRAFT && end.bytes().all(|byte| byte.is_ascii_alphanumeric());
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    let ours = |file: &std::ffi::OsStr| file.to_str().and_then(|text| text.strip_prefix(&start)).is_some_and(random);
    entries.filter(|entry| ours(&entry.file_name())).map(|entry| entry.path()).collect()
}

/// Reads the secret if it is there.
///
/// # Errors
/// As above.
pub fn read(dir: &Path, name: &str) -> Result<Option<String>, Failure> {
    check_name(name)?;
    match open_folder(dir)? {
        Some(folder) => read_below(&folder, dir, name),
        None => Ok(None),
    }
}

fn refused(path: &Path, why: impl std::fmt::Display) -> Failure {
    Failure::new(FailureKind::Config, format!("secret {}: {why}", path.display()))
        .help(format!("check owner, mode and free space: ls -ld '{0}'; df -h '{0}'", path.parent().unwrap_or(path).display()))
}

/// What stands in the place of a file or directory of ours.
fn in_its_place(path: &Path, why: &str, wanted: &str) -> Failure {
    refused(path, why).help(format!("move it away, and {wanted} is made: mv '{0}' '{0}.moved'", path.display()))
}

fn check_name(name: &str) -> Result<(), Failure> {
    if name.is_empty() || name.starts_with('.') || name.len() > 200 || name.contains(['/', '\0']) {
        return Err(Failure::new(FailureKind::Config, format!("{name:?} cannot name a secret"))
            .help("up to 200 characters without `/`, beginning with another one than a dot"));
    }
    Ok(())
}

fn make_folder(dir: &Path) -> Result<(), Failure> {
    if let Some(parent) = dir.parent() {
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(parent).map_err(|error| refused(parent, error))?;
    }
    match std::fs::DirBuilder::new().mode(0o700).create(dir) {
        Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => Err(refused(dir, error)),
        _ => Ok(()),
    }
}

/// Refuses what others own, or may read or write.
fn check_private(path: &Path, stat: &Stat, mode: &str) -> Result<(), Failure> {
    let me = rustix::process::geteuid().as_raw();
    if stat.st_uid != me {
        return Err(refused(path, format!("it belongs to uid {}, not to {me}", stat.st_uid))
            .help("chown it, or choose another [secrets].dir"));
    }
    if Mode::from_raw_mode(stat.st_mode).as_raw_mode() & 0o077 != 0 {
        return Err(refused(path, format!("it is open to others (mode {:03o})", stat.st_mode & 0o777))
            .help(format!("chmod {mode} '{}'", path.display())));
    }
    Ok(())
}

fn open_folder(dir: &Path) -> Result<Option<OwnedFd>, Failure> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let folder = match rustix::fs::open(dir, flags, Mode::empty()) {
        Ok(folder) => folder,
        Err(Errno::NOENT) => return Ok(None),
        Err(Errno::LOOP | Errno::NOTDIR) => return Err(in_its_place(dir, "a symbolic link, or not a directory", "a directory")),
        Err(error) => return Err(refused(dir, error)),
    };
    let stat = rustix::fs::fstat(&folder).map_err(|error| refused(dir, error))?;
    check_private(dir, &stat, "700")?;
    Ok(Some(folder))
}

fn read_below(folder: &OwnedFd, dir: &Path, name: &str) -> Result<Option<String>, Failure> {
    let path = dir.join(name);
    // NONBLOCK, as a pipe in the place of the file would hold us up for ever.
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = match rustix::fs::openat(folder, name, flags, Mode::empty()) {
        Ok(file) => file,
        Err(Errno::NOENT) => return Ok(None),
        Err(Errno::LOOP) => return Err(in_its_place(&path, "it is a link", NEW_VALUE)),
        // A socket.
        Err(Errno::NXIO) => return Err(in_its_place(&path, NOT_REGULAR, NEW_VALUE)),
        Err(error) => return Err(refused(&path, error)),
    };
    let stat = rustix::fs::fstat(&file).map_err(|error| refused(&path, error))?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
        return Err(in_its_place(&path, NOT_REGULAR, NEW_VALUE));
    }
    check_private(&path, &stat, "600")?;
    let mut text = String::new();
    File::from(file).take(LARGEST + 1).read_to_string(&mut text).map_err(|error| match error.kind() {
        std::io::ErrorKind::InvalidData => refused(&path, "it is not UTF-8").help("save its value as UTF-8"),
        _ => refused(&path, error),
    })?;
    if text.len() as u64 > LARGEST {
        return Err(refused(&path, "it is larger than 64 KiB").help("put the value alone into it"));
    }
    // What an editor adds is not part of the value: a byte order mark in front, a newline behind.
    let text = text.strip_prefix('\u{feff}').unwrap_or(&text);
    let value = text.strip_suffix('\n').map_or(text, |text| text.strip_suffix('\r').unwrap_or(text));
    if value.is_empty() {
        return Err(refused(&path, "it is empty").help("put the value back, or remove the file to have a new one made"));
    }
    Ok(Some(value.to_owned()))
}

/// Base 62 without bias: bytes of the last, incomplete round of the alphabet are thrown away.
fn random(length: usize) -> Result<String, Failure> {
    let limit = u8::try_from(256 / ALPHABET.len() * ALPHABET.len()).unwrap_or(u8::MAX);
    let mut value = String::with_capacity(length);
    let mut bytes = [0u8; 64];
    while value.len() < length {
        getrandom::fill(&mut bytes).map_err(|error| Failure::new(FailureKind::Internal, format!("no randomness: {error}")))?;
        let usable = bytes.iter().filter(|byte| **byte < limit).take(length - value.len());
        value.extend(usable.map(|byte| char::from(ALPHABET[usize::from(*byte) % ALPHABET.len()])));
    }
    Ok(value)
}

/// Writes a value under a name of its own; whole and synced, or not there.
fn draft(folder: &OwnedFd, path: &Path, name: &str, value: &str) -> Result<String, Failure> {
    let temporary = format!(".{name}.{}", random(DRAFT)?);
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let file = rustix::fs::openat(folder, temporary.as_str(), flags, Mode::from_raw_mode(0o600))
        .map_err(|error| refused(path, error))?;
    let mut file = File::from(file);
    match file.write_all(value.as_bytes()).and_then(|()| file.sync_all()) {
        Ok(()) => Ok(temporary),
        Err(error) => {
            let _half = rustix::fs::unlinkat(folder, temporary.as_str(), AtFlags::empty());
            Err(refused(path, error))
        }
    }
}

fn publish(folder: &OwnedFd, dir: &Path, name: &str, value: &str) -> Result<(), Failure> {
    let path = dir.join(name);
    let temporary = draft(folder, &path, name, value)?;
    let linked = Ok(()).and_then(|()| match rustix::fs::linkat(folder, temporary.as_str(), folder, name, AtFlags::empty()) {
        // Whoever lost the race reads what is there now.
        Ok(()) | Err(Errno::EXIST) => Ok(()),
        Err(Errno::PERM | Errno::NOTSUP | Errno::NOSYS) => {
            match rustix::fs::renameat_with(folder, temporary.as_str(), folder, name, RenameFlags::NOREPLACE) {
                Ok(()) | Err(Errno::EXIST) => Ok(()),
                Err(error) => Err(refused(&path, error)),
            }
        }
        Err(error) => Err(refused(&path, error)),
    });
    // After a rename it is gone already.
    let _ = rustix::fs::unlinkat(folder, temporary.as_str(), AtFlags::empty());
    linked?;
    rustix::fs::fsync(folder).map_err(|error| refused(dir, error))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn made_once_and_read_back() {
        let folder = tempfile::tempdir().unwrap();
        let dir = folder.path().join("secrets/infra");
        assert_eq!(read(&dir, "db-password").unwrap(), None);
        let value = read_or_create(&dir, "db-password", 32).unwrap();
        assert_eq!(value.len(), 32);
        assert!(value.bytes().all(|byte| byte.is_ascii_alphanumeric()));
        assert_eq!(read_or_create(&dir, "db-password", 64).unwrap(), value);
        assert_eq!(read(&dir, "db-password").unwrap(), Some(value));
        assert_eq!(std::fs::metadata(&dir).unwrap().permissions().mode() & 0o777, 0o700);
        assert_eq!(std::fs::metadata(dir.join("db-password")).unwrap().permissions().mode() & 0o777, 0o600);
        let files: Vec<_> = std::fs::read_dir(&dir)
            .unwrap()
            .map(|entry| entry.unwrap().file_name())
            .filter(|name| name != ".gitignore")
            .collect();
        assert_eq!(files.len(), 1, "a temporary file was left: {files:?}");
    }

    #[test]
    fn written_by_hand_is_taken_without_its_newline() {
        let folder = tempfile::tempdir().unwrap();
        let dir = folder.path().join("s");
        read_or_create(&dir, "other", 8).unwrap();
        for (bytes, value) in [
            ("#ThawZin2k77!\n", "#ThawZin2k77!"),
            ("a b\r\n", "a b"),
            ("\u{feff}a b\r\n", "a b"),
            ("  x ", "  x "),
            ("pä$ß\n\n", "pä$ß\n"),
        ] {
            std::fs::write(dir.join("hand"), bytes).unwrap();
            std::fs::set_permissions(dir.join("hand"), std::fs::Permissions::from_mode(0o600)).unwrap();
            assert_eq!(read(&dir, "hand").unwrap().as_deref(), Some(value), "{bytes:?}");
        }
    }

    #[test]
    fn what_others_could_read_or_swap_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let dir = folder.path().join("s");
        read_or_create(&dir, "x", 8).unwrap();
        let file = dir.join("x");
        for mode in [0o640, 0o604, 0o660, 0o644] {
            std::fs::set_permissions(&file, std::fs::Permissions::from_mode(mode)).unwrap();
            let failure = read(&dir, "x").unwrap_err();
            assert_eq!(failure.kind, FailureKind::Config);
            assert!(failure.help.unwrap().contains("chmod 600"), "{mode:o}");
        }
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).unwrap();
        std::fs::set_permissions(&dir, std::fs::Permissions::from_mode(0o750)).unwrap();
        assert!(read(&dir, "x").unwrap_err().help.unwrap().contains("chmod 700"));
        std::fs::set_permissions(&dir, std::fs::Permissions::from_mode(0o700)).unwrap();
        std::os::unix::fs::symlink(&file, dir.join("link")).unwrap();
        assert!(read(&dir, "link").is_err());
        std::os::unix::fs::symlink(&dir, folder.path().join("folder-link")).unwrap();
        assert!(read(&folder.path().join("folder-link"), "x").is_err());
        std::fs::create_dir(dir.join("folder")).unwrap();
        nix::unistd::mkfifo(&dir.join("fifo"), nix::sys::stat::Mode::S_IRWXU).unwrap();
        let _socket = std::os::unix::net::UnixListener::bind(dir.join("socket")).unwrap();
        for name in ["link", "folder", "fifo", "socket"] {
            let failure = read(&dir, name).unwrap_err();
            let moved = format!("move it away, and a new value is made: mv '{0}' '{0}.moved'", dir.join(name).display());
            assert_eq!(failure.help.unwrap(), moved, "{}", failure.reason);
        }
        std::fs::write(dir.join("bytes"), b"\xff").unwrap();
        std::fs::set_permissions(dir.join("bytes"), std::fs::Permissions::from_mode(0o600)).unwrap();
        assert!(read(&dir, "bytes").unwrap_err().help.unwrap().contains("UTF-8"));
        std::fs::write(dir.join("empty"), "").unwrap();
        std::fs::set_permissions(dir.join("empty"), std::fs::Permissions::from_mode(0o600)).unwrap();
        assert!(read_or_create(&dir, "empty", 8).is_err(), "an empty secret was made anew");
    }

    #[test]
    fn a_renewal_that_does_not_come_to_its_end_changes_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let dir = folder.path().join("s");
        let old = read_or_create(&dir, "x", 24).unwrap();
        let failed = renew(&dir, "x", 24, || Err(Failure::new(FailureKind::Config, "no")));
        assert_eq!(failed.unwrap_err().reason, "no");
        assert_eq!(read(&dir, "x").unwrap().as_ref(), Some(&old));
        // Killed before the rename: the draft stays, does not count, and goes with the next one.
        std::fs::write(dir.join(".x.abcdefghijkl"), "half").unwrap();
        renew(&dir, "x", 24, || Ok(())).unwrap();
        let new = read(&dir, "x").unwrap().unwrap();
        assert!(new != old && new.len() == 24);
        assert_eq!(drafts(&dir, "x"), Vec::<std::path::PathBuf>::new());
        assert_eq!(std::fs::metadata(dir.join("x")).unwrap().permissions().mode() & 0o777, 0o600);
        // What is lost is made anew as well.
        std::fs::remove_file(dir.join("x")).unwrap();
        renew(&dir, "x", 8, || Ok(())).unwrap();
        assert_eq!(read(&dir, "x").unwrap().unwrap().len(), 8);
    }

    #[test]
    fn names_cannot_leave_the_folder() {
        let folder = tempfile::tempdir().unwrap();
        for bad in ["", ".", "..", "../x", "a/b", "/etc/passwd", ".hidden", "x\0"] {
            assert!(read_or_create(folder.path(), bad, 8).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn the_alphabet_is_used_evenly() {
        let value = random(62 * 400).unwrap();
        for letter in ALPHABET {
            let count = value.bytes().filter(|byte| byte == letter).count();
            // 400 expected, standard deviation 20: ten of them do not happen.
            assert!((200..600).contains(&count), "{} {count} times", char::from(*letter));
        }
    }
}
