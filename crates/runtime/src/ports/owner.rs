//! Whether a listener belongs to a service. The bar is high on one side only: a stranger must be *positively* a
//! stranger; where the holder cannot be known (file capabilities, hidepid, another network namespace, a container behind
//! the command) the answer says so, and why.

use std::net::SocketAddr;

#[cfg(target_os = "linux")]
use devrun_keeper::TELLS_LISTENERS;

use super::port_owner::PortOwner;
use super::{PortHolder, scanned_owner};

/// On Linux one netlink query, then the descriptors of the tree; other processes are looked at only on suspicion.
///
/// Ours are: descendants of the leader, members of a session that the leader leads, and processes that carry `run` as
/// `DEVRUN_RUN_ID` together with the leader's own `DEVRUN_SERVICE` and `DEVRUN_REPLICA`.
#[must_use]
pub fn owner(leader: i32, run: &str, host: &str, port: u16) -> PortOwner {
    #[cfg(target_os = "linux")]
    if TELLS_LISTENERS {
        return linux::owner(leader, run, host, port);
    }
    scanned_owner::owner(leader, run, host, port)
}

/// Whether the leader itself holds the listener that a connection to `at` meets: the usual case, and one question to the
/// kernel and a look at one process's descriptors. `false` says nothing.
#[must_use]
pub fn led(leader: i32, at: SocketAddr) -> bool {
    #[cfg(target_os = "linux")]
    if TELLS_LISTENERS {
        return linux::led(leader, at);
    }
    scanned_owner::led(leader, at)
}

/// Where the tree of this leader listens; empty where that cannot be known.
#[must_use]
pub fn listening(leader: i32) -> Vec<SocketAddr> {
    #[cfg(target_os = "linux")]
    if TELLS_LISTENERS {
        return linux::listening(leader);
    }
    scanned_owner::listening(leader)
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
    scanned_owner::holder(host, port)
}

#[cfg(target_os = "linux")]
mod linux {
    use std::collections::BTreeSet;
    use std::io;
    use std::net::SocketAddr;

    use super::super::diag::{self, Listener};
    use super::super::port_owner::{PROXIES, PortOwner, is_named, serving, suspect};
    use super::super::{PortHolder, inspect, socket_inodes};
    use super::Acceptor;

    pub(super) fn owner(leader: i32, run: &str, host: &str, port: u16) -> PortOwner {
        let listeners = match diag::listeners(port) {
            Ok(all) => serving(all, host, |listener| listener.address),
            Err(error) => return PortOwner::Unknown(format!("the kernel does not say who listens ({error})")),
        };
        if listeners.is_empty() {
            return PortOwner::Unknown("no listener is seen from here (another network namespace, or forwarding)".to_owned());
        }
        let inodes: BTreeSet<u32> = listeners.iter().map(|listener| listener.inode).collect();
        let tree = inspect::tree(leader);
        let mut hidden = None;
        for pid in &tree {
            match socket_inodes::holds(*pid, &inodes) {
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
            match socket_inodes::holds(pid, &inode) {
                Ok(true) => return Acceptor::Ours,
                Ok(false) => {}
                Err(_) => hidden = true,
            }
        }
        if hidden { Acceptor::Unknown } else { Acceptor::Another }
    }

    pub(super) fn led(leader: i32, at: SocketAddr) -> bool {
        diag::listener(at).is_ok_and(|met| socket_inodes::holds(leader, &BTreeSet::from([met.inode])).unwrap_or(false))
    }

    pub(super) fn listening(leader: i32) -> Vec<SocketAddr> {
        let Ok(all) = diag::listeners(0) else { return Vec::new() };
        let held: BTreeSet<u32> =
            inspect::tree(leader).into_iter().filter_map(|pid| socket_inodes::sockets(pid).ok()).flatten().collect();
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
        let listeners = serving(diag::listeners(port).ok()?, host, |listener| listener.address);
        let uid = listeners.first()?.uid;
        let inodes: BTreeSet<u32> = listeners.iter().map(|listener| listener.inode).collect();
        Some(match find(&inodes, &BTreeSet::new()) {
            Some(pid) => inspect::describe(pid),
            None => PortHolder { user: Some(inspect::user(uid)), ..PortHolder::default() },
        })
    }

    /// The one scan of `/proc`. Workers inherit the socket of their master: the lowest pid stands for them all.
    fn find(inodes: &BTreeSet<u32>, but: &BTreeSet<i32>) -> Option<i32> {
        let mut pids = inspect::pids();
        pids.sort_unstable();
        pids.into_iter().filter(|pid| !but.contains(pid)).find(|pid| socket_inodes::holds(*pid, inodes).unwrap_or(false))
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
}
