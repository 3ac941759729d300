//! The loop itself.
//!
//! Long because everything the loop hears is in one place; taken apart, its order would be harder to see.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::mpsc;

use crate::logs::{LogPump, LossReport};
use crate::mask_hashes::MaskHashes;
use crate::probe::{ListenWatch, ProbeHandle, ProbeReport, Sleeper};
use devrun_core::event::Generation;
use devrun_core::{Action, Event, StartOutcome, Supervisor};
use devrun_keeper::{KeeperEvent, KeeperHandle, ProcessEvent};
use devrun_model::keeper::{ExitStatus, ProcessId};
use devrun_model::mask::Masker;
use devrun_model::{Command, Failure, Launch, Paths, Plan, ServiceId, State, StateChange};
use devrun_store::{FetchOptions, Located};

use super::changed_inputs::InputHashes;
use super::clock::Clock;
use super::handle::{EngineHandle, EngineRequest};
use super::health_notices::{self, HealthNotices};
use super::instance::Instance;
use super::last_lines::last_lines;
use super::lost_output::LostOutput;
use super::state_files::{self, JsonLog};
use devrun_model::feed::{FailedService, FeedItem, Outcome, Status, StopReport};

/// What an engine is made of.
pub struct EngineOptions {
    /// The project.
    pub plan: Arc<Plan>,
    /// Its folders.
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
}

/// This long after the last start, memory that only starts need is given back.
const REST_AFTER: Duration = Duration::from_secs(1);
/// A viewer that is this far behind is dropped.
const FEED_BACKLOG: usize = 65_536;

/// How an engine ended.
#[derive(Debug)]
pub struct EngineExit {
    /// The outcome, failures with their logs.
    pub outcome: Outcome,
    /// What could not be ended: pid and command.
    pub survivors: Vec<(i32, String)>,
    /// The folders of scratch volumes, which end with the run.
    pub scratch: Vec<std::path::PathBuf>,
}

/// News from tasks that the engine started.
pub(super) enum TaskResult {
    Fetched(ServiceId, Generation, Result<Arc<Located>, Failure>),
    Init(ServiceId, Generation, Result<Vec<String>, Failure>),
    Work(ServiceId, Generation, Result<(), Failure>),
    TaskCommitted(ServiceId, Generation, ExitStatus, Result<(), Failure>),
    StopCommandDone(ServiceId, Generation),
    ExitHeld(ServiceId, Generation),
    Built(ServiceId),
    Said(ServiceId, String),
    Publish(FeedItem),
    FileChanged(ServiceId, String),
    Rest,
}

/// The engine.
pub struct Engine {
    pub(super) plan: Arc<Plan>,
    pub(super) places: Paths,
    pub(super) fetch: FetchOptions,
    pub(super) keeper: KeeperHandle,
    pub(super) pump: LogPump,
    pub(super) run: String,
    pub(super) clock: Clock,
    pub(super) health_notices: HealthNotices,
    pub(super) core: Supervisor,
    pub(super) instances: BTreeMap<ServiceId, Instance>,
    pub(super) processes: BTreeMap<ProcessId, (ServiceId, Generation)>,
    pub(super) queue: VecDeque<Event>,
    pub(super) task_results: mpsc::UnboundedSender<TaskResult>,
    pub(super) process_events: mpsc::UnboundedSender<ProcessEvent>,
    pub(super) probe_reports: mpsc::UnboundedSender<(ServiceId, Generation, ProbeReport)>,
    pub(super) listen_watch: ListenWatch,
    pub(super) watcher: Option<crate::watch::FileWatcher>,
    /// Services whose `build` is run before their next start.
    pub(super) to_build: BTreeSet<ServiceId>,
    /// `down -t`: no grace is longer.
    pub(super) max_grace: Option<Duration>,
    manual_stops: BTreeSet<ServiceId>,
    events: JsonLog,
    started: JsonLog,
    /// Output that log files could not take.
    pub(super) lost: BTreeMap<ServiceId, LostOutput>,
    /// What one-time work had read when it was last begun or looked at.
    pub(super) inputs: BTreeMap<ServiceId, InputHashes>,
    /// Of the plan in force: what we say goes to terminals, files and bug reports.
    pub(super) masker: Masker,
    subscribers: Vec<mpsc::Sender<Arc<FeedItem>>>,
    held: bool,
    /// What a viewer who subscribed when the hold began would have.
    subscription: Option<(Status, mpsc::Receiver<Arc<FeedItem>>)>,
    sequence: u64,
    pub(super) settled: Option<Outcome>,
    finished: Option<StartOutcome>,
    /// Starts whose end is being described.
    settling: usize,
    /// Starts that have not settled, in the order in which they were asked for: the core settles them in that order.
    starts: VecDeque<u64>,
    requests: mpsc::UnboundedReceiver<EngineRequest>,
    link: mpsc::UnboundedReceiver<KeeperEvent>,
    task_result_receiver: mpsc::UnboundedReceiver<TaskResult>,
    process_receiver: mpsc::UnboundedReceiver<ProcessEvent>,
    probe_report_receiver: mpsc::UnboundedReceiver<(ServiceId, Generation, ProbeReport)>,
    losses: mpsc::UnboundedReceiver<LossReport>,
}

/// How long a service without a probe must have lived when a start is said to be over.
const PROOF_OF_LIFE: std::time::Duration = std::time::Duration::from_millis(100);
/// How long the end of a run waits for the log files.
const LAST_WORDS: std::time::Duration = std::time::Duration::from_secs(5);

impl Engine {
    /// Puts the parts together; nothing starts before the first command.
    #[must_use]
    pub fn new(options: EngineOptions) -> (Self, EngineHandle) {
        let (request_sender, requests) = mpsc::unbounded_channel();
        let (task_results, task_result_receiver) = mpsc::unbounded_channel();
        let (process_events, process_receiver) = mpsc::unbounded_channel();
        let (probe_reports, probe_report_receiver) = mpsc::unbounded_channel();
        let manual_stops = state_files::manual_stops(&options.places);
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
            clock: Clock::begin(),
            health_notices: HealthNotices::default(),
            core,
            instances: BTreeMap::new(),
            processes: BTreeMap::new(),
            queue: VecDeque::new(),
            task_results,
            process_events,
            probe_reports,
            listen_watch: ListenWatch::default(),
            watcher: None,
            to_build: BTreeSet::new(),
            max_grace: None,
            manual_stops,
            events,
            started,
            lost: BTreeMap::new(),
            inputs: BTreeMap::new(),
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

    /// Runs until the core is finished.
    pub async fn run(mut self) -> EngineExit {
        self.remember_masks();
        // A KILL at the end of a grace is not to come a millisecond late. One that nobody waits for any more costs a last
        // wake-up within a second.
        let mut sleeper = Sleeper::default();
        loop {
            let deadline = self.core.next_deadline().map(|tick| self.clock.instant(tick));
            let wake = health_notices::wake(deadline, Instant::now());
            let timer = async {
                match wake {
                    Some(at) => sleeper.sleep_exactly(at.saturating_duration_since(Instant::now())).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                Some(event) = self.process_receiver.recv() => self.on_process(event),
                Some((id, generation, answer)) = self.probe_report_receiver.recv() => self.on_probe_report(id, generation, answer),
                Some(result) = self.task_result_receiver.recv() => self.on_task_result(result),
                Some(request) = self.requests.recv() => self.on_request(request),
                Some(link) = self.link.recv() => self.on_link(link),
                Some(lost) = self.losses.recv() => self.on_log_loss(lost),
                () = timer => {}
            }
            // Before anything acts on a deadline: time in which we could not run is nobody's fault.
            if let Some(pause) = health_notices::overslept(wake, Instant::now()) {
                self.clock.skip(pause);
            }
            if deadline.is_some() && self.core.next_deadline().is_some_and(|tick| tick <= self.clock.now()) {
                self.queue.push_back(Event::Timer);
            }
            // Everything that is there already belongs to this wake-up: exits come in batches.
            while let Ok(event) = self.process_receiver.try_recv() {
                self.on_process(event);
            }
            self.process_queue();
            self.report_slow_stops();
            if !self.held
                && let Some(outcome) = self.finished.take()
            {
                return self.shut_down(outcome).await;
            }
        }
    }

    /// A stop that takes long is no hang: every few seconds it is said who holds it up.
    fn report_slow_stops(&mut self) {
        let now = self.clock.now();
        if !self.core.has_stop_in_progress() || !self.health_notices.should_check(now) {
            return;
        }
        let words = self
            .core
            .stops_in_progress()
            .filter_map(|(id, progress)| Some((id.clone(), self.health_notices.slow_stop(id, progress, now)?)));
        for (id, text) in words.collect::<Vec<_>>() {
            self.publish(FeedItem::Said { id, text });
        }
    }

    /// A service that crashes over and over is named with what it said last; the single restarts are lost among others.
    fn report_crash_loop(&mut self, id: &ServiceId) {
        let now = self.clock.now();
        if !self.health_notices.is_crash_loop(id, now) {
            return;
        }
        let (folder, task_results, id) = (self.places.logs(), self.task_results.clone(), id.clone());
        // Asked for before the next start begins, whose output is not meant.
        let drained = self.pump.drain(&id);
        tokio::spawn(async move {
            let last = last_lines(&folder, &id, drained.await, 1).pop();
            let last = last.map(|line| line.trim().chars().take(300).collect::<String>());
            let text = match last.filter(|line| !line.is_empty()) {
                Some(line) => format!("crash loop: ended 5 times within a minute; its last line: {line}"),
                None => "crash loop: ended 5 times within a minute, without a word".to_owned(),
            };
            let _ended = task_results.send(TaskResult::Said(id, text));
        });
    }

    /// Feeds the queue to the core and carries out what it asks for, until both are quiet.
    fn process_queue(&mut self) {
        let mut actions: Vec<Action> = Vec::new();
        while let Some(event) = self.queue.pop_front() {
            let now = self.clock.now();
            self.core.step(now, event, &mut actions);
            for action in actions.drain(..) {
                self.execute(now, action);
            }
        }
    }

    fn on_request(&mut self, request: EngineRequest) {
        match request {
            EngineRequest::Command { token, command } => {
                if let Command::Up { plan: Some(plan), .. }
                | Command::Start { plan: Some(plan), .. }
                | Command::Restart { plan: Some(plan), .. }
                | Command::RotateSecret { plan, .. } = &command
                {
                    self.plan = Arc::clone(plan);
                    self.masker = Masker::new(plan, false);
                    self.remember_masks();
                }
                if matches!(
                    command,
                    Command::Up { .. } | Command::Start { .. } | Command::Restart { .. } | Command::RotateSecret { .. }
                ) {
                    self.settled = None;
                    self.starts.push_back(token);
                    // Not before a start is asked for: what there is to say about it would find no viewer.
                    self.watch_files();
                }
                if let Command::Up { options, .. } = &command
                    && options.build
                {
                    let built = self.plan.services.values().filter(|spec| spec.build.is_some());
                    self.to_build.extend(built.map(|spec| spec.id.clone()));
                }
                if let Command::Down { grace_ms: Some(limit) } = command {
                    self.max_grace = Some(Duration::from_millis(limit));
                }
                self.publish(FeedItem::Accepted { token });
                if matches!(command, Command::Up { .. }) {
                    self.report_changed_inputs();
                }
                self.queue.push_back(Event::Command(command));
            }
            EngineRequest::Interrupt => self.queue.push_back(Event::Interrupted),
            EngineRequest::Hold => {
                self.held = true;
                self.subscription = Some(self.add_subscriber());
            }
            EngineRequest::Release => {
                self.held = false;
                self.subscription = None;
            }
            EngineRequest::Status(reply) => {
                let status = self.status();
                if status.stopping {
                    // Who asks during a stop may end us next: what was asked of the keeper must not go with us.
                    let keeper = self.keeper.clone();
                    tokio::spawn(async move {
                        keeper.flush().await;
                        let _gone = reply.send(status);
                    });
                } else {
                    let _gone = reply.send(status);
                }
            }
            EngineRequest::Subscribe(reply) => {
                let subscription = self.subscription.take().unwrap_or_else(|| self.add_subscriber());
                // Of a viewer who is gone, the feed hears when it has something to say.
                let _gone = reply.send(subscription);
            }
            EngineRequest::Follow(reply) => {
                let _gone = reply.send(self.add_subscriber());
            }
            #[cfg(debug_assertions)]
            EngineRequest::Do(work) => work(),
            EngineRequest::Inspect(id, reply) => {
                let _gone = reply.send(self.inspect(&id));
            }
            EngineRequest::Attach(id, reply) => {
                let _gone = reply.send(self.attach_terminal(&id));
            }
            EngineRequest::Changes(plan, reply) => {
                let _gone = reply.send(self.changes(&plan));
            }
        }
    }

    fn add_subscriber(&mut self) -> (Status, mpsc::Receiver<Arc<FeedItem>>) {
        let (sender, receiver) = mpsc::channel(FEED_BACKLOG);
        self.subscribers.push(sender);
        (self.status(), receiver)
    }

    fn on_link(&mut self, link: KeeperEvent) {
        match link {
            KeeperEvent::Ready { .. } => {}
            KeeperEvent::Lost => {
                if let Some(id) = self.instances.keys().next() {
                    self.pump.note(id, "the keeper process exited; services keep running, a new keeper is starting");
                }
            }
            KeeperEvent::Gone(failure) => {
                if let Some(id) = self.instances.keys().next().cloned() {
                    self.publish(FeedItem::Said {
                        id,
                        text: format!("no keeper can be started ({failure}); everything is being stopped"),
                    });
                }
                self.queue.push_back(Event::Command(Command::Down { grace_ms: None }));
            }
        }
    }

    fn on_probe_report(&mut self, id: ServiceId, generation: Generation, answer: ProbeReport) {
        let Some(instance) = self.instances.get_mut(&id).filter(|instance| instance.generation == generation) else { return };
        self.queue.push_back(match answer {
            ProbeReport::Passed(note) => Event::ProbePassed(id, generation, note),
            ProbeReport::Failed(text, fatal) => {
                instance.last_answer = Some(text.clone());
                Event::ProbeFailed(id, generation, text, fatal)
            }
            ProbeReport::AlivePassed => Event::LivenessPassed(id, generation),
            ProbeReport::AliveFailed(text) => {
                instance.last_answer = Some(text.clone());
                Event::LivenessFailed(id, generation, text)
            }
        });
    }

    fn on_process(&mut self, event: ProcessEvent) {
        let process = match &event {
            ProcessEvent::Spawned { process, .. }
            | ProcessEvent::SpawnFailed { process, .. }
            | ProcessEvent::Exited { process, .. }
            | ProcessEvent::TreeEmpty { process }
            | ProcessEvent::Survivors { process, .. } => *process,
        };
        let Some((id, generation)) = self.processes.get(&process).cloned() else { return };
        match event {
            ProcessEvent::Spawned { identity, stdout, stderr, .. } => {
                if let Some(instance) = self.instances.get_mut(&id) {
                    instance.pid = Some(identity.pid);
                }
                // The core starts the probes before the pipes are read, so that no line is missed by a `log` check.
                self.queue.push_back(Event::Spawned(id.clone(), generation, Some(identity.pid)));
                self.process_queue();
                self.attach_logs(&id, stdout, stderr);
            }
            ProcessEvent::SpawnFailed { step, errno, .. } => {
                self.processes.remove(&process);
                let failure = self.spawn_failure(&id, &step, errno);
                if let Some(instance) = self.instances.get_mut(&id) {
                    instance.process = None;
                }
                self.queue.push_back(Event::SpawnFailed(id, generation, failure));
            }
            ProcessEvent::Exited { status, left, .. } => {
                if !status.success() && self.instances.get(&id).is_some_and(|instance| instance.stop_asked.is_none()) {
                    self.report_crash_loop(&id);
                }
                self.leader_exited(id, generation, status, left);
            }
            ProcessEvent::TreeEmpty { .. } => {
                self.processes.remove(&process);
                self.release_exit(&id, generation, true);
                self.tree_empty(&id, generation);
            }
            ProcessEvent::Survivors { pids, .. } => self.queue.push_back(Event::Survived(id, generation, pids)),
        }
    }

    /// Nothing of this generation is left, or there never was a process.
    pub(super) fn tree_empty(&mut self, id: &ServiceId, generation: Generation) {
        let now = self.clock.now();
        let mut report = None;
        if let Some(instance) = self.instances.get_mut(id).filter(|instance| instance.generation == generation) {
            instance.process = None;
            instance.pid = None;
            instance.terminal = None;
            instance.external = false;
            instance.virtual_work = None;
            instance.is_tree_empty = true;
            if let Some(asked) = instance.stop_asked.take() {
                let (mut released, mut held) = (Vec::new(), Vec::new());
                if let Some(spec) = &instance.spec
                    && !matches!(spec.launch, Launch::External { .. })
                {
                    for port in spec.ports.values() {
                        if crate::ports::check_free(&spec.bind, *port).is_ok() { released.push(*port) } else { held.push(*port) }
                    }
                }
                let took_ms = u64::try_from(now.since(asked).as_millis()).unwrap_or(u64::MAX);
                report =
                    Some(StopReport { id: id.clone(), took_ms, killed: std::mem::take(&mut instance.killed), released, held });
            }
        }
        if let Some(report) = report {
            self.publish(FeedItem::Stopped(report));
        }
        if self.instances.get(id).is_none_or(|instance| instance.generation != generation || !instance.is_committing) {
            self.queue.push_back(Event::TreeEmpty(id.clone(), generation));
        }
    }

    fn on_task_result(&mut self, result: TaskResult) {
        match result {
            TaskResult::Fetched(id, generation, result) => {
                let Some(instance) = self.instances.get_mut(&id).filter(|instance| instance.generation == generation) else {
                    return;
                };
                instance.preparation = None;
                self.queue.push_back(match result {
                    Ok(located) => {
                        instance.located = Some(located);
                        Event::Fetched(id, generation)
                    }
                    Err(failure) => Event::FetchFailed(id, generation, failure),
                });
            }
            TaskResult::Init(id, generation, result) => {
                let Some(instance) = self.instances.get_mut(&id).filter(|instance| instance.generation == generation) else {
                    return;
                };
                instance.preparation = None;
                match result {
                    Ok(notes) => {
                        for text in notes {
                            self.publish(FeedItem::Said { id: id.clone(), text });
                        }
                        self.queue.push_back(Event::InitDone(id, generation));
                    }
                    Err(failure) => self.queue.push_back(Event::InitFailed(id, generation, failure)),
                }
            }
            TaskResult::Work(id, generation, result) => {
                if self
                    .instances
                    .get(&id)
                    .is_none_or(|instance| instance.generation != generation || instance.virtual_work.is_none())
                {
                    return;
                }
                let status = if result.is_ok() { ExitStatus::Code(0) } else { ExitStatus::Code(1) };
                match result {
                    Ok(()) => self.on_exit(id.clone(), generation, status),
                    Err(failure) => {
                        self.rollback_task(&id);
                        self.queue.push_back(Event::Exited(id.clone(), generation, status, Some(failure)));
                    }
                }
                self.tree_empty(&id, generation);
            }
            TaskResult::TaskCommitted(id, generation, status, result) => {
                self.queue.push_back(Event::Exited(id.clone(), generation, status, result.err()));
                if let Some(instance) = self.instances.get_mut(&id).filter(|instance| instance.generation == generation) {
                    instance.is_committing = false;
                    if instance.is_tree_empty {
                        self.queue.push_back(Event::TreeEmpty(id, generation));
                    }
                }
            }
            TaskResult::StopCommandDone(id, generation) => {
                if let Some(process) = self
                    .instances
                    .get(&id)
                    .filter(|instance| instance.generation == generation)
                    .and_then(|instance| instance.process)
                {
                    self.keeper.stop(process, None);
                }
            }
            TaskResult::ExitHeld(id, generation) => self.release_exit(&id, generation, false),
            TaskResult::FileChanged(id, path) => self.file_changed(id, path),
            TaskResult::Built(id) => {
                self.to_build.remove(&id);
            }
            TaskResult::Said(id, text) => self.publish(FeedItem::Said { id, text }),
            // Not during a stop.
            TaskResult::Rest if self.core.is_stopping() => {}
            TaskResult::Rest => devrun_keeper::heap::trim(),
            TaskResult::Publish(item) => {
                if let FeedItem::Settled { outcome, .. } = &item {
                    self.settling = self.settling.saturating_sub(1);
                    // The last request's end is what a viewer that comes later finds.
                    if self.starts.is_empty() && self.settling == 0 {
                        self.settled = Some(outcome.clone());
                        let task_results = self.task_results.clone();
                        tokio::spawn(async move {
                            tokio::time::sleep(REST_AFTER).await;
                            let _ended = task_results.send(TaskResult::Rest);
                        });
                    }
                }
                self.publish(item);
            }
        }
    }

    /// For a `report` from another shell, and with the stack down. What cannot be written leaves that one with the masks of its
    /// own shell.
    fn remember_masks(&self) {
        let _unwritten = MaskHashes::remember(&self.places.masks(), &self.plan.masks);
    }

    /// Publishes to every viewer; one that does not keep up is let go.
    pub(super) fn publish(&mut self, mut item: FeedItem) {
        if self.subscribers.is_empty() {
            return;
        }
        if let FeedItem::Said { text, .. } = &mut item {
            *text = self.masker.text(text);
        }
        let item = Arc::new(item);
        self.subscribers.retain(|subscriber| subscriber.try_send(Arc::clone(&item)).is_ok());
    }

    pub(super) fn notify(&mut self, mut notice: StateChange) {
        self.sequence += 1;
        notice.seq = self.sequence;
        notice.ts = self.clock.stamp(self.clock.now());
        notice.reason = notice.reason.map(|reason| self.masker.text(&reason));
        self.events.append(&notice);
        self.note_restart(&notice);
        self.record_port_opened(&notice);
        self.publish(FeedItem::Notice(notice));
    }

    /// Tells whoever is attached why a service that runs is stopped, or is started again.
    fn note_restart(&self, notice: &StateChange) {
        let verb = match (notice.from, notice.to) {
            (State::Starting | State::Running, State::Stopping) => "stopping",
            (_, State::BackingOff) => "restarts",
            _ => return,
        };
        let names = [notice.service.clone(), format!("{}.{}", notice.service, notice.replica)];
        let id = names.iter().filter_map(|name| ServiceId::parse(name).ok()).find(|id| self.instances.contains_key(id));
        if let (Some(id), Some(reason)) = (id, notice.reason.as_ref().filter(|reason| !reason.is_empty())) {
            self.pump.note(&id, format!("{verb}: {reason}"));
        }
    }

    /// Keeps when the port of a service that has just become ready was open, as the probe's history is soon gone.
    fn record_port_opened(&mut self, notice: &StateChange) {
        if (notice.from, notice.to) != (State::Starting, State::Running) {
            return;
        }
        // One of several is called by its number too.
        let names = [notice.service.clone(), format!("{}.{}", notice.service, notice.replica)];
        let of = |instance: &&Instance| instance.spec.as_ref().is_some_and(|spec| spec.replica == notice.replica);
        let Some(instance) = names.iter().filter_map(|name| self.instances.get(&ServiceId::parse(name).ok()?)).find(of) else {
            return;
        };
        // A panic elsewhere leaves the slot as it is.
        let slot = instance.probe.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(listening) = slot.as_ref().and_then(ProbeHandle::listening) else { return };
        drop(slot);
        self.started.append(&state_files::PortOpened {
            ts: notice.ts.clone(),
            service: notice.service.clone(),
            replica: notice.replica,
            listening_us: u64::try_from(listening.as_micros()).unwrap_or(u64::MAX),
        });
    }

    pub(super) fn persist_manual_stop(&mut self, id: ServiceId, stopped: bool) {
        let changed = if stopped { self.manual_stops.insert(id.clone()) } else { self.manual_stops.remove(&id) };
        if changed && let Err(error) = state_files::save_manual_stops(&self.places, &self.manual_stops) {
            self.publish(FeedItem::Said { id, text: format!("the stop by hand cannot be remembered: {error}") });
        }
    }

    /// Adds to an outcome what the logs say last, then publishes it; off the loop, as it reads files.
    pub(super) fn publish_start_outcome(&mut self, outcome: StartOutcome) {
        // A start that is asked for while everything is being stopped is refused at once, before those that came earlier.
        let token = if self.core.is_stopping() { self.starts.pop_back() } else { self.starts.pop_front() };
        let Some(token) = token else { return };
        self.settling += 1;
        let task_results = self.task_results.clone();
        let described = self.describe(outcome);
        tokio::spawn(async move {
            let outcome = described.await;
            let _ended = task_results.send(TaskResult::Publish(FeedItem::Settled { token, outcome }));
        });
    }

    pub(super) fn finish(&mut self, outcome: StartOutcome) {
        self.finished = Some(outcome);
    }

    fn describe(&self, outcome: StartOutcome) -> impl Future<Output = Outcome> + use<> {
        let (folder, masker) = (self.places.logs(), self.masker.clone());
        let answers: Vec<Option<String>> = outcome
            .failures
            .iter()
            .map(|(id, _)| self.instances.get(id).and_then(|instance| instance.last_answer.clone()))
            .collect();
        let drained: Vec<_> = outcome.failures.iter().map(|(id, _)| self.pump.drain(id)).collect();
        async move {
            let mut failures = Vec::new();
            for (((id, failure), last_answer), drained) in outcome.failures.into_iter().zip(answers).zip(drained) {
                let log = last_lines(&folder, &id, drained.await, 20).iter().map(|line| masker.text(line)).collect();
                let last_answer = last_answer.map(|answer| masker.text(&answer));
                let failure = Failure { reason: masker.text(&failure.reason), ..failure };
                failures.push(FailedService { id, failure, last_answer, log });
            }
            Outcome { failures, blocked: outcome.blocked, code_from: outcome.code_from }
        }
    }

    async fn shut_down(mut self, outcome: StartOutcome) -> EngineExit {
        let survivors = self.keeper.finish().await;
        // The last words of what ended a moment ago. A disk that hangs holds up nothing but its logs.
        let _slow_disk = tokio::time::timeout(LAST_WORDS, self.pump.drain_all()).await;
        let outcome = self.describe(outcome).await;
        // A start that settled in the same breath is published before the end, as its viewer waits for it.
        while self.settling > 0 {
            match self.task_result_receiver.recv().await {
                Some(result) => self.on_task_result(result),
                None => break,
            }
        }
        while let Ok(lost) = self.losses.try_recv() {
            self.on_log_loss(lost);
        }
        self.events.flush();
        let mut snapshot = self.snapshot();
        (snapshot.supervisor_pid, snapshot.supervisor_version) = (None, None);
        let _shown_only = state_files::save_snapshot(&self.places, &snapshot);
        self.publish(FeedItem::Finished(outcome.clone()));
        EngineExit { outcome, survivors, scratch: self.plan.scratch() }
    }
}
