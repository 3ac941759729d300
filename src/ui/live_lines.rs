//! The lines at the bottom of a terminal that change in place: one for each service that starts, and one for a download.
//!
//! indicatif keeps them, their timers and the pace at which they are drawn. Where they stand on the screen is ours: it counts rows
//! by the width at which it drew, so a terminal that was made narrower since, and has wrapped the lines (tmux, VTE, kitty and most
//! others do), would keep pieces of them. `Screen` takes what it writes between two flushes as the lines that shall be there,
//! ends each with a line break, and computes the rows when it erases them.

use std::cell::Cell;
use std::fmt::Write as _;
use std::io::{self, Write as _};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use devrun_keeper::terminal::{self, TerminalSize};
use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle, TermLike};

use super::table::width;

/// How often lines with a timer are drawn.
const TICK: Duration = Duration::from_millis(200);
/// Draws a second at most.
const PACE: u8 = 20;

static LIVE: Mutex<Option<LiveLines>> = Mutex::new(None);

thread_local! {
    /// This thread writes above the lines at the moment.
    static IS_ABOVE: Cell<bool> = const { Cell::new(false) };
}

/// Sets one line, or adds it below the others. One with `since` shows how long ago that was.
pub fn set(name: &str, text: String, since: Option<Instant>) {
    lock(&LIVE).get_or_insert_with(LiveLines::new).set(name, text, since);
}

/// Adds a bar that its owner moves on, below the others.
pub fn add(name: &str, bar: ProgressBar) -> ProgressBar {
    lock(&LIVE).get_or_insert_with(LiveLines::new).add(name, bar, true)
}

/// Removes one line.
pub fn remove(name: &str) {
    if let Some(live) = lock(&LIVE).as_mut() {
        live.remove(name);
    }
}

/// Writes something above the lines.
pub fn above<R>(write: impl FnOnce() -> R) -> R {
    let all = lock(&LIVE).as_ref().filter(|live| !live.lines.is_empty()).map(|live| live.all.clone());
    match all.filter(|_| !IS_ABOVE.replace(true)) {
        Some(all) => {
            let written = all.suspend(write);
            IS_ABOVE.set(false);
            written
        }
        None => write(),
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

struct LiveLines {
    all: MultiProgress,
    lines: Vec<(String, ProgressBar)>,
    /// Of each line, whether something is done for it, which [`Screen`] shows before what only waits.
    is_busy: Arc<Mutex<Vec<bool>>>,
}

impl LiveLines {
    fn new() -> Self {
        let is_busy = Arc::new(Mutex::new(Vec::new()));
        let screen = Screen { is_busy: Arc::clone(&is_busy), frame: Mutex::new(Frame::default()) };
        let target = ProgressDrawTarget::term_like_with_hz(Box::new(screen), PACE);
        Self { all: MultiProgress::with_draw_target(target), lines: Vec::new(), is_busy }
    }

    fn set(&mut self, name: &str, text: String, since: Option<Instant>) {
        let known = self.lines.iter().position(|(known, _)| known == name);
        let bar = match known.and_then(|at| self.lines.get(at)) {
            Some((_, bar)) => bar.clone(),
            // Drawn for the first time when it has its text.
            None => self.add(name, ProgressBar::with_draw_target(None, ProgressDrawTarget::hidden()), false),
        };
        let at = known.unwrap_or(self.lines.len() - 1);
        if let Some(is_busy) = lock(&self.is_busy).get_mut(at) {
            *is_busy = since.is_some();
        }
        bar.set_style(style(since.is_some()));
        if let Some(since) = since {
            let _same = bar.clone().with_elapsed(since.elapsed());
            bar.enable_steady_tick(TICK);
        } else {
            bar.disable_steady_tick();
        }
        bar.set_message(text);
        bar.tick();
    }

    fn add(&mut self, name: &str, bar: ProgressBar, is_busy: bool) -> ProgressBar {
        lock(&self.is_busy).push(is_busy);
        let bar = self.all.add(bar);
        self.lines.push((name.to_owned(), bar.clone()));
        bar
    }

    fn remove(&mut self, name: &str) {
        let Some(at) = self.lines.iter().position(|(known, _)| known == name) else { return };
        let (_, bar) = self.lines.remove(at);
        lock(&self.is_busy).remove(at);
        bar.disable_steady_tick();
        bar.finish_and_clear();
        self.all.remove(&bar);
        // The others move up at once.
        if let Some((_, other)) = self.lines.first() {
            other.tick();
        }
    }
}

fn style(has_timer: bool) -> ProgressStyle {
    let template = if has_timer { "{msg} {elapsed:.dim}" } else { "{msg}" };
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_spinner())
}

/// Standard error as indicatif sees it. A terminal that is gone is ignored.
#[derive(Debug)]
struct Screen {
    is_busy: Arc<Mutex<Vec<bool>>>,
    frame: Mutex<Frame>,
}

impl TermLike for Screen {
    fn width(&self) -> u16 {
        terminal::size(io::stderr()).map_or(80, |size| size.columns)
    }
    /// All lines are taken; [`Frame`] leaves out those that the screen has no room for.
    fn height(&self) -> u16 {
        u16::MAX
    }
    // Where the cursor is to go follows from the lines.
    fn move_cursor_up(&self, _: usize) -> io::Result<()> {
        Ok(())
    }
    fn move_cursor_down(&self, _: usize) -> io::Result<()> {
        Ok(())
    }
    fn move_cursor_right(&self, _: usize) -> io::Result<()> {
        Ok(())
    }
    fn move_cursor_left(&self, _: usize) -> io::Result<()> {
        Ok(())
    }
    fn clear_line(&self) -> io::Result<()> {
        Ok(())
    }
    fn write_line(&self, text: &str) -> io::Result<()> {
        self.write_str(text)
    }
    fn write_str(&self, text: &str) -> io::Result<()> {
        // Without the blanks that fill a row, and the return to its beginning.
        if !text.trim_matches([' ', '\r']).is_empty() {
            lock(&self.frame).next.push(text.to_owned());
        }
        Ok(())
    }
    fn flush(&self) -> io::Result<()> {
        let mut frame = lock(&self.frame);
        let next = std::mem::take(&mut frame.next);
        // Nothing is drawn where standard error is not a terminal.
        if let Some(size) = terminal::size(io::stderr()) {
            let text = frame.update(next, &lock(&self.is_busy), size);
            if !text.is_empty() {
                let _gone = io::stderr().lock().write_all(text.as_bytes());
            }
        }
        Ok(())
    }
}

/// What is on the screen.
#[derive(Debug, Default)]
struct Frame {
    /// What was written since the last flush.
    next: Vec<String>,
    text: String,
    /// The columns that each line of it has.
    widths: Vec<usize>,
}

impl Frame {
    /// What takes the screen from the old lines to the new ones: nothing where they are the same.
    fn update(&mut self, lines: Vec<String>, is_busy: &[bool], size: TerminalSize) -> String {
        let (text, widths) = shown(lines, is_busy, size);
        let fits = widths.iter().chain(&self.widths).all(|width| *width <= usize::from(size.columns));
        if text == self.text && fits {
            return String::new();
        }
        let rows: usize = self.widths.iter().map(|width| width.div_ceil(usize::from(size.columns).max(1)).max(1)).sum();
        let erase = if rows == 0 { String::new() } else { format!("\r\u{1b}[{rows}A\u{1b}[J") };
        (self.text, self.widths) = (text, widths);
        erase + &self.text
    }
}

/// The lines that the screen has room for, and their columns.
fn shown(lines: Vec<String>, is_busy: &[bool], size: TerminalSize) -> (String, Vec<usize>) {
    let (columns, most) = (usize::from(size.columns), usize::from(size.rows).saturating_sub(2).max(1));
    let mut lines: Vec<(bool, String)> =
        lines.into_iter().enumerate().map(|(at, line)| (is_busy.get(at).copied().unwrap_or_default(), line)).collect();
    let mut left_out = 0;
    if lines.len() > most {
        // What something is done for comes before what only waits.
        lines.sort_by_key(|(is_busy, _)| !is_busy);
        left_out = lines.split_off(most.saturating_sub(1)).len();
    }
    let more = (left_out > 0).then(|| format!("… and {left_out} more"));
    let (mut text, mut widths) = (String::new(), Vec::new());
    for line in lines.into_iter().map(|(_, line)| line).chain(more) {
        // The last column stays free: some terminals wrap before a line break there.
        let line = cut(&line, columns.saturating_sub(1));
        widths.push(width(&line));
        let _infallible = write!(text, "{line}\r\n");
    }
    (text, widths)
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
        let lines = || ["api   waiting for venv (completed), which takes its time", "venv  running"].map(str::to_owned).to_vec();
        let mut frame = Frame::default();
        let mut screen = Screen(vec!["a log line".to_owned(), String::new()]);
        for columns in [110, 30, 20, 120, 50] {
            let text = frame.update(lines(), &[], size(columns, 30));
            screen.write(&text, usize::from(columns));
            assert_eq!(screen.0.len(), 4, "{columns}: {:?}", screen.0);
            assert_eq!(screen.0[0], "a log line");
            assert!(screen.0[1].starts_with("api   waiting") && screen.0[2] == "venv  running", "{:?}", screen.0);
            assert!(screen.0.iter().all(|line| line.chars().count() < usize::from(columns)), "{:?}", screen.0);
            assert_eq!(frame.update(lines(), &[], size(columns, 30)), "", "nothing has changed");
        }
        screen.write(&frame.update(Vec::new(), &[], size(10, 30)), 10);
        assert_eq!(screen.0, ["a log line", ""]);
    }

    #[test]
    fn what_runs_is_shown_where_there_are_more_lines_than_rows() {
        let mut lines: Vec<String> = (0..20).map(|at| format!("s{at} waiting")).collect();
        lines.push("venv running 0s".to_owned());
        let is_busy: Vec<bool> = (0..21).map(|at| at == 20).collect();
        let (text, widths) = shown(lines, &is_busy, size(80, 6));
        assert_eq!(widths.len(), 4);
        assert!(text.starts_with("venv running 0s\r\ns0 waiting\r\n") && text.ends_with("… and 18 more\r\n"), "{text:?}");
    }

    /// What indicatif writes between two flushes is what the screen relies on.
    #[test]
    fn indicatif_writes_every_line_once_between_two_flushes() {
        #[derive(Debug, Clone, Default)]
        struct Recorder(Arc<Mutex<Recorded>>);
        /// What comes until the next flush, and what came between earlier ones.
        type Recorded = (Vec<String>, Vec<Vec<String>>);
        impl TermLike for Recorder {
            fn width(&self) -> u16 {
                40
            }
            fn height(&self) -> u16 {
                u16::MAX
            }
            fn move_cursor_up(&self, _: usize) -> io::Result<()> {
                Ok(())
            }
            fn move_cursor_down(&self, _: usize) -> io::Result<()> {
                Ok(())
            }
            fn move_cursor_right(&self, _: usize) -> io::Result<()> {
                Ok(())
            }
            fn move_cursor_left(&self, _: usize) -> io::Result<()> {
                Ok(())
            }
            fn clear_line(&self) -> io::Result<()> {
                Ok(())
            }
            fn write_line(&self, text: &str) -> io::Result<()> {
                self.write_str(text)
            }
            fn write_str(&self, text: &str) -> io::Result<()> {
                if !text.trim_matches([' ', '\r']).is_empty() {
                    lock(&self.0).0.push(text.to_owned());
                }
                Ok(())
            }
            fn flush(&self) -> io::Result<()> {
                let mut state = lock(&self.0);
                let lines = std::mem::take(&mut state.0);
                state.1.push(lines);
                Ok(())
            }
        }
        let recorder = Recorder::default();
        let target = ProgressDrawTarget::term_like_with_hz(Box::new(recorder.clone()), 255);
        let mut live = LiveLines { all: MultiProgress::with_draw_target(target), lines: Vec::new(), is_busy: Arc::default() };
        let long = "x".repeat(100);
        live.set("a", "a waits".to_owned(), None);
        live.set("b", long.clone(), None);
        live.all.suspend(|| ());
        let frames = lock(&recorder.0).1.clone();
        assert_eq!(frames.last(), Some(&vec!["a waits".to_owned(), long.clone()]), "{frames:?}");
        assert!(frames.iter().rev().nth(1).is_some_and(Vec::is_empty), "a suspension erases all: {frames:?}");
        live.remove("a");
        live.all.suspend(|| ());
        assert_eq!(lock(&recorder.0).1.last(), Some(&vec![long]));
    }

    #[test]
    fn a_line_is_cut_at_the_columns_that_it_takes() {
        assert_eq!(cut("short", 5), "short");
        assert_eq!(cut("longer", 5), "long…");
        assert_eq!(cut("\u{1b}[31mlonger\u{1b}[0m", 5), "\u{1b}[31mlong…\u{1b}[0m");
        assert_eq!(cut("名前名前", 6), "名前…");
    }
}
