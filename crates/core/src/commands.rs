//! Requests: what `up`, `start`, `stop`, `restart`, `kill` and `down` mean for each service. Owns which services are wanted,
//! which stay stopped, and how a new plan is applied. A request only sets the target of each service; `service_stop` and
//! `advance` carry it out.
//!
//! A task that is done stays done for the life of this supervisor: no `up` runs it again, only a `start` or `restart` that
//! names it. A task without a sentinel therefore runs once at every start of the stack.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use devrun_model::{Command, Failure, Kind, Plan, ServiceId, Signal, StopPurpose, UpOptions, why};

use super::action::{Action, StartOutcome};
use super::definition_diff;
use super::plan_diff::{is_kept, restarts_with, why_gone};
use super::service::{NextState, Outstanding, Phase, Service, StopStage};
use super::start_request::StartRequest;
use super::stop_reason::StopReason;
use super::supervisor::{Mode, Supervisor};

/// A request to start, whichever verb it came by.
struct StartTargets<'a> {
    targets: &'a [ServiceId],
    /// A completed task that is named runs again.
    reruns_tasks: bool,
    no_deps: bool,
}

impl Supervisor {
    pub(super) fn handle_command(&mut self, command: Command, out: &mut Vec<Action>) {
        let starts = matches!(
            command,
            Command::Up { .. }
                | Command::Start { .. }
                | Command::Restart { .. }
                | Command::Scale { .. }
                | Command::RotateSecret { .. }
        );
        if starts && self.mode != Mode::Up {
            self.refuse_start(&command, out);
            return;
        }
        match command {
            Command::Up { plan, targets, options } => self.up(plan, &targets, &options, out),
            Command::Start { plan, targets } => {
                if let Some(plan) = plan {
                    self.apply_plan(plan, false, out);
                }
                let set = self.request_start(&StartTargets { targets: &targets, reruns_tasks: true, no_deps: false }, out);
                self.add_start_request(set, &targets, false);
            }
            Command::Restart { plan, targets, with_dependents, grace_ms } => {
                if let Some(plan) = plan {
                    self.apply_plan(plan, false, out);
                }
                self.restart(&targets, "restart by hand", with_dependents, grace_ms.map(Duration::from_millis), out);
            }
            Command::Scale { plan, services } => self.scale(plan, &services, out),
            Command::RotateSecret { plan, given, targets } => self.rotate_secret(plan, given, targets, out),
            Command::Stop { targets, purpose } => self.stop(&targets, purpose, out),
            Command::Kill { targets, signal } => self.signal_leaders(&targets, signal, out),
            Command::Down { grace_ms } => self.down(grace_ms.map(Duration::from_millis), out),
            Command::KillAll => self.kill_all(out),
        }
    }

    /// A start while everything is being stopped: the stop wins, and the request is answered with a failure.
    fn refuse_start(&self, command: &Command, out: &mut Vec<Action>) {
        let targets: Vec<ServiceId> = match command {
            Command::Up { targets, .. }
            | Command::Start { targets, .. }
            | Command::Restart { targets, .. }
            | Command::RotateSecret { targets, .. } => targets.clone(),
            Command::Scale { plan, services } => services.iter().flat_map(|name| plan.ids_of(name).cloned()).collect(),
            Command::Stop { .. } | Command::Kill { .. } | Command::Down { .. } | Command::KillAll => return,
        };
        let ids: Vec<ServiceId> = if targets.is_empty() { self.services.keys().cloned().collect() } else { targets };
        let failure = Failure::being_stopped();
        let failures = ids.into_iter().map(|id| (id, failure.clone())).collect();
        // Behind all that are open.
        let position = self.starts.len();
        out.push(Action::StartFinished(StartOutcome { failures, position, ..StartOutcome::default() }));
    }

    fn up(&mut self, plan: Option<Arc<Plan>>, targets: &[ServiceId], options: &UpOptions, out: &mut Vec<Action>) {
        let restarted = plan.map(|plan| self.apply_plan(plan, true, out)).unwrap_or_default();
        self.abort_on_failure |= options.abort_on_failure;
        if options.exit_code_from.is_some() {
            self.exit_code_from.clone_from(&options.exit_code_from);
        }
        let mut set = self.request_start(&StartTargets { targets, reruns_tasks: false, no_deps: options.no_deps }, out);
        set.extend(restarted);
        self.add_start_request(set, targets, options.rollback);
    }

    /// Wants services up: the named ones (all, if none) and what they need, also what of it was stopped manually. Returns those
    /// that are now expected to become ready.
    fn request_start(&mut self, request: &StartTargets<'_>, out: &mut Vec<Action>) -> BTreeSet<ServiceId> {
        let named: BTreeSet<ServiceId> = request.targets.iter().filter(|id| self.services.contains_key(id)).cloned().collect();
        let all = request.targets.is_empty();
        let set = match (all, request.no_deps) {
            (true, _) => self.plan.services.keys().filter(|id| self.services.contains_key(id)).cloned().collect(),
            (false, true) => named.clone(),
            (false, false) => self.with_dependencies(&named),
        };
        let mut expected = BTreeSet::new();
        for id in set {
            let is_named = named.contains(&id);
            self.clear_manual_stop(&id, out);
            if let Some(service) = self.services.get_mut(&id) {
                service.no_deps = request.no_deps;
            }
            self.bring_up(&id, is_named && request.reruns_tasks, out);
            expected.insert(id);
        }
        expected
    }

    /// Wants these up, and nothing that they need.
    pub(super) fn start_copies(&mut self, targets: &[ServiceId], out: &mut Vec<Action>) -> BTreeSet<ServiceId> {
        if targets.is_empty() {
            return BTreeSet::new();
        }
        self.request_start(&StartTargets { targets, reruns_tasks: false, no_deps: true }, out)
    }

    /// The services and all that they need, by the definitions that they start with.
    fn with_dependencies(&self, named: &BTreeSet<ServiceId>) -> BTreeSet<ServiceId> {
        let mut set = BTreeSet::new();
        let mut next: Vec<ServiceId> = named.iter().cloned().collect();
        while let Some(id) = next.pop() {
            let Some(service) = self.services.get(&id) else { continue };
            if set.insert(id) {
                next.extend(service.next_start_spec().depends_on.iter().map(|edge| edge.on.clone()));
            }
        }
        set
    }

    /// Wants one service up. One that is up or starting stays as it is; one that is stopping is started again afterwards.
    fn bring_up(&mut self, id: &ServiceId, named: bool, out: &mut Vec<Action>) {
        let start_again = || NextState::StartRequested { reason: "start".to_owned() };
        let Some(service) = self.services.get_mut(id) else { return };
        service.wanted = true;
        let task = service.spec.kind == Kind::Task;
        match &mut service.phase {
            Phase::Waiting | Phase::Initialising | Phase::Spawning => service.is_demanded |= named,
            Phase::Asleep { .. } if named => self.wake(id, out),
            Phase::Asleep { .. } => {}
            Phase::Live(_) => {
                let falls_asleep = named && service.pending_stop == Some(NextState::Asleep);
                if falls_asleep || service.pending_stop.as_ref().is_some_and(|next_state| !next_state.comes_back()) {
                    service.pending_stop = None;
                }
                self.forget_kept(id);
            }
            Phase::Completed { .. } if task && !named => {}
            Phase::BackingOff { .. } if !named => {}
            Phase::Cancelling { next_state, .. } => next_state.merge(start_again()),
            Phase::Stopping(stop) => match &stop.next_state {
                NextState::Completed { .. } if task && !named => {}
                NextState::BackingOff { .. } | NextState::Asleep if !named => {}
                _ => stop.next_state.merge(start_again()),
            },
            // Blocked with a fetch under way: it goes on from there as soon as its dependencies allow.
            Phase::Blocked { .. } if service.outstanding == Outstanding::Fetch && service.next_spec.is_none() => {}
            Phase::Blocked { .. } if service.outstanding != Outstanding::Nothing => self.request_stop(id, start_again(), out),
            Phase::BackingOff { .. }
            | Phase::Stopped { .. }
            | Phase::Completed { .. }
            | Phase::Failed { .. }
            | Phase::Blocked { .. }
            | Phase::Skipped { .. } => {
                service.is_demanded = named;
                self.start(id, out);
            }
        }
    }

    /// What runs is what is wanted: an earlier restart that was given up on does not fail this start.
    fn forget_kept(&mut self, id: &ServiceId) {
        let is_awaited = self.starts.iter().any(|start| start.targets.contains(id));
        let Some(service) = self.services.get_mut(id).filter(|service| service.pending_stop.is_none() && !is_awaited) else {
            return;
        };
        service.kept_previous = false;
        if service.ready_since().is_some() {
            self.failures.retain(|(failed, _)| failed != id);
        }
    }

    fn clear_manual_stop(&mut self, id: &ServiceId, out: &mut Vec<Action>) {
        if let Some(service) = self.services.get_mut(id)
            && std::mem::replace(&mut service.stopped_manually, false)
        {
            out.push(Action::PersistManualStop { id: id.clone(), stopped: false });
        }
    }

    /// Registers a start request for these.
    pub(super) fn add_start_request(&mut self, targets: BTreeSet<ServiceId>, asked: &[ServiceId], rollback: bool) {
        self.has_start_request = true;
        let unknown = asked.iter().filter(|id| !self.services.contains_key(id)).cloned().collect();
        self.services.to_settle.extend(targets.iter().cloned());
        self.starts.push(StartRequest {
            pending: targets.clone(),
            targets,
            ready: BTreeSet::new(),
            crash_loops: BTreeMap::new(),
            unknown,
            rollback,
            timeout: self.plan.timeout,
            elapsed: Duration::ZERO,
            running_since: Some(self.now),
            is_timed_out: false,
        });
    }

    fn stop(&mut self, targets: &[ServiceId], purpose: StopPurpose, out: &mut Vec<Action>) {
        if self.mode != Mode::Up {
            return;
        }
        let ids: Vec<ServiceId> = if targets.is_empty() { self.services.keys().cloned().collect() } else { targets.to_vec() };
        for id in ids {
            let Some(service) = self.services.get_mut(&id) else { continue };
            service.wanted = false;
            service.is_rolling = false;
            service.is_demanded = false;
            if !std::mem::replace(&mut service.stopped_manually, true) {
                out.push(Action::PersistManualStop { id: id.clone(), stopped: true });
            }
            // What is done stays done; everything else is stopped from here on, also what had failed.
            if !matches!(service.phase, Phase::Completed { .. }) {
                self.request_stop(&id, NextState::Stopped { reason: Some(StopReason::Requested(purpose)) }, out);
            }
        }
    }

    fn restart(
        &mut self,
        targets: &[ServiceId],
        reason: &str,
        with_dependents: bool,
        grace: Option<Duration>,
        out: &mut Vec<Action>,
    ) {
        let mut set: BTreeSet<ServiceId> = if targets.is_empty() {
            // All that somebody wanted; what was stopped manually or never asked for stays as it is.
            self.services.iter().filter(|(_, service)| service.wanted).map(|(id, _)| id.clone()).collect()
        } else {
            targets.iter().filter(|id| self.services.contains_key(id)).cloned().collect()
        };
        let named: BTreeSet<ServiceId> = targets.iter().cloned().collect();
        let asked = set.clone();
        self.add_dependents(&mut set, with_dependents);
        for id in &set {
            self.clear_manual_stop(id, out);
        }
        // What they need comes up as with `start`, also what of it was stopped manually; what of it is up is left alone.
        let mut expected = BTreeSet::new();
        for id in self.with_dependencies(&set) {
            if !set.contains(&id) {
                self.clear_manual_stop(&id, out);
                self.bring_up(&id, false, out);
                expected.insert(id);
            }
        }
        for id in &set {
            self.shorten_grace(id, grace);
            let reason = if asked.contains(id) { reason.to_owned() } else { self.restart_of_needed(id, &set) };
            self.restart_service(id, named.contains(id), &reason, &set, out);
        }
        expected.extend(set);
        self.add_start_request(expected, targets, false);
    }

    /// Limits the grace of a stop that is about to begin, or has.
    fn shorten_grace(&mut self, id: &ServiceId, grace: Option<Duration>) {
        let Some(service) = self.services.get_mut(id) else { return };
        match (&mut service.phase, grace) {
            (Phase::Live(_) | Phase::Spawning, grace) => service.next_grace = grace,
            (Phase::Stopping(stop), Some(limit)) if stop.stage == StopStage::Terminating => {
                stop.due = stop.due.min(stop.requested_at + limit);
            }
            _ => {}
        }
    }

    /// A server that was given its new password runs on by the new definition. One that could not have been meant, as it was
    /// started by yet another definition or is not up, is restarted like every other one.
    fn rotate_secret(&mut self, plan: Arc<Plan>, given: Vec<ServiceId>, mut targets: Vec<ServiceId>, out: &mut Vec<Action>) {
        self.apply_plan(plan, false, out);
        for id in given {
            let Some(service) = self.services.get_mut(&id) else { continue };
            let Some(next) = service.next_spec.clone() else { continue };
            if service.live().is_some()
                && service.pending_stop.is_none()
                && definition_diff::only_login_differs(&service.spec, &next)
            {
                service.spec = next;
                service.next_spec = None;
                out.push(Action::UpdateSpec(id, service.generation));
            } else {
                targets.push(id);
            }
        }
        if targets.is_empty() {
            self.add_start_request(BTreeSet::new(), &[], false);
        } else {
            self.restart(&targets, "secret rotated", false, None, out);
        }
    }

    /// Adds those that depend on the set: all that are wanted, or only those whose edge says `restart`.
    fn add_dependents(&mut self, set: &mut BTreeSet<ServiceId>, all: bool) {
        self.refresh_index();
        let mut next: Vec<ServiceId> = set.iter().cloned().collect();
        while let Some(on) = next.pop() {
            for id in self.services.dependents(&on) {
                let follows = |service: &Service| restarts_with(&service.spec, service.wanted, &on, all);
                if self.services.get(id).is_some_and(follows) && set.insert(id.clone()) {
                    next.push(id.clone());
                }
            }
        }
    }

    /// Why a service restarts that is restarted with what it needs: `restart of db`.
    fn restart_of_needed(&self, id: &ServiceId, set: &BTreeSet<ServiceId>) -> String {
        let edges = self.services.get(id).map(|service| service.spec.depends_on.as_slice()).unwrap_or_default();
        let needed: Vec<&str> = edges.iter().map(|edge| &edge.on).filter(|on| set.contains(on)).map(ServiceId::as_str).collect();
        format!("restart of {}", needed.join(", "))
    }

    /// Stops and starts one service. `set` is what restarts with it.
    fn restart_service(&mut self, id: &ServiceId, named: bool, reason: &str, set: &BTreeSet<ServiceId>, out: &mut Vec<Action>) {
        let Some(service) = self.services.get_mut(id) else { return };
        service.wanted = true;
        // One copy at a time, unless what they need goes down with them.
        let goes_with_others = service.spec.depends_on.iter().any(|edge| set.contains(&edge.on));
        service.is_rolling = service.spec.replicas > 1 && !goes_with_others;
        service.is_start_first = !goes_with_others;
        service.kept_previous = false;
        match service.phase {
            Phase::Completed { .. } if service.spec.kind == Kind::Task && !named => {}
            // It has not begun; there is nothing to do again unless its definition is another one.
            Phase::Waiting if service.next_spec.is_none() => {}
            _ => self.request_stop(id, NextState::StartRequested { reason: reason.to_owned() }, out),
        }
    }

    /// A watched file changed: a restart as if requested, without an answer.
    pub(super) fn handle_file_changed(&mut self, id: &ServiceId, path: &str, out: &mut Vec<Action>) {
        let restarts = self.mode == Mode::Up
            && self.services.get(id).is_some_and(|service| match service.phase {
                Phase::Live(_) | Phase::BackingOff { .. } | Phase::Initialising | Phase::Spawning => service.wanted,
                // The change may be the cure. A task that is done is done.
                Phase::Failed { .. } | Phase::Completed { .. } => service.wanted && service.spec.kind == Kind::Service,
                _ => false,
            });
        if restarts {
            let mut set = BTreeSet::from([id.clone()]);
            self.add_dependents(&mut set, false);
            for one in set.clone() {
                let reason = if one == *id { why::file_changed(path) } else { self.restart_of_needed(&one, &set) };
                self.restart_service(&one, false, &reason, &set, out);
            }
        }
    }

    fn signal_leaders(&mut self, targets: &[ServiceId], signal: Signal, out: &mut Vec<Action>) {
        for id in targets {
            let Some(service) = self.services.get(id) else { continue };
            if service.live().is_some_and(|live| live.pid.is_some()) {
                out.push(Action::SignalLeader(id.clone(), service.generation, signal));
            } else if service.phase == Phase::Spawning && signal == Signal::KILL {
                // Its pid is not known yet; a child that hangs before its exec has one all the same.
                out.push(Action::KillTree(id.clone(), service.generation));
            } else if matches!(service.phase, Phase::Stopping(_)) && signal == Signal::KILL {
                // Whoever asks for it no longer wants to wait for the grace period.
                self.kill(id, out);
            }
        }
    }

    /// Takes over a plan. With `all`, what runs by another definition is restarted and what is gone is stopped; without, a
    /// definition waits for the service's next start. Returns what is restarted.
    pub(super) fn apply_plan(&mut self, plan: Arc<Plan>, all: bool, out: &mut Vec<Action>) -> BTreeSet<ServiceId> {
        let mut changed: BTreeMap<ServiceId, String> = BTreeMap::new();
        for (id, spec) in &plan.services {
            let Some(service) = self.services.get_mut(id) else {
                let generation = self.retired.get(id).copied().unwrap_or(0);
                self.services.insert(id.clone(), Service::new(Arc::clone(spec), generation, false));
                continue;
            };
            let idle = service.is_final() && service.outstanding == Outstanding::Nothing;
            if service.spec == *spec {
                service.next_spec = None;
            } else if idle {
                service.spec = Arc::clone(spec);
                service.next_spec = None;
            } else {
                let text = definition_diff::differences(&service.spec, spec);
                service.next_spec = Some(Arc::clone(spec));
                // An old edge may point to what is no longer there. What runs keeps its edges, for the order of the stop.
                if !service.holds_dependencies() {
                    service.adopt_edges_and_tier();
                }
                if !text.is_empty() {
                    changed.insert(id.clone(), text);
                }
            }
            // It was being removed and is in the project again.
            let removed = matches!(&service.phase, Phase::Stopping(stop) if matches!(stop.next_state, NextState::Removed(_)))
                || matches!(&service.phase, Phase::Cancelling { next_state: NextState::Removed(_), .. });
            if removed {
                self.request_stop(id, NextState::StartRequested { reason: "start".to_owned() }, out);
            }
        }
        let gone: Vec<ServiceId> =
            self.services.iter().filter(|(id, service)| !is_kept(id, service, &plan)).map(|(id, _)| id.clone()).collect();
        self.plan = plan;
        self.services.mark_all_changed();
        if !all {
            return BTreeSet::new();
        }
        for id in gone {
            let Some(service) = self.services.get_mut(&id) else { continue };
            service.wanted = false;
            let reason = why_gone(service, &self.plan);
            self.request_stop(&id, NextState::Removed(reason), out);
        }
        let mut set: BTreeSet<ServiceId> =
            changed.keys().filter(|id| self.services.get(id).is_some_and(|service| service.wanted)).cloned().collect();
        self.add_dependents(&mut set, false);
        for id in &set {
            let text = changed.get(id).map_or_else(|| self.restart_of_needed(id, &set), |text| format!("changed: {text}"));
            self.restart_service(id, false, &text, &set, out);
        }
        set
    }
}
