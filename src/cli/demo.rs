//! `devrun demo`: a small stack without any file of the user's, in a directory that is removed when it ends.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use clap::Args;
use devrun_model::exit;
use devrun_model::{Failure, FailureKind};

use crate::globals::Globals;
use crate::ui::term::data;

/// How long the removal of its directory is tried.
const PATIENCE: Duration = Duration::from_secs(5);
/// Between two tries.
const PAUSE: Duration = Duration::from_millis(20);

/// The files of the demo, by their names in its directory.
const FILES: [(&str, &str); 3] = [
    ("procfile.toml", include_str!("demo/procfile.toml")),
    ("notes.sql", include_str!("demo/notes.sql")),
    ("site/index.html", include_str!("demo/index.html")),
];

// `demo`.
#[derive(Debug, Args)]
pub struct DemoArgs {
    /// Do not access the network
    #[arg(long, env = "DEVRUN_OFFLINE", value_parser = clap::builder::FalseyValueParser::new())]
    pub offline: bool,
    /// Write the files of the demo to a new directory instead of starting it
    #[arg(long, value_name = "DIR", conflicts_with = "offline")]
    pub write: Option<PathBuf>,
}

/// `demo --write DIR`.
///
/// # Errors
/// `Config` when the directory exists or cannot be written.
pub fn write_to(dir: &Path) -> Result<i32, Failure> {
    if fs::symlink_metadata(dir).is_ok() {
        return Err(Failure::new(FailureKind::Config, format!("{} exists", dir.display()))
            .help("name a directory that does not exist yet"));
    }
    write_files(dir)?;
    let _reader_gone = data(format!("{}: start it with `devrun -C {0} up`", dir.display()));
    Ok(exit::DONE)
}

fn write_files(dir: &Path) -> Result<(), Failure> {
    let failed = |path: &Path, error: &std::io::Error| {
        Failure::new(FailureKind::Config, format!("cannot write {}: {error}", path.display()))
            .help("check the free space and the permissions of the directory")
    };
    for (name, text) in FILES {
        let path = dir.join(name);
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent).map_err(|error| failed(parent, &error))?;
        }
        fs::write(&path, text).map_err(|error| failed(&path, &error))?;
    }
    Ok(())
}

/// A directory with the demo's files, and the global options that point to it. The directory goes when the first is dropped.
///
/// # Errors
/// `Config` when no temporary directory can be made.
pub fn prepare(globals: &Globals) -> Result<(tempfile::TempDir, Globals), Failure> {
    let dir = tempfile::Builder::new().prefix("devrun-demo-").tempdir().map_err(|error| {
        Failure::new(FailureKind::Config, format!("cannot create a temporary directory: {error}"))
            .help("check TMPDIR and its free space")
    })?;
    write_files(dir.path())?;
    let globals = globals.of_procfile(dir.path().join("procfile.toml"));
    Ok((dir, globals))
}

/// Removes the directory of the demo. A start that was interrupted may be writing `devrun.lock` still, so it is tried more than once.
///
/// # Errors
/// `Config` when it cannot be removed.
pub fn remove(dir: tempfile::TempDir) -> Result<(), Failure> {
    let path = dir.keep();
    let until = Instant::now() + PATIENCE;
    loop {
        match fs::remove_dir_all(&path) {
            Ok(()) => return Ok(()),
            Err(error) if error.kind() == ErrorKind::NotFound && !path.exists() => return Ok(()),
            Err(_) if Instant::now() < until => std::thread::sleep(PAUSE),
            Err(error) => {
                return Err(Failure::new(FailureKind::Config, format!("cannot remove {}: {error}", path.display()))
                    .help(format!("rm -r {}", path.display())));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::args::Cli;
    use clap::Parser;

    #[test]
    fn the_demo_has_a_directory_of_its_own_that_goes_with_it() {
        let Ok(cli) = Cli::try_parse_from(["devrun", "--mode", "prod", "--instance", "b", "demo"]) else {
            panic!("cannot be parsed")
        };
        let Ok((dir, globals)) = prepare(&cli.globals) else { panic!("no directory") };
        assert_eq!((globals.mode, globals.instance), (None, None), "options of the user's own project do not apply");
        let procfile = globals.file.first().cloned().unwrap_or_default();
        assert!(procfile.is_file());
        assert!(dir.path().join("site/index.html").is_file());
        drop(dir);
        assert!(!procfile.exists());
    }
}
