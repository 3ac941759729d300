//! Compose files that docker compose refuses: misspelt keys, values that a key does not take, names of nothing. Each is an error at its
//! place, before anything starts.

use crate::harness::Project;

/// Everything that is wrong with one file is shown at once, and nothing is made.
#[test]
fn every_typo_is_shown_at_its_place() {
    let project = Project::new();
    project.write(
        "compose.yaml",
        "services:\n  web:\n    imagee: alpine\n    command: sleep 600\n    portss: ['80:80']\n    ports: ['abc:def']\n    restart: sometimes\n    \
         depends_on: [dbb]\n    x-mine: { anything: 1 }\n  db:\n    image: alpine\n    command: sleep 600\n    read_only: maybe\n    \
         healthcheck: { test: [CMD, 'true'], intervall: 5s, timeout: 10 }\n  job:\n    image: alpine\n    command: 'true'\n    \
         depends_on: { db: { condition: service_helthy } }\n    build: { contxt: . }\n    deploy: { resources: { limit: { cpus: '1' } } }\n\
         volumes:\n  data: { drivr: local }\nservice: {}\nx-shared: { y: 1 }\n",
    );
    for words in [&["check"][..], &["up", "-d"], &["up", "--plan"], &["config"], &["import", "compose.yaml"]] {
        let out = project.run(words).code(2);
        for line in [
            "compose.yaml:3:5: error: service `web`: unknown key `imagee`",
            "compose.yaml:5:5: error: service `web`: unknown key `portss`",
            "compose.yaml:6:13: error: service `web`: `ports`: invalid port \"abc:def\": \"def\" is not a port",
            "compose.yaml:7:14: error: service `web`: `restart`: unknown value \"sometimes\"",
            "compose.yaml:8:18: error: service `web`: `depends_on` names the undefined service `dbb`",
            "compose.yaml:13:16: error: service `db`: `read_only`: invalid boolean \"maybe\"",
            "compose.yaml:14:41: error: service `db`: unknown key `intervall` in `healthcheck`",
            "compose.yaml:14:65: error: service `db`: `healthcheck.timeout`: invalid duration \"10\"",
            "compose.yaml:18:36: error: service `job`: `depends_on.db.condition`: unknown value \"service_helthy\"",
            "compose.yaml:19:14: error: service `job`: unknown key `contxt` in `build`",
            "compose.yaml:20:28: error: service `job`: unknown key `limit` in `deploy.resources`",
            "compose.yaml:22:11: error: volume `data`: unknown key `drivr`",
            "compose.yaml:23:1: error: unknown key `service`",
            "help: did you mean `image`?",
            "help: did you mean `db`?",
            "help: did you mean `service_healthy`?",
            "help: did you mean `services`?",
            "13 errors",
        ] {
            assert!(out.stderr.contains(line), "{words:?}: {line}\n{out}");
        }
        assert!(!out.stderr.contains("x-"), "{out}");
        assert!(out.last_line().contains("unknown key `imagee`"), "{out}");
    }
    assert!(!project.path("procfile.toml").exists() && !project.path(".devrun").exists(), "nothing was made");
}

/// A key that compose knows and devrun does not map is a line of the report.
#[test]
fn known_keys_without_a_counterpart_are_no_errors() {
    let project = Project::new();
    project.write(
        "compose.yaml",
        "name: mine\nx-a: &a { cap_add: [NET_ADMIN], x-note: 1 }\nservices:\n  web:\n    <<: *a\n    image: alpine\n    command: [sleep, 600]\n    \
         cgroup: host\n    gpus: all\n    use_api_socket: true\n    blkio_config: { weight: 10 }\n    extra_hosts: { a.test: [1.2.3.4] }\n    \
         networks: { back: { aliases: [w], gw_priority: 1 }, default: }\n    volumes:\n      - type: bind\n        source: .\n        target: /src\n        \
         bind: { create_host_path: true }\n      - logs:/logs\n    ulimits: { nproc: 5, nofile: { soft: 10000, hard: 20000 } }\n    \
         depends_on:\n      other: { condition: service_started, required: false }\n    restart: ${RESTART:-unless-stopped}\n    \
         ports: ['${WEB_PORT:-18080}:80', 9000, { target: 70, published: '7000-7001', protocol: udp }]\n    labels:\n    environment:\n      A: true\n\
         networks:\n  back: { ipam: { config: [{ subnet: 10.0.0.0/8 }] } }\nvolumes:\n  logs:\n",
    );
    let out = project.run(&["check"]).code(0);
    assert!(out.stderr.contains("not mapped") && !out.stderr.contains("error:"), "{out}");
}

/// The values of `.env` are judged as those of the file; what has no value yet is not.
#[test]
fn values_of_variables_are_judged() {
    let project = Project::new();
    project.write("compose.yaml", "services:\n  a: { image: alpine, command: sleep 1, restart: '${POLICY}', tty: '${LATER}' }\n");
    project.run(&["check"]).code(0);
    project.write(".env", "POLICY=allways\n");
    let out = project.run(&["check"]).code(2).says("compose.yaml:2:");
    assert!(out.stderr.contains("unknown value \"allways\"") && out.stderr.contains("did you mean `always`?"), "{out}");
}

/// What a variable, an environment or an anchor gives is filled in before it is judged, and may be a secret.
#[test]
fn an_error_shows_no_secret() {
    let project = Project::new();
    project.write(".env", "DB_PASSWORD=hunter2secret\n");
    for text in [
        "services:\n  a: { image: alpine, restart: '${DB_PASSWORD}', init: '${DB_PASSWORD}', ports: ['${DB_PASSWORD}:80'] }\n",
        "services:\n  a: { image: alpine, depends_on: ['${DB_PASSWORD}'], networks: ['${DB_PASSWORD}'], secrets: ['${DB_PASSWORD}'] }\n",
        "services:\n  a: { image: alpine, environment: { API_TOKEN: &t hunter2secret }, restart: *t }\n",
        "services:\n  a: { image: alpine, environment: [API_TOKEN=hunter2secret], restart: hunter2secret }\n",
    ] {
        project.write("compose.yaml", text);
        let out = project.run(&["check"]).code(2).says("••••");
        assert!(!out.stderr.contains("hunter2"), "{out}");
    }
    project.write("compose.yaml", &format!("services:\n  a: {{ image: alpine, restart: {} }}\n", "y".repeat(100_000)));
    assert!(project.run(&["check"]).code(2).stderr.len() < 4000);
}

/// A fault is shown where it was written: in an included file, or in the block that two services share.
#[test]
fn a_fault_is_shown_in_the_file_that_holds_it() {
    let project = Project::new();
    project.write("parts/db.yml", "x-common: &common\n  restrt: always\nservices:\n  db: { <<: *common, image: alpine }\n  db2: { <<: *common, image: alpine }\n");
    project.write("compose.yaml", "include: [parts/db.yml]\nservices:\n  a: { image: alpine, command: sleep 1 }\n");
    let out = project.run(&["check"]).code(2).says("parts/db.yml:2:3").says("1 error");
    assert!(out.stderr.contains("did you mean `restart`?"), "{out}");
}

/// What runs is stopped and shown whatever became of the file meanwhile.
#[test]
fn a_stack_whose_file_got_a_typo_can_be_stopped() {
    let project = Project::new();
    let text = "services:\n  a: { image: alpine, command: sleep 600 }\n";
    project.write("compose.yaml", text);
    project.run(&["up", "-d"]).code(0);
    project.write("compose.yaml", &text.replace("image", "imgae"));
    project.run(&["up", "-d"]).code(2).says("compose.yaml:2:8").says("the stack keeps running");
    project.run(&["ps"]).code(0);
    project.run(&["logs"]).code(0);
    project.run(&["down"]).code(0);
    project.nothing_left();
}

/// The whole report is for `check`, `import` and the first `up`; afterwards a line says where it is.
#[test]
fn what_was_not_mapped_is_shown_once() {
    let project = Project::new();
    let text = "services:\n  a: { image: alpine, command: sleep 600 }\n  gone: { image: acme/thing }\n";
    project.write("compose.yaml", text);
    let finding = "compose.yaml:3: not mapped: services.gone";
    let line = "`devrun import --explain SERVICE compose.yaml` lists every key";
    project.run(&["check"]).code(0).says(finding);
    let first = project.run(&["up", "-d"]).code(0).says(finding);
    assert!(!first.stderr.contains(line), "{first}");
    for words in [&["up", "-d"][..], &["restart"], &["build"]] {
        let out = project.run(words).code(0);
        assert!(!out.stderr.contains("not mapped: services"), "{words:?}: {out}");
        assert_eq!(out.stderr.matches(line).count(), 1, "{words:?}: {out}");
    }
    for words in [&["ps"][..], &["logs"], &["exec", "a", "true"], &["stop", "a"], &["ports"]] {
        let out = project.run(words);
        assert!(!out.stderr.contains("mapped"), "{words:?}: {out}");
    }
    project.run(&["check"]).code(0).says(finding);
    project.write("compose.yaml", &text.replace("acme/thing", "acme/other"));
    project.run(&["up", "-d"]).code(0).says("acme/other has no recipe");
    drop(project.run(&["down"]).code(0).says_not("mapped"));
    project.run(&["up", "-d"]).code(0).says(line);
    project.run(&["down"]).code(0);
    project.nothing_left();
}

/// What `check` refuses is said where the procfile is written.
#[test]
fn import_says_what_check_will_refuse() {
    let project = Project::new();
    project.write(
        "compose.yml",
        "services:\n  db:\n    image: postgres:16\n    environment: { POSTGRES_PASSWORD: \"${DB_PASSWORD:?}\" }\n    volumes: ['./gone:/docker-entrypoint-initdb.d']\n",
    );
    let out = project.run(&["import", "compose.yml"]).code(0);
    let check = project.run(&["check"]).code(2);
    let first = out.last_line();
    assert!(first.contains("procfile.toml is written, but cannot be used yet: procfile.toml:"), "{out}");
    assert!(first.contains("DB_PASSWORD") && check.last_line().contains("DB_PASSWORD"), "{out}\n{check}");
    assert!(!out.stderr.contains("`devrun up` starts it"), "{out}");
    project.write(".env", "DB_PASSWORD=x\n");
    let out = project.run(&["import", "compose.yml", "--yes"]).code(0);
    assert!(out.last_line().contains("cannot be used yet") && out.last_line().contains("gone"), "{out}");
    project.write("gone/a.sql", "SELECT 1;\n");
    project.run(&["import", "compose.yml", "--yes"]).code(0).says("procfile.toml is written: `devrun up` starts it");
}
