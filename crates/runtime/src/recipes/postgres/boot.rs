//! The first boot, whole in a stage: the cluster, a private server without a port, role, database, password, extensions,
//! init files, a clean stop, the sentinel, and then one rename. No probe can pass in the middle, as no port is open, and
//! killed at any point nothing has happened.

#![cfg_attr(not(feature = "postgres"), expect(dead_code, reason = "without a driver nothing is furnished"))]

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::super::context::{RecipeContext, tool};
use super::super::data_dir::engine_dir;
use super::super::first_boot::{FirstBoot, FirstBootOutcome, changed_scripts};
use super::super::generic::{commit, open};
use super::super::output_tail::last_lines;
use super::super::password_rotation::pending_rotation;
use super::super::private_dir::make_private;
use super::super::{migrate, run_as};
use super::boot_progress::{StepTimes, say};
use super::cluster;
use super::invoke::{ORDINARY, check_length, check_not_in_use, check_version, settings, volume, words};
use super::scripts::{self, InitScript};
use crate::init::{self, Sentinel, Staging};
use crate::local_time::local;
use devrun_keeper::{CommandRequest, RunningCommand};
use devrun_model::keeper::{Role, RunAs};
use devrun_model::{Failure, FailureKind, Signal, VolumeSpec};

/// From the spawn of the private server to its first answer.
const UP: Duration = Duration::from_secs(60);
/// From INT to the end of the private server.
const DOWN: Duration = Duration::from_secs(60);
/// The private server as a whole: the scripts have their own limits.
const LONGEST: Duration = Duration::from_secs(24 * 3600);

/// Where the server says who and how it is.
const PID_FILE: &str = "postmaster.pid";
/// The password must not reach the server's log, whatever the settings say.
const IN_SILENCE: &str = "SET log_statement = 'none'; SET log_min_duration_statement = -1; SET log_duration = off; \
     SET log_min_error_statement = 'panic'; SET standard_conforming_strings = on; SET password_encryption = 'scram-sha-256'";

/// The words of the procfile that first boot acts on.
struct BootSpec {
    user: String,
    database: String,
    password: Option<String>,
    scripts: Vec<InitScript>,
    hash: String,
}

impl BootSpec {
    fn files(&self) -> Vec<PathBuf> {
        self.scripts.iter().map(|script| script.path().to_owned()).collect()
    }
}

fn wanted(context: &RecipeContext<'_>, warnings: &mut Vec<String>) -> Result<BootSpec, Failure> {
    let user = context.spec.attribute("user").unwrap_or_else(|| "postgres".to_owned());
    let database = context.spec.attribute("database").unwrap_or_else(|| user.clone());
    let password = context.spec.attribute("password");
    for (what, value) in [("user", Some(&user)), ("database", Some(&database)), ("password", password.as_ref())] {
        if value.is_some_and(|value| value.contains('\0')) {
            return Err(Failure::new(FailureKind::Config, format!("the {what} holds a NUL byte")));
        }
    }
    for (what, value) in [("user", &user), ("database", &database)] {
        // The server would cut it in silence, and the login would then fail.
        if value.len() > 63 {
            return Err(Failure::new(FailureKind::Config, format!("the {what} {value:?} is longer than 63 bytes")));
        }
    }
    if user.starts_with("pg_") || matches!(database.as_str(), "template0" | "template1") {
        return Err(Failure::new(
            FailureKind::Config,
            format!("user {user:?} and database {database:?}: the server keeps these names to itself"),
        ));
    }
    let (scripts, ignored) = scripts::list(&context.recipe.init)?;
    warnings.extend(ignored);
    // Extensions and migrations act on data that is there too, so they are no part of what it was made from.
    let inputs = ["postgres".to_owned(), user.clone(), database.clone()];
    let mut wanted = BootSpec { user, database, password, scripts, hash: String::new() };
    wanted.hash = init::hash_inputs(&inputs, &wanted.files());
    Ok(wanted)
}

/// Makes the data where there is none.
///
/// # Errors
/// `Task` when a step failed or the volume is foreign, `Binary` when another major version made the data.
pub(in super::super) async fn first_boot(context: &RecipeContext<'_>) -> Result<FirstBoot, Failure> {
    let volume = volume(context)?;
    let began = Instant::now();
    let mut steps = StepTimes::new();
    let mut warnings = Vec::new();
    let wanted = wanted(context, &mut warnings)?;
    let stage = match open(volume, "postgres").await? {
        Ok(stage) => stage,
        Err(sentinel) => {
            check_version(context, &engine_dir(volume, "postgres"), volume)?;
            if pending_rotation(volume, wanted.password.as_deref())?.is_some() {
                set_password(context, &engine_dir(volume, "postgres"), &wanted).await?;
                init::clear_pending_password(&volume.path)?;
                say(context, &format!("the password of {} is what the procfile says now", wanted.user));
            }
            // Data that was adopted was made from nothing that is known.
            if !sentinel.inputs.is_empty() && sentinel.inputs != wanted.hash {
                warnings.push(changed_scripts(&sentinel, &wanted.files(), volume).unwrap_or_else(|| {
                    let at = local(&sentinel.finished);
                    format!("user, database or init files changed since the first boot ({at}); they act on an empty volume only")
                }));
            }
            bring_up_to_date(context, &wanted, volume).await?;
            return Ok(FirstBoot { outcome: FirstBootOutcome::Done { at: sentinel.finished }, warnings });
        }
    };
    warnings.extend(stage.warnings.iter().cloned());
    steps.done("stage");
    let files = init::hash_files(&wanted.files());
    match build(context, &stage, &wanted, &mut steps).await {
        Ok(caching) => {
            let mut sentinel = Sentinel::new("postgres/first-boot", wanted.hash, &context.located.version, began.elapsed())?;
            sentinel.files = files;
            if wanted.password.is_some() {
                sentinel.secrets.push("password".to_owned());
            }
            commit(stage, sentinel).await?;
            steps.done("sync and rename");
            note(context, volume)?;
            if let Some(caching) = caching {
                // It only tidies up; a panic in it is no failure of this boot.
                let _ = caching.await;
                steps.done("rest of the warm cache");
            }
            Ok(FirstBoot { outcome: FirstBootOutcome::Made { took: began.elapsed(), steps: steps.taken }, warnings })
        }
        Err(failure) => {
            stage.rollback()?;
            Err(failure)
        }
    }
}

async fn build(
    context: &RecipeContext<'_>,
    stage: &Staging,
    wanted: &BootSpec,
    steps: &mut StepTimes,
) -> Result<Option<tokio::task::JoinHandle<()>>, Failure> {
    scripts::check_tools(context, &wanted.scripts)?;
    let (folder, data) = (stage.path(), stage.path().join("data"));
    let programs = [tool(context, "postgres")?, tool(context, "initdb")?];
    let run_as = run_as::choose(context.spec, ORDINARY)?;
    if matches!(run_as, RunAs::User { .. }) {
        // What we made ourselves we open; only folders above it can be in the way.
        stage.allow_traversal()?;
    }
    run_as::check_passable(&run_as, context.places, &[&data, programs[0], programs[1]])?;
    let caching = cluster::make(context, &folder, &run_as, steps).await?;
    let socket = match run_as {
        RunAs::User { .. } => data.clone(),
        RunAs::Same | RunAs::Namespace { .. } => {
            let run = context.places.service_run(&context.spec.id);
            make_private(&run)?;
            run.join("init")
        }
    };
    let port = context.spec.port().unwrap_or(5432);
    check_length(&socket, port)?;
    if socket != data {
        make_private(&socket)?;
    }
    let mut server = start(context, &data, &socket, &run_as, QUICK).await?;
    let result = match ready(&mut server, &data, None).await {
        Ok(()) => {
            steps.done("private server");
            furnish(context, wanted, &socket, port, steps).await
        }
        Err(failure) => Err(failure),
    };
    close(server, result, &socket, &data).await?;
    steps.done("clean stop");
    Ok(caching)
}

/// Stops the private server; its complaint goes with the failure, if there is one.
async fn close(server: RunningCommand, result: Result<(), Failure>, socket: &Path, data: &Path) -> Result<(), Failure> {
    let finished = server.stop(Signal::INT, DOWN).await;
    // What stays of them goes with the runtime folder.
    let _gone = std::fs::remove_file(socket.join(HBA));
    if socket != data {
        let _gone = std::fs::remove_dir_all(socket);
    }
    if let Err(mut failure) = result {
        if finished.status.shell_code() != 0 {
            failure.reason =
                format!("{}; the private server: {}: {}", failure.reason, finished.status, last_lines(&finished.tail));
        }
        return Err(failure);
    }
    if !finished.status.success() {
        return Err(Failure::new(
            FailureKind::Task,
            format!("the private server did not stop cleanly: {}: {}", finished.status, last_lines(&finished.tail)),
        ));
    }
    Ok(())
}

/// Who may log in to a private server on data that is there.
const HBA: &str = "devrun-hba.conf";
/// Next to the engine's folder: the extensions that were made sure of, one a line.
const EXTENSIONS: &str = ".devrun-extensions";

/// Remembers that extensions and migrations of today are there, so that the next start need not ask the database.
fn note(context: &RecipeContext<'_>, volume: &VolumeSpec) -> Result<(), Failure> {
    let folder = volume.path.join("postgres");
    if !context.recipe.extensions.is_empty() {
        init::write_durably(&folder, EXTENSIONS, context.recipe.extensions.join("\n").as_bytes())?;
    }
    match &context.recipe.migrations {
        Some(files) => init::write_durably(&folder, migrate::SEEN, migrate::hash(files)?.as_bytes()),
        None => Ok(()),
    }
}

/// Makes extensions and applies migrations that came after the first boot, before the public port opens: nobody ever
/// meets a half-moved schema. Where all is as it was, nothing is started for it.
async fn bring_up_to_date(context: &RecipeContext<'_>, wanted: &BootSpec, volume: &VolumeSpec) -> Result<(), Failure> {
    let folder = volume.path.join("postgres");
    let seen = |name: &str| std::fs::read_to_string(folder.join(name)).unwrap_or_default();
    let known = seen(EXTENSIONS);
    let new: Vec<String> =
        context.recipe.extensions.iter().filter(|name| !known.lines().any(|known| known == *name)).cloned().collect();
    let migrations = match &context.recipe.migrations {
        Some(files) if seen(migrate::SEEN) != migrate::hash(files)? => Some(files),
        _ => None,
    };
    if new.is_empty() && migrations.is_none() {
        return Ok(());
    }
    let data = engine_dir(volume, "postgres");
    let (server, socket, port) = private(context, &data).await?;
    let mut result = make_extensions(context, wanted, &socket, port, &new).await;
    if let (Ok(()), Some(files)) = (&result, migrations) {
        result = apply_migrations(context, &socket, port, files).await;
    }
    close(server, result, &socket, &data).await?;
    note(context, volume)
}

/// Speed is free in a stage: until it is synced as a whole, none of it counts.
const QUICK: &[&str] = &["fsync=off", "synchronous_commit=off", "full_page_writes=off"];

async fn start(
    context: &RecipeContext<'_>,
    data: &Path,
    socket: &Path,
    run_as: &RunAs,
    more: &[&str],
) -> Result<RunningCommand, Failure> {
    let mut argv = words(context, data, socket)?;
    argv.extend(settings(context)?);
    for setting in ["listen_addresses=", "autovacuum=off", "ssl=off"].iter().chain(more) {
        argv.extend(["-c".to_owned(), (*setting).to_owned()]);
    }
    context
        .runner
        .start(CommandRequest {
            role: Role::Init,
            program: tool(context, "postgres")?.to_owned(),
            argv,
            env: cluster::environment(context),
            dir: data.to_owned(),
            run_as: run_as.clone(),
            timeout: LONGEST,
        })
        .await
}

/// Waits for the word `ready` that the server writes into its pid file; asking by connections would fill its log.
/// `stale` is the text that one which crashed has left there.
async fn ready(server: &mut RunningCommand, data: &Path, stale: Option<&str>) -> Result<(), Failure> {
    let file = data.join(PID_FILE);
    let poll = async {
        loop {
            let text = std::fs::read_to_string(&file).unwrap_or_default();
            if stale != Some(text.as_str()) && text.lines().nth(7).is_some_and(|line| line.trim() == "ready") {
                return;
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    tokio::select! {
        () = poll => Ok(()),
        status = server.wait() => Err(Failure::new(FailureKind::Task, format!("the private server ended: {status}"))),
        () = tokio::time::sleep(UP) => Err(Failure::new(FailureKind::Task, format!("the private server was not ready after {}s", UP.as_secs()))),
    }
}

/// Sets the user's password on data that is there, by a private server of its own: no port is open before it fits, and
/// whoever lost the old password needs none. Killed half-way, it is done again at the next start.
async fn set_password(context: &RecipeContext<'_>, data: &Path, wanted: &BootSpec) -> Result<(), Failure> {
    let (server, socket, port) = private(context, data).await?;
    let result = alter(&wanted.user, wanted.password.as_deref(), None, &socket, port).await;
    close(server, result, &socket, data).await.map_err(|failure| {
        Failure::new(failure.kind, format!("the password of {} cannot be set: {}", wanted.user, failure.reason))
            .help("`user` must be a role of this data; devrun logs shows what the server said")
    })
}

/// A server for us alone on data that is there: ready, with its socket's folder and the port in the socket's name.
async fn private(context: &RecipeContext<'_>, data: &Path) -> Result<(RunningCommand, PathBuf, u16), Failure> {
    let program = tool(context, "postgres")?;
    let run_as = run_as::choose(context.spec, ORDINARY)?;
    run_as::check_passable(&run_as, context.places, &[data, program])?;
    check_not_in_use(data, program)?;
    let socket = match run_as {
        RunAs::User { .. } => data.to_owned(),
        RunAs::Same | RunAs::Namespace { .. } => {
            let run = context.places.service_run(&context.spec.id);
            make_private(&run)?;
            run.join("init")
        }
    };
    let port = context.spec.port().unwrap_or(5432);
    check_length(&socket, port)?;
    if socket != data {
        make_private(&socket)?;
    }
    // Adopted data may trust nobody; the folder of the socket is the lock here, as it is for data of ours.
    let hba = socket.join(HBA);
    std::fs::write(&hba, "local all all trust\n")
        .map_err(|error| Failure::new(FailureKind::Task, format!("{} cannot be written: {error}", hba.display())))?;
    run_as::hand_over(&run_as, data)?;
    let stale = std::fs::read_to_string(data.join(PID_FILE)).ok();
    let setting = format!("hba_file={}", super::super::generic::text_of(&hba)?);
    let mut server = start(context, data, &socket, &run_as, &[&setting]).await?;
    match ready(&mut server, data, stale.as_deref()).await {
        Ok(()) => Ok((server, socket, port)),
        Err(failure) => Err(close(server, Err(failure.clone()), &socket, data).await.err().unwrap_or(failure)),
    }
}

/// Sets the password of `role` through a socket that trusts us, or takes the one that counted so far.
#[cfg(feature = "postgres")]
pub(super) async fn alter(
    role: &str,
    password: Option<&str>,
    so_far: Option<&str>,
    socket: &Path,
    port: u16,
) -> Result<(), Failure> {
    use super::super::sql::{SqlSession, SqlTarget, quoted_name, quoted_text};
    let secret = password.map_or_else(|| "NULL".to_owned(), quoted_text);
    let mut last = None;
    // The user of the procfile where there is one such role, else the one that every cluster of ours has.
    for user in [role, "postgres"] {
        let host = socket.display().to_string();
        let password = so_far.map(str::to_owned);
        let target = SqlTarget { host, port, user: user.to_owned(), password, database: "postgres".to_owned() };
        match SqlSession::open(&target, None).await {
            Ok(session) => {
                session.run(IN_SILENCE).await?;
                let altered = session.run(&format!("ALTER ROLE {} PASSWORD {secret}", quoted_name(role))).await;
                session.close().await;
                return altered;
            }
            Err(error) => last = Some(error.to_string()),
        }
    }
    Err(Failure::new(FailureKind::Task, format!("cannot log in through the private socket: {}", last.unwrap_or_default())))
}

#[cfg(not(feature = "postgres"))]
pub(super) async fn alter(_: &str, _: Option<&str>, _: Option<&str>, _: &Path, _: u16) -> Result<(), Failure> {
    Err(Failure::new(FailureKind::Config, "this devrun was built without the feature `postgres`"))
}

#[cfg(feature = "postgres")]
async fn furnish(
    context: &RecipeContext<'_>,
    wanted: &BootSpec,
    socket: &Path,
    port: u16,
    steps: &mut StepTimes,
) -> Result<(), Failure> {
    use super::super::generic::text_of;
    use super::super::sql::{SqlSession, SqlTarget, quoted_name, quoted_text, read_script};
    use super::invoke::major;

    let BootSpec { user, database, password, scripts, .. } = wanted;
    let login = |user: &str, database: &str| SqlTarget {
        host: socket.display().to_string(),
        port,
        user: user.to_owned(),
        password: None,
        database: database.to_owned(),
    };
    text_of(socket)?;
    let open = async |target: SqlTarget| {
        SqlSession::open(&target, context.runner.sink.clone())
            .await
            .map_err(|error| Failure::new(FailureKind::Task, format!("cannot log in to the private server: {error}")))
    };
    let admin = open(login("postgres", "postgres")).await?;
    admin.run(IN_SILENCE).await?;
    let secret = password.as_deref().map_or_else(|| "NULL".to_owned(), quoted_text);
    if user == "postgres" {
        admin.run(&format!("ALTER ROLE postgres PASSWORD {secret}")).await?;
    } else {
        // The throw-away password of the warm cache goes: nobody logs in as postgres but through the private socket.
        admin
            .run(&format!(
                "ALTER ROLE postgres PASSWORD NULL; \
                 CREATE ROLE {} LOGIN SUPERUSER CREATEDB CREATEROLE REPLICATION BYPASSRLS PASSWORD {secret}",
                quoted_name(user)
            ))
            .await?;
    }
    steps.done("role");
    if database != "postgres" {
        // The other strategy writes the whole template to the log page by page, and takes twice as long.
        let number: u32 = major(&context.located.version).parse().unwrap_or(0);
        let strategy = if number >= 15 { " STRATEGY file_copy" } else { "" };
        admin.run(&format!("CREATE DATABASE {} OWNER {}{strategy}", quoted_name(database), quoted_name(user))).await?;
        steps.done("database");
    }
    admin.close().await;
    if !context.recipe.extensions.is_empty() {
        make_extensions(context, wanted, socket, port, &context.recipe.extensions).await?;
        steps.done("extensions");
    }
    for script in scripts {
        say(context, &format!("running {}", script.path().display()));
        let ran = async {
            match script {
                InitScript::Sql(file) => {
                    let text = read_script(file)?;
                    let session = open(login(user, database)).await?;
                    session.run_script(&file.display().to_string(), &text).await?;
                    session.close().await;
                }
                InitScript::Shell(file) => {
                    let around =
                        scripts::ScriptEnv { user, database, password: password.as_deref().unwrap_or_default(), socket, port };
                    scripts::run_shell(context, file, &around).await?;
                }
            }
            Ok::<(), Failure>(())
        };
        if let Err(failure) = ran.await {
            say(context, "the script failed");
            let help = "nothing of the database was kept: correct the file, then devrun up again";
            return Err(if failure.help.is_some() { failure } else { failure.help(help) });
        }
    }
    if !scripts.is_empty() {
        steps.done("init files");
    }
    if let Some(folder) = &context.recipe.migrations {
        apply_migrations(context, socket, port, folder).await?;
        steps.done("migrations");
    }
    Ok(())
}

#[cfg(feature = "postgres")]
async fn make_extensions(
    context: &RecipeContext<'_>,
    wanted: &BootSpec,
    socket: &Path,
    port: u16,
    extensions: &[String],
) -> Result<(), Failure> {
    use super::super::sql::{SqlSession, SqlTarget, quoted_name};
    if extensions.is_empty() {
        return Ok(());
    }
    let (user, database) = (wanted.user.clone(), wanted.database.clone());
    let target = SqlTarget { host: socket.display().to_string(), port, user, password: None, database };
    let session = SqlSession::open(&target, context.runner.sink.clone())
        .await
        .map_err(|error| Failure::new(FailureKind::Task, format!("cannot log in to the private server: {error}")))?;
    for extension in extensions {
        let made = session.run(&format!("CREATE EXTENSION IF NOT EXISTS {} CASCADE", quoted_name(extension))).await;
        made.map_err(|failure| {
            Failure::new(FailureKind::Task, format!("extension {extension}: {}", failure.reason))
                .help("install it for this postgres: devrun which postgres")
        })?;
        say(context, &format!("extension {extension} is there"));
    }
    session.close().await;
    Ok(())
}

#[cfg(feature = "postgres")]
async fn apply_migrations(context: &RecipeContext<'_>, socket: &Path, port: u16, folder: &Path) -> Result<(), Failure> {
    use super::super::sql::{SqlSession, SqlTarget};
    let user = context.spec.attribute("user").unwrap_or_else(|| "postgres".to_owned());
    let database = context.spec.attribute("database").unwrap_or_else(|| user.clone());
    let target = SqlTarget { host: socket.display().to_string(), port, user, password: None, database };
    let session = SqlSession::open(&target, context.runner.sink.clone())
        .await
        .map_err(|error| Failure::new(FailureKind::Task, format!("cannot log in to the private server: {error}")))?;
    let applied = migrate::apply(&session, folder).await;
    session.close().await;
    for name in applied? {
        say(context, &format!("applied migration {name}"));
    }
    Ok(())
}

#[cfg(not(feature = "postgres"))]
async fn apply_migrations(_: &RecipeContext<'_>, _: &Path, _: u16, _: &Path) -> Result<(), Failure> {
    Err(Failure::new(FailureKind::Config, "this devrun was built without the feature `postgres`, which migrations need"))
}

#[cfg(not(feature = "postgres"))]
async fn make_extensions(_: &RecipeContext<'_>, _: &BootSpec, _: &Path, _: u16, _: &[String]) -> Result<(), Failure> {
    Err(Failure::new(FailureKind::Config, "this devrun was built without the feature `postgres`, which extensions need"))
}

#[cfg(not(feature = "postgres"))]
async fn furnish(_: &RecipeContext<'_>, _: &BootSpec, _: &Path, _: u16, _: &mut StepTimes) -> Result<(), Failure> {
    Err(Failure::new(FailureKind::Config, "this devrun was built without the feature `postgres`, which a first boot needs"))
}
