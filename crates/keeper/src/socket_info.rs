//! A socket as libproc tells it (`struct socket_fdinfo` of sys/proc_info.h), by offsets, as libc lacks the structure. Parsing only, so it
//! is tested on every system.
//!
//! The structure is `proc_fileinfo` (24 bytes) and `socket_info`: `vinfo_stat` (136), two addresses, type, protocol and family, eight
//! numbers of 16 bits, one of 32, two `sockbuf_info` (24 each), the kind, padding, and by kind what the protocol says. Of TCP that is
//! `in_sockinfo` (80) and the state.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// `sizeof(struct socket_fdinfo)`: the longest member of its union is the one of Unix sockets, two addresses and two of 255 bytes.
pub(super) const SIZE: usize = PROTOCOL + 528;

const KIND: usize = 24 + 232;
const PROTOCOL: usize = 24 + 240;
/// In network order, in the first two bytes of an `int`.
const LOCAL_PORT: usize = PROTOCOL + 4;
const VERSION: usize = PROTOCOL + 24;
/// 16 bytes; an address of version 4 is the last four.
const LOCAL_ADDRESS: usize = PROTOCOL + 48;
const STATE: usize = PROTOCOL + 80;

/// `SOCKINFO_TCP`.
const TCP: i32 = 2;
/// `TSI_S_LISTEN`.
const LISTEN: i32 = 1;
/// `INI_IPV6`: also set of a socket that serves both.
const IPV6: u8 = 2;

/// Where a socket listens; `None` for every other one.
pub(super) fn listening_address(bytes: &[u8; SIZE]) -> Option<SocketAddr> {
    let number = |at: usize| bytes[at..].first_chunk::<4>().map(|four| i32::from_ne_bytes(*four));
    if number(KIND)? != TCP || number(STATE)? != LISTEN {
        return None;
    }
    let port = u16::from_be_bytes(*bytes[LOCAL_PORT..].first_chunk()?);
    let address: [u8; 16] = *bytes[LOCAL_ADDRESS..].first_chunk()?;
    let address = if bytes[VERSION] & IPV6 != 0 {
        IpAddr::V6(Ipv6Addr::from(address))
    } else {
        IpAddr::V4(Ipv4Addr::from(*address.last_chunk::<4>()?))
    };
    Some(SocketAddr::new(address, port))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn socket(kind: i32, state: i32, version: u8, address: [u8; 16]) -> [u8; SIZE] {
        // What is not read is not zero.
        let mut bytes = [0xa5; SIZE];
        bytes[KIND..KIND + 4].copy_from_slice(&kind.to_ne_bytes());
        bytes[STATE..STATE + 4].copy_from_slice(&state.to_ne_bytes());
        bytes[LOCAL_PORT..LOCAL_PORT + 2].copy_from_slice(&5432u16.to_be_bytes());
        bytes[VERSION] = version;
        bytes[LOCAL_ADDRESS..LOCAL_ADDRESS + 16].copy_from_slice(&address);
        bytes
    }

    #[test]
    fn it_is_as_long_as_the_system_says() {
        // As other programs have it that read this structure, such as lsof.
        assert_eq!((SIZE, KIND, PROTOCOL, STATE), (792, 256, 264, 344));
    }

    #[test]
    fn a_listener_is_found_with_its_address() {
        let mut four = [0; 16];
        four[12..].copy_from_slice(&[127, 0, 0, 1]);
        for (version, address, expected) in [
            (1, four, "127.0.0.1:5432"),
            (1, [0; 16], "0.0.0.0:5432"),
            (2, Ipv6Addr::LOCALHOST.octets(), "[::1]:5432"),
            (3, [0; 16], "[::]:5432"),
        ] {
            let found = listening_address(&socket(TCP, LISTEN, version, address));
            assert_eq!(found, Some(expected.parse().unwrap()));
        }
    }

    #[test]
    fn what_is_connected_or_of_another_kind_does_not_listen() {
        for (kind, state) in [(TCP, 4), (TCP, 0), (1, LISTEN), (3, LISTEN), (0, 0)] {
            assert_eq!(listening_address(&socket(kind, state, 1, [0; 16])), None, "{kind} {state}");
        }
    }
}
