//! Which ports a project has: those it had before, those of its servers, or free ones; set aside against other stacks.
//! `--ports auto` counts for as long as the stack that was started, or changed, with it.

use std::cell::LazyCell;
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use devrun_config::PortPreference;
use devrun_keeper::{leftover_sweep, project_journal};
use devrun_model::{Failure, FailureKind, Paths, ServiceId, ServiceStatus, Snapshot};
use devrun_runtime::ports::{self, PortConflict, PortHolder, PortReservations};
use devrun_runtime::runtime_dir;

use crate::app::connect;
use crate::app::port_conflicts;
use crate::app::project::{Project, is_running};
use crate::app::runtime::waiting_runtime;

fn ports_file(places: &Paths) -> PathBuf {
    places.state.join("ports.json")
}

fn auto_mark(places: &Paths) -> PathBuf {
    places.state.join("ports-auto")
}

/// Whether every port of a service is chosen, whatever the procfile says. A command that looks at a stack that was started with
/// `--ports auto`, or changes it, must not fall back to the numbers of the procfile. `starts`: the command starts something;
/// `is_asked`: by `--ports auto`.
///
/// # Errors
/// `Config` when the choice cannot be written down.
pub fn are_auto(project: &Project, starts: bool, is_asked: bool) -> Result<bool, Failure> {
    if !project.instance.is_empty() {
        return Ok(true);
    }
    let mark = auto_mark(&project.places);
    if is_running(&project.places)? {
        return Ok(is_asked || mark.exists());
    }
    if starts && is_asked {
        keep_auto(&project.places)?;
    } else if starts {
        let removed = std::fs::remove_file(&mark);
        removed.or_else(|error| if error.kind() == std::io::ErrorKind::NotFound { Ok(()) } else { Err(error) }).map_err(
            |error| {
                Failure::new(FailureKind::Config, format!("cannot change {}: {error}", mark.display()))
                    .help(format!("rm {}", mark.display()))
            },
        )?;
    }
    Ok(is_asked)
}

/// Writes down that the stack runs with `--ports auto`.
///
/// # Errors
/// `Config` when that fails.
pub fn keep_auto(places: &Paths) -> Result<(), Failure> {
    runtime_dir::prepare(places)?;
    let mark = auto_mark(places);
    runtime_dir::replace(&mark, b"").map_err(|error| {
        Failure::new(FailureKind::Config, format!("cannot change {}: {error}", mark.display()))
            .help(format!("rm {}", mark.display()))
    })
}

/// What runs of the project. `None`: its supervisor does not say. Asked on a thread of its own, as the caller may run tasks already.
fn running_stack(project: &Project) -> Option<Snapshot> {
    let places = project.places.clone();
    let asked = std::thread::Builder::new().spawn(move || {
        let status = async {
            let mut client = connect::supervisor(&places).await.ok()??;
            client.status().await.ok()?
        };
        waiting_runtime().ok()?.block_on(status)
    });
    Some(asked.ok()?.join().ok()??.snapshot)
}

/// Whether a port that the running stack has chosen before is held by a process that is positively none of the stack.
fn is_lost(port: u16, stack: Option<&Snapshot>) -> bool {
    let Some(stack) = stack else { return false };
    if stack.services.iter().any(|service| service.state.holds_port() && has_port(service, port)) {
        return false;
    }
    match ports::check("127.0.0.1", port) {
        Err(PortConflict::Held(holder)) => !is_held_by(stack, port, &holder),
        _ => false,
    }
}

/// Of its own, or the one that its copies share.
fn has_port(service: &ServiceStatus, port: u16) -> bool {
    let in_url = |url: &String| url.split([':', '/']).any(|part| part.parse() == Ok(port));
    service.ports.values().any(|own| *own == port) || service.url.as_ref().is_some_and(in_url)
}

fn is_held_by(stack: &Snapshot, port: u16, holder: &PortHolder) -> bool {
    let by_service = stack.services.iter().any(|service| {
        // Where the holder cannot be seen, one that is about to start may hold it.
        let may_hold = service.state.holds_port() || holder.pid.is_none() && !service.state.is_final();
        has_port(service, port) && may_hold || service.pid.is_some() && service.pid == holder.pid
    });
    let by_supervisor = holder.pid.is_some() && holder.pid == stack.supervisor_pid;
    by_service || by_supervisor || holder.project.as_ref() == Some(&stack.project)
}

/// Where the ports of this start are set aside.
fn reserved(project: &Project) -> Result<&PortReservations, Failure> {
    if let Some(reserved) = project.reserved.get() {
        return Ok(reserved);
    }
    let reserved = PortReservations::new(runtime_dir::ports_file()?, &project.places.state);
    Ok(project.reserved.get_or_init(|| reserved))
}

/// What is left of a run whose supervisor and keeper were killed. Looks at all processes.
fn leftover_pids(places: &Paths) -> BTreeSet<i32> {
    let left = project_journal::of_project(places).map(|journal| leftover_sweep::leftovers(&journal, places));
    left.into_iter().flatten().map(|process| process.pid).collect()
}

/// Chosen ports are remembered, so that an address is the same at the next start and a running stack keeps its own. What a
/// start chooses, and what its procfile fixes, is set aside, so that no other stack of this user chooses it at the same time.
///
/// `makes`: the command starts something; one that only looks chooses nothing.
///
/// # Errors
/// `PortTaken` when none is free, `Config` when the choice cannot be kept.
pub fn choose(
    project: &Project,
    wants: &devrun_config::RequiredValues,
    makes: bool,
    notes: &mut Vec<String>,
) -> Result<BTreeMap<(String, String), u16>, Failure> {
    let file = ports_file(&project.places);
    let remembered: BTreeMap<String, u16> =
        devrun_keeper::regular_file::read(&file).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or_default();
    let running = is_running(&project.places)?;
    let stack = if running && makes && !wants.ports.is_empty() { running_stack(project) } else { None };
    let mut chosen = BTreeMap::new();
    let mut taken = wants.fixed.clone();
    let mut book: BTreeMap<String, u16> = remembered.clone();
    let set_aside = |port: u16| {
        let kept = reserved(project)?.take(port);
        kept.map_err(|error| {
            let file = runtime_dir::ports_file().map(|file| file.display().to_string()).unwrap_or_default();
            Failure::new(FailureKind::Config, format!("port {port} cannot be set aside in {file}: {error}"))
                .help(format!("if no stack of yours runs, remove it: rm {file}"))
        })
    };
    if makes && !running {
        for port in &wants.fixed {
            // Held by another stack: the look at the port itself tells by whom.
            let _ours = set_aside(*port)?;
        }
    }
    let leftovers = LazyCell::new(|| leftover_pids(&project.places));
    for want in &wants.ports {
        let key = format!("{}/{}", want.service, want.name);
        let before = remembered.get(&key).copied().filter(|port| !taken.contains(port));
        let free = |port: u16| {
            let free = !taken.contains(&port)
                && match ports::check_free("127.0.0.1", port) {
                    Ok(()) => true,
                    // It is ended before this start, and clients know the address.
                    Err(holder) => !running && holder.pid.is_some_and(|pid| leftovers.contains(&pid)),
                };
            Ok::<bool, Failure>(free && set_aside(port)?)
        };
        let port = match (want.preference, before) {
            // A running stack holds its own ports; only what it has not got yet is chosen, or what another process has taken.
            (_, Some(port)) if !makes || running && !is_lost(port, stack.as_ref()) => Some(port),
            (PortPreference::Usual(port), _) if !makes && !taken.contains(&port) || makes && free(port)? => Some(port),
            (_, _) if !makes => None,
            (_, Some(port)) if free(port)? => Some(port),
            _ => {
                let id = ServiceId::parse(&want.service)
                    .map_err(|error| Failure::new(FailureKind::Config, format!("{}: {error}", want.service)))?;
                let seed = match want.preference {
                    PortPreference::Private => format!("{}/{}", project.places.state.display(), std::process::id()),
                    _ => project.places.state.display().to_string(),
                };
                let port = ports::free_port(&seed, &id, &want.name, &taken, reserved(project)?)
                    .map_err(|error| Failure::new(FailureKind::PortTaken, format!("no free port for {key}: {error}")))?;
                if let PortPreference::Usual(usual) = want.preference {
                    let holder = match ports::check_free("127.0.0.1", usual) {
                        _ if taken.contains(&usual) => " is another service's of this stack".to_owned(),
                        Ok(()) => " is set aside for another stack".to_owned(),
                        Err(holder) => format!(" is held by {}", port_conflicts::holder_in_words(usual, &holder)),
                    };
                    notes.push(format!("{key}: port {usual}{holder}; using {port}"));
                }
                Some(port)
            }
        };
        if let Some(port) = port {
            taken.insert(port);
            book.insert(key, port);
            chosen.insert((want.service.clone(), want.name.clone()), port);
        }
    }
    if makes && book != remembered {
        runtime_dir::prepare(&project.places)?;
        let text = serde_json::to_vec_pretty(&book).unwrap_or_default();
        runtime_dir::replace(&file, &text)
            .map_err(|error| Failure::new(FailureKind::Config, format!("{} cannot be written: {error}", file.display())))?;
    }
    Ok(chosen)
}

#[cfg(test)]
mod tests {
    use super::*;
    use devrun_model::{Health, Kind, State};

    fn stack(state: State) -> Snapshot {
        let service = ServiceStatus {
            name: "db".to_owned(),
            service: "db".to_owned(),
            replica: 1,
            kind: Kind::Service,
            tier: 1,
            state,
            health: Health::None,
            pid: state.is_live().then_some(7),
            exit_code: None,
            signal: None,
            restarts: 0,
            started_at: None,
            ready_at: None,
            uptime_ms: None,
            ready_ms: None,
            ports: BTreeMap::from([("main".to_owned(), 4000)]),
            url: Some("http://127.0.0.1:4100/x".to_owned()),
            binary: None,
            version: None,
            reason: None,
        };
        Snapshot {
            project: "shop".to_owned(),
            instance: String::new(),
            mode: None,
            supervisor_pid: Some(6),
            supervisor_version: None,
            services: vec![service],
        }
    }

    #[test]
    fn a_port_is_lost_only_to_a_process_that_is_none_of_the_stack() {
        let holder = |pid: Option<i32>, project: Option<&str>| PortHolder {
            pid,
            project: project.map(str::to_owned),
            ..PortHolder::default()
        };
        let running = stack(State::Running);
        assert!(is_held_by(&running, 4000, &holder(Some(9), None)), "a child of the service listens");
        assert!(is_held_by(&running, 4100, &holder(None, None)), "the shared address");
        assert!(is_held_by(&running, 5000, &holder(Some(7), None)), "by its process");
        assert!(is_held_by(&running, 5000, &holder(Some(6), None)), "by its supervisor");
        assert!(is_held_by(&running, 5000, &holder(Some(9), Some("shop"))), "by its mark");
        assert!(!is_held_by(&running, 5000, &holder(Some(9), None)));
        assert!(!is_held_by(&running, 5000, &holder(Some(9), Some("blog"))));
        assert!(!is_held_by(&running, 410, &holder(None, None)));
        let failed = stack(State::Failed);
        assert!(!is_held_by(&failed, 4000, &holder(Some(9), None)));
        assert!(!is_held_by(&failed, 4000, &holder(None, None)));
        let waiting = stack(State::Waiting);
        assert!(is_held_by(&waiting, 4000, &holder(None, None)), "it cannot be seen who holds it");
        assert!(!is_held_by(&waiting, 4000, &holder(Some(9), None)));
    }
}
