//! `[project] branch_data`: each git branch has volumes of its own, which start as a copy of those used last.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::harness::Project;

const STACK: &str = r#"
[project]
name = "shop"
branch_data = true
[volumes]
placed = { path = "placed" }
[services.store]
run = "{svc:store}"
data = "data"
volumes = ["placed"]
env = { DIR = "${dir.data}" }
"#;

/// A repository with one commit on `main`.
fn stack() -> Project {
    let project = Project::new().procfile(STACK);
    git(&project, &project.dir(), &["init", "-q", "-b", "main"]);
    git(&project, &project.dir(), &["add", "procfile.toml"]);
    git(&project, &project.dir(), &["commit", "-q", "-m", "stack"]);
    project
}

fn git(project: &Project, directory: &Path, args: &[&str]) {
    let nothing = project.root().join("home/no-config");
    let mut command = Command::new("git");
    command.arg("-C").arg(directory).args(["-c", "user.name=t", "-c", "user.email=t@example.invalid"]).args(args);
    let done = command.env("GIT_CONFIG_GLOBAL", &nothing).env("GIT_CONFIG_SYSTEM", &nothing).output().expect("git runs");
    assert!(done.status.success(), "git {args:?}: {}", String::from_utf8_lossy(&done.stderr));
}

fn create(project: &Project, branch: &str) {
    git(project, &project.dir(), &["switch", "-q", "-c", branch]);
}

fn switch(project: &Project, branch: &str) {
    git(project, &project.dir(), &["switch", "-q", branch]);
}

fn up_and_down(project: &Project, args: &[&str]) {
    let mut words = vec!["up", "-d"];
    words.extend(args);
    project.run(&words).code(0);
    project.run(&["down"]).code(0);
}

/// Shows: project.branch_data, branch, branch list, branch list --json, branch rm.
#[test]
fn data_follow_the_git_branch() {
    let project = stack();
    up_and_down(&project, &[]);
    assert!(project.path(".devrun/branches/main/branch.json").exists());
    project.run(&["config", "store"]).code(0).says(".devrun/branches/main/data");
    project.write(".devrun/branches/main/data/data/file", "main");
    create(&project, "feature/x");
    // A copy costs something here, or nothing where the file system shares blocks: then nothing is asked.
    let up = project.run(&["up", "-d"]);
    if up.code != Some(0) {
        up.code(2).says("branch feature/x starts with the data of branch main").says("devrun up --yes");
        assert!(!project.path(".devrun/branches/feature%2Fx").exists());
        project.run(&["up", "-d", "--yes"]).code(0).says("branch feature/x starts with a copy of the data of branch main");
    }
    project.run(&["config", "store"]).code(0).says(".devrun/branches/feature%2Fx/data");
    project.run(&["down"]).code(0);
    let own = ".devrun/branches/feature%2Fx/data/data/file";
    assert_eq!(project.read(own), "main");
    project.write(own, "feature");
    switch(&project, "main");
    up_and_down(&project, &[]);
    assert_eq!(project.read(".devrun/branches/main/data/data/file"), "main");
    // Snapshots are of the branch that is checked out, and can be restored into another.
    switch(&project, "feature/x");
    project.run(&["snapshot", "save", "x"]).code(0);
    switch(&project, "main");
    project.run(&["snapshot", "restore", "x", "--yes"]).code(0);
    assert_eq!(project.read(".devrun/branches/main/data/data/file"), "feature");
    let list = project.run(&["branch", "list", "--json"]).code(0).json();
    let names: Vec<_> =
        list.as_array().expect("a list").iter().map(|row| (row["branch"].clone(), row["current"].clone())).collect();
    assert_eq!(names, [("feature/x".into(), false.into()), ("main".into(), true.into())]);
    assert_eq!(list[0]["parent"], "main");
    project.run(&["branch", "rm", "feature/x"]).code(2).says("--yes");
    project.run(&["branch", "rm", "feature/x", "--yes"]).code(0);
    project.run(&["branch", "rm", "feature/x", "--yes"]).code(2).says("branch `feature/x` has no data").says("there are: main");
    assert!(!project.path(".devrun/branches/feature%2Fx").exists());
    project.run(&["clean", "--yes"]).code(0);
    assert!(!project.path(".devrun/branches/main/data/data").exists());
    project.nothing_left();
}

#[test]
fn a_new_branch_is_not_copied_from_a_stack_that_is_up() {
    let project = stack();
    project.run(&["up", "-d"]).code(0);
    project.write(".devrun/branches/main/data/data/file", "main");
    create(&project, "other");
    project
        .run(&["up", "-d", "--yes"])
        .code(6)
        .says("the stack is up on the data of branch main")
        .says("devrun down, then devrun up");
    for words in [&["restart", "store"][..], &["start", "store"], &["scale", "store=1"]] {
        project.run(words).code(6).says("branch other has no data yet");
    }
    assert!(!project.path(".devrun/branches/other").exists());
    project.run(&["branch", "rm", "main", "--yes"]).code(6);
    assert!(project.path(".devrun/branches/main/data/data/file").exists());
    project.run(&["down"]).code(0);
    // What a killed copy has left is removed, and no branch is made of it.
    fs::create_dir_all(project.path(".devrun/branches/.stage-0/data")).expect("our own folder");
    up_and_down(&project, &["--yes"]);
    assert!(!project.path(".devrun/branches/.stage-0").exists());
    assert_eq!(project.read(".devrun/branches/other/data/data/file"), "main");
    // Without a branch, the usual data.
    git(&project, &project.dir(), &["switch", "-q", "--detach"]);
    project.run(&["config", "store"]).code(0).says("/.devrun/data");
    project.nothing_left();
}

/// Two worktrees of one repository have a stack and data each, also while both are up.
#[test]
fn each_worktree_has_data_of_its_own() {
    let project = stack();
    let other = project.root().join("w");
    git(&project, &project.dir(), &["worktree", "add", "-q", "-b", "side", &other.display().to_string()]);
    let at = other.display().to_string();
    project.run(&["up", "-d"]).code(0);
    project.run(&["-C", &at, "up", "-d"]).code(0);
    project.run(&["config", "store"]).code(0).says("/p/.devrun/branches/main/data");
    project.run(&["-C", &at, "config", "store"]).code(0).says("/w/.devrun/branches/side/data");
    let list = project.run(&["-C", &at, "branch", "list", "--json"]).code(0).json();
    assert_eq!(list.as_array().map(Vec::len), Some(1), "{list}");
    assert_eq!((&list[0]["branch"], &list[0]["current"]), (&"side".into(), &true.into()));
    project.run(&["-C", &at, "down"]).code(0);
    project.run(&["down"]).code(0);
    project.nothing_left();
}

/// A stack that is thrown away begins empty on any branch.
#[test]
fn an_ephemeral_stack_leaves_the_branches_alone() {
    let project = stack();
    project.run(&["run", "--ephemeral", "--", "true"]).code(0);
    assert!(!project.path(".devrun/branches").exists());
    project.nothing_left();
}
