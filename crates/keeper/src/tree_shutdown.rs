//! Carries a [`Shutdown`] out on real process trees: tells it what has ended, and sends what it asks for. The keeper uses it when
//! its supervisor is gone, the sweep when the keeper is gone too.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crate::journal::JournalEntry;
use devrun_core::shutdown::{Shutdown, ShutdownAction, StoppableProcess, Tick};
use devrun_model::keeper::ProcessId;

use super::process_trees::Trees;

/// A moment so far away that nothing waits for it in earnest.
const FAR: Duration = Duration::from_secs(365 * 24 * 3600);

/// The shutdown of all processes of a table of trees.
#[derive(Debug)]
pub struct TreeShutdown {
    shutdown: Shutdown,
    started_at: Instant,
    /// The process of each stop command that was started, by the process that it is to stop.
    commands: BTreeMap<ProcessId, ProcessId>,
}

/// The result of a step.
#[derive(Debug, Default)]
pub struct ShutdownStep {
    /// When to come again if nothing happens before.
    pub wake: Option<Instant>,
    /// The processes whose stop command is to be started now. One for which [`TreeShutdown::command_started`] is not called
    /// counts as ended.
    pub commands: Vec<ProcessId>,
}

fn process(entry: &JournalEntry, stop_command: bool) -> StoppableProcess {
    StoppableProcess {
        process: entry.process,
        service: entry.service.clone(),
        role: entry.role,
        depends_on: entry.before.clone(),
        tier: entry.tier,
        grace: Duration::from_millis(entry.grace_ms),
        then: entry.then,
        stop_command,
    }
}

/// Returns the longest time that the shutdown of these processes takes.
pub fn max_duration<'a>(entries: impl Iterator<Item = &'a JournalEntry>) -> Duration {
    let mut shutdown = Shutdown::default();
    entries.for_each(|entry| shutdown.add(process(entry, false)));
    shutdown.max_duration()
}

/// Adds a time that may be without bounds.
#[must_use]
pub fn after(moment: Instant, time: Duration) -> Instant {
    moment.checked_add(time.min(FAR)).unwrap_or(moment)
}

impl TreeShutdown {
    /// Begins now.
    #[must_use]
    pub fn new(now: Instant) -> Self {
        Self { shutdown: Shutdown::default(), started_at: now, commands: BTreeMap::new() }
    }
    /// Takes in what has happened to the trees and does what is due. `has_command`: whether a process has a stop command.
    pub fn step(&mut self, trees: &mut Trees, now: Instant, has_command: impl Fn(ProcessId) -> bool) -> ShutdownStep {
        let is_command = |number: ProcessId| self.commands.values().any(|command| *command == number);
        let new: Vec<StoppableProcess> = trees
            .entries()
            .filter(|entry| !self.shutdown.has(entry.process) && !is_command(entry.process))
            .map(|entry| process(entry, has_command(entry.process)))
            .collect();
        new.into_iter().for_each(|process| self.shutdown.add(process));
        let gone: Vec<ProcessId> = self.shutdown.processes().filter(|process| !trees.has(*process)).collect();
        gone.into_iter().for_each(|process| self.shutdown.mark_gone(process));
        let has_ended = |of: &ProcessId| self.commands.get(of).is_none_or(|command| trees.leader_ended(*command));
        let ended: Vec<ProcessId> = self.shutdown.commands().filter(has_ended).collect();
        ended.into_iter().for_each(|process| self.shutdown.command_ended(process));

        let mut actions = Vec::new();
        let next = self.shutdown.step(Tick(now.saturating_duration_since(self.started_at)), &mut actions);
        let mut step = ShutdownStep { wake: next.map(|at| after(self.started_at, at.0)), commands: Vec::new() };
        for action in actions {
            match action {
                ShutdownAction::RunStopCommand(process) => step.commands.push(process),
                ShutdownAction::KillStopCommand(process) => {
                    if let Some(command) = self.commands.get(&process) {
                        trees.kill(*command);
                    }
                }
                ShutdownAction::Stop(process) => trees.stop(process, None),
                ShutdownAction::SignalTree(process, signal) => trees.signal_tree(process, signal),
                ShutdownAction::Kill(process) => trees.kill(process),
            }
        }
        step
    }
    /// The stop command of a process runs, or is about to, as this process.
    pub fn command_started(&mut self, process: ProcessId, command: ProcessId) {
        self.commands.insert(process, command);
    }
    /// Whether everything is gone or has outlived SIGKILL; stop commands do not count.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.shutdown.is_over()
    }
    /// Whether this process has outlived SIGKILL, once [`TreeShutdown::is_over`].
    #[must_use]
    pub fn has_survived(&self, process: ProcessId) -> bool {
        self.shutdown.is_over() && self.shutdown.has(process)
    }
}
