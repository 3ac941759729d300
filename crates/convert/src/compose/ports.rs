//! `ports` of a program → `port` and `ports`.

use super::super::report::At;
use super::super::toml_writer::{Section, Toml};
use super::draft::{Draft, port_name};
use super::importer::Importer;
use super::syntax::PortMapping;

impl Importer<'_> {
    /// A number that nobody else has, or `auto`.
    pub(super) fn claim(&mut self, draft: &Draft, at: At, wanted: &str) -> Toml {
        let filled = self.values.fill(wanted);
        let Some(number) = self.number(wanted) else {
            let Some(inside) = filled else {
                // Neither set nor with a default: whoever sets it decides.
                return Toml::text(self.text(wanted, at, true));
            };
            if let Some((first, last)) = range(&inside) {
                let free = (first..=last).find(|number| self.taken.get(number).is_none_or(|other| *other == draft.name));
                let number = free.unwrap_or(first);
                self.report.mapped(at, draft.what("ports"), format!("of {inside} the first free one: {number}"));
                return self.claim(draft, at, &number.to_string());
            }
            let said = format!("invalid port {inside:?}: `port` takes a number");
            let said = if wanted.contains('$') { format!("{wanted} is {said}") } else { said };
            // A variable that holds more than the number, as compose allows it to: `PORT=127.0.0.1:8080`.
            return match inside.rsplit(':').next().and_then(|last| last.trim().parse::<u16>().ok()) {
                Some(number) => {
                    self.report.mapped(at, draft.what("ports"), format!("{said}: {number}"));
                    self.claim(draft, at, &number.to_string())
                }
                None => {
                    self.report.not_mapped(at, draft.what("ports"), format!("{said}: a free one is taken"));
                    Toml::text("auto")
                }
            };
        };
        let text = self.text(wanted, at, true);
        if number == 0 {
            return Toml::text("auto");
        }
        if let Some(other) = self.taken.insert(number, draft.name.clone()).filter(|other| *other != draft.name) {
            self.taken.insert(number, other.clone());
            self.report.mapped(at, draft.what("ports"), format!("`{other}` has port {number} already, and here both share one machine: port = \"auto\"; the program must listen on $PORT"));
            return Toml::text("auto");
        }
        if number < 1024 && !wanted.contains('$') {
            self.report.not_mapped(
                at,
                draft.what("ports"),
                format!("port {number} cannot be bound by an ordinary user: choose one from 1024, or run as root"),
            );
        }
        Toml::number(&text)
    }

    pub(super) fn program_ports(&mut self, draft: &Draft, section: &mut Section) {
        let mut more = Vec::new();
        for (index, (port, at)) in draft.ports.iter().enumerate() {
            let wanted = port.host.clone().unwrap_or_else(|| port.container.clone());
            if draft.task {
                self.report.dropped(*at, draft.what("ports"), "a task has no port");
                continue;
            }
            let value = if is_privileged(port) { Toml::text("auto") } else { self.claim(draft, *at, &wanted) };
            let line = value.line();
            if index == 0 {
                if port.is_shared || !is_privileged(port) && (wanted == port.container || value.line() == port.container) {
                    self.report.mapped(*at, draft.what("ports"), format!("port = {line}"));
                } else {
                    self.report.mapped(
                        *at,
                        draft.what("ports"),
                        format!(
                            "port = {line}: the container listened on {}, here the program must listen on $PORT",
                            port.container
                        ),
                    );
                    section
                        .above
                        .push(format!("In the container it listened on {}; here it must listen on $PORT.", port.container));
                }
                section.set("port", value);
            } else {
                let name = port_name(&port.container);
                self.report.mapped(
                    *at,
                    draft.what("ports"),
                    format!("ports.{name} = {line}: handed over as $PORT_{}", name.to_ascii_uppercase()),
                );
                more.push((name, value));
            }
        }
        if !more.is_empty() {
            section.set("ports", Toml::Table(more));
        }
        self.host_addresses(draft);
    }

    /// What was published elsewhere than on loopback, or a second time.
    pub(super) fn host_addresses(&mut self, draft: &Draft) {
        for (port, at) in draft.ports.iter().chain(&draft.repeated) {
            let Some(address) = port.address.as_deref().and_then(|address| self.values.fill(address)) else { continue };
            let plain = address.trim_matches(['[', ']']);
            if plain == "0.0.0.0" || plain == "::" || plain.is_empty() {
                self.report.dropped(*at, draft.what("ports"), format!("{address}: devrun's addresses are on loopback"));
            } else if plain != "::1" && plain != "localhost" && !plain.starts_with("127.") {
                self.report.not_mapped(
                    *at,
                    draft.what("ports"),
                    format!("{address}: on loopback here; `bind` takes another address"),
                );
            }
        }
        for (port, at) in &draft.repeated {
            let host = port.host.clone().unwrap_or_default();
            let text = format!("devrun opens one port for {}: {host} is not served", port.container);
            self.report.not_mapped(*at, draft.what("ports"), text);
        }
    }

    /// The port of the container within a line of the program, where it listens on another one here.
    pub(super) fn own_ports(&self, draft: &Draft, text: &str) -> String {
        let mut text = text.to_owned();
        for (index, (port, _)) in draft.ports.iter().enumerate() {
            let Ok(number) = port.container.parse::<u16>() else { continue };
            if draft.task || !self.is_moved(draft, port) {
                continue;
            }
            let name =
                if index == 0 { "PORT".to_owned() } else { format!("PORT_{}", port_name(&port.container).to_ascii_uppercase()) };
            text = replace_port(&text, number, &format!("${{{name}}}"));
        }
        text
    }

    /// Whether the program listens on another port here than in its container.
    pub(super) fn is_moved(&self, draft: &Draft, port: &PortMapping) -> bool {
        if port.is_shared {
            return false;
        }
        let Some(host) = port.host.as_deref() else {
            // Not published: it keeps its number, unless somebody has that already.
            return port.container.parse().is_ok_and(|number: u16| {
                is_privileged(port) || self.taken.get(&number).is_some_and(|other| *other != draft.name)
            });
        };
        host != port.container
    }
}

/// Whether an ordinary user cannot open the port, and no number of this machine was asked for.
fn is_privileged(port: &PortMapping) -> bool {
    port.host.is_none() && port.container.parse::<u16>().is_ok_and(|number| (1..1024).contains(&number))
}

/// `8000-8010`.
fn range(text: &str) -> Option<(u16, u16)> {
    let (first, last) = text.split_once('-')?;
    let (first, last) = (first.trim().parse().ok()?, last.trim().parse().ok()?);
    (first <= last).then_some((first, last))
}

/// Replaces a port's number where it is one: a whole word, or behind `:` or `=`; never that of another host.
pub(super) fn replace_port(text: &str, number: u16, with: &str) -> String {
    let digits = number.to_string();
    let mut out = String::with_capacity(text.len());
    let mut at = 0;
    while let Some(found) = text[at..].find(&digits) {
        let start = at + found;
        let (head, tail) = (&text[..start], &text[start + digits.len()..]);
        let ends = tail
            .chars()
            .next()
            .is_none_or(|char| matches!(char, ' ' | '/' | '"' | '\'' | ';' | ')' | '\n' | '?' | ',' | '|' | '&'));
        let own = match head.chars().next_back() {
            None | Some(' ' | '=' | '"' | '\'') => true,
            Some('/') => ["localhost", "127.0.0.1", "0.0.0.0"].iter().any(|host| head.ends_with(&format!("/dev/tcp/{host}/"))),
            Some(':') => {
                let host: String = head[..head.len() - 1]
                    .chars()
                    .rev()
                    .take_while(|char| char.is_ascii_alphanumeric() || matches!(char, '.' | '-' | '_' | ']' | '['))
                    .collect();
                let host: String = host.chars().rev().collect();
                // In a URL only one's own address is one's own port.
                let url = head.contains("://") && !head.ends_with("://:");
                matches!(host.as_str(), "localhost" | "127.0.0.1" | "0.0.0.0" | "[::1]" | "[::]")
                    || (!url
                        && (host.is_empty()
                            || !host.contains('.')
                                && head.len() == host.len() + 1
                                && host.chars().all(|char| char.is_ascii_digit())))
            }
            _ => false,
        };
        out.push_str(&text[at..start]);
        out.push_str(if own && ends { with } else { &digits });
        at = start + digits.len();
    }
    out.push_str(&text[at..]);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_own_port_is_replaced() {
        let table = [
            ("8080", "P"),
            ("0.0.0.0:8080", "0.0.0.0:P"),
            ("--port=8080", "--port=P"),
            (":8080", ":P"),
            ("curl -f http://localhost:8080/x | grep y", "curl -f http://localhost:P/x | grep y"),
            ("http://127.0.0.1:8080", "http://127.0.0.1:P"),
            ("http://api:8080/", "http://api:8080/"),
            ("18080", "18080"),
            ("8080x", "8080x"),
            ("python3 -m http.server 8080", "python3 -m http.server P"),
            ("redis://cache:8080/0", "redis://cache:8080/0"),
            ("exec 3<>/dev/tcp/127.0.0.1/8080; x", "exec 3<>/dev/tcp/127.0.0.1/P; x"),
            ("/srv/8080", "/srv/8080"),
        ];
        for (text, expected) in table {
            assert_eq!(replace_port(text, 8080, "P"), expected, "{text}");
        }
        assert_eq!(range("8000-8010"), Some((8000, 8010)));
        assert_eq!(range("8010-8000"), None);
    }
}
