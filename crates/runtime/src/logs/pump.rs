//! The pump: one thread that reads every pipe and appends to the files.
//!
//! A thread of its own with its own small runtime, so that a slow disk can hold up nothing but logs. Each pipe is a task;
//! they share one read buffer, as no task awaits while it holds bytes. Viewers have bounded queues: a slow one loses
//! pieces and is told how many bytes, the service never waits.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::io::unix::AsyncFd;
use tokio::sync::{mpsc, oneshot};

use devrun_keeper::{OutputSink, OutputStream, reactor};
use devrun_model::{ServiceId, service::LogSpec};

use super::file::{LogFile, LogLoss};
use super::followed_file::{self, FollowedFile};
use super::loss::{LossReport, UnopenedLog};
use super::partial_line::{self, PartialLine};

/// What a piece of output came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub enum LogStream {
    /// Standard output, or the terminal.
    Stdout = 0,
    /// Standard error.
    Stderr = 1,
    /// A line of our own about the service.
    Devrun = 2,
}

impl LogStream {
    /// The word of `logs --json`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Stdout => "stdout",
            Self::Stderr => "stderr",
            Self::Devrun => "devrun",
        }
    }
}

/// Sees each line of a service as it comes (`log` probes), one that has rested unfinished before its end too; `false` ends it.
pub type LineObserver = Arc<dyn Fn(&[u8]) -> bool + Send + Sync>;

/// What a viewer gets.
#[derive(Debug, Clone)]
pub enum LogItem {
    /// Whole lines, or a piece of one: it is longer than 64 KiB, or its end has not come for a moment.
    Chunk {
        /// Whose.
        id: ServiceId,
        /// From where.
        stream: LogStream,
        /// Microseconds since 1970.
        micros: i64,
        /// The bytes.
        bytes: Arc<[u8]>,
    },
    /// The viewer was too slow: so many bytes are only in the files.
    Missed(u64),
}

/// What one read takes at most.
const READ_BUFFER: usize = 256 * 1024;
/// Pieces that may wait for one attached terminal.
const TERMINAL_QUEUE: usize = 1024;
/// Bytes that may wait for one viewer.
const SUBSCRIBER_QUEUE_BYTES: u64 = 32 * 1024 * 1024;

struct Subscriber {
    sender: mpsc::UnboundedSender<LogItem>,
    waiting: Arc<AtomicU64>,
    missed: u64,
}

/// A viewer's end.
#[derive(Debug)]
pub struct LogSubscription {
    receiver: mpsc::UnboundedReceiver<LogItem>,
    waiting: Arc<AtomicU64>,
}

impl LogSubscription {
    /// The next piece; `None` when the pump has ended.
    pub async fn next(&mut self) -> Option<LogItem> {
        let item = self.receiver.recv().await;
        self.taken(&item);
        item
    }
    /// The next piece that is there already.
    pub fn try_next(&mut self) -> Option<LogItem> {
        let item = self.receiver.try_recv().ok();
        self.taken(&item);
        item
    }
    fn taken(&self, item: &Option<LogItem>) {
        if let Some(LogItem::Chunk { bytes, .. }) = item {
            self.waiting.fetch_sub(bytes.len() as u64, Ordering::Relaxed);
        }
    }
}

enum PumpCommand {
    Attach { id: ServiceId, spec: LogSpec, stream: LogStream, fd: OwnedFd, observer: Option<LineObserver> },
    Write { id: ServiceId, spec: LogSpec, stream: LogStream, bytes: Vec<u8> },
    Note { id: ServiceId, text: String },
    Subscribe { sender: mpsc::UnboundedSender<LogItem>, waiting: Arc<AtomicU64> },
    Begin { id: ServiceId, spec: LogSpec },
    Drain { id: ServiceId, done: oneshot::Sender<Option<u32>> },
    DrainAll { done: oneshot::Sender<()> },
    Screen { id: ServiceId, sender: TerminalFeed },
    Losses(mpsc::UnboundedSender<LossReport>),
    Files { id: ServiceId, spec: LogSpec },
}

/// A handle; clones speak to the same pump. The thread ends when the last one is gone.
#[derive(Debug, Clone)]
pub struct LogPump {
    commands: mpsc::UnboundedSender<PumpCommand>,
}

impl LogPump {
    /// Starts the thread.
    ///
    /// # Errors
    /// When no thread or runtime is to be had.
    pub fn start(folder: PathBuf) -> io::Result<Self> {
        let (commands, receiver) = mpsc::unbounded_channel();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_io().enable_time().build()?;
        std::thread::Builder::new().name("logs".to_owned()).stack_size(512 * 1024).spawn(move || {
            let local = tokio::task::LocalSet::new();
            local.block_on(&runtime, run_pump(folder, receiver));
        })?;
        Ok(Self { commands })
    }

    /// A pump without a thread: output goes nowhere, and every question is answered as where nothing was written.
    #[cfg(test)]
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
        let (sender, receiver) = mpsc::unbounded_channel();
        let waiting = Arc::new(AtomicU64::new(0));
        self.command(PumpCommand::Subscribe { sender, waiting: Arc::clone(&waiting) });
        LogSubscription { receiver, waiting }
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
    pub fn terminal_feed(&self, id: &ServiceId) -> mpsc::Receiver<Arc<[u8]>> {
        let (sender, receiver) = mpsc::channel(TERMINAL_QUEUE);
        self.command(PumpCommand::Screen { id: id.clone(), sender });
        receiver
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

/// Where the raw bytes of a terminal go.
type TerminalFeed = mpsc::Sender<Arc<[u8]>>;

struct PipeSource {
    id: ServiceId,
    stream: LogStream,
    fd: AsyncFd<OwnedFd>,
    partial_line: RefCell<PartialLine>,
    observer: RefCell<Option<LineObserver>>,
    ended: std::cell::Cell<bool>,
}

pub(super) struct Pump {
    folder: PathBuf,
    pub(super) files: RefCell<BTreeMap<ServiceId, LogFile>>,
    pub(super) unopened: RefCell<BTreeMap<ServiceId, UnopenedLog>>,
    pub(super) losses: RefCell<Option<mpsc::UnboundedSender<LossReport>>>,
    /// When the loss of a service was last told.
    pub(super) told: RefCell<BTreeMap<ServiceId, i64>>,
    /// Of init steps and other short-lived processes.
    partial_lines: RefCell<BTreeMap<(ServiceId, u32), (LogStream, PartialLine)>>,
    subscribers: RefCell<Vec<Subscriber>>,
    /// By service, or the start and the stop of many would look at each other's.
    sources: RefCell<BTreeMap<ServiceId, Vec<Rc<PipeSource>>>>,
    terminal_feeds: RefCell<Vec<(ServiceId, TerminalFeed)>>,
    tails: RefCell<BTreeMap<ServiceId, (LogSpec, Vec<FollowedFile>)>>,
    buffer: RefCell<Vec<u8>>,
}

async fn run_pump(folder: PathBuf, mut commands: mpsc::UnboundedReceiver<PumpCommand>) {
    let pump = Rc::new(Pump {
        folder,
        files: RefCell::default(),
        unopened: RefCell::default(),
        losses: RefCell::default(),
        told: RefCell::default(),
        partial_lines: RefCell::default(),
        subscribers: RefCell::default(),
        sources: RefCell::default(),
        terminal_feeds: RefCell::default(),
        tails: RefCell::default(),
        buffer: RefCell::new(vec![0; READ_BUFFER]),
    });
    let mut looking = false;
    loop {
        let due = pump.partial_lines.borrow().values().filter_map(|(_, line)| line.due()).min();
        let command = tokio::select! {
            biased;
            command = commands.recv() => command,
            () = partial_line::rest(due) => {
                pump.flush_partial_lines(None);
                continue;
            }
        };
        let Some(command) = command else { return };
        match command {
            PumpCommand::Screen { id, sender } => pump.add_terminal_feed(id, sender),
            PumpCommand::Losses(sender) => drop(pump.losses.replace(Some(sender))),
            PumpCommand::Files { id, spec } => {
                pump.set_tails(&id, &spec);
                if !looking && !pump.tails.borrow().is_empty() {
                    looking = true;
                    tokio::task::spawn_local(poll_followed_files(Rc::clone(&pump)));
                }
            }
            PumpCommand::Attach { id, spec, stream, fd, observer } => {
                pump.open(&id, &spec);
                // Without a reactor for it the pipe would fill and block the service; the keeper still holds its own end.
                let Ok(fd) = reactor::register(fd, tokio::io::Interest::READABLE) else { continue };
                let source = Rc::new(PipeSource {
                    id,
                    stream,
                    fd,
                    partial_line: RefCell::default(),
                    observer: RefCell::new(observer),
                    ended: std::cell::Cell::new(false),
                });
                pump.sources.borrow_mut().entry(source.id.clone()).or_default().push(Rc::clone(&source));
                tokio::task::spawn_local(read_pipe(Rc::clone(&pump), source));
            }
            PumpCommand::Write { id, spec, stream, bytes } => {
                pump.open(&id, &spec);
                let known = pump.partial_lines.borrow_mut().remove(&(id.clone(), stream as u32));
                let mut partial_line = known.map(|(_, line)| line).unwrap_or_default();
                partial_line.take(&bytes, |piece, _| pump.store(&id, stream, piece));
                if !partial_line.is_empty() {
                    pump.partial_lines.borrow_mut().insert((id, stream as u32), (stream, partial_line));
                }
            }
            PumpCommand::Note { id, text } => pump.publish(&id, LogStream::Devrun, now(), format!("{text}\n").as_bytes()),
            PumpCommand::Subscribe { sender, waiting } => {
                pump.subscribers.borrow_mut().push(Subscriber { sender, waiting, missed: 0 })
            }
            PumpCommand::Begin { id, spec } => {
                pump.open(&id, &spec);
                pump.drain(&id);
                if let Some(file) = pump.files.borrow_mut().get_mut(&id) {
                    file.begin(now());
                }
            }
            PumpCommand::DrainAll { done } => {
                let ids: Vec<ServiceId> = pump.sources.borrow().keys().cloned().collect();
                ids.iter().for_each(|id| pump.drain(id));
                let _unread = done.send(());
            }
            PumpCommand::Drain { id, done } => {
                pump.drain(&id);
                pump.poll_tails(Some(&id));
                pump.report_losses(&id, i64::MAX);
                let generation = pump.files.borrow().get(&id).map(LogFile::generation);
                let _unread = done.send(generation);
            }
        }
    }
}

async fn read_pipe(pump: Rc<Pump>, source: Rc<PipeSource>) {
    while !source.ended.get() {
        let due = source.partial_line.borrow().due();
        tokio::select! {
            biased;
            ready = source.fd.readable() => {
                let Ok(mut ready) = ready else { break };
                if pump.read_some(&source, 4) {
                    ready.clear_ready();
                }
                // One writer that never pauses must not starve the others.
                tokio::task::yield_now().await;
            }
            () = partial_line::rest(due) => pump.flush(&source),
        }
    }
    pump.flush(&source);
    pump.forget(&source);
    pump.terminal_feeds.borrow_mut().retain(|(id, _)| *id != source.id);
    // Its last lines in other files are there by now.
    pump.poll_tails(Some(&source.id));
}

/// Looks at the further files, for as long as the pump lives.
async fn poll_followed_files(pump: Rc<Pump>) {
    loop {
        tokio::time::sleep(followed_file::POLL_EVERY).await;
        pump.poll_tails(None);
    }
}

pub(super) fn now() -> i64 {
    std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .map_or(0, |since| i64::try_from(since.as_micros()).unwrap_or(0))
}

impl Pump {
    pub(super) fn open(&self, id: &ServiceId, spec: &LogSpec) {
        let mut files = self.files.borrow_mut();
        if let Some(file) = files.get_mut(id) {
            file.configure(spec);
            return;
        }
        match LogFile::open(&self.folder, id, spec) {
            Ok(mut file) => {
                if let Some(UnopenedLog { loss, .. }) =
                    self.unopened.borrow_mut().remove(id).filter(|before| before.loss.bytes > 0)
                {
                    file.lost_before(loss);
                }
                files.insert(id.clone(), file);
            }
            Err(error) => {
                let mut unopened = self.unopened.borrow_mut();
                let tried = now();
                unopened.entry(id.clone()).and_modify(|before| before.tried = tried).or_insert_with(|| UnopenedLog {
                    spec: spec.clone(),
                    tried,
                    loss: LogLoss::new(&error),
                });
            }
        }
    }

    fn add_terminal_feed(&self, id: ServiceId, sender: TerminalFeed) {
        let Some(source) = self.sources_of(&id).into_iter().find(|source| !source.ended.get()) else { return };
        let text = source.partial_line.borrow().text();
        if text.is_empty() || sender.try_send(Arc::from(text)).is_ok() {
            self.terminal_feeds.borrow_mut().push((id, sender));
        }
    }

    fn show(&self, id: &ServiceId, bytes: &[u8]) {
        let mut terminal_feeds = self.terminal_feeds.borrow_mut();
        if terminal_feeds.iter().any(|(other, _)| other == id) {
            let bytes: Arc<[u8]> = Arc::from(bytes);
            terminal_feeds.retain(|(other, sender)| other != id || sender.try_send(Arc::clone(&bytes)).is_ok());
        }
    }

    fn set_tails(&self, id: &ServiceId, spec: &LogSpec) {
        let mut tails = self.tails.borrow_mut();
        if tails.get(id).is_some_and(|(known, _)| known == spec) {
            return;
        }
        if spec.files.is_empty() {
            tails.remove(id);
        } else {
            let files = spec.files.iter().map(|path| FollowedFile::new(id, path)).collect();
            tails.insert(id.clone(), (spec.clone(), files));
        }
    }

    fn poll_tails(&self, only: Option<&ServiceId>) {
        let mut tails = self.tails.borrow_mut();
        for (id, (spec, files)) in tails.iter_mut() {
            if only.is_some_and(|only| only != id) {
                continue;
            }
            for tail in files {
                let bytes = tail.poll();
                let id = tail.id.clone();
                let store = |piece: &[u8], _: &[u8]| self.store(&id, LogStream::Stdout, piece);
                if bytes.is_empty() {
                    // It has rested from one look to the next.
                    tail.partial_line.flush(store);
                } else {
                    self.open(&id, spec);
                    tail.partial_line.take(&bytes, store);
                }
            }
        }
    }

    fn sources_of(&self, id: &ServiceId) -> Vec<Rc<PipeSource>> {
        self.sources.borrow().get(id).cloned().unwrap_or_default()
    }

    fn forget(&self, source: &Rc<PipeSource>) {
        let mut sources = self.sources.borrow_mut();
        if let Some(of_service) = sources.get_mut(&source.id) {
            of_service.retain(|other| !Rc::ptr_eq(other, source));
            if of_service.is_empty() {
                sources.remove(&source.id);
            }
        }
    }

    /// Takes in what the pipes of a service hold now.
    fn drain(&self, id: &ServiceId) {
        for source in self.sources_of(id) {
            self.read_all(&source);
            self.flush(&source);
        }
        self.flush_partial_lines(Some(id));
    }

    /// Reads up to `times` buffers; true when the pipe was emptied.
    fn read_some(&self, source: &PipeSource, times: u32) -> bool {
        for _ in 0..times {
            let mut buffer = self.buffer.borrow_mut();
            match nix::unistd::read(&source.fd, &mut buffer) {
                Ok(0) => {
                    source.ended.set(true);
                    return true;
                }
                Ok(length) => {
                    self.show(&source.id, &buffer[..length]);
                    source.partial_line.borrow_mut().take(&buffer[..length], |piece, begun| self.store_of(source, piece, begun));
                    if length < buffer.len() / 4 {
                        // Most likely empty: waiting is cheaper than one more read that says so. Edge-triggered readiness is
                        // not cleared, so bytes that came meanwhile are seen at once.
                        return false;
                    }
                }
                Err(nix::errno::Errno::EAGAIN) => return true,
                Err(nix::errno::Errno::EINTR) => {}
                // EIO is how a terminal says that its other side is gone.
                Err(_) => {
                    source.ended.set(true);
                    return true;
                }
            }
        }
        false
    }

    fn read_all(&self, source: &PipeSource) {
        // Bounded: a service that floods must not hold a drain for ever.
        for _ in 0..256 {
            if source.ended.get() || self.read_some(source, 1) {
                return;
            }
        }
    }

    /// Writes what was held back of a line.
    fn flush(&self, source: &PipeSource) {
        source.partial_line.borrow_mut().flush(|piece, begun| self.store_of(source, piece, begun));
    }

    /// The same for short-lived processes; of one service they have ended.
    fn flush_partial_lines(&self, only: Option<&ServiceId>) {
        let mut partial_lines = self.partial_lines.borrow_mut();
        for ((id, _), (stream, line)) in partial_lines.iter_mut().filter(|((id, _), _)| only.is_none_or(|only| only == id)) {
            line.flush(|piece, _| self.store(id, *stream, piece));
        }
        partial_lines.retain(|(id, _), _| only != Some(id));
    }

    fn store_of(&self, source: &PipeSource, bytes: &[u8], begun: &[u8]) {
        self.store(&source.id, source.stream, bytes);
        let go_on = source.observer.borrow().as_ref().is_none_or(|observer| {
            let mut lines = bytes.split(|byte| *byte == b'\n');
            let first = [begun, lines.next().unwrap_or_default()].concat();
            let lines = std::iter::once(first.as_slice()).chain(lines);
            lines.filter(|line| !line.is_empty()).all(|line| observer(line))
        });
        if !go_on {
            source.observer.replace(None);
        }
    }

    fn store(&self, id: &ServiceId, stream: LogStream, bytes: &[u8]) {
        let micros = now();
        let kept = match self.files.borrow_mut().get_mut(id) {
            Some(file) => {
                file.append(stream, micros, bytes);
                Some(file.has_losses())
            }
            None => None,
        };
        match kept {
            Some(false) => {}
            Some(true) => self.report_losses(id, micros),
            None => self.store_unopened(id, stream, micros, bytes),
        }
        self.publish(id, stream, micros, bytes);
    }

    pub(super) fn publish(&self, id: &ServiceId, stream: LogStream, micros: i64, bytes: &[u8]) {
        let mut subscribers = self.subscribers.borrow_mut();
        if subscribers.is_empty() {
            return;
        }
        let bytes: Arc<[u8]> = Arc::from(bytes);
        subscribers.retain_mut(|subscriber| {
            if subscriber.waiting.load(Ordering::Relaxed) + bytes.len() as u64 > SUBSCRIBER_QUEUE_BYTES {
                subscriber.missed += bytes.len() as u64;
                return !subscriber.sender.is_closed();
            }
            if subscriber.missed > 0 {
                let missed = std::mem::take(&mut subscriber.missed);
                drop(subscriber.sender.send(LogItem::Missed(missed)));
            }
            subscriber.waiting.fetch_add(bytes.len() as u64, Ordering::Relaxed);
            subscriber.sender.send(LogItem::Chunk { id: id.clone(), stream, micros, bytes: Arc::clone(&bytes) }).is_ok()
        });
    }
}

impl std::fmt::Debug for PipeSource {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Source({}, fd {})", self.id, self.fd.as_raw_fd())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use devrun_model::ServiceName;
    use std::io::Write;

    fn pipe() -> (OwnedFd, std::fs::File) {
        let (read, write) = nix::unistd::pipe2(nix::fcntl::OFlag::O_CLOEXEC).unwrap();
        nix::fcntl::fcntl(&read, nix::fcntl::FcntlArg::F_SETFL(nix::fcntl::OFlag::O_NONBLOCK)).unwrap();
        (read, std::fs::File::from(write))
    }

    #[tokio::test]
    async fn bytes_are_exact_and_taps_see_lines() {
        let dir = tempfile::tempdir().unwrap();
        let id = ServiceId::single(&ServiceName::new("api").unwrap());
        let pump = LogPump::start(dir.path().to_path_buf()).unwrap();
        let (read, mut write) = pipe();
        let seen = Arc::new(std::sync::Mutex::new(Vec::new()));
        let observer: LineObserver = {
            let seen = Arc::clone(&seen);
            Arc::new(move |line: &[u8]| {
                seen.lock().unwrap().push(line.to_vec());
                true
            })
        };
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
        assert!(std::fs::read(super::super::file::path(dir.path(), &id)).unwrap() == expected);
        assert!(shown == expected);
        assert_eq!(seen.lock().unwrap()[..2], [b"first".to_vec(), b"second \xff\xfe".to_vec()]);
    }

    #[tokio::test]
    async fn text_without_a_line_end_is_written_once_it_has_rested() {
        let dir = tempfile::tempdir().unwrap();
        let id = ServiceId::single(&ServiceName::new("ask").unwrap());
        let pump = LogPump::start(dir.path().to_path_buf()).unwrap();
        let (read, mut write) = pipe();
        let seen = Arc::new(std::sync::Mutex::new(Vec::new()));
        let observer: LineObserver = {
            let seen = Arc::clone(&seen);
            Arc::new(move |line: &[u8]| {
                seen.lock().unwrap().push(String::from_utf8(line.to_vec()).unwrap());
                true
            })
        };
        let mut view = pump.subscribe();
        let mut next = async || match view.next().await {
            Some(LogItem::Chunk { bytes, .. }) => String::from_utf8(bytes.to_vec()).unwrap(),
            other => panic!("{other:?}"),
        };
        pump.attach(&id, &LogSpec::default(), LogStream::Stdout, read, Some(observer));
        write.write_all(b"Password: ").unwrap();
        assert_eq!(next().await, "Password: ");
        assert_eq!(std::fs::read(super::super::file::path(dir.path(), &id)).unwrap(), b"Password: ");
        // A terminal that attaches meanwhile shows it too.
        assert_eq!(&*pump.terminal_feed(&id).recv().await.unwrap(), b"Password: ");
        write.write_all(b"taken\n").unwrap();
        assert_eq!(next().await, "taken\n");
        // Viewers are served first.
        pump.drain(&id).await;
        assert_eq!(*seen.lock().unwrap(), ["Password: ", "Password: taken"]);
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
