//! How a service ends, whoever wants it: its turn in the reverse order, the signals in their order, and the proof that its
//! tree is empty. Owns the rules of the stop: siblings in parallel; a service is asked only when the trees of all that
//! need it, as they were started, are empty; a stronger signal and SIGKILL at the end of the grace; nobody waits for ever.
//!
//! A stop by hand, a restart and the way out of the procfile are the same thing with another `After`: the reverse order
//! holds among those that are on their way out, and services that stay are left alone.

use std::time::Duration;

use devrun_model::{Failure, FailureKind, Kind, ServiceId, duration};

use super::action::Action;
use super::service::{After, Ending, Live, Open, Phase, Service, Step};
use super::shutdown::THEN_TO_KILL;
use super::supervisor::{Mode, Supervisor};

/// How long an answer to SIGKILL or to a cancellation is awaited. The keeper reports survivors long before; this is for the
/// case that it says nothing at all, so that a stop ends in every world.
pub(super) const LAST_WORD: Duration = Duration::from_secs(30);

impl Supervisor {
    /// From the first signal to the next step.
    fn grace(&self, unit: &Service) -> Duration {
        match self.mode {
            Mode::Down { grace: Some(limit), .. } => unit.spec.stop.grace.min(limit),
            _ => unit.spec.stop.grace,
        }
    }

    fn killing(&self) -> bool {
        matches!(self.mode, Mode::Down { killing: true, .. })
    }

    /// Ends a process that lives, now, out of turn: it has failed.
    pub(super) fn end_live(&mut self, id: &ServiceId, after: After, out: &mut Vec<Action>) {
        if let After::Fail(failure) = &after {
            self.fail(id, failure.clone());
        }
        self.begin_stop(id, after, false, out);
    }

    /// Live → ending. Probing ends first: a server that shuts down answers strangely.
    pub(super) fn begin_stop(&mut self, id: &ServiceId, after: After, leader_gone: bool, out: &mut Vec<Action>) {
        let now = self.now;
        let Some(unit) = self.units.get_mut(id) else { return };
        let Phase::Live(live) = &unit.phase else { return };
        if live.probed() {
            out.push(Action::StopProbes(id.clone(), unit.generation));
        }
        unit.halt = None;
        unit.phase =
            Phase::Ending(Ending { after, was: Some(live.clone()), leader_gone, step: Step::Unborn, asked_at: now, due: now });
        self.ask_to_stop(id, out);
    }

    /// The first signal; SIGKILL where everything is being killed.
    pub(super) fn ask_to_stop(&mut self, id: &ServiceId, out: &mut Vec<Action>) {
        let (now, killing) = (self.now, self.killing());
        let Some(grace) = self.units.get(id).map(|unit| self.grace(unit)) else { return };
        let Some(unit) = self.units.get_mut(id) else { return };
        let Phase::Ending(ending) = &mut unit.phase else { return };
        ending.asked_at = now;
        if killing {
            ending.step = Step::Killed;
            ending.due = now + LAST_WORD;
            out.push(Action::KillTree(id.clone(), unit.generation));
        } else {
            ending.step = Step::Asked;
            ending.due = now + grace;
            out.push(Action::StopTree(id.clone(), unit.generation));
        }
    }

    /// SIGKILL for what is on its way out.
    fn kill(&mut self, id: &ServiceId, out: &mut Vec<Action>) {
        let now = self.now;
        let Some(unit) = self.units.get_mut(id) else { return };
        let generation = unit.generation;
        if let Phase::Ending(ending) = &mut unit.phase {
            ending.step = Step::Killed;
            ending.due = now + LAST_WORD;
            out.push(Action::KillTree(id.clone(), generation));
        }
    }

    /// Nothing proves that it is gone. Its tree stays open, so it is not started again; everything else goes on.
    pub(super) fn give_up(&mut self, id: &ServiceId, reason: String, out: &mut Vec<Action>) {
        let failure = Failure::new(FailureKind::Survivors, reason).help("devrun down --emergency");
        let removed = match self.units.get(id).map(|unit| &unit.phase) {
            Some(Phase::Ending(ending)) => ending.after == After::Remove,
            _ => false,
        };
        // Survivors count for optional services too: they are processes of ours that are left.
        self.failures.push((id.clone(), failure.clone()));
        let Some(unit) = self.units.get_mut(id) else { return };
        unit.halt = None;
        unit.phase = Phase::Failed { failure };
        if removed {
            out.push(Action::Say(id.clone(), "no longer in the procfile, yet it cannot be ended".to_owned()));
        }
    }

    /// Wants a service to end and to become `after`. What lives waits for its turn; what does not goes at once.
    pub(super) fn halt(&mut self, id: &ServiceId, after: After, out: &mut Vec<Action>) {
        let now = self.now;
        let Some(grace) = self.units.get(id).map(|unit| self.grace(unit)) else { return };
        let Some(unit) = self.units.get_mut(id) else { return };
        let generation = unit.generation;
        match &mut unit.phase {
            Phase::Live(_) => match &mut unit.halt {
                Some(halt) => halt.merge(after),
                None => unit.halt = Some(after),
            },
            Phase::Ending(ending) => ending.after.merge(after),
            Phase::Cancelling { after: old, .. } => old.merge(after),
            Phase::Spawning => {
                unit.phase = Phase::Ending(Ending {
                    after,
                    was: None,
                    leader_gone: false,
                    step: Step::Unborn,
                    asked_at: now,
                    // One that hangs before its exec, on a dead file system, never says that it was born.
                    due: now + grace,
                });
                if self.killing() {
                    self.kill(id, out);
                }
            }
            Phase::Failed { .. } if unit.open == Open::Tree => {}
            Phase::Waiting
            | Phase::Initialising
            | Phase::BackingOff { .. }
            | Phase::Stopped { .. }
            | Phase::Completed { .. }
            | Phase::Failed { .. }
            | Phase::Blocked { .. }
            | Phase::Skipped { .. } => {
                if unit.open == Open::Nothing {
                    self.arrive(id, after, out);
                } else {
                    unit.phase = Phase::Cancelling { after, give_up_at: now + LAST_WORD };
                    out.push(Action::Cancel(id.clone(), generation));
                }
            }
        }
    }

    /// Asks those whose turn has come. True when somebody was asked.
    pub(super) fn advance_halts(&mut self, out: &mut Vec<Action>) -> bool {
        self.look();
        if self.units.halting().is_empty() {
            return false;
        }
        let free = self.units.free();
        let mut moved = false;
        for id in &free {
            // Asked one by one, as each that goes is on its way for the next.
            if !self.sibling_on_its_way(id) {
                self.take_turn(id, out);
                moved = true;
            }
        }
        // Definitions taken over while services ran may form a circle, whose services are stopped together.
        if !moved && free.is_empty() && !self.units.any_passing() {
            for id in self.units.circles() {
                self.take_turn(&id, out);
                moved = true;
            }
        }
        moved
    }

    fn take_turn(&mut self, id: &ServiceId, out: &mut Vec<Action>) {
        match self.units.get_mut(id).and_then(|unit| unit.halt.take()) {
            Some(after) => self.begin_stop(id, after, false, out),
            None => self.ask_to_stop(id, out),
        }
    }

    /// A rolling restart replaces one copy at a time.
    fn sibling_on_its_way(&self, id: &ServiceId) -> bool {
        let Some(unit) = self.units.get(id).filter(|unit| unit.rolling) else { return false };
        self.units.iter().any(|(other, sibling)| {
            other != id
                && sibling.spec.service == unit.spec.service
                && sibling.halt.is_none()
                && !sibling.is_final()
                && sibling.ready_since().is_none()
        })
    }

    /// Acts on every deadline that has come.
    pub(super) fn deadlines(&mut self, out: &mut Vec<Action>) {
        let now = self.now;
        self.look();
        for id in self.units.due(now) {
            // A unit may pass several steps at once, where a grace is zero.
            for _ in 0..4 {
                if self.units.get(&id).and_then(Service::deadline).is_none_or(|at| at > now) {
                    break;
                }
                self.deadline(&id, out);
            }
        }
        self.start_deadlines(out);
    }

    fn deadline(&mut self, id: &ServiceId, out: &mut Vec<Action>) {
        let now = self.now;
        let Some(unit) = self.units.get_mut(id) else { return };
        let generation = unit.generation;
        match &mut unit.phase {
            Phase::BackingOff { .. } => self.restart_by_policy(id),
            Phase::Cancelling { .. } => self.give_up(id, "no answer to its cancellation".to_owned(), out),
            Phase::Live(live) => {
                let failure = late(&unit.spec, live);
                self.end_live(id, After::Fail(failure), out);
            }
            Phase::Ending(ending) => match (ending.step, unit.spec.stop.then) {
                (Step::Asked, Some(signal)) => {
                    ending.step = Step::Then;
                    ending.due = now + THEN_TO_KILL;
                    out.push(Action::SignalTree(id.clone(), generation, signal));
                }
                (Step::Unborn | Step::Asked | Step::Then, _) => self.kill(id, out),
                (Step::Killed, _) => self.give_up(id, "no proof that its processes are gone".to_owned(), out),
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
                self.shorten();
                return;
            }
            Mode::Up => self.mode = Mode::Down { grace, killing: false },
        }
        self.shorten();
        let ids: Vec<ServiceId> = self.units.keys().cloned().collect();
        for id in ids {
            let Some(unit) = self.units.get_mut(&id) else { continue };
            unit.wanted = false;
            unit.rolling = false;
            match &unit.phase {
                // A blocked one may still be fetching; it stays blocked once that has ended.
                Phase::Blocked { root, reason } if unit.open == Open::Fetch => {
                    let after = After::Block { root: root.clone(), reason: reason.clone() };
                    self.halt(&id, after, out);
                }
                _ if unit.is_final() => {}
                _ => self.halt(&id, After::Stop { reason: None }, out),
            }
        }
    }

    /// Graces of trees that were asked to stop before the stop of everything was shortened.
    fn shorten(&mut self) {
        let Mode::Down { grace: Some(limit), .. } = self.mode else { return };
        let ids: Vec<ServiceId> = self.units.keys().cloned().collect();
        for id in ids {
            if let Some(Phase::Ending(ending)) = self.units.get_mut(&id).map(|unit| &mut unit.phase)
                && ending.step == Step::Asked
            {
                ending.due = ending.due.min(ending.asked_at + limit);
            }
        }
    }

    /// SIGKILL for everything, within this step; the proof is still awaited.
    pub(super) fn kill_all(&mut self, out: &mut Vec<Action>) {
        if self.mode == Mode::Finished || self.killing() {
            return;
        }
        self.down(None, out);
        if let Mode::Down { killing, .. } = &mut self.mode {
            *killing = true;
        }
        let ids: Vec<ServiceId> = self.units.keys().cloned().collect();
        for id in ids {
            match self.units.get(&id).map(|unit| &unit.phase) {
                Some(Phase::Live(_)) => self.take_turn(&id, out),
                Some(Phase::Ending(ending)) if ending.step != Step::Killed => self.kill(&id, out),
                _ => {}
            }
        }
    }

    /// The first signal stops in order, the second kills, whoever else asked for a stop in between.
    pub(super) fn interrupted(&mut self, out: &mut Vec<Action>) {
        self.interrupts = self.interrupts.saturating_add(1);
        if self.interrupts >= 2 {
            self.kill_all(out);
        } else {
            self.down(None, out);
        }
    }
}

/// The failure of a process that took too long: a task past its timeout, a service that was not ready `within`.
fn late(spec: &devrun_model::ServiceSpec, live: &Live) -> Failure {
    if spec.kind == Kind::Task {
        let limit = spec.task_timeout().unwrap_or_default();
        return Failure::new(FailureKind::Task, format!("no exit after {}", duration::format(limit)))
            .help(format!("raise tasks.{}.timeout, or see: devrun logs {}", spec.service, spec.id));
    }
    let within = spec.ready.as_ref().map(|ready| ready.within).unwrap_or_default();
    let answer = live.ready.as_ref().and_then(|ready| ready.answer()).unwrap_or("no probe has answered");
    Failure::new(FailureKind::NotReady, format!("not ready within {}: {answer}", duration::format(within)))
        .help(format!("devrun logs {}", spec.id))
}
