//! The async runtime of a command, and what forks need: a process that had one cannot fork any more.

use devrun_model::Failure;

/// Whether there was a runtime in this process. It leaves a socket for signals behind, which two processes cannot share.
static RUNTIME: std::sync::atomic::AtomicBool = std::sync::atomic::AtomicBool::new(false);

/// Makes this process one that may fork: where there was a runtime already, everything typed is begun once more in its place.
///
/// # Errors
/// `Internal` when our own binary cannot be executed.
pub(crate) fn fit_to_fork() -> Result<(), Failure> {
    use std::os::unix::process::CommandExt;
    if !RUNTIME.load(std::sync::atomic::Ordering::Relaxed) {
        return Ok(());
    }
    devrun_keeper::file_size_limit::restore();
    let mut words = std::env::args_os();
    let mut command = std::process::Command::new(devrun_keeper::own_program::path());
    if let Some(name) = words.next() {
        command.arg0(name);
    }
    let failed = command.args(words).exec();
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

/// A runtime for verbs that talk to a supervisor; small, as it lives for moments.
///
/// # Errors
/// `Internal` when none can be made.
pub(crate) fn runtime() -> Result<tokio::runtime::Runtime, Failure> {
    ensure_threads()?;
    RUNTIME.store(true, std::sync::atomic::Ordering::Relaxed);
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(|error| Failure::new(devrun_model::FailureKind::Internal, format!("no runtime can be made: {error}")))
}

/// A runtime of this thread alone, for a client that does little but wait.
///
/// # Errors
/// `Internal` when none can be made.
pub(crate) fn waiting_runtime() -> Result<tokio::runtime::Runtime, Failure> {
    RUNTIME.store(true, std::sync::atomic::Ordering::Relaxed);
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::new(devrun_model::FailureKind::Internal, format!("no runtime can be made: {error}")))
}
