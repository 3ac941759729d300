//! The only loop: commands, signals, exits, probe answers, finished fetches and timers become events of the core; the
//! core's actions become calls of drivers. It decides nothing and knows no format of files or terminals.

pub mod exec;
pub mod feed;
pub mod live;
pub mod memory;
mod moment;
pub mod run;
pub mod stamp;
pub mod takeover;
pub mod terminal;
pub mod watch;
mod watching;

pub use feed::{FeedItem, Status, StopReport};
pub use run::{Ended, Engine, EngineHandle, EngineOptions};
pub use terminal::Attachment;
