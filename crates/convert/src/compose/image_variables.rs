//! Variables of an image that are neither a login nor a folder: those that the server itself reads, those that become a setting,
//! and those that only the image's start script knows.

/// What a variable is natively.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Meaning {
    /// The server, or every program, reads it.
    Read,
    /// A setting of the recipe.
    Set(String, String),
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
            "RABBITMQ_DEFAULT_VHOST" | "RABBITMQ_VHOST" | "RABBITMQ_PLUGINS" => Meaning::Unknown,
            "RABBITMQ_NODE_NAME" | "RABBITMQ_NODENAME" | "RABBITMQ_USE_LONGNAME" => Meaning::Dropped("the recipe names its node"),
            _ => read("RABBITMQ_").or_else(|| read("ERL_")).unwrap_or(Meaning::Unknown),
        },
        // What the configuration names is filled in there.
        "nginx" | "caddy" => Meaning::Read,
        _ => Meaning::Read,
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
        ];
        for (recipe, name, value, expected) in table {
            assert_eq!(meaning(recipe, name, value), expected, "{recipe} {name}");
        }
    }
}
