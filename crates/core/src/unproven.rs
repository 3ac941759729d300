//! Services without a probe that have run for less time than a start wants to see, and when each is looked at again. Found by service
//! and by time, as both are asked at every step.

use std::collections::{BTreeMap, BTreeSet};

use devrun_model::ServiceId;

use super::tick::Tick;

#[derive(Debug, Default, Clone)]
pub(super) struct Unproven {
    due_of: BTreeMap<ServiceId, Tick>,
    by_time: BTreeSet<(Tick, ServiceId)>,
}

impl Unproven {
    pub(super) fn insert(&mut self, id: &ServiceId, due: Tick) {
        self.remove(id);
        self.due_of.insert(id.clone(), due);
        self.by_time.insert((due, id.clone()));
    }
    pub(super) fn remove(&mut self, id: &ServiceId) {
        if let Some(due) = self.due_of.remove(id) {
            self.by_time.remove(&(due, id.clone()));
        }
    }
    /// When the next one is due.
    pub(super) fn next_due(&self) -> Option<Tick> {
        self.by_time.first().map(|(due, _)| *due)
    }
    /// Takes out those that are due, in the order of their times.
    pub(super) fn take_due(&mut self, now: Tick) -> Vec<ServiceId> {
        let due: Vec<ServiceId> = self.by_time.iter().take_while(|(due, _)| *due <= now).map(|(_, id)| id.clone()).collect();
        due.iter().for_each(|id| self.remove(id));
        due
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn those_that_are_due_come_once_and_in_order() {
        let id = |name: &str| ServiceId::parse(name).unwrap();
        let at = |ms| Tick::ZERO + Duration::from_millis(ms);
        let mut all = Unproven::default();
        all.insert(&id("a"), at(30));
        all.insert(&id("b"), at(10));
        all.insert(&id("c"), at(20));
        all.insert(&id("a"), at(15));
        all.remove(&id("c"));
        all.remove(&id("none"));
        assert_eq!(all.next_due(), Some(at(10)));
        assert_eq!(all.take_due(at(9)), Vec::new());
        assert_eq!(all.take_due(at(30)), [id("b"), id("a")]);
        assert_eq!((all.next_due(), all.take_due(at(99))), (None, Vec::new()));
    }
}
