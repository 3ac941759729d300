//! Where one project's state lies. Only paths: `drivers::runtime_dir` makes and checks the directories.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::name::ServiceId;

/// The directories and files of one instance of one project.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Paths {
    /// The procfile's directory.
    pub root: PathBuf,
    /// `.devrun/`, or wherever `--state-dir` put it; an instance has its own.
    pub state: PathBuf,
    /// Sockets and other short-lived files; 0700 and short, so that no socket path is too long.
    pub run: PathBuf,
}

impl Paths {
    /// Data of volumes without a path of their own.
    #[must_use]
    pub fn data(&self, mode: Option<&str>) -> PathBuf {
        let data = self.state.join("data");
        match mode {
            Some(mode) => data.join(mode),
            None => data,
        }
    }
    /// Log files.
    #[must_use]
    pub fn logs(&self) -> PathBuf {
        self.state.join("logs")
    }
    /// What a receiver of OTLP has kept: traces and structured logs. No service has a name with a dot at its beginning.
    #[must_use]
    pub fn telemetry(&self) -> PathBuf {
        self.logs().join(".telemetry")
    }
    /// The keeper's journal.
    #[must_use]
    pub fn journal(&self) -> PathBuf {
        self.state.join("journal")
    }
    /// The lock that one supervisor holds.
    #[must_use]
    pub fn instance_lock(&self) -> PathBuf {
        self.state.join("lock")
    }
    /// The last published snapshot, for `ps` when nothing runs.
    #[must_use]
    pub fn last_state(&self) -> PathBuf {
        self.state.join("state.json")
    }
    /// Hashes of what was secret in earlier runs.
    #[must_use]
    pub fn masks(&self) -> PathBuf {
        self.state.join("masks.json")
    }
    /// Stops by hand that are remembered.
    #[must_use]
    pub fn intents(&self) -> PathBuf {
        self.state.join("stopped.json")
    }
    /// What the supervisor of `up -d` says.
    #[must_use]
    pub fn supervisor_log(&self) -> PathBuf {
        self.logs().join("devrun.log")
    }
    /// The control socket.
    #[must_use]
    pub fn socket(&self) -> PathBuf {
        self.run.join("control.sock")
    }
    /// Rendered files and sockets of one service; gone at `down`.
    #[must_use]
    pub fn service_run(&self, id: &ServiceId) -> PathBuf {
        self.run.join(id.as_str())
    }
    /// The lock that the processes of one generation of a service inherit.
    #[must_use]
    pub fn alive_lock(&self, id: &ServiceId) -> PathBuf {
        self.run.join(format!("{id}.alive"))
    }
}
