//! Programs that are no part of the stack, run to their end: `TOOL --version`, registry clients, build commands.
//!
//! Owns: time limits, bounded output, and that nothing is left when the wait is given up or the waiting process is killed. The keeper is not asked, as these
//! are no services: they may run before there is a keeper, and a `fetch` needs none at all.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::io::Read;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;

use devrun_model::os_text;

/// Set when nobody waits for the result any more.
#[derive(Debug, Clone, Default)]
pub struct Cancel(Arc<AtomicBool>);

impl Cancel {
    /// Whether to give up.
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
    /// Gives up when dropped: held by the future, so that dropping it ends what runs on the blocking threads.
    pub fn on_drop(&self) -> CancelOnDrop {
        CancelOnDrop(self.clone())
    }
}

/// See [`Cancel::on_drop`].
#[must_use]
#[derive(Debug)]
pub struct CancelOnDrop(Cancel);

impl Drop for CancelOnDrop {
    fn drop(&mut self) {
        self.0.0.store(true, Ordering::Relaxed);
    }
}

/// How a program ended.
#[derive(Debug, Clone, Default)]
pub struct SubprocessOutput {
    /// Its exit code; `None` for a signal.
    pub code: Option<i32>,
    /// The signal.
    pub signal: Option<i32>,
    /// Output, the last 64 KiB of it.
    pub stdout: String,
    /// The same of stderr.
    pub stderr: String,
}

impl SubprocessOutput {
    /// Whether it exited with 0.
    #[must_use]
    pub fn ok(&self) -> bool {
        self.code == Some(0)
    }
    /// The line that most likely says why it failed.
    #[must_use]
    pub fn complaint(&self) -> String {
        let lines = || self.stderr.lines().chain(self.stdout.lines()).map(str::trim).filter(|line| !line.is_empty());
        let warns = |line: &&str| line.to_ascii_lowercase().starts_with("warn");
        let telling = lines().filter(|line| !warns(line)).find(|line| {
            let line = line.to_ascii_lowercase();
            ["error", "e: ", "not found", "cannot", "could not"].iter().any(|word| line.contains(word))
        });
        match telling.or_else(|| lines().find(|line| !warns(line))).or_else(|| lines().next()) {
            Some(line) => line.chars().take(160).filter(|c| !c.is_control()).collect(),
            None => match (self.code, self.signal) {
                (Some(code), _) => format!("it exited with {code}"),
                (None, Some(signal)) => format!("it was killed by signal {signal}"),
                (None, None) => "it ended".to_owned(),
            },
        }
    }
}

/// Why a program gave no end.
#[derive(Debug, thiserror::Error)]
pub enum SubprocessError {
    /// It could not be started.
    #[error("{0}")]
    Start(std::io::Error),
    /// It took too long and was killed.
    #[error("it took longer than {}s", .0.as_secs())]
    Late(Duration),
    /// Nobody waits any more.
    #[error("cancelled")]
    Cancelled,
}

impl SubprocessError {
    /// Whether the program is not there.
    #[must_use]
    pub fn missing(&self) -> bool {
        matches!(self, Self::Start(error) if error.kind() == std::io::ErrorKind::NotFound)
    }
}

/// A program to run.
#[must_use]
pub struct Subprocess<'a> {
    /// Its path.
    pub program: &'a Path,
    /// Its words after the name.
    pub args: Vec<&'a OsStr>,
    /// Its whole environment.
    pub env: &'a BTreeMap<String, String>,
    /// Working directory.
    pub dir: Option<&'a Path>,
    /// After this long it is killed.
    pub limit: Duration,
}

impl Subprocess<'_> {
    /// Runs it to its end; `tick` is called about every 50 ms.
    ///
    /// # Errors
    /// When it does not start, takes too long, or is no longer wanted. Its process group is gone then.
    pub fn wait(&self, cancel: &Cancel, mut tick: impl FnMut()) -> Result<SubprocessOutput, SubprocessError> {
        let mut child = self.start()?;
        // Not waited for yet, so the number is still its own.
        let group = Pid::from_raw(i32::try_from(child.id()).unwrap_or(i32::MAX));
        let stdout = drain(child.stdout.take());
        let stderr = drain(child.stderr.take());
        let begun = Instant::now();
        let mut pause = Duration::from_millis(1);
        let status = loop {
            match child.try_wait() {
                Ok(Some(status)) => break status,
                Ok(None) => {}
                Err(error) => return Err(SubprocessError::Start(error)),
            }
            let late = begun.elapsed() > self.limit;
            if late || cancel.is_cancelled() {
                // A group that is gone already is what was wanted.
                let _gone = killpg(group, Signal::SIGKILL);
                let _reaped = child.wait();
                return Err(if late { SubprocessError::Late(self.limit) } else { SubprocessError::Cancelled });
            }
            tick();
            std::thread::sleep(pause);
            pause = (pause * 2).min(Duration::from_millis(50));
        };
        Ok(SubprocessOutput {
            code: status.code(),
            signal: status.signal(),
            stdout: collected(&stdout),
            stderr: collected(&stderr),
        })
    }

    fn start(&self) -> Result<std::process::Child, SubprocessError> {
        let begun = Instant::now();
        loop {
            let mut command = Command::new(self.program);
            command
                .args(&self.args)
                .env_clear()
                .envs(self.env.iter().map(|(name, value)| (os_text::to_os(name), os_text::to_os(value))))
                .stdin(Stdio::null())
                .stdout(Stdio::piped())
                .stderr(Stdio::piped())
                .process_group(0);
            // This thread waits for it, see `wait`.
            devrun_keeper::parent_death::die_with_parent(&mut command);
            if let Some(dir) = self.dir {
                command.current_dir(dir);
            }
            match command.spawn() {
                Ok(child) => return Ok(child),
                // A fork elsewhere in this process may for a moment hold the descriptor that wrote the file.
                Err(error)
                    if error.kind() == std::io::ErrorKind::ExecutableFileBusy && begun.elapsed() < Duration::from_secs(2) =>
                {
                    std::thread::sleep(Duration::from_millis(10));
                }
                Err(error) => return Err(SubprocessError::Start(error)),
            }
        }
    }
}

const KEPT: usize = 64 * 1024;

/// Reads a pipe to its end on a thread of its own, so that a full pipe blocks nobody.
fn drain(pipe: Option<impl Read + Send + 'static>) -> mpsc::Receiver<Vec<u8>> {
    let (sender, receiver) = mpsc::channel();
    let Some(mut pipe) = pipe else { return receiver };
    std::thread::spawn(move || {
        let mut kept = Vec::new();
        let mut buffer = [0_u8; 8192];
        while let Ok(count @ 1..) = pipe.read(&mut buffer) {
            kept.extend_from_slice(&buffer[..count]);
            if kept.len() > 2 * KEPT {
                kept.drain(..kept.len() - KEPT);
            }
        }
        // The receiver is gone only when nobody wants the output.
        let _unwanted = sender.send(kept);
    });
    receiver
}

/// A grandchild may hold the pipe open after the program ended; it is not waited for.
fn collected(receiver: &mpsc::Receiver<Vec<u8>>) -> String {
    let bytes = receiver.recv_timeout(Duration::from_millis(500)).unwrap_or_default();
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str, limit: Duration, cancel: &Cancel) -> Result<SubprocessOutput, SubprocessError> {
        let env = BTreeMap::from([("PATH".to_owned(), "/usr/bin:/bin".to_owned())]);
        let args = vec![OsStr::new("-c"), OsStr::new(script)];
        Subprocess { program: Path::new("/bin/sh"), args, env: &env, dir: None, limit }.wait(cancel, || ())
    }

    #[test]
    fn output_and_code_come_back() {
        let ended = shell("echo out; echo err >&2; exit 3", Duration::from_secs(20), &Cancel::default()).unwrap();
        assert_eq!((ended.code, ended.stdout.as_str(), ended.stderr.as_str()), (Some(3), "out\n", "err\n"));
        assert!(!ended.ok());
    }

    #[test]
    fn a_program_that_hangs_is_killed_with_its_children() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("pid");
        let script = format!("sleep 600 & echo $! > {}; wait", file.display());
        let begun = Instant::now();
        let late = shell(&script, Duration::from_millis(400), &Cancel::default());
        assert!(matches!(late, Err(SubprocessError::Late(_))), "{late:?}");
        assert!(begun.elapsed() < Duration::from_secs(20));
        if let Ok(pid) = std::fs::read_to_string(&file) {
            let status = format!("/proc/{}/stat", pid.trim());
            let deadline = Instant::now() + Duration::from_secs(20);
            while std::fs::read_to_string(&status).is_ok_and(|stat| !stat.contains(") Z")) {
                assert!(Instant::now() < deadline, "the child of the killed program lives");
                std::thread::yield_now();
            }
        }
    }

    #[test]
    fn a_dropped_wait_ends_the_program() {
        let cancel = Cancel::default();
        drop(cancel.on_drop());
        assert!(matches!(shell("sleep 600", Duration::from_secs(600), &cancel), Err(SubprocessError::Cancelled)));
    }

    #[test]
    fn the_telling_line_is_found() {
        for (stderr, complaint) in [
            ("WARNING: Retrying after an error\nERROR: no matching distribution\n", "ERROR: no matching distribution"),
            ("npm error code ECONNREFUSED\nnpm error a log is at …\n", "npm error code ECONNREFUSED"),
            ("Reading package lists...\nE: Unable to locate package x\n", "E: Unable to locate package x"),
            ("warning only\n", "warning only"),
            ("", "it exited with 1"),
        ] {
            let ended = SubprocessOutput { code: Some(1), stderr: stderr.to_owned(), ..SubprocessOutput::default() };
            assert_eq!(ended.complaint(), complaint);
        }
    }

    #[test]
    fn a_missing_program_is_told_apart() {
        let env = BTreeMap::new();
        let run =
            Subprocess { program: Path::new("/nowhere/tool"), args: vec![], env: &env, dir: None, limit: Duration::from_secs(1) };
        assert!(run.wait(&Cancel::default(), || ()).unwrap_err().missing());
    }
}
