//! One project from its files to its procfile: services first, then who reaches whom, then keys.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use super::super::converted::{Converted, Surroundings};
use super::super::procfile_names::ensure_distinct;
use super::super::report::{ConversionReport, KeyOutcome};
use super::super::toml_writer::{Procfile, Section, Toml};
use super::super::yaml::{Map, YamlNode, get};
use super::draft::{Draft, NativeKind};
use super::file_check;
use super::importer::{Importer, NAME_START};
use super::load::{self, SourceReader};
use super::values::Values;
use devrun_model::{Failure, FailureKind};

/// Reads and maps.
pub(crate) fn import(
    paths: &[PathBuf],
    root: &Path,
    read: SourceReader<'_>,
    around: &Surroundings,
) -> Result<Converted, Failure> {
    let loaded = load::load(paths, root, read)?;
    let first = loaded.names.first().cloned().unwrap_or_default();
    let mut importer = Importer {
        root,
        read,
        files: loaded.files,
        tree: loaded.tree,
        report: ConversionReport::of_files(loaded.names),
        values: Values::new(&around.shell),
        lister: around.list,
        profiles: Vec::new(),
        unset: BTreeMap::new(),
        targets: Vec::new(),
        out: Procfile::default(),
        env_files: Vec::new(),
        taken: BTreeMap::new(),
        data: BTreeMap::new(),
        volumes: BTreeSet::new(),
        secrets: BTreeSet::new(),
        secret_variables: BTreeSet::new(),
        secret_files: BTreeMap::new(),
    };
    importer.read_env_files(around, &loaded.env_files);
    let services = importer.services(&first)?;
    let faults = file_check::faults(&importer.tree, &importer.values);
    let mut drafts: Vec<Draft> = services.iter().map(|(key, node)| importer.draft(key, node)).collect();
    importer.share_volumes(&mut drafts);
    importer.homeless_buckets(&mut drafts);
    importer.unusable_web_servers(&mut drafts);
    importer.unusable_label_routers(&mut drafts);
    importer.published(&drafts);
    importer.relate(&mut drafts);
    for draft in &drafts {
        importer.service(draft, &drafts);
    }
    importer.default_buckets(&drafts);
    importer.usual_ports(&drafts);
    importer.top_level();
    let services = importer.out.services.len() + importer.out.tasks.len();
    importer.finish(&first);
    Ok(Converted { text: importer.out.text(), report: importer.report, faults, services })
}

impl Importer<'_> {
    /// `.env` next to the procfile, and the env files that were named, feed placeholders, as in compose.
    /// Those of included files come first, as the project's own win over them.
    fn read_env_files(&mut self, around: &Surroundings, included: &[PathBuf]) {
        let own = self.root.join(".env");
        for path in included.iter().filter(|path| **path != own) {
            let Some(text) = (self.read)(path) else { continue };
            self.values.read(&text);
            self.env_files.push(self.shown(path));
        }
        for path in std::iter::once(&own).chain(&around.env_files) {
            let Some(text) = (self.read)(path) else { continue };
            self.values.read(&text);
            // A file that was named is named again to whoever reads the procfile.
            if *path == own {
                self.env_files.push(".env".to_owned());
            }
        }
        let profiles = self.values.get("COMPOSE_PROFILES").unwrap_or_default();
        self.profiles = profiles.split(',').map(str::trim).filter(|name| !name.is_empty()).map(str::to_owned).collect();
    }

    fn services(&mut self, first: &str) -> Result<Map, Failure> {
        let fail = |message: String| {
            Failure::new(FailureKind::Config, message).help("a compose file has `services:` and, below it, a name each")
        };
        let Some(node) = get(&self.tree, "services") else {
            // The first version of the format had services at the top.
            let old = self.tree.iter().any(|(_, node)| node.get("image").is_some() || node.get("build").is_some());
            return Err(fail(if old {
                format!(
                    "{first} has its services at the top of the file, as the format had until 2016: put them below `services:`"
                )
            } else {
                format!("{first} has no `services:`")
            }));
        };
        let Some(map) = node.map() else {
            return Err(fail(format!("{}: `services` is {} where a table is wanted", self.report.exactly(node.at), node.kind())));
        };
        if map.is_empty() {
            return Err(fail(format!("{}: no services below `services:`", self.report.exactly(node.at))));
        }
        if let Some((key, node)) = map.iter().find(|(_, node)| node.map().is_none()) {
            return Err(fail(format!(
                "{}: service `{}` is {} where a table is wanted",
                self.report.exactly(key.at),
                key.name,
                node.kind()
            )));
        }
        for map in std::iter::once(map).chain(get(&self.tree, "volumes").and_then(YamlNode::map)) {
            ensure_distinct(map, NAME_START, &self.report)?;
        }
        Ok(map.clone())
    }

    /// Buckets and models want a server of devrun to make them on.
    fn homeless_buckets(&mut self, drafts: &mut [Draft]) {
        let pulls = |draft: &Draft| matches!(&draft.kind, NativeKind::Recipe { known, .. } if known.recipe == "ollama");
        if !drafts.iter().any(pulls) {
            for draft in drafts.iter_mut().filter(|draft| matches!(draft.kind, NativeKind::Models(_))) {
                let hint =
                    "no Ollama service in this file: pull the models on your own server, or add a service with use = \"ollama\"";
                self.report.not_mapped(draft.key.at, draft.what("image"), hint);
                draft.kind = NativeKind::Absent { hint: hint.to_owned() };
                draft.task = true;
            }
        }
        if drafts.iter().any(|draft| draft.kind.makes_buckets()) {
            return;
        }
        for draft in drafts.iter_mut().filter(|draft| matches!(draft.kind, NativeKind::Buckets { .. })) {
            let hint = "no S3 service in this file: create the buckets on your own server, or add a service with use = \"minio\"";
            self.report.not_mapped(draft.key.at, draft.what("image"), hint);
            draft.kind = NativeKind::Absent { hint: hint.to_owned() };
            draft.task = true;
        }
    }

    /// Buckets that a variable of the image asks for: `NAME[:POLICY]`, separated by commas.
    fn default_buckets(&mut self, drafts: &[Draft]) {
        for draft in drafts.iter().filter(|draft| draft.kind.makes_buckets()) {
            let Some(text) = draft.variable("MINIO_DEFAULT_BUCKETS").and_then(|text| self.values.fill(&text)) else { continue };
            let buckets =
                text.split([',', ';', ' ']).filter(|bucket| !bucket.is_empty()).map(|bucket| match bucket.split_once(':') {
                    Some((name, "download" | "public")) => {
                        Toml::Table(vec![("name".to_owned(), Toml::text(name)), ("anonymous".to_owned(), Toml::text("download"))])
                    }
                    Some((name, _)) => Toml::text(name),
                    None => Toml::text(bucket),
                });
            let buckets: Vec<Toml> = buckets.collect();
            if buckets.is_empty() {
                continue;
            }
            let mut section = Section { behind: self.report.place(draft.key.at), ..Section::default() };
            section.set("buckets", Toml::List(buckets));
            section.set("on", Toml::text(draft.name.clone()));
            section.set("depends_on", Toml::texts([draft.name.clone()]));
            self.out.tasks.push((format!("{}-buckets", draft.name), section));
        }
    }

    /// A web server whose files cannot be carried over is left out.
    fn unusable_web_servers(&mut self, drafts: &mut [Draft]) {
        for draft in drafts.iter_mut() {
            let Err(reason) = self.web_config(draft) else { continue };
            let hint = format!("{reason}: a gateway, or `render` with a configuration for this machine, takes its place");
            self.report.not_mapped(draft.key.at, format!("services.{}", draft.key.name), &hint);
            if let NativeKind::Recipe { from: Some(file), .. } = &draft.kind {
                let mut known: Vec<String> = file.copies.iter().map(|(from, to)| format!("{from} → {to}")).collect();
                known.extend(file.carried.iter().map(|(stage, from, to)| format!("{from} of stage {stage} → {to}")));
                if !known.is_empty() {
                    self.report.not_mapped(
                        draft.key.at,
                        draft.what("build"),
                        format!("its Dockerfile puts {}", known.join(", ")),
                    );
                }
            }
            let routes = "use = \"gateway\" and routes = { \"/\" = \"SERVICE\" }";
            draft.kind = NativeKind::Absent { hint: routes.to_owned() };
        }
    }

    /// A port that is published keeps its number; those that are only guessed give way.
    fn published(&mut self, drafts: &[Draft]) {
        for draft in drafts.iter().filter(|draft| draft.kind.is_present()) {
            for (port, _) in &draft.ports {
                if let Some(number) = port.host.as_deref().and_then(|host| self.number(host)) {
                    self.taken.entry(number).or_insert_with(|| draft.name.clone());
                }
            }
        }
    }

    /// Servers of which a client has the host and nothing that carries the port, with that client and what holds the host.
    fn asked_at_usual_port(&self) -> BTreeMap<String, (String, String)> {
        let mut found = BTreeMap::new();
        for (client, section) in self.out.services.iter().chain(&self.out.tasks) {
            let mut values: Vec<(&str, String)> = Vec::new();
            for (key, value) in section.keys.iter().filter(|(key, _)| key != "depends_on") {
                match value {
                    Toml::Table(entries) if key == "env" => {
                        values.extend(entries.iter().map(|(name, value)| (name.as_str(), value.line())));
                    }
                    value => values.push((key, value.line())),
                }
            }
            for target in self.targets.iter().filter(|target| target.recipe.is_some() && target.name != *client) {
                if values.iter().any(|(_, text)| target.carries_port(text)) {
                    continue;
                }
                if let Some((name, _)) = values.iter().find(|(_, text)| target.is_host_without_port(text)) {
                    found.entry(target.name.clone()).or_insert_with(|| (client.clone(), (*name).to_owned()));
                }
            }
        }
        found
    }

    /// Containers may all listen on the same port; where two recipes without a published one would, or a program has
    /// it already, the later gets a free one.
    fn usual_ports(&mut self, drafts: &[Draft]) {
        let asked = self.asked_at_usual_port();
        for draft in drafts {
            let NativeKind::Recipe { known, .. } = &draft.kind else { continue };
            let Some((_, section)) = self.out.services.iter_mut().find(|(name, _)| *name == draft.name) else { continue };
            // The recipes of web servers take 8080 where the images take 80.
            let usual = if known.main.first() == Some(&80) { 8080 } else { known.main.first().copied().unwrap_or_default() };
            if !section.has("port") {
                let other = self.taken.get(&usual).filter(|other| **other != draft.name);
                // Its own default is not what clients ask for where it differs from the container's.
                let client = asked.get(&draft.name).filter(|_| known.main.first() == Some(&usual));
                if let Some(other) = other {
                    if let Some((client, variable)) = client {
                        let text = format!(
                            "`{client}` has only its host ({variable}) and asks at port {usual}, which `{other}` has here: give `{client}` the port in a variable that it reads, as \"${{{}.port}}\"",
                            draft.name
                        );
                        self.report.not_mapped(draft.key.at, draft.what("ports"), text);
                    }
                    let text = format!("`{other}` has port {usual} already, and here both share one machine: port = \"auto\"");
                    self.report.mapped(draft.key.at, draft.what("ports"), text);
                    section.set("port", Toml::text("auto"));
                } else {
                    if let Some((client, variable)) = client {
                        // Without a fixed number a free one is taken where the usual one is held, and the client would ask a stranger.
                        section.set("port", Toml::Integer(i64::from(usual)));
                        let text = format!("port = {usual}: `{client}` has only its host ({variable}) and asks at that port");
                        self.report.mapped(draft.key.at, draft.what("ports"), text);
                    }
                    self.taken.insert(usual, draft.name.clone());
                }
            }
            let mut named = match section.take("ports") {
                Some(Toml::Table(table)) => table,
                _ => Vec::new(),
            };
            for (number, name) in known.named {
                if named.iter().any(|(known, _)| known == name) {
                    continue;
                }
                if self.taken.get(number).is_some_and(|other| *other != draft.name) {
                    named.push(((*name).to_owned(), Toml::text("auto")));
                } else {
                    self.taken.insert(*number, draft.name.clone());
                }
            }
            if !named.is_empty() {
                section.set("ports", Toml::Table(named));
            }
        }
    }

    fn finish(&mut self, first: &str) {
        let unset = std::mem::take(&mut self.unset);
        for (name, at) in unset {
            self.report.not_mapped(at, format!("${{{name}}}"), "is in no .env here and has no default: set it there or in the shell; until then it is empty, or an error where a value is needed");
        }
        if !self.env_files.is_empty() {
            self.out.project.set("env_file", Toml::texts(self.env_files.clone()));
        }
        let names: Vec<String> = self.secrets.iter().cloned().collect();
        if !names.is_empty() {
            self.out.secrets.set("generate", Toml::texts(names));
        }
        if !self.secret_files.is_empty() {
            let files = self.secret_files.iter().map(|(name, path)| (name.clone(), Toml::text(path.clone())));
            self.out.secrets.set("files", Toml::Table(files.collect()));
        }
        self.out.above = vec![
            format!("Made from {first} by `devrun import`. Behind each header stands the line it came from."),
            "What did not come along stands at the end, as comments.".to_owned(),
        ];
        let left: Vec<_> = self.report.lines.iter().filter(|line| line.outcome == KeyOutcome::NotMapped).cloned().collect();
        if !left.is_empty() {
            self.out.below.push("Not mapped:".to_owned());
            for line in left {
                self.out.below.push(format!("  {}: {}: {}", self.report.place(line.at), line.what, line.text));
            }
        }
        if self.out.services.is_empty() && self.out.tasks.is_empty() {
            // A procfile without a service is refused; the comments above say why there is none.
            self.out.services.push((
                "placeholder".to_owned(),
                Section {
                    above: vec!["No service of the compose file could be mapped; put your own commands here.".to_owned()],
                    keys: vec![("run".to_owned(), Toml::text("sleep infinity")), ("profiles".to_owned(), Toml::texts(["never"]))],
                    ..Section::default()
                },
            ));
        }
    }
}

/// The files that `COMPOSE_FILE` names.
pub(crate) fn named_files(root: &Path, read: SourceReader<'_>, around: &Surroundings) -> Option<Vec<PathBuf>> {
    let mut values = Values::new(&around.shell);
    for path in std::iter::once(&root.join(".env")).chain(&around.env_files) {
        if let Some(text) = read(path) {
            values.read(&text);
        }
    }
    let separator = values.get("COMPOSE_PATH_SEPARATOR").filter(|text| !text.is_empty()).unwrap_or(":");
    let files = values.get("COMPOSE_FILE").filter(|text| !text.is_empty())?;
    Some(files.split(separator).filter(|file| !file.is_empty()).map(|file| load::join(root, file)).collect())
}
