//! Text in, `Plan` out, with every problem of a file at once. Pure: files, variables, secrets and ports are arguments.
//!
//! `source` (texts, spans) → `raw` (the spanned tree) → `check` (against `schema`) → `merge` (files, modes) → `project`
//! (recipe, defaults and service put together; edges, cycles, volumes) → `interpolate` → `lower` → `Plan`. The caller
//! goes in three steps: [`read`] needs the files only; [`Document::files`] and [`Document::wants`] say what else must be
//! read, chosen and made; [`Document::lower`] takes it all and gives the plan. Nothing here looks at a disk or a clock.

#![forbid(unsafe_code)]
#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

mod attributes;
mod command;
mod command_words;
mod cross_check;
mod diagnostic;
mod document;
mod dotenv;
mod env_drift;
mod environment;
mod external;
mod foreign_keys;
mod gateway;
mod generated_env;
mod interpolate;
mod listen;
mod lower;
mod merge;
mod origin;
mod policy;
mod procfile;
mod reader;
mod ready;
mod recipe_names;
mod requirements;
pub mod schema;
mod schema_check;
mod services;
mod source_map;
mod suggest;
mod task;
mod template;
#[cfg(test)]
mod tests;
mod tree;
mod url;
mod value_limits;
mod variable_names;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

pub use diagnostic::Report;
pub use document::{Document, examine, read};
pub use dotenv::quote;
pub use env_drift::Drift;
pub use generated_env::{Generated, GeneratedPaths, STAMP, edits, is_untouched};
pub use suggest::nearest;

use devrun_model::Paths;

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
    /// The port of the first line of a plain Procfile; the default is 5000.
    pub base_port: Option<u16>,
}

/// Everything outside the procfile that a value may come from.
#[derive(Debug, Clone)]
pub struct Facts {
    /// Where state lies.
    pub places: Paths,
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
    /// Recipes given as files (`use = "./x.toml"`) and the templates of `render`: absolute path → text. A file that
    /// is not there is left out.
    pub recipe_files: BTreeMap<PathBuf, String>,
    /// `[config].keys`: the files of that folder by name.
    pub keys: BTreeMap<String, String>,
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

/// `[project].env_sample`: what an env file that is missing is made from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EnvSample {
    /// The sample.
    pub from: PathBuf,
    /// The first of `[project].env_file`.
    pub to: PathBuf,
}

/// The variables of a sample that somebody still has to edit: empty ones, and placeholders such as `changeme`.
#[must_use]
pub fn unedited(sample: &str) -> Vec<String> {
    let (variables, _) = dotenv::parse(sample, &|_| None);
    let open = |value: &str| value.trim().is_empty() || requirements::is_placeholder(value);
    variables.into_iter().filter(|(_, variable)| open(&variable.value)).map(|(name, _)| name).collect()
}

/// The variables of an env file; a placeholder in a value is filled in from `environment`. Faults are those of `check`.
#[must_use]
pub fn env_file_values(text: &str, environment: &dyn Fn(&str) -> Option<String>) -> BTreeMap<String, String> {
    dotenv::parse(text, environment).0.into_iter().map(|(name, variable)| (name, variable.value)).collect()
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
    /// Numbers that the procfile gives itself: a chosen port must not be one of them.
    pub fixed: BTreeSet<u16>,
    /// Memory that the machine must have, in bytes.
    pub memory: Option<u64>,
    /// Disk that must be free where the state lies, in bytes.
    pub disk: Option<u64>,
}
