//! `devrun config`: the resolved configuration as a procfile that could be read again, with no placeholder left in it.

use crate::app::resolved_config;
use clap::Args;
use std::collections::BTreeSet;

use crate::ui::table;
use crate::ui::term::{Term, safe, say};
use devrun_model::mask::Masker;
use devrun_model::{Failure, FailureKind};

use crate::app::load::{self, Read, Wanted};
use crate::app::readonly;
use crate::globals::Globals;

// `config`.
#[derive(Debug, Args)]
pub struct ConfigArgs {
    /// Service or task [default: all]
    #[arg(value_name = "SERVICE")]
    pub service: Option<String>,
    /// Show secret values
    #[arg(long)]
    pub reveal: bool,
    /// Show where each value comes from
    #[arg(long)]
    pub origin: bool,
    /// Output as JSON
    #[arg(long)]
    pub json: bool,
    /// Only check it; print nothing when it is valid
    #[arg(short = 'q', long, conflicts_with_all = ["json", "origin", "services", "profiles", "volumes"])]
    pub quiet: bool,
    /// Print only the names of services and tasks
    #[arg(long)]
    pub services: bool,
    /// Print only the names of profiles
    #[arg(long, conflicts_with = "services")]
    pub profiles: bool,
    /// Print only the names of volumes
    #[arg(long, conflicts_with_all = ["services", "profiles"])]
    pub volumes: bool,
    /// Compose's words for the procfile's own format or JSON
    #[arg(long, hide = true, value_name = "toml|json", value_parser = ["toml", "json"])]
    pub format: Option<String>,
}

/// Runs it.
///
/// # Errors
/// `Config` for a procfile with errors or a service that is not there.
pub fn run(globals: &Globals, args: &ConfigArgs, _term: Term) -> Result<i32, Failure> {
    if args.service.as_deref() == Some("write") {
        return write(globals);
    }
    // Those of a profile that is on are no longer named as its own.
    let globals = &if args.profiles { Globals { profile: Vec::new(), ..globals.clone() } } else { globals.clone() };
    let project = load::project(globals)?;
    let named: Vec<String> = args.service.iter().cloned().collect();
    let read = load::read(globals, &project, &Wanted { named: named.clone(), ..Wanted::look() })?;
    let ids = load::resolve(&read.plan, &named)?;
    if args.services || args.volumes || args.profiles {
        return Ok(readonly::text(&names(&read, args)));
    }
    if args.origin {
        return origins(&read, args);
    }
    if args.json || args.format.as_deref() == Some("json") {
        return readonly::json(&resolved_config::tables(&read, &ids, args.reveal)?);
    }
    Ok(readonly::text(&resolved_config::resolved(&read, &ids, args.reveal)?))
}

/// One name a line.
fn names(read: &Read, args: &ConfigArgs) -> String {
    let names: BTreeSet<String> = if args.services {
        read.plan.services.values().map(|spec| spec.service.to_string()).collect()
    } else if args.volumes {
        read.plan.volumes.keys().map(ToString::to_string).collect()
    } else {
        read.plan.inactive.values().flatten().cloned().collect()
    };
    names.into_iter().map(|name| name + "\n").collect()
}

/// `devrun config write`: the generated env file, and the secrets that stand in it. Nothing is started.
fn write(globals: &Globals) -> Result<i32, Failure> {
    let project = load::project(globals)?;
    let read = load::read(globals, &project, &Wanted { purpose: load::Purpose::Write, warn: true, ..Wanted::look() })?;
    let (Some(paths), Some((_, written))) = (read.document.generated_paths(), &read.generated) else {
        return Err(Failure::new(FailureKind::Config, "the procfile generates no env file")
            .help("[config] template = \"secrets/env-template.txt\", output = \".env.generated\""));
    };
    let file = crate::app::generated_env::place(&paths, &project.places, &project.instance);
    say(format!("{} {}", file.display(), if *written { "is written" } else { "is up to date" }));
    Ok(devrun_model::exit::DONE)
}

fn origins(read: &Read, args: &ConfigArgs) -> Result<i32, Failure> {
    let mine = |key: &str| match &args.service {
        None => true,
        Some(name) => [format!("services.{name}."), format!("tasks.{name}.")].iter().any(|prefix| key.starts_with(prefix)),
    };
    let masker = Masker::new(&read.plan, args.reveal);
    let rows = read.values()?.into_iter().filter(|(key, ..)| mine(key)).map(|(key, value, origin)| {
        let last = key.rsplit('.').next().unwrap_or(&key);
        let variable = last == "password" || key.starts_with("env.") || key.contains(".env.") || key.contains(".set.");
        let value = if variable { masker.variable(last, &value) } else { masker.text(&value) };
        (key, value, origin)
    });
    if args.json {
        let list: Vec<_> =
            rows.map(|(key, value, origin)| serde_json::json!({ "key": key, "value": value, "origin": origin })).collect();
        return readonly::json(&list);
    }
    let rows: Vec<Vec<String>> = rows.map(|(key, value, origin)| vec![key, safe(&value), origin]).collect();
    Ok(readonly::text(&table::render(&["KEY", "VALUE", "FROM"], &rows)))
}
