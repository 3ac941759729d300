//! Input files of one-time work that change while its result is in use: init scripts of a database that runs, inputs of a task
//! that is done. Such a change has no effect by itself, so every `up` says which file it was; a start says so on its own.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use devrun_model::feed::FeedItem;
use devrun_model::{Launch, OnChange, ServiceId, ServiceSpec, State};

use super::event_loop::Engine;
use super::task_inputs::{self, TaskInputs};
use crate::init;

/// File to the hash of its content.
pub(super) type InputHashes = BTreeMap<PathBuf, String>;

/// The files that one-time work of this service reads: none where nothing is done once.
fn input_files(spec: &ServiceSpec, root: &Path) -> TaskInputs {
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

fn hashes(files: Vec<PathBuf>) -> InputHashes {
    // One that cannot be read is reported by the work itself.
    files.into_iter().filter_map(|path| init::hash_start_of_file(&path).ok().map(|hash| (path, hash))).collect()
}

/// Names of files that differ, came or went.
fn changed(before: &InputHashes, now: &InputHashes) -> Vec<String> {
    let all: std::collections::BTreeSet<&PathBuf> = before.keys().chain(now.keys()).collect();
    all.into_iter().filter(|path| before.get(*path) != now.get(*path)).map(|path| path.display().to_string()).collect()
}

impl Engine {
    /// What the work of a start that begins reads.
    pub(super) fn remember_inputs(&mut self, spec: &ServiceSpec) {
        let found = input_files(spec, &self.plan.root);
        for note in found.notes {
            self.publish(FeedItem::Said { id: spec.id.clone(), text: format!("warning: {note}") });
        }
        let now = hashes(found.files);
        if now.is_empty() {
            self.inputs.remove(&spec.id);
        } else {
            self.inputs.insert(spec.id.clone(), now);
        }
    }

    /// Says what changed since, of services that stay as they are.
    pub(super) fn report_changed_inputs(&mut self) {
        let in_use: Vec<ServiceId> = self
            .core
            .service_views()
            .into_iter()
            .filter(|view| matches!(view.state, State::Running | State::Completed))
            .map(|view| view.id)
            .collect();
        for id in in_use {
            let (Some(before), Some(spec)) = (self.inputs.get(&id), self.plan.services.get(&id)) else { continue };
            let files = changed(before, &hashes(input_files(spec, &self.plan.root).files));
            if files.is_empty() {
                continue;
            }
            let advice = match (&spec.task, &spec.data) {
                (Some(task), _) if task.on_change == OnChange::Rerun => {
                    "it runs again with the next start of the stack".to_owned()
                }
                (Some(_), _) => format!("it is done already: `devrun task {id} --force` runs it again"),
                (None, Some(volume)) => {
                    format!("it acts on an empty volume only: `devrun clean --only {volume}` empties it, with all data")
                }
                (None, None) => continue,
            };
            let text = format!("warning: {} changed while {id} was in use; {advice}", files.join(", "));
            self.publish(FeedItem::Said { id, text });
        }
    }
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
