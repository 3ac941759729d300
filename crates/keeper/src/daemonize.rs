//! The supervisor as a process of its own: out of reach of its parent's terminal (`up -d`), and closed to those who would
//! read secrets out of its memory.

use std::fs::File;
use std::io;
#[cfg(target_os = "linux")]
use std::os::fd::AsRawFd;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::sync::OnceLock;

use nix::sys::resource::{Resource, getrlimit, setrlimit};

/// What the limit of core files was before we took ours away.
static CORE: OnceLock<u64> = OnceLock::new();

/// From here on this process holds secrets: it leaves no core file, and no other process of this user may look into it.
/// Services get the limit back that we were started with.
pub fn protect_memory() {
    CORE.get_or_init(|| {
        let (soft, hard) = getrlimit(Resource::RLIMIT_CORE).unwrap_or((0, 0));
        // Lowering the soft limit cannot be refused.
        let _ = setrlimit(Resource::RLIMIT_CORE, 0, hard);
        soft
    });
    #[cfg(target_os = "linux")]
    // SAFETY: prctl with integer arguments.
    unsafe {
        libc::prctl(libc::PR_SET_DUMPABLE, 0, 0, 0, 0)
    };
}

/// The soft limit of core files that services get.
#[cfg(feature = "client")]
pub(super) fn core_limit() -> u64 {
    CORE.get().copied().unwrap_or_else(|| getrlimit(Resource::RLIMIT_CORE).map_or(0, |(soft, _)| soft))
}

/// The two sides of [`fork`].
#[derive(Debug)]
pub enum ForkSide {
    /// This process, as it was.
    Parent {
        /// What the child writes to its standard output.
        answer: File,
        /// Dropping it tells the child that it is watched: its standard input ends then.
        hold: File,
    },
    /// A second process like this one, in a session of its own, with the root as its directory.
    Child,
}

/// Becomes two processes. The child has pipes to its parent as standard input and output, and `log` as its standard error;
/// of all other files it has `kept` alone.
///
/// There is no exec: the child has read and checked what its parent has, and starts without loading and relocating the binary
/// again. That is sound only while there is one thread, so it comes before the first runtime.
///
/// # Errors
/// What the system says.
pub fn fork(log: File, kept: Option<BorrowedFd<'_>>) -> io::Result<ForkSide> {
    #[cfg(target_os = "linux")]
    debug_assert_eq!(std::fs::read_dir("/proc/self/task").map_or(1, Iterator::count), 1, "a fork of more than one thread");
    // Close-on-exec: what either process starts later must not keep the other waiting.
    let (answer, answer_writer) = pipe()?;
    let (hold_reader, hold) = pipe()?;
    // SAFETY: there is one thread, so the child finds every lock as free as it was left.
    match unsafe { nix::unistd::fork()? } {
        nix::unistd::ForkResult::Parent { .. } => Ok(ForkSide::Parent { answer: answer.into(), hold: hold.into() }),
        nix::unistd::ForkResult::Child => {
            nix::unistd::dup2_stdin(&hold_reader)?;
            nix::unistd::dup2_stdout(&answer_writer)?;
            nix::unistd::dup2_stderr(&log)?;
            nix::unistd::setsid()?;
            nix::unistd::chdir("/")?;
            // Closed with the rest.
            std::mem::forget((log, answer, answer_writer, hold_reader, hold));
            close_other_files(kept)?;
            Ok(ForkSide::Child)
        }
    }
}

#[cfg(target_os = "linux")]
fn pipe() -> nix::Result<(OwnedFd, OwnedFd)> {
    nix::unistd::pipe2(nix::fcntl::OFlag::O_CLOEXEC)
}

#[cfg(not(target_os = "linux"))]
fn pipe() -> nix::Result<(OwnedFd, OwnedFd)> {
    let ends = nix::unistd::pipe()?;
    for end in [&ends.0, &ends.1] {
        nix::fcntl::fcntl(end, nix::fcntl::FcntlArg::F_SETFD(nix::fcntl::FdFlag::FD_CLOEXEC))?;
    }
    Ok(ends)
}

/// A reader of a file that our caller has left open, a pipe above all, shall not wait for the supervisor.
fn close_other_files(kept: Option<BorrowedFd<'_>>) -> io::Result<()> {
    #[cfg(not(target_os = "linux"))]
    let _all_stay = kept;
    #[cfg(target_os = "linux")]
    {
        let kept = kept.map(|kept| kept.as_raw_fd().unsigned_abs()).filter(|kept| *kept > 2);
        let ranges = match kept {
            None => [Some((3, u32::MAX)), None],
            Some(kept) => [(kept > 3).then(|| (3, kept - 1)), Some((kept + 1, u32::MAX))],
        };
        // SAFETY: integer arguments. Before the first runtime nobody here owns a file but the caller, who has let go of its
        // own.
        let close = |(first, last): (u32, u32)| unsafe { libc::syscall(libc::SYS_close_range, first, last, 0) } == 0;
        if !ranges.into_iter().flatten().all(close) {
            close_listed(kept)?;
        }
        // SAFETY: a literal for the name that `ps` shows.
        unsafe { libc::prctl(libc::PR_SET_NAME, c"devrun-supervis".as_ptr()) };
    }
    Ok(())
}

/// Before Linux 5.9, and under old seccomp profiles, a range cannot be closed at once.
#[cfg(target_os = "linux")]
fn close_listed(kept: Option<u32>) -> io::Result<()> {
    let mut open = Vec::new();
    for entry in std::fs::read_dir("/proc/self/fd")? {
        open.extend(entry?.file_name().to_str().and_then(|name| name.parse::<i32>().ok()));
    }
    for number in open.into_iter().filter(|number| *number > 2 && Some(number.unsigned_abs()) != kept) {
        // SAFETY: as above; that of the list itself is closed by now, which is refused.
        unsafe { libc::close(number) };
    }
    Ok(())
}

/// Puts `/dev/null` in the place of standard output, so that its reader sees the end of file.
pub fn close_stdout() {
    if let Ok(null) = std::fs::OpenOptions::new().write(true).open("/dev/null") {
        // What stands in its place cannot fail to be replaced: both descriptors are open.
        let _open = nix::unistd::dup2_stdout(null);
    }
}
