//! The two streams, and whether they may carry colour.

use std::fmt::Display;
use std::io::IsTerminal;
use std::sync::atomic::{AtomicBool, Ordering};

use devrun_keeper::terminal;

use super::escape::{escaped, escaped_fully};
use super::live_lines;
use super::output::{self, Stream};
pub use super::paint::paint;

/// How much is shown of a start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    /// Live lines.
    Tty,
    /// A line per change.
    Plain,
    /// A JSON object per change.
    Json,
    /// Failures only.
    Quiet,
}

/// Colours and liveliness, decided once.
#[derive(Debug, Clone, Copy)]
pub struct Term {
    /// Colour on stdout.
    pub out_color: bool,
    /// Colour on stderr.
    pub err_color: bool,
    /// Progress.
    pub progress: Progress,
    /// Somebody can be asked.
    pub interactive: bool,
}

impl Term {
    /// `color` and `progress` as the options say, `CI` and `NO_COLOR` as the environment does, and `TERM=dumb`.
    #[must_use]
    pub fn decide(color: &str, progress: &str, ci: bool, no_color: bool) -> Self {
        let (out, err) = (std::io::stdout().is_terminal(), std::io::stderr().is_terminal());
        let is_dumb = is_dumb();
        let colored = |terminal: bool| match color {
            "always" => true,
            "never" => false,
            _ => terminal && !ci && !no_color && !is_dumb,
        };
        let progress = match progress {
            "tty" => Progress::Tty,
            "plain" => Progress::Plain,
            "json" => Progress::Json,
            "quiet" => Progress::Quiet,
            _ if err && !ci && !is_dumb => Progress::Tty,
            _ => Progress::Plain,
        };
        Self {
            out_color: colored(out),
            err_color: colored(err),
            progress,
            interactive: std::io::stdin().is_terminal() && err && !ci,
        }
    }
}

/// Whether the terminal takes neither colours nor movements of the cursor, as it says itself (`TERM=dumb`): an editor's, or that of
/// a program that reads along.
#[must_use]
pub fn is_dumb() -> bool {
    std::env::var_os("TERM").is_some_and(|term| term == "dumb")
}

/// The columns of the terminal that shows standard output. `None`: there is none, or it has no size.
#[must_use]
pub fn columns() -> Option<usize> {
    terminal::size(std::io::stdout()).map(|size| usize::from(size.columns)).filter(|columns| *columns > 0)
}

/// The screen belongs to the dashboard.
static SILENT: AtomicBool = AtomicBool::new(false);

/// Drops talk, or lets it through again: the dashboard owns the whole screen.
pub fn silence(on: bool) {
    SILENT.store(on, Ordering::Relaxed);
}

/// A line of talk on stderr. A terminal that is gone is ignored.
pub fn say(line: impl Display) {
    if SILENT.load(Ordering::Relaxed) {
        return;
    }
    let mut text = escaped(&line.to_string()).into_owned();
    text.push('\n');
    let _gone = live_lines::above(|| output::write(Stream::Err, text.as_bytes()));
}

/// A line of data on stdout: as it is, unless a terminal would obey it.
///
/// # Errors
/// When the reader is gone, or the output cannot be written; the caller ends quietly then, and the end of the process reports the latter.
pub fn data(line: impl Display) -> std::io::Result<()> {
    let mut text = line.to_string();
    if std::io::stdout().is_terminal() {
        text = escaped(&text).into_owned();
    }
    text.push('\n');
    output::write(Stream::Out, text.as_bytes())
}

/// Takes the cursor to the top of an empty screen. It is ours, so it is written as it is.
///
/// # Errors
/// As [`data`].
pub fn clear_screen() -> std::io::Result<()> {
    output::write(Stream::Out, b"\x1b[H\x1b[2J")
}

/// Text out of a procfile or a message, safe for a terminal.
#[must_use]
pub fn safe(text: &str) -> String {
    // A table row and a reason are one line.
    escaped_fully(&text.replace('\n', " ")).into_owned()
}

/// A line that a service wrote, safe for a terminal: its colours stay.
#[must_use]
pub fn log_line(text: &str) -> String {
    let mut out = Vec::with_capacity(text.len());
    devrun_logs::ansi::clean(text.as_bytes(), &mut out);
    String::from_utf8_lossy(&out).into_owned()
}
