//! `devrun down` and `devrun down --emergency`. Neither needs a valid procfile: what runs is what was started.

use crate::app::stop_stack;
use clap::Args;
use std::time::Duration;

use crate::ui::term::{Progress, Term, say};
use devrun_model::exit;
use devrun_model::{Failure, FailureKind, VolumeClass, VolumeSpec, duration};

use crate::app::abandoned_runs;
use crate::app::data::backup;
use crate::app::data::interruptible_work::DataWork;
use crate::app::load::{self, Wanted};
use crate::app::other_data;
use crate::app::shared_server::leases;
use crate::globals::Globals;

#[derive(Debug, Args)]
pub struct DownArgs {
    /// Kill all processes of the project immediately; requires neither a supervisor nor a valid procfile
    #[arg(long)]
    pub emergency: bool,
    /// Compose's option for what is always so here
    #[arg(long, hide = true, action = clap::ArgAction::Count)]
    pub remove_orphans: u8,
    /// Compose's option for images, of which there are none
    #[arg(long, hide = true, value_name = "local|all")]
    pub rmi: Option<String>,
    /// With --emergency: all stacks of this user
    #[arg(long, requires = "emergency")]
    pub all: bool,
    /// Maximum grace period of every service
    #[arg(short = 't', long, value_name = "T")]
    pub timeout: Option<String>,
    /// Save the data of every server first, into backups/ of the state directory
    #[arg(long, conflicts_with = "emergency")]
    pub backup: bool,
    /// Also delete the data of persistent and cache volumes
    #[arg(long, short = 'v', env = "CLEANUP_VOLUMES", value_parser = clap::builder::FalseyValueParser::new(), action = clap::ArgAction::SetTrue)]
    pub volumes: bool,
}

/// Runs it.
///
/// # Errors
/// As the contract's exit codes say.
pub fn run(globals: &Globals, args: &DownArgs, term: Term) -> Result<i32, Failure> {
    if args.all {
        return crate::app::stop_stack::emergency_all();
    }
    // A deletion needs the procfile, which says what is to be deleted; a stop does not.
    let project = if args.volumes || args.backup { load::project(globals)? } else { load::project_by_state(globals)? };
    let grace = args
        .timeout
        .as_deref()
        .map(|text| {
            // compose takes bare seconds here.
            duration::parse(text).or_else(|error| text.parse().map(Duration::from_secs).map_err(|_| error))
        })
        .transpose()
        .map_err(|error| Failure::new(FailureKind::Config, format!("--timeout: {error}")).help("devrun down -t 5s"))?;
    if (args.volumes || args.backup) && !args.emergency {
        stop_stack::only_from_outside(&project.places)?;
    }
    // Looked up before the stop: with a broken procfile nothing must have been stopped for a deletion that cannot be done.
    let read = if args.volumes || args.backup { Some(load::read(globals, &project, &Wanted::act())?) } else { None };
    let volumes: Vec<VolumeSpec> = read
        .iter()
        .filter(|_| args.volumes)
        .flat_map(|read| read.plan.volumes.values())
        .filter(|volume| is_deleted(volume))
        .cloned()
        .collect();
    let saving = match read.as_ref().filter(|_| args.backup && load::is_running(&project.places).unwrap_or(false)) {
        Some(read) => {
            let work = DataWork::begin()?;
            let (online, offline) = (backup::servers(&read.plan, true), backup::servers(&read.plan, false));
            let all: Vec<_> = online.iter().chain(&offline).copied().collect();
            let saved = backup::check_programs(&project, read, &all, &work, term)
                .and_then(|()| backup::take_all(&project, read, &online, &work, term));
            match saved {
                Ok(()) => {}
                Err(failure) => return work.ended_by(failure),
            }
            Some((read, work))
        }
        None if args.backup => {
            say("nothing is running: no backup was taken");
            None
        }
        None => None,
    };
    let abandoned = abandoned_runs::end_all(&project.places.root, say);
    let code = if args.emergency {
        let nothing = if matches!(abandoned, Ok(false)) { stop_stack::NOTHING_LEFT } else { "nothing else was left" };
        stop_stack::emergency(&project.places, nothing)?
    } else {
        crate::app::runtime::runtime()?.block_on(stop_stack::gentle(&project.places, grace, term))?
    };
    abandoned?;
    if let Some((read, work)) = saving.filter(|_| code == exit::DONE)
        && let Err(failure) = backup::take_all(&project, read, &backup::servers(&read.plan, false), &work, term)
    {
        return work.ended_by(failure);
    }
    if code == exit::DONE && !volumes.is_empty() {
        let _alone = stop_stack::keep_others_out(&project.places)?;
        for volume in volumes.iter().filter(|volume| volume.path.symlink_metadata().is_ok()) {
            crate::app::deletion::erase(&project.places, &volume.path)?;
            if term.progress != Progress::Quiet {
                say(format!("volume {} deleted", volume.name));
            }
        }
    }
    if let Some(read) = read.as_ref().filter(|_| args.volumes && code == exit::DONE) {
        for (service, file) in leases::of_project(&project, &read.document, &read.facts)? {
            if file.exists() {
                leases::give_up(&file)?;
                if term.progress != Progress::Quiet {
                    say(format!("database of {service} on the shared server deleted"));
                }
            }
        }
    }
    if let Some(read) = read.filter(|_| args.volumes && code == exit::DONE && term.progress != Progress::Quiet) {
        crate::app::deletion::say_placed_kept(&read, is_class_deleted);
        other_data::say_kept(&project, &read);
    }
    Ok(code)
}

fn is_deleted(volume: &VolumeSpec) -> bool {
    !volume.placed && is_class_deleted(volume.class)
}

fn is_class_deleted(class: VolumeClass) -> bool {
    matches!(class, VolumeClass::Persistent | VolumeClass::Cache)
}
