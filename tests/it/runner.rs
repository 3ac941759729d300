//! The runner of `tests/it` and `tests/real`: `libtest-mimic`, which takes the options of the standard one. A test that finds out that it
//! cannot run here says so with `harness::skipped`; it is reported as ignored, and all of them are listed with their reasons
//! after the summary.

use std::io::Write as _;
use std::process::ExitCode;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use libtest_mimic::{Arguments, Completion, Trial};

use crate::harness::SKIPPED;

/// A function with `#[test]`; see `tests/attribute`.
pub struct Test {
    /// With its module and the name of the test binary.
    pub path: &'static str,
    /// It is the part of another test that runs in a process of its own, which sets this variable.
    pub only_with: Option<&'static str>,
    pub run: fn(),
}

inventory::collect!(Test);

/// What could not run here, and why.
static IGNORED: Mutex<Vec<(String, String)>> = Mutex::new(Vec::new());

/// How long each took.
static TIMES: Mutex<Vec<(Duration, String)>> = Mutex::new(Vec::new());

/// How many of the slowest are listed, and from which time on: where the time of a whole run goes.
const SLOWEST: usize = 12;
const SLOW: Duration = Duration::from_secs(10);

/// Every function with `#[test]`, by name.
pub fn tests() -> Vec<Trial> {
    let present = |test: &&Test| test.only_with.is_none_or(|variable| std::env::var_os(variable).is_some());
    let mut tests: Vec<&Test> = inventory::iter::<Test>.into_iter().filter(present).collect();
    tests.sort_by_key(|test| test.path);
    tests.into_iter().map(|test| trial(test.path, test.run)).collect()
}

/// One test, of the name that it has without the test binary's.
pub fn trial(path: &str, run: fn()) -> Trial {
    let name = path.split_once("::").map_or(path, |(_, name)| name).to_owned();
    Trial::ignorable_test(name.clone(), move || {
        // Threads are used again, also after a test that failed when it had called `skipped`.
        drop(SKIPPED.take());
        let began = Instant::now();
        run();
        TIMES.lock().expect("no test holds it").push((began.elapsed(), name.clone()));
        let Some(why) = SKIPPED.take() else { return Ok(Completion::Completed) };
        IGNORED.lock().expect("no test holds it").push((name, why.clone()));
        Ok(Completion::ignored_with(why))
    })
}

/// A test that is known not to be possible here: it is reported as one that found that out.
pub fn impossible(name: &str, why: &'static str) -> Trial {
    let name = name.to_owned();
    Trial::ignorable_test(name.clone(), move || {
        IGNORED.lock().expect("no test holds it").push((name, why.to_owned()));
        Ok(Completion::ignored_with(why))
    })
}

/// How many processors there are.
pub fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, std::num::NonZero::get)
}

/// Runs those that the command line asks for, `at_once` of them where it does not say how many: most of their time is waiting.
pub fn run(tests: Vec<Trial>, at_once: usize) -> ExitCode {
    restore_interrupts();
    let (words, filters) = split_filters(std::env::args().collect());
    let mut arguments = Arguments::from_iter(words);
    arguments.test_threads.get_or_insert(at_once);
    let wanted = |trial: &Trial| {
        filters.is_empty()
            || filters.iter().any(|filter| if arguments.exact { trial.name() == filter } else { trial.name().contains(filter) })
    };
    let conclusion = libtest_mimic::run(&arguments, tests.into_iter().filter(wanted).collect());
    let mut times = TIMES.lock().expect("no test runs any more");
    times.sort_by_key(|(time, _)| std::cmp::Reverse(*time));
    let slowest: Vec<String> = times
        .iter()
        .take_while(|(time, _)| *time >= SLOW)
        .take(SLOWEST)
        .map(|(time, name)| format!("    {:>4} s  {name}\n", time.as_secs()))
        .collect();
    if !slowest.is_empty() {
        let _ = writeln!(std::io::stdout(), "the slowest:\n{}", slowest.concat());
    }
    let mut ignored = IGNORED.lock().expect("no test runs any more");
    ignored.sort();
    if !ignored.is_empty() {
        let mut text = format!("{} ignored, as they cannot run here:\n", ignored.len());
        for (name, why) in ignored.iter() {
            text.push_str(&format!("    {name}: {why}\n"));
        }
        let _ = writeln!(std::io::stdout(), "{text}");
    }
    conclusion.exit_code()
}

/// A shell without job control starts what runs in the background (`cargo test &`) with these signals ignored, and the commands
/// under test would inherit that: nothing could interrupt them.
fn restore_interrupts() {
    use nix::sys::signal::{SigHandler, Signal, signal};
    for one in [Signal::SIGINT, Signal::SIGQUIT] {
        // SAFETY: the default action runs no code of ours.
        unsafe { signal(one, SigHandler::SigDfl) }.expect("SIGINT and SIGQUIT can be handled");
    }
}

/// The standard harness takes any number of filters, this one a single one: the words without them, and the filters.
fn split_filters(words: Vec<String>) -> (Vec<String>, Vec<String>) {
    const WITH_VALUE: [&str; 5] = ["--skip", "--test-threads", "--color", "--format", "--logfile"];
    let (mut kept, mut filters) = (Vec::new(), Vec::new());
    for (at, word) in words.iter().enumerate() {
        let is_value =
            at.checked_sub(1).and_then(|before| words.get(before)).is_some_and(|one| WITH_VALUE.contains(&one.as_str()));
        if at == 0 || word.starts_with('-') || is_value { kept.push(word.clone()) } else { filters.push(word.clone()) }
    }
    (kept, filters)
}
