//! Foreign files → a procfile, and a procfile → foreign files. Pure: files are handed in through a reader.
//!
//! `compose` and `process_compose` give the text of a procfile, which `config::read` reads like any other, and a
//! [`ConversionReport`] with a line for each key: mapped, dropped because it has no native meaning, or not mapped, with a hint.
//! Nothing is lost in silence. `export` goes the other way. Owns no verbs and no disk: those are in `cli`.

#![forbid(unsafe_code)]
#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

mod bind_names;
#[cfg(feature = "compose")]
mod compose;
mod converted;
mod export;
mod file_fault;
mod foreign_format;
mod import;
mod init;
mod open_quote;
#[cfg(feature = "compose")]
mod process_compose;
#[cfg(feature = "compose")]
mod process_variables;
#[cfg(feature = "compose")]
mod procfile_names;
mod replacement;
mod report;
mod toml_writer;
#[cfg(feature = "compose")]
mod yaml;
#[cfg(feature = "compose")]
mod yaml_error;

pub use converted::{Converted, Surroundings};
pub use export::{
    ExportSource, Exported, InstallCommands, Loss, SystemdSource, compose as export_compose, kubernetes as export_kubernetes,
    procfile as export_procfile, systemd as export_systemd, systemd_commands, systemd_units as export_systemd_units,
    variables_of,
};
pub use file_fault::FileFault;
pub use foreign_format::{ForeignFormat, format_of};
pub use import::{compose_files, import, import_with};
pub use init::{
    FoundProgram, LOOKED_AT, LOOKED_BELOW, MissingModule, PLAIN_SQL_DIRS, SQL_DIRS, Script, draft, may_hold_source, named_files,
};
pub use report::{At, ConversionReport, KeyOutcome, ReportLine};
