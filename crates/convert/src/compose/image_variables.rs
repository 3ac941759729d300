//! Variables of an image that are neither a login nor a folder: those that the server itself reads, those that become a setting,
//! and those that only the image's start script knows.

/// What a variable is natively.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Meaning {
    /// The server, or every program, reads it.
    Read,
    /// A setting of the recipe.
    Set(String, String),
    /// Settings, one on each line of the variable.
    Lines(Vec<(String, String)>),
    /// Buckets to make.
    Buckets,
    /// Nothing is lost.
    Dropped(&'static str),
    /// It is lost.
    Unknown,
}

/// What every program reads.
fn is_general(name: &str) -> bool {
    matches!(
        name,
        "TZ" | "LANG"
            | "LANGUAGE"
            | "HOME"
            | "JAVA_OPTS"
            | "JAVA_TOOL_OPTIONS"
            | "GOMAXPROCS"
            | "GOMEMLIMIT"
            | "NO_COLOR"
            | "HTTP_PROXY"
            | "HTTPS_PROXY"
            | "NO_PROXY"
    ) || name.starts_with("LC_")
        || name.starts_with("OTEL_")
}

fn truth(value: &str) -> bool {
    matches!(value.to_ascii_lowercase().as_str(), "yes" | "true" | "1" | "on")
}

pub(super) fn meaning(recipe: &str, name: &str, value: &str) -> Meaning {
    if is_general(name) {
        return Meaning::Read;
    }
    let set = |key: &str| Meaning::Set(key.to_owned(), value.to_owned());
    let read = |prefix: &str| name.starts_with(prefix).then_some(Meaning::Read);
    match recipe {
        "postgres" => match name {
            "POSTGRESQL_MAX_CONNECTIONS" => set("max_connections"),
            "POSTGRESQL_SHARED_PRELOAD_LIBRARIES" => set("shared_preload_libraries"),
            "POSTGRESQL_TIMEZONE" => set("timezone"),
            "POSTGRESQL_PORT_NUMBER" | "POSTGRES_PORT" | "PGPORT" => Meaning::Dropped("`port` says it"),
            "PGUSER" | "PGPASSWORD" | "PGDATABASE" | "PGHOST" => {
                Meaning::Dropped("clients get `url`; the server does not read it")
            }
            _ => Meaning::Unknown,
        },
        "redis" | "valkey" => match name {
            "REDIS_AOF_ENABLED" | "VALKEY_AOF_ENABLED" => {
                Meaning::Set("appendonly".to_owned(), if truth(value) { "yes" } else { "no" }.to_owned())
            }
            "REDIS_MAXMEMORY" => set("maxmemory"),
            "REDIS_MAXMEMORY_POLICY" => set("maxmemory-policy"),
            "REDIS_PORT" | "REDIS_PORT_NUMBER" | "VALKEY_PORT_NUMBER" => Meaning::Dropped("`port` says it"),
            "REDIS_REPLICATION_MODE" if value.is_empty() || value == "master" => Meaning::Dropped("it is the only one"),
            _ => Meaning::Unknown,
        },
        "mariadb" => match name {
            "MYSQL_CHARSET" | "MYSQL_CHARACTER_SET" | "MARIADB_CHARACTER_SET" => set("character_set_server"),
            "MYSQL_COLLATION" | "MYSQL_COLLATE" | "MARIADB_COLLATE" => set("collation_server"),
            "MYSQL_SQL_MODE" => set("sql_mode"),
            "MARIADB_AUTO_UPGRADE"
            | "MARIADB_DISABLE_UPGRADE_BACKUP"
            | "MYSQL_INITDB_SKIP_TZINFO"
            | "MARIADB_INITDB_SKIP_TZINFO" => Meaning::Dropped("data of an older version is refused with the reason"),
            _ => Meaning::Unknown,
        },
        "minio" => match name {
            "MINIO_DEFAULT_BUCKETS" => Meaning::Buckets,
            "MINIO_BROWSER" | "MINIO_CALLHOME_ENABLE" => Meaning::Dropped("the recipe sets it"),
            "MINIO_FORCE_NEW_KEYS" | "MINIO_SCHEME" | "MINIO_SKIP_CLIENT" => Meaning::Unknown,
            _ => read("MINIO_").unwrap_or(Meaning::Unknown),
        },
        // The image turns them into lines of neo4j.conf; the recipe takes two settings of memory.
        "neo4j" => Meaning::Unknown,
        "grafana" => match name {
            "GF_INSTALL_PLUGINS" | "GF_PLUGINS_PREINSTALL" => Meaning::Unknown,
            "GF_PATHS_PROVISIONING" | "GF_PATHS_LOGS" | "GF_PATHS_PLUGINS" => Meaning::Dropped("the recipe sets it"),
            _ => read("GF_").unwrap_or(Meaning::Unknown),
        },
        "qdrant" => read("QDRANT__").or_else(|| read("RUN_MODE")).unwrap_or(Meaning::Unknown),
        "ollama" => read("OLLAMA_")
            .or_else(|| read("CUDA_"))
            .or_else(|| read("NVIDIA_"))
            .or_else(|| read("HSA_"))
            .unwrap_or(Meaning::Unknown),
        "meilisearch" => read("MEILI_").unwrap_or(Meaning::Unknown),
        "mailpit" => read("MP_").unwrap_or(Meaning::Unknown),
        "rabbitmq" => match name {
            "RABBITMQ_PLUGINS" => Meaning::Unknown,
            "RABBITMQ_NODE_NAME" | "RABBITMQ_NODENAME" | "RABBITMQ_USE_LONGNAME" => Meaning::Dropped("the recipe names its node"),
            _ => read("RABBITMQ_").or_else(|| read("ERL_")).unwrap_or(Meaning::Unknown),
        },
        "kafka" => kafka(name, value),
        "kafka_connect" => kafka_connect(name, value),
        "opensearch" => match name {
            "ES_JAVA_OPTS" | "OPENSEARCH_JAVA_OPTS" | "ELASTICSEARCH_HEAP_SIZE" => {
                let heap = value.split_whitespace().find_map(|word| word.strip_prefix("-Xmx"));
                heap.map_or(Meaning::Unknown, |heap| Meaning::Set("heap".to_owned(), heap.to_owned()))
            }
            "discovery.type"
            | "node.name"
            | "discovery.seed_hosts"
            | "cluster.initial_master_nodes"
            | "network.host"
            | "http.host"
            | "cluster.initial_cluster_manager_nodes"
            | "node.master"
            | "node.data"
            | "discovery.zen.ping.unicast.hosts"
            | "discovery.zen.minimum_master_nodes"
            | "transport.host" => Meaning::Dropped("it is the only node, on `bind` and `port`"),
            "bootstrap.memory_lock" => Meaning::Dropped("memory is not locked"),
            "path.data" | "path.logs" => Meaning::Dropped("devrun keeps the data in a volume of its own"),
            "plugins.security.disabled" | "DISABLE_SECURITY_PLUGIN" | "DISABLE_INSTALL_DEMO_CONFIG" if truth(value) => {
                Meaning::Dropped("the recipe has no such plugin")
            }
            _ if name.starts_with("xpack.") && !truth(value) => Meaning::Dropped("OpenSearch does not have it"),
            _ if name.starts_with("xpack.") || name.starts_with("plugins.") || name.starts_with("ingest.geoip") => {
                Meaning::Unknown
            }
            _ if name.contains('.') => set(name),
            _ => Meaning::Unknown,
        },
        "keycloak" => match name {
            "DB_VENDOR" | "DB_ADDR" | "DB_USER" | "DB_PASSWORD" | "DB_DATABASE" | "DB_SCHEMA" | "DB_PORT" => Meaning::Unknown,
            "PROXY_ADDRESS_FORWARDING" => Meaning::Dropped("set KC_PROXY_HEADERS for a proxy in front of it"),
            _ => read("KC_").or_else(|| read("JAVA_")).or_else(|| read("QUARKUS_")).unwrap_or(Meaning::Unknown),
        },
        "zookeeper" => match name.trim_start_matches("ZOOKEEPER_").trim_start_matches("ZOO_") {
            "TICK_TIME" => set("tick_time"),
            "MAX_CLIENT_CNXNS" => set("max_client_connections"),
            "AUTOPURGE_PURGEINTERVAL" | "AUTOPURGE_PURGE_INTERVAL" => set("purge_interval"),
            "AUTOPURGE_SNAPRETAINCOUNT" | "AUTOPURGE_SNAP_RETAIN_COUNT" => set("snapshots_kept"),
            "MY_ID" | "SERVER_ID" | "SERVERS" | "STANDALONE_ENABLED" | "INIT_LIMIT" | "SYNC_LIMIT" => {
                Meaning::Dropped("it is the only one")
            }
            "CLIENT_PORT" | "PORT" | "PORT_NUMBER" => Meaning::Dropped("`port` says it"),
            "4LW_COMMANDS_WHITELIST" => Meaning::Dropped("the recipe answers all of them"),
            "ADMINSERVER_ENABLED" | "ADMIN_ENABLE_SERVER" => Meaning::Dropped("the recipe asks it whether it is ready"),
            "ALLOW_ANONYMOUS_LOGIN" if truth(value) => Meaning::Dropped("no login is the recipe's default"),
            _ => Meaning::Unknown,
        },
        "etcd" => match name.strip_prefix("ETCD_") {
            Some("AUTO_COMPACTION_RETENTION") => set("auto_compaction_retention"),
            Some("QUOTA_BACKEND_BYTES") => set("quota_backend_bytes"),
            Some("MAX_REQUEST_BYTES") => set("max_request_bytes"),
            Some("SNAPSHOT_COUNT") => set("snapshot_count"),
            // A variable that an option of the command line says too ends the server.
            Some("NAME" | "DATA_DIR" | "LOGGER" | "LOG_OUTPUTS" | "ENABLE_V2") => Meaning::Dropped("the recipe says it"),
            Some(rest) if ["LISTEN_", "ADVERTISE_", "INITIAL_"].iter().any(|start| rest.starts_with(start)) => {
                Meaning::Dropped("`bind` and `port` say it; it is the only one")
            }
            Some("ROOT_PASSWORD") => Meaning::Unknown,
            Some(_) => Meaning::Read,
            None if name == "ALLOW_NONE_AUTHENTICATION" && truth(value) => Meaning::Dropped("no login is the recipe's default"),
            None => Meaning::Unknown,
        },
        "adminer" => match name {
            "ADMINER_DESIGN" | "ADMINER_PLUGINS" => Meaning::Unknown,
            "PMA_PORT"
            | "PMA_USER"
            | "PMA_PASSWORD"
            | "PMA_ARBITRARY"
            | "MYSQL_ROOT_PASSWORD"
            | "MYSQL_USER"
            | "MYSQL_PASSWORD" => Meaning::Dropped("its page asks for the database's login"),
            _ if name.starts_with("PGADMIN_") => Meaning::Dropped("its page has no login of its own: it asks for the database's"),
            _ => Meaning::Unknown,
        },
        "chroma" => match name {
            "IS_PERSISTENT" | "ANONYMIZED_TELEMETRY" => {
                Meaning::Dropped("the recipe keeps its data, and this version sends nothing")
            }
            "CHROMA_SERVER_HOST" | "CHROMA_SERVER_HTTP_PORT" | "CHROMA_PORT" => Meaning::Dropped("`bind` and `port` say it"),
            _ => Meaning::Unknown,
        },
        // What the configuration names is filled in there.
        "nginx" | "caddy" => Meaning::Read,
        // Both take paths as options alone: a variable that holds one is for the start script of a vendor's image.
        "prometheus" | "alertmanager" if value.starts_with('/') => Meaning::Unknown,
        _ => Meaning::Read,
    }
}

/// `KAFKA_LOG_RETENTION_HOURS`, in another image `KAFKA_CFG_LOG_RETENTION_HOURS`, is the broker's `log.retention.hours`.
fn kafka(name: &str, value: &str) -> Meaning {
    if matches!(name, "CLUSTER_ID" | "KAFKA_CLUSTER_ID" | "KAFKA_KRAFT_CLUSTER_ID" | "KAFKA_ENABLE_KRAFT") {
        return Meaning::Dropped("the recipe formats its data by itself");
    }
    if matches!(name, "ALLOW_PLAINTEXT_LISTENER" | "ALLOW_ANONYMOUS_LOGIN") {
        return Meaning::Dropped("no login is the recipe's default");
    }
    if name == "KAFKA_HEAP_OPTS" {
        let heap = value.split_whitespace().find_map(|word| word.strip_prefix("-Xmx"));
        return heap.map_or(Meaning::Unknown, |heap| Meaning::Set("heap".to_owned(), heap.to_owned()));
    }
    let Some(setting) = name.strip_prefix("KAFKA_CFG_").or_else(|| name.strip_prefix("KAFKA_")) else { return Meaning::Unknown };
    match setting {
        "LISTENERS"
        | "ADVERTISED_LISTENERS"
        | "LISTENER_SECURITY_PROTOCOL_MAP"
        | "INTER_BROKER_LISTENER_NAME"
        | "PORT"
        | "SECURITY_INTER_BROKER_PROTOCOL"
        | "ADVERTISED_HOST_NAME"
        | "ADVERTISED_PORT"
        | "HOST_NAME" => Meaning::Dropped("one listener, on `bind` and `port`"),
        "BROKER_ID"
        | "NODE_ID"
        | "PROCESS_ROLES"
        | "CONTROLLER_QUORUM_VOTERS"
        | "CONTROLLER_LISTENER_NAMES"
        | "CONTROLLER_QUORUM_BOOTSTRAP_SERVERS"
        | "BROKER_RACK" => Meaning::Dropped("it is the only node"),
        "LOG_DIRS" | "LOG_DIR" => Meaning::Dropped("devrun keeps the data in a volume of its own"),
        "OFFSETS_TOPIC_REPLICATION_FACTOR"
        | "TRANSACTION_STATE_LOG_REPLICATION_FACTOR"
        | "TRANSACTION_STATE_LOG_MIN_ISR"
        | "SHARE_COORDINATOR_STATE_TOPIC_REPLICATION_FACTOR"
        | "SHARE_COORDINATOR_STATE_TOPIC_MIN_ISR"
        | "DEFAULT_REPLICATION_FACTOR"
        | "MIN_INSYNC_REPLICAS" => Meaning::Dropped("one copy, as it is the only node"),
        _ if setting.starts_with("ZOOKEEPER_")
            || setting == "LOG_MESSAGE_FORMAT_VERSION"
            || setting == "INTER_BROKER_PROTOCOL_VERSION" =>
        {
            Meaning::Dropped("Kafka 4 has no such setting: it keeps its metadata itself")
        }
        _ if setting.starts_with("CONFLUENT_") || setting.starts_with("LOG4J_") || setting == "METRIC_REPORTERS" => {
            Meaning::Dropped("of the image, not of the broker")
        }
        "CREATE_TOPICS" | "OPTS" => Meaning::Unknown,
        _ if [
            "SASL_",
            "SSL_",
            "CLIENT_",
            "JMX_",
            "LISTENER_NAME_",
            "INTER_BROKER_",
            "CONTROLLER_",
            "TLS_",
            "SUPER_",
            "AUTHORIZER_",
        ]
        .iter()
        .any(|start| setting.starts_with(start)) =>
        {
            Meaning::Unknown
        }
        _ if setting.contains('_') => {
            // Two underscores are a dash's and three an underscore's, in the vendor's images.
            let key = setting.to_ascii_lowercase().replace("___", "\0").replace("__", "-").replace('_', ".").replace('\0', "_");
            Meaning::Set(key, value.to_owned())
        }
        _ => Meaning::Unknown,
    }
}

/// `CONNECT_OFFSET_FLUSH_INTERVAL_MS` is the worker's `offset.flush.interval.ms`; Debezium's image has short names for a few.
fn kafka_connect(name: &str, value: &str) -> Meaning {
    if name == "HEAP_OPTS" || name == "KAFKA_HEAP_OPTS" {
        let heap = value.split_whitespace().find_map(|word| word.strip_prefix("-Xmx"));
        return heap.map_or(Meaning::Unknown, |heap| Meaning::Set("heap".to_owned(), heap.to_owned()));
    }
    if name == "KAFKA_CONNECT_CONFIGURATION" {
        let pair = |line: &str| line.trim().split_once('=').map(|(key, value)| (key.trim().to_owned(), value.trim().to_owned()));
        return Meaning::Lines(value.lines().filter_map(pair).filter(|(key, _)| key.contains('.')).collect());
    }
    if name == "SHUTDOWN_TIMEOUT" {
        return Meaning::Set("task.shutdown.graceful.timeout.ms".to_owned(), value.to_owned());
    }
    let setting = match name {
        "GROUP_ID"
        | "CONFIG_STORAGE_TOPIC"
        | "OFFSET_STORAGE_TOPIC"
        | "STATUS_STORAGE_TOPIC"
        | "KEY_CONVERTER"
        | "VALUE_CONVERTER"
        | "OFFSET_FLUSH_INTERVAL_MS"
        | "OFFSET_FLUSH_TIMEOUT_MS" => name,
        _ => match name.strip_prefix("CONNECT_") {
            Some(setting) => setting,
            None => return Meaning::Unknown,
        },
    };
    match setting {
        "REST_ADVERTISED_HOST_NAME" | "REST_PORT" | "REST_ADVERTISED_PORT" | "REST_HOST_NAME" | "LISTENERS" => {
            Meaning::Dropped("`bind` and `port` say it")
        }
        "PLUGIN_PATH" => Meaning::Dropped("the recipe brings its connectors; set.plugin_path adds a directory of this machine"),
        "CONFIG_STORAGE_REPLICATION_FACTOR" | "OFFSET_STORAGE_REPLICATION_FACTOR" | "STATUS_STORAGE_REPLICATION_FACTOR" => {
            Meaning::Dropped("one copy, as Kafka is one node")
        }
        "INTERNAL_KEY_CONVERTER" | "INTERNAL_VALUE_CONVERTER" => Meaning::Dropped("Kafka Connect has no such setting any more"),
        _ if ["LOG4J_", "CONFLUENT_", "PRODUCER_CONFLUENT_", "METRICS_CONTEXT_"]
            .iter()
            .any(|start| setting.starts_with(start)) =>
        {
            Meaning::Dropped("of the image, not of the worker")
        }
        // A class or a registry that is not there would keep the worker from starting.
        _ if value.contains("io.confluent") || value.contains("io.apicurio") || setting.contains("REGISTRY") => Meaning::Unknown,
        _ if setting.contains("INTERCEPTOR") => Meaning::Unknown,
        _ if setting.contains('_') => Meaning::Set(setting.to_ascii_lowercase().replace('_', "."), value.to_owned()),
        _ => Meaning::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_variable_is_read_set_or_lost() {
        let table = [
            ("postgres", "POSTGRESQL_MAX_CONNECTIONS", "300", Meaning::Set("max_connections".into(), "300".into())),
            ("postgres", "TZ", "UTC", Meaning::Read),
            ("postgres", "POSTGRESQL_LDAP_X", "1", Meaning::Unknown),
            ("redis", "REDIS_AOF_ENABLED", "no", Meaning::Set("appendonly".into(), "no".into())),
            ("redis", "REDIS_DISABLE_COMMANDS", "FLUSHDB", Meaning::Unknown),
            ("minio", "MINIO_DEFAULT_BUCKETS", "a", Meaning::Buckets),
            ("minio", "MINIO_REGION", "x", Meaning::Read),
            ("neo4j", "NEO4J_PLUGINS", "[]", Meaning::Unknown),
            ("grafana", "GF_AUTH_ANONYMOUS_ENABLED", "true", Meaning::Read),
            ("kafka", "KAFKA_LOG_RETENTION_HOURS", "24", Meaning::Set("log.retention.hours".into(), "24".into())),
            ("kafka", "KAFKA_CFG_NUM_PARTITIONS", "3", Meaning::Set("num.partitions".into(), "3".into())),
            ("kafka", "KAFKA_ADVERTISED_LISTENERS", "x", Meaning::Dropped("one listener, on `bind` and `port`")),
            ("kafka", "KAFKA_HEAP_OPTS", "-Xms1g -Xmx2g", Meaning::Set("heap".into(), "2g".into())),
            ("kafka", "KAFKA_SASL_ENABLED_MECHANISMS", "PLAIN", Meaning::Unknown),
            (
                "kafka_connect",
                "CONNECT_KEY_CONVERTER_SCHEMAS_ENABLE",
                "false",
                Meaning::Set("key.converter.schemas.enable".into(), "false".into()),
            ),
            ("opensearch", "ES_JAVA_OPTS", "-Xms1g -Xmx1g", Meaning::Set("heap".into(), "1g".into())),
            ("opensearch", "discovery.type", "single-node", Meaning::Dropped("it is the only node, on `bind` and `port`")),
            ("opensearch", "xpack.security.enabled", "false", Meaning::Dropped("OpenSearch does not have it")),
            ("opensearch", "xpack.security.enabled", "true", Meaning::Unknown),
            ("opensearch", "http.cors.enabled", "true", Meaning::Set("http.cors.enabled".into(), "true".into())),
            ("kafka_connect", "GROUP_ID", "1", Meaning::Set("group.id".into(), "1".into())),
            ("kafka_connect", "CONNECT_VALUE_CONVERTER", "io.confluent.connect.avro.AvroConverter", Meaning::Unknown),
            (
                "kafka_connect",
                "SHUTDOWN_TIMEOUT",
                "5000",
                Meaning::Set("task.shutdown.graceful.timeout.ms".into(), "5000".into()),
            ),
            ("prometheus", "CONFIG_PATH", "/mnt/config", Meaning::Unknown),
            ("prometheus", "REGION", "eu", Meaning::Read),
            ("kafka_connect", "CONNECT_REST_PORT", "8083", Meaning::Dropped("`bind` and `port` say it")),
            (
                "kafka_connect",
                "KAFKA_CONNECT_CONFIGURATION",
                "\nkey.converter=x.Y\n group.id=connect\n",
                Meaning::Lines(vec![("key.converter".into(), "x.Y".into()), ("group.id".into(), "connect".into())]),
            ),
            ("zookeeper", "ZOOKEEPER_TICK_TIME", "3000", Meaning::Set("tick_time".into(), "3000".into())),
            ("zookeeper", "ZOO_MY_ID", "1", Meaning::Dropped("it is the only one")),
            ("etcd", "ETCD_AUTO_COMPACTION_MODE", "revision", Meaning::Read),
            ("etcd", "ETCD_LISTEN_CLIENT_URLS", "x", Meaning::Dropped("`bind` and `port` say it; it is the only one")),
        ];
        for (recipe, name, value, expected) in table {
            assert_eq!(meaning(recipe, name, value), expected, "{recipe} {name}");
        }
    }
}
