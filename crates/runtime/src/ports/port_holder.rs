//! Who holds a port, as far as it can be known.

/// Who holds a port.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PortHolder {
    /// Its pid, where it can be known.
    pub pid: Option<i32>,
    /// Its command: the program, and for interpreters what they run. Never further words, which may hold secrets.
    pub command: Option<String>,
    /// Its user.
    pub user: Option<String>,
    /// It carries the mark of a devrun stack: the project's directory or name, where it can be known.
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
