//! `devrun wait`: names of the stack, or addresses with no stack at all.

use clap::Args;
use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::time::Duration;

use crate::ui::term::{Term, say};
use devrun_model::exit;
use devrun_model::feed::{FeedItem, Status};
use devrun_model::{Failure, FailureKind, Health, Kind, Launch, ServiceSpec, State, duration};
use devrun_runtime::engine::state_files;
use devrun_runtime::recipes;

use crate::app::load::{self, Project};
use crate::app::request;
use crate::app::running_mode;
use crate::app::session::{Session, Signals};
use crate::app::wait_url::{Deep, UrlWaitOptions, wait_for_url};
use crate::globals::Globals;

#[derive(Debug, Args)]
pub struct WaitArgs {
    /// Services, tasks, or addresses: postgres:// redis:// http(s):// tcp:// unix: bolt://
    #[arg(value_name = "TARGET")]
    pub targets: Vec<String>,
    /// Wait for the whole stack
    #[arg(long)]
    pub all: bool,
    /// Condition to wait for
    #[arg(long = "for", value_name = "WHAT", default_value = "ready", value_parser = ["ready", "healthy", "exited", "stopped"])]
    pub until: String,
    /// Maximum time to wait
    #[arg(long, value_name = "T", env = "TIMEOUT")]
    pub timeout: Option<String>,
    /// Maximum interval between attempts
    #[arg(long, value_name = "T", env = "RETRY_INTERVAL")]
    pub interval: Option<String>,
    /// Maximum number of attempts
    #[arg(long, value_name = "N", env = "MAX_RETRIES")]
    pub retries: Option<u32>,
    /// Redis: also SET, GET and DEL a temporary key
    #[arg(long)]
    pub roundtrip: bool,
    /// Postgres: schema that must exist
    #[arg(long, value_name = "S")]
    pub schema: Option<String>,
    /// Postgres: table that must exist
    #[arg(long, value_name = "T")]
    pub table: Option<String>,
    /// Postgres: migrations must have been applied (devrun's, Alembic's, Django's, Flyway's, Prisma's, Rails')
    #[arg(long)]
    pub migrations: bool,
    /// HTTP: maximum response time
    #[arg(long, value_name = "N")]
    pub max_ms: Option<u64>,
    /// Print each attempt
    #[arg(short = 'v', long)]
    pub verbose: bool,
    /// Command to exec once everything is ready
    #[arg(last = true, value_name = "CMD")]
    pub command: Vec<OsString>,
}

/// What `-v` tells of a server is a courtesy, and waits for no more than this.
const FACTS: Duration = Duration::from_secs(2);

/// How long nothing may run before it is said that a start is waited for.
const NOTE_AFTER: Duration = Duration::from_secs(1);

/// What one service is, with respect to what is waited for.
enum Standing {
    Holds,
    NotYet(String),
    Never(Failure),
}

/// Runs it.
///
/// # Errors
/// As the contract's exit codes say.
pub fn run(globals: &Globals, args: &WaitArgs, term: Term) -> Result<i32, Failure> {
    let time = |text: &Option<String>, name: &str| {
        text.as_deref()
            .map(|text| {
                // Bare numbers are seconds: the variables of older wait scripts are written so.
                duration::parse(text).or_else(|error| text.parse().map(Duration::from_secs).map_err(|_| error))
            })
            .transpose()
            .map_err(|error| {
                Failure::new(FailureKind::Config, format!("{name}: {error}")).help(format!("devrun wait {name} 30s …"))
            })
    };
    let timeout = time(&args.timeout, "--timeout")?.unwrap_or(Duration::from_secs(120));
    let interval = time(&args.interval, "--interval")?;
    if args.targets.is_empty() && !args.all {
        return Err(Failure::new(FailureKind::Config, "what to wait for?").help("devrun wait postgres, or devrun wait --all"));
    }
    let (urls, names): (Vec<&String>, Vec<&String>) = args.targets.iter().partition(|target| is_url(target));
    let runtime = crate::app::runtime::runtime()?;
    let result = runtime.block_on(async {
        let mut signals = Signals::take()?;
        let work = async {
            let deep = Deep { schema: args.schema.clone(), table: args.table.clone(), migrations: args.migrations };
            let began = tokio::time::Instant::now();
            let one = async |url: &str, timeout: Duration, roundtrip: bool, deep: Deep| {
                let tell = |line: &str| say(line);
                let defaults = UrlWaitOptions::default();
                let options = UrlWaitOptions {
                    timeout,
                    interval: interval.unwrap_or(defaults.interval),
                    retries: args.retries,
                    roundtrip,
                    deep,
                    // Of addresses; a name says what it is by its recipe.
                    max_ms: if args.targets.iter().any(|target| target == url) { args.max_ms } else { None },
                    verbose: if args.verbose { Some(&tell) } else { None },
                    ..defaults
                };
                let found = wait_for_url(url, &options).await?;
                if !globals_quiet(term) {
                    say(found);
                }
                Ok::<(), Failure>(())
            };
            let by_name = async {
                if names.is_empty() && !args.all {
                    return Ok(());
                }
                wait_for_names(globals, args, &names, timeout, term).await?;
                for DeepTarget { spec, url, kind, is_required } in deep_targets(globals, args, &names)? {
                    let left = timeout.saturating_sub(began.elapsed());
                    if kind == "redis" {
                        let limit = if is_required { left } else { left.min(FACTS) };
                        match one(&url, limit, args.roundtrip, Deep::default()).await {
                            Err(failure) if !is_required => say(format!("{}: {}", spec.id, failure.reason)),
                            result => result?,
                        }
                        continue;
                    }
                    one(&url, left, false, deep.clone()).await.map_err(|failure| of_service(failure, &spec, &deep))?;
                    if deep.migrations {
                        let line = migrations(&spec, began + timeout).await?;
                        if !globals_quiet(term) {
                            say(line);
                        }
                    }
                }
                Ok(())
            };
            let by_url = async {
                for url in &urls {
                    one(url, timeout, args.roundtrip, deep.clone()).await?;
                }
                Ok::<(), Failure>(())
            };
            let (by_name, by_url) = tokio::join!(by_name, by_url);
            by_name.and(by_url)
        };
        tokio::select! {
            result = work => result.map(|()| exit::DONE),
            code = signals.next() => Ok(code),
        }
    });
    // Names are resolved on a blocking thread, which takes as long as the resolver does: dropping the runtime would wait for it.
    runtime.shutdown_background();
    let code = result?;
    if code != exit::DONE || args.command.is_empty() {
        return Ok(code);
    }
    devrun_keeper::file_size_limit::restore();
    let error = std::process::Command::new(&args.command[0]).args(&args.command[1..]).exec();
    let name = args.command[0].to_string_lossy();
    say(format!("devrun: command: {name}: {error}"));
    Ok(if error.kind() == std::io::ErrorKind::NotFound { exit::NOT_FOUND } else { exit::NOT_EXECUTABLE })
}

/// A named service that is asked more than whether it is ready.
struct DeepTarget {
    spec: ServiceSpec,
    url: String,
    /// `postgres` or `redis`.
    kind: &'static str,
    /// Else it only says more of itself.
    is_required: bool,
}

/// The named services that are to be looked into. A flag that fits none of them is a mistake; `-v` tells of a Redis where there is one.
fn deep_targets(globals: &Globals, args: &WaitArgs, names: &[&String]) -> Result<Vec<DeepTarget>, Failure> {
    let postgres = args.schema.is_some() || args.table.is_some() || args.migrations;
    let kinds: Vec<(&'static str, bool)> =
        [("postgres", postgres, postgres), ("redis", args.roundtrip || args.verbose, args.roundtrip)]
            .into_iter()
            .filter_map(|(kind, is_asked, is_required)| is_asked.then_some((kind, is_required)))
            .collect();
    if kinds.is_empty() {
        return Ok(Vec::new());
    }
    let project = load::project(globals)?;
    let named: Vec<String> = names.iter().map(|name| (*name).clone()).collect();
    let plan = load::plan(globals, &project, &load::Wanted { named: named.clone(), ..load::Wanted::act() })?;
    let mut targets = Vec::new();
    for (kind, is_required) in kinds {
        let before = targets.len();
        for spec in plan.services.values() {
            let meant = args.all || named.iter().any(|name| name == spec.service.as_str() || name == spec.id.as_str());
            if let Some(url) = spec.attributes.get("url").filter(|url| meant && url.starts_with(kind)) {
                targets.push(DeepTarget { spec: ServiceSpec::clone(spec), url: url.clone(), kind, is_required });
            }
        }
        if is_required && targets.len() == before {
            let flag = if kind == "redis" { "--roundtrip" } else { "--schema, --table and --migrations" };
            return Err(Failure::new(FailureKind::Config, format!("{flag} asks a {kind}, and none of these is one"))
                .help("name the service: devrun wait SERVICE …"));
        }
    }
    Ok(targets)
}

/// Between two looks whether migrations are pending.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// How many migrations a database has, once none is pending. Only of devrun's own is it known which are still to come.
async fn migrations(spec: &ServiceSpec, give_up: tokio::time::Instant) -> Result<String, Failure> {
    let folder = match &spec.launch {
        Launch::Recipe(recipe) => recipe.migrations.as_ref(),
        _ => None,
    };
    let Some(folder) = folder else {
        let table = recipes::query_sql(spec, &Deep::count_migrations(), true).await?;
        let applied = table.rows.first().and_then(|row| row.first()).cloned().flatten().unwrap_or_default();
        return Ok(format!("migrations: {applied} applied"));
    };
    loop {
        let all = recipes::migrations(spec, folder).await?;
        let mut pending = all.iter().filter(|migration| migration.applied.is_none());
        let Some(next) = pending.next() else { return Ok(format!("migrations: {} applied, 0 pending", all.len())) };
        if tokio::time::Instant::now() >= give_up {
            let reason = format!(
                "{}: {} of {} migrations are pending, the next one is {}",
                spec.id,
                1 + pending.count(),
                all.len(),
                next.name
            );
            return Err(Failure::new(FailureKind::NotReady, reason).help("devrun migrate"));
        }
        tokio::time::sleep_until(give_up.min(tokio::time::Instant::now() + LOOK_AGAIN)).await;
    }
}

/// A server of the stack is named by its service, and it runs: what is missing in it comes from elsewhere.
fn of_service(failure: Failure, spec: &ServiceSpec, deep: &Deep) -> Failure {
    if failure.kind != FailureKind::NotReady {
        return failure;
    }
    let help = if deep.migrations {
        "devrun migrate, or the command that applies the application's own migrations"
    } else {
        "run what makes it, or wait longer: `--timeout 5m`"
    };
    Failure { help: None, reason: format!("{}: {}", spec.id, failure.reason), ..failure }.help(help)
}

fn globals_quiet(term: Term) -> bool {
    matches!(term.progress, crate::ui::term::Progress::Quiet | crate::ui::term::Progress::Json)
}

fn is_url(target: &str) -> bool {
    target.contains("://") || target.starts_with("unix:")
}

async fn wait_for_names(
    globals: &Globals,
    args: &WaitArgs,
    names: &[&String],
    timeout: Duration,
    term: Term,
) -> Result<(), Failure> {
    let project = load::project(globals)?;
    let give_up = tokio::time::Instant::now() + timeout;
    // Nobody there yet may only mean that `up` was typed a moment ago elsewhere.
    let begun = tokio::time::Instant::now();
    let mut is_quiet = globals_quiet(term);
    let found = loop {
        let left = give_up.saturating_duration_since(tokio::time::Instant::now());
        match Session::remote(&project.places, left.min(Duration::from_secs(1))).await? {
            Some(found) => break Some(found),
            None if tokio::time::Instant::now() >= give_up => break None,
            None => {
                if begun.elapsed() >= NOTE_AFTER && !std::mem::replace(&mut is_quiet, true) {
                    let left = duration::human(give_up.saturating_duration_since(tokio::time::Instant::now()));
                    say(format!("nothing is running{}; waiting {left} for a start", last_ends(&project, names)));
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        }
    };
    let Some((mut session, mut status)) = found else {
        let reason = format!("nothing is running after {}{}", duration::human(timeout), last_ends(&project, names));
        return Err(Failure::new(FailureKind::Elsewhere, reason).help("devrun up -d"));
    };
    running_mode::check_given(&project, &status.snapshot)?;
    loop {
        let mut last = Vec::new();
        for service in wanted(globals, &project, &status, args, names)? {
            match standing(service, &args.until) {
                Standing::Holds => {}
                Standing::Never(failure) => return Err(failure),
                Standing::NotYet(why) => last.push(format!("{}: {why}", service.name)),
            }
        }
        if last.is_empty() {
            if args.verbose {
                say("all hold");
            }
            return Ok(());
        }
        if args.verbose && !globals_quiet(term) {
            say(last.join("; "));
        }
        let next = tokio::time::timeout_at(give_up, async {
            loop {
                match session.next().await? {
                    Some(FeedItem::Notice(_) | FeedItem::Settled { .. }) => return Ok::<bool, Failure>(true),
                    Some(_) => {}
                    None => return Ok(false),
                }
            }
        });
        match next.await {
            Err(_) => {
                return Err(Failure::new(
                    FailureKind::NotReady,
                    format!("after {}: {}", duration::human(timeout), last.join("; ")),
                )
                .help("devrun ps; devrun logs"));
            }
            Ok(Ok(true)) => {}
            Ok(Ok(false)) if matches!(args.until.as_str(), "exited" | "stopped") => return Ok(()),
            Ok(Ok(false)) => {
                return Err(supervisor_ended(&project, names));
            }
            Ok(Err(failure)) => return Err(failure),
        }
        match session.status().await? {
            Some(new) => status = new,
            None if matches!(args.until.as_str(), "exited" | "stopped") => return Ok(()),
            None => return Err(supervisor_ended(&project, names)),
        }
    }
}

fn supervisor_ended(project: &Project, names: &[&String]) -> Failure {
    let reason = format!("the supervisor ended{}", last_ends(project, names));
    Failure::new(FailureKind::Elsewhere, reason).help("devrun ps; devrun logs")
}

/// How the named services ended in the last run: `: api ended with exit code 0`. Empty where that is not known.
fn last_ends(project: &Project, names: &[&String]) -> String {
    let last = state_files::last_snapshot(&project.places);
    let services = last.iter().flat_map(|last| &last.services);
    let named = services.filter(|one| names.is_empty() || names.iter().any(|name| one.name == **name || one.service == **name));
    let ends: Vec<String> = named.filter_map(|one| Some(format!("{} {}", one.name, one.end()?))).collect();
    if ends.is_empty() { String::new() } else { format!(": {}", ends.join(", ")) }
}

fn wanted<'a>(
    globals: &Globals,
    project: &Project,
    status: &'a Status,
    args: &WaitArgs,
    names: &[&String],
) -> Result<Vec<&'a devrun_model::ServiceStatus>, Failure> {
    if args.all {
        return Ok(status.snapshot.services.iter().filter(|service| service.state != State::Skipped).collect());
    }
    let mut found = Vec::new();
    for name in names {
        let before = found.len();
        found.extend(status.snapshot.services.iter().filter(|service| service.name == **name || service.service == **name));
        if found.len() == before {
            return Err(request::unknown(globals, project, &status.snapshot, name));
        }
    }
    Ok(found)
}

fn standing(service: &devrun_model::ServiceStatus, until: &str) -> Standing {
    let reason = service.reason.clone().filter(|reason| !reason.is_empty());
    let text = |extra: &str| match &reason {
        Some(reason) => format!("{} ({reason}){extra}", service.state),
        None => format!("{}{extra}", service.state),
    };
    let kind = if service.kind == Kind::Task { FailureKind::Task } else { FailureKind::Service };
    match until {
        "exited" | "stopped" => {
            if service.state.is_final() || service.state == State::Asleep {
                Standing::Holds
            } else {
                Standing::NotYet(text(""))
            }
        }
        _ => match service.state {
            State::Completed => Standing::Holds,
            // Its address takes connections.
            State::Asleep if until == "ready" => Standing::Holds,
            State::Running if service.kind == Kind::Service && service.health == Health::Healthy => Standing::Holds,
            State::Running if service.kind == Kind::Service && service.health == Health::None && until == "ready" => {
                Standing::Holds
            }
            State::Failed => Standing::Never(
                Failure::new(kind, format!("{} {}", service.name, text(""))).help(format!("devrun logs {}", service.name)),
            ),
            State::Blocked | State::Skipped => {
                Standing::Never(Failure::new(FailureKind::Service, format!("{} is {}", service.name, text(""))).help("devrun ps"))
            }
            _ => Standing::NotYet(text(&format!(", health {}", service.health))),
        },
    }
}
