//! `devrun volumes`, `df` and `clean`: what lies on disk, how much, and what of it goes.
//!
//! `clean` deletes what this program has made and nothing else: volumes without a path of their own, generated secrets,
//! logs and journal. A volume that the procfile has placed goes only when it is named, a source never.

use std::fs;
use std::io::{BufRead, Write};
use std::path::{Path, PathBuf};

use clap::Args;
use serde::Serialize;

use crate::ui::table;
use crate::ui::term::{Term, say};
use devrun_keeper::journal;
use devrun_keeper::sweep;
use devrun_model::exit;
use devrun_model::{ByteSize, Failure, FailureKind, Paths, VolumeClass};
use devrun_runtime::{init, removal, runtime_dir, secrets};

use super::args::Globals;
use super::load::{self, Project, Read, Wanted};
use super::look;

// `volumes`.
#[derive(Debug, Args)]
pub struct VolumesArgs {
    /// `adopt NAME`: take over the data that something else has made there, after a look at it
    #[arg(value_name = "adopt NAME", num_args = 0..=2)]
    pub action: Vec<String>,
    /// JSON
    #[arg(long)]
    pub json: bool,
}

// `clean`.
#[derive(Debug, Args)]
pub struct CleanArgs {
    /// Only this: cache, persistent, scratch, secrets, logs, or a volume's name
    #[arg(long, value_name = "CLASS|VOLUME")]
    pub only: Option<String>,
}

fn word(class: VolumeClass) -> &'static str {
    match class {
        VolumeClass::Persistent => "persistent",
        VolumeClass::Cache => "cache",
        VolumeClass::Source => "source",
        VolumeClass::Scratch => "scratch",
    }
}

/// Bytes below a path as the disk counts them; links are not followed. What cannot be read counts as nothing.
#[must_use]
pub fn size(path: &Path) -> u64 {
    use std::os::unix::fs::MetadataExt;
    let Ok(meta) = fs::symlink_metadata(path) else { return 0 };
    let own = meta.blocks() * 512;
    if !meta.is_dir() {
        return own;
    }
    own + fs::read_dir(path).into_iter().flatten().flatten().map(|entry| size(&entry.path())).sum::<u64>()
}

#[derive(Serialize)]
struct Volume {
    name: String,
    class: &'static str,
    path: PathBuf,
    exists: bool,
    bytes: u64,
    services: Vec<String>,
    /// What made the data: `postgres 15`.
    engine: Option<String>,
    /// When, in RFC 3339.
    made_at: Option<String>,
}

/// `devrun volumes`.
///
/// # Errors
/// `Config` for a procfile with errors.
pub fn volumes(globals: &Globals, args: &VolumesArgs, _term: Term) -> Result<i32, Failure> {
    match args.action.as_slice() {
        [] => {}
        [action, name] if action == "adopt" => return adopt(globals, name),
        [action, ..] => {
            return Err(Failure::new(FailureKind::Config, format!("volumes {action}: it takes `adopt NAME`, or nothing"))
                .help("devrun volumes adopt NAME; devrun volumes"));
        }
    }
    let project = load::project(globals)?;
    let plan = load::plan(globals, &project, &Wanted::look())?;
    let volumes: Vec<Volume> = plan
        .volumes
        .values()
        .map(|volume| {
            let uses = |spec: &&std::sync::Arc<devrun_model::ServiceSpec>| {
                spec.data.as_ref() == Some(&volume.name) || spec.volumes.contains(&volume.name)
            };
            let recipes = plan.services.values().filter(|spec| spec.data.as_ref() == Some(&volume.name));
            let sentinel = recipes.filter_map(|spec| recipe_of(spec)).find_map(|recipe| {
                let name = recipe.recipe.name.clone();
                init::sentinel(&volume.path, &name).map(|sentinel| (name, sentinel))
            });
            Volume {
                engine: sentinel.as_ref().map(|(name, sentinel)| format!("{name} {}", sentinel.tool)),
                made_at: sentinel.map(|(_, sentinel)| sentinel.finished),
                name: volume.name.to_string(),
                class: word(volume.class),
                path: volume.path.clone(),
                exists: volume.path.exists(),
                bytes: size(&volume.path),
                services: plan.services.values().filter(uses).map(|spec| spec.id.to_string()).collect(),
            }
        })
        .collect();
    if args.json {
        return look::json(&volumes);
    }
    if volumes.is_empty() {
        say("the procfile has no volume");
        return Ok(exit::DONE);
    }
    let rows: Vec<Vec<String>> = volumes
        .into_iter()
        .map(|volume| {
            let size = if volume.exists { ByteSize(volume.bytes).to_string() } else { "-".to_owned() };
            let path = volume.path.display().to_string();
            let made = volume.made_at.map(|at| at.chars().take(10).collect()).unwrap_or_else(|| "-".to_owned());
            let engine = volume.engine.unwrap_or_else(|| "-".to_owned());
            vec![volume.name, volume.class.to_owned(), size, engine, made, volume.services.join(" "), path]
        })
        .collect();
    Ok(look::text(&table::render(&["VOLUME", "CLASS", "SIZE", "MADE BY", "ON", "USED BY", "FOLDER"], &rows)))
}

fn recipe_of(spec: &devrun_model::ServiceSpec) -> Option<&devrun_model::RecipeUse> {
    match &spec.launch {
        devrun_model::Launch::Recipe(recipe) => Some(recipe.as_ref()),
        _ => None,
    }
}

/// `devrun volumes adopt NAME`.
fn adopt(globals: &Globals, name: &str) -> Result<i32, Failure> {
    let project = load::project(globals)?;
    if load::is_running(&project.places)? {
        return Err(Failure::new(FailureKind::Elsewhere, "the stack is up").help("devrun down, then devrun volumes adopt"));
    }
    let plan = load::plan(globals, &project, &Wanted::look())?;
    let found = plan.volumes.values().find(|volume| volume.name.as_str() == name);
    let Some(volume) = found else {
        let known: Vec<&str> = plan.volumes.keys().map(devrun_model::VolumeName::as_str).collect();
        return Err(Failure::new(FailureKind::Config, format!("there is no volume {name:?}"))
            .help(format!("the procfile has: {}", known.join(", "))));
    };
    let service = plan.services.values().find(|spec| spec.data.as_ref() == Some(&volume.name));
    let Some((spec, recipe)) = service.and_then(|spec| Some((spec, recipe_of(spec)?))) else {
        return Err(Failure::new(
            FailureKind::Config,
            format!("no recipe keeps its data in {name}, so there is nothing to take over"),
        )
        .help("services with `run` use a folder as they find it"));
    };
    let options = load::fetch_options(&project, true, None, std::sync::Arc::new(devrun_store::NoProgress));
    let located = super::runtime()?.block_on(devrun_store::locate(recipe, &options))?;
    match devrun_runtime::recipes::adopt(volume, recipe, &located.version)? {
        init::Adoption::Ours => say(format!("{name} is devrun's own already")),
        init::Adoption::From(place) => {
            say(format!("{name}: the data of {} in {} is taken over", recipe.recipe.name, place.display()));
            if recipe.recipe.wants_password {
                say(format!(
                    "it keeps its users and passwords: user, password and database of {} must be those of the data",
                    spec.service
                ));
            }
        }
    }
    Ok(exit::DONE)
}

#[derive(Serialize)]
struct Taken {
    what: String,
    bytes: u64,
    path: PathBuf,
}

/// `devrun df`.
///
/// # Errors
/// `Config` for a procfile with errors.
pub fn df(globals: &Globals, args: &super::urls::TableArgs, _term: Term) -> Result<i32, Failure> {
    let project = load::project(globals)?;
    let plan = load::plan(globals, &project, &Wanted::look())?;
    let row = |what: String, path: PathBuf| Taken { bytes: size(&path), what, path };
    let mut rows: Vec<Taken> = plan
        .volumes
        .values()
        .filter(|volume| volume.class != VolumeClass::Source)
        .map(|volume| row(format!("volume {}", volume.name), volume.path.clone()))
        .collect();
    rows.push(row("logs".to_owned(), project.places.logs()));
    rows.push(row("snapshots".to_owned(), project.places.state.join("snapshots")));
    rows.push(row("runtime folder".to_owned(), project.places.run.clone()));
    rows.push(row(
        "binaries".to_owned(),
        devrun_store::store_folder(&project.root, &project.env, nix::unistd::geteuid().is_root()),
    ));
    rows.retain(|row| row.path.exists());
    if args.json {
        return look::json(&rows);
    }
    let cells: Vec<Vec<String>> =
        rows.iter().map(|row| vec![row.what.clone(), ByteSize(row.bytes).to_string(), row.path.display().to_string()]).collect();
    Ok(look::text(&table::render(&["WHAT", "SIZE", "WHERE"], &cells)))
}

/// `devrun clean`.
///
/// # Errors
/// `Elsewhere` while the stack is up, `Config` where nobody can be asked.
pub fn clean(globals: &Globals, args: &CleanArgs, term: Term) -> Result<i32, Failure> {
    let project = load::project(globals)?;
    if load::is_running(&project.places)? {
        return Err(Failure::new(FailureKind::Elsewhere, "the stack is up").help("devrun down, then devrun clean"));
    }
    let read = load::read(globals, &project, &Wanted::look())?;
    let doomed = doomed(&project, &read, args.only.as_deref())?;
    if agreed(&doomed, globals, term)? {
        delete(&project, &doomed)?;
    }
    Ok(exit::DONE)
}

/// What goes, with its size.
pub struct Doomed {
    what: String,
    path: PathBuf,
    bytes: u64,
}

/// Collects what `clean` would delete.
///
/// # Errors
/// `Config` for a name that is none, `Elsewhere` when something of the stack is left running.
pub fn doomed(project: &Project, read: &Read, only: Option<&str>) -> Result<Vec<Doomed>, Failure> {
    // One that cannot be used is deleted with the rest; locks still tell what is left.
    let journal = journal::of_project(&project.places).unwrap_or_default();
    if let Some(left) = sweep::leftovers(&journal, &project.places).first() {
        return Err(Failure::new(FailureKind::Elsewhere, format!("pid {} ({}) of the stack is left", left.pid, left.command))
            .help("devrun down ends it"));
    }
    lists(project, read, only)
}

/// As [`doomed`], whatever runs: to be shown before a stop.
///
/// # Errors
/// `Config` for a name that is none.
pub fn lists(project: &Project, read: &Read, only: Option<&str>) -> Result<Vec<Doomed>, Failure> {
    let mut found = Vec::new();
    let mut add = |what: String, path: PathBuf| {
        if path.symlink_metadata().is_ok() {
            found.push(Doomed { what, bytes: size(&path), path });
        }
    };
    let asked = |word: &str| only.is_none_or(|only| only == word);
    for volume in read.plan.volumes.values() {
        let named = only == Some(volume.name.as_str());
        if named && volume.class == VolumeClass::Source {
            return Err(Failure::new(FailureKind::Config, format!("{} is a source: it is never deleted", volume.name))
                .help(format!("delete {} yourself if you mean it", volume.path.display())));
        }
        if named || (asked(word(volume.class)) && volume.class != VolumeClass::Source && !volume.placed) {
            add(format!("{} volume {}", word(volume.class), volume.name), volume.path.clone());
        }
    }
    if asked("secrets") {
        let wants = read.wants()?;
        for want in &wants.secrets {
            add(format!("secret {}", want.name), wants.secrets_dir.join(&want.name));
            for draft in secrets::drafts(&wants.secrets_dir, &want.name) {
                add(format!("secret {} (never in force)", want.name), draft);
            }
        }
    }
    if asked("logs") {
        add("logs".to_owned(), project.places.logs());
    }
    if only.is_none() {
        let places = &project.places;
        if let Some(paths) = read.document.generated_paths() {
            let file = super::generated::place(&paths, places, &project.instance);
            if super::generated::is_ours(&file) {
                add("generated env file".to_owned(), file);
            }
        }
        for (what, path) in [
            ("journal", places.journal()),
            ("last state", places.last_state()),
            ("remembered stops", places.intents()),
            ("runtime folder", places.run.clone()),
        ] {
            add(what.to_owned(), path);
        }
    }
    if let Some(only) = only
        && !["cache", "persistent", "scratch", "secrets", "logs"].contains(&only)
        && !read.plan.volumes.keys().any(|name| name.as_str() == only)
    {
        let known: Vec<&str> = read.plan.volumes.keys().map(devrun_model::VolumeName::as_str).collect();
        return Err(Failure::new(FailureKind::Config, format!("there is no volume or class {only:?}")).help(format!(
            "classes: cache, persistent, scratch, secrets, logs; volumes: {}",
            if known.is_empty() { "none".to_owned() } else { known.join(", ") }
        )));
    }
    Ok(found)
}

/// Says what goes and how much, and asks.
///
/// # Errors
/// `Config` where there is nobody to ask.
pub fn agreed(doomed: &[Doomed], globals: &Globals, term: Term) -> Result<bool, Failure> {
    if doomed.is_empty() {
        say("there is nothing to delete");
        return Ok(false);
    }
    let rows: Vec<Vec<String>> = doomed
        .iter()
        .map(|one| vec![one.what.clone(), ByteSize(one.bytes).to_string(), one.path.display().to_string()])
        .collect();
    say(table::render(&["GOES", "SIZE", "WHERE"], &rows).trim_end());
    let total = ByteSize(doomed.iter().map(|one| one.bytes).sum());
    if globals.yes {
        return Ok(true);
    }
    if !term.interactive {
        return Err(Failure::new(FailureKind::Config, format!("{total} would be deleted, and there is nobody to ask"))
            .help("devrun clean --yes"));
    }
    let mut err = std::io::stderr().lock();
    // A terminal that is gone answers nothing, which is a no.
    let _gone = write!(err, "delete {total}? [y/N] ").and_then(|()| err.flush());
    let mut answer = String::new();
    let _gone = std::io::stdin().lock().read_line(&mut answer);
    let yes = matches!(answer.trim().to_ascii_lowercase().as_str(), "y" | "yes");
    if !yes {
        say("nothing was deleted");
    }
    Ok(yes)
}

/// Deletes it, unless a stack has begun since it was collected.
///
/// # Errors
/// `Elsewhere` then; `Config`, naming what cannot be deleted, and what came before it is gone.
pub fn delete(project: &Project, doomed: &[Doomed]) -> Result<(), Failure> {
    let _alone = super::down::keep_others_out(&project.places)?;
    for one in doomed {
        if one.path == project.places.run {
            runtime_dir::remove_run(&project.places).map_err(|error| cannot(&one.path, &error))?;
            continue;
        }
        erase(&project.places, &one.path)?;
        // The folder of secrets goes with the last of them; one that holds more stays, and so does a mount point.
        if let Some(parent) = one.path.parent().filter(|_| one.what.starts_with("secret ")) {
            let ignores_itself = parent.join(".gitignore");
            let left = fs::read_dir(parent)
                .map_or(0, |entries| entries.flatten().filter(|entry| entry.path() != ignores_itself).count());
            if left == 0 {
                let _not_there = fs::remove_file(ignores_itself);
            }
            let _more_in_it = fs::remove_dir(parent);
        }
    }
    say(format!("{} deleted", ByteSize(doomed.iter().map(|one| one.bytes).sum())));
    Ok(())
}

fn cannot(path: &Path, error: &std::io::Error) -> Failure {
    let reason = match error.raw_os_error() {
        Some(libc::ELOOP | libc::ENOTDIR) => "a symbolic link is on the way, and links are not followed".to_owned(),
        Some(libc::EXDEV) => "another file system is mounted in it".to_owned(),
        _ => error.to_string(),
    };
    Failure::new(FailureKind::Config, format!("{} cannot be deleted: {reason}", path.display()))
        .help(format!("check what lies there, and its owner: ls -la '{}'", path.parent().unwrap_or(path).display()))
}

/// Empties scratch volumes: at the end of a run, and before a start for one that was killed.
///
/// # Errors
/// `Config`, naming the folder.
pub fn scratch(places: &Paths, folders: &[PathBuf]) -> Result<(), Failure> {
    folders.iter().try_for_each(|path| erase(places, path))
}

/// Deletes what a project keeps at a path: `clean`, `down --volumes` and scratch volumes. A link goes, never what it points to,
/// and a mount point is emptied and stays.
///
/// # Errors
/// `Config`, naming the path.
pub(super) fn erase(places: &Paths, path: &Path) -> Result<(), Failure> {
    removal::remove(path, &[&places.state, &places.root]).map_err(|error| cannot(path, &error))
}
