//! The service that misbehaves on demand. Every fault test is built on it; its token stays in the argv of each of its
//! processes, so that a test finds them in `/proc` without asking devrun.
//!
//! It prints `ready` when it is, ends with 0 on TERM or INT, and knows these flags:
//!
//! | flag | effect |
//! |---|---|
//! | `--token T` | nothing; it only stands in the argv |
//! | `--listen P`, `--ready-after MS` | listens on 127.0.0.1:P, after MS |
//! | `--exit C`, `--after MS` | ends with code C by itself, after MS |
//! | `--ignore-term` | TERM and INT have no effect |
//! | `--stop-takes MS` | ends that long after TERM |
//! | `--children N` | N children that do nothing; they share the other habits |
//! | `--setsid-escape` | a grandchild in a session of its own, whose parent is gone |
//! | `--clobber-env` | what it starts has an empty environment |
//! | `--close-fds` | every descriptor beyond 2 is closed |
//! | `--hold-stdout` | ends at once and leaves a grandchild that holds its stdout |
//! | `--flood MBPS` | writes that much to stdout |
//! | `--no-newline` | writes a line without its end |
//! | `--print-env` | writes its environment |

use std::io::Write;
use std::net::TcpListener;
use std::process::{Command, Stdio, exit};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::sleep;
use std::time::{Duration, Instant};

#[derive(Default)]
struct Habits {
    token: String,
    listen: Option<u16>,
    ready_after: Duration,
    exit: Option<i32>,
    after: Duration,
    ignore_term: bool,
    stop_takes: Duration,
    children: u32,
    setsid_escape: bool,
    clobber_env: bool,
    close_fds: bool,
    hold_stdout: bool,
    flood: Option<u64>,
    no_newline: bool,
    print_env: bool,
    /// `child`: does nothing. `bridge`: starts an escapee and ends. `escapee`: leaves the session, then does nothing.
    role: String,
}

fn main() {
    let habits = read();
    let terminated = Arc::new(AtomicBool::new(false));
    for signal in [libc::SIGTERM, libc::SIGINT] {
        if let Err(fault) = signal_hook::flag::register(signal, Arc::clone(&terminated)) {
            fail(&format!("signal {signal}: {fault}"));
        }
    }
    if habits.close_fds {
        close_fds();
    }
    match habits.role.as_str() {
        "bridge" => {
            start(&habits, "escapee", false);
            return;
        }
        // A session of its own: no kill of a group or a session reaches it.
        "escapee" => drop(nix::unistd::setsid()),
        "child" => {}
        _ => lead(&habits),
    }
    wait_for_the_end(&habits, &terminated);
}

fn lead(habits: &Habits) {
    if habits.print_env {
        for (name, value) in std::env::vars_os() {
            say(&format!("{}={}\n", name.to_string_lossy(), value.to_string_lossy()));
        }
    }
    for _ in 0..habits.children {
        start(habits, "child", false);
    }
    if habits.setsid_escape {
        start(habits, "bridge", true);
    }
    if habits.hold_stdout {
        start(habits, "child", false);
        exit(habits.exit.unwrap_or(0));
    }
    sleep(habits.ready_after);
    if let Some(port) = habits.listen {
        match TcpListener::bind(("127.0.0.1", port)) {
            // Each connection is taken and closed: a probe needs no more.
            Ok(listener) => drop(std::thread::spawn(move || listener.incoming().for_each(drop))),
            Err(fault) => fail(&format!("port {port}: {fault}")),
        }
    }
    say("ready\n");
    if habits.no_newline {
        say("a line without its end");
    }
    if let Some(rate) = habits.flood {
        std::thread::spawn(move || flood(rate));
    }
}

fn wait_for_the_end(habits: &Habits, terminated: &AtomicBool) {
    let begin = Instant::now();
    let leader = habits.role.is_empty();
    loop {
        if leader && habits.exit.is_some() && begin.elapsed() >= habits.after {
            exit(habits.exit.unwrap_or(0));
        }
        if terminated.load(Ordering::Relaxed) && !habits.ignore_term {
            sleep(habits.stop_takes);
            exit(0);
        }
        // A signal ends the sleep of this thread only by chance, so it is short.
        sleep(Duration::from_millis(5));
    }
}

/// Starts itself in another role; `wait` for one that ends by itself.
fn start(habits: &Habits, role: &str, wait: bool) {
    let Ok(program) = std::env::current_exe() else { fail("the kernel does not say who we are") };
    let mut command = Command::new(program);
    command.args(["--token", &habits.token, "--role", role]).stdin(Stdio::null());
    for (flag, on) in
        [("--ignore-term", habits.ignore_term), ("--close-fds", habits.close_fds), ("--clobber-env", habits.clobber_env)]
    {
        if on {
            command.arg(flag);
        }
    }
    command.args(["--stop-takes", &habits.stop_takes.as_millis().to_string()]);
    if habits.clobber_env {
        command.env_clear();
    }
    match command.spawn() {
        Ok(mut child) if wait => drop(child.wait()),
        Ok(_) => {}
        Err(fault) => fail(&format!("{role}: {fault}")),
    }
}

fn close_fds() {
    let Ok(entries) = std::fs::read_dir("/proc/self/fd") else { return };
    // Listed first: the listing holds a descriptor itself.
    let numbers: Vec<i32> =
        entries.flatten().filter_map(|entry| entry.file_name().to_str().and_then(|name| name.parse().ok())).collect();
    for number in numbers.into_iter().filter(|number| *number > 2) {
        // The listing's own is closed by now. signal-hook's handler needs none.
        let _ = nix::unistd::close(number);
    }
}

fn flood(rate: u64) {
    let line = [b"0123456789".repeat(10).as_slice(), b"\n"].concat();
    let chunk = line.repeat(1000);
    let begin = Instant::now();
    let mut written = 0;
    loop {
        if std::io::stdout().write_all(&chunk).is_err() {
            return;
        }
        written += u64::try_from(chunk.len()).unwrap_or(0);
        let due = Duration::from_secs_f64(written as f64 / (rate.max(1) as f64 * 1e6));
        sleep(due.saturating_sub(begin.elapsed()));
    }
}

fn say(text: &str) {
    // A reader that is gone is no reason to end.
    let mut stdout = std::io::stdout().lock();
    let _ = stdout.write_all(text.as_bytes());
    let _ = stdout.flush();
}

fn fail(why: &str) -> ! {
    let _ = writeln!(std::io::stderr(), "testsvc: {why}");
    exit(70)
}

fn read() -> Habits {
    fn number<T: std::str::FromStr>(flag: &str, value: Option<String>) -> T {
        value.and_then(|text| text.parse().ok()).unwrap_or_else(|| fail(&format!("{flag} needs a number")))
    }
    let mut habits = Habits::default();
    let mut words = std::env::args().skip(1);
    while let Some(flag) = words.next() {
        match flag.as_str() {
            "--token" => habits.token = words.next().unwrap_or_default(),
            "--role" => habits.role = words.next().unwrap_or_default(),
            "--listen" => habits.listen = Some(number(&flag, words.next())),
            "--ready-after" => habits.ready_after = Duration::from_millis(number(&flag, words.next())),
            "--exit" => habits.exit = Some(number(&flag, words.next())),
            "--after" => habits.after = Duration::from_millis(number(&flag, words.next())),
            "--ignore-term" => habits.ignore_term = true,
            "--stop-takes" => habits.stop_takes = Duration::from_millis(number(&flag, words.next())),
            "--children" => habits.children = number(&flag, words.next()),
            "--setsid-escape" => habits.setsid_escape = true,
            "--clobber-env" => habits.clobber_env = true,
            "--close-fds" => habits.close_fds = true,
            "--hold-stdout" => habits.hold_stdout = true,
            "--flood" => habits.flood = Some(number(&flag, words.next())),
            "--no-newline" => habits.no_newline = true,
            "--print-env" => habits.print_env = true,
            _ => fail(&format!("unknown flag {flag}")),
        }
    }
    habits
}
