//! The world outside the core: it answers every action after a while, sometimes twice, sometimes with a failure, and keeps
//! books of what is alive. Probe answers may be lost; trees may outlive SIGKILL. Driven by one seed.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use devrun_core::event::Generation;
use devrun_core::{Action, Event, Supervisor, Tick};
use devrun_model::keeper::ExitStatus;
use devrun_model::{Command, Failure, FailureKind, Kind, ServiceId, ServiceSpec};

use super::project::{Project, Request};

pub type Key = (ServiceId, Generation);

/// One step: the event, the actions, and what was alive before it.
#[derive(Debug, Clone)]
pub struct Moment {
    pub at: Tick,
    pub event: Event,
    pub actions: Vec<Action>,
    /// Trees that the world says exist, before the step.
    pub alive: BTreeSet<Key>,
    pub stopping: bool,
    pub finished: bool,
    pub deadline: Option<Tick>,
    /// Definitions in force, after the step.
    pub specs: Arc<BTreeMap<ServiceId, Arc<ServiceSpec>>>,
    /// What the core keeps of all services together and its services do not say.
    pub astray: Option<String>,
    /// What could be seen after the step, where something was initialised, renewed or settled in it.
    pub views: Vec<devrun_core::ServiceView>,
}

/// All that happened.
#[derive(Debug, Clone)]
pub struct Record {
    pub project: Project,
    pub moments: Vec<Moment>,
    /// Trees that the world says exist at the end.
    pub left: BTreeSet<Key>,
}

impl Record {
    pub fn text(&self) -> String {
        let mut text = String::new();
        for moment in &self.moments {
            let event = match &moment.event {
                Event::Command(Command::Up { plan, targets, options }) => {
                    format!("Up(plan: {}, {targets:?}, {options:?})", plan.is_some())
                }
                Event::Command(Command::RotateSecret { given, targets, .. }) => format!("Renew(given: {given:?}, {targets:?})"),
                event => format!("{event:?}"),
            };
            text.push_str(&format!("> {} {event}\n", moment.at.0.as_millis()));
            for action in &moment.actions {
                let action = match action {
                    Action::Notify(n) => {
                        format!("{}.{} {} → {} ({}) {:?}", n.service, n.replica, n.from, n.to, n.health, n.reason)
                    }
                    action => format!("{action:?}"),
                };
                text.push_str(&format!("    {action}\n"));
            }
        }
        text
    }
}

/// splitmix64: enough for a world, and the same on every machine.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
    fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit.max(1)
    }
    fn chance(&mut self, of_thousand: u32) -> bool {
        self.below(1000) < u64::from(of_thousand)
    }
}

struct World<'a> {
    project: &'a Project,
    random: Random,
    /// What will happen, by moment and then in the order of planning.
    agenda: BTreeMap<(Tick, u64), Event>,
    planned: u64,
    /// Trees that exist: spawned or being spawned, not yet empty.
    alive: BTreeSet<Key>,
    immortal: BTreeSet<Key>,
    probing: BTreeSet<Key>,
}

impl World<'_> {
    fn plan(&mut self, at: Tick, event: Event) {
        self.planned += 1;
        self.agenda.insert((at, self.planned), event);
    }
    /// An answer after a while, now and then twice, in some worlds never.
    fn answer(&mut self, now: Tick, event: Event) -> Tick {
        let at = now + Duration::from_millis(self.random.below(self.project.slow_ms));
        if self.project.forgets() && self.random.chance(30) {
            return at;
        }
        if self.random.chance(self.project.twice) {
            let again = at + Duration::from_millis(self.random.below(3000));
            self.plan(again, event.clone());
        }
        self.plan(at, event);
        at
    }
    fn failure(&mut self, kind: FailureKind) -> Failure {
        let kind = if self.random.chance(200) { FailureKind::Binary } else { kind };
        Failure::new(kind, "broken")
    }
    /// The leader ends, then the tree; now and then in the wrong order.
    fn ends(&mut self, at: Tick, key: &Key, status: ExitStatus) {
        let (first, second) = (at, at + Duration::from_millis(self.random.below(50)));
        let exited = Event::Exited(key.0.clone(), key.1, status, None);
        let empty = Event::TreeEmpty(key.0.clone(), key.1);
        if self.random.chance(20) {
            self.plan(first, empty.clone());
            self.plan(second, exited);
        } else {
            self.plan(first, exited);
            self.plan(second, empty.clone());
        }
        if self.random.chance(self.project.twice) {
            self.plan(second + Duration::from_millis(700), empty);
        }
    }
    fn probe(&mut self, now: Tick, key: &Key, spec: Option<&Arc<ServiceSpec>>) {
        let at = now + Duration::from_millis(1 + self.random.below(1500));
        let (id, generation) = key.clone();
        let broken = self.random.chance(self.project.broken);
        let alive_probe = spec.is_some_and(|spec| spec.alive.is_some()) && self.random.chance(500);
        let event = match (alive_probe, broken) {
            (true, false) => Event::LivenessPassed(id, generation),
            (true, true) => Event::LivenessFailed(id, generation, "hangs".to_owned()),
            (false, false) => Event::ProbePassed(id, generation, None),
            (false, true) => {
                let fatal = self.random.chance(50).then(|| Failure::new(FailureKind::Credentials, "refused"));
                Event::ProbeFailed(id, generation, "refused".to_owned(), fatal)
            }
        };
        self.plan(at, event);
    }
    fn act(&mut self, now: Tick, action: &Action, core: &Supervisor) {
        match action {
            Action::Fetch(id, g) => {
                let event = if self.random.chance(self.project.broken / 6) {
                    Event::FetchFailed(id.clone(), *g, self.failure(FailureKind::Integrity))
                } else {
                    Event::Fetched(id.clone(), *g)
                };
                self.answer(now, event);
            }
            Action::RunInit(id, g) => {
                let task = core.spec(id).is_some_and(|spec| spec.kind == Kind::Task);
                let event = if self.random.chance(self.project.broken / 6) {
                    Event::InitFailed(id.clone(), *g, self.failure(FailureKind::Task))
                } else if task && self.random.chance(200) {
                    Event::AlreadyDone(id.clone(), *g, "yesterday".to_owned())
                } else {
                    Event::InitDone(id.clone(), *g)
                };
                self.answer(now, event);
            }
            Action::Cancel(..) => {}
            Action::Spawn(id, g) => {
                let key = (id.clone(), *g);
                self.alive.insert(key.clone());
                if self.random.chance(self.project.broken / 6) {
                    self.answer(now, Event::SpawnFailed(id.clone(), *g, Failure::new(FailureKind::PortTaken, "taken")));
                    return;
                }
                let at = self.answer(now, Event::Spawned(id.clone(), *g, Some(7)));
                if self.random.chance(self.project.immortal) {
                    self.immortal.insert(key.clone());
                }
                let task = core.spec(id).is_some_and(|spec| spec.kind == Kind::Task);
                let crash = self.random.chance(self.project.broken);
                if task || crash {
                    let code = if crash { 1 } else { 0 };
                    let longest = if self.random.chance(600) { 600 } else { 9000 };
                    let later = at + Duration::from_millis(self.random.below(longest));
                    if !self.immortal.contains(&key) {
                        self.ends(later, &key, ExitStatus::Code(code));
                    }
                }
            }
            Action::AwaitDemand(id, g) => {
                if self.random.chance(self.project.broken / 6) {
                    self.answer(now, Event::ListenFailed(id.clone(), *g, Failure::new(FailureKind::PortTaken, "taken")));
                } else if self.random.chance(600) {
                    // To some there is never a connection.
                    let at = now + Duration::from_millis(self.random.below(6000));
                    self.answer(at, Event::Demanded(id.clone(), *g));
                }
            }
            Action::CheckUse(id, g) => {
                let age = self.random.chance(700).then(|| Duration::from_millis(self.random.below(4000)));
                self.answer(now, Event::LastUse(id.clone(), *g, age));
            }
            Action::StartProbes(id, g) => {
                let key = (id.clone(), *g);
                self.probing.insert(key.clone());
                if !self.random.chance(self.project.lost) {
                    self.probe(now, &key, core.spec(id));
                }
            }
            // Its probes go on, with another login or at another pace.
            Action::UpdateSpec(..) | Action::RestorePrevious(..) | Action::SetProbePace(..) => {}
            Action::StopProbes(id, g) => {
                self.probing.remove(&(id.clone(), *g));
            }
            Action::StopTree(id, g) => {
                let key = (id.clone(), *g);
                // A tree that is empty already is reported again; one that ignores the signal waits for SIGKILL.
                if !self.alive.contains(&key) {
                    self.plan(now, Event::TreeEmpty(id.clone(), *g));
                } else if !self.immortal.contains(&key) && !self.random.chance(150) {
                    let at = now + Duration::from_millis(self.random.below(self.project.slow_ms * 2));
                    self.ends(at, &key, ExitStatus::Code(0));
                }
            }
            Action::SignalTree(..) | Action::SignalLeader(..) => {}
            Action::KillTree(id, g) => {
                let key = (id.clone(), *g);
                let at = now + Duration::from_millis(self.random.below(30));
                if self.immortal.contains(&key) {
                    // Half of them are reported; of the others nobody ever hears again.
                    if self.random.chance(500) {
                        self.plan(at, Event::Survived(id.clone(), *g, vec![(9, "stuck".to_owned())]));
                    }
                } else if self.alive.contains(&key) {
                    self.ends(at, &key, ExitStatus::Signal(devrun_model::Signal::KILL));
                } else {
                    self.plan(at, Event::TreeEmpty(id.clone(), *g));
                }
            }
            Action::PersistManualStop { .. }
            | Action::Notify(_)
            | Action::Message(..)
            | Action::StartFinished(_)
            | Action::Shutdown(_) => {}
        }
    }
    /// The books, before the core hears of it.
    fn note(&mut self, event: &Event) {
        match event {
            Event::TreeEmpty(id, g) | Event::SpawnFailed(id, g, _) => {
                self.alive.remove(&(id.clone(), *g));
            }
            _ => {}
        }
    }
}

/// Runs a project to its `Finish`, or until the world has nothing more to say.
pub fn run(project: &Project) -> Record {
    let mut core = Supervisor::new(Arc::new(project.plan.clone()), BTreeSet::new());
    let mut world = World {
        project,
        random: Random(project.seed),
        agenda: BTreeMap::new(),
        planned: 0,
        alive: BTreeSet::new(),
        immortal: BTreeSet::new(),
        probing: BTreeSet::new(),
    };
    for (at, request) in &project.requests {
        let event = match request {
            Request::Send(command) => Event::Command(command.clone()),
            Request::UpLater => Event::Command(Command::Up {
                plan: Some(Arc::new(project.later.clone())),
                targets: Vec::new(),
                options: devrun_model::UpOptions::default(),
            }),
            Request::Renew(given, targets) => Event::Command(Command::RotateSecret {
                plan: Arc::new(project.renewed.clone()),
                given: given.clone(),
                targets: targets.clone(),
            }),
            Request::Interrupt => Event::Interrupted,
            Request::FileChanged(id) => Event::FileChanged(id.clone(), "src/main.rs".to_owned()),
        };
        world.plan(Tick::ms(*at), event);
    }
    let mut moments: Vec<Moment> = Vec::new();
    let mut now = Tick::ZERO;
    // Far more than any of these projects needs; running into it is itself a failure (`every_world_ends`).
    while moments.len() < 6000 {
        let next = world.agenda.first_key_value().map(|(key, _)| *key);
        let deadline = core.next_deadline();
        let event = match (next, deadline) {
            (None, None) => break,
            (Some((at, _)), Some(due)) if due < at => {
                now = now.max(due);
                Event::Timer
            }
            (None, Some(due)) => {
                now = now.max(due);
                Event::Timer
            }
            (Some(key), _) => {
                now = now.max(key.0);
                match world.agenda.remove(&key) {
                    Some(event) => event,
                    None => break,
                }
            }
        };
        let alive = world.alive.clone();
        world.note(&event);
        let mut actions = Vec::new();
        core.step(now, event.clone(), &mut actions);
        for action in &actions {
            world.act(now, action, &core);
        }
        if let Event::ProbePassed(id, g, _)
        | Event::ProbeFailed(id, g, ..)
        | Event::LivenessPassed(id, g)
        | Event::LivenessFailed(id, g, _) = &event
        {
            let key = (id.clone(), *g);
            if world.probing.contains(&key) && !core.is_stopping() {
                world.probe(now, &key, core.spec(id));
            }
        }
        let same = |known: &BTreeMap<ServiceId, Arc<ServiceSpec>>| {
            known.iter().all(|(id, spec)| core.spec(id).is_some_and(|now| Arc::ptr_eq(now, spec)))
                && core.plan().services.keys().all(|id| known.contains_key(id))
        };
        let specs = match moments.last() {
            Some(last) if same(&last.specs) => last.specs.clone(),
            _ => Arc::new(
                core.service_views().iter().filter_map(|view| Some((view.id.clone(), core.spec(&view.id)?.clone()))).collect(),
            ),
        };
        let looked = matches!(event, Event::Command(Command::RotateSecret { .. }))
            || actions.iter().any(|action| matches!(action, Action::RunInit(..) | Action::StartFinished(_)));
        moments.push(Moment {
            at: now,
            astray: core.check().err(),
            event,
            actions,
            alive,
            stopping: core.is_stopping(),
            finished: core.is_finished(),
            deadline: core.next_deadline(),
            specs,
            views: if looked { core.service_views() } else { Vec::new() },
        });
    }
    Record { project: project.clone(), moments, left: world.alive }
}
