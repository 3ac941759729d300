//! What must hold before a start, the machine apart: the env file and working directories are there, and no secret that data was
//! made with is made anew.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use crate::ui::term::say;
use devrun_config::{Document, Facts, KeyStep};
use devrun_model::{Failure, FailureKind, Launch, Plan, ServiceSpec};
use devrun_runtime::{directory_answers, secrets, user};
use devrun_store::trusted_file;

/// `[project].env_sample`: an env file that is missing is made from it. Says what is still to be edited.
///
/// # Errors
/// `Config` when it cannot be made.
pub fn from_sample(document: &Document) -> Result<(), Failure> {
    let Some(devrun_config::EnvSample { from, to }) = document.env_sample() else { return Ok(()) };
    if to.exists() {
        return Ok(());
    }
    let Some(text) = trusted_file::read_trusted(&from)? else { return Ok(()) };
    let failed = |error: std::io::Error| {
        Failure::new(FailureKind::Config, format!("{} cannot be made from {}: {error}", to.display(), from.display()))
            .help(format!("cp {} {}", from.display(), to.display()))
    };
    // It will hold passwords. One that somebody else makes at this moment is left alone.
    let mut file = match fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&to) {
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => return Ok(()),
        made => made.map_err(failed)?,
    };
    file.write_all(text.as_bytes()).map_err(failed)?;
    let open = devrun_config::unedited(&text);
    let edit = if open.is_empty() { String::new() } else { format!("; still to edit: {}", open.join(", ")) };
    let name = |path: &Path| path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let note = format!("{} was made from {}{edit}", name(&to), name(&from));
    // It is said even where the start fails for want of these very values.
    say(note);
    Ok(())
}

/// The users and the working directories of what is started by name; what that waits for is refused at its own start.
///
/// # Errors
/// `Config`, naming the user or the directory.
pub fn of_started(document: &Document, plan: &Plan, named: &[String]) -> Result<(), Failure> {
    let is_started = |spec: &&ServiceSpec| named.is_empty() || named.iter().any(|name| *name == spec.service.as_str());
    // Before anybody touches one that would not answer. What starts by dependency is asked at its own start.
    let started = || plan.services.values().map(AsRef::as_ref).filter(is_started);
    let directories: BTreeSet<&Path> = started().map(|spec| spec.dir.as_path()).collect();
    let silent = directory_answers::silent(directories, directory_answers::ANSWER_LIMIT);
    if let Some(spec) = started().find(|spec| silent.contains(&spec.dir)) {
        return Err(directory_answers::silent_failure(spec));
    }
    for spec in plan.services.values().map(AsRef::as_ref).filter(is_started) {
        let _known = user::of(spec)?;
        has_directory(document, spec, plan)?;
    }
    Ok(())
}

/// Whether the working directory of what starts at once is there: what waits for nothing starts before anything could make it.
fn has_directory(document: &Document, spec: &ServiceSpec, plan: &Plan) -> Result<(), Failure> {
    let waits = !spec.depends_on.is_empty() || spec.tier.is_some();
    let is_made = plan.volumes.values().any(|volume| spec.dir.starts_with(&volume.path));
    if spec.dir.is_dir() || waits || is_made || spec.optional || !matches!(spec.launch, Launch::Run(_)) {
        return Ok(());
    }
    let (dir, service) = (spec.dir.display(), &spec.service);
    let place =
        document.value_place(service.as_str(), &[KeyStep::Key("dir")]).map_or(String::new(), |place| format!("{place}: "));
    let table = if spec.task.is_some() { "tasks" } else { "services" };
    if spec.dir.exists() {
        return Err(Failure::new(FailureKind::Config, format!("{place}{service}: {dir} is not a directory"))
            .help(format!("correct {table}.{service}.dir")));
    }
    Err(Failure::new(FailureKind::Config, format!("{place}{service}: missing directory {dir}"))
        .help(format!("mkdir -p '{dir}', or correct {table}.{service}.dir")))
}

/// A secret that is gone is generated anew, unless initialised data was made with it: then nothing would fit any more.
/// The plan with stand-ins in the place of what is missing shows who uses it.
///
/// # Errors
/// `Config`, naming the file and the ways out.
pub fn old_data_wants_old_secrets(
    document: &Document,
    facts: &Facts,
    wants: &devrun_config::RequiredValues,
) -> Result<(), Failure> {
    let mut with = facts.clone();
    let mut missing = BTreeMap::new();
    for want in &wants.secrets {
        let value = match secrets::read(&wants.secrets_dir, &want.name)? {
            Some(value) => value,
            None => {
                let stand_in = format!("devrun-stand-in-{}-{}", facts.seed, want.name);
                missing.insert(want.name.clone(), stand_in.clone());
                stand_in
            }
        };
        with.secrets.insert(want.name.clone(), value);
    }
    if missing.is_empty() {
        return Ok(());
    }
    // What else is wrong is told by the real plan.
    match document.lower(&with) {
        Ok((plan, _)) => devrun_runtime::recipes::check_secrets(&plan, &missing, &wants.secrets_dir),
        Err(_) => Ok(()),
    }
}
