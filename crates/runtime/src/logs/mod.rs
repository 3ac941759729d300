//! Service output: from the pipes into one file per service, and from there to whoever looks.
//!
//! The pump owns the pipes and the files; it never waits for a viewer. Prefixes, time stamps and colours are added when a
//! line is shown, never when it is stored: the file holds the raw bytes, an index beside it says when each piece came and
//! from which stream. So capture costs a read and a write, and a file is exact to the byte.

pub mod ansi;
pub mod envelope;
pub mod file;
pub mod index;
mod losses;
pub mod pump;
pub mod read;
pub mod tail;

pub use file::Loss;
pub use losses::Lost;
pub use pump::{LogItem, LogPump, LogStream, Tap};
pub use read::{LogLine, Query};
