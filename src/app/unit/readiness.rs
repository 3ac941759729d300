//! `ExecStartPost=`: the service's probes until the first pass, so that systemd takes the unit for active when it is ready.

use std::time::Duration;

use devrun_model::keeper::RunAs;
use devrun_model::not_ready_help::not_ready_help;
use devrun_model::{Check, Failure, FailureKind, ReadySpec, ServiceSpec, duration, exit};
use devrun_runtime::probe::{self, ListenWatch, ProbeReport, ProbeSubject};
use tokio::sync::mpsc;

use super::short_keeper::with_keeper;
use super::unit_plan::UnitPlan;
use crate::app::runtime;
use crate::globals::Globals;
use crate::ui::term::say;

/// Waits until a service is ready.
///
/// # Errors
/// `NotReady` with the last answer; the failure itself where waiting cannot fix it.
pub fn run(globals: &Globals, name: &str) -> Result<i32, Failure> {
    let made = UnitPlan::read(globals)?;
    let spec = made.spec(name)?;
    let Some(ready) = checks_here(spec) else { return Ok(exit::DONE) };
    runtime::runtime()?
        .block_on(with_keeper(&made, spec, true, async |runner| first_pass(spec, ready, runner).await))?
        .into_iter()
        .for_each(say);
    Ok(exit::DONE)
}

/// What can be asked here: systemd hears a notification itself, and output goes to the journal.
fn checks_here(spec: &ServiceSpec) -> Option<ReadySpec> {
    let mut ready = spec.ready.clone()?;
    ready.checks.retain(|check| !matches!(check, Check::Notify | Check::Log { .. }));
    (!ready.checks.is_empty()).then_some(ready)
}

async fn first_pass(spec: &ServiceSpec, ready: ReadySpec, runner: devrun_keeper::Runner) -> Result<Option<String>, Failure> {
    let within = ready.within;
    let mut env = spec.env.clone();
    env.extend(runner.marks.clone());
    // systemd.exec(5): set for ExecStartPost=.
    let leader = std::env::var("MAINPID").ok().and_then(|text| text.parse::<i32>().ok());
    let subject = ProbeSubject {
        id: spec.id.clone(),
        generation: 1,
        ready: Some(ready),
        alive: None,
        leader,
        runner,
        run_as: RunAs::Same,
        env,
        dir: spec.dir.clone(),
        notify_socket: None,
        held: spec.port().filter(|_| spec.listen),
        listen_watch: ListenWatch::default(),
    };
    let (sink, mut reports) = mpsc::unbounded_channel();
    let probes = probe::start(subject, sink);
    let mut last = "no probe has answered".to_owned();
    let passed = async {
        loop {
            match reports.recv().await {
                Some((_, _, ProbeReport::Passed(note))) => return Ok(note),
                Some((_, _, ProbeReport::Failed(_, Some(failure)))) => return Err(failure),
                Some((_, _, ProbeReport::Failed(answer, None))) => last = answer,
                Some((_, _, ProbeReport::AlivePassed | ProbeReport::AliveFailed(_))) => {}
                None => std::future::pending::<()>().await,
            }
        }
    };
    let result = tokio::time::timeout(within, passed).await;
    drop(probes);
    result.unwrap_or_else(|_| Err(not_ready(spec, within, &last)))
}

fn not_ready(spec: &ServiceSpec, within: Duration, last: &str) -> Failure {
    let reason = format!("{} was not ready within {}: {last}", spec.id, duration::human(within));
    Failure::new(FailureKind::NotReady, reason).help(not_ready_help(spec.service.as_str(), "journalctl shows its output", last))
}
