//! Addresses in the values of a service → what reaches the same server here.
//!
//! A placeholder stays one, unless what it holds is the name of a service: nobody but the compose file knows that name, so it
//! is filled in and becomes a reference. Passwords that a server of compose did not want are added where the URL has none.

use super::super::bind_names::names_bind_address;
use super::super::replacement::replace;
use super::super::report::At;
use super::super::yaml::{YamlNode, YamlValue};
use super::draft::{Draft, local};
use super::hostnames::{self, HostMatch, Target};
use super::importer::Importer;
use super::importer::relative;
use super::{connection_strings, loopback, syntax};

impl Importer<'_> {
    /// Fills in those placeholders that hold the address of a service, of the machine, or of all its interfaces.
    pub(super) fn inline_addresses(&self, draft: &Draft, variable: &str, text: &str) -> String {
        replace(text, "$", |out, rest| {
            let Some((hole, after)) = syntax::placeholder(rest) else {
                return rest.strip_prefix("$$").map(|after| ("$$".to_owned(), after));
            };
            let filled = self.values.fill(hole.whole).filter(|value| self.is_address(draft, variable, &hole, out, value));
            Some((filled.map_or_else(|| hole.whole.to_owned(), |value| value.replace('$', "$$")), after))
        })
    }

    fn is_address(&self, draft: &Draft, variable: &str, hole: &syntax::Placeholder<'_>, before: &str, value: &str) -> bool {
        // The port behind a service's name.
        if let (Ok(port), Some(head)) = (value.parse::<u16>(), before.strip_suffix(':')) {
            return self
                .targets
                .iter()
                .any(|target| target.knows(port) && target.hosts.iter().any(|host| ends_with_word(head, host)));
        }
        if self.values.get(hole.name).is_none() {
            return false;
        }
        let host = hostnames::wants_host(variable) || hostnames::wants_host(hole.name);
        let in_url = before.ends_with("://") || (before.ends_with('@') && before.contains("://"));
        let named = self.targets.iter().any(|target| target.hosts.iter().any(|name| name == value));
        let binds = names_bind_address(variable);
        (in_url && named)
            || hostnames::rewrite(value, host, &self.targets, &mut HostMatch::new()) != value
            || loopback::this_machine(value, &draft.machine_names).is_some()
            || loopback::bind_addresses(value, binds).is_some()
    }

    /// A text in our notation with its addresses replaced; nothing is reported.
    pub(super) fn translated(&self, draft: &Draft, variable: &str, text: &str, found: &mut HostMatch) -> String {
        let mut text = match connection_strings::rewrite(text, &self.targets, found) {
            Some(text) => text,
            None => hostnames::rewrite(text, hostnames::wants_host(variable), &self.targets, found),
        };
        if let Some(ours) = loopback::this_machine(&text, &draft.machine_names) {
            text = ours;
        }
        if variable != "DISPLAY"
            && let Some(ours) = loopback::bind_addresses(&text, names_bind_address(variable))
        {
            let keeps = variable.is_empty() || !is_list_of_allowed(variable);
            text = if keeps { ours } else { text };
        }
        with_passwords(&text, &self.targets)
    }

    /// A value of the environment in our notation.
    pub(super) fn value(&mut self, draft: &Draft, name: &str, value: &str, at: At, strict: bool) -> String {
        let what = format!("environment.{name}");
        self.value_of(draft, name, value, (at, &what), strict)
    }

    /// As [`Self::value`], for a value that stands elsewhere than below `environment`.
    pub(super) fn value_of(&mut self, draft: &Draft, name: &str, value: &str, (at, what): (At, &str), strict: bool) -> String {
        let text = self.addressed(draft, name, value, (at, what), strict);
        let text = self.secret_paths(draft, name, at, text);
        // A path of the container that is mounted from here.
        match local(&text, &draft.mounts).filter(|_| text.starts_with('/')) {
            Some(path) => relative(&draft.dir, &path),
            None => text,
        }
    }

    /// As [`Self::value_of`], for a value that names nothing of the container's file system.
    pub(super) fn addressed(&mut self, draft: &Draft, name: &str, value: &str, (at, what): (At, &str), strict: bool) -> String {
        let value = self.inline_addresses(draft, name, value);
        let text = self.text(&value, at, strict);
        let mut found = HostMatch::new();
        let text = self.translated(draft, name, &text, &mut found);
        self.names_found(draft, at, what, &found);
        text
    }

    /// Says which names were replaced, and which of them nobody runs.
    pub(super) fn names_found(&mut self, draft: &Draft, at: At, what: &str, found: &HostMatch) {
        for (name, port) in found {
            let Some(target) = self.targets.iter().find(|target| target.name == *name) else { continue };
            if target.present {
                continue;
            }
            let port = port.map(|port| format!(":{port}")).unwrap_or_default();
            self.report.not_mapped(
                at,
                draft.what(what),
                format!("`{name}` is not run by devrun: the address became 127.0.0.1{port}, where yours must listen"),
            );
        }
    }
}

/// Names that may talk to the program, not addresses it listens on.
fn is_list_of_allowed(variable: &str) -> bool {
    let upper = variable.to_ascii_uppercase();
    ["ALLOWED", "ORIGIN", "CORS", "TRUSTED", "NO_PROXY", "WHITELIST"].iter().any(|word| upper.contains(word))
}

/// `postgres://user@${db.addr}` of a server that wanted no password there and wants one here.
fn with_passwords(text: &str, targets: &[Target]) -> String {
    let mut text = text.to_owned();
    for target in targets.iter().filter(|target| target.open) {
        for attribute in ["addr", "host"] {
            let mark = format!("@${{{}.{attribute}}}", target.name);
            let Some(at) = text.find(&mark) else { continue };
            let Some(start) = text[..at].rfind("://").map(|start| start + 3) else { continue };
            let user = &text[start..at];
            let plain = user.trim_end_matches(':');
            if !plain.is_empty() && !plain.contains([':', '/', '@', ' ']) {
                text = format!("{}{plain}:${{{}.password}}{}", &text[..start], target.name, &text[at..]);
            }
        }
    }
    text
}

fn ends_with_word(text: &str, word: &str) -> bool {
    text.strip_suffix(word).is_some_and(|head| {
        head.chars().next_back().is_none_or(|char| !(char.is_ascii_alphanumeric() || matches!(char, '.' | '-' | '_')))
    })
}

/// `extra_hosts` as names and addresses.
pub(super) fn extra_hosts(node: &YamlNode) -> Vec<(String, String, At)> {
    match &node.value {
        YamlValue::Map(map) => map
            .iter()
            .flat_map(|(key, value)| value.texts().into_iter().map(|(address, _)| (key.name.clone(), address, key.at)))
            .collect(),
        _ => node
            .texts()
            .into_iter()
            .filter_map(|(text, at)| {
                let (name, address) = text.split_once(['=', ':'])?;
                Some((name.trim().to_owned(), address.trim().to_owned(), at))
            })
            .collect(),
    }
}

/// Whether an address of `extra_hosts` is this machine.
pub(super) fn is_this_machine(address: &str) -> bool {
    let address = address.trim_matches(['[', ']']);
    address == "host-gateway" || address == "::1" || address.starts_with("127.")
}
