//! Whether a task that is done once runs, by what is known of its last run and by its `on_change` and `idempotent`.

use devrun_model::{Failure, FailureKind, OnChange, ServiceId, TaskSpec};

/// What is known of the last run; moments as people read them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LastRun {
    /// There was none.
    Never,
    /// It was done with these inputs.
    Done {
        /// When.
        at: String,
    },
    /// It was done with other inputs.
    Changed {
        /// When.
        at: String,
    },
    /// It began and did not end.
    Interrupted {
        /// When it began.
        since: String,
    },
}

/// What follows.
#[derive(Debug, Clone, PartialEq)]
pub enum TaskDecision {
    /// It runs; with something to say first.
    Run(Option<String>),
    /// It counts as done; the text says why.
    AlreadyDone(String),
    /// A person has to decide.
    Refuse(Failure),
}

/// Decides about one task.
#[must_use]
pub fn decide_task(id: &ServiceId, task: &TaskSpec, last: LastRun) -> TaskDecision {
    match last {
        LastRun::Never => TaskDecision::Run(None),
        LastRun::Done { at } => TaskDecision::AlreadyDone(format!("already done ({at})")),
        LastRun::Changed { at } => match task.on_change {
            OnChange::Warn => TaskDecision::AlreadyDone(format!(
                "already done ({at}), with other inputs: `devrun task {id} --force` runs it again"
            )),
            OnChange::Rerun => TaskDecision::Run(Some(format!("done {at} with other inputs; runs again"))),
            OnChange::Fail => TaskDecision::Refuse(
                Failure::new(FailureKind::Task, format!("done {at} with other inputs"))
                    .help(format!("devrun task {id} --force runs it again")),
            ),
        },
        LastRun::Interrupted { since } if task.idempotent => {
            TaskDecision::Run(Some(format!("a run begun {since} did not end; it is idempotent and runs again")))
        }
        LastRun::Interrupted { since } => TaskDecision::Refuse(
            Failure::new(FailureKind::Task, format!("a run begun {since} did not end, and what it did is not known"))
                .help(format!("look at what it did, then: devrun task resolve {id} --done | --rerun")),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn every_last_run_and_setting_has_its_decision() {
        let at = || "2026-11-28 12:00:00".to_owned();
        let (never, done, changed, interrupted) = (
            || LastRun::Never,
            || LastRun::Done { at: at() },
            || LastRun::Changed { at: at() },
            || LastRun::Interrupted { since: at() },
        );
        for (last, on_change, idempotent, expected) in [
            (never(), OnChange::Fail, false, "run"),
            (done(), OnChange::Rerun, true, "done"),
            (changed(), OnChange::Warn, true, "done"),
            (changed(), OnChange::Rerun, false, "run, and say so"),
            (changed(), OnChange::Fail, true, "refuse"),
            (interrupted(), OnChange::Rerun, true, "run, and say so"),
            (interrupted(), OnChange::Rerun, false, "refuse"),
        ] {
            let task = TaskSpec {
                once: None,
                idempotent,
                on_change,
                timeout: Duration::from_secs(300),
                work: None,
                on: None,
                inputs: Vec::new(),
                input_globs: Vec::new(),
            };
            let decision = decide_task(&ServiceId::parse("seed").unwrap(), &task, last.clone());
            let word = match &decision {
                TaskDecision::Run(None) => "run",
                TaskDecision::Run(Some(_)) => "run, and say so",
                TaskDecision::AlreadyDone(_) => "done",
                TaskDecision::Refuse(failure) => {
                    assert!(failure.help.as_deref().is_some_and(|help| help.contains("devrun task")), "{failure:?}");
                    "refuse"
                }
            };
            assert_eq!(word, expected, "{last:?} {on_change:?} idempotent={idempotent}");
        }
    }
}
