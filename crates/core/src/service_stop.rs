//! How a service is stopped, for whatever reason: its turn in reverse dependency order, the escalation of signals, and the
//! proof that its process tree is empty. Owns the rules of the stop: siblings in parallel; a service is asked only when the
//! trees of all that need it, as they were started, are empty; a stronger signal and SIGKILL at the end of the grace; every
//! wait has a limit.
//!
//! A manual stop, a restart and the way out of the procfile are the same thing with another `NextState`: the reverse order
//! holds among the services that are stopping, and the others are left alone.

use std::time::Duration;

use devrun_model::not_ready_help::not_ready_help;
use devrun_model::{Failure, FailureKind, Kind, ServiceId, duration};

use super::action::Action;
use super::rolling::RollingTurn;
use super::service::{LiveProcess, NextState, Outstanding, Phase, Service, StopStage, TreeStop};
use super::shutdown::ESCALATION_TO_KILL;
use super::supervisor::{Mode, Supervisor};

/// How long an answer to SIGKILL or to a cancellation is awaited. The keeper reports survivors long before; this is for the
/// case that it says nothing at all, so that a stop ends in every world.
pub(super) const STOP_ANSWER_TIMEOUT: Duration = Duration::from_secs(30);

impl Supervisor {
    /// The services that stay up while one that they depend on is stopped by hand: each of the `stopped` that lives, with those.
    #[must_use]
    pub fn dependents_left(&self, stopped: &[ServiceId]) -> Vec<(ServiceId, Vec<ServiceId>)> {
        let lives = |service: &Service| service.live().is_some() && service.spec.kind == Kind::Service;
        let mut found = Vec::new();
        for on in stopped.iter().filter(|id| self.services.get(id).is_some_and(lives)) {
            let depends = |service: &Service| service.spec.depends_on.iter().any(|edge| edge.on == *on);
            let left = self.services.iter().filter(|(id, service)| !stopped.contains(id) && lives(service) && depends(service));
            let left: Vec<ServiceId> = left.map(|(id, _)| id.clone()).collect();
            if !left.is_empty() {
                found.push((on.clone(), left));
            }
        }
        found
    }

    /// From the first signal to the next step.
    fn grace(&self, service: &Service) -> Duration {
        let limit = match self.mode {
            Mode::Down { grace, .. } => grace,
            _ => service.next_grace,
        };
        limit.map_or(service.spec.stop.grace, |limit| service.spec.stop.grace.min(limit))
    }

    fn is_killing(&self) -> bool {
        matches!(self.mode, Mode::Down { killing: true, .. })
    }

    /// Ends a process that lives, now, out of turn: it has failed.
    pub(super) fn stop_immediately(&mut self, id: &ServiceId, next_state: NextState, out: &mut Vec<Action>) {
        if let NextState::Failed(failure) = &next_state {
            self.record_failure(id, failure.clone());
        }
        self.start_stopping(id, next_state, false, out);
    }

    /// Live → ending. Probing ends first: a server that shuts down answers strangely.
    pub(super) fn start_stopping(&mut self, id: &ServiceId, next_state: NextState, leader_gone: bool, out: &mut Vec<Action>) {
        let now = self.now;
        let Some(service) = self.services.get_mut(id) else { return };
        let Phase::Live(live) = &service.phase else { return };
        if live.ready_at().is_none() && matches!(next_state, NextState::BackingOff { .. }) {
            service.unready_ends.add(now);
        }
        if live.is_probed() {
            out.push(Action::StopProbes(id.clone(), service.generation));
        }
        service.pending_stop = None;
        service.phase = Phase::Stopping(TreeStop {
            next_state,
            process: Some(live.clone()),
            leader_gone,
            stage: StopStage::Queued,
            requested_at: now,
            due: now,
        });
        self.send_stop_signal(id, out);
    }

    /// The first signal; SIGKILL where everything is being killed.
    pub(super) fn send_stop_signal(&mut self, id: &ServiceId, out: &mut Vec<Action>) {
        let (now, killing) = (self.now, self.is_killing());
        let Some(grace) = self.services.get(id).map(|service| self.grace(service)) else { return };
        let Some(service) = self.services.get_mut(id) else { return };
        service.next_grace = None;
        let Phase::Stopping(stop) = &mut service.phase else { return };
        stop.requested_at = now;
        if killing {
            stop.stage = StopStage::Killing;
            stop.due = now + STOP_ANSWER_TIMEOUT;
            out.push(Action::KillTree(id.clone(), service.generation));
        } else {
            stop.stage = StopStage::Terminating;
            stop.due = now + grace;
            out.push(Action::StopTree(id.clone(), service.generation));
        }
    }

    /// Sends SIGKILL to a stopping service.
    pub(super) fn kill(&mut self, id: &ServiceId, out: &mut Vec<Action>) {
        let now = self.now;
        let Some(service) = self.services.get_mut(id) else { return };
        let generation = service.generation;
        if let Phase::Stopping(stop) = &mut service.phase {
            stop.stage = StopStage::Killing;
            stop.due = now + STOP_ANSWER_TIMEOUT;
            out.push(Action::KillTree(id.clone(), generation));
        }
    }

    /// Nothing proves that it is gone. Its tree stays open, so it is not started again; everything else goes on.
    pub(super) fn give_up(&mut self, id: &ServiceId, reason: String, out: &mut Vec<Action>) {
        let failure = Failure::new(FailureKind::Survivors, reason).help("devrun down --emergency");
        let removed = match self.services.get(id).map(|service| &service.phase) {
            Some(Phase::Stopping(stop)) => matches!(stop.next_state, NextState::Removed(_)),
            _ => false,
        };
        // Survivors count for optional services too: they are processes of ours that are left.
        self.failures.push((id.clone(), failure.clone()));
        let Some(service) = self.services.get_mut(id) else { return };
        service.pending_stop = None;
        service.phase = Phase::Failed { failure };
        if removed {
            out.push(Action::Message(id.clone(), "no longer in the procfile, yet it cannot be ended".to_owned()));
        }
    }

    /// Wants a service to end and to become `next_state`. What lives waits for its turn; what does not goes at once.
    pub(super) fn request_stop(&mut self, id: &ServiceId, next_state: NextState, out: &mut Vec<Action>) {
        let now = self.now;
        let Some(grace) = self.services.get(id).map(|service| self.grace(service)) else { return };
        let Some(service) = self.services.get_mut(id) else { return };
        let generation = service.generation;
        match &mut service.phase {
            Phase::Live(_) => match &mut service.pending_stop {
                Some(pending) => pending.merge(next_state),
                None => service.pending_stop = Some(next_state),
            },
            Phase::Stopping(stop) => stop.next_state.merge(next_state),
            Phase::Cancelling { next_state: old, .. } => old.merge(next_state),
            Phase::Spawning => {
                service.phase = Phase::Stopping(TreeStop {
                    next_state,
                    process: None,
                    leader_gone: false,
                    stage: StopStage::Queued,
                    requested_at: now,
                    // One that hangs before its exec, on a dead file system, is never reported as spawned.
                    due: now + grace,
                });
                if self.is_killing() {
                    self.kill(id, out);
                }
            }
            Phase::Failed { .. } if service.outstanding == Outstanding::Tree => {}
            Phase::Waiting
            | Phase::Initialising
            | Phase::Asleep { .. }
            | Phase::BackingOff { .. }
            | Phase::Stopped { .. }
            | Phase::Completed { .. }
            | Phase::Failed { .. }
            | Phase::Blocked { .. }
            | Phase::Skipped { .. } => {
                if service.outstanding == Outstanding::Nothing {
                    self.enter_next_state(id, next_state, out);
                } else {
                    service.phase = Phase::Cancelling { next_state, give_up_at: now + STOP_ANSWER_TIMEOUT };
                    out.push(Action::Cancel(id.clone(), generation));
                }
            }
        }
    }

    /// Stops the services whose turn has come. Returns true if there was one.
    pub(super) fn advance_stops(&mut self, out: &mut Vec<Action>) -> bool {
        self.refresh_index();
        if self.services.queued().is_empty() {
            return false;
        }
        let free = self.services.stoppable();
        let mut moved = false;
        self.rolling_resumes_at = None;
        for id in &free {
            // One after the other, as each stopped copy counts as starting for the next.
            match self.rolling_turn(id) {
                RollingTurn::Now => {
                    self.stop_in_turn(id, out);
                    moved = true;
                }
                RollingTurn::Wait => {}
                RollingTurn::At(at) => {
                    self.rolling_resumes_at = Some(self.rolling_resumes_at.map_or(at, |before| before.min(at)));
                }
                RollingTurn::Never(failed) => {
                    self.keep_previous(id, &failed, out);
                    moved = true;
                }
            }
        }
        // Definitions taken over while services ran may form a cycle, whose services are stopped together.
        if !moved && free.is_empty() && !self.services.has_stopping() {
            for id in self.services.cycles() {
                self.stop_in_turn(&id, out);
                moved = true;
            }
        }
        moved
    }

    fn stop_in_turn(&mut self, id: &ServiceId, out: &mut Vec<Action>) {
        match self.services.get_mut(id).and_then(|service| service.pending_stop.take()) {
            Some(next_state) if self.start_next_process(id, &next_state, out) => {}
            Some(next_state) => self.start_stopping(id, next_state, false, out),
            None => self.send_stop_signal(id, out),
        }
    }

    /// Acts on every deadline that has come.
    pub(super) fn apply_deadlines(&mut self, out: &mut Vec<Action>) {
        let now = self.now;
        self.refresh_index();
        for id in self.services.due(now) {
            // A service may pass several stages at once, where a grace is zero.
            for _ in 0..4 {
                if self.services.get(&id).and_then(Service::deadline).is_none_or(|at| at > now) {
                    break;
                }
                self.apply_deadline(&id, out);
            }
        }
        self.apply_start_deadlines(out);
    }

    fn apply_deadline(&mut self, id: &ServiceId, out: &mut Vec<Action>) {
        if self.apply_previous_deadline(id, out) {
            return;
        }
        let now = self.now;
        let Some(service) = self.services.get_mut(id) else { return };
        let generation = service.generation;
        match &mut service.phase {
            Phase::BackingOff { .. } => self.restart_by_policy(id),
            Phase::Cancelling { .. } => self.give_up(id, "no answer to its cancellation".to_owned(), out),
            Phase::Live(_) if service.use_check.is_some_and(|check| check.due <= now) => self.check_use(id, out),
            Phase::Live(live) => {
                let failure = timeout_failure(&service.spec, live);
                self.stop_immediately(id, NextState::Failed(failure), out);
            }
            Phase::Stopping(stop) => match (stop.stage, service.spec.stop.then) {
                (StopStage::Terminating, Some(signal)) => {
                    stop.stage = StopStage::Escalated;
                    stop.due = now + ESCALATION_TO_KILL;
                    out.push(Action::SignalTree(id.clone(), generation, signal));
                }
                (StopStage::Queued | StopStage::Terminating | StopStage::Escalated, _) => self.kill(id, out),
                (StopStage::Killing, _) => self.give_up(id, "no proof that its processes are gone".to_owned(), out),
            },
            _ => {}
        }
    }

    /// Stops everything in reverse order, then ends. A second request only shortens the graces.
    pub(super) fn down(&mut self, grace: Option<Duration>, out: &mut Vec<Action>) {
        match &mut self.mode {
            Mode::Finished => return,
            Mode::Down { grace: old, .. } => {
                *old = [*old, grace].into_iter().flatten().min();
                self.shorten_graces();
                return;
            }
            Mode::Up => self.mode = Mode::Down { grace, killing: false },
        }
        self.shorten_graces();
        let ids: Vec<ServiceId> = self.services.keys().cloned().collect();
        for id in ids {
            let Some(service) = self.services.get_mut(&id) else { continue };
            service.wanted = false;
            service.is_rolling = false;
            match &service.phase {
                // A blocked one may still be fetching; it stays blocked once that has ended.
                Phase::Blocked { root, reason } if service.outstanding == Outstanding::Fetch => {
                    let next_state = NextState::Blocked { root: root.clone(), reason: reason.clone() };
                    self.request_stop(&id, next_state, out);
                }
                _ if service.is_final() => {}
                _ => self.request_stop(&id, NextState::Stopped { reason: None }, out),
            }
        }
    }

    /// Graces of trees that were asked to stop before the stop of everything was shortened.
    fn shorten_graces(&mut self) {
        let Mode::Down { grace: Some(limit), .. } = self.mode else { return };
        let ids: Vec<ServiceId> = self.services.keys().cloned().collect();
        for id in ids {
            if let Some(Phase::Stopping(stop)) = self.services.get_mut(&id).map(|service| &mut service.phase)
                && stop.stage == StopStage::Terminating
            {
                stop.due = stop.due.min(stop.requested_at + limit);
            }
        }
    }

    /// SIGKILL for everything, within this step; the proof is still awaited.
    pub(super) fn kill_all(&mut self, out: &mut Vec<Action>) {
        if self.mode == Mode::Finished || self.is_killing() {
            return;
        }
        self.down(None, out);
        if let Mode::Down { killing, .. } = &mut self.mode {
            *killing = true;
        }
        for id in self.overlapping.clone() {
            self.kill_previous(&id, out);
        }
        let ids: Vec<ServiceId> = self.services.keys().cloned().collect();
        for id in ids {
            match self.services.get(&id).map(|service| &service.phase) {
                Some(Phase::Live(_)) => self.stop_in_turn(&id, out),
                Some(Phase::Stopping(stop)) if stop.stage != StopStage::Killing => self.kill(&id, out),
                _ => {}
            }
        }
    }

    /// The first signal stops in order, the second kills, whatever other stop requests came in between.
    pub(super) fn handle_interrupt(&mut self, out: &mut Vec<Action>) {
        self.interrupts = self.interrupts.saturating_add(1);
        if self.interrupts >= 2 {
            self.kill_all(out);
        } else {
            self.down(None, out);
        }
    }
}

/// The failure of a process that took too long: a task past its timeout, a service that was not ready `within`.
fn timeout_failure(spec: &devrun_model::ServiceSpec, live: &LiveProcess) -> Failure {
    if spec.kind == Kind::Task {
        let limit = spec.task_timeout().unwrap_or_default();
        return Failure::new(FailureKind::Task, format!("no exit after {}", duration::format(limit)))
            .help(format!("devrun logs {}; raise tasks.{}.timeout if it needs longer", spec.id, spec.service));
    }
    let within = spec.ready.as_ref().map(|ready| ready.within).unwrap_or_default();
    let answer = live.ready.as_ref().and_then(|ready| ready.answer()).unwrap_or("no probe has answered");
    Failure::new(FailureKind::NotReady, format!("not ready within {}: {answer}", duration::format(within))).help(not_ready_help(
        spec.service.as_str(),
        &format!("devrun logs {}", spec.id),
        answer,
    ))
}
