//! Which volumes a command means, and what made the data in them.

use devrun_data::{DataEngine, SnapshotService, SnapshotVolume};
use devrun_model::{Failure, FailureKind, Launch, Plan, ServiceSpec, VolumeClass, VolumeSpec};
use devrun_runtime::init;

use crate::app::deletion;
use crate::app::load::{self, Project};

/// The volumes of the named services, or all: persistent ones and caches, in the order of their names. Sources are the user's
/// own files, and scratch volumes do not outlive a stop.
///
/// # Errors
/// `Config` for an unknown service, or one without a volume.
pub fn volumes<'a>(plan: &'a Plan, services: &[String]) -> Result<Vec<&'a VolumeSpec>, Failure> {
    let kept = |volume: &&VolumeSpec| matches!(volume.class, VolumeClass::Persistent | VolumeClass::Cache);
    if services.is_empty() {
        return Ok(plan.volumes.values().filter(kept).collect());
    }
    let mut found: Vec<&VolumeSpec> = Vec::new();
    for name in services {
        let ids = load::resolve(plan, std::slice::from_ref(name))?;
        let before = found.len();
        let specs = ids.iter().filter_map(|id| plan.services.get(id));
        let names = specs.flat_map(|spec| spec.data.iter().chain(&spec.volumes));
        found.extend(names.filter_map(|name| plan.volumes.get(name)).filter(kept));
        if found.len() == before {
            return Err(Failure::new(FailureKind::Config, format!("{name} has no volume that is kept")).help("devrun volumes"));
        }
    }
    found.sort_by(|one, other| one.name.cmp(&other.name));
    found.dedup_by(|one, other| one.name == other.name);
    Ok(found)
}

/// Whether there is anything in it.
#[must_use]
pub fn holds_data(volume: &VolumeSpec) -> bool {
    std::fs::read_dir(&volume.path).is_ok_and(|mut entries| entries.next().is_some())
}

/// Whether a directory has an entry that is not left out. One that does not exist has none.
///
/// # Errors
/// `Task` when it cannot be read.
pub fn has_entries(path: &std::path::Path, left_out: &dyn Fn(&std::ffi::OsStr) -> bool) -> Result<bool, Failure> {
    match std::fs::read_dir(path) {
        Ok(mut entries) => Ok(entries.any(|entry| entry.is_ok_and(|entry| !left_out(&entry.file_name())))),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(Failure::new(FailureKind::Task, format!("cannot read {}: {error}", path.display()))),
    }
}

/// The service whose main volume this is, with its recipe's name.
pub fn owner<'a>(plan: &'a Plan, volume: &VolumeSpec) -> Option<(&'a ServiceSpec, &'a str)> {
    plan.services.values().find_map(|spec| match &spec.launch {
        Launch::Recipe(recipe) if spec.data.as_ref() == Some(&volume.name) => Some((spec.as_ref(), recipe.recipe.name.as_str())),
        _ => None,
    })
}

/// What made the data, as its sentinel says.
#[must_use]
pub fn engine(plan: &Plan, volume: &VolumeSpec) -> Option<DataEngine> {
    let (_, recipe) = owner(plan, volume)?;
    let sentinel = init::sentinel(&volume.path, recipe)?;
    Some(DataEngine { recipe: recipe.to_owned(), version: sentinel.tool })
}

/// The row of a volume in a manifest.
#[must_use]
pub fn described(plan: &Plan, volume: &VolumeSpec, files: u64, bytes: u64) -> SnapshotVolume {
    let class = deletion::word(volume.class).to_owned();
    SnapshotVolume { name: volume.name.to_string(), class, engine: engine(plan, volume), files, bytes }
}

/// The services of a plan as a manifest lists them.
#[must_use]
pub fn services(plan: &Plan, snapshot: &devrun_model::Snapshot) -> Vec<SnapshotService> {
    let version = |spec: &ServiceSpec| {
        let status = snapshot.services.iter().find(|status| status.name == spec.id.as_str());
        status.and_then(|status| status.version.clone())
    };
    let recipe = |spec: &ServiceSpec| match &spec.launch {
        Launch::Recipe(recipe) => Some(recipe.recipe.name.clone()),
        _ => None,
    };
    plan.services
        .values()
        .filter(|spec| spec.task.is_none())
        .map(|spec| SnapshotService { name: spec.id.to_string(), recipe: recipe(spec), version: version(spec) })
        .collect()
}

/// Data of a server can be read by its own major version only.
///
/// # Errors
/// `Binary`, with the version that would do. `what` holds the data: `snapshot one`.
pub fn same_major(project: &Project, plan: &Plan, volume: &VolumeSpec, engine: &DataEngine, what: &str) -> Result<(), Failure> {
    fits(project, plan, volume, engine, what, |now, made| now == made)
}

/// A dump can be loaded by the version that made it and by later ones.
///
/// # Errors
/// As [`same_major`].
pub fn not_older(project: &Project, plan: &Plan, volume: &VolumeSpec, engine: &DataEngine, what: &str) -> Result<(), Failure> {
    let numbers = |version: &str| version.split('.').map(|part| part.parse::<u32>().unwrap_or(0)).collect::<Vec<_>>();
    fits(project, plan, volume, engine, what, |now, made| numbers(now) >= numbers(made))
}

fn fits(
    project: &Project,
    plan: &Plan,
    volume: &VolumeSpec,
    engine: &DataEngine,
    what: &str,
    accepts: impl Fn(&str, &str) -> bool,
) -> Result<(), Failure> {
    let Some((spec, recipe)) = owner(plan, volume) else { return Ok(()) };
    let refused = |reason: String| {
        Failure::new(FailureKind::Binary, format!("{what}: {reason}")).help(format!(
            "[services.{}] use = \"{}@{}\"; or load a dump of it: devrun backup {}, with that version",
            spec.service,
            engine.recipe,
            DataEngine::major(&engine.version),
            spec.service
        ))
    };
    if recipe != engine.recipe {
        return Err(refused(format!(
            "volume {} holds data of {}, and {} is {recipe} now",
            volume.name, engine.recipe, spec.service
        )));
    }
    let Launch::Recipe(used) = &spec.launch else { return Ok(()) };
    let options = load::fetch_options(project, true, None, std::sync::Arc::new(devrun_store::NoDownloadProgress));
    // A server that is not available cannot start either, and says so then; what the procfile asks for is known all the same.
    let now = crate::app::runtime::runtime()?
        .block_on(devrun_store::which(used, &options))
        .map(|located| located.version)
        .ok()
        // One that does not say it is taken as what is asked for.
        .filter(|version| !version.is_empty())
        .or_else(|| used.version.clone());
    match now {
        Some(now) if !accepts(DataEngine::major(&now), DataEngine::major(&engine.version)) => Err(refused(format!(
            "the data of {} were made by {} {}, and {} is {now} now",
            volume.name, engine.recipe, engine.version, spec.service
        ))),
        _ => Ok(()),
    }
}
