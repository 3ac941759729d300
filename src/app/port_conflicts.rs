//! The ports of everything that is to be started, looked at before anything is spawned: a port that somebody else holds must not
//! be found after a minute of downloads and first boots.
//!
//! What may not be bound at all is told where the plan is made, by [`permitted`]; who holds a port only once the leftovers of an
//! earlier run are gone, by [`free`]. The engine looks again at each spawn.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Duration;

use devrun_config::KeyStep;
use devrun_keeper::system_limits;
use devrun_model::{Failure, FailureKind, Launch, Paths, Plan, ServiceId, ServiceSpec, Snapshot};
use devrun_runtime::control::ControlClient;
use devrun_runtime::ports::{self, CHOOSE_FREE_PORTS, PortConflict, PortHolder};
use devrun_runtime::runtime_dir;

use crate::app::project;
use crate::app::runtime::waiting_runtime;
use crate::app::start_scope::{self, PortAdvice};

/// How long another stack may take to say which ports are its own.
const ANSWER: Duration = Duration::from_secs(1);

/// The ports that a start needs, with their services. An optional service does not hold a start up.
fn needed<'a>(plan: &'a Plan, scope: &'a BTreeSet<ServiceId>) -> impl Iterator<Item = (&'a ServiceSpec, &'a str, u16)> {
    let started = |spec: &&ServiceSpec| {
        scope.contains(&spec.id) && !spec.optional && !matches!(spec.launch, Launch::External { .. } | Launch::Work)
    };
    let specs = plan.services.values().map(AsRef::as_ref).filter(started);
    specs.flat_map(|spec| {
        // Once for all copies.
        let shared = spec.shared.filter(|_| spec.replica == 1).map(|shared| (spec, "main", shared.port));
        spec.ports.iter().map(move |(name, port)| (spec, name.as_str(), *port)).chain(shared)
    })
}

/// Whether this user may bind the ports of the named services, of all where none is named, and of what they need.
///
/// # Errors
/// `PortTaken`, with the variable or the key to set.
pub fn permitted(document: &devrun_config::Document, plan: &Plan, named: &[String]) -> Result<(), Failure> {
    let targets: Vec<ServiceId> = named.iter().flat_map(|name| plan.lookup(name)).collect();
    let scope = start_scope::of(plan, &targets, false);
    for (spec, name, port) in needed(plan, &scope) {
        if ports::check(&spec.bind, port) != Err(PortConflict::Forbidden) {
            continue;
        }
        let key = if name == "main" { "port".to_owned() } else { format!("ports.{name}") };
        let other = u32::from(port) + 8000;
        let set = match variable(document, spec.service.as_str(), name) {
            Some(variable) => format!("{variable}={other} devrun up"),
            None => format!("set services.{}.{key} = {other}", spec.service),
        };
        let step = KeyStep::Key(if name == "main" { "port" } else { "ports" });
        let place = document.value_place(spec.service.as_str(), &[step]).map_or(String::new(), |place| format!("{place}: "));
        let failure = Failure::new(
            FailureKind::PortTaken,
            format!(
                "{place}{}: cannot bind port {port}: only root may listen on ports below {}",
                spec.id,
                ports::first_unprivileged()
            ),
        );
        return Err(failure.help(format!("{set}; or sudo sysctl net.ipv4.ip_unprivileged_port_start={port}")));
    }
    Ok(())
}

/// The variable that a procfile takes a port from: `PROXY_PORT` of `port = "${PROXY_PORT:-80}"`.
fn variable(document: &devrun_config::Document, service: &str, name: &str) -> Option<String> {
    let merged = document.merged();
    let service = merged.get("services")?.get(service)?;
    let written = if name == "main" { service.get("port") } else { service.get("ports")?.get(name) }?;
    let (_, rest) = written.as_str()?.split_once("${")?;
    let variable: String = rest.chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '_').collect();
    (!variable.is_empty() && !rest.starts_with(&format!("{variable}."))).then_some(variable)
}

/// Whether no process holds a port of what is to be started. `advice`: what to type for other ports, and where these stand.
///
/// # Errors
/// `PortTaken`, with each port, its holder and how to go on.
pub async fn free(plan: &Plan, scope: &BTreeSet<ServiceId>, advice: &PortAdvice) -> Result<(), Failure> {
    free_of_others(plan, scope, &BTreeSet::new(), advice).await
}

/// As [`free`], for services that are added to a running stack, which holds ports of its own.
///
/// # Errors
/// As [`free`].
pub async fn free_beside(
    plan: &Plan,
    scope: &BTreeSet<ServiceId>,
    running: &Snapshot,
    advice: &PortAdvice,
) -> Result<(), Failure> {
    let live: Vec<_> = running.services.iter().filter(|service| service.state.holds_port()).collect();
    // The address that copies share is held by the supervisor and its balancer, not by a copy.
    let is_shared = |spec: &&ServiceSpec| live.iter().any(|service| service.service == spec.service.as_str());
    let shared = plan.services.values().map(AsRef::as_ref).filter(is_shared).filter_map(|spec| Some(spec.shared?.port));
    let own: BTreeSet<u16> = live.iter().flat_map(|service| service.ports.values().copied()).chain(shared).collect();
    free_of_others(plan, scope, &own, advice).await
}

async fn free_of_others(
    plan: &Plan,
    scope: &BTreeSet<ServiceId>,
    own: &BTreeSet<u16>,
    advice: &PortAdvice,
) -> Result<(), Failure> {
    let mut held: Vec<(&ServiceSpec, &str, u16, PortHolder)> = needed(plan, scope)
        .filter(|(_, _, port)| !own.contains(port))
        .filter_map(|(spec, name, port)| match ports::check(&spec.bind, port) {
            Err(PortConflict::Held(holder)) => Some((spec, name, port, holder)),
            // What else is wrong is told by the spawn.
            Ok(()) | Err(PortConflict::Forbidden | PortConflict::Address(_)) => None,
        })
        .collect();
    if held.is_empty() {
        return Ok(());
    }
    let stacks = stacks().await;
    // What this very stack has started since it was asked.
    let is_this = |stack: &OtherStack| stack.root == plan.root && stack.instance == plan.instance;
    held.retain(|(_, _, port, holder)| !stacks.iter().any(|stack| is_this(stack) && stack.holds(*port, holder)));
    if held.is_empty() {
        return Ok(());
    }
    let is_only = held.len() == 1;
    let mut reasons = Vec::new();
    let mut help = advice.text.clone();
    for (spec, name, port, mut holder) in held {
        let place = advice.places.get(&(spec.service.to_string(), name.to_owned()));
        let place = place.map(|place| format!(" ({place})")).unwrap_or_default();
        let owner = stacks.iter().find(|stack| stack.holds(port, &holder));
        let (reason, stop) = match owner {
            Some(stack) => {
                holder.project = None;
                (format!("{}: port {port} is held by {holder} of {}{place}", spec.id, stack.name), Some(stack.down.clone()))
            }
            None => {
                let kill = holder.pid.filter(|_| holder.project.is_none()).map(|pid| format!("kill {pid}"));
                (format!("{}: port {port} is held by {holder}{place}", spec.id), kill)
            }
        };
        reasons.push(reason);
        match stop {
            Some(stop) if is_only => help.push_str(&format!("; or stop what holds it: {stop}")),
            // Each below the port that it is about.
            Some(stop) => reasons.push(format!("  to stop what holds it: {stop}")),
            None => {}
        }
    }
    Err(Failure::new(FailureKind::PortTaken, reasons.join("\n")).help(help))
}

/// Why a server of ours cannot listen: who holds its port, where one does.
#[must_use]
pub fn cannot_bind(host: &str, port: u16, error: &std::io::Error) -> Failure {
    if system_limits::is_reached(error) {
        return Failure::new(FailureKind::Internal, format!("cannot open a socket: {error}")).help(system_limits::help(error));
    }
    match ports::check(host, port) {
        Err(conflict) => conflict.failure(host, port),
        Ok(()) => Failure::new(FailureKind::PortTaken, format!("cannot bind {host}:{port}: {error}")).help("devrun ports"),
    }
}

/// What stands in the way of each port of the plan, with its service.
pub async fn each(plan: &Plan) -> Vec<(ServiceId, Failure)> {
    let scope: BTreeSet<ServiceId> = plan.services.keys().cloned().collect();
    let found: Vec<_> =
        needed(plan, &scope).filter_map(|(spec, _, port)| Some((spec, port, ports::check(&spec.bind, port).err()?))).collect();
    let stacks = if found.is_empty() { Vec::new() } else { stacks().await };
    let named = |spec: &ServiceSpec, port: u16, conflict: PortConflict| match conflict {
        PortConflict::Held(mut holder) => match stacks.iter().find(|stack| stack.holds(port, &holder)) {
            Some(stack) => {
                holder.project = None;
                Failure::new(FailureKind::PortTaken, format!("port {port} is held by {holder} of {}", stack.name))
                    .help(format!("{CHOOSE_FREE_PORTS}; or stop what holds it: {}", stack.down))
            }
            None => PortConflict::Held(holder).failure(&spec.bind, port),
        },
        other => other.failure(&spec.bind, port),
    };
    found.into_iter().map(|(spec, port, conflict)| (spec.id.clone(), named(spec, port, conflict))).collect()
}

/// Names the project of each holder that is part of another stack. A server that writes over its environment carries no mark of it.
pub async fn name_projects(holders: &mut [(u16, PortHolder)]) {
    let is_unnamed = |holder: &PortHolder| holder.pid.is_some() && holder.project.is_none();
    if !holders.iter().any(|(_, holder)| is_unnamed(holder)) {
        return;
    }
    let stacks = stacks().await;
    for (port, holder) in holders.iter_mut().filter(|(_, holder)| is_unnamed(holder)) {
        holder.project = stacks.iter().find(|stack| stack.holds(*port, holder)).map(|stack| stack.project.clone());
    }
}

/// Who holds a port, for a note: where it is another stack, with its project and directory. Asked on a thread of its own, as the caller
/// may run tasks already.
#[must_use]
pub fn holder_in_words(port: u16, holder: &PortHolder) -> String {
    let asked = holder.clone();
    let named = std::thread::Builder::new().spawn(move || {
        let stacks = waiting_runtime().ok()?.block_on(stacks());
        let stack = stacks.iter().find(|stack| stack.holds(port, &asked))?;
        Some(format!("{} of {}", PortHolder { project: None, ..asked }, stack.name))
    });
    named.ok().and_then(|thread| thread.join().ok()?).unwrap_or_else(|| holder.to_string())
}

/// Another stack of this user.
struct OtherStack {
    /// `project blog in /home/a/blog`.
    name: String,
    project: String,
    root: PathBuf,
    instance: String,
    /// The command that stops it.
    down: String,
    services: Vec<(Option<i32>, Vec<u16>)>,
}

impl OtherStack {
    fn holds(&self, port: u16, holder: &PortHolder) -> bool {
        self.services.iter().any(|(pid, ports)| ports.contains(&port) || pid.is_some() && *pid == holder.pid)
    }
}

/// Every stack that answers, asked side by side.
async fn stacks() -> Vec<OtherStack> {
    let asked = runtime_dir::stacks(&project::environment()).into_iter().map(|places| tokio::spawn(ask(places)));
    let mut stacks = Vec::new();
    for one in asked.collect::<Vec<_>>() {
        // One that cannot be asked is not named.
        stacks.extend(one.await.ok().flatten());
    }
    stacks
}

async fn ask(places: Paths) -> Option<OtherStack> {
    let answer = async {
        let mut client = ControlClient::connect(&places).await.ok()??;
        client.status().await.ok()?
    };
    let snapshot = tokio::time::timeout(ANSWER, answer).await.ok()??.snapshot;
    let root = places.root.display();
    let flag = if snapshot.instance.is_empty() { String::new() } else { format!(" --instance {}", snapshot.instance) };
    Some(OtherStack {
        name: format!("project {} in {root}", snapshot.project),
        down: format!("devrun -C {root}{flag} down"),
        project: snapshot.project.to_string(),
        root: places.root.clone(),
        instance: snapshot.instance,
        services: snapshot
            .services
            .into_iter()
            .filter(|service| service.state.holds_port())
            .map(|service| (service.pid, service.ports.into_values().collect()))
            .collect(),
    })
}
