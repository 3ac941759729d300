//! What the engine holds for one generation of one service: handles, never decisions.

use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use tokio::task::AbortHandle;

use crate::probe::NotifySocket;
use devrun_core::Tick;
use devrun_core::event::Generation;
use devrun_model::ServiceSpec;
use devrun_model::keeper::{ExitStatus, ProcessId};
use devrun_store::Located;

use super::drivers::RunningProbe;

/// Where the log pump finds the probe of a generation; empty before it starts and after it ends.
pub(crate) type ProbeSlot = Arc<Mutex<Option<Box<dyn RunningProbe>>>>;

/// The exit of a leader that is held as it has left processes running: pid and command.
pub(crate) struct HeldExit {
    /// How it ended.
    pub status: ExitStatus,
    /// What lived on.
    pub left: Vec<(i32, String)>,
}

/// One service as it runs now.
#[derive(Default)]
pub(crate) struct Instance {
    /// The generation that the rest belongs to.
    pub generation: Generation,
    /// The definition it was started with.
    pub spec: Option<Arc<ServiceSpec>>,
    /// Its executables (recipe).
    pub located: Option<Arc<Located>>,
    /// Its executable (`run`).
    pub program: Option<PathBuf>,
    /// Something that its start waited for may have installed another one.
    pub command_may_change: bool,
    /// Its `build` has run for the start that this generation belongs to.
    pub was_built: bool,
    /// The main process, from the request to `TreeEmpty`.
    pub process: Option<ProcessId>,
    /// The far side of its terminal (`tty`), for whoever attaches.
    pub terminal: Option<Arc<std::os::fd::OwnedFd>>,
    /// The leader's pid.
    pub pid: Option<i32>,
    /// Our own work, or the answer of somebody else's server: alive without a process.
    pub virtual_work: Option<AbortHandle>,
    /// It is an external service that counts as running.
    pub external: bool,
    /// Work in flight before the spawn: fetch, first boot, `pre_start`.
    pub preparation: Option<AbortHandle>,
    /// That work is not a fetch. Its program need not be there: a build may make it.
    pub is_initialising: bool,
    /// Bound before the spawn, so that a quick service does not speak to nobody.
    pub notify: Option<NotifySocket>,
    /// Its probes.
    pub probe: ProbeSlot,
    /// The last answer of its readiness, unless it has passed since.
    pub last_answer: Option<String>,
    /// The same of its liveness.
    pub last_alive_answer: Option<String>,
    /// That it listens on another port than its own, as it was last said.
    pub elsewhere: Option<String>,
    /// When its stop was asked for.
    pub stop_asked: Option<Tick>,
    /// SIGKILL was needed.
    pub killed: bool,
    /// The exit of its leader, which has left processes running.
    pub held_exit: Option<HeldExit>,
    /// The content hash of a task with a sentinel.
    pub hash: Option<String>,
    /// Its sentinel is being written; the empty tree is told only after the exit, or the core could not know it.
    pub is_committing: bool,
    /// The tree was found empty meanwhile.
    pub is_tree_empty: bool,
    /// When the task began.
    pub began: Option<Tick>,
}

impl Instance {
    /// The last answer of a probe that fails.
    pub(crate) fn failed_answer(&self) -> Option<&String> {
        self.last_answer.as_ref().or(self.last_alive_answer.as_ref())
    }
}
