//! Requests that come through the handle: commands become events of the core, questions are answered at once.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;

use crate::trace_masks;
use devrun_core::Event;
use devrun_model::feed::{FeedItem, Status};
use devrun_model::mask::Masker;
use devrun_model::{Command, ServiceId};

use super::engine_state::Engine;
use super::handle::EngineRequest;

/// A viewer that is this far behind is dropped.
const FEED_BACKLOG: usize = 65_536;

/// Names in the line about services that keep running without what they depend on.
const NAMED_DEPENDENTS: usize = 8;

impl Engine {
    pub(super) fn on_request(&mut self, request: EngineRequest) {
        match request {
            EngineRequest::Command { token, command } => {
                if let Command::Up { plan: Some(plan), .. }
                | Command::Start { plan: Some(plan), .. }
                | Command::Restart { plan: Some(plan), .. }
                | Command::Scale { plan, .. }
                | Command::RotateSecret { plan, .. } = &command
                {
                    self.plan = Arc::clone(plan);
                    self.remember_copy_names();
                    self.masker = Masker::new(plan, false);
                    trace_masks::set(plan);
                    self.remember_masks();
                }
                if matches!(
                    command,
                    Command::Up { .. }
                        | Command::Start { .. }
                        | Command::Restart { .. }
                        | Command::Scale { .. }
                        | Command::RotateSecret { .. }
                ) {
                    self.settled = None;
                    self.starts.push_back(token);
                    // Not before a start is asked for: what there is to say about it would find no viewer.
                    self.watch_files();
                }
                if let Command::Up { options, .. } = &command
                    && options.build
                {
                    let built = self.plan.services.values().filter(|spec| spec.build.is_some());
                    self.to_build.extend(built.map(|spec| spec.id.clone()));
                    self.builds.begin_round();
                }
                if let Command::Down { grace_ms: Some(limit) } = command {
                    self.max_grace = Some(Duration::from_millis(limit));
                }
                self.publish(FeedItem::Accepted { token });
                match &command {
                    Command::Up { .. } => self.report_changed_inputs(),
                    Command::Stop { targets, .. } => self.report_dependents_left(targets),
                    _ => {}
                }
                self.queue.push_back(Event::Command(command));
            }
            EngineRequest::Interrupt => self.queue.push_back(Event::Interrupted),
            EngineRequest::Hold => {
                self.held = true;
                self.subscription = Some(self.add_subscriber());
            }
            EngineRequest::Release => {
                self.held = false;
                self.subscription = None;
            }
            EngineRequest::Status(reply) => {
                let status = self.status();
                if status.stopping {
                    // Who asks during a stop may end us next: what was asked of the keeper must not go with us.
                    let keeper = self.keeper.clone();
                    tokio::spawn(async move {
                        keeper.flush().await;
                        let _gone = reply.send(status);
                    });
                } else {
                    let _gone = reply.send(status);
                }
            }
            EngineRequest::Subscribe(reply) => {
                let subscription = self.subscription.take().unwrap_or_else(|| self.add_subscriber());
                // Of a viewer who is gone, the feed hears when it has something to say.
                let _gone = reply.send(subscription);
            }
            EngineRequest::Follow(reply) => {
                let _gone = reply.send(self.add_subscriber());
            }
            #[cfg(debug_assertions)]
            EngineRequest::Do(work) => work(),
            EngineRequest::Inspect(id, reply) => {
                let _gone = reply.send(self.inspect(&id));
            }
            EngineRequest::Attach(id, reply) => {
                let _gone = reply.send(self.attach_terminal(&id));
            }
            EngineRequest::Changes(plan, restart, reply) => {
                let _gone = reply.send(self.changes(&plan, restart.as_ref()));
            }
        }
    }

    /// A service that is stopped by hand leaves those that depend on it running.
    fn report_dependents_left(&mut self, stopped: &[ServiceId]) {
        for (id, left) in self.core.dependents_left(stopped) {
            let names: Vec<&str> = left.iter().take(NAMED_DEPENDENTS).map(ServiceId::as_str).collect();
            let more = left.len() - names.len();
            let names = names.join(", ") + &if more > 0 { format!(" and {more} more") } else { String::new() };
            let depend = if left.len() == 1 { "depends on it and keeps running" } else { "depend on it and keep running" };
            self.publish(FeedItem::Said { id, text: format!("{names} {depend}") });
        }
    }

    fn add_subscriber(&mut self) -> (Status, mpsc::Receiver<Arc<FeedItem>>) {
        let (sender, receiver) = mpsc::channel(FEED_BACKLOG);
        self.subscribers.push(sender);
        (self.status(), receiver)
    }
}
