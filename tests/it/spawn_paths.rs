//! Every way in which a process comes to be: in the keeper's memory, as a copy of it, on kernels and under seccomp profiles
//! that lack clone3 or close_range, and one that never gets as far as its program.

use std::fs;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use crate::harness::{LONG, PATIENCE, Project, eventually, signal};
use crate::test_programs::copy_program;

/// Makes system calls fail in a command and all that it starts.
fn refuse(command: &mut Command, calls: &[(libc::c_long, i32)]) {
    let statement = |code: u32, k: u32| libc::sock_filter { code: code as u16, jt: 0, jf: 0, k };
    let mut filter = vec![statement(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0)];
    for (call, errno) in calls {
        let code = (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16;
        filter.push(libc::sock_filter { code, jt: 0, jf: 1, k: *call as u32 });
        filter.push(statement(libc::BPF_RET | libc::BPF_K, libc::SECCOMP_RET_ERRNO | errno.cast_unsigned()));
    }
    filter.push(statement(libc::BPF_RET | libc::BPF_K, libc::SECCOMP_RET_ALLOW));
    // SAFETY: prctl with integers and a filter that the kernel copies, between fork and exec.
    unsafe {
        command.pre_exec(move || {
            let program = libc::sock_fprog { len: filter.len() as u16, filter: filter.as_mut_ptr() };
            if libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0
                || libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const program) != 0
            {
                return Err(std::io::Error::last_os_error());
            }
            Ok(())
        });
    }
}

/// Leaves descriptors open that the command and what it starts would inherit.
fn leak(command: &mut Command) {
    // SAFETY: bare calls on constants, between fork and exec.
    unsafe {
        command.pre_exec(|| {
            let zero = libc::open(c"/dev/zero".as_ptr(), libc::O_RDONLY);
            for number in [7, 8, 10, 251] {
                if libc::dup2(zero, number) < 0 {
                    return Err(std::io::Error::last_os_error());
                }
            }
            Ok(())
        });
    }
}

/// What the descriptors of a process lead to.
fn open_files(pid: i32) -> Vec<String> {
    let entries = fs::read_dir(format!("/proc/{pid}/fd")).expect("it lives");
    entries.flatten().filter_map(|entry| Some(fs::read_link(entry.path()).ok()?.display().to_string())).collect()
}

const STACK: &str = "[services.a]\nrun = \"sleep 1000\"\nlimits = { memory = \"64M\" }\n\
     [services.b]\nrun = \"sleep 1000\"\n\
     [services.c]\nrun = \"sleep 1000\"\nready = { cmd = \"true\" }\ndepends_on = [\"a\", \"b\"]\n";

/// 0, 1, 2 and the lock.
#[track_caller]
fn services_inherit_nothing(project: &Project) {
    for name in ["a", "b", "c"] {
        let pid = project.service(name)["pid"].as_i64().expect("it runs");
        let open = open_files(i32::try_from(pid).expect("a pid"));
        assert_eq!(open.len(), 4, "{name}: {open:?}");
        assert!(open.iter().any(|path| path.ends_with(&format!("/{name}.alive"))), "{name}: {open:?}");
    }
}

#[test]
fn without_close_range_nothing_of_the_caller_is_inherited() {
    for errno in [libc::ENOSYS, libc::EINVAL, libc::EPERM] {
        let project = Project::new().procfile(STACK);
        let up = project.start_prepared(&["up", "-d"], |command| {
            leak(command);
            refuse(command, &[(libc::SYS_close_range, errno)]);
        });
        up.outcome_within(LONG).code(0);
        services_inherit_nothing(&project);
        // The kernel shows the files of both to root only: they do not let themselves be read.
        let of_ours = [project.supervisor(), project.keepers().first().expect("a keeper").pid];
        for pid in of_ours.into_iter().filter(|_| crate::harness::is_root()) {
            assert!(!open_files(pid).contains(&"/dev/zero".to_owned()), "{pid}: {:?}", open_files(pid));
        }
        project.run(&["down"]).code(0);
        project.nothing_left();
    }
}

#[test]
fn a_kernel_without_clone3_runs_a_whole_stack() {
    let project = Project::new().procfile(STACK);
    let calls = [(libc::SYS_clone3, libc::ENOSYS), (libc::SYS_close_range, libc::ENOSYS), (libc::SYS_pidfd_open, libc::ENOSYS)];
    let up = project.start_prepared(&["up", "-d"], |command| {
        leak(command);
        refuse(command, &calls);
    });
    up.outcome_within(LONG).code(0);
    services_inherit_nothing(&project);
    project.run(&["restart", "c"]).code(0);
    project.run(&["down"]).code(0);
    project.nothing_left();
}

/// glibc makes no thread where clone3 is refused with anything but ENOSYS; other C libraries do.
#[test]
fn a_profile_that_refuses_clone3_is_named() {
    for args in [&["up", "-d"][..], &["up"], &["run", "--", "true"]] {
        let project = Project::new().procfile("[services.a]\nrun = \"sleep 1000\"\n");
        let running = project.start_prepared(args, |command| refuse(command, &[(libc::SYS_clone3, libc::EPERM)]));
        if cfg!(target_env = "gnu") {
            let ended = running.outcome_within(LONG);
            if ended.code == Some(0) {
                // An old glibc, which knows clone alone.
                project.run(&["down"]).code(0);
                continue;
            }
            let ended = ended.code(125).says("a seccomp profile refuses the system call clone3").says("help: ");
            ended.says_not("panicked").says_not("without an answer");
            project.nothing_left();
        }
    }
}

#[test]
fn plain_forks_on_request() {
    let project = Project::new().env("DEVRUN_PLAIN_FORK", "1").procfile(STACK);
    project.run(&["up", "-d"]).code(0);
    services_inherit_nothing(&project);
    let keeper = project.keepers().first().expect("a keeper").command.clone();
    assert!(keeper.ends_with(" plain"), "{keeper}");
    project.run(&["down"]).code(0);
    project.nothing_left();
    let project = Project::new().procfile("[services.a]\nrun = \"sleep 1000\"\n");
    project.run(&["up", "-d"]).code(0);
    let keeper = project.keepers().first().expect("a keeper").command.clone();
    assert!(!keeper.ends_with(" plain"), "{keeper}");
    project.run(&["down"]).code(0);
}

/// The process tests of this program again, with ordinary forks.
#[test]
fn the_process_tests_pass_with_plain_forks() {
    let tests = std::env::current_exe().expect("our own path");
    let mut command = Command::new(tests);
    command.args(["process::", "--test-threads=2"]).env("DEVRUN_PLAIN_FORK", "1");
    let output = command.output().expect("the tests can be run");
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && text.contains(" 0 failed"), "{text}\n{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn a_memory_limit_below_the_minimum_is_refused() {
    for (limit, help) in [("512", "memory = \"512M\""), ("1", "memory = \"6M\""), ("5M", "memory = \"6M\"")] {
        let project =
            Project::new().procfile(&format!("[services.a]\nrun = \"sleep 1000\"\nlimits = {{ memory = \"{limit}\" }}\n"));
        for verb in [&["check"][..], &["up", "-d"]] {
            project.run(verb).code(2).says("procfile.toml:3:").says("the minimum is 6M").says(help);
        }
    }
    let project = Project::new().procfile("[services.a]\nrun = \"sleep 1000\"\nlimits = { memory = \"6M\" }\n");
    project.run(&["check"]).code(0);
    // What is set aside is not a limit.
    project.rewrite("[services.a]\nrun = \"sleep 1000\"\nreserve = { memory = \"1M\" }\n");
    project.run(&["check"]).code(0);
}

/// The child of the keeper that has not executed its program yet.
fn before_exec(project: &Project) -> Option<i32> {
    let keeper = project.keepers().first()?.pid;
    let children = fs::read_to_string(format!("/proc/{keeper}/task/{keeper}/children")).ok()?;
    children.split_whitespace().filter_map(|word| word.parse().ok()).find(|pid: &i32| {
        let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
        name.trim() == "devrun-keeper"
    })
}

/// A program on a dead file system cannot be played without one; a child that is stopped before its exec is as good. It waits
/// there as long as its program is open for writing.
#[test]
fn a_child_that_hangs_before_its_exec_holds_up_nothing_and_can_be_killed() {
    let project = Project::new().procfile(
        "[services.stuck]\nrun = \"./program 1000\"\nstop = { grace = \"1s\" }\n\
         [services.other]\nrun = \"sleep 1000\"\nready = { cmd = \"true\" }\n",
    );
    copy_program(Path::new("/bin/sleep"), &project.path("program"));
    for end in ["kill", "stop", "down"] {
        let writer = fs::File::options().append(true).open(project.path("program")).expect("our own file");
        project.run(&["up", "-d", "--no-wait", "stuck"]).code(0);
        let stuck = eventually("a child before its exec", PATIENCE, || before_exec(&project));
        signal(stuck, Signal::SIGSTOP);
        drop(writer);
        // It waits for all that is being started, this one among it.
        let waits = project.start(&["up", "-d", "other"]);
        project.wait_state("other", "running");
        project.run(&["stop", "other"]).code(0);
        project.wait_state("other", "stopped");
        let began = Instant::now();
        let goes = |args: &[&str]| project.start(args).outcome_within(Duration::from_secs(20));
        match end {
            "kill" => goes(&["kill", "stuck"]).code(0),
            "stop" => goes(&["stop", "stuck"]).code(0),
            _ => goes(&["down"]),
        };
        eventually("its end", PATIENCE, || (!fs::exists(format!("/proc/{stuck}")).unwrap_or(true)).then_some(()));
        assert!(began.elapsed() < Duration::from_secs(15), "{end}: {:?}", began.elapsed());
        project.run(&["down"]);
        waits.outcome_within(LONG);
        project.nothing_left();
    }
}

/// What a command of a service does before it begins counts for its time, too.
#[test]
fn a_command_that_hangs_before_its_exec_runs_out_of_time() {
    let project = Project::new().procfile(
        "[services.a]\nrun = \"sleep 1000\"\nready = { cmd = \"./program 0\", start_interval = \"20ms\", timeout = \"1s\" }\n",
    );
    copy_program(Path::new("/bin/sleep"), &project.path("program"));
    let writer = fs::File::options().append(true).open(project.path("program")).expect("our own file");
    project.run(&["up", "-d", "--no-wait"]).code(0);
    // Its own child has executed by then; what is seen before an exec is a probe.
    eventually("its process", PATIENCE, || (!project.service("a")["pid"].is_null()).then_some(()));
    let stuck = eventually("a child before its exec", PATIENCE, || before_exec(&project));
    signal(stuck, Signal::SIGSTOP);
    drop(writer);
    project.wait_state("a", "running");
    eventually("health", PATIENCE, || (project.service("a")["health"] == "healthy").then_some(()));
    project.run(&["down"]).code(0);
    project.nothing_left();
}
