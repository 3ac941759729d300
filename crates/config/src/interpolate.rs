//! Placeholders → values. First found wins: the service's own `env`, its ports, the calling shell, `--env-file`,
//! `[project].env_file` (later files win), what else the service is given (`env_file`, `env_from`, `[env]`), the default.
//!
//! Everything is resolved on demand and remembered, so that a service's address may depend on another's variables in any
//! order; what is being resolved is on a stack, so a circle is an error with its path. A value that came from a file, a
//! secret or the shell is never parsed: only texts of the procfile are templates.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use indexmap::IndexMap;

use super::declared_service::{DeclaredService, DeclaredServices};
use super::diagnostic::Diagnostic;
use super::schema::ATTRIBUTES;
use super::source_map::{Sources, Span, Text};
use super::template::{self, Hole, Name, Operator, Part};
use super::toml_node::{TomlNode, TomlValue, get};
use super::value_limits::{LARGEST_SUM, LARGEST_VALUE, MOST_SEARCHED};
use super::variable_names::names_secret;
use super::{Document, Facts, dotenv, user_scope};
use devrun_model::suggest;
use devrun_model::{ServiceId, ServiceName};

/// A problem that was reported already.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Reported;

/// A value, or a problem that was reported.
pub(crate) type Resolved<T> = Result<T, Reported>;

/// From where a placeholder is looked at.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Scope<'s> {
    /// Inside which service, and which copy of it.
    pub service: Option<(&'s str, u32)>,
    /// The text belongs to `[env]`, which lies below every service's own variables.
    pub global: bool,
    /// The variable that the text defines: it may refer to what lies beneath it.
    pub defining: Option<&'s str>,
    /// The text defines a port, so `${PORT}` is not that port.
    pub port: bool,
}

impl<'s> Scope<'s> {
    /// Inside a copy of a service.
    pub(crate) fn of(service: &'s str, replica: u32) -> Self {
        Self { service: Some((service, replica)), ..Self::default() }
    }
}

/// What is being resolved, or was.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum ScopeKey {
    Attribute(String, String),
    Own(String, u32, String),
    Global(Option<(String, u32)>, String),
    Port(String, u32, String),
}

impl std::fmt::Display for ScopeKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Attribute(service, attribute) | Self::Port(service, _, attribute) => write!(f, "{service}.{attribute}"),
            Self::Own(service, _, name) => write!(f, "{name} of {service}"),
            Self::Global(_, name) => write!(f, "{name} of [env]"),
        }
    }
}

/// A variable of an env file.
#[derive(Debug, Clone)]
pub(crate) struct FileVariable {
    pub value: String,
    pub span: Span,
}

/// All that a value may come from, and the problems met.
pub(crate) struct Resolver<'a> {
    pub document: &'a Document,
    pub facts: &'a Facts,
    pub services: DeclaredServices,
    pub sources: RefCell<Sources>,
    pub problems: RefCell<Vec<Diagnostic>>,
    pub(super) files: BTreeMap<PathBuf, IndexMap<String, FileVariable>>,
    /// `--env-file`, then the project's files, latest first.
    pub(super) order: Vec<PathBuf>,
    memo: RefCell<BTreeMap<ScopeKey, Resolved<Option<String>>>>,
    stack: RefCell<Vec<ScopeKey>>,
    /// Values that placeholders have taken from secrets.
    taken: RefCell<BTreeSet<String>>,
    /// Bytes that placeholders have become so far.
    filled: Cell<usize>,
    /// Bytes that were searched for the places of placeholders.
    pub(super) searched: Cell<usize>,
    /// Variables of services so far, and their bytes.
    pub(super) variables: Cell<(usize, usize)>,
}

impl<'a> Resolver<'a> {
    pub(crate) fn new(document: &'a Document, facts: &'a Facts, services: DeclaredServices, mut sources: Sources) -> Self {
        let mut problems = Vec::new();
        let environment = |name: &str| facts.shell.get(name).cloned();
        let mut files = BTreeMap::new();
        let (named, _) = document.files();
        for (path, text) in &facts.env_files {
            let Some(text) = text else { continue };
            if !named.contains(path) && facts.env_file_flag.as_ref() != Some(path) {
                continue;
            }
            let name = path.strip_prefix(&document.root).unwrap_or(path).display().to_string();
            let file = sources.add(Text::env(name, text.clone()));
            let (found, faults) = dotenv::parse(text, &environment);
            for fault in faults {
                let span = Span::new(file, fault.at..fault.end);
                let diagnostic =
                    if fault.minor { Diagnostic::warning(span, fault.message) } else { Diagnostic::error(span, fault.message) };
                problems.push(diagnostic.help(fault.help));
            }
            let variables = found
                .into_iter()
                .map(|(name, v)| (name, FileVariable { value: v.value, span: Span::new(file, v.at..v.end) }))
                .collect();
            files.insert(path.clone(), variables);
        }
        let mut order: Vec<PathBuf> = facts.env_file_flag.iter().cloned().collect();
        if let Some(project) = get(&document.tree, "project").and_then(TomlNode::table)
            && let Some(node) = get(project, "env_file")
        {
            let listed = document.env_files_of(node);
            order.extend(listed.into_iter().rev().map(|file| file.path));
        }
        Self {
            document,
            facts,
            services,
            sources: RefCell::new(sources),
            problems: RefCell::new(problems),
            files,
            order,
            memo: RefCell::default(),
            stack: RefCell::default(),
            taken: RefCell::default(),
            filled: Cell::default(),
            searched: Cell::default(),
            variables: Cell::default(),
        }
    }

    /// The values that placeholders have taken from secrets so far.
    pub(crate) fn taken_secrets(&self) -> BTreeSet<String> {
        self.taken.borrow().clone()
    }

    /// The variables of each env file.
    pub(crate) fn file_variables(&self) -> impl Iterator<Item = BTreeMap<String, String>> {
        let values =
            |file: &IndexMap<String, FileVariable>| file.iter().map(|(name, v)| (name.clone(), v.value.clone())).collect();
        self.files.values().map(values)
    }

    /// Reports a problem.
    pub(crate) fn report(&self, diagnostic: Diagnostic) -> Reported {
        self.problems.borrow_mut().push(diagnostic);
        Reported
    }

    /// The span of a stretch inside a value's text; the whole value where escapes hide it.
    pub(crate) fn locate(&self, span: Span, written: &str) -> Span {
        let sources = self.sources.borrow();
        let Some(text) = sources.get(span.file).map(|text| text.slice(span)) else { return span };
        let searched = self.searched.get();
        if written.is_empty() || searched > MOST_SEARCHED {
            return span;
        }
        let found = text.find(written);
        self.searched.set(searched + found.unwrap_or(text.len()));
        match found {
            Some(offset) => {
                let start = span.start as usize + offset;
                Span::new(span.file, start..start + written.len())
            }
            None => span,
        }
    }

    /// Resolves a text of the procfile.
    pub(crate) fn expand(&self, text: &str, span: Span, scope: Scope<'_>) -> Resolved<String> {
        if !text.contains('$') {
            return Ok(text.to_owned());
        }
        match template::parse(text, false) {
            Ok(parts) => self.fill(&parts, span, scope),
            Err(bad) => Err(self.bad_template(&bad, span)),
        }
    }

    /// Reports a faulty placeholder.
    pub(crate) fn bad_template(&self, bad: &template::BadTemplate, span: Span) -> Reported {
        let at = self.locate(span, &bad.written);
        self.report(Diagnostic::error(at, format!("{}: `{}`", bad.reason, bad.written)).help(bad.help.clone()))
    }

    /// Resolves a node that holds a scalar.
    pub(crate) fn text(&self, node: &TomlNode, scope: Scope<'_>) -> Resolved<String> {
        match &node.value {
            TomlValue::Text(text) => self.expand(text, node.span, scope),
            _ => node.scalar().ok_or(Reported),
        }
    }

    /// Puts the parts of a template together.
    pub(crate) fn fill(&self, parts: &[Part], span: Span, scope: Scope<'_>) -> Resolved<String> {
        let mut out = String::new();
        let mut failed = false;
        for part in parts {
            match part {
                Part::Literal(text) => out.push_str(text),
                Part::Hole(hole) => match self.hole(hole, span, scope) {
                    Ok(value) => out.push_str(&value),
                    Err(Reported) => failed = true,
                },
            }
            self.bound(&out, span)?;
        }
        self.count(&out, span)?;
        if failed { Err(Reported) } else { Ok(out) }
    }

    /// Refuses a value that has grown too large, before it grows further.
    pub(crate) fn bound(&self, value: &str, span: Span) -> Resolved<()> {
        if value.len() <= LARGEST_VALUE {
            return Ok(());
        }
        let message = "the value is larger than 1 MiB once its placeholders are filled in";
        Err(self.report(Diagnostic::error(span, message).help("put it into a file and name that")))
    }

    /// Counts a finished value towards the sum of all.
    pub(crate) fn count(&self, value: &str, span: Span) -> Resolved<()> {
        let before = self.filled.get();
        self.filled.set(before.saturating_add(value.len()));
        if self.filled.get() <= LARGEST_SUM {
            return Ok(());
        }
        if before > LARGEST_SUM {
            // Reported when the limit was passed.
            return Err(Reported);
        }
        let message = "all values together are larger than 64 MiB once their placeholders are filled in";
        Err(self.report(Diagnostic::error(span, message).help("put large values into files and name those")))
    }

    /// The value of one placeholder.
    pub(crate) fn hole(&self, hole: &Hole, span: Span, scope: Scope<'_>) -> Resolved<String> {
        let at = self.locate(span, &hole.written);
        if let (Operator::Scheme(scheme), Name::Dotted(service, _)) = (&hole.operator, &hole.name) {
            self.known(service, "url", at, scope)?;
            return self.url(service, Some(scheme), at);
        }
        let value = self.named(&hole.name, at, scope)?;
        if let Some(value) = &value
            && names_secret(&hole.name, &BTreeSet::new())
        {
            self.taken.borrow_mut().insert(value.clone());
        }
        let counts = |empty: &bool| value.as_ref().is_some_and(|value| !(*empty && value.is_empty()));
        match &hole.operator {
            Operator::Default(empty, word) if !counts(empty) => self.fill(word, span, scope),
            Operator::Alternative(empty, word) => {
                if counts(empty) {
                    self.fill(word, span, scope)
                } else {
                    Ok(String::new())
                }
            }
            Operator::Required(empty, word) if !counts(empty) => {
                let why = self.fill(word, span, scope)?;
                let name = name_text(&hole.name);
                let message = if why.is_empty() { format!("`{name}` is not set") } else { format!("`{name}` is not set: {why}") };
                Err(self.report(Diagnostic::error(at, message).help(self.set_help(&name))))
            }
            _ => match value {
                Some(value) => Ok(value),
                None => Err(self.unset(hole, at)),
            },
        }
    }

    /// Where to write the `.env` down that has this variable and is not read.
    fn unread_env(&self, name: &str) -> Option<String> {
        let text = self.facts.unread_env.as_ref()?;
        let is_there = dotenv::entries(text).0.into_iter().any(|entry| entry.name == name);
        let project = get(&self.document.tree, "project").and_then(TomlNode::table);
        let has_others = project.is_some_and(|project| get(project, "env_file").is_some());
        let help = if has_others { "add \".env\" to env_file of [project]" } else { "[project] env_file = \".env\"" };
        is_there.then(|| format!(".env has it: {help}"))
    }

    fn set_help(&self, name: &str) -> String {
        if let Some(help) = self.unread_env(name) {
            return help;
        }
        let file = self.order.last().and_then(|path| path.strip_prefix(&self.document.root).ok());
        match file {
            Some(file) => format!("set {name}=… in {} or in the shell", file.display()),
            None => format!("set it in the shell: export {name}=…"),
        }
    }

    pub(super) fn unset(&self, hole: &Hole, at: Span) -> Reported {
        let name = name_text(&hole.name);
        let required = get(&self.document.tree, "project").and_then(TomlNode::table).and_then(|project| get(project, "required"));
        if required.is_some_and(|node| node.elements().iter().filter_map(TomlNode::text).any(|one| one == name)) {
            // All of those are told in one error.
            return Reported;
        }
        if let Name::Dotted(service, attribute) = &hole.name {
            let what = format!("`{service}` has no {attribute}");
            let help = match attribute.as_str() {
                "port" | "addr" | "url" => format!("give it one: [services.{service}] port = 8000, or port = \"auto\""),
                "data" => format!("give it one: [services.{service}] data = \"VOLUME\""),
                other => format!("give it one: [services.{service}] {other} = \"…\""),
            };
            return self.report(Diagnostic::error(at, what).help(help));
        }
        let near = if self.unread_env(&name).is_some() {
            None
        } else {
            let project = self.order.iter().filter_map(|path| self.files.get(path)).flat_map(|file| file.keys());
            let names: Vec<&str> = project.map(String::as_str).collect();
            suggest::nearest(&name, names).map(str::to_owned)
        };
        let help = if name == "PORT" {
            "give the service a port: port = 8000, or port = \"auto\"".to_owned()
        } else if let Some(near) = near {
            format!("did you mean `{near}`?")
        } else if !hole.written.starts_with("${") {
            format!("{}; a variable of the shell script's own is $${name}", self.set_help(&name))
        } else {
            format!("{}, or give a default: ${{{name}:-…}}", self.set_help(&name))
        };
        self.report(Diagnostic::error(at, format!("`{name}` is not set")).help(help))
    }

    /// What a placeholder outside every service names; `None`: nothing.
    pub(crate) fn looked_up(&self, name: &Name, at: Span) -> Resolved<Option<String>> {
        self.named(name, at, Scope::default())
    }

    fn named(&self, name: &Name, at: Span, scope: Scope<'_>) -> Resolved<Option<String>> {
        match name {
            Name::Variable(name) => match name.as_str() {
                "project" => Ok(Some(self.document.project.as_str().to_owned())),
                "mode" => Ok(Some(self.document.mode.clone().unwrap_or_default())),
                "instance" => Ok(Some(self.document.options.instance.clone())),
                _ => self.variable(name, at, scope),
            },
            Name::Dotted(head, rest) => match head.as_str() {
                "secret" => self.secret(rest, at).map(Some),
                "dir" => self.folder(rest, at, scope).map(Some),
                "replica" => self.replica(rest, at, scope).map(Some),
                _ => {
                    self.known(head, rest, at, scope)?;
                    self.attribute(head, rest, at)
                }
            },
        }
    }

    pub(super) fn secret(&self, name: &str, at: Span) -> Resolved<String> {
        if let Some(value) = self.facts.secrets.get(name) {
            return Ok(value.clone());
        }
        if let Some((_, path)) = self.document.secret_files().into_iter().find(|(known, _)| known == name) {
            let Some(text) = self.facts.recipe_files.get(&path) else {
                return Err(self.report(
                    Diagnostic::error(at, format!("secret `{name}`: cannot read {}", path.display()))
                        .help("write the file, or take the name out of [secrets].files"),
                ));
            };
            // What an editor adds is not part of the value: a byte order mark in front, a line break behind.
            let text = text.strip_prefix('\u{feff}').unwrap_or(text);
            return Ok(text.strip_suffix('\n').map_or(text, |text| text.strip_suffix('\r').unwrap_or(text)).to_owned());
        }
        let declared: Vec<String> = self.declared_secrets();
        if declared.iter().any(|known| known == name) {
            // A read-only verb makes none; what it prints is masked anyway.
            return Ok(format!("<secret {name}>"));
        }
        let near = suggest::nearest(name, declared.iter().map(String::as_str)).map(|near| format!("did you mean `{near}`?"));
        Err(self.report(Diagnostic::error(at, format!("no secret is named `{name}`")).help(
            near.unwrap_or_else(|| format!("declare it: [secrets] generate = [\"{name}\"]; a file you put there is honoured")),
        )))
    }

    /// Names in `[secrets].generate` and those of generated passwords.
    pub(crate) fn declared_secrets(&self) -> Vec<String> {
        let mut names: Vec<String> = self.document.generated_secrets().into_iter().map(|(name, _)| name).collect();
        names.extend(self.services.values().filter_map(|service| self.generated_password(service)));
        names
    }

    /// The name of the password that is made for a service which gives none.
    pub(crate) fn generated_password(&self, service: &DeclaredService) -> Option<String> {
        let recipe = service.recipe.as_ref().map(|used| &used.data).filter(|data| data.wants_password)?;
        let has_own_file = recipe.password_file.as_deref().is_some_and(|file| renders(service, file));
        let is_ours = service.get("external").is_none() || user_scope::is_user(&service.tree);
        (is_ours && !has_own_file && !service.tree.contains_key("password")).then(|| format!("{}-password", service.name))
    }

    fn folder(&self, name: &str, at: Span, scope: Scope<'_>) -> Resolved<String> {
        let places = &self.facts.places;
        let path = match name {
            "project" => places.root.clone(),
            "data" => self.facts.data(self.document.mode.as_deref()),
            "logs" => places.logs(),
            "run" => match scope.service.and_then(|(service, replica)| self.id(service, replica)) {
                Some(id) => places.service_run(&id),
                None => places.run.clone(),
            },
            other => {
                return Err(self.report(
                    Diagnostic::error(at, format!("unknown directory `dir.{other}`"))
                        .maybe_help(suggest::help(other, ["data", "logs", "run", "project"])),
                ));
            }
        };
        Ok(path.display().to_string())
    }

    /// The id of one copy.
    pub(crate) fn id(&self, service: &str, replica: u32) -> Option<ServiceId> {
        match self.services.get(service) {
            Some(service) => self.copy_id(service, replica),
            None => Some(ServiceId::single(&ServiceName::new(service).ok()?)),
        }
    }

    fn replica(&self, name: &str, at: Span, scope: Scope<'_>) -> Resolved<String> {
        let Some((service, replica)) = scope.service else {
            return Err(self.report(
                Diagnostic::error(at, format!("`replica.{name}` has a meaning inside a service only"))
                    .help("use it in [services.NAME] env or run"),
            ));
        };
        match name {
            "index" => Ok(replica.to_string()),
            "name" => Ok(self.id(service, replica).map(|id| id.to_string()).unwrap_or_default()),
            other => Err(self.report(
                Diagnostic::error(at, format!("unknown attribute `replica.{other}`"))
                    .maybe_help(suggest::help(other, ["name", "index"])),
            )),
        }
    }

    /// How many copies there are; faults of the number are reported where the service is lowered.
    pub(crate) fn replicas(&self, service: &DeclaredService) -> u32 {
        if service.task {
            return 1;
        }
        if let Some(number) = self.document.options.scale.get(&service.name) {
            return (*number).max(1);
        }
        let declared = self.declared_replicas(service);
        let remembered = self.document.options.remembered_scale.get(&service.name);
        remembered.filter(|one| one.procfile == declared).map_or(declared, |one| one.copies.clamp(1, 1000))
    }

    /// How many copies the procfile says.
    pub(crate) fn declared_replicas(&self, service: &DeclaredService) -> u32 {
        match service.get("replicas").map(|node| &node.value) {
            Some(TomlValue::Integer(number)) => u32::try_from(*number).unwrap_or(1).clamp(1, 1000),
            Some(TomlValue::Text(text)) => {
                let parts = template::parse(text, false).unwrap_or_default();
                let quiet = parts.iter().all(|part| match part {
                    Part::Literal(_) => true,
                    Part::Hole(hole) => matches!(hole.name, Name::Variable(_)),
                });
                let span = service.get("replicas").map_or(service.key, |node| node.span);
                let value = if quiet { self.fill(&parts, span, Scope::default()).ok() } else { None };
                value.and_then(|text| text.trim().parse().ok()).unwrap_or(1).clamp(1, 1000)
            }
            _ => 1,
        }
    }

    /// Reports a reference to a service or attribute that does not exist.
    fn known(&self, service: &str, attribute: &str, at: Span, _scope: Scope<'_>) -> Resolved<()> {
        let Some(found) = self.services.get(service) else {
            let names = self.services.keys().map(String::as_str).chain(["secret", "dir", "replica"]);
            return Err(self.report(
                Diagnostic::error(at, format!("unknown service `{service}`")).maybe_help(suggest::help(service, names)),
            ));
        };
        if let Some(port) = attribute.strip_prefix("ports.") {
            let ports = self.port_names(found);
            let names = ports.iter().map(String::as_str).filter(|name| *name != "main");
            if !ports.iter().any(|name| name == port) {
                return Err(self.report(Diagnostic::error(at, format!("`{service}` has no port named `{port}`")).maybe_help(
                    suggest::help(port, names).or_else(|| Some(format!("[services.{service}] ports = {{ {port} = 9000 }}"))),
                )));
            }
        } else if !ATTRIBUTES.contains(&attribute) {
            let names = ATTRIBUTES.iter().copied();
            return Err(self.report(
                Diagnostic::error(at, format!("a service has no attribute `{attribute}`"))
                    .maybe_help(
                        suggest::nearest(attribute, names.clone()).map(|near| format!("did you mean `{service}.{near}`?")),
                    )
                    .maybe_help(if suggest::nearest(attribute, names.clone()).is_none() {
                        Some(format!("there are {} and `ports.NAME`", suggest::list(names).replace(" and ", ", ")))
                    } else {
                        None
                    }),
            ));
        }
        Ok(())
    }

    /// Resolves once; a circle is an error with its path.
    pub(super) fn once(
        &self,
        key: ScopeKey,
        at: Span,
        make: impl FnOnce() -> Resolved<Option<String>>,
    ) -> Resolved<Option<String>> {
        if let Some(value) = self.memo.borrow().get(&key) {
            return value.clone();
        }
        let circle = {
            let stack = self.stack.borrow();
            stack.iter().position(|other| *other == key).map(|from| {
                let mut path: Vec<String> = stack[from..].iter().map(ToString::to_string).collect();
                path.push(key.to_string());
                path.join(" → ")
            })
        };
        if let Some(path) = circle {
            return Err(self.report(
                Diagnostic::error(at, format!("these values need one another: {path}"))
                    .help("give one of them a value of its own"),
            ));
        }
        if self.stack.borrow().len() > 200 {
            return Err(self.report(Diagnostic::error(at, "values refer to one another more than 200 deep")));
        }
        self.stack.borrow_mut().push(key.clone());
        let value = make();
        self.stack.borrow_mut().pop();
        self.memo.borrow_mut().insert(key, value.clone());
        value
    }
}

/// Whether the procfile itself gives this file of the service's run directory.
fn renders(service: &DeclaredService, file: &str) -> bool {
    let table = |key: &str| service.get(key).and_then(TomlNode::table).into_iter().flatten();
    table("files").any(|(name, node)| name.as_str() == file && !node.is_false())
        || table("render").any(|(_, node)| node.text() == Some(file))
}

fn name_text(name: &Name) -> String {
    match name {
        Name::Variable(name) => name.clone(),
        Name::Dotted(head, rest) => format!("{head}.{rest}"),
    }
}
