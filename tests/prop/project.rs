//! Random projects: a graph of at most twelve services and tasks, with policies, conditions and requests over time.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::Duration;

use devrun_model::{
    Backoff, Check, Command, Condition, Dependency, Kind, OnChange, Plan, ProjectName, ReadySpec, RestartPolicy, ServiceId,
    ServiceName, ServiceSpec, Signal, StopPurpose, TaskSpec, UpOptions, UpdateOrder,
};
use proptest::prelude::*;

/// A plan, what is asked of it when, and how the world behaves.
#[derive(Clone)]
pub struct Project {
    pub plan: Plan,
    /// A second plan, taken over by an `Up` in the middle.
    pub later: Plan,
    /// The second plan's commands with other passwords, taken over by a `Renew`: some differ from the first in no more.
    pub renewed: Plan,
    pub requests: Vec<(u64, Request)>,
    pub seed: u64,
    /// Of a thousand answers, how many come twice, get lost (probe answers; beyond a limit others too), or tell of a
    /// failure.
    pub twice: u32,
    pub lost: u32,
    pub broken: u32,
    /// Of a thousand trees, how many outlive SIGKILL.
    pub immortal: u32,
    pub slow_ms: u64,
}

impl Project {
    /// In a world this careless even answers to fetch, init and spawn get lost.
    pub fn forgets(&self) -> bool {
        self.lost > 150
    }
}

impl fmt::Debug for Project {
    /// What a failing case must show, and no more: a whole plan fills pages.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, plan) in [("plan", &self.plan), ("later", &self.later)] {
            writeln!(f, "{name}:")?;
            for spec in plan.services.values() {
                let deps: Vec<String> = spec
                    .depends_on
                    .iter()
                    .map(|edge| {
                        let marks = (if edge.required { "" } else { "?" }, if edge.restart { "!" } else { "" });
                        format!("{}:{}{}{}", edge.on, edge.condition.as_str(), marks.0, marks.1)
                    })
                    .collect();
                writeln!(
                    f,
                    "  {} {:?} [{}] restart={} ready={} alive={} optional={} tier={:?} grace={:?} then={:?} missing={} on_demand={:?}",
                    spec.id,
                    spec.kind,
                    deps.join(" "),
                    spec.restart,
                    spec.ready.is_some(),
                    spec.alive.is_some(),
                    spec.optional,
                    spec.tier,
                    spec.stop.grace,
                    spec.stop.then,
                    spec.missing.len(),
                    spec.on_demand,
                )?;
            }
        }
        let Self { requests, seed, twice, lost, broken, immortal, slow_ms, .. } = self;
        writeln!(f, "{requests:?}")?;
        write!(f, "seed={seed} twice={twice} lost={lost} broken={broken} immortal={immortal} slow_ms={slow_ms}")
    }
}

#[derive(Debug, Clone)]
pub enum Request {
    Send(Command),
    UpLater,
    /// A secret was rotated: who was given the new password while running, and who is to restart.
    Renew(Vec<ServiceId>, Vec<ServiceId>),
    Interrupt,
    FileChanged(ServiceId),
}

pub fn id(index: usize) -> ServiceId {
    ServiceId::single(&ServiceName::new(format!("s{index:02}")).unwrap())
}

#[derive(Debug, Clone)]
struct Draft {
    task: bool,
    ready: bool,
    alive: bool,
    optional: bool,
    missing: bool,
    policy: u8,
    on_unhealthy: u8,
    grace_ms: u64,
    then: bool,
    within_ms: u64,
    tier: bool,
    /// It starts with its first connection, and ends after so long without one (0: never).
    idle_ms: Option<u64>,
    edges: Vec<(usize, u8, bool, bool)>,
}

fn drafts() -> impl Strategy<Value = Vec<Draft>> {
    let one = (
        prop::bool::weighted(0.25),
        any::<bool>(),
        prop::bool::weighted(0.2),
        prop::bool::weighted(0.15),
        prop::bool::weighted(0.03),
        0u8..5,
        0u8..3,
        0u64..3000,
        prop::bool::weighted(0.2),
        500u64..20_000,
        (prop::bool::weighted(0.15), prop::option::weighted(0.25, prop_oneof![1 => Just(0u64), 3 => 500u64..8000])),
        prop::collection::vec((any::<prop::sample::Index>(), 0u8..3, prop::bool::weighted(0.8), prop::bool::weighted(0.2)), 0..4),
    );
    prop::collection::vec(one, 1..=12).prop_map(|drafts| {
        let mut all = Vec::new();
        for (
            i,
            (task, ready, alive, optional, missing, policy, on_unhealthy, grace_ms, then, within_ms, (tier, idle_ms), edges),
        ) in drafts.into_iter().enumerate()
        {
            // Edges point to earlier ones only, so there is no loop.
            let edges = if i == 0 { Vec::new() } else { edges.into_iter().map(|(n, c, r, s)| (n.index(i), c, r, s)).collect() };
            all.push(Draft {
                task,
                ready,
                alive,
                optional,
                missing,
                policy,
                on_unhealthy,
                grace_ms,
                then,
                within_ms,
                tier,
                idle_ms,
                edges,
            });
        }
        all
    })
}

/// Every other service has a password in the plan.
fn plan(drafts: &[Draft], skip: Option<usize>, variant: u64, password: &str) -> Plan {
    let mut services = BTreeMap::new();
    for (i, draft) in drafts.iter().enumerate().filter(|(i, _)| Some(*i) != skip) {
        let name = ServiceName::new(format!("s{i:02}")).unwrap();
        let mut spec = ServiceSpec::bare(name, "/".into(), vec![format!("v{}", if i % 3 == 0 { variant } else { 0 })]);
        spec.optional = draft.optional;
        if i % 2 == 0 {
            spec.attributes.insert("password".to_owned(), password.to_owned());
        }
        if draft.missing {
            spec.missing = vec!["KEY".to_owned()];
        }
        let quick = ReadySpec {
            within: Duration::from_millis(draft.within_ms),
            interval: Duration::from_millis(400),
            retries: 2,
            ..ReadySpec::new(vec![Check::Notify])
        };
        if draft.task {
            spec.kind = Kind::Task;
            spec.task = Some(TaskSpec {
                once: None,
                idempotent: false,
                on_change: OnChange::Warn,
                timeout: Duration::from_secs(8),
                work: None,
                // Where it depends on anything, its work is for the first of them.
                on: draft.edges.first().filter(|(on, ..)| i % 2 == 0 && Some(*on) != skip).map(|(on, ..)| id(*on)),
                inputs: Vec::new(),
                input_globs: Vec::new(),
            });
        } else {
            spec.ready = draft.ready.then(|| quick.clone());
            spec.alive = draft.alive.then_some(quick);
            spec.on_demand = draft.idle_ms.map(Duration::from_millis);
            if i % 3 == 1 {
                spec.update.order = UpdateOrder::StartFirst;
            }
        }
        spec.restart = match draft.policy {
            0 | 1 => RestartPolicy::No,
            2 => RestartPolicy::OnFailure { max: Some(2) },
            3 => RestartPolicy::Always,
            _ => RestartPolicy::UnlessStopped,
        };
        spec.on_unhealthy = match draft.on_unhealthy {
            0 => devrun_model::service::OnUnhealthy::Ignore,
            1 => devrun_model::service::OnUnhealthy::Restart,
            _ => devrun_model::service::OnUnhealthy::Stop,
        };
        spec.backoff = Backoff { reset: Duration::from_secs(3), ..Backoff::default() };
        spec.stop.grace = Duration::from_millis(draft.grace_ms);
        spec.stop.then = draft.then.then_some(Signal::INT);
        // Tiers along the order of the edges, so that the two never contradict one another.
        spec.tier = draft.tier.then_some(i as u32 / 4 + 1);
        spec.depends_on = draft
            .edges
            .iter()
            .filter(|(on, ..)| Some(*on) != skip)
            .map(|(on, condition, required, restart)| {
                let target = &drafts[*on];
                let condition = match condition {
                    _ if target.task => Condition::Completed,
                    0 => Condition::Started,
                    _ if target.ready => Condition::Healthy,
                    _ => Condition::Started,
                };
                Dependency { on: id(*on), condition, required: *required, restart: *restart }
            })
            .collect();
        services.insert(spec.id.clone(), std::sync::Arc::new(spec));
    }
    Plan {
        project: ProjectName::new("world").unwrap(),
        root: "/".into(),
        instance: String::new(),
        mode: None,
        timeout: Duration::from_secs(15),
        tier_pause: Duration::from_millis(if variant.is_multiple_of(2) { 0 } else { 300 }),
        tiers: BTreeMap::new(),
        services,
        inactive: BTreeMap::new(),
        volumes: BTreeMap::new(),
        queries: BTreeMap::new(),
        masks: BTreeSet::new(),
        derived: BTreeSet::new(),
        seed: variant,
    }
}

fn request(services: usize) -> impl Strategy<Value = Request> {
    let some = move || prop::collection::vec((0..services).prop_map(id), 0..3);
    let one = move || prop::collection::vec((0..services).prop_map(id), 1..2);
    prop_oneof![
        3 => some().prop_map(|targets| Request::Send(Command::Start { plan: None, targets })),
        4 => one().prop_map(|targets| Request::Send(Command::Stop { targets, purpose: StopPurpose::Manual })),
        1 => some().prop_map(|targets| Request::Send(Command::Stop { targets, purpose: StopPurpose::Manual })),
        4 => (some(), any::<bool>())
            .prop_map(|(targets, with_dependents)| Request::Send(Command::Restart { plan: None, targets, with_dependents, grace_ms: None })),
        2 => (some(), any::<bool>()).prop_map(|(targets, no_deps)| {
            Request::Send(Command::Up { plan: None, targets, options: UpOptions { no_deps, ..UpOptions::default() } })
        }),
        2 => Just(Request::UpLater),
        2 => (prop::collection::vec((0..services).prop_map(id), 0..4), some())
            .prop_map(|(given, targets)| Request::Renew(given, targets)),
        1 => some().prop_map(|targets| Request::Send(Command::Kill { targets, signal: Signal::INT })),
        1 => Just(Request::Interrupt),
        1 => (0..services).prop_map(|n| Request::FileChanged(id(n))),
    ]
}

prop_compose! {
    pub fn projects()(drafts in drafts())(
        requests in prop::collection::vec((0u64..20_000, request(drafts.len())), 0..6),
        skip in prop::option::weighted(0.5, 0..drafts.len()),
        ending in 0u8..4,
        options in (prop::bool::weighted(0.1), prop::bool::weighted(0.1), prop::option::weighted(0.1, 0..drafts.len())),
        (seed, variant) in (any::<u64>(), 1u64..100),
        twice in 0u32..150,
        lost in 0u32..200,
        broken in prop_oneof![4 => 0u32..200, 1 => 200u32..700],
        immortal in prop_oneof![4 => Just(0u32), 1 => Just(150u32)],
        slow_ms in prop_oneof![Just(5u64), Just(200), Just(2500)],
        drafts in Just(drafts),
    ) -> Project {
        let options = UpOptions { rollback: options.0, abort_on_failure: options.1, exit_code_from: options.2.map(id), ..UpOptions::default() };
        let mut requests = requests;
        requests.push((0, Request::Send(Command::Up { plan: None, targets: Vec::new(), options })));
        // Every world ends, one way or the other, so that the stop is always seen.
        requests.push((24_000, match ending {
            0 => Request::Interrupt,
            1 => Request::Send(Command::Down { grace_ms: Some(500) }),
            2 => Request::Send(Command::KillAll),
            _ => Request::Send(Command::Down { grace_ms: None }),
        }));
        if ending == 0 {
            requests.push((24_300, Request::Interrupt));
            requests.push((24_300, Request::Interrupt));
        }
        requests.sort_by_key(|(at, _)| *at);
        let later = plan(&drafts, skip, variant + 1, "old");
        let renewed = plan(&drafts, None, variant + 1, "new");
        Project { plan: plan(&drafts, None, variant, "old"), later, renewed, requests, seed, twice, lost, broken, immortal, slow_ms }
    }
}
