//! Which image an exported recipe becomes: the way back of `compose/images`, with what an image calls its login.

use toml::Table;

/// Recipe, image, port in the container, data folder, variables for user, password and database.
pub(crate) type ImageRow = (&'static str, &'static str, u16, &'static str, [&'static str; 3]);

/// The image of each recipe.
const IMAGES: &[ImageRow] = &[
    ("postgres", "postgres", 5432, "/var/lib/postgresql/data", ["POSTGRES_USER", "POSTGRES_PASSWORD", "POSTGRES_DB"]),
    ("redis", "redis", 6379, "/data", ["", "", ""]),
    ("valkey", "valkey/valkey", 6379, "/data", ["", "", ""]),
    ("mariadb", "mariadb", 3306, "/var/lib/mysql", ["MARIADB_USER", "MARIADB_PASSWORD", "MARIADB_DATABASE"]),
    ("minio", "minio/minio", 9000, "/data", ["MINIO_ROOT_USER", "MINIO_ROOT_PASSWORD", ""]),
    ("neo4j", "neo4j", 7687, "/data", ["", "", ""]),
    ("qdrant", "qdrant/qdrant", 6333, "/qdrant/storage", ["", "QDRANT__SERVICE__API_KEY", ""]),
    ("ollama", "ollama/ollama", 11434, "/root/.ollama", ["", "", ""]),
    ("meilisearch", "getmeili/meilisearch", 7700, "/meili_data", ["", "MEILI_MASTER_KEY", ""]),
    ("prometheus", "prom/prometheus", 9090, "/prometheus", ["", "", ""]),
    ("grafana", "grafana/grafana", 3000, "/var/lib/grafana", ["GF_SECURITY_ADMIN_USER", "GF_SECURITY_ADMIN_PASSWORD", ""]),
    ("loki", "grafana/loki", 3100, "/loki", ["", "", ""]),
    ("promtail", "grafana/promtail", 9080, "", ["", "", ""]),
    ("caddy", "caddy", 80, "/data", ["", "", ""]),
    ("nginx", "nginx", 80, "", ["", "", ""]),
    ("rabbitmq", "rabbitmq", 5672, "/var/lib/rabbitmq", ["RABBITMQ_DEFAULT_USER", "RABBITMQ_DEFAULT_PASS", ""]),
    ("memcached", "memcached", 11211, "", ["", "", ""]),
    ("nats", "nats", 4222, "/data", ["", "", ""]),
    ("mailpit", "axllent/mailpit", 1025, "/data", ["", "", ""]),
    ("seaweedfs", "chrislusf/seaweedfs", 8333, "/data", ["", "", ""]),
    ("blackbox_exporter", "prom/blackbox-exporter", 9115, "", ["", "", ""]),
    ("node_exporter", "prom/node-exporter", 9100, "", ["", "", ""]),
];

/// The image of a service that uses a recipe.
pub(crate) fn image_of(service: &Table) -> Option<&'static ImageRow> {
    let name = service.get("use")?.as_str()?.split('@').next()?;
    IMAGES.iter().find(|row| row.0 == name)
}
