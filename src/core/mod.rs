//! The pure core: events and time in, actions out. It owns the whole project, not one process: edges, blocking, health,
//! restarts, timeouts and the order of the stop. No clock, no I/O, no randomness but the plan's seed, ordered maps only;
//! the same events give the same trace, so everything that is hard about supervision is tested in milliseconds.

#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

pub mod action;
pub mod event;
pub mod tick;

pub use action::{Action, Change, StartOutcome};
pub use event::Event;
pub use tick::Tick;
