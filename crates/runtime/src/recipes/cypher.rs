//! Cypher against a Neo4j server: scripts split into statements, the `cypher` of tasks, and the console's questions.

use std::path::{Path, PathBuf};
use std::time::Duration;

pub use super::bolt::CypherRows;
use super::bolt::{BoltError, BoltSession, BoltTarget};
use super::not_running::not_running;
use super::sql_split::place_in;
use devrun_model::{Failure, FailureKind, ServiceSpec};

/// A task's first statement is repeated this long while the server starts up.
const PATIENCE: Duration = Duration::from_secs(90);
/// A private server has its machine's whole load to start under, and nobody else who waits for it.
const PRIVATE: Duration = Duration::from_secs(280);

/// Runs a task's files, each statement in a transaction of its own.
///
/// # Errors
/// `Task` with file, line and the server's words, `Credentials` when the login is refused.
pub(super) async fn work(on: &ServiceSpec, files: &[PathBuf]) -> Result<(), Failure> {
    let target = target(on)?;
    let mut scripts = Vec::new();
    for file in files {
        scripts.push((file.as_path(), read(file)?));
    }
    for (file, text) in &scripts {
        let label = file.display().to_string();
        let statements = split(text).map_err(|(line, why)| {
            Failure::new(FailureKind::Task, format!("{label}:{line}: {why}"))
                .help("a file holds Cypher statements, each ended by ;")
        })?;
        let mut session = patient(&target, PATIENCE).await?;
        for statement in statements {
            run_patiently(&mut session, &target, statement.text)
                .await
                .map_err(|error| failure(&target, &format!("{label}:{}", statement.place(text, &error)), &error))?;
        }
        session.close().await;
    }
    Ok(())
}

/// Runs the statements of `devrun cypher` and gives all their rows.
///
/// # Errors
/// `Query` with the server's words, `Elsewhere` when it is not up, `Credentials` when the login is refused, `Config` for text that
/// cannot be split.
pub async fn query(on: &ServiceSpec, text: &str) -> Result<Vec<CypherRows>, Failure> {
    let target = target(on)?;
    let statements = split(text).map_err(|(line, why)| {
        Failure::new(FailureKind::Config, format!("line {line}: {why}")).help("devrun cypher 'MATCH (n) RETURN n'")
    })?;
    let mut session = BoltSession::open(&target).await.map_err(|error| match &error {
        BoltError::Connection(cause) if cause.kind() == std::io::ErrorKind::ConnectionRefused => {
            not_running(on, &target.host, target.port)
        }
        _ => failure(&target, "login", &error),
    })?;
    let mut all = Vec::new();
    for CypherStatement { text, line, .. } in statements {
        let rows = session.run(text).await.map_err(|error| match error {
            BoltError::Server { .. } if !error.is_login() => {
                Failure::new(FailureKind::Query, format!("{}: line {line}: {error}", on.id))
            }
            _ => failure(&target, &format!("line {line}"), &error),
        });
        all.push(rows?);
    }
    session.close().await;
    Ok(all)
}

/// Gives a running server the password of `new`.
///
/// # Errors
/// `Credentials` when the old one is not taken, `Task` when the new one is not.
pub(super) async fn rotate_password(old: &ServiceSpec, new: &ServiceSpec) -> Result<(), Failure> {
    let target = BoltTarget { database: Some("system".to_owned()), ..target(old)? };
    let password = new.attributes.get("password").cloned().unwrap_or_default();
    let mut session = BoltSession::open(&target).await.map_err(|error| failure(&target, "login", &error))?;
    // As values, so that the password stands in no text that a server may log.
    let values = [("old", target.password.clone()), ("new", password)];
    let values = values.into_iter().map(|(name, value)| (name.to_owned(), value.into())).collect();
    let altered = session.run_with("ALTER CURRENT USER SET PASSWORD FROM $old TO $new", values).await;
    session.close().await;
    altered.map(drop).map_err(|error| failure(&target, "the new password", &error))
}

/// The same for a server that may have it already, and that is still starting up.
///
/// # Errors
/// As [`rotate_password`].
pub(super) async fn bring_to(old: &ServiceSpec, new: &ServiceSpec) -> Result<(), Failure> {
    match patient(&target(new)?, PRIVATE).await {
        Ok(session) => {
            session.close().await;
            Ok(())
        }
        Err(refused) if refused.kind == FailureKind::Credentials => rotate_password(old, new).await,
        Err(failure) => Err(failure),
    }
}

fn target(on: &ServiceSpec) -> Result<BoltTarget, Failure> {
    Ok(BoltTarget {
        host: on.attribute("host").unwrap_or_else(|| on.bind.clone()),
        port: on.port().ok_or_else(|| Failure::new(FailureKind::Task, format!("{} has no port", on.id)))?,
        user: on.attribute("user").unwrap_or_else(|| "neo4j".to_owned()),
        password: on.attribute("password").unwrap_or_default(),
        database: on.attribute("database"),
    })
}

/// Logs in, waiting for a server that is still starting up.
async fn patient(target: &BoltTarget, patience: Duration) -> Result<BoltSession, Failure> {
    let began = tokio::time::Instant::now();
    loop {
        match BoltSession::open(target).await {
            Ok(session) => return Ok(session),
            Err(error) if error.is_passing() && began.elapsed() < patience => {}
            Err(error) => return Err(failure(target, "login", &error)),
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

/// A statement that the server turned down for a passing reason was rolled back, and may simply be run again. One whose
/// connection broke may have been carried out, and is not.
async fn run_patiently(session: &mut BoltSession, target: &BoltTarget, text: &str) -> Result<(), BoltError> {
    let began = tokio::time::Instant::now();
    loop {
        match session.run(text).await {
            Ok(_) => return Ok(()),
            Err(error @ BoltError::Server { .. }) if error.is_passing() && began.elapsed() < PATIENCE => {}
            Err(error) => return Err(error),
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
        *session = BoltSession::open(target).await?;
    }
}

fn failure(target: &BoltTarget, label: &str, error: &BoltError) -> Failure {
    if error.is_login() {
        return Failure::new(
            FailureKind::Credentials,
            format!("neo4j at {}:{} refuses the login: {error}", target.host, target.port),
        )
        .help("the data was made with another password: put the old secret back, or start over without the data");
    }
    Failure::new(FailureKind::Task, format!("{label}: {error}"))
}

fn read(path: &Path) -> Result<String, Failure> {
    let failed = |why: String| Failure::new(FailureKind::Task, format!("{}: {why}", path.display()));
    let text = String::from_utf8(devrun_keeper::regular_file::read_linked(path).map_err(|error| failed(error.to_string()))?)
        .map_err(|_| failed("it is not UTF-8".to_owned()))?;
    Ok(text.strip_prefix('\u{feff}').map(str::to_owned).unwrap_or(text))
}

/// A statement without its semicolon.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct CypherStatement<'a> {
    text: &'a str,
    /// Of its first word, from 1.
    line: usize,
    /// Where its first word begins, in bytes.
    at: usize,
}

impl CypherStatement<'_> {
    /// Line, and column where the server gives a position, in the script.
    fn place(&self, script: &str, error: &BoltError) -> String {
        let BoltError::Server { message, .. } = error else { return self.line.to_string() };
        let Some((line, column)) = position(message) else { return self.line.to_string() };
        let first = place_in(script, self.at).1;
        format!("{}:{}", self.line + line - 1, if line == 1 { first + column - 1 } else { column })
    }
}

/// The position in a statement at the end of the server's words: `… (line 1, column 10 (offset: 9))`, both from 1.
fn position(message: &str) -> Option<(usize, usize)> {
    let (_, found) = message.rsplit_once("(line ")?;
    let (line, found) = found.split_once(", column ")?;
    let (column, _) = found.split_once(" (offset: ")?;
    Some((line.parse().ok().filter(|line| *line > 0)?, column.parse().ok().filter(|column| *column > 0)?))
}

/// Splits at semicolons outside of strings, names and comments.
fn split(script: &str) -> Result<Vec<CypherStatement<'_>>, (usize, String)> {
    let bytes = script.as_bytes();
    // Counted from the last place that was asked for: a script has many statements.
    let counted = std::cell::Cell::new((0, 1));
    let line_at = |at: usize| {
        let (from, line) = Some(counted.get()).filter(|(from, _)| *from <= at).unwrap_or((0, 1));
        let line: usize = line + bytes[from..at].iter().filter(|byte| **byte == b'\n').count();
        counted.set((at, line));
        line
    };
    let mut statements = Vec::new();
    let (mut at, mut from) = (0, None);
    while at < bytes.len() {
        match bytes[at] {
            quote @ (b'\'' | b'"' | b'`') => {
                from.get_or_insert(at);
                let opened = at;
                at += 1;
                while at < bytes.len() && bytes[at] != quote {
                    // A name has no escapes; a doubled quote in it is two names side by side, which ends the same.
                    at += if bytes[at] == b'\\' && quote != b'`' { 2 } else { 1 };
                }
                if at >= bytes.len() {
                    return Err((line_at(opened), format!("a {} is never closed", char::from(quote))));
                }
            }
            b'/' if bytes.get(at + 1) == Some(&b'/') => {
                while at < bytes.len() && bytes[at] != b'\n' {
                    at += 1;
                }
                continue;
            }
            b'/' if bytes.get(at + 1) == Some(&b'*') => {
                let Some(end) = script[at + 2..].find("*/") else {
                    return Err((line_at(at), "a comment is never closed".to_owned()));
                };
                at += 2 + end + 2;
                continue;
            }
            b';' => {
                if let Some(start) = from.take() {
                    statements.push(CypherStatement { text: script[start..at].trim_end(), line: line_at(start), at: start });
                }
            }
            b':' if from.is_none() => {
                let line = script[at..].lines().next().unwrap_or_default();
                return Err((line_at(at), format!("{line:?} is a command of cypher-shell")));
            }
            byte if byte.is_ascii_whitespace() => {}
            _ => {
                from.get_or_insert(at);
            }
        }
        at += 1;
    }
    if let Some(start) = from {
        statements.push(CypherStatement { text: script[start..].trim_end(), line: line_at(start), at: start });
    }
    Ok(statements)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statements_and_their_lines() {
        let script =
            "// first; one\nCREATE (a:A {x: 'a;b', y: \"c\\\";\"});\n\n/* ; */ MATCH (`odd;name`)\nRETURN 1; ; RETURN 'ä' // end";
        let found = split(script).unwrap();
        let shown: Vec<_> = found.iter().map(|one| (one.line, one.text)).collect();
        assert_eq!(
            shown,
            [(2, "CREATE (a:A {x: 'a;b', y: \"c\\\";\"})"), (4, "MATCH (`odd;name`)\nRETURN 1"), (5, "RETURN 'ä' // end"),]
        );
        assert!(split("").unwrap().is_empty());
        assert!(split(" ;; // x").unwrap().is_empty());
    }

    #[test]
    fn a_position_of_the_server_has_its_place_in_the_script() {
        let script = "RETURN 'ä'; MATCH (n)\n  RETRUN n;";
        let statements = split(script).unwrap();
        let refused = |message: &str| BoltError::Server {
            code: "Neo.ClientError.Statement.SyntaxError".to_owned(),
            message: message.to_owned(),
        };
        for (message, place) in [
            ("Invalid input 'RETRUN': expected \"RETURN\" (line 2, column 3 (offset: 12)) \"  RETRUN n\"    ^", "2:3"),
            ("Variable `m` not defined (line 1, column 8 (offset: 7))", "1:20"),
            ("There is no such thing (line 0, column 0 (offset: 0))", "1"),
            ("Node(0) already exists", "1"),
        ] {
            assert_eq!(statements[1].place(script, &refused(message)), place, "{message}");
        }
    }

    #[test]
    fn what_cannot_be_split_names_its_line() {
        assert_eq!(split("RETURN 1;\nRETURN 'x").unwrap_err().0, 2);
        assert_eq!(split("RETURN 1;\n:use other\n").unwrap_err().0, 2);
        assert_eq!(split("/* x").unwrap_err().0, 1);
    }
}
