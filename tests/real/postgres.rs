//! First boots of a real Postgres.

use std::path::{Path, PathBuf};
use std::time::Duration;

use devrun_keeper::{CommandRequest, Runner, RunningCommand};
use devrun_model::keeper::Role;
use devrun_model::{Failure, FailureKind, Signal, Work};
use devrun_runtime::recipes::{FirstBoot, FirstBootOutcome, engine_dir, first_boot, prepare, work};
use devrun_store::Located;
use tokio_postgres::NoTls;

use crate::stack::{Stack, block_on, found, has_psql, names, skip};
use crate::waits::{eventually, eventually_ok, within};

trials![
    first_boot_once_with_passwords_and_scripts,
    a_failing_script_leaves_nothing_and_names_its_line,
    another_major_version_is_refused_and_nothing_is_touched,
    the_warm_cache_gives_the_same_cluster_with_its_own_password,
    locale_and_encoding_are_those_of_new_data,
    q01_without_namespaces_it_runs_as_another_user_where_that_user_can_pass,
    killed_at_any_moment_there_is_a_whole_cluster_or_none
];

const TOOLS: &[&str] = &["postgres", "initdb", "psql"];

/// Every Postgres of this machine: the distribution's and those in the store; where there is none, one is fetched.
fn installed() -> Vec<Located> {
    let mut all = Vec::new();
    let folders = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().filter_map(Result::ok);
    for folder in folders {
        let version = folder.file_name().to_string_lossy().into_owned();
        all.extend(found("postgres", &version, &folder.path().join("bin"), TOOLS));
    }
    if !all.is_empty() || crate::services::fetched("postgres@16").is_ok() {
        let entries = std::fs::read_dir(crate::services::store().join("postgres")).into_iter().flatten().filter_map(Result::ok);
        for entry in entries {
            let name = entry.file_name().to_string_lossy().into_owned();
            let version = name.split('-').next().unwrap_or_default().to_owned();
            for below in ["bin", "native/bin", "package/native/bin"] {
                all.extend(found("postgres", &version, &entry.path().join(below), TOOLS));
            }
        }
    }
    all
}

fn with_each(test: impl Fn(Located)) {
    let all = installed();
    if all.is_empty() {
        return skip("no Postgres is installed, and none can be fetched");
    }
    all.into_iter().for_each(test);
}

async fn serve(stack: &Stack, runner: &Runner) -> RunningCommand {
    let invocation = prepare(&stack.context(runner)).unwrap();
    let request = CommandRequest {
        role: Role::Main,
        program: invocation.program,
        argv: invocation.argv,
        env: invocation.env,
        dir: invocation.dir,
        run_as: invocation.run_as,
        timeout: Duration::from_secs(120),
    };
    runner.start(request).await.unwrap()
}

fn config(stack: &Stack) -> tokio_postgres::Config {
    let mut config = tokio_postgres::Config::new();
    let attribute = |name: &str| stack.spec.attributes.get(name).cloned().unwrap();
    config.host("127.0.0.1").port(stack.spec.port().unwrap()).user(attribute("user")).dbname(attribute("database"));
    config.password(attribute("password"));
    config
}

/// Logs in over TCP as soon as the server answers, and asks for one text.
async fn ask(stack: &Stack, query: &str) -> String {
    let (client, connection) = eventually_ok(Duration::from_secs(30), async || {
        config(stack).connect(NoTls).await.map_err(|error| format!("{error:?}; {}", stack.output.text()))
    })
    .await;
    let driver = tokio::spawn(connection);
    let row = client.query_one(query, &[]).await.unwrap();
    drop(client);
    driver.abort();
    row.get(0)
}

fn app(located: Located) -> Stack {
    let mut stack = Stack::new(located);
    stack.attribute("user", "appuser");
    stack.attribute("database", "appdb");
    stack.attribute("password", "#ThawZin2k77!");
    stack
}

fn script(stack: &Stack, name: &str, text: &str) -> PathBuf {
    let folder = stack.root.join("init");
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(folder.join(name), text).unwrap();
    folder
}

fn took(boot: &FirstBoot) -> Duration {
    match &boot.outcome {
        FirstBootOutcome::Made { took, steps } => {
            for (step, took) in steps {
                eprintln!("  {step}: {:.1} ms", took.as_secs_f64() * 1000.0);
            }
            *took
        }
        other => panic!("{other:?}"),
    }
}

fn first_boot_once_with_passwords_and_scripts() {
    if !has_psql() {
        return skip("no psql is installed");
    }
    with_each(|located| {
        for (user, password) in
            [("appuser", "#ThawZin2k77!"), ("odd \"user\"", "a \"b\" 'c' \\ $HOME ${x} ä#%"), ("postgres", "pw")]
        {
            block_on(async {
                eprintln!("postgres {} as {user}", located.version);
                let mut stack = app(located.clone());
                stack.attribute("user", user);
                stack.attribute("password", password);
                let folder = script(&stack, "10-b.sql", "INSERT INTO t VALUES ('10');\nCREATE DATABASE other;\n");
                script(
                    &stack,
                    "02-a.sql",
                    "CREATE TABLE t (x text);\nINSERT INTO t VALUES ('02;');\nCOPY t FROM stdin;\ncopied\n\\.\n",
                );
                script(&stack, "9-c.sh", "psql -v ON_ERROR_STOP=1 -c \"INSERT INTO t VALUES ('9 $POSTGRES_DB')\"\n");
                stack.recipe.init.push(folder);
                let runner = stack.runner().await;
                let boot = first_boot(&stack.context(&runner)).await.unwrap();
                eprintln!("  all: {:.1} ms", took(&boot).as_secs_f64() * 1000.0);
                assert_eq!(names(&stack.volume.path), ["postgres"]);
                assert_eq!(names(&stack.volume.path.join("postgres")), [".devrun-init.json", "data"]);
                let again = first_boot(&stack.context(&runner)).await.unwrap();
                assert!(matches!(again.outcome, FirstBootOutcome::Done { .. }), "{again:?}");
                assert_eq!(again.warnings, Vec::<String>::new());
                let folder = script(&stack, "02-a.sql", "SELECT 'another';\n");
                std::fs::remove_file(folder.join("9-c.sh")).unwrap();
                let changed = first_boot(&stack.context(&runner)).await.unwrap().warnings.join("\n");
                assert!(changed.contains(": 02-a.sql, 9-c.sh; they act on an empty volume only"), "{changed}");
                assert!(!changed.contains('Z'), "a time for people: {changed}");
                let server = serve(&stack, &runner).await;
                let rows = ask(&stack, "SELECT string_agg(x, ',') FROM t").await;
                assert_eq!(rows, "02;,copied,10,9 appdb");
                assert_eq!(ask(&stack, "SELECT count(*)::text FROM pg_database WHERE datname IN ('appdb', 'other')").await, "2");
                assert_eq!(ask(&stack, "SHOW server_encoding").await, "UTF8");
                assert_eq!(ask(&stack, "SHOW fsync").await, "on");
                let mut wrong = config(&stack);
                wrong.password("wrong");
                let error = wrong.connect(NoTls).await.err().expect("a wrong password was taken");
                assert_eq!(error.code().map(|code| code.code()), Some("28P01"));
                let mut sql = Work::Sql { files: Vec::new(), text: Some("INSERT INTO t VALUES ('task')".to_owned()) };
                work(&sql, &stack.spec, &|_| {}).await.unwrap();
                sql = Work::Sql { files: Vec::new(), text: Some("SELECT 1;\n\nSELECT nope".to_owned()) };
                let failure = work(&sql, &stack.spec, &|_| {}).await.unwrap_err();
                assert!(failure.reason.contains("sql:3:"), "{}", failure.reason);
                let mut other = stack.spec.clone();
                other.attributes.insert("password".to_owned(), "wrong".to_owned());
                assert_eq!(work(&sql, &other, &|_| {}).await.unwrap_err().kind, FailureKind::Credentials);
                let finished = server.stop(Signal::INT, Duration::from_secs(30)).await;
                assert!(finished.status.success(), "{} {}", finished.status, stack.output.text());
                assert!(!stack.output.text().contains(password) || password == "pw", "the password is in the log");
                // Changed scripts are reported and not run.
                script(&stack, "10-b.sql", "INSERT INTO t VALUES ('11');");
                let changed = first_boot(&stack.context(&runner)).await.unwrap();
                assert_eq!(changed.warnings.len(), 1, "{changed:?}");
            });
        }
    });
}

fn a_failing_script_leaves_nothing_and_names_its_line() {
    with_each(|located| {
        block_on(async {
            let mut stack = app(located.clone());
            let folder = script(&stack, "01.sql", "CREATE TABLE t (x int);\n\nINSERT INTO t\n  VALUES (nope);\n");
            stack.recipe.init.push(folder);
            let runner = stack.runner().await;
            let failure: Failure = first_boot(&stack.context(&runner)).await.unwrap_err();
            assert_eq!(failure.kind, FailureKind::Task);
            assert!(failure.reason.contains("01.sql:4:11: ERROR: column \"nope\" does not exist"), "{}", failure.reason);
            assert!(names(&stack.volume.path).is_empty(), "{:?}", names(&stack.volume.path));
            script(&stack, "01.sql", "\\connect other\n");
            let failure = first_boot(&stack.context(&runner)).await.unwrap_err();
            assert!(failure.reason.contains("01.sql:1:1: \\connect"), "{}", failure.reason);
            script(&stack, "01.sql", "SELECT 1;");
            script(&stack, "02.sh", "echo going; exit 3\n");
            let failure = first_boot(&stack.context(&runner)).await.unwrap_err();
            assert!(failure.reason.contains("02.sh: exit 3: going"), "{}", failure.reason);
            assert!(names(&stack.volume.path).is_empty());
            script(&stack, "02.sh", "true\n");
            first_boot(&stack.context(&runner)).await.unwrap();
        });
    });
}

fn another_major_version_is_refused_and_nothing_is_touched() {
    with_each(|located| {
        block_on(async {
            let mut stack = app(located.clone());
            let runner = stack.runner().await;
            first_boot(&stack.context(&runner)).await.unwrap();
            let file = engine_dir(&stack.volume, "postgres").join("PG_VERSION");
            let before = std::fs::metadata(&file).unwrap().modified().unwrap();
            stack.located.version = "12.1".to_owned();
            for failure in [first_boot(&stack.context(&runner)).await.unwrap_err(), prepare(&stack.context(&runner)).unwrap_err()]
            {
                assert_eq!(failure.kind, FailureKind::Binary, "{}", failure.reason);
            }
            assert_eq!(before, std::fs::metadata(&file).unwrap().modified().unwrap());
        });
    });
}

fn the_warm_cache_gives_the_same_cluster_with_its_own_password() {
    with_each(|located| {
        block_on(async {
            let cache = tempfile::Builder::new().prefix("dc").tempdir_in("/tmp").unwrap();
            let mut times = Vec::new();
            for password in ["first", "second", "third"] {
                let mut stack = app(located.clone());
                stack.attribute("password", password);
                stack.recipe.init_cache = true;
                stack.spec.env.insert("XDG_CACHE_HOME".to_owned(), cache.path().display().to_string());
                let runner = stack.runner().await;
                eprintln!("postgres {} with a cache", located.version);
                let boot = first_boot(&stack.context(&runner)).await.unwrap();
                times.push(took(&boot));
                let server = serve(&stack, &runner).await;
                assert_eq!(ask(&stack, "SELECT 'in'").await, "in");
                server.stop(Signal::INT, Duration::from_secs(30)).await;
            }
            assert_eq!(names(&cache.path().join("devrun/init")).len(), 1);
            eprintln!("cold and warm: {times:?}");
        });
    });
}

/// Shows: service.locale, service.encoding.
fn locale_and_encoding_are_those_of_new_data() {
    with_each(|located| {
        block_on(async {
            let of = |name: &str| format!("SELECT current_setting('{name}')");
            let collate = "SELECT datcollate::text FROM pg_database WHERE datname = current_database()";
            for (locale, encoding, expected) in [
                (None, None, ["UTF8", "C"]),
                (Some("C.UTF-8"), None, ["UTF8", "C.UTF-8"]),
                (None, Some("LATIN1"), ["LATIN1", "C"]),
            ] {
                let mut stack = app(located.clone());
                stack.recipe.locale = locale.map(str::to_owned);
                stack.recipe.encoding = encoding.map(str::to_owned);
                let runner = stack.runner().await;
                first_boot(&stack.context(&runner)).await.unwrap();
                let server = serve(&stack, &runner).await;
                let seen = [ask(&stack, &of("server_encoding")).await, ask(&stack, collate).await];
                assert_eq!(seen, expected, "{locale:?} {encoding:?}");
                server.stop(Signal::INT, Duration::from_secs(30)).await;
            }
            let mut stack = app(located.clone());
            stack.recipe.locale = Some("xx_NOPE.UTF-8".to_owned());
            let runner = stack.runner().await;
            let failure = first_boot(&stack.context(&runner)).await.unwrap_err();
            assert_eq!(failure.kind, FailureKind::Config, "{failure:?}");
            assert!(failure.reason.starts_with("this system has no locale xx_NOPE.UTF-8: "), "{failure:?}");
            assert!(failure.help.unwrap().contains("locale -a"));
        });
    });
}

/// Not a test of its own: namespaces are turned off in its process.
pub fn as_another_user_in_a_process_of_its_own() {
    let Some(root) = std::env::var_os("DEVRUN_TEST_OTHER_USER") else { return };
    let located = installed().into_iter().next().unwrap();
    block_on(async {
        let mut stack = Stack::at(PathBuf::from(root), located);
        stack.attribute("user", "appuser");
        stack.attribute("database", "appdb");
        stack.attribute("password", "pw");
        let folder = script(&stack, "01.sh", "psql -c 'CREATE TABLE t ()'\n");
        stack.recipe.init.push(folder);
        let runner = stack.runner().await;
        match first_boot(&stack.context(&runner)).await {
            Ok(_) => {}
            Err(failure) => {
                eprintln!("KIND {:?}: {}", failure.kind, failure.reason);
                return;
            }
        }
        let server = serve(&stack, &runner).await;
        assert_eq!(ask(&stack, "SELECT count(*)::text FROM t").await, "0");
        let owner = std::os::unix::fs::MetadataExt::uid(&std::fs::metadata(engine_dir(&stack.volume, "postgres")).unwrap());
        assert!(owner > 0, "the engine's folder is root's");
        assert!(server.stop(Signal::INT, Duration::from_secs(30)).await.status.success());
        eprintln!("SERVED");
    });
}

fn q01_without_namespaces_it_runs_as_another_user_where_that_user_can_pass() {
    use std::os::unix::fs::PermissionsExt as _;
    if installed().is_empty() {
        return skip("no Postgres is installed, and none can be fetched");
    }
    if !has_psql() {
        return skip("no psql is installed");
    }
    if !nix::unistd::geteuid().is_root() {
        return crate::harness::skipped("only root can run as another user");
    }
    let folder = tempfile::Builder::new().prefix("du").tempdir_in("/tmp").unwrap();
    for (mode, expected) in [(0o700, "KIND Config: uid"), (0o755, "SERVED")] {
        std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(mode)).unwrap();
        let output = std::process::Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "postgres::as_another_user_in_a_process_of_its_own", "--nocapture"])
            .env("DEVRUN_TEST_OTHER_USER", folder.path())
            .env("DEVRUN_NO_USERNS", "1")
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&output.stderr);
        assert!(text.contains(expected), "mode {mode:o}: {text}");
        if mode == 0o700 {
            assert!(text.contains(&folder.path().display().to_string()), "the folder is not named: {text}");
            assert!(names(&folder.path().join(".devrun/data/data")).is_empty());
        }
    }
}

/// Not a test of its own: what the kill test starts again and again.
pub fn first_boot_in_a_process_of_its_own() {
    let Some(root) = std::env::var_os("DEVRUN_TEST_ROOT") else { return };
    let located = installed().into_iter().next().unwrap();
    block_on(async {
        let mut stack = Stack::at(PathBuf::from(root), located);
        stack.attribute("user", "appuser");
        stack.attribute("database", "appdb");
        stack.attribute("password", "pw");
        let runner = stack.runner().await;
        first_boot(&stack.context(&runner)).await.unwrap();
    });
}

/// A process whose working directory is below the folder.
fn living_below(folder: &Path) -> Option<String> {
    std::fs::read_dir("/proc").ok()?.filter_map(Result::ok).find_map(|entry| {
        let pid = entry.file_name().to_str()?.to_owned();
        std::fs::read_link(entry.path().join("cwd")).ok()?.starts_with(folder).then_some(pid)
    })
}

fn killed_at_any_moment_there_is_a_whole_cluster_or_none() {
    let Some(located) = installed().into_iter().next() else { return skip("no Postgres is installed, and none can be fetched") };
    let stack = app(located);
    let boot = |root: &Path| {
        std::process::Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "postgres::first_boot_in_a_process_of_its_own", "--nocapture"])
            .env("DEVRUN_TEST_ROOT", root)
            .stdout(std::process::Stdio::null())
            .stderr(std::process::Stdio::null())
            .spawn()
            .unwrap()
    };
    let mut killed = 0;
    for round in 0..10u64 {
        let mut child = boot(&stack.root);
        // Spread over the time that a whole first boot takes here.
        let status = within(Duration::from_millis(60 + round * 130), || child.try_wait().unwrap());
        if status.is_none() {
            child.kill().unwrap();
            child.wait().unwrap();
            killed += 1;
        }
        // The keeper ends what the dead supervisor left; nothing may still write when the next one begins.
        eventually(&format!("round {round}: the end of what it left"), Duration::from_secs(30), || {
            living_below(&stack.root).is_none().then_some(())
        });
        let engine = stack.volume.path.join("postgres");
        if engine.exists() {
            assert!(
                engine.join(".devrun-init.json").is_file() && engine.join("data/global/pg_control").is_file(),
                "round {round}"
            );
            std::fs::remove_dir_all(&engine).unwrap();
        }
    }
    assert!(killed > 0, "no round was killed");
    let status = boot(&stack.root).wait().unwrap();
    assert!(status.success());
    assert_eq!(names(&stack.volume.path), ["postgres"], "a stage is left");
}
