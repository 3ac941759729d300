//! `devrun report`: one masked archive for a bug report.

use std::path::PathBuf;

use clap::Args;
use flate2::Compression;
use flate2::write::GzEncoder;

use crate::drivers::logs::{Query, read::merged};
use crate::drivers::runtime_dir;
use crate::engine::memory;
use crate::exit;
use crate::model::{Failure, FailureKind, ServiceId};
use crate::ui::mask::Masker;
use crate::ui::term::{Term, data};

use super::args::Globals;
use super::load::{self, Wanted};
use super::{config, doctor, ps};

// `report`.
#[expect(missing_docs, reason = "a doc comment would take the place of the verb's help")]
#[derive(Debug, Args)]
pub struct ReportArgs {
    /// The archive [devrun-report.tar.gz]
    #[arg(short = 'o', long, value_name = "FILE", default_value = "devrun-report.tar.gz")]
    pub output: PathBuf,
}

/// Lines of each service that go along.
const LINES: usize = 500;

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
        Ok(read) => Masker::new(&read.plan.masks, false),
        Err(_) => Masker::new(&std::collections::BTreeSet::new(), false),
    };
    let mut files: Vec<(String, String)> = Vec::new();
    let mut add = |name: &str, text: String| files.push((format!("devrun-report/{name}"), masker.text(&text)));
    let kernel = nix::sys::utsname::uname()
        .map(|name| [name.sysname(), name.release(), name.machine()].map(|part| part.to_string_lossy().into_owned()).join(" "))
        .unwrap_or_default();
    add("version.txt", format!("devrun {}\n{kernel}\nuid {}\n", env!("CARGO_PKG_VERSION"), nix::unistd::geteuid()));
    match &read {
        Ok(read) => {
            add("config.toml", config::resolved(read, &[], false)?);
            let ids: Vec<ServiceId> = read.plan.services.keys().cloned().collect();
            for id in ids {
                let query = Query { tail: Some(LINES), ..Query::default() };
                // A log that cannot be read leaves an empty file, which says as much.
                let lines = merged(&project.places.logs(), std::slice::from_ref(&id), &query).unwrap_or_default();
                let text: String = lines
                    .iter()
                    .map(|line| {
                        format!("{} {}\n", crate::engine::stamp::of_micros(line.micros), String::from_utf8_lossy(&line.bytes))
                    })
                    .collect();
                add(&format!("logs/{id}.log"), text);
            }
            let snapshot = super::runtime()?.block_on(ps::snapshot(globals, &project))?;
            add("ps.json", serde_json::to_string_pretty(&snapshot).unwrap_or_default());
        }
        Err(failure) => add("config.txt", failure.to_string()),
    }
    let text = |path: PathBuf| std::fs::read(path).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default();
    add("events.jsonl", last(&text(memory::events_path(&project.places)), 2000));
    add("supervisor.log", last(&text(project.places.supervisor_log()), LINES));
    add("doctor.json", serde_json::to_string_pretty(&doctor::examine(globals)?).unwrap_or_default());
    let mut archive = tar::Builder::new(GzEncoder::new(Vec::new(), Compression::default()));
    for (name, text) in &files {
        let mut header = tar::Header::new_gnu();
        header.set_size(text.len() as u64);
        header.set_mode(0o600);
        archive.append_data(&mut header, name, text.as_bytes()).map_err(failed)?;
    }
    let packed = archive.into_inner().and_then(GzEncoder::finish).map_err(failed)?;
    runtime_dir::write_named(&args.output, &packed).map_err(failed)?;
    let _reader_gone = data(args.output.display());
    Ok(exit::DONE)
}

fn last(text: &str, lines: usize) -> String {
    let skip = text.lines().count().saturating_sub(lines);
    text.lines().skip(skip).map(|line| format!("{line}\n")).collect()
}
