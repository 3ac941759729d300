//! The pure core: events and time in, actions out. It owns the whole project, not one process: edges, blocking, health,
//! restarts, timeouts and the order of the stop. No clock, no I/O, no randomness but the plan's seed, ordered maps only;
//! the same events give the same trace, so everything that is hard about supervision is tested in milliseconds.

#![forbid(unsafe_code)]
#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

pub mod action;
mod commands;
mod crash_loop;
mod definition_diff;
mod dependency_status;
pub mod event;
mod event_handlers;
mod exit_failure;
mod foreground;
pub mod health;
mod left_processes;
mod on_demand;
mod plan_diff;
mod probe_pace;
pub mod restart;
mod rolling;
mod scale;
mod service;
mod service_stop;
mod service_view;
mod services;
pub mod shutdown;
mod start_eligibility;
mod start_first;
mod start_request;
mod start_requests;
mod stop_order;
mod stop_reason;
mod supervisor;
mod task_decision;
pub mod tick;
mod unproven;

#[cfg(test)]
mod tests;

pub use action::{Action, PlanChange, StartOutcome};
pub use crash_loop::CrashLoops;
pub use definition_diff::only_login_differs;
pub use devrun_model::graph;
pub use event::Event;
pub use left_processes::{EXIT_HOLD, holds_exit, judge_left_processes};
pub use service_view::{ServiceView, StopProgress};
pub use start_eligibility::{UnmetDependency, command_may_be_installed, file_may_be_written, is_useless_without};
pub use stop_reason::StopReason;
pub use supervisor::Supervisor;
pub use task_decision::{LastRun, TaskDecision, decide_task};
pub use tick::Tick;
