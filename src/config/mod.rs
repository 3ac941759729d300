//! Text in, `Plan` out, with every problem of a file at once. Pure: files, variables, secrets and ports are arguments.

use std::collections::BTreeMap;
use std::path::PathBuf;

use crate::model::{Places, Plan, RecipeBook};

/// One file, read by the caller.
#[derive(Debug, Clone)]
pub struct Source {
    /// As shown in messages; relative to the working directory where that is shorter.
    pub name: String,
    /// Its absolute path.
    pub path: PathBuf,
    /// Its text.
    pub text: String,
}

/// What the command line says about the file.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// `--project-name`.
    pub project_name: Option<String>,
    /// `--mode`, `DEVRUN_MODE`.
    pub mode: Option<String>,
    /// `--profile`; `*` is all.
    pub profiles: Vec<String>,
    /// Services named on the command line: their profiles do not matter.
    pub named: Vec<String>,
    /// `--instance`.
    pub instance: String,
    /// `--ports auto`.
    pub ports_auto: bool,
    /// `--scale`.
    pub scale: BTreeMap<String, u32>,
    /// `--no-init-cache` makes it false.
    pub init_cache: bool,
}

/// Everything outside the procfile that a value may come from.
#[derive(Debug, Clone)]
pub struct Facts {
    /// Where state lies.
    pub places: Places,
    /// The environment of the client that asks.
    pub shell: BTreeMap<String, String>,
    /// `--env-file`, then `[project].env_file` and the services' `env_file`, by absolute path; `None`: not there.
    pub env_files: BTreeMap<PathBuf, Option<String>>,
    /// `--env-file` as given, absolute.
    pub env_file_flag: Option<PathBuf>,
    /// Values by name; a wanted one that is absent is shown as a placeholder by read-only verbs.
    pub secrets: BTreeMap<String, String>,
    /// Ports chosen for `auto`, `private` and recipes without one: service, port name → number.
    pub ports: BTreeMap<(String, String), u16>,
    /// Recipes given as files (`use = "./x.toml"`): absolute path → text.
    pub recipe_files: BTreeMap<PathBuf, String>,
    /// Feeds jitter.
    pub seed: u64,
}

/// A port that somebody must choose.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PortWant {
    /// The service.
    pub service: String,
    /// `main`, or the name in `ports`.
    pub name: String,
    /// Why: `auto`, `private`, or a recipe's usual number, to be taken if it is free.
    pub wish: PortWish,
}

/// How a port is chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PortWish {
    /// Free, stable per checkout.
    Auto,
    /// Random, loopback, in no table.
    Private,
    /// This one if free, else as `Auto`, with a note.
    Usual(u16),
}

/// A secret that must exist before the plan can be made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SecretWant {
    /// Its name: the file's name in the secrets folder.
    pub name: String,
    /// Characters, where it is generated.
    pub length: usize,
}

/// What must be chosen or made before `lower`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Wants {
    /// The folder of the secrets, absolute.
    pub secrets_dir: PathBuf,
    /// Secrets.
    pub secrets: Vec<SecretWant>,
    /// Ports.
    pub ports: Vec<PortWant>,
}

/// All problems of one reading, ready to be shown.
#[derive(Debug, Clone, Default)]
pub struct Report {
    /// Errors and warnings.
    pub diagnostics: Vec<String>,
}

/// The merged procfile, before any placeholder is resolved.
#[derive(Debug, Clone)]
pub struct Document {}

impl Report {
    /// x
    #[must_use]
    pub fn render(&self, _color: bool) -> String {
        String::new()
    }
}

/// Parses, merges and checks what can be checked without values.
///
/// # Errors
/// Every problem at once.
pub fn read(_sources: &[Source], _options: &Options, _book: &dyn RecipeBook) -> Result<Document, Report> {
    unimplemented!()
}

impl Document {
    /// Env files and recipe files to read into `Facts`, absolute.
    #[must_use]
    pub fn files(&self) -> (Vec<PathBuf>, Vec<PathBuf>) {
        unimplemented!()
    }
    /// What to choose and make; ports that are placeholders are resolved with `facts`.
    ///
    /// # Errors
    /// Every problem at once.
    pub fn wants(&self, _facts: &Facts) -> Result<Wants, Report> {
        unimplemented!()
    }
    /// The plan, and warnings.
    ///
    /// # Errors
    /// Every problem at once.
    pub fn lower(&self, _facts: &Facts) -> Result<(Plan, Report), Report> {
        unimplemented!()
    }
}
