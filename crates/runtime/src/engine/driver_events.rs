//! News of the keeper, of probes and of finished tasks, turned into events of the core.

use std::sync::Arc;
use std::time::Duration;

use crate::probe::ProbeReport;
use devrun_core::Event;
use devrun_core::event::Generation;
use devrun_keeper::{KeeperEvent, ProcessEvent};
use devrun_model::feed::{FeedItem, StopReport};
use devrun_model::keeper::ExitStatus;
use devrun_model::{Command, Launch, ServiceId};
use devrun_store::Located;

use super::engine_state::Engine;
use super::server_versions::{self, ServerVersion};
use super::status::server;
use super::task_result::TaskResult;

/// This long after the last start, memory that only starts need is given back.
const REST_AFTER: Duration = Duration::from_secs(1);

impl Engine {
    pub(super) fn on_link(&mut self, link: KeeperEvent) {
        match link {
            KeeperEvent::Ready { .. } => {}
            KeeperEvent::Lost => {
                if let Some(id) = self.instances.keys().next() {
                    self.pump.note(id, "the keeper process exited; services keep running, a new keeper is starting");
                }
            }
            KeeperEvent::Gone(failure) => {
                if let Some(id) = self.instances.keys().next().cloned() {
                    self.publish(FeedItem::Said {
                        id,
                        text: format!("no keeper can be started ({failure}); everything is being stopped"),
                    });
                }
                self.queue.push_back(Event::Command(Command::Down { grace_ms: None }));
            }
        }
    }

    pub(super) fn on_probe_report(&mut self, id: ServiceId, generation: Generation, answer: ProbeReport) {
        let Some(instance) = self.instances.get_mut(&id).filter(|instance| instance.generation == generation) else { return };
        // A leader that has put itself into the background may be answered for by what it left, before its exit is known here.
        if matches!(answer, ProbeReport::Passed(_)) && instance.pid.is_some_and(|pid| self.drivers.probes.has_ended(pid)) {
            return;
        }
        let mut elsewhere = None;
        self.queue.push_back(match answer {
            ProbeReport::Passed(note) => {
                instance.last_answer = None;
                instance.elsewhere = None;
                Event::ProbePassed(id.clone(), generation, note)
            }
            ProbeReport::Failed(text, fatal) => {
                elsewhere = instance.listens_elsewhere(&text);
                instance.last_answer = Some(text.clone());
                Event::ProbeFailed(id.clone(), generation, text, fatal)
            }
            ProbeReport::AlivePassed => {
                instance.last_alive_answer = None;
                Event::LivenessPassed(id.clone(), generation)
            }
            ProbeReport::AliveFailed(text) => {
                instance.last_alive_answer = Some(text.clone());
                Event::LivenessFailed(id.clone(), generation, text)
            }
        });
        if let Some(text) = elsewhere {
            self.publish(FeedItem::Said { id, text });
        }
    }

    pub(super) fn on_process(&mut self, event: ProcessEvent) {
        let process = match &event {
            ProcessEvent::Spawned { process, .. }
            | ProcessEvent::SpawnFailed { process, .. }
            | ProcessEvent::Exited { process, .. }
            | ProcessEvent::TreeEmpty { process }
            | ProcessEvent::Survivors { process, .. } => *process,
        };
        if let Some(service) = self.balancers.service_of(process) {
            self.on_balancer(&service, event);
            return;
        }
        let Some((id, generation)) = self.processes.get(&process).cloned() else { return };
        match event {
            ProcessEvent::Spawned { identity, stdout, stderr, .. } => {
                if let Some(instance) = self.instances.get_mut(&id) {
                    instance.pid = Some(identity.pid);
                }
                // The core starts the probes before the pipes are read, so that no line is missed by a `log` check.
                self.queue.push_back(Event::Spawned(id.clone(), generation, Some(identity.pid)));
                self.process_queue();
                self.attach_logs(&id, stdout, stderr);
                self.watch_unprobed_port(&id, generation);
            }
            ProcessEvent::SpawnFailed { step, errno, .. } => {
                self.processes.remove(&process);
                let failure = self.spawn_failure(&id, &step, errno);
                if let Some(instance) = self.instances.get_mut(&id) {
                    instance.process = None;
                }
                self.queue.push_back(Event::SpawnFailed(id, generation, failure));
            }
            ProcessEvent::Exited { status, left, .. } => {
                if !status.success() && self.instance_of(&id, generation).is_some_and(|instance| instance.stop_asked.is_none()) {
                    self.report_crash_loop(&id);
                }
                self.leader_exited(id, generation, status, left);
            }
            ProcessEvent::TreeEmpty { .. } => {
                self.processes.remove(&process);
                self.release_exit(&id, generation, true);
                self.tree_empty(&id, generation);
            }
            ProcessEvent::Survivors { pids, .. } => self.queue.push_back(Event::Survived(id, generation, pids)),
        }
    }

    /// Nothing of this generation is left, or there never was a process.
    pub(super) fn tree_empty(&mut self, id: &ServiceId, generation: Generation) {
        let now = self.clock.now();
        let mut report = None;
        if self.previous_instances.get(id).is_some_and(|instance| instance.generation == generation) {
            self.previous_instances.remove(id);
        } else if let Some(instance) = self.instances.get_mut(id).filter(|instance| instance.generation == generation) {
            instance.process = None;
            instance.pid = None;
            instance.terminal = None;
            instance.external = false;
            instance.virtual_work = None;
            instance.is_tree_empty = true;
            if let Some(asked) = instance.stop_asked.take() {
                let (mut released, mut held) = (Vec::new(), Vec::new());
                if let Some(spec) = &instance.spec
                    && !matches!(spec.launch, Launch::External { .. })
                {
                    for (name, port) in &spec.ports {
                        if name == "main" && spec.listen && self.held_sockets.is_open(spec.service.as_str()) {
                            // Open for the next process.
                            continue;
                        }
                        if self.drivers.ports.check(&spec.bind, *port).is_ok() { released.push(*port) } else { held.push(*port) }
                    }
                }
                let took_ms = u64::try_from(now.since(asked).as_millis()).unwrap_or(u64::MAX);
                report =
                    Some(StopReport { id: id.clone(), took_ms, killed: std::mem::take(&mut instance.killed), released, held });
            }
        }
        if let Some(report) = report {
            self.publish(FeedItem::Stopped(report));
        }
        if self.instances.get(id).is_none_or(|instance| instance.generation != generation || !instance.is_committing) {
            self.queue.push_back(Event::TreeEmpty(id.clone(), generation));
        }
    }

    /// Remembers what a service is about to run, and says where that is another version than before.
    fn note_server(&mut self, id: &ServiceId, located: &Located) {
        let Some(binary) = self.plan.services.get(id).and_then(|spec| server(spec, located)) else { return };
        let now = ServerVersion { version: located.version.clone(), binary: binary.display().to_string() };
        let before = self.servers.insert(id.clone(), now.clone());
        if let Some(text) = before.and_then(|before| server_versions::change(&located.recipe, &before, &now)) {
            self.publish(FeedItem::Said { id: id.clone(), text });
        }
    }

    pub(super) fn on_task_result(&mut self, result: TaskResult) {
        match result {
            TaskResult::Fetched(id, generation, result) => {
                let Some(instance) = self.instances.get_mut(&id).filter(|instance| instance.generation == generation) else {
                    return;
                };
                instance.preparation = None;
                let event = match result {
                    Ok(located) => {
                        instance.located = Some(Arc::clone(&located));
                        self.note_server(&id, &located);
                        Event::Fetched(id, generation)
                    }
                    Err(failure) => Event::FetchFailed(id, generation, failure),
                };
                self.queue.push_back(event);
            }
            TaskResult::Init(id, generation, result) => {
                let Some(instance) = self.instances.get_mut(&id).filter(|instance| instance.generation == generation) else {
                    return;
                };
                instance.preparation = None;
                match result {
                    Ok(notes) => {
                        for text in notes {
                            self.publish(FeedItem::Said { id: id.clone(), text });
                        }
                        self.queue.push_back(Event::InitDone(id, generation));
                    }
                    Err(failure) => self.queue.push_back(Event::InitFailed(id, generation, failure)),
                }
            }
            TaskResult::Work(id, generation, result) => {
                if self
                    .instances
                    .get(&id)
                    .is_none_or(|instance| instance.generation != generation || instance.virtual_work.is_none())
                {
                    return;
                }
                let status = if result.is_ok() { ExitStatus::Code(0) } else { ExitStatus::Code(1) };
                match result {
                    Ok(()) => self.on_exit(id.clone(), generation, status),
                    Err(failure) => {
                        self.rollback_task(&id);
                        self.queue.push_back(Event::Exited(id.clone(), generation, status, Some(failure)));
                    }
                }
                self.tree_empty(&id, generation);
            }
            TaskResult::TaskCommitted(id, generation, status, result) => {
                self.queue.push_back(Event::Exited(id.clone(), generation, status, result.err()));
                if let Some(instance) = self.instances.get_mut(&id).filter(|instance| instance.generation == generation) {
                    instance.is_committing = false;
                    if instance.is_tree_empty {
                        self.queue.push_back(Event::TreeEmpty(id, generation));
                    }
                }
            }
            TaskResult::StopCommandDone(id, generation) => {
                if let Some(process) = self.instance_of(&id, generation).and_then(|instance| instance.process) {
                    self.keeper.stop(process, None);
                }
            }
            TaskResult::ExitHeld(id, generation) => self.release_exit(&id, generation, false),
            TaskResult::Demanded(id, generation) => self.queue.push_back(Event::Demanded(id, generation)),
            TaskResult::LastUse(id, generation, age) => self.queue.push_back(Event::LastUse(id, generation, age)),
            TaskResult::BalancerDue(service) => self.restart_balancer(&service),
            TaskResult::FileChanged(id, path) => self.file_changed(id, path),
            TaskResult::Built(id) => {
                if self.to_build.remove(&id)
                    && let Some(instance) = self.instances.get_mut(&id)
                {
                    instance.was_built = true;
                }
            }
            TaskResult::ListensElsewhere(id, generation, text) => self.note_unprobed_port(&id, generation, text),
            TaskResult::Said(id, text) => self.publish(FeedItem::Said { id, text }),
            // Not during a stop.
            TaskResult::Rest if self.core.is_stopping() => {}
            TaskResult::Rest => devrun_keeper::heap::trim(),
            TaskResult::Publish(item) => {
                if let FeedItem::Settled { outcome, .. } = &item {
                    self.settling = self.settling.saturating_sub(1);
                    // The last request's end is what a viewer that comes later finds.
                    if self.starts.is_empty() && self.settling == 0 {
                        self.settled = Some(outcome.clone());
                        let task_results = self.task_results.clone();
                        let rest = self.clock.sleep(REST_AFTER);
                        tokio::spawn(async move {
                            rest.await;
                            let _ended = task_results.send(TaskResult::Rest);
                        });
                    }
                }
                self.publish(item);
            }
        }
    }
}
