//! `log.format = "json"`: each line in an envelope `{"ts","stream","line"}`, so that a collector needs nothing beside the
//! file. The index marks such pieces, so a service that prints JSON of its own is never mistaken for one.

use serde::{Deserialize, Serialize};

use super::log_stream::LogStream;

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Envelope<'a> {
    #[serde(borrow)]
    ts: std::borrow::Cow<'a, str>,
    #[serde(borrow)]
    stream: std::borrow::Cow<'a, str>,
    line: String,
}

/// RFC 3339, UTC, six digits.
fn stamp(micros: i64) -> String {
    jiff::Timestamp::from_microsecond(micros).map(|at| at.strftime("%Y-%m-%dT%H:%M:%S%.6fZ").to_string()).unwrap_or_default()
}

/// Bytes of a line in one envelope; a longer one gets several, so that each can be read whole.
const LONGEST: usize = 64 * 1024;

/// Puts whole lines into envelopes. Bytes that are no UTF-8 are replaced, as JSON cannot hold them.
#[must_use]
pub fn wrap(bytes: &[u8], stream: LogStream, micros: i64) -> Vec<u8> {
    let body = bytes.strip_suffix(b"\n").unwrap_or(bytes);
    let ts = stamp(micros);
    let mut out = Vec::with_capacity(bytes.len() * 2);
    let empty: &[u8] = b"";
    for line in body.split(|byte| *byte == b'\n').flat_map(|line| line.chunks(LONGEST).chain(line.is_empty().then_some(empty))) {
        let line = String::from_utf8_lossy(line).into_owned();
        let envelope = Envelope { ts: ts.as_str().into(), stream: stream.as_str().into(), line };
        // Strings alone always become JSON.
        if serde_json::to_writer(&mut out, &envelope).is_ok() {
            out.push(b'\n');
        }
    }
    out
}

/// The line in an envelope; `None` when it is none (the keeper appends raw bytes while it stops an orphaned stack).
#[must_use]
pub fn unwrap(line: &[u8]) -> Option<Vec<u8>> {
    serde_json::from_slice::<Envelope<'_>>(line).ok().map(|envelope| envelope.line.into_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_go_in_and_come_out() {
        let wrapped = wrap(b"one\n\"two\"\x1b[0m\n", LogStream::Stderr, 1_000_001);
        let text = String::from_utf8(wrapped).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[0], r#"{"ts":"1970-01-01T00:00:01.000001Z","stream":"stderr","line":"one"}"#);
        assert_eq!(unwrap(lines[1].as_bytes()).unwrap(), b"\"two\"\x1b[0m");
        assert_eq!(unwrap(b"raw"), None);
        assert_eq!(unwrap(br#"{"line":"x"}"#), None);
    }
}
