//! The options of commands that print one table.

use clap::Args;

// A table, or JSON.
#[derive(Debug, Args)]
pub struct TableArgs {
    /// Output as JSON
    #[arg(long)]
    pub json: bool,
}
