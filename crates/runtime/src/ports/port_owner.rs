//! Whose a listener is, of those that are known: which of several a connection meets, and what a process outside the tree is.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::{PortHolder, inspect};

/// Programs that listen in the name of a container whose processes are nobody's child here.
pub(super) const PROXIES: &[&str] =
    &["docker-proxy", "dockerd", "containerd-shim", "rootlessport", "rootlesskit", "slirp4netns", "pasta", "conmon"];

/// The same on macOS, where a container's ports are those of a virtual machine.
const MACHINE_PROXIES: &[&str] = if cfg!(target_os = "macos") {
    &["com.docker.backend", "com.docker.vpnkit", "vpnkit", "gvproxy", "limactl", "ssh", "OrbStack Helper"]
} else {
    &[]
};

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

/// Of several listeners those that a connection to `host` would reach: the kernel prefers the exact address, then the
/// wildcard of the family, then the other family's wildcard where it serves both.
pub(super) fn serving<T>(all: Vec<T>, host: &str, address: impl Fn(&T) -> IpAddr) -> Vec<T> {
    let wanted = match host {
        "localhost" | "" => None,
        host => host.trim_matches(['[', ']']).parse::<IpAddr>().ok(),
    };
    let rank = |listener: &T| -> u8 {
        let Some(wanted) = wanted else { return 1 };
        let bound = address(listener);
        let mapped = match bound {
            IpAddr::V6(address) => address.to_ipv4_mapped().map(IpAddr::V4),
            IpAddr::V4(_) => None,
        };
        if bound == wanted || mapped == Some(wanted) {
            return 3;
        }
        if wanted.is_unspecified() {
            return 1;
        }
        match (bound, wanted) {
            (IpAddr::V4(Ipv4Addr::UNSPECIFIED), IpAddr::V4(_)) | (IpAddr::V6(Ipv6Addr::UNSPECIFIED), IpAddr::V6(_)) => 2,
            (IpAddr::V6(Ipv6Addr::UNSPECIFIED), IpAddr::V4(_)) => 1,
            _ => 0,
        }
    };
    let best = all.iter().map(rank).max().unwrap_or(0);
    all.into_iter().filter(|listener| best > 0 && rank(listener) == best).collect()
}

/// Who a process outside the leader's tree is, that listens.
pub(super) fn suspect(leader: i32, run: &str, pid: i32) -> PortOwner {
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
    if pid == 1 || PROXIES.iter().chain(MACHINE_PROXIES).any(|proxy| is_named(&name, proxy)) {
        return PortOwner::Unknown(format!("{name} (pid {pid}) listens, perhaps in the name of another process"));
    }
    PortOwner::Stranger(inspect::describe(pid))
}

/// The kernel cuts names at fifteen characters.
pub(super) fn is_named(comm: &str, name: &str) -> bool {
    comm == &name[..name.len().min(15)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_listener_that_a_connection_reaches_is_the_most_exact_one() {
        let reached = |host: &str, all: &[(IpAddr, u32)]| -> Vec<u32> {
            serving(all.to_vec(), host, |listener| listener.0).into_iter().map(|listener| listener.1).collect()
        };
        let at = |address: &str, number: u32| (address.parse::<IpAddr>().unwrap(), number);
        let all = vec![at("0.0.0.0", 1), at("127.0.0.1", 2), at("::", 3), at("::1", 4), at("10.0.0.1", 5)];
        assert_eq!(reached("127.0.0.1", &all), [2]);
        assert_eq!(reached("::1", &all), [4]);
        assert_eq!(reached("127.0.0.2", &all), [1]);
        assert_eq!(reached("127.0.0.1", &[at("::", 3)]), [3]);
        assert_eq!(reached("127.0.0.1", &[at("::1", 3), at("10.0.0.1", 5)]), Vec::<u32>::new());
        assert_eq!(reached("::1", &[at("0.0.0.0", 3)]), Vec::<u32>::new());
        assert_eq!(reached("127.0.0.1", &[at("::ffff:127.0.0.1", 9), at("::", 3)]), [9]);
    }
}
