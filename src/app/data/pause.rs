//! Holds the services of some volumes still inside a running stack: whoever depends on them is stopped first, then they, and
//! afterwards exactly those are started again.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use devrun_data::{CopyCancel, sync_file_system};
use devrun_model::feed::Status;
use devrun_model::service::Server;
use devrun_model::{
    Command, Failure, FailureKind, Health, Kind, Launch, Plan, ServiceId, ServiceSpec, ServiceStatus, State, StopPurpose,
    UpOptions, VolumeName,
};
use devrun_runtime::recipes;

use crate::app::data::fork::redis;
use crate::app::load::Project;
use crate::app::request;
use crate::app::session::{Session, token};
use crate::app::stop_wait;
use crate::ui::term::{Progress, Term, say};

/// For a server that writes out what it holds.
const PREPARE_LIMIT: Duration = Duration::from_secs(10);
/// After that a Redis has seen its new rate: it looks ten times a second unless it is set otherwise.
const REDIS_ROUND: Duration = Duration::from_millis(110);

/// Services that are stopped for a copy.
pub struct Pause {
    session: Session,
    stopped: Vec<ServiceId>,
    begun: Instant,
}

/// Those that use one of the volumes, and all that depend on them.
fn affected(plan: &Plan, volumes: &BTreeSet<VolumeName>) -> BTreeSet<ServiceId> {
    let uses = |spec: &&std::sync::Arc<devrun_model::ServiceSpec>| {
        spec.data.iter().chain(&spec.volumes).any(|name| volumes.contains(name))
    };
    let mut found: BTreeSet<ServiceId> = plan.services.values().filter(uses).map(|spec| spec.id.clone()).collect();
    loop {
        let depends = |spec: &&std::sync::Arc<devrun_model::ServiceSpec>| {
            !found.contains(&spec.id) && spec.depends_on.iter().any(|edge| found.contains(&edge.on))
        };
        let more: Vec<ServiceId> = plan.services.values().filter(depends).map(|spec| spec.id.clone()).collect();
        if more.is_empty() {
            return found;
        }
        found.extend(more);
    }
}

fn is_up(status: &ServiceStatus) -> bool {
    status.state.is_live() || status.state == State::BackingOff
}

/// Whether the procfile itself says how often a Redis looks at signals.
fn sets_rate(spec: &ServiceSpec) -> bool {
    matches!(&spec.launch, Launch::Recipe(used) if used.settings.contains_key("hz"))
}

/// Prepares servers for a stop that takes little time: what they and the kernel hold in memory is written out before it. Who cannot
/// be asked, or takes too long, is stopped all the same.
async fn prepare_stop(plan: &Plan, volumes: &BTreeSet<VolumeName>, status: &Status) {
    let is_ready = |spec: &ServiceSpec| {
        let found = status.snapshot.services.iter().find(|service| service.name == spec.id.as_str());
        found.is_some_and(|service| service.state == State::Running && service.health != Health::Starting)
    };
    let uses = |spec: &ServiceSpec| spec.data.as_ref().is_some_and(|name| volumes.contains(name));
    let begun = Instant::now();
    let mut has_faster_redis = false;
    for spec in plan.services.values().filter(|spec| uses(spec) && is_ready(spec)) {
        let asked = async {
            match spec.stop_asks() {
                Some(Server::Postgres) => recipes::ask_sql(spec, "CHECKPOINT").await.is_ok(),
                // It looks at signals so often; the next start has its own setting again (docs/adr/0012-redis-hz.md).
                Some(Server::Redis) if !sets_rate(spec) => redis::set(spec, "hz", "100").await.is_ok(),
                Some(Server::Redis) | None => false,
            }
        };
        let answered = tokio::time::timeout(PREPARE_LIMIT, asked).await;
        has_faster_redis |= spec.stop_asks() == Some(Server::Redis) && answered == Ok(true);
    }
    for volume in plan.volumes.values().filter(|volume| volumes.contains(&volume.name)) {
        let _unsynced = sync_file_system(&volume.path);
    }
    if has_faster_redis {
        tokio::time::sleep(REDIS_ROUND.saturating_sub(begun.elapsed())).await;
    }
}

/// Stops what uses the volumes, and waits until it is stopped.
///
/// # Errors
/// `Elsewhere` when nothing runs or a task of it is in the middle of its work; `Cancelled`.
pub async fn pause(
    project: &Project,
    plan: &Plan,
    volumes: &BTreeSet<VolumeName>,
    purpose: StopPurpose,
    cancel: &CopyCancel,
) -> Result<Pause, Failure> {
    let (session, status) = request::session(project).await?;
    let wanted = affected(plan, volumes);
    let live = |status: &&ServiceStatus| is_up(status) && wanted.iter().any(|id| id.as_str() == status.name);
    let mut stopped = Vec::new();
    for service in status.snapshot.services.iter().filter(live) {
        if service.kind == Kind::Task {
            return Err(Failure::new(
                FailureKind::Elsewhere,
                format!("the task {} is running and works on the data", service.name),
            )
            .help(format!("devrun wait {}, then try again", service.name)));
        }
        stopped.extend(ServiceId::parse(&service.name));
    }
    let mut pause = Pause { session, stopped, begun: Instant::now() };
    if pause.stopped.is_empty() {
        return Ok(pause);
    }
    prepare_stop(plan, volumes, &status).await;
    pause.begun = Instant::now();
    pause.session.command(token(), Command::Stop { targets: pause.stopped.clone(), purpose }).await?;
    loop {
        let Some(status) = pause.status().await? else { return Err(ended()) };
        if !pause.any_live(&status) {
            return Ok(pause);
        }
        if cancel.is_cancelled() {
            return Err(pause.give_up(Failure::cancelled()).await);
        }
        tokio::select! {
            item = pause.session.next() => if item?.is_none() { return Err(ended()) },
            () = tokio::time::sleep(Duration::from_millis(100)) => {}
        }
    }
}

fn ended() -> Failure {
    Failure::new(FailureKind::Elsewhere, "the supervisor ended").help("devrun ps; devrun logs")
}

impl Pause {
    async fn status(&self) -> Result<Option<Status>, Failure> {
        self.session.status().await
    }

    fn any_live(&self, status: &Status) -> bool {
        status.snapshot.services.iter().any(|service| is_up(service) && self.stopped.iter().any(|id| id.as_str() == service.name))
    }

    /// Fails when somebody has started one of them meanwhile: what was copied is not of one moment then.
    ///
    /// # Errors
    /// `Elsewhere`.
    pub async fn check_undisturbed(&self) -> Result<(), Failure> {
        match self.status().await? {
            Some(status) if !self.any_live(&status) => Ok(()),
            Some(_) => Err(Failure::new(FailureKind::Elsewhere, "services were started while their data were copied")
                .help("try again when no other command is starting services")),
            None => Err(ended()),
        }
    }

    /// Starts what was stopped; the exit code of that start, and how long the services were not available.
    ///
    /// # Errors
    /// `Elsewhere` when the supervisor has ended.
    pub async fn resume(self, term: Term) -> Result<(i32, Duration), Failure> {
        if self.stopped.is_empty() {
            return Ok((devrun_model::exit::DONE, Duration::ZERO));
        }
        let status = self.status().await?.ok_or_else(ended)?;
        // The lines of a start are not what was asked for; failures are shown.
        let progress = if term.progress == Progress::Json { Progress::Json } else { Progress::Quiet };
        let command = Command::Up { plan: None, targets: self.stopped, options: UpOptions::default() };
        let code = match request::settle(self.session, &status, command, Term { progress, ..term }).await {
            // The copy is whole; what was stopped for it stays so.
            Err(failure) if failure == stop_wait::being_stopped() => {
                say(format!("{}: the services are not started again", failure.reason));
                devrun_model::exit::of(failure.kind)
            }
            settled => settled?,
        };
        Ok((code, self.begun.elapsed()))
    }

    /// After a failure: asks for the start and does not wait for it.
    pub async fn give_up(mut self, failure: Failure) -> Failure {
        if !self.stopped.is_empty() {
            let command = Command::Up { plan: None, targets: self.stopped, options: UpOptions::default() };
            let ours = token();
            // The first failure is the one to be told.
            if self.session.command(ours, command).await.is_ok() {
                let taken = async {
                    while let Ok(Some(item)) = self.session.next().await {
                        if matches!(item, devrun_model::feed::FeedItem::Accepted { token } if token == ours) {
                            break;
                        }
                    }
                };
                let _late = tokio::time::timeout(Duration::from_secs(5), taken).await;
            }
        }
        failure
    }
}

#[cfg(test)]
mod tests {
    use devrun_model::recipe::RecipeUse;
    use devrun_model::{RecipeBook as _, ServiceName};
    use devrun_runtime::recipes::RecipeRegistry;

    use super::*;

    #[test]
    fn a_rate_of_the_procfile_is_left_alone() {
        let recipe = RecipeRegistry::new().find("redis").cloned().unwrap();
        let with = |settings: &[(&str, &str)]| {
            let mut spec = ServiceSpec::bare(ServiceName::new("cache").unwrap(), "/".into(), vec!["x".to_owned()]);
            spec.launch = Launch::Recipe(Box::new(RecipeUse {
                recipe: recipe.clone(),
                version: None,
                settings: settings.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect(),
                init: Vec::new(),
                extensions: Vec::new(),
                locale: None,
                encoding: None,
                migrations: None,
                source: None,
                init_cache: false,
                gateway: None,
            }));
            spec
        };
        assert!(!sets_rate(&with(&[])) && !sets_rate(&with(&[("maxmemory", "1mb")])));
        assert!(sets_rate(&with(&[("hz", "10")])));
    }
}
