//! `devrun analyze`: where the time of the last start went, from the logs of events and starts, so it works with the stack
//! down. For each service: how long it waited for others, how long we took to start it once nothing was in its way, when its
//! port was open, when it was ready; then the chain of services that the whole start waited for, and our share of it.

use std::collections::BTreeMap;
use std::path::Path;

use clap::Args;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::ui::table;
use crate::ui::term::{Term, data, safe};
use devrun_keeper::regular_file;
use devrun_model::exit;
use devrun_model::{Condition, Failure, Plan, State, StateChange};
use devrun_runtime::engine::state_files::{self, PortOpened};

use crate::app::load::{self, Wanted};
use crate::app::readonly;
use crate::globals::Globals;

// `analyze`.
#[derive(Debug, Args)]
pub struct AnalyzeArgs {
    /// Output as JSON; times in microseconds since the start began
    #[arg(long)]
    pub json: bool,
}

/// What one step of the supervisor brings about is stamped one after the other: a dependent's release may stand a moment before
/// the line about what it waited for.
const SAME_STEP: i64 = 2_000;

/// One start of one service; microseconds since 1970.
#[derive(Debug, Clone, Default, PartialEq)]
struct ServiceStart {
    /// It was asked for.
    asked: i64,
    /// Nothing was in its way any more.
    released: Option<i64>,
    /// Its process ran.
    spawned: Option<i64>,
    /// Its port took a connection.
    listening: Option<i64>,
    /// It was ready, or a task was done.
    ready: Option<i64>,
}

/// Runs it.
///
/// # Errors
/// `Config` for a procfile with errors.
pub fn run(globals: &Globals, args: &AnalyzeArgs, _term: Term) -> Result<i32, Failure> {
    let project = load::project(globals)?;
    let plan = load::plan(globals, &project, &Wanted::look())?;
    let starts = starts(&lines(&state_files::events_path(&project.places)), &lines(&state_files::starts_path(&project.places)));
    let Some(report) = StartAnalysis::of(&plan, &starts) else {
        if args.json {
            return readonly::json(&Value::Null);
        }
        let _reader_gone = data("nothing was started yet: devrun up");
        return Ok(exit::DONE);
    };
    if args.json { readonly::json(&report.json()) } else { Ok(readonly::text(&report.text())) }
}

/// The entries of a log and of its rotated predecessor; what is no entry is left out.
fn lines<T: DeserializeOwned>(path: &Path) -> Vec<T> {
    let read = |path: &Path| regular_file::read_below(path.parent().unwrap_or(path), path).unwrap_or_default();
    let mut bytes = read(&path.with_extension("jsonl.1"));
    bytes.extend(read(path));
    String::from_utf8_lossy(&bytes).lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
}

fn micros(stamp: &str) -> Option<i64> {
    stamp.parse::<jiff::Timestamp>().ok().map(jiff::Timestamp::as_microsecond)
}

fn name(service: &str, replica: u32, copies: usize) -> String {
    if copies > 1 { format!("{service}.{replica}") } else { service.to_owned() }
}

type SortKey = (String, u32);

/// Every start of every service, oldest first.
fn starts(notices: &[StateChange], opened: &[PortOpened]) -> BTreeMap<SortKey, Vec<ServiceStart>> {
    let opened: BTreeMap<(&str, u32, &str), u64> =
        opened.iter().map(|one| ((one.service.as_str(), one.replica, one.ts.as_str()), one.listening_us)).collect();
    let mut all: BTreeMap<SortKey, Vec<ServiceStart>> = BTreeMap::new();
    for notice in notices {
        let Some(at) = micros(&notice.ts) else { continue };
        let list = all.entry((notice.service.clone(), notice.replica)).or_default();
        let begins = |state: State| matches!(state, State::Waiting | State::Fetching | State::Initialising | State::Starting);
        // A fetch goes on beside the wait for others, so a start may go back and forth between the two.
        if !begins(notice.from) && (begins(notice.to) || notice.to == State::Running && notice.from != State::Running) {
            list.push(ServiceStart { asked: at, ..ServiceStart::default() });
        }
        let Some(start) = list.last_mut() else { continue };
        if notice.to == State::Initialising && start.released.is_none() {
            start.released = Some(at);
        }
        if notice.pid.is_some() && matches!(notice.to, State::Starting | State::Running) && start.spawned.is_none() {
            start.spawned = Some(at);
        }
        let done = notice.to == State::Running || notice.to == State::Completed;
        if done && start.ready.is_none() {
            start.ready = Some(at);
            let key = (notice.service.as_str(), notice.replica, notice.ts.as_str());
            let spawned = start.spawned.unwrap_or(at);
            start.listening = opened.get(&key).map(|after| spawned + i64::try_from(*after).unwrap_or(0)).map(|open| open.min(at));
        } else if notice.to == State::Completed {
            // A task's process ran; it is done only now.
            start.ready = Some(at);
        }
    }
    all
}

/// One line of the table.
struct AnalysisRow {
    name: String,
    start: ServiceStart,
    /// Median of spawn → ready of the starts before this one.
    earlier: Option<i64>,
    /// Its numbered tier, with the label.
    tier: Option<String>,
}

impl AnalysisRow {
    /// From nothing in its way to its process.
    fn added(&self) -> i64 {
        self.start.spawned.zip(self.start.released).map_or(0, |(spawned, released)| (spawned - released).max(0))
    }
    fn took(&self) -> Option<i64> {
        self.start.ready.zip(self.start.spawned.or(Some(self.start.asked))).map(|(ready, spawned)| ready - spawned)
    }
}

/// The last start of the whole.
struct StartAnalysis {
    began: i64,
    rows: Vec<AnalysisRow>,
    /// Names, first to last.
    path: Vec<String>,
    /// Pauses between numbered tiers on that path.
    paused: i64,
}

impl StartAnalysis {
    fn of(plan: &Plan, starts: &BTreeMap<SortKey, Vec<ServiceStart>>) -> Option<Self> {
        let mut rows = Vec::new();
        for spec in plan.services.values() {
            let Some(list) = starts.get(&(spec.service.to_string(), spec.replica)) else { continue };
            let Some((last, before)) = list.split_last() else { continue };
            let copies = plan.services.values().filter(|other| other.service == spec.service).count();
            let mut took: Vec<i64> = before.iter().filter_map(|start| Some(start.ready? - start.spawned?)).collect();
            took.sort_unstable();
            let earlier = took.get(took.len() / 2).copied();
            rows.push((
                spec,
                AnalysisRow {
                    name: name(spec.service.as_str(), spec.replica, copies),
                    start: last.clone(),
                    earlier,
                    tier: spec
                        .tier
                        .map(|number| plan.tiers.get(&number).map_or(number.to_string(), |label| format!("{number} {label}"))),
                },
            ));
        }
        // What was restarted since has begun later than the rest; the start of the whole is that of the latest one's asking
        // and all that were asked for in the same breath, or that it waited for.
        let last = rows.iter().max_by_key(|(_, row)| row.start.ready)?;
        let mut path = vec![last.1.name.clone()];
        let mut at = last;
        let mut began = at.1.start.asked;
        let pause = i64::try_from(plan.tier_pause.as_micros()).unwrap_or(i64::MAX);
        let mut paused = 0;
        while let Some((after, next)) = {
            let edges = at.0.depends_on.iter().filter_map(|edge| {
                let found = rows.iter().find(|(spec, _)| spec.id == edge.on)?;
                let held = if edge.condition == Condition::Started { found.1.start.spawned } else { found.1.start.ready };
                Some((held?, 0, found))
            });
            let lower = rows.iter().filter(|(spec, _)| spec.tier.is_some_and(|tier| at.0.tier.is_some_and(|own| tier < own)));
            let tiers = lower.filter_map(|found| Some((found.1.start.ready?, pause, found)));
            let released = at.1.start.released;
            edges
                .chain(tiers)
                // Without the pause: it begins with the probe's success, which is published a little later.
                .filter(|(held, _, _)| released.is_none_or(|released| *held <= released + SAME_STEP) && *held >= at.1.start.asked)
                .max_by_key(|(held, after, _)| held + after)
                .map(|(_, after, found)| (after, found))
        } {
            at = next;
            paused += after;
            began = began.min(at.1.start.asked);
            path.push(at.1.name.clone());
            if path.len() > rows.len() {
                break;
            }
        }
        path.reverse();
        let mut rows: Vec<AnalysisRow> = rows.into_iter().map(|(_, row)| row).collect();
        rows.sort_by(|a, b| (a.start.spawned, &a.name).cmp(&(b.start.spawned, &b.name)));
        Some(Self { began, rows, path, paused })
    }

    fn total(&self) -> i64 {
        let on_path = self.rows.iter().filter(|row| self.path.contains(&row.name));
        on_path.filter_map(|row| row.start.ready).max().unwrap_or(self.began) - self.began
    }

    fn added(&self) -> i64 {
        self.rows.iter().filter(|row| self.path.contains(&row.name)).map(AnalysisRow::added).sum()
    }

    fn text(&self) -> String {
        let cell = |value: Option<i64>| value.map_or_else(|| "-".to_owned(), ms);
        let has_tiers = self.rows.iter().any(|row| row.tier.is_some());
        let rows: Vec<Vec<String>> = self
            .rows
            .iter()
            .map(|row| {
                let start = &row.start;
                let since = |at: Option<i64>| at.zip(start.spawned).map(|(at, spawned)| at - spawned);
                let tier = has_tiers.then(|| row.tier.as_deref().map_or_else(|| "-".to_owned(), |tier| safe(tier).to_string()));
                let cells = [
                    cell(start.released.map(|released| released - start.asked)),
                    cell(start.released.and(start.spawned).map(|_| row.added())),
                    cell(since(start.listening)),
                    cell(row.took()),
                    cell(row.earlier),
                ];
                std::iter::once(safe(&row.name).to_string()).chain(tier).chain(cells).collect()
            })
            .collect();
        let heads = ["WAITED", "TO START", "LISTENING", "READY", "EARLIER"];
        let heads: Vec<&str> = std::iter::once("SERVICE").chain(has_tiers.then_some("TIER")).chain(heads).collect();
        let mut out = table::render(&heads, &rows);
        let share = if self.total() > 0 { self.added() * 100 / self.total() } else { 0 };
        out.push_str(&format!(
            "\ncritical path: {}\n{} from asked to ready; {} of it ({share} %) from nothing in the way to a process: first boot, spawn\n",
            self.path.join(" → "),
            ms(self.total()),
            ms(self.added()),
        ));
        if self.paused > 0 {
            out.push_str(&format!("{} of it the pause between tiers ([project].tier_pause)\n", ms(self.paused)));
        }
        out
    }

    fn json(&self) -> Value {
        let since = |at: Option<i64>| at.map(|at| at - self.began);
        json!({
            "began_at": devrun_runtime::engine::clock::stamp_of_micros(self.began),
            "total_us": self.total(),
            "added_us": self.added(),
            "critical_path": self.path,
            "tier_pause_us": self.paused,
            "services": self.rows.iter().map(|row| json!({
                "name": row.name,
                "tier": row.tier,
                "asked_us": since(Some(row.start.asked)),
                "released_us": since(row.start.released),
                "spawned_us": since(row.start.spawned),
                "listening_us": since(row.start.listening),
                "ready_us": since(row.start.ready),
                "added_us": row.added(),
                "earlier_ready_after_us": row.earlier,
                "critical": self.path.contains(&row.name),
            })).collect::<Vec<_>>(),
        })
    }
}

fn ms(micros: i64) -> String {
    if micros.abs() >= 1_000_000 {
        format!("{:.2}s", micros as f64 / 1e6)
    } else if micros.abs() >= 100_000 {
        format!("{}ms", micros / 1000)
    } else {
        format!("{:.1}ms", micros as f64 / 1000.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn notice(ms: i64, service: &str, from: State, to: State, pid: Option<i32>) -> StateChange {
        StateChange {
            ts: devrun_runtime::engine::clock::stamp_of_micros(ms * 1000),
            seq: 0,
            name: None,
            service: service.to_owned(),
            replica: 1,
            from,
            to,
            health: devrun_model::Health::None,
            reason: None,
            help: None,
            pid,
            exit_code: None,
        }
    }

    #[test]
    fn a_start_is_taken_apart() {
        let events = [
            notice(10, "a", State::Stopped, State::Waiting, None),
            notice(30, "a", State::Waiting, State::Initialising, None),
            notice(31, "a", State::Initialising, State::Starting, Some(7)),
            notice(90, "a", State::Starting, State::Running, Some(7)),
            notice(95, "a", State::Running, State::Running, Some(7)),
            notice(900, "a", State::Running, State::BackingOff, None),
            notice(901, "a", State::BackingOff, State::Starting, Some(8)),
            notice(950, "a", State::Starting, State::Running, Some(8)),
        ];
        let opened = [PortOpened { ts: events[3].ts.clone(), service: "a".to_owned(), replica: 1, listening_us: 40_000 }];
        let all = starts(&events, &opened);
        let list = &all[&("a".to_owned(), 1)];
        assert_eq!(list.len(), 2);
        let first = ServiceStart {
            asked: 10_000,
            released: Some(30_000),
            spawned: Some(31_000),
            listening: Some(71_000),
            ready: Some(90_000),
        };
        assert_eq!(list[0], first);
        assert_eq!((list[1].spawned, list[1].ready, list[1].listening), (Some(901_000), Some(950_000), None));
    }

    #[test]
    fn a_task_is_ready_when_it_is_done() {
        let events = [
            notice(10, "t", State::Stopped, State::Initialising, None),
            notice(12, "t", State::Initialising, State::Running, Some(7)),
            notice(50, "t", State::Running, State::Stopping, None),
            notice(51, "t", State::Stopping, State::Completed, None),
        ];
        let all = starts(&events, &[]);
        assert_eq!(all[&("t".to_owned(), 1)][0].ready, Some(51_000));
    }

    #[test]
    fn times_read_well() {
        assert_eq!([ms(400), ms(99_900), ms(250_400), ms(2_345_000)], ["0.4ms", "99.9ms", "250ms", "2.35s"]);
    }
}
