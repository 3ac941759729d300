//! Placeholders → what they mean among containers: a service is reached by its name and the port of its container, a secret
//! stays a secret, a variable of the caller stays a variable.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::Path;

use devrun_model::{Plan, ServiceSpec};
use toml::{Table, Value};

use super::images::{ContainerImage, image_of, recipe_of};
use super::losses::Losses;
use super::template::{self, ExportPlaceholder, ExportText, Piece, PlaceholderOperator, TextPart};

/// The port of an own service's container whose number the procfile leaves open; each container has all numbers to itself.
const OPEN_PORT: u16 = 8080;
/// The first of the other open ones.
const OPEN_NAMED_PORT: u16 = 9080;

/// What an export is made of.
pub struct ExportSource<'a> {
    /// The merged procfile, placeholders as they were written.
    pub merged: &'a Table,
    /// The plan, with every profile.
    pub plan: &'a Plan,
    /// The text of a file of the project; `None` where there is none.
    pub read: &'a dyn Fn(&Path) -> Option<String>,
    /// The files of a directory of the project.
    pub list: &'a dyn Fn(&Path) -> Vec<std::path::PathBuf>,
    /// A variable of the shell or of the project's env files.
    pub variable: &'a dyn Fn(&str) -> Option<String>,
    /// The versions in use, by recipe.
    pub versions: &'a BTreeMap<String, String>,
    /// Where the generated secrets lie.
    pub secrets_dir: &'a Path,
}

impl ExportSource<'_> {
    /// The file of a secret: one of the project's own, or that in which devrun keeps it.
    pub(crate) fn secret_file(&self, name: &str) -> std::path::PathBuf {
        match self.own_secret(name) {
            Some(file) => self.plan.root.join(file),
            None => self.secrets_dir.join(name),
        }
    }

    /// The path of a secret of `[secrets] files`, relative to the project.
    pub(crate) fn own_secret(&self, name: &str) -> Option<&str> {
        self.secret_files().find(|(known, _)| *known == name).map(|(_, file)| file)
    }

    /// `[secrets] files`: names and paths.
    pub(crate) fn secret_files(&self) -> impl Iterator<Item = (&str, &str)> {
        let files = self.merged.get("secrets").and_then(|secrets| secrets.get("files")).and_then(Value::as_table);
        files.into_iter().flatten().filter_map(|(name, file)| Some((name.as_str(), file.as_str()?)))
    }
}

/// From where a placeholder is looked at.
#[derive(Debug, Clone, Copy)]
pub(crate) struct PlaceholderScope<'s> {
    pub service: &'s str,
    /// For losses.
    pub key: &'s str,
}

/// Fills in placeholders, and keeps what it could not.
pub(crate) struct References<'a> {
    pub source: &'a ExportSource<'a>,
    pub losses: RefCell<Losses>,
    /// For Kubernetes: names become host names of the strict kind, without `_`, and nothing is built.
    pub is_strict: bool,
    /// What is being filled in.
    stack: RefCell<Vec<(String, String)>>,
}

impl<'a> References<'a> {
    pub(crate) fn new(source: &'a ExportSource<'a>, is_strict: bool) -> Self {
        Self { source, losses: RefCell::default(), is_strict, stack: RefCell::default() }
    }

    pub(crate) fn lose(&self, key: impl Into<String>, reason: impl Into<String>) {
        self.losses.borrow_mut().add(key, reason);
    }

    /// A service's name as a host.
    pub(crate) fn host(&self, name: &str) -> String {
        if self.is_strict { strict_name(name) } else { host_name(name) }
    }

    /// The table of a service or task.
    pub(crate) fn table(&self, name: &str) -> Option<&'a Table> {
        ["services", "tasks"].iter().find_map(|group| self.source.merged.get(*group)?.get(name)?.as_table())
    }

    pub(crate) fn is_task(&self, name: &str) -> bool {
        self.source.merged.get("tasks").and_then(|tasks| tasks.get(name)).is_some()
    }

    /// `services.api`, for losses.
    pub(crate) fn path(&self, name: &str) -> String {
        format!("{}.{name}", if self.is_task(name) { "tasks" } else { "services" })
    }

    /// A key of a service: its own, else that of `[defaults]`; `false` removes it.
    pub(crate) fn key(&self, name: &str, key: &str) -> Option<&'a Value> {
        let own = self.table(name).and_then(|table| table.get(key));
        let value = own.or_else(|| self.source.merged.get("defaults")?.get(key))?;
        (value.as_bool() != Some(false)).then_some(value)
    }

    /// The plan's first copy of a service.
    pub(crate) fn spec(&self, name: &str) -> Option<&'a ServiceSpec> {
        self.source.plan.services.values().map(AsRef::as_ref).find(|spec| spec.service.as_str() == name)
    }

    pub(crate) fn image(&self, name: &str) -> Option<&'static ContainerImage> {
        image_of(self.table(name)?)
    }

    /// The image as it is named, for one that is known.
    pub(crate) fn image_reference(&self, name: &str) -> Option<(&'static ContainerImage, String)> {
        let table = self.table(name)?;
        let image = image_of(table)?;
        let asked = table.get("use").and_then(Value::as_str).and_then(|text| text.split_once('@')).map(|(_, version)| version);
        Some((image, image.reference(asked, self.source.versions.get(image.recipe).map(String::as_str))))
    }

    /// A value of the procfile as text, its placeholders filled in.
    pub(crate) fn value(&self, value: &Value, scope: PlaceholderScope<'_>) -> ExportText {
        match value {
            Value::String(text) => self.text(text, scope),
            Value::Array(_) | Value::Table(_) => ExportText::default(),
            other => ExportText::literal(other.to_string()),
        }
    }

    pub(crate) fn text(&self, text: &str, scope: PlaceholderScope<'_>) -> ExportText {
        self.fill(&template::parts(text, false), scope)
    }

    pub(crate) fn fill(&self, parts: &[TextPart], scope: PlaceholderScope<'_>) -> ExportText {
        let mut out = ExportText::default();
        for part in parts {
            match part {
                TextPart::Literal(text) => out.push(Piece::Literal(text.clone())),
                TextPart::ExportPlaceholder(hole) => out.append(self.hole(hole, scope)),
            }
        }
        out
    }

    pub(crate) fn hole(&self, hole: &ExportPlaceholder, scope: PlaceholderScope<'_>) -> ExportText {
        if let Some((head, rest)) = hole.name.split_once('.') {
            return self.dotted(head, rest, hole, scope);
        }
        let known = match hole.name.as_str() {
            "project" => Some(ExportText::literal(self.source.plan.project.to_string())),
            "mode" => Some(ExportText::literal(self.source.plan.mode.clone().unwrap_or_default())),
            "instance" => Some(ExportText::default()),
            name => self.own(name, scope),
        };
        match known {
            Some(value) => self.known(value, hole, scope),
            None => self.variable(hole, scope),
        }
    }

    /// A value that is known, under the operator that follows its name.
    fn known(&self, value: ExportText, hole: &ExportPlaceholder, scope: PlaceholderScope<'_>) -> ExportText {
        let is_empty = hole.operator.starts_with(':') && value.as_literal() == Some("");
        match hole.operator {
            ":-" | "-" if is_empty => self.text(&hole.word, scope),
            ":+" | "+" if !is_empty => self.text(&hole.word, scope),
            ":+" | "+" => ExportText::default(),
            _ => value,
        }
    }

    /// A variable that the service itself is given: its own `env`, and its ports.
    fn own(&self, name: &str, scope: PlaceholderScope<'_>) -> Option<ExportText> {
        let here = (scope.service.to_owned(), name.to_owned());
        if self.stack.borrow().contains(&here) {
            return None;
        }
        let env = self.table(scope.service).and_then(|table| table.get("env")).and_then(|env| env.get(name));
        if let Some(value) = env {
            self.stack.borrow_mut().push(here);
            let text = self.value(value, scope);
            self.stack.borrow_mut().pop();
            return Some(text);
        }
        match name {
            "PORT" => self.port(scope.service, "main"),
            name => {
                let port = name.strip_prefix("PORT_")?;
                let names = self.key(scope.service, "ports").and_then(Value::as_table).into_iter().flat_map(Table::keys);
                let named = names.into_iter().find(|known| shout(known) == port)?;
                self.port(scope.service, named)
            }
        }
    }

    fn variable(&self, hole: &ExportPlaceholder, scope: PlaceholderScope<'_>) -> ExportText {
        let colon = hole.operator.starts_with(':');
        let word = || self.text(&hole.word, scope);
        let operator = match hole.operator {
            ":-" | "-" => PlaceholderOperator::Default(colon, word()),
            ":?" | "?" => PlaceholderOperator::Required(colon, word()),
            ":+" | "+" => PlaceholderOperator::Alternative(colon, word()),
            _ => {
                // `[env]` lies below everything that the caller says.
                let shared = self.source.merged.get("env").and_then(|env| env.get(&hole.name));
                let here = (String::new(), hole.name.clone());
                match shared.filter(|_| !self.stack.borrow().contains(&here)) {
                    Some(value) => {
                        self.stack.borrow_mut().push(here);
                        let text = self.value(value, scope);
                        self.stack.borrow_mut().pop();
                        PlaceholderOperator::Default(false, text)
                    }
                    None => PlaceholderOperator::None,
                }
            }
        };
        ExportText(vec![Piece::Variable(hole.name.clone(), operator)])
    }

    fn dotted(&self, head: &str, rest: &str, hole: &ExportPlaceholder, scope: PlaceholderScope<'_>) -> ExportText {
        match head {
            "secret" => return ExportText::secret(rest),
            "dir" => {
                let data = self.image_reference(scope.service).map(|(image, reference)| image.data_of(&reference).to_owned());
                return match (rest, data) {
                    ("data", Some(data)) => ExportText::literal(data),
                    _ => {
                        self.lose(scope.key, format!("`dir.{rest}` is a directory of this machine"));
                        ExportText::literal(format!("/devrun/{rest}"))
                    }
                };
            }
            "replica" => {
                if self.spec(scope.service).is_some_and(|spec| spec.replicas > 1) {
                    self.lose(
                        scope.key,
                        format!("every copy gets the same `replica.{rest}`; use the host name of the container"),
                    );
                }
                return ExportText::literal(if rest == "index" { "1" } else { scope.service });
            }
            _ => {}
        }
        let scheme = (hole.operator == ":").then_some(hole.word.as_str());
        match self.attribute(head, rest, scheme, scope) {
            Some(value) => self.known(value, hole, scope),
            None if hole.operator.ends_with('-') => self.text(&hole.word, scope),
            None => {
                self.lose(scope.key, format!("`{head}.{rest}` is not known there"));
                ExportText::default()
            }
        }
    }

    /// The port of a service inside its container.
    pub(crate) fn port(&self, name: &str, port: &str) -> Option<ExportText> {
        if let Some(image) = self.image(name) {
            return image.port_named(port).map(|port| ExportText::literal(port.to_string()));
        }
        if self.is_gateway(name) && port == "main" {
            return Some(ExportText::literal("80"));
        }
        let (raw, open) = if port == "main" {
            (self.key(name, "port")?, OPEN_PORT)
        } else {
            let ports = self.key(name, "ports")?.as_table()?;
            let at = ports.keys().position(|known| known == port)?;
            (ports.get(port)?, OPEN_NAMED_PORT + u16::try_from(at).ok()?)
        };
        match raw {
            Value::String(text) if matches!(text.as_str(), "auto" | "private") => Some(ExportText::literal(open.to_string())),
            raw => {
                let here = (name.to_owned(), "PORT".to_owned());
                let nested = self.stack.borrow().contains(&here);
                if nested {
                    return None;
                }
                self.stack.borrow_mut().push(here);
                let text = self.value(raw, PlaceholderScope { service: name, key: "port" });
                self.stack.borrow_mut().pop();
                Some(text)
            }
        }
    }

    pub(crate) fn is_gateway(&self, name: &str) -> bool {
        self.table(name).and_then(recipe_of) == Some("gateway")
    }

    /// The secret that is the password of a recipe which wants one and is given none.
    fn generated_password(&self, name: &str) -> Option<String> {
        let spec = self.spec(name)?;
        let devrun_model::Launch::Recipe(recipe) = &spec.launch else { return None };
        let is_generated = recipe.recipe.wants_password && self.key(name, "password").is_none();
        (is_generated && spec.attribute("password").is_some()).then(|| format!("{name}-password"))
    }

    /// `user`, `password` or `database` of a service.
    pub(crate) fn login(&self, name: &str, key: &str) -> Option<ExportText> {
        let scope = PlaceholderScope { service: name, key };
        if let Some(value) = self.table(name)?.get(key).filter(|value| value.as_bool() != Some(false)) {
            let text = self.value(value, scope);
            return (text.as_literal() != Some("")).then_some(text);
        }
        if key == "password"
            && let Some(secret) = self.generated_password(name)
        {
            return Some(ExportText::secret(secret));
        }
        let known = self.spec(name)?.attributes.get(key).filter(|value| !value.is_empty())?;
        Some(ExportText::literal(known))
    }

    /// What `${SERVICE.ATTR}` is among containers.
    fn attribute(&self, name: &str, attribute: &str, scheme: Option<&str>, scope: PlaceholderScope<'_>) -> Option<ExportText> {
        let spec = self.spec(name);
        if self.key(name, "external").is_some() {
            return self.external(name, attribute);
        }
        let colon = || ExportText::literal(":");
        // In a server's own configuration its address is what it listens on.
        let listens = scope.service == name && [".files.", ".render."].iter().any(|key| scope.key.contains(key));
        let host = || ExportText::literal(if listens { "0.0.0.0".to_owned() } else { self.host(name) });
        match attribute {
            "host" => Some(host()),
            "port" => self.port(name, "main"),
            "addr" => Some(ExportText::join([host(), colon(), self.port(name, "main")?])),
            "user" | "password" | "database" => self.login(name, attribute),
            "data" => self.image_reference(name).map(|(image, reference)| ExportText::literal(image.data_of(&reference))),
            "url" => {
                let port = self.port(name, "main")?;
                // The plan's own address has the scheme: that of the recipe, or https where its probe says so. A gateway speaks
                // HTTP there.
                let base = spec
                    .and_then(|spec| spec.attributes.get("url"))
                    .filter(|_| !self.is_gateway(name))
                    .and_then(|url| url.split_once("://"))
                    .map_or("http", |(scheme, _)| scheme);
                let login = if carries_login(base) { self.url_login(name, scope) } else { ExportText::default() };
                let database = if carries_login(base) { self.login(name, "database") } else { None };
                let mut out = ExportText::literal(format!("{}://", scheme.unwrap_or(base)));
                out.append(login);
                out.append(ExportText::join([host(), colon(), port]));
                if let Some(database) = database {
                    out.append(ExportText::literal("/"));
                    out.append(self.encoded(database, scope));
                }
                Some(out)
            }
            attribute => self.port(name, attribute.strip_prefix("ports.")?),
        }
    }

    fn encoded(&self, text: ExportText, scope: PlaceholderScope<'_>) -> ExportText {
        text.percent_encoded(self.source.variable, scope.key, &mut self.losses.borrow_mut())
    }

    fn url_login(&self, name: &str, scope: PlaceholderScope<'_>) -> ExportText {
        let (user, password) = (self.login(name, "user"), self.login(name, "password"));
        if user.is_none() && password.is_none() {
            return ExportText::default();
        }
        let mut out = self.encoded(user.unwrap_or_default(), scope);
        if let Some(password) = password {
            out.append(ExportText::literal(":"));
            out.append(self.encoded(password, scope));
        }
        out.append(ExportText::literal("@"));
        out
    }

    /// Somebody else's server keeps its address; one of this machine is reached under another name.
    fn external(&self, name: &str, attribute: &str) -> Option<ExportText> {
        let value = self.spec(name)?.attributes.get(attribute).filter(|value| !value.is_empty())?;
        if ["127.0.0.1", "localhost", "[::1]"].iter().any(|local| value.contains(local)) {
            self.lose(format!("services.{name}.external"), "a server of this machine is host.docker.internal to a container");
        }
        Some(ExportText::literal(value.replace("127.0.0.1", "host.docker.internal").replace("localhost", "host.docker.internal")))
    }
}

/// Whether clients of this scheme take user, password and database out of the URL.
fn carries_login(scheme: &str) -> bool {
    !matches!(scheme, "http" | "https" | "bolt" | "neo4j" | "grpc" | "tcp" | "s3" | "ws" | "wss" | "smtp" | "memcached")
}

/// A service's name as a host, where `_` may stand in one.
pub(crate) fn host_name(name: &str) -> String {
    name.to_ascii_lowercase()
}

/// A service's name as a host by RFC 1123.
pub(crate) fn strict_name(name: &str) -> String {
    let char = |char: char| if char.is_ascii_alphanumeric() { char.to_ascii_lowercase() } else { '-' };
    name.chars().map(char).collect::<String>().trim_matches('-').to_owned()
}

/// A name as a variable's.
pub(crate) fn shout(name: &str) -> String {
    name.chars().map(|char| if char.is_ascii_alphanumeric() { char.to_ascii_uppercase() } else { '_' }).collect()
}
