//! `devrun why`: one answer to "why is it not running, not ready, or was restarted".

use clap::Args;

use crate::ui::local_time::local_time;
use crate::ui::term::{Term, safe};
use devrun_model::Failure;

use crate::app::observer::Observer;
use crate::app::readonly;
use crate::globals::Globals;

// `why`.
#[derive(Debug, Args)]
pub struct WhyArgs {
    /// Service or task
    #[arg(value_name = "SERVICE")]
    pub service: String,
    /// Output as JSON
    #[arg(long)]
    pub json: bool,
}

/// Lines of the log of what has failed.
const LAST_LINES: usize = 5;

/// Runs it.
///
/// # Errors
/// `Config` when there is no such service.
pub fn run(globals: &Globals, args: &WhyArgs, _term: Term) -> Result<i32, Failure> {
    let observer = Observer::new(globals)?;
    let (found, last) = crate::app::runtime::runtime()?.block_on(observer.explain_with_log(&args.service, LAST_LINES))?;
    if args.json {
        return readonly::json(&found);
    }
    let mut out: String = found.lines(local_time).iter().map(|line| safe(line) + "\n").collect();
    for log in &last {
        out.push_str(&format!("  last lines of {}:\n", safe(&log.service)));
        out.extend(log.lines.iter().map(|line| format!("    {}\n", safe(line))));
    }
    if let Some(help) = &found.help {
        out.push_str(&format!("help: {}\n", safe(help)));
    }
    Ok(readonly::text(&out))
}
