//! What a task leaves in its volume: the record that it has begun, and the sentinel that it is done.

use std::time::Duration;

use crate::init::{self, TaskStatus};
use devrun_core::Event;
use devrun_core::event::Generation;
use devrun_model::keeper::ExitStatus;
use devrun_model::{Failure, FailureKind, OnChange, ServiceId, ServiceSpec, TaskSpec};

use super::clock::local;
use super::engine_state::Engine;
use super::task_inputs::task_hash;
use super::task_result::TaskResult;

impl Engine {
    /// What a task's sentinel says: go on (with a note), or already done.
    pub(super) fn check_task_status(
        &mut self,
        spec: &ServiceSpec,
        task: &TaskSpec,
    ) -> Result<Result<Option<String>, String>, Failure> {
        let Some(once) = &task.once else { return Ok(Ok(None)) };
        let Some(volume) = self.plan.volumes.get(&once.volume).cloned() else {
            return Err(Failure::new(FailureKind::Config, format!("unknown volume {}", once.volume)));
        };
        let hash = task_hash(spec, &self.plan.root)?;
        let task_status = init::task_status(&volume, once, &hash)?;
        if let Some(instance) = self.instances.get_mut(&spec.id) {
            instance.hash = Some(hash);
        }
        match task_status {
            TaskStatus::Fresh => Ok(Ok(None)),
            TaskStatus::Done { at } => Ok(Err(format!("already done ({})", local(&at)))),
            TaskStatus::Changed { at } => match (task.on_change, local(&at)) {
                (OnChange::Warn, at) => {
                    Ok(Err(format!("already done ({at}), with other inputs: `devrun task {} --force` runs it again", spec.id)))
                }
                (OnChange::Rerun, at) => Ok(Ok(Some(format!("done {at} with other inputs; runs again")))),
                (OnChange::Fail, at) => Err(Failure::new(FailureKind::Task, format!("done {at} with other inputs"))
                    .help(format!("devrun task {} --force runs it again", spec.id))),
            },
            TaskStatus::Indeterminate { since } if task.idempotent => {
                Ok(Ok(Some(format!("a run begun {} did not end; it is idempotent and runs again", local(&since)))))
            }
            TaskStatus::Indeterminate { since } => Err(Failure::new(
                FailureKind::Task,
                format!("a run begun {} did not end, and what it did is not known", local(&since)),
            )
            .help(format!("look at what it did, then: devrun task resolve {} --done | --rerun", spec.id))),
        }
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
