//! The keys of one service → a table of the procfile.

use std::path::Path;

use super::super::toml_writer::{Section, Toml};
use super::super::yaml::YamlNode;
use super::draft::{Draft, NativeKind, use_of};
use super::importer::Importer;
use super::{keys, loopback};

impl Importer<'_> {
    pub(super) fn service(&mut self, draft: &Draft, all: &[Draft]) {
        if let NativeKind::Absent { hint } = &draft.kind {
            self.left_out(draft, hint, all);
            return;
        }
        if let NativeKind::ContainerOnly(reason) = draft.kind {
            self.container_only(draft, reason);
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
            NativeKind::Absent { .. } | NativeKind::ContainerOnly(_) | NativeKind::Models(_) => {}
            NativeKind::Recipe { known, version, .. } => {
                section.set("use", Toml::text(use_of(known, version.as_deref())));
                self.recipe(draft, known, &mut section);
                if known.recipe == "gateway" {
                    self.gateway_routes(draft, all, &mut section);
                }
            }
            NativeKind::Run { command, dockerfile } => {
                let mut ports = Section::default();
                self.program_ports(draft, &mut ports);
                self.run(draft, command, &mut section);
                // A command that is told its port needs no reminder.
                let gets_port = section.get("run").is_some_and(|run| run.line().contains("${PORT}"));
                if !gets_port {
                    section.above.append(&mut ports.above);
                }
                section.keys.append(&mut ports.keys);
                let mut env = Vec::new();
                let own_port = dockerfile.as_ref().and_then(|file| file.variable("PORT"));
                // Another value is set by `environment`, and is reported there.
                if let Some(port) = own_port.filter(|_| draft.variable("PORT").is_none()) {
                    let at = draft.get("build").map_or(draft.key.at, |node| node.at);
                    if draft.ports.is_empty() {
                        env.push(("PORT".to_owned(), Toml::text(port)));
                        self.report.mapped(at, draft.what("build"), format!("env.PORT = \"{port}\", from its Dockerfile"));
                    } else {
                        let text = format!("PORT={port} in its Dockerfile: `port` sets it");
                        self.report.mapped(at, draft.what("build"), text);
                    }
                }
                for (name, value) in dockerfile.iter().flat_map(|file| &file.env) {
                    // What the image's own layout needs means nothing here.
                    let inside = value.contains('$') || value.starts_with('/') || name == "PATH" || name == "PORT";
                    if !inside && !env.iter().any(|(known, _)| known == name) {
                        let binds = crate::bind_names::names_bind_address(name);
                        let value = loopback::bind_addresses(value, binds).unwrap_or_else(|| value.clone());
                        env.push((name.clone(), Toml::text(value)));
                    }
                }
                if !env.is_empty() {
                    section.set("env", Toml::Table(env));
                }
            }
            NativeKind::Buckets { names, open } => {
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
        if let NativeKind::Models(names) = &draft.kind {
            let names: Vec<String> = names.iter().map(|name| self.text(name, draft.key.at, true)).collect();
            section.set("models", Toml::texts(names));
            let server = |other: &&Draft| matches!(&other.kind, NativeKind::Recipe { known, .. } if known.recipe == "ollama");
            if let Some(on) = all.iter().find(server) {
                section.set("on", Toml::text(on.name.clone()));
            }
        }
        self.dependencies(draft, all, &mut section);
        let is_gateway = matches!(&draft.kind, NativeKind::Recipe { known, .. } if known.recipe == "gateway");
        if is_gateway {
            // Its routes are all that its keys said.
        } else if matches!(draft.kind, NativeKind::Buckets { .. } | NativeKind::Models(_)) {
            for key in ["entrypoint", "command", "environment", "env_file", "volumes", "healthcheck", "secrets", "working_dir"] {
                if let Some(node) = draft.get(key) {
                    self.report.dropped(node.at, draft.what(key), "the task says what to make, and logs in by itself");
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

    fn volumes(&mut self, draft: &Draft, section: &mut Section) {
        let mut further = Vec::new();
        let mut init = Vec::new();
        for item in draft.get("volumes").and_then(YamlNode::list).unwrap_or_default() {
            let what = draft.what("volumes");
            let Some(mount) = self.mount(item) else {
                self.report.not_mapped(item.at, what, "invalid mount: write \"source:target\"");
                continue;
            };
            let target = mount.target.trim_end_matches('/');
            if mount.tmpfs {
                if self.data_in_memory(draft, target, "volumes", item.at, section) {
                    continue;
                }
                self.report.dropped(item.at, what, format!("{target}: programs use the machine's own temporary directory"));
                continue;
            }
            if let NativeKind::Recipe { known, .. } = &draft.kind
                && self.recipe_mount(draft, known, &mount, item.at, &mut init, section)
            {
                continue;
            }
            match (&mount.source, mount.bind) {
                (None, _) => self.report.dropped(
                    item.at,
                    what,
                    format!("{target}: an anonymous volume hides a directory of the container"),
                ),
                (Some(source), true) if source.contains("docker.sock") => {
                    self.report.not_mapped(item.at, what, "Docker is not available: does this service make sense natively?");
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
                    let name = super::importer::our_name(name);
                    self.volumes.insert(name.clone());
                    let text = match super::draft::local(target, &draft.mounts) {
                        Some(here) => {
                            format!("volumes: {name}; below a mounted directory, so {target} is {} here", self.shown(&here))
                        }
                        None if draft.task => format!("volumes: {name}; {target} becomes its directory: path it in the command"),
                        None => format!("volumes: {name}; {target} becomes its directory: devrun says where"),
                    };
                    self.report.mapped(item.at, what, text);
                    if !further.contains(&name) {
                        further.push(name);
                    }
                }
            }
        }
        self.init_order(draft);
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

fn name_of(value: &Toml) -> Option<&str> {
    match value {
        Toml::Text(text) => Some(text),
        _ => None,
    }
}
