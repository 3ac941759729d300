//! Foreign files → a procfile, by their format.

use std::path::{Path, PathBuf};

use super::converted::{Converted, Surroundings};
use super::foreign_format::ForeignFormat;
#[cfg(feature = "compose")]
use super::{compose, process_compose};
use devrun_model::Failure;

/// The files that `COMPOSE_FILE` names, in the shell or in `.env` next to the project; `None` where it is not set.
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

/// Reads foreign files that belong together. `root` is the directory of the procfile that is made: its paths are relative
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
