//! The exit of a leader that leaves processes running.
//!
//! Such an exit is held for a moment: what is left may only be on its way out. If it is not, a service has put itself into
//! the background, where devrun could neither tell whether it lives nor restart it, and a task has not waited for its own
//! work. A service then fails rather than counts as ready with nothing running; what is left is stopped as after every exit.

use std::time::Duration;

use devrun_core::Event;
use devrun_core::event::Generation;
use devrun_keeper::{list_processes, still_running};
use devrun_model::keeper::ExitStatus;
use devrun_model::{Failure, FailureKind, Kind, ServiceId, ServiceSpec};

use super::engine_state::Engine;
use super::foreground;
use super::instance::HeldExit;
use super::task_result::TaskResult;

/// How long an exit is held.
const HOLD: Duration = Duration::from_millis(250);

impl Engine {
    /// A leader has exited, and `left` lived on.
    pub(super) fn leader_exited(&mut self, id: ServiceId, generation: Generation, status: ExitStatus, left: Vec<(i32, String)>) {
        let instance = self.instances.get_mut(&id).filter(|instance| instance.generation == generation);
        match instance.filter(|instance| instance.stop_asked.is_none() && status.success() && !left.is_empty()) {
            Some(instance) => {
                instance.held_exit = Some(HeldExit { status, left });
                // An answer of what is left is none of the service.
                self.stop_probes(&id);
                let task_results = self.task_results.clone();
                tokio::spawn(async move {
                    tokio::time::sleep(HOLD).await;
                    let _ended = task_results.send(TaskResult::ExitHeld(id, generation));
                });
            }
            None => self.on_exit(id, generation, status),
        }
    }

    /// Passes a held exit on: nothing is left any more, or it has been held for long enough.
    pub(super) fn release_exit(&mut self, id: &ServiceId, generation: Generation, is_tree_empty: bool) {
        let instance = self.instances.get_mut(id).filter(|instance| instance.generation == generation);
        let Some(instance) = instance else { return };
        let Some(HeldExit { status, left }) = instance.held_exit.take() else { return };
        let spec = instance.spec.clone().filter(|_| !is_tree_empty && instance.stop_asked.is_none());
        let Some(spec) = spec else { return self.on_exit(id.clone(), generation, status) };
        match judge(&spec, &still_running(left)) {
            Ok(note) => {
                let _ended = self.task_results.send(TaskResult::Said(id.clone(), note));
                self.on_exit(id.clone(), generation, status);
            }
            Err(failure) => {
                instance.pid = None;
                self.rollback_task(id);
                self.queue.push_back(Event::Exited(id.clone(), generation, status, Some(failure)));
            }
        }
    }
}

/// What it means that a leader exited with 0 and left these: something to say, or a failure.
fn judge(spec: &ServiceSpec, left: &[(i32, String)]) -> Result<String, Failure> {
    let names = list_processes(left);
    if spec.kind == Kind::Service {
        let message = format!("exited with code 0 and left {names} running in the background");
        return Err(Failure::new(FailureKind::Background, message).help(foreground::advice(spec, left)));
    }
    if spec.task.as_ref().is_some_and(|task| task.once.is_some()) {
        let message = format!("exited with code 0 and left {names} running; its work may be half done");
        let command = left.first().map_or("NAME", |(_, command)| command.as_str());
        return Err(Failure::new(FailureKind::Task, message).help(format!(
            "let it wait for what it starts; for what may stay, write: [tasks.{}] stop = {{ spare = [\"{command}\"] }}",
            spec.service
        )));
    }
    Ok(format!("left {names} running; ended"))
}
