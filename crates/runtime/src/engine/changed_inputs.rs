//! Input files of one-time work that change while its result is in use: init scripts of a database that runs, inputs of a task
//! that is done. Such a change has no effect by itself, so every `up` says which file it was; a start says so on its own.

use std::path::PathBuf;

use devrun_model::feed::FeedItem;
use devrun_model::{Launch, OnChange, ServiceId, ServiceSpec, State};

use super::engine_state::Engine;
use super::input_hashes::{changed, hashes, input_files};

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
            // Other files are named: no file has changed, and the restart by the new definition has its own words for it.
            if self.core.spec(&id).is_some_and(|running| init_files(running) != init_files(spec)) {
                continue;
            }
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

fn init_files(spec: &ServiceSpec) -> &[PathBuf] {
    match &spec.launch {
        Launch::Recipe(recipe) => &recipe.init,
        _ => &[],
    }
}
