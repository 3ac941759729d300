//! What the dashboard shows at one moment.

use std::collections::BTreeMap;

use devrun_model::feed::Status;
use devrun_model::{ServiceStatus, StateChange};

/// One line of the log pane.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct LogRow {
    /// Whose.
    pub service: String,
    /// When, as a person reads it.
    pub time: String,
    /// The line without control sequences.
    pub text: String,
    /// It is ours, not the service's.
    pub is_note: bool,
    /// It came from standard error.
    pub is_stderr: bool,
}

/// What a service uses.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct ServiceUsage {
    /// Percent of one core; `None` until there are two samples.
    pub cpu: Option<f64>,
    /// Bytes.
    pub memory: u64,
}

/// What the large pane shows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Pane {
    /// The log of the selection.
    Log,
    /// A text that was asked for: title, lines, first line shown.
    Text {
        /// What it is.
        title: String,
        /// Its lines.
        lines: Vec<String>,
        /// The first line shown.
        top: usize,
    },
}

/// What is being typed at the bottom.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PromptKind {
    /// A pattern to look for.
    Search,
    /// A pattern that shown lines match.
    Filter,
    /// A time to go to.
    Time,
}

/// An open line of input.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Prompt {
    /// For what.
    pub kind: PromptKind,
    /// As typed so far.
    pub text: String,
}

/// Where a drag began and where the mouse is: column and row of the screen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Drag {
    /// Where the button went down.
    pub from: (u16, u16),
    /// Where it is now.
    pub to: (u16, u16),
}

/// The whole dashboard.
#[derive(Debug, Clone, PartialEq)]
pub struct Dashboard {
    /// The stack.
    pub status: Status,
    /// What each service uses, by name.
    pub usage: BTreeMap<String, ServiceUsage>,
    /// 0: all services; else a service's place in the list plus one.
    pub selected: usize,
    /// What the large pane shows.
    pub pane: Pane,
    /// Lines of the log that are shown, oldest first.
    pub rows: Vec<LogRow>,
    /// The number of the line that a search has found.
    pub found: Option<usize>,
    /// New lines are shown as they come.
    pub follows: bool,
    /// Columns of each line that are left out.
    pub indent: usize,
    /// The pattern looked for.
    pub search: Option<String>,
    /// The pattern that shown lines match.
    pub filter: Option<String>,
    /// What is typed.
    pub prompt: Option<Prompt>,
    /// A message in the last line, until the next key.
    pub message: Option<String>,
    /// The mouse is ours.
    pub mouse: bool,
    /// Colours may be used.
    pub color: bool,
    /// A selection that is being made.
    pub drag: Option<Drag>,
    /// Columns and rows of the screen.
    pub size: (u16, u16),
    /// The last failure, as lines.
    pub report: Vec<String>,
}

impl Dashboard {
    /// For a stack, following all logs.
    #[must_use]
    pub fn new(status: Status, color: bool) -> Self {
        Self {
            status,
            usage: BTreeMap::new(),
            selected: 0,
            pane: Pane::Log,
            rows: Vec::new(),
            found: None,
            follows: true,
            indent: 0,
            search: None,
            filter: None,
            prompt: None,
            message: None,
            mouse: true,
            color,
            drag: None,
            size: (80, 24),
            report: Vec::new(),
        }
    }

    /// The services, in the order shown.
    #[must_use]
    pub fn services(&self) -> &[ServiceStatus] {
        &self.status.snapshot.services
    }

    /// The selected service; `None`: all of them.
    #[must_use]
    pub fn selected_service(&self) -> Option<&ServiceStatus> {
        self.selected.checked_sub(1).and_then(|at| self.services().get(at))
    }

    /// Takes a new state over; the selection stays on its service.
    pub fn update(&mut self, status: Status) {
        let name = self.selected_service().map(|service| service.name.clone());
        self.status = status;
        self.selected =
            name.and_then(|name| self.services().iter().position(|service| service.name == name)).map_or(0, |at| at + 1);
    }

    /// Shows a text in the large pane.
    pub fn show_text(&mut self, title: impl Into<String>, lines: Vec<String>) {
        self.indent = 0;
        self.pane = Pane::Text { title: title.into(), lines, top: 0 };
    }

    /// The line that `y` copies: the one found, else the last one shown.
    #[must_use]
    pub fn current_row(&self) -> Option<&LogRow> {
        self.found.and_then(|at| self.rows.get(at)).or_else(|| self.rows.last())
    }
}

/// A state change as one line.
#[must_use]
pub fn event_line(change: &StateChange, time: &str) -> String {
    let name = change.copy_name();
    let what = if change.from == change.to {
        format!("{} {}", change.to, change.health)
    } else {
        format!("{} → {}", change.from, change.to)
    };
    let mut line = format!("{time}  {name:16} {what}");
    if let Some(code) = change.exit_code {
        line.push_str(&format!("  exit {code}"));
    }
    let reason = change.reason_beyond_exit();
    if !reason.is_empty() {
        line.push_str(&format!("  {reason}"));
    }
    line
}
