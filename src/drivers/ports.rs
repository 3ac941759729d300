//! Ports: is one free, who holds it, and a free one on request.

use crate::model::ServiceId;

/// Who holds a port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holder {
    /// Its pid, where it can be known.
    pub pid: Option<i32>,
    /// Its command line, shortened.
    pub command: Option<String>,
    /// Its user.
    pub user: Option<String>,
    /// It carries the mark of a devrun stack: the project's folder or name, where it can be known.
    pub project: Option<String>,
}

impl std::fmt::Display for Holder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match (&self.pid, &self.command) {
            (Some(pid), Some(command)) => write!(f, "{command} (pid {pid})"),
            (Some(pid), None) => write!(f, "pid {pid}"),
            _ => f.write_str("a process that cannot be named"),
        }
    }
}

/// Tries to listen on it. `Err` names the holder.
///
/// # Errors
/// Somebody else listens, or the port may not be bound by us (below 1024).
pub fn check_free(_bind: &str, _port: u16) -> Result<(), Holder> {
    unimplemented!()
}

/// Whether a listener on `port` belongs to the tree of `leader`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Owner {
    /// To the tree.
    Ours,
    /// Positively to somebody else.
    Stranger(Holder),
    /// It cannot be known; why.
    Unknown(String),
}

/// One netlink query, then the descriptors of the tree; other processes are looked at only on suspicion.
#[must_use]
pub fn owner(_leader: i32, _run: &str, _host: &str, _port: u16) -> Owner {
    unimplemented!()
}

/// A free loopback port for a service: the same one for the same checkout as long as it stays free.
///
/// # Errors
/// When none is to be had.
pub fn free_port(
    _seed: &str,
    _service: &ServiceId,
    _name: &str,
    _taken: &std::collections::BTreeSet<u16>,
) -> Result<u16, String> {
    unimplemented!()
}
