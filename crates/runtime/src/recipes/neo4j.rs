//! Neo4j: the line of Java that starts it, and its first password.
//!
//! The vendor's `neo4j console` is a launcher that starts a second Java beside itself; the supervisor then watches the
//! wrong one. So the server's main class is started here directly, the same for the vendor's archive and for the jars of
//! the Maven repository. The first password is written as the server's own tool would write it: that tool takes it on its
//! command line, where every user of the machine could read it, and needs seconds.

use super::recipe::{Recipe, RecipeFuture};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use sha2::{Digest as _, Sha256};

use super::context::{RecipeContext, tool};
use super::cypher;
use super::data_dir::engine_dir;
use super::first_boot::{FirstBoot, FirstBootOutcome};
use super::generic::{commit, files, open, text_of, values};
use super::password_rotation::{PasswordRotation, RotationRequest, pending_rotation};
use crate::exec_request::ExecRequest;
use crate::init::{self, Sentinel};
use crate::ports::{self, PortReservations};
use crate::runtime_dir;
use devrun_keeper::CommandRequest;
use devrun_model::hex::hex;
use devrun_model::keeper::{Role, RunAs};
use devrun_model::{Failure, FailureKind, Signal, VolumeSpec};
use devrun_store::Located;

/// Neo4j: the command line of Java, and a first password.
pub(super) struct Neo4j;

impl Recipe for Neo4j {
    fn prepare(&self, context: &RecipeContext<'_>) -> Result<ExecRequest, Failure> {
        prepare(context)
    }
    fn first_boot<'a>(&'a self, context: &'a RecipeContext<'a>) -> RecipeFuture<'a, FirstBoot> {
        Box::pin(first_boot(context))
    }
    fn password_rotation(&self) -> PasswordRotation {
        PasswordRotation::FromOld
    }
    fn rotate_password<'a>(&'a self, request: RotationRequest<'a>) -> RecipeFuture<'a, bool> {
        Box::pin(async move { cypher::rotate_password(request.old, request.new).await.map(|()| true) })
    }
}

/// The private server as a whole.
const LONGEST: Duration = Duration::from_secs(300);
/// From TERM to the end of the private server.
const DOWN: Duration = Duration::from_secs(60);
const MAIN: &str = "org.neo4j.server.CommunityEntryPoint";
/// The oldest Java that the server runs on.
const OLDEST_JAVA: u32 = 17;
/// How often the server's credential is hashed.
const ROUNDS: u32 = 1024;
/// As the vendor's configuration has them; without the `opens` the server's memory management fails.
const OPTIONS: &[&str] = &[
    "-XX:+UseG1GC",
    "-XX:-OmitStackTraceInFastThrow",
    "-XX:+ExitOnOutOfMemoryError",
    "--add-opens=java.base/java.nio=ALL-UNNAMED",
    "--add-opens=java.base/java.io=ALL-UNNAMED",
    "--add-opens=java.base/sun.nio.ch=ALL-UNNAMED",
    "-Dfile.encoding=UTF-8",
    "-Djdk.tls.ephemeralDHKeySize=2048",
    "-Djava.awt.headless=true",
];

/// What to exec.
///
/// # Errors
/// `Binary` when there is no fitting Java, or when data was made by a newer server; `Config` for a setting that is none.
fn prepare(context: &RecipeContext<'_>) -> Result<ExecRequest, Failure> {
    let volume = volume(context)?;
    let home = home(tool(context, "neo4j")?)?;
    let java = java(&context.spec.env)?;
    let run = context.places.service_run(&context.spec.id);
    let mut files = files(context, &values(context)?)?;
    let conf = run.join("neo4j.conf");
    // A configuration of the user's own, given by `render`, stands as it is.
    if !context.spec.render.contains_key("neo4j.conf")
        && let Some((_, text)) = files.iter_mut().find(|(path, _)| *path == conf)
    {
        text.push_str(&settings(context)?);
    }
    let heap = context.recipe.settings.get("heap").map_or("512m", String::as_str);
    if heap.is_empty() || !heap.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
        return Err(
            Failure::new(FailureKind::Config, format!("set.heap: invalid size {heap:?}")).help("set = { heap = \"512m\" }")
        );
    }
    let mut argv = vec!["java".to_owned(), "-cp".to_owned(), format!("{}/lib/*", text_of(&home)?)];
    argv.extend([format!("-Xms{heap}"), format!("-Xmx{heap}")]);
    argv.extend(OPTIONS.iter().map(|option| (*option).to_owned()));
    argv.extend([
        MAIN.to_owned(),
        format!("--home-dir={}", text_of(&home)?),
        format!("--config-dir={}", text_of(&run)?),
        "--console-mode".to_owned(),
    ]);
    let mut request = context.request(java, argv, engine_dir(volume, "neo4j"), RunAs::Same, files);
    request.env.insert("NEO4J_HOME".to_owned(), text_of(&home)?);
    request.env.insert("NEO4J_CONF".to_owned(), text_of(&run)?);
    Ok(request)
}

/// The server's own tool (`neo4j-admin`), without the vendor's script around it.
#[derive(Debug)]
pub struct Neo4jTool {
    /// Java.
    pub program: PathBuf,
    /// Its words; those of a command follow.
    pub argv: Vec<String>,
    /// Variables that it needs.
    pub env: BTreeMap<String, String>,
    /// The text of `neo4j.conf` in the directory of the configuration.
    pub configuration: String,
}

/// The tool for the data of a volume, with a directory for its configuration.
///
/// # Errors
/// `Binary` without the server's jars or a fitting Java.
pub fn neo4j_admin(
    located: &Located,
    env: &BTreeMap<String, String>,
    volume: &VolumeSpec,
    configuration: &Path,
) -> Result<Neo4jTool, Failure> {
    let missing = || Failure::new(FailureKind::Binary, format!("neo4j {}: cannot find neo4j", located.version));
    let home = home(located.tools.get("neo4j").ok_or_else(missing)?)?;
    let data = text_of(&engine_dir(volume, "neo4j"))?;
    let directory = text_of(configuration)?;
    let mut argv = vec!["-cp".to_owned(), format!("{}/lib/*", text_of(&home)?)];
    argv.extend(OPTIONS.iter().map(|option| (*option).to_owned()));
    argv.push("org.neo4j.cli.AdminTool".to_owned());
    let mut variables = located.env.clone();
    variables.insert("NEO4J_HOME".to_owned(), text_of(&home)?);
    variables.insert("NEO4J_CONF".to_owned(), directory.clone());
    Ok(Neo4jTool {
        program: java(env)?,
        argv,
        env: variables,
        configuration: format!(
            "server.directories.data={data}\nserver.directories.transaction.logs.root={data}/transactions\n\
             server.directories.logs={directory}\nserver.directories.run={directory}\n"
        ),
    })
}

fn volume<'a>(context: &RecipeContext<'a>) -> Result<&'a VolumeSpec, Failure> {
    context.volume.ok_or_else(|| {
        Failure::new(FailureKind::Config, "neo4j needs a volume for its data")
            .help(format!("data = \"{}\"", context.spec.service))
    })
}

/// The folder with `lib`.
fn home(program: &Path) -> Result<PathBuf, Failure> {
    // A distribution links to it from a folder on PATH.
    let real = std::fs::canonicalize(program).unwrap_or_else(|_| program.to_owned());
    let home = real.parent().and_then(Path::parent).unwrap_or(Path::new("/"));
    for candidate in [home.to_owned(), PathBuf::from("/usr/share/neo4j")] {
        if candidate.join("lib").is_dir() {
            return Ok(candidate);
        }
    }
    Err(Failure::new(FailureKind::Binary, format!("{} has no directory `lib` next to `bin`", home.display()))
        .help("[sources.neo4j] path = the unpacked archive of the vendor"))
}

/// Everything in `set` that is a setting of the server's own.
fn settings(context: &RecipeContext<'_>) -> Result<String, Failure> {
    let mut lines = String::new();
    for (name, value) in &context.recipe.settings {
        if matches!(name.as_str(), "heap" | "pagecache") {
            continue;
        }
        let plain = name.contains('.') && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte));
        if !plain || value.contains(['\n', '\r']) {
            return Err(Failure::new(FailureKind::Config, format!("unknown neo4j setting {name:?}"))
                .help("set = { heap = \"1g\", pagecache = \"512m\", \"db.transaction.timeout\" = \"60s\" }"));
        }
        lines.push_str(&format!("{name}={value}\n"));
    }
    Ok(lines)
}

/// The Java that runs it: `JAVA_HOME`'s, else the first on PATH.
fn java(env: &BTreeMap<String, String>) -> Result<PathBuf, Failure> {
    let home = env.get("JAVA_HOME").filter(|home| !home.is_empty()).map(|home| Path::new(home).join("bin/java"));
    let path = env.get("PATH").map(String::as_str).unwrap_or_default();
    let found = home
        .into_iter()
        .chain(std::env::split_paths(path).map(|folder| folder.join("java")))
        .find(|java| java.is_file())
        .ok_or_else(|| {
            Failure::new(FailureKind::Binary, "neo4j needs Java, and there is none on PATH")
                .help("apt-get install openjdk-17-jre-headless")
        })?;
    let real = std::fs::canonicalize(&found).unwrap_or_else(|_| found.clone());
    // Every Java carries a file that says its version; starting one only to ask takes half a second.
    let release = real.parent().and_then(Path::parent).map(|home| home.join("release"));
    let major = release.and_then(|file| std::fs::read_to_string(file).ok()).and_then(|text| major(&text));
    match major {
        Some(major) if major < OLDEST_JAVA => Err(Failure::new(
            FailureKind::Binary,
            format!("neo4j needs Java {OLDEST_JAVA} or newer, and {} is Java {major}", found.display()),
        )
        .help("apt-get install openjdk-17-jre-headless, or set JAVA_HOME")),
        _ => Ok(real),
    }
}

/// `JAVA_VERSION="17.0.15"` of a `release` file.
fn major(release: &str) -> Option<u32> {
    let line = release.lines().find_map(|line| line.strip_prefix("JAVA_VERSION="))?;
    let mut numbers = line.trim_matches('"').split(['.', '-', '_', '+']);
    let first: u32 = numbers.next()?.parse().ok()?;
    if first == 1 { numbers.next()?.parse().ok() } else { Some(first) }
}

/// Makes the folder with the first password in it.
///
/// # Errors
/// `Config` for a user or password that the server would not take, `Task` when the volume is foreign, `Binary` when a
/// newer server made the data.
async fn first_boot(context: &RecipeContext<'_>) -> Result<FirstBoot, Failure> {
    let volume = volume(context)?;
    let attribute = |name: &str| context.spec.attributes.get(name).cloned().unwrap_or_default();
    let (user, password) = (attribute("user"), attribute("password"));
    let began = Instant::now();
    let stage = match open(volume, "neo4j").await? {
        Ok(stage) => stage,
        Err(sentinel) => {
            super::data_dir::refuse_newer_data(context, &sentinel, volume)?;
            if let Some(due) = pending_rotation(volume, Some(&password))? {
                set_password(context, due.so_far).await?;
                init::clear_pending_password(&volume.path)?;
            }
            return Ok(FirstBoot { outcome: FirstBootOutcome::Done { at: sentinel.finished }, warnings: Vec::new() });
        }
    };
    let warnings = stage.warnings.clone();
    let made = check_login(&user, &password)
        .and_then(|()| credential(&password))
        .and_then(|line| write(&stage.path().join("data"), &line));
    if let Err(failure) = made {
        stage.rollback()?;
        return Err(failure);
    }
    let mut sentinel = Sentinel::new("neo4j/first-boot", String::new(), &context.located.version, began.elapsed())?;
    sentinel.secrets.push("password".to_owned());
    commit(stage, sentinel).await?;
    let took = began.elapsed();
    Ok(FirstBoot { outcome: FirstBootOutcome::Made { took, steps: vec![("first password", took)] }, warnings })
}

/// Sets the password on data that is there, by a server on ports of its own that nobody has been told: whoever waits for
/// the service meets it with the new password only. Killed half-way, it is done again at the next start.
async fn set_password(context: &RecipeContext<'_>, so_far: Option<String>) -> Result<(), Failure> {
    let mut spec = context.spec.clone();
    let mut taken = BTreeSet::new();
    let nonce = init::nonce()?;
    let reserved = PortReservations::new(runtime_dir::ports_file()?, std::path::Path::new(&nonce));
    for (name, port) in &mut spec.ports {
        *port = ports::free_port(&nonce, &spec.id, name, &taken, &reserved)
            .map_err(|error| Failure::new(FailureKind::PortTaken, format!("no free port for a private server: {error}")))?;
        taken.insert(*port);
    }
    let mut old = spec.clone();
    old.attributes.insert("password".to_owned(), so_far.unwrap_or_default());
    let RecipeContext { recipe, located, places, volume, runner, .. } = *context;
    let ExecRequest { program, argv, env, dir, run_as, files, needs_dir: _ } =
        prepare(&RecipeContext { spec: &spec, recipe, located, places, volume, runner })?;
    for (path, text) in files {
        runtime_dir::write_private(&path, text.as_bytes())
            .map_err(|error| Failure::new(FailureKind::Task, format!("{} cannot be written: {error}", path.display())))?;
    }
    let mut server = runner.start(CommandRequest { role: Role::Init, program, argv, env, dir, run_as, timeout: LONGEST }).await?;
    let result = tokio::select! {
        result = cypher::bring_to(&old, &spec) => result,
        status = server.wait() => Err(Failure::new(FailureKind::Task, format!("the private server ended: {status}"))),
    };
    server.stop(Signal::TERM, DOWN).await;
    result.map_err(|failure| {
        Failure::new(failure.kind, format!("the new password cannot be set: {}", failure.reason))
            .help("put the value back that the data was made with, or start over without the data; see devrun logs")
    })
}

fn check_login(user: &str, password: &str) -> Result<(), Failure> {
    if user != "neo4j" {
        return Err(Failure::new(FailureKind::Config, format!("the first user of neo4j is called neo4j, not {user:?}"))
            .help("leave `user` out; further users: CREATE USER … in a cypher task"));
    }
    if password.chars().count() < 8 {
        return Err(Failure::new(FailureKind::Config, "neo4j takes no password of fewer than 8 characters")
            .help("leave `password` out, and one is generated"));
    }
    Ok(())
}

/// The line of the file that the server reads its first user from, once.
fn credential(password: &str) -> Result<String, Failure> {
    let mut salt = [0u8; 32];
    getrandom::fill(&mut salt)
        .map_err(|error| Failure::new(FailureKind::Internal, format!("the system has no randomness: {error}")))?;
    Ok(format!("neo4j:SHA-256,{},{},{ROUNDS}:\n", hex(&hashed(password, &salt)), hex(&salt)))
}

fn hashed(password: &str, salt: &[u8]) -> [u8; 32] {
    let mut hash: [u8; 32] = Sha256::new().chain_update(salt).chain_update(password.as_bytes()).finalize().into();
    for _ in 1..ROUNDS {
        hash = Sha256::digest(hash).into();
    }
    hash
}

fn write(data: &Path, line: &str) -> Result<(), Failure> {
    use std::os::unix::fs::DirBuilderExt as _;
    let folder = data.join("dbms");
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(&folder)
        .map_err(|error| Failure::new(FailureKind::Task, format!("cannot make {}: {error}", folder.display())))?;
    init::write_durably(&folder, "auth.ini", line.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_is_the_one_of_the_servers_own_tool() {
        // Written by `neo4j-admin dbms set-initial-password` of 5.26.0.
        let salt = "bc0bc593da9b861b0c08124c6a646ed23feb8b781c6ef85901f269fdaf531da6";
        let salt: Vec<u8> = (0..32).map(|at| u8::from_str_radix(&salt[2 * at..2 * at + 2], 16).unwrap()).collect();
        assert_eq!(hex(&hashed("secretpw123", &salt)), "152f8f15e0806d685c52c52c2d3a544383152393a050464564eaaf7720f10c36");
        assert_ne!(credential("secretpw123").unwrap(), credential("secretpw123").unwrap());
    }

    #[test]
    fn java_versions_old_and_new() {
        for (text, expected) in [
            ("IMPLEMENTOR=\"x\"\nJAVA_VERSION=\"17.0.15\"\n", Some(17)),
            ("JAVA_VERSION=\"1.8.0_352\"", Some(8)),
            ("JAVA_VERSION=\"21\"", Some(21)),
            ("JAVA_VERSION=\"25-ea\"", Some(25)),
            ("", None),
        ] {
            assert_eq!(major(text), expected, "{text}");
        }
    }

    #[test]
    fn a_login_that_the_server_would_refuse_is_refused_before() {
        assert!(check_login("neo4j", "12345678").is_ok());
        assert!(check_login("neo4j", "1234567").is_err());
        assert!(check_login("app", "12345678").is_err());
    }
}
