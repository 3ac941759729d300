//! The only loop: commands, signals, exits, probe answers, finished fetches and timers become events of the core; the
//! core's actions become calls of drivers. It decides nothing and knows no format of files or terminals.

pub mod actions;
mod changed_inputs;
pub mod clock;
pub mod event_loop;
mod file_watch;
mod foreground;
mod handle;
pub mod health_notices;
mod held_exit;
mod held_sockets;
pub mod instance;
mod last_lines;
pub mod leftovers;
mod lost_output;
mod pre_start;
pub mod state_files;
mod status;
mod stop_check;
pub mod task_inputs;
mod terminal;

pub use event_loop::{Engine, EngineExit, EngineOptions};
pub use handle::EngineHandle;
pub use status::public_url;
pub use task_inputs::task_hash;
pub use terminal::Attachment;
