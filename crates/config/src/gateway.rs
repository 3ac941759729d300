//! A gateway's `routes` and `headers` → [`GatewaySpec`].

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;

use super::PortPreference;
use super::absolute_path::absolute;
use super::attributes::PortSpec;
use super::declared_service::DeclaredService;
use super::diagnostic::Diagnostic;
use super::interpolate::{Reported, Resolved, Resolver, Scope};
use super::local_ca;
use super::reader::Reader;
use super::routes::{is_gateway, routes};
use super::toml_node::{Table, TomlNode, get};
use devrun_model::suggest;
use devrun_model::{GatewaySpec, GatewayTls, Route, RoutePattern, RouteTarget, ServiceName, UpstreamSpec};

/// What a route's table may lead to; each has one of these.
const TARGETS: &[&str] = &["to", "files", "reply", "redirect"];
/// Keys that go with one kind of target.
const DETAILS: &[(&str, &str)] = &[("max_body", "to"), ("strip", "to"), ("fallback", "files")];
/// Headers that belong to the connection or to the framing of a message.
const NOT_SET: &[&str] = &["connection", "content-length", "keep-alive", "te", "trailer", "transfer-encoding", "upgrade"];
/// Recipes whose main port speaks something else.
const OTHER_PROTOCOLS: &[&str] =
    &["amqp", "bolt", "memcached", "mysql", "nats", "neo4j", "postgres", "postgresql", "redis", "smtp"];

/// The routes and headers of a service; `None` where it is no gateway.
pub(crate) fn lower(resolver: &Resolver<'_>, service: &DeclaredService) -> Resolved<Option<GatewaySpec>> {
    if !is_gateway(service) {
        return Ok(None);
    }
    let gateway = Lowering { resolver, service };
    let mut spec = GatewaySpec::default();
    let mut failed = false;
    let mut seen: BTreeMap<RoutePattern, &TomlNode> = BTreeMap::new();
    for (path, node) in routes(service) {
        match gateway.route(path, node) {
            Ok(route) => {
                if let Some(first) = seen.insert(route.path.clone(), node) {
                    resolver.report(
                        Diagnostic::error(node.key, format!("two routes lead from `{}`", route.path))
                            .note(first.key, "the other one")
                            .help("keep one of the two"),
                    );
                    failed = true;
                }
                if let RouteTarget::Service { service: target, .. } = &route.target {
                    match gateway.upstream(target, node) {
                        Ok(upstream) => {
                            spec.upstreams.insert(target.clone(), upstream);
                        }
                        Err(Reported) => failed = true,
                    }
                }
                spec.routes.push(route);
            }
            Err(Reported) => failed = true,
        }
    }
    for (name, node) in service.get("headers").and_then(TomlNode::table).into_iter().flatten() {
        match gateway.header(name, node) {
            Ok(value) => {
                spec.headers.insert(name.clone(), value);
            }
            Err(Reported) => failed = true,
        }
    }
    let names = Reader { resolver, table: &service.tree, scope: gateway.scope() }.flag("names", true);
    match gateway.tls() {
        Ok(tls) => spec.tls = tls,
        Err(Reported) => failed = true,
    }
    if names? && !failed {
        gateway.names(&mut spec);
    }
    if failed { Err(Reported) } else { Ok(Some(spec)) }
}

struct Lowering<'l, 'a> {
    resolver: &'l Resolver<'a>,
    service: &'l DeclaredService,
}

impl Lowering<'_, '_> {
    fn scope(&self) -> Scope<'_> {
        Scope::of(&self.service.name, 1)
    }

    fn bad(&self, node: &TomlNode, message: impl Into<String>, help: impl Into<String>) -> Reported {
        self.resolver.report(Diagnostic::error(node.span, message).help(help))
    }

    /// `tls`: every certificate is for this machine's own names and loopback addresses.
    fn tls(&self) -> Resolved<Option<GatewayTls>> {
        let Some(node) = self.service.get("tls") else { return Ok(None) };
        if !local_ca::serves_tls(self.resolver, self.service)? {
            return Ok(None);
        }
        let Some(files) = &self.resolver.facts.local_ca else {
            return Err(self.bad(
                node,
                "`tls` needs a state directory of the user, and HOME is not set",
                "set HOME or XDG_STATE_HOME",
            ));
        };
        if let Some(problem) = &files.problem {
            return Err(self.bad(
                node,
                format!("the local certificate authority cannot be used: {problem}"),
                format!("rm -r '{}', and the next start makes another; then devrun trust", files.directory.display()),
            ));
        }
        let host = self.resolver.host(self.service, node.span)?;
        let address = host.trim_matches(['[', ']']).parse::<IpAddr>();
        if !address.as_ref().is_ok_and(IpAddr::is_loopback) {
            return Err(self.bad(
                node,
                format!("`tls` has certificates for this machine's own names only, and `bind` is {host}"),
                "remove `bind`, or bind = \"0.0.0.0\"; for other machines, put Caddy or nginx with a certificate in front",
            ));
        }
        let addresses = address.iter().map(IpAddr::to_string).filter(|address| address != "127.0.0.1" && address != "::1");
        Ok(Some(GatewayTls { authority: files.directory.clone(), addresses: addresses.collect() }))
    }

    fn route(&self, text: &str, node: &TomlNode) -> Resolved<Route> {
        let pattern = RoutePattern::parse(text)
            .map_err(|(message, help)| self.resolver.report(Diagnostic::error(node.key, message).help(help)));
        let Some(table) = node.table() else {
            let target = self.resolver.text(node, self.scope()).and_then(|to| self.to_service(node, &to, None));
            return Ok(Route { path: pattern?, target: target?, max_body: None });
        };
        let keys = Reader { resolver: self.resolver, table, scope: self.scope() };
        let given: Vec<&&str> = TARGETS.iter().filter(|key| keys.node(key).is_some()).collect();
        let kind = match given.as_slice() {
            [kind] => **kind,
            [] => {
                return Err(self.bad(
                    node,
                    format!("the route `{text}` leads nowhere"),
                    "{ to = \"SERVICE\" }, { files = \"DIRECTORY\" }, { reply = 200 } or { redirect = \"/PATH\" }",
                ));
            }
            [first, second, ..] => {
                return Err(self.bad(
                    node,
                    format!("the route `{text}` says both `{first}` and `{second}`"),
                    "keep one of the two",
                ));
            }
        };
        self.check_details(table, kind)?;
        let max_body = keys.size("max_body");
        let target = match kind {
            "to" => self.service_target(&keys, pattern.as_ref().ok()),
            "files" => self.files(&keys),
            "reply" => self.reply(&keys),
            _ => self.redirect(&keys),
        };
        let (mut path, target) = (pattern?, target?);
        // A directory is everything in it.
        if matches!(target, RouteTarget::Files { .. }) {
            path = path.with_everything_below();
        }
        Ok(Route { path, target, max_body: max_body? })
    }

    fn check_details(&self, table: &Table, kind: &str) -> Resolved<()> {
        for (key, of) in DETAILS {
            if let Some(node) = get(table, key)
                && *of != kind
            {
                return Err(self.resolver.report(
                    Diagnostic::error(node.key, format!("`{key}` goes with `{of}`, and this route has `{kind}`"))
                        .help(format!("remove `{key}`")),
                ));
            }
        }
        Ok(())
    }

    fn service_target(&self, keys: &Reader<'_, '_, '_>, pattern: Option<&RoutePattern>) -> Resolved<RouteTarget> {
        let strip = keys.text("strip")?;
        let Some(node) = keys.node("to") else { return Err(Reported) };
        if let (Some(strip), Some(pattern), Some(at)) = (&strip, pattern, keys.node("strip")) {
            let is_start = pattern.base() == strip || pattern.base().starts_with(&format!("{strip}/"));
            if !strip.starts_with('/') || strip.ends_with('/') || !is_start {
                return Err(self.bad(
                    at,
                    format!("`strip`: no path of `{pattern}` begins with {strip:?}"),
                    format!("strip = \"{}\"", pattern.base()),
                ));
            }
        }
        self.to_service(node, &keys.resolver.text(node, keys.scope)?, strip)
    }

    /// `SERVICE`, or `SERVICE:PORT` for a named port.
    fn to_service(&self, node: &TomlNode, to: &str, strip: Option<String>) -> Resolved<RouteTarget> {
        let (name, port) = to.split_once(':').unwrap_or((to, "main"));
        let services = &self.resolver.services;
        let known =
            || services.values().filter(|service| !service.task && !is_gateway(service)).map(|service| service.name.as_str());
        let Some(target) = services.get(name) else {
            let help = suggest::help(name, known()).unwrap_or_else(|| "a route leads to a service of this file".to_owned());
            return Err(self.bad(node, format!("a route leads to `{name}`, which does not exist"), help));
        };
        if target.task {
            return Err(self.bad(node, format!("a route leads to `{name}`, which is a task"), "a route leads to a service"));
        }
        if target.name == self.service.name {
            return Err(self.bad(node, "a route leads to the gateway itself", "name another service"));
        }
        let ports = self.resolver.port_names(target);
        if !ports.iter().any(|known| known == port) {
            let named = ports.iter().filter(|port| *port != "main").map(String::as_str);
            return Err(self.resolver.report(if port == "main" {
                Diagnostic::error(node.span, format!("a route leads to `{name}`, which has no port"))
                    .note(target.key, "no `port` here")
                    .help(format!("give it one: [services.{name}] port = 8000"))
            } else {
                Diagnostic::error(node.span, format!("`{name}` has no port named `{port}`"))
                    .help(suggest::help(port, named).unwrap_or_else(|| format!("[services.{name}] ports = {{ {port} = 9000 }}")))
            }));
        }
        if let Some(used) = target.recipe.as_ref().filter(|_| port == "main")
            && OTHER_PROTOCOLS.contains(&used.data.scheme.as_str())
        {
            return Err(self.bad(
                node,
                format!("a route leads to `{name}`, which speaks {}, not HTTP", used.data.scheme),
                "a route leads to an HTTP service, or to a port of one: \"SERVICE:PORT\"",
            ));
        }
        let service = ServiceName::new(name.to_owned()).map_err(|_| Reported)?;
        Ok(RouteTarget::Service { service, port: port.to_owned(), strip })
    }

    fn upstream(&self, name: &ServiceName, node: &TomlNode) -> Resolved<UpstreamSpec> {
        let Some(target) = self.resolver.services.get(name.as_str()) else { return Err(Reported) };
        if !target.active {
            self.resolver.report(
                Diagnostic::warning(node.span, format!("`{name}` is in no active profile: this route answers 502"))
                    .help(format!("start with --profile {}", target.profiles.first().map_or("NAME", String::as_str))),
            );
            return Ok(UpstreamSpec { host: String::new(), inactive: target.profiles.clone() });
        }
        if let Some(url) = self.resolver.external(target, node.span)?
            && url.scheme != "http"
        {
            return Err(self.bad(
                node,
                format!("a route leads to `{name}`, which is reached by {}: only http is supported", url.scheme),
                "external = \"http://HOST:PORT\"",
            ));
        }
        Ok(UpstreamSpec { host: self.resolver.host(target, node.span)?, inactive: Vec::new() })
    }

    /// `SERVICE.PROJECT.localhost`, and `SERVICE.INSTANCE.PROJECT.localhost` of an instance, for every service that may speak
    /// HTTP. The whole of `.localhost` is this machine (RFC 6761, 6.3).
    fn names(&self, spec: &mut GatewaySpec) {
        let resolver = self.resolver;
        let (project, instance) = (&resolver.document.project, &resolver.document.options.instance);
        let domain = if instance.is_empty() { format!("{project}.localhost") } else { format!("{instance}.{project}.localhost") };
        for target in resolver.services.values().filter(|target| target.active && !target.task && !is_gateway(target)) {
            let has_port = resolver.port_names(target).iter().any(|port| port == "main");
            let is_private =
                matches!(resolver.port_spec(target, "main"), Ok(Some(PortSpec::Preference(PortPreference::Private))));
            let scheme = match resolver.external(target, target.key) {
                Ok(Some(url)) => url.scheme,
                _ => target.recipe.as_ref().map_or_else(|| "http".to_owned(), |used| used.data.scheme.clone()),
            };
            let is_http = scheme == "http" || (target.get("external").is_none() && !OTHER_PROTOCOLS.contains(&scheme.as_str()));
            // A fault of the service itself is reported where it is lowered.
            let (Ok(name), Ok(host)) = (ServiceName::new(target.name.clone()), resolver.host(target, target.key)) else {
                continue;
            };
            if has_port && !is_private && is_http {
                spec.names.insert(format!("{name}.{domain}").to_ascii_lowercase(), name.clone());
                spec.upstreams.entry(name).or_insert(UpstreamSpec { host, inactive: Vec::new() });
            }
        }
    }

    fn files(&self, keys: &Reader<'_, '_, '_>) -> Resolved<RouteTarget> {
        let (Some(node), Some(text)) = (keys.node("files"), keys.text("files")?) else { return Err(Reported) };
        let root = &self.resolver.facts.places.root;
        let path: PathBuf = absolute(root, &text);
        if path == *root {
            return Err(self.bad(
                node,
                "this would serve the whole project, including its secrets",
                "name a directory of public files: files = \"public\"",
            ));
        }
        // A volume that the gateway names says where it is, and that this is meant.
        let volumes = Reader { resolver: self.resolver, table: &self.service.tree, scope: self.scope() }.texts("volumes")?;
        let is_in_volume = volumes.iter().any(|name| {
            let (volume, is_given) = self.resolver.volume_path(name);
            is_given && path.starts_with(volume)
        });
        if !path.starts_with(root) && !is_in_volume {
            return Err(self.bad(
                node,
                format!("{text:?} is outside the project"),
                format!(
                    "name a directory of the project: files = \"public\"; or say that it is meant: volumes = [\"site\"] here, and \
                     [volumes] site = {{ class = \"source\", path = {text:?} }}"
                ),
            ));
        }
        if path.starts_with(&self.resolver.facts.places.state) {
            return Err(self.bad(node, format!("{text:?} is in the state directory"), "files = \"public\""));
        }
        let fallback = keys.text("fallback")?;
        if let (Some(fallback), Some(node)) = (&fallback, keys.node("fallback"))
            && (fallback.is_empty()
                || fallback.starts_with('/')
                || fallback.split('/').any(|part| matches!(part, "" | "." | "..")))
        {
            return Err(self.bad(
                node,
                format!("invalid file name {fallback:?}: it must be a path inside {text:?}"),
                "fallback = \"index.html\"",
            ));
        }
        Ok(RouteTarget::Files { path, fallback })
    }

    fn reply(&self, keys: &Reader<'_, '_, '_>) -> Resolved<RouteTarget> {
        match (keys.integer("reply", 0)?, keys.node("reply")) {
            (Some(status), Some(node)) => match u16::try_from(status) {
                Ok(status @ 200..=599) => Ok(RouteTarget::Reply { status }),
                _ => Err(self.bad(node, "`reply` is a status from 200 to 599", "reply = 200")),
            },
            _ => Err(Reported),
        }
    }

    fn redirect(&self, keys: &Reader<'_, '_, '_>) -> Resolved<RouteTarget> {
        let (Some(node), Some(to)) = (keys.node("redirect"), keys.text("redirect")?) else { return Err(Reported) };
        let is_path = to.starts_with('/') && !to.starts_with("//");
        let is_url = ["http://", "https://"].iter().any(|scheme| to.strip_prefix(scheme).is_some_and(|rest| !rest.is_empty()));
        if (!is_path && !is_url) || to.chars().any(|char| char.is_control() || char.is_whitespace()) {
            return Err(self.bad(
                node,
                format!("{to:?} is neither a path nor a URL"),
                "redirect = \"/new\" or redirect = \"https://example.org/*\"",
            ));
        }
        Ok(RouteTarget::Redirect { to })
    }

    fn header(&self, name: &str, node: &TomlNode) -> Resolved<String> {
        // A token of RFC 9110, 5.6.2.
        let is_token =
            !name.is_empty() && name.chars().all(|char| char.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(char));
        if !is_token {
            return Err(self.resolver.report(
                Diagnostic::error(node.key, format!("{name:?} cannot be a header's name"))
                    .help("letters, digits and `-`: X-Content-Type-Options = \"nosniff\""),
            ));
        }
        if NOT_SET.contains(&name.to_ascii_lowercase().as_str()) {
            return Err(self.resolver.report(
                Diagnostic::error(node.key, format!("`{name}` is the gateway's own: it belongs to one connection or message"))
                    .help("remove it"),
            ));
        }
        if node.is_false() {
            // Removed from every response.
            return Ok(String::new());
        }
        let value = self.resolver.text(node, self.scope())?;
        if value.chars().any(|char| char.is_control() && char != '\t') {
            return Err(self.bad(node, format!("the value of `{name}` holds a control character"), "write it on one line"));
        }
        Ok(value)
    }
}
