//! One task for readiness, one for liveness, one for the `notify` socket: the loops around the checks.
//!
//! Attempts of one table never overlap, as one task makes them. Everything ends with the handle: a check in flight is a
//! future of its task, and what it runs is ended when the future is dropped.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{Notify, watch as latest};
use tokio::task::AbortHandle;

use super::bell::Bell;
use super::checks::{Checks, Context, LogMatch};
use super::clock::{self, Sleeper};
use super::dial::{Gate, Opened};
use super::history::{Attempt, History};
use super::notify::NotifySocket;
use super::verdict::{Again, Miss, Verdict};
use super::{Answer, Sink};
use devrun_keeper::Runner;
use devrun_model::keeper::RunAs;
use devrun_model::{Failure, ReadySpec, ServiceId};

/// The same failure is not repeated sooner than this before the first pass.
const REPEAT: Duration = Duration::from_millis(250);

/// What `cmd` checks run with.
pub struct Commands {
    /// Starts them.
    pub runner: Runner,
    /// The service's environment.
    pub env: BTreeMap<String, String>,
    /// The service's directory.
    pub dir: PathBuf,
    /// The service's user.
    pub run_as: RunAs,
}

/// What is probed, in the form that [`start`](super::start) makes of a subject.
pub struct Probing {
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
    pub commands: Option<Commands>,
    /// The `notify` socket, or why there is none.
    pub notify: Option<Result<NotifySocket, Failure>>,
    /// Tells of listeners; shared by all.
    pub bell: Bell,
}

/// Probes go on until it is dropped; what a check runs is ended with it.
pub struct ProbeHandle {
    shared: Arc<Shared>,
    tasks: Vec<AbortHandle>,
    began: Instant,
    opened: Option<Opened>,
}

#[derive(Default)]
struct Shared {
    /// Only the quick attempts of readiness wait for it; after the first pass a permit is stored and nobody woken.
    nudged: Notify,
    logs: Mutex<Vec<Arc<LogMatch>>>,
    history: Mutex<History>,
}

impl Shared {
    fn nudge(&self) {
        self.nudged.notify_one();
    }
}

impl ProbeHandle {
    /// Something happened that makes a pass likely (output, a new listener): try now. Once it has passed, nothing.
    pub fn nudge(&self) {
        self.shared.nudge();
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
    pub fn history(&self) -> Vec<Attempt> {
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
pub fn watch(probing: Probing, sink: Sink) -> ProbeHandle {
    let began = Instant::now();
    let shared = Arc::new(Shared::default());
    let notified = Arc::new(AtomicBool::new(false));
    let mut tasks = Vec::new();
    let commands = probing.commands.map(Arc::new);
    let voice = |alive| Voice {
        id: probing.id.clone(),
        generation: probing.generation,
        sink: sink.clone(),
        alive,
        last: None,
        said: began,
    };
    let context = |spec: &ReadySpec| Context {
        gate: Gate::new(probing.leader.filter(|_| spec.owner), probing.run.clone()),
        commands: commands.clone(),
        began,
        timeout: spec.timeout,
    };
    let (passed, has_passed) = latest::channel(probing.ready.is_none());
    let looping = |spec: ReadySpec, alive: bool| {
        let checks = Checks::new(&spec, &notified);
        shared.logs.lock().unwrap_or_else(PoisonError::into_inner).extend(checks.logs());
        Loop {
            checks,
            context: context(&spec),
            spec,
            voice: voice(alive),
            shared: Arc::clone(&shared),
            bell: probing.bell.clone(),
        }
    };
    let alive = probing.alive.map(|spec| looping(spec, true));
    let ready = probing.ready.map(|spec| looping(spec, false));
    let opened = ready.as_ref().map(|task| task.context.gate.opened());
    match probing.notify {
        Some(Ok(socket)) => {
            let shared = Arc::clone(&shared);
            let ready = move || {
                notified.store(true, Ordering::Release);
                shared.nudge();
            };
            let mut voice = voice(false);
            tasks.push(
                tokio::spawn(async move {
                    if let Err(error) = socket.listen(ready).await {
                        voice.failed(&Miss::new(format!("the notify socket broke: {error}")), false);
                    }
                })
                .abort_handle(),
            );
        }
        Some(Err(failure)) => voice(false).failed(&Miss::fatal(failure), false),
        None => {}
    }
    tasks.extend(ready.map(|task| tokio::spawn(task.readiness(passed)).abort_handle()));
    tasks.extend(alive.map(|task| tokio::spawn(task.liveness(has_passed)).abort_handle()));
    ProbeHandle { shared, tasks, began, opened }
}

struct Loop {
    spec: ReadySpec,
    checks: Checks,
    context: Context,
    voice: Voice,
    shared: Arc<Shared>,
    bell: Bell,
}

impl Loop {
    async fn readiness(mut self, passed: latest::Sender<bool>) {
        self.start().await;
        // Liveness may have been given up already, or there is none.
        let _ = passed.send(true);
        if !self.checks.settled(&self.context) {
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
        if verdict.is_ok() && self.checks.settled(&self.context) {
            return;
        }
        self.steady().await;
    }

    /// Quick attempts until the first pass.
    async fn start(&mut self) {
        let mut sleeper = Sleeper::default();
        // What was spawned a moment ago listens nowhere yet.
        let doors = self.checks.doors();
        if self.context.gate.leader().is_some() && !doors.is_empty() && self.bell.rings() {
            let most = clock::unseen(Duration::ZERO, self.spec.start_interval);
            tokio::select! {
                () = self.bell.listening(&doors, self.context.began) => {}
                () = sleeper.sleep(most) => {}
            }
        }
        loop {
            let attempted = Instant::now();
            let verdict = self.attempt(true).await;
            match &verdict {
                Ok(hit) => {
                    self.voice.passed(hit.note.clone());
                    return;
                }
                Err(miss) => {
                    self.voice.failed(miss, false);
                    self.pause(miss, attempted.elapsed(), &mut sleeper).await;
                }
            }
        }
    }

    /// From one quick attempt to the next.
    async fn pause(&self, miss: &Miss, took: Duration, sleeper: &mut Sleeper) {
        let began = Instant::now();
        let step = clock::step(self.context.began.elapsed(), took, self.spec.start_interval);
        if !miss.closed.is_empty() && miss.again == Again::Step && self.bell.rings() {
            // What it prints meanwhile opens no port.
            return tokio::select! {
                () = self.bell.listening(&miss.closed, self.context.began) => {}
                () = sleeper.sleep(clock::unseen(step, self.spec.start_interval)) => {}
            };
        }
        let wait = match miss.again {
            // A refused login is not tried at a rate that locks somebody out.
            Again::Step if miss.fatal.is_some() => step.max(self.spec.start_interval.min(REPEAT)),
            Again::Step => step,
            Again::In(duration) => duration,
            // Nothing will come of it before it is told; still said anew each `interval`, so that it is counted.
            Again::Event => clock::shared(began, self.spec.interval).saturating_duration_since(began),
        };
        let nudged = tokio::select! {
            () = sleeper.sleep(wait) => false,
            () = self.shared.nudged.notified() => true,
        };
        // What was told ends a wait for it at once; for the rest a nudge only shortens the step.
        if nudged && miss.again == Again::Step {
            let least = clock::least_after_nudge(step).max(took).min(wait);
            if let Some(rest) = least.checked_sub(began.elapsed()) {
                sleeper.sleep(rest).await;
            }
        }
    }

    /// Attempts at the shared moments, for good.
    async fn steady(&mut self) {
        loop {
            let due = clock::shared(Instant::now(), self.spec.interval);
            tokio::time::sleep_until(due.into()).await;
            let verdict = self.attempt(false).await;
            self.say(&verdict);
        }
    }

    fn say(&mut self, verdict: &Verdict) {
        match verdict {
            Ok(hit) => self.voice.passed(hit.note.clone()),
            // It does not count yet, and liveness has no other use for it.
            Err(_) if self.voice.alive && self.context.began.elapsed() < self.spec.start_period => {}
            Err(miss) => self.voice.failed(miss, true),
        }
    }

    async fn attempt(&self, quick: bool) -> Verdict {
        let began = Instant::now();
        let verdict = self.checks.attempt(&self.context).await;
        let (passed, answer) = match &verdict {
            Ok(hit) => (true, &hit.answer),
            Err(miss) => (false, &miss.answer),
        };
        let answer = if self.voice.alive { format!("alive: {answer}") } else { answer.clone() };
        let attempt = Attempt { at: began.saturating_duration_since(self.context.began), took: began.elapsed(), passed, answer };
        // A panic elsewhere leaves the history as it is.
        self.shared.history.lock().unwrap_or_else(PoisonError::into_inner).add(attempt, quick);
        verdict
    }
}

/// Says what is news, and nothing twice.
struct Voice {
    id: ServiceId,
    generation: u64,
    sink: Sink,
    alive: bool,
    last: Option<Answer>,
    said: Instant,
}

impl Voice {
    fn passed(&mut self, note: Option<String>) {
        let answer = if self.alive { Answer::AlivePassed } else { Answer::Passed(note) };
        if self.last.as_ref() != Some(&answer) {
            self.send(answer);
        }
    }

    fn failed(&mut self, miss: &Miss, counts: bool) {
        let answer = if self.alive {
            Answer::AliveFailed(miss.answer.clone())
        } else {
            Answer::Failed(miss.answer.clone(), miss.fatal.clone())
        };
        if counts || self.last.as_ref() != Some(&answer) || self.said.elapsed() >= REPEAT {
            self.send(answer);
        }
    }

    fn send(&mut self, answer: Answer) {
        self.last = Some(answer.clone());
        self.said = Instant::now();
        // Whoever listened is gone, and so soon is this task.
        let _ = self.sink.send((self.id.clone(), self.generation, answer));
    }
}
