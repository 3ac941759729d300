//! `devrun events`: every state change, from the file that the supervisor writes, so it works with the stack down.

use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;

use crate::ui::term::{Term, data, safe};
use devrun_model::exit;
use devrun_model::{Failure, StateChange};
use devrun_runtime::engine::clock;
use devrun_runtime::engine::state_files::events_path;

use crate::app::load;
use crate::globals::Globals;

// `events`.
#[derive(Debug, Args)]
pub struct EventsArgs {
    /// Output as JSON, one object per line
    #[arg(long)]
    pub json: bool,
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
/// `Config` when there is no project, or `--since` is no time.
pub fn run(globals: &Globals, args: &EventsArgs, _term: Term) -> Result<i32, Failure> {
    let project = load::project(globals)?;
    // Stamps have one form only, so their order is that of their text.
    let since = args.since.as_deref().map(crate::app::log_selection::moment).transpose()?.map(clock::stamp_of_micros);
    let mut reader = Reader::new(&events_path(&project.places));
    loop {
        for line in reader.lines() {
            let Ok(notice) = serde_json::from_str::<StateChange>(&line) else { continue };
            if since.as_ref().is_some_and(|since| notice.ts < *since) {
                continue;
            }
            let shown = if args.json { data(line) } else { data(row(&notice)) };
            if shown.is_err() {
                return Ok(exit::DONE);
            }
        }
        if !args.follow {
            return Ok(exit::DONE);
        }
        std::thread::sleep(LOOK);
    }
}

fn row(notice: &StateChange) -> String {
    let name = if notice.replica > 1 { format!("{}.{}", notice.service, notice.replica) } else { notice.service.clone() };
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
    if let Some(reason) = notice.reason.as_ref().filter(|reason| !reason.is_empty()) {
        text.push_str(&format!("  {}", safe(reason)));
    }
    text
}

/// Reads whole lines of a file that grows and is renamed once in a while.
struct Reader {
    path: PathBuf,
    /// The rotated file first, then the live one from where it was left.
    begun: bool,
    inode: u64,
    offset: u64,
}

impl Reader {
    fn new(path: &Path) -> Self {
        Self { path: path.to_path_buf(), begun: false, inode: 0, offset: 0 }
    }

    fn lines(&mut self) -> Vec<String> {
        let rotated = self.path.with_extension("jsonl.1");
        let mut found = Vec::new();
        if !self.begun {
            self.begun = true;
            found.extend(read(&rotated, 0).map(|(lines, _)| lines).unwrap_or_default());
        }
        let Ok(meta) = fs::metadata(&self.path) else { return found };
        if self.inode != 0 && meta.ino() != self.inode {
            // What came before it was renamed lies in the rotated file now.
            if fs::metadata(&rotated).is_ok_and(|meta| meta.ino() == self.inode) {
                found.extend(read(&rotated, self.offset).map(|(lines, _)| lines).unwrap_or_default());
            }
            self.offset = 0;
        }
        self.inode = meta.ino();
        if let Ok((lines, end)) = read(&self.path, self.offset) {
            found.extend(lines);
            self.offset = end;
        }
        found
    }
}

fn read(path: &Path, from: u64) -> std::io::Result<(Vec<String>, u64)> {
    let mut file = File::open(path)?;
    if file.metadata()?.len() <= from {
        return Ok((Vec::new(), from));
    }
    file.seek(SeekFrom::Start(from))?;
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes)?;
    let whole = bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
    let lines = String::from_utf8_lossy(&bytes[..whole]).lines().map(str::to_owned).collect();
    Ok((lines, from + whole as u64))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_whole_and_rotation_loses_none() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("events.jsonl");
        fs::write(dir.path().join("events.jsonl.1"), "0\n").unwrap();
        fs::write(&path, "1\n2\nhal").unwrap();
        let mut reader = Reader::new(&path);
        assert_eq!(reader.lines(), ["0", "1", "2"]);
        fs::write(&path, "1\n2\nhalf\n3\n").unwrap();
        assert_eq!(reader.lines(), ["half", "3"]);
        let mut text = fs::read_to_string(&path).unwrap();
        text.push_str("4\n");
        fs::write(&path, text).unwrap();
        fs::rename(&path, dir.path().join("events.jsonl.1")).unwrap();
        fs::write(&path, "5\n").unwrap();
        assert_eq!(reader.lines(), ["4", "5"]);
        assert!(reader.lines().is_empty());
    }
}
