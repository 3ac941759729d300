//! Whether a listener belongs to a service. The bar is high on one side only: a stranger must be *positively* a
//! stranger; where the holder cannot be known (file capabilities, hidepid, another network namespace, a container behind
//! the command) the answer says so, and why.

use std::net::SocketAddr;

#[cfg(target_os = "linux")]
use devrun_keeper::TELLS_LISTENERS;

use super::PortHolder;

/// Whether a listener on a port belongs to the tree of a leader.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PortOwner {
    /// To the tree.
    Ours,
    /// Positively to somebody else.
    Stranger(PortHolder),
    /// It cannot be known; why.
    Unknown(String),
}

/// One netlink query, then the descriptors of the tree; other processes are looked at only on suspicion.
///
/// Ours are: descendants of the leader, members of a session that the leader leads, and processes that carry `run` as
/// `DEVRUN_RUN_ID` together with the leader's own `DEVRUN_SERVICE` and `DEVRUN_REPLICA`.
#[must_use]
pub fn owner(leader: i32, run: &str, host: &str, port: u16) -> PortOwner {
    #[cfg(target_os = "linux")]
    if TELLS_LISTENERS {
        return linux::owner(leader, run, host, port);
    }
    let _ = (leader, run, host, port);
    PortOwner::Unknown("this system does not say who holds a port".to_owned())
}

/// Whether the leader itself holds the listener that a connection to `at` meets: the usual case, and one question to the
/// kernel and a look at one process's descriptors. `false` says nothing.
#[must_use]
pub fn led(leader: i32, at: SocketAddr) -> bool {
    #[cfg(target_os = "linux")]
    if TELLS_LISTENERS {
        return linux::led(leader, at);
    }
    let _ = (leader, at);
    false
}

/// Where the tree of this leader listens; empty where that cannot be known.
#[must_use]
pub fn listening(leader: i32) -> Vec<SocketAddr> {
    #[cfg(target_os = "linux")]
    if TELLS_LISTENERS {
        return linux::listening(leader);
    }
    let _ = leader;
    Vec::new()
}

/// Who took a connection, of those that wait at a listening socket that several processes share.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Acceptor {
    /// A process of the tree.
    Ours,
    /// Another process: an earlier start of the service, or a copy of it.
    Another,
    /// No one yet.
    Nobody,
    /// It cannot be known here.
    Unknown,
}

/// Whether a process of the leader's tree has accepted a connection.
#[must_use]
pub fn acceptor(leader: i32, server: SocketAddr, client: SocketAddr) -> Acceptor {
    #[cfg(target_os = "linux")]
    if TELLS_LISTENERS {
        return linux::acceptor(leader, server, client);
    }
    let _ = (leader, server, client);
    Acceptor::Unknown
}

/// Whoever listens on a port, for messages; absent when nobody does.
#[must_use]
pub fn holder(host: &str, port: u16) -> Option<PortHolder> {
    #[cfg(target_os = "linux")]
    if TELLS_LISTENERS {
        return linux::holder(host, port);
    }
    let _ = (host, port);
    None
}

#[cfg(target_os = "linux")]
mod linux {
    use std::collections::BTreeSet;
    use std::io;
    use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

    use super::super::diag::{self, Listener};
    use super::super::{PortHolder, inspect};
    use super::{Acceptor, PortOwner};

    /// Programs that listen in the name of a container whose processes are nobody's child here.
    const PROXIES: &[&str] =
        &["docker-proxy", "dockerd", "containerd-shim", "rootlessport", "rootlesskit", "slirp4netns", "pasta", "conmon"];

    pub(super) fn owner(leader: i32, run: &str, host: &str, port: u16) -> PortOwner {
        let listeners = match diag::listeners(port) {
            Ok(all) => serving(all, host),
            Err(error) => return PortOwner::Unknown(format!("the kernel does not say who listens ({error})")),
        };
        if listeners.is_empty() {
            return PortOwner::Unknown("no listener is seen from here (another network namespace, or forwarding)".to_owned());
        }
        let inodes: BTreeSet<u32> = listeners.iter().map(|listener| listener.inode).collect();
        let tree = inspect::tree(leader);
        let mut hidden = None;
        for pid in &tree {
            match inspect::holds(*pid, &inodes) {
                Ok(true) => return PortOwner::Ours,
                Ok(false) => {}
                Err(error) => hidden = hidden.or(Some((*pid, error))),
            }
        }
        if let Some(pid) = find(&inodes, &tree) {
            return suspect(leader, run, pid);
        }
        if let Some((pid, error)) = hidden {
            let name = inspect::comm(pid).unwrap_or_else(|| "a process".to_owned());
            return PortOwner::Unknown(format!("the open files of {name} (pid {pid}) cannot be read: {}", plain(&error)));
        }
        by_uid(&listeners, &tree)
    }

    pub(super) fn acceptor(leader: i32, server: SocketAddr, client: SocketAddr) -> Acceptor {
        let inode = match diag::acceptor(server, client) {
            Ok(Some(inode)) => BTreeSet::from([inode]),
            Ok(None) => return Acceptor::Nobody,
            Err(_) => return Acceptor::Unknown,
        };
        let mut hidden = false;
        for pid in inspect::tree(leader) {
            match inspect::holds(pid, &inode) {
                Ok(true) => return Acceptor::Ours,
                Ok(false) => {}
                Err(_) => hidden = true,
            }
        }
        if hidden { Acceptor::Unknown } else { Acceptor::Another }
    }

    pub(super) fn led(leader: i32, at: SocketAddr) -> bool {
        diag::listener(at).is_ok_and(|met| inspect::holds(leader, &BTreeSet::from([met.inode])).unwrap_or(false))
    }

    pub(super) fn listening(leader: i32) -> Vec<SocketAddr> {
        let Ok(all) = diag::listeners(0) else { return Vec::new() };
        let held: BTreeSet<u32> =
            inspect::tree(leader).into_iter().filter_map(|pid| inspect::sockets(pid).ok()).flatten().collect();
        let mut found: Vec<SocketAddr> = all
            .into_iter()
            .filter(|listener| held.contains(&listener.inode))
            .map(|listener| SocketAddr::new(listener.address, listener.port))
            .collect();
        found.sort();
        found.dedup();
        found
    }

    pub(super) fn holder(host: &str, port: u16) -> Option<PortHolder> {
        let listeners = serving(diag::listeners(port).ok()?, host);
        let uid = listeners.first()?.uid;
        let inodes: BTreeSet<u32> = listeners.iter().map(|listener| listener.inode).collect();
        Some(match find(&inodes, &BTreeSet::new()) {
            Some(pid) => inspect::describe(pid),
            None => PortHolder { user: Some(inspect::user(uid)), ..PortHolder::default() },
        })
    }

    /// Of several listeners those that a connection to `host` would reach: the kernel prefers the exact address, then the
    /// wildcard of the family, then the other family's wildcard where it serves both.
    fn serving(all: Vec<Listener>, host: &str) -> Vec<Listener> {
        let wanted = match host {
            "localhost" | "" => None,
            host => host.trim_matches(['[', ']']).parse::<IpAddr>().ok(),
        };
        let rank = |listener: &Listener| -> u8 {
            let Some(wanted) = wanted else { return 1 };
            let mapped = match listener.address {
                IpAddr::V6(address) => address.to_ipv4_mapped().map(IpAddr::V4),
                IpAddr::V4(_) => None,
            };
            if listener.address == wanted || mapped == Some(wanted) {
                return 3;
            }
            if wanted.is_unspecified() {
                return 1;
            }
            match (listener.address, wanted) {
                (IpAddr::V4(Ipv4Addr::UNSPECIFIED), IpAddr::V4(_)) | (IpAddr::V6(Ipv6Addr::UNSPECIFIED), IpAddr::V6(_)) => 2,
                (IpAddr::V6(Ipv6Addr::UNSPECIFIED), IpAddr::V4(_)) => 1,
                _ => 0,
            }
        };
        let best = all.iter().map(rank).max().unwrap_or(0);
        all.into_iter().filter(|listener| best > 0 && rank(listener) == best).collect()
    }

    /// The one scan of `/proc`. Workers inherit the socket of their master: the lowest pid stands for them all.
    fn find(inodes: &BTreeSet<u32>, but: &BTreeSet<i32>) -> Option<i32> {
        let mut pids = inspect::pids();
        pids.sort_unstable();
        pids.into_iter().filter(|pid| !but.contains(pid)).find(|pid| inspect::holds(*pid, inodes).unwrap_or(false))
    }

    fn suspect(leader: i32, run: &str, pid: i32) -> PortOwner {
        // Only a session that the leader leads is the service's; any other one is shared with whoever started us.
        if inspect::session(leader) == Some(leader) && inspect::session(pid) == Some(leader) {
            return PortOwner::Ours;
        }
        if !run.is_empty() && inspect::variable(pid, "DEVRUN_RUN_ID").as_deref() == Some(run) {
            let same = |name| inspect::variable(pid, name) == inspect::variable(leader, name);
            if same("DEVRUN_SERVICE") && same("DEVRUN_REPLICA") {
                return PortOwner::Ours;
            }
        }
        let name = inspect::comm(pid).unwrap_or_default();
        if pid == 1 || PROXIES.iter().any(|proxy| is_named(&name, proxy)) {
            return PortOwner::Unknown(format!("{name} (pid {pid}) listens, perhaps in the name of another process"));
        }
        PortOwner::Stranger(inspect::describe(pid))
    }

    /// The kernel cuts names at fifteen characters.
    fn is_named(comm: &str, name: &str) -> bool {
        comm == &name[..name.len().min(15)]
    }

    /// Nobody whose files we may read holds it: what is left is the uid that made the socket.
    fn by_uid(listeners: &[Listener], tree: &BTreeSet<i32>) -> PortOwner {
        let own = nix::unistd::geteuid().as_raw();
        let ours: BTreeSet<u32> = tree.iter().filter_map(|pid| inspect::uid(*pid)).chain([own]).collect();
        let Some(stranger) = listeners.first().filter(|_| listeners.iter().all(|listener| !ours.contains(&listener.uid))) else {
            return PortOwner::Unknown("its holder is hidden from us".to_owned());
        };
        let forwarded = || {
            inspect::pids().into_iter().filter_map(inspect::comm).any(|name| PROXIES.iter().any(|proxy| is_named(&name, proxy)))
        };
        if stranger.uid == 0 && forwarded() {
            return PortOwner::Unknown("a process of root listens, perhaps in the name of a container".to_owned());
        }
        PortOwner::Stranger(PortHolder { user: Some(inspect::user(stranger.uid)), ..PortHolder::default() })
    }

    fn plain(error: &io::Error) -> String {
        match error.kind() {
            io::ErrorKind::PermissionDenied => "permission denied".to_owned(),
            _ => error.to_string(),
        }
    }

    #[cfg(test)]
    mod tests {
        use super::*;

        fn at(address: &str, inode: u32) -> Listener {
            Listener { address: address.parse().unwrap(), port: 1, uid: 0, inode }
        }

        #[test]
        fn the_listener_that_a_connection_reaches_is_the_most_exact_one() {
            let all = vec![at("0.0.0.0", 1), at("127.0.0.1", 2), at("::", 3), at("::1", 4), at("10.0.0.1", 5)];
            let reached = |host: &str, all: &[Listener]| -> Vec<u32> {
                serving(all.to_vec(), host).into_iter().map(|listener| listener.inode).collect()
            };
            assert_eq!(reached("127.0.0.1", &all), [2]);
            assert_eq!(reached("::1", &all), [4]);
            assert_eq!(reached("127.0.0.2", &all), [1]);
            assert_eq!(reached("127.0.0.1", &[at("::", 3)]), [3]);
            assert_eq!(reached("127.0.0.1", &[at("::1", 3), at("10.0.0.1", 5)]), Vec::<u32>::new());
            assert_eq!(reached("::1", &[at("0.0.0.0", 3)]), Vec::<u32>::new());
            assert_eq!(reached("127.0.0.1", &[at("::ffff:127.0.0.1", 9), at("::", 3)]), [9]);
        }
    }
}
