//! What to write in the place of a recipe's name that does not exist: other names of the same server, the nearest one, or all.

use super::suggest::{list, nearest};

/// Names that people know a server by, and the recipe that runs it or one that speaks its protocol.
const OTHER_NAMES: &[(&str, &str)] = &[
    ("mysql", "mariadb"),
    ("postgresql", "postgres"),
    ("postgis", "postgres"),
    ("pg", "postgres"),
    ("mongo", "ferretdb"),
    ("mongodb", "ferretdb"),
    ("phpmyadmin", "adminer"),
    ("pgadmin", "adminer"),
    ("chromadb", "chroma"),
    ("keydb", "valkey"),
    ("dragonfly", "valkey"),
    ("rabbit", "rabbitmq"),
    ("amqp", "rabbitmq"),
    ("s3", "minio"),
    ("localstack", "seaweedfs"),
    ("mailhog", "mailpit"),
    ("mailcatcher", "mailpit"),
    ("traefik", "gateway"),
    ("haproxy", "gateway"),
    ("otel", "telemetry"),
    ("otlp", "telemetry"),
    ("jaeger", "telemetry"),
    ("otel-collector", "telemetry"),
    ("memcache", "memcached"),
    ("node-exporter", "node_exporter"),
];

/// The help line for a name that is not a recipe's, in `use`.
pub(crate) fn help(name: &str, known: &[String]) -> String {
    let advice = advice(name, known);
    if advice.starts_with("recipes: ") { format!("{advice}; anything else is a command: run = \"…\"") } else { advice }
}

/// What to write in the place of a name that is not a recipe's.
#[must_use]
pub fn advice(name: &str, known: &[String]) -> String {
    let others = OTHER_NAMES.iter().find(|(other, recipe)| *other == name && known.iter().any(|name| name == recipe));
    if let Some((_, recipe)) = others {
        return format!("the recipe for {name} is \"{recipe}\"");
    }
    let names = known.iter().map(String::as_str);
    match nearest(name, names.clone()) {
        Some(near) => format!("did you mean \"{near}\"?"),
        None => format!("recipes: {}", list(names).replace('`', "")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn other_names_of_a_server_lead_to_its_recipe() {
        let known: Vec<String> = ["gateway", "mariadb", "postgres", "redis"].map(str::to_owned).to_vec();
        assert_eq!(help("mysql", &known), "the recipe for mysql is \"mariadb\"");
        assert_eq!(help("postgresql", &known), "the recipe for postgresql is \"postgres\"");
        assert_eq!(help("rediss", &known), "did you mean \"redis\"?");
        assert_eq!(
            help("mongodb", &known),
            "recipes: gateway, mariadb, postgres and redis; anything else is a command: run = \"…\""
        );
        // A name whose recipe is unknown here is no advice.
        assert!(help("keydb", &known).starts_with("recipes: "));
    }
}
