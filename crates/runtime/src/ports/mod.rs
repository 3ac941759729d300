//! Ports: is one free, who holds it, and a free one on request, set aside for the stack that asked.
//!
//! Owns the three questions a supervisor asks about TCP ports. It never scans `/proc/net`: the kernel is asked once, over
//! `sock_diag` (`diag`), and the answer's socket numbers are matched against the descriptors of the service's own tree
//! first (`owner`); the rest of `/proc` is looked at only on suspicion, to name a stranger. It does not decide
//! what a taken port means; callers get who holds it and a failure that says so.

#[cfg(target_os = "linux")]
mod diag;
mod free;
#[cfg(target_os = "linux")]
mod inspect;
mod owner;
#[expect(unsafe_code, reason = "a question that neither std nor nix can ask")]
mod reserve;
#[cfg(not(target_os = "linux"))]
mod unsupported_query;

#[cfg(target_os = "linux")]
pub use diag::ListenerQuery;
#[cfg(target_os = "linux")]
#[doc(hidden)]
pub use diag::fuzz;
pub use free::{PortConflict, check, check_free, first_unprivileged, free_port, way_out};
pub use owner::{PortOwner, holder, led, listening, owner};
pub use reserve::PortReservations;
#[cfg(not(target_os = "linux"))]
pub use unsupported_query::UnsupportedListenerQuery as ListenerQuery;

/// Who holds a port.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PortHolder {
    /// Its pid, where it can be known.
    pub pid: Option<i32>,
    /// Its command: the program, and for interpreters what they run. Never further words, which may hold secrets.
    pub command: Option<String>,
    /// Its user.
    pub user: Option<String>,
    /// It carries the mark of a devrun stack: the project's folder or name, where it can be known.
    pub project: Option<String>,
}

impl std::fmt::Display for PortHolder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match (&self.pid, &self.command, &self.user) {
            (Some(pid), Some(command), _) => write!(f, "{command} (pid {pid})")?,
            (Some(pid), None, _) => write!(f, "pid {pid}")?,
            (None, Some(command), _) => f.write_str(command)?,
            (None, None, Some(user)) => write!(f, "a process of user {user}")?,
            (None, None, None) => f.write_str("a process that cannot be named")?,
        }
        match &self.project {
            Some(project) => write!(f, " of devrun project {project}"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_holder_is_named_as_well_as_it_is_known() {
        let mut holder = PortHolder { pid: Some(812), command: Some("postgres".to_owned()), ..PortHolder::default() };
        assert_eq!(holder.to_string(), "postgres (pid 812)");
        holder.project = Some("shop".to_owned());
        assert_eq!(holder.to_string(), "postgres (pid 812) of devrun project shop");
        assert_eq!(PortHolder { user: Some("redis".to_owned()), ..PortHolder::default() }.to_string(), "a process of user redis");
        assert_eq!(PortHolder::default().to_string(), "a process that cannot be named");
    }
}
