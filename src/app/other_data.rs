//! What a project keeps on disk beside the data of the mode and the instance at hand: neither `df` nor `clean` may pass it over
//! in silence.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use devrun_model::ByteSize;

use crate::app::data::branch_name;
use crate::app::deletion;
use crate::app::load::{Project, Read};
use crate::ui::term::say;

/// The directory of named instances in a state directory.
const INSTANCES: &str = "instances";

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

/// Says what a deletion leaves of other modes and instances, and how to delete that.
pub fn say_kept(project: &Project, read: &Read) {
    for other in of(project, read) {
        let size = ByteSize(deletion::size(&other.path));
        say(format!("kept: {size} of {} in {} (devrun {} clean)", other.of, other.path.display(), other.options));
    }
    let backups = project.places.state.join("backups");
    if fs::read_dir(&backups).is_ok_and(|mut entries| entries.next().is_some()) {
        say(format!("kept: {} of backups in {}", ByteSize(deletion::size(&backups)), backups.display()));
    }
    let saved = project.places.state.join("snapshots");
    let count = names(&saved).into_iter().filter(|(name, _)| !name.starts_with('.')).count();
    if count > 0 {
        let (size, plural) = (ByteSize(deletion::size(&saved)), if count == 1 { "" } else { "s" });
        say(format!("kept: {size} of {count} snapshot{plural} in {} (devrun snapshot rm NAME)", saved.display()));
    }
    let branches = branch_name::root(&project.places.state);
    let size = deletion::size(&branches);
    if size > 0 {
        say(format!("kept: {} of data of git branches in {} (devrun branch rm NAME)", ByteSize(size), branches.display()));
    }
}

fn names(folder: &Path) -> Vec<(String, PathBuf)> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten().filter(|entry| entry.path().is_dir());
    entries.filter_map(|entry| Some((entry.file_name().into_string().ok()?, entry.path()))).collect()
}
