//! Consoles: `psql`, `redis-cli`, `sql`, `cypher`, and `migrate`.
//!
//! The first two start the server's own client with everything filled in; passwords go by environment, never by argv.
//! `sql` and `cypher` need no client: devrun speaks to the server itself. All of them work on what the procfile says and
//! need no supervisor, so they reach an `external` server too.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io::{IsTerminal as _, Read as _};
use std::path::Path;

use clap::Args;

use crate::ui::table;
use crate::ui::term::{Term, safe, say};
use devrun_model::client_env::{self, Addressed};
use devrun_model::exit;
use devrun_model::{Failure, FailureKind, Launch, Plan, ServiceSpec};
use devrun_runtime::recipes;

use crate::app::child_command;
use crate::app::client_program::{self, PostgresWork};
use crate::app::load::{self, Project, Wanted};
use crate::app::readonly;
use crate::app::session::Signals;
use crate::app::sql_json;
use crate::globals::Globals;

// `psql`, `redis-cli`.
#[derive(Debug, Args)]
pub struct ClientArgs {
    /// Service to connect to; required if there are several
    #[arg(long, value_name = "SERVICE")]
    pub on: Option<String>,
    /// Arguments passed to the client
    #[arg(value_name = "ARGS", trailing_var_arg = true, allow_hyphen_values = true)]
    pub words: Vec<OsString>,
}

// `sql`, `cypher`.
#[derive(Debug, Args)]
pub struct QueryArgs {
    /// Query, or (sql) the name of one in `[queries]` [default: stdin]
    #[arg(value_name = "QUERY")]
    pub query: Option<String>,
    /// Service to connect to; required if there are several
    #[arg(long, value_name = "SERVICE")]
    pub on: Option<String>,
    /// Output as JSON: a list of objects, with numbers and booleans as such
    #[arg(long)]
    pub json: bool,
    /// (sql) Run one SELECT, WITH, VALUES or TABLE in a read-only transaction; 1000 rows at most
    #[arg(long)]
    pub read_only: bool,
}

// `migrate`.
#[derive(Debug, Args)]
pub struct MigrateArgs {
    /// Service [default: all with `migrations`]
    #[arg(value_name = "SERVICE")]
    pub service: Option<String>,
    /// Show which migrations are applied
    #[arg(long)]
    pub status: bool,
    /// With --status: output as JSON
    #[arg(long, requires = "status")]
    pub json: bool,
}

/// `devrun psql`.
///
/// # Errors
/// `Config` where no Postgres is meant, `Binary` where there is no client.
pub fn psql(globals: &Globals, args: &ClientArgs, term: Term) -> Result<i32, Failure> {
    client(globals, args, term, ("postgres", "psql"), |spec| {
        let variables = [
            ("PGHOST", spec.attribute("host")),
            ("PGPORT", spec.port().map(|port| port.to_string())),
            ("PGUSER", spec.attribute("user")),
            ("PGPASSWORD", spec.attribute("password")),
            ("PGDATABASE", spec.attribute("database")),
        ];
        let variables = variables.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))).collect();
        (Vec::new(), variables)
    })
}

/// `devrun redis-cli`.
///
/// # Errors
/// `Config` where no Redis is meant, `Binary` where there is no client.
pub fn redis_cli(globals: &Globals, args: &ClientArgs, term: Term) -> Result<i32, Failure> {
    client(globals, args, term, ("redis", "redis-cli"), |spec| {
        let mut words = Vec::new();
        for (flag, value) in
            [("-h", spec.attribute("host")), ("-p", spec.port().map(|port| port.to_string())), ("--user", spec.attribute("user"))]
        {
            if let Some(value) = value {
                words.extend([OsString::from(flag), OsString::from(value)]);
            }
        }
        let variables = spec.attribute("password").map(|password| ("REDISCLI_AUTH".to_owned(), password)).into_iter().collect();
        (words, variables)
    })
}

/// The words and variables that lead a client to a server.
type Filled = (Vec<OsString>, BTreeMap<String, String>);

fn client(
    globals: &Globals,
    args: &ClientArgs,
    term: Term,
    (scheme, name): (&str, &str),
    fill: impl Fn(&ServiceSpec) -> Filled,
) -> Result<i32, Failure> {
    let project = load::project(globals)?;
    let plan = plan(globals, &project, args.on.as_deref())?;
    let spec = server(&plan, args.on.as_deref(), scheme, name)?;
    let (mut words, variables) = fill(spec);
    crate::app::runtime::runtime()?.block_on(async {
        // Of a server elsewhere its client knows more: there may be a tunnel to it.
        let is_ours = !matches!(spec.launch, Launch::External { .. });
        if is_ours && connects_to_server(name, &args.words) {
            recipes::refuse_stopped(spec).await?;
        }
        let (program, extra) = if scheme == "postgres" {
            let version = client_program::postgres_version(&project, spec).await;
            // Nothing to be near to: the one that the person's own shell would run.
            match client_program::find(&project, spec, name).await {
                Ok(found) if version.is_empty() => found,
                _ => {
                    let wanted = PostgresWork::Console { server: version };
                    let found = client_program::find_postgres(&project, spec, &wanted, term).await?;
                    (found.path, found.env)
                }
            }
        } else {
            client_program::find(&project, spec, name).await?
        };
        words.insert(0, program.into());
        words.extend(args.words.iter().cloned());
        // The caller's shell, its pager and its history; then the server's.
        let mut addressed = Addressed::default();
        addressed.text(&format!("{scheme}://"));
        let ours = extra.into_iter().chain(variables).collect();
        let env = client_env::merge(load::environment(), addressed, ours);
        let mut signals = Signals::take()?;
        let here = std::env::current_dir().unwrap_or_else(|_| project.root.clone());
        Ok(child_command::run(&words, &env, &here, None, &mut signals).await?.code)
    })
}

/// Whether a client with these arguments connects to the server it is led to, and not to another one or to none (`--help`).
fn connects_to_server(client: &str, words: &[OsString]) -> bool {
    const ADDRESS_OR_HELP: [&str; 8] = ["-h", "-p", "-?", "-V", "--host", "--port", "--help", "--version"];
    // A socket, a URL, the version; to `psql` they mean something else.
    const OF_REDIS: [&str; 3] = ["-s", "-u", "-v"];
    let of_client = if client == "redis-cli" { &OF_REDIS[..] } else { &[] };
    let is_otherwise = |word: &str| {
        ADDRESS_OR_HELP.iter().chain(of_client).any(|option| word.starts_with(option))
            || ["://", "host=", "port="].iter().any(|part| word.contains(part))
    };
    !words.iter().any(|word| is_otherwise(&word.to_string_lossy()))
}

fn plan(globals: &Globals, project: &Project, on: Option<&str>) -> Result<std::sync::Arc<Plan>, Failure> {
    load::plan(globals, project, &Wanted { named: on.map(str::to_owned).into_iter().collect(), ..Wanted::act() })
}

/// The server that is meant: the named one, else the only one of its kind.
fn server<'a>(plan: &'a Plan, on: Option<&str>, scheme: &str, verb: &str) -> Result<&'a ServiceSpec, Failure> {
    let speaks = |spec: &ServiceSpec| match &spec.launch {
        Launch::Recipe(recipe) => recipe.recipe.scheme.starts_with(scheme),
        Launch::External { url } => url.starts_with(scheme) || (scheme == "bolt" && url.starts_with("neo4j")),
        _ => false,
    };
    if let Some(name) = on {
        let spec = readonly::one(plan, name)?;
        return if speaks(spec) {
            Ok(spec)
        } else {
            let failure = Failure::new(FailureKind::Config, format!("`devrun {verb}` does not support {name}"));
            let fitting = plan.services.values().find(|spec| speaks(spec));
            Err(failure.help(fitting.map_or("devrun urls".to_owned(), |spec| format!("devrun {verb} --on {}", spec.service))))
        };
    }
    let mut fitting = plan.services.values().filter(|spec| speaks(spec));
    match (fitting.next(), fitting.next()) {
        (Some(only), None) => Ok(only),
        (None, _) => {
            Err(Failure::new(FailureKind::Config, format!("no service here speaks {scheme}"))
                .help("devrun urls shows what there is"))
        }
        (Some(first), Some(second)) => {
            Err(Failure::new(FailureKind::Config, format!("there are several: {} and {}", first.service, second.service))
                .help(format!("devrun {verb} --on {}", first.service)))
        }
    }
}

/// What was typed, else all of stdin.
fn question(query: Option<&str>, verb: &str) -> Result<String, Failure> {
    if let Some(query) = query {
        return Ok(query.to_owned());
    }
    if std::io::stdin().is_terminal() {
        say(format!("{verb}: type a query, then Ctrl-D"));
    }
    let mut text = String::new();
    std::io::stdin()
        .read_to_string(&mut text)
        .map_err(|error| Failure::new(FailureKind::Config, format!("stdin cannot be read: {error}")))?;
    if text.trim().is_empty() {
        return Err(Failure::new(FailureKind::Config, "missing query").help(format!("devrun {verb} 'QUERY'")));
    }
    Ok(text)
}

/// `devrun sql`.
///
/// # Errors
/// `Query` with the server's words, `Elsewhere` when it is not up, `Credentials`, `Config` where no server is meant.
pub fn sql(globals: &Globals, args: &QueryArgs, _term: Term) -> Result<i32, Failure> {
    let project = load::project(globals)?;
    let plan = plan(globals, &project, args.on.as_deref())?;
    let spec = server(&plan, args.on.as_deref(), "postgres", "sql")?;
    let text = question(args.query.as_deref(), "sql")?;
    let text = match plan.queries.get(text.trim()) {
        Some(named) => named.clone(),
        None if !text.trim().contains(char::is_whitespace) && !text.trim().ends_with(';') => {
            let known: Vec<&str> = plan.queries.keys().map(String::as_str).collect();
            let failure = Failure::new(FailureKind::Config, format!("unknown query {:?}", text.trim()));
            return Err(failure.help(if known.is_empty() {
                "[queries] NAME = \"SELECT …\"; or type the statement itself".to_owned()
            } else {
                format!("there are: {}", known.join(", "))
            }));
        }
        None => text,
    };
    let table = crate::app::runtime::runtime()?.block_on(recipes::query_sql(spec, &text, args.read_only))?;
    if args.json {
        return Ok(readonly::text(&sql_json::rows(&table)));
    }
    if table.columns.is_empty() {
        say(format!("done, {} rows changed", table.affected));
        return Ok(exit::DONE);
    }
    let rows: Vec<Vec<String>> = table
        .rows
        .iter()
        .map(|row| row.iter().map(|value| value.as_deref().map_or_else(|| "NULL".to_owned(), safe)).collect())
        .collect();
    let head: Vec<&str> = table.columns.iter().map(String::as_str).collect();
    Ok(readonly::text(&table::render(&head, &rows)))
}

/// `devrun cypher`.
///
/// # Errors
/// `Query` with the server's words, `Elsewhere` when it is not up, `Credentials`, `Config` where no server is meant.
pub fn cypher(globals: &Globals, args: &QueryArgs, _term: Term) -> Result<i32, Failure> {
    if args.read_only {
        return Err(Failure::new(FailureKind::Config, "--read-only is for sql").help("devrun sql --read-only 'SELECT 1'"));
    }
    let project = load::project(globals)?;
    let plan = plan(globals, &project, args.on.as_deref())?;
    let spec = server(&plan, args.on.as_deref(), "bolt", "cypher")?;
    let text = question(args.query.as_deref(), "cypher")?;
    let all = crate::app::runtime::runtime()?.block_on(recipes::query_cypher(spec, &text))?;
    if args.json {
        let rows: Vec<serde_json::Map<String, serde_json::Value>> = all
            .iter()
            .flat_map(|result| result.rows.iter().map(|row| result.columns.iter().cloned().zip(row.iter().cloned()).collect()))
            .collect();
        return readonly::json(&rows);
    }
    let mut out = String::new();
    for result in all.iter().filter(|result| !result.columns.is_empty()) {
        let text = |value: &serde_json::Value| value.as_str().map_or_else(|| value.to_string(), safe);
        let rows: Vec<Vec<String>> = result.rows.iter().map(|row| row.iter().map(text).collect()).collect();
        let head: Vec<&str> = result.columns.iter().map(String::as_str).collect();
        out.push_str(&table::render(&head, &rows));
    }
    if out.is_empty() {
        say("done");
        return Ok(exit::DONE);
    }
    Ok(readonly::text(&out))
}

/// `devrun migrate`.
///
/// # Errors
/// `Config` where no service has migrations, `Task` with file, line and the server's words.
pub fn migrate(globals: &Globals, args: &MigrateArgs, _term: Term) -> Result<i32, Failure> {
    let project = load::project(globals)?;
    let plan = plan(globals, &project, args.service.as_deref())?;
    let mut wanted = Vec::new();
    for spec in plan.services.values() {
        if let Launch::Recipe(recipe) = &spec.launch
            && let Some(folder) = &recipe.migrations
            && args.service.as_deref().is_none_or(|name| name == spec.service.as_str())
        {
            wanted.push((spec, folder.as_path()));
        }
    }
    if wanted.is_empty() {
        return Err(Failure::new(FailureKind::Config, "no service here has `migrations`")
            .help("[services.NAME] migrations = \"DIRECTORY\""));
    }
    let runtime = crate::app::runtime::runtime()?;
    let mut shown = Vec::new();
    for (spec, folder) in wanted {
        if args.status {
            for migration in runtime.block_on(recipes::migrations(spec, folder))? {
                shown.push((spec.service.to_string(), migration));
            }
            continue;
        }
        let applied = runtime.block_on(recipes::migrate(spec, folder))?;
        report(spec, folder, &applied);
    }
    if !args.status {
        return Ok(exit::DONE);
    }
    if args.json {
        let list: Vec<_> = shown
            .iter()
            .map(|(service, migration)| {
                serde_json::json!({
                    "service": service,
                    "name": migration.name,
                    "state": state(migration),
                    "applied": migration.applied,
                })
            })
            .collect();
        return readonly::json(&list);
    }
    let rows: Vec<Vec<String>> = shown
        .iter()
        .map(|(service, migration)| {
            vec![
                service.clone(),
                migration.name.clone(),
                state(migration).to_owned(),
                migration.applied.clone().unwrap_or_default(),
            ]
        })
        .collect();
    Ok(readonly::text(&table::render(&["SERVICE", "MIGRATION", "STATE", "APPLIED"], &rows)))
}

fn report(spec: &ServiceSpec, folder: &Path, applied: &[String]) {
    if applied.is_empty() {
        say(format!("{}: nothing to do, all of {} is applied", spec.service, folder.display()));
    }
    for name in applied {
        say(format!("{}: applied {name}", spec.service));
    }
}

fn state(migration: &recipes::Migration) -> &'static str {
    match migration {
        recipes::Migration { applied: None, .. } => "pending",
        recipes::Migration { changed: true, .. } => "changed",
        recipes::Migration { path: None, .. } => "gone",
        _ => "applied",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_that_is_led_elsewhere_or_shows_its_help_is_not_refused() {
        for (client, words, connects) in [
            ("psql", &[][..], true),
            ("psql", &["-X", "-v", "ON_ERROR_STOP=1", "-c", "select 1"], true),
            ("psql", &["-d", "other", "--csv"], true),
            ("psql", &["--help"], false),
            ("psql", &["-V"], false),
            ("psql", &["-hexample"], false),
            ("psql", &["--port=1"], false),
            ("psql", &["postgres://example/"], false),
            ("psql", &["-d", "host=example"], false),
            ("redis-cli", &["-n", "1", "ping"], true),
            ("redis-cli", &["-s", "/tmp/socket"], false),
            ("redis-cli", &["-v"], false),
        ] {
            let words: Vec<OsString> = words.iter().map(OsString::from).collect();
            assert_eq!(connects_to_server(client, &words), connects, "{client} {words:?}");
        }
    }
}
