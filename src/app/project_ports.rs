//! Which ports a project has: those it had before, those of its servers, or free ones; set aside against other stacks.

use std::collections::BTreeMap;
use std::path::PathBuf;

use devrun_config::PortPreference;
use devrun_model::{Failure, FailureKind, Paths, ServiceId};
use devrun_runtime::ports::{self, PortReservations};
use devrun_runtime::runtime_dir;

use crate::app::project::{Project, is_running};

fn ports_file(places: &Paths) -> PathBuf {
    places.state.join("ports.json")
}

/// Where the ports of this start are set aside.
fn reserved(project: &Project) -> Result<&PortReservations, Failure> {
    if let Some(reserved) = project.reserved.get() {
        return Ok(reserved);
    }
    let reserved = PortReservations::new(runtime_dir::ports_file()?, &project.places.state);
    Ok(project.reserved.get_or_init(|| reserved))
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
    for want in &wants.ports {
        let key = format!("{}/{}", want.service, want.name);
        let before = remembered.get(&key).copied().filter(|port| !taken.contains(port));
        let free = |port: u16| {
            let free = !taken.contains(&port) && ports::check_free("127.0.0.1", port).is_ok();
            Ok::<bool, Failure>(free && set_aside(port)?)
        };
        let port = match (want.preference, before) {
            // A running stack holds its own ports; only what it has not got yet is chosen.
            (_, Some(port)) if running || !makes => Some(port),
            (PortPreference::Usual(port), _) if !makes || free(port)? => Some(port),
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
                    let holder = ports::check_free("127.0.0.1", usual)
                        .err()
                        .map_or_else(|| " is set aside for another stack".to_owned(), |holder| format!(" is held by {holder}"));
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
