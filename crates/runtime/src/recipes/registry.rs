//! The recipes compiled in, read from their data files. Adding a service is adding a file here; code beside it is needed
//! only where data is not enough.

use std::collections::BTreeMap;
use std::sync::OnceLock;

use devrun_model::{RecipeBook, RecipeData};

macro_rules! files {
    ($($name:literal)+) => { &[$(($name, include_str!(concat!("data/", $name, ".toml")))),+] };
}

const FILES: &[(&str, &str)] = files!(
    "adminer" "alertmanager" "apicurio" "archivebox" "azurite" "blackbox_exporter" "caddy" "changedetection" "chroma" "debezium_server"
    "etcd" "ferretdb" "flink" "flink_taskmanager" "gateway" "ghost" "grafana" "influxdb" "kafka" "kafka_connect" "keycloak" "kiwix" "loki"
    "mailpit" "mariadb" "meilisearch" "memcached" "minio" "mockserver" "moto" "n8n" "nats" "neo4j" "nginx" "node_exporter" "ollama"
    "opensearch" "pgbouncer" "postgres" "prometheus" "promtail" "pushgateway" "qdrant" "questdb" "rabbitmq" "redis" "seaweedfs" "telemetry"
    "tika" "toxiproxy" "valkey" "versitygw" "victorialogs" "wordpress" "zookeeper"
);

/// The recipes compiled in. Each is parsed when it is first asked for: a stack uses a few of them, and reading them all would
/// be a quarter of what the client does before it starts anything.
#[derive(Debug)]
pub struct RecipeRegistry {
    recipes: BTreeMap<&'static str, (&'static str, OnceLock<Option<RecipeData>>)>,
}

impl RecipeRegistry {
    /// The compiled-in files.
    #[must_use]
    pub fn new() -> Self {
        Self { recipes: FILES.iter().map(|(name, text)| (*name, (*text, OnceLock::new()))).collect() }
    }
}

impl Default for RecipeRegistry {
    fn default() -> Self {
        Self::new()
    }
}

impl RecipeBook for RecipeRegistry {
    fn find(&self, name: &str) -> Option<&RecipeData> {
        let (text, recipe) = self.recipes.get(name)?;
        // A file that does not parse cannot leave the build: a test reads each of them and fails on the first error.
        recipe.get_or_init(|| toml::from_str(text).ok()).as_ref()
    }
    fn names(&self) -> Vec<&str> {
        self.recipes.keys().copied().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_file_parses_and_has_its_own_name() {
        for (name, text) in FILES {
            match toml::from_str::<RecipeData>(text) {
                Ok(recipe) => assert_eq!(recipe.name, *name),
                Err(error) => panic!("{name}.toml: {error}"),
            }
        }
        let on_disk = std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/src/recipes/data")).unwrap().count();
        assert_eq!(RecipeRegistry::new().names().len(), on_disk);
    }

    #[test]
    fn each_can_be_installed_and_stopped() {
        let book = RecipeRegistry::new();
        for name in book.names() {
            let recipe = book.find(name).unwrap();
            assert!(!recipe.summary.is_empty(), "{name}");
            assert!(recipe.port.is_some(), "{name}");
            assert!(recipe.service.contains_key("ready"), "{name}");
            assert!(recipe.service.contains_key("stop"), "{name}");
            if !["gateway", "telemetry"].contains(&name) {
                assert!(!recipe.bin.is_empty(), "{name}");
                assert!(!recipe.install.is_empty(), "{name}");
            }
        }
    }
}
