//! The only loop: commands, signals, exits, probe answers, finished fetches and timers become events of the core; the
//! core's actions become calls of drivers. It decides nothing and knows no format of files or terminals.

mod actions;
mod attachment;
mod balancer_actions;
mod balancer_processes;
mod build_queue;
mod changed_inputs;
pub mod clock;
mod decision_trace;
mod drain;
mod driver_events;
mod drivers;
mod elsewhere;
mod engine_state;
mod event_loop;
mod failure_log;
mod fetch_notices;
mod file_watch;
mod handle;
mod health_notices;
mod held_exit;
mod held_sockets;
mod input_hashes;
mod instance;
mod last_lines;
mod log_losses;
mod lost_output;
mod missing_command;
mod on_demand;
mod pre_start;
mod previous_instances;
mod probing;
mod publication;
mod request_handlers;
mod server_versions;
mod spawn;
pub mod state_files;
mod status;
mod stop_actions;
mod stop_check;
pub mod stop_leftovers;
pub mod task_inputs;
mod task_result;
mod task_sentinel;
mod terminal;
#[cfg(test)]
mod tests;
mod unsaved_stop;

pub use attachment::{Attachment, WaitingKeys};
pub use balancer_actions::balancer_config;
pub use drivers::{Drivers, LoopTimer, PortTable, ProbeRunner, RunningProbe, Sleep, TimeSource};
pub use engine_state::{Engine, EngineExit, EngineOptions};
pub use handle::EngineHandle;
pub use pre_start::run_first_boot_and_pre_start;
pub use status::public_url;
pub use task_inputs::task_hash;
