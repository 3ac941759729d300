//! Carries out what `core::left_processes` decides about the exit of a leader that leaves processes running.

use devrun_core::event::Generation;
use devrun_core::{EXIT_HOLD, Event, holds_exit, judge_left_processes};
use devrun_keeper::{list_processes, still_running};
use devrun_model::ServiceId;
use devrun_model::keeper::ExitStatus;

use super::engine_state::Engine;
use super::instance::HeldExit;
use super::task_result::TaskResult;

impl Engine {
    /// A leader has exited, and `left` lived on.
    pub(super) fn leader_exited(&mut self, id: ServiceId, generation: Generation, status: ExitStatus, left: Vec<(i32, String)>) {
        let instance = self.instances.get_mut(&id).filter(|instance| instance.generation == generation);
        match instance.filter(|instance| holds_exit(status, instance.stop_asked.is_some(), &left)) {
            Some(instance) => {
                instance.held_exit = Some(HeldExit { status, left });
                self.queue.push_back(Event::ExitHeld(id.clone(), generation));
                // An answer of what is left is none of the service.
                self.stop_probes(&id, generation);
                let task_results = self.task_results.clone();
                let held = self.clock.sleep(EXIT_HOLD);
                tokio::spawn(async move {
                    held.await;
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
        let left = still_running(left);
        match judge_left_processes(&spec, &left, &list_processes(&left)) {
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
