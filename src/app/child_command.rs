//! One command in the foreground: found as the service itself would find it, its streams ours, its code passed on.
//!
//! The keeper does not take part: what is started here is the user's own, and neither `down` nor an emergency may touch it. Signals
//! that reach this process end the command and what it has started (`command_tree`).

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::io::IsTerminal;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::ui::term::say;
use devrun_keeper::adopted_children::AdoptedChildren;
use devrun_keeper::{file_size_limit, parent_death};
use devrun_model::exit;
use devrun_model::keeper::RunAs;
use devrun_model::os_text;
use devrun_model::{Failure, FailureKind, ServiceSpec};
use devrun_runtime::{directory_answers, user};
use tokio::signal::unix::SignalKind;
use tokio::time::Instant;

use crate::app::command_tree::{CommandEnd, CommandTree, GRACE, POLL};
use crate::app::session::Signals;
use crate::app::signals;
use crate::ui::exit_line;

/// How long processes are killed again and again before that is given up.
const KILL_LASTS: Duration = Duration::from_secs(2);

/// How a command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ended {
    /// Its code, or 128 + signal, or 126 and 127 where it never began.
    pub code: i32,
    /// It never began; why was said.
    pub refused: bool,
    /// The exit code of the first signal that came to us meanwhile, which it need not have taken as its end.
    pub interrupted: Option<i32>,
}

/// Runs a command to its end. INT, TERM and HUP that reach us are passed on. After TERM and HUP it has [`GRACE`]; then it is killed
/// together with what it has started, as is what it leaves running when it ends by one of them. Should this process be killed, the
/// kernel sends it TERM where it can (Linux).
///
/// # Errors
/// `Config` for a folder that is not there, `Internal` when its end cannot be had.
pub async fn run(
    words: &[OsString],
    env: &BTreeMap<String, String>,
    dir: &Path,
    as_service: Option<&ServiceSpec>,
    signals: &mut Signals,
) -> Result<Ended, Failure> {
    let Some(word) = words.first() else {
        return Err(Failure::new(FailureKind::Config, "no command was given").help("devrun exec SERVICE -- COMMAND"));
    };
    directory_answers::check(dir)?;
    if !dir.is_dir() {
        return Err(
            Failure::new(FailureKind::Config, format!("no such directory: {}", dir.display())).help("check `dir` of the service")
        );
    }
    let path = env.get("PATH").map(String::as_str).unwrap_or_default();
    let program = match find(word, path, dir) {
        Ok(program) => program,
        Err((code, reason)) => return Ok(refuse(code, &reason)),
    };
    let mut command = Command::new(&program);
    command.arg0(word).args(words.get(1..).unwrap_or_default()).current_dir(dir).env_clear();
    command.envs(env.iter().map(|(name, value)| (os_text::to_os(name), os_text::to_os(value))));
    // The mark of an outer stack does not concern it.
    command.env_remove("DEVRUN_RUN_ID");
    if let Some(spec) = as_service {
        become_user(spec, &mut command)?;
    }
    file_size_limit::restore_in_child(&mut command);
    // This function is polled by the thread that runs the whole program, which ends last.
    parent_death::signal_with_parent(&mut command, libc::SIGTERM);
    let adopted = AdoptedChildren::ask();
    let mut child_ended = signals::receive(SignalKind::child())?;
    let mut child = match command.spawn() {
        Ok(child) => child,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return Ok(refuse(exit::NOT_FOUND, &format!("{}: its interpreter was not found", program.display())));
        }
        Err(error) => return Ok(refuse(exit::NOT_EXECUTABLE, &format!("{}: {error}", program.display()))),
    };
    // Looked at before the wait for it, so it cannot mean another process.
    let leader = i32::try_from(child.id()).unwrap_or(0);
    let mut tree = CommandTree::new(leader, Some(adopted));
    let foreground = std::io::stdin().is_terminal();
    let waiting = tokio::task::spawn_blocking(move || child.wait());
    tokio::pin!(waiting);
    let mut end: Option<CommandEnd> = None;
    let mut interrupted = None;
    let status = loop {
        tokio::select! {
            ended = &mut waiting => break ended
                .map_err(std::io::Error::other)
                .and_then(|ended| ended)
                .map_err(|error| Failure::new(FailureKind::Internal, format!("cannot wait for it: {error}")))?,
            code = signals.next() => {
                // A terminal has sent its INT to the whole foreground group already.
                interrupted.get_or_insert(code);
                let number = code - 128;
                if !(foreground && number == libc::SIGINT) {
                    tree.look(number);
                    end = Some(CommandEnd::after(end.as_ref(), number, Instant::now()));
                    tree.signal_leader(number);
                }
            }
            // A command that runs for days may detach many processes.
            Some(()) = child_ended.recv() => tree.reap(),
            () = tokio::time::sleep(POLL), if end.is_some() => {
                tree.look(end.as_ref().map_or(libc::SIGTERM, |end| end.signal));
            }
        }
        // Also after a signal: where they come faster than this looks, the time to look would never come.
        if is_over(end.as_ref()) {
            tree.signal_leader(libc::SIGKILL);
            tree.kill_others();
        }
    };
    if let Some(end) = end {
        end_others(&mut tree, &end, signals).await;
    }
    let code = status.code().or_else(|| status.signal().map(|signal| 128 + signal)).unwrap_or(exit::INTERNAL);
    Ok(Ended { code, refused: false, interrupted })
}

fn is_over(end: Option<&CommandEnd>) -> bool {
    end.and_then(|end| end.deadline).is_some_and(|deadline| Instant::now() >= deadline)
}

/// Ends what a command has left running that was asked to end, and what that starts while it ends.
async fn end_others(tree: &mut CommandTree, end: &CommandEnd, signals: &mut Signals) {
    // What a shell starts in the background ignores INT.
    let signal = if end.signal == libc::SIGINT { libc::SIGTERM } else { end.signal };
    let mut deadline = end.deadline.unwrap_or_else(|| Instant::now() + GRACE);
    while tree.has_others(end.signal) {
        if Instant::now() >= deadline + KILL_LASTS {
            say("some of what the command has started could not be ended");
            return;
        }
        if Instant::now() >= deadline {
            tree.kill_others();
        } else {
            tree.signal_others(signal);
        }
        tokio::select! {
            () = tokio::time::sleep(POLL) => {}
            _code = signals.next() => deadline = Instant::now(),
        }
    }
}

/// The exit code of a command that cannot be run, which is said: 126 or 127. For a look before anything is started for it.
#[must_use]
pub fn refused(word: &OsStr, env: &BTreeMap<String, String>, dir: &Path) -> Option<i32> {
    let path = env.get("PATH").map(String::as_str).unwrap_or_default();
    find(word, path, dir).err().map(|(code, reason)| refuse(code, &reason).code)
}

fn refuse(code: i32, reason: &str) -> Ended {
    say(exit_line::last_line(code, None, reason));
    Ended { code, refused: true, interrupted: None }
}

/// Looks a word up as `execvp` would, in another's PATH and folder.
fn find(word: &OsStr, path: &str, dir: &Path) -> Result<PathBuf, (i32, String)> {
    let executable = |path: &Path| {
        let meta = std::fs::metadata(path).ok()?;
        Some(meta.is_file() && meta.permissions().mode() & 0o111 != 0)
    };
    let name = Path::new(word).display();
    if word.as_bytes().contains(&b'/') {
        let file = dir.join(word);
        return match executable(&file) {
            Some(true) => checked(file),
            Some(false) => Err((exit::NOT_EXECUTABLE, format!("{name} cannot be executed"))),
            None => Err((exit::NOT_FOUND, format!("command not found: {name}"))),
        };
    }
    let mut seen = None;
    for folder in std::env::split_paths(&os_text::to_os(path)) {
        let file = dir.join(folder).join(word);
        match executable(&file) {
            Some(true) => return checked(file),
            Some(false) => seen = Some(file),
            None => {}
        }
    }
    match seen {
        Some(file) => Err((exit::NOT_EXECUTABLE, format!("{} cannot be executed", file.display()))),
        None => Err((exit::NOT_FOUND, format!("cannot find the command `{name}`"))),
    }
}

/// What the system would refuse: a script whose interpreter is not there, a program of another machine.
fn checked(file: PathBuf) -> Result<PathBuf, (i32, String)> {
    // A path that is not UTF-8 is left to the system.
    let Some(Err(failure)) = file.to_str().map(|word| devrun_store::find_command(word, &BTreeMap::new(), Path::new("/"))) else {
        return Ok(file);
    };
    let is_interpreter_absent = devrun_store::interpreter_of(&file).is_some_and(|interpreter| !interpreter.exists());
    let code = if is_interpreter_absent { exit::NOT_FOUND } else { exit::NOT_EXECUTABLE };
    Err((code, failure.to_string()))
}

fn become_user(spec: &ServiceSpec, command: &mut Command) -> Result<(), Failure> {
    if let RunAs::User { uid, gid, .. } = user::of(spec)? {
        command.uid(uid).gid(gid);
    }
    Ok(())
}
