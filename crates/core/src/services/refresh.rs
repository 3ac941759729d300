//! Applies what has changed to the index, and evaluates again whoever it concerns.

use std::collections::BTreeSet;

use devrun_model::ServiceId;

use super::{Index, IndexEntry, is_waiting};
use crate::dependency_status::{DependencyStatus, TierStatus};
use crate::service::{Outstanding, Phase};
use crate::stop_order;
use crate::supervisor::Supervisor;

impl Supervisor {
    /// Applies the changes since the last refresh to the index.
    pub(crate) fn refresh_index(&mut self) {
        let (mut again, tiers) = self.services.update_index(self.now);
        for number in tiers {
            let now = self.tier_status(number);
            if self.services.tiers.get(&number) == now.as_ref() {
                continue;
            }
            match now {
                Some(tier) => self.services.tiers.insert(number, tier),
                None => self.services.tiers.remove(&number),
            };
            let above = self.services.index.waiting.iter().rev().take_while(|(tier, _)| *tier > Some(number));
            again.extend(above.map(|(_, id)| id.clone()));
        }
        for id in again {
            let Some(status) = self.services.get(&id).map(|service| self.dependency_status(service)) else { continue };
            self.services.set_status(&id, status);
        }
    }

    /// The status of a numbered tier; `None` if none of its members was asked to start.
    fn tier_status(&self, number: u32) -> Option<TierStatus> {
        let members = self.services.index.members.get(&number)?;
        if let Some((id, service)) = members.unsatisfiable.first().and_then(|id| Some((id, self.services.get(id)?))) {
            let (root, reason) = self.root_cause(id, service, "ready");
            return Some(TierStatus::Unsatisfiable { root, reason });
        }
        if members.pending > 0 {
            return Some(TierStatus::Pending);
        }
        members.ready.last().map(|(at, _)| TierStatus::Ready(*at))
    }

    /// Compares the index with one computed from scratch, for the simulation tests.
    ///
    /// # Errors
    /// What differs.
    pub fn check(&self) -> Result<(), String> {
        let services = &self.services;
        let mut index = Index::default();
        for (id, service) in services.iter() {
            index.add_entry(id, &IndexEntry::of(service));
        }
        for id in index.queued.clone() {
            if !index.needed.contains_key(&id) {
                let tier = services.get(&id).and_then(|service| service.spec.tier);
                index.set_stoppable(&id, tier, true);
            }
        }
        if services.index != index {
            return Err(format!("kept {:?}\nfound {index:?}", services.index));
        }
        let stoppable = services.stoppable();
        let kept = if stoppable.is_empty() && !services.has_stopping() { services.cycles() } else { stoppable };
        let found: BTreeSet<ServiceId> = stop_order::next_to_stop(&services.holders()).into_iter().cloned().collect();
        if kept != found {
            return Err(format!("next to stop: kept {kept:?}, found {found:?}"));
        }
        for number in index.members.keys().chain(services.tiers.keys()) {
            let (kept, found) = (services.tiers.get(number), self.tier_status(*number));
            if kept != found.as_ref() {
                return Err(format!("tier {number}: kept {kept:?}, found {found:?}"));
            }
        }
        for (id, service) in services.iter() {
            let found = is_waiting(service).then(|| self.dependency_status(service));
            if services.status(id) != found.as_ref() {
                return Err(format!("{id}: kept {:?}, found {found:?}", services.status(id)));
            }
            let awaiting_fetch = found == Some(DependencyStatus::Satisfied)
                && matches!(service.phase, Phase::Waiting)
                && service.outstanding == Outstanding::Fetch;
            if services.is_awaiting_fetch(id) != awaiting_fetch {
                return Err(format!(
                    "{id}: waits for its fetch only: kept {}, found {awaiting_fetch}",
                    services.is_awaiting_fetch(id)
                ));
            }
        }
        Ok(())
    }
}
