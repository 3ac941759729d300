//! Starts a keeper from the supervisor, which has many threads: nothing but bare calls between fork and exec.
//!
//! Everything is close-on-exec but the one end of the socketpair that the keeper finds as descriptor 3. Its environment is
//! empty: it needs none, and no mark of an outer stack shall stick to it.

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};

use super::Launched;
use super::fork::{Given, pipe, pointers, text, verdict};
use super::newborn::{EXEC, FDS, give_up, reset_signals};

/// Starts a keeper. `given`: the limits that services get.
///
/// # Errors
/// What the system says.
pub fn start_keeper(program: &std::path::Path, given: Given) -> io::Result<Launched> {
    use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};
    let (ours, theirs) =
        socketpair(AddressFamily::Unix, SockType::Stream, None, SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK)?;
    let null = File::options().read(true).write(true).open("/dev/null")?;
    let (errors, errors_writer) = pipe()?;
    let path = text(program)?;
    let numbers = [3, given.nofile.0, given.nofile.1, given.core].map(|number| number.to_string());
    let words = ["devrun", "__keeper"].into_iter().chain(numbers.iter().map(String::as_str));
    let words = words.map(text).collect::<io::Result<Vec<_>>>()?;
    let argv = pointers(&words);
    let envp = [std::ptr::null::<libc::c_char>()];
    // Copies above 3, so that the child's `dup2` to 0 … 3 cannot overwrite what it still needs.
    let above = |fd: RawFd| -> io::Result<OwnedFd> {
        // SAFETY: an fcntl with an integer argument; the copy is new and only ours.
        let copy = unsafe { libc::fcntl(fd, libc::F_DUPFD_CLOEXEC, 10) };
        if copy < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the kernel has just opened it for us.
        Ok(unsafe { OwnedFd::from_raw_fd(copy) })
    };
    let socket = above(theirs.as_raw_fd())?;
    let null = above(null.as_raw_fd())?;
    let errors_writer = {
        let writer = errors_writer;
        above(writer.as_raw_fd())?
    };
    // SAFETY: between fork and exec the child makes only async-signal-safe calls on what was prepared above.
    let pid = unsafe { libc::fork() };
    if pid == 0 {
        // SAFETY: we are the forked child.
        unsafe {
            // All of them: the supervisor has handlers, which are nothing for a child that is not yet another program.
            reset_signals(1..=64);
            let (null, socket) = (null.as_raw_fd(), socket.as_raw_fd());
            if libc::dup2(null, 0) < 0 || libc::dup2(null, 1) < 0 || libc::dup2(null, 2) < 0 || libc::dup2(socket, 3) < 0 {
                give_up(errors_writer.as_raw_fd(), FDS, *libc::__errno_location() as isize);
            }
            libc::syscall(libc::SYS_close_range, 4u32, u32::MAX, libc::CLOSE_RANGE_CLOEXEC);
            libc::execve(path.as_ptr(), argv.as_ptr(), envp.as_ptr());
            give_up(errors_writer.as_raw_fd(), EXEC, *libc::__errno_location() as isize)
        }
    }
    if pid < 0 {
        return Err(io::Error::last_os_error());
    }
    drop((socket, theirs, errors_writer));
    Ok(Launched { pid, socket: ours, errors })
}

/// After the socket of a keeper has ended before its first word: why, if exec had a reason.
pub fn refused(errors: &OwnedFd) -> Option<io::Error> {
    verdict(errors)?.err().map(|failed| io::Error::from_raw_os_error(failed.errno))
}
