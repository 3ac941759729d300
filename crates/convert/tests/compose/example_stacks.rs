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
