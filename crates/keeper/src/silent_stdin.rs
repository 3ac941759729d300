//! The standard input of a service: it stays open and never holds anything.
//!
//! Watchers such as `esbuild --watch` and `tailwindcss --watch` exit when their standard input is at its end, which `/dev/null`
//! always is. A pipe is at its end when no process holds its other side. So the one descriptor that a service gets is both sides: it was
//! opened for reading and writing (fifo(7): on Linux that does not block). No other process holds anything of it, hence the
//! end of keeper or supervisor, however it comes, is no end of the service's input, and a service has no descriptor more.

use std::fs::Permissions;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use devrun_model::keeper::RunAs;

use super::drivers::pipes::{resize_pipe, two_sided_pipe};

/// Bytes that such a pipe may hold, as little as it can: an ordinary user's pipes share a limit (pipe(7)), and log pipes need it.
const SIZE: libc::c_int = 4096;

/// Makes the standard input of one service. `near`: a path in a directory of this user's own, where a name is needed for a moment.
///
/// # Errors
/// When no pipe can be made.
pub(super) fn open(run_as: &RunAs, near: &Path) -> io::Result<OwnedFd> {
    let both = two_sided_pipe(near)?;
    if let RunAs::User { .. } = run_as {
        // `/dev/stdin` is opened once more by its name, as that user.
        both.set_permissions(Permissions::from_mode(0o666))?;
    }
    let both = OwnedFd::from(both);
    // A refusal leaves the size as it is.
    resize_pipe(&both, SIZE);
    Ok(both)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_has_no_end_and_holds_nothing() {
        use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
        use std::os::fd::{AsFd, AsRawFd};
        let folder = tempfile::tempdir().unwrap();
        let stdin = open(&RunAs::Same, &folder.path().join("a.alive")).unwrap();
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0, "no name is left");
        let mut waits = [PollFd::new(stdin.as_fd(), PollFlags::POLLIN)];
        assert_eq!(poll(&mut waits, PollTimeout::from(50u8)), Ok(0), "neither data nor an end");
        let flags = nix::fcntl::fcntl(&stdin, nix::fcntl::FcntlArg::F_GETFD).unwrap();
        assert_eq!(flags, nix::fcntl::FdFlag::FD_CLOEXEC.bits());
        let again = std::fs::File::open(format!("/dev/fd/{}", stdin.as_raw_fd()));
        assert!(again.is_ok(), "by its name as well");
        assert_eq!(nix::fcntl::fcntl(&stdin, nix::fcntl::FcntlArg::F_GETFL).unwrap() & libc::O_NONBLOCK, 0, "a read waits");
    }
}
