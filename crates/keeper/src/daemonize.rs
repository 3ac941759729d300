//! The supervisor as a process of its own: out of reach of its parent's terminal (`up -d`), and closed to those who would
//! read secrets out of its memory.

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::sync::OnceLock;

use nix::sys::resource::{Resource, getrlimit, setrlimit};

use super::drivers::own_process;
use super::drivers::pipes::pipe;

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
    own_process::deny_dumps();
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

/// A reader of a file that our caller has left open, a pipe above all, shall not wait for the supervisor.
fn close_other_files(kept: Option<BorrowedFd<'_>>) -> io::Result<()> {
    let kept = kept.map(|kept| kept.as_raw_fd().unsigned_abs()).filter(|kept| *kept > 2);
    // SAFETY: before the first runtime only the caller owns a file here, and has let go of its own.
    unsafe { own_process::close_descriptors(kept) }?;
    own_process::name_supervisor();
    Ok(())
}

/// Puts `/dev/null` in the place of standard output, so that its reader sees the end of file.
pub fn close_stdout() {
    if let Ok(null) = std::fs::OpenOptions::new().write(true).open("/dev/null") {
        // What stands in its place cannot fail to be replaced: both descriptors are open.
        let _open = nix::unistd::dup2_stdout(null);
    }
}
