//! Foreign files → a procfile, and a procfile → foreign files. Pure: files are handed in through a reader.
//!
//! `compose` and `process_compose` give the text of a procfile, which `config::read` reads like any other, and a
//! [`ConversionReport`] with a line for each key: mapped, dropped because it has no native meaning, or not mapped, with a hint.
//! Nothing is lost in silence. `export` goes the other way. Owns no verbs and no disk: those are in `cli`.

#![forbid(unsafe_code)]
#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

#[cfg(feature = "compose")]
mod compose;
mod export;
mod init;
#[cfg(feature = "compose")]
mod process_compose;
mod report;
mod toml_writer;
#[cfg(feature = "compose")]
mod yaml;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use devrun_model::Failure;

pub use export::{
    ExportSource, Exported, Loss, SystemdSource, compose as export_compose, kubernetes as export_kubernetes,
    procfile as export_procfile, systemd as export_systemd, variables_of,
};
pub use init::{FoundProgram, LOOKED_AT, SQL_DIRS, Script, draft};
pub use report::{At, ConversionReport, KeyOutcome, ReportLine};

/// A procfile made from foreign files.
#[derive(Debug, Clone)]
pub struct Converted {
    /// The procfile's text.
    pub text: String,
    /// What became of each key.
    pub report: ConversionReport,
    /// How many services and tasks came along.
    pub services: usize,
}

/// Which kind of file a path names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ForeignFormat {
    /// `compose.yaml` and its other names.
    Compose,
    /// `process-compose.yaml`.
    ProcessCompose,
}

/// The format of a YAML file: by its name, and where that says nothing by its `processes:` or `services:`.
#[must_use]
pub fn format_of(path: &Path, text: &str) -> Option<ForeignFormat> {
    let name = path.file_name()?.to_string_lossy().to_ascii_lowercase();
    let yaml = name.ends_with(".yml") || name.ends_with(".yaml");
    let says = |key: &str| text.lines().any(|line| line.strip_prefix(key).is_some_and(|rest| rest.trim_start().starts_with(':')));
    if !yaml {
        return None;
    }
    if name.starts_with("process-compose") || (says("processes") && !says("services")) {
        return Some(ForeignFormat::ProcessCompose);
    }
    Some(ForeignFormat::Compose)
}

/// What foreign files are read with besides themselves.
#[derive(Debug, Clone, Default)]
pub struct Surroundings {
    /// The variables of the caller: they win over those of env files.
    pub shell: BTreeMap<String, String>,
    /// Env files that were named (`--env-file`); later ones win, and all win over `.env`.
    pub env_files: Vec<PathBuf>,
    /// Lists the files of a folder, for mounts of whole folders of configuration.
    pub list: Option<fn(&Path) -> Vec<PathBuf>>,
}

/// The files that `COMPOSE_FILE` names, in the shell or in `.env` beside the project; `None` where it is not set.
#[must_use]
pub fn compose_files(root: &Path, read: &dyn Fn(&Path) -> Option<String>, around: &Surroundings) -> Option<Vec<PathBuf>> {
    #[cfg(feature = "compose")]
    {
        compose::named_files(root, read, around)
    }
    #[cfg(not(feature = "compose"))]
    {
        let _unused = (root, read, around);
        None
    }
}

/// Reads foreign files with nothing around them; see [`import_with`].
///
/// # Errors
/// As of [`import_with`].
pub fn import(
    format: ForeignFormat,
    paths: &[PathBuf],
    root: &Path,
    read: &dyn Fn(&Path) -> Option<String>,
) -> Result<Converted, Failure> {
    import_with(format, paths, root, read, &Surroundings::default())
}

/// Reads foreign files that belong together. `root` is the folder of the procfile that is made: its paths are relative
/// to it. `read` gives a file's text, and `None` where there is none.
///
/// # Errors
/// `Config`: no YAML, or not this kind of file; the reason names file and line.
pub fn import_with(
    format: ForeignFormat,
    paths: &[PathBuf],
    root: &Path,
    read: &dyn Fn(&Path) -> Option<String>,
    around: &Surroundings,
) -> Result<Converted, Failure> {
    #[cfg(feature = "compose")]
    {
        match format {
            ForeignFormat::Compose => compose::import(paths, root, read, around),
            ForeignFormat::ProcessCompose => process_compose::import(paths, root, read),
        }
    }
    #[cfg(not(feature = "compose"))]
    {
        let _unused = (format, paths, root, read, around);
        Err(Failure::new(devrun_model::FailureKind::Config, "this devrun was built without the feature `compose`")
            .help("build it with default features, or write a procfile.toml"))
    }
}
