//! `devrun secret`: the generated secrets. `show` prints one on purpose; nothing else here prints a value.

use clap::{Args, Subcommand};
use serde::Serialize;

use crate::ui::table;
use crate::ui::term::{Term, data, say};
use devrun_model::exit;
use devrun_model::{Failure, FailureKind};
use devrun_runtime::secrets;

use crate::app::load::{self, Wanted};
use crate::app::readonly;
use crate::globals::Globals;

// `secret`.
#[derive(Debug, Args)]
pub struct SecretArgs {
    /// Action
    #[command(subcommand)]
    pub action: SecretAction,
}

// What to do with secrets.
#[derive(Debug, Subcommand)]
pub enum SecretAction {
    /// List names and files
    #[command(after_help = "Example:\n  devrun secret list")]
    List {
        /// Output as JSON
        #[arg(long)]
        json: bool,
    },
    /// Print the value of a secret
    #[command(after_help = "Example:\n  devrun secret show db-password")]
    Show {
        /// Name of the secret
        name: String,
    },
    /// Generate a new value, and apply it to servers and to services that use it
    #[command(after_help = "Example:\n  devrun secret rotate db-password")]
    Rotate {
        /// Name of the secret
        name: String,
    },
}

#[derive(Serialize)]
struct SecretRow {
    name: String,
    file: String,
    exists: bool,
}

/// Runs it.
///
/// # Errors
/// `Config` for a secret that is not there, or that others could read.
pub fn run(globals: &Globals, args: &SecretArgs, term: Term) -> Result<i32, Failure> {
    let project = load::project(globals)?;
    let read = load::read(globals, &project, &Wanted::look())?;
    let wants = read.required_values()?;
    let dir = &wants.secrets_dir;
    match &args.action {
        SecretAction::List { json } => {
            let mut rows = Vec::new();
            for want in &wants.secrets {
                let exists = secrets::read(dir, &want.name)?.is_some();
                rows.push(SecretRow { name: want.name.clone(), file: dir.join(&want.name).display().to_string(), exists });
            }
            if *json {
                return readonly::json(&rows);
            }
            if rows.is_empty() {
                say("the procfile needs no secret");
                return Ok(exit::DONE);
            }
            let word = |exists| if exists { "yes" } else { "made by the next up" }.to_owned();
            let cells: Vec<Vec<String>> = rows.into_iter().map(|row| vec![row.name, word(row.exists), row.file]).collect();
            Ok(readonly::text(&table::render(&["SECRET", "EXISTS", "FILE"], &cells)))
        }
        SecretAction::Show { name } => {
            known(&wants, name)?;
            match secrets::read(dir, name)? {
                Some(value) => {
                    let _reader_gone = data(value);
                    Ok(exit::DONE)
                }
                None => Err(Failure::new(FailureKind::Config, format!("the secret {name} has not been made yet"))
                    .help("the first `devrun up` makes it")),
            }
        }
        SecretAction::Rotate { name } => crate::app::rotate_secret::run(globals, &project, known(&wants, name)?, dir, term),
    }
}

fn known<'a>(wants: &'a devrun_config::RequiredValues, name: &str) -> Result<&'a devrun_config::RequiredSecret, Failure> {
    wants.secrets.iter().find(|want| want.name == name).ok_or_else(|| {
        let known: Vec<&str> = wants.secrets.iter().map(|want| want.name.as_str()).collect();
        Failure::new(FailureKind::Config, format!("unknown secret {name:?}"))
            .help(format!("the procfile has: {}", known.join(", ")))
    })
}
