//! `devrun report`: one masked archive for a bug report.

use std::collections::VecDeque;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use clap::Args;
use flate2::Compression;
use flate2::write::GzEncoder;

use crate::ui::term::{Term, data};
use devrun_logs::{LogQuery, read::lines};
use devrun_model::exit;
use devrun_model::mask::{Masker, cover};
use devrun_model::{Failure, FailureKind, ServiceId};
use devrun_runtime::engine::state_files;
use devrun_runtime::mask_hashes::MaskHashes;
use devrun_runtime::runtime_dir;

use crate::app::load::{self, Wanted};
use crate::app::run_artifacts;
use crate::globals::Globals;

// `report`.
#[derive(Debug, Args)]
pub struct ReportArgs {
    /// Archive to write [default: devrun-report.tar.gz]
    #[arg(short = 'o', long, value_name = "FILE", default_value = "devrun-report.tar.gz")]
    pub output: PathBuf,
}

/// Lines of each service that go along.
const LINES: usize = 500;
/// Bytes of each file that go along.
const BYTES: usize = 1024 * 1024;

/// Runs it.
///
/// # Errors
/// `Config` when the archive cannot be written.
pub fn run(globals: &Globals, args: &ReportArgs, _term: Term) -> Result<i32, Failure> {
    let project = load::project(globals)?;
    let failed = |error: std::io::Error| {
        Failure::new(FailureKind::Config, format!("{} cannot be written: {error}", args.output.display()))
            .help("devrun report -o /tmp/report.tar.gz")
    };
    // A procfile with errors is the very reason for many a report.
    let read = load::read(globals, &project, &Wanted::look());
    let masker = match &read {
        Ok(read) => Masker::new(&read.plan, false),
        Err(_) => Masker::default(),
    }
    .thorough();
    // The shell that ran `up` may have had secrets that ours has not.
    let earlier = MaskHashes::load(&project.places.masks());
    let mut archive = tar::Builder::new(GzEncoder::new(Vec::new(), Compression::default()));
    // One file after the other: all of them together may be large.
    let mut add = |name: &str, text: String| {
        let text = masker.text(&text);
        let text = cover(&text, earlier.find(&text));
        let mut header = tar::Header::new_gnu();
        header.set_size(text.len() as u64);
        header.set_mode(0o600);
        archive.append_data(&mut header, format!("devrun-report/{name}"), text.as_bytes()).map_err(failed)
    };
    let kernel = nix::sys::utsname::uname()
        .map(|name| [name.sysname(), name.release(), name.machine()].map(|part| part.to_string_lossy().into_owned()).join(" "))
        .unwrap_or_default();
    add("version.txt", format!("devrun {}\n{kernel}\nuid {}\n", env!("CARGO_PKG_VERSION"), nix::unistd::geteuid()))?;
    match &read {
        Ok(read) => {
            add("config.toml", crate::app::resolved_config::resolved(read, &[], false)?)?;
            for id in read.plan.services.keys() {
                // A log that cannot be read leaves an empty file, which says as much.
                add(&format!("logs/{id}.log"), last_lines(&project.places.logs(), id).unwrap_or_default())?;
            }
            let snapshot = crate::app::runtime::runtime()?.block_on(crate::app::snapshot::snapshot(globals, &project))?;
            add("ps.json", serde_json::to_string_pretty(&snapshot).unwrap_or_default())?;
        }
        Err(failure) => add("config.txt", failure.to_string())?,
    }
    let text = |path: PathBuf, lines| end_of(&path).map(|text| last(&text, lines)).unwrap_or_default();
    add("events.jsonl", text(state_files::events_path(&project.places), 2000))?;
    add("supervisor.log", text(project.places.supervisor_log(), LINES))?;
    add("doctor.json", serde_json::to_string_pretty(&crate::app::diagnosis::examine(globals)?).unwrap_or_default())?;
    let packed = archive.into_inner().and_then(GzEncoder::finish).map_err(failed)?;
    runtime_dir::write_named(&args.output, &packed).map_err(failed)?;
    let _reader_gone = data(args.output.display());
    Ok(exit::DONE)
}

/// The last lines of a service's log, with their times.
fn last_lines(logs: &Path, id: &ServiceId) -> std::io::Result<String> {
    let query = LogQuery { tail: Some(LINES), ..LogQuery::default() };
    let (mut kept, mut bytes) = (VecDeque::new(), 0);
    for line in lines(logs, id, &query)? {
        let text = run_artifacts::log_line(&line?);
        bytes += text.len();
        kept.push_back(text);
        while bytes > BYTES
            && let Some(oldest) = kept.pop_front()
        {
            bytes -= oldest.len();
        }
    }
    Ok(kept.into_iter().collect())
}

/// The end of a text file.
fn end_of(path: &Path) -> std::io::Result<String> {
    let mut file = devrun_keeper::regular_file::open_below(path.parent().unwrap_or(path), path)?;
    let skipped = file.metadata()?.len().saturating_sub(BYTES as u64);
    file.seek(SeekFrom::Start(skipped))?;
    let mut bytes = Vec::new();
    file.take(BYTES as u64).read_to_end(&mut bytes)?;
    let text = String::from_utf8_lossy(&bytes).into_owned();
    // The first line is most likely the end of one.
    Ok(if skipped > 0 { text.split_once('\n').map_or(String::new(), |(_, rest)| rest.to_owned()) } else { text })
}

fn last(text: &str, lines: usize) -> String {
    let skip = text.lines().count().saturating_sub(lines);
    text.lines().skip(skip).map(|line| format!("{line}\n")).collect()
}
