//! Programs that a start needs, and that are neither on this machine nor to be had: named by `check` and `up --plan`, and looked
//! for before anything that runs is stopped to be started by another definition. A service that is started without stopping another one reports its own failure.
//!
//! A server is found or fetched as its start would do it; a command is looked for unless something that its start waits for may
//! install it (`core`).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use devrun_config::KeyStep;
use devrun_model::feed::Outcome;
use devrun_model::{
    Check, CommandLine, Failure, FailureKind, Launch, Plan, PlannedChanges, RestartTargets, ServiceId, ServiceSpec,
};
use devrun_runtime::{directory_answers, trace_masks};
use devrun_store::FetchOptions;

use crate::app::load::{Project, Read};
use crate::app::start_scope::PortAdvice;
use crate::ui::term::say;

/// What was left as it was where a start is refused for what it needs.
pub const NOTHING_STOPPED: &str = "nothing was stopped";

/// Where each service says what it runs, and what is run to probe and to stop it, as `FILE:LINE:COLUMN`; and its probe and its ports.
#[derive(Debug, Default)]
pub struct LaunchPlaces {
    launches: BTreeMap<String, String>,
    /// By service and key.
    commands: BTreeMap<(String, &'static str), String>,
    /// By service and key: what a failure of a start may be about, apart from the program.
    keys: BTreeMap<(String, &'static str), String>,
    /// By service and name of the port.
    ports: BTreeMap<(String, String), String>,
}

impl LaunchPlaces {
    /// Those of what was read.
    #[must_use]
    pub fn new(read: &Read) -> Self {
        let specs = first_copies(read.plan.services.values().map(AsRef::as_ref));
        let mut places = Self::default();
        // A line of a mapped text is of no use; the line of the user's own file is.
        let own = |place: String| read.origins.as_ref().and_then(|origins| origins.own_place(&place)).unwrap_or(place);
        let value = |name: &str, steps: &[KeyStep]| read.document.value_place(name, steps).map(own);
        for spec in specs {
            let name = spec.service.as_str();
            places.launches.extend(read.document.launch_place(name).map(|place| (name.to_owned(), own(place))));
            for side in side_commands(spec) {
                let place = value(name, &[KeyStep::Key(side.table), KeyStep::Key(side.key)]);
                places.commands.extend(place.map(|place| ((name.to_owned(), side.table), place)));
            }
            for key in ["ready", "pre_start"] {
                places.keys.extend(value(name, &[KeyStep::Key(key)]).map(|place| ((name.to_owned(), key), place)));
            }
            for port in spec.ports.keys() {
                let key = if port == "main" { "port" } else { "ports" };
                let place = value(name, &[KeyStep::Key(key)]);
                places.ports.extend(place.map(|place| ((name.to_owned(), port.clone()), place)));
            }
        }
        places
    }

    /// What to type where a port is taken, with where the ports stand.
    #[must_use]
    pub fn port_advice(&self, text: String) -> PortAdvice {
        PortAdvice { text, places: self.ports.clone() }
    }

    /// Adds to what failed where the procfile says what it is about: the program, the probe, the port or the command before the start.
    pub fn add(&self, outcome: &mut Outcome) {
        for failed in &mut outcome.failures {
            let service = failed.id.as_str().split('.').next().unwrap_or_default();
            let key = |key: &'static str| self.keys.get(&(service.to_owned(), key));
            let reason = &mut failed.failure.reason;
            let place = match failed.failure.kind {
                _ if reason.contains("pre_start") => key("pre_start"),
                FailureKind::Binary | FailureKind::Service | FailureKind::Background | FailureKind::Task => {
                    self.launches.get(service)
                }
                FailureKind::NotReady => key("ready"),
                FailureKind::PortTaken => self.ports.get(&(service.to_owned(), "main".to_owned())),
                _ => None,
            };
            if let Some(place) = place.filter(|place| !reason.contains(place.as_str())) {
                let end = reason.find('\n').unwrap_or(reason.len());
                reason.insert_str(end, &format!(" ({place})"));
            }
        }
    }

    /// A failure with its place and service.
    fn name(&self, spec: &ServiceSpec, failure: Failure) -> Failure {
        named(self.launches.get(spec.service.as_str()), spec.service.as_str(), failure)
    }

    /// As [`LaunchPlaces::name`], for a command that is run in addition to the service.
    fn name_side(&self, spec: &ServiceSpec, side: &SideCommand<'_>, failure: Failure) -> Failure {
        let place = self.commands.get(&(spec.service.to_string(), side.table));
        named(place, &format!("{}: {}.{}", spec.service, side.table, side.key), failure)
    }
}

fn named(place: Option<&String>, what: &str, failure: Failure) -> Failure {
    let place = place.map_or(String::new(), |place| format!("{place}: "));
    Failure { reason: format!("{place}{what}: {}", failure.reason), ..failure }
}

/// A command that is run to probe or to stop a service.
struct SideCommand<'a> {
    table: &'static str,
    key: &'static str,
    command: &'a CommandLine,
}

fn side_commands(spec: &ServiceSpec) -> Vec<SideCommand<'_>> {
    let mut found = Vec::new();
    for (table, probe) in [("ready", &spec.ready), ("alive", &spec.alive)] {
        for check in probe.iter().flat_map(|probe| &probe.checks) {
            if let Check::Cmd { command } = check {
                found.push(SideCommand { table, key: "cmd", command });
            }
        }
    }
    found.extend(spec.stop.command.as_ref().map(|command| SideCommand { table: "stop", key: "command", command }));
    found
}

/// The program that a command is sure to look for: its first word, also where a shell replaces itself by it (`exec`, which is put
/// before a line that is one simple command). Any other script may do without a program that is missing.
fn program(command: &CommandLine) -> Option<&str> {
    let (first, rest) = command.argv.split_first()?;
    let script = match rest {
        [flag, script] if flag == "-c" => script,
        [e, flag, script] if e == "-e" && flag == "-c" => script,
        _ => return Some(first),
    };
    if first != "sh" {
        return Some(first);
    }
    let word = script.strip_prefix("exec ")?.split_ascii_whitespace().next()?;
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_-./+@".contains(&byte);
    (word.bytes().all(is_plain) && !word.starts_with('-')).then_some(word)
}

/// What is looked at, and how.
pub struct ProgramCheck<'a> {
    /// The new plan.
    pub plan: &'a Plan,
    /// Where its services say what they run.
    pub places: &'a LaunchPlaces,
    /// Where servers are looked for.
    pub options: &'a FetchOptions,
    /// What this start builds.
    pub to_build: &'a BTreeSet<ServiceId>,
}

impl ProgramCheck<'_> {
    /// What is missing for these services, optional ones apart. Nothing is fetched.
    ///
    /// # Errors
    /// What is wrong with the store or the lockfile.
    pub async fn missing(&self, scope: impl Fn(&ServiceSpec) -> bool) -> Result<Vec<Failure>, Failure> {
        let mut missing = Vec::new();
        for spec in first_copies(self.plan.services.values().map(AsRef::as_ref)) {
            if spec.optional || !scope(spec) {
                continue;
            }
            let server = match &spec.launch {
                Launch::Recipe(recipe) => devrun_store::check(recipe, self.options).await,
                _ => Ok(()),
            };
            for looked in [server, self.command(spec)] {
                match looked {
                    Ok(()) => {}
                    Err(failure) if failure.kind == FailureKind::Binary => missing.push(self.places.name(spec, failure)),
                    Err(failure) => return Err(failure),
                }
            }
            missing.extend(self.side_commands(spec));
        }
        Ok(missing)
    }

    /// Finds or fetches the programs of what is to be started, where something that runs is stopped for it.
    ///
    /// # Errors
    /// As `locate`: everything that is missing, each with its place.
    pub async fn find(&self, started: &BTreeSet<ServiceId>) -> Result<(), Failure> {
        let specs = started.iter().filter_map(|id| self.plan.services.get(id)).map(AsRef::as_ref);
        let mut failures: Vec<Failure> = Vec::new();
        let mut recipes = Vec::new();
        for spec in first_copies(specs) {
            if let Launch::Recipe(recipe) = &spec.launch {
                recipes.push((spec, (**recipe).clone()));
            }
            failures.extend(self.command(spec).err().map(|failure| self.places.name(spec, failure)));
            failures.extend(self.side_commands(spec));
        }
        let uses: Vec<_> = recipes.iter().map(|(_, recipe)| recipe.clone()).collect();
        let located = devrun_store::fetch_all(&uses, self.options).await;
        for ((spec, _), result) in recipes.iter().zip(located) {
            failures.extend(result.err().map(|failure| self.places.name(spec, failure)));
        }
        refuse(failures, NOTHING_STOPPED)
    }

    /// Whether the commands of a service are there, or may come with its start.
    fn command(&self, spec: &ServiceSpec) -> Result<(), Failure> {
        if directory_answers::check(&spec.dir).is_err() || !spec.dir.is_dir() {
            return Ok(());
        }
        if let Some(pre_start) = &spec.pre_start {
            // It runs first, so that it installs nothing for itself.
            let before = ServiceSpec { pre_start: None, ..spec.clone() };
            self.word(&before, pre_start)?;
        }
        match &spec.launch {
            Launch::Run(command) => self.word(spec, command),
            _ => Ok(()),
        }
    }

    /// What probes and stops a service and is missing. A file of the project may be made by the service itself, and so may every
    /// program by one that is a script.
    fn side_commands(&self, spec: &ServiceSpec) -> Vec<Failure> {
        if directory_answers::check(&spec.dir).is_err() || !spec.dir.is_dir() {
            return Vec::new();
        }
        let is_script = matches!(&spec.launch, Launch::Run(command) if program(command).is_none());
        let sides = side_commands(spec)
            .into_iter()
            .filter(|side| !is_script && program(side.command).is_some_and(|word| !word.contains('/')));
        sides.filter_map(|side| Some(self.places.name_side(spec, &side, self.word(spec, side.command).err()?))).collect()
    }

    /// Whether the program of one command is there, or may come with the start.
    fn word(&self, spec: &ServiceSpec, command: &CommandLine) -> Result<(), Failure> {
        let Some(word) = program(command) else { return Ok(()) };
        let failure = match devrun_store::find_command(word, &spec.env, &spec.dir) {
            Err(failure) if failure.kind == FailureKind::Binary => failure,
            // What else is wrong is reported by the start.
            _ => return Ok(()),
        };
        // Of a missing one only: this goes through all that the start waits for.
        let current = |id: &ServiceId| self.plan.services.get(id).map(AsRef::as_ref);
        let spec_of = |id: &ServiceId| if *id == spec.id { Some(spec) } else { current(id) };
        let all = || self.plan.services.iter().map(|(id, spec)| (id, spec.as_ref()));
        if devrun_core::command_may_be_installed(&spec.id, word, self.to_build, spec_of, all) {
            return Ok(());
        }
        if spec.build.is_none() {
            return Err(failure);
        }
        let other = failure.help.as_ref().map_or(String::new(), |help| format!("; or {help}"));
        Err(failure.help(format!("devrun up --build, if the build of {} makes it{other}", spec.service)))
    }
}

/// One copy of each service: the others run the same.
fn first_copies<'a>(specs: impl Iterator<Item = &'a ServiceSpec>) -> Vec<&'a ServiceSpec> {
    let mut seen = BTreeSet::new();
    specs.filter(|spec| seen.insert(&spec.service)).collect()
}

/// All that is missing as one failure, with what was therefore left as it was.
///
/// # Errors
/// That failure, where anything is missing.
pub fn refuse(failures: Vec<Failure>, left: &str) -> Result<(), Failure> {
    let Some(kind) = failures.first().map(|failure| failure.kind) else { return Ok(()) };
    let reasons: Vec<String> = failures.iter().map(|failure| failure.reason.clone()).collect();
    let helps: BTreeSet<String> = failures.into_iter().filter_map(|failure| failure.help).collect();
    let help = helps.into_iter().collect::<Vec<_>>().join("; ");
    Err(Failure::new(kind, format!("{}; {left}", reasons.join("\n"))).help(help))
}

/// Prints what would fail a start.
pub fn warn(failure: &Failure) {
    let help = failure.help.as_ref().map_or(String::new(), |help| format!("\nhelp: {help}"));
    say(trace_masks::masked(&format!("warning: {}{help}", failure.reason)));
}

/// What an `up` over a running stack starts, where it stops something that runs; empty where it stops nothing.
#[must_use]
pub fn started_by_up(changes: &PlannedChanges, plan: &Plan, scope: &BTreeSet<ServiceId>) -> BTreeSet<ServiceId> {
    if !changes.values().any(|(word, _)| word == "restart" || word == "stop") {
        return BTreeSet::new();
    }
    let started =
        changes.iter().filter(|(id, (word, _))| word == "restart" || is_required(plan, id) && is_started(changes, id, scope));
    started.map(|(id, _)| id.clone()).collect()
}

/// Whether an `up` over a running stack starts this service. `scope`: what it is about.
#[must_use]
pub fn is_started(changes: &PlannedChanges, id: &ServiceId, scope: &BTreeSet<ServiceId>) -> bool {
    match changes.get(id).map(|(word, _)| word.as_str()) {
        Some("restart") => true,
        Some("start") => scope.contains(id),
        _ => false,
    }
}

/// Whether a start fails without it.
fn is_required(plan: &Plan, id: &ServiceId) -> bool {
    plan.services.get(id).is_some_and(|spec| !spec.optional)
}

/// What a `restart` starts, where it stops something that runs; empty where it stops nothing.
#[must_use]
pub fn started_by_restart(changes: &PlannedChanges, plan: &Plan, targets: &[ServiceId]) -> BTreeSet<ServiceId> {
    if !changes.values().any(|(word, _)| word == "restart") {
        return BTreeSet::new();
    }
    let is_started =
        |id: &ServiceId, word: &str| word == "restart" || word == "start" && (targets.contains(id) || is_required(plan, id));
    changes.iter().filter(|(id, (word, _))| is_started(id, word)).map(|(id, _)| id.clone()).collect()
}

/// What the supervisor would do with a plan, or with one and a `restart`; `None` where there is none.
///
/// # Errors
/// `Elsewhere` when it does not answer.
pub async fn changes(
    project: &Project,
    plan: &Arc<Plan>,
    restart: Option<RestartTargets>,
) -> Result<Option<PlannedChanges>, Failure> {
    match crate::app::connect::supervisor(&project.places).await? {
        Some(mut client) => client.changes(Arc::clone(plan), restart).await,
        None => Ok(None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_is_known_where_the_command_is_sure_to_look_for_it() {
        for (argv, known) in [
            (&["curl", "-f", "x"][..], Some("curl")),
            (&["sh", "-c", "exec curl -f x > log"], Some("curl")),
            (&["sh", "-e", "-c", "exec ./probe"], Some("./probe")),
            (&["sh", "-c", "cd x && curl -f x"], None),
            (&["sh", "-c", "A=1 exec curl"], None),
            (&["sh", "-c", "exec \"$TOOL\" x"], None),
            (&["sh", "-c", "exec -a name curl"], None),
            (&["sh", "probe.sh"], Some("sh")),
            (&["bash", "-c", "curl"], Some("bash")),
            (&[], None),
        ] {
            let command = CommandLine { argv: argv.iter().map(|word| (*word).to_owned()).collect(), env: BTreeMap::new() };
            assert_eq!(program(&command), known, "{argv:?}");
        }
    }
}
