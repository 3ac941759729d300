//! Which variable of an image is a setting of its recipe: the way back of `compose/image_variables`.

/// What stands before a value that is all of its variable.
const ALONE: &[&str] = &[""];

/// The variable, and what stands in it before the value, each time that the value is there.
pub(super) fn variable(recipe: &str, key: &str) -> Option<(String, &'static [&'static str])> {
    let plain = |variable: &str| Some((variable.to_owned(), ALONE));
    let dotted = key.contains('.');
    match (recipe, key) {
        ("kafka", "heap") => Some(("KAFKA_HEAP_OPTS".to_owned(), &["-Xmx"])),
        ("kafka_connect", "heap") => Some(("HEAP_OPTS".to_owned(), &["-Xmx"])),
        // The image begins with 1 GiB, and a heap that is larger at the start than it may become is refused.
        ("opensearch", "heap") => Some(("OPENSEARCH_JAVA_OPTS".to_owned(), &["-Xms", " -Xmx"])),
        ("kafka_connect", "bootstrap_servers") => plain("BOOTSTRAP_SERVERS"),
        // The image has names of its own for these and sets the others by them.
        (
            "kafka_connect",
            "group.id"
            | "config.storage.topic"
            | "offset.storage.topic"
            | "status.storage.topic"
            | "key.converter"
            | "value.converter"
            | "offset.flush.interval.ms"
            | "offset.flush.timeout.ms",
        ) => Some((upper(key), ALONE)),
        ("kafka_connect", "task.shutdown.graceful.timeout.ms") => plain("SHUTDOWN_TIMEOUT"),
        ("kafka_connect", _) if dotted => Some((format!("CONNECT_{}", upper(key)), ALONE)),
        ("kafka", _) if dotted => Some((format!("KAFKA_{}", upper(key)), ALONE)),
        ("opensearch", "cluster_name") => plain("cluster.name"),
        ("opensearch", _) if dotted => plain(key),
        ("zookeeper", "tick_time") => plain("ZOO_TICK_TIME"),
        ("zookeeper", "max_client_connections") => plain("ZOO_MAX_CLIENT_CNXNS"),
        ("zookeeper", "purge_interval") => plain("ZOO_AUTOPURGE_PURGEINTERVAL"),
        ("zookeeper", "snapshots_kept") => plain("ZOO_AUTOPURGE_SNAPRETAINCOUNT"),
        ("etcd", _) => Some((format!("ETCD_{}", upper(key)), ALONE)),
        ("adminer", "server") => plain("ADMINER_DEFAULT_SERVER"),
        _ => None,
    }
}

/// `log.retention.hours` → `LOG_RETENTION_HOURS`; a dash is two underscores and an underscore within a dotted name three.
fn upper(key: &str) -> String {
    let key = if key.contains('.') { key.replace('_', "___").replace('-', "__") } else { key.to_owned() };
    key.replace('.', "_").to_ascii_uppercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_setting_becomes_the_images_variable() {
        for (recipe, key, expected) in [
            ("kafka", "log.retention.hours", Some("KAFKA_LOG_RETENTION_HOURS=")),
            ("kafka", "heap", Some("KAFKA_HEAP_OPTS=-Xmx")),
            ("kafka_connect", "bootstrap_servers", Some("BOOTSTRAP_SERVERS=")),
            ("kafka_connect", "key.converter.schemas.enable", Some("CONNECT_KEY_CONVERTER_SCHEMAS_ENABLE=")),
            ("kafka_connect", "group.id", Some("GROUP_ID=")),
            ("kafka_connect", "offset.flush.interval.ms", Some("OFFSET_FLUSH_INTERVAL_MS=")),
            ("kafka_connect", "value.converter", Some("VALUE_CONVERTER=")),
            ("kafka_connect", "task.shutdown.graceful.timeout.ms", Some("SHUTDOWN_TIMEOUT=")),
            ("etcd", "quota_backend_bytes", Some("ETCD_QUOTA_BACKEND_BYTES=")),
            ("opensearch", "http.max_content_length", Some("http.max_content_length=")),
            ("opensearch", "heap", Some("OPENSEARCH_JAVA_OPTS=-XmsV -Xmx")),
            ("chroma", "allow_reset", None),
        ] {
            let variable = variable(recipe, key).map(|(name, before)| format!("{name}={}", before.join("V")));
            assert_eq!(variable.as_deref(), expected, "{recipe} {key}");
        }
    }
}
