//! What a project keeps on disk beside the data of the mode and the instance at hand: neither `df` nor `clean` may pass it over
//! in silence.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use devrun_model::{ByteSize, Launch, VolumeClass};

use crate::app::data::branch_name;
use crate::app::disk_usage;
use crate::app::load::{Project, Read};
use crate::ui::term::say;

/// The directory of named instances in a state directory.
const INSTANCES: &str = "instances";
/// The directory of data in a state directory.
const DATA: &str = "data";
/// The directory of snapshots in a state directory.
const SNAPSHOTS: &str = "snapshots";

/// Data of another mode or instance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OtherData {
    /// `mode prod`, `instance b`.
    pub of: String,
    /// The options that make a command mean it.
    pub options: String,
    /// Where it lies.
    pub path: PathBuf,
}

/// The instances that have a state directory, by name.
#[must_use]
pub fn instances(project: &Project) -> Vec<(String, PathBuf)> {
    let mut found: Vec<(String, PathBuf)> = names(&base(project).join(INSTANCES)).into_iter().collect();
    found.sort();
    found
}

/// The state directory of the usual instance.
fn base(project: &Project) -> PathBuf {
    let state = &project.places.state;
    if project.instance.is_empty() {
        return state.clone();
    }
    state.parent().and_then(Path::parent).unwrap_or(state).to_path_buf()
}

/// Everything of other modes and instances.
#[must_use]
pub fn of(project: &Project, read: &Read) -> Vec<OtherData> {
    let mut found = Vec::new();
    let modes = read.document.modes();
    let mode = read.plan.mode.as_deref();
    let instance = if project.instance.is_empty() { String::new() } else { format!(" --instance {}", project.instance) };
    let used: BTreeSet<&Path> = read.plan.volumes.values().map(|volume| volume.path.as_path()).collect();
    for (name, path) in names(&project.places.data(None)) {
        if modes.contains(&name) && Some(name.as_str()) != mode {
            let options = format!("--mode {name}{instance}");
            found.push(OtherData { of: format!("mode {name}"), options, path });
        } else if mode.is_some() && !modes.contains(&name) && !used.contains(path.as_path()) {
            found.push(OtherData { of: format!("volume {name} without a mode"), options: format!("--mode ''{instance}"), path });
        }
    }
    for (name, path) in instances(project) {
        if name != project.instance {
            found.push(OtherData { of: format!("instance {name}"), options: format!("--instance {name}"), path });
        }
    }
    found.sort_by(|one, other| one.path.cmp(&other.path));
    found
}

/// Whether a deletion of everything keeps data of other modes, instances or branches, or a server's data with a `path` of its own.
/// Snapshots bring the secrets that they were saved with.
#[must_use]
pub fn is_kept(project: &Project, read: &Read) -> bool {
    let in_state = |state: &Path| [state.join(DATA), branch_name::root(state)];
    let others = instances(project).into_iter().filter(|(name, _)| *name != project.instance).map(|(_, state)| state);
    let usual = (!project.instance.is_empty()).then(|| base(project));
    let of_others = others.chain(usual).flat_map(|state| in_state(&state));
    let own = branch_name::root(&project.places.state);
    let modes = of(project, read).into_iter().map(|other| other.path).filter(|path| path.starts_with(project.places.data(None)));
    let servers = read.plan.services.values().filter(|spec| matches!(spec.launch, Launch::Recipe(_)));
    let data = servers.filter_map(|spec| read.plan.volumes.get(spec.data.as_ref()?));
    let placed = data.filter(|volume| volume.placed && volume.class == VolumeClass::Persistent);
    of_others.chain([own]).chain(modes).chain(placed.map(|volume| volume.path.clone())).any(|path| has_file(&path))
}

fn has_file(path: &Path) -> bool {
    let mut entries = fs::read_dir(path).into_iter().flatten().flatten();
    entries.any(|entry| !entry.file_type().is_ok_and(|kind| kind.is_dir()) || has_file(&entry.path()))
}

/// The snapshots of the instance at hand.
fn snapshots(project: &Project) -> Vec<(String, PathBuf)> {
    let saved = names(&project.places.state.join(SNAPSHOTS)).into_iter();
    saved.filter(|(name, _)| !name.starts_with('.')).collect()
}

/// Says what a deletion leaves of other modes and instances, and how to delete that.
pub fn say_kept(project: &Project, read: &Read) {
    for other in of(project, read) {
        let size = ByteSize(disk_usage::size(&other.path));
        say(format!("kept: {size} of {} in {} (devrun {} clean)", other.of, other.path.display(), other.options));
    }
    let backups = project.places.state.join("backups");
    if fs::read_dir(&backups).is_ok_and(|mut entries| entries.next().is_some()) {
        say(format!("kept: {} of backups in {}", ByteSize(disk_usage::size(&backups)), backups.display()));
    }
    let (saved, count) = (project.places.state.join(SNAPSHOTS), snapshots(project).len());
    if count > 0 {
        let (size, plural) = (ByteSize(disk_usage::size(&saved)), if count == 1 { "" } else { "s" });
        say(format!("kept: {size} of {count} snapshot{plural} in {} (devrun snapshot rm NAME)", saved.display()));
    }
    let branches = branch_name::root(&project.places.state);
    let size = disk_usage::size(&branches);
    if size > 0 {
        say(format!("kept: {} of data of git branches in {} (devrun branch rm NAME)", ByteSize(size), branches.display()));
    }
}

/// Says that `clean` leaves the secrets, where what it keeps was made with them.
pub fn say_secrets_kept(project: &Project, read: &Read) {
    if let Ok(wants) = read.required_values()
        && wants.secrets_dir.is_dir()
        && is_kept(project, read)
    {
        say(format!(
            "kept: {}, as data that is kept was made with these secrets (devrun clean --only secrets)",
            wants.secrets_dir.display()
        ));
    }
}

fn names(folder: &Path) -> Vec<(String, PathBuf)> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten().filter(|entry| entry.path().is_dir());
    entries.filter_map(|entry| Some((entry.file_name().into_string().ok()?, entry.path()))).collect()
}
