//! What is particular to services that become recipes: login, settings, data, first-boot files, configuration files.

use super::super::report::{At, shorten};
use super::super::toml_writer::{Section, Toml, TomlEntries};
use super::super::yaml::YamlNode;
use super::classify::has_vector;
use super::config_files::MANAGEMENT;
use super::draft::{Draft, NativeKind};
use super::importer::{Importer, our_name};
use super::known_image::{KnownImage, Settings};
use super::syntax::{self, Mount};

/// The folder whose files an image of a database runs at its first boot.
const INIT: &str = "/docker-entrypoint-initdb.d";

impl Importer<'_> {
    pub(super) fn recipe(&mut self, draft: &Draft, known: &KnownImage, section: &mut Section) {
        self.recipe_ports(draft, known, section);
        let web = self.web_config(draft).ok().flatten();
        if let Some(config) = web {
            let at = draft.get("volumes").or(draft.get("build")).map_or(draft.key.at, |node| node.at);
            let key = if draft.get("volumes").is_some() { "volumes" } else { "build" };
            self.report.mapped(at, draft.what(key), format!("files.\"{}\": its configuration, for this machine", config.name));
            for note in config.notes {
                self.report.not_mapped(at, draft.what(key), note);
            }
            self.names_found(draft, at, key, &config.found);
            section.set("files", Toml::Table(vec![(config.name.to_owned(), Toml::text(config.text))]));
            // Whether `/` answers depends on the files and on what stands behind it.
            section.set("ready", Toml::Table(vec![("tcp".to_owned(), Toml::Bool(true))]));
        }
        if let NativeKind::Recipe { from: Some(file), .. } = &draft.kind {
            for (from, to) in &file.copies {
                if matches!(known.recipe, "nginx" | "caddy") {
                    continue;
                }
                if to.starts_with(INIT) {
                    // Of a pattern (`sql/*.sql`) the directory counts.
                    let folder = from
                        .split_once('*')
                        .map_or(from.as_str(), |(before, _)| before.rsplit_once('/').map_or("", |(folder, _)| folder));
                    let folder = folder.trim_end_matches('/');
                    let folder = if folder.is_empty() { "." } else { folder };
                    let path = self.shown(&super::load::join(&draft.dir, folder));
                    self.report.mapped(draft.key.at, draft.what("build"), format!("COPY {from}: init = \"{path}\""));
                    section.set("init", Toml::text(path));
                } else {
                    self.report.not_mapped(draft.key.at, draft.what("build"), format!("its Dockerfile puts {from} to {to}"));
                }
            }
        }
        if let NativeKind::Recipe { version, from: None, .. } = &draft.kind
            && let Some(node) = draft.get("image")
            && let Some(image) = node.scalar().map(|image| self.values.fill(&image).unwrap_or(image))
            && has_vector(&syntax::image(&image).name, version.as_deref())
        {
            self.report.mapped(node.at, draft.what("image"), "extensions = [\"vector\"]");
            section.set("extensions", Toml::texts(["vector"]));
        }
        let base = match &draft.kind {
            NativeKind::Recipe { from: Some(file), .. } => Some(file.from.clone()),
            _ => draft.get("image").and_then(YamlNode::scalar),
        };
        if known.recipe == "postgres" && base.is_some_and(|base| base.contains("debezium/")) {
            let at = draft.get("image").map_or(draft.key.at, |node| node.at);
            self.report.mapped(at, draft.what("image"), "set.wal_level = \"logical\", as in the image");
            section.set("set", Toml::Table(vec![("wal_level".to_owned(), Toml::text("logical"))]));
        }
        self.config_files(draft, known, section);
        if known.recipe == "flink_taskmanager" {
            self.flink_taskmanager(draft, section);
        }
        if known.recipe == "n8n" {
            self.n8n_mode(draft, section);
        }
        if known.recipe == "rabbitmq" {
            self.rabbitmq_management(draft, section);
        }
        let mut words: Vec<String> =
            ["entrypoint", "command"].iter().filter_map(|key| draft.get(key).and_then(syntax::words)).flatten().collect();
        if known.settings == Settings::Redis {
            let more = ["REDIS_ARGS", "REDIS_EXTRA_FLAGS", "VALKEY_EXTRA_FLAGS"].iter().filter_map(|name| draft.variable(name));
            words.extend(more.flat_map(|text| shell_words::split(&text).unwrap_or_default()));
        }
        // These two have files of options as well.
        let has_files = matches!(known.settings, Settings::Mariadb | Settings::Postgres);
        if words.is_empty() && !has_files {
            return;
        }
        let at = draft.get("command").or(draft.get("entrypoint")).map_or(draft.key.at, |node| node.at);
        if let Some(node) = draft.get("entrypoint") {
            self.report.dropped(node.at, draft.what("entrypoint"), "the recipe starts the server itself");
        }
        if words.len() == 1 && known.program.contains(&words[0].as_str()) {
            self.report.dropped(at, draft.what("command"), "the recipe gives its own command");
            if !has_files {
                return;
            }
            words.clear();
        }
        let words = if known.recipe == "nats" { self.nats_words(draft, words, at, section) } else { words };
        if words.is_empty() && !has_files {
            return;
        }
        match known.settings {
            Settings::Postgres => self.postgres_words(draft, &words, at, section),
            Settings::Mariadb => self.mariadb_options(draft, &words, at, section),
            Settings::Redis => self.redis_words(draft, known, &words, at, section),
            // Its routes say what they said.
            Settings::None if known.recipe == "gateway" => {}
            Settings::None => {
                let what = draft.what("command");
                let own = [
                    "--config.file",
                    "-config.file",
                    "--storage.tsdb.path",
                    "--console-address",
                    "--address",
                    "daemon off;",
                    "--web.console",
                ];
                let left: Vec<&String> = words
                    .iter()
                    .filter(|word| !own.iter().any(|own| word.contains(own)))
                    .filter(|word| {
                        !(word.starts_with('/')
                            || word.starts_with(':')
                            || matches!(word.as_str(), "server" | "serve" | "-g" | "\":9001\""))
                    })
                    .filter(|word| !known.program.contains(&word.as_str()))
                    .collect();
                for word in &left {
                    if let Some(time) = word.split_once("retention.time=").map(|(_, time)| time) {
                        section.set("set", Toml::Table(vec![("retention".to_owned(), Toml::text(time))]));
                    }
                }
                let left: Vec<&str> =
                    left.iter().map(|word| word.as_str()).filter(|word| !word.contains("retention.time=")).collect();
                if left.is_empty() {
                    self.report.dropped(at, what, "the recipe gives its own command");
                } else {
                    self.report.not_mapped(
                        at,
                        what,
                        format!("the recipe gives its own command; these words are left out: {}", shorten(&left.join(" "))),
                    );
                }
            }
        }
    }

    fn recipe_ports(&mut self, draft: &Draft, known: &KnownImage, section: &mut Section) {
        let mut named = Vec::new();
        let listeners = draft.listeners(&self.values);
        for (port, at) in &draft.ports {
            let Some(host) = port.host.clone() else {
                self.report.mapped(*at, draft.what("ports"), "the recipe's usual port, if it is free");
                continue;
            };
            let number = port.container.parse::<u16>().ok();
            let tag = draft.get("image").and_then(YamlNode::scalar).unwrap_or_default();
            if known.recipe == "rabbitmq" && number == Some(MANAGEMENT) && (tag.contains("management") || tag.contains("bitnami"))
            {
                continue;
            }
            let is_main = number.is_some_and(|number| known.main.contains(&number) || listeners.contains(&number));
            if is_main && section.has("port") && known.recipe == "kafka" {
                self.report.not_mapped(
                    *at,
                    draft.what("ports"),
                    format!("{} is another listener of the same broker: clients use ${{{}.addr}}", port.container, draft.name),
                );
            } else if is_main && !section.has("port") {
                let value = self.claim(draft, *at, &host);
                self.report.mapped(*at, draft.what("ports"), format!("port = {}", value.line()));
                section.set("port", value);
            } else if let Some((_, name)) = known.named.iter().find(|(other, _)| Some(*other) == number)
                && !named.iter().any(|(taken, _)| taken == name)
            {
                let value = self.claim(draft, *at, &host);
                self.report.mapped(*at, draft.what("ports"), format!("ports.{name} = {}", value.line()));
                named.push(((*name).to_owned(), value));
            } else {
                self.report.not_mapped(
                    *at,
                    draft.what("ports"),
                    format!("port {} is not one that the recipe `{}` opens", port.container, known.recipe),
                );
            }
        }
        if !named.is_empty() {
            section.set("ports", Toml::Table(named));
        }
        self.host_addresses(draft);
    }

    /// The login of a NATS stands on its command line; what is left of the words.
    fn nats_words(&mut self, draft: &Draft, words: Vec<String>, at: At, section: &mut Section) -> Vec<String> {
        let mut left = Vec::new();
        let mut rest = words.iter().peekable();
        while let Some(word) = rest.next() {
            let plain = word.trim_start_matches('-');
            let (name, value) = match plain.split_once('=') {
                Some((name, value)) => (name, Some(value.to_owned())),
                None => (plain, None),
            };
            let key = match name {
                "user" | "U" => "user",
                "pass" => "password",
                "js" | "jetstream" | "D" | "V" | "DV" | "nats-server" => continue,
                "sd" | "store_dir" | "m" | "http_port" | "p" | "port" | "a" | "addr" | "n" | "name" | "server_name" => {
                    if value.is_none() {
                        rest.next_if(|word| !word.starts_with('-'));
                    }
                    continue;
                }
                _ => {
                    left.push(word.clone());
                    continue;
                }
            };
            if let Some(value) = value.or_else(|| rest.next().cloned()) {
                let text = self.text(&value, at, true);
                self.report.mapped(at, draft.what("command"), format!("{word} → {key}"));
                section.set(key, Toml::text(text));
            }
        }
        if left.is_empty() && !section.has("user") {
            self.report.dropped(at, draft.what("command"), "the recipe gives its own command");
        }
        left
    }

    fn postgres_words(&mut self, draft: &Draft, words: &[String], at: At, section: &mut Section) {
        let mut set: TomlEntries = match section.take("set") {
            Some(Toml::Table(set)) => set,
            _ => Vec::new(),
        };
        self.postgres_set(draft, words, at, &mut set);
        if !set.is_empty() {
            section.set("set", Toml::Table(set));
        }
    }

    fn postgres_set(&mut self, draft: &Draft, words: &[String], at: At, set: &mut TomlEntries) {
        let what = draft.what("command");
        if let [shell, flag, script, ..] = words
            && shell.ends_with("sh")
            && flag.starts_with('-')
        {
            let text =
                "a script of its own: the recipe starts the server itself, and what the script did beyond that is left out: ";
            self.report.not_mapped(at, what, format!("{text}{}", shorten(script.trim())));
            return;
        }
        let before = set.len();
        let mut left = Vec::new();
        let mut rest = words.iter().skip_while(|word| !word.starts_with('-')).peekable();
        while let Some(word) = rest.next() {
            let pair = match word.as_str() {
                "-c" => rest.next().map(String::as_str),
                "-N" => {
                    if let Some(value) = rest.next() {
                        set.push(("max_connections".to_owned(), Toml::text(value.clone())));
                    }
                    continue;
                }
                // `port` says it.
                "-p" | "--port" => {
                    rest.next_if(|word| !word.starts_with('-'));
                    self.report.dropped(at, what.clone(), format!("{word}: `port` says it"));
                    continue;
                }
                other => other.strip_prefix("--").or_else(|| other.strip_prefix("-c")),
            };
            match pair.and_then(|pair| pair.split_once('=')) {
                Some((name, _))
                    if matches!(
                        name.trim(),
                        "config_file"
                            | "hba_file"
                            | "data_directory"
                            | "listen_addresses"
                            | "port"
                            | "unix_socket_directories"
                            | "logging_collector"
                            | "log_directory"
                    ) =>
                {
                    // The file that it names is read below.
                    let is_read = name.trim() == "config_file" && !self.postgres_files(draft).is_empty();
                    if is_read {
                        self.report.mapped(at, what.clone(), "config_file: its lines stand in `set`");
                    } else if name.trim() == "port" {
                        self.report.dropped(at, what.clone(), "port: `port` says it");
                    } else {
                        left.push(pair.unwrap_or_default().to_owned());
                    }
                }
                Some((name, value)) => {
                    let value = self.text(value.trim(), at, true);
                    set.push((name.trim().replace('-', "_"), Toml::text(value)));
                }
                None => left.push(word.clone()),
            }
        }
        if set.len() > before {
            self.report.mapped(at, what.clone(), format!("set = {}", shorten(&Toml::Table(set.clone()).line())));
        }
        self.postgres_file_lines(draft, set);
        if !left.is_empty() {
            self.report.not_mapped(
                at,
                what,
                format!("left out, as the recipe decides these itself: {}", shorten(&left.join(" "))),
            );
        }
    }

    fn redis_words(&mut self, draft: &Draft, known: &KnownImage, words: &[String], at: At, section: &mut Section) {
        let what = draft.what("command");
        // Within a shell's line the server's words stand behind its name.
        let line = words.join(" ");
        let inner = match words {
            [sh, flag, script, ..] if sh.ends_with("sh") && flag.starts_with('-') => {
                shell_words::split(script).unwrap_or_default()
            }
            [script] if script.contains(' ') => shell_words::split(script).unwrap_or_default(),
            words => words.to_vec(),
        };
        let server = inner.iter().position(|word| word.rsplit('/').next().is_some_and(|name| known.program.contains(&name)));
        let mut rest = inner[server.map_or(0, |at| at + 1)..]
            .iter()
            .take_while(|word| !matches!(word.as_str(), "&&" | "||" | ";" | "|" | "&"))
            .peekable();
        let mut set: TomlEntries = Vec::new();
        while let Some(word) = rest.next() {
            let Some(name) = word.strip_prefix("--") else {
                if let Some(lines) = self.redis_file(draft, word) {
                    self.report.mapped(at, what.clone(), format!("{word}: its lines become `set` and `password`"));
                    for (name, value) in lines {
                        match name.as_str() {
                            "requirepass" => {
                                section.set("password", Toml::text(value.trim_matches(['"', '\'']).replace('$', "$$")))
                            }
                            "port" | "bind" | "dir" | "logfile" | "daemonize" | "protected-mode" | "pidfile" | "unixsocket"
                            | "supervised" => {
                                self.report.dropped(at, what.clone(), format!("{name}: the recipe decides it itself"));
                            }
                            "include" | "loadmodule" | "user" | "aclfile" | "rename-command" | "replicaof" | "slaveof"
                            | "masterauth" => {
                                self.report.not_mapped(at, what.clone(), format!("{name} {value} of its file is left out"));
                            }
                            _ if set.iter().any(|(known, _)| *known == name) => {
                                self.report.not_mapped(at, what.clone(), format!("a second {name} of its file is left out"));
                            }
                            _ => set.push((name, Toml::text(value.trim_matches(['"', '\'']).replace('$', "$$")))),
                        }
                    }
                } else if word.contains(".conf") {
                    self.report.not_mapped(
                        at,
                        what.clone(),
                        format!("{word} is a file of the container: write its lines into `set`"),
                    );
                }
                continue;
            };
            let (name, mut values) = match name.split_once('=') {
                Some((name, value)) => (name, vec![value.to_owned()]),
                None => (name, Vec::new()),
            };
            while let Some(value) = rest.next_if(|word| !word.starts_with("--")) {
                values.push(value.clone());
            }
            let value = draft.with_variables(values.join(" ").trim_matches(['"', '\'']));
            let value = self.text(&value.replace("$$", "$"), at, true);
            match name {
                "requirepass" => {
                    self.report.mapped(at, what.clone(), "--requirepass → password");
                    section.set("password", Toml::text(value));
                }
                "port" => self.report.dropped(at, what.clone(), "--port: `port` says it"),
                "bind" | "dir" | "logfile" | "daemonize" | "protected-mode" | "loadmodule" | "masterauth" | "replicaof"
                | "slaveof" => {
                    self.report.not_mapped(at, what.clone(), format!("--{name} is left out: the recipe decides it itself"));
                }
                name => set.push((name.to_owned(), Toml::text(value))),
            }
        }
        if !set.is_empty() {
            self.report.mapped(at, what.clone(), format!("set = {}", shorten(&Toml::Table(set.clone()).line())));
            section.set("set", Toml::Table(set));
        }
        if line.contains("$(") || line.contains("&&") {
            self.report.not_mapped(at, what, "what the shell does around the server is left out");
        }
    }

    /// The image runs its first-boot files by their names in the container, the recipe by their names here.
    pub(super) fn init_order(&mut self, draft: &Draft) {
        let mut files: Vec<(String, (String, String), At)> = Vec::new();
        for item in draft.get("volumes").and_then(YamlNode::list).unwrap_or_default() {
            let Some(mount) = self.mount(item) else { continue };
            let name = |path: &str| path.trim_end_matches('/').rsplit('/').next().unwrap_or(path).to_owned();
            if let (Some(rest), Some(source), true) = (mount.target.strip_prefix(INIT), &mount.source, mount.bind)
                && rest.len() > 1
            {
                files.push((name(rest), (name(source), self.path(source, item.at)), item.at));
            }
        }
        files.sort_by(|a, b| a.0.cmp(&b.0));
        let is_other = files.windows(2).any(|pair| pair[0].1 > pair[1].1);
        if let (NativeKind::Recipe { known, .. }, Some((.., at)), true) = (&draft.kind, files.first(), is_other)
            && matches!(known.recipe, "postgres" | "mariadb")
        {
            let wanted = files.iter().map(|(_, (_, path), _)| path.as_str()).collect::<Vec<_>>().join(", ");
            let text =
                format!("init: files run in the order of their names here, and in the container it was {wanted}: rename them");
            self.report.not_mapped(*at, draft.what("volumes"), text);
        }
    }

    /// A mount that means something to the recipe.
    pub(super) fn recipe_mount(
        &mut self,
        draft: &Draft,
        known: &KnownImage,
        mount: &Mount,
        at: At,
        init: &mut Vec<String>,
        section: &mut Section,
    ) -> bool {
        let what = draft.what("volumes");
        let target = mount.target.trim_end_matches('/');
        if section.has("files") && matches!(known.recipe, "nginx" | "caddy") && mount.bind {
            let here = self.path(mount.source.as_deref().unwrap_or_default(), at);
            self.report.mapped(at, what, format!("{target} is {here} in its configuration"));
            return true;
        }
        let of_folder = match known.recipe {
            "prometheus" => target.starts_with("/etc/prometheus"),
            "alertmanager" => target.starts_with("/etc/alertmanager"),
            "grafana" => target.starts_with("/etc/grafana/provisioning"),
            "blackbox_exporter" => target.starts_with("/etc/blackbox_exporter"),
            _ => false,
        };
        if of_folder && section.has("files") && mount.bind {
            let here = self.path(mount.source.as_deref().unwrap_or_default(), at);
            self.report.mapped(at, what, format!("{here} → files, with the addresses of this machine"));
            return true;
        }
        // A path that its files name is that of here by now.
        if section.has("files") && known.recipe == "grafana" && target.starts_with("/var/lib/grafana/") && mount.bind {
            let here = self.path(mount.source.as_deref().unwrap_or_default(), at);
            self.report.mapped(at, what, format!("{target} is {here} in its configuration"));
            return true;
        }
        let read = (known.recipe == "mariadb" && (target.starts_with("/etc/mysql") || target.ends_with("my.cnf")))
            || (known.recipe == "postgres" && self.postgres_files(draft).iter().any(|(known, ..)| known == target))
            || (matches!(known.recipe, "redis" | "valkey")
                && target.contains("redis")
                && section.has("set") | section.has("password")
                && (target.ends_with(".conf") || target.ends_with("/redis")));
        if read && mount.bind {
            let here = self.path(mount.source.as_deref().unwrap_or_default(), at);
            self.report.mapped(at, what, format!("{here}: read once, now; its lines stand in `set`"));
            return true;
        }
        if target.starts_with(INIT) && matches!(known.recipe, "postgres" | "mariadb") {
            match mount.source.as_deref().filter(|_| mount.bind) {
                Some(source) => {
                    let path = self.path(source, at);
                    self.report.mapped(at, what, format!("init: {path}"));
                    init.push(path);
                }
                None => self.report.not_mapped(at, what, "first-boot files come from a directory: init = \"DIRECTORY\""),
            }
            return true;
        }
        if known.data.contains(&target) {
            match (&mount.source, mount.bind) {
                (Some(name), false) => {
                    let name = our_name(name);
                    match self.data.get(&name) {
                        Some(other) => self.report.not_mapped(
                            at,
                            what,
                            format!("`{other}` keeps its data in `{name}` already: this one has a volume of its own"),
                        ),
                        None => {
                            self.report.mapped(at, what, format!("data = \"{name}\""));
                            self.data.insert(name.clone(), draft.name.clone());
                            self.volumes.insert(name.clone());
                            section.set("data", Toml::text(name));
                        }
                    }
                }
                (Some(source), true) => {
                    let here = self.path(source, at);
                    self.report.not_mapped(at, what, format!("{here}: the image's files are not taken over, devrun keeps a volume of its own; dump what is in there and restore it"));
                }
                (None, _) => self.report.mapped(at, what, "the recipe keeps its data in a volume named after the service"),
            }
            return true;
        }
        if let Some((_, name)) = known
            .config
            .iter()
            .find(|(path, _)| *path == target || path.rsplit_once('/').is_some_and(|(folder, _)| folder == target))
            && let Some(source) = mount.source.as_deref().filter(|_| mount.bind)
        {
            let folder = !known.config.iter().any(|(path, _)| *path == target);
            let file = if folder { format!("{}/{name}", source.trim_end_matches('/')) } else { source.to_owned() };
            let Some(text) = self.absolute(&file, at).and_then(|path| (self.read)(&path)) else { return false };
            let path = self.path(&file, at);
            // A file that names nobody and nothing of the container can be used as it is.
            let names: Vec<&str> = self
                .targets
                .iter()
                .flat_map(|target| &target.hosts)
                .map(String::as_str)
                .filter(|host| host.len() > 1 && text.contains(&format!("{host}:")))
                .collect();
            let fits = names.is_empty() && !text.contains("${") && known.recipe != "loki";
            if fits {
                self.report.mapped(at, what, format!("render: {path}"));
                section.set("render", Toml::Table(vec![(path, Toml::text(*name))]));
            } else {
                let names = if names.is_empty() { String::new() } else { format!(" (it names {})", names.join(", ")) };
                self.report.not_mapped(at, what, format!("{path} holds ports, paths and names of containers{names}: copy it, put ${{NAME.addr}} and ${{port}} there, and render it"));
                section.below.push(format!(
                    "render = {{ {} = {} }}",
                    super::super::toml_writer::quoted(&format!("{path}.in")),
                    super::super::toml_writer::quoted(name)
                ));
            }
            return true;
        }
        if mount.bind && mount.source.is_some() {
            let here = self.path(mount.source.as_deref().unwrap_or_default(), at);
            self.report.not_mapped(at, what, format!("{here}: the recipe `{}` does not look at {target}", known.recipe));
            return true;
        }
        if self.served_volume(draft, mount, at, section) {
            return true;
        }
        if let Some(name) = mount.source.as_deref() {
            self.report.dropped(at, what, format!("{name}: the recipe keeps everything in its one volume"));
            return true;
        }
        false
    }
}
