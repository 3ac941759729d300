//! The command line: one file a verb, one place where words become options.
//!
//! `Args` structs never leave this folder's files: a verb turns them into the values that the layers below take.

pub mod analyze;
pub mod args;
pub mod artifacts;
pub mod asides;
pub mod attach;
pub mod binaries;
pub mod build;
pub mod bundle;
pub mod changes;
pub mod check;
pub mod child;
pub mod config;
pub mod console;
pub mod debug;
pub mod doctor;
pub mod down;
pub mod env;
pub mod events;
pub mod exec;
pub mod export;
pub mod foreign;
pub mod generated;
pub mod graph;
pub mod import;
pub mod inspect;
pub mod load;
pub mod logs;
pub mod look;
mod machine;
pub mod outcome;
pub mod premises;
pub mod ps;
pub mod reach;
pub mod reference;
pub mod rotate;
pub mod run;
pub mod secret;
pub mod session;
pub mod stacks;
pub mod stand;
mod stop_wait;
pub mod storage;
pub mod supervise;
pub mod task;
pub mod top;
pub mod up;
pub mod urls;
pub mod verbs;
pub mod wait;
pub mod wait_url;

use std::ffi::OsString;

use clap::Parser;

use crate::ui::term::{Term, say};
use devrun_model::Failure;
use devrun_model::exit;
use devrun_model::mask::Masker;

use args::{Cli, Verb};

/// Runs one invocation and returns its exit code.
#[must_use]
pub fn main(words: Vec<OsString>) -> i32 {
    quiet_panics();
    devrun_keeper::file_size_limit::raise();
    let words = args::follow_after_logs(words);
    let cli = match Cli::try_parse_from(words) {
        Ok(cli) => cli,
        Err(error) => {
            // clap prints help and version on stdout, mistakes on stderr; a reader that is gone is no failure.
            let _gone = error.print();
            return if error.use_stderr() { usage(&error) } else { exit::DONE };
        }
    };
    let env = |name: &str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    let ci = std::env::var("CI").is_ok_and(|value| value == "true" || value == "1");
    let term = Term::decide(cli.globals.color.as_str(), cli.globals.progress.as_str(), ci, env("NO_COLOR"));
    match dispatch(cli, term) {
        Ok(code) => code,
        Err(failure) => report(&failure, term),
    }
}

fn dispatch(cli: Cli, term: Term) -> Result<i32, Failure> {
    let globals = cli.globals;
    match cli.verb {
        Verb::Up(args) => up::run(&globals, &args, term),
        Verb::Down(args) => down::run(&globals, &args, term),
        Verb::Stop(args) => verbs::stop(&globals, &args, term),
        Verb::Start(args) => verbs::start(&globals, &args, term),
        Verb::Restart(args) => verbs::restart(&globals, &args, term),
        Verb::Kill(args) => verbs::kill(&globals, &args, term),
        Verb::Wait(args) => wait::run(&globals, &args, term),
        Verb::Ps(args) => ps::run(&globals, &args, term),
        Verb::Logs(args) => logs::run(&globals, &args, term),
        Verb::Attach(args) => attach::run(&globals, &args),
        Verb::Run(args) => run::run(&globals, &args, term),
        Verb::Exec(args) => exec::run(&globals, &args, term),
        Verb::Shell(args) => exec::shell(&globals, &args, term),
        Verb::Events(args) => events::run(&globals, &args, term),
        Verb::Inspect(args) => inspect::run(&globals, &args, term),
        Verb::Top(args) => top::run(&globals, &args, term),
        Verb::Urls(args) => urls::urls(&globals, &args, term),
        Verb::Ports(args) => urls::ports(&globals, &args, term),
        Verb::Graph(args) => graph::run(&globals, &args, term),
        Verb::Analyze(args) => analyze::run(&globals, &args, term),
        Verb::Config(args) => config::run(&globals, &args, term),
        Verb::Env(args) => env::run(&globals, &args, term),
        Verb::Psql(args) => console::psql(&globals, &args),
        Verb::RedisCli(args) => console::redis_cli(&globals, &args),
        Verb::Sql(args) => console::sql(&globals, &args, term),
        Verb::Cypher(args) => console::cypher(&globals, &args, term),
        Verb::Migrate(args) => console::migrate(&globals, &args, term),
        Verb::Task(args) => task::run(&globals, &args, term),
        Verb::Build(args) => build::run(&globals, &args, term),
        Verb::Ls(args) => stacks::list(&args, term),
        Verb::Check(args) => check::run(&globals, &args, term),
        Verb::Init(args) => import::init(&globals, &args),
        Verb::Import(args) => import::run(&globals, &args),
        Verb::Export(args) => export::run(&globals, &args),
        Verb::Which(args) => binaries::which(&globals, &args, term),
        Verb::Fetch(args) => binaries::fetch(&globals, &args, term),
        Verb::Lock(args) => binaries::lock(&globals, &args, term),
        Verb::Catalog(args) => binaries::catalog(&globals, &args, term),
        Verb::Secret(args) => secret::run(&globals, &args, term),
        Verb::Volumes(args) => storage::volumes(&globals, &args, term),
        Verb::Df(args) => storage::df(&globals, &args, term),
        Verb::Clean(args) => storage::clean(&globals, &args, term),
        Verb::Rebuild(args) => up::run(&globals, &args::UpArgs { clean: true, ..args }, term),
        Verb::Doctor(args) => doctor::run(&globals, &args, term),
        Verb::Report(args) => bundle::run(&globals, &args, term),
        Verb::Completions(args) => reference::completions(&args, term),
        Verb::Man(args) => reference::man(&args, term),
        Verb::Schema => reference::print_schema(term),
        Verb::Docs(args) => reference::docs(&args),
        Verb::Version => verbs::version(),
        Verb::Other(words) => Err(args::not_built(&words)),
    }
}

/// The last line of a mistake on the command line; clap has explained it.
fn usage(error: &clap::Error) -> i32 {
    let text = error.to_string();
    let reason = match error.kind() {
        clap::error::ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => "a verb is missing",
        _ => text.lines().next().unwrap_or_default(),
    };
    say(outcome::last_line(exit::USAGE, None, reason.strip_prefix("error: ").unwrap_or(reason)));
    exit::USAGE
}

/// The failure, its help, and the line that names the code's meaning.
fn report(failure: &Failure, term: Term) -> i32 {
    let code = exit::of(failure.kind);
    // It may quote an address with a login.
    let reason = Masker::default().text(&failure.reason);
    say(format!("{} {}", crate::ui::term::paint(term.err_color, "31;1", "error:"), crate::ui::term::safe(&reason)));
    if let Some(help) = &failure.help {
        say(format!("{} {}", crate::ui::term::paint(term.err_color, "36", "help:"), crate::ui::term::safe(help)));
    }
    say(outcome::last_line(code, None, &reason));
    code
}

/// A panic is our fault and is named with its place, so that it can be reported. Its text is shown only where it is part of
/// the program: one that was put together at run time may hold a secret.
fn quiet_panics() {
    std::panic::set_hook(Box::new(|info| {
        let text = info.payload().downcast_ref::<&'static str>().copied().unwrap_or("(its text may hold secrets)");
        let place = info.location().map(ToString::to_string).unwrap_or_default();
        say(format!("devrun failed at {place}: {text}; please report it"));
    }));
}

/// The program that this process runs. The kernel's own link leads to the file itself, also when it has been replaced or
/// deleted since (proc(5)), so what is started by it is the version that runs.
pub(crate) const OWN_PROGRAM: &str = "/proc/self/exe";

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
    let mut command = std::process::Command::new(OWN_PROGRAM);
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
    #[cfg(target_os = "linux")]
    if devrun_keeper::in_flight::is_clone3_refused()
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
