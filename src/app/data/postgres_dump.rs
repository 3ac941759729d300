//! `pg_dump` and `pg_restore` of a server that runs.
//!
//! A dump is loaded into a new database next to the old one. When it is whole, both get their new names in one transaction: at
//! every moment there is one database of that name, the old one or the new one.

use std::fs::File;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use devrun_data::{BackupFormat, nonce};
use devrun_model::{Failure, FailureKind, ServiceSpec};
use devrun_runtime::recipes;

use crate::app::client_program;
use crate::app::data::dump_program::DumpProgram;
use crate::app::data::interruptible_work::DataWork;
use crate::app::load::{self, Project};
use crate::ui::term::say;

/// How long sessions are ended before a database gets another name.
const PATIENCE: Duration = Duration::from_secs(30);

/// A dump of a service's database.
pub struct Dump<'a> {
    /// Where.
    pub project: &'a Project,
    /// The server.
    pub spec: &'a ServiceSpec,
    /// SQL text instead of the custom format.
    pub plain: bool,
}

/// The version that the server reports.
///
/// # Errors
/// `Elsewhere` when it does not run, `Credentials` when it refuses the login.
pub async fn server_version(spec: &ServiceSpec) -> Result<String, Failure> {
    let answer = recipes::ask_sql(spec, "SHOW server_version").await.map_err(|failure| match failure.kind {
        FailureKind::Credentials => failure,
        _ => Failure::new(FailureKind::Elsewhere, format!("{} is not running: {}", spec.service, failure.reason))
            .help(format!("devrun up -d {}", spec.service)),
    })?;
    let version = answer.rows.into_iter().next().and_then(|row| row.into_iter().next().flatten()).unwrap_or_default();
    Ok(version.split_whitespace().next().unwrap_or_default().to_owned())
}

fn client(project: &Project, spec: &ServiceSpec, name: &str, database: &str, work: &DataWork) -> Result<Command, Failure> {
    let (program, extra) = work.runtime.block_on(client_program::find(project, spec, name))?;
    let mut command = Command::new(program);
    let outer = load::environment().into_iter().filter(|(name, _)| !name.starts_with("PG"));
    command.env_clear().envs(outer).envs(extra).stdin(Stdio::null());
    let password = spec.attribute("password");
    command.envs(password.map(|password| ("PGPASSWORD", password)));
    let host = spec.attribute("host").unwrap_or_else(|| spec.bind.clone());
    command.args(["--host", &host, "--no-password", "--dbname"]).arg(quoted_connection(database));
    command.args(["--username", &user(spec), "--port", &spec.port().unwrap_or(5432).to_string()]);
    Ok(command)
}

fn user(spec: &ServiceSpec) -> String {
    spec.attribute("user").unwrap_or_else(|| "postgres".to_owned())
}

fn database(spec: &ServiceSpec) -> String {
    spec.attribute("database").unwrap_or_else(|| user(spec))
}

/// A name with `=` in it would be read as a connection string, so it is always written as one.
fn quoted_connection(database: &str) -> String {
    format!("dbname='{}'", database.replace('\\', "\\\\").replace('\'', "\\'"))
}

impl Dump<'_> {
    /// Writes it into an open file.
    ///
    /// # Errors
    /// `Binary` without a `pg_dump`, `Task` with its words, `Cancelled`.
    pub fn write(&self, file: &mut File, path: &Path, work: &DataWork, progress: &dyn Fn(u64)) -> Result<(), Failure> {
        let mut command = client(self.project, self.spec, "pg_dump", &database(self.spec), work)?;
        let format = if self.plain { "plain" } else { "custom" };
        let program = DumpProgram::start(command.args(["--format", format]).stdout(Stdio::piped()), "pg_dump")?;
        program.save(file, path, &work.cancel, progress)
    }

    /// Loads a dump in the place of the database.
    ///
    /// # Errors
    /// `Task` with the words of `pg_restore`; the old database is in place then.
    pub fn load(&self, file: &Path, format: BackupFormat, work: &DataWork) -> Result<(), Failure> {
        let name = database(self.spec);
        let ask = |sql: String| work.runtime.block_on(async { recipes::ask_sql(&elsewhere(self.spec, &name), &sql).await });
        self.drop_leftovers(&name, &ask)?;
        let stage = format!("{}.restore-{}", short(&name), nonce()?);
        let loaded =
            ask(self.create(&name, &stage, &ask)?).map(drop).and_then(|()| match self.run(file, format, &stage, true, work) {
                Err(failure) if failure.reason.contains("role") && failure.reason.contains("does not exist") => {
                    say(format!(
                        "{}; loading it again without owners: everything belongs to {}",
                        failure.reason,
                        user(self.spec)
                    ));
                    ask(format!("DROP DATABASE IF EXISTS {}", quoted(&stage)))?;
                    ask(self.create(&name, &stage, &ask)?)?;
                    self.run(file, format, &stage, false, work)
                }
                done => done,
            });
        if let Err(failure) = loaded {
            // What stays is removed by the next restore.
            let _ = ask(format!("DROP DATABASE IF EXISTS {} WITH (FORCE)", quoted(&stage)));
            return Err(failure);
        }
        let before = format!("{}.before-restore", short(&name));
        if let Err(failure) = work.runtime.block_on(exchange(self.spec, &name, &stage, &before)) {
            let _ = ask(format!("DROP DATABASE IF EXISTS {} WITH (FORCE)", quoted(&stage)));
            return Err(failure);
        }
        ask(format!("DROP DATABASE IF EXISTS {} WITH (FORCE)", quoted(&before))).map(drop)
    }

    /// Databases of restores that were killed.
    fn drop_leftovers(&self, name: &str, ask: &dyn Fn(String) -> Result<recipes::SqlTable, Failure>) -> Result<(), Failure> {
        let stages = literal(&format!("{}.restore-", short(name)));
        let found = ask(format!("SELECT datname FROM pg_database WHERE starts_with(datname, {stages})"))?;
        for left in found.rows.into_iter().flatten().flatten() {
            ask(format!("DROP DATABASE IF EXISTS {} WITH (FORCE)", quoted(&left)))?;
        }
        let before = format!("{}.before-restore", short(name));
        ask(format!("DROP DATABASE IF EXISTS {} WITH (FORCE)", quoted(&before))).map(drop)
    }

    /// The statement that makes a database like the present one, with nothing in it.
    ///
    /// # Errors
    /// As the server says.
    pub fn create(
        &self,
        name: &str,
        stage: &str,
        ask: &dyn Fn(String) -> Result<recipes::SqlTable, Failure>,
    ) -> Result<String, Failure> {
        let like = ask(format!(
            "SELECT pg_encoding_to_char(encoding), datcollate, datctype, pg_get_userbyid(datdba) FROM pg_database WHERE datname = {}",
            literal(name)
        ))?;
        let row = like.rows.into_iter().next().unwrap_or_default();
        let value = |at: usize| row.get(at).cloned().flatten().unwrap_or_default();
        Ok(format!(
            "CREATE DATABASE {} TEMPLATE template0 ENCODING {} LC_COLLATE {} LC_CTYPE {} OWNER {}",
            quoted(stage),
            literal(&value(0)),
            literal(&value(1)),
            literal(&value(2)),
            quoted(&value(3)),
        ))
    }

    /// Loads a dump into a database that is there.
    ///
    /// # Errors
    /// `Binary` without the client, `Task` with its words, `Cancelled`.
    pub fn run(&self, file: &Path, format: BackupFormat, stage: &str, owners: bool, work: &DataWork) -> Result<(), Failure> {
        let name = if format == BackupFormat::PostgresPlain { "psql" } else { "pg_restore" };
        let mut command = client(self.project, self.spec, name, stage, work)?;
        command.stdout(Stdio::null());
        if format == BackupFormat::PostgresPlain {
            command.args(["--no-psqlrc", "--quiet", "--single-transaction", "--set", "ON_ERROR_STOP=1", "--file"]).arg(file);
        } else {
            command.arg("--exit-on-error");
            if !owners {
                command.args(["--no-owner", "--no-privileges"]);
            }
            command.arg(file);
        }
        DumpProgram::start(&mut command, name)?.finish(&work.cancel)
    }
}

/// Both names in one transaction. The first rename holds the database's lock from its beginning, so new logins wait for it,
/// and waits some seconds for the sessions that are there, which another session ends meanwhile. Nothing has to be put back
/// after a kill at any point.
async fn exchange(spec: &ServiceSpec, name: &str, stage: &str, before: &str) -> Result<(), Failure> {
    let server = elsewhere(spec, name);
    let (name_q, stage_q, before_q) = (quoted(name), quoted(stage), quoted(before));
    let end = format!(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = {} AND pid <> pg_backend_pid()",
        literal(name)
    );
    let both =
        format!("BEGIN; ALTER DATABASE {name_q} RENAME TO {before_q}; ALTER DATABASE {stage_q} RENAME TO {name_q}; COMMIT");
    let begun = tokio::time::Instant::now();
    let ending = async {
        while begun.elapsed() < PATIENCE {
            // One that fails is tried again; the rename says how it went.
            let _ = recipes::ask_sql(&server, &end).await;
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    let renaming = async {
        loop {
            match recipes::ask_sql(&server, &both).await {
                // A session came between a look and the lock (object_in_use).
                Err(failure) if failure.reason.contains("55006") => {}
                done => break done.map(drop),
            }
        }
    };
    tokio::select! {
        done = renaming => done,
        () = ending => Err(Failure::new(FailureKind::Task, format!("the connections to the database {name} could not be closed"))
            .help("stop what is connected to it, then try again")),
    }
}

/// The server, with a login to a database that is not replaced.
#[must_use]
pub fn elsewhere(spec: &ServiceSpec, name: &str) -> ServiceSpec {
    let mut other = spec.clone();
    let maintenance = if name == "postgres" { "template1" } else { "postgres" };
    other.attributes.insert("database".to_owned(), maintenance.to_owned());
    other
}

/// Room for an addition: the server cuts names at 63 bytes.
fn short(name: &str) -> &str {
    let mut end = name.len().min(38);
    while !name.is_char_boundary(end) {
        end -= 1;
    }
    name.get(..end).unwrap_or(name)
}

/// A name in SQL.
#[must_use]
pub fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// A text in SQL.
#[must_use]
pub fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_survive_quoting_and_leave_room() {
        assert_eq!(quoted_connection("a=b'c\\"), "dbname='a=b\\'c\\\\'");
        assert_eq!(quoted("a\"b"), "\"a\"\"b\"");
        assert_eq!(literal("o'clock"), "'o''clock'");
        assert_eq!(short("app"), "app");
        assert!(format!("{}.restore-0123456789abcdef", short(&"ä".repeat(31))).len() <= 63);
    }
}
