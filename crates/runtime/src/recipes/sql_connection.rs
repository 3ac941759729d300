//! A login to a Postgres server that is kept for several questions: each new one costs the server a process, and both sides the hashes
//! of the password.

use devrun_model::ServiceSpec;

#[cfg(not(feature = "postgres"))]
use super::sql::no_driver;
use super::sql::{SqlError, SqlTable};
#[cfg(feature = "postgres")]
use super::sql::{SqlSession, log_in};

/// One session. Dropped, it ends by itself a moment later.
pub struct SqlConnection {
    #[cfg(feature = "postgres")]
    session: SqlSession,
}

#[cfg(feature = "postgres")]
impl SqlConnection {
    /// Logs in.
    ///
    /// # Errors
    /// `Task` when there is no server, `Credentials` when the login is refused.
    pub async fn open(on: &ServiceSpec) -> Result<Self, SqlError> {
        Ok(Self { session: log_in(on).await? })
    }

    /// Runs statements and gives the last result.
    ///
    /// # Errors
    /// `Task` with the server's words.
    pub async fn ask(&self, statements: &str) -> Result<SqlTable, SqlError> {
        self.session.table(statements).await
    }

    /// Ends the session; the server knows it when this returns.
    pub async fn close(self) {
        self.session.close().await;
    }
}

/// Without the feature there is no driver.
#[cfg(not(feature = "postgres"))]
impl SqlConnection {
    /// Logs in.
    ///
    /// # Errors
    /// Always.
    pub async fn open(_on: &ServiceSpec) -> Result<Self, SqlError> {
        Err(no_driver().into())
    }

    /// Runs statements and gives the last result.
    ///
    /// # Errors
    /// Always.
    pub async fn ask(&self, _statements: &str) -> Result<SqlTable, SqlError> {
        Err(no_driver().into())
    }

    /// Ends the session.
    pub async fn close(self) {}
}
