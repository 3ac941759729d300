//! `secret rotate` on real servers, killed at any moment; a password that does not fit old data; and data that something
//! else has made.
#![cfg(all(feature = "postgres", feature = "redis"))]

use std::time::Duration;

use nix::sys::signal::Signal;

use crate::harness::{Outcome, Project, eventually, is_root, skipped};
use crate::services::installed;
use crate::waits::let_time_pass;

trials![
    a_rotation_reaches_the_live_servers_and_their_readers_only,
    killed_in_the_middle_old_or_new_is_valid_everywhere,
    a_secret_that_does_not_fit_old_data_has_two_ways_out,
    data_that_something_else_has_made_is_taken_over_after_a_look,
];

const STACK: &str = r#"
    [secrets]
    generate = ["db-password", "redis-password", "other"]
    [services.db]
    use = "postgres"
    port = "auto"
    user = "app"
    database = "app"
    password = "${secret.db-password}"
    [services.cache]
    use = "redis"
    port = "auto"
    password = "${secret.redis-password}"
    [services.api]
    run = "sh -c 'echo $DATABASE_URL $REDIS_URL > api.url; echo start >> api.starts; exec {svc:api}'"
    depends_on = ["db", "cache"]
    env = { DATABASE_URL = "${db.url}", REDIS_URL = "${cache.url}" }
    [services.lonely]
    run = "{svc:lonely}"
"#;

fn servers() -> bool {
    installed("initdb") && installed("redis-server")
}

fn up(project: &Project) -> Outcome {
    project.start(&["up", "-d"]).outcome_within(Duration::from_secs(90))
}

/// Whether the server takes this password.
fn logs_in(project: &Project, password: &str) -> bool {
    let port = project.service("db")["ports"]["main"].as_u64().expect("it has a port");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let mut config = tokio_postgres::Config::new();
        config.host("127.0.0.1").port(u16::try_from(port).expect("a port")).user("app").dbname("app").password(password);
        match config.connect(tokio_postgres::NoTls).await {
            Ok((client, connection)) => {
                let driver = tokio::spawn(connection);
                let answer = client.simple_query("SELECT 1").await;
                driver.abort();
                answer.is_ok()
            }
            Err(_) => false,
        }
    })
}

/// Shows: secret rotate.
fn a_rotation_reaches_the_live_servers_and_their_readers_only() {
    if !servers() {
        return skipped("no Postgres or no Redis is installed");
    }
    let project = Project::new().procfile(STACK);
    up(&project).code(0);
    let pid = |name: &str| project.service(name)["pid"].clone();
    let (db, api, lonely, cache) = (pid("db"), pid("api"), pid("lonely"), pid("cache"));
    let starts = || project.read("api.starts").lines().count();
    let old = project.read("secrets/infra/db-password");
    assert!(logs_in(&project, &old));
    let rotated = project.start(&["secret", "rotate", "db-password"]).outcome_within(Duration::from_secs(90)).code(0);
    let new = project.read("secrets/infra/db-password");
    assert!(old != new && !rotated.stderr.contains(&new) && !rotated.stderr.contains(&old), "{rotated}");
    assert!(rotated.stderr.contains("db has the new password, and runs on"), "{rotated}");
    assert!(logs_in(&project, &new), "the new one is in force");
    assert!(!logs_in(&project, &old), "the old one is not");
    assert_ne!(pid("api"), api);
    assert_eq!((pid("db"), pid("lonely"), pid("cache")), (db.clone(), lonely.clone(), cache.clone()));
    eventually("the reader's environment", Duration::from_secs(20), || project.read("api.url").contains(&new).then_some(()));
    assert_eq!(starts(), 2, "its reader was restarted once");
    assert!(!project.path(".devrun/data/db/.devrun-set-password").exists());
    // What the supervisor looks at it with is the new one too, and it has nothing left to change.
    project.run(&["wait", "db", "cache", "api"]).code(0);
    assert_eq!((project.service("db")["health"].clone(), up(&project).code), ("healthy".into(), Some(0)));
    assert_eq!((pid("db"), starts()), (db.clone(), 2), "a second up finds everything as it is to be");

    // Redis keeps its password in its configuration, which is written anew beside it.
    let old = project.read("secrets/infra/redis-password");
    project.run(&["secret", "rotate", "redis-password"]).code(0).says("cache has the new password, and runs on");
    let new = project.read("secrets/infra/redis-password");
    assert_eq!((pid("cache"), pid("db"), pid("lonely")), (cache.clone(), db.clone(), lonely.clone()));
    eventually("the reader's environment", Duration::from_secs(20), || project.read("api.url").contains(&new).then_some(()));
    assert_eq!(starts(), 3);
    let port = project.service("cache")["ports"]["main"].as_u64().expect("a port");
    let pings = |password: &str| {
        let client = redis::Client::open(format!("redis://:{password}@127.0.0.1:{port}")).expect("a URL");
        client.get_connection().and_then(|mut connection| redis::cmd("PING").query::<String>(&mut connection)).is_ok()
    };
    assert!(pings(&new) && !pings(&old));
    // One that is killed comes back with the new one.
    crate::harness::signal(i32::try_from(cache.as_i64().expect("a pid")).expect("a pid"), Signal::SIGKILL);
    project.run(&["restart", "cache"]).code(0);
    assert!(pings(&new) && !pings(&old) && pid("cache") != cache);
    assert_eq!(pid("lonely"), lonely);
    // One that nobody reads, and one that is not there.
    project.run(&["secret", "rotate", "other"]).code(0).says("no service reads it");
    project.run(&["secret", "rotate", "nobody"]).code(2).says("db-password");
    // Its name and file are shown, its value on purpose only.
    let listed = project.run(&["secret", "list", "--json"]).code(0);
    assert!(!listed.stdout.contains(&new) && listed.stdout.contains("redis-password"), "{listed}");
    assert_eq!(project.run(&["secret", "show", "redis-password"]).code(0).stdout.trim_end(), new);

    // With the stack down: it takes effect at the next start.
    project.run(&["down"]).code(0);
    let old = project.read("secrets/infra/db-password");
    project.run(&["secret", "rotate", "db-password"]).code(0).says("at the next start");
    up(&project).code(0);
    assert!(logs_in(&project, &project.read("secrets/infra/db-password")) && !logs_in(&project, &old));
    project.run(&["down"]).code(0);
    project.nothing_left();
}

fn killed_in_the_middle_old_or_new_is_valid_everywhere() {
    if !servers() {
        return skipped("no Postgres or no Redis is installed");
    }
    let project = Project::new().procfile(STACK);
    up(&project).code(0);
    let mark = project.path(".devrun/data/db/.devrun-set-password");
    for (round, pause) in [2u64, 12, 25, 60, 140, 300].into_iter().enumerate() {
        let before = project.read("secrets/infra/db-password");
        let rotation = project.start(&["secret", "rotate", "db-password"]);
        let_time_pass("the moment of the kill is what is varied", Duration::from_millis(pause));
        rotation.signal(Signal::SIGKILL);
        rotation.outcome();
        if round % 2 == 1 {
            // The supervisor too, in whatever it was doing.
            crate::harness::signal(project.supervisor(), Signal::SIGKILL);
            project.nothing_left_within(Duration::from_secs(30));
        }
        up(&project).code(0);
        let value = project.read("secrets/infra/db-password");
        assert!(logs_in(&project, &value), "round {round}: what the file says is in force");
        eventually("the reader has it too", Duration::from_secs(20), || project.read("api.url").contains(&value).then_some(()));
        // Killed between the mark and the new value, the server runs on with the password that it has, mark and all.
        assert!(!mark.exists() || (value == before && round % 2 == 0), "round {round}: settled");
    }
    project.run(&["down"]).code(0);
    up(&project).code(0);
    assert!(!mark.exists(), "a start settles it");
    // That moment once for certain.
    let value = project.read("secrets/infra/db-password");
    let secret = project.path("secrets/infra/db-password");
    std::fs::write(&mark, serde_json::json!({ "secret": secret }).to_string()).expect("our own file");
    up(&project).code(0);
    assert!(logs_in(&project, &value) && mark.exists());
    project.run(&["down"]).code(0);
    up(&project).code(0);
    assert!(logs_in(&project, &value) && !mark.exists(), "the next start settles it");
    project.run(&["down"]).code(0);
    project.nothing_left();
}

fn a_secret_that_does_not_fit_old_data_has_two_ways_out() {
    if !servers() {
        return skipped("no Postgres or no Redis is installed");
    }
    let project = Project::new().procfile(STACK);
    up(&project).code(0);
    project.run(&["down"]).code(0);
    let file = project.path("secrets/infra/db-password");
    let good = project.read("secrets/infra/db-password");

    // Edited: the login is refused.
    std::fs::write(&file, "something-else").expect("our own file");
    let refused = up(&project).code(10);
    for text in ["made with another password", "put that one back", "devrun secret rotate db-password"] {
        assert!(refused.stderr.contains(text), "{text:?}\n{refused}");
    }
    assert!(!refused.stderr.contains("something-else"), "{refused}");
    // The first way out.
    std::fs::write(&file, &good).expect("our own file");
    up(&project).code(0);
    assert!(logs_in(&project, &good));
    project.run(&["down"]).code(0);

    // Lost: nothing is started, and nothing made anew.
    std::fs::remove_file(&file).expect("our own file");
    let refused = up(&project).code(2);
    assert!(
        refused.stderr.contains("put the file back") && refused.stderr.contains("devrun secret rotate db-password"),
        "{refused}"
    );
    assert!(!file.exists() && project.leftovers().is_empty());
    // The second way out, and the data is still there.
    project.run(&["secret", "rotate", "db-password"]).code(0);
    up(&project).code(0);
    let new = project.read("secrets/infra/db-password");
    assert!(new != good && logs_in(&project, &new) && !logs_in(&project, &good));
    project.run(&["down"]).code(0);
    project.nothing_left();
}

fn data_that_something_else_has_made_is_taken_over_after_a_look() {
    if !servers() || !is_root() {
        return skipped("no Postgres or no Redis is installed, or not root");
    }
    // A cluster as another tool leaves it: made here by a first stack, its traces removed.
    let project = Project::new().procfile(&format!(
        "[volumes]\npg = {{ path = \"elsewhere\" }}\n{}",
        STACK.replace("use = \"postgres\"", "use = \"postgres\"\n    data = \"pg\"")
    ));
    up(&project).code(0);
    project.run(&["down"]).code(0);
    let good = project.read("secrets/infra/db-password");
    let moved = project.path("foreign");
    std::fs::rename(project.path("elsewhere/postgres/data"), &moved).expect("our own folder");
    std::fs::remove_dir_all(project.path("elsewhere")).expect("our own folder");
    std::fs::rename(&moved, project.path("elsewhere")).expect("our own folder");
    let before = std::fs::read_dir(project.path("elsewhere")).expect("our own folder").count();

    // Without the word it is refused untouched.
    let refused = up(&project).code(4);
    assert!(refused.stderr.contains("devrun volumes adopt pg"), "{refused}");
    project.run(&["volumes", "adopt", "pg"]).code(6);
    project.run(&["down"]).code(0);
    assert_eq!(std::fs::read_dir(project.path("elsewhere")).expect("our own folder").count(), before);
    // One of another version is refused untouched too.
    let version = project.read("elsewhere/PG_VERSION");
    project.write("elsewhere/PG_VERSION", "9\n");
    project.run(&["volumes", "adopt", "pg"]).code(7).says("made by postgres 9");
    project.write("elsewhere/PG_VERSION", &version);
    assert_eq!(std::fs::read_dir(project.path("elsewhere")).expect("our own folder").count(), before);
    project.run(&["volumes", "adopt", "nobody"]).code(2).says("pg");

    project.run(&["volumes", "adopt", "pg"]).code(0).says("is taken over");
    project.run(&["volumes", "adopt", "pg"]).code(0).says("own already");
    let volumes = project.run(&["volumes", "--json"]).code(0).json();
    let volume = volumes.as_array().into_iter().flatten().find(|one| one["name"] == "pg").expect("listed").clone();
    assert_eq!((&volume["class"], &volume["services"]), (&"persistent".into(), &serde_json::json!(["db"])), "{volume:#}");
    assert!(volume["engine"].as_str().unwrap_or_default().starts_with("postgres "), "{volume:#}");
    up(&project).code(0);
    assert!(logs_in(&project, &good), "its users and passwords are those it had");
    // And a password nobody knows any more is set anew.
    project.start(&["secret", "rotate", "db-password"]).outcome_within(Duration::from_secs(90)).code(0);
    assert!(logs_in(&project, &project.read("secrets/infra/db-password")) && !logs_in(&project, &good));
    project.run(&["down"]).code(0);
    project.nothing_left();
}
