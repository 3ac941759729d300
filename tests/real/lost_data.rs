//! Servers whose data directory is deleted while they run end within their grace period.

use std::fs;
use std::time::Duration;

use crate::harness::Project;
use crate::services;

trials![redis_without_its_data_directory_stops_without_saving, redis_whose_plan_changed_or_whose_project_was_moved_saves];

/// With save points and unsaved data: TERM alone makes it try to save, fail, and stay.
const REDIS: &str = "[services.x]\nuse = \"redis\"\nport = \"auto\"\nset = { save = \"900 1\" }\nstop = { grace = \"60s\" }\n";

fn stopped(project: &Project, args: &[&str]) {
    let outcome = project.start(args).outcome_within(Duration::from_secs(120)).code(0);
    // Far from the grace period, after which it would be killed.
    assert!(outcome.took < Duration::from_secs(30), "{outcome}");
    outcome.says("its data directory was deleted: stopping it without saving").says_not("cannot be stopped").says_not("killed");
    // In its own words, too.
    project.run(&["logs", "x"]).code(0).says("User requested shutdown");
}

fn redis_without_its_data_directory_stops_without_saving() {
    let Some(project) = services::project("redis", true) else { return };
    project.rewrite(REDIS);
    let data = project.path(".devrun/data/x");
    for is_made_again in [false, true] {
        project.start(&["up", "-d"]).outcome_within(Duration::from_secs(60)).code(0);
        project.run(&["redis-cli", "--on", "x", "SET", "key", "unsaved"]).code(0).says("OK");
        // What `-v` tells of it, asked for by its name.
        project.run(&["wait", "x", "-v"]).code(0).says("all hold").says("standalone, up for").says("memory ").says("noeviction");
        assert!(data.join("redis/data").is_dir(), "its data directory is another one by now");
        fs::remove_dir_all(&data).expect("our own directory");
        if is_made_again {
            fs::create_dir_all(data.join("redis/data")).expect("our own directory");
        }
        stopped(&project, if is_made_again { &["down"] } else { &["stop", "x"] });
        project.run(&["down"]).code(0);
        project.nothing_left();
        // The next start begins with an empty directory.
        fs::remove_dir_all(&data).or_else(|error| if data.exists() { Err(error) } else { Ok(()) }).expect("our own directory");
    }
}

/// The plan says where the next process will have its data; the one that is stopped has its own.
fn redis_whose_plan_changed_or_whose_project_was_moved_saves() {
    let Some(project) = services::project("redis", true) else { return };
    let limit = Duration::from_secs(60);
    let up = |mode: &[&str]| {
        let args: Vec<&str> = mode.iter().copied().chain(["up", "-d"]).collect();
        project.start(&args).outcome_within(limit).code(0).says_not("was deleted")
    };
    project.rewrite(&format!("{REDIS}[modes.other]\nservices.x.description = \"x\"\n"));
    up(&[]);
    project.run(&["redis-cli", "--on", "x", "SET", "key", "of the first"]).code(0).says("OK");
    up(&["--mode", "other"]);
    project.run(&["--mode", "other", "redis-cli", "--on", "x", "GET", "key"]).code(0).says_not("of the first");
    up(&[]);
    project.run(&["redis-cli", "--on", "x", "GET", "key"]).code(0).says("of the first");
    project.run(&["redis-cli", "--on", "x", "SET", "key", "before the move"]).code(0).says("OK");
    let (here, there) = (project.path(""), project.root().join("moved"));
    fs::rename(&here, &there).expect("our own directory");
    // Commands of the test begin here.
    fs::create_dir(&here).expect("a directory");
    let moved = there.to_str().expect("text");
    project.start(&["-C", moved, "down"]).outcome_within(limit).code(0).says_not("was deleted");
    fs::remove_dir(&here).expect("it is empty");
    fs::rename(&there, &here).expect("our own directory");
    up(&[]);
    project.run(&["redis-cli", "--on", "x", "GET", "key"]).code(0).says("before the move");
    project.run(&["down"]).code(0);
}
