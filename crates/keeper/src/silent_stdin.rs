//! The standard input of a service: it stays open and never holds anything.
//!
//! Watchers such as `esbuild --watch` and `tailwindcss --watch` exit when their standard input is at its end, which `/dev/null`
//! always is. A pipe is at its end when no process holds its other side. So the one descriptor that a service gets is both sides: it was
//! opened for reading and writing (fifo(7): on Linux that does not block). No other process holds anything of it, hence the
//! end of keeper or supervisor, however it comes, is no end of the service's input, and a service has no descriptor more.

use std::fs::{File, OpenOptions, Permissions};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;

use devrun_model::keeper::RunAs;

use super::pipes::pipe;

/// Bytes that such a pipe may hold, as little as it can: an ordinary user's pipes share a limit (pipe(7)), and log pipes need it.
const SIZE: libc::c_int = 4096;

/// Makes the standard input of one service.
///
/// # Errors
/// When no pipe can be made, or `/proc` cannot be read.
pub(super) fn open(run_as: &RunAs) -> io::Result<OwnedFd> {
    let (reader, _writer) = pipe()?;
    // SAFETY: an fcntl with an integer argument on an open descriptor. A refusal leaves the default size.
    let _size = unsafe { libc::fcntl(reader.as_raw_fd(), libc::F_SETPIPE_SZ, SIZE) };
    let both: File = OpenOptions::new().read(true).write(true).open(format!("/proc/self/fd/{}", reader.as_raw_fd()))?;
    if let RunAs::User { .. } = run_as {
        // `/dev/stdin` is opened once more by its name, as that user.
        both.set_permissions(Permissions::from_mode(0o666))?;
    }
    Ok(both.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_has_no_end_and_holds_nothing() {
        use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
        use std::os::fd::AsFd;
        let stdin = open(&RunAs::Same).unwrap();
        let mut waits = [PollFd::new(stdin.as_fd(), PollFlags::POLLIN)];
        assert_eq!(poll(&mut waits, PollTimeout::from(50u8)), Ok(0), "neither data nor an end");
        let flags = nix::fcntl::fcntl(&stdin, nix::fcntl::FcntlArg::F_GETFD).unwrap();
        assert_eq!(flags, nix::fcntl::FdFlag::FD_CLOEXEC.bits());
        let again = File::open(format!("/proc/self/fd/{}", stdin.as_raw_fd()));
        assert!(again.is_ok(), "by its name as well");
    }
}
