//! One `sock_diag` query over netlink (sock_diag(7)): which sockets listen on a port, with their inode and uid.
//!
//! Bytes are put together and taken apart by hand: the request is 72 bytes and one kind of answer is read, less than any
//! crate for it. The parser trusts no length it is given.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::{AsRawFd, OwnedFd};

use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, recv, send, setsockopt, socket, sockopt};
use nix::sys::time::{TimeVal, TimeValLike};

/// A listening socket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listener {
    /// Where it is bound.
    pub address: IpAddr,
    /// The uid that made it.
    pub uid: u32,
    /// The number in `socket:[…]`.
    pub inode: u32,
}

const SOCK_DIAG_BY_FAMILY: u16 = 20;
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
const REQUEST_DUMP: u16 = 0x1 | 0x300;
const TCP_LISTEN: u32 = 10;
const HEADER: usize = 16;
const ANSWER: usize = 72;

/// The sockets that listen on this TCP port, in both families, in our network namespace.
///
/// # Errors
/// When the kernel does not answer such queries.
pub fn listeners(port: u16) -> io::Result<Vec<Listener>> {
    let mut found = query(libc::AF_INET, port)?;
    // A kernel without IPv6 refuses the second query; what the first one said still stands.
    if let Ok(more) = query(libc::AF_INET6, port) {
        found.extend(more);
    }
    Ok(found)
}

fn query(family: i32, port: u16) -> io::Result<Vec<Listener>> {
    let fd: OwnedFd = socket(
        AddressFamily::Netlink,
        SockType::Datagram,
        SockFlag::SOCK_CLOEXEC,
        // `NETLINK_SOCK_DIAG`.
        SockProtocol::NetlinkSockDiag,
    )?;
    // The kernel answers at once; the limit is there so that a fault in it cannot stop a start.
    setsockopt(&fd, sockopt::ReceiveTimeout, &TimeVal::seconds(1))?;
    send(fd.as_raw_fd(), &request(u8::try_from(family).unwrap_or(0), port), MsgFlags::empty())?;
    let mut found = Vec::new();
    let mut buffer = vec![0u8; 32 * 1024];
    loop {
        let length = recv(fd.as_raw_fd(), &mut buffer, MsgFlags::empty())?;
        if length == 0 {
            return Ok(found);
        }
        if parse(&buffer[..length], port, &mut found)? {
            return Ok(found);
        }
    }
}

fn request(family: u8, port: u16) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(HEADER + 56);
    bytes.extend_from_slice(&72u32.to_ne_bytes());
    bytes.extend_from_slice(&SOCK_DIAG_BY_FAMILY.to_ne_bytes());
    bytes.extend_from_slice(&REQUEST_DUMP.to_ne_bytes());
    bytes.extend_from_slice(&1u32.to_ne_bytes());
    bytes.extend_from_slice(&0u32.to_ne_bytes());
    bytes.extend_from_slice(&[family, 6, 0, 0]);
    bytes.extend_from_slice(&(1u32 << TCP_LISTEN).to_ne_bytes());
    bytes.extend_from_slice(&port.to_be_bytes());
    bytes.resize(72, 0);
    bytes
}

/// Takes one datagram apart; true when the kernel said that it was the last.
fn parse(mut rest: &[u8], port: u16, found: &mut Vec<Listener>) -> io::Result<bool> {
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
                let code = payload.first_chunk::<4>().map_or(libc::EINVAL, |bytes| -i32::from_ne_bytes(*bytes));
                if code == 0 {
                    return Ok(true);
                }
                return Err(io::Error::from_raw_os_error(code));
            }
            SOCK_DIAG_BY_FAMILY if payload.len() >= ANSWER && payload[4..6] == port.to_be_bytes() => {
                found.push(Listener {
                    address: address(payload[0], &payload[8..24]),
                    uid: number(payload, 64),
                    inode: number(payload, 68),
                });
            }
            _ => {}
        }
        // Messages are aligned to four bytes.
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    Ok(false)
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
        assert_eq!(found[0].address, IpAddr::V4(Ipv4Addr::LOCALHOST));
        drop(listener);
        // A child that another test is starting has a copy until it executes.
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(20);
        while !listeners(port).unwrap().is_empty() {
            assert!(std::time::Instant::now() < deadline, "it listens on");
            std::thread::yield_now();
        }
    }

    #[test]
    fn impossible_lengths_are_refused_and_nothing_is_read_past_the_end() {
        let mut found = Vec::new();
        assert!(parse(&[0xff; 40], 1, &mut found).is_err());
        assert!(parse(&[0; 40], 1, &mut found).is_err());
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
