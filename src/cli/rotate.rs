//! `devrun secret rotate`: a new value, in the servers' data, and in everybody who reads it.
//!
//! The new value counts from one rename on. Before it, every volume that was made with the secret is marked; a marked
//! server gets the password of its definition at its next start, before its port is open (`recipes::postgres`). So a kill
//! leaves the old value in force everywhere, or the new one as soon as the stack is started again. A stack that is up is
//! restarted where the secret is read, servers first, as their readers wait for them.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use crate::config::SecretWant;
use crate::drivers::{init, secrets};
use crate::exit;
use crate::model::{Command, Failure, FailureKind, Launch, Places, Plan, ServiceId, ServiceSpec, State, VolumeSpec};
use crate::recipes;
use crate::ui::term::{Term, say};

use super::args::Globals;
use super::load::{self, Project, Purpose, Read, Wanted};
use super::{ps, verbs};

/// Runs it.
///
/// # Errors
/// `Config` for a server whose data keeps the password and cannot be given another one; nothing is changed then.
pub fn run(globals: &Globals, project: &Project, want: &SecretWant, dir: &Path, term: Term) -> Result<i32, Failure> {
    let runtime = super::runtime()?;
    let running = load::is_running(&project.places)?;
    // Whatever runs takes part, also what only a profile had brought.
    let snapshot = if running { Some(runtime.block_on(ps::snapshot(globals, project))?) } else { None };
    let up = |state: State| !matches!(state, State::Stopped | State::Completed | State::Skipped);
    let live: BTreeSet<String> = snapshot
        .iter()
        .flat_map(|snapshot| snapshot.services.iter().filter(|service| up(service.state)))
        .map(|service| service.name.clone())
        .collect();
    let named: Vec<String> = snapshot.iter().flat_map(|all| all.services.iter().map(|one| one.service.clone())).collect();
    let read = load::read(globals, project, &Wanted { named: named.clone(), ..Wanted::look() })?;
    let users = users(&read, &want.name)?;
    let mut volumes = Vec::new();
    for id in users.iter().filter(|(_, user)| user.password).map(|(id, _)| id) {
        let Some((recipe, volume)) = kept(&read.plan, id) else { continue };
        for path in copies(&project.places, &project.instance, volume) {
            let Some(sentinel) = init::sentinel(&path, recipe) else { continue };
            if !sentinel.secrets.iter().any(|name| name == "password") {
                continue;
            }
            if !recipes::can_renew_password(recipe) {
                return Err(Failure::new(
                    FailureKind::Config,
                    format!("{id}: {recipe} keeps its password in its data, and cannot be given another one yet"),
                )
                .help(format!("change it in the server, then write it to {}", dir.join(&want.name).display())));
            }
            volumes.push(path);
        }
    }
    let file = dir.join(&want.name);
    secrets::renew(dir, &want.name, want.length, || volumes.iter().try_for_each(|volume| init::mark_due(volume, &file)))?;
    say(format!("{} has a new value", want.name));
    for (id, _) in users.iter().filter(|(_, user)| user.external) {
        say(format!("{id} is somebody else's server: set the new password there"));
    }
    let targets: Vec<ServiceId> = users.keys().filter(|id| live.contains(id.as_str())).cloned().collect();
    if targets.is_empty() {
        say(if users.is_empty() { "no service reads it" } else { "it takes effect at the next start of who reads it" });
        return Ok(exit::DONE);
    }
    let names: Vec<&str> = targets.iter().map(ServiceId::as_str).collect();
    say(format!("restarting {}", names.join(", ")));
    let plan = load::plan(globals, project, &Wanted { purpose: Purpose::Start, named, warn: true, ..Wanted::look() })?;
    runtime.block_on(async {
        let (session, status) = verbs::session(project).await?;
        verbs::settle(session, &status, Command::Restart { plan: Some(plan), targets, with_dependents: false }, term).await
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
fn copies(places: &Places, instance: &str, volume: &VolumeSpec) -> Vec<PathBuf> {
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
