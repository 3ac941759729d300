//! `devrun run`: a test suite against a stack in one line; the stack is gone afterwards whatever happened.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::Args;

use crate::ui::term::{Term, say};
use devrun_model::client_env::{self, Addressed};
use devrun_model::exit;
use devrun_model::{Failure, FailureKind, Paths, Plan, RecipeBook as _, ServiceId, ServiceSpec};
use devrun_runtime::recipes::RecipeRegistry;
use devrun_runtime::{runtime_dir, trace_masks};

use crate::app::abandoned_runs;
use crate::app::child_command;
use crate::app::data::branch;
use crate::app::env_options;
use crate::app::load::{self, Purpose, Wanted};
use crate::app::project::TemporarySelection;
use crate::app::recipe_tools;
use crate::app::run_artifacts;
use crate::app::shared_server::start;
use crate::app::start_scope;
use crate::app::temporary_inside;
use crate::app::temporary_stack::{TemporaryRun, TemporaryStack, TemporaryStackResult, with_temporary_stack};
use crate::globals::Globals;

// `run`.
#[derive(Debug, Args)]
pub struct RunArgs {
    /// Services to start [default: all]
    #[arg(value_name = "SERVICE")]
    pub services: Vec<String>,
    /// Use a temporary copy with its own state and ports; keep nothing
    #[arg(long)]
    pub ephemeral: bool,
    /// Recipe to start instead of a procfile, such as postgres@16
    #[arg(long, value_name = "RECIPE")]
    pub with: Vec<String>,
    /// Do not access the network
    #[arg(long, env = "DEVRUN_OFFLINE", value_parser = clap::builder::FalseyValueParser::new())]
    pub offline: bool,
    /// Base URL or file:// directory to use instead of vendor hosts
    #[arg(long, value_name = "BASE", env = "DEVRUN_MIRROR")]
    pub mirror: Option<String>,
    /// Write a JUnit report
    #[arg(long, value_name = "FILE")]
    pub junit: Option<PathBuf>,
    /// Directory for logs and events of the run, with secrets masked
    #[arg(long, value_name = "DIR")]
    pub artifacts: Option<PathBuf>,
    /// Set an environment variable of the command; NAME alone takes the caller's value
    #[arg(short = 'e', long = "env", value_name = "NAME=VALUE")]
    pub env: Vec<String>,
    /// Working directory of the command [default: the current one]
    #[arg(short = 'w', long, value_name = "DIR")]
    pub workdir: Option<PathBuf>,
    /// Compose's options for what is always so here
    #[arg(
        long,
        hide = true,
        aliases = ["interactive", "tty", "no-tty", "no-TTY", "service-ports", "use-aliases", "remove-orphans", "quiet", "quiet-pull", "quiet-build"],
        short_aliases = ['i', 't', 'T', 'P', 'q'],
        action = clap::ArgAction::Count
    )]
    pub rm: u8,
    /// Command to run when everything is ready
    #[arg(last = true, value_name = "CMD")]
    pub command: Vec<OsString>,
}

/// Runs it.
///
/// # Errors
/// As the contract's exit codes say; `Elsewhere` when the stack is up already.
pub fn run(globals: &Globals, args: &RunArgs, term: Term) -> Result<i32, Failure> {
    if args.command.is_empty() {
        return Err(no_command(&args.services));
    }
    let internal =
        |error: std::io::Error| Failure::new(FailureKind::Config, format!("cannot create a temporary directory: {error}"));
    let folder = if args.ephemeral || !args.with.is_empty() {
        Some(tempfile::Builder::new().prefix(abandoned_runs::PREFIX).tempdir().map_err(internal)?)
    } else {
        None
    };
    run_artifacts::prepare(args.junit.as_deref(), args.artifacts.as_deref())?;
    let mut globals = globals.clone();
    if let Some(folder) = folder.as_ref().filter(|_| !args.with.is_empty()) {
        if !args.services.is_empty() {
            return Err(Failure::new(FailureKind::Config, "`--with` stands in the place of a procfile and its services")
                .help("devrun run --with postgres@16 --with redis -- pytest"));
        }
        let file = folder.path().join(temporary_inside::PROCFILE);
        std::fs::write(&file, procfile(&args.with)?).map_err(internal)?;
        globals.file = vec![file];
        globals.project_directory = None;
        globals.mode = None;
        globals.profile = Vec::new();
        globals.instance = Some(String::new());
        globals.state_dir = None;
    }
    let mut project = load::project(&globals)?;
    if !args.with.is_empty() {
        project.label = Some("--with");
    }
    let _removed_at_the_end = match &folder {
        Some(folder) => {
            project.places = runtime_dir::ephemeral(&project.root, &folder.path().join("state"), &project.env)?;
            project.temporary = Some(TemporarySelection { mode: globals.mode.clone(), profiles: globals.profile.clone() });
            Some(TemporaryRun(project.places.clone()))
        }
        None => None,
    };
    let wanted = Wanted {
        purpose: Purpose::Start,
        named: args.services.clone(),
        ports_auto: folder.is_some(),
        warn: true,
        ..Wanted::look()
    };
    let read = load::read(&globals, &project, &wanted)?;
    let targets = load::resolve(&read.plan, &args.services)?;
    let mut variables = client_env::merge(project.env.clone(), Addressed::default(), crate::app::service_env::client(&read)?);
    env_options::add(&args.env, &project.env, &mut variables)?;
    let cwd = match &args.workdir {
        Some(dir) => std::path::absolute(dir),
        None => std::env::current_dir(),
    }
    .map_err(|error| Failure::new(FailureKind::Config, format!("the working directory cannot be read: {error}")))?;
    let scope = start_scope::of(&read.plan, &targets, false);
    if !may_be_made(&args.command, &read.plan, &scope, &variables)
        && let Some(code) = args.command.first().and_then(|word| child_command::refused(word, &variables, &cwd))
    {
        return Ok(code);
    }
    if !branch::prepare(&globals, &project, &read, term)? {
        return Ok(exit::DONE);
    }
    if let Some(code) = start::before_start(&globals, &project, &read, &args.services)? {
        return Ok(code);
    }
    temporary_inside::tell(&mut variables, &project);
    let plan = read.plan;
    let started: Vec<Arc<ServiceSpec>> = scope.iter().filter_map(|id| plan.services.get(id).cloned()).collect();
    let order = TemporaryStack {
        project: &project,
        plan: Arc::clone(&plan),
        targets,
        offline: args.offline,
        mirror: args.mirror.clone(),
    };
    let began = Instant::now();
    let result = crate::app::runtime::runtime()?.block_on(with_temporary_stack(order, term, async |signals| {
        let mut variables = variables;
        recipe_tools::add_to_path(&project, started.iter().map(AsRef::as_ref), &mut variables).await?;
        child_command::run(&args.command, &variables, &cwd, None, signals).await.map(|ended| ended.code)
    }));
    let unwritten = if matches!(&result, Err(failure) if failure.kind == FailureKind::Elsewhere) {
        None
    } else {
        leave(args, &plan, &project.places, &scope, result.as_ref().ok(), began.elapsed())
    };
    match result {
        Ok(result) => match (conclude(&result), unwritten) {
            (exit::DONE, Some(failure)) => Err(failure),
            (code, _) => Ok(code),
        },
        Err(failure) => Ok(refused(&failure)),
    }
}

/// Whether the command may come to be there with the start: a recipe's program, or a file of the project where something is
/// installed or built before the services run.
fn may_be_made(command: &[OsString], plan: &Plan, scope: &BTreeSet<ServiceId>, variables: &BTreeMap<String, String>) -> bool {
    let started = || scope.iter().filter_map(|id| plan.services.get(id)).map(AsRef::as_ref);
    let Some(word) = command.first().and_then(|word| word.to_str()) else { return false };
    if recipe_tools::names(started()).contains(word) {
        return true;
    }
    let installs = started().any(|spec: &ServiceSpec| spec.task.is_some() || spec.pre_start.is_some() || spec.build.is_some());
    let path = variables.get("PATH").map(String::as_str).unwrap_or_default();
    installs && (word.contains('/') || std::env::split_paths(path).any(|directory| directory.starts_with(&plan.root)))
}

/// What was asked for beside the code. That it cannot be written is said, and is the failure of a run that had no other.
fn leave(
    args: &RunArgs,
    plan: &Plan,
    places: &Paths,
    scope: &BTreeSet<ServiceId>,
    result: Option<&TemporaryStackResult>,
    took: Duration,
) -> Option<Failure> {
    let (outcome, times) = result.map(|result| (result.start.clone(), result.times.clone())).unwrap_or_default();
    let start = run_artifacts::StartReport { scope, outcome: &outcome, times: &times };
    let words: Vec<_> = args.command.iter().map(|word| word.to_string_lossy()).collect();
    let work = run_artifacts::CommandRun { words: &words.join(" "), code: result.and_then(|result| result.work), took };
    let report = args.junit.as_ref().map(|path| run_artifacts::junit(path, plan, &start, &work));
    let folder = args.artifacts.as_ref().map(|folder| run_artifacts::collect(folder, plan, places, scope));
    let failures: Vec<Failure> = [report, folder].into_iter().flatten().filter_map(Result::err).collect();
    for failure in &failures {
        say(format!("devrun: {failure}"));
    }
    failures.into_iter().next()
}

/// `run web pytest`, as compose has it, is two services here.
fn no_command(services: &[String]) -> Failure {
    let (service, command) = match services {
        [service, command @ ..] if !command.is_empty() => (service.as_str(), command.join(" ")),
        [service] => (service.as_str(), "CMD".to_owned()),
        _ => ("SERVICE", "CMD".to_owned()),
    };
    Failure::new(FailureKind::Config, "missing command: it follows `--`").help(format!(
        "devrun run {service} -- {command} starts {service}, runs the command and stops it; in a running stack: devrun exec \
         {service} -- {command}"
    ))
}

/// Says once why the command was not run, and returns the code.
fn refused(failure: &Failure) -> i32 {
    let code = exit::of(failure.kind);
    // It may quote an address with a login.
    let reason = trace_masks::masked(&failure.reason);
    let (first, rest) = reason.split_once('\n').unwrap_or((&reason, ""));
    if !failure.is_shown {
        if !rest.is_empty() {
            say(format!("error: {reason}"));
        }
        if let Some(help) = &failure.help {
            say(format!("help: {}", trace_masks::masked(help)));
        }
    }
    say(format!("devrun: stack: exit {code} ({}): {first}", exit::meaning_of(failure.kind)));
    code
}

/// The command's code is passed on; the words before it tell it from one of ours.
fn conclude(result: &TemporaryStackResult) -> i32 {
    if let Some(code) = result.work.filter(|code| *code != exit::DONE) {
        say(format!("devrun: command: exit {code}"));
        return code;
    }
    match result.stack_code() {
        Some(code) => {
            let first = result.start.failures.first();
            let reason = first.map_or_else(
                || exit::meaning(code).to_owned(),
                |failed| format!("{}: {}", failed.id, failed.failure.reason.lines().next().unwrap_or_default()),
            );
            say(format!("devrun: stack: exit {code} ({}): {reason}", exit::meaning(code)));
            code
        }
        None => exit::DONE,
    }
}

/// A procfile out of recipes: each service has its recipe's name.
fn procfile(recipes: &[String]) -> Result<String, Failure> {
    let book = RecipeRegistry::new();
    let mut services = toml::Table::new();
    for recipe in recipes {
        let name = recipe.split('@').next().unwrap_or(recipe).to_owned();
        if name.is_empty() || name.contains(['/', '.']) {
            return Err(Failure::new(FailureKind::Config, format!("--with {recipe}: not the name of a recipe"))
                .help("devrun catalog lists them; a recipe of your own needs a procfile"));
        }
        if book.find(&name).is_none() {
            let known: Vec<String> = book.names().into_iter().map(str::to_owned).collect();
            return Err(Failure::new(FailureKind::Config, format!("--with {recipe}: unknown recipe `{name}`"))
                .help(devrun_config::recipe_advice(&name, &known)));
        }
        if services.contains_key(&name) {
            return Err(Failure::new(FailureKind::Config, format!("--with names {name} twice"))
                .help("two servers of one kind need a procfile"));
        }
        services.insert(name, toml::Value::Table(toml::Table::from_iter([("use".to_owned(), recipe.clone().into())])));
    }
    let project = toml::Table::from_iter([("name".to_owned(), toml::Value::from("run"))]);
    let file = toml::Table::from_iter([("project".to_owned(), project.into()), ("services".to_owned(), services.into())]);
    toml::to_string(&file).map_err(|error| Failure::new(FailureKind::Internal, format!("no procfile can be made: {error}")))
}

#[cfg(test)]
mod tests {
    use super::procfile;

    #[test]
    fn recipes_become_a_procfile() {
        let text = procfile(&["postgres@16".to_owned(), "redis".to_owned()]).unwrap();
        assert!(text.contains("[services.postgres]\nuse = \"postgres@16\"") && text.contains("[services.redis]"), "{text}");
        assert!(procfile(&["redis".to_owned(), "redis@7".to_owned()]).is_err());
        assert!(procfile(&["./x.toml".to_owned()]).is_err());
        let unknown = procfile(&["mysql@8".to_owned()]).unwrap_err();
        assert_eq!(unknown.reason, "--with mysql@8: unknown recipe `mysql`");
        assert_eq!(unknown.help.as_deref(), Some("the recipe for mysql is \"mariadb\""));
    }
}
