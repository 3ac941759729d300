//! Draws the dashboard into a buffer of cells.

use devrun_model::{ByteSize, Health, Kind, ServiceStatus, State};
use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::{Color, Modifier, Style};

use super::layout::{Places, first_entry, places};
use super::selection::{columns_of, cut};
use super::state::{Dashboard, LogRow, Pane, PromptKind};

const SERVICE_COLORS: [Color; 8] = [
    Color::Cyan,
    Color::Yellow,
    Color::Green,
    Color::Magenta,
    Color::Blue,
    Color::LightCyan,
    Color::LightYellow,
    Color::LightGreen,
];

/// Draws everything.
pub fn draw(dashboard: &Dashboard, area: Rect, buffer: &mut Buffer) {
    if area.width == 0 || area.height == 0 {
        return;
    }
    let places = places(area, dashboard);
    head(dashboard, places.head, buffer);
    if area.height > 1 {
        foot(dashboard, places.foot, buffer);
    }
    if area.height < 3 {
        return;
    }
    list(dashboard, places.list, buffer);
    if places.list.width > 0 && places.list.width < area.width {
        for y in places.list.y..places.list.y + places.list.height {
            buffer.set_stringn(places.list.x + places.list.width, y, "│", 1, dim());
        }
    }
    title(dashboard, places.title, buffer);
    match &dashboard.pane {
        Pane::Log => log(dashboard, &places, buffer),
        Pane::Text { lines, top, .. } => {
            for (row, line) in lines.iter().skip(*top).take(usize::from(places.body.height)).enumerate() {
                let y = places.body.y + u16::try_from(row).unwrap_or(u16::MAX);
                put(buffer, places.body, y, &cut(line, dashboard.indent, usize::MAX), Style::default());
            }
        }
    }
}

fn dim() -> Style {
    Style::default().add_modifier(Modifier::DIM)
}

fn colored(dashboard: &Dashboard, color: Color) -> Style {
    if dashboard.color { Style::default().fg(color) } else { Style::default() }
}

/// A line within a place; a terminal is never given a control character.
fn put(buffer: &mut Buffer, place: Rect, y: u16, text: &str, style: Style) -> u16 {
    if y >= place.y + place.height {
        return place.x;
    }
    let clean: String =
        text.chars().map(|char| if char == '\t' { ' ' } else { char }).filter(|char| !char.is_control()).collect();
    buffer.set_stringn(place.x, y, clean, usize::from(place.width), style).0
}

fn head(dashboard: &Dashboard, place: Rect, buffer: &mut Buffer) {
    let snapshot = &dashboard.status.snapshot;
    let count = |wanted: &dyn Fn(&ServiceStatus) -> bool| snapshot.services.iter().filter(|one| wanted(one)).count();
    let failed = count(&|one| matches!(one.state, State::Failed | State::Blocked));
    let mut text = format!(" {}", snapshot.project);
    if !snapshot.instance.is_empty() {
        text.push_str(&format!(" ({})", snapshot.instance));
    }
    if let Some(mode) = &snapshot.mode {
        text.push_str(&format!(" [{mode}]"));
    }
    if snapshot.supervisor_pid.is_none() {
        text.push_str("  down: this is how it ended");
    } else if dashboard.status.stopping {
        text.push_str("  stopping");
    } else {
        let running = count(&|one| one.kind == Kind::Service && one.state == State::Running);
        let services = count(&|one| one.kind == Kind::Service);
        text.push_str(&format!("  {running} of {services} running"));
    }
    if failed > 0 {
        text.push_str(&format!("  {failed} failed"));
    }
    buffer.set_style(place, Style::default().add_modifier(Modifier::REVERSED));
    put(buffer, place, place.y, &text, Style::default().add_modifier(Modifier::REVERSED));
}

fn foot(dashboard: &Dashboard, place: Rect, buffer: &mut Buffer) {
    if let Some(prompt) = &dashboard.prompt {
        let label = match prompt.kind {
            PromptKind::Search => "search",
            PromptKind::Filter => "filter",
            PromptKind::Time => "time",
        };
        put(buffer, place, place.y, &format!("{label}: {}▏", prompt.text), Style::default().add_modifier(Modifier::BOLD));
    } else if let Some(message) = &dashboard.message {
        put(buffer, place, place.y, message, Style::default().add_modifier(Modifier::BOLD));
    } else {
        let keys =
            "q quit  ? keys  / search  f filter  @ time  w why  i inspect  e events  d graph  s start  x stop  r restart  y copy";
        put(buffer, place, place.y, keys, dim());
    }
}

fn state_style(dashboard: &Dashboard, service: &ServiceStatus) -> Style {
    match (service.state, service.health) {
        (State::Failed | State::Blocked, _) | (_, Health::Unhealthy) => {
            colored(dashboard, Color::Red).add_modifier(Modifier::BOLD)
        }
        (State::Running | State::Completed, _) => colored(dashboard, Color::Green),
        (State::Stopped | State::Skipped | State::Asleep, _) => dim(),
        _ => colored(dashboard, Color::Yellow),
    }
}

/// What stands for a state where colour does not.
fn mark(service: &ServiceStatus) -> &'static str {
    match (service.state, service.health) {
        (State::Failed | State::Blocked, _) => "✗",
        (_, Health::Unhealthy) => "!",
        (State::Running | State::Completed, _) => "●",
        (State::Stopped | State::Skipped | State::Asleep, _) => "○",
        _ => "◌",
    }
}

fn list(dashboard: &Dashboard, place: Rect, buffer: &mut Buffer) {
    let first = first_entry(place.height, dashboard.selected);
    let mut tier = None;
    for row in 0..place.height {
        let entry = first + usize::from(row);
        let y = place.y + row;
        let style =
            if entry == dashboard.selected { Style::default().add_modifier(Modifier::REVERSED) } else { Style::default() };
        let line = Rect::new(place.x, y, place.width, 1);
        let Some(at) = entry.checked_sub(1) else {
            put(buffer, line, y, &format!("   {:16}", "all services"), style);
            continue;
        };
        let Some(service) = dashboard.services().get(at) else { break };
        let own = if tier == Some(service.tier) { "  ".to_owned() } else { format!("{:<2}", service.tier) };
        tier = Some(service.tier);
        put(buffer, line, y, &own, dim());
        let mut x = put(buffer, rest(line, line.x + 2), y, mark(service), state_style(dashboard, service));
        x = put(buffer, rest(line, x + 1), y, &padded(&service.name, 15), style);
        let state = match service.health {
            Health::None => service.state.to_string(),
            Health::Healthy | Health::Unhealthy if service.state == State::Running => service.health.to_string(),
            _ => service.state.to_string(),
        };
        x = put(buffer, rest(line, x + 1), y, &padded(&state, 11), state_style(dashboard, service));
        let usage = dashboard.usage.get(&service.name).filter(|_| service.pid.is_some());
        let cpu = usage.and_then(|usage| usage.cpu).map(|cpu| format!("{cpu:.0}%")).unwrap_or_default();
        let memory = usage.map(|usage| ByteSize(usage.memory).to_string()).unwrap_or_default();
        let restarts = if service.restarts > 0 { format!("↻{}", service.restarts) } else { String::new() };
        put(buffer, rest(line, x), y, &format!("{restarts:>4}{cpu:>4}{memory:>7}"), Style::default());
    }
}

fn rest(line: Rect, x: u16) -> Rect {
    let x = x.min(line.x + line.width);
    Rect::new(x, line.y, line.x + line.width - x, line.height)
}

/// A text of exactly so many columns.
fn padded(text: &str, columns: usize) -> String {
    let mut out = cut(text, 0, columns);
    while crate::ui::table::width(&out) > columns {
        out.pop();
    }
    let width = crate::ui::table::width(&out);
    out.push_str(&" ".repeat(columns.saturating_sub(width)));
    out
}

fn title(dashboard: &Dashboard, place: Rect, buffer: &mut Buffer) {
    if place.height == 0 {
        return;
    }
    let text = match &dashboard.pane {
        Pane::Text { title, .. } => format!("{title}  (Esc closes)"),
        Pane::Log => {
            let mut text = match dashboard.selected_service() {
                None => "log of all services".to_owned(),
                Some(service) => match service.reason.as_deref().filter(|reason| !reason.is_empty()) {
                    Some(reason) => format!("{}: {reason}", service.name),
                    None => match &service.url {
                        Some(url) => format!("{}  {url}", service.name),
                        None => service.name.clone(),
                    },
                },
            };
            if let Some(filter) = &dashboard.filter {
                text.push_str(&format!("  filter: {filter}"));
            }
            if !dashboard.follows {
                text.push_str("  (G follows)");
            }
            text
        }
    };
    put(buffer, place, place.y, &text, Style::default().add_modifier(Modifier::BOLD));
}

fn service_color(dashboard: &Dashboard, name: &str) -> Color {
    let at = dashboard.services().iter().position(|service| service.name == name).unwrap_or(0);
    SERVICE_COLORS[at % SERVICE_COLORS.len()]
}

fn log(dashboard: &Dashboard, places: &Places, buffer: &mut Buffer) {
    let selected = dashboard.drag.filter(|drag| drag.from != drag.to).map(|drag| columns_of(dashboard, drag)).unwrap_or_default();
    for (number, row) in dashboard.rows.iter().take(usize::from(places.body.height)).enumerate() {
        let y = places.body.y + u16::try_from(number).unwrap_or(u16::MAX);
        line(dashboard, places, buffer, y, number, row);
        if let Some((_, start, end)) = selected.iter().find(|(of, ..)| *of == number) {
            let column = |at: usize| {
                let at = at.saturating_sub(dashboard.indent).min(usize::from(places.body.width));
                places.text_column() + u16::try_from(at).unwrap_or(u16::MAX)
            };
            let edge = places.body.x + places.body.width;
            let (from, to) = (column(*start).min(edge), column(*end).min(edge));
            let place = Rect::new(from, y, to - from, 1);
            buffer.set_style(place, Style::default().add_modifier(Modifier::REVERSED));
        }
    }
}

fn line(dashboard: &Dashboard, places: &Places, buffer: &mut Buffer, y: u16, number: usize, row: &LogRow) {
    let place = Rect::new(places.body.x, y, places.body.width, 1);
    if places.time > 0 {
        put(buffer, place, y, &row.time, dim());
    }
    if places.name > 0 {
        let name = padded(&row.service, usize::from(places.name) - 1);
        put(buffer, rest(place, place.x + places.time), y, &name, colored(dashboard, service_color(dashboard, &row.service)));
    }
    let text = cut(&row.text, dashboard.indent, dashboard.indent + usize::from(place.width));
    let mut style = if row.is_note { dim().add_modifier(Modifier::ITALIC) } else { Style::default() };
    if row.is_stderr {
        style = style.patch(colored(dashboard, Color::LightRed));
    }
    if dashboard.found == Some(number) {
        style = style.add_modifier(Modifier::REVERSED);
    }
    put(buffer, rest(place, places.text_column()), y, &text, style);
}
