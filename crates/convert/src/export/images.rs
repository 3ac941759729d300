//! Which image an exported recipe becomes: the way back of `compose/images`, with all that an image wants: where its data lies,
//! what it calls its login, where it reads its configuration, and how it is asked whether it is ready.

use toml::Table;

/// What is known of the image of a recipe.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ContainerImage {
    pub recipe: &'static str,
    pub name: &'static str,
    /// Stands before a full version in its tags.
    pub tag_prefix: &'static str,
    /// The tag where no version is known.
    pub usual_tag: &'static str,
    /// The main port in the container.
    pub port: u16,
    /// The other ports in the container, by the recipe's names.
    pub ports: &'static [(&'static str, u16)],
    /// Where it keeps its data; empty: nowhere.
    pub data: &'static str,
    /// Variables for user, password and database; an empty one: there is none.
    pub login: [&'static str; 3],
    /// Whether `NAME_FILE` is read for those.
    pub reads_files: bool,
    /// Where its configuration files lie, by the names that the recipe has for them.
    pub config: &'static [(&'static str, &'static str)],
    /// Asks whether it is ready, in a shell; empty: the image has no program that could.
    pub health: &'static str,
    /// Whether a program that asks HTTP is in it.
    pub has_wget: bool,
    /// What the image starts before its arguments, for a command that must do something first; empty: not known.
    pub program: &'static [&'static str],
    /// Arguments that the image needs to serve at all.
    pub arguments: &'static [&'static str],
    /// Variables that the image needs to serve at all; `{name}` is the service's name, by which others reach it.
    pub environment: &'static [(&'static str, &'static str)],
}

const BASE: ContainerImage = ContainerImage {
    recipe: "",
    name: "",
    tag_prefix: "",
    usual_tag: "latest",
    port: 0,
    ports: &[],
    data: "",
    login: ["", "", ""],
    reads_files: false,
    config: &[],
    health: "",
    has_wget: false,
    program: &[],
    arguments: &[],
    environment: &[],
};

const IMAGES: &[ContainerImage] = &[
    ContainerImage {
        recipe: "postgres",
        name: "postgres",
        port: 5432,
        data: "/var/lib/postgresql/data",
        login: ["POSTGRES_USER", "POSTGRES_PASSWORD", "POSTGRES_DB"],
        reads_files: true,
        health: "pg_isready -h 127.0.0.1 -U \"$POSTGRES_USER\"",
        ..BASE
    },
    ContainerImage {
        recipe: "redis",
        name: "redis",
        port: 6379,
        data: "/data",
        health: "redis-cli ping | grep PONG",
        program: &["docker-entrypoint.sh"],
        ..BASE
    },
    ContainerImage {
        recipe: "valkey",
        name: "valkey/valkey",
        port: 6379,
        data: "/data",
        health: "valkey-cli ping | grep PONG",
        program: &["docker-entrypoint.sh"],
        ..BASE
    },
    ContainerImage {
        recipe: "mariadb",
        name: "mariadb",
        port: 3306,
        data: "/var/lib/mysql",
        login: ["MARIADB_USER", "MARIADB_PASSWORD", "MARIADB_DATABASE"],
        reads_files: true,
        health: "healthcheck.sh --connect --innodb_initialized",
        ..BASE
    },
    ContainerImage {
        recipe: "minio",
        name: "minio/minio",
        port: 9000,
        ports: &[("console", 9001)],
        data: "/data",
        login: ["MINIO_ROOT_USER", "MINIO_ROOT_PASSWORD", ""],
        reads_files: true,
        health: "mc ready local",
        arguments: &["server", "/data", "--console-address", ":9001"],
        ..BASE
    },
    ContainerImage {
        recipe: "versitygw",
        name: "versity/versitygw",
        tag_prefix: "v",
        port: 7070,
        data: "/data",
        login: ["ROOT_ACCESS_KEY", "ROOT_SECRET_KEY", ""],
        arguments: &["--port", ":7070", "posix", "/data"],
        ..BASE
    },
    ContainerImage {
        recipe: "neo4j",
        name: "neo4j",
        port: 7687,
        ports: &[("http", 7474)],
        data: "/data",
        health: "wget -q -O /dev/null http://127.0.0.1:7474",
        program: &["tini", "-g", "--", "/startup/docker-entrypoint.sh", "neo4j"],
        has_wget: true,
        ..BASE
    },
    ContainerImage {
        recipe: "qdrant",
        name: "qdrant/qdrant",
        tag_prefix: "v",
        port: 6333,
        ports: &[("grpc", 6334)],
        data: "/qdrant/storage",
        login: ["", "QDRANT__SERVICE__API_KEY", ""],
        health: "bash -c ': > /dev/tcp/127.0.0.1/6333'",
        program: &["./entrypoint.sh"],
        ..BASE
    },
    ContainerImage { recipe: "ollama", name: "ollama/ollama", port: 11434, data: "/root/.ollama", health: "ollama list", ..BASE },
    ContainerImage {
        recipe: "meilisearch",
        name: "getmeili/meilisearch",
        tag_prefix: "v",
        port: 7700,
        data: "/meili_data",
        login: ["", "MEILI_MASTER_KEY", ""],
        health: "curl -fsS -o /dev/null http://127.0.0.1:7700/health",
        program: &["tini", "--", "/bin/meilisearch"],
        ..BASE
    },
    ContainerImage {
        recipe: "prometheus",
        name: "prom/prometheus",
        tag_prefix: "v",
        port: 9090,
        data: "/prometheus",
        config: &[("prometheus.yml", "/etc/prometheus/prometheus.yml")],
        has_wget: true,
        ..BASE
    },
    ContainerImage {
        recipe: "grafana",
        name: "grafana/grafana",
        port: 3000,
        data: "/var/lib/grafana",
        login: ["GF_SECURITY_ADMIN_USER", "GF_SECURITY_ADMIN_PASSWORD", ""],
        config: &[("datasources.yml", "/etc/grafana/provisioning/datasources/datasources.yml")],
        has_wget: true,
        ..BASE
    },
    ContainerImage {
        recipe: "loki",
        name: "grafana/loki",
        port: 3100,
        data: "/loki",
        config: &[("loki.yml", "/etc/loki/local-config.yaml")],
        ..BASE
    },
    ContainerImage {
        recipe: "promtail",
        name: "grafana/promtail",
        port: 9080,
        config: &[("promtail.yml", "/etc/promtail/config.yml")],
        ..BASE
    },
    ContainerImage {
        recipe: "caddy",
        name: "caddy",
        usual_tag: "2",
        port: 80,
        data: "/data",
        config: &[("Caddyfile", "/etc/caddy/Caddyfile")],
        has_wget: true,
        ..BASE
    },
    ContainerImage {
        recipe: "nginx",
        name: "nginx",
        port: 80,
        config: &[("nginx.conf", "/etc/nginx/nginx.conf")],
        health: "curl -fsS -o /dev/null http://127.0.0.1:80/",
        ..BASE
    },
    ContainerImage {
        recipe: "rabbitmq",
        name: "rabbitmq",
        port: 5672,
        ports: &[("dist", 25672), ("epmd", 4369)],
        data: "/var/lib/rabbitmq",
        login: ["RABBITMQ_DEFAULT_USER", "RABBITMQ_DEFAULT_PASS", ""],
        health: "rabbitmq-diagnostics -q ping",
        program: &["docker-entrypoint.sh", "rabbitmq-server"],
        ..BASE
    },
    ContainerImage {
        recipe: "memcached",
        name: "memcached",
        port: 11211,
        health: "bash -c ': > /dev/tcp/127.0.0.1/11211'",
        ..BASE
    },
    ContainerImage {
        recipe: "nats",
        name: "nats",
        port: 4222,
        ports: &[("http", 8222)],
        data: "/data",
        arguments: &["-m", "8222"],
        ..BASE
    },
    ContainerImage {
        recipe: "mailpit",
        name: "axllent/mailpit",
        tag_prefix: "v",
        port: 1025,
        ports: &[("http", 8025)],
        data: "/data",
        health: "/mailpit readyz",
        ..BASE
    },
    ContainerImage {
        recipe: "seaweedfs",
        name: "chrislusf/seaweedfs",
        port: 8333,
        ports: &[("master", 9333), ("filer", 8888)],
        data: "/data",
        has_wget: true,
        arguments: &["server", "-s3", "-dir=/data"],
        ..BASE
    },
    ContainerImage {
        recipe: "blackbox_exporter",
        name: "prom/blackbox-exporter",
        tag_prefix: "v",
        port: 9115,
        config: &[("blackbox.yml", "/etc/blackbox_exporter/config.yml")],
        has_wget: true,
        ..BASE
    },
    ContainerImage {
        recipe: "etcd",
        name: "quay.io/coreos/etcd",
        tag_prefix: "v",
        usual_tag: "v3.5.17",
        port: 2379,
        ports: &[("peer", 2380)],
        data: "/etcd-data",
        health: "etcdctl endpoint health",
        arguments: &[
            "/usr/local/bin/etcd",
            "--data-dir=/etcd-data",
            "--listen-client-urls=http://0.0.0.0:2379",
            "--advertise-client-urls=http://0.0.0.0:2379",
        ],
        ..BASE
    },
    ContainerImage {
        recipe: "kafka",
        name: "apache/kafka",
        port: 9092,
        ports: &[("controller", 9093)],
        data: "/var/lib/kafka/data",
        health: "/opt/kafka/bin/kafka-broker-api-versions.sh --bootstrap-server 127.0.0.1:9092",
        // With one variable the image reads no configuration of its own any more, so all of them are needed.
        environment: &[
            ("KAFKA_NODE_ID", "1"),
            ("KAFKA_PROCESS_ROLES", "broker,controller"),
            ("KAFKA_LISTENERS", "PLAINTEXT://:9092,CONTROLLER://:9093"),
            ("KAFKA_ADVERTISED_LISTENERS", "PLAINTEXT://{name}:9092"),
            ("KAFKA_CONTROLLER_LISTENER_NAMES", "CONTROLLER"),
            ("KAFKA_LISTENER_SECURITY_PROTOCOL_MAP", "CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT"),
            ("KAFKA_CONTROLLER_QUORUM_VOTERS", "1@127.0.0.1:9093"),
            ("KAFKA_OFFSETS_TOPIC_REPLICATION_FACTOR", "1"),
            ("KAFKA_TRANSACTION_STATE_LOG_REPLICATION_FACTOR", "1"),
            ("KAFKA_TRANSACTION_STATE_LOG_MIN_ISR", "1"),
            ("KAFKA_GROUP_INITIAL_REBALANCE_DELAY_MS", "0"),
            ("KAFKA_LOG_DIRS", "/var/lib/kafka/data"),
        ],
        ..BASE
    },
    ContainerImage {
        recipe: "kafka_connect",
        name: "quay.io/debezium/connect",
        usual_tag: "3.5",
        port: 8083,
        health: "curl -fsS -o /dev/null http://127.0.0.1:8083/connectors",
        environment: &[
            ("GROUP_ID", "connect"),
            ("CONFIG_STORAGE_TOPIC", "connect_configs"),
            ("OFFSET_STORAGE_TOPIC", "connect_offsets"),
            ("STATUS_STORAGE_TOPIC", "connect_statuses"),
        ],
        ..BASE
    },
    ContainerImage {
        recipe: "keycloak",
        name: "quay.io/keycloak/keycloak",
        port: 8080,
        ports: &[("management", 9000)],
        data: "/opt/keycloak/data",
        login: ["KC_BOOTSTRAP_ADMIN_USERNAME", "KC_BOOTSTRAP_ADMIN_PASSWORD", ""],
        health: "bash -c ': > /dev/tcp/127.0.0.1/8080'",
        arguments: &["start-dev", "--health-enabled=true"],
        ..BASE
    },
    ContainerImage {
        recipe: "zookeeper",
        name: "zookeeper",
        port: 2181,
        ports: &[("admin", 8080)],
        data: "/data",
        health: "zkServer.sh status",
        environment: &[("ZOO_4LW_COMMANDS_WHITELIST", "*")],
        ..BASE
    },
    ContainerImage {
        recipe: "opensearch",
        name: "opensearchproject/opensearch",
        usual_tag: "2",
        port: 9200,
        ports: &[("transport", 9300)],
        data: "/usr/share/opensearch/data",
        health: "curl -fsS -o /dev/null http://127.0.0.1:9200/_cluster/health",
        environment: &[
            ("discovery.type", "single-node"),
            ("DISABLE_SECURITY_PLUGIN", "true"),
            ("DISABLE_INSTALL_DEMO_CONFIG", "true"),
        ],
        ..BASE
    },
    ContainerImage { recipe: "adminer", name: "adminer", port: 8080, ..BASE },
    ContainerImage {
        recipe: "azurite",
        name: "mcr.microsoft.com/azure-storage/azurite",
        port: 10000,
        ports: &[("queue", 10001), ("table", 10002)],
        data: "/data",
        arguments: &[
            "azurite",
            "--blobHost",
            "0.0.0.0",
            "--queueHost",
            "0.0.0.0",
            "--tableHost",
            "0.0.0.0",
            "--location",
            "/data",
            "--skipApiVersionCheck",
        ],
        ..BASE
    },
    ContainerImage { recipe: "chroma", name: "chromadb/chroma", port: 8000, data: "/data", ..BASE },
    ContainerImage {
        recipe: "victorialogs",
        name: "victoriametrics/victoria-logs",
        tag_prefix: "v",
        port: 9428,
        data: "/victoria-logs-data",
        has_wget: true,
        arguments: &["-storageDataPath=/victoria-logs-data"],
        ..BASE
    },
    ContainerImage {
        recipe: "alertmanager",
        name: "prom/alertmanager",
        tag_prefix: "v",
        port: 9093,
        data: "/alertmanager",
        config: &[("alertmanager.yml", "/etc/alertmanager/alertmanager.yml")],
        has_wget: true,
        ..BASE
    },
    ContainerImage {
        recipe: "pushgateway",
        name: "prom/pushgateway",
        tag_prefix: "v",
        port: 9091,
        data: "/data",
        has_wget: true,
        arguments: &["--persistence.file=/data/metrics"],
        ..BASE
    },
    ContainerImage {
        recipe: "ferretdb",
        name: "ghcr.io/ferretdb/ferretdb",
        usual_tag: "1",
        port: 27017,
        ports: &[("debug", 8088)],
        data: "/state",
        login: ["FERRETDB_SETUP_USERNAME", "FERRETDB_SETUP_PASSWORD", ""],
        environment: &[("FERRETDB_HANDLER", "sqlite"), ("FERRETDB_SQLITE_URL", "file:/state/")],
        ..BASE
    },
    ContainerImage { recipe: "apicurio", name: "apicurio/apicurio-registry-mem", usual_tag: "2.6.13.Final", port: 8080, ..BASE },
    ContainerImage { recipe: "tika", name: "apache/tika", port: 9998, ..BASE },
    ContainerImage { recipe: "mockserver", name: "mockserver/mockserver", port: 1080, ..BASE },
    ContainerImage {
        recipe: "questdb",
        name: "questdb/questdb",
        port: 9000,
        ports: &[("pg", 8812), ("line", 9009), ("health", 9003)],
        data: "/var/lib/questdb",
        login: ["QDB_PG_USER", "QDB_PG_PASSWORD", ""],
        ..BASE
    },
    ContainerImage {
        recipe: "flink",
        name: "flink",
        port: 8081,
        ports: &[("rpc", 6123), ("blob", 6124)],
        arguments: &["jobmanager"],
        environment: &[("JOB_MANAGER_RPC_ADDRESS", "{name}")],
        ..BASE
    },
    ContainerImage {
        recipe: "debezium_server",
        name: "quay.io/debezium/server",
        usual_tag: "2.7",
        port: 8080,
        data: "/debezium/data",
        config: &[("application.properties", "/debezium/conf/application.properties")],
        ..BASE
    },
    ContainerImage { recipe: "node_exporter", name: "prom/node-exporter", tag_prefix: "v", port: 9100, has_wget: true, ..BASE },
];

/// The recipe's name of a service, without a version.
pub(crate) fn recipe_of(service: &Table) -> Option<&str> {
    service.get("use")?.as_str()?.split('@').next()
}

/// The image of a service that uses a recipe.
pub(crate) fn image_of(service: &Table) -> Option<&'static ContainerImage> {
    let name = recipe_of(service)?;
    IMAGES.iter().find(|image| image.recipe == name)
}

impl ContainerImage {
    /// `postgres:16`: the version that the procfile asks for; where that is none, the one in use.
    pub(crate) fn reference(&self, asked: Option<&str>, in_use: Option<&str>) -> String {
        // `18.4-beta.1` of a catalogue is image 18.4.
        let in_use = in_use.map(|version| version.split(['-', '+']).next().unwrap_or(version));
        let version = match (asked, in_use) {
            // Tags with a prefix are those of full versions alone.
            (Some(asked), Some(used)) if !self.tag_prefix.is_empty() && used.starts_with(asked) => Some(used),
            (Some(asked), _) => Some(asked),
            (None, used) if !self.hides_versions() => used,
            _ => None,
        };
        match version {
            Some(version) if version.starts_with(|char: char| char.is_ascii_digit()) => {
                format!("{}:{}{version}", self.name, self.tag_prefix)
            }
            Some(version) => format!("{}:{version}", self.name),
            None => format!("{}:{}", self.name, self.usual_tag),
        }
    }
    /// Tags that are not made of the version that the program itself names.
    fn hides_versions(&self) -> bool {
        matches!(self.recipe, "minio" | "seaweedfs" | "adminer" | "kafka_connect")
    }
    /// Where its data lies: Postgres 18 moved it up, so that upgrades can link.
    pub(crate) fn data_of(&self, reference: &str) -> &'static str {
        let major: Option<u32> =
            reference.rsplit(':').next().and_then(|tag| tag.split(['.', '-']).next()).and_then(|major| major.parse().ok());
        if self.recipe == "postgres" && major.is_some_and(|major| major >= 18) { "/var/lib/postgresql" } else { self.data }
    }
    /// A port in the container.
    pub(crate) fn port_named(&self, name: &str) -> Option<u16> {
        if name == "main" {
            return Some(self.port);
        }
        self.ports.iter().find(|(known, _)| *known == name).map(|(_, port)| *port)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image(recipe: &str) -> &'static ContainerImage {
        IMAGES.iter().find(|image| image.recipe == recipe).expect("an image")
    }

    #[test]
    fn tags_are_those_of_the_versions_in_use() {
        for (recipe, asked, used, expected) in [
            ("postgres", Some("16"), Some("16.15"), "postgres:16"),
            ("postgres", None, Some("18.4"), "postgres:18.4"),
            ("prometheus", Some("2"), Some("2.53.1"), "prom/prometheus:v2.53.1"),
            ("prometheus", None, None, "prom/prometheus:latest"),
            ("qdrant", Some("1.9.0"), None, "qdrant/qdrant:v1.9.0"),
            ("minio", None, Some("0.0.0-20250907"), "minio/minio:latest"),
            ("redis", Some("7-alpine"), None, "redis:7-alpine"),
            // The version is another program's than the image's.
            ("adminer", None, Some("8.2.36"), "adminer:latest"),
            ("kafka_connect", None, Some("4.1.2"), "quay.io/debezium/connect:3.5"),
        ] {
            assert_eq!(image(recipe).reference(asked, used), expected);
        }
        assert_eq!(image("postgres").data_of("postgres:18.4"), "/var/lib/postgresql");
        assert_eq!(image("postgres").data_of("postgres:16"), "/var/lib/postgresql/data");
    }
}
