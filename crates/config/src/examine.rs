//! Texts → [`Document`]: parsed, merged, and checked as far as that goes without values.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use super::diagnostic::{Diagnostic, Report, Severity};
use super::document::Document;
use super::source_map::{Sources, Span, Text};
use super::toml_node::{self, Table, TomlNode, get};
use super::{Options, Source, cross_check, merge, procfile, schema_check, services};
use devrun_model::name::BadName;
use devrun_model::suggest;
use devrun_model::{ProjectName, RecipeBook, RecipeData};

/// Parses, merges and checks what can be checked without values.
///
/// # Errors
/// Every problem at once.
pub fn read(sources: &[Source], options: &Options, book: &dyn RecipeBook) -> Result<Document, Report> {
    match examine(sources, options, book) {
        (Some(document), report) if !report.has_errors() => Ok(document),
        (_, report) => Err(report),
    }
}

/// As [`read`], with the document of a faulty file too where its text could be read: [`Document::faults`] then says what
/// else is wrong with it.
#[must_use]
pub fn examine(sources: &[Source], options: &Options, book: &dyn RecipeBook) -> (Option<Document>, Report) {
    let mut texts = Sources::default();
    let mut problems = Vec::new();
    let mut trees = Vec::new();
    for source in sources {
        let text = Text::new(source.name.clone(), source.text.clone());
        let file = texts.add(text);
        if let Some(text) = texts.get(file) {
            trees.push(if procfile::is_procfile(&source.path) {
                procfile::parse(file, text, options.base_port, &mut problems)
            } else {
                toml_node::parse(file, text, &mut problems)
            });
        }
    }
    let mode = mode(&trees, options, &mut problems);
    let broken = problems.iter().any(|d| d.span.is_some());
    let faulty_lines: BTreeSet<(u32, usize)> = problems.iter().filter_map(|d| line_of(&texts, d)).collect();
    for tree in &trees {
        let mut found = Vec::new();
        schema_check::file(tree, &mut found);
        // What a syntax error left of its line is not worth a second message.
        found.retain(|d| line_of(&texts, d).is_none_or(|line| !faulty_lines.contains(&line)));
        // Behind a broken [table] its keys seem to stand at the top.
        let behind = |d: &Diagnostic| {
            line_of(&texts, d).is_some_and(|line| faulty_lines.iter().any(|fault| fault.0 == line.0 && fault.1 < line.1))
        };
        found.retain(|d| !(d.message.ends_with("at the top of the file") && behind(d)));
        problems.append(&mut found);
    }
    let mut tree = Table::new();
    for file in &trees {
        merge::file_onto(&mut tree, file, mode.as_deref());
    }
    let root = sources.first().and_then(|source| source.path.parent()).map(Path::to_path_buf).unwrap_or_default();
    let project = match project_name(&tree, &root, options, &mut problems) {
        Ok(name) => name,
        Err(bad) => {
            problems.push(Diagnostic::nowhere(bad.to_string()).help("name the project: [project] name = \"shop\""));
            return (None, Report::new(problems, texts));
        }
    };
    let (recipes, recipe_names) = recipes(&tree, book);
    let mut document = Document {
        tree,
        root,
        project,
        mode,
        modes: mode_names(&trees).map(str::to_owned).collect(),
        options: options.clone(),
        recipes,
        recipe_names,
        plain: sources.iter().any(|source| procfile::is_procfile(&source.path)),
        sources: texts.clone(),
        warnings: Vec::new(),
    };
    document.check_files(&mut problems);
    document.check_generated(&mut problems);
    if !broken {
        let services = services::assemble(&document, None, &mut texts, &mut problems);
        cross_check::services(&document, &services, &mut problems);
        document.check_secrets(&mut problems);
        if services.is_empty() && !problems.iter().any(|d| d.severity == Severity::Error) {
            let span = Span { file: 0, start: 0, end: 0 };
            problems.push(
                Diagnostic::error(span, "no services are defined in this file")
                    .help("write [services.web] and run = \"COMMAND\""),
            );
        }
    }
    let report = Report::new(problems.clone(), texts);
    document.warnings = problems;
    ((!broken).then_some(document), report)
}

/// The line that a diagnostic is about.
pub(super) fn line_of(sources: &Sources, diagnostic: &Diagnostic) -> Option<(u32, usize)> {
    let span = diagnostic.span?;
    Some((span.file, sources.get(span.file)?.position(span.start).line))
}

/// The overlays of all files.
fn mode_names(trees: &[Table]) -> impl Iterator<Item = &str> {
    trees.iter().filter_map(|tree| get(tree, "modes")?.table()).flat_map(|table| table.keys().map(String::as_str))
}

/// The overlay in force: the flag, else the last file that names one.
fn mode(trees: &[Table], options: &Options, out: &mut Vec<Diagnostic>) -> Option<String> {
    let named = trees.iter().rev().find_map(|tree| get(tree, "project")?.table().and_then(|project| get(project, "mode")));
    let (mode, span) = match &options.mode {
        Some(mode) if mode.is_empty() => return None,
        Some(mode) => (mode.clone(), None),
        None => (named?.text()?.to_owned(), named.map(|node| node.span)),
    };
    let known: BTreeSet<&str> = mode_names(trees).collect();
    if !known.contains(mode.as_str()) {
        let message = format!("unknown mode `{mode}`");
        let diagnostic = match span {
            Some(span) => Diagnostic::error(span, message),
            None => Diagnostic::nowhere(message),
        };
        let help = suggest::help(&mode, known.iter().copied()).unwrap_or_else(|| format!("write an overlay: [modes.{mode}]"));
        out.push(diagnostic.help(help));
    }
    Some(mode)
}

fn project_name(tree: &Table, root: &Path, options: &Options, out: &mut Vec<Diagnostic>) -> Result<ProjectName, BadName> {
    let fallback = || {
        let folder = root.file_name().map(|name| name.to_string_lossy().to_lowercase()).unwrap_or_default();
        let clean: String = folder
            .chars()
            .map(|c| if c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_' || c == '-' { c } else { '-' })
            .collect();
        let clean: String = clean.trim_start_matches(['-', '_']).chars().take(63).collect();
        ProjectName::new(if clean.is_empty() { "project".to_owned() } else { clean })
    };
    const HELP: &str = "a project's name is made of a-z, 0-9, `_` and `-`, and starts with a letter or a digit";
    if let Some(name) = &options.project_name {
        match ProjectName::new(name.clone()) {
            Ok(name) => return Ok(name),
            Err(bad) => out.push(Diagnostic::nowhere(bad.to_string()).help(HELP)),
        }
    } else if let Some(node) = get(tree, "project").and_then(TomlNode::table).and_then(|project| get(project, "name"))
        && let Some(text) = node.text()
    {
        match ProjectName::new(text) {
            Ok(name) => return Ok(name),
            Err(bad) => {
                let lower = text.to_lowercase().replace([' ', '.'], "-");
                let help = match ProjectName::new(lower.clone()) {
                    Ok(_) => format!("did you mean \"{lower}\"?"),
                    Err(_) => HELP.to_owned(),
                };
                out.push(Diagnostic::error(node.span, bad.to_string()).help(help));
            }
        }
    }
    fallback()
}

/// The recipes that any service uses, copied out of the book.
fn recipes(tree: &Table, book: &dyn RecipeBook) -> (BTreeMap<String, RecipeData>, Vec<String>) {
    let services = get(tree, "services").and_then(TomlNode::table);
    let used = services
        .into_iter()
        .flat_map(|table| table.values())
        .filter_map(|node| get(node.table()?, "use")?.text())
        .map(|text| text.split('@').next().unwrap_or(text));
    let found = used.filter_map(|name| Some((name.to_owned(), book.find(name)?.clone()))).collect();
    (found, book.names().into_iter().map(str::to_owned).collect())
}
