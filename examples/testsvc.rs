//! A service that misbehaves on demand; the fault tests are built on it.
//!
//! ```text
//! --token T            kept in argv, and in every child's; tests find survivors by it
//! --ignore-term        ignores TERM, children too
//! --setsid-escape      a double-forked grandchild in a session of its own that outlives its parent
//! --clobber-env        the escapee (and the children) have no environment
//! --close-fds          the escapee (and the children) close every inherited descriptor above 2
//! --children N         N children that wait
//! --child-ms MS        children take MS on TERM before they end (0: at once)
//! --flood MBps         writes 100-byte numbered lines at that rate; 0: as fast as it can
//! --lines N            writes N numbered lines to stdout and stderr, then goes on
//! --no-newline         writes a text without a newline
//! --exit C             exits with C, --after MS (default at once)
//! --signal S           ends by signal S, --after MS
//! --listen P           serves HTTP on 127.0.0.1:P (0: any, printed as `listening N`)
//! --ready-after MS     does not listen before
//! --busy-for MS        answers 503 for so long after it listens
//! --stop-takes MS      on TERM ends only after MS
//! --mark FILE          appends `NAME SIGNAL` (leader, child, escapee) for each TERM, INT or QUIT, before it acts on it
//! --done FILE          writes `done` when it ends by a signal that it handles
//! --hold-stdout        a grandchild in the same session holds stdout open, the leader goes on
//! --worker FILE        queue worker: a child does a 2 s job into FILE; on TERM the leader lets it finish, the child dies of TERM
//! --zombies N          N double-forked children that end at once
//! --zombie-ms MS       a pause after each of them
//! --storm N            N hoppers: each forks every 5 ms and ends at once, its child goes on in a session of its own (10 s long)
//! --leak-fd            opens /dev/null without close-on-exec before it forks
//! --print-env          prints its environment, one variable a line
//! --print-fds          prints its open descriptors and their targets
//! --status             prints /proc/self/status
//! ```

#![expect(clippy::print_stdout, reason = "a test program")]
#![expect(clippy::zombie_processes, reason = "leaving processes behind is what it is for")]

use std::fs::OpenOptions;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};
use std::time::{Duration, Instant};

#[derive(Clone)]
struct Options(Vec<String>);

impl Options {
    fn has(&self, flag: &str) -> bool {
        self.0.iter().any(|word| word == flag)
    }
    fn text(&self, flag: &str) -> Option<&str> {
        self.0.iter().position(|word| word == flag).and_then(|index| self.0.get(index + 1)).map(String::as_str)
    }
    fn number(&self, flag: &str) -> Option<u64> {
        self.text(flag)?.parse().ok()
    }
    fn ms(&self, flag: &str) -> Duration {
        Duration::from_millis(self.number(flag).unwrap_or(0))
    }
    fn token(&self) -> &str {
        self.text("--token").unwrap_or("none")
    }
}

fn append(path: Option<&str>, text: &str) {
    if let Some(path) = path
        && let Ok(mut file) = OpenOptions::new().append(true).create(true).open(path)
    {
        // One write, so that lines of several processes do not run into one another.
        let _ = file.write_all(format!("{text}\n").as_bytes());
    }
}

/// A process of the same program in another role.
fn child(options: &Options, role: &str, extra: &[&str]) -> Command {
    let mut command = Command::new(std::env::current_exe().expect("our own path"));
    command.args(["--role", role, "--token", options.token()]).args(extra);
    for flag in ["--ignore-term", "--clobber-env", "--close-fds"] {
        if options.has(flag) {
            command.arg(flag);
        }
    }
    for flag in ["--mark", "--done", "--child-ms"] {
        if let Some(value) = options.text(flag) {
            command.args([flag, value]);
        }
    }
    command.stdin(Stdio::null());
    if options.has("--clobber-env") {
        command.env_clear();
    }
    if options.has("--close-fds") {
        // SAFETY: a bare system call between fork and exec.
        unsafe {
            command.pre_exec(|| {
                libc::syscall(libc::SYS_close_range, 3u32, u32::MAX, libc::CLOSE_RANGE_CLOEXEC);
                Ok(())
            });
        }
    }
    command
}

/// Waits for TERM, INT or QUIT in this thread; the number.
fn wait_for_signal() -> i32 {
    static LAST: AtomicI32 = AtomicI32::new(0);
    loop {
        let last = LAST.swap(0, Ordering::SeqCst);
        if last != 0 {
            return last;
        }
        // SAFETY: plain calls of the C library on a set of ours; the signals were blocked before any thread began.
        unsafe {
            let mut set: libc::sigset_t = std::mem::zeroed();
            libc::sigemptyset(&raw mut set);
            for signal in [libc::SIGTERM, libc::SIGINT, libc::SIGQUIT] {
                libc::sigaddset(&raw mut set, signal);
            }
            let mut number = 0;
            if libc::sigwait(&raw const set, &raw mut number) == 0 {
                return number;
            }
        }
    }
}

fn block_signals() {
    // SAFETY: as above; called before any thread begins.
    unsafe {
        let mut set: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&raw mut set);
        for signal in [libc::SIGTERM, libc::SIGINT, libc::SIGQUIT] {
            libc::sigaddset(&raw mut set, signal);
        }
        libc::sigprocmask(libc::SIG_BLOCK, &raw const set, std::ptr::null_mut());
    }
}

/// Never the same process for more than a few milliseconds.
fn hop() -> ! {
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_secs(10) {
        std::thread::sleep(Duration::from_millis(5));
        // SAFETY: this process has one thread, and the child goes on with bare calls and a sleep.
        unsafe {
            match libc::fork() {
                0 => {
                    libc::setsid();
                }
                -1 => {}
                _ => libc::_exit(0),
            }
        }
    }
    std::process::exit(0)
}

/// What children and escapees do: wait, note the signal, take their time, end.
fn idle(options: &Options, name: &str, takes: Duration) -> ! {
    loop {
        let signal = wait_for_signal();
        append(options.text("--mark"), &format!("{name} {signal} {}", std::process::id()));
        if options.has("--ignore-term") && signal == libc::SIGTERM {
            continue;
        }
        std::thread::sleep(takes);
        append(options.text("--done"), &format!("{name} done"));
        std::process::exit(0);
    }
}

fn serve(options: &Options, port: u16) {
    let (late, busy) = (options.ms("--ready-after"), options.ms("--busy-for"));
    let work = move || {
        std::thread::sleep(late);
        let Ok(listener) = std::net::TcpListener::bind(("127.0.0.1", port)) else { std::process::exit(98) };
        let ready_at = Instant::now() + busy;
        println!("listening {}", listener.local_addr().expect("an address").port());
        for stream in listener.incoming().flatten() {
            std::thread::spawn(move || answer(stream, ready_at));
        }
    };
    std::thread::spawn(work);
}

fn answer(mut stream: std::net::TcpStream, ready_at: Instant) {
    let Ok(copy) = stream.try_clone() else { return };
    let mut reader = BufReader::new(copy);
    let mut line = String::new();
    while reader.read_line(&mut line).is_ok_and(|count| count > 2) {
        line.clear();
    }
    let status = if Instant::now() >= ready_at { "200 OK" } else { "503 Service Unavailable" };
    // A client that only connects and goes is a TCP probe.
    let _ = write!(stream, "HTTP/1.1 {status}\r\nContent-Length: 3\r\nConnection: close\r\n\r\nok\n");
}

fn flood(rate: u64) {
    std::thread::spawn(move || {
        let mut out = std::io::stdout().lock();
        let (start, mut written, mut number) = (Instant::now(), 0u64, 0u64);
        loop {
            let mut chunk = Vec::with_capacity(64 * 1024);
            while chunk.len() < 64 * 1000 {
                let _ = writeln!(chunk, "{number:010} {}", "x".repeat(88));
                number += 1;
            }
            if out.write_all(&chunk).is_err() {
                return;
            }
            written += chunk.len() as u64;
            let due = Duration::from_micros((written * 1_000_000).checked_div(rate * 1024 * 1024).unwrap_or(0));
            std::thread::sleep(due.saturating_sub(start.elapsed()));
        }
    });
}

/// The leader's child finishes a job of 2 s; TERM would kill it.
fn work(options: &Options, path: &str) -> ! {
    let mut job = child(options, "job", &["--worker", path]).spawn().expect("a child");
    let asked = Arc::new(AtomicBool::new(false));
    let seen = Arc::clone(&asked);
    let mark = options.text("--mark").map(str::to_owned);
    std::thread::spawn(move || {
        let signal = wait_for_signal();
        append(mark.as_deref(), &format!("leader {signal} {}", std::process::id()));
        seen.store(true, Ordering::SeqCst);
    });
    let _ = job.wait();
    while !asked.load(Ordering::SeqCst) {
        std::thread::sleep(Duration::from_millis(2));
    }
    std::process::exit(0)
}

fn main() {
    let options = Options(std::env::args().skip(1).collect());
    let role = options.text("--role").unwrap_or("leader").to_owned();
    if role == "job" {
        // TERM ends it, as the default does.
        let path = options.text("--worker").expect("a file");
        for step in 0..20 {
            append(Some(path), &format!("step {step}"));
            std::thread::sleep(Duration::from_millis(100));
        }
        append(Some(path), "complete");
        return;
    }
    block_signals();
    match role.as_str() {
        "escape" => {
            // SAFETY: a bare system call; we are no group leader, as our parent has just forked us.
            unsafe { libc::setsid() };
            let mut escapee = child(&options, "escapee", &[]);
            escapee.spawn().expect("an escapee");
            return;
        }
        "escapee" => idle(&options, "escapee", Duration::ZERO),
        "child" => idle(&options, "child", options.ms("--child-ms")),
        "zombie" => {
            let _ = child(&options, "nothing", &[]).spawn();
            return;
        }
        "nothing" => return,
        "hopper" => hop(),
        _ => {}
    }
    if options.has("--leak-fd") {
        // SAFETY: opens a file of a constant name.
        unsafe { libc::open(c"/dev/null".as_ptr(), libc::O_RDONLY) };
    }
    if options.has("--print-env") {
        for (name, value) in std::env::vars() {
            println!("{name}={value}");
        }
    }
    if options.has("--print-fds") {
        for entry in std::fs::read_dir("/proc/self/fd").expect("our descriptors").flatten() {
            println!("{} {}", entry.file_name().display(), std::fs::read_link(entry.path()).unwrap_or_default().display());
        }
    }
    if options.has("--status") {
        let mut text = String::new();
        let _ = std::fs::File::open("/proc/self/status").and_then(|mut file| file.read_to_string(&mut text));
        println!("{text}");
    }
    if options.has("--no-newline") {
        print!("no newline");
        let _ = std::io::stdout().flush();
    }
    for number in 0..options.number("--lines").unwrap_or(0) {
        println!("out {number}");
        let _ = writeln!(std::io::stderr(), "err {number}");
    }
    for _ in 0..options.number("--children").unwrap_or(0) {
        child(&options, "child", &[]).spawn().expect("a child");
    }
    if options.has("--setsid-escape") {
        let _ = child(&options, "escape", &[]).status();
    }
    if options.has("--hold-stdout") {
        child(&options, "child", &[]).spawn().expect("a child");
    }
    if let Some(count) = options.number("--zombies") {
        let options = options.clone();
        std::thread::spawn(move || {
            for _ in 0..count {
                let _ = child(&options, "zombie", &[]).status();
                std::thread::sleep(options.ms("--zombie-ms"));
            }
            println!("zombies done");
        });
    }
    for _ in 0..options.number("--storm").unwrap_or(0) {
        child(&options, "hopper", &[]).spawn().expect("a hopper");
    }
    if let Some(port) = options.number("--listen") {
        serve(&options, u16::try_from(port).expect("a port"));
    }
    if let Some(path) = options.text("--worker") {
        work(&options, path);
    }
    println!("up {}", std::process::id());
    // From here on standard output is the flood's: a line of ours would wait for ever.
    if let Some(rate) = options.number("--flood") {
        flood(rate);
    }
    if let Some(code) = options.number("--exit") {
        std::thread::sleep(options.ms("--after"));
        std::process::exit(i32::try_from(code).unwrap_or(1));
    }
    if let Some(signal) = options.number("--signal") {
        std::thread::sleep(options.ms("--after"));
        // SAFETY: ends ourselves, with the signal unblocked and at its default.
        unsafe {
            let signal = i32::try_from(signal).unwrap_or(libc::SIGKILL);
            libc::signal(signal, libc::SIG_DFL);
            let mut set: libc::sigset_t = std::mem::zeroed();
            libc::sigemptyset(&raw mut set);
            libc::sigprocmask(libc::SIG_SETMASK, &raw const set, std::ptr::null_mut());
            libc::kill(libc::getpid(), signal);
        }
    }
    idle(&options, "leader", options.ms("--stop-takes"));
}
