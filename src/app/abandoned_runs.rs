//! Temporary copies (`run --ephemeral`, `run --with`, `up --ephemeral`) whose supervisor and keeper were both killed: what they left
//! running is ended, and their directories are removed, by the next start or stop in the same project. One that was killed before it had
//! started anything leaves directories only.
//!
//! Such a copy has no name, so no command could mean it. Its data were to be thrown away in any case, so it is killed at once.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use devrun_keeper::identity_check;
use devrun_keeper::journal::Journal;
use devrun_keeper::leftover_sweep::{SweepMode, SweepReport, sweep};
use devrun_keeper::lock::InstanceLock;
use devrun_keeper::project_journal;
use devrun_model::{Failure, FailureKind, Paths};
use devrun_runtime::runtime_dir;

use crate::app::load;

/// Of the directory that such a copy has for itself alone; its state is in `state` below it.
pub const PREFIX: &str = "devrun-";

/// How the name of the directory of a copy ends while it is removed.
const REMOVED: &str = "removed";

/// One that has started nothing is taken for abandoned after this time. Its directories are there before its lock is, and in between a
/// person may be asked something.
const UNSTARTED_AGE: Duration = Duration::from_secs(10 * 60);

/// One of them. No other process ends it, or takes its place, while this exists.
struct AbandonedRun {
    places: Paths,
    /// `None`: it was killed before it could start anything.
    journal: Option<Journal>,
    _lock: InstanceLock,
}

impl AbandonedRun {
    /// `None`: it runs, it is about to, its keeper is ending it, or it is not a temporary copy.
    fn take(places: Paths) -> Option<Self> {
        if !runtime_dir::is_ephemeral(&places) {
            return None;
        }
        // Asked before the lock, whose file is made where there is none.
        let is_old = is_old(&places.state);
        // One that is about to start has its directories before it has the lock, but not a journal.
        let lock = InstanceLock::take_without_pid(&places.instance_lock()).ok()?;
        let journal = project_journal::of_project(&places).ok()?;
        if journal.header.is_none() {
            return (is_old && journal.live.is_empty()).then_some(Self { places, journal: None, _lock: lock });
        }
        let is_abandoned = identity_check::supervisor_and_keeper(&journal, &places).is_empty();
        is_abandoned.then_some(Self { places, journal: Some(journal), _lock: lock })
    }

    /// Kills what is left, and removes the directories where nothing is.
    fn end(self) -> SweepReport {
        let report =
            self.journal.as_ref().map_or_else(SweepReport::default, |journal| sweep(journal, &self.places, SweepMode::Emergency));
        if report.survivors.is_empty() {
            remove_directories(&self.places);
        }
        report
    }
}

/// Removes the runtime directory of a stack that has ended, and of a temporary copy everything.
pub fn remove_directories(places: &Paths) {
    let own = own_directory(places).filter(|_| runtime_dir::is_ephemeral(places));
    // By another name whatever is left of it after a kill is known to be of no use: what names it is removed next.
    let own = own.map(|own| {
        let removed = own.with_extension(REMOVED);
        if std::fs::rename(&own, &removed).is_ok() { removed } else { own }
    });
    // What cannot be removed harms no later run; `devrun ls` shows the runtime directory.
    let _stays = runtime_dir::remove_run(places);
    let _stays = own.map(std::fs::remove_dir_all);
}

/// The directory that was made for this copy alone.
fn own_directory(places: &Paths) -> Option<PathBuf> {
    let parent = places.state.parent()?;
    let is_own = parent.file_name().and_then(OsStr::to_str).is_some_and(|name| name.starts_with(PREFIX));
    (is_own && places.state.file_name() == Some(OsStr::new("state"))).then(|| parent.to_path_buf())
}

/// Whether nothing was put into a directory for long.
fn is_old(directory: &Path) -> bool {
    let modified = std::fs::symlink_metadata(directory).and_then(|meta| meta.modified());
    modified.is_ok_and(|modified| modified.elapsed().is_ok_and(|age| age >= UNSTARTED_AGE))
}

/// Removes the directory of a copy that was killed before it had put anything into it. Not the directory of this user for runtime
/// directories, `devrun-UID`.
fn remove_empty(folder: &Path) -> bool {
    let suffix = folder.file_name().and_then(OsStr::to_str).and_then(|name| name.strip_prefix(PREFIX)).unwrap_or_default();
    suffix.parse::<u32>().is_err() && std::fs::remove_dir(folder).is_ok()
}

/// Copies of this user that were killed before they had a runtime directory that names them.
fn unstarted() -> Vec<Paths> {
    let environment = load::environment();
    let entries = std::fs::read_dir(std::env::temp_dir()).into_iter().flatten().flatten();
    let named = entries.filter(|entry| entry.file_name().to_str().is_some_and(|name| name.starts_with(PREFIX)));
    let private = named.map(|entry| entry.path()).filter(|folder| runtime_dir::is_private(folder));
    let (removed, private): (Vec<PathBuf>, Vec<PathBuf>) =
        private.partition(|folder| folder.extension() == Some(OsStr::new(REMOVED)));
    for folder in removed {
        // The command that began it may be at it still.
        let _stays = std::fs::remove_dir_all(folder);
    }
    let own = private.into_iter().filter(|folder| is_old(folder));
    let places = own
        .filter(|folder| !remove_empty(folder))
        .map(|folder| runtime_dir::places_of_ephemeral(&folder, &folder.join("state"), &environment));
    // What has a journal mostly has a runtime directory, which says whose it is.
    places.filter(|places| places.journal().symlink_metadata().is_err() || places.run.symlink_metadata().is_err()).collect()
}

/// Ends those of this project, and those without a project (`run --with`). Blocks; without any it reads one small file for each stack
/// of this user. `note` gets a line for each process that was ended; returns whether there was one.
///
/// # Errors
/// `Survivors` when something cannot be ended.
pub fn end_all(root: &Path, note: impl Fn(String)) -> Result<bool, Failure> {
    let of_project = |places: &Paths| places.root == root || places.state.parent() == Some(&places.root);
    let mut found: Vec<Paths> = runtime_dir::stacks(&load::environment()).into_iter().filter(of_project).collect();
    found.extend(unstarted());
    let mut first = None;
    let mut has_ended_some = false;
    for run in found.into_iter().filter_map(AbandonedRun::take) {
        let (state, report) = (run.places.state.clone(), run.end());
        if !report.killed.is_empty() {
            has_ended_some = true;
            note("killed what a temporary copy left, whose supervisor and keeper were killed:".to_owned());
        }
        for gone in &report.killed {
            let service = gone.service.as_ref().map(|id| format!("{id}: ")).unwrap_or_default();
            note(format!("  {service}pid {} ({}), known by its {}", gone.pid, gone.command, gone.evidence));
        }
        if let Some(left) = report.survivors.first() {
            let reason =
                format!("pid {} ({}) of the temporary copy in {} cannot be ended", left.pid, left.command, state.display());
            first.get_or_insert(Failure::new(FailureKind::Survivors, reason).help(left.advice()));
        }
    }
    first.map_or(Ok(has_ended_some), Err)
}
