//! How much is said of what became of a compose file's keys: all of it by `check` and by the first `up`, one line by what comes after.
//!
//! The state directory keeps a hash of what was shown, so that a change of the file is shown again.

use devrun_convert::{ConversionReport, KeyOutcome};
use devrun_model::Paths;
use devrun_model::fnv::fnv1a;
use devrun_runtime::runtime_dir;

use crate::ui::term::{safe, say};

/// How much is said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MappingDetail {
    /// One line with the counts.
    Line,
    /// All of it, unless that was said before.
    Once,
    /// All of it.
    Whole,
}

/// What the keys of a file became; `name` is the file.
pub struct MappingReport {
    name: String,
    summary: String,
    /// What each image became, and what wants a look.
    lines: String,
}

impl MappingReport {
    pub fn new(name: &str, report: &ConversionReport) -> Self {
        // The rest is in the list that `import` prints.
        let mut shown = report.clone();
        shown.lines.retain(|line| line.outcome == KeyOutcome::Mapped && line.what.ends_with(".image"));
        let mut lines = shown.render(&[KeyOutcome::Mapped]);
        let mut brief = report.clone();
        brief.lines.retain(|line| line.outcome != KeyOutcome::Dropped);
        lines.push_str(&brief.brief());
        Self { name: name.to_owned(), summary: report.summary(), lines }
    }

    /// Says it.
    pub fn show(&self, detail: MappingDetail, places: &Paths) {
        let Self { name, summary, lines } = self;
        let is_whole = match detail {
            MappingDetail::Line => false,
            MappingDetail::Once => !self.was_shown(places),
            MappingDetail::Whole => true,
        };
        if is_whole {
            say(safe(&format!("{name}: {summary}; `devrun import {name}` writes a procfile.toml and the whole list")));
            lines.lines().for_each(|line| say(safe(line)));
        } else {
            say(safe(&format!("{name}: {summary}; `devrun import --explain SERVICE {name}` lists every key")));
        }
    }

    fn was_shown(&self, places: &Paths) -> bool {
        devrun_keeper::regular_file::read(&file(places)).is_ok_and(|bytes| bytes == self.hash().as_bytes())
    }

    /// Notes that it was shown. Where nothing can be written it is shown again.
    pub fn remember(&self, places: &Paths) {
        if !self.was_shown(places) && runtime_dir::prepare(places).is_ok() {
            let _shown_again = runtime_dir::replace(&file(places), self.hash().as_bytes());
        }
    }

    fn hash(&self) -> String {
        format!("{:016x}\n", fnv1a(format!("{}\n{}\n{}", self.name, self.summary, self.lines).bytes()))
    }
}

fn file(places: &Paths) -> std::path::PathBuf {
    places.state.join("mapping-shown")
}
