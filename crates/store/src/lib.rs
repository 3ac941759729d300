//! Binaries: where a recipe's executables are, or how they get into the store.
//!
//! ```text
//! locate ─► [sources.NAME] ─► devrun.lock's pin in the store ─► system ─► catalogue
//!                │                                               search     │
//!                └──────────────────────► install ◄─────────────────────────┘
//!              download | package | build ─► verify ─► unpack ─► try out ─► store ─► lockfile
//! ```
//!
//! `fetch` holds what the other layers call. `catalog` says what can be had, `system` what is there, `install` brings the
//! rest. Nothing here belongs to a running stack: a `fetch` works with no supervisor, and dropping the future ends whatever
//! it runs.

#![forbid(unsafe_code)]

pub mod atomic_file;
mod blocking;
pub mod catalog;
mod catalog_lines;
pub mod client;
pub mod command_path;
pub mod download;
mod download_progress;
mod extensions;
mod fetch;
mod fetch_options;
pub mod install;
mod located;
pub mod lockfile;
pub mod manifest;
pub mod ownership;
pub mod package;
pub mod pin;
mod pinned;
pub mod platform;
mod programs;
mod select;
pub mod store;
pub mod subprocess;
pub mod system;
pub mod transfer;
pub mod trusted_file;
pub mod unpack;
pub mod version;

pub use catalog_lines::{CatalogLine, catalog};
pub use command_path::{find as find_command, interpreter_of};
pub use download_progress::{DownloadProgress, NoDownloadProgress};
pub use fetch::{check, fetch, fetch_all, locate, lock_update, tool_names, which};
pub use fetch_options::FetchOptions;
pub use located::Located;
pub use programs::{Program, fetch_program, major, nearest, program_paths, programs};
pub use select::check_extensions;
pub use store::store_folder;
