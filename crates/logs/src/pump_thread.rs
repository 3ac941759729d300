//! The pump's thread: reads every pipe and appends to the files.
//!
//! Each pipe is a task; they share one read buffer, as no task awaits while it holds bytes.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;

use tokio::io::unix::AsyncFd;
use tokio::sync::{mpsc, oneshot};

use devrun_keeper::reactor;
use devrun_model::{ServiceId, service::LogSpec};

use super::followed_file::{self, FollowedFile};
use super::log_stream::LogStream;
use super::loss::{LossReport, UnopenedLog};
use super::partial_line::{self, PartialLine};
use super::rotating_log_file::{LogFile, LogLoss};
use super::subscription::Subscriber;
use super::terminal_output::TerminalFeed;

/// What one read takes at most.
const READ_BUFFER: usize = 256 * 1024;

/// Sees each line of a service as it comes (`log` probes), one that has rested unfinished before its end too; `false` ends it.
pub type LineObserver = Arc<dyn Fn(&[u8]) -> bool + Send + Sync>;

/// What the handle asks of the thread.
pub(super) enum PumpCommand {
    Attach { id: ServiceId, spec: LogSpec, stream: LogStream, fd: OwnedFd, observer: Option<LineObserver> },
    Write { id: ServiceId, spec: LogSpec, stream: LogStream, bytes: Vec<u8> },
    Note { id: ServiceId, text: String },
    Subscribe(Subscriber),
    Begin { id: ServiceId, spec: LogSpec },
    Drain { id: ServiceId, done: oneshot::Sender<Option<u32>> },
    DrainAll { done: oneshot::Sender<()> },
    Screen { id: ServiceId, feed: TerminalFeed },
    Losses(mpsc::UnboundedSender<LossReport>),
    Files { id: ServiceId, spec: LogSpec },
}

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
    pub(super) reported: RefCell<BTreeMap<ServiceId, i64>>,
    /// Of init steps and other short-lived processes.
    partial_lines: RefCell<BTreeMap<(ServiceId, u32), (LogStream, PartialLine)>>,
    subscribers: RefCell<Vec<Subscriber>>,
    /// By service, or the start and the stop of many would look at each other's.
    sources: RefCell<BTreeMap<ServiceId, Vec<Rc<PipeSource>>>>,
    terminal_feeds: RefCell<Vec<(ServiceId, TerminalFeed)>>,
    tails: RefCell<BTreeMap<ServiceId, (LogSpec, Vec<FollowedFile>)>>,
    buffer: RefCell<Vec<u8>>,
}

/// Obeys commands until the last handle is gone.
pub(super) async fn run_pump(folder: PathBuf, mut commands: mpsc::UnboundedReceiver<PumpCommand>) {
    let pump = Rc::new(Pump {
        folder,
        files: RefCell::default(),
        unopened: RefCell::default(),
        losses: RefCell::default(),
        reported: RefCell::default(),
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
            PumpCommand::Screen { id, feed } => pump.add_terminal_feed(id, feed),
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
            PumpCommand::Subscribe(subscriber) => pump.subscribers.borrow_mut().push(subscriber),
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

    fn add_terminal_feed(&self, id: ServiceId, feed: TerminalFeed) {
        let Some(source) = self.sources_of(&id).into_iter().find(|source| !source.ended.get()) else { return };
        let text = source.partial_line.borrow().text();
        if text.is_empty() || feed.send(Arc::from(text)) {
            self.terminal_feeds.borrow_mut().push((id, feed));
        }
    }

    fn show(&self, id: &ServiceId, bytes: &[u8]) {
        let mut terminal_feeds = self.terminal_feeds.borrow_mut();
        if terminal_feeds.iter().any(|(other, _)| other == id) {
            let bytes: Arc<[u8]> = Arc::from(bytes);
            terminal_feeds.retain(|(other, feed)| other != id || feed.send(Arc::clone(&bytes)));
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
        subscribers.retain_mut(|subscriber| subscriber.offer(id, stream, micros, &bytes));
    }
}

impl std::fmt::Debug for PipeSource {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Source({}, fd {})", self.id, self.fd.as_raw_fd())
    }
}
