//! Databases for one test run: a fresh copy of a Postgres database, or an empty logical database of a Redis, that goes when its
//! caller does.
//!
//! - `registry`: which forks exist and whose they are, one file each in the runtime directory; it goes with the stack
//! - `postgres`: the frozen template and its copies
//! - `redis`: logical databases
//! - `target`: which server is meant, and what a fork is on each kind
//! - `reaper`: the process that drops what has lost its caller or its time

pub mod postgres;
pub mod reaper;
pub mod redis;
pub mod registry;
pub mod target;
