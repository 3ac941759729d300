//! Every word of the command line.
//!
//! Long because each word stands here with its help, which is also the reference page.

use std::ffi::OsString;

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use crate::globals::{self, Globals};

/// Runs a stack of native services from one procfile.
#[derive(Debug, Parser)]
#[command(
    name = "devrun",
    version,
    about = "Runs a stack of native services from one procfile.toml: no containers, nothing left running.",
    after_help = "Examples:\n  devrun up              bring the stack up and follow its logs; Ctrl-C stops it\n  devrun up -d           return when everything is ready\n  devrun wait postgres   block until one service is ready\n  devrun ps              what runs, and how it is\n  devrun logs -f api     follow one service\n  devrun down            stop everything in reverse order; data stays",
    disable_help_subcommand = true,
    infer_subcommands = false
)]
pub struct Cli {
    /// For every command.
    #[command(flatten)]
    pub globals: Globals,
    /// The command.
    #[command(subcommand)]
    pub verb: Verb,
}

/// What to do. The options of a command are built only if it is the one that was typed.
#[derive(Debug, Subcommand)]
#[command(defer = true)]
pub enum Verb {
    /// Start the stack, or the named services and their dependencies
    #[command(
        after_help = "Examples:\n  devrun up                    follow the logs; Ctrl-C stops everything in reverse order\n  devrun up -d                 return when everything is ready\n  devrun up -d api             only api and what it needs\n  devrun up -d --rollback      leave nothing running when the start fails"
    )]
    Up(crate::cli::service::up::UpArgs),
    /// Stop the stack in reverse dependency order; keep data and secrets
    #[command(
        after_help = "Examples:\n  devrun down\n  devrun down --emergency        kill everything that is provably this project's, now; needs no supervisor\n  devrun down --volumes          and delete the data\n  devrun down --backup           save the data first"
    )]
    Down(crate::cli::service::down::DownArgs),
    /// Stop services until they are started again
    #[command(after_help = "Examples:\n  devrun stop api\n  devrun stop -t 5s api      kill it after five seconds")]
    Stop(crate::cli::service::control::StopArgs),
    /// Start services and their dependencies
    #[command(after_help = "Example:\n  devrun start api")]
    Start(crate::cli::service::control::StartArgs),
    /// Restart services with the current procfile and environment
    #[command(
        after_help = "Examples:\n  devrun restart api\n  LOG_LEVEL=debug devrun restart api\n  devrun restart postgres --with-dependents\n  devrun restart -t 5s api      kill it after five seconds"
    )]
    Restart(crate::cli::service::control::RestartArgs),
    /// Send a signal to services
    #[command(after_help = "Example:\n  devrun kill -s HUP proxy")]
    Kill(crate::cli::service::control::KillArgs),
    /// Wait until services or addresses are ready
    #[command(
        after_help = "Examples:\n  devrun wait postgres redis\n  devrun wait --all --timeout 60s\n  devrun wait postgres://app:secret@127.0.0.1:5432/app      no procfile needed\n  devrun wait http://localhost:8000/health -- npm test"
    )]
    Wait(crate::cli::service::wait::WaitArgs),
    /// Start the stack, run a command, stop the stack; exit with the command's code
    #[command(
        after_help = "Examples:\n  devrun run -- pytest                          up, wait, run, down\n  devrun run --ephemeral api -- npm test        a throw-away copy with ports of its own\n  devrun run --with postgres@16 -- pytest       no procfile needed"
    )]
    Run(crate::cli::service::run::RunArgs),
    /// Set the number of copies of a running service; remembered until the procfile's number changes
    #[command(
        after_help = "Examples:\n  devrun scale api=3 worker=2\n  devrun scale api=        back to the number of the procfile"
    )]
    Scale(crate::cli::service::scale::ScaleArgs),
    /// Run a command in the environment and working directory of a service
    #[command(
        after_help = "Examples:\n  devrun exec api -- python manage.py shell\n  devrun exec api env\n  devrun exec -e LOG_LEVEL=debug -w tools api -- ./import.sh"
    )]
    Exec(crate::cli::service::exec::ExecArgs),
    /// Open a shell in the environment and working directory of a service
    #[command(after_help = "Example:\n  devrun shell api")]
    Shell(crate::cli::service::exec::ShellArgs),
    /// List services with their state and health
    #[command(
        visible_alias = "status",
        after_help = "Examples:\n  devrun ps\n  devrun ps --json\n  devrun ps --check            0 all well, 1 a service failed, 6 nothing runs\n  devrun ps --no-trunc         every column in full, also on a narrow terminal"
    )]
    Ps(crate::cli::show::ps::PsArgs),
    /// Show log output; works without a running stack
    #[command(after_help = "Examples:\n  devrun logs -f\n  devrun logs -n 50 api worker\n  devrun logs --since 10m --grep error")]
    Logs(crate::cli::show::logs::LogsArgs),
    /// Attach to a service's terminal (`tty = true`; detach with Ctrl-])
    #[command(
        after_help = "Where the input is not a terminal, its end does not detach: the output is shown until the service ends.\n\nExample:\n  devrun attach console        Ctrl-] detaches; the service keeps running"
    )]
    Attach(crate::cli::service::attach::AttachArgs),
    /// Show state changes; works without a running stack
    #[command(after_help = "Examples:\n  devrun events -f\n  devrun events --json --since 10m")]
    Events(crate::cli::show::events::EventsArgs),
    /// Show details of a service
    #[command(after_help = "Example:\n  devrun inspect api")]
    Inspect(crate::cli::show::inspect::InspectArgs),
    /// Show why a service is not running, not ready, or was restarted; works without a running stack
    #[command(after_help = "Examples:\n  devrun why api\n  devrun why api --json")]
    Why(crate::cli::show::why::WhyArgs),
    /// Show CPU, memory and disk usage of each service
    #[command(
        visible_alias = "stats",
        after_help = "Examples:\n  devrun top\n  devrun top api db\n  devrun top --tree            with every process below each service\n  devrun top --once --json"
    )]
    Top(crate::cli::show::top::TopArgs),
    /// Open the full-screen terminal dashboard; works without a running stack
    #[command(
        after_help = "Examples:\n  devrun ui            q leaves and stops nothing; ? shows every key\n  devrun up --ui       start the stack and watch it"
    )]
    Ui,
    /// Serve the browser dashboard and Prometheus metrics on loopback
    #[command(
        after_help = "Examples:\n  devrun web               prints its address with the token; Ctrl-C ends it\n  devrun web --port 8700 --open\n\nPrometheus reads /metrics with the token as a bearer."
    )]
    Web(crate::cli::show::web::WebArgs),
    /// Serve tools for agents on standard input and output (Model Context Protocol)
    #[command(
        after_help = "Example of an agent's configuration:\n  { \"mcpServers\": { \"devrun\": { \"command\": \"devrun\", \"args\": [\"-C\", \"/path/to/project\", \"mcp\"] } } }"
    )]
    Mcp,
    /// Show limits and reservations of all services, and what is enforced on this machine
    #[command(after_help = "Example:\n  devrun resources")]
    Resources(crate::cli::table_args::TableArgs),
    /// List URLs of services
    #[command(after_help = "Example:\n  devrun urls --json")]
    Urls(crate::cli::table_args::TableArgs),
    /// List ports and the processes that listen on them
    #[command(after_help = "Example:\n  devrun ports")]
    Ports(crate::cli::table_args::TableArgs),
    /// Show the routes of gateways; ask them
    #[command(
        after_help = "Examples:\n  devrun routes\n  devrun routes --check      ask every route and name the service that answered"
    )]
    Routes(crate::cli::show::routes::RoutesArgs),
    /// Install the local certificate authority of gateways with `tls`, so that browsers accept them
    #[command(
        after_help = "The certificate goes into the system's store and into the databases of Chromium and Firefox. What needs root is printed as a command.\n\nExamples:\n  devrun trust\n  devrun trust --remove"
    )]
    Trust(crate::cli::service::trust::TrustArgs),
    /// Show the dependency graph
    #[command(after_help = "Examples:\n  devrun graph --live\n  devrun graph --format dot | dot -Tsvg > graph.svg")]
    Graph(crate::cli::show::graph::GraphArgs),
    /// Show how long each step of the last start took
    #[command(after_help = "Examples:\n  devrun analyze\n  devrun analyze --json")]
    Analyze(crate::cli::show::analyze::AnalyzeArgs),
    /// Print the resolved configuration
    #[command(
        after_help = "Examples:\n  devrun config\n  devrun config api --origin      where each value comes from\n  devrun config write             write the generated env file of [config]"
    )]
    Config(crate::cli::show::config::ConfigArgs),
    /// Print environment variables for clients of the stack
    #[command(after_help = "Examples:\n  eval \"$(devrun env --format shell)\"\n  devrun env api --format json")]
    Env(crate::cli::show::env::EnvArgs),
    /// Run psql against the stack's Postgres
    #[command(
        after_help = "Examples:\n  devrun psql\n  devrun psql -c 'SELECT 1'\n  devrun psql --on reports-db -- -f report.sql"
    )]
    Psql(crate::cli::data::client::ClientArgs),
    /// Run redis-cli against the stack's Redis
    #[command(after_help = "Examples:\n  devrun redis-cli\n  devrun redis-cli INFO memory")]
    RedisCli(crate::cli::data::client::ClientArgs),
    /// Run SQL against the stack's Postgres; no client required
    #[command(
        after_help = "Examples:\n  devrun sql 'SELECT count(*) FROM orders'\n  devrun sql queue              a query of [queries]\n  devrun sql --json < report.sql"
    )]
    Sql(crate::cli::data::client::QueryArgs),
    /// Run Cypher against the stack's Neo4j; no client required
    #[command(
        after_help = "Examples:\n  devrun cypher 'MATCH (n) RETURN labels(n), count(*)'\n  devrun cypher --json < report.cypher"
    )]
    Cypher(crate::cli::data::client::QueryArgs),
    /// Apply migrations to a running Postgres, or show their status
    #[command(after_help = "Examples:\n  devrun migrate --status\n  devrun migrate")]
    Migrate(crate::cli::data::client::MigrateArgs),
    /// Run a task, or show the status of tasks
    #[command(
        after_help = "Examples:\n  devrun task seed --force\n  devrun task --status\n  devrun task resolve seed --rerun      after a run that was cut short"
    )]
    Task(crate::cli::service::task::TaskArgs),
    /// Run build commands
    #[command(after_help = "Example:\n  devrun build api")]
    Build(crate::cli::service::build::BuildArgs),
    /// List running stacks of this user
    #[command(after_help = "Example:\n  devrun ls")]
    Ls(crate::cli::show::ls::LsArgs),
    /// Validate the procfile without starting anything
    #[command(after_help = "Example:\n  devrun check")]
    Check(crate::cli::show::check::CheckArgs),
    /// Start a small stack that needs no procfile; Ctrl-C removes it
    #[command(after_help = "Examples:\n  devrun demo\n  devrun demo --write shop      write its files to a new directory")]
    Demo(crate::cli::demo::DemoArgs),
    /// Create a procfile from the contents of the directory
    #[command(
        after_help = "Examples:\n  devrun init\n  devrun init -o -        show it, write nothing\n  devrun init --agents    write what agents need to know into AGENTS.md"
    )]
    Init(crate::cli::convert::import::InitArgs),
    /// Convert a compose or process-compose file to a procfile, and report what was not converted
    #[command(
        after_help = "Examples:\n  devrun import docker-compose.yml\n  devrun import compose.yml compose.dev.yml -o procfile.toml\n  devrun import process-compose.yaml -o -"
    )]
    Import(crate::cli::convert::import::ImportArgs),
    /// Convert the procfile to another format
    #[command(
        after_help = "Examples:\n  devrun export compose -o compose.yml\n  devrun export compose --check -o compose.yml\n  devrun export kubernetes -o k8s\n  devrun export systemd -o ~/.config/systemd/user\n  devrun export procfile --mode prod"
    )]
    Export(crate::cli::convert::export::ExportArgs),
    /// Show which binaries a recipe uses, and why
    #[command(after_help = "Examples:\n  devrun which\n  devrun which postgres@16")]
    Which(crate::cli::store::binaries::WhichArgs),
    /// Download binaries into the store
    #[command(
        after_help = "Examples:\n  devrun fetch              all that the procfile needs and this machine lacks\n  devrun fetch redis@7.2"
    )]
    Fetch(crate::cli::store::binaries::FetchArgs),
    /// Show or update the pinned binaries
    #[command(after_help = "Examples:\n  devrun lock\n  devrun lock --update redis")]
    Lock(crate::cli::store::binaries::LockArgs),
    /// List available recipes
    #[command(after_help = "Example:\n  devrun catalog")]
    Catalog(crate::cli::store::binaries::CatalogArgs),
    /// List, show and rotate generated secrets
    #[command(
        after_help = "Examples:\n  devrun secret list\n  devrun secret show db-password\n  devrun secret rotate db-password      a new value, in the server and in everybody who reads it"
    )]
    Secret(crate::cli::data::secret::SecretArgs),
    /// List volumes
    #[command(
        after_help = "Examples:\n  devrun volumes\n  devrun volumes adopt pgdata      take over a data directory made by another tool"
    )]
    Volumes(crate::cli::data::volumes::VolumesArgs),
    /// Save, list and restore the data of the whole stack
    #[command(
        after_help = "Examples:\n  devrun snapshot save before-migration\n  devrun snapshot list\n  devrun snapshot restore before-migration"
    )]
    Snapshot(crate::cli::data::snapshot::SnapshotArgs),
    /// Save the data of a service to a file
    #[command(
        after_help = "A Postgres is dumped and a Redis copied while they run; other servers are stopped for the copy of their data directory.\n\nExamples:\n  devrun backup postgres\n  devrun backup postgres --plain -o dump.sql\n  devrun backup minio -o minio.tar.gz"
    )]
    Backup(crate::cli::data::backup::BackupArgs),
    /// Replace the data of a service by a backup, after confirmation
    #[command(after_help = "Example:\n  devrun restore postgres postgres-20260301-093000.dump")]
    Restore(crate::cli::data::backup::RestoreArgs),
    /// List and delete the data of git branches
    #[command(after_help = "Examples:\n  devrun branch list\n  devrun branch rm feature/x")]
    Branch(crate::cli::data::branch::BranchArgs),
    /// Make databases for tests
    #[command(after_help = "Examples:\n  export DATABASE_URL=$(devrun db fork)\n  devrun db fork -- pytest\n  devrun db list")]
    Db(crate::cli::data::db::DbArgs),
    /// Show disk usage
    #[command(after_help = "Example:\n  devrun df")]
    Df(crate::cli::table_args::TableArgs),
    /// Delete data, secrets and logs created by devrun, after confirmation
    #[command(after_help = "Examples:\n  devrun clean\n  devrun clean --only cache --yes")]
    Clean(crate::cli::data::volumes::CleanArgs),
    /// Delete all data, then start the stack
    #[command(after_help = "Example:\n  devrun rebuild -d --yes")]
    Rebuild(crate::cli::service::up::UpArgs),
    /// Diagnose problems that would prevent a start, with fixes
    #[command(after_help = "Example:\n  devrun doctor")]
    Doctor(crate::cli::show::doctor::DoctorArgs),
    /// Create an archive for a bug report, with secrets masked
    #[command(after_help = "Example:\n  devrun report -o report.tar.gz")]
    Report(crate::cli::show::report::ReportArgs),
    /// Print a shell completion script
    #[command(
        after_help = "Examples:\n  devrun completions bash > ~/.local/share/bash-completion/completions/devrun\n  devrun completions fish | source"
    )]
    Completions(CompletionsArgs),
    /// Print the manual page
    #[command(after_help = "Examples:\n  devrun man | man -l -\n  devrun man --dir ~/.local/share/man/man1")]
    Man(ManArgs),
    /// Print the JSON schema of procfile.toml
    #[command(after_help = "Example:\n  devrun schema > procfile.schema.json")]
    Schema,
    /// Print help of a command
    #[command(
        after_help = "Examples:\n  devrun help up\n  devrun help --markdown           everything, for an agent\n  devrun help --markdown procfile"
    )]
    Help(HelpArgs),
    /// Replace this binary with the newest release
    #[command(name = "self", after_help = "Example:\n  devrun self update --from https://example.com/devrun/latest")]
    SelfUpdate(crate::cli::self_update::SelfArgs),
    /// Show the version
    #[command(after_help = "Examples:\n  devrun version\n  devrun version --json")]
    Version(crate::cli::version::VersionArgs),
    /// Serve a service of a compose file (docker compose calls it for `provider: { type: devrun }`).
    #[command(hide = true)]
    Compose(crate::cli::service::compose::ComposeArgs),
    /// Serves the routes of a gateway.
    #[command(name = "__gateway", hide = true)]
    Gateway(crate::cli::service::gateway::GatewayArgs),
    /// Receives telemetry of the stack's services.
    #[command(name = "__telemetry", hide = true)]
    Telemetry(crate::cli::service::telemetry::TelemetryArgs),
    /// Does for a unit of `export systemd` what systemd cannot.
    #[command(name = "__unit", hide = true)]
    Unit(crate::cli::service::unit::UnitArgs),
    /// Drops databases of tests whose callers have ended.
    #[command(name = "__forks", hide = true)]
    Forks,
    /// The processes behind `scope = "user"`.
    #[command(name = "__shared", hide = true)]
    Shared(crate::cli::service::shared::SharedArgs),
    /// Prints the names of services and tasks, for the shell's completion.
    #[command(name = "__services", hide = true)]
    Services,
    /// Writes what of the docs is made.
    #[command(name = "__docs", hide = true)]
    Docs(DocsArgs),
    /// Whatever else was typed.
    #[command(external_subcommand)]
    Other(Vec<OsString>),
}

/// After `logs` and `events` a short `-f` means follow, as in compose; clap knows it as the global `--file`.
#[must_use]
pub fn follow_after_logs(words: Vec<OsString>) -> Vec<OsString> {
    let verb = globals::verb_at(&words);
    let Some(at) = verb.filter(|at| words[*at] == "logs" || words[*at] == "events") else { return words };
    words
        .into_iter()
        .enumerate()
        .map(|(place, word)| if place > at && word == "-f" { OsString::from("--follow") } else { word })
        .collect()
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

// `help`.
#[derive(Debug, Args)]
pub struct HelpArgs {
    /// Command, or with --markdown also: procfile, commands, agents [default: everything]
    #[arg(value_name = "TOPIC")]
    pub topic: Option<String>,
    /// Print as Markdown, for agents and other programs
    #[arg(long)]
    pub markdown: bool,
}

// `completions`.
#[derive(Debug, Args)]
pub struct CompletionsArgs {
    /// Shell to complete for
    #[arg(value_name = "SHELL")]
    pub shell: clap_complete::Shell,
}

// `man`.
#[derive(Debug, Args)]
pub struct ManArgs {
    /// Directory to write one page per command to, instead of the main page to stdout
    #[arg(long, value_name = "DIR")]
    pub dir: Option<PathBuf>,
}

// `__docs`.
#[derive(Debug, Args)]
pub struct DocsArgs {
    /// Directory
    pub dir: PathBuf,
}
