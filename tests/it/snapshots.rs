//! `devrun snapshot` on services that need no server of their own: what is saved, what comes back, what a fault and a kill
//! leave behind. Real servers are in `tests/real/data.rs`.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use nix::sys::signal::Signal;

use crate::harness::{Project, figures, is_root, rounds, skipped};
use crate::waits::let_time_pass;

/// Two volumes of one moment, a service next to them, one that depends on their owner, and a secret.
const STACK: &str = r#"
[project]
name = "shop"
[secrets]
generate = ["db-password"]
[volumes]
data = {}
warm = { class = "cache" }
code = { class = "source", path = "src" }
[services.store]
run = "{svc:store}"
data = "data"
volumes = ["warm", "code"]
env = { DB_PASSWORD = "${secret.db-password}" }
[services.api]
run = "{svc:api}"
depends_on = ["store"]
[services.beside]
run = "{svc:beside}"
"#;

fn stack() -> Project {
    let project = Project::new().procfile(STACK);
    project.write("src/code.txt", "mine");
    project.run(&["up", "-d"]).code(0);
    project.run(&["down"]).code(0);
    project
}

/// Every file of both volumes and the secret say which generation they are of.
fn fill(project: &Project, generation: &str, count: usize) {
    for volume in ["data", "warm"] {
        for index in 0..count {
            project.write(&format!(".devrun/data/{volume}/d{}/f{index}", index % 7), generation);
        }
    }
    write_secret(project, generation);
}

fn write_secret(project: &Project, value: &str) {
    project.write("secrets/infra/db-password", value);
    fs::set_permissions(project.path("secrets/infra/db-password"), fs::Permissions::from_mode(0o600)).expect("our own file");
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        if entry.path().is_dir() { found.extend(files(&entry.path())) } else { found.push(entry.path()) }
    }
    found
}

/// The one generation that everything is of.
#[track_caller]
fn generation(project: &Project, count: usize) -> String {
    let secret = project.read("secrets/infra/db-password");
    for volume in ["data", "warm"] {
        let all = files(&project.path(&format!(".devrun/data/{volume}")));
        assert_eq!(all.len(), count, "{volume}: {all:?}");
        for file in all {
            assert_eq!(fs::read_to_string(&file).expect("our own file"), secret, "{}", file.display());
        }
    }
    secret
}

/// Shows: snapshot, snapshot save, snapshot list, snapshot list --json, snapshot restore, snapshot rm.
#[test]
fn a_snapshot_of_a_stopped_stack_comes_back_with_its_secrets() {
    let project = stack();
    fill(&project, "one", 10);
    project.run(&["snapshot", "save", "first"]).code(0).says("snapshot first saved: 2 volumes");
    fill(&project, "two", 12);
    let list = project.run(&["snapshot", "list", "--json"]).code(0).json();
    assert_eq!(list[0]["name"], "first");
    assert_eq!(list[0]["volumes"], serde_json::json!(["data", "warm"]));
    assert_eq!(list[0]["bytes"], 60);
    assert_eq!(list[0]["running"], false);
    let folder = project.path(".devrun/snapshots/first");
    for private in ["", "plan.json", "manifest.json", "secrets/db-password"] {
        let mode = fs::metadata(folder.join(private)).expect("it was written").permissions().mode();
        assert_eq!(mode & 0o077, 0, "{private} is open to others");
    }
    assert!(!fs::read_to_string(folder.join("manifest.json")).expect("a file").contains("\"one\""), "no secret in the manifest");
    // It asks, and where no one can be asked it says how.
    let refused = project.run(&["snapshot", "restore", "first"]).code(2);
    refused.says("replaces the data of data, warm and the secrets db-password").says("devrun snapshot restore first --yes");
    assert_eq!(generation(&project, 12), "two");
    project.run(&["snapshot", "restore", "first", "--yes"]).code(0).says("snapshot first restored");
    assert_eq!(generation(&project, 10), "one");
    assert_eq!(project.read("src/code.txt"), "mine");
    for litter in ["restore.json", "restored.json", "restore-secrets", "restore-secrets-old"] {
        assert!(!project.path(".devrun").join(litter).exists(), "{litter} stayed");
    }
    project.run(&["snapshot", "rm", "first"]).code(0);
    project.run(&["snapshot", "list"]).code(0).says("no snapshots yet");
    assert!(!folder.exists());
}

#[test]
fn clean_and_down_leave_snapshots_alone() {
    let project = stack();
    fill(&project, "one", 5);
    project.run(&["snapshot", "save", "kept"]).code(0);
    let df = project.run(&["df", "--json"]).code(0).json();
    let row = df.as_array().expect("a list").iter().find(|row| row["what"] == "snapshots").expect("a row").clone();
    assert!(row["bytes"].as_u64() > Some(0));
    project.run(&["clean", "--yes"]).code(0).says("kept: ").says("1 snapshot");
    assert!(!project.path(".devrun/data/data").exists() && !project.path("secrets/infra/db-password").exists());
    project.run(&["snapshot", "restore", "kept", "--yes"]).code(0);
    assert_eq!(generation(&project, 5), "one");
    project.run(&["down", "--volumes"]).code(0);
    assert!(!project.path(".devrun/data/data").exists());
    project.run(&["snapshot", "restore", "kept", "--yes"]).code(0);
    assert_eq!(generation(&project, 5), "one");
    project.run(&["up", "-d"]).code(0);
    project.run(&["down"]).code(0);
    project.nothing_left();
}

/// Shows: snapshot save --json.
#[test]
fn a_running_stack_is_paused_for_its_volumes_only() {
    let project = stack();
    fill(&project, "one", 10);
    project.run(&["up", "-d"]).code(0);
    let pids = |name: &str| project.service(name)["pid"].as_i64();
    let before = ["store", "api", "beside"].map(pids);
    let manifest = project.run(&["snapshot", "save", "live", "--json"]).code(0).json();
    assert!(manifest["pause_ms"].as_u64().is_some() && manifest["running"] == true, "{manifest}");
    let after = ["store", "api", "beside"].map(pids);
    assert!(after.iter().all(Option::is_some), "all run again: {after:?}");
    assert_ne!(before[0], after[0], "the owner of the data was stopped");
    assert_ne!(before[1], after[1], "and what depends on it");
    assert_eq!(before[2], after[2], "a service that has nothing to do with it runs on");
    project.run(&["snapshot", "save", "again"]).code(0).says("services were stopped for");
    // While it runs: it asks, stops, restores, starts.
    fill(&project, "two", 10);
    project.run(&["snapshot", "restore", "live"]).code(2).says("the stack is stopped and started again");
    assert_eq!(pids("store"), project.service("store")["pid"].as_i64());
    project.run(&["snapshot", "restore", "live", "--yes"]).code(0).says("snapshot live restored");
    assert_eq!(generation(&project, 10), "one");
    for name in ["store", "api", "beside"] {
        project.wait_state(name, "running");
    }
    project.run(&["down"]).code(0);
    project.nothing_left();
}

/// What a snapshot takes for itself is a part of its size.
#[test]
fn the_list_shows_no_part_that_is_larger_than_the_whole() {
    let project = stack();
    fill(&project, "one", 3);
    project.run(&["snapshot", "save", "one"]).code(0);
    let list = project.run(&["snapshot", "list", "--json"]).code(0).json();
    let (bytes, exclusive) = (list[0]["bytes"].as_u64(), list[0]["exclusive_bytes"].as_u64());
    assert!(exclusive.is_none_or(|exclusive| Some(exclusive) <= bytes), "{list:#}");
}

#[test]
fn a_terminal_shows_what_takes_seconds() {
    let project = stack();
    fill(&project, "one", 3);
    project.run(&["up", "-d"]).code(0);
    let shown = project.terminal(&["snapshot", "save", "one"]).outcome().code(0);
    for step in
        ["snapshot one: stopping services", "snapshot one: copying", "snapshot one: starting services", "snapshot one saved"]
    {
        assert!(shown.stdout.contains(step), "{step}: {shown}");
    }
    let shown = project.terminal(&["snapshot", "restore", "one", "--yes"]).outcome().code(0);
    for step in ["snapshot one: stopping the stack", "starting store", "starting the stack", "snapshot one restored in"] {
        assert!(shown.stdout.contains(step), "{step}: {shown}");
    }
    project.run(&["snapshot", "save", "two"]).code(0).says_not("stopping services");
    project.run(&["down"]).code(0);
}

#[test]
fn a_restore_starts_what_was_up_and_nothing_else() {
    let project = stack();
    fill(&project, "one", 3);
    project.run(&["snapshot", "save", "one"]).code(0);
    project.run(&["up", "-d", "store"]).code(0);
    project.run(&["snapshot", "restore", "one", "--yes"]).code(0);
    project.wait_state("store", "running");
    assert_eq!(project.service("api")["pid"], serde_json::Value::Null);
    assert_eq!(project.service("beside")["pid"], serde_json::Value::Null);
    project.run(&["down"]).code(0);
    project.nothing_left();
}

/// The servers do not accept the data: what was there before comes back, and the stack with it.
#[test]
fn data_that_the_server_does_not_accept_are_taken_back() {
    // With a check: without one it would count as started while it still looks at its data on a busy machine.
    let project = Project::new().procfile(
        "[services.store]\nrun = [\"sh\", \"-c\", \"grep -q good $DATA/mark && exec {svc:store}\"]\ndata = \"store\"\nready = { log = \"up\" }\nenv = { DATA = \"${store.data}\" }\n",
    );
    let bad = project.run(&["config", "store"]);
    if bad.code != Some(0) {
        // The attribute is a recipe's; the path is known all the same.
        project.rewrite(&format!(
            "[services.store]\nrun = [\"sh\", \"-c\", \"grep -q good {}/mark && exec {{svc:store}}\"]\ndata = \"store\"\nready = {{ log = \"up\" }}\n",
            project.path(".devrun/data/store").display()
        ));
    }
    project.write(".devrun/data/store/mark", "bad");
    fs::set_permissions(project.path(".devrun"), fs::Permissions::from_mode(0o700)).expect("our own folder");
    project.run(&["snapshot", "save", "broken"]).code(0);
    project.write(".devrun/data/store/mark", "good");
    project.run(&["up", "-d"]).code(0);
    project.run(&["snapshot", "restore", "broken", "--yes"]).code(1).says("the data from before are in place again");
    assert_eq!(project.read(".devrun/data/store/mark"), "good");
    project.wait_state("store", "running");
    project.run(&["down"]).code(0);
    project.nothing_left();
}

/// Shows: snapshot restore --undo.
#[test]
fn wrong_names_and_other_modes_are_refused() {
    let project = stack();
    fill(&project, "one", 2);
    for bad in ["a/b", "../x", ".x", "a b", "", "-x/"] {
        project.run(&["snapshot", "save", "--", bad]).code(2).says("invalid snapshot name");
        project.run(&["snapshot", "rm", "--", bad]).code(2).says("invalid snapshot name");
    }
    project.run(&["snapshot", "save", "one"]).code(0);
    project.run(&["snapshot", "save", "one"]).code(2).says("exists already").says("devrun snapshot rm one");
    project.run(&["snapshot", "save", "two", "beside"]).code(2).says("beside has no volume");
    project.run(&["snapshot", "save", "two", "nobody"]).code(2).says("nobody");
    project.run(&["snapshot", "restore", "two", "--yes"]).code(2).says("unknown snapshot `two`").says("there are: one");
    project.run(&["snapshot", "rm", "two"]).code(2).says("unknown snapshot");
    project.run(&["snapshot", "restore", "--undo"]).code(2).says("no data from before a restore");
    project.rewrite(&format!("{STACK}\n[modes.prod]\nproject.timeout = \"1m\"\n"));
    project.run(&["--mode", "prod", "snapshot", "restore", "one", "--yes"]).code(2).says("--mode '' snapshot restore one");
    project.run(&["snapshot", "restore", "one", "--yes"]).code(0);
    // One volume that the procfile does not have any more is left out, with a word about it.
    project.rewrite(&STACK.replace("warm = { class = \"cache\" }\n", "").replace("\"warm\", ", ""));
    project.run(&["snapshot", "restore", "one", "--yes"]).code(0).says("volume warm of the snapshot is left out");
    // A snapshot that was changed.
    fs::remove_file(project.path(".devrun/snapshots/one/volumes/data/d0/f0")).expect("our own file");
    project.run(&["snapshot", "restore", "one", "--yes"]).code(8).says("nothing was restored");
    assert!(project.path(".devrun/data/data/d0/f0").exists());
    fs::write(project.path(".devrun/snapshots/one/manifest.json"), "{").expect("our own file");
    project.run(&["snapshot", "restore", "one", "--yes"]).code(8);
    project.run(&["snapshot", "rm", "one"]).code(0);
    let empty = Project::new().procfile("[services.a]\nrun = \"{svc:a}\"\n");
    empty.run(&["snapshot", "save", "x"]).code(2).says("no volume holds any data");
    assert!(!empty.path(".devrun/snapshots").exists());
}

/// Shows: snapshot diff, snapshot diff --json.
#[test]
fn a_diff_shows_what_changed() {
    let project = stack();
    fill(&project, "one", 4);
    project.run(&["snapshot", "save", "a"]).code(0);
    fill(&project, "three", 6);
    project.run(&["snapshot", "save", "b"]).code(0);
    let diff = project.run(&["snapshot", "diff", "a", "b", "--json"]).code(0).json();
    let rows: Vec<_> = diff
        .as_array()
        .expect("a list")
        .iter()
        .map(|row| (row["store"].clone(), row["what"].clone(), row["a"].clone(), row["b"].clone()))
        .collect();
    assert!(rows.contains(&("volume data".into(), "files".into(), 4.into(), 6.into())), "{diff}");
    assert!(rows.contains(&("volume data".into(), "bytes".into(), 12.into(), 30.into())), "{diff}");
    project.run(&["snapshot", "diff", "a", "b"]).code(0);
    project.run(&["snapshot", "diff", "a", "a"]).code(0).says("the same numbers");
}

/// A task that is in the middle of its work on the data is not cut short.
#[test]
fn a_running_task_holds_a_snapshot_up() {
    let project = stack();
    fill(&project, "one", 2);
    project.rewrite(&format!("{STACK}\n[tasks.seed]\nrun = \"{{svc:seed}}\"\ndepends_on = [\"store\"]\n"));
    project.run(&["up", "-d", "--no-wait"]).code(0);
    project.wait_state("seed", "running");
    project.run(&["snapshot", "save", "x"]).code(6).says("the task seed is running");
    assert!(!project.path(".devrun/snapshots/x").exists());
    project.run(&["down"]).code(0);
    project.nothing_left();
}

/// Killed at random points of a save and a restore: old or new, never half; and the stack can always be started.
#[test]
fn killed_at_any_point_there_is_the_old_state_or_the_new_one() {
    const COUNT: usize = 400;
    let project = stack();
    fill(&project, "old", COUNT);
    project.run(&["snapshot", "save", "base"]).code(0);
    let begun = std::time::Instant::now();
    project.run(&["snapshot", "restore", "base", "--yes"]).code(0);
    let whole = begun.elapsed();
    let mut seed = 0x2545_f491_4f6c_dd1d_u64;
    let mut random = |most: Duration| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        most.mul_f64(f64::from(u32::try_from(seed >> 33).unwrap_or(0)) / f64::from(u32::MAX >> 1))
    };
    let (mut old, mut new, mut saved) = (0, 0, 0);
    let all = rounds(8);
    for round in 0..all {
        fill(&project, "new", COUNT);
        let restore = project.start(&["snapshot", "restore", "base", "--yes"]);
        let_time_pass("the moment of the kill", random(whole.mul_f64(1.1)));
        restore.signal(Signal::SIGKILL);
        drop(restore.outcome());
        if round % 2 == 0 {
            // The next start finishes it, before anything runs on the data.
            project.run(&["up", "-d"]).code(0);
            project.run(&["down"]).code(0);
        } else {
            project.run(&["snapshot", "save", &format!("after-{round}")]).code(0);
            project.run(&["snapshot", "rm", &format!("after-{round}")]).code(0);
        }
        for volume in ["data", "warm"] {
            for entry in fs::read_dir(project.path(&format!(".devrun/data/{volume}"))).expect("a volume").flatten() {
                let name = entry.file_name();
                // A stage that was never committed is litter until the next restore.
                if name == ".devrun-restore-new" || name == ".devrun-restore-old" {
                    fs::remove_dir_all(entry.path()).expect("our own folder");
                }
            }
        }
        match generation(&project, COUNT).as_str() {
            "old" => new += 1,
            "new" => old += 1,
            other => panic!("round {round}: {other}"),
        }
        // A save.
        let name = format!("s{round}");
        let save = project.start(&["snapshot", "save", &name]);
        let_time_pass("the moment of the kill", random(whole.mul_f64(1.1)));
        save.signal(Signal::SIGKILL);
        drop(save.outcome());
        if project.path(".devrun/snapshots").join(&name).exists() {
            saved += 1;
            project.run(&["snapshot", "restore", &name, "--yes"]).code(0);
            generation(&project, COUNT);
            project.run(&["snapshot", "rm", &name]).code(0);
        }
        project.run(&["snapshot", "save", "again"]).code(0);
        project.run(&["snapshot", "rm", "again"]).code(0);
        let left: Vec<_> =
            fs::read_dir(project.path(".devrun/snapshots")).expect("a folder").flatten().map(|entry| entry.file_name()).collect();
        assert_eq!(left, ["base"], "round {round}");
    }
    figures(&format!("{all} rounds: {old} old, {new} new, {saved} snapshots saved before the kill; none half"));
    project.nothing_left();
}

/// A save that is killed on a running stack leaves services stopped and nothing else; `up` starts them.
#[test]
fn a_killed_save_of_a_running_stack_is_made_good_by_up() {
    let project = stack();
    fill(&project, "one", 300);
    project.run(&["up", "-d"]).code(0);
    for delay in [5, 40, 120] {
        let save = project.start(&["snapshot", "save", "x"]);
        let_time_pass("the moment of the kill", Duration::from_millis(delay));
        save.signal(Signal::SIGKILL);
        drop(save.outcome());
        project.run(&["up", "-d"]).code(0);
        for name in ["store", "api", "beside"] {
            project.wait_state(name, "running");
        }
        if project.path(".devrun/snapshots/x").exists() {
            project.run(&["snapshot", "rm", "x"]).code(0);
        }
    }
    // Interrupted in order it starts them itself, and says so by its exit code.
    for delay in [0, 15, 30, 60, 120] {
        let save = project.start(&["snapshot", "save", "x"]);
        let_time_pass("the moment of the signal", Duration::from_millis(delay));
        save.signal(Signal::SIGINT);
        let ended = save.outcome();
        // Before it takes the signal over it is killed by it; when it has finished it is done.
        assert!(matches!(ended.code, None | Some(0 | 130)), "{ended}");
        for name in ["store", "api", "beside"] {
            project.wait_state(name, "running");
        }
        if project.path(".devrun/snapshots/x").exists() {
            project.run(&["snapshot", "rm", "x"]).code(0);
        }
    }
    project.run(&["down"]).code(0);
    project.nothing_left();
}

/// A file system of its own, which is unmounted at the end.
struct Mounted(PathBuf);

impl Mounted {
    fn tmpfs(at: &Path, size: &str) -> Option<Self> {
        fs::create_dir_all(at).expect("our own folder");
        let options = format!("size={size},mode=0700");
        let done = Command::new("mount").args(["-t", "tmpfs", "-o", &options, "tmpfs"]).arg(at).status().ok()?;
        done.success().then(|| Self(at.to_owned()))
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(&self.0).status();
    }
}

#[test]
fn a_full_disk_is_a_clear_error_and_loses_nothing() {
    if !is_root() {
        return skipped("mounting a small file system needs root");
    }
    let project = Project::new()
        .procfile("[volumes]\ndata = { path = \"data\" }\n[services.store]\nrun = \"{svc:store}\"\ndata = \"data\"\n");
    let state = project.root().join("state");
    let Some(_mounted) = Mounted::tmpfs(&state, "1m") else { return skipped("nothing can be mounted here") };
    let state = state.display().to_string();
    fs::create_dir_all(project.path("data")).expect("our own folder");
    fs::write(project.path("data/big"), vec![1u8; 3 << 20]).expect("our own file");
    project.run(&["--state-dir", &state, "up", "-d"]).code(0);
    let pid = project.run(&["--state-dir", &state, "ps", "--json"]).code(0).json()["services"][0]["pid"].clone();
    // Looked at before anything is stopped.
    project.run(&["--state-dir", &state, "snapshot", "save", "x"]).code(4).says("the snapshot needs 3M").says("left");
    assert_eq!(project.run(&["--state-dir", &state, "ps", "--json"]).code(0).json()["services"][0]["pid"], pid);
    project.run(&["--state-dir", &state, "snapshot", "list"]).code(0).says("no snapshots yet");
    project.run(&["--state-dir", &state, "down"]).code(0);
    // A limit that no look beforehand can see: no file may become so large. The other project's state lies elsewhere for good.
    let project = Project::new()
        .procfile("[volumes]\ndata = { path = \"data\" }\n[services.store]\nrun = \"{svc:store}\"\ndata = \"data\"\n");
    fs::create_dir_all(project.path("data")).expect("our own folder");
    fs::write(project.path("data/big"), vec![1u8; 3 << 20]).expect("our own file");
    let save = project.run_in_shell("ulimit -f 1024; exec \"$0\" snapshot save limited").code(4);
    save.says("File too large").says("make room");
    assert!(!project.path(".devrun/snapshots/limited").exists());
    assert_eq!(fs::metadata(project.path("data/big")).expect("our own file").len(), 3 << 20);
    project.run(&["snapshot", "save", "whole"]).code(0);
    fs::write(project.path("data/big"), "changed").expect("our own file");
    project.run_in_shell("ulimit -f 1024; exec \"$0\" snapshot restore whole --yes").code(4).says("File too large");
    assert_eq!(project.read("data/big"), "changed", "the old data are in place");
    project.run(&["snapshot", "restore", "whole", "--yes"]).code(0);
    assert_eq!(fs::metadata(project.path("data/big")).expect("our own file").len(), 3 << 20);
}

#[test]
fn a_volume_may_be_a_mount_point() {
    if !is_root() {
        return skipped("mounting needs root");
    }
    let project = Project::new()
        .procfile("[volumes]\ndata = { path = \"data\" }\n[services.store]\nrun = \"{svc:store}\"\ndata = \"data\"\n");
    let Some(mounted) = Mounted::tmpfs(&project.path("data"), "8m") else { return skipped("nothing can be mounted here") };
    project.write("data/file", "one");
    project.run(&["snapshot", "save", "one"]).code(0).says("copied, as the file system has no copy-on-write");
    project.write("data/file", "two");
    project.write("data/more", "two");
    project.run(&["snapshot", "restore", "one", "--yes"]).code(0);
    assert_eq!(project.read("data/file"), "one");
    assert!(!project.path("data/more").exists());
    assert_eq!(fs::read_dir(project.path("data")).expect("a volume").count(), 1);
    // What is mounted inside it is not part of it.
    let inner = Mounted::tmpfs(&project.path("data/inner"), "1m");
    project.run(&["snapshot", "save", "two"]).code(4).says("another file system is mounted at");
    assert!(!project.path(".devrun/snapshots/two").exists());
    drop(inner);
    drop(mounted);
}

#[test]
fn data_of_another_user_are_an_error_that_names_them() {
    if !is_root() {
        return skipped("only root can make files of another user");
    }
    let project = Project::new()
        .procfile("[volumes]\ndata = { path = \"data\" }\n[services.store]\nrun = \"{svc:store}\"\ndata = \"data\"\n");
    project.write("data/theirs", "x");
    let project = project.for_user(65534);
    std::os::unix::fs::chown(project.path("data"), Some(65534), Some(65534)).expect("root may chown");
    std::os::unix::fs::chown(project.path("procfile.toml"), Some(65534), Some(65534)).expect("root may chown");
    fs::set_permissions(project.path("data/theirs"), fs::Permissions::from_mode(0o600)).expect("our own file");
    project.run(&["snapshot", "save", "x"]).code(4).says("data/theirs").says("Permission denied").says("who owns the data");
    assert!(!project.path(".devrun/snapshots/x").exists());
}

/// On file systems with copy-on-write, made in files and mounted.
#[test]
fn copy_on_write_is_used_where_the_file_system_has_it() {
    if !is_root() {
        return skipped("loop devices need root");
    }
    let mut shown = Vec::new();
    for (kind, options) in [("xfs", &["-q", "-m", "reflink=1"][..]), ("btrfs", &["-q"][..])] {
        let project = Project::new().procfile("[services.store]\nrun = \"{svc:store}\"\ndata = \"data\"\n");
        let image = project.root().join("image");
        let file = fs::File::create(&image).expect("our own file");
        file.set_len(512 << 20).expect("a sparse file");
        let made = Command::new(format!("mkfs.{kind}")).args(options).arg(&image).status();
        if !made.is_ok_and(|status| status.success()) {
            shown.push(format!("{kind}: mkfs.{kind} is not installed"));
            continue;
        }
        let at = project.root().join("mounted");
        fs::create_dir(&at).expect("our own folder");
        let mounted = Command::new("mount").args(["-o", "loop"]).arg(&image).arg(&at).status();
        if !mounted.is_ok_and(|status| status.success()) {
            shown.push(format!("{kind}: it cannot be mounted here"));
            continue;
        }
        let mounted = Mounted(at.clone());
        fs::set_permissions(&at, fs::Permissions::from_mode(0o700)).expect("our own folder");
        let state = at.join("state");
        let state_text = state.display().to_string();
        fs::create_dir_all(state.join("data/data")).expect("our own folder");
        fs::set_permissions(&state, fs::Permissions::from_mode(0o700)).expect("our own folder");
        let content: Vec<u8> = (0..100u32 << 20).map(|at| (at % 251) as u8).collect();
        fs::write(state.join("data/data/big"), &content).expect("our own file");
        let free = || nix::sys::statvfs::statvfs(&at).map(|stat| stat.blocks_free() * stat.fragment_size()).expect("statvfs");
        nix::unistd::sync();
        let before = free();
        let save = project.run(&["--state-dir", &state_text, "snapshot", "save", "one"]).code(0);
        let save = save.says("shared with the volumes by copy-on-write");
        nix::unistd::sync();
        assert!(before.saturating_sub(free()) < 20 << 20, "{kind}: {} of {before} are left", free());
        fs::write(state.join("data/data/big"), b"small").expect("our own file");
        let restore = project.run(&["--state-dir", &state_text, "snapshot", "restore", "one", "--yes"]).code(0);
        assert!(fs::read(state.join("data/data/big")).expect("a file") == content, "{kind}: the content came back");
        shown.push(format!("{kind}: 100 MB saved in {} ms, restored in {} ms", save.took.as_millis(), restore.took.as_millis()));
        drop(mounted);
    }
    figures(&shown.join("; "));
    if shown.iter().all(|line| !line.contains("saved in")) {
        skipped(&shown.join("; "));
    }
}

#[test]
fn a_stop_for_a_copy_and_a_restart_for_a_secret_have_reasons_of_their_own() {
    let project = stack();
    fill(&project, "one", 2);
    project.run(&["up", "-d"]).code(0);
    project.run(&["snapshot", "save", "one"]).code(0);
    project.run(&["events"]).code(0).says("snapshot save").says_not("by hand");
    project.run(&["secret", "rotate", "db-password"]).code(0);
    project.run(&["events"]).code(0).says("secret rotated").says_not("by hand");
    project.run(&["down"]).code(0);
}
