//! The listening sockets of services that do not bind their main port themselves (`listen`, and every gateway).
//!
//! They are opened at the first start of a service and closed when no copy of it will come back by itself, so a restart refuses
//! no connection: what arrives in between waits in the kernel's queue for the next process. The supervisor holds them, and the
//! keeper passes them on, so the end of either loses none.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::os::fd::OwnedFd;
use std::sync::Arc;

use devrun_model::{Failure, FailureKind, ServiceSpec, State, StateChange};
use socket2::{Domain, Socket, Type};

use crate::ports;

/// Connections that wait to be accepted while a service is replaced; the kernel takes `net.core.somaxconn` at most.
const BACKLOG: i32 = 4096;

/// All of them, by service.
#[derive(Debug, Default)]
pub(super) struct HeldSockets(BTreeMap<String, HeldSocket>);

#[derive(Debug)]
struct HeldSocket {
    bind: String,
    port: u16,
    socket: Arc<OwnedFd>,
    /// The copies that listen on it, or are behind it, or are about to be.
    replicas: BTreeSet<u32>,
}

impl HeldSockets {
    /// Whether the socket of a service is open.
    pub(crate) fn is_open(&self, service: &str) -> bool {
        self.0.contains_key(service)
    }

    /// The socket that a copy is started with; `None`: it opens its port itself.
    ///
    /// # Errors
    /// `PortTaken` when somebody else holds the port.
    pub(crate) fn open(&mut self, spec: &ServiceSpec) -> Result<Option<Arc<OwnedFd>>, Failure> {
        let Some(port) = spec.port().filter(|_| spec.listen) else { return Ok(None) };
        self.open_at(spec, port).map(Some)
    }

    /// The socket of a service, where one is open.
    pub(crate) fn get(&self, service: &str) -> Option<Arc<OwnedFd>> {
        self.0.get(service).map(|held| Arc::clone(&held.socket))
    }

    /// The socket on a port that a copy has a part in: its own main port, or the shared one.
    ///
    /// # Errors
    /// As [`HeldSockets::open`].
    pub(crate) fn open_at(&mut self, spec: &ServiceSpec, port: u16) -> Result<Arc<OwnedFd>, Failure> {
        let name = spec.service.as_str();
        if let Some(held) = self.0.get_mut(name).filter(|held| held.bind == spec.bind && held.port == port) {
            held.replicas.insert(spec.replica);
            return Ok(Arc::clone(&held.socket));
        }
        ports::check(&spec.bind, port).map_err(|taken| taken.failure(&spec.bind, port))?;
        let socket = listen(&spec.bind, port).map_err(|error| {
            Failure::new(FailureKind::PortTaken, format!("cannot listen on {}:{port}: {error}", spec.bind)).help("devrun ports")
        })?;
        let socket = Arc::new(OwnedFd::from(socket));
        let held =
            HeldSocket { bind: spec.bind.clone(), port, socket: Arc::clone(&socket), replicas: BTreeSet::from([spec.replica]) };
        self.0.insert(name.to_owned(), held);
        Ok(socket)
    }

    /// Closes the socket of a service of which no copy comes back by itself: when the last one is asked to stop, so that the
    /// port is closed as soon as the process closes it. `comes_back`: whether what is being stopped is started again. True: it was open.
    pub(crate) fn observe(&mut self, change: &StateChange, comes_back: impl FnOnce() -> bool) -> bool {
        let is_final = matches!(change.to, State::Stopped | State::Completed | State::Failed | State::Blocked | State::Skipped);
        if let Some(held) = self.0.get_mut(&change.service)
            && (is_final || change.to == State::Stopping && !comes_back())
        {
            held.replicas.remove(&change.replica);
            if held.replicas.is_empty() {
                return self.0.remove(&change.service).is_some();
            }
        }
        false
    }
}

fn listen(bind: &str, port: u16) -> io::Result<Socket> {
    let host = match bind {
        "" | "*" => "0.0.0.0",
        host => host.trim_matches(['[', ']']),
    };
    let mut last = io::Error::from(io::ErrorKind::AddrNotAvailable);
    for address in (host, port).to_socket_addrs()? {
        match listen_at(address) {
            Ok(socket) => return Ok(socket),
            Err(error) => last = error,
        }
    }
    Err(last)
}

fn listen_at(address: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    // As every server does: connections of the last run in TIME_WAIT hold no port.
    socket.set_reuse_address(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use std::net::TcpStream;

    use devrun_model::{Health, ServiceName};

    use super::*;

    fn spec(port: u16, replica: u32) -> ServiceSpec {
        let mut spec = ServiceSpec::bare(ServiceName::new("api").unwrap(), "/".into(), vec!["api".to_owned()]);
        spec.ports.insert("main".to_owned(), port);
        spec.listen = true;
        spec.replica = replica;
        spec
    }

    fn becomes(state: State, replica: u32) -> StateChange {
        StateChange {
            ts: String::new(),
            seq: 0,
            name: Some(format!("api.{replica}")),
            service: "api".to_owned(),
            replica,
            from: State::Running,
            to: state,
            health: Health::None,
            reason: None,
            help: None,
            pid: None,
            exit_code: None,
        }
    }

    fn free_port() -> u16 {
        std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
    }

    #[test]
    fn it_stays_open_through_a_restart_and_until_the_last_copy_is_over() {
        let (mut held, port) = (HeldSockets::default(), free_port());
        let takes_connections = || TcpStream::connect(("127.0.0.1", port)).is_ok();
        let first = held.open(&spec(port, 1)).unwrap().unwrap();
        let second = held.open(&spec(port, 2)).unwrap().unwrap();
        assert!(Arc::ptr_eq(&first, &second), "all copies share one");
        drop((first, second));
        for state in [State::Stopping, State::Waiting, State::BackingOff, State::Starting, State::Running] {
            held.observe(&becomes(state, 1), || true);
            assert!(takes_connections(), "{state:?}");
        }
        held.observe(&becomes(State::Failed, 1), || false);
        assert!(takes_connections(), "the other copy is there");
        held.observe(&becomes(State::Stopping, 2), || false);
        assert!(!takes_connections());
    }

    #[test]
    fn another_port_is_another_socket_and_a_held_one_is_refused() {
        let (mut held, port) = (HeldSockets::default(), free_port());
        held.open(&spec(port, 1)).unwrap();
        let other = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let taken = held.open(&spec(other.local_addr().unwrap().port(), 1)).unwrap_err();
        assert_eq!(taken.kind, FailureKind::PortTaken);
        let next = free_port();
        held.open(&spec(next, 1)).unwrap();
        assert!(TcpStream::connect(("127.0.0.1", next)).is_ok());
        assert!(TcpStream::connect(("127.0.0.1", port)).is_err(), "the old port is given up");
        let mut plain = spec(port, 1);
        plain.listen = false;
        assert!(held.open(&plain).unwrap().is_none());
    }
}
