//! `watch`: which services are restarted when which files change. The driver looks, the core decides.

use crate::watch::{FileWatcher, WatchReport, WatchedFiles};
use devrun_core::Event;
use devrun_model::ServiceId;

use super::engine_state::Engine;
use super::task_result::TaskResult;

impl Engine {
    /// Looks at the files that the plan in force names; called whenever that plan is another one.
    pub(super) fn watch_files(&mut self) {
        let subjects: Vec<WatchedFiles> = self
            .plan
            .services
            .values()
            .filter(|spec| !spec.watch.is_empty())
            .map(|spec| WatchedFiles { id: spec.id.clone(), globs: spec.watch.clone() })
            .collect();
        if self.watcher.as_ref().map_or(&[][..], FileWatcher::subjects) == subjects.as_slice() {
            return;
        }
        self.watcher = None;
        let Some(first) = subjects.first().map(|subject| subject.id.clone()) else { return };
        let task_results = self.task_results.clone();
        let report = move |report: WatchReport| {
            let _ended = task_results.send(match report {
                WatchReport::Changed(id, path) => TaskResult::FileChanged(id, path),
                WatchReport::Note(id, text) => TaskResult::Said(id, text),
            });
        };
        // Our own files never count, whatever a glob says.
        let own = vec![self.places.state.clone(), self.places.run.clone(), self.plan.root.join(".devrun")];
        match FileWatcher::start(&self.plan.root, subjects, own, report) {
            Ok(watcher) => {
                for (id, text) in watcher.notes() {
                    self.queue_message(id.clone(), text.clone());
                }
                self.watcher = Some(watcher);
            }
            Err(failure) => {
                let help = failure.help.map(|help| format!(" ({help})")).unwrap_or_default();
                self.queue_message(first, format!("watch is not in effect: {}{help}", failure.reason));
            }
        }
    }

    pub(super) fn file_changed(&mut self, id: ServiceId, path: String) {
        self.queue.push_back(Event::FileChanged(id, path));
    }

    fn queue_message(&self, id: ServiceId, text: String) {
        let _ended = self.task_results.send(TaskResult::Said(id, text));
    }
}
