//! The pure core: events and time in, actions out. It owns the whole project, not one process: edges, blocking, health,
//! restarts, timeouts and the order of the stop. No clock, no I/O, no randomness but the plan's seed, ordered maps only;
//! the same events give the same trace, so everything that is hard about supervision is tested in milliseconds.

#![forbid(unsafe_code)]
#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

pub mod action;
pub mod backoff;
mod changes;
mod commands;
mod edges;
pub mod event;
mod events;
pub mod health;
mod service;
mod settle;
pub mod shutdown;
mod stopping;
mod supervisor;
pub mod tick;
mod units;
mod view;

#[cfg(test)]
mod tests;

pub use action::{Action, Change, StartOutcome};
pub use changes::only_login_differs;
pub use devrun_model::graph;
pub use edges::Missing;
pub use event::Event;
pub use supervisor::Supervisor;
pub use tick::Tick;
pub use view::{Leaving, ServiceView};
