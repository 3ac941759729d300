//! `devrun export`: the procfile in another format.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use clap::Args;

use crate::ui::term::{data, safe, say};
use devrun_convert::{ExportSource, Exported, InstallCommands, SystemdSource};
use devrun_model::exit;
use devrun_model::{Failure, FailureKind, Launch, Plan, VolumeClass};
use devrun_runtime::runtime_dir;
use devrun_store::{catalog, lockfile::LockFile, trusted_file};

use crate::app::load::{self, Project, Read, Wanted};
use crate::globals::Globals;

// `export`.
#[derive(Debug, Args)]
pub struct ExportArgs {
    /// Target format
    #[arg(value_name = "FORMAT", value_parser = ["compose", "kubernetes", "procfile", "systemd"])]
    pub format: String,
    /// Output file; for kubernetes and systemd a directory [default: stdout]
    #[arg(short = 'o', long, value_name = "PATH")]
    pub output: Option<PathBuf>,
    /// Exit with 1 if the output does not hold what would be written
    #[arg(long, requires = "output")]
    pub check: bool,
    /// Exit with 2, writing nothing, if the target cannot express a key
    #[arg(long)]
    pub strict: bool,
    /// systemd: units for the user's manager (the default)
    #[arg(long, conflicts_with = "system")]
    pub user: bool,
    /// systemd: units for the system's manager, hardened, with a user of their own
    #[arg(long)]
    pub system: bool,
    /// systemd: one unit that runs devrun itself, in the place of a unit for each service
    #[arg(long)]
    pub one_unit: bool,
}

/// Runs it.
///
/// # Errors
/// `Config`: the procfile is wrong, the file is there already, or something is lost and that is refused.
pub fn run(globals: &Globals, args: &ExportArgs) -> Result<i32, Failure> {
    if (args.user || args.system || args.one_unit) && args.format != "systemd" {
        let options = "--user, --system and --one-unit";
        return Err(Failure::new(FailureKind::Config, format!("{options} do not belong to {}", args.format))
            .help("devrun export systemd --user"));
    }
    let mut commands = None;
    let exported = match args.format.as_str() {
        "compose" => compose(globals)?,
        "kubernetes" => kubernetes(globals)?,
        "systemd" => {
            let (exported, made) = systemd(globals, args)?;
            commands = Some(made);
            exported
        }
        _ => {
            let project = load::project(globals)?;
            let read = load::read(globals, &project, &Wanted::look())?;
            let text = devrun_convert::export_procfile(&read.document.merged());
            Exported { files: vec![(String::new(), text)], losses: Vec::new(), needs: Vec::new() }
        }
    };
    for loss in &exported.losses {
        say(safe(&format!("not exported: {loss}")));
    }
    if args.strict && !exported.losses.is_empty() {
        let count = exported.losses.len();
        let keys = if count == 1 { "key" } else { "keys" };
        return Err(Failure::new(FailureKind::Config, format!("{count} {keys} cannot be expressed in {}", args.format))
            .help("change the procfile, or leave out --strict"));
    }
    for need in &exported.needs {
        say(safe(&format!("needed there: {need}")));
    }
    let code = write(globals, args, &exported)?;
    if let (Some(commands), Some(output), false) = (commands, args.output.as_deref(), args.check)
        && output != Path::new("-")
    {
        print_commands(&commands, output);
    }
    Ok(code)
}

/// The project read for an engine that runs containers, with everything around it.
struct Inputs {
    merged: toml::Table,
    read: Read,
    versions: BTreeMap<String, String>,
    /// Of the shell, and of the project's env files.
    variables: BTreeMap<String, String>,
}

impl Inputs {
    fn new(globals: &Globals) -> Result<Self, Failure> {
        // Containers have all profiles at once, each switched on there.
        let globals = &Globals { profile: vec!["*".to_owned()], ..globals.clone() };
        let project = load::project(globals)?;
        let read = load::read(globals, &project, &Wanted::look())?;
        let merged = read.document.merged();
        let mut variables = variables(&read, &merged);
        variables.extend(project.env.iter().map(|(name, value)| (name.clone(), value.clone())));
        Ok(Self { versions: versions(&project, &read.plan)?, merged, read, variables })
    }
    fn source<'a>(&'a self, variable: &'a dyn Fn(&str) -> Option<String>) -> ExportSource<'a> {
        ExportSource {
            merged: &self.merged,
            plan: &self.read.plan,
            read: &text_of,
            list: &files_of,
            variable,
            versions: &self.versions,
            secrets_dir: &self.read.secrets_dir,
        }
    }
}

/// The text of a file. What may not be read, or is not text, is reported where it is needed.
fn text_of(path: &Path) -> Option<String> {
    trusted_file::read_untrusted(path).ok().flatten()
}

fn compose(globals: &Globals) -> Result<Exported, Failure> {
    let inputs = Inputs::new(globals)?;
    let variable = |name: &str| inputs.variables.get(name).cloned();
    Ok(devrun_convert::export_compose(&inputs.source(&variable)))
}

/// The base is the procfile as it is read without an option; each mode is an overlay.
fn kubernetes(globals: &Globals) -> Result<Exported, Failure> {
    let base = Inputs::new(globals)?;
    let mut modes = Vec::new();
    for mode in base.read.document.modes() {
        modes.push((mode.clone(), Inputs::new(&Globals { mode: Some(mode.clone()), ..globals.clone() })?));
    }
    let variable = |name: &str| base.variables.get(name).cloned();
    let sources: Vec<_> = modes.iter().map(|(mode, inputs)| (mode.clone(), inputs.source(&variable))).collect();
    Ok(devrun_convert::export_kubernetes(&base.source(&variable), &sources))
}

/// The stack as units, whose commands are called with the options of this one.
fn systemd(globals: &Globals, args: &ExportArgs) -> Result<(Exported, InstallCommands), Failure> {
    let project = load::project(globals)?;
    let read = load::read(globals, &project, &Wanted::look())?;
    let merged = read.document.merged();
    let program = std::env::current_exe()
        .map_err(|error| Failure::new(FailureKind::Internal, format!("cannot find this program: {error}")))?;
    let mut command = vec![program.display().to_string(), "-C".to_owned(), project.root.display().to_string()];
    let mut option = |name: &str, value: Option<String>| {
        if let Some(value) = value {
            command.extend([name.to_owned(), value]);
        }
    };
    if !globals.file.is_empty() {
        project.files.iter().for_each(|file| option("-f", Some(file.display().to_string())));
    }
    option("-p", globals.project_name.clone());
    option("--mode", globals.mode.clone());
    globals.profile.iter().for_each(|profile| option("--profile", Some(profile.clone())));
    let cwd = std::env::current_dir().unwrap_or_default();
    option("--env-file", globals.env_file.as_ref().map(|file| cwd.join(file).display().to_string()));
    option("--instance", globals.instance.clone());
    option("--state-dir", globals.state_dir.as_ref().map(|dir| cwd.join(dir).display().to_string()));
    // What the procfile takes from this shell, and what finds its programs.
    let known = variables(&read, &merged);
    let mut environment: Vec<(String, String)> =
        project.env.get("PATH").map(|path| ("PATH".to_owned(), path.clone())).into_iter().collect();
    let mut secret_variables = Vec::new();
    for name in devrun_convert::variables_of(&merged) {
        match project.env.get(&name).filter(|_| !known.contains_key(&name)) {
            Some(_) if devrun_model::secret_name::is_secret(&name) => secret_variables.push(name),
            Some(value) => environment.push((name, value.clone())),
            None => {}
        }
    }
    // Where programs are, which a manager's environment does not say.
    for name in ["DEVRUN_BIN_CACHE", "DEVRUN_OFFLINE"] {
        environment.extend(project.env.get(name).filter(|value| !value.is_empty()).map(|value| (name.to_owned(), value.clone())));
    }
    let graces = read.plan.services.values().map(|spec| spec.stop.grace).sum::<Duration>();
    let source = SystemdSource {
        project: read.plan.project.to_string(),
        root: project.root.clone(),
        command,
        environment,
        secret_variables,
        start: read.plan.timeout,
        stop: graces + Duration::from_secs(30),
        writable: writable(globals, &project, &read.plan),
        is_system: args.system,
    };
    let ports: Vec<u16> = read.plan.services.values().flat_map(|spec| spec.ports.values().copied()).collect();
    let exported = if args.one_unit {
        devrun_convert::export_systemd(&source, &ports)
    } else {
        devrun_convert::export_systemd_units(&source, &without_chosen_ports(&read.plan, &merged))
    };
    let unit = format!("devrun-{}.{}", source.project, if args.one_unit { "service" } else { "target" });
    Ok((exported, devrun_convert::systemd_commands(&source, &unit, args.one_unit)))
}

/// The plan without the main ports that a start chooses, for services that get a socket: whatever an earlier start has chosen, the
/// next one takes another while systemd holds that one.
fn without_chosen_ports(plan: &Plan, merged: &toml::Table) -> Plan {
    let mut plan = plan.clone();
    for spec in plan.services.values_mut().filter(|spec| spec.listen) {
        let table = merged.get("services").and_then(|all| all.get(spec.service.as_str()));
        let is_fixed = match table.and_then(|table| table.get("port")) {
            Some(toml::Value::Integer(_)) => true,
            Some(toml::Value::String(text)) => !matches!(text.as_str(), "auto" | "private"),
            _ => false,
        };
        if !is_fixed {
            Arc::make_mut(spec).ports.insert("main".to_owned(), 0);
        }
    }
    plan
}

/// What a stack writes: the project, and what lies elsewhere of its state, volumes and services.
fn writable(globals: &Globals, project: &Project, plan: &Plan) -> Vec<PathBuf> {
    let state = globals.state_dir.as_ref().map(|dir| project.root.join(dir));
    let volumes = plan.volumes.values().filter(|volume| volume.class != VolumeClass::Source).map(|volume| volume.path.clone());
    let directories = plan.services.values().map(|spec| spec.dir.clone());
    let mut all = vec![project.root.clone()];
    all.extend(state);
    for path in volumes.chain(directories) {
        if !all.iter().any(|known| path.starts_with(known)) {
            all.push(path);
        }
    }
    all
}

/// Printed after the units were written; where they do not lie where the manager looks, they are copied there first.
fn print_commands(commands: &InstallCommands, output: &Path) {
    let wanted = if commands.directory.starts_with('/') { "systemd/system" } else { "systemd/user" };
    let directory = if output.is_dir() { Some(output) } else { output.parent() };
    if !directory.is_some_and(|directory| directory.ends_with(wanted)) {
        say(safe(&format!("install: {}", commands.export)));
    }
    commands.install.iter().for_each(|command| say(safe(&format!("install: {command}"))));
    commands.remove.iter().for_each(|command| say(safe(&format!("remove: {command}"))));
}

/// The files of a directory; none where it is a file.
fn files_of(path: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(path).into_iter().flatten().flatten();
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.path()).filter(|path| path.is_file()).collect();
    files.sort();
    files
}

/// The versions in use: that of the server that a start here would run; where there is none, the one that `devrun.lock` pins, else
/// the newest of the catalogue.
fn versions(project: &Project, plan: &Plan) -> Result<BTreeMap<String, String>, Failure> {
    let mut versions: BTreeMap<String, String> = BTreeMap::new();
    for catalog in catalog::Catalog::all()? {
        if let Some(version) = catalog.versions.first() {
            versions.insert(catalog.recipe, version.version.clone());
        }
    }
    for entry in LockFile::read(&project.root.join("devrun.lock"))?.entries() {
        versions.insert(entry.name.clone(), entry.version.clone());
    }
    // What is not on this machine is not looked for in the network.
    let options = load::fetch_options(project, true, None, Arc::new(devrun_store::NoDownloadProgress));
    let runtime = crate::app::runtime::runtime()?;
    let mut seen = BTreeSet::new();
    for spec in plan.services.values() {
        if let Launch::Recipe(recipe) = &spec.launch
            && seen.insert(recipe.recipe.name.clone())
            && let Ok(located) = runtime.block_on(devrun_store::which(recipe, &options))
            && located.version.starts_with(|char: char| char.is_ascii_digit())
        {
            versions.insert(recipe.recipe.name.clone(), located.version);
        }
    }
    Ok(versions)
}

/// The variables of the project's env files; later files win.
fn variables(read: &Read, merged: &toml::Table) -> BTreeMap<String, String> {
    let list = match merged.get("project").and_then(|project| project.get("env_file")) {
        Some(toml::Value::Array(list)) => list.clone(),
        Some(value) => vec![value.clone()],
        None => Vec::new(),
    };
    let path = |value: &toml::Value| value.as_str().or_else(|| value.get("path")?.as_str()).map(|path| read.plan.root.join(path));
    let named = list.iter().filter_map(path).chain(read.facts.env_file_flag.clone());
    let texts = named.filter_map(|path| read.facts.env_files.get(&path)?.clone());
    texts.flat_map(|text| devrun_config::env_file_values(&text, &|name| read.facts.shell.get(name).cloned())).collect()
}

fn write(globals: &Globals, args: &ExportArgs, exported: &Exported) -> Result<i32, Failure> {
    let failed = |path: &Path, error: std::io::Error| {
        Failure::new(FailureKind::Config, format!("cannot write {}: {error}", path.display()))
    };
    let Some(output) = args.output.as_deref().filter(|path| *path != Path::new("-")) else {
        let text: Vec<String> = exported
            .files
            .iter()
            .map(|(path, text)| if path.is_empty() { text.clone() } else { format!("---\n# {path}\n{text}") })
            .collect();
        data(text.concat().trim_end()).map_err(|error| failed(Path::new("standard output"), error))?;
        return Ok(exit::DONE);
    };
    let place = |path: &str| if path.is_empty() { output.to_owned() } else { output.join(path) };
    if args.check {
        let mut stale = false;
        for (path, text) in &exported.files {
            let path = place(path);
            let why = match std::fs::read_to_string(&path) {
                Ok(found) if found == *text => continue,
                Ok(_) => "differs from the procfile",
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => "does not exist",
                Err(error) => return Err(Failure::new(FailureKind::Config, format!("cannot read {}: {error}", path.display()))),
            };
            stale = true;
            say(safe(&format!("{} is stale: it {why}", path.display())));
        }
        if stale {
            let option = if args.one_unit { " --one-unit" } else { "" };
            say(safe(&format!("help: devrun export {}{option} -o {} --yes", args.format, output.display())));
        }
        return Ok(if stale { exit::SERVICE } else { exit::DONE });
    }
    if output.is_dir() && exported.files.iter().any(|(path, _)| path.is_empty()) {
        return Err(Failure::new(FailureKind::Config, format!("{} is a directory", output.display()))
            .help(format!("name a file: -o {}", output.join("FILE").display())));
    }
    let existing = exported.files.iter().map(|(path, _)| place(path)).find(|path| path.exists());
    if let Some(existing) = existing.filter(|_| !globals.yes) {
        return Err(Failure::new(FailureKind::Config, format!("{} is there already and was left as it is", existing.display()))
            .help("--yes replaces it"));
    }
    for (path, text) in &exported.files {
        let path = place(path);
        if let Some(folder) = path.parent() {
            let made = runtime_dir::resolve(folder).and_then(std::fs::create_dir_all);
            made.map_err(|error| failed(folder, error))?;
        }
        runtime_dir::replace(&path, text.as_bytes()).map_err(|error| failed(&path, error))?;
    }
    Ok(exit::DONE)
}
