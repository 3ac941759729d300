//! What is done for a service before its process: its build, its first boot, `pre_start`; and what a command of it becomes
//! when the keeper is asked to run it: the program, the user, the folders that user must get through.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::recipes;
use crate::{runtime_dir, user};
use devrun_keeper::{CommandRequest, Runner};
use devrun_model::keeper::{Role, RunAs};
use devrun_model::{Check, CommandLine, Failure, FailureKind, Launch, ServiceSpec};

pub(super) fn has_notify_check(spec: &ServiceSpec) -> bool {
    spec.ready.as_ref().is_some_and(|ready| ready.checks.iter().any(|check| matches!(check, Check::Notify)))
}

/// A command of a service as a request to the keeper.
///
/// # Errors
/// When its first word cannot be found.
pub(super) fn command_request(
    spec: &ServiceSpec,
    command: &CommandLine,
    role: Role,
    timeout: Duration,
) -> Result<CommandRequest, Failure> {
    let word = command.argv.first().ok_or_else(|| Failure::new(FailureKind::Config, "the command is empty"))?;
    let mut env = spec.env.clone();
    env.extend(command.env.clone());
    let program = devrun_store::find_command(word, &spec.env, &spec.dir)?;
    let run_as = user::of(spec)?;
    check_reachable(spec, &run_as, &[&program, &spec.dir])?;
    set_home_env(spec, &run_as, &mut env);
    Ok(CommandRequest { role, program, argv: command.argv.clone(), env, dir: spec.dir.clone(), run_as, timeout })
}

/// What only came along from our shell says who we are; another user is somebody else, with a home of their own.
pub(super) fn set_home_env(spec: &ServiceSpec, run_as: &RunAs, env: &mut BTreeMap<String, String>) {
    let RunAs::User { uid, .. } = run_as else { return };
    let Ok(Some(user)) = nix::unistd::User::from_uid((*uid).into()) else { return };
    let home = user.dir.display().to_string();
    for (name, value) in [("HOME", &home), ("USER", &user.name), ("LOGNAME", &user.name)] {
        if spec.inherited.contains(name) {
            env.insert(name.to_owned(), value.clone());
        }
    }
}

/// Whether another user gets to what it is to run and to where it is to run it. The kernel's own answer comes after the
/// fork and does not say which folder it is.
pub(super) fn check_reachable(spec: &ServiceSpec, run_as: &RunAs, paths: &[&std::path::Path]) -> Result<(), Failure> {
    let RunAs::User { uid, gid, groups } = run_as else { return Ok(()) };
    for path in paths {
        if let Some(folder) = runtime_dir::impassable(path, *uid, *gid, groups) {
            let user = spec.user_id.as_deref().unwrap_or("that user");
            return Err(Failure::new(FailureKind::Config, format!("{user} cannot pass through {}", folder.display()))
                .help(format!("chmod o+x {}; or put it elsewhere", folder.display())));
        }
    }
    Ok(())
}

/// `up --build`. A build has no limit of its own: compilers take what they take.
pub(super) async fn run_build(spec: &ServiceSpec, command: &CommandLine, runner: &Runner) -> Result<Vec<String>, Failure> {
    let longest = Duration::from_secs(24 * 3600);
    let finished = runner.run(command_request(spec, command, Role::Build, longest)?).await?;
    if finished.status.success() {
        return Ok(finished.left_running().map(|left| format!("its build left {left} running; ended")).into_iter().collect());
    }
    Err(Failure::new(FailureKind::Service, format!("build failed: {}", finished.status)).help(format!("devrun logs {}", spec.id)))
}

/// First boot of a recipe, then `pre_start`. Returns what is worth saying.
///
/// # Errors
/// As the step that failed.
pub async fn run_first_boot_and_pre_start(
    spec: &ServiceSpec,
    located: Option<&devrun_store::Located>,
    places: &devrun_model::Paths,
    volume: Option<&devrun_model::VolumeSpec>,
    runner: &Runner,
) -> Result<Vec<String>, Failure> {
    let mut notes = Vec::new();
    if let (Launch::Recipe(recipe), Some(located)) = (&spec.launch, located) {
        let context = recipes::RecipeContext { spec, recipe, located, places, volume, runner };
        notes.extend(recipes::first_boot(&context).await?.warnings);
    }
    if let Some(command) = &spec.pre_start {
        // As long as a task may take by default; a start that should take longer is a task.
        let limit = Duration::from_secs(300);
        let finished = runner.run(command_request(spec, command, Role::PreStart, limit)?).await?;
        if finished.timed_out {
            return Err(
                Failure::new(FailureKind::Task, "pre_start did not end within 5m").help("make it a task with its own timeout")
            );
        }
        if !finished.status.success() {
            return Err(Failure::new(FailureKind::Task, format!("pre_start failed: {}", finished.status))
                .help(format!("devrun logs {}", spec.id)));
        }
        notes.extend(finished.left_running().map(|left| format!("its pre_start left {left} running; ended")));
    }
    Ok(notes)
}
