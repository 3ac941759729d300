//! nginx and Caddy with the files that compose mounts, or that a Dockerfile puts into their image.
//!
//! The configuration is written into the procfile's `files`, with addresses, ports and paths of this machine. What cannot be
//! carried over (certificates, fragments that only the image has, hosts that nobody knows) makes the service one that is left
//! out: a server that starts and answers something else would be worse than none.

use std::path::PathBuf;

use super::super::replacement::replace;
use super::draft::{Draft, NativeKind};
use super::hostnames::{self, HostMatch};
use super::importer::Importer;
use super::loopback;

/// A configuration for this machine.
pub(super) struct WebConfig {
    /// The name that the recipe reads.
    pub name: &'static str,
    pub text: String,
    /// The names of services in it.
    pub found: HostMatch,
    /// What is different from before.
    pub notes: Vec<String>,
}

const MIME_TYPES: &str = "types {
    text/html html htm shtml; text/css css; text/xml xml; text/plain txt; text/javascript js mjs; application/json json map;
    application/wasm wasm; application/pdf pdf; application/zip zip; application/manifest+json webmanifest;
    image/svg+xml svg svgz; image/png png; image/jpeg jpeg jpg; image/gif gif; image/webp webp; image/avif avif; image/x-icon ico;
    font/woff woff; font/woff2 woff2; font/ttf ttf; font/otf otf; video/mp4 mp4; video/webm webm; audio/mpeg mp3;
  }";
/// What every nginx has next to its configuration for FastCGI: the request in CGI's variables.
const FASTCGI: &[(&str, &str)] = &[
    ("QUERY_STRING", "$query_string"),
    ("REQUEST_METHOD", "$request_method"),
    ("CONTENT_TYPE", "$content_type"),
    ("CONTENT_LENGTH", "$content_length"),
    ("SCRIPT_NAME", "$fastcgi_script_name"),
    ("REQUEST_URI", "$request_uri"),
    ("DOCUMENT_URI", "$document_uri"),
    ("DOCUMENT_ROOT", "$document_root"),
    ("SERVER_PROTOCOL", "$server_protocol"),
    ("REQUEST_SCHEME", "$scheme"),
    ("HTTPS", "$https if_not_empty"),
    ("GATEWAY_INTERFACE", "CGI/1.1"),
    ("SERVER_SOFTWARE", "nginx/$nginx_version"),
    ("REMOTE_ADDR", "$remote_addr"),
    ("REMOTE_PORT", "$remote_port"),
    ("SERVER_ADDR", "$server_addr"),
    ("SERVER_PORT", "$server_port"),
    ("SERVER_NAME", "$server_name"),
    ("REDIRECT_STATUS", "200"),
];
const TEMPORARY: &str = "access_log off;
  client_body_temp_path body; proxy_temp_path proxy; fastcgi_temp_path fastcgi; uwsgi_temp_path uwsgi; scgi_temp_path scgi;";
const HEAD: &str = "daemon off;\npid nginx.pid;\nerror_log stderr notice;\n";

impl Importer<'_> {
    /// The configuration of a web server out of its files; `None` where it has none.
    ///
    /// # Errors
    /// Why they cannot be carried over.
    pub(super) fn web_config(&self, draft: &Draft) -> Result<Option<WebConfig>, String> {
        let NativeKind::Recipe { known, .. } = &draft.kind else { return Ok(None) };
        match known.recipe {
            "nginx" => self.nginx(draft),
            "caddy" => self.caddy(draft),
            _ => Ok(None),
        }
    }

    /// Files of the container that lie at a path or below it: path there, text.
    fn texts_below(&self, draft: &Draft, folder: &str, ending: &str) -> Vec<(String, String)> {
        let mut found = Vec::new();
        for (target, here) in &draft.mounts {
            let name =
                |path: &std::path::Path| path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
            if target == folder {
                for path in self.list(here) {
                    if path.extension().is_some_and(|known| known.to_string_lossy() == ending)
                        && let Some(text) = (self.read)(&path)
                    {
                        found.push((format!("{folder}/{}", name(&path)), text));
                    }
                }
            } else if target
                .strip_prefix(folder)
                .is_some_and(|rest| rest.starts_with('/') && rest[1..].ends_with(ending) && !rest[1..].contains('/'))
                && let Some(text) = (self.read)(here)
            {
                found.push((target.clone(), text));
            }
        }
        found.sort();
        found
    }

    /// A file of the container by its path.
    pub(super) fn text_at(&self, draft: &Draft, path: &str) -> Option<String> {
        (self.read)(&super::draft::local(path, &draft.mounts)?)
    }

    pub(super) fn list(&self, folder: &std::path::Path) -> Vec<PathBuf> {
        self.lister.map(|list| list(folder)).unwrap_or_default()
    }

    fn nginx(&self, draft: &Draft) -> Result<Option<WebConfig>, String> {
        let main = self.text_at(draft, "/etc/nginx/nginx.conf");
        let mut parts: Vec<(String, String)> = self.texts_below(draft, "/etc/nginx/conf.d", "conf");
        for (name, text) in self.texts_below(draft, "/etc/nginx/templates", "template") {
            parts.push((name, self.substituted(draft, &text)));
        }
        let wants_config = draft.mounts.iter().any(|(target, _)| target.starts_with("/etc/nginx"));
        let html = draft.mounts.iter().any(|(target, _)| target == "/usr/share/nginx/html");
        if main.is_none() && parts.is_empty() && wants_config && !self.only_certificates(draft) {
            return Err("its configuration cannot be read".to_owned());
        }
        if main.is_none() && parts.is_empty() && !html {
            return Ok(None);
        }
        if parts.is_empty() && main.is_none() {
            let text = "server {\n  listen 80;\n  location / { root /usr/share/nginx/html; index index.html index.htm; }\n}\n";
            parts.push(("the image's own".to_owned(), text.to_owned()));
        }
        let mut config = WebConfig { name: "nginx.conf", text: String::new(), found: HostMatch::new(), notes: Vec::new() };
        let inner: String = parts.iter().map(|(_, text)| without_comments(text)).collect::<Vec<_>>().join("\n");
        let whole = match main {
            None => format!(
                "{HEAD}worker_processes 1;\nevents {{ worker_connections 1024; }}\nhttp {{\n  {MIME_TYPES}\n  {TEMPORARY}\n{inner}\n}}\n"
            ),
            Some(text) => {
                let text = without_comments(&text);
                let Some(at) = text.find("http").and_then(|at| Some(at + text[at..].find('{')? + 1)) else {
                    return Err("its nginx.conf has no `http` block".to_owned());
                };
                format!(
                    "{HEAD}{}\n  {TEMPORARY}{}",
                    own_lines(&text[..at]),
                    text[at..].replace("include /etc/nginx/conf.d/*.conf;", &inner)
                )
            }
        };
        let mut text = String::new();
        for line in statements(&whole) {
            text.push_str(&self.nginx_statement(draft, &line, &mut config)?);
        }
        config.text = text;
        Ok(Some(config))
    }

    fn only_certificates(&self, draft: &Draft) -> bool {
        let of_config = |target: &str| {
            target == "/etc/nginx"
                || target.starts_with("/etc/nginx/nginx.conf")
                || target.starts_with("/etc/nginx/conf.d")
                || target.starts_with("/etc/nginx/templates")
        };
        !draft.mounts.iter().any(|(target, _)| of_config(target))
    }

    /// One statement up to its `;`, `{` or `}`, with the blanks around it.
    fn nginx_statement(&self, draft: &Draft, statement: &str, config: &mut WebConfig) -> Result<String, String> {
        let blank = &statement[..statement.len() - statement.trim_start().len()];
        let plain = statement.trim();
        let Some(body) = plain.strip_suffix([';', '{']) else { return Ok(statement.to_owned()) };
        let end = &plain[body.len()..];
        let words: Vec<&str> = body.split_whitespace().collect();
        let Some(name) = words.first().copied() else { return Ok(statement.to_owned()) };
        let argument = words.get(1).copied().unwrap_or_default();
        match name {
            "listen" => {
                return self
                    .listen(draft, &words, config)
                    .map(|line| line.map_or_else(String::new, |line| format!("{blank}{line};")));
            }
            "user" | "pid" | "daemon" | "error_log" | "access_log" | "resolver" | "load_module" if end == ";" => {
                // Written by us, or of the image alone. What turns a log off is kept.
                let keep = (name == "pid" || name == "daemon" || name == "error_log") && HEAD.contains(plain)
                    || plain == "access_log off;";
                return Ok(if keep { statement.to_owned() } else { String::new() });
            }
            "ssl_certificate" | "ssl_certificate_key" => {
                return Err("it serves HTTPS with certificates of the container".to_owned());
            }
            "include" if argument.ends_with("mime.types") => return Ok(format!("{blank}{MIME_TYPES}")),
            "include" => {
                let path = if argument.starts_with('/') { argument.to_owned() } else { format!("/etc/nginx/{argument}") };
                let text =
                    self.included(draft, &path).ok_or_else(|| format!("it includes {argument}, which only the image has"))?;
                if text.contains("include") {
                    return Err(format!("{argument} includes further files"));
                }
                let mut out = String::new();
                for line in statements(&without_comments(&text)) {
                    out.push_str(&self.nginx_statement(draft, &line, config)?);
                }
                return Ok(out);
            }
            _ => {}
        }
        let mut text = escaped(body);
        let asks = name.ends_with("_pass") || (name == "server" && end == ";") || name == "set";
        if asks {
            text = hostnames::rewrite(&text, false, &self.targets, &mut config.found);
            // `server api;` and `fastcgi_pass php;`.
            if (name == "server" || name.ends_with("_pass")) && !argument.contains("://") {
                let bare = argument.split(':').next().unwrap_or_default();
                if let Some(target) = self.targets.iter().find(|target| target.hosts.iter().any(|host| host == argument)) {
                    config.found.push((target.name.clone(), None));
                    text = text.replacen(
                        argument,
                        &if target.present && target.has_port {
                            format!("${{{}.addr}}", target.name)
                        } else {
                            "127.0.0.1:80".to_owned()
                        },
                        1,
                    );
                } else if name == "server" && !bare.starts_with(['$', '/', '[']) && !bare.starts_with("unix") {
                    self.known_host(bare)?;
                }
            }
            if let Some(here) = loopback::this_machine(&text, &draft.machine_names) {
                text = here;
            }
            if let Some((_, rest)) = text.split_once("://").filter(|_| name.ends_with("_pass")) {
                let host: String = rest
                    .chars()
                    .take_while(|char| char.is_ascii_alphanumeric() || matches!(char, '.' | '-' | '_' | '$'))
                    .collect();
                let upstream = self.nginx_upstreams(draft).contains(&host);
                if !host.starts_with('$') && !upstream {
                    self.known_host(&host)?;
                }
            }
        }
        Ok(format!("{blank}{}{end}", self.paths(draft, &text)))
    }

    /// The text that `include` of a path in the container gives: a file of the project's, all files of a pattern's, or nginx's own.
    fn included(&self, draft: &Draft, path: &str) -> Option<String> {
        if let Some((folder, ending)) = path.split_once("/*.") {
            let found = self.texts_below(draft, folder, ending);
            return (!found.is_empty()).then(|| found.into_iter().map(|(_, text)| text + "\n").collect());
        }
        let own = || {
            let script = path == "/etc/nginx/fastcgi.conf";
            if !script && path != "/etc/nginx/fastcgi_params" {
                return None;
            }
            let script = script.then_some(("SCRIPT_FILENAME", "$document_root$fastcgi_script_name"));
            Some(script.iter().chain(FASTCGI).map(|(name, value)| format!("fastcgi_param {name} {value};\n")).collect())
        };
        self.text_at(draft, path).or_else(own)
    }

    /// The names of `upstream` blocks.
    fn nginx_upstreams(&self, draft: &Draft) -> Vec<String> {
        let mut texts: Vec<String> =
            self.texts_below(draft, "/etc/nginx/conf.d", "conf").into_iter().map(|(_, text)| text).collect();
        texts.extend(self.texts_below(draft, "/etc/nginx/templates", "template").into_iter().map(|(_, text)| text));
        texts.extend(self.text_at(draft, "/etc/nginx/nginx.conf"));
        let of = |text: &String| {
            let words: Vec<String> = text.replace('{', " { ").split_whitespace().map(str::to_owned).collect();
            words.windows(2).filter(|pair| pair[0] == "upstream").map(|pair| pair[1].clone()).collect::<Vec<_>>()
        };
        texts.iter().flat_map(of).collect()
    }

    /// Before the services are related to one another every name may still become one.
    fn known_host(&self, host: &str) -> Result<(), String> {
        let bare =
            !host.is_empty() && !host.contains('.') && host != "localhost" && !host.chars().all(|char| char.is_ascii_digit());
        let services = super::super::yaml::get(&self.tree, "services").and_then(super::super::yaml::YamlNode::map);
        let named = services.into_iter().flatten().any(|(key, node)| {
            let text = |key: &str| node.get(key).and_then(super::super::yaml::YamlNode::scalar);
            key.name == host || text("container_name").as_deref() == Some(host) || text("hostname").as_deref() == Some(host)
        });
        let known = named || self.targets.iter().any(|target| target.hosts.iter().any(|name| name == host));
        if bare && !known {
            Err(format!("it forwards requests to `{host}`, which is not a service of this file"))
        } else {
            Ok(())
        }
    }

    fn listen(&self, draft: &Draft, words: &[&str], config: &mut WebConfig) -> Result<Option<String>, String> {
        let address = words.get(1).copied().unwrap_or_default();
        if words.contains(&"ssl") {
            return Err("it serves HTTPS with certificates of the container".to_owned());
        }
        if address.starts_with("[::]") {
            return Ok(None);
        }
        let port = address.rsplit(':').next().unwrap_or(address);
        let Ok(number) = port.parse::<u16>() else { return Err(format!("it listens on {address}")) };
        let options: Vec<&str> = words.iter().skip(2).copied().filter(|word| !word.starts_with("ipv6only")).collect();
        let options = if options.is_empty() { String::new() } else { format!(" {}", options.join(" ")) };
        if number == self.web_port(draft) {
            return Ok(Some(format!("listen ${{{}.addr}}{options}", draft.name)));
        }
        if number < 1024 {
            return Err(format!("it listens on port {number} as well"));
        }
        config.notes.push(format!("port {number} is opened as well"));
        Ok(Some(format!("listen 127.0.0.1:{number}{options}")))
    }

    /// The port in the container that is published, else 80.
    fn web_port(&self, draft: &Draft) -> u16 {
        let NativeKind::Recipe { known, .. } = &draft.kind else { return 80 };
        draft
            .ports
            .iter()
            .filter_map(|(port, _)| port.container.parse().ok())
            .find(|port| known.main.contains(port))
            .unwrap_or(80)
    }

    /// Folders and files of the container as they are here.
    pub(super) fn paths(&self, draft: &Draft, text: &str) -> String {
        let mut text = text.to_owned();
        for (target, here) in draft.mounts.iter().filter(|(target, _)| target.len() > 1) {
            let shown = self.shown(here);
            let ours = if shown.starts_with('/') {
                shown
            } else if shown == "." {
                "${dir.project}".to_owned()
            } else {
                format!("${{dir.project}}/{shown}")
            };
            text = replace(&text, target, |out, rest| {
                let tail = &rest[target.len()..];
                let free = !out
                    .ends_with(|char: char| char.is_ascii_alphanumeric() || matches!(char, '/' | '.' | '-' | '_' | '}'))
                    && !tail.starts_with(|char: char| char.is_ascii_alphanumeric() || matches!(char, '.' | '-' | '_'));
                free.then(|| (ours.clone(), tail))
            });
        }
        text
    }

    /// What the image's `envsubst` fills in: variables that the service has.
    fn substituted(&self, draft: &Draft, text: &str) -> String {
        replace(text, "$", |_, rest| {
            let (hole, after) = super::syntax::placeholder(rest)?;
            let value = draft.variable(hole.name)?;
            Some((self.values.fill(&value).unwrap_or(value), after))
        })
    }

    fn caddy(&self, draft: &Draft) -> Result<Option<WebConfig>, String> {
        let text = self.text_at(draft, "/etc/caddy/Caddyfile").or_else(|| self.text_at(draft, "/etc/Caddyfile"));
        let Some(text) = text else {
            let wants = draft.mounts.iter().any(|(target, _)| target.starts_with("/etc/caddy"));
            return if wants { Err("its Caddyfile cannot be read".to_owned()) } else { Ok(None) };
        };
        let mut config = WebConfig { name: "Caddyfile", text: String::new(), found: HostMatch::new(), notes: Vec::new() };
        let text = without_comments(&text);
        let sites = site_lines(&text);
        let several = sites.len() > 1;
        let own = [
            "admin",
            "auto_https",
            "persist_config",
            "grace_period",
            "email",
            "http_port",
            "https_port",
            "acme_ca",
            "acme_dns",
            "on_demand_tls",
            "servers",
        ];
        let mut out = vec![
            "{".to_owned(),
            "\tadmin off".to_owned(),
            "\tauto_https off".to_owned(),
            "\tgrace_period 5s".to_owned(),
            "}".to_owned(),
        ];
        let (mut depth, mut global, mut bare) = (0usize, false, false);
        let files = draft.mounts.iter().any(|(target, _)| target == "/srv");
        for (number, line) in text.lines().enumerate() {
            let plain = line.trim();
            let words: Vec<&str> = plain.split_whitespace().collect();
            if plain.is_empty() {
                continue;
            }
            if depth == 0 && plain == "{" {
                // The global options: ours stand above, those for certificates mean nothing here.
                global = true;
                depth = 1;
                continue;
            }
            if global {
                if plain.ends_with('{') {
                    return Err("its global options have blocks".to_owned());
                }
                if plain == "}" {
                    global = false;
                    depth = 0;
                } else if !own.contains(&words[0]) {
                    return Err(format!("its global option `{}` is not known here", words[0]));
                }
                continue;
            }
            if depth == 0 && sites.contains(&number) {
                bare = !plain.ends_with('{');
                out.push(format!("{} {{", self.site(draft, plain.trim_end_matches('{').trim(), several, &mut config)?));
                out.push("\tbind 127.0.0.1".to_owned());
                if files && !text.lines().any(|line| line.trim().starts_with("root")) {
                    out.push(format!("\troot * {}", self.paths(draft, "/srv")));
                }
                depth += 1;
                continue;
            }
            match words[0] {
                "import" if !text.contains(&format!("({})", words.get(1).copied().unwrap_or_default())) => {
                    return Err(format!("it imports {}", words.get(1).copied().unwrap_or_default()));
                }
                "tls" if !plain.ends_with('{') => continue,
                "tls" => return Err("it has TLS settings of its own".to_owned()),
                _ => {}
            }
            depth += usize::from(plain.ends_with('{'));
            if plain == "}" || plain.ends_with(" }") {
                depth = depth.saturating_sub(1);
            }
            let mut line = hostnames::rewrite(&escaped(line), false, &self.targets, &mut config.found);
            if matches!(words[0], "reverse_proxy" | "to" | "php_fastcgi") {
                for word in words.iter().skip(1).filter(|word| !word.starts_with(['/', '*', '@', '{'])) {
                    if let Some(target) = self.targets.iter().find(|target| target.hosts.iter().any(|host| host == word)) {
                        config.found.push((target.name.clone(), None));
                        line = line.replacen(
                            word,
                            &if target.present && target.has_port {
                                format!("${{{}.addr}}", target.name)
                            } else {
                                "127.0.0.1:80".to_owned()
                            },
                            1,
                        );
                        continue;
                    }
                    let host = word.rsplit("://").next().unwrap_or(word).split(':').next().unwrap_or_default();
                    self.known_host(host)?;
                }
            }
            if let Some(here) = loopback::this_machine(&line, &draft.machine_names) {
                line = here;
            }
            out.push(self.paths(draft, &line));
        }
        if bare {
            out.push("}".to_owned());
        }
        out.push(String::new());
        config.text = out.join("\n");
        Ok(Some(config))
    }

    /// The addresses of a site.
    fn site(&self, draft: &Draft, line: &str, several: bool, config: &mut WebConfig) -> Result<String, String> {
        let mut out: Vec<String> = Vec::new();
        for address in line.split([',', ' ']).filter(|address| !address.is_empty()) {
            let plain = address.strip_prefix("http://").or_else(|| address.strip_prefix("https://")).unwrap_or(address);
            let (host, port) = match plain.rsplit_once(':') {
                Some((host, port)) if port.parse::<u16>().is_ok() => (host, port.parse::<u16>().ok()),
                _ => (plain, None),
            };
            if host.contains('/') || host.contains('{') && several {
                return Err(format!("the address {address} of its Caddyfile cannot be carried over"));
            }
            if port.is_none() && !address.starts_with("http://") || port == Some(443) || address.starts_with("https://") {
                config.notes.push(format!("{address} is served without TLS: a gateway with tls = true has a local authority"));
            }
            let main = port.is_none_or(|port| port == self.web_port(draft) || matches!(port, 80 | 443));
            let port = if main { format!("${{{}.port}}", draft.name) } else { port.unwrap_or_default().to_string() };
            let host = if several && !host.contains('{') { host } else { "" };
            let site = format!("http://{host}:{port}");
            if !out.contains(&site) {
                out.push(site);
            }
        }
        if out.is_empty() { Err("its Caddyfile has a site without an address".to_owned()) } else { Ok(out.join(", ")) }
    }
}

/// The numbers of the lines that begin a site.
fn site_lines(text: &str) -> Vec<usize> {
    let mut depth = 0usize;
    let mut found = Vec::new();
    let blocks =
        text.lines().any(|line| line.trim().ends_with('{') && line.trim() != "{" && !line.starts_with(char::is_whitespace));
    for (number, line) in text.lines().enumerate() {
        let plain = line.trim();
        if depth == 0
            && !plain.is_empty()
            && plain != "{"
            && !plain.starts_with('(')
            && plain != "}"
            && (blocks && plain.ends_with('{') || !blocks && found.is_empty())
        {
            found.push(number);
        }
        depth += usize::from(plain.ends_with('{'));
        if plain == "}" {
            depth = depth.saturating_sub(1);
        }
    }
    found
}

/// What is ours in the outermost part of an nginx.conf: the rest of it is set above.
fn own_lines(text: &str) -> String {
    statements(text)
        .into_iter()
        .filter(|line| {
            !["user", "pid", "daemon", "error_log", "load_module"].iter().any(|word| line.trim().starts_with(&format!("{word} ")))
        })
        .collect()
}

fn without_comments(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for line in text.lines() {
        let at = line
            .char_indices()
            .find(|(at, char)| *char == '#' && (*at == 0 || line[..*at].ends_with(char::is_whitespace)))
            .map_or(line.len(), |(at, _)| at);
        out.push_str(line[..at].trim_end());
        out.push('\n');
    }
    out
}

/// Statements with their ends and the blanks before them; what is quoted is not taken apart.
fn statements(text: &str) -> Vec<String> {
    let mut found = vec![String::new()];
    let mut quote = None;
    let mut before = '\0';
    for char in text.chars() {
        match (quote, char) {
            (None, '"' | '\'') => quote = Some(char),
            (Some(open), _) if open == char && before != '\\' => quote = None,
            _ => {}
        }
        let end = quote.is_none()
            && (char == ';'
                || (char == '{' && before != '$')
                || (char == '}' && !in_variable(found.last().map_or("", String::as_str))));
        if let Some(last) = found.last_mut() {
            last.push(char);
        }
        if end {
            found.push(String::new());
        }
        before = char;
    }
    found
}

/// Whether a `}` would close a `${`.
fn in_variable(text: &str) -> bool {
    text.rfind("${").is_some_and(|at| !text[at..].contains('}'))
}

/// A text as a template of ours.
fn escaped(text: &str) -> String {
    text.replace("$$", "$$$$").replace("${", "$${")
}
