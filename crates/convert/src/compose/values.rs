//! The variables that a compose file is read with: the shell, then `.env` beside the file, as compose looks them up.
//!
//! What must be known while the file is mapped (images, policies, mounts, numbers) is filled in from here; everything else
//! keeps its placeholder, so that it stays variable.

use std::collections::BTreeMap;

use devrun_model::secret_name::is_secret;

use super::syntax;

/// One `NAME=VALUE` of an env file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct EnvLine {
    pub name: String,
    pub value: String,
    /// From 1.
    pub line: u32,
    /// Single-quoted: its dollars are dollars.
    pub literal: bool,
}

/// Variables by name.
#[derive(Debug, Clone, Default)]
pub(crate) struct Values {
    shell: BTreeMap<String, String>,
    dotenv: BTreeMap<String, String>,
    /// Bytes of all values that came out of env files.
    sum: usize,
}

impl Values {
    /// The values of variables whose names are those of secrets.
    pub(super) fn secrets(&self) -> impl Iterator<Item = &String> {
        self.shell.iter().chain(&self.dotenv).filter(|(name, _)| is_secret(name)).map(|(_, value)| value)
    }
}

/// Names of the shell that describe the machine: a path that begins with one stays variable.
const OF_THE_MACHINE: &[&str] =
    &["HOME", "PWD", "OLDPWD", "USER", "LOGNAME", "UID", "GID", "PATH", "SHELL", "HOSTNAME", "TMPDIR"];

/// Bytes of one value with its placeholders filled in, and of all values of the env files together; as for a procfile. A line that
/// repeats the one before it twice doubles it.
const LARGEST_VALUE: usize = 1 << 20;
const LARGEST_SUM: usize = 64 << 20;

/// Placeholders in the defaults of placeholders.
const DEEPEST: usize = 16;

impl Values {
    pub(crate) fn new(shell: &BTreeMap<String, String>) -> Self {
        let shell = shell.iter().filter(|(name, _)| !OF_THE_MACHINE.contains(&name.as_str()));
        Self { shell: shell.map(|(name, value)| (name.clone(), value.clone())).collect(), dotenv: BTreeMap::new(), sum: 0 }
    }

    /// Adds an env file; later files win. What would become too large stays as it is written: it is refused where a service reads it.
    pub(crate) fn read(&mut self, text: &str) {
        for line in env_lines(text) {
            let filled = if line.literal || self.sum >= LARGEST_SUM { None } else { self.fill(&line.value) };
            let value = filled.unwrap_or(line.value);
            self.sum += value.len();
            self.dotenv.insert(line.name, value);
        }
    }

    /// Whether an env file sets it.
    pub(crate) fn in_file(&self, name: &str) -> bool {
        self.dotenv.contains_key(name)
    }

    /// Counts a name as set by an env file that placeholders are fed from.
    pub(crate) fn add(&mut self, name: &str, value: &str) {
        self.dotenv.entry(name.to_owned()).or_insert_with(|| value.to_owned());
    }

    /// The value that compose would take.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.shell.get(name).or_else(|| self.dotenv.get(name)).map(String::as_str)
    }

    /// A text with its placeholders filled in; `None` where one has neither value nor default, and for one that would become too large.
    pub(crate) fn fill(&self, text: &str) -> Option<String> {
        self.filled(text, 0)
    }

    fn filled(&self, text: &str, depth: usize) -> Option<String> {
        if depth > DEEPEST {
            return None;
        }
        let word = |word: &str| self.filled(word, depth + 1);
        let mut out = String::with_capacity(text.len());
        let mut rest = text;
        while let Some(at) = rest.find('$') {
            out.push_str(&rest[..at]);
            let Some((hole, after)) = syntax::placeholder(&rest[at..]) else {
                // `$$` is a dollar, and so is one that begins nothing.
                out.push('$');
                rest = rest[at + 1..].strip_prefix('$').unwrap_or(&rest[at + 1..]);
                continue;
            };
            let value = self.get(hole.name);
            let full = value.filter(|value| !value.is_empty());
            let filled = match hole.operator {
                "" => value.map(str::to_owned),
                ":-" => full.map(str::to_owned).or_else(|| word(hole.word)),
                "-" => value.map(str::to_owned).or_else(|| word(hole.word)),
                ":?" => full.map(str::to_owned),
                "?" => value.map(str::to_owned),
                ":+" => full.map_or_else(|| Some(String::new()), |_| word(hole.word)),
                _ => value.map_or_else(|| Some(String::new()), |_| word(hole.word)),
            };
            let filled = filled?;
            if out.len() + filled.len() > LARGEST_VALUE {
                return None;
            }
            out.push_str(&filled);
            rest = after;
        }
        out.push_str(rest);
        (out.len() <= LARGEST_VALUE.max(text.len())).then_some(out)
    }
}

/// The lines of an env file; those that set nothing are left out.
pub(crate) fn env_lines(text: &str) -> Vec<EnvLine> {
    let mut found = Vec::new();
    let mut lines = text.strip_prefix('\u{feff}').unwrap_or(text).lines().zip(1u32..);
    while let Some((line, number)) = lines.next() {
        let line = line.trim();
        let line = line.strip_prefix("export").filter(|rest| rest.starts_with(char::is_whitespace)).unwrap_or(line).trim_start();
        let Some((name, value)) = line.split_once('=') else { continue };
        let name = name.trim_end();
        if name.is_empty() || !name.chars().all(|char| char.is_ascii_alphanumeric() || "_.-".contains(char)) {
            continue;
        }
        let value = value.trim_start();
        let quote = value.chars().next().filter(|char| matches!(char, '"' | '\''));
        let value = match quote {
            Some(quote) => {
                let mut inside = value[1..].to_owned();
                // A quoted value may go over several lines.
                while end_of_quote(&inside, quote).is_none() {
                    let Some((more, _)) = lines.next() else { break };
                    inside.push('\n');
                    inside.push_str(more);
                }
                let end = end_of_quote(&inside, quote).unwrap_or(inside.len());
                let inside = &inside[..end];
                if quote == '"' {
                    inside.replace("\\n", "\n").replace("\\\"", "\"").replace("\\\\", "\\")
                } else {
                    inside.to_owned()
                }
            }
            None => {
                let end = value.find(" #").or_else(|| value.find("\t#")).unwrap_or(value.len());
                if value.starts_with('#') { String::new() } else { value[..end].trim_end().to_owned() }
            }
        };
        found.push(EnvLine { name: name.to_owned(), value, line: number, literal: quote == Some('\'') });
    }
    found
}

/// Where the closing quote stands.
fn end_of_quote(text: &str, quote: char) -> Option<usize> {
    let mut escaped = false;
    for (at, char) in text.char_indices() {
        match char {
            '\\' if quote == '"' && !escaped => escaped = true,
            char if char == quote && !escaped => return Some(at),
            _ => escaped = false,
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn env_files_in_every_notation() {
        let text = "\u{feff}# c\nA=1\nexport B = two words # c\nC='$x'\nD=\"a\\nb\"\nE=\nF=\"one\ntwo\"\nnot a line\n1G=x#y\n";
        let found: Vec<_> = env_lines(text).into_iter().map(|line| (line.name, line.value, line.line)).collect();
        let expected = [
            ("A", "1", 2),
            ("B", "two words", 3),
            ("C", "$x", 4),
            ("D", "a\nb", 5),
            ("E", "", 6),
            ("F", "one\ntwo", 7),
            ("1G", "x#y", 10),
        ];
        let expected: Vec<_> = expected.map(|(name, value, line)| (name.to_owned(), value.to_owned(), line)).into();
        assert_eq!(found, expected);
    }

    #[test]
    fn values_are_looked_up_as_compose_does() {
        let mut values = Values::new(&[("S".to_owned(), "shell".to_owned()), ("HOME".to_owned(), "/h".to_owned())].into());
        values.read("S=file\nF=${S}-x\nL='${S}'\nN=\n");
        let table = [
            ("$S/${F}", Some("shell/shell-x")),
            ("${L}", Some("${S}")),
            ("${N:-d}${N-e}", Some("d")),
            ("${U:-a${S}}", Some("ashell")),
            ("${U}", None),
            ("${U:?x}", None),
            ("${S:+y}${U:+z}", Some("y")),
            ("$$S", Some("$S")),
            ("${HOME}/x", None),
            ("5$", Some("5$")),
        ];
        for (text, expected) in table {
            assert_eq!(values.fill(text).as_deref(), expected, "{text}");
        }
    }

    #[test]
    fn what_would_become_too_large_stays_as_it_is_written() {
        let mut values = Values::default();
        let mut text = "V0=aaaaaaaa\n".to_owned();
        for number in 1..60 {
            text.push_str(&format!("V{number}=${{V{last}}}${{V{last}}}\n", last = number - 1));
        }
        values.read(&text);
        assert_eq!(values.get("V17").map(str::len), Some(LARGEST_VALUE));
        assert_eq!(values.get("V18"), Some("${V17}${V17}"));
        assert_eq!(values.fill("${V17}x"), None);
        // Many that are just small enough.
        values.read(&"W=${V17}\n".repeat(200));
        assert_eq!(values.get("W"), Some("${V17}"));
        assert_eq!(values.fill(&format!("{}x{}", "${U:-".repeat(100_000), "}".repeat(100_000))), None);
    }
}
