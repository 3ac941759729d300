//! What a service of a compose file is natively: a recipe, a program, a set of buckets, or nothing that we can run.

use std::path::PathBuf;

use super::super::procfile_names::is_called;
use super::super::report::At;
use super::super::yaml::{YamlKey, YamlNode, YamlValue, get};
use super::addresses::{extra_hosts, is_this_machine};
use super::app_images;
use super::base_commands;
use super::build_steps::{files_of_image, is_file};
use super::client_images::{buckets, models, partly_open, serves};
use super::container_only;
use super::dockerfile::{self, Dockerfile, Words};
use super::draft::{ContainerCommand, Draft, NativeKind, local, use_of};
use super::images;
use super::importer::{Importer, our_name};
use super::jar_images;
use super::known_image::KnownImage;
use super::main_port;
use super::stack_images;
use super::syntax::{self, Mount, PortMapping};

impl Importer<'_> {
    pub(super) fn draft(&mut self, key: &YamlKey, node: &YamlNode) -> Draft {
        let name = our_name(&key.name);
        if name != key.name {
            self.report.mapped(key.at, format!("services.{}", key.name), is_called(&name));
        }
        let (context, dockerfile) = self.build(node, key.at);
        let kind = self.kind(key, node, dockerfile, context.as_ref());
        let mut mounts = Vec::new();
        for item in node.get("volumes").and_then(YamlNode::list).unwrap_or_default() {
            if let Some(mount) = self.mount(item)
                && let Some(source) = mount.source.as_deref().filter(|_| mount.bind)
                && let Some(source) = self.absolute(source, item.at)
            {
                mounts.push((mount.target.trim_end_matches('/').to_owned(), source));
            }
        }
        let file = match &kind {
            NativeKind::Run { dockerfile, .. } => dockerfile.as_ref(),
            _ => None,
        };
        if let (Some(context), NativeKind::Recipe { from: Some(file), .. }) = (&context, &kind) {
            for (target, here) in files_of_image(file, context) {
                if !mounts.iter().any(|(known, _)| *known == target) {
                    mounts.push((target, here));
                }
            }
        }
        let inside = node.get("working_dir").and_then(YamlNode::scalar).or_else(|| file.and_then(|file| file.workdir.clone()));
        if let (Some(context), Some(file)) = (&context, file)
            && let Some(workdir) = file.workdir.as_deref().filter(|workdir| *workdir != "/")
            && !mounts.iter().any(|(target, _)| target == workdir)
        {
            // What was copied into the image lies in the build's folder, or in the part of it that was copied there.
            let workdir = workdir.trim_end_matches('/');
            let copied = file
                .copies
                .iter()
                .find(|(from, to)| to.trim_end_matches('/') == workdir && !from.contains(['*', '$']) && !is_file(from));
            let source =
                copied.map_or_else(|| context.clone(), |(from, _)| super::load::join(context, from.trim_start_matches('/')));
            mounts.push((workdir.to_owned(), source));
        }
        if let (Some(context), Some(file)) = (&context, file) {
            for (target, here) in files_of_image(file, context) {
                if !mounts.iter().any(|(known, _)| *known == target) {
                    mounts.push((target, here));
                }
            }
        }
        mounts.sort_by_key(|(target, _)| std::cmp::Reverse(target.len()));
        let here = inside.as_deref().and_then(|inside| local(inside, &mounts));
        let dir = here.or_else(|| context.clone()).unwrap_or_else(|| self.root.to_path_buf());
        let task = matches!(kind, NativeKind::Buckets { .. } | NativeKind::Models(_));
        let mut ports: Vec<(PortMapping, At)> = Vec::new();
        let mut repeated: Vec<(PortMapping, At)> = Vec::new();
        for item in node.get("ports").and_then(YamlNode::list).unwrap_or_default() {
            let found = syntax::ports(item);
            if found.is_empty() {
                self.report.not_mapped(item.at, format!("services.{}.ports", key.name), "invalid port: write \"8080:80\"");
            }
            for mut port in found {
                // A number out of a variable: what others ask for, and what the command names, is that number.
                if let Some(number) = self.number(&port.container).filter(|_| port.container.contains('$')) {
                    port.is_shared = port.host.as_deref() == Some(port.container.as_str());
                    port.container = number.to_string();
                }
                if port.udp {
                    let what = format!("services.{}.ports", key.name);
                    self.report.dropped(
                        item.at,
                        what,
                        format!("{}/udp: devrun looks after TCP ports only; the program opens it itself", port.container),
                    );
                } else if !ports.iter().any(|(known, _)| known.container == port.container) {
                    ports.push((port, item.at));
                } else if !ports.iter().any(|(known, _)| known.container == port.container && known.host == port.host) {
                    repeated.push((port, item.at));
                }
            }
        }
        let machine_names = node.get("extra_hosts").map(extra_hosts).unwrap_or_default();
        let machine_names = machine_names.into_iter().filter(|(_, address, _)| is_this_machine(address)).map(|(name, ..)| name);
        let machine_names = machine_names.filter(|name| name != "localhost" && !name.is_empty()).collect();
        let mut draft = Draft {
            key: key.clone(),
            name,
            node: node.clone(),
            kind,
            task,
            ports,
            dir,
            mounts,
            context,
            repeated,
            machine_names,
        };
        main_port::put_first(&mut draft, &self.values);
        draft
    }

    /// A mount; one that stands in a variable is looked up and taken apart.
    pub(super) fn mount(&self, node: &YamlNode) -> Option<Mount> {
        let text = node.scalar().filter(|text| text.starts_with('$') && syntax::split_outside(text, ':').len() == 1);
        match text.and_then(|text| self.values.fill(&text)) {
            Some(filled) => syntax::split_volume(&filled),
            None => syntax::mount(node),
        }
    }

    /// The folder of the build and its Dockerfile.
    fn build(&self, node: &YamlNode, at: At) -> (Option<PathBuf>, Option<Dockerfile>) {
        let build = match node.get("build") {
            Some(build) => build.clone(),
            None => {
                // An image that another service builds is built for both.
                let image = node.get("image").and_then(YamlNode::scalar);
                let services = get(&self.tree, "services").and_then(YamlNode::map);
                let same = services.into_iter().flatten().find(|(_, other)| {
                    image.is_some() && other.get("build").is_some() && other.get("image").and_then(YamlNode::scalar) == image
                });
                match same.and_then(|(_, other)| other.get("build")) {
                    Some(build) => build.clone(),
                    None => return (None, None),
                }
            }
        };
        let (context, file, target) = match &build.value {
            YamlValue::Map(map) => {
                let text = |key: &str| get(map, key).and_then(YamlNode::scalar);
                if let Some(inline) = text("dockerfile_inline") {
                    let context = text("context").unwrap_or_else(|| ".".to_owned());
                    let file = dockerfile::parse(&inline, text("target").as_deref(), &self.build_args(&build));
                    return (self.absolute(&context, build.at), Some(file));
                }
                (text("context").unwrap_or_else(|| ".".to_owned()), text("dockerfile"), text("target"))
            }
            _ => (build.scalar().unwrap_or_else(|| ".".to_owned()), None, None),
        };
        let place = if build.at.line == 0 { at } else { build.at };
        if context.contains("://") || context.starts_with("git@") {
            return (None, None);
        }
        let context = self.absolute(&context, place);
        let text = context.as_ref().and_then(|context| {
            let file = file.as_deref().unwrap_or("Dockerfile");
            (self.read)(&super::load::join(context, &self.values.fill(file)?))
        });
        let target = target.as_deref().and_then(|target| self.values.fill(target));
        (context, text.map(|text| dockerfile::parse(&text, target.as_deref(), &self.build_args(&build))))
    }

    /// The arguments of a build that have a value.
    pub(super) fn build_args(&self, build: &YamlNode) -> Vec<(String, String)> {
        let Some(args) = build.get("args") else { return Vec::new() };
        let pairs: Vec<(String, Option<String>)> = match &args.value {
            YamlValue::Map(map) => map.iter().map(|(key, value)| (key.name.clone(), value.scalar())).collect(),
            _ => args
                .texts()
                .into_iter()
                .map(|(text, _)| match text.split_once('=') {
                    Some((name, value)) => (name.trim().to_owned(), Some(value.to_owned())),
                    None => (text.trim().to_owned(), None),
                })
                .collect(),
        };
        let value = |(name, value): (String, Option<String>)| {
            let value = match value {
                Some(value) => self.values.fill(&value),
                None => self.values.get(&name).map(str::to_owned),
            };
            Some((name, value?))
        };
        pairs.into_iter().filter_map(value).collect()
    }

    fn kind(&mut self, key: &YamlKey, node: &YamlNode, dockerfile: Option<Dockerfile>, context: Option<&PathBuf>) -> NativeKind {
        let what = format!("services.{}", key.name);
        let entrypoint = node.get("entrypoint").and_then(syntax::words).filter(|words| !words.is_empty());
        let command = node.get("command").and_then(syntax::words).filter(|words| !words.is_empty());
        let both: Vec<String> = entrypoint.iter().flatten().chain(command.iter().flatten()).cloned().collect();
        let built = node.get("build").is_some() || dockerfile.is_some();
        let image = node.get("image").and_then(YamlNode::scalar);
        if !built && image.is_none() {
            let hint = "has neither `image` nor `build`: give it run = \"COMMAND\"";
            self.report.not_mapped(key.at, what, hint);
            return NativeKind::Absent { hint: "run = \"COMMAND\"".to_owned() };
        }
        if let Some(image) = image.as_deref().filter(|_| !built) {
            return self.image_kind(key, node, image, &both, entrypoint.is_some());
        }
        // Built from a Dockerfile.
        if let Some(file) = &dockerfile {
            let mut base = syntax::image(&file.from);
            // One image for both: which of them it starts is in its variables.
            let variable = |name: &str| node.get("environment").is_some_and(|all| super::draft::variable(all, name).is_some());
            if base.name.ends_with("strimzi/kafka") && variable("KAFKA_CONNECT_BOOTSTRAP_SERVERS") {
                "debezium/connect".clone_into(&mut base.name);
            }
            let found = images::known(&base.name).map(|(known, note)| (stack_images::by_command(known, &both), note));
            if let Some((known, note)) = found
                && (file.entrypoint.is_none() || file.entrypoint.as_ref().is_some_and(|words| starts_words(&known, words)))
                && (file.command.is_none() || file.command.as_ref().is_some_and(|words| starts_words(&known, words)))
                && starts_server(&known, &both)
            {
                let version = base.tag.as_deref().and_then(syntax::version);
                let version = version.filter(|version| images::has_recipes_version(&known, &base.name, version));
                self.report.mapped(
                    key.at,
                    format!("{what}.build"),
                    format!("stands on {}: the recipe `{}`", file.from, known.recipe),
                );
                if let Some(note) = note {
                    self.report.not_mapped(key.at, format!("{what}.build"), note);
                }
                return NativeKind::Recipe { known, version, from: dockerfile };
            }
        }
        if both.is_empty()
            && let Some(file) = &dockerfile
            && let Some(words) = jar_images::command(file)
        {
            let text = "the script of its base image runs the jar: `java -jar` does, from where it was copied from";
            self.report.mapped(key.at, format!("{what}.build"), text);
            return NativeKind::Run { command: ContainerCommand::Foreign(words), dockerfile };
        }
        if both.is_empty()
            && let Some(file) = dockerfile.as_ref().filter(|file| file.command.is_none() && file.entrypoint.is_none())
            && let Some(words) = base_commands::command(file)
        {
            let text = format!("{} starts `{}`, natively from PATH", file.from, words.join(" "));
            self.report.mapped(key.at, format!("{what}.build"), text);
            return NativeKind::Run { command: ContainerCommand::Foreign(words), dockerfile };
        }
        let is_interactive = ["tty", "stdin_open"].iter().any(|name| node.get(name).is_some());
        if both.is_empty()
            && !is_interactive
            && let Some(file) = dockerfile.as_ref().filter(|file| file.command.is_none() && file.entrypoint.is_none())
            && let Some(reason) = base_commands::ends_at_once(file)
        {
            return NativeKind::ContainerOnly(reason);
        }
        // The compose file's command goes behind the image's entrypoint.
        let image_entry = dockerfile.as_ref().and_then(|file| file.entrypoint.clone());
        let command = match (&entrypoint, &command, image_entry) {
            (Some(_), _, _) => Some(ContainerCommand::Words(both)),
            (None, Some(command), None) => Some(ContainerCommand::Words(command.clone())),
            (None, Some(command), Some(Words::List(words))) => {
                let file = dockerfile.clone().unwrap_or_default();
                let mut all = if is_wrapper(&words) {
                    self.around_command(&format!("{what}.build"), key.at, &file, context, &words)
                } else {
                    words
                };
                all.extend(command.iter().cloned());
                Some(ContainerCommand::Words(all))
            }
            (None, Some(command), Some(Words::Shell(_))) => Some(ContainerCommand::Words(command.clone())),
            (None, None, Some(Words::List(words)))
                if is_wrapper(&words) && dockerfile.as_ref().is_some_and(|file| file.command.is_some()) =>
            {
                let file = dockerfile.clone().unwrap_or_default();
                let mut all = self.around_command(&format!("{what}.build"), key.at, &file, context, &words);
                all.extend(from_dockerfile(None, file.command).unwrap_or_default());
                Some(ContainerCommand::Foreign(all))
            }
            (None, None, entry) => {
                from_dockerfile(entry, dockerfile.as_ref().and_then(|file| file.command.clone())).map(ContainerCommand::Foreign)
            }
        };
        match command {
            Some(command) => NativeKind::Run { command, dockerfile },
            None => {
                let reason =
                    if dockerfile.is_some() { "its Dockerfile has no CMD either" } else { "its Dockerfile could not be read" };
                self.report.not_mapped(key.at, what, format!("has no `command`, and {reason}: give it run = \"COMMAND\""));
                NativeKind::Absent { hint: "run = \"COMMAND\"".to_owned() }
            }
        }
    }

    fn image_kind(&mut self, key: &YamlKey, node: &YamlNode, image: &str, words: &[String], own_entry: bool) -> NativeKind {
        let what = format!("services.{}.image", key.name);
        let at = node.get("image").map_or(key.at, |node| node.at);
        let filled = self.values.fill(image);
        // A registry in a variable that is not set is none, as in compose.
        let registry =
            syntax::placeholder(image).map(|(_, after)| after).filter(|after| after.starts_with(char::is_alphanumeric));
        let image = filled.as_deref().or(registry).unwrap_or(image);
        let parsed = app_images::by_tag(syntax::image(image));
        let script = words.join(" ");
        if let Some(reason) = container_only::reason(&parsed.name, words) {
            return NativeKind::ContainerOnly(reason);
        }
        if parsed.name == "minio/mc" || parsed.name == "bitnami/minio-client" {
            let (names, open) = buckets(&script);
            if !names.is_empty() {
                for part in partly_open(&script) {
                    let text = format!("mc {part}: `buckets` opens whole buckets for download alone");
                    self.report.not_mapped(at, what.clone(), text);
                }
                self.report.mapped(at, what, "makes buckets: a task with `buckets`");
                return NativeKind::Buckets { names, open };
            }
        }
        if parsed.name == "ollama/ollama" && !serves(&script) {
            let names = models(&script);
            if !names.is_empty() {
                self.report.mapped(at, what, "pulls models: a task with `models`");
                return NativeKind::Models(names);
            }
        }
        if let Some((known, note)) = images::known(&parsed.name)
            && !app_images::is_other_product(&parsed.name, parsed.tag.as_deref())
        {
            let known = stack_images::by_command(known, words);
            if starts_server(&known, words) {
                let version = parsed.tag.as_deref().and_then(syntax::version);
                let version = version.filter(|version| images::has_recipes_version(&known, &parsed.name, version));
                let used = use_of(&known, version.as_deref());
                match parsed.tag.as_deref() {
                    Some(tag) if version.as_deref().is_some_and(|version| version != tag) => {
                        self.report.mapped(
                            at,
                            what.clone(),
                            format!("{image} → use = \"{used}\": any {}.x", version.as_deref().unwrap_or_default()),
                        );
                    }
                    _ => self.report.mapped(at, what.clone(), format!("{image} → use = \"{used}\"")),
                }
                if let Some(note) = note.filter(|_| !has_vector(&parsed.name, version.as_deref())) {
                    self.report.not_mapped(at, what, note);
                } else if known.recipe != "gateway"
                    && let (None, Some(asked)) = (&version, parsed.tag.as_deref().and_then(syntax::version))
                {
                    let text = format!("the recipe `{}` has one version, and {asked} may be another", known.recipe);
                    self.report.not_mapped(at, what, text);
                }
                return NativeKind::Recipe { known, version, from: None };
            }
            self.report.mapped(
                at,
                what,
                format!("{image} is used for its programs: the command runs natively, and they come from PATH"),
            );
            return NativeKind::Run { command: ContainerCommand::Words(words.to_vec()), dockerfile: None };
        }
        if images::is_runtime(&parsed.name) {
            if words.is_empty() {
                self.report.not_mapped(
                    at,
                    format!("services.{}", key.name),
                    format!("{image} has no `command`: give it run = \"COMMAND\""),
                );
                return NativeKind::Absent { hint: "run = \"COMMAND\"".to_owned() };
            }
            self.report.mapped(at, what, format!("{image}: the command runs natively, its programs come from PATH"));
            return NativeKind::Run { command: ContainerCommand::Words(words.to_vec()), dockerfile: None };
        }
        if own_entry {
            self.report.mapped(
                at,
                what,
                format!("{image}: the entrypoint given here runs natively, its programs come from PATH"),
            );
            return NativeKind::Run { command: ContainerCommand::Words(words.to_vec()), dockerfile: None };
        }
        let port =
            node.get("ports").and_then(YamlNode::list).and_then(<[YamlNode]>::first).map(syntax::ports).unwrap_or_default();
        let address = port.first().map_or_else(
            || usual_port(&parsed.name).map_or_else(|| "PORT".to_owned(), |port| port.to_string()),
            |port| port.host.clone().unwrap_or_else(|| port.container.clone()),
        );
        let hint = format!("external = \"tcp://127.0.0.1:{address}\"");
        self.report.not_mapped(
            at,
            format!("services.{}", key.name),
            format!("{image} has no recipe: install it and give it run = \"COMMAND\", or point to one that runs: {hint}"),
        );
        NativeKind::Absent { hint }
    }
}

/// Whether it is an image of Postgres with pgvector, and of a version that the catalogue has pgvector for.
pub(super) fn has_vector(name: &str, version: Option<&str>) -> bool {
    name.ends_with("/pgvector") && matches!(version, None | Some("16" | "18"))
}

/// The port of servers that have no recipe and are often met.
fn usual_port(image: &str) -> Option<u16> {
    Some(match image.rsplit('/').next().unwrap_or(image) {
        "clickhouse-server" => 8123,
        "influxdb" => 8086,
        "cassandra" => 9042,
        "couchdb" => 5984,
        _ => return None,
    })
}

/// Whether these words start the image's own server, or are options for it.
fn starts_server(known: &KnownImage, words: &[String]) -> bool {
    let Some(first) = words.first() else { return true };
    if first.starts_with('-') {
        return true;
    }
    // These images take any program as their command; the others take the server's own words. A shell is a program to both.
    let shell = matches!(first.rsplit('/').next(), Some("sh" | "bash" | "ash"));
    let any = shell
        || matches!(
            known.recipe,
            "postgres"
                | "redis"
                | "valkey"
                | "mariadb"
                | "nginx"
                | "caddy"
                | "memcached"
                | "minio"
                | "ferretdb"
                | "kafka"
                | "kafka_connect"
                | "opensearch"
                | "zookeeper"
                | "etcd"
                | "flink"
                | "flink_taskmanager"
                | "n8n"
                | "ghost"
                | "archivebox"
                | "wordpress"
                | "influxdb"
                | "pgbouncer"
        );
    if !any {
        return true;
    }
    let program = first.rsplit('/').next().unwrap_or(first);
    if known.program.contains(&program) || program == known.recipe {
        return true;
    }
    let script = words.iter().skip_while(|word| **word == *first || word.starts_with('-')).cloned().collect::<Vec<_>>().join(" ");
    matches!(program, "sh" | "bash" | "ash") && runs_server(known, &script)
}

/// Whether a line for a shell runs the server itself: its name may as well be a user or a host there (`psql -U postgres`).
fn runs_server(known: &KnownImage, script: &str) -> bool {
    if known.program.is_empty() {
        return script.contains(known.recipe);
    }
    if !known.program.iter().any(|program| script.contains(program)) {
        return false;
    }
    let line = script.replace("&&", ";").replace(['|', '&', '\n', '(', '{', '!'], ";");
    line.split(';').any(|command| {
        let mut words = command.split([' ', '\t', '"', '\'']).filter(|word| !word.is_empty()).peekable();
        // What stands before a command, with the user that some of them take.
        while let Some(word) = words.next() {
            match word {
                "exec" | "env" | "nohup" | "sudo" | "then" | "do" | "else" | "command" | "time" | "sh" | "bash" | "-c"
                | "-ec" => {}
                "gosu" | "su-exec" | "su" | "runuser" | "-u" => {
                    let _user = words.next();
                }
                word if word.contains('=') && !word.starts_with(['/', '-']) => {}
                word => {
                    let name = word.rsplit('/').next().unwrap_or(word);
                    return known.program.iter().any(|program| *program == name || *program == word)
                        || name == known.recipe
                        || name.contains("entrypoint")
                        || name == "run.sh";
                }
            }
        }
        false
    })
}

/// Whether a Dockerfile's command starts the image's own server.
fn starts_words(known: &KnownImage, words: &Words) -> bool {
    match words {
        Words::List(words) => starts_server(known, words),
        Words::Shell(line) => starts_server(known, &shell_words::split(line).unwrap_or_default()),
    }
}

/// An entrypoint that prepares and then runs its arguments.
fn is_wrapper(words: &[String]) -> bool {
    words.first().is_some_and(|first| {
        let name = first.rsplit('/').next().unwrap_or(first);
        name.contains("entrypoint") || name.ends_with(".sh") || matches!(name, "tini" | "dumb-init")
    })
}

fn from_dockerfile(entry: Option<Words>, command: Option<Words>) -> Option<Vec<String>> {
    let shell = |line: &str| {
        let plain = !line.contains(['$', '|', '&', ';', '<', '>', '*', '(', ')', '`', '"', '\'', '\\']);
        if plain {
            line.split_whitespace().map(str::to_owned).collect()
        } else {
            vec!["sh".to_owned(), "-c".to_owned(), line.to_owned()]
        }
    };
    match (entry, command) {
        (Some(Words::List(mut entry)), Some(Words::List(command))) => {
            entry.extend(command);
            Some(entry)
        }
        (Some(Words::List(entry)), _) => Some(entry),
        (Some(Words::Shell(line)), _) | (None, Some(Words::Shell(line))) => Some(shell(&line)),
        (None, Some(Words::List(command))) => Some(command),
        (None, None) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_of_the_same_image_is_no_server() {
        let known = |name: &str| images::known(name).expect("a known image").0;
        let table = [
            ("postgres", "sh -c 'psql -h db -U postgres -f /x.sql'", false),
            ("postgres", "sh -c 'until pg_isready -h db; do sleep 1; done; psql postgres://postgres:x@db/postgres'", false),
            ("postgres", "sh -c 'sleep 1 && exec postgres -c fsync=off'", true),
            ("postgres", "bash -c \"docker-entrypoint.sh postgres\"", true),
            ("postgres", "sh -c 'chown -R postgres /x; gosu postgres postgres -D /x'", true),
            ("postgres", "postgres -c fsync=off", true),
            ("postgres", "psql -h db", false),
            ("redis", "sh -c 'redis-cli -h redis-server ping'", false),
            ("redis", "sh -c 'PW=x redis-server --requirepass $$PW'", true),
            ("redis", "sh -c '/usr/local/bin/redis-server --save 60 1'", true),
            ("mysql", "bash -c 'mysql -h mysqld -uroot'", false),
            ("mysql", "--default-authentication-plugin=x", true),
        ];
        for (image, line, expected) in table {
            let words = shell_words::split(line).expect("words");
            assert_eq!(starts_server(&known(image), &words), expected, "{line}");
        }
    }
}
