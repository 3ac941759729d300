//! Is a port free, and a free one on request.
//!
//! "Free" is what a server that sets SO_REUSEADDR would find, as practically all do: connections in TIME_WAIT do not
//! count. The socket is bound and never listens, so nobody can take the question for a server.

use std::collections::BTreeSet;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use tokio::net::TcpSocket;

use super::stable_hash::hash;
use super::{PortHolder, PortReservations, holder};
use devrun_model::{Failure, FailureKind, ServiceId};

/// Why a port cannot be had.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PortConflict {
    /// Somebody listens on it.
    Held(PortHolder),
    /// It may not be bound by us: below the first unprivileged port.
    Forbidden,
    /// The address is none of this machine's, or no address at all; the system's words.
    Address(String),
}

impl PortConflict {
    /// As a failure of the service that wanted it.
    #[must_use]
    pub fn failure(&self, bind: &str, port: u16) -> Failure {
        match self {
            Self::Held(holder) => {
                let failure = Failure::new(FailureKind::PortTaken, format!("port {port} is held by {holder}"));
                failure.help(way_out(holder))
            }
            Self::Forbidden => Failure::new(
                FailureKind::PortTaken,
                format!("cannot bind port {port}: only root may listen on ports below {}", first_unprivileged()),
            )
            .help(format!(
                "choose one from {} up, or `sudo sysctl net.ipv4.ip_unprivileged_port_start={port}`",
                first_unprivileged()
            )),
            Self::Address(why) => Failure::new(FailureKind::Config, format!("{bind}:{port} cannot be bound: {why}"))
                .help("use `bind = \"127.0.0.1\"`, or an address of this machine"),
        }
    }
}

/// With `-d`, as a stack may be up already, which `up` without it would attach to.
pub const CHOOSE_FREE_PORTS: &str = "let devrun choose free ports: devrun up -d --ports auto";

/// What to do about a port that is held. A process of another stack of ours is never to be killed by its pid.
#[must_use]
pub fn way_out(holder: &PortHolder) -> String {
    let other = CHOOSE_FREE_PORTS;
    match holder.pid {
        Some(pid) if holder.project.is_none() => format!("{other}; or stop what holds it: kill {pid}"),
        Some(_) => format!("{other}; or stop the other stack, which `devrun ls` shows"),
        None => format!("{other}; or stop what listens there"),
    }
}

/// Whether a server could listen there now. `localhost` must be free in both families.
///
/// # Errors
/// What stands in the way.
pub fn check(bind: &str, port: u16) -> Result<(), PortConflict> {
    let host = bind.trim_matches(['[', ']']);
    if matches!(host, "localhost" | "") {
        try_bind(IpAddr::V4(Ipv4Addr::LOCALHOST), port)?;
        return match try_bind(IpAddr::V6(Ipv6Addr::LOCALHOST), port) {
            // A machine without IPv6 has nothing to hold there.
            Err(PortConflict::Address(_)) => Ok(()),
            other => other,
        };
    }
    match host.parse::<IpAddr>() {
        Ok(address) => try_bind(address, port),
        Err(_) => Err(PortConflict::Address(format!("invalid address {bind:?}"))),
    }
}

/// Tries to listen on it. `Err` names the holder.
///
/// [`check`] says more: here a refused permission is a holder without a pid whose command says so.
///
/// # Errors
/// Somebody else listens, or the port may not be bound by us (below 1024).
pub fn check_free(bind: &str, port: u16) -> Result<(), PortHolder> {
    match check(bind, port) {
        Ok(()) => Ok(()),
        Err(PortConflict::Held(holder)) => Err(holder),
        Err(PortConflict::Forbidden) => {
            Err(PortHolder { command: Some("the system: only root may listen there".to_owned()), ..PortHolder::default() })
        }
        Err(PortConflict::Address(why)) => {
            Err(PortHolder { command: Some(format!("unavailable: {why}")), ..PortHolder::default() })
        }
    }
}

fn try_bind(address: IpAddr, port: u16) -> Result<(), PortConflict> {
    let attempt = || -> io::Result<()> {
        let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
        socket.set_reuseaddr(true)?;
        socket.bind(SocketAddr::new(address, port))
    };
    let Err(error) = attempt() else { return Ok(()) };
    match error.kind() {
        io::ErrorKind::AddrInUse => Err(PortConflict::Held(holder(&address.to_string(), port).unwrap_or_default())),
        io::ErrorKind::PermissionDenied => Err(PortConflict::Forbidden),
        _ => Err(PortConflict::Address(error.to_string())),
    }
}

/// A free loopback port for a service: the same one for the same checkout as long as it stays free.
///
/// It lies between 20000 and 45000 and outside the range from which the kernel takes the source ports of connections,
/// so that no client's connection ever sits on it. It is not handed out when in `taken`, and is set aside in `reserved`.
///
/// # Errors
/// When none is to be had, or none can be set aside.
pub fn free_port(
    seed: &str,
    service: &ServiceId,
    name: &str,
    taken: &BTreeSet<u16>,
    reserved: &PortReservations,
) -> Result<u16, String> {
    let candidates: Vec<u16> = candidates(ephemeral());
    let count = candidates.len();
    if count == 0 {
        return Err("the system's range of source ports covers every port from 20000 to 45000".to_owned());
    }
    let start = usize::try_from(hash(&[seed, service.as_str(), name]) % count as u64).unwrap_or(0);
    for port in (0..count).map(|step| candidates[(start + step) % count]) {
        let free = !taken.contains(&port) && check("localhost", port).is_ok() && check("0.0.0.0", port).is_ok();
        if free && reserved.take(port).map_err(|error| format!("it cannot be set aside: {error}"))? {
            return Ok(port);
        }
    }
    Err("no port between 20000 and 45000 is free".to_owned())
}

fn candidates((low, high): (u16, u16)) -> Vec<u16> {
    (20_000..=45_000).filter(|port| !(low..=high).contains(port)).collect()
}

fn ephemeral() -> (u16, u16) {
    let text = std::fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").unwrap_or_default();
    let mut words = text.split_whitespace().filter_map(|word| word.parse::<u16>().ok());
    // The range that IANA sets aside, where the system does not say.
    match (words.next(), words.next()) {
        (Some(low), Some(high)) => (low, high),
        _ => (49_152, 65_535),
    }
}

/// The first port that an ordinary user may listen on.
#[must_use]
pub fn first_unprivileged() -> u16 {
    let text = std::fs::read_to_string("/proc/sys/net/ipv4/ip_unprivileged_port_start").unwrap_or_default();
    text.trim().parse().unwrap_or(1024)
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;
    use devrun_model::ServiceName;

    fn id(name: &str) -> ServiceId {
        ServiceId::single(&ServiceName::new(name).unwrap())
    }

    /// A child that another test is starting has a copy of a listener until it executes.
    fn becomes_free(port: u16) -> bool {
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(20);
        while check("127.0.0.1", port).is_err() {
            if std::time::Instant::now() > deadline {
                return false;
            }
            std::thread::yield_now();
        }
        true
    }

    #[test]
    fn a_port_is_stable_until_it_is_taken() {
        let folder = tempfile::tempdir().unwrap();
        let reserved = |owner: &str| PortReservations::new(folder.path().join("ports"), std::path::Path::new(owner));
        let shop = reserved("/home/a/shop");
        let free_port = |taken: &BTreeSet<u16>| free_port("/home/a/shop", &id("api"), "main", taken, &shop).unwrap();
        let none = BTreeSet::new();
        let first = free_port(&none);
        assert_eq!(free_port(&none), first);
        assert!(!(ephemeral().0..=ephemeral().1).contains(&first));
        assert_ne!(free_port(&BTreeSet::from([first])), first);
        let blog = reserved("/home/a/blog");
        assert_ne!(super::free_port("/home/a/shop", &id("api"), "main", &none, &blog).unwrap(), first, "it is set aside");
        let held = TcpListener::bind(("0.0.0.0", first)).unwrap();
        assert_ne!(free_port(&none), first);
        drop(held);
    }

    #[test]
    fn the_range_of_source_ports_is_left_out() {
        assert!(candidates((32_768, 60_999)).iter().all(|port| *port < 32_768));
        assert!(candidates((1024, 65_535)).is_empty());
        assert_eq!(candidates((49_152, 65_535)).len(), 25_001);
    }

    #[test]
    fn what_cannot_be_bound_is_told_apart() {
        let held = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = held.local_addr().unwrap().port();
        for address in ["127.0.0.1", "0.0.0.0", "localhost"] {
            let Err(PortConflict::Held(holder)) = check(address, port) else { panic!("{address} was free") };
            if cfg!(target_os = "linux") {
                assert_eq!(holder.pid, i32::try_from(std::process::id()).ok());
            }
        }
        let taken = check("127.0.0.1", port).unwrap_err();
        assert_eq!(taken.failure("127.0.0.1", port).kind, FailureKind::PortTaken);
        assert!(matches!(check("192.0.2.1", port), Err(PortConflict::Address(_))));
        assert!(matches!(check("nowhere", port), Err(PortConflict::Address(_))));
        assert!(PortConflict::Forbidden.failure("127.0.0.1", 80).reason.contains("port 80"));
        drop(held);
        assert!(becomes_free(port));
    }

    #[test]
    fn a_connection_in_time_wait_does_not_hold_a_port() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let client = std::net::TcpStream::connect(("127.0.0.1", port)).unwrap();
        let (server, _) = listener.accept().unwrap();
        // The side that closes first is the one that waits, as a server that is stopped does.
        server.shutdown(std::net::Shutdown::Both).unwrap();
        drop(server);
        drop(client);
        drop(listener);
        assert!(becomes_free(port));
    }
}
