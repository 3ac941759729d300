//! Which server a fork is for, and what it is there.

use std::collections::BTreeMap;

use devrun_model::service::Server;
use devrun_model::{Failure, FailureKind, Plan, ServiceSpec};

use super::postgres;
use super::redis;

/// The server that is meant: the named one, else the only Postgres.
///
/// # Errors
/// `Config` where none or several are.
pub fn server<'a>(plan: &'a Plan, named: Option<&str>) -> Result<&'a ServiceSpec, Failure> {
    if let Some(name) = named {
        let spec = crate::app::readonly::one(plan, name)?;
        return match spec.stop_asks() {
            Some(_) => Ok(spec),
            None => Err(Failure::new(FailureKind::Config, format!("{name} is neither a Postgres nor a Redis"))
                .help("devrun snapshot saves data of every kind; --instance NAME runs a whole second stack")),
        };
    }
    let mut fitting = plan.services.values().filter(|spec| spec.stop_asks() == Some(Server::Postgres));
    match (fitting.next(), fitting.next()) {
        (Some(only), None) => Ok(only),
        (None, _) => {
            Err(Failure::new(FailureKind::Config, "no Postgres service in this stack").help("devrun db fork REDIS-SERVICE"))
        }
        (Some(one), Some(other)) => {
            Err(Failure::new(FailureKind::Config, format!("there are several: {} and {}", one.service, other.service))
                .help(format!("devrun db fork {}", one.service)))
        }
    }
}

/// Drops databases of one server.
///
/// # Errors
/// As the server says.
pub async fn remove(spec: &ServiceSpec, databases: &[String]) -> Result<(), Failure> {
    if spec.stop_asks() != Some(Server::Redis) {
        return postgres::drop_databases(spec, databases).await;
    }
    for database in databases {
        redis::clear(spec, database).await?;
    }
    Ok(())
}

/// The address of a fork.
#[must_use]
pub fn url(spec: &ServiceSpec, database: &str) -> String {
    with_database(&spec.attribute("url").unwrap_or_default(), database)
}

/// Variables for a client of it.
#[must_use]
pub fn variables(spec: &ServiceSpec, database: &str) -> BTreeMap<String, String> {
    let url = url(spec, database);
    if spec.stop_asks() == Some(Server::Redis) {
        return BTreeMap::from([("REDIS_URL".to_owned(), url)]);
    }
    let mut all = BTreeMap::from([("DATABASE_URL".to_owned(), url), ("PGDATABASE".to_owned(), database.to_owned())]);
    let port = spec.port().map(|port| port.to_string());
    for (name, value) in [
        ("PGHOST", spec.attribute("host")),
        ("PGPORT", port),
        ("PGUSER", spec.attribute("user")),
        ("PGPASSWORD", spec.attribute("password")),
    ] {
        all.extend(value.map(|value| (name.to_owned(), value)));
    }
    all
}

/// An address with another path; what stands behind a question mark stays.
fn with_database(url: &str, database: &str) -> String {
    let (base, query) = match url.split_once('?') {
        Some((base, query)) => (base, format!("?{query}")),
        None => (url, String::new()),
    };
    let authority = base.find("://").map_or(0, |at| at + 3);
    let end = base.get(authority..).and_then(|rest| rest.find('/')).map_or(base.len(), |at| authority + at);
    format!("{}/{database}{query}", base.get(..end).unwrap_or(base))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_gets_another_database() {
        for (url, expected) in [
            ("postgres://app:p%2Fw@127.0.0.1:5432/app", "postgres://app:p%2Fw@127.0.0.1:5432/x"),
            ("postgres://app@127.0.0.1:5432/app?sslmode=disable", "postgres://app@127.0.0.1:5432/x?sslmode=disable"),
            ("redis://:pw@127.0.0.1:6379", "redis://:pw@127.0.0.1:6379/x"),
            ("redis://127.0.0.1:6379/0", "redis://127.0.0.1:6379/x"),
        ] {
            assert_eq!(with_database(url, "x"), expected);
        }
    }
}
