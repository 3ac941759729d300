//! The loop itself: everything the engine hears, in one place and in one order.

use devrun_core::{Action, Event, StartOutcome};
use devrun_model::feed::FeedItem;

use super::engine_state::{Engine, EngineExit};
use super::health_notices;

/// How long the end of a run waits for the log files.
const LAST_WORDS: std::time::Duration = std::time::Duration::from_secs(5);

impl Engine {
    /// Runs until the core is finished.
    pub async fn run(mut self) -> EngineExit {
        self.remember_masks();
        self.remember_copy_names();
        // A KILL at the end of a grace is not to come a millisecond late. One that nobody waits for any more costs a last
        // wake-up within a second.
        let mut sleeper = self.clock.timer();
        loop {
            let deadline = self.core.next_deadline().map(|tick| self.clock.instant(tick));
            let wake = health_notices::wake(deadline, self.clock.instant_now());
            let pause = wake.map(|at| at.saturating_duration_since(self.clock.instant_now()));
            let timer = async {
                match pause {
                    Some(pause) => sleeper.sleep(pause).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                Some(event) = self.process_receiver.recv() => self.on_process(event),
                Some((id, generation, answer)) = self.probe_report_receiver.recv() => self.on_probe_report(id, generation, answer),
                Some(result) = self.task_result_receiver.recv() => self.on_task_result(result),
                Some(request) = self.requests.recv() => self.on_request(request),
                Some(link) = self.link.recv() => self.on_link(link),
                Some(lost) = self.losses.recv() => self.on_log_loss(lost),
                () = timer => {}
            }
            // Before anything acts on a deadline: time in which we could not run is nobody's fault.
            if let Some(pause) = health_notices::overslept(wake, self.clock.instant_now()) {
                self.clock.skip(pause);
            }
            if deadline.is_some() && self.core.next_deadline().is_some_and(|tick| tick <= self.clock.now()) {
                self.queue.push_back(Event::Timer);
            }
            // Everything that is there already belongs to this wake-up: exits come in batches.
            while let Ok(event) = self.process_receiver.try_recv() {
                self.on_process(event);
            }
            self.process_queue();
            self.report_slow_stops();
            if !self.held
                && let Some(outcome) = self.finished.take()
            {
                return self.shut_down(outcome).await;
            }
        }
    }

    /// A stop that takes long is no hang: every few seconds it is said who holds it up.
    fn report_slow_stops(&mut self) {
        let now = self.clock.now();
        if !self.core.has_stop_in_progress() || !self.health_notices.should_check(now) {
            return;
        }
        let words = self
            .core
            .stops_in_progress()
            .filter_map(|(id, progress)| Some((id.clone(), self.health_notices.slow_stop(id, progress, now)?)));
        for (id, text) in words.collect::<Vec<_>>() {
            self.publish(FeedItem::Said { id, text });
        }
    }

    /// Feeds the queue to the core and carries out what it asks for, until both are quiet.
    pub(super) fn process_queue(&mut self) {
        let mut actions: Vec<Action> = Vec::new();
        while let Some(event) = self.queue.pop_front() {
            let now = self.clock.now();
            self.core.step(now, event, &mut actions);
            for action in actions.drain(..) {
                self.trace_action(now, &action);
                self.execute(now, action);
            }
        }
    }

    async fn shut_down(mut self, outcome: StartOutcome) -> EngineExit {
        let survivors = self.keeper.finish().await;
        // The last words of what ended a moment ago. A disk that hangs holds up nothing but its logs.
        tokio::select! {
            () = self.pump.drain_all() => {}
            () = self.clock.sleep(LAST_WORDS) => {}
        }
        let outcome = self.describe(outcome).await;
        // A start that settled in the same breath is published before the end, as its viewer waits for it.
        while self.settling > 0 {
            match self.task_result_receiver.recv().await {
                Some(result) => self.on_task_result(result),
                None => break,
            }
        }
        while let Ok(lost) = self.losses.try_recv() {
            self.on_log_loss(lost);
        }
        self.events.flush();
        self.save_snapshot();
        self.publish(FeedItem::Finished(outcome.clone()));
        EngineExit { outcome, survivors, scratch: self.plan.scratch() }
    }
}
