//! The recipes that the dependencies of a program name.

use super::source_directory::SourceDirectory;

/// Files that list dependencies.
const LISTS: &[&str] = &[
    "Cargo.toml",
    "Gemfile",
    "Pipfile",
    "build.gradle",
    "build.gradle.kts",
    "composer.json",
    "go.mod",
    "mix.exs",
    "package.json",
    "pom.xml",
    "pyproject.toml",
    "requirements-dev.txt",
    "requirements.txt",
    "requirements/base.txt",
    "requirements/dev.txt",
    "requirements/local.txt",
];

/// A recipe, and what its clients are called, in lower case.
const CLIENTS: &[(&str, &[&str])] = &[
    (
        "postgres",
        &[
            "psycopg",
            "asyncpg",
            "\"pg\"",
            "'pg'",
            "\"postgres\"",
            "tokio-postgres",
            "pgx",
            "lib/pq",
            "postgrex",
            "postgresql",
            "pg-promise",
        ],
    ),
    ("mariadb", &["mysql2", "mysqlclient", "pymysql", "mysql-connector", "aiomysql", "asyncmy", "go-sql-driver/mysql", "myxql"]),
    ("redis", &["redis", "sidekiq", "bullmq", "\"bull\"", "resque"]),
    ("rabbitmq", &["amqplib", "pika", "bunny", "amqp091", "starter-amqp"]),
    ("ferretdb", &["mongoose", "\"mongodb\"", "pymongo", "mongo-driver", "mongoid", "data-mongodb"]),
];

/// The recipes, without repetition.
pub(super) fn recipes(directory: &SourceDirectory) -> Vec<&'static str> {
    let lists: Vec<String> = LISTS.iter().filter_map(|name| directory.text(name)).map(str::to_ascii_lowercase).collect();
    let mut named: Vec<&'static str> = CLIENTS
        .iter()
        .filter(|(_, words)| words.iter().any(|word| lists.iter().any(|list| list.contains(word))))
        .map(|(recipe, _)| *recipe)
        .collect();
    if directory.has("artisan") {
        named.extend(of_laravel(directory.text(".env").unwrap_or_default()));
    }
    match directory.text("prisma/schema.prisma") {
        Some(schema) if schema.contains("\"postgresql\"") => named.push("postgres"),
        Some(schema) if schema.contains("\"mysql\"") => named.push("mariadb"),
        _ => {}
    }
    let mut seen = Vec::new();
    named.retain(|name| {
        !seen.contains(name) && {
            seen.push(*name);
            true
        }
    });
    named
}

/// Laravel has clients for all of them; its `.env` says which is used.
fn of_laravel(env: &str) -> Vec<&'static str> {
    let value = |name: &str| env.lines().find_map(|line| line.trim().strip_prefix(name)?.strip_prefix('=')).unwrap_or_default();
    let database = match value("DB_CONNECTION").trim_matches('"') {
        "pgsql" => Some("postgres"),
        "mysql" | "mariadb" => Some("mariadb"),
        _ => None,
    };
    let names = ["CACHE_STORE", "CACHE_DRIVER", "QUEUE_CONNECTION", "SESSION_DRIVER", "BROADCAST_CONNECTION"];
    let redis = names.iter().any(|name| value(name).trim_matches('"') == "redis").then_some("redis");
    database.into_iter().chain(redis).collect()
}

/// The variables by which programs usually find a server.
pub(super) fn variables(recipe: &str) -> &'static [(&'static str, &'static str)] {
    match recipe {
        "postgres" => &[("DATABASE_URL", "${postgres.url}")],
        "mariadb" => &[("DATABASE_URL", "${mariadb.url}")],
        "redis" => &[("REDIS_URL", "${redis.url}")],
        "rabbitmq" => &[("RABBITMQ_URL", "${rabbitmq.url}")],
        "ferretdb" => &[("MONGODB_URI", "${ferretdb.url}")],
        _ => &[],
    }
}
