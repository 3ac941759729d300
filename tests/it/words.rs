//! The words of everything a user reads: string literals and documentation may not use what stands in [`AVOIDED`]. Plain words for
//! each are next to it. Help texts are in `docs/reference-cli.md`, so they are checked as well. Comments and unit tests are not.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use regex::Regex;

/// A pattern, in any case of letters and as whole words, and what to write instead.
const AVOIDED: &[(&str, &str)] = &[
    (r"(?:is|are) no(?: (?P<next>\w+))?", "`invalid X`, `unknown X`, `missing X`, `not a X`"),
    (r"to be had|be had", "cannot be found, available"),
    (r"mend(?:s|ed|ing)?", "fix"),
    (r"told", "notified, reported, or name what is sent"),
    (r"anew", "again, or `recreate`"),
    (r"whoever|whomever", "name who it is: the caller, the client"),
    (r"nobody|somebody", "another process, another user, `no service`"),
    (r"beside", "next to, with, as well as"),
    (r"go(?:es)? on(?: (?P<after>\w+))?", "keeps running, continues"),
    (r"in vain", "say what fails"),
    (r"of ours", "of devrun, own"),
    (r"folders?", "directory"),
    (r"verbs?", "command"),
    (r"proved gone|whether all is well|sit down at|in our place|looks again|the same again", "see the table in the style guide"),
];

/// After `is no`: usual English.
const USUAL: [&str; 4] = ["longer", "more", "less", "fewer"];

/// Texts in which such a word is right, and why.
const ALLOWED: &[(&str, &str)] = &[
    ("verbs", "a key of the Kubernetes API"),
    ("nobody", "the user of that name"),
    ("FOLDER", "a part of variable names that says what a value is"),
];

/// A text that users see, and where.
struct Text {
    at: String,
    text: String,
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn files(top: &Path, extension: &str) -> Vec<PathBuf> {
    let (mut found, mut directories) = (Vec::new(), vec![top.to_path_buf()]);
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(&directory).into_iter().flatten().flatten() {
            let path = entry.path();
            if path.is_dir() && !path.ends_with("tests") {
                directories.push(path);
            } else if path.extension().is_some_and(|found| found == extension)
                && path.file_stem().is_none_or(|stem| stem != "tests")
            {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}

/// The string literals of a source, each with its line, up to the unit tests.
fn literals(source: &str) -> Vec<(usize, String)> {
    let bytes = source.as_bytes();
    let tests = source.match_indices("\n#[cfg(").map(|(at, _)| at).find(|at| {
        let mut lines = source[at + 1..].lines();
        lines.next().is_some_and(|line| line.contains("test")) && lines.next().is_some_and(|line| line.starts_with("mod "))
    });
    let end = tests.unwrap_or(source.len());
    let (mut at, mut found) = (0, Vec::new());
    let line_of = |at: usize| 1 + bytes[..at].iter().filter(|byte| **byte == b'\n').count();
    while at < end {
        let rest = &source[at..];
        if rest.starts_with("//") {
            at += rest.find('\n').unwrap_or(rest.len());
        } else if rest.starts_with("/*") {
            at += rest.find("*/").map_or(rest.len(), |length| length + 2);
        } else if let Some(hashes) = raw_string(source, at) {
            let opened = at + hashes + 2;
            let close = format!("\"{}", "#".repeat(hashes));
            let length = source[opened..].find(&close).unwrap_or(source.len() - opened);
            found.push((line_of(at), source[opened..opened + length].to_owned()));
            at = opened + length + close.len();
        } else if rest.starts_with('"') {
            let mut close = at + 1;
            while close < bytes.len() && bytes[close] != b'"' {
                close += if bytes[close] == b'\\' { 2 } else { 1 };
            }
            found.push((line_of(at), unescaped(&source[at + 1..close.min(source.len())])));
            at = close + 1;
        } else if let Some(length) = character(rest) {
            at += length;
        } else {
            at += rest.chars().next().map_or(1, char::len_utf8);
        }
    }
    found
}

/// The number of `#` of a raw string that begins here.
fn raw_string(source: &str, at: usize) -> Option<usize> {
    let rest = source[at..].strip_prefix('r')?;
    let is_name = |char: char| char.is_alphanumeric() || char == '_';
    // `br` is one, the end of a name is none.
    let before = source[..at].trim_end_matches('b');
    if source[..at].chars().next_back().is_some_and(is_name) && before.chars().next_back().is_some_and(is_name) {
        return None;
    }
    let hashes = rest.bytes().take_while(|byte| *byte == b'#').count();
    rest[hashes..].starts_with('"').then_some(hashes)
}

/// The length of a character literal; a lifetime is none.
fn character(rest: &str) -> Option<usize> {
    let inside = rest.strip_prefix('\'')?;
    if let Some(escaped) = inside.strip_prefix('\\') {
        let first = escaped.chars().next()?.len_utf8();
        return escaped[first..].find('\'').map(|length| 2 + first + length + 1);
    }
    let length = inside.chars().next()?.len_utf8();
    inside[length..].starts_with('\'').then_some(length + 2)
}

/// What matters of a literal: escapes are blanks, and so is an escaped line break with the indentation behind it.
fn unescaped(literal: &str) -> String {
    let mut text = String::new();
    let mut rest = literal;
    while let Some((before, after)) = rest.split_once('\\') {
        text.push_str(before);
        rest = match after.strip_prefix('\n') {
            Some(next_line) => next_line.trim_start(),
            None => {
                text.push(' ');
                after.get(after.chars().next().map_or(0, char::len_utf8)..).unwrap_or_default()
            }
        };
    }
    text + rest
}

fn texts() -> Vec<Text> {
    let mut found = Vec::new();
    let mut add = |path: &Path, texts: Vec<(usize, String)>| {
        let name = path.strip_prefix(root()).unwrap_or(path).display().to_string();
        found.extend(texts.into_iter().map(|(line, text)| Text { at: format!("{name}:{line}"), text }));
    };
    let crates = fs::read_dir(root().join("crates")).expect("our own directory").flatten().map(|entry| entry.path().join("src"));
    for top in crates.chain([root().join("src")]) {
        for file in files(&top, "rs") {
            let source = fs::read_to_string(&file).expect("our own source");
            add(&file, literals(&source));
        }
    }
    let documents = ["README.md", "CONTRIBUTING.md", "SECURITY.md"].map(|name| root().join(name));
    let pages = fs::read_dir(root().join("docs")).expect("our own directory").flatten().map(|entry| entry.path());
    for file in documents.into_iter().chain(pages.filter(|path| path.extension().is_some_and(|extension| extension == "md"))) {
        let text = fs::read_to_string(&file).expect("our own text");
        add(&file, text.lines().enumerate().map(|(at, line)| (at + 1, line.to_owned())).collect());
    }
    found
}

/// The avoided words in a text, with what to write instead.
fn avoided(text: &str, patterns: &[(Regex, &'static str)]) -> Vec<(String, &'static str)> {
    let mut found = Vec::new();
    if ALLOWED.iter().any(|(whole, _)| *whole == text) {
        return found;
    }
    // The names of what is filled in are not read.
    let text = PLACEHOLDERS.replace_all(text, " ");
    for (pattern, instead) in patterns {
        for captures in pattern.captures_iter(&text) {
            let is_usual = |name: &str, usual: &[&str]| captures.name(name).is_some_and(|word| usual.contains(&word.as_str()));
            if !is_usual("next", &USUAL) && !is_usual("after", &["standard"]) {
                found.push((captures[0].to_owned(), *instead));
            }
        }
    }
    found
}

static PLACEHOLDERS: LazyLock<Regex> = LazyLock::new(|| Regex::new(r"\{[a-z_]*(?::[^}]*)?\}").expect("a pattern"));

fn patterns() -> Vec<(Regex, &'static str)> {
    let whole = |pattern: &str| Regex::new(&format!(r"(?i)\b(?:{pattern})\b")).expect("a pattern");
    AVOIDED.iter().map(|(pattern, instead)| (whole(pattern), *instead)).collect()
}

#[test]
fn texts_for_users_are_in_plain_words() {
    let patterns = patterns();
    let texts = texts();
    assert!(texts.len() > 5000, "{} texts", texts.len());
    let found: Vec<String> = texts
        .iter()
        .flat_map(|text| avoided(&text.text, &patterns).into_iter().map(move |found| (text, found)))
        .map(|(text, (word, instead))| format!("{}: {word:?} (write: {instead}): {}", text.at, text.text.trim()))
        .collect();
    assert!(found.is_empty(), "{} avoided words:\n  {}", found.len(), found.join("\n  "));
}

#[test]
fn each_exception_is_needed() {
    let texts = texts();
    for (whole, why) in ALLOWED {
        assert!(texts.iter().any(|text| text.text == *whole), "{whole:?} ({why}) is not used");
    }
}

#[test]
fn the_reader_of_literals_sees_all_kinds() {
    let source = r##"
// "a comment" with told
const A: &str = "plain \"told\" \
    on"; /* "anew" */ let c = '"'; let d = '\''; let l: &'static str = r#"raw "folder""#;
fn f<'a>(x: &'a str) { bytes(b"verb"); br"mend"; for_r("x") }
#[cfg(test)]
mod tests {
    const B: &str = "nobody";
}
"##;
    let found: Vec<String> = literals(source).into_iter().map(|(_, text)| text).collect();
    assert_eq!(found, ["plain  told  on", "raw \"folder\"", "verb", "mend", "x"]);
    assert_eq!(literals(source)[1].0, 4);
}

#[test]
fn avoided_words_are_found_as_whole_words() {
    let patterns = patterns();
    let words = |text: &str| avoided(text, &patterns).into_iter().map(|(word, _)| word).collect::<Vec<_>>();
    assert_eq!(words("`x` is no port"), ["is no port"]);
    assert_eq!(words("it is no longer running"), [""; 0]);
    assert_eq!(words("besides, a foldered commendation"), [""; 0]);
    assert_eq!(words("Whoever is told goes on in vain"), ["told", "Whoever", "goes on in", "in vain"]);
    assert_eq!(words("nobody"), [""; 0]);
    assert_eq!(words("`devrun {verb}` in {folder:?}"), [""; 0]);
    assert_eq!(words("nobody listens"), ["nobody"]);
}
