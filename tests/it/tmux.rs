//! A real terminal: tmux types the keys, shows the screen and takes what is copied.

use crate::harness::{PATIENCE, Project, eventually};
use crate::waits::within;

/// A terminal of its own, run by a tmux server of its own.
pub struct Tmux<'a> {
    project: &'a Project,
    socket: String,
}

impl<'a> Tmux<'a> {
    /// `None`: there is no tmux.
    pub fn start(project: &'a Project, columns: u32, rows: u32, command: &str) -> Option<Self> {
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
    pub fn tmux(&self, words: &str) -> String {
        self.project.run_in_shell(&format!("tmux -S {} {words}", self.socket)).stdout
    }
    pub fn keys(&self, keys: &str) {
        self.tmux(&format!("send-keys {keys}"));
    }
    /// Closes what is open. Only when it is closed may another key follow: right behind Esc, terminals take it for Alt and that key.
    pub fn close(&self) {
        self.wait_for("(Esc closes)");
        self.keys("Escape");
        eventually("a closed pane", PATIENCE, || (!self.screen().contains("(Esc closes)")).then_some(()));
    }
    pub fn screen(&self) -> String {
        self.tmux("capture-pane -p")
    }
    /// A report of the mouse, as terminals send it (SGR), at a column and row from 1.
    pub fn mouse(&self, button: u8, (column, row): (usize, usize), is_release: bool) {
        let report = format!("\u{1b}[<{button};{column};{row}{}", if is_release { 'm' } else { 'M' });
        let bytes: Vec<String> = report.bytes().map(|byte| format!("{byte:02x}")).collect();
        self.keys(&format!("-H {}", bytes.join(" ")));
    }
    /// Column and row, from 1, of a text on the screen.
    #[track_caller]
    pub fn place_of(&self, text: &str) -> (usize, usize) {
        let screen = self.wait_for(text);
        let (row, line) = screen.lines().enumerate().find(|(_, line)| line.contains(text)).expect("it is there");
        let before = line.split(text).next().unwrap_or_default();
        (before.chars().count() + 1, row + 1)
    }
    #[track_caller]
    pub fn wait_for(&self, text: &str) -> String {
        let mut last = String::new();
        let found = within(PATIENCE, || {
            last = self.screen();
            last.contains(text).then_some(())
        });
        assert!(found.is_some(), "{text:?} never was on the screen:\n{last}");
        last
    }
    pub fn pid(&self) -> i32 {
        let shell: i32 = self.tmux("list-panes -F '#{pane_pid}'").trim().parse().expect("a pid");
        eventually("its process", PATIENCE, || {
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
