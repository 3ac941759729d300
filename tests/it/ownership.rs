//! Nothing of another user, of another project or of another program is stopped, written to or deleted.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use devrun_keeper::identity;
use devrun_keeper::journal::{self, JournalRecord};
use devrun_model::keeper::Identity;
use nix::sys::signal::Signal;

use crate::harness::{PATIENCE, Project, eventually, is_root, signal, skipped};

const ONE: &str = "[services.a]\nrun = \"{svc:a}\"\n";
const NOBODY: u32 = 65_534;

/// A program that has nothing to do with devrun: the leader of a session, with a child in it.
struct Stranger(Child);

impl Stranger {
    fn new() -> Self {
        let mut command = Command::new("setsid");
        command.args(["sh", "-c", "sleep 1000 & wait"]).current_dir("/").env_clear().env("PATH", "/usr/bin:/bin");
        // Not the leader of a group, or `setsid` would fork.
        let child = command.stdin(Stdio::null()).spawn().expect("setsid runs");
        let stranger = Self(child);
        eventually("its child", PATIENCE, || (stranger.children().len() == 1).then_some(()));
        stranger
    }
    fn identity(&self) -> Identity {
        identity::of(i32::try_from(self.0.id()).expect("a pid")).expect("it lives")
    }
    fn children(&self) -> Vec<i32> {
        let text = fs::read_to_string(format!("/proc/{0}/task/{0}/children", self.0.id())).unwrap_or_default();
        text.split_whitespace().filter_map(|pid| pid.parse().ok()).collect()
    }
    #[track_caller]
    fn lives(&mut self) {
        assert!(self.0.try_wait().expect("our own child").is_none(), "the stranger lives");
        assert_eq!(self.children().len(), 1, "and so does its child");
    }
}

impl Drop for Stranger {
    fn drop(&mut self) {
        for child in self.children() {
            signal(child, Signal::SIGKILL);
        }
        // Our own child.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A project that has run once, and whose journal can be rewritten.
fn stopped() -> Project {
    let project = Project::new().procfile(ONE);
    project.run(&["up", "-d"]).code(0);
    project.kill_both();
    project
}

/// Rewrites the journal so that supervisor, keeper and the one recorded process are this one; what the project left is
/// ended first, as nothing would lead to it any more.
fn aim(project: &Project, target: &Identity, cgroup: Option<PathBuf>) {
    let path = project.path(".devrun/journal");
    let recorded = journal::read(&path).expect("it is there");
    let (mut header, mut entry) =
        (recorded.header.expect("a header"), recorded.live.values().next().cloned().expect("a process"));
    for left in project.alive("") {
        signal(left.pid, Signal::SIGKILL);
    }
    header.supervisor = target.clone();
    header.keeper = target.clone();
    entry.identity = target.clone();
    entry.cgroup = cgroup;
    let mut bytes = journal::encode(&JournalRecord::Header(Box::new(header))).expect("JSON");
    bytes.extend(journal::encode(&JournalRecord::Started(Box::new(entry))).expect("JSON"));
    fs::write(&path, bytes).expect("our own file");
}

#[test]
fn a_state_folder_of_another_user_is_refused_by_every_command() {
    if !is_root() {
        return skipped("needs root");
    }
    let project = stopped();
    let mut stranger = Stranger::new();
    aim(&project, &stranger.identity(), None);
    for file in [".devrun", ".devrun/journal", ".devrun/logs"] {
        chown(project.path(file), Some(NOBODY), Some(NOBODY)).expect("root may");
    }
    for line in [
        "down",
        "down --emergency",
        "down --volumes",
        "ps",
        "logs",
        "inspect a",
        "events",
        "top",
        "urls",
        "volumes",
        "df",
        "clean --yes",
        "stop a",
        "restart a",
        "kill a",
        "exec a -- true",
        "report",
        "up -d",
    ] {
        let words: Vec<&str> = line.split(' ').collect();
        let done = project.run(&words).code(2).says("belongs to");
        assert!(done.stderr.contains("help:"), "{done}");
        stranger.lives();
    }
    // The folders are ours, the journal is not.
    for file in [".devrun", ".devrun/logs"] {
        chown(project.path(file), Some(0), Some(0)).expect("root may");
    }
    for words in [&["down"][..], &["up", "-d"]] {
        project.run(words).code(2).says("belongs to uid 65534").says("rm '");
        stranger.lives();
    }
    project.run(&["down", "--emergency"]).code(0);
    stranger.lives();
}

#[test]
fn a_state_folder_or_journal_that_others_can_write_is_refused() {
    let project = stopped();
    let mut stranger = Stranger::new();
    aim(&project, &stranger.identity(), None);
    let mode = |name: &str, mode: u32| {
        fs::set_permissions(project.path(name), fs::Permissions::from_mode(mode)).expect("our own file");
    };
    mode(".devrun", 0o777);
    for words in [&["down"][..], &["down", "--emergency"], &["ps"], &["up", "-d"]] {
        project.run(words).code(2).says("can be written to by others").says("chmod 700");
    }
    mode(".devrun", 0o700);
    mode(".devrun/journal", 0o666);
    project.run(&["down"]).code(2).says("others can write to it");
    stranger.lives();
    mode(".devrun/journal", 0o600);
    // A link in the place of the folder.
    fs::rename(project.path(".devrun"), project.path("moved")).expect("our own folder");
    symlink(project.path("moved"), project.path(".devrun")).expect("our own folder");
    for words in [&["down"][..], &["down", "--emergency"], &["ps"], &["up", "-d"]] {
        project.run(words).code(2).says("is not a directory but a symbolic link");
    }
    stranger.lives();
}

#[test]
fn a_journal_that_names_strangers_exactly_aims_at_nobody() {
    for words in [&["down"][..], &["down", "--emergency"], &["up", "-d"]] {
        let project = stopped();
        let mut stranger = Stranger::new();
        aim(&project, &stranger.identity(), None);
        project.run(words).code(0);
        stranger.lives();
        project.run(&["down"]).code(0);
        stranger.lives();
        project.nothing_left();
    }
}

#[test]
fn a_recorded_cgroup_elsewhere_overwrites_and_removes_nothing() {
    let project = stopped();
    let mut stranger = Stranger::new();
    let group = project.path("devrun-x/y");
    fs::create_dir_all(&group).expect("our own folder");
    project.write("precious", "precious");
    symlink(project.path("precious"), group.join("cgroup.kill")).expect("our own folder");
    aim(&project, &stranger.identity(), Some(group.clone()));
    let planted = fs::read(project.path(".devrun/journal")).expect("our own file");
    for words in [&["down"][..], &["down", "--emergency"], &["up", "-d"]] {
        fs::write(project.path(".devrun/journal"), &planted).expect("our own file");
        project.run(words).code(0);
        assert_eq!(project.read("precious"), "precious", "{words:?}");
        assert!(group.join("cgroup.kill").is_symlink());
    }
    project.run(&["down"]).code(0);
    stranger.lives();
}

const VOLUMES: &str = "[services.a]\nrun = \"{svc:a}\"\nvolumes = [\"vv\"]\n[volumes.vv]\nclass = \"persistent\"\n";

#[test]
fn down_volumes_and_clean_never_follow_a_link() {
    for words in [&["down", "--volumes"][..], &["clean", "--yes"]] {
        let project = Project::new().procfile(VOLUMES);
        let outside = project.root().join("home/outside");
        fs::create_dir_all(outside.join("vv/sub")).expect("our own folder");
        fs::write(outside.join("vv/sub/kept"), "x").expect("our own file");
        project.run(&["up", "-d"]).code(0);
        project.run(&["down"]).code(0);
        fs::create_dir_all(project.path(".devrun/data")).expect("our own folder");
        // The volume itself is a link: the link goes.
        symlink(outside.join("vv"), project.path(".devrun/data/vv")).expect("our own folder");
        project.run(words).code(0);
        assert!(!project.path(".devrun/data/vv").is_symlink(), "{words:?}");
        assert!(outside.join("vv/sub/kept").exists(), "{words:?}");
        // The way to it leads through one: nothing goes.
        fs::remove_dir_all(project.path(".devrun/data")).expect("our own folder");
        symlink(&outside, project.path(".devrun/data")).expect("our own folder");
        project.run(words).code(2).says("a symbolic link is on the way");
        assert!(outside.join("vv/sub/kept").exists(), "{words:?}");
        // A link inside goes as a link.
        fs::remove_file(project.path(".devrun/data")).expect("our own link");
        fs::create_dir_all(project.path(".devrun/data/vv/deep")).expect("our own folder");
        symlink(&outside, project.path(".devrun/data/vv/deep/link")).expect("our own folder");
        project.run(words).code(0);
        assert!(!project.path(".devrun/data/vv").exists() && outside.join("vv/sub/kept").exists(), "{words:?}");
    }
}

fn shell(script: &str) {
    assert!(Command::new("sh").args(["-ec", script]).status().expect("sh runs").success(), "{script}");
}

/// The living processes of the original: its services, its supervisor and its keeper.
fn pids(project: &Project) -> Vec<i32> {
    let mut pids: Vec<i32> = project.alive("").iter().map(|one| one.pid).collect();
    pids.push(project.supervisor());
    pids.extend(project.keepers().iter().map(|one| one.pid));
    pids.sort_unstable();
    pids
}

#[test]
fn a_copied_project_leaves_the_original_alone() {
    for (how, words) in [
        ("cp -r", &["down"][..]),
        ("cp -a", &["down", "--emergency"]),
        ("cp -al", &["up", "-d"]),
        ("tar", &["clean", "--yes", "--only", "logs"]),
    ] {
        let project = Project::new().procfile(ONE);
        project.run(&["up", "-d"]).code(0);
        let before = pids(&project);
        let (from, to) = (project.dir().display().to_string(), project.root().join("copy").display().to_string());
        match how {
            "tar" => shell(&format!("mkdir {to}; tar -C {from} -cf - . | tar -C {to} -xf -")),
            how => shell(&format!("{how} {from} {to}")),
        }
        let first = project.run(&[&["-C", &to], words].concat()).code(0);
        assert!(first.stderr.contains("was copied from"), "{how}: {first}");
        assert_eq!(pids(&project).iter().filter(|pid| before.contains(pid)).count(), before.len(), "{how} {words:?}");
        // Said once, and the copy has a life of its own.
        project.run(&["-C", &to, "up", "-d"]).code(0).says_not("was copied from");
        assert_eq!(project.alive("a").len(), 2, "{how}");
        project.run(&["-C", &to, "down"]).code(0);
        assert_eq!(pids(&project), before, "{how}");
        project.run(&["down"]).code(0);
        project.nothing_left();
    }
}

#[test]
fn a_copy_of_a_project_whose_processes_were_killed_ends_none_of_what_is_left() {
    let project = stopped();
    let left = project.alive("a");
    let (from, to) = (project.dir().display().to_string(), project.root().join("copy").display().to_string());
    shell(&format!("cp -r {from} {to}"));
    project.run(&["-C", &to, "down", "--emergency"]).code(0).says("was copied from").says("nothing was left");
    project.run(&["-C", &to, "up", "-d"]).code(0);
    assert!(project.alive("a").iter().any(|one| one.pid == left[0].pid), "the original's leftover lives");
    project.run(&["-C", &to, "down"]).code(0);
    assert_eq!(project.alive("a"), left);
    project.run(&["down"]).code(0);
    project.nothing_left();
}

#[test]
fn a_copy_in_the_place_of_the_moved_original_is_another_project() {
    let project = Project::new().procfile(ONE);
    project.run(&["up", "-d"]).code(0);
    let left = project.alive("a");
    let (here, there) = (project.dir().display().to_string(), project.root().join("there").display().to_string());
    shell(&format!("mv {here} {there}; cp -r {there} {here}"));
    project.run(&["down"]).code(0).says("was copied from");
    assert_eq!(project.alive("a"), left);
    project.run(&["up", "-d"]).code(0);
    assert_eq!(project.alive("a").len(), 2);
    project.run(&["-C", &there, "down"]).code(0);
    assert_eq!(project.alive("a").len(), 1);
    project.run(&["down"]).code(0);
    project.nothing_left();
}

#[test]
fn a_moved_project_is_found_and_stopped() {
    let project = Project::new().procfile(ONE);
    let (here, there) = (project.dir().display().to_string(), project.root().join("there").display().to_string());
    project.run(&["up", "-d"]).code(0);
    shell(&format!("mv {here} {there}; mkdir {here}"));
    project.run(&["-C", &there, "ps"]).code(0).says("running").says_not("copied");
    // A second `up` finds the stack, and starts no twin.
    project.run(&["-C", &there, "up", "-d"]).code(0);
    assert_eq!(project.alive("a").len(), 1);
    project.run(&["-C", &there, "down"]).code(0);
    project.nothing_left();
    // Both of its own killed, then moved back: leftovers are known.
    shell(&format!("rmdir {here}; mv {there} {here}"));
    project.run(&["up", "-d"]).code(0);
    project.kill_both();
    shell(&format!("mv {here} {there}; mkdir {here}"));
    project.run(&["-C", &there, "down", "--emergency"]).code(0).says("ended");
    project.nothing_left();
}

#[test]
fn a_bind_mount_shows_the_same_project() {
    let project = Project::new().procfile(ONE);
    let there = project.root().join("there");
    fs::create_dir(&there).expect("our own folder");
    let mount = format!("mount --bind {} {}", project.dir().display(), there.display());
    if !is_root() || !Command::new("unshare").args(["-m", "sh", "-c", &mount]).output().is_ok_and(|done| done.status.success()) {
        return skipped("needs a mount namespace");
    }
    project.run(&["up", "-d"]).code(0);
    let seen = format!("unshare -m sh -ec '{mount}; \"$0\" -C {0} ps; \"$0\" -C {0} down' \"$0\"", there.display());
    project.run_in_shell(&seen).code(0).says("running").says_not("copied");
    project.nothing_left();
}

#[test]
fn a_copy_of_a_project_with_its_state_elsewhere_does_not_use_it() {
    let project = Project::new().procfile(VOLUMES);
    let state = project.root().join("state").display().to_string();
    project.run(&["--state-dir", &state, "up", "-d"]).code(0);
    let before = project.alive("a");
    fs::create_dir_all(project.root().join("state/data/vv")).expect("our own folder");
    let (from, to) = (project.dir().display().to_string(), project.root().join("copy").display().to_string());
    shell(&format!("cp -a {from} {to}"));
    project.run(&["-C", &to, "down", "--volumes"]).code(0).says("belongs to another project");
    assert_eq!(project.alive("a"), before);
    assert!(project.root().join("state/data/vv").exists());
    project.run(&["-C", &to, "up", "-d"]).code(0).says_not("belongs to another project");
    assert_eq!(project.alive("a").len(), 2);
    project.run(&["-C", &to, "down"]).code(0);
    // The original goes by its pointer, and the state folder is not to be had for another project while it is in use.
    project.run(&["-C", &to, "--state-dir", &state, "down"]).code(6).says("in use by the stack of");
    assert_eq!(project.alive("a"), before);
    project.run(&["down"]).code(0);
    project.nothing_left();
}

#[test]
fn a_planted_pointer_leads_nowhere() {
    let project = Project::new().procfile(VOLUMES);
    project.run(&["up", "-d"]).code(0);
    fs::create_dir_all(project.path(".devrun/data/vv/kept")).expect("our own folder");
    let before = project.alive("a");
    let clone = project.root().join("clone");
    fs::create_dir_all(clone.join(".devrun")).expect("our own folder");
    fs::copy(project.path("procfile.toml"), clone.join("procfile.toml")).expect("our own file");
    fs::write(clone.join(".devrun/state-dir"), format!("{}\n", project.path(".devrun").display())).expect("our own file");
    let at = clone.display().to_string();
    let mode = |mode: u32| {
        fs::set_permissions(clone.join(".devrun"), fs::Permissions::from_mode(mode)).expect("our own folder");
    };
    mode(0o755);
    for words in [&["ps"][..], &["down"], &["down", "--volumes"], &["down", "--emergency"], &["up", "-d"]] {
        let done = project.run(&[&["-C", &at], words].concat()).code(2);
        assert!(done.stderr.contains("state-dir") && done.stderr.contains("rm '"), "{done}");
    }
    mode(0o700);
    project.run(&["-C", &at, "down", "--volumes"]).code(0).says("belongs to another project");
    assert_eq!(project.alive("a"), before);
    assert!(project.path(".devrun/data/vv/kept").exists());
    project.run(&["down"]).code(0);
}

/// What lies in the journal's place, and how it is made.
type Make<'a> = (&'a str, &'a dyn Fn(&Path));

#[test]
fn a_journal_that_is_no_file_is_named_and_an_emergency_needs_none() {
    let make: [Make<'_>; 3] = [
        ("a symbolic link", &|path| symlink("/etc/hostname", path).expect("our own folder")),
        ("a directory", &|path| fs::create_dir(path).expect("our own folder")),
        ("not a regular file", &|path| nix::unistd::mkfifo(path, nix::sys::stat::Mode::S_IRWXU).expect("our own folder")),
    ];
    for (what, make) in make {
        let project = Project::new().procfile(ONE);
        project.run(&["up", "-d"]).code(0);
        fs::remove_file(project.path(".devrun/journal")).expect("our own file");
        make(&project.path(".devrun/journal"));
        project.run(&["down", "--emergency"]).code(0).says(what).says("supervisor");
        project.nothing_left();
        for words in [&["up", "-d"][..], &["down"]] {
            let done = project.run(words).code(2).says(".devrun/journal").says(what);
            assert!(done.stderr.contains("help:") && done.stderr.contains("rm "), "{done}");
        }
        let _ = Command::new("rm").arg("-r").arg(project.path(".devrun/journal")).status().expect("rm runs");
        project.run(&["up", "-d"]).code(0);
        project.run(&["down"]).code(0);
    }
}

/// The binary as another user than the project's, in its folder.
fn as_user(project: &Project, uid: u32, words: &[&str]) -> (Option<i32>, String) {
    let mut command = Command::new(project.root().join("bin/devrun"));
    command.args(words).current_dir(project.dir()).env_clear().env("PATH", "/usr/bin:/bin").env("HOME", "/nonexistent");
    let done = command.uid(uid).gid(uid).output().expect("it runs");
    (done.status.code(), String::from_utf8_lossy(&done.stderr).into_owned())
}

#[test]
fn what_is_mounted_in_a_volume_is_not_emptied() {
    if !is_root() {
        return skipped("needs root, for a mount");
    }
    for words in [&["down", "--volumes"][..], &["clean", "--yes"]] {
        let project = Project::new().procfile(VOLUMES);
        let (outside, inside) = (project.root().join("home/outside"), project.path(".devrun/data/vv/deep/mounted"));
        fs::create_dir_all(outside.join("sub")).expect("our own folder");
        fs::write(outside.join("sub/kept"), "x").expect("our own file");
        project.run(&["up", "-d"]).code(0);
        project.run(&["down"]).code(0);
        fs::create_dir_all(&inside).expect("our own folder");
        fs::write(project.path(".devrun/data/vv/file"), "x").expect("our own file");
        let mount = |program: &str, args: &[&Path]| Command::new(program).args(args).status().expect("it runs").success();
        if !mount("mount", &[Path::new("--bind"), &outside, &inside]) {
            return skipped("nothing can be mounted here");
        }
        project.run(words).code(2);
        let kept = outside.join("sub/kept").exists() && project.path(".devrun/data/vv/file").exists();
        assert!(mount("umount", &[&inside]));
        assert!(kept, "{words:?}: nothing is removed where something is mounted");
        project.run(words).code(0);
        assert!(!project.path(".devrun/data/vv/file").exists() && outside.join("sub/kept").exists(), "{words:?}");
    }
}

#[test]
fn a_stack_can_be_stopped_whatever_became_of_its_procfile() {
    for stop in [&["down"][..], &["down", "--emergency"]] {
        let project = Project::new().procfile(ONE);
        project.run(&["up", "-d"]).code(0);
        fs::rename(project.path("procfile.toml"), project.path("aside")).expect("our own file");
        project.run(&["ps"]).code(0).says("running");
        project.run(stop).code(0);
        project.nothing_left();
        fs::rename(project.path("aside"), project.path("procfile.toml")).expect("our own file");
        if is_root() {
            project.run(&["up", "-d"]).code(0);
            std::os::unix::fs::chown(project.path("procfile.toml"), Some(61_240), None).expect("root may");
            project.run(&["restart"]).code(2);
            project.run(stop).code(0);
            project.nothing_left();
        }
    }
    let empty = Project::new();
    empty.run(&["down"]).code(2).says("procfile.toml");
}

#[test]
fn the_stack_of_another_user_is_named_with_its_owner() {
    if !is_root() {
        return skipped("needs root");
    }
    let owner = 61_240;
    let project = Project::new().for_user(owner).procfile(ONE);
    project.run(&["up", "-d"]).code(0);
    for other in [0, 61_241] {
        for words in [&["down"][..], &["down", "--emergency"], &["ps"], &["-f", "procfile.toml", "down"]] {
            let (code, said) = as_user(&project, other, words);
            assert_eq!(code, Some(6), "{other} {words:?}: {said}");
            assert!(said.contains("uid 61240") && said.contains("help:"), "{said}");
        }
    }
    assert_eq!(project.alive("a").len(), 1);
    project.run(&["down"]).code(0);
    project.nothing_left();
    let (code, said) = as_user(&project, 0, &["down"]);
    assert!(code == Some(2) && said.contains("uid 61240") && said.contains("belongs to"), "{code:?} {said}");
}

#[test]
fn a_runtime_directory_of_another_user_is_not_used() {
    if !is_root() {
        return skipped("needs root");
    }
    let project = Project::new().procfile(ONE);
    let base = project.root().join("run");
    for (owner, mode) in [(NOBODY, 0o700), (0, 0o777)] {
        chown(&base, Some(owner), Some(owner)).expect("root may");
        fs::set_permissions(&base, fs::Permissions::from_mode(mode)).expect("root may");
        project.run(&["up", "-d"]).code(0);
        assert_eq!(fs::read_dir(&base).expect("it is there").count(), 0, "nothing in it");
        project.run(&["ps"]).code(0).says("running");
        project.run(&["down"]).code(0);
        project.nothing_left();
    }
}

#[test]
fn what_is_written_is_closed_to_others_and_follows_no_link() {
    let project = Project::new().procfile(VOLUMES);
    project.run_in_shell("umask 000; \"$0\" up -d && \"$0\" report && \"$0\" down && \"$0\" run --artifacts out -- true").code(0);
    let mode = |name: &str| fs::symlink_metadata(project.path(name)).unwrap_or_else(|error| panic!("{name}: {error}")).mode();
    for name in [".devrun", ".devrun/logs"] {
        assert_eq!(mode(name) & 0o777, 0o700, "{name}");
    }
    for name in [".devrun/logs/devrun.log", ".devrun/logs/events.jsonl", ".devrun/location", ".devrun/run", ".devrun/lock"] {
        assert_eq!(mode(name) & 0o777, 0o600, "{name}");
    }
    assert_eq!(mode("devrun-report.tar.gz") & 0o777, 0o600);
    for entry in fs::read_dir(project.path("out")).expect("it was made").flatten() {
        assert_eq!(entry.metadata().expect("it is there").mode() & 0o777, 0o600, "{entry:?}");
    }
    assert_eq!(mode("out") & 0o777, 0o700);
    project.run_in_shell("umask 000; exec \"$0\" run --junit reports/unit/x.xml -- true").code(0);
    for (name, wanted) in [("reports", 0o755), ("reports/unit", 0o755), ("reports/unit/x.xml", 0o600)] {
        assert_eq!(mode(name) & 0o777, wanted, "{name}");
    }
    // Links in their places.
    project.write("precious", "precious");
    for name in ["devrun-report.tar.gz", ".devrun/logs/devrun.log", ".devrun/logs/events.jsonl", "out/a.log"] {
        fs::remove_file(project.path(name)).expect("our own file");
        symlink(project.path("precious"), project.path(name)).expect("our own folder");
    }
    project.run(&["report"]).code(2).says("symbolic link");
    project.run(&["up", "-d"]).code(2).says("devrun.log").says("rm '");
    fs::remove_file(project.path(".devrun/logs/devrun.log")).expect("our own link");
    project.run(&["up", "-d"]).code(0);
    project.run(&["down"]).code(0);
    project.run(&["run", "--artifacts", "out", "--", "true"]).says("out/a.log").says("symbolic link");
    assert_eq!(project.read("precious"), "precious");
}

/// A link that the caller has made is the caller's word. One of another user is a trap, in the name and above it.
#[test]
fn output_is_not_written_through_the_link_of_another_user() {
    if !is_root() {
        return skipped("needs a link of another user");
    }
    let project = Project::new().procfile("[services.a]\nrun = \"{svc:a}\"\n");
    project.write("precious", "precious");
    project.write("own/keep", "");
    project.write("shared/keep", "");
    fs::set_permissions(project.path("shared"), fs::Permissions::from_mode(0o1777)).expect("our own directory");
    let link = |to: &str, name: &str| {
        symlink(project.path(to), project.path(name)).expect("a new name");
        std::os::unix::fs::lchown(project.path(name), Some(65_534), Some(65_534)).expect("root may");
    };
    link("precious", "shared/file");
    link("own", "shared/directory");
    for words in [
        &["run", "--junit", "shared/file", "--", "touch", "begun"][..],
        &["run", "--junit", "shared/directory/x.xml", "--", "touch", "begun"],
        &["run", "--artifacts", "shared/directory", "--", "touch", "begun"],
        &["run", "--artifacts", "shared/directory/new", "--", "touch", "begun"],
        &["report", "-o", "shared/directory/r.tar.gz"],
        &["export", "kubernetes", "-o", "shared/directory/k8s"],
    ] {
        project.run(words).code(2).says("is a symbolic link of another user (uid 65534)");
    }
    assert!(!project.path("begun").exists(), "nothing is started for it");
    assert_eq!(project.read("precious"), "precious");
    assert_eq!(fs::read_dir(project.path("own")).expect("it is there").count(), 1);
    symlink(project.path("own"), project.path("mine")).expect("a new name");
    project.run(&["run", "--junit", "mine/x.xml", "--artifacts", "mine/art", "--", "true"]).code(0);
    assert!(project.path("own/x.xml").is_file() && project.path("own/art/a.log").is_file());
    project.run(&["run", "--junit", "/dev/stdout", "--", "true"]).code(0).says("<testsuites>");
}
