//! What the keeper sleeps on: descriptors, and the ends of children (epoll(7), signalfd(2)).

use std::io;
use std::os::fd::AsFd;
use std::time::Duration;

use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};

/// The token of the ends of children.
const CHILDREN: u64 = u64::MAX;
/// Events of one wait; the rest comes with the next.
const EVENTS: usize = 64;

/// The descriptors that are waited on, each with a number of the caller's.
#[derive(Debug)]
pub(crate) struct Readiness {
    epoll: Epoll,
    children: SignalFd,
}

impl Readiness {
    /// Waits for the ends of children and for nothing else yet. SIGCHLD is blocked from here on.
    ///
    /// # Errors
    /// What the system says.
    pub(crate) fn new() -> io::Result<Self> {
        let mut mask = SigSet::empty();
        mask.add(Signal::SIGCHLD);
        mask.thread_block()?;
        let children = SignalFd::with_flags(&mask, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)?;
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
        epoll.add(&children, EpollEvent::new(EpollFlags::EPOLLIN, CHILDREN))?;
        Ok(Self { epoll, children })
    }

    /// Waits on a descriptor until something can be read.
    ///
    /// # Errors
    /// What the system says.
    pub(crate) fn add(&self, fd: impl AsFd, token: u64) -> io::Result<()> {
        Ok(self.epoll.add(fd, EpollEvent::new(EpollFlags::EPOLLIN, token))?)
    }

    /// Whether the wait on a descriptor ends when something can be written, too.
    ///
    /// # Errors
    /// What the system says.
    pub(crate) fn wait_for_writes(&self, fd: impl AsFd, token: u64, is_wanted: bool) -> io::Result<()> {
        let flags = if is_wanted { EpollFlags::EPOLLIN | EpollFlags::EPOLLOUT } else { EpollFlags::EPOLLIN };
        Ok(self.epoll.modify(fd, &mut EpollEvent::new(flags, token))?)
    }

    /// Waits on a descriptor no more. To be called before it is closed: while another process holds a duplicate, closing alone would not
    /// do it, and its events would come forever.
    pub(crate) fn remove(&self, fd: impl AsFd) {
        // Refused when it was never in.
        let _ = self.epoll.delete(fd);
    }

    /// Sleeps until something happens, or this long, and puts the numbers of what is ready into `tokens`. The ends of children have none.
    ///
    /// # Errors
    /// What the system says.
    pub(crate) fn wait(&mut self, tokens: &mut Vec<u64>, timeout: Option<Duration>) -> io::Result<()> {
        let mut events = [EpollEvent::empty(); EVENTS];
        let timeout = timeout.map_or(EpollTimeout::NONE, |timeout| EpollTimeout::try_from(timeout).unwrap_or(EpollTimeout::ZERO));
        let count = match self.epoll.wait(&mut events, timeout) {
            Ok(count) => count,
            Err(nix::Error::EINTR) => 0,
            Err(error) => return Err(error.into()),
        };
        while let Ok(Some(_)) = self.children.read_signal() {}
        tokens.clear();
        tokens.extend(events[..count].iter().map(EpollEvent::data).filter(|token| *token != CHILDREN));
        Ok(())
    }
}
