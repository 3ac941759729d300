//! `sql`: a real login and a query. A wrong password can never become a right one, so it is fatal; a missing database or
//! table may yet be made.

use devrun_model::ready::Endpoint;

#[cfg(not(feature = "postgres"))]
use super::{connect::OwnershipGate, result::ProbeResult};

/// Who logs in where.
#[cfg_attr(not(feature = "postgres"), expect(dead_code, reason = "only the driver reads it"))]
pub(super) struct Login<'a> {
    /// The user.
    pub user: &'a str,
    /// The password, where there is one.
    pub password: Option<&'a str>,
    /// The database.
    pub database: &'a str,
}

/// The check.
#[cfg(not(feature = "postgres"))]
pub(super) async fn check(_at: &Endpoint, _login: &Login<'_>, _query: &str, _gate: Option<&OwnershipGate>) -> ProbeResult {
    Err(super::result::ProbeError::fatal(super::result::unusable(
        "sql checks need the feature `postgres`, which this devrun was built without",
        "use `pg = true`, or install a devrun with its default features",
    )))
}

#[cfg(feature = "postgres")]
pub(super) use with_driver::check;

#[cfg(feature = "postgres")]
mod with_driver {
    use std::error::Error as _;

    use tokio_postgres::{Config, NoTls, error::Error};

    use super::super::capped_stream::{CappedStream, PROBE_ANSWERS};
    use super::super::connect::{OwnershipGate, connect};
    use super::super::result::{ProbeError, ProbeOk, ProbeResult};
    use super::{Endpoint, Login};

    /// The check. The connection lives inside this future: dropped with it, nothing goes on behind.
    pub(in super::super) async fn check(
        at: &Endpoint,
        login: &Login<'_>,
        query: &str,
        gate: Option<&OwnershipGate>,
    ) -> ProbeResult {
        super::super::pg::is_starting(gate).await?;
        let dialled = connect(at, gate).await?;
        let mut config = Config::new();
        config.user(login.user).dbname(login.database).application_name("devrun");
        if let Some(password) = login.password {
            config.password(password);
        }
        let stream = CappedStream::new(dialled.stream, PROBE_ANSWERS);
        let (client, connection) = config.connect_raw(stream, NoTls).await.map_err(|error| judge(&error, login))?;
        tokio::pin!(connection);
        let answer = tokio::select! {
            answer = client.simple_query(query) => answer,
            ended = &mut connection => match ended {
                Ok(()) => return Err(ProbeError::new("the connection was closed without an answer")),
                Err(error) => Err(error),
            },
        };
        answer.map_err(|error| judge(&error, login))?;
        drop(client);
        // Says goodbye, so that the server does not log a lost client; not worth waiting for long.
        let _ = tokio::time::timeout(std::time::Duration::from_millis(100), connection).await;
        Ok(ProbeOk::new(format!("{} answers {query:?} as {}", login.database, login.user)).note(dialled.note))
    }

    fn judge(error: &Error, login: &Login<'_>) -> ProbeError {
        let Some(database_error) = error.as_db_error() else {
            let cause = error.source().map_or_else(|| error.to_string(), ToString::to_string);
            if cause.contains("password missing") {
                return ProbeError::credentials(
                    format!("the server asks {} for a password, and none is given", login.user),
                    "give one: `password = \"…\"`, or postgres://USER:PASSWORD@…",
                );
            }
            return ProbeError::new(if error.is_closed() {
                "the connection was closed without an answer".to_owned()
            } else {
                cause
            });
        };
        let (code, message) = (database_error.code().code(), database_error.message());
        match code {
            "28P01" | "28000" => ProbeError::credentials(
                format!("{message} ({code})"),
                "check user and password; a volume keeps the password it was initialised with",
            ),
            _ => ProbeError::new(format!("{message} ({code})")),
        }
    }
}
