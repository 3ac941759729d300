//! `devrun ui` on a real terminal: tmux types the keys, shows the screen and takes what is copied.

use std::time::Duration;

use crate::harness::{PATIENCE, Project, eventually, skipped};
use crate::waits::{let_time_pass, within};

/// A terminal of its own, run by a tmux server of its own.
struct Tmux<'a> {
    project: &'a Project,
    socket: String,
}

impl<'a> Tmux<'a> {
    /// `None`: there is no tmux.
    fn start(project: &'a Project, columns: u32, rows: u32, command: &str) -> Option<Self> {
        if !std::process::Command::new("tmux").arg("-V").output().is_ok_and(|output| output.status.success()) {
            return None;
        }
        let socket = project.path("tmux").display().to_string();
        let tmux = Self { project, socket };
        let script = format!(
            "tmux -S {0} -f /dev/null new-session -d -x {columns} -y {rows} \"$0 {command}; echo left: \\$?; sleep 1000\" \
             && tmux -S {0} set-option -s set-clipboard on",
            tmux.socket
        );
        project.run_in_shell(&script).code(0);
        Some(tmux)
    }
    fn tmux(&self, words: &str) -> String {
        self.project.run_in_shell(&format!("tmux -S {} {words}", self.socket)).stdout
    }
    fn keys(&self, keys: &str) {
        self.tmux(&format!("send-keys {keys}"));
    }
    fn screen(&self) -> String {
        self.tmux("capture-pane -p")
    }
    #[track_caller]
    fn wait_for(&self, text: &str) -> String {
        let mut last = String::new();
        let found = within(PATIENCE, || {
            last = self.screen();
            last.contains(text).then_some(())
        });
        assert!(found.is_some(), "{text:?} never was on the screen:\n{last}");
        last
    }
    fn pid(&self) -> i32 {
        let shell: i32 = self.tmux("list-panes -F '#{pane_pid}'").trim().parse().expect("a pid");
        eventually("the dashboard's process", PATIENCE, || {
            let below = std::fs::read_to_string(format!("/proc/{shell}/task/{shell}/children")).ok()?;
            below.split_whitespace().next()?.parse().ok()
        })
    }
}

impl Drop for Tmux<'_> {
    fn drop(&mut self) {
        self.tmux("kill-server");
    }
}

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
    tmux.keys("Escape");
    tmux.keys("d");
    tmux.wait_for("graph  (Esc closes)");
    tmux.keys("Escape");
    // Escape and a letter at once would be one key, Alt and that letter.
    tmux.wait_for("filler 200");
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
