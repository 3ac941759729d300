//! `X…`: what others may see and do, and what a service may do to a terminal. (X01 and X02 are about the web page, which
//! is not there; X07 is in `case_config`.)

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;

use nix::sys::signal::Signal;

use crate::harness::{PATIENCE, Project, eventually, is_root, signal};

/// Every file and folder below.
fn below(folder: &Path) -> Vec<PathBuf> {
    let mut all = Vec::new();
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.symlink_metadata().is_ok_and(|meta| meta.is_dir()) {
            all.extend(below(&path));
        }
        all.push(path);
    }
    all
}

#[test]
fn x03_nothing_of_ours_is_open_to_others() {
    let project = Project::new().procfile(
        "[secrets]\ngenerate = [\"key\"]\n[services.a]\nrun = \"{svc:a} --lines 3\"\nenv = { THE_KEY = \"${secret.key}\" }\n",
    );
    project.run(&["up", "-d"]).code(0);
    let mut private: Vec<PathBuf> =
        vec![project.path(".devrun"), project.path("secrets/infra"), project.root().join("run/devrun")];
    for folder in private.clone() {
        private.extend(below(&folder));
    }
    assert!(private.iter().any(|path| path.ends_with("journal")), "{private:?}");
    for path in &private {
        let Ok(meta) = path.symlink_metadata() else { continue };
        let shut = meta.mode() & 0o077 == 0;
        // What lies in a closed folder is closed.
        let inside = path.ancestors().skip(1).any(|above| private.iter().any(|one| one == above));
        assert!(shut || inside, "{} has mode {:o}", path.display(), meta.mode());
    }
    if is_root() {
        // Really as somebody else: neither lists nor reads nor connects.
        fs::set_permissions(project.root().join("run"), fs::Permissions::from_mode(0o755)).expect("our own folder");
        let socket =
            private.iter().find(|path| path.symlink_metadata().is_ok_and(|meta| meta.mode() & libc::S_IFMT == libc::S_IFSOCK));
        let socket = socket.expect("a control socket").display().to_string();
        for script in [
            format!("ls {}", project.root().join("run/devrun").display()),
            format!("cat {}", project.path(".devrun/journal").display()),
            format!("cat {}", project.path(".devrun/logs/a.log").display()),
            format!("cat {}", project.path("secrets/infra/key").display()),
            format!("python3 -c 'import socket; socket.socket(socket.AF_UNIX).connect(\"{socket}\")'"),
        ] {
            let done = Command::new("setpriv")
                .args(["--reuid", "65534", "--regid", "65534", "--clear-groups", "sh", "-c", &script])
                .output()
                .expect("setpriv runs");
            assert!(!done.status.success(), "{script}: {}", String::from_utf8_lossy(&done.stdout));
        }
        fs::set_permissions(project.root().join("run"), fs::Permissions::from_mode(0o700)).expect("our own folder");
    }
    project.run(&["down"]).code(0);
}

#[test]
fn x04_a_runtime_folder_that_is_not_ours_is_refused_untouched() {
    let planted = |plant: &dyn Fn(&Path)| {
        let project = Project::new().procfile("[services.a]\nrun = \"{svc:a}\"\n");
        let folder = project.root().join("run/devrun");
        plant(&folder);
        let before = folder.symlink_metadata().expect("planted");
        project.run(&["up", "-d"]).code(2).says("devrun");
        let after = folder.symlink_metadata().expect("still there");
        assert_eq!((before.mode(), before.uid(), before.ino()), (after.mode(), after.uid(), after.ino()));
        project.nothing_left();
        project
    };
    let project = planted(&|folder| {
        let elsewhere = folder.with_file_name("elsewhere");
        fs::create_dir(&elsewhere).expect("our own folder");
        std::os::unix::fs::symlink(&elsewhere, folder).expect("our own folder");
    });
    assert_eq!(fs::read_dir(project.root().join("run/elsewhere")).expect("it is there").count(), 0, "not used");
    let _refused = planted(&|folder| {
        fs::create_dir(folder).expect("our own folder");
        fs::set_permissions(folder, fs::Permissions::from_mode(0o777)).expect("our own folder");
    });
    if is_root() {
        let _refused = planted(&|folder| {
            fs::create_dir(folder).expect("our own folder");
            fs::set_permissions(folder, fs::Permissions::from_mode(0o700)).expect("our own folder");
            std::os::unix::fs::chown(folder, Some(65_534), Some(65_534)).expect("root may");
        });
    }
}

#[test]
fn x05_only_colours_reach_a_terminal() {
    let project = Project::new().procfile("[services.a]\nrun = \"sh a.sh\"\n");
    let evil = "\x1b]52;c;ZXZpbA==\x07\x1b]0;title\x07\x1b[2J\x1b[H\x1bPdcs\x1b\\\u{9b}31m\rover\x08\x07\x1b[31mred\x1b[0m end";
    let octal: String = evil.bytes().map(|byte| format!("\\{byte:03o}")).collect();
    // In one write, then byte by byte.
    let mut script = format!("printf '{octal}\\n'\n");
    for byte in evil.bytes() {
        script.push_str(&format!("printf '\\{byte:03o}'\n"));
    }
    script.push_str("echo\necho all-written\nexec sleep 1000\n");
    project.write("a.sh", &script);
    let mut terminal = project.terminal(&["up"]);
    terminal.wait_for("all-written");
    terminal.interrupt();
    let shown = terminal.outcome().code(130).stdout;
    let lines: Vec<&str> = shown.lines().filter(|line| line.contains(" end")).collect();
    assert_eq!(lines.len(), 2, "{shown:?}");
    for line in lines {
        let text = &line[line.rfind("a |").or_else(|| line.rfind("| ")).unwrap_or(0)..];
        for bad in ["\x1b]", "\x1b[2J", "\x1b[H", "\x1bP", "\u{9b}", "\x07", "\x08", "52;c"] {
            assert!(!text.contains(bad), "{bad:?} in {text:?}");
        }
        assert!(text.contains("red"), "{text:?}");
    }
    // The file has it as it was.
    let raw = fs::read(project.path(".devrun/logs/a.log")).expect("a log");
    let count = raw.windows(evil.len()).filter(|window| *window == evil.as_bytes()).count();
    assert_eq!(count, 2);
    project.nothing_left();
}

#[test]
fn x06_a_secret_is_nowhere_but_where_it_belongs() {
    let project = Project::new().procfile(
        r#"
        [secrets]
        generate = ["key"]
        [defaults]
        env = { LEVEL = "info" }
        [services.one]
        run = "{svc:one}"
        env = { THE_KEY = "${secret.key}" }
        ready = { cmd = "true" }
        [services.two]
        run = "{svc:two} --exit 1 --after 200"
        env = { URL = "http://user:${secret.key}@localhost/" }
        restart = "on-failure:2"
        backoff = { initial = "10ms" }
        [services.three]
        run = "{svc:three}"
        [tasks.t]
        run = "false"
        env = { THE_KEY = "${secret.key}" }
        "#,
    );
    project.run(&["--debug", "up", "-d"]);
    let secret = fs::read_to_string(project.path("secrets/infra/key")).expect("it was made").trim().to_owned();
    let base64 = |text: &str| {
        let done = Command::new("sh").args(["-c", "printf %s \"$0\" | base64 -w0", text]).output().expect("sh runs");
        String::from_utf8(done.stdout).expect("text")
    };
    let forms = [secret.clone(), base64(&secret)];
    let free = |what: &str, text: &str| {
        for form in &forms {
            assert!(!text.contains(form.as_str()), "{what} shows it");
        }
    };
    eventually("two has failed", PATIENCE, || (project.service("two")["state"] == "failed").then_some(()));
    for args in [
        &["ps", "--json"][..],
        &["inspect", "one"],
        &["inspect", "one", "--json"],
        &["config"],
        &["config", "one"],
        &["events", "--json"],
        &["logs"],
        &["--debug", "ps"],
        &["graph"],
        &["urls"],
    ] {
        let run = project.run(args);
        free(&format!("{args:?}"), &format!("{}{}", run.stdout, run.stderr));
    }
    let all = |folder: &Path| below(folder).into_iter().filter(|path| path.is_file()).collect::<Vec<_>>();
    for path in all(&project.path(".devrun")).into_iter().chain(all(&project.root().join("run"))) {
        free(&path.display().to_string(), &String::from_utf8_lossy(&fs::read(&path).unwrap_or_default()));
    }
    // Everybody's argv, and the environment of those that did not name it.
    for entry in fs::read_dir("/proc").expect("/proc").flatten() {
        free("an argv", &String::from_utf8_lossy(&fs::read(entry.path().join("cmdline")).unwrap_or_default()));
    }
    let environ = |pid: i32| String::from_utf8_lossy(&fs::read(format!("/proc/{pid}/environ")).unwrap_or_default()).into_owned();
    let supervisor = project.supervisor();
    free("the supervisor's environment", &environ(supervisor));
    free("the keeper's environment", &environ(project.keepers()[0].pid));
    free("another service's environment", &environ(project.alive("three")[0].pid));
    assert!(environ(project.alive("one")[0].pid).contains(&secret), "the one that named it has it");
    // No core file would hold it: neither of ours is dumpable, and services have their own limit back.
    for pid in [supervisor, project.keepers()[0].pid] {
        let limits = fs::read_to_string(format!("/proc/{pid}/limits")).expect("it lives");
        let line = limits.lines().find(|line| line.starts_with("Max core file size")).expect("the kernel tells");
        assert_eq!(line.split_whitespace().nth(4), Some("0"), "{line}");
        // What is not dumpable belongs to root in `/proc`, whoever runs it.
        assert_eq!(fs::metadata(format!("/proc/{pid}/environ")).expect("it lives").uid(), 0);
    }
    let own = fs::read_to_string("/proc/self/limits").expect("ours");
    let theirs = fs::read_to_string(format!("/proc/{}/limits", project.alive("one")[0].pid)).expect("it lives");
    let core = |text: &str| {
        text.lines().find(|line| line.starts_with("Max core")).map(|line| line.split_whitespace().nth(4).map(str::to_owned))
    };
    assert_eq!(core(&own), core(&theirs));
    signal(supervisor, Signal::SIGABRT);
    project.nothing_left_within(PATIENCE);
    let cores = below(project.root())
        .into_iter()
        .filter(|path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("core")))
        .count();
    assert_eq!(cores, 0);
}
