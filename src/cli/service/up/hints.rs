//! What to type next, below the summary of a start.

use std::path::Path;

use devrun_model::Snapshot;
use devrun_model::feed::Outcome;

use crate::app::load::Project;
use crate::app::trust;

/// A command or key, and what it does.
pub(super) type Hint = (&'static str, &'static str);

/// What Ctrl-C and `down` do.
const STOP: &str = "stop everything";
/// This process is the supervisor.
pub(super) const ATTACHED: [Hint; 3] =
    [("Ctrl-C", STOP), ("devrun ps", "what runs"), ("devrun logs -f", "follow the logs elsewhere")];
/// Attached to a stack that was up.
pub(super) const JOINED: [Hint; 3] =
    [("Ctrl-C", "detach; the stack keeps running"), ("devrun ps", "what runs"), ("devrun down", STOP)];
pub(super) const DETACHED: [Hint; 3] = [("devrun logs -f", "follow the logs"), ("devrun ps", "what runs"), ("devrun down", STOP)];

/// The lines after a start: after one of which only a part runs, what leads to its failure.
pub(super) fn lines(project: &Project, snapshot: &Snapshot, outcome: &Outcome, hints: &[Hint]) -> Vec<String> {
    let owned = |(command, what): &Hint| ((*command).to_owned(), *what);
    let rows: Vec<(String, &str)> = if outcome.failures.is_empty() && outcome.blocked.is_empty() {
        hints.iter().map(owned).collect()
    } else {
        after_failure(snapshot, outcome, hints)
    };
    let here = std::env::current_dir().unwrap_or_default();
    let directory = directory(project, &here);
    let rows: Vec<(String, &str)> =
        rows.into_iter().map(|(command, what)| (addressed(&command, directory.as_deref()), what)).collect();
    let width = rows.iter().map(|(command, _)| command.len()).max().unwrap_or_default();
    rows.iter().map(|(command, what)| format!("{command:width$}    {what}")).collect()
}

/// What to type after a start of which a part runs.
fn after_failure(snapshot: &Snapshot, outcome: &Outcome, hints: &[Hint]) -> Vec<(String, &'static str)> {
    let culprit = outcome.failures.first().map(|failed| failed.id.to_string());
    let Some(culprit) = culprit.filter(|_| snapshot.services.iter().any(|service| service.state.is_live())) else {
        return Vec::new();
    };
    let mut rows = vec![(format!("devrun why {culprit}"), "what went wrong"), ("devrun ps".to_owned(), "what runs")];
    rows.extend(hints.iter().filter(|(_, what)| *what == STOP).map(|(command, what)| ((*command).to_owned(), *what)));
    rows
}

/// The directory of a project that a command does not find from `here` by itself.
fn directory(project: &Project, here: &Path) -> Option<String> {
    let root = project.root.canonicalize().unwrap_or_else(|_| project.root.clone());
    let has_usual_name = project.files.first().and_then(|file| file.file_name()).is_some_and(|name| name == "procfile.toml");
    let is_meant = has_usual_name && !here.starts_with(&root) && project.temporary.is_none();
    is_meant.then(|| trust::quoted(&project.root))
}

fn addressed(command: &str, directory: Option<&str>) -> String {
    match (command.strip_prefix("devrun "), directory) {
        (Some(words), Some(directory)) => format!("devrun -C {directory} {words}"),
        _ => command.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_names_the_directory_where_it_must() {
        assert_eq!(addressed("devrun ps", None), "devrun ps");
        assert_eq!(addressed("devrun logs -f", Some("/tmp/devrun-demo-x")), "devrun -C /tmp/devrun-demo-x logs -f");
        assert_eq!(addressed("Ctrl-C", Some("/tmp/devrun-demo-x")), "Ctrl-C");
    }
}
