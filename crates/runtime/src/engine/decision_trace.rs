//! What the core has decided, for `--debug`: dependencies that hold, restarts with their delay, the stages of a stop.

use devrun_core::{Action, Tick};
use devrun_model::{State, StateChange};

use super::engine_state::Engine;

const TARGET: &str = "devrun::engine";

impl Engine {
    /// Writes down an action that is about to be carried out. Costs one atomic load where nothing listens.
    pub(super) fn trace_action(&self, now: Tick, action: &Action) {
        if !tracing::enabled!(target: TARGET, tracing::Level::DEBUG) {
            return;
        }
        let (id, decision) = match action {
            Action::Notify(change) => return self.trace_change(now, change),
            Action::StartFinished(outcome) => {
                let (failures, blocked) = (outcome.failures.len(), outcome.blocked.len());
                return tracing::debug!(target: TARGET, failures, blocked, "the start is over");
            }
            Action::Shutdown(_) => return tracing::debug!(target: TARGET, "everything is stopped"),
            Action::Message(id, text) => return tracing::debug!(target: TARGET, service = %id, %text, "message"),
            Action::SignalTree(id, _, signal) => {
                return tracing::debug!(target: TARGET, service = %id, stage = "escalated", %signal, "stop stage");
            }
            Action::StopTree(id, _) => {
                return tracing::debug!(target: TARGET, service = %id, stage = "terminating", "stop stage");
            }
            Action::KillTree(id, _) => return tracing::debug!(target: TARGET, service = %id, stage = "killing", "stop stage"),
            Action::Fetch(id, _) => (id, "find the binary"),
            Action::RunInit(id, _) => (id, "prepare the start"),
            Action::Cancel(id, _) => (id, "cancel the preparation"),
            Action::Spawn(id, _) => (id, "spawn"),
            Action::StartProbes(id, _) => (id, "start probes"),
            Action::StopProbes(id, _) => (id, "stop probes"),
            Action::SetProbePace(id, _, true) => (id, "probe often, as others wait for it"),
            Action::SetProbePace(id, _, false) => (id, "probe at each interval"),
            Action::RestorePrevious(id, _) => (id, "keep the previous process"),
            Action::UpdateSpec(id, _) => (id, "take over the new definition"),
            Action::SignalLeader(id, _, _) => (id, "signal the leader"),
            Action::AwaitDemand(id, _) => (id, "await its first connection"),
            Action::CheckUse(id, _) => (id, "look at its connections"),
            Action::PersistManualStop { id, .. } => (id, "remember whether it was stopped by hand"),
        };
        tracing::debug!(target: TARGET, service = %id, "{decision}");
    }

    fn trace_change(&self, now: Tick, change: &StateChange) {
        let (service, from, to) = (&change.service, change.from, change.to);
        let reason = change.reason.as_deref().unwrap_or_default();
        if from == State::Waiting && matches!(to, State::Fetching | State::Initialising | State::Starting | State::Running) {
            tracing::debug!(target: TARGET, service, "dependencies satisfied");
        }
        if to == State::BackingOff {
            let views = self.core.service_views();
            let view = views.into_iter().find(|view| view.service == *service && view.replica == change.replica);
            let delay = view.and_then(|view| view.retry_at).map_or_else(Default::default, |at| at.since(now));
            let delay_ms = u64::try_from(delay.as_millis()).unwrap_or(u64::MAX);
            return tracing::debug!(target: TARGET, service, delay_ms, reason, "restart planned");
        }
        tracing::debug!(target: TARGET, service, %from, %to, health = ?change.health, reason, "state");
    }
}
