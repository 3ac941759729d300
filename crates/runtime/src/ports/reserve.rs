//! A chosen port is this stack's from the moment it is chosen, not from the moment a server binds it.
//!
//! Between the two lie a download, a first boot and a whole tier; of many stacks that start in one moment two would choose
//! the same number. A reservation is a lock of an open file description, `F_OFD_SETLK` of `fcntl(2)`, on a place in one
//! empty file of the user's: the kernel lets go of it when the last process that holds the file is gone, however it went,
//! so nothing is left to clean up. All locks of a port begin at the same place, so that two cannot be held; its length says
//! whose it is, so that a second `up` of the same stack takes it for its own. It binds nothing: the server finds the port
//! as free as it is, and a program that is none of ours is met by the look at the port itself.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use super::stable_hash::hash;

/// The ports that a stack has set aside, until it is dropped and every copy of the file is closed.
#[derive(Debug)]
pub struct PortReservations {
    path: PathBuf,
    owner: u32,
    file: OnceLock<File>,
}

impl PortReservations {
    /// In the file at `path`, for the stack that `owner` names, its state folder as a rule. Nothing is opened yet.
    #[must_use]
    pub fn new(path: PathBuf, owner: &Path) -> Self {
        // One bit less than there is, so that no lock reaches the place of the next port.
        let owner = u32::try_from(hash(&[&owner.to_string_lossy()]) & 0x7fff_ffff).unwrap_or_default();
        Self { path, owner, file: OnceLock::new() }
    }

    /// Sets the port aside. `false`: another stack has it. One of the same owner may have it too.
    ///
    /// # Errors
    /// When the file cannot be opened or locked.
    pub fn take(&self, port: u16) -> io::Result<bool> {
        let file = self.file()?;
        let wanted = self.lock_of(port);
        loop {
            match fcntl(file, libc::F_OFD_SETLK, &mut wanted.clone()) {
                Ok(()) => return Ok(true),
                Err(error) if matches!(error.raw_os_error(), Some(libc::EAGAIN | libc::EACCES)) => {}
                Err(error) => return Err(error),
            }
            let mut found = wanted;
            fcntl(file, libc::F_OFD_GETLK, &mut found)?;
            // Let go between the two questions: asked again.
            if found.l_type != libc::F_UNLCK as libc::c_short {
                return Ok(found.l_len == wanted.l_len);
            }
        }
    }

    /// The file, for a child that is to hold the same ports. `None` where none was set aside.
    #[must_use]
    pub fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        self.file.get().map(AsFd::as_fd)
    }

    fn file(&self) -> io::Result<&File> {
        if self.file.get().is_none() {
            let opened = devrun_keeper::lock::open(&self.path, true)?;
            // Two threads may both have opened it; the second file holds nothing yet.
            let _first = self.file.set(opened);
        }
        self.file.get().ok_or_else(|| io::Error::other("no file"))
    }

    fn lock_of(&self, port: u16) -> libc::flock {
        // SAFETY: a plain structure of numbers; the process in it must be 0 for this kind of lock, and padding differs by system.
        let mut lock: libc::flock = unsafe { std::mem::zeroed() };
        lock.l_type = libc::F_WRLCK as _;
        lock.l_whence = libc::SEEK_SET as _;
        lock.l_start = libc::off_t::from(port) << 32;
        lock.l_len = libc::off_t::from(self.owner) + 1;
        lock
    }
}

fn fcntl(file: &File, what: libc::c_int, lock: &mut libc::flock) -> io::Result<()> {
    // SAFETY: the descriptor is open as long as `file` is, and the structure outlives the call.
    match unsafe { libc::fcntl(file.as_raw_fd(), what, std::ptr::from_mut(lock)) } {
        -1 => Err(io::Error::last_os_error()),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_belongs_to_one_stack_until_its_last_copy_is_closed() {
        let folder = tempfile::tempdir().unwrap();
        let new = |owner: &str| PortReservations::new(folder.path().join("ports"), Path::new(owner));
        let (shop, blog) = (new("/home/a/shop"), new("/home/a/blog"));
        assert!(shop.descriptor().is_none(), "nothing was opened for nothing");
        for port in [1, 5432, 5433, 65_535] {
            assert!(shop.take(port).unwrap());
            assert!(shop.take(port).unwrap(), "twice is once");
            assert!(!blog.take(port).unwrap());
        }
        assert!(blog.take(5434).unwrap(), "the neighbour is free");
        assert!(new("/home/a/shop").take(5432).unwrap(), "the same stack once more");

        let copy = shop.descriptor().unwrap().try_clone_to_owned().unwrap();
        drop(shop);
        assert!(!blog.take(5432).unwrap(), "a copy holds it");
        drop(copy);
        // A child that another test is starting has a copy until it executes.
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(20);
        while !blog.take(5432).unwrap() {
            assert!(std::time::Instant::now() < deadline, "still held");
            std::thread::yield_now();
        }
    }

    #[test]
    fn what_cannot_be_opened_is_told() {
        let folder = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink(folder.path().join("elsewhere"), folder.path().join("ports")).unwrap();
        assert!(PortReservations::new(folder.path().join("ports"), Path::new("/a")).take(1).is_err());
        assert!(!folder.path().join("elsewhere").exists());
    }
}
