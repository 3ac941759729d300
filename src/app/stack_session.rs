//! One run of a stack with this process as its supervisor, top to bottom: take the instance lock and start the keeper's process
//! ([`StackClaim::take`]), end leftovers and put the supervisor together ([`StackClaim::boot`]), ask for a start
//! ([`StackSession::command`]), hear what happens ([`StackSession::next`]) until the run has ended.
//!
//! Attached `up`, the second process of `up -d`, `run` and temporary stacks are all such a run; they differ in what they show
//! and in when they ask for the end. A supervisor that another process is, is reached by `session`.

use std::io::Write as _;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::ui::output;
use crate::ui::progress::ProgressView;
use crate::ui::term::say;
use devrun_keeper::lock::{InstanceLock, InstanceLockError};
use devrun_keeper::{KeeperHandle, KeeperOptions, LaunchedKeeper, own_program, system_limits};
use devrun_logs::{LogItem, LogPump, LogSubscription};
use devrun_model::exit;
use devrun_model::feed::{FeedItem, Status};
use devrun_model::keeper::{Identity, KeeperHello};
use devrun_model::{Command, Failure, FailureKind, Paths, Plan};
use devrun_runtime::control::{OpenConnections, server};
use devrun_runtime::engine::{Drivers, Engine, EngineExit, EngineHandle, EngineOptions, stop_leftovers};
use devrun_runtime::runtime_dir;
use devrun_store::FetchOptions;

use crate::app::abandoned_runs;
use crate::app::connect;
use crate::app::port_conflicts;
use crate::app::session::{Settled, Signals, token};
use crate::app::signals::{self, Aside, Asides};
use crate::app::start_scope::PlannedStart;
use crate::app::state_watch;

/// The right to supervise a project: its instance lock, and the keeper's process, which loads while the caller gets its own
/// things together. Dropped, both go.
pub struct StackClaim {
    lock: InstanceLock,
    keeper: LaunchedKeeper,
    places: Paths,
}

/// Signals to this process that a run reacts to.
pub struct RunSignals {
    /// INT, TERM and HUP: they end the run.
    ending: Signals,
    /// QUIT and TSTP, where they do not have their usual effect.
    controls: Option<Asides>,
}

/// How [`StackClaim::boot`] went.
pub enum Boot {
    /// The supervisor runs, with nothing started yet.
    Done(Box<StackSession>),
    /// A signal came first: the exit code that stands for it. Nothing was started.
    Interrupted(i32),
}

/// A run in progress.
pub struct StackSession {
    engine: EngineHandle,
    pump: LogPump,
    signals: RunSignals,
    feed: Option<mpsc::Receiver<Arc<FeedItem>>>,
    logs: Option<LogSubscription>,
    /// The end of the run; see [`finish`].
    end: Pin<Box<dyn Future<Output = Result<EngineExit, Failure>>>>,
}

/// What a run reports.
pub enum StackEvent {
    /// A signal that ends the run: its exit code. The first is to stop the stack, the second to kill it.
    Signal(i32),
    /// A person asks for the status, or wants to hold the supervisor.
    Control(Aside),
    /// News of the engine; after [`StackSession::watch`].
    Feed(FeedItem),
    /// There will be no more news: the engine ends, or has dropped a viewer that did not keep up.
    FeedClosed,
    /// Output; after [`StackSession::follow_logs`].
    Log(LogItem),
    /// Everything is down. The last event.
    Ended(EngineExit),
}

impl StackClaim {
    /// Takes the instance lock and starts the keeper's process. `Err` inside is the pid of the lock's holder, where it is known.
    ///
    /// # Errors
    /// `Config` when the lock file cannot be used, `Internal` when no process can be made.
    pub fn take(places: &Paths) -> Result<Result<Self, Option<i32>>, Failure> {
        let lock = match lock_instance(places)? {
            Ok(lock) => lock,
            Err(pid) => return Ok(Err(pid)),
        };
        let keeper = KeeperHandle::launch(&own_program::path())?;
        Ok(Ok(Self { lock, keeper, places: places.clone() }))
    }

    /// Starts everything that a supervisor is made of, after the end of what an earlier run left. `start` is what will be
    /// started first. A signal, or `cancelled`, ends the leftovers at once, and nothing is started. `note` gets lines about them.
    ///
    /// # Errors
    /// `PortTaken` when a port of `start` is held by another process; `Internal` when the keeper, the log thread or the socket
    /// cannot be had; `Survivors` when leftovers stay.
    pub async fn boot(
        self,
        start: PlannedStart,
        fetch: FetchOptions,
        mut signals: RunSignals,
        cancelled: impl Future<Output = i32>,
        note: impl Fn(String),
    ) -> Result<Boot, Failure> {
        let Self { lock, keeper, places } = self;
        let PlannedStart { plan, scope, port_advice } = start;
        devrun_keeper::daemonize::protect_memory();
        let interrupted = async {
            tokio::select! {
                code = signals.ending.next_wish() => code,
                code = cancelled => code,
            }
        };
        if let Some(code) = stop_leftovers::stop_leftovers(&places, interrupted, &note).await? {
            return Ok(Boot::Interrupted(code));
        }
        if let Err(failure) = abandoned_runs::end_all(&places.root, &note) {
            // It has other data and other ports than this stack.
            note(failure.to_string());
        }
        check_file_limit(&plan)?;
        port_conflicts::free(&plan, &scope, &port_advice).await?;
        crate::app::deletion::scratch(&places, &plan.scratch())?;
        // The sweep may have removed what a dead run left in the directories.
        runtime_dir::prepare(&places)?;
        let run = run_id()?;
        let pump = LogPump::start(places.logs()).map_err(internal("the log thread cannot be started"))?;
        let hello = hello(&plan, &places, &run);
        let options = KeeperOptions { program: own_program::path(), hello, owns_children: true };
        // The socket is made while the keeper comes up.
        let (keeper, bound) = tokio::join!(KeeperHandle::handshake(options, keeper), async { server::bind(&places) });
        let (keeper, link) = keeper?;
        let bound = bound.map_err(internal("the control socket cannot be made"))?;
        let (project, root) = (plan.project.to_string(), plan.root.clone());
        let (engine, handle) = Engine::new(EngineOptions {
            plan,
            places: places.clone(),
            fetch,
            keeper,
            link,
            pump: pump.clone(),
            run,
            drivers: Drivers::system(),
        });
        #[cfg(debug_assertions)]
        fail_when_asked(&handle);
        let connections = OpenConnections::new();
        let renewed = renew_socket(&places, bound.place())?;
        let server = tokio::spawn(server::serve(bound, renewed, connections.clone(), handle.clone(), project, root));
        let lock = WatchedLock::watch(lock, &places, &handle);
        let running = Running { engine: tokio::spawn(engine.run()), server, connections, places, lock };
        let end = Box::pin(finish(running));
        Ok(Boot::Done(Box::new(StackSession { engine: handle, pump, signals, feed: None, logs: None, end })))
    }
}

impl StackSession {
    /// Asks the engine from anywhere.
    #[must_use]
    pub fn engine(&self) -> &EngineHandle {
        &self.engine
    }
    /// The signals that end the run, for work that waits for them itself.
    pub fn ending_signals(&mut self) -> &mut Signals {
        &mut self.signals.ending
    }
    /// Begins to report news; returns the state that they follow.
    ///
    /// # Errors
    /// `Internal` when the engine has ended already.
    pub async fn watch(&mut self) -> Result<Status, Failure> {
        let Some((status, feed)) = self.engine.subscribe().await else {
            return Err(Failure::new(FailureKind::Internal, "the engine ended before it began"));
        };
        self.feed = Some(feed);
        Ok(status)
    }
    /// Begins to report output.
    pub fn follow_logs(&mut self) {
        self.logs = Some(self.pump.subscribe());
    }
    /// Output that is there already.
    pub fn try_next_log(&mut self) -> Option<LogItem> {
        self.logs.as_mut()?.try_next()
    }
    /// Asks for something; returns the token by which its end is recognised.
    pub fn command(&self, command: Command) -> u64 {
        let token = token();
        self.engine.command(token, command);
        token
    }

    /// What happens next. May be dropped in the middle and called again; not after [`StackEvent::Ended`] or an error.
    ///
    /// # Errors
    /// `Internal` when the engine did not end as it should; everything is stopped then.
    pub async fn next(&mut self) -> Result<StackEvent, Failure> {
        let Self { signals: RunSignals { ending, controls }, feed, logs, end, .. } = self;
        let control = async {
            match controls {
                Some(controls) => controls.next().await,
                None => std::future::pending().await,
            }
        };
        let item = async {
            match feed {
                Some(feed) => feed.recv().await,
                None => std::future::pending().await,
            }
        };
        let log = async {
            let Some(logs) = logs else { return std::future::pending().await };
            output::room().await;
            match logs.next().await {
                Some(item) => item,
                // The log thread ends with the engine.
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            code = ending.next_wish() => Ok(StackEvent::Signal(code)),
            control = control => Ok(StackEvent::Control(control)),
            item = item => match item {
                Some(item) => Ok(StackEvent::Feed(Arc::unwrap_or_clone(item))),
                None => {
                    *feed = None;
                    Ok(StackEvent::FeedClosed)
                }
            },
            log = log => Ok(StackEvent::Log(log)),
            ended = end => ended.map(StackEvent::Ended),
        }
    }

    /// Shows what happens until the start with this token is over.
    ///
    /// # Errors
    /// As [`StackSession::next`].
    pub async fn until_settled(&mut self, token: u64, view: &mut ProgressView) -> Result<Settled, Failure> {
        loop {
            let event = tokio::select! {
                event = self.next() => event?,
                () = view.due() => {
                    view.tick();
                    continue;
                }
            };
            match event {
                StackEvent::Signal(code) => return Ok(Settled::Interrupted(code)),
                StackEvent::Feed(item) => {
                    view.item(&item);
                    match item {
                        FeedItem::Settled { token: settled, outcome } if settled == token => {
                            return Ok(Settled::Outcome(outcome));
                        }
                        FeedItem::Finished(outcome) => return Ok(Settled::Gone(Some(outcome))),
                        _ => {}
                    }
                }
                StackEvent::FeedClosed => return Ok(Settled::Gone(None)),
                StackEvent::Ended(exit) => {
                    // For the next call, which is the one that waits for it.
                    self.end = Box::pin(std::future::ready(Ok(exit)));
                    return Ok(Settled::Gone(None));
                }
                StackEvent::Control(_) | StackEvent::Log(_) => {}
            }
        }
    }
}

/// What has to be ended in order after the engine.
struct Running {
    engine: JoinHandle<EngineExit>,
    server: JoinHandle<()>,
    connections: OpenConnections,
    places: Paths,
    // Held until the very end, so that a newcomer waits for the last trace of us.
    lock: WatchedLock,
}

/// The instance lock, and the task that stops the stack when its file is deleted.
struct WatchedLock {
    lock: Arc<InstanceLock>,
    deleted: Arc<AtomicBool>,
    task: JoinHandle<()>,
}

impl WatchedLock {
    fn watch(lock: InstanceLock, places: &Paths, engine: &EngineHandle) -> Self {
        let (lock, deleted) = (Arc::new(lock), Arc::new(AtomicBool::new(false)));
        let (watched, flag, engine, state) = (Arc::clone(&lock), Arc::clone(&deleted), engine.clone(), places.state.clone());
        let task = tokio::spawn(async move {
            state_watch::lock_deleted(&watched).await;
            flag.store(true, Ordering::Relaxed);
            say(format!("{} was deleted: stopping everything", state.display()));
            engine.command(0, Command::Down { grace_ms: None });
        });
        Self { lock, deleted, task }
    }
    /// Why the stack was stopped, if that is why.
    fn failure(&self, places: &Paths) -> Option<Failure> {
        self.deleted.load(Ordering::Relaxed).then(|| {
            let state = places.state.display();
            Failure::new(
                FailureKind::Config,
                format!("the state directory {state} was deleted while the stack was up; everything was stopped"),
            )
            .help("devrun up starts it again; data that was in the directory is gone")
        })
    }
    /// Lets go of the lock.
    async fn release(self) {
        self.task.abort();
        // It holds the lock as well.
        let _aborted = self.task.await;
    }
}

/// The end of a run: waits for the engine, lets clients read their last lines, removes what is short-lived.
///
/// # Errors
/// `Internal` when the engine did not end as it should; the keeper has stopped everything then.
async fn finish(running: Running) -> Result<EngineExit, Failure> {
    let Running { engine, server, connections, places, lock } = running;
    let Ok(ended) = engine.await else {
        // With the engine its handle of the keeper is gone, and the keeper stops everything; that is waited for, so that
        // nothing is left when we end. The panic has said where it was; its text is not repeated.
        server.abort();
        let stopped = stop_leftovers::stop_leftovers(&places, std::future::pending(), say).await;
        let _stays = runtime_dir::remove_run(&places);
        stopped?;
        return Err(Failure::new(FailureKind::Internal, "the engine failed; everything was stopped")
            .help(format!("see {}", places.supervisor_log().display())));
    };
    // The engine drops its feeds when it ends; connections then close by themselves once their last lines are out.
    connections.over(Duration::from_millis(50)).await;
    server.abort();
    // Where the state directory was deleted, the next run may have begun in the same place.
    if !state_watch::is_of_another_run(&lock.lock, &places.instance_lock()) {
        if let Err(error) = runtime_dir::remove_run(&places) {
            say(format!("{} stays: {error}", places.run.display()));
        }
        // What could not be ended may still write there.
        if ended.survivors.is_empty()
            && let Err(failure) = crate::app::deletion::scratch(&places, &ended.scratch)
        {
            say(failure);
        }
    }
    let failure = lock.failure(&places).filter(|_| ended.survivors.is_empty());
    lock.release().await;
    match failure {
        Some(failure) => {
            // The log of before is gone as well; lines of services may have made the directory again.
            let log = runtime_dir::append(&places.supervisor_log());
            let _no_directory = log.and_then(|mut file| writeln!(file, "{failure}"));
            Err(failure)
        }
        None => Ok(ended),
    }
}

/// The exit code of a run, survivors first.
#[must_use]
pub fn exit_code(ended: &EngineExit, interrupted: Option<i32>) -> i32 {
    if !ended.survivors.is_empty() {
        return exit::SURVIVORS;
    }
    interrupted.unwrap_or_else(|| ended.outcome.code())
}

impl RunSignals {
    /// Only those that end the run; QUIT and TSTP keep their usual effect.
    ///
    /// # Errors
    /// `Internal` when they cannot be had.
    pub fn ending_only() -> Result<Self, Failure> {
        Ok(Self { ending: Signals::take()?, controls: None })
    }
    /// QUIT and TSTP as well.
    ///
    /// # Errors
    /// `Internal` when they cannot be had.
    pub fn with_controls() -> Result<Self, Failure> {
        Ok(Self { ending: Signals::take()?, controls: Some(Asides::take()?) })
    }
}

/// Takes the instance lock.
///
/// Not every holder is a supervisor: a client that asks whether one is there has the lock for an instant, and a `down` that
/// ends leftovers has it for as long as that takes. So a holder is one that answers, or that stays.
fn lock_instance(places: &Paths) -> Result<Result<InstanceLock, Option<i32>>, Failure> {
    runtime_dir::prepare(places)?;
    let begun = Instant::now();
    let answers = || std::os::unix::net::UnixStream::connect(places.socket()).is_ok();
    if !places.instance_lock().exists() && answers() {
        // Its lock file was deleted; a second lock would make a second stack.
        return Ok(Err(None));
    }
    let mut asked = begun;
    loop {
        match InstanceLock::take(&places.instance_lock()) {
            Ok(lock) => return Ok(Ok(lock)),
            Err(InstanceLockError::Failed(failure)) => return Err(failure),
            Err(InstanceLockError::Held(pid)) => {
                let now = Instant::now();
                if answers() || now > begun + Duration::from_secs(10) {
                    return Ok(Err(pid));
                }
                if now > asked + Duration::from_millis(500) {
                    asked = now;
                    if let Some(supervisor) = connect::holder(places) {
                        connect::ask(&supervisor);
                    }
                }
            }
        }
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// The first message to the keeper.
fn hello(plan: &Plan, places: &Paths, run: &str) -> KeeperHello {
    KeeperHello {
        run: run.to_owned(),
        project: plan.project.to_string(),
        root: plan.root.clone(),
        journal: places.journal(),
        cgroup: std::env::var_os("DEVRUN_NO_CGROUP").is_none(),
        supervisor: Identity { pid: 0, start: 0, boot: String::new() },
        inherited: Vec::new(),
    }
}

fn internal(what: &'static str) -> impl Fn(std::io::Error) -> Failure {
    move |error| Failure::new(FailureKind::Internal, format!("{what}: {error}")).help(system_limits::help(&error))
}

/// A client that finds no socket of devrun asks for it by a signal (`reach`): the runtime directory may have been cleaned away.
/// Nothing is watched meanwhile.
fn renew_socket(places: &Paths, first: server::SocketFile) -> Result<mpsc::UnboundedReceiver<server::BoundSocket>, Failure> {
    let mut asked = signals::receive(tokio::signal::unix::SignalKind::from_raw(libc::SIGURG))?;
    let (sender, renewed) = mpsc::unbounded_channel();
    let (places, mut now) = (places.clone(), first);
    tokio::spawn(async move {
        while asked.recv().await.is_some() {
            if now.is_there() {
                continue;
            }
            let made = runtime_dir::prepare(&places).map_err(|failure| failure.to_string());
            match made.and_then(|()| server::bind(&places).map_err(|error| error.to_string())) {
                Ok(bound) => {
                    now = bound.place();
                    say(format!("{} was gone and has been made again", places.socket().display()));
                    if sender.send(bound).is_err() {
                        return;
                    }
                }
                Err(reason) => say(format!("{} is gone and cannot be made again: {reason}", places.socket().display())),
            }
        }
    });
    Ok(renewed)
}

/// For the test of what is left when the engine fails: `DEVRUN_FAILPOINT` is what the panic says, a second after the start.
#[cfg(debug_assertions)]
fn fail_when_asked(engine: &EngineHandle) {
    if let Ok(text) = std::env::var("DEVRUN_FAILPOINT") {
        let engine = engine.clone();
        tokio::spawn(async move {
            tokio::time::sleep(Duration::from_secs(1)).await;
            engine.interfere(move || panic!("asked to fail, with {text}"));
        });
    }
}

/// Each service costs us two log pipes, and the keeper those, its pidfd and, at the start, four more: told before anything is
/// started, as a supervisor without descriptors can hardly do anything orderly.
fn check_file_limit(plan: &Plan) -> Result<(), Failure> {
    use nix::sys::resource::{Resource, getrlimit};
    let Ok((_, hard)) = getrlimit(Resource::RLIMIT_NOFILE) else { return Ok(()) };
    let needed = 40 + 4 * plan.services.len() as u64;
    if hard >= needed {
        return Ok(());
    }
    let count = plan.services.len();
    Err(Failure::new(FailureKind::Config, format!("{count} services need some {needed} open files, and the limit is {hard}"))
        .help(format!("raise it (`ulimit -n {}`), or start fewer: devrun up SERVICE", needed.next_power_of_two().max(1024))))
}

fn run_id() -> Result<String, Failure> {
    let mut bytes = [0u8; 16];
    getrandom::fill(&mut bytes).map_err(|error| Failure::new(FailureKind::Internal, format!("no random bytes: {error}")))?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}
