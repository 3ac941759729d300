//! A gateway as a Caddy service: its routes as a Caddyfile.

use std::fmt::Write as _;

use devrun_model::{Launch, Route, RouteTarget, ServiceSpec};

use super::procfile_values::relative;
use super::references::References;
use super::stack::{ContainerMount, MountSource, Origin, Workload};
use super::template::{ExportText, Piece};

/// The image; its version is that of the file's syntax.
const IMAGE: &str = "caddy:2";

/// Makes a gateway's workload.
pub(crate) fn fill(references: &References<'_>, name: &str, spec: &ServiceSpec, workload: &mut Workload) {
    let path = references.path(name);
    workload.origin = Origin::ContainerImage(ExportText::literal(IMAGE));
    let Launch::Recipe(recipe) = &spec.launch else { return };
    let Some(gateway) = &recipe.gateway else { return };
    let mut out = Caddyfile::default();
    out.line(0, "{");
    for option in ["admin off", "auto_https off", "persist_config off"] {
        out.line(1, option);
    }
    out.line(0, "}");
    out.line(0, ":80 {");
    for (header, value) in &gateway.headers {
        match value.as_str() {
            "" => out.line(1, &format!("header -{header}")),
            value => out.line(1, &format!("header {header} {}", quoted(value))),
        }
    }
    // In the order in which they are tried: the longest path first.
    let mut routes: Vec<&Route> = gateway.routes.iter().collect();
    routes.sort_by_key(|route| route.path.rank());
    out.line(1, "route {");
    for (index, route) in routes.iter().enumerate() {
        let base = route.path.base();
        workload.routes.push((if base.is_empty() { "/".to_owned() } else { base.to_owned() }, route.path.is_prefix()));
        let matcher = match (base, route.path.is_prefix()) {
            ("", _) => String::new(),
            (base, true) => {
                out.line(2, &format!("@r{index} path {} {}", quoted(base), quoted(&format!("{base}/*"))));
                format!(" @r{index}")
            }
            (base, false) => {
                out.line(2, &format!("@r{index} path {}", quoted(base)));
                format!(" @r{index}")
            }
        };
        out.line(2, &format!("handle{matcher} {{"));
        target(references, &path, route, index, &mut out, workload);
        out.line(2, "}");
    }
    if !routes.iter().any(|route| route.path.base().is_empty()) {
        out.line(2, "respond 404");
    }
    out.line(1, "}");
    out.line(0, "}");
    workload.files.push(("/etc/caddy/Caddyfile".to_owned(), out.0));
    if references.table(name).and_then(|table| table.get("tls")).and_then(toml::Value::as_bool) == Some(true) {
        references.lose(format!("{path}.tls"), "the exported entry point speaks HTTP; give Caddy a host name for HTTPS");
    }
    if spec.data.is_some() {
        references.lose(format!("{path}.data"), "access and error logs go to standard output");
    }
    if !gateway.names.is_empty() && references.table(name).is_some_and(|table| table.contains_key("names")) {
        references.lose(format!("{path}.names"), "names under .localhost belong to this machine");
    }
}

fn target(references: &References<'_>, path: &str, route: &Route, index: usize, out: &mut Caddyfile, workload: &mut Workload) {
    let pattern = &route.path;
    if let Some(size) = &route.max_body {
        out.line(3, &format!("request_body {{\n\t\t\t\tmax_size {}\n\t\t\t}}", size.0));
    }
    match &route.target {
        RouteTarget::Service { service, port, strip } => {
            if let Some(strip) = strip {
                out.line(3, &format!("uri strip_prefix {}", quoted(strip)));
            }
            let Some(inside) = references.port(service.as_str(), port) else {
                references.lose(format!("{path}.routes.{pattern}"), format!("`{service}` has no port {port}"));
                out.line(3, "respond 502");
                return;
            };
            out.line(3, "reverse_proxy {");
            out.indent(4);
            // Several copies stand behind one name: each is asked for.
            let copies = references.spec(service.as_str()).map_or(1, |spec| spec.replicas);
            if copies > 1 {
                out.push("dynamic a ");
                out.push(&format!("{} ", references.host(service.as_str())));
            } else {
                out.push(&format!("to {}:", references.host(service.as_str())));
            }
            out.0.append(inside);
            out.push("\n");
            out.line(3, "}");
        }
        RouteTarget::Files { path: files, fallback } => {
            let Some(local) = relative(references, files) else {
                references.lose(format!("{path}.routes.{pattern}"), format!("{} lies outside the project", files.display()));
                out.line(3, "respond 404");
                return;
            };
            let root = format!("/srv/{index}");
            workload.mounts.push(ContainerMount { source: MountSource::Path(local), target: root.clone(), read_only: true });
            if !pattern.base().is_empty() {
                out.line(3, &format!("uri strip_prefix {}", quoted(pattern.base())));
            }
            out.line(3, &format!("root * {root}"));
            if let Some(fallback) = fallback {
                out.line(3, &format!("try_files {{path}} /{fallback}"));
            }
            out.line(3, "file_server");
        }
        RouteTarget::Reply { status } => out.line(3, &format!("respond {status}")),
        RouteTarget::Redirect { to } => match to.strip_suffix("/*") {
            Some(base) => {
                out.line(3, &format!("uri strip_prefix {}", quoted(pattern.base())));
                out.line(3, &format!("redir {}{{uri}}", base));
            }
            None => out.line(3, &format!("redir {}", quoted(to))),
        },
    }
}

#[derive(Default)]
struct Caddyfile(ExportText);

impl Caddyfile {
    fn push(&mut self, text: &str) {
        self.0.push(Piece::Literal(text.to_owned()));
    }
    fn indent(&mut self, depth: usize) {
        self.push(&"\t".repeat(depth));
    }
    fn line(&mut self, depth: usize, text: &str) {
        self.indent(depth);
        self.push(text);
        self.push("\n");
    }
}

/// A token of a Caddyfile.
fn quoted(text: &str) -> String {
    let is_plain =
        !text.is_empty() && !text.contains(|char: char| char.is_whitespace() || matches!(char, '"' | '{' | '}' | '`' | '#'));
    if is_plain {
        return text.to_owned();
    }
    let mut out = String::from("\"");
    for char in text.chars() {
        if matches!(char, '"' | '\\') {
            out.push('\\');
        }
        let _infallible = write!(out, "{char}");
    }
    out.push('"');
    out
}
