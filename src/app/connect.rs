//! How a command finds the supervisor of its project: over the control socket, and where that is gone, by the instance lock.
//!
//! The runtime directory may be cleaned away while a stack is up, or something else may be put in the socket's place. The
//! instance lock says whether a supervisor runs, and together with the journal which process it is. That one is asked by a
//! signal to make its socket again: SIGURG, as it means nothing to a program that does not ask for it.

use std::os::unix::fs::MetadataExt;
use std::time::Duration;

use devrun_keeper::{identity, process_list, signal};
use devrun_keeper::{journal, lock};
use devrun_model::keeper::Identity;
use devrun_model::{Failure, FailureKind, Paths};
use devrun_runtime::control::ControlClient;

/// How long a supervisor may take to make its socket again.
const PATIENCE: Duration = Duration::from_secs(3);
/// How often it is asked: at its start it does not hear yet.
const ASK: Duration = Duration::from_millis(250);

/// Connects to the supervisor that holds the instance lock. `None`: nothing runs, or it is just starting.
///
/// # Errors
/// `Elsewhere` when one runs and cannot be reached.
pub async fn supervisor(places: &Paths) -> Result<Option<ControlClient>, Failure> {
    match ControlClient::connect(places).await {
        Ok(None) => {}
        Err(_) if is_of_another_user(places) && holder(places).is_some() => {}
        answered => return answered.map_err(|failure| explained(places, failure)),
    }
    let give_up = tokio::time::Instant::now() + PATIENCE;
    loop {
        // Only where nothing listens is it worth reading the journal.
        let Some(running) = holder(places) else { return Ok(None) };
        ask(&running);
        let again = tokio::time::Instant::now() + ASK;
        while tokio::time::Instant::now() < again {
            if !is_of_another_user(places)
                && let Some(client) = ControlClient::connect(places).await?
            {
                return Ok(Some(client));
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        if tokio::time::Instant::now() > give_up {
            return if holder(places).is_some() { Err(unreachable(running.pid)) } else { Ok(None) };
        }
    }
}

/// What is said of a supervisor that does not answer: one that was stopped goes on when it is told to.
fn explained(places: &Paths, failure: Failure) -> Failure {
    let Some(pid) = holder(places).map(|running| running.pid).filter(|pid| is_suspended(*pid)) else { return failure };
    Failure::new(failure.kind, format!("the supervisor (pid {pid}) is stopped (Ctrl-Z or SIGSTOP) and does not answer"))
        .help(format!("resume it: `fg` in its terminal, or kill -CONT {pid}; devrun down --emergency ends it and what it runs"))
}

/// Whether a process was stopped by Ctrl-Z or SIGSTOP, or is being traced.
#[must_use]
pub fn is_suspended(pid: i32) -> bool {
    process_list::stat(pid).is_some_and(|stat| matches!(stat.state, b'T' | b't'))
}

/// Whether what is in the socket's place was put there by another user, so that an error of it says nothing of ours.
fn is_of_another_user(places: &Paths) -> bool {
    std::fs::symlink_metadata(places.socket()).is_ok_and(|meta| meta.uid() != nix::unistd::geteuid().as_raw())
}

/// What is said of a supervisor that runs and has no socket.
fn unreachable(pid: i32) -> Failure {
    Failure::new(FailureKind::Elsewhere, format!("the supervisor (pid {pid}) is running and cannot be reached"))
        .help("devrun down --emergency ends it and what it runs")
}

/// The supervisor that holds the instance lock, proved: the lock is held, names it, and the journal knows the same process
/// by its start time. `None` as well while it is starting, as its journal is still that of the run before.
pub fn holder(places: &Paths) -> Option<Identity> {
    let path = places.instance_lock();
    if !lock::is_held(&path).ok()? {
        return None;
    }
    let named = lock::recorded_pid(&path)?;
    let supervisor = journal::read(&places.journal()).ok()?.header?.supervisor;
    let ours = process_list::uid(supervisor.pid).is_some_and(|uid| uid == nix::unistd::geteuid().as_raw());
    (supervisor.pid == named && ours && identity::holds(&supervisor)).then_some(supervisor)
}

/// Asks it to make its socket again, where it is not there.
pub fn ask(supervisor: &Identity) {
    // It may have ended meanwhile, which its lock tells.
    let _gone = signal::send_checked(supervisor.pid, supervisor.start, libc::SIGURG);
}
