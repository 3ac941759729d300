//! One service or task: its phase with the data that is valid in it, and what of it is outstanding with the outside world.
//! Owns how a phase is shown and which deadline it has. Does not move between phases: that needs the rest of the project,
//! so it is `supervisor`, `stopping` and `commands` that do.

use std::sync::Arc;

use devrun_model::keeper::ExitStatus;
use devrun_model::{Failure, Health, Kind, ServiceId, ServiceSpec, State};

use super::changes;
use super::event::Generation;
use super::health::Tracker;
use super::tick::Tick;

/// What was asked for in this generation and has not been answered to its end. A new generation starts only at `Nothing`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Open {
    /// Nothing is.
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
pub(super) enum After {
    /// Stopped.
    Stop { reason: Option<String> },
    /// Taken out of the project.
    Remove,
    /// Started anew because somebody asked.
    Again { reason: String },
    /// Started anew by the policy, not before `until`.
    Restart { until: Tick, attempt: u32, why: String },
    /// Failed.
    Fail(Failure),
    /// Done.
    Complete { note: Option<String> },
    /// Blocked as before; only its fetch is given up.
    Block { root: ServiceId, reason: String },
}

impl After {
    /// Whether it comes up again by itself.
    pub fn comes_back(&self) -> bool {
        matches!(self, Self::Again { .. } | Self::Restart { .. })
    }
    /// What wins when a second reason meets the first. A failure or an end that has happened stays what it was under a
    /// stop; a stop wins over every start that is on its way; a start that is asked for after a stop is honoured.
    pub fn merge(&mut self, new: Self) {
        let keep = matches!(
            (&*self, &new),
            (Self::Fail(_) | Self::Complete { .. }, Self::Stop { .. } | Self::Fail(_) | Self::Complete { .. })
                | (Self::Block { .. }, Self::Stop { reason: None } | Self::Fail(_))
                | (Self::Stop { reason: Some(_) }, Self::Stop { reason: None })
                | (Self::Stop { .. } | Self::Remove, Self::Fail(_) | Self::Complete { .. } | Self::Restart { .. })
                | (Self::Remove, Self::Stop { .. })
        );
        if !keep {
            *self = new;
        }
    }
    fn reason(&self) -> Option<String> {
        match self {
            Self::Stop { reason } => reason.clone(),
            Self::Remove => Some("no longer in the procfile".to_owned()),
            Self::Again { reason } => Some(reason.clone()),
            Self::Restart { why, .. } => Some(why.clone()),
            Self::Fail(failure) => Some(failure.reason.clone()),
            Self::Complete { note } => note.clone(),
            Self::Block { reason, .. } => Some(reason.clone()),
        }
    }
}

/// A process that lives.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Live {
    pub pid: Option<i32>,
    pub spawned_at: Tick,
    pub ready: Option<Tracker>,
    pub alive: Option<Tracker>,
}

impl Live {
    pub fn new(spec: &ServiceSpec, pid: Option<i32>, now: Tick) -> Self {
        // A task is ready when it is done; probing it means nothing.
        let service = spec.kind == Kind::Service;
        let tracker = |ready: &Option<_>| ready.as_ref().filter(|_| service).map(|ready| Tracker::new(ready, now));
        Self { pid, spawned_at: now, ready: tracker(&spec.ready), alive: tracker(&spec.alive) }
    }
    pub fn probed(&self) -> bool {
        self.ready.is_some() || self.alive.is_some()
    }
    /// When it became ready; without a probe that is the spawn.
    pub fn ready_at(&self) -> Option<Tick> {
        self.ready.as_ref().map_or(Some(self.spawned_at), Tracker::first_pass)
    }
    pub fn health(&self) -> Health {
        self.ready.as_ref().map_or(Health::None, Tracker::health)
    }
}

/// Which signal comes next for a tree that must end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    /// Not asked yet: the spawn is not answered, or others still need it.
    Unborn,
    /// Asked to stop.
    Asked,
    /// Past the grace, the stronger signal was sent.
    Then,
    /// Killed.
    Killed,
}

/// A tree on its way out.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Ending {
    pub after: After,
    /// The process as it was; absent when it never lived.
    pub was: Option<Live>,
    /// Whether the leader has ended.
    pub leader_gone: bool,
    pub step: Step,
    pub asked_at: Tick,
    /// When the next step is due.
    pub due: Tick,
}

/// Where one service stands.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Phase {
    /// Never started, or stopped.
    Stopped { reason: Option<String> },
    /// Dependencies are missing, or the fetch is.
    Waiting,
    /// First boot, `pre_start`.
    Initialising,
    /// The spawn is asked for.
    Spawning,
    /// The process lives.
    Live(Live),
    /// Crashed; restarts at `until`.
    BackingOff { until: Tick, attempt: u32, why: String },
    /// Fetch or init is given up; its answer is awaited.
    Cancelling { after: After, give_up_at: Tick },
    /// The tree must end and is not proved empty.
    Ending(Ending),
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
    pub next: Option<Arc<ServiceSpec>>,
    /// Somebody asked for it and nobody has taken that back.
    pub wanted: bool,
    /// Stopped by hand, and that is to be remembered.
    pub by_hand: bool,
    /// Edges to services that nobody asked for are taken as holding (`up --no-deps`).
    pub no_deps: bool,
    /// Numbered tiers hold this start up; a restart by policy is past that.
    pub barrier: bool,
    /// Restart only while no sibling replica is on its way.
    pub rolling: bool,
    pub generation: Generation,
    pub phase: Phase,
    pub open: Open,
    /// To be stopped when its turn comes, and what then.
    pub halt: Option<After>,
    /// Restarts by policy since it was last asked for.
    pub restarts: u32,
    /// Quick crashes in a row.
    pub crashes: u32,
    /// How it last ended, and in which generation.
    pub exit: Option<(Generation, ExitStatus)>,
    /// What was last published.
    pub shown: (State, Health),
}

impl Service {
    pub fn new(spec: Arc<ServiceSpec>, generation: Generation, by_hand: bool) -> Self {
        let reason = by_hand.then(|| BY_HAND.to_owned());
        Self {
            spec,
            next: None,
            wanted: false,
            by_hand,
            no_deps: false,
            barrier: true,
            rolling: false,
            generation,
            phase: Phase::Stopped { reason },
            open: Open::Nothing,
            halt: None,
            restarts: 0,
            crashes: 0,
            exit: None,
            shown: (State::Stopped, Health::None),
        }
    }
    /// The definition that the next start takes.
    pub fn coming(&self) -> &Arc<ServiceSpec> {
        self.next.as_ref().unwrap_or(&self.spec)
    }
    /// Takes over edges and tier of the newest definition, and all of it where nothing that was started would notice.
    pub fn take_new_place(&mut self) {
        let Some(next) = &self.next else { return };
        if changes::differences(&self.spec, next).is_empty() {
            self.spec = next.clone();
            self.next = None;
        } else {
            let spec = Arc::make_mut(&mut self.spec);
            spec.depends_on.clone_from(&next.depends_on);
            spec.tier = next.tier;
        }
    }
    pub fn live(&self) -> Option<&Live> {
        match &self.phase {
            Phase::Live(live) => Some(live),
            _ => None,
        }
    }
    /// Whether something of it may run that its dependencies must outlive.
    pub fn holds_dependencies(&self) -> bool {
        match self.phase {
            Phase::Initialising | Phase::Spawning | Phase::Live(_) | Phase::Ending(_) => true,
            Phase::Cancelling { .. } => self.open != Open::Fetch,
            _ => false,
        }
    }
    /// Whether it is on its way out, or told to go.
    pub fn leaving(&self) -> bool {
        self.halt.is_some() || matches!(self.phase, Phase::Ending(_) | Phase::Cancelling { .. })
    }
    /// Whether it is to be stopped and has not been asked yet: it lives, or it came to life after the stop was wanted.
    pub fn waits_for_its_turn(&self) -> bool {
        self.halt.is_some() || matches!(&self.phase, Phase::Ending(ending) if ending.step == Step::Unborn && ending.was.is_some())
    }
    /// Whether nothing more happens by itself.
    pub fn is_final(&self) -> bool {
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
    pub fn ready_since(&self) -> Option<Tick> {
        match &self.phase {
            Phase::Live(live) if self.spec.kind == Kind::Service && self.halt.is_none() => live.ready_at(),
            Phase::Completed { at, .. } => Some(*at),
            _ => None,
        }
    }
    /// The two words of `ps`. `held` says whether its dependencies hold, which only `Waiting` asks.
    pub fn show(&self, held: bool) -> (State, Health) {
        let last = |was: &Option<Live>| was.as_ref().map_or(Health::None, Live::health);
        match &self.phase {
            Phase::Stopped { .. } => (State::Stopped, Health::None),
            Phase::Waiting if held && self.open == Open::Fetch => (State::Fetching, Health::None),
            Phase::Waiting => (State::Waiting, Health::None),
            Phase::Initialising | Phase::Spawning => (State::Initialising, Health::None),
            Phase::Live(live) => match live.health() {
                Health::Starting => (State::Starting, Health::Starting),
                health => (State::Running, health),
            },
            Phase::BackingOff { .. } => (State::BackingOff, Health::None),
            Phase::Cancelling { .. } => (State::Stopping, Health::None),
            Phase::Ending(ending) => (State::Stopping, last(&ending.was)),
            Phase::Completed { .. } => (State::Completed, Health::None),
            Phase::Failed { .. } => (State::Failed, Health::None),
            Phase::Blocked { .. } => (State::Blocked, Health::None),
            Phase::Skipped { .. } => (State::Skipped, Health::None),
        }
    }
    /// Why it is where it is, dependencies apart.
    pub fn reason(&self) -> Option<String> {
        match &self.phase {
            Phase::Stopped { reason } => reason.clone(),
            Phase::Waiting | Phase::Initialising | Phase::Spawning => None,
            Phase::Live(live) => {
                let answer = |tracker: &Option<Tracker>| tracker.as_ref().and_then(Tracker::answer).map(str::to_owned);
                answer(&live.ready).or_else(|| answer(&live.alive).map(|text| format!("not alive: {text}")))
            }
            Phase::BackingOff { why, .. } => Some(why.clone()),
            Phase::Cancelling { after, .. } => after.reason(),
            Phase::Ending(ending) => ending.after.reason(),
            Phase::Completed { note, .. } => note.clone(),
            Phase::Failed { failure } => Some(failure.reason.clone()),
            Phase::Blocked { reason, .. } => Some(reason.clone()),
            Phase::Skipped { because } => Some(because.clone()),
        }
    }
    /// The exit of the present generation.
    pub fn exit_of_this_generation(&self) -> Option<ExitStatus> {
        self.exit.filter(|(generation, _)| *generation == self.generation).map(|(_, status)| status)
    }
    /// When time alone moves it.
    pub fn deadline(&self) -> Option<Tick> {
        match &self.phase {
            Phase::BackingOff { until, .. } => Some(*until),
            Phase::Cancelling { give_up_at, .. } => Some(*give_up_at),
            _ if self.waits_for_its_turn() => None,
            Phase::Ending(ending) => Some(ending.due),
            Phase::Live(live) => {
                let within = self.spec.ready.as_ref().filter(|_| live.ready_at().is_none()).map(|ready| ready.within);
                let limit = within.into_iter().chain(self.spec.task_timeout().filter(|_| self.spec.kind == Kind::Task)).min();
                limit.map(|limit| live.spawned_at + limit)
            }
            _ => None,
        }
    }
}

/// The reason of a stop by hand.
pub(super) const BY_HAND: &str = "by hand";

#[cfg(test)]
mod tests {
    use super::*;
    use devrun_model::FailureKind;

    #[test]
    fn a_stop_wins_over_a_restart_and_a_later_start_over_the_stop() {
        let stop = || After::Stop { reason: None };
        let hand = || After::Stop { reason: Some(BY_HAND.to_owned()) };
        let again = || After::Again { reason: "restart".to_owned() };
        let restart = || After::Restart { until: Tick::ms(9), attempt: 1, why: "exit 1".to_owned() };
        let fail = || After::Fail(Failure::new(FailureKind::Service, "exit 1"));
        let done = || After::Complete { note: None };
        for (name, first, second, expected) in [
            ("stop over restart", restart(), stop(), stop()),
            ("stop over again", again(), stop(), stop()),
            ("start after stop", stop(), again(), again()),
            ("start after failure", fail(), again(), again()),
            ("restart never over stop", stop(), restart(), stop()),
            ("a failure stays one", fail(), stop(), fail()),
            ("an end stays one", done(), stop(), done()),
            ("a late failure does not undo a stop", stop(), fail(), stop()),
            ("the first failure counts", fail(), After::Fail(Failure::cancelled()), fail()),
            ("by hand stays by hand", hand(), stop(), hand()),
            ("removed stays removed", After::Remove, stop(), After::Remove),
            ("removed and back", After::Remove, again(), again()),
            ("timeout over a restart", restart(), fail(), fail()),
        ] {
            let mut after = first;
            after.merge(second);
            assert_eq!(after, expected, "{name}");
        }
    }
}
