//! What a key or the mouse means: a change of the dashboard, or something that only its owner can do.

use crossterm::event::{KeyCode, KeyEvent, KeyModifiers, MouseButton, MouseEvent, MouseEventKind};
use ratatui::layout::{Position, Rect};

use super::layout::{first_entry, log_rows, places};
use super::selection::selected_text;
use super::state::{Dashboard, Drag, Pane, Prompt, PromptKind};

/// What is asked of the owner of the dashboard.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DashboardRequest {
    /// Leave; nothing is stopped.
    Quit,
    /// The selection is another one: show its log at the same time.
    ShowLog,
    /// Lines to scroll by; negative: towards older ones.
    Scroll(i64),
    /// To the oldest line.
    Oldest,
    /// To the newest line, and follow.
    Newest,
    /// Look for the pattern: towards older lines or newer ones.
    Search {
        /// Towards older lines.
        older: bool,
    },
    /// The filter is another one.
    Filter,
    /// Go to a time, as typed.
    JumpTo(String),
    /// Show what is known of the selected service.
    Inspect,
    /// Show why the selected service is in its state.
    Why,
    /// Show the dependency graph.
    Graph,
    /// Show the state changes.
    Events,
    /// Take the selected service's terminal.
    Attach,
    /// A command for the selected service, or for all.
    Act(&'static str),
    /// Copy a text through the terminal.
    Copy(String),
    /// Take the mouse, or give it back.
    Mouse(bool),
    /// Draw again from nothing.
    Redraw,
    /// Give the terminal back to the shell until it continues us.
    Suspend,
}

/// Every key, for `?`.
pub const HELP: &[(&str, &str)] = &[
    ("↑ ↓  k j", "select a service (the first: all of them); scroll an open text"),
    ("enter", "log of the selection"),
    ("PgUp PgDn", "scroll the log a page; K and J a line"),
    ("g G  Home End", "oldest line; newest line, and follow"),
    ("← →", "scroll long lines sideways"),
    ("/  n  N", "search the history (regular expression); next older, newer"),
    ("f", "show only lines that match (empty: all)"),
    ("@", "go to a time: 10m, 14:05, 14:05:30, or RFC 3339"),
    ("w", "why it is not running, not ready, or was restarted"),
    ("i", "inspect the service"),
    ("e", "state changes"),
    ("d", "dependency graph"),
    ("t", "attach to its terminal (`tty = true`; Ctrl-] comes back)"),
    ("s x r", "start, stop, restart the selection"),
    ("y  Y", "copy the line; copy the failure report"),
    ("drag", "select log text and copy it"),
    ("m", "give the mouse to the terminal, or take it back"),
    ("Ctrl-L", "draw again"),
    ("Ctrl-Z", "back to the shell; `fg` comes back, services keep running"),
    ("Esc", "close what is open; clear the search"),
    ("q", "leave; nothing is stopped"),
];

/// Carries out a key.
pub fn handle_key(dashboard: &mut Dashboard, key: KeyEvent) -> Option<DashboardRequest> {
    dashboard.message = None;
    dashboard.drag = None;
    let control = key.modifiers.contains(KeyModifiers::CONTROL);
    if control && matches!(key.code, KeyCode::Char('c')) {
        return Some(DashboardRequest::Quit);
    }
    if control && matches!(key.code, KeyCode::Char('z')) {
        return Some(DashboardRequest::Suspend);
    }
    if dashboard.prompt.is_some() {
        return typed(dashboard, key);
    }
    let page = i64::try_from(log_rows(dashboard).max(2) - 1).unwrap_or(1);
    match key.code {
        KeyCode::Char('l') if control => Some(DashboardRequest::Redraw),
        KeyCode::Char('u') if control => scroll(dashboard, -(page / 2).max(1)),
        KeyCode::Char('d') if control => scroll(dashboard, (page / 2).max(1)),
        _ if control => None,
        KeyCode::Char('q') => Some(DashboardRequest::Quit),
        KeyCode::Char('?') => {
            dashboard.show_text("keys", HELP.iter().map(|(key, what)| format!("{key:14} {what}")).collect());
            None
        }
        KeyCode::Esc => escape(dashboard),
        KeyCode::Up | KeyCode::Char('k') if dashboard.pane != Pane::Log => scroll(dashboard, -1),
        KeyCode::Down | KeyCode::Char('j') if dashboard.pane != Pane::Log => scroll(dashboard, 1),
        KeyCode::Up | KeyCode::Char('k') => select(dashboard, dashboard.selected.saturating_sub(1)),
        KeyCode::Down | KeyCode::Char('j') => select(dashboard, dashboard.selected + 1),
        KeyCode::Enter => {
            dashboard.pane = Pane::Log;
            Some(DashboardRequest::ShowLog)
        }
        KeyCode::PageUp => scroll(dashboard, -page),
        KeyCode::PageDown | KeyCode::Char(' ') => scroll(dashboard, page),
        KeyCode::Char('K') => scroll(dashboard, -1),
        KeyCode::Char('J') => scroll(dashboard, 1),
        KeyCode::Home | KeyCode::Char('g') => ends(dashboard, DashboardRequest::Oldest),
        KeyCode::End | KeyCode::Char('G') => ends(dashboard, DashboardRequest::Newest),
        KeyCode::Left => {
            dashboard.indent = dashboard.indent.saturating_sub(8);
            None
        }
        KeyCode::Right => {
            dashboard.indent += 8;
            None
        }
        KeyCode::Char('/') => prompt(dashboard, PromptKind::Search),
        KeyCode::Char('f') => prompt(dashboard, PromptKind::Filter),
        KeyCode::Char('@') => prompt(dashboard, PromptKind::Time),
        KeyCode::Char(key @ ('n' | 'N')) => {
            if dashboard.search.is_none() {
                return prompt(dashboard, PromptKind::Search);
            }
            Some(DashboardRequest::Search { older: key == 'n' })
        }
        KeyCode::Char('w') => of_service(dashboard, DashboardRequest::Why),
        KeyCode::Char('i') => of_service(dashboard, DashboardRequest::Inspect),
        KeyCode::Char('t') => of_service(dashboard, DashboardRequest::Attach),
        KeyCode::Char('e') => Some(DashboardRequest::Events),
        KeyCode::Char('d') => Some(DashboardRequest::Graph),
        KeyCode::Char('s') => Some(DashboardRequest::Act("start")),
        KeyCode::Char('x') => Some(DashboardRequest::Act("stop")),
        KeyCode::Char('r') => Some(DashboardRequest::Act("restart")),
        KeyCode::Char('y') => match dashboard.current_row() {
            Some(row) => Some(DashboardRequest::Copy(row.text.clone())),
            None => say(dashboard, "no line to copy"),
        },
        KeyCode::Char('Y') if dashboard.report.is_empty() => say(dashboard, "nothing has failed"),
        KeyCode::Char('Y') => Some(DashboardRequest::Copy(dashboard.report.join("\n"))),
        KeyCode::Char('m') => {
            dashboard.mouse = !dashboard.mouse;
            dashboard.message =
                Some(if dashboard.mouse { "the mouse selects log text" } else { "the mouse is the terminal's" }.to_owned());
            Some(DashboardRequest::Mouse(dashboard.mouse))
        }
        _ => None,
    }
}

fn say(dashboard: &mut Dashboard, text: &str) -> Option<DashboardRequest> {
    dashboard.message = Some(text.to_owned());
    None
}

fn of_service(dashboard: &mut Dashboard, request: DashboardRequest) -> Option<DashboardRequest> {
    if dashboard.selected_service().is_some() { Some(request) } else { say(dashboard, "select a service first (↑ ↓)") }
}

fn select(dashboard: &mut Dashboard, at: usize) -> Option<DashboardRequest> {
    let at = at.min(dashboard.services().len());
    if at == dashboard.selected {
        return None;
    }
    dashboard.selected = at;
    dashboard.found = None;
    dashboard.pane = Pane::Log;
    Some(DashboardRequest::ShowLog)
}

fn scroll(dashboard: &mut Dashboard, by: i64) -> Option<DashboardRequest> {
    let height = log_rows(dashboard);
    if let Pane::Text { lines, top, .. } = &mut dashboard.pane {
        let last = lines.len().saturating_sub(height);
        let step = usize::try_from(by.unsigned_abs()).unwrap_or(usize::MAX);
        *top = if by < 0 { top.saturating_sub(step) } else { top.saturating_add(step).min(last) };
        return None;
    }
    Some(DashboardRequest::Scroll(by))
}

fn ends(dashboard: &mut Dashboard, request: DashboardRequest) -> Option<DashboardRequest> {
    let height = log_rows(dashboard);
    if let Pane::Text { lines, top, .. } = &mut dashboard.pane {
        *top = if request == DashboardRequest::Oldest { 0 } else { lines.len().saturating_sub(height) };
        return None;
    }
    Some(request)
}

fn escape(dashboard: &mut Dashboard) -> Option<DashboardRequest> {
    if dashboard.pane != Pane::Log {
        dashboard.pane = Pane::Log;
        return None;
    }
    dashboard.search = None;
    dashboard.found = None;
    dashboard.filter.take().map(|_| DashboardRequest::Filter)
}

fn prompt(dashboard: &mut Dashboard, kind: PromptKind) -> Option<DashboardRequest> {
    let text = match kind {
        PromptKind::Filter => dashboard.filter.clone().unwrap_or_default(),
        PromptKind::Search | PromptKind::Time => String::new(),
    };
    dashboard.prompt = Some(Prompt { kind, text });
    None
}

fn typed(dashboard: &mut Dashboard, key: KeyEvent) -> Option<DashboardRequest> {
    let prompt = dashboard.prompt.as_mut()?;
    match key.code {
        KeyCode::Esc => dashboard.prompt = None,
        KeyCode::Backspace if prompt.text.pop().is_none() => {
            dashboard.prompt = None;
        }
        KeyCode::Char('u') if key.modifiers.contains(KeyModifiers::CONTROL) => prompt.text.clear(),
        KeyCode::Char(char) if !key.modifiers.contains(KeyModifiers::CONTROL) => prompt.text.push(char),
        KeyCode::Enter => {
            let Prompt { kind, text } = dashboard.prompt.take()?;
            dashboard.pane = Pane::Log;
            return match kind {
                PromptKind::Search if text.is_empty() => None,
                PromptKind::Search => {
                    dashboard.search = Some(text);
                    Some(DashboardRequest::Search { older: true })
                }
                PromptKind::Filter => {
                    dashboard.filter = Some(text).filter(|text| !text.is_empty());
                    Some(DashboardRequest::Filter)
                }
                PromptKind::Time if text.is_empty() => None,
                PromptKind::Time => Some(DashboardRequest::JumpTo(text)),
            };
        }
        _ => {}
    }
    None
}

/// Carries out what the mouse did.
pub fn handle_mouse(dashboard: &mut Dashboard, mouse: MouseEvent) -> Option<DashboardRequest> {
    let (width, height) = dashboard.size;
    let places = places(Rect::new(0, 0, width, height), dashboard);
    let at = Position::new(mouse.column, mouse.row);
    match mouse.kind {
        MouseEventKind::ScrollUp => scroll(dashboard, -3),
        MouseEventKind::ScrollDown => scroll(dashboard, 3),
        MouseEventKind::Down(MouseButton::Left) if places.list.contains(at) => {
            let entry = first_entry(places.list.height, dashboard.selected) + usize::from(mouse.row - places.list.y);
            if entry > dashboard.services().len() { None } else { select(dashboard, entry) }
        }
        MouseEventKind::Down(MouseButton::Left) if places.body.contains(at) && dashboard.pane == Pane::Log => {
            let at = (mouse.column, mouse.row);
            dashboard.drag = Some(Drag { from: at, to: at });
            None
        }
        MouseEventKind::Drag(MouseButton::Left) => {
            if let Some(drag) = &mut dashboard.drag {
                drag.to = (mouse.column, mouse.row);
            }
            None
        }
        MouseEventKind::Up(MouseButton::Left) => {
            let drag = dashboard.drag.filter(|drag| drag.from != drag.to)?;
            let text = selected_text(dashboard, drag);
            (!text.is_empty()).then_some(DashboardRequest::Copy(text))
        }
        _ => None,
    }
}
