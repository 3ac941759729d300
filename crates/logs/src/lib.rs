//! Service output: from the pipes into one file per service, and from there to whoever looks.
//!
//! The pump owns the pipes and the files; it never waits for a viewer. Prefixes, time stamps and colours are added when a
//! line is shown, never when it is stored: the file holds the raw bytes, an index beside it says when each piece came and
//! from which stream. So capture costs a read and a write, and a file is exact to the byte.

#![forbid(unsafe_code)]

pub mod ansi;
pub mod envelope;
pub mod followed_file;
mod follower;
pub mod growth;
pub mod index;
mod last_matches;
mod last_texts;
mod line_reader;
mod log_stream;
mod loss;
mod loss_reports;
pub mod lost_file;
mod partial_line;
pub mod pump;
mod pump_thread;
pub mod read;
pub mod rotating_log_file;
pub mod scroll;
mod subscription;
mod terminal_output;
pub mod visible_text;

pub use follower::LogFollower;
pub use last_matches::last_matches;
pub use last_texts::last_texts;
pub use line_reader::LogLine;
pub use log_stream::LogStream;
pub use loss::LossReport;
pub use pump::LogPump;
pub use pump_thread::LineObserver;
pub use read::LogQuery;
pub use rotating_log_file::LogLoss;
pub use subscription::{LogItem, LogSubscription};
pub use terminal_output::TerminalOutput;
