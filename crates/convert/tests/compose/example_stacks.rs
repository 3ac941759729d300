//! What stands in example stacks next to databases: proxies that route by labels, tools of containers, and servers of streams.

use devrun_convert::KeyOutcome;

use crate::imports::{has, import, says, value};

#[test]
fn traefik_by_labels_is_a_gateway() {
    let yaml = "services:\n  front:\n    image: traefik:3.1\n    command: --providers.docker --entrypoints.web.address=:80\n    ports: ['22090:80', '22091:8080']\n    volumes: ['/var/run/docker.sock:/var/run/docker.sock']\n  api:\n    image: python:3\n    command: python api.py\n    labels:\n      - traefik.enable=true\n      - traefik.http.routers.api.rule=Host(`shop.example`) && PathPrefix(`/api`)\n      - traefik.http.routers.api.middlewares=cut\n      - traefik.http.middlewares.cut.stripprefix.prefixes=/api\n      - traefik.http.services.api.loadbalancer.server.port=8000\n  page:\n    image: node:22\n    command: node page.js\n    labels:\n      traefik.http.routers.page.rule: Host(`shop.example`)\n  hidden:\n    image: node:22\n    command: node hidden.js\n    labels: { traefik.enable: 'false' }\n";
    let converted = import(&[("compose.yaml", yaml)]);
    has(&converted, &["services", "front", "use"], "gateway");
    has(&converted, &["services", "front", "port"], 22090);
    has(&converted, &["services", "front", "routes", "/"], "page");
    has(&converted, &["services", "front", "routes", "/api/*", "to"], "api");
    has(&converted, &["services", "front", "routes", "/api/*", "strip"], "/api");
    assert_eq!(value(&converted, &["services", "front", "routes", "hidden"]), None);
}

#[test]
fn a_proxy_that_does_more_than_route_is_left_out() {
    let service = "services:\n  front: { image: traefik, command: --providers.docker }\n  api:\n    image: python:3\n    command: api\n    labels:\n";
    let table = [
        ("      - traefik.http.routers.a.rule=Host(`a`)\n      - traefik.http.middlewares.a.basicauth.users=x\n", "basicauth"),
        ("      - traefik.http.routers.a.rule=Method(`GET`)\n", "is not one of path and host"),
        ("      - traefik.tcp.routers.a.rule=HostSNI(`*`)\n", "is not a route by path and host"),
        ("      - other=1\n", "nothing of what it routes to runs here"),
    ];
    for (labels, reason) in table {
        let converted = import(&[("compose.yaml", &format!("{service}{labels}"))]);
        assert_eq!(value(&converted, &["services", "front"]), None, "{labels}");
        says(&converted, KeyOutcome::NotMapped, reason);
    }
}

#[test]
fn nginx_proxy_is_a_gateway() {
    let yaml = "services:\n  proxy: { image: nginxproxy/nginx-proxy, ports: ['22092:80'] }\n  certificates: { image: nginxproxy/acme-companion, depends_on: [proxy] }\n  shop: { image: node, command: node shop.js, environment: { VIRTUAL_HOST: shop.example } }\n  blog: { image: node, command: node blog.js, environment: ['VIRTUAL_HOST=shop.example', 'VIRTUAL_PATH=/blog/', 'VIRTUAL_DEST=/'] }\n";
    let converted = import(&[("compose.yaml", yaml)]);
    has(&converted, &["services", "proxy", "use"], "gateway");
    has(&converted, &["services", "proxy", "routes", "/"], "shop");
    has(&converted, &["services", "proxy", "routes", "/blog/*", "strip"], "/blog");
    says(&converted, KeyOutcome::Dropped, "nginxproxy/acme-companion has no work without containers");
    assert!(converted.text.contains("# services.certificates: nginxproxy/acme-companion has no work"), "{}", converted.text);
}

#[test]
fn a_stand_in_for_confluents_registry_has_its_path_in_addresses() {
    let yaml = "services:\n  registry: { image: 'confluentinc/cp-schema-registry:7.6.0', ports: ['22093:8081'] }\n  app: { image: python, command: app, environment: { REGISTRY: 'http://registry:8081', SUBJECTS: 'http://registry:8081/subjects', NAME: registry } }\n";
    let converted = import(&[("compose.yaml", yaml)]);
    has(&converted, &["services", "registry", "use"], "apicurio");
    has(&converted, &["services", "app", "env", "REGISTRY"], "http://${registry.addr}/apis/ccompat/v7");
    has(&converted, &["services", "app", "env", "SUBJECTS"], "http://${registry.addr}/subjects");
}

#[test]
fn flinks_taskmanager_finds_its_jobmanager() {
    let yaml = "services:\n  jobs: { image: 'flink:1.19', command: jobmanager, ports: ['22094:8081'], environment: [\"FLINK_PROPERTIES=jobmanager.rpc.address: jobs\"] }\n  work: { image: 'flink:1.19', command: taskmanager, environment: [\"FLINK_PROPERTIES=jobmanager.rpc.address: jobs\\ntaskmanager.numberOfTaskSlots: 5\"] }\n";
    let converted = import(&[("compose.yaml", yaml)]);
    has(&converted, &["services", "jobs", "use"], "flink");
    has(&converted, &["services", "work", "use"], "flink_taskmanager");
    has(&converted, &["services", "work", "set", "jobmanager_port"], "${jobs.ports.rpc}");
    has(&converted, &["services", "work", "set", "slots"], "5");
}

#[test]
fn debezium_server_gets_its_properties_for_this_machine() {
    let yaml = "services:\n  db: { image: 'postgres:16', ports: ['22095:5432'] }\n  cache: { image: redis }\n  server: { image: 'quay.io/debezium/server:3.0', volumes: ['./conf/application.properties:/debezium/config/application.properties'] }\n";
    let properties =
        "debezium.sink.redis.address=cache:6379\ndebezium.source.database.hostname=db\ndebezium.source.database.port=5432\n";
    let converted = import(&[("compose.yaml", yaml), ("conf/application.properties", properties)]);
    has(&converted, &["services", "server", "use"], "debezium_server");
    let expected = "debezium.sink.redis.address=${cache.addr}\ndebezium.source.database.hostname=${db.host}\ndebezium.source.database.port=${db.port}\n";
    has(&converted, &["services", "server", "files", "application.properties"], expected);
}

#[test]
fn a_base_image_that_starts_what_it_gets() {
    let yaml = "services:\n  api: { build: ., ports: ['22096:80'] }\n";
    let file = "FROM tiangolo/uvicorn-gunicorn-fastapi:python3.9\nWORKDIR /app\nCOPY ./app ./app\n";
    let converted = import(&[("compose.yaml", yaml), ("Dockerfile", file)]);
    let run = value(&converted, &["services", "api", "run"]).map(|run| run.to_string()).unwrap_or_default();
    assert!(run.contains("uvicorn app.main:app"), "{run}");
}

#[test]
fn a_pool_finds_its_postgres_and_takes_the_login() {
    let yaml = "services:\n  db: { image: 'postgres:16', ports: ['22110:5432'] }\n  pool: { image: edoburu/pgbouncer, ports: ['22111:5432'], environment: ['DB_HOST=${DB_HOST:-db}', DB_PORT=5432, DB_USER=app, DB_PASSWORD=secret, AUTH_TYPE=scram-sha-256] }\n";
    let converted = import(&[("compose.yaml", yaml)]);
    has(&converted, &["services", "pool", "use"], "pgbouncer");
    has(&converted, &["services", "pool", "port"], 22111);
    has(&converted, &["services", "pool", "user"], "app");
    has(&converted, &["services", "pool", "set", "host"], "${db.host}");
    has(&converted, &["services", "pool", "set", "port"], "${db.port}");
}

#[test]
fn influxdb_is_the_recipe_where_it_is_version_1() {
    let yaml = "services:\n  one: { image: 'influxdb:1.8', ports: ['22112:8086'] }\n  two: { image: 'influxdb:2.7', ports: ['22113:8086'] }\n";
    let converted = import(&[("compose.yaml", yaml)]);
    has(&converted, &["services", "one", "use"], "influxdb@1");
    assert_eq!(value(&converted, &["services", "two"]), None);
}

#[test]
fn n8n_starts_its_runner_itself() {
    let yaml = "services:\n  n8n: { image: 'docker.n8n.io/n8nio/n8n:stable', ports: ['22114:5678'], environment: [N8N_PORT=5678, N8N_RUNNERS_MODE=external, N8N_HOST=flows.example] }\n  work: { image: 'docker.n8n.io/n8nio/n8n:stable', command: worker }\n  runner: { image: 'n8nio/runners:stable', depends_on: [n8n] }\n";
    let converted = import(&[("compose.yaml", yaml)]);
    has(&converted, &["services", "n8n", "use"], "n8n");
    has(&converted, &["services", "n8n", "env", "N8N_HOST"], "flows.example");
    assert_eq!(value(&converted, &["services", "n8n", "env", "N8N_RUNNERS_MODE"]), None);
    has(&converted, &["services", "work", "set", "mode"], "worker");
    says(&converted, KeyOutcome::Dropped, "n8nio/runners:stable has no work without containers");
}

#[test]
fn a_tag_that_says_which_server_it_is() {
    let yaml = "services:\n  db: { image: 'ghcr.io/typeorm/docker:postgres-17.9-postgis-3.6.2-pgvector-0.8.2', ports: ['22115:5432'] }\n";
    let converted = import(&[("compose.yaml", yaml)]);
    has(&converted, &["services", "db", "use"], "postgres@17");
    says(&converted, KeyOutcome::NotMapped, "extensions = [\"postgis\", \"vector\"]");
}

#[test]
fn an_interpreter_without_a_program_has_no_work() {
    let file = "FROM python:3.11-slim\nWORKDIR /samples\nRUN pip install -r requirements.txt\n";
    let converted = import(&[("compose.yaml", "services:\n  tools: { build: . }\n"), ("Dockerfile", file)]);
    assert_eq!(value(&converted, &["services", "tools"]), None);
    says(&converted, KeyOutcome::Dropped, "an interpreter without a program");
    let converted = import(&[("compose.yaml", "services:\n  tools: { build: ., tty: true }\n"), ("Dockerfile", file)]);
    says(&converted, KeyOutcome::NotMapped, "has no `command`");
}

#[test]
fn wordpress_finds_its_database() {
    let yaml = "services:\n  site: { image: wordpress, ports: ['22123:80'], environment: [WORDPRESS_DB_HOST=sql, WORDPRESS_DB_USER=site, WORDPRESS_DB_PASSWORD=secret, WORDPRESS_DB_NAME=site] }\n  sql: { image: 'mariadb:10', ports: ['22124:3306'] }\n";
    let converted = import(&[("compose.yaml", yaml)]);
    has(&converted, &["services", "site", "use"], "wordpress");
    has(&converted, &["services", "site", "set", "db_host"], "${sql.addr}");
    has(&converted, &["services", "site", "set", "db_user"], "site");
}

#[test]
fn applications_that_are_their_own_image() {
    let yaml = "services:\n  zim: { image: 'ghcr.io/kiwix/kiwix-serve:latest', ports: ['22125:8080'] }\n  archive: { image: 'archivebox/archivebox:dev', ports: ['22127:8000'], command: 'server --quick-init 0.0.0.0:8000' }\n";
    let converted = import(&[("compose.yaml", yaml)]);
    for (service, recipe) in [("zim", "kiwix"), ("archive", "archivebox")] {
        has(&converted, &["services", service, "use"], recipe);
    }
}
