//! `devrun import` and `devrun init`: a procfile from foreign files, or from what lies around.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use clap::Args;

use crate::ui::term::{data, safe, say};
use devrun_config::{Options, Source};
use devrun_convert::{FoundProgram, KeyOutcome};
use devrun_keeper::regular_file;
use devrun_model::exit;
use devrun_model::{Failure, FailureKind};
use devrun_runtime::recipes::RecipeRegistry;
use devrun_runtime::runtime_dir;
use devrun_store::trusted_file;

use crate::app::compose_input;
use crate::app::load::{self, Wanted};
use crate::app::missing_files::MissingFiles;
use crate::app::procfile_schema;
use crate::globals::Globals;

// `import`.
#[derive(Debug, Args)]
pub struct ImportArgs {
    /// Files to convert; further files are merged over the first
    #[arg(value_name = "FILE", required = true)]
    pub files: Vec<PathBuf>,
    /// Procfile to write; `-` for stdout [default: procfile.toml next to the first file]
    #[arg(short = 'o', long, value_name = "FILE")]
    pub output: Option<PathBuf>,
    /// Report only keys that were not converted
    #[arg(short = 'q', long, conflicts_with = "explain")]
    pub quiet: bool,
    /// Print what became of every key of one service, and write nothing
    #[arg(long, value_name = "SERVICE")]
    pub explain: Option<String>,
}

// `init`.
#[derive(Debug, Args)]
pub struct InitArgs {
    /// Procfile to write; `-` for stdout [default: procfile.toml]
    #[arg(short = 'o', long, value_name = "FILE")]
    pub output: Option<PathBuf>,
    /// Write a section for agents into AGENTS.md instead; the rest of that file stays
    #[arg(long)]
    pub agents: bool,
}

/// Entries of a directory that are looked into for the program of the directory above.
const MAX_LOOKED_BELOW: usize = 1000;
const COMPOSE: &[&str] =
    &["compose.yaml", "compose.yml", "docker-compose.yaml", "docker-compose.yml", "process-compose.yaml", "process-compose.yml"];

fn base(globals: &Globals) -> Result<PathBuf, Failure> {
    let cwd = std::env::current_dir()
        .map_err(|error| Failure::new(FailureKind::Config, format!("the working directory cannot be read: {error}")))?;
    Ok(globals.project_directory.as_ref().map_or(cwd.clone(), |dir| cwd.join(dir)))
}

/// `devrun import FILE…`.
///
/// # Errors
/// `Config`: the file cannot be read, or a procfile is there and may not be replaced.
pub fn run(globals: &Globals, args: &ImportArgs) -> Result<i32, Failure> {
    let base = base(globals)?;
    let files: Vec<PathBuf> = args.files.iter().map(|file| base.join(file)).collect();
    if let Some(service) = &args.explain {
        return explain(globals, &files, service);
    }
    import(globals, &base, &files, args.output.as_deref(), args.quiet)
}

/// Prints what became of every key of a service.
fn explain(globals: &Globals, files: &[PathBuf], service: &str) -> Result<i32, Failure> {
    let first = files.first().ok_or_else(|| Failure::new(FailureKind::Config, "no file was named"))?;
    let root = fs::canonicalize(first.parent().unwrap_or(Path::new("/"))).map_err(|error| {
        Failure::new(FailureKind::Config, format!("cannot read {}: {error}", first.display())).help("check the path")
    })?;
    let files: Vec<PathBuf> = files.iter().map(|file| fs::canonicalize(file).unwrap_or_else(|_| file.clone())).collect();
    let around = compose_input::surroundings(globals, &root);
    let lines = compose_input::convert(&files, &root, trusted_file::read_untrusted, &around)?.report.about(service);
    if lines.is_empty() {
        return Err(Failure::new(FailureKind::Config, format!("{} has no service `{service}`", first.display()))
            .help("name a service of the file as it is called there"));
    }
    let text: Vec<String> = lines.lines().map(safe).collect();
    data(text.join("\n"))
        .map_err(|error| Failure::new(FailureKind::Config, format!("cannot write to standard output: {error}")))?;
    Ok(exit::DONE)
}

fn import(globals: &Globals, base: &Path, files: &[PathBuf], output: Option<&Path>, quiet: bool) -> Result<i32, Failure> {
    let words: Vec<String> = files.iter().map(|file| file.strip_prefix(base).unwrap_or(file).display().to_string()).collect();
    let first = files.first().ok_or_else(|| Failure::new(FailureKind::Config, "no file was named"))?;
    let folder = first.parent().unwrap_or(Path::new("/"));
    let folder = fs::canonicalize(folder).map_err(|error| {
        Failure::new(FailureKind::Config, format!("{} cannot be read: {error}", folder.display())).help("check the path")
    })?;
    let files: Vec<PathBuf> = files.iter().map(|file| fs::canonicalize(file).unwrap_or_else(|_| file.clone())).collect();
    let target = match output {
        Some(path) if path == Path::new("-") => None,
        Some(path) => Some(base.join(path)),
        None => Some(folder.join("procfile.toml")),
    };
    let root = target.as_deref().and_then(Path::parent).and_then(|parent| fs::canonicalize(parent).ok()).unwrap_or(folder);
    let plain = |file: &PathBuf| {
        file.extension().is_none() || file.file_name().is_some_and(|name| name.to_string_lossy().starts_with("Procfile"))
    };
    if files.iter().all(plain) {
        // A Procfile is read as it stands; what it means is written out.
        let named = Globals { file: files, ..globals.clone() };
        let read = load::read(&named, &load::project(&named)?, &Wanted::look())?;
        let text = write_with_schema(globals, target.as_deref(), devrun_convert::export_procfile(&read.document.merged()))?;
        checked(globals, &root, target.as_deref(), &text);
        return Ok(exit::DONE);
    }
    let converted =
        compose_input::convert(&files, &root, trusted_file::read_untrusted, &compose_input::surroundings(globals, &root))?;
    let text = write_with_schema(globals, target.as_deref(), converted.text)?;
    let lines = if quiet { converted.report.render(&[KeyOutcome::NotMapped]) } else { converted.report.overview() };
    if !lines.is_empty() {
        lines.lines().for_each(|line| say(safe(line)));
    }
    let again = format!("devrun import {} --explain SERVICE", words.join(" "));
    say(format!("{}; `{again}` lists every key of a service", converted.report.summary()));
    checked(globals, &root, target.as_deref(), &text);
    Ok(exit::DONE)
}

/// Writes the procfile of a project with the line by which editors find the JSON Schema, and the schema. Files of other names may lie in
/// any directory and get neither. Returns what was written.
fn write_with_schema(globals: &Globals, target: Option<&Path>, text: String) -> Result<String, Failure> {
    let Some(file) = target.filter(|target| target.file_name().is_some_and(|name| name == "procfile.toml")) else {
        write(globals, target, &text)?;
        return Ok(text);
    };
    let text = format!("#:schema {}/{}\n{text}", runtime_dir::STATE, procfile_schema::FILE);
    write(globals, target, &text)?;
    write_schema(file.parent().unwrap_or(Path::new(".")))?;
    Ok(text)
}

/// Writes the JSON Schema into the state directory of the project at `root`.
fn write_schema(root: &Path) -> Result<(), Failure> {
    procfile_schema::write(&runtime_dir::locate(root, "", None, &load::environment())?)
}

/// Says what `check` will say: a compose file can be wrong in ways that a procfile only shows.
fn checked(globals: &Globals, root: &Path, target: Option<&Path>, text: &str) {
    let path = target.map_or_else(|| root.join("procfile.toml"), Path::to_path_buf);
    let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let Some(target) = target else {
        let source = Source { name: name.clone(), path, text: text.to_owned() };
        let options = Options { init_cache: true, ..Options::default() };
        if let Err(report) = devrun_config::read(&[source], &options, &RecipeRegistry::new()) {
            say(report.render(false).trim_end());
            say(format!("cannot use {name} yet: {}", report.summary()));
        }
        return;
    };
    match check_written(globals, target) {
        Ok(()) => say(format!("{name} is written: `devrun up` starts it")),
        Err(failure) => {
            if let (Some(help), false) = (&failure.help, failure.is_shown) {
                say(safe(&format!("help: {help}")));
            }
            say(safe(&format!("{name} is written, but cannot be used yet: {}", failure.reason)));
        }
    }
}

/// What `devrun check` refuses in a file that has just been written. It starts and makes nothing.
fn check_written(globals: &Globals, target: &Path) -> Result<(), Failure> {
    let named = Globals { file: vec![target.to_path_buf()], ..globals.clone() };
    let read = load::read(&named, &load::project(&named)?, &Wanted::look())?;
    MissingFiles::find(&read, &BTreeSet::new(), false).refuse_unless_built()
}

/// Writes the procfile; an existing one is kept without `--yes`, and then as `.bak`.
fn write(globals: &Globals, target: Option<&Path>, text: &str) -> Result<(), Failure> {
    let Some(target) = target else {
        return data(text.trim_end())
            .map_err(|error| Failure::new(FailureKind::Config, format!("stdout cannot be written: {error}")));
    };
    let failed = |path: &Path, error: std::io::Error| {
        Failure::new(FailureKind::Config, format!("{} cannot be written: {error}", path.display()))
            .help("check its directory, or choose another file: -o FILE")
    };
    if target.exists() {
        if !globals.yes {
            return Err(Failure::new(
                FailureKind::Config,
                format!("{} is there already and was left as it is", target.display()),
            )
            .help("--yes replaces it and keeps it as .bak; -o FILE writes elsewhere; -o - shows it"));
        }
        let backup = PathBuf::from(format!("{}.bak", target.display()));
        fs::copy(target, &backup).map_err(|error| failed(&backup, error))?;
        say(format!("{} is kept as {}", target.display(), backup.display()));
    }
    runtime_dir::replace(target, text.as_bytes()).map_err(|error| failed(target, error))?;
    // A procfile is read by colleagues and tools; it holds references, not secrets of ours.
    let open = std::os::unix::fs::PermissionsExt::from_mode(0o644);
    fs::set_permissions(target, open).map_err(|error| failed(target, error))
}

/// `devrun init`.
///
/// # Errors
/// `Config`: a procfile is there and may not be replaced.
pub fn init(globals: &Globals, args: &InitArgs) -> Result<i32, Failure> {
    let base = base(globals)?;
    if let Some(compose) = COMPOSE.iter().map(|name| base.join(name)).find(|path| path.is_file()) {
        let output = args.output.clone().unwrap_or_else(|| base.join("procfile.toml"));
        return import(globals, &base, &[compose], Some(&output), false);
    }
    let found = look_around(&base);
    let text = devrun_convert::draft(&found, &format!("{}/{}", runtime_dir::STATE, procfile_schema::FILE));
    let target = match args.output.as_deref() {
        Some(path) if path == Path::new("-") => None,
        Some(path) => Some(base.join(path)),
        None => Some(base.join("procfile.toml")),
    };
    write(globals, target.as_deref(), &text)?;
    if let Some(target) = &target {
        write_schema(target.parent().unwrap_or(&base))?;
    }
    for script in found.scripts() {
        let from = if script.dir.is_empty() { script.from } else { format!("{}/{}", script.dir, script.from) };
        say(format!("{}: {} (from {from})", script.name, script.run));
        if let Some(fault) = script.fault {
            say(format!("{}: {fault}", script.name));
        }
    }
    for missing in found.missing_modules() {
        say(format!("{missing}; the procfile has the command as a comment"));
    }
    for recipe in found.recipes() {
        say(format!("{recipe}: a recipe, {}", found.evidence(&recipe)));
    }
    if found.scripts().is_empty() && found.recipes().is_empty() {
        say("nothing was found here that starts by itself: `app` in the procfile is an example, put your command into it");
    }
    let ignored = regular_file::read_linked(&base.join(".gitignore")).unwrap_or_default();
    let ignored = String::from_utf8_lossy(&ignored);
    let is_ignored = |entry: &String| ignored.lines().any(|line| line.trim().trim_matches('/') == entry.trim_matches('/'));
    let open: Vec<String> = found.to_ignore().into_iter().filter(|entry| !is_ignored(entry)).collect();
    if !open.is_empty() {
        say(format!("add to .gitignore: {} (.devrun/ ignores itself)", open.join(" ")));
    }
    checked(globals, &base, target.as_deref(), &text);
    Ok(exit::DONE)
}

/// The project's directory, one level below it, and where databases are usually set up. What cannot be read is no hint; a
/// `.env` may be the directory of a Python environment.
fn look_around(base: &Path) -> FoundProgram {
    let mut found = FoundProgram::default();
    let below = fs::read_dir(base).into_iter().flatten().flatten().filter_map(|entry| entry.file_name().into_string().ok());
    let mut dirs: Vec<String> = below.filter(|name| devrun_convert::may_hold_source(name) && base.join(name).is_dir()).collect();
    dirs.sort();
    dirs.insert(0, String::new());
    for dir in &dirs {
        for name in devrun_convert::LOOKED_AT {
            match trusted_file::read_untrusted(&base.join(dir).join(name)) {
                Ok(Some(text)) => {
                    let named = if *name == "package.json" { devrun_convert::named_files(&text) } else { Vec::new() };
                    for file in named {
                        if let Ok(Some(text)) = trusted_file::read_untrusted(&base.join(dir).join(&file)) {
                            found.look(dir, &file, &text);
                        }
                    }
                    found.look(dir, name, &text);
                }
                // Of a lock file it counts that it is there; some are large, or not text.
                Err(_) if name.contains("lock") => found.look(dir, name, ""),
                Ok(None) | Err(_) => {}
            }
        }
        for (before, file) in devrun_convert::LOOKED_BELOW {
            let entries = fs::read_dir(base.join(dir).join(before)).into_iter().flatten().flatten();
            let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
            for name in names.filter(|name| devrun_convert::may_hold_source(name)).take(MAX_LOOKED_BELOW) {
                let path = Path::new(before).join(name).join(file);
                if let (Ok(Some(text)), Some(path)) = (trusted_file::read_untrusted(&base.join(dir).join(&path)), path.to_str()) {
                    found.look(dir, path, &text);
                }
            }
        }
    }
    let is_sql = |name: String| name.ends_with(".sql") || name.ends_with(".sql.gz");
    let has_sql = |dir: &&&str| {
        let entries = fs::read_dir(base.join(dir)).into_iter().flatten().flatten();
        entries.filter_map(|entry| entry.file_name().into_string().ok()).any(is_sql)
    };
    let mut dirs: Vec<&str> = devrun_convert::SQL_DIRS.iter().filter(has_sql).copied().collect();
    if dirs.is_empty() {
        dirs.extend(devrun_convert::PLAIN_SQL_DIRS.iter().find(has_sql));
    }
    dirs.into_iter().for_each(|dir| found.sql(dir));
    found
}
