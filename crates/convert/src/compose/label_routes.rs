//! Proxies that ask Docker what to route: Traefik by the labels of services, nginx-proxy by their variables. A gateway with the same
//! routes takes their place, where paths and hosts are all that they go by; a proxy that also asks for a login, or reads files of
//! its own, is left out: one that lets through what it guarded would be worse than none.

use super::super::toml_writer::{Section, Toml};
use super::super::yaml::YamlNode;
use super::draft::{Draft, NativeKind, port_name};
use super::importer::Importer;
use super::known_image::{KnownImage, plain};
use super::labels::pairs;
use super::syntax;

/// Where a path leads.
#[derive(Debug, Clone, PartialEq)]
struct LabelRoute {
    path: String,
    to: String,
    strip: bool,
}

const GATEWAY: KnownImage = plain("gateway", &[80, 8000], &[]);
const NOTE: &str = "devrun's gateway takes its place, with the routes that it reads from the services of this file: no pages of its \
                    own, no certificates from outside (`tls = true` makes it serve HTTPS on this machine)";

/// The gateway, for an image of such a proxy.
pub(super) fn known(name: &str) -> Option<(KnownImage, Option<&'static str>)> {
    (is_traefik(name) || is_nginx_proxy(name)).then_some((GATEWAY, None))
}

fn is_traefik(name: &str) -> bool {
    matches!(name, "traefik" | "traefik/traefik")
}

fn is_nginx_proxy(name: &str) -> bool {
    matches!(name, "nginxproxy/nginx-proxy" | "jwilder/nginx-proxy")
}

impl Importer<'_> {
    /// A proxy whose routes cannot be carried over is left out.
    pub(super) fn unusable_label_routers(&mut self, drafts: &mut [Draft]) {
        for index in 0..drafts.len() {
            if !matches!(&drafts[index].kind, NativeKind::Recipe { known, .. } if known.recipe == "gateway") {
                continue;
            }
            let Err(reason) = self.label_routes(&drafts[index], drafts) else { continue };
            let routes = "use = \"gateway\" and routes = { \"/\" = \"SERVICE\" }";
            let text = format!("{reason}: a service with {routes} takes its place");
            let draft = &mut drafts[index];
            self.report.not_mapped(draft.key.at, format!("services.{}", draft.key.name), text);
            draft.kind = NativeKind::Absent { hint: routes.to_owned() };
        }
    }

    /// The routes of a gateway that takes the place of a proxy.
    pub(super) fn gateway_routes(&mut self, draft: &Draft, all: &[Draft], section: &mut Section) {
        let Ok(routes) = self.label_routes(draft, all) else { return };
        let key = if draft.get("image").is_some() { "image" } else { "build" };
        self.report.not_mapped(draft.key.at, draft.what(key), NOTE);
        let mut table: Vec<(String, Toml)> = Vec::new();
        for route in routes {
            if table.iter().any(|(known, _)| *known == route.path) {
                let text = format!(
                    "`{}` has no path of its own: the gateway answers it as http://{}.PROJECT.localhost",
                    route.to,
                    route.to.split(':').next().unwrap_or_default()
                );
                self.report.not_mapped(draft.key.at, draft.what(key), text);
                continue;
            }
            self.report.mapped(draft.key.at, draft.what(key), format!("route {} → {}", route.path, route.to));
            let to = Toml::text(route.to);
            let value = if route.strip {
                let strip = Toml::text(route.path.trim_end_matches("/*"));
                Toml::Table(vec![("to".to_owned(), to), ("strip".to_owned(), strip)])
            } else {
                to
            };
            table.push((route.path, value));
        }
        section.set("routes", Toml::Table(table));
        for key in ["volumes", "command", "environment", "labels"] {
            if let Some(node) = draft.get(key) {
                self.report.dropped(node.at, draft.what(key), "the gateway's routes say what it said");
            }
        }
    }

    /// # Errors
    /// Why its routes cannot be carried over.
    fn label_routes(&self, draft: &Draft, all: &[Draft]) -> Result<Vec<LabelRoute>, String> {
        let base = match &draft.kind {
            NativeKind::Recipe { from: Some(file), .. } => file.from.clone(),
            _ => draft.get("image").and_then(YamlNode::scalar).unwrap_or_default(),
        };
        let image = syntax::image(&self.values.fill(&base).unwrap_or(base)).name;
        let routes = if is_nginx_proxy(&image) { self.variable_routes(all) } else { self.traefik_routes(draft, all)? };
        if routes.is_empty() { Err("nothing of what it routes to runs here".to_owned()) } else { Ok(routes) }
    }

    /// nginx-proxy: services with a `VIRTUAL_HOST`.
    fn variable_routes(&self, all: &[Draft]) -> Vec<LabelRoute> {
        let filled = |draft: &Draft, name: &str| draft.variable(name).and_then(|text| self.values.fill(&text));
        let targets = all.iter().filter(|other| other.kind.is_present() && other.variable("VIRTUAL_HOST").is_some());
        let routes = targets.map(|target| {
            let path = filled(target, "VIRTUAL_PATH").filter(|path| path.starts_with('/'));
            let path = path.map(|path| path.trim_end_matches('/').to_owned()).filter(|path| !path.is_empty());
            let strip = path.is_some() && filled(target, "VIRTUAL_DEST").as_deref() == Some("/");
            let path = path.map_or_else(|| "/".to_owned(), |path| format!("{path}/*"));
            LabelRoute { path, to: upstream(target, filled(target, "VIRTUAL_PORT").as_deref()), strip }
        });
        routes.collect()
    }

    fn traefik_routes(&self, draft: &Draft, all: &[Draft]) -> Result<Vec<LabelRoute>, String> {
        let words = draft.get("command").and_then(syntax::words).unwrap_or_default().join(" ").to_ascii_lowercase();
        let mounts = |inside: &str| draft.mounts.iter().any(|(target, _)| target.starts_with(inside));
        if words.contains("providers.file") || words.contains("configfile") || mounts("/etc/traefik") || mounts("/traefik.") {
            return Err("files of its own route too".to_owned());
        }
        let labels: Vec<(usize, String, String)> = all
            .iter()
            .enumerate()
            .flat_map(|(index, other)| {
                let own = other.get("labels").map(pairs).unwrap_or_default();
                own.into_iter().map(move |(name, value)| (index, name, value))
            })
            .map(|(index, name, value)| (index, name.to_ascii_lowercase(), self.values.fill(&value).unwrap_or(value)))
            .collect();
        if let Some((.., name, _)) = labels.iter().find(|(_, name, _)| is_unlike_a_route(name)) {
            return Err(format!("`{name}` is not a route by path and host"));
        }
        let mut routes = Vec::new();
        for (index, target) in all.iter().enumerate().filter(|(_, other)| other.kind.is_present()) {
            let own = || labels.iter().filter(|(of, ..)| *of == index).map(|(_, name, value)| (name.as_str(), value.as_str()));
            let is = |word: &str| own().any(|(name, value)| name == "traefik.enable" && value.eq_ignore_ascii_case(word));
            let rules = own().filter_map(|(name, rule)| {
                let router = name.strip_prefix("traefik.http.routers.")?.strip_suffix(".rule")?;
                Some((router, rule))
            });
            let rules: Vec<(&str, &str)> = rules.collect();
            // The proxy's own pages.
            let pages = own().any(|(name, value)| name.ends_with(".service") && value.ends_with("@internal"));
            if is("false") || pages || (rules.is_empty() && !is("true")) {
                continue;
            }
            let port = own().find(|(name, _)| name.ends_with(".loadbalancer.server.port")).map(|(_, port)| port);
            let to = upstream(target, port);
            if rules.is_empty() {
                routes.push(LabelRoute { path: "/".to_owned(), to, strip: false });
                continue;
            }
            for (router, rule) in rules {
                let chosen = own().find(|(name, _)| *name == format!("traefik.http.routers.{router}.middlewares"));
                let chosen: Vec<&str> = chosen.map(|(_, list)| list.split(',')).into_iter().flatten().map(str::trim).collect();
                let strip = chosen.iter().any(|name| {
                    let start = format!("traefik.http.middlewares.{}.stripprefix.", name.split('@').next().unwrap_or_default());
                    labels.iter().any(|(_, label, _)| label.starts_with(&start.to_ascii_lowercase()))
                });
                for path in paths_of(rule).ok_or_else(|| format!("the rule {rule} is not one of path and host"))? {
                    let strip = strip && path.ends_with("/*");
                    routes.push(LabelRoute { path, to: to.clone(), strip });
                }
            }
        }
        Ok(routes)
    }
}

/// Labels that do more than route, or route what is not HTTP.
fn is_unlike_a_route(name: &str) -> bool {
    const GUARDS: [&str; 7] = ["basicauth", "digestauth", "forwardauth", "ipwhitelist", "ipallowlist", "plugin", "inflightreq"];
    if name.starts_with("traefik.tcp.") || name.starts_with("traefik.udp.") || name.starts_with("traefik.frontend") {
        return true;
    }
    let middleware = name.strip_prefix("traefik.http.middlewares.").and_then(|rest| rest.split('.').nth(1));
    middleware.is_some_and(|kind| {
        GUARDS.contains(&kind) || matches!(kind, "replacepath" | "replacepathregex" | "addprefix" | "stripprefixregex")
    })
}

/// The port of a service that a proxy sends to: its main one, or a further one by its name.
fn upstream(target: &Draft, port: Option<&str>) -> String {
    let number = port.and_then(|port| port.parse::<u16>().ok());
    let is_further = target.ports.iter().skip(1).any(|(port, _)| port.container.parse().ok() == number && number.is_some());
    match (&target.kind, number) {
        (NativeKind::Recipe { known, .. }, Some(number)) => {
            let name = known.named.iter().find(|(port, _)| *port == number).map(|(_, name)| *name);
            name.map_or_else(|| target.name.clone(), |name| format!("{}:{name}", target.name))
        }
        (_, Some(number)) if is_further => format!("{}:{}", target.name, port_name(&number.to_string())),
        _ => target.name.clone(),
    }
}

/// The paths of a rule of hosts and paths, `Host(…) && (PathPrefix(…) || PathPrefix(…))`; `/` where it has hosts alone.
fn paths_of(rule: &str) -> Option<Vec<String>> {
    let mut paths = Vec::new();
    for part in rule.split("&&").map(str::trim) {
        let part = part.strip_prefix('(').and_then(|part| part.strip_suffix(')')).unwrap_or(part);
        let mut found = Vec::new();
        for choice in part.split("||").map(str::trim) {
            let (matcher, arguments) = choice.strip_suffix(')')?.split_once('(')?;
            let argument = arguments.trim().trim_matches(['`', '"', '\'']);
            let plain = argument.trim_end_matches('/');
            match matcher {
                "Host" => continue,
                "PathPrefix" | "Path" if argument.starts_with('/') && !argument.contains([',', '{', '`', '(']) => {}
                _ => return None,
            }
            found.push(match (matcher, plain) {
                (_, "") => "/".to_owned(),
                ("Path", plain) => plain.to_owned(),
                (_, plain) => format!("{plain}/*"),
            });
        }
        // A host or a path, and two paths that both have to fit, are no routes.
        if !found.is_empty() && (part.contains("Host(") || !paths.is_empty()) {
            return None;
        }
        paths.append(&mut found);
    }
    Some(if paths.is_empty() { vec!["/".to_owned()] } else { paths })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_of_path_and_host() {
        let table: [(&str, Option<&[&str]>); 11] = [
            ("Host(`a.b`)", Some(&["/"])),
            ("Host(`a`) && PathPrefix(`/api/`)", Some(&["/api/*"])),
            ("Path(`/`)", Some(&["/"])),
            ("Path(`/x`)", Some(&["/x"])),
            ("(Host(`a`) || Host(`b`)) && (PathPrefix(`/api`) || Path(`/docs`))", Some(&["/api/*", "/docs"])),
            ("Host(`a`) || Host(`b`)", Some(&["/"])),
            ("Host(`a`) || PathPrefix(`/b`)", None),
            ("PathPrefix(`/a`) && PathPrefix(`/a/b`)", None),
            ("PathPrefix(`/a`, `/b`)", None),
            ("Host(`a`) && Method(`GET`)", None),
            ("HostRegexp(`{x:.*}`)", None),
        ];
        for (rule, expected) in table {
            let expected = expected.map(|paths| paths.iter().map(|path| (*path).to_owned()).collect());
            assert_eq!(paths_of(rule), expected, "{rule}");
        }
    }
}
