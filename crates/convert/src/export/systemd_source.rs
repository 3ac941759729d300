//! What units of systemd are made from: the project's places and the command that runs it.

use std::path::PathBuf;
use std::time::Duration;

use super::Loss;

/// What the unit is made of.
#[derive(Debug, Clone)]
pub struct SystemdSource {
    /// The project's name.
    pub project: String,
    /// Its directory.
    pub root: PathBuf,
    /// The program and the options that every command of the stack has.
    pub command: Vec<String>,
    /// Variables that the procfile takes from the caller's shell, and `PATH`.
    pub environment: Vec<(String, String)>,
    /// Variables of the shell that must not stand in a unit.
    pub secret_variables: Vec<String>,
    /// How long a start may take.
    pub start: Duration,
    /// How long a stop may take.
    pub stop: Duration,
    /// What the stack writes: its directory, and volumes and state that lie elsewhere.
    pub writable: Vec<PathBuf>,
    /// For the system's manager, not that of a user.
    pub is_system: bool,
}

/// A line for each variable that must not stand in a unit.
pub(crate) fn secret_losses(source: &SystemdSource) -> Vec<Loss> {
    let loss = |name: &String| Loss {
        key: format!("${{{name}}}"),
        reason: "it is taken from this shell, and a unit can be read by everybody; put it into an env file".to_owned(),
    };
    source.secret_variables.iter().map(loss).collect()
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A stack to export.
    pub(in super::super) fn source(is_system: bool) -> SystemdSource {
        SystemdSource {
            project: "shop".to_owned(),
            root: "/srv/my shop".into(),
            command: ["/usr/bin/devrun", "-C", "/srv/my shop"].map(str::to_owned).into(),
            environment: vec![("PATH".to_owned(), "/usr/bin:/bin".to_owned())],
            secret_variables: Vec::new(),
            start: Duration::from_secs(600),
            stop: Duration::from_secs(30),
            writable: vec!["/srv/my shop".into()],
            is_system,
        }
    }
}
