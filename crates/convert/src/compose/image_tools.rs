//! Images of servers around a stack's data: Kafka Connect, search, logins, workflows; what `images` knows of databases.

use super::known_image::Becomes::{Nothing, Password, Set, SetHost, User};
use super::known_image::{KnownImage, plain};

pub(super) const KAFKA_CONNECT: KnownImage = KnownImage {
    env: &[
        ("BOOTSTRAP_SERVERS", SetHost("bootstrap_servers")),
        ("CONNECT_BOOTSTRAP_SERVERS", SetHost("bootstrap_servers")),
        ("KAFKA_CONNECT_BOOTSTRAP_SERVERS", SetHost("bootstrap_servers")),
    ],
    program: &["start", "connect-distributed.sh", "connect-distributed", "kafka_connect_run.sh", "run"],
    ..plain("kafka_connect", &[8083], &["/kafka/data"])
};
pub(super) const OPENSEARCH: KnownImage = KnownImage {
    named: &[(9300, "transport")],
    env: &[
        ("cluster.name", Set("cluster_name")),
        ("CLUSTER_NAME", Set("cluster_name")),
        ("ELASTICSEARCH_CLUSTER_NAME", Set("cluster_name")),
        ("http.port", Nothing("`port` says it")),
        ("transport.port", Nothing("`ports.transport` says it")),
    ],
    program: &["elasticsearch", "opensearch", "docker-entrypoint.sh", "opensearch-docker-entrypoint.sh"],
    ..plain(
        "opensearch",
        &[9200],
        &[
            "/usr/share/elasticsearch/data",
            "/usr/share/opensearch/data",
            "/bitnami/elasticsearch/data",
            "/bitnami/opensearch/data",
            "/var/lib/elasticsearch",
            "/esdata",
        ],
    )
};
pub(super) const KEYCLOAK: KnownImage = KnownImage {
    named: &[(9000, "management")],
    env: &[
        ("KEYCLOAK_ADMIN", User),
        ("KEYCLOAK_ADMIN_PASSWORD", Password),
        ("KC_BOOTSTRAP_ADMIN_USERNAME", User),
        ("KC_BOOTSTRAP_ADMIN_PASSWORD", Password),
        ("KEYCLOAK_USER", User),
        ("KEYCLOAK_PASSWORD", Password),
        ("KC_HTTP_PORT", Nothing("`port` says it")),
        ("KC_HTTP_ENABLED", Nothing("the recipe serves HTTP")),
        ("KC_HEALTH_ENABLED", Nothing("the recipe asks it whether it is ready")),
        ("KC_HTTP_MANAGEMENT_PORT", Nothing("`ports.management` says it")),
    ],
    program: &["start-dev", "start", "kc.sh", "kc.sh start-dev"],
    ..plain("keycloak", &[8080], &["/opt/keycloak/data", "/opt/jboss/keycloak/standalone/data", "/opt/keycloak/data/h2"])
};
