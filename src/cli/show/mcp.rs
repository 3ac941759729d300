//! `devrun mcp`: the tools for agents.

use crate::ui::term::Term;
use devrun_model::Failure;

use crate::app::agent;
use crate::app::observer::Observer;
use crate::app::session::Signals;
use crate::globals::Globals;

/// Runs it until the client hangs up or a signal comes.
///
/// # Errors
/// `Config` when there is no project or the client does not speak the protocol.
pub fn run(globals: &Globals, _term: Term) -> Result<i32, Failure> {
    let observer = Observer::new(globals)?;
    let runtime = crate::app::runtime::runtime()?;
    let code = runtime.block_on(async {
        let mut signals = Signals::take()?;
        tokio::select! {
            code = agent::serve(observer) => code,
            code = signals.next() => Ok(code),
        }
    });
    // A pending read of standard input cannot be given up.
    runtime.shutdown_background();
    code
}
