//! `devrun up --plan`: what would be done and why; nothing is done.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::ui::table;
use crate::ui::term::say;
use devrun_model::{Failure, Plan, ServiceId, ServiceSpec};
use devrun_runtime::ports::{self, PortConflict};

use crate::app::load::{self, Project};
use crate::app::missing_files::MissingFiles;
use crate::app::missing_programs::{self, LaunchPlaces, ProgramCheck};
use crate::app::pending_migrations;
use crate::app::port_conflicts;
use crate::app::readonly;
use crate::app::start_scope::{self, PortAdvice};
use crate::cli::service::up::UpArgs;

/// Runs it.
///
/// # Errors
/// `Elsewhere` when a supervisor does not answer.
pub(super) fn run(
    project: &Project,
    plan: &Arc<Plan>,
    targets: &[ServiceId],
    args: &UpArgs,
    places: &LaunchPlaces,
    missing_files: &MissingFiles,
    usual_ports: &BTreeSet<(String, String)>,
) -> Result<i32, Failure> {
    let runtime = crate::app::runtime::runtime()?;
    let answer = runtime.block_on(missing_programs::changes(project, plan, None))?;
    let changes = answer.unwrap_or_else(|| {
        plan.services.keys().map(|id| (id.clone(), ("start".to_owned(), "nothing runs".to_owned()))).collect()
    });
    let wanted = start_scope::of(plan, targets, args.no_deps);
    let files = missing_files.warning(|id| missing_programs::is_started(&changes, id, &wanted));
    let to_build = super::built(plan, args.build);
    let nothing_shown = Arc::new(devrun_store::NoDownloadProgress);
    let options = load::fetch_options(project, args.offline, args.mirror.clone(), nothing_shown);
    let check = ProgramCheck { plan, places, options: &options, to_build: &to_build };
    let missing = runtime.block_on(check.missing(|spec| missing_programs::is_started(&changes, &spec.id, &wanted)))?;
    let (taken, replaced) =
        runtime.block_on(taken_ports(project, plan, &wanted, usual_ports, &places.port_advice(args.port_advice())))?;
    let is_running = |id: &ServiceId| changes.get(id).is_some_and(|(word, _)| word == "keep");
    let pending = runtime.block_on(pending_migrations::lines(plan, is_running));
    let mut rows = Vec::new();
    for (id, (word, why)) in changes {
        let meant = wanted.is_empty() || wanted.contains(&id);
        // What is changed is restarted whoever was named; what is merely missing is left alone.
        if !meant && (word == "start" || word == "keep") {
            continue;
        }
        let why = match (word.as_str(), why.is_empty()) {
            ("start", true) => "not running".to_owned(),
            ("keep", true) => "unchanged".to_owned(),
            ("restart", false) => format!("changed: {why}"),
            _ => why,
        };
        rows.push(vec![word, id.to_string(), why]);
    }
    let code = readonly::text(&table::render(&["DO", "SERVICE", "WHY"], &rows));
    pending.into_iter().for_each(say);
    files.into_iter().for_each(say);
    missing.iter().for_each(missing_programs::warn);
    replaced.into_iter().for_each(say);
    taken.iter().for_each(missing_programs::warn);
    Ok(code)
}

/// Ports that are held by others: those that `up` would refuse, and a line for each that it would replace.
async fn taken_ports(
    project: &Project,
    plan: &Plan,
    wanted: &BTreeSet<ServiceId>,
    usual: &BTreeSet<(String, String)>,
    advice: &PortAdvice,
) -> Result<(Option<Failure>, Vec<String>), Failure> {
    let status = match crate::app::connect::supervisor(&project.places).await? {
        Some(mut client) => client.status().await?,
        None => None,
    };
    let is_usual = |spec: &ServiceSpec, name: &str| usual.contains(&(spec.service.to_string(), name.to_owned()));
    let runs = |spec: &ServiceSpec| {
        let services = status.iter().flat_map(|status| &status.snapshot.services);
        services.into_iter().any(|service| service.service == spec.service.as_str() && service.state.holds_port())
    };
    let mut replaced = Vec::new();
    let mut fixed = plan.clone();
    for spec in fixed.services.values_mut() {
        for (name, port) in &spec.ports {
            if is_usual(spec, name)
                && wanted.contains(&spec.id)
                && !runs(spec)
                && let Err(PortConflict::Held(holder)) = ports::check(&spec.bind, *port)
            {
                let holder = port_conflicts::holder_in_words(*port, &holder);
                replaced.push(format!("{}/{name}: port {port} is held by {holder}; a free one would be used", spec.service));
            }
        }
        let others: BTreeMap<String, u16> =
            spec.ports.iter().filter(|(name, _)| !is_usual(spec, name)).map(|(name, port)| (name.clone(), *port)).collect();
        if others.len() != spec.ports.len() {
            Arc::make_mut(spec).ports = others;
        }
    }
    let free = match &status {
        Some(status) => port_conflicts::free_beside(&fixed, wanted, &status.snapshot, advice).await,
        None => port_conflicts::free(&fixed, wanted, advice).await,
    };
    Ok((free.err(), replaced))
}
