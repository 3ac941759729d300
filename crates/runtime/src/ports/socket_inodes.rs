//! The sockets that a process has open, by their numbers in `/proc/PID/fd`.

use std::collections::BTreeSet;
use std::fs;
use std::io;

/// Whether the process holds one of these sockets.
///
/// # Errors
/// When its descriptors may not be read; a process that is gone holds nothing.
pub(crate) fn holds(pid: i32, inodes: &BTreeSet<u32>) -> io::Result<bool> {
    let mut held = false;
    each_socket(pid, |inode| {
        held = inodes.contains(&inode);
        !held
    })?;
    Ok(held)
}

/// The inodes of all sockets that the process holds.
///
/// # Errors
/// As [`holds`].
pub(crate) fn sockets(pid: i32) -> io::Result<BTreeSet<u32>> {
    let mut found = BTreeSet::new();
    each_socket(pid, |inode| {
        found.insert(inode);
        true
    })?;
    Ok(found)
}

/// Calls `more` with each socket's inode until it says false.
fn each_socket(pid: i32, mut more: impl FnMut(u32) -> bool) -> io::Result<()> {
    let entries = match fs::read_dir(format!("/proc/{pid}/fd")) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    for entry in entries {
        let entry = match entry {
            Ok(entry) => entry,
            Err(error) if error.raw_os_error() == Some(libc::ESRCH) => return Ok(()),
            Err(error) => return Err(error),
        };
        let target = match fs::read_link(entry.path()) {
            Ok(target) => target,
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => return Err(error),
            // Closed since it was listed.
            Err(_) => continue,
        };
        let inode = target
            .to_str()
            .and_then(|text| text.strip_prefix("socket:["))
            .and_then(|text| text.strip_suffix(']'))
            .and_then(|text| text.parse::<u32>().ok());
        if inode.is_some_and(|inode| !more(inode)) {
            return Ok(());
        }
    }
    Ok(())
}
