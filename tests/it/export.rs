//! `devrun export`: what is written, when it is stale, and what it could not say.

use crate::harness::Project;

const PROCFILE: &str = r#"
[project]
name = "shop"
[services.api]
run = "./api --port $PORT --price 5$$"
image = "registry.example/shop/api:3"
port = 8000
depends_on = ["redis"]
env = { REDIS_URL = "${redis.url}", LEVEL = "${LEVEL:-info}" }
ready = { http = "/health", interval = "7s", retries = 4 }
[services.redis]
use = "redis@7"
password = ""
"#;

/// Shows: export, export --output, export --check, export --strict, service.image.
#[test]
fn an_export_is_written_once_and_told_when_it_is_stale() {
    let project = Project::new();
    project.rewrite(PROCFILE);
    project.run(&["export", "compose", "--strict", "-o", "c.yaml", "--check"]).code(1).says("c.yaml is stale: it does not exist");
    project.run(&["export", "compose", "--strict", "-o", "c.yaml"]).code(0);
    let text = project.read("c.yaml");
    for line in [
        "image: \"registry.example/shop/api:3\"",
        "- \"5$$\"",
        "LEVEL: \"${LEVEL:-info}\"",
        "REDIS_URL: \"redis://redis:6379\"",
        "interval: \"7s\"",
        "retries: 4",
        "condition: \"service_healthy\"",
        "image: \"redis:7\"",
        "- \"127.0.0.1:8000:8000\"",
    ] {
        assert!(text.contains(line), "{line}\n{text}");
    }
    project.run(&["export", "compose", "-o", "c.yaml", "--check"]).code(0);
    project.run(&["export", "compose", "-o", "c.yaml"]).code(2).says("left as it is");
    project.rewrite(&PROCFILE.replace("retries = 4", "retries = 5"));
    project.run(&["export", "compose", "-o", "c.yaml", "--check"]).code(1).says("is stale: it differs from the procfile");
    project.run(&["export", "compose", "-o", "c.yaml", "--yes"]).code(0);
    project.run(&["export", "compose", "-o", "c.yaml", "--check"]).code(0);
}

/// Each loss is a line with its key; `--strict` refuses and writes nothing.
#[test]
fn what_is_lost_is_told_key_by_key() {
    let project = Project::new();
    project
        .rewrite(&PROCFILE.replace("port = 8000", "port = 8000\nbackoff = { initial = \"1s\" }\nalive = { http = \"/live\" }"));
    let outcome = project.run(&["export", "compose", "-o", "c.yaml"]).code(0);
    let lines: Vec<&str> = outcome.stderr.lines().filter(|line| line.starts_with("not exported: ")).collect();
    assert_eq!(lines.len(), 2, "{}", outcome.stderr);
    assert!(lines[0].starts_with("not exported: services.api.backoff: "), "{lines:?}");
    assert!(lines[1].starts_with("not exported: services.api.alive: "), "{lines:?}");
    project.run(&["export", "compose", "--strict", "-o", "d.yaml"]).code(2).says("2 keys cannot be expressed in compose");
    assert!(!project.path("d.yaml").exists());
}

/// What devrun itself gives a service stands in the export; compose would ask the shell for it.
#[test]
fn variables_of_devrun_are_filled_in() {
    let project = Project::new();
    project.rewrite(
        &PROCFILE.replace("./api --port $PORT --price 5$$", "app $DEVRUN_PROJECT $DEVRUN_SERVICE $DEVRUN_REPLICA $PORT"),
    );
    let text = project.run(&["export", "compose", "-o", "-"]).code(0).stdout;
    assert!(!text.contains("DEVRUN_"), "{text}");
    assert!(text.contains("- \"api\"") && text.contains("- \"8000\""), "{text}");
}

/// A generated secret is a file there too, and its value stands nowhere in the export.
#[test]
fn a_secret_stays_a_file() {
    let project = Project::new();
    project.rewrite(
        "[project]\nname = \"s\"\n[services.db]\nuse = \"postgres@16\"\n[services.api]\nrun = \"./api\"\nimage = \"api\"\nenv = { DATABASE_URL = \"${db.url}\" }\n",
    );
    project.run(&["config", "write"]);
    let text = project.run(&["export", "compose"]).code(0).says("needed there: the file of the secret db-password").stdout;
    for line in [
        "POSTGRES_PASSWORD_FILE: \"/run/secrets/db-password\"",
        "file: \"./secrets/infra/db-password\"",
        "export DATABASE_URL='postgres://postgres:'\\\"$$(cat /run/secrets/db-password)\\\"'@db:5432/postgres'\\nexec './api'",
    ] {
        assert!(text.contains(line), "{line}\n{text}");
    }
}

/// A secret's value is in no manifest, a dependency is waited for, a mode is an overlay.
#[test]
fn kubernetes_objects_say_what_the_procfile_says() {
    let project = Project::new().env("JWT_SECRET", "jwt-0123456789");
    project.rewrite(
        "[project]\nname = \"s\"\n[services.my_db]\nuse = \"postgres@16\"\n\
         [services.api]\nrun = \"./api --price 5$$ $(x)\"\nshell = false\nimage = \"api:1\"\nport = 8000\ndepends_on = [\"my_db\", \"set-up\"]\n\
         env = { DATABASE_URL = \"${my_db.url}\", JWT_SECRET = \"${JWT_SECRET}\" }\nready = { http = \"/up\", interval = \"7s\" }\n\
         [tasks.set-up]\nrun = \"./set-up\"\nimage = \"api:1\"\ndepends_on = [\"my_db\"]\n\
         [modes.big]\nservices.api.replicas = 3\n",
    );
    let outcome = project.run(&["export", "kubernetes", "-o", "k"]).code(0);
    outcome.says("--from-literal=jwt-secret=\"$JWT_SECRET\" --from-file=my_db-password=secrets/infra/my_db-password");
    let api = project.read("k/base/deployment-api.yaml");
    for text in [
        "value: \"postgres://postgres:$(DEVRUN_SECRET_MY_DB_PASSWORD)@my-db:5432/postgres\"",
        "key: \"jwt-secret\"",
        "- \"$$(x)\"",
        "until nc -z 'my-db' 5432; do sleep 1; done",
        "- \"job/set-up\"",
        "periodSeconds: 7",
        "image: \"api:1\"",
        "replicas: 1",
    ] {
        assert!(api.contains(text), "{text}\n{api}");
    }
    assert!(!api.contains("jwt-0123456789"), "{api}");
    let overlay = project.read("k/overlays/big/kustomization.yaml");
    assert!(overlay.contains("../../base") && overlay.contains("replicas: 3"), "{overlay}");
    project.run(&["export", "kubernetes", "-o", "k", "--check"]).code(0);
    project.run(&["export", "nomad"]).code(2);
}

/// A gateway's edges to the services of its routes are not a line of the procfile.
#[test]
fn only_a_dependency_that_is_written_is_called_optional() {
    let project = Project::new();
    let text = "[project]\nname = \"s\"\n[services.api]\nrun = \"./api\"\nimage = \"api:1\"\nport = 8000\n\
                [services.front]\nuse = \"gateway\"\nroutes = { \"/\" = \"api\" }\n";
    project.rewrite(text);
    project.run(&["export", "kubernetes", "-o", "k"]).code(0).says_not("is optional");
    project.rewrite(&format!("{text}depends_on = {{ api = {{ required = false }} }}\n"));
    project.run(&["export", "kubernetes", "-o", "k2"]).code(0).says("services.front.depends_on: `api` is optional");
}

/// Shows: export --one-unit.
#[test]
fn a_unit_calls_the_commands_of_the_stack() {
    let project = Project::new().env("LEVEL", "debug 100%").env("API_TOKEN", "t0ps3cret");
    project.rewrite(
        "[project]\nname = \"shop\"\ntimeout = \"3m\"\n[services.a]\nrun = \"./a $LEVEL\"\nenv = { T = \"${API_TOKEN}\" }\n\
         stop = { grace = \"15s\" }\n[modes.prod]\nservices.a.run = \"./a\"\n",
    );
    let outcome = project.run(&["export", "systemd", "--one-unit", "--user", "--mode", "prod"]).code(0);
    let root = std::fs::canonicalize(project.dir()).expect("our own directory");
    let up = format!(" -C {} --mode prod --progress plain up", root.display());
    assert!(outcome.stdout.lines().any(|line| line.starts_with("ExecStart=/") && line.ends_with(&up)), "{}", outcome.stdout);
    let outcome =
        project.run(&["export", "systemd", "--one-unit"]).code(0).says("not exported: ${API_TOKEN}: it is taken from this shell");
    for line in ["Environment=\"LEVEL=debug 100%%\"", "TimeoutStartSec=180s", "TimeoutStopSec=45s", "WantedBy=default.target"] {
        assert!(outcome.stdout.lines().any(|known| known == line), "{line}\n{}", outcome.stdout);
    }
    assert!(!outcome.stdout.contains("t0ps3cret"), "{}", outcome.stdout);
    project.run(&["export", "systemd", "--one-unit", "--strict"]).code(2);
    let system = project
        .run(&["export", "systemd", "--one-unit", "--system", "--mode", "prod"])
        .code(0)
        .says("must belong to devrun-shop");
    assert!(system.stdout.contains("\nUser=devrun-shop\n"), "{}", system.stdout);
    project.run(&["export", "compose", "--system"]).code(2);
}

/// Shows: export --user, export --system. What the helpers of the units do is in `tests/real/export_systemd.rs`.
#[test]
fn every_service_has_a_unit() {
    let project = Project::new().env("API_TOKEN", "t0ps3cret");
    project.rewrite(
        "[project]\nname = \"shop\"\n[volumes]\ndata = {}\n\
         [services.a]\nrun = \"./a\"\nenv = { T = \"${API_TOKEN}\" }\nwatch = [\"src/*\"]\nrestart = \"on-failure:2\"\n\
         [services.b]\nrun = \"./b\"\nreplicas = 2\ndepends_on = [\"a\", \"seed\"]\nstop = { signal = \"QUIT\", grace = \"15s\" }\n\
         [tasks.seed]\nrun = \"./seed\"\nonce = \"data/.seeded\"\n",
    );
    project
        .run(&["export", "systemd", "-o", "units"])
        .code(0)
        .says("not exported: services.a.watch: ")
        .says("export systemd -o ~/.config/systemd/user\ninstall: systemctl --user daemon-reload\n")
        .says("remove: systemctl --user disable --now devrun-shop.target\nremove: rm ~/.config/systemd/user/devrun-shop.*\n");
    let mut names: Vec<String> = std::fs::read_dir(project.path("units"))
        .expect("a directory")
        .map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    let expected = [
        "devrun-shop.a.service",
        "devrun-shop.b@.service",
        "devrun-shop.seed.service",
        "devrun-shop.service",
        "devrun-shop.target",
    ];
    assert_eq!(names, expected);
    let all: String = names.iter().map(|name| project.read(&format!("units/{name}"))).collect();
    assert!(!all.contains("t0ps3cret"), "{all}");
    let unit = project.read("units/devrun-shop.b@.service");
    for line in ["Wants=devrun-shop.a.service devrun-shop.seed.service", "KillSignal=SIGQUIT", "TimeoutStopSec=15s"] {
        assert!(unit.lines().any(|known| known == line), "{line}\n{unit}");
    }
    assert!(unit.lines().any(|line| line.starts_with("ExecStart=/") && line.ends_with(" __unit exec b.%i")), "{unit}");
    let condition = " sh devrun-shop.a.service devrun-shop.seed.service";
    assert!(unit.lines().any(|line| line.starts_with("ExecCondition=sh -c ") && line.ends_with(condition)), "{unit}");
    project.run(&["export", "systemd", "-o", "units"]).code(2).says("left as it is");
    project.run(&["export", "systemd", "-o", "units", "--check"]).code(0);
    project.run(&["export", "systemd", "--strict"]).code(2);
    let system = project.run(&["export", "systemd", "--system"]).code(0).says("must belong to devrun-shop");
    let state = format!("ReadWritePaths=-{} %t/devrun-shop", std::fs::canonicalize(project.dir()).expect("it exists").display());
    for line in ["User=devrun-shop", "WantedBy=multi-user.target", "ProtectSystem=strict", state.as_str()] {
        assert!(system.stdout.lines().any(|known| known == line), "{line}\n{}", system.stdout);
    }
    assert!(system.stdout.contains("ExecCondition=+sh -c "), "{}", system.stdout);
    assert!(system.stdout.contains("u devrun-shop - \"devrun stack shop\" /var/lib/devrun-shop\n"), "{}", system.stdout);
    project.run(&["export", "compose", "--one-unit"]).code(2);
}

/// The helpers of units work from what the stack's first unit has read, run a task once, and take this process's place.
#[test]
fn helpers_of_units_prepare_run_and_probe() {
    let project = Project::new();
    project.rewrite(
        "[project]\nname = \"shop\"\n[secrets]\ngenerate = [\"key\"]\n[volumes]\ndata = {}\n\
         [services.a]\nrun = [\"sh\", \"-c\", \"echo $KEY $LISTEN_FDS; exit 7\"]\nenv = { KEY = \"${secret.key}\" }\n\
         pre_start = \"touch prepared\"\nready = { file = \"prepared\", within = \"2s\" }\nstop = { command = \"touch stopping\" }\n\
         render = { \"a.in\" = \"a.conf\" }\n[tasks.seed]\nrun = \"sh -c 'echo x >>seeded'\"\nonce = \"data/.seeded\"\n",
    );
    project.write("a.in", "key = ${secret.key}\n");
    project.run(&["__unit", "exec", "a"]).code(6).says("the stack's procfile has not been read");
    project.run(&["__unit", "plan"]).code(0);
    project.run(&["__unit", "exec", "b"]).code(2).says("the procfile has no service or task b now");
    project.run(&["__unit", "prepare", "a"]).code(0);
    assert!(project.path("prepared").exists());
    project.run(&["__unit", "ready", "a"]).code(0);
    std::fs::remove_file(project.path("prepared")).expect("it was made");
    project.run(&["__unit", "ready", "a"]).code(3).says("a was not ready within 2.0s");
    let key = project.read("secrets/infra/key");
    let outcome = project.run_in_shell("LISTEN_FDS=1 exec \"$0\" __unit exec a").code(7);
    assert_eq!(outcome.stdout.trim(), format!("{} 1", key.trim()));
    project.run(&["__unit", "stop", "a"]).code(0);
    assert!(project.path("stopping").exists());
    project.run(&["__unit", "task", "seed"]).code(0);
    project.run(&["__unit", "task", "seed"]).code(0).says("already done");
    assert_eq!(project.read("seeded"), "x\n");
    project.run(&["__unit", "forget"]).code(0);
    project.run(&["__unit", "exec", "a"]).code(6);
    project.run(&["__unit", "forget"]).code(0);
    project.nothing_left();
}

/// An image is that of the server which runs here, not the newest one that could be fetched.
#[test]
fn an_image_has_the_version_of_the_server_that_is_found() {
    let project = Project::new().procfile("[services.db]\nuse = \"redis\"\n");
    project.write("bin/redis-server", "#!/bin/sh\necho 'Redis server v=6.2.7 sha=00000000:0 malloc=libc bits=64 build=1'\n");
    project.write("bin/redis-cli", "#!/bin/sh\necho 'redis-cli 6.2.7'\n");
    for name in ["redis-server", "redis-cli"] {
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(project.path(&format!("bin/{name}")), mode).expect("our own file");
    }
    let path = format!("{}:{}", std::env::var("PATH").expect("a PATH"), "");
    let outside = tempfile::tempdir().expect("a directory");
    std::fs::rename(project.path("bin"), outside.path().join("bin")).expect("our own directory");
    let project = project.env("PATH", &format!("{}:{path}", outside.path().join("bin").display()));
    let found = project.run(&["which", "redis"]).code(0);
    assert!(found.stdout.contains("6.2.7"), "{found}");
    for format in ["compose", "kubernetes"] {
        project.run(&["export", format]).code(0).says("redis:6.2.7");
    }
}
