//! HTTP requests that continue in threads while a test does something to what they are sent to, and servers in Python for them.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use crate::harness::{PATIENCE, Project, eventually};

/// A server that ends as a good one does: on TERM it accepts nothing more, finishes what it has accepted, and exits. It
/// listens on descriptor 3 where one was passed, else on `$PORT`. It answers with its pid and its name; `/slow` takes 300 ms,
/// `/env` gives what it was passed. It accepts nothing before the file `go` exists where it is started with `--wait`, and exits
/// with 3 where there is a file `broken`.
pub const SERVER: &str = r#"
import os, signal, socket, sys, threading, time
if os.path.exists("broken"):
    sys.exit(3)
name = os.environ["DEVRUN_SERVICE"] + "." + os.environ["DEVRUN_REPLICA"]
stopping = False

def stop(*_):
    global stopping
    stopping = True

signal.signal(signal.SIGTERM, stop)
if os.environ.get("LISTEN_PID") == str(os.getpid()):
    listener = socket.socket(fileno=3)
else:
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind(("127.0.0.1", int(os.environ["PORT"])))
    listener.listen(128)
while "--wait" in sys.argv and not os.path.exists("go"):
    time.sleep(0.01)

def serve(sock):
    sock.settimeout(60)
    head = b""
    while b"\r\n\r\n" not in head:
        data = sock.recv(65536)
        if not data:
            return sock.close()
        head += data
    path = head.split(b" ")[1].decode()
    if path == "/slow":
        time.sleep(0.3)
    body = "%s %d\n" % (name, os.getpid())
    if path == "/env":
        body += " ".join(os.environ.get(key, "") for key in ("LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES", "PORT"))
    sock.sendall(("HTTP/1.1 200 OK\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%s" % (len(body), body)).encode())
    sock.close()

listener.settimeout(0.02)
threads = []
while not stopping:
    try:
        sock, _ = listener.accept()
    except OSError:
        continue
    thread = threading.Thread(target=serve, args=(sock,))
    thread.start()
    threads = [one for one in threads if one.is_alive()] + [thread]
listener.close()
for thread in threads:
    thread.join()
"#;

/// `api` is [`SERVER`] on a socket that is passed to it, with more keys; and more of the procfile.
pub fn listening(keys: &str, more: &str) -> Project {
    let project = Project::new().procfile(&format!(
        r#"
        [services.api]
        run = ["python3", "srv.py", "{{token}}-api-", "${{FLAG:-}}"]
        port = "auto"
        listen = true
        {keys}
        {more}
        "#
    ));
    project.write("srv.py", SERVER);
    project
}

/// What became of the requests so far.
#[derive(Debug, Clone, Default)]
pub struct Tally {
    /// Answered with 200.
    pub good: u64,
    /// By the processes that answered: name and pid.
    pub by: BTreeMap<String, u64>,
    /// Everything else, in words.
    pub failed: Vec<String>,
}

impl Tally {
    /// The pids that answered.
    pub fn pids(&self) -> BTreeSet<&str> {
        self.by.keys().filter_map(|text| text.split(' ').nth(1)).collect()
    }
    /// The copies that answered.
    pub fn names(&self) -> BTreeSet<&str> {
        self.by.keys().filter_map(|text| text.split(' ').next()).collect()
    }
}

/// Threads that send one request after the other, each on a connection of its own.
pub struct Load {
    stop: Arc<AtomicBool>,
    tally: Arc<Mutex<Tally>>,
    threads: Vec<JoinHandle<()>>,
}

impl Load {
    /// Begins; `path` is what is asked for.
    pub fn begin(port: u16, threads: usize, path: &'static str) -> Self {
        let (stop, tally) = (Arc::new(AtomicBool::new(false)), Arc::new(Mutex::new(Tally::default())));
        let threads = (0..threads)
            .map(|_| {
                let (stop, tally) = (Arc::clone(&stop), Arc::clone(&tally));
                std::thread::spawn(move || {
                    while !stop.load(Ordering::Relaxed) {
                        let answer = get(port, path);
                        let mut tally = tally.lock().expect("no thread panics");
                        match answer {
                            Ok(body) => {
                                tally.good += 1;
                                *tally.by.entry(body.lines().next().unwrap_or_default().to_owned()).or_default() += 1;
                            }
                            Err(why) => tally.failed.push(why),
                        }
                    }
                })
            })
            .collect();
        Self { stop, tally, threads }
    }
    /// What happened until now.
    pub fn so_far(&self) -> Tally {
        self.tally.lock().expect("no thread panics").clone()
    }
    /// Waits until so many more requests were answered.
    pub fn answered(&self, more: u64) {
        let before = self.so_far().good;
        eventually("requests are answered", PATIENCE, || (self.so_far().good >= before + more).then_some(()));
    }
    /// Ends it.
    pub fn end(self) -> Tally {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads {
            thread.join().expect("no thread panics");
        }
        Arc::try_unwrap(self.tally).expect("all threads have ended").into_inner().expect("no thread panicked")
    }
}

/// One request on a connection of its own: the body of a 200, or what went wrong.
pub fn get(port: u16, path: &str) -> Result<String, String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).map_err(|error| format!("connect: {error}"))?;
    stream.set_read_timeout(Some(PATIENCE)).map_err(|error| error.to_string())?;
    let request = format!("GET {path} HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).map_err(|error| format!("write: {error}"))?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).map_err(|error| format!("read: {error}"))?;
    let text = String::from_utf8_lossy(&answer).into_owned();
    match text.split_once("\r\n\r\n") {
        Some((head, body)) if head.split(' ').nth(1) == Some("200") => Ok(body.to_owned()),
        Some((head, body)) => Err(format!("{} {body}", head.lines().next().unwrap_or_default())),
        None => Err(format!("{} bytes and no head", answer.len())),
    }
}
