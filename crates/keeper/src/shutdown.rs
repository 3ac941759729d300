//! Carries a [`Shutdown`] out on real process trees: tells it what has ended, and sends what it asks for. The keeper uses it when
//! its supervisor is gone, the sweep when the keeper is gone too.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crate::journal::Entry;
use devrun_core::shutdown::{Action, Process, Shutdown, Tick};
use devrun_model::keeper::ProcessId;

use super::tree::Trees;

/// A moment so far away that nothing waits for it in earnest.
const FAR: Duration = Duration::from_secs(365 * 24 * 3600);

/// The shutdown of all processes of a table of trees.
#[derive(Debug)]
pub struct TreeShutdown {
    plan: Shutdown,
    begun: Instant,
    /// The process of each stop command that was started, by the process that it is to stop.
    commands: BTreeMap<ProcessId, ProcessId>,
}

/// The result of a step.
#[derive(Debug, Default)]
pub struct Step {
    /// When to come again if nothing happens before.
    pub wake: Option<Instant>,
    /// The processes whose stop command is to be started now. One for which [`TreeShutdown::command_started`] is not called
    /// counts as ended.
    pub commands: Vec<ProcessId>,
}

fn process(entry: &Entry, stop_command: bool) -> Process {
    Process {
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
pub fn longest<'a>(entries: impl Iterator<Item = &'a Entry>) -> Duration {
    let mut plan = Shutdown::default();
    entries.for_each(|entry| plan.add(process(entry, false)));
    plan.longest()
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
        Self { plan: Shutdown::default(), begun: now, commands: BTreeMap::new() }
    }
    /// Takes in what has happened to the trees and does what is due. `has_command`: whether a process has a stop command.
    pub fn step(&mut self, trees: &mut Trees, now: Instant, has_command: impl Fn(ProcessId) -> bool) -> Step {
        let is_command = |number: ProcessId| self.commands.values().any(|command| *command == number);
        let new: Vec<Process> = trees
            .entries()
            .filter(|entry| !self.plan.has(entry.process) && !is_command(entry.process))
            .map(|entry| process(entry, has_command(entry.process)))
            .collect();
        new.into_iter().for_each(|process| self.plan.add(process));
        let gone: Vec<ProcessId> = self.plan.processes().filter(|process| !trees.has(*process)).collect();
        gone.into_iter().for_each(|process| self.plan.gone(process));
        let has_ended = |of: &ProcessId| self.commands.get(of).is_none_or(|command| trees.leader_ended(*command));
        let ended: Vec<ProcessId> = self.plan.commands().filter(has_ended).collect();
        ended.into_iter().for_each(|process| self.plan.command_ended(process));

        let mut actions = Vec::new();
        let next = self.plan.step(Tick(now.saturating_duration_since(self.begun)), &mut actions);
        let mut step = Step { wake: next.map(|at| after(self.begun, at.0)), commands: Vec::new() };
        for action in actions {
            match action {
                Action::RunStopCommand(process) => step.commands.push(process),
                Action::KillStopCommand(process) => {
                    if let Some(command) = self.commands.get(&process) {
                        trees.kill(*command);
                    }
                }
                Action::Stop(process) => trees.stop(process, None),
                Action::SignalTree(process, signal) => trees.signal_tree(process, signal),
                Action::Kill(process) => trees.kill(process),
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
        self.plan.is_over()
    }
    /// Whether this process has outlived SIGKILL, once [`TreeShutdown::is_over`].
    #[must_use]
    pub fn has_survived(&self, process: ProcessId) -> bool {
        self.plan.is_over() && self.plan.has(process)
    }
}
