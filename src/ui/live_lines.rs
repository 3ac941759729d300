//! The lines at the bottom of a terminal that change in place: one for each service that starts, and one for a download.
//!
//! Everything else that is written goes above them: they are erased, it is written, they are drawn again. They end with a line
//! break each and are never filled with blanks, and how many rows they take is computed from the width that the terminal has when
//! they are erased: one that was made narrower since has wrapped them (tmux, VTE, kitty and most others do), so that going up by
//! the number of lines would leave pieces of them.

use std::fmt::Write as _;
use std::io::{self, Write as _};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use devrun_keeper::terminal::{self, TerminalSize};
use devrun_model::duration::human;

use super::paint::paint;
use super::table::width;

/// How often lines that have changed are drawn at most, and how often those with a timer are looked at.
const FRAME: Duration = Duration::from_millis(100);

static LIVE: Mutex<Lines> = Mutex::new(Lines::new());

/// Sets one line, or adds it below the others. One with `since` shows how long ago that was.
pub fn set(name: &str, text: String, since: Option<Instant>) {
    let mut live = live();
    live.set(name, text, since);
    live.start_ticker();
    if live.drawn_at.is_none_or(|at| at.elapsed() >= FRAME) {
        live.redraw();
    }
}

/// Removes one line.
pub fn remove(name: &str) {
    let mut live = live();
    let before = live.lines.len();
    live.lines.retain(|line| line.name != name);
    if live.lines.len() < before {
        live.redraw();
    }
}

/// Writes something above the lines.
pub fn above<R>(write: impl FnOnce() -> R) -> R {
    let is_outermost = live().step_aside();
    let written = write();
    if is_outermost {
        live().come_back();
    }
    written
}

fn live() -> MutexGuard<'static, Lines> {
    LIVE.lock().unwrap_or_else(PoisonError::into_inner)
}

struct Line {
    name: String,
    text: String,
    since: Option<Instant>,
}

struct Lines {
    lines: Vec<Line>,
    /// What is on the screen, and the columns that each line of it has.
    frame: String,
    widths: Vec<usize>,
    drawn_at: Option<Instant>,
    /// Something is written above them at the moment.
    is_aside: bool,
    has_ticker: bool,
}

impl Lines {
    const fn new() -> Self {
        Self { lines: Vec::new(), frame: String::new(), widths: Vec::new(), drawn_at: None, is_aside: false, has_ticker: false }
    }

    fn set(&mut self, name: &str, text: String, since: Option<Instant>) {
        match self.lines.iter_mut().find(|line| line.name == name) {
            Some(line) => (line.text, line.since) = (text, since),
            None => self.lines.push(Line { name: name.to_owned(), text, since }),
        }
    }

    /// The thread that keeps timers going. It ends with the process; without one, lines change when something happens.
    fn start_ticker(&mut self) {
        if !self.has_ticker {
            let started = std::thread::Builder::new().name("devrun-lines".to_owned()).spawn(|| {
                loop {
                    std::thread::sleep(FRAME);
                    live().redraw();
                }
            });
            self.has_ticker = started.is_ok();
        }
    }

    fn step_aside(&mut self) -> bool {
        let is_outermost = !std::mem::replace(&mut self.is_aside, true);
        if is_outermost && let Some(size) = terminal::size(io::stderr()) {
            put(&self.erase(size));
        }
        is_outermost
    }

    fn come_back(&mut self) {
        self.is_aside = false;
        self.redraw();
    }

    /// Draws what has changed. Nothing is drawn where standard error is not a terminal.
    fn redraw(&mut self) {
        if self.is_aside || self.lines.is_empty() && self.widths.is_empty() {
            return;
        }
        let Some(size) = terminal::size(io::stderr()) else { return };
        let text = self.update(size, Instant::now());
        put(&text);
        if !text.is_empty() {
            self.drawn_at = Some(Instant::now());
        }
    }

    /// What takes the screen from the old lines to the new ones: nothing where they are the same.
    fn update(&mut self, size: TerminalSize, now: Instant) -> String {
        let (frame, widths) = self.frame(size, now);
        let fits = widths.iter().chain(&self.widths).all(|width| *width <= usize::from(size.columns));
        if frame == self.frame && fits {
            return String::new();
        }
        let text = self.erase(size) + &frame;
        (self.frame, self.widths) = (frame, widths);
        text
    }

    /// Erases what is on the screen, which the terminal shows in rows of its present width.
    fn erase(&mut self, size: TerminalSize) -> String {
        self.frame.clear();
        let columns = usize::from(size.columns);
        let rows: usize = std::mem::take(&mut self.widths).iter().map(|width| width.div_ceil(columns).max(1)).sum();
        if rows == 0 { String::new() } else { format!("\r\u{1b}[{rows}A\u{1b}[J") }
    }

    fn frame(&self, size: TerminalSize, now: Instant) -> (String, Vec<usize>) {
        let (columns, most) = (usize::from(size.columns), usize::from(size.rows).saturating_sub(2).max(1));
        let mut shown: Vec<&Line> = self.lines.iter().collect();
        let left_out = if shown.len() > most {
            // What something is done for comes before what only waits.
            shown.sort_by_key(|line| line.since.is_none());
            shown.split_off(most.saturating_sub(1)).len()
        } else {
            0
        };
        let mut texts: Vec<String> = shown.into_iter().map(|line| line.shown(now)).collect();
        if left_out > 0 {
            texts.push(format!("… and {left_out} more"));
        }
        let (mut frame, mut widths) = (String::new(), Vec::new());
        for text in texts {
            // The last column stays free: some terminals wrap before a line break there.
            let text = cut(&text, columns.saturating_sub(1));
            widths.push(width(&text));
            let _infallible = write!(frame, "{text}\r\n");
        }
        (frame, widths)
    }
}

impl Line {
    fn shown(&self, now: Instant) -> String {
        match self.since {
            Some(since) => {
                let seconds = now.saturating_duration_since(since).as_secs();
                let took = if seconds < 60 { format!("{seconds}s") } else { human(Duration::from_secs(seconds)) };
                format!("{} {}", self.text, paint(true, "2", took))
            }
            None => self.text.clone(),
        }
    }
}

/// A terminal that is gone is ignored.
fn put(text: &str) {
    if !text.is_empty() {
        let _gone = io::stderr().lock().write_all(text.as_bytes());
    }
}

/// As much of a text as these columns hold, colours kept.
fn cut(text: &str, columns: usize) -> String {
    if width(text) <= columns {
        return text.to_owned();
    }
    let (mut out, mut used) = (String::new(), 0);
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        if c == '\u{1b}' {
            out.push(c);
            for c in chars.by_ref() {
                out.push(c);
                if c.is_ascii_alphabetic() {
                    break;
                }
            }
            continue;
        }
        let wide = width(c.encode_utf8(&mut [0; 4]));
        if used + wide >= columns {
            break;
        }
        used += wide;
        out.push(c);
    }
    out.push('…');
    if text.contains('\u{1b}') {
        out.push_str("\u{1b}[0m");
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn size(columns: u16, rows: u16) -> TerminalSize {
        TerminalSize { columns, rows }
    }

    /// A terminal that wraps lines again when its width changes: the lines, the last of them that of the cursor.
    struct Screen(Vec<String>);

    impl Screen {
        fn write(&mut self, text: &str, columns: usize) {
            let mut rest = text;
            while let Some(c) = rest.chars().next() {
                if let Some((up, after)) = rest.strip_prefix("\r\u{1b}[").and_then(|rest| rest.split_once("A\u{1b}[J")) {
                    let mut rows: usize = up.parse().expect("a number");
                    assert_eq!(self.0.pop().as_deref(), Some(""), "the cursor stands below the lines");
                    while rows > 0 {
                        let line = self.0.pop().expect("a line");
                        let takes = line.chars().count().div_ceil(columns).max(1);
                        assert!(takes <= rows, "half of {line:?} would stay");
                        rows -= takes;
                    }
                    self.0.push(String::new());
                    rest = after;
                } else if let Some(after) = rest.strip_prefix("\r\n") {
                    self.0.push(String::new());
                    rest = after;
                } else {
                    self.0.last_mut().expect("a line").push(c);
                    rest = &rest[c.len_utf8()..];
                }
            }
        }
    }

    #[test]
    fn a_terminal_that_is_made_narrower_and_wider_keeps_no_pieces() {
        let now = Instant::now();
        let mut lines = Lines::new();
        lines.set("api", "api   waiting for venv (completed), which takes its time".to_owned(), None);
        lines.set("venv", "venv  running".to_owned(), None);
        let mut screen = Screen(vec!["a log line".to_owned(), String::new()]);
        for columns in [110, 30, 20, 120, 50] {
            let text = lines.update(size(columns, 30), now);
            screen.write(&text, usize::from(columns));
            assert_eq!(screen.0.len(), 4, "{columns}: {:?}", screen.0);
            assert_eq!(screen.0[0], "a log line");
            assert!(screen.0[1].starts_with("api   waiting") && screen.0[2] == "venv  running", "{:?}", screen.0);
            assert!(screen.0.iter().all(|line| line.chars().count() < usize::from(columns)), "{:?}", screen.0);
            assert_eq!(lines.update(size(columns, 30), now), "", "nothing has changed");
        }
        screen.write(&lines.erase(size(10, 30)), 10);
        assert_eq!(screen.0, ["a log line", ""]);
    }

    #[test]
    fn what_runs_is_shown_where_there_are_more_lines_than_rows() {
        let now = Instant::now();
        let mut lines = Lines::new();
        for at in 0..20 {
            lines.set(&format!("s{at}"), format!("s{at} waiting"), None);
        }
        lines.set("venv", "venv running".to_owned(), Some(now));
        let (frame, widths) = lines.frame(size(80, 6), now);
        assert_eq!(widths.len(), 4);
        assert!(frame.starts_with("venv running \u{1b}[2m0s\u{1b}[0m\r\n") && frame.ends_with("… and 18 more\r\n"), "{frame:?}");
    }

    #[test]
    fn a_line_is_cut_at_the_columns_that_it_takes() {
        assert_eq!(cut("short", 5), "short");
        assert_eq!(cut("longer", 5), "long…");
        assert_eq!(cut("\u{1b}[31mlonger\u{1b}[0m", 5), "\u{1b}[31mlong…\u{1b}[0m");
        assert_eq!(cut("名前名前", 6), "名前…");
    }
}
