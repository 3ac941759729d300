//! The steps of the end, in the loop's turns.

use std::time::{Duration, Instant};

use crate::cgroup;
use crate::journal::{JournalEntry, JournalRecord};
use crate::shutdown_state::KeeperShutdown;
use crate::signal;
use crate::tree_shutdown::TreeShutdown;
use devrun_core::shutdown::KILL_TO_SURVIVOR;
use devrun_model::keeper::{FromKeeper, ProcessId, Role, SpawnSpec};

use super::{KeeperLoop, find_program};

impl KeeperLoop {
    /// The supervisor is gone without the word `Finish`.
    pub(crate) fn handle_supervisor_loss(&mut self) {
        if let Some(socket) = self.socket.take() {
            self.readiness.remove(&socket);
        }
        self.outbox = crate::wire::Outbox::default();
        match &mut self.shutdown {
            Some(shutdown) => shutdown.next = Some(Instant::now()),
            None => {
                self.write(&[JournalRecord::Dead]);
                self.drain_logs();
                self.track_inherited();
                self.shutdown =
                    Some(KeeperShutdown { trees: Some(TreeShutdown::new(Instant::now())), ..KeeperShutdown::requested() });
            }
        }
    }

    /// Moves the end on; an exit code once it is done.
    pub(crate) fn continue_shutdown(&mut self) -> Option<i32> {
        let mut shutdown = self.shutdown.take()?;
        let now = Instant::now();
        let code = self.advance_shutdown(&mut shutdown, now);
        self.shutdown = Some(shutdown);
        code
    }

    fn advance_shutdown(&mut self, shutdown: &mut KeeperShutdown, now: Instant) -> Option<i32> {
        if self.trees.is_empty() {
            return self.end_strays(shutdown, now);
        }
        if let Some(trees) = &mut shutdown.trees {
            let specs = &self.specs;
            let step = trees.step(&mut self.trees, now, |process| specs.get(&process).is_some_and(has_stop_command));
            shutdown.next = step.wake;
            for process in step.commands {
                let Some(command) = self.specs.get(&process).and_then(|spec| stop_command(spec, shutdown.commands)) else {
                    continue;
                };
                shutdown.commands += 1;
                trees.command_started(process, command.process);
                self.spawn(command, &[]);
                // If it could not be started, the process is signalled at once.
                shutdown.next = Some(now);
            }
            self.drain_logs();
            if !trees.is_over() {
                return None;
            }
        }
        // What survives, stop commands, and after `Finish` whatever has been stopped for long enough.
        let left: Vec<(ProcessId, i32, String)> = self
            .trees
            .entries()
            .map(|entry: &JournalEntry| (entry.process, entry.identity.pid, entry.service.to_string()))
            .collect();
        left.iter().for_each(|(process, ..)| self.trees.kill(*process));
        let since = *shutdown.killing_since.get_or_insert(now);
        let has_survived = |process| shutdown.trees.as_ref().is_some_and(|trees| trees.has_survived(process));
        if now.duration_since(since) > KILL_TO_SURVIVOR
            || left.iter().all(|(process, ..)| has_survived(*process)) && !left.is_empty()
        {
            return Some(self.finish(left.into_iter().map(|(_, pid, service)| (pid, service)).collect()));
        }
        shutdown.next = Some(now + CHECK_INTERVAL);
        None
    }

    /// Everything tracked is gone; what is left of our children fits no service.
    fn end_strays(&mut self, shutdown: &mut KeeperShutdown, now: Instant) -> Option<i32> {
        let left = self.trees.unowned_children();
        if left.is_empty() {
            return Some(self.finish(Vec::new()));
        }
        let since = *shutdown.strays_since.get_or_insert(now);
        let waited = now.duration_since(since);
        if waited > KILL_TO_SURVIVOR {
            return Some(self.finish(left.into_iter().map(|stat| (stat.pid, stat.comm)).collect()));
        }
        for stat in left {
            if waited > STRAY_GRACE {
                let _sent = signal::send_checked(stat.pid, stat.start, libc::SIGKILL);
            } else if !shutdown.warned.contains(&(stat.pid, stat.start)) {
                shutdown.warned.push((stat.pid, stat.start));
                let _sent = signal::send_checked(stat.pid, stat.start, libc::SIGTERM);
            }
        }
        shutdown.next = Some(now + CHECK_INTERVAL);
        None
    }

    fn finish(&mut self, survivors: Vec<(i32, String)>) -> i32 {
        let code = i32::from(!survivors.is_empty());
        self.write(&[JournalRecord::Result { survivors: survivors.clone() }]);
        if let Some(groups) = &self.groups {
            groups.remove();
        }
        self.send(&FromKeeper::Finished { survivors }, Vec::new());
        // The last words are worth a short wait for a supervisor that is slow to listen.
        let until = Instant::now() + Duration::from_secs(2);
        while self.socket.is_some() && !self.outbox.is_empty() && Instant::now() < until {
            self.flush();
            if !self.outbox.is_empty() {
                std::thread::sleep(Duration::from_millis(2));
            }
        }
        // Nobody waits for this any more.
        if let Some(groups) = &self.groups {
            cgroup::remove_abandoned(Some(groups.path()));
        }
        code
    }
}

fn has_stop_command(spec: &SpawnSpec) -> bool {
    spec.role == Role::Main && spec.stop.command.is_some()
}

/// A process's stop command as a process: its environment, directory and user, our own number.
fn stop_command(spec: &SpawnSpec, process: ProcessId) -> Option<SpawnSpec> {
    let argv = spec.stop.command.clone().filter(|_| has_stop_command(spec))?;
    let program = find_program(argv.first()?, &spec.env, &spec.dir)?;
    let mut command =
        SpawnSpec { process, role: Role::StopCommand, program, argv, tty: false, open_stdin: false, ..spec.clone() };
    command.sockets = Vec::new();
    command.stop.command = None;
    command.stop.before = Vec::new();
    Some(command)
}

/// Strays get the usual signal, and this long to follow it.
const STRAY_GRACE: Duration = Duration::from_millis(500);

const CHECK_INTERVAL: Duration = Duration::from_millis(10);
