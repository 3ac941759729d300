//! The tests of all crates as text: their lines, and their functions. `test_hygiene.rs` has the rules.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use regex::Regex;

/// A file that holds tests.
pub(crate) struct TestFile {
    /// From the root of the workspace.
    pub name: String,
    /// The number of its first line of tests, from 1.
    first: usize,
    /// Its lines from there.
    lines: Vec<String>,
}

/// A function in a file of tests.
pub(crate) struct TestFunction {
    /// File and line.
    pub at: String,
    /// Its name.
    pub name: String,
    /// Whether a test runner calls it.
    pub is_test: bool,
    /// How far its first line is indented.
    pub indent: usize,
    /// Its lines, the first one as well, without comments.
    pub lines: Vec<String>,
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Every Rust file below a directory.
fn rust_files(top: &Path) -> Vec<PathBuf> {
    let (mut found, mut directories) = (Vec::new(), vec![top.to_path_buf()]);
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(&directory).into_iter().flatten().flatten() {
            let path = entry.path();
            if path.is_dir() {
                directories.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}

/// Whether an attribute is that of unit tests, on every platform or on some.
fn is_test_attribute(line: &str) -> bool {
    line.trim() == "#[cfg(test)]" || line.trim().starts_with("#[cfg(all(test,")
}

/// The line, from 0, with which the unit tests of a source begin, and the names of the modules that are tests as a whole.
fn unit_tests(text: &str) -> (Option<usize>, Vec<String>) {
    let lines: Vec<&str> = text.lines().collect();
    let (mut begin, mut modules) = (None, Vec::new());
    for (at, _) in lines.iter().enumerate().filter(|(_, line)| is_test_attribute(line)) {
        let item = lines[at + 1..].iter().map(|line| line.trim()).find(|line| !line.starts_with("#[")).unwrap_or_default();
        let Some((_, module)) = item.split_once("mod ") else { continue };
        match module.strip_suffix(';') {
            Some(name) => modules.push(name.to_owned()),
            None => begin = begin.or(Some(at)),
        }
    }
    (begin, modules)
}

/// All files with tests: those below `tests`, the modules of the sources that are tests alone, and the sources from their tests on.
pub(crate) fn test_files() -> Vec<TestFile> {
    let mut whole: BTreeSet<PathBuf> = rust_files(&root().join("tests")).into_iter().collect();
    let mut sources = rust_files(&root().join("src"));
    for entry in fs::read_dir(root().join("crates")).expect("our own directory").flatten() {
        whole.extend(rust_files(&entry.path().join("tests")));
        sources.extend(rust_files(&entry.path().join("src")));
    }
    let mut files = Vec::new();
    for path in &sources {
        let text = fs::read_to_string(path).expect("our own source");
        let (begin, modules) = unit_tests(&text);
        let is_directory_file = ["lib.rs", "main.rs", "mod.rs"].iter().any(|name| path.ends_with(name));
        let inside = if is_directory_file { path.with_file_name("") } else { path.with_extension("") };
        for module in modules {
            whole.insert(inside.join(format!("{module}.rs")));
            whole.extend(rust_files(&inside.join(module)));
        }
        files.extend(begin.map(|begin| TestFile::new(path, &text, begin)));
    }
    // A file that is tests as a whole may open some of its own.
    files.retain(|file| !whole.contains(&root().join(&file.name)));
    for path in whole.iter().filter(|path| path.is_file()) {
        files.push(TestFile::new(path, &fs::read_to_string(path).expect("our own source"), 0));
    }
    files.sort_by(|one, other| one.name.cmp(&other.name));
    files
}

impl TestFile {
    fn new(path: &Path, text: &str, begin: usize) -> Self {
        Self {
            name: path.strip_prefix(root()).unwrap_or(path).display().to_string(),
            first: begin + 1,
            lines: text.lines().skip(begin).map(str::to_owned).collect(),
        }
    }

    /// Each line with its place.
    pub fn lines(&self) -> impl Iterator<Item = (String, &str)> {
        self.lines.iter().enumerate().map(|(at, line)| (self.place(at), line.as_str()))
    }

    fn place(&self, at: usize) -> String {
        format!("{}:{}", self.name, self.first + at)
    }

    /// The names in `trials![…]`, which are the tests of `tests/real`.
    fn trials(&self) -> Vec<String> {
        let text = self.lines.join("\n");
        let lists = text.split("trials![").skip(1).filter_map(|rest| rest.split(']').next());
        let words = |list: &str| -> Vec<String> {
            list.lines()
                .filter(|line| !line.trim_start().starts_with("//"))
                .flat_map(|line| line.split(|char: char| !(char.is_alphanumeric() || char == '_')))
                .filter(|word| !word.is_empty())
                .map(str::to_owned)
                .collect()
        };
        lists.flat_map(words).collect()
    }

    /// Its functions. One ends with the first brace that stands where it begins; what is inside a raw string is passed over.
    pub fn functions(&self) -> Vec<TestFunction> {
        let head = Regex::new(r"^\s*(?:pub(?:\([^)]*\))? )?(?:const )?(?:async )?fn (\w+)").expect("a pattern");
        let trials = self.trials();
        let (mut found, mut is_attributed) = (Vec::new(), false);
        for (at, line) in self.lines.iter().enumerate() {
            let trimmed = line.trim_start();
            if trimmed.starts_with("#[test") || trimmed.starts_with("#[tokio::test") {
                is_attributed = true;
            }
            let Some(name) = head.captures(line).map(|captures| captures[1].to_owned()) else { continue };
            let indent = line.len() - trimmed.len();
            let last = format!("{}}}", " ".repeat(indent));
            let (mut raw, mut lines) = (None::<String>, Vec::new());
            for line in &self.lines[at..] {
                match &raw {
                    Some(end) if line.contains(end.as_str()) => raw = None,
                    Some(_) => continue,
                    None => raw = opened_raw_string(line),
                }
                lines.push(if line.trim_start().starts_with("//") { String::new() } else { line.clone() });
                if *line == last || lines.len() == 1 && line.ends_with(['}', ';']) {
                    break;
                }
            }
            let is_test = is_attributed || trials.contains(&name);
            is_attributed = false;
            found.push(TestFunction { at: self.place(at), name, is_test, indent, lines });
        }
        found
    }
}

/// The end of a raw string that a line opens and does not close.
fn opened_raw_string(line: &str) -> Option<String> {
    ["r##\"", "r#\""].iter().find_map(|open| {
        let (_, rest) = line.rsplit_once(open)?;
        let end = format!("\"{}", &open[1..open.len() - 1]);
        (!rest.contains(&end)).then_some(end)
    })
}

#[test]
fn unit_tests_of_single_platforms_and_whole_modules_are_found() {
    let text = "mod a;\n#[cfg(test)]\nmod tests;\n#[cfg(all(test, target_os = \"linux\"))]\nmod world;\nfn f() {}\n";
    assert_eq!(unit_tests(text), (None, vec!["tests".to_owned(), "world".to_owned()]));
    let text = "fn f() {}\n\n#[cfg(all(test, target_os = \"linux\"))]\n#[expect(x)]\nmod tests {\n}\n";
    assert_eq!(unit_tests(text), (Some(2), Vec::new()));
    assert_eq!(unit_tests("#[cfg(test)]\nuse x::y;\nfn f() {}\n"), (None, Vec::new()));
}

#[test]
fn functions_end_where_they_end() {
    let text = "trials![one, two];\nfn one() {\n    f(r#\"\n}\n\"#);\n    assert!(x);\n}\nfn f() { g() }\n#[test]\nfn three() {\n    // f()\n}\n";
    let file = TestFile { name: "x.rs".to_owned(), first: 1, lines: text.lines().map(str::to_owned).collect() };
    let found: Vec<_> = file.functions().into_iter().map(|one| (one.at, one.name, one.is_test, one.lines.len())).collect();
    let one = |at: &str, name: &str, is_test, lines| (at.to_owned(), name.to_owned(), is_test, lines);
    assert_eq!(found, [one("x.rs:2", "one", true, 5), one("x.rs:8", "f", false, 1), one("x.rs:10", "three", true, 3)]);
}
