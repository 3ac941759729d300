//! The task behind the supervisor's handle of the keeper.
//!
//! One task owns the socket. When the keeper dies the same task becomes what the keeper was for the processes that it
//! leaves: the supervisor is a subreaper too, so they are its children now, and the same tree code waits for them, signals
//! them and proves them empty, while a new keeper takes what is spawned from then on. It waits for those processes only,
//! one by one, never for all children.

use std::collections::{BTreeMap, HashMap};
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::io::unix::AsyncFd;
use tokio::signal::unix::{Signal as SignalStream, SignalKind};
use tokio::sync::{mpsc, oneshot};

use crate::journal;
use devrun_model::keeper::{ExitStatus, FromKeeper, Identity, KeeperHello, ProcessId, SpawnSpec, ToKeeper};
use devrun_model::{Failure, FailureKind, Signal};

use super::default_limits::DefaultLimits;
use super::drivers::own_process;
use super::keeper_events::{HandleRequest, KeeperEvent, KeeperOptions, ProcessEvent, keeper_failure, register_fd};
use super::keeper_watch::{KeeperWatch, WatchDecision};
use super::launched_keeper::LaunchedKeeper;
use super::orphans::Orphans;
use super::process_trees::TreeEvent;
use super::reactor::register;
use super::system_limits;
use super::wire::{Inbox, Outbox, ReadOutcome};
use super::{child_wait, daemonize, default_limits, file_size_limit, identity, keeper_launch, process_list};

/// How long a keeper may take to answer.
const ANSWER: Duration = Duration::from_secs(5);
/// How often a new keeper is tried for, and how long in between.
const ATTEMPTS: u32 = 10;
const RETRY: Duration = Duration::from_millis(150);

/// Starts a process that becomes the first keeper; it loads while its supervisor has other things to do.
pub(super) fn launch(program: &std::path::Path) -> Result<LaunchedKeeper, Failure> {
    keeper_launch::start_keeper(program, raise_open_file_limit())
        .map_err(|error| keeper_failure(&format!("{}: {error}", program.display())).help(system_limits::help(&error)))
}

/// Greets the first keeper and starts the task that speaks to it.
pub(super) async fn begin(
    mut options: KeeperOptions,
    launched: LaunchedKeeper,
    asked: mpsc::UnboundedReceiver<HandleRequest>,
) -> Result<mpsc::UnboundedReceiver<KeeperEvent>, Failure> {
    // What a dying keeper leaves shall come to us and not to init. A refusal is the keeper's to report, which asks for the same.
    let _refused = own_process::inherit_orphans();
    let children = tokio::signal::unix::signal(SignalKind::child()).map_err(|error| keeper_failure(&error.to_string()))?;
    options.hello.supervisor = identity::own();
    let (line, identity, without) = KeeperSocket::open(&options, launched).await?;
    let (events, heard) = mpsc::unbounded_channel();
    // No one has to listen to the keeper's own news.
    let _ = events.send(KeeperEvent::Ready { identity, without });
    let link = KeeperConnection {
        options,
        line: Some(line),
        watch: KeeperWatch::default(),
        events,
        routes: HashMap::new(),
        orphans: Orphans::default(),
        children,
        finish: None,
    };
    tokio::spawn(link.run(asked));
    Ok(heard)
}

/// Raises our limit of open files as far as it goes: each service costs us its log pipes. Returns what it was, which is
/// what services get.
fn raise_open_file_limit() -> DefaultLimits {
    use nix::sys::resource::{Resource, getrlimit};
    static FIRST: std::sync::OnceLock<DefaultLimits> = std::sync::OnceLock::new();
    *FIRST.get_or_init(|| {
        let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap_or((1024, 1024));
        default_limits::raise_open_files();
        DefaultLimits { nofile: (soft, hard), core: daemonize::core_limit(), file_size: file_size_limit::callers_limit() }
    })
}

/// The socket to one keeper.
struct KeeperSocket {
    socket: AsyncFd<OwnedFd>,
    keeper: Identity,
    inbox: Inbox,
    outbox: Outbox,
}

impl KeeperSocket {
    async fn open(options: &KeeperOptions, launched: LaunchedKeeper) -> Result<(Self, Identity, Vec<String>), Failure> {
        let failed = |error: std::io::Error| keeper_failure(&format!("{}: {error}", options.program.display()));
        // Let go of when it has answered, or is dead.
        let LaunchedKeeper { pid, socket, errors, kept: _kept } = launched;
        let keeper = identity::of(pid).unwrap_or(Identity { pid, start: 0, boot: String::new() });
        let socket = register_fd(socket).map_err(|error| keeper_failure(&error.to_string()))?;
        let mut line = Self { socket, keeper, inbox: Inbox::default(), outbox: Outbox::default() };
        let answer = tokio::time::timeout(ANSWER, line.handshake(&options.hello)).await;
        match answer {
            Ok(Ok((identity, without))) => Ok((line, identity, without)),
            other => {
                let failure = match other {
                    Ok(Err(failure)) => keeper_launch::refused(&errors).map_or(failure, failed),
                    _ => keeper_failure("it does not answer"),
                };
                let keeper = line.keeper.clone();
                // One that was stopped before its first word would not see the end of its socket either.
                let _sent = super::signal::send_checked(keeper.pid, keeper.start, libc::SIGKILL);
                drop(line);
                wait_for_exit(&keeper).await;
                Err(failure)
            }
        }
    }
    async fn handshake(&mut self, hello: &KeeperHello) -> Result<(Identity, Vec<String>), Failure> {
        let failed = |error: std::io::Error| keeper_failure(&error.to_string());
        self.outbox.push(&ToKeeper::Hello(hello.clone()), Vec::new()).map_err(failed)?;
        loop {
            // A long list of what it inherits does not fit into the socket at once.
            let sent = self.outbox.flush(self.socket.as_raw_fd()).map_err(failed)?;
            let interest =
                if sent { tokio::io::Interest::READABLE } else { tokio::io::Interest::READABLE | tokio::io::Interest::WRITABLE };
            let mut ready = self.socket.ready(interest).await.map_err(failed)?;
            match self.inbox.fill(ready.get_inner().as_raw_fd()).map_err(failed)? {
                ReadOutcome::Data => {}
                ReadOutcome::Nothing => ready.clear_ready(),
                ReadOutcome::End => return Err(keeper_failure("it ended before it was ready")),
            }
            match self.inbox.take::<FromKeeper>().map_err(failed)? {
                Some((FromKeeper::Ready { identity, without }, _)) => return Ok((identity, without)),
                Some((FromKeeper::SpawnFailed { step, errno: libc::EBUSY, .. }, _)) => {
                    return Err(Failure::new(FailureKind::Survivors, step).help("devrun down --emergency"));
                }
                Some((FromKeeper::SpawnFailed { step, errno, .. }, _)) => return Err(handshake_failure(&step, errno)),
                _ => {}
            }
        }
    }
    /// Sends what can be sent now.
    fn flush(&mut self) -> std::io::Result<bool> {
        self.outbox.flush(self.socket.as_raw_fd())
    }
}

/// Why a keeper cannot begin: a journal that cannot be written is for the user to change, anything else is our fault.
fn handshake_failure(step: &str, errno: i32) -> Failure {
    match errno {
        libc::ENOSPC | libc::EDQUOT | libc::EFBIG | libc::EROFS | libc::EACCES | libc::EPERM => {
            Failure::new(devrun_model::FailureKind::Config, format!("the state directory cannot be written to: {step}"))
                .help(file_size_limit::write_error_help(&std::io::Error::from_raw_os_error(errno)))
        }
        _ => keeper_failure(step),
    }
}

/// Waits for a keeper that has let go of its socket: it is our child and must not stay a zombie.
async fn wait_for_exit(keeper: &Identity) {
    let gone = || child_wait::try_wait(keeper).is_some() || identity::of(keeper.pid).is_none_or(|now| now.start != keeper.start);
    // Told by the kernel, where it has such descriptors; looked at where it has not.
    let end = super::signal::open(keeper.pid).and_then(|end| register(end, tokio::io::Interest::READABLE).ok());
    let until = Instant::now() + Duration::from_secs(2);
    while !gone() && Instant::now() < until {
        let look = Duration::from_millis(if end.is_some() { 100 } else { 1 });
        match &end {
            Some(end) => drop(tokio::time::timeout(look, end.readable()).await),
            None => tokio::time::sleep(look).await,
        }
    }
}

/// What is known of one process.
struct ProcessRoute {
    sink: mpsc::UnboundedSender<ProcessEvent>,
    /// Whole until it runs.
    spec: Box<SpawnSpec>,
    /// Its listening sockets, until it runs.
    sockets: Vec<Arc<OwnedFd>>,
    /// It was asked of a second keeper, after the first was lost over it.
    repeated: bool,
    identity: Option<Identity>,
    ended: bool,
    killed: bool,
    stopped: Option<Option<Signal>>,
}

struct KeeperConnection {
    options: KeeperOptions,
    line: Option<KeeperSocket>,
    watch: KeeperWatch,
    events: mpsc::UnboundedSender<KeeperEvent>,
    routes: HashMap<ProcessId, ProcessRoute>,
    orphans: Orphans,
    children: SignalStream,
    finish: Option<oneshot::Sender<Vec<(i32, String)>>>,
}

/// To be sent: the originals stay for the next process that listens on them.
fn duplicates(sockets: &[Arc<OwnedFd>]) -> std::io::Result<Vec<OwnedFd>> {
    sockets.iter().map(|socket| socket.try_clone()).collect()
}

enum WakeReason {
    Asks(usize),
    Socket(std::io::Result<()>),
    Children,
    Timer,
}

impl KeeperConnection {
    async fn run(mut self, mut asked: mpsc::UnboundedReceiver<HandleRequest>) {
        let mut batch = Vec::new();
        loop {
            let reason = self.wait(&mut asked, &mut batch).await;
            match reason {
                // The last handle is gone: the socket closes, and the keeper goes on alone.
                WakeReason::Asks(0) => return,
                WakeReason::Asks(_) => batch.drain(..).for_each(|request| self.handle_request(request)),
                WakeReason::Socket(Ok(())) => {}
                WakeReason::Socket(Err(_)) => self.replace_keeper().await,
                WakeReason::Children => self.orphans.reap(),
                WakeReason::Timer => {
                    let now = Instant::now();
                    self.orphans.tick(now);
                    self.check_keeper(now).await;
                }
            }
            self.report_orphans();
            if !self.read_messages() {
                if self.finish.is_some() {
                    // It ended without the answer: nobody can say what is left.
                    self.finished(Vec::new()).await;
                    return;
                }
                self.replace_keeper().await;
            }
            if let Some(survivors) = self.orphans.finished.take() {
                self.finished(survivors).await;
                return;
            }
        }
    }

    async fn wait(&mut self, asked: &mut mpsc::UnboundedReceiver<HandleRequest>, batch: &mut Vec<HandleRequest>) -> WakeReason {
        let orphaned = !self.orphans.is_empty();
        let owed = self.watch.next_wake().filter(|_| self.line.is_some());
        let wake = [self.orphans.next_wake(), owed].into_iter().flatten().min().map(tokio::time::Instant::from_std);
        let timer = async {
            match wake {
                Some(at) => tokio::time::sleep_until(at).await,
                None => std::future::pending().await,
            }
        };
        let line = self.line.as_mut();
        let socket = async {
            let Some(line) = line else { return std::future::pending().await };
            if line.outbox.is_empty() {
                let mut ready = line.socket.readable().await?;
                match line.inbox.fill(ready.get_inner().as_raw_fd())? {
                    ReadOutcome::Data => {}
                    ReadOutcome::Nothing => ready.clear_ready(),
                    ReadOutcome::End => return Err(std::io::ErrorKind::UnexpectedEof.into()),
                }
            } else {
                let mut ready = line.socket.ready(tokio::io::Interest::READABLE | tokio::io::Interest::WRITABLE).await?;
                let flushed = line.outbox.flush(ready.get_inner().as_raw_fd())?;
                let read = line.inbox.fill(ready.get_inner().as_raw_fd())?;
                if read == ReadOutcome::End {
                    return Err(std::io::ErrorKind::UnexpectedEof.into());
                }
                if !flushed && read == ReadOutcome::Nothing {
                    ready.clear_ready();
                }
            }
            Ok(())
        };
        tokio::select! {
            biased;
            result = socket => WakeReason::Socket(result),
            _ = self.children.recv(), if orphaned => WakeReason::Children,
            count = asked.recv_many(batch, 256) => WakeReason::Asks(count),
            () = timer => WakeReason::Timer,
        }
    }

    /// Takes every frame that is there. False: the keeper is gone or talks nonsense.
    fn read_messages(&mut self) -> bool {
        loop {
            let Some(line) = &mut self.line else { return true };
            match line.inbox.take::<FromKeeper>() {
                Ok(Some((message, descriptors))) => {
                    self.watch.message_received();
                    self.route(message, descriptors);
                }
                Ok(None) => break,
                Err(_) => return false,
            }
        }
        self.line.as_mut().is_none_or(|line| line.flush().is_ok())
    }

    /// A keeper that owes an answer and shows no sign of life is replaced, as one that died.
    async fn check_keeper(&mut self, now: Instant) {
        let Some(keeper) = self.line.as_ref().map(|line| line.keeper.pid) else { return };
        match self.watch.check(now, || process_list::activity(keeper)) {
            WatchDecision::Wait => {}
            WatchDecision::Ping => self.send_to_keeper(&ToKeeper::Ping),
            WatchDecision::Lost => self.replace_keeper().await,
        }
    }

    fn handle_request(&mut self, request: HandleRequest) {
        if self.line.is_some() {
            self.watch.request_sent(Instant::now());
        }
        match request {
            HandleRequest::Spawn(spec, sockets, sink) => {
                let process = spec.process;
                let message = ToKeeper::Spawn(spec);
                let refused = match (self.line.as_mut(), duplicates(&sockets)) {
                    (None, _) => Some(("keeper", libc::EPIPE)),
                    (_, Err(error)) => Some(("sockets", error.raw_os_error().unwrap_or(libc::EMFILE))),
                    // Only beyond 16 MiB; a spec that long fails at exec as well.
                    (Some(line), Ok(sockets)) => line.outbox.push(&message, sockets).err().map(|_| ("exec", libc::E2BIG)),
                };
                let ToKeeper::Spawn(spec) = message else { return };
                let route = ProcessRoute {
                    sink,
                    spec,
                    sockets,
                    repeated: false,
                    identity: None,
                    ended: false,
                    killed: false,
                    stopped: None,
                };
                self.routes.insert(process, route);
                if let Some((step, errno)) = refused {
                    self.spawn_failed(process, step, errno);
                }
            }
            HandleRequest::Stop(process, signal) => {
                if let Some(route) = self.routes.get_mut(&process) {
                    route.stopped = Some(signal);
                }
                if self.orphans.has(process) {
                    self.orphans.trees.stop(process, signal);
                } else {
                    self.send_to_keeper(&ToKeeper::Stop { process, signal });
                }
            }
            HandleRequest::Signal(process, signal) => {
                if self.orphans.has(process) {
                    self.orphans.trees.signal(process, signal);
                } else {
                    self.send_to_keeper(&ToKeeper::Signal { process, signal });
                }
            }
            HandleRequest::SignalTree(process, signal) => {
                if self.orphans.has(process) {
                    self.orphans.trees.signal_tree(process, signal);
                } else {
                    self.send_to_keeper(&ToKeeper::SignalTree { process, signal });
                }
            }
            HandleRequest::Kill(process) => {
                if let Some(route) = self.routes.get_mut(&process) {
                    route.killed = true;
                }
                if self.orphans.has(process) {
                    self.orphans.trees.kill(process);
                } else {
                    self.send_to_keeper(&ToKeeper::Kill { process });
                }
            }
            HandleRequest::Flush(answer) => {
                // What does not fit now is sent by the next wait; a lost connection is seen there as well.
                let _ = self.line.as_mut().map(KeeperSocket::flush);
                let _gone = answer.send(());
            }
            HandleRequest::Finish(answer) => {
                self.finish = Some(answer);
                if self.line.is_some() {
                    self.send_to_keeper(&ToKeeper::Finish);
                } else {
                    self.orphans.finished = Some(Vec::new());
                }
            }
        }
    }

    fn send_to_keeper(&mut self, message: &ToKeeper) {
        if let Some(line) = &mut self.line {
            // Refused only beyond 16 MiB, which none of these is. Sent by `listen` or the next wait.
            let _ = line.outbox.push(message, Vec::new());
        }
    }

    fn spawn_failed(&mut self, process: ProcessId, step: &str, errno: i32) {
        if let Some(route) = self.routes.remove(&process) {
            // Whoever asked may have lost interest.
            let _ = route.sink.send(ProcessEvent::SpawnFailed { process, step: step.to_owned(), errno });
        }
    }

    fn route(&mut self, message: FromKeeper, descriptors: Vec<OwnedFd>) {
        match message {
            FromKeeper::Ready { .. } => {}
            FromKeeper::Pong => self.watch.pong_received(Instant::now()),
            FromKeeper::Finished { survivors } => self.orphans.finished = Some(survivors),
            FromKeeper::Spawned { process, identity } => {
                let mut ends = descriptors.into_iter();
                if let Some(route) = self.routes.get_mut(&process)
                    && let Some(stdout) = ends.next()
                {
                    route.identity = Some(identity.clone());
                    route.spec.keep_what_running_needs();
                    route.sockets = Vec::new();
                    let _ = route.sink.send(ProcessEvent::Spawned { process, identity, stdout, stderr: ends.next() });
                }
            }
            FromKeeper::SpawnFailed { process, step, errno } => self.spawn_failed(process, &step, errno),
            FromKeeper::Exited { process, status, left } => self.report_exit(process, status, left),
            FromKeeper::TreeEmpty { process } => self.report_empty_tree(process),
            FromKeeper::Survivors { process, pids } => self.report_survivors(process, pids),
        }
    }
    fn report_exit(&mut self, process: ProcessId, status: ExitStatus, left: Vec<(i32, String)>) {
        if let Some(route) = self.routes.get_mut(&process) {
            route.ended = true;
            let _ = route.sink.send(ProcessEvent::Exited { process, status, left });
        }
    }
    fn report_empty_tree(&mut self, process: ProcessId) {
        if let Some(route) = self.routes.remove(&process) {
            let _ = route.sink.send(ProcessEvent::TreeEmpty { process });
        }
    }
    fn report_survivors(&mut self, process: ProcessId, pids: Vec<(i32, String)>) {
        if let Some(route) = self.routes.get(&process) {
            let _ = route.sink.send(ProcessEvent::Survivors { process, pids });
        }
    }

    fn report_orphans(&mut self) {
        for event in self.orphans.trees.take_events() {
            match event {
                TreeEvent::Exited(process, status, left) if !self.orphans.unannounced.contains(&process) => {
                    self.report_exit(process, status, left)
                }
                TreeEvent::Exited(..) => {}
                TreeEvent::Empty(process) if self.orphans.unannounced.remove(&process) => {
                    self.spawn_failed(process, "keeper", libc::EPIPE);
                }
                TreeEvent::Empty(process) => self.report_empty_tree(process),
                TreeEvent::Survivors(process, pids) => self.report_survivors(process, pids),
            }
        }
    }

    /// The keeper is dead: its children are ours now, and a new keeper is needed.
    async fn replace_keeper(&mut self) {
        let Some(mut line) = self.line.take() else { return };
        // What it said before it died is true.
        while let Ok(Some((message, descriptors))) = line.inbox.take::<FromKeeper>() {
            self.route(message, descriptors);
        }
        let keeper = line.keeper.clone();
        // A keeper that talks nonsense but lives must not stay beside the new one.
        let _sent = super::signal::send_checked(keeper.pid, keeper.start, libc::SIGKILL);
        drop(line);
        wait_for_exit(&keeper).await;
        if self.orphans.finished.is_some() {
            return;
        }
        self.watch = KeeperWatch::default();
        self.orphans.keeper_lost(self.options.owns_children);
        let _ = self.events.send(KeeperEvent::Lost);
        let repeated = self.adopt();
        self.report_orphans();
        let mut last = keeper_failure("it keeps ending");
        for attempt in 0..ATTEMPTS {
            if attempt > 0 {
                tokio::time::sleep(RETRY).await;
                self.orphans.reap();
                self.report_orphans();
            }
            self.options.hello.inherited = self.orphans.inherited();
            let opened = match launch(&self.options.program) {
                Ok(launched) => KeeperSocket::open(&self.options, launched).await,
                Err(failure) => Err(failure),
            };
            match opened {
                Ok((line, identity, without)) => {
                    self.line = Some(line);
                    for process in repeated {
                        self.repeat(process);
                    }
                    let _ = self.events.send(KeeperEvent::Ready { identity, without });
                    if self.finish.is_some() {
                        self.send_to_keeper(&ToKeeper::Finish);
                    }
                    self.watch.request_sent(Instant::now());
                    return;
                }
                Err(failure) => last = failure,
            }
        }
        for process in repeated {
            self.spawn_failed(process, "keeper", libc::EPIPE);
        }
        let _ = self.events.send(KeeperEvent::Gone(last));
        if self.finish.is_some() {
            self.orphans.finished = Some(Vec::new());
        }
    }

    /// Asks the new keeper for what the lost one was asked for and never began.
    fn repeat(&mut self, process: ProcessId) {
        let Some(route) = self.routes.get_mut(&process) else { return };
        route.repeated = true;
        let spawn = ToKeeper::Spawn(route.spec.clone());
        match duplicates(&route.sockets) {
            Ok(sockets) => {
                if let Some(line) = &mut self.line {
                    // Refused only beyond 16 MiB, and the first keeper took it.
                    let _ = line.outbox.push(&spawn, sockets);
                }
            }
            Err(error) => self.spawn_failed(process, "sockets", error.raw_os_error().unwrap_or(libc::EMFILE)),
        }
    }

    /// Takes over what the dead keeper has left. Returns what it was asked to start and never began.
    fn adopt(&mut self) -> Vec<ProcessId> {
        let mut repeated = Vec::new();
        let recorded = journal::read(&self.options.hello.journal).unwrap_or_default();
        let mut never: Vec<ProcessId> = Vec::new();
        let mut waiting: BTreeMap<ProcessId, &mut ProcessRoute> = BTreeMap::new();
        for (process, route) in &mut self.routes {
            if !self.orphans.has(*process) {
                waiting.insert(*process, route);
            }
        }
        for (process, route) in waiting {
            let Some(entry) = recorded.live.get(&process).filter(|entry| entry.run == self.options.hello.run) else {
                // Never recorded, so never released: a child that was forked has seen the end of its pipe and ended. Or
                // the tree was proved empty and only the message was lost.
                if let Some(identity) = &route.identity {
                    if !route.ended {
                        let seen = recorded.exits.get(&process).copied();
                        let status = seen.or_else(|| child_wait::try_wait(identity)).unwrap_or(ExitStatus::Unknown);
                        let _ = route.sink.send(ProcessEvent::Exited { process, status, left: Vec::new() });
                    }
                    let _ = route.sink.send(ProcessEvent::TreeEmpty { process });
                    never.push(process);
                } else if !route.repeated && !route.killed && route.stopped.is_none() {
                    repeated.push(process);
                } else {
                    let step = "keeper".to_owned();
                    let _ = route.sink.send(ProcessEvent::SpawnFailed { process, step, errno: libc::EPIPE });
                    never.push(process);
                }
                continue;
            };
            self.orphans.add(&route.spec, entry.clone(), route.ended, recorded.exits.get(&process).copied());
            if route.identity.is_none() {
                // It was released, but its log pipes died with the keeper: it is of no use to anybody.
                self.orphans.unannounced.insert(process);
                self.orphans.trees.kill(process);
            } else if route.killed {
                self.orphans.trees.kill(process);
            } else if let Some(signal) = route.stopped {
                self.orphans.trees.stop(process, signal);
            }
        }
        for process in never {
            self.routes.remove(&process);
        }
        self.orphans.reap();
        repeated
    }

    async fn finished(&mut self, mut survivors: Vec<(i32, String)>) {
        if let Some(line) = self.line.take() {
            let keeper = line.keeper.clone();
            drop(line);
            wait_for_exit(&keeper).await;
        }
        survivors.extend(self.orphans.remaining().await);
        if let Some(answer) = self.finish.take() {
            // Whoever asked may be gone; the journal has it too.
            let _ = answer.send(survivors);
        }
    }
}
