//! The supervisor as a process of its own: out of reach of its parent's terminal (`up -d`), and closed to those who would
//! read secrets out of its memory.

use std::os::unix::process::CommandExt;
use std::sync::OnceLock;

use nix::sys::resource::{Resource, getrlimit, setrlimit};

/// What the limit of core files was before we took ours away.
static CORE: OnceLock<u64> = OnceLock::new();

/// From here on this process holds secrets: it leaves no core file, and no other process of this user may look into it.
/// Services get the limit back that we were started with.
pub fn hold_secrets() {
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
pub(super) fn core_limit() -> u64 {
    CORE.get().copied().unwrap_or_else(|| getrlimit(Resource::RLIMIT_CORE).map_or(0, |(soft, _)| soft))
}

/// The command will run in a session of its own, out of reach of its parent's terminal and process group.
pub fn own_session(command: &mut std::process::Command) {
    // SAFETY: `setsid` is async-signal-safe and touches no memory; it fails only for a group leader, which a fresh child is not.
    unsafe {
        command.pre_exec(|| match libc::setsid() {
            -1 => Err(std::io::Error::last_os_error()),
            _ => Ok(()),
        });
    }
}

/// Puts `/dev/null` in the place of standard output, so that whoever reads it sees the end.
pub fn close_stdout() {
    if let Ok(null) = std::fs::OpenOptions::new().write(true).open("/dev/null") {
        // What stands in its place cannot fail to be replaced: both descriptors are open.
        let _open = nix::unistd::dup2_stdout(null);
    }
}
