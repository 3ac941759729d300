//! A service that listens, but not where it is probed: the most common mistake of a command that does not use `$PORT`.
//!
//! The kernel is asked at most once a second, and only for a service that has refused connections for that long.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use devrun_model::not_ready_help::listens_elsewhere;

use super::super::ports;

/// Between two questions, and before the first one.
const EVERY: Duration = Duration::from_secs(1);

/// What was found out last.
#[derive(Debug, Default)]
pub(crate) struct ListensElsewhere {
    asked: Option<Instant>,
    found: Vec<SocketAddr>,
}

impl ListensElsewhere {
    /// What to add to a refusal: `; it listens on 127.0.0.1:21999, not on $PORT (21113)`. Nothing where it listens nowhere.
    pub(crate) async fn note(&mut self, leader: i32, began: Instant, expected: &[SocketAddr]) -> Option<String> {
        if began.elapsed() >= EVERY && self.asked.is_none_or(|asked| asked.elapsed() >= EVERY) {
            let asked = tokio::task::spawn_blocking(move || ports::listening(leader)).await;
            self.found = asked.unwrap_or_default();
            self.asked = Some(Instant::now());
        }
        note(&self.found, expected)
    }
}

fn note(found: &[SocketAddr], expected: &[SocketAddr]) -> Option<String> {
    Some(format!("; {}", elsewhere(found, expected.first()?.port())?))
}

/// `it listens on 127.0.0.1:21999, not on $PORT (21113)`; nothing where it listens on its port, or nowhere.
pub(crate) fn elsewhere(found: &[SocketAddr], port: u16) -> Option<String> {
    let others: Vec<String> = found.iter().filter(|at| at.port() != port).map(ToString::to_string).collect();
    // One that does listen on its port was caught in between.
    let is_elsewhere = !others.is_empty() && others.len() == found.len();
    is_elsewhere.then(|| listens_elsewhere(&others, port))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_other_ports_are_named() {
        let at = |text: &str| text.parse::<SocketAddr>().unwrap();
        let expected = [at("127.0.0.1:21113"), at("[::1]:21113")];
        let said = note(&[at("0.0.0.0:21999")], &expected);
        assert_eq!(said.as_deref(), Some("; it listens on 0.0.0.0:21999, not on $PORT (21113)"));
        assert_eq!(note(&[], &expected), None);
        assert_eq!(note(&[at("127.0.0.1:21113"), at("127.0.0.1:9229")], &expected), None);
    }
}
