//! The limits of a transfer, and how it fails.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use devrun_model::{Failure, FailureKind};

/// Shortens the wait for the next byte, in milliseconds; for tests.
const IDLE: &str = "DEVRUN_TEST_IDLE_MS";

/// Why there is no artifact.
#[derive(Debug)]
pub enum FetchError {
    /// The next source may have it: the host is out of reach, or knows no such file.
    TryNextSource(String),
    /// Nothing else is to be tried.
    Fatal(Failure),
}

impl fmt::Display for FetchError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TryNextSource(reason) => f.write_str(reason),
            Self::Fatal(failure) => failure.fmt(f),
        }
    }
}

impl std::error::Error for FetchError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::TryNextSource(_) => None,
            Self::Fatal(failure) => Some(failure),
        }
    }
}

impl FetchError {
    /// What came is not what should have come, or wants to lead elsewhere.
    pub(super) fn integrity(reason: String) -> Self {
        Self::Fatal(Failure::new(FailureKind::Integrity, reason))
    }
}

/// The limits of one download.
#[derive(Debug, Clone, Copy)]
pub struct TransferLimits {
    /// To reach the host.
    pub connect: Duration,
    /// Between two pieces.
    pub idle: Duration,
    /// The whole of it.
    pub whole: Duration,
    /// Bytes, where no size is pinned.
    pub bytes: u64,
    /// Tries of a host that answers.
    pub tries: u32,
    /// Redirects of one try.
    pub redirects: u32,
}

impl TransferLimits {
    /// The limits in force.
    #[must_use]
    pub fn in_force(env: &BTreeMap<String, String>) -> Self {
        let idle = env.get(IDLE).and_then(|text| text.parse().ok()).map_or(Duration::from_secs(30), Duration::from_millis);
        Self { connect: Duration::from_secs(3), idle, whole: Duration::from_secs(3600), bytes: 4 << 30, tries: 3, redirects: 5 }
    }
}
