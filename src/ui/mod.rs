//! What people see. stdout is data, stderr is talk; a terminal that is gone is no reason to stop a database, so every write
//! may fail and none panics.

pub mod ci;
pub mod copies_summary;
pub mod dashboard;
pub mod download;
pub mod escape;
pub mod exit_line;
pub mod live_lines;
pub mod local_time;
pub mod logview;
pub mod output;
pub mod paint;
pub mod progress;
pub mod start_times;
pub mod step_line;
pub mod summary;
pub mod table;
pub mod term;
