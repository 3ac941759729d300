//! A service that listens on another port than its own. Where it is probed, its probe finds out, and what it says is published at once
//! instead of at the end of the start only. Where it is not (`ready = false`), the kernel is asked a few times within two minutes
//! after the spawn, as servers that compile first open their port late.

use std::time::Duration;

use devrun_core::event::Generation;
use devrun_keeper::process_list;
use devrun_model::not_ready_help::{other_ports, said_elsewhere};
use devrun_model::{Kind, ServiceId, State};

use super::engine_state::Engine;
use super::instance::Instance;
use super::task_result::TaskResult;
use crate::{ports, probe};

/// Before the first question; each further pause is twice as long.
const FIRST: Duration = Duration::from_secs(2);
/// The longest pause.
const LAST: Duration = Duration::from_secs(64);

impl Instance {
    /// What the answer of a probe says about other ports, once. Ports that the service declares are its own, if it opens them first.
    pub(super) fn listens_elsewhere(&mut self, answer: &str) -> Option<String> {
        let sentence = said_elsewhere(answer)?;
        let is_declared = |port: &u16| self.spec.as_ref().is_some_and(|spec| spec.ports.values().any(|own| own == port));
        if self.elsewhere.as_deref() == Some(sentence) || other_ports(sentence).iter().all(is_declared) {
            return None;
        }
        self.elsewhere = Some(sentence.to_owned());
        self.elsewhere.clone()
    }
}

impl Engine {
    /// Looks where a service listens that has a port and no probe.
    pub(super) fn watch_unprobed_port(&mut self, id: &ServiceId, generation: Generation) {
        let Some(instance) = self.instances.get(id).filter(|instance| instance.generation == generation) else { return };
        let (Some(pid), Some(spec)) = (instance.pid, &instance.spec) else { return };
        let Some(port) = spec.port().filter(|_| spec.kind == Kind::Service && spec.ready.is_none() && !spec.listen) else {
            return;
        };
        let (task_results, id) = (self.task_results.clone(), id.clone());
        tokio::spawn(async move {
            let mut pause = FIRST;
            while pause <= LAST {
                tokio::time::sleep(pause).await;
                pause *= 2;
                if process_list::has_ended(pid) {
                    return;
                }
                let found = tokio::task::spawn_blocking(move || ports::listening(pid)).await.unwrap_or_default();
                let text = probe::elsewhere(&found, port);
                let is_known = text.is_none() && !found.is_empty();
                let _ended = task_results.send(TaskResult::ListensElsewhere(id.clone(), generation, text));
                if is_known {
                    return;
                }
            }
        });
    }

    /// Keeps where it listens, for `ps` and `why`, and shows it to attached views.
    pub(super) fn note_unprobed_port(&mut self, id: &ServiceId, generation: Generation, text: Option<String>) {
        let Some(instance) = self.instances.get_mut(id).filter(|instance| instance.generation == generation) else { return };
        let Some(text) = text else {
            instance.elsewhere = None;
            return;
        };
        if let Some(news) = instance.listens_elsewhere(&text) {
            self.pump.note(id, news);
        }
    }

    /// What `ps` says of a service: its own reason, a port that is not its own, and lost output.
    pub(super) fn shown_reason(&self, id: &ServiceId, state: State, reason: Option<String>) -> Option<String> {
        let elsewhere = || self.instances.get(id)?.elsewhere.clone().filter(|_| state == State::Running);
        self.reason_with_losses(id, reason.filter(|reason| !reason.is_empty()).or_else(elsewhere))
    }
}
