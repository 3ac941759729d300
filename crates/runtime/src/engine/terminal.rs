//! Services with a terminal of their own: somebody may sit down at it (`devrun attach`).
//!
//! The engine holds the far side for as long as the process's tree lives. What the service writes goes through the log pump
//! as for every other one, which hands a copy of the raw bytes to whoever is attached; keys go straight to the terminal.

use std::sync::Arc;

use tokio::sync::mpsc;

use devrun_keeper::terminal;
use devrun_model::{Failure, FailureKind, ServiceId};

use super::attachment::Attachment;
use super::engine_state::Engine;

/// Bursts of keys that may wait for a service that does not read. A client that types more is read from again when it has read some.
const KEYS: usize = 256;

impl Engine {
    pub(super) fn attach_terminal(&self, id: &ServiceId) -> Result<Attachment, Failure> {
        let instance = self.instances.get(id);
        if let Some(terminal) = instance.and_then(|instance| instance.terminal.clone()) {
            let (keys, receiver) = mpsc::channel(KEYS);
            tokio::spawn(terminal::write_keys(Arc::clone(&terminal), receiver));
            return Ok(Attachment { terminal, keys, screen: self.pump.terminal_feed(id) });
        }
        let spec = instance.and_then(|instance| instance.spec.as_ref()).or_else(|| self.plan.services.get(id));
        Err(match spec {
            Some(spec) if !spec.tty => Failure::new(FailureKind::Config, format!("{id} has no terminal of its own")).help(
                format!("add `tty = true` to services.{} and restart it; devrun logs -f {id} shows what it prints", spec.service),
            ),
            Some(_) => Failure::new(FailureKind::Elsewhere, format!("{id} is not running")).help(format!("devrun start {id}")),
            None => Failure::new(FailureKind::Config, format!("unknown service {id}")).help("devrun ps lists them"),
        })
    }
}
