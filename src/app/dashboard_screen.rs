//! The terminal as the dashboard has it: taken over, emptied, and given back whatever happens.

use std::io::{Stdout, stdout};
use std::mem::ManuallyDrop;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crossterm::event::{self, DisableBracketedPaste, DisableMouseCapture, EnableBracketedPaste, EnableMouseCapture, EventStream};
use crossterm::terminal::{Clear, ClearType, EnterAlternateScreen, LeaveAlternateScreen, disable_raw_mode, enable_raw_mode};
use crossterm::{cursor, execute};
use devrun_model::{Failure, FailureKind, exit};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use ratatui::Terminal;
use ratatui::backend::CrosstermBackend;

use crate::ui::term;

/// The failure of a terminal that cannot be used.
pub(super) fn failed(error: &std::io::Error) -> Failure {
    Failure::new(FailureKind::Config, format!("cannot use the terminal: {error}")).help("devrun ps --watch")
}

/// Whether the terminal has hung up: from then on all reading and writing fails.
pub(super) fn has_gone() -> bool {
    let stdout = stdout();
    let mut polled = [PollFd::new(stdout.as_fd(), PollFlags::empty())];
    poll(&mut polled, PollTimeout::ZERO)
        .is_ok_and(|_| polled[0].revents().is_some_and(|found| found.contains(PollFlags::POLLHUP)))
}

/// Ends the process when the terminal hangs up while this is held. The library that reads keys spins for ever on a terminal that
/// has gone, so the loop of the dashboard cannot be left to find out: it has a moment to end by itself.
pub(super) struct HangupGuard(Arc<AtomicBool>);

impl HangupGuard {
    const GRACE: Duration = Duration::from_millis(500);

    /// Waits in a thread of its own, which nothing wakes but the hang-up.
    pub(super) fn start() -> Self {
        let held = Arc::new(AtomicBool::new(true));
        let seen = Arc::clone(&held);
        std::thread::spawn(move || {
            let stdout = stdout();
            loop {
                let mut polled = [PollFd::new(stdout.as_fd(), PollFlags::empty())];
                match poll(&mut polled, PollTimeout::NONE) {
                    Ok(_) => break,
                    Err(Errno::EINTR) => {}
                    Err(_) => return,
                }
            }
            std::thread::sleep(Self::GRACE);
            if seen.load(Ordering::Acquire) {
                std::process::exit(exit::HUP);
            }
        });
        Self(held)
    }
}

impl Drop for HangupGuard {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Release);
    }
}

/// The keys of the terminal. The library's stream panics where it cannot open the terminal, which the question before it finds out.
pub(super) fn keys() -> Result<EventStream, Failure> {
    event::poll(Duration::ZERO).map_err(|error| failed(&error))?;
    Ok(EventStream::new())
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
