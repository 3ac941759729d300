//! What can be seen of the engine: the core's view with what only the engine knows added (addresses, binaries, stamps of the
//! wall clock). Reads everything, changes nothing.

use devrun_model::keeper::ExitStatus;
use devrun_model::mask::Masker;
use devrun_model::{Launch, Plan, PlannedChanges, RestartTargets, ServiceId, ServiceStatus, Snapshot};
use devrun_store::Located;

use super::engine_state::Engine;
use devrun_model::feed::Status;

impl Engine {
    pub(super) fn status(&self) -> Status {
        Status {
            snapshot: self.snapshot(),
            waiting: self
                .core
                .service_views()
                .into_iter()
                .filter(|view| !view.waiting_on.is_empty())
                .map(|view| (view.id, view.waiting_on.into_iter().map(|missing| missing.on).collect()))
                .collect(),
            settled: self.settled.clone(),
            stopping: self.core.is_stopping(),
            age_ms: u64::try_from(self.clock.now().0.as_millis()).unwrap_or(u64::MAX),
        }
    }

    pub(super) fn snapshot(&self) -> Snapshot {
        let now = self.clock.now();
        let mut services: Vec<ServiceStatus> = self
            .core
            .service_views()
            .into_iter()
            .filter_map(|view| {
                let instance = self.instances.get(&view.id);
                let spec = instance.and_then(|instance| instance.spec.as_ref()).or_else(|| self.plan.services.get(&view.id))?;
                let (exit_code, signal) = match view.exit {
                    Some(ExitStatus::Code(code)) => (Some(code), None),
                    Some(ExitStatus::Signal(signal)) => (None, Some(signal.to_string())),
                    Some(ExitStatus::Unknown) | None => (None, None),
                };
                let ms = |duration: std::time::Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
                let alive = view.state.is_live();
                Some(ServiceStatus {
                    name: view.id.to_string(),
                    service: spec.service.to_string(),
                    replica: spec.replica,
                    kind: spec.kind,
                    tier: spec.shown_tier(),
                    state: view.state,
                    health: view.health,
                    pid: view.pid,
                    exit_code,
                    signal,
                    restarts: view.restarts,
                    started_at: view.started_at.map(|tick| self.clock.stamp(tick)),
                    ready_at: view.ready_at.map(|tick| self.clock.stamp(tick)),
                    uptime_ms: view.started_at.filter(|_| alive).map(|tick| ms(now.since(tick))),
                    ready_ms: view.started_at.zip(view.ready_at).map(|(start, ready)| ms(ready.since(start))),
                    ports: spec.ports.clone(),
                    url: spec
                        .attributes
                        .get("url")
                        .filter(|_| !spec.ports.is_empty())
                        .map(|url| self.masker.text(&public_url(spec, url))),
                    binary: instance
                        .and_then(|instance| {
                            instance.program.clone().or_else(|| instance.located.as_ref().and_then(|found| server(spec, found)))
                        })
                        .map(|path| path.display().to_string()),
                    version: instance.and_then(|instance| instance.located.as_ref().map(|located| located.version.clone())),
                    reason: self.shown_reason(&view.id, view.state, view.reason).map(|reason| self.masker.text(&reason)),
                })
            })
            .collect();
        services.sort_by(|a, b| (a.tier, &a.service, a.replica).cmp(&(b.tier, &b.service, b.replica)));
        Snapshot {
            project: self.plan.project.to_string(),
            instance: self.plan.instance.clone(),
            mode: self.plan.mode.clone(),
            supervisor_pid: Some(std::process::id().cast_signed()),
            supervisor_version: Some(env!("CARGO_PKG_VERSION").to_owned()),
            services,
        }
    }

    /// What `up` with a plan would do, or `restart` where that is meant.
    pub(super) fn changes(&self, plan: &Plan, restart: Option<&RestartTargets>) -> PlannedChanges {
        use devrun_core::PlanChange;
        let words = |change| match change {
            PlanChange::Start => ("start", String::new()),
            PlanChange::Restart(why) => ("restart", why),
            PlanChange::Stop(why) => ("stop", why.to_string()),
            PlanChange::Keep => ("keep", String::new()),
        };
        let changes = match restart {
            None => self.core.changes(plan),
            Some(restart) => self.core.restart_changes(plan, &restart.targets, restart.with_dependents),
        };
        let changes = changes.into_iter().map(|(id, change)| (id, words(change)));
        changes.map(|(id, (word, why))| (id, (word.to_owned(), why))).collect()
    }

    pub(super) fn inspect(&self, id: &ServiceId) -> Option<serde_json::Value> {
        let instance = self.instances.get(id)?;
        let history: Vec<_> =
            instance.probe.lock().ok().and_then(|slot| slot.as_ref().map(|probe| probe.history())).unwrap_or_default();
        Some(serde_json::json!({
            "generation": instance.generation,
            "last_answer": instance.failed_answer(),
            "probes": history.iter().map(|attempt| serde_json::json!({
                "at_ms": u64::try_from(attempt.at.as_millis()).unwrap_or(u64::MAX),
                "took_ms": attempt.took.as_secs_f64() * 1000.0,
                "passed": attempt.passed,
                "answer": attempt.answer,
            })).collect::<Vec<_>>(),
            "located": instance.located.as_ref().map(|located| serde_json::json!({
                "version": located.version, "origin": located.origin, "why": located.why,
            })),
        }))
    }
}

/// The binary of a recipe's server.
pub(super) fn server(spec: &devrun_model::ServiceSpec, located: &Located) -> Option<std::path::PathBuf> {
    match &spec.launch {
        Launch::Recipe(recipe) => recipe.recipe.bin.first().and_then(|name| located.tools.get(name)).cloned(),
        _ => None,
    }
}

/// The address without the password: `ps` is no place for it.
#[must_use]
pub fn public_url(spec: &devrun_model::ServiceSpec, url: &str) -> String {
    let url = match spec.attributes.get("password").filter(|password| !password.is_empty()) {
        None => url.to_owned(),
        Some(_) => match (url.find("://"), url.rfind('@')) {
            (Some(scheme), Some(at)) if scheme + 3 <= at => {
                let user = url[scheme + 3..at].split(':').next().unwrap_or("");
                let separator = if user.is_empty() { "" } else { "@" };
                format!("{}{user}{separator}{}", &url[..scheme + 3], &url[at + 1..])
            }
            _ => url.to_owned(),
        },
    };
    // A token may stand in the user's place.
    Masker::default().text(&url)
}
