//! `devrun events`: every state change, from the file that the supervisor writes, so it works with the stack down.

use std::collections::VecDeque;
use std::time::Duration;

use clap::Args;

use crate::ui::output;
use crate::ui::term::{Term, data, safe};
use devrun_model::exit;
use devrun_model::{Failure, StateChange};
use devrun_runtime::engine::clock;
use devrun_runtime::engine::state_files::events_path;

use crate::app::growing_file::GrowingFile;
use crate::app::load;
use crate::app::log_selection;
use crate::globals::Globals;

// `events`.
#[derive(Debug, Args)]
pub struct EventsArgs {
    /// Output as JSON, one object per line
    #[arg(long)]
    pub json: bool,
    /// Number of entries to show
    #[arg(short = 'n', long = "tail", value_name = "N")]
    pub tail: Option<String>,
    /// Show only entries since a time: 10m, or RFC 3339
    #[arg(long, value_name = "T")]
    pub since: Option<String>,
    /// Follow new output (also -f)
    #[arg(long)]
    pub follow: bool,
}

/// How often a followed file is looked at.
const LOOK: Duration = Duration::from_millis(50);

/// Runs it.
///
/// # Errors
/// `Config` when there is no project, `--since` is no time or `--tail` no number.
pub fn run(globals: &Globals, args: &EventsArgs, _term: Term) -> Result<i32, Failure> {
    let project = load::project(globals)?;
    log_selection::check(&project)?;
    // Stamps have one form only, so their order is that of their text.
    let since = args.since.as_deref().map(crate::app::log_selection::moment).transpose()?.map(clock::stamp_of_micros);
    let mut reader = GrowingFile::new(&events_path(&project.places));
    let mut tail = log_selection::tail(args.tail.as_deref(), "devrun events -n 50")?;
    loop {
        let mut entries: VecDeque<(String, StateChange)> = VecDeque::new();
        for line in reader.lines() {
            let Ok(notice) = serde_json::from_str::<StateChange>(&line) else { continue };
            if since.as_ref().is_none_or(|since| notice.ts >= *since) {
                entries.push_back((line, notice));
            }
            if tail.is_some_and(|most| entries.len() > most) {
                entries.pop_front();
            }
        }
        // What comes later is shown whole.
        tail = None;
        for (line, notice) in entries {
            let shown = if args.json { data(json(line, notice)) } else { data(row(&notice)) };
            if shown.is_err() {
                return Ok(exit::DONE);
            }
        }
        if !args.follow || output::is_reader_gone() {
            return Ok(exit::DONE);
        }
        std::thread::sleep(LOOK);
    }
}

/// The keys of the contract: a copy is known by `service` and `replica`.
fn json(line: String, notice: StateChange) -> String {
    match notice.name {
        None => line,
        Some(_) => serde_json::to_string(&StateChange { name: None, ..notice }).unwrap_or(line),
    }
}

fn row(notice: &StateChange) -> String {
    let name = notice.copy_name();
    let mut text = format!("{}  {name:16} {} → {}", notice.ts, notice.from, notice.to);
    if notice.from == notice.to {
        text = format!("{}  {name:16} {} {}", notice.ts, notice.to, notice.health);
    }
    if let Some(pid) = notice.pid {
        text.push_str(&format!("  pid {pid}"));
    }
    if let Some(code) = notice.exit_code {
        text.push_str(&format!("  exit {code}"));
    }
    let reason = notice.reason_beyond_exit();
    if !reason.is_empty() {
        text.push_str(&format!("  {}", safe(reason)));
    }
    text
}
