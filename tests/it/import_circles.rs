//! No two files of a crate import each other, directly or through others: what a file needs lies below it, and it can be
//! read, moved and tested without what lies above.
//!
//! An edge is a `use` of, or a path into, a file of the same crate. A name that a `mod.rs` or `lib.rs` only passes on counts
//! as one of the file that holds it. Methods are not seen: a type may have them in files above its own.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use crate::source_tree::{is_comment, none, sources};

/// Directories whose circles are not broken up yet; each entry goes with the circles in it.
const NOT_YET: &[&str] = &["crates/runtime/src/engine/", "src/app/"];

/// A file of a crate.
struct CrateFile {
    of: String,
    path: String,
    /// The module that it is.
    module: Vec<String>,
    code: String,
}

impl CrateFile {
    fn new(of: &str, path: &str, code: &str) -> Self {
        let below = path.split_once("src/").map_or(path, |(_, below)| below);
        let mut module: Vec<String> =
            Path::new(below).with_extension("").iter().map(|part| part.to_string_lossy().into_owned()).collect();
        if module.last().is_some_and(|last| matches!(last.as_str(), "mod" | "lib" | "main")) {
            module.pop();
        }
        let lines = code.lines().filter(|line| !is_comment(line)).map(|line| line.split(" //").next().unwrap_or(line));
        let code = lines.collect::<Vec<_>>().join("\n");
        Self { of: of.to_owned(), path: path.to_owned(), module, code }
    }

    /// The text of each `use`, and whether others see what it brings; then the code without them.
    fn uses(&self) -> (Vec<(bool, &str)>, String) {
        let (mut uses, mut rest, mut left) = (Vec::new(), String::new(), self.code.as_str());
        while let Some(at) = left.find("use ") {
            let (before, from) = left.split_at(at);
            let line = before.rsplit('\n').next().unwrap_or(before).trim();
            let is_statement = line.is_empty() || line == "pub" || (line.starts_with("pub(") && line.ends_with(')'));
            rest.push_str(before);
            match from.split_once(';') {
                Some((tree, after)) if is_statement => {
                    uses.push((!line.is_empty(), &tree["use ".len()..]));
                    left = after;
                }
                _ => {
                    rest.push_str("use ");
                    left = &from["use ".len()..];
                }
            }
        }
        rest.push_str(left);
        (uses, rest)
    }
}

/// The leaves of a `use`: each path, and the name that it has here.
fn leaves(tree: &str) -> Vec<(Vec<String>, String)> {
    let tree = tree.trim();
    let segments = |path: &str| -> Vec<String> {
        path.split("::").map(str::trim).filter(|part| !part.is_empty()).map(str::to_owned).collect()
    };
    let Some((before, group)) = tree.strip_suffix('}').and_then(|tree| tree.split_once('{')) else {
        let (path, name) = tree.split_once(" as ").map_or((tree, None), |(path, name)| (path, Some(name.trim())));
        let path = segments(path);
        let name = name.map(str::to_owned).or_else(|| path.last().cloned()).unwrap_or_default();
        return vec![(path, name)];
    };
    let (mut parts, mut depth) = (vec![String::new()], 0);
    for char in group.chars() {
        match char {
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 0 => {
                parts.push(String::new());
                continue;
            }
            _ => {}
        }
        parts.last_mut().expect("there is one").push(char);
    }
    let prefix = segments(before);
    let inner = parts.iter().filter(|part| !part.trim().is_empty()).flat_map(|part| leaves(part));
    inner
        .map(|(path, name)| {
            let mut whole = prefix.clone();
            whole.extend(path);
            // `a::{self}` is `a`.
            if whole.len() > 1 && whole.last().is_some_and(|last| last == "self") {
                whole.pop();
            }
            let name = if name == "self" { whole.last().cloned().unwrap_or_default() } else { name };
            (whole, name)
        })
        .collect()
}

/// The paths in code that begin with `crate`, `self` or `super`.
fn paths(code: &str) -> Vec<Vec<String>> {
    let is_word = |char: char| char.is_alphanumeric() || char == '_';
    let mut found = Vec::new();
    for start in ["crate::", "self::", "super::"] {
        for (at, _) in code.match_indices(start) {
            let before = code[..at].chars().next_back();
            if before.is_some_and(|char| is_word(char) || char == ':' || char == '$' || char == '"') {
                continue;
            }
            let path = code[at..].split(|char: char| !is_word(char) && char != ':').next().unwrap_or_default();
            found.push(path.split("::").filter(|part| !part.is_empty()).map(str::to_owned).collect());
        }
    }
    found
}

/// Where names of modules lead.
struct Modules {
    files: BTreeMap<(String, Vec<String>), usize>,
    /// What a module passes on: the name, and the path that it stands for.
    passed_on: BTreeMap<(String, Vec<String>), BTreeMap<String, Vec<String>>>,
}

impl Modules {
    fn of(files: &[CrateFile]) -> Self {
        let by_module = files.iter().enumerate().map(|(at, file)| ((file.of.clone(), file.module.clone()), at)).collect();
        let mut modules = Self { files: by_module, passed_on: BTreeMap::new() };
        for file in files {
            let uses = file.uses().0.into_iter().filter(|(is_public, _)| *is_public);
            for (path, name) in uses.flat_map(|(_, tree)| leaves(tree)) {
                if let Some(path) = modules.absolute(file, &path) {
                    modules.passed_on.entry((file.of.clone(), file.module.clone())).or_default().insert(name, path);
                }
            }
        }
        modules
    }

    /// A path from the crate's root; `None`: it leads out of the crate.
    fn absolute(&self, file: &CrateFile, path: &[String]) -> Option<Vec<String>> {
        let mut base = file.module.clone();
        let mut rest = path;
        match path.first()?.as_str() {
            "crate" => (base, rest) = (Vec::new(), &path[1..]),
            "self" => rest = &path[1..],
            "super" => {
                while rest.first().is_some_and(|part| part == "super") {
                    base.pop();
                    rest = &rest[1..];
                }
            }
            first => {
                let child: Vec<String> = base.iter().cloned().chain([first.to_owned()]).collect();
                if !self.files.contains_key(&(file.of.clone(), child)) {
                    return None;
                }
            }
        }
        base.extend(rest.iter().cloned());
        Some(base)
    }

    /// The file that holds what a path names.
    fn holder(&self, of: &str, path: &[String], depth: usize) -> Option<usize> {
        let end = (0..=path.len()).rev().find(|end| self.files.contains_key(&(of.to_owned(), path[..*end].to_vec())))?;
        let module = (of.to_owned(), path[..end].to_vec());
        if let Some(further) = path.get(end).and_then(|name| self.passed_on.get(&module)?.get(name)).filter(|_| depth < 8) {
            let whole: Vec<String> = further.iter().chain(&path[end + 1..]).cloned().collect();
            return self.holder(of, &whole, depth + 1);
        }
        self.files.get(&module).copied()
    }
}

/// Which files each file needs.
fn edges(files: &[CrateFile]) -> Vec<BTreeSet<usize>> {
    let modules = Modules::of(files);
    let needs = |(at, file): (usize, &CrateFile)| {
        let (uses, rest) = file.uses();
        let own = uses.into_iter().filter(|(is_public, _)| !is_public).flat_map(|(_, tree)| leaves(tree));
        let all = own.map(|(path, _)| path).chain(paths(&rest));
        let absolute = all.filter_map(|path| modules.absolute(file, &path));
        absolute.filter_map(|path| modules.holder(&file.of, &path, 0)).filter(|other| *other != at).collect()
    };
    files.iter().enumerate().map(needs).collect()
}

/// The circles: files that need one another.
fn circles(edges: &[BTreeSet<usize>]) -> Vec<Vec<usize>> {
    let reached = |from: usize| {
        let (mut seen, mut queue) = (BTreeSet::new(), vec![from]);
        while let Some(at) = queue.pop() {
            queue.extend(edges[at].iter().filter(|next| seen.insert(**next)));
        }
        seen
    };
    let reach: Vec<BTreeSet<usize>> = (0..edges.len()).map(reached).collect();
    let mut found: Vec<Vec<usize>> = Vec::new();
    for at in (0..edges.len()).filter(|at| reach[*at].contains(at)) {
        if !found.iter().any(|circle| circle.contains(&at)) {
            found.push(reach[at].iter().copied().filter(|other| reach[*other].contains(&at)).collect());
        }
    }
    found
}

#[test]
fn no_files_of_a_crate_import_each_other() {
    let files: Vec<CrateFile> = sources()
        .iter()
        .map(|source| {
            let code: Vec<&str> = source.code().map(|(_, line)| line).collect();
            CrateFile::new(&source.of, &source.path.display().to_string(), &code.join("\n"))
        })
        .collect();
    let edges = edges(&files);
    assert!(edges.iter().map(BTreeSet::len).sum::<usize>() > files.len(), "the graph has edges");
    let excused = |circle: &[usize]| NOT_YET.iter().any(|place| circle.iter().all(|at| files[*at].path.starts_with(place)));
    let broken: Vec<String> = circles(&edges)
        .iter()
        .filter(|circle| !excused(circle))
        .flat_map(|circle| {
            let inside = circle.iter().flat_map(|from| edges[*from].iter().map(move |to| (*from, *to)));
            inside.filter(|(_, to)| circle.contains(to)).map(|(from, to)| format!("{} -> {}", files[from].path, files[to].path))
        })
        .collect();
    none(&broken, "files that import each other");
}

#[test]
fn a_circle_is_seen_through_what_a_module_passes_on() {
    let file = |path: &str, code: &str| CrateFile::new("x", path, code);
    let files = [
        file(
            "crates/x/src/lib.rs",
            "mod a;\nmod b;\nmod c;\npub use a::Alpha;\npub(crate) use b::{self as beta, Beta as Other};",
        ),
        file("crates/x/src/a.rs", "use super::{\n    c,\n    Other,\n};"),
        file("crates/x/src/b.rs", "fn f() -> crate::Alpha {}\n// use super::c;"),
        file("crates/x/src/c.rs", "use std::io;\n/// See [`super::a`].\nfn because() {}"),
        file("crates/x/src/d/mod.rs", "mod e;\npub use self::e::Epsilon;"),
        file("crates/x/src/d/e.rs", "use super::super::c::{self, Gamma as Third};\nuse super::Epsilon;"),
    ];
    let edges = edges(&files);
    let paths =
        |of: &BTreeSet<usize>| of.iter().map(|at| files[*at].path["crates/x/src/".len()..].to_owned()).collect::<Vec<_>>();
    let seen: Vec<Vec<String>> = edges.iter().map(paths).collect();
    assert_eq!(seen, [vec![], vec!["b.rs", "c.rs"], vec!["a.rs"], vec![], vec![], vec!["c.rs"]]);
    assert_eq!(circles(&edges), [[1, 2]]);
}
