//! Log lines with a prefix. Built for volume: a chunk of lines is prefixed into one buffer and written once.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;

use super::escape::escaped;
use devrun_logs::{LogItem, LogLine, LogStream, ansi};
use devrun_model::ServiceId;
use devrun_runtime::engine::clock::stamp_of_micros;

/// How lines are shown.
#[derive(Debug, Clone, Copy, Default)]
pub struct Style {
    /// Colours, and only them, reach the output; else bytes pass as they are.
    pub color: bool,
    /// The output is a terminal: control sequences are taken out.
    pub terminal: bool,
    /// RFC 3339 before each line.
    pub timestamps: bool,
    /// No name before each line.
    pub no_prefix: bool,
    /// A JSON object a line.
    pub json: bool,
}

/// Writes lines.
#[derive(Debug)]
pub struct LogView {
    style: Style,
    width: usize,
    colors: BTreeMap<ServiceId, &'static str>,
    buffer: Vec<u8>,
    /// Of the lines that are being put into the buffer.
    prefix: Vec<u8>,
    /// A piece of a line was shown, and the rest is still to come.
    open: Option<(ServiceId, LogStream)>,
    /// Lines that were ended here before their end came: that end makes no empty line.
    ended_early: BTreeSet<(ServiceId, u32)>,
}

const COLORS: &[&str] = &["36", "33", "32", "35", "34", "96", "93", "92", "95", "94"];

/// A line of `logs --json`: the keys are the contract, and so is their order.
#[derive(serde::Serialize)]
struct JsonLine<'a> {
    ts: &'a str,
    service: &'a str,
    replica: u32,
    stream: &'a str,
    line: &'a str,
}

impl LogView {
    /// For these services; their names give the width of the prefix.
    #[must_use]
    pub fn new(style: Style, ids: &[ServiceId]) -> Self {
        let width = ids.iter().map(|id| id.as_str().len()).max().unwrap_or(0).min(24);
        let colors = ids.iter().enumerate().map(|(at, id)| (id.clone(), COLORS[at % COLORS.len()])).collect();
        let (buffer, prefix) = (Vec::with_capacity(64 * 1024), Vec::new());
        Self { style, width, colors, buffer, prefix, open: None, ended_early: BTreeSet::new() }
    }

    /// Shows what the pump sent.
    ///
    /// # Errors
    /// When the reader is gone.
    pub fn item(&mut self, item: &LogItem, out: &mut dyn Write) -> std::io::Result<()> {
        match item {
            LogItem::Missed(bytes) => {
                self.buffer.clear();
                self.end_open_line();
                writeln!(self.buffer, "devrun: this view was too slow: {bytes} bytes are only in the log files")?;
            }
            LogItem::Chunk { id, stream, micros, bytes } => {
                self.buffer.clear();
                let body = bytes.strip_suffix(b"\n");
                self.lines(id, *stream, *micros, body.unwrap_or(bytes), body.is_some());
            }
        }
        out.write_all(&self.buffer)
    }

    /// Shows one line read from a file, or a piece of one.
    ///
    /// # Errors
    /// When the reader is gone.
    pub fn line(&mut self, line: &LogLine, out: &mut dyn Write) -> std::io::Result<()> {
        self.buffer.clear();
        self.lines(&line.id, line.stream, line.micros, &line.bytes, line.ended);
        out.write_all(&self.buffer)
    }

    /// Ends a line whose end has not come, as something else is to stand below it.
    ///
    /// # Errors
    /// When the reader is gone.
    pub fn end_line(&mut self, out: &mut dyn Write) -> std::io::Result<()> {
        self.buffer.clear();
        self.end_open_line();
        out.write_all(&self.buffer)
    }

    fn end_open_line(&mut self) {
        if let Some((id, stream)) = self.open.take() {
            self.buffer.push(b'\n');
            self.ended_early.insert((id, stream as u32));
        }
    }

    /// Puts lines into the buffer. `ended`: the last of them has its end, which is not in `body`.
    fn lines(&mut self, id: &ServiceId, stream: LogStream, micros: i64, body: &[u8], ended: bool) {
        let mut continues = self.open.as_ref().is_some_and(|(open, from)| open == id && *from == stream);
        let mut rest = body;
        if !continues {
            self.end_open_line();
            if self.ended_early.remove(&(id.clone(), stream as u32)) {
                match rest.strip_prefix(b"\n") {
                    Some(others) => rest = others,
                    None if rest.is_empty() && ended => return,
                    None => {}
                }
            }
        }
        self.begin(id, stream, micros);
        while let Some(end) = memchr::memchr(b'\n', rest) {
            self.push(id, stream, micros, &rest[..end], continues);
            self.buffer.push(b'\n');
            (rest, continues) = (&rest[end + 1..], false);
        }
        self.push(id, stream, micros, rest, continues);
        self.open = None;
        if ended {
            self.buffer.push(b'\n');
        } else if self.style.json {
            // An object is a line of its own.
            self.buffer.push(b'\n');
            self.ended_early.insert((id.clone(), stream as u32));
        } else {
            self.open = Some((id.clone(), stream));
        }
    }

    /// Makes the prefix of the lines that follow: those of one piece share it.
    fn begin(&mut self, id: &ServiceId, stream: LogStream, micros: i64) {
        self.prefix.clear();
        if self.style.json {
            return;
        }
        if self.style.timestamps {
            self.prefix.extend_from_slice(stamp_of_micros(micros).as_bytes());
            self.prefix.push(b' ');
        }
        if self.style.no_prefix {
            return;
        }
        if self.style.color {
            self.prefix.extend_from_slice(b"\x1b[");
            self.prefix.extend_from_slice(self.colors.get(id).copied().unwrap_or("36").as_bytes());
            self.prefix.push(b'm');
        }
        let name = id.as_str().as_bytes();
        self.prefix.extend_from_slice(name);
        self.prefix.resize(self.prefix.len() + self.width.saturating_sub(name.len()), b' ');
        self.prefix.extend_from_slice(if stream == LogStream::Devrun { b" * " } else { b" | " });
        if self.style.color {
            self.prefix.extend_from_slice(b"\x1b[0m");
        }
    }

    fn push(&mut self, id: &ServiceId, stream: LogStream, micros: i64, line: &[u8], continues: bool) {
        if self.style.json {
            let (service, replica) = match id.as_str().split_once(['.', '/']) {
                // A further file of the service: its name stays, as it tells the lines apart.
                Some((service, _)) if id.as_str().as_bytes().get(service.len()) == Some(&b'/') => (id.as_str(), 1),
                Some((service, rest)) => (service, rest.split('/').next().unwrap_or(rest).parse::<u32>().unwrap_or(1)),
                None => (id.as_str(), 1),
            };
            let (ts, stream, line) = (stamp_of_micros(micros), stream.as_str(), String::from_utf8_lossy(line));
            let line = JsonLine { ts: &ts, service, replica, stream, line: &line };
            // Text and a number: it cannot fail.
            let line = serde_json::to_string(&line).unwrap_or_default();
            let shown = if self.style.terminal { escaped(&line) } else { line.into() };
            self.buffer.extend_from_slice(shown.as_bytes());
            return;
        }
        if !continues {
            self.buffer.extend_from_slice(&self.prefix);
        }
        if self.style.terminal {
            let before = self.buffer.len();
            let coloured = ansi::clean(line, &mut self.buffer);
            if !self.style.color {
                strip_sgr(&mut self.buffer, before);
            } else if coloured {
                self.buffer.extend_from_slice(b"\x1b[0m");
            }
        } else {
            self.buffer.extend_from_slice(line);
        }
    }
}

/// Takes the colours out of what follows `from`; only SGR sequences are left there.
fn strip_sgr(buffer: &mut Vec<u8>, from: usize) {
    if !buffer[from..].contains(&0x1b) {
        return;
    }
    let tail = buffer.split_off(from);
    let mut inside = false;
    for byte in tail {
        match byte {
            0x1b => inside = true,
            b'm' if inside => inside = false,
            _ if inside => {}
            byte => buffer.push(byte),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use devrun_model::ServiceName;
    use std::sync::Arc;

    fn chunk(name: &str, bytes: &[u8]) -> LogItem {
        LogItem::Chunk {
            id: ServiceId::single(&ServiceName::new(name).unwrap()),
            stream: LogStream::Stdout,
            micros: 0,
            bytes: Arc::from(bytes),
        }
    }

    #[test]
    fn prefixes_align_and_long_lines_go_on() {
        let ids: Vec<_> = ["a", "worker"].iter().map(|name| ServiceId::single(&ServiceName::new(*name).unwrap())).collect();
        let mut view = LogView::new(Style::default(), &ids);
        let mut out = Vec::new();
        view.item(&chunk("a", b"one\ntwo\n"), &mut out).unwrap();
        view.item(&chunk("worker", b"piece"), &mut out).unwrap();
        view.item(&chunk("worker", b" rest\n"), &mut out).unwrap();
        view.item(&chunk("worker", b"cut"), &mut out).unwrap();
        view.item(&chunk("a", b"three\n"), &mut out).unwrap();
        assert_eq!(
            String::from_utf8(out).unwrap(),
            "a      | one\na      | two\nworker | piece rest\nworker | cut\na      | three\n"
        );
    }

    #[test]
    fn an_end_that_comes_after_another_line_makes_no_empty_one() {
        for (json, expected) in
            [(false, "ask | Password: \nb | two\nask | next\nask | Again: yes\n"), (true, "Password: |two|next|Again: |yes")]
        {
            let mut view = LogView::new(Style { json, ..Style::default() }, &[]);
            let mut out = Vec::new();
            view.item(&chunk("ask", b"Password: "), &mut out).unwrap();
            view.item(&chunk("b", b"two\n"), &mut out).unwrap();
            view.item(&chunk("ask", b"\nnext\n"), &mut out).unwrap();
            view.item(&chunk("ask", b"Again: "), &mut out).unwrap();
            view.item(&chunk("ask", b"yes\n"), &mut out).unwrap();
            let text = String::from_utf8(out).unwrap();
            if json {
                let lines = text.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap()["line"].clone());
                assert_eq!(lines.map(|line| line.as_str().unwrap().to_owned()).collect::<Vec<_>>().join("|"), expected);
            } else {
                assert_eq!(text, expected);
            }
        }
    }

    #[test]
    fn a_terminal_without_colour_gets_text_only() {
        let mut view = LogView::new(Style { terminal: true, no_prefix: true, ..Style::default() }, &[]);
        let mut out = Vec::new();
        view.item(&chunk("a", b"\x1b[31mred\x1b[0m \x1b]0;t\x07x\n"), &mut out).unwrap();
        assert_eq!(out, b"red x\n");
    }
}
