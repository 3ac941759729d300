//! `devrun up --plan`: what would be done and why; nothing is done.

use std::sync::Arc;

use crate::ui::table;
use devrun_model::{Failure, Plan, ServiceId};

use crate::app::load::Project;
use crate::app::readonly;
use crate::app::start_scope;

/// Runs it.
///
/// # Errors
/// `Elsewhere` when a supervisor does not answer.
pub(super) fn run(project: &Project, plan: &Arc<Plan>, targets: &[ServiceId], no_deps: bool) -> Result<i32, Failure> {
    let told = crate::app::runtime::runtime()?.block_on(async {
        match crate::app::connect::supervisor(&project.places).await? {
            Some(mut client) => client.changes(Arc::clone(plan)).await,
            None => Ok(None),
        }
    })?;
    let changes = told.unwrap_or_else(|| {
        plan.services.keys().map(|id| (id.clone(), ("start".to_owned(), "nothing runs".to_owned()))).collect()
    });
    let wanted = start_scope::of(plan, targets, no_deps);
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
    Ok(readonly::text(&table::render(&["DO", "SERVICE", "WHY"], &rows)))
}
