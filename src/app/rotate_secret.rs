//! `devrun secret rotate`: a new value, in the servers' data, and in everybody who reads it.
//!
//! The new value counts from one rename on. Before it, every volume that was made with the secret is marked; a marked
//! server gets the password of its definition at its next start, before its port is open (`recipes::postgres`). After it,
//! servers that run are given the new password while they run, and whoever reads the secret is restarted. So a kill leaves
//! the old value in force everywhere, or the new one as soon as `up` is said again: `up` restarts what was defined with the
//! old one, and the mark does the rest. A server that cannot be altered while it runs is restarted.
//!
//! One that takes a new password only from who knows the old one (neo4j) finds that in the mark.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::ui::term::{Term, say};
use devrun_config::RequiredSecret;
use devrun_core::only_login_differs;
use devrun_model::exit;
use devrun_model::{Command, Failure, FailureKind, Launch, Paths, Plan, ServiceId, ServiceSpec, State, VolumeSpec};
use devrun_runtime::recipes::{self, PasswordRotation};
use devrun_runtime::{init, secrets};

use crate::app::load::{self, Project, Purpose, Read, Wanted};
use crate::app::missing_files::MissingFiles;
use crate::app::missing_programs::{self, LaunchPlaces, ProgramCheck};
use crate::globals::Globals;

const NOTHING_CHANGED: &str = "nothing was changed";

/// Runs it.
///
/// # Errors
/// `Config` for a server whose data keeps the password and cannot be given another one; nothing is changed then.
pub fn run(globals: &Globals, project: &Project, want: &RequiredSecret, dir: &Path, term: Term) -> Result<i32, Failure> {
    let runtime = crate::app::runtime::runtime()?;
    let running = load::is_running(&project.places)?;
    // Whatever runs takes part, also what only a profile had brought.
    let snapshot = if running { Some(runtime.block_on(crate::app::snapshot::snapshot(globals, project))?) } else { None };
    let up = |state: State| !matches!(state, State::Stopped | State::Completed | State::Skipped);
    let live: BTreeSet<String> = snapshot
        .iter()
        .flat_map(|snapshot| snapshot.services.iter().filter(|service| up(service.state)))
        .map(|service| service.name.clone())
        .collect();
    let named: Vec<String> = snapshot.iter().flat_map(|all| all.services.iter().map(|one| one.service.clone())).collect();
    let read = load::read(globals, project, &Wanted { named: named.clone(), ..Wanted::act() })?;
    let users = users(&read, &want.name)?;
    let file = dir.join(&want.name);
    // One that is lost or open to others is about to be replaced.
    let so_far = secrets::read(dir, &want.name).ok().flatten();
    let mut volumes = Vec::new();
    for id in users.iter().filter(|(_, user)| user.password).map(|(id, _)| id) {
        let Some((recipe, volume)) = kept(&read.plan, id) else { continue };
        for path in copies(&project.places, &project.instance, volume) {
            let made_with_it = |sentinel: init::Sentinel| sentinel.secrets.iter().any(|name| name == "password");
            if !init::sentinel(&path, recipe).is_some_and(made_with_it) {
                continue;
            }
            let (why, help) = match (recipes::password_rotation(recipe), &so_far) {
                (PasswordRotation::Anew, _) => {
                    volumes.push((path, None));
                    continue;
                }
                (PasswordRotation::FromOld, Some(so_far)) => {
                    volumes.push((path, Some(so_far.as_str())));
                    continue;
                }
                (PasswordRotation::FromOld, None) => (
                    format!("{recipe} is given another password only by who knows the old one, and that is gone"),
                    format!("put {} back, or start over without the data: devrun clean --only {}", file.display(), volume.name),
                ),
                (PasswordRotation::Never, _) => (
                    format!("{recipe} keeps its password in its data, and cannot be given another one yet"),
                    format!("change it in the server, then write it to {}", file.display()),
                ),
            };
            return Err(Failure::new(FailureKind::Config, format!("{id}: {why}")).help(help));
        }
    }
    // Who reads it is restarted, and one that could not be started again would be down for it.
    let options = load::fetch_options_by_environment(project, Arc::new(devrun_store::NoDownloadProgress));
    let (places, to_build) = (LaunchPlaces::new(&read), BTreeSet::new());
    let check = ProgramCheck { plan: &read.plan, places: &places, options: &options, to_build: &to_build };
    let restarts = |spec: &ServiceSpec| users.contains_key(&spec.id) && live.contains(spec.id.as_str());
    let restarted = |id: &ServiceId| read.plan.services.get(id).is_some_and(|spec| restarts(spec));
    MissingFiles::find(&read, &to_build, term.err_color).refuse(restarted, Some(NOTHING_CHANGED))?;
    missing_programs::refuse(runtime.block_on(check.missing(restarts))?, NOTHING_CHANGED)?;
    secrets::renew(dir, &want.name, want.length, || {
        volumes.iter().try_for_each(|(volume, so_far)| init::mark_password_pending(volume, &file, *so_far))
    })?;
    say(format!("{} has a new value", want.name));
    for (id, _) in users.iter().filter(|(_, user)| user.external) {
        say(format!("{id} is an external server: set the new password there"));
    }
    let readers: Vec<&ServiceId> = users.keys().filter(|id| live.contains(id.as_str())).collect();
    if readers.is_empty() {
        say(if users.is_empty() { "no service reads it" } else { "it takes effect at the next start of who reads it" });
        return Ok(exit::DONE);
    }
    let plan = load::plan(globals, project, &Wanted { purpose: Purpose::Start, named, warn: true, ..Wanted::act() })?;
    let (mut given, mut targets) = (Vec::new(), Vec::new());
    for id in readers {
        let (Some(old), Some(new)) = (read.plan.services.get(id), plan.services.get(id)) else { continue };
        // The ports that it runs with, whatever the procfile says by now.
        let status = snapshot.iter().flat_map(|all| &all.services).find(|one| one.name == id.as_str());
        let old =
            ServiceSpec { ports: status.map_or_else(|| old.ports.clone(), |one| one.ports.clone()), ..ServiceSpec::clone(old) };
        // Where its process has the secret elsewhere too, nothing but a restart brings it there.
        if users[id].password && only_login_differs(&old, new) {
            let volume = new.data.as_ref().and_then(|name| plan.volumes.get(name));
            match runtime.block_on(recipes::renew(&old, new, &project.places, volume)) {
                Ok(true) => {
                    // What the mark asks for is done.
                    volume.map_or(Ok(()), |volume| init::clear_pending_password(&volume.path))?;
                    say(format!("{id} has the new password, and runs on"));
                    given.push(id.clone());
                    continue;
                }
                Ok(false) => say(format!("{id} takes a password only when it starts")),
                Err(failure) => say(format!("{id} cannot be given it while it runs: {}", failure.reason)),
            }
        }
        targets.push(id.clone());
    }
    if !targets.is_empty() {
        let names: Vec<&str> = targets.iter().map(ServiceId::as_str).collect();
        say(format!("restarting {}", names.join(", ")));
    }
    runtime.block_on(async {
        let (session, status) = crate::app::request::session(project).await?;
        crate::app::request::settle(session, &status, Command::RotateSecret { plan, given, targets }, term).await
    })
}

/// How somebody reads a secret.
struct User {
    /// As its own password: a server.
    password: bool,
    /// A server that is not ours.
    external: bool,
}

/// The plan with other texts in the place of the secret shows who has it, by whatever way: environment, address, file.
fn users(read: &Read, name: &str) -> Result<BTreeMap<ServiceId, User>, Failure> {
    let failed = |_| Failure::new(FailureKind::Config, "the procfile has errors").help("devrun check shows them");
    let with = |value: &str| -> Result<Plan, Failure> {
        let mut facts = read.facts.clone();
        facts.secrets.insert(name.to_owned(), value.to_owned());
        if let (Some(paths), Some(made)) = (read.document.generated_paths(), read.document.generate(&facts).map_err(failed)?) {
            facts.env_files.insert(paths.output, Some(made.text));
        }
        Ok(read.document.lower(&facts).map_err(failed)?.0)
    };
    let (one, two) = (with("devrunStandIn1")?, with("devrunStandIn2")?);
    let mut users = BTreeMap::new();
    for (id, spec) in &one.services {
        let Some(twin) = two.services.get(id).filter(|twin| *twin != spec) else { continue };
        let password = spec.attributes.get("password") != twin.attributes.get("password");
        let external = matches!(spec.launch, Launch::External { .. });
        users.insert(id.clone(), User { password, external });
    }
    Ok(users)
}

/// The volume that a server of a recipe keeps its data in.
fn kept<'a>(plan: &'a Plan, id: &ServiceId) -> Option<(&'a str, &'a VolumeSpec)> {
    let spec: &ServiceSpec = plan.services.get(id)?;
    let Launch::Recipe(recipe) = &spec.launch else { return None };
    Some((recipe.recipe.name.as_str(), plan.volumes.get(spec.data.as_ref()?)?))
}

/// The folders of one volume: modes and instances have one each, and share the secrets.
fn copies(places: &Paths, instance: &str, volume: &VolumeSpec) -> Vec<PathBuf> {
    let mut found = vec![volume.path.clone()];
    if volume.placed {
        return found;
    }
    let base = if instance.is_empty() { Some(places.state.as_path()) } else { places.state.ancestors().nth(2) };
    let below = |folder: &Path| -> Vec<PathBuf> {
        std::fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path()).collect()
    };
    if let Some(base) = base {
        for state in below(&base.join("instances")).into_iter().chain([base.to_path_buf()]) {
            let data = state.join("data");
            found.push(data.join(volume.name.as_str()));
            found.extend(below(&data).into_iter().map(|mode| mode.join(volume.name.as_str())));
        }
    }
    found.sort();
    found.dedup();
    found
}
