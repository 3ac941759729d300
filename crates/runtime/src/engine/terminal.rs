//! Services with a terminal of their own: somebody may sit down at it (`devrun attach`).
//!
//! The engine holds the far side for as long as the process's tree lives. What the service writes goes through the log pump
//! as for every other one, which hands a copy of the raw bytes to whoever is attached; keys go straight to the terminal.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use tokio::sync::mpsc;

use devrun_keeper::terminal::{self, TerminalSize};
use devrun_model::{Failure, FailureKind, ServiceId};

use super::event_loop::Engine;

/// Bursts of keys that may wait for a service that does not read; what is typed beyond that is lost, as at a console.
const KEYS: usize = 256;

/// A seat at a service's terminal.
#[derive(Debug)]
pub struct Attachment {
    terminal: Arc<OwnedFd>,
    keys: mpsc::Sender<Vec<u8>>,
    screen: mpsc::Receiver<Arc<[u8]>>,
}

impl Attachment {
    /// Types.
    pub fn keys(&self, bytes: Vec<u8>) {
        let _full = self.keys.try_send(bytes);
    }
    /// The window at this end has this size.
    pub fn resize(&self, columns: u16, rows: u16) {
        // A terminal that ended a moment ago has no size any more.
        let _gone = terminal::resize(&*self.terminal, TerminalSize { columns, rows });
    }
    /// What the service writes next; `None` when it has ended, or when this end was too slow.
    pub async fn screen(&mut self) -> Option<Arc<[u8]>> {
        self.screen.recv().await
    }
}

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
