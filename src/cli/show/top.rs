//! `devrun top`: what each service and everything below it uses, and how the routes of gateways are used.

use std::collections::BTreeMap;
use std::io::{IsTerminal, Read as _};
use std::time::{Duration, Instant};

use clap::Args;
use devrun_keeper::terminal::SingleKeys;
use serde::Serialize;
use tokio::sync::mpsc;

use crate::ui::table;
use crate::ui::term::{self, Term, clear_screen, data, safe};
use devrun_model::exit;
use devrun_model::route_usage::RouteUsage;
use devrun_model::{ByteSize, Failure, Paths, Snapshot};
use devrun_runtime::stats::{self, UsageSample};

use crate::app::drain_socket;
use crate::app::load;
use crate::app::readonly;
use crate::app::request;
use crate::app::session::Signals;
use crate::cli::table_args::TableHabits;
use crate::globals::Globals;

// `top`.
#[derive(Debug, Args)]
pub struct TopArgs {
    /// Services [default: all]
    #[arg(value_name = "SERVICE")]
    pub services: Vec<String>,
    /// Print once and exit, as is done wherever the output is not a terminal
    #[arg(long, alias = "no-stream")]
    pub once: bool,
    /// Output as JSON
    #[arg(long)]
    pub json: bool,
    /// Show the processes of each service
    #[arg(long)]
    pub tree: bool,
    #[command(flatten)]
    pub compose: TableHabits,
    /// Compose's word: what does not run uses nothing
    #[arg(short = 'a', long, hide = true)]
    pub all: bool,
}

/// One process of a service.
#[derive(Serialize)]
struct ProcessUsage {
    pid: i32,
    depth: usize,
    command: String,
    cpu_percent: f64,
    memory_bytes: u64,
}

#[derive(Serialize)]
struct UsageRow {
    name: String,
    service: String,
    replica: u32,
    pid: i32,
    processes: usize,
    cpu_percent: f64,
    cpu_ms: u64,
    memory_bytes: u64,
    read_bytes: u64,
    write_bytes: u64,
    read_bytes_per_second: u64,
    write_bytes_per_second: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    tree: Option<Vec<ProcessUsage>>,
}

/// One route of a gateway.
#[derive(Serialize)]
struct RouteRow {
    gateway: String,
    route: String,
    requests: u64,
    requests_per_second: f64,
    /// Of the requests since the last reading; where there was none, of all.
    p50_ms: Option<f64>,
    p99_ms: Option<f64>,
}

/// By gateway and route.
type RouteUsages = BTreeMap<(String, String), RouteUsage>;

/// CPU is what was used within this time.
const ONCE: Duration = Duration::from_millis(500);
const AGAIN: Duration = Duration::from_secs(2);

/// Runs it.
///
/// # Errors
/// `Elsewhere` when nothing runs, `Config` for a name that is not a service's.
pub fn run(globals: &Globals, args: &TopArgs, term: Term) -> Result<i32, Failure> {
    let project = load::project(globals)?;
    crate::app::runtime::runtime()?.block_on(async {
        let mut client = crate::app::stop_stack::connect(&project.places).await?;
        let mut before: BTreeMap<String, UsageSample> = BTreeMap::new();
        let mut routes_before = RouteUsages::new();
        let mut at = Instant::now();
        let mut first = true;
        // A pipe, a file or a terminal without a cursor has no use for a table that is drawn again and again.
        let once = args.once || !std::io::stdout().is_terminal() || term::is_dumb();
        let mut keys = if once { None } else { QuitKeys::take()? };
        loop {
            let Some(status) = client.status().await? else { return Ok(exit::DONE) };
            let mut snapshot = status.snapshot;
            if !args.services.is_empty() {
                let named = request::ids(globals, &project, &snapshot, &args.services)?;
                snapshot.services.retain(|service| named.iter().any(|id| id.as_str() == service.name));
            }
            let now = samples(&snapshot);
            let routes_now = route_usages(&project.places, &snapshot).await;
            let took = at.elapsed();
            at = Instant::now();
            if !first {
                let usage = usage(&snapshot, &before, &now, took, args.tree);
                let routes = routes(&routes_before, &routes_now, took);
                if show(&usage, &routes, args, once, term).is_err() || once {
                    return Ok(exit::DONE);
                }
            }
            (before, routes_before) = (now, routes_now);
            let pause = if first { ONCE } else { AGAIN };
            first = false;
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                code = QuitKeys::pressed(&mut keys) => return Ok(code),
            }
        }
    })
}

/// What ends a table that is drawn again and again: `q`, and the signals, after which the terminal is given back.
struct QuitKeys {
    typed: mpsc::Receiver<()>,
    signals: Signals,
    /// None where it is in the background.
    _terminal: Option<SingleKeys>,
}

impl QuitKeys {
    /// `None` where no keys come from a terminal.
    fn take() -> Result<Option<Self>, Failure> {
        if !std::io::stdin().is_terminal() {
            return Ok(None);
        }
        let signals = Signals::take()?;
        let terminal = SingleKeys::start();
        let (sender, typed) = mpsc::channel(1);
        if terminal.is_some() {
            // It ends with the process.
            std::thread::spawn(move || {
                if std::io::stdin().lock().bytes().any(|key| matches!(key, Ok(b'q' | b'Q'))) {
                    let _ended = sender.blocking_send(());
                }
            });
        }
        Ok(Some(Self { typed, signals, _terminal: terminal }))
    }

    /// Waits for one; the exit code.
    async fn pressed(keys: &mut Option<Self>) -> i32 {
        let Some(keys) = keys else { return std::future::pending().await };
        tokio::select! {
            Some(()) = keys.typed.recv() => exit::DONE,
            code = keys.signals.next() => code,
        }
    }
}

fn samples(snapshot: &Snapshot) -> BTreeMap<String, UsageSample> {
    snapshot.services.iter().filter_map(|service| Some((service.name.clone(), stats::tree(service.pid?)))).collect()
}

async fn route_usages(places: &Paths, snapshot: &Snapshot) -> RouteUsages {
    let mut found = RouteUsages::new();
    for service in &snapshot.services {
        for usage in drain_socket::route_usage(places, service).await.unwrap_or_default() {
            found.insert((service.name.clone(), usage.route.clone()), usage);
        }
    }
    found
}

/// Those that were asked for at least once.
fn routes(before: &RouteUsages, now: &RouteUsages, took: Duration) -> Vec<RouteRow> {
    let seconds = took.as_secs_f64().max(0.001);
    let rounded = |value: f64| (value * 100.0).round() / 100.0;
    let nothing = RouteUsage::default();
    let used = now.iter().filter(|(_, usage)| usage.requests() > 0);
    let row = |(key, usage): (&(String, String), &RouteUsage)| {
        let since = usage.since(before.get(key).unwrap_or(&nothing));
        let shown = if since.requests() > 0 { &since } else { usage };
        RouteRow {
            gateway: key.0.clone(),
            route: key.1.clone(),
            requests: usage.requests(),
            requests_per_second: rounded(since.requests() as f64 / seconds),
            p50_ms: shown.quantile_ms(0.5).map(rounded),
            p99_ms: shown.quantile_ms(0.99).map(rounded),
        }
    };
    used.map(row).collect()
}

fn usage(
    snapshot: &Snapshot,
    before: &BTreeMap<String, UsageSample>,
    now: &BTreeMap<String, UsageSample>,
    took: Duration,
    with_tree: bool,
) -> Vec<UsageRow> {
    let empty = UsageSample::new();
    let seconds = took.as_secs_f64().max(0.001);
    let percent = |spent_ms: u64| (spent_ms as f64 / 10.0 / seconds * 10.0).round() / 10.0;
    let one = |service: &devrun_model::ServiceStatus| {
        let sample = now.get(&service.name)?;
        let known = before.get(&service.name).unwrap_or(&empty);
        let (sum, spent) = stats::total(known, sample);
        // A process that was not there before has no rate yet.
        let rate = |pick: fn(&stats::Usage) -> u64| {
            let grown: u64 = sample.iter().filter_map(|(pid, now)| Some(pick(now).saturating_sub(pick(known.get(pid)?)))).sum();
            (grown as f64 / seconds) as u64
        };
        let process = |process: stats::TreeProcess| {
            let used = sample.get(&process.pid)?;
            let earlier = known.get(&process.pid).map_or(used.cpu_ms, |known| known.cpu_ms);
            Some(ProcessUsage {
                pid: process.pid,
                depth: process.depth,
                command: process.command,
                cpu_percent: percent(used.cpu_ms.saturating_sub(earlier)),
                memory_bytes: used.memory,
            })
        };
        let pid = service.pid?;
        Some(UsageRow {
            name: service.name.clone(),
            service: service.service.clone(),
            replica: service.replica,
            pid,
            processes: sample.len(),
            cpu_percent: percent(spent),
            cpu_ms: sum.cpu_ms,
            memory_bytes: sum.memory,
            read_bytes: sum.read,
            write_bytes: sum.written,
            read_bytes_per_second: rate(|usage| usage.read),
            write_bytes_per_second: rate(|usage| usage.written),
            tree: with_tree.then(|| stats::processes(pid).into_iter().filter_map(process).collect()),
        })
    };
    snapshot.services.iter().filter_map(one).collect()
}

fn show(usage: &[UsageRow], routes: &[RouteRow], args: &TopArgs, once: bool, term: Term) -> std::io::Result<()> {
    if args.json || args.compose.is_json() {
        return match readonly::json(&serde_json::json!({ "services": usage, "routes": routes })) {
            Ok(_) => Ok(()),
            Err(failure) => Err(std::io::Error::other(failure)),
        };
    }
    if term.out_color && !once {
        clear_screen()?;
    }
    data(table::render(HEAD, &rows(usage)).trim_end())?;
    if !routes.is_empty() {
        data(format!("\n{}", table::render(ROUTES_HEAD, &route_rows(routes)).trim_end()))?;
    }
    Ok(())
}

const ROUTES_HEAD: &[&str] = &["GATEWAY", "ROUTE", "REQUESTS", "REQUESTS/S", "P50", "P99"];

fn route_rows(routes: &[RouteRow]) -> Vec<Vec<String>> {
    let time = |ms: Option<f64>| ms.map(|ms| format!("{ms:.1}ms")).unwrap_or_default();
    let row = |route: &RouteRow| {
        let rate = format!("{:.1}", route.requests_per_second);
        vec![route.gateway.clone(), safe(&route.route), route.requests.to_string(), rate, time(route.p50_ms), time(route.p99_ms)]
    };
    routes.iter().map(row).collect()
}

const HEAD: &[&str] = &["NAME", "PID", "PROCESSES", "CPU", "MEMORY", "READ", "WRITTEN", "READ/S", "WRITTEN/S"];

fn rows(usage: &[UsageRow]) -> Vec<Vec<String>> {
    let size = |bytes: u64| ByteSize(bytes).to_string();
    let mut rows = Vec::new();
    for usage in usage {
        rows.push(vec![
            usage.name.clone(),
            usage.pid.to_string(),
            usage.processes.to_string(),
            format!("{:.1}%", usage.cpu_percent),
            size(usage.memory_bytes),
            size(usage.read_bytes),
            size(usage.write_bytes),
            size(usage.read_bytes_per_second),
            size(usage.write_bytes_per_second),
        ]);
        for process in usage.tree.iter().flatten() {
            rows.push(vec![
                format!("  {}{}", "  ".repeat(process.depth), safe(&process.command)),
                process.pid.to_string(),
                String::new(),
                format!("{:.1}%", process.cpu_percent),
                size(process.memory_bytes),
            ]);
        }
    }
    rows
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tree_stands_below_its_service() {
        let process = |pid, depth, command: &str| ProcessUsage {
            pid,
            depth,
            command: command.to_owned(),
            cpu_percent: 1.5,
            memory_bytes: 1 << 20,
        };
        let usage = UsageRow {
            name: "api".to_owned(),
            service: "api".to_owned(),
            replica: 1,
            pid: 10,
            processes: 2,
            cpu_percent: 3.0,
            cpu_ms: 1,
            memory_bytes: 2 << 20,
            read_bytes: 0,
            write_bytes: 4096,
            read_bytes_per_second: 0,
            write_bytes_per_second: 2048,
            tree: Some(vec![process(10, 0, "sh"), process(11, 1, "python3")]),
        };
        insta::assert_snapshot!("top_tree", table::render(HEAD, &rows(&[usage])));
    }
}
