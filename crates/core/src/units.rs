//! All services, with what is known of all of them together: who waits, who is to be stopped and may go, whose deadline
//! comes next, what a numbered tier gives, who depends on whom. Owned here so that no step looks at every service: a change
//! is noted when a service is borrowed to be changed, and `look` turns the notes into what follows from them. A start or a
//! stop of N costs N times the edges of one, not the square of N.
//!
//! Decides nothing. What is kept is derived from the services alone; `Supervisor::check` derives it anew and compares, for
//! the simulated worlds.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use devrun_model::{Condition, ServiceId, ServiceSpec};

use super::edges::{Standing, Tier, dispensable, may_still, met};
use super::service::{Open, Phase, Service, Step};
use super::settle;
use super::shutdown::{self, Holder};
use super::supervisor::Supervisor;
use super::tick::Tick;

/// The conditions that an edge can ask for.
const CONDITIONS: [Condition; 3] = [Condition::Started, Condition::Healthy, Condition::Completed];

/// What a service gives its dependents. A change of it is a reason to look at them again.
#[derive(Debug, Clone, PartialEq)]
struct Gives {
    wanted: bool,
    dispensable: bool,
    met: [bool; 3],
    may: [bool; 3],
}

impl Gives {
    fn of(unit: &Service) -> Self {
        Self {
            wanted: unit.wanted,
            dispensable: dispensable(unit),
            met: CONDITIONS.map(|condition| met(unit, condition)),
            may: CONDITIONS.map(|condition| may_still(unit, condition)),
        }
    }
    /// Whether an edge may never hold; then the reason counts too, and that is not in here.
    fn gone(&self) -> bool {
        self.met.iter().zip(self.may).any(|(met, may)| !met && !may)
    }
}

/// What a member gives its numbered tier.
#[derive(Debug, Clone, PartialEq)]
enum Part {
    Ready(Tick),
    Waits,
    Gone,
}

/// What one service adds to the sums below.
#[derive(Debug, Clone)]
struct Known {
    spec: Arc<ServiceSpec>,
    gives: Gives,
    part: Option<(u32, Part)>,
    waits: bool,
    halting: bool,
    holds: bool,
    passing: bool,
    asked: bool,
    restless: bool,
    open_end: bool,
    deadline: Option<Tick>,
}

impl Known {
    fn of(unit: &Service) -> Self {
        let halting = unit.waits_for_its_turn();
        Self {
            gives: Gives::of(unit),
            part: unit.spec.tier.and_then(|number| Some((number, part(unit)?))),
            waits: waits(unit),
            halting,
            holds: holds_others(unit),
            passing: holds_others(unit) && !halting,
            asked: matches!(&unit.phase, Phase::Ending(ending) if ending.step != Step::Unborn),
            restless: !unit.is_final() || settle::stays_for_a_start(unit),
            open_end: !settle::is_over(unit),
            deadline: unit.deadline(),
            spec: Arc::clone(&unit.spec),
        }
    }
}

/// Whether it is on its way out and what it needs must outlive it.
fn holds_others(unit: &Service) -> bool {
    unit.leaving() && unit.holds_dependencies()
}

/// What a service gives its tier; nothing where nobody asked for it.
fn part(unit: &Service) -> Option<Part> {
    let stopped = matches!(unit.phase, Phase::Stopped { .. });
    if !unit.wanted && stopped || unit.by_hand {
        return None;
    }
    match unit.ready_since() {
        Some(at) => Some(Part::Ready(at)),
        None if may_still(unit, Condition::Healthy) || may_still(unit, Condition::Completed) => Some(Part::Waits),
        None if dispensable(unit) => None,
        None => Some(Part::Gone),
    }
}

/// Whether a service moves as soon as its edges allow.
fn waits(unit: &Service) -> bool {
    match &unit.phase {
        Phase::Waiting => true,
        Phase::Blocked { .. } => unit.wanted && unit.spec.missing.is_empty(),
        _ => false,
    }
}

/// The members of a numbered tier, counted.
#[derive(Debug, Clone, PartialEq, Default)]
struct Members {
    ready: BTreeSet<(Tick, ServiceId)>,
    waits: usize,
    gone: BTreeSet<ServiceId>,
}

/// What is known of all services together.
#[derive(Debug, Clone, PartialEq, Default)]
struct Sums {
    /// By whom each is depended on.
    dependents: BTreeMap<ServiceId, BTreeSet<ServiceId>>,
    members: BTreeMap<u32, Members>,
    /// Those that wait, by their numbered tier.
    waiting: BTreeSet<(Option<u32>, ServiceId)>,
    halting: BTreeSet<ServiceId>,
    /// How many of those on their way out need each one.
    needed: BTreeMap<ServiceId, usize>,
    /// The numbered tiers of those on their way out.
    held_tiers: BTreeMap<u32, usize>,
    /// Those to be stopped that nobody on the way out needs by an edge, by their numbered tier.
    free: BTreeMap<Option<u32>, BTreeSet<ServiceId>>,
    passing: usize,
    asked: BTreeSet<ServiceId>,
    restless: usize,
    open_ends: usize,
    deadlines: BTreeSet<(Tick, ServiceId)>,
}

impl Sums {
    fn count(&mut self, id: &ServiceId, known: &Known) {
        for edge in &known.spec.depends_on {
            self.dependents.entry(edge.on.clone()).or_default().insert(id.clone());
        }
        if let Some((number, part)) = &known.part {
            let members = self.members.entry(*number).or_default();
            match part {
                Part::Ready(at) => {
                    members.ready.insert((*at, id.clone()));
                }
                Part::Waits => members.waits += 1,
                Part::Gone => {
                    members.gone.insert(id.clone());
                }
            }
        }
        if known.waits {
            self.waiting.insert((known.spec.tier, id.clone()));
        }
        if known.holds {
            if let Some(tier) = known.spec.tier {
                *self.held_tiers.entry(tier).or_default() += 1;
            }
            for edge in known.spec.depends_on.iter().filter(|edge| edge.on != *id) {
                *self.needed.entry(edge.on.clone()).or_default() += 1;
            }
        }
        if known.halting {
            self.halting.insert(id.clone());
        }
        self.passing += usize::from(known.passing);
        if known.asked {
            self.asked.insert(id.clone());
        }
        self.restless += usize::from(known.restless);
        self.open_ends += usize::from(known.open_end);
        if let Some(at) = known.deadline {
            self.deadlines.insert((at, id.clone()));
        }
    }

    /// Takes back what `count` did. Returns those that are needed by one less.
    fn discount(&mut self, id: &ServiceId, known: &Known) {
        for edge in &known.spec.depends_on {
            if let Some(set) = self.dependents.get_mut(&edge.on) {
                set.remove(id);
                if set.is_empty() {
                    self.dependents.remove(&edge.on);
                }
            }
        }
        if let Some((number, part)) = &known.part
            && let Some(members) = self.members.get_mut(number)
        {
            match part {
                Part::Ready(at) => {
                    members.ready.remove(&(*at, id.clone()));
                }
                Part::Waits => members.waits -= 1,
                Part::Gone => {
                    members.gone.remove(id);
                }
            }
            if members.ready.is_empty() && members.waits == 0 && members.gone.is_empty() {
                self.members.remove(number);
            }
        }
        if known.waits {
            self.waiting.remove(&(known.spec.tier, id.clone()));
        }
        if known.holds {
            if let Some(tier) = known.spec.tier {
                lower(&mut self.held_tiers, &tier);
            }
            for edge in known.spec.depends_on.iter().filter(|edge| edge.on != *id) {
                lower(&mut self.needed, &edge.on);
            }
        }
        if known.halting {
            self.halting.remove(id);
        }
        self.passing -= usize::from(known.passing);
        if known.asked {
            self.asked.remove(id);
        }
        self.restless -= usize::from(known.restless);
        self.open_ends -= usize::from(known.open_end);
        if let Some(at) = known.deadline {
            self.deadlines.remove(&(at, id.clone()));
        }
    }

    fn set_free(&mut self, id: &ServiceId, tier: Option<u32>, free: bool) {
        if free {
            self.free.entry(tier).or_default().insert(id.clone());
        } else if let Some(set) = self.free.get_mut(&tier) {
            set.remove(id);
            if set.is_empty() {
                self.free.remove(&tier);
            }
        }
    }
}

fn lower<K: Ord>(counts: &mut BTreeMap<K, usize>, key: &K) {
    if let Some(count) = counts.get_mut(key) {
        *count -= 1;
        if *count == 0 {
            counts.remove(key);
        }
    }
}

/// Every service of the project.
#[derive(Debug, Clone, Default)]
pub(super) struct Units {
    all: BTreeMap<ServiceId, Service>,
    known: BTreeMap<ServiceId, Known>,
    sums: Sums,
    /// Where those that wait stood when they were last looked at.
    standings: BTreeMap<ServiceId, Standing>,
    /// Those that wait for nothing but the end of a pause between tiers.
    pausing: BTreeSet<(Tick, ServiceId)>,
    /// Those that wait for nothing but their fetch.
    held: BTreeSet<ServiceId>,
    tiers: BTreeMap<u32, Tier>,
    /// Borrowed to be changed since the last look.
    touched: BTreeSet<ServiceId>,
    /// Who may be able to move, is to be shown, or may have ended a start: found by `look`, taken by whom it concerns.
    pub may_move: BTreeSet<ServiceId>,
    pub to_show: BTreeSet<ServiceId>,
    pub to_settle: BTreeSet<ServiceId>,
}

impl Units {
    pub fn get(&self, id: &ServiceId) -> Option<&Service> {
        self.all.get(id)
    }
    pub fn get_mut(&mut self, id: &ServiceId) -> Option<&mut Service> {
        let unit = self.all.get_mut(id)?;
        if !self.touched.contains(id) {
            self.touched.insert(id.clone());
        }
        Some(unit)
    }
    pub fn contains_key(&self, id: &ServiceId) -> bool {
        self.all.contains_key(id)
    }
    pub fn iter(&self) -> impl Iterator<Item = (&ServiceId, &Service)> {
        self.all.iter()
    }
    pub fn keys(&self) -> impl Iterator<Item = &ServiceId> {
        self.all.keys()
    }
    pub fn len(&self) -> usize {
        self.all.len()
    }
    pub fn insert(&mut self, id: ServiceId, unit: Service) {
        self.touched.insert(id.clone());
        self.all.insert(id, unit);
    }
    pub fn remove(&mut self, id: &ServiceId) -> Option<Service> {
        self.touched.insert(id.clone());
        self.all.remove(id)
    }
    /// Looks at everybody again: the plan is another one.
    pub fn touch_all(&mut self) {
        self.touched.extend(self.all.keys().cloned());
    }
    /// Those that have an edge to a service.
    pub fn dependents(&self, id: &ServiceId) -> impl Iterator<Item = &ServiceId> {
        self.sums.dependents.get(id).into_iter().flatten()
    }
    /// Where a service that waits stands, as of the last look.
    pub fn standing(&self, id: &ServiceId) -> Option<&Standing> {
        self.standings.get(id)
    }
    /// Numbered tiers below one, as of the last look.
    pub fn tiers_below(&self, number: u32) -> impl Iterator<Item = &Tier> {
        self.tiers.range(..number).map(|(_, tier)| tier)
    }
    /// Whether a service waits for nothing but its fetch.
    pub fn is_held(&self, id: &ServiceId) -> bool {
        self.held.contains(id)
    }
    pub fn held(&self) -> impl Iterator<Item = &ServiceId> {
        self.held.iter()
    }
    /// Those that are to be stopped and have not been asked.
    pub fn halting(&self) -> &BTreeSet<ServiceId> {
        &self.sums.halting
    }
    /// Those of them that nothing on its way out needs any more, by an edge or as a lower numbered tier.
    pub fn free(&self) -> BTreeSet<ServiceId> {
        let highest = self.sums.held_tiers.last_key_value().map(|(tier, _)| *tier);
        let below = |tier: &Option<u32>| tier.is_some() && *tier < highest;
        self.sums.free.iter().filter(|(tier, _)| !below(tier)).flat_map(|(_, ids)| ids.iter().cloned()).collect()
    }
    /// Of those to be stopped, where each is needed by another: the circles that go first.
    pub fn circles(&self) -> BTreeSet<ServiceId> {
        shutdown::circles(&self.holders()).into_iter().cloned().collect()
    }
    /// All that are on their way out and hold up what they need.
    fn holders(&self) -> Vec<Holder<'_>> {
        self.all
            .iter()
            .filter(|(_, unit)| holds_others(unit))
            .map(|(id, unit)| Holder {
                service: id,
                depends_on: unit.spec.depends_on.iter().map(|edge| &edge.on).collect(),
                tier: unit.spec.tier,
                is_queued: unit.waits_for_its_turn(),
            })
            .collect()
    }
    /// Whether somebody is on the way out and has been asked.
    pub fn any_passing(&self) -> bool {
        self.sums.passing > 0
    }
    /// Those whose tree was asked to end.
    pub fn asked(&self) -> &BTreeSet<ServiceId> {
        &self.sums.asked
    }
    /// Whether nobody will move by itself, and nobody keeps the supervisor by having been stopped by hand.
    pub fn all_at_rest(&self) -> bool {
        self.sums.restless == 0
    }
    /// Whether nothing of anybody is awaited.
    pub fn all_over(&self) -> bool {
        self.sums.open_ends == 0
    }
    /// Those whose deadline has come, in the order of their ids.
    pub fn due(&self, now: Tick) -> BTreeSet<ServiceId> {
        self.sums.deadlines.iter().take_while(|(at, _)| *at <= now).map(|(_, id)| id.clone()).collect()
    }
    /// The next moment at which time alone moves somebody.
    pub fn next_deadline(&self) -> Option<Tick> {
        let first = |set: &BTreeSet<(Tick, ServiceId)>| set.first().map(|(at, _)| *at);
        first(&self.sums.deadlines).into_iter().chain(first(&self.pausing)).min()
    }

    /// Brings the sums up to date; returns those whose standing must be found anew.
    fn recount(&mut self, now: Tick) -> (BTreeSet<ServiceId>, BTreeSet<u32>) {
        let mut again: BTreeSet<ServiceId> =
            self.pausing.iter().take_while(|(at, _)| *at <= now).map(|(_, id)| id.clone()).collect();
        let mut tiers = BTreeSet::new();
        for id in std::mem::take(&mut self.touched) {
            let mut waits = false;
            let old = self.known.remove(&id);
            let new = self.all.get(&id).map(Known::of);
            let same = matches!((&old, &new), (Some(old), Some(new)) if old.gives == new.gives && !new.gives.gone());
            if !same {
                let concerned = |one: &&ServiceId| self.known.get(*one).is_some_and(|known| known.waits);
                again.extend(self.sums.dependents.get(&id).into_iter().flatten().filter(concerned).cloned());
            }
            let parts = [&old, &new].map(|known| known.as_ref().and_then(|known| known.part.clone()));
            if parts[0] != parts[1] || matches!(parts[1], Some((_, Part::Gone))) {
                tiers.extend(parts.into_iter().flatten().map(|(number, _)| number));
            }
            if let Some(old) = &old {
                self.uncount_holder(&id, old);
                self.sums.discount(&id, old);
            }
            if let Some(new) = new {
                self.sums.count(&id, &new);
                if new.waits {
                    again.insert(id.clone());
                }
                waits = new.waits;
                self.known.insert(id.clone(), new);
            }
            self.count_holder(&id, old.as_ref());
            if !waits {
                again.remove(&id);
                self.forget_standing(&id);
            }
            self.may_move.insert(id.clone());
            self.to_show.insert(id.clone());
            self.to_settle.insert(id.clone());
        }
        (again, tiers)
    }

    /// Whoever was free is not, until `count_holder` says so again.
    fn uncount_holder(&mut self, id: &ServiceId, old: &Known) {
        self.sums.set_free(id, old.spec.tier, false);
    }

    /// Finds anew who is free among a service and those that it needs or needed.
    fn count_holder(&mut self, id: &ServiceId, old: Option<&Known>) {
        let new = self.known.get(id);
        let mut ids: Vec<ServiceId> = vec![id.clone()];
        for known in old.into_iter().chain(new).filter(|known| known.holds) {
            ids.extend(known.spec.depends_on.iter().map(|edge| edge.on.clone()));
        }
        for one in ids {
            let Some(known) = self.known.get(&one) else { continue };
            let free = known.halting && !self.sums.needed.contains_key(&one);
            self.sums.set_free(&one, known.spec.tier, free);
        }
    }

    fn forget_standing(&mut self, id: &ServiceId) {
        if let Some(Standing::Waits(Some(at))) = self.standings.remove(id) {
            self.pausing.remove(&(at, id.clone()));
        }
        self.held.remove(id);
    }

    fn set_standing(&mut self, id: &ServiceId, standing: Standing) {
        let Some(unit) = self.all.get(id) else { return };
        let held = matches!(unit.phase, Phase::Waiting) && unit.open == Open::Fetch && standing == Standing::Holds;
        if self.standings.get(id) == Some(&standing) && self.held.contains(id) == held {
            return;
        }
        self.forget_standing(id);
        if held {
            self.held.insert(id.clone());
        }
        if let Standing::Waits(Some(at)) = standing {
            self.pausing.insert((at, id.clone()));
        }
        self.standings.insert(id.clone(), standing);
        self.may_move.insert(id.clone());
        self.to_show.insert(id.clone());
    }
}

impl Supervisor {
    /// Finds what follows from the changes since the last look.
    pub(super) fn look(&mut self) {
        let (mut again, tiers) = self.units.recount(self.now);
        for number in tiers {
            let now = self.tier(number);
            if self.units.tiers.get(&number) == now.as_ref() {
                continue;
            }
            match now {
                Some(tier) => self.units.tiers.insert(number, tier),
                None => self.units.tiers.remove(&number),
            };
            let above = self.units.sums.waiting.iter().rev().take_while(|(tier, _)| *tier > Some(number));
            again.extend(above.map(|(_, id)| id.clone()));
        }
        for id in again {
            let Some(standing) = self.units.get(&id).map(|unit| self.find_standing(unit)) else { continue };
            self.units.set_standing(&id, standing);
        }
    }

    /// Where one numbered tier stands; nowhere when nobody of it was asked for.
    fn tier(&self, number: u32) -> Option<Tier> {
        let members = self.units.sums.members.get(&number)?;
        if let Some((id, unit)) = members.gone.first().and_then(|id| Some((id, self.units.get(id)?))) {
            let (root, reason) = self.root_of(id, unit, "ready");
            return Some(Tier::Gone { root, reason });
        }
        if members.waits > 0 {
            return Some(Tier::Waits);
        }
        members.ready.last().map(|(at, _)| Tier::Ready(*at))
    }

    /// Whether what is kept of all services together is what the services say: for the simulated worlds.
    ///
    /// # Errors
    /// What differs.
    pub fn check(&self) -> Result<(), String> {
        let units = &self.units;
        let mut sums = Sums::default();
        for (id, unit) in units.iter() {
            sums.count(id, &Known::of(unit));
        }
        for id in sums.halting.clone() {
            if !sums.needed.contains_key(&id) {
                let tier = units.get(&id).and_then(|unit| unit.spec.tier);
                sums.set_free(&id, tier, true);
            }
        }
        if units.sums != sums {
            return Err(format!("kept {:?}\nfound {sums:?}", units.sums));
        }
        let free = units.free();
        let kept = if free.is_empty() && !units.any_passing() { units.circles() } else { free };
        let found: BTreeSet<ServiceId> = shutdown::next_to_stop(&units.holders()).into_iter().cloned().collect();
        if kept != found {
            return Err(format!("next to stop: kept {kept:?}, found {found:?}"));
        }
        for number in sums.members.keys().chain(units.tiers.keys()) {
            let (kept, found) = (units.tiers.get(number), self.tier(*number));
            if kept != found.as_ref() {
                return Err(format!("tier {number}: kept {kept:?}, found {found:?}"));
            }
        }
        for (id, unit) in units.iter() {
            let found = waits(unit).then(|| self.find_standing(unit));
            if units.standing(id) != found.as_ref() {
                return Err(format!("{id}: kept {:?}, found {found:?}", units.standing(id)));
            }
            let held = found == Some(Standing::Holds) && matches!(unit.phase, Phase::Waiting) && unit.open == Open::Fetch;
            if units.is_held(id) != held {
                return Err(format!("{id}: waits for its fetch only: kept {}, found {held}", units.is_held(id)));
            }
        }
        Ok(())
    }
}
