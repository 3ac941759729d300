//! `[config]`: the text of the generated env file, from its template, the files of the keys folder, cached secrets and
//! computed addresses. Pure: the same inputs give the same bytes, and nothing in the file tells when it was written.
//!
//! A value is filled in and then quoted anew, so that a password with quotes, blanks or dollars stays one value however
//! its line in the template is written. Comments and blank lines stay as they are. The first lines are ours: they say by
//! what the file may be overwritten or deleted, and a hash of the rest in them tells whether somebody has edited it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::PathBuf;

use sha2::{Digest as _, Sha256};

use super::absolute_path::absolute;
use super::diagnostic::{Diagnostic, Report, Severity};
use super::dotenv::{self, TemplateVariable};
use super::interpolate::{Reported, Resolved, Resolver, Scope};
use super::requirements::{is_placeholder, required};
use super::source_map::{Span, Text};
use super::template::{self, Hole, Name, Operator, Part};
use super::toml_node::{TomlNode, get};
use super::{Document, Facts, masked_values};
use devrun_model::hex::hex;

/// How the second line of each file of ours begins; the hash of what follows that line comes after it.
pub const STAMP: &str = "# devrun: written by `devrun config write`; sha256 ";
/// What an unset variable becomes where the procfile does not say.
const MISSING: &str = "NEED-API-KEY";

/// Where `[config]` reads and writes; absolute.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GeneratedPaths {
    /// The template.
    pub template: Option<PathBuf>,
    /// The folder of key files.
    pub keys: Option<PathBuf>,
    /// The file that is written.
    pub output: PathBuf,
}

/// The file as it should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Generated {
    /// All of it, our header included.
    pub text: String,
    /// Variables without a value, and the variables of the file that hold the marker in their place.
    pub missing: BTreeMap<String, BTreeSet<String>>,
    /// Key files whose names cannot name a variable.
    pub ignored: Vec<String>,
}

/// Whether a file of ours is as it was written: `None` for one without our header.
#[must_use]
pub fn is_untouched(text: &str) -> Option<bool> {
    let (_, after) = text.split_once(STAMP).filter(|(before, _)| before.lines().count() <= 1)?;
    let (hash, body) = after.split_once('\n')?;
    Some(hash.trim() == hash_of(body))
}

/// In which variables an edited file differs from what is written now: `+` added by hand, `-` taken out, `~` changed.
/// Names only: the values are secrets.
#[must_use]
pub fn edits(edited: &str, written: &str) -> Vec<String> {
    let (edited, _) = dotenv::parse(edited, &|_| None);
    let (written, _) = dotenv::parse(written, &|_| None);
    let mut lines: Vec<String> = edited
        .iter()
        .filter_map(|(name, variable)| match written.get(name) {
            None => Some(format!("+ {name}")),
            Some(other) if other.value != variable.value => Some(format!("~ {name}")),
            Some(_) => None,
        })
        .collect();
    lines.extend(written.keys().filter(|name| !edited.contains_key(*name)).map(|name| format!("- {name}")));
    lines
}

fn hash_of(body: &str) -> String {
    hex(&Sha256::digest(body.as_bytes()))
}

impl Document {
    /// `[config]`, where it names an output.
    #[must_use]
    pub fn generated_paths(&self) -> Option<GeneratedPaths> {
        let table = get(&self.tree, "config")?.table()?;
        let path = |key: &str| {
            let text = self.early(get(table, key)?.text()?).ok()?;
            Some(absolute(&self.root, &text))
        };
        Some(GeneratedPaths { template: path("template"), keys: path("keys"), output: path("output")? })
    }

    /// The marker of a variable without a value; none without `[config]`.
    pub(super) fn marker(&self) -> Option<String> {
        let table = get(&self.tree, "config")?.table()?;
        let marker = get(table, "missing").and_then(TomlNode::text).filter(|text| !text.trim().is_empty());
        Some(marker.unwrap_or(MISSING).to_owned())
    }

    /// What can be wrong with `[config]` before any value is known.
    pub(super) fn check_generated(&self, out: &mut Vec<Diagnostic>) {
        let Some(node) = get(&self.tree, "config") else { return };
        let Some(table) = node.table() else { return };
        if get(table, "output").is_none() {
            out.push(Diagnostic::error(node.key, "`[config]` names no file to write").help("write output = \".env.generated\""));
        }
        for key in ["template", "keys", "output"] {
            if let Some(path) = get(table, key)
                && let Some(Err(written)) = path.text().map(|text| self.early(text))
            {
                out.push(
                    Diagnostic::error(path.span, format!("`{written}` is not known yet where `{key}` is looked for"))
                        .help("`${mode}`, `${project}` and `${instance}` may stand in this path"),
                );
            }
        }
        let Some(paths) = self.generated_paths() else { return };
        let same = [&paths.template, &paths.keys].into_iter().flatten().any(|path| *path == paths.output);
        let sample = self.env_sample().is_some_and(|sample| sample.to == paths.output || sample.from == paths.output);
        if (same || sample)
            && let Some(output) = get(table, "output")
        {
            out.push(
                Diagnostic::error(output.span, "a file that is written by hand cannot be the output")
                    .help("write output = \".env.generated\""),
            );
        }
    }

    /// The generated file. `facts` holds the chosen ports, the secrets, the template among `recipe_files` and the keys.
    ///
    /// # Errors
    /// Every problem of the template at once.
    pub fn generate(&self, facts: &Facts) -> Result<Option<Generated>, Report> {
        let (Some(paths), Some(marker)) = (self.generated_paths(), self.marker()) else { return Ok(None) };
        let resolver = self.resolver(facts)?;
        let name = |path: &PathBuf| path.strip_prefix(&self.root).unwrap_or(path).display().to_string();
        let mut writer = TemplateWriter {
            resolver: &resolver,
            marker,
            above: BTreeMap::new(),
            missing: BTreeMap::new(),
            inside: String::new(),
        };
        let mut body = String::new();
        let mut failed = required(&resolver).is_err();
        if let Some(path) = &paths.template {
            match facts.recipe_files.get(path) {
                Some(text) => failed |= writer.template(&name(path), text, &mut body).is_err(),
                None => {
                    let node = get(&self.tree, "config").and_then(TomlNode::table).and_then(|table| get(table, "template"));
                    if let Some(node) = node {
                        resolver.report(
                            Diagnostic::error(node.span, format!("cannot find template {}", name(path)))
                                .help("paths are relative to the procfile's directory"),
                        );
                    }
                    failed = true;
                }
            }
        }
        let ignored = writer.keys(paths.keys.as_ref().map(name).as_deref(), &mut body);
        let missing = writer.missing;
        let problems = masked_values::take_problems(&resolver);
        if failed || problems.iter().any(|problem| problem.severity == Severity::Error) {
            return Err(Report::new(problems, resolver.sources.into_inner()));
        }
        let from = paths.template.as_ref().or(paths.keys.as_ref()).map(name).unwrap_or_else(|| "the procfile".to_owned());
        let text = format!(
            "# Generated from {from}. Edit that file instead: each `devrun up` overwrites this one.\n{STAMP}{}\n{body}",
            hash_of(&body)
        );
        Ok(Some(Generated { text, missing, ignored }))
    }
}

/// Fills in one variable after the other.
struct TemplateWriter<'r, 'a> {
    resolver: &'r Resolver<'a>,
    marker: String,
    /// Variables of lines above.
    above: BTreeMap<String, String>,
    missing: BTreeMap<String, BTreeSet<String>>,
    /// The variable whose value is being made.
    inside: String,
}

impl TemplateWriter<'_, '_> {
    fn template(&mut self, name: &str, text: &str, body: &mut String) -> Resolved<()> {
        let file = self.resolver.sources.borrow_mut().add(Text::env(name.to_owned(), text.to_owned()));
        let (entries, faults) = dotenv::entries(text);
        let mut failed = false;
        for fault in faults {
            let span = Span::new(file, fault.at..fault.end);
            self.resolver.report(Diagnostic::error(span, fault.message).help(fault.help));
            failed = true;
        }
        let mut copied = if text.starts_with('\u{feff}') { '\u{feff}'.len_utf8() } else { 0 };
        for entry in &entries {
            body.push_str(text.get(copied..entry.start).unwrap_or_default());
            copied = entry.next;
            self.inside.clone_from(&entry.name);
            match self.value(entry, Span::new(file, entry.at..entry.next)) {
                Ok(value) => {
                    body.push_str(text.get(entry.start..entry.at).unwrap_or_default());
                    let _ = writeln!(body, "{}={}", entry.name, dotenv::quote(&value));
                    self.above.insert(entry.name.clone(), value);
                }
                Err(Reported) => failed = true,
            }
        }
        body.push_str(text.get(copied..).unwrap_or_default());
        if !body.is_empty() && !body.ends_with('\n') {
            body.push('\n');
        }
        if failed { Err(Reported) } else { Ok(()) }
    }

    /// A line that says nothing, or what samples say, is one that a key file fills.
    fn value(&mut self, entry: &TemplateVariable, span: Span) -> Resolved<String> {
        let open = is_placeholder(&entry.value);
        if (open || entry.value.is_empty())
            && let Some(key) = self.key(&entry.name)
        {
            return Ok(key);
        }
        if open {
            return Ok(self.unset(&entry.name.clone()));
        }
        if entry.literal || !entry.value.contains('$') {
            return Ok(entry.value.clone());
        }
        match template::parse(&entry.value, false) {
            Ok(parts) => self.fill(&parts, span),
            Err(bad) => Err(self.resolver.bad_template(&bad, span)),
        }
    }

    /// A key file's value; an empty one, and one that still holds a sample's text, is none.
    fn key(&self, name: &str) -> Option<String> {
        let value = self.resolver.facts.keys.get(name)?.trim_end_matches(['\n', '\r']);
        (!value.trim().is_empty() && !is_placeholder(value) && value != self.marker).then(|| value.to_owned())
    }

    fn unset(&mut self, name: &str) -> String {
        self.missing.entry(name.to_owned()).or_default().insert(self.inside.clone());
        self.marker.clone()
    }

    fn fill(&mut self, parts: &[Part], span: Span) -> Resolved<String> {
        let mut out = String::new();
        let mut failed = false;
        for part in parts {
            match part {
                Part::Literal(text) => out.push_str(text),
                Part::Hole(hole) => match self.hole(hole, span) {
                    Ok(value) => out.push_str(&value),
                    Err(Reported) => failed = true,
                },
            }
            self.resolver.bound(&out, span)?;
        }
        self.resolver.count(&out, span)?;
        if failed { Err(Reported) } else { Ok(out) }
    }

    fn hole(&mut self, hole: &Hole, span: Span) -> Resolved<String> {
        let Name::Variable(name) = &hole.name else { return self.resolver.hole(hole, span, Scope::default()) };
        let value = match self.key(name).or_else(|| self.above.get(name).cloned()) {
            Some(value) => Some(value),
            None => self.resolver.looked_up(&hole.name, span)?,
        };
        let value = value.filter(|value| !is_placeholder(value));
        let counts = |empty: &bool| value.as_ref().is_some_and(|value| !(*empty && value.is_empty()));
        match &hole.operator {
            Operator::Default(empty, word) if !counts(empty) => self.fill(word, span),
            Operator::Alternative(empty, word) => {
                if counts(empty) {
                    self.fill(word, span)
                } else {
                    Ok(String::new())
                }
            }
            Operator::Required(empty, _) if !counts(empty) => self.resolver.hole(hole, span, Scope::default()),
            _ => Ok(match value {
                // One that was copied out of an earlier generated file is as missing as it was there.
                Some(value) if value.contains(self.marker.as_str()) => {
                    self.unset(name);
                    value
                }
                Some(value) => value,
                None => self.unset(name),
            }),
        }
    }

    /// Key files that the template says nothing of are variables too.
    fn keys(&mut self, folder: Option<&str>, body: &mut String) -> Vec<String> {
        let mut ignored = Vec::new();
        let mut lines = String::new();
        let names: Vec<String> = self.resolver.facts.keys.keys().cloned().collect();
        for name in names {
            if template::variable_length(&name) != name.len() {
                ignored.push(name);
            } else if !self.above.contains_key(&name) {
                self.inside.clone_from(&name);
                let value = match self.key(&name) {
                    Some(value) => value,
                    None => self.unset(&name),
                };
                let _ = writeln!(lines, "{name}={}", dotenv::quote(&value));
            }
        }
        if !lines.is_empty() {
            let _ = write!(body, "{}# {}\n{lines}", if body.is_empty() { "" } else { "\n" }, folder.unwrap_or("keys"));
        }
        ignored
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_header_tells_whose_it_is_and_whether_it_was_edited() {
        let body = "A=1\n# c\nB='x y'\n";
        let ours = format!("# Made from t.\n{STAMP}{}\n{body}", hash_of(body));
        assert_eq!(is_untouched(&ours), Some(true));
        assert_eq!(is_untouched(&ours.replace("A=1", "A=2")), Some(false));
        for foreign in ["", "A=1\n", "# Made from t.\nA=1\n", &format!("A=1\nB=2\nC=3\n{ours}")] {
            assert_eq!(is_untouched(foreign), None, "{foreign:?}");
        }
    }

    #[test]
    fn edits_name_variables_and_no_values() {
        let lines = edits("A=1\nB=secret\nD=new\n", "A=1\nB=other\nC=3\n");
        assert_eq!(lines, ["~ B", "+ D", "- C"]);
    }
}
