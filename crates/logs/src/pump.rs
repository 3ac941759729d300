//! The pump's handle: one thread (`pump_thread`) reads every pipe and appends to the files.
//!
//! A thread of its own with its own small runtime, so that a slow disk can hold up nothing but logs. Viewers have bounded
//! queues (`subscription`): a slow one loses pieces, the service never waits.

use std::io;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;

use tokio::sync::{mpsc, oneshot};

use devrun_keeper::{OutputSink, OutputStream};
use devrun_model::{ServiceId, service::LogSpec};

use super::log_stream::LogStream;
use super::loss::LossReport;
use super::pump_thread::{LineObserver, PumpCommand, run_pump};
use super::subscription::{LogSubscription, subscription};
use super::terminal_output::{TerminalOutput, terminal_output};

/// A handle; clones speak to the same pump. The thread ends when the last one is gone.
#[derive(Debug, Clone)]
pub struct LogPump {
    commands: mpsc::UnboundedSender<PumpCommand>,
}

impl LogPump {
    /// Starts the thread.
    ///
    /// # Errors
    /// When no thread or runtime can be created.
    pub fn start(folder: PathBuf) -> io::Result<Self> {
        let (commands, receiver) = mpsc::unbounded_channel();
        let (built, is_built) = std::sync::mpsc::sync_channel(1);
        // The runtime is the thread's alone: the caller, which has one of its own, may not even drop another.
        std::thread::Builder::new().name("logs".to_owned()).stack_size(512 * 1024).spawn(move || {
            let runtime = match tokio::runtime::Builder::new_current_thread().enable_io().enable_time().build() {
                Ok(runtime) => runtime,
                Err(error) => return drop(built.send(Err(error))),
            };
            drop(built.send(Ok(())));
            tokio::task::LocalSet::new().block_on(&runtime, run_pump(folder, receiver));
        })?;
        is_built.recv().map_err(io::Error::other)??;
        Ok(Self { commands })
    }

    /// A pump without a thread: output goes nowhere, and every question is answered as where nothing was written. For tests that run
    /// an engine without processes.
    #[must_use]
    pub fn discarding() -> Self {
        Self { commands: mpsc::unbounded_channel().0 }
    }

    fn command(&self, command: PumpCommand) {
        // The thread lives as long as this handle does; should it have died, logs are lost and nothing else is.
        drop(self.commands.send(command));
    }

    /// Reads a pipe of a service until it ends.
    pub fn attach(&self, id: &ServiceId, spec: &LogSpec, stream: LogStream, fd: OwnedFd, observer: Option<LineObserver>) {
        self.command(PumpCommand::Attach { id: id.clone(), spec: spec.clone(), stream, fd, observer });
    }
    /// A new start of the service begins: what its earlier processes have written is taken in first.
    pub fn begin(&self, id: &ServiceId, spec: &LogSpec) {
        self.command(PumpCommand::Begin { id: id.clone(), spec: spec.clone() });
    }
    /// Something of our own about a service: shown to viewers, not stored, as the file is the service's.
    pub fn note(&self, id: &ServiceId, text: impl Into<String>) {
        self.command(PumpCommand::Note { id: id.clone(), text: text.into() });
    }
    /// A viewer that sees everything from now on.
    #[must_use]
    pub fn subscribe(&self) -> LogSubscription {
        let (subscriber, subscription) = subscription();
        self.command(PumpCommand::Subscribe(subscriber));
        subscription
    }
    /// Hears of output that is lost. One listener; the last one counts.
    #[must_use]
    pub fn losses(&self) -> mpsc::UnboundedReceiver<LossReport> {
        let (sender, receiver) = mpsc::unbounded_channel();
        self.command(PumpCommand::Losses(sender));
        receiver
    }
    /// The raw bytes of a service's terminal as they come, beginning with the line that has no end yet. Ends with the
    /// terminal, and for a viewer that does not keep up.
    #[must_use]
    pub fn terminal_feed(&self, id: &ServiceId) -> TerminalOutput {
        let (feed, output) = terminal_output();
        self.command(PumpCommand::Screen { id: id.clone(), feed });
        output
    }
    /// Follows the further files of a service (`log_files`), each into a log of its own; the last call counts.
    pub fn follow_files(&self, id: &ServiceId, spec: &LogSpec) {
        self.command(PumpCommand::Files { id: id.clone(), spec: spec.clone() });
    }
    /// Everything that a service has written up to this call is in its file when the future is done. It gives the number of
    /// the start that wrote last; `None` where there was none since the pump began.
    pub fn drain(&self, id: &ServiceId) -> impl Future<Output = Option<u32>> + use<> {
        let (done, wait) = oneshot::channel();
        self.command(PumpCommand::Drain { id: id.clone(), done });
        async { wait.await.ok().flatten() }
    }
    /// Waits until all that was handed over so far is in the files: at the end of a run, as its process takes the thread with it.
    pub async fn drain_all(&self) {
        let (done, wait) = oneshot::channel();
        self.command(PumpCommand::DrainAll { done });
        drop(wait.await);
    }
    /// Takes the output of init steps and other short-lived processes into the service's log.
    #[must_use]
    pub fn sink(&self, id: &ServiceId, spec: &LogSpec) -> Arc<dyn OutputSink> {
        Arc::new(PumpSink { pump: self.clone(), id: id.clone(), spec: spec.clone() })
    }
}

struct PumpSink {
    pump: LogPump,
    id: ServiceId,
    spec: LogSpec,
}

impl OutputSink for PumpSink {
    fn write(&self, stream: OutputStream, bytes: &[u8]) {
        let stream = match stream {
            OutputStream::Stdout => LogStream::Stdout,
            OutputStream::Stderr => LogStream::Stderr,
        };
        self.pump.command(PumpCommand::Write { id: self.id.clone(), spec: self.spec.clone(), stream, bytes: bytes.to_vec() });
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::sync::Mutex;

    use super::super::subscription::LogItem;
    use super::*;
    use devrun_model::ServiceName;

    fn pipe() -> (OwnedFd, std::fs::File) {
        let (read, write) = nix::unistd::pipe2(nix::fcntl::OFlag::O_CLOEXEC).unwrap();
        nix::fcntl::fcntl(&read, nix::fcntl::FcntlArg::F_SETFL(nix::fcntl::OFlag::O_NONBLOCK)).unwrap();
        (read, std::fs::File::from(write))
    }

    /// An observer, and the lines that it was given.
    fn observe() -> (LineObserver, Arc<Mutex<Vec<Vec<u8>>>>) {
        let seen = Arc::new(Mutex::new(Vec::new()));
        let lines = Arc::clone(&seen);
        let observer: LineObserver = Arc::new(move |line: &[u8]| {
            lines.lock().unwrap().push(line.to_vec());
            true
        });
        (observer, seen)
    }

    #[tokio::test]
    async fn bytes_are_exact_and_taps_see_lines() {
        let dir = tempfile::tempdir().unwrap();
        let id = ServiceId::single(&ServiceName::new("api").unwrap());
        let pump = LogPump::start(dir.path().to_path_buf()).unwrap();
        let (read, mut write) = pipe();
        let (observer, seen) = observe();
        let mut view = pump.subscribe();
        pump.attach(&id, &LogSpec::default(), LogStream::Stdout, read, Some(observer));
        let mut expected = b"first\nsecond \xff\xfe\n".to_vec();
        expected.extend(vec![b'x'; 3_000_000]);
        expected.extend(b"\nno newline");
        let bytes = expected.clone();
        let writer = std::thread::spawn(move || write.write_all(&bytes).unwrap());
        let mut shown = Vec::new();
        while shown.len() < expected.len() {
            match view.next().await {
                Some(LogItem::Chunk { bytes, .. }) => shown.extend_from_slice(&bytes),
                other => panic!("{other:?}"),
            }
        }
        writer.join().unwrap();
        pump.drain(&id).await;
        assert!(std::fs::read(super::super::rotating_log_file::path(dir.path(), &id)).unwrap() == expected);
        assert!(shown == expected);
        assert_eq!(seen.lock().unwrap()[..2], [b"first".to_vec(), b"second \xff\xfe".to_vec()]);
    }

    #[tokio::test]
    async fn text_without_a_line_end_is_written_once_it_has_rested() {
        let dir = tempfile::tempdir().unwrap();
        let id = ServiceId::single(&ServiceName::new("ask").unwrap());
        let pump = LogPump::start(dir.path().to_path_buf()).unwrap();
        let (read, mut write) = pipe();
        let (observer, seen) = observe();
        let mut view = pump.subscribe();
        let mut next = async || match view.next().await {
            Some(LogItem::Chunk { bytes, .. }) => String::from_utf8(bytes.to_vec()).unwrap(),
            other => panic!("{other:?}"),
        };
        pump.attach(&id, &LogSpec::default(), LogStream::Stdout, read, Some(observer));
        write.write_all(b"Password: ").unwrap();
        assert_eq!(next().await, "Password: ");
        assert_eq!(std::fs::read(super::super::rotating_log_file::path(dir.path(), &id)).unwrap(), b"Password: ");
        // A terminal that attaches meanwhile shows it too.
        assert_eq!(&*pump.terminal_feed(&id).recv().await.unwrap(), b"Password: ");
        write.write_all(b"taken\n").unwrap();
        assert_eq!(next().await, "taken\n");
        // Viewers are served first.
        pump.drain(&id).await;
        assert_eq!(*seen.lock().unwrap(), [b"Password: ".to_vec(), b"Password: taken".to_vec()]);
        // The output of an init step.
        pump.sink(&id, &LogSpec::default()).write(OutputStream::Stdout, b"...");
        assert_eq!(next().await, "...");
    }

    #[tokio::test]
    async fn a_viewer_that_does_not_look_is_told_what_it_missed() {
        let dir = tempfile::tempdir().unwrap();
        let id = ServiceId::single(&ServiceName::new("api").unwrap());
        let pump = LogPump::start(dir.path().to_path_buf()).unwrap();
        let mut view = pump.subscribe();
        let sink = pump.sink(&id, &LogSpec::default());
        let line = vec![b'y'; 1 << 20];
        for _ in 0..40 {
            sink.write(OutputStream::Stdout, &line);
        }
        pump.drain(&id).await;
        while view.try_next().is_some() {}
        sink.write(OutputStream::Stdout, b"end\n");
        let mut missed = 0;
        loop {
            match view.next().await {
                Some(LogItem::Missed(bytes)) => missed += bytes,
                Some(LogItem::Chunk { bytes, .. }) if bytes.ends_with(b"end\n") => break,
                Some(LogItem::Chunk { .. }) => {}
                None => panic!("the pump ended"),
            }
        }
        assert!(missed > 0);
    }
}
