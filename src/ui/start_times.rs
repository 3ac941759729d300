//! When each service of one start began and when it was ready, which of them the start waited for, and what it stopped.
//!
//! Filled by [`super::progress::ProgressView`] from the changes that it shows; what was up before is not in it, so an empty one
//! means that there was nothing to do.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use devrun_model::{Condition, Health, ServiceId, ServiceSpec, Snapshot, State};

/// The services and tasks that one start has started, by name.
#[derive(Debug, Clone, Default)]
pub struct StartTimes {
    services: BTreeMap<String, ServiceTimes>,
    /// Services that are being stopped, or are, and were not started again.
    stopped: BTreeSet<String>,
}

#[derive(Debug, Clone, Copy)]
struct ServiceTimes {
    /// The first that was done for it.
    asked: Instant,
    /// It no longer waited for others.
    released: Option<Instant>,
    /// It was ready, or a task was completed.
    ready: Option<Instant>,
    /// It ended in some other way.
    ended: Option<Instant>,
}

impl StartTimes {
    /// Adds what a supervisor that was started for this start had done before anybody watched.
    pub(super) fn begun_before(&mut self, snapshot: &Snapshot) {
        let now = Instant::now();
        let ago = |ms: Option<u64>| now.checked_sub(Duration::from_millis(ms.unwrap_or(0))).unwrap_or(now);
        for service in &snapshot.services {
            if matches!(service.state, State::Waiting | State::Fetching | State::Stopped) {
                continue;
            }
            let released = ago(service.uptime_ms);
            let ready = match service.state {
                State::Completed => Some(now),
                State::Running => service.ready_ms.map(|ms| released + Duration::from_millis(ms)),
                _ => None,
            };
            self.services
                .insert(service.name.clone(), ServiceTimes { asked: released, released: Some(released), ready, ended: None });
        }
    }

    /// Notes a change of state.
    pub(super) fn change(&mut self, name: &str, state: State, health: Health, is_task: bool, now: Instant) {
        let begins = matches!(state, State::Fetching | State::Initialising | State::Starting | State::Running | State::Completed);
        if begins {
            self.stopped.remove(name);
        } else if !is_task && matches!(state, State::Stopping | State::Stopped) && !self.has(name) {
            self.stopped.insert(name.to_owned());
        }
        if !begins && !self.services.contains_key(name) {
            return;
        }
        let new = ServiceTimes { asked: now, released: None, ready: None, ended: None };
        let times = self.services.entry(name.to_owned()).or_insert(new);
        if matches!(state, State::Initialising | State::Starting | State::Running | State::Completed) {
            times.released.get_or_insert(now);
        }
        match state {
            State::Running if !is_task && health != Health::Unhealthy => _ = times.ready.get_or_insert(now),
            State::Completed => _ = times.ready.get_or_insert(now),
            State::Failed => _ = times.ended.get_or_insert(now),
            _ => {}
        }
    }

    /// Whether nothing was started.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.services.is_empty()
    }

    /// What was started, in the order of names.
    pub fn started(&self) -> impl Iterator<Item = &str> {
        self.services.keys().map(String::as_str)
    }

    /// What was stopped and not started again, in the order of names.
    pub fn stopped(&self) -> impl Iterator<Item = &str> {
        self.stopped.iter().map(String::as_str)
    }

    /// How long a service took, from nothing in its way to ready, or to its failure. `None`: it was not started, or neither came.
    #[must_use]
    pub fn took(&self, name: &str) -> Option<Duration> {
        let times = self.services.get(name)?;
        Some(times.ready.or(times.ended)?.saturating_duration_since(times.released.unwrap_or(times.asked)))
    }

    /// Whether a service was started.
    #[must_use]
    pub fn has(&self, name: &str) -> bool {
        self.services.contains_key(name)
    }

    /// Of the chain of services that the start waited for, the one that took the longest, with its own share.
    #[must_use]
    pub fn slowest(&self, services: &BTreeMap<ServiceId, Arc<ServiceSpec>>) -> Option<(&str, Duration)> {
        let ready = |name: &str| self.services.get(name).and_then(|times| times.ready);
        let (mut name, _) =
            self.services.iter().filter_map(|(name, times)| Some((name.as_str(), times.ready?))).max_by_key(|(_, at)| *at)?;
        let mut slowest: Option<(&str, Duration)> = None;
        // A chain is no longer than there are services, whatever the edges say.
        for _ in 0..self.services.len() {
            let (Some(times), Some(until)) = (self.services.get(name), ready(name)) else { break };
            let edges = services.values().find(|spec| spec.id.as_str() == name).map(|spec| spec.depends_on.as_slice());
            let before = edges
                .unwrap_or_default()
                .iter()
                .filter_map(|edge| {
                    let (other, found) = self.services.get_key_value(edge.on.as_str())?;
                    let held = if edge.condition == Condition::Started { found.released? } else { found.ready? };
                    (held < until).then_some((held, other.as_str()))
                })
                .max();
            let since = before.map_or(times.asked, |(held, _)| held);
            let own = until.saturating_duration_since(since);
            if slowest.is_none_or(|(_, longest)| own > longest) {
                slowest = Some((name, own));
            }
            match before {
                Some((_, other)) => name = other,
                None => break,
            }
        }
        slowest
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use devrun_model::{Dependency, ServiceName};
    use std::path::PathBuf;

    fn services(edges: &[(&str, &[&str])]) -> BTreeMap<ServiceId, Arc<ServiceSpec>> {
        let mut services = BTreeMap::new();
        for (name, on) in edges {
            let mut spec = ServiceSpec::bare(ServiceName::new(*name).unwrap(), PathBuf::from("/"), vec!["x".to_owned()]);
            for on in *on {
                let on = ServiceId::single(&ServiceName::new(*on).unwrap());
                spec.depends_on.push(Dependency { on, condition: Condition::Healthy, required: true, restart: false });
            }
            services.insert(spec.id.clone(), Arc::new(spec));
        }
        services
    }

    #[test]
    fn what_is_stopped_and_not_started_again_is_known() {
        let now = Instant::now();
        let mut times = StartTimes::default();
        for (name, state) in [
            ("api.2", State::Stopping),
            ("api.2", State::Stopped),
            ("web", State::Stopping),
            ("web", State::Starting),
            ("web", State::Running),
            ("api.3", State::Stopping),
        ] {
            times.change(name, state, Health::None, false, now);
        }
        times.change("seed", State::Stopping, Health::None, true, now);
        assert_eq!(times.stopped().collect::<Vec<_>>(), ["api.2", "api.3"]);
        assert_eq!(times.started().collect::<Vec<_>>(), ["web"]);
    }

    #[test]
    fn the_slowest_is_on_the_path_that_the_start_waited_for() {
        let began = Instant::now();
        let at = |ms: u64| began + Duration::from_millis(ms);
        let mut times = StartTimes::default();
        assert!(times.is_empty());
        times.change("waits", State::Waiting, Health::None, false, at(0));
        assert!(times.is_empty(), "what only waits was not started");
        // A task of 39 s, then a service of 3 s that needs it; beside them one of 20 s that nobody waits for.
        times.change("venv", State::Running, Health::None, true, at(0));
        times.change("beside", State::Starting, Health::Starting, false, at(0));
        times.change("beside", State::Running, Health::Healthy, false, at(20_000));
        times.change("venv", State::Stopping, Health::None, true, at(38_900));
        times.change("venv", State::Completed, Health::None, true, at(39_000));
        times.change("api", State::Starting, Health::Starting, false, at(39_000));
        times.change("api", State::Running, Health::Healthy, false, at(42_000));
        let services = services(&[("venv", &[]), ("beside", &[]), ("api", &["venv"])]);
        assert_eq!(times.slowest(&services), Some(("venv", Duration::from_secs(39))));
        assert_eq!(times.took("api"), Some(Duration::from_secs(3)));
        assert_eq!(times.took("waits"), None);
    }
}
