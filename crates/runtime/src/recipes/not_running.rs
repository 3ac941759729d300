//! The failure of `sql` and `cypher` where nothing listens at the server's address.

use devrun_model::{Failure, FailureKind, Launch, ServiceSpec};

/// `Elsewhere`, with what starts the server.
pub(super) fn not_running(on: &ServiceSpec, host: &str, port: u16) -> Failure {
    let failure = Failure::new(FailureKind::Elsewhere, format!("{} is not running: nothing listens on {host}:{port}", on.id));
    match &on.launch {
        Launch::External { .. } => failure.help(format!("start the server, or correct `external` of {}", on.service)),
        _ => failure.help(format!("devrun up -d {}", on.service)),
    }
}
