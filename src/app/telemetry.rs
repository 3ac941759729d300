//! `devrun __telemetry`: joins the receiver of `devrun-telemetry` with this process; and what a viewer gets of it, masked as logs are.

use std::path::Path;

use devrun_model::mask::Masker;
use devrun_model::{Failure, FailureKind, Paths, exit};
use devrun_telemetry::TelemetryRecord;
use tokio::net::TcpListener;
use tokio::signal::unix::SignalKind;

use crate::app::port_conflicts;
use crate::app::{runtime, signals};

/// Bytes of the files that a viewer gets: a few thousand records.
const RECENT: u64 = 2 * 1024 * 1024;

/// Serves until TERM or INT.
///
/// # Errors
/// `PortTaken` when the address cannot be had, `Config` when the directory cannot be made.
pub fn run(host: &str, port: u16, dir: &Path) -> Result<i32, Failure> {
    // It was started by a link, whose name would be shown.
    #[cfg(target_os = "linux")]
    let _still_named_exe = nix::sys::prctl::set_name(c"devrun-telemetr");
    runtime::runtime()?.block_on(async {
        let (mut term, mut int) = (signals::receive(SignalKind::terminate())?, signals::receive(SignalKind::interrupt())?);
        let listener = match devrun_keeper::inherited_socket::take() {
            Some(socket) => socket.set_nonblocking(true).and_then(|()| TcpListener::from_std(socket)).map_err(|error| {
                Failure::new(FailureKind::Internal, format!("cannot use the passed socket: {error}")).help("devrun restart")
            })?,
            None => {
                let bound = TcpListener::bind((host, port)).await;
                bound.map_err(|error| port_conflicts::cannot_bind(host, port, &error))?
            }
        };
        let ended = async move {
            tokio::select! {
                _ = term.recv() => {}
                _ = int.recv() => {}
            }
        };
        devrun_telemetry::serve(listener, dir.to_owned(), ended).await.map_err(|error| {
            Failure::new(FailureKind::Config, format!("cannot make {}: {error}", dir.display()))
                .help("check owner and mode of the directory above it, or set another `--state-dir`")
        })
    })?;
    Ok(exit::DONE)
}

/// The newest records, the oldest of them first. Secrets of the stack are masked wherever they stand, and the values of attributes
/// with secret names.
#[must_use]
pub fn recent(places: &Paths, masker: &Masker) -> Vec<TelemetryRecord> {
    // Its files lie among the logs.
    if devrun_logs::read::check_directory(&places.logs()).is_err() {
        return Vec::new();
    }
    let mut records = devrun_telemetry::read_recent(&places.telemetry(), RECENT);
    for record in &mut records {
        mask(record, masker);
    }
    records
}

fn mask(record: &mut TelemetryRecord, masker: &Masker) {
    let text = |text: &mut String| *text = masker.text(text.as_str());
    let attributes = match record {
        TelemetryRecord::Span(span) => {
            text(&mut span.name);
            span.error.iter_mut().for_each(text);
            span.events.iter_mut().for_each(|(_, event)| text(event));
            &mut span.attributes
        }
        TelemetryRecord::Log(log) => {
            text(&mut log.body);
            &mut log.attributes
        }
    };
    for (name, value) in attributes {
        *value = masker.text(&masker.variable(name, value));
    }
}
