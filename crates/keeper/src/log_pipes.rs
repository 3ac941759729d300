//! The read ends of the log pipes. The supervisor reads duplicates of them; ours only keep the pipes open, so that no
//! service dies of SIGPIPE with it, and are read when it is gone, so that none blocks on a full pipe during its grace.

use std::fs::File;
use std::io::Write;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use crate::regular_file;

/// Bytes that are kept of what one process writes while it ends; nothing rotates the file then.
const KEPT: usize = 16 * 1024 * 1024;

/// One process's pipes.
#[derive(Debug)]
pub(crate) struct LogPipes {
    ends: [Option<OwnedFd>; 2],
    file: Option<File>,
    written: usize,
    is_draining: bool,
}

impl LogPipes {
    /// Keeps the ends.
    pub(crate) fn new(stdout: OwnedFd, stderr: Option<OwnedFd>) -> Self {
        Self { ends: [Some(stdout), stderr], file: None, written: 0, is_draining: false }
    }
    /// Duplicates for the supervisor.
    ///
    /// # Errors
    /// When there are no descriptors left.
    pub(crate) fn duplicates(&self) -> std::io::Result<Vec<OwnedFd>> {
        self.ends.iter().flatten().map(OwnedFd::try_clone).collect()
    }
    /// Opens the file that is appended to from now on; without one, output is read and dropped. False: it was so already.
    pub(crate) fn drain_into(&mut self, path: Option<&Path>) -> bool {
        if std::mem::replace(&mut self.is_draining, true) {
            return false;
        }
        self.file = path.and_then(|path| regular_file::append(path).ok());
        true
    }
    /// Whether we are the one who reads.
    pub(crate) fn is_draining(&self) -> bool {
        self.is_draining
    }
    /// The open ends with their numbers.
    pub(crate) fn ends(&self) -> impl Iterator<Item = (usize, BorrowedFd<'_>)> {
        self.ends.iter().enumerate().filter_map(|(index, end)| Some((index, end.as_ref()?.as_fd())))
    }
    /// Reads what is there. Returns the end once there is nothing more to come from it.
    #[must_use]
    pub(crate) fn drain(&mut self, index: usize, buffer: &mut [u8]) -> Option<OwnedFd> {
        let end = self.ends.get_mut(index)?;
        let fd = end.as_ref()?;
        // A bounded number of reads: one loud service must not keep us from the others' stop.
        for _ in 0..4 {
            match nix::unistd::read(fd, buffer) {
                Ok(count) if count > 0 => {
                    self.written += count;
                    // A full disk must not block a service in its grace: what cannot be written is dropped.
                    if let Some(file) = &mut self.file
                        && (file.write_all(&buffer[..count]).is_err() || self.written > KEPT)
                    {
                        self.file = None;
                    }
                }
                Err(nix::Error::EAGAIN) => return None,
                Err(nix::Error::EINTR) => {}
                // EIO: the last holder of a terminal's other side is gone.
                Ok(_) | Err(_) => return end.take(),
            }
        }
        None
    }
}
