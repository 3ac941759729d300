//! What `devrun run` leaves for a CI server: a report of the start in JUnit's form, and a folder of logs and events.
//!
//! Both are made after the teardown, from what outlives a supervisor, so that they tell of the stop as well. Masked, as
//! they are kept and shown where anybody may look.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs::{self, File, Permissions};
use std::io::{BufWriter, Write as _};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;
use std::time::Duration;

use crate::ui::start_times::StartTimes;
use devrun_logs::{LogLine, LogQuery, read::lines};
use devrun_model::feed::Outcome;
use devrun_model::mask::Masker;
use devrun_model::{Failure, FailureKind, Paths, Plan, ServiceId};
use devrun_runtime::engine::{clock, state_files};
use devrun_runtime::runtime_dir::{resolve, write_named};

/// What was started, and how that went.
pub struct StartReport<'a> {
    /// The services that the start was about; others are in no report.
    pub scope: &'a BTreeSet<ServiceId>,
    /// How it ended.
    pub outcome: &'a Outcome,
    /// How long each service took.
    pub times: &'a StartTimes,
}

/// The command that was run.
pub struct CommandRun<'a> {
    /// Its words.
    pub words: &'a str,
    /// Its exit code; `None`: it was never begun.
    pub code: Option<i32>,
    /// How long everything took.
    pub took: Duration,
}

fn cannot(path: &Path, error: &std::io::Error) -> Failure {
    Failure::new(FailureKind::Config, format!("cannot write {}: {error}", path.display()))
        .help("check that its directory can be written to, or name another one")
}

/// Makes the directories of what is asked for and checks that it can be written, before anything is started: a run whose
/// report is missing must not look like a good one.
///
/// # Errors
/// `Config` when it cannot be written.
pub fn prepare(junit: Option<&Path>, folder: Option<&Path>) -> Result<(), Failure> {
    let probe = |folder: &Path| tempfile::Builder::new().tempfile_in(folder).map(drop);
    if let Some(path) = junit {
        let written = resolve(path).and_then(|place| {
            let parent = place.parent().unwrap_or(Path::new("/"));
            match File::options().append(true).open(&place) {
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => make(parent, 0o755).and_then(|()| probe(parent)),
                opened => opened.map(drop),
            }
        });
        written.map_err(|error| cannot(path, &error))?;
    }
    if let Some(folder) = folder {
        let made = resolve(folder).and_then(|place| make(&place, 0o700).and_then(|()| probe(&place)));
        made.map_err(|error| cannot(folder, &error))?;
    }
    Ok(())
}

/// Text as XML takes it: what XML has no way to say at all becomes a blank.
fn xml(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\n' | '\t' => out.push(c),
            c if c.is_control() || matches!(c, '\u{fffe}' | '\u{ffff}') => out.push(' '),
            c => out.push(c),
        }
    }
    out
}

/// A test case for each service and task, and one for the command.
fn report(plan: &Plan, start: &StartReport<'_>, work: &CommandRun<'_>) -> String {
    let masker = Masker::new(plan, false).thorough();
    let text = |text: &str| xml(&masker.text(text));
    let blocked: BTreeMap<&ServiceId, &ServiceId> = start.outcome.blocked.iter().map(|(who, by)| (who, by)).collect();
    let (mut cases, mut failures, mut skipped) = (String::new(), 0, 0);
    for id in start.scope {
        let took = start.times.took(id.as_str());
        let time = format!("{:.3}", took.unwrap_or_default().as_secs_f64());
        let _ = write!(cases, "    <testcase classname=\"devrun.start\" name=\"{}\" time=\"{time}\"", text(id.as_str()));
        if let Some(failed) = start.outcome.failures.iter().find(|failed| failed.id == *id) {
            failures += 1;
            let mut said = failed.log.join("\n");
            if let Some(answer) = &failed.last_answer {
                said = format!("last probe answer: {answer}\n{said}");
            }
            let reason = text(&failed.failure.reason);
            let _ = write!(cases, ">\n      <failure message=\"{reason}\">{}</failure>\n    </testcase>\n", text(&said));
        } else if let Some(root) = blocked.get(id) {
            skipped += 1;
            let _ = write!(cases, ">\n      <skipped message=\"blocked by {}\"/>\n    </testcase>\n", text(root.as_str()));
        } else if took.is_some() {
            cases.push_str("/>\n");
        } else {
            skipped += 1;
            let why = if start.times.has(id.as_str()) { "it did not become ready" } else { "it was not started" };
            let _ = write!(cases, ">\n      <skipped message=\"{why}\"/>\n    </testcase>\n");
        }
    }
    let time = format!("{:.3}", work.took.as_secs_f64());
    let _ = write!(cases, "    <testcase classname=\"devrun.run\" name=\"{}\" time=\"{time}\"", text(work.words));
    match work.code {
        Some(0) => cases.push_str("/>\n"),
        Some(code) => {
            failures += 1;
            let _ = write!(cases, ">\n      <failure message=\"exit {code}\"/>\n    </testcase>\n");
        }
        None => {
            skipped += 1;
            cases.push_str(">\n      <skipped message=\"the stack was not ready\"/>\n    </testcase>\n");
        }
    }
    let tests = start.scope.len() + 1;
    let name = text(plan.project.as_str());
    format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuites>\n  <testsuite name=\"{name}\" tests=\"{tests}\" \
         failures=\"{failures}\" skipped=\"{skipped}\" errors=\"0\" time=\"{time}\">\n{cases}  </testsuite>\n</testsuites>\n"
    )
}

/// `--junit FILE`.
///
/// # Errors
/// `Config` when it cannot be written.
pub fn junit(path: &Path, plan: &Plan, start: &StartReport<'_>, work: &CommandRun<'_>) -> Result<(), Failure> {
    let text = report(plan, start, work);
    // The place is the caller's word: /dev/stdout is a link.
    let flags = |place: &Path| if place.starts_with("/proc") { 0 } else { libc::O_NOFOLLOW };
    resolve(path)
        .and_then(|place| create(&place, flags(&place)))
        .and_then(|mut file| file.write_all(text.as_bytes()))
        .map_err(|error| cannot(path, &error))
}

/// `--artifacts DIR`: `NAME.log` of each service that was to be started, `events.jsonl` and `ps.json`.
///
/// # Errors
/// `Config` when it cannot be written.
pub fn collect(folder: &Path, plan: &Plan, places: &Paths, scope: &BTreeSet<ServiceId>) -> Result<(), Failure> {
    let masker = Masker::new(plan, false).thorough();
    let folder = &resolve(folder).map_err(|error| cannot(folder, &error))?;
    make(folder, 0o700).map_err(|error| cannot(folder, &error))?;
    let write = |name: &str, text: &str| {
        let path = folder.join(name);
        write_named(&path, masker.text(text).as_bytes()).map_err(|error| cannot(&path, &error))
    };
    for id in scope {
        let path = folder.join(format!("{id}.log"));
        copy_log(&path, id, places, &masker).map_err(|error| cannot(&path, &error))?;
    }
    let events = devrun_keeper::regular_file::read_below(&places.logs(), &state_files::events_path(places)).unwrap_or_default();
    write("events.jsonl", &String::from_utf8_lossy(&events))?;
    if let Some(last) = state_files::last_snapshot(places) {
        write("ps.json", &serde_json::to_string(&last).unwrap_or_default())?;
    }
    Ok(())
}

/// A service's log, line by line. One that said nothing, or whose log cannot be read, leaves an empty file.
fn copy_log(path: &Path, id: &ServiceId, places: &Paths, masker: &Masker) -> std::io::Result<()> {
    let mut out = BufWriter::new(create(path, libc::O_NOFOLLOW)?);
    for line in lines(&places.logs(), id, &LogQuery::default()).into_iter().flatten().map_while(Result::ok) {
        out.write_all(masker.text(&log_line(&line)).as_bytes())?;
    }
    out.flush()
}

/// A line of a log with its time.
pub fn log_line(line: &LogLine) -> String {
    format!("{} {}\n", clock::stamp_of_micros(line.micros), String::from_utf8_lossy(&line.bytes))
}

/// Makes a directory and those above it, with this mode whatever the caller's umask leaves open.
fn make(folder: &Path, mode: u32) -> std::io::Result<()> {
    fs::DirBuilder::new().recursive(true).mode(mode).create(folder)
}

/// Opens a file, empty and for the caller alone. One that the caller named may be a link, as /dev/stdout is.
fn create(path: &Path, flags: i32) -> std::io::Result<File> {
    let file = File::options().write(true).create(true).truncate(true).mode(0o600).custom_flags(flags).open(path)?;
    // One of an earlier run keeps its mode otherwise.
    if file.metadata()?.is_file() {
        file.set_permissions(Permissions::from_mode(0o600))?;
    }
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::xml;

    #[test]
    fn nothing_breaks_the_xml() {
        assert_eq!(xml("a<b>&\"c\"\u{1b}[0m\n"), "a&lt;b&gt;&amp;&quot;c&quot; [0m\n");
    }
}
