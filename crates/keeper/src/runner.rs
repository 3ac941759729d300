//! Short-lived processes of a service (init steps, `pre_start`, stop and probe commands), contained like the service.
//!
//! Owns reading their output, the time-out and the end of the whole tree; whoever drops a future or a child half-way gets
//! the tree killed.

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::unix::AsyncFd;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

use devrun_model::keeper::{ExitStatus, Identity, ProcessId, Role, RunAs, SpawnSpec, StopOrder};
use devrun_model::{Failure, FailureKind, Paths, ServiceId, Signal};

use super::keeper_events::{ProcessEvent, register_fd};
use super::keeper_handle::KeeperHandle;
use super::process_list;

/// How much of the output is kept.
const TAIL: usize = 64 * 1024;
/// How long the keeper, left alone, lets such a process end by itself.
const GRACE_MS: u64 = 5000;
/// What a command leaves running when its leader has exited may end by itself for so long; then it is asked to, and a second
/// later killed.
const LEFT_GRACE: Duration = Duration::from_secs(1);
/// The same for a probe, which is to answer soon.
const LEFT_GRACE_OF_PROBE: Duration = Duration::from_millis(100);
/// Longer than the keeper takes to say what survives SIGKILL.
const FOREVER: Duration = Duration::from_secs(60);

/// Which output.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OutputStream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

/// Takes the output of a runner's processes as it comes; implemented by the log pump.
pub trait OutputSink: Send + Sync {
    /// Bytes as read, lines may be cut anywhere.
    fn write(&self, stream: OutputStream, bytes: &[u8]);
}

/// Starts processes in the name of one service and generation.
#[derive(Clone)]
pub struct Runner {
    /// The keeper.
    pub keeper: KeeperHandle,
    /// Directories.
    pub places: Paths,
    /// Called before each command: makes the runtime directory again where it was removed.
    pub prepare: fn(&Paths) -> Result<(), Failure>,
    /// Whose.
    pub service: ServiceId,
    /// Which generation.
    pub generation: u64,
    /// The marks every child gets (`DEVRUN_RUN_ID`, …), added to each request's environment.
    pub marks: BTreeMap<String, String>,
    /// Where output goes besides the tail; absent: nowhere.
    pub sink: Option<Arc<dyn OutputSink>>,
}

/// One process to run.
#[derive(Debug, Clone)]
pub struct CommandRequest {
    /// What for.
    pub role: Role,
    /// The executable, absolute.
    pub program: PathBuf,
    /// Its words; the first is the name it sees.
    pub argv: Vec<String>,
    /// Its environment, marks apart.
    pub env: BTreeMap<String, String>,
    /// Working directory.
    pub dir: PathBuf,
    /// OS identity.
    pub run_as: RunAs,
    /// For all of it; past it the tree is killed.
    pub timeout: Duration,
}

/// How it went.
#[derive(Debug, Clone)]
pub struct CommandResult {
    /// The leader's end.
    pub status: ExitStatus,
    /// The time ran out and the tree was killed.
    pub timed_out: bool,
    /// The last 64 KiB of its output, both streams as they came.
    pub tail: Vec<u8>,
    /// What it had left running and what had to be ended: pid and command.
    pub left: Vec<(i32, String)>,
}

impl CommandResult {
    /// Names what had to be ended, for a message: `sleep (pid 12), cat (pid 13)`. `None` where there was nothing.
    #[must_use]
    pub fn left_running(&self) -> Option<String> {
        if self.left.is_empty() { None } else { Some(list_processes(&self.left)) }
    }
}

/// Those of these processes that still run, by the names that they have now: one that was forked a moment ago has its own only
/// since its exec. Where none of them does, what is left was started by them since, and they stand for it.
#[must_use]
pub fn still_running(processes: Vec<(i32, String)>) -> Vec<(i32, String)> {
    let stats = processes.iter().filter_map(|(pid, _)| process_list::stat(*pid)).filter(process_list::Stat::lives);
    let alive: Vec<(i32, String)> = stats.map(|stat| (stat.pid, stat.comm)).collect();
    if alive.is_empty() { processes } else { alive }
}

/// Names processes in a message, five of them at most.
#[must_use]
pub fn list_processes(processes: &[(i32, String)]) -> String {
    let mut names: Vec<String> = processes.iter().take(5).map(|(pid, command)| format!("{command} (pid {pid})")).collect();
    if processes.len() > names.len() {
        names.push(format!("{} more", processes.len() - names.len()));
    }
    names.join(", ")
}

/// A process that goes on until it is stopped.
pub struct RunningCommand {
    identity: Identity,
    guard: KillGuard,
    status: watch::Receiver<Option<ExitStatus>>,
    done: tokio::task::JoinHandle<CommandResult>,
}

/// Kills the tree unless it was seen to its end.
struct KillGuard {
    keeper: KeeperHandle,
    process: ProcessId,
}

impl Drop for KillGuard {
    fn drop(&mut self) {
        // A tree that is empty is not known to the keeper any more, and nothing happens.
        self.keeper.kill(self.process);
    }
}

impl Runner {
    /// Runs to the end of the whole tree. Dropping the future kills the tree.
    ///
    /// # Errors
    /// When no process came of it, and when an init step that succeeded left processes running, as they may not have done their
    /// part of it. A non-zero exit is no error.
    pub async fn run(&self, request: CommandRequest) -> Result<CommandResult, Failure> {
        let deadline = Instant::now() + request.timeout;
        let (role, words) = (request.role, request.argv.join(" "));
        let (guard, running) = self.begin(request, deadline).await?;
        let finished = running.follow(None).await;
        drop(guard);
        match finished.left_running() {
            Some(left) if role == Role::Init && finished.status.success() => {
                let words: String = words.chars().take(80).collect();
                let message = format!("`{words}` exited and left {left} running; its work may be half done");
                Err(Failure::new(FailureKind::Task, message).help("let the script wait for what it starts: end it with `wait`"))
            }
            _ => Ok(finished),
        }
    }
    /// Starts a server that the caller stops. Dropping the child kills the tree.
    ///
    /// # Errors
    /// When no process came of it.
    pub async fn start(&self, request: CommandRequest) -> Result<RunningCommand, Failure> {
        let deadline = Instant::now() + request.timeout;
        let (guard, running) = self.begin(request, deadline).await?;
        let identity = running.identity.clone();
        let (ended, status) = watch::channel(None);
        let done = tokio::spawn(running.follow(Some(ended)));
        Ok(RunningCommand { identity, guard, status, done })
    }
    async fn begin(&self, request: CommandRequest, deadline: Instant) -> Result<(KillGuard, CommandInProgress), Failure> {
        (self.prepare)(&self.places)?;
        let process = self.keeper.next_process();
        let (program, dir) = (request.program.display().to_string(), request.dir.display().to_string());
        let left_grace = if request.role == Role::Probe { LEFT_GRACE_OF_PROBE } else { LEFT_GRACE };
        let (sink, mut events) = mpsc::unbounded_channel();
        self.keeper.spawn(self.spec(process, request), sink);
        let guard = KillGuard { keeper: self.keeper.clone(), process };
        let ended = || Failure::new(FailureKind::Internal, "the keeper is gone");
        // A child can hang before its exec, on a dead file system; letting go of the guard kills it.
        let first = tokio::time::timeout_at(deadline, events.recv()).await;
        let first = first.map_err(|_| Failure::new(FailureKind::Service, format!("{program} did not start in time")))?;
        match first.ok_or_else(ended)? {
            ProcessEvent::Spawned { identity, stdout, stderr, .. } => {
                let open = |end: Option<OwnedFd>| -> Result<Option<AsyncFd<OwnedFd>>, Failure> {
                    let reader = end.map(register_fd).transpose();
                    reader.map_err(|error| Failure::new(FailureKind::Internal, format!("output of {program}: {error}")))
                };
                let ends = [open(Some(stdout))?, open(stderr)?];
                let keeper = self.keeper.clone();
                let output = Output { ends, tail: Vec::new(), sink: self.sink.clone() };
                Ok((guard, CommandInProgress { keeper, process, identity, events, output, deadline, left_grace }))
            }
            ProcessEvent::SpawnFailed { step, errno, .. } => Err(spawn_failure(&program, &dir, &step, errno)),
            other => Err(Failure::new(FailureKind::Internal, format!("{other:?} before the spawn"))),
        }
    }
    fn spec(&self, process: ProcessId, request: CommandRequest) -> SpawnSpec {
        let mut env = request.env;
        env.extend(self.marks.clone());
        let lock = self.places.alive_lock(&self.service);
        let stop = StopOrder::plain(GRACE_MS);
        SpawnSpec {
            role: request.role,
            argv: request.argv,
            env: env.into_iter().collect(),
            dir: request.dir,
            run_as: request.run_as,
            ..SpawnSpec::plain(process, self.service.clone(), self.generation, request.program, lock, stop)
        }
    }
}

/// Words for a step and an errno, for people and exit codes.
fn spawn_failure(program: &str, dir: &str, step: &str, errno: i32) -> Failure {
    let error = std::io::Error::from_raw_os_error(errno);
    match (step, errno) {
        ("exec", libc::ENOENT | libc::EACCES | libc::ENOEXEC | libc::ENOTDIR | libc::ELOOP | libc::EPERM) => {
            Failure::new(FailureKind::Binary, format!("{program} cannot be run: {error}")).help(format!("ls -l {program}"))
        }
        ("exec", _) => Failure::new(FailureKind::Service, format!("{program} cannot be run: {error}")),
        ("chdir", _) => Failure::new(FailureKind::Config, format!("cannot enter its working directory {dir}: {error}"))
            .help("check `dir` in the procfile"),
        ("namespace", _) => Failure::new(FailureKind::Config, format!("no user namespace can be made here: {error}"))
            .help("set user_id = \"some ordinary user\" for this service"),
        ("user", _) => Failure::new(FailureKind::Config, format!("it cannot run as that user: {error}"))
            .help("start devrun as root, or take user_id away"),
        ("journal", _) => Failure::new(FailureKind::Service, format!("it cannot be started: cannot write the journal: {error}"))
            .help(crate::file_size_limit::write_error_help(&error)),
        ("keeper", _) => Failure::new(FailureKind::Service, "the keeper ended while it was being started"),
        _ => Failure::new(FailureKind::Service, format!("it cannot be started: {step}: {error}")),
    }
}

struct Output {
    ends: [Option<AsyncFd<OwnedFd>>; 2],
    tail: Vec<u8>,
    sink: Option<Arc<dyn OutputSink>>,
}

impl Output {
    /// Waits for output and takes what is there; never returns while there is no end to wait at.
    async fn pump(&mut self) {
        let [stdout, stderr] = &self.ends;
        let index = tokio::select! {
            () = readable(stdout.as_ref()) => 0,
            () = readable(stderr.as_ref()) => 1,
        };
        self.take(index);
    }
    fn take(&mut self, index: usize) {
        let stream = if index == 0 { OutputStream::Stdout } else { OutputStream::Stderr };
        let mut buffer = [0u8; 16 * 1024];
        for _ in 0..16 {
            let Some(end) = &self.ends[index] else { return };
            match nix::unistd::read(end.get_ref(), &mut buffer) {
                Ok(count) if count > 0 => {
                    let bytes = &buffer[..count];
                    if let Some(sink) = &self.sink {
                        sink.write(stream, bytes);
                    }
                    self.tail.extend_from_slice(bytes);
                    let over = self.tail.len().saturating_sub(TAIL);
                    self.tail.drain(..over);
                }
                Err(nix::Error::EAGAIN | nix::Error::EINTR) => return,
                Ok(_) | Err(_) => self.ends[index] = None,
            }
        }
    }
}

/// Ready as soon as a read may bring something; the readiness is taken back, so that the next wait waits.
async fn readable(end: Option<&AsyncFd<OwnedFd>>) {
    let Some(end) = end else { return std::future::pending().await };
    loop {
        let Ok(mut ready) = end.readable().await else { return std::future::pending().await };
        let mut poll = [nix::poll::PollFd::new(std::os::fd::AsFd::as_fd(end.get_ref()), nix::poll::PollFlags::POLLIN)];
        match nix::poll::poll(&mut poll, nix::poll::PollTimeout::ZERO) {
            Ok(0) => ready.clear_ready(),
            _ => return,
        }
    }
}

struct CommandInProgress {
    keeper: KeeperHandle,
    process: ProcessId,
    identity: Identity,
    events: mpsc::UnboundedReceiver<ProcessEvent>,
    output: Output,
    deadline: Instant,
    left_grace: Duration,
}

/// What is next for processes that outlive the leader.
#[derive(Clone, Copy)]
enum LeftStep {
    /// They may end by themselves.
    Wait,
    /// They were asked to.
    Asked,
    /// They were killed.
    Killed,
}

impl CommandInProgress {
    async fn follow(mut self, ended: Option<watch::Sender<Option<ExitStatus>>>) -> CommandResult {
        let mut status = ExitStatus::Unknown;
        let (mut timed_out, mut left, mut next) = (false, Vec::new(), None);
        loop {
            let due = next.map_or(self.deadline, |(at, _)| at);
            tokio::select! {
                biased;
                event = self.events.recv() => match event {
                    Some(ProcessEvent::Exited { status: how, left: rest, .. }) => {
                        status = how;
                        left = rest;
                        if !timed_out {
                            next = Some((Instant::now() + self.left_grace, LeftStep::Wait));
                        }
                        if let Some(ended) = &ended {
                            // Nobody may be waiting.
                            let _ = ended.send(Some(how));
                        }
                    }
                    Some(ProcessEvent::Spawned { .. }) => {}
                    // What survives SIGKILL is not waited for; the keeper names it at the end.
                    Some(ProcessEvent::TreeEmpty { .. } | ProcessEvent::SpawnFailed { .. } | ProcessEvent::Survivors { .. })
                    | None => break,
                },
                () = self.output.pump() => {}
                () = tokio::time::sleep_until(due), if !timed_out => match next {
                    None => {
                        timed_out = true;
                        self.keeper.kill(self.process);
                    }
                    Some((_, LeftStep::Wait)) => {
                        left = still_running(left);
                        self.keeper.stop(self.process, None);
                        next = Some((due + LEFT_GRACE, LeftStep::Asked));
                    }
                    Some((_, LeftStep::Asked)) => {
                        self.keeper.kill(self.process);
                        // It is empty soon, or the keeper says what survives.
                        next = Some((due + FOREVER, LeftStep::Killed));
                    }
                    Some((_, LeftStep::Killed)) => break,
                },
            }
        }
        if !next.is_some_and(|(_, step)| matches!(step, LeftStep::Asked | LeftStep::Killed)) {
            left.clear();
        }
        // The writers are gone, so what is in the pipes is all there will be.
        self.output.take(0);
        self.output.take(1);
        CommandResult { status, timed_out, tail: self.output.tail, left }
    }
}

impl RunningCommand {
    /// The leader.
    #[must_use]
    pub fn identity(&self) -> &Identity {
        &self.identity
    }
    /// Waits for the leader's end.
    pub async fn wait(&mut self) -> ExitStatus {
        match self.status.wait_for(Option::is_some).await {
            Ok(status) => status.unwrap_or(ExitStatus::Unknown),
            Err(_) => ExitStatus::Unknown,
        }
    }
    /// Signals the leader, kills the tree at the end of the grace, waits for the empty tree.
    pub async fn stop(self, signal: Signal, grace: Duration) -> CommandResult {
        let Self { guard, mut done, .. } = self;
        guard.keeper.stop(guard.process, Some(signal));
        let lost = |_| CommandResult { status: ExitStatus::Unknown, timed_out: false, tail: Vec::new(), left: Vec::new() };
        match tokio::time::timeout(grace, &mut done).await {
            Ok(finished) => finished.unwrap_or_else(lost),
            Err(_) => {
                guard.keeper.kill(guard.process);
                done.await.unwrap_or_else(lost)
            }
        }
    }
}
