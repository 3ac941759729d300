//! The end of a process tree: the stop command and `stop.check`, the signals, and the end of what has no process.

use std::sync::Arc;

use devrun_core::event::Generation;
use devrun_core::{Event, Tick};
use devrun_model::keeper::{ExitStatus, Role};
use devrun_model::{ServiceId, ServiceSpec};

use super::drain;
use super::engine_state::Engine;
use super::pre_start::command_request;
use super::stop_check;
use super::task_result::TaskResult;
use super::unsaved_stop;
use crate::recipes;

impl Engine {
    pub(super) fn stop_tree(&mut self, now: Tick, id: &ServiceId, generation: Generation) {
        let Some(instance) = self.instance_of(id, generation) else {
            self.queue.push_back(Event::TreeEmpty(id.clone(), generation));
            return;
        };
        instance.stop_asked.get_or_insert(now);
        let (process, pid, spec) = (instance.process, instance.pid, instance.spec.clone());
        let Some(process) = process else { return self.end_virtual(id, generation) };
        let cannot_save = spec.as_ref().zip(pid).is_some_and(|(spec, pid)| {
            let volume = spec.data.as_ref().and_then(|name| self.plan.volumes.get(name));
            recipes::cannot_save(spec, volume, pid)
        });
        // Of one that is replaced another process has the socket already: nothing has to be held back.
        let is_replaced = self.core.previous_generation(id) == Some(generation);
        let drains = spec.as_ref().filter(|_| !is_replaced).map(|spec| self.drains_of(spec)).unwrap_or_default();
        let is_prepared =
            |spec: &Arc<ServiceSpec>| cannot_save || spec.stop.check || spec.stop.command.is_some() || !drains.is_empty();
        if let Some(spec) = spec.filter(|spec| pid.is_some() && is_prepared(spec)) {
            let runner = self.runner(&spec, generation, false);
            let (task_results, name) = (self.task_results.clone(), id.clone());
            let grace = self.max_grace.map_or(spec.stop.grace, |limit| spec.stop.grace.min(limit));
            tokio::spawn(async move {
                let say = |text: String| drop(task_results.send(TaskResult::Said(name.clone(), text)));
                drain::wait(drains, &spec.id, pid, grace).await;
                if cannot_save {
                    unsaved_stop::end(&spec, grace, &say).await;
                } else if spec.stop.check {
                    stop_check::wait_until_idle(&spec, grace, &say).await;
                }
                if let Some(command) = &spec.stop.command {
                    let ran = match command_request(&spec, command, Role::StopCommand, spec.stop.grace) {
                        Ok(request) => runner.run(request).await,
                        Err(failure) => Err(failure),
                    };
                    match ran.map(|finished| finished.left_running()) {
                        Ok(None) => {}
                        Ok(Some(left)) => say(format!("its stop command left {left} running; ended")),
                        Err(failure) => say(format!("the stop command could not be run: {failure}")),
                    }
                }
                let _ended = task_results.send(TaskResult::StopCommandDone(name.clone(), generation));
            });
            return;
        }
        self.keeper.stop(process, None);
    }

    pub(super) fn kill_tree(&mut self, now: Tick, id: &ServiceId, generation: Generation) {
        let Some(instance) = self.instance_of(id, generation) else {
            self.queue.push_back(Event::TreeEmpty(id.clone(), generation));
            return;
        };
        instance.stop_asked.get_or_insert(now);
        instance.killed = true;
        match instance.process {
            Some(process) => self.keeper.kill(process),
            None => self.end_virtual(id, generation),
        }
    }

    /// Ends what has no process: our own work, or an external service that simply is not looked at any more.
    fn end_virtual(&mut self, id: &ServiceId, generation: Generation) {
        let Some(instance) = self.instances.get_mut(id) else { return };
        let work = instance.virtual_work.take();
        if let Some(work) = &work {
            work.abort();
        }
        if work.is_some() || instance.external {
            self.queue.push_back(Event::Exited(id.clone(), generation, ExitStatus::Unknown, None));
        }
        self.tree_empty(id, generation);
    }
}
