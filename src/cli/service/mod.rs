//! Commands that start, stop and use services.

pub mod attach;
pub mod build;
pub mod compose;
pub mod control;
pub mod down;
pub mod exec;
pub mod gateway;
pub mod run;
pub mod scale;
pub mod shared;
pub mod task;
pub mod telemetry;
pub mod trust;
pub mod unit;
pub mod up;
pub mod wait;
