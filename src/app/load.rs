//! From the command line to a `Plan`: finds the procfile, reads what it names, chooses ports, makes secrets.
//!
//! The config layer is pure; this is its I/O. A verb that only looks (`Purpose::Look`) makes nothing and chooses nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::ui::term::{self, say};
use devrun_config::{Facts, Options, PortPreference, Source};
use devrun_model::{Failure, FailureKind, Plan, ServiceId};
use devrun_runtime::recipes::RecipeRegistry;
use devrun_runtime::{copy_names, runtime_dir, secrets, trace_masks};
use devrun_store::ownership::Trust;
use devrun_store::trusted_file;
use devrun_store::{DownloadProgress, FetchOptions};

use crate::app::compose_input::{self, LineOrigins};
use crate::app::data::branch_name;
use crate::app::debug_output;
use crate::app::generated_env;
use crate::app::host_requirements;
use crate::app::local_ca;
use crate::app::mapping_report::MappingDetail;
use crate::app::preconditions;
use crate::app::procfile_errors;
use crate::app::procfile_port;
use crate::app::project::TemporarySelection;
pub use crate::app::project::{Project, environment, is_running};
use crate::app::project_ports;
use crate::app::remembered_scale;
use crate::app::running_mode;
use crate::app::shared_server::location;
use crate::app::shown_warnings;
use crate::app::temporary_inside;
use crate::app::temporary_plan;
use crate::app::unknown_service::unknown_or_inactive;
use crate::globals::Globals;

/// The names looked for, in order.
const NAMES: &[&str] =
    &["procfile.toml", "compose.yaml", "compose.yml", "docker-compose.yaml", "docker-compose.yml", "Procfile", "Procfile.dev"];

/// Below the errors of files while the stack runs.
const KEEPS_RUNNING: &str = "note: the stack keeps running as it was started; fix the errors above, then run this command again";

/// Why the plan is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// To look at: nothing is made.
    Look,
    /// To start things: ports are chosen, secrets are made.
    Start,
    /// The same with nothing started: what the machine must have is not asked.
    Write,
}

impl Purpose {
    fn makes(self) -> bool {
        self != Self::Look
    }
}

/// A request for a plan.
#[derive(Debug, Clone)]
pub struct Wanted {
    /// Why.
    pub purpose: Purpose,
    /// Services named on the command line.
    pub named: Vec<String>,
    /// `--scale`.
    pub scale: BTreeMap<String, u32>,
    /// It ends what an earlier `up --scale` has set.
    pub resets_scale: bool,
    /// `--ports auto`.
    pub ports_auto: bool,
    /// Not `--no-init-cache`.
    pub init_cache: bool,
    /// Warnings are printed.
    pub warn: bool,
    /// With the warnings, how much is said of a compose file's keys.
    pub mapping: MappingDetail,
    /// The command acts on data or processes of what runs: its mode must be the one that runs.
    pub acts_on_running: bool,
}

impl Wanted {
    /// To look at, with nothing named.
    #[must_use]
    pub fn look() -> Self {
        Self {
            purpose: Purpose::Look,
            named: Vec::new(),
            scale: BTreeMap::new(),
            resets_scale: false,
            ports_auto: false,
            init_cache: true,
            warn: false,
            mapping: MappingDetail::Line,
            acts_on_running: false,
        }
    }

    /// To act on data or processes of what runs, with nothing named.
    #[must_use]
    pub fn act() -> Self {
        Self { acts_on_running: true, ..Self::look() }
    }
}

/// Finds the project.
///
/// # Errors
/// `Config` when there is no procfile, or one that may not be used.
pub fn project(globals: &Globals) -> Result<Project, Failure> {
    let env = environment();
    let cwd = std::env::current_dir()
        .map_err(|error| Failure::new(FailureKind::Config, format!("the working directory cannot be read: {error}")))?;
    let start = match &globals.project_directory {
        Some(dir) => absolute(&cwd, dir),
        None => cwd.clone(),
    };
    let of_the_run = temporary_inside::state(globals, &env).and_then(|state| temporary_inside::procfile(globals, &state));
    let files = if let Some(file) = of_the_run.filter(|_| globals.file.is_empty()) {
        vec![file]
    } else if globals.file.is_empty() {
        let found = search(&start)?;
        vec![found.ok_or_else(|| procfile_port::no_procfile(&fs::canonicalize(&start).unwrap_or(start)))?]
    } else {
        globals.file.iter().map(|file| absolute(&start, file)).collect()
    };
    let first = files.first().ok_or_else(|| Failure::new(FailureKind::Config, "no procfile was named"))?;
    let folder = first.parent().unwrap_or(Path::new("/"));
    let root = fs::canonicalize(folder).map_err(|error| {
        Failure::new(FailureKind::Config, format!("{} cannot be read: {error}", folder.display()))
            .help("check the path after -f or -C")
    })?;
    let first = first.clone();
    project_in(globals, env, &cwd, files, root, &first)
}

/// The file that [`project`] would read, if there is one.
///
/// # Errors
/// As [`project`], but for a missing procfile.
pub fn find_procfile(globals: &Globals) -> Result<Option<PathBuf>, Failure> {
    if let Some(named) = globals.file.first() {
        return Ok(Some(named.clone()));
    }
    search(globals.project_directory.as_deref().unwrap_or(Path::new(".")))
}

/// As [`project`], for commands that stop a stack or show it: where the procfile is missing or another user's, a state directory
/// of this user's own is enough, as what runs is what was started. `files` is empty then.
///
/// # Errors
/// As [`project`].
pub fn project_by_state(globals: &Globals) -> Result<Project, Failure> {
    let failure = match project(globals) {
        Err(failure) if failure.kind == FailureKind::Config && globals.file.is_empty() => failure,
        found => return found,
    };
    let Ok(cwd) = std::env::current_dir() else { return Err(failure) };
    let start = globals.project_directory.as_ref().map_or_else(|| cwd.clone(), |dir| absolute(&cwd, dir));
    let Ok(start) = fs::canonicalize(start) else { return Err(failure) };
    let has_state = |folder: &&Path| fs::symlink_metadata(folder.join(runtime_dir::STATE)).is_ok();
    match start.ancestors().find(has_state) {
        Some(root) if runtime_dir::check_private(&root.join(runtime_dir::STATE), "state").is_ok_and(|there| there) => {
            let file = root.join("procfile.toml");
            project_in(globals, environment(), &cwd, Vec::new(), root.to_owned(), &file)
        }
        _ => Err(failure),
    }
}

fn project_in(
    globals: &Globals,
    env: BTreeMap<String, String>,
    cwd: &Path,
    files: Vec<PathBuf>,
    root: PathBuf,
    first: &Path,
) -> Result<Project, Failure> {
    let of_the_run = temporary_inside::places(&root, temporary_inside::state(globals, &env).as_deref(), &env);
    let instance = match of_the_run {
        Some(_) => temporary_inside::instance(&env),
        None => instance(globals, &env, first, &root),
    };
    if !instance.is_empty() && devrun_model::ProjectName::new(instance.as_str()).is_err() {
        return Err(Failure::new(FailureKind::Config, format!("invalid instance name {instance:?}"))
            .help("use lower-case letters, digits, `-` and `_`: --instance b"));
    }
    let state_dir = globals.state_dir.as_ref().map(|dir| absolute(cwd, dir));
    let temporary = of_the_run.is_some().then(|| temporary_inside::selection(&env));
    let places = match of_the_run {
        Some(places) => places,
        None => runtime_dir::locate(&root, &instance, state_dir.as_deref(), &env)?,
    };
    crate::app::utf8_paths::require(&files, &places)?;
    if let Some(text) = runtime_dir::claim(&places)? {
        say(text);
    }
    let project = Project {
        files,
        label: None,
        root,
        places,
        temporary,
        given_mode: globals.mode.clone(),
        instance,
        env,
        reserved: Arc::default(),
    };
    debug_output::project(globals, &project);
    Ok(project)
}

fn absolute(base: &Path, path: &Path) -> PathBuf {
    base.join(path)
}

/// Inside a service `DEVRUN_INSTANCE` names the service's own instance; it counts only for that very project.
fn instance(globals: &Globals, env: &BTreeMap<String, String>, file: &Path, root: &Path) -> String {
    if let Some(name) = &globals.instance {
        return name.clone();
    }
    let Some(name) = env.get("DEVRUN_INSTANCE").filter(|name| !name.is_empty()) else { return String::new() };
    match env.get("DEVRUN_PROJECT") {
        None => name.clone(),
        Some(project) => {
            let text = trusted_file::read_untrusted(file).ok().flatten().unwrap_or_default();
            let named = toml::from_str::<toml::Table>(&text)
                .ok()
                .and_then(|table| Some(table.get("project")?.get("name")?.as_str()?.to_owned()))
                .or_else(|| root.file_name().map(|name| name.to_string_lossy().to_ascii_lowercase()));
            if named.as_ref() == Some(project) { name.clone() } else { String::new() }
        }
    }
}

/// From here upward, never above the repository's root, never in a folder of another user.
fn search(start: &Path) -> Result<Option<PathBuf>, Failure> {
    let start = fs::canonicalize(start).map_err(|error| {
        Failure::new(FailureKind::Config, format!("{} cannot be read: {error}", start.display())).help("check -C")
    })?;
    let trust = Trust::current();
    for folder in start.ancestors() {
        for name in NAMES {
            let file = folder.join(name);
            let Ok(meta) = fs::metadata(&file) else { continue };
            if let Err(failure) = trust.owner(&meta, &file) {
                // A stack that runs here is the better reason.
                return Err(match runtime_dir::check_private(&folder.join(runtime_dir::STATE), "state") {
                    Err(better) if better.kind == FailureKind::Elsewhere => better,
                    _ => failure,
                });
            }
            if let Ok(meta) = fs::metadata(folder) {
                trust.owner(&meta, folder)?;
            }
            return Ok(Some(file));
        }
        if folder.join(".git").exists() {
            break;
        }
    }
    Ok(None)
}

/// Reads, merges, resolves.
///
/// # Errors
/// `Config`; the diagnostics have been printed then.
pub fn plan(globals: &Globals, project: &Project, wanted: &Wanted) -> Result<Arc<Plan>, Failure> {
    Ok(read(globals, project, wanted)?.plan)
}

/// A plan, and what it was made of.
pub struct Read {
    /// The plan.
    pub plan: Arc<Plan>,
    /// The merged procfile.
    pub document: devrun_config::Document,
    /// What was found outside it.
    pub facts: Facts,
    /// The file of `[config]`, and whether it was written just now.
    pub generated: Option<(devrun_config::Generated, bool)>,
    /// Ports that stand in no table: service and port name.
    pub private: BTreeSet<(String, String)>,
    /// The folder of the secrets.
    pub secrets_dir: PathBuf,
    /// Where the lines of a mapped compose file come from.
    pub origins: Option<LineOrigins>,
}

impl Read {
    /// Key, value and origin of everything the procfile says; see [`devrun_config::Document::values`].
    ///
    /// # Errors
    /// `Config`.
    pub fn values(&self) -> Result<Vec<(String, String, String)>, Failure> {
        self.document.values(&self.facts).map_err(|report| procfile_errors::show(&report, false))
    }
    /// The variables that the procfile itself gives a service or task, and ours; what is merely inherited is not among them.
    ///
    /// # Errors
    /// `Config`.
    pub fn declared(&self, spec: &devrun_model::ServiceSpec) -> Result<BTreeMap<String, String>, Failure> {
        let kind = if spec.task.is_some() { "tasks" } else { "services" };
        let prefix = format!("{kind}.{}.env.", spec.service);
        let names: BTreeSet<String> =
            self.values()?.into_iter().filter_map(|(key, ..)| key.strip_prefix(&prefix).map(str::to_owned)).collect();
        let ours =
            |name: &str| name == "PORT" || name == "PYTHONUNBUFFERED" || name.starts_with("PORT_") || name.starts_with("DEVRUN_");
        let wanted = |name: &str| names.contains(name) || (ours(name) && name != "DEVRUN_RUN_ID");
        Ok(spec.env.iter().filter(|(name, _)| wanted(name)).map(|(name, value)| (name.clone(), value.clone())).collect())
    }
    /// What must be chosen or made for a start; the secrets among it.
    ///
    /// # Errors
    /// `Config`.
    pub fn required_values(&self) -> Result<devrun_config::RequiredValues, Failure> {
        self.document.required_values(&self.facts).map_err(|report| procfile_errors::show(&report, false))
    }
    /// `[env]`, filled in.
    ///
    /// # Errors
    /// `Config`.
    pub fn project_env(&self) -> Result<BTreeMap<String, String>, Failure> {
        let own = |(key, value, _): (String, String, String)| Some((key.strip_prefix("env.")?.to_owned(), value));
        Ok(self.values()?.into_iter().filter_map(own).collect())
    }
}

/// As [`plan`], with what it was made of.
///
/// # Errors
/// `Config`; the diagnostics have been printed then. `Elsewhere` where it acts on what runs, and that has another mode.
pub fn read(globals: &Globals, project: &Project, wanted: &Wanted) -> Result<Read, Failure> {
    let cwd = std::env::current_dir().unwrap_or_default();
    let mut sources = Vec::new();
    let warn = wanted.warn && !shown_warnings::were_shown();
    let mapped =
        compose_input::mapped(globals, project, warn.then_some(wanted.mapping)).map_err(|failure| match &failure.help {
            _ if !is_running(&project.places).unwrap_or(false) => failure,
            _ if failure.is_shown => {
                say(KEEPS_RUNNING);
                failure
            }
            Some(help) => {
                let help = format!("{help}; the stack keeps running as it was started");
                failure.help(help)
            }
            None => failure,
        })?;
    let (mut mapped, origins, mapping_report) = match mapped {
        Some(mapped) => (Some(mapped.source), Some(mapped.origins), Some(mapped.report)),
        None => (None, None, None),
    };
    for path in &project.files {
        if compose_input::is_yaml(path) {
            // All of them are one source, in the place of the first.
            sources.extend(mapped.take());
            continue;
        }
        let text = trusted_file::read_trusted(path)?.ok_or_else(|| trusted_file::missing(path))?;
        let shown = || path.strip_prefix(&cwd).unwrap_or(path).display().to_string();
        let name = project.label.map_or_else(shown, str::to_owned);
        sources.push(Source { name, path: path.clone(), text });
    }
    let book = RecipeRegistry::new();
    let given = || TemporarySelection { mode: globals.mode.clone(), profiles: globals.profile.clone() };
    let read_as = project.temporary.clone().unwrap_or_else(given);
    let running = if wanted.acts_on_running { running_mode::running(project)? } else { None };
    let options = Options {
        project_name: globals.project_name.clone(),
        mode: running_mode::implied(project, running.as_ref()).or(read_as.mode),
        profiles: read_as.profiles,
        named: wanted.named.clone(),
        instance: project.instance.clone(),
        ports_auto: project_ports::are_auto(project, wanted.purpose == Purpose::Start, wanted.ports_auto)?,
        scale: wanted.scale.clone(),
        remembered_scale: remembered_scale::in_force(&project.places, !wanted.resets_scale && is_running(&project.places)?),
        // Names of a run that has ended do not matter.
        first_copies: if is_running(&project.places)? { copy_names::read(&project.places) } else { BTreeMap::new() },
        init_cache: wanted.init_cache,
        base_port: procfile_port::base_port(project)?,
    };
    let color = std::io::IsTerminal::is_terminal(&std::io::stderr()) && !project.env.contains_key("NO_COLOR") && !term::is_dumb();
    let failed = |report: devrun_config::Report| {
        let failure = procfile_errors::show(&report, color);
        if let Some(note) = origins.as_ref().and_then(|origins: &LineOrigins| origins.note(&report)) {
            say(note);
        }
        if is_running(&project.places).unwrap_or(false) {
            say(KEEPS_RUNNING);
        }
        failure
    };
    let env_file_flag = globals.env_file.as_ref().map(|file| absolute(&cwd, file));
    let document = match devrun_config::examine(&sources, &options, &book) {
        (Some(document), report) if !report.has_errors() => document,
        (Some(document), report) => {
            // A file that cannot be read would hide the faults that are known.
            let all = facts(project, env_file_flag, &document).map(|facts| document.faults(&facts, &report));
            return Err(failed(all.unwrap_or(report)));
        }
        (None, report) => return Err(failed(report)),
    };
    running_mode::check(running.as_ref(), document.mode())?;
    let paths = document.generated_paths();
    let output = paths.as_ref().map(|paths| generated_env::place(paths, &project.places, &project.instance));
    if wanted.purpose.makes() {
        preconditions::from_sample(&document)?;
        // A file that is not ours is told before anything is made.
        output.as_deref().map(generated_env::existing).transpose()?;
    }
    let mut facts = facts(project, env_file_flag, &document)?;
    facts.shared = location::of(project, &document, &facts, wanted.purpose.makes())?;
    let wants = document.required_values(&facts).map_err(|report| failed(document.faults(&facts, &report)))?;
    let is_up = is_running(&project.places)?;
    let starts = wanted.purpose == Purpose::Start && !is_up;
    if wanted.purpose == Purpose::Start && is_up {
        branch_name::check_while_up(&project.places.state, facts.branch.as_deref())?;
    }
    if starts {
        crate::app::data::recovery::finish(project)?;
        host_requirements::meets(&wants, &project.places)?;
    }
    let mut notes = Vec::new();
    facts.ports = project_ports::choose(project, &wants, wanted.purpose.makes(), &mut notes)?;
    if wanted.purpose.makes() {
        preconditions::old_data_wants_old_secrets(&document, &facts, &wants)?;
    }
    for want in &wants.secrets {
        let value = match wanted.purpose {
            Purpose::Start | Purpose::Write => Some(secrets::read_or_create(&wants.secrets_dir, &want.name, want.length)?),
            Purpose::Look => secrets::read(&wants.secrets_dir, &want.name)?,
        };
        if let Some(value) = value {
            facts.secrets.insert(want.name.clone(), value);
        }
    }
    let made = document.generate(&facts).map_err(failed)?;
    if let (Some(paths), Some(made)) = (&paths, &made) {
        facts.env_files.insert(paths.output.clone(), Some(made.text.clone()));
    }
    let (plan, report) = document.lower(&facts).map_err(failed)?;
    trace_masks::set(&plan);
    if wanted.purpose == Purpose::Start {
        preconditions::of_started(&document, &plan, &wanted.named)?;
    }
    if starts {
        let of_host = host_requirements::of_plan(&document, &plan, &wanted.named, &project.env)?;
        notes.extend(of_host.into_iter().filter(|_| warn));
    }
    if wanted.purpose.makes() {
        notes.extend(local_ca::prepare(&project.env, &plan)?.map(str::to_owned));
    }
    if warn && !report.is_empty() {
        say(trace_masks::masked(report.render(color).trim_end()));
    }
    if let Some(report) = mapping_report.filter(|_| warn && starts_once(wanted)) {
        report.remember(&project.places);
    }
    if wanted.warn {
        shown_warnings::note();
        for note in notes {
            say(note);
        }
    }
    if let (true, Some(paths), Some(made)) = (warn, &paths, &made) {
        generated_env::warn(paths, made, &plan, &project.places);
    }
    let generated = match (output, made) {
        (Some(output), Some(made)) => {
            let written = wanted.purpose.makes() && generated_env::write(&output, &made, &project.places)?;
            Some((made, written))
        }
        _ => None,
    };
    debug_output::plan(globals, &facts, &plan);
    let private = wants.ports.into_iter().filter(|want| want.preference == PortPreference::Private);
    let private = private.map(|want| (want.service, want.name)).collect();
    let plan = Arc::new(plan);
    let plan = if project.temporary.is_some() { temporary_plan::throw_away(plan, &project.places) } else { plan };
    Ok(Read { plan, document, facts, generated, private, secrets_dir: wants.secrets_dir, origins })
}

/// Whether this is a start that says everything the first time.
fn starts_once(wanted: &Wanted) -> bool {
    wanted.purpose == Purpose::Start && wanted.mapping == MappingDetail::Once
}

/// What is found outside the procfile without choosing or making anything.
fn facts(project: &Project, env_file_flag: Option<PathBuf>, document: &devrun_config::Document) -> Result<Facts, Failure> {
    let paths = document.generated_paths();
    let (env_files, recipe_files) = document.files();
    let mut facts = Facts {
        places: project.places.clone(),
        shell: project.env.clone(),
        env_files: BTreeMap::new(),
        unread_env: None,
        env_file_flag: env_file_flag.clone(),
        secrets: BTreeMap::new(),
        ports: BTreeMap::new(),
        recipe_files: BTreeMap::new(),
        keys: generated_env::keys(paths.as_ref().and_then(|paths| paths.keys.as_deref()))?,
        seed: u64::from(std::process::id()),
        shared: BTreeMap::new(),
        local_ca: local_ca::files(&project.env),
        branch: document.branch_data().then(|| branch_name::checked_out(&project.root)).flatten(),
    };
    for path in env_files.into_iter().chain(env_file_flag) {
        // What is on disk of the generated file does not count: it is made later.
        let made = paths.as_ref().is_some_and(|paths| paths.output == path);
        let text = if made { Some(String::new()) } else { trusted_file::read_trusted(&path)? };
        facts.env_files.insert(path, text);
    }
    let usual = project.root.join(".env");
    if !facts.env_files.contains_key(&usual) {
        // It is not used: what is wrong with it stops nothing.
        facts.unread_env = trusted_file::read_trusted(&usual).ok().flatten();
    }
    for path in recipe_files {
        if let Some(text) = trusted_file::read_trusted(&path)? {
            facts.recipe_files.insert(path, text);
        }
    }
    Ok(facts)
}

/// Where binaries come from.
#[must_use]
pub fn fetch_options(
    project: &Project,
    offline: bool,
    mirror: Option<String>,
    progress: Arc<dyn DownloadProgress>,
) -> FetchOptions {
    FetchOptions {
        store: devrun_store::store_folder(&project.root, &project.env, nix::unistd::geteuid().is_root()),
        lock_file: project.root.join("devrun.lock"),
        offline,
        mirror,
        env: project.env.clone(),
        progress,
    }
}

/// As [`fetch_options()`], for commands without options for it.
#[must_use]
pub fn fetch_options_by_environment(project: &Project, progress: Arc<dyn DownloadProgress>) -> FetchOptions {
    fetch_options(project, is_offline(&project.env), project.env.get("DEVRUN_MIRROR").cloned(), progress)
}

/// As `up --offline` reads its variable.
#[must_use]
pub fn is_offline(env: &BTreeMap<String, String>) -> bool {
    let value = env.get("DEVRUN_OFFLINE").map(|value| value.to_lowercase()).unwrap_or_default();
    !["", "0", "n", "no", "f", "false", "off"].contains(&value.as_str())
}

/// Resolves names typed by a person.
///
/// # Errors
/// `Config`, with the nearest names.
pub fn resolve(plan: &Plan, names: &[String]) -> Result<Vec<ServiceId>, Failure> {
    let mut ids = Vec::new();
    for name in names {
        let found = plan.lookup(name);
        if found.is_empty() {
            let known = plan.services.values().map(|spec| spec.service.as_str());
            return Err(unknown_or_inactive(Some(plan), name, "the procfile has", known));
        }
        ids.extend(found);
    }
    Ok(ids)
}
