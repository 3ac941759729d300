//! `devrun self update`: the newest release from a directory of artifacts with their `SHA256SUMS`, checked and put in the place of
//! the program that runs.
//!
//! The sums name the artifacts, so nothing else has to be asked; an artifact that they do not list cannot be installed. Whoever can
//! write the directory can replace both, which is why it is only ever named by the user, over https or as a local directory.

mod install_method;
mod release;
mod replace;

pub use install_method::{InstallMethod, own_program};
pub use release::{Release, newest};
pub use replace::{UpdateOptions, find_release, replace};
