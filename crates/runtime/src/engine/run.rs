//! The loop itself.
//!
//! Long because everything the loop hears is in one place; taken apart, its order would be harder to see.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::mpsc;

use crate::logs::{LogPump, Lost};
use crate::mask_hashes::MaskHashes;
use crate::probe::{Answer, Bell, ProbeHandle, Sleeper};
use devrun_core::event::Generation;
use devrun_core::{Action, Event, StartOutcome, Supervisor};
use devrun_keeper::{KeeperEvent, KeeperHandle, ProcessEvent};
use devrun_model::keeper::{ExitStatus, ProcessId};
use devrun_model::mask::Masker;
use devrun_model::{Command, Failure, Launch, Paths, Plan, ServiceId, State, StateChange};
use devrun_store::{FetchOptions, Located};

use super::handle::{EngineHandle, Request};
use super::live::Live;
use super::losses::LostOutput;
use super::memory::{self, JsonLog};
use super::stamp::Clock;
use super::watch::{self, Watch};
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
const REST: Duration = Duration::from_secs(1);
/// A viewer that is this far behind is dropped.
const FEED_BACKLOG: usize = 65_536;

/// How an engine ended.
#[derive(Debug)]
pub struct Ended {
    /// The outcome, failures with their logs.
    pub outcome: Outcome,
    /// What could not be ended: pid and command.
    pub survivors: Vec<(i32, String)>,
    /// The folders of scratch volumes, which end with the run.
    pub scratch: Vec<std::path::PathBuf>,
}

/// News from tasks that the engine started.
pub(super) enum Inner {
    Fetched(ServiceId, Generation, Result<Arc<Located>, Failure>),
    Init(ServiceId, Generation, Result<Vec<String>, Failure>),
    Work(ServiceId, Generation, Result<(), Failure>),
    Sealed(ServiceId, Generation, ExitStatus, Result<(), Failure>),
    StopCommandDone(ServiceId, Generation),
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
    pub(super) watch: Watch,
    pub(super) core: Supervisor,
    pub(super) live: BTreeMap<ServiceId, Live>,
    pub(super) processes: BTreeMap<ProcessId, (ServiceId, Generation)>,
    pub(super) queue: VecDeque<Event>,
    pub(super) inner: mpsc::UnboundedSender<Inner>,
    pub(super) process_events: mpsc::UnboundedSender<ProcessEvent>,
    pub(super) answers: mpsc::UnboundedSender<(ServiceId, Generation, Answer)>,
    pub(super) bell: Bell,
    pub(super) watcher: Option<crate::watch::Watcher>,
    /// Services whose `build` is run before their next start.
    pub(super) to_build: BTreeSet<ServiceId>,
    /// `down -t`: no grace is longer.
    pub(super) hurry: Option<Duration>,
    remembered: BTreeSet<ServiceId>,
    events: JsonLog,
    started: JsonLog,
    /// Output that log files could not take.
    pub(super) lost: BTreeMap<ServiceId, LostOutput>,
    /// Of the plan in force: what we say goes to terminals, files and bug reports.
    pub(super) masker: Masker,
    viewers: Vec<mpsc::Sender<Arc<FeedItem>>>,
    held: bool,
    /// What a viewer who subscribed when the hold began would have.
    seat: Option<(Status, mpsc::Receiver<Arc<FeedItem>>)>,
    sequence: u64,
    pub(super) settled: Option<Outcome>,
    finished: Option<StartOutcome>,
    /// Starts whose end is being described.
    settling: usize,
    /// Starts that have not settled, in the order in which they were asked for: the core settles them in that order.
    starts: VecDeque<u64>,
    requests: mpsc::UnboundedReceiver<Request>,
    link: mpsc::UnboundedReceiver<KeeperEvent>,
    inner_receiver: mpsc::UnboundedReceiver<Inner>,
    process_receiver: mpsc::UnboundedReceiver<ProcessEvent>,
    answer_receiver: mpsc::UnboundedReceiver<(ServiceId, Generation, Answer)>,
    losses: mpsc::UnboundedReceiver<Lost>,
}

/// How long the end of a run waits for the log files.
const LAST_WORDS: std::time::Duration = std::time::Duration::from_secs(5);

impl Engine {
    /// Puts the parts together; nothing starts before the first command.
    #[must_use]
    pub fn new(options: EngineOptions) -> (Self, EngineHandle) {
        let (request_sender, requests) = mpsc::unbounded_channel();
        let (inner, inner_receiver) = mpsc::unbounded_channel();
        let (process_events, process_receiver) = mpsc::unbounded_channel();
        let (answers, answer_receiver) = mpsc::unbounded_channel();
        let remembered = memory::stopped_by_hand(&options.places);
        let core = Supervisor::new(Arc::clone(&options.plan), remembered.clone());
        let events = JsonLog::open(memory::events_path(&options.places));
        let started = JsonLog::open(memory::starts_path(&options.places));
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
            watch: Watch::default(),
            core,
            live: BTreeMap::new(),
            processes: BTreeMap::new(),
            queue: VecDeque::new(),
            inner,
            process_events,
            answers,
            bell: Bell::default(),
            watcher: None,
            to_build: BTreeSet::new(),
            hurry: None,
            remembered,
            events,
            started,
            lost: BTreeMap::new(),
            masker,
            viewers: Vec::new(),
            held: false,
            seat: None,
            sequence: 0,
            settled: None,
            finished: None,
            settling: 0,
            starts: VecDeque::new(),
            requests,
            link: options.link,
            inner_receiver,
            process_receiver,
            answer_receiver,
            losses,
        };
        (engine, EngineHandle { requests: request_sender })
    }

    /// Runs until the core is finished.
    pub async fn run(mut self) -> Ended {
        self.watch_files();
        self.remember_masks();
        // A KILL at the end of a grace is not to come a millisecond late. One that nobody waits for any more costs a last
        // wake-up within a second.
        let mut sleeper = Sleeper::default();
        loop {
            let deadline = self.core.next_deadline().map(|tick| self.clock.instant(tick));
            let wake = watch::wake(deadline, Instant::now());
            let timer = async {
                match wake {
                    Some(at) => sleeper.sleep_exactly(at.saturating_duration_since(Instant::now())).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                Some(event) = self.process_receiver.recv() => self.on_process(event),
                Some((id, generation, answer)) = self.answer_receiver.recv() => self.on_answer(id, generation, answer),
                Some(inner) = self.inner_receiver.recv() => self.on_inner(inner),
                Some(request) = self.requests.recv() => self.on_request(request),
                Some(link) = self.link.recv() => self.on_link(link),
                Some(lost) = self.losses.recv() => self.on_lost(lost),
                () = timer => {}
            }
            // Before anything acts on a deadline: time in which we could not run is nobody's fault.
            if let Some(pause) = watch::overslept(wake, Instant::now()) {
                self.clock.skip(pause);
            }
            if deadline.is_some() && self.core.next_deadline().is_some_and(|tick| tick <= self.clock.now()) {
                self.queue.push_back(Event::Timer);
            }
            // Everything that is there already belongs to this wake-up: exits come in batches.
            while let Ok(event) = self.process_receiver.try_recv() {
                self.on_process(event);
            }
            self.turn();
            self.say_who_is_waited_for();
            if !self.held
                && let Some(outcome) = self.finished.take()
            {
                return self.end(outcome).await;
            }
        }
    }

    /// A stop that takes long is no hang: every few seconds it is said who holds it up.
    fn say_who_is_waited_for(&mut self) {
        let now = self.clock.now();
        if !self.core.has_stop_in_progress() || !self.watch.look(now) {
            return;
        }
        let words =
            self.core.stops_in_progress().filter_map(|(id, progress)| Some((id.clone(), self.watch.word(id, progress, now)?)));
        for (id, text) in words.collect::<Vec<_>>() {
            self.publish(FeedItem::Said { id, text });
        }
    }

    /// A service that crashes over and over is named with what it said last; the single restarts are lost among others.
    fn note_crash(&mut self, id: &ServiceId) {
        let now = self.clock.now();
        if !self.watch.crashed(id, now) {
            return;
        }
        let (pump, folder, inner, id) = (self.pump.clone(), self.places.logs(), self.inner.clone(), id.clone());
        tokio::spawn(async move {
            pump.drain(&id).await;
            let query = crate::logs::Query { tail: Some(1), ..Default::default() };
            let last = crate::logs::read::lines(&folder, &id, &query).ok().and_then(|lines| {
                let line = lines.last()?.ok()?;
                Some(String::from_utf8_lossy(&line.bytes).trim_end().chars().take(300).collect::<String>())
            });
            let text = match last.filter(|line| !line.is_empty()) {
                Some(line) => format!("crash loop: ended 5 times within a minute; its last line: {line}"),
                None => "crash loop: ended 5 times within a minute, without a word".to_owned(),
            };
            let _ended = inner.send(Inner::Said(id, text));
        });
    }

    /// Feeds the queue to the core and carries out what it asks for, until both are quiet.
    fn turn(&mut self) {
        let mut actions: Vec<Action> = Vec::new();
        while let Some(event) = self.queue.pop_front() {
            let now = self.clock.now();
            self.core.step(now, event, &mut actions);
            for action in actions.drain(..) {
                self.execute(now, action);
            }
        }
    }

    fn on_request(&mut self, request: Request) {
        match request {
            Request::Command { token, command } => {
                if let Command::Up { plan: Some(plan), .. }
                | Command::Start { plan: Some(plan), .. }
                | Command::Restart { plan: Some(plan), .. }
                | Command::RotateSecret { plan, .. } = &command
                {
                    self.plan = Arc::clone(plan);
                    self.masker = Masker::new(plan, false);
                    self.watch_files();
                    self.remember_masks();
                }
                if matches!(
                    command,
                    Command::Up { .. } | Command::Start { .. } | Command::Restart { .. } | Command::RotateSecret { .. }
                ) {
                    self.settled = None;
                    self.starts.push_back(token);
                }
                if let Command::Up { options, .. } = &command
                    && options.build
                {
                    let built = self.plan.services.values().filter(|spec| spec.build.is_some());
                    self.to_build.extend(built.map(|spec| spec.id.clone()));
                }
                if let Command::Down { grace_ms: Some(limit) } = command {
                    self.hurry = Some(Duration::from_millis(limit));
                }
                self.publish(FeedItem::Accepted { token });
                self.queue.push_back(Event::Command(command));
            }
            Request::Interrupt => self.queue.push_back(Event::Interrupted),
            Request::Hold => {
                self.held = true;
                self.seat = Some(self.take_seat());
            }
            Request::Release => {
                self.held = false;
                self.seat = None;
            }
            Request::Status(reply) => {
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
            Request::Subscribe(reply) => {
                let seat = self.seat.take().unwrap_or_else(|| self.take_seat());
                // Of a viewer who is gone, the feed hears when it has something to say.
                let _gone = reply.send(seat);
            }
            #[cfg(debug_assertions)]
            Request::Do(work) => work(),
            Request::Inspect(id, reply) => {
                let _gone = reply.send(self.inspect(&id));
            }
            Request::Attach(id, reply) => {
                let _gone = reply.send(self.seat(&id));
            }
            Request::Changes(plan, reply) => {
                let _gone = reply.send(self.changes(&plan));
            }
        }
    }

    fn take_seat(&mut self) -> (Status, mpsc::Receiver<Arc<FeedItem>>) {
        let (sender, receiver) = mpsc::channel(FEED_BACKLOG);
        self.viewers.push(sender);
        (self.status(), receiver)
    }

    fn on_link(&mut self, link: KeeperEvent) {
        match link {
            KeeperEvent::Ready { .. } => {}
            KeeperEvent::Lost => {
                if let Some(id) = self.live.keys().next() {
                    self.pump.note(id, "the keeper process ended; services go on, a new keeper is being started");
                }
            }
            KeeperEvent::Gone(failure) => {
                if let Some(id) = self.live.keys().next().cloned() {
                    self.publish(FeedItem::Said {
                        id,
                        text: format!("no keeper can be started ({failure}); everything is being stopped"),
                    });
                }
                self.queue.push_back(Event::Command(Command::Down { grace_ms: None }));
            }
        }
    }

    fn on_answer(&mut self, id: ServiceId, generation: Generation, answer: Answer) {
        let Some(live) = self.live.get_mut(&id).filter(|live| live.generation == generation) else { return };
        self.queue.push_back(match answer {
            Answer::Passed(note) => Event::ProbePassed(id, generation, note),
            Answer::Failed(text, fatal) => {
                live.last_answer = Some(text.clone());
                Event::ProbeFailed(id, generation, text, fatal)
            }
            Answer::AlivePassed => Event::LivenessPassed(id, generation),
            Answer::AliveFailed(text) => {
                live.last_answer = Some(text.clone());
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
                if let Some(live) = self.live.get_mut(&id) {
                    live.pid = Some(identity.pid);
                }
                // The core starts the probes before the pipes are read, so that no line is missed by a `log` check.
                self.queue.push_back(Event::Spawned(id.clone(), generation, Some(identity.pid)));
                self.turn();
                self.attach_logs(&id, stdout, stderr);
            }
            ProcessEvent::SpawnFailed { step, errno, .. } => {
                self.processes.remove(&process);
                let failure = self.spawn_failure(&id, &step, errno);
                if let Some(live) = self.live.get_mut(&id) {
                    live.process = None;
                }
                self.queue.push_back(Event::SpawnFailed(id, generation, failure));
            }
            ProcessEvent::Exited { status, .. } => {
                if !status.success() && self.live.get(&id).is_some_and(|live| live.stop_asked.is_none()) {
                    self.note_crash(&id);
                }
                self.on_exit(id, generation, status);
            }
            ProcessEvent::TreeEmpty { .. } => {
                self.processes.remove(&process);
                self.tree_empty(&id, generation);
            }
            ProcessEvent::Survivors { pids, .. } => self.queue.push_back(Event::Survived(id, generation, pids)),
        }
    }

    /// Nothing of this generation is left, or there never was a process.
    pub(super) fn tree_empty(&mut self, id: &ServiceId, generation: Generation) {
        let now = self.clock.now();
        let mut report = None;
        if let Some(live) = self.live.get_mut(id).filter(|live| live.generation == generation) {
            live.process = None;
            live.pid = None;
            live.terminal = None;
            live.external = false;
            live.virtual_work = None;
            live.emptied = true;
            if let Some(asked) = live.stop_asked.take() {
                let (mut released, mut held) = (Vec::new(), Vec::new());
                if let Some(spec) = &live.spec
                    && !matches!(spec.launch, Launch::External { .. })
                {
                    for port in spec.ports.values() {
                        if crate::ports::check_free(&spec.bind, *port).is_ok() { released.push(*port) } else { held.push(*port) }
                    }
                }
                let took_ms = u64::try_from(now.since(asked).as_millis()).unwrap_or(u64::MAX);
                report = Some(StopReport { id: id.clone(), took_ms, killed: std::mem::take(&mut live.killed), released, held });
            }
        }
        if let Some(report) = report {
            self.publish(FeedItem::Stopped(report));
        }
        if self.live.get(id).is_none_or(|live| live.generation != generation || !live.sealing) {
            self.queue.push_back(Event::TreeEmpty(id.clone(), generation));
        }
    }

    fn on_inner(&mut self, inner: Inner) {
        match inner {
            Inner::Fetched(id, generation, result) => {
                let Some(live) = self.live.get_mut(&id).filter(|live| live.generation == generation) else { return };
                live.preparing = None;
                self.queue.push_back(match result {
                    Ok(located) => {
                        live.located = Some(located);
                        Event::Fetched(id, generation)
                    }
                    Err(failure) => Event::FetchFailed(id, generation, failure),
                });
            }
            Inner::Init(id, generation, result) => {
                let Some(live) = self.live.get_mut(&id).filter(|live| live.generation == generation) else { return };
                live.preparing = None;
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
            Inner::Work(id, generation, result) => {
                if self.live.get(&id).is_none_or(|live| live.generation != generation || live.virtual_work.is_none()) {
                    return;
                }
                let status = if result.is_ok() { ExitStatus::Code(0) } else { ExitStatus::Code(1) };
                match result {
                    Ok(()) => self.on_exit(id.clone(), generation, status),
                    Err(failure) => {
                        self.unseal(&id);
                        self.queue.push_back(Event::Exited(id.clone(), generation, status, Some(failure)));
                    }
                }
                self.tree_empty(&id, generation);
            }
            Inner::Sealed(id, generation, status, result) => {
                self.queue.push_back(Event::Exited(id.clone(), generation, status, result.err()));
                if let Some(live) = self.live.get_mut(&id).filter(|live| live.generation == generation) {
                    live.sealing = false;
                    if live.emptied {
                        self.queue.push_back(Event::TreeEmpty(id, generation));
                    }
                }
            }
            Inner::StopCommandDone(id, generation) => {
                if let Some(process) =
                    self.live.get(&id).filter(|live| live.generation == generation).and_then(|live| live.process)
                {
                    self.keeper.stop(process, None);
                }
            }
            Inner::FileChanged(id, path) => self.file_changed(id, path),
            Inner::Built(id) => {
                self.to_build.remove(&id);
            }
            Inner::Said(id, text) => self.publish(FeedItem::Said { id, text }),
            // Not during a stop.
            Inner::Rest if self.core.is_stopping() => {}
            Inner::Rest => devrun_keeper::heap::trim(),
            Inner::Publish(item) => {
                if let FeedItem::Settled { outcome, .. } = &item {
                    self.settling = self.settling.saturating_sub(1);
                    // The last request's end is what a viewer that comes later finds.
                    if self.starts.is_empty() && self.settling == 0 {
                        self.settled = Some(outcome.clone());
                        let inner = self.inner.clone();
                        tokio::spawn(async move {
                            tokio::time::sleep(REST).await;
                            let _ended = inner.send(Inner::Rest);
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
        if self.viewers.is_empty() {
            return;
        }
        if let FeedItem::Said { text, .. } = &mut item {
            *text = self.masker.text(text);
        }
        let item = Arc::new(item);
        self.viewers.retain(|viewer| viewer.try_send(Arc::clone(&item)).is_ok());
    }

    pub(super) fn notify(&mut self, mut notice: StateChange) {
        self.sequence += 1;
        notice.seq = self.sequence;
        notice.ts = self.clock.stamp(self.clock.now());
        notice.reason = notice.reason.map(|reason| self.masker.text(&reason));
        self.events.append(&notice);
        self.note_listening(&notice);
        self.publish(FeedItem::Notice(notice));
    }

    /// Keeps when the port of a service that has just become ready was open, as the probe's history is soon gone.
    fn note_listening(&mut self, notice: &StateChange) {
        if (notice.from, notice.to) != (State::Starting, State::Running) {
            return;
        }
        // One of several is called by its number too.
        let names = [notice.service.clone(), format!("{}.{}", notice.service, notice.replica)];
        let of = |live: &&Live| live.spec.as_ref().is_some_and(|spec| spec.replica == notice.replica);
        let Some(live) = names.iter().filter_map(|name| self.live.get(&ServiceId::parse(name).ok()?)).find(of) else { return };
        // A panic elsewhere leaves the slot as it is.
        let slot = live.probe.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(listening) = slot.as_ref().and_then(ProbeHandle::listening) else { return };
        drop(slot);
        self.started.append(&memory::Listening {
            ts: notice.ts.clone(),
            service: notice.service.clone(),
            replica: notice.replica,
            listening_us: u64::try_from(listening.as_micros()).unwrap_or(u64::MAX),
        });
    }

    pub(super) fn remember(&mut self, id: ServiceId, stopped: bool) {
        let changed = if stopped { self.remembered.insert(id.clone()) } else { self.remembered.remove(&id) };
        if changed && let Err(error) = memory::remember(&self.places, &self.remembered) {
            self.publish(FeedItem::Said { id, text: format!("the stop by hand cannot be remembered: {error}") });
        }
    }

    /// Adds to an outcome what the logs say last, then publishes it; off the loop, as it reads files.
    pub(super) fn settle(&mut self, outcome: StartOutcome) {
        // A start that is asked for while everything is being stopped is refused at once, before those that came earlier.
        let token = if self.core.is_stopping() { self.starts.pop_back() } else { self.starts.pop_front() };
        let Some(token) = token else { return };
        self.settling += 1;
        let inner = self.inner.clone();
        let described = self.describe(outcome);
        tokio::spawn(async move {
            let outcome = described.await;
            let _ended = inner.send(Inner::Publish(FeedItem::Settled { token, outcome }));
        });
    }

    pub(super) fn finish(&mut self, outcome: StartOutcome) {
        self.finished = Some(outcome);
    }

    fn describe(&self, outcome: StartOutcome) -> impl Future<Output = Outcome> + use<> {
        let (pump, folder, masker) = (self.pump.clone(), self.places.logs(), self.masker.clone());
        let answers: Vec<Option<String>> =
            outcome.failures.iter().map(|(id, _)| self.live.get(id).and_then(|live| live.last_answer.clone())).collect();
        async move {
            let mut failures = Vec::new();
            for ((id, failure), last_answer) in outcome.failures.into_iter().zip(answers) {
                pump.drain(&id).await;
                let query = crate::logs::Query { tail: Some(20), ..Default::default() };
                let log = crate::logs::read::lines(&folder, &id, &query)
                    .map(|lines| lines.map_while(Result::ok).map(|line| masker.text(&shortened(&line.bytes))).collect())
                    .unwrap_or_default();
                let last_answer = last_answer.map(|answer| masker.text(&answer));
                let failure = Failure { reason: masker.text(&failure.reason), ..failure };
                failures.push(FailedService { id, failure, last_answer, log });
            }
            Outcome { failures, blocked: outcome.blocked, code_from: outcome.code_from }
        }
    }

    async fn end(mut self, outcome: StartOutcome) -> Ended {
        let survivors = self.keeper.finish().await;
        // The last words of what ended a moment ago. A disk that hangs holds up nothing but its logs.
        let _slow_disk = tokio::time::timeout(LAST_WORDS, self.pump.drain_all()).await;
        let outcome = self.describe(outcome).await;
        // A start that settled in the same breath is published before the end, as its viewer waits for it.
        while self.settling > 0 {
            match self.inner_receiver.recv().await {
                Some(inner) => self.on_inner(inner),
                None => break,
            }
        }
        while let Ok(lost) = self.losses.try_recv() {
            self.on_lost(lost);
        }
        self.events.flush();
        let mut snapshot = self.snapshot();
        (snapshot.supervisor_pid, snapshot.supervisor_version) = (None, None);
        let _shown_only = memory::save_snapshot(&self.places, &snapshot);
        self.publish(FeedItem::Finished(outcome.clone()));
        Ended { outcome, survivors, scratch: self.plan.scratch() }
    }
}

/// A line for an outcome, which travels whole: its first 4000 characters.
fn shortened(line: &[u8]) -> String {
    let text = String::from_utf8_lossy(line);
    match text.char_indices().nth(4000) {
        Some((at, _)) => format!("{} … [line cut: {} more bytes]", &text[..at], text.len() - at),
        None => text.into_owned(),
    }
}
