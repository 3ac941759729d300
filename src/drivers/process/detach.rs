//! A process that outlives its parent's terminal: the supervisor of `up -d`.

use std::os::unix::process::CommandExt;

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
