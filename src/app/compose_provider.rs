//! One service of a compose file that devrun runs (`provider: { type: devrun }`).
//!
//! Compose starts the provider with the name of its project and of the service, and reads one JSON object a line from its standard
//! output. Each such service is a stack of its own in the user's state directory, so that it stays up when the provider ends, and is
//! found again by the next call. Protocol: `docs/extension.md` of docker/compose.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use devrun_keeper::{file_size_limit, own_program};
use devrun_model::{Failure, FailureKind, ServiceSpec, exit};
use devrun_runtime::{runtime_dir, trace_masks};
use serde_json::{Value, json};

use super::load::{self, Wanted};
use super::own_command;
use super::user_state;
use crate::globals::{Color, Globals, ProgressArg};
use crate::ui::term::data;

const PROCFILE: &str = "procfile.toml";

/// An option of `up`: its name, what it is, its type in the words of the protocol, and whether it has to be given.
struct ProviderOption {
    name: &'static str,
    text: &'static str,
    kind: &'static str,
    required: bool,
}

const OPTIONS: [ProviderOption; 8] = [
    ProviderOption { name: "recipe", text: "What runs: postgres@16, redis, minio …", kind: "string", required: true },
    ProviderOption { name: "port", text: "Port on 127.0.0.1; a free one without it", kind: "integer", required: false },
    ProviderOption { name: "user", text: "Login", kind: "string", required: false },
    ProviderOption { name: "password", text: "Its password; a generated one without it", kind: "string", required: false },
    ProviderOption { name: "database", text: "Database that is made at the first start", kind: "string", required: false },
    ProviderOption { name: "init", text: "File or directory of the first start; repeatable", kind: "string", required: false },
    ProviderOption { name: "extension", text: "Extension of the database; repeatable", kind: "string", required: false },
    ProviderOption { name: "set", text: "Setting of the server as NAME=VALUE; repeatable", kind: "string", required: false },
];

/// What the compose file says of the service.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ProvidedService {
    /// `use` of the service.
    pub recipe: String,
    /// Its port; `None`: a free one.
    pub port: Option<u16>,
    /// Its login.
    pub user: Option<String>,
    /// The password of that login.
    pub password: Option<String>,
    /// Its database.
    pub database: Option<String>,
    /// First-boot files; relative ones count from the working directory.
    pub init: Vec<PathBuf>,
    /// Extensions of the database.
    pub extensions: Vec<String>,
    /// Settings, each `NAME=VALUE`.
    pub set: Vec<String>,
}

/// Whose service it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ComposeService {
    /// The name of the compose project.
    pub project: String,
    /// The name of the service in the compose file.
    pub service: String,
}

/// The options of each command, for compose and for editors.
#[must_use]
pub fn metadata() -> Value {
    let parameter = |option: &ProviderOption| json!({ "name": option.name, "description": option.text, "required": option.required, "type": option.kind });
    json!({
        "description": "Runs a service natively, without a container",
        "up": { "parameters": OPTIONS.iter().map(parameter).collect::<Vec<_>>() },
        "down": { "parameters": [] },
        "stop": { "parameters": [] },
    })
}

/// Starts the service, or makes sure that it runs as it is described now, and says how its clients reach it.
///
/// # Errors
/// `Config` for names or options that cannot be used; as `devrun up` ends.
pub fn up(globals: &Globals, whose: &ComposeService, wanted: &ProvidedService) -> Result<(), Failure> {
    let directory = directory(whose)?;
    user_state::make_directory(&directory, 4)?;
    let text = procfile(whose, wanted)?;
    let path = directory.join(PROCFILE);
    if std::fs::read_to_string(&path).ok().as_deref() != Some(&text) {
        runtime_dir::replace(&path, text.as_bytes()).map_err(|error| user_state::unusable(&path, &error))?;
    }
    let own = own(globals, &directory, ProgressArg::Plain);
    run(&own, &directory, &["up", "-d"])?;
    let project = load::project(&own)?;
    let plan = load::plan(&own, &project, &Wanted::look())?;
    if let Some(spec) = plan.services.values().next() {
        for (name, value) in variables(spec) {
            message("setenv", &format!("{name}={value}"));
        }
    }
    Ok(())
}

/// Stops the service. Its data stays, as compose keeps named volumes.
///
/// # Errors
/// As `devrun down` ends.
pub fn down(globals: &Globals, whose: &ComposeService) -> Result<(), Failure> {
    let directory = directory(whose)?;
    if !directory.join(PROCFILE).is_file() {
        return Ok(());
    }
    run(&own(globals, &directory, ProgressArg::Quiet), &directory, &["down"])
}

/// A line for compose. One that reads no more has ended the command.
pub fn message(kind: &str, text: &str) {
    let _gone = data(json!({ "type": kind, "message": text }).to_string());
}

fn own(globals: &Globals, directory: &Path, progress: ProgressArg) -> Globals {
    Globals { progress, color: Color::Never, yes: false, ..globals.of_procfile(directory.join(PROCFILE)) }
}

/// Runs a command on the service's stack. What it prints becomes the state that compose shows.
fn run(own: &Globals, directory: &Path, words: &[&str]) -> Result<(), Failure> {
    let failed = |error: std::io::Error| Failure::new(FailureKind::Internal, format!("cannot run devrun itself: {error}"));
    let mut command = Command::new(own_program::path());
    command.arg0("devrun").args(own_command::arguments(own)).args(words);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    own_command::of_no_stack(&mut command);
    file_size_limit::restore_in_child(&mut command);
    let mut child = command.spawn().map_err(failed)?;
    let mut last = String::new();
    if let Some(output) = child.stderr.take() {
        for line in BufReader::new(output).split(b'\n') {
            let line = line.map_err(failed)?;
            let line = String::from_utf8_lossy(&line).trim_end().to_owned();
            // What is set in are hints of what to type next.
            if !line.is_empty() && !line.starts_with("  ") {
                message("info", &line);
                last = line;
            }
        }
    }
    let code = child.wait().map_err(failed)?.code().unwrap_or(exit::INTERNAL);
    let kind = match code {
        exit::DONE => return Ok(()),
        exit::PORT_TAKEN => FailureKind::PortTaken,
        exit::BINARY => FailureKind::Binary,
        exit::USAGE => FailureKind::Config,
        _ => FailureKind::Service,
    };
    let reason = last.split_once("): ").map_or(last.as_str(), |(_, reason)| reason);
    Err(Failure::new(kind, reason).help(format!("devrun -C {} logs", directory.display())))
}

/// Where the stack of a service lies: below the user's state directory, by project and service.
fn directory(whose: &ComposeService) -> Result<PathBuf, Failure> {
    let env = std::env::vars().collect();
    let state = user_state::directory(&env).ok_or_else(|| {
        Failure::new(FailureKind::Config, "a service of compose needs a state directory of the user, and HOME is not set")
            .help("set HOME or XDG_STATE_HOME")
    })?;
    let mut path = state.join("compose");
    for (what, name) in [("project", &whose.project), ("service", &whose.service)] {
        let usual = |char: char| char.is_ascii_alphanumeric() || matches!(char, '_' | '-' | '.');
        if name.is_empty() || name.len() > 100 || name.starts_with('.') || !name.chars().all(usual) {
            return Err(Failure::new(FailureKind::Config, format!("invalid {what} name {name:?}"))
                .help("use letters, digits, `-` and `_`, as compose does"));
        }
        path.push(name);
    }
    Ok(path)
}

/// A name of compose as one of a procfile.
fn procfile_name(name: &str) -> String {
    let usual = |char: char| char.is_ascii_alphanumeric() || matches!(char, '_' | '-');
    let name: String = name.chars().take(63).map(|char| if usual(char) { char } else { '-' }).collect();
    let name = name.trim_matches(['-', '_']);
    if name.is_empty() { "service".to_owned() } else { name.to_owned() }
}

fn procfile(whose: &ComposeService, wanted: &ProvidedService) -> Result<String, Failure> {
    // What compose has filled in is meant as it stands.
    let word = |text: &str| toml::Value::String(text.replace('$', "$$"));
    let mut service = toml::Table::new();
    service.insert("use".to_owned(), word(&wanted.recipe));
    let port = wanted.port.map_or_else(|| toml::Value::String("auto".to_owned()), |port| toml::Value::Integer(port.into()));
    service.insert("port".to_owned(), port);
    for (name, value) in [("user", &wanted.user), ("password", &wanted.password), ("database", &wanted.database)] {
        if let Some(value) = value {
            service.insert(name.to_owned(), word(value));
        }
    }
    if !wanted.init.is_empty() {
        let mut files = Vec::new();
        for file in &wanted.init {
            let path = std::path::absolute(file).map_err(|error| {
                Failure::new(FailureKind::Config, format!("init {}: {error}", file.display())).help("name a file or a directory")
            })?;
            let text = path.to_str().ok_or_else(|| {
                Failure::new(FailureKind::Config, format!("init {}: not UTF-8", path.display())).help("rename it")
            })?;
            files.push(word(text));
        }
        service.insert("init".to_owned(), files.into());
    }
    if !wanted.extensions.is_empty() {
        service.insert("extensions".to_owned(), wanted.extensions.iter().map(|name| word(name)).collect::<Vec<_>>().into());
    }
    if !wanted.set.is_empty() {
        let mut settings = toml::Table::new();
        for setting in &wanted.set {
            let (name, value) = setting.split_once('=').ok_or_else(|| {
                Failure::new(FailureKind::Config, format!("set: {setting:?} is not NAME=VALUE"))
                    .help("set: [\"max_connections=50\"]")
            })?;
            settings.insert(name.to_owned(), word(value));
        }
        service.insert("set".to_owned(), settings.into());
    }
    let mut project = toml::Table::new();
    project.insert("name".to_owned(), procfile_name(&format!("{}-{}", whose.project, whose.service)).into());
    let mut services = toml::Table::new();
    services.insert(procfile_name(&whose.service), service.into());
    let mut table = toml::Table::new();
    table.insert("project".to_owned(), project.into());
    table.insert("services".to_owned(), services.into());
    let failed = |error: toml::ser::Error| Failure::new(FailureKind::Internal, format!("cannot write a procfile: {error}"));
    let text = toml::to_string(&table).map_err(failed)?;
    let (project, service) = (&whose.project, &whose.service);
    Ok(format!(
        "# Written by devrun for the service {service} of the compose project {project}. Changes are overwritten.\n{text}"
    ))
}

/// How clients reach it, by names that compose puts the service's own before: `URL` is `DB_URL` there.
fn variables(spec: &ServiceSpec) -> BTreeMap<String, String> {
    let of_clients = |(name, value): (&String, &String)| {
        let name = name.to_ascii_uppercase().replace(['.', '-'], "_");
        (!matches!(name.as_str(), "DATA" | "ADDR") && !value.is_empty()).then(|| (name, value.clone()))
    };
    spec.attributes.iter().filter_map(of_clients).collect()
}

/// What failed, in the form that compose shows.
pub fn report(failure: &Failure) {
    let help = failure.help.as_ref().map(|help| format!("\nhelp: {help}")).unwrap_or_default();
    message("error", &trace_masks::masked(&format!("{}{help}", failure.reason)));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn whose(project: &str, service: &str) -> ComposeService {
        ComposeService { project: project.to_owned(), service: service.to_owned() }
    }

    #[test]
    fn the_stack_of_a_service() {
        let wanted = ProvidedService {
            recipe: "postgres@16".to_owned(),
            port: Some(5433),
            password: Some("a$b\"c".to_owned()),
            init: vec![PathBuf::from("/p/db/init")],
            extensions: vec!["pgcrypto".to_owned()],
            set: vec!["work_mem=8MB".to_owned(), "application_name=a=b".to_owned()],
            ..ProvidedService::default()
        };
        let table: toml::Table = toml::from_str(&procfile(&whose("shop", "Main.DB"), &wanted).unwrap()).unwrap();
        assert_eq!(table["project"]["name"].as_str(), Some("shop-Main-DB"));
        let service = &table["services"]["Main-DB"];
        assert_eq!(service["use"].as_str(), Some("postgres@16"));
        assert_eq!(service["port"].as_integer(), Some(5433));
        assert_eq!(service["password"].as_str(), Some("a$$b\"c"), "a dollar is meant as it stands");
        assert_eq!(service["init"][0].as_str(), Some("/p/db/init"));
        assert_eq!(service["set"]["application_name"].as_str(), Some("a=b"));
        let free = procfile(&whose("shop", "db"), &ProvidedService { port: None, ..wanted.clone() }).unwrap();
        assert!(free.contains("port = \"auto\""), "{free}");
        let wrong = procfile(&whose("shop", "db"), &ProvidedService { set: vec!["work_mem".to_owned()], ..wanted }).unwrap_err();
        assert_eq!(wrong.kind, FailureKind::Config);
    }

    #[test]
    fn names_lead_nowhere_else() {
        for (project, service) in
            [("..", "db"), ("shop", "../db"), ("shop", ""), ("a/b", "db"), ("shop", "d b"), ("shop", ".git")]
        {
            let refused = directory(&whose(project, service)).unwrap_err();
            assert_eq!(refused.kind, FailureKind::Config, "{project} {service}");
        }
        assert_eq!((procfile_name("1st_db.x"), procfile_name("_.")), ("1st_db-x".to_owned(), "service".to_owned()));
    }

    #[test]
    fn every_option_is_described() {
        let metadata = metadata();
        let parameters = metadata["up"]["parameters"].as_array().unwrap();
        let required: Vec<_> = parameters.iter().filter(|one| one["required"] == true).map(|one| one["name"].as_str()).collect();
        assert_eq!(required, [Some("recipe")]);
        assert!(metadata["down"]["parameters"].is_array() && metadata["stop"]["parameters"].is_array());
    }
}
