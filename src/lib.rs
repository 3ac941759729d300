//! `devrun`: a container-free native process supervisor.
//!
//! ```text
//!  main.rs, cli/      the commands: parse arguments, call the application layer
//!  app/               load a project, be its supervisor or call a running one
//!  ui/                what people see
//!  crates/config      procfile text → Plan, with all diagnostics          (pure)
//!  crates/convert     foreign files → procfile text, and back             (pure)
//!  crates/core        the whole project as a state machine                (pure)
//!  crates/runtime     the only loop (sources → Event → core → Action → driver), drivers, recipes, control socket
//!  crates/store       binaries: selection, download, verification, installation
//!  crates/keeper      `devrun __keeper`: parent of every process, stops them when the supervisor is gone
//!  crates/model       the data all of them speak
//! ```
//!
//! `ARCHITECTURE.md` says why. Cargo enforces who may import whom; `tests/it/layers.rs` has the rules that Cargo cannot see.

#![forbid(unsafe_code)]

pub mod app;
pub mod cli;
pub mod globals;
pub mod ui;
