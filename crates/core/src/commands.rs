//! Requests: what `up`, `start`, `stop`, `restart`, `kill` and `down` mean for each service. Owns who is wanted, what is
//! remembered, and the taking over of a new plan. A request only says where services are to go; how they get there is
//! `stopping` and `advance`.
//!
//! A task that is done stays done for the life of this supervisor: no `up` runs it again, only a `start` or `restart` that
//! names it. A task without a sentinel therefore runs once at every start of the stack.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use devrun_model::{Command, Failure, Kind, Plan, ServiceId, Signal, UpOptions};

use super::action::{Action, StartOutcome};
use super::changes;
use super::service::{After, BY_HAND, Open, Phase, Service};
use super::settle::Start;
use super::supervisor::{Mode, Supervisor};

/// A request to start, whichever verb it came by.
struct Ask<'a> {
    targets: &'a [ServiceId],
    /// A completed task that is named runs again.
    reruns: bool,
    no_deps: bool,
}

impl Supervisor {
    pub(super) fn command(&mut self, command: Command, out: &mut Vec<Action>) {
        let starts =
            matches!(command, Command::Up { .. } | Command::Start { .. } | Command::Restart { .. } | Command::Renew { .. });
        if starts && self.mode != Mode::Up {
            self.refuse(&command, out);
            return;
        }
        match command {
            Command::Up { plan, targets, options } => self.up(plan, &targets, &options, out),
            Command::Start { plan, targets } => {
                if let Some(plan) = plan {
                    self.take_over(plan, false, out);
                }
                let set = self.ask(&Ask { targets: &targets, reruns: true, no_deps: false }, out);
                self.expect(set, &targets, false);
            }
            Command::Restart { plan, targets, with_dependents } => self.restart(plan, &targets, with_dependents, out),
            Command::Renew { plan, given, targets } => self.renew(plan, given, targets, out),
            Command::Stop { targets } => self.stop(&targets, out),
            Command::Kill { targets, signal } => self.signal(&targets, signal, out),
            Command::Down { grace_ms } => self.down(grace_ms.map(Duration::from_millis), out),
            Command::KillAll => self.kill_all(out),
        }
    }

    /// A start while everything is being stopped: the stop wins, and who asked is told.
    fn refuse(&self, command: &Command, out: &mut Vec<Action>) {
        let (Command::Up { targets, .. }
        | Command::Start { targets, .. }
        | Command::Restart { targets, .. }
        | Command::Renew { targets, .. }) = command
        else {
            return;
        };
        let ids: Vec<ServiceId> = if targets.is_empty() { self.units.keys().cloned().collect() } else { targets.clone() };
        let failure = Failure::being_stopped();
        let failures = ids.into_iter().map(|id| (id, failure.clone())).collect();
        out.push(Action::Settled(StartOutcome { failures, ..StartOutcome::default() }));
    }

    fn up(&mut self, plan: Option<Arc<Plan>>, targets: &[ServiceId], options: &UpOptions, out: &mut Vec<Action>) {
        let restarted = plan.map(|plan| self.take_over(plan, true, out)).unwrap_or_default();
        self.abort_on_failure |= options.abort_on_failure;
        if options.exit_code_from.is_some() {
            self.exit_code_from.clone_from(&options.exit_code_from);
        }
        let mut set = self.ask(&Ask { targets, reruns: false, no_deps: options.no_deps }, out);
        set.extend(restarted);
        self.expect(set, targets, options.rollback);
    }

    /// Wants services up: the named ones (all, if none) and what they need, also what of it was stopped by hand. Returns those
    /// that are now expected to become ready.
    fn ask(&mut self, ask: &Ask<'_>, out: &mut Vec<Action>) -> BTreeSet<ServiceId> {
        let named: BTreeSet<ServiceId> = ask.targets.iter().filter(|id| self.units.contains_key(id)).cloned().collect();
        let all = ask.targets.is_empty();
        let set = match (all, ask.no_deps) {
            (true, _) => self.plan.services.keys().filter(|id| self.units.contains_key(id)).cloned().collect(),
            (false, true) => named.clone(),
            (false, false) => self.closure(&named),
        };
        let mut expected = BTreeSet::new();
        for id in set {
            let is_named = named.contains(&id);
            self.forget(&id, out);
            if let Some(unit) = self.units.get_mut(&id) {
                unit.no_deps = ask.no_deps;
            }
            self.want(&id, is_named && ask.reruns, out);
            expected.insert(id);
        }
        expected
    }

    /// The services and all that they need, by the definitions that they start with.
    fn closure(&self, named: &BTreeSet<ServiceId>) -> BTreeSet<ServiceId> {
        let mut set = BTreeSet::new();
        let mut next: Vec<ServiceId> = named.iter().cloned().collect();
        while let Some(id) = next.pop() {
            let Some(unit) = self.units.get(&id) else { continue };
            if set.insert(id) {
                next.extend(unit.coming().depends_on.iter().map(|edge| edge.on.clone()));
            }
        }
        set
    }

    /// Wants one service up. What is up or on its way stays as it is; what is on its way out comes back after it.
    fn want(&mut self, id: &ServiceId, named: bool, out: &mut Vec<Action>) {
        let again = || After::Again { reason: "start".to_owned() };
        let Some(unit) = self.units.get_mut(id) else { return };
        unit.wanted = true;
        let task = unit.spec.kind == Kind::Task;
        match &mut unit.phase {
            Phase::Waiting | Phase::Initialising | Phase::Spawning => {}
            Phase::Live(_) => {
                if unit.halt.as_ref().is_some_and(|after| !after.comes_back()) {
                    unit.halt = None;
                }
            }
            Phase::Completed { .. } if task && !named => {}
            Phase::BackingOff { .. } if !named => {}
            Phase::Cancelling { after, .. } => after.merge(again()),
            Phase::Ending(ending) => match &ending.after {
                After::Complete { .. } if task && !named => {}
                After::Restart { .. } if !named => {}
                _ => ending.after.merge(again()),
            },
            // Blocked with a fetch under way: it goes on from there as soon as its dependencies allow.
            Phase::Blocked { .. } if unit.open == Open::Fetch && unit.next.is_none() => {}
            Phase::Blocked { .. } if unit.open != Open::Nothing => self.halt(id, again(), out),
            Phase::BackingOff { .. }
            | Phase::Stopped { .. }
            | Phase::Completed { .. }
            | Phase::Failed { .. }
            | Phase::Blocked { .. }
            | Phase::Skipped { .. } => self.start(id, out),
        }
    }

    fn forget(&mut self, id: &ServiceId, out: &mut Vec<Action>) {
        if let Some(unit) = self.units.get_mut(id)
            && std::mem::replace(&mut unit.by_hand, false)
        {
            out.push(Action::Remember { id: id.clone(), stopped: false });
        }
    }

    /// Notes that somebody waits for these.
    fn expect(&mut self, targets: BTreeSet<ServiceId>, asked: &[ServiceId], rollback: bool) {
        self.begun = true;
        let unknown = asked.iter().filter(|id| !self.units.contains_key(id)).cloned().collect();
        self.units.to_settle.extend(targets.iter().cloned());
        self.starts.push(Start {
            pending: targets.clone(),
            targets,
            met: BTreeSet::new(),
            unknown,
            rollback,
            spent: Duration::ZERO,
            since: Some(self.now),
            late: false,
        });
    }

    fn stop(&mut self, targets: &[ServiceId], out: &mut Vec<Action>) {
        if self.mode != Mode::Up {
            return;
        }
        let ids: Vec<ServiceId> = if targets.is_empty() { self.units.keys().cloned().collect() } else { targets.to_vec() };
        for id in ids {
            let Some(unit) = self.units.get_mut(&id) else { continue };
            unit.wanted = false;
            unit.rolling = false;
            if !std::mem::replace(&mut unit.by_hand, true) {
                out.push(Action::Remember { id: id.clone(), stopped: true });
            }
            // What is done stays done; everything else is stopped from here on, also what had failed.
            if !matches!(unit.phase, Phase::Completed { .. }) {
                self.halt(&id, After::Stop { reason: Some(BY_HAND.to_owned()) }, out);
            }
        }
    }

    fn restart(&mut self, plan: Option<Arc<Plan>>, targets: &[ServiceId], with_dependents: bool, out: &mut Vec<Action>) {
        if let Some(plan) = plan {
            self.take_over(plan, false, out);
        }
        let mut set: BTreeSet<ServiceId> = if targets.is_empty() {
            // All that somebody wanted; what was stopped by hand or never asked for stays as it is.
            self.units.iter().filter(|(_, unit)| unit.wanted).map(|(id, _)| id.clone()).collect()
        } else {
            targets.iter().filter(|id| self.units.contains_key(id)).cloned().collect()
        };
        let named: BTreeSet<ServiceId> = targets.iter().cloned().collect();
        self.add_dependents(&mut set, with_dependents);
        for id in &set {
            self.forget(id, out);
        }
        // What they need comes up as with `start`, also what of it was stopped by hand; what of it is up is left alone.
        let mut expected = BTreeSet::new();
        for id in self.closure(&set) {
            if !set.contains(&id) {
                self.forget(&id, out);
                self.want(&id, false, out);
                expected.insert(id);
            }
        }
        for id in &set {
            self.again(id, named.contains(id), "restart", &set, out);
        }
        expected.extend(set);
        self.expect(expected, targets, false);
    }

    /// A server that was given its new password runs on by the new definition. One that could not have been meant, as it
    /// was started by yet another definition or is not up, is restarted like everybody else.
    fn renew(&mut self, plan: Arc<Plan>, given: Vec<ServiceId>, mut targets: Vec<ServiceId>, out: &mut Vec<Action>) {
        self.take_over(plan, false, out);
        for id in given {
            let Some(unit) = self.units.get_mut(&id) else { continue };
            let Some(next) = unit.next.clone() else { continue };
            if unit.live().is_some() && unit.halt.is_none() && changes::only_login_differs(&unit.spec, &next) {
                unit.spec = next;
                unit.next = None;
                out.push(Action::Redefine(id, unit.generation));
            } else {
                targets.push(id);
            }
        }
        if targets.is_empty() {
            self.expect(BTreeSet::new(), &[], false);
        } else {
            self.restart(None, &targets, false, out);
        }
    }

    /// Adds those that depend on the set: all that are wanted, or only those whose edge says `restart`.
    fn add_dependents(&mut self, set: &mut BTreeSet<ServiceId>, all: bool) {
        self.look();
        let mut next: Vec<ServiceId> = set.iter().cloned().collect();
        while let Some(on) = next.pop() {
            for id in self.units.dependents(&on) {
                let follows = |unit: &Service| {
                    let edge = unit.spec.depends_on.iter().any(|edge| edge.on == on && (all || edge.restart));
                    edge && unit.wanted && unit.spec.kind == Kind::Service
                };
                if self.units.get(id).is_some_and(follows) && set.insert(id.clone()) {
                    next.push(id.clone());
                }
            }
        }
    }

    /// Stops and starts one service. `set` is what restarts with it.
    fn again(&mut self, id: &ServiceId, named: bool, reason: &str, set: &BTreeSet<ServiceId>, out: &mut Vec<Action>) {
        let Some(unit) = self.units.get_mut(id) else { return };
        unit.wanted = true;
        // One copy at a time, unless what they need goes down with them.
        unit.rolling = unit.spec.replicas > 1 && !unit.spec.depends_on.iter().any(|edge| set.contains(&edge.on));
        match unit.phase {
            Phase::Completed { .. } if unit.spec.kind == Kind::Task && !named => {}
            // It has not begun; there is nothing to do again unless its definition is another one.
            Phase::Waiting if unit.next.is_none() => {}
            _ => self.halt(id, After::Again { reason: reason.to_owned() }, out),
        }
    }

    /// A watched file changed: a restart as by hand, that nobody waits for.
    pub(super) fn file_changed(&mut self, id: &ServiceId, path: &str, out: &mut Vec<Action>) {
        let restarts = self.mode == Mode::Up
            && self.units.get(id).is_some_and(|unit| match unit.phase {
                Phase::Live(_) | Phase::BackingOff { .. } | Phase::Initialising | Phase::Spawning => unit.wanted,
                // The change may be the cure. A task that is done is done.
                Phase::Failed { .. } | Phase::Completed { .. } => unit.wanted && unit.spec.kind == Kind::Service,
                _ => false,
            });
        if restarts {
            let mut set = BTreeSet::from([id.clone()]);
            self.add_dependents(&mut set, false);
            for one in set.clone() {
                self.again(&one, false, &format!("{path} changed"), &set, out);
            }
        }
    }

    fn signal(&mut self, targets: &[ServiceId], signal: Signal, out: &mut Vec<Action>) {
        for id in targets {
            let Some(unit) = self.units.get(id) else { continue };
            if unit.live().is_some_and(|live| live.pid.is_some()) {
                out.push(Action::SignalLeader(id.clone(), unit.generation, signal));
            } else if unit.phase == Phase::Spawning && signal == Signal::KILL {
                // Its pid is not known yet; a child that hangs before its exec has one all the same.
                out.push(Action::KillTree(id.clone(), unit.generation));
            }
        }
    }

    /// Takes over a plan. With `all`, what runs by another definition is restarted and what is gone is stopped; without, a
    /// definition waits for the service's next start. Returns what is restarted.
    fn take_over(&mut self, plan: Arc<Plan>, all: bool, out: &mut Vec<Action>) -> BTreeSet<ServiceId> {
        let mut changed: BTreeMap<ServiceId, String> = BTreeMap::new();
        for (id, spec) in &plan.services {
            let Some(unit) = self.units.get_mut(id) else {
                let generation = self.retired.get(id).copied().unwrap_or(0);
                self.units.insert(id.clone(), Service::new(Arc::clone(spec), generation, false));
                continue;
            };
            let idle = unit.is_final() && unit.open == Open::Nothing;
            if unit.spec == *spec {
                unit.next = None;
            } else if idle {
                unit.spec = Arc::clone(spec);
                unit.next = None;
            } else {
                let text = changes::differences(&unit.spec, spec);
                unit.next = Some(Arc::clone(spec));
                // An old edge may point to what is no longer there. What runs keeps its edges, for the order of the stop.
                if !unit.holds_dependencies() {
                    unit.take_new_place();
                }
                if !text.is_empty() {
                    changed.insert(id.clone(), text);
                }
            }
            // It was on its way out of the project and is in it again.
            let removed = matches!(&unit.phase, Phase::Ending(ending) if ending.after == After::Remove)
                || matches!(&unit.phase, Phase::Cancelling { after: After::Remove, .. });
            if removed {
                self.halt(id, After::Again { reason: "start".to_owned() }, out);
            }
        }
        let gone: Vec<ServiceId> =
            self.units.iter().filter(|(id, unit)| !stays(id, unit, &plan)).map(|(id, _)| id.clone()).collect();
        self.plan = plan;
        self.units.touch_all();
        if !all {
            return BTreeSet::new();
        }
        for id in gone {
            if let Some(unit) = self.units.get_mut(&id) {
                unit.wanted = false;
            }
            self.halt(&id, After::Remove, out);
        }
        let mut set: BTreeSet<ServiceId> =
            changed.keys().filter(|id| self.units.get(id).is_some_and(|unit| unit.wanted)).cloned().collect();
        self.add_dependents(&mut set, false);
        for id in &set {
            let text = changed.get(id).map_or_else(|| "restart of what it needs".to_owned(), |text| format!("changed: {text}"));
            self.again(id, false, &text, &set, out);
        }
        set
    }
}

/// Whether a new plan leaves a service in the project: it names it, or the service is of a profile that this request did not
/// ask for while an earlier one did.
pub(super) fn stays(id: &ServiceId, unit: &Service, plan: &Plan) -> bool {
    plan.services.contains_key(id) || (unit.wanted && plan.inactive.contains_key(&unit.spec.service))
}
