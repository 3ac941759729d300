//! Spawns a keeper from the supervisor, which has many threads: nothing but bare system calls between fork and exec.

use std::ffi::CString;
use std::io;
use std::os::fd::RawFd;

use super::child::{EXEC, FDS, close_on_exec_from, fail_and_exit, reset_signals};
use super::in_flight::{BlockedSignals, InFlightChild};
use super::syscall::{ChildStack, call};

/// What the child needs.
pub(super) struct KeeperSpawn {
    pub null: RawFd,
    pub socket: RawFd,
    pub errors: RawFd,
    pub program: CString,
    pub argv: Vec<*const libc::c_char>,
    pub envp: [*const libc::c_char; 1],
    #[expect(dead_code, reason = "argv points into these")]
    pub words: Vec<CString>,
}

// SAFETY: the pointers lead into the strings of the same structure; only the child reads them.
unsafe impl Send for KeeperSpawn {}

/// Holds what the child uses in our memory; nothing, where it has a copy.
#[derive(Debug)]
pub(super) struct Kept {
    #[expect(dead_code, reason = "dropping it is what it is for")]
    child: Option<InFlightChild<KeeperSpawn>>,
}

/// The child begins in our memory, and this process continues: a copy of our memory would cost more than all the rest.
pub(super) fn spawn_keeper(spawn: KeeperSpawn, plain: bool) -> io::Result<(i32, Kept)> {
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
