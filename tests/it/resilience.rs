//! Trouble that must neither cost a stack nor hang a command: a keeper that is stopped, a program file that is replaced, a
//! runtime directory that is cleaned away, a limit on file sizes.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use nix::sys::signal::Signal;

use crate::harness::{PATIENCE, Project, eventually, is_root, signal, skipped};
use crate::test_programs::copy_program;
use crate::waits::{let_time_pass, stays_equal_for};

const ONE: &str = "[services.a]\nrun = \"{svc:a}\"\n";
const TWO: &str = "[services.a]\nrun = \"{svc:a} --mark {dir}/marks\"\n[services.b]\nrun = \"{svc:b}\"\ndepends_on = [\"a\"]\n";
/// A stopped keeper is noticed within 5 s; the rest is for a busy machine.
const SOON: Duration = Duration::from_secs(15);

/// The project as the user who runs the tests, without a cgroup, and, where that can be had, as an ordinary user.
pub fn everywhere(procfile: &str, test: impl Fn(&Project)) {
    let mut projects = vec![Project::new(), Project::new().env("DEVRUN_NO_CGROUP", "1")];
    if is_root() {
        projects.push(Project::new().for_user(61_240));
    }
    for project in projects {
        project.rewrite(procfile);
        test(&project);
        project.nothing_left();
    }
}

/// The only keeper.
#[track_caller]
fn keeper(project: &Project) -> i32 {
    let keepers = project.keepers();
    assert_eq!(keepers.len(), 1, "{keepers:?}");
    keepers[0].pid
}

/// The runtime directory of the project's stack.
pub fn run_directory(project: &Project) -> PathBuf {
    PathBuf::from(project.read(".devrun/run").trim_end())
}

#[test]
fn down_ends_a_stack_whose_keeper_is_stopped() {
    everywhere(TWO, |project| {
        project.run(&["up", "-d"]).code(0);
        signal(keeper(project), Signal::SIGSTOP);
        project.start(&["down"]).outcome_within(SOON).code(0);
        assert!(project.read("marks").starts_with("leader 15"), "stopped by its own signal: {}", project.read("marks"));
    });
}

#[test]
fn term_ends_a_supervisor_whose_keeper_is_stopped() {
    everywhere(TWO, |project| {
        project.run(&["up", "-d"]).code(0);
        let supervisor = project.supervisor();
        signal(keeper(project), Signal::SIGSTOP);
        signal(supervisor, Signal::SIGTERM);
        project.nothing_left_within(SOON);
    });
}

#[test]
fn restart_and_start_work_with_a_stopped_keeper() {
    everywhere(TWO, |project| {
        project.run(&["up", "-d"]).code(0);
        let (lost, a) = (keeper(project), project.alive("a")[0].pid);
        signal(lost, Signal::SIGSTOP);
        project.start(&["restart", "b"]).outcome_within(SOON).code(0);
        assert_ne!(keeper(project), lost, "there is a new one");
        assert_eq!(project.alive("a")[0].pid, a, "what was not asked for keeps running");
        // What is asked of a keeper that never reads it is asked of the next one.
        project.run(&["stop", "b"]).code(0);
        signal(keeper(project), Signal::SIGSTOP);
        project.start(&["start", "b"]).outcome_within(SOON).code(0);
        assert_eq!(project.alive("b").len(), 1);
        project.run(&["down"]).code(0);
    });
}

#[test]
fn a_stopped_keeper_whose_supervisor_was_killed_is_not_waited_for() {
    everywhere(ONE, |project| {
        project.run(&["up", "-d"]).code(0);
        let supervisor = project.supervisor();
        signal(keeper(project), Signal::SIGSTOP);
        signal(supervisor, Signal::SIGKILL);
        project.start(&["up", "-d"]).outcome_within(SOON).code(0);
        assert_eq!(project.alive("a").len(), 1, "one copy");
        project.run(&["down"]).code(0);
    });
}

#[test]
fn a_keeper_that_is_stopped_again_and_again_is_not_taken_for_lost() {
    // Thousands of spawns wait for it meanwhile.
    let tasks: String = (0..300).map(|number| format!("[services.s{number}]\nrun = [\"sleep\", \"100000\"]\n")).collect();
    let project = Project::new().procfile(ONE);
    project.run(&["up", "-d"]).code(0);
    let before = keeper(&project);
    project.rewrite(&format!("{ONE}{tasks}"));
    let up = project.start(&["up", "-d"]);
    let until = std::time::Instant::now() + Duration::from_secs(7);
    while std::time::Instant::now() < until {
        signal(before, Signal::SIGSTOP);
        let_time_pass("it is stopped for most of the time", Duration::from_millis(180));
        signal(before, Signal::SIGCONT);
        let_time_pass("it runs for a tenth of the time", Duration::from_millis(20));
    }
    up.outcome_within(Duration::from_secs(120)).code(0);
    assert_eq!(keeper(&project), before, "it was slow and not lost");
    project.run(&["down"]).code(0);
    project.nothing_left();
}

#[test]
fn an_idle_stack_owes_its_keeper_nothing() {
    let project = Project::new().procfile(ONE);
    project.run(&["up", "-d"]).code(0);
    let before = keeper(&project);
    let_time_pass("a stack at rest", Duration::from_secs(2));
    signal(before, Signal::SIGSTOP);
    // Longer than a stopped keeper is waited for, without a request.
    stays_equal_for("nothing was asked, so nothing is missed", Duration::from_secs(7), &before, || keeper(&project));
    signal(before, Signal::SIGCONT);
    project.run(&["down"]).code(0);
    assert!(project.keepers().is_empty());
}

/// A copy of the binary that a test may replace, and the project that uses it. The tests' own is left alone.
fn with_own_binary() -> Option<(Project, PathBuf)> {
    if !is_root() {
        return None;
    }
    let project = Project::new().for_user(61_241);
    let binary = project.root().join("bin/devrun");
    Some((project.procfile(TWO), binary))
}

#[test]
fn a_keeper_dies_after_the_binary_was_deleted_or_replaced() {
    let Some((project, binary)) = with_own_binary() else {
        return skipped("needs a copy of the binary, which only root's tests make");
    };
    for replaced in [false, true] {
        project.run(&["up", "-d"]).code(0);
        let (lost, a, supervisor) = (keeper(&project), project.alive("a")[0].pid, project.supervisor());
        let aside = binary.with_extension("aside");
        copy_program(&binary, &aside);
        fs::remove_file(&binary).expect("root may");
        if replaced {
            fs::write(&binary, "#!/bin/sh\nexit 3\n").expect("root may");
            let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
            fs::set_permissions(&binary, mode).expect("root may");
        }
        signal(lost, Signal::SIGKILL);
        eventually("a new keeper", PATIENCE, || project.keepers().iter().any(|keeper| keeper.pid != lost).then_some(()));
        fs::rename(&aside, &binary).expect("root may");
        assert_eq!(project.alive("a")[0].pid, a, "services keep running");
        assert_eq!(project.supervisor(), supervisor);
        project.run(&["restart", "a"]).code(0);
        project.run(&["down"]).code(0);
        project.nothing_left();
    }
}

/// Everything that must work although the socket has gone missing in the way of `damage`.
fn without_socket(project: &Project, damage: impl Fn(&Path)) {
    project.run(&["up", "-d"]).code(0);
    let (supervisor, a) = (project.supervisor(), project.alive("a")[0].pid);
    let run = run_directory(project);
    damage(&run);
    assert_eq!(project.supervisor(), supervisor, "`ps` still finds it");
    damage(&run);
    project.run(&["up", "-d"]).code(0).says("already running");
    assert_eq!(project.supervisors(), [supervisor], "one stack");
    assert_eq!(project.alive("a").len(), 1, "one copy");
    assert_eq!(project.alive("a")[0].pid, a);
    damage(&run);
    // Its lock lies there too.
    project.run(&["restart", "a"]).code(0);
    damage(&run);
    project.run(&["down"]).code(0).says_not("nothing is running");
    project.nothing_left();
    project.run(&["up", "-d"]).code(0);
    damage(&run_directory(project));
    project.run(&["down", "--emergency"]).code(0);
}

#[test]
fn a_runtime_directory_that_was_cleaned_away_costs_nothing() {
    everywhere(ONE, |project| {
        without_socket(project, |run| {
            let base = run.parent().expect("it has one");
            fs::remove_dir_all(base).expect("our own folder");
        });
    });
}

/// What is shown after the supervisor was killed is of its own run, not of one before.
#[test]
fn a_killed_supervisor_leaves_no_older_story() {
    let project = Project::new().procfile("[services.a]\nrun = \"sh -c 'exit 3'\"\n");
    project.run(&["up", "-d"]).code(1);
    project.run(&["ps"]).code(0).says("exit 3");
    // Also where the start was not over.
    for wait_for_it in [true, false] {
        project.rewrite("[services.a]\nrun = \"{svc:a}\"\nready = { file = \"ready\" }\n");
        if wait_for_it {
            project.write("ready", "");
            project.run(&["up", "-d"]).code(0);
        } else {
            fs::remove_file(project.path("ready")).expect("our own file");
            project.run(&["up", "-d", "--no-wait"]).code(0);
        }
        let supervisor = i32::try_from(project.ps()["supervisor_pid"].as_i64().expect("it runs")).expect("a pid");
        signal(supervisor, Signal::SIGKILL);
        eventually("nothing of it runs", PATIENCE, || project.alive("a").is_empty().then_some(()));
        let reason = "its supervisor ended";
        let shown = project.run(&["ps"]).code(0).says("stopped").says(reason).says_not("exit 3");
        assert!(!shown.stdout.contains("failed"), "{shown}");
        project.run(&["why", "a"]).code(0).says("a is not running: the stack is down").says(reason);
        project.run(&["down"]);
    }
}

/// Its keeper stops what it has left: nothing is to be done about it.
#[test]
fn processes_that_the_keeper_is_stopping_are_named_as_such() {
    let project = Project::new().procfile("[services.a]\nrun = \"{svc:a} --ignore-term\"\nstop = { grace = \"5m\" }\n");
    project.run(&["up", "-d"]).code(0);
    let keeper = project.keepers()[0].pid;
    signal(project.supervisor(), Signal::SIGKILL);
    eventually("it is said", PATIENCE, || {
        project.run(&["ps"]).stderr.contains("1 process of it is being stopped; `devrun down` waits for it").then_some(())
    });
    signal(keeper, Signal::SIGKILL);
    eventually("it is left", PATIENCE, || {
        project.run(&["ps"]).stderr.contains("1 process of it is still running; `devrun down` stops it").then_some(())
    });
    // Without waiting for the grace period.
    project.run(&["down", "--emergency"]).code(0);
    project.nothing_left();
}

#[test]
fn probes_and_restarts_work_after_the_runtime_directory_was_cleaned_away() {
    let project = Project::new().procfile(
        "[services.a]\nrun = \"{svc:a}\"\nrestart = \"always\"\n\
         alive = { cmd = \"echo probed >> {dir}/probes\", interval = \"200ms\", retries = 1 }\n",
    );
    project.run(&["up", "-d"]).code(0);
    let before = project.alive("a")[0].pid;
    fs::remove_dir_all(run_directory(&project)).expect("our own folder");
    let probes = project.read("probes").lines().count();
    eventually("it is probed as before", PATIENCE, || (project.read("probes").lines().count() > probes + 3).then_some(()));
    assert_eq!(project.alive("a")[0].pid, before, "no probe has failed");
    fs::remove_dir_all(run_directory(&project)).expect("our own folder");
    signal(before, Signal::SIGKILL);
    eventually("it is started again", PATIENCE, || {
        project.alive("a").first().is_some_and(|process| process.pid != before).then_some(())
    });
    project.run(&["down"]).code(0);
    project.nothing_left();
}

#[test]
fn a_socket_that_was_removed_or_replaced_by_a_file_is_made_again() {
    everywhere(ONE, |project| {
        without_socket(project, |run| fs::remove_file(run.join("control.sock")).expect("our own file"));
        without_socket(project, |run| {
            fs::remove_file(run.join("control.sock")).expect("our own file");
            fs::write(run.join("control.sock"), "").expect("our own file");
        });
        // With something in it, in both places that a new socket needs.
        without_socket(project, |run| {
            fs::create_dir_all(run.join("control.new/kept")).expect("our own directory");
            fs::remove_file(run.join("control.sock")).expect("our own file");
            fs::create_dir_all(run.join("control.sock/kept")).expect("our own directory");
        });
    });
}

/// Listens in the place of the supervisor, as this process, until the project's directory is gone.
fn listen_instead(socket: &Path, hello: Option<String>, status: Option<String>) {
    let _gone = fs::remove_file(socket);
    let listener = UnixListener::bind(socket).expect("our own folder");
    if let Ok(meta) = fs::metadata(socket.parent().expect("it has one")) {
        std::os::unix::fs::chown(socket, Some(meta.uid()), Some(meta.gid())).expect("root may, and ours need not");
    }
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o666);
    fs::set_permissions(socket, mode).expect("our own file");
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let (hello, status) = (hello.clone(), status.clone());
            std::thread::spawn(move || {
                let mut stream = stream;
                if let Some(hello) = hello {
                    let _gone = writeln!(stream, "{hello}");
                }
                let Ok(copy) = stream.try_clone() else { return };
                for _ in BufReader::new(copy).lines() {
                    if let Some(status) = &status {
                        let _gone = writeln!(stream, "{status}");
                    }
                }
            });
        }
    });
}

#[test]
fn a_socket_of_another_process_is_not_trusted() {
    everywhere(ONE, |project| {
        let hello = format!("{{\"devrun\":1,\"version\":\"0\",\"pid\":{},\"project\":\"p\",\"root\":\"/\"}}", std::process::id());
        // One that talks, and one that accepts and says nothing.
        without_socket(project, |run| listen_instead(&run.join("control.sock"), Some(hello.clone()), None));
        without_socket(project, |run| listen_instead(&run.join("control.sock"), None, None));
    });
}

#[test]
fn ps_names_a_supervisor_of_another_version() {
    let project = Project::new().procfile(ONE);
    project.run(&["up", "-d"]).code(0);
    let ps = project.run(&["ps"]).code(0);
    assert!(!ps.stderr.contains("supervisor is devrun"), "{ps}");
    let json = project.ps();
    assert_eq!(json["supervisor_version"], env!("CARGO_PKG_VERSION"));
    project.run(&["down"]).code(0);
    assert!(project.ps()["supervisor_version"].is_null());
    // This process holds the lock and answers as a supervisor of a later version would.
    let lock = devrun_keeper::lock::InstanceLock::take(&project.path(".devrun/lock")).expect("nothing runs");
    let run = run_directory(&project);
    fs::create_dir_all(&run).expect("our own folder");
    let hello = format!(
        "{{\"devrun\":{},\"version\":\"99.1.2\",\"pid\":{},\"project\":\"p\",\"root\":\"/\"}}",
        devrun_runtime::control::VERSION,
        std::process::id()
    );
    let snapshot = "{\"project\":\"p\",\"instance\":\"\",\"mode\":null,\"supervisor_pid\":1,\"services\":[]}";
    let status =
        format!("{{\"status\":{{\"snapshot\":{snapshot},\"waiting\":{{}},\"stopping\":false,\"settled\":null,\"age_ms\":1}}}}");
    listen_instead(&run.join("control.sock"), Some(hello), Some(status));
    let ps = project.run(&["ps"]).code(0);
    assert!(ps.stderr.contains("the supervisor is devrun 99.1.2"), "{ps}");
    let ps = project.run(&["ps", "--json"]).code(0);
    assert_eq!(ps.json()["supervisor_version"], "99.1.2");
    drop(lock);
}

/// What `ulimit -f` and the disposition of SIGXFSZ are in a service.
const LIMITS: &str = "[services.a]\nrun = [\"sh\", \"-c\", \"(ulimit -S -f; ulimit -H -f; grep SigIgn /proc/self/status) > {dir}/limits; exec {svc:a}\"]\n";

/// The bit of SIGXFSZ in a mask of /proc/PID/status.
fn ignores_xfsz(text: &str) -> bool {
    let mask = text.lines().find_map(|line| line.strip_prefix("SigIgn:")).expect("a mask");
    u64::from_str_radix(mask.trim(), 16).expect("hex") & (1 << (libc::SIGXFSZ - 1)) != 0
}

#[test]
fn a_soft_limit_on_file_sizes_is_raised_for_us_and_given_to_services() {
    everywhere(LIMITS, |project| {
        // Blocks of 512 bytes.
        project.run_in_shell("ulimit -S -f 1024; exec \"$0\" up -d").code(0);
        eventually("it wrote", PATIENCE, || project.read("limits").contains("SigIgn").then_some(()));
        let limits = project.read("limits");
        assert!(limits.starts_with("1024\nunlimited\n"), "{limits}");
        assert!(!ignores_xfsz(&limits), "{limits}");
        for pid in [project.supervisor(), keeper(project)] {
            let of = fs::read_to_string(format!("/proc/{pid}/limits")).expect("it lives");
            let line = of.lines().find(|line| line.starts_with("Max file size")).expect("a line");
            assert_eq!(line.matches("unlimited").count(), 2, "{line}");
            assert!(ignores_xfsz(&fs::read_to_string(format!("/proc/{pid}/status")).expect("it lives")));
        }
        // The user's own command is no part of us either.
        let own =
            project.run_in_shell("ulimit -S -f 7; exec \"$0\" exec a -- sh -c 'ulimit -S -f; grep SigIgn /proc/self/status'");
        assert!(own.stdout.starts_with("7\n") && !ignores_xfsz(&own.stdout), "{own}");
        project.run(&["down"]).code(0);
    });
}

#[test]
fn a_hard_limit_on_file_sizes_is_an_error_that_names_it() {
    if !is_root() {
        return skipped("needs a user of its own");
    }
    let project = Project::new().for_user(61_242).procfile(ONE);
    let up = project.run_in_shell("ulimit -f 0; exec \"$0\" up -d").code(2);
    assert!(up.stderr.contains("File too large") && up.stderr.contains("ulimit -f"), "{up}");
    project.nothing_left();
    // Enough for the first lines of the journal.
    let up = project.run_in_shell("ulimit -f 1; exec \"$0\" up -d").code(1);
    assert!(up.stderr.contains("File too large") && up.stderr.contains("help: raise the limit on file sizes"), "{up}");
    project.nothing_left();
    // Enough to start with, and a log that grows beyond it: the stack stays.
    project.rewrite("[services.a]\nrun = [\"sh\", \"-c\", \"yes line | head -c 900000; touch {dir}/said; exec {svc:a}\"]\n");
    project.run_in_shell("ulimit -f 1024; exec \"$0\" up -d").code(0);
    eventually("it said everything", PATIENCE, || project.path("said").exists().then_some(()));
    assert_eq!(project.service("a")["state"], "running");
    project.run_in_shell("ulimit -f 1024; exec \"$0\" restart a").code(0);
    project.run_in_shell("ulimit -f 0; exec \"$0\" ps").code(0);
    project.run_in_shell("ulimit -f 0; exec \"$0\" down").code(0);
    project.nothing_left();
}

#[test]
fn a_full_state_directory_is_an_error_with_its_reason() {
    if !is_root() {
        return skipped("needs a file system of its own");
    }
    let project = Project::new();
    let point = project.root().join("full");
    fs::create_dir(&point).expect("our own folder");
    let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", "size=2m,mode=700", "tmpfs"]).arg(&point).status();
    if !mounted.is_ok_and(|status| status.success()) {
        return skipped("nothing can be mounted here");
    }
    let state = point.join("state").display().to_string();
    let project = project.env("DEVRUN_STATE_DIR", &state).procfile(ONE);
    project.run(&["up", "-d"]).code(0);
    project.kill_both();
    let full = Command::new("sh").args(["-c", "cat /dev/zero > filler 2>/dev/null; true"]).current_dir(&point).status();
    assert!(full.is_ok_and(|status| status.success()));
    let up = project.run(&["up", "-d"]);
    assert!(matches!(up.code, Some(2 | 4)) && up.stderr.contains("No space left"), "{up}");
    fs::remove_file(point.join("filler")).expect("our own file");
    project.run(&["up", "-d"]).code(0);
    assert_eq!(project.alive("a").len(), 1, "one copy");
    project.run(&["down"]).code(0);
    let unmounted = Command::new("umount").arg(&point).status();
    assert!(unmounted.is_ok_and(|status| status.success()));
}
