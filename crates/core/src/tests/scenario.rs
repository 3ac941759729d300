//! A small language for scenarios: `Scenario` holds a supervisor, feeds it events at moments, and keeps a trace in which every
//! line is an event (`> `) or an action. The trace is the snapshot.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use crate::event::Generation;
use crate::{Action, Event, StartOutcome, Supervisor, Tick};
use devrun_model::keeper::ExitStatus;
use devrun_model::{
    Check, Command, Condition, Dependency, Failure, FailureKind, Kind, Plan, ProjectName, ReadySpec, RestartPolicy, ServiceId,
    ServiceName, ServiceSpec, State, StopPurpose, TaskSpec, UpOptions,
};

pub(crate) fn id(text: &str) -> ServiceId {
    ServiceId::parse(text).unwrap()
}

/// A bare service. `deps` reads like `depends_on`: `db`, `db:started`, `seed:completed`; a trailing `?` makes it not
/// required, a trailing `!` restarts with it.
pub(crate) fn service(name: &str, deps: &str) -> ServiceSpec {
    let mut spec = ServiceSpec::bare(ServiceName::new(name).unwrap(), "/".into(), vec![name.to_owned()]);
    spec.depends_on = deps
        .split_whitespace()
        .map(|dep| {
            let bare = dep.trim_end_matches(['?', '!']);
            let (on, condition) = bare.split_once(':').unwrap_or((bare, "healthy"));
            let condition = match condition {
                "started" => Condition::Started,
                "completed" => Condition::Completed,
                _ => Condition::Healthy,
            };
            Dependency { on: id(on), condition, required: !dep.ends_with('?'), restart: dep.ends_with('!') }
        })
        .collect();
    spec
}

/// A service with a probe, without jitter in its waits.
pub(crate) fn probed(name: &str, deps: &str) -> ServiceSpec {
    ServiceSpec { ready: Some(ReadySpec::new(vec![Check::Notify])), ..service(name, deps) }
}

/// A service with a probe that starts with its first connection, and sleeps after ten seconds without one.
pub(crate) fn on_demand(name: &str, deps: &str) -> ServiceSpec {
    ServiceSpec { listen: true, on_demand: Some(Duration::from_secs(10)), ..probed(name, deps) }
}

pub(crate) fn task(name: &str, deps: &str) -> ServiceSpec {
    let task = TaskSpec {
        once: None,
        idempotent: false,
        on_change: devrun_model::OnChange::Warn,
        timeout: Duration::from_secs(300),
        work: None,
        on: None,
        inputs: Vec::new(),
        input_globs: Vec::new(),
    };
    ServiceSpec { kind: Kind::Task, task: Some(task), ..service(name, deps) }
}

pub(crate) fn on_failure(max: u32, spec: ServiceSpec) -> ServiceSpec {
    ServiceSpec { restart: RestartPolicy::OnFailure { max: Some(max) }, ..spec }
}

pub(crate) fn plan(services: Vec<ServiceSpec>) -> Plan {
    Plan {
        project: ProjectName::new("shop").unwrap(),
        root: "/".into(),
        instance: String::new(),
        mode: None,
        timeout: Duration::from_secs(600),
        tier_pause: Duration::ZERO,
        tiers: BTreeMap::new(),
        services: services.into_iter().map(|spec| (spec.id.clone(), std::sync::Arc::new(spec))).collect(),
        inactive: BTreeMap::new(),
        volumes: BTreeMap::new(),
        queries: BTreeMap::new(),
        masks: BTreeSet::new(),
        derived: BTreeSet::new(),
        seed: 1,
    }
}

#[derive(Clone)]
pub(crate) struct Scenario {
    pub core: Supervisor,
    now: Tick,
    trace: String,
    actions: Vec<Action>,
}

impl Scenario {
    pub(crate) fn new(services: Vec<ServiceSpec>) -> Self {
        Self::of(plan(services), &[])
    }
    pub(crate) fn of(plan: Plan, remembered: &[&str]) -> Self {
        let core = Supervisor::new(Arc::new(plan), remembered.iter().map(|name| id(name)).collect());
        Self { core, now: Tick::ZERO, trace: String::new(), actions: Vec::new() }
    }
    /// Everything that follows happens at this moment.
    pub(crate) fn at(&mut self, ms: u64) -> &mut Self {
        self.now = Tick::ms(ms);
        self
    }
    pub(crate) fn feed(&mut self, event: Event) -> &mut Self {
        self.trace.push_str(&format!("> {} {}\n", self.now.0.as_millis(), event_text(&event)));
        let mut out = Vec::new();
        self.core.step(self.now, event, &mut out);
        assert_eq!(self.core.check(), Ok(()), "after\n{}", self.trace);
        for action in &out {
            self.trace.push_str(&format!("  {}\n", action_text(action)));
        }
        self.actions.extend(out);
        self
    }
    pub(crate) fn generation(&self, name: &str) -> Generation {
        self.core.service_views().into_iter().find(|view| view.id == id(name)).map_or(0, |view| view.generation)
    }
    pub(crate) fn state(&self, name: &str) -> State {
        self.core.service_views().into_iter().find(|view| view.id == id(name)).unwrap().state
    }
    pub(crate) fn reason(&self, name: &str) -> String {
        self.core.service_views().into_iter().find(|view| view.id == id(name)).unwrap().reason.unwrap_or_default()
    }
    /// The trace since the last call.
    pub(crate) fn trace(&mut self) -> String {
        std::mem::take(&mut self.trace)
    }
    /// All actions so far.
    pub(crate) fn actions(&self) -> &[Action] {
        &self.actions
    }
    pub(crate) fn count(&self, wanted: impl Fn(&Action) -> bool) -> usize {
        self.actions.iter().filter(|action| wanted(action)).count()
    }
    pub(crate) fn up(&mut self) -> &mut Self {
        self.up_with(&[], UpOptions::default())
    }
    pub(crate) fn up_with(&mut self, targets: &[&str], options: UpOptions) -> &mut Self {
        let targets = targets.iter().map(|name| id(name)).collect();
        self.feed(Event::Command(Command::Up { plan: None, targets, options }))
    }
    pub(crate) fn up_plan(&mut self, plan: Plan) -> &mut Self {
        let plan = Some(Arc::new(plan));
        self.feed(Event::Command(Command::Up { plan, targets: Vec::new(), options: UpOptions::default() }))
    }
    pub(crate) fn start(&mut self, targets: &[&str]) -> &mut Self {
        self.feed(Event::Command(Command::Start { plan: None, targets: targets.iter().map(|name| id(name)).collect() }))
    }
    pub(crate) fn stop(&mut self, targets: &[&str]) -> &mut Self {
        self.feed(Event::Command(Command::Stop {
            targets: targets.iter().map(|name| id(name)).collect(),
            purpose: StopPurpose::Manual,
        }))
    }
    pub(crate) fn restart(&mut self, targets: &[&str], with_dependents: bool) -> &mut Self {
        let targets = targets.iter().map(|name| id(name)).collect();
        self.feed(Event::Command(Command::Restart { plan: None, targets, with_dependents, grace_ms: None }))
    }
    pub(crate) fn renew(&mut self, plan: Plan, given: &[&str], targets: &[&str]) -> &mut Self {
        let ids = |names: &[&str]| names.iter().map(|name| id(name)).collect();
        self.feed(Event::Command(Command::RotateSecret { plan: Arc::new(plan), given: ids(given), targets: ids(targets) }))
    }
    pub(crate) fn down(&mut self) -> &mut Self {
        self.feed(Event::Command(Command::Down { grace_ms: None }))
    }
    pub(crate) fn timer(&mut self) -> &mut Self {
        self.feed(Event::Timer)
    }
    pub(crate) fn fetched(&mut self, name: &str) -> &mut Self {
        self.feed(Event::Fetched(id(name), self.generation(name)))
    }
    pub(crate) fn init_done(&mut self, name: &str) -> &mut Self {
        self.feed(Event::InitDone(id(name), self.generation(name)))
    }
    pub(crate) fn spawned(&mut self, name: &str) -> &mut Self {
        self.feed(Event::Spawned(id(name), self.generation(name), Some(100)))
    }
    /// Fetched, initialised and spawned.
    pub(crate) fn runs(&mut self, name: &str) -> &mut Self {
        self.fetched(name).init_done(name).spawned(name)
    }
    pub(crate) fn passed(&mut self, name: &str) -> &mut Self {
        self.feed(Event::ProbePassed(id(name), self.generation(name), None))
    }
    pub(crate) fn probe_failed(&mut self, name: &str, answer: &str) -> &mut Self {
        self.feed(Event::ProbeFailed(id(name), self.generation(name), answer.to_owned(), None))
    }
    pub(crate) fn exited(&mut self, name: &str, code: i32) -> &mut Self {
        self.feed(Event::Exited(id(name), self.generation(name), ExitStatus::Code(code), None))
    }
    pub(crate) fn empty(&mut self, name: &str) -> &mut Self {
        self.feed(Event::TreeEmpty(id(name), self.generation(name)))
    }
    /// A connection waits for it.
    pub(crate) fn demanded(&mut self, name: &str) -> &mut Self {
        self.feed(Event::Demanded(id(name), self.generation(name)))
    }
    /// It was in use so long ago.
    pub(crate) fn last_use(&mut self, name: &str, ms: u64) -> &mut Self {
        self.feed(Event::LastUse(id(name), self.generation(name), Some(Duration::from_millis(ms))))
    }
    /// Exited and the tree is empty.
    pub(crate) fn gone(&mut self, name: &str, code: i32) -> &mut Self {
        self.exited(name, code).empty(name)
    }
}

pub(crate) fn fail(kind: FailureKind, reason: &str) -> Failure {
    Failure::new(kind, reason)
}

pub(crate) fn outcome_text(outcome: &StartOutcome) -> String {
    let mut text = if outcome.failures.is_empty() { "ok".to_owned() } else { String::new() };
    for (id, failure) in &outcome.failures {
        let comma = if text.is_empty() { "" } else { "; " };
        text.push_str(&format!("{comma}{id}: {:?}: {}", failure.kind, failure.reason));
    }
    for (id, root) in &outcome.blocked {
        text.push_str(&format!("; {id} blocked by {root}"));
    }
    if let Some(code) = outcome.code_from {
        text.push_str(&format!("; code {code}"));
    }
    text
}

pub(crate) fn action_text(action: &Action) -> String {
    match action {
        Action::Fetch(id, g) => format!("fetch {id}#{g}"),
        Action::RunInit(id, g) => format!("init {id}#{g}"),
        Action::Cancel(id, g) => format!("cancel {id}#{g}"),
        Action::Spawn(id, g) => format!("spawn {id}#{g}"),
        Action::AwaitDemand(id, g) => format!("await demand {id}#{g}"),
        Action::CheckUse(id, g) => format!("check use {id}#{g}"),
        Action::StartProbes(id, g) => format!("probe {id}#{g}"),
        Action::SetProbePace(id, g, is_often) => format!("probe {id}#{g} {}", if *is_often { "often" } else { "by interval" }),
        Action::UpdateSpec(id, g) => format!("redefine {id}#{g}"),
        Action::RestorePrevious(id, g) => format!("restore {id}#{g}"),
        Action::StopProbes(id, g) => format!("unprobe {id}#{g}"),
        Action::StopTree(id, g) => format!("stop {id}#{g}"),
        Action::SignalTree(id, g, signal) => format!("{signal} to all of {id}#{g}"),
        Action::KillTree(id, g) => format!("kill {id}#{g}"),
        Action::SignalLeader(id, g, signal) => format!("{signal} to {id}#{g}"),
        Action::PersistManualStop { id, stopped } => format!("remember {id} stopped={stopped}"),
        Action::Notify(n) => {
            let health = if n.health == devrun_model::Health::None { String::new() } else { format!(" ({})", n.health) };
            let reason = n.reason.as_ref().map(|reason| format!(": {reason}")).unwrap_or_default();
            let code = n.exit_code.map(|code| format!(" [{code}]")).unwrap_or_default();
            format!("{} {} → {}{health}{code}{reason}", n.service, n.from, n.to)
        }
        Action::Message(id, text) => format!("say {id}: {text}"),
        Action::StartFinished(outcome) => format!("settled {}", outcome_text(outcome)),
        Action::Shutdown(outcome) => format!("finish {}", outcome_text(outcome)),
    }
}

fn names(ids: &[ServiceId]) -> String {
    ids.iter().map(|id| format!(" {id}")).collect()
}

fn event_text(event: &Event) -> String {
    match event {
        Event::Command(Command::Up { plan, targets, .. }) => {
            format!("up{}{}", names(targets), if plan.is_some() { " with a plan" } else { "" })
        }
        Event::Command(Command::Start { targets, .. }) => format!("start{}", names(targets)),
        Event::Command(Command::Stop { targets, .. }) => format!("stop{}", names(targets)),
        Event::Command(Command::Restart { targets, with_dependents, .. }) => {
            format!("restart{}{}", names(targets), if *with_dependents { " with dependents" } else { "" })
        }
        Event::Command(Command::Scale { services, .. }) => {
            format!("scale{}", services.iter().map(|name| format!(" {name}")).collect::<String>())
        }
        Event::Command(Command::RotateSecret { given, targets, .. }) => {
            format!("renew{}; restart{}", names(given), names(targets))
        }
        Event::Command(Command::Kill { targets, signal }) => format!("{signal} for{}", names(targets)),
        Event::Command(Command::Down { grace_ms: None }) => "down".to_owned(),
        Event::Command(Command::Down { grace_ms: Some(ms) }) => format!("down within {ms}"),
        Event::Command(Command::KillAll) => "kill all".to_owned(),
        Event::Interrupted => "interrupted".to_owned(),
        Event::Timer => "timer".to_owned(),
        Event::Fetched(id, g) => format!("fetched {id}#{g}"),
        Event::FetchFailed(id, g, failure) => format!("fetch failed {id}#{g}: {failure}"),
        Event::InitDone(id, g) => format!("init done {id}#{g}"),
        Event::AlreadyDone(id, g, when) => format!("already done {id}#{g}: {when}"),
        Event::InitFailed(id, g, failure) => format!("init failed {id}#{g}: {failure}"),
        Event::Spawned(id, g, _) => format!("spawned {id}#{g}"),
        Event::SpawnFailed(id, g, failure) => format!("spawn failed {id}#{g}: {failure}"),
        Event::Exited(id, g, status, _) => format!("exited {id}#{g}: {status}"),
        Event::TreeEmpty(id, g) => format!("tree empty {id}#{g}"),
        Event::ExitHeld(id, g) => format!("exit held {id}#{g}"),
        Event::Survived(id, g, _) => format!("survived {id}#{g}"),
        Event::ProbePassed(id, g, _) => format!("passed {id}#{g}"),
        Event::ProbeFailed(id, g, answer, _) => format!("probe failed {id}#{g}: {answer}"),
        Event::LivenessPassed(id, g) => format!("alive {id}#{g}"),
        Event::LivenessFailed(id, g, answer) => format!("not alive {id}#{g}: {answer}"),
        Event::Demanded(id, g) => format!("demanded {id}#{g}"),
        Event::ListenFailed(id, g, failure) => format!("listen failed {id}#{g}: {failure}"),
        Event::LastUse(id, g, None) => format!("no use known {id}#{g}"),
        Event::LastUse(id, g, Some(age)) => format!("used {id}#{g} {} ago", age.as_millis()),
        Event::FileChanged(id, path) => format!("file changed {id}: {path}"),
    }
}
