//! The client program of a server: next to the server's own binary, else on PATH.

use std::collections::BTreeMap;

use devrun_model::{Failure, FailureKind, Launch, ServiceSpec};

use crate::app::load::{self, Project};

/// Its path and the variables that it needs.
///
/// # Errors
/// `Binary`, with a way to get it.
pub async fn find(project: &Project, spec: &ServiceSpec, name: &str) -> Result<(String, BTreeMap<String, String>), Failure> {
    if let Launch::Recipe(recipe) = &spec.launch {
        let options = load::fetch_options(project, true, None, std::sync::Arc::new(devrun_store::NoDownloadProgress));
        if let Ok(located) = devrun_store::which(recipe, &options).await
            && let Some(path) = located.tools.get(name)
        {
            return Ok((path.display().to_string(), located.env));
        }
    }
    let path = load::environment().get("PATH").cloned().unwrap_or_default();
    if std::env::split_paths(&path).any(|folder| folder.join(name).is_file()) {
        return Ok((name.to_owned(), BTreeMap::new()));
    }
    let failure = Failure::new(FailureKind::Binary, format!("cannot find {name}, neither with {} nor on PATH", spec.id));
    Err(failure.help(match name {
        "psql" => "devrun sql 'SELECT 1' needs no client; or: apt-get install postgresql-client",
        "pg_dump" | "pg_restore" => "apt-get install postgresql-client",
        "mariadb" | "mariadb-dump" => "apt-get install mariadb-client",
        _ => "apt-get install redis-tools",
    }))
}
