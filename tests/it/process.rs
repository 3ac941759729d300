//! Processes on the real system: the keeper, its link, the runner and the sweep, with the service that misbehaves.
//!
//! Every test has its own token in the words of everything that it starts, and finds survivors by it in `/proc`, whatever
//! the code under test says.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use devrun_keeper::journal;
use devrun_keeper::{
    CommandRequest, KeeperEvent, KeeperHandle, KeeperOptions, ProcessEvent, Runner, identity, leftover_sweep, process_list,
};
use devrun_model::keeper::{ExitStatus, Identity, KeeperHello, ProcessId, Role, RunAs, SpawnSpec, StopOrder};
use devrun_model::{Paths, ServiceId, Signal, StopTo};
use tokio::sync::mpsc;

use crate::harness::ZombieAges;
use crate::test_programs::copy_program;
use crate::waits::{let_time_pass_async, stays_true_for_async};

const LONG: Duration = Duration::from_secs(30);

fn testsvc() -> PathBuf {
    Path::new(env!("CARGO_BIN_EXE_devrun")).parent().unwrap().join("examples/testsvc")
}

fn is_root() -> bool {
    nix::unistd::geteuid().is_root()
}

/// Whether a process is known that leaves its session, closes its descriptors and clears its environment within milliseconds: by descent
/// or a cgroup, which the portable drivers lack.
const KNOWS_WHAT_HIDES: bool = devrun_keeper::INHERITS_ORPHANS;

/// A project's folders, a token, and an end that leaves nothing.
struct World {
    folder: tempfile::TempDir,
    token: String,
    run: String,
    cgroup: bool,
}

impl World {
    fn new(cgroup: bool) -> Self {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let token = format!("tok{}x{number}x", std::process::id());
        let folder = tempfile::Builder::new().prefix("dr").tempdir().unwrap();
        fs::create_dir(folder.path().join("run")).unwrap();
        let nanos = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_nanos();
        Self { folder, token, run: format!("{nanos:024x}{number:08x}"), cgroup }
    }
    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }
    fn places(&self) -> Paths {
        Paths { root: self.folder.path().to_owned(), state: self.folder.path().to_owned(), run: self.path("run") }
    }
    fn options(&self) -> KeeperOptions {
        KeeperOptions {
            program: PathBuf::from(env!("CARGO_BIN_EXE_devrun")),
            hello: KeeperHello {
                run: self.run.clone(),
                project: "test".to_owned(),
                root: self.folder.path().to_owned(),
                journal: self.places().journal(),
                cgroup: self.cgroup,
                supervisor: Identity { pid: 0, start: 0, boot: String::new() },
                inherited: Vec::new(),
            },
            owns_children: false,
        }
    }
    async fn keeper(&self) -> (KeeperHandle, mpsc::UnboundedReceiver<KeeperEvent>, Identity) {
        let (keeper, mut events) = KeeperHandle::start(self.options()).await.unwrap();
        match events.recv().await {
            Some(KeeperEvent::Ready { identity, .. }) => (keeper, events, identity),
            other => panic!("{other:?}"),
        }
    }
    fn spec(&self, keeper: &KeeperHandle, service: &str, words: &[&str]) -> SpawnSpec {
        let id = ServiceId::parse(service).unwrap();
        let mut argv = vec!["testsvc".to_owned(), "--token".to_owned(), self.token.clone()];
        argv.extend(words.iter().map(|word| (*word).to_owned()));
        SpawnSpec {
            process: keeper.next_process(),
            service: id.clone(),
            generation: 1,
            role: Role::Main,
            program: testsvc(),
            argv,
            env: vec![
                ("PATH".to_owned(), "/usr/bin:/bin".to_owned()),
                ("DEVRUN_RUN_ID".to_owned(), self.run.clone()),
                ("DEVRUN_SERVICE".to_owned(), service.to_owned()),
                ("DEVRUN_REPLICA".to_owned(), "1".to_owned()),
            ],
            dir: self.folder.path().to_owned(),
            run_as: RunAs::Same,
            nofile: None,
            cpu: None,
            memory: None,
            pids: None,
            umask: None,
            tty: false,
            open_stdin: false,
            sockets: Vec::new(),
            lock: self.places().alive_lock(&id),
            log: None,
            spare: Vec::new(),
            stop: StopOrder {
                signal: Signal::TERM,
                to: StopTo::Leader,
                grace_ms: 5000,
                then: None,
                command: None,
                before: Vec::new(),
                tier: None,
            },
        }
    }
    fn shell(&self, keeper: &KeeperHandle, service: &str, script: &str) -> SpawnSpec {
        let mut spec = self.spec(keeper, service, &[]);
        spec.program = PathBuf::from("/bin/sh");
        spec.argv = vec!["sh".to_owned(), "-c".to_owned(), script.to_owned(), self.token.clone()];
        spec
    }
    /// Living processes with the token in their words.
    fn orphans(&self) -> Vec<i32> {
        let own = std::process::id().cast_signed();
        let carries = |pid: &i32| {
            let words = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            String::from_utf8_lossy(&words).contains(&self.token)
        };
        let lives = |pid: &i32| process_list::stat(*pid).is_some_and(|stat| stat.lives());
        process_list::pids().into_iter().filter(|pid| *pid != own).filter(carries).filter(lives).collect()
    }
    fn text(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap_or_default()
    }
    fn journal(&self) -> journal::Journal {
        journal::read(&self.places().journal()).unwrap()
    }
}

impl Drop for World {
    fn drop(&mut self) {
        for pid in self.orphans() {
            // SAFETY: the process carries our token, which nobody else can have.
            unsafe { libc::kill(pid, libc::SIGKILL) };
        }
    }
}

/// Waits until the condition holds.
async fn eventually(what: &str, holds: impl FnMut() -> bool) {
    crate::waits::eventually_async(what, LONG, holds).await;
}

/// One process's events, with its output collected.
struct Proc {
    process: ProcessId,
    events: mpsc::UnboundedReceiver<ProcessEvent>,
    ends: Vec<std::os::fd::OwnedFd>,
    identity: Option<Identity>,
}

fn start(keeper: &KeeperHandle, spec: SpawnSpec) -> Proc {
    let (sink, events) = mpsc::unbounded_channel();
    let process = spec.process;
    keeper.spawn(spec, sink);
    Proc { process, events, ends: Vec::new(), identity: None }
}

impl Proc {
    async fn next(&mut self) -> ProcessEvent {
        tokio::time::timeout(LONG, self.events.recv()).await.expect("an event in time").expect("an event")
    }
    async fn spawned(&mut self) -> Identity {
        match self.next().await {
            ProcessEvent::Spawned { identity, stdout, stderr, .. } => {
                self.ends = [Some(stdout), stderr].into_iter().flatten().collect();
                self.identity = Some(identity.clone());
                identity
            }
            other => panic!("{other:?}"),
        }
    }
    async fn exited(&mut self) -> ExitStatus {
        match self.next().await {
            ProcessEvent::Exited { status, .. } => status,
            other => panic!("{other:?}"),
        }
    }
    async fn empty(&mut self) {
        match self.next().await {
            ProcessEvent::TreeEmpty { .. } => assert!(self.events.try_recv().is_err()),
            other => panic!("{other:?}"),
        }
    }
    async fn failed(&mut self) -> (String, i32) {
        match self.next().await {
            ProcessEvent::SpawnFailed { step, errno, .. } => (step, errno),
            other => panic!("{other:?}"),
        }
    }
    /// What has been written so far.
    fn output(&self) -> String {
        let mut all = Vec::new();
        for end in &self.ends {
            let mut buffer = [0; 65536];
            while let Ok(count) = nix::unistd::read(end, &mut buffer) {
                if count == 0 {
                    break;
                }
                all.extend_from_slice(&buffer[..count]);
            }
        }
        String::from_utf8_lossy(&all).into_owned()
    }
    async fn says(&self, wanted: &str) -> String {
        let mut text = String::new();
        eventually(wanted, || {
            text.push_str(&self.output());
            text.contains(wanted)
        })
        .await;
        text
    }
}

fn kill(identity: &Identity) {
    assert!(identity::holds(identity));
    // SAFETY: a process that this test started and that lives.
    assert_eq!(unsafe { libc::kill(identity.pid, libc::SIGKILL) }, 0);
}

#[test]
async fn exit_codes_and_signals_arrive() {
    let world = World::new(true);
    let (keeper, _events, _) = world.keeper().await;
    let mut all = Vec::new();
    for code in [0, 1, 2, 3, 42, 63, 64, 100, 125, 126, 127, 128, 129, 137, 143, 200, 254, 255] {
        let spec = world.shell(&keeper, "api", &format!("exit {code}"));
        all.push((start(&keeper, spec), ExitStatus::Code(code)));
    }
    for signal in [1, 2, 3, 6, 9, 10, 11, 13, 14, 15] {
        let spec = world.shell(&keeper, "api", &format!("kill -{signal} $$; exec sleep 30"));
        all.push((start(&keeper, spec), ExitStatus::Signal(Signal(signal))));
    }
    for (mut process, wanted) in all {
        process.spawned().await;
        assert_eq!(process.exited().await, wanted);
        process.empty().await;
    }
    assert_eq!(keeper.finish().await, []);
    assert_eq!(world.journal().result, Some(Vec::new()));
    assert!(world.journal().live.is_empty());
}

#[test]
async fn a_failed_start_names_the_step() {
    let world = World::new(true);
    let (keeper, _events, _) = world.keeper().await;
    let plain = world.path("plain");
    fs::write(&plain, "no program").unwrap();
    let change = |with: &dyn Fn(&mut SpawnSpec)| {
        let mut spec = world.spec(&keeper, "api", &[]);
        with(&mut spec);
        spec
    };
    let missing = change(&|spec| spec.program = PathBuf::from("/nowhere/at/all"));
    let denied = change(&|spec| spec.program.clone_from(&plain));
    let folder = change(&|spec| spec.dir = PathBuf::from("/nowhere/at/all"));
    let lock = change(&|spec| spec.lock = PathBuf::from("/nowhere/at/all"));
    let nul = change(&|spec| spec.argv.push("a\0b".to_owned()));
    for (spec, step, errno) in [
        (missing, "exec", libc::ENOENT),
        (denied, "exec", libc::EACCES),
        (folder, "chdir", libc::ENOENT),
        (lock, "lock", libc::ENOENT),
        (nul, "exec", libc::EINVAL),
    ] {
        let mut process = start(&keeper, spec);
        assert_eq!(process.failed().await, (step.to_owned(), errno));
        assert!(process.events.recv().await.is_none());
    }
    let mut fine = start(&keeper, world.shell(&keeper, "api", "exit 0"));
    fine.spawned().await;
    assert_eq!(fine.exited().await, ExitStatus::Code(0));
    fine.empty().await;
    assert_eq!(keeper.finish().await, []);
    assert!(world.journal().live.is_empty());
}

#[test]
async fn a_child_starts_clean() {
    let world = World::new(false);
    let (keeper, _events, _) = world.keeper().await;
    let mut spec = world.spec(&keeper, "api", &["--print-env", "--print-fds", "--status", "--exit", "0"]);
    spec.nofile = Some(64);
    spec.umask = Some(0o027);
    let mut process = start(&keeper, spec);
    let leader = process.spawned().await;
    assert_eq!(process.exited().await, ExitStatus::Code(0));
    let text = process.output();
    for line in ["Umask:\t0027", "0 /dev/null", "DEVRUN_SERVICE=api"] {
        assert!(text.contains(line), "{line} is not in:\n{text}");
    }
    let descriptors: Vec<&str> = text.lines().filter(|line| line.contains(" /") || line.contains(" pipe:")).collect();
    let open: Vec<&&str> = descriptors.iter().filter(|line| line.chars().next().is_some_and(|c| c.is_ascii_digit())).collect();
    // 0, 1, 2, the lock, and the folder that is being listed.
    assert_eq!(open.len(), 5, "{open:?}");
    assert!(open.iter().any(|line| line.ends_with("api.alive")), "{open:?}");
    assert!(leader.pid > 1);
    process.empty().await;
    // A service's standard input is a pipe, and it has as many descriptors.
    let mut spec = world.spec(&keeper, "api", &["--print-fds", "--exit", "0"]);
    spec.open_stdin = true;
    let mut process = start(&keeper, spec);
    process.spawned().await;
    assert_eq!(process.exited().await, ExitStatus::Code(0));
    let text = process.output();
    let opened: Vec<&str> = text.lines().filter(|line| line.starts_with(|c: char| c.is_ascii_digit())).collect();
    // A pipe without a name, or a FIFO whose name is gone.
    let is_pipe = |line: &&str| line.starts_with("0 pipe:") || line.starts_with("0 /") && line.contains("/stdin-");
    assert!(opened.iter().any(is_pipe), "{opened:?}");
    assert_eq!(opened.len(), 5, "{opened:?}");
    process.empty().await;
    // Rust's own runtime ignores SIGPIPE in the fixture, so signals are looked at in a shell.
    let script = "grep -E 'SigBlk|SigIgn' /proc/self/status; ulimit -n";
    let mut shell = world.shell(&keeper, "api", script);
    shell.nofile = Some(64);
    let mut process = start(&keeper, shell);
    process.spawned().await;
    process.exited().await;
    let text = process.output();
    // glibc's posix_spawn ignores signal 32, which is its own, in what it starts; only the Linux drivers take that back.
    let is_of_glibc = cfg!(feature = "portable") && text.contains("SigIgn:\t0000000080000000");
    let are_default = text.contains("SigIgn:\t0000000000000000") || is_of_glibc;
    assert!(text.contains("SigBlk:\t0000000000000000") && are_default, "{text}");
    assert!(text.lines().any(|line| line == "64"), "{text}");
    process.empty().await;
    keeper.finish().await;
}

#[test]
async fn root_runs_a_service_as_an_ordinary_user_of_its_own_namespace() {
    let world = World::new(false);
    let (keeper, _events, _) = world.keeper().await;
    let mut spec = world.shell(&keeper, "db", "id -u; id -g; echo x > made; cat /proc/self/uid_map");
    spec.run_as = RunAs::Namespace { uid: 1234, gid: 2345 };
    let mut process = start(&keeper, spec);
    match process.next().await {
        ProcessEvent::Spawned { stdout, stderr, .. } => process.ends = [Some(stdout), stderr].into_iter().flatten().collect(),
        // Forbidden here: then exactly that must be said.
        ProcessEvent::SpawnFailed { step, .. } => {
            assert_eq!(step, "namespace");
            assert!(fs::read_to_string("/proc/sys/user/max_user_namespaces").is_ok_and(|text| text.trim() == "0"));
            return crate::harness::skipped("user namespaces are forbidden here");
        }
        other => panic!("{other:?}"),
    }
    process.exited().await;
    let text = process.output();
    assert!(text.starts_with("1234\n2345\n"), "{text}");
    use std::os::unix::fs::MetadataExt;
    assert_eq!(fs::metadata(world.path("made")).unwrap().uid(), nix::unistd::geteuid().as_raw());
    process.empty().await;
    if is_root() {
        fs::set_permissions(world.folder.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        let mut spec = world.shell(&keeper, "db", "id -u; id -G; grep NoNewPrivs /proc/self/status");
        spec.run_as = RunAs::User { uid: 65534, gid: 65534, groups: vec![65534] };
        let mut process = start(&keeper, spec);
        process.spawned().await;
        process.exited().await;
        assert_eq!(process.output(), "65534\n65534\nNoNewPrivs:\t1\n");
        process.empty().await;
    }
    keeper.finish().await;
}

#[test]
async fn a_terminal_of_its_own() {
    let world = World::new(false);
    let (keeper, _events, _) = world.keeper().await;
    let mut spec = world.shell(&keeper, "tty", "test -t 0 && test -t 1 && test -t 2 && tty && exec sleep 60");
    spec.tty = true;
    let mut process = start(&keeper, spec);
    process.spawned().await;
    assert_eq!(process.ends.len(), 1);
    process.says("/dev/pts/").await;
    keeper.stop(process.process, None);
    assert_eq!(process.exited().await, ExitStatus::Signal(Signal::TERM));
    process.empty().await;
    keeper.finish().await;
}

/// O01, O04: children and an escapee; the leader gets the signal first, what is left the same one, each once.
async fn a_tree_is_stopped(cgroup: bool, flags: &[&str]) {
    let world = World::new(cgroup);
    let (keeper, _events, _) = world.keeper().await;
    let mark = world.path("mark");
    let mut words = vec!["--children", "5", "--setsid-escape", "--mark", mark.to_str().unwrap()];
    words.extend_from_slice(flags);
    let mut process = start(&keeper, world.spec(&keeper, "api", &words));
    process.spawned().await;
    process.says("up ").await;
    eventually("seven processes", || world.orphans().len() == 7).await;
    keeper.stop(process.process, None);
    keeper.stop(process.process, None);
    assert_eq!(process.exited().await, ExitStatus::Code(0));
    process.empty().await;
    assert_eq!(world.orphans(), [0; 0]);
    let text = world.text("mark");
    let lines: Vec<&str> = text.lines().collect();
    assert!(lines[0].starts_with("leader 15"), "{text}");
    assert_eq!(lines.iter().filter(|line| line.starts_with("child 15")).count(), 5, "{text}");
    assert_eq!(lines.iter().filter(|line| line.starts_with("escapee 15")).count(), 1, "{text}");
    assert_eq!(lines.len(), 7, "{text}");
    assert_eq!(keeper.finish().await, []);
}

#[test]
async fn o01_o04_children_and_escapee() {
    a_tree_is_stopped(true, &[]).await;
    a_tree_is_stopped(false, &[]).await;
}

#[test]
async fn o04_the_escapee_is_known_without_its_environment_or_without_its_lock() {
    a_tree_is_stopped(false, &["--clobber-env"]).await;
    a_tree_is_stopped(false, &["--close-fds"]).await;
    if is_root() && KNOWS_WHAT_HIDES {
        a_tree_is_stopped(true, &["--close-fds", "--clobber-env"]).await;
    }
}

#[test]
async fn o02_what_ignores_the_signal_is_killed_whole() {
    for cgroup in [true, false] {
        let world = World::new(cgroup);
        let (keeper, _events, _) = world.keeper().await;
        let mut process = start(&keeper, world.spec(&keeper, "api", &["--ignore-term", "--children", "3", "--setsid-escape"]));
        process.spawned().await;
        process.says("up ").await;
        eventually("five processes", || world.orphans().len() == 5).await;
        keeper.stop(process.process, None);
        stays_true_for_async("none is killed", Duration::from_millis(100), || world.orphans().len() == 5).await;
        let at = Instant::now();
        keeper.kill(process.process);
        assert_eq!(process.exited().await, ExitStatus::Signal(Signal::KILL));
        process.empty().await;
        assert!(at.elapsed() < Duration::from_secs(8));
        assert_eq!(world.orphans(), [0; 0]);
        assert_eq!(keeper.finish().await, []);
    }
}

#[test]
async fn o03_the_leader_s_child_may_finish() {
    let world = World::new(true);
    let (keeper, _events, _) = world.keeper().await;
    let done = world.path("done");
    let words = ["--children", "1", "--child-ms", "2000", "--done", done.to_str().unwrap()];
    let mut process = start(&keeper, world.spec(&keeper, "api", &words));
    process.spawned().await;
    process.says("up ").await;
    eventually("both", || world.orphans().len() == 2).await;
    keeper.stop(process.process, None);
    process.exited().await;
    assert!(!world.text("done").contains("child done"));
    process.empty().await;
    assert!(world.text("done").contains("child done"));
    keeper.finish().await;
}

#[test]
async fn q08_a_queue_worker_finishes_its_job() {
    let world = World::new(true);
    let (keeper, _events, _) = world.keeper().await;
    let job = world.path("job");
    let mut process = start(&keeper, world.spec(&keeper, "worker", &["--worker", job.to_str().unwrap()]));
    process.spawned().await;
    eventually("the job has begun", || world.text("job").contains("step 1")).await;
    keeper.stop(process.process, None);
    assert_eq!(process.exited().await, ExitStatus::Code(0));
    process.empty().await;
    assert!(world.text("job").ends_with("complete\n"));
    keeper.finish().await;
}

#[test]
async fn l04_an_exit_is_noticed_while_a_grandchild_holds_the_pipe() {
    let world = World::new(false);
    let (keeper, _events, _) = world.keeper().await;
    let mut process = start(&keeper, world.spec(&keeper, "api", &["--hold-stdout", "--exit", "3", "--after", "50"]));
    process.spawned().await;
    assert_eq!(process.exited().await, ExitStatus::Code(3));
    assert!(process.events.try_recv().is_err());
    assert_eq!(world.orphans().len(), 1);
    keeper.stop(process.process, None);
    process.empty().await;
    assert_eq!(world.orphans(), [0; 0]);
    keeper.finish().await;
}

#[test]
async fn all_at_once_where_the_service_asks_for_it() {
    let world = World::new(false);
    let (keeper, _events, _) = world.keeper().await;
    let mark = world.path("mark");
    let words = ["--children", "3", "--mark", mark.to_str().unwrap(), "--stop-takes", "300"];
    let mut spec = world.spec(&keeper, "api", &words);
    spec.stop.to = StopTo::All;
    let mut process = start(&keeper, spec);
    process.spawned().await;
    process.says("up ").await;
    eventually("four", || world.orphans().len() == 4).await;
    keeper.stop(process.process, None);
    process.exited().await;
    process.empty().await;
    assert_eq!(world.text("mark").lines().count(), 4, "{}", world.text("mark"));
    let mark = world.path("stronger");
    let words = ["--ignore-term", "--children", "2", "--mark", mark.to_str().unwrap()];
    let mut process = start(&keeper, world.spec(&keeper, "api", &words));
    process.spawned().await;
    process.says("up ").await;
    eventually("three", || world.orphans().len() == 3).await;
    keeper.stop(process.process, None);
    eventually("the leader has noted it", || world.text("stronger").contains("leader 15")).await;
    keeper.signal_tree(process.process, Signal(libc::SIGQUIT));
    assert_eq!(process.exited().await, ExitStatus::Code(0));
    process.empty().await;
    assert_eq!(world.text("stronger").lines().filter(|line| line.contains(" 3 ")).count(), 3, "{}", world.text("stronger"));
    keeper.finish().await;
}

#[test]
async fn r09_a_probe_s_escapee_dies_with_it_and_the_service_s_own_lives() {
    let world = World::new(false);
    let (keeper, _events, _) = world.keeper().await;
    let words = ["--setsid-escape", "--clobber-env"];
    let mut main = start(&keeper, world.spec(&keeper, "api", &words));
    let mut probe = world.spec(&keeper, "api", &words);
    probe.role = Role::Probe;
    let mut probe = start(&keeper, probe);
    for process in [&mut main, &mut probe] {
        process.spawned().await;
        process.says("up ").await;
    }
    eventually("four", || world.orphans().len() == 4).await;
    keeper.kill(probe.process);
    assert_eq!(probe.exited().await, ExitStatus::Signal(Signal::KILL));
    probe.empty().await;
    assert_eq!(world.orphans().len(), 2);
    keeper.stop(main.process, None);
    assert_eq!(main.exited().await, ExitStatus::Code(0));
    main.empty().await;
    assert_eq!(world.orphans(), [0; 0]);
    keeper.finish().await;
}

#[test]
async fn a_stray_that_fits_nobody_is_ended_by_finish() {
    let world = World::new(false);
    let (keeper, _events, _) = world.keeper().await;
    let words = ["--setsid-escape", "--clobber-env", "--close-fds", "--exit", "0", "--after", "300"];
    let mut main = start(&keeper, world.spec(&keeper, "api", &words));
    main.spawned().await;
    assert_eq!(main.exited().await, ExitStatus::Code(0));
    main.empty().await;
    assert_eq!(world.orphans().len(), 1);
    assert_eq!(keeper.finish().await, []);
    assert_eq!(world.orphans(), [0; 0]);
}

/// O05–O07: the supervisor is gone; the keeper stops everything in reverse order.
async fn the_keeper_stops_everything(cgroup: bool, flags: &[&str]) {
    let world = World::new(cgroup);
    let (keeper, events, own) = world.keeper().await;
    let mark = world.path("mark");
    let log = world.path("log");
    let mut all = Vec::new();
    for (service, before) in [("db", vec![]), ("api", vec!["db"]), ("web", vec!["api"])] {
        let done = world.path(service);
        let mut words = vec!["--mark", mark.to_str().unwrap(), "--stop-takes", "200", "--done", done.to_str().unwrap()];
        if service == "api" {
            words.extend_from_slice(flags);
        }
        let mut spec = world.spec(&keeper, service, &words);
        spec.stop.before = before.iter().map(|name| ServiceId::parse(name).unwrap()).collect();
        spec.log = Some(log.clone());
        all.push(start(&keeper, spec));
    }
    let mut stubborn = world.spec(&keeper, "stubborn", &["--ignore-term", "--flood", "0"]);
    stubborn.stop.grace_ms = 500;
    stubborn.log = Some(world.path("flood"));
    all.push(start(&keeper, stubborn));
    let mut pids = Vec::new();
    for process in &mut all {
        pids.push(process.spawned().await.pid);
    }
    for process in &all[..3] {
        process.says("up ").await;
    }
    all[3].says("0000000001 ").await;
    let count = if flags.is_empty() { 4 } else { 5 };
    eventually("all", || world.orphans().len() == count).await;
    let at = Instant::now();
    drop((keeper, all, events));
    eventually("the keeper has gone", || !identity::holds(&own)).await;
    assert!(at.elapsed() < Duration::from_secs(30), "{:?}", at.elapsed());
    assert_eq!(world.orphans(), [0; 0]);
    let text = world.text("mark");
    let order: Vec<i32> = text
        .lines()
        .filter(|line| line.starts_with("leader 15"))
        .filter_map(|line| line.rsplit(' ').next()?.parse().ok())
        .collect();
    assert_eq!(order, [pids[2], pids[1], pids[0]], "{text}");
    if flags.contains(&"--setsid-escape") {
        assert_eq!(text.lines().filter(|line| line.starts_with("escapee 15")).count(), 1, "{text}");
    }
    for service in ["db", "api", "web"] {
        assert!(world.text(service).contains("leader done"), "{service}");
    }
    assert!(fs::metadata(world.path("flood")).unwrap().len() > 0);
    let journal = world.journal();
    assert!(journal.dead && journal.live.is_empty());
    assert_eq!(journal.result, Some(Vec::new()));
}

#[test]
async fn o05_reverse_order_without_the_supervisor() {
    the_keeper_stops_everything(true, &[]).await;
    the_keeper_stops_everything(false, &["--setsid-escape"]).await;
}

#[test]
async fn o06_o07_escapees_without_the_supervisor() {
    the_keeper_stops_everything(false, &["--setsid-escape", "--clobber-env"]).await;
    the_keeper_stops_everything(false, &["--setsid-escape", "--close-fds"]).await;
    if KNOWS_WHAT_HIDES {
        the_keeper_stops_everything(true, &["--setsid-escape", "--close-fds", "--clobber-env"]).await;
        // Fits no service at all; it is ended as a stray.
        the_keeper_stops_everything(false, &["--setsid-escape", "--close-fds", "--clobber-env"]).await;
    }
}

/// N05 in small: the supervisor goes at any moment of the start.
#[test]
async fn twenty_ends_at_any_moment_leave_nobody() {
    for round in 0..20u32 {
        let world = World::new(round % 2 == 0);
        let (keeper, events, own) = world.keeper().await;
        let mut all = Vec::new();
        for (service, words) in [
            ("a", &["--children", "2"][..]),
            ("b", &["--setsid-escape"]),
            ("c", &["--setsid-escape", "--clobber-env"]),
            ("d", &["--ignore-term"]),
            ("e", &["--exit", "0", "--after", "10"]),
        ] {
            let mut spec = world.spec(&keeper, service, words);
            spec.stop.grace_ms = 200;
            all.push(start(&keeper, spec));
        }
        let_time_pass_async("the moment of the end is what is varied", Duration::from_millis(u64::from(round))).await;
        drop((keeper, events, all));
        eventually("the keeper has gone", || !identity::holds(&own)).await;
        assert_eq!(world.orphans(), [0; 0], "round {round}");
        assert_eq!(world.journal().result, Some(Vec::new()), "round {round}");
    }
}

#[test]
async fn a_stop_command_and_short_lived_roles_without_the_supervisor() {
    let world = World::new(false);
    let (keeper, events, own) = world.keeper().await;
    let mark = world.path("mark");
    let mut spec = world.spec(&keeper, "api", &["--mark", mark.to_str().unwrap()]);
    let script = format!("echo command $DEVRUN_SERVICE >> {}", mark.display());
    spec.stop.command = Some(vec!["sh".to_owned(), "-c".to_owned(), script, world.token.clone()]);
    let mut probe = world.spec(&keeper, "api", &["--ignore-term"]);
    probe.role = Role::Probe;
    let mut init = world.spec(&keeper, "db", &["--ignore-term"]);
    init.role = Role::Init;
    init.stop.grace_ms = 200;
    let mut all = [start(&keeper, spec), start(&keeper, probe), start(&keeper, init)];
    for process in &mut all {
        process.spawned().await;
        process.says("up ").await;
    }
    drop((keeper, all, events));
    eventually("the keeper has gone", || !identity::holds(&own)).await;
    assert_eq!(world.orphans(), [0; 0]);
    let text = world.text("mark");
    assert!(text.starts_with("command api\nleader 15 "), "{text}");
}

/// How a process has ended that a killed keeper left: only its reaper can know.
fn as_its_reaper_knows(status: ExitStatus) -> ExitStatus {
    if devrun_keeper::INHERITS_ORPHANS { status } else { ExitStatus::Unknown }
}

#[test]
async fn o10_a_dead_keeper_takes_nobody_with_it() {
    for cgroup in [true, false] {
        let world = World::new(cgroup);
        let (keeper, mut events, own) = world.keeper().await;
        let mark = world.path("mark");
        let words = ["--children", "2", "--setsid-escape", "--mark", mark.to_str().unwrap()];
        let mut tree = start(&keeper, world.spec(&keeper, "api", &words));
        let mut coded = start(&keeper, world.spec(&keeper, "job", &["--exit", "7", "--after", "1500"]));
        let mut stubborn = start(&keeper, world.spec(&keeper, "bad", &["--ignore-term", "--children", "2"]));
        for process in [&mut tree, &mut coded, &mut stubborn] {
            process.spawned().await;
            process.says("up ").await;
        }
        eventually("eight", || world.orphans().len() == 8).await;
        kill(&own);
        assert!(matches!(events.recv().await, Some(KeeperEvent::Lost)));
        let Some(KeeperEvent::Ready { identity: second, .. }) = events.recv().await else { panic!("no new keeper") };
        assert_ne!(second, own);
        let mut fresh = start(&keeper, world.spec(&keeper, "new", &[]));
        fresh.spawned().await;
        fresh.says("up ").await;
        assert_eq!(coded.exited().await, as_its_reaper_knows(ExitStatus::Code(7)));
        coded.empty().await;
        keeper.stop(tree.process, None);
        assert_eq!(tree.exited().await, as_its_reaper_knows(ExitStatus::Code(0)));
        tree.empty().await;
        let text = world.text("mark");
        assert_eq!(text.lines().filter(|line| line.contains(" 15 ")).count(), 4, "{text}");
        keeper.kill(stubborn.process);
        assert_eq!(stubborn.exited().await, as_its_reaper_knows(ExitStatus::Signal(Signal::KILL)));
        stubborn.empty().await;
        assert_eq!(world.orphans().len(), 1);
        keeper.stop(fresh.process, None);
        fresh.exited().await;
        fresh.empty().await;
        assert_eq!(keeper.finish().await, []);
        assert_eq!(world.orphans(), [0; 0]);
    }
}

#[test]
async fn o10_then_o05_the_new_keeper_ends_the_old_one_s_processes() {
    let world = World::new(false);
    let (keeper, mut events, own) = world.keeper().await;
    let mark = world.path("mark");
    let words = ["--children", "2", "--setsid-escape", "--mark", mark.to_str().unwrap()];
    let mut tree = start(&keeper, world.spec(&keeper, "api", &words));
    tree.spawned().await;
    tree.says("up ").await;
    eventually("four", || world.orphans().len() == 4).await;
    kill(&own);
    assert!(matches!(events.recv().await, Some(KeeperEvent::Lost)));
    let Some(KeeperEvent::Ready { identity: second, .. }) = events.recv().await else { panic!("no new keeper") };
    drop((keeper, events, tree));
    eventually("the keeper has gone", || !identity::holds(&second)).await;
    assert_eq!(world.orphans(), [0; 0]);
    assert!(world.text("mark").starts_with("leader 15"), "{}", world.text("mark"));
}

#[test]
async fn spawns_in_flight_when_the_keeper_dies_leave_nothing() {
    let world = World::new(false);
    let (keeper, mut events, own) = world.keeper().await;
    let mut all: Vec<Proc> = (0..20).map(|_| start(&keeper, world.spec(&keeper, "api", &[]))).collect();
    eventually("some", || world.orphans().len() > 5).await;
    // However quick it is, it has not even read of the last ones when it dies: the next keeper starts them.
    // SAFETY: a process that this test started and that lives.
    assert_eq!(unsafe { libc::kill(own.pid, libc::SIGSTOP) }, 0);
    all.extend((0..20).map(|_| start(&keeper, world.spec(&keeper, "api", &[]))));
    // The link's task shares this thread. Its turns put the requests into the socket.
    for _ in 0..20 {
        tokio::task::yield_now().await;
    }
    kill(&own);
    while !matches!(events.recv().await, Some(KeeperEvent::Ready { .. })) {}
    let mut alive = 0;
    for process in &mut all {
        match process.next().await {
            ProcessEvent::Spawned { .. } => {
                alive += 1;
                keeper.kill(process.process);
                process.exited().await;
                process.empty().await;
            }
            ProcessEvent::SpawnFailed { step, .. } => assert_eq!(step, "keeper"),
            other => panic!("{other:?}"),
        }
    }
    assert!((20..=40).contains(&alive), "{alive}");
    eventually("nobody is left", || world.orphans().is_empty()).await;
    keeper.finish().await;
}

#[test]
async fn o11_zombies_are_reaped() {
    let world = World::new(false);
    let (keeper, _events, own) = world.keeper().await;
    let mut process = start(&keeper, world.spec(&keeper, "api", &["--zombies", "300", "--zombie-ms", "0"]));
    process.spawned().await;
    let mut zombies = ZombieAges::of(&[own.pid]);
    let mut text = String::new();
    eventually("all done", || {
        zombies.look();
        text.push_str(&process.output());
        text.contains("zombies done")
    })
    .await;
    eventually("none left", || zombies.look() == 0).await;
    keeper.stop(process.process, None);
    assert_eq!(process.exited().await, ExitStatus::Code(0));
    process.empty().await;
    keeper.finish().await;
}

#[test]
async fn spared_names_are_left_alone() {
    let world = World::new(false);
    let (keeper, _events, own) = world.keeper().await;
    let daemon = world.path("daemon");
    copy_program(Path::new("/bin/sleep"), &daemon);
    let script = format!("{} 60.{} & exec sleep 60", daemon.display(), world.token.len());
    let mut spec = world.shell(&keeper, "api", &script);
    spec.spare = vec!["daemon".to_owned()];
    let mut process = start(&keeper, spec);
    process.spawned().await;
    let find = || {
        let all = process_list::pids().into_iter().filter_map(process_list::stat);
        let exe = |pid| fs::read_link(format!("/proc/{pid}/exe")).is_ok_and(|path| path == daemon);
        all.filter(|stat| stat.lives() && stat.comm == "daemon").find(|stat| exe(stat.pid))
    };
    eventually("the daemon", || find().is_some()).await;
    keeper.stop(process.process, None);
    process.exited().await;
    process.empty().await;
    assert_eq!(keeper.finish().await, []);
    assert!(!identity::holds(&own));
    let stat = find().expect("the daemon lives");
    // SAFETY: it runs the binary that this test made.
    unsafe { libc::kill(stat.pid, libc::SIGKILL) };
}

/// Starts a stack, then kills supervisor and keeper: here, freezes the link by killing the keeper while nobody adopts.
async fn leave_behind(world: &World, words: &[&str], services: usize) {
    // A process of its own stands for the supervisor: it is the `KeeperHandle` handle's runtime that would adopt, so it is shut
    // down before the keeper is killed, and the keeper is stopped first so that it cannot act on the end of its socket.
    let (keeper, events, own) = world.keeper().await;
    let mut all = Vec::new();
    for number in 0..services {
        all.push(start(&keeper, world.spec(&keeper, &format!("s{number}"), words)));
    }
    for process in &mut all {
        process.spawned().await;
        process.says("up ").await;
    }
    // SAFETY: the keeper that this test started.
    unsafe { libc::kill(own.pid, libc::SIGSTOP) };
    drop((keeper, all, events));
    tokio::task::yield_now().await;
    kill(&own);
    eventually("the keeper is dead", || !identity::holds(&own)).await;
}

#[test]
async fn o08_the_sweep_finds_what_both_have_left() {
    for (cgroup, flags) in [
        (false, vec!["--clobber-env"]),
        (false, vec!["--close-fds"]),
        (true, vec!["--clobber-env", "--close-fds"]),
        (true, vec![]),
    ] {
        if cgroup && !is_root() || flags.len() == 2 && !KNOWS_WHAT_HIDES {
            continue;
        }
        let world = World::new(cgroup);
        let mut words = vec!["--ignore-term", "--children", "2", "--setsid-escape"];
        words.extend(&flags);
        leave_behind(&world, &words, 2).await;
        eventually("eight are left", || world.orphans().len() == 8).await;
        let journal = world.journal();
        assert_eq!(leftover_sweep::leftovers(&journal, &world.places()).len(), 8, "{flags:?}");
        let at = Instant::now();
        let report = leftover_sweep::sweep(&journal_without_us(journal), &world.places(), leftover_sweep::SweepMode::Emergency);
        assert!(at.elapsed() < Duration::from_secs(30), "{:?}", at.elapsed());
        assert_eq!(world.orphans(), [0; 0], "{flags:?}");
        assert_eq!(report.killed.len(), 8, "{report:?}");
        assert!(report.survivors.is_empty(), "{report:?}");
    }
}

/// The journal's supervisor is this test process, which no sweep touches, as it is its own.
fn journal_without_us(journal: journal::Journal) -> journal::Journal {
    assert_eq!(journal.header.as_ref().map(|header| header.supervisor.pid), Some(std::process::id().cast_signed()));
    journal
}

#[test]
async fn o09_the_next_run_stops_them_as_the_stack_would() {
    let world = World::new(false);
    let mark = world.path("mark");
    let done = world.path("done");
    let words = ["--children", "1", "--mark", mark.to_str().unwrap(), "--done", done.to_str().unwrap(), "--stop-takes", "100"];
    leave_behind(&world, &words, 3).await;
    let places = world.places();
    let journal = world.journal();
    let report =
        tokio::task::spawn_blocking(move || leftover_sweep::sweep(&journal, &places, leftover_sweep::SweepMode::Graceful))
            .await
            .unwrap();
    assert_eq!(world.orphans(), [0; 0]);
    assert_eq!(report.killed.len(), 6, "{report:?}");
    assert_eq!(world.text("done").lines().filter(|line| *line == "leader done").count(), 3, "{}", world.text("done"));
    assert_eq!(world.text("mark").lines().count(), 6, "{}", world.text("mark"));
    assert!(leftover_sweep::leftovers(&world.journal(), &world.places()).is_empty());
}

#[test]
async fn o15_a_hundred_at_once() {
    let world = World::new(false);
    leave_behind(&world, &["--ignore-term"], 100).await;
    let at = Instant::now();
    let report = leftover_sweep::sweep(&world.journal(), &world.places(), leftover_sweep::SweepMode::Emergency);
    let took = at.elapsed();
    assert_eq!(world.orphans(), [0; 0]);
    assert_eq!(report.killed.len(), 100);
    let at = Instant::now();
    assert!(leftover_sweep::leftovers(&world.journal(), &world.places()).is_empty());
    figures(took, at.elapsed(), "(swept, one empty look)");
}

#[test]
async fn p01_p02_p04_a_bystander_named_by_a_journal_lives() {
    let world = World::new(false);
    leave_behind(&world, &[], 1).await;
    for pid in world.orphans() {
        // SAFETY: it carries our token, which nobody else can have.
        unsafe { libc::kill(pid, libc::SIGKILL) };
    }
    eventually("only the journal knows it", || world.orphans().is_empty()).await;
    let mut bystander = std::process::Command::new(testsvc());
    bystander.args(["--token", &world.token, "--children", "2"]).stdout(std::process::Stdio::null());
    std::os::unix::process::CommandExt::process_group(&mut bystander, 0);
    let mut bystander = bystander.spawn().unwrap();
    eventually("three", || world.orphans().len() == 3).await;
    let pid = bystander.id().cast_signed();
    let right = identity::of(pid).unwrap();
    let honest = world.journal();
    let (_, template) = honest.live.iter().next().map(|(id, entry)| (*id, entry.clone())).expect("one entry");
    let mut identities = vec![
        Identity { start: right.start + 1, ..right.clone() },
        Identity { start: right.start.wrapping_sub(1), ..right.clone() },
        Identity { boot: "another boot".to_owned(), ..right.clone() },
    ];
    for number in [0, -1, 1, i32::MAX, i32::MIN, std::process::id().cast_signed()] {
        identities.push(Identity { pid: number, ..right.clone() });
        identities.push(identity::of(number).unwrap_or(Identity { pid: number, start: 0, boot: right.boot.clone() }));
    }
    let mut crafted = journal::Journal { header: honest.header.clone(), ..journal::Journal::default() };
    for (number, identity) in identities.into_iter().enumerate() {
        let process = number as u64 + 1;
        let entry = journal::JournalEntry { process, identity, grace_ms: 100, ..template.clone() };
        crafted.live.insert(process, entry);
    }
    let header = crafted.header.as_mut().unwrap();
    header.supervisor = Identity { start: right.start + 1, ..right.clone() };
    crafted.keeper = Some(Identity { boot: "another".to_owned(), ..right });
    for how in [leftover_sweep::SweepMode::Emergency, leftover_sweep::SweepMode::Graceful] {
        let (crafted, places) = (crafted.clone(), world.places());
        let report = tokio::task::spawn_blocking(move || leftover_sweep::sweep(&crafted, &places, how)).await.unwrap();
        assert!(report.killed.is_empty() && report.survivors.is_empty(), "{report:?}");
        assert_eq!(world.orphans().len(), 3);
    }
    bystander.kill().unwrap();
    bystander.wait().unwrap();
}

fn runner(world: &World, keeper: &KeeperHandle) -> Runner {
    Runner {
        keeper: keeper.clone(),
        places: world.places(),
        prepare: devrun_runtime::runtime_dir::ensure_run,
        service: ServiceId::parse("api").unwrap(),
        generation: 1,
        marks: BTreeMap::from([("DEVRUN_RUN_ID".to_owned(), world.run.clone())]),
        sink: None,
    }
}

fn request(world: &World, script: &str, timeout: Duration) -> CommandRequest {
    CommandRequest {
        role: Role::Probe,
        program: PathBuf::from("/bin/sh"),
        argv: vec!["sh".to_owned(), "-c".to_owned(), script.to_owned(), world.token.clone()],
        env: BTreeMap::from([("PATH".to_owned(), "/usr/bin:/bin".to_owned())]),
        dir: world.folder.path().to_owned(),
        run_as: RunAs::Same,
        timeout,
    }
}

#[test]
async fn what_a_command_leaves_running_is_ended_and_named_and_fails_an_init_step() {
    let world = World::new(false);
    let (keeper, _events, _) = world.keeper().await;
    let runner = runner(&world, &keeper);
    // It ignores the signal, is in a session of its own, and holds the output open.
    let leaves = format!("{} --token {} --ignore-term --setsid-escape & exit 3", testsvc().display(), world.token);
    let finished = runner.run(CommandRequest { role: Role::PreStart, ..request(&world, &leaves, LONG) }).await.unwrap();
    assert_eq!((finished.status, finished.timed_out), (ExitStatus::Code(3), false));
    assert!(finished.left_running().is_some_and(|left| left.contains("testsvc (pid ")), "{:?}", finished.left);
    assert_eq!(world.orphans(), [0; 0]);
    let ends = runner.run(request(&world, "(sleep 0.05; echo late) & exit 0", LONG)).await.unwrap();
    assert_eq!((ends.left_running(), ends.tail.as_slice()), (None, b"late\n".as_slice()), "it ended by itself");
    let init = format!("{} --token {} & exit 0", testsvc().display(), world.token);
    let failure = runner.run(CommandRequest { role: Role::Init, ..request(&world, &init, LONG) }).await.unwrap_err();
    assert_eq!(failure.kind, devrun_model::FailureKind::Task);
    assert!(failure.reason.contains("left testsvc (pid ") && failure.reason.contains("half done"), "{failure}");
    assert_eq!(world.orphans(), [0; 0]);
}

#[test]
async fn a_runner_runs_times_out_and_kills_on_drop() {
    let world = World::new(false);
    let (keeper, _events, _) = world.keeper().await;
    let runner = runner(&world, &keeper);
    let finished = runner.run(request(&world, "echo out; echo err >&2; exit 4", LONG)).await.unwrap();
    assert_eq!((finished.status, finished.timed_out), (ExitStatus::Code(4), false));
    let tail = String::from_utf8(finished.tail).unwrap();
    assert!(tail.contains("out\n") && tail.contains("err\n"), "{tail}");
    let long = "i=0; while [ $i -lt 30000 ]; do echo line $i; i=$((i+1)); done";
    let finished = runner.run(request(&world, long, LONG)).await.unwrap();
    assert_eq!(finished.tail.len(), 64 * 1024);
    assert!(finished.tail.ends_with(b"line 29999\n"));
    let hangs = format!("{} --token {} --ignore-term --children 2 --setsid-escape; true", testsvc().display(), world.token);
    let finished = runner.run(request(&world, &hangs, Duration::from_millis(500))).await.unwrap();
    assert!(finished.timed_out);
    assert_eq!(world.orphans(), [0; 0]);
    let cut = tokio::time::timeout(Duration::from_millis(500), runner.run(request(&world, &hangs, LONG))).await;
    assert!(cut.is_err());
    eventually("killed with the dropped future", || world.orphans().is_empty()).await;
    let mut missing = request(&world, "", LONG);
    missing.program = PathBuf::from("/nowhere/at/all");
    let failure = runner.run(missing).await.unwrap_err();
    assert!(failure.reason.contains("/nowhere/at/all"), "{failure}");
    keeper.finish().await;
}

#[test]
async fn a_started_server_is_stopped_by_its_signal() {
    let world = World::new(false);
    let (keeper, _events, _) = world.keeper().await;
    let runner = runner(&world, &keeper);
    let mut asked = request(&world, "", LONG);
    asked.program = testsvc();
    let mark = world.path("mark").display().to_string();
    asked.argv = ["testsvc", "--token", &world.token, "--children", "1", "--mark", &mark].map(str::to_owned).to_vec();
    let child = runner.start(asked.clone()).await.unwrap();
    eventually("both", || world.orphans().len() == 2).await;
    assert!(identity::holds(child.identity()));
    let finished = child.stop(Signal::INT, LONG).await;
    assert_eq!((finished.status, finished.timed_out), (ExitStatus::Code(0), false));
    assert_eq!(world.orphans(), [0; 0]);
    assert!(world.text("mark").starts_with("leader 2 "), "{}", world.text("mark"));
    let mut ends = request(&world, "exit 9", LONG);
    ends.role = Role::Init;
    let mut child = runner.start(ends).await.unwrap();
    assert_eq!(child.wait().await, ExitStatus::Code(9));
    drop(runner.start(asked).await.unwrap());
    eventually("killed with the dropped child", || world.orphans().is_empty()).await;
    keeper.finish().await;
}

#[test]
async fn a_broken_keeper_is_an_error_and_not_a_hang() {
    let world = World::new(false);
    let mut options = world.options();
    options.program = PathBuf::from("/nowhere/at/all");
    assert!(KeeperHandle::start(options).await.is_err());
    let mut options = world.options();
    options.hello.journal = PathBuf::from("/nowhere/at/all/journal");
    let failure = KeeperHandle::start(options).await.unwrap_err();
    assert!(failure.reason.contains("journal"), "{failure}");
}

#[test]
async fn a_hundred_spawns_are_pipelined() {
    let world = World::new(true);
    let (keeper, _events, own) = world.keeper().await;
    let at = Instant::now();
    let mut all: Vec<Proc> = (0..100)
        .map(|number| {
            let mut spec = world.spec(&keeper, &format!("s{number}"), &[]);
            spec.program = PathBuf::from("/bin/sleep");
            spec.argv = vec!["sleep".to_owned(), format!("60.{}", world.token.len())];
            start(&keeper, spec)
        })
        .collect();
    for process in &mut all {
        process.spawned().await;
    }
    let spawned = at.elapsed();
    let switches = || {
        let status = fs::read_to_string(format!("/proc/{}/status", own.pid)).unwrap();
        status.lines().filter(|line| line.contains("ctxt_switches")).map(str::to_owned).collect::<Vec<_>>()
    };
    let mut last = (Instant::now(), switches());
    // Where orphans do not come to it, it looks at all processes once a second.
    let asleep = Duration::from_millis(if devrun_keeper::INHERITS_ORPHANS { 1000 } else { 500 });
    eventually("a keeper of a hundred idle services sleeps a whole second", || {
        let now = switches();
        if now != last.1 {
            last = (Instant::now(), now);
        }
        last.0.elapsed() > asleep
    })
    .await;
    let at = Instant::now();
    all.iter().for_each(|process| keeper.stop(process.process, None));
    for process in &mut all {
        process.exited().await;
        process.empty().await;
    }
    let stopped = at.elapsed();
    let status = fs::read_to_string(format!("/proc/{}/status", own.pid)).unwrap();
    let memory = status.lines().find(|line| line.starts_with("VmRSS")).unwrap_or_default();
    // Bounds for a loaded machine; the figures themselves belong to the bench.
    assert!(spawned < Duration::from_secs(5) && stopped < Duration::from_secs(5), "{spawned:?} {stopped:?} {memory}");
    // Only root can look into the keeper.
    if let Ok(descriptors) = fs::read_dir(format!("/proc/{}/fd", own.pid)) {
        assert!(descriptors.count() < 20);
    }
    figures(spawned, stopped, &format!("(spawned, stopped) {memory}"));
    assert_eq!(keeper.finish().await, []);
}

/// Figures for whoever looks with `--nocapture`.
fn figures(first: Duration, second: Duration, what: &str) {
    use std::io::Write;
    // A closed stderr does not fail a test.
    let _ = writeln!(std::io::stderr(), "100: {first:?}, {second:?}, {what}");
}
