//! Prepares everything that a new keeper needs, and starts it (`keeper_spawn`).
//!
//! Everything is close-on-exec but the one end of the socketpair that the keeper finds as descriptor 3. Its environment is
//! empty: it needs none, and no mark of an outer stack shall stick to it.

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;

use super::c_strings::{c_pointers, c_string};
use super::default_limits::DefaultLimits;
use super::drivers::child_calls;
use super::fork::exec_status;
use super::keeper_spawn::{KeeperSpawn, spawn_keeper};
use super::launched_keeper::LaunchedKeeper;
use super::pipes::pipe;

/// Set in the environment: every process is made by an ordinary fork.
const PLAIN_FORK: &str = "DEVRUN_PLAIN_FORK";

/// Programs that are run as root with `-o /dev/null` may leave it closed to all other users.
fn null_device(error: io::Error) -> io::Error {
    io::Error::new(
        error.kind(),
        format!("/dev/null cannot be opened for reading and writing ({error}); as root: chmod 666 /dev/null"),
    )
}

/// Starts a keeper. `default_limits`: the limits that services get.
///
/// # Errors
/// What the system says.
pub(crate) fn start_keeper(program: &std::path::Path, default_limits: DefaultLimits) -> io::Result<LaunchedKeeper> {
    let (ours, theirs) = UnixStream::pair()?;
    ours.set_nonblocking(true)?;
    theirs.set_nonblocking(true)?;
    let null = File::options().read(true).write(true).open("/dev/null").map_err(null_device)?;
    let (errors, errors_writer) = pipe()?;
    let numbers = [
        3,
        default_limits.nofile.0,
        default_limits.nofile.1,
        default_limits.core,
        default_limits.file_size.0,
        default_limits.file_size.1,
    ];
    let numbers = numbers.map(|number| number.to_string());
    let plain = std::env::var_os(PLAIN_FORK).is_some();
    let words = ["devrun", "__keeper"].into_iter().chain(numbers.iter().map(String::as_str)).chain(plain.then_some("plain"));
    let words = words.map(c_string).collect::<io::Result<Vec<_>>>()?;
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
    let spawn = KeeperSpawn {
        null: null.as_raw_fd(),
        socket: socket.as_raw_fd(),
        errors: errors_writer.as_raw_fd(),
        last_descriptor: child_calls::last_descriptor(),
        argv: c_pointers(&words),
        envp: [std::ptr::null()],
        words,
        program: c_string(program)?,
    };
    let (pid, kept) = spawn_keeper(spawn, plain)?;
    drop((socket, theirs, errors_writer));
    Ok(LaunchedKeeper { pid, socket: ours.into(), errors, kept })
}

/// After the socket of a keeper has ended before its first word: why, if exec had a reason.
pub(crate) fn refused(errors: &OwnedFd) -> Option<io::Error> {
    exec_status(errors)?.err().map(|failed| io::Error::from_raw_os_error(failed.errno))
}
