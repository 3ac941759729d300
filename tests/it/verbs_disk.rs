//! The verbs about what lies on disk: binaries, secrets, volumes, and what of it goes.

use std::process::Command;

use crate::harness::Project;
use crate::test_ports;

const STACK: &str = r#"
[project]
name = "shop"
[secrets]
generate = ["db-password"]
[volumes]
data = {}
warm = { class = "cache" }
media = { path = "media" }
code = { class = "source", path = "src" }
[services.a]
run = ["sh", "-c", "echo started; exec sleep 1000"]
data = "data"
volumes = ["warm", "media", "code"]
env = { DB_PASSWORD = "${secret.db-password}" }
"#;

/// A project that has run once, with something in every volume.
fn used() -> Project {
    let project = Project::new().procfile(STACK);
    project.run(&["up", "-d"]).code(0);
    project.run(&["down"]).code(0);
    for name in [".devrun/data/data/x", ".devrun/data/warm/x", "media/x", "src/x", ".env"] {
        project.write(name, "something");
    }
    project
}

/// Shows: clean, devrun --yes.
#[test]
fn clean_asks_says_what_goes_and_never_touches_what_is_yours() {
    let project = used();
    let refused = project.run(&["clean"]).code(2).says("--yes").says("persistent volume data").says("secret db-password");
    assert!(!refused.stderr.contains("media"), "{refused}");
    assert!(project.path(".devrun/data/data/x").exists());
    project.run(&["clean", "--yes"]).code(0);
    for gone in [".devrun/data/data", ".devrun/data/warm", ".devrun/logs", ".devrun/journal", "secrets/infra"] {
        assert!(!project.path(gone).exists(), "{gone} stayed");
    }
    for kept in ["media/x", "src/x", ".env", "procfile.toml"] {
        assert!(project.path(kept).exists(), "{kept} went");
    }
    project.run(&["clean", "--yes"]).code(0).says("nothing to delete");
}

#[test]
fn what_a_deletion_keeps_for_its_path_is_named() {
    let project = used();
    let kept = format!("kept: persistent volume media ({})", project.path("media").display());
    project.run(&["down", "--volumes"]).code(0).says(&kept).says("devrun clean --only media").says_not("volume code");
    project.run(&["clean", "--yes"]).code(0).says(&kept).says_not("volume code");
    project.run(&["clean", "--only", "cache", "--yes"]).code(0).says_not("kept: ");
    project.run(&["clean", "--only", "persistent", "--yes"]).code(0).says(&kept);
    project.run(&["clean", "--only", "media", "--yes"]).code(0).says_not("kept: ");
}

/// Shows: clean --only, volume.class.
#[test]
fn clean_only_takes_a_class_or_one_volume() {
    let project = used();
    project.run(&["clean", "--only", "cache", "--yes"]).code(0);
    assert!(!project.path(".devrun/data/warm").exists() && project.path(".devrun/data/data/x").exists());
    project.run(&["clean", "--only", "persistent", "--yes"]).code(0);
    assert!(!project.path(".devrun/data/data").exists() && project.path("media/x").exists(), "a placed volume goes by name only");
    project.run(&["clean", "--only", "media", "--yes"]).code(0);
    assert!(!project.path("media/x").exists());
    project.run(&["clean", "--only", "code", "--yes"]).code(2).says("source");
    project.run(&["clean", "--only", "nothing", "--yes"]).code(2).says("cache");
    assert!(project.path("src/x").exists() && project.path("secrets/infra/db-password").exists());
    project.run(&["up", "-d"]).code(0);
    project.run(&["clean", "--yes"]).code(6).says("devrun down");
    project.run(&["down"]).code(0);
}

#[test]
fn clean_asks_on_a_terminal() {
    let project = used();
    for (answer, stays) in [(&b"n\r"[..], true), (b"\r", true), (b"y\r", false)] {
        let mut terminal = project.terminal(&["clean"]);
        terminal.wait_for("[y/N]");
        terminal.send(answer);
        terminal.outcome().code(0);
        assert_eq!(project.path(".devrun/data/data/x").exists(), stays, "{answer:?}");
    }
}

/// Shows: rebuild, up --clean.
#[test]
fn rebuild_is_clean_and_up() {
    let project = used();
    let secret = project.read("secrets/infra/db-password");
    project.run(&["rebuild", "-d"]).code(2).says("needs confirmation");
    assert_eq!(project.read("secrets/infra/db-password"), secret);
    project.run(&["rebuild", "-d", "--yes"]).code(0);
    assert!(!project.path(".devrun/data/data/x").exists());
    assert_eq!(project.service("a")["state"], "running");
    let pid = project.supervisor();
    project.write(".devrun/data/data/y", "again");
    project.run(&["up", "--clean", "-d", "--yes"]).code(0);
    assert!(!project.path(".devrun/data/data/y").exists() && project.supervisor() != pid);
    assert_ne!(project.read("secrets/infra/db-password"), secret);
    project.run(&["down"]).code(0);
}

/// Shows: volumes, volumes --json, df, df --json, service.volumes.
#[test]
fn volumes_and_df_show_sizes() {
    let project = used();
    project.write(".devrun/data/data/big", &"x".repeat(300_000));
    let volumes = project.run(&["volumes", "--json"]).code(0).json();
    let data = volumes.as_array().into_iter().flatten().find(|volume| volume["name"] == "data").expect("listed").clone();
    assert!(data["bytes"].as_u64().is_some_and(|bytes| bytes >= 300_000), "{data:#}");
    assert_eq!((data["class"].as_str(), data["services"][0].as_str()), (Some("persistent"), Some("a")));
    project.run(&["volumes"]).code(0).says("media");
    let df = project.run(&["df", "--json"]).code(0).json();
    assert!(df.as_array().into_iter().flatten().any(|row| row["what"] == "volume data"), "{df:#}");
    project.run(&["df"]).code(0).says("logs");
    project.run(&["volumes", "adopt", "x"]).code(2).says("data");
    project.run(&["volumes", "adopt", "data"]).code(2).says("no recipe keeps its data in data");
    project.run(&["volumes", "take"]).code(2).says("devrun volumes adopt NAME");
}

/// Shows: secret, secret list, secret list --json, secret show, file.secrets, secrets.generate.
#[test]
fn secret_list_and_show() {
    let project = Project::new().procfile(STACK);
    let list = || project.run(&["secret", "list", "--json"]).code(0).json();
    assert_eq!(list()[0]["exists"], false);
    project.run(&["secret", "show", "db-password"]).code(2).says("not been made yet");
    project.run(&["up", "-d"]).code(0);
    project.run(&["down"]).code(0);
    let value = project.read("secrets/infra/db-password").trim().to_owned();
    assert_eq!(list()[0]["exists"], true);
    assert_eq!(project.run(&["secret", "show", "db-password"]).code(0).stdout.trim(), value);
    project.run(&["secret", "list"]).code(0).says("db-password").says_not(&value);
    project.run(&["secret", "show", "other"]).code(2).says("db-password");
    project.run(&["secret", "rotate", "db-password"]).code(0).says("at the next start").says_not(&value);
    assert_ne!(project.run(&["secret", "show", "db-password"]).code(0).stdout.trim(), value);
}

/// Shows: catalog, catalog --json, which, which --json, lock, lock --json, fetch, fetch --offline.
#[test]
fn catalog_which_and_lock_need_no_procfile() {
    let project = Project::new();
    let catalog = project.run(&["catalog", "--json"]).code(0).json();
    let recipes: Vec<&str> = catalog.as_array().into_iter().flatten().filter_map(|line| line["recipe"].as_str()).collect();
    assert!(recipes.contains(&"postgres") && recipes.contains(&"redis"), "{recipes:?}");
    project.run(&["catalog"]).code(0).says("postgres");
    project.run(&["which", "no-such-recipe"]).code(2).says("postgres");
    // A machine without it says how to get it; one with it says where it is.
    let which = project.run(&["which", "redis@99"]).code(7);
    assert!(which.last_line().contains("redis"), "{which}");
    project.run(&["lock"]).code(2).says("procfile");
    let project = project.procfile(STACK);
    project.run(&["lock"]).code(0).says("pins nothing");
    assert_eq!(project.run(&["lock", "--json"]).code(0).json().as_array().map(Vec::len), Some(0));
    project.run(&["which"]).code(0).says("no service of the procfile uses a recipe");
    project.run(&["fetch"]).code(0);
    project.run(&["fetch", "--offline", "redis@99"]).code(7);
}

/// Shows: file.sources, source.path.
#[test]
fn which_finds_a_recipe_of_the_procfile_by_its_service() {
    let project = Project::new()
        .procfile("[services.cache]\nuse = \"redis\"\n[sources.redis]\npath = \"bin\"\n[services.x]\nrun = \"true\"\n");
    project.write("bin/redis-server", "#!/bin/sh\necho 'Redis server v=7.2.5 sha=0 bits=64'\n");
    let made = Command::new("chmod").args(["+x", "bin/redis-server"]).current_dir(project.dir()).status().expect("chmod runs");
    assert!(made.success());
    let found = project.run(&["which", "cache", "--json"]).code(0).json();
    assert_eq!(found[0]["version"], "", "a command that only looks runs nothing of the project: {found:#}");
    assert!(found[0]["path"].as_str().is_some_and(|path| path.ends_with("bin/redis-server")), "{found:#}");
    project.run(&["which", "redis"]).code(0).says("version unknown until");
}

/// Shows: doctor, doctor --json.
#[test]
fn doctor_names_each_trouble_with_its_fix() {
    let project = Project::new().procfile(STACK);
    project.run(&["doctor"]).code(0).says("ok   procfile").says("disk").says("time zone: ").says("locale: ");
    let odd =
        Project::new().procfile("[services.a]\nrun = \"true\"\n").env("TZ", "Nowhere/Land").env("LC_ALL", "de_DE.ISO-8859-1");
    let odd = odd.run(&["doctor"]);
    odd.code(0).says("warn locale: LC_ALL=de_DE.ISO-8859-1 is not UTF-8").says("warn time zone: TZ=Nowhere/Land is unknown here");
    let taken = test_ports::listener();
    let port = taken.local_addr().expect("bound").port();
    project.rewrite(&format!("[services.a]\nrun = \"true\"\nport = {port}\n[services.b]\nrun = \"no-such-program\"\n"));
    let doctor = project.run(&["doctor", "--json"]).code(7);
    let findings = doctor.json();
    let failed: Vec<&serde_json::Value> =
        findings.as_array().into_iter().flatten().filter(|finding| finding["status"] == "fail").collect();
    assert_eq!(failed.len(), 2, "{findings:#}");
    assert!(failed.iter().all(|finding| finding["fix"].is_string()), "{failed:#?}");
    assert!(failed[1]["detail"].as_str().is_some_and(|detail| detail.contains(&port.to_string())), "{failed:#?}");
    project.rewrite("[services.a]\nrum = \"true\"\n");
    project.run(&["doctor"]).code(2).says("FAIL procfile");
}

#[test]
fn doctor_sees_secrets_that_git_tracks() {
    let project = Project::new().procfile(STACK);
    project.write(".env", "A=1\n");
    project.write(".env.example", "A=\n");
    let git =
        Command::new("sh").args(["-c", "git init -q . && git add -f .env .env.example"]).current_dir(project.dir()).status();
    assert!(git.expect("sh runs").success());
    project.run(&["doctor"]).code(0).says("git tracks .env").says("git rm --cached .env ");
}

/// Shows: report.
#[test]
fn report_is_one_archive_without_secrets() {
    let project = Project::new().procfile(&STACK.replace("echo started", "echo the password is $DB_PASSWORD"));
    project.run(&["up", "-d"]).code(0);
    project.run(&["down"]).code(0);
    let secret = project.read("secrets/infra/db-password").trim().to_owned();
    assert!(project.run(&["logs"]).code(0).stdout.contains(&secret), "the log itself is the service's");
    project.run(&["report", "-o", "r.tgz"]).code(0);
    let unpacked = Command::new("tar").args(["xzf", "r.tgz"]).current_dir(project.dir()).status().expect("tar runs");
    assert!(unpacked.success());
    for name in ["version.txt", "config.toml", "ps.json", "events.jsonl", "doctor.json", "logs/a.log"] {
        let text = project.read(&format!("devrun-report/{name}"));
        assert!(!text.is_empty(), "{name} is empty");
        assert!(!text.contains(&secret), "{name} holds the secret");
    }
    assert!(project.read("devrun-report/logs/a.log").contains("the password is ••••"));
}

/// A checkout can bring links in the place of logs.
#[test]
fn no_log_is_read_through_a_link() {
    let project = Project::new().procfile("[services.a]\nrun = \"{svc:a}\"\n");
    project.write("elsewhere/key", "not-for-a-report\n");
    project.write("elsewhere/a.log", "not-for-a-report\n");
    let logs = project.path(".devrun/logs");
    std::fs::create_dir_all(&logs).unwrap();
    let link = |to: &str, from: &std::path::Path| std::os::unix::fs::symlink(project.path(to), from).unwrap();
    for name in ["a.log", "devrun.log", "events.jsonl"] {
        link("elsewhere/key", &logs.join(name));
    }
    let packed = || {
        let _absent = std::fs::remove_file(project.path("r.tgz"));
        project.run(&["report", "-o", "r.tgz"]).code(0);
        let unpacked = Command::new("tar").args(["xzOf", "r.tgz"]).current_dir(project.dir()).output().expect("tar runs");
        String::from_utf8_lossy(&unpacked.stdout).into_owned()
    };
    assert!(!packed().contains("not-for-a-report"));
    for command in [&["logs", "a"][..], &["logs", "a", "--json"], &["logs"], &["events"]] {
        project.run(command).says_not("not-for-a-report");
    }
    std::fs::remove_dir_all(&logs).unwrap();
    std::fs::create_dir_all(project.path("elsewhere/a")).unwrap();
    for name in ["a.idx", "a/access.log", "a/access.idx", "events.jsonl", ".telemetry/00000001.jsonl"] {
        project.write(&format!("elsewhere/{name}"), "not-for-a-report\n");
    }
    link("elsewhere", &logs);
    assert!(!packed().contains("not-for-a-report"));
    // What would show another's file names the link and what to type.
    for command in [&["logs"][..], &["logs", "a"], &["logs", "a", "--json"], &["logs", "-f"], &["events"]] {
        let refused = project.run(command).code(2).says_not("not-for-a-report");
        drop(refused.says(&format!("{} is a link", logs.display())).says(&format!("help: rm '{}'", logs.display())));
    }
    for command in [&["why", "a"][..], &["analyze"], &["ps"], &["inspect", "a"]] {
        project.run(command).says_not("not-for-a-report");
    }
    // A directory of further files alone.
    std::fs::remove_file(&logs).unwrap();
    std::fs::create_dir(&logs).unwrap();
    link("elsewhere/a", &logs.join("a"));
    project.run(&["logs", "a"]).says_not("not-for-a-report");
    project.run(&["logs"]).says_not("not-for-a-report");
}

#[test]
fn a_link_in_the_place_of_the_lock_is_named_with_what_removes_it() {
    let project = Project::new().procfile("[services.a]\nrun = \"{svc:a}\"\n");
    project.run(&["up", "-d"]).code(0);
    project.run(&["down"]).code(0);
    let lock = project.path(".devrun/lock");
    std::fs::remove_file(&lock).unwrap();
    std::os::unix::fs::symlink("/tmp", &lock).unwrap();
    for command in [&["up", "-d"][..], &["down"], &["ps"]] {
        project.run(command).code(2).says("it is a link").says(&format!("help: rm '{}'", lock.display()));
    }
    std::fs::remove_file(&lock).unwrap();
    project.run(&["up", "-d"]).code(0);
    project.run(&["down"]).code(0);
}

/// Shows: ls --all.
#[test]
fn other_modes_and_instances_are_not_passed_over() {
    let project = Project::new().procfile(
        r#"
        [volumes]
        store = { class = "persistent" }
        [services.a]
        run = "sh -c 'mkdir -p ${a.data}; echo full > ${a.data}/file; exec sleep 1000'"
        data = "store"
        ready = { cmd = "test -f ${a.data}/file" }
        env = { KEY = "${secret.key}" }
        [secrets]
        generate = ["key"]
        [modes.prod]
        env.X = "1"
        "#,
    );
    for options in [&[][..], &["--mode", "prod"], &["--instance", "b"]] {
        let with = |command: &[&str]| -> Vec<String> { options.iter().chain(command).map(|word| (*word).to_owned()).collect() };
        let (up, down) = (with(&["up", "-d"]), with(&["down"]));
        project.run(&up.iter().map(String::as_str).collect::<Vec<_>>()).code(0);
        project.run(&down.iter().map(String::as_str).collect::<Vec<_>>()).code(0);
    }
    let df = project.run(&["df"]).code(0).says("mode prod").says("instance b");
    assert!(df.stdout.contains("data/prod") && df.stdout.contains("instances/b"), "{df}");
    let listed = project.run(&["ls", "--all"]).code(0);
    let mine: Vec<&str> = listed.stdout.lines().filter(|line| line.contains(&project.fill("{dir}"))).collect();
    assert!(mine.len() == 2 && mine.iter().all(|line| line.contains("down")), "{listed}");
    let kept = |out: crate::harness::Outcome| {
        drop(out.says("kept: ").says("devrun --mode prod clean").says("devrun --instance b clean"));
    };
    kept(project.run(&["down", "--volumes"]).code(0));
    // Data that is kept was made with the secrets.
    let secret = project.read("secrets/infra/key");
    for options in [&[][..], &["--mode", "prod"]] {
        let clean: Vec<&str> = options.iter().chain(&["clean", "--yes"]).copied().collect();
        let clean = project.run(&clean).code(0).says("secrets/infra, as data that is kept was made with these secrets");
        if options.is_empty() {
            kept(clean);
        }
        assert_eq!(project.read("secrets/infra/key"), secret);
    }
    project.run(&["--instance", "b", "clean", "--yes"]).code(0).says("secret key").says_not("kept: ");
    assert!(!project.path("secrets/infra/key").exists());
    assert!(!project.path(".devrun/data/prod/store").exists() && !project.path(".devrun/instances/b/data/store").exists());
}

/// A volume is copied and deleted as a whole: none may hold the project.
#[test]
fn a_volume_that_holds_the_project_is_refused_and_never_deleted() {
    let project = Project::new();
    let stack = |path: &str, more: &str| {
        format!("[volumes.v]\npath = \"{path}\"\n{more}[services.a]\nrun = \"sleep 1000\"\nvolumes = [\"v\"]\n")
    };
    for (path, more, says) in [
        (".", "", "holds the project itself"),
        ("..", "", "holds the project itself"),
        ("x/..", "", "holds the project itself"),
        ("/", "", "holds the project itself"),
        (".devrun", "", "holds what devrun keeps"),
        (".devrun/logs", "", "holds what devrun keeps"),
        (".devrun/data", "", "holds what devrun keeps"),
        ("data/", "[volumes.w]\npath = \"./data\"\n", "are one directory"),
    ] {
        project.rewrite(&stack(path, more));
        let check = project.run(&["check"]).code(2).says(says);
        assert!(check.stderr.contains("class = \"source\""), "{check}");
        project.run(&["clean", "--only", "v", "--yes"]).code(2);
        assert!(project.path("procfile.toml").exists(), "{path}");
    }
    for path in [".devrun/data/own", "data", "../beside"] {
        project.rewrite(&stack(path, ""));
        project.run(&["check"]).code(0);
    }
    // Used in place.
    project.rewrite(&stack(".", "class = \"source\"\n"));
    project.run(&["check"]).code(0);
    // By a link: the link goes.
    project.rewrite(&stack("link", ""));
    std::os::unix::fs::symlink(".", project.path("link")).expect("a link");
    project.run(&["clean", "--only", "v", "--yes"]).code(0);
    assert!(project.path("procfile.toml").exists() && project.path("link").symlink_metadata().is_err());
}
