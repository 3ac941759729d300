//! The record of a task in a volume, as it stands in its file.

use std::io::{ErrorKind, Read as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::durable::failed;
use devrun_model::{Failure, FailureKind};

/// The layout of the records; another number is another program's.
pub(super) const SCHEMA: u32 = 1;

/// An intent, or a sentinel.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct TaskRecord {
    /// [`SCHEMA`].
    pub devrun: u32,
    /// `intent` or `done`.
    pub record: String,
    /// The random mark of this run.
    pub run: String,
    /// The identity of the volume's data; other data, and the record speaks of something that is gone.
    pub volume: String,
    /// The hash of the inputs.
    pub inputs: String,
    /// When it began, or ended.
    pub at: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub took_ms: Option<u64>,
}

/// Whether a file is a record of ours, so that a volume that holds nothing else is still an empty one.
pub(super) fn is_record(path: &Path) -> bool {
    matches!(load(path), Ok(Some(_)))
}

/// Reads a record; `None`: there is no file.
pub(super) fn load(path: &Path) -> Result<Option<TaskRecord>, Failure> {
    // NONBLOCK, as a pipe in the place of the file would hold us up for ever.
    let flags = libc::O_NOFOLLOW | libc::O_NONBLOCK;
    let file = match std::fs::OpenOptions::new().read(true).custom_flags(flags).open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed("read", path, error)),
    };
    let mut text = String::new();
    let read = file.take(64 * 1024).read_to_string(&mut text);
    let record = match read {
        Ok(_) => serde_json::from_str::<TaskRecord>(&text).map_err(|error| error.to_string()),
        Err(error) => Err(error.to_string()),
    };
    match record {
        Ok(record) if record.devrun == SCHEMA => Ok(Some(record)),
        Ok(record) => Err(foreign(path, &format!("schema {}", record.devrun))),
        Err(error) => Err(foreign(path, &error)),
    }
}

fn foreign(path: &Path, why: &str) -> Failure {
    Failure::new(FailureKind::Task, format!("{} is no record that can be read ({why})", path.display()))
        .help("devrun task resolve NAME --done|--rerun")
}
