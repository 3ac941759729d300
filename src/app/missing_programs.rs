//! Programs that a start needs, and that are neither on this machine nor to be had: named by `check` and `up --plan`, and looked
//! for before anything that runs is stopped to be started by another definition. A service that is started without stopping another one reports its own failure.
//!
//! A server is found or fetched as its start would do it; a command is looked for unless something that its start waits for may
//! install it (`core`).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use devrun_model::{CommandLine, Failure, FailureKind, Launch, Plan, PlannedChanges, RestartTargets, ServiceId, ServiceSpec};
use devrun_runtime::directory_answers;
use devrun_store::FetchOptions;

use crate::app::load::Project;
use crate::ui::term::say;

/// What was left as it was where a start is refused for what it needs.
pub const NOTHING_STOPPED: &str = "nothing was stopped";

/// Where each service says what it runs, as `FILE:LINE:COLUMN`.
#[derive(Debug, Default)]
pub struct LaunchPlaces(BTreeMap<String, String>);

impl LaunchPlaces {
    /// Those of a plan.
    #[must_use]
    pub fn new(document: &devrun_config::Document, plan: &Plan) -> Self {
        let names: BTreeSet<&str> = plan.services.values().map(|spec| spec.service.as_str()).collect();
        Self(names.into_iter().filter_map(|name| Some((name.to_owned(), document.launch_place(name)?))).collect())
    }

    /// A failure with its place and service.
    fn name(&self, spec: &ServiceSpec, failure: Failure) -> Failure {
        let place = self.0.get(spec.service.as_str()).map_or(String::new(), |place| format!("{place}: "));
        Failure { reason: format!("{place}{}: {}", spec.service, failure.reason), ..failure }
    }
}

/// What is looked at, and how.
pub struct ProgramCheck<'a> {
    /// The new plan.
    pub plan: &'a Plan,
    /// Where its services say what they run.
    pub places: &'a LaunchPlaces,
    /// Where servers are looked for.
    pub options: &'a FetchOptions,
    /// What this start builds.
    pub to_build: &'a BTreeSet<ServiceId>,
}

impl ProgramCheck<'_> {
    /// What is missing for these services, optional ones apart. Nothing is fetched.
    ///
    /// # Errors
    /// What is wrong with the store or the lockfile.
    pub async fn missing(&self, scope: impl Fn(&ServiceSpec) -> bool) -> Result<Vec<Failure>, Failure> {
        let mut missing = Vec::new();
        for spec in first_copies(self.plan.services.values().map(AsRef::as_ref)) {
            if spec.optional || !scope(spec) {
                continue;
            }
            let server = match &spec.launch {
                Launch::Recipe(recipe) => devrun_store::check(recipe, self.options).await,
                _ => Ok(()),
            };
            for looked in [server, self.command(spec)] {
                match looked {
                    Ok(()) => {}
                    Err(failure) if failure.kind == FailureKind::Binary => missing.push(self.places.name(spec, failure)),
                    Err(failure) => return Err(failure),
                }
            }
        }
        Ok(missing)
    }

    /// Finds or fetches the programs of what is to be started, where something that runs is stopped for it.
    ///
    /// # Errors
    /// As `locate`: everything that is missing, each with its place.
    pub async fn find(&self, started: &BTreeSet<ServiceId>) -> Result<(), Failure> {
        let specs = started.iter().filter_map(|id| self.plan.services.get(id)).map(AsRef::as_ref);
        let mut failures: Vec<Failure> = Vec::new();
        let mut recipes = Vec::new();
        for spec in first_copies(specs) {
            if let Launch::Recipe(recipe) = &spec.launch {
                recipes.push((spec, (**recipe).clone()));
            }
            failures.extend(self.command(spec).err().map(|failure| self.places.name(spec, failure)));
        }
        let uses: Vec<_> = recipes.iter().map(|(_, recipe)| recipe.clone()).collect();
        let located = devrun_store::fetch_all(&uses, self.options).await;
        for ((spec, _), result) in recipes.iter().zip(located) {
            failures.extend(result.err().map(|failure| self.places.name(spec, failure)));
        }
        refuse(failures, NOTHING_STOPPED)
    }

    /// Whether the commands of a service are there, or may come with its start.
    fn command(&self, spec: &ServiceSpec) -> Result<(), Failure> {
        if directory_answers::check(&spec.dir).is_err() || !spec.dir.is_dir() {
            return Ok(());
        }
        if let Some(pre_start) = &spec.pre_start {
            // It runs first, so that it installs nothing for itself.
            let before = ServiceSpec { pre_start: None, ..spec.clone() };
            self.word(&before, pre_start)?;
        }
        match &spec.launch {
            Launch::Run(command) => self.word(spec, command),
            _ => Ok(()),
        }
    }

    /// Whether the program of one command is there, or may come with the start.
    fn word(&self, spec: &ServiceSpec, command: &CommandLine) -> Result<(), Failure> {
        let word = command.argv.first().map_or("", String::as_str);
        let current = |id: &ServiceId| self.plan.services.get(id).map(AsRef::as_ref);
        let spec_of = |id: &ServiceId| if *id == spec.id { Some(spec) } else { current(id) };
        let all = || self.plan.services.iter().map(|(id, spec)| (id, spec.as_ref()));
        if devrun_core::command_may_be_installed(&spec.id, word, self.to_build, spec_of, all) {
            return Ok(());
        }
        match devrun_store::find_command(word, &spec.env, &spec.dir) {
            Err(failure) if failure.kind == FailureKind::Binary && spec.build.is_some() => {
                let other = failure.help.as_ref().map_or(String::new(), |help| format!("; or {help}"));
                Err(failure.help(format!("devrun up --build, if the build of {} makes it{other}", spec.service)))
            }
            Err(failure) if failure.kind == FailureKind::Binary => Err(failure),
            // What else is wrong is reported by the start.
            _ => Ok(()),
        }
    }
}

/// One copy of each service: the others run the same.
fn first_copies<'a>(specs: impl Iterator<Item = &'a ServiceSpec>) -> Vec<&'a ServiceSpec> {
    let mut seen = BTreeSet::new();
    specs.filter(|spec| seen.insert(&spec.service)).collect()
}

/// All that is missing as one failure, with what was therefore left as it was.
///
/// # Errors
/// That failure, where anything is missing.
pub fn refuse(failures: Vec<Failure>, left: &str) -> Result<(), Failure> {
    let Some(kind) = failures.first().map(|failure| failure.kind) else { return Ok(()) };
    let reasons: Vec<String> = failures.iter().map(|failure| failure.reason.clone()).collect();
    let helps: BTreeSet<String> = failures.into_iter().filter_map(|failure| failure.help).collect();
    let help = helps.into_iter().collect::<Vec<_>>().join("; ");
    Err(Failure::new(kind, format!("{}; {left}", reasons.join("\n"))).help(help))
}

/// Prints what would fail a start.
pub fn warn(failure: &Failure) {
    let help = failure.help.as_ref().map_or(String::new(), |help| format!("\nhelp: {help}"));
    say(format!("warning: {}{help}", failure.reason));
}

/// What an `up` over a running stack starts, where it stops something that runs; empty where it stops nothing.
#[must_use]
pub fn started_by_up(changes: &PlannedChanges, plan: &Plan, scope: &BTreeSet<ServiceId>) -> BTreeSet<ServiceId> {
    if !changes.values().any(|(word, _)| word == "restart" || word == "stop") {
        return BTreeSet::new();
    }
    let started =
        changes.iter().filter(|(id, (word, _))| word == "restart" || is_required(plan, id) && is_started(changes, id, scope));
    started.map(|(id, _)| id.clone()).collect()
}

/// Whether an `up` over a running stack starts this service. `scope`: what it is about.
#[must_use]
pub fn is_started(changes: &PlannedChanges, id: &ServiceId, scope: &BTreeSet<ServiceId>) -> bool {
    match changes.get(id).map(|(word, _)| word.as_str()) {
        Some("restart") => true,
        Some("start") => scope.contains(id),
        _ => false,
    }
}

/// Whether a start fails without it.
fn is_required(plan: &Plan, id: &ServiceId) -> bool {
    plan.services.get(id).is_some_and(|spec| !spec.optional)
}

/// What a `restart` starts, where it stops something that runs; empty where it stops nothing.
#[must_use]
pub fn started_by_restart(changes: &PlannedChanges, plan: &Plan, targets: &[ServiceId]) -> BTreeSet<ServiceId> {
    if !changes.values().any(|(word, _)| word == "restart") {
        return BTreeSet::new();
    }
    let is_started =
        |id: &ServiceId, word: &str| word == "restart" || word == "start" && (targets.contains(id) || is_required(plan, id));
    changes.iter().filter(|(id, (word, _))| is_started(id, word)).map(|(id, _)| id.clone()).collect()
}

/// What the supervisor would do with a plan, or with one and a `restart`; `None` where there is none.
///
/// # Errors
/// `Elsewhere` when it does not answer.
pub async fn changes(
    project: &Project,
    plan: &Arc<Plan>,
    restart: Option<RestartTargets>,
) -> Result<Option<PlannedChanges>, Failure> {
    match crate::app::connect::supervisor(&project.places).await? {
        Some(mut client) => client.changes(Arc::clone(plan), restart).await,
        None => Ok(None),
    }
}
