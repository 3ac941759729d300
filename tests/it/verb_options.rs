//! The options of the verbs that no other test is about, each seen to do what its help says.

use nix::sys::signal::Signal;

use crate::harness::{Outcome, PATIENCE, Project, eventually};

const TWO: &str = r#"
    [services.db]
    run = "{svc:db} --listen $PORT"
    port = "auto"
    ready = { tcp = true, interval = "100ms" }
    [services.api]
    run = "{svc:api}"
    depends_on = { db = { restart = true } }
    [services.side]
    run = "{svc:side}"
"#;

fn names(listed: &Outcome) -> Vec<String> {
    listed.stdout.lines().map(str::to_owned).collect()
}

/// Shows: up --detach, up --no-deps.
#[test]
fn verb_up_no_deps_starts_only_what_is_named() {
    let project = Project::new().procfile(TWO);
    project.run(&["up", "--detach", "--no-deps", "api"]).code(0);
    assert!(project.alive("db").is_empty() && project.alive("side").is_empty());
    assert_eq!(project.alive("api").len(), 1);
    project.run(&["down"]).code(0);
}

#[test]
fn verb_up_abort_on_failure_takes_everything_down() {
    let project = Project::new().procfile(
        "[services.a]\nrun = \"{svc:a}\"\n[services.b]\nrun = [\"sh\", \"-c\", \"until [ -e go ]; do sleep 0.05; done; exit 7\"]\n",
    );
    for word in ["--abort-on-failure", "--abort-on-container-exit"] {
        let up = project.start(&["up", word]);
        project.wait_state("a", "running");
        project.write("go", "");
        up.outcome().code(1).says("7");
        project.nothing_left();
        std::fs::remove_file(project.path("go")).expect("our own file");
    }
}

/// A detached start that gives up returns when all of it has ended, also what takes its time.
#[test]
fn verb_up_abort_on_failure_waits_for_the_end() {
    let project = Project::new().procfile(
        "[services.a]\nrun = \"{svc:a} --stop-takes 1500\"\n\
         [services.b]\nrun = \"{svc:b}\"\ndepends_on = [\"a\"]\nready = { file = \"never\", within = \"300ms\" }\n",
    );
    project.run(&["up", "-d", "--abort-on-failure"]).code(3);
    assert!(project.alive("a").is_empty() && project.alive("b").is_empty());
    project.nothing_left();
}

/// Services that crash and come back are never all up at one moment; the start is over all the same.
#[test]
fn verb_up_detach_settles_with_several_crash_loops() {
    let mut text = "[services.ok]\nrun = \"{svc:ok}\"\n".to_owned();
    for n in 1..=3 {
        text.push_str(&format!("[services.s{n}]\nrun = \"sh -c 'exit 1'\"\nrestart = \"always\"\n"));
    }
    let project = Project::new().procfile(&text);
    let up = project.run(&["up", "-d"]).code(1).says("within moments, also after 3 restarts");
    assert!(up.took < std::time::Duration::from_secs(25), "{up}");
    assert_eq!(project.service("ok")["state"], "running");
    project.run(&["down"]).code(0);
}

#[test]
fn verb_up_scale_makes_copies() {
    let project = Project::new().procfile("[services.w]\nrun = \"{svc:w}\"\n");
    project.run(&["up", "-d", "--scale", "w=3"]).code(0);
    assert_eq!(names(&project.run(&["ps", "-q"]).code(0)), ["w.1", "w.2", "w.3"]);
    assert_eq!(project.alive("w").len(), 3);
    project.run(&["up", "-d", "--scale", "w=1"]).code(0).says("stopped w.2 and w.3").says_not("nothing to do");
    project.run(&["down"]).code(0);
    project.run(&["up", "-d", "--scale", "nobody=2"]).code(2).says("nobody");
    // It holds for `start` and `restart`, of others too, until the next `up`.
    project.rewrite("[services.w]\nrun = \"{svc:w}\"\nreplicas = 2\n[services.r]\nrun = \"{svc:r}\"\n");
    project.run(&["up", "-d", "--scale", "w=1"]).code(0);
    for command in [&["stop", "r"][..], &["start", "r"], &["restart", "w"], &["up", "-d", "r"]] {
        project.run(command).code(0);
        assert_eq!(names(&project.run(&["ps", "-q"]).code(0)), ["r", "w"], "{command:?}");
    }
    project.run(&["up", "-d"]).code(0);
    assert_eq!(names(&project.run(&["ps", "-q"]).code(0)), ["r", "w", "w.2"]);
    project.run(&["up", "-d", "--scale", "w=1"]).code(0);
    project.run(&["down"]).code(0);
    project.run(&["run", "--", "true"]).code(0).says("w.2");
    project.run(&["up", "-d", "--scale", "w"]).code(2);
}

#[test]
fn verb_up_ports_auto_moves_every_port() {
    let project =
        Project::new().procfile("[services.a]\nrun = \"{svc:a} --listen $PORT\"\nport = 4321\nready = { tcp = true }\n");
    project.run(&["up", "-d", "--ports", "auto"]).code(0);
    let port = project.service("a")["ports"]["main"].as_u64().expect("a port");
    assert_ne!(port, 4321);
    assert!(std::net::TcpStream::connect(("127.0.0.1", u16::try_from(port).expect("a port"))).is_ok());
    project.run(&["down"]).code(0);
    project.run(&["up", "-d", "--ports", "random"]).code(2).says("auto");
}

/// Shows: up --timeout.
#[test]
fn verb_up_timeout_bounds_the_whole_start() {
    let project = Project::new().procfile("[services.slow]\nrun = \"{svc:slow}\"\nready = { file = \"never\" }\n");
    project.run(&["up", "-d", "--timeout", "700ms"]).code(124).says("slow");
    project.run(&["down"]).code(0);
    project.run(&["up", "-d", "-t", "700ms", "--rollback"]).code(124);
    project.nothing_left();
    project.run(&["up", "-d", "--timeout", "soon"]).code(2).says("soon");
}

/// No network: what is not here is said, and the place that was looked at is the mirror's.
///
/// Shows: up --offline, up --mirror, run --offline, run --mirror, fetch --mirror.
#[test]
fn offline_fetches_nothing_and_a_mirror_stands_for_every_host() {
    let text = "[services.a]\nuse = \"thing\"\n[sources.thing]\nversion = \"1.0\"\nurl = \"https://downloads.invalid/thing-{version}.tar.gz\"\n";
    let recipe = "name = \"thing\"\nsummary = \"a thing\"\nbin = [\"thing\"]\nargv = [\"thing\"]\n";
    let project = Project::new();
    project.write("thing.toml", recipe);
    project.write("procfile.toml", &text.replace("\"thing\"\n[", "\"./thing.toml\"\n["));
    let empty = project.fill("file://{dir}/mirror");
    std::fs::create_dir(project.path("mirror")).expect("our own folder");
    for args in [&["up", "-d", "--offline"][..], &["run", "--offline", "--", "true"], &["fetch", "--offline"]] {
        let said = project.run(args);
        project.run(&["down"]).code(0);
        assert!(matches!(said.code, Some(7)), "{said}");
        let said = said.says("thing");
        assert!(said.stderr.contains("offline") || said.stderr.contains("--offline"), "{said}");
    }
    for args in
        [&["up", "-d", "--mirror", &empty][..], &["run", "--mirror", &empty, "--", "true"], &["fetch", "--mirror", &empty]]
    {
        let said = project.run(args);
        project.run(&["down"]).code(0);
        assert!(said.code.is_some_and(|code| code != 0), "{said}");
        let _ = said.says("mirror").says_not("resolve");
    }
    let project = project.env("DEVRUN_OFFLINE", "true");
    project.run(&["fetch"]).code(7);
    let project = project.env("DEVRUN_OFFLINE", "false").env("DEVRUN_MIRROR", &empty);
    let said = project.run(&["fetch"]);
    assert!(said.code.is_some_and(|code| code != 0), "{said}");
    let _ = said.says("mirror");
}

/// Shows: ps --quiet, ps --status, ps --watch.
#[test]
fn verb_ps_lists_names_filters_and_follows() {
    let project = Project::new().procfile(TWO);
    project.run(&["up", "-d"]).code(0);
    let mut all = names(&project.run(&["ps", "--quiet"]).code(0));
    all.sort();
    assert_eq!(all, ["api", "db", "side"]);
    assert_eq!(names(&project.run(&["ps", "-q", "--status", "healthy"]).code(0)), ["db"]);
    assert!(names(&project.run(&["ps", "-q", "--status", "failed"]).code(0)).is_empty());
    let mut watching = project.start(&["ps", "--watch", "-q"]);
    watching.wait_for("side");
    project.run(&["stop", "side"]).code(0);
    assert_eq!(names(&project.run(&["ps", "-q", "--status", "stopped"]).code(0)), ["side"]);
    project.run(&["down"]).code(0);
    // Its last look is at a stack that is down.
    watching.outcome().code(0);
}

/// Shows: logs --follow, logs --timestamps, events --follow.
#[test]
fn verb_logs_and_events_follow_until_the_stack_is_down() {
    let project = Project::new().procfile(
        "[services.a]\nrun = [\"sh\", \"-c\", \"n=0; while :; do n=$((n+1)); echo line-$n; sleep 0.05; done\"]\nrestart = \"always\"\n",
    );
    project.run(&["up", "-d"]).code(0);
    let mut logs = project.start(&["logs", "--follow", "--timestamps", "-n", "1", "a"]);
    let mut events = project.start(&["events", "--follow"]);
    logs.wait_for("line-");
    let first = logs.stdout().lines().count();
    eventually("more lines", PATIENCE, || (logs.stdout().lines().count() > first + 2).then_some(()));
    let line = logs.stdout().lines().next().unwrap_or_default().to_owned();
    let stamp = line.split_whitespace().find(|word| word.ends_with('Z')).unwrap_or_default();
    assert_eq!((stamp.len(), &stamp[10..11]), (27, "T"), "RFC 3339, six digits: {line:?}");
    project.run(&["restart", "a"]).code(0);
    events.wait_for("stopping");
    project.run(&["down"]).code(0);
    events.wait_for("stopped");
    // Both go on, as the next start is worth following too, until they are told to end.
    project.run(&["up", "-d"]).code(0);
    eventually("the second start", PATIENCE, || (events.stdout().matches("→ running").count() >= 3).then_some(()));
    for following in [logs, events] {
        following.signal(Signal::SIGTERM);
        let ended = following.outcome();
        assert_eq!((ended.code, ended.signal), (None, Some(15)), "{ended}");
    }
}

#[test]
fn verb_kill_signal_takes_names_and_numbers() {
    let project = Project::new().procfile(
        "[services.a]\nrun = [\"sh\", \"-c\", \"trap 'echo hup >> got' HUP; trap 'echo usr >> got' USR1; echo > up; while :; do sleep 0.05; done\"]\n",
    );
    project.run(&["up", "-d"]).code(0);
    eventually("the traps", PATIENCE, || project.path("up").exists().then_some(()));
    for (word, got) in [("HUP", "hup\n"), ("SIGUSR1", "hup\nusr\n"), ("1", "hup\nusr\nhup\n")] {
        project.run(&["kill", "--signal", word, "a"]).code(0);
        eventually(word, PATIENCE, || (project.read("got") == got).then_some(()));
    }
    project.run(&["kill", "-s", "NOSUCH", "a"]).code(2);
    project.run(&["down", "-t", "200ms"]).code(0);
    project.run(&["kill", "-s", "TERM", "a"]).code(6);
}

#[test]
fn verb_restart_with_dependents_takes_them_along() {
    let project = Project::new().procfile(&TWO.replace("depends_on = { db = { restart = true } }", "depends_on = [\"db\"]"));
    project.run(&["up", "-d"]).code(0);
    let pid = |name: &str| project.service(name)["pid"].as_i64();
    let before = (pid("db"), pid("api"), pid("side"));
    project.run(&["restart", "db"]).code(0);
    assert!(pid("db") != before.0 && pid("api") == before.1);
    project.run(&["restart", "--with-dependents", "db"]).code(0);
    assert!(pid("api") != before.1 && pid("side") == before.2);
    project.run(&["down"]).code(0);
}

#[test]
fn verb_down_timeout_shortens_every_grace() {
    let project = Project::new().procfile("[services.a]\nrun = \"{svc:a} --ignore-term\"\nstop = { grace = \"60s\" }\n");
    project.run(&["up", "-d"]).code(0);
    let down = project.run(&["down", "--timeout", "300ms"]).code(0).says("killed");
    assert!(down.took < std::time::Duration::from_secs(20), "{down}");
    project.nothing_left();
}

/// Shows: wait --all, wait --for, wait --verbose.
#[test]
fn verb_wait_for_each_condition() {
    let project = Project::new().procfile(
        r#"
        [services.db]
        run = "{svc:db}"
        ready = { file = "there", interval = "50ms" }
        [services.plain]
        run = "{svc:plain}"
        [tasks.once]
        run = "true"
        "#,
    );
    project.run(&["up", "-d", "--no-wait"]).code(0);
    project.run(&["wait", "db", "--timeout", "300ms"]).code(3).says("db");
    project.run(&["wait", "--for", "healthy", "plain", "--timeout", "300ms"]).code(3);
    project.run(&["wait", "plain", "once"]).code(0);
    let waiting = project.start(&["wait", "--all", "--verbose", "--", "sh", "-c", "echo ran; exit 5"]);
    project.write("there", "");
    waiting.outcome().code(5).says("ran").says("all hold");
    project.run(&["wait", "--for", "healthy", "db"]).code(0);
    project.run(&["wait", "--for", "exited", "plain", "--timeout", "300ms"]).code(3);
    let waiting = project.start(&["wait", "--for", "stopped", "plain"]);
    project.run(&["stop", "plain"]).code(0);
    waiting.outcome().code(0);
    project.run(&["down"]).code(0);
    project.run(&["wait", "--for", "sunshine", "db"]).code(2);
    project.run(&["wait", "db", "--timeout", "100ms"]).code(6);
}

/// Shows: wait --retries, wait --interval, wait --max-ms.
#[test]
fn verb_wait_for_addresses_counts_and_measures() {
    let project = Project::new().procfile(
        r#"
        [services.slow]
        run = ["python3", "slow.py", "${PORT}"]
        port = "auto"
        ready = { tcp = true }
        "#,
    );
    project.write(
        "slow.py",
        "import http.server, sys, time\nclass H(http.server.BaseHTTPRequestHandler):\n    def do_GET(self):\n        time.sleep(0.3)\n        \
         self.send_response(200)\n        self.end_headers()\n    def log_message(self, *a):\n        print('asked', flush=True)\n\
         http.server.ThreadingHTTPServer(('127.0.0.1', int(sys.argv[1])), H).serve_forever()\n",
    );
    project.run(&["up", "-d"]).code(0);
    let port = |name: &str| project.service(name)["ports"]["main"].to_string();
    // A path of its own: a bare address is asked for its well-known ones in turn.
    let slow = format!("http://127.0.0.1:{}/x", port("slow"));
    project.run(&["wait", &slow, "--max-ms", "20000"]).code(0);
    let asked = |project: &Project| project.run(&["logs", "slow", "--no-prefix"]).stdout.matches("asked").count();
    let before = asked(&project);
    project.run(&["wait", &slow, "--max-ms", "20", "--retries", "3", "--interval", "50ms"]).code(3);
    eventually("three attempts", PATIENCE, || (asked(&project) == before + 3).then_some(()));
    let project = project.env("MAX_RETRIES", "2").env("RETRY_INTERVAL", "1").env("TIMEOUT", "30");
    let waited = project.run(&["wait", &slow, "--max-ms", "20"]).code(3);
    assert!(waited.took >= std::time::Duration::from_secs(1), "the interval is a second\n{waited}");
    eventually("two more", PATIENCE, || (asked(&project) == before + 5).then_some(()));
    project.run(&["down"]).code(0);
}

/// Shows: run --junit, run --artifacts.
#[test]
fn verb_run_leaves_a_report_and_artifacts() {
    let project = Project::new().procfile(
        r#"
        [services.good]
        run = ["sh", "-c", "echo said-good secret-$API_TOKEN; touch up; exec sleep 1000"]
        env = { API_TOKEN = "never-shown" }
        ready = { file = "up" }
        [services.later]
        run = "sleep 1000"
        depends_on = ["good"]
        "#,
    );
    let args = ["run", "--junit", "out.xml", "--artifacts", "out", "--", "sh", "-c", "exit 3"];
    project.run(&args).code(3);
    let xml = project.read("out.xml");
    for part in ["tests=\"3\" failures=\"1\" skipped=\"0\"", "name=\"good\"", "name=\"later\"", "message=\"exit 3\""] {
        assert!(xml.contains(part), "lacks {part}: {xml}");
    }
    assert!(project.read("out/good.log").contains("said-good secret-"), "{}", project.read("out/good.log"));
    assert!(project.read("out/events.jsonl").contains("\"to\":\"stopped\"") && project.path("out/ps.json").exists());
    for file in ["out.xml", "out/good.log", "out/ps.json", "out/events.jsonl"] {
        assert!(!project.read(file).contains("never-shown"), "{file}");
    }
    // A start that fails: the culprit with its last lines, and who was blocked; the command never began.
    project.rewrite("[services.bad]\nrun = \"sh -c 'echo \\\"<broken> & gone\\\"; exit 9'\"\nready = { file = \"x\" }\n[services.b]\nrun = \"sleep 1\"\ndepends_on = [\"bad\"]\n");
    project.run(&["run", "--junit", "out.xml", "--", "touch", "begun"]).code(1);
    let xml = project.read("out.xml");
    for part in ["failures=\"1\" skipped=\"2\"", "&lt;broken&gt; &amp; gone", "blocked by bad", "exit 9"] {
        assert!(xml.contains(part), "lacks {part}: {xml}");
    }
    let parsed = project.run_in_shell("python3 -c \"import xml.dom.minidom as m; m.parse('out.xml')\"").code(0);
    assert!(!project.path("begun").exists(), "{parsed}");
}

#[test]
fn a_report_that_cannot_be_written_fails_the_run_before_anything_starts() {
    let project = Project::new()
        .procfile("[services.a]\nrun = \"sh -c 'touch started; exec sleep 1000'\"\nready = { file = \"started\" }\n");
    project.write("file", "");
    for option in ["--junit", "--artifacts"] {
        let out = project.run(&["run", option, "file/x", "--", "true"]).code(2);
        assert!(out.last_line().contains("file/x"), "{out}");
        assert!(!project.path("started").exists(), "{out}");
    }
    // A directory that is missing is made, as in a clean checkout.
    project.run(&["run", "--junit", "made/by/x.xml", "--artifacts", "made/too", "--", "true"]).code(0);
    assert!(project.read("made/by/x.xml").contains("name=\"a\""));
    // Taken away while the command runs: the tests passed, the report is missing.
    let out = project.run(&["run", "--junit", "gone/x.xml", "--", "rm", "-r", "gone"]).code(2);
    assert!(out.last_line().contains("gone/x.xml"), "{out}");
}

#[test]
fn a_report_holds_what_was_started_with_its_time() {
    let project = Project::new().procfile(
        r#"
        [services.db]
        run = "sh -c 'sleep 0.4; touch up; exec sleep 1000'"
        ready = { file = "up" }
        [tasks.seed]
        run = "sleep 0.3"
        depends_on = ["db"]
        [services.web]
        run = "sleep 1000"
        "#,
    );
    let run = ["run", "--junit", "out.xml", "--artifacts", "out", "seed", "--", "true"];
    project.run(&run).code(0);
    let xml = project.read("out.xml");
    assert!(xml.contains("tests=\"3\" failures=\"0\" skipped=\"0\""), "{xml}");
    assert!(!xml.contains("name=\"web\"") && !project.path("out/web.log").exists(), "it was not started: {xml}");
    let time = |name: &str| {
        let (_, rest) = xml.split_once(&format!("name=\"{name}\" time=\"")).unwrap_or_else(|| panic!("lacks {name}: {xml}"));
        rest.split('"').next().and_then(|text| text.parse::<f64>().ok()).unwrap_or_default()
    };
    assert!(time("db") >= 0.4 && time("seed") >= 0.3, "{xml}");
    // A start that is ended by its time-out: what never became ready has not passed.
    project.rewrite("[project]\ntimeout = \"1s\"\n[services.slow]\nrun = \"sleep 1000\"\nready = { file = \"never\" }\n[services.after]\nrun = \"sleep 1000\"\ndepends_on = [\"slow\"]\n");
    project.run(&["run", "--junit", "out.xml", "--", "true"]).code(124);
    let xml = project.read("out.xml");
    assert!(xml.contains("failures=\"2\"") && xml.contains("skipped=\"1\"") && xml.contains("waiting for slow"), "{xml}");
}

/// Shows: import --output, import --quiet, init --output, export --output, report --output, check --quiet, ls --quiet, lock --update.
#[test]
fn outputs_go_where_they_are_told_and_quiet_is_quiet() {
    let project = Project::new();
    project.write("compose.yml", "services:\n  a:\n    image: redis:7\n    privileged: true\n");
    project.run(&["import", "compose.yml", "--output", "made.toml"]).code(0);
    assert!(project.read("made.toml").contains("[services.a]"));
    let loud = project.run(&["import", "compose.yml", "-o", "-"]).code(0);
    let quiet = project.run(&["import", "compose.yml", "-o", "-", "--quiet"]).code(0);
    assert!(quiet.stderr.len() < loud.stderr.len() && quiet.stdout == loud.stdout, "{loud}\n{quiet}");
    project.run(&["init", "--output", "first.toml"]).code(0);
    assert!(project.path("first.toml").exists() && !project.path("procfile.toml").exists());
    let project = project.procfile(TWO);
    project.run(&["export", "compose", "--output", "again.yml"]).code(0);
    assert!(project.read("again.yml").contains("services:"));
    project.run(&["report", "--output", "r.tar.gz"]).code(0).says("r.tar.gz");
    assert!(project.path("r.tar.gz").exists());
    let quiet = project.run(&["check", "--quiet"]).code(0);
    assert_eq!((quiet.stdout.as_str(), quiet.stderr.as_str()), ("", ""));
    project.run(&["up", "-d"]).code(0);
    // Other stacks of this user may be up.
    let listed = project.run(&["ls", "--quiet"]).code(0);
    assert!(listed.stdout.lines().any(|line| line == project.fill("{dir}")), "{listed}");
    project.run(&["down"]).code(0);
    // Nothing to pin: no recipe is used, and nothing is fetched for it.
    project.run(&["lock", "--update"]).code(0);
}

#[test]
fn verb_version_and_help_answer_without_a_project() {
    let project = Project::new();
    let version = project.run(&["version"]).code(0).stdout;
    assert!(version.contains(env!("CARGO_PKG_VERSION")) && project.run(&["--version"]).code(0).stdout == version, "{version}");
    let help = project.run(&["help"]).code(0).stdout;
    assert_eq!(help, project.run(&["--help"]).code(0).stdout);
    assert!(help.contains("Examples:") && help.contains("restart"));
    assert_eq!(project.run(&["help", "up"]).code(0).stdout, project.run(&["up", "--help"]).code(0).stdout);
    // The short help of a verb has its example too.
    project.run(&["up", "-h"]).code(0).says("devrun up -d");
}

/// Shows: version, help.
#[test]
fn a_signal_that_ends_a_wait_is_its_code() {
    let project = Project::new();
    let waiting = project.start(&["wait", "tcp://127.0.0.1:1", "--timeout", "60s", "-v"]);
    eventually("an attempt", PATIENCE, || waiting.stderr().contains("refused").then_some(()));
    waiting.signal(Signal::SIGTERM);
    waiting.outcome().code(143);
    let _ = project.run(&["version"]).code(0);
    let _ = project.run(&["help"]).code(0);
}

/// Shows: top, ps --watch.
#[test]
fn a_picture_that_is_drawn_again_takes_the_place_of_the_one_before() {
    let project = Project::new().procfile("[services.a]\nrun = \"{svc:a}\"\n");
    project.run(&["up", "-d"]).code(0);
    for words in [&["top"][..], &["ps", "--watch"]] {
        let mut terminal = project.terminal(words);
        terminal.wait_for("\u{1b}[H\u{1b}[2J");
        terminal.wait_for("a ");
        terminal.interrupt();
        let shown = terminal.outcome().stdout;
        assert!(!shown.contains("\\u001b"), "{words:?}: {shown}");
    }
    project.run(&["down"]).code(0);
}
