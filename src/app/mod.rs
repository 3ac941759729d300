//! What the commands have in common: to load a project, to find and to be its supervisor, to start, ask and stop a stack.

pub mod child_command;
pub mod compose_input;
pub mod connect;
pub mod debug_output;
pub mod deletion;
pub mod diagnosis;
pub mod generated_env;
pub mod host_requirements;
pub mod load;
pub mod log_selection;
pub mod preconditions;
pub mod readonly;
pub mod request;
pub mod resolved_config;
pub mod rotate_secret;
pub mod run_artifacts;
pub mod runtime;
pub mod service_env;
pub mod session;
pub mod signals;
pub mod snapshot;
pub mod stop_stack;
pub mod stop_wait;
pub mod supervise;
pub mod temporary_stack;
pub mod wait_url;
