//! What one check says: a hit or a miss, and after a miss what the next attempt waits for.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use devrun_logs::{ansi, visible_text};
use devrun_model::{Failure, FailureKind};

/// It passed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProbeOk {
    /// What was answered.
    pub answer: String,
    /// Worth showing to people.
    pub note: Option<String>,
}

impl ProbeOk {
    /// A pass without a note.
    pub(crate) fn new(answer: impl Into<String>) -> Self {
        Self { answer: answer.into(), note: None }
    }
    /// Adds a note, where there is one.
    pub(crate) fn note(mut self, note: Option<String>) -> Self {
        self.note = note.or(self.note);
        self
    }
}

/// What the next attempt waits for. Ordered by how soon it comes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum RetryHint {
    /// The next step of the clock.
    Step,
    /// This long, no sooner.
    In(Duration),
    /// Something that will be told: a line, a message.
    Event,
}

/// It did not pass.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProbeError {
    /// What was answered, a lowercase fragment.
    pub answer: String,
    /// A failure that waiting cannot mend.
    pub fatal: Option<Failure>,
    /// When it is worth another attempt.
    pub retry: RetryHint,
    /// Nobody listens at any of these addresses of this machine, and nothing else is known to be amiss.
    pub closed: Vec<SocketAddr>,
}

impl ProbeError {
    /// Not yet.
    pub(crate) fn new(answer: impl Into<String>) -> Self {
        Self { answer: answer.into(), fatal: None, retry: RetryHint::Step, closed: Vec::new() }
    }
    /// Never, unless somebody mends it.
    pub(crate) fn fatal(failure: Failure) -> Self {
        Self { answer: failure.reason.clone(), fatal: Some(failure), retry: RetryHint::Step, closed: Vec::new() }
    }
    /// Nothing to try before this.
    pub(crate) fn retry(mut self, retry: RetryHint) -> Self {
        self.retry = retry;
        self
    }
    /// Login refused.
    pub(crate) fn credentials(reason: impl Into<String>, help: &str) -> Self {
        Self::fatal(Failure::new(FailureKind::Credentials, reason).help(help))
    }
    /// A read or write that failed in the middle of a conversation.
    pub(crate) fn broken(error: &io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::UnexpectedEof => Self::new("the connection was closed without an answer"),
            io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionAborted => {
                Self::new("the connection was reset")
            }
            _ => Self::new(format!("the connection broke: {error}")),
        }
    }
}

/// The outcome of one check.
pub(crate) type ProbeResult = Result<ProbeOk, ProbeError>;

/// Bytes of an answer in a form fit for one line.
pub(crate) fn excerpt(bytes: &[u8]) -> String {
    let bytes = &bytes[..bytes.len().min(400)];
    let mut plain = Vec::new();
    // Colours would leave their parameters.
    let bytes = if bytes.contains(&b'\x1b') {
        for line in bytes.split(|byte| *byte == b'\n') {
            ansi::strip(line, &mut plain);
            plain.push(b'\n');
        }
        plain.as_slice()
    } else {
        bytes
    };
    let text = String::from_utf8_lossy(bytes);
    let clean: String = text.chars().map(|c| if c.is_control() || c == '\u{fffd}' { ' ' } else { c }).collect();
    let words: Vec<&str> = clean.split_whitespace().collect();
    visible_text::shortened(&words.join(" "), 100)
}

/// The failure of a configuration that a check cannot work with.
pub(crate) fn unusable(reason: impl Into<String>, help: &str) -> Failure {
    Failure::new(devrun_model::FailureKind::Config, reason).help(help)
}

/// A duration in a response: `34ms`, `1.2s`.
pub(crate) fn spent(duration: Duration) -> String {
    if duration.as_secs() == 0 { format!("{}ms", duration.as_millis()) } else { devrun_model::duration::human(duration) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn excerpts_are_one_short_line_without_control_characters() {
        assert_eq!(excerpt(b"a\x1b[31m b\r\n\n c\0"), "a b c");
        assert_eq!(excerpt(&[b'x'; 5000]).chars().count(), 100);
        assert_eq!(excerpt(&[0xff, 0xfe]), "");
    }

    #[test]
    fn the_sooner_wait_is_the_smaller_one() {
        assert!(RetryHint::Step < RetryHint::In(Duration::ZERO));
        assert!(RetryHint::In(Duration::from_secs(1)) < RetryHint::In(Duration::from_secs(2)));
        assert!(RetryHint::In(Duration::MAX) < RetryHint::Event);
    }
}
