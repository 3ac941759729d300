//! What to write in the place of a recipe's name that does not exist: other names of the same server, the nearest one, or all.

use devrun_model::suggest::{list, nearest};

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

/// Names that people give for a language or a tool, and how a program of it is started.
const COMMANDS: &[(&str, &str)] = &[
    ("node", "node server.js"),
    ("nodejs", "node server.js"),
    ("npm", "npm start"),
    ("bun", "bun run start"),
    ("deno", "deno run -A main.ts"),
    ("python", "python app.py"),
    ("python3", "python3 app.py"),
    ("django", "python manage.py runserver $PORT"),
    ("fastapi", "uvicorn app:app --port $PORT"),
    ("uvicorn", "uvicorn app:app --port $PORT"),
    ("flask", "flask run --port $PORT"),
    ("ruby", "ruby app.rb"),
    ("rails", "bin/rails server -p $PORT"),
    ("php", "php -S 127.0.0.1:$PORT"),
    ("go", "go run ."),
    ("golang", "go run ."),
    ("rust", "cargo run"),
    ("cargo", "cargo run"),
    ("java", "java -jar app.jar"),
    ("openjdk", "java -jar app.jar"),
    ("dotnet", "dotnet run"),
    ("elixir", "mix phx.server"),
    ("vite", "npx vite --port $PORT"),
    ("next", "npx next dev -p $PORT"),
    ("bash", "./start.sh"),
    ("sh", "./start.sh"),
];

/// The help line for a name that is not a recipe's, in `use`.
pub(crate) fn help(name: &str, known: &[String]) -> String {
    // An image, or a version as compose writes it.
    let (image, tag) = name.split_once(':').unwrap_or((name, ""));
    let base = image.rsplit('/').next().unwrap_or(image);
    if let Some((_, command)) = COMMANDS.iter().find(|(other, _)| *other == base && !known.iter().any(|name| name == base)) {
        return format!("{base} is not a server: write the command in the place of `use`: run = \"{command}\"");
    }
    if base != name {
        let other = OTHER_NAMES.iter().find(|(other, _)| *other == base).map_or(base, |(_, recipe)| recipe);
        if known.iter().any(|name| name == other) {
            // `16-alpine` is the version 16.
            let version = tag.split('-').next().unwrap_or_default();
            let is_version = version.starts_with(|c: char| c.is_ascii_digit());
            // Another server has other versions.
            let version = if is_version && other == base { format!("@{version}") } else { String::new() };
            return format!("images are not used, and a version follows `@`: use = \"{other}{version}\"");
        }
    }
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
        for (image, recipe) in
            [("redis:7", "redis@7"), ("postgres:16-alpine", "postgres@16"), ("bitnami/redis", "redis"), ("mysql:8", "mariadb")]
        {
            assert!(help(image, &known).ends_with(&format!("use = \"{recipe}\"")), "{}", help(image, &known));
        }
        assert!(help("node", &known).ends_with("run = \"node server.js\""), "{}", help("node", &known));
        assert!(help("python:3.12", &known).ends_with("run = \"python app.py\""));
        // A name whose recipe is unknown here is no advice.
        assert!(help("keydb", &known).starts_with("recipes: "));
    }
}
