//! What a lost keeper leaves to the supervisor and nothing else ties to the stack: children of ours that we did not start.
//!
//! A process that has left its session, closed what it inherited and cleared its environment is known by its descent only. While its
//! keeper lives that is below the keeper; when the keeper is killed it becomes a child of the supervisor, the next subreaper above. What
//! the supervisor starts itself stays in its session. So a child in another session, that was not there when the first keeper was, came
//! from a keeper. Owns the looks at the end of a run in which a keeper was lost, and the kill.

use std::time::{Duration, Instant};

use nix::sys::wait::{WaitPidFlag, waitpid};
use nix::unistd::{Pid, getsid};

use super::process_list::{self, Stat};
use super::signal;

/// So many looks in a row must find nothing: one that forks and ends between two is seen in another.
const LOOKS: u32 = 3;
/// Between two that found nothing.
const PAUSE: Duration = Duration::from_millis(10);
/// What is still there then is reported as left.
const LIMIT: Duration = Duration::from_secs(5);

/// Children of the supervisor that came from a lost keeper.
#[derive(Debug)]
pub(super) struct Strays {
    /// Pid and start time of the children from before.
    strangers: Vec<(i32, u64)>,
    is_keeper_lost: bool,
}

impl Strays {
    /// Whoever is a child of ours by now is none.
    pub(super) fn new() -> Self {
        Self { strangers: children().map(|child| (child.pid, child.start)).collect(), is_keeper_lost: false }
    }

    /// A keeper has ended, and its children are ours.
    pub(super) fn keeper_lost(&mut self) {
        self.is_keeper_lost = true;
    }

    fn find(&self) -> Vec<Stat> {
        let Ok(own) = getsid(None) else { return Vec::new() };
        let is_stray = |child: &Stat| child.session != own.as_raw() && !self.strangers.contains(&(child.pid, child.start));
        children().filter(is_stray).collect()
    }

    /// Kills them all, when everything that is known has ended. Returns what still lives.
    pub(super) async fn end(&self) -> Vec<(i32, String)> {
        let give_up = Instant::now() + LIMIT;
        let mut quiet = 0;
        while self.is_keeper_lost && quiet < LOOKS {
            let found = self.find();
            let living: Vec<&Stat> = found.iter().filter(|child| child.lives()).collect();
            if living.is_empty() {
                quiet += 1;
            } else if Instant::now() > give_up {
                return living.iter().map(|child| (child.pid, process_list::command(child.pid))).collect();
            } else {
                quiet = 0;
            }
            found.iter().for_each(kill);
            // One that forks all the time is outrun only without a pause.
            if living.is_empty() { tokio::time::sleep(PAUSE).await } else { tokio::task::yield_now().await }
        }
        Vec::new()
    }
}

fn children() -> impl Iterator<Item = Stat> {
    let own = i32::try_from(std::process::id()).unwrap_or(0);
    process_list::children(own).into_iter().filter_map(process_list::stat)
}

/// Stopped first, so that it starts nothing more, then killed with all below it, and reaped, as no other code waits for it.
fn kill(child: &Stat) {
    if child.lives() {
        let _ended = signal::send_to_child(child.pid, None, libc::SIGSTOP);
        for below in
            process_list::descendants(&[child.pid]).into_iter().filter(|pid| *pid != child.pid).filter_map(process_list::stat)
        {
            let _ended = signal::send_checked(below.pid, below.start, libc::SIGKILL);
        }
        let _ended = signal::send_to_child(child.pid, None, libc::SIGKILL);
    }
    // Not yet, where the kernel is still at it: the next look reaps it.
    let _later = waitpid(Pid::from_raw(child.pid), Some(WaitPidFlag::WNOHANG));
}
