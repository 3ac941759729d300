//! `--debug` and `DEVRUN_LOG`: what the engine, the keeper's handle and probes trace, a line each on stderr; a detached supervisor
//! has its log there. Secrets are masked in the finished line, whatever part of it they are in.

use std::io::Write;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::time::Uptime;

use crate::globals::Globals;
use crate::ui::term::say;
use devrun_model::{Failure, FailureKind};
use devrun_runtime::trace_masks;

use super::debug_output;

/// What `--debug` shows.
const DEBUG_FILTER: &str = "devrun=debug";

/// Begins to write the trace, where it was asked for.
///
/// # Errors
/// `Config` when `DEVRUN_LOG` is not a filter.
pub fn start(globals: &Globals) -> Result<(), Failure> {
    let (words, is_set) = match std::env::var("DEVRUN_LOG") {
        Ok(words) if !words.is_empty() => (words, true),
        _ => (DEBUG_FILTER.to_owned(), false),
    };
    if !is_set && !debug_output::is_requested(globals) {
        return Ok(());
    }
    let filter = EnvFilter::try_new(&words).map_err(|error| {
        Failure::new(FailureKind::Config, format!("invalid DEVRUN_LOG {words:?}: {error}")).help("DEVRUN_LOG=devrun=debug")
    })?;
    let subscriber = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(false)
        .with_timer(Uptime::default())
        .with_writer(|| MaskedLines)
        .finish();
    tracing::subscriber::set_global_default(subscriber)
        .map_err(|error| Failure::new(FailureKind::Internal, format!("the trace cannot be written: {error}")))
}

/// Takes one event a call.
struct MaskedLines;

impl Write for MaskedLines {
    fn write(&mut self, event: &[u8]) -> std::io::Result<usize> {
        say(trace_masks::masked(String::from_utf8_lossy(event).trim_end()));
        Ok(event.len())
    }
    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}
