//! With whose rights something runs, and whose files may decide it: `user_id`, owners and modes of procfiles, env files and
//! the store, commands that only look, registry clients, and input that is no file or grows without bound.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::harness::{PATIENCE, Project, eventually, is_root, skipped};

/// A user without an entry, whose files nobody else trusts.
const STRANGER: u32 = 24_001;
/// Another one, who runs devrun.
const USER: u32 = 24_002;

fn mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("our own file");
}

fn give(path: &Path, uid: u32) {
    std::os::unix::fs::lchown(path, Some(uid), Some(uid)).expect("root may chown");
}

fn script(path: &Path, text: &str) {
    fs::create_dir_all(path.parent().expect("a folder")).expect("our own folder");
    fs::write(path, format!("#!/bin/sh\n{text}\n")).expect("our own file");
    mode(path, 0o755);
}

/// The uids of the process whose command line holds `word`.
// --- whose files decide ---

#[test]
fn root_refuses_a_procfile_that_others_can_change() {
    if !is_root() {
        return skipped("needs root");
    }
    let project = Project::new().procfile("[services.a]\nrun = \"sleep 1000\"\n");
    let file = project.path("procfile.toml");
    let refused = |what: &str| {
        for args in [&["up", "-d"][..], &["check"], &["-f", "procfile.toml", "up", "-d"]] {
            let run = project.run(args).code(2).says("DEVRUN_SAFE_DIRECTORY=");
            assert!(run.stderr.contains(what), "{args:?}: {run}");
        }
        project.nothing_left();
    };
    give(&file, STRANGER);
    refused("belongs to another user (uid 24001)");
    give(&file, 0);
    for open in [0o664, 0o646, 0o666] {
        mode(&file, open);
        refused("is writable by");
    }
    mode(&file, 0o644);
    give(&project.dir(), STRANGER);
    refused("belongs to another user");
    give(&project.dir(), 0);
    for open in [0o775, 0o777] {
        mode(&project.dir(), open);
        refused("is writable by");
    }
    // Who cannot remove another's file cannot replace it.
    mode(&project.dir(), 0o1777);
    project.run(&["check"]).code(0);
    mode(&project.dir(), 0o755);
    project.run(&["up", "-d"]).code(0);
    project.run(&["down"]).code(0);
    project.nothing_left();
}

#[test]
fn root_takes_no_procfile_of_another_user_from_above() {
    if !is_root() {
        return skipped("needs root");
    }
    let project = Project::new().procfile("[services.a]\nrun = \"sleep 1000\"\n");
    fs::create_dir_all(project.path("sub/deep")).expect("our own folder");
    mode(&project.dir(), 0o1777);
    give(&project.path("procfile.toml"), STRANGER);
    let deep = project.path("sub/deep").display().to_string();
    project.run(&["-C", &deep, "up", "-d"]).code(2).says("belongs to another user");
    project.nothing_left();
}

#[test]
fn a_directory_can_be_declared_safe() {
    if !is_root() {
        return skipped("needs root");
    }
    let project = Project::new().procfile("[services.a]\nrun = \"sleep 1000\"\n");
    give(&project.dir(), USER);
    give(&project.path("procfile.toml"), USER);
    project.run(&["check"]).code(2);
    let dir = project.dir().display().to_string();
    project.run_in_shell(&format!("DEVRUN_SAFE_DIRECTORY={dir} exec \"$0\" check")).code(0);
    project.run_in_shell("DEVRUN_SAFE_DIRECTORY=/usr:'*' exec \"$0\" check").code(0);
    project.run_in_shell("DEVRUN_SAFE_DIRECTORY=/usr exec \"$0\" check").code(2);
}

/// The second `-f`, env files and recipe files count as the first procfile does; for an ordinary user too.
#[test]
fn every_file_that_decides_is_looked_at() {
    if !is_root() {
        return skipped("needs root");
    }
    for uid in [None, Some(USER)] {
        let project = match uid {
            Some(uid) => Project::new().for_user(uid),
            None => Project::new(),
        };
        let project = project.procfile(
            "[project]\nenv_file = \".env\"\n[services.a]\nrun = \"sleep 1000\"\nenv_file = \"a.env\"\n[services.b]\nuse = \"./b.toml\"\nprofiles = [\"b\"]\n",
        );
        project.write("more.toml", "[env]\nA = \"1\"\n");
        project.write(".env", "B=1\n");
        project.write("a.env", "C=1\n");
        project.write("flag.env", "D=1\n");
        project.write("b.toml", "name = \"b\"\nsummary = \"b\"\nbin = [\"sleep\"]\nargv = [\"sleep\", \"1000\"]\n");
        let args = ["-f", "procfile.toml", "-f", "more.toml", "--env-file", "flag.env", "check"];
        project.run(&args).code(0);
        for name in ["procfile.toml", "more.toml", ".env", "a.env", "flag.env", "b.toml"] {
            let file = project.path(name);
            mode(&file, 0o666);
            project.run(&args).code(2).says(name).says("is writable by others").says("chmod go-w");
            mode(&file, 0o644);
            give(&file, STRANGER);
            project.run(&args).code(2).says(name).says("belongs to another user");
            // Of another group, which may write: 0664.
            std::os::unix::fs::chown(&file, Some(uid.unwrap_or(0)), Some(STRANGER)).expect("root may chown");
            mode(&file, 0o664);
            project.run(&args).code(2).says(name).says("is writable by the group");
            mode(&file, 0o644);
            give(&file, uid.unwrap_or(0));
        }
        // The usual set-up with umask 002: a group of the user's own.
        if let Some(uid) = uid {
            mode(&project.path("procfile.toml"), 0o664);
            give(&project.path("procfile.toml"), uid);
            project.run(&args).code(0);
        }
    }
}

// --- the store ---

const REDIS: &str = "[services.redis]\nuse = \"redis\"\nport = \"auto\"\nready = { uptime = \"0s\" }\n[sources.redis]\nnpm = \"made-up@1.2.3\"\nversion = \"7.2.5\"\n";

/// An entry for redis in the store of the project, whose server leaves a mark when it is run.
fn plant(project: &Project, files: &str) -> std::path::PathBuf {
    let store = project.path("bin-cache/store");
    let entry = store.join("redis/7.2.5-aaaaaaaaaaaa");
    script(&entry.join("bin/redis-server"), &format!("touch {}/pwned\nexec sleep 1000", project.dir().display()));
    let platform = project.run(&["catalog", "--json"]).stdout;
    assert!(!platform.is_empty());
    let manifest = format!(
        r#"{{"format":1,"name":"redis","version":"7.2.5","reported":"7.2.5","platform":"{}","source":"npm made-up@1.2.3","pin":{{"size":1,"sha256":"{}"}},"tools":{{"redis-server":"bin/redis-server"}},"lib":[],"files":{files}}}"#,
        devrun_store::platform::current(),
        "a".repeat(64)
    );
    fs::write(entry.join(".devrun-entry.json"), manifest).expect("our own file");
    entry
}

fn pin(text: &Path) -> String {
    let pin = devrun_store::pin::of_file(text).expect("it is there");
    format!(r#"{{"bin/redis-server":{{"size":{},"sha256":"{}"}}}}"#, pin.size, pin.sha256)
}

#[test]
fn a_store_that_others_can_write_is_not_executed() {
    if !is_root() {
        return skipped("needs root");
    }
    let project = Project::new().procfile(REDIS);
    let entry = plant(&project, "{}");
    // A tool that is none of the entry's files was never hashed.
    project.run(&["up", "-d"]).code(8).says("is not what was unpacked");
    let files = pin(&entry.join("bin/redis-server"));
    let entry = plant(&project, &files);
    let store = project.path("bin-cache/store");
    let refused = |code: i32, what: &str| {
        project.run(&["up", "-d"]).code(code).says(what);
        project.run(&["down"]).code(0);
        assert!(!project.path("pwned").exists(), "it was executed");
    };
    for open in [0o777, 0o775] {
        for folder in [&store, &store.join("redis")] {
            mode(folder, open);
            refused(2, "is writable by");
            mode(folder, 0o755);
        }
        mode(&entry, open);
        refused(8, "is writable by");
        mode(&entry, 0o755);
        mode(&entry.join("bin/redis-server"), open);
        refused(8, "is writable by");
        mode(&entry.join("bin/redis-server"), 0o755);
    }
    give(&store, STRANGER);
    refused(2, "belongs to another user");
    give(&store, 0);
    for path in [entry.clone(), entry.join(".devrun-entry.json"), entry.join("bin/redis-server")] {
        give(&path, STRANGER);
        refused(8, "belongs to another user");
        give(&path, 0);
    }
    // What nobody else can change is run.
    project.run(&["up", "-d"]).code(0);
    project.run(&["down"]).code(0);
    assert!(project.path("pwned").exists());
    fs::remove_file(project.path("pwned")).expect("it is there");
    // Files that came later, and links that lead out.
    script(&entry.join("bin/extra"), "true");
    refused(8, "it was added");
    fs::remove_file(entry.join("bin/extra")).expect("it is there");
    std::os::unix::fs::symlink("/tmp", entry.join("lib")).expect("our own folder");
    refused(8, "a link that leads out");
}

// --- commands that only look ---

#[test]
fn commands_that_only_look_execute_nothing() {
    let project = Project::new();
    let mark = project.path("ran").display().to_string();
    let evil = |name: &str| script(&project.path(name), &format!("echo \"$0 $*\" >> {mark}; echo 7.2.5"));
    evil("evil/redis-server");
    for name in ["redis-server", "nginx", "git", "sh", "go", "npm", "memcached"] {
        evil(&format!("bin/{name}"));
    }
    let path = format!("{}:/usr/bin:/bin", project.path("bin").display());
    let project = project.env("PATH", &path).procfile(
        r#"
        [sources.redis]
        path = "./evil"
        [services.redis]
        use = "redis"
        port = "auto"
        [services.cache]
        use = "memcached"
        port = "auto"
        [services.a]
        run = "./bin/sh a"
        build = "./bin/sh b"
        pre_start = "./bin/sh c"
        ready = { cmd = "./bin/sh d" }
        alive = { cmd = "./bin/sh e" }
        stop = { command = "./bin/sh f" }
        [tasks.t]
        run = "./bin/sh g"
        "#,
    );
    for args in [
        &["which"][..],
        &["which", "redis"],
        &["which", "--json"],
        &["which", "memcached"],
        &["doctor"],
        &["report"],
        &["check"],
        &["ps"],
        &["ps", "--json"],
        &["config"],
        &["config", "--json"],
        &["env"],
        &["graph"],
        &["logs"],
        &["events"],
        &["inspect", "a"],
        &["inspect", "redis"],
        &["urls"],
        &["ports"],
        &["volumes"],
        &["df"],
        &["analyze"],
        &["task", "--status"],
        &["lock"],
        &["ls"],
        &["catalog"],
        &["secret", "list"],
        &["up", "--plan"],
        &["export", "compose"],
        &["completions", "bash"],
    ] {
        let run = project.run(args);
        assert!(!project.path("ran").exists(), "{args:?} executed {}\n{run}", project.read("ran"));
    }
    project.run(&["which", "redis"]).code(0).says_not("7.2.5");
    let listed = project.run(&["which"]).code(0).stdout;
    assert_eq!(listed.matches("version unknown until `devrun up` runs it").count(), 2, "{listed}");
}

// --- without a home ---

#[test]
fn without_a_home_there_is_no_store_in_tmp() {
    if !is_root() {
        return skipped("needs a user without an entry");
    }
    let project = Project::new().for_user(USER).procfile("[services.a]\nuse = \"mailpit\"\nport = \"auto\"\n");
    let planted = Path::new("/tmp/devrun-cache-24002");
    let run = project.run_in_shell("unset HOME XDG_CACHE_HOME; exec \"$0\" fetch mailpit");
    run.code(2).says("HOME").says("DEVRUN_BIN_CACHE=");
    assert!(!planted.exists());
    // What needs no store works.
    project.rewrite("[services.a]\nrun = \"sleep 1000\"\n");
    project.run_in_shell("unset HOME XDG_CACHE_HOME; exec \"$0\" up -d").code(0);
    project.run_in_shell("unset HOME XDG_CACHE_HOME; exec \"$0\" down").code(0);
    project.nothing_left();
}

// --- registry clients ---

#[test]
fn registry_clients_obey_nothing_of_the_project() {
    let project = Project::new();
    let mark = project.path("ran").display().to_string();
    for module in ["pip", "json", "site", "sitecustomize"] {
        for file in ["__init__.py", "__main__.py"] {
            project.write(&format!("{module}/{file}"), &format!("open({mark:?}, 'a').write('{module}')\n"));
        }
    }
    fs::create_dir_all(project.path("bin-cache")).expect("our own folder");
    // An npm that says what it is given and where it stands.
    script(&project.root().join("bin2/npm"), &format!("echo \"$PWD $*\" >> {}/npm-asked\nexit 1", project.root().display()));
    let path = format!("{}:/usr/bin:/bin", project.root().join("bin2").display());
    let project = project.env("PATH", &path).env("PYTHONPATH", &project_path()).procfile(
        "[sources.nats]\nnpm = \"made-up@1\"\n[sources.nginx]\npypi = \"no-such-package-of-devrun==0.0.0\"\n[services.a]\nuse = \"nginx\"\n[services.b]\nuse = \"nats\"\n",
    );
    project.run(&["fetch", "nginx"]);
    assert!(!project.path("ran").exists(), "{} of the project was executed", project.read("ran"));
    project.run(&["fetch", "nats"]);
    let asked = fs::read_to_string(project.root().join("npm-asked")).expect("npm was asked");
    let place = asked.split(' ').next().expect("a folder");
    assert!(place.contains("/.stage/") && asked.contains("--prefix "), "{asked}");
}

/// The project's folder is not known yet where its environment is made; `.` is as bad.
fn project_path() -> String {
    ".".to_owned()
}

// --- user_id ---

/// One path for everything that a service runs.
#[test]
fn user_id_holds_for_every_command_of_a_service() {
    if !is_root() {
        return skipped("needs root");
    }
    for (user, wanted) in [("nobody", "65534:65534"), ("24001", "24001:24001"), ("24001:24005", "24001:24005")] {
        let project = Project::new().procfile(&format!(
            r#"
            [services.s]
            run = ["sh", "-c", "echo $(id -u):$(id -g) > out/run; exec sleep 1000"]
            build = "sh -c 'echo $(id -u):$(id -g) > out/build'"
            pre_start = "sh -c 'echo $(id -u):$(id -g) > out/pre'"
            ready = {{ cmd = "sh -c 'echo $(id -u):$(id -g) > out/ready'" }}
            alive = {{ cmd = "sh -c 'echo $(id -u):$(id -g) >> out/alive'", interval = "100ms" }}
            stop = {{ command = "sh -c 'echo $(id -u):$(id -g) > out/stop'", grace = "1s" }}
            user_id = "{user}"
            [tasks.t]
            run = "sh -c 'echo $(id -u):$(id -g) > out/task'"
            user_id = "{user}"
            "#
        ));
        fs::create_dir(project.path("out")).expect("our own folder");
        mode(&project.path("out"), 0o777);
        project.run(&["up", "-d", "--build"]).code(0);
        eventually("all have run", PATIENCE, || {
            ["run", "build", "pre", "ready", "alive", "task"]
                .iter()
                .all(|name| !project.read(&format!("out/{name}")).is_empty())
                .then_some(())
        });
        let exec = project.run(&["exec", "s", "--", "sh", "-c", "echo $(id -u):$(id -g)"]).code(0);
        assert_eq!(exec.stdout.trim(), wanted, "exec as {user}");
        project.run(&["down"]);
        for name in ["run", "build", "pre", "ready", "alive", "task", "stop"] {
            // `alive` writes a line each time it runs.
            let said = project.read(&format!("out/{name}"));
            assert!(!said.is_empty() && said.lines().all(|line| line == wanted), "{name} as {user}: {said:?}");
        }
        project.nothing_left();
    }
}

#[test]
fn user_id_is_refused_where_it_cannot_hold() {
    let project = Project::new();
    for (text, what) in [
        ("[services.n]\nuse = \"neo4j\"\nuser_id = \"nobody\"\n", "not supported for recipe neo4j"),
        ("[services.e]\nexternal = \"redis://localhost:1\"\nuser_id = \"nobody\"\n", "not supported for an external service"),
        ("[services.a]\nrun = \"true\"\nuser_id = \"a b\"\n", "invalid user_id"),
        ("[services.a]\nrun = \"true\"\nuser_id = \"1:2:3\"\n", "invalid user_id"),
        ("[services.a]\nrun = \"true\"\nuser_id = \":2\"\n", "invalid user_id"),
        ("[services.a]\nrun = \"true\"\nuser_id = \"4294967295\"\n", "invalid user_id"),
        ("[services.a]\nrun = \"true\"\nuser_id = \"1:4294967295\"\n", "invalid user_id"),
        ("[services.a]\nrun = \"true\"\nuser_id = \"99999999999\"\n", "invalid user_id"),
        ("[services.a]\nrun = \"touch ran\"\n[services.b]\nrun = \"true\"\nuser_id = \"no-such-user\"\n", "unknown user"),
        ("[services.a]\nrun = \"touch ran\"\n[services.b]\nrun = \"true\"\nuser_id = \"0:no-such-group\"\n", "unknown group"),
    ] {
        project.rewrite(text);
        project.run(&["up", "-d"]).code(2).says(what);
        assert!(!project.path("ran").exists(), "something was started: {text}");
    }
}

// --- input ---

#[test]
fn doubling_values_end_in_an_error() {
    let project = Project::new();
    let mut procfile = String::from("[env]\nV0 = \"0123456789abcdef\"\n");
    let mut dotenv = String::from("V0=0123456789abcdef\n");
    for number in 1..40 {
        procfile.push_str(&format!("V{number} = \"${{V{0}}}${{V{0}}}\"\n", number - 1));
        dotenv.push_str(&format!("V{number}=${{V{0}}}${{V{0}}}\n", number - 1));
    }
    procfile.push_str("[services.a]\nrun = \"true\"\n");
    // Each just below the limit of one: all together are too large.
    let mut many = format!("[env]\nBIG = \"{}\"\n", "x".repeat(900_000));
    for number in 0..80 {
        many.push_str(&format!("V{number} = \"${{BIG}}\"\n"));
    }
    many.push_str("[services.a]\nrun = \"true\"\n");
    project.write(".env", "");
    for (text, env, what) in [
        (procfile.as_str(), "", "larger than 1 MiB"),
        (many.as_str(), "", "larger than 64 MiB"),
        ("[project]\nenv_file = \".env\"\n[services.a]\nrun = \"true\"\n", dotenv.as_str(), "larger than 1 MiB"),
    ] {
        project.rewrite(text);
        project.write(".env", env);
        let begun = Instant::now();
        // 1 GiB of address space would not hold what these would grow to.
        let run = project.run_in_shell("ulimit -v 1500000; exec \"$0\" check").code(2);
        assert!(run.stderr.contains(what), "{what}: {run}");
        assert!(run.stderr.len() < 200_000 && begun.elapsed() < Duration::from_secs(60), "{} bytes", run.stderr.len());
    }
}

#[test]
fn what_is_no_regular_file_is_refused_at_once() {
    let project = Project::new();
    project.write("fine.toml", "[services.a]\nrun = \"true\"\n");
    project.write("with-env.toml", "[services.a]\nrun = \"true\"\nenv_file = \"odd\"\n");
    project.write("with-recipe.toml", "[services.a]\nuse = \"./odd.toml\"\n");
    project.write("compose.yml", "services: {a: {image: redis, env_file: odd}}\n");
    let odd = |name: &str, kind: &str| {
        let path = project.path(name);
        let _gone = fs::remove_file(&path);
        let _gone = fs::remove_dir(&path);
        match kind {
            "a FIFO" => nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).expect("our own folder"),
            "a device" => std::os::unix::fs::symlink("/dev/zero", &path).expect("our own folder"),
            "larger than 16 MiB" => fs::File::create(&path).and_then(|file| file.set_len(17 << 20)).expect("our own file"),
            _ => fs::create_dir(&path).expect("our own folder"),
        }
    };
    for kind in ["a FIFO", "a device", "a directory", "larger than 16 MiB"] {
        for name in ["odd", "odd.toml", "odd.yml"] {
            odd(name, kind);
        }
        for args in [
            &["-f", "odd", "check"][..],
            &["-f", "fine.toml", "-f", "odd", "check"],
            &["-f", "fine.toml", "--env-file", "odd", "check"],
            &["-f", "with-env.toml", "check"],
            &["-f", "with-recipe.toml", "check"],
            &["-f", "odd.yml", "check"],
            &["-f", "compose.yml", "check"],
            &["import", "odd.yml", "-o", "-"],
            &["import", "compose.yml", "-o", "-"],
        ] {
            let run = project.start(args).outcome_within(Duration::from_secs(30));
            if kind == "a directory" && args == ["import", "compose.yml", "-o", "-"] {
                // A directory may be mounted, and is listed then; as an env file it is reported as one that is missing.
                drop(run.code(0).says("odd is not a file here yet"));
                continue;
            }
            let run = run.code(2);
            assert!(
                run.stderr.contains(kind) && (run.stderr.contains("odd") || run.stderr.contains("/dev/zero")),
                "{kind}, {args:?}: {run}"
            );
        }
    }
}

/// What a shell passes as `<(…)` is a pipe of the caller's.
#[test]
fn a_substituted_env_file_is_read() {
    if !Path::new("/bin/bash").exists() {
        return skipped("needs bash");
    }
    let project = Project::new().procfile("[services.a]\nrun = \"true\"\nenv = { A = \"${FROM_PIPE}\" }\n");
    let script = "exec bash -c '\"$0\" --env-file <(echo FROM_PIPE=through) config' \"$0\"";
    project.run_in_shell(script).code(0).says("through");
}
