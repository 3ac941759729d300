//! `devrun ui` on a real terminal: tmux types the keys, shows the screen and takes what is copied.

use std::time::Duration;

use crate::harness::{PATIENCE, Project, eventually, skipped};
use crate::tmux::Tmux;
use crate::waits::let_time_pass;

const STACK: &str = r#"
    [services.api]
    run = ["sh", "-c", "for i in 1 2 3 4 5; do echo api line $i; done; echo needle in api; seq -f 'filler %g' 1 200; exec sleep 1000", "{token}"]
    [services.chatty]
    run = ["sh", "-c", "echo hello from chatty; exec sleep 1000", "{token}"]
    depends_on = ["api"]
    [services.broken]
    run = "{svc:broken} --exit 3"
    restart = "no"
    ready = { file = "{dir}/never" }
"#;

/// Shows: ui.
#[test]
fn keys_move_search_copy_and_act() {
    let project = Project::new().procfile(STACK);
    let _failed = project.run(&["up", "-d"]);
    let Some(tmux) = Tmux::start(&project, 120, 24, "ui") else { return skipped("tmux is not installed") };
    let screen = tmux.wait_for("filler 200");
    assert!(screen.contains("2 of 3 running") && screen.contains("1 failed"), "{screen}");
    assert!(screen.contains("✗ broken"), "{screen}");
    // Search in the history on disk, far above what is shown.
    tmux.keys("/ needle Enter");
    tmux.wait_for("needle in api");
    assert!(!tmux.screen().contains("filler 200"));
    tmux.keys("y");
    tmux.wait_for("copied 1 line");
    eventually("the clipboard", PATIENCE, || (tmux.tmux("show-buffer") == "needle in api").then_some(()));
    // Back to the end, and a filter.
    tmux.keys("G");
    tmux.wait_for("filler 200");
    tmux.keys("f hello Enter");
    let filtered = tmux.wait_for("filter: hello");
    assert!(filtered.contains("hello from chatty") && !filtered.contains("filler"), "{filtered}");
    tmux.keys("Escape");
    tmux.wait_for("filler 200");
    // The failure report, why and the graph.
    tmux.keys("Y");
    tmux.wait_for("copied");
    eventually("the report", PATIENCE, || tmux.tmux("show-buffer").contains("broken").then_some(()));
    tmux.keys("Down");
    tmux.wait_for("api");
    tmux.keys("w");
    tmux.wait_for("why api");
    tmux.close();
    tmux.keys("d");
    tmux.wait_for("graph  (Esc closes)");
    tmux.close();
    // Stop and start again.
    tmux.keys("x");
    tmux.wait_for("stop api: done");
    project.wait_state("api", "stopped");
    tmux.keys("s");
    tmux.wait_for("start api: done");
    project.wait_state("api", "running");
    // A storm of sizes, down to 20 by 5.
    for (columns, rows) in [(20, 5), (200, 50), (21, 6), (90, 20), (20, 5)] {
        tmux.tmux(&format!("resize-window -x {columns} -y {rows}"));
    }
    tmux.wait_for("of 3 ru");
    tmux.tmux("resize-window -x 120 -y 24");
    // The last line still shows the result of the last action.
    tmux.wait_for("start api: done");
    tmux.wait_for("filler 181");
    tmux.keys("q");
    tmux.wait_for("left: 0");
    assert_eq!(project.service("api")["state"], "running", "leaving stops nothing");
    project.run(&["down"]).code(0);
}

#[test]
fn a_stack_that_is_down_can_be_looked_at_and_started() {
    let project =
        Project::new().procfile("[services.a]\nrun = [\"sh\", \"-c\", \"echo was here; exec sleep 1000\", \"{token}\"]\n");
    project.run(&["up", "-d"]).code(0);
    eventually("its line", PATIENCE, || project.run(&["logs"]).stdout.contains("was here").then_some(()));
    project.run(&["down"]).code(0);
    let Some(tmux) = Tmux::start(&project, 100, 20, "ui") else { return skipped("tmux is not installed") };
    let screen = tmux.wait_for("down: this is how it ended");
    assert!(screen.contains("was here"), "{screen}");
    tmux.keys("s");
    tmux.wait_for("1 of 1 running");
    project.run(&["down"]).code(0);
    tmux.wait_for("down: this is how it ended");
    tmux.keys("q");
    tmux.wait_for("left: 0");
}

/// Shows: up --ui.
#[test]
fn up_with_the_dashboard_and_leaving_it_detaches() {
    let project = Project::new().procfile("[services.a]\nrun = [\"sh\", \"-c\", \"echo hello; exec sleep 1000\", \"{token}\"]\n");
    project.run(&["ui"]).code(2).says("the dashboard needs a terminal");
    let Some(tmux) = Tmux::start(&project, 100, 20, "up --ui") else { return skipped("tmux is not installed") };
    tmux.wait_for("1 of 1 running");
    tmux.wait_for("hello");
    tmux.keys("q");
    tmux.wait_for("left: 0");
    assert_eq!(project.service("a")["state"], "running");
    project.run(&["down"]).code(0);
}

#[test]
fn nothing_wakes_it_while_nothing_changes() {
    let project = Project::new().procfile("[services.a]\nrun = [\"sh\", \"-c\", \"echo hello; exec sleep 1000\", \"{token}\"]\n");
    project.run(&["up", "-d"]).code(0);
    let Some(tmux) = Tmux::start(&project, 100, 20, "ui") else { return skipped("tmux is not installed") };
    tmux.wait_for("hello");
    let pid = tmux.pid();
    let switches = || -> u64 {
        let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).expect("it runs");
        tasks
            .flatten()
            .filter_map(|task| std::fs::read_to_string(task.path().join("status")).ok())
            .flat_map(|text| {
                text.lines()
                    .filter_map(|line| line.strip_prefix("voluntary_ctxt_switches:")?.trim().parse::<u64>().ok())
                    .collect::<Vec<_>>()
            })
            .sum()
    };
    // What the start left to do may take a moment; then a stretch without a single wake-up.
    eventually("five seconds without a wake-up", PATIENCE, || {
        let before = switches();
        let_time_pass("the window of the measurement", Duration::from_secs(5));
        (switches() == before).then_some(())
    });
    project.run(&["down"]).code(0);
}

#[test]
fn a_closed_terminal_ends_it() {
    let project = Project::new().procfile("[services.a]\nrun = \"{svc:a}\"\n");
    project.run(&["up", "-d"]).code(0);
    let terminal = project.terminal(&["ui"]);
    eventually("raw mode", PATIENCE, || (!terminal.is_cooked()).then_some(()));
    let left = terminal.hang_up();
    assert!(left.code == Some(129) || left.signal == Some(1), "{left}");
    assert_eq!(project.service("a")["state"], "running");
    project.run(&["down"]).code(0);
}

/// A terminal is taken and given back, a time is gone to, text is dragged over, and what is known of a service is shown.
#[test]
fn attach_time_mouse_inspect_and_events() {
    let project = Project::new().procfile(
        r#"
        [services.console]
        run = ["sh", "con.sh", "{token}"]
        tty = true
        [services.talker]
        run = ["sh", "-c", "echo the first line; seq -f 'filler %g' 1 200; echo the last line; exec sleep 1000", "{token}"]
        "#,
    );
    project.write("con.sh", "while read -r line; do echo \"got $line\"; done\n");
    project.run(&["up", "-d"]).code(0);
    let Some(tmux) = Tmux::start(&project, 110, 24, "ui") else { return skipped("tmux is not installed") };
    tmux.wait_for("the last line");
    tmux.keys("Down");
    tmux.keys("t");
    tmux.wait_for("attached to console");
    tmux.keys("hello Enter");
    tmux.wait_for("got hello");
    tmux.keys("C-]");
    tmux.wait_for("2 of 2 running");
    assert_eq!(project.service("console")["state"], "running");
    tmux.keys("Down");
    tmux.wait_for("the last line");
    tmux.keys("t");
    tmux.wait_for("attach talker: exit 2");
    // An hour ago is before the first line, which is then the topmost.
    tmux.keys("@ 1h Enter");
    let screen = tmux.wait_for("the first line");
    assert!(!screen.contains("the last line"), "{screen}");
    tmux.keys("@ never Enter");
    tmux.wait_for("never");
    let (column, row) = tmux.place_of("the first line");
    tmux.mouse(0, (column + 4, row), false);
    tmux.mouse(32, (column + 8, row), false);
    tmux.mouse(0, (column + 8, row), true);
    eventually("the dragged text", PATIENCE, || (tmux.tmux("show-buffer").trim_end() == "first").then_some(()));
    tmux.keys("m");
    tmux.wait_for("the mouse is the terminal's");
    tmux.keys("m");
    tmux.wait_for("the mouse selects log text");
    tmux.keys("i");
    tmux.wait_for("inspect talker");
    tmux.close();
    tmux.keys("e");
    tmux.wait_for("state changes");
    tmux.close();
    tmux.keys("?");
    tmux.wait_for("nothing is stopped");
    tmux.close();
    tmux.keys("r");
    tmux.wait_for("restart talker: done");
    tmux.keys("C-c");
    tmux.wait_for("left: 0");
    project.run(&["down"]).code(0);
}

/// A flood, a line of 10 MB, sequences, wide characters: the dashboard shows the end of it and answers keys, and nobody waits for it.
#[test]
fn a_flood_and_hostile_lines_are_shown() {
    let project = Project::new().procfile(
        r#"
        [services.flood]
        run = ["sh", "-c", "while ! [ -e go ]; do sleep 0.05; done; seq -f 'flood line %g' 1 400000; touch done; exec sleep 1000", "{token}"]
        [services."odd"]
        run = ["sh", "-c", "printf 'a\\033]52;c;aGk=\\007b\\033[2Jc\\033[?1049ld 日本語 <script>\\n'; head -c 10000000 /dev/zero | tr '\\0' x; echo; exec sleep 1000", "{token}"]
        "#,
    );
    project.run(&["up", "-d"]).code(0);
    let Some(tmux) = Tmux::start(&project, 100, 20, "ui") else { return skipped("tmux is not installed") };
    tmux.wait_for("2 of 2 running");
    tmux.keys("Down Down");
    tmux.wait_for("xxxxxxxx");
    tmux.keys("g");
    tmux.wait_for("abcd 日本語 <script>");
    assert!(!tmux.tmux("show-buffer").contains("hi"), "the service's copy is not carried out");
    tmux.keys("Up");
    tmux.keys("G");
    project.write("go", "");
    // Sizes change and keys come while it is flooded.
    for (columns, rows) in [(30, 6), (150, 40), (20, 5), (100, 20)] {
        tmux.tmux(&format!("resize-window -x {columns} -y {rows}"));
    }
    eventually("all of the flood was written", PATIENCE, || project.path("done").exists().then_some(()));
    tmux.wait_for("flood line 400000");
    tmux.keys("/ 'line 399000$' Enter");
    tmux.wait_for("flood line 399000");
    tmux.keys("q");
    tmux.wait_for("left: 0");
    project.run(&["down"]).code(0);
}
