//! Terminals: the far side of a service's, and the near side that a person sits at.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use nix::sys::termios::{self, LocalFlags, SetArg, Termios};
use tokio::io::Interest;

use super::reactor;

/// Columns and rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TerminalSize {
    /// Characters in a line.
    pub columns: u16,
    /// Lines.
    pub rows: u16,
}

/// The size of the terminal behind a descriptor; `None` where there is no terminal or it does not know.
#[must_use]
pub fn size(fd: impl AsFd) -> Option<TerminalSize> {
    // SAFETY: an ioctl on an open descriptor that fills a structure of ours.
    let found = unsafe {
        let mut found: libc::winsize = std::mem::zeroed();
        let done = libc::ioctl(fd.as_fd().as_raw_fd(), libc::TIOCGWINSZ, &raw mut found);
        if done == 0 { Some(found) } else { None }
    }?;
    (found.ws_col > 0 && found.ws_row > 0).then_some(TerminalSize { columns: found.ws_col, rows: found.ws_row })
}

/// Gives a terminal its size; whoever runs in it gets WINCH where it changes.
///
/// # Errors
/// What the system says.
pub fn resize(fd: impl AsFd, size: TerminalSize) -> io::Result<()> {
    let wanted = libc::winsize { ws_row: size.rows, ws_col: size.columns, ws_xpixel: 0, ws_ypixel: 0 };
    // SAFETY: an ioctl on an open descriptor that reads a structure of ours.
    let done = unsafe { libc::ioctl(fd.as_fd().as_raw_fd(), libc::TIOCSWINSZ, &raw const wanted) };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Keys go out as they are typed while this lives; dropping it gives the terminal back as it was.
#[derive(Debug)]
pub struct RawMode<'a> {
    fd: BorrowedFd<'a>,
    before: Termios,
}

impl<'a> RawMode<'a> {
    /// Takes the terminal over.
    ///
    /// # Errors
    /// When the descriptor is no terminal.
    pub fn enter(fd: BorrowedFd<'a>) -> io::Result<Self> {
        let before = termios::tcgetattr(fd)?;
        let mut raw = before.clone();
        termios::cfmakeraw(&mut raw);
        termios::tcsetattr(fd, SetArg::TCSADRAIN, &raw)?;
        Ok(Self { fd, before })
    }
}

impl Drop for RawMode<'_> {
    fn drop(&mut self) {
        // A terminal that is gone needs nothing back.
        let _gone = termios::tcsetattr(self.fd, SetArg::TCSADRAIN, &self.before);
    }
}

/// While this lives, Ctrl-C and the like leave no `^C` on standard error's terminal: what redraws lines there loses its place by it.
#[derive(Debug)]
pub struct UnechoedControlKeys(Termios);

impl UnechoedControlKeys {
    /// `None`: there is no terminal, it echoes none, or it is not this process's to change.
    #[must_use]
    pub fn start() -> Option<Self> {
        let before = is_in_foreground().then(|| termios::tcgetattr(io::stderr()).ok()).flatten()?;
        if !before.local_flags.contains(LocalFlags::ECHOCTL) {
            return None;
        }
        let mut quiet = before.clone();
        quiet.local_flags.remove(LocalFlags::ECHOCTL);
        termios::tcsetattr(io::stderr(), SetArg::TCSANOW, &quiet).ok()?;
        Some(Self(before))
    }
}

impl Drop for UnechoedControlKeys {
    fn drop(&mut self) {
        // Another program may have the terminal by now; it may be gone, too.
        if is_in_foreground() {
            let _gone = termios::tcsetattr(io::stderr(), SetArg::TCSANOW, &self.0);
        }
    }
}

/// While this lives, keys of standard input's terminal arrive as they are typed and are not echoed; Ctrl-C and the like stay signals.
#[derive(Debug)]
pub struct SingleKeys(Termios);

impl SingleKeys {
    /// `None`: there is no terminal, or it is not this process's to change.
    #[must_use]
    pub fn start() -> Option<Self> {
        let before = is_in_foreground().then(|| termios::tcgetattr(io::stdin()).ok()).flatten()?;
        let mut single = before.clone();
        single.local_flags.remove(LocalFlags::ICANON | LocalFlags::ECHO);
        termios::tcsetattr(io::stdin(), SetArg::TCSANOW, &single).ok()?;
        Some(Self(before))
    }
}

impl Drop for SingleKeys {
    fn drop(&mut self) {
        if is_in_foreground() {
            let _gone = termios::tcsetattr(io::stdin(), SetArg::TCSANOW, &self.0);
        }
    }
}

/// A process in the background that changes the terminal is stopped for it.
fn is_in_foreground() -> bool {
    nix::unistd::tcgetpgrp(io::stderr()).is_ok_and(|group| group == nix::unistd::getpgrp())
}

/// Types what comes out of `keys` into a terminal until the sender is gone, or everything that ran in the terminal. One that is not
/// read fills up and then holds back this task alone.
pub async fn write_keys(terminal: Arc<OwnedFd>, mut keys: tokio::sync::mpsc::Receiver<Vec<u8>>) {
    let Ok(fd) = terminal.try_clone() else { return };
    let Ok(fd) = reactor::register(fd, Interest::WRITABLE) else { return };
    while let Some(bytes) = keys.recv().await {
        let mut rest = bytes.as_slice();
        while !rest.is_empty() {
            let Ok(mut ready) = fd.writable().await else { return };
            match nix::unistd::write(&fd, rest) {
                Ok(written) => rest = &rest[written..],
                // Full, and without a reader for good: it would be called ready for ever.
                Err(nix::errno::Errno::EAGAIN) if ready.ready().is_write_closed() => return,
                Err(nix::errno::Errno::EAGAIN) => ready.clear_ready(),
                Err(nix::errno::Errno::EINTR) => {}
                Err(_) => return,
            }
        }
    }
}
