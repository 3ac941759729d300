//! Is a start over, is the run over, and how did it go. Owns start requests with their clock, and outcomes.
//!
//! Every `Up`, `Start`, `Restart` and `Renew` is answered by exactly one `Settled`, in the order in which they were asked for, so
//! that who waits needs no number. A start is over when each of its services is ready (healthy once, running without a
//! probe, or done) or has ended for good. Its clock stands still while one of them waits for nothing but its fetch: a
//! download is no slowness of the stack. A timeout of zero is none.

use std::collections::BTreeSet;
use std::time::Duration;

use devrun_model::{Failure, FailureKind, ServiceId, duration};

use super::action::{Action, StartOutcome};
use super::service::{After, BY_HAND, Open, Phase, Service};
use super::supervisor::{Mode, Supervisor};
use super::tick::Tick;

/// A request that waits for its answer.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Start {
    pub targets: BTreeSet<ServiceId>,
    /// Those that were ready since it was asked for: several that crash and come back are never all up at one moment.
    pub met: BTreeSet<ServiceId>,
    /// Those that are neither ready nor have ended for good.
    pub pending: BTreeSet<ServiceId>,
    /// Names that mean nothing.
    pub unknown: Vec<ServiceId>,
    pub rollback: bool,
    /// Time that counted so far, and since when the clock runs.
    pub spent: Duration,
    pub since: Option<Tick>,
    /// Its time has run out; what was left is failed and on its way out.
    pub late: bool,
}

impl Start {
    pub fn deadline(&self, timeout: Duration) -> Option<Tick> {
        self.since.filter(|_| !timeout.is_zero()).map(|since| since + timeout.saturating_sub(self.spent))
    }
}

impl Supervisor {
    /// Fails whatever a start that ran out of time still waits for.
    pub(super) fn start_deadlines(&mut self, out: &mut Vec<Action>) {
        if self.mode != Mode::Up {
            // Everything is being stopped already.
            for start in &mut self.starts {
                start.since = None;
            }
            return;
        }
        let timeout = self.plan.timeout;
        let mut late = BTreeSet::new();
        for start in &mut self.starts {
            if start.deadline(timeout).is_some_and(|at| at <= self.now) {
                start.since = None;
                start.late = true;
                late.extend(start.targets.difference(&start.met).cloned());
            }
        }
        // Culprits come first: who waits for them is only a consequence, and the first failure is the one that is told.
        let (waiting, culprits): (Vec<_>, Vec<_>) = late
            .into_iter()
            .filter(|id| !self.is_settled_one(id))
            .partition(|id| self.units.get(id).is_some_and(|unit| matches!(unit.phase, Phase::Waiting)));
        let reasons: Vec<_> = culprits.into_iter().chain(waiting).map(|id| (self.what_it_waited_for(&id), id)).collect();
        for (what, id) in reasons {
            self.out_of_time(&id, &what, out);
        }
    }

    fn out_of_time(&mut self, id: &ServiceId, what: &str, out: &mut Vec<Action>) {
        let limit = duration::format(self.plan.timeout);
        let failure = Failure::new(FailureKind::StartTimeout, format!("not ready when the start's {limit} were over: {what}"))
            .help("give it longer with --timeout, or see: devrun logs");
        let Some(unit) = self.units.get_mut(id) else { return };
        match &unit.phase {
            Phase::Live(live) if unit.halt.is_some() && live.ready_at().is_some() => {
                // It was to be restarted and its turn never came; what runs is left running.
                unit.halt = None;
                self.fail(id, failure);
            }
            Phase::Live(_) if unit.halt.is_some() => {}
            Phase::Live(_) => self.end_live(id, After::Fail(failure), out),
            Phase::Ending(ending) if !ending.after.comes_back() => {}
            Phase::Cancelling { after, .. } if !after.comes_back() => {}
            _ => {
                self.fail(id, failure.clone());
                self.halt(id, After::Fail(failure), out);
            }
        }
    }

    fn what_it_waited_for(&self, id: &ServiceId) -> String {
        let Some(unit) = self.units.get(id) else { return String::new() };
        match &unit.phase {
            Phase::Waiting if unit.open == Open::Fetch && self.waiting_on(id).is_empty() => "still fetching".to_owned(),
            Phase::Initialising => "still initialising".to_owned(),
            Phase::Spawning => "still being spawned".to_owned(),
            Phase::Live(_) if unit.spec.kind == devrun_model::Kind::Task => "still running".to_owned(),
            _ => self.reason_of(id, unit).unwrap_or_else(|| "no probe has answered".to_owned()),
        }
    }

    /// Whether one service of a start is ready or has ended for good.
    fn is_settled_one(&self, id: &ServiceId) -> bool {
        self.units.get(id).is_none_or(|unit| unit.is_final() || unit.ready_since().is_some())
    }

    /// Whether every start that was asked for is over.
    #[must_use]
    pub fn is_settled(&self) -> bool {
        self.starts.is_empty()
    }

    /// Whether everything is being stopped, or is.
    #[must_use]
    pub fn is_stopping(&self) -> bool {
        self.mode != Mode::Up
    }

    /// Whether `Finish` was said.
    #[must_use]
    pub fn is_finished(&self) -> bool {
        self.mode == Mode::Finished
    }

    /// Draws the conclusions of a step: starts that are over, a stack that must go down, a run that is over. True when
    /// that made something move.
    pub(super) fn conclude(&mut self, out: &mut Vec<Action>) -> bool {
        self.look();
        self.run_clocks();
        let mut take_down = false;
        for id in std::mem::take(&mut self.units.to_settle) {
            let ready = self.units.get(&id).is_some_and(|unit| unit.ready_since().is_some());
            let settled = self.is_settled_one(&id);
            for start in self.starts.iter_mut().filter(|start| start.targets.contains(&id) && !start.met.contains(&id)) {
                if ready {
                    start.met.insert(id.clone());
                }
                if settled {
                    start.pending.remove(&id);
                } else {
                    start.pending.insert(id.clone());
                }
            }
        }
        while self.starts.first().is_some_and(|start| start.pending.is_empty()) {
            let start = self.starts.remove(0);
            let outcome = self.outcome(Some(&start));
            take_down |= start.rollback && !outcome.failures.is_empty();
            out.push(Action::Settled(outcome));
        }
        if self.mode == Mode::Up {
            take_down |= self.abort_on_failure && !self.failures.is_empty();
            take_down |= self.exit_code_from.as_ref().is_some_and(|id| self.has_ended(id));
            take_down |= self.is_idle();
            if take_down {
                self.down(None, out);
                return true;
            }
        } else if self.mode != Mode::Finished && self.units.all_over() {
            for start in std::mem::take(&mut self.starts) {
                out.push(Action::Settled(self.outcome(Some(&start))));
            }
            self.mode = Mode::Finished;
            out.push(Action::Finish(self.outcome(None)));
        }
        false
    }

    /// Counts the time of each start, unless one of its services waits for its fetch only.
    fn run_clocks(&mut self) {
        let now = self.now;
        let mut starts = std::mem::take(&mut self.starts);
        for start in &mut starts {
            let fetching = self.units.held().any(|id| start.targets.contains(id));
            if let Some(since) = start.since {
                start.spent += now.since(since);
            }
            start.since = (!fetching && !start.late && self.mode == Mode::Up).then_some(now);
        }
        self.starts = starts;
    }

    /// Whether nothing runs and nothing will: the run ends by itself.
    fn is_idle(&self) -> bool {
        self.begun && self.starts.is_empty() && self.units.all_at_rest()
    }

    /// Whether the service of `--exit-code-from` has ended for good.
    fn has_ended(&self, id: &ServiceId) -> bool {
        self.units.get(id).is_some_and(|unit| {
            matches!(unit.phase, Phase::Completed { .. } | Phase::Failed { .. } | Phase::Blocked { .. } | Phase::Skipped { .. })
        })
    }

    /// How a start, or the whole run, went.
    fn outcome(&self, start: Option<&Start>) -> StartOutcome {
        let concerns = |id: &ServiceId| start.is_none_or(|start| start.targets.contains(id));
        let mut failures: Vec<(ServiceId, Failure)> = self.failures.iter().filter(|(id, _)| concerns(id)).cloned().collect();
        let mut blocked = Vec::new();
        for (id, unit) in self.units.iter().filter(|(id, unit)| concerns(id) && !unit.spec.optional) {
            match &unit.phase {
                Phase::Blocked { root, reason } => {
                    blocked.push((id.clone(), root.clone()));
                    // The root may have failed in no start of its own (stopped by hand, ended too early), may be optional,
                    // or may lie outside this request; its failure belongs to the outcome all the same.
                    if !failures.iter().any(|(failed, _)| failed == root) {
                        let known = self.failures.iter().find(|(failed, _)| failed == root);
                        let failure = known.map(|(_, failure)| failure.clone());
                        failures.push((
                            root.clone(),
                            failure.unwrap_or_else(|| {
                                Failure::new(FailureKind::Service, reason.clone()).help(format!("devrun start {root}"))
                            }),
                        ));
                    }
                }
                Phase::Stopped { .. } if start.is_some() => {
                    failures.push((id.clone(), Failure::new(FailureKind::Cancelled, "stopped before the start was over")))
                }
                _ => {}
            }
        }
        for id in start.into_iter().flat_map(|start| &start.unknown) {
            let failure = Failure::new(FailureKind::Config, "is not in the procfile").help("devrun ps");
            failures.push((id.clone(), failure));
        }
        let code_from = self.exit_code_from.as_ref().and_then(|id| self.units.get(id)).and_then(|unit| {
            match (&unit.phase, unit.exit_of_this_generation()) {
                (_, Some(status)) => Some(status.shell_code()),
                (Phase::Completed { .. }, None) => Some(0),
                _ => None,
            }
        });
        StartOutcome { failures, blocked, code_from }
    }
}

/// Whether a service was stopped by hand after it ran; that keeps the supervisor, so that `start` finds it.
pub(super) fn stays_for_a_start(unit: &Service) -> bool {
    matches!(&unit.phase, Phase::Stopped { reason: Some(text) } if text == BY_HAND) && unit.generation > 0
}

/// Whether nothing of a service is awaited any more. What was given up on stays open, and is in the outcome.
pub(super) fn is_over(unit: &Service) -> bool {
    unit.is_final() && (unit.open == Open::Nothing || matches!(unit.phase, Phase::Failed { .. }))
}
