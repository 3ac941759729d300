//! MariaDB: the empty data folder, database, user and password in a stage, behind a private socket, and then one rename.
//!
//! As for Postgres no port is open before all of it is done. Statements go through the client that comes with the server,
//! in files of mode 0600: no password ever stands on a command line.

use super::recipe::{Recipe, RecipeFuture};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::context::{RecipeContext, tool};
use super::data_dir::engine_dir;
use super::first_boot::{FirstBoot, FirstBootOutcome, changed_scripts};
use super::generic::{commit, files, open, text_of, values};
use super::run_as;
use crate::exec_request::ExecRequest;
use crate::init::{self, Sentinel};
use devrun_keeper::{CommandRequest, RunningCommand};
use devrun_model::keeper::{Role, RunAs};
use devrun_model::{Failure, FailureKind, Signal, VolumeSpec};

/// MariaDB: a cluster and its first database, made in a stage.
pub(super) struct MariaDb;

impl Recipe for MariaDb {
    fn prepare(&self, context: &RecipeContext<'_>) -> Result<ExecRequest, Failure> {
        prepare(context)
    }
    fn first_boot<'a>(&'a self, context: &'a RecipeContext<'a>) -> RecipeFuture<'a, FirstBoot> {
        Box::pin(first_boot(context))
    }
}

/// Options that belong to keys of the procfile, and the key.
const TAKEN: &[(&str, &str)] = &[
    ("port", "port"),
    ("bind_address", "bind"),
    ("datadir", "data"),
    ("socket", "nothing: the socket is private"),
    ("user", "user_id"),
    ("skip_networking", "nothing: it is reached by its port"),
];
/// The setting that is not an option of the server: root's password over the network, where the service has another user.
const ROOT_PASSWORD: &str = "root_password";
/// Users to run as where namespaces are forbidden.
const ORDINARY: &[&str] = &["mysql", "nobody"];
const STEP: Duration = Duration::from_secs(300);
const UP: Duration = Duration::from_secs(60);
const DOWN: Duration = Duration::from_secs(60);
/// A seed script may load a lot.
const LONGEST: Duration = Duration::from_secs(3600);

/// What to exec.
///
/// # Errors
/// `Config` when it cannot run here, `Binary` when a newer version made the data.
fn prepare(context: &RecipeContext<'_>) -> Result<ExecRequest, Failure> {
    let volume = volume(context)?;
    let data = engine_dir(volume, "mariadb");
    let program = tool(context, "mariadbd")?.to_owned();
    let run_as = run_as::choose(context.spec, ORDINARY)?;
    run_as::check_passable(&run_as, context.places, &[&data, &program])?;
    run_as::hand_over(&run_as, &data)?;
    super::private_dir::make_private(&context.places.service_run(&context.spec.id))?;
    let mut argv = words(context, &data, &socket_folder(context, &run_as, &data))?;
    argv.push(format!("--bind-address={}", context.spec.bind));
    argv.push(format!("--port={}", context.spec.port().unwrap_or(3306)));
    argv.extend(settings(context)?);
    Ok(context.request(program, argv, data, run_as, files(context, &values(context)?)?))
}

fn volume<'a>(context: &RecipeContext<'a>) -> Result<&'a VolumeSpec, Failure> {
    context.volume.ok_or_else(|| {
        Failure::new(FailureKind::Config, "mariadb needs a volume for its data")
            .help(format!("data = \"{}\"", context.spec.service))
    })
}

/// Where the socket lies: the runtime folder, or the engine's folder where the server cannot pass through ours.
fn socket_folder(context: &RecipeContext<'_>, run_as: &RunAs, data: &Path) -> PathBuf {
    match run_as {
        RunAs::User { .. } => data.to_owned(),
        RunAs::Same | RunAs::Namespace { .. } => context.places.service_run(&context.spec.id),
    }
}

/// The words that every start of the server has.
fn words(context: &RecipeContext<'_>, data: &Path, socket: &Path) -> Result<Vec<String>, Failure> {
    let socket = socket.join("mysqld.sock");
    if socket.as_os_str().len() > 103 {
        return Err(Failure::new(FailureKind::Config, format!("the socket path {} is longer than 103 bytes", socket.display()))
            .help("set XDG_RUNTIME_DIR to a shorter path"));
    }
    let mut words = vec![text_of(tool(context, "mariadbd")?)?, "--no-defaults".to_owned()];
    words.extend(share(context)?);
    words.extend([
        format!("--datadir={}", text_of(data)?),
        format!("--socket={}", text_of(&socket)?),
        format!("--pid-file={}", text_of(&data.join("mariadbd.pid"))?),
        "--skip-name-resolve".to_owned(),
        // Above 1 every probe's connect is a line in the log.
        "--log-warnings=1".to_owned(),
        "--character-set-server=utf8mb4".to_owned(),
    ]);
    Ok(words)
}

/// Messages and character sets lie beside the binary, and not where it was compiled to look for them.
fn share(context: &RecipeContext<'_>) -> Result<Vec<String>, Failure> {
    let program = tool(context, "mariadbd")?;
    let prefix = program.parent().and_then(Path::parent).unwrap_or(Path::new("/"));
    for name in ["share/mysql", "share/mariadb"] {
        let folder = prefix.join(name);
        if folder.join("english").is_dir() {
            let folder = text_of(&folder)?;
            return Ok(vec![format!("--lc-messages-dir={folder}"), format!("--character-sets-dir={folder}/charsets")]);
        }
    }
    Ok(Vec::new())
}

/// `set` as words; later ones win over ours.
fn settings(context: &RecipeContext<'_>) -> Result<Vec<String>, Failure> {
    let mut words = Vec::new();
    for (name, value) in context.recipe.settings.iter().filter(|(name, _)| *name != ROOT_PASSWORD) {
        let plain = name.replace('-', "_").to_ascii_lowercase();
        if let Some((_, key)) = TAKEN.iter().find(|(taken, _)| *taken == plain) {
            return Err(Failure::new(FailureKind::Config, format!("set.{name} belongs to {key}")));
        }
        if plain.is_empty() || !plain.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_') {
            return Err(Failure::new(FailureKind::Config, format!("unknown mariadb option {name:?}")));
        }
        words.push(if value.is_empty() { format!("--{plain}") } else { format!("--{plain}={value}") });
    }
    Ok(words)
}

/// Makes the data where there is none.
///
/// # Errors
/// `Task` when a step failed or the volume is foreign, `Binary` when a newer version made the data.
async fn first_boot(context: &RecipeContext<'_>) -> Result<FirstBoot, Failure> {
    let volume = volume(context)?;
    let began = Instant::now();
    let mut scripts = Vec::new();
    let mut warnings = Vec::new();
    list(&context.recipe.init, &mut scripts, &mut warnings)?;
    let inputs = init::hash_inputs(&["mariadb".to_owned(), login(context)?.sql()], &scripts);
    let stage = match open(volume, "mariadb").await? {
        Ok(stage) => stage,
        Err(sentinel) => {
            super::data_dir::refuse_newer_data(context, &sentinel, volume)?;
            warnings.extend(changed_scripts(&sentinel, &scripts, volume));
            return Ok(FirstBoot { outcome: FirstBootOutcome::Done { at: sentinel.finished }, warnings });
        }
    };
    warnings.extend(stage.warnings.iter().cloned());
    let files = init::hash_files(&scripts);
    let made = build(context, &stage.path(), &scripts, || stage.allow_traversal()).await;
    if let Err(failure) = made {
        stage.rollback()?;
        return Err(failure);
    }
    let mut sentinel = Sentinel::new("mariadb/first-boot", inputs, &context.located.version, began.elapsed())?;
    sentinel.files = files;
    sentinel.secrets.push("password".to_owned());
    commit(stage, sentinel).await?;
    let took = began.elapsed();
    Ok(FirstBoot { outcome: FirstBootOutcome::Made { took, steps: vec![("first boot", took)] }, warnings })
}

/// The words of the procfile that first boot acts on.
struct MariadbLogin {
    user: String,
    database: String,
    password: String,
    root_password: Option<String>,
}

fn login(context: &RecipeContext<'_>) -> Result<MariadbLogin, Failure> {
    let user = context.spec.attribute("user").unwrap_or_else(|| "app".to_owned());
    let login = MariadbLogin {
        database: context.spec.attribute("database").unwrap_or_else(|| user.clone()),
        password: context.spec.attribute("password").unwrap_or_default(),
        root_password: context.recipe.settings.get(ROOT_PASSWORD).filter(|value| user != "root" && !value.is_empty()).cloned(),
        user,
    };
    let root_password = login.root_password.clone().unwrap_or_default();
    for (what, value, longest) in [
        ("user", &login.user, 80),
        ("database", &login.database, 64),
        ("password", &login.password, 1024),
        ("root_password", &root_password, 1024),
    ] {
        if value.len() > longest || value.contains(['\0', '\n', '\r']) {
            return Err(Failure::new(FailureKind::Config, format!("mariadb cannot take this {what}"))
                .help("shorter, and without line breaks"));
        }
    }
    Ok(login)
}

impl MariadbLogin {
    /// What the empty server is told. Root keeps its name and gets the same password, so that nobody logs in without one.
    fn sql(&self) -> String {
        let text = |value: &str| format!("'{}'", value.replace('\\', "\\\\").replace('\'', "''"));
        let (user, password, database) = (text(&self.user), text(&self.password), self.database.replace('`', "``"));
        // The installation makes a second root, of the machine's name and without a password.
        let mut sql = "DELETE FROM mysql.global_priv WHERE Host <> 'localhost';\nDELETE FROM mysql.proxies_priv WHERE Host <> 'localhost';\nFLUSH PRIVILEGES;\n".to_owned();
        sql.push_str(&format!("CREATE DATABASE IF NOT EXISTS `{database}` CHARACTER SET utf8mb4;\nALTER USER 'root'@'localhost' IDENTIFIED BY {password};\n"));
        let grant = if self.user == "root" { "*.*".to_owned() } else { format!("`{database}`.*") };
        sql.push_str(&format!("CREATE USER {user}@'%' IDENTIFIED BY {password};\nGRANT ALL PRIVILEGES ON {grant} TO {user}@'%'"));
        sql.push_str(if self.user == "root" { " WITH GRANT OPTION;\n" } else { ";\n" });
        // Through the socket root keeps the service's password, by which devrun itself comes in.
        if let Some(password) = &self.root_password {
            let password = text(password);
            sql.push_str(&format!(
                "CREATE USER 'root'@'%' IDENTIFIED BY {password};\nGRANT ALL PRIVILEGES ON *.* TO 'root'@'%' WITH GRANT OPTION;\n"
            ));
        }
        sql
    }
}

/// `.sql` files in byte order of their names.
fn list(given: &[PathBuf], scripts: &mut Vec<PathBuf>, warnings: &mut Vec<String>) -> Result<(), Failure> {
    for path in given {
        let failed = |error: std::io::Error| {
            Failure::new(FailureKind::Config, format!("init {}: {error}", path.display()))
                .help("`init` names files or directories, relative to the procfile")
        };
        if !std::fs::metadata(path).map_err(failed)?.is_dir() {
            scripts.push(path.clone());
            continue;
        }
        for entry in std::fs::read_dir(path).map_err(failed)? {
            let file = entry.map_err(failed)?.path();
            if file.is_file() && file.extension().is_some_and(|ending| ending == "sql") {
                scripts.push(file);
            } else {
                warnings.push(format!("init: {} is not a .sql file and is ignored", file.display()));
            }
        }
    }
    for script in scripts.iter() {
        if script.extension().is_none_or(|ending| ending != "sql") {
            return Err(Failure::new(FailureKind::Config, format!("init {}: mariadb runs .sql files only", script.display())));
        }
    }
    scripts.sort_by(|a, b| a.file_name().cmp(&b.file_name()).then_with(|| a.cmp(b)));
    warnings.sort();
    Ok(())
}

async fn build(
    context: &RecipeContext<'_>,
    stage: &Path,
    scripts: &[PathBuf],
    let_pass: impl FnOnce() -> Result<(), Failure>,
) -> Result<(), Failure> {
    let data = stage.join("data");
    let run_as = run_as::choose(context.spec, ORDINARY)?;
    if matches!(run_as, RunAs::User { .. }) {
        let_pass()?;
    }
    let (server, install) = (tool(context, "mariadbd")?, tool(context, "mariadb-install-db")?);
    run_as::check_passable(&run_as, context.places, &[stage, server, install])?;
    use std::os::unix::fs::DirBuilderExt as _;
    let failed = |path: &Path, error: std::io::Error| Failure::new(FailureKind::Task, format!("{}: {error}", path.display()));
    std::fs::DirBuilder::new().mode(0o700).create(&data).map_err(|error| failed(&data, error))?;
    run_as::hand_over(&run_as, &data)?;
    fill(context, &data, &run_as).await?;

    let socket = match &run_as {
        RunAs::User { .. } => data.clone(),
        _ => {
            let folder = context.places.service_run(&context.spec.id).join("init");
            super::private_dir::make_private(&folder)?;
            folder
        }
    };
    let mut argv = words(context, &data, &socket)?;
    argv.extend(settings(context)?);
    argv.push("--skip-networking".to_owned());
    let mut server = context.runner.start(request(context, server, argv, &data, &run_as, LONGEST)).await?;
    let result = furnish(context, &mut server, stage, &socket.join("mysqld.sock"), scripts).await;
    let finished = server.stop(Signal::TERM, DOWN).await;
    let _gone_with_the_service = if socket == data { Ok(()) } else { std::fs::remove_dir_all(&socket) };
    result?;
    if !finished.status.success() {
        let said = super::output_tail::last_lines(&finished.tail);
        return Err(Failure::new(
            FailureKind::Task,
            format!("the private server did not stop cleanly: {}: {said}", finished.status),
        ));
    }
    Ok(())
}

/// The system tables. The tool is a shell script around the server; it is told where everything is, as it was compiled
/// for another prefix.
async fn fill(context: &RecipeContext<'_>, data: &Path, run_as: &RunAs) -> Result<(), Failure> {
    let install = tool(context, "mariadb-install-db")?;
    let prefix = tool(context, "mariadbd")?.parent().and_then(Path::parent).unwrap_or(Path::new("/"));
    let mut argv = vec![text_of(install)?, "--no-defaults".to_owned(), format!("--datadir={}", text_of(data)?)];
    if prefix != Path::new("/usr") {
        argv.push(format!("--basedir={}", text_of(prefix)?));
    }
    for word in ["--auth-root-authentication-method=normal", "--skip-test-db", "--skip-name-resolve", "--rpm"] {
        argv.push(word.to_owned());
    }
    let finished = context.runner.run(request(context, install, argv, data, run_as, STEP)).await?;
    if finished.status.success() && !finished.timed_out {
        return Ok(());
    }
    let said = super::output_tail::last_lines(&finished.tail);
    Err(Failure::new(FailureKind::Task, format!("mariadb-install-db: {}: {said}", finished.status))
        .help(format!("devrun logs {}", context.spec.service)))
}

/// Database, user and password, then the init files.
async fn furnish(
    context: &RecipeContext<'_>,
    server: &mut RunningCommand,
    stage: &Path,
    socket: &Path,
    scripts: &[PathBuf],
) -> Result<(), Failure> {
    let up = async {
        loop {
            if tokio::net::UnixStream::connect(socket).await.is_ok() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::select! {
        () = up => {}
        status = server.wait() => return Err(Failure::new(FailureKind::Task, format!("the private server ended: {status}"))),
        () = tokio::time::sleep(UP) => return Err(Failure::new(FailureKind::Task, format!("the private server was not ready after {}s", UP.as_secs()))),
    }
    let login = login(context)?;
    init::write_durably(stage, "login.sql", login.sql().as_bytes())?;
    let first = client(context, stage, socket, None, &stage.join("login.sql")).await;
    let removed = std::fs::remove_file(stage.join("login.sql"));
    first?;
    removed.map_err(|error| Failure::new(FailureKind::Task, format!("login.sql in the stage: {error}")))?;
    for script in scripts {
        client(context, stage, socket, Some(&login), script).await?;
    }
    Ok(())
}

/// Runs a file through the client; it stops at the first error.
async fn client(
    context: &RecipeContext<'_>,
    stage: &Path,
    socket: &Path,
    login: Option<&MariadbLogin>,
    file: &Path,
) -> Result<(), Failure> {
    let program = tool(context, "mariadb")?;
    let options = stage.join("client.cnf");
    let quoted = |value: &str| format!("\"{}\"", value.replace('\\', "\\\\").replace('"', "\\\""));
    let mut text = format!("[client]\nuser=root\nsocket={}\ndefault-character-set=utf8mb4\n", quoted(&text_of(socket)?));
    if let Some(login) = login {
        text.push_str(&format!("password={}\n", quoted(&login.password)));
    }
    init::write_durably(stage, "client.cnf", text.as_bytes())?;
    // From stdin it stops at the first error and names the line; its own `source` goes on.
    let mut argv: Vec<String> = ["sh", "-c", "file=$1; shift; exec \"$@\" <\"$file\"", "sh"].map(str::to_owned).to_vec();
    argv.extend([text_of(file)?, text_of(program)?, format!("--defaults-file={}", text_of(&options)?), "--batch".to_owned()]);
    argv.extend(login.map(|login| login.database.clone()));
    let finished = context.runner.run(request(context, Path::new("/bin/sh"), argv, stage, &RunAs::Same, LONGEST)).await;
    let removed = std::fs::remove_file(&options);
    let finished = finished?;
    removed.map_err(|error| Failure::new(FailureKind::Task, format!("client.cnf in the stage: {error}")))?;
    if finished.status.success() && !finished.timed_out {
        return Ok(());
    }
    Err(Failure::new(
        FailureKind::Task,
        format!("{}: {}: {}", file.display(), finished.status, super::output_tail::last_lines(&finished.tail)),
    ))
}

fn request(
    context: &RecipeContext<'_>,
    program: &Path,
    argv: Vec<String>,
    dir: &Path,
    run_as: &RunAs,
    timeout: Duration,
) -> CommandRequest {
    let mut env: BTreeMap<String, String> =
        ["PATH", "TMPDIR"].iter().filter_map(|name| Some(((*name).to_owned(), context.spec.env.get(*name)?.clone()))).collect();
    env.entry("PATH".to_owned()).or_insert_with(|| "/usr/local/bin:/usr/bin:/bin".to_owned());
    env.insert("LC_ALL".to_owned(), "C".to_owned());
    // Without a home no configuration of the user's is read.
    env.insert("HOME".to_owned(), "/nonexistent".to_owned());
    env.extend(context.located.env.clone());
    CommandRequest {
        role: Role::Init,
        program: program.to_owned(),
        argv,
        env,
        dir: dir.to_owned(),
        run_as: run_as.clone(),
        timeout,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_passwords_are_quoted() {
        let login = MariadbLogin {
            user: "o'dd".to_owned(),
            database: "a`b".to_owned(),
            root_password: None,
            password: "x\\'y".to_owned(),
        };
        insta::assert_snapshot!(login.sql(), @r"
        DELETE FROM mysql.global_priv WHERE Host <> 'localhost';
        DELETE FROM mysql.proxies_priv WHERE Host <> 'localhost';
        FLUSH PRIVILEGES;
        CREATE DATABASE IF NOT EXISTS `a``b` CHARACTER SET utf8mb4;
        ALTER USER 'root'@'localhost' IDENTIFIED BY 'x\\''y';
        CREATE USER 'o''dd'@'%' IDENTIFIED BY 'x\\''y';
        GRANT ALL PRIVILEGES ON `a``b`.* TO 'o''dd'@'%';
        ");
    }

    #[test]
    fn only_sql_in_byte_order() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["2.sql", "10.sql", "x.sh"] {
            std::fs::write(folder.path().join(name), "").unwrap();
        }
        let (mut scripts, mut warnings) = (Vec::new(), Vec::new());
        list(&[folder.path().to_owned()], &mut scripts, &mut warnings).unwrap();
        let names: Vec<_> = scripts.iter().map(|path| path.file_name().unwrap().to_string_lossy().into_owned()).collect();
        assert_eq!(names, ["10.sql", "2.sql"]);
        assert_eq!(warnings.len(), 1);
        assert!(list(&[folder.path().join("x.sh")], &mut scripts, &mut warnings).is_err());
    }
}
