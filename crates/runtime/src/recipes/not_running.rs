//! The failure of a command for a server that is not up (`sql`, `cypher`, `migrate`, `psql`, `redis-cli`): nothing listens at its
//! address.

use std::io::ErrorKind;
use std::time::Duration;

use devrun_model::{Failure, FailureKind, Launch, ServiceSpec};
use tokio::net::TcpStream;

/// A server of another machine may take its time; a client program waits longer.
const ANSWER_LIMIT: Duration = Duration::from_secs(2);

/// `Elsewhere`, with what starts the server.
pub(super) fn not_running(on: &ServiceSpec, host: &str, port: u16) -> Failure {
    // A port that is chosen at the start is not known before it.
    let address = if port == 0 { String::new() } else { format!(": nothing listens on {host}:{port}") };
    let failure = Failure::new(FailureKind::Elsewhere, format!("{} is not running{address}", on.id));
    match &on.launch {
        Launch::External { .. } => failure.help(format!("start the server, or correct `external` of {}", on.service)),
        _ => failure.help(format!("devrun up -d {}", on.service)),
    }
}

/// Refuses a server that nothing listens for, so that its client need not be started. Every other failure is the client's to report.
///
/// # Errors
/// `Elsewhere`.
pub async fn refuse_stopped(on: &ServiceSpec) -> Result<(), Failure> {
    let Some(port) = on.port() else { return Ok(()) };
    let host = on.attribute("host").unwrap_or_else(|| on.bind.clone());
    if port == 0 {
        return Err(not_running(on, &host, port));
    }
    match tokio::time::timeout(ANSWER_LIMIT, TcpStream::connect((host.as_str(), port))).await {
        Ok(Err(error)) if error.kind() == ErrorKind::ConnectionRefused => Err(not_running(on, &host, port)),
        _ => Ok(()),
    }
}
