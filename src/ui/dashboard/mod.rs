//! The full-screen terminal dashboard, without what moves it: its state, what a key means for it, and how it is drawn.
//!
//! Everything here is a pure function of model types. `app/dashboard.rs` feeds it and carries out what it asks for, so each
//! screen is tested as a buffer of cells, without a terminal and without a supervisor.

pub mod keys;
pub mod layout;
pub mod selection;
pub mod state;
#[cfg(test)]
mod tests;
pub mod view;

pub use keys::{DashboardRequest, handle_key, handle_mouse};
pub use state::{Dashboard, LogRow, Pane, Prompt, PromptKind, ServiceUsage};
pub use view::draw;
