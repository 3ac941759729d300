//! Starts a keeper from the supervisor, which has many threads: nothing but bare calls between birth and exec.
//!
//! Everything is close-on-exec but the one end of the socketpair that the keeper finds as descriptor 3. Its environment is
//! empty: it needs none, and no mark of an outer stack shall stick to it.

use std::ffi::CString;
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicU32, Ordering};

use super::Launched;
use super::fork::{Given, IN_OUR_MEMORY, arguments, pipe, pointers, text, verdict};
use super::newborn::{EXEC, FDS, give_up, reset_signals};
use super::raw::{Stack, call, clone_on};

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
    let numbers = [3, given.nofile.0, given.nofile.1, given.core, given.file_size.0, given.file_size.1];
    let numbers = numbers.map(|number| number.to_string());
    let words = ["devrun", "__keeper"].into_iter().chain(numbers.iter().map(String::as_str));
    let words = words.map(text).collect::<io::Result<Vec<_>>>()?;
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
    let birth = Birth {
        null: null.as_raw_fd(),
        socket: socket.as_raw_fd(),
        errors: errors_writer.as_raw_fd(),
        argv: pointers(&words),
        envp: [std::ptr::null()],
        words,
        program: text(program)?,
        stack: Stack::new(),
        tid: AtomicU32::new(0),
    };
    let (pid, kept) = bear(birth)?;
    drop((socket, theirs, errors_writer));
    Ok(Launched { pid, socket: ours, errors, kept })
}

/// What the child needs.
struct Birth {
    null: RawFd,
    socket: RawFd,
    errors: RawFd,
    program: CString,
    argv: Vec<*const libc::c_char>,
    envp: [*const libc::c_char; 1],
    #[expect(dead_code, reason = "argv points into these")]
    words: Vec<CString>,
    stack: Stack,
    /// Not zero as long as the child is in our memory; the kernel sets it (see `fork`).
    tid: AtomicU32,
}

// SAFETY: the pointers lead into the strings beside them; nobody but the child reads them.
unsafe impl Send for Birth {}

/// Holds what the child uses in our memory. One that is let go of too early leaves it there for good.
pub struct Kept(Option<Box<Birth>>);

impl std::fmt::Debug for Kept {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Kept")
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        if let Some(birth) = self.0.take_if(|birth| birth.tid.load(Ordering::Acquire) != 0) {
            std::mem::forget(birth);
        }
    }
}

/// The child begins in our memory on a stack of its own, and this process goes on beside it: a copy of our memory would cost
/// more than all the rest. A signal that came meanwhile would run our handlers in the child, so none does.
fn bear(birth: Birth) -> io::Result<(i32, Kept)> {
    let mut birth = Box::new(birth);
    let all = nix::sys::signal::SigSet::all();
    let before = all.thread_swap_mask(nix::sys::signal::SigmaskHow::SIG_SETMASK)?;
    let made = arguments(IN_OUR_MEMORY, None).map_or(-(libc::ENOSYS as isize), |mut arguments| {
        arguments.parent_tid = birth.tid.as_ptr() as u64;
        arguments.child_tid = arguments.parent_tid;
        arguments.stack = birth.stack.begin();
        arguments.stack_size = Stack::BYTES as u64;
        // SAFETY: all that the child uses stays in `birth` until it has left.
        unsafe { clone_on(&mut arguments, begin, std::ptr::from_ref(&*birth)) }
    });
    let pid = match i32::try_from(made) {
        Ok(pid @ 1..) => Ok(pid),
        // An old kernel, or another kind of processor.
        // SAFETY: the child goes straight into `begin`, which makes bare calls only.
        _ => match unsafe { libc::fork() } {
            // SAFETY: we are the forked child.
            0 => unsafe { begin(std::ptr::from_ref(&*birth)) },
            -1 => Err(io::Error::last_os_error()),
            pid => Ok(pid),
        },
    };
    let kept = Kept(Some(birth));
    before.thread_set_mask()?;
    Ok((pid?, kept))
}

/// # Safety
/// Only as the beginning of a child.
unsafe extern "C" fn begin(birth: *const Birth) -> ! {
    // SAFETY: bare calls on what the parent prepared and keeps.
    unsafe {
        let birth = &*birth;
        for (old, new) in [(birth.null, 0), (birth.null, 1), (birth.null, 2), (birth.socket, 3)] {
            let answer = call(libc::SYS_dup3, [old as usize, new, 0, 0, 0]);
            if answer < 0 {
                give_up(birth.errors, FDS, answer);
            }
        }
        call(libc::SYS_close_range, [4, u32::MAX as usize, libc::CLOSE_RANGE_CLOEXEC as usize, 0, 0]);
        // All of them: the supervisor has handlers, which are nothing for a child that is not yet another program.
        reset_signals(1..=64);
        let words = [birth.program.as_ptr() as usize, birth.argv.as_ptr() as usize, birth.envp.as_ptr() as usize, 0, 0];
        let answer = call(libc::SYS_execve, words);
        give_up(birth.errors, EXEC, answer)
    }
}

/// After the socket of a keeper has ended before its first word: why, if exec had a reason.
pub fn refused(errors: &OwnedFd) -> Option<io::Error> {
    verdict(errors)?.err().map(|failed| io::Error::from_raw_os_error(failed.errno))
}
