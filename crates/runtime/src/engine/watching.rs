//! `watch`: which services are restarted when which files change. The driver looks, the core decides.

use crate::watch::{Subject, Watcher};
use devrun_core::Event;
use devrun_model::ServiceId;

use super::run::{Engine, Inner};

impl Engine {
    /// Looks at the files that the plan in force names; called whenever that plan is another one.
    pub(super) fn watch_files(&mut self) {
        let subjects: Vec<Subject> = self
            .plan
            .services
            .values()
            .filter(|spec| !spec.watch.is_empty())
            .map(|spec| Subject { id: spec.id.clone(), globs: spec.watch.clone() })
            .collect();
        if self.watcher.as_ref().map_or(&[][..], Watcher::subjects) == subjects.as_slice() {
            return;
        }
        self.watcher = None;
        let Some(first) = subjects.first().map(|subject| subject.id.clone()) else { return };
        let inner = self.inner.clone();
        let changed = move |id: ServiceId, path: String| {
            let _ended = inner.send(Inner::FileChanged(id, path));
        };
        // Our own files never count, whatever a glob says.
        let own = vec![self.places.state.clone(), self.places.run.clone(), self.plan.root.join(".devrun")];
        match Watcher::start(&self.plan.root, subjects, own, changed) {
            Ok(watcher) => {
                for (id, text) in watcher.notes() {
                    self.say_soon(id.clone(), text.clone());
                }
                self.watcher = Some(watcher);
            }
            Err(failure) => {
                let help = failure.help.map(|help| format!(" ({help})")).unwrap_or_default();
                self.say_soon(first, format!("watch is not in effect: {}{help}", failure.reason));
            }
        }
    }

    pub(super) fn file_changed(&mut self, id: ServiceId, path: String) {
        self.queue.push_back(Event::FileChanged(id, path));
    }

    fn say_soon(&self, id: ServiceId, text: String) {
        let _ended = self.inner.send(Inner::Said(id, text));
    }
}
