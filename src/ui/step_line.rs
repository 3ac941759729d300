//! What a command that takes seconds is doing, on a terminal: a live line with a timer, gone when the step is over.

use std::time::Instant;

use super::live_lines;
use super::term::{Progress, Term, safe};

/// The name of the line among the live ones, which no service can have.
const LINE: &str = " step";

/// One line for the steps of a command.
pub struct StepLine {
    term: Term,
    what: String,
}

impl StepLine {
    /// Nothing is shown before the first step.
    #[must_use]
    pub fn new(term: Term, what: String) -> Self {
        Self { term, what }
    }

    /// Begins a step. Elsewhere than on a terminal nothing is shown: the command says at its end what it has done.
    pub fn step(&self, doing: &str) {
        if self.term.progress == Progress::Tty {
            live_lines::set(LINE, safe(&format!("{}: {doing}", self.what)), Some(Instant::now()));
        }
    }

    /// Takes the line away, as another process is about to write to the terminal.
    pub fn clear(&self) {
        if self.term.progress == Progress::Tty {
            live_lines::remove(LINE);
        }
    }
}

impl Drop for StepLine {
    fn drop(&mut self) {
        self.clear();
    }
}
