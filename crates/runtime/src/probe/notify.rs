//! `notify`: `READY=1` on a datagram socket (sd_notify(3)). The socket must be there before the service, so it is bound
//! before the spawn and handed over.

use std::io;
use std::path::{Path, PathBuf};

use tokio::net::UnixDatagram;

use devrun_model::{Failure, FailureKind};

/// A bound socket; its file goes with it.
#[derive(Debug)]
pub struct NotifySocket {
    socket: std::os::unix::net::UnixDatagram,
    path: PathBuf,
}

impl NotifySocket {
    /// Binds it. A file of an earlier run is replaced; the folder is ours alone (0700), so nobody else put it there.
    ///
    /// # Errors
    /// When the folder is missing or the path is longer than a socket's may be.
    pub fn bind(path: &Path) -> Result<Self, Failure> {
        let bound = || -> io::Result<std::os::unix::net::UnixDatagram> {
            match std::fs::remove_file(path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
            let socket = std::os::unix::net::UnixDatagram::bind(path)?;
            socket.set_nonblocking(true)?;
            Ok(socket)
        };
        match bound() {
            Ok(socket) => Ok(Self { socket, path: path.to_owned() }),
            Err(error) => {
                let reason = format!("the notify socket {} cannot be made: {error}", path.display());
                Err(Failure::new(FailureKind::Internal, reason).help("check that the runtime directory exists and is writable"))
            }
        }
    }

    /// The value of `NOTIFY_SOCKET`.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Calls `ready` at the first `READY=1`, then goes on emptying the socket: a service that says more (`STATUS=`,
    /// `WATCHDOG=1`) must not be told that nobody listens.
    pub(super) async fn listen(self, ready: impl Fn()) -> io::Result<()> {
        let socket = UnixDatagram::from_std(self.socket.try_clone()?)?;
        let mut buffer = vec![0u8; 4096];
        loop {
            let length = socket.recv(&mut buffer).await?;
            if says_ready(&buffer[..length]) {
                ready();
            }
        }
    }
}

impl Drop for NotifySocket {
    fn drop(&mut self) {
        // Gone already is as good.
        let _ = std::fs::remove_file(&self.path);
    }
}

fn says_ready(message: &[u8]) -> bool {
    message.split(|byte| *byte == b'\n').any(|line| line.trim_ascii() == b"READY=1")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ready_is_a_line_of_its_own() {
        assert!(says_ready(b"READY=1"));
        assert!(says_ready(b"STATUS=up\nREADY=1\nMAINPID=3\n"));
        assert!(!says_ready(b"STATUS=READY=1"));
        assert!(!says_ready(b"READY=10"));
        assert!(!says_ready(b""));
    }

    #[test]
    fn the_file_goes_with_the_socket_and_an_old_one_is_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("n");
        drop(std::os::unix::net::UnixDatagram::bind(&path).unwrap());
        assert!(path.exists());
        let socket = NotifySocket::bind(&path).unwrap();
        assert_eq!(socket.path(), path);
        drop(socket);
        assert!(!path.exists());
        assert!(NotifySocket::bind(&folder.path().join("no/such")).is_err());
    }
}
