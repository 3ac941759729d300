//! The merged procfile, and the three questions asked of it: which files, which choices, which plan.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use super::attributes::PortSpec;
use super::diagnostic::{Diagnostic, Report, Severity};
use super::interpolate::{Resolver, Scope};
use super::procfile;
use super::reader::Reader;
use super::services::{self, absolute};
use super::source_map::{Sources, Span, Text};
use super::template::{self, Name, Part};
use super::tree::{self, Table, TomlNode, TomlValue, get};
use super::{EnvSample, Facts, Options, PortWant, SecretWant, Source, Wants, cross_check, lower, merge, schema_check, suggest};
use devrun_model::name::BadName;
use devrun_model::{Plan, ProjectName, RecipeBook, RecipeData};

/// Past this many faults a file is junk, and not worth a look at its values.
const MANY: usize = 200;
/// The length of a generated secret.
const SECRET_LENGTH: usize = 24;

/// The merged procfile, before any placeholder is resolved.
#[derive(Debug, Clone)]
pub struct Document {
    pub(super) tree: Table,
    /// The procfile's folder.
    pub(super) root: PathBuf,
    pub(super) project: ProjectName,
    pub(super) mode: Option<String>,
    /// The overlays that any of the files has.
    modes: BTreeSet<String>,
    pub(super) options: Options,
    /// The recipes that are used, by name.
    pub(super) recipes: BTreeMap<String, RecipeData>,
    pub(super) recipe_names: Vec<String>,
    /// A plain `Procfile` is among the files: what such a file takes for granted need not be there.
    pub(super) plain: bool,
    sources: Sources,
    warnings: Vec<Diagnostic>,
}

/// One entry of an `env_file` list.
#[derive(Debug, Clone)]
pub(super) struct EnvFile {
    pub path: PathBuf,
    /// As written.
    pub text: String,
    pub required: bool,
    pub span: Span,
}

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
                tree::parse(file, text, &mut problems)
            });
        }
    }
    let mode = mode(&trees, options, &mut problems);
    let broken = problems.iter().any(|d| d.span.is_some());
    let faulty_lines: BTreeSet<(u32, usize)> = problems.iter().filter_map(|d| line_of(&texts, d)).collect();
    for tree in &trees {
        let mut found = Vec::new();
        schema_check::file(tree, mode.as_deref(), &mut found);
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

fn line_of(sources: &Sources, diagnostic: &Diagnostic) -> Option<(u32, usize)> {
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

impl Document {
    /// The project's name.
    #[must_use]
    pub fn project(&self) -> &ProjectName {
        &self.project
    }
    /// The mode in force.
    #[must_use]
    pub fn mode(&self) -> Option<&str> {
        self.mode.as_deref()
    }
    /// The modes that there are.
    #[must_use]
    pub fn modes(&self) -> &BTreeSet<String> {
        &self.modes
    }
    /// Everything merged, placeholders as they were written: for exports.
    #[must_use]
    pub fn merged(&self) -> toml::Table {
        fn value(node: &TomlNode) -> toml::Value {
            match &node.value {
                TomlValue::Text(text) | TomlValue::Date(text) => toml::Value::String(text.clone()),
                TomlValue::Integer(number) => toml::Value::Integer(*number),
                TomlValue::Float(number) => toml::Value::Float(*number),
                TomlValue::Bool(flag) => toml::Value::Boolean(*flag),
                TomlValue::Array(list) => toml::Value::Array(list.iter().map(value).collect()),
                TomlValue::Table(entries) => toml::Value::Table(table(entries)),
            }
        }
        fn table(entries: &Table) -> toml::Table {
            entries.iter().map(|(name, node)| (name.clone(), value(node))).collect()
        }
        table(&self.tree)
    }

    /// The procfile's folder.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Env files, then recipe files and templates, to read into `Facts`; all absolute. Any of them may be absent.
    #[must_use]
    pub fn files(&self) -> (Vec<PathBuf>, Vec<PathBuf>) {
        let mut env = Vec::new();
        let mut others = Vec::new();
        let empty = Table::new();
        let project = get(&self.tree, "project").and_then(TomlNode::table).unwrap_or(&empty);
        let mut holders = vec![project];
        for section in ["defaults", "services", "tasks"] {
            let Some(table) = get(&self.tree, section).and_then(TomlNode::table) else { continue };
            if section == "defaults" {
                holders.push(table);
            } else {
                holders.extend(table.values().filter_map(TomlNode::table));
            }
        }
        for holder in holders {
            if let Some(node) = get(holder, "env_file") {
                env.extend(self.env_files_of(node).into_iter().map(|file| file.path));
            }
            if let Some(path) = get(holder, "use").and_then(TomlNode::text).and_then(|text| services::recipe_path(self, text)) {
                others.push(path);
            }
            for (from, node) in get(holder, "render").and_then(TomlNode::table).into_iter().flatten() {
                if !node.is_false() {
                    others.push(absolute(&self.root, from));
                }
            }
        }
        others.extend(self.secret_files().into_iter().map(|(_, path)| path));
        others.extend(self.generated_paths().and_then(|paths| paths.template));
        for list in [&mut env, &mut others] {
            let mut seen = BTreeSet::new();
            list.retain(|path| seen.insert(path.clone()));
        }
        (env, others)
    }

    /// `[project].env_sample`, and what is made from it.
    #[must_use]
    pub fn env_sample(&self) -> Option<EnvSample> {
        let project = get(&self.tree, "project")?.table()?;
        let from = self.early(get(project, "env_sample")?.text()?).ok()?;
        let to = self.env_files_of(get(project, "env_file")?).into_iter().next()?;
        Some(EnvSample { from: absolute(&self.root, &from), to: to.path })
    }

    /// What to choose and make; ports that are placeholders are resolved with `facts`.
    ///
    /// # Errors
    /// Every problem at once.
    pub fn wants(&self, facts: &Facts) -> Result<Wants, Report> {
        let resolver = self.resolver(facts)?;
        let mut wants = Wants { secrets_dir: self.secrets_dir(), ..Wants::default() };
        wants.secrets = self.generated_secrets().into_iter().map(|(name, length)| SecretWant { name, length }).collect();
        for service in resolver.services.values().filter(|service| service.active) {
            if let Some(name) = resolver.generated_password(service)
                && !wants.secrets.iter().any(|want| want.name == name)
            {
                wants.secrets.push(SecretWant { name, length: SECRET_LENGTH });
            }
            if service.get("external").is_some() {
                continue;
            }
            for port in resolver.port_names(service) {
                match resolver.port_spec(service, &port) {
                    Ok(Some(PortSpec::Fixed(number))) => {
                        wants.fixed.insert(number);
                    }
                    Ok(Some(PortSpec::Wish(wish))) => {
                        for replica in 1..=resolver.replicas(service) {
                            let (service, name) = resolver.port_key(service, &port, replica);
                            wants.ports.push(PortWant { service, name, wish });
                        }
                    }
                    Ok(None) | Err(_) => {}
                }
            }
        }
        let empty = Table::new();
        let project = get(&self.tree, "project").and_then(TomlNode::table).unwrap_or(&empty);
        let project = Reader { resolver: &resolver, table: project, scope: Scope::default() };
        if let Some(inner) = project.inner("requires") {
            // What is no size is among the problems.
            wants.memory = inner.size("memory").ok().flatten().map(|size| size.0);
            wants.disk = inner.size("disk").ok().flatten().map(|size| size.0);
        }
        let problems = resolver.problems.into_inner();
        if problems.iter().any(|d| d.severity == Severity::Error) {
            return Err(Report::new(problems, resolver.sources.into_inner()));
        }
        Ok(wants)
    }

    /// The plan, and warnings.
    ///
    /// # Errors
    /// Every problem at once.
    pub fn lower(&self, facts: &Facts) -> Result<(Plan, Report), Report> {
        let resolver = self.resolver(facts)?;
        let plan = lower::plan(&resolver);
        let mut problems = resolver.problems.into_inner();
        problems.extend(self.warnings.iter().cloned());
        let report = Report::new(problems, resolver.sources.into_inner());
        match plan {
            Ok(plan) if !report.has_errors() => Ok((plan, report)),
            _ => Err(report),
        }
    }

    /// Everything that is wrong: what [`examine`] found, and what is wrong with the values of a file whose shape or edges
    /// are wrong already. What only follows from a fault that is named is left out.
    #[must_use]
    pub fn faults(&self, facts: &Facts, first: &Report) -> Report {
        let mut sources = self.sources.clone();
        let own = |d: &&Diagnostic| d.span.is_none_or(|span| self.sources.get(span.file).is_some());
        let mut problems: Vec<Diagnostic> = first.diagnostics().iter().filter(own).cloned().collect();
        if problems.len() > MANY {
            return first.clone();
        }
        let services = services::assemble(self, Some(facts), &mut sources, &mut problems);
        cross_check::services(self, &services, &mut problems);
        self.check_required_files(facts, &mut problems);
        let error = |d: &&Diagnostic| d.severity == Severity::Error;
        let lines: BTreeSet<(u32, usize)> = problems.iter().filter(error).filter_map(|d| line_of(&sources, d)).collect();
        // Whoever refers to a service that could not be understood is not at fault.
        let unknown: Vec<String> = ["services", "tasks"]
            .iter()
            .filter_map(|section| get(&self.tree, section)?.table())
            .flat_map(|table| table.keys())
            .filter(|name| match services.get(*name) {
                Some(service) => service.get("use").is_some() && service.recipe.is_none(),
                None => true,
            })
            .map(|name| format!("${{{name}."))
            .collect();
        let resolver = Resolver::new(self, facts, services, sources);
        // Its problems are what is asked for.
        let _plan = lower::plan(&resolver);
        let mut found = resolver.problems.into_inner();
        let sources = resolver.sources.into_inner();
        found.retain(|d| {
            let Some((file, line)) = line_of(&sources, d) else { return true };
            let text = sources.get(file).map_or("", |text| text.line(line).0);
            !lines.contains(&(file, line)) && !unknown.iter().any(|reference| text.contains(reference))
        });
        problems.append(&mut found);
        Report::new(problems, sources)
    }

    /// Services with their layers and everything that values come from.
    pub(super) fn resolver<'a>(&'a self, facts: &'a Facts) -> Result<Resolver<'a>, Report> {
        let mut sources = self.sources.clone();
        let mut problems = Vec::new();
        let services = services::assemble(self, Some(facts), &mut sources, &mut problems);
        cross_check::services(self, &services, &mut problems);
        self.check_required_files(facts, &mut problems);
        if problems.iter().any(|d| d.severity == Severity::Error) {
            return Err(Report::new(problems, sources));
        }
        let resolver = Resolver::new(self, facts, services, sources);
        resolver.problems.borrow_mut().append(&mut problems);
        Ok(resolver)
    }

    // Files.

    /// The entries of an `env_file` key. Only what is known before any file is read may stand in their paths.
    pub(super) fn env_files_of(&self, node: &TomlNode) -> Vec<EnvFile> {
        let entry = |node: &TomlNode| -> Option<EnvFile> {
            let (text, required, span) = match &node.value {
                TomlValue::Text(text) => (text, false, node.span),
                TomlValue::Table(table) => {
                    let path = get(table, "path")?;
                    let TomlValue::Text(text) = &path.value else { return None };
                    let required = get(table, "required").is_some_and(|node| matches!(node.value, TomlValue::Bool(true)));
                    (text, required, path.span)
                }
                _ => return None,
            };
            let text = self.early(text).ok()?;
            Some(EnvFile { path: absolute(&self.root, &text), text, required, span })
        };
        node.elements().iter().filter_map(entry).collect()
    }

    /// Resolves a path's placeholders from what is known already; `Err` is the one that is not.
    pub(super) fn early(&self, text: &str) -> Result<String, String> {
        let parts = template::parse(text, false).map_err(|bad| bad.written)?;
        let mut out = String::new();
        for part in parts {
            match part {
                Part::Literal(text) => out.push_str(&text),
                Part::Hole(hole) => match &hole.name {
                    Name::Variable(name) if name == "mode" => out.push_str(self.mode.as_deref().unwrap_or_default()),
                    Name::Variable(name) if name == "project" => out.push_str(self.project.as_str()),
                    Name::Variable(name) if name == "instance" => out.push_str(&self.options.instance),
                    _ => return Err(hole.written),
                },
            }
        }
        Ok(out)
    }

    fn check_files(&self, out: &mut Vec<Diagnostic>) {
        let sections = ["services", "tasks"];
        let tables = sections.iter().filter_map(|section| get(&self.tree, section)?.table()).flat_map(|table| table.values());
        let holders = tables.chain(["project", "defaults"].iter().filter_map(|key| get(&self.tree, key)));
        for node in holders.filter_map(TomlNode::table).filter_map(|table| get(table, "env_file")) {
            for element in node.elements() {
                let path = match element.table() {
                    Some(table) => get(table, "path"),
                    None => Some(element),
                };
                match path {
                    None => out.push(
                        Diagnostic::error(element.span, "the env file has no path")
                            .help("write { path = \".env\", required = true }"),
                    ),
                    Some(path) => {
                        if let Some(Err(written)) = path.text().map(|text| self.early(text)) {
                            out.push(
                                Diagnostic::error(
                                    path.span,
                                    format!("`{written}` is not known yet where env files are looked for"),
                                )
                                .help("`${mode}`, `${project}` and `${instance}` may stand in their paths"),
                            );
                        }
                    }
                }
            }
        }
    }

    fn check_required_files(&self, facts: &Facts, out: &mut Vec<Diagnostic>) {
        let node = get(&self.tree, "project").and_then(TomlNode::table).and_then(|project| get(project, "env_file"));
        for file in node.map(|node| self.env_files_of(node)).unwrap_or_default() {
            if file.required && !matches!(facts.env_files.get(&file.path), Some(Some(_))) {
                out.push(
                    Diagnostic::error(file.span, format!("cannot find env file {}", file.text))
                        .help("make it, or take `required` out"),
                );
            }
        }
        if let Some(path) = &facts.env_file_flag
            && !matches!(facts.env_files.get(path), Some(Some(_)))
        {
            out.push(
                Diagnostic::nowhere(format!("cannot find env file {}", path.display())).help("check the path after --env-file"),
            );
        }
    }

    // Secrets.

    /// The folder of the secrets, absolute.
    fn secrets_dir(&self) -> PathBuf {
        let node = get(&self.tree, "secrets").and_then(TomlNode::table).and_then(|secrets| get(secrets, "dir"));
        let text = node.and_then(TomlNode::text).and_then(|text| self.early(text).ok());
        absolute(&self.root, text.as_deref().unwrap_or("secrets/infra"))
    }

    /// `[secrets].generate`: names and lengths.
    pub(super) fn generated_secrets(&self) -> Vec<(String, usize)> {
        let node = get(&self.tree, "secrets").and_then(TomlNode::table).and_then(|secrets| get(secrets, "generate"));
        let Some(node) = node else { return Vec::new() };
        match node.table() {
            Some(table) => table
                .iter()
                .filter(|(_, node)| !node.is_false())
                .map(|(name, node)| {
                    let length = node.table().and_then(|table| get(table, "length")).map(|node| &node.value);
                    let length = match length {
                        Some(TomlValue::Integer(length)) => usize::try_from(*length).unwrap_or(SECRET_LENGTH),
                        _ => SECRET_LENGTH,
                    };
                    (name.clone(), length)
                })
                .collect(),
            None => node.elements().iter().filter_map(TomlNode::text).map(|name| (name.to_owned(), SECRET_LENGTH)).collect(),
        }
    }

    /// `[secrets].files`: names and absolute paths.
    pub(super) fn secret_files(&self) -> Vec<(String, PathBuf)> {
        let node = get(&self.tree, "secrets").and_then(TomlNode::table).and_then(|secrets| get(secrets, "files"));
        let files = node.and_then(TomlNode::table).into_iter().flatten();
        files.filter_map(|(name, node)| Some((name.clone(), absolute(&self.root, node.text()?)))).collect()
    }

    fn check_secrets(&self, out: &mut Vec<Diagnostic>) {
        let Some(secrets) = get(&self.tree, "secrets").and_then(TomlNode::table) else { return };
        let generated = self.generated_secrets();
        for (name, node) in get(secrets, "files").and_then(TomlNode::table).into_iter().flatten() {
            if generated.iter().any(|(known, _)| known == name) {
                out.push(
                    Diagnostic::error(node.key, format!("secret `{name}` is both generated and read from a file"))
                        .help("take it out of `generate` or out of `files`"),
                );
            }
        }
        if let Some(dir) = get(secrets, "dir")
            && let Some(Err(written)) = dir.text().map(|text| self.early(text))
        {
            out.push(
                Diagnostic::error(dir.span, format!("`{written}` is not known yet where secrets are looked for"))
                    .help("`${mode}`, `${project}` and `${instance}` may stand in this path"),
            );
        }
        let Some(node) = get(secrets, "generate") else { return };
        let names: Vec<(&str, Span)> = match node.table() {
            Some(table) => table.iter().map(|(name, node)| (name.as_str(), node.key)).collect(),
            None => node.elements().iter().filter_map(|node| Some((node.text()?, node.span))).collect(),
        };
        for (name, span) in names {
            let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
            if name.is_empty() || name.starts_with(['.', '-']) || !name.chars().all(plain) || name.len() > 100 {
                out.push(
                    Diagnostic::error(span, format!("{name:?} cannot be a secret's name"))
                        .help("a secret is a file of that name: letters, digits, `_`, `-` and `.`"),
                );
            }
        }
        for (name, node) in node.table().into_iter().flatten() {
            if let Some(length) = node.table().and_then(|table| get(table, "length"))
                && let TomlValue::Integer(number) = length.value
                && !(8..=1024).contains(&number)
            {
                out.push(
                    Diagnostic::error(length.span, format!("the secret `{name}` cannot have {number} characters"))
                        .help("8 to 1024; 24 is the default"),
                );
            }
        }
    }
}
