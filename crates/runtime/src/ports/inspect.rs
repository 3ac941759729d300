//! What is known of one process: its tree, session, marks and a name fit for a message; on Linux its sockets.

use std::collections::BTreeSet;

use devrun_keeper::process_list;
pub(crate) use devrun_keeper::process_list::{pids, uid, variable};

use super::PortHolder;

/// The leader and everything below it.
pub(crate) fn tree(leader: i32) -> BTreeSet<i32> {
    process_list::descendants(&[leader]).into_iter().chain([leader]).collect()
}

/// The session that a process is in.
pub(crate) fn session(pid: i32) -> Option<i32> {
    process_list::stat(pid).map(|stat| stat.session)
}

/// The kernel's name of a process, cut at fifteen characters.
pub(crate) fn comm(pid: i32) -> Option<String> {
    Some(process_list::command(pid)).filter(|name| !name.is_empty())
}

/// A process in a form fit for a message.
pub(crate) fn describe(pid: i32) -> PortHolder {
    let arguments = process_list::arguments(pid);
    let words: Vec<String> =
        arguments.iter().filter(|word| !word.is_empty()).map(|word| String::from_utf8_lossy(word).into_owned()).collect();
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
