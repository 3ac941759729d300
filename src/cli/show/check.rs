//! `devrun check`: reads and validates, spawns nothing, makes nothing.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use crate::ui::term::{Term, say};
use clap::Args;
use devrun_model::exit;
use devrun_model::mask::Masker;
use devrun_model::{Failure, FailureKind, Launch, ServiceSpec};
use devrun_runtime::directory_answers;
use devrun_store::trusted_file;

use crate::app::git_exposure::GitExposure;
use crate::app::load::{self, Wanted};
use crate::app::mapping_report::MappingDetail;
use crate::app::missing_files::MissingFiles;
use crate::app::missing_programs::{self, LaunchPlaces, ProgramCheck};
use crate::globals::Globals;

#[derive(Debug, Args)]
pub struct CheckArgs {
    /// Print nothing if no errors are found
    #[arg(short = 'q', long)]
    pub quiet: bool,
}

/// Runs it.
///
/// # Errors
/// `Config`; the diagnostics have been printed then.
pub fn run(globals: &Globals, args: &CheckArgs, term: Term) -> Result<i32, Failure> {
    let project = load::project(globals)?;
    let read = load::read(globals, &project, &Wanted { warn: !args.quiet, mapping: MappingDetail::Whole, ..Wanted::look() })?;
    let plan = &read.plan;
    let missing_files = MissingFiles::find(&read, &BTreeSet::new(), term.err_color);
    missing_files.refuse_unless_built()?;
    if !args.quiet {
        missing_files.warning(|_| true).into_iter().for_each(say);
        drift(&read)?;
        missing_directories(&read, &missing_files);
        missing_extensions(&read, &project)?;
        missing_programs(&read, &project)?;
        if let Some(exposure) = GitExposure::find(&project, &read).filter(|exposure| !exposure.not_ignored.is_empty()) {
            say(format!(
                "warning: git does not ignore {}: a `git add` would commit the secrets in it",
                exposure.not_ignored.join(", ")
            ));
            say(format!("help: add to .gitignore: {}", exposure.to_ignore(&read, &project).join(" ")));
        }
        let tasks = plan.services.values().filter(|spec| spec.task.is_some()).count();
        let count = |count: usize, word: &str| format!("{count} {word}{}", if count == 1 { "" } else { "s" });
        let services = count(plan.services.len() - tasks, "service");
        say(format!("{}: {services}, {}, no errors", plan.project, count(tasks, "task")));
    }
    Ok(exit::DONE)
}

/// Working directories that do not answer, and those that are missing until a task or a build makes them. What nothing makes was an error.
fn missing_directories(read: &load::Read, missing_files: &MissingFiles) {
    let masker = Masker::new(&read.plan, false);
    let with_directory = || read.plan.services.values().filter(|spec| spec.replica == 1 && matches!(spec.launch, Launch::Run(_)));
    let directories: BTreeSet<&Path> = with_directory().map(|spec| spec.dir.as_path()).collect();
    let silent = directory_answers::silent(directories, directory_answers::ANSWER_LIMIT);
    for spec in with_directory() {
        if silent.contains(&spec.dir) {
            let failure = directory_answers::silent_failure(spec);
            let help = failure.help.as_ref().map_or(String::new(), |help| format!("\nhelp: {help}"));
            say(masker.text(&format!("warning: {}{help}", failure.reason)));
        } else if missing_files.names_directory(&spec.id) {
            // It stands among the files, with its place.
        } else if spec.dir.exists() && !spec.dir.is_dir() {
            let (service, dir) = (&spec.service, spec.dir.display());
            say(masker.text(&format!("warning: {service}: {dir} is not a directory\nhelp: correct `dir` of {service}")));
        } else if !spec.dir.is_dir() {
            let dir = spec.dir.display();
            say(masker.text(&format!(
                "warning: {}: missing directory {dir}\nhelp: mkdir -p '{dir}', or correct `dir` of {}",
                spec.service, spec.service
            )));
        }
    }
}

/// Extensions of a database that no server is known to have. A server may be installed before the start, so it is not an error.
fn missing_extensions(read: &load::Read, project: &load::Project) -> Result<(), Failure> {
    for spec in read.plan.services.values().filter(|spec| spec.replica == 1) {
        let Launch::Recipe(recipe) = &spec.launch else { continue };
        match devrun_store::check_extensions(recipe, &project.env) {
            Err(failure) if failure.kind == FailureKind::Binary => {
                let help = failure.help.as_ref().map_or(String::new(), |help| format!("\nhelp: {help}"));
                say(format!("warning: {}: {failure}{help}", spec.service));
            }
            result => result?,
        }
    }
    Ok(())
}

/// Servers and commands that are neither here nor to be had. They may be installed before the start, so it is not an error.
fn missing_programs(read: &load::Read, project: &load::Project) -> Result<(), Failure> {
    let options = load::fetch_options_by_environment(project, Arc::new(devrun_store::NoDownloadProgress));
    let (places, to_build) = (LaunchPlaces::new(read), BTreeSet::new());
    let check = ProgramCheck { plan: &read.plan, places: &places, options: &options, to_build: &to_build };
    // What an extension is missing for has been named.
    let has_extensions = |spec: &ServiceSpec| matches!(&spec.launch, Launch::Recipe(recipe) if !recipe.extensions.is_empty());
    let missing = crate::app::runtime::runtime()?.block_on(check.missing(|spec| !has_extensions(spec)))?;
    missing.iter().for_each(missing_programs::warn);
    Ok(())
}

/// What the env files lack, and what they hold for nobody.
fn drift(read: &load::Read) -> Result<(), Failure> {
    let sample = read.document.env_sample();
    if let Some(sample) = sample.as_ref().filter(|sample| sample.from.exists() && !sample.to.exists()) {
        say(format!("{} is made from {} by the next `devrun up`", sample.to.display(), sample.from.display()));
        return Ok(());
    }
    let text = sample.as_ref().map(|sample| trusted_file::read_trusted(&sample.from)).transpose()?.flatten();
    let drift = read.document.drift(&read.facts, text.as_deref());
    if drift == devrun_config::Drift::default() {
        return Ok(());
    }
    let list = |names: &[String]| if names.is_empty() { "none".to_owned() } else { names.join(", ") };
    let renamed: Vec<String> = drift.renamed.iter().map(|(old, new)| format!("{old} → {new}")).collect();
    say("the env file has drifted from what is read:");
    say(format!("  missing: {}", list(&drift.missing)));
    say(format!("  renamed: {}", list(&renamed)));
    say(format!("  unused: {}", list(&drift.unused)));
    Ok(())
}
