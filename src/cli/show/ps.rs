//! `devrun ps`.

use crate::app::snapshot::{self, Leftovers};
use clap::Args;
use std::time::Duration;

use crate::ui::output;
use crate::ui::table;
use crate::ui::term::{Term, clear_screen, columns, data, paint, safe, say};
use devrun_model::duration::human;
use devrun_model::exit;
use devrun_model::{Failure, Health, Kind, Paths, ServiceStatus, Snapshot, State};

use crate::app::load::{self, Project, Wanted};
use crate::app::unknown_service::unknown_or_inactive;
use crate::cli::table_args::TableHabits;
use crate::globals::Globals;

#[derive(Debug, Args)]
pub struct PsArgs {
    /// Services [default: all]
    #[arg(value_name = "SERVICE")]
    pub services: Vec<String>,
    /// Output as JSON
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    pub compose: TableHabits,
    /// Compose's word: what has ended is always shown
    #[arg(short = 'a', long, hide = true, alias = "orphans")]
    pub all: bool,
    /// Print only names
    #[arg(short = 'q', long, alias = "services")]
    pub quiet: bool,
    /// Show only services in this state or health
    #[arg(long, value_name = "S")]
    pub status: Vec<String>,
    /// Exit non-zero unless every service is healthy
    #[arg(long)]
    pub check: bool,
    /// Refresh on every change
    #[arg(long)]
    pub watch: bool,
}

/// How often `--watch` looks whether the output still has a reader.
const READER_CHECK: Duration = Duration::from_millis(200);

/// The columns that a narrow terminal is spared, least important first.
const LEFT_OUT: &[&str] = &["RESTARTS", "PID", "UPTIME", "PORTS", "HEALTH"];

/// Runs it.
///
/// # Errors
/// `Config` when there is no project, `Elsewhere` when a supervisor does not answer.
pub fn run(globals: &Globals, args: &PsArgs, term: Term) -> Result<i32, Failure> {
    let project = load::project_by_state(globals)?;
    let runtime = crate::app::runtime::waiting_runtime()?;
    if !args.watch {
        let snapshot = runtime.block_on(snapshot::snapshot(globals, &project))?;
        check_names(globals, &project, &snapshot, &args.services)?;
        return Ok(print(&snapshot, &project.places, args, term));
    }
    runtime.block_on(async {
        loop {
            let snapshot = snapshot::snapshot(globals, &project).await?;
            if term.out_color {
                let _reader_gone = clear_screen();
            }
            let code = print(&snapshot, &project.places, args, term);
            if snapshot.supervisor_pid.is_none() {
                return Ok(code);
            }
            let Some(mut client) = crate::app::connect::supervisor(&project.places).await? else { continue };
            client.watch().await?;
            let item = client.item();
            tokio::pin!(item);
            // One change, then whatever belongs to the same moment.
            let changed = loop {
                tokio::select! {
                    item = &mut item => break item?.is_some(),
                    () = tokio::time::sleep(READER_CHECK) => if output::is_reader_gone() { return Ok(code) },
                }
            };
            if changed {
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
            if output::is_reader_gone() {
                return Ok(code);
            }
        }
    })
}

/// Whether each name is that of a service or of one copy.
fn check_names(globals: &Globals, project: &Project, snapshot: &Snapshot, names: &[String]) -> Result<(), Failure> {
    let Some(name) = names.iter().find(|name| !snapshot.services.iter().any(|service| is_named(service, name))) else {
        return Ok(());
    };
    // The procfile may have errors; what runs is known without it.
    let plan = load::plan(globals, project, &Wanted::look()).ok();
    let known = snapshot.services.iter().map(|service| service.service.as_str());
    Err(unknown_or_inactive(plan.as_deref(), name, "there are", known))
}

fn is_named(service: &ServiceStatus, name: &str) -> bool {
    service.name == name || service.service == name
}

fn print(snapshot: &Snapshot, places: &Paths, args: &PsArgs, term: Term) -> i32 {
    let fits = |service: &&ServiceStatus| {
        let has_status = |word: &String| word == service.state.as_str() || word == service.health.as_str();
        let is_meant = args.services.is_empty() || args.services.iter().any(|name| is_named(service, name));
        is_meant && (args.status.is_empty() || args.status.iter().any(has_status))
    };
    let shown: Vec<&ServiceStatus> = snapshot.services.iter().filter(fits).collect();
    if args.json || args.compose.is_json() {
        let mut snapshot = snapshot.clone();
        snapshot.services = shown.into_iter().cloned().collect();
        match serde_json::to_string(&snapshot) {
            Ok(text) => drop(data(text)),
            Err(error) => say(error),
        }
    } else if args.quiet {
        for service in shown {
            if data(&service.name).is_err() {
                break;
            }
        }
    } else {
        let rows: Vec<Vec<String>> = shown.iter().map(|service| row(service, term.out_color)).collect();
        let head = ["NAME", "STATE", "HEALTH", "PID", "UPTIME", "RESTARTS", "PORTS", "URL"];
        let text = match columns().filter(|_| !args.compose.no_trunc) {
            Some(columns) => table::fitted(&head, &rows, columns, LEFT_OUT),
            None => table::render(&head, &rows),
        };
        let _reader_gone = data(text.trim_end());
        if snapshot.supervisor_pid.is_none() {
            say(nothing_runs(snapshot::leftovers(places, snapshot), snapshot::has_run(places)));
        }
        if let Some(version) = snapshot.supervisor_version.as_deref().filter(|version| *version != env!("CARGO_PKG_VERSION")) {
            say(format!(
                "the supervisor is devrun {}, this is {}; to change over: devrun down, then devrun up -d",
                safe(version),
                env!("CARGO_PKG_VERSION")
            ));
        }
    }
    if !args.check {
        return exit::DONE;
    }
    if snapshot.supervisor_pid.is_none() {
        exit::ELSEWHERE
    } else if snapshot.services.iter().any(|service| {
        matches!(service.state, State::Failed | State::Blocked | State::BackingOff) || service.health == Health::Unhealthy
    }) {
        exit::SERVICE
    } else {
        exit::DONE
    }
}

/// Below the table of a stack without a supervisor.
fn nothing_runs(leftovers: Leftovers, has_run: bool) -> String {
    let (processes, are, them) = if leftovers.count == 1 { ("process", "is", "it") } else { ("processes", "are", "them") };
    match leftovers {
        Leftovers { count: 0, .. } if has_run => "nothing is running; this is how it ended".to_owned(),
        Leftovers { count: 0, .. } => "nothing is running; `devrun up -d` starts it".to_owned(),
        Leftovers { count, is_stopping: true } => {
            format!("the supervisor has ended and {count} {processes} of it {are} being stopped; `devrun down` waits for {them}")
        }
        Leftovers { count, is_stopping: false } => {
            format!("the supervisor has ended and {count} {processes} of it {are} still running; `devrun down` stops {them}")
        }
    }
}

fn row(service: &ServiceStatus, color: bool) -> Vec<String> {
    let code = match (service.state, service.health) {
        (State::Failed | State::Blocked, _) | (_, Health::Unhealthy) => "31",
        (State::Running | State::Completed, _) => "32",
        (State::Stopped | State::Skipped | State::Asleep, _) => "2",
        _ => "33",
    };
    let mut state = service.state.to_string();
    match (service.exit_code, &service.signal) {
        _ if !matches!(service.state, State::Failed | State::Completed | State::BackingOff) => {}
        (Some(exit), _) if service.kind == Kind::Task || exit != 0 => state.push_str(&format!(" ({exit})")),
        (_, Some(signal)) => state.push_str(&format!(" ({signal})")),
        _ => {}
    }
    let ports = service.ports.iter().map(|(name, port)| if name == "main" { port.to_string() } else { format!("{name}:{port}") });
    let url = match (&service.reason, &service.url) {
        (Some(reason), _) if !reason.is_empty() && service.state != State::Running => safe(reason),
        // Lost output is all that a running service has to say.
        (Some(reason), Some(url)) if !reason.is_empty() => format!("{}  {}", safe(url), safe(reason)),
        (Some(reason), None) => safe(reason),
        (_, Some(url)) => safe(url),
        _ => String::new(),
    };
    vec![
        service.name.clone(),
        paint(color, code, state),
        service.health.to_string(),
        service.pid.map(|pid| pid.to_string()).unwrap_or_default(),
        service.uptime_ms.map(|ms| human(Duration::from_millis(ms))).unwrap_or_default(),
        service.restarts.to_string(),
        ports.collect::<Vec<_>>().join(" "),
        url,
    ]
}
