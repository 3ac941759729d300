//! Terminals of services on the page.
//!
//! What a service writes is interpreted here, and the page gets rows of text with colours: nothing of it is markup there, and no
//! sequence of it reaches the browser. A page gets the screen as it is when it is ready for more, so a slow one holds nobody up and
//! nothing is kept for it but one screen.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::num::NonZeroU16;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures_util::{Stream, stream};
use hyper::body::Frame;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::{mpsc, watch};

/// Between two updates of a screen.
const FRAME: Duration = Duration::from_millis(40);
/// Terminals that may be open at once.
const MOST: usize = 16;
/// Columns and rows of a window: below the first pair and above the second nothing useful is shown.
const SIZES: [(u16, u16); 2] = [(10, 3), (400, 150)];

/// What the page sends to a terminal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TerminalInput {
    /// Typed.
    Keys(Vec<u8>),
    /// The window has another size.
    Resize {
        /// Its width.
        columns: u16,
        /// Its height.
        rows: u16,
    },
}

/// The two directions of an attached terminal.
#[derive(Debug)]
pub struct TerminalEnds {
    /// What the service writes; it ends with the service, or when this end was too slow.
    pub output: mpsc::Receiver<Vec<u8>>,
    /// What is typed; closed when the page has gone.
    pub input: mpsc::Sender<TerminalInput>,
}

/// A request of the page to an open terminal.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct TerminalMessage {
    /// Its number, which the first update has named.
    pub terminal: u64,
    /// Typed.
    #[serde(default)]
    pub keys: String,
    /// The window's size, where that is another one now.
    #[serde(default)]
    pub size: Option<(u16, u16)>,
}

/// A size within the limits.
pub(crate) fn fitting((columns, rows): (u16, u16)) -> (u16, u16) {
    let [(least_columns, least_rows), (most_columns, most_rows)] = SIZES;
    (columns.clamp(least_columns, most_columns), rows.clamp(least_rows, most_rows))
}

/// The terminals that pages have open.
#[derive(Debug, Default)]
pub(crate) struct Terminals {
    open: Mutex<OpenTerminals>,
}

#[derive(Debug, Default)]
struct OpenTerminals {
    last: u64,
    all: BTreeMap<u64, OpenTerminal>,
}

#[derive(Debug)]
struct OpenTerminal {
    input: mpsc::Sender<TerminalInput>,
    screen: Arc<Mutex<TerminalScreen>>,
    changed: watch::Sender<()>,
}

impl Terminals {
    fn open(&self) -> MutexGuard<'_, OpenTerminals> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether one more may be opened.
    pub(crate) fn has_place(&self) -> bool {
        self.open().all.len() < MOST
    }

    /// Types or resizes. False: no such terminal is open.
    pub(crate) async fn send(&self, message: TerminalMessage) -> bool {
        let (input, resized) = {
            let open = self.open();
            let Some(terminal) = open.all.get(&message.terminal) else { return false };
            let resized = message.size.map(fitting);
            if let Some(size) = resized {
                lock(&terminal.screen).resize(size);
                terminal.changed.send_replace(());
            }
            (terminal.input.clone(), resized)
        };
        // One that is closing takes nothing more, which its page sees by the end of its updates.
        if let Some((columns, rows)) = resized {
            let _closing = input.send(TerminalInput::Resize { columns, rows }).await;
        }
        if !message.keys.is_empty() {
            let _closing = input.send(TerminalInput::Keys(message.keys.into_bytes())).await;
        }
        true
    }

    /// The updates of a terminal that was just attached, one JSON value a line. It is closed when they are dropped.
    pub(crate) fn updates(
        self: &Arc<Self>,
        ends: TerminalEnds,
        size: (u16, u16),
    ) -> impl Stream<Item = Result<Frame<Bytes>, Infallible>> + use<> {
        let TerminalEnds { mut output, input } = ends;
        let screen = Arc::new(Mutex::new(TerminalScreen::new(size)));
        let (changed, changes) = watch::channel(());
        // Held by the reader alone: the updates end with it.
        let (running, ended) = watch::channel(());
        let number = {
            let mut open = self.open();
            open.last += 1;
            let number = open.last;
            let terminal = OpenTerminal { input, screen: Arc::clone(&screen), changed: changed.clone() };
            open.all.insert(number, terminal);
            number
        };
        let shown = Arc::clone(&screen);
        tokio::spawn(async move {
            while let Some(bytes) = output.recv().await {
                lock(&shown).process(&bytes);
                changed.send_replace(());
            }
            drop(running);
        });
        let view = TerminalView { number, terminals: Arc::clone(self), screen, changes, ended, is_first: true, is_over: false };
        stream::unfold(view, |mut view| async move {
            let update = view.next().await?;
            Some((Ok(Frame::data(Bytes::from(format!("{update}\n")))), view))
        })
    }
}

fn lock(screen: &Mutex<TerminalScreen>) -> MutexGuard<'_, TerminalScreen> {
    screen.lock().unwrap_or_else(PoisonError::into_inner)
}

/// One page's view of a terminal.
struct TerminalView {
    number: u64,
    terminals: Arc<Terminals>,
    screen: Arc<Mutex<TerminalScreen>>,
    changes: watch::Receiver<()>,
    ended: watch::Receiver<()>,
    is_first: bool,
    is_over: bool,
}

impl TerminalView {
    async fn next(&mut self) -> Option<Value> {
        if self.is_over {
            return None;
        }
        if std::mem::take(&mut self.is_first) {
            let mut update = lock(&self.screen).update();
            update["terminal"] = self.number.into();
            return Some(update);
        }
        tokio::select! {
            biased;
            _ = self.changes.changed() => tokio::time::sleep(FRAME).await,
            _ = self.ended.changed() => self.is_over = true,
        }
        self.changes.borrow_and_update();
        let mut update = lock(&self.screen).update();
        if self.is_over {
            update["ended"] = true.into();
        }
        Some(update)
    }
}

impl Drop for TerminalView {
    fn drop(&mut self) {
        self.terminals.open().all.remove(&self.number);
    }
}

/// A screen, and what of it the page has.
struct TerminalScreen {
    parser: vt100::Parser,
    shown: Vec<Value>,
}

impl std::fmt::Debug for TerminalScreen {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("TerminalScreen").field("size", &self.parser.screen().size()).finish_non_exhaustive()
    }
}

impl TerminalScreen {
    fn new((columns, rows): (u16, u16)) -> Self {
        Self { parser: vt100::Parser::new(not_zero(rows), not_zero(columns), 0), shown: Vec::new() }
    }

    fn process(&mut self, bytes: &[u8]) {
        self.parser.process(bytes);
    }

    fn resize(&mut self, (columns, rows): (u16, u16)) {
        self.parser.set_size(not_zero(rows), not_zero(columns));
    }

    /// The rows that have changed since the last update, the cursor, and the modes that concern keys.
    fn update(&mut self) -> Value {
        let screen = self.parser.screen();
        let (rows, columns) = screen.size();
        let (rows, columns) = (rows.get(), columns.get());
        let now: Vec<Value> = (0..rows).map(|row| row_runs(screen, row, columns)).collect();
        let changed: serde_json::Map<String, Value> = now
            .iter()
            .enumerate()
            .filter(|(row, value)| self.shown.get(*row) != Some(value))
            .map(|(row, value)| (row.to_string(), value.clone()))
            .collect();
        let cursor = (!screen.hide_cursor()).then(|| screen.cursor_position());
        let update = json!({
            "rows": changed,
            "size": [columns, rows],
            "cursor": cursor,
            "application_cursor": screen.application_cursor(),
            "bracketed_paste": screen.bracketed_paste(),
        });
        self.shown = now;
        update
    }
}

fn not_zero(size: u16) -> NonZeroU16 {
    NonZeroU16::new(size).unwrap_or(NonZeroU16::MIN)
}

/// How a cell looks: letters for its attributes, and its colours.
type Look = (String, vt100::Color, vt100::Color);

/// A row as runs of cells that look the same: `[text, attributes, foreground, background]`, with what is usual left out at the end.
fn row_runs(screen: &vt100::Screen, row: u16, columns: u16) -> Value {
    let mut runs: Vec<(String, Look)> = Vec::new();
    for cell in (0..columns).filter_map(|column| screen.cell(row, column)) {
        if cell.is_wide_continuation() {
            continue;
        }
        let attributes = [
            (cell.bold(), 'b'),
            (cell.dim(), 'd'),
            (cell.italic(), 'i'),
            (cell.underline(), 'u'),
            (cell.inverse(), 'r'),
            // It takes two columns whatever the browser's font thinks, so it stands alone.
            (cell.is_wide(), 'w'),
        ];
        let letters: String = attributes.iter().filter(|(is_on, _)| *is_on).map(|(_, letter)| *letter).collect();
        let look = (letters, cell.fgcolor(), cell.bgcolor());
        let text = if cell.has_contents() { cell.contents() } else { " " };
        match runs.last_mut() {
            Some((run, same)) if *same == look && !cell.is_wide() => run.push_str(text),
            _ => runs.push((text.to_owned(), look)),
        }
    }
    let usual = (String::new(), vt100::Color::Default, vt100::Color::Default);
    if let Some((text, _)) = runs.last_mut().filter(|(_, look)| *look == usual) {
        text.truncate(text.trim_end_matches(' ').len());
    }
    runs.iter()
        .filter(|(text, _)| !text.is_empty())
        .map(|(text, (letters, foreground, background))| {
            let mut run = vec![json!(text), json!(letters), color(*foreground), color(*background)];
            while run.len() > 1 && run.last().is_some_and(|part| part.is_null() || part == "") {
                run.pop();
            }
            Value::Array(run)
        })
        .collect()
}

fn color(color: vt100::Color) -> Value {
    match color {
        vt100::Color::Default => Value::Null,
        vt100::Color::Idx(number) => number.into(),
        vt100::Color::Rgb(red, green, blue) => format!("#{red:02x}{green:02x}{blue:02x}").into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::StreamExt;

    fn parsed(frame: Option<Result<Frame<Bytes>, Infallible>>) -> Value {
        let data = frame.unwrap().unwrap().into_data().unwrap();
        serde_json::from_slice(&data).unwrap()
    }

    #[test]
    fn a_screen_becomes_runs_and_only_changes_are_told() {
        let mut screen = TerminalScreen::new((20, 3));
        screen.process(b"<b>plain</b> \x1b[1;31mred\x1b[0m\r\n\x1b[48;2;1;2;3mx\x1b[0m\xe6\x97\xa5y");
        let update = screen.update();
        assert_eq!(update["rows"]["0"], json!([["<b>plain</b> "], ["red", "b", 1]]), "{update:#}");
        assert_eq!(update["rows"]["1"], json!([["x", "", null, "#010203"], ["日", "w"], ["y"]]), "{update:#}");
        assert_eq!((&update["rows"]["2"], &update["cursor"], &update["size"]), (&json!([]), &json!([1, 4]), &json!([20, 3])));
        screen.process(b"\x1b[?25l\x1b[?1h\x1b[?2004h\x1b]0;title\x07\x1b]52;c;Zm9v\x07!");
        let update = screen.update();
        assert_eq!(update["rows"].as_object().map(|rows| rows.keys().cloned().collect::<Vec<_>>()), Some(vec!["1".to_owned()]));
        assert_eq!((&update["cursor"], &update["application_cursor"]), (&Value::Null, &json!(true)));
        assert_eq!(update["bracketed_paste"], true);
        screen.resize((10, 4));
        assert_eq!(screen.update()["size"], json!([10, 4]));
    }

    #[tokio::test]
    async fn updates_end_with_the_service_and_close_with_the_page() {
        let terminals = Arc::new(Terminals::default());
        let ends = || {
            let (output, from_service) = mpsc::channel(4);
            let (input, typed) = mpsc::channel(4);
            (output, typed, TerminalEnds { output: from_service, input })
        };
        let (output, mut typed, opened) = ends();
        let mut updates = Box::pin(terminals.updates(opened, (20, 3)));
        let first = parsed(updates.next().await);
        assert_eq!(first["terminal"], 1, "{first:#}");
        output.send(b"hello".to_vec()).await.unwrap();
        assert_eq!(parsed(updates.next().await)["rows"]["0"], json!([["hello"]]));
        let message = TerminalMessage { terminal: 1, keys: "ls\r".to_owned(), size: Some((9999, 0)) };
        assert!(terminals.send(message).await);
        assert_eq!(typed.recv().await, Some(TerminalInput::Resize { columns: 400, rows: 3 }));
        assert_eq!(typed.recv().await, Some(TerminalInput::Keys(b"ls\r".to_vec())));
        assert_eq!(parsed(updates.next().await)["size"], json!([400, 3]));
        output.send(b" bye".to_vec()).await.unwrap();
        drop(output);
        let mut last = parsed(updates.next().await);
        while last["ended"] != true {
            last = parsed(updates.next().await);
        }
        assert!(updates.next().await.is_none());
        drop(updates);
        assert_eq!(typed.recv().await, None, "nobody types any more");
        assert!(!terminals.send(TerminalMessage { terminal: 1, keys: "x".to_owned(), size: None }).await);

        let (_output, mut typed, opened) = ends();
        drop(terminals.updates(opened, (20, 3)));
        assert_eq!(typed.recv().await, None, "the page has gone");
    }

    #[tokio::test]
    async fn a_page_that_does_not_read_holds_nobody_up() {
        let terminals = Arc::new(Terminals::default());
        let (output, from_service) = mpsc::channel(1);
        let (input, _typed) = mpsc::channel(1);
        let mut updates = Box::pin(terminals.updates(TerminalEnds { output: from_service, input }, (80, 24)));
        for number in 0..5000 {
            output.send(format!("line {number}\r\n").into_bytes()).await.unwrap();
        }
        let _first = updates.next().await;
        drop(output);
        let mut last = Value::Null;
        while let Some(update) = updates.next().await {
            last = parsed(Some(update));
        }
        assert_eq!(last["ended"], true, "{last:#}");
    }

    /// Whatever comes, in whatever size, the interpreter does not panic.
    #[test]
    fn random_bytes_are_taken() {
        let mut state = 0x9e37_79b9_7f4a_7c15_u64;
        let mut random = |below: u64| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state % below
        };
        let pieces: &[&[u8]] = &[
            b"\x1b[",
            b"\x1b]",
            b"\x1b(",
            b"?",
            b";",
            b"999999999",
            b"1",
            b"0",
            b"H",
            b"J",
            b"K",
            b"L",
            b"M",
            b"P",
            b"X",
            b"@",
            b"r",
            b"S",
            b"T",
            b"m",
            b"38;5;",
            b"h",
            b"l",
            b"\x1b7",
            b"\x1b8",
            b"\x1bM",
            b"\r",
            b"\n",
            b"\t",
            b"\x08",
            b"\xe6\x97\xa5",
            b"\xff",
            b"\xcc\x81",
            b"abc",
            b"1049",
            b"\x1bc",
            b"\x9b",
        ];
        let mut screen = TerminalScreen::new((80, 24));
        for _ in 0..20_000 {
            if random(50) == 0 {
                let size = fitting((random(200) as u16, random(60) as u16));
                screen.resize(size);
                let _update = screen.update();
            }
            screen.process(pieces[random(pieces.len() as u64) as usize]);
        }
    }
}
