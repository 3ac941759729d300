//! Actions to drivers: one method an action, no decisions. What can be answered at once is put on the queue; what takes
//! time runs as a task and reports through a channel of its own. Spawns, stops and probes have files of their own.

use std::collections::BTreeMap;
use std::sync::Arc;

use devrun_core::event::Generation;
use devrun_core::{Action, Event, TaskDecision, Tick};
use devrun_keeper::Runner;
use devrun_model::{Failure, FailureKind, Launch, ServiceId, ServiceSpec};

use super::engine_state::Engine;
use super::fetch_notices::FetchNotices;
use super::instance::Instance;
use super::pre_start::{run_build, run_first_boot_and_pre_start};
use super::task_result::TaskResult;

impl Engine {
    pub(super) fn execute(&mut self, now: Tick, action: Action) {
        match action {
            Action::Fetch(id, generation) => self.fetch(id, generation),
            Action::RunInit(id, generation) => self.run_init(id, generation),
            Action::Cancel(id, generation) => self.cancel(id, generation),
            Action::Spawn(id, generation) => self.spawn(now, id, generation),
            Action::AwaitDemand(id, generation) => self.await_demand(id, generation),
            Action::CheckUse(id, generation) => self.check_use(id, generation),
            Action::StartProbes(id, generation) => self.start_probes(&id, generation),
            Action::SetProbePace(id, generation, is_often) => self.set_probe_pace(&id, generation, is_often),
            Action::UpdateSpec(id, generation) => self.redefine(&id, generation),
            Action::StopProbes(id, generation) => self.stop_probes(&id, generation),
            Action::RestorePrevious(id, generation) => self.restore_previous(id, generation),
            Action::StopTree(id, generation) => self.stop_tree(now, &id, generation),
            Action::SignalTree(id, generation, signal) => {
                if let Some(process) = self.instance_of(&id, generation).and_then(|instance| instance.process) {
                    self.keeper.signal_tree(process, signal);
                }
            }
            Action::KillTree(id, generation) => self.kill_tree(now, &id, generation),
            Action::SignalLeader(id, _, signal) => {
                if let Some(process) = self.instances.get(&id).and_then(|instance| instance.process) {
                    self.keeper.signal(process, signal);
                }
            }
            Action::PersistManualStop { id, stopped } => self.persist_manual_stop(id, stopped),
            Action::Notify(notice) => self.notify(notice),
            Action::Message(id, text) => {
                self.pump.note(&id, text.clone());
                self.publish(devrun_model::feed::FeedItem::Said { id, text });
            }
            Action::StartFinished(outcome) => self.publish_start_outcome(outcome),
            Action::Shutdown(outcome) => self.finish(outcome),
        }
    }

    /// A new generation begins with the definition in force: the core's, as the plan may have moved on.
    fn begin_generation(&mut self, id: &ServiceId, generation: Generation) -> Option<Arc<ServiceSpec>> {
        let spec = Arc::clone(self.core.spec(id)?);
        self.keep_previous(id, generation);
        let instance = self.instances.entry(id.clone()).or_default();
        if instance.generation != generation {
            *instance = Instance { generation, spec: Some(Arc::clone(&spec)), ..Instance::default() };
            self.pump.begin(id, &spec.log);
            // A loss that goes on is told again.
            self.lost.remove(id);
        }
        instance.spec.clone()
    }

    fn fetch(&mut self, id: ServiceId, generation: Generation) {
        let Some(spec) = self.begin_generation(&id, generation) else {
            self.queue.push_back(Event::FetchFailed(id, generation, Failure::cancelled()));
            return;
        };
        match &spec.launch {
            Launch::Run(command) => {
                if let Err(failure) = self.directories.check(&spec) {
                    self.queue.push_back(Event::FetchFailed(id, generation, failure));
                    return;
                }
                let word = command.argv.first().map_or("", String::as_str);
                let found = devrun_store::find_command(word, &spec.env, &spec.dir);
                // It is looked for again at its spawn.
                let may_change = self.core.command_may_be_installed(&id, word, &self.to_build);
                if let Some(instance) = self.instances.get_mut(&id) {
                    instance.command_may_change = may_change;
                }
                self.queue.push_back(match found {
                    Ok(program) => {
                        if let Some(instance) = self.instances.get_mut(&id) {
                            instance.program = Some(program);
                        }
                        Event::Fetched(id, generation)
                    }
                    Err(failure) if failure.kind == FailureKind::Binary && may_change => Event::Fetched(id, generation),
                    Err(failure) => Event::FetchFailed(id, generation, self.advise_build(&spec, failure)),
                });
            }
            Launch::Recipe(recipe) => {
                let (recipe, mut options, task_results) = (recipe.clone(), self.fetch.clone(), self.task_results.clone());
                options.progress = Arc::new(FetchNotices::new(id.clone(), task_results.clone(), options.progress));
                let name = id.clone();
                let task = tokio::spawn(async move {
                    let result = devrun_store::locate(&recipe, &options).await.map(Arc::new);
                    let _ended = task_results.send(TaskResult::Fetched(name, generation, result));
                });
                self.set_preparation(&id, task.abort_handle());
            }
            Launch::External { .. } | Launch::Work => self.queue.push_back(Event::Fetched(id, generation)),
        }
    }

    /// A command that is missing may be what a build makes, which no start runs unless asked.
    pub(super) fn advise_build(&self, spec: &ServiceSpec, failure: Failure) -> Failure {
        match self.build_advice(spec).filter(|_| failure.kind == FailureKind::Binary) {
            Some(advice) => {
                let other = failure.help.as_ref().map_or(String::new(), |help| format!("; or {help}"));
                failure.help(format!("{advice}{other}"))
            }
            None => failure,
        }
    }

    pub(super) fn build_advice(&self, spec: &ServiceSpec) -> Option<String> {
        let was_built = self.instances.get(&spec.id).is_some_and(|instance| instance.was_built);
        let is_unbuilt = spec.build.is_some() && !was_built;
        is_unbuilt.then(|| format!("devrun up --build, if the build of {} makes it", spec.service))
    }

    /// The name of a service that has exited before it was ready, and whose build has not run: that may be why.
    pub(super) fn unbuilt(&self, spec: &ServiceSpec) -> Option<String> {
        self.build_advice(spec).map(|_| spec.service.to_string())
    }

    fn set_preparation(&mut self, id: &ServiceId, handle: tokio::task::AbortHandle) {
        if let Some(instance) = self.instances.get_mut(id) {
            instance.preparation = Some(handle);
        }
    }

    fn cancel(&mut self, id: ServiceId, generation: Generation) {
        let Some(instance) = self.instances.get_mut(&id).filter(|instance| instance.generation == generation) else { return };
        // Dropping the task drops its runner, which kills what it runs. The answer may be on its way already; the core
        // takes whichever comes first.
        if let Some(task) = instance.preparation.take() {
            task.abort();
            self.queue.push_back(if instance.is_initialising {
                Event::InitFailed(id, generation, Failure::cancelled())
            } else {
                Event::FetchFailed(id, generation, Failure::cancelled())
            });
        }
    }

    pub(super) fn runner(&self, spec: &ServiceSpec, generation: Generation, quiet: bool) -> Runner {
        Runner {
            keeper: self.keeper.clone(),
            places: self.places.clone(),
            prepare: crate::runtime_dir::ensure_run,
            service: spec.id.clone(),
            generation,
            marks: BTreeMap::from([("DEVRUN_RUN_ID".to_owned(), self.run.clone())]),
            sink: (!quiet).then(|| self.pump.sink(&spec.id, &spec.log)),
        }
    }

    fn run_init(&mut self, id: ServiceId, generation: Generation) {
        // A restart by policy begins here: the binary found for the last generation is still the one to run.
        if let Some(instance) = self.instances.get_mut(&id).filter(|instance| instance.generation != generation) {
            let (spec, located, program) = (instance.spec.take(), instance.located.take(), instance.program.take());
            let (command_may_change, was_built) = (instance.command_may_change, instance.was_built);
            if let Some(spec) = &spec {
                self.pump.begin(&id, &spec.log);
            }
            *instance = Instance { generation, spec, located, program, command_may_change, was_built, ..Instance::default() };
        }
        let Some((spec, located)) =
            self.instances.get(&id).and_then(|instance| instance.spec.clone().map(|spec| (spec, instance.located.clone())))
        else {
            self.queue.push_back(Event::InitFailed(id, generation, Failure::cancelled()));
            return;
        };
        self.remember_inputs(&spec);
        if let Some(task) = &spec.task {
            match self.decide_by_sentinel(&spec, task) {
                TaskDecision::Run(None) => {}
                TaskDecision::Run(Some(text)) => self.publish(devrun_model::feed::FeedItem::Said { id: id.clone(), text }),
                TaskDecision::AlreadyDone(already) => {
                    self.queue.push_back(Event::AlreadyDone(id, generation, already));
                    return;
                }
                TaskDecision::Refuse(failure) => {
                    self.queue.push_back(Event::InitFailed(id, generation, failure));
                    return;
                }
            }
        }
        let build = spec.build.clone().filter(|_| self.to_build.contains(&id)).map(|command| (command, self.builds.request()));
        if located.is_none() && spec.pre_start.is_none() && build.is_none() {
            self.queue.push_back(Event::InitDone(id, generation));
            return;
        }
        if let Some(instance) = self.instances.get_mut(&id) {
            instance.is_initialising = true;
        }
        let runner = self.runner(&spec, generation, false);
        let (places, task_results) = (self.places.clone(), self.task_results.clone());
        let volume = spec.data.as_ref().and_then(|name| self.plan.volumes.get(name)).cloned();
        let name = id.clone();
        let task = tokio::spawn(async move {
            let result = match build {
                Some((command, request)) => {
                    let say = |text: &str| drop(task_results.send(TaskResult::Said(name.clone(), text.to_owned())));
                    request.run(&spec, say, run_build(&spec, &command, &runner)).await
                }
                None => Ok(Vec::new()),
            };
            if result.is_ok() {
                let _ended = task_results.send(TaskResult::Built(name.clone()));
            }
            let result = match result {
                Ok(mut notes) => run_first_boot_and_pre_start(&spec, located.as_deref(), &places, volume.as_ref(), &runner)
                    .await
                    .map(|further| {
                        notes.extend(further);
                        notes
                    }),
                Err(failure) => Err(failure),
            };
            let _ended = task_results.send(TaskResult::Init(name, generation, result));
        });
        self.set_preparation(&id, task.abort_handle());
    }
}
