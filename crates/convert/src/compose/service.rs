//! The keys of one service → a table of the procfile.

use std::path::Path;

use super::super::report::At;
use super::super::toml_writer::{Section, Toml};
use super::super::yaml::{Node, Value};
use super::classify::{Command, Draft, Kind, local, port_name, use_of};
use super::health::{self, Test};
use super::hostnames::{self, Found};
use super::{Importer, keys, relative, syntax};

impl Importer<'_> {
    pub(super) fn service(&mut self, draft: &Draft, all: &[Draft]) {
        if let Kind::Absent { hint } = &draft.kind {
            self.left_out(draft, hint, all);
            return;
        }
        let section = self.section(draft, all);
        self.audit(draft);
        let list = if draft.task { &mut self.out.tasks } else { &mut self.out.services };
        list.push((draft.name.clone(), section));
    }

    pub(super) fn section(&mut self, draft: &Draft, all: &[Draft]) -> Section {
        let mut section = Section { behind: self.report.place(draft.key.at), ..Section::default() };
        match &draft.kind {
            Kind::Absent { .. } => {}
            Kind::Recipe { known, version, .. } => {
                section.set("use", Toml::text(use_of(known, version.as_deref())));
                self.recipe(draft, known, &mut section);
            }
            Kind::Run { command, dockerfile } => {
                self.run(draft, command, &mut section);
                self.program_ports(draft, &mut section);
                let mut env = Vec::new();
                for (name, value) in dockerfile.iter().flat_map(|file| &file.env) {
                    // What the image's own layout needs means nothing here.
                    let inside = value.contains('$') || value.starts_with('/') || name == "PATH" || name == "PORT";
                    if !inside && !env.iter().any(|(known, _)| known == name) {
                        env.push((name.clone(), Toml::text(value.clone())));
                    }
                }
                if !env.is_empty() {
                    section.set("env", Toml::Table(env));
                }
            }
            Kind::Buckets { names, open } => {
                let buckets = names.iter().map(|name| {
                    let name = Toml::text(self.text(name, draft.key.at, true));
                    if open.iter().any(|open| Some(open.as_str()) == name_of(&name)) {
                        Toml::Table(vec![("name".to_owned(), name), ("anonymous".to_owned(), Toml::text("download"))])
                    } else {
                        name
                    }
                });
                let buckets = buckets.collect();
                section.set("buckets", Toml::List(buckets));
                if let Some(on) = all.iter().find(|other| other.kind.makes_buckets()) {
                    section.set("on", Toml::text(on.name.clone()));
                }
            }
        }
        self.dependencies(draft, all, &mut section);
        if matches!(draft.kind, Kind::Buckets { .. }) {
            for key in ["entrypoint", "command", "environment", "env_file", "volumes", "healthcheck", "secrets", "working_dir"] {
                if let Some(node) = draft.get(key) {
                    self.report.dropped(node.at, draft.what(key), "the task says which buckets, and logs in by itself");
                }
            }
        } else {
            self.environment(draft, &mut section);
            self.volumes(draft, &mut section);
            self.health(draft, &mut section);
        }
        self.policies(draft, &mut section);
        self.other_keys(draft, &mut section);
        section
    }

    fn run(&mut self, draft: &Draft, command: &Command, section: &mut Section) {
        let at = draft.get("command").or(draft.get("entrypoint")).map_or(draft.key.at, |node| node.at);
        let (words, foreign) = match command {
            Command::Words(words) => (words, false),
            Command::Foreign(words) => (words, true),
        };
        let mut found = Found::new();
        let mut ours = Vec::with_capacity(words.len());
        let port = draft.ports.first().map(|(port, _)| port.clone());
        let differs = port.as_ref().is_some_and(|port| port.host.as_deref().is_some_and(|host| host != port.container));
        for (index, word) in words.iter().enumerate() {
            // A Dockerfile's dollars are the shell's; compose's are placeholders.
            let mut text = if foreign { word.replace('$', "$$") } else { self.text(word, at, false) };
            let before = index.checked_sub(1).and_then(|before| words.get(before)).map_or("", String::as_str);
            text = hostnames::rewrite(&text, matches!(before, "-h" | "--host" | "-host"), &self.targets, &mut found);
            if let Some(path) = local(&text, &draft.mounts).filter(|_| !text.contains(char::is_whitespace)) {
                let here = relative(&draft.dir, &path);
                text = if index == 0 && !here.contains('/') { format!("./{here}") } else { here };
            }
            // In a container every address was its own; here it would be the machine's.
            if text == "0.0.0.0" || text.starts_with("0.0.0.0:") || text.ends_with("=0.0.0.0") || text.contains("=0.0.0.0:") {
                text = text.replace("0.0.0.0", "127.0.0.1");
                self.report.mapped(at, draft.what("command"), "0.0.0.0 → 127.0.0.1: nothing is open to the network by itself");
            }
            if let Some(port) = &port
                && differs
                && !port.container.contains('$')
            {
                if text == port.container {
                    text = "${PORT}".to_owned();
                } else if let Some(head) = text.strip_suffix(&format!(":{}", port.container))
                    && !head.contains("://")
                {
                    text = format!("{head}:${{PORT}}");
                } else if let Some(head) = text.strip_suffix(&format!("={}", port.container)) {
                    text = format!("{head}=${{PORT}}");
                }
            }
            ours.push(text);
        }
        if ours.first().is_some_and(|first| {
            first.starts_with('/') && !["/bin/", "/usr/bin/", "/sbin/"].iter().any(|folder| first.starts_with(folder))
        }) {
            self.report.not_mapped(
                at,
                draft.what("command"),
                format!("{} is a path of the container: point `run` to the program here", ours[0]),
            );
        }
        self.names_found(draft, at, "command", &found);
        let simple = ours.iter().all(|word| {
            !word.is_empty()
                && word.chars().all(|char| char.is_alphanumeric() || "_@%+=:,./~^{}$-![]".contains(char))
                // In a string `$NAME` would be looked up; in a list only `${NAME}` is.
                && !word.contains("$$")
        });
        let run = if simple { Toml::text(ours.join(" ")) } else { Toml::texts(ours) };
        self.report.mapped(at, draft.what("command"), format!("run = {}", shorten(&run.line())));
        if let Some(node) = draft.get("entrypoint") {
            self.report.mapped(node.at, draft.what("entrypoint"), "the first words of `run`");
        }
        section.set("run", run);
        let dir = self.shown(&draft.dir);
        if dir != "." {
            self.report.mapped(
                draft.get("working_dir").or(draft.get("build")).map_or(draft.key.at, |node| node.at),
                draft.what("working_dir"),
                format!("dir = \"{dir}\""),
            );
            section.set("dir", Toml::text(dir));
        } else if let Some(node) = draft.get("working_dir") {
            self.report.dropped(
                node.at,
                draft.what("working_dir"),
                "natively that is the procfile's folder, where services run anyway",
            );
        }
    }

    /// Says which names were replaced, and which of them nobody runs.
    pub(super) fn names_found(&mut self, draft: &Draft, at: At, what: &str, found: &Found) {
        for (name, port) in found {
            let Some(target) = self.targets.iter().find(|target| target.name == *name) else { continue };
            if target.present {
                continue;
            }
            let port = port.map(|port| format!(":{port}")).unwrap_or_default();
            self.report.not_mapped(
                at,
                draft.what(what),
                format!("`{name}` is not run by devrun: the address became 127.0.0.1{port}, where yours must listen"),
            );
        }
    }

    /// A number that nobody else has, or `auto`.
    pub(super) fn claim(&mut self, draft: &Draft, at: At, wanted: &str) -> Toml {
        let text = self.text(wanted, at, true);
        let number = self.number(wanted);
        let Some(number) = number else {
            if wanted.contains('$') {
                // A variable that holds more than the number, as compose allows it to: `PORT=127.0.0.1:8080`.
                let Some(inside) = self.filled(wanted) else { return Toml::text(text) };
                let number = inside.rsplit(':').next().and_then(|last| last.parse::<u16>().ok());
                let said = format!("{wanted} is {inside:?} in .env, and `port` takes a number");
                return match number {
                    Some(number) => {
                        self.report.mapped(at, draft.what("ports"), format!("{said}: {number}"));
                        self.claim(draft, at, &number.to_string())
                    }
                    None => {
                        self.report.not_mapped(at, draft.what("ports"), format!("{said}: a free one is taken"));
                        Toml::text("auto")
                    }
                };
            }
            self.report.not_mapped(at, draft.what("ports"), format!("{wanted:?} is no port"));
            return Toml::text("auto");
        };
        if number == 0 {
            return Toml::text("auto");
        }
        if let Some(other) = self.taken.insert(number, draft.name.clone()).filter(|other| *other != draft.name) {
            self.taken.insert(number, other.clone());
            self.report.mapped(at, draft.what("ports"), format!("`{other}` has port {number} already, and here both share one machine: port = \"auto\"; the program must listen on $PORT"));
            return Toml::text("auto");
        }
        if number < 1024 && !wanted.contains('$') {
            self.report.not_mapped(
                at,
                draft.what("ports"),
                format!("port {number} cannot be bound by an ordinary user: choose one from 1024, or run as root"),
            );
        }
        Toml::number(&text)
    }

    fn program_ports(&mut self, draft: &Draft, section: &mut Section) {
        let mut more = Vec::new();
        for (index, (port, at)) in draft.ports.iter().enumerate() {
            let wanted = port.host.clone().unwrap_or_else(|| port.container.clone());
            if draft.task {
                self.report.dropped(*at, draft.what("ports"), "a task has no port");
                continue;
            }
            let value = self.claim(draft, *at, &wanted);
            let line = value.line();
            if index == 0 {
                if wanted == port.container {
                    self.report.mapped(*at, draft.what("ports"), format!("port = {line}"));
                } else {
                    self.report.mapped(
                        *at,
                        draft.what("ports"),
                        format!(
                            "port = {line}: the container listened on {}, here the program must listen on $PORT",
                            port.container
                        ),
                    );
                    section
                        .above
                        .push(format!("In the container it listened on {}; here it must listen on $PORT.", port.container));
                }
                section.set("port", value);
            } else {
                let name = port_name(&port.container);
                self.report.mapped(
                    *at,
                    draft.what("ports"),
                    format!("ports.{name} = {line}: handed over as $PORT_{}", name.to_ascii_uppercase()),
                );
                more.push((name, value));
            }
            if port.address.as_deref().is_some_and(|address| address == "0.0.0.0") {
                self.report.dropped(*at, draft.what("ports"), "0.0.0.0: devrun's addresses are on loopback");
            }
        }
        if !more.is_empty() {
            section.set("ports", Toml::Table(more));
        }
    }

    fn dependencies(&mut self, draft: &Draft, all: &[Draft], section: &mut Section) {
        struct Edge {
            on: String,
            condition: &'static str,
            required: bool,
            restart: bool,
        }
        let mut edges: Vec<Edge> = Vec::new();
        let mut wanted: Vec<(String, At, String, bool, bool)> = Vec::new();
        match draft.get("depends_on").map(|node| (&node.value, node)) {
            Some((Value::Map(map), _)) => {
                for (key, node) in map {
                    let condition = node.get("condition").and_then(Node::scalar).unwrap_or_else(|| "service_started".to_owned());
                    let flag = |name: &str, usual| node.get(name).and_then(Node::truth).unwrap_or(usual);
                    wanted.push((key.name.clone(), key.at, condition, flag("required", true), flag("restart", false)));
                }
            }
            Some((_, node)) => {
                wanted.extend(node.texts().into_iter().map(|(name, at)| (name, at, "service_started".to_owned(), true, false)));
            }
            None => {}
        }
        for (link, at) in draft.get("links").map(Node::texts).unwrap_or_default() {
            let name = link.split(':').next().unwrap_or_default().to_owned();
            if !wanted.iter().any(|(known, ..)| *known == name) {
                wanted.push((name, at, "service_started".to_owned(), true, false));
            }
        }
        for (name, at, condition, required, restart) in wanted {
            let what = draft.what("depends_on");
            let Some(target) = all.iter().find(|other| other.key.name == name) else {
                self.report.not_mapped(at, what, format!("`{name}` is no service of this file"));
                continue;
            };
            if !target.kind.is_present() {
                self.report.not_mapped(at, what, format!("`{name}` is not run by devrun: start it before"));
                continue;
            }
            let probed = match &target.kind {
                Kind::Recipe { .. } => !matches!(target.get("healthcheck").and_then(health::test), Some(Test::Off)),
                _ => !target.task && target.get("healthcheck").and_then(health::test).is_some_and(|test| test != Test::Off),
            };
            let ours = match condition.as_str() {
                "service_completed_successfully" if target.task => "completed",
                "service_completed_successfully" => {
                    self.report.not_mapped(
                        at,
                        what.clone(),
                        format!("`{name}` stays up, so it never completes: it is waited for until it is started"),
                    );
                    "started"
                }
                "service_healthy" if target.task => "completed",
                "service_healthy" if probed => "healthy",
                "service_healthy" => {
                    self.report.not_mapped(at, what.clone(), format!("`{name}` has no health check that could pass: it is waited for until it is started; give it ready = {{ tcp = true }}"));
                    "started"
                }
                "service_started" => "started",
                other => {
                    self.report.not_mapped(
                        at,
                        what.clone(),
                        format!("there is no condition {other:?}: it is waited for until it is started"),
                    );
                    "started"
                }
            };
            if target.name == draft.name || edges.iter().any(|edge| edge.on == target.name) {
                continue;
            }
            self.report.mapped(at, what, format!("{name}: {condition} → {ours}"));
            edges.push(Edge { on: target.name.clone(), condition: ours, required, restart });
        }
        if edges.is_empty() {
            return;
        }
        let value = if edges.iter().any(|edge| !edge.required || edge.restart) {
            Toml::Table(
                edges
                    .iter()
                    .map(|edge| {
                        let mut table = vec![("condition".to_owned(), Toml::text(edge.condition))];
                        if !edge.required {
                            table.push(("required".to_owned(), Toml::Bool(false)));
                        }
                        if edge.restart {
                            table.push(("restart".to_owned(), Toml::Bool(true)));
                        }
                        (edge.on.clone(), Toml::Table(table))
                    })
                    .collect(),
            )
        } else {
            Toml::texts(edges.iter().map(|edge| format!("{}:{}", edge.on, edge.condition)))
        };
        section.set("depends_on", value);
    }

    /// The variables as pairs, with their places; a name without a value has none.
    pub(super) fn variables(&mut self, draft: &Draft) -> Vec<(String, Option<String>, At)> {
        let Some(node) = draft.get("environment") else { return Vec::new() };
        match &node.value {
            Value::Map(map) => map
                .iter()
                .filter_map(|(key, value)| {
                    if matches!(value.value, Value::List(_) | Value::Map(_)) {
                        self.report.not_mapped(
                            key.at,
                            draft.what("environment"),
                            format!("{} is {} where a text is wanted", key.name, value.kind()),
                        );
                        return None;
                    }
                    Some((key.name.clone(), value.scalar(), key.at))
                })
                .collect(),
            _ => node
                .texts()
                .into_iter()
                .map(|(text, at)| match text.split_once('=') {
                    Some((name, value)) => (name.trim().to_owned(), Some(value.to_owned()), at),
                    None => (text.trim().to_owned(), None, at),
                })
                .collect(),
        }
    }

    /// A value of the environment in our notation.
    pub(super) fn value(&mut self, draft: &Draft, name: &str, value: &str, at: At, strict: bool) -> String {
        let text = self.text(value, at, strict);
        let mut found = Found::new();
        let text = hostnames::rewrite(&text, hostnames::wants_host(name), &self.targets, &mut found);
        self.names_found(draft, at, &format!("environment.{name}"), &found);
        let text = self.secret_paths(draft, name, at, text);
        // A path of the container that is mounted from here.
        match local(&text, &draft.mounts).filter(|_| text.starts_with('/')) {
            Some(path) => relative(&draft.dir, &path),
            None => text,
        }
    }

    fn environment(&mut self, draft: &Draft, section: &mut Section) {
        let skip = self.recipe_variables(draft, section);
        let recipe = matches!(draft.kind, Kind::Recipe { .. });
        let variables = self.variables(draft);
        let mut env: Map2 = match section.take("env") {
            Some(Toml::Table(table)) => table,
            _ => Vec::new(),
        };
        let mut passed = Vec::new();
        let container = draft.ports.first().map(|(port, _)| port.container.clone());
        for (name, value, at) in &variables {
            if skip.contains(name) {
                continue;
            }
            if name.is_empty() || name.contains(char::is_whitespace) {
                self.report.not_mapped(*at, draft.what("environment"), format!("{name:?} is no variable's name"));
                continue;
            }
            let what = draft.what(&format!("environment.{name}"));
            let Some(value) = value else {
                if self.dotenv.contains(name) {
                    env.push((name.clone(), Toml::text(format!("${{{name}}}"))));
                } else if recipe {
                    passed.push(name.clone());
                }
                self.report.mapped(*at, what, "from the caller's environment");
                continue;
            };
            if name == "PORT" && !draft.task && container.as_ref().is_some_and(|port| port == value) {
                self.report.mapped(*at, what, "`port` sets it");
                continue;
            }
            // DB_PORT beside DB_HOST.
            let sibling = name.strip_suffix("PORT").and_then(|stem| {
                let host = ["HOST", "HOSTNAME", "SERVER", "ADDRESS"].iter().find_map(|end| {
                    variables.iter().find(|(other, ..)| *other == format!("{stem}{end}")).and_then(|(_, value, _)| value.clone())
                })?;
                let host = syntax::with_defaults(&host)?;
                let number = syntax::with_defaults(value)?.parse::<u16>().ok()?;
                let target =
                    self.targets.iter().find(|target| target.hosts.contains(&host) && target.present && target.has_port)?;
                (target.main == Some(number)).then(|| format!("${{{}.port}}", target.name))
            });
            let text = match sibling {
                Some(port) if !value.contains('$') => port,
                _ => self.value(draft, name, value, *at, false),
            };
            if text != *value {
                self.report.mapped(*at, what, shorten(&text));
            }
            match env.iter_mut().find(|(known, _)| known == name) {
                Some((_, old)) => *old = Toml::text(text),
                None => env.push((name.clone(), Toml::text(text))),
            }
        }
        if let Some(node) = draft.get("environment").filter(|_| !env.is_empty()) {
            self.report.mapped(node.at, draft.what("environment"), format!("env: {} variables", env.len()));
        }
        if !env.is_empty() {
            section.set("env", Toml::Table(env));
        }
        if !passed.is_empty() {
            section.set("pass_env", Toml::texts(passed));
        }
        self.env_files(draft, section);
    }

    fn env_files(&mut self, draft: &Draft, section: &mut Section) {
        let Some(node) = draft.get("env_file") else { return };
        let entries: Vec<Node> = node.list().map_or_else(|| vec![node.clone()], <[Node]>::to_vec);
        let mut files = Vec::new();
        for entry in entries {
            let (path, required) = match &entry.value {
                Value::Map(_) => {
                    (entry.get("path").and_then(Node::scalar), entry.get("required").and_then(Node::truth).unwrap_or(true))
                }
                _ => (entry.scalar(), true),
            };
            let Some(path) = path else { continue };
            let what = draft.what("env_file");
            let there = self.absolute(&path, entry.at).is_some_and(|path| self.exists(&path));
            let path = self.path(&path, entry.at);
            if !there && required {
                self.report.not_mapped(entry.at, what, format!("{path} is not there yet: without it its variables are missing"));
            } else {
                self.report.mapped(entry.at, what, format!("env_file: {path}"));
            }
            files.push(path);
        }
        if !files.is_empty() {
            section.set("env_file", Toml::texts(files));
        }
    }

    fn volumes(&mut self, draft: &Draft, section: &mut Section) {
        let mut further = Vec::new();
        let mut init = Vec::new();
        for item in draft.get("volumes").and_then(Node::list).unwrap_or_default() {
            let what = draft.what("volumes");
            let Some(mount) = syntax::mount(item) else {
                self.report.not_mapped(item.at, what, "is no mount: write \"source:target\"");
                continue;
            };
            let target = mount.target.trim_end_matches('/');
            if mount.tmpfs {
                self.report.dropped(item.at, what, format!("{target}: programs use the machine's own temporary folder"));
                continue;
            }
            if let Kind::Recipe { known, .. } = &draft.kind
                && self.recipe_mount(draft, known, &mount, item.at, &mut init, section)
            {
                continue;
            }
            match (&mount.source, mount.bind) {
                (None, _) => self.report.dropped(
                    item.at,
                    what,
                    format!("{target}: a volume without a name hides a folder of the container"),
                ),
                (Some(source), true) if source.contains("docker.sock") => {
                    self.report.not_mapped(
                        item.at,
                        what,
                        "there is no Docker to talk to: does this service make sense natively?",
                    );
                }
                (Some(source), true) => {
                    let here = self.path(source, item.at);
                    self.report.dropped(
                        item.at,
                        what,
                        format!("{here}: natively files are where they are; what the container knew as {target} is {here}"),
                    );
                }
                (Some(name), false) => {
                    let name = super::our_name(name);
                    self.volumes.insert(name.clone());
                    self.report.mapped(
                        item.at,
                        what,
                        format!(
                            "volumes: {name}; what was {target} is its folder: {}",
                            if draft.task { "path it in the command" } else { "devrun says where" }
                        ),
                    );
                    if !further.contains(&name) {
                        further.push(name);
                    }
                }
            }
        }
        if !init.is_empty() {
            section.set("init", if init.len() == 1 { Toml::text(init.remove(0)) } else { Toml::texts(init) });
        }
        if !further.is_empty() {
            section.set("volumes", Toml::texts(further));
        }
    }

    fn policies(&mut self, draft: &Draft, section: &mut Section) {
        keys::policies(self, draft, section);
    }

    fn other_keys(&mut self, draft: &Draft, section: &mut Section) {
        keys::others(self, draft, section);
    }

    /// Whether a path names a folder: nothing can be read there, or it says so.
    pub(super) fn is_folder(&self, path: &Path) -> bool {
        !self.exists(path) && path.extension().is_none()
    }
}

/// A table of TOML.
pub(super) type Map2 = Vec<(String, Toml)>;

fn name_of(value: &Toml) -> Option<&str> {
    match value {
        Toml::Text(text) => Some(text),
        _ => None,
    }
}

/// A text for a line of the report.
pub(super) fn shorten(text: &str) -> String {
    if text.chars().count() <= 90 { text.to_owned() } else { format!("{}…", text.chars().take(88).collect::<String>()) }
}
