//! `devrun up --plan`: what would be done and why; nothing is done.

use std::sync::Arc;

use crate::ui::table;
use devrun_model::{Failure, Plan, ServiceId, ServiceSpec};

use crate::app::load::{self, Project};
use crate::app::missing_programs::{self, LaunchPlaces, ProgramCheck};
use crate::app::readonly;
use crate::app::start_scope;
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
) -> Result<i32, Failure> {
    let runtime = crate::app::runtime::runtime()?;
    let told = runtime.block_on(missing_programs::changes(project, plan))?;
    let changes = told.unwrap_or_else(|| {
        plan.services.keys().map(|id| (id.clone(), ("start".to_owned(), "nothing runs".to_owned()))).collect()
    });
    let wanted = start_scope::of(plan, targets, args.no_deps);
    let is_started = |spec: &ServiceSpec| match changes.get(&spec.id).map(|(word, _)| word.as_str()) {
        Some("restart") => true,
        Some("start") => wanted.contains(&spec.id),
        _ => false,
    };
    let to_build = super::built(plan, args.build);
    let nothing_shown = Arc::new(devrun_store::NoDownloadProgress);
    let options = load::fetch_options(project, args.offline, args.mirror.clone(), nothing_shown);
    let check = ProgramCheck { plan, places, options: &options, to_build: &to_build };
    let missing = runtime.block_on(check.missing(is_started))?;
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
    missing.iter().for_each(missing_programs::warn);
    Ok(code)
}
