//! Services that behave as a test says: a keeper, probes and ports without a process or a socket, and a record of what the
//! engine asked for.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::fake_time::FakeTime;
use crate::engine::{Drivers, Engine, EngineExit, EngineHandle, EngineOptions, PortTable, ProbeRunner, RunningProbe, TimeSource};
use crate::ports::PortConflict;
use crate::probe::{NotifySocket, ProbeAttempt, ProbeReport, ProbeSubject, ReportSink};
use devrun_keeper::{HandleRequest, KeeperHandle, ProcessEvent};
use devrun_logs::LogPump;
use devrun_model::feed::{FeedItem, Outcome};
use devrun_model::keeper::{ExitStatus, Identity, ProcessId};
use devrun_model::{
    Check, Command, Condition, Dependency, Paths, Plan, ProjectName, ReadySpec, ServiceId, ServiceName, ServiceSpec, Signal,
    UpOptions,
};
use devrun_store::{FetchOptions, NoDownloadProgress};

/// Virtual hours after which a test that is still running has failed.
const LIMIT: Duration = Duration::from_secs(24 * 3600);

/// How a service behaves.
#[derive(Clone, Default)]
pub(crate) struct Behaviour {
    /// From the spawn to the first pass of its probe; never without it.
    pub ready_after: Option<Duration>,
    /// It exits by itself: when, and with which code.
    pub exits: Option<(Duration, i32)>,
    /// Nothing ends it, SIGKILL included.
    pub unstoppable: bool,
}

pub(crate) struct FakeWorld {
    pub engine: EngineHandle,
    pub time: FakeTime,
    ended: JoinHandle<EngineExit>,
    requests: Arc<Mutex<Vec<(Duration, String)>>>,
    _folder: tempfile::TempDir,
}

/// A service that depends on others.
pub(crate) fn service(name: &str, needs: &[&str]) -> ServiceSpec {
    let argv = vec!["/bin/sh".to_owned(), name.to_owned()];
    let mut spec = ServiceSpec::bare(ServiceName::new(name).unwrap(), "/".into(), argv);
    let edge = |on: &&str| Dependency {
        on: ServiceId::parse(on).unwrap(),
        condition: Condition::Healthy,
        required: true,
        restart: false,
    };
    spec.depends_on = needs.iter().map(edge).collect();
    spec
}

/// The same with a probe.
pub(crate) fn probed(name: &str, needs: &[&str]) -> ServiceSpec {
    ServiceSpec { ready: Some(ReadySpec::new(vec![Check::Uptime { least: Duration::ZERO }])), ..service(name, needs) }
}

/// Runs `test` in a world with these services.
pub(crate) fn in_fake_world(services: Vec<(ServiceSpec, Behaviour)>, test: impl AsyncFnOnce(FakeWorld)) {
    let time = FakeTime::new();
    time.runtime().block_on(async {
        let limit = time.sleep(LIMIT);
        let world = FakeWorld::new(services, time.clone());
        tokio::select! {
            () = test(world) => {}
            () = limit => panic!("still running after {LIMIT:?} of virtual time"),
        }
    });
}

impl FakeWorld {
    fn new(services: Vec<(ServiceSpec, Behaviour)>, time: FakeTime) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let places = Paths { root: folder.path().to_owned(), state: folder.path().join("state"), run: folder.path().join("run") };
        std::fs::create_dir_all(places.logs()).unwrap();
        let behaviours: BTreeMap<ServiceId, Behaviour> =
            services.iter().map(|(spec, behaviour)| (spec.id.clone(), behaviour.clone())).collect();
        let (keeper, asked) = KeeperHandle::channel();
        let requests = Arc::new(Mutex::new(Vec::new()));
        let fake = FakeKeeper {
            time: time.clone(),
            behaviours: behaviours.clone(),
            requests: Arc::clone(&requests),
            running: BTreeMap::new(),
            survivors: BTreeSet::new(),
        };
        tokio::spawn(fake.run(asked));
        // Its own news: there is none.
        let (_, link) = mpsc::unbounded_channel();
        let options = EngineOptions {
            plan: Arc::new(plan(services.into_iter().map(|(spec, _)| spec).collect())),
            fetch: FetchOptions {
                store: places.state.join("store"),
                lock_file: places.root.join("devrun.lock"),
                offline: true,
                mirror: None,
                env: BTreeMap::new(),
                progress: Arc::new(NoDownloadProgress),
            },
            places,
            keeper,
            link,
            pump: LogPump::discarding(),
            run: "fake".to_owned(),
            drivers: Drivers {
                probes: Arc::new(FakeProbes { time: time.clone(), behaviours }),
                ports: Arc::new(FreePorts),
                time: Arc::new(time.clone()),
            },
        };
        let (engine, handle) = Engine::new(options);
        Self { engine: handle, time, ended: tokio::spawn(engine.run()), requests, _folder: folder }
    }

    /// `up`; returns how the start ended.
    pub(crate) async fn up(&self) -> Outcome {
        let (_, mut feed) = self.engine.subscribe().await.unwrap();
        self.engine.command(1, Command::Up { plan: None, targets: Vec::new(), options: UpOptions::default() });
        loop {
            if let FeedItem::Settled { token: 1, outcome } = &*feed.recv().await.unwrap() {
                return outcome.clone();
            }
        }
    }
    /// `down`; returns how the run ended.
    pub(crate) async fn down(self) -> EngineExit {
        self.engine.command(2, Command::Down { grace_ms: None });
        self.ended.await.unwrap()
    }
    /// When the engine asked for this, in order.
    pub(crate) fn times_of(&self, request: &str) -> Vec<Duration> {
        times_of(&self.requests, request)
    }
    /// The record, for after the end.
    pub(crate) fn record(&self) -> Arc<Mutex<Vec<(Duration, String)>>> {
        Arc::clone(&self.requests)
    }
}

pub(crate) fn times_of(record: &Mutex<Vec<(Duration, String)>>, request: &str) -> Vec<Duration> {
    record.lock().unwrap().iter().filter(|(_, asked)| asked == request).map(|(at, _)| *at).collect()
}

fn plan(services: Vec<ServiceSpec>) -> Plan {
    Plan {
        project: ProjectName::new("shop").unwrap(),
        root: "/".into(),
        instance: String::new(),
        mode: None,
        timeout: Duration::from_secs(600),
        tier_pause: Duration::ZERO,
        tiers: BTreeMap::new(),
        services: services.into_iter().map(|spec| (spec.id.clone(), Arc::new(spec))).collect(),
        inactive: BTreeMap::new(),
        volumes: BTreeMap::new(),
        queries: BTreeMap::new(),
        masks: BTreeSet::new(),
        derived: BTreeSet::new(),
        seed: 1,
    }
}

struct FakeProcess {
    service: ServiceId,
    events: mpsc::UnboundedSender<ProcessEvent>,
}

struct FakeKeeper {
    time: FakeTime,
    behaviours: BTreeMap<ServiceId, Behaviour>,
    requests: Arc<Mutex<Vec<(Duration, String)>>>,
    running: BTreeMap<ProcessId, FakeProcess>,
    survivors: BTreeSet<ProcessId>,
}

impl FakeKeeper {
    async fn run(mut self, mut asked: mpsc::UnboundedReceiver<HandleRequest>) {
        let (exits, mut exited) = mpsc::unbounded_channel::<(ProcessId, ExitStatus)>();
        loop {
            tokio::select! {
                Some((process, status)) = exited.recv() => self.end(process, status),
                request = asked.recv() => match request {
                    Some(request) => self.answer(request, &exits),
                    None => return,
                },
            }
        }
    }

    fn answer(&mut self, request: HandleRequest, exits: &mpsc::UnboundedSender<(ProcessId, ExitStatus)>) {
        let later = |after: Duration, process: ProcessId, status: ExitStatus| {
            let (sleep, exits) = (TimeSource::sleep(&self.time, after), exits.clone());
            tokio::spawn(async move {
                sleep.await;
                let _over = exits.send((process, status));
            });
        };
        let soon = Duration::from_millis(10);
        match request {
            HandleRequest::Spawn(spec, _, events) => {
                self.record(format!("spawn {}", spec.service));
                let output = std::fs::File::open("/dev/null").unwrap();
                let identity = Identity { pid: pid(spec.process), start: 1, boot: "fake".to_owned() };
                let spawned = ProcessEvent::Spawned { process: spec.process, identity, stdout: output.into(), stderr: None };
                events.send(spawned).unwrap();
                if let Some((after, code)) = self.behaviours[&spec.service].exits {
                    later(after, spec.process, ExitStatus::Code(code));
                }
                self.running.insert(spec.process, FakeProcess { service: spec.service.clone(), events });
            }
            HandleRequest::Stop(process, _) => {
                if self.asked(process, "stop") {
                    later(soon, process, ExitStatus::Signal(Signal::TERM));
                }
            }
            HandleRequest::Signal(process, signal) => {
                self.asked(process, &format!("signal {signal}"));
            }
            HandleRequest::SignalTree(process, signal) => {
                self.asked(process, &format!("signal-tree {signal}"));
            }
            HandleRequest::Kill(process) => {
                if self.asked(process, "kill") {
                    later(soon, process, ExitStatus::Signal(Signal::KILL));
                } else if let Some(running) = self.running.get(&process) {
                    self.survivors.insert(process);
                    let pids = vec![(pid(process), running.service.to_string())];
                    running.events.send(ProcessEvent::Survivors { process, pids }).unwrap();
                }
            }
            HandleRequest::Flush(answer) => answer.send(()).unwrap(),
            HandleRequest::Finish(answer) => {
                let left = self.survivors.iter().map(|process| (pid(*process), self.running[process].service.to_string()));
                answer.send(left.collect()).unwrap();
            }
        }
    }

    /// Records a request; true where the process ends by it.
    fn asked(&self, process: ProcessId, what: &str) -> bool {
        let Some(running) = self.running.get(&process) else { return false };
        self.record(format!("{what} {}", running.service));
        !self.behaviours[&running.service].unstoppable
    }

    fn record(&self, what: String) {
        self.requests.lock().unwrap().push((self.time.elapsed(), what));
    }

    fn end(&mut self, process: ProcessId, status: ExitStatus) {
        let Some(running) = self.running.remove(&process) else { return };
        let exited = ProcessEvent::Exited { process, status, left: Vec::new() };
        // The engine may have ended.
        let _over = running.events.send(exited).and_then(|()| running.events.send(ProcessEvent::TreeEmpty { process }));
    }
}

fn pid(process: ProcessId) -> i32 {
    // No process has it: the kernel's limit is 2^22 (proc(5), pid_max).
    i32::try_from(process).unwrap() + 5_000_000
}

struct FakeProbes {
    time: FakeTime,
    behaviours: BTreeMap<ServiceId, Behaviour>,
}

impl ProbeRunner for FakeProbes {
    fn start(&self, subject: ProbeSubject, _: Option<NotifySocket>, reports: ReportSink) -> Box<dyn RunningProbe> {
        let (time, ready_after) = (self.time.clone(), self.behaviours[&subject.id].ready_after);
        let task = tokio::spawn(async move {
            let report = |report| reports.send((subject.id.clone(), subject.generation, report));
            let _over = report(ProbeReport::Failed("connection refused".to_owned(), None));
            match ready_after {
                Some(after) => TimeSource::sleep(&time, after).await,
                None => std::future::pending().await,
            }
            let _over = report(ProbeReport::Passed(None));
        });
        Box::new(FakeProbe(task))
    }
    fn has_ended(&self, _: i32) -> bool {
        false
    }
}

struct FakeProbe(JoinHandle<()>);

impl RunningProbe for FakeProbe {
    fn line(&self, _: &[u8]) {}
    fn wants_lines(&self) -> bool {
        false
    }
    fn listening(&self) -> Option<Duration> {
        None
    }
    fn history(&self) -> Vec<ProbeAttempt> {
        Vec::new()
    }
    fn set_often(&self, _: bool) {}
}

impl Drop for FakeProbe {
    fn drop(&mut self) {
        self.0.abort();
    }
}

struct FreePorts;

impl PortTable for FreePorts {
    fn check(&self, _: &str, _: u16) -> Result<(), PortConflict> {
        Ok(())
    }
    fn last_use(&self, _: u16) -> std::io::Result<Option<Duration>> {
        Ok(None)
    }
}
