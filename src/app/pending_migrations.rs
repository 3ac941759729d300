//! Migrations that are pending in databases that run: they are applied when such a database starts, so that a second `up`, which
//! leaves it running, names them and the command that applies them.

use std::path::Path;
use std::time::Duration;

use devrun_model::{Launch, Plan, ServiceId, ServiceSpec};
use devrun_runtime::recipes;

/// One that holds a lock on the table of the migrations, as a migration may, is not waited for.
const ANSWER_LIMIT: Duration = Duration::from_secs(2);

/// A line for each database that runs and has migrations to apply. One that cannot be asked is reported elsewhere.
pub async fn lines(plan: &Plan, is_running: impl Fn(&ServiceId) -> bool) -> Vec<String> {
    let mut lines = Vec::new();
    for spec in plan.services.values().filter(|spec| is_running(&spec.id)) {
        let Launch::Recipe(recipe) = &spec.launch else { continue };
        if let Some(folder) = &recipe.migrations {
            lines.extend(line(spec, folder, plan).await);
        }
    }
    lines
}

async fn line(spec: &ServiceSpec, folder: &Path, plan: &Plan) -> Option<String> {
    let volume = spec.data.as_ref().and_then(|name| plan.volumes.get(name));
    let all = tokio::time::timeout(ANSWER_LIMIT, recipes::unseen_migrations(spec, folder, volume)).await.ok()?.ok()?;
    let name = &spec.service;
    if let Some(changed) = all.iter().find(|migration| migration.changed) {
        let reason = format!("migration {} was changed after it had been applied", changed.name);
        return Some(format!("warning: {name}: {reason}; the next start of {name} fails: devrun migrate --status"));
    }
    let pending: Vec<&str> =
        all.iter().filter(|migration| migration.applied.is_none()).map(|migration| migration.name.as_str()).collect();
    match pending.as_slice() {
        [] => None,
        [one] => Some(format!("{name}: migration {one} is pending: devrun migrate {name} applies it")),
        [first, rest @ ..] => Some(format!(
            "{name}: {} migrations are pending, from {first} on: devrun migrate {name} applies them",
            rest.len() + 1
        )),
    }
}
