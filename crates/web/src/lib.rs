//! The browser dashboard and the metrics of a stack.
//!
//! It serves one page, the data of that page as JSON, a stream of notices that something has changed, and `/metrics`. It knows no
//! supervisor: whoever runs it answers through [`StackApi`]. Only this machine can reach it, and of this machine only who has
//! the token; see [`guard`].

#![forbid(unsafe_code)]

pub mod api;
pub mod assets;
pub mod guard;
pub mod metrics;
pub mod server;
pub mod terminal;

pub use api::{ActRequest, ApiError, ApiReply, ApiRequest, LogsQuery, StackAction, StackApi, StackChanges};
pub use guard::{Guard, WebRefusal};
pub use metrics::ServiceMetrics;
pub use server::{WebServer, serve};
pub use terminal::{TerminalEnds, TerminalInput};
