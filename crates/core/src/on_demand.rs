//! Services that start on demand (`start = "on-demand"`): asleep, with their socket open, until there is a connection, and asleep
//! again when there was none for `idle`.
//!
//! What is asleep counts as up for those that depend on it: its address takes connections. Its own dependencies are waited for
//! when it wakes. Who is connected is known to the kernel only, so the engine is asked for the last moment of use, often enough
//! that the kernel still knows of a connection that has ended; nothing else is remembered between two looks.

use std::time::Duration;

use devrun_model::{Failure, ServiceId};

use super::action::Action;
use super::service::{NextState, Phase, Service, UseCheck};
use super::supervisor::{Mode, Supervisor};

/// The kernel knows of an ended connection for a minute (`TCP_TIMEWAIT_LEN`); between two looks there is less than that.
const LONGEST_PAUSE: Duration = Duration::from_secs(20);
/// And no look more often than this.
const SHORTEST_PAUSE: Duration = Duration::from_millis(100);

/// Between two looks at the connections of a service that is stopped after `idle`.
fn pause(idle: Duration) -> Duration {
    (idle / 4).clamp(SHORTEST_PAUSE, LONGEST_PAUSE)
}

impl Service {
    /// The process is ready: from here on it is looked at whether it is in use.
    pub(super) fn begin_use_checks(&mut self, now: super::tick::Tick) {
        self.use_check = self.idle().map(|idle| UseCheck { due: now + pause(idle), last_use: now });
    }

    /// The time without connections after which it is stopped.
    fn idle(&self) -> Option<Duration> {
        self.spec.on_demand.filter(|idle| !idle.is_zero())
    }
}

impl Supervisor {
    /// Its socket takes the first connection.
    pub(super) fn fall_asleep(&mut self, id: &ServiceId, out: &mut Vec<Action>) {
        let now = self.now;
        let Some(service) = self.services.get_mut(id) else { return };
        service.is_demanded = false;
        service.use_check = None;
        service.restarts = 0;
        service.crashes = 0;
        service.unready_ends.clear();
        service.phase = Phase::Asleep { since: now };
        out.push(Action::AwaitDemand(id.clone(), service.generation));
    }

    /// Starts what is asleep.
    pub(super) fn wake(&mut self, id: &ServiceId, out: &mut Vec<Action>) {
        let Some(service) = self.services.get_mut(id) else { return };
        service.is_demanded = true;
        service.wanted = true;
        if service.next_spec.is_some() {
            self.start(id, out);
            return;
        }
        service.adopt_edges_and_tier();
        // Whoever connects does not wait for what became of lower tiers since.
        service.waits_for_tiers = false;
        service.phase = Phase::Waiting;
    }

    pub(super) fn handle_demanded(&mut self, id: &ServiceId, out: &mut Vec<Action>) {
        let is_asleep = |service: &Service| matches!(service.phase, Phase::Asleep { .. });
        if self.mode == Mode::Up && self.services.get(id).is_some_and(is_asleep) {
            self.wake(id, out);
        }
    }

    pub(super) fn handle_listen_failed(&mut self, id: &ServiceId, failure: Failure, out: &mut Vec<Action>) {
        if self.services.get(id).is_some_and(|service| matches!(service.phase, Phase::Asleep { .. })) {
            self.record_failure(id, failure.clone());
            self.enter_next_state(id, NextState::Failed(failure), out);
        }
    }

    /// Asks when it was last in use. The answer comes long before the next look.
    pub(super) fn check_use(&mut self, id: &ServiceId, out: &mut Vec<Action>) {
        let now = self.now;
        let Some(service) = self.services.get_mut(id) else { return };
        let Some(idle) = service.idle() else { return };
        if let Some(check) = &mut service.use_check {
            check.due = now + pause(idle);
        }
        out.push(Action::CheckUse(id.clone(), service.generation));
    }

    /// Stops a service that was not in use for long enough; else the next look is due when it may be, or earlier.
    pub(super) fn handle_last_use(&mut self, id: &ServiceId, age: Option<Duration>, out: &mut Vec<Action>) {
        let now = self.now;
        let Some(service) = self.services.get_mut(id) else { return };
        let (Some(idle), Some(check)) = (service.idle(), &mut service.use_check) else { return };
        if let Some(age) = age {
            check.last_use = check.last_use.max(now - age);
        }
        let ends = check.last_use + idle;
        if ends > now {
            check.due = check.due.min(ends);
            return;
        }
        let is_free = service.pending_stop.is_none() && service.previous.is_none() && service.live().is_some();
        if is_free && self.mode == Mode::Up {
            self.request_stop(id, NextState::Asleep, out);
        }
    }
}
