//! `devrun snapshot`: the data of a whole stack at one moment, kept under a name and brought back.

use std::collections::{BTreeMap, BTreeSet};

use clap::{Args, Subcommand};
use serde::Serialize;

use crate::app::confirm;
use crate::app::data::interruptible_work::DataWork;
use crate::app::data::{counts, pause, recovery, replace, selection};
use crate::app::disk_usage;
use crate::app::load::{self, Project, Read, Wanted};
use crate::app::readonly;
use crate::app::stop_stack;
use crate::globals::Globals;
use crate::ui::step_line::StepLine;
use crate::ui::table;
use crate::ui::term::{Progress, Term, say};
use devrun_data::{GitHead, SnapshotManifest, SnapshotStage, SnapshotStore, check_name, copy_tree, free_bytes, tree_bytes};
use devrun_model::{ByteSize, Failure, FailureKind, Health, ServiceSpec, State, StopPurpose, VolumeSpec, duration, exit};
use devrun_runtime::secrets;

// `snapshot`.
#[derive(Debug, Args)]
pub struct SnapshotArgs {
    /// Action
    #[command(subcommand)]
    pub action: SnapshotAction,
}

// What to do with snapshots.
#[derive(Debug, Subcommand)]
pub enum SnapshotAction {
    /// Save all volumes, and the secrets they were made with, under a name
    #[command(
        after_help = "Works on a running stack, whose services are stopped for the copy and started again, and on a stopped one.\nWhere the file system has copy-on-write (btrfs, xfs, APFS), it takes a moment and no space.\n\nExamples:\n  devrun snapshot save before-migration\n  devrun snapshot save pg-only postgres"
    )]
    Save {
        /// Name of the snapshot
        name: String,
        /// Services whose volumes are saved [default: all]
        #[arg(value_name = "SERVICE")]
        services: Vec<String>,
        /// Output as JSON
        #[arg(long)]
        json: bool,
    },
    /// List snapshots
    #[command(after_help = "Example:\n  devrun snapshot list --json")]
    List {
        /// Output as JSON
        #[arg(long)]
        json: bool,
    },
    /// Replace the data by those of a snapshot, after confirmation
    #[command(
        after_help = "A running stack is stopped and started again. The present data are kept until the servers are ready with the new ones.\n\nExamples:\n  devrun snapshot restore before-migration\n  devrun snapshot restore before-migration --yes"
    )]
    Restore {
        /// Name of the snapshot
        #[arg(required_unless_present = "undo")]
        name: Option<String>,
        /// Put back the data that a killed restore has replaced
        #[arg(long, conflicts_with = "name")]
        undo: bool,
    },
    /// Delete snapshots
    #[command(after_help = "Example:\n  devrun snapshot rm before-migration")]
    Rm {
        /// Names of the snapshots
        #[arg(value_name = "NAME", required = true)]
        names: Vec<String>,
    },
    /// Compare two snapshots: rows of tables, keys, files
    #[command(after_help = "Example:\n  devrun snapshot diff before-migration after-migration")]
    Diff {
        /// The earlier one
        a: String,
        /// The later one
        b: String,
        /// Output as JSON
        #[arg(long)]
        json: bool,
    },
}

/// Runs it.
///
/// # Errors
/// As the contract's exit codes say.
pub fn run(globals: &Globals, args: &SnapshotArgs, term: Term) -> Result<i32, Failure> {
    let project = load::project(globals)?;
    match &args.action {
        SnapshotAction::Save { name, services, json } => save(globals, &project, name, services, *json, term),
        SnapshotAction::List { json } => list(&project, *json),
        SnapshotAction::Restore { undo: true, .. } => replace::undo(&project).map(|()| exit::DONE),
        SnapshotAction::Restore { name, .. } => restore(globals, &project, name.as_deref().unwrap_or_default(), term),
        SnapshotAction::Rm { names } => remove(&project, names),
        SnapshotAction::Diff { a, b, json } => diff(&project, a, b, *json),
    }
}

fn save(globals: &Globals, project: &Project, name: &str, services: &[String], json: bool, term: Term) -> Result<i32, Failure> {
    check_name(name)?;
    recovery::finish(project)?;
    let read = load::read(globals, project, &Wanted { named: services.to_vec(), ..Wanted::act() })?;
    let plan = &read.plan;
    let volumes: Vec<&VolumeSpec> =
        selection::volumes(plan, services)?.into_iter().filter(|volume| selection::holds_data(volume)).collect();
    if volumes.is_empty() {
        return Err(Failure::new(FailureKind::Config, "no volume holds any data yet").help("devrun volumes; devrun up -d"));
    }
    let work = DataWork::begin()?;
    take(globals, project, name, &read, &volumes, &work, (json, term)).or_else(|failure| work.ended_by(failure))
}

/// Takes it. A signal ends it as `Cancelled`.
fn take(
    globals: &Globals,
    project: &Project,
    name: &str,
    read: &Read,
    volumes: &[&VolumeSpec],
    work: &DataWork,
    (json, term): (bool, Term),
) -> Result<i32, Failure> {
    let plan = &read.plan;
    devrun_runtime::runtime_dir::prepare(&project.places)?;
    let store = SnapshotStore::open(&project.places.state)?;
    let stage = store.stage(name)?;
    enough_room(&store, volumes)?;
    let mut manifest = SnapshotManifest::new(name, plan.project.as_str());
    manifest.instance.clone_from(&project.instance);
    manifest.mode.clone_from(&plan.mode);
    manifest.git = GitHead::of(&project.root);
    manifest.running = load::is_running(&project.places)?;
    let mut code = exit::DONE;
    if manifest.running {
        let snapshot = work.runtime.block_on(crate::app::snapshot::snapshot(globals, project))?;
        manifest.services = selection::services(plan, &snapshot);
        let ready = |spec: &ServiceSpec| {
            let status = snapshot.services.iter().find(|status| status.name == spec.id.as_str());
            status.is_some_and(|status| status.state == State::Running && status.health != Health::Starting)
        };
        manifest.counts = work.runtime.block_on(counts::of(plan, ready));
        let names = volumes.iter().map(|volume| volume.name.clone()).collect();
        let line = StepLine::new(term, format!("snapshot {name}"));
        line.step("stopping services");
        let pause = work.runtime.block_on(pause::pause(project, plan, &names, StopPurpose::SnapshotSave, &work.cancel))?;
        line.step("copying");
        let copied = copy(read, volumes, &stage, &mut manifest, work).and_then(|secrets| {
            work.runtime.block_on(pause.check_undisturbed())?;
            Ok(secrets)
        });
        let secrets = match copied {
            Ok(secrets) => secrets,
            Err(failure) => return Err(work.runtime.block_on(pause.give_up(failure))),
        };
        // The servers are back before the snapshot is made durable: the copy does not change any more.
        line.step("starting services");
        let (started, pause) = work.runtime.block_on(pause.resume(term))?;
        add_secrets(&stage, &mut manifest, &secrets)?;
        code = started;
        manifest.pause_ms = Some(u64::try_from(pause.as_millis()).unwrap_or(u64::MAX));
    } else {
        let _alone = stop_stack::keep_others_out(&project.places)?;
        replace::check_nothing_left(project)?;
        let last = devrun_runtime::engine::state_files::last_snapshot(&project.places);
        manifest.services = last.map(|last| selection::services(plan, &last)).unwrap_or_default();
        let secrets = copy(read, volumes, &stage, &mut manifest, work)?;
        add_secrets(&stage, &mut manifest, &secrets)?;
    }
    let plan_text = serde_json::to_vec(plan.as_ref())
        .map_err(|error| Failure::new(FailureKind::Internal, format!("the plan cannot be written: {error}")))?;
    stage.add_plan(&plan_text)?;
    stage.commit(&manifest)?;
    if json {
        readonly::json(&manifest)?;
    } else if term.progress != Progress::Quiet {
        say(summary(&manifest));
    }
    Ok(code)
}

fn summary(manifest: &SnapshotManifest) -> String {
    let count = manifest.volumes.len();
    let volumes = if count == 1 { "1 volume".to_owned() } else { format!("{count} volumes") };
    let how = if manifest.cloned {
        "shared with the volumes by copy-on-write"
    } else {
        "copied, as the file system has no copy-on-write"
    };
    let pause = manifest
        .pause_ms
        .map(|ms| format!("; services were stopped for {}", duration::human(std::time::Duration::from_millis(ms))));
    format!("snapshot {} saved: {volumes}, {} {how}{}", manifest.name, ByteSize(manifest.bytes()), pause.unwrap_or_default())
}

/// Before anything is stopped: where every byte has to be copied, it must fit.
fn enough_room(store: &SnapshotStore, volumes: &[&VolumeSpec]) -> Result<(), Failure> {
    let mut needed = 0;
    for volume in volumes {
        needed += tree_bytes(&volume.path)?.1;
    }
    let root = store.path("");
    let free = free_bytes(&root)?;
    if needed < free || volumes.iter().all(|volume| devrun_data::can_clone(&volume.path, &root)) {
        return Ok(());
    }
    let reason = format!("the snapshot needs {}, and {} has {} left", ByteSize(needed), root.display(), ByteSize(free));
    Err(Failure::new(FailureKind::Task, reason)
        .help("devrun snapshot rm NAME makes room; devrun df shows what the project takes"))
}

/// Copies the volumes; the secrets that belong to them, by name.
fn copy(
    read: &Read,
    volumes: &[&VolumeSpec],
    stage: &SnapshotStage<'_>,
    manifest: &mut SnapshotManifest,
    work: &DataWork,
) -> Result<Vec<(String, String)>, Failure> {
    manifest.cloned = true;
    for volume in volumes {
        let own = |name: &std::ffi::OsStr| name.to_string_lossy().starts_with(".devrun-restore-") || name == "lost+found";
        let report = copy_tree(&volume.path, &stage.volume(volume.name.as_str()), &own, &work.cancel)?;
        manifest.cloned &= report.is_cloned() || report.files == 0;
        manifest.volumes.push(selection::described(&read.plan, volume, report.files, report.bytes));
    }
    let wants = read.required_values()?;
    let mut found = Vec::new();
    for want in &wants.secrets {
        if let Some(value) = secrets::read(&wants.secrets_dir, &want.name)? {
            found.push((want.name.clone(), value));
        }
    }
    Ok(found)
}

fn add_secrets(stage: &SnapshotStage<'_>, manifest: &mut SnapshotManifest, secrets: &[(String, String)]) -> Result<(), Failure> {
    for (name, value) in secrets {
        stage.add_secret(name, value)?;
        manifest.secrets.push(name.clone());
    }
    Ok(())
}

#[derive(Serialize)]
struct Row {
    name: String,
    made_at: Option<String>,
    age_ms: Option<u64>,
    bytes: u64,
    exclusive_bytes: Option<u64>,
    branch: Option<String>,
    commit: Option<String>,
    mode: Option<String>,
    running: bool,
    pause_ms: Option<u64>,
    cloned: bool,
    volumes: Vec<String>,
    versions: BTreeMap<String, String>,
    error: Option<String>,
}

fn list(project: &Project, json: bool) -> Result<i32, Failure> {
    let store = SnapshotStore::look(&project.places.state);
    let rows: Vec<Row> = store.list().into_iter().map(|(name, manifest)| row(&store, name, manifest)).collect();
    if json {
        return readonly::json(&rows);
    }
    if rows.is_empty() {
        say("no snapshots yet; devrun snapshot save NAME makes one");
        return Ok(exit::DONE);
    }
    let dash = || "-".to_owned();
    let cells: Vec<Vec<String>> = rows
        .into_iter()
        .map(|row| {
            if let Some(error) = row.error {
                return vec![row.name, error];
            }
            let age = row.age_ms.map_or_else(dash, |ms| duration::human(std::time::Duration::from_millis(ms)));
            let versions: Vec<String> = row.versions.iter().map(|(recipe, version)| format!("{recipe} {version}")).collect();
            vec![
                row.name,
                ByteSize(row.bytes).to_string(),
                row.exclusive_bytes.map_or_else(dash, |bytes| ByteSize(bytes).to_string()),
                age,
                row.branch.or(row.commit.map(|commit| commit.chars().take(9).collect())).unwrap_or_else(dash),
                row.mode.unwrap_or_else(dash),
                if versions.is_empty() { dash() } else { versions.join(", ") },
                row.volumes.join(" "),
            ]
        })
        .collect();
    let head = ["SNAPSHOT", "SIZE", "EXCLUSIVE", "AGE", "BRANCH", "MODE", "MADE BY", "VOLUMES"];
    Ok(readonly::text(&table::render(&head, &cells)))
}

fn row(store: &SnapshotStore, name: String, manifest: Result<SnapshotManifest, Failure>) -> Row {
    let manifest = match manifest {
        Ok(manifest) => manifest,
        Err(failure) => {
            return Row {
                bytes: disk_usage::size(&store.path(&name)),
                name,
                made_at: None,
                age_ms: None,
                exclusive_bytes: None,
                branch: None,
                commit: None,
                mode: None,
                running: false,
                pause_ms: None,
                cloned: false,
                volumes: Vec::new(),
                versions: BTreeMap::new(),
                error: Some(failure.reason),
            };
        }
    };
    let age = manifest.made_at.parse::<jiff::Timestamp>().ok().map(|made| jiff::Timestamp::now().duration_since(made));
    let engines = manifest.volumes.iter().filter_map(|volume| volume.engine.clone());
    Row {
        // What is shared with a volume is not known block by block; a plain copy shares nothing.
        // Directories and manifest take blocks too, and are no part of SIZE.
        exclusive_bytes: (!manifest.cloned).then(|| disk_usage::size(&store.path(&name)).min(manifest.bytes())),
        bytes: manifest.bytes(),
        age_ms: age.and_then(|age| u64::try_from(age.as_millis()).ok()),
        branch: manifest.git.as_ref().and_then(|git| git.branch.clone()),
        commit: manifest.git.as_ref().and_then(|git| git.commit.clone()),
        mode: manifest.mode.clone(),
        running: manifest.running,
        pause_ms: manifest.pause_ms,
        cloned: manifest.cloned,
        volumes: manifest.volumes.iter().map(|volume| volume.name.clone()).collect(),
        versions: engines.map(|engine| (engine.recipe, engine.version)).collect(),
        made_at: Some(manifest.made_at),
        name,
        error: None,
    }
}

fn restore(globals: &Globals, project: &Project, name: &str, term: Term) -> Result<i32, Failure> {
    recovery::finish(project)?;
    let store = SnapshotStore::look(&project.places.state);
    let manifest = store.read(name)?;
    let read = load::read(globals, project, &Wanted::act())?;
    let plan = &read.plan;
    if manifest.mode != plan.mode {
        let mode = |mode: &Option<String>| mode.as_ref().map_or_else(|| "no mode".to_owned(), |mode| format!("mode {mode}"));
        let reason = format!("snapshot {name} holds data of {}, and {} is in force", mode(&manifest.mode), mode(&plan.mode));
        let option = manifest.mode.as_deref().unwrap_or_default();
        return Err(Failure::new(FailureKind::Config, reason).help(format!("devrun --mode '{option}' snapshot restore {name}")));
    }
    let mut chosen = Vec::new();
    for saved in &manifest.volumes {
        match plan.volumes.values().find(|volume| volume.name.as_str() == saved.name) {
            Some(volume) => chosen.push((volume, saved)),
            None => say(format!("volume {} of the snapshot is left out: the procfile does not have it", saved.name)),
        }
    }
    if chosen.is_empty() {
        return Err(Failure::new(FailureKind::Config, format!("the procfile has none of the volumes of snapshot {name}"))
            .help("devrun volumes"));
    }
    for (volume, saved) in &chosen {
        if let Some(engine) = &saved.engine {
            selection::same_major(project, plan, volume, engine, &format!("snapshot {name}"))?;
        }
    }
    let wants = read.required_values()?;
    let known = |secret: &&String| wants.secrets.iter().any(|want| want.name == **secret);
    let mut secrets = Vec::new();
    for secret in manifest.secrets.iter().filter(known) {
        let path = store.secret(name, secret);
        let value = std::fs::read(&path)
            .map_err(|error| Failure::new(FailureKind::Integrity, format!("cannot read {}: {error}", path.display())))?;
        secrets.push((secret.clone(), value));
    }
    for (_, saved) in &chosen {
        let (files, bytes) = tree_bytes(&store.volume(name, &saved.name))?;
        if (files, bytes) != (saved.files, saved.bytes) {
            return Err(Failure::new(
                FailureKind::Integrity,
                format!(
                    "snapshot {name}: volume {} has {files} files of {}, and {} of {} were saved",
                    saved.name,
                    ByteSize(bytes),
                    saved.files,
                    ByteSize(saved.bytes)
                ),
            )
            .help("it was changed since; nothing was restored"));
        }
    }
    let names: Vec<&str> = chosen.iter().map(|(volume, _)| volume.name.as_str()).collect();
    let running = if load::is_running(&project.places)? { "; the stack is stopped and started again" } else { "" };
    let question = format!(
        "restoring snapshot {name} replaces the data of {}{}{running}",
        names.join(", "),
        if secrets.is_empty() { String::new() } else { format!(" and the secrets {}", manifest.secrets.join(", ")) },
    );
    if !confirm::ask(&question, &format!("devrun snapshot restore {name}"), globals, term)? {
        return Ok(exit::DONE);
    }
    // No one may remove it meanwhile.
    devrun_runtime::runtime_dir::prepare(&project.places)?;
    let store = SnapshotStore::open(&project.places.state)?;
    let volumes: BTreeSet<_> = chosen.iter().map(|(volume, _)| volume.name.clone()).collect();
    let begun = std::time::Instant::now();
    let replacement = replace::Replacement { globals, project, plan, what: format!("snapshot {name}"), volumes, term };
    let code = replacement.run(|stage| {
        let cancel = devrun_data::CopyCancel::default();
        for (volume, saved) in &chosen {
            let from = store.volume(name, &saved.name);
            let to = stage.add_volume(&volume.path, Some(&from))?;
            copy_tree(&from, &to, &|_| false, &cancel)?;
        }
        stage.add_secrets(&wants.secrets_dir, &secrets)
    })?;
    if code == exit::DONE && term.progress != Progress::Quiet {
        say(format!("snapshot {name} restored in {}", duration::human(begun.elapsed())));
    }
    Ok(code)
}

fn remove(project: &Project, names: &[String]) -> Result<i32, Failure> {
    names.iter().try_for_each(|name| check_name(name))?;
    // With nothing there, nothing is made.
    let look = SnapshotStore::look(&project.places.state);
    if let Some(missing) = names.iter().find(|name| !look.exists(name)) {
        look.read(missing)?;
    }
    let store = SnapshotStore::open(&project.places.state)?;
    for name in names {
        store.remove(name)?;
        say(format!("snapshot {name} removed"));
    }
    Ok(exit::DONE)
}

#[derive(Serialize)]
struct Difference {
    store: String,
    what: String,
    a: Option<u64>,
    b: Option<u64>,
}

fn diff(project: &Project, a: &str, b: &str, json: bool) -> Result<i32, Failure> {
    let store = SnapshotStore::look(&project.places.state);
    let (one, other) = (store.read(a)?, store.read(b)?);
    let rows = differences(&one, &other);
    if json {
        return readonly::json(&rows);
    }
    if rows.is_empty() {
        say(format!("{a} and {b} hold the same numbers of rows, keys, files and bytes"));
        return Ok(exit::DONE);
    }
    let number = |value: Option<u64>| value.map_or_else(|| "-".to_owned(), |value| value.to_string());
    let change = |row: &Difference| match (row.a, row.b) {
        (Some(a), Some(b)) => format!("{:+}", i128::from(b) - i128::from(a)),
        (None, _) => "new".to_owned(),
        (_, None) => "gone".to_owned(),
    };
    let cells: Vec<Vec<String>> =
        rows.iter().map(|row| vec![row.store.clone(), row.what.clone(), number(row.a), number(row.b), change(row)]).collect();
    Ok(readonly::text(&table::render(&["STORE", "WHAT", a, b, "CHANGE"], &cells)))
}

fn differences(one: &SnapshotManifest, other: &SnapshotManifest) -> Vec<Difference> {
    let numbers = |manifest: &SnapshotManifest| {
        let mut all = BTreeMap::new();
        for (service, counts) in &manifest.counts {
            for (what, count) in counts {
                all.insert((service.clone(), what.clone()), *count);
            }
        }
        for volume in &manifest.volumes {
            all.insert((format!("volume {}", volume.name), "files".to_owned()), volume.files);
            all.insert((format!("volume {}", volume.name), "bytes".to_owned()), volume.bytes);
        }
        all
    };
    let (one, other) = (numbers(one), numbers(other));
    let keys: BTreeSet<_> = one.keys().chain(other.keys()).collect();
    keys.into_iter()
        .filter(|key| one.get(*key) != other.get(*key))
        .map(|key| Difference { store: key.0.clone(), what: key.1.clone(), a: one.get(key).copied(), b: other.get(key).copied() })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_difference_names_the_store_and_what_came_and_went() {
        let (mut a, mut b) = (SnapshotManifest::new("a", "shop"), SnapshotManifest::new("b", "shop"));
        let counts = |pairs: &[(&str, u64)]| pairs.iter().map(|(name, count)| ((*name).to_owned(), *count)).collect();
        a.counts.insert("pg".to_owned(), counts(&[("public.orders", 3), ("public.old", 1), ("public.same", 5)]));
        b.counts.insert("pg".to_owned(), counts(&[("public.orders", 7), ("public.new", 2), ("public.same", 5)]));
        let rows: Vec<_> = differences(&a, &b).into_iter().map(|row| (row.what, row.a, row.b)).collect();
        assert_eq!(
            rows,
            [
                ("public.new".to_owned(), None, Some(2)),
                ("public.old".to_owned(), Some(1), None),
                ("public.orders".to_owned(), Some(3), Some(7)),
            ]
        );
        assert!(differences(&a, &a).is_empty());
    }

    #[test]
    fn the_summary_says_how_long_services_were_stopped() {
        let mut manifest = SnapshotManifest::new("one", "shop");
        assert_eq!(summary(&manifest), "snapshot one saved: 0 volumes, 0B copied, as the file system has no copy-on-write");
        (manifest.cloned, manifest.pause_ms) = (true, Some(900));
        assert!(summary(&manifest).ends_with("by copy-on-write; services were stopped for 0.9s"), "{}", summary(&manifest));
    }
}
