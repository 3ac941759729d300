//! How the processes behind shared addresses are started, restarted and stopped.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use devrun_keeper::ProcessEvent;
use devrun_model::keeper::{ProcessId, SpawnSpec, StopOrder};
use devrun_model::ready::Endpoint;
use devrun_model::service::LogSpec;
use devrun_model::{
    DrainRequest, Failure, FailureKind, GatewayConfig, GatewayKind, GatewaySpec, Route, RoutePattern, RouteTarget, ServiceId,
    ServiceName, ServiceSpec, SharedAddress, StateChange, UpstreamSpec,
};

use super::balancer_processes::Balancer;
use super::engine_state::Engine;
use super::task_result::TaskResult;
use crate::runtime_dir;
use devrun_logs::LogStream;

/// Between the end of one and the next; doubled up to the longest while they end at once.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(10);
/// One that ran for so long starts the pauses over.
const STEADY: Duration = Duration::from_secs(10);
/// Connections end with their copies, so little is left to wait for.
const GRACE_MS: u64 = 10_000;

impl Engine {
    /// Makes sure that the shared address of a copy is served.
    ///
    /// # Errors
    /// `PortTaken` when somebody else holds it.
    pub(super) fn ensure_balancer(&mut self, spec: &ServiceSpec) -> Result<(), Failure> {
        let Some(address) = spec.shared else { return Ok(()) };
        self.held_sockets.open_at(spec, address.port)?;
        let known = self.balancers.by_service.get_mut(&spec.service);
        if let Some(balancer) = known {
            let same = balancer.address == address && balancer.copy.bind == spec.bind;
            balancer.is_ending = false;
            if same {
                return Ok(());
            }
            (balancer.address, balancer.copy) = (address, spec.clone());
            // The next one serves the new address.
            if let Some(process) = balancer.process {
                self.keeper.stop(process, None);
            }
            return Ok(());
        }
        let balancer =
            Balancer { copy: spec.clone(), address, process: None, began: Instant::now(), pause: FIRST_PAUSE, is_ending: false };
        self.balancers.by_service.insert(spec.service.clone(), balancer);
        self.spawn_balancer(&spec.service)
    }

    fn spawn_balancer(&mut self, service: &ServiceName) -> Result<(), Failure> {
        let Some(balancer) = self.balancers.by_service.get(service) else { return Ok(()) };
        let (copy, address, id) = (balancer.copy.clone(), balancer.address, ServiceId::single(service));
        let Some(socket) = self.held_sockets.get(service.as_str()) else { return Ok(()) };
        let dir = self.places.service_run(&id);
        let file = dir.join("balancer.json");
        let config = balancer_config(&copy, address, &dir, &self.places)?;
        let config = serde_json::to_string_pretty(&config)
            .map_err(|error| Failure::new(FailureKind::Internal, format!("the shared address: {error}")))?;
        runtime_dir::ensure_run(&self.places)?;
        runtime_dir::empty(&dir)
            .and_then(|()| runtime_dir::write_private(&file, config.as_bytes()))
            .map_err(|error| Failure::new(FailureKind::Config, format!("cannot write {}: {error}", file.display())))?;
        let process = self.keeper.next_process();
        let text = |path: &std::path::Path| path.display().to_string();
        let copies = self.plan.ids_of(service).cloned().collect();
        let mark = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        let lock = self.places.alive_lock(&id);
        let stop = StopOrder { before: copies, ..StopOrder::plain(GRACE_MS) };
        let spec = SpawnSpec {
            argv: vec!["devrun".to_owned(), "__gateway".to_owned(), text(&file)],
            env: vec![mark("DEVRUN_RUN_ID", &self.run), mark("DEVRUN_SERVICE", service.as_str()), mark("DEVRUN_REPLICA", "0")],
            dir,
            sockets: vec!["main".to_owned()],
            log: Some(devrun_logs::rotating_log_file::path(&self.places.logs(), &id)),
            ..SpawnSpec::plain(process, id.clone(), 0, devrun_keeper::own_program::path(), lock, stop)
        };
        self.pump.begin(&id, &LogSpec::default());
        self.balancers.processes.insert(process, service.clone());
        if let Some(balancer) = self.balancers.by_service.get_mut(service) {
            (balancer.process, balancer.began) = (Some(process), Instant::now());
        }
        self.keeper.spawn_with_sockets(spec, vec![socket], self.process_events.clone());
        Ok(())
    }

    /// What became of one.
    pub(super) fn on_balancer(&mut self, service: &ServiceName, event: ProcessEvent) {
        let id = ServiceId::single(service);
        match event {
            ProcessEvent::Spawned { stdout, stderr, .. } => {
                self.pump.attach(&id, &LogSpec::default(), LogStream::Stdout, stdout, None);
                if let Some(stderr) = stderr {
                    self.pump.attach(&id, &LogSpec::default(), LogStream::Stderr, stderr, None);
                }
            }
            ProcessEvent::SpawnFailed { process, step, errno } => {
                let failure = self.spawn_failure(&id, &step, errno);
                self.say_of_balancer(service, &format!("its shared address is not served: {failure}"));
                self.balancer_ended(service, process);
            }
            ProcessEvent::TreeEmpty { process } => self.balancer_ended(service, process),
            ProcessEvent::Exited { .. } | ProcessEvent::Survivors { .. } => {}
        }
    }

    fn balancer_ended(&mut self, service: &ServiceName, process: ProcessId) {
        self.balancers.processes.remove(&process);
        let Some(balancer) = self.balancers.by_service.get_mut(service) else { return };
        if balancer.process != Some(process) {
            return;
        }
        balancer.process = None;
        if balancer.is_ending {
            self.balancers.by_service.remove(service);
            return;
        }
        if balancer.began.elapsed() >= STEADY {
            balancer.pause = FIRST_PAUSE;
        }
        let pause = balancer.pause;
        balancer.pause = (pause * 2).min(LONGEST_PAUSE);
        let (task_results, service) = (self.task_results.clone(), service.clone());
        tokio::spawn(async move {
            tokio::time::sleep(pause).await;
            let _ended = task_results.send(TaskResult::BalancerDue(service));
        });
    }

    /// Its pause is over.
    pub(super) fn restart_balancer(&mut self, service: &ServiceName) {
        let is_due = self.balancers.by_service.get(service).is_some_and(|one| one.process.is_none() && !one.is_ending);
        if is_due && let Err(failure) = self.spawn_balancer(service) {
            self.say_of_balancer(service, &format!("its shared address is not served: {failure}"));
        }
    }

    /// The last copy of a service may be gone, and its socket with it.
    pub(super) fn close_unused_socket(&mut self, change: &StateChange) {
        let core = &self.core;
        if self.held_sockets.observe(change, || core.comes_back(&change.service, change.replica))
            && let Ok(service) = ServiceName::new(change.service.clone())
        {
            self.stop_balancer(&service);
        }
    }

    fn stop_balancer(&mut self, service: &ServiceName) {
        let Some(balancer) = self.balancers.by_service.get_mut(service) else { return };
        balancer.is_ending = true;
        match balancer.process {
            Some(process) => self.keeper.stop(process, None),
            None => {
                self.balancers.by_service.remove(service);
            }
        }
    }

    fn say_of_balancer(&mut self, service: &ServiceName, text: &str) {
        let copy = self.plan.ids_of(service).next().cloned();
        if let Some(id) = copy {
            let _ended = self.task_results.send(TaskResult::Said(id, text.to_owned()));
        }
    }
}

/// What the process behind a shared address is given: everything leads to the one service. `dir` is its own directory.
///
/// # Errors
/// `Internal`.
pub fn balancer_config(
    copy: &ServiceSpec,
    address: SharedAddress,
    dir: &std::path::Path,
    places: &devrun_model::Paths,
) -> Result<GatewayConfig, Failure> {
    let internal = |error: String| Failure::new(FailureKind::Internal, format!("the shared address: {error}"));
    let host = match copy.bind.as_str() {
        "" | "*" | "0.0.0.0" | "::" | "[::]" | "localhost" => "127.0.0.1".to_owned(),
        bind => bind.to_owned(),
    };
    let everything = RoutePattern::parse("/").map_err(|(error, _)| internal(error))?;
    let target = RouteTarget::Service { service: copy.service.clone(), port: "main".to_owned(), strip: None };
    let spec = GatewaySpec {
        routes: vec![Route { path: everything, target, max_body: None }],
        upstreams: BTreeMap::from([(copy.service.clone(), UpstreamSpec { host, inactive: Vec::new() })]),
        ..GatewaySpec::default()
    };
    Ok(GatewayConfig {
        service: copy.service.to_string(),
        listen: Endpoint { host: copy.bind.clone(), port: address.port },
        spec,
        logs: None,
        places: places.clone(),
        kind: if address.is_http { GatewayKind::SharedHttp } else { GatewayKind::SharedStreams },
        drain: dir.join(DrainRequest::SOCKET),
    })
}
