//! The exit codes of the contract, named. Nothing else in the project writes such a number.

use crate::FailureKind;

/// Done.
pub const DONE: i32 = 0;
/// A service failed.
pub const SERVICE: i32 = 1;
/// Usage or configuration; nothing was spawned.
pub const USAGE: i32 = 2;
/// Not ready in time.
pub const NOT_READY: i32 = 3;
/// A task or init step failed.
pub const TASK: i32 = 4;
/// Port taken.
pub const PORT_TAKEN: i32 = 5;
/// Already running elsewhere, or not running.
pub const ELSEWHERE: i32 = 6;
/// Binary missing or of the wrong version.
pub const BINARY: i32 = 7;
/// Checksum, archive, tampered cache.
pub const INTEGRITY: i32 = 8;
/// Processes are left that could not be stopped.
pub const SURVIVORS: i32 = 9;
/// Credentials refused.
pub const CREDENTIALS: i32 = 10;
/// The whole start ran past its timeout.
pub const START_TIMEOUT: i32 = 124;
/// devrun itself failed.
pub const INTERNAL: i32 = 125;
/// CMD is not executable.
pub const NOT_EXECUTABLE: i32 = 126;
/// CMD was not found.
pub const NOT_FOUND: i32 = 127;
/// Ended by HUP.
pub const HUP: i32 = 129;
/// Ended by INT.
pub const INT: i32 = 130;
/// Ended by TERM.
pub const TERM: i32 = 143;

/// The code of a failure.
#[must_use]
pub fn of(kind: FailureKind) -> i32 {
    match kind {
        FailureKind::Service | FailureKind::Query | FailureKind::Background | FailureKind::Cancelled => SERVICE,
        FailureKind::Config => USAGE,
        FailureKind::NotReady => NOT_READY,
        FailureKind::Task => TASK,
        FailureKind::PortTaken => PORT_TAKEN,
        FailureKind::Elsewhere => ELSEWHERE,
        FailureKind::Binary => BINARY,
        FailureKind::Integrity => INTEGRITY,
        FailureKind::Survivors => SURVIVORS,
        FailureKind::Credentials => CREDENTIALS,
        FailureKind::StartTimeout => START_TIMEOUT,
        FailureKind::Internal => INTERNAL,
    }
}

/// What a failure's code means, for the last line on stderr.
#[must_use]
pub fn meaning_of(kind: FailureKind) -> &'static str {
    match kind {
        FailureKind::Query => "the query failed",
        kind => meaning(of(kind)),
    }
}

/// What the code means, for the last line on stderr.
#[must_use]
pub fn meaning(code: i32) -> &'static str {
    match code {
        DONE => "done",
        SERVICE => "a service failed",
        USAGE => "usage or configuration error",
        NOT_READY => "not ready in time",
        TASK => "a task or init step failed",
        PORT_TAKEN => "port taken",
        ELSEWHERE => "already running elsewhere, or not running",
        BINARY => "binary missing or of the wrong version",
        INTEGRITY => "integrity",
        SURVIVORS => "processes are left that could not be stopped",
        CREDENTIALS => "credentials refused",
        START_TIMEOUT => "the whole start ran past its timeout",
        INTERNAL => "devrun itself failed",
        NOT_EXECUTABLE => "command not executable",
        NOT_FOUND => "command not found",
        HUP => "ended by HUP",
        INT => "ended by INT",
        TERM => "ended by TERM",
        _ => "ended by the command itself",
    }
}
