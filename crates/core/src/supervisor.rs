//! The project's step: takes one event, lets everything move that now can, publishes what changed, and asks whether a start
//! or the whole run is over. Each concern is a file of its own and an `impl` block of the same type: `event_handlers` (one
//! service's answers), `commands` (requests), `dependencies` (who waits), `service_stop` (who ends, and when it is killed), `start_requests`
//! (starts and outcomes), `services` (what is known of all services together), `service_view` (what can be seen).
//!
//! A step never fails. An event of an unknown service, of an old generation, or one that means nothing in the present
//! phase is dropped, and the table test over every phase and event says which those are. After `Shutdown` nothing moves.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use devrun_model::{Failure, FailureKind, Plan, ServiceId, ServiceSpec, State, StateChange, duration};

use super::action::Action;
use super::dependency_status::DependencyStatus;
use super::event::{Event, Generation};
use super::service::{NextState, Outstanding, Phase, Service};
use super::services::Services;
use super::start_request::StartRequest;
use super::tick::Tick;
use super::unproven::Unproven;

/// What the project as a whole is doing.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Mode {
    /// Serving requests.
    Up,
    /// Stopping everything; nothing starts any more.
    Down { grace: Option<Duration>, killing: bool },
    /// `Shutdown` was said.
    Finished,
}

/// The whole project as a state machine.
#[derive(Debug, Clone)]
pub struct Supervisor {
    pub(super) plan: Arc<Plan>,
    pub(super) services: Services,
    pub(super) mode: Mode,
    /// The moment of the last step; time never runs backwards in here.
    pub(super) now: Tick,
    /// Starts that are not settled, in the order in which they were asked for.
    pub(super) starts: Vec<StartRequest>,
    /// Whether anything was ever asked to start: an idle supervisor does not end by itself.
    pub(super) has_start_request: bool,
    /// Failures in the order in which they happened, until the service is started again.
    pub(super) failures: Vec<(ServiceId, Failure)>,
    /// Processes that were replaced and could not be ended, whatever has been started since.
    pub(super) stuck: BTreeMap<(ServiceId, Generation), Failure>,
    pub(super) abort_on_failure: bool,
    pub(super) exit_code_from: Option<ServiceId>,
    pub(super) interrupts: u32,
    /// Generations of removed services: should one come back, late events of the old one must not fit.
    pub(super) retired: BTreeMap<ServiceId, Generation>,
    /// How long a service without a probe must live before a start counts it as ready.
    pub(super) proof_of_life: Duration,
    /// When those that are younger are looked at again.
    pub(super) unproven: Unproven,
    /// When a rolling restart that pauses continues.
    pub(super) rolling_resumes_at: Option<Tick>,
    /// Services with two processes, as one of them replaces the other.
    pub(super) overlapping: BTreeSet<ServiceId>,
}

impl Supervisor {
    /// A supervisor in which nothing runs until it is asked to. `remembered` are the services stopped manually in an earlier
    /// life: a start that does not name them leaves them alone, a full `up` starts them again.
    #[must_use]
    pub fn new(plan: Arc<Plan>, remembered: BTreeSet<ServiceId>) -> Self {
        let mut services = Services::default();
        for (id, spec) in &plan.services {
            services.insert(id.clone(), Service::new(Arc::clone(spec), 0, remembered.contains(id)));
        }
        let mut project = Self {
            plan,
            services,
            mode: Mode::Up,
            now: Tick::ZERO,
            starts: Vec::new(),
            has_start_request: false,
            failures: Vec::new(),
            stuck: BTreeMap::new(),
            abort_on_failure: false,
            exit_code_from: None,
            interrupts: 0,
            retired: BTreeMap::new(),
            proof_of_life: Duration::ZERO,
            unproven: Unproven::default(),
            rolling_resumes_at: None,
            overlapping: BTreeSet::new(),
        };
        project.refresh_index();
        project
    }

    /// Counts a service without a probe as ready, where a start is answered, only once it has lived this long: one that exits
    /// within moments was never up. Dependents do not wait for it.
    #[must_use]
    pub fn with_proof_of_life(mut self, duration: Duration) -> Self {
        self.proof_of_life = duration;
        self
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
            self.apply_deadlines(out);
            self.advance_overlaps(out);
            self.advance(out);
            self.publish(out);
            if !self.conclude(out) {
                break;
            }
        }
        self.refresh_index();
    }

    /// When `Event::Timer` must be fed next, if nothing else happens.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Tick> {
        if self.mode == Mode::Finished {
            return None;
        }
        let starts = self.starts.iter().filter_map(StartRequest::deadline);
        starts.chain(self.services.next_deadline()).chain(self.unproven.next_due()).chain(self.rolling_resumes_at).min()
    }

    /// Lets every service move whose edges or whose turn to stop now allow it, until none does.
    fn advance(&mut self, out: &mut Vec<Action>) {
        for _ in 0..2 * self.services.len() + 4 {
            if !(self.advance_pending(out) | self.advance_stops(out) | self.advance_overlaps(out)) {
                break;
            }
        }
    }

    fn advance_pending(&mut self, out: &mut Vec<Action>) -> bool {
        if self.mode != Mode::Up {
            return false;
        }
        self.refresh_index();
        // The step that ends the run starts nothing: what began here would be cancelled before the step is over.
        let run_is_over = self.has_reason_to_end();
        let mut moves: Vec<(ServiceId, DependencyStatus)> = std::mem::take(&mut self.services.movable)
            .into_iter()
            .filter_map(|id| Some((self.services.get(&id)?, self.services.status(&id)?.clone(), id)))
            .filter(|(service, status, _)| match (status, &service.phase) {
                (DependencyStatus::Satisfied | DependencyStatus::Pending(_), Phase::Blocked { .. }) => true,
                (DependencyStatus::Satisfied, Phase::Waiting) if run_is_over => false,
                (DependencyStatus::Satisfied | DependencyStatus::Skipped { .. }, _) => {
                    service.outstanding == Outstanding::Nothing
                }
                (DependencyStatus::Pending(_), _) => false,
                (DependencyStatus::Unsatisfiable { root, reason }, Phase::Blocked { root: known, reason: said }) => {
                    root != known || reason != said
                }
                (DependencyStatus::Unsatisfiable { .. }, _) => true,
            })
            .map(|(_, status, id)| (id, status))
            .collect();
        // Unblocked services move first, alone: if what waits for them were blocked for one round, others would begin without it.
        let is_freed = |(id, status): &(ServiceId, DependencyStatus)| {
            matches!(status, DependencyStatus::Satisfied | DependencyStatus::Pending(_))
                && self.services.get(id).is_some_and(|service| matches!(service.phase, Phase::Blocked { .. }))
        };
        if moves.iter().any(is_freed) {
            let (freed, later): (Vec<_>, Vec<_>) = moves.into_iter().partition(is_freed);
            self.services.movable.extend(later.into_iter().map(|(id, _)| id));
            moves = freed;
        }
        let moved = !moves.is_empty();
        for (id, status) in moves {
            let Some(service) = self.services.get_mut(&id) else { continue };
            match status {
                DependencyStatus::Satisfied if matches!(service.phase, Phase::Waiting) => {
                    service.phase = Phase::Initialising;
                    service.outstanding = Outstanding::Init;
                    out.push(Action::RunInit(id, service.generation));
                }
                DependencyStatus::Satisfied | DependencyStatus::Pending(_) => service.phase = Phase::Waiting,
                DependencyStatus::Unsatisfiable { root, reason } => service.phase = Phase::Blocked { root, reason },
                DependencyStatus::Skipped { because } => service.phase = Phase::Skipped { because },
            }
        }
        moved
    }

    /// Publishes every change of a shown state or health since the last step.
    fn publish(&mut self, out: &mut Vec<Action>) {
        self.refresh_index();
        let changed = std::mem::take(&mut self.services.to_publish);
        self.update_probe_paces(&changed, out);
        let shown = |id: ServiceId| {
            let shown = self.services.get(&id)?.displayed_state(self.services.is_awaiting_fetch(&id));
            Some((id, shown))
        };
        let mut changes: Vec<_> = changed.into_iter().filter_map(shown).collect();
        // What has ended or become ready comes before what that lets another service do, and a failure before what it blocks.
        changes.sort_by_key(|(_, (state, _))| match state {
            State::Stopped | State::Completed | State::Failed | State::Skipped | State::Asleep | State::BackingOff => 0,
            State::Running => 1,
            State::Waiting | State::Fetching | State::Initialising | State::Starting | State::Stopping => 2,
            State::Blocked => 3,
        });
        for (id, shown) in changes {
            self.publish_service(&id, shown, out);
        }
    }

    /// Publishes one service's change, if it is one.
    pub(super) fn publish_service(&mut self, id: &ServiceId, shown: (State, devrun_model::Health), out: &mut Vec<Action>) {
        if self.services.get(id).is_some_and(|service| service.published != shown) {
            self.publish_state(id, shown, None, out);
        }
    }

    /// Publishes that another process of a service is shown from now on, in the same state.
    pub(super) fn publish_replacement(&mut self, id: &ServiceId, out: &mut Vec<Action>) {
        let Some(service) = self.services.get_mut(id) else { return };
        let (shown, reason) = (service.displayed_state(false), service.replacement_reason.take());
        self.publish_state(id, shown, reason, out);
    }

    fn publish_state(
        &mut self,
        id: &ServiceId,
        shown: (State, devrun_model::Health),
        why: Option<String>,
        out: &mut Vec<Action>,
    ) {
        let Some(service) = self.services.get(id) else { return };
        let mut reason = why.or_else(|| self.reason_of(id, service));
        if let (Some(reason), Some(wait)) = (&mut reason, service.wait_after_exit(self.now)) {
            // The state between, in which it waits, is not there where the wait is short.
            *reason += &match wait {
                Duration::ZERO => "; restarts at once".to_owned(),
                wait => format!("; restarts in {}", duration::human(wait)),
            };
        }
        let Some(service) = self.services.get_mut(id) else { return };
        let from = service.published.0;
        service.published = shown;
        let ended = matches!(shown.0, State::Stopping | State::Stopped | State::Completed | State::Failed | State::BackingOff);
        let exit = service.current_exit().filter(|_| ended);
        out.push(Action::Notify(StateChange {
            ts: String::new(),
            seq: 0,
            name: StateChange::name_of(id, &service.spec.service),
            service: service.spec.service.as_str().to_owned(),
            replica: service.spec.replica,
            from,
            to: shown.0,
            health: shown.1,
            reason,
            help: service.failure().and_then(|failure| failure.help.clone()),
            pid: service.pid(),
            exit_code: exit.and_then(|status| match status {
                devrun_model::keeper::ExitStatus::Code(code) => Some(code),
                _ => None,
            }),
        }));
    }

    /// Starts a service again: a new generation, the definition that is due, a fetch. Everything of the old generation must be
    /// gone; where it is not (survivors), it stays where it is and that is said.
    pub(super) fn start(&mut self, id: &ServiceId, out: &mut Vec<Action>) {
        let Some(service) = self.services.get_mut(id) else { return };
        service.wanted = true;
        service.pending_stop = None;
        if service.outstanding != Outstanding::Nothing {
            out.push(Action::Message(
                id.clone(),
                "processes of the previous run may still be alive; refusing to start".to_owned(),
            ));
            return;
        }
        if let Some(next) = service.next_spec.take() {
            service.spec = next;
        }
        service.restarts = 0;
        service.crashes = 0;
        service.unready_ends.clear();
        service.use_check = None;
        service.waits_for_tiers = true;
        service.was_rolled = std::mem::take(&mut service.is_rolling);
        service.kept_previous = false;
        if let Some(previous) = &mut service.previous {
            previous.retires_at = None;
        }
        self.failures.retain(|(failed, _)| failed != id);
        if !service.spec.missing.is_empty() {
            let names = service.spec.missing.join(", ");
            let failure = Failure::new(FailureKind::Config, format!("no value for {names}"))
                .help(format!("set {names} where the template reads its keys, then run: devrun up"));
            service.phase = Phase::Blocked { root: id.clone(), reason: failure.reason.clone() };
            self.record_failure(id, failure);
            return;
        }
        service.begin_generation();
        service.phase = Phase::Waiting;
        service.outstanding = Outstanding::Fetch;
        out.push(Action::Fetch(id.clone(), service.generation));
    }

    /// Starts it again by its policy: a new generation of the same definition, whose binary is known already. Only its
    /// place among the others is that of the newest plan: an old edge may point to what is no longer there.
    pub(super) fn restart_by_policy(&mut self, id: &ServiceId) {
        let Some(service) = self.services.get_mut(id) else { return };
        service.adopt_edges_and_tier();
        service.begin_generation();
        service.restarts = service.restarts.saturating_add(1);
        service.waits_for_tiers = false;
        service.phase = Phase::Waiting;
    }

    /// Writes a failure down at the moment it happens. Optional services have none.
    pub(super) fn record_failure(&mut self, id: &ServiceId, failure: Failure) {
        let optional = self.services.get(id).is_some_and(|service| service.spec.optional);
        if !optional && !self.failures.iter().any(|(other, known)| other == id && *known == failure) {
            self.failures.push((id.clone(), failure));
        }
    }

    /// Moves a service of which nothing is outstanding to where it was bound.
    pub(super) fn enter_next_state(&mut self, id: &ServiceId, next_state: NextState, out: &mut Vec<Action>) {
        if self.take_previous_back(id, next_state.clone(), out) {
            return;
        }
        let up = self.mode == Mode::Up;
        let now = self.now;
        let Some(service) = self.services.get_mut(id) else { return };
        service.pending_stop = None;
        match next_state {
            NextState::Stopped { reason } => service.phase = Phase::Stopped { reason },
            NextState::StartRequested { .. } | NextState::BackingOff { .. } if !up => {
                service.phase = Phase::Stopped { reason: None }
            }
            NextState::StartRequested { .. } => {
                // Between two generations it is stopped; that it was is worth a line of its own.
                service.phase = Phase::Stopped { reason: None };
                self.start(id, out);
            }
            NextState::Asleep if !up => service.phase = Phase::Stopped { reason: None },
            NextState::Asleep => {
                service.begin_generation();
                self.fall_asleep(id, out);
            }
            NextState::BackingOff { until, .. } if now >= until => self.restart_by_policy(id),
            NextState::BackingOff { until, attempt, why } => service.phase = Phase::BackingOff { until, attempt, why },
            NextState::Failed(failure) => service.phase = Phase::Failed { failure },
            NextState::Blocked { root, reason } => service.phase = Phase::Blocked { root, reason },
            NextState::Completed { note } => service.phase = Phase::Completed { at: now, note },
            NextState::Removed(reason) => {
                service.phase = Phase::Stopped { reason: Some(reason) };
                let shown = service.displayed_state(false);
                self.publish_service(id, shown, out);
                self.kill_previous(id, out);
                self.overlapping.remove(id);
                if let Some(service) = self.services.remove(id) {
                    self.retired.insert(id.clone(), service.latest_generation);
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
        self.services.get(id).map(|service| &service.spec)
    }
}
