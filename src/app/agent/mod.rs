//! A door for agents: a Model Context Protocol server on standard input and output.
//!
//! A tool does what the command of its name does, by running that command, so an agent gets the same checks, messages and
//! exit codes as a person. Answers are JSON; secrets are masked; what deletes data wants a text that only an earlier answer names.

mod call;
mod log_digest;
mod server;
pub mod tools;

pub use server::serve;
