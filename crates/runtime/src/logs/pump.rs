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

use super::file::{LogFile, Loss};
use super::losses::{Lost, Unopened};
use super::tail::{self, Tail};

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

/// Sees each complete line of a service as it comes (`log` probes); `false` ends it.
pub type Tap = Arc<dyn Fn(&[u8]) -> bool + Send + Sync>;

/// What a viewer gets.
#[derive(Debug, Clone)]
pub enum LogItem {
    /// Whole lines, or a piece of one that is longer than 64 KiB.
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

/// How much of a line without an end is held back, so that the other stream cannot tear it.
const HOLD: usize = 64 * 1024;
/// A smaller piece is copied behind what is held back: cheaper than a write of its own.
const COPIED: usize = 32 * 1024;
/// What one read takes at most.
const READ: usize = 256 * 1024;
/// Pieces that may wait for one attached terminal.
const SCREENS: usize = 1024;
/// Bytes that may wait for one viewer.
const QUEUE_BYTES: u64 = 32 * 1024 * 1024;

struct Viewer {
    sender: mpsc::UnboundedSender<LogItem>,
    waiting: Arc<AtomicU64>,
    missed: u64,
}

/// A viewer's end.
#[derive(Debug)]
pub struct Subscription {
    receiver: mpsc::UnboundedReceiver<LogItem>,
    waiting: Arc<AtomicU64>,
}

impl Subscription {
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

enum Order {
    Attach { id: ServiceId, spec: LogSpec, stream: LogStream, fd: OwnedFd, tap: Option<Tap> },
    Write { id: ServiceId, spec: LogSpec, stream: LogStream, bytes: Vec<u8> },
    Note { id: ServiceId, text: String },
    Subscribe { sender: mpsc::UnboundedSender<LogItem>, waiting: Arc<AtomicU64> },
    Begin { id: ServiceId, spec: LogSpec },
    Drain { id: ServiceId, done: oneshot::Sender<()> },
    DrainAll { done: oneshot::Sender<()> },
    Screen { id: ServiceId, sender: Screen },
    Losses(mpsc::UnboundedSender<Lost>),
    Files { id: ServiceId, spec: LogSpec },
}

/// A handle; clones speak to the same pump. The thread ends when the last one is gone.
#[derive(Debug, Clone)]
pub struct LogPump {
    orders: mpsc::UnboundedSender<Order>,
}

impl LogPump {
    /// Starts the thread.
    ///
    /// # Errors
    /// When no thread or runtime is to be had.
    pub fn start(folder: PathBuf) -> io::Result<Self> {
        let (orders, receiver) = mpsc::unbounded_channel();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_io().enable_time().build()?;
        std::thread::Builder::new().name("logs".to_owned()).stack_size(512 * 1024).spawn(move || {
            let local = tokio::task::LocalSet::new();
            local.block_on(&runtime, serve(folder, receiver));
        })?;
        Ok(Self { orders })
    }

    fn order(&self, order: Order) {
        // The thread lives as long as this handle does; should it have died, logs are lost and nothing else is.
        drop(self.orders.send(order));
    }

    /// Reads a pipe of a service until it ends.
    pub fn attach(&self, id: &ServiceId, spec: &LogSpec, stream: LogStream, fd: OwnedFd, tap: Option<Tap>) {
        self.order(Order::Attach { id: id.clone(), spec: spec.clone(), stream, fd, tap });
    }
    /// A new start of the service begins: what its earlier processes have written is taken in first.
    pub fn begin(&self, id: &ServiceId, spec: &LogSpec) {
        self.order(Order::Begin { id: id.clone(), spec: spec.clone() });
    }
    /// Something of our own about a service: shown to viewers, not stored, as the file is the service's.
    pub fn note(&self, id: &ServiceId, text: impl Into<String>) {
        self.order(Order::Note { id: id.clone(), text: text.into() });
    }
    /// A viewer that sees everything from now on.
    #[must_use]
    pub fn subscribe(&self) -> Subscription {
        let (sender, receiver) = mpsc::unbounded_channel();
        let waiting = Arc::new(AtomicU64::new(0));
        self.order(Order::Subscribe { sender, waiting: Arc::clone(&waiting) });
        Subscription { receiver, waiting }
    }
    /// Hears of output that is lost. One listener; the last one counts.
    #[must_use]
    pub fn losses(&self) -> mpsc::UnboundedReceiver<Lost> {
        let (sender, receiver) = mpsc::unbounded_channel();
        self.order(Order::Losses(sender));
        receiver
    }
    /// The raw bytes of a service's terminal as they come, beginning with the line that has no end yet. Ends with the
    /// terminal, and for a viewer that does not keep up.
    #[must_use]
    pub fn screen(&self, id: &ServiceId) -> mpsc::Receiver<Arc<[u8]>> {
        let (sender, receiver) = mpsc::channel(SCREENS);
        self.order(Order::Screen { id: id.clone(), sender });
        receiver
    }
    /// Follows the further files of a service (`log_files`), each into a log of its own; the last call counts.
    pub fn follow_files(&self, id: &ServiceId, spec: &LogSpec) {
        self.order(Order::Files { id: id.clone(), spec: spec.clone() });
    }
    /// Everything that a service has written so far is in its file when this returns.
    pub async fn drain(&self, id: &ServiceId) {
        let (done, wait) = oneshot::channel();
        self.order(Order::Drain { id: id.clone(), done });
        drop(wait.await);
    }
    /// Waits until all that was handed over so far is in the files: at the end of a run, as its process takes the thread with it.
    pub async fn drain_all(&self) {
        let (done, wait) = oneshot::channel();
        self.order(Order::DrainAll { done });
        drop(wait.await);
    }
    /// Takes the output of init steps and other short-lived processes into the service's log.
    #[must_use]
    pub fn sink(&self, id: &ServiceId, spec: &LogSpec) -> Arc<dyn OutputSink> {
        Arc::new(Sink { pump: self.clone(), id: id.clone(), spec: spec.clone() })
    }
}

struct Sink {
    pump: LogPump,
    id: ServiceId,
    spec: LogSpec,
}

impl OutputSink for Sink {
    fn write(&self, stream: OutputStream, bytes: &[u8]) {
        let stream = match stream {
            OutputStream::Stdout => LogStream::Stdout,
            OutputStream::Stderr => LogStream::Stderr,
        };
        self.pump.order(Order::Write { id: self.id.clone(), spec: self.spec.clone(), stream, bytes: bytes.to_vec() });
    }
}

/// Where the raw bytes of a terminal go.
type Screen = mpsc::Sender<Arc<[u8]>>;

struct Source {
    id: ServiceId,
    stream: LogStream,
    fd: AsyncFd<OwnedFd>,
    held: RefCell<Vec<u8>>,
    tap: RefCell<Option<Tap>>,
    ended: std::cell::Cell<bool>,
}

pub(super) struct Pump {
    folder: PathBuf,
    pub(super) files: RefCell<BTreeMap<ServiceId, LogFile>>,
    pub(super) unopened: RefCell<BTreeMap<ServiceId, Unopened>>,
    pub(super) losses: RefCell<Option<mpsc::UnboundedSender<Lost>>>,
    /// When the loss of a service was last told.
    pub(super) told: RefCell<BTreeMap<ServiceId, i64>>,
    held: RefCell<BTreeMap<(ServiceId, u32), Vec<u8>>>,
    viewers: RefCell<Vec<Viewer>>,
    /// By service, or the start and the stop of many would look at each other's.
    sources: RefCell<BTreeMap<ServiceId, Vec<Rc<Source>>>>,
    screens: RefCell<Vec<(ServiceId, Screen)>>,
    tails: RefCell<BTreeMap<ServiceId, (LogSpec, Vec<Tail>)>>,
    buffer: RefCell<Vec<u8>>,
}

async fn serve(folder: PathBuf, mut orders: mpsc::UnboundedReceiver<Order>) {
    let pump = Rc::new(Pump {
        folder,
        files: RefCell::default(),
        unopened: RefCell::default(),
        losses: RefCell::default(),
        told: RefCell::default(),
        held: RefCell::default(),
        viewers: RefCell::default(),
        sources: RefCell::default(),
        screens: RefCell::default(),
        tails: RefCell::default(),
        buffer: RefCell::new(vec![0; READ]),
    });
    let mut looking = false;
    while let Some(order) = orders.recv().await {
        match order {
            Order::Screen { id, sender } => pump.add_screen(id, sender),
            Order::Losses(sender) => drop(pump.losses.replace(Some(sender))),
            Order::Files { id, spec } => {
                pump.set_tails(&id, &spec);
                if !looking && !pump.tails.borrow().is_empty() {
                    looking = true;
                    tokio::task::spawn_local(look(Rc::clone(&pump)));
                }
            }
            Order::Attach { id, spec, stream, fd, tap } => {
                pump.open(&id, &spec);
                // Without a reactor for it the pipe would fill and block the service; the keeper still holds its own end.
                let Ok(fd) = reactor::register(fd, tokio::io::Interest::READABLE) else { continue };
                let source = Rc::new(Source {
                    id,
                    stream,
                    fd,
                    held: RefCell::default(),
                    tap: RefCell::new(tap),
                    ended: std::cell::Cell::new(false),
                });
                pump.sources.borrow_mut().entry(source.id.clone()).or_default().push(Rc::clone(&source));
                tokio::task::spawn_local(follow(Rc::clone(&pump), source));
            }
            Order::Write { id, spec, stream, bytes } => {
                pump.open(&id, &spec);
                let mut held = pump.held.borrow_mut().remove(&(id.clone(), stream as u32)).unwrap_or_default();
                pump.take(&id, stream, &bytes, &mut held, None);
                if !held.is_empty() {
                    pump.held.borrow_mut().insert((id, stream as u32), held);
                }
            }
            Order::Note { id, text } => pump.publish(&id, LogStream::Devrun, now(), format!("{text}\n").as_bytes()),
            Order::Subscribe { sender, waiting } => pump.viewers.borrow_mut().push(Viewer { sender, waiting, missed: 0 }),
            Order::Begin { id, spec } => {
                pump.open(&id, &spec);
                pump.drain(&id);
                if let Some(file) = pump.files.borrow_mut().get_mut(&id) {
                    file.begin(now());
                }
            }
            Order::DrainAll { done } => {
                let ids: Vec<ServiceId> = pump.sources.borrow().keys().cloned().collect();
                ids.iter().for_each(|id| pump.drain(id));
                let _unread = done.send(());
            }
            Order::Drain { id, done } => {
                pump.drain(&id);
                pump.poll_tails(Some(&id));
                pump.tell_losses(&id, i64::MAX);
                let _unread = done.send(());
            }
        }
    }
}

async fn follow(pump: Rc<Pump>, source: Rc<Source>) {
    while !source.ended.get() {
        let Ok(mut ready) = source.fd.readable().await else { break };
        if pump.read_some(&source, 4) {
            ready.clear_ready();
        }
        // One writer that never pauses must not starve the others.
        tokio::task::yield_now().await;
    }
    let mut held = source.held.borrow_mut();
    pump.flush(&source.id, source.stream, &mut held);
    drop(held);
    pump.forget(&source);
    pump.screens.borrow_mut().retain(|(id, _)| *id != source.id);
    // Its last lines in other files are there by now.
    pump.poll_tails(Some(&source.id));
}

/// Looks at the further files, for as long as the pump lives.
async fn look(pump: Rc<Pump>) {
    loop {
        tokio::time::sleep(tail::LOOK).await;
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
                if let Some(Unopened { loss, .. }) = self.unopened.borrow_mut().remove(id).filter(|before| before.loss.bytes > 0)
                {
                    file.lost_before(loss);
                }
                files.insert(id.clone(), file);
            }
            Err(error) => {
                let mut unopened = self.unopened.borrow_mut();
                let tried = now();
                unopened.entry(id.clone()).and_modify(|before| before.tried = tried).or_insert_with(|| Unopened {
                    spec: spec.clone(),
                    tried,
                    loss: Loss::new(&error),
                });
            }
        }
    }

    fn add_screen(&self, id: ServiceId, sender: Screen) {
        let Some(source) = self.sources_of(&id).into_iter().find(|source| !source.ended.get()) else { return };
        let held = source.held.borrow();
        if held.is_empty() || sender.try_send(Arc::from(held.as_slice())).is_ok() {
            self.screens.borrow_mut().push((id, sender));
        }
    }

    fn show(&self, id: &ServiceId, bytes: &[u8]) {
        let mut screens = self.screens.borrow_mut();
        if screens.iter().any(|(other, _)| other == id) {
            let bytes: Arc<[u8]> = Arc::from(bytes);
            screens.retain(|(other, sender)| other != id || sender.try_send(Arc::clone(&bytes)).is_ok());
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
            let files = spec.files.iter().map(|path| Tail::new(id, path)).collect();
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
                if !bytes.is_empty() {
                    self.open(&tail.id, spec);
                    let mut held = std::mem::take(&mut tail.held);
                    self.take(&tail.id, LogStream::Stdout, &bytes, &mut held, None);
                    tail.held = held;
                }
            }
        }
    }

    fn sources_of(&self, id: &ServiceId) -> Vec<Rc<Source>> {
        self.sources.borrow().get(id).cloned().unwrap_or_default()
    }

    fn forget(&self, source: &Rc<Source>) {
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
            let mut held = source.held.borrow_mut();
            self.flush(id, source.stream, &mut held);
        }
    }

    /// Reads up to `times` buffers; true when the pipe was emptied.
    fn read_some(&self, source: &Source, times: u32) -> bool {
        for _ in 0..times {
            let mut buffer = self.buffer.borrow_mut();
            match nix::unistd::read(&source.fd, &mut buffer) {
                Ok(0) => {
                    source.ended.set(true);
                    return true;
                }
                Ok(length) => {
                    self.show(&source.id, &buffer[..length]);
                    let mut held = source.held.borrow_mut();
                    self.take(&source.id, source.stream, &buffer[..length], &mut held, Some(&source.tap));
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

    fn read_all(&self, source: &Source) {
        // Bounded: a service that floods must not hold a drain for ever.
        for _ in 0..256 {
            if source.ended.get() || self.read_some(source, 1) {
                return;
            }
        }
    }

    /// Writes out whole lines, keeps the rest back.
    fn take(&self, id: &ServiceId, stream: LogStream, bytes: &[u8], held: &mut Vec<u8>, tap: Option<&RefCell<Option<Tap>>>) {
        let end = memchr::memrchr(b'\n', bytes).map_or(0, |at| at + 1);
        let (whole, rest) = bytes.split_at(end);
        if held.is_empty() {
            self.store(id, stream, whole, tap);
        } else if !whole.is_empty() {
            // The line that was held back is completed; of a big piece the rest is written from where it lies.
            let first = memchr::memchr(b'\n', whole).map_or(whole.len(), |at| at + 1);
            let (end, others) = whole.split_at(if whole.len() < COPIED { whole.len() } else { first });
            held.extend_from_slice(end);
            self.store(id, stream, held, tap);
            held.clear();
            self.store(id, stream, others, tap);
        }
        held.extend_from_slice(rest);
        if held.len() > HOLD {
            self.store(id, stream, held, tap);
            held.clear();
        }
    }

    fn flush(&self, id: &ServiceId, stream: LogStream, held: &mut Vec<u8>) {
        if !held.is_empty() {
            self.store(id, stream, held, None);
            held.clear();
        }
    }

    fn store(&self, id: &ServiceId, stream: LogStream, bytes: &[u8], tap: Option<&RefCell<Option<Tap>>>) {
        if bytes.is_empty() {
            return;
        }
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
            Some(true) => self.tell_losses(id, micros),
            None => self.store_unopened(id, stream, micros, bytes),
        }
        if let Some(slot) = tap {
            let go_on = slot
                .borrow()
                .as_ref()
                .is_none_or(|tap| bytes.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()).all(|line| tap(line)));
            if !go_on {
                slot.replace(None);
            }
        }
        self.publish(id, stream, micros, bytes);
    }

    pub(super) fn publish(&self, id: &ServiceId, stream: LogStream, micros: i64, bytes: &[u8]) {
        let mut viewers = self.viewers.borrow_mut();
        if viewers.is_empty() {
            return;
        }
        let bytes: Arc<[u8]> = Arc::from(bytes);
        viewers.retain_mut(|viewer| {
            if viewer.waiting.load(Ordering::Relaxed) + bytes.len() as u64 > QUEUE_BYTES {
                viewer.missed += bytes.len() as u64;
                return !viewer.sender.is_closed();
            }
            if viewer.missed > 0 {
                let missed = std::mem::take(&mut viewer.missed);
                drop(viewer.sender.send(LogItem::Missed(missed)));
            }
            viewer.waiting.fetch_add(bytes.len() as u64, Ordering::Relaxed);
            viewer.sender.send(LogItem::Chunk { id: id.clone(), stream, micros, bytes: Arc::clone(&bytes) }).is_ok()
        });
    }
}

impl std::fmt::Debug for Source {
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
        let tap: Tap = {
            let seen = Arc::clone(&seen);
            Arc::new(move |line: &[u8]| {
                seen.lock().unwrap().push(line.to_vec());
                true
            })
        };
        let mut view = pump.subscribe();
        pump.attach(&id, &LogSpec::default(), LogStream::Stdout, read, Some(tap));
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
