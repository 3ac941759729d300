//! The processes of units: the service itself, which takes this process's place, so that systemd's main process is the service's;
//! a task's command and a stop command, which are waited for; the process behind an address that copies share.

use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::process::Command;

use devrun_keeper::{KeeperHandle, Runner, file_size_limit};
use devrun_model::keeper::RunAs;
use devrun_model::{Failure, FailureKind, Launch, ServiceSpec, exit, os_text};
use devrun_runtime::engine;
use devrun_runtime::exec_request::ExecRequest;
use devrun_runtime::recipes::{self, RecipeContext};
use devrun_runtime::{ports, runtime_dir};

use super::unit_plan::UnitPlan;
use crate::globals::Globals;

/// What systemd tells a process by its environment (systemd.exec(5), sd_listen_fds(3), sd_notify(3)).
const FROM_SYSTEMD: &[&str] = &[
    "LISTEN_FDS",
    "LISTEN_PID",
    "LISTEN_FDNAMES",
    "NOTIFY_SOCKET",
    "WATCHDOG_USEC",
    "WATCHDOG_PID",
    "INVOCATION_ID",
    "JOURNAL_STREAM",
    "CREDENTIALS_DIRECTORY",
    "MEMORY_PRESSURE_WATCH",
    "MEMORY_PRESSURE_WRITE",
];

/// Becomes the service.
///
/// # Errors
/// As a start: `Binary`, `Config`, `PortTaken`.
pub fn exec(globals: &Globals, name: &str) -> Result<i32, Failure> {
    let made = UnitPlan::read(globals)?;
    let spec = made.spec(name)?;
    for (_, port) in spec.ports.iter().filter(|(name, _)| !(spec.listen && *name == "main")) {
        ports::check(&spec.bind, *port).map_err(|taken| taken.failure(&spec.bind, *port))?;
    }
    let request = request(&made, spec)?;
    let mut command = command(&made, &request);
    file_size_limit::restore();
    let error = command.exec();
    let program = request.program.display();
    Err(Failure::new(FailureKind::Binary, format!("{program} cannot be executed: {error}"))
        .help("check that it is built for this machine, executable, and that its `#!` line names a file that exists"))
}

/// Runs a task's command and waits for its end; the code, 128 and more for a signal.
///
/// # Errors
/// As a start.
pub(super) fn run_to_end(made: &UnitPlan, spec: &ServiceSpec) -> Result<i32, Failure> {
    let request = request(made, spec)?;
    wait(&request.program.display().to_string(), &mut command(made, &request))
}

/// Runs the service's stop command.
///
/// # Errors
/// `Binary` when it cannot be found.
pub fn stop(globals: &Globals, name: &str) -> Result<i32, Failure> {
    let made = UnitPlan::read(globals)?;
    let spec = made.spec(name)?;
    let Some(stop) = &spec.stop.command else { return Ok(exit::DONE) };
    // Files of the service stay as they are: it runs.
    let bare = ServiceSpec { render: std::collections::BTreeMap::new(), ..spec.clone() };
    let request = ExecRequest::of_command(&bare, stop, None, &made.places)?;
    wait(&request.program.display().to_string(), &mut command(&made, &request))
}

/// Serves the address that the copies of a service share, in this process.
///
/// # Errors
/// As the gateway.
pub fn address(globals: &Globals, name: &str) -> Result<i32, Failure> {
    let made = UnitPlan::read(globals)?;
    let copy = made.plan.services.values().find(|spec| spec.service.as_str() == name);
    let shared = copy.and_then(|copy| Some((copy, copy.shared?)));
    let (copy, address) = shared.ok_or_else(|| {
        Failure::new(FailureKind::Config, format!("the copies of {name} share no address now"))
            .help("write the units again: devrun export systemd -o DIRECTORY --yes")
    })?;
    let dir = made.places.run.join(format!("{name}.address"));
    let mut config = engine::balancer_config(copy, address, &dir, &made.places)?;
    config.spec.copies = std::iter::once((copy.service.clone(), made.copies(&copy.service))).collect();
    let text = serde_json::to_string(&config)
        .map_err(|error| Failure::new(FailureKind::Internal, format!("the address cannot be written as JSON: {error}")))?;
    let file = dir.join("balancer.json");
    runtime_dir::empty(&dir)
        .and_then(|()| runtime_dir::write_private(&file, text.as_bytes()))
        .map_err(|error| Failure::new(FailureKind::Config, format!("cannot write {}: {error}", file.display())))?;
    crate::app::gateway::run(&file)
}

/// What is to be executed, with its files written.
fn request(made: &UnitPlan, spec: &ServiceSpec) -> Result<ExecRequest, Failure> {
    runtime_dir::ensure_run(&made.places)?;
    let request = match &spec.launch {
        Launch::Run(command) => ExecRequest::of_command(spec, command, None, &made.places)?,
        Launch::Recipe(recipe) => {
            let missing = || Failure::new(FailureKind::Binary, format!("{}: its program was not found", spec.id));
            // What is asked here starts no process, so there is no keeper behind it.
            let (keeper, _requests) = KeeperHandle::channel();
            let runner = Runner {
                keeper,
                places: made.places.clone(),
                prepare: runtime_dir::ensure_run,
                service: spec.id.clone(),
                generation: 1,
                marks: std::collections::BTreeMap::new(),
                sink: None,
            };
            let context = RecipeContext {
                spec,
                recipe,
                located: made.located.get(&spec.id).ok_or_else(missing)?,
                places: &made.places,
                volume: made.volume(spec),
                runner: &runner,
            };
            recipes::prepare(&context)?
        }
        Launch::External { .. } | Launch::Work => {
            return Err(Failure::new(FailureKind::Config, format!("{} has no process", spec.id)));
        }
    };
    let failed = |path: &std::path::Path, error: std::io::Error| {
        Failure::new(FailureKind::Config, format!("cannot write {}: {error}", path.display()))
    };
    if request.needs_dir {
        let dir = made.places.service_run(&spec.id);
        runtime_dir::empty(&dir).map_err(|error| failed(&dir, error))?;
    }
    for (path, text) in &request.files {
        runtime_dir::write_private(path, text.as_bytes()).map_err(|error| failed(path, error))?;
    }
    Ok(request)
}

fn command(made: &UnitPlan, request: &ExecRequest) -> Command {
    let mut command = match &request.run_as {
        RunAs::Namespace { uid, gid } => {
            // util-linux's, which becomes the program itself: the process stays the unit's main one.
            let mut command = Command::new("unshare");
            command.args(["--user", &format!("--map-user={uid}"), &format!("--map-group={gid}"), "--"]).arg(&request.program);
            command
        }
        RunAs::Same | RunAs::User { .. } => {
            let mut command = Command::new(&request.program);
            if let Some(name) = request.argv.first() {
                command.arg0(name);
            }
            if let RunAs::User { uid, gid, .. } = &request.run_as {
                command.uid(*uid).gid(*gid);
            }
            command
        }
    };
    command.args(request.argv.get(1..).unwrap_or_default()).current_dir(&request.dir).env_clear();
    command.envs(request.env.iter().map(|(name, value)| (os_text::to_os(name), os_text::to_os(value))));
    command.env("DEVRUN_RUN_ID", &made.run);
    command.envs(FROM_SYSTEMD.iter().filter_map(|name| Some((name, std::env::var_os(name)?))));
    command
}

fn wait(program: &str, command: &mut Command) -> Result<i32, Failure> {
    file_size_limit::restore_in_child(command);
    let status =
        command.status().map_err(|error| Failure::new(FailureKind::Binary, format!("{program} cannot be executed: {error}")))?;
    Ok(status.code().or_else(|| status.signal().map(|signal| 128 + signal)).unwrap_or(exit::INTERNAL))
}
