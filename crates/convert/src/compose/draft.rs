//! A service of a compose file before its keys are mapped, and what it is natively.

use std::path::{Path, PathBuf};

use super::super::replacement::replace;
use super::super::report::At;
use super::super::yaml::{Map, YamlKey, YamlNode, YamlValue, get};
use super::dockerfile::Dockerfile;
use super::known_image::KnownImage;
use super::load;
use super::syntax::{self, PortMapping};
use super::values::Values;

/// A service before its keys are mapped.
pub(crate) struct Draft {
    /// In the compose file.
    pub key: YamlKey,
    /// In the procfile.
    pub name: String,
    pub node: YamlNode,
    pub kind: NativeKind,
    pub task: bool,
    /// TCP ports, in order, with their places.
    pub ports: Vec<(PortMapping, At)>,
    /// The directory that it runs in.
    pub dir: PathBuf,
    /// Directories of the container and what they are here, longest first.
    pub mounts: Vec<(String, PathBuf)>,
    /// The directory of the image's build.
    pub context: Option<PathBuf>,
    /// Ports of the container that are published once more.
    pub repeated: Vec<(PortMapping, At)>,
    /// Names that `extra_hosts` gives to this machine.
    pub machine_names: Vec<String>,
}

/// What it is natively.
pub(crate) enum NativeKind {
    Recipe {
        known: KnownImage,
        version: Option<String>,
        from: Option<Dockerfile>,
    },
    Run {
        command: ContainerCommand,
        dockerfile: Option<Dockerfile>,
    },
    /// A MinIO client that makes buckets: names, and those open to all.
    Buckets {
        names: Vec<String>,
        open: Vec<String>,
    },
    /// An Ollama that pulls models: their names.
    Models(Vec<String>),
    Absent {
        hint: String,
    },
    /// Its work is containers themselves: why there is none for it here.
    ContainerOnly(&'static str),
}

/// The command of a program.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum ContainerCommand {
    /// With the placeholders of compose.
    Words(Vec<String>),
    /// From a Dockerfile: no placeholders of compose, dollars are the shell's.
    Foreign(Vec<String>),
}

impl Draft {
    pub(crate) fn get(&self, key: &str) -> Option<&YamlNode> {
        self.node.get(key)
    }
    pub(crate) fn map(&self) -> &Map {
        static NONE: Map = Map::new();
        self.node.map().unwrap_or(&NONE)
    }
    pub(crate) fn what(&self, key: &str) -> String {
        format!("services.{}.{key}", self.key.name)
    }
    /// The value of a variable of `environment`, as written.
    pub(crate) fn variable(&self, name: &str) -> Option<String> {
        variable(self.get("environment")?, name)
    }
    /// Ports of the container at which clients reach the same server: a Kafka has a listener for its network and one for the
    /// machine outside. Without those of its controllers.
    pub(crate) fn listeners(&self, values: &Values) -> Vec<u16> {
        let NativeKind::Recipe { known, .. } = &self.kind else { return Vec::new() };
        if known.recipe != "kafka" {
            return self.port_of_command(known.recipe, values).into_iter().collect();
        }
        let text = |name: &str| {
            let found = self.variable(&format!("KAFKA_{name}")).or_else(|| self.variable(&format!("KAFKA_CFG_{name}")));
            found.map(|text| values.fill(&text).unwrap_or(text)).unwrap_or_default()
        };
        let controllers = text("CONTROLLER_LISTENER_NAMES");
        let is_client = |name: &str| !name.contains("CONTROLLER") && !controllers.split(',').any(|known| known.trim() == name);
        let both = format!("{},{}", text("LISTENERS"), text("ADVERTISED_LISTENERS"));
        let mut found: Vec<u16> = both
            .split(',')
            .filter_map(|listener| listener.trim().split_once("://").filter(|(name, _)| is_client(name)))
            .filter_map(|(_, address)| address.rsplit_once(':')?.1.trim_end_matches('/').parse().ok())
            .collect();
        found.sort_unstable();
        found.dedup();
        found
    }
    /// The port that the command, or a variable of the engine, gives to a server.
    fn port_of_command(&self, recipe: &str, values: &Values) -> Option<u16> {
        let (options, variable): (&[&str], &str) = match recipe {
            "redis" | "valkey" => (&["--port"], "REDIS_PORT_NUMBER"),
            "postgres" => (&["-p", "--port", "port"], "PGPORT"),
            "mariadb" => (&["--port", "-P"], "MYSQL_TCP_PORT"),
            "ferretdb" => (&["--port"], ""),
            "memcached" | "nats" => (&["-p", "--port"], ""),
            _ => return None,
        };
        let words = self.server_words();
        let number = |text: &str| values.fill(text)?.trim().parse::<u16>().ok().filter(|port| *port > 0);
        let of_command = words.iter().zip(words.iter().skip(1).map(Some).chain([None])).find_map(|(word, next)| {
            let (name, value) = word.split_once('=').unwrap_or((word, ""));
            let plain = name.strip_prefix("-c").map_or(name, |name| if recipe == "postgres" { name } else { "" });
            let is_option = options.contains(&name) || options.contains(&plain);
            let value = if value.is_empty() { next.map_or("", String::as_str) } else { value };
            is_option.then(|| number(value)).flatten()
        });
        of_command.or_else(|| number(&self.variable(variable)?))
    }
    /// The words of the command; those of a line for a shell where it is one.
    pub(crate) fn server_words(&self) -> Vec<String> {
        let words: Vec<String> =
            ["entrypoint", "command"].iter().filter_map(|key| self.get(key).and_then(syntax::words)).flatten().collect();
        match words.as_slice() {
            [shell, flag, script, ..] if shell.ends_with("sh") && flag.starts_with('-') => {
                shell_words::split(script).unwrap_or_default()
            }
            [script] if script.contains(' ') => shell_words::split(script).unwrap_or_default(),
            _ => words,
        }
    }
    /// Whether the command has the shell of the container fill this variable in: `$$NAME`.
    pub(crate) fn command_reads(&self, name: &str) -> bool {
        let texts = ["entrypoint", "command"].iter().filter_map(|key| self.get(key).and_then(syntax::words)).flatten();
        texts.into_iter().any(|text| {
            text.match_indices("$$")
                .any(|(at, _)| syntax::placeholder(&text[at + 1..]).is_some_and(|(hole, _)| hole.name == name))
        })
    }
    /// A text with the variables that the container's shell fills in: those of `environment` have their values.
    pub(crate) fn with_variables(&self, text: &str) -> String {
        replace(text, "$$", |_, rest| {
            let (hole, after) = syntax::placeholder(&rest[1..])?;
            Some((self.variable(hole.name)?, after))
        })
    }
    /// The main port in the container.
    pub(crate) fn main(&self) -> Option<u16> {
        match &self.kind {
            NativeKind::Recipe { known, .. } => known.main.first().copied(),
            _ => self.ports.first().and_then(|(port, _)| port.container.parse().ok()),
        }
    }
}

impl NativeKind {
    pub(crate) fn is_present(&self) -> bool {
        !matches!(self, Self::Absent { .. } | Self::ContainerOnly(_))
    }
    /// A server on which a task can make buckets.
    pub(crate) fn makes_buckets(&self) -> bool {
        matches!(self, Self::Recipe { known, .. } if matches!(known.recipe, "minio" | "versitygw" | "seaweedfs"))
    }
}

/// A recipe with its version.
pub(crate) fn use_of(known: &KnownImage, version: Option<&str>) -> String {
    version.map_or_else(|| known.recipe.to_owned(), |version| format!("{}@{version}", known.recipe))
}

/// The name of a further port.
pub(crate) fn port_name(container: &str) -> String {
    // A placeholder gives its default; what is left of one without a default still tells two ports apart.
    let number = syntax::with_defaults(container).unwrap_or_else(|| container.to_owned());
    let plain: String = number.chars().filter(|char| char.is_ascii_alphanumeric() || *char == '_').collect();
    format!("p{}", plain.to_ascii_lowercase())
}

/// The value of a variable in a list or table.
pub(crate) fn variable(node: &YamlNode, name: &str) -> Option<String> {
    match &node.value {
        YamlValue::Map(map) => get(map, name)?.scalar(),
        YamlValue::List(list) => list.iter().find_map(|item| {
            let text = item.scalar()?;
            let (key, value) = text.split_once('=')?;
            (key == name).then(|| value.to_owned())
        }),
        _ => None,
    }
}

/// A path in the container as it is here.
pub(crate) fn local(inside: &str, mounts: &[(String, PathBuf)]) -> Option<PathBuf> {
    mounts.iter().find_map(|(target, source)| {
        let rest = inside.strip_prefix(target.as_str())?;
        if rest.is_empty() || target.is_empty() {
            return (!target.is_empty()).then(|| source.clone());
        }
        let rest = rest.strip_prefix('/')?;
        Some(load::join(source, Path::new(rest).to_str().unwrap_or(rest)))
    })
}
