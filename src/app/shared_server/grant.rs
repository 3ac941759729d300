//! Database and login of one checkout on a shared Postgres, made and dropped with the rights of the server's owner.

use std::path::Path;

use devrun_model::{Failure, FailureKind, ServiceSpec};
use devrun_runtime::recipes;

use super::leases::{self, ServerLease};
use crate::app::data::postgres_dump::{literal, quoted};
use crate::app::user_state;

/// Passwords must not reach the server's log, whatever its settings say.
const IN_SILENCE: &str = "SET log_statement = 'none'; SET log_min_duration_statement = -1; SET log_duration = off; \
     SET log_min_error_statement = 'panic'; SET standard_conforming_strings = on; SET password_encryption = 'scram-sha-256'; ";

/// Makes sure of both. The login can do nothing outside its own database, and no other login gets in.
///
/// # Errors
/// `Config` for a name that the server would cut; as the server says.
pub async fn grant(owner: &ServiceSpec, lease: &ServerLease, password: &str, extensions: &[String]) -> Result<(), Failure> {
    for name in [&lease.user, &lease.database] {
        if name.len() > 63 {
            let reason = format!("the name {name:?} is longer than 63 bytes");
            return Err(Failure::new(FailureKind::Config, reason).help("choose a shorter `user` or `database`"));
        }
    }
    let (user, database) = (quoted(&lease.user), quoted(&lease.database));
    if !exists(owner, "pg_roles WHERE rolname", &lease.user).await? {
        recipes::ask_sql(owner, &format!("CREATE ROLE {user} LOGIN")).await?;
    }
    recipes::ask_sql(owner, &format!("{IN_SILENCE}ALTER ROLE {user} LOGIN PASSWORD {}", literal(password))).await?;
    if !exists(owner, "pg_database WHERE datname", &lease.database).await? {
        recipes::ask_sql(owner, &format!("CREATE DATABASE {database} OWNER {user}")).await?;
    }
    recipes::ask_sql(owner, &format!("REVOKE ALL ON DATABASE {database} FROM PUBLIC")).await?;
    let mut inside = owner.clone();
    inside.attributes.insert("database".to_owned(), lease.database.clone());
    for extension in extensions {
        recipes::ask_sql(&inside, &format!("CREATE EXTENSION IF NOT EXISTS {}", quoted(extension))).await?;
    }
    Ok(())
}

async fn drop_all(owner: &ServiceSpec, lease: &ServerLease) -> Result<(), Failure> {
    recipes::ask_sql(owner, &format!("DROP DATABASE IF EXISTS {} WITH (FORCE)", quoted(&lease.database))).await?;
    recipes::ask_sql(owner, &format!("DROP ROLE IF EXISTS {}", quoted(&lease.user))).await?;
    Ok(())
}

/// Drops what checkouts have given up. The caller holds the directory's lock.
///
/// # Errors
/// As the server says.
pub async fn drop_given_up(directory: &Path, owner: &ServiceSpec) -> Result<(), Failure> {
    for (file, lease) in leases::given_up(directory)? {
        drop_all(owner, &lease).await?;
        std::fs::remove_file(&file).map_err(|error| user_state::unusable(&file, &error))?;
    }
    Ok(())
}

async fn exists(owner: &ServiceSpec, what: &str, name: &str) -> Result<bool, Failure> {
    let found = recipes::ask_sql(owner, &format!("SELECT 1 FROM {what} = {}", literal(name))).await?;
    Ok(!found.rows.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;
    use devrun_model::ServiceName;

    /// Postgres would cut it, and two checkouts would share what they think is their own. Refused before the server is asked.
    #[tokio::test]
    async fn a_name_that_the_server_would_cut_is_refused() {
        let owner = ServiceSpec::bare(ServiceName::new("server").unwrap(), "/".into(), vec!["x".to_owned()]);
        let lease = |user: &str, database: &str| ServerLease {
            root: "/r".into(),
            lock: "/l".into(),
            user: user.to_owned(),
            database: database.to_owned(),
        };
        let long = "n".repeat(64);
        for lease in [lease(&long, "short"), lease("short", &long)] {
            let failure = grant(&owner, &lease, "pw", &[]).await.unwrap_err();
            assert_eq!(failure.kind, FailureKind::Config);
            assert_eq!(failure.reason, format!("the name {long:?} is longer than 63 bytes"));
            assert_eq!(failure.help.as_deref(), Some("choose a shorter `user` or `database`"));
        }
    }
}
