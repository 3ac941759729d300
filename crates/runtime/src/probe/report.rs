//! What a probe tells the engine.

use tokio::sync::mpsc;

use devrun_model::{Failure, ServiceId};

/// What a probe says.
#[derive(Debug, Clone, PartialEq)]
pub enum ProbeReport {
    /// Readiness passed; a note worth showing (the holder of the port cannot be known).
    Passed(Option<String>),
    /// It did not: the answer in a fragment; a failure where waiting cannot fix it.
    Failed(String, Option<Failure>),
    /// Liveness passed.
    AlivePassed,
    /// It did not.
    AliveFailed(String),
}

/// Where answers go: with the subject's id and generation.
pub type ReportSink = mpsc::UnboundedSender<(ServiceId, u64, ProbeReport)>;
