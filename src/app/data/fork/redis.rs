//! Logical databases of a Redis: empty ones, by number. Number 0 is the applications' own.

use devrun_model::ready::Endpoint;
use devrun_model::{Failure, FailureKind, ServiceSpec};
use devrun_runtime::probe;

async fn ask(spec: &ServiceSpec, words: &[&str]) -> Result<String, Failure> {
    let failed = |reason: String| Failure::new(FailureKind::Task, format!("{}: {reason}", spec.service));
    let at = Endpoint { host: spec.bind.clone(), port: spec.port().ok_or_else(|| failed("it has no port".to_owned()))? };
    let (user, password) = (spec.attribute("user"), spec.attribute("password"));
    probe::redis_ask(&at, user.as_deref(), password.as_deref(), words).await.map_err(|error| failed(error.answer))
}

/// How many there are, the applications' own included.
///
/// # Errors
/// As the server says.
pub async fn count(spec: &ServiceSpec) -> Result<u32, Failure> {
    let answer = ask(spec, &["CONFIG", "GET", "databases"]).await?;
    Ok(answer.lines().last().and_then(|line| line.parse().ok()).unwrap_or(16))
}

/// Gives a setting another value until the server's next start.
///
/// # Errors
/// As the server says.
pub async fn set(spec: &ServiceSpec, name: &str, value: &str) -> Result<(), Failure> {
    ask(spec, &["CONFIG", "SET", name, value]).await.map(drop)
}

/// Empties one. Both steps are one call, as every call here is a connection of its own.
///
/// # Errors
/// As the server says.
pub async fn clear(spec: &ServiceSpec, database: &str) -> Result<(), Failure> {
    ask(spec, &["EVAL", "redis.call('SELECT', ARGV[1]); return redis.call('FLUSHDB')", "0", database]).await.map(drop)
}
