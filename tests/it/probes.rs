//! Probes against small servers that misbehave on purpose, and the question who holds a port. One long file, as all of it
//! shares the server and the watcher at its head.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use devrun::app::wait_url::{UrlWaitOptions, wait_for_url};
use devrun_model::ready::Endpoint;
use devrun_model::{Check, FailureKind, ReadySpec, ServiceId, ServiceName};
use devrun_runtime::ports::{self, PortOwner};
use devrun_runtime::probe::{self, ListenWatch, NotifySocket, ProbeHandle, ProbeReport, ProbeSpec};
use tokio::net::TcpSocket;
use tokio::sync::mpsc;

use crate::waits::{eventually_async, let_time_pass, let_time_pass_async};

/// Generous: the machines that run this are busy.
const DEADLINE: Duration = Duration::from_secs(20);

fn at(port: u16) -> Endpoint {
    Endpoint { host: "127.0.0.1".to_owned(), port }
}

/// A port that refuses and that nobody else is given: bound, and listening only when told to.
struct Reserved(TcpSocket, u16);

impl Reserved {
    fn new() -> Self {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let port = socket.local_addr().unwrap().port();
        Self(socket, port)
    }

    fn listen(self) -> TcpListener {
        let listener = self.0.listen(128).unwrap().into_std().unwrap();
        listener.set_nonblocking(false).unwrap();
        listener
    }
}

/// A server whose answer to its n-th connection (from 0) is a function. It ends when dropped.
struct Server {
    port: u16,
    stop: Arc<AtomicBool>,
    connections: Arc<AtomicUsize>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Server {
    fn start(answer: impl Fn(usize, &mut TcpStream) + Send + Sync + 'static) -> Self {
        Self::on(TcpListener::bind("127.0.0.1:0").unwrap(), answer)
    }

    fn on(listener: TcpListener, answer: impl Fn(usize, &mut TcpStream) + Send + Sync + 'static) -> Self {
        let port = listener.local_addr().unwrap().port();
        let stop = Arc::new(AtomicBool::new(false));
        let connections = Arc::new(AtomicUsize::new(0));
        let (stopped, counted) = (Arc::clone(&stop), Arc::clone(&connections));
        let answer = Arc::new(answer);
        let thread = std::thread::spawn(move || {
            while let Ok((mut stream, _)) = listener.accept() {
                if stopped.load(Ordering::SeqCst) {
                    break;
                }
                let number = counted.fetch_add(1, Ordering::SeqCst);
                let answer = Arc::clone(&answer);
                // The peer may hang up at any moment; that is what is tested.
                std::thread::spawn(move || {
                    let _ = stream.set_read_timeout(Some(DEADLINE));
                    answer(number, &mut stream);
                });
            }
        });
        Self { port, stop, connections, thread: Some(thread) }
    }

    fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        let _ = TcpStream::connect(("127.0.0.1", self.port));
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Reads what is there until `end` was seen; what was read.
fn read_until(stream: &mut TcpStream, end: &[u8]) -> Vec<u8> {
    let (mut all, mut byte) = (Vec::new(), [0u8; 1]);
    while !all.ends_with(end) && matches!(stream.read(&mut byte), Ok(1)) {
        all.push(byte[0]);
    }
    all
}

fn http_server(answers: &'static [&'static str]) -> Server {
    Server::start(move |number, stream| {
        read_until(stream, b"\r\n\r\n");
        let _ = stream.write_all(answers[number.min(answers.len() - 1)].as_bytes());
    })
}

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";
const BUSY: &str = "HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n";

fn http(port: u16, body: Option<&str>) -> Check {
    Check::Http {
        at: at(port),
        tls: false,
        path: "/health".to_owned(),
        status: Vec::new(),
        headers: BTreeMap::new(),
        body: body.map(str::to_owned),
    }
}

fn spec(checks: Vec<Check>) -> ReadySpec {
    ReadySpec { interval: Duration::from_secs(3600), ..ReadySpec::new(checks) }
}

struct Watched {
    handle: ProbeHandle,
    answers: mpsc::UnboundedReceiver<(ServiceId, u64, ProbeReport)>,
}

impl Watched {
    fn new(ready: Option<ReadySpec>, alive: Option<ReadySpec>, leader: Option<i32>, notify: Option<NotifySocket>) -> Self {
        let (sink, answers) = mpsc::unbounded_channel();
        let probing = ProbeSpec {
            id: ServiceId::single(&ServiceName::new("api").unwrap()),
            generation: 7,
            ready,
            alive,
            leader,
            run: "0123456789abcdef".to_owned(),
            commands: None,
            notify: notify.map(Ok),
            held: None,
            listen_watch: ListenWatch::default(),
        };
        Self { handle: probe::start_probe_tasks(probing, sink), answers }
    }

    fn ready(spec: ReadySpec) -> Self {
        Self::new(Some(spec), None, None, None)
    }

    async fn next(&mut self) -> ProbeReport {
        let (id, generation, answer) =
            tokio::time::timeout(DEADLINE, self.answers.recv()).await.expect("an answer in time").expect("probes go on");
        assert_eq!((id.as_str(), generation), ("api", 7));
        answer
    }

    /// The texts of the failures before the first pass, repeats left out, and the note of the pass.
    async fn until_passed(&mut self) -> (Vec<String>, Option<String>) {
        let mut failures: Vec<String> = Vec::new();
        loop {
            match self.next().await {
                ProbeReport::Passed(note) => return (failures, note),
                ProbeReport::Failed(text, fatal) => {
                    assert_eq!(fatal, None, "{text}");
                    if failures.last() != Some(&text) {
                        failures.push(text);
                    }
                }
                other => panic!("{other:?}"),
            }
        }
    }

    async fn until(&mut self, wanted: impl Fn(&ProbeReport) -> bool) -> ProbeReport {
        loop {
            let answer = self.next().await;
            if wanted(&answer) {
                return answer;
            }
        }
    }
}

/// One attempt: the answer, or what was answered instead.
async fn once(check: &Check) -> Result<String, String> {
    probe::attempt(check, DEADLINE).await.map_err(|(answer, _)| answer)
}

#[test(flavor = "multi_thread", worker_threads = 2)]
async fn a_port_that_opens_is_noticed_and_how_soon_is_printed() {
    let mut late = Vec::new();
    for _ in 0..20 {
        let reserved = Reserved::new();
        let port = reserved.1;
        let mut watched = Watched::ready(spec(vec![Check::Tcp { at: at(port) }]));
        let answer = watched.next().await;
        assert_eq!(answer, ProbeReport::Failed(format!("connection refused on 127.0.0.1:{port}"), None));
        // Some quick attempts must have been made before the port opens.
        let opened = tokio::spawn(async move {
            let_time_pass_async("some quick attempts come first", Duration::from_millis(30)).await;
            let listener = reserved.listen();
            (Instant::now(), listener)
        });
        let (failures, note) = watched.until_passed().await;
        let noticed = Instant::now();
        let (opened, _listener) = opened.await.unwrap();
        late.push(noticed.saturating_duration_since(opened));
        assert!(failures.len() <= 1, "{failures:?}");
        assert_eq!(note, None);
        let history = watched.handle.history();
        assert!(history.last().unwrap().passed);
        assert!(history.len() <= 3, "{history:?}");
    }
    late.sort();
    #[expect(clippy::print_stderr, reason = "a measurement, which depends on the machine and is not asserted")]
    {
        eprintln!("open → passed: median {:?}, worst {:?} of {}", late[late.len() / 2], late[late.len() - 1], late.len());
    }
}

#[test(flavor = "multi_thread", worker_threads = 2)]
async fn http_waits_for_a_good_code() {
    let server = http_server(&[BUSY, BUSY, "HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 302 Found\r\nLocation: /x\r\n\r\n"]);
    let mut watched = Watched::ready(spec(vec![http(server.port, None)]));
    assert_eq!(watched.until_passed().await, (vec!["503 from /health".to_owned()], None));
    assert!(server.connections() >= 3);
}

#[test(flavor = "multi_thread", worker_threads = 2)]
async fn http_answers_of_all_kinds() {
    for (answer, body, expected) in [
        (OK, None, Ok("200 from /health")),
        ("HTTP/1.0 200\n\n", None, Ok("200 from /health")),
        ("HTTP/1.1 404 Not Found\r\n\r\n", None, Err("404 from /health")),
        ("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nready", Some("^ready$"), Ok("200 from /health")),
        (
            "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nready",
            Some("^ready$"),
            Err("200 from /health, but the body does not match \"^ready$\""),
        ),
        ("HTTP/1.1 200 OK\r\n\r\nstatus: up", Some("up$"), Ok("200 from /health")),
        (
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3;x=y\r\nrea\r\n2\r\ndy\r\n0\r\n\r\n",
            Some("^ready$"),
            Ok("200 from /health"),
        ),
        (
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
            Some("x"),
            Err("it answers with chunks that cannot be read"),
        ),
        ("HTTP/1.1 200 OK\r\nContent-Length: -4\r\n\r\n", Some("x"), Err("invalid Content-Length in the response")),
        ("", None, Err("the connection was closed without an answer")),
        (
            "HTTP/1.1 200 OK\r\nX: y",
            None,
            Err("the connection was closed in the middle of the headers: \"HTTP/1.1 200 OK X: y\""),
        ),
        ("SSH-2.0-OpenSSH\r\n", None, Err("it answers, but not with HTTP: \"SSH-2.0-OpenSSH\"")),
        ("HTTP/1.1 banana\r\n\r\n", None, Err("it answers, but not with HTTP: \"HTTP/1.1 banana\"")),
        ("HTTP/1.1 2\r\n\r\n", None, Err("it answers, but not with HTTP: \"HTTP/1.1 2\"")),
    ] {
        let server = Server::start(move |_, stream| {
            read_until(stream, b"\r\n\r\n");
            let _ = stream.write_all(answer.as_bytes());
        });
        match (once(&http(server.port, body)).await, expected) {
            (Ok(got), Ok(expected)) => assert!(got.starts_with(expected), "{answer:?}: {got}"),
            (Err(got), Err(expected)) => assert_eq!(got, expected, "{answer:?}"),
            (got, expected) => panic!("{answer:?}: {got:?}, not {expected:?}"),
        }
    }
}

#[test(flavor = "multi_thread", worker_threads = 2)]
async fn http_reads_no_more_than_it_must() {
    // Headers without an end.
    let server = Server::start(|_, stream| {
        read_until(stream, b"\r\n\r\n");
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\n");
        while stream.write_all(b"X-More: and more and more and more and more\r\n").is_ok() {}
    });
    assert_eq!(once(&http(server.port, None)).await, Err("it answers with more than 64 KiB of headers".to_owned()));
    // A body without an end: the first MiB is looked at, in either coding.
    for head in ["HTTP/1.1 200 OK\r\n\r\n", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n7fffffffffffffff\r\n"] {
        let server = Server::start(move |_, stream| {
            read_until(stream, b"\r\n\r\n");
            let _ = stream.write_all(head.as_bytes());
            while stream.write_all(&[b'x'; 4096]).is_ok() {}
        });
        assert!(once(&http(server.port, Some("^xxxx"))).await.is_ok());
        assert!(once(&http(server.port, Some("y"))).await.unwrap_err().contains("does not match"));
        assert!(once(&http(server.port, None)).await.is_ok());
    }
}

#[test(flavor = "multi_thread", worker_threads = 2)]
async fn http_sends_what_it_was_told() {
    let (sink, mut requests) = mpsc::unbounded_channel();
    let server = Server::start(move |_, stream| {
        let _ = sink.send(String::from_utf8(read_until(stream, b"\r\n\r\n")).unwrap());
        let _ = stream.write_all(b"HTTP/1.1 418 Teapot\r\n\r\n");
    });
    let mut check = http(server.port, None);
    if let Check::Http { status, headers, .. } = &mut check {
        status.push(418);
        headers.insert("host".to_owned(), "shop.local".to_owned());
        headers.insert("X-Key".to_owned(), "v".to_owned());
    }
    assert!(once(&check).await.is_ok());
    let request = requests.recv().await.unwrap();
    assert!(request.starts_with("GET /health HTTP/1.1\r\n"), "{request}");
    assert!(request.contains("host: shop.local\r\n") && !request.contains("Host: 127"), "{request}");
    assert!(request.contains("X-Key: v\r\n"), "{request}");
    // What would break a request is refused before anything is sent.
    if let Check::Http { headers, .. } = &mut check {
        headers.insert("X-Bad".to_owned(), "a\r\nEvil: b".to_owned());
    }
    let (_, failure) = probe::attempt(&check, DEADLINE).await.unwrap_err();
    assert_eq!(failure.unwrap().kind, FailureKind::Config);
}

#[test(flavor = "multi_thread", worker_threads = 2)]
async fn a_timeout_is_a_failure_and_attempts_do_not_overlap() {
    let open = Arc::new(AtomicUsize::new(0));
    let most = Arc::new(AtomicUsize::new(0));
    let (now, highest) = (Arc::clone(&open), Arc::clone(&most));
    let server = Server::start(move |number, stream| {
        highest.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
        read_until(stream, b"\r\n\r\n");
        if number >= 2 {
            let _ = stream.write_all(OK.as_bytes());
        }
        // Says nothing until the peer has gone.
        let _ = stream.read(&mut [0u8; 1]);
        now.fetch_sub(1, Ordering::SeqCst);
    });
    let timeout = Duration::from_millis(120);
    let mut watched = Watched::ready(ReadySpec { timeout, ..spec(vec![http(server.port, None)]) });
    let (failures, _) = watched.until_passed().await;
    assert_eq!(failures.first().map(String::as_str), Some("timed out after 120ms"), "{failures:?}");
    // A connection that was just dropped may still be seen by its thread; two would be the next attempt's.
    assert!(most.load(Ordering::SeqCst) <= 2);
    let attempts = watched.handle.history();
    assert!(attempts.windows(2).all(|pair| pair[0].at + pair[0].took <= pair[1].at), "{attempts:?}");
}

/// Postgres' length-prefixed startup packet, then these bytes.
fn pg_server(answers: Vec<Vec<u8>>) -> Server {
    Server::start(move |number, stream| {
        let mut length = [0u8; 4];
        if stream.read_exact(&mut length).is_ok() {
            let mut rest = vec![0u8; u32::from_be_bytes(length) as usize - 4];
            let _ = stream.read_exact(&mut rest);
            let _ = stream.write_all(&answers[number.min(answers.len() - 1)]);
            let _ = stream.read(&mut [0u8; 5]);
        }
    })
}

/// An error of the server: severity, code and message behind the length of it all.
fn pg_error(code: &str, message: &str) -> Vec<u8> {
    let fields = format!("SFATAL\0VFATAL\0C{code}\0M{message}\0\0");
    let length = u32::try_from(fields.len() + 4).unwrap().to_be_bytes();
    [b"E".as_slice(), &length, fields.as_bytes()].concat()
}

fn starting() -> Vec<u8> {
    pg_error("57P03", "the database system is starting up")
}

fn no_database() -> Vec<u8> {
    pg_error("3D000", "database \"shop\" does not exist")
}

fn bad_password() -> Vec<u8> {
    pg_error("28P01", "password authentication failed for user \"app\"")
}

const ASKS: &[u8] = b"R\0\0\0\x08\0\0\0\x03";
const LETS_IN: &[u8] = b"R\0\0\0\x08\0\0\0\0Z\0\0\0\x05I";

fn pg(port: u16) -> Check {
    Check::Pg { at: at(port), database: "shop".to_owned(), user: "app".to_owned() }
}

#[test(flavor = "multi_thread", worker_threads = 2)]
async fn pg_waits_while_the_server_starts_up() {
    let server = pg_server(vec![starting(), starting(), ASKS.to_vec()]);
    let mut watched = Watched::ready(spec(vec![pg(server.port)]));
    let (failures, _) = watched.until_passed().await;
    assert_eq!(failures, ["the database system is starting up (57P03)"]);
}

#[test(flavor = "multi_thread", worker_threads = 2)]
async fn pg_asks_no_more_than_whether_connections_are_accepted() {
    for (answer, passes) in [
        (ASKS.to_vec(), true),
        (no_database(), true),
        (bad_password(), true),
        (starting(), false),
        (b"HTTP/1.1 400".to_vec(), false),
        (b"E\xff\xff\xff\xff".to_vec(), false),
    ] {
        let sent = answer.clone();
        let server = Server::start(move |_, stream| {
            let _ = stream.read(&mut [0u8; 64]);
            let _ = stream.write_all(&sent);
            let _ = stream.shutdown(Shutdown::Write);
            let _ = stream.read(&mut [0u8; 64]);
        });
        assert_eq!(once(&pg(server.port)).await.is_ok(), passes, "{:?}", String::from_utf8_lossy(&answer));
    }
}

fn sql(port: u16, password: Option<&str>) -> Check {
    Check::Sql {
        at: at(port),
        user: "app".to_owned(),
        password: password.map(str::to_owned),
        database: "shop".to_owned(),
        query: "SELECT 1".to_owned(),
    }
}

#[cfg(feature = "postgres")]
#[test(flavor = "multi_thread", worker_threads = 2)]
async fn sql_logs_in_and_tells_refusals_from_not_yet() {
    let server = Server::start(|number, stream| {
        let mut length = [0u8; 4];
        if stream.read_exact(&mut length).is_err() {
            return;
        }
        let mut rest = vec![0u8; u32::from_be_bytes(length) as usize - 4];
        let _ = stream.read_exact(&mut rest);
        match number {
            0 => drop(stream.write_all(&starting())),
            1 => drop(stream.write_all(&no_database())),
            _ => {
                let _ = stream.write_all(LETS_IN);
                // The query, then a row description, a command tag and "ready".
                read_until(stream, b"SELECT 1\0");
                let _ = stream.write_all(b"C\0\0\0\x0dSELECT 1\0Z\0\0\0\x05I");
                let _ = stream.read(&mut [0u8; 5]);
            }
        }
    });
    let mut watched = Watched::ready(spec(vec![sql(server.port, Some("x"))]));
    let (failures, _) = watched.until_passed().await;
    assert_eq!(failures, ["the database system is starting up (57P03)", "database \"shop\" does not exist (3D000)"]);

    let server = pg_server(vec![bad_password()]);
    let mut watched = Watched::ready(spec(vec![sql(server.port, Some("x"))]));
    let ProbeReport::Failed(text, Some(failure)) = watched.next().await else { panic!() };
    assert_eq!(
        (text.as_str(), failure.kind),
        ("password authentication failed for user \"app\" (28P01)", FailureKind::Credentials)
    );

    let server = pg_server(vec![ASKS.to_vec()]);
    let (_, failure) = probe::attempt(&sql(server.port, None), DEADLINE).await.unwrap_err();
    assert_eq!(failure.unwrap().kind, FailureKind::Credentials);

    let server = Server::start(|_, stream| drop(stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n")));
    assert!(once(&sql(server.port, None)).await.is_err());
}

/// A server that reads commands (arrays of bulk strings) and answers each by its first word.
fn redis_server(answer: impl Fn(usize, &[String]) -> Option<String> + Send + Sync + 'static) -> Server {
    Server::start(move |number, stream| {
        loop {
            let head = String::from_utf8_lossy(&read_until(stream, b"\r\n")).into_owned();
            let Some(count) = head.strip_prefix('*').and_then(|text| text.trim().parse::<usize>().ok()) else { return };
            let mut words = Vec::new();
            for _ in 0..count {
                let head = String::from_utf8_lossy(&read_until(stream, b"\r\n")).into_owned();
                let length: usize = head.trim_start_matches('$').trim().parse().unwrap();
                let mut word = vec![0u8; length + 2];
                stream.read_exact(&mut word).unwrap();
                words.push(String::from_utf8_lossy(&word[..length]).into_owned());
            }
            let Some(text) = answer(number, &words) else { return };
            if stream.write_all(text.as_bytes()).is_err() {
                return;
            }
        }
    })
}

fn redis(port: u16, password: Option<&str>, roundtrip: bool) -> Check {
    Check::Redis { at: at(port), user: None, password: password.map(str::to_owned), roundtrip }
}

#[cfg(feature = "redis")]
#[test(flavor = "multi_thread", worker_threads = 2)]
async fn redis_waits_for_loading_to_end_and_wants_pong_itself() {
    let server = redis_server(|number, words| {
        assert_eq!(words, ["PING"], "nothing but PING is sent");
        Some(
            match number {
                0 => "-LOADING Redis is loading the dataset in memory\r\n",
                1 => "-MASTERDOWN Link with MASTER is down\r\n",
                2 => "-BUSY Redis is busy running a script\r\n",
                3 => "+OK\r\n",
                _ => "+PONG\r\n",
            }
            .to_owned(),
        )
    });
    let mut watched = Watched::ready(spec(vec![redis(server.port, None, false)]));
    let (failures, _) = watched.until_passed().await;
    assert_eq!(failures.len(), 4, "{failures:?}");
    for (failure, begin) in failures.iter().zip(["LOADING", "MASTERDOWN", "BUSY", "it answers PING with"]) {
        assert!(failure.starts_with(begin), "{failures:?}");
    }
}

#[cfg(feature = "redis")]
#[test(flavor = "multi_thread", worker_threads = 2)]
async fn redis_tells_wrong_credentials_from_no_server() {
    for (password, answers) in [
        (None, ["", "-NOAUTH Authentication required.\r\n"]),
        (Some("x"), ["-WRONGPASS invalid username-password pair or user is disabled.\r\n", ""]),
        (Some("x"), ["-ERR invalid password\r\n", ""]),
    ] {
        let server = redis_server(move |_, words| Some(answers[usize::from(words[0] == "PING")].to_owned()));
        let (answer, failure) = probe::attempt(&redis(server.port, password, false), DEADLINE).await.unwrap_err();
        assert_eq!(failure.map(|failure| failure.kind), Some(FailureKind::Credentials), "{answer}");
    }
    let reserved = Reserved::new();
    let refused = reserved.1;
    let (answer, failure) = probe::attempt(&redis(refused, None, false), DEADLINE).await.unwrap_err();
    assert_eq!((answer.as_str(), failure), (format!("connection refused on 127.0.0.1:{refused}").as_str(), None));
    // A server without a password takes a client that has one.
    let server = redis_server(|_, words| {
        Some(match words[0].as_str() {
            "AUTH" => {
                "-ERR AUTH <password> called without any password configured for the default user. Are you sure?\r\n".to_owned()
            }
            _ => "+PONG\r\n".to_owned(),
        })
    });
    assert!(once(&redis(server.port, Some("x"), false)).await.is_ok());
    let server = Server::start(|_, stream| drop(stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n")));
    assert!(once(&redis(server.port, None, false)).await.is_err());
}

#[cfg(feature = "redis")]
#[test(flavor = "multi_thread", worker_threads = 2)]
async fn redis_round_trip_copes_with_full_read_only_and_evicting_servers() {
    let script = |set: &'static str, get: Option<&'static str>| {
        let stored = std::sync::Mutex::new(String::new());
        redis_server(move |_, words| {
            Some(match words[0].as_str() {
                "PING" => "+PONG\r\n".to_owned(),
                "SET" => {
                    assert_eq!(words[3], "EX", "the key goes by itself");
                    words[2].clone_into(&mut stored.lock().unwrap());
                    set.to_owned()
                }
                "GET" => get.map_or_else(
                    || {
                        let value = stored.lock().unwrap().clone();
                        format!("${}\r\n{value}\r\n", value.len())
                    },
                    str::to_owned,
                ),
                "DEL" => ":1\r\n".to_owned(),
                other => panic!("{other}"),
            })
        })
    };
    let ask = async |server: Server| once(&redis(server.port, None, true)).await;
    assert!(ask(script("+OK\r\n", None)).await.unwrap().starts_with("SET, GET and DEL work"));
    assert!(ask(script("+OK\r\n", Some("$-1\r\n"))).await.unwrap().contains("evicted"));
    assert!(ask(script("+OK\r\n", Some("$1\r\nz\r\n"))).await.unwrap_err().contains("another value"));
    let full = ask(script("-OOM command not allowed when used memory > 'maxmemory'.\r\n", None)).await.unwrap_err();
    assert!(full.starts_with("SET failed: OOM"), "{full}");
    let replica = ask(script("-READONLY You can't write against a read only replica.\r\n", None)).await.unwrap_err();
    assert!(replica.starts_with("SET failed: READONLY"), "{replica}");
}

#[test(flavor = "multi_thread", worker_threads = 2)]
async fn bolt_ends_in_a_version() {
    for (answer, expected) in [
        (&[0u8, 0, 4, 5][..], Ok("bolt 5.4")),
        (&[0, 0, 0, 0], Err("it speaks Bolt, but none of the versions 3 to 5")),
        (b"HTTP/1.1 400", Err("it answers, but not with Bolt: \"HTTP\"")),
        (b"", Err("the connection was closed without an answer")),
    ] {
        let server = Server::start(move |_, stream| {
            let mut hello = [0u8; 20];
            if stream.read_exact(&mut hello).is_ok() {
                assert_eq!(hello[..4], [0x60, 0x60, 0xb0, 0x17]);
                let _ = stream.write_all(answer);
            }
        });
        match (once(&Check::Bolt { at: at(server.port) }).await, expected) {
            (Ok(got), Ok(expected)) => assert!(got.starts_with(expected), "{got}"),
            (Err(got), Err(expected)) => assert_eq!(got, expected),
            (got, expected) => panic!("{got:?}, not {expected:?}"),
        }
    }
}

#[test(flavor = "multi_thread", worker_threads = 2)]
async fn grpc_wants_serving() {
    let frames = |status: u8| {
        let mut bytes = vec![0u8, 0, 0, 4, 0, 0, 0, 0, 0];
        bytes.extend_from_slice(&[0, 0, 8, 6, 0, 0, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8]);
        bytes.extend_from_slice(&[0, 0, 1, 1, 4, 0, 0, 0, 1, 0x88]);
        bytes.extend_from_slice(&[0, 0, 7, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 2, 8, status]);
        bytes
    };
    let trailers_only = vec![0u8, 0, 0, 4, 0, 0, 0, 0, 0, 0, 0, 1, 1, 5, 0, 0, 0, 1, 0x88];
    for (answer, expected) in [
        (frames(1), Ok("the server is SERVING")),
        (frames(2), Err("the server is NOT_SERVING")),
        (trailers_only, Err("it speaks gRPC, but answers no health check (grpc.health.v1.Health)")),
        (b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec(), Err("it answers, but not with HTTP/2: \"HTTP/1.1\"")),
    ] {
        let server = Server::start(move |_, stream| {
            let mut preface = [0u8; 24];
            if stream.read_exact(&mut preface).is_ok() {
                assert!(preface.starts_with(b"PRI * HTTP/2.0"));
                let _ = stream.write_all(&answer);
                let _ = stream.read(&mut [0u8; 4096]);
                let _ = stream.read(&mut [0u8; 4096]);
            }
        });
        match (once(&Check::Grpc { at: at(server.port), service: String::new() }).await, expected) {
            (Ok(got), Ok(expected)) => assert!(got.starts_with(expected), "{got}"),
            (Err(got), Err(expected)) => assert_eq!(got, expected),
            (got, expected) => panic!("{got:?}, not {expected:?}"),
        }
    }
}

#[test(flavor = "multi_thread", worker_threads = 2)]
async fn s3_is_signed_and_refused_keys_are_credentials() {
    let denied = "HTTP/1.1 403 Forbidden\r\nContent-Length: 56\r\n\r\n<Error><Code>SignatureDoesNotMatch</Code></Error>       ";
    let server = Server::start(move |number, stream| {
        let request = String::from_utf8(read_until(stream, b"\r\n\r\n")).unwrap();
        assert!(request.contains("Authorization: AWS4-HMAC-SHA256 Credential=key/"), "{request}");
        let _ = stream.write_all(match number {
            0 => BUSY.as_bytes(),
            1 => OK.as_bytes(),
            _ => denied.as_bytes(),
        });
    });
    let check = Check::S3 { at: at(server.port), access_key: "key".to_owned(), secret_key: "secret".to_owned() };
    assert_eq!(once(&check).await.unwrap_err(), "503 to a list of buckets");
    assert!(once(&check).await.unwrap().starts_with("lists its buckets"));
    let (answer, failure) = probe::attempt(&check, DEADLINE).await.unwrap_err();
    assert_eq!(failure.unwrap().kind, FailureKind::Credentials);
    assert!(answer.contains("SignatureDoesNotMatch"), "{answer}");
}

#[test(flavor = "multi_thread", worker_threads = 2)]
async fn told_checks_wait_for_what_is_told_and_stay_passed() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("notify");
    let socket = NotifySocket::bind(&path).unwrap();
    let beat = folder.path().join("beat");
    let checks = vec![
        Check::Log { pattern: "listening on .*:8000".to_owned() },
        Check::Notify,
        Check::Uptime { least: Duration::from_millis(40) },
        Check::File { path: beat.clone(), max_age: None },
    ];
    let mut watched = Watched::new(Some(spec(checks)), None, None, Some(socket));
    assert!(watched.handle.wants_lines());
    assert_eq!(watched.next().await, ProbeReport::Failed("no line has matched \"listening on .*:8000\"".to_owned(), None));
    watched.handle.line(b"starting");
    watched.handle.line(b"\xff listening on 127.0.0.1:8000");
    assert!(!watched.handle.wants_lines());
    watched.until(|answer| *answer == ProbeReport::Failed("no READY=1 has come".to_owned(), None)).await;
    let client = std::os::unix::net::UnixDatagram::unbound().unwrap();
    client.send_to(b"STATUS=loading", &path).unwrap();
    client.send_to(b"STATUS=up\nREADY=1", &path).unwrap();
    watched.until(|answer| matches!(answer, ProbeReport::Failed(text, None) if text.ends_with("beat is not there"))).await;
    std::fs::write(&beat, b"").unwrap();
    assert_eq!(watched.until_passed().await.1, None);
}

#[test(flavor = "multi_thread", worker_threads = 2)]
async fn a_log_check_alone_needs_no_timer_and_ends_with_its_pass() {
    let mut watched = Watched::ready(spec(vec![Check::Log { pattern: "up".to_owned() }]));
    watched.next().await;
    watched.handle.line(b"up");
    assert_eq!(watched.next().await, ProbeReport::Passed(None));
    // The task is over: nobody is left who could answer, so nobody wakes up either.
    let ended = tokio::time::timeout(DEADLINE, watched.answers.recv()).await.unwrap();
    assert!(ended.is_none());
}

#[test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pattern_that_is_none_is_a_configuration_failure() {
    let mut watched = Watched::ready(spec(vec![Check::Log { pattern: "(".to_owned() }]));
    let ProbeReport::Failed(_, Some(failure)) = watched.next().await else { panic!() };
    assert_eq!(failure.kind, FailureKind::Config);
}

#[test(flavor = "multi_thread", worker_threads = 2)]
async fn any_passes_with_one_and_all_needs_all() {
    let server = http_server(&[OK]);
    let hangs = Server::start(|_, stream| drop(stream.read(&mut [0u8; 4096]).and_then(|_| stream.read(&mut [0u8; 1]))));
    let checks = || vec![http(hangs.port, None), http(server.port, None)];
    let timeout = Duration::from_millis(200);
    let mut any = Watched::ready(ReadySpec { any: true, timeout: DEADLINE, ..spec(checks()) });
    assert_eq!(any.until_passed().await, (Vec::new(), None));
    let mut all = Watched::ready(ReadySpec { timeout, ..spec(checks()) });
    assert_eq!(all.next().await, ProbeReport::Failed("timed out after 200ms".to_owned(), None));
}

#[test(flavor = "multi_thread", worker_threads = 2)]
async fn steady_probes_report_each_failure_and_the_recovery() {
    let bad = Arc::new(AtomicBool::new(false));
    let broken = Arc::clone(&bad);
    let server = Server::start(move |_, stream| {
        read_until(stream, b"\r\n\r\n");
        let _ = stream.write_all(if broken.load(Ordering::SeqCst) { BUSY } else { OK }.as_bytes());
    });
    let interval = Duration::from_millis(50);
    let mut watched = Watched::ready(ReadySpec { interval, ..spec(vec![http(server.port, None)]) });
    assert_eq!(watched.next().await, ProbeReport::Passed(None));
    // Passes that change nothing are not told: the next thing heard is the failure.
    let before = server.connections();
    eventually_async("steady attempts", DEADLINE, || server.connections() >= before + 3).await;
    bad.store(true, Ordering::SeqCst);
    for _ in 0..3 {
        assert_eq!(watched.next().await, ProbeReport::Failed("503 from /health".to_owned(), None));
    }
    bad.store(false, Ordering::SeqCst);
    watched.until(|answer| *answer == ProbeReport::Passed(None)).await;
}

#[test(flavor = "multi_thread", worker_threads = 2)]
async fn liveness_begins_with_the_first_pass_of_readiness() {
    let alive = http_server(&[OK, BUSY]);
    let folder = tempfile::tempdir().unwrap();
    let flag = folder.path().join("flag");
    let ready = spec(vec![Check::File { path: flag.clone(), max_age: None }]);
    let live = ReadySpec { interval: Duration::from_millis(50), ..spec(vec![http(alive.port, None)]) };
    let mut watched = Watched::new(Some(ready), Some(live), None, None);
    assert!(matches!(watched.next().await, ProbeReport::Failed(..)));
    assert_eq!(alive.connections(), 0);
    std::fs::write(&flag, b"").unwrap();
    watched.until(|answer| *answer == ProbeReport::Passed(None)).await;
    watched.until(|answer| *answer == ProbeReport::AlivePassed).await;
    for _ in 0..2 {
        watched.until(|answer| *answer == ProbeReport::AliveFailed("503 from /health".to_owned())).await;
    }
    assert!(watched.handle.history().iter().any(|attempt| attempt.answer.starts_with("alive: 503")));
}

#[test(flavor = "multi_thread", worker_threads = 2)]
async fn dropping_the_handle_ends_everything() {
    let hangs = Server::start(|_, stream| drop(stream.read(&mut [0u8; 4096]).and_then(|_| stream.read(&mut [0u8; 1]))));
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("notify");
    let ready = ReadySpec { timeout: DEADLINE, ..spec(vec![http(hangs.port, None), Check::Notify]) };
    let socket = NotifySocket::bind(&path).unwrap();
    let Watched { handle, mut answers } = Watched::new(Some(ready.clone()), Some(ready), None, Some(socket));
    drop(handle);
    while let Some(answer) = tokio::time::timeout(DEADLINE, answers.recv()).await.expect("the tasks end") {
        assert!(matches!(answer.2, ProbeReport::Failed(..)), "{answer:?}");
    }
    assert!(!path.exists(), "the socket's file goes with it");
}

#[test(flavor = "multi_thread", worker_threads = 2)]
async fn a_unix_socket_accepts() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("s");
    let check = Check::Unix { path: path.clone() };
    assert!(once(&check).await.unwrap_err().ends_with("is not there"));
    let listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
    assert!(once(&check).await.is_ok());
    drop(listener);
    assert!(once(&check).await.unwrap_err().starts_with("connection refused on"));
}

/// A process that is ended and reaped with its handle.
struct Bystander(Child);

impl Bystander {
    /// `script` runs in a shell; its standard input is the listener, so a process can hold a port without a language.
    fn holding(script: &str, listener: Option<TcpListener>, run: Option<&str>) -> Self {
        let mut command = Command::new("sh");
        command.args(["-c", script]).stdout(Stdio::null());
        command.stdin(listener.map_or_else(Stdio::null, |listener| Stdio::from(std::os::fd::OwnedFd::from(listener))));
        if let Some(run) = run {
            command.env("DEVRUN_RUN_ID", run);
        }
        // A group of its own, so that all of it can be ended.
        command.process_group(0);
        Self(command.spawn().unwrap())
    }

    fn pid(&self) -> i32 {
        i32::try_from(self.0.id()).unwrap()
    }
}

impl Drop for Bystander {
    fn drop(&mut self) {
        // Its leader is not reaped yet, so the number is still its own.
        let _ = nix::sys::signal::killpg(nix::unistd::Pid::from_raw(self.pid()), nix::sys::signal::Signal::SIGKILL);
        let _ = self.0.wait();
    }
}

#[cfg(target_os = "linux")]
#[test]
fn a_listener_belongs_to_whoever_holds_it() {
    let listen = || {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        (listener, port)
    };
    let own = i32::try_from(std::process::id()).unwrap();
    let idle = Bystander::holding("read never", None, None);

    // Held by this process.
    let (listener, port) = listen();
    assert_eq!(ports::owner(own, "", "127.0.0.1", port), PortOwner::Ours);
    let PortOwner::Stranger(holder) = ports::owner(idle.pid(), "run", "127.0.0.1", port) else { panic!("not a stranger") };
    assert_eq!(holder.pid, Some(own));
    assert!(holder.command.is_some());
    assert_eq!(ports::holder("127.0.0.1", port).unwrap().pid, Some(own));

    // Nobody listens any more.
    drop(listener);
    // A child that another test is starting has a copy until it executes.
    eventually("nobody listens", || ports::holder("127.0.0.1", port).is_none());
    assert!(matches!(ports::owner(own, "", "127.0.0.1", port), PortOwner::Unknown(_)));

    // Held by a grandchild, as with `npm run`. A shell gives its background children /dev/null: hence the other number.
    let (listener, port) = listen();
    let leader = Bystander::holding("exec 3<&0; sleep 20 <&3 & exec 3<&- </dev/null; wait", Some(listener), None);
    eventually("the grandchild holds the port alone", || {
        ports::holder("127.0.0.1", port).is_some_and(|holder| holder.pid != Some(own) && holder.pid != Some(leader.pid()))
    });
    assert_eq!(ports::owner(leader.pid(), "", "127.0.0.1", port), PortOwner::Ours);
    let stranger = ports::owner(idle.pid(), "run", "127.0.0.1", port);
    assert!(matches!(stranger, PortOwner::Stranger(_)), "{stranger:?}");

    // Held by a process that left the tree and carries the mark of the run.
    let (listener, port) = listen();
    let marked = Bystander::holding("exec sleep 20", Some(listener), Some("run-7"));
    eventually("it holds the port", || ports::holder("127.0.0.1", port).is_some_and(|holder| holder.pid == Some(marked.pid())));
    assert_eq!(ports::owner(idle.pid(), "run-7", "127.0.0.1", port), PortOwner::Ours);
    assert!(matches!(ports::owner(idle.pid(), "run-8", "127.0.0.1", port), PortOwner::Stranger(_)));
}

fn eventually(what: &str, condition: impl Fn() -> bool) {
    crate::waits::eventually(what, DEADLINE, || condition().then_some(()));
}

#[cfg(target_os = "linux")]
#[test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pass_is_refused_when_a_stranger_listens() {
    let server = http_server(&[OK]);
    let idle = Bystander::holding("read never", None, None);
    let mut watched = Watched::new(Some(spec(vec![http(server.port, None)])), None, Some(idle.pid()), None);
    let ProbeReport::Failed(text, Some(failure)) = watched.next().await else { panic!() };
    let own = std::process::id();
    assert_eq!(failure.kind, FailureKind::PortTaken);
    assert!(text.starts_with(&format!("{} is held by ", server.port)), "{text}");
    assert!(text.ends_with(&format!("(pid {own}), not by this service")), "{text}");

    let unchecked = ReadySpec { owner: false, ..spec(vec![http(server.port, None)]) };
    let mut watched = Watched::new(Some(unchecked), None, Some(idle.pid()), None);
    assert_eq!(watched.next().await, ProbeReport::Passed(None));

    // The tree of this very process: ours.
    let mut watched = Watched::new(Some(spec(vec![http(server.port, None)])), None, i32::try_from(own).ok(), None);
    assert_eq!(watched.next().await, ProbeReport::Passed(None));
}

#[cfg(target_os = "linux")]
#[test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_on_the_other_loopback_address_passes_with_a_note_if_it_is_ours() {
    let Ok(listener) = TcpListener::bind("[::1]:0") else { return crate::harness::skipped("no IPv6") };
    let port = listener.local_addr().unwrap().port();
    let own = i32::try_from(std::process::id()).ok();
    let check = || spec(vec![Check::Tcp { at: at(port) }]);
    let mut watched = Watched::new(Some(check()), None, own, None);
    assert_eq!(watched.until_passed().await.1, Some(format!("it answers on [::1]:{port} only")));
    // A stranger there proves nothing, as the service may yet come up on 127.0.0.1.
    let idle = Bystander::holding("read never", None, None);
    let mut watched = Watched::new(Some(check()), None, Some(idle.pid()), None);
    assert_eq!(watched.next().await, ProbeReport::Failed(format!("connection refused on 127.0.0.1:{port}"), None));
    let listener = TcpListener::bind(("127.0.0.1", port)).unwrap();
    let failed = watched.until(|answer| matches!(answer, ProbeReport::Failed(_, Some(_)))).await;
    let ProbeReport::Failed(_, Some(failure)) = failed else { panic!() };
    assert_eq!(failure.kind, FailureKind::PortTaken);
    drop(listener);
}

fn options(timeout: Duration) -> UrlWaitOptions<'static> {
    UrlWaitOptions { timeout, ..UrlWaitOptions::default() }
}

#[test(flavor = "multi_thread", worker_threads = 2)]
async fn wait_finds_the_well_known_path_of_a_base_url() {
    let server = Server::start(|number, stream| {
        let request = String::from_utf8_lossy(&read_until(stream, b"\r\n\r\n")).into_owned();
        let body = r#"{"name":"airtable-gateway","version":"1.4.0"}"#;
        let text = if number > 6 && request.starts_with("GET /ready ") {
            format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len())
        } else {
            "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n".to_owned()
        };
        let _ = stream.write_all(text.as_bytes());
    });
    let url = format!("http://127.0.0.1:{}", server.port);
    let found = wait_for_url(&url, &options(DEADLINE)).await.unwrap();
    assert!(found.starts_with("found /ready: 200 in ") && found.ends_with("ms, airtable-gateway 1.4.0"), "{found}");
    // A full one is asked for what it says.
    let failure = wait_for_url(&format!("{url}/health"), &options(Duration::from_millis(200))).await.unwrap_err();
    assert_eq!(failure.kind, FailureKind::NotReady);
    assert!(failure.reason.starts_with(&format!("{url} is not ready after ")), "{failure}");
    assert!(failure.reason.ends_with(": 404 from /health"), "{failure}");
}

#[test(flavor = "multi_thread", worker_threads = 2)]
async fn wait_ends_in_the_right_way() {
    let reserved = Reserved::new();
    let closed = reserved.1;
    let began = Instant::now();
    let timeout = Duration::from_millis(300);
    let failure = wait_for_url(&format!("tcp://localhost:{closed}"), &options(timeout)).await.unwrap_err();
    assert_eq!(failure.kind, FailureKind::NotReady);
    assert!(failure.reason.contains(&format!("connection refused on localhost:{closed}")), "{failure}");
    assert!(began.elapsed() >= timeout);

    let few = UrlWaitOptions { retries: Some(3), interval: Duration::from_millis(10), ..options(DEADLINE) };
    let failure = wait_for_url(&format!("tcp://localhost:{closed}"), &few).await.unwrap_err();
    assert!(failure.reason.contains("3 attempts"), "{failure}");

    for bad in ["postgres//x", "mysql://x", "tcp://x"] {
        assert_eq!(wait_for_url(bad, &options(DEADLINE)).await.unwrap_err().kind, FailureKind::Config);
    }
    let misplaced = UrlWaitOptions { roundtrip: true, ..options(DEADLINE) };
    assert_eq!(wait_for_url("tcp://localhost:1", &misplaced).await.unwrap_err().kind, FailureKind::Config);

    let slow = Server::start(|_, stream| {
        read_until(stream, b"\r\n\r\n");
        let_time_pass("slower than the limit", Duration::from_millis(60));
        let _ = stream.write_all(OK.as_bytes());
    });
    let strict = UrlWaitOptions { max_ms: Some(20), ..options(timeout) };
    let failure = wait_for_url(&format!("http://127.0.0.1:{}/x", slow.port), &strict).await.unwrap_err();
    assert!(failure.reason.contains("slower than 20ms"), "{failure}");
}

#[cfg(feature = "redis")]
#[test(flavor = "multi_thread", worker_threads = 2)]
async fn wait_ends_at_once_where_credentials_are_refused() {
    let server = redis_server(|_, words| {
        Some(if words[0] == "AUTH" { "-WRONGPASS no\r\n".to_owned() } else { "-NOAUTH no\r\n".to_owned() })
    });
    let began = Instant::now();
    for url in [format!("redis://:wrong@127.0.0.1:{}", server.port), format!("redis://127.0.0.1:{}", server.port)] {
        let failure = wait_for_url(&url, &options(Duration::from_secs(3600))).await.unwrap_err();
        assert_eq!(failure.kind, FailureKind::Credentials);
    }
    assert!(began.elapsed() < DEADLINE);
}

#[test(flavor = "multi_thread", worker_threads = 2)]
async fn wait_catches_a_server_that_starts_later() {
    let reserved = Reserved::new();
    let port = reserved.1;
    let said = std::sync::Mutex::new(Vec::new());
    let say = |line: &str| said.lock().unwrap().push(line.to_owned());
    let verbose = UrlWaitOptions { verbose: Some(&say), ..options(DEADLINE) };
    let url = format!("http://127.0.0.1:{port}/health");
    let waiting = wait_for_url(&url, &verbose);
    let serving = async {
        let_time_pass_async("the first attempt finds no server", Duration::from_millis(60)).await;
        Server::on(reserved.listen(), |_, stream| {
            read_until(stream, b"\r\n\r\n");
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nServer: uvicorn\r\nContent-Length: 0\r\n\r\n");
        })
    };
    let (found, _server) = tokio::join!(waiting, serving);
    let found = found.unwrap();
    assert!(found.starts_with("200 in ") && found.ends_with(", uvicorn"), "{found}");
    assert_eq!(said.lock().unwrap().first().unwrap(), &format!("attempt 1: connection refused on 127.0.0.1:{port}"));
}

#[test]
fn a_missing_unix_path_names_itself() {
    assert_eq!(probe::check_from_url("unix:/run/a.sock").unwrap(), Check::Unix { path: PathBuf::from("/run/a.sock") });
}
