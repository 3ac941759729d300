//! Processes that a command in the foreground has left behind: they lose their parent and become children of ours, where the system
//! gives orphans to the nearest ancestor that asks for them (`PR_SET_CHILD_SUBREAPER`). Elsewhere they go to init and are not found.
//!
//! A process that supervises a stack asks for orphans as well, since those of a lost keeper are its own (`strays`). These, and what
//! carries the mark of a stack, are left to it; so are their exit statuses.

use nix::sys::wait::{WaitPidFlag, waitpid};
use nix::unistd::Pid;

use super::drivers::own_process;
use super::process_list::{self, Stat};

/// The orphans of a command, from before its start until this is dropped.
#[derive(Debug)]
pub struct AdoptedChildren {
    /// Pid and start time of the children from before.
    earlier: Vec<(i32, u64)>,
    /// No other part of this process waits for orphans.
    is_only_reaper: bool,
}

impl AdoptedChildren {
    /// Asks for orphans. To be called before the command is started.
    #[must_use]
    pub fn ask() -> Self {
        let is_only_reaper = !own_process::is_inheriting_orphans();
        // Where it is refused, what has lost its parent is not found.
        let _refused = own_process::inherit_orphans();
        Self { earlier: children().map(|child| (child.pid, child.start)).collect(), is_only_reaper }
    }

    /// Those that live now. `leader` is the command, which is not one of them, and `known` are the processes that are known to have
    /// been below it. Those that have ended are reaped.
    #[must_use]
    pub fn find(&self, leader: (i32, u64), known: impl Fn(i32, u64) -> bool) -> Vec<Stat> {
        let mut found = Vec::new();
        for child in children() {
            let is_other = (child.pid, child.start) == leader || self.earlier.contains(&(child.pid, child.start));
            if is_other || own_process::is_keeper(child.pid) {
                continue;
            }
            let is_known = known(child.pid, child.start);
            if !child.lives() {
                if is_known || self.is_only_reaper {
                    // It has ended, so this does not block.
                    let _reaped = waitpid(Pid::from_raw(child.pid), Some(WaitPidFlag::WNOHANG));
                }
            } else if is_known || process_list::marks(child.pid).is_none() {
                found.push(child);
            }
        }
        found
    }
}

impl Drop for AdoptedChildren {
    fn drop(&mut self) {
        if self.is_only_reaper {
            // What is left then becomes a child of init when this process ends.
            let _refused = own_process::leave_orphans();
        }
    }
}

fn children() -> impl Iterator<Item = Stat> {
    let own = i32::try_from(std::process::id()).unwrap_or(0);
    process_list::children(own).into_iter().filter_map(process_list::stat)
}
