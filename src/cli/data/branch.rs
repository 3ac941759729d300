//! `devrun branch`: the data of git branches (`[project] branch_data = true`).

use clap::{Args, Subcommand};
use serde::Serialize;

use crate::app::confirm;
use crate::app::data::{branch, branch_name};
use crate::app::disk_usage;
use crate::app::load::{self, Project, Wanted};
use crate::app::readonly;
use crate::globals::Globals;
use crate::ui::table;
use crate::ui::term::{Term, say};
use devrun_model::{ByteSize, Failure, exit};

// `branch`.
#[derive(Debug, Args)]
pub struct BranchArgs {
    /// Action
    #[command(subcommand)]
    pub action: BranchAction,
}

// What to do with data of branches.
#[derive(Debug, Subcommand)]
pub enum BranchAction {
    /// List the git branches that have data of their own
    #[command(after_help = "Example:\n  devrun branch list --json")]
    List {
        /// Output as JSON
        #[arg(long)]
        json: bool,
    },
    /// Delete the data of git branches, after confirmation
    #[command(after_help = "Example:\n  devrun branch rm feature/x")]
    Rm {
        /// Branches
        #[arg(value_name = "BRANCH", required = true)]
        names: Vec<String>,
    },
}

#[derive(Serialize)]
struct Row {
    branch: String,
    current: bool,
    parent: Option<String>,
    made_at: String,
    bytes: u64,
}

/// Runs it.
///
/// # Errors
/// `Config` for a branch without data, `Elsewhere` while the stack is up.
pub fn run(globals: &Globals, args: &BranchArgs, term: Term) -> Result<i32, Failure> {
    let project = load::project(globals)?;
    match &args.action {
        BranchAction::List { json } => list(globals, &project, *json),
        BranchAction::Rm { names } => remove(globals, &project, names, term),
    }
}

fn list(globals: &Globals, project: &Project, json: bool) -> Result<i32, Failure> {
    let current = load::read(globals, project, &Wanted::look())?.facts.branch;
    let rows: Vec<Row> = branch::list(project)
        .into_iter()
        .map(|(directory, about)| Row {
            current: current.as_deref() == Some(directory.as_str()),
            bytes: disk_usage::size(&branch::root(project).join(directory)),
            branch: about.branch,
            parent: about.parent,
            made_at: about.made_at,
        })
        .collect();
    if json {
        return readonly::json(&rows);
    }
    if rows.is_empty() {
        say("no branch has data of its own; [project] branch_data = true gives each one its own");
        return Ok(exit::DONE);
    }
    let mark = |current: bool| if current { "*" } else { "" }.to_owned();
    let cells: Vec<Vec<String>> = rows
        .into_iter()
        .map(|row| {
            let made = row.made_at.chars().take(10).collect();
            vec![
                mark(row.current),
                row.branch,
                ByteSize(row.bytes).to_string(),
                row.parent.unwrap_or_else(|| "-".to_owned()),
                made,
            ]
        })
        .collect();
    Ok(readonly::text(&table::render(&["", "BRANCH", "SIZE", "STARTED FROM", "ON"], &cells)))
}

fn remove(globals: &Globals, project: &Project, names: &[String], term: Term) -> Result<i32, Failure> {
    let bytes: u64 = names.iter().map(|name| disk_usage::size(&branch::root(project).join(branch_name::directory(name)))).sum();
    let question = format!("{} of data of the branches {} are deleted", ByteSize(bytes), names.join(", "));
    if bytes > 0 && !confirm::ask(&question, &format!("devrun branch rm {}", names.join(" ")), globals, term)? {
        return Ok(exit::DONE);
    }
    for name in names {
        branch::remove(project, name)?;
        say(format!("data of branch {name} removed"));
    }
    Ok(exit::DONE)
}
