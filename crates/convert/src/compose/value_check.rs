//! Single values of a compose file: whether a key takes them. The reason and what to write instead.

use std::net::IpAddr;

use devrun_model::ByteSize;
use devrun_model::suggest::{list, nearest};

use super::key_shapes::KeyShape;
use super::syntax;

/// Why a shape does not take a text, and what helps.
pub(super) fn fault(shape: KeyShape, text: &str) -> Option<(String, String)> {
    let said = |what: &str, help: &str| Some((format!("invalid {what} {text:?}"), help.to_owned()));
    let value = text.trim();
    match shape {
        KeyShape::Bool if !is_bool(value) => said("boolean", "write true or false"),
        KeyShape::Integer if !is_integer(value) => said("whole number", "write a number such as 3"),
        KeyShape::Number if value.parse::<f64>().is_err() => said("number", "write a number such as 0.5"),
        KeyShape::Duration if !is_duration(value) => said("duration", "write a number and its unit: 10s, 1m30s"),
        KeyShape::Size if !is_size(value) => said("size", "write a number and its unit: 512m, 1g"),
        KeyShape::Words(words) => unknown_word(words, text),
        KeyShape::PortNumber if port_range(value).is_none() => said("port", "ports are numbers from 1 to 65535"),
        KeyShape::Port => port(value).map(|reason| (format!("invalid port {text:?}: {reason}"), PORT_HELP.to_owned())),
        KeyShape::Mount => mount(value).map(|reason| (format!("invalid mount {text:?}: {reason}"), MOUNT_HELP.to_owned())),
        _ => None,
    }
}

const PORT_HELP: &str = "write \"8080:80\", the port of this machine and that of the service";
const MOUNT_HELP: &str = "write \"SOURCE:TARGET\", or \"SOURCE:TARGET:ro\"";

fn unknown_word(words: &[&str], text: &str) -> Option<(String, String)> {
    let is_taken = |word: &&&str| match word.strip_suffix('*') {
        Some(start) => text.strip_prefix(start).is_some_and(|rest| !rest.is_empty()),
        None => **word == text,
    };
    // YAML reads an unquoted `no` as false in some of its versions; an empty text is the default.
    let is_no = text == "false" && words.contains(&"no");
    if text.is_empty() || is_no || words.iter().any(|word| is_taken(&word)) {
        return on_failure(text);
    }
    let shown = words.iter().copied().filter(|word| !word.ends_with('*'));
    let help = match nearest(text, shown.clone()) {
        Some(near) => format!("did you mean `{near}`?"),
        None => format!("write one of {}", list(shown)),
    };
    Some((format!("unknown value {text:?}"), help))
}

/// The number behind `on-failure:`.
fn on_failure(text: &str) -> Option<(String, String)> {
    let count = text.strip_prefix("on-failure:")?;
    count.parse::<u32>().is_err().then(|| (format!("invalid number of restarts {count:?}"), "write on-failure:3".to_owned()))
}

fn is_bool(text: &str) -> bool {
    let known = ["true", "false", "yes", "no", "on", "off", "y", "n"];
    known.contains(&text.to_ascii_lowercase().as_str())
}

fn is_integer(text: &str) -> bool {
    let digits = text.trim_start_matches(['-', '+']);
    text.parse::<i64>().is_ok() || digits.strip_prefix("0x").is_some_and(|hex| i64::from_str_radix(hex, 16).is_ok())
}

/// Numbers with units, from weeks to nanoseconds.
fn is_duration(text: &str) -> bool {
    let mut rest = text.trim_start_matches(['-', '+']);
    if rest == "0" {
        return true;
    }
    let mut parts = 0;
    while !rest.is_empty() {
        let number = rest.find(|char: char| !(char.is_ascii_digit() || char == '.')).unwrap_or(rest.len());
        let unit = rest[number..].find(|char: char| char.is_ascii_digit() || char == '.').map_or(rest.len(), |end| number + end);
        let is_known = matches!(&rest[number..unit], "ns" | "us" | "µs" | "μs" | "ms" | "s" | "m" | "h" | "d" | "w");
        if rest[..number].parse::<f64>().is_err() || !is_known {
            return false;
        }
        rest = &rest[unit..];
        parts += 1;
    }
    parts > 0
}

fn is_size(text: &str) -> bool {
    // Docker takes `1 GiB` and `1024.0` too, and -1 for "no limit".
    let plain = text.replace(' ', "");
    let digits = plain.trim_end_matches(|char: char| char.is_ascii_alphabetic());
    let unit = plain[digits.len()..].to_ascii_lowercase();
    let is_unit = matches!(unit.trim_end_matches('b').trim_end_matches('i'), "" | "k" | "m" | "g" | "t" | "p");
    plain == "-1" || ByteSize::parse(&plain).is_ok() || (digits.parse::<f64>().is_ok_and(|number| number >= 0.0) && is_unit)
}

/// A port or a range of them: the first and the last.
fn port_range(text: &str) -> Option<(u16, u16)> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let (first, last) = (first.trim().parse().ok()?, last.trim().parse().ok()?);
    (first <= last).then_some((first, last))
}

/// Why a short port is none.
fn port(text: &str) -> Option<String> {
    let (ports, protocol) = text.rsplit_once('/').unwrap_or((text, "tcp"));
    if !matches!(protocol.to_ascii_lowercase().as_str(), "tcp" | "udp" | "sctp") {
        return Some(format!("unknown protocol {protocol:?}"));
    }
    let (address, published, target) = split_port(ports);
    let Some(inside) = port_range(target) else {
        return Some(if target.is_empty() { "no port of the service".to_owned() } else { format!("{target:?} is not a port") });
    };
    if !published.is_empty() {
        let Some(outside) = port_range(published) else { return Some(format!("{published:?} is not a port")) };
        let single = inside.0 == inside.1;
        if !single && outside.1 - outside.0 != inside.1 - inside.0 {
            return Some("the ranges differ in length".to_owned());
        }
    }
    let bare = address.trim_start_matches('[').trim_end_matches(']');
    (!bare.is_empty() && bare.parse::<IpAddr>().is_err()).then(|| format!("{bare:?} is not an IP address"))
}

/// Address, published port and port of the service; what is not there is empty.
fn split_port(text: &str) -> (&str, &str, &str) {
    let Some((before, target)) = text.rsplit_once(':') else { return ("", "", text) };
    let (address, published) = before.rsplit_once(':').unwrap_or(("", before));
    (address, published, target)
}

/// Why a short mount is none.
fn mount(text: &str) -> Option<String> {
    // A drive of Windows has a colon of its own.
    let rest = text.strip_prefix(|char: char| char.is_ascii_alphabetic()).unwrap_or_default();
    if text.len() < 3 || rest.starts_with(":\\") || rest.starts_with(":/") {
        return text.is_empty().then(|| "it is empty".to_owned());
    }
    let parts = syntax::split_outside(text, ':');
    if parts.iter().any(String::is_empty) {
        return Some("a part between colons is empty".to_owned());
    }
    (parts.len() > 3 && !parts.iter().any(|part| part.len() == 1)).then(|| "too many colons".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_taken_as_docker_compose_takes_them() {
        let taken: &[(KeyShape, &[&str])] = &[
            (KeyShape::Bool, &["true", "False", "yes", "off"]),
            (KeyShape::Integer, &["0", "-1", "65535"]),
            (KeyShape::Number, &["0.5", "2", "1e-3"]),
            (KeyShape::Duration, &["10s", "1m30s", "1.5h", "500ms", "0", "7d", "10us"]),
            (KeyShape::Size, &["512m", "1G", "1gb", "64MiB", "1048576", "0.5g", "-1", "0", "1 GB"]),
            (KeyShape::Words(&["no", "always", "on-failure", "on-failure:*"]), &["no", "", "on-failure:3", "false"]),
            (
                KeyShape::Port,
                &[
                    "80",
                    "8080:80",
                    "127.0.0.1:8080:80",
                    "127.0.0.1::80",
                    "[::1]:8080:80",
                    "::1:8080:80",
                    "6000-6002:6000-6002/udp",
                    "3000-3005",
                    "8000-9000:80",
                    "0:80",
                    ":80",
                    "53:53/UDP",
                ],
            ),
            (KeyShape::Mount, &["/a", "./a:/b:ro", "c", "C:\\a:/b:ro", "/b:C:\\x", "a:/b:rw,z", "/var/run/docker.sock:/x"]),
        ];
        for (shape, texts) in taken {
            for text in *texts {
                assert_eq!(fault(*shape, text), None, "{text}");
            }
        }
    }

    #[test]
    fn what_is_not_taken_is_named() {
        let refused: &[(KeyShape, &[&str])] = &[
            (KeyShape::Bool, &["maybe", ""]),
            (KeyShape::Integer, &["three", "1.5", ""]),
            (KeyShape::Number, &["half"]),
            (KeyShape::Duration, &["10", "soon", "s", "10x", ""]),
            (KeyShape::Size, &["lots", "10q", "-2", ""]),
            (KeyShape::Words(&["no", "always", "on-failure", "on-failure:*"]), &["sometimes", "on-failure:x", "on-failure:"]),
            (KeyShape::Port, &["abc:def", "8080:", "80:abc", "x:80", "80/ttp", "99999:80", "300.1.1.1:80:80", "1-3:1-2", "5-2"]),
            (KeyShape::Mount, &["", "a:b:", ":/b:ro", "/ab:/cd:/ef:/gh"]),
        ];
        for (shape, texts) in refused {
            for text in *texts {
                assert!(fault(*shape, text).is_some(), "{text}");
            }
        }
    }
}
