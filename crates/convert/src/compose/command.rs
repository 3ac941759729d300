//! The command of a program → `run` and `dir`: hosts, paths, addresses and ports of the container become those of this machine.

use super::super::report::{At, shorten};
use super::super::toml_writer::{Section, Toml};
use super::draft::{ContainerCommand, Draft, NativeKind, local};
use super::hostnames::{self, HostMatch, Target};
use super::importer::Importer;
use super::importer::relative;
use super::loopback;

/// Clients whose port is another option than their server's usual one, and that option.
const CLIENTS: &[(&str, &str)] = &[
    ("psql", "-p"),
    ("pg_isready", "-p"),
    ("pg_dump", "-p"),
    ("pg_dumpall", "-p"),
    ("pg_restore", "-p"),
    ("createdb", "-p"),
    ("mysql", "-P"),
    ("mariadb", "-P"),
    ("mysqladmin", "-P"),
    ("mariadb-admin", "-P"),
    ("mysqldump", "-P"),
    ("mariadb-dump", "-P"),
    ("redis-cli", "-p"),
    ("valkey-cli", "-p"),
];

/// Folders that only containers have; other absolute paths may well be this machine's.
const OF_CONTAINERS: &[&str] = &[
    "/app",
    "/srv",
    "/etc",
    "/opt",
    "/data",
    "/code",
    "/workspace",
    "/config",
    "/usr/src",
    "/usr/share",
    "/usr/local/etc",
    "/home",
    "/root",
    "/var/lib",
    "/var/www",
];

impl Importer<'_> {
    pub(super) fn run(&mut self, draft: &Draft, command: &ContainerCommand, section: &mut Section) {
        let at = draft.get("command").or(draft.get("entrypoint")).map_or(draft.key.at, |node| node.at);
        let (words, foreign) = match command {
            ContainerCommand::Words(words) => (words, false),
            ContainerCommand::Foreign(words) => (words, true),
        };
        let mut found = HostMatch::new();
        let mut ours: Vec<String> = Vec::with_capacity(words.len());
        let mut unknown: Vec<String> = Vec::new();
        for (index, word) in words.iter().enumerate() {
            // A Dockerfile's dollars are the shell's; compose's are placeholders.
            let text = if foreign {
                word.replace('$', "$$")
            } else {
                let word = self.inline_addresses(draft, "", word);
                self.text(&word, at, false)
            };
            let before = index.checked_sub(1).and_then(|before| words.get(before)).map_or("", String::as_str);
            let host = matches!(before, "-h" | "--host" | "-host" | "--hostname");
            let mut text = hostnames::rewrite(&text, host, &self.targets, &mut found);
            if let Some(port) = self.port_after_host(before, &text) {
                text = port;
            }
            let (mapped, left) = map_paths(&text, draft, index == 0);
            text = mapped;
            unknown.extend(left);
            if let Some(here) = loopback::this_machine(&text, &draft.machine_names) {
                text = here;
                self.report.mapped(at, draft.what("command"), "the name of the machine that containers use → 127.0.0.1");
            }
            let binds = matches!(before, "--host" | "--bind" | "--listen" | "--address" | "-b" | "-H" | "--hostname" | "--ip");
            // In a container every address was its own; here it would be the machine's.
            if let Some(here) = loopback::bind_addresses(&text, binds) {
                text = here;
                self.report.mapped(at, draft.what("command"), "0.0.0.0 → 127.0.0.1: nothing is open to the network by itself");
            }
            ours.push(self.own_ports(draft, &text));
        }
        self.client_ports(draft, at, &mut ours);
        self.names_in_scripts(draft, &ours);
        if ours.first().is_some_and(|first| {
            first.starts_with('/') && !["/bin/", "/usr/bin/", "/sbin/"].iter().any(|folder| first.starts_with(folder))
        }) {
            self.report.not_mapped(
                at,
                draft.what("command"),
                format!("{} is a path of the container: point `run` to the program here", ours[0]),
            );
        }
        unknown.retain(|path| Some(path) != ours.first());
        if !unknown.is_empty() {
            let text =
                format!("{}: no mount says what that is here: write the path of this machine", shorten(&unknown.join(", ")));
            self.report.not_mapped(at, draft.what("command"), text);
        }
        self.names_found(draft, at, "command", &found);
        let simple = ours.iter().all(|word| {
            !word.is_empty()
                && word.chars().all(|char| char.is_alphanumeric() || "_@%+=:,./~^{}$-![]".contains(char))
                // In a string `$NAME` would be looked up; in a list only `${NAME}` is.
                && !word.contains("$$")
        });
        let run = if simple { Toml::text(ours.join(" ")) } else { Toml::texts(ours) };
        self.report.mapped(at, draft.what("command"), format!("run = {}", shorten(&run.line())));
        if let Some(node) = draft.get("entrypoint") {
            self.report.mapped(node.at, draft.what("entrypoint"), "the first words of `run`");
        }
        section.set("run", run);
        self.directory(draft, section);
    }

    fn directory(&mut self, draft: &Draft, section: &mut Section) {
        let dir = self.shown(&draft.dir);
        let inside = draft.get("working_dir");
        let unexplained = inside.and_then(|node| node.scalar()).filter(|path| local(path, &draft.mounts).is_none());
        if dir != "." {
            self.report.mapped(
                inside.or(draft.get("build")).map_or(draft.key.at, |node| node.at),
                draft.what("working_dir"),
                format!("dir = \"{dir}\""),
            );
            section.set("dir", Toml::text(dir));
        } else if let (Some(node), None) = (inside, &unexplained) {
            self.report.dropped(node.at, draft.what("working_dir"), "services run in the procfile's directory by default");
        }
        if let (Some(node), Some(path)) = (inside, unexplained) {
            let text = format!(
                "{path}: no mount maps it to a local path; it runs in {} (`dir` sets another one)",
                if section.has("dir") { "the build's directory" } else { "the procfile's directory" }
            );
            self.report.not_mapped(node.at, draft.what("working_dir"), text);
        }
    }

    /// `nc -z db 5432` as a list: the word behind a host.
    fn port_after_host(&self, before: &str, text: &str) -> Option<String> {
        let port = text.parse().ok()?;
        self.targets.iter().find(|target| target.hosts.iter().any(|host| host == before))?.port(port)
    }

    /// A client of a server that listens on another port than its usual one is told so.
    fn client_ports(&mut self, draft: &Draft, at: At, words: &mut Vec<String>) {
        let targets: Vec<Target> = self.targets.iter().filter(|target| target.remapped.is_some()).cloned().collect();
        for target in &targets {
            let host = format!("${{{}.host}}", target.name);
            let port = format!("${{{}.port}}", target.name);
            let program = words.first().map(|word| word.rsplit('/').next().unwrap_or(word).to_owned()).unwrap_or_default();
            let mut reported = false;
            if let Some((_, option)) = CLIENTS.iter().find(|(name, _)| *name == program) {
                let Some(place) = words.iter().position(|word| *word == host || word.ends_with(&format!("={host}"))) else {
                    continue;
                };
                match words.iter().position(|word| word == option || word == "--port") {
                    Some(at) => {
                        if let Some(number) =
                            words.get_mut(at + 1).filter(|word| word.parse() == Ok(target.main.unwrap_or_default()))
                        {
                            *number = port;
                            reported = true;
                        }
                    }
                    None if !words.iter().any(|word| word.starts_with("--port=")) => {
                        words.splice(place + 1..place + 1, [(*option).to_owned(), port]);
                        reported = true;
                    }
                    None => {}
                }
            } else {
                // Within a line for a shell.
                for word in words.iter_mut().filter(|word| word.contains(' ') && word.contains(&host)) {
                    let Some((_, option)) =
                        CLIENTS.iter().find(|(name, _)| word.split([' ', ';', '&', '|', '(']).any(|part| part == *name))
                    else {
                        continue;
                    };
                    let usual = target.main.unwrap_or_default();
                    let given = format!("{option} {usual}");
                    if word.contains(&given) {
                        *word = word.replace(&given, &format!("{option} {port}"));
                    } else if !word.contains(&format!("{option} ")) && !word.contains("--port") {
                        *word = word.replace(&host, &format!("{host} {option} {port}"));
                    } else {
                        continue;
                    }
                    reported = true;
                }
            }
            if reported {
                let here = target.remapped.clone().unwrap_or_default();
                let text = format!("`{}` listens on {here} here: its port is added", target.name);
                self.report.mapped(at, draft.what("command"), text);
            }
        }
    }
}

/// Paths of the container within a word or a line: those of mounts become paths here, the others are handed out.
fn map_paths(text: &str, draft: &Draft, first: bool) -> (String, Vec<String>) {
    let here = |path: &str| {
        let here = relative(&draft.dir, &local(path, &draft.mounts)?);
        Some(if first && !here.starts_with(['.', '/']) { format!("./{here}") } else { here })
    };
    if !text.contains(char::is_whitespace)
        && let Some(here) = here(text)
    {
        return (here, Vec::new());
    }
    // `app.jar` or `./server`: what another stage made lies elsewhere here.
    if let NativeKind::Run { dockerfile: Some(file), .. } = &draft.kind
        && !text.starts_with('/')
        && let Some(workdir) = &file.workdir
    {
        let inside = super::load::join(std::path::Path::new(workdir), text).display().to_string();
        if let Some((_, path)) = draft.mounts.iter().find(|(target, _)| {
            *target == inside
                && file.carried.iter().any(|(.., to)| to.trim_end_matches('/').starts_with(workdir.trim_end_matches('/')))
        }) {
            let here = relative(&draft.dir, path);
            return (if first && !here.starts_with(['.', '/']) { format!("./{here}") } else { here }, Vec::new());
        }
    }
    let (mut out, mut left) = (String::with_capacity(text.len()), Vec::new());
    let mut at = 0;
    while at < text.len() {
        let rest = &text[at..];
        let starts = rest.starts_with('/')
            && text[..at]
                .chars()
                .next_back()
                .is_none_or(|char| matches!(char, '=' | ' ' | '"' | '\'' | '\n' | '\t' | '(' | '>' | '<'));
        if starts {
            let length = rest.find(|char: char| !(char.is_alphanumeric() || "/._-+@%".contains(char))).unwrap_or(rest.len());
            let path = &rest[..length];
            match here(path.trim_end_matches('/')) {
                // In a script, a name without a slash would be looked up on PATH.
                Some(here) if !here.contains('/') && here != "." && text.contains(char::is_whitespace) => {
                    out.push_str("./");
                    out.push_str(&here);
                }
                Some(here) => out.push_str(&here),
                None => {
                    out.push_str(path);
                    let known = OF_CONTAINERS.iter().any(|folder| path == *folder || path.starts_with(&format!("{folder}/")));
                    if known && path.len() > 1 {
                        left.push(path.to_owned());
                    }
                }
            }
            at += length;
            continue;
        }
        let Some(char) = rest.chars().next() else { break };
        out.push(char);
        at += char.len_utf8();
    }
    (out, left)
}
