//! Proof that a process is what a journal says of it. A journal names numbers; this looks at what the processes themselves
//! have that no journal can give them.
//!
//! - a supervisor: it holds the instance lock, or listens on the control socket
//! - a keeper: it holds its state directory or the lock of a service, or is the child of a proved supervisor
//! - a leader: it, or a process of its session, carries the run's mark, its inherited lock, or its cgroup

use std::os::unix::fs::MetadataExt;
use std::path::Path;

use crate::journal::{Journal, JournalEntry};
use devrun_model::Paths;
use devrun_model::keeper::Identity;

use super::drivers::{lock_holders, own_process};
use super::ownership::OwnershipIndex;
use super::{identity, process_list};

/// Supervisor and keeper of this project that live, in this order. Where the journal is lost, they are found by the proof.
#[must_use]
pub fn supervisor_and_keeper(journal: &Journal, places: &Paths) -> Vec<(&'static str, Identity)> {
    let us = nix::unistd::getuid().as_raw();
    // A supervisor that starts holds the lock itself, and has its keeper already.
    let own = std::process::id().cast_signed();
    let ours = |pid: &i32| {
        *pid > 1
            && *pid != own
            && process_list::uid(*pid) == Some(us)
            && process_list::stat(*pid).is_some_and(|stat| stat.ppid != own)
    };
    let mut supervisors = lock_holders::pids(&places.instance_lock());
    supervisors.extend(control_socket_owner(places));
    supervisors.retain(ours);
    let named = journal.header.as_ref().map(|header| &header.supervisor);
    let supervisor = proved(named, &supervisors, |pid| process_list::command(pid).starts_with("devrun"));
    let mut keepers = lock_holders::pids(&places.state);
    keepers.extend(inherited_locks(&places.run).iter().flat_map(|lock| lock_holders::pids(lock)));
    keepers.extend(supervisor.iter().flat_map(|supervisor| process_list::children(supervisor.pid)));
    keepers.retain(|pid| ours(pid) && own_process::is_keeper(*pid));
    let keeper = proved(journal.keeper.as_ref(), &keepers, own_process::is_keeper);
    supervisor.map(|one| ("supervisor", one)).into_iter().chain(keeper.map(|one| ("keeper", one))).collect()
}

fn proved(named: Option<&Identity>, candidates: &[i32], is_one: impl Fn(i32) -> bool) -> Option<Identity> {
    match named {
        Some(named) if !identity::holds(named) => None,
        Some(named) => (candidates.contains(&named.pid) || runs_this_program(named.pid)).then(|| named.clone()),
        None => candidates.iter().find(|pid| is_one(**pid)).and_then(|pid| identity::of(*pid)),
    }
}

/// Where the kernel lists no locks: whether the process runs this very program.
fn runs_this_program(pid: i32) -> bool {
    let program = |path: String| std::fs::metadata(path).ok().map(|meta| (meta.dev(), meta.ino()));
    !Path::new("/proc/locks").exists()
        && program(format!("/proc/{pid}/exe")).is_some_and(|exe| Some(exe) == program("/proc/self/exe".to_owned()))
}

/// Who listens on the control socket, which lies in a directory that only this user can write to.
fn control_socket_owner(places: &Paths) -> Option<i32> {
    use socket2::{Domain, SockAddr, Socket, Type};
    let meta = std::fs::symlink_metadata(&places.run).ok()?;
    if !meta.is_dir() || meta.uid() != nix::unistd::geteuid().as_raw() || meta.mode() & 0o022 != 0 {
        return None;
    }
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None).ok()?;
    // One that is stopped may have no room for another caller; it is known by its lock.
    socket.set_nonblocking(true).ok()?;
    socket.connect(&SockAddr::unix(places.socket()).ok()?).ok()?;
    peer_pid(&socket)
}

#[cfg(target_os = "linux")]
fn peer_pid(socket: &impl std::os::fd::AsFd) -> Option<i32> {
    use nix::sys::socket::{getsockopt, sockopt::PeerCredentials};
    getsockopt(socket, PeerCredentials).ok().map(|peer| peer.pid())
}

#[cfg(target_os = "macos")]
fn peer_pid(socket: &impl std::os::fd::AsFd) -> Option<i32> {
    use nix::sys::socket::{getsockopt, sockopt::LocalPeerPid};
    getsockopt(socket, LocalPeerPid).ok()
}

/// The lock files that the processes of a run inherit.
pub(super) fn inherited_locks(run: &Path) -> Vec<std::path::PathBuf> {
    let Ok(files) = std::fs::read_dir(run) else { return Vec::new() };
    let paths = files.flatten().map(|file| file.path());
    paths.filter(|path| path.extension().is_some_and(|extension| extension == "alive")).collect()
}

/// Whether the recorded leader lives and is the one that was started, so that its session and its group are evidence.
#[must_use]
pub fn is_recorded_leader(entry: &JournalEntry) -> bool {
    let leader = entry.identity.pid;
    if !identity::holds(&entry.identity) {
        return false;
    }
    let mut ownership = OwnershipIndex::default();
    ownership.add(entry, false);
    let carries = |pid: i32| process_list::stat(pid).is_some_and(|stat| ownership.of(&stat).is_some());
    if carries(leader) {
        return true;
    }
    // A program that may not be looked into (capabilities, set-uid) shows nothing; that it leads a session is all there is.
    let closed = process_list::environment_is_closed(leader);
    let Some(stat) = process_list::stat(leader).filter(|stat| stat.session == leader && stat.pgrp == leader) else {
        return false;
    };
    closed
        || process_list::pids()
            .into_iter()
            .any(|pid| process_list::stat(pid).is_some_and(|one| one.session == stat.session) && carries(pid))
}
