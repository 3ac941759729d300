//! Actions to drivers: one method an action, no decisions. What can be answered at once is put on the queue; what takes
//! time runs as a task and reports through the inner channel.
//!
//! Long because every action of the core is carried out here, and they share the engine's fields.

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use crate::init::{self, TaskStatus};
use crate::logs::{LineObserver, LogStream};
use crate::probe::NotifySocket;
use crate::recipes;
use crate::{ports, probe, runtime_dir, user};
use devrun_core::event::Generation;
use devrun_core::{Action, Event, Tick};
use devrun_keeper::{OutputStream, Runner};
use devrun_model::keeper::{ExitStatus, Role, RunAs, SpawnSpec, StopOrder};
use devrun_model::{Failure, FailureKind, Kind, Launch, OnChange, ServiceId, ServiceSpec, TaskSpec};

use super::clock::local;
use super::event_loop::{Engine, TaskResult};
use super::instance::Instance;
use super::pre_start::{
    check_reachable, command_request, has_notify_check, run_build, run_first_boot_and_pre_start, set_home_env, task_hash,
};
use super::stop_check;

/// How many first lines of a service make its probe look again at once.
const NUDGES: u32 = 200;

impl Engine {
    pub(super) fn execute(&mut self, now: Tick, action: Action) {
        match action {
            Action::Fetch(id, generation) => self.fetch(id, generation),
            Action::RunInit(id, generation) => self.run_init(id, generation),
            Action::Cancel(id, generation) => self.cancel(id, generation),
            Action::Spawn(id, generation) => self.spawn(now, id, generation),
            Action::StartProbes(id, generation) => self.start_probes(&id, generation),
            Action::UpdateSpec(id, generation) => self.redefine(&id, generation),
            Action::StopProbes(id, _) => self.stop_probes(&id),
            Action::StopTree(id, generation) => self.stop_tree(now, &id, generation),
            Action::SignalTree(id, _, signal) => {
                if let Some(process) = self.instances.get(&id).and_then(|instance| instance.process) {
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
                let found = command.argv.first().map_or_else(
                    || Err(Failure::new(FailureKind::Config, "the command is empty")),
                    |word| devrun_store::find_command(word, &spec.env, &spec.dir),
                );
                // A path that a task or `pre_start` may yet build is looked up by the kernel, when its time has come.
                let found = found.or_else(|failure| match command.argv.first() {
                    Some(word) if word.contains('/') && (!spec.depends_on.is_empty() || spec.pre_start.is_some()) => {
                        Ok(spec.dir.join(word))
                    }
                    _ => Err(failure),
                });
                let is_installed_later = self.is_installed_later(&spec);
                self.queue.push_back(match found {
                    Ok(program) => {
                        if let Some(instance) = self.instances.get_mut(&id) {
                            instance.program = Some(program);
                        }
                        Event::Fetched(id, generation)
                    }
                    Err(failure) if failure.kind == FailureKind::Binary && is_installed_later => Event::Fetched(id, generation),
                    Err(failure) => Event::FetchFailed(id, generation, failure),
                });
            }
            Launch::Recipe(recipe) => {
                let (recipe, options, task_results) = (recipe.clone(), self.fetch.clone(), self.task_results.clone());
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

    /// Whether a command that is not there may be installed before the service is spawned; it is looked for again then.
    fn is_installed_later(&self, spec: &ServiceSpec) -> bool {
        let is_task = |id: &ServiceId| self.core.spec(id).is_some_and(|spec| spec.kind == Kind::Task);
        spec.pre_start.is_some() || spec.build.is_some() || spec.depends_on.iter().any(|edge| is_task(&edge.on))
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
            let initialising = instance.located.is_some() || instance.program.is_some();
            self.queue.push_back(if initialising {
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
            if let Some(spec) = &spec {
                self.pump.begin(&id, &spec.log);
            }
            *instance = Instance { generation, spec, located, program, ..Instance::default() };
        }
        let Some((spec, located)) =
            self.instances.get(&id).and_then(|instance| instance.spec.clone().map(|spec| (spec, instance.located.clone())))
        else {
            self.queue.push_back(Event::InitFailed(id, generation, Failure::cancelled()));
            return;
        };
        self.remember_inputs(&spec);
        if let Some(task) = &spec.task {
            match self.check_task_status(&spec, task) {
                Ok(Ok(note)) => {
                    if let Some(text) = note {
                        self.publish(devrun_model::feed::FeedItem::Said { id: id.clone(), text });
                    }
                }
                Ok(Err(already)) => {
                    self.queue.push_back(Event::AlreadyDone(id, generation, already));
                    return;
                }
                Err(failure) => {
                    self.queue.push_back(Event::InitFailed(id, generation, failure));
                    return;
                }
            }
        }
        let build = spec.build.clone().filter(|_| self.to_build.contains(&id));
        if located.is_none() && spec.pre_start.is_none() && build.is_none() {
            self.queue.push_back(Event::InitDone(id, generation));
            return;
        }
        let runner = self.runner(&spec, generation, false);
        let (places, task_results) = (self.places.clone(), self.task_results.clone());
        let volume = spec.data.as_ref().and_then(|name| self.plan.volumes.get(name)).cloned();
        let name = id.clone();
        let task = tokio::spawn(async move {
            let result = match build {
                Some(command) => run_build(&spec, &command, &runner).await,
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

    /// What a task's sentinel says: go on (with a note), or already done.
    fn check_task_status(&mut self, spec: &ServiceSpec, task: &TaskSpec) -> Result<Result<Option<String>, String>, Failure> {
        let Some(once) = &task.once else { return Ok(Ok(None)) };
        let Some(volume) = self.plan.volumes.get(&once.volume).cloned() else {
            return Err(Failure::new(FailureKind::Config, format!("unknown volume {}", once.volume)));
        };
        let hash = task_hash(spec);
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

    fn spawn(&mut self, now: Tick, id: ServiceId, generation: Generation) {
        let result = self.try_spawn(now, &id, generation);
        if let Err(failure) = result {
            self.queue.push_back(Event::SpawnFailed(id, generation, failure));
        }
    }

    fn try_spawn(&mut self, now: Tick, id: &ServiceId, generation: Generation) -> Result<(), Failure> {
        let instance =
            self.instances.get_mut(id).filter(|instance| instance.generation == generation).ok_or_else(Failure::cancelled)?;
        let spec = instance.spec.clone().ok_or_else(Failure::cancelled)?;
        let (located, program) = (instance.located.clone(), instance.program.clone());
        runtime_dir::ensure_run(&self.places)?;
        instance.began = Some(now);
        instance.stop_asked = None;
        instance.killed = false;
        if let (Some(task), Some(hash)) = (&spec.task, instance.hash.clone())
            && let Some(once) = &task.once
            && let Some(volume) = self.plan.volumes.get(&once.volume)
        {
            init::begin_task(volume, once, &hash)?;
        }
        match &spec.launch {
            Launch::External { .. } => {
                self.instances.entry(id.clone()).or_default().external = true;
                self.queue.push_back(Event::Spawned(id.clone(), generation, None));
                Ok(())
            }
            Launch::Work => self.start_work(&spec, generation),
            Launch::Run(command) => {
                self.check_ports(&spec)?;
                let program = match (program, command.argv.first()) {
                    (Some(program), _) => program,
                    (None, Some(word)) => devrun_store::find_command(word, &spec.env, &spec.dir)?,
                    (None, None) => return Err(Failure::new(FailureKind::Config, "the command is empty")),
                };
                let mut env = spec.env.clone();
                env.extend(command.env.clone());
                let run_as = user::of(&spec)?;
                let rendered = spec.render.iter().map(|(name, text)| (self.places.service_run(id).join(name), text.clone()));
                if !spec.render.is_empty() || has_notify_check(&spec) {
                    self.recreate_service_dir(id)?;
                }
                self.write_files(&spec, rendered)?;
                self.launch(&spec, generation, program, command.argv.clone(), env, spec.dir.clone(), run_as)
            }
            Launch::Recipe(recipe) => {
                self.check_ports(&spec)?;
                let located = located.ok_or_else(|| Failure::new(FailureKind::Internal, "the recipe was not located"))?;
                let runner = self.runner(&spec, generation, false);
                let volume = spec.data.as_ref().and_then(|name| self.plan.volumes.get(name));
                let context = recipes::RecipeContext {
                    spec: &spec,
                    recipe,
                    located: &located,
                    places: &self.places,
                    volume,
                    runner: &runner,
                };
                let invocation = recipes::prepare(&context)?;
                let mut env = spec.env.clone();
                env.extend(invocation.env);
                let rendered = spec.render.iter().map(|(name, text)| (self.places.service_run(id).join(name), text.clone()));
                if invocation.dir == self.places.service_run(id) || has_notify_check(&spec) {
                    self.recreate_service_dir(id)?;
                }
                self.write_files(&spec, rendered.chain(invocation.files))?;
                self.launch(&spec, generation, invocation.program, invocation.argv, env, invocation.dir, invocation.run_as)
            }
        }
    }

    /// A fresh folder for what is rendered and for sockets.
    fn recreate_service_dir(&self, id: &ServiceId) -> Result<(), Failure> {
        let folder = self.places.service_run(id);
        runtime_dir::empty(&folder).map_err(|error| {
            Failure::new(FailureKind::Config, format!("{} cannot be made: {error}", folder.display()))
                .help("check that the runtime directory exists and is writable")
        })
    }

    fn write_files(&self, spec: &ServiceSpec, files: impl Iterator<Item = (std::path::PathBuf, String)>) -> Result<(), Failure> {
        for (path, text) in files {
            runtime_dir::write_private(&path, text.as_bytes()).map_err(|error| {
                Failure::new(FailureKind::Config, format!("{} cannot be written for {}: {error}", path.display(), spec.id))
            })?;
        }
        Ok(())
    }

    fn check_ports(&self, spec: &ServiceSpec) -> Result<(), Failure> {
        for port in spec.ports.values() {
            ports::check(&spec.bind, *port).map_err(|taken| taken.failure(&spec.bind, *port))?;
        }
        Ok(())
    }

    #[expect(clippy::too_many_arguments, reason = "the words of one exec")]
    fn launch(
        &mut self,
        spec: &ServiceSpec,
        generation: Generation,
        program: std::path::PathBuf,
        argv: Vec<String>,
        mut env: BTreeMap<String, String>,
        dir: std::path::PathBuf,
        run_as: RunAs,
    ) -> Result<(), Failure> {
        env.insert("DEVRUN_RUN_ID".to_owned(), self.run.clone());
        if has_notify_check(spec) {
            let path = self.notify_socket(&spec.id);
            let socket = NotifySocket::bind(&path)?;
            env.insert("NOTIFY_SOCKET".to_owned(), path.display().to_string());
            if let Some(instance) = self.instances.get_mut(&spec.id) {
                instance.notify = Some(socket);
            }
        }
        let own = self.places.service_run(&spec.id);
        let own_text = own.display().to_string();
        let mut reached = vec![program.as_path(), dir.as_path()];
        if let RunAs::User { uid, gid, .. } = &run_as
            && own.is_dir()
            && (matches!(spec.launch, Launch::Run(_))
                || dir.starts_with(&own)
                || argv.iter().chain(env.values()).any(|word| word.contains(own_text.as_str())))
        {
            runtime_dir::hand_over(&own, *uid, *gid).map_err(|error| {
                Failure::new(FailureKind::Config, format!("{} cannot be given to its user: {error}", own.display()))
                    .help("start devrun with another XDG_RUNTIME_DIR")
            })?;
            reached.push(&own);
        }
        check_reachable(spec, &run_as, &reached)?;
        set_home_env(spec, &run_as, &mut env);
        let process = self.keeper.next_process();
        let order = StopOrder {
            signal: spec.stop.signal,
            to: spec.stop.to,
            grace_ms: u64::try_from(spec.stop.grace.as_millis()).unwrap_or(u64::MAX),
            then: spec.stop.then,
            command: spec.stop.command.as_ref().map(|command| command.argv.clone()),
            before: spec.depends_on.iter().map(|edge| edge.on.clone()).collect(),
            tier: spec.tier,
        };
        let request = SpawnSpec {
            process,
            service: spec.id.clone(),
            generation,
            role: Role::Main,
            program,
            argv,
            env: env.into_iter().collect(),
            dir,
            run_as,
            nofile: spec.limits.nofile,
            cpu: spec.limits.cpu,
            memory: spec.limits.memory.map(|size| size.0),
            umask: None,
            tty: spec.tty,
            open_stdin: spec.kind == Kind::Service,
            lock: self.places.alive_lock(&spec.id),
            log: Some(crate::logs::file::path(&self.places.logs(), &spec.id)),
            spare: spec.stop.spare.clone(),
            stop: order,
        };
        self.processes.insert(process, (spec.id.clone(), generation));
        if let Some(instance) = self.instances.get_mut(&spec.id) {
            instance.process = Some(process);
        }
        self.keeper.spawn(request, self.process_events.clone());
        Ok(())
    }

    fn notify_socket(&self, id: &ServiceId) -> std::path::PathBuf {
        self.places.service_run(id).join("notify")
    }

    fn start_work(&mut self, spec: &ServiceSpec, generation: Generation) -> Result<(), Failure> {
        let task = spec.task.clone().ok_or_else(|| Failure::new(FailureKind::Internal, "a task without its keys"))?;
        let work = task.work.clone().ok_or_else(|| Failure::new(FailureKind::Internal, "a task without work"))?;
        let on = task
            .on
            .as_ref()
            .and_then(|on| self.instances.get(on).and_then(|instance| instance.spec.clone()))
            .ok_or_else(|| Failure::new(FailureKind::Task, "the server that it works on is not running"))?;
        let (id, task_results, log) = (spec.id.clone(), self.task_results.clone(), self.pump.sink(&spec.id, &spec.log));
        let name = id.clone();
        let handle = tokio::spawn(async move {
            let say = |text: String| {
                log.write(OutputStream::Stderr, format!("{text}\n").as_bytes());
                let _ended = task_results.send(TaskResult::Said(name.clone(), text));
            };
            let result = recipes::work(&work, &on, &say).await;
            let _ended = task_results.send(TaskResult::Work(name, generation, result));
        });
        if let Some(instance) = self.instances.get_mut(&id) {
            instance.virtual_work = Some(handle.abort_handle());
        }
        self.queue.push_back(Event::Spawned(id, generation, None));
        Ok(())
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

    pub(super) fn attach_logs(&mut self, id: &ServiceId, stdout: OwnedFd, stderr: Option<OwnedFd>) {
        let Some(instance) = self.instances.get_mut(id) else { return };
        let Some(spec) = instance.spec.clone() else { return };
        if spec.tty {
            // Without a descriptor to spare nobody can attach; the log goes on.
            instance.terminal = stdout.try_clone().ok().map(Arc::new);
        }
        self.pump.follow_files(id, &spec.log);
        let observer = |slot: &super::instance::ProbeSlot| -> LineObserver {
            let slot = Arc::clone(slot);
            let seen = AtomicU32::new(0);
            Arc::new(move |line: &[u8]| match slot.lock() {
                Ok(guard) => match guard.as_ref() {
                    Some(probe) => {
                        probe.line(line);
                        // A server that says something is often ready: the first lines make the probe look again at once.
                        probe.wants_lines() || seen.fetch_add(1, Ordering::Relaxed) < NUDGES
                    }
                    None => false,
                },
                Err(_) => false,
            })
        };
        let probed = spec.ready.is_some();
        self.pump.attach(id, &spec.log, LogStream::Stdout, stdout, probed.then(|| observer(&instance.probe)));
        if let Some(stderr) = stderr {
            self.pump.attach(id, &spec.log, LogStream::Stderr, stderr, probed.then(|| observer(&instance.probe)));
        }
    }

    fn start_probes(&mut self, id: &ServiceId, generation: Generation) {
        let runner =
            self.instances.get(id).and_then(|instance| instance.spec.clone()).map(|spec| self.runner(&spec, generation, true));
        let socket = self.notify_socket(id);
        let (Some(instance), Some(runner)) = (self.instances.get_mut(id), runner) else { return };
        let Some(spec) = instance.spec.clone() else { return };
        if spec.ready.is_none() && spec.alive.is_none() {
            return;
        }
        let mut env = spec.env.clone();
        env.insert("DEVRUN_RUN_ID".to_owned(), self.run.clone());
        let run_as = match user::of(&spec) {
            Ok(run_as) => run_as,
            // The service itself was started as that user a moment ago.
            Err(failure) => {
                let _ended = self.task_results.send(TaskResult::Said(id.clone(), format!("it is not probed: {failure}")));
                return;
            }
        };
        set_home_env(&spec, &run_as, &mut env);
        let subject = probe::ProbeSubject {
            id: id.clone(),
            generation,
            ready: spec.ready.clone(),
            alive: spec.alive.clone(),
            leader: instance.pid,
            runner,
            env,
            dir: spec.dir.clone(),
            run_as,
            notify_socket: has_notify_check(&spec).then_some(socket),
            listen_watch: self.listen_watch.clone(),
        };
        let notify = instance.notify.take();
        let handle = probe::start_with(subject, notify, self.probe_reports.clone());
        if let Ok(mut slot) = instance.probe.lock() {
            *slot = Some(handle);
        }
    }

    pub(super) fn stop_probes(&mut self, id: &ServiceId) {
        // Taken out rather than replaced: the log pump holds the slot too.
        if let Some(instance) = self.instances.get_mut(id)
            && let Ok(mut slot) = instance.probe.lock()
        {
            *slot = None;
        }
    }

    /// What runs is described by another definition from now on. Whoever was probing it had the old login.
    fn redefine(&mut self, id: &ServiceId, generation: Generation) {
        let Some(spec) = self.core.spec(id).cloned() else { return };
        let Some(instance) = self.instances.get_mut(id).filter(|instance| instance.generation == generation) else { return };
        instance.spec = Some(spec);
        self.stop_probes(id);
        self.start_probes(id, generation);
    }

    fn stop_tree(&mut self, now: Tick, id: &ServiceId, generation: Generation) {
        let Some(instance) = self.instances.get_mut(id).filter(|instance| instance.generation == generation) else {
            self.queue.push_back(Event::TreeEmpty(id.clone(), generation));
            return;
        };
        instance.stop_asked.get_or_insert(now);
        let (process, pid, spec) = (instance.process, instance.pid, instance.spec.clone());
        let Some(process) = process else { return self.end_virtual(id, generation) };
        if let Some(spec) = spec.filter(|spec| pid.is_some() && (spec.stop.check || spec.stop.command.is_some())) {
            let runner = self.runner(&spec, generation, false);
            let (task_results, name) = (self.task_results.clone(), id.clone());
            let grace = self.max_grace.map_or(spec.stop.grace, |limit| spec.stop.grace.min(limit));
            tokio::spawn(async move {
                let say = |text: String| drop(task_results.send(TaskResult::Said(name.clone(), text)));
                if spec.stop.check {
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

    fn kill_tree(&mut self, now: Tick, id: &ServiceId, generation: Generation) {
        let Some(instance) = self.instances.get_mut(id).filter(|instance| instance.generation == generation) else {
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

    pub(super) fn spawn_failure(&self, id: &ServiceId, step: &str, errno: i32) -> Failure {
        let error = std::io::Error::from_raw_os_error(errno);
        let program = self
            .instances
            .get(id)
            .and_then(|instance| instance.program.as_ref().map(|path| path.display().to_string()))
            .unwrap_or_else(|| id.to_string());
        match (step, errno) {
            ("exec", libc::ENOENT | libc::ENOEXEC | libc::EACCES | libc::ELIBBAD) => {
                Failure::new(FailureKind::Binary, format!("{program} cannot be executed: {error}"))
                    .help("check that it is built for this machine, executable, and that its `#!` line names a file that exists")
            }
            ("chdir", _) => {
                let dir = self.core.spec(id).map(|spec| spec.dir.display().to_string()).unwrap_or_default();
                Failure::new(FailureKind::Config, format!("cannot enter its working directory {dir}: {error}"))
                    .help(format!("check services.{id}.dir"))
            }
            (_, libc::EAGAIN | libc::ENOMEM | libc::EMFILE | libc::ENFILE) => {
                Failure::new(FailureKind::Service, format!("no process could be made ({step}): {error}"))
                    .help("check `ulimit -u`, `ulimit -n` and the memory that is left")
            }
            _ => Failure::new(FailureKind::Service, format!("it could not be started ({step}): {error}")),
        }
    }
}
