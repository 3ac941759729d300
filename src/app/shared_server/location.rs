//! Where shared servers keep their state, and on which ports they are. Loading a project needs it, so it imports nothing that
//! does.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use devrun_config::{Document, Facts, SharedServer, UserScope};
use devrun_keeper::lock;
use devrun_model::{Failure, FailureKind, ServiceId};
use devrun_runtime::ports::{PortReservations, free_port};
use devrun_runtime::{init, runtime_dir};

use crate::app::project::Project;
use crate::app::user_state;

/// The port that is shown before one has been chosen.
const USUAL_PORT: u16 = 5432;
/// The service that is the server.
pub const SERVER: &str = "server";

/// The directory of all shared servers of this user.
///
/// # Errors
/// `Config` without a home directory.
pub fn root(env: &BTreeMap<String, String>) -> Result<PathBuf, Failure> {
    user_state::directory(env).map(|state| state.join("shared")).ok_or_else(|| {
        Failure::new(FailureKind::Config, "scope = \"user\" needs a state directory of the user, and HOME is not set")
            .help("set HOME or XDG_STATE_HOME")
    })
}

/// The directory of the server that a service shares: one for each recipe and version.
///
/// # Errors
/// As [`root`].
pub fn directory(env: &BTreeMap<String, String>, scope: &UserScope) -> Result<PathBuf, Failure> {
    let version = scope.version.as_ref().map(|version| format!("-{version}")).unwrap_or_default();
    Ok(root(env)?.join(format!("{}{version}", scope.recipe)))
}

/// The shared servers of a project's services. `makes`: a port is chosen where there is none yet.
///
/// # Errors
/// `Config` when the directory cannot be used, `PortTaken` when no port is free.
pub fn of(project: &Project, document: &Document, facts: &Facts, makes: bool) -> Result<BTreeMap<String, SharedServer>, Failure> {
    let mut servers = BTreeMap::new();
    // A stack that is thrown away has a server of its own.
    if runtime_dir::is_ephemeral(&project.places) {
        return Ok(servers);
    }
    let data = facts.data(document.mode());
    for scope in document.user_scopes() {
        let port = port(&directory(&project.env, &scope)?, makes)?;
        let hash = init::hash_inputs(&[data.display().to_string(), scope.service.clone()], &[]);
        let suffix = hash.get(..8).unwrap_or(&hash).to_owned();
        servers.insert(scope.service, SharedServer { port, suffix });
    }
    Ok(servers)
}

fn port(directory: &Path, makes: bool) -> Result<u16, Failure> {
    let file = directory.join("port");
    let known = || fs::read_to_string(&file).ok().and_then(|text| text.trim().parse().ok());
    if let Some(port) = known() {
        return Ok(port);
    }
    if !makes {
        return Ok(USUAL_PORT);
    }
    let _alone = alone(directory)?;
    if let Some(port) = known() {
        return Ok(port);
    }
    let seed = directory.display().to_string();
    let service = ServiceId::parse(SERVER).map_err(|error| Failure::new(FailureKind::Internal, error.to_string()))?;
    let reserved = PortReservations::new(runtime_dir::ports_file()?, directory);
    let port = free_port(&seed, &service, "main", &BTreeSet::new(), &reserved).map_err(|error| {
        Failure::new(FailureKind::PortTaken, format!("no free port for the shared server: {error}"))
            .help("ss -ltn lists the ports in use")
    })?;
    runtime_dir::replace(&file, port.to_string().as_bytes()).map_err(|error| user_state::unusable(&file, &error))?;
    Ok(port)
}

/// Makes the directory and holds its lock: one process at a time changes what lies there.
///
/// # Errors
/// `Config`, naming the file.
pub fn alone(directory: &Path) -> Result<fs::File, Failure> {
    user_state::make_directory(directory, 3)?;
    let path = directory.join("lock");
    let file = lock::open(&path, true).map_err(|error| user_state::unusable(&path, &error))?;
    file.lock().map_err(|error| user_state::unusable(&path, &error))?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_version_has_a_directory_of_its_own() {
        let scope = |version: Option<&str>| UserScope {
            service: "db".to_owned(),
            recipe: "postgres".to_owned(),
            version: version.map(str::to_owned),
            extensions: Vec::new(),
        };
        let env = |pairs: &[(&str, &str)]| pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let home: BTreeMap<String, String> = env(&[("HOME", "/h"), ("XDG_STATE_HOME", "relative")]);
        assert_eq!(directory(&home, &scope(Some("16"))).unwrap(), Path::new("/h/.local/state/devrun/shared/postgres-16"));
        let own: BTreeMap<String, String> = env(&[("HOME", "/h"), ("XDG_STATE_HOME", "/s")]);
        assert_eq!(directory(&own, &scope(None)).unwrap(), Path::new("/s/devrun/shared/postgres"));
        assert_eq!(directory(&BTreeMap::new(), &scope(None)).unwrap_err().kind, FailureKind::Config);
    }
}
