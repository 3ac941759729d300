//! Every word of the command line.
//!
//! Long because each word stands here with its help, which is also the reference page.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

use devrun_model::{Failure, FailureKind};

/// Runs a stack of native services from one procfile.
#[derive(Debug, Parser)]
#[command(
    name = "devrun",
    version,
    about = "Runs a stack of native services from one procfile.toml: no containers, nothing left running.",
    after_help = "Examples:\n  devrun up              bring the stack up and follow its logs; Ctrl-C stops it\n  devrun up -d           return when everything is ready\n  devrun wait postgres   block until one service is ready\n  devrun ps              what runs, and how it is\n  devrun logs -f api     follow one service\n  devrun down            stop everything in reverse order; data stays",
    disable_help_subcommand = false,
    infer_subcommands = false
)]
pub struct Cli {
    /// For every verb.
    #[command(flatten)]
    pub globals: Globals,
    /// The verb.
    #[command(subcommand)]
    pub verb: Verb,
}

/// When to use colour.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Color {
    /// On a terminal.
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

/// How to show a start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ProgressArg {
    /// Live lines on a terminal, else plain.
    Auto,
    /// Live lines.
    Tty,
    /// A line per change.
    Plain,
    /// A JSON object per change.
    Json,
    /// Failures only.
    Quiet,
}

macro_rules! words {
    ($type:ident { $($variant:ident = $word:literal),+ }) => {
        impl $type {
            /// As typed.
            #[must_use]
            pub fn as_str(self) -> &'static str { match self { $(Self::$variant => $word),+ } }
        }
    };
}
words!(Color { Auto = "auto", Always = "always", Never = "never" });
words!(ProgressArg { Auto = "auto", Tty = "tty", Plain = "plain", Json = "json", Quiet = "quiet" });

/// Options before or after any verb.
#[derive(Debug, Clone, Args)]
pub struct Globals {
    /// Procfile to read; more than one are merged in order
    #[arg(short = 'f', long = "file", value_name = "FILE", global = true, env = "DEVRUN_FILE", help_heading = "Global options")]
    pub file: Vec<PathBuf>,
    /// Look for the procfile from here
    #[arg(
        short = 'C',
        long,
        value_name = "DIR",
        global = true,
        env = "DEVRUN_PROJECT_DIRECTORY",
        help_heading = "Global options"
    )]
    pub project_directory: Option<PathBuf>,
    /// Another project name
    #[arg(short = 'p', long, value_name = "NAME", global = true, env = "DEVRUN_PROJECT_NAME", help_heading = "Global options")]
    pub project_name: Option<String>,
    /// The [modes.M] overlay to apply
    #[arg(long, value_name = "M", global = true, env = "DEVRUN_MODE", help_heading = "Global options")]
    pub mode: Option<String>,
    /// Services of this profile too; `*` is all
    #[arg(long, value_name = "P", global = true, env = "DEVRUN_PROFILE", value_delimiter = ',', help_heading = "Global options")]
    pub profile: Vec<String>,
    /// Values for placeholders, before those of the env files of `[project]`
    #[arg(long, value_name = "F", global = true, env = "DEVRUN_ENV_FILE", help_heading = "Global options")]
    pub env_file: Option<PathBuf>,
    /// An isolated second copy: own state, own ports
    #[arg(long, value_name = "NAME", global = true, help_heading = "Global options")]
    pub instance: Option<String>,
    /// State somewhere else than in .devrun/
    #[arg(long, value_name = "DIR", global = true, env = "DEVRUN_STATE_DIR", help_heading = "Global options")]
    pub state_dir: Option<PathBuf>,
    /// When to use colour
    #[arg(
        long,
        value_name = "WHEN",
        global = true,
        env = "DEVRUN_COLOR",
        default_value = "auto",
        help_heading = "Global options"
    )]
    pub color: Color,
    /// How to show a start
    #[arg(
        long,
        value_name = "HOW",
        global = true,
        env = "DEVRUN_PROGRESS",
        default_value = "auto",
        help_heading = "Global options"
    )]
    pub progress: ProgressArg,
    /// Say what is decided and why (also DEBUG=1)
    #[arg(long, global = true, help_heading = "Global options")]
    pub debug: bool,
    /// Ask nothing
    #[arg(short = 'y', long, global = true, help_heading = "Global options")]
    pub yes: bool,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Bring up the stack, or the named services and what they need
    #[command(
        after_help = "Examples:\n  devrun up                    follow the logs; Ctrl-C stops everything in reverse order\n  devrun up -d                 return when everything is ready\n  devrun up -d api             only api and what it needs\n  devrun up -d --rollback      leave nothing running when the start fails"
    )]
    Up(UpArgs),
    /// Stop everything in reverse order; data and secrets stay
    #[command(
        after_help = "Examples:\n  devrun down\n  devrun down --emergency        kill everything that is provably this project's, now; needs no supervisor\n  devrun down --volumes          and delete the data"
    )]
    Down(DownArgs),
    /// Stop services; they stay stopped until started
    #[command(after_help = "Example:\n  devrun stop api")]
    Stop(NamesArgs),
    /// Start services and what they need
    #[command(after_help = "Example:\n  devrun start api")]
    Start(NamesArgs),
    /// Stop and start services; the procfile and environment are read again
    #[command(
        after_help = "Examples:\n  devrun restart api\n  LOG_LEVEL=debug devrun restart api\n  devrun restart postgres --with-dependents"
    )]
    Restart(RestartArgs),
    /// Send a signal to services
    #[command(after_help = "Example:\n  devrun kill -s HUP proxy")]
    Kill(KillArgs),
    /// Block until something is ready
    #[command(
        after_help = "Examples:\n  devrun wait postgres redis\n  devrun wait --all --timeout 60s\n  devrun wait postgres://app:secret@127.0.0.1:5432/app      no procfile needed\n  devrun wait http://localhost:8000/health -- npm test"
    )]
    Wait(WaitArgs),
    /// Run a command against the stack, then take the stack down; its exit code is ours
    #[command(
        after_help = "Examples:\n  devrun run -- pytest                          up, wait, run, down\n  devrun run --ephemeral api -- npm test        a throw-away copy with ports of its own\n  devrun run --with postgres@16 -- pytest       no procfile needed"
    )]
    Run(super::run::RunArgs),
    /// Run a command in a service's environment and folder
    #[command(after_help = "Examples:\n  devrun exec api -- python manage.py shell\n  devrun exec api env")]
    Exec(super::exec::ExecArgs),
    /// Open a shell in a service's environment and folder
    #[command(after_help = "Example:\n  devrun shell api")]
    Shell(super::exec::ShellArgs),
    /// Show what runs, and how it is
    #[command(
        visible_alias = "status",
        after_help = "Examples:\n  devrun ps\n  devrun ps --json\n  devrun ps --check            0 all well, 1 a service failed, 6 nothing runs"
    )]
    Ps(PsArgs),
    /// Show logs, also after the stack is down
    #[command(after_help = "Examples:\n  devrun logs -f\n  devrun logs -n 50 api worker\n  devrun logs --since 10m --grep error")]
    Logs(LogsArgs),
    /// Sit down at a service's terminal (`tty = true`): keys go to it, Ctrl-] leaves
    #[command(after_help = "Example:\n  devrun attach console        Ctrl-] leaves; the service goes on")]
    Attach(AttachArgs),
    /// Show every state change, also after the stack is down
    #[command(after_help = "Examples:\n  devrun events -f\n  devrun events --json --since 10m")]
    Events(super::events::EventsArgs),
    /// Show all that is known of one service
    #[command(after_help = "Example:\n  devrun inspect api")]
    Inspect(super::inspect::InspectArgs),
    /// Show what each service uses of CPU, memory and disks
    #[command(visible_alias = "stats", after_help = "Examples:\n  devrun top\n  devrun top --once --json")]
    Top(super::top::TopArgs),
    /// Show addresses
    #[command(after_help = "Example:\n  devrun urls --json")]
    Urls(super::urls::TableArgs),
    /// Show ports, and who holds them
    #[command(after_help = "Example:\n  devrun ports")]
    Ports(super::urls::TableArgs),
    /// Show who waits for whom
    #[command(after_help = "Examples:\n  devrun graph --live\n  devrun graph --format dot | dot -Tsvg > graph.svg")]
    Graph(super::graph::GraphArgs),
    /// Show where the time of the last start went
    #[command(after_help = "Examples:\n  devrun analyze\n  devrun analyze --json")]
    Analyze(super::analyze::AnalyzeArgs),
    /// Print the resolved configuration
    #[command(
        after_help = "Examples:\n  devrun config\n  devrun config api --origin      where each value comes from\n  devrun config write             write the generated env file of [config]"
    )]
    Config(super::config::ConfigArgs),
    /// Print variables for another program
    #[command(after_help = "Examples:\n  eval \"$(devrun env --format shell)\"\n  devrun env api --format json")]
    Env(super::env::EnvArgs),
    /// Open psql on the stack's Postgres
    #[command(
        after_help = "Examples:\n  devrun psql\n  devrun psql -c 'SELECT 1'\n  devrun psql --on reports-db -- -f report.sql"
    )]
    Psql(super::console::ClientArgs),
    /// Open redis-cli on the stack's Redis
    #[command(after_help = "Examples:\n  devrun redis-cli\n  devrun redis-cli INFO memory")]
    RedisCli(super::console::ClientArgs),
    /// Ask the stack's Postgres; no client needed
    #[command(
        after_help = "Examples:\n  devrun sql 'SELECT count(*) FROM orders'\n  devrun sql queue              a query of [queries]\n  devrun sql --json < report.sql"
    )]
    Sql(super::console::QueryArgs),
    /// Ask the stack's Neo4j; no client needed
    #[command(
        after_help = "Examples:\n  devrun cypher 'MATCH (n) RETURN labels(n), count(*)'\n  devrun cypher --json < report.cypher"
    )]
    Cypher(super::console::QueryArgs),
    /// Apply migrations to a running Postgres, or show which are applied
    #[command(after_help = "Examples:\n  devrun migrate --status\n  devrun migrate")]
    Migrate(super::console::MigrateArgs),
    /// Run a task by hand; see what is done
    #[command(
        after_help = "Examples:\n  devrun task seed --force\n  devrun task --status\n  devrun task resolve seed --rerun      after a run that was cut short"
    )]
    Task(super::task::TaskArgs),
    /// Run build commands
    #[command(after_help = "Example:\n  devrun build api")]
    Build(super::build::BuildArgs),
    /// Show the stacks on this machine
    #[command(after_help = "Example:\n  devrun ls")]
    Ls(super::stacks::LsArgs),
    /// Validate the procfile; spawns nothing
    #[command(after_help = "Example:\n  devrun check")]
    Check(CheckArgs),
    /// Write a first procfile from what lies in the folder
    #[command(after_help = "Examples:\n  devrun init\n  devrun init -o -        show it, write nothing")]
    Init(super::import::InitArgs),
    /// Write a procfile from a compose or process-compose file, and say what did not come along
    #[command(
        after_help = "Examples:\n  devrun import docker-compose.yml\n  devrun import compose.yml compose.dev.yml -o procfile.toml\n  devrun import process-compose.yaml -o -"
    )]
    Import(super::import::ImportArgs),
    /// Write the procfile in another format
    #[command(after_help = "Examples:\n  devrun export compose -o compose.yml\n  devrun export procfile --mode prod")]
    Export(super::export::ExportArgs),
    /// Say where a recipe's binaries are, and why those
    #[command(after_help = "Examples:\n  devrun which\n  devrun which postgres@16")]
    Which(super::binaries::WhichArgs),
    /// Fetch binaries into the store
    #[command(
        after_help = "Examples:\n  devrun fetch              all that the procfile needs and this machine lacks\n  devrun fetch redis@7.2"
    )]
    Fetch(super::binaries::FetchArgs),
    /// Show the pinned binaries; pin newer ones
    #[command(after_help = "Examples:\n  devrun lock\n  devrun lock --update redis")]
    Lock(super::binaries::LockArgs),
    /// Show the recipes there are
    #[command(after_help = "Example:\n  devrun catalog")]
    Catalog(super::binaries::CatalogArgs),
    /// Show and renew generated secrets
    #[command(
        after_help = "Examples:\n  devrun secret list\n  devrun secret show db-password\n  devrun secret rotate db-password      a new value, in the server and in everybody who reads it"
    )]
    Secret(super::secret::SecretArgs),
    /// Show volumes
    #[command(
        after_help = "Examples:\n  devrun volumes\n  devrun volumes adopt pgdata      take over a data folder that something else has made"
    )]
    Volumes(super::storage::VolumesArgs),
    /// Show what lies on disk
    #[command(after_help = "Example:\n  devrun df")]
    Df(super::urls::TableArgs),
    /// Delete data, secrets and logs that devrun has made; says what and asks
    #[command(after_help = "Examples:\n  devrun clean\n  devrun clean --only cache --yes")]
    Clean(super::storage::CleanArgs),
    /// Clean, then up
    #[command(after_help = "Example:\n  devrun rebuild -d --yes")]
    Rebuild(UpArgs),
    /// Look for what stands in the way of a start, each with the fix
    #[command(after_help = "Example:\n  devrun doctor")]
    Doctor(super::doctor::DoctorArgs),
    /// Write one masked archive for a bug report
    #[command(after_help = "Example:\n  devrun report -o report.tar.gz")]
    Report(super::bundle::ReportArgs),
    /// Print a completion script for a shell
    #[command(
        after_help = "Examples:\n  devrun completions bash > ~/.local/share/bash-completion/completions/devrun\n  devrun completions fish | source"
    )]
    Completions(super::reference::CompletionsArgs),
    /// Print the manual page
    #[command(after_help = "Examples:\n  devrun man | man -l -\n  devrun man --dir ~/.local/share/man/man1")]
    Man(super::reference::ManArgs),
    /// Print the JSON Schema of procfile.toml
    #[command(after_help = "Example:\n  devrun schema > procfile.schema.json")]
    Schema,
    /// Show the version
    #[command(after_help = "Example:\n  devrun version")]
    Version,
    /// Writes what of the docs is made.
    #[command(name = "__docs", hide = true)]
    Docs(super::reference::DocsArgs),
    /// Whatever else was typed.
    #[command(external_subcommand)]
    Other(Vec<OsString>),
}

#[derive(Debug, Clone, Args)]
pub struct UpArgs {
    /// Services to bring up; all if none
    #[arg(value_name = "SERVICE")]
    pub services: Vec<String>,
    /// Return when everything is ready; the supervisor goes on in the background
    #[arg(short = 'd', long, alias = "wait", short_alias = 'D')]
    pub detach: bool,
    /// With -d: return at once
    #[arg(long, requires = "detach")]
    pub no_wait: bool,
    /// Only the named services, not what they need
    #[arg(long)]
    pub no_deps: bool,
    /// A failed start takes everything down again
    #[arg(long)]
    pub rollback: bool,
    /// Any failure takes everything down
    #[arg(long, alias = "abort-on-container-exit", alias = "abort-on-container-failure")]
    pub abort_on_failure: bool,
    /// Everything goes down when this one ends, and its exit code is ours
    #[arg(long, value_name = "S")]
    pub exit_code_from: Option<String>,
    /// Copies of a service: S=N
    #[arg(long, value_name = "S=N")]
    pub scale: Vec<String>,
    /// For the whole start
    #[arg(short = 't', long, value_name = "T")]
    pub timeout: Option<String>,
    /// Choose free ports for everything
    #[arg(long, value_name = "auto")]
    pub ports: Option<String>,
    /// Make a new database cluster from nothing instead of from the cached empty one
    #[arg(long)]
    pub no_init_cache: bool,
    /// Fetch nothing
    #[arg(long, env = "DEVRUN_OFFLINE")]
    pub offline: bool,
    /// A base URL or file:// folder in the place of every vendor host
    #[arg(long, value_name = "BASE", env = "DEVRUN_MIRROR")]
    pub mirror: Option<String>,
    /// Delete data, secrets and logs first; says what and asks
    #[arg(long)]
    pub clean: bool,
    /// Run the build commands first
    #[arg(long)]
    pub build: bool,
    /// A throw-away copy: own state, own ports, nothing kept
    #[arg(long)]
    pub ephemeral: bool,
    /// Say what would be done, and why; do nothing
    #[arg(long)]
    pub plan: bool,
}

#[derive(Debug, Args)]
pub struct DownArgs {
    /// Kill everything that is provably this project's, at once; needs no supervisor and no valid procfile
    #[arg(long)]
    pub emergency: bool,
    /// With --emergency: every devrun stack of this user
    #[arg(long, requires = "emergency")]
    pub all: bool,
    /// Shorten every grace to this
    #[arg(short = 't', long, value_name = "T")]
    pub timeout: Option<String>,
    /// Delete the data of persistent and cache volumes too
    #[arg(long, short = 'v', env = "CLEANUP_VOLUMES", value_parser = clap::builder::FalseyValueParser::new(), action = clap::ArgAction::SetTrue)]
    pub volumes: bool,
}

// Verbs that take names.
#[derive(Debug, Args)]
pub struct NamesArgs {
    /// Services; all if none
    #[arg(value_name = "SERVICE")]
    pub services: Vec<String>,
}

#[derive(Debug, Args)]
pub struct RestartArgs {
    /// Services; all if none
    #[arg(value_name = "SERVICE")]
    pub services: Vec<String>,
    /// And what depends on them
    #[arg(long)]
    pub with_dependents: bool,
}

#[derive(Debug, Args)]
pub struct KillArgs {
    /// Name or number of the signal
    #[arg(short = 's', long, value_name = "SIG", default_value = "KILL")]
    pub signal: String,
    /// Services
    #[arg(value_name = "SERVICE", required = true)]
    pub services: Vec<String>,
}

#[derive(Debug, Args)]
pub struct WaitArgs {
    /// Services, tasks, or postgres:// redis:// http(s):// tcp:// unix: bolt:// addresses
    #[arg(value_name = "TARGET")]
    pub targets: Vec<String>,
    /// Everything of the stack
    #[arg(long)]
    pub all: bool,
    /// What to wait for
    #[arg(long = "for", value_name = "WHAT", default_value = "ready", value_parser = ["ready", "healthy", "exited", "stopped"])]
    pub until: String,
    /// Give up after
    #[arg(long, value_name = "T", env = "TIMEOUT")]
    pub timeout: Option<String>,
    /// The longest pause between attempts
    #[arg(long, value_name = "T", env = "RETRY_INTERVAL")]
    pub interval: Option<String>,
    /// Give up after so many attempts
    #[arg(long, value_name = "N", env = "MAX_RETRIES")]
    pub retries: Option<u32>,
    /// Redis: also SET, GET and DEL a throw-away key
    #[arg(long)]
    pub roundtrip: bool,
    /// Postgres: this schema must be there
    #[arg(long, value_name = "S")]
    pub schema: Option<String>,
    /// Postgres: this table must be there
    #[arg(long, value_name = "T")]
    pub table: Option<String>,
    /// Postgres: migrations must have been applied (devrun's, Alembic's, Django's, Flyway's, Prisma's, Rails')
    #[arg(long)]
    pub migrations: bool,
    /// HTTP: fail when the answer takes longer
    #[arg(long, value_name = "N")]
    pub max_ms: Option<u64>,
    /// Say what is tried
    #[arg(short = 'v', long)]
    pub verbose: bool,
    /// Run this when ready, in our place
    #[arg(last = true, value_name = "CMD")]
    pub command: Vec<OsString>,
}

#[derive(Debug, Args)]
pub struct PsArgs {
    /// JSON
    #[arg(long)]
    pub json: bool,
    /// Names only
    #[arg(short = 'q', long)]
    pub quiet: bool,
    /// Only those in this state or health
    #[arg(long, value_name = "S")]
    pub status: Vec<String>,
    /// Tell by the exit code whether all is well
    #[arg(long)]
    pub check: bool,
    /// Show again whenever something changes
    #[arg(long)]
    pub watch: bool,
}

#[derive(Debug, Args)]
pub struct LogsArgs {
    /// Services; all if none
    #[arg(value_name = "SERVICE")]
    pub services: Vec<String>,
    /// Go on with what comes (also -f)
    #[arg(long)]
    pub follow: bool,
    /// The last N lines of each
    #[arg(short = 'n', long = "tail", value_name = "N")]
    pub tail: Option<String>,
    /// RFC 3339 before each line
    #[arg(short = 't', long)]
    pub timestamps: bool,
    /// Not before: 10m, or RFC 3339
    #[arg(long, value_name = "T")]
    pub since: Option<String>,
    /// Not after
    #[arg(long, value_name = "T")]
    pub until: Option<String>,
    /// Only lines that match
    #[arg(long, value_name = "PATTERN")]
    pub grep: Option<String>,
    /// Only the lines of the start before the last one
    #[arg(long)]
    pub previous: bool,
    /// A JSON object a line
    #[arg(long)]
    pub json: bool,
    /// No name before each line
    #[arg(long, alias = "no-log-prefix")]
    pub no_prefix: bool,
}

#[derive(Debug, Args)]
pub struct AttachArgs {
    /// The service
    #[arg(value_name = "SERVICE")]
    pub service: String,
}

#[derive(Debug, Args)]
pub struct CheckArgs {
    /// Say nothing when all is well
    #[arg(short = 'q', long)]
    pub quiet: bool,
}

/// After `logs` and `events` a short `-f` means follow, as in compose; clap knows it as the global `--file`.
#[must_use]
pub fn follow_after_logs(words: Vec<OsString>) -> Vec<OsString> {
    let takes_value = [
        "-f",
        "--file",
        "-C",
        "--project-directory",
        "-p",
        "--project-name",
        "--mode",
        "--profile",
        "--env-file",
        "--instance",
        "--state-dir",
        "--color",
        "--progress",
    ];
    let mut verb = None;
    let mut skip = false;
    for (at, word) in words.iter().enumerate().skip(1) {
        let text = word.to_string_lossy();
        if skip {
            skip = false;
        } else if takes_value.contains(&text.as_ref()) {
            skip = true;
        } else if !text.starts_with('-') {
            verb = Some(at);
            break;
        }
    }
    let Some(at) = verb.filter(|at| words[*at] == "logs" || words[*at] == "events") else { return words };
    words
        .into_iter()
        .enumerate()
        .map(|(place, word)| if place > at && word == "-f" { OsString::from("--follow") } else { word })
        .collect()
}

/// Verbs of the contract that this version does not have.
pub const PLANNED: &[&str] = &["ui", "web", "routes", "resources", "snapshot", "backup", "restore", "scale"];

/// The answer to a verb that is not here.
#[must_use]
pub fn not_built(words: &[OsString]) -> Failure {
    let verb = words.first().map(|word| word.to_string_lossy().into_owned()).unwrap_or_default();
    if PLANNED.contains(&verb.as_str()) {
        Failure::new(FailureKind::Config, format!("`devrun {verb}` is not built yet"))
            .help("`devrun help` lists the verbs that are")
    } else {
        Failure::new(FailureKind::Config, format!("there is no verb {verb:?}")).help("`devrun help` lists the verbs")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_word_has_its_help() {
        fn look(command: &clap::Command) {
            let name = command.get_name();
            assert!(command.is_hide_set() || command.get_about().is_some(), "{name}");
            for argument in command.get_arguments().filter(|argument| !argument.is_hide_set()) {
                assert!(argument.get_help().is_some(), "{name}: {}", argument.get_id());
            }
            command.get_subcommands().for_each(look);
        }
        let mut command = Cli::command();
        command.build();
        look(&command);
    }

    #[test]
    fn a_short_f_after_logs_means_follow() {
        let words = |line: &str| line.split(' ').map(OsString::from).collect::<Vec<_>>();
        assert_eq!(follow_after_logs(words("devrun logs -f api")), words("devrun logs --follow api"));
        assert_eq!(follow_after_logs(words("devrun -f x.toml logs -f")), words("devrun -f x.toml logs --follow"));
        assert_eq!(follow_after_logs(words("devrun up -f x.toml")), words("devrun up -f x.toml"));
    }
}
