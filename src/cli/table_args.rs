//! The options of commands that print one table.

use clap::Args;

// A table, or JSON.
#[derive(Debug, Args)]
pub struct TableArgs {
    /// Output as JSON
    #[arg(long)]
    pub json: bool,
}

// Compose's words for what is asked for by `--json` here, or is always so.
#[derive(Debug, Args)]
pub struct TableHabits {
    /// Compose's words for a table or JSON
    #[arg(long, hide = true, value_name = "table|json", value_parser = ["table", "json"])]
    pub format: Option<String>,
    /// Every column in full, where a terminal is too narrow for them
    #[arg(long, hide = true)]
    pub no_trunc: bool,
}

impl TableHabits {
    /// Whether JSON was asked for.
    #[must_use]
    pub fn is_json(&self) -> bool {
        self.format.as_deref() == Some("json")
    }
}
