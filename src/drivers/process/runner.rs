//! Short-lived processes of a service (init steps, `pre_start`, stop and probe commands), contained like the service.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::model::keeper::{ExitStatus, Identity, Role, RunAs};
use crate::model::{Failure, Places, ServiceId, Signal};

use super::link::Keeper;

/// Which output.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

/// Takes the output of a runner's processes as it comes; implemented by the log pump.
pub trait OutputSink: Send + Sync {
    /// Bytes as read, lines may be cut anywhere.
    fn write(&self, stream: Stream, bytes: &[u8]);
}

/// Starts processes in the name of one service and generation.
#[derive(Clone)]
pub struct Runner {
    /// The keeper.
    pub keeper: Keeper,
    /// Folders.
    pub places: Places,
    /// Whose.
    pub service: ServiceId,
    /// Which generation.
    pub generation: u64,
    /// The marks every child gets (`DEVRUN_RUN_ID`, …), added to each request's environment.
    pub marks: BTreeMap<String, String>,
    /// Where output goes besides the tail; absent: nowhere.
    pub sink: Option<Arc<dyn OutputSink>>,
}

/// One process to run.
#[derive(Debug, Clone)]
pub struct Request {
    /// What for.
    pub role: Role,
    /// The executable, absolute.
    pub program: PathBuf,
    /// Its words; the first is the name it sees.
    pub argv: Vec<String>,
    /// Its environment, marks apart.
    pub env: BTreeMap<String, String>,
    /// Working directory.
    pub dir: PathBuf,
    /// OS identity.
    pub run_as: RunAs,
    /// For all of it; past it the tree is killed.
    pub timeout: Duration,
}

/// How it went.
#[derive(Debug, Clone)]
pub struct Finished {
    /// The leader's end.
    pub status: ExitStatus,
    /// The time ran out and the tree was killed.
    pub timed_out: bool,
    /// The last 64 KiB of its output, both streams as they came.
    pub tail: Vec<u8>,
}

/// A process that goes on until it is stopped.
pub struct Child {}

impl Runner {
    /// Runs to the end of the whole tree. Dropping the future kills the tree.
    ///
    /// # Errors
    /// When no process came of it. A non-zero exit is no error.
    pub async fn run(&self, _request: Request) -> Result<Finished, Failure> {
        unimplemented!()
    }
    /// Starts a server that the caller stops. Dropping the child kills the tree.
    ///
    /// # Errors
    /// When no process came of it.
    pub async fn start(&self, _request: Request) -> Result<Child, Failure> {
        unimplemented!()
    }
}

impl Child {
    /// The leader.
    #[must_use]
    pub fn identity(&self) -> &Identity {
        unimplemented!()
    }
    /// Waits for the leader's end.
    pub async fn wait(&mut self) -> ExitStatus {
        unimplemented!()
    }
    /// Signals the leader, kills the tree at the end of the grace, waits for the empty tree.
    pub async fn stop(self, _signal: Signal, _grace: Duration) -> Finished {
        unimplemented!()
    }
}
