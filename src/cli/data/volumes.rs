//! `devrun volumes`, `df` and `clean`: what lies on disk, how much, and what of it goes.
//!
//! `clean` deletes what this program has made and nothing else: volumes without a path of their own, generated secrets,
//! logs and journal. A volume that the procfile has placed goes only when it is named, a source never.

use std::path::{Path, PathBuf};

use clap::Args;
use serde::Serialize;

use crate::ui::table;
use crate::ui::term::{Term, say};
use devrun_model::exit;
use devrun_model::{ByteSize, Failure, FailureKind, VolumeClass};
use devrun_runtime::init;

use crate::app::data::{backup_stage, branch_name};
use crate::app::deletion;
use crate::app::disk_usage;
use crate::app::load::{self, Wanted};
use crate::app::other_data;
use crate::app::readonly;
use crate::cli::table_args::TableHabits;
use crate::globals::Globals;

// `volumes`.
#[derive(Debug, Args)]
pub struct VolumesArgs {
    /// `adopt NAME`: take over existing data after checking it
    #[arg(value_name = "adopt NAME", num_args = 0..=2)]
    pub action: Vec<String>,
    /// Output as JSON
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    pub compose: TableHabits,
    /// Print only names
    #[arg(short = 'q', long)]
    pub quiet: bool,
}

// `clean`.
#[derive(Debug, Args)]
pub struct CleanArgs {
    /// Delete only this: cache, persistent, scratch, secrets, logs, or a volume name
    #[arg(long, value_name = "CLASS|VOLUME")]
    pub only: Option<String>,
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
                let once = spec.task.as_ref().and_then(|task| task.once.as_ref());
                let names = spec.data.iter().chain(&spec.volumes).chain(once.map(|once| &once.volume));
                names.into_iter().any(|name| *name == volume.name)
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
                class: deletion::word(volume.class),
                path: volume.path.clone(),
                exists: volume.path.exists(),
                bytes: disk_usage::size(&volume.path),
                services: plan.services.values().filter(uses).map(|spec| spec.id.to_string()).collect(),
            }
        })
        .collect();
    if args.quiet {
        return Ok(readonly::text(&volumes.iter().map(|volume| format!("{}\n", volume.name)).collect::<String>()));
    }
    if args.json || args.compose.is_json() {
        return readonly::json(&volumes);
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
    Ok(readonly::text(&table::render(&["VOLUME", "CLASS", "SIZE", "MADE BY", "ON", "USED BY", "DIRECTORY"], &rows)))
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
        return Err(Failure::new(FailureKind::Config, format!("unknown volume {name:?}"))
            .help(format!("the procfile has: {}", known.join(", "))));
    };
    let service = plan.services.values().find(|spec| spec.data.as_ref() == Some(&volume.name));
    let Some((spec, recipe)) = service.and_then(|spec| Some((spec, recipe_of(spec)?))) else {
        return Err(Failure::new(
            FailureKind::Config,
            format!("no recipe keeps its data in {name}, so there is nothing to take over"),
        )
        .help("services with `run` use a directory as it is"));
    };
    let options = load::fetch_options(&project, true, None, std::sync::Arc::new(devrun_store::NoDownloadProgress));
    let located = crate::app::runtime::runtime()?.block_on(devrun_store::locate(recipe, &options))?;
    match devrun_runtime::recipes::adopt(volume, recipe, &located.version)? {
        init::Adoption::Ours => say(format!("{name} is devrun's own already")),
        init::Adoption::From(place) => {
            say(format!("{name}: the data of {} in {} is taken over", recipe.recipe.name, place.display()));
            if recipe.recipe.wants_password && recipe.recipe.password_file.is_none() {
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
struct DiskUsage {
    what: String,
    bytes: u64,
    path: PathBuf,
}

/// `devrun df`.
///
/// # Errors
/// `Config` for a procfile with errors.
pub fn df(globals: &Globals, args: &crate::cli::table_args::TableArgs, _term: Term) -> Result<i32, Failure> {
    let project = load::project(globals)?;
    let read = load::read(globals, &project, &Wanted::look())?;
    let plan = &read.plan;
    let row = |what: String, path: PathBuf| DiskUsage { bytes: disk_usage::size(&path), what, path };
    let mut rows: Vec<DiskUsage> = plan
        .volumes
        .values()
        .filter(|volume| volume.class != VolumeClass::Source)
        .map(|volume| row(format!("volume {}", volume.name), volume.path.clone()))
        .collect();
    rows.extend(other_data::of(&project, &read).into_iter().map(|other| row(other.of, other.path)));
    rows.push(row("logs".to_owned(), project.places.logs()));
    rows.push(row("branches".to_owned(), branch_name::root(&project.places.state)));
    rows.push(row("snapshots".to_owned(), project.places.state.join("snapshots")));
    rows.push(row("backups".to_owned(), project.places.state.join("backups")));
    rows.push(row("runtime directory".to_owned(), project.places.run.clone()));
    rows.push(row(
        "binaries".to_owned(),
        devrun_store::store_folder(&project.root, &project.env, nix::unistd::geteuid().is_root()),
    ));
    rows.retain(|row| row.path.exists());
    if args.json {
        return readonly::json(&rows);
    }
    let cells: Vec<Vec<String>> =
        rows.iter().map(|row| vec![row.what.clone(), ByteSize(row.bytes).to_string(), row.path.display().to_string()]).collect();
    Ok(readonly::text(&table::render(&["WHAT", "SIZE", "WHERE"], &cells)))
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
    let doomed = deletion::doomed(&project, &read, args.only.as_deref())?;
    let is_agreed = deletion::agreed(&doomed, "devrun clean", globals, term)?;
    if is_agreed {
        deletion::delete(&project, &doomed)?;
    }
    if is_agreed || doomed.is_empty() {
        // Where `devrun backup` and `devrun down --backup` write.
        let backups = project.places.state.join("backups");
        [Path::new("."), project.root.as_path(), backups.as_path()].into_iter().for_each(backup_stage::remove_abandoned);
    }
    let is_named = |class| args.only.as_deref().is_none_or(|only| only == deletion::word(class));
    deletion::say_placed_kept(&read, is_named);
    if args.only.is_none() {
        other_data::say_kept(&project, &read);
        other_data::say_secrets_kept(&project, &read);
    }
    Ok(exit::DONE)
}
