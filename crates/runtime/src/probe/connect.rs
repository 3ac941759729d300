//! The first stage of every check that has an endpoint: connect, and see whose listener it is.
//!
//! A refused connect on loopback is answered within the system call and costs some 20 µs, so it may be tried every
//! millisecond. Only what comes after it is dear.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::AsFd;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use socket2::{Domain, SockRef, Socket, Type};
use tokio::net::TcpStream;

use super::super::ports::{self, Acceptor, PortOwner};
use super::result::ProbeError;
use devrun_model::ready::Endpoint;
use devrun_model::{Failure, FailureKind};

/// A connection that was made, and nothing more: it is not known to the runtime, which would cost as much again.
#[derive(Debug)]
pub(crate) struct RawConnection {
    stream: std::net::TcpStream,
    /// As in [`Connection`].
    pub note: Option<String>,
}

/// An open connection.
#[derive(Debug)]
pub(crate) struct Connection {
    /// The connection.
    pub stream: TcpStream,
    /// Worth showing: another family than asked for, or a holder that cannot be known.
    pub note: Option<String>,
}

/// Lets a connection count only if its listener is not positively a stranger's. The kernel is asked once per generation.
#[derive(Debug)]
pub(crate) struct OwnershipGate {
    leader: Option<i32>,
    run: String,
    /// A port whose socket the supervisor holds: connections are made whether or not anybody will take them.
    held: Option<u16>,
    owners: Mutex<OwnerCache>,
    opened: FirstOpen,
}

/// When a listener of the service's own first took a connection; set once.
pub(crate) type FirstOpen = Arc<OnceLock<Instant>>;

#[derive(Debug, Default)]
struct OwnerCache {
    seen: Vec<CachedOwner>,
    other_family: Option<Instant>,
}

#[derive(Debug, Clone)]
struct CachedOwner {
    at: SocketAddr,
    owner: PortOwner,
    when: Instant,
}

/// A stranger may go away; looking for one again costs a scan of `/proc`.
const STRANGER_CACHED_FOR: Duration = Duration::from_millis(250);

/// A service that is told 127.0.0.1 and listens on ::1 is rare, and each look there doubles the price of an attempt.
const OTHER_FAMILY_EVERY: Duration = Duration::from_millis(20);

/// How long a connection waits to be accepted before it is given up, and made again by the next attempt.
const ACCEPTED_WITHIN: Duration = Duration::from_secs(2);
const MAX_PAUSE: Duration = Duration::from_millis(10);

/// For one of several addresses of a name.
const EACH_ADDRESS: Duration = Duration::from_secs(1);

impl OwnershipGate {
    /// For the tree of this leader; without one every listener counts.
    pub(crate) fn new(leader: Option<i32>, run: String) -> Self {
        Self { leader, run, held: None, owners: Mutex::default(), opened: FirstOpen::default() }
    }

    /// With a port whose socket was passed to the service.
    #[must_use]
    pub(crate) fn with_held_port(self, held: Option<u16>) -> Self {
        Self { held, ..self }
    }

    /// The leader, where one is known.
    pub(crate) fn leader(&self) -> Option<i32> {
        self.leader
    }

    /// Where the first open port is noted.
    pub(crate) fn opened(&self) -> FirstOpen {
        Arc::clone(&self.opened)
    }

    fn owner_cache(&self) -> MutexGuard<'_, OwnerCache> {
        // A panic elsewhere leaves nothing half-written in here.
        self.owners.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn should_try_other_family(&self) -> bool {
        let mut cache = self.owner_cache();
        let due = cache.other_family.is_none_or(|last| last.elapsed() >= OTHER_FAMILY_EVERY);
        if due {
            cache.other_family = Some(Instant::now());
        }
        due
    }

    /// The leader itself is looked at here and now, as it is nearly always the one. Everybody else takes a question that may
    /// last, on a thread for such.
    async fn owner(&self, leader: i32, at: SocketAddr) -> PortOwner {
        if let Some(seen) = self.owner_cache().seen.iter().find(|seen| seen.at == at)
            && (!matches!(seen.owner, PortOwner::Stranger(_)) || seen.when.elapsed() < STRANGER_CACHED_FOR)
        {
            return seen.owner.clone();
        }
        if ports::led(leader, at) {
            return self.cache_owner(at, PortOwner::Ours);
        }
        let run = self.run.clone();
        let asked = tokio::task::spawn_blocking(move || ports::owner(leader, &run, &at.ip().to_string(), at.port())).await;
        let owner = asked.unwrap_or_else(|_| PortOwner::Unknown("the question was not answered".to_owned()));
        self.cache_owner(at, owner)
    }

    fn cache_owner(&self, at: SocketAddr, owner: PortOwner) -> PortOwner {
        let mut cache = self.owner_cache();
        cache.seen.retain(|seen| seen.at != at);
        cache.seen.push(CachedOwner { at, owner: owner.clone(), when: Instant::now() });
        owner
    }
}

/// As [`connect_raw`], to talk over it.
pub(crate) async fn connect(at: &Endpoint, gate: Option<&OwnershipGate>) -> Result<Connection, ProbeError> {
    let RawConnection { stream, note } = connect_raw(at, gate).await?;
    let known = stream.set_nodelay(true).and_then(|()| TcpStream::from_std(stream));
    let stream = known.map_err(|error| ProbeError::new(refusal(at, &error)))?;
    Ok(Connection { stream, note })
}

/// Connects. Tries both families for `localhost`; 127.0.0.1 falls back to ::1, as some servers that are told `localhost`
/// listen there only.
pub(crate) async fn connect_raw(at: &Endpoint, gate: Option<&OwnershipGate>) -> Result<RawConnection, ProbeError> {
    let addresses = match candidates(&at.host) {
        Some(known) => known.into_iter().map(|ip| SocketAddr::new(ip, at.port)).collect(),
        None => resolve(at).await?,
    };
    let either = matches!(at.host.as_str(), "localhost" | "");
    let (mut refused, mut stranger) = (None, None);
    for (place, address) in addresses.iter().copied().enumerate() {
        // A family that nobody asked for is looked at only where the right one refuses.
        let other = !either && place > 0 && address.ip().is_loopback();
        if other && (stranger.is_some() || !gate.is_none_or(OwnershipGate::should_try_other_family)) {
            break;
        }
        // One address that swallows packets must not take the time of those after it.
        let several = addresses.len() > 1 && !address.ip().is_loopback();
        let connected = if several {
            let timed = tokio::time::timeout(EACH_ADDRESS, connect_address(address)).await;
            timed.unwrap_or_else(|_| Err(io::Error::from(io::ErrorKind::TimedOut)))
        } else {
            connect_address(address).await
        };
        let stream = match connected {
            Ok(stream) => stream,
            Err(error) => {
                // The answer for the address that was asked for is the one worth telling.
                refused = refused.or(Some(error));
                continue;
            }
        };
        // Whose it is takes a question to the kernel; the port was open before that.
        let connected_at = Instant::now();
        let mut notes = Vec::new();
        if other {
            notes.push(format!("it answers on {address} only"));
        }
        if let Some(gate) = gate
            && let Some(leader) = gate.leader.filter(|_| address.ip().is_loopback())
        {
            if gate.held == Some(address.port()) {
                if let Ok(own) = stream.local_addr() {
                    ports::note_probe(own.port());
                }
                notes.extend(wait_for_acceptor(leader, &stream).await?);
            } else {
                match gate.owner(leader, address).await {
                    PortOwner::Ours => {}
                    PortOwner::Unknown(why) => notes.push(format!("who holds port {} cannot be known: {why}", at.port)),
                    PortOwner::Stranger(_) if other => continue,
                    PortOwner::Stranger(holder) => {
                        stranger = stranger.or(Some(holder));
                        continue;
                    }
                }
            }
        }
        if let Some(gate) = gate {
            gate.opened.get_or_init(|| connected_at);
        }
        let note = if notes.is_empty() { None } else { Some(notes.join("; ")) };
        return Ok(RawConnection { stream, note });
    }
    // While one of the addresses still refuses, the service may yet come up there: a stranger beside it proves nothing.
    match (refused, stranger) {
        (None, Some(holder)) => {
            let reason = format!("{} is held by {holder}, not by this service", at.port);
            Err(ProbeError::fatal(Failure::new(FailureKind::PortTaken, reason).help(ports::way_out(&holder))))
        }
        (Some(error), None) if error.kind() == io::ErrorKind::ConnectionRefused => {
            let closed = if addresses.iter().all(|address| address.ip().is_loopback()) { addresses } else { Vec::new() };
            Err(ProbeError { closed, ..ProbeError::new(refusal(at, &error)) })
        }
        (Some(error), _) => Err(ProbeError::new(refusal(at, &error))),
        (None, None) => Err(ProbeError::new(format!("{} has no address", at.host))),
    }
}

/// On a socket that the supervisor holds a connection says nothing before somebody takes it, and an earlier start of the
/// service may be the one. Returns a note where that cannot be known.
async fn wait_for_acceptor(leader: i32, stream: &std::net::TcpStream) -> Result<Option<String>, ProbeError> {
    let failed = |error: io::Error| ProbeError::new(format!("the connection was lost: {error}"));
    let (server, client) = (stream.peer_addr().map_err(failed)?, stream.local_addr().map_err(failed)?);
    let began = Instant::now();
    let mut pause = Duration::from_millis(1);
    loop {
        match ports::acceptor(leader, server, client) {
            Acceptor::Ours => return Ok(None),
            Acceptor::Another => {
                return Err(ProbeError::new(format!("{} is still served by another process of this service", server.port())));
            }
            Acceptor::Unknown => return Ok(Some(format!("who serves port {} cannot be known", server.port()))),
            Acceptor::Nobody if began.elapsed() >= ACCEPTED_WITHIN => {
                return Err(ProbeError::new(format!("{} has not accepted a connection yet", server.port())));
            }
            Acceptor::Nobody => tokio::time::sleep(pause).await,
        }
        pause = (pause * 2).min(MAX_PAUSE);
    }
}

/// The addresses of an endpoint on this machine; none where it is elsewhere, or has to be looked up.
pub(crate) fn local_addresses(at: &Endpoint) -> Vec<SocketAddr> {
    let known = candidates(&at.host).filter(|known| known.iter().all(IpAddr::is_loopback)).unwrap_or_default();
    known.into_iter().map(|ip| SocketAddr::new(ip, at.port)).collect()
}

fn refusal(at: &Endpoint, error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => format!("connection refused on {at}"),
        io::ErrorKind::ConnectionReset => format!("connection reset on {at}"),
        _ => format!("no connection to {at}: {error}"),
    }
}

/// The addresses of a host that needs no look-up.
fn candidates(host: &str) -> Option<Vec<IpAddr>> {
    let (v4, v6) = (IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST));
    match host.trim_matches(['[', ']']) {
        "" | "localhost" | "0.0.0.0" | "127.0.0.1" => Some(vec![v4, v6]),
        "::" => Some(vec![v6, v4]),
        host => host.parse().ok().map(|ip| vec![ip]),
    }
}

async fn resolve(at: &Endpoint) -> Result<Vec<SocketAddr>, ProbeError> {
    match tokio::net::lookup_host((at.host.as_str(), at.port)).await {
        Ok(found) => Ok(found.collect()),
        Err(error) => Err(ProbeError::new(format!("the name {} is not resolved: {error}", at.host))),
    }
}

async fn connect_address(address: SocketAddr) -> io::Result<std::net::TcpStream> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    socket.set_nonblocking(true)?;
    let waits = match socket.connect(&address.into()) {
        Ok(()) => false,
        Err(error) if error.raw_os_error() == Some(libc::EINPROGRESS) => true,
        Err(error) => return Err(error),
    };
    let mut stream = std::net::TcpStream::from(socket);
    // On loopback the other side has answered by now, within the call.
    if waits && !is_writable(&stream)? {
        let waiting = TcpStream::from_std(stream)?;
        waiting.writable().await?;
        stream = waiting.into_std()?;
    }
    if let Some(error) = stream.take_error()? {
        return Err(error);
    }
    // A port among the source ports of connections can be given to the very socket that asks for it: TCP then connects
    // it to itself, and a closed port would look open (simultaneous open, RFC 9293 3.5).
    if stream.local_addr()? == address {
        // Without this it would wait for a minute in TIME_WAIT, on the service's own port.
        SockRef::from(&stream).set_linger(Some(Duration::ZERO))?;
        return Err(io::Error::from(io::ErrorKind::ConnectionRefused));
    }
    Ok(stream)
}

fn is_writable(stream: &std::net::TcpStream) -> io::Result<bool> {
    use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
    Ok(poll(&mut [PollFd::new(stream.as_fd(), PollFlags::POLLOUT)], PollTimeout::ZERO)? > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(host: &str, port: u16) -> Endpoint {
        Endpoint { host: host.to_owned(), port }
    }

    #[tokio::test]
    async fn both_families_are_tried() {
        // A machine without the other family has the first one only.
        let other = std::net::TcpListener::bind("[::1]:0");
        let has_both = other.is_ok();
        let listener = other.unwrap_or_else(|_| std::net::TcpListener::bind("127.0.0.1:0").unwrap());
        let port = listener.local_addr().unwrap().port();
        assert!(connect(&at("localhost", port), None).await.unwrap().note.is_none());
        let note = connect(&at("127.0.0.1", port), None).await.unwrap().note;
        assert_eq!(note.is_some_and(|note| note.contains("[::1]")), has_both);
        drop(listener);
        let miss = connect(&at("localhost", port), None).await.unwrap_err();
        assert_eq!(miss.answer, format!("connection refused on localhost:{port}"));
        assert_eq!(miss.fatal, None);
    }

    #[tokio::test]
    async fn a_closed_port_never_connects_to_itself() {
        // The kernel gives connections even numbers first and walks through them, some 14000, leaving out a few at random: the port itself comes up sooner or later.
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = free.local_addr().unwrap().port() & !1;
        drop(free);
        let address = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port);
        for _ in 0..30_000 {
            assert!(connect_address(address).await.is_err());
        }
    }

    #[cfg(target_os = "linux")]
    #[tokio::test]
    async fn who_was_a_stranger_a_while_ago_is_looked_at_again_and_remembered_once() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let gate = OwnershipGate::new(Some(std::process::id().cast_signed()), String::new());
        let when = Instant::now().checked_sub(2 * STRANGER_CACHED_FOR).unwrap();
        gate.owner_cache().seen.push(CachedOwner { at: address, owner: PortOwner::Stranger(ports::PortHolder::default()), when });
        for _ in 0..3 {
            assert_eq!(connect(&at("127.0.0.1", address.port()), Some(&gate)).await.unwrap().note, None);
        }
        let seen: Vec<PortOwner> = gate.owner_cache().seen.iter().map(|seen| seen.owner.clone()).collect();
        assert_eq!(seen, [PortOwner::Ours]);
    }

    #[tokio::test]
    async fn a_stranger_is_named_only_where_no_address_is_left() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let holder = ports::PortHolder { pid: Some(812), command: Some("postgres".to_owned()), ..ports::PortHolder::default() };
        let gate = OwnershipGate::new(Some(1), String::new());
        let address = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port);
        gate.owner_cache().seen.push(CachedOwner {
            at: address,
            owner: PortOwner::Stranger(holder),
            when: Instant::now() + Duration::from_secs(60),
        });
        // ::1 refuses, so the service may still come up there.
        let miss = connect(&at("localhost", port), Some(&gate)).await.unwrap_err();
        assert_eq!(miss.fatal, None);
        let miss = connect(&at("127.0.0.1", port), Some(&gate)).await.unwrap_err();
        assert_eq!(miss.answer, format!("{port} is held by postgres (pid 812), not by this service"));
        assert_eq!(miss.fatal.unwrap().kind, FailureKind::PortTaken);
    }
}
