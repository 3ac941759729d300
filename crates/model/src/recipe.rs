//! A recipe: what a container image's entrypoint knew about a server. The data part is here, so that `config` can merge
//! a recipe's defaults without importing `recipes`; code where data is not enough lives in `recipes`.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::gateway::GatewaySpec;

/// How `devrun backup` takes a logical dump of a server, where it does not archive the data directory. A Postgres and a Redis are known
/// by their probes as well, so they are not listed here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ServerDump {
    /// Buckets and objects through the S3 API, while it runs.
    S3,
    /// `mariadb-dump`, while it runs.
    Mariadb,
    /// `neo4j-admin database dump`, while it is stopped.
    Neo4j,
}

/// A recipe as data: the format of the files in `crates/runtime/src/recipes/data` and of a user's own `use = "./my-recipe.toml"`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RecipeData {
    /// Its name: `postgres`.
    pub name: String,
    /// One line for `catalog`.
    pub summary: String,
    /// The usual main port; absent: it listens on none.
    pub port: Option<u16>,
    /// Further ports by name, with their usual numbers.
    #[serde(default)]
    pub ports: BTreeMap<String, u16>,
    /// It has a data volume of the service's name unless told otherwise.
    #[serde(default)]
    pub keeps_data: bool,
    /// It refuses to start without one, though none of its texts names `${dir.data}`.
    #[serde(default)]
    pub wants_data: bool,
    /// It ends when started as root.
    #[serde(default)]
    pub refuses_root: bool,
    /// It cannot run as the user of `user_id`.
    #[serde(default)]
    pub refuses_user_id: bool,
    /// Which of the keys that only some recipes read it does: `init`, `migrations`, `extensions`, `locale`, `encoding`. `check` refuses
    /// the others.
    #[serde(default)]
    pub own_keys: Vec<String>,
    /// Attributes it takes when the procfile gives none.
    #[serde(default)]
    pub user: Option<String>,
    /// The database's name when none is given.
    #[serde(default)]
    pub database: Option<String>,
    /// A service without `password` gets a generated, cached one.
    #[serde(default)]
    pub wants_password: bool,
    /// The file in its run directory that tells the server its password, where the data does not hold it. If `render` of the
    /// procfile gives this file, no password is generated: the server would not know it.
    #[serde(default)]
    pub password_file: Option<String>,
    /// The logical dump that `backup` takes of it: `s3`, `mariadb` or `neo4j`. None: its data directory is archived.
    #[serde(default)]
    pub dump: Option<ServerDump>,
    /// Executables it needs; the first one is the server.
    #[serde(default)]
    pub bin: Vec<String>,
    /// The URL scheme of `${svc.url}` (`postgres`, `redis`, `http`).
    #[serde(default = "http")]
    pub scheme: String,
    /// Default keys of a `[services.X]` table: `ready`, `stop`, `restart`, …, as the procfile would write them.
    #[serde(default)]
    pub service: toml::Table,
    /// Variables for a client in the usual spelling (`DATABASE_URL = "${url}"`), from the service's attributes.
    #[serde(default)]
    pub exports: BTreeMap<String, String>,
    /// The server's words; `${bin.NAME}`, `${dir.run}`, `${dir.data}` and attributes may stand in them.
    #[serde(default)]
    pub argv: Vec<String>,
    /// The server's environment, with the same placeholders.
    #[serde(default)]
    pub environment: BTreeMap<String, String>,
    /// Files written (0600) into the runtime folder before a start: name and text with the same placeholders.
    #[serde(default)]
    pub render: BTreeMap<String, String>,
    /// How to install it by hand: one line per system.
    #[serde(default)]
    pub install: BTreeMap<String, String>,
}

impl RecipeData {
    /// Whether `data = false` leaves it nothing to start with.
    #[must_use]
    pub fn needs_data(&self) -> bool {
        let names_it = |text: &String| text.contains("${dir.data}") || text.contains("${dir.data|");
        self.wants_data || self.argv.iter().chain(self.environment.values()).chain(self.render.values()).any(names_it)
    }
}

fn http() -> String {
    "http".to_owned()
}

/// Looks recipes up; implemented by `recipes`.
pub trait RecipeBook: Debug {
    /// The recipe of this name.
    fn find(&self, name: &str) -> Option<&RecipeData>;
    /// All names, sorted.
    fn names(&self) -> Vec<&str>;
}

/// A `[sources.NAME]` table: where binaries come from when the catalogue's answer will not do.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct SourceSpec {
    /// Version, for templates and the lock.
    pub version: Option<String>,
    /// A download, with `{version}`, `{os}`, `{arch}`.
    pub url: Option<String>,
    /// Its pin.
    pub sha256: Option<String>,
    /// A folder of binaries that is there already.
    pub path: Option<PathBuf>,
    /// `package@version`.
    pub npm: Option<String>,
    /// `package==version`.
    pub pypi: Option<String>,
    /// A build command.
    pub build: Vec<String>,
    /// The Go module it runs in.
    pub module: Option<String>,
}

/// A recipe as one service uses it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RecipeUse {
    /// The recipe itself, merged with nothing.
    pub recipe: RecipeData,
    /// `16`, `7.2.5`; absent: any.
    pub version: Option<String>,
    /// `set`: engine settings, values as text.
    pub settings: BTreeMap<String, String>,
    /// First-boot files in byte order of their names, folders already listed by the driver that runs them.
    pub init: Vec<PathBuf>,
    /// Postgres extensions.
    pub extensions: Vec<String>,
    /// The locale with which a new data directory sorts and knows letters (`LC_ALL` of `initdb`); absent: sorted by bytes, with the
    /// letters of `C.UTF-8`. Data that are there keep their own.
    #[serde(default)]
    pub locale: Option<String>,
    /// The character encoding of a new data directory, by the server's name for it; absent: `UTF8`.
    #[serde(default)]
    pub encoding: Option<String>,
    /// The folder of migrations.
    pub migrations: Option<PathBuf>,
    /// `[sources.NAME]`.
    pub source: Option<SourceSpec>,
    /// Whether init may take the warm cache of an empty cluster.
    pub init_cache: bool,
    /// The routes of a gateway.
    #[serde(default)]
    pub gateway: Option<GatewaySpec>,
}
