//! The mode of a stack that runs. The modes of a project share its supervisor and often its ports: what a command of another mode
//! reaches is the data and the processes of the mode that runs. So a command that acts on them is refused where the two differ. A
//! command that reads the procfile is checked by `load::read`, one that only asks the supervisor by `request::session`.

use std::time::Duration;

use devrun_model::{Failure, FailureKind, Paths, Snapshot};

use crate::app::connect;
use crate::app::load::{Project, is_running};
use crate::app::runtime;
use crate::globals;
use crate::ui::term::say;

/// How long a supervisor that is just starting may take to answer.
const PATIENCE: Duration = Duration::from_secs(5);
/// Between two attempts to reach it.
const PAUSE: Duration = Duration::from_millis(10);

/// What runs of the project. `None`: nothing does. Asked on a thread of its own, as the caller may run tasks already.
///
/// # Errors
/// `Elsewhere` when a supervisor runs and does not say.
pub fn running(project: &Project) -> Result<Option<Snapshot>, Failure> {
    if !is_running(&project.places)? {
        return Ok(None);
    }
    runtime::ensure_threads()?;
    let places = project.places.clone();
    let asked = std::thread::Builder::new().spawn(move || runtime::waiting_runtime()?.block_on(ask(&places)));
    let asked = asked.map_err(|error| runtime::thread_refused(&error.to_string()))?;
    asked.join().unwrap_or_else(|_panic| Err(silent()))
}

async fn ask(places: &Paths) -> Result<Option<Snapshot>, Failure> {
    let give_up = tokio::time::Instant::now() + PATIENCE;
    loop {
        if let Some(mut client) = connect::supervisor(places).await?
            && let Some(status) = client.status().await?
        {
            return Ok(Some(status.snapshot));
        }
        if !is_running(places)? {
            return Ok(None);
        }
        if tokio::time::Instant::now() > give_up {
            return Err(silent());
        }
        tokio::time::sleep(PAUSE).await;
    }
}

fn silent() -> Failure {
    Failure::new(FailureKind::Elsewhere, "the supervisor runs and does not say which mode it runs").help("devrun ps")
}

/// The mode of a command that acts on what runs where none is given: that of the stack. Empty: it has no mode.
#[must_use]
pub fn implied(project: &Project, running: Option<&Snapshot>) -> Option<String> {
    let stack = running.filter(|_| project.given_mode.is_none() && project.temporary.is_none())?;
    Some(stack.mode.clone().unwrap_or_default())
}

/// Refuses a command whose mode is not the one that runs.
///
/// # Errors
/// `Elsewhere`, with both modes.
pub fn check(running: Option<&Snapshot>, mode: Option<&str>) -> Result<(), Failure> {
    match running {
        Some(stack) if stack.mode.as_deref() != mode => Err(refused(stack, mode)),
        _ => Ok(()),
    }
}

/// As [`check`], for a command that does not read the procfile: without `--mode` and `DEVRUN_MODE` it means whatever runs.
///
/// # Errors
/// `Elsewhere`, with both modes.
pub fn check_given(project: &Project, running: &Snapshot) -> Result<(), Failure> {
    match &project.given_mode {
        Some(given) if project.temporary.is_none() => check(Some(running), Some(given.as_str()).filter(|mode| !mode.is_empty())),
        _ => Ok(()),
    }
}

/// Says that values which are only shown are not those of what runs.
pub fn note_other(running: &Snapshot, mode: Option<&str>) {
    if running.supervisor_pid.is_some() && running.mode.as_deref() != mode {
        say(format!("note: the stack runs in {}; these are the values of {}", words(running.mode.as_deref()), words(mode)));
    }
}

fn words(mode: Option<&str>) -> String {
    mode.map_or_else(|| "no mode".to_owned(), |mode| format!("mode {mode}"))
}

fn refused(stack: &Snapshot, mode: Option<&str>) -> Failure {
    let option = |mode: Option<&str>| match mode {
        Some(mode) => format!("--mode {mode}"),
        None => "--mode ''".to_owned(),
    };
    let instance = if stack.instance.is_empty() { String::new() } else { format!(" --instance {}", stack.instance) };
    let typed: Vec<_> = std::env::args_os().collect();
    let verb = globals::verb_at(&typed).and_then(|at| typed.get(at)).map_or("ps".into(), |word| word.to_string_lossy());
    let reason = format!("the stack runs in {}, and this command is for {}", words(stack.mode.as_deref()), words(mode));
    Failure::new(FailureKind::Elsewhere, reason).help(format!(
        "devrun{instance} {} {verb} … acts on what runs; devrun{instance} {} up -d changes the stack over",
        option(stack.mode.as_deref()),
        option(mode)
    ))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::sync::Arc;

    use super::*;
    use crate::app::project::TemporarySelection;

    fn stack(mode: Option<&str>) -> Snapshot {
        Snapshot {
            project: "shop".to_owned(),
            instance: String::new(),
            mode: mode.map(str::to_owned),
            supervisor_pid: Some(1),
            supervisor_version: None,
            services: Vec::new(),
        }
    }

    fn project(given: Option<&str>) -> Project {
        Project {
            files: Vec::new(),
            label: None,
            root: "/x".into(),
            places: Paths { root: "/x".into(), state: "/x/.devrun".into(), run: "/x/run".into() },
            temporary: None,
            given_mode: given.map(str::to_owned),
            instance: String::new(),
            env: BTreeMap::new(),
            reserved: Arc::default(),
        }
    }

    #[test]
    fn a_mode_that_does_not_run_is_refused_with_both_names() {
        let dev = stack(Some("dev"));
        let failure = check(Some(&dev), Some("prod")).unwrap_err();
        assert_eq!(
            (failure.kind, failure.reason.as_str()),
            (FailureKind::Elsewhere, "the stack runs in mode dev, and this command is for mode prod")
        );
        let help = failure.help.unwrap_or_default();
        assert!(help.contains("devrun --mode dev ") && help.contains("devrun --mode prod up -d"), "{help}");
        let failure = check(Some(&stack(None)), Some("dev")).unwrap_err();
        assert!(failure.reason.contains("runs in no mode"), "{}", failure.reason);
        let help = failure.help.unwrap_or_default();
        assert!(help.contains("--mode '' ") && help.contains("devrun --mode dev up -d"), "{help}");
        assert!(check(Some(&dev), Some("dev")).is_ok() && check(None, Some("prod")).is_ok());
    }

    #[test]
    fn without_a_given_mode_a_request_means_what_runs() {
        assert!(check_given(&project(None), &stack(Some("dev"))).is_ok());
        assert!(check_given(&project(Some("dev")), &stack(Some("dev"))).is_ok());
        assert!(check_given(&project(Some("")), &stack(None)).is_ok());
        assert!(check_given(&project(Some("")), &stack(Some("dev"))).is_err());
        let inside = Project { temporary: Some(TemporarySelection::default()), ..project(Some("prod")) };
        assert!(check_given(&inside, &stack(Some("dev"))).is_ok());
    }

    #[test]
    fn without_a_given_mode_a_command_means_the_stack_that_runs() {
        let (prod, none) = (stack(Some("prod")), stack(None));
        assert_eq!(implied(&project(None), Some(&prod)).as_deref(), Some("prod"));
        assert_eq!(implied(&project(None), Some(&none)).as_deref(), Some(""));
        assert_eq!(implied(&project(None), None), None);
        assert_eq!(implied(&project(Some("dev")), Some(&prod)), None);
        let inside = Project { temporary: Some(TemporarySelection::default()), ..project(None) };
        assert_eq!(implied(&inside, Some(&prod)), None);
    }
}
