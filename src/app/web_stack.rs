//! What the browser dashboard and its metrics show of the stack.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use serde_json::{Value, json};
use tokio::sync::watch;

use devrun_logs::rotating_log_file::generations;
use devrun_model::mask::Masker;
use devrun_model::{Failure, FailureKind, ServiceId, Snapshot};
use devrun_runtime::engine::state_files::{PortOpened, starts_path};
use devrun_runtime::stats::{self, UsageSample};
use devrun_runtime::trace_masks;
use devrun_web::{
    ActRequest, ApiError, ApiReply, ApiRequest, LogsQuery, ServiceMetrics, StackAction, StackApi, StackChanges, TerminalEnds,
};

use crate::app::drain_socket;
use crate::app::growing_file::GrowingFile;
use crate::app::log_pages::{self, PageRequest};
use crate::app::observer::Observer;
use crate::app::{service_details, telemetry, viewer_command, web_terminal};

/// State changes that the page gets at most.
const EVENTS: usize = 5000;

/// The stack of one project, for the page.
pub struct WebStack {
    shared: Arc<Shared>,
    changes: watch::Receiver<StackChanges>,
}

struct Shared {
    observer: Observer,
    /// Secrets of the procfile at the beginning.
    masker: Masker,
    /// The last look at CPU and memory.
    samples: Mutex<Option<(Instant, BTreeMap<String, UsageSample>)>>,
}

impl WebStack {
    /// For this project. `changes` counts up when something has changed.
    #[must_use]
    pub fn new(observer: Observer, changes: watch::Receiver<StackChanges>) -> Self {
        let masker = observer.plan().map_or_else(Masker::default, |plan| Masker::new(&plan, false));
        Self { shared: Arc::new(Shared { observer, masker, samples: Mutex::new(None) }), changes }
    }
}

fn refused(failure: &Failure) -> ApiError {
    let masked = trace_masks::masked(&failure.reason);
    ApiError { is_usage: failure.kind == FailureKind::Config, reason: masked }
}

impl StackApi for WebStack {
    fn ask(&self, request: ApiRequest) -> ApiReply<String> {
        let shared = Arc::clone(&self.shared);
        Box::pin(async move {
            let answer = match request {
                ApiRequest::Status => shared.status().await.map(|value| value.to_string()),
                ApiRequest::Graph => shared.graph().await.map(|value| value.to_string()),
                ApiRequest::Events => Ok(shared.events().to_string()),
                ApiRequest::Service(name) => {
                    service_details::details(&shared.observer, &name).await.map(|found| json!(found).to_string())
                }
                ApiRequest::Logs(query) => shared.logs(query).await,
                ApiRequest::Telemetry => shared.telemetry().await.map(|value| value.to_string()),
                ApiRequest::Act(request) => shared.act(request).await.map(|value| value.to_string()),
            };
            answer.map_err(|failure| refused(&failure))
        })
    }

    fn metrics(&self) -> ApiReply<(bool, Vec<ServiceMetrics>)> {
        let shared = Arc::clone(&self.shared);
        Box::pin(async move { shared.metrics().await.map_err(|failure| refused(&failure)) })
    }

    fn attach(&self, service: String, (columns, rows): (u16, u16)) -> ApiReply<TerminalEnds> {
        let places = self.shared.observer.project().places.clone();
        Box::pin(async move { web_terminal::attach(&places, &service, columns, rows).await.map_err(|failure| refused(&failure)) })
    }

    fn changes(&self) -> watch::Receiver<StackChanges> {
        self.changes.clone()
    }
}

impl Shared {
    async fn status(&self) -> Result<Value, Failure> {
        let status = self.observer.status().await?;
        let usage = self.usage(&status.snapshot);
        let services: Vec<Value> = status
            .snapshot
            .services
            .iter()
            .map(|service| {
                let waiting =
                    ServiceId::parse(&service.name).ok().and_then(|id| status.waiting.get(&id)).cloned().unwrap_or_default();
                let (cpu, memory) = usage.get(&service.name).copied().unwrap_or_default();
                let mut value = json!(service);
                // It would make each answer another one, and the page does not show it.
                value["uptime_ms"] = Value::Null;
                value["waiting"] = json!(waiting);
                value["cpu_percent"] = json!(cpu);
                value["memory_bytes"] = json!(memory);
                value
            })
            .collect();
        Ok(json!({
            "project": status.snapshot.project,
            "instance": status.snapshot.instance,
            "mode": status.snapshot.mode,
            "up": status.snapshot.supervisor_pid.is_some(),
            "stopping": status.stopping,
            "services": services,
        }))
    }

    /// CPU since the last look, and memory, by service.
    fn usage(&self, snapshot: &Snapshot) -> BTreeMap<String, (Option<f64>, Option<u64>)> {
        let now: BTreeMap<String, UsageSample> =
            snapshot.services.iter().filter_map(|one| Some((one.name.clone(), stats::tree(one.pid?)))).collect();
        let at = Instant::now();
        let mut kept = self.samples.lock().unwrap_or_else(PoisonError::into_inner);
        let found = now
            .iter()
            .map(|(name, sample)| {
                let before = kept.as_ref().and_then(|(at, all)| Some((*at, all.get(name)?)));
                let (sum, spent) = stats::total(before.map_or(&UsageSample::new(), |(_, sample)| sample), sample);
                let cpu = before.map(|(then, _)| {
                    let percent = spent as f64 / 10.0 / (at - then).as_secs_f64().max(0.001);
                    (percent * 10.0).round() / 10.0
                });
                (name.clone(), (cpu, Some(sum.memory)))
            })
            .collect();
        *kept = Some((at, now));
        found
    }

    async fn graph(&self) -> Result<Value, Failure> {
        let output =
            viewer_command::run_aside(self.observer.globals(), ["graph", "--format", "json"].map(str::to_owned).to_vec()).await?;
        serde_json::from_str(&output.stdout)
            .map_err(|_| Failure::new(FailureKind::Config, format!("cannot draw the graph: {}", output.last_line())))
    }

    fn events(&self) -> Value {
        let events = self.observer.events();
        let last = events.get(events.len().saturating_sub(EVENTS)..).unwrap_or_default();
        let lines = GrowingFile::new(&starts_path(&self.observer.project().places)).lines();
        let opened: Vec<PortOpened> = lines.iter().filter_map(|line| serde_json::from_str(line).ok()).collect();
        json!({ "events": last, "opened": opened })
    }

    async fn logs(&self, query: LogsQuery) -> Result<String, Failure> {
        let LogsQuery { service, at, time, older, newer, filter, search, forward } = query;
        let request = PageRequest { service, at, time, older, newer, filter, search, forward };
        let project = self.observer.project().clone();
        let masker = self.masker.clone();
        let failed = |error: String| Failure::new(FailureKind::Internal, format!("cannot read logs: {error}"));
        let read = move || {
            let page = log_pages::page(&project, &masker, &request)?;
            serde_json::to_string(&page).map_err(|error| failed(error.to_string()))
        };
        tokio::task::spawn_blocking(read).await.map_err(|error| failed(error.to_string()))?
    }

    async fn telemetry(&self) -> Result<Value, Failure> {
        let (places, masker) = (self.observer.project().places.clone(), self.masker.clone());
        let read = move || telemetry::recent(&places, &masker);
        let records = tokio::task::spawn_blocking(read)
            .await
            .map_err(|error| Failure::new(FailureKind::Internal, format!("cannot read telemetry: {error}")))?;
        Ok(json!({ "records": records }))
    }

    async fn act(&self, request: ActRequest) -> Result<Value, Failure> {
        let ActRequest { action, service, replicas } = request;
        let status = self.observer.status().await?;
        // Only names that there are: nothing of the page becomes an option.
        if !service.is_empty() && !status.snapshot.services.iter().any(|one| one.name == service || one.service == service) {
            return Err(Failure::new(FailureKind::Config, format!("unknown service or task `{service}`")));
        }
        let is_down = status.snapshot.supervisor_pid.is_none();
        let words: Vec<String> = match (action, replicas) {
            (StackAction::Scale, copies) => vec!["scale".to_owned(), format!("{service}={}", copies.unwrap_or_default())],
            (action, _) => {
                let mut words: Vec<String> = match action {
                    StackAction::Start | StackAction::Restart if is_down => {
                        vec!["up".to_owned(), "-d".to_owned(), "--no-wait".to_owned()]
                    }
                    action => vec![action.as_str().to_owned()],
                };
                words.extend(Some(service).filter(|service| !service.is_empty()));
                words
            }
        };
        let output = viewer_command::run_aside(self.observer.globals(), words).await?;
        let text = self.masker.text(output.stderr.trim());
        Ok(json!({ "code": output.code, "text": text }))
    }

    async fn metrics(&self) -> Result<(bool, Vec<ServiceMetrics>), Failure> {
        let status = self.observer.status().await?;
        let is_up = status.snapshot.supervisor_pid.is_some();
        let folder = self.observer.project().places.logs();
        let mut found = Vec::new();
        for service in status.snapshot.services {
            let id = ServiceId::parse(&service.name).ok();
            let probe = match &id {
                Some(id) if is_up => self.observer.inspect(id).await?,
                _ => None,
            };
            let took = probe.and_then(|value| value.get("probes")?.as_array()?.last()?.get("took_ms")?.as_f64());
            let files = id.map(|id| generations(&folder, &id)).unwrap_or_default();
            let log_bytes = files.iter().filter_map(|(log, _)| std::fs::metadata(log).ok()).map(|meta| meta.len()).sum();
            let routes = drain_socket::route_usage(&self.observer.project().places, &service).await.unwrap_or_default();
            let sum = service.pid.map(|pid| stats::total(&UsageSample::new(), &stats::tree(pid)).0);
            found.push(ServiceMetrics {
                status: service,
                probe_seconds: took.map(|ms| ms / 1000.0),
                log_bytes,
                cpu_seconds: sum.map(|sum| sum.cpu_ms as f64 / 1000.0),
                memory_bytes: sum.map(|sum| sum.memory),
                routes,
            });
        }
        Ok((is_up, found))
    }
}
