//! A plain `Procfile`; and texts that are none at all.

use std::time::Duration;

use crate::harness::{PATIENCE, Project, eventually};

/// The shape that Rails, Django and Node projects publish: a bundle of commands with shell syntax, `$PORT`, `${PORT:-…}`, an
/// assignment in front, a loop, and a release line that ends.
const PUBLIC: &str = "# Heroku, foreman, overmind\n\
web: cd api && exec ./serve.sh web $PORT\n\
worker: QUEUES=\"default,mail\" ./serve.sh worker ${PORT} ${RAILS_MAX_THREADS:-5} \"$QUEUES_UNSET\"\n\
css: for step in 1 2; do echo \"built $step\" >> css; done; ./serve.sh css $PORT $$ | cat\n\
release: ./serve.sh release $((PORT + 1)) && exit 0\n";

const SERVE: &str = "#!/bin/sh\n\
name=$1; shift\n\
echo \"$name port=$1 threads=$2 queues=$QUEUES dotenv=$FROM_DOTENV\" > \"$HERE/$name.out\"\n\
[ \"$name\" = release ] && exit 0\n\
[ \"$name\" = web ] && exec python3 -m http.server --bind 127.0.0.1 \"$1\"\n\
exec sleep 1000\n";

/// A Procfile's `web` is on port 5000, of which there is one.
fn port_5000() -> std::sync::MutexGuard<'static, ()> {
    static PORT: std::sync::Mutex<()> = std::sync::Mutex::new(());
    PORT.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

fn public() -> Project {
    let project = Project::new();
    let here = project.fill("{dir}");
    let project = project.env("HERE", &here);
    project.write("Procfile", PUBLIC);
    project.write(".env", "FROM_DOTENV='yes it is'\n");
    for path in ["serve.sh", "api/serve.sh"] {
        project.write(path, SERVE);
        let made = std::process::Command::new("chmod").args(["+x", path]).current_dir(project.dir()).status();
        assert!(made.is_ok_and(|status| status.success()));
    }
    project
}

#[test]
fn a_public_procfile_comes_up_unchanged() {
    let _held = port_5000();
    let project = public();
    project.run(&["up", "-d"]).code(0);
    let read = |name: &str| {
        eventually(&format!("{name}.out"), PATIENCE, || {
            Some(project.read(&format!("{name}.out"))).filter(|text| text.ends_with('\n'))
        })
    };
    assert_eq!(read("web"), "web port=5000 threads= queues= dotenv=yes it is\n");
    assert_eq!(read("worker"), "worker port=5100 threads=5 queues=default,mail dotenv=yes it is\n");
    assert!(read("css").starts_with("css port=5200 threads="), "{}", read("css"));
    assert_eq!(project.read("css"), "built 1\nbuilt 2\n");
    assert_eq!(read("release"), "release port=5301 threads= queues= dotenv=yes it is\n");
    assert_eq!(project.service("web")["ports"]["main"], 5000);
    assert!(project.service("worker")["ports"].as_object().is_none_or(serde_json::Map::is_empty));
    project.wait_state("release", "completed");
    project.run(&["logs", "worker"]).code(0);
    project.run(&["restart", "worker"]).code(0);
    project.run(&["down"]).code(0);
    project.nothing_left();
}

/// The Procfiles that `rails new` and the Django tutorials lead to, as they are; behind the words stand the project's own
/// programs, which serve and end as the real ones do.
#[test]
fn procfiles_of_rails_and_django_come_up_unchanged() {
    let _held = port_5000();
    let rails = "web: env RUBY_DEBUG_OPEN=true bin/rails server -p ${PORT:-3000}\n\
                 js: yarn() { exec sleep 1000; }; yarn build --watch\n\
                 css: bin/rails tailwindcss:watch[always]\n\
                 worker: bundle=1 bin/rails jobs:work 2>&1 | cat\n\
                 release: bin/rails db:migrate && echo migrated >> done\n";
    let django = "release: python3 manage.py migrate --noinput\n\
                  web: python3 manage.py runserver 127.0.0.1:$PORT\n\
                  worker: python3 manage.py qcluster\n";
    let program = "import http.server, os, sys, time\n\
                   words = sys.argv[1:]\n\
                   open('words', 'a').write(' '.join(words) + chr(10))\n\
                   if words[0] in ('db:migrate', 'migrate'):\n    open('done', 'a').write('migrated' + chr(10))\n    sys.exit(0)\n\
                   if words[0] in ('server', 'runserver'):\n    port = words[-1].split(':')[-1]\n    \
                   http.server.ThreadingHTTPServer(('127.0.0.1', int(port)), http.server.SimpleHTTPRequestHandler).serve_forever()\n\
                   time.sleep(1000)\n";
    for (text, more) in [
        (rails, &["tailwindcss:watch[always]", "jobs:work", "server -p 5000"][..]),
        (django, &["qcluster", "runserver 127.0.0.1:"]),
    ] {
        let project = Project::new();
        project.write("Procfile", text);
        project.write("manage.py", program);
        project.write("bin/rails", &format!("#!/usr/bin/env python3\n{program}"));
        project.run_in_shell("chmod +x bin/rails").code(0);
        project.run(&["check"]).code(0);
        project.run(&["up", "-d"]).code(0);
        project.wait_state("release", "completed");
        let port = project.service("web")["ports"]["main"].to_string();
        project.run(&["wait", &format!("http://127.0.0.1:{port}/"), "--timeout", "30s"]).code(0);
        eventually("every program's words", PATIENCE, || {
            more.iter().all(|words| project.read("words").contains(words)).then_some(())
        });
        assert!(project.read("done").contains("migrated"));
        assert_eq!(project.service("worker")["state"], "running");
        project.run(&["down"]).code(0);
        project.nothing_left();
    }
}

#[test]
fn run_of_cd_and_npm_serves_and_leaves_nothing() {
    let _held = port_5000();
    let npm = std::process::Command::new("npm").arg("--version").output();
    if !npm.is_ok_and(|done| done.status.success()) {
        return crate::harness::skipped("no npm");
    }
    let project =
        Project::new().procfile("[services.front]\nrun = \"cd api && npm run dev\"\nport = \"auto\"\nready = { http = \"/\" }\n");
    project.write("api/package.json", "{ \"name\": \"api\", \"scripts\": { \"dev\": \"node server.js --port $PORT\" } }\n");
    project.write(
        "api/server.js",
        "require('http').createServer((request, answer) => answer.end('here')).listen(+process.argv[3], '127.0.0.1');\n",
    );
    project.run(&["up", "-d"]).code(0);
    assert_eq!(project.service("front")["health"], "healthy");
    project.run(&["down"]).code(0);
    project.nothing_left();
}

#[test]
fn a_procfile_is_found_named_and_checked() {
    let _held = port_5000();
    let project = Project::new();
    project.write("sub/Procfile", "web: {token}\n");
    project.write("Procfile.dev", "web: sleep 1000\nbroken line\nweb: again\n");
    project
        .run(&["-f", "Procfile.dev", "check"])
        .code(2)
        .says("Procfile.dev:2:1")
        .says("this line has no `NAME: COMMAND`")
        .says("two lines for `web`");
    project.write("Procfile.dev", "web: sleep 1000\n");
    project.run(&["-f", "Procfile.dev", "check"]).code(0);
    // procfile.toml goes first, and both may be given together.
    project
        .write("procfile.toml", "[services.web]\nrestart = \"always\"\nready = false\n[services.more]\nrun = \"sleep 1000\"\n");
    project.run(&["-f", "Procfile.dev", "-f", "procfile.toml", "up", "-d"]).code(0);
    assert_eq!(project.service("web")["state"], "running");
    assert_eq!(project.service("more")["state"], "running");
}

#[test]
fn a_first_port_that_is_none_or_leaves_too_few_is_an_error_with_its_place() {
    let project = Project::new();
    project.write("Procfile", "web: sleep 1000\nworker: sleep 1000\nclock: sleep 1000\n");
    for (env, place, help) in [
        ("A=1\nPORT=abc\n", ".env:2:6: invalid port `abc`", "write PORT=5000 in .env"),
        ("PORT=65536\n", ".env:1:6: invalid port `65536`", "write PORT=5000 in .env"),
        ("PORT=65500\n", "Procfile:2:1: error: `worker` would get the port 65600", "set PORT=5000 in .env"),
    ] {
        project.write(".env", env);
        for command in ["check", "config"] {
            project.run(&[command]).code(2).says(place).says(help).says_not("panic");
        }
    }
    project.write(".env", "PORT=65335\n");
    project.run(&["check"]).code(0);
}

/// `import` refuses a line that could not be a service, with its place, and writes nothing. `init`, which takes over what it can, changes
/// names, leaves an unclosed quote to the shell, and says both; `check` passes what it writes.
#[test]
fn lines_that_could_not_be_services_give_no_procfile_that_check_refuses() {
    let long = "a".repeat(64);
    let long_line = format!("{long}: sleep 1\n");
    let twins = format!("{long}: sleep 1\n{long}b: sleep 2\n");
    for (text, place, init) in [
        (
            "web: sleep 1\nw: echo 'x\n",
            "Procfile.dev:2:4: error: the command has a ' that is never closed",
            "w: a ' in its command",
        ),
        ("w: echo \"x\n", "Procfile.dev:1:4: error: the command has a \" that is never closed", "w: a \" in its command"),
        (
            long_line.as_str(),
            "Procfile.dev:1:1: error: a service name has at most 63 characters",
            "(from Procfile.dev, where it is `aaa",
        ),
        (twins.as_str(), "Procfile.dev:2:1: error: a service name has at most 63 characters", "sleep 2 (from Procfile.dev"),
        ("a b: sleep 1\n", "Procfile.dev:1:1: error: ' ' cannot stand", "a-b: sleep 1 (from Procfile.dev, where it is `a b`)"),
        (
            "web.1: sleep 1\n",
            "Procfile.dev:1:1: error: '.' cannot stand",
            "web-1: sleep 1 (from Procfile.dev, where it is `web.1`)",
        ),
        (
            "x: true\n_w: sleep 1\n",
            "Procfile.dev:2:1: error: a service name starts",
            "w: sleep 1 (from Procfile.dev, where it is `_w`)",
        ),
        ("w: sleep 1\nW: sleep 2\n", "", "w-w: sleep 2 (from Procfile.dev, where it is `W`)"),
    ] {
        let project = Project::new();
        project.write("Procfile.dev", text);
        if place.is_empty() {
            project.run(&["-f", "Procfile.dev", "check"]).code(0);
        } else {
            project.run(&["import", "Procfile.dev"]).code(2).says(place).says_not("list of words");
            assert!(!project.path("procfile.toml").exists(), "{text}");
        }
        project.run(&["init"]).code(0).says(init);
        project.run(&["-f", "procfile.toml", "check"]).code(0);
    }
}

/// Shows: service.port.
#[test]
fn run_takes_cd_and_both_spellings_of_port() {
    let _held = port_5000();
    let project = Project::new().procfile(
        r#"
        [services.npm]
        run = "cd api && sh ./dev.sh run dev"
        port = "auto"
        ready = false
        [services.port]
        run = "sh api/dev.sh ${PORT} $PORT"
        port = "auto"
        ready = false
        "#,
    );
    project.write("api/dev.sh", "echo \"$* $PWD\" > \"$DEVRUN_SERVICE.out\"\nexec sleep 1000\n");
    project.run(&["up", "-d"]).code(0);
    let read = |name: &str| eventually(name, PATIENCE, || Some(project.read(name)).filter(|text| text.ends_with('\n')));
    assert_eq!(read("api/npm.out"), project.fill("run dev {dir}/api\n"));
    let port = project.service("port")["ports"]["main"].to_string();
    assert_eq!(read("port.out"), project.fill(&format!("{port} {port} {{dir}}\n")));
}

#[test]
fn ten_megabytes_of_junk_are_no_hang() {
    let junk: Vec<(&str, String)> = vec![
        ("brackets", "[".repeat(10 << 20)),
        ("keys", "a = 1\n".repeat((10 << 20) / 6)),
        ("bytes", "\u{1}\"'#=[{é".repeat(1 << 20)),
        ("one word", "x".repeat(10 << 20)),
        ("dollars", format!("[services.a]\nrun = \"{}\"\n", "${A".repeat((10 << 20) / 3))),
    ];
    for (name, text) in junk {
        let project = Project::new();
        project.write("procfile.toml", &text);
        // Of the processor, not of the wall clock: what else the machine does is not what is measured. A debug binary takes
        // up to a second, and one whose time grows with the square of the length would take hours.
        let checked = project.run_in_shell("\"$0\" check; code=$?; times; exit $code").code(2);
        let spent = checked.stdout.lines().last().map(seconds).expect("the shell says what its children took");
        assert!(spent > 0.0 && spent < 5.0, "{name}: {spent} s");
        assert!(checked.stderr.len() < 200_000, "{name}: {} bytes of answer", checked.stderr.len());
    }
    // Just under the limit of what is parsed at all.
    for (name, text) in [
        ("unknown keys", (0..60_000).map(|n| format!("k{n} = 1\n")).collect::<String>()),
        ("services", (0..20_000).map(|n| format!("[services.s{n}]\nrnu = \"x\"\n")).collect::<String>()),
        ("syntax", "= ] \"\n".repeat(150_000)),
    ] {
        let project = Project::new();
        project.write("procfile.toml", &text);
        let checked = project.run(&["check"]).code(2);
        assert!(checked.took < Duration::from_secs(25), "{name}: {:?}", checked.took);
    }
}

/// User and system time as the shell's `times` writes them: `0m0.12s 0m0.03s`.
fn seconds(line: &str) -> f64 {
    let part = |word: &str| {
        let (minutes, seconds) = word.trim_end_matches('s').split_once('m').expect("minutes and seconds");
        minutes.parse::<f64>().expect("minutes") * 60.0 + seconds.parse::<f64>().expect("seconds")
    };
    line.split_whitespace().map(part).sum()
}

/// A service that names its runtime directory finds it.
#[test]
fn the_runtime_directory_of_a_service_is_there_for_its_command() {
    let project = Project::new().procfile(
        r#"
        [services.beat]
        run = ["sh", "-c", "echo 1 > $SCHEDULE/beat && exec sleep 1000"]
        env = { SCHEDULE = "${dir.run}" }
        ready = { file = "${dir.run}/beat" }
        "#,
    );
    project.run(&["up", "-d"]).code(0);
    project.run(&["restart", "beat"]).code(0);
    project.run(&["down"]).code(0);
    project.nothing_left();
}
