//! The supervisor as a process: locks, leftovers, keeper, engine, control socket. Used by an attached `up` in its own
//! process, and by `up -d` in a second one, a fork in a session of its own.

use std::io::{Read, Write};
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::ui::term::say;
use devrun_keeper::lock::{InstanceLock, InstanceLockError};
use devrun_keeper::{KeeperHandle, KeeperOptions, LaunchedKeeper};
use devrun_model::exit;
use devrun_model::keeper::{Identity, KeeperHello};
use devrun_model::{Command, Failure, FailureKind, Paths, Plan, ServiceId, UpOptions};
use devrun_runtime::control::{OpenConnections, server};
use devrun_runtime::engine::{Engine, EngineExit, EngineHandle, EngineOptions, leftovers};
use devrun_runtime::logs::LogPump;
use devrun_runtime::runtime_dir;
use devrun_store::FetchOptions;

use crate::app::connect;
use crate::app::port_conflicts;
use crate::app::session::Signals;
use crate::app::signals::{self, Aside, Asides};
use crate::app::start_scope::PlannedStart;

/// What the second process of `up -d` is to do.
pub struct SupervisorOptions {
    /// The project.
    pub plan: Arc<Plan>,
    /// Its folders.
    pub places: Paths,
    /// Where binaries come from.
    pub fetch: FetchOptions,
    /// Which services.
    pub targets: Vec<ServiceId>,
    /// Switches.
    pub options: UpOptions,
}

/// What it answers on its standard output, once.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Answer {
    /// Something to show; the answer is still to come.
    Note(String),
    /// The control socket answers.
    Ready,
    /// Somebody else was first.
    Held(Option<i32>),
    /// It could not start.
    Failed(Failure),
}

/// A supervisor that runs.
pub struct RunningSupervisor {
    /// Asks the engine.
    pub engine: EngineHandle,
    /// The engine's task.
    pub ended: JoinHandle<EngineExit>,
    /// The logs.
    pub pump: LogPump,
    server: JoinHandle<()>,
    conversations: OpenConnections,
    places: Paths,
    // Held until the very end, so that a newcomer waits for the last trace of us.
    _lock: InstanceLock,
}

/// Takes the instance lock; `Err` inside is the pid of whoever holds it, where it is known.
///
/// Not every holder is a supervisor: a client that asks whether one is there has the lock for an instant, and a `down` that
/// ends leftovers has it for as long as that takes. So a holder is one that answers, or that stays.
///
/// # Errors
/// `Config` when the lock file cannot be used. Somebody else's lock is no error.
pub fn claim(places: &Paths) -> Result<Result<InstanceLock, Option<i32>>, Failure> {
    runtime_dir::prepare(places)?;
    let begun = std::time::Instant::now();
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
                let now = std::time::Instant::now();
                if answers() || now > begun + std::time::Duration::from_secs(10) {
                    return Ok(Err(pid));
                }
                if now > asked + std::time::Duration::from_millis(500) {
                    asked = now;
                    if let Some(supervisor) = connect::holder(places) {
                        connect::ask(&supervisor);
                    }
                }
            }
        }
        std::thread::sleep(std::time::Duration::from_millis(2));
    }
}

/// The process that will be the keeper. It loads while the supervisor gets its own things together.
///
/// # Errors
/// `Internal` when no process can be made.
pub fn keeper() -> Result<LaunchedKeeper, Failure> {
    KeeperHandle::launch(crate::app::runtime::OWN_PROGRAM.as_ref())
}

/// Starts everything that a supervisor is made of. Leftovers of an earlier run are ended first; `interrupted` is the exit code
/// of a signal that comes meanwhile: then they are killed and nothing is started. `note` gets lines about them. `start` is what
/// will be started first.
///
/// # Errors
/// `PortTaken` when somebody else holds a port of it; `Internal` when the keeper, the log thread or the socket cannot be had; `Survivors` when leftovers stay.
pub async fn boot(
    lock: InstanceLock,
    launched: LaunchedKeeper,
    places: &Paths,
    start: PlannedStart,
    fetch: FetchOptions,
    interrupted: impl Future<Output = i32>,
    note: impl Fn(String),
) -> Result<Result<RunningSupervisor, i32>, Failure> {
    let PlannedStart { plan, scope } = start;
    devrun_keeper::daemonize::protect_memory();
    if let Some(code) = leftovers::stop_leftovers(places, interrupted, note).await? {
        return Ok(Err(code));
    }
    enough_files(&plan)?;
    port_conflicts::free(&plan, &scope).await?;
    crate::app::deletion::scratch(places, &plan.scratch())?;
    // The sweep may have removed what a dead run left in the folders.
    runtime_dir::prepare(places)?;
    let internal =
        |what: &'static str| move |error: std::io::Error| Failure::new(FailureKind::Internal, format!("{what}: {error}"));
    let run = run_id()?;
    let program = crate::app::runtime::OWN_PROGRAM.into();
    let hello = KeeperHello {
        run: run.clone(),
        project: plan.project.to_string(),
        root: plan.root.clone(),
        journal: places.journal(),
        cgroup: std::env::var_os("DEVRUN_NO_CGROUP").is_none(),
        supervisor: Identity { pid: 0, start: 0, boot: String::new() },
        inherited: Vec::new(),
    };
    let pump = LogPump::start(places.logs()).map_err(internal("the log thread cannot be started"))?;
    // The socket is made while the keeper comes up.
    let (started, bound) =
        tokio::join!(KeeperHandle::handshake(KeeperOptions { program, hello }, launched), async { server::bind(places) });
    let (keeper, link) = started?;
    let bound = bound.map_err(internal("the control socket cannot be made"))?;
    let (project, root) = (plan.project.to_string(), plan.root.clone());
    let (engine, handle) =
        Engine::new(EngineOptions { plan, places: places.clone(), fetch, keeper, link, pump: pump.clone(), run });
    #[cfg(debug_assertions)]
    fail_when_asked(&handle);
    let conversations = OpenConnections::new();
    let renewed = renew_socket(places, bound.place())?;
    let server = tokio::spawn(server::serve(bound, renewed, conversations.clone(), handle.clone(), project, root));
    let ended = tokio::spawn(engine.run());
    Ok(Ok(RunningSupervisor { engine: handle, ended, pump, server, conversations, places: places.clone(), _lock: lock }))
}

/// A client that finds no socket of ours asks for it by a signal (`reach`): the runtime directory may have been cleaned away.
/// Nothing is watched meanwhile.
fn renew_socket(places: &Paths, first: server::SocketFile) -> Result<mpsc::UnboundedReceiver<server::BoundSocket>, Failure> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut asked = signal(SignalKind::from_raw(libc::SIGURG))
        .map_err(|error| Failure::new(FailureKind::Internal, format!("signals cannot be received: {error}")))?;
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
            tokio::time::sleep(std::time::Duration::from_secs(1)).await;
            engine.interfere(move || panic!("asked to fail, with {text}"));
        });
    }
}

/// Each service costs us two log pipes, and the keeper those, its pidfd and, at the start, four more: told before anything is
/// started, as a supervisor without descriptors can hardly do anything orderly.
fn enough_files(plan: &Plan) -> Result<(), Failure> {
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

impl RunningSupervisor {
    /// The end of the run: waits for the engine, lets clients have their last words, removes what is short-lived.
    ///
    /// # Errors
    /// `Internal` when the engine did not end as it should; the keeper has stopped everything then.
    pub async fn finish(self) -> Result<EngineExit, Failure> {
        let Ok(ended) = self.ended.await else {
            // With the engine its handle of the keeper is gone, and the keeper stops everything; that is waited for, so that
            // nothing is left when we end. The panic has said where it was; its text is not repeated.
            self.server.abort();
            let stopped = leftovers::stop_leftovers(&self.places, std::future::pending(), say).await;
            let _stays = runtime_dir::remove_run(&self.places);
            stopped?;
            return Err(Failure::new(FailureKind::Internal, "the engine failed; everything was stopped")
                .help(format!("see {}", self.places.supervisor_log().display())));
        };
        // The engine drops its feeds when it ends; connections then close by themselves once their last lines are out.
        self.conversations.over(std::time::Duration::from_millis(50)).await;
        self.server.abort();
        if let Err(error) = runtime_dir::remove_run(&self.places) {
            say(format!("{} stays: {error}", self.places.run.display()));
        }
        // What could not be ended may still write there.
        if ended.survivors.is_empty()
            && let Err(failure) = crate::app::deletion::scratch(&self.places, &ended.scratch)
        {
            say(failure);
        }
        Ok(ended)
    }
}

/// The exit code of a run, survivors first.
#[must_use]
pub fn code(ended: &EngineExit, interrupted: Option<i32>) -> i32 {
    if !ended.survivors.is_empty() {
        return exit::SURVIVORS;
    }
    interrupted.unwrap_or_else(|| ended.outcome.code())
}

/// The second process of `up -d`: starts, answers, and serves until everything is down.
///
/// # Errors
/// As `boot`; the parent has been told then.
pub fn run(order: SupervisorOptions) -> Result<i32, Failure> {
    let lock = match claim(&order.places) {
        Ok(Ok(lock)) => lock,
        Ok(Err(pid)) => {
            answer(&Answer::Held(pid));
            return Ok(exit::ELSEWHERE);
        }
        Err(failure) => {
            answer(&Answer::Failed(failure.clone()));
            return Err(failure);
        }
    };
    // Before the runtime, whose threads would have to be copied with it.
    let launched = keeper().inspect_err(|failure| answer(&Answer::Failed(failure.clone())))?;
    let runtime = crate::app::runtime::runtime()?;
    let code = runtime.block_on(async {
        let (mut signals, mut asides) = (Signals::take()?, Asides::take()?);
        // Our parent writes the code of a signal that it got, or closes our standard input once it watches.
        let (said, mut heard) = tokio::sync::watch::channel(None::<Option<i32>>);
        tokio::task::spawn_blocking(move || {
            let mut byte = [0];
            let code = std::io::stdin().read(&mut byte).ok().filter(|count| *count > 0).map(|_| i32::from(byte[0]));
            // Nobody may be left to hear it.
            let _over = said.send(Some(code));
        });
        let mut asked = heard.clone();
        let interrupted = async {
            tokio::select! {
                code = signals.next() => code,
                Ok(code) = async { asked.wait_for(|said| said.flatten().is_some()).await.map(|code| code.flatten()) } =>
                    code.unwrap_or(exit::TERM),
                else => std::future::pending().await,
            }
        };
        let start = PlannedStart::new(&order.plan, &order.targets, order.options.no_deps);
        let note = |line: String| {
            say(&line);
            tell(&Answer::Note(line));
        };
        let booted = boot(lock, launched, &order.places, start, order.fetch, interrupted, note).await;
        let supervisor = match booted {
            Ok(Ok(supervisor)) => supervisor,
            Ok(Err(code)) => {
                answer(&Answer::Failed(Failure::cancelled()));
                return Ok(code);
            }
            Err(failure) => {
                answer(&Answer::Failed(failure.clone()));
                return Err(failure);
            }
        };
        supervisor.engine.hold();
        supervisor.engine.command(0, Command::Up { plan: None, targets: order.targets, options: order.options });
        answer(&Answer::Ready);
        // A run that is over in a moment still tells our parent how it went. If it dies or hangs, nothing waits for it for long.
        let waiting = supervisor.engine.clone();
        tokio::spawn(async move {
            let _late = tokio::time::timeout(std::time::Duration::from_secs(10), heard.wait_for(Option::is_some)).await;
            waiting.release();
        });
        let engine = supervisor.engine.clone();
        let finish = supervisor.finish();
        tokio::pin!(finish);
        let mut interrupted = None;
        let ended = loop {
            tokio::select! {
                ended = &mut finish => break ended?,
                code = signals.next() => {
                    interrupted = Some(code);
                    engine.interrupt();
                }
                // There is no terminal to hold us from, so only the status is of use.
                aside = asides.next() => if aside == Aside::Status && let Some(status) = engine.status().await {
                    signals::dump(&status).into_iter().for_each(say);
                },
            }
        };
        Ok(self::code(&ended, interrupted))
    });
    // All that matters has been waited for; what is left of its tasks ends with the process.
    runtime.shutdown_background();
    code
}

/// The last line on stdout, which is closed then: the parent waits for that.
fn answer(answer: &Answer) {
    tell(answer);
    devrun_keeper::daemonize::close_stdout();
}

/// One line on stdout, for the parent.
fn tell(answer: &Answer) {
    if let Ok(mut line) = serde_json::to_string(answer) {
        line.push('\n');
        let mut out = std::io::stdout().lock();
        // The parent may be gone; then nobody waits for the answer.
        let _gone = out.write_all(line.as_bytes()).and_then(|()| out.flush());
    }
}
