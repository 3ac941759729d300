//! Addresses that mean the machine itself: those that a container calls its host by, and those that bind every interface.
//!
//! In a container `0.0.0.0` was the container's own network; here it would be every network of the machine, so that a
//! service which compose published nowhere would be open to all of them.

use super::super::replacement::replace;

/// Names that every container engine gives to the machine it runs on.
pub(crate) const HOST_NAMES: &[&str] = &[
    "host.docker.internal",
    "gateway.docker.internal",
    "host.containers.internal",
    "docker.for.mac.localhost",
    "docker.for.mac.host.internal",
    "docker.for.win.localhost",
];

/// Replaces the names of the machine; `None` where there is none.
pub(crate) fn this_machine(text: &str, more: &[String]) -> Option<String> {
    let mut out = text.to_owned();
    for name in HOST_NAMES.iter().copied().chain(more.iter().map(String::as_str)) {
        out = replace_word(&out, name, "127.0.0.1");
    }
    (out != text).then_some(out)
}

/// Replaces a name where it is no part of a longer one.
fn replace_word(text: &str, word: &str, with: &str) -> String {
    let part = |char: char| char.is_ascii_alphanumeric() || matches!(char, '.' | '-' | '_');
    replace(text, word, |out, rest| {
        let after = &rest[word.len()..];
        (!out.ends_with(part) && !after.starts_with(part)).then(|| (with.to_owned(), after))
    })
}

/// Replaces addresses that bind every interface; `None` where there is none. `binds` says that the variable's name, or the
/// option before the word, names an address to listen on: only there a bare `::` or `*` is one.
pub(crate) fn bind_addresses(text: &str, binds: bool) -> Option<String> {
    if binds && matches!(text, "::" | "*" | "[::]") {
        return Some("127.0.0.1".to_owned());
    }
    let mut out = String::with_capacity(text.len());
    let mut at = 0;
    while at < text.len() {
        let rest = &text[at..];
        let before = text[..at].chars().next_back();
        // `:8080`, as Go's programs write it.
        if is_port_alone(before, &text[..at], rest) {
            out.push_str("127.0.0.1:");
            at += 1;
            continue;
        }
        // `http://+:5000`, as .NET writes it.
        if rest.starts_with("+:") && text[..at].ends_with("://") {
            out.push_str("127.0.0.1");
            at += 1;
            continue;
        }
        let found = ["0.0.0.0", "[::]", "*"].into_iter().find(|address| rest.starts_with(address)).filter(|address| {
            let after = rest[address.len()..].chars().next();
            let starts = !before.is_some_and(|char| char.is_ascii_alphanumeric() || matches!(char, '.' | ']' | '*'));
            // `0.0.0.0/0` is a network, not an address.
            let network = after == Some('/') && rest[address.len() + 1..].starts_with(|char: char| char.is_ascii_digit());
            let ends = !network && after.is_none_or(|char| !(char.is_ascii_alphanumeric() || matches!(char, '.' | '*')));
            let port = rest[address.len()..]
                .strip_prefix(':')
                .is_some_and(|tail| tail.starts_with(|char: char| char.is_ascii_digit() || char == '$'));
            let opens = before.is_none_or(|char| matches!(char, ' ' | '=' | '"' | '\'' | '/' | '\t' | '\n'));
            starts
                && ends
                && match *address {
                    "0.0.0.0" => true,
                    // Elsewhere a star is a pattern.
                    "*" => port && opens,
                    _ => opens || before == Some('@'),
                }
        });
        if let Some(address) = found {
            out.push_str("127.0.0.1");
            at += address.len();
            continue;
        }
        let Some(char) = rest.chars().next() else { break };
        out.push(char);
        at += char.len_utf8();
    }
    // `--host ::` and `--bind=::` within a line for a shell.
    for option in ["--host", "--bind", "--listen", "--address", "-b", "--hostname", "--ip"] {
        for sign in [" ", "="] {
            for address in ["::", "*"] {
                let long = format!("{option}{sign}{address}");
                if let Some(place) = out.find(&long) {
                    let after = &out[place + long.len()..];
                    if after.is_empty() || after.starts_with([' ', '"', '\'', ';', '\n']) {
                        out = format!("{}{option}{sign}127.0.0.1{after}", &out[..place]);
                    }
                }
            }
        }
    }
    (out != text).then_some(out)
}

/// Whether a port without a host stands here as a word of its own. A short number is a display of X (`:0`, `:99`).
fn is_port_alone(before: Option<char>, head: &str, rest: &str) -> bool {
    let Some(tail) = rest.strip_prefix(':') else { return false };
    let digits = tail.find(|char: char| !char.is_ascii_digit()).unwrap_or(tail.len());
    let is_port = (digits > 2 || &tail[..digits] == "80") && tail[..digits].parse::<u16>().is_ok_and(|port| port > 0);
    is_port
        && before.is_none_or(|char| matches!(char, ' ' | '=' | '"' | '\'' | '\t' | '\n'))
        && tail[digits..].chars().next().is_none_or(|char| matches!(char, ' ' | '"' | '\'' | ';' | ',' | '\t' | '\n'))
        && !head.ends_with("DISPLAY=")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bind_names::names_bind_address;

    #[test]
    fn addresses_of_all_interfaces_become_loopback() {
        let table = [
            ("0.0.0.0", true, Some("127.0.0.1")),
            ("0.0.0.0:8000", true, Some("127.0.0.1:8000")),
            ("tcp://0.0.0.0:9000", false, Some("tcp://127.0.0.1:9000")),
            ("::", true, Some("127.0.0.1")),
            ("::", false, None),
            ("*", true, Some("127.0.0.1")),
            ("*", false, None),
            ("[::]:8000", false, Some("127.0.0.1:8000")),
            ("*:8000", false, Some("127.0.0.1:8000")),
            ("http://[::]:80/", false, Some("http://127.0.0.1:80/")),
            ("python3 -m http.server --bind 0.0.0.0 8001", false, Some("python3 -m http.server --bind 127.0.0.1 8001")),
            ("x --host :: --port 1", false, Some("x --host 127.0.0.1 --port 1")),
            ("--listen=*", false, Some("--listen=127.0.0.1")),
            (":8080", false, Some("127.0.0.1:8080")),
            (":80", false, Some("127.0.0.1:80")),
            ("serve --addr=:8080 -v", false, Some("serve --addr=127.0.0.1:8080 -v")),
            ("sh -c 'app :9000'", false, Some("sh -c 'app 127.0.0.1:9000'")),
            ("http://+:5000;https://*:5001", false, Some("http://127.0.0.1:5000;https://127.0.0.1:5001")),
            (":99", false, None),
            ("DISPLAY=:1000 x", false, None),
            ("a:8080", false, None),
            (":8080/x", false, None),
            (":123456", false, None),
            ("10.0.0.0", true, None),
            ("0.0.0.0/0", true, None),
            ("10.0.0.0.0", true, None),
            ("a*b", false, None),
            ("*.js", false, None),
            ("std::io", false, None),
        ];
        for (text, binds, expected) in table {
            assert_eq!(bind_addresses(text, binds).as_deref(), expected, "{text}");
        }
        let names = [
            ("HOST", true),
            ("HOSTNAME", true),
            ("BIND_ADDR", true),
            ("ALLOWED_HOSTS", false),
            ("CORS_HOST", false),
            ("NAME", false),
        ];
        for (name, expected) in names {
            assert_eq!(names_bind_address(name), expected, "{name}");
        }
    }

    #[test]
    fn the_machine_has_many_names() {
        let more = ["api.test".to_owned()];
        let table = [
            ("http://host.docker.internal:1/x", Some("http://127.0.0.1:1/x")),
            ("host.docker.internal,api.test", Some("127.0.0.1,127.0.0.1")),
            ("my-host.docker.internal", None),
            ("api.tests", None),
        ];
        for (text, expected) in table {
            assert_eq!(this_machine(text, &more).as_deref(), expected, "{text}");
        }
    }
}
