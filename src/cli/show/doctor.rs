//! `devrun doctor`: what stands in the way of a start, each with the fix.

use crate::app::diagnosis::{self, Grade};
use clap::Args;

use crate::ui::term::{Term, paint, safe, say};
use devrun_model::Failure;
use devrun_model::exit;

use crate::app::readonly;
use crate::globals::Globals;
use crate::ui::exit_line;

// `doctor`.
#[derive(Debug, Args)]
pub struct DoctorArgs {
    /// Output as JSON
    #[arg(long)]
    pub json: bool,
}

/// Runs it.
///
/// # Errors
/// `Config` when there is no project.
pub fn run(globals: &Globals, args: &DoctorArgs, term: Term) -> Result<i32, Failure> {
    let findings = diagnosis::examine(globals)?;
    if args.json {
        readonly::json(&findings)?;
    } else {
        for finding in &findings {
            let (word, color) = match finding.status {
                Grade::Ok => ("ok  ", "32"),
                Grade::Warn => ("warn", "33"),
                Grade::Fail => ("FAIL", "31;1"),
            };
            let fix = finding.fix.as_ref().map(|fix| format!("\n      fix: {}", safe(fix))).unwrap_or_default();
            readonly::text(&format!("{} {}: {}{fix}", paint(term.out_color, color, word), finding.check, safe(&finding.detail)));
        }
    }
    match findings.iter().find(|finding| finding.status == Grade::Fail) {
        None => Ok(exit::DONE),
        Some(first) => {
            say(exit_line::last_line(first.code, Some(&first.check), &first.detail));
            Ok(first.code)
        }
    }
}
