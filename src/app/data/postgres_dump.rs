//! `pg_dump` and `pg_restore` of a server that runs.
//!
//! A dump is loaded into a new database next to the old one. When it is whole, both get their new names in one transaction: at
//! every moment there is one database of that name, the old one or the new one.

use std::fs::File;
use std::io::Read as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use devrun_data::{BackupFormat, nonce};
use devrun_model::{Failure, FailureKind, ServiceSpec};
use devrun_runtime::recipes;
use devrun_store::{Program, major};

use crate::app::client_program::{self, PostgresWork};
use crate::app::data::dump_program::DumpProgram;
use crate::app::data::interruptible_work::DataWork;
use crate::app::load::{self, Project};
use crate::ui::term::{Term, say};

/// How long sessions are ended before a database gets another name.
const PATIENCE: Duration = Duration::from_secs(30);

/// `pg_dump` writes a setting into each dump that servers before this version refuse.
const TRANSACTION_TIMEOUT: (u32, &str) = (17, "SET transaction_timeout = 0;");
/// What is read of a dump as SQL text to learn what it needs. Its settings are within the first kilobyte.
const HEAD: usize = 4096;

/// A login that failed, for a command that needs the server.
pub fn not_running(spec: &ServiceSpec, failure: Failure) -> Failure {
    if failure.kind == FailureKind::Credentials {
        return failure;
    }
    Failure::new(FailureKind::Elsewhere, format!("{} is not running: {}", spec.service, failure.reason))
        .help(format!("devrun up -d {}", spec.service))
}

/// The version that the server reports.
///
/// # Errors
/// `Elsewhere` when it does not run, `Credentials` when it refuses the login.
pub async fn server_version(spec: &ServiceSpec) -> Result<String, Failure> {
    let answer = recipes::ask_sql(spec, "SHOW server_version").await.map_err(|error| not_running(spec, error.into()))?;
    let version = answer.rows.into_iter().next().and_then(|row| row.into_iter().next().flatten()).unwrap_or_default();
    Ok(version.split_whitespace().next().unwrap_or_default().to_owned())
}

fn client(spec: &ServiceSpec, program: &Program, database: &str) -> Command {
    let mut command = Command::new(&program.path);
    let outer = load::environment().into_iter().filter(|(name, _)| !name.starts_with("PG"));
    // Its words are read, and shown as they are.
    command.env_clear().envs(outer).env("LC_MESSAGES", "C").env_remove("LC_ALL").envs(&program.env).stdin(Stdio::null());
    let password = spec.attribute("password");
    command.envs(password.map(|password| ("PGPASSWORD", password)));
    let host = spec.attribute("host").unwrap_or_else(|| spec.bind.clone());
    command.args(["--host", &host, "--no-password", "--dbname"]).arg(quoted_connection(database));
    command.args(["--username", &user(spec), "--port", &spec.port().unwrap_or(5432).to_string()]);
    command
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

/// A dump that is to be written.
pub struct Dump<'a> {
    spec: &'a ServiceSpec,
    program: Program,
}

impl<'a> Dump<'a> {
    /// Finds a `pg_dump` for this version of the server.
    ///
    /// # Errors
    /// `Binary` without one.
    pub fn find(project: &Project, spec: &'a ServiceSpec, server: &str, work: &DataWork, term: Term) -> Result<Self, Failure> {
        let wanted = PostgresWork::Dump { server: server.to_owned() };
        let program = work.runtime.block_on(client_program::find_postgres(project, spec, &wanted, term))?;
        Ok(Self { spec, program })
    }

    /// The version of the `pg_dump`.
    #[must_use]
    pub fn version(&self) -> &str {
        &self.program.version
    }

    /// Writes it into an open file, in custom format or as SQL text.
    ///
    /// # Errors
    /// `Task` with the words of `pg_dump`, `Cancelled`.
    pub fn write(
        &self,
        plain: bool,
        file: &mut File,
        path: &Path,
        work: &DataWork,
        progress: &dyn Fn(u64),
    ) -> Result<(), Failure> {
        let mut command = client(self.spec, &self.program, &database(self.spec));
        let format = if plain { "plain" } else { "custom" };
        let program = DumpProgram::start(command.args(["--format", format]).stdout(Stdio::piped()), "pg_dump")?;
        program.save(file, path, &work.cancel, progress)
    }
}

/// A dump that is to be loaded.
pub struct Load<'a> {
    spec: &'a ServiceSpec,
    file: &'a Path,
    program: Program,
    is_text: bool,
    /// Whether the dump sets what the server does not know.
    has_unknown_setting: bool,
}

impl<'a> Load<'a> {
    /// Finds the program that reads it: `pg_restore`, or `psql` for SQL text. `made_by`: the version of the `pg_dump`.
    ///
    /// # Errors
    /// `Binary` without one, `Config` for a file that cannot be read.
    pub fn find(
        project: &Project,
        spec: &'a ServiceSpec,
        (file, format, made_by): (&'a Path, BackupFormat, &str),
        server: &str,
        work: &DataWork,
        term: Term,
    ) -> Result<Self, Failure> {
        let is_text = format == BackupFormat::PostgresPlain;
        let head = if is_text { head(file)? } else { String::new() };
        let wanted = if is_text {
            let restricted = head.lines().any(|line| line.starts_with("\\restrict "));
            PostgresWork::LoadText { server: server.to_owned(), restricted }
        } else {
            PostgresWork::LoadArchive { made_by: made_by.to_owned() }
        };
        let program = work.runtime.block_on(client_program::find_postgres(project, spec, &wanted, term))?;
        let (since, setting) = TRANSACTION_TIMEOUT;
        let sets = if is_text { head.lines().any(|line| line == setting) } else { major(&program.version) >= since };
        Ok(Self { spec, file, program, is_text, has_unknown_setting: sets && major(server) < since })
    }

    /// Loads the dump in the place of the database.
    ///
    /// # Errors
    /// `Task` with the words of `pg_restore`; the old database is in place then.
    pub fn replace(&self, work: &DataWork) -> Result<(), Failure> {
        let name = database(self.spec);
        let server = elsewhere(self.spec, &name);
        let ask = |sql: String| work.runtime.block_on(recipes::ask_sql(&server, &sql)).map_err(Failure::from);
        drop_leftovers(&name, &ask)?;
        let stage = format!("{}.restore-{}", short(&name), nonce()?);
        let loaded = ask(create(&name, &stage, &ask)?).map(drop).and_then(|()| match self.run(&stage, true, work) {
            Err(failure) if failure.reason.contains("role") && failure.reason.contains("does not exist") => {
                say(format!("{}; loading it again without owners: everything belongs to {}", failure.reason, user(self.spec)));
                ask(format!("DROP DATABASE IF EXISTS {}", quoted(&stage)))?;
                ask(create(&name, &stage, &ask)?)?;
                self.run(&stage, false, work)
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

    /// Loads the dump into a database that is there.
    ///
    /// # Errors
    /// `Task` with the words of the program, `Cancelled`.
    pub fn run(&self, stage: &str, owners: bool, work: &DataWork) -> Result<(), Failure> {
        let name = if self.is_text { "psql" } else { "pg_restore" };
        let mut command = client(self.spec, &self.program, stage);
        command.stdout(Stdio::null());
        if self.is_text {
            command.args(["--no-psqlrc", "--quiet", "--single-transaction", "--set", "ON_ERROR_STOP=1", "--file"]);
            if !self.has_unknown_setting {
                return DumpProgram::start(command.arg(self.file), name)?.finish(&work.cancel);
            }
            let mut program = DumpProgram::start(command.arg("-").stdin(Stdio::piped()), name)?;
            program.feed(without_setting(self.file)?);
            return program.finish(&work.cancel);
        }
        if !owners {
            command.args(["--no-owner", "--no-privileges"]);
        }
        if !self.has_unknown_setting {
            return DumpProgram::start(command.arg("--exit-on-error").arg(self.file), name)?.finish(&work.cancel);
        }
        // It writes the setting itself, whatever the archive says, so that one failure is expected.
        DumpProgram::start(command.arg(self.file), name)?.finish_with(&work.cancel, is_unknown_setting_only)
    }
}

/// Whether `pg_restore` has failed at nothing but the setting.
fn is_unknown_setting_only(words: &str) -> bool {
    let errors: Vec<&str> = words.lines().filter(|line| line.starts_with("pg_restore: error:")).collect();
    let one = matches!(errors.as_slice(), [only] if only.contains("\"transaction_timeout\""));
    one && words.lines().any(|line| line.trim_end() == "pg_restore: warning: errors ignored on restore: 1")
}

fn head(file: &Path) -> Result<String, Failure> {
    let mut bytes = Vec::new();
    File::open(file)
        .and_then(|file| file.take(HEAD as u64).read_to_end(&mut bytes))
        .map_err(|error| Failure::new(FailureKind::Config, format!("cannot read {}: {error}", file.display())))?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// A dump as SQL text with the setting taken out of its head.
fn without_setting(file: &Path) -> Result<impl std::io::Read + Send + use<>, Failure> {
    let failed = |error: std::io::Error| Failure::new(FailureKind::Task, format!("cannot read {}: {error}", file.display()));
    let mut source = File::open(file).map_err(failed)?;
    let mut head = vec![0; HEAD];
    let mut length = 0;
    while let count @ 1.. = source.read(&mut head[length..]).map_err(failed)? {
        length += count;
    }
    head.truncate(length);
    let line = format!("\n{}\n", TRANSACTION_TIMEOUT.1);
    if let Some(at) = head.windows(line.len()).position(|window| window == line.as_bytes()) {
        head.drain(at + 1..at + line.len());
    }
    Ok(std::io::Cursor::new(head).chain(source))
}

/// Databases of restores that were killed.
fn drop_leftovers(name: &str, ask: &dyn Fn(String) -> Result<recipes::SqlTable, Failure>) -> Result<(), Failure> {
    let stages = literal(&format!("{}.restore-", short(name)));
    let found = ask(format!("SELECT datname FROM pg_database WHERE starts_with(datname, {stages})"))?;
    for left in found.rows.into_iter().flatten().flatten() {
        ask(format!("DROP DATABASE IF EXISTS {} WITH (FORCE)", quoted(&left)))?;
    }
    let before = format!("{}.before-restore", short(name));
    ask(format!("DROP DATABASE IF EXISTS {} WITH (FORCE)", quoted(&before))).map(drop)
}

/// Refuses what makes databases where the service's login may not: that of a shared server, or of an external one.
///
/// # Errors
/// `Config`; as the server says.
pub async fn check_may_create(spec: &ServiceSpec, command: &str) -> Result<(), Failure> {
    let name = spec.attribute("database").unwrap_or_default();
    let query = "SELECT (rolcreatedb OR rolsuper)::text FROM pg_roles WHERE rolname = current_user";
    let found = recipes::ask_sql(&elsewhere(spec, &name), query).await?;
    if found.rows.into_iter().flatten().flatten().any(|text| text == "true") {
        return Ok(());
    }
    let reason = format!("{command} makes a database, and the login {} of {} may not", user(spec), spec.service);
    Err(Failure::new(FailureKind::Config, reason).help(format!(
        "with `scope = \"user\"`, remove it: [services.{}] gets a server of its own; elsewhere: ALTER ROLE … CREATEDB",
        spec.service
    )))
}

/// The statement that makes a database like the present one, with nothing in it.
///
/// # Errors
/// As the server says.
pub fn create(name: &str, stage: &str, ask: &dyn Fn(String) -> Result<recipes::SqlTable, Failure>) -> Result<String, Failure> {
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
                // A session came between a look and the lock.
                Err(error) if error.is_in_use() => {}
                done => break done.map(drop).map_err(Failure::from),
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
    fn a_dump_is_loaded_into_a_server_that_lacks_a_setting() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("x.sql");
        let rest = "x".repeat(3 * HEAD);
        let text = format!(
            "--\n\\restrict abc\n\nSET lock_timeout = 0;\nSET transaction_timeout = 0;\nSET row_security = off;\n{rest}\nSET transaction_timeout = 0;\n"
        );
        std::fs::write(&file, &text).unwrap();
        let mut read = String::new();
        without_setting(&file).unwrap().read_to_string(&mut read).unwrap();
        assert_eq!(read, text.replacen("SET transaction_timeout = 0;\n", "", 1));
        std::fs::write(&file, "short").unwrap();
        let mut read = String::new();
        without_setting(&file).unwrap().read_to_string(&mut read).unwrap();
        assert_eq!(read, "short");
        let expected = "pg_restore: error: could not execute query: ERROR:  unrecognized configuration parameter \"transaction_timeout\"\nCommand was: SET transaction_timeout = 0;\npg_restore: warning: errors ignored on restore: 1\n";
        assert!(is_unknown_setting_only(expected));
        let more = expected.replace(": 1\n", ": 2\n");
        assert!(!is_unknown_setting_only(&more));
        assert!(!is_unknown_setting_only(&format!("pg_restore: error: could not execute query: ERROR:  x\n{expected}")));
        assert!(!is_unknown_setting_only("pg_restore: error: could not open input file\n"));
    }

    #[test]
    fn names_survive_quoting_and_leave_room() {
        assert_eq!(quoted_connection("a=b'c\\"), "dbname='a=b\\'c\\\\'");
        assert_eq!(quoted("a\"b"), "\"a\"\"b\"");
        assert_eq!(literal("o'clock"), "'o''clock'");
        assert_eq!(short("app"), "app");
        assert!(format!("{}.restore-0123456789abcdef", short(&"ä".repeat(31))).len() <= 63);
    }
}
