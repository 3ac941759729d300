//! The variables of an image that a recipe takes the place of → `user`, `password`, `database`, `set`; logins that the image
//! has by itself, and those that it did not want.

use std::collections::BTreeSet;

use super::super::report::{At, shorten};
use super::super::toml_writer::{Section, Toml, TomlEntries};
use super::super::yaml::{YamlNode, get};
use super::draft::{Draft, NativeKind, local};
use super::image_variables;
use super::importer::Importer;
use super::known_image::{Becomes, KnownImage};
use super::values::env_lines;

impl Importer<'_> {
    /// The variables that the image understands; they are no variables of the service any more.
    pub(super) fn recipe_variables(&mut self, draft: &Draft, section: &mut Section) -> BTreeSet<String> {
        let mut used = BTreeSet::new();
        let NativeKind::Recipe { known, .. } = &draft.kind else { return used };
        let mut variables: Vec<(String, Option<String>, At, bool)> =
            self.variables(draft).into_iter().map(|(name, value, at)| (name, value, at, false)).collect();
        // A Dockerfile on the image sets them too.
        if let NativeKind::Recipe { from: Some(file), .. } = &draft.kind {
            let at = draft.get("build").map_or(draft.key.at, |node| node.at);
            for (name, value) in &file.env {
                if !variables.iter().any(|(known, ..)| known == name) {
                    variables.push((name.clone(), Some(value.replace('$', "$$")), at, false));
                }
            }
        }
        // Those in an env file become placeholders, and the file feeds them.
        for (path, at) in draft.get("env_file").map(YamlNode::texts).unwrap_or_default() {
            let Some(text) = self.absolute(&path, at).and_then(|path| (self.read)(&path)) else { continue };
            let shown = self.path(&path, at);
            for line in env_lines(&text) {
                let name = line.name;
                let understood = known.env.iter().any(|(known, _)| *known == name);
                if understood && !variables.iter().any(|(known, ..)| *known == name) {
                    self.values.add(&name, &line.value);
                    // A shell's variable of the same name changes nothing there; a password is not copied for that.
                    if !devrun_model::secret_name::is_secret(&name) && !line.value.is_empty() && !line.value.contains('$') {
                        variables.push((name.clone(), Some(line.value.clone()), at, true));
                        continue;
                    }
                    if !self.env_files.contains(&shown) {
                        self.env_files.push(shown.clone());
                    }
                    variables.push((name.clone(), Some(format!("${{{name}}}")), at, true));
                }
            }
        }
        let mut set: TomlEntries = match section.take("set") {
            Some(Toml::Table(table)) => table,
            _ => Vec::new(),
        };
        let mut root_password = None;
        for (name, value, at, _) in variables {
            let stem = name.strip_suffix("__FILE").or_else(|| name.strip_suffix("_FILE"));
            if let Some(key) = stem.and_then(|stem| known.env.iter().find(|(known, _)| *known == stem)) {
                let what = draft.what(&format!("environment.{name}"));
                used.insert(name.clone());
                let file = value.unwrap_or_default();
                self.value_from_file(draft, (key.1, &file), (at, &what), &mut root_password, section);
                continue;
            }
            if name == "POSTGRES_INITDB_ARGS" && known.recipe == "postgres" {
                used.insert(name.clone());
                self.initdb_arguments(draft, &value.unwrap_or_default(), at, section);
                continue;
            }
            if name == "POSTGRES_MULTIPLE_DATABASES" {
                used.insert(name.clone());
                self.report.not_mapped(
                    at,
                    draft.what(&format!("environment.{name}")),
                    "make further databases in an `init` script",
                );
                continue;
            }
            let what = draft.what(&format!("environment.{name}"));
            let Some((_, becomes)) = known.env.iter().find(|(known, _)| *known == name) else {
                // What only the caller knows stays a placeholder.
                let written = value.unwrap_or_default();
                let (text, is_filled) = self.values.fill(&written).map_or((written, false), |text| (text, true));
                let place = format!("environment.{name}");
                let escaped = |text: &str| if is_filled { text.replace('$', "$$") } else { text.to_owned() };
                match image_variables::meaning(known.recipe, &name, &text) {
                    image_variables::Meaning::Read => continue,
                    image_variables::Meaning::Set(key, value) => {
                        let value = self.addressed(draft, &name, &escaped(&value), (at, &place), false);
                        self.report.mapped(at, what, format!("set.\"{key}\" = {}", shorten(&Toml::text(&value).line())));
                        set.push((key, Toml::text(value)));
                    }
                    image_variables::Meaning::Lines(lines) => {
                        self.report.mapped(at, what, format!("set: {} settings", lines.len()));
                        for (key, value) in lines {
                            let value = self.addressed(draft, &name, &escaped(&value), (at, &place), false);
                            set.push((key, Toml::text(value)));
                        }
                    }
                    image_variables::Meaning::Buckets => self.report.mapped(at, what, format!("a task {}-buckets", draft.name)),
                    image_variables::Meaning::Dropped(reason) => self.report.dropped(at, what, reason),
                    image_variables::Meaning::Unknown if draft.command_reads(&name) => {
                        self.report.dropped(at, what, "its value stands where the command names it");
                    }
                    image_variables::Meaning::Unknown => self.report.not_mapped(
                        at,
                        what,
                        format!("only the image's start script reads it, and the recipe `{}` does not have it", known.recipe),
                    ),
                }
                used.insert(name.clone());
                continue;
            };
            used.insert(name.clone());
            let written = value.unwrap_or_else(|| format!("${{{name}}}"));
            let text = self.text(&written, at, true);
            let key = match becomes {
                Becomes::User => "user",
                Becomes::Password => "password",
                Becomes::Database => "database",
                // A server of the file has said its own.
                Becomes::Set(key) if set.iter().any(|(known, _)| known == key) => {
                    self.report.dropped(at, what, format!("set.{key} is the server's own"));
                    continue;
                }
                Becomes::SetHostAndPort(host, port) => {
                    let whole = super::syntax::with_defaults(&text).unwrap_or_else(|| text.clone());
                    let server = self.targets.iter().find(|target| target.hosts.contains(&whole) && target.present);
                    let of_server = server.map(|target| target.name.clone());
                    let text = of_server.as_ref().map_or(text, |name| format!("${{{name}.host}}"));
                    self.report.mapped(at, what, format!("set.{host} = {text:?}"));
                    set.push(((*host).to_owned(), Toml::text(text)));
                    if let Some(name) = of_server {
                        set.retain(|(known, _)| known != port);
                        set.push(((*port).to_owned(), Toml::text(format!("${{{name}.port}}"))));
                    }
                    continue;
                }
                Becomes::Set(key) => {
                    set.push(((*key).to_owned(), Toml::text(text)));
                    self.report.mapped(at, what, format!("set.{key}"));
                    continue;
                }
                Becomes::SetHost(key) => {
                    let whole = text.clone();
                    let server = self.targets.iter().find(|target| target.hosts.contains(&whole));
                    let text = match server {
                        Some(target) if target.present && target.has_port => format!("${{{}.addr}}", target.name),
                        _ => super::hostnames::rewrite(&whole, true, &self.targets, &mut Vec::new()),
                    };
                    self.report.mapped(at, what, format!("set.{key} = {text:?}"));
                    set.push(((*key).to_owned(), Toml::text(text)));
                    continue;
                }
                Becomes::Login => {
                    match text.split_once('/') {
                        Some((user, password)) => {
                            section.set("user", Toml::text(user));
                            section.set("password", Toml::text(password));
                            self.report.mapped(at, what, "user, password");
                        }
                        None => self.report.not_mapped(
                            at,
                            what,
                            "cannot read USER/PASSWORD from it: set `user` and `password`; a password is always required",
                        ),
                    }
                    continue;
                }
                Becomes::Account => {
                    match text.split(';').next().and_then(|first| first.split_once(':')) {
                        Some((user, key)) if !text.trim_end_matches(';').contains(';') && !key.is_empty() => {
                            section.set("user", Toml::text(user));
                            section.set("password", Toml::text(key));
                            self.report.mapped(at, what, "user, password");
                        }
                        _ => self.report.not_mapped(at, what, "the recipe has one account: set `user` and `password`"),
                    }
                    continue;
                }
                Becomes::RootPassword if text.is_empty() => {
                    self.report.dropped(at, what, "is empty");
                    continue;
                }
                Becomes::RootPassword => {
                    root_password = Some((text, at, what));
                    continue;
                }
                Becomes::Nothing(reason) => {
                    let asks =
                        matches!(*reason, "logins from this machine always need the password" | "devrun always sets a password");
                    if asks && known.recipe == "mariadb" && self.has_root_password(draft) {
                        self.report.dropped(at, what, "root has a password here as well");
                    } else if asks {
                        self.report.not_mapped(
                            at,
                            what,
                            format!("{reason}: give clients ${{{}.url}} or ${{{}.password}}", draft.name, draft.name),
                        );
                    } else {
                        self.report.dropped(at, what, *reason);
                    }
                    continue;
                }
            };
            if text == "/" && known.recipe == "rabbitmq" {
                self.report.dropped(at, what, "is the usual one");
                continue;
            }
            if text.is_empty() {
                self.report.dropped(at, what, "is empty");
                continue;
            }
            self.report.mapped(at, what, key);
            section.set(key, Toml::text(text));
        }
        if let Some((text, at, what)) = root_password {
            if section.get("user").is_some_and(|user| user.line() != "\"root\"") && known.recipe == "mariadb" {
                self.report.mapped(at, what, "set.root_password: root logs in next to the user");
                set.push(("root_password".to_owned(), Toml::text(text)));
            } else {
                self.report.mapped(at, what, "user = \"root\", password");
                section.set("user", Toml::text("root"));
                section.set("password", Toml::text(text));
            }
        }
        // Two variables of an image may stand for one setting.
        let mut seen = std::collections::BTreeSet::new();
        for (name, _) in &set {
            if !seen.insert(name.clone()) {
                self.report.not_mapped(
                    draft.key.at,
                    draft.what("environment"),
                    format!("a second value for set.\"{name}\" is left out"),
                );
            }
        }
        set.retain(|(name, _)| seen.remove(name));
        if !set.is_empty() {
            section.set("set", Toml::Table(set));
        }
        self.default_login(draft, known, section);
        // The image names the database after the user.
        if known.recipe == "postgres"
            && let Some(user) = section.get("user").cloned()
            && !section.has("database")
        {
            section.set("database", user);
        }
        used
    }

    /// Whether root of a MySQL or MariaDB is given a password.
    fn has_root_password(&self, draft: &Draft) -> bool {
        ["MYSQL_ROOT_PASSWORD", "MARIADB_ROOT_PASSWORD"].iter().any(|name| {
            let value = draft.variable(name).and_then(|text| self.values.fill(&text).or(Some(text)));
            value.is_some_and(|value| !value.is_empty())
        })
    }

    /// `POSTGRES_INITDB_ARGS`: `encoding`, `locale`, what the recipe does anyway, and what is left out.
    fn initdb_arguments(&mut self, draft: &Draft, text: &str, at: At, section: &mut Section) {
        let what = draft.what("environment.POSTGRES_INITDB_ARGS");
        let filled = self.values.fill(text).unwrap_or_else(|| text.to_owned());
        let words = shell_words::split(&filled).unwrap_or_default();
        let mut rest = words.iter().peekable();
        let mut left = Vec::new();
        while let Some(word) = rest.next() {
            let (option, inline) = word.split_once('=').map_or((word.as_str(), None), |(option, value)| (option, Some(value)));
            let further = if inline.is_none() { rest.next_if(|word| !word.starts_with('-')).map(String::as_str) } else { None };
            let given = inline.or(further).unwrap_or_default();
            let value = given.to_ascii_lowercase().replace('-', "");
            let key = match option {
                "-E" | "--encoding" if value != "utf8" => Some("encoding"),
                "--locale" if !matches!(value.as_str(), "c" | "posix" | "c.utf8") => Some("locale"),
                _ => None,
            };
            if let Some(key) = key.filter(|_| !given.is_empty()) {
                self.report.mapped(at, what.clone(), format!("{key} = {given:?}"));
                section.set(key, Toml::text(given.replace('$', "$$")));
                continue;
            }
            let reason = match option {
                "-E" | "--encoding" if value == "utf8" => "the recipe makes databases in UTF-8",
                "--locale" | "--lc-collate" | "--lc-ctype" if matches!(value.as_str(), "c" | "posix" | "c.utf8") => {
                    "the recipe sorts by the locale C"
                }
                "-A" | "--auth" | "--auth-host" | "--auth-local" => "logins need the password, as in the image",
                _ => {
                    left.push(word.clone());
                    left.extend(further.map(str::to_owned));
                    continue;
                }
            };
            self.report.dropped(at, what.clone(), format!("{option}: {reason}"));
        }
        if !left.is_empty() {
            self.report.not_mapped(at, what, format!("devrun gives initdb its own arguments: {} is left out", left.join(" ")));
        }
    }

    /// `NAME_FILE`: the value is in a file, which may be a secret of the compose file or a mount.
    fn value_from_file(
        &mut self,
        draft: &Draft,
        (becomes, file): (Becomes, &str),
        (at, what): (At, &str),
        root_password: &mut Option<(String, At, String)>,
        section: &mut Section,
    ) {
        let file = self.values.fill(file).unwrap_or_else(|| file.to_owned());
        let secret = self.secret_of_path(draft, &file);
        let (name, path, variable) = match &secret {
            Some((name, Some(path), _)) => (name.clone(), Some(path.clone()), None),
            Some((name, None, variable)) => (name.clone(), None, variable.clone()),
            None => match local(&file, &draft.mounts) {
                Some(path) => {
                    (path.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default(), Some(path), None)
                }
                None => {
                    self.report.not_mapped(at, what, "a value out of a file: write it as ${VAR}, and the variable into .env");
                    return;
                }
            },
        };
        let is_secret = matches!(becomes, Becomes::Password | Becomes::RootPassword);
        self.secret_variables.extend(variable.clone());
        if let (false, Some(variable)) = (is_secret, &variable) {
            let key = match becomes {
                Becomes::User => "user",
                Becomes::Database => "database",
                _ => "",
            };
            if !key.is_empty() {
                let text = self.text(&format!("${{{variable}}}"), at, true);
                self.report.mapped(at, what, format!("{key} = \"{text}\""));
                section.set(key, Toml::text(text));
                return;
            }
        }
        if !is_secret {
            // Names of users and databases are no secrets: they are read once, now.
            let text = path
                .as_ref()
                .and_then(|path| (self.read)(path))
                .map(|text| text.trim().to_owned())
                .filter(|text| !text.is_empty());
            let key = match becomes {
                Becomes::User => "user",
                Becomes::Database => "database",
                _ => "",
            };
            match text.filter(|_| !key.is_empty()) {
                Some(text) => {
                    self.report.mapped(at, what, format!("{key} = {text:?}, as its file says now"));
                    section.set(key, Toml::text(text.replace('$', "$$")));
                }
                None => self.report.not_mapped(at, what, "a value out of a file: write it as ${VAR}, and the variable into .env"),
            }
            return;
        }
        let name: String =
            name.chars().map(|char| if char.is_ascii_alphanumeric() || "._-".contains(char) { char } else { '-' }).collect();
        let text = match (&path, variable) {
            (_, Some(variable)) => format!("${{{variable}}}"),
            (Some(path), None) => {
                let shown = self.shown(path);
                self.secret_files.insert(name.clone(), shown);
                format!("${{secret.{name}}}")
            }
            (None, None) => {
                self.secrets.insert(name.clone());
                format!("${{secret.{name}}}")
            }
        };
        if becomes == Becomes::RootPassword {
            *root_password = Some((text, at, what.to_owned()));
            return;
        }
        self.report.mapped(at, what, format!("password = \"{text}\""));
        section.set("password", Toml::text(text));
    }

    /// The secret that a path of the container names: its name, its file here, or the variable it is made from.
    fn secret_of_path(&self, draft: &Draft, path: &str) -> Option<(String, Option<std::path::PathBuf>, Option<String>)> {
        // The long form gives it another name in the container.
        let items = draft.get("secrets").and_then(YamlNode::list).unwrap_or_default();
        let by_target = items.iter().find_map(|item| {
            let (source, target) =
                (item.get("source").and_then(YamlNode::scalar)?, item.get("target").and_then(YamlNode::scalar)?);
            (path == target || path.strip_prefix("/run/secrets/") == Some(target.as_str())).then_some(source)
        });
        let name = by_target.or_else(|| path.strip_prefix("/run/secrets/").map(str::to_owned))?;
        let node = get(&self.tree, "secrets").and_then(|node| node.get(&name));
        let file = node.and_then(|node| node.get("file")).and_then(|file| self.absolute(&file.scalar()?, file.at));
        let variable = node.and_then(|node| node.get("environment")).and_then(YamlNode::scalar);
        Some((name, file, variable))
    }

    /// What an image has where nothing is said: clients that nobody configured use exactly that.
    fn default_login(&mut self, draft: &Draft, known: &KnownImage, section: &mut Section) {
        let at = draft.get("image").map_or(draft.key.at, |node| node.at);
        let what = draft.what("image");
        let usual = match known.recipe {
            "rabbitmq" => Some(("guest", "guest")),
            "minio" => Some(("minioadmin", "minioadmin")),
            "grafana" => Some(("admin", "admin")),
            _ => None,
        };
        if let Some((user, password)) = usual {
            if section.has("user") && section.has("password") {
                return;
            }
            for (key, value) in [("user", user), ("password", password)] {
                if !section.has(key) {
                    section.set(key, Toml::text(value));
                }
            }
            self.report.mapped(at, what, format!("the login that the image has by itself: {user}/{password}"));
            return;
        }
        match known.recipe {
            "meilisearch" if !section.has("password") => {
                let text = format!("the image wants no key and the recipe does: clients use ${{{}.password}}", draft.name);
                self.report.not_mapped(at, what, text);
            }
            "nats" if section.has("user") || section.has("password") => {}
            "nats" if !section.has("files") => {
                // Without a login in the compose file its server takes anybody.
                let text = "listen: \"${NAME.host}:${NAME.port}\"\nhttp: \"${NAME.host}:${NAME.ports.http}\"\njetstream { store_dir: \"${NAME.data}/nats/data\" }\n";
                let text = text.replace("NAME", &draft.name);
                section.set("files", Toml::Table(vec![("nats.conf".to_owned(), Toml::text(text))]));
                self.report.mapped(at, what, "files.\"nats.conf\": no login is wanted, as in the image");
            }
            "redis" | "valkey" if !section.has("password") => {
                section.set("password", Toml::text(""));
                self.report.mapped(at, what, "password = \"\": none is wanted, as in the image");
            }
            "adminer" => self.one_database(draft, section),
            "kafka" => {
                let nodes = self.targets.iter().filter(|target| target.recipe == Some("kafka")).count();
                if nodes > 1 {
                    let text = format!(
                        "each of the {nodes} brokers of the file is a cluster of its own here: let all clients use one of them, and leave the others out"
                    );
                    self.report.not_mapped(at, what, text);
                }
            }
            "mariadb" if super::relations::is_open(draft) && !section.has("user") && !section.has("password") => {
                section.set("user", Toml::text("root"));
                self.report.mapped(at, what, "user = \"root\", with a generated password");
            }
            _ => {}
        }
    }

    /// Where the project has one database, the login page names it: its name in compose cannot be typed there any more.
    fn one_database(&mut self, draft: &Draft, section: &mut Section) {
        let mut set: TomlEntries = match section.take("set") {
            Some(Toml::Table(table)) => table,
            _ => Vec::new(),
        };
        let server = set.iter().find(|(key, _)| key == "server").map(|(_, value)| value.line());
        let named = self
            .targets
            .iter()
            .filter(|target| server.as_deref().is_none_or(|text| text.contains(&format!("${{{}.", target.name))));
        let found: Vec<(String, &str)> = named
            .filter_map(|target| match target.recipe {
                Some("postgres") => Some((target.name.clone(), "pgsql")),
                Some("mariadb") => Some((target.name.clone(), "server")),
                _ => None,
            })
            .collect();
        if let [(name, driver)] = found.as_slice() {
            let at = draft.get("image").map_or(draft.key.at, |node| node.at);
            for (key, value) in [("server", format!("${{{name}.addr}}")), ("driver", (*driver).to_owned())] {
                if !set.iter().any(|(known, _)| known == key) {
                    self.report.mapped(at, draft.what("image"), format!("set.{key} = {value:?}"));
                    set.push((key.to_owned(), Toml::text(value)));
                }
            }
        }
        if !set.is_empty() {
            section.set("set", Toml::Table(set));
        }
    }
}
