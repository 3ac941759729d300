//! Restart, back-off and stop: what a service asks to be done when it ends or must end.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::command_line::CommandLine;

/// When a service that ended is started again. Docker's meanings: a stop by hand wins over every policy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum RestartPolicy {
    /// Never.
    #[default]
    No,
    /// After a non-zero exit or a signal, at most `max` times in a row (`None`: 5… is never assumed; no limit).
    OnFailure {
        /// Quick crashes in a row after which it is given up.
        max: Option<u32>,
    },
    /// After every end.
    Always,
    /// After every end, and a stop by hand is remembered across supervisors.
    UnlessStopped,
}

impl RestartPolicy {
    /// Whether an end with this outcome is followed by a restart, limits apart.
    #[must_use]
    pub fn restarts(self, success: bool) -> bool {
        match self {
            Self::No => false,
            Self::OnFailure { .. } => !success,
            Self::Always | Self::UnlessStopped => true,
        }
    }
}

impl fmt::Display for RestartPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::No => f.write_str("no"),
            Self::OnFailure { max: None } => f.write_str("on-failure"),
            Self::OnFailure { max: Some(n) } => write!(f, "on-failure:{n}"),
            Self::Always => f.write_str("always"),
            Self::UnlessStopped => f.write_str("unless-stopped"),
        }
    }
}

/// The wait between quick crashes.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Backoff {
    /// The first wait.
    pub initial: Duration,
    /// The longest wait.
    pub max: Duration,
    /// By how much each wait grows.
    pub factor: f64,
    /// A service that ran this long restarts at once, and the wait starts over.
    pub reset: Duration,
}

impl Default for Backoff {
    fn default() -> Self {
        Self { initial: Duration::from_millis(250), max: Duration::from_secs(30), factor: 2.0, reset: Duration::from_secs(10) }
    }
}

/// Who gets the stop signal first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum StopTo {
    /// The leader; what is left of its tree when the leader is gone.
    #[default]
    Leader,
    /// The whole tree at once.
    All,
}

/// A signal by its number on this system, so that name and number never disagree.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Signal(pub i32);

const SIGNALS: &[(&str, i32)] = &[
    ("HUP", libc::SIGHUP),
    ("INT", libc::SIGINT),
    ("QUIT", libc::SIGQUIT),
    ("ILL", libc::SIGILL),
    ("TRAP", libc::SIGTRAP),
    ("ABRT", libc::SIGABRT),
    ("BUS", libc::SIGBUS),
    ("FPE", libc::SIGFPE),
    ("KILL", libc::SIGKILL),
    ("USR1", libc::SIGUSR1),
    ("SEGV", libc::SIGSEGV),
    ("USR2", libc::SIGUSR2),
    ("PIPE", libc::SIGPIPE),
    ("ALRM", libc::SIGALRM),
    ("TERM", libc::SIGTERM),
    ("CHLD", libc::SIGCHLD),
    ("CONT", libc::SIGCONT),
    ("STOP", libc::SIGSTOP),
    ("TSTP", libc::SIGTSTP),
    ("TTIN", libc::SIGTTIN),
    ("TTOU", libc::SIGTTOU),
    ("URG", libc::SIGURG),
    ("XCPU", libc::SIGXCPU),
    ("XFSZ", libc::SIGXFSZ),
    ("WINCH", libc::SIGWINCH),
    ("SYS", libc::SIGSYS),
];

impl Signal {
    /// Terminate.
    pub const TERM: Self = Self(libc::SIGTERM);
    /// Interrupt.
    pub const INT: Self = Self(libc::SIGINT);
    /// Kill.
    pub const KILL: Self = Self(libc::SIGKILL);

    /// Reads `TERM`, `SIGTERM`, `term` or a number.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let upper = text.trim().to_ascii_uppercase();
        let name = upper.strip_prefix("SIG").unwrap_or(&upper);
        if let Some((_, number)) = SIGNALS.iter().find(|(known, _)| *known == name) {
            return Some(Self(*number));
        }
        match upper.parse::<i32>() {
            Ok(number @ 1..=64) => Some(Self(number)),
            _ => None,
        }
    }
    /// The names that `parse` takes, without `SIG`.
    #[must_use]
    pub fn names() -> Vec<&'static str> {
        SIGNALS.iter().map(|(name, _)| *name).collect()
    }
}

impl fmt::Display for Signal {
    /// `SIGTERM`, or `signal 40` where the number has no name.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match SIGNALS.iter().find(|(_, number)| *number == self.0) {
            Some((name, _)) => write!(f, "SIG{name}"),
            None => write!(f, "signal {}", self.0),
        }
    }
}

/// Which comes first in a restart.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum UpdateOrder {
    /// The present process is stopped, then the next one is started.
    #[default]
    StopFirst,
    /// The next process must be ready before the present one is stopped.
    StartFirst,
}

/// How a service is restarted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct UpdateSpec {
    /// Whether two processes overlap.
    #[serde(default)]
    pub order: UpdateOrder,
    /// So many copies at a time.
    pub parallel: u32,
    /// From the readiness of one to the stop of the next.
    pub pause: Duration,
}

impl Default for UpdateSpec {
    fn default() -> Self {
        Self { order: UpdateOrder::StopFirst, parallel: 1, pause: Duration::ZERO }
    }
}

/// How a service is stopped.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StopSpec {
    /// The first signal.
    pub signal: Signal,
    /// From the first signal to SIGKILL, for the whole tree.
    pub grace: Duration,
    /// Run before the signal, in the service's environment.
    pub command: Option<CommandLine>,
    /// Ask the service whether now is a good moment.
    pub check: bool,
    /// Who gets the signal first.
    pub to: StopTo,
    /// Command names that may outlive the service (build daemons).
    pub spare: Vec<String>,
    /// A second, stronger signal before SIGKILL (Postgres: QUIT), sent at the end of `grace`; SIGKILL follows 2 s later.
    pub then: Option<Signal>,
}

impl Default for StopSpec {
    fn default() -> Self {
        Self {
            signal: Signal::TERM,
            grace: Duration::from_secs(10),
            command: None,
            check: false,
            to: StopTo::Leader,
            spare: Vec::new(),
            then: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals_by_every_spelling() {
        for text in ["TERM", "SIGTERM", "sigterm", "15"] {
            assert_eq!(Signal::parse(text), Some(Signal::TERM), "{text}");
        }
        assert_eq!(Signal::parse("0"), None);
        assert_eq!(Signal::parse("NOPE"), None);
        assert_eq!(Signal::TERM.to_string(), "SIGTERM");
    }
}
