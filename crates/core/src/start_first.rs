//! A restart that starts the next process before the present one is stopped (`update.order = "start-first"`). The present one
//! stands back as [`PreviousProcess`] while the next one goes through the phases of every start. It serves, and is what is
//! shown, until the next one is ready; then it is stopped. A next one that does not come up is dropped, and the previous one
//! takes its place again, by the definition and the generation that it was started with.

use std::sync::Arc;

use devrun_model::keeper::ExitStatus;
use devrun_model::{Failure, FailureKind, ServiceId};

use super::action::Action;
use super::event::Generation;
use super::service::{NextState, Outstanding, Phase, PreviousProcess, StopStage};
use super::service_stop::STOP_ANSWER_TIMEOUT;
use super::shutdown::ESCALATION_TO_KILL;
use super::supervisor::{Mode, Supervisor};

impl Supervisor {
    /// Starts the next process of a service whose turn to restart has come, if that one can overlap with the present one. False:
    /// it is to be stopped first.
    pub(super) fn start_next_process(&mut self, id: &ServiceId, next_state: &NextState, out: &mut Vec<Action>) -> bool {
        let NextState::StartRequested { reason } = next_state else { return false };
        if self.mode != Mode::Up {
            return false;
        }
        let Some(service) = self.services.get_mut(id).filter(|service| service.can_start_first()) else { return false };
        let Phase::Live(process) = &service.phase else { return false };
        service.previous = Some(Box::new(PreviousProcess {
            spec: Arc::clone(&service.spec),
            generation: service.generation,
            process: process.clone(),
            restarts: service.restarts,
            retires_at: None,
            stop: None,
        }));
        // Its tree is the previous one's from here on.
        service.outstanding = Outstanding::Nothing;
        service.replacement_reason = Some(reason.clone());
        service.phase = Phase::Stopped { reason: None };
        self.overlapping.insert(id.clone());
        self.start(id, out);
        true
    }

    /// Stops previous processes whose next process is ready, and takes those back whose next process has ended. True if there was one.
    pub(super) fn advance_overlaps(&mut self, out: &mut Vec<Action>) -> bool {
        let mut moved = false;
        for id in self.overlapping.clone() {
            let Some(service) = self.services.get(&id) else { continue };
            let Some(previous) = service.serving_previous() else { continue };
            if previous.retires_at.is_some_and(|at| at <= self.now) && service.live().is_some() {
                self.retire_previous(&id, false, out);
                moved = true;
                continue;
            }
            let ended = match &service.phase {
                Phase::Stopped { reason } => NextState::Stopped { reason: *reason },
                Phase::Completed { note, .. } => NextState::Completed { note: note.clone() },
                Phase::Failed { failure } => NextState::Failed(failure.clone()),
                Phase::Blocked { root, reason } => NextState::Blocked { root: root.clone(), reason: reason.clone() },
                Phase::Skipped { because } => NextState::Failed(Failure::new(FailureKind::NotReady, because.clone())),
                Phase::BackingOff { until, attempt, why } => {
                    NextState::BackingOff { until: *until, attempt: *attempt, why: why.clone() }
                }
                _ => continue,
            };
            moved |= self.take_previous_back(&id, ended, out);
        }
        moved
    }

    /// The previous process takes the place of its next process, which has ended: as after a failed restart, or to be stopped
    /// itself. False when there is none that serves, or the next attempt is to follow.
    pub(super) fn take_previous_back(&mut self, id: &ServiceId, ended: NextState, out: &mut Vec<Action>) -> bool {
        let (is_up, now) = (self.mode == Mode::Up, self.now);
        let Some(service) = self.services.get_mut(id) else { return false };
        if service.serving_previous().is_none() || is_up && matches!(ended, NextState::StartRequested { .. }) {
            return false;
        }
        let Some(previous) = service.previous.take() else { return false };
        // The service runs by its previous process from here on; what is left of the next one belongs to the end of the run.
        if let NextState::Failed(failure) = &ended
            && failure.kind == FailureKind::Survivors
        {
            self.stuck.insert((id.clone(), service.generation), failure.clone());
        }
        let next = std::mem::replace(&mut service.spec, previous.spec);
        if service.next_spec.is_none() && service.spec != next {
            service.next_spec = Some(next);
        }
        service.generation = previous.generation;
        service.restarts = previous.restarts;
        service.crashes = 0;
        service.outstanding = Outstanding::Tree;
        service.phase = Phase::Live(previous.process);
        service.was_rolled = false;
        service.begin_use_checks(now);
        self.overlapping.remove(id);
        out.push(Action::RestorePrevious(id.clone(), previous.generation));
        let reason = match ended {
            NextState::Stopped { .. } | NextState::Removed(_) => {
                service.pending_stop = Some(ended);
                return true;
            }
            _ if !is_up => {
                service.pending_stop = Some(NextState::Stopped { reason: None });
                return true;
            }
            NextState::Failed(failure) => failure.reason,
            NextState::BackingOff { why, .. } => why,
            NextState::Blocked { reason, .. } => reason,
            NextState::Completed { .. } | NextState::StartRequested { .. } | NextState::Asleep => {
                "it exited before it was ready".to_owned()
            }
        };
        service.kept_previous = true;
        let text = format!("kept the previous version of {id}: {reason}");
        out.push(Action::Message(id.clone(), text.clone()));
        // What was recorded of the one that is gone is the reason of this one.
        self.failures.retain(|(failed, _)| failed != id);
        self.record_failure(id, Failure::new(FailureKind::NotReady, text).help(format!("devrun logs {id}")));
        true
    }

    /// Stops the previous process.
    pub(super) fn retire_previous(&mut self, id: &ServiceId, leader_gone: bool, out: &mut Vec<Action>) {
        let now = self.now;
        let Some(service) = self.services.get_mut(id) else { return };
        let limit = service.next_grace.take();
        let Some(previous) = service.previous.as_mut().filter(|previous| previous.stop.is_none()) else { return };
        previous.begin_stop(now, limit, leader_gone);
        if previous.process.is_probed() {
            out.push(Action::StopProbes(id.clone(), previous.generation));
        }
        let generation = previous.generation;
        if !leader_gone {
            // Who is shown is another process now, before the old one is signalled.
            self.publish_replacement(id, out);
        }
        out.push(Action::StopTree(id.clone(), generation));
    }

    /// Kills the previous process of a service.
    pub(super) fn kill_previous(&mut self, id: &ServiceId, out: &mut Vec<Action>) {
        let now = self.now;
        let Some(service) = self.services.get_mut(id) else { return };
        let Some(previous) = service.previous.as_mut() else { return };
        if previous.stop.is_none() {
            previous.begin_stop(now, None, false);
            if previous.process.is_probed() {
                out.push(Action::StopProbes(id.clone(), previous.generation));
            }
        }
        if let Some(stop) = &mut previous.stop {
            (stop.stage, stop.due) = (StopStage::Killing, now + STOP_ANSWER_TIMEOUT);
        }
        out.push(Action::KillTree(id.clone(), previous.generation));
    }

    /// The deadline of a previous process has come. False: it is not the one that was due.
    pub(super) fn apply_previous_deadline(&mut self, id: &ServiceId, out: &mut Vec<Action>) -> bool {
        let now = self.now;
        let Some(service) = self.services.get_mut(id) else { return false };
        let is_next_live = service.live().is_some();
        let Some(previous) = service.previous.as_mut().filter(|one| one.deadline().is_some_and(|at| at <= now)) else {
            return false;
        };
        let generation = previous.generation;
        let then = previous.spec.stop.then;
        let Some(stop) = &mut previous.stop else {
            if !is_next_live {
                // The next process has ended after it was ready.
                previous.retires_at = None;
                return true;
            }
            self.retire_previous(id, false, out);
            return true;
        };
        match (stop.stage, then) {
            (StopStage::Terminating, Some(signal)) => {
                (stop.stage, stop.due) = (StopStage::Escalated, now + ESCALATION_TO_KILL);
                out.push(Action::SignalTree(id.clone(), generation, signal));
            }
            (StopStage::Killing, _) => self.give_previous_up(id, "no proof that its processes are gone"),
            _ => {
                (stop.stage, stop.due) = (StopStage::Killing, now + STOP_ANSWER_TIMEOUT);
                out.push(Action::KillTree(id.clone(), generation));
            }
        }
        true
    }

    fn give_previous_up(&mut self, id: &ServiceId, reason: &str) {
        let failure =
            Failure::new(FailureKind::Survivors, format!("the previous process: {reason}")).help("devrun down --emergency");
        if let Some(generation) = self.previous_generation(id) {
            self.stuck.insert((id.clone(), generation), failure.clone());
        }
        self.failures.push((id.clone(), failure));
        self.forget_previous(id);
    }

    fn forget_previous(&mut self, id: &ServiceId) {
        if let Some(service) = self.services.get_mut(id) {
            service.previous = None;
        }
        self.overlapping.remove(id);
    }

    /// Whether an event of this generation is about a previous process.
    pub(super) fn is_previous(&self, id: &ServiceId, generation: Generation) -> bool {
        self.services.get(id).and_then(|service| service.previous.as_ref()).is_some_and(|one| one.generation == generation)
    }

    /// The leader of a previous process has ended.
    pub(super) fn handle_previous_exited(&mut self, id: &ServiceId, status: ExitStatus, out: &mut Vec<Action>) {
        let Some(service) = self.services.get_mut(id) else { return };
        let Some(previous) = &mut service.previous else { return };
        match &mut previous.stop {
            Some(stop) => stop.leader_gone = true,
            None => {
                out.push(Action::Message(id.clone(), format!("the previous process ended while the next one starts: {status}")));
                self.retire_previous(id, true, out);
            }
        }
    }

    /// Nothing is left of a previous process.
    pub(super) fn handle_previous_empty(&mut self, id: &ServiceId) {
        self.forget_previous(id);
    }

    /// A previous process cannot be ended.
    pub(super) fn handle_previous_survivors(&mut self, id: &ServiceId, left: &[(i32, String)]) {
        let names: Vec<String> = left.iter().map(|(pid, command)| format!("{pid} {command}")).collect();
        self.give_previous_up(id, &format!("still there after SIGKILL: {}", names.join(", ")));
    }

    /// The generation of the previous process of a service, while there is one.
    #[must_use]
    pub fn previous_generation(&self, id: &ServiceId) -> Option<Generation> {
        self.services.get(id).and_then(|service| service.previous.as_ref()).map(|previous| previous.generation)
    }
}
