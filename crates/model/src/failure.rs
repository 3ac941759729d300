//! What went wrong with a service, in a form that ends up as an exit code, a line for people and a `help:` line.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The class of a failure; it decides the exit code (`crate::exit`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FailureKind {
    /// The process ended, or was given up (exit 1).
    Service,
    /// Usage or configuration; nothing was spawned (exit 2).
    Config,
    /// Never became ready in time (exit 3).
    NotReady,
    /// A task or an init step failed, is indeterminate, or met foreign data (exit 4).
    Task,
    /// A port is held by somebody else (exit 5).
    PortTaken,
    /// Already running elsewhere, or not running (exit 6).
    Elsewhere,
    /// A binary is missing, unusable, or of the wrong version (exit 7).
    Binary,
    /// Checksum, archive, or a tampered cache (exit 8).
    Integrity,
    /// Processes are left that could not be stopped (exit 9).
    Survivors,
    /// Credentials were refused (exit 10).
    Credentials,
    /// The whole start ran past its time (exit 124).
    StartTimeout,
    /// A fault of our own (exit 125).
    Internal,
    /// A server refused a statement of `sql` or `cypher` (exit 1, as their own clients do).
    Query,
    /// A service put itself into the background: a restart would not help (exit 1).
    Background,
    /// Given up because somebody asked for a stop; never an exit code of its own.
    Cancelled,
}

/// One failure: class, cause, and what to do next.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// The class.
    pub kind: FailureKind,
    /// A lowercase fragment that names the cause, without the service's name.
    pub reason: String,
    /// Something the user can type or do; absent only where nothing can be advised.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub help: Option<String>,
    /// It has been shown in full already, with its place and its help: only the closing line is left to say.
    #[serde(default, skip)]
    pub is_shown: bool,
}

impl Failure {
    /// A failure with no advice.
    #[must_use]
    pub fn new(kind: FailureKind, reason: impl Into<String>) -> Self {
        Self { kind, reason: reason.into(), help: None, is_shown: false }
    }
    /// Adds the advice.
    #[must_use]
    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }
    /// Marks it as shown.
    #[must_use]
    pub fn shown(mut self) -> Self {
        self.is_shown = true;
        self
    }
    /// The answer to a start that is asked for while everything is being stopped.
    #[must_use]
    pub fn being_stopped() -> Self {
        Self::new(FailureKind::Cancelled, "everything is being stopped").help("devrun up, when it is down")
    }
    /// Whether this is [`Failure::being_stopped`].
    #[must_use]
    pub fn is_being_stopped(&self) -> bool {
        *self == Self::being_stopped()
    }
    /// The answer to work that a stop made pointless.
    #[must_use]
    pub fn cancelled() -> Self {
        Self::new(FailureKind::Cancelled, "cancelled")
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.reason)
    }
}

impl std::error::Error for Failure {}
