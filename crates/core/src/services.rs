//! All services and an index over them: which wait, which can be stopped now, the next deadline, the status of each numbered
//! tier, the dependents of each service. The index exists so that no step scans every service: a mutable borrow marks a service
//! as changed, and `refresh_index` updates what depends on it. A start or a stop of N costs N times the edges of one, not the
//! square of N.
//!
//! It makes no decisions. The index is derived from the services alone; `Supervisor::check` derives it again and compares, for
//! the simulation tests.

mod refresh;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use devrun_model::{Condition, ServiceId, ServiceSpec};

use super::dependency_status::{DependencyStatus, TierStatus, can_become_satisfied, is_dispensable, is_satisfied};
use super::service::{Outstanding, Phase, Service, StopStage};
use super::start_request;
use super::stop_order::{self, Holder};
use super::tick::Tick;

/// The conditions that an edge can ask for.
const CONDITIONS: [Condition; 3] = [Condition::Started, Condition::Healthy, Condition::Completed];

/// Which conditions a service satisfies or can still satisfy. A change makes its dependents be evaluated again.
#[derive(Debug, Clone, PartialEq)]
struct ConditionState {
    wanted: bool,
    is_dispensable: bool,
    satisfied: [bool; 3],
    can_satisfy: [bool; 3],
}

impl ConditionState {
    fn of(service: &Service) -> Self {
        Self {
            wanted: service.wanted,
            is_dispensable: is_dispensable(service),
            satisfied: CONDITIONS.map(|condition| is_satisfied(service, condition)),
            can_satisfy: CONDITIONS.map(|condition| can_become_satisfied(service, condition)),
        }
    }
    /// Whether some condition can never be satisfied. The reason then matters to dependents too, and is not part of this.
    fn is_unsatisfiable(&self) -> bool {
        self.satisfied.iter().zip(self.can_satisfy).any(|(satisfied, can_satisfy)| !satisfied && !can_satisfy)
    }
}

/// The status of one member of a numbered tier.
#[derive(Debug, Clone, PartialEq)]
enum MemberStatus {
    Ready(Tick),
    Pending,
    Unsatisfiable,
}

/// What one service contributes to the index.
#[derive(Debug, Clone)]
struct IndexEntry {
    spec: Arc<ServiceSpec>,
    conditions: ConditionState,
    member_status: Option<(u32, MemberStatus)>,
    is_waiting: bool,
    is_queued: bool,
    is_holder: bool,
    is_stopping: bool,
    is_signalled: bool,
    is_active: bool,
    is_unfinished: bool,
    deadline: Option<Tick>,
}

impl IndexEntry {
    fn of(service: &Service) -> Self {
        let is_queued = service.is_queued_to_stop();
        Self {
            conditions: ConditionState::of(service),
            member_status: service.spec.tier.and_then(|number| Some((number, member_status(service)?))),
            is_waiting: is_waiting(service),
            is_queued,
            is_holder: is_holder(service),
            is_stopping: is_holder(service) && !is_queued,
            is_signalled: matches!(&service.phase, Phase::Stopping(stop) if stop.stage != StopStage::Queued),
            is_active: !service.is_final() || service.previous.is_some() || start_request::keeps_supervisor_alive(service),
            is_unfinished: !start_request::is_service_finished(service),
            deadline: service.deadline(),
            spec: Arc::clone(&service.spec),
        }
    }
}

/// Whether it is stopping, or the process that it replaced is, and its dependencies must outlive that.
fn is_holder(service: &Service) -> bool {
    let is_previous_stopping = service.previous.as_ref().is_some_and(|previous| previous.stop.is_some());
    (service.is_leaving() || is_previous_stopping) && service.holds_dependencies()
}

/// Its status as a member of its tier; `None` if it was never asked to start.
fn member_status(service: &Service) -> Option<MemberStatus> {
    let stopped = matches!(service.phase, Phase::Stopped { .. });
    if !service.wanted && stopped || service.stopped_manually {
        return None;
    }
    match service.ready_since() {
        Some(at) => Some(MemberStatus::Ready(at)),
        None if can_become_satisfied(service, Condition::Healthy) || can_become_satisfied(service, Condition::Completed) => {
            Some(MemberStatus::Pending)
        }
        None if is_dispensable(service) => None,
        None => Some(MemberStatus::Unsatisfiable),
    }
}

/// Whether a service proceeds as soon as its dependencies allow.
fn is_waiting(service: &Service) -> bool {
    match &service.phase {
        Phase::Waiting => true,
        Phase::Blocked { .. } => service.wanted && service.spec.missing.is_empty(),
        _ => false,
    }
}

/// The members of a numbered tier, counted.
#[derive(Debug, Clone, PartialEq, Default)]
struct TierMembers {
    ready: BTreeSet<(Tick, ServiceId)>,
    pending: usize,
    unsatisfiable: BTreeSet<ServiceId>,
}

/// Sums and sets over all services.
#[derive(Debug, Clone, PartialEq, Default)]
struct Index {
    /// The dependents of each service.
    dependents: BTreeMap<ServiceId, BTreeSet<ServiceId>>,
    members: BTreeMap<u32, TierMembers>,
    /// Those that wait, by their numbered tier.
    waiting: BTreeSet<(Option<u32>, ServiceId)>,
    queued: BTreeSet<ServiceId>,
    /// How many stopping services need each one.
    needed: BTreeMap<ServiceId, usize>,
    /// The numbered tiers of stopping services.
    holder_tiers: BTreeMap<u32, usize>,
    /// Queued services that no stopping service depends on, by their numbered tier.
    stoppable: BTreeMap<Option<u32>, BTreeSet<ServiceId>>,
    stopping_count: usize,
    signalled: BTreeSet<ServiceId>,
    active_count: usize,
    unfinished_count: usize,
    deadlines: BTreeSet<(Tick, ServiceId)>,
}

impl Index {
    fn add_entry(&mut self, id: &ServiceId, entry: &IndexEntry) {
        for edge in &entry.spec.depends_on {
            self.dependents.entry(edge.on.clone()).or_default().insert(id.clone());
        }
        if let Some((number, member_status)) = &entry.member_status {
            let members = self.members.entry(*number).or_default();
            match member_status {
                MemberStatus::Ready(at) => {
                    members.ready.insert((*at, id.clone()));
                }
                MemberStatus::Pending => members.pending += 1,
                MemberStatus::Unsatisfiable => {
                    members.unsatisfiable.insert(id.clone());
                }
            }
        }
        if entry.is_waiting {
            self.waiting.insert((entry.spec.tier, id.clone()));
        }
        if entry.is_holder {
            if let Some(tier) = entry.spec.tier {
                *self.holder_tiers.entry(tier).or_default() += 1;
            }
            for edge in entry.spec.depends_on.iter().filter(|edge| edge.on != *id) {
                *self.needed.entry(edge.on.clone()).or_default() += 1;
            }
        }
        if entry.is_queued {
            self.queued.insert(id.clone());
        }
        self.stopping_count += usize::from(entry.is_stopping);
        if entry.is_signalled {
            self.signalled.insert(id.clone());
        }
        self.active_count += usize::from(entry.is_active);
        self.unfinished_count += usize::from(entry.is_unfinished);
        if let Some(at) = entry.deadline {
            self.deadlines.insert((at, id.clone()));
        }
    }

    /// Reverts `add_entry`.
    fn remove_entry(&mut self, id: &ServiceId, entry: &IndexEntry) {
        for edge in &entry.spec.depends_on {
            if let Some(set) = self.dependents.get_mut(&edge.on) {
                set.remove(id);
                if set.is_empty() {
                    self.dependents.remove(&edge.on);
                }
            }
        }
        if let Some((number, member_status)) = &entry.member_status
            && let Some(members) = self.members.get_mut(number)
        {
            match member_status {
                MemberStatus::Ready(at) => {
                    members.ready.remove(&(*at, id.clone()));
                }
                MemberStatus::Pending => members.pending -= 1,
                MemberStatus::Unsatisfiable => {
                    members.unsatisfiable.remove(id);
                }
            }
            if members.ready.is_empty() && members.pending == 0 && members.unsatisfiable.is_empty() {
                self.members.remove(number);
            }
        }
        if entry.is_waiting {
            self.waiting.remove(&(entry.spec.tier, id.clone()));
        }
        if entry.is_holder {
            if let Some(tier) = entry.spec.tier {
                decrement(&mut self.holder_tiers, &tier);
            }
            for edge in entry.spec.depends_on.iter().filter(|edge| edge.on != *id) {
                decrement(&mut self.needed, &edge.on);
            }
        }
        if entry.is_queued {
            self.queued.remove(id);
        }
        self.stopping_count -= usize::from(entry.is_stopping);
        if entry.is_signalled {
            self.signalled.remove(id);
        }
        self.active_count -= usize::from(entry.is_active);
        self.unfinished_count -= usize::from(entry.is_unfinished);
        if let Some(at) = entry.deadline {
            self.deadlines.remove(&(at, id.clone()));
        }
    }

    fn set_stoppable(&mut self, id: &ServiceId, tier: Option<u32>, stoppable: bool) {
        if stoppable {
            self.stoppable.entry(tier).or_default().insert(id.clone());
        } else if let Some(set) = self.stoppable.get_mut(&tier) {
            set.remove(id);
            if set.is_empty() {
                self.stoppable.remove(&tier);
            }
        }
    }
}

fn decrement<K: Ord>(counts: &mut BTreeMap<K, usize>, key: &K) {
    if let Some(count) = counts.get_mut(key) {
        *count -= 1;
        if *count == 0 {
            counts.remove(key);
        }
    }
}

/// Every service of the project.
#[derive(Debug, Clone, Default)]
pub(super) struct Services {
    all: BTreeMap<ServiceId, Service>,
    entries: BTreeMap<ServiceId, IndexEntry>,
    index: Index,
    /// The status of each waiting service at the last refresh.
    statuses: BTreeMap<ServiceId, DependencyStatus>,
    /// Those that wait for nothing but the end of a pause between tiers.
    tier_pauses: BTreeSet<(Tick, ServiceId)>,
    /// Those that wait for nothing but their fetch.
    awaiting_fetch: BTreeSet<ServiceId>,
    tiers: BTreeMap<u32, TierStatus>,
    /// Borrowed mutably since the last refresh.
    changed: BTreeSet<ServiceId>,
    /// Services that may proceed, must be published, or may have finished a start: filled by `refresh_index`, taken by the
    /// step.
    pub movable: BTreeSet<ServiceId>,
    pub to_publish: BTreeSet<ServiceId>,
    pub to_settle: BTreeSet<ServiceId>,
}

impl Services {
    pub(crate) fn get(&self, id: &ServiceId) -> Option<&Service> {
        self.all.get(id)
    }
    pub(crate) fn get_mut(&mut self, id: &ServiceId) -> Option<&mut Service> {
        let service = self.all.get_mut(id)?;
        if !self.changed.contains(id) {
            self.changed.insert(id.clone());
        }
        Some(service)
    }
    pub(crate) fn contains_key(&self, id: &ServiceId) -> bool {
        self.all.contains_key(id)
    }
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&ServiceId, &Service)> {
        self.all.iter()
    }
    pub(crate) fn keys(&self) -> impl Iterator<Item = &ServiceId> {
        self.all.keys()
    }
    pub(crate) fn len(&self) -> usize {
        self.all.len()
    }
    pub(crate) fn insert(&mut self, id: ServiceId, service: Service) {
        self.changed.insert(id.clone());
        self.all.insert(id, service);
    }
    pub(crate) fn remove(&mut self, id: &ServiceId) -> Option<Service> {
        self.changed.insert(id.clone());
        self.all.remove(id)
    }
    /// Marks every service as changed, for a new plan.
    pub(crate) fn mark_all_changed(&mut self) {
        self.changed.extend(self.all.keys().cloned());
    }
    /// The services that depend on a service.
    pub(crate) fn dependents(&self, id: &ServiceId) -> impl Iterator<Item = &ServiceId> {
        self.index.dependents.get(id).into_iter().flatten()
    }
    /// The status of a waiting service at the last refresh.
    pub(crate) fn status(&self, id: &ServiceId) -> Option<&DependencyStatus> {
        self.statuses.get(id)
    }
    /// The numbered tiers below one, at the last refresh.
    pub(crate) fn tiers_below(&self, number: u32) -> impl Iterator<Item = &TierStatus> {
        self.tiers.range(..number).map(|(_, tier)| tier)
    }
    /// Whether a service waits for nothing but its fetch.
    pub(crate) fn is_awaiting_fetch(&self, id: &ServiceId) -> bool {
        self.awaiting_fetch.contains(id)
    }
    pub(crate) fn awaiting_fetch(&self) -> impl Iterator<Item = &ServiceId> {
        self.awaiting_fetch.iter()
    }
    /// Services to be stopped that have not been signalled.
    pub(crate) fn queued(&self) -> &BTreeSet<ServiceId> {
        &self.index.queued
    }
    /// Those of them that no stopping service needs any more, as a dependency or as a lower numbered tier.
    pub(crate) fn stoppable(&self) -> BTreeSet<ServiceId> {
        let highest = self.index.holder_tiers.last_key_value().map(|(tier, _)| *tier);
        let below = |tier: &Option<u32>| tier.is_some() && *tier < highest;
        self.index.stoppable.iter().filter(|(tier, _)| !below(tier)).flat_map(|(_, ids)| ids.iter().cloned()).collect()
    }
    /// If every queued service is needed by another: the dependency cycles to stop first.
    pub(crate) fn cycles(&self) -> BTreeSet<ServiceId> {
        stop_order::cycles(&self.holders()).into_iter().cloned().collect()
    }
    /// All stopping services whose dependencies must outlive them.
    fn holders(&self) -> Vec<Holder<'_>> {
        self.all
            .iter()
            .filter(|(_, service)| is_holder(service))
            .map(|(id, service)| Holder {
                service: id,
                depends_on: service.spec.depends_on.iter().map(|edge| &edge.on).collect(),
                tier: service.spec.tier,
                is_queued: service.is_queued_to_stop(),
            })
            .collect()
    }
    /// Whether a signalled service has not ended yet.
    pub(crate) fn has_stopping(&self) -> bool {
        self.index.stopping_count > 0
    }
    /// Services whose process tree was signalled.
    pub(crate) fn signalled(&self) -> &BTreeSet<ServiceId> {
        &self.index.signalled
    }
    /// Whether no service will change by itself, and none keeps the supervisor alive because it was stopped manually.
    pub(crate) fn none_active(&self) -> bool {
        self.index.active_count == 0
    }
    /// Whether every service has finished.
    pub(crate) fn all_finished(&self) -> bool {
        self.index.unfinished_count == 0
    }
    /// Services whose deadline has passed, ordered by id.
    pub(crate) fn due(&self, now: Tick) -> BTreeSet<ServiceId> {
        self.index.deadlines.iter().take_while(|(at, _)| *at <= now).map(|(_, id)| id.clone()).collect()
    }
    /// The next deadline of any service.
    pub(crate) fn next_deadline(&self) -> Option<Tick> {
        let first = |set: &BTreeSet<(Tick, ServiceId)>| set.first().map(|(at, _)| *at);
        first(&self.index.deadlines).into_iter().chain(first(&self.tier_pauses)).min()
    }

    /// Updates the index; returns the services and tiers whose status must be recomputed.
    fn update_index(&mut self, now: Tick) -> (BTreeSet<ServiceId>, BTreeSet<u32>) {
        let mut again: BTreeSet<ServiceId> =
            self.tier_pauses.iter().take_while(|(at, _)| *at <= now).map(|(_, id)| id.clone()).collect();
        let mut tiers = BTreeSet::new();
        for id in std::mem::take(&mut self.changed) {
            let mut is_waiting = false;
            let old = self.entries.remove(&id);
            let new = self.all.get(&id).map(IndexEntry::of);
            let same = matches!((&old, &new), (Some(old), Some(new)) if old.conditions == new.conditions && !new.conditions.is_unsatisfiable());
            if !same {
                let concerned = |one: &&ServiceId| self.entries.get(*one).is_some_and(|entry| entry.is_waiting);
                again.extend(self.index.dependents.get(&id).into_iter().flatten().filter(concerned).cloned());
            }
            let statuses = [&old, &new].map(|entry| entry.as_ref().and_then(|entry| entry.member_status.clone()));
            if statuses[0] != statuses[1] || matches!(statuses[1], Some((_, MemberStatus::Unsatisfiable))) {
                tiers.extend(statuses.into_iter().flatten().map(|(number, _)| number));
            }
            if let Some(old) = &old {
                self.clear_stoppable(&id, old);
                self.index.remove_entry(&id, old);
            }
            if let Some(new) = new {
                self.index.add_entry(&id, &new);
                if new.is_waiting {
                    again.insert(id.clone());
                }
                is_waiting = new.is_waiting;
                self.entries.insert(id.clone(), new);
            }
            self.update_stoppable(&id, old.as_ref());
            if !is_waiting {
                again.remove(&id);
                self.forget_status(&id);
            }
            self.movable.insert(id.clone());
            self.to_publish.insert(id.clone());
            self.to_settle.insert(id.clone());
        }
        (again, tiers)
    }

    /// Removes a service from the stoppable set until `update_stoppable` adds it again.
    fn clear_stoppable(&mut self, id: &ServiceId, old: &IndexEntry) {
        self.index.set_stoppable(id, old.spec.tier, false);
    }

    /// Recomputes whether a service and its current and former dependencies are stoppable.
    fn update_stoppable(&mut self, id: &ServiceId, old: Option<&IndexEntry>) {
        let new = self.entries.get(id);
        let mut ids: Vec<ServiceId> = vec![id.clone()];
        for entry in old.into_iter().chain(new).filter(|entry| entry.is_holder) {
            ids.extend(entry.spec.depends_on.iter().map(|edge| edge.on.clone()));
        }
        for one in ids {
            let Some(entry) = self.entries.get(&one) else { continue };
            let stoppable = entry.is_queued && !self.index.needed.contains_key(&one);
            self.index.set_stoppable(&one, entry.spec.tier, stoppable);
        }
    }

    fn forget_status(&mut self, id: &ServiceId) {
        if let Some(DependencyStatus::Pending(Some(at))) = self.statuses.remove(id) {
            self.tier_pauses.remove(&(at, id.clone()));
        }
        self.awaiting_fetch.remove(id);
    }

    fn set_status(&mut self, id: &ServiceId, status: DependencyStatus) {
        let Some(service) = self.all.get(id) else { return };
        let awaiting_fetch = matches!(service.phase, Phase::Waiting)
            && service.outstanding == Outstanding::Fetch
            && status == DependencyStatus::Satisfied;
        if self.statuses.get(id) == Some(&status) && self.awaiting_fetch.contains(id) == awaiting_fetch {
            return;
        }
        self.forget_status(id);
        if awaiting_fetch {
            self.awaiting_fetch.insert(id.clone());
        }
        if let DependencyStatus::Pending(Some(at)) = status {
            self.tier_pauses.insert((at, id.clone()));
        }
        self.statuses.insert(id.clone(), status);
        self.movable.insert(id.clone());
        self.to_publish.insert(id.clone());
    }
}
