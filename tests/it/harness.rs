//! A throw-away project around the real binary: its own folder, home, runtime directory and environment, and a token that
//! every fixture process carries in its argv.
//!
//! What is left running is found here by reading `/proc`, never by devrun's own word. Dropping a [`Project`] ends whatever
//! is left and fails the test if there was anything, so a test cannot leak by forgetting to look.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use devrun_keeper::{identity, journal};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use tempfile::TempDir;

pub use crate::waits::eventually;
use crate::waits::within;

/// Generous, as the machine that runs the tests may be busy with other things.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// For what compiles something, or boots a database.
pub const LONG: Duration = Duration::from_secs(90);

/// The binary under test; `DEVRUN_TEST_BINARY` names a copy where another user could not reach the original.
pub fn devrun() -> PathBuf {
    std::env::var_os("DEVRUN_TEST_BINARY").map_or_else(|| PathBuf::from(env!("CARGO_BIN_EXE_devrun")), PathBuf::from)
}

thread_local! {
    /// Why the test of this thread cannot be run here. `tests/real` reports it as ignored.
    pub static SKIPPED: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// Says that a case cannot be run here, and why; the table of `scripts/soak` shows it.
pub fn skipped(why: &str) {
    SKIPPED.set(Some(why.to_owned()));
    // The test runner may have begun the line with the name.
    let _ = writeln!(std::io::stderr(), "\nskipped: {why}");
}

/// A line of figures for the table of `scripts/soak`.
pub fn figures(text: &str) {
    let _ = writeln!(std::io::stderr(), "\nfigures: {text}");
}

/// How often a case is repeated: as often as `scripts/soak` says, else `short`.
pub fn rounds(short: u64) -> u64 {
    std::env::var("DEVRUN_SOAK_ROUNDS").ok().and_then(|text| text.parse().ok()).unwrap_or(short)
}

/// Whether the full counts of the design are asked for; `cargo test` runs shorter ones.
pub fn long() -> bool {
    std::env::var_os("DEVRUN_SOAK_ROUNDS").is_some()
}

/// The fixture that misbehaves on demand. Cargo builds examples before it runs tests, but names no path for them.
pub fn testsvc() -> PathBuf {
    // Where the binary is a copy, so may it be; one that was built apart has none.
    let beside = |binary: &Path| binary.parent().expect("the binary lies in a folder").join("examples/testsvc");
    let path =
        Some(beside(&devrun())).filter(|path| path.exists()).unwrap_or_else(|| beside(Path::new(env!("CARGO_BIN_EXE_devrun"))));
    assert!(path.exists(), "{} is missing: run `cargo build --example testsvc`", path.display());
    path
}

/// One live process as `/proc` shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Process {
    pub pid: i32,
    pub command: String,
}

/// Live processes (neither zombie nor dead) whose command line holds `text`.
pub fn processes_with(text: &str) -> Vec<Process> {
    scan(|command, _| command.contains(text))
}

fn scan(wanted: impl Fn(&str, &Path) -> bool) -> Vec<Process> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").expect("/proc can be listed").flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<i32>().ok()) else { continue };
        let folder = entry.path();
        let Ok(argv) = fs::read(folder.join("cmdline")) else { continue };
        let command = String::from_utf8_lossy(&argv).replace('\0', " ");
        if pid == i32::try_from(std::process::id()).unwrap_or(0) || !wanted(&command, &folder) {
            continue;
        }
        // The name may hold blanks and brackets: the fields begin after the last one.
        let Ok(stat) = fs::read_to_string(folder.join("stat")) else { continue };
        let Some((_, fields)) = stat.rsplit_once(')') else { continue };
        let state = fields.split_whitespace().next().unwrap_or("X");
        if !matches!(state, "Z" | "X") {
            found.push(Process { pid, command: command.trim().to_owned() });
        }
    }
    found
}

/// How long the zombies of some parents have existed, as far as repeated looks can tell: from the first look that met one to
/// the last. A look that comes late makes no zombie older than it is.
pub struct ZombieAges {
    parents: Vec<i32>,
    first_seen: BTreeMap<(i32, String), Instant>,
    oldest: Duration,
}

impl ZombieAges {
    /// What no zombie may reach, however busy the machine is.
    pub const LIMIT: Duration = Duration::from_secs(1);

    pub fn of(parents: &[i32]) -> Self {
        Self { parents: parents.to_vec(), first_seen: BTreeMap::new(), oldest: Duration::ZERO }
    }

    /// Looks again. Returns how many zombies there are.
    #[track_caller]
    pub fn look(&mut self) -> usize {
        let mut seen = BTreeMap::new();
        for zombie in self.parents.iter().flat_map(|parent| zombies(*parent)) {
            // After the zombie was read, not before: a stalled test must not add its own pause.
            let now = Instant::now();
            let first = self.first_seen.get(&zombie).copied().unwrap_or(now);
            self.oldest = self.oldest.max(now - first);
            seen.insert(zombie, first);
        }
        self.first_seen = seen;
        assert!(self.oldest < Self::LIMIT, "a zombie has existed for {:?}: {:?}", self.oldest, self.first_seen.keys());
        self.first_seen.len()
    }

    pub fn oldest(&self) -> Duration {
        self.oldest
    }
}

/// Pid and start time of each zombie among a process's children, those of all its threads.
fn zombies(parent: i32) -> Vec<(i32, String)> {
    let lists = fs::read_dir(format!("/proc/{parent}/task")).into_iter().flatten().flatten();
    let children = lists.filter_map(|task| fs::read_to_string(task.path().join("children")).ok());
    let zombie = |pid: &str| {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
        // Fields 3 and 22 of proc_pid_stat(5).
        (fields.first() == Some(&"Z")).then_some(())?;
        Some((pid.parse().ok()?, (*fields.get(19)?).to_owned()))
    };
    children.flat_map(|list| list.split_whitespace().filter_map(zombie).collect::<Vec<_>>()).collect()
}

/// The parent, as `/proc` tells everybody.
fn parent(folder: &Path) -> Option<i32> {
    let stat = fs::read_to_string(folder.join("stat")).ok()?;
    stat.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse().ok()
}

fn inodes_below(folder: &Path, depth: u32, inodes: &mut Vec<u64>) {
    use std::os::unix::fs::MetadataExt;
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let Ok(meta) = entry.path().symlink_metadata() else { continue };
        if meta.is_dir() && depth > 0 {
            inodes_below(&entry.path(), depth - 1, inodes);
        } else {
            inodes.push(meta.ino());
        }
    }
}

/// Whether the process of this `/proc` folder has a file below `root` open.
fn holds_below(folder: &Path, root: &Path) -> bool {
    fs::read_dir(folder.join("fd"))
        .is_ok_and(|fds| fds.flatten().any(|fd| fs::read_link(fd.path()).is_ok_and(|target| target.starts_with(root))))
}

/// Sends a signal to a process of the test's own.
pub fn signal(pid: i32, signal: Signal) {
    assert!(pid > 1, "pid {pid}");
    // Gone already is as good.
    let _ = kill(Pid::from_raw(pid), signal);
}

/// What one run of the binary left behind.
#[derive(Debug)]
pub struct Outcome {
    pub args: String,
    pub code: Option<i32>,
    pub signal: Option<i32>,
    pub stdout: String,
    pub stderr: String,
    pub took: Duration,
}

impl Outcome {
    /// Fails with everything that was said unless the exit code is `code`.
    #[track_caller]
    pub fn code(self, code: i32) -> Self {
        assert!(self.code == Some(code), "wanted exit {code}\n{self}");
        self
    }
    /// Fails unless both streams together hold `text`.
    #[track_caller]
    pub fn says(self, text: &str) -> Self {
        assert!(self.stderr.contains(text) || self.stdout.contains(text), "does not say {text:?}\n{self}");
        self
    }
    /// Fails if either stream holds `text`.
    #[track_caller]
    pub fn says_not(self, text: &str) -> Self {
        assert!(!self.stderr.contains(text) && !self.stdout.contains(text), "says {text:?}\n{self}");
        self
    }
    /// The last line on stderr: the contract wants the code's meaning, the service and the reason there.
    pub fn last_line(&self) -> &str {
        self.stderr.lines().rfind(|line| !line.trim().is_empty()).unwrap_or("")
    }
    /// stdout as JSON.
    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|fault| panic!("stdout is no JSON: {fault}\n{self}"))
    }
    /// stdout as one JSON object a line.
    #[track_caller]
    pub fn json_lines(&self) -> Vec<Value> {
        let parse = |line| serde_json::from_str(line).unwrap_or_else(|fault| panic!("{line:?}: {fault}\n{self}"));
        self.stdout.lines().map(parse).collect()
    }
}

impl std::fmt::Display for Outcome {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let ended = match (self.code, self.signal) {
            (Some(code), _) => format!("exit {code}"),
            (_, signal) => format!("signal {signal:?}"),
        };
        write!(f, "$ devrun {}\n{ended} after {:?}\n-- stdout\n{}\n-- stderr\n{}", self.args, self.took, self.stdout, self.stderr)
    }
}

/// A run of the binary that has not ended yet.
#[must_use]
pub struct Running {
    args: String,
    child: Child,
    started: Instant,
    stdout: Stream,
    stderr: Stream,
}

/// What was read from one stream so far, and the thread that reads it.
struct Stream {
    text: Arc<Mutex<Vec<u8>>>,
    hang_up: Arc<AtomicBool>,
    reader: Option<JoinHandle<()>>,
}

impl Stream {
    fn of(source: Option<impl Read + AsFd + Send + 'static>) -> Self {
        let text = Arc::new(Mutex::new(Vec::new()));
        let hang_up = Arc::new(AtomicBool::new(false));
        let reader = source.map(|mut source| {
            let (text, hang_up) = (Arc::clone(&text), Arc::clone(&hang_up));
            std::thread::spawn(move || {
                let mut chunk = [0; 8192];
                while !hang_up.load(Ordering::Relaxed) {
                    let mut waited = [PollFd::new(source.as_fd(), PollFlags::POLLIN)];
                    if poll(&mut waited, PollTimeout::from(20_u8)) == Ok(0) {
                        continue;
                    }
                    match source.read(&mut chunk) {
                        Ok(read @ 1..) => text.lock().expect("no reader panics").extend_from_slice(&chunk[..read]),
                        Err(fault) if fault.kind() == std::io::ErrorKind::Interrupted => {}
                        // A pseudo-terminal whose other side is closed answers EIO, which is its end of file.
                        _ => break,
                    }
                }
            })
        });
        Self { text, hang_up, reader }
    }
    /// Closes our end; whoever writes sees a reader that went away.
    fn close(&mut self) {
        self.hang_up.store(true, Ordering::Relaxed);
        if let Some(reader) = self.reader.take() {
            reader.join().expect("no reader panics");
        }
    }
    fn so_far(&self) -> String {
        String::from_utf8_lossy(&self.text.lock().expect("no reader panics")).into_owned()
    }
    fn finish(&mut self, what: &str, args: &str) -> String {
        if let Some(reader) = self.reader.take() {
            // A detached supervisor that keeps the caller's pipe open would make `$(devrun up -d)` hang.
            eventually(&format!("end of {what} after `devrun {args}` has ended"), Duration::from_secs(10), || {
                reader.is_finished().then_some(())
            });
        }
        self.so_far()
    }
}

impl Running {
    /// Its pid.
    pub fn pid(&self) -> i32 {
        i32::try_from(self.child.id()).expect("a pid is an i32")
    }
    /// What it has written to stdout so far.
    pub fn stdout(&self) -> String {
        self.stdout.so_far()
    }
    /// What it has written to stderr so far.
    pub fn stderr(&self) -> String {
        self.stderr.so_far()
    }
    /// Waits until either stream holds `text`.
    #[track_caller]
    pub fn wait_for(&mut self, text: &str) {
        let said = within(PATIENCE, || {
            // Looked at first: what it said last is read after its end.
            let ended = self.child.try_wait().expect("the child can be waited for");
            if self.stdout().contains(text) || self.stderr().contains(text) {
                return Some(Ok(()));
            }
            ended.map(Err)
        });
        if !matches!(said, Some(Ok(()))) {
            let (stdout, stderr) = (self.stdout(), self.stderr());
            panic!("`devrun {}` never said {text:?} ({said:?})\n-- stdout\n{stdout}\n-- stderr\n{stderr}", self.args);
        }
    }
    /// Closes our end of its stdout, as `| head -1` does.
    pub fn close_stdout(&mut self) {
        self.stdout.close();
    }
    /// Sends it a signal.
    pub fn signal(&self, what: Signal) {
        signal(self.pid(), what);
    }
    /// Its end, within the usual patience.
    #[track_caller]
    pub fn outcome(self) -> Outcome {
        self.outcome_within(PATIENCE)
    }
    /// Its end, within `limit`.
    #[track_caller]
    pub fn outcome_within(mut self, limit: Duration) -> Outcome {
        let ended: Option<ExitStatus> = within(limit, || self.child.try_wait().expect("the child can be waited for"));
        let Some(status) = ended else {
            let (stdout, stderr) = (self.stdout(), self.stderr());
            // Only the one we started; the project's drop sees to the rest.
            let _ = self.child.kill();
            let _ = self.child.wait();
            panic!("`devrun {}` did not end within {limit:?}\n-- stdout\n{stdout}\n-- stderr\n{stderr}", self.args);
        };
        let took = self.started.elapsed();
        let stdout = self.stdout.finish("stdout", &self.args);
        let stderr = self.stderr.finish("stderr", &self.args);
        Outcome { args: self.args, code: status.code(), signal: status.signal(), stdout, stderr, took }
    }
}

/// A run of the binary on a terminal of its own: both streams arrive on one screen.
#[must_use]
pub struct Terminal {
    /// Its streams are empty; all text is in `screen`.
    running: Running,
    screen: Stream,
    master: Option<fs::File>,
}

impl Terminal {
    /// Types.
    pub fn send(&mut self, keys: &[u8]) {
        let master = self.master.as_mut().expect("the terminal is open");
        master.write_all(keys).expect("the terminal takes keys");
    }
    /// Whether lines are edited and echoed, as a shell expects to find its terminal.
    pub fn is_cooked(&self) -> bool {
        use nix::sys::termios::{LocalFlags, tcgetattr};
        let state = tcgetattr(self.master.as_ref().expect("the terminal is open")).expect("a terminal has a state");
        state.local_flags.contains(LocalFlags::ICANON | LocalFlags::ECHO | LocalFlags::ISIG)
    }
    /// Its pid.
    pub fn pid(&self) -> i32 {
        self.running.pid()
    }
    /// Ctrl-C.
    pub fn interrupt(&mut self) {
        self.send(&[3]);
    }
    /// Waits until the screen has shown `text`.
    #[track_caller]
    pub fn wait_for(&mut self, text: &str) {
        self.wait_for_times(text, 1);
    }
    /// Waits until the screen has shown `text` so many times.
    #[track_caller]
    pub fn wait_for_times(&mut self, text: &str, times: usize) {
        let what = format!("{text:?} on the terminal, {times} times");
        eventually(&what, PATIENCE, || (self.count_of(text) >= times).then_some(()));
    }
    /// How often the screen has shown `text`.
    pub fn count_of(&self, text: &str) -> usize {
        String::from_utf8_lossy(&self.screen.text.lock().expect("no reader panics")).matches(text).count()
    }
    /// Closes the terminal, as closing its window does, and waits for the end.
    #[track_caller]
    pub fn hang_up(mut self) -> Outcome {
        self.screen.close();
        self.master = None;
        self.outcome()
    }
    /// Waits for the end; everything the terminal showed is in `stdout`.
    #[track_caller]
    pub fn outcome(self) -> Outcome {
        let (mut screen, master) = (self.screen, self.master);
        let mut outcome = self.running.outcome();
        // The last lines may still be on their way: the reader ends when nobody holds the other side any more.
        outcome.stdout = screen.finish("the terminal", &outcome.args);
        drop(master);
        outcome
    }
}

static COUNTER: AtomicU32 = AtomicU32::new(0);

/// A user without other processes, also where several runs of the tests share a machine. For [`Project::for_user`].
pub fn unused_uid() -> u32 {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    // A pid is at most 2²² on Linux, and a run of the tests needs few users.
    10_000_000 + std::process::id() * 64 + NEXT.fetch_add(1, Ordering::Relaxed) % 64
}

/// A throw-away project. See the module's text.
#[must_use]
pub struct Project {
    folder: TempDir,
    token: String,
    env: BTreeMap<String, String>,
    user: Option<u32>,
    devrun: PathBuf,
    testsvc: PathBuf,
}

impl Default for Project {
    fn default() -> Self {
        Self::new()
    }
}

impl Project {
    /// An empty folder. Its path is short: a socket path ends at 107 bytes, and its parents are open to every user.
    pub fn new() -> Self {
        let folder = tempfile::Builder::new().prefix("dv").rand_bytes(5).tempdir_in("/tmp").expect("/tmp takes a folder");
        let nanos = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |since| since.subsec_nanos());
        let token = format!("dvt{:x}x{:x}x{nanos:x}", std::process::id(), COUNTER.fetch_add(1, Ordering::Relaxed));
        let root = folder.path();
        fs::set_permissions(root, fs::Permissions::from_mode(0o755)).expect("our own folder");
        for name in ["p", "home", "tmp"] {
            fs::create_dir(root.join(name)).expect("our own folder");
        }
        fs::create_dir(root.join("run")).expect("our own folder");
        fs::set_permissions(root.join("run"), fs::Permissions::from_mode(0o700)).expect("our own folder");
        let at = |name: &str| root.join(name).display().to_string();
        let mut env = BTreeMap::from([
            ("HOME".to_owned(), at("home")),
            ("XDG_CONFIG_HOME".to_owned(), at("home/.config")),
            ("XDG_CACHE_HOME".to_owned(), at("home/.cache")),
            ("XDG_STATE_HOME".to_owned(), at("home/.state")),
            ("XDG_RUNTIME_DIR".to_owned(), at("run")),
            ("TMPDIR".to_owned(), at("tmp")),
            ("PATH".to_owned(), "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin".to_owned()),
            ("LANG".to_owned(), "C.UTF-8".to_owned()),
            ("TZ".to_owned(), "UTC".to_owned()),
            ("NO_COLOR".to_owned(), "1".to_owned()),
        ]);
        // The whole suite can be run the way of systems without cgroups.
        if let Ok(value) = std::env::var("DEVRUN_NO_CGROUP") {
            env.insert("DEVRUN_NO_CGROUP".to_owned(), value);
        }
        if let Ok(store) = std::env::var(TEST_STORE) {
            env.insert("DEVRUN_BIN_CACHE".to_owned(), store);
        }
        Self { folder, token, env, user: None, devrun: devrun(), testsvc: testsvc() }
    }

    /// Writes `procfile.toml`. `{svc:NAME}` becomes the fixture with a token of its own, `{token}` the run's token,
    /// `{dir}` the project's folder.
    pub fn procfile(self, text: &str) -> Self {
        self.rewrite(text);
        self
    }

    /// The same, on a project that runs already.
    pub fn rewrite(&self, text: &str) {
        self.write("procfile.toml", &self.fill(text));
    }

    /// Fills in the placeholders of [`Project::procfile`].
    pub fn fill(&self, text: &str) -> String {
        let mut filled = String::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once("{svc:") {
            let (name, after) = after.split_once('}').expect("{svc:NAME} is closed");
            let _ = write!(filled, "{before}{} --token {}-{name}-", self.testsvc.display(), self.token);
            rest = after;
        }
        filled.push_str(rest);
        filled.replace("{token}", &self.token).replace("{dir}", &self.dir().display().to_string())
    }

    /// Sets a variable for every run of the binary.
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.env.insert(name.to_owned(), value.to_owned());
        self
    }

    /// The variables of every run of the binary.
    pub fn variables(&self) -> &BTreeMap<String, String> {
        &self.env
    }

    /// Runs everything as this user. Needs root; the binaries are copied to where that user can reach them.
    pub fn for_user(mut self, uid: u32) -> Self {
        assert!(is_root(), "only root can become another user");
        let bin = self.folder.path().join("bin");
        fs::create_dir(&bin).expect("our own folder");
        // By `cp`, so that no descriptor open for writing is ever inherited by a child of another test (ETXTBSY).
        let copied = Command::new("cp").args([&self.devrun, &self.testsvc, &bin]).status().expect("cp runs");
        assert!(copied.success());
        self.devrun = bin.join("devrun");
        self.testsvc = bin.join("testsvc");
        self.user = Some(uid);
        for name in ["p", "home", "tmp", "run"] {
            std::os::unix::fs::chown(self.folder.path().join(name), Some(uid), Some(uid)).expect("root may chown");
        }
        self
    }

    /// The project's folder.
    pub fn dir(&self) -> PathBuf {
        self.folder.path().join("p")
    }

    /// The throw-away folder around the project: home, runtime directory and the like lie in it.
    pub fn root(&self) -> &Path {
        self.folder.path()
    }

    /// A path in the project's folder.
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir().join(name)
    }

    /// Writes a file in the project's folder.
    pub fn write(&self, name: &str, text: &str) {
        let path = self.path(name);
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent).expect("our own folder");
        }
        fs::write(&path, text).expect("our own file");
        if let Some(uid) = self.user {
            std::os::unix::fs::chown(&path, Some(uid), Some(uid)).expect("root may chown");
        }
    }

    /// A file of the project's folder as text; absent is empty.
    pub fn read(&self, name: &str) -> String {
        fs::read(self.path(name)).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default()
    }

    fn command(&self, program: &Path) -> Command {
        let mut command = Command::new(program);
        command.current_dir(self.dir()).env_clear().envs(self.variables()).stdin(Stdio::null());
        if let Some(uid) = self.user {
            command.uid(uid).gid(uid);
        }
        command
    }

    /// Starts the binary.
    #[track_caller]
    pub fn start(&self, args: &[&str]) -> Running {
        self.start_prepared(args, |_| {})
    }

    /// As [`Self::start`], with something done to the command first.
    #[track_caller]
    pub fn start_prepared(&self, args: &[&str], prepare: impl FnOnce(&mut Command)) -> Running {
        let mut command = self.command(&self.devrun);
        prepare(&mut command);
        // Its own group, so that a signal of the test's terminal never reaches it.
        command.args(args).stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0);
        let mut child = command.spawn().unwrap_or_else(|fault| panic!("{}: {fault}", self.devrun.display()));
        let (stdout, stderr) = (Stream::of(child.stdout.take()), Stream::of(child.stderr.take()));
        Running { args: args.join(" "), child, started: Instant::now(), stdout, stderr }
    }

    /// Starts the binary with pipes to write to and to read from; what it says goes where the test's own goes.
    #[track_caller]
    pub fn spawn_piped(&self, args: &[&str]) -> Child {
        let mut command = self.command(&self.devrun);
        command.args(args).stdin(Stdio::piped()).stdout(Stdio::piped()).process_group(0);
        command.spawn().unwrap_or_else(|fault| panic!("{}: {fault}", self.devrun.display()))
    }

    /// Runs the binary to its end.
    #[track_caller]
    pub fn run(&self, args: &[&str]) -> Outcome {
        self.start(args).outcome()
    }

    /// Runs a shell script whose `$0` is the binary.
    #[track_caller]
    pub fn run_in_shell(&self, script: &str) -> Outcome {
        self.start_in_shell(script).outcome()
    }

    /// Starts a shell script whose `$0` is the binary.
    #[track_caller]
    pub fn start_in_shell(&self, script: &str) -> Running {
        let mut command = self.command(Path::new("sh"));
        command.arg("-c").arg(script).arg(&self.devrun).stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0);
        let mut child = command.spawn().expect("sh runs");
        let (stdout, stderr) = (Stream::of(child.stdout.take()), Stream::of(child.stderr.take()));
        Running { args: script.to_owned(), child, started: Instant::now(), stdout, stderr }
    }

    /// Kills supervisor and keeper so that neither can act on the other's death.
    #[track_caller]
    pub fn kill_both(&self) {
        let supervisor = self.supervisor();
        let keepers = self.keepers();
        assert_eq!(keepers.len(), 1, "{keepers:?}");
        // A stopped supervisor cannot start a new keeper, and a dead keeper cannot begin to stop the services.
        signal(supervisor, Signal::SIGSTOP);
        signal(keepers[0].pid, Signal::SIGKILL);
        eventually("the keeper's end", PATIENCE, || self.keepers().is_empty().then_some(()));
        signal(supervisor, Signal::SIGKILL);
        eventually("the supervisor's end", PATIENCE, || {
            self.leftovers().iter().all(|process| process.pid != supervisor).then_some(())
        });
    }

    /// Starts the binary on a terminal of its own, 100 columns wide.
    pub fn terminal(&self, args: &[&str]) -> Terminal {
        self.program_on_terminal(&self.devrun, args)
    }

    /// Starts a shell with job control on a terminal of its own; `$DEVRUN` is the binary.
    pub fn shell_on_terminal(&self) -> Terminal {
        self.program_on_terminal(Path::new("bash"), &["--norc", "--noprofile", "-i"])
    }

    fn program_on_terminal(&self, program: &Path, args: &[&str]) -> Terminal {
        use nix::fcntl::OFlag;
        // Close-on-exec from the first moment: a master that another test's child inherited would never hang up.
        let flags = OFlag::O_RDWR | OFlag::O_NOCTTY | OFlag::O_CLOEXEC;
        let master = nix::pty::posix_openpt(flags).expect("a pseudo-terminal");
        nix::pty::grantpt(&master).and_then(|()| nix::pty::unlockpt(&master)).expect("a pseudo-terminal");
        let name = nix::pty::ptsname_r(&master).expect("a pseudo-terminal has a name");
        if let Some(uid) = self.user {
            std::os::unix::fs::chown(&name, Some(uid), None).expect("root may chown");
        }
        let open =
            || fs::OpenOptions::new().read(true).write(true).custom_flags(flags.bits()).open(&name).expect("its other side");
        let sized = Command::new("stty").args(["cols", "100", "rows", "30"]).stdin(open()).status();
        assert!(sized.is_ok_and(|status| status.success()), "stty sets the size");
        // `setsid --ctty` makes it the controlling terminal and then becomes the command: the pid stays the same.
        let mut command = self.command(Path::new("setsid"));
        command.arg("--ctty").arg(program).args(args).env("TERM", "xterm-256color").env_remove("NO_COLOR");
        command.env("DEVRUN", &self.devrun);
        command.stdin(open()).stdout(open()).stderr(open());
        let child = command.spawn().expect("setsid runs");
        // The command holds the other side until it is dropped.
        drop(command);
        let master = fs::File::from(OwnedFd::from(master));
        let screen = Stream::of(Some(master.try_clone().expect("a descriptor")));
        let nothing = || Stream::of(None::<fs::File>);
        let running = Running { args: args.join(" "), child, started: Instant::now(), stdout: nothing(), stderr: nothing() };
        Terminal { running, screen, master: Some(master) }
    }

    /// `ps --json`.
    #[track_caller]
    pub fn ps(&self) -> Value {
        self.run(&["ps", "--json"]).code(0).json()
    }

    /// One service of `ps --json`; `Null` when it is not listed.
    #[track_caller]
    pub fn service(&self, name: &str) -> Value {
        let ps = self.ps();
        let services = ps["services"].as_array().cloned().unwrap_or_default();
        services.into_iter().find(|service| service["name"] == name).unwrap_or(Value::Null)
    }

    /// The main port of a service.
    #[track_caller]
    pub fn port(&self, name: &str) -> u16 {
        let service = self.service(name);
        let port = service["ports"]["main"].as_u64().unwrap_or_else(|| panic!("{name} has no port: {service}"));
        u16::try_from(port).expect("a port")
    }

    /// Waits until `ps` shows this service in this state, and returns what it shows.
    #[track_caller]
    pub fn wait_state(&self, name: &str, state: &str) -> Value {
        let mut last = Value::Null;
        let seen = within(PATIENCE, || {
            // No supervisor yet, or no state yet: `ps` may say anything until the deadline.
            let ps = serde_json::from_str::<Value>(&self.run(&["ps", "--json"]).stdout).ok()?;
            let services = ps["services"].as_array().cloned().unwrap_or_default();
            last = services.into_iter().find(|service| service["name"] == name).unwrap_or(Value::Null);
            (last["state"] == state).then_some(())
        });
        assert!(seen.is_some(), "{name} never was {state}; last seen: {last:#}");
        last
    }

    /// The supervisor's pid, as `ps` tells it.
    #[track_caller]
    pub fn supervisor(&self) -> i32 {
        let ps = self.ps();
        let pid = ps["supervisor_pid"].as_i64().unwrap_or_else(|| panic!("no supervisor: {ps:#}"));
        i32::try_from(pid).expect("a pid is an i32")
    }

    /// The keepers of this project. A keeper has no environment and no folder of its own to know it by, but it holds the
    /// project's journal open.
    pub fn keepers(&self) -> Vec<Process> {
        // Neither of ours can be looked into by an ordinary user: then it is a supervisor's child, or the journal's word.
        let supervisors = if is_root() { Vec::new() } else { self.lock_holders() };
        let recorded =
            if is_root() { None } else { journal::read(&self.path(".devrun/journal")).ok().and_then(|read| read.keeper) };
        scan(|command, folder| {
            command.contains("__keeper")
                && (holds_below(folder, self.folder.path())
                    || parent(folder).is_some_and(|pid| supervisors.contains(&pid))
                    || recorded.as_ref().is_some_and(|keeper| {
                        folder.file_name().is_some_and(|name| *name == *keeper.pid.to_string()) && identity::holds(keeper)
                    }))
        })
    }

    /// The pid of a supervisor that cannot be asked: whoever holds the instance lock.
    pub fn lock_holders(&self) -> Vec<i32> {
        let mut inodes = Vec::new();
        for folder in [self.path(".devrun"), self.folder.path().join("run/devrun")] {
            inodes_below(&folder, 3, &mut inodes);
        }
        // A read gives one page of the list; where a lock of an earlier page is gone by the next read, an entry is left out.
        let locks: String = (0..3).map(|_| fs::read_to_string("/proc/locks").unwrap_or_default()).collect();
        let mut pids = Vec::new();
        for line in locks.lines() {
            let words: Vec<&str> = line.split_whitespace().collect();
            if let (Some(&"FLOCK"), Some(pid), Some(file)) = (words.get(1), words.get(4), words.get(5))
                && let Some(inode) = file.rsplit(':').next().and_then(|text| text.parse::<u64>().ok())
                && let Ok(pid) = pid.parse::<i32>()
                && pid > 1
                && inodes.contains(&inode)
            {
                pids.push(pid);
            }
        }
        pids.sort_unstable();
        pids.dedup();
        pids
    }

    /// Fixture processes of this project that are alive; `name` narrows to one service, empty is all.
    pub fn alive(&self, name: &str) -> Vec<Process> {
        let mark = if name.is_empty() { self.token.clone() } else { format!("{}-{name}-", self.token) };
        // The binary's own runs carry no token, but a shell in front of a fixture does: it is alive all the same.
        processes_with(&mark)
    }

    /// The supervisors in the background among the holders. A keeper holds alive locks, and a client tries the instance lock
    /// for a moment: a test that means the supervisor must hit neither.
    pub fn supervisors(&self) -> Vec<i32> {
        let is_named =
            |pid: i32| fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|name| name.starts_with("devrun-supervis"));
        // The portable drivers give no names: there it is the one that leads a session and is no keeper.
        let is_detached = |pid: i32| {
            devrun_keeper::process_list::stat(pid).is_some_and(|stat| stat.session == pid)
                && !devrun_keeper::process_list::arguments(pid).iter().any(|word| word == b"__keeper")
        };
        let supervises = |pid: &i32| if cfg!(feature = "portable") { is_detached(*pid) } else { is_named(*pid) };
        self.lock_holders().into_iter().filter(supervises).collect()
    }

    /// Everything of this project that is alive: what carries the token, and what has this home or this folder in its
    /// environment or works in it. That finds supervisor, keeper and servers that write their own title.
    pub fn leftovers(&self) -> Vec<Process> {
        let root = self.folder.path().to_path_buf();
        let mark = root.display().to_string().into_bytes();
        let holders = if is_root() { Vec::new() } else { self.lock_holders() };
        let keepers = if is_root() { Vec::new() } else { self.keepers() };
        scan(|command, folder| {
            let pid = folder.file_name().and_then(|name| name.to_str()?.parse::<i32>().ok());
            pid.is_some_and(|pid| holders.contains(&pid) || keepers.iter().any(|keeper| keeper.pid == pid))
                || command.contains(&self.token)
                || command.contains(root.to_str().unwrap_or("\0"))
                || fs::read_link(folder.join("cwd")).is_ok_and(|cwd| cwd.starts_with(&root))
                || holds_below(folder, &root)
                || fs::read(folder.join("environ")).is_ok_and(|environ| environ.windows(mark.len()).any(|window| window == mark))
        })
    }

    /// Waits until nothing of this project is alive.
    #[track_caller]
    pub fn nothing_left_within(&self, limit: Duration) {
        let mut left = Vec::new();
        let gone = within(limit, || {
            left = self.leftovers();
            left.is_empty().then_some(())
        });
        assert!(gone.is_some(), "left after {limit:?}: {left:#?}");
    }

    /// Waits until the shell of [`Project::shell_on_terminal`] is the only process of this project that is alive.
    #[track_caller]
    pub fn nothing_left_but_shell(&self) {
        eventually("only the shell is left", PATIENCE, || {
            self.leftovers().iter().all(|process| process.command.starts_with("bash --norc")).then_some(())
        });
    }

    /// Fails if anything of this project is alive now; a moment is allowed for the kernel to take a dead process away.
    #[track_caller]
    pub fn nothing_left(&self) {
        self.nothing_left_within(Duration::from_millis(500));
    }
}

impl Drop for Project {
    fn drop(&mut self) {
        if std::thread::panicking() {
            for file in [".devrun/logs/devrun.log", ".devrun/logs/events.jsonl"] {
                let text = self.read(file);
                let lines: Vec<&str> = text.lines().collect();
                // Shown by the test runner together with the failure.
                let _ = writeln!(std::io::stderr(), "-- {file}\n{}", lines[lines.len().saturating_sub(40)..].join("\n"));
            }
        }
        if self.leftovers().is_empty() {
            return;
        }
        let mut command = self.command(&self.devrun);
        if let Ok(mut child) = command.args(["down", "--emergency"]).stdout(Stdio::null()).stderr(Stdio::null()).spawn() {
            let _ended = within(Duration::from_secs(20), || (!matches!(child.try_wait(), Ok(None))).then_some(()));
            // A hang of it is shown by what is left; this ends only what we started here.
            let _ = child.kill();
            let _ = child.wait();
        }
        let left = self.leftovers();
        for process in &left {
            signal(process.pid, Signal::SIGKILL);
        }
        assert!(left.is_empty() || std::thread::panicking(), "`down --emergency` left {left:#?}");
    }
}

/// Sends a request to a server of this machine as it is; the status and the whole answer. The request says `Connection: close`, or
/// the server closes.
pub fn ask_http(port: u16, head: &str, body: &[u8]) -> (u16, String) {
    let mut stream = std::net::TcpStream::connect(("127.0.0.1", port)).expect("it listens");
    stream.set_read_timeout(Some(PATIENCE)).expect("a socket");
    stream.write_all(head.as_bytes()).expect("it reads");
    // A server that refuses a request by its head may close before all of the body is sent.
    let _refused = stream.write_all(body);
    let mut answer = Vec::new();
    let _reset = stream.read_to_end(&mut answer);
    let answer = String::from_utf8_lossy(&answer).into_owned();
    (answer.split(' ').nth(1).and_then(|code| code.parse().ok()).unwrap_or(0), answer)
}

/// The store whose servers tests may start in addition to those of the machine; `tests/real` fills it where that has none.
pub const TEST_STORE: &str = "DEVRUN_TEST_STORE";

/// Whether the tests run as root.
pub fn is_root() -> bool {
    nix::unistd::Uid::effective().is_root()
}
