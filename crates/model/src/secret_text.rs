//! Secrets that a text gives away by its form, whatever their values are: the login of a URL, `password=…` in a connection
//! string, tokens with a well-known beginning. Each finder adds the stretches to be masked; nothing here knows a value.

use std::ops::Range;

use super::secret_name::{Secrecy, secrecy};

/// Every stretch, in any order; they may overlap. `thorough` also takes names that are less sure, and `NAME: value`.
#[must_use]
pub fn find(text: &str, thorough: bool) -> Vec<Range<usize>> {
    let mut found = Vec::new();
    logins(text, &mut found);
    assignments(text, thorough, &mut found);
    tokens(text, &mut found);
    headers(text, &mut found);
    webhooks(text, &mut found);
    short_options(text, &mut found);
    found
}

/// Options of one letter that are followed by a password: of `redis-cli`, of the clients of MySQL, of `sshpass`, and the logins of `curl`
/// and its like (`-u NAME:PASSWORD`).
pub(crate) fn short_options(text: &str, found: &mut Vec<Range<usize>>) {
    let mut begin = 0;
    let mut words = Vec::new();
    for part in text.split_inclusive(|c: char| c.is_whitespace() || matches!(c, '"' | '\'' | ',' | '[' | ']')) {
        let word = part.trim_end_matches(|c: char| c.is_whitespace() || matches!(c, '"' | '\'' | ',' | '[' | ']'));
        if !word.is_empty() {
            words.push((begin, word));
        }
        begin += part.len();
    }
    let mut program = "";
    for (at, (begin, word)) in words.iter().enumerate() {
        let name = word.rsplit('/').next().unwrap_or_default();
        if SHORT_OPTIONS.iter().any(|(programs, ..)| programs.contains(&name)) {
            program = name;
            continue;
        }
        let before = at.checked_sub(1).and_then(|before| words.get(before)).map_or("", |(_, word)| word);
        for (_, option, form) in SHORT_OPTIONS.iter().filter(|(programs, ..)| programs.contains(&program)) {
            let secret = match form {
                OptionForm::Next if before == *option => 0,
                OptionForm::Joined if word.len() > option.len() && word.starts_with(option) && !word.starts_with("--") => {
                    option.len()
                }
                OptionForm::Login if before == *option => match word.find(':') {
                    Some(colon) => colon + 1,
                    None => continue,
                },
                _ => continue,
            };
            if secret < word.len() && !word[secret..].starts_with(['$', '<', '…']) {
                found.push(begin + secret..begin + word.len());
            }
        }
    }
}

/// Where the password of such an option stands.
#[derive(Debug, Clone, Copy)]
enum OptionForm {
    /// It is the next word.
    Next,
    /// It follows in the same word.
    Joined,
    /// It follows a colon in the next word.
    Login,
}

const MYSQL: &[&str] = &["mysql", "mariadb", "mysqldump", "mariadb-dump", "mysqladmin", "mariadb-admin"];

const SHORT_OPTIONS: &[(&[&str], &str, OptionForm)] = &[
    (&["redis-cli", "valkey-cli"], "-a", OptionForm::Next),
    (&["sshpass"], "-p", OptionForm::Next),
    (MYSQL, "-p", OptionForm::Joined),
    (&["curl", "wget", "http"], "-u", OptionForm::Login),
    (&["curl", "wget", "http"], "--user", OptionForm::Login),
];

/// `Authorization: Basic …` of HTTP: nothing but a credential follows the scheme there.
fn headers(text: &str, found: &mut Vec<Range<usize>>) {
    const NAME: &[u8] = b"authorization";
    for (colon, _) in text.match_indices(':') {
        let Some(name) = colon.checked_sub(NAME.len()).and_then(|begin| text.as_bytes().get(begin..colon)) else { continue };
        if !name.eq_ignore_ascii_case(NAME) {
            continue;
        }
        let begin = colon + 1 + text[colon + 1..].bytes().take_while(|byte| *byte == b' ').count();
        let rest = &text[begin..];
        let length = rest.find(|c: char| matches!(c, '"' | '\'' | '`') || c.is_control()).unwrap_or(rest.len());
        let scheme = rest[..length].find(' ').filter(|at| rest[..*at].bytes().all(|byte| byte.is_ascii_alphabetic()));
        let Some(credential) = scheme.map(|at| at + 1) else { continue };
        let end = rest[credential..length].find(' ').map_or(length, |at| credential + at);
        if end > credential && !rest[credential..].starts_with(['$', '<']) {
            found.push(begin + credential..begin + end);
        }
    }
}

/// Addresses to which anyone who knows them may post: host, and path up to the secret.
const WEBHOOKS: &[(&str, &str)] = &[
    ("hooks.slack", ".com/services/"),
    ("hooks.slack", ".com/workflows/"),
    ("discord", ".com/api/webhooks/"),
    ("discordapp", ".com/api/webhooks/"),
];

fn webhooks(text: &str, found: &mut Vec<Range<usize>>) {
    for (at, _) in text.match_indices(".com/") {
        for (host, path) in WEBHOOKS {
            if !(text[..at].ends_with(host) && text[at..].starts_with(path)) {
                continue;
            }
            let begin = at + path.len();
            let length = text[begin..].bytes().position(ends_url).unwrap_or(text.len() - begin);
            if length > 0 && !text[begin..].starts_with("${") {
                found.push(begin..begin + length);
            }
        }
    }
}

fn is_scheme(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'-' | b'.')
}

fn ends_url(byte: u8) -> bool {
    byte <= b' ' || matches!(byte, b'"' | b'\'' | b'`' | b'<' | b'>' | b'|' | b'\\' | 0x7f)
}

/// `scheme://user:PASSWORD@host`, and `user:PASSWORD@tcp(host)` of Go's MySQL driver.
fn logins(text: &str, found: &mut Vec<Range<usize>>) {
    let bytes = text.as_bytes();
    for (at, _) in text.match_indices("://") {
        let scheme = at - bytes[..at].iter().rev().take_while(|byte| is_scheme(**byte)).count();
        let begin = at + 3;
        let rest = &text[begin..];
        let mut end = rest.bytes().position(ends_url).unwrap_or(rest.len());
        // The next URL of a list has a login of its own.
        if let Some(next) = rest[..end].find("://") {
            let head = rest.as_bytes()[..next].iter().rev().take_while(|byte| is_scheme(**byte)).count();
            end = next - head;
        }
        let is_placeholder = |range: &Range<usize>| rest[range.clone()].starts_with("${");
        if let Some(range) = password_of(&text[scheme..at], &rest[..end]).filter(|range| !is_placeholder(range)) {
            found.push(begin + range.start..begin + range.end);
        }
    }
    for mark in ["@tcp(", "@unix("] {
        for (at, _) in text.match_indices(mark) {
            let word = text[..at].rfind(|c: char| c.is_whitespace() || matches!(c, '"' | '\'' | '=')).map_or(0, |from| from + 1);
            if let Some(colon) = text.get(word..at).and_then(|login| login.find(':')) {
                found.push(word + colon + 1..at);
            }
        }
    }
}

/// Where the password is in what follows `scheme://`.
fn password_of(scheme: &str, rest: &str) -> Option<Range<usize>> {
    let authority = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let colon = rest[..authority].find(':');
    // A password that was put in as it is may hold any of these; a port is a number.
    let raw = |colon: usize| {
        let tail = &rest[colon + 1..authority];
        tail.is_empty() || !tail.bytes().all(|byte| byte.is_ascii_digit())
    };
    let at = match rest[..authority].rfind('@') {
        Some(at) if colon.is_some_and(|colon| colon < at) => {
            let path = rest.find('?').unwrap_or(rest.len());
            rest[..path].rfind('@').unwrap_or(at)
        }
        Some(at) => at,
        None => rest.rfind('@').filter(|at| colon.is_some_and(|colon| colon < *at && raw(colon)))?,
    };
    let web = matches!(scheme.to_ascii_lowercase().as_str(), "http" | "https" | "git+https" | "git+http");
    match colon.filter(|colon| *colon < at) {
        // GitHub and others take a token for the user.
        Some(colon) if web && matches!(&rest[colon + 1..at], "" | "x-oauth-basic" | "x-token-auth") => Some(0..colon),
        Some(colon) => Some(colon + 1..at),
        // Elsewhere a user alone is a user, unless the name cannot be a person's.
        None if web || is_random(&rest[..at]) => Some(0..at),
        None => None,
    }
    .filter(|range| !range.is_empty())
}

/// Whether a word of a URL can only be a token: long, of letters and digits mixed.
fn is_random(word: &str) -> bool {
    word.len() >= 20
        && word.bytes().any(|byte| byte.is_ascii_digit())
        && word.bytes().any(|byte| byte.is_ascii_alphabetic())
        && word.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-'))
}

fn is_name(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.')
}

/// Words that are switches rather than secrets.
#[must_use]
pub fn is_switch(value: &str) -> bool {
    matches!(
        value.to_ascii_lowercase().as_str(),
        "" | "0" | "1" | "true" | "false" | "yes" | "no" | "on" | "off" | "none" | "null"
    )
}

/// `password=…`, `"password": "…"`, `--password …`; thorough: also `KEY=…` and, where what follows looks like a secret,
/// `password: …`.
fn assignments(text: &str, thorough: bool, found: &mut Vec<Range<usize>>) {
    let bytes = text.as_bytes();
    for (at, byte) in bytes.iter().enumerate() {
        if !matches!(byte, b'=' | b':' | b' ') {
            continue;
        }
        let before = &bytes[..at];
        // ` = ` of TOML, and a quoted name.
        let mut end = at;
        if *byte == b'=' && before.last() == Some(&b' ') {
            end -= 1;
        }
        let quoted = matches!(bytes[..end].last(), Some(b'"' | b'\''));
        if quoted {
            end -= 1;
            if bytes[..end].last() == Some(&b'\\') {
                end -= 1;
            }
        }
        let start = end - bytes[..end].iter().rev().take_while(|byte| is_name(**byte)).count();
        let name = &text[start..end];
        let flag = name.starts_with("--");
        // Most words of a line are followed by a blank and are no options. In `${NAME:-…}` an operator follows.
        if name.is_empty() || text[..start].ends_with("${") || *byte == b' ' && !flag {
            continue;
        }
        // In a connection string it is a password; where a shell keeps its working directory, a path follows.
        let sure = if name.eq_ignore_ascii_case("pwd") { Secrecy::Strong } else { secrecy(name) };
        if sure < if thorough { Secrecy::Weak } else { Secrecy::Strong } {
            continue;
        }
        // A header or a line of YAML; in a sentence ("invalid token: …") it would take the reason away.
        if *byte == b':' && !quoted && !thorough {
            continue;
        }
        let mut from = at + 1;
        if bytes.get(from) == Some(&b' ') && (*byte == b':' || before.last() == Some(&b' ')) {
            from += 1;
        }
        if let Some(range) = value_at(text, from, *byte == b':' && !quoted) {
            let value = &text[range.clone()];
            let path = name.eq_ignore_ascii_case("pwd") && value.starts_with('/');
            let written = path
                || value.starts_with(['…', '→'])
                || value.starts_with("${")
                || value.starts_with("<secret ")
                || value.starts_with("$(");
            let switch = is_switch(value) && sure < Secrecy::Strong;
            let next_flag = flag && value.starts_with("--");
            // `KeyError: 'NAME'`, `token: expected a string`: a sentence, and its reason is worth more than a guess.
            let sentence = *byte == b':' && !quoted && !looks_secret(text, &range);
            if !(written || switch || next_flag || sentence) {
                found.push(range);
            }
        }
    }
}

/// Whether what stands after `name: ` can be a value rather than the words of a message: the rest of its line is one word of
/// letters and digits mixed, or a credential of HTTP.
fn looks_secret(text: &str, range: &Range<usize>) -> bool {
    let value = &text[range.clone()];
    if value.contains(' ') {
        return true;
    }
    let rest = text[range.end..].lines().next().unwrap_or_default().trim_matches([' ', '"', '\'', ',', '\r']);
    let has = |wanted: fn(&char) -> bool| value.chars().any(|c| wanted(&c));
    rest.is_empty() && value.len() >= 6 && has(char::is_ascii_digit) && has(char::is_ascii_alphabetic)
}

/// The value that begins here.
fn value_at(text: &str, from: usize, line: bool) -> Option<Range<usize>> {
    let rest = text.get(from..)?;
    for (open, close) in [("\\\"", "\\\""), ("\"", "\""), ("'", "'"), ("{", "}")] {
        if let Some(inner) = rest.strip_prefix(open) {
            let begin = from + open.len();
            let mut end = inner.find(close).unwrap_or(inner.len());
            // An escaped quote does not end it.
            while open == "\"" && end < inner.len() && inner[..end].ends_with('\\') {
                end = inner[end + 1..].find(close).map_or(inner.len(), |more| end + 1 + more);
            }
            // An object of JSON, not a value of ODBC.
            return (open != "{" || !inner[..end].contains([' ', '"', ':']))
                .then_some(begin..begin + end)
                .filter(|r| !r.is_empty());
        }
    }
    let bytes = rest.as_bytes();
    let mut end = 0;
    while let Some(byte) = bytes.get(end) {
        let separates = matches!(byte, b'&' | b';' | b',') && {
            let next = bytes[end + 1..].iter().take_while(|byte| is_name(**byte) || **byte == b' ').count();
            matches!(bytes.get(end + 1 + next), Some(b'=') | None) || bytes.get(end + 1) == Some(&b' ')
        };
        if *byte < b' ' || matches!(byte, b'"' | b'\'' | b'`') || separates || (*byte == b' ' && !line) {
            break;
        }
        end += 1;
    }
    // `Authorization: Bearer …` is one value; of other lines the first word is.
    if line && !["Bearer ", "Basic ", "Digest ", "Token "].iter().any(|scheme| rest.starts_with(scheme)) {
        end = rest[..end].find(' ').unwrap_or(end);
    }
    let none = end == 0 || rest.starts_with('[') || (line && rest.starts_with('/'));
    (!none).then_some(from..from + end)
}

/// Beginnings of tokens, and how many characters follow at least.
const TOKENS: &[(&str, usize)] = &[
    ("ghp_", 16),
    ("gho_", 16),
    ("ghu_", 16),
    ("ghs_", 16),
    ("ghr_", 16),
    ("github_pat_", 16),
    ("glpat-", 12),
    ("glptt-", 12),
    ("sk_live_", 8),
    ("sk_test_", 8),
    ("rk_live_", 8),
    ("rk_test_", 8),
    ("whsec_", 8),
    ("sk-ant-", 12),
    ("sk-proj-", 12),
    ("sk-", 32),
    ("xoxb-", 8),
    ("xoxp-", 8),
    ("xoxa-", 8),
    ("xoxr-", 8),
    ("xoxs-", 8),
    ("xapp-", 8),
    ("AKIA", 16),
    ("ASIA", 16),
    ("AIza", 30),
    ("npm_", 30),
    ("pypi-", 20),
    ("dop_v1_", 16),
    ("hf_", 20),
    ("SG.", 20),
    ("eyJ", 16),
    ("shpat_", 16),
    ("hvs.", 16),
];

/// No token of those is shorter.
const SHORTEST_TOKEN: usize = {
    let (mut shortest, mut at) = (usize::MAX, 0);
    while at < TOKENS.len() {
        let length = TOKENS[at].0.len() + TOKENS[at].1;
        shortest = if length < shortest { length } else { shortest };
        at += 1;
    }
    shortest
};

fn tokens(text: &str, found: &mut Vec<Range<usize>>) {
    let bytes = text.as_bytes();
    let inside = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.');
    let mut at = 0;
    while at < bytes.len() {
        let length = bytes[at..].iter().take_while(|byte| inside(**byte)).count();
        if length == 0 {
            at += 1;
            continue;
        }
        let word = &text[at..at + length];
        let is_token = length >= SHORTEST_TOKEN
            && TOKENS.iter().any(|(head, least)| {
                word.strip_prefix(head).is_some_and(|rest| match *head {
                    // A JSON web token has two or more parts, each in base64.
                    "eyJ" => rest.len() >= *least && rest.contains('.'),
                    "AKIA" | "ASIA" => {
                        rest.len() == *least && rest.bytes().all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit())
                    }
                    _ => rest.len() >= *least,
                })
            });
        if is_token {
            found.push(at..at + length);
        }
        at += length;
    }
    const KEY: &str = "PRIVATE KEY-----";
    let mut from = 0;
    while let Some(begin) = text[from..].find(KEY).map(|at| from + at + KEY.len()) {
        let end = text[begin..].find("-----END").map_or(text.len(), |at| begin + at);
        if end > begin && !text[begin..end].trim().is_empty() {
            found.push(begin..end);
        }
        from = text[end..].find(KEY).map_or(text.len(), |at| end + at + KEY.len());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_of_http_and_addresses_that_are_secret() {
        for (text, hidden) in [
            ("curl -H 'Authorization: Basic dXNlcjpwdw==' http://x", Some("dXNlcjpwdw==")),
            ("authorization:Bearer abc.def", Some("abc.def")),
            ("Authorization: Basic ${LOGIN}", None),
            ("Authorization: required", None),
            ("https://hooks.slack.com/services/T0/B0/xYz123 now", Some("T0/B0/xYz123")),
            ("https://discord.com/api/webhooks/12/ab-CD_3", Some("12/ab-CD_3")),
            ("https://hooks.slack.com/services/${HOOK}", None),
            ("https://hooks.slack.com/", None),
        ] {
            let found: Vec<&str> = find(text, false).into_iter().filter_map(|range| text.get(range)).collect();
            assert_eq!(found, hidden.into_iter().collect::<Vec<_>>(), "{text}");
        }
    }
}
