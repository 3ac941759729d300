//! Which files the one-time work of a service reads, and their hashes, so that a change can be named.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use devrun_model::{Launch, ServiceSpec};

use super::task_inputs::{self, TaskInputs};
use crate::init;

/// File to the hash of its content.
pub(super) type InputHashes = BTreeMap<PathBuf, String>;

/// The files that one-time work of this service reads: none where nothing is done once.
pub(super) fn input_files(spec: &ServiceSpec, root: &Path) -> TaskInputs {
    match (&spec.launch, &spec.task) {
        // An invalid glob is the start's own failure.
        (_, Some(task)) if task.once.is_some() => task_inputs::find(spec, root).unwrap_or_default(),
        (Launch::Recipe(recipe), _) if spec.data.is_some() => {
            TaskInputs { files: recipe.init.iter().flat_map(|path| listed(path)).collect(), notes: Vec::new() }
        }
        _ => TaskInputs::default(),
    }
}

/// The file, or the files of the directory.
fn listed(path: &Path) -> Vec<PathBuf> {
    match std::fs::read_dir(path) {
        Ok(entries) => entries.flatten().map(|entry| entry.path()).filter(|path| path.is_file()).collect(),
        Err(_) => vec![path.to_owned()],
    }
}

/// Of each of these files.
pub(super) fn hashes(files: Vec<PathBuf>) -> InputHashes {
    // One that cannot be read is reported by the work itself.
    files.into_iter().filter_map(|path| init::hash_start_of_file(&path).ok().map(|hash| (path, hash))).collect()
}

/// Names of files that differ, came or went.
pub(super) fn changed(before: &InputHashes, now: &InputHashes) -> Vec<String> {
    let all: std::collections::BTreeSet<&PathBuf> = before.keys().chain(now.keys()).collect();
    all.into_iter().filter(|path| before.get(*path) != now.get(*path)).map(|path| path.display().to_string()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_differs_came_or_went_is_named() {
        let hashes = |list: &[(&str, &str)]| -> InputHashes {
            list.iter().map(|(path, hash)| (PathBuf::from(path), (*hash).to_owned())).collect()
        };
        let before = hashes(&[("a", "1"), ("b", "1"), ("c", "1")]);
        assert_eq!(changed(&before, &before), Vec::<String>::new());
        assert_eq!(changed(&before, &hashes(&[("a", "1"), ("b", "2"), ("d", "1")])), ["b", "c", "d"]);
    }
}
