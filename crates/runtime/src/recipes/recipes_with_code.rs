//! Which recipe has code beside its data: the one place in which servers are told apart by name.

use super::recipe::{DataRecipe, Recipe};
use super::{ferretdb, gateway, kafka, kafka_connect, mariadb, neo4j, nginx, opensearch, postgres, rabbitmq, redis, telemetry};

/// The code of a recipe, by the name of the recipe.
pub(super) fn recipe_code(name: &str) -> &'static dyn Recipe {
    match name {
        "postgres" => &postgres::Postgres,
        "redis" | "valkey" => &redis::Redis,
        "neo4j" => &neo4j::Neo4j,
        "ferretdb" => &ferretdb::FerretDb,
        "kafka" => &kafka::Kafka,
        "kafka_connect" => &kafka_connect::KafkaConnect,
        "mariadb" => &mariadb::MariaDb,
        "nginx" => &nginx::Nginx,
        "opensearch" => &opensearch::OpenSearch,
        "rabbitmq" => &rabbitmq::RabbitMq,
        "gateway" => &gateway::GatewayRecipe,
        "telemetry" => &telemetry::TelemetryRecipe,
        _ => &DataRecipe,
    }
}
