//! What a compose file means, not only which keys it has: each test writes a small project and looks at values.

use std::path::{Path, PathBuf};

use devrun_convert::{ForeignFormat, KeyOutcome, Surroundings};

use crate::imports::{compose, has, import, import_in, lacks, says, value};

#[test]
fn hosts_in_env_files_become_references() {
    let yaml = "services:\n  db: { image: 'postgres:15', environment: { POSTGRES_PASSWORD: x } }\n  app:\n    image: python:3\n    command: python3 app.py\n    env_file: [app.env]\n    environment:\n      B_HOST: ${DB_HOST}\n      URL: postgres://u:p@${DB_HOST}:${DB_PORT}/x\n      C_HOST: $DB_HOST\n      KEPT: ${LOG_LEVEL}\n";
    let converted = import(&[
        ("compose.yaml", yaml),
        (".env", "DB_HOST=db\nDB_PORT=5432\nLOG_LEVEL=info\n"),
        (
            "app.env",
            "# c\nDB_HOST=db\nDATABASE_URL=postgres://postgres:x@db:5432/postgres\nDB_PORT=5432\nPLAIN=db\nBIND=0.0.0.0:80\nLITERAL='$x'\n",
        ),
    ]);
    has(&converted, "services/app/env/B_HOST", "${db.host}");
    has(&converted, "services/app/env/C_HOST", "${db.host}");
    has(&converted, "services/app/env/URL", "postgres://u:p@${db.addr}/x");
    has(&converted, "services/app/env/KEPT", "${LOG_LEVEL}");
    has(&converted, "services/app/env/DB_HOST", "${db.host}");
    has(&converted, "services/app/env/DB_PORT", "${db.port}");
    has(&converted, "services/app/env/DATABASE_URL", "postgres://postgres:x@${db.addr}/postgres");
    has(&converted, "services/app/env/BIND", "127.0.0.1:80");
    // What means the same here stays in its file.
    lacks(&converted, "services/app/env/PLAIN");
    lacks(&converted, "services/app/env/LITERAL");
    says(&converted, KeyOutcome::Mapped, "app.env:2: mapped: services.app.env_file.DB_HOST");
}

#[test]
fn values_of_the_project_win_over_defaults() {
    let yaml = "services:\n  db: { image: 'postgres:${V:-16}', restart: '${POLICY:-always}', environment: { POSTGRES_PASSWORD: x } }\n  c: { image: '${REG}/redis:${RV:-7}' }\n  web: { image: python, command: x, restart: '${POLICY:-always}', scale: '${N:-3}', cpus: '${CPUS:-2}', mem_limit: '${MEM:-0}', environment: { L: '${LEVEL:-info}' } }\n";
    let env = "V=14\nREG=docker.io/library\nexport RV=6\nPOLICY=no\nN=1\nCPUS=1\nLEVEL=debug\n";
    let converted = import(&[("compose.yaml", yaml), (".env", env)]);
    has(&converted, "services/db/use", "postgres@14");
    has(&converted, "services/c/use", "redis@6");
    has(&converted, "services/web/limits/cpu", 1.0);
    for path in ["services/db/restart", "services/web/restart", "services/web/replicas", "services/web/limits/memory"] {
        lacks(&converted, path);
    }
    has(&converted, "services/web/env/L", "${LEVEL:-info}");
    let around = Surroundings { shell: [("V".to_owned(), "13".to_owned())].into(), ..Surroundings::default() };
    has(&import_in("compose.yaml", &[("compose.yaml", yaml), (".env", env)], &around), "services/db/use", "postgres@13");
}

#[test]
fn the_variables_of_compose_itself_count() {
    let yaml = "name: other\nservices:\n  a: { image: python, command: x, profiles: [web] }\n  b: { image: python, command: x, profiles: [other] }\n";
    let converted = import(&[("compose.yaml", yaml), (".env", "COMPOSE_PROJECT_NAME=Hello\nCOMPOSE_PROFILES=web, x\n")]);
    has(&converted, "project/name", "hello");
    lacks(&converted, "services/a/profiles");
    has(&converted, "services/b/profiles", vec!["other"]);
    let read = |path: &Path| (path == Path::new("/p/.env")).then(|| "COMPOSE_FILE=a.yml:sub/b.yml\n".to_owned());
    let files = devrun_convert::compose_files(Path::new("/p"), &read, &Surroundings::default());
    assert_eq!(files, Some(vec![PathBuf::from("/p/a.yml"), PathBuf::from("/p/sub/b.yml")]));
}

#[test]
fn a_port_is_a_port() {
    let yaml = "services:\n  node: { image: 'node:20', command: npm test, labels: ['x=node:99'], container_name: 'node' }\n  a: { image: python, command: x 8000, ports: ['${A:-127.0.0.1:8000}:8000'] }\n  b: { image: python, command: x, ports: ['${B:-8001}:8001'] }\n  c: { image: python, command: x, ports: ['22090-22095:90'] }\n";
    let converted = import(&[("compose.yaml", yaml), (".env", "export B=127.0.0.1:22450\n")]);
    lacks(&converted, "services/node/port");
    has(&converted, "services/a/port", 8000);
    has(&converted, "services/b/port", 22450);
    has(&converted, "services/c/port", 22090);
}

#[test]
fn addresses_of_the_machine_and_of_all_interfaces() {
    let yaml = "services:\n  app:\n    image: python\n    command: [app, --api, 'http://host.docker.internal:1', --bind, '[::]:8000', -c, 'x --bind 0.0.0.0 80']\n    environment:\n      A: http://host.docker.internal:1\n      B: gw.test\n      HOST: 0.0.0.0\n      LISTEN: tcp://0.0.0.0:9000\n      HOSTNAME: '::'\n      ALLOWED_HOSTS: '*'\n      NET: 10.0.0.0/8\n    extra_hosts: ['host.docker.internal:host-gateway', 'gw.test=host-gateway', 'api.local:10.0.0.5']\n  built:\n    build: { context: ., dockerfile_inline: \"FROM python\\nENV HOST=0.0.0.0 X=y\\nCMD [\\\"app\\\"]\\n\" }\n";
    let converted = compose(yaml);
    let run = vec!["app", "--api", "http://127.0.0.1:1", "--bind", "127.0.0.1:8000", "-c", "x --bind 127.0.0.1 80"];
    has(&converted, "services/app/run", run);
    for (name, expected) in [
        ("A", "http://127.0.0.1:1"),
        ("B", "127.0.0.1"),
        ("HOST", "127.0.0.1"),
        ("LISTEN", "tcp://127.0.0.1:9000"),
        ("HOSTNAME", "127.0.0.1"),
        ("ALLOWED_HOSTS", "*"),
        ("NET", "10.0.0.0/8"),
    ] {
        has(&converted, &format!("services/app/env/{name}"), expected);
    }
    has(&converted, "services/built/env/HOST", "127.0.0.1");
    says(&converted, KeyOutcome::NotMapped, "api.local → 10.0.0.5");
}

#[test]
fn passwords_come_out_of_their_files() {
    let yaml = "services:\n  db: { image: 'postgres:15', environment: { POSTGRES_PASSWORD_FILE: /run/secrets/pw, POSTGRES_USER_FILE: /run/secrets/name }, secrets: [pw, name] }\n  mdb: { image: 'mariadb:10', environment: { MYSQL_ROOT_PASSWORD_FILE: /run/secrets/pw }, secrets: [pw] }\n  v: { image: 'mariadb:10', environment: { MARIADB_PASSWORD_FILE: /conf/v.txt, MARIADB_USER: u }, volumes: ['./conf:/conf'] }\n  e: { image: 'postgres:15', environment: { POSTGRES_PASSWORD_FILE: /run/secrets/env }, secrets: [env] }\nsecrets:\n  pw: { file: ./pw.txt }\n  name: { file: ./name.txt }\n  env: { environment: PG_PW }\n";
    let converted = import(&[("compose.yaml", yaml), ("pw.txt", "s3cret\n"), ("name.txt", "anna\n"), ("conf/v.txt", "v\n")]);
    has(&converted, "secrets/files/pw", "pw.txt");
    has(&converted, "secrets/files/v", "conf/v.txt");
    has(&converted, "services/db/password", "${secret.pw}");
    has(&converted, "services/db/user", "anna");
    has(&converted, "services/mdb/user", "root");
    has(&converted, "services/mdb/password", "${secret.pw}");
    has(&converted, "services/v/password", "${secret.v}");
    has(&converted, "services/e/password", "${PG_PW}");
    lacks(&converted, "secrets/generate");
    assert!(!converted.text.contains("s3cret"), "{}", converted.text);
}

#[test]
fn logins_are_those_that_clients_use() {
    let yaml = "services:\n  mq: { image: 'rabbitmq:3' }\n  s3: { image: minio/minio, command: server /data }\n  graf: { image: grafana/grafana }\n  nats: { image: 'nats:2' }\n  meili: { image: getmeili/meilisearch }\n  mdb: { image: 'mysql:8', environment: { MYSQL_ALLOW_EMPTY_PASSWORD: 'yes', MYSQL_DATABASE: t } }\n  pdb: { image: 'postgres:15', environment: { POSTGRES_HOST_AUTH_METHOD: trust } }\n  root: { image: 'mariadb:10', environment: { MARIADB_ROOT_PASSWORD: r, MARIADB_USER: u, MARIADB_PASSWORD: p } }\n  app:\n    image: python\n    command: x\n    environment: { A: 'mysql://root@mdb:3306/t', B: 'postgres://postgres@pdb/postgres', C: 'postgres://u:p@pdb/x', DB_HOST: pdb, DB_PASSWORD: '' }\n";
    let converted = compose(yaml);
    for (service, user, password) in [("mq", "guest", "guest"), ("s3", "minioadmin", "minioadmin"), ("graf", "admin", "admin")] {
        has(&converted, &format!("services/{service}/user"), user);
        has(&converted, &format!("services/{service}/password"), password);
    }
    let nats =
        value(&converted, "services/nats/files/nats.conf").and_then(|text| text.as_str().map(str::to_owned)).unwrap_or_default();
    assert!(nats.contains("${nats.host}:${nats.port}") && !nats.contains("authorization"), "{nats}");
    says(&converted, KeyOutcome::NotMapped, "services.meili.image: the image wants no key");
    has(&converted, "services/mdb/user", "root");
    has(&converted, "services/app/env/A", "mysql://root:${mdb.password}@${mdb.addr}/t");
    has(&converted, "services/app/env/B", "postgres://postgres:${pdb.password}@${pdb.addr}/postgres");
    has(&converted, "services/app/env/C", "postgres://u:p@${pdb.addr}/x");
    has(&converted, "services/app/env/DB_PASSWORD", "${pdb.password}");
    says(&converted, KeyOutcome::NotMapped, "MYSQL_ALLOW_EMPTY_PASSWORD: devrun always sets a password: give clients ${mdb.url}");
    has(&converted, "services/root/user", "u");
    has(&converted, "services/root/set/root_password", "r");
    // A login that the file gives is kept.
    let given = compose(
        "services:\n  mq: { image: 'rabbitmq:3', environment: { RABBITMQ_DEFAULT_USER: u, RABBITMQ_DEFAULT_PASS: p } }\n",
    );
    has(&given, "services/mq/user", "u");
    has(&given, "services/mq/password", "p");
}

#[test]
fn remapped_ports_are_seen_by_clients_and_probes() {
    let yaml = "services:\n  db: { image: 'postgres:15', environment: { POSTGRES_PASSWORD: x }, ports: ['22433:5432', '22434:5432', '10.0.0.1:22435:5432'] }\n  c: { image: 'postgres:15', command: [psql, -h, db, -U, postgres], environment: { DB_HOST: db } }\n  s: { image: alpine, command: sh -c 'pg_dump -h db -p 5432 x && nc -z db 5432' }\n  e: { image: alpine, command: x, environment: { DB_HOST: db, DB_PORT: 5432 } }\n  web:\n    image: python\n    command: python3 -m http.server 8080\n    ports: ['22080:8080', '22081:9090']\n    healthcheck: { test: ['CMD-SHELL', 'curl -f http://localhost:8080/ | grep x && curl http://127.0.0.1:9090/'] }\n";
    let converted = compose(yaml);
    has(&converted, "services/c/run", "psql -h ${db.host} -p ${db.port} -U postgres");
    has(&converted, "services/c/env/DB_PORT", "${db.port}");
    says(&converted, KeyOutcome::NotMapped, "`db` listens on 22433 here, not on 5432");
    has(&converted, "services/s/run", vec!["sh", "-c", "pg_dump -h ${db.host} -p ${db.port} x && nc -z ${db.host} ${db.port}"]);
    has(&converted, "services/e/env/DB_PORT", "${db.port}");
    has(&converted, "services/web/run", "python3 -m http.server ${PORT}");
    let probe = "curl -f http://localhost:${PORT}/ | grep x && curl http://127.0.0.1:${PORT_P9090}/";
    has(&converted, "services/web/ready/cmd", vec!["sh", "-c", probe]);
    says(&converted, KeyOutcome::NotMapped, "devrun opens one port for 5432: 22434 is not served");
    says(&converted, KeyOutcome::NotMapped, "10.0.0.1: on loopback here");
    assert!(!converted.text.contains("here it must listen"), "{}", converted.text);
}

#[test]
fn helpers_of_ollama_become_tasks() {
    let yaml = "services:\n  ollama: { image: ollama/ollama }\n  pull: { image: ollama/ollama, entrypoint: /bin/sh, command: ['-c', 'sleep 3; ollama pull llama3.2; ollama pull nomic-embed-text'], depends_on: [ollama] }\n";
    let converted = compose(yaml);
    has(&converted, "tasks/pull/models", vec!["llama3.2", "nomic-embed-text"]);
    has(&converted, "tasks/pull/on", "ollama");
    lacks(&converted, "services/pull");
}

#[test]
fn variables_that_only_an_entrypoint_reads() {
    let yaml = "services:\n  s3: { image: 'bitnami/minio:2024', environment: { MINIO_ROOT_USER: u, MINIO_ROOT_PASSWORD: pw123456, MINIO_DEFAULT_BUCKETS: 'a:download,b' } }\n  r: { image: 'bitnami/redis:7', environment: { REDIS_DISABLE_COMMANDS: FLUSHDB, REDIS_AOF_ENABLED: 'no', TZ: UTC } }\n  p: { image: 'bitnami/postgresql:15', environment: { POSTGRESQL_PASSWORD: x, POSTGRESQL_MAX_CONNECTIONS: '300' }, volumes: ['./z.sql:/docker-entrypoint-initdb.d/9.sql', './a.sql:/docker-entrypoint-initdb.d/1.sql'] }\n  q: { image: 'postgres:16', environment: { POSTGRES_PASSWORD: x }, volumes: ['./z.sql:/docker-entrypoint-initdb.d/1.sql', './a.sql:/docker-entrypoint-initdb.d/9.sql'] }\n  n: { image: 'neo4j:5', environment: { NEO4J_AUTH: neo4j/testtest, NEO4J_PLUGINS: '[\"apoc\"]' } }\n";
    let converted = compose(yaml);
    let buckets = value(&converted, "tasks/s3-buckets/buckets").map(|value| value.to_string());
    assert_eq!(buckets.as_deref(), Some("[{ anonymous = \"download\", name = \"a\" }, \"b\"]"));
    has(&converted, "services/r/set/appendonly", "no");
    has(&converted, "services/r/env/TZ", "UTC");
    has(&converted, "services/p/set/max_connections", "300");
    says(
        &converted,
        KeyOutcome::NotMapped,
        "services.q.volumes: init: files run in the order of their names here, and in the container it was z.sql, a.sql",
    );
    assert_eq!(converted.report.render(&[KeyOutcome::NotMapped]).matches("in the order of their names").count(), 1);
    for lost in ["REDIS_DISABLE_COMMANDS", "NEO4J_PLUGINS"] {
        says(&converted, KeyOutcome::NotMapped, &format!("environment.{lost}: only the image's start script reads it"));
        assert!(!converted.text.contains(&format!("{lost} =")), "{}", converted.text);
    }
}

#[test]
fn mounts_and_paths() {
    let yaml = "services:\n  web: { image: python, working_dir: /srv, command: [gunicorn, -c, /etc/g.py, '--chdir=/app/src', /app/log.ini], volumes: ['./app:/app'] }\n  imp: { image: n8nio/n8n, entrypoint: /bin/sh, command: ['-c', 'n8n import --input=/demo/w'], volumes: ['./n8n:/demo'] }\n  v: { image: ruby, command: cat /x/y, volumes: ['${V:-./public:/x}'] }\n  s: { image: ruby, command: ['sh', '-c', 'cd /w; /w/go.sh /w/a'], volumes: ['./:/w'] }\n";
    let converted = compose(yaml);
    has(&converted, "services/web/run", "gunicorn -c /etc/g.py --chdir=app/src app/log.ini");
    says(&converted, KeyOutcome::NotMapped, "services.web.command: /etc/g.py: no mount says");
    says(&converted, KeyOutcome::NotMapped, "services.web.working_dir: /srv: no mount maps it");
    has(&converted, "services/imp/run", vec!["/bin/sh", "-c", "n8n import --input=n8n/w"]);
    has(&converted, "services/v/run", "cat public/y");
    has(&converted, "services/s/run", vec!["sh", "-c", "cd .; ./go.sh ./a"]);
    says(&converted, KeyOutcome::Dropped, "what the container knew as /x is public");
}

#[test]
fn several_documents_and_many_files() {
    let converted = compose(
        "services:\n  a: { image: python, command: a }\n---\n# two\nservices:\n  b: { image: python, command: b }\n  a: { command: c }\n...\n",
    );
    has(&converted, "services/a/run", "c");
    has(&converted, "services/b/run", "b");
    says(&converted, KeyOutcome::Mapped, "compose.yaml:6: mapped: services.b.image");
    let names: Vec<String> = (0..300).map(|number| format!("s{number}.yml")).collect();
    let main = format!(
        "include:\n{}services: {{ a: {{ image: python, command: a }} }}\n",
        names.iter().map(|name| format!("  - {name}\n")).collect::<String>()
    );
    let texts: Vec<String> =
        (0..300).map(|number| format!("services: {{ s{number}: {{ image: python, command: x }} }}\n")).collect();
    let mut files: Vec<(&str, &str)> = names.iter().map(String::as_str).zip(texts.iter().map(String::as_str)).collect();
    files.push(("compose.yaml", &main));
    assert_eq!(import(&files).services, 301);
}

#[test]
fn labels_that_traefik_reads() {
    let converted = compose(
        "services:\n  api:\n    image: python\n    command: x\n    labels:\n      - traefik.http.routers.api.rule=Host(`a.localhost`) && PathPrefix(`/api`)\n      - traefik.http.services.api.loadbalancer.server.port=8000\n  b: { image: python, command: x, labels: { com.acme: x } }\n",
    );
    has(&converted, "services/api/port", 8000);
    says(&converted, KeyOutcome::NotMapped, "routes = { \"/api/*\" = \"api\" }");
    says(&converted, KeyOutcome::Dropped, "services.b.labels");
}

#[test]
fn a_left_out_service_keeps_all_of_its_keys() {
    let converted = compose(
        "services:\n  worker:\n    image: ghcr.io/acme/worker:1\n    user: root\n    volumes: ['/var/run/docker.sock:/var/run/docker.sock', './media:/media']\n    extra_hosts: ['a:1.2.3.4']\n    labels: { x: y }\n",
    );
    for line in ["# volumes: ./media → /media", "# user: root", "# extra_hosts: a → 1.2.3.4", "# labels: x=y"] {
        assert!(converted.text.contains(line), "{line}\n{}", converted.text);
    }
}

#[test]
fn zero_is_no_limit() {
    let converted = compose(
        "services:\n  web: { image: python, command: x, mem_limit: 0, cpus: 0, deploy: { resources: { limits: { memory: '${M:-0}' } } } }\n",
    );
    lacks(&converted, "services/web/limits");
    says(&converted, KeyOutcome::Dropped, "0 means no limit");
}

#[test]
fn processes_are_limited_by_either_key() {
    let converted = compose(
        "services:\n  a: { image: python, command: x, pids_limit: 100 }\n  b: { image: python, command: x, pids_limit: 1, deploy: { resources: { limits: { pids: 50 } } } }\n  c: { image: python, command: x, pids_limit: -1 }\n  d: { image: python, command: x, pids_limit: many }\n",
    );
    has(&converted, "services/a/limits/pids", 100);
    has(&converted, "services/b/limits/pids", 50);
    lacks(&converted, "services/c/limits");
    lacks(&converted, "services/d/limits");
    says(&converted, KeyOutcome::Dropped, "0 and -1 mean no limit");
    says(&converted, KeyOutcome::NotMapped, "not a number of processes");
}

#[test]
fn configurations_are_handed_over() {
    let yaml = "services:\n  prom: { image: prom/prometheus, configs: [{ source: c, target: /etc/prometheus/prometheus.yml }] }\n  g: { image: grafana/grafana, volumes: ['./provisioning:/etc/grafana/provisioning'] }\n  db: { image: 'mysql:8', command: '--max_connections=33 --default-authentication-plugin=mysql_native_password', environment: { MYSQL_ROOT_PASSWORD: r }, volumes: ['./my.cnf:/etc/mysql/conf.d/my.cnf'] }\n  r: { image: 'redis:7', command: [redis-server, /etc/redis.conf], volumes: ['./redis.conf:/etc/redis.conf'] }\n  mq: { image: 'rabbitmq:3-management', ports: ['22462:5672', '22463:15672'] }\n  app: { image: python, command: x, configs: [{ source: d, target: /etc/app.ini }] }\nconfigs:\n  c: { content: \"scrape_configs: [{ static_configs: [{ targets: ['prom:9090', 'db:3306'] }] }]\\n\" }\n  d: { content: \"key=1\\n\" }\n";
    let fixtures =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures/compose").canonicalize().expect("the fixtures");
    let read = |path: &Path| match path.strip_prefix(&fixtures).ok()?.to_str()? {
        "compose.yaml" => Some(yaml.to_owned()),
        "my.cnf" => Some("[mysqld]\nmax_connections=44\nsql_mode=ANSI\n".to_owned()),
        "redis.conf" => Some("requirepass abc\nmaxmemory 64mb\nport 1\nbind 0.0.0.0\n".to_owned()),
        _ => std::fs::read_to_string(path).ok(),
    };
    let list = |folder: &Path| {
        let mut found: Vec<PathBuf> =
            std::fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path()).collect();
        found.sort();
        found
    };
    let around = Surroundings { list: Some(list), ..Surroundings::default() };
    let converted =
        devrun_convert::import_with(ForeignFormat::Compose, &[fixtures.join("compose.yaml")], &fixtures, &read, &around)
            .unwrap_or_else(|failure| panic!("{}", failure.reason));
    let text = |path: &str| value(&converted, path).and_then(|value| value.as_str().map(str::to_owned)).unwrap_or_default();
    let prometheus = text("services/prom/files/prometheus.yml");
    assert!(prometheus.contains("['${prom.addr}', '${db.addr}']"), "{prometheus}");
    assert!(
        converted.text.contains("\"provisioning/datasources/d.yml\"") && converted.text.contains("url: http://${prom.addr}"),
        "{}",
        converted.text
    );
    // The command line wins over a file.
    has(&converted, "services/db/set/max_connections", "33");
    has(&converted, "services/db/set/sql_mode", "ANSI");
    says(&converted, KeyOutcome::NotMapped, "default-authentication-plugin is an option of MySQL");
    has(&converted, "services/r/password", "abc");
    has(&converted, "services/r/set/maxmemory", "64mb");
    lacks(&converted, "services/r/set/port");
    has(&converted, "services/mq/ports/management", 22463);
    has(&converted, "services/mq/set/plugins", "rabbitmq_management");
    lacks(&converted, "services/mq/files");
    says(&converted, KeyOutcome::NotMapped, "d: the container had it as /etc/app.ini");
    assert!(converted.text.contains("#   key=1"), "{}", converted.text);
}

/// A small file can include, or extend, a large one any number of times.
#[test]
fn files_are_no_longer_read_once_they_are_too_large_together() {
    let large = format!("services:\n  base:\n    image: redis\nx-pad: \"{}\"\n", "x".repeat(1 << 20));
    let included = "include:\n".to_owned() + &"  - large.yaml\n".repeat(500);
    let extended: String = (0..500).map(|n| format!("  s{n}:\n    extends: {{ file: large.yaml, service: base }}\n")).collect();
    for (name, text) in [("include", included), ("extends", format!("services:\n{extended}"))] {
        let reads = std::cell::Cell::new(0);
        let read = |path: &Path| {
            reads.set(reads.get() + 1);
            Some(if path.ends_with("large.yaml") { large.clone() } else { text.clone() })
        };
        let path = [PathBuf::from("/p/compose.yaml")];
        let Err(failure) = devrun_convert::import(ForeignFormat::Compose, &path, Path::new("/p"), &read) else {
            panic!("{name}: it was read {} times", reads.get());
        };
        assert!(failure.reason.contains("the compose files that belong together are larger than 64 MiB"), "{failure:?}");
        assert!(failure.reason.starts_with("compose.yaml:") && failure.help.is_some(), "{failure:?}");
        assert!(reads.get() < 80, "{name}: {} reads", reads.get());
    }
}

#[test]
fn a_debugger_is_never_the_main_port() {
    let yaml = "services:\n  api:\n    build: api\n    ports: ['19229:9229', '10080:80']\n  web:\n    image: python:3\n    command: python -m debugpy --listen 0.0.0.0:7777 -m uvicorn main:app --host 0.0.0.0 --port 8000\n    ports: ['7777:7777', '9000:9000', '18000:8000']\n  jvm:\n    build: { context: ., dockerfile_inline: 'FROM debian' }\n    command: java -agentlib:jdwp=transport=dt_socket,server=y,suspend=n,address=*:5005 -jar app.jar\n    ports: ['15005:5005', '18081:8081']\n  absent:\n    image: acme/jvm\n    command: java -jar app.jar\n    ports: ['15006:5005', '16006:6006']\n  by_variable:\n    image: python:3\n    command: ./serve\n    environment: { PORT: '3001' }\n    ports: ['19090:9090', '13001:3001']\n  only:\n    image: node:22\n    command: node --inspect=0.0.0.0:9229 x.js\n    ports: ['29229:9229']\n";
    let dockerfile =
        "FROM node:22\nWORKDIR /app\nCOPY . .\nENV PORT=80\nCMD [\"node\", \"--inspect=0.0.0.0:9229\", \"server.js\"]\n";
    let converted = import(&[("compose.yaml", yaml), ("api/Dockerfile", dockerfile)]);
    has(&converted, "services/api/port", 10080);
    has(&converted, "services/api/ports/p9229", 19229);
    has(&converted, "services/api/run", "node --inspect=127.0.0.1:${PORT_P9229} server.js");
    lacks(&converted, "services/api/env");
    says(&converted, KeyOutcome::Mapped, "services.api.build: PORT=80 in its Dockerfile: `port` sets it");
    has(&converted, "services/web/port", 18000);
    has(&converted, "services/web/ports/p7777", 7777);
    has(&converted, "services/jvm/port", 18081);
    has(&converted, "services/jvm/ports/p5005", 15005);
    let comment = "# port  = 16006\n# ports = { p5005 = 15006 }\n";
    assert!(converted.text.contains(comment), "{}", converted.text);
    has(&converted, "services/by_variable/port", 13001);
    lacks(&converted, "services/by_variable/env/PORT");
    has(&converted, "services/only/port", 29229);
}

#[test]
fn the_port_variable_of_an_image_is_kept() {
    let yaml = "services:\n  api: { build: api }\n  worker: { build: api, command: node worker.js }\n";
    let dockerfile = "FROM node:22\nENV PORT=3000\nCMD [\"node\", \"server.js\"]\n";
    let converted = import(&[("compose.yaml", yaml), ("api/Dockerfile", dockerfile)]);
    has(&converted, "services/api/port", 3000);
    lacks(&converted, "services/worker/port");
    has(&converted, "services/worker/env/PORT", "3000");
}

#[test]
fn a_server_of_which_a_client_has_only_the_host_keeps_its_port() {
    let postgres = "{ image: 'postgres:16', environment: { POSTGRES_PASSWORD: x } }";
    let app = |environment: &str| {
        compose(&format!(
            "services:\n  db: {postgres}\n  app: {{ image: python, command: ./serve, environment: {{ {environment} }} }}\n"
        ))
    };
    let converted = app("DATABASE_HOST: db");
    has(&converted, "services/app/env/DATABASE_HOST", "${db.host}");
    has(&converted, "services/db/port", 5432);
    says(&converted, KeyOutcome::Mapped, "services.db.ports: port = 5432: `app` has only its host (DATABASE_HOST)");
    // What carries the port leaves the server free to move.
    for carries in
        ["DB_HOST: db, DB_PORT: 5432", "DB_HOST: db, URL: 'postgres://db:5432/x'", "URL: 'postgres://u:p@db/x'", "X: db"]
    {
        lacks(&app(carries), "services/db/port");
    }
    // A number under another name moves with nothing.
    has(&app("DB_HOST: db, POSTGRES_PORT: 5432"), "services/db/port", 5432);
    let command = "services:\n  db: { image: 'redis:7' }\n  app: { image: python, command: [redis-cli, -h, db, ping] }\n";
    has(&compose(command), "services/db/port", 6379);
    let two = "services:\n  one: { image: 'redis:7' }\n  two: { image: 'redis:7' }\n  app: { image: python, command: ./x, environment: { ONE_HOST: one, TWO_HOST: two } }\n";
    let converted = compose(two);
    has(&converted, "services/one/port", 6379);
    has(&converted, "services/two/port", "auto");
    says(&converted, KeyOutcome::NotMapped, "`app` has only its host (TWO_HOST) and asks at port 6379, which `one` has here");
}
