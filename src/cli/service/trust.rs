//! `devrun trust`: the local certificate authority in the certificate stores of this machine.

use clap::Args;
use devrun_model::{Failure, FailureKind, exit};

use crate::app::project::environment;
use crate::app::readonly;
use crate::app::trust::{self, StoreState};
use crate::ui::table;
use crate::ui::term::{Term, data, safe, say};

// `trust`.
#[derive(Debug, Args)]
pub struct TrustArgs {
    /// Remove the certificate from all stores it was installed in
    #[arg(long)]
    pub remove: bool,
    /// Output as JSON
    #[arg(long)]
    pub json: bool,
}

/// Runs it.
///
/// # Errors
/// `Config` when a store could not be changed, with the command that does it.
pub fn run(args: &TrustArgs, _term: Term) -> Result<i32, Failure> {
    let env = environment();
    let report = if args.remove { trust::remove(&env)? } else { trust::install(&env)? };
    if args.json {
        readonly::json(&report)?;
    } else if report.stores.is_empty() {
        say(if args.remove { "nothing was installed" } else { "no certificate store was found" });
    } else {
        let rows = report.stores.iter().map(|store| {
            let state =
                store.reason.as_ref().map_or_else(|| store.state.to_string(), |reason| format!("{}: {reason}", store.state));
            vec![store.kind.to_owned(), safe(&store.location), safe(&state)]
        });
        let rows: Vec<_> = rows.collect();
        let text = table::render(&["STORE", "LOCATION", "STATE"], &rows);
        // A reader that is gone has seen enough.
        let _gone = data(text.trim_end());
    }
    if !args.remove && !report.stores.iter().any(|store| store.kind == "browser") {
        say("no database of Chromium or Firefox was found; after the first start of one, repeat `devrun trust`");
    }
    let changed = if args.remove { "removed from" } else { "installed in" };
    let left: Vec<_> = report
        .stores
        .iter()
        .filter(|store| matches!(store.state, StoreState::NeedsRoot | StoreState::NeedsTool | StoreState::Failed))
        .collect();
    let Some(first) = left.first() else { return Ok(exit::DONE) };
    let failure =
        Failure::new(FailureKind::Config, format!("the certificate could not be {changed} {} of the stores", left.len()));
    Err(match left.iter().find_map(|store| store.command.as_ref()) {
        Some(command) => failure.help(command.clone()),
        None => failure.help(format!("check {}", first.location)),
    })
}
