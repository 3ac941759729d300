//! Which lines of a log belong to the report of a failure: not what devrun itself brought about, such as the requests of its probe, or the
//! start and stop of the server that an init script ran in.

use devrun_model::ServiceSpec;
use devrun_model::ready::Check;

use crate::recipes::{INIT_SCRIPT_BEGINS, INIT_SCRIPT_FAILED};

/// How many lines are looked at for the ones that are shown.
pub(super) const LOOKED_AT: usize = 400;

/// The paths that the readiness probe asks for.
pub(super) fn probed_paths(spec: &ServiceSpec) -> Vec<String> {
    let checks = spec.ready.iter().flat_map(|ready| &ready.checks);
    checks.filter_map(|check| if let Check::Http { path, .. } = check { Some(path.clone()) } else { None }).collect()
}

/// The last `count` of those that say something about the failure.
pub(super) fn relevant(mut lines: Vec<String>, probed: &[String], count: usize) -> Vec<String> {
    if let Some(end) = lines.iter().rposition(|line| line.trim_end() == INIT_SCRIPT_FAILED) {
        lines.truncate(end);
        if let Some(begin) = lines.iter().rposition(|line| line.starts_with(INIT_SCRIPT_BEGINS)) {
            lines.drain(..begin);
        }
    }
    let before = lines.len();
    lines.retain(|line| !probed.iter().any(|path| is_request(line, path)));
    if lines.len() < before {
        // What the service says of each request is the same but for its time.
        lines.dedup_by_key(|line| line.replace(|char: char| char.is_ascii_digit(), ""));
    }
    lines.split_off(lines.len().saturating_sub(count))
}

/// Whether a line of an access log is about this request.
fn is_request(line: &str, path: &str) -> bool {
    let ends = |rest: &str| rest.chars().next().is_none_or(|next| next.is_whitespace() || matches!(next, '"' | '\'' | ','));
    line.split("GET ").skip(1).any(|rest| rest.strip_prefix(path).is_some_and(ends))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(lines: &[&str], probed: &[&str]) -> Vec<String> {
        let owned = |list: &[&str]| -> Vec<String> { list.iter().map(|text| (*text).to_owned()).collect() };
        relevant(owned(lines), &owned(probed), 3)
    }

    #[test]
    fn the_requests_of_the_probe_are_left_out() {
        let log = [
            "connected to the database",
            "[10:11:12] code 404, message File not found",
            "\"GET /nope HTTP/1.1\" 404 -",
            "[10:11:13] code 404, message File not found",
            "\"GET /nope HTTP/1.1\" 404 -",
            "\"GET /nope/other HTTP/1.1\" 200 -",
            "\"GET /nope HTTP/1.1\" 404 -",
        ];
        let expected = [log[0], log[1], log[5]];
        assert_eq!(shown(&log, &["/nope"]), expected);
        assert_eq!(shown(&log, &["/"]), [log[4], log[5], log[6]], "nothing was asked there");
        assert_eq!(shown(&["attempt 1", "attempt 2"], &["/"]), ["attempt 1", "attempt 2"], "not of requests");
    }

    #[test]
    fn of_a_failed_init_script_its_own_lines_are_shown() {
        let begins = format!("{INIT_SCRIPT_BEGINS}b.sql");
        let log = ["starting PostgreSQL", "ready", &begins, "ERROR: syntax", INIT_SCRIPT_FAILED, "shutting down", "is shut down"];
        assert_eq!(shown(&log, &[]), [&begins, "ERROR: syntax"]);
        assert_eq!(shown(&log[..4], &[]), ["ready", &begins, "ERROR: syntax"]);
    }
}
