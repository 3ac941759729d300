//! A procfile for an engine that runs elsewhere: compose, Kubernetes, systemd; or as one procfile with everything merged.
//!
//! compose and Kubernetes begin with the same [`stack::Stack`] of containers, made from the merged procfile (whose placeholders
//! are still there) and the plan (which has all defaults applied). What a target cannot say is a [`Loss`] with the key. Writes
//! nothing to disk.

mod caddyfile;
mod compose;
mod edges;
mod environment;
mod exported;
mod first_boot;
mod health;
mod image_settings;
mod images;
mod kubernetes;
mod kubernetes_pod;
mod losses;
mod procfile;
mod procfile_values;
mod references;
mod stack;
mod systemd;
mod systemd_install;
mod systemd_losses;
mod systemd_sandbox;
mod systemd_source;
mod systemd_syntax;
mod systemd_units;
mod task_work;
mod template;
mod workload;
mod yaml;

pub use compose::compose;
pub use exported::Exported;
pub use kubernetes::kubernetes;
pub use losses::Loss;
pub use procfile::procfile;
pub use references::ExportSource;
pub use systemd::systemd;
pub use systemd_install::{InstallCommands, commands as systemd_commands};
pub use systemd_source::SystemdSource;
pub use systemd_units::systemd_units;
pub use template::variables_of;
