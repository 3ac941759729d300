//! `devrun backup` and `devrun restore` of a service without a server's own way: its data directory as an archive.

use std::fs;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use crate::harness::{PATIENCE, Project, eventually, figures, rounds, skipped};
use crate::waits::let_time_pass;

const STACK: &str = r#"
[project]
name = "shop"
[services.store]
run = "{svc:store}"
data = "data"
[services.api]
run = "{svc:api}"
depends_on = ["store"]
[services.plain]
run = "{svc:plain}"
"#;

fn stack() -> Project {
    let project = Project::new().procfile(STACK);
    project.run(&["up", "-d"]).code(0);
    for index in 0..20 {
        project.write(&format!(".devrun/data/data/d/f{index}"), "one");
    }
    project
}

/// Shows: backup --json.
#[test]
fn a_data_directory_comes_back_from_its_archive() {
    let project = stack();
    let pid = |name: &str| project.service(name)["pid"].clone();
    let before = (pid("store"), pid("plain"));
    let manifest = project.run(&["backup", "store", "-o", "out.tar.gz", "--json"]).code(0).json();
    assert_eq!((&manifest["service"], &manifest["format"]), (&"store".into(), &"data-directory".into()));
    assert_eq!(manifest["bytes"], fs::metadata(project.path("out.tar.gz")).expect("a file").len());
    assert!(pid("store") != before.0 && pid("plain") == before.1, "stopped for the copy, and nothing else was");
    project.wait_state("api", "running");
    project.write(".devrun/data/data/d/f0", "two");
    project.write(".devrun/data/data/more", "two");
    project.run(&["restore", "store", "out.tar.gz"]).code(2).says("are replaced by store of project shop").says("--yes");
    project.run(&["restore", "store", "out.tar.gz", "--yes"]).code(0).says("store has the data of store of project shop");
    assert_eq!(project.read(".devrun/data/data/d/f0"), "one");
    assert!(!project.path(".devrun/data/data/more").exists());
    for name in ["store", "api", "plain"] {
        project.wait_state(name, "running");
    }
    project.run(&["down"]).code(0);
    project.nothing_left();
    // Stopped, and into a volume that is gone.
    project.run(&["clean", "--yes"]).code(0);
    project.run(&["restore", "store", "out.tar.gz", "--yes"]).code(0);
    assert_eq!(project.read(".devrun/data/data/d/f19"), "one");
}

#[test]
fn what_cannot_be_saved_or_restored_is_named() {
    let project = stack();
    project.run(&["backup", "plain"]).code(2).says("plain has no data to save");
    project.run(&["backup", "nobody"]).code(2).says("nobody");
    let nowhere = project.run(&["backup", "store", "-o", "no/such/place"]).code(4).says("choose another place");
    let directory = format!("no/such/place: missing directory {}", project.path("no/such").display());
    drop(nowhere.says(&directory).says("help: mkdir -p ").says_not(".devrun-tmp"));
    project.run(&["backup", "store", "-o", "a.tar.gz"]).code(0);
    project.run(&["backup", "store", "-o", "a.tar.gz"]).code(2).says("exists already");
    let whole = fs::read(project.path("a.tar.gz")).expect("our own file");
    fs::write(project.path("a.tar.gz"), &whole[..whole.len() / 2]).expect("our own file");
    project.run(&["restore", "store", "a.tar.gz", "--yes"]).code(8).says("cut or changed");
    fs::write(project.path("a.tar.gz"), &whole).expect("our own file");
    project.run(&["restore", "plain", "a.tar.gz", "--yes"]).code(2).says("plain keeps no data");
    project.run(&["restore", "store", "absent", "--yes"]).code(2).says("absent");
    assert_eq!(project.read(".devrun/data/data/d/f0"), "one");
    // No room for the file: nothing is left of it, and the services run.
    let mut noise = vec![0u8; 3 << 20];
    std::io::Read::read_exact(&mut fs::File::open("/dev/urandom").expect("a device"), &mut noise).expect("randomness");
    fs::write(project.path(".devrun/data/data/noise"), noise).expect("our own file");
    project.run_in_shell("ulimit -f 1024; exec \"$0\" backup store -o big.tar.gz").code(4).says("cannot write");
    assert!(!project.path("big.tar.gz").exists() && !project.path("big.tar.gz.json").exists());
    let litter = fs::read_dir(project.dir())
        .expect("our own folder")
        .flatten()
        .filter(|entry| entry.file_name().to_string_lossy().starts_with(".devrun-tmp"));
    assert_eq!(litter.count(), 0);
    project.wait_state("store", "running");
    project.run(&["down"]).code(0);
    project.nothing_left();
}

/// A restore for which there is no room: the data are the old ones, nothing is left of the new ones, and what ran runs.
#[test]
fn a_restore_without_room_keeps_the_data() {
    let project = stack();
    fs::write(project.path(".devrun/data/data/big"), vec![1u8; 3 << 20]).expect("our own file");
    project.run(&["backup", "store", "-o", "a.tar.gz"]).code(0);
    fs::write(project.path(".devrun/data/data/big"), "small").expect("our own file");
    project.run_in_shell("ulimit -f 1024; exec \"$0\" restore store a.tar.gz --yes").code(4).says("File too large");
    assert_eq!(project.read(".devrun/data/data/big"), "small");
    let litter = fs::read_dir(project.path(".devrun/data/data")).expect("our own folder").flatten();
    assert!(litter.into_iter().all(|entry| !entry.file_name().to_string_lossy().starts_with(".devrun-restore")));
    project.run(&["up", "-d"]).code(0);
    project.wait_state("store", "running");
    project.run(&["restore", "store", "a.tar.gz", "--yes"]).code(0);
    assert_eq!(fs::metadata(project.path(".devrun/data/data/big")).expect("our own file").len(), 3 << 20);
    project.run(&["down"]).code(0);
    project.nothing_left();
}

/// `down --backup` looks for the programs of all dumps first: nothing is stopped for a backup that cannot be taken.
#[test]
fn a_stop_with_a_backup_that_cannot_be_taken_stops_nothing() {
    let folders = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&folders).chain(["/usr/bin", "/usr/local/bin"].map(Into::into));
    if folders.into_iter().any(|folder| folder.join("mariadb-dump").exists()) {
        return skipped("mariadb-dump is installed");
    }
    let project = Project::new().procfile(&format!("{STACK}[services.database]\nuse = \"./server.toml\"\nport = \"auto\"\n"));
    project.write(
        "server.toml",
        "name = \"some-server\"\nsummary = \"a server\"\nport = 3306\nkeeps_data = true\nbin = [\"bash\"]\ndump = \"mariadb\"\n\
         argv = [\"bash\", \"-c\", \"echo x > ${dir.data}/x; echo up; exec /bin/sleep 600\"]\n[service]\nready = { log = \"up\" }\n",
    );
    project.run(&["up", "-d"]).code(0);
    let pids = || ["store", "api", "database"].map(|name| project.service(name)["pid"].as_i64());
    let before = pids();
    assert!(before.iter().all(Option::is_some), "{before:?}");
    let refused = project.run(&["down", "--backup"]).code(7).says("cannot find mariadb-dump");
    refused.says("apt-get install mariadb-client").says("devrun backup database --directory");
    assert_eq!(pids(), before);
    let saved = fs::read_dir(project.path(".devrun/backups")).map_or(0, Iterator::count);
    assert_eq!(saved, 0, "neither is a part of the backups taken");
    project.run(&["down"]).code(0);
    project.nothing_left();
}

/// A server with a dump program that takes as long as it is let.
fn dumped() -> Project {
    let project =
        Project::new().procfile("[services.database]\nuse = \"./server.toml\"\nport = \"auto\"\nready = { tcp = true }\n");
    for (name, script) in [
        ("server", "[ \"$1\" = --version ] && exec echo server 1.0\nexec {svc:database} --listen $1"),
        ("mariadb", "echo 11.4.2"),
        ("mariadb-dump", "echo half\n[ -e {dir}/quick ] && exit 0\nexec {svc:dumper}"),
    ] {
        project.write(&format!("bin/{name}"), &project.fill(&format!("#!/bin/sh\n{script}\n")));
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        fs::set_permissions(project.path(&format!("bin/{name}")), mode).expect("our own file");
    }
    let recipe = "name = \"some-server\"\nsummary = \"a server\"\nport = 3306\nkeeps_data = true\nbin = [\"{dir}/bin/server\"]\n\
                  dump = \"mariadb\"\nargv = [\"{dir}/bin/server\", \"${port}\"]\n";
    project.write("server.toml", &project.fill(recipe));
    let path = format!("{}:{}", project.path("bin").display(), std::env::var("PATH").expect("a PATH"));
    project.env("PATH", &path)
}

#[cfg(target_os = "linux")]
#[test]
fn a_killed_backup_leaves_no_dump_running_and_its_file_to_the_next_one() {
    let project = dumped();
    project.run(&["up", "-d"]).code(0);
    let unfinished = || {
        let entries = fs::read_dir(project.dir()).expect("our own folder").flatten();
        entries.filter(|entry| entry.file_name().to_string_lossy().starts_with(".devrun-tmp")).count()
    };
    let killed = || {
        let backup = project.start(&["backup", "database", "-o", "a.sql"]);
        eventually("the dump runs", PATIENCE, || (project.alive("dumper").len() == 1).then_some(()));
        backup.signal(Signal::SIGKILL);
        drop(backup.outcome());
        eventually("the dump ends", PATIENCE, || project.alive("dumper").is_empty().then_some(()));
        assert_eq!(unfinished(), 1);
    };
    killed();
    project.write("quick", "");
    project.run(&["backup", "database", "-o", "a.sql"]).code(0).says("which a killed backup has left");
    assert_eq!((unfinished(), project.read("a.sql").as_str()), (0, "half\n"));
    fs::remove_file(project.path("quick")).expect("our own file");
    fs::remove_file(project.path("a.sql")).expect("our own file");
    killed();
    project.run(&["down"]).code(0);
    project.run(&["clean", "--yes"]).code(0).says("which a killed backup has left");
    assert_eq!(unfinished(), 0);
    project.nothing_left();
}

/// Killed at random points, an archive is whole or absent, and the data are the old ones or the new ones. The stack runs, so services
/// are stopped and started in between.
#[test]
fn killed_at_any_point_a_backup_is_whole_or_absent_and_a_restore_old_or_new() {
    const COUNT: usize = 200;
    let project = stack();
    let fill = |generation: &str| {
        for index in 0..COUNT {
            project.write(&format!(".devrun/data/data/d/f{index}"), generation);
        }
    };
    let generation = || {
        let first = project.read(".devrun/data/data/d/f0");
        let names = fs::read_dir(project.path(".devrun/data/data/d")).expect("our own folder").flatten();
        let files: Vec<_> = names.map(|entry| fs::read_to_string(entry.path()).expect("our own file")).collect();
        assert_eq!(files.len(), COUNT);
        assert!(files.iter().all(|text| *text == first), "half: {files:?}");
        first
    };
    fill("saved");
    let timed = |args: &[&str]| {
        let begun = Instant::now();
        project.run(args).code(0);
        begun.elapsed()
    };
    let backup = timed(&["backup", "store", "-o", "base.tar.gz"]);
    let restore = timed(&["restore", "store", "base.tar.gz", "--yes"]);
    let mut seed = 0x1405_7b7e_f767_814f_u64;
    let mut random = |most: Duration| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        most.mul_f64(1.1 * f64::from(u32::try_from(seed >> 33).unwrap_or(0)) / f64::from(u32::MAX >> 1))
    };
    let (mut old, mut new, mut whole) = (0, 0, 0);
    let all = rounds(5);
    for round in 0..all {
        fill("present");
        let killed = project.start(&["restore", "store", "base.tar.gz", "--yes"]);
        let_time_pass("the moment of the kill", random(restore));
        killed.signal(Signal::SIGKILL);
        drop(killed.outcome());
        project.run(&["up", "-d"]).code(0);
        let found = generation();
        match found.as_str() {
            "saved" => new += 1,
            "present" => old += 1,
            other => panic!("round {round}: {other}"),
        }
        let name = format!("r{round}.tar.gz");
        let killed = project.start(&["backup", "store", "-o", &name]);
        let_time_pass("the moment of the kill", random(backup));
        killed.signal(Signal::SIGKILL);
        drop(killed.outcome());
        project.run(&["up", "-d"]).code(0);
        project.wait_state("store", "running");
        assert_eq!(generation(), found, "round {round}: a backup changes nothing");
        if project.path(&name).exists() {
            whole += 1;
            project.run(&["restore", "store", &name, "--yes"]).code(0);
            assert_eq!(generation(), found, "round {round}");
        } else {
            // A manifest without its file holds nothing up.
            project.run(&["backup", "store", "-o", &name]).code(0);
        }
    }
    figures(&format!("{all} rounds: {old} old, {new} new, {whole} backups whole before the kill; none half"));
    project.run(&["down"]).code(0);
    project.nothing_left();
}
