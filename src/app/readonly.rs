//! What the verbs share that only look: the procfile's plan, what runs of it, and how JSON is printed.

use std::collections::BTreeSet;
use std::sync::Arc;

use serde::Serialize;

use crate::ui::term::data;
use devrun_model::exit;
use devrun_model::{Failure, FailureKind, Plan, ServiceSpec, ServiceStatus, Snapshot};

use crate::app::load::{self, Project, Wanted};
use crate::app::running_mode;
use crate::globals::Globals;

/// The procfile, and what runs of it.
pub struct Seen {
    /// Where it is.
    pub project: Project,
    /// As the procfile says now.
    pub plan: Arc<Plan>,
    /// Ports that stand in no table: service and port name.
    private: BTreeSet<(String, String)>,
    /// As the supervisor says; where none runs, as its last word was.
    pub snapshot: Snapshot,
}

impl Seen {
    /// Looks.
    ///
    /// # Errors
    /// `Config` for a procfile with errors, `Elsewhere` when a supervisor does not answer.
    pub fn new(globals: &Globals, named: &[String]) -> Result<Self, Failure> {
        let project = load::project(globals)?;
        let snapshot = crate::app::runtime::waiting_runtime()?.block_on(crate::app::snapshot::snapshot(globals, &project))?;
        let read = |named: Vec<String>| load::read(globals, &project, &Wanted { named, ..Wanted::look() });
        let mut read_now = read(named.to_vec())?;
        // What runs is looked at whatever profiles this command was given; the one that started it may have had others.
        let merged = read_now.document.merged();
        let is_declared = |name: &str| merged.get("services").and_then(|services| services.get(name)).is_some();
        let is_planned = |name: &str| read_now.plan.services.values().any(|spec| spec.service.as_str() == name);
        let more: BTreeSet<String> = snapshot
            .services
            .iter()
            .filter(|status| snapshot.supervisor_pid.is_some() && is_declared(&status.service) && !is_planned(&status.service))
            .map(|status| status.service.to_string())
            .collect();
        if !more.is_empty() {
            read_now = read(named.iter().cloned().chain(more).collect())?;
        }
        let read = read_now;
        running_mode::note_other(&snapshot, read.plan.mode.as_deref());
        Ok(Self { project, plan: read.plan, private: read.private, snapshot })
    }
    /// Whether a supervisor runs.
    #[must_use]
    pub fn running(&self) -> bool {
        self.snapshot.supervisor_pid.is_some()
    }
    /// What the supervisor says of one service.
    #[must_use]
    pub fn status(&self, spec: &ServiceSpec) -> Option<&ServiceStatus> {
        self.snapshot.services.iter().find(|service| service.name == spec.id.as_str())
    }
    /// Whether a port is `private`.
    #[must_use]
    pub fn is_private(&self, spec: &ServiceSpec, port: &str) -> bool {
        [spec.id.as_str(), spec.service.as_str()].iter().any(|name| self.private.contains(&((*name).to_owned(), port.to_owned())))
    }
    /// What is in force of a port: that of the process that runs, else that of the procfile.
    #[must_use]
    pub fn ports<'a>(&'a self, spec: &'a ServiceSpec) -> &'a std::collections::BTreeMap<String, u16> {
        match self.status(spec) {
            Some(status) if self.running() => &status.ports,
            _ => &spec.ports,
        }
    }
}

/// Prints a value as JSON on one line.
///
/// # Errors
/// `Internal` when it cannot be written as JSON.
pub fn json(value: &impl Serialize) -> Result<i32, Failure> {
    let text = serde_json::to_string(value)
        .map_err(|error| Failure::new(FailureKind::Internal, format!("no JSON can be made of it: {error}")))?;
    // A reader that is gone is no failure.
    let _reader_gone = data(text);
    Ok(exit::DONE)
}

/// Prints a text that may have many lines.
pub fn text(text: &str) -> i32 {
    let text = text.strip_suffix('\n').unwrap_or(text);
    if !text.is_empty() {
        let _reader_gone = data(text);
    }
    exit::DONE
}

/// Finds exactly one copy of a service; the first one where the name has several.
///
/// # Errors
/// `Config`, with the names there are.
pub fn one<'a>(plan: &'a Plan, name: &str) -> Result<&'a ServiceSpec, Failure> {
    let ids = load::resolve(plan, std::slice::from_ref(&name.to_owned()))?;
    ids.first()
        .and_then(|id| plan.services.get(id).map(std::sync::Arc::as_ref))
        .ok_or_else(|| Failure::new(FailureKind::Config, format!("unknown service or task `{name}`")))
}

/// The address without its password.
#[must_use]
pub fn public_url(spec: &ServiceSpec) -> Option<String> {
    spec.attributes.get("url").map(|url| devrun_runtime::engine::public_url(spec, url))
}
