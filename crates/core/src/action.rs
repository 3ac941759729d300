//! What must now be done. Imperative; the engine carries actions out in order and answers each with events.

use devrun_model::{Failure, ServiceId, Signal, StateChange};

use super::event::Generation;
use super::stop_reason::StopReason;

/// Something to do.
#[derive(Debug, Clone, PartialEq)]
#[must_use]
pub enum Action {
    /// Find or fetch the binary. Answer: `Fetched` or `FetchFailed`.
    Fetch(ServiceId, Generation),
    /// Look at the sentinel, run the first boot, then `pre_start`. Answer: `InitDone`, `AlreadyDone` or `InitFailed`.
    RunInit(ServiceId, Generation),
    /// Give up a fetch or init in flight; end what it runs. Answer: `FetchFailed` or `InitFailed` with `Cancelled`, or the
    /// answer that was on its way already.
    Cancel(ServiceId, Generation),
    /// Check the ports and start the process. Answer: `Spawned`, then `Exited` and `TreeEmpty`; or `SpawnFailed`.
    Spawn(ServiceId, Generation),
    /// Open the socket of a service that starts on demand, and tell of its first connection. Answer: `Demanded`, once;
    /// `ListenFailed` when the socket cannot be opened. It ends with the state `asleep`.
    AwaitDemand(ServiceId, Generation),
    /// Look when a service was last in use. Answer: `LastUse`.
    CheckUse(ServiceId, Generation),
    /// Begin probing (readiness and liveness) this generation.
    StartProbes(ServiceId, Generation),
    /// Probe readiness at the pace of a start (`true`), as others wait for a service that is unhealthy, or each `interval` again.
    SetProbePace(ServiceId, Generation, bool),
    /// The definition of this generation was replaced by one that it already runs by: look at it with that one's login.
    UpdateSpec(ServiceId, Generation),
    /// The process that a restart was to replace is the service's own again, as the next one did not come up.
    RestorePrevious(ServiceId, Generation),
    /// End probing.
    StopProbes(ServiceId, Generation),
    /// Run the stop command if there is one, then signal by the service's `stop`; the keeper goes on to what is left of
    /// the tree when the leader is gone. Answer: `Exited` (if it lived), `TreeEmpty`.
    StopTree(ServiceId, Generation),
    /// A stronger signal to the whole tree (`stop.then`).
    SignalTree(ServiceId, Generation, Signal),
    /// SIGKILL to the whole tree. Answer: `Exited`, then `TreeEmpty` or `Survived`.
    KillTree(ServiceId, Generation),
    /// A signal to the leader, because somebody asked (`kill`).
    SignalLeader(ServiceId, Generation, Signal),
    /// Remember (or forget) that it was stopped manually.
    PersistManualStop {
        /// Which one.
        id: ServiceId,
        /// Whether it is to stay stopped.
        stopped: bool,
    },
    /// Publish a change of state or health (`ts` and `seq` are filled in by the engine).
    Notify(StateChange),
    /// Say something that is no change: a note on a pass, a changed sentinel, a crash while others wait.
    Message(ServiceId, String),
    /// The start that was asked for is over, one way or the other. Once per `Up`, `Start`, `Restart` or `RotateSecret`.
    StartFinished(StartOutcome),
    /// Everything is stopped and nothing will start: end with this code's failure, or well.
    Shutdown(StartOutcome),
}

/// How a start, or the whole run, ended.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct StartOutcome {
    /// Failures in the order in which they happened; the first root cause decides the exit code. Blocked services are
    /// not in it, only what blocked them. Optional services are not in it.
    pub failures: Vec<(ServiceId, Failure)>,
    /// Who is blocked, and by which root.
    pub blocked: Vec<(ServiceId, ServiceId)>,
    /// The exit code that `--exit-code-from` takes over.
    pub code_from: Option<i32>,
    /// Of a start: how many that were asked for earlier are still open.
    pub position: usize,
}

/// What taking over a new plan means for one service; what `up --plan` prints.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PlanChange {
    /// Not there before, or not running.
    Start,
    /// Its definition differs; the text says in what.
    Restart(String),
    /// No longer in the plan.
    Stop(StopReason),
    /// As it is.
    Keep,
}
