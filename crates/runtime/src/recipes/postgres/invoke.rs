//! How the server is started, and what is looked at before: the version of the data, and who else may be using it.

use std::path::{Path, PathBuf};

use super::super::context::{RecipeContext, tool};
use super::super::data_dir::engine_dir;
use super::super::generic::{files, text_of, values};
use super::super::private_dir::make_private;
use super::super::run_as;
use crate::exec_request::ExecRequest;
use devrun_keeper::process_list;
use devrun_model::keeper::RunAs;
use devrun_model::{Failure, FailureKind, Paths, ServiceSpec, VolumeSpec};

/// Settings that belong to keys of the procfile, and the key.
const TAKEN: &[(&str, &str)] = &[
    ("port", "port"),
    ("listen_addresses", "bind"),
    ("data_directory", "data"),
    ("unix_socket_directories", "nothing: the socket is private"),
    ("unix_socket_permissions", "nothing: the socket is private"),
];

/// The longest path a unix socket can have, the closing NUL apart.
const LONGEST_SOCKET: usize = if cfg!(target_os = "linux") { 107 } else { 103 };

/// Users to run as where namespaces are forbidden.
pub(super) const ORDINARY: &[&str] = &["postgres", "nobody"];

/// What to exec.
///
/// # Errors
/// `Config` when it cannot run here, `Binary` when another major version made the data.
pub(in super::super) fn prepare(context: &RecipeContext<'_>) -> Result<ExecRequest, Failure> {
    let volume = volume(context)?;
    let data = engine_dir(volume, "postgres");
    let program = tool(context, "postgres")?.to_owned();
    check_version(context, &data, volume)?;
    let run_as = run_as::choose(context.spec, ORDINARY)?;
    run_as::check_passable(&run_as, context.places, &[&data, &program])?;
    let socket = socket_place(context.places, context.spec, &run_as, &data);
    make_private(&context.places.service_run(&context.spec.id))?;
    check_length(&socket, context.spec.port().unwrap_or(5432))?;
    check_not_in_use(&data, &program)?;
    run_as::hand_over(&run_as, &data)?;
    let mut argv = words(context, &data, &socket)?;
    argv.extend(["-c".to_owned(), format!("listen_addresses={}", context.spec.bind)]);
    argv.extend(settings(context)?);
    Ok(context.request(program, argv, data, run_as, files(context, &values(context)?)?))
}

/// The volume, without which there is nowhere to keep a cluster.
pub(super) fn volume<'a>(context: &RecipeContext<'a>) -> Result<&'a VolumeSpec, Failure> {
    context.volume.ok_or_else(|| {
        Failure::new(FailureKind::Config, "postgres needs a volume for its data")
            .help(format!("data = \"{}\"", context.spec.service))
    })
}

/// Where the server's unix socket lies: the runtime folder of the service, or the engine's folder where the server runs
/// as a user who cannot pass through ours.
fn socket_place(places: &Paths, spec: &ServiceSpec, run_as: &RunAs, data: &Path) -> PathBuf {
    match run_as {
        RunAs::Same | RunAs::Namespace { .. } => places.service_run(&spec.id),
        RunAs::User { .. } => data.to_owned(),
    }
}

/// The folder of the running server's unix socket (`PGHOST` of consoles), by where the socket is.
#[must_use]
pub fn socket_folder(places: &Paths, spec: &ServiceSpec, volume: &VolumeSpec) -> PathBuf {
    let name = format!(".s.PGSQL.{}", spec.port().unwrap_or(5432));
    let data = engine_dir(volume, "postgres");
    if data.join(name).exists() { data } else { places.service_run(&spec.id) }
}

/// Refuses a socket path that the kernel would cut.
pub(super) fn check_length(folder: &Path, port: u16) -> Result<(), Failure> {
    let socket = folder.join(format!(".s.PGSQL.{port}"));
    if socket.as_os_str().len() > LONGEST_SOCKET {
        return Err(Failure::new(
            FailureKind::Config,
            format!("the socket path {} is longer than {LONGEST_SOCKET} bytes", socket.display()),
        )
        .help("set XDG_RUNTIME_DIR to a shorter path"));
    }
    Ok(())
}

/// The words that every start of the server has: public, private, and after a crash.
pub(super) fn words(context: &RecipeContext<'_>, data: &Path, socket: &Path) -> Result<Vec<String>, Failure> {
    let port = context.spec.port().unwrap_or(5432);
    // The server finds its libraries by its own path, for which it looks into its first word and then into PATH, where a
    // versioned folder never is.
    let program = text_of(tool(context, "postgres")?)?;
    let mut words = vec![program, "-D".to_owned(), text_of(data)?, "-p".to_owned(), port.to_string()];
    for setting in [
        format!("unix_socket_directories={}", list_entry(&text_of(socket)?)),
        "unix_socket_permissions=0700".to_owned(),
        "logging_collector=off".to_owned(),
        "log_destination=stderr".to_owned(),
        "timezone=UTC".to_owned(),
    ] {
        words.extend(["-c".to_owned(), setting]);
    }
    Ok(words)
}

/// One entry of a comma-separated setting.
fn list_entry(path: &str) -> String {
    let plain = path.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"/_.-".contains(&byte));
    if plain { path.to_owned() } else { format!("\"{}\"", path.replace('"', "\"\"")) }
}

/// `set` as words; later ones win over ours.
///
/// # Errors
/// `Config` for a setting that belongs to another key or is no name.
pub(super) fn settings(context: &RecipeContext<'_>) -> Result<Vec<String>, Failure> {
    let mut words = Vec::new();
    for (name, value) in &context.recipe.settings {
        let plain = name.replace('-', "_").to_ascii_lowercase();
        if let Some((_, key)) = TAKEN.iter().find(|(taken, _)| *taken == plain) {
            return Err(Failure::new(FailureKind::Config, format!("set.{name} belongs to {key}")));
        }
        if plain.is_empty() || !plain.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'.') {
            return Err(Failure::new(FailureKind::Config, format!("unknown postgres setting {name:?}")));
        }
        words.extend(["-c".to_owned(), format!("{plain}={value}")]);
    }
    Ok(words)
}

/// The major version: two numbers before 10, one since.
pub(in super::super) fn major(version: &str) -> String {
    let mut parts = version.split('.');
    let first = parts.next().unwrap_or_default().trim();
    match (first.parse::<u32>(), parts.next()) {
        (Ok(number), Some(second)) if number < 10 => format!("{number}.{second}"),
        _ => first.chars().take_while(char::is_ascii_digit).collect(),
    }
}

/// Refuses data of another major version before anything touches it.
pub(super) fn check_version(context: &RecipeContext<'_>, data: &Path, volume: &VolumeSpec) -> Result<(), Failure> {
    let file = data.join("PG_VERSION");
    let made = match std::fs::read_to_string(&file) {
        Ok(text) => text.trim().to_owned(),
        Err(error) => {
            return Err(Failure::new(FailureKind::Task, format!("{} cannot be read: {error}", file.display()))
                .help(format!("devrun clean --only {} starts over without the data", volume.name)));
        }
    };
    let ours = major(&context.located.version);
    if made != ours {
        return Err(Failure::new(
            FailureKind::Binary,
            format!("the data in {} was made by postgres {made}, and postgres {} cannot read it", data.display(), context.located.version),
        )
        .help(format!(
            "use = \"postgres@{made}\"; to move on: devrun backup {service} under {made}, then devrun restore {service} FILE under {ours}",
            service = context.spec.service
        )));
    }
    Ok(())
}

/// Looks whether a server may still be using the data. A `postmaster.pid` whose number now belongs to something else
/// would block the start for ever, so it is removed; one whose process is gone is left to the server, which then checks
/// its shared memory too.
pub(super) fn check_not_in_use(data: &Path, program: &Path) -> Result<(), Failure> {
    let file = data.join("postmaster.pid");
    let Ok(text) = std::fs::read_to_string(&file) else { return Ok(()) };
    let Some(pid) = text.lines().next().and_then(|line| line.trim().parse::<i32>().ok()).filter(|pid| *pid > 1) else {
        return Ok(());
    };
    if process_list::stat(pid).is_none() {
        return Ok(());
    }
    if let Some(user) = processes_in(data) {
        return Err(Failure::new(
            FailureKind::Elsewhere,
            format!("the data in {} is in use by {} (pid {user})", data.display(), program.display()),
        )
        .help("devrun ls shows other stacks; devrun down --emergency ends what is left of this one"));
    }
    std::fs::remove_file(&file)
        .map_err(|error| Failure::new(FailureKind::Config, format!("cannot remove the stale {}: {error}", file.display())))
}

/// A live process whose working directory is the data folder: every process of a Postgres server has that.
fn processes_in(data: &Path) -> Option<i32> {
    let data = std::fs::canonicalize(data).ok()?;
    process_list::pids().into_iter().find(|pid| process_list::working_directory(*pid).is_some_and(|at| at == data))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn majors() {
        for (version, expected) in [("15.20", "15"), ("18.4", "18"), ("9.6.24", "9.6"), ("17", "17"), ("16beta1", "16")] {
            assert_eq!(major(version), expected, "{version}");
        }
    }

    #[test]
    fn entries_of_a_list_are_quoted_where_they_must() {
        assert_eq!(list_entry("/run/devrun/ab12/db"), "/run/devrun/ab12/db");
        assert_eq!(list_entry("/tmp/a b,c"), "\"/tmp/a b,c\"");
    }

    #[test]
    fn a_socket_path_that_would_be_cut_is_refused() {
        assert!(check_length(Path::new("/run/devrun/ab12"), 5432).is_ok());
        let failure = check_length(Path::new(&format!("/{}", "x".repeat(100))), 5432).unwrap_err();
        assert_eq!(failure.kind, FailureKind::Config);
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn a_stale_pid_of_something_else_is_removed_and_a_dead_one_is_left() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("postmaster.pid");
        // We are alive, and we are no server in that folder.
        std::fs::write(&file, format!("{}\n/data\n", std::process::id())).unwrap();
        check_not_in_use(folder.path(), Path::new("/usr/bin/postgres")).unwrap();
        assert!(!file.exists());
        for text in ["4194304\n", "", "x", "-1\n", "0\n", "1\n", "99999999999\n"] {
            std::fs::write(&file, text).unwrap();
            check_not_in_use(folder.path(), Path::new("/usr/bin/postgres")).unwrap();
            assert!(file.exists(), "{text:?}");
        }
    }
}
