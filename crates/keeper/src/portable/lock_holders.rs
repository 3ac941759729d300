//! Who holds a lock on a file or a directory. No list of locks is to be had here, so each process that has the file open counts. Only
//! root can look into the processes of other users.
//!
//! A supervisor has the instance lock open and a keeper its state directory. A sender of signals compares the identity as well.

use std::os::unix::fs::MetadataExt;
use std::path::Path;

use crate::process_reader::{has_open, pids as all, uid};

/// Processes that have open what lies at this path; a link is not followed.
#[must_use]
pub fn pids(path: &Path) -> Vec<i32> {
    let Ok(meta) = std::fs::symlink_metadata(path) else { return Vec::new() };
    let (own, file) = (nix::unistd::getuid().as_raw(), (meta.dev(), meta.ino()));
    let mut found: Vec<i32> =
        all().into_iter().filter(|pid| *pid > 1 && (own == 0 || uid(*pid) == Some(own)) && has_open(*pid, file)).collect();
    found.sort_unstable();
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_own_open_folder_is_found() {
        let dir = tempfile::tempdir().unwrap();
        assert!(pids(dir.path()).is_empty());
        let _folder = std::fs::File::open(dir.path()).unwrap();
        assert_eq!(pids(dir.path()), [std::process::id().cast_signed()]);
    }
}
