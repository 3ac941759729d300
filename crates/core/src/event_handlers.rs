//! Events of one service: fetched, initialised, spawned, probed, ended. Everything here is about one service; what it makes
//! possible for others is found by `advance` afterwards.

use devrun_model::keeper::ExitStatus;
use devrun_model::{Failure, FailureKind, Kind, ServiceId, duration};

use super::action::Action;
use super::event::{Event, Generation};
use super::exit_failure::exit_failure;
use super::restart::{self, RestartDecision};
use super::service::{LiveProcess, NextState, Outstanding, Phase, StopStage, TreeStop};
use super::service_stop::STOP_ANSWER_TIMEOUT;
use super::supervisor::{Mode, Supervisor};

impl Supervisor {
    /// Dispatches an event; one of an old generation or of an unknown service is dropped.
    pub(super) fn handle(&mut self, event: Event, out: &mut Vec<Action>) {
        match event {
            Event::Command(command) => self.handle_command(command, out),
            Event::Interrupted => self.handle_interrupt(out),
            // Deadlines are looked at after every event.
            Event::Timer => {}
            Event::Fetched(id, generation) if self.is_current(&id, generation) => self.handle_fetched(&id, out),
            Event::FetchFailed(id, generation, failure) if self.is_current(&id, generation) => {
                self.handle_fetch_failed(&id, failure, out);
            }
            Event::InitDone(id, generation) if self.is_current(&id, generation) => self.handle_init_done(&id, out),
            Event::AlreadyDone(id, generation, when) if self.is_current(&id, generation) => {
                self.handle_already_done(&id, when, out)
            }
            Event::InitFailed(id, generation, failure) if self.is_current(&id, generation) => {
                self.handle_init_failed(&id, failure, out);
            }
            Event::Spawned(id, generation, pid) if self.is_current(&id, generation) => self.handle_spawned(&id, pid, out),
            Event::SpawnFailed(id, generation, failure) if self.is_current(&id, generation) => {
                self.handle_spawn_failed(&id, failure, out);
            }
            Event::ExitHeld(id, generation) if self.is_current(&id, generation) => self.handle_exit_held(&id),
            Event::Exited(id, generation, status, failure) if self.is_current(&id, generation) => {
                self.handle_exited(&id, status, failure, out);
            }
            Event::TreeEmpty(id, generation) if self.is_current(&id, generation) => self.handle_tree_empty(&id, out),
            Event::Survived(id, generation, left) if self.is_current(&id, generation) => self.handle_survivors(&id, &left, out),
            Event::ProbePassed(id, generation, note) if self.is_current(&id, generation) => {
                self.handle_probe_passed(&id, note, out);
            }
            Event::ProbeFailed(id, generation, answer, fatal) if self.is_current(&id, generation) => {
                self.handle_probe_failed(&id, answer, fatal, out);
            }
            Event::LivenessPassed(id, generation) if self.is_current(&id, generation) => {
                let now = self.now;
                if let Some(Phase::Live(LiveProcess { alive: Some(alive), .. })) =
                    self.services.get_mut(&id).map(|service| &mut service.phase)
                {
                    alive.passed(now);
                }
            }
            Event::LivenessFailed(id, generation, answer) if self.is_current(&id, generation) => {
                self.handle_liveness_failed(&id, answer, out);
            }
            Event::Exited(id, generation, status, _) if self.is_previous(&id, generation) => {
                self.handle_previous_exited(&id, status, out);
            }
            Event::TreeEmpty(id, generation) if self.is_previous(&id, generation) => self.handle_previous_empty(&id),
            Event::Survived(id, generation, left) if self.is_previous(&id, generation) => {
                self.handle_previous_survivors(&id, &left);
            }
            Event::TreeEmpty(id, generation) => {
                self.stuck.remove(&(id, generation));
            }
            Event::Demanded(id, generation) if self.is_current(&id, generation) => self.handle_demanded(&id, out),
            Event::ListenFailed(id, generation, failure) if self.is_current(&id, generation) => {
                self.handle_listen_failed(&id, failure, out);
            }
            Event::LastUse(id, generation, age) if self.is_current(&id, generation) => self.handle_last_use(&id, age, out),
            Event::FileChanged(id, path) => self.handle_file_changed(&id, &path, out),
            Event::Fetched(..)
            | Event::FetchFailed(..)
            | Event::InitDone(..)
            | Event::AlreadyDone(..)
            | Event::InitFailed(..)
            | Event::Spawned(..)
            | Event::SpawnFailed(..)
            | Event::ExitHeld(..)
            | Event::Exited(..)
            | Event::Survived(..)
            | Event::ProbePassed(..)
            | Event::ProbeFailed(..)
            | Event::LivenessPassed(..)
            | Event::Demanded(..)
            | Event::ListenFailed(..)
            | Event::LastUse(..)
            | Event::LivenessFailed(..) => {}
        }
    }

    fn is_current(&self, id: &ServiceId, generation: Generation) -> bool {
        self.services.get(id).is_some_and(|service| service.generation == generation)
    }

    fn handle_fetched(&mut self, id: &ServiceId, out: &mut Vec<Action>) {
        let Some(service) = self.services.get_mut(id).filter(|service| service.outstanding == Outstanding::Fetch) else { return };
        service.outstanding = Outstanding::Nothing;
        let falls_asleep = service.sleeps_at_start() && matches!(service.phase, Phase::Waiting | Phase::Blocked { .. });
        if !self.finish_cancelling(id, out) && falls_asleep && self.mode == Mode::Up {
            self.fall_asleep(id, out);
        }
    }

    fn handle_fetch_failed(&mut self, id: &ServiceId, failure: Failure, out: &mut Vec<Action>) {
        let Some(service) = self.services.get_mut(id).filter(|service| service.outstanding == Outstanding::Fetch) else { return };
        service.outstanding = Outstanding::Nothing;
        if self.finish_cancelling(id, out) {
            return;
        }
        let Some(service) = self.services.get_mut(id) else { return };
        if !matches!(service.phase, Phase::Waiting | Phase::Blocked { .. }) || self.mode != Mode::Up {
            return;
        }
        if service.spec.optional && failure.kind == FailureKind::Binary {
            service.phase = Phase::Skipped { because: failure.reason };
        } else {
            service.phase = Phase::Failed { failure: failure.clone() };
            self.record_failure(id, failure);
        }
    }

    /// What was cancelled has answered. False when nothing was.
    fn finish_cancelling(&mut self, id: &ServiceId, out: &mut Vec<Action>) -> bool {
        match self.services.get(id).map(|service| &service.phase) {
            Some(Phase::Cancelling { next_state, .. }) => {
                let next_state = next_state.clone();
                self.enter_next_state(id, next_state, out);
                true
            }
            _ => false,
        }
    }

    fn handle_init_done(&mut self, id: &ServiceId, out: &mut Vec<Action>) {
        let Some(service) = self.services.get_mut(id).filter(|service| service.outstanding == Outstanding::Init) else { return };
        service.outstanding = Outstanding::Nothing;
        if self.finish_cancelling(id, out) {
            return;
        }
        if let Some(service) = self.services.get_mut(id).filter(|service| service.phase == Phase::Initialising) {
            service.phase = Phase::Spawning;
            service.outstanding = Outstanding::Tree;
            out.push(Action::Spawn(id.clone(), service.generation));
        }
    }

    fn handle_already_done(&mut self, id: &ServiceId, when: String, out: &mut Vec<Action>) {
        if self.services.get(id).is_some_and(|service| service.spec.kind == Kind::Service) {
            // Only a task can be done before it ran.
            self.handle_init_done(id, out);
            return;
        }
        let now = self.now;
        let Some(service) = self.services.get_mut(id).filter(|service| service.outstanding == Outstanding::Init) else { return };
        service.outstanding = Outstanding::Nothing;
        if self.finish_cancelling(id, out) {
            return;
        }
        if let Some(service) = self.services.get_mut(id).filter(|service| service.phase == Phase::Initialising) {
            service.phase = Phase::Completed { at: now, note: Some(when) };
        }
    }

    fn handle_init_failed(&mut self, id: &ServiceId, failure: Failure, out: &mut Vec<Action>) {
        let Some(service) = self.services.get_mut(id).filter(|service| service.outstanding == Outstanding::Init) else { return };
        service.outstanding = Outstanding::Nothing;
        if !self.finish_cancelling(id, out) {
            self.handle_start_failure(id, failure, out);
        }
    }

    fn handle_spawn_failed(&mut self, id: &ServiceId, failure: Failure, out: &mut Vec<Action>) {
        let Some(service) = self.services.get_mut(id).filter(|service| service.outstanding == Outstanding::Tree) else { return };
        match &service.phase {
            Phase::Spawning => {
                service.outstanding = Outstanding::Nothing;
                self.handle_start_failure(id, failure, out);
            }
            Phase::Stopping(stop) if stop.process.is_none() => {
                let next_state = stop.next_state.clone();
                service.outstanding = Outstanding::Nothing;
                self.enter_next_state(id, next_state, out);
            }
            _ => {}
        }
    }

    /// Init or spawn failed. A first start fails at once, as waiting seldom helps and a user is watching; a restart by policy
    /// goes on by that policy, as `always` must not give up because a port was still in use.
    fn handle_start_failure(&mut self, id: &ServiceId, failure: Failure, out: &mut Vec<Action>) {
        let Some(service) = self.services.get(id) else { return };
        let transient = matches!(failure.kind, FailureKind::Service | FailureKind::Task | FailureKind::PortTaken);
        let now = self.now;
        let next_state = if service.restarts > 0 && transient {
            if let Some(service) = self.services.get_mut(id) {
                service.unready_ends.add(now);
            }
            self.next_state_after_crash(id, failure, std::time::Duration::ZERO)
        } else {
            self.record_failure(id, failure.clone());
            NextState::Failed(failure)
        };
        self.enter_next_state(id, next_state, out);
    }

    /// What a crash leads to by the policy; a failure is written down at once.
    pub(super) fn next_state_after_crash(&mut self, id: &ServiceId, failure: Failure, ran: std::time::Duration) -> NextState {
        let (now, seed) = (self.now, self.plan.seed);
        let Some(service) = self.services.get_mut(id) else { return NextState::Stopped { reason: None } };
        match restart::decide(&service.spec, false, ran, service.crashes) {
            RestartDecision::Restart { attempt } => {
                service.crashes = attempt;
                let wait = restart::delay(&service.spec.backoff, attempt, seed, id);
                NextState::BackingOff { until: now + wait, attempt, why: failure.reason }
            }
            RestartDecision::NoRestart => {
                self.record_failure(id, failure.clone());
                NextState::Failed(failure)
            }
            RestartDecision::LimitReached { restarts } => {
                let times = if restarts == 1 { "restart" } else { "restarts" };
                let mut failure = failure;
                if restarts > 0 {
                    failure.reason = format!("{}; given up after {restarts} {times} in a row", failure.reason);
                }
                self.record_failure(id, failure.clone());
                NextState::Failed(failure)
            }
        }
    }

    fn handle_spawned(&mut self, id: &ServiceId, pid: Option<i32>, out: &mut Vec<Action>) {
        let (now, proof_of_life) = (self.now, self.proof_of_life);
        let Some(service) = self.services.get_mut(id) else { return };
        let live = LiveProcess::new(&service.spec, pid, now);
        match &mut service.phase {
            Phase::Spawning => {
                if live.is_probed() {
                    out.push(Action::StartProbes(id.clone(), service.generation));
                }
                let is_probed = live.ready.is_some();
                service.phase = Phase::Live(live);
                // Of a process that has crashed nothing counts.
                service.use_check = None;
                if !is_probed {
                    service.begin_use_checks(now);
                }
                if let Some(previous) = service.previous.as_mut().filter(|_| !is_probed) {
                    previous.retires_at = Some(now + proof_of_life);
                }
            }
            // A stop came while the spawn was on its way.
            Phase::Stopping(stop) if stop.process.is_none() && !stop.leader_gone => {
                stop.process = Some(live);
                if stop.stage == StopStage::Killing {
                    stop.due = now + STOP_ANSWER_TIMEOUT;
                    out.push(Action::KillTree(id.clone(), service.generation));
                }
            }
            _ => {}
        }
    }

    fn handle_exit_held(&mut self, id: &ServiceId) {
        if let Some(Phase::Live(live)) = self.services.get_mut(id).map(|service| &mut service.phase) {
            live.is_exit_held = true;
        }
    }

    fn handle_exited(&mut self, id: &ServiceId, status: ExitStatus, failure: Option<Failure>, out: &mut Vec<Action>) {
        if self.services.get(id).is_some_and(|service| service.phase == Phase::Spawning) {
            // The exit arrived before the spawn event.
            self.handle_spawned(id, None, out);
        }
        let Some(service) = self.services.get_mut(id) else { return };
        let generation = service.generation;
        match &mut service.phase {
            Phase::Live(live) => {
                let live = live.clone();
                service.exit = Some((generation, status));
                let next_state = match service.pending_stop.take() {
                    Some(next_state) => next_state,
                    None => self.next_state_after_exit(id, &live, status, failure),
                };
                self.report_crash_to_dependents(id, &next_state, out);
                self.start_stopping(id, next_state, true, out);
            }
            Phase::Stopping(stop) if !stop.leader_gone => {
                stop.leader_gone = true;
                service.exit = Some((generation, status));
            }
            _ => {}
        }
    }

    /// What follows the exit of a leader that was not being stopped.
    fn next_state_after_exit(
        &mut self,
        id: &ServiceId,
        live: &LiveProcess,
        status: ExitStatus,
        failure: Option<Failure>,
    ) -> NextState {
        let (now, seed) = (self.now, self.plan.seed);
        let Some(service) = self.services.get_mut(id) else { return NextState::Stopped { reason: None } };
        let ran = now.since(live.spawned_at);
        if status.success() && failure.is_none() {
            return match restart::decide(&service.spec, true, ran, service.crashes) {
                RestartDecision::Restart { attempt } => {
                    service.crashes = attempt;
                    let wait = restart::delay(&service.spec.backoff, attempt, seed, id);
                    NextState::BackingOff { until: now + wait, attempt, why: status.to_string() }
                }
                // A server that ends by itself when it has nothing to do is started by its next connection.
                RestartDecision::NoRestart | RestartDecision::LimitReached { .. } if service.spec.on_demand.is_some() => {
                    NextState::Asleep
                }
                RestartDecision::NoRestart | RestartDecision::LimitReached { .. } => NextState::Completed { note: None },
            };
        }
        let failure = failure.unwrap_or_else(|| exit_failure(&service.spec, status));
        // Whatever its policy: it would do the same again. After a long run it has not just been started that way.
        if failure.kind == FailureKind::Background && ran < service.spec.backoff.reset {
            self.record_failure(id, failure.clone());
            return NextState::Failed(failure);
        }
        self.next_state_after_crash(id, failure, ran)
    }

    /// A crash while others wait is said at once, with what happens next.
    fn report_crash_to_dependents(&self, id: &ServiceId, next_state: &NextState, out: &mut Vec<Action>) {
        let waits = |id: &ServiceId| self.services.get(id).is_some_and(|service| matches!(service.phase, Phase::Waiting));
        let waited_for = self.services.dependents(id).any(waits);
        if !waited_for {
            return;
        }
        let text = match next_state {
            NextState::BackingOff { attempt: 0, why, .. } => format!("{why}; restarts at once, others wait for it"),
            NextState::BackingOff { until, attempt, why } => {
                let wait = duration::human(until.since(self.now));
                format!("{why}; restart {attempt} in {wait}, others wait for it")
            }
            NextState::Failed(failure) => format!("{}; the services that depend on it cannot start", failure.reason),
            _ => return,
        };
        out.push(Action::Message(id.clone(), text));
    }

    fn handle_tree_empty(&mut self, id: &ServiceId, out: &mut Vec<Action>) {
        let Some(service) = self.services.get(id).filter(|service| service.outstanding == Outstanding::Tree) else { return };
        if matches!(service.phase, Phase::Live(_) | Phase::Spawning) {
            // Nothing is left of it, so its leader has exited too, with an unknown status.
            self.handle_exited(id, ExitStatus::Unknown, None, out);
        }
        let Some(service) = self.services.get_mut(id) else { return };
        service.outstanding = Outstanding::Nothing;
        if let Phase::Stopping(TreeStop { next_state, .. }) = &service.phase {
            let next_state = next_state.clone();
            self.enter_next_state(id, next_state, out);
        }
    }

    fn handle_survivors(&mut self, id: &ServiceId, left: &[(i32, String)], out: &mut Vec<Action>) {
        let Some(service) = self.services.get(id).filter(|service| service.outstanding == Outstanding::Tree) else { return };
        if matches!(service.phase, Phase::Stopping(_)) {
            let names: Vec<String> = left.iter().map(|(pid, command)| format!("{pid} {command}")).collect();
            self.give_up(id, format!("still there after SIGKILL: {}", names.join(", ")), out);
        }
    }

    fn handle_probe_passed(&mut self, id: &ServiceId, note: Option<String>, out: &mut Vec<Action>) {
        let now = self.now;
        let Some(service) = self.services.get_mut(id) else { return };
        let Phase::Live(LiveProcess { ready: Some(ready), .. }) = &mut service.phase else { return };
        let is_first = ready.passed(now);
        let is_ready = ready.first_pass().is_some();
        if is_first {
            service.unready_ends.clear();
            service.begin_use_checks(now);
        }
        if let Some(previous) = service.previous.as_mut().filter(|_| is_ready) {
            previous.retires_at.get_or_insert(now);
        }
        if let Some(note) = note.filter(|_| is_first) {
            out.push(Action::Message(id.clone(), note));
        }
    }

    fn handle_probe_failed(&mut self, id: &ServiceId, answer: String, fatal: Option<Failure>, out: &mut Vec<Action>) {
        let now = self.now;
        let Some(service) = self.services.get_mut(id) else { return };
        let on_unhealthy = service.spec.on_unhealthy;
        let is_leaving = service.pending_stop.is_some();
        let (Phase::Live(live), Some(spec)) = (&mut service.phase, &service.spec.ready) else { return };
        let spawned = live.spawned_at;
        let Some(ready) = &mut live.ready else { return };
        let became_unhealthy = ready.failed(spec, now, answer.clone());
        // A service that is stopping is not judged any more.
        if is_leaving {
            return;
        }
        // A failure that waiting cannot fix ends the start. A server that was healthy before is not ended for it.
        if let Some(failure) = fatal.filter(|_| ready.first_pass().is_none()) {
            self.stop_immediately(id, NextState::Failed(failure), out);
            return;
        }
        if !became_unhealthy {
            return;
        }
        let failure = Failure::new(FailureKind::Service, format!("unhealthy: {answer}")).help(format!("devrun inspect {id}"));
        match on_unhealthy {
            devrun_model::service::OnUnhealthy::Ignore => {}
            devrun_model::service::OnUnhealthy::Restart => {
                let next_state = self.next_state_after_crash(id, failure, now.since(spawned));
                self.stop_immediately(id, next_state, out);
            }
            devrun_model::service::OnUnhealthy::Stop => self.stop_immediately(id, NextState::Failed(failure), out),
        }
    }

    fn handle_liveness_failed(&mut self, id: &ServiceId, answer: String, out: &mut Vec<Action>) {
        let now = self.now;
        let Some(service) = self.services.get_mut(id).filter(|service| service.pending_stop.is_none()) else { return };
        let (Phase::Live(live), Some(spec)) = (&mut service.phase, &service.spec.alive) else { return };
        let ran = now.since(live.spawned_at);
        if live.alive.as_mut().is_some_and(|alive| alive.failed(spec, now, answer.clone())) {
            let failure = Failure::new(FailureKind::Service, format!("not alive: {answer}")).help(format!("devrun inspect {id}"));
            let next_state = self.next_state_after_crash(id, failure, ran);
            self.stop_immediately(id, next_state, out);
        }
    }
}
