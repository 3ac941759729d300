//! The command line: one file a command, in folders by what it is about.
//!
//! `Args` structs never leave this folder: a command turns them into the values that the application layer takes.

pub mod args;
pub mod command_tip;
pub mod completions;
pub mod compose_options;
pub mod convert;
pub mod data;
pub mod demo;
mod dispatch;
pub mod docs_files;
mod getting_started;
pub mod machine_docs;
pub mod reference;
pub mod self_update;
pub mod service;
pub mod show;
pub mod store;
pub mod table_args;
pub mod typed_command;
pub mod unknown_command;
pub mod usage_error;
pub mod version;

pub use dispatch::main;
