//! Starts a keeper from the supervisor, which has many threads: nothing but bare system calls between fork and exec.
//!
//! Everything is close-on-exec but the one end of the socketpair that the keeper finds as descriptor 3. Its environment is
//! empty: it needs none, and no mark of an outer stack shall stick to it.

use std::ffi::CString;
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};

use super::LaunchedKeeper;
use super::child::{EXEC, FDS, close_on_exec_from, fail_and_exit, reset_signals};
use super::default_limits::DefaultLimits;
use super::fork::{c_pointers, c_string, exec_status, pipe};
use super::in_flight::{BlockedSignals, InFlightChild};
use super::syscall::{ChildStack, call};

/// Set in the environment: every process is made by an ordinary fork.
const PLAIN_FORK: &str = "DEVRUN_PLAIN_FORK";

/// Starts a keeper. `default_limits`: the limits that services get.
///
/// # Errors
/// What the system says.
pub fn start_keeper(program: &std::path::Path, default_limits: DefaultLimits) -> io::Result<LaunchedKeeper> {
    use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};
    let (ours, theirs) =
        socketpair(AddressFamily::Unix, SockType::Stream, None, SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK)?;
    let null = File::options().read(true).write(true).open("/dev/null")?;
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
        argv: c_pointers(&words),
        envp: [std::ptr::null()],
        words,
        program: c_string(program)?,
    };
    let (pid, kept) = spawn_keeper(spawn, plain)?;
    drop((socket, theirs, errors_writer));
    Ok(LaunchedKeeper { pid, socket: ours, errors, kept })
}

/// What the child needs.
struct KeeperSpawn {
    null: RawFd,
    socket: RawFd,
    errors: RawFd,
    program: CString,
    argv: Vec<*const libc::c_char>,
    envp: [*const libc::c_char; 1],
    #[expect(dead_code, reason = "argv points into these")]
    words: Vec<CString>,
}

// SAFETY: the pointers lead into the strings of the same structure; only the child reads them.
unsafe impl Send for KeeperSpawn {}

/// Holds what the child uses in our memory; nothing, where it has a copy.
#[derive(Debug)]
pub struct Kept {
    #[expect(dead_code, reason = "dropping it is what it is for")]
    child: Option<InFlightChild<KeeperSpawn>>,
}

/// The child begins in our memory, and this process continues: a copy of our memory would cost more than all the rest.
fn spawn_keeper(spawn: KeeperSpawn, plain: bool) -> io::Result<(i32, Kept)> {
    let _blocked = BlockedSignals::new()?;
    let spawn = match ChildStack::new() {
        Ok(stack) if !plain => {
            // SAFETY: signals are blocked, and `begin` makes bare calls only, on what it is given.
            match unsafe { InFlightChild::clone_vm(spawn, stack, begin, None) } {
                Ok((pid, child)) => return Ok((pid, Kept { child: Some(child) })),
                // The kernel refuses, or this is another kind of processor.
                Err((spawn, _)) => spawn,
            }
        }
        _ => spawn,
    };
    // SAFETY: the child goes straight into `begin`, which makes bare calls only.
    match unsafe { libc::fork() } {
        // SAFETY: we are the forked child.
        0 => unsafe { begin(&raw const spawn) },
        -1 => Err(io::Error::last_os_error()),
        pid => Ok((pid, Kept { child: None })),
    }
}

/// # Safety
/// Only as the beginning of a child.
unsafe extern "C" fn begin(spawn: *const KeeperSpawn) -> ! {
    // SAFETY: bare calls on what the parent prepared and keeps.
    unsafe {
        let spawn = &*spawn;
        for (old, new) in [(spawn.null, 0), (spawn.null, 1), (spawn.null, 2), (spawn.socket, 3)] {
            let answer = call(libc::SYS_dup3, [old as usize, new, 0, 0, 0]);
            if answer < 0 {
                fail_and_exit(spawn.errors, FDS, answer);
            }
        }
        if let Err(answer) = close_on_exec_from(4) {
            fail_and_exit(spawn.errors, FDS, answer);
        }
        // All of them: the supervisor has handlers, which are nothing for a child that is not yet another program.
        reset_signals(1..=64);
        let words = [spawn.program.as_ptr() as usize, spawn.argv.as_ptr() as usize, spawn.envp.as_ptr() as usize, 0, 0];
        let answer = call(libc::SYS_execve, words);
        fail_and_exit(spawn.errors, EXEC, answer)
    }
}

/// After the socket of a keeper has ended before its first word: why, if exec had a reason.
pub fn refused(errors: &OwnedFd) -> Option<io::Error> {
    exec_status(errors)?.err().map(|failed| io::Error::from_raw_os_error(failed.errno))
}
