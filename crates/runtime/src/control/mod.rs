//! The control channel: JSON lines over a unix socket in the 0700 runtime folder, with a version in the hello.
//!
//! The engine is never called directly from a connection: a connection holds a handle and a bounded feed, so a slow or
//! broken client is dropped and nothing waits for it. A line is at most 16 MiB, as a whole plan may come along.

pub mod client;
mod connections;
pub mod protocol;
pub mod server;

pub use client::{ControlClient, ControlReceiver, ControlSender};
pub use connections::OpenConnections;
pub use protocol::{ControlReply, ControlRequest, Hello, VERSION};
