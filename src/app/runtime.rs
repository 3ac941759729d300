//! The async runtime of a command, and what forks need: a process that had one cannot fork any more.

use std::sync::atomic::{AtomicBool, Ordering};

use devrun_keeper::system_limits;
use devrun_model::Failure;

use crate::app::shown_warnings;

/// Whether there was a runtime in this process. It leaves a socket for signals behind, which two processes cannot share.
static RUNTIME: AtomicBool = AtomicBool::new(false);

/// Whether one is being created. When a thread is refused then, tokio panics and waits for the threads that it has for ever.
static IS_BEING_CREATED: AtomicBool = AtomicBool::new(false);

/// Makes this process one that may fork: where there was a runtime already, everything typed is begun once more in its place.
///
/// # Errors
/// `Internal` when our own binary cannot be executed.
pub(crate) fn fit_to_fork() -> Result<(), Failure> {
    use std::os::unix::process::CommandExt;
    if !RUNTIME.load(Ordering::Relaxed) {
        return Ok(());
    }
    devrun_keeper::file_size_limit::restore();
    let mut words = std::env::args_os();
    let mut command = std::process::Command::new(devrun_keeper::own_program::path());
    if let Some(name) = words.next() {
        command.arg0(name);
    }
    let failed = command.args(words).envs(shown_warnings::variable()).exec();
    Err(Failure::new(devrun_model::FailureKind::Internal, format!("our own binary cannot be run again: {failed}")))
}

/// Makes sure that this process can have threads, where a system call that they need is refused.
///
/// # Errors
/// `Internal`, with what refuses it.
pub(crate) fn ensure_threads() -> Result<(), Failure> {
    if devrun_keeper::is_clone3_refused()
        && let Err(error) = std::thread::Builder::new().spawn(|| ())
    {
        let reason = format!("cannot create a thread: {error}: a seccomp profile refuses the system call clone3");
        return Err(Failure::new(devrun_model::FailureKind::Internal, reason)
            .help("update the container runtime (Docker 20.10.10 or newer), or start the container with --security-opt seccomp=unconfined"));
    }
    Ok(())
}

/// Descriptors that a runtime takes before and after the socket pair for signals, for which tokio panics where there is none (1.54,
/// `signal::unix::OsExtraData`): those of epoll, its copy, the waker, and a copy of one end.
const DESCRIPTORS_BESIDE_PAIR: usize = 4;

/// Makes sure that a runtime can have its descriptors.
fn ensure_descriptors() -> Result<(), Failure> {
    let open = || {
        let pair = std::os::unix::net::UnixStream::pair()?;
        let copies = (0..DESCRIPTORS_BESIDE_PAIR).map(|_| pair.0.try_clone()).collect::<Result<Vec<_>, _>>()?;
        drop(copies);
        Ok(())
    };
    open().map_err(no_runtime)
}

fn no_runtime(error: std::io::Error) -> Failure {
    Failure::new(devrun_model::FailureKind::Internal, format!("the event loop cannot be created: {error}"))
        .help(system_limits::help(&error))
}

/// The failure of a command that gets no further thread. `reason` is what the system says.
#[must_use]
pub(crate) fn thread_refused(reason: &str) -> Failure {
    Failure::new(devrun_model::FailureKind::Internal, format!("the system refuses a thread: {reason}"))
        .help(system_limits::PROCESSES)
}

/// Whether this process can only exit, from where a panic is reported: nothing has been started yet.
#[must_use]
pub(crate) fn can_only_exit() -> bool {
    IS_BEING_CREATED.load(Ordering::Relaxed)
}

/// A runtime for verbs that talk to a supervisor; small, as it lives for moments.
///
/// # Errors
/// `Internal` when none can be made.
pub(crate) fn runtime() -> Result<tokio::runtime::Runtime, Failure> {
    threaded(Some(2))
}

/// A runtime with a thread for each processor, for what serves connections itself.
///
/// # Errors
/// `Internal` when none can be made.
pub(crate) fn server_runtime() -> Result<tokio::runtime::Runtime, Failure> {
    threaded(None)
}

fn threaded(threads: Option<usize>) -> Result<tokio::runtime::Runtime, Failure> {
    ensure_threads()?;
    ensure_descriptors()?;
    RUNTIME.store(true, Ordering::Relaxed);
    IS_BEING_CREATED.store(true, Ordering::Relaxed);
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    if let Some(threads) = threads {
        builder.worker_threads(threads);
    }
    let runtime = builder.enable_all().build();
    IS_BEING_CREATED.store(false, Ordering::Relaxed);
    runtime.map_err(no_runtime)
}

/// A runtime of this thread alone, for a client that does little but wait.
///
/// # Errors
/// `Internal` when none can be made.
pub(crate) fn waiting_runtime() -> Result<tokio::runtime::Runtime, Failure> {
    ensure_descriptors()?;
    RUNTIME.store(true, Ordering::Relaxed);
    tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(no_runtime)
}
