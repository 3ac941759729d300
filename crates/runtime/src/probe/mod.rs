//! Probes: is the service ready, is it alive. Attempts never overlap; the first is immediate.
//!
//! Owns: the checks of the contract, one file each; when they are tried (`schedule`, `runner`); whether a listener is
//! the service's own (`connect`). Does not own what follows from an answer: failures are not counted here, `core` does.
//!
//! # When something is said
//! - The first pass at once; later passes only when they follow a failure or their note changed. A pass ends a streak.
//! - Before the first pass: a changed failure at once, the same one again at most every 250 ms. None of these counts by
//!   itself; `core` counts those that lie `interval` apart once `start_period` is over.
//! - After the first pass: every failure, and those lie `interval` apart, on moments shared by the whole process.
//! - Liveness begins with the first pass of readiness (at once where there is none); failures before the end of
//!   `start_period` are not said.
//!
//! # What it costs
//! While nobody listens on its port, a service is one of those for which the kernel is asked, all in one question every
//! quarter to twenty milliseconds (`listen_watch`). The dear part of a check runs only when the port is open: in steps of
//! `max(1 ms, 2 % of the time since the spawn)`, at most `start_interval`. Where the kernel cannot be asked, connects are
//! tried in such steps; a refused one costs some 20 µs. Afterwards one shared wake-up per `interval`, and none at all where every check stays passed once it
//! has (`log`, `notify`, `uptime`).

mod bolt;
#[cfg(any(feature = "redis", feature = "postgres"))]
mod capped_stream;
mod checks;
mod command;
mod connect;
mod file;
mod grpc;
mod history;
pub mod http;
mod http_reply;
mod https;
mod listen_watch;
mod listens_elsewhere;
mod notify;
mod pg;
mod redis;
mod report;
mod result;
mod runner;
mod s3;
mod schedule;
mod sql;
mod subject;
mod url;

pub use self::redis::{ask as redis_ask, busy as redis_busy, facts as redis_facts, renew as redis_renew};
pub use checks::attempt;
pub use command::CommandContext;
pub use history::ProbeAttempt;
pub use listen_watch::ListenWatch;
pub(crate) use listens_elsewhere::elsewhere;
pub use notify::NotifySocket;
pub use report::{ProbeReport, ReportSink};
pub use result::{ProbeError, ProbeOk, RetryHint};
pub use runner::{ProbeHandle, ProbeSpec, start_probe_tasks};
pub use schedule::{Sleeper, attempt_step};
pub use subject::{ProbeSubject, start, start_with};
pub use url::check_from_url;
