//! What a task's sentinel vouches for: its command or work, and the content of the files that the work reads or `inputs` names.

use std::path::{Path, PathBuf};

use devrun_model::{Failure, FailureKind, Launch, ServiceSpec};

use crate::{file_glob, init};

/// The files that belong to a task's sentinel, and what is worth saying about its globs.
#[derive(Debug, Default)]
pub(super) struct TaskInputs {
    pub files: Vec<PathBuf>,
    /// A line for each glob that no file matches.
    pub notes: Vec<String>,
}

/// Looks for the input files of a task; a service has none.
///
/// # Errors
/// `Config` where a glob is invalid.
pub(super) fn find(spec: &ServiceSpec, root: &Path) -> Result<TaskInputs, Failure> {
    let Some(task) = &spec.task else { return Ok(TaskInputs::default()) };
    let mut found = TaskInputs { files: task.inputs.clone(), notes: Vec::new() };
    let matching = file_glob::matching(root, &task.input_globs).map_err(|(glob, reason)| {
        Failure::new(FailureKind::Config, format!("invalid glob {glob:?} in tasks.{}.inputs: {reason}", spec.service))
            .help("write for instance inputs = [\"requirements.txt\", \"db/**/*.sql\"]")
    })?;
    for (glob, files) in matching {
        if files.is_empty() {
            found.notes.push(format!("inputs: no file matches {glob:?}"));
        }
        found.files.extend(files);
    }
    Ok(found)
}

/// The hash that ties a task's sentinel to what the task is made of.
///
/// # Errors
/// `Config` where a glob of its `inputs` is invalid.
pub fn task_hash(spec: &ServiceSpec, root: &Path) -> Result<String, Failure> {
    let files = find(spec, root)?.files;
    let mut words = match &spec.launch {
        Launch::Run(command) => command.argv.clone(),
        _ => vec![format!("{:?}", spec.task.as_ref().and_then(|task| task.work.as_ref()))],
    };
    if spec.task.as_ref().is_some_and(|task| !task.input_globs.is_empty()) {
        // Where a file lies counts, and the globs do not: one that is written in another way vouches for the same.
        words.extend(files.iter().map(|file| file.strip_prefix(root).unwrap_or(file).display().to_string()));
    }
    Ok(init::hash_inputs(&words, &files))
}
