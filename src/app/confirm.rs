//! A question before something is replaced or deleted.

use std::io::{BufRead as _, Write as _};

use crate::globals::Globals;
use crate::ui::term::{Term, say};
use devrun_model::{Failure, FailureKind};

/// Says what happens and asks whether to continue. `command` is what answers yes by itself.
///
/// # Errors
/// `Config` where there is no terminal to ask on.
pub fn ask(what: &str, command: &str, globals: &Globals, term: Term) -> Result<bool, Failure> {
    if globals.yes {
        return Ok(true);
    }
    if !term.interactive {
        return Err(Failure::new(FailureKind::Config, format!("{what}: this needs confirmation, and stdin is not a terminal"))
            .help(format!("{command} --yes")));
    }
    let mut err = std::io::stderr().lock();
    // A terminal that is gone answers nothing, which is a no.
    let _gone = write!(err, "{what}. Continue? [y/N] ").and_then(|()| err.flush());
    let mut answer = String::new();
    let _gone = std::io::stdin().lock().read_line(&mut answer);
    let yes = matches!(answer.trim().to_ascii_lowercase().as_str(), "y" | "yes");
    if !yes {
        say("nothing was changed");
    }
    Ok(yes)
}
