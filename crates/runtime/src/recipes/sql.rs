//! SQL against a Postgres server: sessions, scripts statement by statement, and the `sql` of tasks.

use std::path::{Path, PathBuf};

use super::sql_split::place_in;
use devrun_model::{Failure, FailureKind, ServiceSpec, VolumeSpec};

/// Reads a script; `.gz` is unpacked.
///
/// # Errors
/// `Task`, naming the file.
pub(super) fn read_script(path: &Path) -> Result<String, Failure> {
    let failed = |why: String| Failure::new(FailureKind::Task, format!("{}: {why}", path.display()));
    let mut bytes = devrun_keeper::regular_file::read_linked(path).map_err(|error| failed(error.to_string()))?;
    if path.extension().is_some_and(|extension| extension == "gz") {
        let mut unpacked = Vec::new();
        std::io::Read::read_to_end(&mut flate2::read::MultiGzDecoder::new(bytes.as_slice()), &mut unpacked)
            .map_err(|error| failed(format!("not a complete gzip file: {error}")))?;
        bytes = unpacked;
    }
    String::from_utf8(bytes).map_err(|error| {
        let valid = &error.as_bytes()[..error.utf8_error().valid_up_to()];
        let (line, column) = place_in(&String::from_utf8_lossy(valid), valid.len());
        Failure::new(FailureKind::Task, format!("{}:{line}:{column}: it is not UTF-8", path.display()))
    })
}

/// A name in SQL.
#[must_use]
pub(super) fn quoted_name(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// A string in SQL, under `standard_conforming_strings`.
#[must_use]
pub(super) fn quoted_text(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

#[cfg(feature = "postgres")]
pub(crate) use with_driver::{SqlSession, SqlTarget};

/// What the text of a value is, as far as JSON distinguishes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SqlColumnKind {
    /// `true` or `false`, which the server writes as `t` and `f`.
    Boolean,
    /// A number. `NaN` and the infinities are numbers of the server's, too.
    Number,
    /// `json` and `jsonb`.
    Json,
    /// Everything else.
    Text,
}

/// Rows as text.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SqlTable {
    /// Names of the columns; none: the statement gives no rows.
    pub columns: Vec<String>,
    /// What the values of the columns are; empty where the server was not asked.
    pub kinds: Vec<SqlColumnKind>,
    /// Values, `None` for NULL.
    pub rows: Vec<Vec<Option<String>>>,
    /// Rows that were read or changed.
    pub affected: u64,
}

/// Statements that failed.
#[derive(Debug)]
pub struct SqlError {
    /// The server's SQLSTATE; `None` where it did not come to an answer.
    code: Option<String>,
    /// For a person.
    pub failure: Failure,
}

impl SqlError {
    /// Whether a session holds what the statement wants for itself (`object_in_use`).
    #[must_use]
    pub fn is_in_use(&self) -> bool {
        self.code.as_deref() == Some("55006")
    }
    /// Whether the server takes no more connections now (`too_many_connections`).
    #[must_use]
    pub fn is_server_full(&self) -> bool {
        self.code.as_deref() == Some("53300")
    }
}

impl From<Failure> for SqlError {
    fn from(failure: Failure) -> Self {
        Self { code: None, failure }
    }
}

impl From<SqlError> for Failure {
    fn from(error: SqlError) -> Self {
        error.failure
    }
}

/// Where a service's server is, and who logs in.
#[cfg(feature = "postgres")]
fn target(on: &ServiceSpec) -> Result<SqlTarget, Failure> {
    let user = on.attribute("user").unwrap_or_else(|| "postgres".to_owned());
    Ok(SqlTarget {
        host: on.attribute("host").unwrap_or_else(|| on.bind.clone()),
        port: on.port().ok_or_else(|| Failure::new(FailureKind::Task, format!("{} has no port", on.id)))?,
        database: on.attribute("database").unwrap_or_else(|| user.clone()),
        password: on.attribute("password"),
        user,
    })
}

#[cfg(feature = "postgres")]
pub(super) async fn log_in(on: &ServiceSpec) -> Result<SqlSession, SqlError> {
    let target = target(on)?;
    let opened = SqlSession::open(&target, None).await;
    opened.map_err(|error| SqlError { code: with_driver::code(&error), failure: session_failure(&target, &error) })
}

/// As [`log_in`], where a command is about the server: one that is not up is named as such.
#[cfg(feature = "postgres")]
async fn log_in_for_command(on: &ServiceSpec) -> Result<SqlSession, Failure> {
    let target = target(on)?;
    SqlSession::open(&target, None).await.map_err(|error| {
        if with_driver::is_refused(&error) {
            super::not_running::not_running(on, &target.host, target.port)
        } else {
            session_failure(&target, &error)
        }
    })
}

/// Runs statements against a running server and gives the last result.
///
/// # Errors
/// `Task` with the server's words, `Credentials` when the login is refused.
#[cfg(feature = "postgres")]
pub async fn ask(on: &ServiceSpec, statements: &str) -> Result<SqlTable, SqlError> {
    let session = log_in(on).await?;
    let table = session.table(statements).await;
    session.close().await;
    table
}

/// Rows that a read-only question gives at most.
#[cfg(feature = "postgres")]
const READ_ONLY_ROWS: usize = 1000;

/// Runs the statements of `devrun sql` and gives the last result, with the kinds of its columns.
///
/// `read_only`: one statement that only reads. The server sees to it: a cursor takes a single statement that gives rows and
/// changes none, and the transaction around it is read-only.
///
/// # Errors
/// `Query` with the server's words, `Elsewhere` when the server is not up, `Credentials` when the login is refused.
#[cfg(feature = "postgres")]
pub async fn query(on: &ServiceSpec, statements: &str, read_only: bool) -> Result<SqlTable, Failure> {
    let session = log_in_for_command(on).await?;
    let table =
        if read_only { session.read_only(statements, READ_ONLY_ROWS).await } else { session.typed_table(statements).await };
    session.close().await;
    table.map_err(|failure| match failure.kind {
        FailureKind::Task => Failure { kind: FailureKind::Query, reason: format!("{}: {}", on.id, failure.reason), ..failure },
        _ => failure,
    })
}

/// What the server knows of the migrations of this folder.
///
/// # Errors
/// As [`query`].
#[cfg(feature = "postgres")]
pub async fn migrations(on: &ServiceSpec, folder: &Path) -> Result<Vec<super::migrate::Migration>, Failure> {
    let session = log_in_for_command(on).await?;
    let all = super::migrate::status(&session, folder).await;
    session.close().await;
    all
}

/// What a database that runs knows of the migrations of this folder; empty, and not asked for, where its last start has seen to these
/// very files.
///
/// # Errors
/// As [`query`]; `Config` when the folder cannot be read.
pub async fn unseen_migrations(
    on: &ServiceSpec,
    folder: &Path,
    volume: Option<&VolumeSpec>,
) -> Result<Vec<super::migrate::Migration>, Failure> {
    match volume {
        Some(volume) if super::migrate::are_seen(folder, volume)? => Ok(Vec::new()),
        _ => migrations(on, folder).await,
    }
}

/// Applies the migrations that are missing; their names.
///
/// # Errors
/// As [`query`]; `Task` for a file that was changed after it had been applied.
#[cfg(feature = "postgres")]
pub async fn migrate(on: &ServiceSpec, folder: &Path) -> Result<Vec<String>, Failure> {
    let session = log_in_for_command(on).await?;
    let names = super::migrate::apply(&session, folder).await;
    session.close().await;
    names
}

/// Without the feature there is no driver.
///
/// # Errors
/// Always.
#[cfg(not(feature = "postgres"))]
pub async fn ask(_on: &ServiceSpec, _statements: &str) -> Result<SqlTable, SqlError> {
    Err(no_driver().into())
}

/// Without the feature there is no driver.
///
/// # Errors
/// Always.
#[cfg(not(feature = "postgres"))]
pub async fn query(_on: &ServiceSpec, _statements: &str, _read_only: bool) -> Result<SqlTable, Failure> {
    Err(no_driver())
}

/// Without the feature there is no driver.
///
/// # Errors
/// Always.
#[cfg(not(feature = "postgres"))]
pub async fn migrations(_on: &ServiceSpec, _folder: &Path) -> Result<Vec<super::migrate::Migration>, Failure> {
    Err(no_driver())
}

/// Without the feature there is no driver.
///
/// # Errors
/// Always.
#[cfg(not(feature = "postgres"))]
pub async fn migrate(_on: &ServiceSpec, _folder: &Path) -> Result<Vec<String>, Failure> {
    Err(no_driver())
}

#[cfg(not(feature = "postgres"))]
pub(super) fn no_driver() -> Failure {
    Failure::new(FailureKind::Task, "this devrun was built without the feature `postgres`")
}

/// Runs a task's SQL against a running server.
///
/// # Errors
/// `Task` with file, line and the server's words, `Credentials` when the login is refused.
#[cfg(feature = "postgres")]
pub(super) async fn work(on: &ServiceSpec, files: &[PathBuf], text: Option<&str>) -> Result<(), Failure> {
    let target = target(on)?;
    let mut scripts = Vec::new();
    for file in files {
        scripts.push((file.display().to_string(), read_script(file)?));
    }
    scripts.extend(text.map(|text| ("sql".to_owned(), text.to_owned())));
    for (label, script) in scripts {
        let session = SqlSession::open(&target, None).await.map_err(|error| session_failure(&target, &error))?;
        let result = session.run_script(&label, &script).await;
        session.close().await;
        result?;
    }
    Ok(())
}

/// What a stop would cut short: transactions of others, and base backups.
///
/// # Errors
/// `Task` when it cannot be asked.
#[cfg(feature = "postgres")]
pub(super) async fn busy(on: &ServiceSpec) -> Result<Option<String>, Failure> {
    let target = target(on)?;
    let session = SqlSession::open(&target, None).await.map_err(|error| session_failure(&target, &error))?;
    let backups = "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'walsender' AND query ILIKE 'BASE_BACKUP%'";
    let transactions = "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend' \
                        AND xact_start IS NOT NULL AND pid <> pg_backend_pid()";
    let found = async {
        Ok(match (session.number(backups).await?, session.number(transactions).await?) {
            (0, 0) => None,
            (0, 1) => Some("a transaction is open".to_owned()),
            (0, many) => Some(format!("{many} transactions are open")),
            _ => Some("a base backup is made".to_owned()),
        })
    };
    let found = found.await;
    session.close().await;
    found
}

/// Without the feature there is no driver.
///
/// # Errors
/// Always.
#[cfg(not(feature = "postgres"))]
pub(super) async fn busy(_on: &ServiceSpec) -> Result<Option<String>, Failure> {
    Err(Failure::new(FailureKind::Task, "this devrun was built without the feature `postgres`"))
}

#[cfg(feature = "postgres")]
fn session_failure(target: &SqlTarget, error: &tokio_postgres::Error) -> Failure {
    let refused = error.code().is_some_and(|code| code.code().starts_with("28"));
    let kind = if refused { FailureKind::Credentials } else { FailureKind::Task };
    let failure = Failure::new(kind, format!("cannot log in to {}:{}: {}", target.host, target.port, with_driver::words(error)));
    if refused {
        failure.help("the data was made with another password: put the old secret back, or set a new one in the server")
    } else {
        failure
    }
}

/// Without the feature there is no driver.
///
/// # Errors
/// Always.
#[cfg(not(feature = "postgres"))]
pub(super) async fn work(_on: &ServiceSpec, _files: &[PathBuf], _text: Option<&str>) -> Result<(), Failure> {
    Err(no_driver())
}

#[cfg(feature = "postgres")]
mod with_driver {
    use std::io::Cursor;
    use std::sync::Arc;
    use std::time::Duration;

    use futures_util::SinkExt as _;
    use tokio_postgres::error::ErrorPosition;
    use tokio_postgres::types::Type;
    use tokio_postgres::{AsyncMessage, Client, Config, NoTls};

    use super::super::sql_split::{SqlStatement, split};
    use super::{SqlColumnKind, SqlError, SqlTable};
    use devrun_keeper::{OutputSink, OutputStream};
    use devrun_model::{Failure, FailureKind};

    /// Where to log in. A host that begins with a slash is a folder of unix sockets.
    #[derive(Clone)]
    pub(crate) struct SqlTarget {
        pub(crate) host: String,
        pub(crate) port: u16,
        pub(crate) user: String,
        pub(crate) password: Option<String>,
        pub(crate) database: String,
    }

    /// One login. What the server remarks goes to the sink. Dropped, it ends by itself a moment later.
    pub(crate) struct SqlSession {
        client: Client,
        driver: tokio::task::JoinHandle<()>,
    }

    impl SqlSession {
        pub(crate) async fn open(target: &SqlTarget, sink: Option<Arc<dyn OutputSink>>) -> Result<Self, tokio_postgres::Error> {
            let mut config = Config::new();
            if target.host.starts_with('/') {
                config.host_path(&target.host);
            } else {
                config.host(&target.host);
            }
            config.port(target.port).user(&target.user).dbname(&target.database).application_name("devrun");
            config.connect_timeout(Duration::from_secs(10));
            if let Some(password) = &target.password {
                config.password(password);
            }
            let (client, mut connection) = config.connect(NoTls).await?;
            let driver = tokio::spawn(async move {
                while let Some(message) = std::future::poll_fn(|context| connection.poll_message(context)).await {
                    match (message, &sink) {
                        (Ok(AsyncMessage::Notice(notice)), Some(sink)) => {
                            sink.write(OutputStream::Stderr, format!("{}: {}\n", notice.severity(), notice.message()).as_bytes());
                        }
                        (Ok(_), _) => {}
                        // The client's next call reports it.
                        (Err(_), _) => break,
                    }
                }
            });
            Ok(Self { client, driver })
        }

        /// Says goodbye: the server is told, and the session is over when this returns.
        pub(crate) async fn close(self) {
            let Self { client, driver } = self;
            drop(client);
            // A server that does not listen any more has ended the session too.
            let _ = tokio::time::timeout(Duration::from_secs(5), driver).await;
        }

        /// One statement of ours.
        pub(crate) async fn run(&self, statement: &str) -> Result<(), Failure> {
            self.client.batch_execute(statement).await.map_err(|error| Failure::new(FailureKind::Task, words(&error)))
        }

        /// The last result of these statements as text, as psql would show it.
        pub(crate) async fn table(&self, statements: &str) -> Result<SqlTable, SqlError> {
            use tokio_postgres::SimpleQueryMessage as Message;
            let messages = self
                .client
                .simple_query(statements)
                .await
                .map_err(|error| SqlError { code: code(&error), failure: Failure::new(FailureKind::Task, words(&error)) })?;
            let mut table = SqlTable::default();
            for message in messages {
                match message {
                    Message::RowDescription(columns) => {
                        table = SqlTable {
                            columns: columns.iter().map(|column| column.name().to_owned()).collect(),
                            ..SqlTable::default()
                        };
                    }
                    Message::Row(row) => {
                        table.rows.push((0..row.len()).map(|at| row.get(at).map(str::to_owned)).collect());
                    }
                    Message::CommandComplete(count) => table.affected = count,
                    _ => {}
                }
            }
            Ok(table)
        }

        /// [`Self::table`] with the kinds of the columns.
        pub(crate) async fn typed_table(&self, statements: &str) -> Result<SqlTable, Failure> {
            let mut table = self.table(statements).await?;
            if !table.columns.is_empty() {
                table.kinds = self.kinds(statements, &table.columns).await;
            }
            Ok(table)
        }

        /// What the columns of the last result are. The simple protocol tells names alone, so the server is asked to describe
        /// the statement that gave them, which is not run again. Nothing where it cannot be described.
        async fn kinds(&self, statements: &str, columns: &[String]) -> Vec<SqlColumnKind> {
            let Ok(statements) = split(statements) else { return Vec::new() };
            for statement in statements.iter().rev().take(MOST_DESCRIBED) {
                if let Ok(described) = self.client.prepare(statement.text).await
                    && described.columns().iter().map(tokio_postgres::Column::name).eq(columns)
                {
                    return described.columns().iter().map(|column| kind(column.type_())).collect();
                }
            }
            Vec::new()
        }

        /// The first rows of one statement, which a cursor of a read-only transaction reads. It goes by the extended
        /// protocol, in which the server refuses a second statement.
        pub(crate) async fn read_only(&self, statement: &str, most: usize) -> Result<SqlTable, Failure> {
            let failed = |error: tokio_postgres::Error| Failure::new(FailureKind::Task, words(&error));
            self.client.simple_query("BEGIN READ ONLY").await.map_err(failed)?;
            let statement = statement.trim().trim_end_matches(';');
            let declared = self.client.execute(&format!("DECLARE devrun_rows NO SCROLL CURSOR FOR {statement}"), &[]).await;
            declared.map_err(failed)?;
            let table = self.typed_table(&format!("FETCH {most} FROM devrun_rows")).await;
            self.client.simple_query("ROLLBACK").await.map_err(failed)?;
            table
        }

        /// The rows alone.
        pub(crate) async fn texts(&self, statement: &str) -> Result<Vec<Vec<Option<String>>>, Failure> {
            Ok(self.table(statement).await?.rows)
        }

        /// The one number that a query of ours gives.
        pub(crate) async fn number(&self, query: &str) -> Result<i64, Failure> {
            let row = self.client.query_one(query, &[]).await;
            let number = row.and_then(|row| row.try_get::<_, i64>(0));
            number.map_err(|error| Failure::new(FailureKind::Task, words(&error)))
        }

        /// A script, each statement a message of its own.
        pub(crate) async fn run_script(&self, label: &str, script: &str) -> Result<(), Failure> {
            let statements = split(script).map_err(|error| {
                let failure = Failure::new(FailureKind::Task, format!("{label}:{}:{}: {}", error.line, error.column, error.why));
                if error.meta { failure.help("write it as SQL, or call psql from a .sh file") } else { failure }
            })?;
            for statement in statements {
                let result = match statement.copy {
                    None => self.client.batch_execute(statement.text).await,
                    Some(lines) => self.copy(statement.text, lines).await,
                };
                result.map_err(|error| located(label, script, &statement, &error))?;
            }
            Ok(())
        }

        async fn copy(&self, statement: &str, lines: &str) -> Result<(), tokio_postgres::Error> {
            let sink = self.client.copy_in::<_, Cursor<Vec<u8>>>(statement).await?;
            let mut sink = std::pin::pin!(sink);
            sink.send(Cursor::new(lines.as_bytes().to_vec())).await?;
            sink.finish().await.map(|_| ())
        }
    }

    /// Statements that are described in search of the one that gave the result.
    const MOST_DESCRIBED: usize = 100;

    fn kind(column: &Type) -> SqlColumnKind {
        match *column {
            Type::BOOL => SqlColumnKind::Boolean,
            Type::INT2 | Type::INT4 | Type::INT8 | Type::OID | Type::FLOAT4 | Type::FLOAT8 | Type::NUMERIC => {
                SqlColumnKind::Number
            }
            Type::JSON | Type::JSONB => SqlColumnKind::Json,
            _ => SqlColumnKind::Text,
        }
    }

    /// The server's SQLSTATE.
    pub(super) fn code(error: &tokio_postgres::Error) -> Option<String> {
        error.code().map(|code| code.code().to_owned())
    }

    /// Whether nothing listens there.
    pub(super) fn is_refused(error: &tokio_postgres::Error) -> bool {
        let mut source = std::error::Error::source(error);
        while let Some(cause) = source {
            if let Some(error) = cause.downcast_ref::<std::io::Error>() {
                return error.kind() == std::io::ErrorKind::ConnectionRefused;
            }
            source = cause.source();
        }
        false
    }

    fn located(label: &str, script: &str, statement: &SqlStatement<'_>, error: &tokio_postgres::Error) -> Failure {
        let database = error.as_db_error();
        let place = match database.and_then(|error| error.position()) {
            Some(ErrorPosition::Original(position)) => {
                let (line, column) = statement.place_of(script, usize::try_from(*position).unwrap_or(usize::MAX));
                format!("{line}:{column}")
            }
            // A position in a text that the server made itself, as of a function, is none in the script.
            Some(ErrorPosition::Internal { .. }) | None => statement.line.to_string(),
        };
        let failure = Failure::new(FailureKind::Task, format!("{label}:{place}: {}", words(error)));
        match database.and_then(|error| error.hint()) {
            Some(hint) => failure.help(hint),
            None => failure,
        }
    }

    /// The server's own words, or the driver's.
    pub(super) fn words(error: &tokio_postgres::Error) -> String {
        match error.as_db_error() {
            Some(error) => {
                let detail = error.detail().map(|detail| format!("; {detail}")).unwrap_or_default();
                let place = error.where_().map(|place| format!("; {}", place.replace('\n', ", "))).unwrap_or_default();
                format!("{}: {} ({}){detail}{place}", error.severity(), error.message(), error.code().code())
            }
            None => {
                let mut text = error.to_string();
                let mut source = std::error::Error::source(error);
                while let Some(cause) = source {
                    let cause_text = cause.to_string();
                    if !text.contains(&cause_text) {
                        text = format!("{text}: {cause_text}");
                    }
                    source = cause.source();
                }
                text
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write as _;

    #[test]
    fn scripts_are_read_plain_and_packed() {
        let folder = tempfile::tempdir().unwrap();
        let plain = folder.path().join("a.sql");
        std::fs::write(&plain, "SELECT 'ä';").unwrap();
        assert_eq!(read_script(&plain).unwrap(), "SELECT 'ä';");
        let packed = folder.path().join("b.sql.gz");
        let mut encoder = flate2::write::GzEncoder::new(std::fs::File::create(&packed).unwrap(), flate2::Compression::fast());
        encoder.write_all(b"SELECT 2;").unwrap();
        encoder.finish().unwrap();
        assert_eq!(read_script(&packed).unwrap(), "SELECT 2;");
        std::fs::write(&packed, b"no gzip").unwrap();
        assert!(read_script(&packed).unwrap_err().reason.contains("b.sql.gz"));
        std::fs::write(&plain, b"SELECT 1;\nSELECT '\xff';").unwrap();
        assert!(read_script(&plain).unwrap_err().reason.ends_with("a.sql:2:9: it is not UTF-8"));
    }

    #[test]
    fn quoting() {
        assert_eq!(quoted_name("a\"b"), "\"a\"\"b\"");
        assert_eq!(quoted_text("#Thaw'Zin2k77!\\"), "'#Thaw''Zin2k77!\\'");
    }
}
