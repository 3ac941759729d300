//! That the harness sees what is left running, and that no test is dropped in silence.

use std::path::Path;
use std::process::{Command, Stdio};

use crate::harness::{PATIENCE, Project, eventually};

/// A harness that cannot see a leak would let every other test pass.
#[test]
fn a_process_left_in_the_project_is_found_in_every_guise() {
    let project = Project::new();
    let spawn = |command: &mut Command| command.spawn().expect("it runs");
    let mut children = [
        // By its working directory alone, by its environment alone, by the token alone.
        spawn(Command::new("sleep").arg("1000").env_clear().current_dir(project.dir())),
        spawn(Command::new("sleep").arg("1000").current_dir("/").env("X", project.dir())),
        spawn(Command::new("sh").args(["-c", "read never", &project.fill("{token}")]).current_dir("/").stdin(Stdio::piped())),
    ];
    // A spawn returns when the new program's memory is there; its words and variables follow a moment later.
    for child in &children {
        let pid = i32::try_from(child.id()).expect("a pid");
        eventually("it is found", PATIENCE, || project.leftovers().iter().any(|process| process.pid == pid).then_some(()));
    }
    // A killed child that nobody waited for is a zombie, and a zombie is not alive.
    for child in &mut children {
        child.kill().expect("our own child");
    }
    let direct: Vec<i32> = children.iter().filter_map(|child| i32::try_from(child.id()).ok()).collect();
    eventually("zombies do not count", PATIENCE, || {
        project.leftovers().iter().all(|process| !direct.contains(&process.pid)).then_some(())
    });
    for child in &mut children {
        child.wait().expect("our own child");
    }
}

/// The harness of `tests/real` takes the tests that a file names in `trials!`; what has `#[test]` is not even compiled there.
#[test]
fn no_test_of_the_other_harness_is_marked_as_one_of_this() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/real");
    let main = std::fs::read_to_string(folder.join("main.rs")).expect("our own source");
    let named = main.lines().filter_map(|line| line.strip_prefix("#[path = \"")?.strip_suffix("\"]"));
    let mut files: Vec<_> = named.filter(|name| !name.ends_with("harness.rs")).map(|name| folder.join(name)).collect();
    files.extend(std::fs::read_dir(&folder).expect("our own folder").flatten().map(|entry| entry.path()));
    assert!(files.len() > 10, "{files:?}");
    for file in files {
        let text = std::fs::read_to_string(&file).expect("our own source");
        assert!(!text.lines().any(|line| line.trim() == "#[test]"), "{}: name it in trials! instead", file.display());
    }
}
