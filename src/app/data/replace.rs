//! Replaces data: the stack goes down, the new contents take their place in one step, and what ran before is started again.
//! The old data are kept until the servers accept the new ones.

use std::collections::BTreeSet;
use std::ffi::OsString;

use devrun_data::{KeptData, SwapStage};
use devrun_keeper::leftover_sweep;
use devrun_model::{Failure, FailureKind, Kind, Plan, VolumeName, exit};

use crate::app::load::{self, Project};
use crate::app::own_command;
use crate::app::stop_stack;
use crate::globals::{Globals, ProgressArg};
use crate::ui::step_line::StepLine;
use crate::ui::term::{Progress, Term, say};

/// What is replaced, for whom.
pub struct Replacement<'a> {
    /// The options that the command was called with.
    pub globals: &'a Globals,
    /// Where.
    pub project: &'a Project,
    /// As the procfile says now.
    pub plan: &'a Plan,
    /// In words: `snapshot one`.
    pub what: String,
    /// Whose contents are replaced.
    pub volumes: BTreeSet<VolumeName>,
    /// For messages.
    pub term: Term,
}

/// Services that were up, by the names of the procfile.
struct WasUp {
    named: Vec<String>,
    all: bool,
}

impl Replacement<'_> {
    /// Takes the stack down, fills a stage by `fill`, swaps, and starts again what was up.
    ///
    /// # Errors
    /// What `fill` fails with, and then the old data are in place and the stack is up again. `Service` when the servers do not
    /// start with the new data; the old ones are put back then.
    pub fn run(&self, fill: impl FnOnce(&mut SwapStage) -> Result<(), Failure>) -> Result<i32, Failure> {
        let places = &self.project.places;
        let was_up = if load::is_running(places)? { Some(self.was_up()?) } else { None };
        let line = StepLine::new(self.term, self.what.clone());
        if was_up.is_some() {
            line.step("stopping the stack");
            let code = stop_stack::stop(places, self.quiet())?;
            if code != exit::DONE {
                return Ok(code);
            }
        }
        line.step("putting the data in place");
        let swapped = self.swap(fill);
        line.clear();
        let kept = match swapped {
            Ok(kept) => kept,
            Err(failure) => {
                if let Some(was_up) = &was_up {
                    self.start(&was_up.words())?;
                }
                return Err(failure);
            }
        };
        let Some(was_up) = was_up else {
            kept.drop_old()?;
            return Ok(exit::DONE);
        };
        // The servers alone first: whether they accept the data is what decides. An application that fails may have other
        // reasons.
        let servers = self.servers(&was_up);
        if !servers.is_empty() {
            let code = self.start(&servers)?;
            if code != exit::DONE {
                let _stopped = stop_stack::stop(places, self.quiet())?;
                {
                    let _alone = stop_stack::keep_others_out(places)?;
                    kept.undo()?;
                }
                let _code = self.start(&was_up.words())?;
                return Err(Failure::new(
                    FailureKind::Service,
                    format!(
                        "{} did not start with the data of {}; the data from before are in place again",
                        servers.join(", "),
                        self.what
                    ),
                )
                .help(format!("devrun logs {}", servers.join(" "))));
            }
        }
        kept.drop_old()?;
        if was_up.all || was_up.named.iter().any(|name| !servers.contains(name)) {
            self.start(&was_up.words())
        } else {
            Ok(exit::DONE)
        }
    }

    fn swap(&self, fill: impl FnOnce(&mut SwapStage) -> Result<(), Failure>) -> Result<KeptData, Failure> {
        let places = &self.project.places;
        let _alone = stop_stack::keep_others_out(places)?;
        check_nothing_left(self.project)?;
        let mut stage = SwapStage::new(&places.state, &self.what)?;
        fill(&mut stage)?;
        stage.commit()
    }

    fn was_up(&self) -> Result<WasUp, Failure> {
        let runtime = crate::app::runtime::runtime()?;
        let snapshot = runtime.block_on(crate::app::snapshot::snapshot(self.globals, self.project))?;
        let live = |status: &&devrun_model::ServiceStatus| {
            status.kind == Kind::Service && (status.state.is_live() || !status.state.is_final())
        };
        let mut named: Vec<String> = snapshot.services.iter().filter(live).map(|status| status.service.clone()).collect();
        named.dedup();
        let all = self.plan.services.values().filter(|spec| spec.task.is_none());
        let all = all.map(|spec| spec.service.as_str()).all(|name| named.iter().any(|one| one == name));
        Ok(WasUp { named, all })
    }

    /// Those of the services that were up whose data were replaced.
    fn servers(&self, was_up: &WasUp) -> Vec<String> {
        let uses = |spec: &&std::sync::Arc<devrun_model::ServiceSpec>| {
            spec.data.as_ref().is_some_and(|name| self.volumes.contains(name))
                && was_up.named.iter().any(|one| one == spec.service.as_str())
        };
        let mut names: Vec<String> = self.plan.services.values().filter(uses).map(|spec| spec.service.to_string()).collect();
        names.dedup();
        names
    }

    fn quiet(&self) -> Term {
        Term { progress: if self.term.progress == Progress::Json { Progress::Json } else { Progress::Quiet }, ..self.term }
    }

    fn start(&self, services: &[String]) -> Result<i32, Failure> {
        let words = ["up", "-d"].into_iter().map(OsString::from).chain(services.iter().map(OsString::from)).collect::<Vec<_>>();
        // The lines of a start are not what was asked for; failures are shown. They are written by another process.
        if self.term.progress == Progress::Tty {
            say(if services.is_empty() { "starting the stack".to_owned() } else { format!("starting {}", services.join(", ")) });
        }
        let quiet = if self.term.progress == Progress::Json { ProgressArg::Json } else { ProgressArg::Quiet };
        own_command::run_to_completion(&Globals { progress: quiet, ..self.globals.clone() }, &words)
    }
}

impl WasUp {
    /// For `up`: no names where everything was up.
    fn words(&self) -> Vec<String> {
        if self.all { Vec::new() } else { self.named.clone() }
    }
}

/// Fails when processes of an earlier run may still write into the data.
///
/// # Errors
/// `Elsewhere`, naming one of them.
pub fn check_nothing_left(project: &Project) -> Result<(), Failure> {
    let journal = devrun_keeper::project_journal::of_project(&project.places)?;
    match leftover_sweep::leftovers(&journal, &project.places).first() {
        Some(left) => {
            let reason = format!("pid {} ({}) of an earlier run is still alive", left.pid, left.command);
            Err(Failure::new(FailureKind::Elsewhere, reason).help("devrun down"))
        }
        None => Ok(()),
    }
}

/// Puts the data back that the last restore replaced, where a killed command has kept them.
///
/// # Errors
/// `Config` where none are kept.
pub fn undo(project: &Project) -> Result<(), Failure> {
    let Some(kept) = KeptData::find(&project.places.state)? else {
        return Err(Failure::new(FailureKind::Config, "no data from before a restore are kept")
            .help("they are dropped as soon as the restored servers are ready"));
    };
    let _alone = stop_stack::keep_others_out(&project.places)?;
    check_nothing_left(project)?;
    let what = kept.what().to_owned();
    kept.undo()?;
    say(format!("the data from before the restore of {what} are in place again"));
    Ok(())
}
