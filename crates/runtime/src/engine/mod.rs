//! The only loop: commands, signals, exits, probe answers, finished fetches and timers become events of the core; the
//! core's actions become calls of drivers. It decides nothing and knows no format of files or terminals.

pub mod exec;
mod handle;
pub mod live;
mod look;
mod losses;
pub mod memory;
mod moment;
mod prepare;
pub mod run;
pub mod stamp;
pub mod takeover;
pub mod terminal;
pub mod watch;
mod watching;

pub use handle::EngineHandle;
pub use look::public_url;
pub use prepare::task_hash;
pub use run::{Ended, Engine, EngineOptions};
pub use terminal::Attachment;
