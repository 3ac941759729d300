//! What the caller must choose, make or read before there can be a plan.

use std::collections::BTreeSet;
use std::path::PathBuf;

/// A port that somebody must choose.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PortChoice {
    /// The service.
    pub service: String,
    /// `main`, or the name in `ports`.
    pub name: String,
    /// Why: `auto`, `private`, or a recipe's usual number, to be taken if it is free.
    pub preference: PortPreference,
}

/// How a port is chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PortPreference {
    /// Free, stable per checkout.
    Auto,
    /// Random, loopback, in no table.
    Private,
    /// This one if free, else as `Auto`, with a note.
    Usual(u16),
}

/// A secret that must exist before the plan can be made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequiredSecret {
    /// Its name: the file's name in the secrets directory.
    pub name: String,
    /// Characters, where it is generated.
    pub length: usize,
}

/// What must be chosen or made before `lower`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RequiredValues {
    /// The directory of the secrets, absolute.
    pub secrets_dir: PathBuf,
    /// Secrets.
    pub secrets: Vec<RequiredSecret>,
    /// Ports.
    pub ports: Vec<PortChoice>,
    /// Numbers that the procfile gives itself: a chosen port must not be one of them.
    pub fixed: BTreeSet<u16>,
    /// Memory that the machine must have, in bytes.
    pub memory: Option<u64>,
    /// Disk that must be free where the state lies, in bytes.
    pub disk: Option<u64>,
}

/// `[project].env_sample`: what an env file that is missing is made from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EnvSample {
    /// The sample.
    pub from: PathBuf,
    /// The first of `[project].env_file`.
    pub to: PathBuf,
}
