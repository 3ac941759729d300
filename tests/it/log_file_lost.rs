//! Log files that are deleted, renamed or replaced while a service writes: its lines are kept in a new file, or counted.

use std::fs;
use std::os::unix::fs::symlink;

use crate::harness::{PATIENCE, Project, eventually};

const LOG: &str = ".devrun/logs/a.log";

/// A service that writes a number every 50 ms.
fn writing() -> Project {
    let project = Project::new().procfile(
        "[services.a]\nrun = [\"sh\", \"-c\", \"n=0; while :; do n=$((n+1)); echo line $n; sleep 0.05; done\", \"{token}\"]\n",
    );
    project.run(&["up", "-d"]).code(0);
    eventually("its first lines", PATIENCE, || project.read(LOG).contains("line 3\n").then_some(()));
    project
}

/// Waits until there is a new file that says why, with lines behind that.
fn kept_again(project: &Project, what: &str) {
    let log = project.path(LOG);
    let text = eventually(what, PATIENCE, || {
        // A FIFO would be waited for at its opening.
        let is_file = fs::symlink_metadata(&log).is_ok_and(|meta| meta.is_file());
        let text = is_file.then(|| fs::read_to_string(&log).ok()).flatten()?;
        text.split_once("was deleted or replaced").is_some_and(|(_, after)| after.contains("line ")).then_some(text)
    });
    assert!(!text.contains("line 3\n"), "{what}: {text}");
    let shown = project.run(&["logs", "a", "--json"]).code(0).json_lines();
    let note = shown.iter().find(|line| line["line"].as_str().is_some_and(|text| text.contains("was deleted or replaced")));
    assert_eq!(note.map(|line| line["stream"].clone()), Some("devrun".into()), "{what}: {shown:?}");
    assert!(shown.iter().any(|line| line["stream"] == "stdout"), "{what}: {shown:?}");
}

#[test]
fn a_log_file_that_is_deleted_is_made_again() {
    let project = writing();
    fs::remove_file(project.path(LOG)).unwrap();
    kept_again(&project, "deleted");
    project.run(&["down"]).code(0);
}

#[test]
fn a_log_file_that_is_renamed_is_left_and_a_new_one_made() {
    let project = writing();
    fs::rename(project.path(LOG), project.path("old.log")).unwrap();
    kept_again(&project, "renamed");
    assert!(project.read("old.log").contains("line 3\n"));
    project.run(&["down"]).code(0);
}

#[test]
fn a_link_in_the_place_of_a_log_file_is_not_followed() {
    let project = writing();
    project.write("target", "untouched");
    fs::remove_file(project.path(LOG)).unwrap();
    symlink(project.path("target"), project.path(LOG)).unwrap();
    kept_again(&project, "a link");
    assert_eq!(project.read("target"), "untouched");
    project.run(&["down"]).code(0);
}

#[test]
fn a_log_directory_that_is_deleted_is_made_again() {
    let project = writing();
    fs::remove_dir_all(project.path(".devrun/logs")).unwrap();
    kept_again(&project, "its directory");
    use std::os::unix::fs::PermissionsExt;
    assert_eq!(fs::metadata(project.path(".devrun/logs")).unwrap().permissions().mode() & 0o777, 0o700);
    project.run(&["down"]).code(0);
}

/// The open files go along; at the old place nothing is made.
#[test]
fn the_log_of_a_project_that_is_moved_goes_on_there() {
    let project = writing();
    let (here, there) = (project.dir(), project.root().join("there"));
    fs::rename(&here, &there).unwrap();
    fs::create_dir(&here).unwrap();
    let log = there.join(LOG);
    let before = fs::metadata(&log).unwrap().len();
    // Several looks at the name.
    eventually("its lines", PATIENCE, || (fs::metadata(&log).unwrap().len() > before + 300).then_some(()));
    assert_eq!(fs::read_dir(&here).unwrap().count(), 0);
    assert!(!fs::read_to_string(&log).unwrap().contains("deleted or replaced"));
    fs::remove_dir(&here).unwrap();
    fs::rename(&there, &here).unwrap();
    project.run(&["down"]).code(0);
}

#[test]
fn an_index_that_is_deleted_is_made_again() {
    let project = writing();
    fs::remove_file(project.path(".devrun/logs/a.idx")).unwrap();
    let index = project.path(".devrun/logs/a.idx");
    eventually("the index", PATIENCE, || fs::metadata(&index).is_ok_and(|meta| meta.len() >= 48).then_some(()));
    assert!(project.read(LOG).contains("line 3\n"));
    project.run(&["logs", "a", "--json"]).code(0);
    project.run(&["down"]).code(0);
}

#[test]
fn lines_that_cannot_be_kept_are_counted_in_ps_and_an_event() {
    let project = writing();
    // Neither a directory nor a link to one is in devrun's right to remove.
    let logs = project.path(".devrun/logs");
    let away = project.path("elsewhere");
    fs::create_dir(&away).unwrap();
    for round in 0..2 {
        if round == 0 {
            fs::remove_file(project.path(LOG)).unwrap();
            fs::create_dir(project.path(LOG)).unwrap();
        } else {
            fs::rename(&logs, project.path("logs.old")).unwrap();
            symlink(&away, &logs).unwrap();
        }
        let reason = eventually("the reason in ps", PATIENCE, || {
            let service = project.service("a");
            service["reason"].as_str().filter(|reason| reason.contains("output is not kept")).map(str::to_owned)
        });
        assert!(!reason.starts_with("0 lines") && reason.contains("of log output lost"), "{reason}");
        if round == 0 {
            fs::remove_dir(project.path(LOG)).unwrap();
        } else {
            assert_eq!(fs::read_dir(&away).unwrap().count(), 0);
            fs::remove_file(&logs).unwrap();
        }
        eventually("the note in the log", PATIENCE, || project.read(LOG).contains("of log output lost").then_some(()));
        eventually("both events", PATIENCE, || {
            let events = project.run(&["events", "--json"]).stdout;
            (events.contains("output is not kept") && events.contains("output is kept again")).then_some(())
        });
    }
    project.run(&["down"]).code(0);
}

fn fifo(path: &std::path::Path) {
    nix::unistd::mkfifo(path, nix::sys::stat::Mode::S_IRUSR | nix::sys::stat::Mode::S_IWUSR).unwrap();
}

#[test]
fn a_fifo_in_the_place_of_a_log_file_holds_nothing_up() {
    let project = writing();
    fs::remove_file(project.path(LOG)).unwrap();
    fifo(&project.path(LOG));
    kept_again(&project, "a FIFO");
    project.run(&["down"]).code(0);
}

/// Each file of the state directory as a FIFO, which blocks whoever opens it, and as a directory: commands end, with what to do
/// where they cannot go on.
#[test]
fn nothing_in_the_place_of_a_file_of_the_state_directory_blocks() {
    let project = Project::new().procfile("[services.a]\nrun = \"sh -c 'echo said; exec sleep 1000'\"\n");
    project.run(&["up", "-d"]).code(0);
    eventually("its line", PATIENCE, || project.read(LOG).contains("said").then_some(()));
    project.run(&["down"]).code(0);
    let state = project.path(".devrun");
    let files = [
        "journal",
        "lock",
        "location",
        "state.json",
        "logs/a.log",
        "logs/a.idx",
        "logs/devrun.log",
        "logs/events.jsonl",
        "logs/starts.jsonl",
    ];
    for file in files {
        let place = state.join(file);
        assert!(place.is_file(), "{file} is a file of the state directory");
        for is_fifo in [true, false] {
            let kept = fs::read(&place).unwrap();
            fs::remove_file(&place).unwrap();
            if is_fifo {
                fifo(&place)
            } else {
                fs::create_dir(&place).unwrap()
            }
            let what = format!("{file} as a {}", if is_fifo { "FIFO" } else { "directory" });
            for words in [&["ps"][..], &["logs"], &["events"], &["analyze"], &["up", "-d"], &["logs"], &["down"]] {
                let ended = project.start(words).outcome_within(PATIENCE);
                let is_fine = ended.code == Some(0) || ended.code == Some(2) && ended.stderr.contains("help: ");
                // Nothing has been started to be analyzed where the events cannot be read.
                assert!(is_fine || words[0] == "analyze" && ended.code.is_some_and(|code| code < 125), "{what}: {ended}");
            }
            project.run(&["down", "--emergency"]).code(0);
            project.nothing_left();
            // Put aside, made again, or still there.
            if !fs::symlink_metadata(&place).is_ok_and(|meta| meta.is_file()) {
                let _gone = if is_fifo { fs::remove_file(&place) } else { fs::remove_dir(&place) };
                fs::write(&place, kept).unwrap();
            }
        }
    }
}
