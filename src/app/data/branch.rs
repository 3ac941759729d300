//! Data that follow the git branch: `[project] branch_data = true`. Each branch has its volumes in `branches/NAME/` of the state
//! directory, and a branch that has none yet starts with a copy of those that were used last.

use std::path::{Path, PathBuf};

use devrun_data::{
    CopyCancel, SnapshotStore, can_clone, copy_tree, free_bytes, nonce, now, replace_durably, sync_file_system, tree_bytes,
};
use devrun_model::{ByteSize, Failure, FailureKind};
use serde::{Deserialize, Serialize};

use crate::app::confirm;
use crate::app::data::branch_name::{self, ABOUT, LAST};
use crate::app::data::replace;
use crate::app::load::{self, Project, Read};
use crate::app::stop_stack;
use crate::globals::Globals;
use crate::ui::term::{Term, say};

const STAGE: &str = ".stage-";

/// What is known of a branch's data.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BranchData {
    /// The branch.
    pub branch: String,
    /// The branch whose data it started with; absent: the usual ones, or none.
    pub parent: Option<String>,
    /// RFC 3339, UTC.
    pub made_at: String,
}

/// Where the data of all branches lie.
#[must_use]
pub fn root(project: &Project) -> PathBuf {
    branch_name::root(&project.places.state)
}

/// The branches that have data, by the names of their directories.
#[must_use]
pub fn list(project: &Project) -> Vec<(String, BranchData)> {
    let entries = std::fs::read_dir(root(project)).into_iter().flatten().flatten();
    let mut found: Vec<(String, BranchData)> = entries
        .filter_map(|entry| {
            let about = serde_json::from_slice(&std::fs::read(entry.path().join(ABOUT)).ok()?).ok()?;
            Some((entry.file_name().into_string().ok()?, about))
        })
        .collect();
    found.sort_by(|one, other| one.0.cmp(&other.0));
    found
}

/// Before a start: makes sure that the branch has data. False: the question was answered with no.
///
/// # Errors
/// `Elsewhere` where they would have to be copied from a stack that is up; `Task` when the copy does not fit or fails.
pub fn prepare(globals: &Globals, project: &Project, read: &Read, term: Term) -> Result<bool, Failure> {
    let Some(own) = read.facts.branch.as_deref() else { return Ok(true) };
    let root = root(project);
    let target = root.join(own);
    if target.join(ABOUT).exists() {
        remember(&root, own)?;
        return Ok(true);
    }
    let state = &project.places.state;
    if load::is_running(&project.places)? {
        branch_name::check_while_up(state, Some(own))?;
    }
    let last = branch_name::last(state);
    let source = last.as_ref().map_or_else(|| state.join("data"), |last| root.join(last).join("data"));
    let from = branch_name::parent(last.as_deref());
    let parent = last.as_deref().map(branch_name::branch);
    let branch = branch_name::branch(own);
    let has_data = source.is_dir();
    if has_data {
        devrun_runtime::runtime_dir::make_private(&root, "state")?;
        let (_, bytes) = tree_bytes(&source)?;
        if !can_clone(&source, &root) {
            let free = free_bytes(&root)?;
            if bytes >= free {
                let reason =
                    format!("branch {branch} needs {} for a copy of {from}, and {} are left", ByteSize(bytes), ByteSize(free));
                return Err(Failure::new(FailureKind::Task, reason).help("devrun branch rm NAME makes room"));
            }
            let question = format!(
                "branch {branch} starts with {from}: {} are copied, as the file system has no copy-on-write",
                ByteSize(bytes)
            );
            if !confirm::ask(&question, "devrun up", globals, term)? {
                return Ok(false);
            }
        }
    }
    devrun_runtime::runtime_dir::prepare(&project.places)?;
    let _alone = stop_stack::keep_others_out(&project.places)?;
    let _others = SnapshotStore::open(&project.places.state)?;
    replace::check_nothing_left(project)?;
    devrun_runtime::runtime_dir::make_private(&root, "state")?;
    remove_stages(&root);
    let stage = root.join(format!("{STAGE}{}", nonce()?));
    devrun_runtime::runtime_dir::make_private(&stage, "state")?;
    if has_data {
        copy_tree(&source, &stage.join("data"), &|_| false, &CopyCancel::default()).inspect_err(|_| remove_stages(&root))?;
    }
    let about = BranchData { branch: branch.clone(), parent, made_at: now() };
    let text = serde_json::to_vec_pretty(&about).map_err(|error| Failure::new(FailureKind::Internal, error.to_string()))?;
    replace_durably(&stage.join(ABOUT), &text)?;
    open_way(&stage)?;
    sync_file_system(&stage)?;
    std::fs::rename(&stage, &target)
        .map_err(|error| Failure::new(FailureKind::Task, format!("cannot put {} in place: {error}", target.display())))?;
    remember(&root, own)?;
    if has_data {
        say(format!("branch {branch} starts with a copy of {from}"));
    }
    Ok(true)
}

/// A server that root starts as another user passes through, and sees nothing.
fn open_way(stage: &Path) -> Result<(), Failure> {
    use std::os::unix::fs::PermissionsExt as _;
    if !nix::unistd::geteuid().is_root() {
        return Ok(());
    }
    let parent = stage.parent().unwrap_or(stage);
    for path in [parent, stage] {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o711))
            .map_err(|error| Failure::new(FailureKind::Task, format!("cannot set the mode of {}: {error}", path.display())))?;
    }
    Ok(())
}

fn remember(root: &Path, own: &str) -> Result<(), Failure> {
    let file = root.join(LAST);
    if std::fs::read_to_string(&file).is_ok_and(|last| last == own) {
        return Ok(());
    }
    replace_durably(&file, own.as_bytes())
}

/// What a killed copy has left.
fn remove_stages(root: &Path) {
    for entry in std::fs::read_dir(root).into_iter().flatten().flatten() {
        if entry.file_name().to_string_lossy().starts_with(STAGE) {
            // The next copy tries again.
            let _ = std::fs::remove_dir_all(entry.path());
        }
    }
}

/// Deletes the data of a branch; it is renamed first, so that half of it is never taken for a whole.
///
/// # Errors
/// `Config` for a branch without data, `Elsewhere` while the stack is up on them.
pub fn remove(project: &Project, branch: &str) -> Result<(), Failure> {
    let root = root(project);
    let path = root.join(branch_name::directory(branch));
    if !path.join(ABOUT).exists() {
        let all: Vec<String> = list(project).into_iter().map(|(_, about)| about.branch).collect();
        let help = if all.is_empty() { "devrun branch list".to_owned() } else { format!("there are: {}", all.join(", ")) };
        return Err(Failure::new(FailureKind::Config, format!("branch `{branch}` has no data")).help(help));
    }
    let _alone = stop_stack::keep_others_out(&project.places)?;
    replace::check_nothing_left(project)?;
    let doomed = root.join(format!("{STAGE}{}", nonce()?));
    std::fs::rename(&path, &doomed)
        .and_then(|()| std::fs::remove_dir_all(&doomed))
        .map_err(|error| Failure::new(FailureKind::Task, format!("cannot remove {}: {error}", path.display())))
}
