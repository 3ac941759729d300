//! Directories that are ours alone: made, and looked at before anything in them is believed.

use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::Path;

use devrun_keeper::file_size_limit::write_error_help;
use devrun_keeper::lock_holders;
use devrun_model::{Failure, FailureKind};

/// A directory with mode 0700 that is ours, made if it is missing. A directory made by somebody else, one that others can
/// write to, and a link in its place are refused.
///
/// # Errors
/// `Config`, naming the directory.
pub fn make_private(path: &Path, what: &str) -> Result<(), Failure> {
    let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(path);
    // What is there in its place is named below.
    if let Err(error) = made.or_else(|error| if error.kind() == io::ErrorKind::AlreadyExists { Ok(()) } else { Err(error) }) {
        let parent = path.parent().unwrap_or(path);
        let help = match error.kind() {
            io::ErrorKind::NotADirectory => move_file_away(path),
            io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
                format!("make {} writable, or {}", parent.display(), elsewhere(what))
            }
            _ => write_error_help(&error).to_owned(),
        };
        return Err(Failure::new(FailureKind::Config, format!("cannot create the {what} directory {}: {error}", path.display()))
            .help(help));
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

/// What to do about a file in the place of a directory above this one.
fn move_file_away(path: &Path) -> String {
    let file = path.ancestors().skip(1).find(|above| above.symlink_metadata().is_ok()).unwrap_or(path);
    format!("a file has the name of a directory; move it away: mv '{0}' '{0}.moved'", file.display())
}

/// Looks at a directory before anything in it is believed: no link, ours, and closed to the writes of others. False: it is not
/// there.
///
/// # Errors
/// `Config`, naming the directory; `Elsewhere` when it is another user's and a stack runs from it.
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
        let help = match error.kind() {
            io::ErrorKind::NotADirectory => move_file_away(path),
            _ => format!("run devrun as the user who owns it, or {}", elsewhere(what)),
        };
        refused(format!("cannot read the {what} directory {}: {error}", path.display())).help(help)
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
            .help(format!("run devrun as that user, or {}", elsewhere(what))));
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

/// How another directory is chosen.
fn elsewhere(what: &str) -> &'static str {
    if what == "runtime" { "set XDG_RUNTIME_DIR to a directory of yours" } else { "choose another place with --state-dir DIR" }
}

/// Whether it is a directory that is ours and that no one else can write to.
#[must_use]
pub fn is_private(path: &Path) -> bool {
    let us = nix::unistd::geteuid().as_raw();
    fs::symlink_metadata(path).is_ok_and(|meta| meta.is_dir() && meta.uid() == us && meta.mode() & 0o022 == 0)
}

/// A user for people.
fn user(uid: u32) -> String {
    match nix::unistd::User::from_uid(uid.into()) {
        Ok(Some(user)) => format!("{} (uid {uid})", user.name),
        _ => format!("uid {uid}"),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

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

    /// `--state-dir` does not move the runtime directory.
    #[test]
    fn the_runtime_directory_is_chosen_by_its_own_variable() {
        for (what, named) in [("runtime", "XDG_RUNTIME_DIR"), ("state", "--state-dir")] {
            assert!(elsewhere(what).contains(named));
        }
    }
}
