//! What one service's answers mean: fetched, initialised, spawned, probed, ended. Everything here is about one service;
//! what it makes possible for others is found by `advance` afterwards.

use devrun_model::keeper::ExitStatus;
use devrun_model::{Failure, FailureKind, Kind, ServiceId, duration};

use super::action::Action;
use super::backoff::{self, Verdict};
use super::event::{Event, Generation};
use super::service::{After, Ending, Live, Open, Phase, Step};
use super::stopping::LAST_WORD;
use super::supervisor::{Mode, Supervisor};

impl Supervisor {
    /// Hands an event to whom it concerns; one of an old generation or of an unknown service concerns nobody.
    pub(super) fn handle(&mut self, event: Event, out: &mut Vec<Action>) {
        match event {
            Event::Command(command) => self.command(command, out),
            Event::Interrupted => self.interrupted(out),
            // Deadlines are looked at after every event.
            Event::Timer => {}
            Event::Fetched(id, generation) if self.is_current(&id, generation) => self.fetched(&id, out),
            Event::FetchFailed(id, generation, failure) if self.is_current(&id, generation) => {
                self.fetch_failed(&id, failure, out);
            }
            Event::InitDone(id, generation) if self.is_current(&id, generation) => self.init_done(&id, out),
            Event::AlreadyDone(id, generation, when) if self.is_current(&id, generation) => self.already_done(&id, when, out),
            Event::InitFailed(id, generation, failure) if self.is_current(&id, generation) => {
                self.init_failed(&id, failure, out);
            }
            Event::Spawned(id, generation, pid) if self.is_current(&id, generation) => self.spawned(&id, pid, out),
            Event::SpawnFailed(id, generation, failure) if self.is_current(&id, generation) => {
                self.spawn_failed(&id, failure, out);
            }
            Event::Exited(id, generation, status, failure) if self.is_current(&id, generation) => {
                self.exited(&id, status, failure, out);
            }
            Event::TreeEmpty(id, generation) if self.is_current(&id, generation) => self.tree_empty(&id, out),
            Event::Survived(id, generation, left) if self.is_current(&id, generation) => self.survived(&id, &left, out),
            Event::ProbePassed(id, generation, note) if self.is_current(&id, generation) => {
                self.probe_passed(&id, note, out);
            }
            Event::ProbeFailed(id, generation, answer, fatal) if self.is_current(&id, generation) => {
                self.probe_failed(&id, answer, fatal, out);
            }
            Event::AlivePassed(id, generation) if self.is_current(&id, generation) => {
                let now = self.now;
                if let Some(Phase::Live(Live { alive: Some(alive), .. })) = self.units.get_mut(&id).map(|unit| &mut unit.phase) {
                    alive.passed(now);
                }
            }
            Event::AliveFailed(id, generation, answer) if self.is_current(&id, generation) => {
                self.alive_failed(&id, answer, out);
            }
            Event::FileChanged(id, path) => self.file_changed(&id, &path, out),
            Event::Fetched(..)
            | Event::FetchFailed(..)
            | Event::InitDone(..)
            | Event::AlreadyDone(..)
            | Event::InitFailed(..)
            | Event::Spawned(..)
            | Event::SpawnFailed(..)
            | Event::Exited(..)
            | Event::TreeEmpty(..)
            | Event::Survived(..)
            | Event::ProbePassed(..)
            | Event::ProbeFailed(..)
            | Event::AlivePassed(..)
            | Event::AliveFailed(..) => {}
        }
    }

    fn is_current(&self, id: &ServiceId, generation: Generation) -> bool {
        self.units.get(id).is_some_and(|unit| unit.generation == generation)
    }

    fn fetched(&mut self, id: &ServiceId, out: &mut Vec<Action>) {
        let Some(unit) = self.units.get_mut(id).filter(|unit| unit.open == Open::Fetch) else { return };
        unit.open = Open::Nothing;
        self.leave_cancelling(id, out);
    }

    fn fetch_failed(&mut self, id: &ServiceId, failure: Failure, out: &mut Vec<Action>) {
        let Some(unit) = self.units.get_mut(id).filter(|unit| unit.open == Open::Fetch) else { return };
        unit.open = Open::Nothing;
        if self.leave_cancelling(id, out) {
            return;
        }
        let Some(unit) = self.units.get_mut(id) else { return };
        if !matches!(unit.phase, Phase::Waiting | Phase::Blocked { .. }) || self.mode != Mode::Up {
            return;
        }
        if unit.spec.optional && failure.kind == FailureKind::Binary {
            unit.phase = Phase::Skipped { because: failure.reason };
        } else {
            unit.phase = Phase::Failed { failure: failure.clone() };
            self.fail(id, failure);
        }
    }

    /// What was cancelled has answered. False when nothing was.
    fn leave_cancelling(&mut self, id: &ServiceId, out: &mut Vec<Action>) -> bool {
        match self.units.get(id).map(|unit| &unit.phase) {
            Some(Phase::Cancelling { after, .. }) => {
                let after = after.clone();
                self.arrive(id, after, out);
                true
            }
            _ => false,
        }
    }

    fn init_done(&mut self, id: &ServiceId, out: &mut Vec<Action>) {
        let Some(unit) = self.units.get_mut(id).filter(|unit| unit.open == Open::Init) else { return };
        unit.open = Open::Nothing;
        if self.leave_cancelling(id, out) {
            return;
        }
        if let Some(unit) = self.units.get_mut(id).filter(|unit| unit.phase == Phase::Initialising) {
            unit.phase = Phase::Spawning;
            unit.open = Open::Tree;
            out.push(Action::Spawn(id.clone(), unit.generation));
        }
    }

    fn already_done(&mut self, id: &ServiceId, when: String, out: &mut Vec<Action>) {
        if self.units.get(id).is_some_and(|unit| unit.spec.kind == Kind::Service) {
            // Only a task can be done before it ran.
            self.init_done(id, out);
            return;
        }
        let now = self.now;
        let Some(unit) = self.units.get_mut(id).filter(|unit| unit.open == Open::Init) else { return };
        unit.open = Open::Nothing;
        if self.leave_cancelling(id, out) {
            return;
        }
        if let Some(unit) = self.units.get_mut(id).filter(|unit| unit.phase == Phase::Initialising) {
            unit.phase = Phase::Completed { at: now, note: Some(when) };
        }
    }

    fn init_failed(&mut self, id: &ServiceId, failure: Failure, out: &mut Vec<Action>) {
        let Some(unit) = self.units.get_mut(id).filter(|unit| unit.open == Open::Init) else { return };
        unit.open = Open::Nothing;
        if !self.leave_cancelling(id, out) {
            self.not_started(id, failure, out);
        }
    }

    fn spawn_failed(&mut self, id: &ServiceId, failure: Failure, out: &mut Vec<Action>) {
        let Some(unit) = self.units.get_mut(id).filter(|unit| unit.open == Open::Tree) else { return };
        match &unit.phase {
            Phase::Spawning => {
                unit.open = Open::Nothing;
                self.not_started(id, failure, out);
            }
            Phase::Ending(ending) if ending.was.is_none() => {
                let after = ending.after.clone();
                unit.open = Open::Nothing;
                self.arrive(id, after, out);
            }
            _ => {}
        }
    }

    /// Init or spawn failed. A first start fails at once, as waiting seldom mends it and somebody is looking; a restart by
    /// policy goes on by that policy, as `always` must not give up because a port was still in use.
    fn not_started(&mut self, id: &ServiceId, failure: Failure, out: &mut Vec<Action>) {
        let Some(unit) = self.units.get(id) else { return };
        let transient = matches!(failure.kind, FailureKind::Service | FailureKind::Task | FailureKind::PortTaken);
        let after = if unit.restarts > 0 && transient {
            self.after_crash(id, failure, std::time::Duration::ZERO)
        } else {
            self.fail(id, failure.clone());
            After::Fail(failure)
        };
        self.arrive(id, after, out);
    }

    /// What a crash leads to by the policy; a failure is written down at once.
    pub(super) fn after_crash(&mut self, id: &ServiceId, failure: Failure, ran: std::time::Duration) -> After {
        let (now, seed) = (self.now, self.plan.seed);
        let Some(unit) = self.units.get_mut(id) else { return After::Stop { reason: None } };
        match backoff::verdict(&unit.spec, false, ran, unit.crashes) {
            Verdict::Again { attempt } => {
                unit.crashes = attempt;
                let wait = backoff::delay(&unit.spec.backoff, attempt, seed, id);
                After::Restart { until: now + wait, attempt, why: failure.reason }
            }
            Verdict::End => {
                self.fail(id, failure.clone());
                After::Fail(failure)
            }
            Verdict::GivenUp { restarts } => {
                let times = if restarts == 1 { "restart" } else { "restarts" };
                let mut failure = failure;
                if restarts > 0 {
                    failure.reason = format!("{}; given up after {restarts} {times} in a row", failure.reason);
                }
                self.fail(id, failure.clone());
                After::Fail(failure)
            }
        }
    }

    fn spawned(&mut self, id: &ServiceId, pid: Option<i32>, out: &mut Vec<Action>) {
        let now = self.now;
        let Some(unit) = self.units.get_mut(id) else { return };
        let live = Live::new(&unit.spec, pid, now);
        match &mut unit.phase {
            Phase::Spawning => {
                if live.probed() {
                    out.push(Action::StartProbes(id.clone(), unit.generation));
                }
                unit.phase = Phase::Live(live);
            }
            // A stop came while the spawn was on its way.
            Phase::Ending(ending) if ending.was.is_none() && !ending.leader_gone => {
                ending.was = Some(live);
                if ending.step == Step::Killed {
                    ending.due = now + LAST_WORD;
                    out.push(Action::KillTree(id.clone(), unit.generation));
                }
            }
            _ => {}
        }
    }

    fn exited(&mut self, id: &ServiceId, status: ExitStatus, failure: Option<Failure>, out: &mut Vec<Action>) {
        if self.units.get(id).is_some_and(|unit| unit.phase == Phase::Spawning) {
            // The end overtook the word of the birth.
            self.spawned(id, None, out);
        }
        let Some(unit) = self.units.get_mut(id) else { return };
        let generation = unit.generation;
        match &mut unit.phase {
            Phase::Live(live) => {
                let live = live.clone();
                unit.exit = Some((generation, status));
                let after = match unit.halt.take() {
                    Some(after) => after,
                    None => self.after_exit(id, &live, status, failure),
                };
                self.say_to_those_who_wait(id, &after, out);
                self.begin_stop(id, after, true, out);
            }
            Phase::Ending(ending) if !ending.leader_gone => {
                ending.leader_gone = true;
                unit.exit = Some((generation, status));
            }
            _ => {}
        }
    }

    /// What follows the end of a leader that nobody stopped.
    fn after_exit(&mut self, id: &ServiceId, live: &Live, status: ExitStatus, failure: Option<Failure>) -> After {
        let (now, seed) = (self.now, self.plan.seed);
        let Some(unit) = self.units.get_mut(id) else { return After::Stop { reason: None } };
        let ran = now.since(live.spawned_at);
        if status.success() && failure.is_none() {
            return match backoff::verdict(&unit.spec, true, ran, unit.crashes) {
                Verdict::Again { attempt } => {
                    unit.crashes = attempt;
                    let wait = backoff::delay(&unit.spec.backoff, attempt, seed, id);
                    After::Restart { until: now + wait, attempt, why: status.to_string() }
                }
                Verdict::End | Verdict::GivenUp { .. } => After::Complete { note: None },
            };
        }
        let kind = if unit.spec.kind == Kind::Task { FailureKind::Task } else { FailureKind::Service };
        let failure =
            failure.unwrap_or_else(|| Failure::new(kind, status.to_string()).help(format!("devrun logs {}", unit.spec.id)));
        self.after_crash(id, failure, ran)
    }

    /// A crash while others wait is said at once, with what happens next.
    fn say_to_those_who_wait(&self, id: &ServiceId, after: &After, out: &mut Vec<Action>) {
        let waits = |id: &ServiceId| self.units.get(id).is_some_and(|unit| matches!(unit.phase, Phase::Waiting));
        let waited_for = self.units.dependents(id).any(waits);
        if !waited_for {
            return;
        }
        let text = match after {
            After::Restart { attempt: 0, why, .. } => format!("{why}; restarts at once, others wait for it"),
            After::Restart { until, attempt, why } => {
                let wait = duration::human(until.since(self.now));
                format!("{why}; restart {attempt} in {wait}, others wait for it")
            }
            After::Fail(failure) => format!("{}; others wait for it in vain", failure.reason),
            _ => return,
        };
        out.push(Action::Say(id.clone(), text));
    }

    fn tree_empty(&mut self, id: &ServiceId, out: &mut Vec<Action>) {
        let Some(unit) = self.units.get(id).filter(|unit| unit.open == Open::Tree) else { return };
        if matches!(unit.phase, Phase::Live(_) | Phase::Spawning) {
            // Nothing is left of it, so its leader has ended too, though nobody said how.
            self.exited(id, ExitStatus::Unknown, None, out);
        }
        let Some(unit) = self.units.get_mut(id) else { return };
        unit.open = Open::Nothing;
        if let Phase::Ending(Ending { after, .. }) = &unit.phase {
            let after = after.clone();
            self.arrive(id, after, out);
        }
    }

    fn survived(&mut self, id: &ServiceId, left: &[(i32, String)], out: &mut Vec<Action>) {
        let Some(unit) = self.units.get(id).filter(|unit| unit.open == Open::Tree) else { return };
        if matches!(unit.phase, Phase::Ending(_)) {
            let names: Vec<String> = left.iter().map(|(pid, command)| format!("{pid} {command}")).collect();
            self.give_up(id, format!("still there after SIGKILL: {}", names.join(", ")), out);
        }
    }

    fn probe_passed(&mut self, id: &ServiceId, note: Option<String>, out: &mut Vec<Action>) {
        let now = self.now;
        let Some(unit) = self.units.get_mut(id) else { return };
        let Phase::Live(Live { ready: Some(ready), .. }) = &mut unit.phase else { return };
        if ready.passed(now)
            && let Some(note) = note
        {
            out.push(Action::Say(id.clone(), note));
        }
    }

    fn probe_failed(&mut self, id: &ServiceId, answer: String, fatal: Option<Failure>, out: &mut Vec<Action>) {
        let now = self.now;
        let Some(unit) = self.units.get_mut(id) else { return };
        let on_unhealthy = unit.spec.on_unhealthy;
        let leaving = unit.halt.is_some();
        let (Phase::Live(live), Some(spec)) = (&mut unit.phase, &unit.spec.ready) else { return };
        let spawned = live.spawned_at;
        let Some(ready) = &mut live.ready else { return };
        let turned = ready.failed(spec, now, answer.clone());
        // What is on its way out is not judged any more.
        if leaving {
            return;
        }
        // What waiting cannot mend ends the start. A server that was healthy before is not ended for it.
        if let Some(failure) = fatal.filter(|_| ready.first_pass().is_none()) {
            self.end_live(id, After::Fail(failure), out);
            return;
        }
        if !turned {
            return;
        }
        let failure = Failure::new(FailureKind::Service, format!("unhealthy: {answer}")).help(format!("devrun inspect {id}"));
        match on_unhealthy {
            devrun_model::service::OnUnhealthy::Ignore => {}
            devrun_model::service::OnUnhealthy::Restart => {
                let after = self.after_crash(id, failure, now.since(spawned));
                self.end_live(id, after, out);
            }
            devrun_model::service::OnUnhealthy::Stop => self.end_live(id, After::Fail(failure), out),
        }
    }

    fn alive_failed(&mut self, id: &ServiceId, answer: String, out: &mut Vec<Action>) {
        let now = self.now;
        let Some(unit) = self.units.get_mut(id).filter(|unit| unit.halt.is_none()) else { return };
        let (Phase::Live(live), Some(spec)) = (&mut unit.phase, &unit.spec.alive) else { return };
        let ran = now.since(live.spawned_at);
        if live.alive.as_mut().is_some_and(|alive| alive.failed(spec, now, answer.clone())) {
            let failure = Failure::new(FailureKind::Service, format!("not alive: {answer}")).help(format!("devrun inspect {id}"));
            let after = self.after_crash(id, failure, ran);
            self.end_live(id, after, out);
        }
    }
}
