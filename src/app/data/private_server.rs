//! A server on a copy of its data, with ports of its own: for a restore that has to ask it. It is a stack of one service whose
//! supervisor is this process, so nothing of it is left when this process is killed. Its state lies in a directory of a fixed name
//! below the project's, so the next one ends what may still be ending.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use devrun_model::policy::RestartPolicy;
use devrun_model::{Failure, FailureKind, Paths, Plan, ServiceId, ServiceName, ServiceSpec, VolumeName, exit};
use devrun_runtime::runtime_dir;

use crate::app::load::{self, Project, Purpose, Wanted};
use crate::app::stop_stack;
use crate::app::temporary_stack::{TemporaryStack, with_temporary_stack};
use crate::globals::Globals;
use crate::ui::term::{Progress, Term};

/// Its directory in the state directory.
const DIRECTORY: &str = "restore-server";

/// The server of one service, on other data.
pub struct PrivateServer<'a> {
    globals: &'a Globals,
    service: ServiceName,
    volume: VolumeName,
    project: Project,
    term: Term,
}

impl<'a> PrivateServer<'a> {
    /// Ends what a killed restore has left of one.
    ///
    /// # Errors
    /// As a stop.
    pub fn new(
        globals: &'a Globals,
        project: &Project,
        spec: &ServiceSpec,
        volume: &VolumeName,
        term: Term,
    ) -> Result<Self, Failure> {
        let state = state_directory(project);
        let places = runtime_dir::ephemeral(&project.root, &state, &project.env)?;
        let term = Term { progress: Progress::Quiet, ..term };
        stop_stack::stop(&places, term)?;
        let project = Project { places, reserved: Arc::default(), ..project.clone() };
        Ok(Self { globals, service: spec.service.clone(), volume: volume.clone(), project, term })
    }

    /// The directories of its stack.
    #[must_use]
    pub fn places(&self) -> &Paths {
        &self.project.places
    }

    /// Starts it on these data, works with it, and stops it. A signal ends the work; it comes back as its exit code.
    ///
    /// # Errors
    /// `Service` when it does not start; what the work fails with.
    pub fn with(&self, data: &Path, work: impl AsyncFnOnce(&ServiceSpec) -> Result<(), Failure>) -> Result<Option<i32>, Failure> {
        let wanted =
            Wanted { purpose: Purpose::Start, named: vec![self.service.to_string()], ports_auto: true, ..Wanted::look() };
        let plan = load::plan(self.globals, &self.project, &wanted)?;
        let (plan, spec) = self.alone(&plan, data)?;
        let order = TemporaryStack {
            project: &self.project,
            plan: Arc::new(plan),
            targets: vec![spec.id.clone()],
            offline: false,
            mirror: None,
        };
        let result = crate::app::runtime::runtime()?.block_on(with_temporary_stack(order, self.term, async |signals| {
            tokio::select! {
                done = work(&spec) => done.map(|()| exit::DONE),
                code = signals.next() => Ok(code),
            }
        }))?;
        if let Some(code) = result.work.or(result.interrupted).filter(|code| *code != exit::DONE) {
            return Ok(Some(code));
        }
        match result.stack_code() {
            None => Ok(None),
            Some(_) => Err(Failure::new(FailureKind::Service, format!("{} did not start for the restore", self.service))
                .help("see the lines above; nothing was restored")),
        }
    }

    /// The plan with this service alone, on other data.
    fn alone(&self, plan: &Plan, data: &Path) -> Result<(Plan, Arc<ServiceSpec>), Failure> {
        let mut plan = plan.clone();
        plan.services.retain(|_, spec| spec.service == self.service && spec.replica == 1);
        plan.volumes.retain(|name, _| *name == self.volume);
        for volume in plan.volumes.values_mut() {
            volume.path = data.to_owned();
            volume.placed = true;
        }
        let missing = || Failure::new(FailureKind::Config, format!("unknown service {}", self.service));
        let id: ServiceId = plan.services.keys().next().cloned().ok_or_else(missing)?;
        let spec = plan.services.get_mut(&id).ok_or_else(missing)?;
        let own = Arc::make_mut(spec);
        own.depends_on.clear();
        own.volumes.clear();
        own.pre_start = None;
        own.restart = RestartPolicy::No;
        if let Some(value) = own.attributes.get_mut("data") {
            *value = data.display().to_string();
        }
        let spec = Arc::clone(spec);
        Ok((plan, spec))
    }
}

impl Drop for PrivateServer<'_> {
    fn drop(&mut self) {
        // Logs and ports of a server that is gone. What stays is used again by the next one.
        let _ = runtime_dir::remove_run(&self.project.places);
        let _ = std::fs::remove_dir_all(&self.project.places.state);
    }
}

fn state_directory(project: &Project) -> PathBuf {
    project.places.state.join(DIRECTORY)
}
