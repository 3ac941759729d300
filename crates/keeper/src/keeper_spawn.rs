//! Spawns a keeper from the supervisor, which has many threads: nothing but bare system calls between fork and exec.

use std::ffi::CString;
use std::io;
use std::os::fd::RawFd;

use super::child::{EXEC, FDS, fail_and_exit};
use super::drivers::child_calls;
use super::drivers::launch::{KeptMemory, launch_once};

/// What the child needs.
pub(super) struct KeeperSpawn {
    pub null: RawFd,
    pub socket: RawFd,
    pub errors: RawFd,
    /// See [`child_calls::last_descriptor`].
    pub last_descriptor: RawFd,
    pub program: CString,
    pub argv: Vec<*const libc::c_char>,
    pub envp: [*const libc::c_char; 1],
    #[expect(dead_code, reason = "argv points into these")]
    pub words: Vec<CString>,
}

// SAFETY: the pointers lead into the strings of the same structure; only the child reads them.
unsafe impl Send for KeeperSpawn {}

/// Spawns the keeper.
pub(super) fn spawn_keeper(spawn: KeeperSpawn, plain: bool) -> io::Result<(i32, KeptMemory<KeeperSpawn>)> {
    // SAFETY: `begin` makes the calls of `child_calls` alone, on what it is given.
    unsafe { launch_once(spawn, begin, plain) }
}

/// # Safety
/// Only as the beginning of a child.
unsafe extern "C" fn begin(spawn: *const KeeperSpawn) -> ! {
    // SAFETY: bare calls on what the parent prepared and keeps.
    unsafe {
        let spawn = &*spawn;
        for (old, new) in [(spawn.null, 0), (spawn.null, 1), (spawn.null, 2), (spawn.socket, 3)] {
            let answer = child_calls::duplicate_to(old, new);
            if answer < 0 {
                fail_and_exit(spawn.errors, FDS, answer);
            }
        }
        if let Err(answer) = child_calls::close_on_exec_from(4, spawn.last_descriptor) {
            fail_and_exit(spawn.errors, FDS, answer);
        }
        // All of them: the supervisor has handlers, which are nothing for a child that is not yet another program.
        child_calls::reset_signals(child_calls::all_signals());
        let answer = child_calls::execute(&spawn.program, spawn.argv.as_ptr(), spawn.envp.as_ptr());
        fail_and_exit(spawn.errors, EXEC, answer)
    }
}
