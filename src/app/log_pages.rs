//! Pages of logs for viewers that keep no place of their own: a place is a text that they hand back.

use regex::bytes::Regex;
use serde::Serialize;

use devrun_logs::scroll::{LogCursor, LogPositions, LogWindow, PlacedLine, ScrollStart};
use devrun_logs::visible_text;
use devrun_model::mask::Masker;
use devrun_model::pattern_error::pattern_error;
use devrun_model::{Failure, FailureKind, ServiceId};
use devrun_runtime::engine::clock::stamp_of_micros;

use crate::app::load::Project;
use crate::app::log_selection;

/// Lines of one page at most.
const MOST: usize = 2000;
/// Bytes of a line that a page shows; patterns are tried on the whole line.
const TEXT: usize = 16 * 1024;

/// Which lines.
#[derive(Debug, Clone, Default)]
pub struct PageRequest {
    /// The service; empty: all.
    pub service: String,
    /// Where an earlier page began or ended; empty: the newest line.
    pub at: String,
    /// Begin at this time (microseconds since 1970).
    pub time: Option<i64>,
    /// Lines before that place.
    pub older: usize,
    /// Lines after it.
    pub newer: usize,
    /// Only lines that match.
    pub filter: String,
    /// Begin at the next line that matches.
    pub search: String,
    /// Search towards newer lines; the line at `at` itself is passed over.
    pub forward: bool,
}

/// One line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PageLine {
    /// Whose.
    pub service: String,
    /// When (RFC 3339, UTC).
    pub ts: String,
    /// The same in microseconds since 1970.
    pub micros: i64,
    /// `stdout`, `stderr` or `devrun`.
    pub stream: &'static str,
    /// Without control sequences.
    pub text: String,
}

/// Lines, oldest first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LogPage {
    /// The lines.
    pub lines: Vec<PageLine>,
    /// The place before the first one.
    pub top: String,
    /// The place after the last one.
    pub bottom: String,
    /// The number of the line that a search has found.
    pub found: Option<usize>,
    /// The place of that line.
    pub found_at: Option<String>,
}

/// The log files of a service, or all of them.
#[must_use]
pub fn files_of(project: &Project, service: &str) -> Vec<ServiceId> {
    let known = log_selection::known(project);
    if service.is_empty() {
        return known;
    }
    let belongs = |id: &ServiceId| {
        let own = id.as_str().split('/').next().unwrap_or_default();
        own == service || own.split_once('.').is_some_and(|(of, _)| of == service) || id.as_str() == service
    };
    known.into_iter().filter(belongs).collect()
}

/// Compiles a pattern; an empty one is none.
///
/// # Errors
/// `Config`, with what is wrong with it.
pub fn pattern(text: &str) -> Result<Option<Regex>, Failure> {
    if text.is_empty() {
        return Ok(None);
    }
    Regex::new(text).map(Some).map_err(|error| {
        Failure::new(FailureKind::Config, format!("invalid pattern: {}", pattern_error(&error)))
            .help("write a regular expression, such as error|warn")
    })
}

/// Reads a page. It may read whole files, so it is run next to other tasks.
///
/// # Errors
/// `Config` for a pattern or a place that is none.
pub fn page(project: &Project, masker: &Masker, request: &PageRequest) -> Result<LogPage, Failure> {
    log_selection::check(project)?;
    let folder = project.places.logs();
    let ids = files_of(project, &request.service);
    let filter = pattern(&request.filter)?;
    let mut start = match (request.at.as_str(), request.time) {
        ("", Some(time)) => ScrollStart::Time(time),
        ("", None) => ScrollStart::Newest,
        (text, _) => ScrollStart::At(parse(text)?),
    };
    let mut found = None;
    if let Some(wanted) = pattern(&request.search)? {
        let mut cursor = LogCursor::new(&folder, &ids, &start);
        if request.forward {
            let _found_before = cursor.newer();
        }
        found = LogWindow::find(&folder, &ids, &cursor.positions(), &wanted, filter.as_ref(), !request.forward);
        match &found {
            Some(at) => start = ScrollStart::At(at.clone()),
            None => {
                let place = text(&cursor.positions());
                return Ok(LogPage { lines: Vec::new(), top: place.clone(), bottom: place, found: None, found_at: None });
            }
        }
    }
    let mut window = LogWindow::new(&folder, &ids, &start, filter);
    let above = window.extend_up(request.older.min(MOST));
    window.extend_down(request.newer.min(MOST));
    Ok(LogPage {
        lines: window.lines().map(|line| shortened(page_line(line, masker))).collect(),
        top: text(&window.top()),
        bottom: text(&window.bottom()),
        found: found.as_ref().map(|_| above),
        found_at: found.as_ref().map(text),
    })
}

/// A line as viewers get it, secrets masked.
#[must_use]
pub fn page_line(placed: &PlacedLine, masker: &Masker) -> PageLine {
    let line = &placed.line;
    PageLine {
        service: line.id.to_string(),
        ts: stamp_of_micros(line.micros),
        micros: line.micros,
        stream: line.stream.as_str(),
        text: masker.text(&visible_text::visible(&line.bytes)),
    }
}

/// A line that is too long for a page is cut, and says so.
fn shortened(mut line: PageLine) -> PageLine {
    if line.text.len() > TEXT {
        let end = (0..=TEXT).rev().find(|at| line.text.is_char_boundary(*at)).unwrap_or(0);
        let left_out = line.text.len() - end;
        line.text.truncate(end);
        line.text.push_str(&format!("… ({left_out} more bytes)"));
    }
    line
}

/// A place as text.
#[must_use]
pub fn text(positions: &LogPositions) -> String {
    let place = |(id, at): (&ServiceId, &devrun_logs::scroll::LogPosition)| format!("{id}:{}:{}", at.inode, at.offset);
    if positions.is_empty() { "-".to_owned() } else { positions.iter().map(place).collect::<Vec<_>>().join(",") }
}

fn parse(text: &str) -> Result<LogPositions, Failure> {
    let one = |part: &str| {
        let (rest, offset) = part.rsplit_once(':')?;
        let (id, inode) = rest.rsplit_once(':')?;
        let position = devrun_logs::scroll::LogPosition { inode: inode.parse().ok()?, offset: offset.parse().ok()? };
        let id = match id.split_once('/') {
            Some((service, file)) => ServiceId::parse(service).ok()?.further(file),
            None => ServiceId::parse(id).ok()?,
        };
        Some((id, position))
    };
    if text == "-" {
        return Ok(LogPositions::new());
    }
    let parsed: Option<LogPositions> = text.split(',').map(one).collect();
    parsed.ok_or_else(|| {
        Failure::new(FailureKind::Config, "invalid place in the logs").help("use one that an earlier answer has named")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_line_is_cut_between_two_characters() {
        let line = |text: String| PageLine { service: "a".to_owned(), ts: String::new(), micros: 0, stream: "stdout", text };
        let cut = shortened(line(format!("x{}", "é".repeat(TEXT)))).text;
        assert!(cut.ends_with("é… (16386 more bytes)"), "{}", &cut[TEXT - 5..]);
        assert_eq!(cut.len(), TEXT - 1 + "… (16386 more bytes)".len());
        assert_eq!(shortened(line("é".repeat(TEXT / 2))).text.len(), TEXT);
    }

    #[test]
    fn a_place_is_read_back_and_another_text_refused() {
        for place in ["api:12:34", "api:12:34,web/access.log:5:0,worker.2:7:8", "-"] {
            assert_eq!(text(&parse(place).unwrap()), place);
        }
        for place in ["api", "api:1", "api:x:1", "../x:1:1", ","] {
            assert!(parse(place).is_err(), "{place}");
        }
    }
}
