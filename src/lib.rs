//! `devrun`: a container-free native process supervisor.
//!
//! ```text
//!  main.rs, cli/      parse args → load files → run the engine, or call a running one
//!  config/            procfile text → Plan, with all diagnostics          (pure)
//!  convert/           foreign files → procfile text, and back             (pure)
//!  core/              the whole project as a state machine               (pure)
//!  engine/            the only loop: sources → Event → core → Action → driver
//!  drivers/           one folder per effect: processes, probes, logs, init, fetch, ports, secrets
//!  recipes/           what an image's entrypoint knew about a server
//!  keeper/            `devrun __keeper`: parent of every process, stops them when we are gone
//!  control/, ui/      the socket; what people see
//!  model/             the data all of them speak
//! ```
//!
//! `ARCHITECTURE.md` says why. `tests/it/layers.rs` holds the table of who may import whom.

pub mod cli;
pub mod config;
pub mod control;
pub mod convert;
pub mod core;
pub mod drivers;
pub mod engine;
pub mod exit;
pub mod keeper;
pub mod model;
pub mod recipes;
pub mod ui;
