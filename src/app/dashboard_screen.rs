//! The terminal as the dashboard has it: taken over, emptied, and given back whatever happens.

use std::io::{Stdout, stdout};
use std::mem::ManuallyDrop;

use crossterm::event::{DisableBracketedPaste, DisableMouseCapture, EnableBracketedPaste, EnableMouseCapture};
use crossterm::terminal::{Clear, ClearType, EnterAlternateScreen, LeaveAlternateScreen, disable_raw_mode, enable_raw_mode};
use crossterm::{cursor, execute};
use devrun_model::{Failure, FailureKind};
use ratatui::Terminal;
use ratatui::backend::CrosstermBackend;

use crate::ui::term;

/// The failure of a terminal that cannot be used.
pub(super) fn failed(error: &std::io::Error) -> Failure {
    Failure::new(FailureKind::Config, format!("cannot use the terminal: {error}")).help("devrun ps --watch")
}

/// The terminal while it is ours; given back when this is dropped.
pub(super) struct Screen {
    /// Never dropped: its drop writes to standard error, which panics when the terminal has gone.
    pub(super) terminal: ManuallyDrop<Terminal<CrosstermBackend<Stdout>>>,
}

impl Screen {
    /// Takes the terminal over.
    pub(super) fn take(mouse: bool) -> Result<Self, Failure> {
        enable_raw_mode().map_err(|error| failed(&error))?;
        term::silence(true);
        let screen =
            Terminal::new(CrosstermBackend::new(stdout())).map(|terminal| Self { terminal: ManuallyDrop::new(terminal) });
        let mut screen = screen.map_err(|error| {
            give_back();
            failed(&error)
        })?;
        let entered = execute!(stdout(), EnterAlternateScreen, EnableBracketedPaste, cursor::Hide);
        entered.and_then(|()| mouse_capture(mouse)).and_then(|()| screen.redraw()).map_err(|error| failed(&error))?;
        Ok(screen)
    }

    /// Empties the screen, so that the next drawing is a whole one. The library's own `clear` asks the terminal for the place of
    /// the cursor, and waits for ever for the answer of one that has gone.
    pub(super) fn redraw(&mut self) -> std::io::Result<()> {
        execute!(stdout(), Clear(ClearType::All))?;
        self.terminal = ManuallyDrop::new(Terminal::new(CrosstermBackend::new(stdout()))?);
        Ok(())
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        give_back();
    }
}

fn give_back() {
    // A terminal that is gone needs nothing back.
    let _gone = execute!(stdout(), DisableMouseCapture, DisableBracketedPaste, LeaveAlternateScreen, cursor::Show);
    let _gone = disable_raw_mode();
    term::silence(false);
}

/// Whether the dashboard gets the mouse, or the terminal.
pub(super) fn mouse_capture(on: bool) -> std::io::Result<()> {
    if on { execute!(stdout(), EnableMouseCapture) } else { execute!(stdout(), DisableMouseCapture) }
}
