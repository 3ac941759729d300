//! Where things are on the screen. Drawing and the mouse use the same places.

use ratatui::layout::Rect;

use super::state::{Dashboard, Pane};

/// Below this width the services stand above the log.
const SIDE_BY_SIDE: u16 = 70;
/// Columns of the list of services next to the log.
const LIST: u16 = 46;
/// Columns of a service's name before its line.
const NAME: u16 = 14;
/// Columns of a time before a line.
const TIME: u16 = 9;

/// The parts of the screen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Places {
    /// Project and totals.
    pub head: Rect,
    /// The services; nothing while a text is shown.
    pub list: Rect,
    /// The title of the large pane.
    pub title: Rect,
    /// The large pane.
    pub body: Rect,
    /// Keys, messages, input.
    pub foot: Rect,
    /// Columns of a time before each log line; 0: not shown.
    pub time: u16,
    /// Columns of a name before each log line; 0: not shown.
    pub name: u16,
}

impl Places {
    /// The first column of the text of log lines.
    #[must_use]
    pub fn text_column(&self) -> u16 {
        self.body.x + self.time + self.name
    }
}

/// Divides the screen.
#[must_use]
pub fn places(area: Rect, dashboard: &Dashboard) -> Places {
    let (width, height) = (area.width, area.height);
    let line = |y: u16| Rect::new(area.x, area.y + y.min(height.saturating_sub(1)), width, u16::from(height > 0));
    let inner = height.saturating_sub(2);
    let (list, pane) = if dashboard.pane != Pane::Log {
        // A text that was asked for is read, not looked at next to something else: it has all columns.
        (Rect::new(area.x, area.y + 1, 0, 0), Rect::new(area.x, area.y + 1, width, inner))
    } else if width >= SIDE_BY_SIDE {
        let columns = LIST.min(width / 2);
        (Rect::new(area.x, area.y + 1, columns, inner), Rect::new(area.x + columns + 1, area.y + 1, width - columns - 1, inner))
    } else {
        let wanted = u16::try_from(dashboard.services().len() + 1).unwrap_or(u16::MAX);
        let rows = wanted.min(inner / 3).max(u16::from(inner > 1));
        (Rect::new(area.x, area.y + 1, width, rows), Rect::new(area.x, area.y + 1 + rows, width, inner - rows))
    };
    let titled = u16::from(pane.height > 2);
    let roomy = pane.width >= 50;
    Places {
        head: line(0),
        list,
        title: Rect::new(pane.x, pane.y, pane.width, titled),
        body: Rect::new(pane.x, pane.y + titled, pane.width, pane.height - titled),
        foot: line(height.saturating_sub(1)),
        time: if roomy { TIME } else { 0 },
        name: if dashboard.selected == 0 && pane.width >= 30 { NAME } else { 0 },
    }
}

/// Rows of the log that fit a screen of this size.
#[must_use]
pub fn log_rows(dashboard: &Dashboard) -> usize {
    let (columns, rows) = dashboard.size;
    usize::from(places(Rect::new(0, 0, columns, rows), dashboard).body.height)
}

/// The first service that is shown, so that the selected one is.
#[must_use]
pub fn first_entry(height: u16, selected: usize) -> usize {
    (selected + 1).saturating_sub(usize::from(height.max(1)))
}
