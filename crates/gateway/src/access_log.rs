//! One line a request on stdout, what went wrong on stderr; both also as files where the gateway has a volume. A thread of its own
//! writes, so that a reader that does not keep up costs lines and never requests.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::Duration;

use http::Method;

use super::upstreams::CopyAddress;

/// Lines that wait for the writer.
const WAITING: usize = 8192;
/// From one write to the next. Many times this rate fills what can wait.
const GATHER: Duration = Duration::from_millis(4);
/// A file of this size is renamed to `NAME.1`, in the place of the one before.
const MAX_FILE: u64 = 10 * 1024 * 1024;

/// What is written of one request. The query is left out: it often holds tokens.
#[derive(Debug, Clone, Default)]
pub(crate) struct AccessLine {
    pub at: jiff::Timestamp,
    pub method: Method,
    pub path: String,
    pub route: Option<Arc<str>>,
    pub upstream: Option<Arc<CopyAddress>>,
    pub status: u16,
    pub took: Duration,
    pub bytes: u64,
}

impl std::fmt::Display for AccessLine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:.6} {} {} {} ", self.at, self.method, self.path, self.route.as_deref().unwrap_or("-"))?;
        match &self.upstream {
            Some(copy) => write!(f, "{}@{}", copy.name, copy.authority)?,
            None => f.write_str("-")?,
        }
        write!(f, " {} {:.1}ms {}B", self.status, self.took.as_secs_f64() * 1000.0, self.bytes)
    }
}

enum LogWrite {
    Access(AccessLine),
    Error(String),
    End,
}

/// Where requests are written down.
#[derive(Clone)]
pub struct AccessLog {
    sender: SyncSender<LogWrite>,
    dropped: Arc<AtomicU64>,
    has_access_lines: bool,
}

/// The thread that writes.
#[derive(Debug)]
pub struct LogWriter(JoinHandle<()>);

impl AccessLog {
    /// Starts the thread. `directory`: where `access.log` and `error.log` are kept as well.
    ///
    /// # Errors
    /// When a file cannot be opened or no thread be made.
    pub fn start(directory: Option<PathBuf>) -> io::Result<(Self, LogWriter)> {
        let open = |name: &str| directory.as_ref().map(|directory| AccessLogFile::open(directory.join(name))).transpose();
        let (access, errors) = (open("access.log")?, open("error.log")?);
        let (sender, receiver) = sync_channel(WAITING);
        let dropped = Arc::new(AtomicU64::new(0));
        let counted = Arc::clone(&dropped);
        let thread = std::thread::Builder::new().name("access-log".to_owned()).spawn(move || {
            write_all(&receiver, &counted, access, errors);
        })?;
        Ok((Self { sender, dropped, has_access_lines: true }, LogWriter(thread)))
    }
    /// Without a line for each request: what goes wrong alone is written down.
    #[must_use]
    pub fn errors_only(self) -> Self {
        Self { has_access_lines: false, ..self }
    }
    pub(crate) fn access(&self, line: AccessLine) {
        if self.has_access_lines {
            self.put(LogWrite::Access(line));
        }
    }
    pub(crate) fn error(&self, line: String) {
        self.put(LogWrite::Error(line));
    }
    fn put(&self, entry: LogWrite) {
        if self.sender.try_send(entry).is_err() {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }
    /// Writes what is waiting and ends the thread.
    pub fn finish(self, writer: LogWriter) {
        // A writer that has ended has nothing left to write.
        let _ended = self.sender.send(LogWrite::End).is_ok() && writer.0.join().is_ok();
    }
}

struct AccessLogFile {
    path: PathBuf,
    file: File,
    size: u64,
}

impl AccessLogFile {
    fn open(path: PathBuf) -> io::Result<Self> {
        let file = OpenOptions::new().append(true).create(true).mode(0o600).custom_flags(nofollow()).open(&path)?;
        let size = file.metadata()?.len();
        Ok(Self { path, file, size })
    }
    /// A full disk costs the file its lines; they are on stdout all the same.
    fn write(&mut self, lines: &[u8]) {
        if self.size + lines.len() as u64 > MAX_FILE && std::fs::rename(&self.path, self.path.with_extension("log.1")).is_ok() {
            match Self::open(self.path.clone()) {
                Ok(next) => *self = next,
                Err(_) => return,
            }
        }
        if self.file.write_all(lines).is_ok() {
            self.size += lines.len() as u64;
        }
    }
}

/// `O_NOFOLLOW`: a link in the place of a log would have us write elsewhere.
fn nofollow() -> i32 {
    libc::O_NOFOLLOW
}

fn write_all(
    receiver: &Receiver<LogWrite>,
    dropped: &AtomicU64,
    mut access: Option<AccessLogFile>,
    mut errors: Option<AccessLogFile>,
) {
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let mut is_over = false;
    while !is_over {
        let Ok(mut entry) = receiver.recv() else { return };
        // What is there already goes out with one write.
        loop {
            match entry {
                // Writing into a vector cannot fail.
                LogWrite::Access(line) => drop(writeln!(out, "{line}")),
                LogWrite::Error(line) => err.extend_from_slice(format!("{line}\n").as_bytes()),
                LogWrite::End => {
                    is_over = true;
                    break;
                }
            }
            match receiver.try_recv() {
                Ok(next) if out.len() + err.len() < 64 * 1024 => entry = next,
                Ok(LogWrite::End) => {
                    is_over = true;
                    break;
                }
                Ok(next) => {
                    flush(&mut out, &mut err, &mut access, &mut errors);
                    entry = next;
                }
                Err(_) => break,
            }
        }
        match dropped.swap(0, Ordering::Relaxed) {
            0 => {}
            count => {
                err.extend_from_slice(format!("{count} lines of the access log were dropped: too many at a time\n").as_bytes())
            }
        }
        flush(&mut out, &mut err, &mut access, &mut errors);
        // What comes meanwhile goes out together, and a request need not wake this thread.
        std::thread::sleep(GATHER);
    }
}

fn flush(out: &mut Vec<u8>, err: &mut Vec<u8>, access: &mut Option<AccessLogFile>, errors: &mut Option<AccessLogFile>) {
    // Without a reader there is nobody to tell.
    let _no_reader = io::stdout().lock().write_all(out).and_then(|()| io::stdout().lock().flush());
    let _no_reader = io::stderr().lock().write_all(err);
    if let Some(file) = access.as_mut().filter(|_| !out.is_empty()) {
        file.write(out);
    }
    if let Some(file) = errors.as_mut().filter(|_| !err.is_empty()) {
        file.write(err);
    }
    out.clear();
    err.clear();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_holds_what_the_contract_says_in_order() {
        let mut line = AccessLine {
            at: "2026-11-28T10:31:54.123456Z".parse().unwrap(),
            method: Method::GET,
            path: "/api/x".to_owned(),
            route: Some("/api/*".into()),
            upstream: Some(Arc::new(CopyAddress::new("api.2", "127.0.0.1:8000"))),
            status: 200,
            took: Duration::from_micros(3210),
            bytes: 512,
        };
        assert_eq!(line.to_string(), "2026-11-28T10:31:54.123456Z GET /api/x /api/* api.2@127.0.0.1:8000 200 3.2ms 512B");
        (line.route, line.upstream) = (None, None);
        assert_eq!(line.to_string(), "2026-11-28T10:31:54.123456Z GET /api/x - - 200 3.2ms 512B");
    }

    #[test]
    fn files_get_their_lines_and_are_rotated() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("access.log");
        let mut file = AccessLogFile::open(path.clone()).unwrap();
        file.write(b"one\n");
        file.size = MAX_FILE;
        file.write(b"two\n");
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "two\n");
        assert_eq!(std::fs::read_to_string(folder.path().join("access.log.1")).unwrap(), "one\n");
        let (log, writer) = AccessLog::start(Some(folder.path().to_owned())).unwrap();
        log.error("boom".to_owned());
        log.finish(writer);
        assert_eq!(std::fs::read_to_string(folder.path().join("error.log")).unwrap(), "boom\n");
    }
}
