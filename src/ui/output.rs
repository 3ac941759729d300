//! The two streams of a command that is a supervisor as well: a reader that stops reading a pipe must hold up neither the
//! command nor, in the end, the instance lock.
//!
//! From [`detach`] on, a thread writes what goes to pipes, in the order in which it came, and whoever has much to write waits for
//! [`room`]. At the end [`finish`] waits for as long as the reader takes something; what a reader that takes nothing is
//! owed then is dropped. Terminals and files are written to directly, as live lines and log lines share a screen.

use std::io::{self, Write};
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock, mpsc};
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use tokio::sync::Notify;

/// Bytes that may wait before [`room`] makes a writer wait.
const QUEUE: usize = 256 * 1024;
/// Bytes beyond which lines are dropped, whoever wrote them.
const MAX_QUEUE: usize = 64 * 1024 * 1024;
/// A reader that takes nothing for this long after the end is not waited for.
const PATIENCE: Duration = Duration::from_secs(2);

/// One of the two streams.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stream {
    /// Standard output.
    Out,
    /// Standard error.
    Err,
}

#[derive(Debug)]
struct StreamWriter {
    queue: mpsc::Sender<(Stream, Vec<u8>)>,
    state: Arc<WriterState>,
}

#[derive(Debug, Default)]
struct WriterState {
    /// Pipes and sockets, which the thread writes to: standard output, standard error.
    detached: [AtomicBool; 2],
    /// Their readers are gone.
    closed: [AtomicBool; 2],
    waiting: AtomicUsize,
    /// Bytes that were taken by a reader.
    taken: AtomicU64,
    room: Notify,
}

static WRITER: OnceLock<StreamWriter> = OnceLock::new();

/// Why some of what was written to standard output is lost, where its reader is not gone.
static LOSS: OnceLock<io::Error> = OnceLock::new();

fn note_loss(error: io::Error) {
    if !is_reader_gone_error(&error) {
        // The first one is the cause.
        let _known = LOSS.set(error);
    }
}

/// Whether an error says that no one wants more: the reader of a pipe has closed it, or the terminal is gone.
fn is_reader_gone_error(error: &io::Error) -> bool {
    use rustix::fs::FileType;
    let is_terminal =
        || rustix::fs::fstat(io::stdout()).is_ok_and(|found| FileType::from_raw_mode(found.st_mode) == FileType::CharacterDevice);
    match error.kind() {
        io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset => true,
        _ => error.raw_os_error() == Some(libc::EIO) && is_terminal(),
    }
}

/// Writes what is still buffered. Returns why some of the standard output of this process could not be written; a reader that has
/// gone does not count.
#[must_use]
pub fn loss() -> Option<&'static io::Error> {
    if let Err(error) = io::stdout().lock().flush() {
        note_loss(error);
    }
    LOSS.get()
}

/// Lets a thread write to those of the streams that are pipes or sockets.
///
/// # Errors
/// When there can be no thread.
pub fn detach() -> io::Result<()> {
    let state = WriterState::default();
    for (at, stream) in [Stream::Out, Stream::Err].into_iter().enumerate() {
        state.detached[at].store(is_pipe(stream), Ordering::Relaxed);
    }
    if !state.detached.iter().any(|one| one.load(Ordering::Relaxed)) || WRITER.get().is_some() {
        return Ok(());
    }
    let state = Arc::new(state);
    let (queue, chunks) = mpsc::channel::<(Stream, Vec<u8>)>();
    let of_thread = Arc::clone(&state);
    std::thread::Builder::new().name("devrun-output".to_owned()).spawn(move || {
        for (stream, bytes) in chunks {
            of_thread.write(stream, &bytes);
        }
    })?;
    // A second call made another one, which ends with its sender.
    let _first = WRITER.set(StreamWriter { queue, state });
    Ok(())
}

fn is_pipe(stream: Stream) -> bool {
    use rustix::fs::FileType;
    let found = if stream == Stream::Out { rustix::fs::fstat(io::stdout()) } else { rustix::fs::fstat(io::stderr()) };
    found.is_ok_and(|found| matches!(FileType::from_raw_mode(found.st_mode), FileType::Fifo | FileType::Socket))
}

impl WriterState {
    fn write(&self, stream: Stream, mut bytes: &[u8]) {
        let closed = &self.closed[stream as usize];
        while !bytes.is_empty() && !closed.load(Ordering::Relaxed) {
            // Not by the locked streams of the standard library: this may never return.
            let written = match stream {
                Stream::Out => nix::unistd::write(io::stdout().as_fd(), bytes),
                Stream::Err => nix::unistd::write(io::stderr().as_fd(), bytes),
            };
            match written {
                Ok(count) => {
                    self.taken.fetch_add(count as u64, Ordering::Relaxed);
                    self.release(count);
                    bytes = bytes.get(count..).unwrap_or_default();
                }
                Err(nix::errno::Errno::EINTR) => {}
                Err(nix::errno::Errno::EAGAIN) => std::thread::sleep(Duration::from_millis(5)),
                Err(error) => {
                    if stream == Stream::Out {
                        note_loss(error.into());
                    }
                    closed.store(true, Ordering::Relaxed);
                }
            }
        }
        self.release(bytes.len());
    }

    fn release(&self, count: usize) {
        self.waiting.fetch_sub(count, Ordering::Relaxed);
        self.room.notify_waiters();
    }
}

/// Writes, or leaves it to the thread.
///
/// # Errors
/// When the reader is gone, as far as that is known.
pub fn write(stream: Stream, bytes: &[u8]) -> io::Result<()> {
    let Some(writer) = WRITER.get().filter(|writer| writer.state.detached[stream as usize].load(Ordering::Relaxed)) else {
        return match stream {
            Stream::Out => noted(io::stdout().lock().write_all(bytes)),
            Stream::Err => io::stderr().lock().write_all(bytes),
        };
    };
    let state = &writer.state;
    if state.closed[stream as usize].load(Ordering::Relaxed) {
        return Err(io::ErrorKind::BrokenPipe.into());
    }
    if state.waiting.load(Ordering::Relaxed) + bytes.len() <= MAX_QUEUE {
        state.waiting.fetch_add(bytes.len(), Ordering::Relaxed);
        writer.queue.send((stream, bytes.to_vec())).map_err(|_| io::Error::from(io::ErrorKind::BrokenPipe))?;
    }
    Ok(())
}

/// Notes the result of a write to standard output that another library has done.
pub fn note(written: io::Result<()>) {
    let _noted = noted(written);
}

/// The result, after an error was noted: its caller ends as if its reader were gone.
fn noted(written: io::Result<()>) -> io::Result<()> {
    written.inspect_err(|error| note_loss(error.raw_os_error().map_or_else(|| error.kind().into(), io::Error::from_raw_os_error)))
}

/// Whether standard output has lost its readers: all readers of the pipe have closed it, or the terminal is gone. For what
/// follows something that may be silent for hours.
#[must_use]
pub fn is_reader_gone() -> bool {
    let stdout = io::stdout();
    let mut fds = [PollFd::new(stdout.as_fd(), PollFlags::empty())];
    let ended = PollFlags::POLLERR | PollFlags::POLLHUP | PollFlags::POLLNVAL;
    poll(&mut fds, PollTimeout::ZERO).is_ok_and(|count| count > 0)
        && fds[0].revents().is_some_and(|found| found.intersects(ended))
}

/// Returns when more may be written without much of it waiting.
pub async fn room() {
    let Some(writer) = WRITER.get() else { return };
    loop {
        let released = writer.state.room.notified();
        tokio::pin!(released);
        // From here on it is not missed.
        released.as_mut().enable();
        if writer.state.waiting.load(Ordering::Relaxed) < QUEUE {
            return;
        }
        released.await;
    }
}

/// Waits until all is written, or until a reader has taken nothing for a while. The last thing that a process does.
pub fn finish() {
    let Some(writer) = WRITER.get() else { return };
    let (mut taken, mut since) = (writer.state.taken.load(Ordering::Relaxed), Instant::now());
    while writer.state.waiting.load(Ordering::Relaxed) > 0 && since.elapsed() < PATIENCE {
        std::thread::sleep(Duration::from_millis(1));
        let now = writer.state.taken.load(Ordering::Relaxed);
        if now != taken {
            (taken, since) = (now, Instant::now());
        }
    }
}

/// Standard output as a [`Write`].
#[derive(Debug)]
pub struct Stdout;

impl Write for Stdout {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        write(Stream::Out, bytes).map(|()| bytes.len())
    }
    fn flush(&mut self) -> io::Result<()> {
        if WRITER.get().is_some_and(|writer| writer.state.detached[Stream::Out as usize].load(Ordering::Relaxed)) {
            return Ok(());
        }
        noted(io::stdout().lock().flush())
    }
}
