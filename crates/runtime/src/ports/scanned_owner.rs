//! Who listens, by the open sockets of processes, where no list of listeners is to be read. What processes of other users have open is
//! seen by root alone; macOS hides the environment of programs that it protects.

use std::net::SocketAddr;

use devrun_keeper::process_list::{environment_is_closed, listening_sockets};

use super::port_owner::{self, PortOwner};
use super::{PortHolder, inspect};

/// A socket that listens, and one of the processes that have it open.
struct OpenListener {
    pid: i32,
    at: SocketAddr,
}

/// The sockets that a connection to this port reaches, by a look at all processes; the lowest pid first, as workers inherit the socket
/// of their master.
fn serving(host: &str, port: u16) -> Vec<OpenListener> {
    let mut pids = inspect::pids();
    pids.sort_unstable();
    let of = |pid: i32| listening_sockets(pid).into_iter().filter(|at| at.port() == port).map(move |at| OpenListener { pid, at });
    port_owner::serving(pids.into_iter().flat_map(of).collect(), host, |listener| listener.at.ip())
}

pub(super) fn owner(leader: i32, run: &str, host: &str, port: u16) -> PortOwner {
    let found = serving(host, port);
    let Some(first) = found.first() else {
        return PortOwner::Unknown("no process whose open files can be read listens there".to_owned());
    };
    let tree = inspect::tree(leader);
    if found.iter().any(|listener| tree.contains(&listener.pid)) {
        return PortOwner::Ours;
    }
    // Such a one may listen at a nearer address.
    let own = nix::unistd::geteuid().as_raw();
    if let Some(hidden) = tree.iter().find(|pid| own != 0 && inspect::uid(**pid).is_some_and(|uid| uid != own)) {
        return PortOwner::Unknown(format!("the open files of pid {hidden}, of another user, cannot be read"));
    }
    match port_owner::suspect(leader, run, first.pid) {
        PortOwner::Stranger(holder) if environment_is_closed(first.pid) => {
            PortOwner::Unknown(format!("{holder} listens, and the system hides its environment"))
        }
        known => known,
    }
}

/// Only where the leader listens on exactly this address: on another one a stranger may be nearer.
pub(super) fn led(leader: i32, at: SocketAddr) -> bool {
    listening_sockets(leader).contains(&at)
}

pub(super) fn listening(leader: i32) -> Vec<SocketAddr> {
    let mut found: Vec<SocketAddr> = inspect::tree(leader).into_iter().flat_map(listening_sockets).collect();
    found.sort();
    found.dedup();
    found
}

pub(super) fn holder(host: &str, port: u16) -> Option<PortHolder> {
    serving(host, port).first().map(|listener| inspect::describe(listener.pid))
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::process::{Child, Command, Stdio};

    use super::*;

    fn own_pid() -> i32 {
        std::process::id().cast_signed()
    }

    /// A process that is not below us as far as the question goes: a leader that does not listen.
    fn sleeper() -> Child {
        Command::new("sleep").arg("1000").stdin(Stdio::null()).spawn().unwrap()
    }

    #[test]
    fn our_own_listener_is_ours_and_a_stranger_to_another_leader() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let at = listener.local_addr().unwrap();
        let (host, port) = (at.ip().to_string(), at.port());
        assert_eq!(owner(own_pid(), "", &host, port), PortOwner::Ours);
        assert!(led(own_pid(), at) && listening(own_pid()).contains(&at));
        assert_eq!(holder(&host, port).and_then(|holder| holder.pid), Some(own_pid()));
        let mut other = sleeper();
        let leader = other.id().cast_signed();
        let seen = (owner(leader, "", &host, port), led(leader, at), listening(leader));
        other.kill().unwrap();
        other.wait().unwrap();
        assert!(matches!(&seen.0, PortOwner::Stranger(holder) if holder.pid == Some(own_pid())), "{seen:?}");
        assert_eq!((seen.1, seen.2), (false, Vec::new()));
    }

    #[test]
    fn a_port_without_a_listener_is_unknown() {
        let at = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        // A child that another test is starting has a copy until it executes.
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(20);
        while holder("127.0.0.1", at.port()).is_some() {
            assert!(std::time::Instant::now() < deadline, "it listens on");
            std::thread::yield_now();
        }
        assert!(matches!(owner(own_pid(), "", "127.0.0.1", at.port()), PortOwner::Unknown(_)));
    }
}
