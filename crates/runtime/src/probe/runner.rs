//! One task for readiness, one for liveness, one for the `notify` socket: the loops around the checks.
//!
//! Attempts of one table never overlap, as one task makes them. Everything ends with the handle: a check in flight is a
//! future of its task, and what it runs is ended when the future is dropped.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{Notify, watch as latest};
use tokio::task::AbortHandle;

use super::checks::{CheckContext, CheckSet, LogMatch};
use super::command::CommandContext;
use super::connect::{FirstOpen, OwnershipGate};
use super::history::{ProbeAttempt, ProbeHistory};
use super::listen_watch::ListenWatch;
use super::listens_elsewhere::ListensElsewhere;
use super::notify::NotifySocket;
use super::report::{ProbeReport, ReportSink};
use super::result::{ProbeError, ProbeResult, RetryHint};
use super::schedule::{self, Sleeper};
use devrun_model::{Failure, ReadySpec, ServiceId};

/// The same failure is not repeated sooner than this before the first pass.
const REPEAT_AFTER: Duration = Duration::from_millis(250);

/// What is probed, in the form that [`start`](super::start) makes of a subject.
pub struct ProbeSpec {
    /// Whose.
    pub id: ServiceId,
    /// Which generation.
    pub generation: u64,
    /// Readiness.
    pub ready: Option<ReadySpec>,
    /// Liveness.
    pub alive: Option<ReadySpec>,
    /// The leader, where listeners must belong to its tree.
    pub leader: Option<i32>,
    /// The value of `DEVRUN_RUN_ID`.
    pub run: String,
    /// For `cmd` checks; absent: they do not pass.
    pub commands: Option<CommandContext>,
    /// The `notify` socket, or why there is none.
    pub notify: Option<Result<NotifySocket, Failure>>,
    /// The port whose socket was passed to the service.
    pub held: Option<u16>,
    /// Tells of listeners; shared by all.
    pub listen_watch: ListenWatch,
}

/// Probes go on until it is dropped; what a check runs is ended with it.
pub struct ProbeHandle {
    shared: Arc<ProbeShared>,
    tasks: Vec<AbortHandle>,
    began: Instant,
    opened: Option<FirstOpen>,
}

struct ProbeShared {
    /// Whether readiness is tried at the pace of a start also after its first pass.
    often: latest::Sender<bool>,
    /// Only the quick attempts of readiness wait for it; after the first pass a permit is stored and nobody woken.
    nudged: Notify,
    logs: Mutex<Vec<Arc<LogMatch>>>,
    history: Mutex<ProbeHistory>,
}

impl Default for ProbeShared {
    fn default() -> Self {
        Self { often: latest::channel(false).0, nudged: Notify::default(), logs: Mutex::default(), history: Mutex::default() }
    }
}

impl ProbeShared {
    fn nudge(&self) {
        self.nudged.notify_one();
    }
}

impl ProbeHandle {
    /// Something happened that makes a pass likely (output, a new listener): try now. Once it has passed, nothing.
    pub fn nudge(&self) {
        self.shared.nudge();
    }
    /// Tries readiness at the pace of a start from now on, or each `interval` again. Before the first pass nothing changes.
    pub fn set_often(&self, is_often: bool) {
        self.shared.often.send_replace(is_often);
    }
    /// A complete line of the service's output, for `log` checks; also nudges.
    pub fn line(&self, line: &[u8]) {
        // A panic elsewhere leaves the list as it is.
        for log in self.shared.logs.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            log.line(line);
        }
        self.nudge();
    }
    /// How long after the spawn its port took the first connection of a readiness check; `None` where none did so far.
    #[must_use]
    pub fn listening(&self) -> Option<Duration> {
        Some(self.opened.as_ref()?.get()?.saturating_duration_since(self.began))
    }
    /// Whether it has a `log` check still waiting, so that lines are worth passing on.
    #[must_use]
    pub fn wants_lines(&self) -> bool {
        self.shared.logs.lock().unwrap_or_else(PoisonError::into_inner).iter().any(|log| log.waits())
    }
    /// The last attempts, newest last; those of liveness begin with `alive:`.
    #[must_use]
    pub fn history(&self) -> Vec<ProbeAttempt> {
        self.shared.history.lock().unwrap_or_else(PoisonError::into_inner).list()
    }
}

impl Drop for ProbeHandle {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
    }
}

/// Begins probing. Must be called inside a runtime.
#[must_use]
pub fn start_probe_tasks(probe_spec: ProbeSpec, sink: ReportSink) -> ProbeHandle {
    let began = Instant::now();
    let shared = Arc::new(ProbeShared::default());
    let notified = Arc::new(AtomicBool::new(false));
    let mut tasks = Vec::new();
    let commands = probe_spec.commands.map(Arc::new);
    let reporter = |alive| Reporter {
        id: probe_spec.id.clone(),
        generation: probe_spec.generation,
        sink: sink.clone(),
        alive,
        last: None,
        said: began,
    };
    let context = |spec: &ReadySpec| CheckContext {
        gate: OwnershipGate::new(probe_spec.leader.filter(|_| spec.owner), probe_spec.run.clone())
            .with_held_port(probe_spec.held),
        commands: commands.clone(),
        began,
        timeout: spec.timeout,
    };
    let (passed, has_passed) = latest::channel(probe_spec.ready.is_none());
    let looping = |spec: ReadySpec, alive: bool| {
        let checks = CheckSet::new(&spec, &notified);
        shared.logs.lock().unwrap_or_else(PoisonError::into_inner).extend(checks.logs());
        ProbeLoop {
            checks,
            context: context(&spec),
            spec,
            reporter: reporter(alive),
            shared: Arc::clone(&shared),
            listen_watch: probe_spec.listen_watch.clone(),
        }
    };
    let alive = probe_spec.alive.map(|spec| looping(spec, true));
    let ready = probe_spec.ready.map(|spec| looping(spec, false));
    let opened = ready.as_ref().map(|task| task.context.gate.opened());
    match probe_spec.notify {
        Some(Ok(socket)) => {
            let shared = Arc::clone(&shared);
            let ready = move || {
                notified.store(true, Ordering::Release);
                shared.nudge();
            };
            let mut reporter = reporter(false);
            tasks.push(
                tokio::spawn(async move {
                    if let Err(error) = socket.listen(ready).await {
                        reporter.failed(&ProbeError::new(format!("the notify socket broke: {error}")), false);
                    }
                })
                .abort_handle(),
            );
        }
        Some(Err(failure)) => reporter(false).failed(&ProbeError::fatal(failure), false),
        None => {}
    }
    tasks.extend(ready.map(|task| tokio::spawn(task.readiness(passed)).abort_handle()));
    tasks.extend(alive.map(|task| tokio::spawn(task.liveness(has_passed)).abort_handle()));
    ProbeHandle { shared, tasks, began, opened }
}

struct ProbeLoop {
    spec: ReadySpec,
    checks: CheckSet,
    context: CheckContext,
    reporter: Reporter,
    shared: Arc<ProbeShared>,
    listen_watch: ListenWatch,
}

impl ProbeLoop {
    async fn readiness(mut self, passed: latest::Sender<bool>) {
        self.start().await;
        // Liveness may have been given up already, or there is none.
        let _ = passed.send(true);
        if !self.checks.is_final(&self.context) {
            self.steady().await;
        }
    }

    async fn liveness(mut self, mut ready: latest::Receiver<bool>) {
        // An error means that readiness is over, which it is only together with us.
        if ready.wait_for(|passed| *passed).await.is_err() {
            return;
        }
        let verdict = self.attempt(false).await;
        self.say(&verdict);
        if verdict.is_ok() && self.checks.is_final(&self.context) {
            return;
        }
        self.steady().await;
    }

    /// Quick attempts until the first pass.
    async fn start(&mut self) {
        let mut sleeper = Sleeper::default();
        // What was spawned a moment ago listens nowhere yet.
        let addresses = self.checks.local_addresses();
        if self.context.gate.leader().is_some() && !addresses.is_empty() && self.listen_watch.is_supported() {
            let most = schedule::fallback_step(Duration::ZERO, self.spec.start_interval);
            tokio::select! {
                () = self.listen_watch.wait_for_listener(&addresses, self.context.began) => {}
                () = sleeper.sleep(most) => {}
            }
        }
        let mut elsewhere = ListensElsewhere::default();
        loop {
            let attempted = Instant::now();
            match self.attempt(true).await {
                Ok(hit) => {
                    self.reporter.passed(hit.note.clone());
                    return;
                }
                Err(mut miss) => {
                    if let Some(leader) = self.context.gate.leader().filter(|_| !miss.closed.is_empty())
                        && let Some(note) = elsewhere.note(leader, self.context.began, &miss.closed).await
                    {
                        miss.answer.push_str(&note);
                    }
                    self.reporter.failed(&miss, false);
                    self.pause(&miss, attempted.elapsed(), &mut sleeper).await;
                }
            }
        }
    }

    /// From one quick attempt to the next.
    async fn pause(&self, miss: &ProbeError, took: Duration, sleeper: &mut Sleeper) {
        let began = Instant::now();
        let step = schedule::attempt_step(self.context.began.elapsed(), took, self.spec.start_interval);
        if !miss.closed.is_empty() && miss.retry == RetryHint::Step && self.listen_watch.is_supported() {
            // What it prints meanwhile opens no port.
            return tokio::select! {
                () = self.listen_watch.wait_for_listener(&miss.closed, self.context.began) => {}
                () = sleeper.sleep(schedule::fallback_step(step, self.spec.start_interval)) => {}
            };
        }
        let wait = match miss.retry {
            // A refused login is not tried at a rate that locks somebody out.
            RetryHint::Step if miss.fatal.is_some() => step.max(self.spec.start_interval.min(REPEAT_AFTER)),
            RetryHint::Step => step,
            RetryHint::In(duration) => duration,
            // Nothing will come of it before it is told; still said anew each `interval`, so that it is counted.
            RetryHint::Event => schedule::next_shared_tick(began, self.spec.interval).saturating_duration_since(began),
        };
        let nudged = tokio::select! {
            () = sleeper.sleep(wait) => false,
            () = self.shared.nudged.notified() => true,
        };
        // What was told ends a wait for it at once; for the rest a nudge only shortens the step.
        if nudged && miss.retry == RetryHint::Step {
            let least = schedule::min_step_after_nudge(step).max(took).min(wait);
            if let Some(rest) = least.checked_sub(began.elapsed()) {
                sleeper.sleep(rest).await;
            }
        }
    }

    /// Attempts at the shared moments, or often while somebody waits for the next pass; for good.
    async fn steady(&mut self) {
        let mut often = self.shared.often.subscribe();
        let mut took = Duration::ZERO;
        loop {
            let now = Instant::now();
            let shared = schedule::next_shared_tick(now, self.spec.interval);
            let is_often = *often.borrow_and_update() && !self.reporter.alive;
            // One that takes long is not tried without a pause.
            let due = if is_often { shared.min(now + self.spec.start_interval.max(took)) } else { shared };
            tokio::select! {
                () = tokio::time::sleep_until(due.into()) => {}
                // The sender lives as long as this task's handle.
                Ok(()) = often.changed() => continue,
            }
            let began = Instant::now();
            let verdict = self.attempt(is_often).await;
            took = began.elapsed();
            self.say(&verdict);
        }
    }

    fn say(&mut self, verdict: &ProbeResult) {
        match verdict {
            Ok(hit) => self.reporter.passed(hit.note.clone()),
            // It does not count yet, and liveness has no other use for it.
            Err(_) if self.reporter.alive && self.context.began.elapsed() < self.spec.start_period => {}
            Err(miss) => self.reporter.failed(miss, true),
        }
    }

    async fn attempt(&self, quick: bool) -> ProbeResult {
        let began = Instant::now();
        let verdict = self.checks.attempt(&self.context).await;
        let (passed, answer) = match &verdict {
            Ok(hit) => (true, &hit.answer),
            Err(miss) => (false, &miss.answer),
        };
        let answer = if self.reporter.alive { format!("alive: {answer}") } else { answer.clone() };
        let attempt =
            ProbeAttempt { at: began.saturating_duration_since(self.context.began), took: began.elapsed(), passed, answer };
        tracing::debug!(
            target: "devrun::probe", service = %self.reporter.id, passed, took_ms = attempt.took.as_secs_f64() * 1000.0,
            answer = %attempt.answer, "attempt"
        );
        // A panic elsewhere leaves the history as it is.
        self.shared.history.lock().unwrap_or_else(PoisonError::into_inner).add(attempt, quick);
        verdict
    }
}

/// Says what is news, and nothing twice.
struct Reporter {
    id: ServiceId,
    generation: u64,
    sink: ReportSink,
    alive: bool,
    last: Option<ProbeReport>,
    said: Instant,
}

impl Reporter {
    fn passed(&mut self, note: Option<String>) {
        let answer = if self.alive { ProbeReport::AlivePassed } else { ProbeReport::Passed(note) };
        if self.last.as_ref() != Some(&answer) {
            self.send(answer);
        }
    }

    fn failed(&mut self, miss: &ProbeError, counts: bool) {
        let answer = if self.alive {
            ProbeReport::AliveFailed(miss.answer.clone())
        } else {
            ProbeReport::Failed(miss.answer.clone(), miss.fatal.clone())
        };
        if counts || self.last.as_ref() != Some(&answer) || self.said.elapsed() >= REPEAT_AFTER {
            self.send(answer);
        }
    }

    fn send(&mut self, answer: ProbeReport) {
        self.last = Some(answer.clone());
        self.said = Instant::now();
        // Whoever listened is gone, and so soon is this task.
        let _ = self.sink.send((self.id.clone(), self.generation, answer));
    }
}
