//! Which image is which recipe, and what the image's variables, folders and ports are there.

use super::image_tools::{KAFKA_CONNECT, KEYCLOAK, OPENSEARCH};
use super::known_image::Becomes::{Database, Login, Nothing, Password, RootPassword, Set, User};
use super::known_image::{Becomes, KnownImage, Settings, plain};
use super::{label_routes, stack_images};

const OWN_FOLDERS: Becomes = Nothing("devrun keeps the data in a volume of its own");
const OWN_LOGIN: Becomes = Nothing("logins from this machine always need the password");
const ALWAYS: Becomes = Nothing("devrun always sets a password");

const POSTGRES: KnownImage = KnownImage {
    env: &[
        ("POSTGRES_USER", User),
        ("POSTGRES_PASSWORD", Password),
        ("POSTGRES_DB", Database),
        ("POSTGRESQL_USERNAME", User),
        ("POSTGRESQL_PASSWORD", Password),
        ("POSTGRESQL_DATABASE", Database),
        ("POSTGRESQL_POSTGRES_PASSWORD", Nothing("the superuser needs none")),
        ("POSTGRES_HOST_AUTH_METHOD", OWN_LOGIN),
        ("PGDATA", OWN_FOLDERS),
        ("ALLOW_EMPTY_PASSWORD", ALWAYS),
    ],
    program: &["postgres", "docker-entrypoint.sh"],
    settings: Settings::Postgres,
    ..plain(
        "postgres",
        &[5432],
        &["/var/lib/postgresql/data", "/var/lib/postgresql", "/bitnami/postgresql", "/home/postgres/pgdata/data"],
    )
};
const REDIS: KnownImage = KnownImage {
    env: &[
        ("REDIS_PASSWORD", Password),
        ("ALLOW_EMPTY_PASSWORD", Nothing("no password is the recipe's default")),
        ("REDIS_ARGS", Nothing("its options stand in `password` and `set`")),
        ("REDIS_EXTRA_FLAGS", Nothing("its options stand in `password` and `set`")),
    ],
    program: &["redis-server", "redis-stack-server", "docker-entrypoint.sh"],
    settings: Settings::Redis,
    ..plain("redis", &[6379], &["/data", "/bitnami/redis/data", "/var/lib/redis"])
};
const VALKEY: KnownImage = KnownImage {
    recipe: "valkey",
    env: &[
        ("VALKEY_PASSWORD", Password),
        ("ALLOW_EMPTY_PASSWORD", Nothing("no password is the recipe's default")),
        ("VALKEY_EXTRA_FLAGS", Nothing("its options stand in `password` and `set`")),
    ],
    program: &["valkey-server", "docker-entrypoint.sh"],
    data: &["/data", "/bitnami/valkey/data"],
    ..REDIS
};
const MARIADB: KnownImage = KnownImage {
    env: &[
        ("MYSQL_USER", User),
        ("MYSQL_PASSWORD", Password),
        ("MYSQL_DATABASE", Database),
        ("MYSQL_ROOT_PASSWORD", RootPassword),
        ("MARIADB_USER", User),
        ("MARIADB_PASSWORD", Password),
        ("MARIADB_DATABASE", Database),
        ("MARIADB_ROOT_PASSWORD", RootPassword),
        ("MYSQL_ALLOW_EMPTY_PASSWORD", ALWAYS),
        ("MARIADB_ALLOW_EMPTY_PASSWORD", ALWAYS),
        ("MARIADB_ALLOW_EMPTY_ROOT_PASSWORD", ALWAYS),
        ("MYSQL_RANDOM_ROOT_PASSWORD", ALWAYS),
        ("MARIADB_RANDOM_ROOT_PASSWORD", ALWAYS),
        ("MYSQL_ROOT_HOST", OWN_LOGIN),
        ("MYSQL_HOST", OWN_LOGIN),
        ("MYSQL_PORT", Nothing("`port` says it")),
        ("MYSQL_TCP_PORT", Nothing("`port` says it")),
    ],
    program: &["mysqld", "mariadbd", "docker-entrypoint.sh"],
    settings: Settings::Mariadb,
    ..plain("mariadb", &[3306], &["/var/lib/mysql", "/bitnami/mariadb", "/bitnami/mysql/data"])
};
const MINIO: KnownImage = KnownImage {
    named: &[(9001, "console")],
    env: &[
        ("MINIO_ROOT_USER", User),
        ("MINIO_ROOT_PASSWORD", Password),
        ("MINIO_ACCESS_KEY", User),
        ("MINIO_SECRET_KEY", Password),
        ("MINIO_VOLUMES", OWN_FOLDERS),
        ("MINIO_ADDRESS", Nothing("`port` says it")),
        ("MINIO_CONSOLE_ADDRESS", Nothing("`ports.console` says it")),
    ],
    program: &["minio", "server"],
    ..plain("minio", &[9000], &["/data", "/export", "/minio_data", "/data/minio", "/bitnami/minio/data", "/mnt/data"])
};
const NEO4J: KnownImage = KnownImage {
    named: &[(7474, "http")],
    env: &[
        ("NEO4J_AUTH", Login),
        ("NEO4J_dbms_memory_heap_max__size", Set("heap")),
        ("NEO4J_server_memory_heap_max__size", Set("heap")),
        ("NEO4J_dbms_memory_heap_initial__size", Nothing("`set.heap` is both")),
        ("NEO4J_server_memory_heap_initial__size", Nothing("`set.heap` is both")),
        ("NEO4J_dbms_memory_pagecache_size", Set("pagecache")),
        ("NEO4J_server_memory_pagecache_size", Set("pagecache")),
        ("NEO4J_ACCEPT_LICENSE_AGREEMENT", Nothing("the recipe runs the community edition")),
    ],
    ..plain("neo4j", &[7687], &["/data"])
};
const QDRANT: KnownImage = KnownImage {
    named: &[(6334, "grpc")],
    env: &[
        ("QDRANT__SERVICE__API_KEY", Password),
        ("QDRANT__SERVICE__HTTP_PORT", Nothing("`port` says it")),
        ("QDRANT__SERVICE__GRPC_PORT", Nothing("`ports.grpc` says it")),
        ("QDRANT__SERVICE__HOST", Nothing("`bind` says it")),
    ],
    ..plain("qdrant", &[6333], &["/qdrant/storage"])
};
const GRAFANA: KnownImage = KnownImage {
    env: &[
        ("GF_SECURITY_ADMIN_USER", User),
        ("GF_SECURITY_ADMIN_PASSWORD", Password),
        ("GF_PATHS_DATA", OWN_FOLDERS),
        ("GF_SERVER_HTTP_PORT", Nothing("`port` says it")),
    ],
    ..plain("grafana", &[3000], &["/var/lib/grafana"])
};
const OLLAMA: KnownImage = KnownImage {
    env: &[("OLLAMA_HOST", Nothing("`bind` and `port` say it")), ("OLLAMA_MODELS", OWN_FOLDERS)],
    program: &["ollama", "serve"],
    ..plain("ollama", &[11434], &["/root/.ollama", "/ollama"])
};
const MEILISEARCH: KnownImage = KnownImage {
    env: &[
        ("MEILI_MASTER_KEY", Password),
        ("MEILI_HTTP_ADDR", Nothing("`port` says it")),
        ("MEILI_DB_PATH", OWN_FOLDERS),
        ("MEILI_NO_ANALYTICS", Nothing("the recipe sends none")),
        ("MEILI_ENV", Nothing("the recipe runs it for development")),
    ],
    ..plain("meilisearch", &[7700], &["/meili_data", "/data.ms"])
};
const RABBITMQ: KnownImage = KnownImage {
    env: &[
        ("RABBITMQ_DEFAULT_USER", User),
        ("RABBITMQ_DEFAULT_PASS", Password),
        ("RABBITMQ_USERNAME", User),
        ("RABBITMQ_PASSWORD", Password),
        ("RABBITMQ_DEFAULT_VHOST", Database),
        ("RABBITMQ_VHOST", Database),
        ("RABBITMQ_ERLANG_COOKIE", Nothing("one node needs none")),
    ],
    named: &[(4369, "epmd"), (25672, "dist")],
    ..plain("rabbitmq", &[5672], &["/var/lib/rabbitmq", "/var/lib/rabbitmq/mnesia", "/bitnami/rabbitmq/mnesia"])
};
const PROMETHEUS: KnownImage = KnownImage {
    config: &[("/etc/prometheus/prometheus.yml", "prometheus.yml"), ("/prometheus.yml", "prometheus.yml")],
    ..plain("prometheus", &[9090], &["/prometheus"])
};
const NGINX: KnownImage =
    KnownImage { config: &[("/etc/nginx/nginx.conf", "nginx.conf")], program: &["nginx"], ..plain("nginx", &[80, 8080], &[]) };
const CADDY: KnownImage = KnownImage {
    config: &[("/etc/caddy/Caddyfile", "Caddyfile"), ("/etc/Caddyfile", "Caddyfile")],
    program: &["caddy"],
    ..plain("caddy", &[80, 8080], &["/data", "/config"])
};
const MAILPIT: KnownImage = KnownImage {
    named: &[(8025, "http")],
    env: &[("MP_DATABASE", OWN_FOLDERS), ("MP_SMTP_BIND_ADDR", Nothing("`port` says it"))],
    ..plain("mailpit", &[1025], &["/data"])
};

const ETCD: KnownImage = KnownImage {
    named: &[(2380, "peer")],
    program: &["etcd"],
    ..plain(
        "etcd",
        &[2379],
        &["/etcd-data", "/etcd_data", "/default.etcd", "/var/lib/etcd", "/bitnami/etcd", "/bitnami/etcd/data", "/etcd"],
    )
};
const ZOOKEEPER: KnownImage = KnownImage {
    named: &[(2180, "admin")],
    program: &["zkServer.sh"],
    ..plain(
        "zookeeper",
        &[2181, 22181, 32181],
        &[
            "/data",
            "/datalog",
            "/bitnami/zookeeper",
            "/var/lib/zookeeper/data",
            "/var/lib/zookeeper/log",
            "/opt/zookeeper-3.4.13/data",
        ],
    )
};
const KAFKA: KnownImage = KnownImage {
    named: &[(9093, "controller")],
    program: &["kafka-server-start.sh", "run", "run.sh"],
    ..plain("kafka", &[9092], &["/var/lib/kafka/data", "/bitnami/kafka", "/kafka", "/tmp/kraft-combined-logs", "/opt/kafka/data"])
};
const AZURITE: KnownImage = KnownImage {
    named: &[(10001, "queue"), (10002, "table")],
    env: &[("AZURITE_ACCOUNTS", Becomes::Account)],
    program: &["azurite"],
    ..plain("azurite", &[10000], &["/data", "/workspace"])
};
const CHROMA: KnownImage = KnownImage {
    env: &[("ALLOW_RESET", Set("allow_reset")), ("CHROMA_ALLOW_RESET", Set("allow_reset")), ("PERSIST_DIRECTORY", OWN_FOLDERS)],
    ..plain("chroma", &[8000], &["/chroma/chroma", "/data", "/chroma/.chroma/index", "/chroma"])
};
const FERRETDB: KnownImage = KnownImage {
    named: &[(8088, "debug")],
    env: &[
        ("MONGO_INITDB_ROOT_USERNAME", User),
        ("MONGO_INITDB_ROOT_PASSWORD", Password),
        ("MONGODB_ROOT_USER", User),
        ("MONGODB_ROOT_PASSWORD", Password),
        ("MONGODB_INITDB_ROOT_USERNAME", User),
        ("MONGODB_INITDB_ROOT_PASSWORD", Password),
        ("MONGO_INITDB_DATABASE", Nothing("a database exists once something is written to it")),
        ("MONGODB_DATABASE", Nothing("a database exists once something is written to it")),
    ],
    program: &["mongod", "docker-entrypoint.sh"],
    ..plain("ferretdb", &[27017], &["/data/db", "/bitnami/mongodb", "/data", "/state", "/bitnami/mongodb/data/db"])
};
const ALERTMANAGER: KnownImage = KnownImage {
    config: &[
        ("/etc/alertmanager/alertmanager.yml", "alertmanager.yml"),
        ("/etc/alertmanager/config.yml", "alertmanager.yml"),
        ("/alertmanager.yml", "alertmanager.yml"),
    ],
    program: &["alertmanager"],
    ..plain("alertmanager", &[9093], &["/alertmanager", "/data", "/etc/alertmanager/data"])
};
const VICTORIALOGS: KnownImage =
    KnownImage { program: &["victoria-logs"], ..plain("victorialogs", &[9428], &["/vlogs", "/victoria-logs-data"]) };
const ADMINER: KnownImage = KnownImage {
    env: &[
        ("ADMINER_DEFAULT_SERVER", Becomes::SetHost("server")),
        ("ADMINER_DEFAULT_DRIVER", Set("driver")),
        ("PMA_HOST", Becomes::SetHost("server")),
        ("UPLOAD_LIMIT", Set("upload")),
        ("MEMORY_LIMIT", Set("memory")),
    ],
    ..plain("adminer", &[8080, 80, 8081, 5050], &["/var/lib/pgadmin", "/sessions"])
};
const CATCHER: KnownImage = KnownImage {
    named: &[(1080, "http"), (80, "http"), (9000, "http")],
    ..plain("mailpit", &[1025, 25, 2500, 3025], &["/data", "/smtp4dev"])
};
const TELEMETRY: KnownImage = plain("telemetry", &[4318], &[]);
/// The recipe asks for the extension where the catalogue has it.
pub(crate) const PGVECTOR: &str = "pgvector must be installed with it: extensions = [\"vector\"]";
const OF_CONFLUENT: &str =
    "the server itself takes the place of Confluent's image, which has versions and a start script of its own";
const INSTEAD: &str = "Adminer takes its place: other pages, which ask for the database's own login";

/// The recipe for an image, by the name without registry and tag, and what is different about it.
pub(crate) fn known(name: &str) -> Option<(KnownImage, Option<&'static str>)> {
    // Mirrors of registries keep the official images below `library`.
    let name = name.rsplit_once("library/").filter(|(_, rest)| !rest.contains('/')).map_or(name, |(_, rest)| rest);
    by_name(name).or_else(|| by_last_word(name))
}

/// An image that says in its name which server it is: `acme/shop-postgres`, `bitnamisecure/redis`, `example-mysql`.
fn by_last_word(name: &str) -> Option<(KnownImage, Option<&'static str>)> {
    const OTHERS: &[&str] = &[
        "backup", "wait", "init", "migrat", "exporter", "client", "admin", "connect", "operator", "proxy", "seed", "test",
        "sentinel", "flink", "spark",
    ];
    let last = name.rsplit('/').next()?;
    if OTHERS.iter().any(|other| last.contains(other)) {
        return None;
    }
    let word = last.rsplit(['-', '_']).next()?;
    let server = match word {
        "postgres" | "postgresql" | "redis" | "valkey" | "mysql" | "mariadb" | "rabbitmq" | "memcached" | "mongo" | "etcd"
        | "zookeeper" => word,
        "kafka" => "apache/kafka",
        "mongodb" => "mongo",
        _ => return None,
    };
    let server = if server == "postgresql" { "postgres" } else { server };
    let server = if server == "valkey" { "valkey/valkey" } else { server };
    by_name(server).map(|(known, _)| {
        (
            known,
            Some("taken for the server that its name says: what the image adds (data, extensions, settings) does not come along"),
        )
    })
}

fn by_name(name: &str) -> Option<(KnownImage, Option<&'static str>)> {
    let found = match name {
        "postgres" | "debezium/postgres" | "bitnami/postgresql" | "bitnamilegacy/postgresql" | "chainguard/postgres" => {
            (POSTGRES, None)
        }
        "postgis/postgis" | "imresamu/postgis" | "kartoza/postgis" | "mdillon/postgis" => {
            (POSTGRES, Some("PostGIS must be installed with it: extensions = [\"postgis\"]"))
        }
        "typeorm/docker:postgres" => {
            (POSTGRES, Some("PostGIS and pgvector must be installed with it: extensions = [\"postgis\", \"vector\"]"))
        }
        "pgvector/pgvector" | "ankane/pgvector" => (POSTGRES, Some(PGVECTOR)),
        "timescale/timescaledb" | "timescale/timescaledb-ha" => (
            POSTGRES,
            Some("TimescaleDB must be installed with it and preloaded: set = { shared_preload_libraries = \"timescaledb\" }"),
        ),
        "redis" | "bitnami/redis" | "bitnamilegacy/redis" | "chainguard/redis" => (REDIS, None),
        "redis/redis-stack" | "redis/redis-stack-server" | "redislabs/rejson" | "redislabs/redismod" => {
            (REDIS, Some("the modules of that image do not come along"))
        }
        "valkey/valkey" | "bitnami/valkey" => (VALKEY, None),
        "microsoft/garnet" | "microsoft/garnet-alpine" | "dragonflydb/dragonfly" | "eqalpha/keydb" | "snapchat/keydb" => {
            (VALKEY, Some("Valkey takes its place: the same protocol, without settings of its own"))
        }
        "mariadb" | "bitnami/mariadb" | "linuxserver/mariadb" => (MARIADB, None),
        "mysql" | "mysql/mysql-server" | "percona" | "bitnami/mysql" => {
            (MARIADB, Some("MariaDB takes MySQL's place: the protocol is the same, some of the SQL and the JSON type are not"))
        }
        "minio/minio" | "bitnami/minio" | "chainguard/minio" => (MINIO, None),
        "neo4j" => (NEO4J, None),
        "qdrant/qdrant" => (QDRANT, None),
        "ollama/ollama" => (OLLAMA, None),
        "getmeili/meilisearch" => (MEILISEARCH, None),
        "prom/prometheus" | "prometheus/prometheus" | "bitnami/prometheus" => (PROMETHEUS, None),
        "confluentinc/cp-enterprise-prometheus" => (PROMETHEUS, Some(OF_CONFLUENT)),
        "grafana/grafana" | "grafana/grafana-oss" | "grafana/grafana-enterprise" => (GRAFANA, None),
        "grafana/loki" => (
            KnownImage {
                config: &[("/etc/loki/local-config.yaml", "loki.yml"), ("/etc/loki/config.yml", "loki.yml")],
                ..plain("loki", &[3100], &["/loki"])
            },
            None,
        ),
        "grafana/promtail" => {
            (plain("promtail", &[9080], &[]), Some("Docker's log directory does not exist: the recipe reads devrun's own logs"))
        }
        "caddy" => (CADDY, None),
        "nginx" | "nginxinc/nginx-unprivileged" | "bitnami/nginx" => (NGINX, None),
        "rabbitmq" | "bitnami/rabbitmq" => (RABBITMQ, None),
        "memcached" | "bitnami/memcached" => (plain("memcached", &[11211], &[]), None),
        "nats" => (
            KnownImage {
                program: &["nats-server"],
                named: &[(8222, "http")],
                ..plain("nats", &[4222], &["/data", "/data/jetstream"])
            },
            None,
        ),
        "axllent/mailpit" => (MAILPIT, None),
        "maildev/maildev"
        | "djfarrelly/maildev"
        | "schickling/mailcatcher"
        | "dockage/mailcatcher"
        | "sj26/mailcatcher"
        | "rnwood/smtp4dev"
        | "greenmail/standalone"
        | "inbucket/inbucket" => (CATCHER, Some("Mailpit takes its place: it catches mail and shows it; another API")),
        "otel/opentelemetry-collector"
        | "otel/opentelemetry-collector-contrib"
        | "jaegertracing/all-in-one"
        | "jaegertracing/jaeger" => (
            TELEMETRY,
            Some(
                "devrun's own receiver of OTLP over HTTP takes its place: traces and logs are on the dashboard's timeline, without its pages, its gRPC port and its pipelines",
            ),
        ),
        "gessnerfl/fake-smtp-server" => (
            KnownImage { named: &[(8080, "http")], ..plain("mailpit", &[8025, 5025], &[]) },
            Some("Mailpit takes its place: it catches mail and shows it; another API"),
        ),
        "mailhog/mailhog" | "richarvey/mailhog" | "jcalonso/mailhog" => {
            (MAILPIT, Some("Mailpit takes MailHog's place: the same two ports, another API"))
        }
        "chrislusf/seaweedfs" => {
            (KnownImage { named: &[(9333, "master"), (8888, "filer")], ..plain("seaweedfs", &[8333], &["/data"]) }, None)
        }
        "coreos/etcd" | "bitnami/etcd" | "bitnamilegacy/etcd" | "etcd-development/etcd" | "etcd" => (ETCD, None),
        "zookeeper" | "bitnami/zookeeper" | "bitnamilegacy/zookeeper" | "wurstmeister/zookeeper" | "zookeeper/zookeeper" => {
            (ZOOKEEPER, None)
        }
        "confluentinc/cp-zookeeper" | "debezium/zookeeper" => {
            (ZOOKEEPER, Some("ZooKeeper 3 itself takes its place: the tags of that image are versions of its vendor's"))
        }
        "apache/kafka"
        | "apache/kafka-native"
        | "bitnami/kafka"
        | "bitnamilegacy/kafka"
        | "confluentinc/cp-kafka"
        | "confluentinc/cp-server"
        | "confluentinc/confluent-local"
        | "wurstmeister/kafka"
        | "debezium/kafka"
        | "strimzi/kafka"
        | "lensesio/fast-data-dev"
        | "obsidiandynamics/kafka" => {
            (KAFKA, Some("Kafka 4 with KRaft, one node: it needs no ZooKeeper, and clients older than 2.1 cannot talk to it"))
        }
        "debezium/connect" | "debezium/connect-base" => {
            (KAFKA_CONNECT, Some("Kafka Connect 4 with Debezium 3: what the image holds beyond that does not come along"))
        }
        "confluentinc/cp-kafka-connect"
        | "confluentinc/cp-kafka-connect-base"
        | "confluentinc/cp-server-connect"
        | "confluentinc/cp-server-connect-base"
        | "cnfldemos/cp-server-connect-datagen"
        | "cnfldemos/kafka-connect-datagen"
        | "landoop/kafka-connect" => (
            KAFKA_CONNECT,
            Some(
                "Apache's Kafka Connect 4 with Debezium's connectors takes its place: connectors of the image do not come along, and \
                 converters that need a schema registry neither",
            ),
        ),
        "elasticsearch" | "elasticsearch/elasticsearch" | "elasticsearch/elasticsearch-oss" | "bitnami/elasticsearch" => (
            OPENSEARCH,
            Some(
                "OpenSearch 2 takes Elasticsearch's place: the interface of Elasticsearch 7, without a login; Elastic's own clients \
                 from 7.14 on and Kibana refuse it",
            ),
        ),
        "opensearchproject/opensearch" | "opensearch" | "bitnami/opensearch" => {
            (OPENSEARCH, Some("without its plugins: no login, no TLS"))
        }
        "keycloak/keycloak" | "bitnami/keycloak" | "jboss/keycloak" | "keycloak" => (KEYCLOAK, None),
        "vectorized/redpanda" | "redpandadata/redpanda" => (
            KAFKA,
            Some("Kafka 4 takes Redpanda's place: the same protocol, without its schema registry, HTTP proxy and admin API"),
        ),
        "azure-storage/azurite" | "arafato/azurite" => (AZURITE, None),
        "chromadb/chroma" | "chroma-core/chroma" => (CHROMA, None),
        "mongo"
        | "mongodb/mongodb-community-server"
        | "bitnami/mongodb"
        | "bitnamilegacy/mongodb"
        | "percona/percona-server-mongodb" => (
            FERRETDB,
            Some(
                "FerretDB takes MongoDB's place: the protocol is the same; replica sets, transactions, change streams and parts of \
                 the aggregation are not there",
            ),
        ),
        "ferretdb/ferretdb" | "ferretdb/all-in-one" | "ferretdb/ferretdb-eval" => (FERRETDB, None),
        "prom/alertmanager" | "prometheus/alertmanager" | "bitnami/alertmanager" => (ALERTMANAGER, None),
        "confluentinc/cp-enterprise-alertmanager" => (ALERTMANAGER, Some(OF_CONFLUENT)),
        "victoriametrics/victoria-logs" => (VICTORIALOGS, None),
        "adminer" | "michalhosna/adminer" | "clearlinux/adminer" => (ADMINER, None),
        "phpmyadmin"
        | "phpmyadmin/phpmyadmin"
        | "bitnami/phpmyadmin"
        | "dpage/pgadmin4"
        | "sosedoff/pgweb"
        | "cytopia/adminer" => (ADMINER, Some(INSTEAD)),
        "prom/pushgateway" | "prometheus/pushgateway" => (plain("pushgateway", &[9091], &["/data", "/pushgateway"]), None),
        "paradedb/paradedb" => (POSTGRES, Some("pg_search and pg_analytics of that image do not come along")),
        "debezium/example-mysql-master" => {
            (MARIADB, Some("MariaDB takes MySQL's place, without the image's data, replication and binary log"))
        }
        "prom/blackbox-exporter" | "prometheus/blackbox-exporter" => (plain("blackbox_exporter", &[9115], &[]), None),
        "prom/node-exporter" | "prometheus/node-exporter" => (plain("node_exporter", &[9100], &[]), None),
        _ => return stack_images::known(name).or_else(|| label_routes::known(name)),
    };
    Some(found)
}

/// Whether the image's tag is a version that its recipe can be asked for: of another server's image it says nothing, nor where
/// a vendor numbers its images by itself, or where the recipe's sources begin at a later version.
pub(crate) fn has_recipes_version(known: &KnownImage, name: &str, version: &str) -> bool {
    // An image that only sounds like the server's counts its versions as it likes.
    let major: u32 = version.split('.').next().and_then(|major| major.parse().ok()).unwrap_or(0);
    let is_likely = match known.recipe {
        "postgres" => (9..30).contains(&major),
        "redis" => (3..20).contains(&major),
        _ => false,
    };
    let plain = name.rsplit_once("library/").map_or(name, |(_, rest)| rest);
    if by_name(plain).is_none() && !is_likely {
        return false;
    }
    match known.recipe {
        "mariadb" => name.contains("mariadb"),
        "zookeeper" => !name.contains("cp-") && !name.contains("debezium"),
        "prometheus" => !name.contains("confluentinc"),
        "mailpit" => name.contains("mailpit"),
        "valkey" => name.contains("valkey"),
        "gateway" | "telemetry" | "kafka" | "kafka_connect" | "opensearch" | "keycloak" | "pushgateway" | "chroma"
        | "ferretdb" | "adminer" | "azurite" | "alertmanager" | "victorialogs" | "flink" | "flink_taskmanager" | "apicurio"
        | "tika" | "mockserver" | "questdb" | "debezium_server" | "pgbouncer" | "toxiproxy" | "n8n" | "changedetection"
        | "moto" | "kiwix" | "archivebox" | "wordpress" => false,
        _ => true,
    }
}

/// Images that are but a language or a bare system: their command is the user's own program.
pub(crate) fn is_runtime(name: &str) -> bool {
    let last = name.rsplit('/').next().unwrap_or(name);
    matches!(
        last,
        "node"
            | "python"
            | "ruby"
            | "golang"
            | "rust"
            | "php"
            | "openjdk"
            | "eclipse-temurin"
            | "amazoncorretto"
            | "maven"
            | "gradle"
            | "alpine"
            | "debian"
            | "ubuntu"
            | "busybox"
            | "bash"
            | "bun"
            | "deno"
            | "elixir"
            | "erlang"
            | "perl"
            | "sdk"
            | "aspnet"
            | "uv"
            | "composer"
            | "curl"
            | "devcontainers"
            | "mc"
    )
}
