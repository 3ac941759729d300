//! The user's init files: which ones, in which order, and what each kind needs.

#![cfg_attr(not(feature = "postgres"), expect(dead_code, reason = "without a driver nothing is furnished"))]

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::super::context::RecipeContext;
use super::super::output_tail::last_lines;
use crate::user;
use devrun_keeper::CommandRequest;
use devrun_model::keeper::Role;
use devrun_model::{Failure, FailureKind};

/// A seed script may load a lot.
const LONGEST: Duration = Duration::from_secs(3600);

/// What can be run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum InitScript {
    /// `.sql`, `.sql.gz`.
    Sql(PathBuf),
    /// `.sh`.
    Shell(PathBuf),
}

impl InitScript {
    pub(super) fn path(&self) -> &Path {
        match self {
            Self::Sql(path) | Self::Shell(path) => path,
        }
    }
}

/// Lists files and folders, in byte order of the files' names: `10-` before `9-`.
///
/// # Errors
/// `Config` when one is not there, or is of another kind though it was named.
pub(super) fn list(init: &[PathBuf]) -> Result<(Vec<InitScript>, Vec<String>), Failure> {
    let mut scripts = Vec::new();
    let mut ignored = Vec::new();
    for path in init {
        let failed = |error: std::io::Error| {
            Failure::new(FailureKind::Config, format!("init {}: {error}", path.display()))
                .help("`init` names files or directories, relative to the procfile")
        };
        let metadata = std::fs::metadata(path).map_err(failed)?;
        if metadata.is_dir() {
            for entry in std::fs::read_dir(path).map_err(failed)? {
                let file = entry.map_err(failed)?.path();
                match kind(&file) {
                    Some(script) if file.is_file() => scripts.push(script),
                    _ => ignored.push(format!("init: {} is not a .sql, .sql.gz or .sh file and is ignored", file.display())),
                }
            }
        } else {
            scripts.push(kind(path).ok_or_else(|| {
                Failure::new(FailureKind::Config, format!("init {}: only .sql, .sql.gz and .sh can be run", path.display()))
            })?);
        }
    }
    scripts.sort_by(|a, b| {
        let key = |script: &InitScript| script.path().file_name().unwrap_or_default().as_encoded_bytes().to_vec();
        key(a).cmp(&key(b)).then_with(|| a.path().cmp(b.path()))
    });
    ignored.sort();
    Ok((scripts, ignored))
}

fn kind(path: &Path) -> Option<InitScript> {
    let name = path.file_name()?.to_str()?;
    if name.ends_with(".sql") || name.ends_with(".sql.gz") {
        Some(InitScript::Sql(path.to_owned()))
    } else if name.ends_with(".sh") {
        Some(InitScript::Shell(path.to_owned()))
    } else {
        None
    }
}

/// Says before the start what would fail in the middle: a shell script that calls psql, and no psql.
///
/// # Errors
/// `Binary`, naming the script.
pub(super) fn check_tools(context: &RecipeContext<'_>, scripts: &[InitScript]) -> Result<(), Failure> {
    let path = context.spec.env.get("PATH").cloned().unwrap_or_default();
    let there = context.located.tools.contains_key("psql")
        || tools_folder(context).is_some_and(|folder| folder.join("psql").is_file())
        || std::env::split_paths(&path).any(|folder| folder.join("psql").is_file());
    for script in scripts {
        let InitScript::Shell(file) = script else { continue };
        let calls = devrun_keeper::regular_file::read_linked(file).is_ok_and(|text| {
            let text = String::from_utf8_lossy(&text);
            let code = text.lines().filter(|line| !line.trim_start().starts_with('#'));
            code.flat_map(|line| line.split(|char: char| !(char.is_alphanumeric() || char == '_' || char == '-')))
                .any(|word| word == "psql")
        });
        if calls && !there {
            return Err(Failure::new(
                FailureKind::Binary,
                format!(
                    "{} calls psql, which this postgres ({}) does not bring and PATH does not hold",
                    file.display(),
                    context.located.origin
                ),
            )
            .help("install a postgres client, or write the script as .sql"));
        }
    }
    Ok(())
}

fn tools_folder<'a>(context: &'a RecipeContext<'_>) -> Option<&'a Path> {
    context.located.tools.get("postgres").and_then(|path| path.parent())
}

/// What an init script gets to know, the names being those of the official image.
pub(super) struct ScriptEnv<'a> {
    pub(super) user: &'a str,
    pub(super) database: &'a str,
    pub(super) password: &'a str,
    pub(super) socket: &'a Path,
    pub(super) port: u16,
}

/// Runs a shell script: directly where it is executable, else by the shell.
///
/// # Errors
/// `Task` with the last lines of its output.
pub(super) async fn run_shell(context: &RecipeContext<'_>, file: &Path, around: &ScriptEnv<'_>) -> Result<(), Failure> {
    let mut env: BTreeMap<String, String> = context.spec.env.clone();
    for (name, value) in &context.located.env {
        env.insert(name.clone(), value.clone());
    }
    let path = env.get("PATH").cloned().unwrap_or_else(|| "/usr/local/bin:/usr/bin:/bin".to_owned());
    if let Some(folder) = tools_folder(context) {
        env.insert("PATH".to_owned(), format!("{}:{path}", folder.display()));
    }
    for (name, value) in [
        ("POSTGRES_USER", around.user),
        ("POSTGRES_DB", around.database),
        ("POSTGRES_PASSWORD", around.password),
        ("PGUSER", around.user),
        ("PGDATABASE", around.database),
    ] {
        env.insert(name.to_owned(), value.to_owned());
    }
    env.insert("PGHOST".to_owned(), around.socket.display().to_string());
    env.insert("PGPORT".to_owned(), around.port.to_string());
    let metadata =
        std::fs::metadata(file).map_err(|error| Failure::new(FailureKind::Task, format!("{}: {error}", file.display())))?;
    let word = file.display().to_string();
    let (program, argv) = if metadata.permissions().mode() & 0o111 != 0 {
        (file.to_owned(), vec![word])
    } else {
        // The image reads such a file with bash; where there is none the plain shell is the best that can be done.
        let shell =
            ["/bin/bash", "/usr/bin/bash"].iter().map(Path::new).find(|shell| shell.is_file()).unwrap_or(Path::new("/bin/sh"));
        (shell.to_owned(), vec![shell.display().to_string(), word])
    };
    let run_as = user::of(context.spec)?;
    let request =
        CommandRequest { role: Role::Init, program, argv, env, dir: context.spec.dir.clone(), run_as, timeout: LONGEST };
    let finished = context.runner.run(request).await?;
    if finished.status.success() && !finished.timed_out {
        return Ok(());
    }
    let how = if finished.timed_out { "it did not end within an hour".to_owned() } else { finished.status.to_string() };
    Err(Failure::new(FailureKind::Task, format!("{}: {how}: {}", file.display(), last_lines(&finished.tail))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn byte_order_of_names_and_a_note_for_the_rest() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["9-x.sql", "10-y.sql.gz", "B.sql", "a.sh", "02-s.SQL", "readme.md"] {
            std::fs::write(folder.path().join(name), "").unwrap();
        }
        std::fs::create_dir(folder.path().join("sub.sql")).unwrap();
        let (scripts, ignored) = list(&[folder.path().to_owned()]).unwrap();
        let names: Vec<_> = scripts.iter().map(|script| script.path().file_name().unwrap().to_str().unwrap()).collect();
        assert_eq!(names, ["10-y.sql.gz", "9-x.sql", "B.sql", "a.sh"]);
        assert_eq!(ignored.len(), 3, "{ignored:?}");
        assert!(matches!(scripts[3], InitScript::Shell(_)));
    }

    #[test]
    fn what_was_named_must_be_there_and_of_a_kind() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(list(&[folder.path().join("absent.sql")]).unwrap_err().kind, FailureKind::Config);
        std::fs::write(folder.path().join("x.txt"), "").unwrap();
        assert_eq!(list(&[folder.path().join("x.txt")]).unwrap_err().kind, FailureKind::Config);
    }
}
