//! The stop of everything with nobody to ask: reverse order, each with its own signal, grace and stronger signal, then kill.
//!
//! Used by the keeper when its supervisor is gone and by the sweep of the next `up`. The supervisor's own stop is the core's.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use crate::model::ServiceId;
use crate::model::keeper::{ProcessId, Role};

use super::tree::Trees;

/// From the stronger signal to SIGKILL.
const AFTER_THEN: Duration = Duration::from_secs(2);
/// An init step that does not end on its signal is worth no longer wait: its stage is thrown away.
const INIT_GRACE: Duration = Duration::from_secs(5);

#[derive(Debug, Clone, Copy)]
enum Phase {
    Waiting,
    Command { runs: ProcessId, until: Instant },
    Signalled { until: Instant },
    Stronger { until: Instant },
    Killed,
}

/// Where everybody stands.
#[derive(Debug, Default)]
pub struct Orderly {
    phases: BTreeMap<ProcessId, Phase>,
    commands: BTreeSet<ProcessId>,
}

impl Orderly {
    /// Moves everybody on who can move; returns when to come again if nothing happens. `command` starts the stop command
    /// of a process, if it has one.
    pub fn step(
        &mut self,
        trees: &mut Trees,
        now: Instant,
        command: &mut dyn FnMut(&mut Trees, ProcessId) -> Option<ProcessId>,
    ) -> Option<Instant> {
        struct Each {
            process: ProcessId,
            service: ServiceId,
            role: Role,
            grace: Duration,
            stronger: Option<crate::model::Signal>,
            before: Vec<ServiceId>,
        }
        let all: Vec<Each> = trees
            .entries()
            .map(|entry| Each {
                process: entry.process,
                service: entry.service.clone(),
                role: entry.role,
                grace: Duration::from_millis(entry.grace_ms),
                stronger: entry.then,
                before: entry.before.clone(),
            })
            .collect();
        // Whoever is named here has a dependent that lives.
        let mut needed: BTreeMap<&ServiceId, BTreeSet<&ServiceId>> = BTreeMap::new();
        for each in all.iter().filter(|each| each.role == Role::Main) {
            for service in &each.before {
                needed.entry(service).or_default().insert(&each.service);
            }
        }
        let mut next: Option<Instant> = None;
        for each in &all {
            let process = each.process;
            if self.commands.contains(&process) {
                continue;
            }
            let phase = self.phases.get(&process).copied().unwrap_or(Phase::Waiting);
            let held = || needed.get(&each.service).is_some_and(|by| by.iter().any(|other| **other != each.service));
            let moved = match phase {
                Phase::Waiting => match each.role {
                    Role::Main if held() => Phase::Waiting,
                    Role::Main => match command(trees, process) {
                        Some(runs) => {
                            self.commands.insert(runs);
                            Phase::Command { runs, until: now + each.grace }
                        }
                        None => {
                            trees.stop(process, None);
                            Phase::Signalled { until: now + each.grace }
                        }
                    },
                    Role::Init => {
                        trees.stop(process, None);
                        Phase::Signalled { until: now + each.grace.min(INIT_GRACE) }
                    }
                    Role::PreStart | Role::StopCommand | Role::Probe | Role::Build => {
                        trees.kill(process);
                        Phase::Killed
                    }
                },
                // One clock for command and signal together: a command that hangs must not double the grace.
                Phase::Command { runs, until } if now >= until || trees.leader_ended(runs) => {
                    trees.kill(runs);
                    trees.stop(process, None);
                    Phase::Signalled { until }
                }
                Phase::Signalled { until } if now >= until => match each.stronger.filter(|_| each.role == Role::Main) {
                    Some(stronger) => {
                        trees.signal_tree(process, stronger);
                        Phase::Stronger { until: now + AFTER_THEN }
                    }
                    None => {
                        trees.kill(process);
                        Phase::Killed
                    }
                },
                Phase::Stronger { until } if now >= until => {
                    trees.kill(process);
                    Phase::Killed
                }
                other => other,
            };
            self.phases.insert(process, moved);
            let until = match moved {
                Phase::Command { until, .. } | Phase::Signalled { until } | Phase::Stronger { until } => Some(until),
                Phase::Waiting | Phase::Killed => None,
            };
            next = [next, until].into_iter().flatten().min();
        }
        next
    }
    /// Whether SIGKILL has been sent to everything that is left.
    #[must_use]
    pub fn all_killed(&self, trees: &Trees) -> bool {
        trees
            .entries()
            .all(|entry| matches!(self.phases.get(&entry.process), Some(Phase::Killed)) || self.commands.contains(&entry.process))
    }
}
