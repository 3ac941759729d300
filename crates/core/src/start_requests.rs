//! When a start or the whole run is over, and its outcome. Owns start requests with their clock, and outcomes.
//!
//! Every `Up`, `Start`, `Restart` and `RotateSecret` is answered by exactly one `StartFinished`, which says how many earlier ones are still
//! open, so that no request needs a number: none waits for services that another one has asked for. A start is over when each of its services is ready (healthy once, running
//! without a probe for a moment, or done) or has ended for good. Its clock stands still while one of them waits for nothing but its
//! fetch: a download is no slowness of the stack. A timeout of zero is none.

use super::start_request::StartRequest;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use devrun_model::{Failure, FailureKind, Kind, Launch, ServiceId, duration};

use super::action::{Action, StartOutcome};
use super::exit_failure::exit_failure;
use super::service::{NextState, Outstanding, Phase, Service};
use super::supervisor::{Mode, Supervisor};
use super::tick::Tick;

/// So many restarts of a service that never lived for a moment are not waited out.
const CRASH_LOOP: u32 = 3;

impl Supervisor {
    /// Fails whatever a start that ran out of time still waits for.
    pub(super) fn apply_start_deadlines(&mut self, out: &mut Vec<Action>) {
        if self.mode != Mode::Up {
            // Everything is being stopped already.
            for start in &mut self.starts {
                start.running_since = None;
            }
            return;
        }
        let mut timed_out: BTreeMap<ServiceId, Duration> = BTreeMap::new();
        for start in &mut self.starts {
            if start.deadline().is_some_and(|at| at <= self.now) {
                start.running_since = None;
                start.is_timed_out = true;
                timed_out.extend(start.targets.difference(&start.ready).map(|id| (id.clone(), start.timeout)));
            }
        }
        // Culprits come first: services that wait for them are only a consequence, and the first failure is the one reported.
        let (waiting, culprits): (Vec<_>, Vec<_>) = timed_out
            .into_iter()
            .filter(|(id, _)| !self.is_service_settled(id))
            .partition(|(id, _)| self.services.get(id).is_some_and(|service| matches!(service.phase, Phase::Waiting)));
        let reasons: Vec<_> =
            culprits.into_iter().chain(waiting).map(|(id, limit)| (self.describe_wait(&id), id, limit)).collect();
        for (what, id, limit) in reasons {
            self.time_out(&id, limit, &what, out);
        }
    }

    fn time_out(&mut self, id: &ServiceId, limit: Duration, what: &str, out: &mut Vec<Action>) {
        let limit = duration::format(limit);
        let failure = Failure::new(FailureKind::StartTimeout, format!("not ready when the start's {limit} were over: {what}"))
            .help("give it longer with --timeout, or see: devrun logs");
        let Some(service) = self.services.get_mut(id) else { return };
        match &service.phase {
            Phase::Live(live) if service.pending_stop.is_some() && live.ready_at().is_some() => {
                // It was to be restarted and its turn never came; what runs is left running.
                service.pending_stop = None;
                self.record_failure(id, failure);
            }
            Phase::Live(_) if service.pending_stop.is_some() => {}
            Phase::Live(_) => self.stop_immediately(id, NextState::Failed(failure), out),
            Phase::Stopping(stop) if !stop.next_state.comes_back() => {}
            Phase::Cancelling { next_state, .. } if !next_state.comes_back() => {}
            _ => {
                self.record_failure(id, failure.clone());
                self.request_stop(id, NextState::Failed(failure), out);
            }
        }
    }

    fn describe_wait(&self, id: &ServiceId) -> String {
        let Some(service) = self.services.get(id) else { return String::new() };
        match &service.phase {
            Phase::Waiting if service.outstanding == Outstanding::Fetch && self.waiting_on(id).is_empty() => {
                "still fetching".to_owned()
            }
            Phase::Initialising => "still initialising".to_owned(),
            Phase::Spawning => "still being spawned".to_owned(),
            Phase::Live(_) if service.spec.kind == devrun_model::Kind::Task => "still running".to_owned(),
            _ => self.reason_of(id, service).unwrap_or_else(|| "no probe has answered".to_owned()),
        }
    }

    /// Whether one service of a start is ready or has ended for good.
    fn is_service_settled(&self, id: &ServiceId) -> bool {
        self.services.get(id).is_none_or(|service| service.is_final() || service.ready_since().is_some())
    }

    /// Why a service that its policy starts again and again is not waited for: without a probe it never lived for a moment, several
    /// times; with one it ended before it was ready so often that this is a crash loop. One that crashes a few times, as its database
    /// is not there yet, is waited for.
    fn crash_loop(&self, id: &ServiceId) -> Option<Failure> {
        let service = self.services.get(id)?;
        if self.proof_of_life.is_zero() || service.spec.kind != Kind::Service {
            return None;
        }
        let when = match &service.spec.ready {
            None if service.restarts >= CRASH_LOOP => "within moments",
            Some(_) if service.unready_ends.is_loop() => "before it was ready",
            _ => return None,
        };
        let Phase::BackingOff { why, .. } = &service.phase else { return None };
        let reason = format!("{why} {when}, also after {} restarts", service.restarts);
        let (_, status) = service.exit?;
        Some(Failure { reason, ..exit_failure(&service.spec, status) })
    }

    /// The service in a crash loop that another one waits for, by any chain of dependencies.
    fn held_up_by<'a>(&self, start: &'a StartRequest, id: &ServiceId) -> Option<&'a ServiceId> {
        let (mut seen, mut open) = (BTreeSet::from([id.clone()]), vec![id.clone()]);
        while let Some(next) = open.pop() {
            for unmet in self.waiting_on(&next) {
                if let Some((root, _)) = start.crash_loops.get_key_value(&unmet.on) {
                    return Some(root);
                }
                if seen.insert(unmet.on.clone()) {
                    open.push(unmet.on);
                }
            }
        }
        None
    }

    /// Whether nothing of a start is waited for: what waits for a crash loop does not get nearer to its start.
    fn is_over(&self, start: &StartRequest) -> bool {
        start.pending.is_empty()
            || !start.crash_loops.is_empty() && start.pending.iter().all(|id| self.held_up_by(start, id).is_some())
    }

    /// When a service counts as ready where a start is answered.
    pub(super) fn proven_at(&self, id: &ServiceId) -> Option<Tick> {
        let service = self.services.get(id)?;
        let since = service.ready_since()?;
        // Without a leader it is not known to live.
        if matches!(&service.phase, Phase::Live(live) if !live.has_leader()) {
            return None;
        }
        let is_probed = service.spec.ready.is_some() || service.spec.kind == Kind::Task;
        let is_ours = !matches!(service.spec.launch, Launch::External { .. });
        Some(if is_probed || !is_ours { since } else { since + self.proof_of_life })
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

    /// Whether `Shutdown` was said.
    #[must_use]
    pub fn is_finished(&self) -> bool {
        self.mode == Mode::Finished
    }

    /// Draws the conclusions of a step: starts that are over, a stack that must go down, a run that is over. True when
    /// that made something move.
    pub(super) fn conclude(&mut self, out: &mut Vec<Action>) -> bool {
        self.refresh_index();
        self.update_clocks();
        let mut take_down = false;
        let now = self.now;
        self.services.to_settle.extend(self.unproven.take_due(now));
        for id in std::mem::take(&mut self.services.to_settle) {
            let proven_at = self.proven_at(&id);
            match proven_at {
                Some(at) if at > now && !self.starts.is_empty() => self.unproven.insert(&id, at),
                _ => self.unproven.remove(&id),
            }
            let ready = proven_at.is_some_and(|at| at <= now);
            let crash_loop = if ready { None } else { self.crash_loop(&id) };
            let settled = self.services.get(&id).is_none_or(Service::is_final) || ready || crash_loop.is_some();
            for start in self.starts.iter_mut().filter(|start| start.targets.contains(&id) && !start.ready.contains(&id)) {
                if ready {
                    start.ready.insert(id.clone());
                }
                if settled {
                    start.pending.remove(&id);
                } else {
                    start.pending.insert(id.clone());
                }
                match &crash_loop {
                    Some(failure) => _ = start.crash_loops.insert(id.clone(), failure.clone()),
                    None => _ = start.crash_loops.remove(&id),
                }
            }
        }
        while let Some(position) = self.starts.iter().position(|start| self.is_over(start)) {
            let start = self.starts.remove(position);
            let outcome = StartOutcome { position, ..self.outcome(Some(&start)) };
            take_down |= start.rollback && !outcome.failures.is_empty();
            out.push(Action::StartFinished(outcome));
        }
        if self.mode == Mode::Up {
            take_down |= self.has_reason_to_end() || self.is_idle();
            if take_down {
                self.down(None, out);
                return true;
            }
        } else if self.mode != Mode::Finished && self.services.all_finished() {
            for start in std::mem::take(&mut self.starts) {
                out.push(Action::StartFinished(self.outcome(Some(&start))));
            }
            self.mode = Mode::Finished;
            out.push(Action::Shutdown(self.outcome(None)));
        }
        false
    }

    /// Counts the time of each start, unless one of its services waits for its fetch only.
    fn update_clocks(&mut self) {
        let now = self.now;
        let mut starts = std::mem::take(&mut self.starts);
        for start in &mut starts {
            let fetching = self.services.awaiting_fetch().any(|id| start.targets.contains(id));
            if let Some(since) = start.running_since {
                start.elapsed += now.since(since);
            }
            start.running_since = (!fetching && !start.is_timed_out && self.mode == Mode::Up).then_some(now);
        }
        self.starts = starts;
    }

    /// Whether nothing runs and nothing will: the run ends by itself.
    fn is_idle(&self) -> bool {
        self.has_start_request && self.starts.is_empty() && self.services.none_active()
    }

    /// Whether a failure or an end that the run was to end with has come.
    pub(super) fn has_reason_to_end(&self) -> bool {
        self.abort_on_failure && !self.failures.is_empty() || self.exit_code_from.as_ref().is_some_and(|id| self.has_ended(id))
    }

    /// Whether the service of `--exit-code-from` has ended for good.
    fn has_ended(&self, id: &ServiceId) -> bool {
        self.services.get(id).is_some_and(|service| {
            matches!(
                service.phase,
                Phase::Completed { .. } | Phase::Failed { .. } | Phase::Blocked { .. } | Phase::Skipped { .. }
            )
        })
    }

    /// How a start, or the whole run, went.
    fn outcome(&self, start: Option<&StartRequest>) -> StartOutcome {
        let concerns = |id: &ServiceId| start.is_none_or(|start| start.targets.contains(id));
        let mut failures: Vec<(ServiceId, Failure)> = self.failures.iter().filter(|(id, _)| concerns(id)).cloned().collect();
        // A start of its own does not make a process go away.
        for ((id, _), failure) in self.stuck.iter().filter(|_| start.is_none()) {
            if !failures.iter().any(|(failed, known)| failed == id && known == failure) {
                failures.push((id.clone(), failure.clone()));
            }
        }
        let mut blocked = Vec::new();
        for (id, service) in self.services.iter().filter(|(id, service)| concerns(id) && !service.spec.optional) {
            match &service.phase {
                Phase::Blocked { root, reason } => {
                    blocked.push((id.clone(), root.clone()));
                    // The root may have failed in no start of its own (stopped manually, ended too early), may be optional, or
                    // may lie outside this request; its failure belongs to the outcome all the same.
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
        let is_optional = |id: &ServiceId| self.services.get(id).is_some_and(|service| service.spec.optional);
        for start in start.into_iter().filter(|start| !start.crash_loops.is_empty()) {
            for id in start.pending.iter().filter(|id| !is_optional(id)) {
                blocked.extend(self.held_up_by(start, id).map(|root| (id.clone(), root.clone())));
            }
        }
        for (id, failure) in start.into_iter().flat_map(|start| &start.crash_loops) {
            let is_harmless = is_optional(id) && !blocked.iter().any(|(_, root)| root == id);
            if !is_harmless && !failures.iter().any(|(failed, _)| failed == id) {
                failures.push((id.clone(), failure.clone()));
            }
        }
        for id in start.into_iter().flat_map(|start| &start.unknown) {
            let failure = Failure::new(FailureKind::Config, "is not in the procfile").help("devrun ps");
            failures.push((id.clone(), failure));
        }
        let code_from = self.exit_code_from.as_ref().and_then(|id| self.services.get(id)).and_then(|service| {
            match (&service.phase, service.current_exit()) {
                (_, Some(status)) => Some(status.shell_code()),
                (Phase::Completed { .. }, None) => Some(0),
                _ => None,
            }
        });
        StartOutcome { failures, blocked, code_from, position: 0 }
    }
}
