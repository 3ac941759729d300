//! Migrations: files of SQL that are applied once each, in byte order of their names, also to data that is there already.
//!
//! The database itself says what was applied, in a table beside the data it vouches for: a copy, a backup and a wiped
//! volume all tell the truth. A file runs in one transaction with its entry in that table, so it is applied whole or not
//! at all; a file that PostgreSQL allows in no transaction says so in its first line, `-- no-transaction`.

use std::path::{Path, PathBuf};

use crate::init;
use devrun_model::{Failure, FailureKind, VolumeSpec};

/// The table that says what was applied.
#[cfg(feature = "postgres")]
pub(super) const TABLE: &str = "devrun_migrations";
#[cfg(feature = "postgres")]
const ALONE: &str = "-- no-transaction";
/// Any number will do, as long as every devrun takes the same.
#[cfg(feature = "postgres")]
const LOCK: i64 = 0x6465_7672_756e;

/// One file, and what the database knows of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Migration {
    /// Its file name.
    pub name: String,
    /// Where it lies; absent: it was applied, and the file is gone.
    pub path: Option<PathBuf>,
    /// When it was applied (RFC 3339); absent: not yet.
    pub applied: Option<String>,
    /// It was changed since it was applied.
    pub changed: bool,
}

/// The files of a folder in byte order of their names.
///
/// # Errors
/// `Config` when the folder cannot be read.
pub(super) fn list(folder: &Path) -> Result<Vec<PathBuf>, Failure> {
    let failed = |error: std::io::Error| Failure::new(FailureKind::Config, format!("migrations {}: {error}", folder.display()));
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if path.is_file() && !name.starts_with('.') && (name.ends_with(".sql") || name.ends_with(".sql.gz")) {
            files.push(path);
        }
    }
    files.sort_by(|a, b| a.file_name().cmp(&b.file_name()));
    Ok(files)
}

/// A hash over names and contents: the same files need no look into the database.
pub(super) fn hash(folder: &Path) -> Result<String, Failure> {
    Ok(init::hash_inputs(&["migrations".to_owned()], &list(folder)?))
}

/// Next to the engine's folder: the hash of the migrations that were last seen applied at a start.
pub(super) const SEEN: &str = ".devrun-migrations";

/// Whether the last start of the database with this volume has seen to these very files.
///
/// # Errors
/// `Config` when the folder cannot be read.
pub(super) fn are_seen(folder: &Path, volume: &VolumeSpec) -> Result<bool, Failure> {
    let seen = std::fs::read_to_string(volume.path.join("postgres").join(SEEN)).ok();
    Ok(seen == Some(hash(folder)?))
}

#[cfg(feature = "postgres")]
pub(super) use with_driver::{apply, status};

#[cfg(feature = "postgres")]
mod with_driver {
    use super::super::sql::{SqlSession, quoted_text, read_script};
    use super::*;

    /// What the database knows: name, hash, time.
    async fn applied(session: &SqlSession) -> Result<Vec<(String, String, String)>, Failure> {
        let there = session.texts(&format!("SELECT to_regclass('{TABLE}') IS NOT NULL")).await?;
        if there.first().and_then(|row| row.first()).and_then(Option::as_deref) != Some("t") {
            return Ok(Vec::new());
        }
        let rows = session
            .texts(&format!(
                "SELECT name, sha256, to_char(applied AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS\"Z\"') FROM {TABLE} ORDER BY applied, name"
            ))
            .await?;
        let text = |row: &[Option<String>], at: usize| row.get(at).cloned().flatten().unwrap_or_default();
        Ok(rows.iter().map(|row| (text(row, 0), text(row, 1), text(row, 2))).collect())
    }

    /// Every migration, applied or not.
    pub(in super::super) async fn status(session: &SqlSession, folder: &Path) -> Result<Vec<Migration>, Failure> {
        let known = applied(session).await?;
        let mut all = Vec::new();
        for path in list(folder)? {
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let entry = known.iter().find(|(applied, ..)| *applied == name);
            let changed = match entry {
                Some((_, sum, _)) => *sum != of_file(&path)?,
                None => false,
            };
            all.push(Migration { name, path: Some(path), applied: entry.map(|(.., at)| at.clone()), changed });
        }
        for (name, _, at) in known {
            if !all.iter().any(|migration| migration.name == name) {
                all.push(Migration { name, path: None, applied: Some(at), changed: false });
            }
        }
        Ok(all)
    }

    fn of_file(path: &Path) -> Result<String, Failure> {
        init::hash_file(path).map_err(|error| Failure::new(FailureKind::Task, format!("{}: {error}", path.display())))
    }

    /// Applies what is missing; the names.
    pub(in super::super) async fn apply(session: &SqlSession, folder: &Path) -> Result<Vec<String>, Failure> {
        // Two supervisors of one external server would otherwise apply the same file twice.
        session.run(&format!("SELECT pg_advisory_lock({LOCK})")).await?;
        let result = apply_locked(session, folder).await;
        let unlocked = session.run(&format!("SELECT pg_advisory_unlock({LOCK})")).await;
        let names = result?;
        unlocked?;
        Ok(names)
    }

    async fn apply_locked(session: &SqlSession, folder: &Path) -> Result<Vec<String>, Failure> {
        let all = status(session, folder).await?;
        if let Some(changed) = all.iter().find(|migration| migration.changed) {
            return Err(Failure::new(
                FailureKind::Task,
                format!(
                    "migration {} was changed after it had been applied ({})",
                    changed.name,
                    changed.applied.as_deref().unwrap_or("")
                ),
            )
            .help("put the file back as it was, and write the change as a new migration"));
        }
        let pending: Vec<&Migration> = all.iter().filter(|migration| migration.applied.is_none()).collect();
        if pending.is_empty() {
            return Ok(Vec::new());
        }
        session
            .run(&format!(
                "CREATE TABLE IF NOT EXISTS {TABLE} (name text PRIMARY KEY, sha256 text NOT NULL, applied timestamptz NOT NULL DEFAULT clock_timestamp())"
            ))
            .await?;
        let mut done = Vec::new();
        for migration in pending {
            let Some(path) = &migration.path else { continue };
            let text = read_script(path)?;
            let label = path.display().to_string();
            let entry = format!(
                "INSERT INTO {TABLE} (name, sha256) VALUES ({}, {})",
                quoted_text(&migration.name),
                quoted_text(&of_file(path)?)
            );
            if text.lines().next().is_some_and(|line| line.trim().starts_with(ALONE)) {
                session.run_script(&label, &text).await?;
                session.run(&entry).await?;
            } else {
                session.run("BEGIN").await?;
                let result = match session.run_script(&label, &text).await {
                    Ok(()) => session.run(&entry).await,
                    Err(failure) => Err(failure),
                };
                if let Err(failure) = result {
                    // The reason is what matters; a session that is gone has rolled back by itself.
                    let _rolled_back = session.run("ROLLBACK").await;
                    return Err(failure.help("nothing of this file was applied; correct it and start again"));
                }
                session.run("COMMIT").await?;
            }
            done.push(migration.name.clone());
        }
        Ok(done)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_in_byte_order_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["10_b.sql", "2_a.sql", "9.txt", ".hidden.sql", "3.sql.gz"] {
            std::fs::write(folder.path().join(name), "").unwrap();
        }
        std::fs::create_dir(folder.path().join("4.sql")).unwrap();
        let names: Vec<_> =
            list(folder.path()).unwrap().iter().map(|path| path.file_name().unwrap().to_string_lossy().into_owned()).collect();
        assert_eq!(names, ["10_b.sql", "2_a.sql", "3.sql.gz"]);
        let before = hash(folder.path()).unwrap();
        std::fs::write(folder.path().join("2_a.sql"), "SELECT 1").unwrap();
        assert_ne!(hash(folder.path()).unwrap(), before);
        assert!(list(Path::new("/nonexistent/migrations")).is_err());
    }
}
