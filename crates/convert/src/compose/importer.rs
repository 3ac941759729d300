//! What is known while a project is turned into a procfile, and the paths and texts that every key needs.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use super::super::procfile_names::procfile_name;
use super::super::report::{At, ConversionReport};
use super::super::toml_writer::Procfile;
use super::super::yaml::Map;
use super::hostnames::Target;
use super::load::{self, SourceReader};
use super::syntax;
use super::values::Values;

/// What stands before a name that begins with another character than a procfile's may.
pub(super) const NAME_START: char = 's';

/// All that is known while a project is turned into a procfile.
pub(crate) struct Importer<'a> {
    /// The directory of the procfile.
    pub root: &'a Path,
    /// Gives the text of a file.
    pub read: SourceReader<'a>,
    /// By the index of a place.
    pub files: Vec<PathBuf>,
    /// All files merged.
    pub tree: Map,
    /// What became of each key.
    pub report: ConversionReport,
    /// The variables that it is read with.
    pub values: Values,
    /// Lists a directory, where somebody can.
    pub lister: Option<fn(&Path) -> Vec<PathBuf>>,
    /// Profiles that `COMPOSE_PROFILES` turns on.
    pub profiles: Vec<String>,
    /// Names without a value or default anywhere, and where they were first asked for.
    pub unset: BTreeMap<String, At>,
    /// What can be reached, and how.
    pub targets: Vec<Target>,
    /// The procfile that is made.
    pub out: Procfile,
    /// Env files that feed placeholders.
    pub env_files: Vec<String>,
    /// Numbers of ports that are given away.
    pub taken: BTreeMap<u16, String>,
    /// Volumes that are some service's data.
    pub data: BTreeMap<String, String>,
    /// Volumes that are used.
    pub volumes: BTreeSet<String>,
    /// Secrets that are generated.
    pub secrets: BTreeSet<String>,
    /// Variables that secrets are made from and that a login reads.
    pub secret_variables: BTreeSet<String>,
    /// Secrets by the files of the user's that they are read from.
    pub secret_files: BTreeMap<String, String>,
}

impl Importer<'_> {
    /// The text of a value in our notation. `strict`: a name without a value stays an error.
    pub(super) fn text(&mut self, text: &str, at: At, strict: bool) -> String {
        let (values, unset) = (&self.values, &mut self.unset);
        syntax::placeholders(text, &mut |name| {
            if values.in_file(name) || matches!(name, "HOME" | "PWD" | "USER" | "PATH" | "UID" | "GID") && !strict {
                return false;
            }
            unset.entry(name.to_owned()).or_insert(at);
            !strict
        })
    }

    /// The directory of the file that a value stands in.
    pub(super) fn folder(&self, at: At) -> PathBuf {
        let file = usize::try_from(at.file).ok().and_then(|file| self.files.get(file));
        file.and_then(|file| file.parent()).unwrap_or(self.root).to_path_buf()
    }

    /// A path of the compose file, absolute; placeholders take their defaults.
    pub(super) fn absolute(&self, path: &str, at: At) -> Option<PathBuf> {
        let path = self.values.fill(path)?;
        if path.starts_with('~') {
            return None;
        }
        Some(load::join(&self.folder(at), &path))
    }

    /// A path of the compose file, relative to the procfile.
    pub(super) fn path(&self, path: &str, at: At) -> String {
        match self.absolute(path, at) {
            Some(absolute) => self.shown(&absolute),
            None => path.replacen('~', "${HOME}", 1),
        }
    }

    /// An absolute path, relative to the procfile where it can be.
    pub(super) fn shown(&self, path: &Path) -> String {
        relative(self.root, path)
    }

    pub(super) fn exists(&self, path: &Path) -> bool {
        (self.read)(path).is_some()
    }

    /// The number of a port, through `.env` where it is a placeholder.
    pub(super) fn number(&self, text: &str) -> Option<u16> {
        self.values.fill(text)?.trim().parse().ok()
    }
}

/// `to` as seen from `from`, both absolute and without dots.
pub(super) fn relative(from: &Path, to: &Path) -> String {
    let mut ups = 0;
    let mut base = from;
    loop {
        if let Ok(rest) = to.strip_prefix(base) {
            let mut parts = vec!["..".to_owned(); ups];
            parts.extend(rest.components().map(|part| part.as_os_str().to_string_lossy().into_owned()));
            return if parts.is_empty() { ".".to_owned() } else { parts.join("/") };
        }
        ups += 1;
        match base.parent() {
            // More steps up than this say less than the whole path.
            Some(parent) if ups <= 4 && parent != Path::new("/") => base = parent,
            _ => return to.display().to_string(),
        }
    }
}

/// A name that a procfile takes.
pub(super) fn our_name(name: &str) -> String {
    procfile_name(name, NAME_START)
}
