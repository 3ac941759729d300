//! The project's step: takes one event, lets everything move that now can, publishes what changed, and asks whether a start
//! or the whole run is over. Each concern is a file of its own and an `impl` block of the same type: `events` (one
//! service's answers), `commands` (requests), `edges` (who waits), `stopping` (who ends, and when it is killed), `settle`
//! (starts and outcomes), `units` (what is known of all services together), `view` (what can be seen).
//!
//! A step never fails. An event of an unknown service, of an old generation, or one that means nothing in the present
//! phase is dropped, and the table test over every phase and event says which those are. After `Finish` nothing moves.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use devrun_model::{Failure, FailureKind, Notice, Plan, ServiceId, ServiceSpec, State};

use super::action::Action;
use super::edges::Standing;
use super::event::{Event, Generation};
use super::service::{After, Open, Phase, Service};
use super::settle::Start;
use super::tick::Tick;
use super::units::Units;

/// What the project as a whole is doing.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Mode {
    /// Serving requests.
    Up,
    /// Stopping everything; nothing starts any more.
    Down { grace: Option<Duration>, killing: bool },
    /// `Finish` was said.
    Finished,
}

/// The whole project as a state machine.
#[derive(Debug, Clone)]
pub struct Supervisor {
    pub(super) plan: Arc<Plan>,
    pub(super) units: Units,
    pub(super) mode: Mode,
    /// The moment of the last step; time never runs backwards in here.
    pub(super) now: Tick,
    /// Starts that are not settled, in the order in which they were asked for.
    pub(super) starts: Vec<Start>,
    /// Whether anything was ever asked to start: an idle supervisor does not end by itself.
    pub(super) begun: bool,
    /// Failures in the order in which they happened, until the service is started again.
    pub(super) failures: Vec<(ServiceId, Failure)>,
    pub(super) abort_on_failure: bool,
    pub(super) exit_code_from: Option<ServiceId>,
    pub(super) interrupts: u32,
    /// Generations of removed services: should one come back, late events of the old one must not fit.
    pub(super) retired: BTreeMap<ServiceId, Generation>,
}

impl Supervisor {
    /// A supervisor in which nothing runs until it is asked to. `remembered` are the services stopped by hand in an earlier
    /// life: a start that does not name them leaves them alone, a full `up` starts them again.
    #[must_use]
    pub fn new(plan: Arc<Plan>, remembered: BTreeSet<ServiceId>) -> Self {
        let mut units = Units::default();
        for (id, spec) in &plan.services {
            units.insert(id.clone(), Service::new(Arc::clone(spec), 0, remembered.contains(id)));
        }
        let mut project = Self {
            plan,
            units,
            mode: Mode::Up,
            now: Tick::ZERO,
            starts: Vec::new(),
            begun: false,
            failures: Vec::new(),
            abort_on_failure: false,
            exit_code_from: None,
            interrupts: 0,
            retired: BTreeMap::new(),
        };
        project.look();
        project
    }

    /// Feeds one event; appends what must now be done, in order.
    pub fn step(&mut self, now: Tick, event: Event, out: &mut Vec<Action>) {
        self.now = self.now.max(now);
        if self.mode == Mode::Finished {
            return;
        }
        self.handle(event, out);
        // Each round lets move what the round before made possible. The bound is far beyond what any plan needs; it is
        // there so that a fault in here costs a late move and not a hung supervisor.
        for _ in 0..4 {
            self.deadlines(out);
            self.advance(out);
            self.publish(out);
            if !self.conclude(out) {
                break;
            }
        }
        self.look();
    }

    /// When `Event::Timer` must be fed next, if nothing else happens.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Tick> {
        if self.mode == Mode::Finished {
            return None;
        }
        let starts = self.starts.iter().filter_map(|start| start.deadline(self.plan.timeout));
        starts.chain(self.units.next_deadline()).min()
    }

    /// Lets every service move whose edges or whose turn to stop now allow it, until none does.
    fn advance(&mut self, out: &mut Vec<Action>) {
        for _ in 0..2 * self.units.len() + 4 {
            if !(self.advance_waiting(out) | self.advance_halts(out)) {
                break;
            }
        }
    }

    fn advance_waiting(&mut self, out: &mut Vec<Action>) -> bool {
        if self.mode != Mode::Up {
            return false;
        }
        self.look();
        let moves: Vec<(ServiceId, Standing)> = std::mem::take(&mut self.units.may_move)
            .into_iter()
            .filter_map(|id| Some((self.units.get(&id)?, self.units.standing(&id)?.clone(), id)))
            .filter(|(unit, standing, _)| match (standing, &unit.phase) {
                (Standing::Holds | Standing::Waits(_), Phase::Blocked { .. }) => true,
                (Standing::Holds | Standing::LeftOut { .. }, _) => unit.open == Open::Nothing,
                (Standing::Waits(_), _) => false,
                (Standing::Gone { root, reason }, Phase::Blocked { root: known, reason: said }) => {
                    root != known || reason != said
                }
                (Standing::Gone { .. }, _) => true,
            })
            .map(|(_, standing, id)| (id, standing))
            .collect();
        let moved = !moves.is_empty();
        for (id, standing) in moves {
            let Some(unit) = self.units.get_mut(&id) else { continue };
            match standing {
                Standing::Holds if matches!(unit.phase, Phase::Waiting) => {
                    unit.phase = Phase::Initialising;
                    unit.open = Open::Init;
                    out.push(Action::RunInit(id, unit.generation));
                }
                Standing::Holds | Standing::Waits(_) => unit.phase = Phase::Waiting,
                Standing::Gone { root, reason } => unit.phase = Phase::Blocked { root, reason },
                Standing::LeftOut { because } => unit.phase = Phase::Skipped { because },
            }
        }
        moved
    }

    /// Publishes every change of a shown state or health since the last step.
    fn publish(&mut self, out: &mut Vec<Action>) {
        self.look();
        for id in std::mem::take(&mut self.units.to_show) {
            let Some(shown) = self.units.get(&id).map(|unit| unit.show(self.units.is_held(&id))) else { continue };
            self.note(&id, shown, out);
        }
    }

    /// Publishes one service's change, if it is one.
    pub(super) fn note(&mut self, id: &ServiceId, shown: (State, devrun_model::Health), out: &mut Vec<Action>) {
        let Some(unit) = self.units.get(id).filter(|unit| unit.shown != shown) else { return };
        let reason = self.reason_of(id, unit);
        let Some(unit) = self.units.get_mut(id) else { return };
        let from = unit.shown.0;
        unit.shown = shown;
        let ended = matches!(shown.0, State::Stopping | State::Stopped | State::Completed | State::Failed | State::BackingOff);
        let exit = unit.exit_of_this_generation().filter(|_| ended);
        out.push(Action::Notify(Notice {
            ts: String::new(),
            seq: 0,
            service: unit.spec.service.as_str().to_owned(),
            replica: unit.spec.replica,
            from,
            to: shown.0,
            health: shown.1,
            reason,
            pid: unit.pid(),
            exit_code: exit.and_then(|status| match status {
                devrun_model::keeper::ExitStatus::Code(code) => Some(code),
                _ => None,
            }),
        }));
    }

    /// Starts a service anew: a new generation, the definition that is due, a fetch. Everything of the old generation must
    /// be gone; where it is not (survivors), it stays where it is and that is said.
    pub(super) fn start(&mut self, id: &ServiceId, out: &mut Vec<Action>) {
        let Some(unit) = self.units.get_mut(id) else { return };
        unit.wanted = true;
        unit.halt = None;
        if unit.open != Open::Nothing {
            out.push(Action::Say(
                id.clone(),
                "what is left of its last start is not proved gone; it is not started again".to_owned(),
            ));
            return;
        }
        if let Some(next) = unit.next.take() {
            unit.spec = next;
        }
        unit.restarts = 0;
        unit.crashes = 0;
        unit.barrier = true;
        unit.rolling = false;
        self.failures.retain(|(failed, _)| failed != id);
        if !unit.spec.missing.is_empty() {
            let names = unit.spec.missing.join(", ");
            let failure = Failure::new(FailureKind::Config, format!("no value for {names}"))
                .help(format!("set {names} where the template reads its keys, then run: devrun up"));
            unit.phase = Phase::Blocked { root: id.clone(), reason: failure.reason.clone() };
            self.fail(id, failure);
            return;
        }
        unit.generation += 1;
        unit.phase = Phase::Waiting;
        unit.open = Open::Fetch;
        out.push(Action::Fetch(id.clone(), unit.generation));
    }

    /// Starts it again by its policy: a new generation of the same definition, whose binary is known already. Only its
    /// place among the others is that of the newest plan: an old edge may point to what is no longer there.
    pub(super) fn restart_by_policy(&mut self, id: &ServiceId) {
        let Some(unit) = self.units.get_mut(id) else { return };
        unit.take_new_place();
        unit.generation += 1;
        unit.restarts = unit.restarts.saturating_add(1);
        unit.barrier = false;
        unit.phase = Phase::Waiting;
    }

    /// Writes a failure down at the moment it happens. Optional services have none.
    pub(super) fn fail(&mut self, id: &ServiceId, failure: Failure) {
        let optional = self.units.get(id).is_some_and(|unit| unit.spec.optional);
        if !optional && !self.failures.iter().any(|(other, known)| other == id && *known == failure) {
            self.failures.push((id.clone(), failure));
        }
    }

    /// Moves a service of which nothing is outstanding to where it was bound.
    pub(super) fn arrive(&mut self, id: &ServiceId, after: After, out: &mut Vec<Action>) {
        let up = self.mode == Mode::Up;
        let now = self.now;
        let Some(unit) = self.units.get_mut(id) else { return };
        unit.halt = None;
        match after {
            After::Stop { reason } => unit.phase = Phase::Stopped { reason },
            After::Again { .. } | After::Restart { .. } if !up => unit.phase = Phase::Stopped { reason: None },
            After::Again { .. } => {
                // Between two generations it is stopped; that it was is worth a line of its own.
                unit.phase = Phase::Stopped { reason: None };
                self.start(id, out);
            }
            After::Restart { until, .. } if now >= until => self.restart_by_policy(id),
            After::Restart { until, attempt, why } => unit.phase = Phase::BackingOff { until, attempt, why },
            After::Fail(failure) => unit.phase = Phase::Failed { failure },
            After::Block { root, reason } => unit.phase = Phase::Blocked { root, reason },
            After::Complete { note } => unit.phase = Phase::Completed { at: now, note },
            After::Remove => {
                unit.phase = Phase::Stopped { reason: Some("no longer in the procfile".to_owned()) };
                let shown = unit.show(false);
                self.note(id, shown, out);
                if let Some(unit) = self.units.remove(id) {
                    self.retired.insert(id.clone(), unit.generation);
                }
                for start in &mut self.starts {
                    start.targets.remove(id);
                    start.pending.remove(id);
                }
            }
        }
    }

    /// The plan in force.
    #[must_use]
    pub fn plan(&self) -> &Arc<Plan> {
        &self.plan
    }

    /// The definition with which the present generation of a service was started: what an action means by its id.
    #[must_use]
    pub fn spec(&self, id: &ServiceId) -> Option<&Arc<ServiceSpec>> {
        self.units.get(id).map(|unit| &unit.spec)
    }
}
