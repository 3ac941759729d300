//! What the keeper sleeps on: descriptors, by poll(2), and the ends of children, by a pipe that the handler of SIGCHLD writes to.

use std::cell::RefCell;
use std::io;
use std::os::fd::{AsFd, AsRawFd, IntoRawFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicI32, Ordering};
use std::time::Duration;

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};

use super::pipes::pipe;

/// The end of the pipe that the handler writes to; of the whole process, as a signal is.
static CHILD_ENDED: AtomicI32 = AtomicI32::new(-1);

/// Writes a byte. A pipe that is full says as much as one byte more would.
extern "C" fn note_child(_signal: libc::c_int) {
    let error = nix::errno::Errno::last_raw();
    // SAFETY: write(2) may be called in a handler; the byte is a constant, and the descriptor is never closed.
    unsafe { libc::write(CHILD_ENDED.load(Ordering::Relaxed), c"1".as_ptr().cast(), 1) };
    // What was interrupted shall not see another errno than its own.
    nix::errno::Errno::set_raw(error);
}

/// A descriptor that is waited on.
#[derive(Debug)]
struct Waited {
    fd: RawFd,
    token: u64,
    events: libc::c_short,
}

/// The descriptors that are waited on, each with a number of the caller's.
#[derive(Debug)]
pub(crate) struct Readiness {
    children: OwnedFd,
    waited: RefCell<Vec<Waited>>,
}

impl Readiness {
    /// Waits for the ends of children and for nothing else yet. One a process.
    ///
    /// # Errors
    /// What the system says.
    pub(crate) fn new() -> io::Result<Self> {
        let (children, writer) = pipe()?;
        for end in [&children, &writer] {
            fcntl(end, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
        }
        CHILD_ENDED.store(writer.into_raw_fd(), Ordering::Relaxed);
        let note = SigAction::new(SigHandler::Handler(note_child), SaFlags::SA_RESTART, SigSet::empty());
        // SAFETY: the handler makes calls alone that are allowed in one.
        unsafe { sigaction(Signal::SIGCHLD, &note)? };
        Ok(Self { children, waited: RefCell::default() })
    }

    /// Waits on a descriptor until something can be read.
    ///
    /// # Errors
    /// None.
    pub(crate) fn add(&self, fd: impl AsFd, token: u64) -> io::Result<()> {
        self.waited.borrow_mut().push(Waited { fd: fd.as_fd().as_raw_fd(), token, events: libc::POLLIN });
        Ok(())
    }

    /// Whether the wait on a descriptor ends when something can be written, too.
    ///
    /// # Errors
    /// None.
    pub(crate) fn wait_for_writes(&self, fd: impl AsFd, token: u64, is_wanted: bool) -> io::Result<()> {
        let number = fd.as_fd().as_raw_fd();
        for waited in self.waited.borrow_mut().iter_mut().filter(|waited| waited.fd == number && waited.token == token) {
            waited.events = if is_wanted { libc::POLLIN | libc::POLLOUT } else { libc::POLLIN };
        }
        Ok(())
    }

    /// Waits on a descriptor no more. To be called before it is closed: its number may be another file's soon.
    pub(crate) fn remove(&self, fd: impl AsFd) {
        let number = fd.as_fd().as_raw_fd();
        self.waited.borrow_mut().retain(|waited| waited.fd != number);
    }

    /// Sleeps until something happens, or this long, and puts the numbers of what is ready into `tokens`. The ends of children have none.
    ///
    /// # Errors
    /// What the system says.
    pub(crate) fn wait(&mut self, tokens: &mut Vec<u64>, timeout: Option<Duration>) -> io::Result<()> {
        let waited = self.waited.get_mut();
        let all = waited.iter().map(|waited| (waited.fd, waited.events)).chain([(self.children.as_raw_fd(), libc::POLLIN)]);
        let mut polled: Vec<libc::pollfd> = all.map(|(fd, events)| libc::pollfd { fd, events, revents: 0 }).collect();
        let timeout = timeout.map_or(-1, |timeout| libc::c_int::try_from(timeout.as_millis()).unwrap_or(libc::c_int::MAX));
        let count = libc::nfds_t::try_from(polled.len()).map_err(io::Error::other)?;
        // SAFETY: as many structures as are said.
        if unsafe { libc::poll(polled.as_mut_ptr(), count, timeout) } < 0 {
            let error = io::Error::last_os_error();
            if error.kind() != io::ErrorKind::Interrupted {
                return Err(error);
            }
            // The notes of children are read all the same.
            polled.iter_mut().for_each(|one| one.revents = 0);
        }
        let mut notes = [0u8; 64];
        while let Ok(1..) = nix::unistd::read(&self.children, &mut notes) {}
        tokens.clear();
        tokens.extend(waited.iter().zip(&polled).filter(|(_, polled)| polled.revents != 0).map(|(waited, _)| waited.token));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn data_a_place_to_write_and_the_end_of_a_child_wake_it() {
        let mut readiness = Readiness::new().unwrap();
        let (reader, writer) = pipe().unwrap();
        readiness.add(&reader, 7).unwrap();
        let mut tokens = Vec::new();
        readiness.wait(&mut tokens, Some(Duration::ZERO)).unwrap();
        assert!(tokens.is_empty());
        nix::unistd::write(&writer, b"x").unwrap();
        readiness.wait(&mut tokens, None).unwrap();
        assert_eq!(tokens, [7]);
        readiness.remove(&reader);
        readiness.add(&writer, 8).unwrap();
        readiness.wait_for_writes(&writer, 8, true).unwrap();
        readiness.wait(&mut tokens, None).unwrap();
        assert_eq!(tokens, [8]);
        readiness.remove(&writer);
        let mut child = std::process::Command::new("true").spawn().unwrap();
        readiness.wait(&mut tokens, Some(Duration::from_secs(60))).unwrap();
        assert!(tokens.is_empty(), "an end of a child has no number");
        child.wait().unwrap();
    }
}
