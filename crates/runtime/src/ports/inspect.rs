//! What `/proc` says about one process: its tree, descriptors, session, marks and a name fit for a message.

use std::collections::BTreeSet;
use std::fs;
use std::io;

use super::PortHolder;

/// The leader and everything below it, by `/proc/PID/task/*/children` (proc(5)).
pub(crate) fn tree(leader: i32) -> BTreeSet<i32> {
    let mut all = BTreeSet::new();
    let mut todo = vec![leader];
    while let Some(pid) = todo.pop() {
        if !all.insert(pid) {
            continue;
        }
        let Ok(threads) = fs::read_dir(format!("/proc/{pid}/task")) else { continue };
        for thread in threads.flatten() {
            if let Ok(children) = fs::read_to_string(thread.path().join("children")) {
                todo.extend(children.split_whitespace().filter_map(|word| word.parse::<i32>().ok()));
            }
        }
    }
    all
}

/// Whether the process holds one of these sockets.
///
/// # Errors
/// When its descriptors may not be read; a process that is gone holds nothing.
pub(crate) fn holds(pid: i32, inodes: &BTreeSet<u32>) -> io::Result<bool> {
    let mut held = false;
    each_socket(pid, |inode| {
        held = inodes.contains(&inode);
        !held
    })?;
    Ok(held)
}

/// The inodes of all sockets that the process holds.
///
/// # Errors
/// As [`holds`].
pub(crate) fn sockets(pid: i32) -> io::Result<BTreeSet<u32>> {
    let mut found = BTreeSet::new();
    each_socket(pid, |inode| {
        found.insert(inode);
        true
    })?;
    Ok(found)
}

/// Calls `more` with each socket's inode until it says false.
fn each_socket(pid: i32, mut more: impl FnMut(u32) -> bool) -> io::Result<()> {
    let entries = match fs::read_dir(format!("/proc/{pid}/fd")) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    for entry in entries {
        let entry = match entry {
            Ok(entry) => entry,
            Err(error) if error.raw_os_error() == Some(libc::ESRCH) => return Ok(()),
            Err(error) => return Err(error),
        };
        let target = match fs::read_link(entry.path()) {
            Ok(target) => target,
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => return Err(error),
            // Closed since it was listed.
            Err(_) => continue,
        };
        let inode = target
            .to_str()
            .and_then(|text| text.strip_prefix("socket:["))
            .and_then(|text| text.strip_suffix(']'))
            .and_then(|text| text.parse::<u32>().ok());
        if inode.is_some_and(|inode| !more(inode)) {
            return Ok(());
        }
    }
    Ok(())
}

/// Every pid that can be seen.
pub(crate) fn pids() -> Vec<i32> {
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok()).collect()
}

/// The session that a process is in.
pub(crate) fn session(pid: i32) -> Option<i32> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name stands in brackets and may hold anything; what follows the last one is plain.
    stat.rsplit_once(')')?.1.split_whitespace().nth(3)?.parse().ok()
}

/// The real uid of a process.
pub(crate) fn uid(pid: i32) -> Option<u32> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    status.lines().find_map(|line| line.strip_prefix("Uid:"))?.split_whitespace().next()?.parse().ok()
}

/// The kernel's name of a process, cut at fifteen characters.
pub(crate) fn comm(pid: i32) -> Option<String> {
    fs::read_to_string(format!("/proc/{pid}/comm")).ok().map(|text| text.trim_end().to_owned())
}

/// One variable of the environment that a process was started with.
pub(crate) fn variable(pid: i32, name: &str) -> Option<String> {
    let environ = fs::read(format!("/proc/{pid}/environ")).ok()?;
    environ.split(|byte| *byte == 0).find_map(|pair| {
        let pair = std::str::from_utf8(pair).ok()?;
        let (key, value) = pair.split_once('=')?;
        (key == name).then(|| value.to_owned())
    })
}

/// A process in a form fit for a message.
pub(crate) fn describe(pid: i32) -> PortHolder {
    let words: Vec<String> = fs::read(format!("/proc/{pid}/cmdline"))
        .map(|bytes| {
            bytes
                .split(|byte| *byte == 0)
                .filter(|word| !word.is_empty())
                .map(|w| String::from_utf8_lossy(w).into_owned())
                .collect()
        })
        .unwrap_or_default();
    let command = name(&words).or_else(|| comm(pid));
    let project = variable(pid, "DEVRUN_RUN_ID").and_then(|_| variable(pid, "DEVRUN_PROJECT")).filter(|name| !name.is_empty());
    PortHolder { pid: Some(pid), command, user: uid(pid).map(user), project }
}

/// A uid's name, or the number.
pub(crate) fn user(uid: u32) -> String {
    match nix::unistd::User::from_uid(nix::unistd::Uid::from_raw(uid)) {
        Ok(Some(user)) => user.name,
        Ok(None) | Err(_) => uid.to_string(),
    }
}

/// The program's name, and what an interpreter runs. Further words stay out, as passwords are seen there.
fn name(words: &[String]) -> Option<String> {
    const INTERPRETERS: &[&str] = &["python", "node", "ruby", "perl", "php", "java", "bun", "deno", "sh", "bash", "dash"];
    let base = |word: &str| word.rsplit('/').next().unwrap_or(word).to_owned();
    let first = words.first()?;
    // A server that rewrites its title puts everything into the first word: `nginx: master process …`.
    let title = first.split([' ', ':']).next().unwrap_or(first);
    let program: String = base(title).chars().filter(|c| !c.is_control()).take(40).collect();
    if program.is_empty() {
        return None;
    }
    let plain = program.trim_end_matches(|c: char| c.is_ascii_digit() || c == '.');
    if !INTERPRETERS.contains(&plain) {
        return Some(program);
    }
    let mut rest = words[1..].iter();
    let what = loop {
        match rest.next() {
            Some(word) if word == "-m" => break rest.next().map(|module| format!("-m {module}")),
            Some(word) if word == "-c" || word == "-e" => break None,
            Some(word) if word.starts_with('-') => {}
            other => break other.map(|word| base(word)),
        }
    };
    let what: Option<String> = what.map(|text| text.chars().filter(|c| !c.is_control()).take(40).collect());
    Some(what.map_or(program.clone(), |what| format!("{program} {what}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_hold_what_runs_and_no_further_word() {
        for (words, expected) in [
            (&["/usr/lib/postgresql/15/bin/postgres", "-D", "/x"][..], "postgres"),
            (&["redis-server 127.0.0.1:6379"], "redis-server"),
            (&["nginx: master process nginx"], "nginx"),
            (&["python3", "-m", "http.server", "8000"], "python3 -m http.server"),
            (&["/usr/bin/node", "--inspect", "/srv/app/server.js", "--token=x"], "node server.js"),
            (&["/bin/sh", "-c", "secret stuff"], "sh"),
            (&["python3.12", "-u", "app.py"], "python3.12 app.py"),
        ] {
            let words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
            assert_eq!(name(&words).as_deref(), Some(expected));
        }
        assert_eq!(name(&[]), None);
    }

    #[test]
    fn our_own_process_is_described() {
        let pid = i32::try_from(std::process::id()).unwrap();
        assert_eq!(describe(pid).pid, Some(pid));
        assert!(tree(pid).contains(&pid));
        assert_eq!(uid(pid), Some(nix::unistd::getuid().as_raw()));
        assert_eq!(session(pid), nix::unistd::getsid(None).ok().map(nix::unistd::Pid::as_raw));
    }
}
