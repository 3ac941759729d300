//! Output that log files could not take (a full disk): kept as events, and shown by `ps` until the service starts again.

use devrun_logs::{LogLoss, LossReport};
use devrun_model::{ServiceId, StateChange};

use super::engine_state::Engine;
use super::lost_output::LostOutput;

impl Engine {
    pub(super) fn on_log_loss(&mut self, LossReport { id, loss, over }: LossReport) {
        // A further file belongs to its service.
        let service = id.as_str().split('/').next().unwrap_or(id.as_str());
        let Ok(service) = ServiceId::parse(service) else { return };
        let lost = self.lost.entry(service.clone()).or_default();
        let news = over || lost.now.is_none();
        let reason = if over {
            lost.now = None;
            let before = lost.before.get_or_insert_with(|| LogLoss { bytes: 0, lines: 0, why: loss.why.clone() });
            before.bytes += loss.bytes;
            before.lines += loss.lines;
            format!("{loss}; output is kept again")
        } else {
            lost.now = Some(loss.clone());
            format!("{loss}; output is not kept")
        };
        if news {
            self.note_loss(&service, reason);
        }
    }

    fn note_loss(&mut self, id: &ServiceId, reason: String) {
        let Some(view) = self.core.service_views().into_iter().find(|view| view.id == *id) else { return };
        let instance = self.instances.get(id).and_then(|instance| instance.spec.clone());
        let Some(spec) = instance.or_else(|| self.plan.services.get(id).cloned()) else { return };
        self.notify(StateChange {
            ts: String::new(),
            seq: 0,
            name: StateChange::name_of(id, &spec.service),
            service: spec.service.to_string(),
            replica: spec.replica,
            from: view.state,
            to: view.state,
            health: view.health,
            reason: Some(reason),
            help: None,
            pid: view.pid,
            exit_code: None,
        });
    }

    /// Why a service is where it is, with what its log is missing.
    pub(super) fn reason_with_losses(&self, id: &ServiceId, reason: Option<String>) -> Option<String> {
        let lost = self.lost.get(id).and_then(LostOutput::reason);
        match (reason.filter(|reason| !reason.is_empty()), lost) {
            (Some(reason), Some(lost)) => Some(format!("{reason}; {lost}")),
            (reason, lost) => reason.or(lost),
        }
    }
}
