//! The small notations of compose: placeholders, ports, mounts, durations, sizes, images, commands.

use super::super::report::At;
use super::super::yaml::{Map, YamlNode, YamlValue};

/// All the keys of a map, for callers that look at each.
pub(super) fn each(map: &Map) -> impl Iterator<Item = (&str, &YamlNode, At)> {
    map.iter().map(|(key, node)| (key.name.as_str(), node, key.at))
}

/// Compose's placeholders in ours: `$NAME` becomes `${NAME}`, a dollar that begins nothing becomes `$$`.
///
/// `lenient` gives names without a default an empty one, as compose does, and hands them out.
pub(crate) fn placeholders(text: &str, lenient: &mut dyn FnMut(&str) -> bool) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        out.push_str(&rest[..at]);
        let after = &rest[at + 1..];
        if let Some(tail) = after.strip_prefix('$') {
            out.push_str("$$");
            rest = tail;
        } else if let Some(inner) = after.strip_prefix('{') {
            let length = variable(inner);
            let Some(end) = closing(inner).filter(|_| length > 0) else {
                out.push_str("$$");
                rest = after;
                continue;
            };
            let (name, operator) = (&inner[..length], &inner[length..end]);
            let known = operator.is_empty() || [":-", "-", ":?", "?", ":+", "+"].iter().any(|one| operator.starts_with(one));
            if known {
                out.push_str("${");
                out.push_str(name);
                if operator.is_empty() {
                    if lenient(name) {
                        out.push_str(":-");
                    }
                } else {
                    let sign = operator.find(|char| !matches!(char, ':' | '-' | '?' | '+')).unwrap_or(operator.len()).min(2);
                    let sign = if operator.starts_with(':') { sign } else { sign.min(1) };
                    out.push_str(&operator[..sign]);
                    out.push_str(&placeholders(&operator[sign..], lenient));
                }
                out.push('}');
            } else {
                out.push_str("$$");
                out.push_str(&rest[at + 1..=at + 2 + end]);
            }
            rest = &inner[end + 1..];
        } else {
            let length = variable(after);
            if length == 0 {
                out.push_str("$$");
            } else {
                let name = &after[..length];
                out.push_str("${");
                out.push_str(name);
                if lenient(name) {
                    out.push_str(":-");
                }
                out.push('}');
            }
            rest = &after[length..];
        }
    }
    out.push_str(rest);
    out
}

fn variable(text: &str) -> usize {
    let first = text.starts_with(|char: char| char.is_ascii_alphabetic() || char == '_');
    if first { text.find(|char: char| !(char.is_ascii_alphanumeric() || char == '_')).unwrap_or(text.len()) } else { 0 }
}

fn closing(inner: &str) -> Option<usize> {
    let mut open = 1usize;
    let mut before = '\0';
    for (at, char) in inner.char_indices() {
        match char {
            '{' if before == '$' => open += 1,
            '}' => {
                open -= 1;
                if open == 0 {
                    return Some(at);
                }
            }
            _ => {}
        }
        before = char;
    }
    None
}

/// A placeholder taken apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Placeholder<'a> {
    pub name: &'a str,
    /// `:-`, `-`, `:?`, `?`, `:+`, `+`, or nothing.
    pub operator: &'a str,
    /// What stands behind the operator.
    pub word: &'a str,
    /// All of it.
    pub whole: &'a str,
}

/// The placeholder that a text begins with, and what follows it.
pub(crate) fn placeholder(text: &str) -> Option<(Placeholder<'_>, &str)> {
    let after = text.strip_prefix('$')?;
    let Some(inner) = after.strip_prefix('{') else {
        let length = variable(after);
        let found = Placeholder { name: &after[..length], operator: "", word: "", whole: &text[..=length] };
        return (length > 0).then_some((found, &after[length..]));
    };
    let length = variable(inner);
    let end = closing(inner).filter(|_| length > 0)?;
    let tail = &inner[length..end];
    let operator =
        if tail.is_empty() { "" } else { [":-", ":?", ":+", "-", "?", "+"].into_iter().find(|one| tail.starts_with(one))? };
    let found = Placeholder { name: &inner[..length], operator, word: &tail[operator.len()..], whole: &text[..end + 3] };
    Some((found, &inner[end + 1..]))
}

/// What a placeholder gives where nothing is set: its default, else nothing. For images and ports, which must be known.
pub(crate) fn with_defaults(text: &str) -> Option<String> {
    let mut out = String::new();
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        out.push_str(&rest[..at]);
        let inner = rest[at + 1..].strip_prefix('{')?;
        let end = closing(inner)?;
        let operator = &inner[variable(inner)..end];
        let default = operator.strip_prefix(":-").or_else(|| operator.strip_prefix('-'))?;
        out.push_str(&with_defaults(default)?);
        rest = &inner[end + 1..];
    }
    out.push_str(rest);
    Some(out)
}

/// An image's name taken apart.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Image {
    /// Without the registry, `library/` and the tag: `postgres`, `minio/minio`.
    pub name: String,
    pub tag: Option<String>,
}

/// Takes an image's name apart; `None` where it is nothing but a placeholder.
pub(crate) fn image(text: &str) -> Image {
    let filled = with_defaults(text);
    let text = filled.as_deref().unwrap_or_else(|| text.split("${").next().unwrap_or_default());
    let text = text.split('@').next().unwrap_or_default();
    let slash = text.rfind('/').map_or(0, |at| at + 1);
    let (path, tag) = match text[slash..].find(':') {
        Some(colon) => (&text[..slash + colon], Some(&text[slash + colon + 1..])),
        None => (text, None),
    };
    let mut parts: Vec<&str> = path.split('/').collect();
    if parts.len() > 1 && parts.first().is_some_and(|first| first.contains(['.', ':']) || *first == "localhost") {
        parts.remove(0);
    }
    if parts.len() > 1 && parts.first() == Some(&"library") {
        parts.remove(0);
    }
    Image { name: parts.join("/"), tag: tag.filter(|tag| !tag.is_empty()).map(str::to_owned) }
}

/// The version in a tag that a recipe can be asked for: the major, and the minor of what is still below 1.
pub(crate) fn version(tag: &str) -> Option<String> {
    let start = tag.trim_start_matches("pg").trim_start_matches('v');
    let number: String = start.chars().take_while(|char| char.is_ascii_digit() || *char == '.').collect();
    let number = number.trim_end_matches('.');
    let after = start[number.len()..].chars().next();
    // A date, a hash or a word is no version.
    if number.is_empty() || after.is_some_and(|char| !matches!(char, '-' | '.' | '_' | '+')) {
        return tag.rsplit_once("-pg").and_then(|(_, tail)| version(tail));
    }
    let mut parts = number.split('.');
    let major = parts.next().filter(|major| major.len() <= 3)?;
    match (major, parts.next()) {
        ("0", Some(minor)) => Some(format!("0.{minor}")),
        (major, _) => Some(major.to_owned()),
    }
}

/// A published port.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct PortMapping {
    /// On this machine: a number, a placeholder, or nothing (any).
    pub host: Option<String>,
    /// In the container.
    pub container: String,
    pub udp: bool,
    /// The address it was bound to.
    pub address: Option<String>,
    /// Both numbers come out of one variable, which the program reads as well.
    pub is_shared: bool,
}

/// A short form (`"127.0.0.1:8080:80/tcp"`) or a long one. Ranges give each of their ports.
pub(crate) fn ports(node: &YamlNode) -> Vec<PortMapping> {
    if let YamlValue::Map(_) = &node.value {
        let text = |key: &str| node.get(key).and_then(YamlNode::scalar);
        let Some(container) = text("target") else { return Vec::new() };
        return vec![PortMapping {
            host: text("published"),
            container,
            udp: text("protocol").as_deref() == Some("udp"),
            address: text("host_ip"),
            is_shared: false,
        }];
    }
    node.scalar().map(|text| short_ports(&text)).unwrap_or_default()
}

fn short_ports(text: &str) -> Vec<PortMapping> {
    let (text, udp) = match text.rsplit_once('/') {
        Some((ports, protocol)) if !protocol.contains('}') => (ports, protocol == "udp"),
        _ => (text, false),
    };
    let parts = split_outside(text, ':');
    let (address, host, container) = match parts.as_slice() {
        [container] => (None, None, container.clone()),
        [host, container] => (None, Some(host.clone()), container.clone()),
        [address @ .., host, container] => (Some(address.join(":")), Some(host.clone()), container.clone()),
        [] => return Vec::new(),
    };
    let range = |text: &str| -> Option<(u16, u16)> {
        let (first, last) = text.split_once('-')?;
        Some((first.parse().ok()?, last.parse().ok()?))
    };
    let host = host.filter(|host| !host.is_empty());
    match (host.as_deref().map(range), range(&container)) {
        (None, Some((first, last))) if last >= first && last - first < 100 => (first..=last)
            .map(|port| PortMapping { container: port.to_string(), udp, address: address.clone(), ..PortMapping::default() })
            .collect(),
        (Some(Some((from, _))), Some((first, last))) if last >= first && last - first < 100 => (0..=last - first)
            .map(|step| PortMapping {
                host: Some(from.saturating_add(step).to_string()),
                container: (first + step).to_string(),
                udp,
                address: address.clone(),
                is_shared: false,
            })
            .collect(),
        _ => vec![PortMapping { host, container, udp, address, is_shared: false }],
    }
}

/// Splits at a sign that stands in no placeholder.
pub(crate) fn split_outside(text: &str, sign: char) -> Vec<String> {
    let mut parts = vec![String::new()];
    let mut depth = 0usize;
    let mut before = '\0';
    for char in text.chars() {
        match char {
            '{' if before == '$' => depth += 1,
            '}' if depth > 0 => depth -= 1,
            _ => {}
        }
        before = char;
        if char == sign && depth == 0 {
            parts.push(String::new());
        } else if let Some(last) = parts.last_mut() {
            last.push(char);
        }
    }
    parts
}

/// A mount.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Mount {
    /// A folder, a file, or a volume's name; nothing where the volume has none.
    pub source: Option<String>,
    pub target: String,
    /// The source is a path.
    pub bind: bool,
    pub tmpfs: bool,
}

/// A short form: `source:target:mode`.
pub(crate) fn split_volume(text: &str) -> Option<Mount> {
    let parts = split_outside(text, ':');
    let is_path = |text: &str| text.starts_with(['.', '/', '~', '$']);
    match parts.as_slice() {
        [target] if !target.is_empty() => Some(Mount { target: target.clone(), ..Mount::default() }),
        [source, target, ..] if !target.is_empty() => {
            Some(Mount { source: Some(source.clone()), target: target.clone(), bind: is_path(source), tmpfs: false })
        }
        _ => None,
    }
}

/// Any form.
pub(crate) fn mount(node: &YamlNode) -> Option<Mount> {
    if let YamlValue::Map(_) = &node.value {
        let text = |key: &str| node.get(key).and_then(YamlNode::scalar);
        let kind = text("type").unwrap_or_else(|| "volume".to_owned());
        return Some(Mount { source: text("source"), target: text("target")?, bind: kind == "bind", tmpfs: kind == "tmpfs" });
    }
    split_volume(&node.scalar()?)
}

/// A duration as ours; a bare number is microseconds in compose, which nobody means, so it is refused.
pub(crate) fn duration(text: &str) -> Option<String> {
    if text.contains('$') {
        return Some(text.to_owned());
    }
    devrun_model::duration::parse(text).ok().map(|value| {
        // As it was written, where that is already how it would be written here.
        let ours = devrun_model::duration::format(value);
        if devrun_model::duration::parse(text).ok() == devrun_model::duration::parse(&ours).ok() { ours } else { text.to_owned() }
    })
}

/// A size as ours.
pub(crate) fn size(text: &str) -> Option<String> {
    if text.contains('$') {
        return Some(text.to_owned());
    }
    let size = devrun_model::ByteSize::parse(text).ok()?;
    let upper = text.trim().to_ascii_uppercase().trim_end_matches('B').to_owned();
    Some(if devrun_model::ByteSize::parse(&upper) == Ok(size) { upper } else { text.to_owned() })
}

/// The words of a command: a list as it is, a string split as compose splits it.
pub(crate) fn words(node: &YamlNode) -> Option<Vec<String>> {
    match &node.value {
        YamlValue::List(list) => Some(list.iter().filter_map(YamlNode::scalar).collect()),
        YamlValue::Null => None,
        _ => {
            let text = node.scalar()?;
            Some(shell_words::split(&text).unwrap_or_else(|_| text.split_whitespace().map(str::to_owned).collect()))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn placeholders_become_ours() {
        let table = [
            ("$A/${B}/${C:-c}", "${A}/${B}/${C:-c}"),
            ("$$A 5$ $", "$$A 5$$ $$"),
            ("${A:?say}${B?}${C:+x}${D-$E}", "${A:?say}${B?}${C:+x}${D-${E}}"),
            ("${A:-${B:-b}}", "${A:-${B:-b}}"),
            ("${A:-http://x:1}", "${A:-http://x:1}"),
            ("${", "$${"),
            ("${}", "$${}"),
            ("${A!x}", "$${A!x}"),
            ("a}b", "a}b"),
        ];
        for (compose, ours) in table {
            assert_eq!(placeholders(compose, &mut |_| false), ours, "{compose}");
        }
        assert_eq!(placeholders("$A ${B} ${C-x}", &mut |_| true), "${A:-} ${B:-} ${C-x}");
    }

    #[test]
    fn images_lose_registry_and_digest() {
        let table = [
            ("postgres", "postgres", None),
            ("docker.io/library/postgres:16-alpine", "postgres", Some("16-alpine")),
            ("localhost:5000/a/b:1", "a/b", Some("1")),
            ("quay.io/minio/minio:RELEASE.2024-01-01T00-00-00Z", "minio/minio", Some("RELEASE.2024-01-01T00-00-00Z")),
            ("redis@sha256:abc", "redis", None),
            ("redis:7@sha256:abc", "redis", Some("7")),
            ("postgres:${PG:-15}", "postgres", Some("15")),
            ("postgres:${PG}", "postgres", None),
            ("${REG:-docker.io}/postgres:16", "postgres", Some("16")),
            ("$X", "$X", None),
        ];
        for (text, name, tag) in table {
            assert_eq!(image(text), Image { name: name.to_owned(), tag: tag.map(str::to_owned) }, "{text}");
        }
    }

    #[test]
    fn tags_become_versions() {
        let table = [
            ("16-alpine", Some("16")),
            ("16.2", Some("16")),
            ("v1.7.4", Some("1")),
            ("v0.28", Some("0.28")),
            ("latest", None),
            ("alpine", None),
            ("pg16", Some("16")),
            ("2.15.3-pg17", Some("2")),
            ("latest-pg16", Some("16")),
            ("RELEASE.2024-01-01", None),
            ("20240101", None),
            ("7bookworm", None),
            ("", None),
        ];
        for (tag, found) in table {
            assert_eq!(version(tag).as_deref(), found, "{tag}");
        }
    }

    #[test]
    fn ports_in_every_notation() {
        let table = [
            ("80", vec![(None, "80")]),
            ("8080:80", vec![(Some("8080"), "80")]),
            ("127.0.0.1:8080:80/tcp", vec![(Some("8080"), "80")]),
            ("${PORT:-8080}:80", vec![(Some("${PORT:-8080}"), "80")]),
            ("9000-9001:9000-9001", vec![(Some("9000"), "9000"), (Some("9001"), "9001")]),
            ("127.0.0.1::80", vec![(None, "80")]),
            ("[::1]:80:80", vec![(Some("80"), "80")]),
        ];
        for (text, expected) in table {
            let found = short_ports(text);
            let found: Vec<_> = found.iter().map(|port| (port.host.as_deref(), port.container.as_str())).collect();
            assert_eq!(found, expected, "{text}");
        }
    }

    #[test]
    fn mounts_in_every_notation() {
        let table = [
            ("data:/var/lib", Some("data"), "/var/lib", false),
            ("./a:/b:ro,z", Some("./a"), "/b", true),
            ("/b", None, "/b", false),
            ("${DIR:-./x}:/b", Some("${DIR:-./x}"), "/b", true),
        ];
        for (text, source, target, bind) in table {
            let found = split_volume(text).unwrap();
            assert_eq!((found.source.as_deref(), found.target.as_str(), found.bind), (source, target, bind), "{text}");
        }
        assert_eq!(split_volume(""), None);
    }

    #[test]
    fn sizes_and_durations() {
        assert_eq!(duration("1m30s").as_deref(), Some("1m30s"));
        assert_eq!(duration("10s").as_deref(), Some("10s"));
        assert_eq!(duration("x"), None);
        assert_eq!(size("512m").as_deref(), Some("512M"));
        assert_eq!(size("1gb").as_deref(), Some("1G"));
        assert_eq!(size("?"), None);
    }
}
