//! Listening sockets that a child gets as its descriptors from 3 on, and the variables that say so (sd_listen_fds(3)).
//!
//! The supervisor opens and keeps them, so that the next process of the service listens on the same ones. `LISTEN_PID` is the
//! pid of the process that is executed, which is not known before the fork: the child itself writes it, into memory that is
//! set aside for it and that this process neither reads nor writes.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};

use rustix::io::fcntl_dupfd_cloexec;

use super::c_strings::c_string;

/// The descriptor of the first socket (`SD_LISTEN_FDS_START`).
pub(super) const FIRST: RawFd = 3;

const PID_NAME: &[u8] = b"LISTEN_PID=";
/// The name, ten digits and the NUL.
const PID_LENGTH: usize = 32;

/// Whether a variable speaks of sockets that were passed.
pub(super) fn is_variable(name: &str) -> bool {
    matches!(name, "LISTEN_PID" | "LISTEN_FDS" | "LISTEN_FDNAMES")
}

/// The sockets of one child.
#[derive(Debug)]
pub(super) struct PassedSockets {
    names: Vec<String>,
    /// None of them lies where it goes to.
    descriptors: Vec<OwnedFd>,
    listen_pid: Option<PidVariable>,
}

/// `LISTEN_PID=…`: owned by the child until its exec.
#[derive(Debug)]
struct PidVariable(*mut [u8; PID_LENGTH]);

impl Drop for PidVariable {
    fn drop(&mut self) {
        // SAFETY: made by `Box::into_raw` alone; dropped with what a child uses, which is when the child has left.
        drop(unsafe { Box::from_raw(self.0) });
    }
}

impl PassedSockets {
    /// Duplicates the sockets out of the way.
    pub(super) fn prepare(names: &[String], sockets: &[OwnedFd]) -> io::Result<Self> {
        if names.len() != sockets.len() {
            return Err(io::Error::from_raw_os_error(libc::EBADF));
        }
        let after = FIRST + i32::try_from(sockets.len()).map_err(io::Error::other)?;
        let descriptors = sockets.iter().map(|socket| fcntl_dupfd_cloexec(socket, after)).collect::<Result<_, _>>()?;
        let listen_pid = (!sockets.is_empty()).then(|| {
            let mut text = Box::new([0; PID_LENGTH]);
            text[..PID_NAME.len()].copy_from_slice(PID_NAME);
            PidVariable(Box::into_raw(text))
        });
        Ok(Self { names: names.to_vec(), descriptors, listen_pid })
    }

    /// `LISTEN_FDS` and `LISTEN_FDNAMES`.
    pub(super) fn variables(&self) -> io::Result<Vec<CString>> {
        if self.names.is_empty() {
            return Ok(Vec::new());
        }
        let (count, names) = (self.names.len(), self.names.join(":"));
        Ok(vec![c_string(format!("LISTEN_FDS={count}"))?, c_string(format!("LISTEN_FDNAMES={names}"))?])
    }

    /// `LISTEN_PID`, for the environment.
    pub(super) fn listen_pid(&self) -> Option<*const libc::c_char> {
        self.listen_pid.as_ref().map(|variable| variable.0.cast_const().cast())
    }

    fn is_in_the_way(&self, fd: RawFd) -> bool {
        (FIRST..).zip(&self.descriptors).any(|(place, _)| place == fd)
    }

    /// The same descriptor, or a duplicate where a socket goes to its place.
    pub(super) fn out_of_the_way(&self, fd: OwnedFd) -> io::Result<OwnedFd> {
        Ok(self.duplicate_out_of_the_way(&fd)?.unwrap_or(fd))
    }

    /// A duplicate of a descriptor to whose place a socket goes.
    pub(super) fn duplicate_out_of_the_way(&self, fd: &(impl AsFd + AsRawFd)) -> io::Result<Option<OwnedFd>> {
        if !self.is_in_the_way(fd.as_raw_fd()) {
            return Ok(None);
        }
        let after = FIRST + i32::try_from(self.descriptors.len()).map_err(io::Error::other)?;
        Ok(Some(fcntl_dupfd_cloexec(fd, after)?))
    }

    /// The sockets, in the order of their places.
    pub(super) fn descriptors(&self) -> &[OwnedFd] {
        &self.descriptors
    }

    /// Writes the number of the process into `LISTEN_PID`.
    ///
    /// # Safety
    /// Only in the child, before its exec.
    pub(super) unsafe fn write_pid(&self, pid: usize) {
        let Some(variable) = &self.listen_pid else { return };
        let (mut digits, mut rest) = (1, pid / 10);
        while rest > 0 {
            digits += 1;
            rest /= 10;
        }
        let mut left = pid;
        while digits > 0 {
            digits -= 1;
            // A pid has seven digits at most (`PID_MAX_LIMIT`), so all of them and the NUL lie inside.
            let place = PID_NAME.len() + digits;
            if place < PID_LENGTH - 1 {
                // SAFETY: inside the array, which no one else uses; no reference is made.
                unsafe { variable.0.cast::<u8>().add(place).write(b'0' + (left % 10) as u8) };
            }
            left /= 10;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pid_stands_behind_its_name() {
        let socket: OwnedFd = std::net::TcpListener::bind("127.0.0.1:0").unwrap().into();
        for pid in [1, 42, 4_194_304] {
            let passed = PassedSockets::prepare(&["main".to_owned()], &[socket.try_clone().unwrap()]).unwrap();
            // SAFETY: there is no child; the pointer is valid as long as `passed` is.
            let text = unsafe {
                passed.write_pid(pid);
                std::ffi::CStr::from_ptr(passed.listen_pid().unwrap())
            };
            assert_eq!(text.to_str().unwrap(), format!("LISTEN_PID={pid}"));
        }
    }

    #[test]
    fn sockets_lie_beyond_the_places_they_go_to_and_are_as_many_as_their_names() {
        let socket = || OwnedFd::from(std::net::TcpListener::bind("127.0.0.1:0").unwrap());
        let names = ["main".to_owned(), "admin".to_owned()];
        let passed = PassedSockets::prepare(&names, &[socket(), socket()]).unwrap();
        assert!(passed.descriptors().iter().all(|fd| fd.as_raw_fd() >= FIRST + 2));
        let variables = passed.variables().unwrap();
        assert_eq!(
            variables.iter().map(|text| text.to_str().unwrap()).collect::<Vec<_>>(),
            ["LISTEN_FDS=2", "LISTEN_FDNAMES=main:admin"]
        );
        assert!(PassedSockets::prepare(&names, &[socket()]).is_err());
        let none = PassedSockets::prepare(&[], &[]).unwrap();
        assert!(none.variables().unwrap().is_empty() && none.listen_pid().is_none());
    }
}
