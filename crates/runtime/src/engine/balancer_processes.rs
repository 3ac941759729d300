//! The processes behind the addresses that copies share: `devrun __gateway` once more, with one service behind it. They are
//! started with the first copy and stopped after the last, restarted when they end, and are not services of their own: they have
//! no state that anybody waits for. Their sockets are held here like those of `listen`, so the end of one loses no connection.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use devrun_model::keeper::ProcessId;
use devrun_model::{ServiceName, ServiceSpec, SharedAddress};

/// All of them, by service.
#[derive(Debug, Default)]
pub(super) struct Balancers {
    pub(super) by_service: BTreeMap<ServiceName, Balancer>,
    pub(super) processes: BTreeMap<ProcessId, ServiceName>,
}

/// One of them.
#[derive(Debug)]
pub(super) struct Balancer {
    pub copy: ServiceSpec,
    pub address: SharedAddress,
    pub process: Option<ProcessId>,
    pub began: Instant,
    pub pause: Duration,
    /// The last copy is gone.
    pub is_ending: bool,
}

impl Balancers {
    /// The service whose balancer a process is.
    pub(crate) fn service_of(&self, process: ProcessId) -> Option<ServiceName> {
        self.processes.get(&process).cloned()
    }
}
