//! One service or task: its phase with the data that is valid in it, and what of it is outstanding with the outside world.
//! Owns how a phase is shown and which deadline it has. Does not move between phases: that needs the rest of the project,
//! so it is `supervisor`, `service_stop` and `commands` that do.

use std::sync::Arc;
use std::time::Duration;

use devrun_model::keeper::ExitStatus;
use devrun_model::{Failure, Health, Kind, ServiceId, ServiceSpec, State, StopPurpose, UpdateOrder};

use super::crash_loop::UnreadyEnds;
use super::definition_diff;
use super::event::Generation;
use super::health::ProbeTracker;
use super::stop_reason::StopReason;
use super::tick::Tick;

/// The request of this generation that is still outstanding. A new generation starts only at `Nothing`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outstanding {
    /// None.
    Nothing,
    /// A fetch.
    Fetch,
    /// First boot or `pre_start`.
    Init,
    /// A process, or the attempt to start one: its tree is not proved empty.
    Tree,
}

/// What a service becomes when nothing of its generation is left.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum NextState {
    /// Stopped.
    Stopped { reason: Option<StopReason> },
    /// Taken out of the project.
    Removed(StopReason),
    /// Started again on request.
    StartRequested { reason: String },
    /// Stopped until its next connection.
    Asleep,
    /// Restarted by policy, not before `until`.
    BackingOff { until: Tick, attempt: u32, why: String },
    /// Failed.
    Failed(Failure),
    /// Done.
    Completed { note: Option<String> },
    /// Blocked as before; only its fetch is given up.
    Blocked { root: ServiceId, reason: String },
}

impl NextState {
    /// Whether it comes up again by itself.
    pub(crate) fn comes_back(&self) -> bool {
        matches!(self, Self::StartRequested { .. } | Self::BackingOff { .. } | Self::Asleep)
    }
    /// What wins when a second reason meets the first. A failure or an end that has happened stays what it was under a
    /// stop; a stop wins over every start that is on its way; a start that is asked for after a stop is honoured.
    pub(crate) fn merge(&mut self, new: Self) {
        let keep = matches!(
            (&*self, &new),
            (Self::Failed(_) | Self::Completed { .. }, Self::Stopped { .. } | Self::Failed(_) | Self::Completed { .. })
                | (Self::Blocked { .. }, Self::Stopped { reason: None } | Self::Failed(_))
                | (Self::Stopped { reason: Some(_) }, Self::Stopped { reason: None })
                | (
                    Self::Stopped { .. } | Self::Removed(_),
                    Self::Failed(_) | Self::Completed { .. } | Self::BackingOff { .. } | Self::Asleep
                )
                | (Self::Removed(_), Self::Stopped { .. })
        );
        if !keep {
            *self = new;
        }
    }
    fn reason(&self) -> Option<String> {
        match self {
            Self::Stopped { reason } => reason.map(|reason| reason.to_string()),
            Self::Removed(reason) => Some(reason.to_string()),
            Self::StartRequested { reason } => Some(reason.clone()),
            Self::Asleep => Some("no connections".to_owned()),
            Self::BackingOff { why, .. } => Some(why.clone()),
            Self::Failed(failure) => Some(failure.reason.clone()),
            Self::Completed { note } => note.clone(),
            Self::Blocked { reason, .. } => Some(reason.clone()),
        }
    }
}

/// A live process.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct LiveProcess {
    pub pid: Option<i32>,
    pub spawned_at: Tick,
    pub ready: Option<ProbeTracker>,
    pub alive: Option<ProbeTracker>,
    /// Its leader has ended; see [`super::event::Event::ExitHeld`].
    pub is_exit_held: bool,
    /// It is probed at the pace of a start, as others wait for it.
    pub is_probed_often: bool,
}

impl LiveProcess {
    pub(crate) fn new(spec: &ServiceSpec, pid: Option<i32>, now: Tick) -> Self {
        // A task is ready when it is done; probing it means nothing.
        let service = spec.kind == Kind::Service;
        let tracker = |ready: &Option<_>| ready.as_ref().filter(|_| service).map(|ready| ProbeTracker::new(ready, now));
        Self {
            pid,
            spawned_at: now,
            ready: tracker(&spec.ready),
            alive: tracker(&spec.alive),
            is_exit_held: false,
            is_probed_often: false,
        }
    }
    /// Whether its leader lives, as far as is known.
    pub(crate) fn has_leader(&self) -> bool {
        !self.is_exit_held
    }
    pub(crate) fn is_probed(&self) -> bool {
        self.ready.is_some() || self.alive.is_some()
    }
    /// When it became ready; without a probe that is the spawn.
    pub(crate) fn ready_at(&self) -> Option<Tick> {
        self.ready.as_ref().map_or(Some(self.spawned_at), ProbeTracker::first_pass)
    }
    pub(crate) fn health(&self) -> Health {
        self.ready.as_ref().map_or(Health::None, ProbeTracker::health)
    }
}

/// Which signal comes next for a tree that must end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum StopStage {
    /// Not asked yet: the spawn is not answered, or others still need it.
    Queued,
    /// Asked to stop.
    Terminating,
    /// Past the grace, the stronger signal was sent.
    Escalated,
    /// Killed.
    Killing,
}

/// The stop of one process tree.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct TreeStop {
    pub next_state: NextState,
    /// The process as it was; absent when it never lived.
    pub process: Option<LiveProcess>,
    /// Whether the leader has ended.
    pub leader_gone: bool,
    pub stage: StopStage,
    pub requested_at: Tick,
    /// When the next step is due.
    pub due: Tick,
}

/// The process that a restart replaces.
#[derive(Debug, Clone)]
pub(super) struct PreviousProcess {
    /// The definition that it was started with.
    pub spec: Arc<ServiceSpec>,
    pub generation: Generation,
    pub process: LiveProcess,
    /// Restarts by policy up to now.
    pub restarts: u32,
    /// When it is no longer needed: the next one is ready, or has lived long enough.
    pub retires_at: Option<Tick>,
    /// Its stop. While there is none, it serves.
    pub stop: Option<TreeStop>,
}

impl PreviousProcess {
    /// When time alone moves it.
    pub(crate) fn deadline(&self) -> Option<Tick> {
        self.stop.as_ref().map_or(self.retires_at, |stop| Some(stop.due))
    }

    pub(crate) fn begin_stop(&mut self, now: Tick, limit: Option<Duration>, leader_gone: bool) {
        self.stop = Some(TreeStop {
            next_state: NextState::Stopped { reason: None },
            process: Some(self.process.clone()),
            leader_gone,
            stage: StopStage::Terminating,
            requested_at: now,
            due: now + limit.map_or(self.spec.stop.grace, |limit| limit.min(self.spec.stop.grace)),
        });
    }
}

/// The look at the connections of a service that is stopped when it has none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct UseCheck {
    /// When the next one is due; `None` of it: it is being made.
    pub due: Tick,
    /// The last moment at which it was known to be in use.
    pub last_use: Tick,
}

/// The phase of one service.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Phase {
    /// Never started, or stopped.
    Stopped { reason: Option<StopReason> },
    /// Dependencies are missing, or the fetch is.
    Waiting,
    /// First boot, `pre_start`.
    Initialising,
    /// The spawn is asked for.
    Spawning,
    /// The process lives.
    Live(LiveProcess),
    /// Its socket is open, and its first connection starts it.
    Asleep { since: Tick },
    /// Crashed; restarts at `until`.
    BackingOff { until: Tick, attempt: u32, why: String },
    /// Fetch or init is given up; its answer is awaited.
    Cancelling { next_state: NextState, give_up_at: Tick },
    /// The tree must end and is not proved empty.
    Stopping(TreeStop),
    /// Ended well.
    Completed { at: Tick, note: Option<String> },
    /// Given up.
    Failed { failure: Failure },
    /// A dependency cannot meet its condition.
    Blocked { root: ServiceId, reason: String },
    /// Optional and not to be had.
    Skipped { because: String },
}

/// One service with all that is remembered of it.
#[derive(Debug, Clone)]
pub(super) struct Service {
    /// The definition that its present generation was started with.
    pub spec: Arc<ServiceSpec>,
    /// The definition that its next start takes over.
    pub next_spec: Option<Arc<ServiceSpec>>,
    /// Whether it is wanted: asked for, and not stopped since.
    pub wanted: bool,
    /// Stopped by hand, and that is to be remembered.
    pub stopped_manually: bool,
    /// It starts on demand, and is not asleep: a connection or a request by name has started it.
    pub is_demanded: bool,
    /// When its connections are looked at next, and when there was the last one that is known, of a process that is ready.
    pub use_check: Option<UseCheck>,
    /// Dependencies on services that are not wanted count as satisfied (`up --no-deps`).
    pub no_deps: bool,
    /// Numbered tiers hold this start up; a restart by policy is past that.
    pub waits_for_tiers: bool,
    /// Restart only while no sibling replica is on its way.
    pub is_rolling: bool,
    /// Its present generation was begun by a rolling restart.
    pub was_rolled: bool,
    /// Its restart may start the next process before this one is stopped.
    pub is_start_first: bool,
    /// The last restart did not replace it, as the next process did not come up.
    pub kept_previous: bool,
    /// Why its previous process is replaced.
    pub replacement_reason: Option<String>,
    /// The process that a restart replaces, from the start of the next one until nothing is left of it.
    pub previous: Option<Box<PreviousProcess>>,
    pub generation: Generation,
    /// The highest that it ever had; the present one is lower where a previous process was kept.
    pub latest_generation: Generation,
    pub phase: Phase,
    pub outstanding: Outstanding,
    /// To be stopped when its turn comes, and what then.
    pub pending_stop: Option<NextState>,
    /// Shortens the grace of its next stop.
    pub next_grace: Option<Duration>,
    /// Restarts by policy since it was last asked for.
    pub restarts: u32,
    /// Quick crashes in a row.
    pub crashes: u32,
    /// Ends before it was ready, since it was last asked for or ready.
    pub unready_ends: UnreadyEnds,
    /// How it last ended, and in which generation.
    pub exit: Option<(Generation, ExitStatus)>,
    /// What was last published.
    pub published: (State, Health),
}

impl Service {
    pub(crate) fn new(spec: Arc<ServiceSpec>, generation: Generation, stopped_manually: bool) -> Self {
        let reason = stopped_manually.then_some(StopReason::Requested(StopPurpose::Manual));
        Self {
            spec,
            next_spec: None,
            wanted: false,
            stopped_manually,
            is_demanded: false,
            use_check: None,
            no_deps: false,
            waits_for_tiers: true,
            is_rolling: false,
            was_rolled: false,
            is_start_first: false,
            kept_previous: false,
            replacement_reason: None,
            previous: None,
            generation,
            latest_generation: generation,
            phase: Phase::Stopped { reason },
            outstanding: Outstanding::Nothing,
            pending_stop: None,
            next_grace: None,
            restarts: 0,
            crashes: 0,
            unready_ends: UnreadyEnds::default(),
            exit: None,
            published: (State::Stopped, Health::None),
        }
    }
    /// The process that serves while the next one starts.
    pub(crate) fn serving_previous(&self) -> Option<&PreviousProcess> {
        self.previous.as_deref().filter(|previous| previous.stop.is_none())
    }
    /// Whether a restart may start the next process while the present one serves: it is asked for, both can share the port, and
    /// there is one that serves.
    pub(crate) fn can_start_first(&self) -> bool {
        let (now, next) = (&self.spec, self.next_start_spec());
        let shares_port = now.ports == next.ports && now.bind == next.bind && now.listen == next.listen;
        let is_ready = self.live().is_some_and(|live| live.ready_at().is_some() && live.pid.is_some());
        self.is_start_first && next.update.order == UpdateOrder::StartFirst && shares_port && is_ready && self.previous.is_none()
    }
    /// Counts a new start.
    pub(crate) fn begin_generation(&mut self) {
        self.latest_generation += 1;
        self.generation = self.latest_generation;
    }
    /// The definition that the next start takes.
    pub(crate) fn next_start_spec(&self) -> &Arc<ServiceSpec> {
        self.next_spec.as_ref().unwrap_or(&self.spec)
    }
    /// Takes over edges and tier of the newest definition, and all of it where nothing that was started would notice.
    pub(crate) fn adopt_edges_and_tier(&mut self) {
        let Some(next) = &self.next_spec else { return };
        if definition_diff::differences(&self.spec, next).is_empty() {
            self.spec = next.clone();
            self.next_spec = None;
        } else {
            let spec = Arc::make_mut(&mut self.spec);
            spec.depends_on.clone_from(&next.depends_on);
            spec.tier = next.tier;
        }
    }
    /// Whether its next start is only the opening of its socket.
    pub(crate) fn sleeps_at_start(&self) -> bool {
        self.spec.on_demand.is_some() && !self.is_demanded && self.previous.is_none()
    }
    pub(crate) fn live(&self) -> Option<&LiveProcess> {
        match &self.phase {
            Phase::Live(live) => Some(live),
            _ => None,
        }
    }
    /// Whether something of it may run that its dependencies must outlive.
    pub(crate) fn holds_dependencies(&self) -> bool {
        match self.phase {
            _ if self.previous.is_some() => true,
            Phase::Initialising | Phase::Spawning | Phase::Live(_) | Phase::Stopping(_) => true,
            Phase::Cancelling { .. } => self.outstanding != Outstanding::Fetch,
            _ => false,
        }
    }
    /// Whether it is stopping or queued to stop.
    pub(crate) fn is_leaving(&self) -> bool {
        self.pending_stop.is_some() || matches!(self.phase, Phase::Stopping(_) | Phase::Cancelling { .. })
    }
    /// Whether it is to be stopped and has not been asked yet: it lives, or it came to life after the stop was wanted.
    pub(crate) fn is_queued_to_stop(&self) -> bool {
        self.pending_stop.is_some()
            || matches!(&self.phase, Phase::Stopping(stop) if stop.stage == StopStage::Queued && stop.process.is_some())
    }
    /// Whether nothing more happens by itself.
    pub(crate) fn is_final(&self) -> bool {
        matches!(
            self.phase,
            Phase::Stopped { .. }
                | Phase::Completed { .. }
                | Phase::Failed { .. }
                | Phase::Blocked { .. }
                | Phase::Skipped { .. }
        )
    }
    /// Since when it is ready, in the sense of a start that is over: healthy once, running without a probe, or done.
    pub(crate) fn ready_since(&self) -> Option<Tick> {
        match &self.phase {
            Phase::Live(live) if self.spec.kind == Kind::Service && self.pending_stop.is_none() => live.ready_at(),
            Phase::Completed { at, .. } => Some(*at),
            Phase::Asleep { since } => Some(*since),
            _ => None,
        }
    }
    /// The two words of `ps`. `held` says whether its dependencies hold, which only `Waiting` asks.
    pub(crate) fn displayed_state(&self, held: bool) -> (State, Health) {
        let last = |process: &Option<LiveProcess>| process.as_ref().map_or(Health::None, LiveProcess::health);
        if let Some(previous) = self.serving_previous() {
            return (State::Running, previous.process.health());
        }
        match &self.phase {
            Phase::Stopped { .. } => (State::Stopped, Health::None),
            Phase::Waiting if held && self.outstanding == Outstanding::Fetch => (State::Fetching, Health::None),
            Phase::Waiting => (State::Waiting, Health::None),
            Phase::Initialising | Phase::Spawning => (State::Initialising, Health::None),
            Phase::Live(live) => match live.health() {
                Health::Starting => (State::Starting, Health::Starting),
                health => (State::Running, health),
            },
            Phase::Asleep { .. } => (State::Asleep, Health::None),
            Phase::BackingOff { .. } => (State::BackingOff, Health::None),
            Phase::Cancelling { .. } => (State::Stopping, Health::None),
            Phase::Stopping(stop) => (State::Stopping, last(&stop.process)),
            Phase::Completed { .. } => (State::Completed, Health::None),
            Phase::Failed { .. } => (State::Failed, Health::None),
            Phase::Blocked { .. } => (State::Blocked, Health::None),
            Phase::Skipped { .. } => (State::Skipped, Health::None),
        }
    }
    /// Why it is where it is, dependencies apart.
    pub(crate) fn reason(&self) -> Option<String> {
        if self.serving_previous().is_some() {
            return Some("its next process is starting".to_owned());
        }
        match &self.phase {
            Phase::Stopped { reason } => reason.map(|reason| reason.to_string()),
            Phase::Waiting | Phase::Initialising | Phase::Spawning => None,
            Phase::Live(live) => {
                let ready = live.ready.as_ref().zip(self.spec.ready.as_ref()).and_then(|(tracker, spec)| tracker.reason(spec));
                let alive = || live.alive.as_ref().and_then(ProbeTracker::answer).map(|text| format!("not alive: {text}"));
                ready.or_else(alive)
            }
            Phase::Asleep { .. } => Some("starts with its first connection".to_owned()),
            Phase::BackingOff { why, .. } => Some(why.clone()),
            Phase::Cancelling { next_state, .. } => next_state.reason(),
            Phase::Stopping(stop) => stop.next_state.reason(),
            Phase::Completed { note, .. } => note.clone(),
            Phase::Failed { failure } => Some(failure.reason.clone()),
            Phase::Blocked { reason, .. } => Some(reason.clone()),
            Phase::Skipped { because } => Some(because.clone()),
        }
    }
    /// The failure that it ended with, or is being stopped for.
    pub(crate) fn failure(&self) -> Option<&Failure> {
        match &self.phase {
            Phase::Failed { failure } => Some(failure),
            Phase::Stopping(TreeStop { next_state: NextState::Failed(failure), .. }) => Some(failure),
            _ => None,
        }
    }
    /// The exit of the present generation.
    pub(crate) fn current_exit(&self) -> Option<ExitStatus> {
        self.exit.filter(|(generation, _)| *generation == self.generation).map(|(_, status)| status)
    }
    /// How long it waits for its restart from now on, where its process has exited by itself.
    pub(crate) fn wait_after_exit(&self, now: Tick) -> Option<Duration> {
        match &self.phase {
            Phase::Stopping(TreeStop { next_state: NextState::BackingOff { until, .. }, leader_gone: true, .. }) => {
                Some(until.since(now))
            }
            _ => None,
        }
    }
    /// When time alone moves it.
    pub(crate) fn deadline(&self) -> Option<Tick> {
        let previous = self.previous.as_ref().and_then(|previous| previous.deadline());
        previous.into_iter().chain(self.phase_deadline()).min()
    }
    fn phase_deadline(&self) -> Option<Tick> {
        match &self.phase {
            Phase::BackingOff { until, .. } => Some(*until),
            Phase::Cancelling { give_up_at, .. } => Some(*give_up_at),
            _ if self.is_queued_to_stop() => None,
            Phase::Stopping(stop) => Some(stop.due),
            Phase::Live(live) => {
                let within = self.spec.ready.as_ref().filter(|_| live.ready_at().is_none()).map(|ready| ready.within);
                let limit = within.into_iter().chain(self.spec.task_timeout().filter(|_| self.spec.kind == Kind::Task)).min();
                limit.map(|limit| live.spawned_at + limit).into_iter().chain(self.use_check.map(|check| check.due)).min()
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use devrun_model::FailureKind;

    #[test]
    fn a_stop_wins_over_a_restart_and_a_later_start_over_the_stop() {
        let stop = || NextState::Stopped { reason: None };
        let hand = || NextState::Stopped { reason: Some(StopReason::Requested(StopPurpose::Manual)) };
        let again = || NextState::StartRequested { reason: "restart".to_owned() };
        let restart = || NextState::BackingOff { until: Tick::ms(9), attempt: 1, why: "exit 1".to_owned() };
        let fail = || NextState::Failed(Failure::new(FailureKind::Service, "exit 1"));
        let done = || NextState::Completed { note: None };
        let removed = || NextState::Removed(StopReason::Removed);
        for (name, first, second, expected) in [
            ("stop over restart", restart(), stop(), stop()),
            ("stop over again", again(), stop(), stop()),
            ("start after stop", stop(), again(), again()),
            ("start after failure", fail(), again(), again()),
            ("restart never over stop", stop(), restart(), stop()),
            ("a failure stays one", fail(), stop(), fail()),
            ("an end stays one", done(), stop(), done()),
            ("a late failure does not undo a stop", stop(), fail(), stop()),
            ("the first failure counts", fail(), NextState::Failed(Failure::cancelled()), fail()),
            ("by hand stays by hand", hand(), stop(), hand()),
            ("removed stays removed", removed(), stop(), removed()),
            ("removed and back", removed(), again(), again()),
            ("timeout over a restart", restart(), fail(), fail()),
        ] {
            let mut next_state = first;
            next_state.merge(second);
            assert_eq!(next_state, expected, "{name}");
        }
    }
}
