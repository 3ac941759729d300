//! The engine: what it holds, and how it is put together. What it does is in the files next to this one, by concept: `event_loop`
//! hears, `request_handlers` and `driver_events` turn that into events, `actions` and its neighbours carry out what the core
//! decides, `publication` says what happened.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;

use crate::copy_names::CopyNames;
use crate::probe::{ListenWatch, ProbeReport};
use devrun_core::event::Generation;
use devrun_core::{CrashLoops, Event, StartOutcome, Supervisor};
use devrun_keeper::{KeeperEvent, KeeperHandle, ProcessEvent};
use devrun_logs::{LogPump, LossReport};
use devrun_model::feed::{FeedItem, Outcome, Status};
use devrun_model::keeper::ProcessId;
use devrun_model::mask::Masker;
use devrun_model::{Paths, Plan, ServiceId};
use devrun_store::FetchOptions;

use super::balancer_processes::Balancers;
use super::build_queue::BuildQueue;
use super::clock::Clock;
use super::drivers::Drivers;
use super::handle::{EngineHandle, EngineRequest};
use super::health_notices::HealthNotices;
use super::held_sockets::HeldSockets;
use super::input_hashes::InputHashes;
use super::instance::Instance;
use super::lost_output::LostOutput;
use super::on_demand::DemandWatch;
use super::server_versions::{self, ServerVersion};
use super::state_files::{self, JsonLog};
use super::task_result::TaskResult;
use crate::directory_answers::DirectoryAnswers;

/// What an engine is made of.
pub struct EngineOptions {
    /// The project.
    pub plan: Arc<Plan>,
    /// Its directories.
    pub places: Paths,
    /// Where binaries come from.
    pub fetch: FetchOptions,
    /// The keeper.
    pub keeper: KeeperHandle,
    /// The keeper's own news.
    pub link: mpsc::UnboundedReceiver<KeeperEvent>,
    /// The log pump.
    pub pump: LogPump,
    /// The value of `DEVRUN_RUN_ID`.
    pub run: String,
    /// Probes, ports and time.
    pub drivers: Drivers,
}

/// How an engine ended.
#[derive(Debug)]
pub struct EngineExit {
    /// The outcome, failures with their logs.
    pub outcome: Outcome,
    /// What could not be ended: pid and command.
    pub survivors: Vec<(i32, String)>,
    /// The directories of scratch volumes, which end with the run.
    pub scratch: Vec<std::path::PathBuf>,
}

/// The engine.
pub struct Engine {
    pub(super) plan: Arc<Plan>,
    pub(super) places: Paths,
    pub(super) fetch: FetchOptions,
    pub(super) keeper: KeeperHandle,
    pub(super) pump: LogPump,
    pub(super) drivers: Drivers,
    pub(super) run: String,
    pub(super) clock: Clock,
    pub(super) health_notices: HealthNotices,
    pub(super) crash_loops: CrashLoops,
    pub(super) core: Supervisor,
    pub(super) instances: BTreeMap<ServiceId, Instance>,
    /// Processes that serve until the next one of their service is ready, or are being stopped since.
    pub(super) previous_instances: BTreeMap<ServiceId, Instance>,
    pub(super) processes: BTreeMap<ProcessId, (ServiceId, Generation)>,
    pub(super) queue: VecDeque<Event>,
    pub(super) task_results: mpsc::UnboundedSender<TaskResult>,
    pub(super) process_events: mpsc::UnboundedSender<ProcessEvent>,
    pub(super) probe_reports: mpsc::UnboundedSender<(ServiceId, Generation, ProbeReport)>,
    pub(super) listen_watch: ListenWatch,
    /// What serves the addresses that copies share.
    pub(super) balancers: Balancers,
    pub(super) copy_names: CopyNames,
    /// What services listen on that bind no port themselves.
    pub(super) held_sockets: HeldSockets,
    pub(super) directories: DirectoryAnswers,
    /// Those that wait for the first connection of a service that is asleep.
    pub(super) demand_watches: BTreeMap<ServiceId, DemandWatch>,
    pub(super) watcher: Option<crate::watch::FileWatcher>,
    /// Services whose `build` is run before their next start.
    pub(super) to_build: BTreeSet<ServiceId>,
    /// In which order, and what has been built.
    pub(super) builds: BuildQueue,
    /// `down -t`: no grace is longer.
    pub(super) max_grace: Option<Duration>,
    pub(super) manual_stops: BTreeSet<ServiceId>,
    pub(super) events: JsonLog,
    pub(super) started: JsonLog,
    /// Output that log files could not take.
    pub(super) lost: BTreeMap<ServiceId, LostOutput>,
    /// What one-time work had read when it was last begun or looked at.
    pub(super) inputs: BTreeMap<ServiceId, InputHashes>,
    /// The server that each service ran last.
    pub(super) servers: BTreeMap<ServiceId, ServerVersion>,
    /// Of the plan in force: what we say goes to terminals, files and bug reports.
    pub(super) masker: Masker,
    pub(super) subscribers: Vec<mpsc::Sender<Arc<FeedItem>>>,
    pub(super) held: bool,
    /// What a viewer who subscribed when the hold began would have.
    pub(super) subscription: Option<(Status, mpsc::Receiver<Arc<FeedItem>>)>,
    pub(super) sequence: u64,
    pub(super) settled: Option<Outcome>,
    pub(super) finished: Option<StartOutcome>,
    /// Starts whose end is being described.
    pub(super) settling: usize,
    /// Starts that have not settled, in the order in which they were asked for; an outcome names its place among them.
    pub(super) starts: VecDeque<u64>,
    pub(super) requests: mpsc::UnboundedReceiver<EngineRequest>,
    pub(super) link: mpsc::UnboundedReceiver<KeeperEvent>,
    pub(super) task_result_receiver: mpsc::UnboundedReceiver<TaskResult>,
    pub(super) process_receiver: mpsc::UnboundedReceiver<ProcessEvent>,
    pub(super) probe_report_receiver: mpsc::UnboundedReceiver<(ServiceId, Generation, ProbeReport)>,
    pub(super) losses: mpsc::UnboundedReceiver<LossReport>,
}

/// How long a service without a probe must have lived when a start is said to be over.
const PROOF_OF_LIFE: std::time::Duration = std::time::Duration::from_millis(100);

impl Engine {
    /// Puts the parts together; nothing starts before the first command.
    #[must_use]
    pub fn new(options: EngineOptions) -> (Self, EngineHandle) {
        let (request_sender, requests) = mpsc::unbounded_channel();
        let (task_results, task_result_receiver) = mpsc::unbounded_channel();
        let (process_events, process_receiver) = mpsc::unbounded_channel();
        let (probe_reports, probe_report_receiver) = mpsc::unbounded_channel();
        let manual_stops = state_files::manual_stops(&options.places);
        let servers = server_versions::of_last_run(&options.places);
        state_files::forget_snapshot(&options.places);
        let core = Supervisor::new(Arc::clone(&options.plan), manual_stops.clone()).with_proof_of_life(PROOF_OF_LIFE);
        let events = JsonLog::open(state_files::events_path(&options.places));
        let started = JsonLog::open(state_files::starts_path(&options.places));
        let losses = options.pump.losses();
        let masker = Masker::new(&options.plan, false);
        let engine = Self {
            plan: options.plan,
            places: options.places,
            fetch: options.fetch,
            keeper: options.keeper,
            pump: options.pump,
            run: options.run,
            clock: Clock::begin(Arc::clone(&options.drivers.time)),
            drivers: options.drivers,
            health_notices: HealthNotices::default(),
            crash_loops: CrashLoops::default(),
            core,
            instances: BTreeMap::new(),
            previous_instances: BTreeMap::new(),
            processes: BTreeMap::new(),
            queue: VecDeque::new(),
            task_results,
            process_events,
            probe_reports,
            listen_watch: ListenWatch::default(),
            balancers: Balancers::default(),
            copy_names: CopyNames::default(),
            held_sockets: HeldSockets::default(),
            directories: DirectoryAnswers::default(),
            demand_watches: BTreeMap::new(),
            watcher: None,
            to_build: BTreeSet::new(),
            builds: BuildQueue::default(),
            max_grace: None,
            manual_stops,
            events,
            started,
            lost: BTreeMap::new(),
            inputs: BTreeMap::new(),
            servers,
            masker,
            subscribers: Vec::new(),
            held: false,
            subscription: None,
            sequence: 0,
            settled: None,
            finished: None,
            settling: 0,
            starts: VecDeque::new(),
            requests,
            link: options.link,
            task_result_receiver,
            process_receiver,
            probe_report_receiver,
            losses,
        };
        (engine, EngineHandle { requests: request_sender })
    }
}
