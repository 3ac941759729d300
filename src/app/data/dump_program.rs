//! Programs that dump a database and load it again: their output into the backup, their words into the failure.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use devrun_data::CopyCancel;
use devrun_keeper::parent_death;
use devrun_model::{Failure, FailureKind};

/// How often its end is looked for.
const STEP: Duration = Duration::from_millis(5);

/// A program that runs. Dropped, it is killed.
pub struct DumpProgram {
    name: String,
    child: Child,
    complaints: Option<std::thread::JoinHandle<String>>,
    accepted: fn(&str) -> bool,
}

impl DumpProgram {
    /// Starts it; its standard error is read from here on, as a full pipe would stop it. On Linux it ends with the thread that starts
    /// it, which therefore has to wait for it: a `kill -9` of a backup must not leave a dump running.
    ///
    /// # Errors
    /// `Binary` when it cannot be started.
    pub fn start(command: &mut Command, name: &str) -> Result<Self, Failure> {
        parent_death::die_with_parent(command);
        let child = command.stderr(Stdio::piped()).spawn();
        let mut child = child.map_err(|error| Failure::new(FailureKind::Binary, format!("cannot run {name}: {error}")))?;
        let stderr = child.stderr.take();
        let complaints = std::thread::spawn(move || {
            let mut text = Vec::new();
            // What cannot be read is not shown; the exit status says that it failed.
            let _ = stderr.map(|stderr| stderr.take(64 << 10).read_to_end(&mut text));
            String::from_utf8_lossy(&text).into_owned()
        });
        Ok(Self { name: name.to_owned(), child, complaints: Some(complaints), accepted: |_| false })
    }

    /// Writes what it prints into an open file, and waits for its end.
    ///
    /// # Errors
    /// `Task` with its words, or naming the file; `Cancelled`.
    pub fn save(mut self, file: &mut File, path: &Path, cancel: &CopyCancel, progress: &dyn Fn(u64)) -> Result<(), Failure> {
        let source = self.child.stdout.take();
        let mut source = source.ok_or_else(|| Failure::new(FailureKind::Internal, format!("{} has no output", self.name)))?;
        let (mut block, mut count) = (vec![0; 1 << 16], 0);
        let written = loop {
            if cancel.is_cancelled() {
                break Ok(());
            }
            match source.read(&mut block) {
                Ok(0) => break Ok(()),
                Ok(length) => {
                    if let Err(error) = file.write_all(&block[..length]) {
                        break Err(Failure::new(FailureKind::Task, format!("cannot write {}: {error}", path.display()))
                            .help("make room, or choose another place: -o FILE"));
                    }
                    count += length as u64;
                    progress(count);
                }
                Err(error) => break Err(Failure::new(FailureKind::Task, format!("cannot read from {}: {error}", self.name))),
            }
        };
        drop(source);
        let finished = self.finish(cancel);
        written.and(finished)
    }

    /// Waits for its end.
    ///
    /// # Errors
    /// `Task` with its words; `Cancelled`, and it is killed.
    pub fn finish(mut self, cancel: &CopyCancel) -> Result<(), Failure> {
        loop {
            if let Some(done) = self.poll()? {
                return done;
            }
            cancel.check()?;
            std::thread::sleep(STEP);
        }
    }

    /// As [`Self::finish`]; a failure whose words are `accepted` is none.
    ///
    /// # Errors
    /// As [`Self::finish`].
    pub fn finish_with(mut self, cancel: &CopyCancel, accepted: fn(&str) -> bool) -> Result<(), Failure> {
        self.accepted = accepted;
        self.finish(cancel)
    }

    /// Gives it its input, from a thread that ends with it. An input that breaks off is as one that ends there, so what it reads must say
    /// where its end is.
    pub fn feed(&mut self, mut source: impl std::io::Read + Send + 'static) {
        let Some(mut stdin) = self.child.stdin.take() else { return };
        // A program that has ended takes no more; how it ended is its own to say.
        drop(std::thread::spawn(move || std::io::copy(&mut source, &mut stdin)));
    }

    /// As [`Self::finish`]; dropped in the middle, the program is killed.
    ///
    /// # Errors
    /// `Task` with its words.
    pub async fn finished(mut self) -> Result<(), Failure> {
        loop {
            if let Some(done) = self.poll()? {
                return done;
            }
            tokio::time::sleep(STEP).await;
        }
    }

    fn poll(&mut self) -> Result<Option<Result<(), Failure>>, Failure> {
        let status = self.child.try_wait();
        let status = status.map_err(|error| Failure::new(FailureKind::Internal, format!("{}: {error}", self.name)))?;
        let Some(status) = status else { return Ok(None) };
        let text = self.complaints.take().and_then(|thread| thread.join().ok()).unwrap_or_default();
        if status.success() || (self.accepted)(&text) {
            return Ok(Some(Ok(())));
        }
        let says = |line: &&str| line.to_ascii_lowercase().contains("error");
        let line = text.lines().find(says).or_else(|| text.lines().rfind(|line| !line.trim().is_empty())).unwrap_or_default();
        Ok(Some(Err(Failure::new(FailureKind::Task, format!("{} failed: {}", self.name, line.trim())))))
    }
}

impl Drop for DumpProgram {
    fn drop(&mut self) {
        // Our own child, and mostly it has ended.
        if matches!(self.child.try_wait(), Ok(None)) {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}
