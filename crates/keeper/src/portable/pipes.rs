//! Pipes of which a child inherits nothing.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};

use nix::fcntl::{FcntlArg, FdFlag, OFlag, fcntl};
use nix::sys::stat::Mode;

/// Makes a pipe. A child that another thread makes in between inherits it until its exec, where `child_calls` closes all that is not
/// wanted.
///
/// # Errors
/// What the system says.
pub(crate) fn pipe() -> nix::Result<(OwnedFd, OwnedFd)> {
    let ends = nix::unistd::pipe()?;
    for end in [&ends.0, &ends.1] {
        fcntl(end, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC))?;
    }
    Ok(ends)
}

/// A pipe has the size that the system gives it.
pub(crate) fn resize_pipe(_pipe: &OwnedFd, _size: libc::c_int) -> bool {
    false
}

/// Makes a pipe of which one descriptor is both sides, by a FIFO in the directory of `near`, which must be this user's own. Its name is
/// gone before this returns.
///
/// # Errors
/// What the system says.
pub(crate) fn two_sided_pipe(near: &Path) -> io::Result<File> {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    let name = format!("stdin-{}-{}", std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed));
    let path = near.with_file_name(name);
    nix::unistd::mkfifo(&path, Mode::S_IRUSR | Mode::S_IWUSR)?;
    let opened = OpenOptions::new().read(true).write(true).custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK).open(&path);
    std::fs::remove_file(&path)?;
    let file = opened?;
    if !file.metadata()?.file_type().is_fifo() {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    // Reads of the service shall wait.
    fcntl(&file, FcntlArg::F_SETFL(OFlag::empty()))?;
    Ok(file)
}
