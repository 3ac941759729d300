//! The stop of everything as a pure machine: recorded processes, the time and what has happened go in, signals and the next
//! deadline come out. The keeper runs it when its supervisor is gone, the sweep when both are gone; the supervisor's own stop
//! takes its order from the same `stop_order`. Every stage has a deadline, and what outlives SIGKILL holds
//! up nothing else.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use devrun_model::keeper::{ProcessId, Role};
use devrun_model::{ServiceId, Signal};

use super::stop_order::{Holder, next_to_stop};

pub use super::tick::Tick;

/// From a stronger signal (`stop.then`) to SIGKILL.
pub const ESCALATION_TO_KILL: Duration = Duration::from_secs(2);
/// From SIGKILL to the moment when a process counts as a survivor.
pub const KILL_TO_SURVIVOR: Duration = Duration::from_secs(5);
/// The longest grace of an init step: what it has made is thrown away.
const INIT_GRACE: Duration = Duration::from_secs(5);

/// A recorded process and how it is stopped.
#[derive(Debug, Clone, PartialEq)]
pub struct StoppableProcess {
    /// Its number in the run.
    pub process: ProcessId,
    /// Whose it is.
    pub service: ServiceId,
    /// What it is for. Only main processes have a place in the order.
    pub role: Role,
    /// What its service was started with as its dependencies.
    pub depends_on: Vec<ServiceId>,
    /// The numbered tier.
    pub tier: Option<u32>,
    /// From the first signal to the next step.
    pub grace: Duration,
    /// The stronger signal at the end of the grace.
    pub then: Option<Signal>,
    /// Whether a command is run before the first signal.
    pub stop_command: bool,
}

/// What is to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ShutdownAction {
    /// Start the stop command of this process.
    RunStopCommand(ProcessId),
    /// End the stop command of this process.
    KillStopCommand(ProcessId),
    /// Send the recorded stop signal.
    Stop(ProcessId),
    /// Send a stronger signal to the whole tree.
    SignalTree(ProcessId, Signal),
    /// Send SIGKILL to the whole tree until it is empty.
    Kill(ProcessId),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ShutdownStage {
    Queued,
    Command,
    Terminating,
    Escalated,
    Killing,
    Survived,
}

#[derive(Debug, Clone)]
struct ShutdownItem {
    process: StoppableProcess,
    stage: ShutdownStage,
    /// When the next stage is due; of no meaning before the first signal and after the last.
    due: Tick,
    /// Its tree is empty; only its stop command is left.
    is_gone: bool,
    command_ended: bool,
}

impl ShutdownItem {
    fn is_main(&self) -> bool {
        self.process.role == Role::Main
    }
    fn holds(&self) -> bool {
        self.is_main() && !self.is_gone && self.stage != ShutdownStage::Survived
    }
}

/// The shutdown of a set of processes.
#[derive(Debug, Clone, Default)]
pub struct Shutdown {
    items: BTreeMap<ProcessId, ShutdownItem>,
    killing: bool,
}

impl Shutdown {
    /// Adds a process; one that is known already stays as it is.
    pub fn add(&mut self, process: StoppableProcess) {
        let item = ShutdownItem { stage: ShutdownStage::Queued, due: Tick::ZERO, is_gone: false, command_ended: false, process };
        self.items.entry(item.process.process).or_insert(item);
    }
    /// Whether this process is part of it.
    #[must_use]
    pub fn has(&self, process: ProcessId) -> bool {
        self.items.contains_key(&process)
    }
    /// The processes that are left, survivors among them.
    pub fn processes(&self) -> impl Iterator<Item = ProcessId> {
        self.items.keys().copied()
    }
    /// Nothing is left of the tree of a process.
    pub fn mark_gone(&mut self, process: ProcessId) {
        match self.items.get_mut(&process) {
            Some(item) if item.stage == ShutdownStage::Command => item.is_gone = true,
            _ => drop(self.items.remove(&process)),
        }
    }
    /// The stop command of a process has ended, or could not be started.
    pub fn command_ended(&mut self, process: ProcessId) {
        if let Some(item) = self.items.get_mut(&process) {
            item.command_ended = true;
        }
    }
    /// The processes whose stop command was asked for and has not ended.
    pub fn commands(&self) -> impl Iterator<Item = ProcessId> {
        self.items
            .iter()
            .filter(|(_, item)| item.stage == ShutdownStage::Command && !item.command_ended)
            .map(|(process, _)| *process)
    }
    /// Ends all graces: SIGKILL for everything with the next step.
    pub fn kill_all(&mut self) {
        self.killing = true;
    }
    /// Whether everything is gone or has outlived SIGKILL.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.items.values().all(|item| item.stage == ShutdownStage::Survived)
    }
    /// Does what is due; returns when to come again if nothing happens before.
    pub fn step(&mut self, now: Tick, actions: &mut Vec<ShutdownAction>) -> Option<Tick> {
        // A zero grace passes several stages at once.
        while self.start_queued(now, actions) | self.advance_stages(now, actions) {}
        let deadlines = self.items.values().filter(|item| !matches!(item.stage, ShutdownStage::Queued | ShutdownStage::Survived));
        deadlines.map(|item| item.due).min()
    }
    /// The longest time that this takes, when nothing ends before it has outlived SIGKILL.
    #[must_use]
    pub fn max_duration(&self) -> Duration {
        let (mut copy, mut now) = (self.clone(), Tick::ZERO);
        while let Some(next) = copy.step(now, &mut Vec::new()) {
            now = next;
        }
        now.0
    }

    /// Asks those whose turn it is.
    fn start_queued(&mut self, now: Tick, actions: &mut Vec<ShutdownAction>) -> bool {
        let holders: Vec<Holder<'_>> = self
            .items
            .values()
            .filter(|item| item.holds())
            .map(|item| Holder {
                service: &item.process.service,
                depends_on: item.process.depends_on.iter().collect(),
                tier: item.process.tier,
                is_queued: item.stage == ShutdownStage::Queued,
            })
            .collect();
        let next: BTreeSet<ServiceId> = if holders.iter().any(|holder| holder.is_queued) && !self.killing {
            next_to_stop(&holders).into_iter().cloned().collect()
        } else {
            BTreeSet::new()
        };
        let mut moved = false;
        for (process, item) in self.items.iter_mut().filter(|(_, item)| item.stage == ShutdownStage::Queued) {
            let stage = match item.process.role {
                _ if self.killing => ShutdownStage::Killing,
                Role::Main if !next.contains(&item.process.service) => continue,
                Role::Main if item.process.stop_command => ShutdownStage::Command,
                Role::Main | Role::Init => ShutdownStage::Terminating,
                Role::PreStart | Role::StopCommand | Role::Probe | Role::Build => ShutdownStage::Killing,
            };
            moved = true;
            item.stage = stage;
            let grace = if item.is_main() { item.process.grace } else { item.process.grace.min(INIT_GRACE) };
            item.due = now + if stage == ShutdownStage::Killing { KILL_TO_SURVIVOR } else { grace };
            actions.push(match stage {
                ShutdownStage::Command => ShutdownAction::RunStopCommand(*process),
                ShutdownStage::Terminating => ShutdownAction::Stop(*process),
                _ => ShutdownAction::Kill(*process),
            });
        }
        moved
    }

    /// Moves on those whose deadline has come.
    fn advance_stages(&mut self, now: Tick, actions: &mut Vec<ShutdownAction>) -> bool {
        let mut moved = false;
        let killing = self.killing;
        for (process, item) in &mut self.items {
            let is_due = now >= item.due || killing;
            match item.stage {
                // One clock for command and signal together: a command that hangs must not double the grace.
                ShutdownStage::Command if is_due || item.command_ended => {
                    if !item.command_ended {
                        actions.push(ShutdownAction::KillStopCommand(*process));
                        item.command_ended = true;
                    }
                    if !item.is_gone {
                        actions.push(ShutdownAction::Stop(*process));
                    }
                    item.stage = ShutdownStage::Terminating;
                }
                ShutdownStage::Terminating if is_due => match item.process.then.filter(|_| item.is_main() && !killing) {
                    Some(signal) => {
                        actions.push(ShutdownAction::SignalTree(*process, signal));
                        (item.stage, item.due) = (ShutdownStage::Escalated, now + ESCALATION_TO_KILL);
                    }
                    None => {
                        actions.push(ShutdownAction::Kill(*process));
                        (item.stage, item.due) = (ShutdownStage::Killing, now + KILL_TO_SURVIVOR);
                    }
                },
                ShutdownStage::Escalated if is_due => {
                    actions.push(ShutdownAction::Kill(*process));
                    (item.stage, item.due) = (ShutdownStage::Killing, now + KILL_TO_SURVIVOR);
                }
                ShutdownStage::Killing if now >= item.due => item.stage = ShutdownStage::Survived,
                _ => continue,
            }
            moved = true;
        }
        self.items.retain(|_, item| !item.is_gone || item.stage == ShutdownStage::Command);
        moved
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `name` or `name@TIER`, then `:` and what it needs.
    fn shutdown(text: &str) -> Shutdown {
        let id = |name: &str| ServiceId::parse(name).unwrap();
        let mut shutdown = Shutdown::default();
        for (number, part) in text.split_whitespace().enumerate() {
            let (head, needs) = part.split_once(':').unwrap_or((part, ""));
            let (name, tier) = head.split_once('@').map_or((head, None), |(name, tier)| (name, tier.parse().ok()));
            shutdown.add(StoppableProcess {
                process: number as u64 + 1,
                service: id(name),
                role: Role::Main,
                depends_on: needs.split(',').filter(|name| !name.is_empty()).map(id).collect(),
                tier,
                grace: Duration::from_secs(10),
                then: None,
                stop_command: false,
            });
        }
        shutdown
    }

    /// Who is asked together, when each ends at once.
    fn order(mut shutdown: Shutdown) -> String {
        let mut rounds = Vec::new();
        while !shutdown.is_over() {
            let mut actions = Vec::new();
            shutdown.step(Tick::ZERO, &mut actions);
            let asked: Vec<ProcessId> = actions
                .iter()
                .map(|action| match action {
                    ShutdownAction::Stop(process) => *process,
                    other => panic!("{other:?}"),
                })
                .collect();
            assert!(!asked.is_empty(), "nothing moves: {shutdown:?}");
            rounds.push(
                asked.iter().map(|process| shutdown.items[process].process.service.to_string()).collect::<Vec<_>>().join(" "),
            );
            asked.into_iter().for_each(|process| shutdown.mark_gone(process));
        }
        rounds.join(" | ")
    }

    #[test]
    fn the_order_is_that_of_edges_and_tiers_and_circles_go_together() {
        for (plan, expected) in [
            ("", ""),
            ("a b", "a b"),
            ("db api:db web:api", "web | api | db"),
            ("a:gone b", "a b"),
            ("a:a", "a"),
            ("a:b b:a", "a b"),
            ("a:b b:a db c:db", "c | db | a b"),
            // What a cycle needs is stopped after it, what needs it before it.
            ("a:b,db b:a db top:a", "top | a b | db"),
            ("a:b b:a,c c:d d:c", "a b | c d"),
            ("a@1 b@2 c", "b c | a"),
            // `d` waits for the higher tier of `c`, and `c` for the edge of `d`.
            ("a@1 b@1 c@3 d@2:c", "c d | a b"),
            // The lower tier needs the upper one.
            ("a@1:b b@2", "a b"),
            ("a@1 b@2 c@2:a x:c", "b x | c | a"),
            ("low@1:top mid@2 top@3", "low mid top"),
        ] {
            assert_eq!(order(shutdown(plan)), expected, "{plan}");
        }
    }

    fn at(shutdown: &mut Shutdown, seconds: u64) -> (Vec<ShutdownAction>, Option<Tick>) {
        let mut actions = Vec::new();
        let next = shutdown.step(Tick::ms(seconds * 1000), &mut actions);
        (actions, next)
    }

    #[test]
    fn each_stage_ends_and_a_survivor_holds_nothing_up() {
        let mut shutdown = shutdown("db api:db");
        shutdown.items.get_mut(&2).unwrap().process.then = Some(Signal::TERM);
        assert_eq!(shutdown.max_duration(), Duration::from_secs(10 + 2 + 5 + 10 + 5));
        assert_eq!(at(&mut shutdown, 0), (vec![ShutdownAction::Stop(2)], Some(Tick::ms(10_000))));
        assert_eq!(at(&mut shutdown, 10).0, [ShutdownAction::SignalTree(2, Signal::TERM)]);
        assert_eq!(at(&mut shutdown, 12), (vec![ShutdownAction::Kill(2)], Some(Tick::ms(17_000))));
        assert_eq!(at(&mut shutdown, 17).0, [ShutdownAction::Stop(1)]);
        assert_eq!(at(&mut shutdown, 27).0, [ShutdownAction::Kill(1)]);
        assert!(!shutdown.is_over());
        assert_eq!(at(&mut shutdown, 32), (vec![], None));
        assert!(shutdown.is_over());
        assert_eq!(shutdown.processes().collect::<Vec<_>>(), [1, 2]);
    }

    #[test]
    fn a_stop_command_shares_the_grace_and_is_ended_with_it() {
        let mut shutdown = shutdown("db");
        shutdown.items.get_mut(&1).unwrap().process.stop_command = true;
        let mut hangs = shutdown.clone();
        let mut outlives = shutdown.clone();
        assert_eq!(at(&mut shutdown, 0).0, [ShutdownAction::RunStopCommand(1)]);
        shutdown.command_ended(1);
        assert_eq!(at(&mut shutdown, 1), (vec![ShutdownAction::Stop(1)], Some(Tick::ms(10_000))));
        at(&mut hangs, 0);
        assert_eq!(at(&mut hangs, 10).0, [ShutdownAction::KillStopCommand(1), ShutdownAction::Stop(1), ShutdownAction::Kill(1)]);
        // The service has ended by it, and it runs on.
        at(&mut outlives, 0);
        outlives.mark_gone(1);
        assert_eq!(at(&mut outlives, 1), (vec![], Some(Tick::ms(10_000))));
        assert_eq!(at(&mut outlives, 10), (vec![ShutdownAction::KillStopCommand(1)], None));
        assert!(outlives.is_over() && outlives.processes().count() == 0);
    }

    #[test]
    fn what_is_no_service_goes_at_once() {
        let mut shutdown = shutdown("db api:db");
        for (number, role) in [(3, Role::Init), (4, Role::Probe)] {
            let process = StoppableProcess { process: number, role, ..shutdown.items[&1].process.clone() };
            shutdown.add(process);
        }
        assert_eq!(
            at(&mut shutdown, 0),
            (vec![ShutdownAction::Stop(2), ShutdownAction::Stop(3), ShutdownAction::Kill(4)], Some(Tick::ms(5000)))
        );
    }

    #[test]
    fn killing_leaves_out_order_and_graces() {
        let mut shutdown = shutdown("db api:db");
        at(&mut shutdown, 0);
        shutdown.kill_all();
        assert_eq!(at(&mut shutdown, 1), (vec![ShutdownAction::Kill(1), ShutdownAction::Kill(2)], Some(Tick::ms(6000))));
        assert_eq!(at(&mut shutdown, 6), (vec![], None));
        assert!(shutdown.is_over());
    }

    #[test]
    fn a_grace_without_end_is_still_a_number() {
        let mut shutdown = shutdown("db api:db");
        shutdown.items.values_mut().for_each(|item| item.process.grace = Duration::MAX);
        assert_eq!(shutdown.max_duration(), Duration::MAX);
    }

    use proptest::prelude::*;

    proptest! {
        /// Whatever the edges, tiers and worlds, it ends within the time that it names, and nothing is asked while something
        /// lives that needs it, unless both are needed by one another.
        #[test]
        fn every_shutdown_ends_in_time_and_in_order(
            plan in prop::collection::vec((prop::option::of(0u32..3), prop::collection::vec(0usize..8, 0..3), 0u64..4, any::<bool>()), 1..8),
        ) {
            let id = |at: usize| ServiceId::parse(&format!("s{at}")).unwrap();
            let mut shutdown = Shutdown::default();
            for (at, (tier, edges, grace, then)) in plan.iter().enumerate() {
                shutdown.add(StoppableProcess {
                    process: at as u64,
                    service: id(at),
                    role: Role::Main,
                    depends_on: edges.iter().map(|on| id(*on)).collect(),
                    tier: *tier,
                    grace: Duration::from_secs(*grace),
                    then: then.then_some(Signal::TERM),
                    stop_command: false,
                });
            }
            let needs = |upper: usize, lower: usize| {
                upper != lower && (plan[upper].1.contains(&lower) || matches!((plan[upper].0, plan[lower].0), (Some(u), Some(l)) if u > l))
            };
            let reaches = |from: usize, to: usize| {
                let (mut seen, mut open) = (BTreeSet::new(), vec![from]);
                while let Some(at) = open.pop() {
                    open.extend((0..plan.len()).filter(|next| needs(at, *next) && seen.insert(*next)));
                }
                seen.contains(&to)
            };
            let (max_duration, mut now) = (shutdown.max_duration(), Tick::ZERO);
            loop {
                let mut actions = Vec::new();
                let next = shutdown.step(now, &mut actions);
                for action in actions {
                    let ShutdownAction::Stop(lower) = action else { continue };
                    for (upper, item) in shutdown.items.iter().filter(|(_, item)| item.holds()) {
                        let (upper, lower) = (*upper as usize, lower as usize);
                        prop_assert!(!needs(upper, lower) || reaches(lower, upper), "{lower} before {upper}: {item:?}");
                    }
                }
                // Every third service outlives SIGKILL; every other one ends by its grace.
                let Some(next) = next else { break };
                now = next;
                let ending: Vec<ProcessId> = shutdown.items.iter().filter(|(at, item)| *at % 3 != 0 && item.due <= now && item.stage != ShutdownStage::Queued).map(|(at, _)| *at).collect();
                ending.into_iter().for_each(|process| shutdown.mark_gone(process));
            }
            prop_assert!(shutdown.is_over(), "{shutdown:?}");
            prop_assert!(now.0 <= max_duration, "{now:?} after {max_duration:?}");
        }
    }
}
