//! `devrun top`: what each service and everything below it uses.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use clap::Args;
use serde::Serialize;

use crate::ui::table;
use crate::ui::term::{Term, data};
use devrun_model::exit;
use devrun_model::{ByteSize, Failure, Snapshot};
use devrun_runtime::stats::{self, UsageSample};

use crate::app::load;
use crate::app::readonly;
use crate::globals::Globals;

// `top`.
#[derive(Debug, Args)]
pub struct TopArgs {
    /// Print once and exit
    #[arg(long, alias = "no-stream")]
    pub once: bool,
    /// Output as JSON
    #[arg(long)]
    pub json: bool,
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
}

/// CPU is what was used within this time.
const ONCE: Duration = Duration::from_millis(500);
const AGAIN: Duration = Duration::from_secs(2);

/// Runs it.
///
/// # Errors
/// `Elsewhere` when nothing runs.
pub fn run(globals: &Globals, args: &TopArgs, term: Term) -> Result<i32, Failure> {
    let project = load::project(globals)?;
    crate::app::runtime::runtime()?.block_on(async {
        let mut client = crate::app::stop_stack::connect(&project.places).await?;
        let mut before: BTreeMap<String, UsageSample> = BTreeMap::new();
        let mut at = Instant::now();
        let mut first = true;
        loop {
            let Some(status) = client.status().await? else { return Ok(exit::DONE) };
            let now = samples(&status.snapshot);
            let took = at.elapsed();
            at = Instant::now();
            if !first {
                let usage = usage(&status.snapshot, &before, &now, took);
                if show(&usage, args, term).is_err() || args.once {
                    return Ok(exit::DONE);
                }
            }
            before = now;
            let pause = if first { ONCE } else { AGAIN };
            first = false;
            tokio::time::sleep(pause).await;
        }
    })
}

fn samples(snapshot: &Snapshot) -> BTreeMap<String, UsageSample> {
    snapshot.services.iter().filter_map(|service| Some((service.name.clone(), stats::tree(service.pid?)))).collect()
}

fn usage(
    snapshot: &Snapshot,
    before: &BTreeMap<String, UsageSample>,
    now: &BTreeMap<String, UsageSample>,
    took: Duration,
) -> Vec<UsageRow> {
    let empty = UsageSample::new();
    let one = |service: &devrun_model::ServiceStatus| {
        let sample = now.get(&service.name)?;
        let (sum, spent) = stats::total(before.get(&service.name).unwrap_or(&empty), sample);
        let percent = Duration::from_millis(spent).as_secs_f64() / took.as_secs_f64().max(0.001) * 100.0;
        Some(UsageRow {
            name: service.name.clone(),
            service: service.service.clone(),
            replica: service.replica,
            pid: service.pid?,
            processes: sample.len(),
            cpu_percent: (percent * 10.0).round() / 10.0,
            cpu_ms: sum.cpu_ms,
            memory_bytes: sum.memory,
            read_bytes: sum.read,
            write_bytes: sum.written,
        })
    };
    snapshot.services.iter().filter_map(one).collect()
}

fn show(usage: &[UsageRow], args: &TopArgs, term: Term) -> std::io::Result<()> {
    if args.json {
        return match readonly::json(&serde_json::json!({ "services": usage })) {
            Ok(_) => Ok(()),
            Err(failure) => Err(std::io::Error::other(failure)),
        };
    }
    let size = |bytes: u64| ByteSize(bytes).to_string();
    let rows: Vec<Vec<String>> = usage
        .iter()
        .map(|usage| {
            vec![
                usage.name.clone(),
                usage.pid.to_string(),
                usage.processes.to_string(),
                format!("{:.1}%", usage.cpu_percent),
                size(usage.memory_bytes),
                size(usage.read_bytes),
                size(usage.write_bytes),
            ]
        })
        .collect();
    if term.out_color && !args.once {
        data("\x1b[H\x1b[2J")?;
    }
    data(table::render(&["NAME", "PID", "PROCESSES", "CPU", "MEMORY", "READ", "WRITTEN"], &rows).trim_end())
}
