//! Plain data that every layer speaks, and the traits that let layers meet without importing one another.
//!
//! Owns: validated names, the resolved project (`Plan`), what a service is (`ServiceSpec`), what the supervisor
//! publishes (`Snapshot`, `StateChange`), what may be asked of it (`Command`), what engine and keeper tell each other, and
//! the exit codes a failure carries. Owns no clock, no I/O and no decision: a value here means the same in a test, on
//! the wire and on disk. This is why `config`, `core` and `drivers` can stay siblings that never see one another.

#![forbid(unsafe_code)]
#![warn(missing_docs)]
#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

pub mod bytes;
pub mod client_env;
pub mod command;
pub mod command_line;
pub mod copies;
pub mod duration;
pub mod exit;
pub mod failure;
pub mod feed;
pub mod fnv;
pub mod gateway;
pub mod graph;
pub mod hex;
pub mod hidden_char;
pub mod keeper;
pub mod mask;
pub mod name;
pub mod not_ready_help;
pub mod os_text;
pub mod paths;
pub mod pattern_error;
pub mod percent;
pub mod phase;
pub mod plan;
pub mod policy;
pub mod ready;
pub mod recipe;
mod restart_history;
pub mod route_usage;
pub mod secret_name;
pub mod secret_text;
pub mod service;
pub mod snapshot;
pub mod state_change;
pub mod suggest;
pub mod task;
pub mod value_error;
pub mod why;
mod why_lines;

pub use bytes::ByteSize;
pub use command::{Command, PlannedChanges, RestartTargets, StopPurpose, UpOptions};
pub use command_line::CommandLine;
pub use copies::{FirstCopy, RememberedScale, SharedAddress};
pub use failure::{Failure, FailureKind};
pub use gateway::{
    DrainRequest, FixedCopy, GatewayConfig, GatewayKind, GatewaySpec, GatewayTls, Route, RoutePattern, RouteTarget, UpstreamSpec,
};
pub use name::{ProjectName, ServiceId, ServiceName, VolumeName};
pub use paths::Paths;
pub use phase::{Health, State};
pub use plan::{Plan, VolumeClass, VolumeSpec};
pub use policy::{Backoff, RestartPolicy, Signal, StopSpec, StopTo, UpdateOrder, UpdateSpec};
pub use ready::{Check, ReadySpec};
pub use recipe::{RecipeBook, RecipeData, RecipeUse, ServerDump};
pub use service::{Condition, Dependency, Kind, Launch, ServiceSpec};
pub use snapshot::{ServiceStatus, Snapshot};
pub use state_change::StateChange;
pub use task::{OnChange, Once, TaskSpec, Work};
pub use value_error::ValueError;
