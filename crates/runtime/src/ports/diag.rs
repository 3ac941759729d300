//! `sock_diag` queries over netlink (sock_diag(7)): which sockets listen on a port, with their inode and uid; and whether
//! anybody listens on many addresses, in one call.
//!
//! Bytes are put together and taken apart by hand: the request is 72 bytes and one kind of answer is read, less than any
//! crate for it. The parser trusts no length it is given.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsRawFd, OwnedFd};
use std::time::Duration;

use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, recv, send, setsockopt, socket, sockopt};
use nix::sys::time::{TimeVal, TimeValLike};

/// A listening socket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listener {
    /// Where it is bound.
    pub address: IpAddr,
    /// On which port.
    pub port: u16,
    /// The uid that made it.
    pub uid: u32,
    /// The number in `socket:[…]`.
    pub inode: u32,
}

const SOCK_DIAG_BY_FAMILY: u16 = 20;
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
const REQUEST: u16 = 0x1;
const REQUEST_DUMP: u16 = REQUEST | 0x300;
const TCP_ESTABLISHED: u8 = 1;
const TCP_SYN_RECV: u8 = 3;
const TCP_TIME_WAIT: u8 = 6;
const TCP_CLOSE_WAIT: u8 = 8;
const TCP_LISTEN: u32 = 10;
/// How long an ended connection stays in the kernel's table (`TCP_TIMEWAIT_LEN`, a constant of Linux).
const TIME_WAIT: Duration = Duration::from_secs(60);
const HEADER: usize = 16;
const ANSWER: usize = 72;

/// The sockets that listen on this TCP port, on any where it is 0, in both families, in our network namespace.
///
/// # Errors
/// When the kernel does not answer such queries.
pub(crate) fn listeners(port: u16) -> io::Result<Vec<Listener>> {
    let mut found = query(libc::AF_INET, port)?;
    // A kernel without IPv6 refuses the second query; what the first one said still stands.
    if let Ok(more) = query(libc::AF_INET6, port) {
        found.extend(more);
    }
    Ok(found)
}

/// A connection to a port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct PortConnection {
    /// The port at its other end.
    pub client_port: u16,
    /// How long ago it ended; zero: it is open.
    pub age: Duration,
}

/// The connections to a TCP port that the kernel knows of: open ones, and those that ended within the last minute and were
/// closed from this machine first.
///
/// # Errors
/// When the kernel does not answer such queries.
pub(crate) fn connections(port: u16) -> io::Result<Vec<PortConnection>> {
    let open = (1 << TCP_ESTABLISHED) | (1 << TCP_SYN_RECV) | (1 << TCP_CLOSE_WAIT) | (1u32 << TCP_TIME_WAIT);
    let mut found = Vec::new();
    for (family, is_needed) in [(libc::AF_INET, true), (libc::AF_INET6, false)] {
        for (sides, states) in [((port, 0), open), ((0, port), 1u32 << TCP_TIME_WAIT)] {
            let asked = dump(family, sides, states, |payload| found.extend(connection(payload, port)));
            // A kernel without IPv6 refuses the second family.
            if is_needed {
                asked?;
            }
        }
    }
    Ok(found)
}

/// One answer to [`connections`].
fn connection(payload: &[u8], port: u16) -> Option<PortConnection> {
    let (state, timer) = (*payload.get(1)?, *payload.get(2)?);
    let (source, target) = (u16::from_be_bytes([payload[4], payload[5]]), u16::from_be_bytes([payload[6], payload[7]]));
    let client_port = match (source == port, target == port) {
        (true, _) => target,
        (false, true) if state == TCP_TIME_WAIT => source,
        _ => return None,
    };
    let age = match state {
        TCP_ESTABLISHED | TCP_SYN_RECV | TCP_CLOSE_WAIT => Duration::ZERO,
        // 3: the timer of this state; what is left of it, in milliseconds (inet_diag_msg).
        TCP_TIME_WAIT if timer == 3 => {
            TIME_WAIT.saturating_sub(Duration::from_millis(u64::from(number(payload, 52)))).max(Duration::from_millis(1))
        }
        _ => return None,
    };
    Some(PortConnection { client_port, age })
}

/// The listener that a connection to this address would meet now.
///
/// # Errors
/// When there is none, or the kernel does not answer.
pub(crate) fn listener(at: SocketAddr) -> io::Result<Listener> {
    let fd = open(SockFlag::SOCK_NONBLOCK)?;
    send(fd.as_raw_fd(), &exact(1, at), MsgFlags::empty())?;
    let mut buffer = [0u8; 2048];
    let length = recv(fd.as_raw_fd(), &mut buffer, MsgFlags::empty())?;
    let mut found = Vec::new();
    parse(&buffer[..length], at.port(), &mut found)?;
    found.pop().ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))
}

/// The socket that took a connection on its server's side; `None`: no one has accepted it yet.
///
/// # Errors
/// When there is no such connection any more, or the kernel does not answer.
pub(crate) fn acceptor(server: SocketAddr, client: SocketAddr) -> io::Result<Option<u32>> {
    let fd = open(SockFlag::SOCK_NONBLOCK)?;
    let mut bytes = exact(1, server);
    bytes[26..28].copy_from_slice(&client.port().to_be_bytes());
    match client.ip() {
        IpAddr::V4(ip) => bytes[44..48].copy_from_slice(&ip.octets()),
        IpAddr::V6(ip) => bytes[44..60].copy_from_slice(&ip.octets()),
    }
    send(fd.as_raw_fd(), &bytes, MsgFlags::empty())?;
    let mut buffer = [0u8; 2048];
    let length = recv(fd.as_raw_fd(), &mut buffer, MsgFlags::empty())?;
    let mut found = Vec::new();
    parse(&buffer[..length], server.port(), &mut found)?;
    // Without the connection its listener is found.
    let is_listener = buffer.get(HEADER + 1).copied().map(u32::from) == Some(TCP_LISTEN);
    let socket = found.pop().filter(|_| !is_listener).ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))?;
    Ok((socket.inode != 0).then_some(socket.inode))
}

/// Asks again and again whether anybody listens, with one descriptor.
#[derive(Debug)]
pub struct ListenerQuery {
    socket: OwnedFd,
    buffer: Vec<u8>,
}

impl ListenerQuery {
    /// So many questions at once that all answers fit into the socket's buffer.
    const AT_ONCE: usize = 64;

    /// A kernel that cannot tell would say that there is nobody, so it is asked for a listener that is there.
    ///
    /// # Errors
    /// When it does not answer such questions.
    pub fn begin() -> io::Result<Self> {
        let mut inquiry = Self { socket: open(SockFlag::SOCK_NONBLOCK)?, buffer: vec![0; 4096] };
        let proof = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        match inquiry.listened(&[proof.local_addr()?])?.first() {
            Some(true) => Ok(inquiry),
            _ => Err(io::Error::from(io::ErrorKind::Unsupported)),
        }
    }

    /// Whether a connection to each of these addresses would meet a listener now, wildcards included.
    ///
    /// # Errors
    /// When the kernel does not answer.
    pub fn listened(&mut self, at: &[SocketAddr]) -> io::Result<Vec<bool>> {
        let mut found = vec![false; at.len()];
        for (number, part) in at.chunks(Self::AT_ONCE).enumerate() {
            let first = number * Self::AT_ONCE;
            let bytes: Vec<u8> = (first..).zip(part).flat_map(|(sequence, at)| exact(sequence, *at)).collect();
            send(self.socket.as_raw_fd(), &bytes, MsgFlags::empty())?;
            // All of them are answered before `send` comes back.
            loop {
                match recv(self.socket.as_raw_fd(), &mut self.buffer, MsgFlags::empty()) {
                    Ok(length) => answers(&self.buffer[..length], &mut found)?,
                    Err(nix::Error::EAGAIN) => break,
                    Err(error) => return Err(error.into()),
                }
            }
        }
        Ok(found)
    }
}

/// The question for one listener: the address that it listens on is ours, the other side is open.
fn exact(sequence: usize, at: SocketAddr) -> Vec<u8> {
    let family = if at.is_ipv4() { libc::AF_INET } else { libc::AF_INET6 };
    let mut bytes = request(u8::try_from(family).unwrap_or(0), at.port(), REQUEST);
    bytes[8..12].copy_from_slice(&u32::try_from(sequence).unwrap_or(u32::MAX).to_ne_bytes());
    match at.ip() {
        IpAddr::V4(ip) => bytes[28..32].copy_from_slice(&ip.octets()),
        IpAddr::V6(ip) => bytes[28..44].copy_from_slice(&ip.octets()),
    }
    // No particular socket (`INET_DIAG_NOCOOKIE`).
    bytes[64..72].fill(0xff);
    bytes
}

/// Takes one datagram of answers apart, each to its question.
fn answers(mut rest: &[u8], found: &mut [bool]) -> io::Result<()> {
    while rest.len() >= HEADER {
        let length = number(rest, 0) as usize;
        if length < HEADER || length > rest.len() {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "a netlink message of impossible length"));
        }
        let payload = &rest[HEADER..length];
        match u16::from_ne_bytes([rest[4], rest[5]]) {
            NLMSG_ERROR => {
                let code = payload.first_chunk::<4>().map_or(libc::EINVAL, |bytes| i32::from_ne_bytes(*bytes).wrapping_neg());
                // Nobody. Any other reason holds for all questions.
                if !matches!(code, 0 | libc::ENOENT) {
                    return Err(io::Error::from_raw_os_error(code));
                }
            }
            SOCK_DIAG_BY_FAMILY if payload.get(1).copied().map(u32::from) == Some(TCP_LISTEN) => {
                if let Some(one) = found.get_mut(number(rest, 8) as usize) {
                    *one = true;
                }
            }
            _ => {}
        }
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    Ok(())
}

fn open(flags: SockFlag) -> io::Result<OwnedFd> {
    // `NETLINK_SOCK_DIAG`.
    let protocol = SockProtocol::NetlinkSockDiag;
    Ok(socket(AddressFamily::Netlink, SockType::Datagram, SockFlag::SOCK_CLOEXEC | flags, protocol)?)
}

fn query(family: i32, port: u16) -> io::Result<Vec<Listener>> {
    let mut found = Vec::new();
    dump(family, (port, 0), 1u32 << TCP_LISTEN, |payload| found.extend(listener_of(payload, port)))?;
    Ok(found)
}

/// Every socket in these states, with this port on our and on the other side, where they are not 0.
fn dump(family: i32, (own, other): (u16, u16), states: u32, mut each: impl FnMut(&[u8])) -> io::Result<()> {
    let fd = open(SockFlag::empty())?;
    // The kernel answers at once; the limit is there so that a fault in it cannot stop a start.
    setsockopt(&fd, sockopt::ReceiveTimeout, &TimeVal::seconds(1))?;
    let mut bytes = request(u8::try_from(family).unwrap_or(0), own, REQUEST_DUMP);
    bytes[20..24].copy_from_slice(&states.to_ne_bytes());
    bytes[26..28].copy_from_slice(&other.to_be_bytes());
    send(fd.as_raw_fd(), &bytes, MsgFlags::empty())?;
    let mut buffer = vec![0u8; 32 * 1024];
    loop {
        let length = recv(fd.as_raw_fd(), &mut buffer, MsgFlags::empty())?;
        if length == 0 || messages(&buffer[..length], &mut each)? {
            return Ok(());
        }
    }
}

fn request(family: u8, port: u16, flags: u16) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(HEADER + 56);
    bytes.extend_from_slice(&72u32.to_ne_bytes());
    bytes.extend_from_slice(&SOCK_DIAG_BY_FAMILY.to_ne_bytes());
    bytes.extend_from_slice(&flags.to_ne_bytes());
    bytes.extend_from_slice(&1u32.to_ne_bytes());
    bytes.extend_from_slice(&0u32.to_ne_bytes());
    bytes.extend_from_slice(&[family, 6, 0, 0]);
    bytes.extend_from_slice(&(1u32 << TCP_LISTEN).to_ne_bytes());
    bytes.extend_from_slice(&port.to_be_bytes());
    bytes.resize(72, 0);
    bytes
}

/// The listeners of one datagram; true when the kernel said that it was the last.
fn parse(rest: &[u8], port: u16, found: &mut Vec<Listener>) -> io::Result<bool> {
    messages(rest, &mut |payload| found.extend(listener_of(payload, port)))
}

fn listener_of(payload: &[u8], port: u16) -> Option<Listener> {
    (port == 0 || payload[4..6] == port.to_be_bytes()).then(|| Listener {
        address: address(payload[0], &payload[8..24]),
        port: u16::from_be_bytes([payload[4], payload[5]]),
        uid: number(payload, 64),
        inode: number(payload, 68),
    })
}

/// Takes one datagram apart, answer by answer; true when the kernel said that it was the last.
fn messages(mut rest: &[u8], each: &mut impl FnMut(&[u8])) -> io::Result<bool> {
    while rest.len() >= HEADER {
        let length = number(rest, 0) as usize;
        let kind = u16::from_ne_bytes([rest[4], rest[5]]);
        if length < HEADER || length > rest.len() {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "a netlink message of impossible length"));
        }
        let payload = &rest[HEADER..length];
        match kind {
            NLMSG_DONE => return Ok(true),
            NLMSG_ERROR => {
                let code = payload.first_chunk::<4>().map_or(libc::EINVAL, |bytes| i32::from_ne_bytes(*bytes).wrapping_neg());
                if code == 0 {
                    return Ok(true);
                }
                return Err(io::Error::from_raw_os_error(code));
            }
            SOCK_DIAG_BY_FAMILY if payload.len() >= ANSWER => each(&payload[..ANSWER]),
            _ => {}
        }
        // Messages are aligned to four bytes.
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    Ok(false)
}

/// The parsers of what the kernel sends, for `fuzz/`.
pub mod fuzz {
    use super::{Listener, io};

    /// The listeners in one datagram.
    ///
    /// # Errors
    /// When it holds an error, or is malformed.
    pub fn listeners(datagram: &[u8], port: u16) -> io::Result<Vec<Listener>> {
        let mut found = Vec::new();
        super::parse(datagram, port, &mut found).map(|_| found)
    }

    /// Sets which of the questions one datagram answers with a listener.
    ///
    /// # Errors
    /// When it holds an error, or is malformed.
    pub fn answers(datagram: &[u8], found: &mut [bool]) -> io::Result<()> {
        super::answers(datagram, found)
    }
}

fn number(bytes: &[u8], at: usize) -> u32 {
    bytes.get(at..at + 4).and_then(|four| four.first_chunk::<4>()).map_or(0, |four| u32::from_ne_bytes(*four))
}

fn address(family: u8, bytes: &[u8]) -> IpAddr {
    if i32::from(family) == libc::AF_INET {
        IpAddr::V4(bytes.first_chunk::<4>().map_or(Ipv4Addr::UNSPECIFIED, |four| Ipv4Addr::from(*four)))
    } else {
        IpAddr::V6(bytes.first_chunk::<16>().map_or(Ipv6Addr::UNSPECIFIED, |all| Ipv6Addr::from(*all)))
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::os::linux::fs::MetadataExt;

    use super::*;

    #[test]
    fn our_own_listener_is_listed_with_its_inode() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let inode = std::fs::metadata(format!("/proc/self/fd/{}", listener.as_raw_fd())).unwrap().st_ino();
        let found = listeners(port).unwrap();
        assert_eq!(found.len(), 1, "{found:?}");
        assert_eq!(u64::from(found[0].inode), inode);
        assert_eq!(found[0].uid, nix::unistd::geteuid().as_raw());
        assert_eq!((found[0].address, found[0].port), (IpAddr::V4(Ipv4Addr::LOCALHOST), port));
        assert!(listeners(0).unwrap().contains(&found[0]));
        assert_eq!(super::listener(listener.local_addr().unwrap()).unwrap(), found[0]);
        assert!(super::listener("127.0.0.1:1".parse().unwrap()).is_err());
        drop(listener);
        // A child that another test is starting has a copy until it executes.
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(20);
        while !listeners(port).unwrap().is_empty() {
            assert!(std::time::Instant::now() < deadline, "it listens on");
            std::thread::yield_now();
        }
    }

    #[test]
    fn an_error_of_any_number_is_an_error() {
        for code in [i32::MIN, -libc::EPERM, i32::MAX] {
            let mut datagram = Vec::from(20u32.to_ne_bytes());
            datagram.extend_from_slice(&NLMSG_ERROR.to_ne_bytes());
            datagram.resize(HEADER, 0);
            datagram.extend_from_slice(&code.to_ne_bytes());
            assert!(fuzz::listeners(&datagram, 0).is_err() && fuzz::answers(&datagram, &mut [false]).is_err(), "{code}");
        }
    }

    #[test]
    fn a_connection_is_nobodys_until_it_is_accepted() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let at = listener.local_addr().unwrap();
        let client = std::net::TcpStream::connect(at).unwrap();
        let own = client.local_addr().unwrap();
        assert_eq!(acceptor(at, own).unwrap(), None);
        let (accepted, _) = listener.accept().unwrap();
        let inode = std::fs::metadata(format!("/proc/self/fd/{}", accepted.as_raw_fd())).unwrap().st_ino();
        assert_eq!(acceptor(at, own).unwrap().map(u64::from), Some(inode));
        assert!(acceptor(at, "127.0.0.1:1".parse().unwrap()).is_err(), "the listener is no connection");
    }

    #[test]
    fn many_addresses_are_asked_for_at_once() {
        let mut inquiry = ListenerQuery::begin().unwrap();
        let exact = TcpListener::bind("127.0.0.1:0").unwrap();
        let any = TcpListener::bind("0.0.0.0:0").unwrap();
        let at = |ip: &str, port: u16| SocketAddr::new(ip.parse().unwrap(), port);
        let (one, two) = (exact.local_addr().unwrap().port(), any.local_addr().unwrap().port());
        let mut asked = vec![at("127.0.0.1", 1); 200];
        asked[3] = at("127.0.0.1", one);
        asked[70] = at("127.0.0.2", one);
        asked[199] = at("127.0.0.2", two);
        let mut wanted = vec![false; 200];
        (wanted[3], wanted[199]) = (true, true);
        assert_eq!(inquiry.listened(&asked).unwrap(), wanted);
        // A socket of both families answers in both; what is connected is no listener.
        if let Ok(both) = TcpListener::bind("[::]:0") {
            let three = both.local_addr().unwrap().port();
            let client = std::net::TcpStream::connect(("127.0.0.1", three)).unwrap();
            let own = client.local_addr().unwrap();
            assert_eq!(inquiry.listened(&[at("127.0.0.1", three), at("::1", three), own]).unwrap(), [true, true, false]);
        }
    }

    #[test]
    fn impossible_lengths_are_refused_and_nothing_is_read_past_the_end() {
        let mut found = Vec::new();
        assert!(parse(&[0xff; 40], 1, &mut found).is_err());
        assert!(parse(&[0; 40], 1, &mut found).is_err());
        assert!(answers(&[0xff; 40], &mut []).is_err() && answers(&[0; 40], &mut []).is_err());
        answers(&[0; 7], &mut []).unwrap();
        // An answer to a question that was not asked.
        let mut other = exact(7, "127.0.0.1:80".parse().unwrap());
        other[HEADER + 1] = 10;
        answers(&other, &mut [false; 3]).unwrap();
        assert!(!parse(&[0; 7], 1, &mut found).unwrap());
        // A message of the right kind that is cut short is passed over.
        let mut cut = Vec::new();
        cut.extend_from_slice(&20u32.to_ne_bytes());
        cut.extend_from_slice(&SOCK_DIAG_BY_FAMILY.to_ne_bytes());
        cut.resize(20, 0);
        assert!(!parse(&cut, 0, &mut found).unwrap());
        assert!(found.is_empty());
    }
}
