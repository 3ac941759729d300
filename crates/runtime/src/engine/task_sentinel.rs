//! What a task leaves in its volume: the record that it has begun, and the sentinel that it is done.

use std::time::Duration;

use crate::init::{self, TaskStatus};
use crate::local_time::local;
use devrun_core::event::Generation;
use devrun_core::{Event, LastRun, TaskDecision, decide_task};
use devrun_model::keeper::ExitStatus;
use devrun_model::{Failure, FailureKind, ServiceId, ServiceSpec, TaskSpec};

use super::engine_state::Engine;
use super::task_inputs::task_hash;
use super::task_result::TaskResult;

impl Engine {
    /// Whether a task runs, by its sentinel.
    pub(super) fn decide_by_sentinel(&mut self, spec: &ServiceSpec, task: &TaskSpec) -> TaskDecision {
        let Some(once) = &task.once else { return TaskDecision::Run(None) };
        let Some(volume) = self.plan.volumes.get(&once.volume).cloned() else {
            return TaskDecision::Refuse(Failure::new(FailureKind::Config, format!("unknown volume {}", once.volume)));
        };
        let hash = match task_hash(spec, &self.plan.root) {
            Ok(hash) => hash,
            Err(failure) => return TaskDecision::Refuse(failure),
        };
        let status = match init::task_status(&volume, once, &hash) {
            Ok(status) => status,
            Err(failure) => return TaskDecision::Refuse(failure),
        };
        if let Some(instance) = self.instances.get_mut(&spec.id) {
            instance.hash = Some(hash);
        }
        let last = match status {
            TaskStatus::Fresh => LastRun::Never,
            TaskStatus::Done { at } => LastRun::Done { at: local(&at) },
            TaskStatus::Changed { at } => LastRun::Changed { at: local(&at) },
            TaskStatus::Indeterminate { since } => LastRun::Interrupted { since: local(&since) },
        };
        decide_task(&spec.id, task, last)
    }

    /// A leader ended, or our own work is done: the sentinel is written before the core hears of a success.
    pub(super) fn on_exit(&mut self, id: ServiceId, generation: Generation, status: ExitStatus) {
        if let Some(instance) = self.instances.get_mut(&id).filter(|instance| instance.generation == generation) {
            instance.pid = None;
            if let (Some(spec), Some(hash)) = (instance.spec.clone(), instance.hash.clone())
                && let Some(task) = &spec.task
                && let Some(once) = task.once.clone()
                && let Some(volume) = self.plan.volumes.get(&once.volume).cloned()
            {
                if status.success() {
                    let took = instance.began.map_or(Duration::ZERO, |began| self.clock.now().since(began));
                    instance.is_committing = true;
                    let task_results = self.task_results.clone();
                    tokio::task::spawn_blocking(move || {
                        let committed = init::commit_task(&volume, &once, &hash, took);
                        let _ended = task_results.send(TaskResult::TaskCommitted(id, generation, status, committed));
                    });
                    return;
                }
                // A failure that ran to its end left what it left and may be tried again; one that we cut short may not.
                if matches!(status, ExitStatus::Code(_)) && instance.stop_asked.is_none() {
                    self.rollback_task(&id);
                }
            }
        }
        self.queue.push_back(Event::Exited(id, generation, status, None));
    }

    /// Takes the intent record of a failed task back, so that the next start tries again.
    pub(super) fn rollback_task(&mut self, id: &ServiceId) {
        let Some(spec) = self.instances.get(id).and_then(|instance| instance.spec.clone()) else { return };
        if let Some(once) = spec.task.as_ref().and_then(|task| task.once.as_ref())
            && let Some(volume) = self.plan.volumes.get(&once.volume)
            && let Err(failure) = init::rollback_task(volume, once)
        {
            let _ended = self.task_results.send(TaskResult::Said(id.clone(), format!("its intent record stays: {failure}")));
        }
    }
}
