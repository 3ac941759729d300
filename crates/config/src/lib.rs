//! Text in, `Plan` out, with every problem of a file at once. Pure: files, variables, secrets and ports are arguments.
//!
//! `source_map` (texts, spans) → `toml_node` (with spans) → `schema_check` (against `schema`) → `merge` (files, modes) → `services`
//! (recipe, defaults and service put together) → `cross_check` (edges, cycles, volumes) → `interpolate` → `lower` → `Plan`. The caller
//! goes in three steps: [`read`] needs the files only; [`Document::files`] and [`Document::required_values`] say what else must be
//! read, chosen and made; [`Document::lower`] takes it all and gives the plan. Nothing here looks at a disk or a clock.

#![forbid(unsafe_code)]
#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

mod absolute_path;
mod attributes;
mod bind_address;
mod branch_data;
mod claimed_ports;
mod command;
mod command_words;
mod copies;
mod cross_check;
mod declared_service;
mod diagnostic;
mod document;
mod dotenv;
mod env_drift;
mod environment;
mod evaluate;
mod examine;
mod examples;
mod external;
mod foreign_faults;
mod foreign_keys;
mod gateway;
mod generated_env;
mod inputs;
mod interpolate;
mod listen;
mod local_ca;
mod lower;
mod masked_lines;
mod masked_values;
mod merge;
mod on_demand;
mod origin;
mod policy;
mod procfile;
mod reader;
mod ready;
mod recipe_names;
mod required_values;
mod requirements;
mod routes;
mod run_files;
pub mod schema;
mod schema_check;
mod service_url;
mod services;
mod shared_server;
mod source_map;
mod task;
mod telemetry;
mod template;
#[cfg(test)]
mod tests;
mod toml_node;
mod update;
mod user_scope;
mod value_fault;
mod value_limits;
mod variable_names;
mod variables;

pub use devrun_model::suggest::nearest;
pub use diagnostic::{ErrorPlace, Report};
pub use document::Document;
pub use dotenv::{env_file_values, quote};
pub use env_drift::Drift;
pub use examine::{examine, read};
pub use foreign_faults::ForeignFault;
pub use generated_env::{Generated, GeneratedPaths, STAMP, edits, is_untouched};
pub use inputs::{Facts, LocalCaFiles, Options, Source};
pub use recipe_names::advice as recipe_advice;
pub use required_values::{EnvSample, PortChoice, PortPreference, RequiredSecret, RequiredValues};
pub use requirements::unedited;
pub use shared_server::SharedServer;
pub use user_scope::UserScope;
pub use value_fault::{KeyStep, ValueFault};
