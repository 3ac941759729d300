//! From the words of a command line to the command, and from its failure to the exit code.

use std::ffi::OsString;
use std::io::IsTerminal;

use crate::app::trace_output;
use crate::ui::term::{Term, say};
use devrun_model::exit;
use devrun_model::{Failure, FailureKind};
use devrun_runtime::trace_masks;

use super::args::{self, Cli, Verb};
use super::command_tip;
use super::completions;
use super::compose_options;
use super::convert::{export, import};
use super::data::{backup, branch, client, db, secret, snapshot, volumes};
use super::demo::{self, DemoArgs};
use super::docs_files;
use super::getting_started;
use super::machine_docs;
use super::reference;
use super::self_update;
use super::service::up::UpArgs;
use super::service::{
    attach, build, compose, control, down, exec, gateway, run, scale, shared, task, telemetry, trust, unit, up, wait,
};
use super::show::check::CheckArgs;
use super::show::{
    analyze, check, config, doctor, env, events, graph, inspect, logs, ls, mcp, ps, report, resources, routes, top, ui, urls,
    web, why,
};
use super::store::binaries;
use super::typed_command;
use super::unknown_command;
use super::usage_error::UsageError;
use super::version;
use crate::globals::Globals;
use crate::ui::{exit_line, output};

/// Runs one invocation and returns its exit code.
#[must_use]
pub fn main(words: Vec<OsString>) -> i32 {
    let code = run(words);
    output::finish();
    match output::loss() {
        Some(error) => report_loss(error, code),
        None => code,
    }
}

fn run(words: Vec<OsString>) -> i32 {
    quiet_panics();
    devrun_keeper::file_size_limit::raise();
    if words.len() <= 1 {
        return match getting_started::run() {
            Ok(code) => code,
            Err(failure) => report_failure(&failure, Term::decide("auto", "auto", false, true)),
        };
    }
    let words = args::follow_after_logs(words);
    let cli = match typed_command::parse(&words) {
        Ok(cli) => cli,
        Err(error) => {
            if error.use_stderr() {
                return usage(&words, error);
            }
            // Help and version.
            output::note(error.print());
            return exit::DONE;
        }
    };
    let env = |name: &str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    let ci = std::env::var("CI").is_ok_and(|value| value == "true" || value == "1");
    let term = Term::decide(cli.globals.color.as_str(), cli.globals.progress.as_str(), ci, env("NO_COLOR"));
    // The hook has said what failed; what guards had to undo is undone by now.
    match std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| dispatch(cli, term))) {
        Ok(Ok(code)) => code,
        Ok(Err(failure)) => report_failure(&failure, term),
        Err(_panic) => exit::INTERNAL,
    }
}

/// Output that was lost: a reader of the file has half of it. The code of a command that has failed stays.
fn report_loss(error: &std::io::Error, code: i32) -> i32 {
    let reason = format!("cannot write to standard output: {error}");
    if code != exit::DONE {
        say(format!("warning: {reason}"));
        return code;
    }
    let help = match error.kind() {
        std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded => "free some space, or write to another place",
        std::io::ErrorKind::FileTooLarge => "raise the limit on file sizes: ulimit -f unlimited",
        _ => "write to another place",
    };
    report_failure(&Failure::new(FailureKind::Config, reason).help(help), Term::decide("auto", "auto", false, true))
}

fn dispatch(cli: Cli, term: Term) -> Result<i32, Failure> {
    let globals = cli.globals;
    trace_output::start(&globals)?;
    match cli.verb {
        Verb::Up(args) if args.ui => ui::up(&globals, term),
        Verb::Up(args) => up::run(&globals, &args, term),
        Verb::Down(args) => down::run(&globals, &args, term),
        Verb::Stop(args) => control::stop(&globals, &args, term),
        Verb::Start(args) => control::start(&globals, &args, term),
        Verb::Restart(args) => control::restart(&globals, &args, term),
        Verb::Scale(args) => scale::run(&globals, &args, term),
        Verb::Kill(args) => control::kill(&globals, &args, term),
        Verb::Wait(args) => wait::run(&globals, &args, term),
        Verb::Ps(args) => ps::run(&globals, &args, term),
        Verb::Logs(args) => logs::run(&globals, &args, term),
        Verb::Attach(args) => attach::run(&globals, &args),
        Verb::Run(args) => run::run(&globals, &args, term),
        Verb::Exec(args) => exec::run(&globals, &args, term),
        Verb::Shell(args) => exec::shell(&globals, &args, term),
        Verb::Events(args) => events::run(&globals, &args, term),
        Verb::Inspect(args) => inspect::run(&globals, &args, term),
        Verb::Ui => ui::run(&globals, term),
        Verb::Web(args) => web::run(&globals, &args, term),
        Verb::Mcp => mcp::run(&globals, term),
        Verb::Top(args) => top::run(&globals, &args, term),
        Verb::Urls(args) => urls::urls(&globals, &args, term),
        Verb::Ports(args) => urls::ports(&globals, &args, term),
        Verb::Resources(args) => resources::run(&globals, &args, term),
        Verb::Why(args) => why::run(&globals, &args, term),
        Verb::Routes(args) => routes::run(&globals, &args, term),
        Verb::Trust(args) => trust::run(&args, term),
        Verb::Graph(args) => graph::run(&globals, &args, term),
        Verb::Analyze(args) => analyze::run(&globals, &args, term),
        Verb::Config(args) if args.service.as_deref() == Some("check") => check::run(&globals, &CheckArgs { quiet: false }, term),
        Verb::Config(args) if args.quiet => check::run(&globals, &CheckArgs { quiet: true }, term),
        Verb::Config(args) => config::run(&globals, &args, term),
        Verb::Env(args) => env::run(&globals, &args, term),
        Verb::Psql(args) => client::psql(&globals, &args, term),
        Verb::RedisCli(args) => client::redis_cli(&globals, &args, term),
        Verb::Sql(args) => client::sql(&globals, &args, term),
        Verb::Cypher(args) => client::cypher(&globals, &args, term),
        Verb::Migrate(args) => client::migrate(&globals, &args, term),
        Verb::Task(args) => task::run(&globals, &args, term),
        Verb::Build(args) => build::run(&globals, &args, term),
        Verb::Ls(args) => ls::list(&globals, &args, term),
        Verb::Check(args) => check::run(&globals, &args, term),
        Verb::Help(args) => machine_docs::help(&args, term),
        Verb::Init(args) if args.agents => machine_docs::init_agents(&globals, args.output.as_deref()),
        Verb::Init(args) => import::init(&globals, &args),
        Verb::Import(args) => import::run(&globals, &args),
        Verb::Export(args) => export::run(&globals, &args),
        Verb::Which(args) => binaries::which(&globals, &args, term),
        Verb::Fetch(args) => binaries::fetch(&globals, &args, term),
        Verb::Lock(args) => binaries::lock(&globals, &args, term),
        Verb::Catalog(args) => binaries::catalog(&globals, &args, term),
        Verb::Secret(args) => secret::run(&globals, &args, term),
        Verb::Volumes(args) => volumes::volumes(&globals, &args, term),
        Verb::Snapshot(args) => snapshot::run(&globals, &args, term),
        Verb::Backup(args) => backup::backup(&globals, &args, term),
        Verb::Restore(args) => backup::restore(&globals, &args, term),
        Verb::Branch(args) => branch::run(&globals, &args, term),
        Verb::Db(args) => db::run(&globals, &args, term),
        Verb::Forks => db::reap(&globals),
        Verb::Shared(args) => shared::run(&globals, &args),
        Verb::Df(args) => volumes::df(&globals, &args, term),
        Verb::Clean(args) => volumes::clean(&globals, &args, term),
        Verb::Rebuild(args) => up::run(&globals, &UpArgs { clean: true, ..args }, term),
        Verb::Doctor(args) => doctor::run(&globals, &args, term),
        Verb::Report(args) => report::run(&globals, &args, term),
        Verb::Completions(args) => completions::run(&args, term),
        Verb::Services => completions::services(&globals),
        Verb::Man(args) => reference::man(&args, term),
        Verb::Schema => reference::print_schema(term),
        Verb::Compose(args) => compose::run(&globals, &args),
        Verb::Gateway(args) => gateway::run(&args),
        Verb::Telemetry(args) => telemetry::run(&args),
        Verb::Unit(args) => unit::run(&globals, &args),
        Verb::Docs(args) => docs_files::write(&args),
        Verb::SelfUpdate(args) => self_update::run(&args, term),
        Verb::Version(args) => version::run(&args),
        Verb::Demo(args) => run_demo(&globals, &args, term),
        Verb::Other(words) => Err(unknown_command::failure(&words)),
    }
}

/// The demo is `up` in a directory of its own; the directory stays for as long as the stack does.
fn run_demo(globals: &Globals, args: &DemoArgs, term: Term) -> Result<i32, Failure> {
    if let Some(dir) = &args.write {
        return demo::write_to(dir);
    }
    let (dir, globals) = demo::prepare(globals)?;
    let code = up::run(&globals, &UpArgs { offline: args.offline, ..UpArgs::default() }, term);
    let removed = demo::remove(dir);
    let code = code?;
    removed.map(|()| code)
}

/// A mistake on the command line, as clap explains it, and the last line. It quotes what was typed.
fn usage(words: &[OsString], error: clap::Error) -> i32 {
    let is_of_a_program = command_tip::corrected(words, &error).is_some_and(|corrected| corrected.is_certain);
    if let Some((option, help)) = compose_options::answer(words, &error).filter(|_| !is_of_a_program) {
        let reason = format!("unexpected argument '{option}' found");
        say(format!("error: {reason}\nhelp: {help}"));
        say(exit_line::last_line(exit::USAGE, None, &reason));
        return exit::USAGE;
    }
    let env = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
    let plain = !std::io::stderr().is_terminal() || env("NO_COLOR").is_some() || env("TERM").is_none_or(|term| term == "dumb");
    let shown = UsageError::new(words, error, !plain);
    say(shown.text);
    say(exit_line::last_line(exit::USAGE, None, &shown.reason));
    exit::USAGE
}

/// The failure, its help, and the line that names the code's meaning.
fn report_failure(failure: &Failure, term: Term) -> i32 {
    let code = exit::of(failure.kind);
    // It may quote an address with a login, or a value that comes from a secret.
    let reason = trace_masks::masked(&failure.reason);
    if !failure.is_shown {
        let mut lines = reason.lines().map(crate::ui::term::safe);
        let first = lines.next().unwrap_or_default();
        say(format!("{} {first}", crate::ui::term::paint(term.err_color, "31;1", "error:")));
        // Such as one port each.
        lines.for_each(say);
        if let Some(help) = &failure.help {
            say(format!(
                "{} {}",
                crate::ui::term::paint(term.err_color, "36", "help:"),
                crate::ui::term::safe(&trace_masks::masked(help))
            ));
        }
    }
    say(exit_line::of_failure(failure, &reason));
    code
}

/// A panic is our fault and is named with its place, so that it can be reported. Its text is shown only where it is part of
/// the program: one that was put together at run time may hold a secret. Libraries panic where the system refuses a thread, which is
/// a limit of the caller.
fn quiet_panics() {
    std::panic::set_hook(Box::new(|info| {
        if let Some(reason) = info.payload().downcast_ref::<String>().filter(|text| is_about_threads(text)) {
            let failure = crate::app::runtime::thread_refused(reason);
            say(format!("error: {}\nhelp: {}", failure.reason, failure.help.as_deref().unwrap_or_default()));
            say(exit_line::of_failure(&failure, &failure.reason));
            if crate::app::runtime::can_only_exit() {
                std::process::exit(exit::INTERNAL);
            }
            return;
        }
        let text = info.payload().downcast_ref::<&'static str>().copied().unwrap_or("(its text may hold secrets)");
        let place = info.location().map(ToString::to_string).unwrap_or_default();
        say(format!("devrun failed at {place}: {text}; {}", exit_line::PANIC_ADVICE));
    }));
}

/// What tokio and the standard library say in a panic when no thread can be made.
fn is_about_threads(text: &str) -> bool {
    ["OS can't spawn worker thread", "failed to spawn thread"].iter().any(|start| text.starts_with(start))
}
