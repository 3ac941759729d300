//! The end of a start and of a stop: URLs, culprits, stop times.

use std::collections::BTreeMap;
use std::time::Duration;

use devrun_model::duration::human;
use devrun_model::feed::StopReport;
use devrun_model::feed::{FailedService, Outcome};
use devrun_model::{Kind, Plan, ServiceId, ServiceStatus, Snapshot, State};

use super::start_times::StartTimes;
use super::table;
use super::term::{log_line, paint, safe};

/// The table of addresses, with descriptions and links.
#[must_use]
pub fn urls(plan: &Plan, snapshot: &Snapshot, private: impl Fn(&str) -> bool) -> String {
    let mut rows = Vec::new();
    for service in &snapshot.services {
        let Some(url) = &service.url else { continue };
        if !matches!(service.state, State::Running | State::Asleep) || private(&service.service) {
            continue;
        }
        let spec = plan.services.values().find(|spec| spec.id.as_str() == service.name);
        let description = spec.and_then(|spec| spec.description.clone()).unwrap_or_default();
        rows.push(vec![service.name.clone(), safe(url), safe(&description)]);
        for (label, link) in spec.map(|spec| &spec.links).into_iter().flatten() {
            let target = if link.starts_with('/') { format!("{}{link}", url.trim_end_matches('/')) } else { link.clone() };
            rows.push(vec![String::new(), safe(&target), safe(label)]);
        }
    }
    if rows.is_empty() { String::new() } else { table::render(&[], &rows) }
}

/// `ready in 14.2 s (slowest: neo4j 11.0 s)`, of what the start waited for, with what it stopped; or that there was nothing to do.
#[must_use]
pub fn ready(plan: &Plan, snapshot: &Snapshot, times: &StartTimes, total: Duration) -> String {
    let stopped = listed("stopped", times.stopped());
    let ended = ended(snapshot, times);
    let is_up = |service: &ServiceStatus| service.state.holds_port() || service.state == State::BackingOff;
    if !ended.is_empty() && !snapshot.services.iter().any(is_up) {
        return format!("{}; nothing is running", ended.join(", "));
    }
    if times.is_empty() {
        let running = snapshot.services.iter().filter(|service| service.state == State::Running).count();
        let (services, are) = if running == 1 { ("service", "is") } else { ("services", "are") };
        let done = stopped.map_or_else(|| "nothing to do:".to_owned(), |stopped| format!("{stopped};"));
        return format!("{done} {running} {services} {are} running");
    }
    let stopped = stopped.map(|stopped| format!("; {stopped}")).unwrap_or_default();
    let backing_off = snapshot.services.iter().filter(|service| service.state == State::BackingOff);
    let restarting = listed("restarting:", backing_off.map(|service| service.name.as_str()));
    let ended = if ended.is_empty() { String::new() } else { format!("; {}", ended.join(", ")) };
    let stopped = ended + &stopped + &restarting.map(|restarting| format!("; {restarting}")).unwrap_or_default();
    match times.slowest(&plan.services) {
        Some((name, own)) => format!("ready in {} (slowest: {name} {}){stopped}", human(total), human(own)),
        None => format!("ready in {}{stopped}", human(total)),
    }
}

/// `web ended with exit code 0`, of each service that this start began and that does not run any more.
fn ended(snapshot: &Snapshot, times: &StartTimes) -> Vec<String> {
    let begun = snapshot.services.iter().filter(|service| service.kind == Kind::Service && times.has(&service.name));
    // One that was asked to stop has not ended by itself.
    let by_itself = begun.filter(|service| service.state != State::Stopped);
    by_itself.filter_map(|service| Some(format!("{} {}", service.name, service.end()?))).collect()
}

/// `stopped a, b and c`; `None` without names.
pub(super) fn listed<'a>(verb: &str, names: impl Iterator<Item = &'a str>) -> Option<String> {
    let names: Vec<&str> = names.collect();
    let (last, others) = names.split_last()?;
    Some(if others.is_empty() { format!("{verb} {last}") } else { format!("{verb} {} and {last}", others.join(", ")) })
}

/// Whether its policy starts a service again that has failed a start.
#[must_use]
pub fn is_restarting(snapshot: &Snapshot, id: &ServiceId) -> bool {
    snapshot.services.iter().any(|service| {
        let comes_up = service.state == State::BackingOff || service.restarts > 0 && service.state.is_live();
        service.name == id.as_str() && comes_up
    })
}

/// Culprits with everything known about them, then who was blocked. `snapshot`: what runs after it, where it is known.
#[must_use]
pub fn failures(outcome: &Outcome, snapshot: Option<&Snapshot>, color: bool) -> String {
    let mut out = String::new();
    for FailedService { id, failure, last_answer, log } in &outcome.failures {
        let head = match snapshot.is_some_and(|snapshot| is_restarting(snapshot, id)) {
            true => paint(color, "33;1", format!("{id} is restarting:")),
            false => paint(color, "31;1", format!("{id} failed:")),
        };
        out.push_str(&format!("{head} {}\n", safe(&failure.reason)));
        if let Some(answer) = last_answer.as_ref().filter(|answer| !failure.reason.contains(answer.as_str())) {
            out.push_str(&format!("  last probe: {}\n", safe(answer)));
        }
        if !log.is_empty() {
            let count = if log.len() == 1 { "its last line".to_owned() } else { format!("its last {} lines", log.len()) };
            out.push_str(&format!("  {count}:\n"));
            for line in log {
                out.push_str(&format!("    {id} | {}\n", log_line(line)));
            }
        }
        // One that lacks a value is blocked by nothing but that.
        let by_it = outcome.blocked.iter().filter(|(blocked, root)| root == id && blocked != id);
        let blocked: Vec<_> = by_it.map(|(blocked, _)| blocked.to_string()).collect();
        if !blocked.is_empty() {
            out.push_str(&format!("  blocked by it: {}\n", blocked.join(", ")));
        }
        if let Some(help) = &failure.help {
            out.push_str(&format!("  {} {}\n", paint(color, "36", "help:"), safe(help)));
        }
    }
    let mut roots: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for (blocked, root) in &outcome.blocked {
        if !outcome.failures.iter().any(|failed| failed.id == *root) {
            roots.entry(root.as_str()).or_default().push(blocked.as_str());
        }
    }
    for (root, blocked) in roots {
        out.push_str(&format!("blocked by {root}: {}\n", blocked.join(", ")));
    }
    out
}

/// Stop times, who had to be killed, and ports.
#[must_use]
pub fn stops(reports: &[StopReport]) -> String {
    if reports.is_empty() {
        return String::new();
    }
    let rows = reports
        .iter()
        .map(|report| {
            vec![
                report.id.to_string(),
                human(Duration::from_millis(report.took_ms)),
                if report.killed { "killed" } else { "clean" }.to_owned(),
            ]
        })
        .collect::<Vec<_>>();
    let mut out = table::render(&["SERVICE", "STOPPED AFTER", "HOW"], &rows);
    let list = |pick: fn(&StopReport) -> &Vec<u16>| {
        reports.iter().flat_map(|report| pick(report).iter().map(ToString::to_string)).collect::<Vec<_>>().join(" ")
    };
    let (released, held) = (list(|report| &report.released), list(|report| &report.held));
    if !released.is_empty() {
        out.push_str(&format!("ports released: {released}\n"));
    }
    if !held.is_empty() {
        out.push_str(&format!("ports still in use: {held}\n"));
    }
    out
}
