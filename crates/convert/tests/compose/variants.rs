//! Other spellings of what compose files often hold: each test writes a small project and looks at values and at the report.

use std::path::Path;

use devrun_convert::{ForeignFormat, KeyOutcome};

use crate::imports::{has, import, lacks, project, says};

#[test]
fn a_worker_of_the_same_image_has_no_port() {
    let yaml = "services:\n  web: { build: ., ports: ['8001:8000'] }\n  worker: { build: ., command: celery -A app worker }\n  api: { build: ., command: gunicorn -b 0.0.0.0:8000 app }\n  asked: { build: ., command: run me }\n  proxy: { image: nginx, volumes: ['./default.conf:/etc/nginx/conf.d/default.conf'] }\n";
    let converted = import(&[
        ("compose.yaml", yaml),
        ("Dockerfile", "FROM python:3\nEXPOSE 8000\nCMD uvicorn app --port 8000\n"),
        ("default.conf", "server { listen 80; location / { proxy_pass http://asked:9000; } }\n"),
    ]);
    has(&converted, "services/web/port", 8001);
    lacks(&converted, "services/worker/port");
    has(&converted, "services/api/port", 8000);
    // A web server asks for it in its own configuration.
    has(&converted, "services/asked/port", 9000);
}

#[test]
fn variables_with_the_own_port_follow_it() {
    let yaml = "services:\n  api:\n    image: python:3\n    command: python3 app.py\n    ports: ['8001:8000', '9001:9000']\n    environment: { ADDR: ':8000', SERVER_PORT: 8000, METRICS_PORT: '9000', GRPC_ADDR: '0.0.0.0:9000', BACKEND_PORT: 8000, SIZE: 8000, DISPLAY: ':1000' }\n    env_file: api.env\n  backend: { image: 'python:3', command: x }\n  same: { image: 'python:3', command: 'x --addr :7000', ports: ['7000:7000'], environment: { HTTP_PORT: 7000 } }\n";
    let converted = import(&[("compose.yaml", yaml), ("api.env", "HTTP_PORT=8000\nPORT=8000\nOTHER=1\n")]);
    has(&converted, "services/api/env/ADDR", "127.0.0.1:${api.port}");
    has(&converted, "services/api/env/SERVER_PORT", "${api.port}");
    has(&converted, "services/api/env/METRICS_PORT", "${api.ports.p9000}");
    has(&converted, "services/api/env/GRPC_ADDR", "127.0.0.1:${api.ports.p9000}");
    has(&converted, "services/api/env/HTTP_PORT", "${api.port}");
    // That of another service, and what is no port.
    has(&converted, "services/api/env/BACKEND_PORT", "8000");
    has(&converted, "services/api/env/SIZE", "8000");
    has(&converted, "services/api/env/DISPLAY", ":1000");
    lacks(&converted, "services/api/env/PORT");
    has(&converted, "services/same/env/HTTP_PORT", "7000");
    has(&converted, "services/same/run", "x --addr 127.0.0.1:7000");
}

#[test]
fn scripts_that_name_services_are_named() {
    let yaml = "services:\n  web: { build: ., command: python3 app.py }\n  job: { image: 'python:3', command: sh ./bin/wait.sh }\n  db: { image: 'postgres:15', environment: { POSTGRES_PASSWORD: x } }\n";
    let converted = import(&[
        ("compose.yaml", yaml),
        ("Dockerfile", "FROM python:3\nWORKDIR /app\nCOPY . .\nENTRYPOINT [\"/app/docker/entrypoint.sh\"]\nCMD [\"x\"]\n"),
        ("docker/entrypoint.sh", "#!/bin/sh\n# db:5432\nuntil nc -z db 5432; do sleep 1; done\nexec \"$@\"\n"),
        ("bin/wait.sh", "#!/bin/sh\necho db\npsql -h db -c x\ncurl http://db:5432/\n"),
    ]);
    has(&converted, "services/web/run", "sh docker/entrypoint.sh python3 app.py");
    says(
        &converted,
        KeyOutcome::NotMapped,
        "docker/entrypoint.sh:3: not mapped: services.web.command: the script names the service `db`",
    );
    says(&converted, KeyOutcome::NotMapped, "bin/wait.sh:3: not mapped: services.job.command");
    says(&converted, KeyOutcome::NotMapped, "bin/wait.sh:4: not mapped: services.job.command");
    let lines = converted.report.render(&[KeyOutcome::NotMapped]);
    assert!(!lines.contains("entrypoint.sh:2") && !lines.contains("wait.sh:2"), "{lines}");
}

#[test]
fn the_env_file_of_a_mounted_project_is_read_by_its_framework() {
    let yaml = "services:\n  app: { image: 'php:8', command: php artisan serve, volumes: ['.:/var/www/html'], environment: { REDIS_HOST: cache } }\n  other: { image: 'python:3', command: x }\n  mysql: { image: 'mysql:8', environment: { MYSQL_ROOT_PASSWORD: x }, ports: ['3307:3306'] }\n  cache: { image: redis }\n";
    let env = "DB_HOST=mysql\nDB_PORT=3306\nREDIS_HOST=cache\nAPP_NAME=mysql\nAPP_URL=http://localhost\n";
    let converted = import(&[("compose.yaml", yaml), (".env", env)]);
    has(&converted, "services/app/env/DB_HOST", "${mysql.host}");
    has(&converted, "services/app/env/DB_PORT", "${mysql.port}");
    has(&converted, "services/app/env/REDIS_HOST", "${cache.host}");
    lacks(&converted, "services/app/env/APP_NAME");
    lacks(&converted, "services/other/env");
}

#[test]
fn connection_strings_name_their_server() {
    let yaml = "services:\n  app:\n    image: python:3\n    command: x\n    environment:\n      ConnectionStrings__Default: Host=db;Port=5432;Database=shop;Username=u;Password=p\n      DSN: host=db user=u password=p dbname=shop sslmode=disable\n  db: { image: 'postgres:15', environment: { POSTGRES_PASSWORD: p }, ports: ['5439:5432'] }\n";
    let converted = import(&[("compose.yaml", yaml)]);
    let net = "Host=${db.host};Port=${db.port};Database=shop;Username=u;Password=p";
    has(&converted, "services/app/env/ConnectionStrings__Default", net);
    has(&converted, "services/app/env/DSN", "host=${db.host} port=${db.port} user=u password=p dbname=shop sslmode=disable");
}

#[test]
fn redis_is_configured_by_its_variables_and_its_shell() {
    let yaml = "services:\n  stack: { image: redis/redis-stack, environment: { REDIS_ARGS: '--requirepass pw --maxmemory 1gb' } }\n  shell:\n    image: redis:7\n    command: sh -c 'redis-server --requirepass \"$${PW}\" --port 7777'\n    environment: { PW: abc }\n    ports: ['7778:7777']\n  dotenv:\n    image: redis:7\n    command: sh -c \"redis-server --requirepass $$REDIS_PASSWORD\"\n    environment: { REDIS_PASSWORD: '${REDIS_PASSWORD}' }\n  app: { image: 'python:3', command: x, environment: { A: 'redis://:abc@shell:7777/0' } }\n";
    let converted = import(&[("compose.yaml", yaml), (".env", "REDIS_PASSWORD=r\n")]);
    has(&converted, "services/stack/password", "pw");
    has(&converted, "services/stack/set/maxmemory", "1gb");
    has(&converted, "services/shell/password", "abc");
    has(&converted, "services/shell/port", 7778);
    has(&converted, "services/app/env/A", "redis://:abc@${shell.addr}/0");
    has(&converted, "services/dotenv/password", "${REDIS_PASSWORD}");
    says(&converted, KeyOutcome::Dropped, "services.shell.environment.PW: its value stands where the command names it");
    let lines = converted.report.render(&[KeyOutcome::NotMapped]);
    assert!(!lines.contains("PW") && !lines.contains("7777"), "{lines}");
}

#[test]
fn arguments_of_initdb_become_keys() {
    let yaml = "services:\n  pg:\n    image: postgres:15\n    environment: { POSTGRES_PASSWORD: x, POSTGRES_INITDB_ARGS: '--encoding=LATIN1 --locale de_DE.ISO-8859-1' }\n";
    let converted = import(&[("compose.yaml", yaml)]);
    has(&converted, "services/pg/encoding", "LATIN1");
    has(&converted, "services/pg/locale", "de_DE.ISO-8859-1");
    says(&converted, KeyOutcome::Mapped, "POSTGRES_INITDB_ARGS: encoding = \"LATIN1\"");
}

#[test]
fn mounted_files_of_options_become_settings() {
    let yaml = "services:\n  pg:\n    image: postgres:15\n    command: -c config_file=/etc/postgresql/postgresql.conf -c max_connections=9 -p 5433\n    environment: { POSTGRES_PASSWORD: x, POSTGRES_INITDB_ARGS: '--data-checksums -E UTF8 --locale=C --auth-host=md5' }\n    ports: ['5440:5433']\n    volumes: ['./pg.conf:/etc/postgresql/postgresql.conf:ro', './pg_hba.conf:/etc/postgresql/pg_hba.conf']\n  my: { image: 'mariadb:10', environment: { MYSQL_ROOT_PASSWORD: x, MYSQL_ROOT_HOST: '%' }, volumes: ['./my.cnf:/etc/mysql/conf.d/my.cnf'] }\n";
    let converted = import(&[
        ("compose.yaml", yaml),
        ("pg.conf", "max_connections = 150\nshared_buffers = '128MB' # c\nlisten_addresses = '*'\nssl = on\n"),
        ("pg_hba.conf", "host all all all md5\n"),
        ("my.cnf", "[mysqld]\nmax_connections = 7\n"),
    ]);
    // The command line wins over the file.
    has(&converted, "services/pg/set/max_connections", "9");
    has(&converted, "services/pg/set/shared_buffers", "128MB");
    lacks(&converted, "services/pg/set/listen_addresses");
    says(&converted, KeyOutcome::Mapped, "services.pg.command: config_file: its lines stand in `set`");
    has(&converted, "services/pg/port", 5440);
    says(&converted, KeyOutcome::Dropped, "POSTGRES_INITDB_ARGS: -E: the recipe makes databases in UTF-8");
    says(&converted, KeyOutcome::NotMapped, "initdb its own arguments: --data-checksums is left out");
    says(&converted, KeyOutcome::NotMapped, "pg.conf:4: not mapped: services.pg.volumes: ssl = on is left out");
    says(&converted, KeyOutcome::NotMapped, "pg_hba.conf");
    has(&converted, "services/my/set/max_connections", "7");
    says(&converted, KeyOutcome::Dropped, "MYSQL_ROOT_HOST: root has a password here as well");
}

#[test]
fn logins_come_out_of_files_and_of_the_environment() {
    let yaml = "services:\n  db: { image: 'postgres:15', environment: { POSTGRES_USER_FILE: /run/secrets/user, POSTGRES_PASSWORD_FILE: /run/secrets/pw }, secrets: [user, pw] }\n  g: { image: grafana/grafana, environment: { GF_SECURITY_ADMIN_PASSWORD__FILE: /run/secrets/gf }, secrets: [gf] }\nsecrets: { user: { environment: DB_USER }, pw: { environment: DB_PW }, gf: { file: ./gf.txt } }\n";
    let converted = import(&[("compose.yaml", yaml), (".env", "DB_USER=u\nDB_PW=p\n"), ("gf.txt", "geheim")]);
    has(&converted, "services/db/user", "${DB_USER}");
    has(&converted, "services/db/password", "${DB_PW}");
    has(&converted, "services/g/password", "${secret.gf}");
    lacks(&converted, "services/g/env");
}

#[test]
fn what_is_extended_keeps_its_dependencies() {
    let yaml = "services:\n  base: { image: 'python:3', command: x, depends_on: { db: { condition: service_healthy } }, profiles: [a] }\n  web: { extends: base, command: y, depends_on: [cache] }\n  db: { image: 'postgres:15', environment: { POSTGRES_PASSWORD: x } }\n  cache: { image: redis }\n";
    let converted = import(&[("compose.yaml", yaml)]);
    has(&converted, "services/web/depends_on", vec!["db:healthy", "cache:started"]);
    has(&converted, "services/web/profiles", vec!["a"]);
}

#[test]
fn included_files_are_read_with_their_own_env_file() {
    let yaml = "include:\n  - infra/compose.yaml\n  - { path: [more/compose.yaml], env_file: [more/dev.env] }\nservices:\n  web: { image: 'python:3', command: x }\n";
    let converted = import(&[
        ("compose.yaml", yaml),
        (".env", "TAG=9\nPW=own\n"),
        ("infra/compose.yaml", "services:\n  db: { image: 'postgres:${V:?}', environment: { POSTGRES_PASSWORD: '${PW}' } }\n"),
        ("infra/.env", "V=15\nPW=theirs\n"),
        ("more/compose.yaml", "services:\n  cache: { image: 'redis:${RV}' }\n"),
        ("more/dev.env", "RV=7\n"),
    ]);
    has(&converted, "services/db/use", "postgres@15");
    has(&converted, "services/cache/use", "redis@7");
    // The project's own wins.
    has(&converted, "project/env_file", vec!["infra/.env", "more/dev.env", ".env"]);
}

#[test]
fn dockerfiles_with_arguments_and_plain_file_names() {
    let yaml = "services:\n  order: { build: { context: ., args: { SERVICE: order, UNUSED: 1 } }, ports: ['8090:8080'] }\n  web: { build: { context: ., dockerfile: web.Dockerfile }, command: rails s, volumes: ['.:/rails'] }\n  pg: { build: { context: ., dockerfile: pg.Dockerfile } }\n";
    let converted = import(&[
        ("compose.yaml", yaml),
        (
            "Dockerfile",
            "FROM golang:1 AS b\nARG SERVICE\nWORKDIR /src\nCOPY . .\nRUN go build -o /bin/app ./cmd/${SERVICE}\nFROM alpine\nARG MODE=dev\nENV APP_MODE=$MODE\nCOPY --from=b /bin/app /app\nEXPOSE 8080\nENTRYPOINT [\"/app\"]\n",
        ),
        (
            "web.Dockerfile",
            "FROM ruby:3\nWORKDIR /rails\nCOPY Gemfile Gemfile.lock ./\nRUN bundle install\nENTRYPOINT [\"/rails/bin/docker-entrypoint\"]\n",
        ),
        ("bin/docker-entrypoint", "#!/bin/bash -e\n./bin/rails db:prepare\nexec \"${@}\"\n"),
        (
            "pg.Dockerfile",
            "FROM postgres:15\nRUN apt-get update && apt-get install -y postgresql-15-cron && rm -rf /var/lib/apt/lists/*\n",
        ),
    ]);
    has(&converted, "services/order/build", "go build -o bin/app ./cmd/order");
    has(&converted, "services/order/env/APP_MODE", "dev");
    says(&converted, KeyOutcome::Mapped, "services.order.build.args: SERVICE: filled in");
    says(&converted, KeyOutcome::NotMapped, "services.order.build.args: UNUSED");
    has(&converted, "services/web/build", "bundle install");
    has(&converted, "services/web/run", "bash bin/docker-entrypoint rails s");
    says(&converted, KeyOutcome::NotMapped, "services.pg.build: its Dockerfile runs `apt-get install -y postgresql-15-cron`");
}

#[test]
fn variables_of_process_compose_are_filled_in() {
    let yaml = "version: '0.5'\nvars: { PORT: 9090, NAME: x }\nprocesses:\n  api:\n    command: 'serve {{.PORT}} {{ .NAME }}'\n    vars: { NAME: y }\n    readiness_probe: { http_get: { port: '{{.PORT}}', path: /h } }\n  other: { command: 'echo {{if .X}}a{{end}}' }\n";
    let converted = project("process-compose.yaml", &[("process-compose.yaml", yaml)]);
    has(&converted, "services/api/run", "serve 9090 y");
    has(&converted, "services/api/port", 9090);
    has(&converted, "services/api/ready/http", "/h");
    says(&converted, KeyOutcome::NotMapped, "processes.other: a {{template}}");
}

#[test]
fn processes_have_names_and_commands_that_a_procfile_takes() {
    let long = "x".repeat(64);
    let yaml = format!(
        "processes:\n  a b: {{ command: sleep 1 }}\n  _x: {{ command: sleep 2, depends_on: {{ mode: {{}} }} }}\n  {long}: {{ command: sleep 3 }}\n  mode: {{ command: sleep 4 }}\n  open:\n    command: echo 'x\n"
    );
    let converted = project("process-compose.yaml", &[("process-compose.yaml", &yaml)]);
    has(&converted, "services/a-b/run", "sleep 1");
    has(&converted, "services/p_x/depends_on", vec!["mode-service:started"]);
    has(&converted, &format!("services/{}/run", "x".repeat(60)), "sleep 3");
    has(&converted, "services/mode-service/run", "sleep 4");
    has(&converted, "services/open/run", vec!["bash", "-c", "echo 'x"]);
    says(&converted, KeyOutcome::Mapped, "process-compose.yaml:2: mapped: processes.a b: is called `a-b`");
    let open = "process-compose.yaml:7: not mapped: processes.open.command: a ' is never closed: correct it in `run`";
    says(&converted, KeyOutcome::NotMapped, open);
}

#[test]
fn two_names_that_would_become_one_are_refused() {
    for (format, file, text, said) in [
        (
            ForeignFormat::ProcessCompose,
            "process-compose.yaml",
            "processes:\n  a b: { command: sleep 1 }\n  a-b: { command: sleep 2 }\n",
            "process-compose.yaml:3:3: `a b` and `a-b` would both be called `a-b` in a procfile",
        ),
        (
            ForeignFormat::Compose,
            "compose.yaml",
            "services:\n  a.b: { image: 'node:20', command: npm start }\n  a-b: { image: 'node:20', command: npm start }\n",
            "compose.yaml:3:3: `a.b` and `a-b` would both be called `a-b` in a procfile",
        ),
        (
            ForeignFormat::Compose,
            "compose.yaml",
            "services:\n  a: { image: 'postgres:16', volumes: ['v.1:/var/lib/postgresql/data'] }\nvolumes:\n  v.1:\n  v-1:\n",
            "compose.yaml:5:3: `v.1` and `v-1` would both be called `v-1` in a procfile",
        ),
    ] {
        let root = Path::new("/work");
        let read = |path: &Path| (path == root.join(file)).then(|| text.to_owned());
        let failure = devrun_convert::import(format, &[root.join(file)], root, &read).unwrap_err();
        assert_eq!(failure.reason, said);
    }
}

#[test]
fn ports_and_addresses_out_of_variables_and_networks() {
    let yaml = "services:\n  api: { image: 'node:20', command: npm start, ports: ['${API_PORT:-3000}:${API_PORT:-3000}'], networks: { n: { ipv4_address: 172.28.0.10 } } }\n  moved: { image: 'node:20', command: npm start, environment: { PORT: '${IN}' }, ports: ['8000:${IN}'] }\n  web: { image: 'node:20', command: npm start, environment: { A: 'http://api:3000', B: 'http://172.28.0.10:3000', C: 'http://moved:4000', D: 'postgres://u:p@172.28.0.11/x', E: 172.28.0.11, F: 172.28.0.110 } }\n  db: { image: 'postgres:15', environment: { POSTGRES_PASSWORD: p }, ports: ['${DB_PORT:-5432}:5432'], networks: { n: { ipv4_address: 172.28.0.11 } } }\n  optional: { image: 'node:20', command: npm start, depends_on: { nowhere: { condition: service_started, required: false } } }\n";
    let converted = import(&[("compose.yaml", yaml), (".env", "IN=4000\n")]);
    has(&converted, "services/api/port", "${API_PORT:-3000}");
    has(&converted, "services/moved/port", 8000);
    lacks(&converted, "services/moved/env");
    has(&converted, "services/web/env/A", "http://${api.addr}");
    has(&converted, "services/web/env/B", "http://${api.addr}");
    has(&converted, "services/web/env/C", "http://${moved.addr}");
    has(&converted, "services/web/env/D", "postgres://u:p@${db.addr}/x");
    has(&converted, "services/web/env/E", "${db.host}");
    has(&converted, "services/web/env/F", "172.28.0.110");
    let lines = converted.report.render(&[KeyOutcome::NotMapped]);
    assert!(!lines.contains("services.api.ports") && !lines.contains("nowhere"), "{lines}");
    says(&converted, KeyOutcome::Dropped, "services.optional.depends_on: `nowhere` is not in this file, and need not be");
}

#[test]
fn health_checks_ask_the_port_of_this_machine() {
    let yaml = "services:\n  a: { image: 'node:20', command: node a.js, ports: ['3105:3000'], healthcheck: { test: [CMD, bash, -c, 'echo > /dev/tcp/localhost/3000'] } }\n  b: { image: 'node:20', command: node a.js, ports: ['3108:3000'], environment: { PORT: 3000 }, healthcheck: { test: 'curl -f http://localhost:$$PORT/h || exit 1' } }\n  c: { image: 'node:20', command: node a.js, ports: ['3112:3000'], healthcheck: { test: [CMD, curl, -fk, 'https://localhost:3000/'] } }\n  d: { image: 'node:20', command: node a.js, expose: [80] }\n";
    let converted = import(&[("compose.yaml", yaml)]);
    has(&converted, "services/a/ready/tcp", true);
    has(&converted, "services/b/ready/http", "/h");
    has(&converted, "services/c/ready/http", "https://localhost:${PORT}/");
    has(&converted, "services/d/port", "auto");
    assert_eq!(converted.report.render(&[KeyOutcome::NotMapped]), "");
}

#[test]
fn a_secret_that_only_the_program_names_is_listed() {
    let yaml = "services:\n  app: { image: 'python:3', command: x, environment: { PW_FILE: /run/secrets/pw }, secrets: [pw, other, { source: tok, target: /etc/tok }] }\nsecrets: { pw: { file: ./pw.txt }, other: { file: ./db/other.txt }, tok: { environment: TOK } }\n";
    let converted = import(&[("compose.yaml", yaml), ("pw.txt", "a"), ("db/other.txt", "b"), (".env", "TOK=t\n")]);
    says(
        &converted,
        KeyOutcome::NotMapped,
        "other: no variable and no command names /run/secrets/other, which the program reads by itself: it is db/other.txt here",
    );
    says(&converted, KeyOutcome::NotMapped, "tok: no variable and no command names /etc/tok");
    says(&converted, KeyOutcome::Mapped, "services.app.secrets: pw: a file that the program finds");
}

#[test]
fn a_client_of_a_database_is_no_second_database() {
    let yaml = "services:\n  db: { image: 'postgres:15', environment: { POSTGRES_PASSWORD: x }, ports: ['5439:5432'] }\n  client: { image: 'postgres:15', environment: { PGPASSWORD: x }, command: 'sh -c \"psql -h db -U postgres -c x\"', depends_on: [db] }\n";
    let converted = import(&[("compose.yaml", yaml)]);
    lacks(&converted, "services/client/use");
    has(&converted, "services/client/run", vec!["sh", "-c", "psql -h ${db.host} -p ${db.port} -U postgres -c x"]);
}
