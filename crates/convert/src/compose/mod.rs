//! Compose files → procfile. First what each service is (`classify`), then who reaches whom by which port, then its keys.

mod addresses;
mod build_steps;
mod classify;
mod client_images;
mod command;
mod config_files;
mod dependencies;
mod dockerfile;
mod draft;
mod entry_script;
mod environment;
pub(crate) mod healthcheck_test;
mod hostnames;
mod image_tools;
mod image_variables;
mod images;
mod import;
mod importer;
mod jar_images;
mod keys;
mod known_image;
mod labels;
mod load;
mod logins;
mod loopback;
mod ports;
mod project_keys;
mod ready;
mod recipe;
mod relations;
mod service;
pub(crate) mod syntax;
mod unsupported;
mod values;
mod web_server;

pub(crate) use import::{import, named_files};
