//! The line of a file that is shown under an error, with its secrets masked. A file with an error cannot be trusted to have its quotes in
//! place, so the rule is coarse: what follows the name of a secret is hidden up to the end of the line.

use std::ops::Range;

use devrun_model::secret_name::is_secret;
use devrun_model::secret_text;

use super::source_map::Text;
use devrun_model::suggest;

/// Which bytes of a line, counted from 1, are hidden; they may overlap.
pub(crate) fn hidden(text: &Text, number: usize) -> Vec<Range<usize>> {
    let (line, start) = text.line(number);
    let file = text.name.rsplit('/').next().unwrap_or(&text.name);
    let above = text.text.get(..start as usize).unwrap_or_default();
    let mut found = secret_text::find(line, true);
    let all = std::iter::once(0..line.len());
    if file.ends_with(".toml") {
        if in_secret_text(above) || in_secret_array(above) {
            found.extend(all);
        }
        found.extend(after_name(line).or_else(|| after_option(line)).map(|begin| begin..line.len()));
    } else if file.ends_with(".yml") || file.ends_with(".yaml") {
        found.extend(after_yaml_name(line).map(|begin| begin..line.len()));
    } else if text.is_env {
        if in_open_quote(above.lines()) {
            found.extend(all);
        } else {
            found.extend(env_value(line).map(|begin| begin..line.len()));
        }
    }
    found.retain(|stretch| !stretch.is_empty());
    found
}

/// Whether the name of a faulty line of an env file can be shown: it may be a value, as the lines of a key are.
pub(crate) fn is_showable_name(name: &str) -> bool {
    let first = name.split([' ', '\t']).next().unwrap_or_default();
    let secret = is_secret(first) && first.len() < name.len();
    name.len() <= 40 && !secret && !name.contains(['+', '/']) && !name.contains('"')
}

/// Where the value of a line of an env file begins, if it is hidden.
fn env_value(line: &str) -> Option<usize> {
    let start = line.len() - line.trim_start().len();
    if line[start..].is_empty() || line[start..].starts_with('#') {
        return None;
    }
    let Some(separator) = line.find(['=', ':']) else {
        // A name by itself is one; anything else may be a value.
        return (!is_variable(line.trim())).then_some(start);
    };
    let name = line[start..separator].trim_start_matches("export ").trim();
    if name.is_empty() || !is_showable_name(name) {
        return Some(start);
    }
    is_secret(name).then_some(separator + 1)
}

fn is_variable(name: &str) -> bool {
    name.len() <= 40 && name.bytes().all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit() || byte == b'_')
}

/// Whether a quoted value that begins above has not been closed. Quotes count at the beginning of a value only.
fn in_open_quote<'a>(lines: impl Iterator<Item = &'a str>) -> bool {
    let mut open: Option<char> = None;
    for line in lines {
        let rest = match open {
            Some(_) => line,
            None => {
                let value = line.split_once(['=', ':']).map(|(_, value)| value.trim_start()).unwrap_or_default();
                open = value.chars().next().filter(|c| matches!(c, '"' | '\''));
                value.get(1..).filter(|_| open.is_some()).unwrap_or_default()
            }
        };
        if open.is_some_and(|quote| rest.replace("\\\"", "").contains(quote)) {
            open = None;
        }
    }
    open.is_some()
}

/// Whether the lines end inside a text of several lines whose key is that of a secret.
///
/// A file can have a million lines before its error, so that they are gone through only where they hold such a mark.
fn in_secret_text(above: &str) -> bool {
    if !above.contains("\"\"\"") && !above.contains("'''") {
        return false;
    }
    let mut open: Option<(&str, bool)> = None;
    for line in above.lines() {
        let mut rest = line;
        loop {
            let mark = match open {
                Some((mark, _)) => mark,
                None if rest.find("\"\"\"") < rest.find("'''") && rest.contains("\"\"\"") || !rest.contains("'''") => "\"\"\"",
                None => "'''",
            };
            let Some((_, after)) = rest.split_once(mark) else { break };
            open = if open.is_some() { None } else { Some((mark, after_name(line).is_some())) };
            rest = after;
        }
    }
    open.is_some_and(|(_, secret)| secret)
}

/// Whether the lines end inside an array whose key is that of a secret, or right after an option such as `"--password",`.
fn in_secret_array(above: &str) -> bool {
    let last = above.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or_default();
    if after_option(last).is_some_and(|begin| matches!(last[begin..].trim(), "" | ",")) {
        return true;
    }
    let mut depth = 0_usize;
    let lines = if above.contains('[') { above.lines() } else { "".lines() };
    for line in lines {
        let from = match depth {
            0 if line.contains('[') => after_name(line).unwrap_or(line.len()),
            0 => continue,
            _ => 0,
        };
        let rest = &line[from..];
        depth = (depth + rest.matches('[').count()).saturating_sub(rest.matches(']').count());
    }
    depth > 0
}

/// Where the value begins that follows the first name of a secret in a line of TOML.
fn after_name(line: &str) -> Option<usize> {
    let is_name = |c: char| c.is_alphanumeric() || matches!(c, '_' | '-' | '.');
    for (at, _) in line.match_indices('=') {
        let head = line[..at].trim_end().trim_end_matches(['"', '\'']);
        let name = &head
            [head.rfind(|c: char| !is_name(c)).map_or(0, |end| end + head[end..].chars().next().map_or(1, char::len_utf8))..];
        let last = name.rsplit('.').next().unwrap_or(name);
        let typed = || suggest::nearest(last, ["password", "token", "secret"]).is_some();
        if last.is_empty() || !(is_secret(last) || typed()) || is_placeholder(&line[at + 1..]) {
            continue;
        }
        return Some(at + 1);
    }
    // `alter user u password …` of SQL.
    let at = line.to_ascii_lowercase().find(" password ")? + " password ".len();
    line.contains('=').then_some(at)
}

/// Where the value begins that follows the first name of a secret in a line of YAML: `NAME: value`, or `NAME=value` of a list.
fn after_yaml_name(line: &str) -> Option<usize> {
    let is_name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
    line.match_indices([':', '=']).find_map(|(at, _)| {
        let head = line[..at].trim_end_matches(['"', '\'', ' ']);
        let name = head.rsplit(|c: char| !is_name(c)).next().unwrap_or_default();
        let last = name.rsplit('.').next().unwrap_or(name);
        let value = line[at + 1..].trim();
        // A table or list that opens here holds no secret of this name.
        (is_secret(last) && !value.is_empty() && !value.starts_with(['[', '{']) && !is_placeholder(value)).then_some(at + 1)
    })
}

/// Where the words begin that follow an option such as `"--password"` in a list of words.
fn after_option(line: &str) -> Option<usize> {
    line.match_indices("\"--").find_map(|(at, mark)| {
        let name = line[at + mark.len()..].split(['"', '=']).next()?;
        is_secret(name).then_some(at + mark.len() + name.len() + 1).filter(|begin| *begin <= line.len())
    })
}

/// Whether a value is one placeholder and nothing else, or a number or a switch.
fn is_placeholder(value: &str) -> bool {
    let value = value.trim().trim_matches('"');
    let inner = value.strip_prefix("${").and_then(|rest| rest.strip_suffix('}'));
    inner.is_some_and(|inner| !inner.contains([':', '}', '$'])) || !value.is_empty() && secret_text::is_switch(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_of_a_faulty_line_are_hidden() {
        for (name, text, line) in [
            (".env", "DB_PASSWORD=correct horse S3KRIT ${x", 1),
            ("settings", "DB_PASSWORD=correct horse S3KRIT ${x", 1),
            (".env", "SSH_KEY=-----BEGIN OPENSSH PRIVATE KEY-----\nb3Blbn/S3KRIT+AA", 2),
            (".env", "SSH_KEY=-----BEGIN OPENSSH PRIVATE KEY-----\nb3Blbn/S3KRIT+AA==", 2),
            (".env", "DB_PASSWORD=\"a\"S3KRIT", 1),
            (".env", "A=\"open\nS3KRIT=x", 2),
            (".env", "DB_PASSWORD S3KRIT", 1),
            (".env", "=S3KRIT", 1),
            ("procfile.toml", "password=[\"S3KRIT\"]", 1),
            ("procfile.toml", "env={DB_PASSWORD=[\"S3KRIT\"]}", 1),
            ("procfile.toml", "run=[\"app\",\"--password\",\"S3KRIT\",\"${x\"]", 1),
            ("procfile.toml", "headers={Authorization=[\"S3KRIT\"]}", 1),
            ("procfile.toml", "set={requirepass=\"S3KRIT${x}\"}", 1),
            ("procfile.toml", "pasword=\"S3KRIT\"", 1),
            ("procfile.toml", "password = \"\"\"\nS3KRIT ${x", 2),
            ("procfile.toml", "password = [\n  \"S3KRIT\",", 2),
            ("procfile.toml", "password = [\n  \"a\", [\"b\"],\n  \"S3KRIT\"]", 3),
            ("procfile.toml", "run = [\"app\",\n  \"--password\",\n\n  \"S3KRIT\"]", 4),
            ("procfile.toml", "x=\"alter user u password S3KRIT ${x\"", 1),
        ] {
            let text = if name.ends_with(".toml") { Text::new(name, text.to_owned()) } else { Text::env(name, text.to_owned()) };
            let (shown, _) = text.line(line);
            let masked = devrun_model::mask::cover(shown, hidden(&text, line));
            assert!(!masked.contains("S3KRIT"), "{shown}: {masked}");
        }
        let lines_below = Text::new("procfile.toml", "passwords = [\n\"a\",\n]\nport = 99999999".to_owned());
        assert!(hidden(&lines_below, 4).is_empty());
        for line in ["PORT=abc", "MY VAR=5"] {
            assert!(hidden(&Text::env(".env", line.to_owned()), 1).is_empty(), "{line}");
        }
        for (name, line) in [
            ("procfile.toml", "run = \"x ${y\""),
            ("procfile.toml", "port = 99999999"),
            ("procfile.toml", "password = \"${NOPE}\""),
        ] {
            assert!(hidden(&Text::new(name, line.to_owned()), 1).is_empty(), "{line}");
        }
    }
}
