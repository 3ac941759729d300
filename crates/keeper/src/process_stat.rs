//! What is known of a process that exists at this moment, whichever system tells it.

/// The variable by which a process shows whose run it belongs to.
pub const RUN_MARK: &str = "DEVRUN_RUN_ID";
/// The variable that names its service.
pub const SERVICE_MARK: &str = "DEVRUN_SERVICE";
/// The variable that numbers its copy.
pub const REPLICA_MARK: &str = "DEVRUN_REPLICA";

/// What the system says of one process, as far as it is needed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stat {
    /// The number.
    pub pid: i32,
    /// The command name, at most 15 bytes.
    pub comm: String,
    /// `R S D T Z X …`, as in proc(5).
    pub state: u8,
    /// The parent.
    pub ppid: i32,
    /// The process group.
    pub pgrp: i32,
    /// The session.
    pub session: i32,
    /// Whether it is a thread of the kernel's.
    pub kernel: bool,
    /// How many threads it has.
    pub threads: u32,
    /// Start time: on Linux in ticks since boot, on macOS in microseconds since 1970.
    pub start: u64,
}

impl Stat {
    /// Neither a zombie nor gone. A process whose first thread has ended looks like a zombie while its other threads run.
    #[must_use]
    pub fn lives(&self) -> bool {
        match self.state {
            b'Z' => self.threads > 1,
            state => !matches!(state, b'X' | b'x'),
        }
    }
}

/// Our variables in a process's environment.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Marks {
    /// `DEVRUN_RUN_ID`.
    pub run: String,
    /// `DEVRUN_SERVICE`.
    pub service: String,
    /// `DEVRUN_REPLICA`.
    pub replica: String,
}

impl Marks {
    /// The marks among the entries of an environment, `NAME=VALUE` each; `None` where no run is among them.
    #[must_use]
    pub fn of<'a>(environment: impl Iterator<Item = &'a [u8]>) -> Option<Self> {
        let mut marks = Self::default();
        for entry in environment.filter(|entry| entry.starts_with(b"DEVRUN_")) {
            let Ok(entry) = std::str::from_utf8(entry) else { continue };
            match entry.split_once('=') {
                Some((RUN_MARK, value)) => value.clone_into(&mut marks.run),
                Some((SERVICE_MARK, value)) => value.clone_into(&mut marks.service),
                Some((REPLICA_MARK, value)) => value.clone_into(&mut marks.replica),
                _ => {}
            }
        }
        (!marks.run.is_empty()).then_some(marks)
    }
}

/// The value of one variable, among the entries of an environment.
#[must_use]
pub(super) fn variable_among<'a>(mut environment: impl Iterator<Item = &'a [u8]>, name: &str) -> Option<String> {
    let value = |entry: &'a [u8]| entry.strip_prefix(name.as_bytes())?.strip_prefix(b"=");
    environment.find_map(value).and_then(|value| String::from_utf8(value.to_vec()).ok())
}

/// What tells a process that works from one that is stuck.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Activity {
    /// `R S D T …`, see proc(5).
    pub state: u8,
    /// How often it has been on a processor.
    pub switches: u64,
}

/// What one process has used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Usage {
    /// Milliseconds on a CPU since it began.
    pub cpu_ms: u64,
    /// Bytes in memory; its share of what it shares with others, where the kernel says that.
    pub memory: u64,
    /// Bytes read from disks.
    pub read: u64,
    /// Bytes written to disks.
    pub written: u64,
}
