//! `devrun ui`, and `up --ui`.

use std::ffi::OsString;
use std::io::IsTerminal;

use crate::ui::term::{Term, is_dumb};
use devrun_model::{Failure, FailureKind, exit};

use crate::app::observer::Observer;
use crate::app::{dashboard, viewer_command};
use crate::globals::Globals;

/// Runs it.
///
/// # Errors
/// `Config` when there is no project or no terminal.
pub fn run(globals: &Globals, term: Term) -> Result<i32, Failure> {
    needs_terminal()?;
    let observer = Observer::new(globals)?;
    let runtime = crate::app::runtime::waiting_runtime()?;
    let code = runtime.block_on(dashboard::run(observer, term.out_color));
    // What still reads the terminal or searches ends with the process.
    runtime.shutdown_background();
    code
}

/// `devrun up --ui`: a detached start, and the dashboard on top of it.
///
/// # Errors
/// As `up -d` and `ui`.
pub fn up(globals: &Globals, term: Term) -> Result<i32, Failure> {
    needs_terminal()?;
    let words: Vec<OsString> = std::env::args_os().skip(1).collect();
    match viewer_command::run_words(&detached(words))? {
        exit::DONE => run(globals, term),
        code => Ok(code),
    }
}

fn needs_terminal() -> Result<(), Failure> {
    let reason = match std::io::stdin().is_terminal() && std::io::stdout().is_terminal() {
        true if !is_dumb() => return Ok(()),
        true => "the dashboard needs a terminal with a cursor, and TERM is dumb",
        false => "the dashboard needs a terminal",
    };
    Err(Failure::new(FailureKind::Config, reason).help("devrun ps; devrun logs -f; devrun web"))
}

/// The same words for a start that does not stay; what comes after `--` is not ours.
fn detached(words: Vec<OsString>) -> Vec<OsString> {
    let mut words: Vec<OsString> = words.into_iter().filter(|word| word != "--ui").collect();
    words.extend(["--detach", "--no-wait"].map(OsString::from));
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_start_with_the_dashboard_is_a_detached_one() {
        let words = |text: &str| text.split(' ').map(OsString::from).collect::<Vec<_>>();
        assert_eq!(detached(words("-f x.toml up --ui api")), words("-f x.toml up api --detach --no-wait"));
    }
}
