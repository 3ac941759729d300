//! The processes of this system: one process's state, its children, and the marks that it carries.
//!
//! Everything here may name a process that is gone a moment later, so every answer is an `Option` and whoever signals checks
//! once more (`signal.rs`). What is read how: `process_list_linux.rs` (`/proc`) and `process_list_macos.rs` (libproc); descent:
//! the drivers' `children.rs`.

pub use super::drivers::children::{OwnChildren, children, descendants};
pub use super::process_reader::{
    activity, arguments, cgroup, command, environment_is_closed, holds_file, listening_sockets, marks, memory_available,
    memory_total, pids, stat, uid, usage, variable, working_directory,
};
pub use super::process_scan::children_by_scan;
pub use super::process_stat::{Activity, Marks, REPLICA_MARK, RUN_MARK, SERVICE_MARK, Stat, Usage};

/// This process and all above it, the nearest first.
#[must_use]
pub fn ancestors(pid: i32) -> Vec<i32> {
    let mut chain = Vec::new();
    let mut next = pid;
    while next > 0 && !chain.contains(&next) {
        chain.push(next);
        next = stat(next).map_or(0, |stat| stat.ppid);
    }
    chain
}

/// Whether a process of ours has ended, waited for or not. One that this user cannot look at counts as alive.
#[must_use]
pub fn has_ended(pid: i32) -> bool {
    match stat(pid) {
        Some(stat) => !stat.lives(),
        None => nix::unistd::getpgid(Some(nix::unistd::Pid::from_raw(pid))) == Err(nix::errno::Errno::ESRCH),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn we_are_among_the_processes() {
        let own = std::process::id().cast_signed();
        assert!(pids().contains(&own));
        assert!(stat(own).unwrap().lives());
        assert!(stat(0).is_none() && stat(-1).is_none());
        assert_eq!(arguments(own)[0], std::env::args().next().unwrap().into_bytes());
    }

    #[test]
    fn where_a_process_listens_is_known_and_its_variables_are() {
        let own = std::process::id().cast_signed();
        for address in ["127.0.0.1:0", "0.0.0.0:0", "[::1]:0"] {
            let Ok(listener) = std::net::TcpListener::bind(address) else {
                assert!(address.starts_with('['), "{address}");
                continue;
            };
            let at = listener.local_addr().unwrap();
            assert!(listening_sockets(own).contains(&at), "{at}");
            let client = std::net::TcpStream::connect(at).unwrap();
            assert!(!listening_sockets(own).contains(&client.local_addr().unwrap()), "a connection does not listen");
            drop(listener);
            assert!(!listening_sockets(own).contains(&at), "{at}");
        }
        let mut child = std::process::Command::new("sleep").arg("1000").env("DEVRUN_PROJECT", "a=b").spawn().unwrap();
        let pid = child.id().cast_signed();
        // The kernel lets the parent run before the new program's environment is in its place.
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(10);
        while variable(pid, "DEVRUN_PROJECT").is_none() && std::time::Instant::now() < deadline {
            std::thread::yield_now();
        }
        let seen = [variable(pid, "DEVRUN_PROJECT"), variable(pid, "DEVRUN"), variable(-1, "PATH")];
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(seen, [Some("a=b".to_owned()), None, None]);
    }

    #[test]
    fn a_child_is_below_us_by_list_and_by_scan() {
        let own = std::process::id().cast_signed();
        let mut child = std::process::Command::new("sleep").arg("1000").spawn().unwrap();
        let pid = child.id().cast_signed();
        let seen = (children(own).contains(&pid), children_by_scan(own).contains(&pid), descendants(&[own]).contains(&pid));
        let above = ancestors(pid);
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(seen, (true, true, true));
        assert!(above.starts_with(&[pid, own]), "{above:?}");
        assert!(has_ended(pid));
    }
}
