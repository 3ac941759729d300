//! Services that start on demand: their sockets are watched while they are asleep, and the kernel is asked for their connections
//! while they run. What follows from either is decided by the core.

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use devrun_core::Event;
use devrun_core::event::Generation;
use devrun_model::{Failure, FailureKind, ServiceId, State, StateChange};
use tokio::io::Interest;
use tokio::task::AbortHandle;

use super::engine_state::Engine;
use super::task_result::TaskResult;

/// Waits for a connection at a socket; no longer, when this is dropped.
pub(super) struct DemandWatch(AbortHandle);

impl Drop for DemandWatch {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Engine {
    /// Opens the socket of a service that is asleep, and waits for its first connection, which stays in the kernel's queue for
    /// the process.
    pub(super) fn await_demand(&mut self, id: ServiceId, generation: Generation) {
        match self.watch_socket(&id, generation) {
            Ok(watch) => _ = self.demand_watches.insert(id, watch),
            Err(failure) => self.queue.push_back(Event::ListenFailed(id, generation, failure)),
        }
    }

    fn watch_socket(&mut self, id: &ServiceId, generation: Generation) -> Result<DemandWatch, Failure> {
        let spec = Arc::clone(self.core.spec(id).ok_or_else(Failure::cancelled)?);
        let socket = self
            .held_sockets
            .open(&spec)?
            .ok_or_else(|| Failure::new(FailureKind::Internal, "a service that starts on demand has no socket of its own"))?;
        let (task_results, name) = (self.task_results.clone(), id.clone());
        let task = tokio::spawn(async move {
            if has_connection(&socket).await.is_ok() {
                let _ended = task_results.send(TaskResult::Demanded(name, generation));
            }
        });
        Ok(DemandWatch(task.abort_handle()))
    }

    /// It is no longer asleep.
    pub(super) fn end_demand_watch(&mut self, change: &StateChange) {
        // Such a service has one copy, which is called as it is.
        if change.from == State::Asleep
            && let Ok(id) = ServiceId::parse(&change.service)
        {
            self.demand_watches.remove(&id);
        }
    }

    /// Asks when a service was last connected to.
    pub(super) fn check_use(&mut self, id: ServiceId, generation: Generation) {
        let Some(port) = self.core.spec(&id).and_then(|spec| spec.port()) else { return };
        let (ports, task_results) = (Arc::clone(&self.drivers.ports), self.task_results.clone());
        tokio::task::spawn_blocking(move || {
            // A kernel that cannot tell stops nothing.
            let age = ports.last_use(port).unwrap_or(Some(Duration::ZERO));
            let _ended = task_results.send(TaskResult::LastUse(id, generation, age));
        });
    }
}

/// Returns when a connection waits at a listening socket. It is not accepted, so it does not matter whether that would block.
async fn has_connection(socket: &OwnedFd) -> std::io::Result<()> {
    let socket = devrun_keeper::reactor::register(socket.try_clone()?, Interest::READABLE)?;
    socket.readable().await.map(drop)
}
