//! Brings the shared servers up that a checkout needs, and makes its databases there.
//!
//! `up` registers the leases itself and leaves the rest to a process of its own (`devrun __shared start`): asking a server needs
//! threads, and `up -d` forks before it has any.

use std::ffi::OsString;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use devrun_config::{Document, Facts, UserScope};
use devrun_keeper::{file_size_limit, own_program};
use devrun_model::{Failure, FailureKind, Plan, ServiceSpec, exit};
use devrun_runtime::runtime_dir;

use super::grant;
use super::leases::{self, ServerLease};
use super::location::{self, SERVER};
use crate::app::load::{self, Project, Read, Wanted};
use crate::app::own_command;
use crate::app::user_state;
use crate::globals::{Globals, ProgressArg};

const PROCFILE: &str = "procfile.toml";
/// One service of a checkout on its shared server.
struct Use {
    scope: UserScope,
    suffix: String,
    port: u16,
    directory: PathBuf,
    lease: ServerLease,
    password: String,
}

fn uses(project: &Project, document: &Document, facts: &Facts, plan: &Plan) -> Result<Vec<Use>, Failure> {
    let mut found = Vec::new();
    for scope in document.user_scopes() {
        let Some(server) = facts.shared.get(&scope.service) else { continue };
        let Some(spec) = plan.services.values().find(|spec| spec.service.as_str() == scope.service) else { continue };
        let user = spec.attribute("user").unwrap_or_default();
        let lease = ServerLease {
            root: project.root.clone(),
            lock: project.places.instance_lock(),
            database: spec.attribute("database").unwrap_or_else(|| user.clone()),
            user,
        };
        found.push(Use {
            suffix: server.suffix.clone(),
            port: server.port,
            directory: location::directory(&project.env, &scope)?,
            lease,
            password: spec.attribute("password").unwrap_or_default(),
            scope,
        });
    }
    Ok(found)
}

/// Before a start: makes sure of the shared servers of a stack. They stay up for as long as this process lives, and then for as
/// long as the stack is up. A number: what is wrong has been printed, with this exit code.
///
/// # Errors
/// `Config` when a lease cannot be registered, `Internal` when no process can be made.
pub fn before_start(globals: &Globals, project: &Project, read: &Read, named: &[String]) -> Result<Option<i32>, Failure> {
    let uses = uses(project, &read.document, &read.facts, &read.plan)?;
    if uses.is_empty() {
        return Ok(None);
    }
    for one in uses {
        leases::hold(&one.directory, &one.suffix, &one.lease)?.keep();
    }
    let words: Vec<OsString> =
        ["__shared", "start"].into_iter().chain(named.iter().map(String::as_str)).map(Into::into).collect();
    let code = own_command::run(globals, &words)?;
    Ok(Some(code).filter(|code| *code != exit::DONE))
}

/// The process of its own; see the module's text.
///
/// # Errors
/// As the server's stack ends; `Credentials` or `Task` when the server refuses the database.
pub fn run(globals: &Globals, named: &[String]) -> Result<(), Failure> {
    let project = load::project(globals)?;
    let wanted = Wanted { named: named.to_vec(), ..Wanted::look() };
    let read = load::read(globals, &project, &wanted)?;
    for one in uses(&project, &read.document, &read.facts, &read.plan)? {
        let shared = of_directory(globals, &one.directory);
        write_procfile(&one)?;
        up(&shared, &project, &one)?;
        let _alone = location::alone(&one.directory)?;
        let owner = owner(&shared)?;
        let runtime = crate::app::runtime::runtime()?;
        runtime.block_on(async {
            grant::drop_given_up(&one.directory, &owner).await?;
            grant::grant(&owner, &one.lease, &one.password, &one.scope.extensions).await
        })?;
    }
    Ok(())
}

/// The options that mean the stack of a shared server.
#[must_use]
pub fn of_directory(globals: &Globals, directory: &Path) -> Globals {
    Globals { progress: ProgressArg::Quiet, ..globals.of_procfile(directory.join(PROCFILE)) }
}

/// The server as its owner sees it.
///
/// # Errors
/// As the procfile says.
pub fn owner(shared: &Globals) -> Result<ServiceSpec, Failure> {
    let project = load::project(shared)?;
    let plan = load::plan(shared, &project, &Wanted::look())?;
    let server = plan.services.values().find(|spec| spec.service.as_str() == SERVER).map(|spec| spec.as_ref().clone());
    let missing = || {
        let path = project.root.join(PROCFILE);
        Failure::new(FailureKind::Config, format!("{} has no service `{SERVER}`", path.display()))
            .help(format!("rm {}; the next `devrun up` writes it again", path.display()))
    };
    server.ok_or_else(missing)
}

fn up(shared: &Globals, project: &Project, one: &Use) -> Result<(), Failure> {
    let failed = |error: std::io::Error| {
        let reason = format!("cannot start devrun for the shared server of `{}`: {error}", one.scope.service);
        Failure::new(FailureKind::Internal, reason).help("check the limits on processes and memory: ulimit -a")
    };
    let mut command = Command::new(own_program::path());
    command.arg0("devrun").args(own_command::arguments(shared)).args(["up", "-d"]);
    command.stdin(Stdio::null()).stdout(std::io::stderr());
    own_command::of_no_stack(&mut command);
    // What the project has fetched is not fetched a second time.
    let store = devrun_store::store_folder(&project.root, &project.env, nix::unistd::geteuid().is_root());
    command.env("DEVRUN_BIN_CACHE", store);
    file_size_limit::restore_in_child(&mut command);
    let code = command.status().map_err(failed)?.code().unwrap_or(exit::INTERNAL);
    let kind = match code {
        exit::DONE => return Ok(()),
        exit::PORT_TAKEN => FailureKind::PortTaken,
        exit::BINARY => FailureKind::Binary,
        _ => FailureKind::Service,
    };
    let at = one.directory.display();
    let help = match kind {
        FailureKind::PortTaken => format!("free port {}; or choose another one: rm {at}/port", one.port),
        _ => format!("devrun -C {at} logs"),
    };
    Err(Failure::new(kind, format!("the shared server of `{}` did not start", one.scope.service)).help(help))
}

fn write_procfile(one: &Use) -> Result<(), Failure> {
    let _alone = location::alone(&one.directory)?;
    let program = std::env::current_exe().map_err(|error| {
        Failure::new(FailureKind::Internal, format!("cannot find the program file of devrun: {error}"))
            .help("check that /proc is mounted: ls -l /proc/self/exe")
    })?;
    let path = one.directory.join(PROCFILE);
    let text = procfile(&one.scope, one.port, &program, &path);
    if std::fs::read_to_string(&path).is_ok_and(|old| old == text) {
        return Ok(());
    }
    runtime_dir::replace(&path, text.as_bytes()).map_err(|error| user_state::unusable(&path, &error))
}

fn procfile(scope: &UserScope, port: u16, program: &Path, path: &Path) -> String {
    let version = scope.version.as_ref().map(|version| format!("@{version}")).unwrap_or_default();
    let used = format!("{}{version}", scope.recipe);
    let name: String =
        used.to_ascii_lowercase().chars().map(|char| if char.is_ascii_alphanumeric() { char } else { '-' }).collect();
    // One that was replaced while it runs: its successor.
    let program = program.to_string_lossy();
    let program = program.strip_suffix(" (deleted)").unwrap_or(&program);
    let word = |text: &str| toml::Value::String(text.replace('$', "$$")).to_string();
    format!(
        "# Written by devrun: the server that services with scope = \"user\" share. Changes are overwritten.\n\
         [project]\n\
         name = \"shared-{name}\"\n\
         [services.{SERVER}]\n\
         use = \"{used}\"\n\
         port = {port}\n\
         user = \"postgres\"\n\
         database = \"postgres\"\n\
         restart = \"always\"\n\
         set = {{ max_connections = \"300\" }}\n\
         [services.watch]\n\
         run = [{}, \"-f\", {}, \"__shared\", \"watch\"]\n\
         restart = \"always\"\n",
        word(program),
        word(&path.to_string_lossy()),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_stack_of_a_shared_server() {
        let scope = UserScope {
            service: "db".to_owned(),
            recipe: "postgres".to_owned(),
            version: Some("16.4".to_owned()),
            extensions: Vec::new(),
        };
        let text = procfile(&scope, 25_432, Path::new("/opt/a $b/devrun (deleted)"), Path::new("/s/p.toml"));
        let table: toml::Table = toml::from_str(&text).unwrap();
        assert_eq!(table["project"]["name"].as_str(), Some("shared-postgres-16-4"));
        assert_eq!(table["services"]["server"]["use"].as_str(), Some("postgres@16.4"));
        assert_eq!(table["services"]["server"]["port"].as_integer(), Some(25_432));
        let run: Vec<_> = table["services"]["watch"]["run"].as_array().unwrap().iter().filter_map(toml::Value::as_str).collect();
        assert_eq!(run, ["/opt/a $$b/devrun", "-f", "/s/p.toml", "__shared", "watch"]);
    }
}
