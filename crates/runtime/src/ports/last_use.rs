//! When a port was last connected to, as far as the kernel remembers: a connection that has ended stays in its table for a
//! minute, at the side that closed it first. Connections of our own probes do not count.

use std::collections::VecDeque;
use std::io;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Longer than a probe's connection can be in the kernel's table.
const PROBE_REMEMBERED: Duration = Duration::from_secs(90);
/// Of those that are made while a service starts only the latest matter.
const MOST_PROBES: usize = 4096;

/// The connections of probes: when, and the port that they came from.
static PROBES: Mutex<VecDeque<(Instant, u16)>> = Mutex::new(VecDeque::new());

/// A connection of ours, to a service whose connections are counted.
pub fn note_probe(client_port: u16) {
    // A panic elsewhere leaves nothing half-written in here.
    let mut probes = PROBES.lock().unwrap_or_else(PoisonError::into_inner);
    let now = Instant::now();
    while probes.front().is_some_and(|(at, _)| now.duration_since(*at) > PROBE_REMEMBERED) || probes.len() >= MOST_PROBES {
        probes.pop_front();
    }
    probes.push_back((now, client_port));
}

/// How long ago a TCP port of this machine had a connection; zero while it has one, `None` where none is known of.
///
/// # Errors
/// When the kernel does not say.
pub fn last_use(port: u16) -> io::Result<Option<Duration>> {
    #[cfg(target_os = "linux")]
    if devrun_keeper::TELLS_LISTENERS {
        let probes: Vec<u16> = {
            let known = PROBES.lock().unwrap_or_else(PoisonError::into_inner);
            known.iter().map(|(_, port)| *port).collect()
        };
        let used = super::diag::connections(port)?;
        return Ok(used.into_iter().filter(|one| !probes.contains(&one.client_port)).map(|one| one.age).min());
    }
    let _ = port;
    Err(io::Error::from(io::ErrorKind::Unsupported))
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use std::net::{TcpListener, TcpStream};

    use super::*;

    #[test]
    fn a_connection_counts_while_it_is_open_and_for_its_age_afterwards() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        assert_eq!(last_use(port).unwrap(), None);
        let client = TcpStream::connect(("127.0.0.1", port)).unwrap();
        assert_eq!(last_use(port).unwrap(), Some(Duration::ZERO), "it waits to be accepted");
        let (served, _) = listener.accept().unwrap();
        assert_eq!(last_use(port).unwrap(), Some(Duration::ZERO));
        drop(client);
        drop(served);
        let deadline = Instant::now() + Duration::from_secs(20);
        let age = loop {
            match last_use(port).unwrap() {
                Some(age) if age > Duration::ZERO => break age,
                _ => assert!(Instant::now() < deadline, "it is remembered"),
            }
            std::thread::yield_now();
        };
        assert!(age < Duration::from_secs(20), "{age:?}");
    }

    #[test]
    fn a_probe_does_not_count() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let probe = TcpStream::connect(("127.0.0.1", port)).unwrap();
        note_probe(probe.local_addr().unwrap().port());
        assert_eq!(last_use(port).unwrap(), None);
        let _client = TcpStream::connect(("127.0.0.1", port)).unwrap();
        assert_eq!(last_use(port).unwrap(), Some(Duration::ZERO), "the other one does");
    }
}
