//! The last lines of each service that match a pattern.

use std::collections::{BTreeMap, VecDeque};
use std::io;

use devrun_model::ServiceId;
use regex::bytes::Regex;

use super::line_reader::LogLine;
use super::visible_text::matches;

/// The last `count` lines of each service that match, in the order of `lines`.
///
/// # Errors
/// The first of `lines`.
pub fn last_matches(lines: impl Iterator<Item = io::Result<LogLine>>, pattern: &Regex, count: usize) -> io::Result<Vec<LogLine>> {
    let mut last: BTreeMap<ServiceId, VecDeque<(usize, LogLine)>> = BTreeMap::new();
    for (number, line) in lines.enumerate() {
        let line = line?;
        if count == 0 || !matches(pattern, &line.bytes) {
            continue;
        }
        let own = last.entry(line.id.clone()).or_default();
        if own.len() >= count {
            own.pop_front();
        }
        own.push_back((number, line));
    }
    let mut found: Vec<(usize, LogLine)> = last.into_values().flatten().collect();
    found.sort_by_key(|(number, _)| *number);
    Ok(found.into_iter().map(|(_, line)| line).collect())
}

#[cfg(test)]
mod tests {
    use super::super::log_stream::LogStream;
    use super::*;

    #[test]
    fn matching_lines_are_counted_for_each_service() {
        let line = |id: &str, text: &str| LogLine {
            id: ServiceId::parse(id).unwrap(),
            stream: LogStream::Stdout,
            micros: 0,
            bytes: text.as_bytes().to_vec(),
            ended: true,
        };
        let lines = [("a", "error 1"), ("b", "error 2"), ("a", "error 3"), ("b", "fine"), ("a", "fine"), ("a", "fine")];
        let found = |count| {
            let lines = lines.iter().map(|(id, text)| Ok(line(id, text)));
            let found = last_matches(lines, &Regex::new("error").unwrap(), count).unwrap();
            found.into_iter().map(|line| String::from_utf8(line.bytes).unwrap()).collect::<Vec<_>>()
        };
        assert_eq!(found(1), ["error 2", "error 3"]);
        assert_eq!(found(5), ["error 1", "error 2", "error 3"]);
        assert!(found(0).is_empty());
    }
}
