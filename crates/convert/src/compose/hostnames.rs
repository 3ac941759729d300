//! Service names used as hosts → references. A name is replaced only where it can be nothing but a host.

/// A service as others see it.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Target {
    /// Its name in the procfile.
    pub name: String,
    /// The names that reach it on compose's network.
    pub hosts: Vec<String>,
    /// Its main port in the container.
    pub main: Option<u16>,
    /// Other ports in the container that lead to the same place.
    pub also_main: Vec<u16>,
    /// Further ports in the container, and their names here.
    pub named: Vec<(u16, String)>,
    /// It is in the procfile; else it is somebody else's business to run it.
    pub present: bool,
    /// It has a main port here.
    pub has_port: bool,
    /// It is a server that is published under another number than its usual one: that number.
    pub remapped: Option<String>,
    /// The recipe that runs it.
    pub recipe: Option<&'static str>,
    /// In compose it took logins without a password.
    pub open: bool,
    /// Its interface has a path here that it does not have in its image.
    pub path: Option<&'static str>,
}

impl Target {
    fn host(&self) -> String {
        // A service with a port has the attribute; where there is none, everything is on this machine anyway.
        if self.present && self.has_port { format!("${{{}.host}}", self.name) } else { "127.0.0.1".to_owned() }
    }
    fn is_main(&self, port: u16) -> bool {
        self.main == Some(port) || self.also_main.contains(&port)
    }
    /// The reference to a port of the container, where there is one.
    pub(crate) fn port(&self, port: u16) -> Option<String> {
        if !(self.present && self.has_port) {
            return None;
        }
        if self.is_main(port) {
            return Some(format!("${{{}.port}}", self.name));
        }
        let (_, name) = self.named.iter().find(|(number, _)| *number == port)?;
        Some(format!("${{{}.ports.{name}}}", self.name))
    }
    /// The attributes that a text refers to, each with what follows it.
    fn references<'a>(&self, text: &'a str) -> impl Iterator<Item = (&'a str, &'a str)> {
        let start = format!("${{{}.", self.name);
        let length = start.len();
        let found: Vec<usize> = text.match_indices(&start).map(|(at, _)| at + length).collect();
        found.into_iter().filter_map(|at| text[at..].split_once('}'))
    }
    /// Whether a text of the procfile leads to the port that it has.
    pub(crate) fn carries_port(&self, text: &str) -> bool {
        self.references(text).any(|(attribute, _)| !matches!(attribute, "host" | "user" | "password" | "database"))
    }
    /// Whether a text of the procfile has its host, and no number behind it.
    pub(crate) fn is_host_without_port(&self, text: &str) -> bool {
        self.references(text).any(|(attribute, after)| {
            let is_number = after.strip_prefix(':').is_some_and(|after| after.starts_with(|char: char| char.is_ascii_digit()));
            attribute == "host" && !is_number
        })
    }
    /// Whether it listens there in its container.
    pub(crate) fn knows(&self, port: u16) -> bool {
        self.is_main(port) || self.named.iter().any(|(number, _)| *number == port)
    }
    /// The path that its interface has here, where an address ends without one.
    fn path_before(&self, before: Before, tail: &str) -> &'static str {
        let is_whole = before == Before::Url && (tail.is_empty() || tail.starts_with([',', ' ', '"', '\'']));
        self.path.filter(|_| is_whole && self.present).unwrap_or_default()
    }
    fn at(&self, port: Option<u16>) -> String {
        let usable = self.present && self.has_port;
        match port {
            None if usable => format!("${{{}.addr}}", self.name),
            None => self.main.map_or_else(|| self.host(), |port| format!("{}:{port}", self.host())),
            Some(port) if usable && self.is_main(port) => format!("${{{}.addr}}", self.name),
            Some(port) => match self.named.iter().find(|(number, _)| *number == port) {
                Some((_, name)) if usable => format!("{}:${{{}.ports.{name}}}", self.host(), self.name),
                _ => format!("{}:{port}", self.host()),
            },
        }
    }
}

/// The names that were replaced: the service, and the port where one stood.
pub(crate) type HostMatch = Vec<(String, Option<u16>)>;

/// Replaces names in one value. `host` says that the variable's name, or the option before the word, wants a host.
pub(crate) fn rewrite(text: &str, host: bool, targets: &[Target], found: &mut HostMatch) -> String {
    // An address of compose's network is nothing else.
    if host || text.parse::<std::net::IpAddr>().is_ok() {
        for target in targets {
            for name in &target.hosts {
                if text == name {
                    found.push((target.name.clone(), None));
                    return target.host();
                }
            }
        }
    }
    let mut out = String::with_capacity(text.len());
    let mut at = 0;
    'next: while at < text.len() {
        let rest = &text[at..];
        if let Some(before) = before(&text[..at], host) {
            for target in targets {
                for name in &target.hosts {
                    let Some(after) = rest.strip_prefix(name.as_str()) else { continue };
                    let digits =
                        after.strip_prefix(':').map_or(0, |tail| tail.find(|c: char| !c.is_ascii_digit()).unwrap_or(tail.len()));
                    if digits > 0 {
                        let tail = &after[1 + digits..];
                        let Ok(port) = after[1..=digits].parse::<u16>() else { continue };
                        if !ends(tail) {
                            continue;
                        }
                        found.push((target.name.clone(), Some(port)));
                        out.push_str(&target.at(Some(port)));
                        out.push_str(target.path_before(before, tail));
                        at = text.len() - tail.len();
                        continue 'next;
                    }
                    // `nc -z db 5432`.
                    let digits =
                        after.strip_prefix(' ').map_or(0, |tail| tail.find(|c: char| !c.is_ascii_digit()).unwrap_or(tail.len()));
                    if digits > 0
                        && ends(&after[1 + digits..])
                        && let Some(port) = after[1..=digits].parse::<u16>().ok().and_then(|port| target.port(port))
                    {
                        found.push((target.name.clone(), None));
                        out.push_str(&format!("{} {port}", target.host()));
                        at = text.len() - after.len() + 1 + digits;
                        continue 'next;
                    }
                    // `/dev/tcp/db/5432` of bash.
                    let digits =
                        after.strip_prefix('/').map_or(0, |tail| tail.find(|c: char| !c.is_ascii_digit()).unwrap_or(tail.len()));
                    if digits > 0
                        && text[..at].ends_with("/dev/tcp/")
                        && let Ok(number) = after[1..=digits].parse::<u16>()
                    {
                        found.push((target.name.clone(), Some(number)));
                        let port = target.port(number).unwrap_or_else(|| number.to_string());
                        out.push_str(&format!("{}/{port}", target.host()));
                        at = text.len() - after.len() + 1 + digits;
                        continue 'next;
                    }
                    // With a port that is a placeholder only the host is ours to say.
                    if after.starts_with(":${") && before != Before::Anything {
                        found.push((target.name.clone(), None));
                        out.push_str(&target.host());
                        at = text.len() - after.len();
                        continue 'next;
                    }
                    let alone = match before {
                        Before::Url | Before::Option => ends(after),
                        Before::Default => after.starts_with('}'),
                        Before::Anything => false,
                    };
                    if alone {
                        found.push((target.name.clone(), None));
                        out.push_str(&if before == Before::Url { target.at(None) } else { target.host() });
                        out.push_str(target.path_before(before, after));
                        at = text.len() - after.len();
                        continue 'next;
                    }
                }
            }
        }
        let Some(char) = rest.chars().next() else { break };
        out.push(char);
        at += char.len_utf8();
    }
    out
}

/// What stands before a place decides what a name there can be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Before {
    /// The host part of a URL.
    Url,
    /// The default of a placeholder.
    Default,
    /// Behind an option that takes a host.
    Option,
    /// A word may begin here.
    Anything,
}

fn before(text: &str, host: bool) -> Option<Before> {
    if text.ends_with("://") || (text.ends_with('@') && text.contains("://")) {
        return Some(Before::Url);
    }
    if text.ends_with("/dev/tcp/") {
        return Some(Before::Anything);
    }
    if text.ends_with(":-") {
        let url = text.contains("://") || host;
        return Some(if url { Before::Default } else { Before::Anything });
    }
    if ["?host=", "&host=", " -h ", "--host ", "--host=", "-host ", "--hostname=", "--hostname "]
        .iter()
        .any(|option| text.ends_with(option))
    {
        return Some(Before::Option);
    }
    let last = text.chars().next_back();
    last.is_none_or(|char| matches!(char, ',' | '=' | ' ' | '"' | '\'' | '(' | '[' | ';' | '|' | '@' | '\n' | '\t'))
        .then_some(Before::Anything)
}

fn ends(text: &str) -> bool {
    text.chars().next().is_none_or(|char| {
        matches!(char, '/' | ',' | '"' | '\'' | '?' | ' ' | ')' | ']' | ';' | '}' | '&' | '|' | '#' | '\n' | '\t' | '\\')
    })
}

/// Whether a variable of this name holds a host.
pub(crate) fn wants_host(variable: &str) -> bool {
    let upper = variable.to_ascii_uppercase();
    ["HOST", "HOSTNAME", "SERVER", "HOST_NAME", "HOSTS", "ADDRESS", "ENDPOINT", "ADDR", "_SVC", "DB_HOST"]
        .iter()
        .any(|end| upper.ends_with(end))
        || upper == "PGHOST"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_replaced_and_nothing_else() {
        let targets = [
            Target {
                name: "db".into(),
                hosts: vec!["db".into(), "shop-db".into()],
                main: Some(5432),
                present: true,
                has_port: true,
                ..Target::default()
            },
            Target {
                name: "minio".into(),
                hosts: vec!["minio".into()],
                main: Some(9000),
                named: vec![(9001, "console".into())],
                present: true,
                has_port: true,
                ..Target::default()
            },
            Target { name: "worker".into(), hosts: vec!["worker".into()], present: true, ..Target::default() },
            Target { name: "mongo".into(), hosts: vec!["mongo".into()], main: Some(27017), ..Target::default() },
        ];
        let table = [
            ("postgres://u:p@db:5432/db", false, "postgres://u:p@${db.addr}/db"),
            ("postgres://db:db@db/db", false, "postgres://db:db@${db.addr}/db"),
            ("db", false, "db"),
            ("db", true, "${db.host}"),
            ("db:5432", false, "${db.addr}"),
            ("db:5433", false, "${db.host}:5433"),
            ("shop-db:5432,minio:9000", false, "${db.addr},${minio.addr}"),
            ("http://minio:9001/x", false, "http://${minio.host}:${minio.ports.console}/x"),
            ("http://minio", false, "http://${minio.addr}"),
            ("mydb:5432", false, "mydb:5432"),
            ("db:54321x", false, "db:54321x"),
            ("db:latest", false, "db:latest"),
            ("/srv/db:5432", false, "/srv/db:5432"),
            ("${DB_HOST:-db}", true, "${DB_HOST:-${db.host}}"),
            ("postgres://${U:-db}:p@${H:-db}:${P:-5432}/x", false, "postgres://${U:-${db.host}}:p@${H:-${db.host}}:${P:-5432}/x"),
            ("${URL:-postgres://u:p@db:5432/x}", false, "${URL:-postgres://u:p@${db.addr}/x}"),
            ("mongodb://mongo:27017/x", false, "mongodb://127.0.0.1:27017/x"),
            ("http://worker:80/", false, "http://127.0.0.1:80/"),
            ("--broker=redis://db:5432/0", false, "--broker=redis://${db.addr}/0"),
            ("ä db:5432 ö", false, "ä ${db.addr} ö"),
            ("psql -h db -c x", false, "psql -h ${db.host} -c x"),
            ("x --host=db --y", false, "x --host=${db.host} --y"),
            ("nc -z db 5432 && x", false, "nc -z ${db.host} ${db.port} && x"),
            ("echo > /dev/tcp/db/5432 && x", false, "echo > /dev/tcp/${db.host}/${db.port} && x"),
            ("echo > /dev/tcp/dbx/5432", false, "echo > /dev/tcp/dbx/5432"),
            ("postgresql:///x?host=db&user=u", false, "postgresql:///x?host=${db.host}&user=u"),
            ("nc -z minio 9001", false, "nc -z ${minio.host} ${minio.ports.console}"),
            ("the db 5433", false, "the db 5433"),
            ("postgres://u:p@db:${PORT}/x", false, "postgres://u:p@${db.host}:${PORT}/x"),
        ];
        for (text, host, expected) in table {
            assert_eq!(rewrite(text, host, &targets, &mut Vec::new()), expected, "{text}");
        }
    }
}
