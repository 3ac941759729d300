//! What `${SERVICE.ATTR}` gives: ports, addresses, logins and folders of services, each resolved when first asked for.

use std::path::PathBuf;

use super::absolute_path::absolute;
use super::declared_service::{DeclaredService, volume_names};
use super::diagnostic::Diagnostic;
use super::interpolate::{Reported, Resolved, Resolver, Scope, ScopeKey};
use super::source_map::Span;
use super::template::{Hole, Name, Operator};
use super::toml_node::{TomlNode, TomlValue, get};
use super::{PortPreference, local_ca, service_url};

/// How a service gets a port.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum PortSpec {
    Fixed(u16),
    Preference(PortPreference),
}

impl Resolver<'_> {
    // Ports.

    /// `main` where there is one, then the named ones.
    pub(crate) fn port_names(&self, service: &DeclaredService) -> Vec<String> {
        let mut names = Vec::new();
        let recipe = service.recipe.as_ref().map(|used| &used.data);
        let main = match service.tree.get("port") {
            Some(node) => !node.is_false(),
            None => recipe.is_some_and(|recipe| recipe.port.is_some()) || service.get("external").is_some(),
        };
        if main {
            names.push("main".to_owned());
        }
        let own = service.tree.get("ports").and_then(TomlNode::table);
        names.extend(
            own.into_iter().flat_map(|table| table.iter().filter(|(_, node)| !node.is_false()).map(|(name, _)| name.clone())),
        );
        if service.tree.get("ports").is_none_or(|node| !node.is_false()) {
            let theirs = recipe.into_iter().flat_map(|recipe| recipe.ports.keys());
            let missing: Vec<String> = theirs.filter(|name| own.is_none_or(|own| !own.contains_key(*name))).cloned().collect();
            names.extend(missing);
        }
        names
    }

    /// The key that gives a port, where the procfile has one.
    pub(crate) fn port_node<'s>(&self, service: &'s DeclaredService, name: &str) -> Option<&'s TomlNode> {
        if name == "main" {
            service.get("port")
        } else {
            service.get("ports").and_then(TomlNode::table).and_then(|table| get(table, name))
        }
    }

    /// How a copy's port can be obtained: those with a number have ports of their own.
    pub(crate) fn copy_port_spec(&self, service: &DeclaredService, name: &str, replica: u32) -> Resolved<Option<PortSpec>> {
        let is_own = self.has_own_port(service, name, replica);
        Ok(match self.port_spec(service, name)? {
            Some(PortSpec::Fixed(_) | PortSpec::Preference(PortPreference::Usual(_))) if is_own => {
                Some(PortSpec::Preference(PortPreference::Auto))
            }
            spec => spec,
        })
    }

    /// How a port can be obtained, as the procfile says.
    pub(crate) fn port_spec(&self, service: &DeclaredService, name: &str) -> Resolved<Option<PortSpec>> {
        let loose = self.document.options.ports_auto || !self.document.options.instance.is_empty();
        let spec = match self.port_node(service, name) {
            Some(node) => match &node.value {
                TomlValue::Integer(number) => PortSpec::Fixed(u16::try_from(*number).map_err(|_| Reported)?),
                TomlValue::Text(text) => {
                    let value = self.expand(text, node.span, Scope { port: true, ..Scope::of(&service.name, 1) })?;
                    match value.trim() {
                        "auto" => PortSpec::Preference(PortPreference::Auto),
                        "private" => PortSpec::Preference(PortPreference::Private),
                        number => match number.parse::<u16>() {
                            Ok(number @ 1..) => PortSpec::Fixed(number),
                            _ => {
                                return Err(self.report(
                                    Diagnostic::error(node.span, format!("invalid port {number:?}"))
                                        .help("a port is a number from 1 to 65535, \"auto\", \"private\" or false"),
                                ));
                            }
                        },
                    }
                }
                _ => return Ok(None),
            },
            None => {
                let recipe = service.recipe.as_ref().map(|used| &used.data);
                let usual = match name {
                    "main" => recipe.and_then(|recipe| recipe.port),
                    name => recipe.and_then(|recipe| recipe.ports.get(name).copied()),
                };
                match usual {
                    Some(number) => PortSpec::Preference(PortPreference::Usual(number)),
                    None => return Ok(None),
                }
            }
        };
        Ok(Some(match spec {
            PortSpec::Preference(PortPreference::Private) => spec,
            _ if loose => PortSpec::Preference(PortPreference::Auto),
            spec => spec,
        }))
    }

    /// The name under which a copy's port is asked for and handed in.
    pub(crate) fn port_key(&self, service: &DeclaredService, name: &str, replica: u32) -> (String, String) {
        let name = if self.has_own_port(service, name, replica) { format!("{name}.{replica}") } else { name.to_owned() };
        (service.name.clone(), name)
    }

    /// A port's number. One that nobody has chosen is the usual one, or 0 where a read-only verb asks.
    pub(crate) fn port(&self, service: &DeclaredService, replica: u32, name: &str, at: Span) -> Resolved<Option<u16>> {
        if name == "main" && service.get("external").is_some() && service.get("port").is_none() {
            return Ok(self.external(service, at)?.and_then(|url| url.port));
        }
        let shown = if name == "main" { "port".to_owned() } else { format!("ports.{name} of copy {replica}") };
        let key = ScopeKey::Port(service.name.clone(), replica, shown);
        let text = self.once(key, at, || {
            let number = match self.copy_port_spec(service, name, replica)? {
                None => return Ok(None),
                Some(PortSpec::Fixed(number)) => number,
                Some(PortSpec::Preference(preference)) => {
                    let chosen = self.facts.ports.get(&self.port_key(service, name, replica)).copied();
                    chosen.unwrap_or(match preference {
                        PortPreference::Usual(number) => number,
                        PortPreference::Auto | PortPreference::Private => 0,
                    })
                }
            };
            Ok(Some(number.to_string()))
        })?;
        Ok(text.and_then(|text| text.parse().ok()))
    }

    /// The port that clients use: the shared one where there is one, else that of the first copy.
    pub(crate) fn client_port(&self, service: &DeclaredService, at: Span) -> Resolved<Option<u16>> {
        if self.has_shared_address(service) { Ok(self.shared_port(service)) } else { self.port(service, 1, "main", at) }
    }

    // Attributes.

    /// The address of somebody else's server.
    pub(crate) fn external(&self, service: &DeclaredService, _at: Span) -> Resolved<Option<service_url::Parts>> {
        let Some(node) = service.get("external") else { return Ok(None) };
        let text = self.text(node, Scope { port: true, ..Scope::of(&service.name, 1) })?;
        match service_url::parse(&text) {
            Ok(parts) => Ok(Some(parts)),
            Err(reason) => Err(self.report(
                Diagnostic::error(node.span, format!("`external` of `{}`: {reason}", service.name))
                    .help("write external = \"postgres://user:password@host:5432/database\""),
            )),
        }
    }

    /// The address a client dials.
    pub(crate) fn host(&self, service: &DeclaredService, at: Span) -> Resolved<String> {
        if let Some(url) = self.external(service, at)? {
            return Ok(url.host);
        }
        let bind = self.bind(service)?;
        Ok(match bind.as_str() {
            "" | "0.0.0.0" | "::" | "[::]" | "*" | "localhost" => "127.0.0.1".to_owned(),
            _ => bind,
        })
    }

    /// The address it listens on.
    pub(crate) fn bind(&self, service: &DeclaredService) -> Resolved<String> {
        match service.get("bind") {
            Some(node) => self.text(node, Scope { port: true, ..Scope::of(&service.name, 1) }),
            None => Ok("127.0.0.1".to_owned()),
        }
    }

    /// An attribute of the first copy; `None`: it has none.
    pub(crate) fn attribute(&self, service_name: &str, attribute: &str, at: Span) -> Resolved<Option<String>> {
        let Some(service) = self.services.get(service_name) else { return Ok(None) };
        self.once(ScopeKey::Attribute(service_name.to_owned(), attribute.to_owned()), at, || {
            self.make_attribute(service, attribute, at)
        })
    }

    fn make_attribute(&self, service: &DeclaredService, attribute: &str, at: Span) -> Resolved<Option<String>> {
        let external = self.external(service, at)?;
        let recipe = service.recipe.as_ref().map(|used| &used.data);
        let own = |key: &str| -> Resolved<Option<String>> {
            match service.tree.get(key) {
                Some(node) if node.is_false() => Ok(None),
                Some(node) => self.text(node, Scope::of(&service.name, 1)).map(|text| Some(text).filter(|text| !text.is_empty())),
                None => Ok(None),
            }
        };
        if let Some(name) = attribute.strip_prefix("ports.") {
            return Ok(self.port(service, 1, name, at)?.map(|port| port.to_string()));
        }
        Ok(match attribute {
            "host" => Some(self.host(service, at)?),
            "port" => self.client_port(service, at)?.map(|port| port.to_string()),
            "addr" => {
                let host = self.host(service, at)?;
                self.client_port(service, at)?.map(|port| service_url::addr(&host, port))
            }
            "url" => {
                if self.client_port(service, at)?.is_none() && external.is_none() {
                    return Ok(None);
                }
                Some(self.url(&service.name, None, at)?)
            }
            "user" => match own("user")? {
                Some(user) => Some(user),
                None => external.and_then(|url| url.user).or_else(|| recipe.and_then(|recipe| recipe.user.clone())),
            },
            "password" => match own("password")? {
                Some(password) => Some(password),
                None => match self.generated_password(service) {
                    Some(name) => Some(self.secret(&name, at)?),
                    None => external.and_then(|url| url.password),
                },
            },
            "database" => match own("database")? {
                Some(database) => Some(database),
                None => external.and_then(|url| url.database).or_else(|| {
                    recipe.and_then(|recipe| {
                        // Postgres names a database after its user where nobody says otherwise.
                        recipe.database.clone()
                    })
                }),
            },
            "data" => service.data().map(|volume| self.volume_path(&volume).0.display().to_string()),
            _ => None,
        })
    }

    /// The URL of the first copy.
    pub(crate) fn url(&self, service_name: &str, scheme: Option<&str>, at: Span) -> Resolved<String> {
        let Some(service) = self.services.get(service_name) else { return Err(Reported) };
        let external = self.external(service, at)?;
        let mut base = service
            .recipe
            .as_ref()
            .map(|used| used.data.scheme.clone())
            .or_else(|| external.as_ref().map(|url| url.scheme.clone()))
            .unwrap_or_else(|| "http".to_owned());
        let Some(port) = self.client_port(service, at)? else {
            let hole = Hole {
                name: Name::Dotted(service_name.to_owned(), "url".to_owned()),
                operator: Operator::None,
                written: String::new(),
            };
            return Err(self.unset(&hole, at));
        };
        let host = self.host(service, at)?;
        let is_tls = || Ok(local_ca::serves_tls(self, service)? || self.is_probed_by_https(service, &host, port)?);
        if base == "http" && external.is_none() && is_tls()? {
            base = "https".to_owned();
        }
        let (user, password, database) = if service_url::carries_login(&base) {
            (
                self.attribute(service_name, "user", at)?,
                self.attribute(service_name, "password", at)?,
                self.attribute(service_name, "database", at)?,
            )
        } else {
            (None, None, None)
        };
        Ok(service_url::build(scheme.unwrap_or(&base), user.as_deref(), password.as_deref(), &host, port, database.as_deref()))
    }

    /// Whether `ready.http` is an `https://` URL of the service's own main port: a server that speaks TLS there speaks nothing
    /// else.
    fn is_probed_by_https(&self, service: &DeclaredService, host: &str, port: u16) -> Resolved<bool> {
        let Some(node) = service.get("ready").and_then(TomlNode::table).and_then(|table| get(table, "http")) else {
            return Ok(false);
        };
        // One that is made of a service's URL, perhaps of this very one, says nothing about the scheme.
        let Some(text) = node.text().filter(|text| text.starts_with("https://") && !text.contains(".url")) else {
            return Ok(false);
        };
        let probed = service_url::parse(&self.expand(text, node.span, Scope::of(&service.name, 1))?);
        let is_own_host = |probed: &str| probed == host || matches!(probed, "localhost" | "::1") || probed.starts_with("127.");
        Ok(probed.is_ok_and(|probed| probed.port == Some(port) && is_own_host(&probed.host)))
    }

    // Volumes.

    /// A volume's folder, and whether the procfile gave it.
    pub(crate) fn volume_path(&self, name: &str) -> (PathBuf, bool) {
        let node = get(&self.document.tree, "volumes")
            .and_then(TomlNode::table)
            .and_then(|table| get(table, name))
            .and_then(TomlNode::table);
        if let Some(path) = node.and_then(|volume| get(volume, "path"))
            && let Ok(text) = self.text(path, Scope::default())
        {
            return (absolute(&self.facts.places.root, &text), true);
        }
        (self.facts.data(self.document.mode.as_deref()).join(name), false)
    }

    /// All volumes' names.
    pub(crate) fn volumes(&self) -> Vec<String> {
        volume_names(self.document, &self.services).into_iter().collect()
    }
}
