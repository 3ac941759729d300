//! What a command in the foreground has started: looked up when the command is to end, since a shell that dies of a signal leaves its
//! own children running. What has lost its parent becomes a child of ours where the system allows it (`adopted_children`), so that it
//! is found although it was detached, or started by a process that has ended since.

use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::OwnedFd;
use std::time::Duration;

use devrun_keeper::adopted_children::AdoptedChildren;
use devrun_keeper::process_list::{self, Stat};
use devrun_keeper::signal;
use nix::unistd::getsid;
use tokio::time::Instant;

/// How long the command and what it has started may take after TERM or HUP; then they are killed.
pub const GRACE: Duration = Duration::from_secs(10);
/// How often the processes are looked at while they end.
pub const POLL: Duration = Duration::from_millis(20);
/// So many looks in a row must find nothing: what is started by a process that ends during one is found by the next.
const QUIET_LOOKS: u32 = 3;

/// A command's processes: the leader's number and start time, and those found below it.
#[derive(Debug)]
pub struct CommandTree {
    leader: (i32, u64),
    pidfd: Option<OwnedFd>,
    /// `None`: what has lost its parent is not asked for.
    adopted: Option<AdoptedChildren>,
    below: BTreeMap<i32, u64>,
    /// Those that have got a signal.
    signalled: BTreeSet<(i32, u64)>,
}

impl CommandTree {
    /// For a command that was just started and not waited for yet. `adopted` is from before its start.
    #[must_use]
    pub fn new(leader: i32, adopted: Option<AdoptedChildren>) -> Self {
        // A start time that no process has means none.
        let start = process_list::stat(leader).map_or(u64::MAX, |stat| stat.start);
        let pidfd = signal::open(leader);
        Self { leader: (leader, start), pidfd, adopted, below: BTreeMap::new(), signalled: BTreeSet::new() }
    }

    /// Sends a signal to the command itself. It may have ended by now, which its wait is about to tell.
    pub fn signal_leader(&self, number: i32) {
        match &self.pidfd {
            Some(pidfd) => drop(signal::send(pidfd, number)),
            None => _ = signal::send_checked(self.leader.0, self.leader.1, number),
        }
    }

    /// Reaps what has lost its parent and ended, for as long as the command runs.
    pub fn reap(&self) {
        let _living = self.orphans();
    }

    fn orphans(&self) -> Vec<Stat> {
        let is_known = |pid, start| self.below.get(&pid) == Some(&start);
        self.adopted.as_ref().map(|adopted| adopted.find(self.leader, is_known)).unwrap_or_default()
    }

    /// Adds what is below the leader, or below a process found earlier, now, and what has lost its parent. `end`: the signal by which
    /// the command is to end.
    pub fn look(&mut self, end: i32) {
        // As when a terminal is closed: what has made a session of its own, such as a tmux server, is not concerned.
        let own = getsid(None).ok().filter(|_| end == libc::SIGHUP);
        let is_concerned = |session: i32| own.is_none_or(|own| own.as_raw() == session);
        for child in self.orphans().into_iter().filter(|child| is_concerned(child.session)) {
            self.below.insert(child.pid, child.start);
        }
        let mut roots = vec![self.leader];
        roots.extend(self.below.iter().map(|(pid, start)| (*pid, *start)));
        for root in roots {
            for pid in process_list::descendants(&[root.0]) {
                let Some(stat) = process_list::stat(pid) else { continue };
                // A number may have been given to another process since it was listed: its parents and both start times must hold.
                let is_below = process_list::ancestors(pid).contains(&root.0);
                if is_below && is_concerned(stat.session) && lives((pid, stat.start)) && lives(root) {
                    self.below.insert(pid, stat.start);
                }
            }
        }
        self.below.retain(|pid, start| lives((*pid, *start)));
    }

    /// Whether something that the command has started is still alive, the leader apart. Looks for it.
    pub fn has_others(&mut self, end: i32) -> bool {
        (0..QUIET_LOOKS).any(|_| {
            self.look(end);
            !self.below.is_empty()
        })
    }

    /// Sends a signal to what was found and has got none yet.
    pub fn signal_others(&mut self, number: i32) {
        for (pid, start) in &self.below {
            if self.signalled.insert((*pid, *start)) {
                // It may have ended by now, which the next look shows.
                let _sent = signal::send_checked(*pid, *start, number);
            }
        }
    }

    /// Kills what was found.
    pub fn kill_others(&self) {
        for (pid, start) in &self.below {
            let _sent = signal::send_checked(*pid, *start, libc::SIGKILL);
        }
    }
}

/// The end of a command that was asked for.
#[derive(Debug)]
pub struct CommandEnd {
    /// The signal that the leader got.
    pub signal: i32,
    /// When everything is killed; `None` where the leader decides itself, as after INT.
    pub deadline: Option<Instant>,
}

impl CommandEnd {
    /// What follows from one more signal. INT may mean something else to the command, so it sets no deadline; a second TERM or HUP is
    /// from a caller who does not wait any longer.
    #[must_use]
    pub fn after(earlier: Option<&Self>, signal: i32, now: Instant) -> Self {
        let is_end = signal == libc::SIGTERM || signal == libc::SIGHUP;
        let deadline = match earlier.and_then(|end| end.deadline) {
            Some(_) if signal == libc::SIGTERM => Some(now),
            Some(deadline) => Some(deadline),
            None => is_end.then(|| now + GRACE),
        };
        Self { signal, deadline }
    }
}

fn lives((pid, start): (i32, u64)) -> bool {
    process_list::stat(pid).is_some_and(|stat| stat.start == start && stat.lives())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn int_sets_no_deadline_and_a_second_term_ends_the_grace() {
        let now = Instant::now();
        let int = CommandEnd::after(None, libc::SIGINT, now);
        assert_eq!(int.deadline, None);
        let term = CommandEnd::after(Some(&int), libc::SIGTERM, now);
        assert_eq!(term.deadline, Some(now + GRACE));
        let later = now + Duration::from_secs(1);
        assert_eq!(CommandEnd::after(Some(&term), libc::SIGHUP, later).deadline, Some(now + GRACE));
        assert_eq!(CommandEnd::after(Some(&term), libc::SIGTERM, later).deadline, Some(later));
    }

    #[test]
    fn a_child_of_a_child_is_found_and_ended() {
        let mut shell = std::process::Command::new("sh")
            .args(["-c", "sleep 1000 & echo; wait"])
            .stdout(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = [0];
        std::io::Read::read_exact(shell.stdout.as_mut().unwrap(), &mut line).unwrap();
        let mut tree = CommandTree::new(shell.id().cast_signed(), None);
        tree.look(libc::SIGTERM);
        assert_eq!(tree.below.len(), 1);
        shell.kill().unwrap();
        shell.wait().unwrap();
        assert!(tree.has_others(libc::SIGTERM));
        tree.signal_others(libc::SIGTERM);
        let deadline = std::time::Instant::now() + Duration::from_secs(10);
        while tree.has_others(libc::SIGTERM) {
            assert!(std::time::Instant::now() < deadline, "{tree:?}");
            std::thread::yield_now();
        }
    }
}
