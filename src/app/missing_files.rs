//! Files and directories of the project that a start needs (`init`, `migrations`, `sql`, `cypher`, the `from` of models, `dir`), and
//! that are missing: an error of the procfile for `check`, and for a start before it starts or stops anything. A directory that a
//! gateway serves is mostly built later, and only worth a warning.
//!
//! What the start itself may make is not missing (`core`): the output of a task or build that it waits for, and everything in
//! a volume or in devrun's own directories.

use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::path::{Component, Path, PathBuf};

use devrun_config::{Document, KeyStep, ValueFault};
use devrun_model::{Failure, Launch, OnChange, Paths, Plan, RouteTarget, ServiceId, ServiceSpec, Work};
use devrun_runtime::directory_answers;
use devrun_runtime::init::{self, TaskStatus};
use devrun_runtime::trace_masks;

use crate::app::load::Read;
use crate::app::procfile_errors;

/// The key of a working directory.
const DIRECTORY_KEY: &str = "dir";

/// Entries of a directory among which a similar name is looked for.
const LOOKED_AT: usize = 4096;

/// A path that the procfile names.
struct NamedPath<'a> {
    path: &'a Path,
    /// As messages call it: `init file`.
    what: &'static str,
    /// What it must be; `None`: a file or a directory.
    kind: Option<PathKind>,
    /// Where the table of the service names it.
    steps: Vec<KeyStep>,
    /// A start fails for want of it.
    is_needed: bool,
}

impl<'a> NamedPath<'a> {
    fn new(path: &'a Path, what: &'static str, kind: Option<PathKind>, steps: Vec<KeyStep>) -> Self {
        Self { path, what, kind, steps, is_needed: true }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum PathKind {
    File,
    Directory,
}

/// What is missing for a service.
struct MissingFile {
    id: ServiceId,
    fault: ValueFault,
    /// A start fails for want of it.
    fails: bool,
    /// Its task is done, and is left as it is whatever became of its files.
    is_done: bool,
}

/// What is missing for the services of a plan.
pub struct MissingFiles {
    /// To show the places, where anything is missing.
    document: Option<Document>,
    files: Vec<MissingFile>,
    color: bool,
}

impl MissingFiles {
    /// Looks for the files of every service. `to_build`: what the start builds first.
    #[must_use]
    pub fn find(read: &Read, to_build: &BTreeSet<ServiceId>, color: bool) -> Self {
        let plan = &read.plan;
        let mut files = Vec::new();
        let named = plan.services.values().filter(|spec| spec.replica == 1).map(|spec| (spec, named_paths(spec)));
        let named: Vec<_> = named.filter(|(_, paths)| !paths.is_empty()).collect();
        let all = || named.iter().flat_map(|(_, paths)| paths);
        let is_directory = |named: &&NamedPath<'_>| named.steps == [KeyStep::Key(DIRECTORY_KEY)];
        let asked: BTreeSet<&Path> = all().filter(|named| !is_directory(named)).map(|named| named.path).collect();
        // One that lies on a mount that does not answer is not touched, and a start does not wait for the directory of a service that
        // it is not about.
        let silent = directory_answers::silent(asked, directory_answers::ANSWER_LIMIT);
        let remote = directory_answers::remote(all().filter(is_directory).map(|named| named.path));
        for (spec, paths) in &named {
            for named in paths {
                if silent.iter().any(|silent| silent == named.path) || remote.contains(&named.path) {
                    continue;
                }
                let Some(reason) = reason(named) else { continue };
                if !is_made_by_devrun(named.path, plan, &read.facts.places) && !may_be_written(spec, plan, to_build) {
                    files.push(missing(spec, named, reason, plan));
                }
            }
        }
        Self { document: (!files.is_empty()).then(|| read.document.clone()), files, color }
    }

    /// Refuses a start for want of files of what it starts. `left` says what was therefore left as it was, where anything was.
    ///
    /// # Errors
    /// `Config`; the files have been printed then, with their places.
    pub fn refuse(&self, is_started: impl Fn(&ServiceId) -> bool, left: Option<&str>) -> Result<(), Failure> {
        self.refuse_those(|file| !file.is_done && is_started(&file.id)).map_err(|failure| {
            let reason = left.map_or_else(|| failure.reason.clone(), |left| format!("{}; {left}", failure.reason));
            Failure { reason, ..failure }
        })
    }

    /// As [`MissingFiles::refuse`], of all services, where no build is known that may make the files first.
    ///
    /// # Errors
    /// As there.
    pub fn refuse_unless_built(&self) -> Result<(), Failure> {
        self.refuse_those(|file| file.fault.is_error)
    }

    /// As [`MissingFiles::refuse`], of all services, before their data is deleted: then every task runs again.
    ///
    /// # Errors
    /// As there.
    pub fn refuse_deletion(&self, left: &str) -> Result<(), Failure> {
        self.refuse_those(|_| true).map_err(|failure| Failure { reason: format!("{}; {left}", failure.reason), ..failure })
    }

    fn refuse_those(&self, is_meant: impl Fn(&MissingFile) -> bool) -> Result<(), Failure> {
        let Some(document) = &self.document else { return Ok(()) };
        let needed = self.files.iter().filter(|file| file.fails && is_meant(file));
        let faults: Vec<ValueFault> = needed.map(|file| ValueFault { is_error: true, ..file.fault.clone() }).collect();
        if faults.is_empty() { Ok(()) } else { Err(procfile_errors::show(&document.report(&faults), self.color)) }
    }

    /// Whether the working directory of a service is among them.
    #[must_use]
    pub fn names_directory(&self, id: &ServiceId) -> bool {
        self.files.iter().any(|file| file.id == *id && file.fault.steps == [KeyStep::Key(DIRECTORY_KEY)])
    }

    /// What is missing of these services, as warnings to print.
    #[must_use]
    pub fn warning(&self, is_started: impl Fn(&ServiceId) -> bool) -> Option<String> {
        let started = self.files.iter().filter(|file| is_started(&file.id));
        let faults: Vec<ValueFault> = started.map(|file| ValueFault { is_error: false, ..file.fault.clone() }).collect();
        let document = self.document.as_ref().filter(|_| !faults.is_empty())?;
        Some(trace_masks::masked(document.report(&faults).render(self.color).trim_end()))
    }
}

/// The paths that a service or task reads.
fn named_paths(spec: &ServiceSpec) -> Vec<NamedPath<'_>> {
    use KeyStep::{Key, Nth};
    let mut found = Vec::new();
    if matches!(spec.launch, Launch::Run(_)) {
        let directory = Some(PathKind::Directory);
        found.push(NamedPath::new(&spec.dir, "working directory", directory, vec![Key(DIRECTORY_KEY)]));
    }
    if let Launch::Recipe(recipe) = &spec.launch {
        let init = recipe.init.iter().enumerate();
        found.extend(init.map(|(at, path)| NamedPath::new(path, "init file", None, vec![Key("init"), Nth(at)])));
        let directory = Some(PathKind::Directory);
        let migrations = recipe.migrations.iter();
        found.extend(migrations.map(|path| NamedPath::new(path, "migrations directory", directory, vec![Key("migrations")])));
        for (at, route) in recipe.gateway.iter().flat_map(|gateway| gateway.routes.iter().enumerate()) {
            if let RouteTarget::Files { path, .. } = &route.target {
                let steps = vec![Key("routes"), Nth(at), Key("files")];
                found.push(NamedPath { is_needed: false, ..NamedPath::new(path, "file or directory", None, steps) });
            }
        }
    }
    let file = Some(PathKind::File);
    match spec.task.as_ref().and_then(|task| task.work.as_ref()) {
        Some(Work::Sql { files, .. }) => {
            let files = files.iter().enumerate();
            found.extend(files.map(|(at, path)| NamedPath::new(path, "SQL file", file, vec![Key("sql"), Nth(at)])));
        }
        Some(Work::Cypher { files }) => {
            let files = files.iter().enumerate();
            found.extend(files.map(|(at, path)| NamedPath::new(path, "Cypher file", file, vec![Key("cypher"), Nth(at)])));
        }
        Some(Work::Models { models }) => {
            for (at, from) in models.iter().enumerate().filter_map(|(at, (_, from))| Some((at, from.as_deref()?))) {
                let steps = vec![Key("models"), Nth(at), Key("from")];
                // A server that has the model does not ask for its file.
                found.push(NamedPath { is_needed: false, ..NamedPath::new(from, "model file", file, steps) });
            }
        }
        _ => {}
    }
    found
}

/// What is wrong with a path; `None` where it is as it should be, or something that the start itself reports.
fn reason(named: &NamedPath<'_>) -> Option<&'static str> {
    match (std::fs::metadata(named.path), named.kind) {
        (Ok(metadata), Some(PathKind::File)) if metadata.is_dir() => Some("is a directory"),
        (Ok(metadata), Some(PathKind::Directory)) if !metadata.is_dir() => Some("is not a directory"),
        (Err(error), _) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => Some("cannot find"),
        _ => None,
    }
}

/// What a volume or a directory of devrun's own holds is written by services.
fn is_made_by_devrun(path: &Path, plan: &Plan, places: &Paths) -> bool {
    let mut own = [&places.state, &places.run].into_iter().chain(plan.volumes.values().map(|volume| &volume.path));
    own.any(|directory| path.starts_with(directory))
}

/// Whether the start may write it before it is read.
fn may_be_written(spec: &ServiceSpec, plan: &Plan, to_build: &BTreeSet<ServiceId>) -> bool {
    let spec_of = |id: &ServiceId| plan.services.get(id).map(AsRef::as_ref);
    devrun_core::file_may_be_written(&spec.id, to_build, spec_of, || plan.services.iter().map(|(id, spec)| (id, spec.as_ref())))
}

/// Whether the task is done, and is left as it is whatever became of its files.
fn is_done(spec: &ServiceSpec, plan: &Plan) -> bool {
    let Some(task) = spec.task.as_ref().filter(|task| task.on_change == OnChange::Warn) else { return false };
    let Some(once) = &task.once else { return false };
    let status = plan.volumes.get(&once.volume).map(|volume| init::task_status(volume, once, ""));
    matches!(status, Some(Ok(TaskStatus::Done { .. } | TaskStatus::Changed { .. })))
}

fn missing(spec: &ServiceSpec, named: &NamedPath<'_>, reason: &str, plan: &Plan) -> MissingFile {
    let root = &plan.root;
    let shown = named.path.strip_prefix(root).unwrap_or(named.path).display();
    let owner = if spec.task.is_some() { "task" } else { "service" };
    let (what, name) = (named.what, &spec.service);
    let message = match reason {
        "cannot find" => format!("{owner} `{name}`: cannot find {what} {shown}"),
        reason => format!("{owner} `{name}`: {what} {shown} {reason}"),
    };
    let builder = plan.services.values().find(|other| other.build.is_some());
    let help = match (similar(named), builder) {
        (Some(similar), _) => {
            format!("did you mean {}?", similar.strip_prefix(root).unwrap_or(&similar).display())
        }
        (None, Some(builder)) => format!("devrun up --build, if the build of {} makes it; or correct the path", builder.service),
        (None, None) => format!("create it, or correct the path: it is relative to {}", root.display()),
    };
    let fails = named.is_needed && !spec.optional && spec.missing.is_empty();
    let is_done = is_done(spec, plan);
    let is_error = fails && !is_done && builder.is_none();
    let fault = ValueFault { service: name.to_string(), steps: named.steps.clone(), message, help, is_error };
    MissingFile { id: spec.id.clone(), fault, fails, is_done }
}

/// A path that exists and differs from this one by names that are similar.
fn similar(named: &NamedPath<'_>) -> Option<PathBuf> {
    let mut found = PathBuf::new();
    for component in named.path.components() {
        let next = found.join(component);
        if next.exists() {
            found = next;
            continue;
        }
        let Component::Normal(name) = component else { return None };
        let entries = std::fs::read_dir(&found).ok()?.flatten().take(LOOKED_AT);
        let mut names: Vec<String> = entries.filter_map(|entry| entry.file_name().into_string().ok()).collect();
        names.sort();
        let near = devrun_config::nearest(name.to_str()?, names.iter().map(String::as_str))?;
        found.push(near);
    }
    let fits = match named.kind {
        Some(PathKind::File) => found.is_file(),
        Some(PathKind::Directory) => found.is_dir(),
        None => found.exists(),
    };
    (fits && found != named.path).then_some(found)
}
