//! The start of a process, of our own work, or of nothing at all (an external service): ports, files, environment, and the
//! request to the keeper.

use std::path::PathBuf;

use crate::exec_request::ExecRequest;
use crate::probe::NotifySocket;
use crate::{init, recipes, runtime_dir};
use devrun_core::event::Generation;
use devrun_core::{Event, Tick};
use devrun_keeper::OutputStream;
use devrun_model::keeper::{Role, RunAs, SpawnSpec, StopOrder};
use devrun_model::{CommandLine, Failure, FailureKind, Kind, Launch, ServiceId, ServiceSpec};

use super::engine_state::Engine;
use super::pre_start::{check_reachable, has_notify_check, set_home_env};
use super::task_result::TaskResult;

impl Engine {
    pub(super) fn spawn(&mut self, now: Tick, id: ServiceId, generation: Generation) {
        let result = self.try_spawn(now, &id, generation);
        if let Err(failure) = result {
            self.queue.push_back(Event::SpawnFailed(id, generation, failure));
        }
    }

    fn try_spawn(&mut self, now: Tick, id: &ServiceId, generation: Generation) -> Result<(), Failure> {
        let instance =
            self.instances.get_mut(id).filter(|instance| instance.generation == generation).ok_or_else(Failure::cancelled)?;
        let spec = instance.spec.clone().ok_or_else(Failure::cancelled)?;
        let located = instance.located.clone();
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
                self.directories.check(&spec)?;
                let program = self.program_at_spawn(&spec, command)?;
                self.instances.entry(id.clone()).or_default().program = Some(program.clone());
                let request = ExecRequest::of_command(&spec, command, Some(program), &self.places)?;
                self.write_and_launch(&spec, generation, request)
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
                let request = recipes::prepare(&context)?;
                self.write_and_launch(&spec, generation, request)
            }
        }
    }

    /// The program of a command. One that was found before the service waited is looked for again where a task or the like may have
    /// installed another one, which comes first on its PATH, such as the `python` of a virtual environment.
    fn program_at_spawn(&self, spec: &ServiceSpec, command: &CommandLine) -> Result<PathBuf, Failure> {
        let instance = self.instances.get(&spec.id);
        let found = instance.and_then(|instance| instance.program.clone());
        if let Some(program) = &found
            && !instance.is_some_and(|instance| instance.command_may_change)
        {
            return Ok(program.clone());
        }
        let word = command.argv.first().map_or("", String::as_str);
        match (devrun_store::find_command(word, &spec.env, &spec.dir), found) {
            (Ok(program), _) | (Err(_), Some(program)) => Ok(program),
            (Err(failure), None) => Err(self.advise_build(spec, failure)),
        }
    }

    fn write_and_launch(&mut self, spec: &ServiceSpec, generation: Generation, request: ExecRequest) -> Result<(), Failure> {
        if request.needs_dir || has_notify_check(spec) {
            self.recreate_service_dir(&spec.id)?;
        }
        for (path, text) in &request.files {
            runtime_dir::write_private(path, text.as_bytes()).map_err(|error| {
                Failure::new(FailureKind::Config, format!("{} cannot be written for {}: {error}", path.display(), spec.id))
            })?;
        }
        self.launch(spec, generation, request)
    }

    /// A fresh directory for what is rendered and for sockets.
    fn recreate_service_dir(&self, id: &ServiceId) -> Result<(), Failure> {
        if self.previous_instances.contains_key(id) {
            // What is in it belongs to a process that serves; files are written over.
            return Ok(());
        }
        let folder = self.places.service_run(id);
        runtime_dir::empty(&folder).map_err(|error| {
            Failure::new(FailureKind::Config, format!("{} cannot be made: {error}", folder.display()))
                .help("check that the runtime directory exists and is writable")
        })
    }

    fn check_ports(&self, spec: &ServiceSpec) -> Result<(), Failure> {
        for (_, port) in spec.ports.iter().filter(|(name, _)| !(spec.listen && *name == "main")) {
            self.drivers.ports.check(&spec.bind, *port).map_err(|taken| taken.failure(&spec.bind, *port))?;
        }
        Ok(())
    }

    fn launch(&mut self, spec: &ServiceSpec, generation: Generation, request: ExecRequest) -> Result<(), Failure> {
        let ExecRequest { program, argv, mut env, dir, run_as, .. } = request;
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
        let sockets: Vec<_> = self.held_sockets.open(spec)?.into_iter().collect();
        self.ensure_balancer(spec)?;
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
            pids: spec.limits.pids,
            umask: None,
            tty: spec.tty,
            open_stdin: spec.kind == Kind::Service,
            sockets: sockets.iter().map(|_| "main".to_owned()).collect(),
            lock: self.places.alive_lock(&spec.id),
            log: Some(devrun_logs::rotating_log_file::path(&self.places.logs(), &spec.id)),
            spare: spec.stop.spare.clone(),
            stop: order,
        };
        self.processes.insert(process, (spec.id.clone(), generation));
        if let Some(instance) = self.instances.get_mut(&spec.id) {
            instance.process = Some(process);
        }
        self.keeper.spawn_with_sockets(request, sockets, self.process_events.clone());
        Ok(())
    }

    pub(super) fn notify_socket(&self, id: &ServiceId) -> PathBuf {
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

    pub(super) fn spawn_failure(&self, id: &ServiceId, step: &str, errno: i32) -> Failure {
        let error = std::io::Error::from_raw_os_error(errno);
        let program = self
            .instances
            .get(id)
            .and_then(|instance| instance.program.as_ref().map(|path| path.display().to_string()))
            .unwrap_or_else(|| id.to_string());
        match (step, errno) {
            ("exec", libc::ENOENT | libc::ENOEXEC | libc::EACCES | NOT_FOR_THIS_MACHINE) => {
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
            ("journal", _) => {
                Failure::new(FailureKind::Service, format!("it could not be started: cannot write the journal: {error}"))
                    .help(devrun_keeper::file_size_limit::write_error_help(&error))
            }
            _ => Failure::new(FailureKind::Service, format!("it could not be started ({step}): {error}")),
        }
    }
}

/// What the kernel says of a program or library that it cannot read.
#[cfg(target_os = "linux")]
const NOT_FOR_THIS_MACHINE: i32 = libc::ELIBBAD;
#[cfg(target_os = "macos")]
const NOT_FOR_THIS_MACHINE: i32 = libc::EBADEXEC;
