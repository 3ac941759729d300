//! Foreign files → a procfile, and a procfile → foreign files. Pure: files are handed in through a reader.
//!
//! `compose` and `process_compose` give the text of a procfile, which `config::read` reads like any other, and a
//! [`Report`] with a line for each key: mapped, dropped because it has no native meaning, or not mapped, with a hint.
//! Nothing is lost in silence. `export` goes the other way. Owns no verbs and no disk: those are in `cli`.

#![forbid(unsafe_code)]
#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

#[cfg(feature = "compose")]
mod compose;
mod export;
mod export_images;
mod init;
#[cfg(feature = "compose")]
mod process_compose;
mod report;
mod toml_writer;
#[cfg(feature = "compose")]
mod yaml;

use std::path::{Path, PathBuf};

use devrun_model::Failure;

pub use export::{compose as export_compose, procfile as export_procfile};
pub use init::{Found, LOOKED_AT, SQL_DIRS, Script, draft};
pub use report::{At, Line, Outcome, Report};

/// A procfile made from foreign files.
#[derive(Debug, Clone)]
pub struct Converted {
    /// The procfile's text.
    pub text: String,
    /// What became of each key.
    pub report: Report,
    /// How many services and tasks came along.
    pub services: usize,
}

/// Which kind of file a path names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// `compose.yaml` and its other names.
    Compose,
    /// `process-compose.yaml`.
    ProcessCompose,
}

/// The format of a YAML file: by its name, and where that says nothing by its `processes:` or `services:`.
#[must_use]
pub fn format_of(path: &Path, text: &str) -> Option<Format> {
    let name = path.file_name()?.to_string_lossy().to_ascii_lowercase();
    let yaml = name.ends_with(".yml") || name.ends_with(".yaml");
    let says = |key: &str| text.lines().any(|line| line.strip_prefix(key).is_some_and(|rest| rest.trim_start().starts_with(':')));
    if !yaml {
        return None;
    }
    if name.starts_with("process-compose") || (says("processes") && !says("services")) {
        return Some(Format::ProcessCompose);
    }
    Some(Format::Compose)
}

/// Reads foreign files that belong together. `root` is the folder of the procfile that is made: its paths are relative
/// to it. `read` gives a file's text, and `None` where there is none.
///
/// # Errors
/// `Config`: no YAML, or not this kind of file; the reason names file and line.
pub fn import(
    format: Format,
    paths: &[PathBuf],
    root: &Path,
    read: &dyn Fn(&Path) -> Option<String>,
) -> Result<Converted, Failure> {
    #[cfg(feature = "compose")]
    {
        match format {
            Format::Compose => compose::import(paths, root, read),
            Format::ProcessCompose => process_compose::import(paths, root, read),
        }
    }
    #[cfg(not(feature = "compose"))]
    {
        let _unused = (format, paths, root, read);
        Err(Failure::new(devrun_model::FailureKind::Config, "this devrun was built without the feature `compose`")
            .help("build it with default features, or write a procfile.toml"))
    }
}
