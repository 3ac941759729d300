//! Deletes what a project keeps: `clean`, `up --clean`, `down --volumes` and scratch volumes, by one implementation.

use std::fs;
use std::io::{BufRead as _, Write as _};
use std::path::{Path, PathBuf};

use crate::ui::table;
use crate::ui::term::{Term, say};
use devrun_keeper::leftover_sweep;
use devrun_model::{ByteSize, Failure, FailureKind, Paths, VolumeClass};
use devrun_runtime::{removal, runtime_dir, secrets};

use crate::app::disk_usage;
use crate::app::load::{Project, Read};
use crate::app::other_data;
use crate::app::shared_server::leases;
use crate::globals::Globals;

/// Before the name of a service that has its data on a server of all checkouts.
const SHARED: &str = "database of ";

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
    let journal = devrun_keeper::project_journal::of_project(&project.places).unwrap_or_default();
    if let Some(left) = leftover_sweep::leftovers(&journal, &project.places).first() {
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
            found.push(Doomed { what, bytes: disk_usage::size(&path), path });
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
    if asked("persistent") {
        for (service, file) in leases::of_project(project, &read.document, &read.facts)? {
            add(format!("{SHARED}{service} on the shared server"), file);
        }
    }
    // What is kept was made with them; only who names them deletes them all the same.
    if asked("secrets") && (only.is_some() || !other_data::is_kept(project, read)) {
        let wants = read.required_values()?;
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
            let file = crate::app::generated_env::place(&paths, places, &project.instance);
            if crate::app::generated_env::is_ours(&file) {
                add("generated env file".to_owned(), file);
            }
        }
        for (what, path) in [
            ("journal", places.journal()),
            ("last state", places.last_state()),
            ("remembered stops", places.intents()),
            ("runtime directory", places.run.clone()),
        ] {
            add(what.to_owned(), path);
        }
    }
    if let Some(only) = only
        && !["cache", "persistent", "scratch", "secrets", "logs"].contains(&only)
        && !read.plan.volumes.keys().any(|name| name.as_str() == only)
    {
        let known: Vec<&str> = read.plan.volumes.keys().map(devrun_model::VolumeName::as_str).collect();
        return Err(Failure::new(FailureKind::Config, format!("unknown volume or class {only:?}")).help(format!(
            "classes: cache, persistent, scratch, secrets, logs; volumes: {}",
            if known.is_empty() { "none".to_owned() } else { known.join(", ") }
        )));
    }
    Ok(found)
}

/// Says which volumes a deletion keeps, as they lie where the procfile says; `deletes` tells which classes it is about.
pub fn say_placed_kept(read: &Read, deletes: impl Fn(VolumeClass) -> bool) {
    for volume in read.plan.volumes.values() {
        let is_kept = volume.placed && volume.class != VolumeClass::Source && deletes(volume.class);
        if is_kept && volume.path.symlink_metadata().is_ok() {
            let (class, name, path) = (word(volume.class), &volume.name, volume.path.display());
            say(format!(
                "kept: {class} volume {name} ({path}), as the procfile gives its path; to delete it: devrun clean --only {name}"
            ));
        }
    }
}

/// Says what goes and how much, and asks.
///
/// `command`: what does the same without asking, but for `--yes`.
///
/// # Errors
/// `Config` where nothing can be asked.
pub fn agreed(doomed: &[Doomed], command: &str, globals: &Globals, term: Term) -> Result<bool, Failure> {
    if doomed.is_empty() {
        say("nothing to delete");
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
        return Err(Failure::new(
            FailureKind::Config,
            format!("deleting {total} needs confirmation, and stdin is not a terminal"),
        )
        .help(format!("{command} --yes")));
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
    let _alone = crate::app::stop_stack::keep_others_out(&project.places)?;
    for one in doomed {
        if one.path == project.places.run {
            runtime_dir::remove_run(&project.places).map_err(|error| cannot(&one.path, &error))?;
            continue;
        }
        if one.what.starts_with(SHARED) {
            leases::give_up(&one.path)?;
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
            // `secrets/` of `secrets/infra`, which was made with it.
            if let Some(outer) = parent.parent().filter(|outer| *outer != project.root && outer.starts_with(&project.root)) {
                let _more_in_it = fs::remove_dir(outer);
            }
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
pub fn erase(places: &Paths, path: &Path) -> Result<(), Failure> {
    // `check` refuses such a volume; one that an earlier version has accepted, or that a link leads to, is not deleted either.
    let real = path.canonicalize().unwrap_or_else(|_| path.to_owned());
    let holds = |kept: &Path| kept.starts_with(path) || kept.canonicalize().is_ok_and(|kept| kept.starts_with(&real));
    let is_link = path.symlink_metadata().is_ok_and(|meta| meta.is_symlink());
    if !is_link && (holds(&places.root) || holds(&places.state)) {
        return Err(Failure::new(FailureKind::Config, format!("{} holds the project itself: it is not deleted", path.display()))
            .help("give the volume a directory of its own in the procfile: devrun check"));
    }
    removal::remove(path, &[&places.state, &places.root]).map_err(|error| cannot(path, &error))
}

pub fn word(class: VolumeClass) -> &'static str {
    match class {
        VolumeClass::Persistent => "persistent",
        VolumeClass::Cache => "cache",
        VolumeClass::Source => "source",
        VolumeClass::Scratch => "scratch",
    }
}
