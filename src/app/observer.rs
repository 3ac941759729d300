//! What every viewer of a stack asks for, whether a supervisor runs or not: state, definition, events, explanations.
//!
//! The dashboards, the page, the metrics and the agent's tools all look through this; none keeps state of its own. Where no
//! supervisor runs, the answers are how the last one left it.

use std::collections::BTreeMap;
use std::sync::Arc;

use devrun_logs::visible_text::shortened;
use devrun_logs::{LogQuery, last_texts};
use devrun_model::feed::Status;
use devrun_model::mask::Masker;
use devrun_model::why::{Explanation, WhyFacts, explain};
use devrun_model::{Failure, Health, Kind, Plan, ServiceId, ServiceStatus, State, StateChange};
use devrun_runtime::engine::state_files::events_path;

use crate::app::growing_file::GrowingFile;
use crate::app::load::{self, Project, Wanted};
use crate::app::unknown_service::unknown_or_inactive;
use crate::globals::Globals;

/// A stack as a viewer sees it.
#[derive(Debug, Clone)]
pub struct Observer {
    globals: Globals,
    project: Project,
}

impl Observer {
    /// For the project of this directory, also where only its state is left.
    ///
    /// # Errors
    /// `Config` when there is no project.
    pub fn new(globals: &Globals) -> Result<Self, Failure> {
        Ok(Self { globals: globals.clone(), project: load::project_by_state(globals)? })
    }

    /// Its project.
    #[must_use]
    pub fn project(&self) -> &Project {
        &self.project
    }

    /// The options that it was found with.
    #[must_use]
    pub fn globals(&self) -> &Globals {
        &self.globals
    }

    /// What runs; where nothing does, how it ended.
    ///
    /// # Errors
    /// `Elsewhere` when a supervisor does not answer, `Config` where nothing ever ran and the procfile has errors.
    pub async fn status(&self) -> Result<Status, Failure> {
        if let Some(mut client) = crate::app::connect::supervisor(&self.project.places).await?
            && let Some(status) = client.status().await?
        {
            return Ok(status);
        }
        let snapshot = crate::app::snapshot::snapshot(&self.globals, &self.project).await?;
        Ok(Status { snapshot, waiting: BTreeMap::new(), settled: None, stopping: false, age_ms: 0 })
    }

    /// The procfile as it is now. `None`: it has errors, which have been printed, or there is none.
    #[must_use]
    pub fn plan(&self) -> Option<Arc<Plan>> {
        if self.project.files.is_empty() {
            return None;
        }
        load::plan(&self.globals, &self.project, &Wanted::look()).ok()
    }

    /// Every state change that is kept, oldest first.
    #[must_use]
    pub fn events(&self) -> Vec<StateChange> {
        let lines = GrowingFile::new(&events_path(&self.project.places)).lines();
        lines.iter().filter_map(|line| serde_json::from_str(line).ok()).collect()
    }

    /// What only the supervisor knows of a service; secrets are not masked yet. `None`: none runs.
    ///
    /// # Errors
    /// `Elsewhere` when a supervisor does not answer.
    pub async fn inspect(&self, id: &ServiceId) -> Result<Option<serde_json::Value>, Failure> {
        match crate::app::connect::supervisor(&self.project.places).await? {
            Some(mut client) => client.inspect(id).await,
            None => Ok(None),
        }
    }

    /// Why a service is in its state.
    ///
    /// # Errors
    /// `Config` when there is none of that name.
    pub async fn explain(&self, name: &str) -> Result<Explanation, Failure> {
        Ok(self.explain_with_log(name, 0).await?.0)
    }

    /// Why a service is in its state, and the last lines of the log of the service that has failed: its own, or that of the root
    /// of what it waits for.
    ///
    /// # Errors
    /// As [`Observer::explain`].
    pub async fn explain_with_log(&self, name: &str, count: usize) -> Result<(Explanation, Vec<LastLines>), Failure> {
        let status = self.status().await?;
        let plan = self.plan();
        let masker = plan.as_ref().map_or_else(Masker::default, |plan| Masker::new(plan, false));
        let mut last_answers = BTreeMap::new();
        for copy in status.snapshot.services.iter().filter(|one| one.name == name || one.service == name) {
            let Ok(id) = ServiceId::parse(&copy.name) else { continue };
            let inspected = self.inspect(&id).await?;
            if let Some(answer) = inspected.as_ref().and_then(|value| value.get("last_answer")?.as_str()) {
                last_answers.insert(copy.name.clone(), masker.text(answer));
            }
        }
        let events = self.events();
        let facts = WhyFacts {
            snapshot: &status.snapshot,
            waiting: &status.waiting,
            plan: plan.as_deref(),
            events: &events,
            last_answers: &last_answers,
        };
        let known = status.snapshot.services.iter().map(|one| one.service.as_str());
        let found = explain(name, &facts).ok_or_else(|| unknown_or_inactive(plan.as_deref(), name, "there are", known))?;
        let root = found.causes.last().map_or(found.name.as_str(), |cause| cause.service.as_str());
        let failed = status.snapshot.services.iter().find(|one| one.name == root && has_failed(one));
        let lines = failed.and_then(|one| self.last_lines(&one.name, count, &masker)).into_iter().collect();
        Ok((found, lines))
    }

    /// None where the log cannot be read: it says so itself.
    fn last_lines(&self, name: &str, count: usize, masker: &Masker) -> Option<LastLines> {
        let id = ServiceId::parse(name).ok()?;
        let texts = last_texts(&self.project.places.logs(), &id, &LogQuery::default(), count).ok()?;
        let lines: Vec<String> = texts.iter().map(|text| shortened(&masker.text(text), LINE_LENGTH)).collect();
        (!lines.is_empty()).then(|| LastLines { service: name.to_owned(), lines })
    }
}

/// What a service wrote last.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LastLines {
    /// `api`, or `worker.2`.
    pub service: String,
    /// Secrets masked.
    pub lines: Vec<String>,
}

/// Characters of a line of a log that are shown.
const LINE_LENGTH: usize = 300;

/// Whether its log says why: a process of it has ended, or lives and is not well.
fn has_failed(status: &ServiceStatus) -> bool {
    let has_ended = status.exit_code.is_some() || status.signal.is_some();
    match status.state {
        State::Failed | State::BackingOff => has_ended,
        // A service that was to run, and has come to its end by itself.
        State::Completed => has_ended && status.kind == Kind::Service,
        State::Starting => status.kind == Kind::Service,
        State::Running => status.health == Health::Unhealthy,
        _ => false,
    }
}
