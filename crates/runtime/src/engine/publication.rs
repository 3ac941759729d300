//! What the engine says: state changes and messages to every subscriber, to the event log and to the services' logs; and the
//! outcome of a start, with what its logs say last.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError};

use crate::mask_hashes::MaskHashes;
use devrun_core::StartOutcome;
use devrun_logs::visible_text;
use devrun_model::feed::{FailedService, FeedItem, Outcome};
use devrun_model::keeper::ExitStatus;
use devrun_model::{Failure, ServiceId, State, StateChange};

use super::engine_state::Engine;
use super::failure_log::{LOOKED_AT, probed_paths, relevant};
use super::instance::Instance;
use super::last_lines::last_lines;
use super::missing_command;
use super::state_files;
use super::task_result::TaskResult;

impl Engine {
    /// For a `report` from another shell, and with the stack down. What cannot be written leaves that one with the masks of its
    /// own shell.
    pub(super) fn remember_masks(&self) {
        let _unwritten = MaskHashes::remember(&self.places.masks(), &self.plan.masks);
    }

    /// For commands that read the procfile while this runs. Without it the next `scale` would call a copy otherwise.
    pub(super) fn remember_copy_names(&mut self) {
        if let Err(error) = self.copy_names.observe(&self.plan, &self.places)
            && let Some(id) = self.plan.services.keys().next().cloned()
        {
            self.publish(FeedItem::Said { id, text: format!("the names of copies cannot be written down: {error}") });
        }
    }

    /// Publishes to every viewer; one that does not keep up is let go.
    pub(super) fn publish(&mut self, mut item: FeedItem) {
        if self.subscribers.is_empty() {
            return;
        }
        if let FeedItem::Said { text, .. } = &mut item {
            *text = self.masker.text(text);
        }
        let item = Arc::new(item);
        self.subscribers.retain(|subscriber| subscriber.try_send(Arc::clone(&item)).is_ok());
    }

    pub(super) fn notify(&mut self, mut notice: StateChange) {
        self.sequence += 1;
        notice.seq = self.sequence;
        notice.ts = self.clock.stamp(self.clock.now());
        notice.reason = notice.reason.map(|reason| self.masker.text(&reason));
        notice.help = notice.help.map(|help| self.masker.text(&help));
        self.end_demand_watch(&notice);
        self.close_unused_socket(&notice);
        self.events.append(&notice);
        self.note_restart(&notice);
        self.record_port_opened(&notice);
        self.publish(FeedItem::Notice(notice));
    }

    /// A line for attached views: why a service that runs is stopped, has exited, or is started again.
    fn note_restart(&self, notice: &StateChange) {
        let own_exit = notice.own_exit();
        let verb = match (notice.from, notice.to) {
            (State::Starting | State::Running, State::Stopping) => "stopping",
            (_, State::BackingOff) if !notice.follows_exit() => "restarts",
            _ => return,
        };
        let names = [notice.service.clone(), format!("{}.{}", notice.service, notice.replica)];
        let id = names.iter().filter_map(|name| ServiceId::parse(name).ok()).find(|id| self.instances.contains_key(id));
        if let (Some(id), Some(reason)) = (id, notice.reason.as_ref().filter(|reason| !reason.is_empty())) {
            self.pump.note(&id, own_exit.unwrap_or_else(|| format!("{verb}: {reason}")));
        }
    }

    /// Keeps when the port of a service that has just become ready was open, as the probe's history is soon gone.
    fn record_port_opened(&mut self, notice: &StateChange) {
        if (notice.from, notice.to) != (State::Starting, State::Running) {
            return;
        }
        // One of several is called by its number too.
        let names = [notice.service.clone(), format!("{}.{}", notice.service, notice.replica)];
        let of = |instance: &&Instance| instance.spec.as_ref().is_some_and(|spec| spec.replica == notice.replica);
        let Some(instance) = names.iter().filter_map(|name| self.instances.get(&ServiceId::parse(name).ok()?)).find(of) else {
            return;
        };
        // A panic elsewhere leaves the slot as it is.
        let slot = instance.probe.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(listening) = slot.as_ref().and_then(|probe| probe.listening()) else { return };
        drop(slot);
        self.started.append(&state_files::PortOpened {
            ts: notice.ts.clone(),
            service: notice.service.clone(),
            replica: notice.replica,
            listening_us: u64::try_from(listening.as_micros()).unwrap_or(u64::MAX),
        });
    }

    pub(super) fn persist_manual_stop(&mut self, id: ServiceId, stopped: bool) {
        let changed = if stopped { self.manual_stops.insert(id.clone()) } else { self.manual_stops.remove(&id) };
        if changed && let Err(error) = state_files::save_manual_stops(&self.places, &self.manual_stops) {
            let what = if stopped { "the stop by hand cannot be remembered" } else { "it stays remembered as stopped by hand" };
            let help = devrun_keeper::file_size_limit::write_error_help(&error);
            self.publish(FeedItem::Said { id, text: format!("{what}: {error}: {help}") });
        }
    }

    /// Adds to an outcome what the logs say last, then publishes it; off the loop, as it reads files.
    pub(super) fn publish_start_outcome(&mut self, outcome: StartOutcome) {
        let Some(token) = self.starts.remove(outcome.position) else { return };
        self.settling += 1;
        self.save_snapshot();
        let task_results = self.task_results.clone();
        let described = self.describe(outcome);
        tokio::spawn(async move {
            let outcome = described.await;
            let _ended = task_results.send(TaskResult::Publish(FeedItem::Settled { token, outcome }));
        });
    }

    /// Writes down what is shown when there is no supervisor any more. One that is killed cannot: what it wrote last counts then.
    pub(super) fn save_snapshot(&self) {
        let mut snapshot = self.snapshot();
        (snapshot.supervisor_pid, snapshot.supervisor_version) = (None, None);
        let _shown_only = state_files::save_snapshot(&self.places, &snapshot);
    }

    pub(super) fn finish(&mut self, outcome: StartOutcome) {
        self.finished = Some(outcome);
    }

    pub(super) fn describe(&self, outcome: StartOutcome) -> impl Future<Output = Outcome> + use<> {
        let (folder, masker) = (self.places.logs(), self.masker.clone());
        let answers: Vec<Option<String>> =
            outcome.failures.iter().map(|(id, _)| self.instances.get(id)?.failed_answer().cloned()).collect();
        let drained: Vec<_> = outcome.failures.iter().map(|(id, _)| self.pump.drain(id)).collect();
        let builds: Vec<Option<String>> =
            outcome.failures.iter().map(|(id, _)| self.core.spec(id).and_then(|spec| self.build_advice(spec))).collect();
        let unbuilt: BTreeMap<ServiceId, String> = outcome
            .failures
            .iter()
            .filter_map(|(id, _)| Some((id.clone(), self.core.spec(id).and_then(|spec| self.unbuilt(spec))?)))
            .collect();
        let views = self.core.service_views();
        let exit_of = |id: &ServiceId| views.iter().find(|view| view.id == *id).and_then(|view| view.exit);
        let probed: Vec<Vec<String>> = outcome
            .failures
            .iter()
            .map(|(id, _)| self.core.spec(id).map(|spec| probed_paths(spec)).unwrap_or_default())
            .collect();
        let exits: Vec<_> = outcome.failures.iter().map(|(id, _)| exit_of(id)).collect();
        async move {
            let mut failures = Vec::new();
            for ((((((id, failure), last_answer), drained), build), exit), probed) in
                outcome.failures.into_iter().zip(answers).zip(drained).zip(builds).zip(exits).zip(probed)
            {
                let lines = last_lines(&folder, &id, drained.await, LOOKED_AT);
                let log: Vec<String> = relevant(lines, &probed, 20).iter().map(|line| masker.text(line)).collect();
                let last_answer = last_answer.map(|answer| masker.text(&answer));
                let failure = missing_command::named(failure, &id, exit, &log, build);
                let failure = advise_unbuilt(failure, exit, unbuilt.get(&id));
                let failure = Failure { reason: masker.text(&failure.reason), ..failure };
                failures.push(FailedService { id, failure, last_answer, log });
            }
            Outcome { failures, blocked: outcome.blocked, code_from: outcome.code_from }
        }
    }

    /// A service that crashes over and over is named with what it said last; the single restarts are lost among others.
    pub(super) fn report_crash_loop(&mut self, id: &ServiceId) {
        let now = self.clock.now();
        if !self.crash_loops.add(id, now) {
            return;
        }
        let (folder, task_results, id) = (self.places.logs(), self.task_results.clone(), id.clone());
        // Asked for before the next start begins, whose output is not meant.
        let drained = self.pump.drain(&id);
        tokio::spawn(async move {
            let last = last_lines(&folder, &id, drained.await, 1).pop();
            let last = last.map(|line| visible_text::shortened(line.trim(), 300));
            let text = match last.filter(|line| !line.is_empty()) {
                Some(line) => format!("crash loop: ended 5 times within a minute; its last line: {line}"),
                None => "crash loop: ended 5 times within a minute, without a word".to_owned(),
            };
            let _ended = task_results.send(TaskResult::Said(id, text));
        });
    }
}

/// A program that exits with an error may lack what its build makes.
fn advise_unbuilt(failure: Failure, exit: Option<ExitStatus>, service: Option<&String>) -> Failure {
    let has_exited =
        matches!(exit, Some(ExitStatus::Code(code)) if code != 0 && failure.reason.starts_with(&format!("exit {code}")));
    match (service, &failure.help) {
        (Some(service), Some(help)) if has_exited && !help.contains("--build") => {
            let help = format!("{help}; or devrun up --build, if the build of {service} has not run");
            failure.help(help)
        }
        _ => failure,
    }
}
