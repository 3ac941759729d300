//! The options before or after any verb, and the variables that stand for them.

use crate::harness::{Outcome, PATIENCE, Project, eventually, is_root, processes_with, signal, skipped};

const FILE: &str = r#"
    [env]
    V = "${FROM_FILE:-none}"
    [services.a]
    run = "sleep 1000"
    [services.b]
    run = "sleep 1000"
    profiles = ["p"]
    [modes.m]
    services.c.run = "sleep 1000"
"#;

fn laid_out() -> Project {
    let project = Project::new();
    project.write("sub/other.toml", FILE);
    project.write("values", "FROM_FILE=yes-from-there\n");
    project
}

/// What `ps` and `config` make of the options.
fn seen(ps: &Outcome, config: &Outcome) -> Vec<String> {
    let ps = ps.json();
    let mut seen: Vec<String> =
        ["project", "instance", "mode"].iter().map(|key| ps[*key].as_str().unwrap_or_default().to_owned()).collect();
    seen.extend(ps["services"].as_array().into_iter().flatten().map(|one| one["name"].as_str().unwrap_or_default().to_owned()));
    seen.push(config.stdout.contains("yes-from-there").to_string());
    seen
}

/// Shows: devrun --file, devrun --project-directory, devrun --project-name, devrun --instance, devrun --env-file,
/// devrun --mode, devrun --profile, devrun --state-dir, DEVRUN_FILE, DEVRUN_PROJECT_DIRECTORY, DEVRUN_PROJECT_NAME,
/// DEVRUN_MODE, DEVRUN_PROFILE, DEVRUN_ENV_FILE, DEVRUN_INSTANCE, DEVRUN_STATE_DIR.
#[test]
fn global_options_stand_before_or_after_the_verb_or_in_variables() {
    let options = [
        ("--project-directory", "DEVRUN_PROJECT_DIRECTORY", "sub"),
        ("--file", "DEVRUN_FILE", "other.toml"),
        ("--project-name", "DEVRUN_PROJECT_NAME", "shop"),
        ("--mode", "DEVRUN_MODE", "m"),
        ("--profile", "DEVRUN_PROFILE", "nothing,p"),
        ("--env-file", "DEVRUN_ENV_FILE", "values"),
        ("--instance", "DEVRUN_INSTANCE", "two"),
        ("--state-dir", "DEVRUN_STATE_DIR", "state"),
    ];
    let wanted = ["shop", "two", "m", "a", "b", "c", "true"];
    let flags: Vec<&str> = options.iter().flat_map(|(flag, _, value)| [*flag, value.trim_start_matches("nothing,")]).collect();
    let project = laid_out();
    let run = |words: &[&str], before: bool| {
        let line: Vec<&str> =
            if before { flags.iter().chain(words).copied().collect() } else { words.iter().chain(&flags).copied().collect() };
        project.run(&line).code(0)
    };
    for before in [true, false] {
        assert_eq!(seen(&run(&["ps", "--json"], before), &run(&["config"], before)), wanted);
    }
    let mut project = laid_out();
    project.write("sub/other.toml", &format!("{FILE}    [services.d]\n    run = \"sleep 1\"\n    profiles = [\"nothing\"]\n"));
    for (_, variable, value) in options {
        project = project.env(variable, value);
    }
    let wanted = ["shop", "two", "m", "a", "b", "c", "d", "true"];
    assert_eq!(seen(&project.run(&["ps", "--json"]).code(0), &project.run(&["config"]).code(0)), wanted);
    // Commas part profiles; the flag goes before the variable.
    project.run(&["--project-name", "other", "ps", "--json"]).code(0).says("\"other\"");
    project.run(&["up", "-d"]).code(0);
    assert!(project.path("state").is_dir(), "the state lies where it was asked to be");
    project.run(&["down"]).code(0);
    project.run(&["--instance", "No Good", "ps"]).code(2).says("instance");
}

/// Shows: devrun --progress, DEVRUN_PROGRESS, devrun --debug, DEBUG, DEVRUN_COLOR, devrun --color, NO_COLOR, CI.
#[test]
fn talk_and_colour_are_as_they_are_asked_for() {
    let text = "[services.a]\nrun = \"sleep 1000\"\nready = { uptime = \"1ms\" }\n";
    let up = |project: &Project, words: &[&str]| {
        let up = project.run(&[&["up", "-d"], words].concat()).code(0);
        project.run(&["down", "--progress", "quiet"]).code(0);
        up
    };
    let project = Project::new().procfile(text);
    let plain = up(&project, &["--progress", "plain"]);
    assert!(plain.stderr.contains("a") && !plain.stderr.contains('\u{1b}'), "{plain}");
    let quiet = up(&project, &["--progress", "quiet"]);
    assert!(quiet.stderr.len() < plain.stderr.len(), "{quiet}");
    assert!(up(&project, &["--debug"]).stderr.len() > plain.stderr.len(), "what is decided and why");
    let json = up(&project, &["--progress", "json"]);
    let lines: Vec<&str> = json.stderr.lines().chain(json.stdout.lines()).filter(|line| line.starts_with('{')).collect();
    assert!(!lines.is_empty() && lines.iter().all(|line| serde_json::from_str::<serde_json::Value>(line).is_ok()), "{json}");
    let project = project.env("DEVRUN_PROGRESS", "json");
    assert!(up(&project, &[]).to_string().contains("{\""));
    let project = project.env("DEVRUN_PROGRESS", "plain").env("DEBUG", "1");
    assert!(up(&project, &[]).stderr.len() > plain.stderr.len());
    let project = project.env("DEBUG", "0").env("DEVRUN_COLOR", "always");
    project.run(&["doctor"]).says("\u{1b}[");
    project.run(&["doctor", "--color", "never"]).says_not("\u{1b}[");
    // A terminal has colours, unless NO_COLOR or CI says otherwise.
    for (no_color, ci, colours) in [("", "", true), ("1", "", false), ("", "true", false)] {
        let project = Project::new().procfile(text).env("NO_COLOR", no_color).env("CI", ci);
        let on_terminal = "exec python3 -c 'import pty, sys; pty.spawn(sys.argv[1:])' \"$0\" doctor";
        let shown = project.run_in_shell(on_terminal).code(0).says("procfile");
        assert_eq!(shown.stdout.contains("\u{1b}["), colours, "NO_COLOR={no_color:?} CI={ci:?}: {shown}");
    }
}

/// A binary that is not what its pin says is refused before anything of it runs; the store is where it was asked to be be.
///
/// Shows: DEVRUN_BIN_CACHE, exit 8.
#[test]
fn exit_8_for_what_is_not_what_its_sum_says() {
    let project = Project::new();
    let store = project.fill("{dir}/my-store");
    let project = project.env("DEVRUN_BIN_CACHE", &store);
    project.write("thing.toml", "name = \"thing\"\nsummary = \"a thing\"\nbin = [\"thing\"]\nargv = [\"thing\"]\n");
    project.write("thing", "#!/bin/sh\n[ \"$1\" ] && exit 0\ntouch ran\nexec sleep 1000\n");
    let sum = project.run_in_shell("chmod +x thing; tar czf thing.tar.gz thing; sha256sum thing.tar.gz | cut -d' ' -f1").stdout;
    let with = |sum: &str| {
        project.write(
            "procfile.toml",
            &project.fill(&format!(
                "[services.a]\nuse = \"./thing.toml\"\nport = false\n[sources.thing]\nversion = \"1.0\"\nurl = \"file://{{dir}}/thing.tar.gz\"\nsha256 = \"{sum}\"\n"
            )),
        );
    };
    with(&"0".repeat(64));
    let up = project.run(&["up", "-d"]).code(8);
    assert!(up.last_line().contains("integrity") && !project.path("ran").exists(), "{up}");
    with(sum.trim());
    project.run(&["up", "-d"]).code(0);
    assert!(project.path("my-store").is_dir());
    project.run(&["down"]).code(0);
}

/// A child that became another user's cannot be ended by an ordinary one: that is said, and is the exit code.
#[test]
fn exit_9_for_processes_that_are_left() {
    if !is_root() {
        return skipped("only root can lay the trap");
    }
    let python = std::fs::canonicalize("/usr/bin/python3").expect("python3 is there");
    let project = Project::new().for_user(65534);
    let script = project.fill("import os, time; os.setresgid(0, 0, 0); os.setresuid(0, 0, 0); open('up', 'w').close(); time.sleep(1000) # {token}-left-");
    project.write("left.py", &script);
    let trap = project.root().join("trap");
    let made = std::process::Command::new("cp").args([&python, &trap]).status();
    assert!(made.is_ok_and(|status| status.success()));
    let mode = <std::fs::Permissions as std::os::unix::fs::PermissionsExt>::from_mode(0o6755);
    std::fs::set_permissions(&trap, mode).expect("our own file");
    let token = project.fill("{token}-left-");
    let project = project.procfile(&format!(
        "[services.a]\nrun = [\"{}\", \"left.py\", \"{token}\"]\nready = {{ file = \"up\" }}\nstop = {{ grace = \"300ms\" }}\n",
        trap.display()
    ));
    let up = project.run(&["up", "-d"]);
    if up.code != Some(0) {
        return skipped("this file system takes no set-user-id bit");
    }
    let down = project.run(&["down"]).code(9);
    let left = processes_with(&token);
    assert!(left.iter().all(|one| down.stderr.contains(&one.pid.to_string())) && !left.is_empty(), "{left:?} {down}");
    for one in left {
        signal(one.pid, nix::sys::signal::Signal::SIGKILL);
    }
    eventually("the trap's end", PATIENCE, || processes_with(&token).is_empty().then_some(()));
    project.nothing_left();
}
