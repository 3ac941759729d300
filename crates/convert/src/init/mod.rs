//! A first procfile from what lies around: the project's directory and one level below it.
//!
//! - `found`: what was found in which directory, the names of what is started, the recipes that dependencies name
//! - `source_directory`: the files of one directory; `needs`: the recipes that they name
//! - `python`, `node`, `compiled` (Go, Rust, Java), `web_frameworks` (Rails, Laravel, Phoenix), `command_files` (Procfile, deno.json,
//!   Makefile): what each kind of directory starts and installs
//! - `service_names`: names of services, from those of directories and processes
//! - `script`: a command that was found, and the task that installs what it needs
//! - `draft`: the procfile's text

mod command_files;
mod compiled;
mod draft;
mod found;
mod needs;
mod node;
mod python;
mod script;
mod service_names;
mod source_directory;
mod web_frameworks;

pub use draft::draft;
pub use found::FoundProgram;
pub use node::named_files;
pub use script::{MissingModule, Script};
pub use source_directory::{LOOKED_AT, LOOKED_BELOW, PLAIN_SQL_DIRS, SQL_DIRS, may_hold_source};
