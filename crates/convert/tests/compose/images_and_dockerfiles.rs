//! Web servers with their files, Dockerfiles, and process-compose files.

use devrun_convert::{Converted, KeyOutcome};

use crate::imports::{has, import, project, says, value};

fn file(converted: &Converted, service: &str, name: &str) -> String {
    value(converted, &["services", service, "files", name]).and_then(|text| text.as_str().map(str::to_owned)).unwrap_or_default()
}

#[test]
fn nginx_serves_its_own_files() {
    let yaml = "services:\n  web: { image: nginx, ports: ['22085:80'], volumes: ['./html:/usr/share/nginx/html:ro', './site.conf:/etc/nginx/conf.d/site.conf'] }\n  static: { image: nginx, ports: ['22084:80'], volumes: ['./html:/usr/share/nginx/html'] }\n  main: { image: nginx, ports: ['22086:80'], volumes: ['./nginx.conf:/etc/nginx/nginx.conf:ro'] }\n  api: { image: python, command: api, ports: ['22087:8000'] }\n  plain: { image: nginx }\n";
    let site = "upstream up { server api:8000; }\nserver {\n  listen 80 default_server;\n  listen [::]:80;\n  # a comment;\n  location / { root /usr/share/nginx/html; try_files $uri ${x} /index.html; }\n  location /api { proxy_pass http://api:8000/; proxy_set_header Host $host; }\n  location /up { proxy_pass http://up; }\n}\n";
    let main = "user nginx;\nworker_processes auto;\nerror_log /var/log/nginx/error.log;\npid /run/nginx.pid;\nevents { worker_connections 64; }\nhttp {\n  include /etc/nginx/mime.types;\n  access_log /var/log/x main;\n  server { listen 80; location / { proxy_pass http://api:8000; } }\n}\n";
    let converted = import(&[("compose.yaml", yaml), ("site.conf", site), ("nginx.conf", main)]);
    let text = file(&converted, "web", "nginx.conf");
    for part in [
        "listen ${web.addr} default_server;",
        "root ${dir.project}/html;",
        "try_files $uri $${x} /index.html;",
        "proxy_pass http://${api.addr}/;",
        "proxy_set_header Host $host;",
        "server ${api.addr};",
        "proxy_pass http://up;",
    ] {
        assert!(text.contains(part), "{part}\n{text}");
    }
    assert!(!text.contains("[::]") && !text.contains("comment"), "{text}");
    assert!(file(&converted, "static", "nginx.conf").contains("root ${dir.project}/html; index index.html"));
    let text = file(&converted, "main", "nginx.conf");
    assert!(
        text.contains("types {") && text.contains("listen ${main.addr};") && text.contains("worker_processes auto;"),
        "{text}"
    );
    assert_eq!(text.matches("pid ").count(), 1, "{text}");
    assert!(!text.contains("/var/log") && !text.contains("user nginx"), "{text}");
    has(&converted, &["services", "plain", "use"], "nginx");
}

#[test]
fn a_web_server_that_cannot_be_carried_over_is_left_out() {
    let table = [
        ("server { listen 443 ssl; ssl_certificate /x; }", "HTTPS with certificates"),
        ("server { listen 80; location / { proxy_pass http://gone:1; } }", "`gone`, which is not a service"),
        ("server { listen 80; include uwsgi_params; }", "includes uwsgi_params"),
        ("server { listen 80; include more/*.conf; }", "includes more/*.conf"),
    ];
    for (conf, reason) in table {
        let yaml = "services:\n  web: { image: nginx, ports: ['22085:80'], volumes: ['./a.conf:/etc/nginx/conf.d/a.conf'] }\n";
        let converted = import(&[("compose.yaml", yaml), ("a.conf", conf)]);
        assert_eq!(value(&converted, &["services", "web"]), None, "{}", converted.text);
        says(&converted, KeyOutcome::NotMapped, reason);
    }
    let unreadable =
        import(&[("compose.yaml", "services:\n  c: { image: 'caddy:2', volumes: ['./Caddyfile:/etc/caddy/Caddyfile'] }\n")]);
    assert_eq!(value(&unreadable, &["services", "c"]), None, "{}", unreadable.text);
}

#[test]
fn a_web_server_gets_what_it_includes() {
    let yaml = "services:\n  web: { image: nginx, ports: ['22089:80'], volumes: ['./a.conf:/etc/nginx/conf.d/a.conf', './b.conf:/etc/nginx/more/b.conf'] }\n  app: { image: php, command: php-fpm, ports: ['22090:9000'] }\n";
    let conf = "server { listen 80; location / { include fastcgi_params; fastcgi_pass app:9000; } include more/*.conf; }";
    let converted = import(&[("compose.yaml", yaml), ("a.conf", conf), ("b.conf", "location /b { return 204; }")]);
    let text = file(&converted, "web", "nginx.conf");
    for part in ["fastcgi_param REQUEST_METHOD $request_method;", "fastcgi_pass ${app.addr};", "location /b {", "return 204;"] {
        assert!(text.contains(part), "{part}\n{text}");
    }
    assert!(!text.contains("include"), "{text}");
}

#[test]
fn caddy_serves_its_own_files() {
    let yaml = "services:\n  cad: { image: 'caddy:2', ports: ['22086:80'], volumes: ['./Caddyfile:/etc/caddy/Caddyfile', './html:/srv'] }\n  two: { image: 'caddy:2', ports: ['22087:80'], volumes: ['./two:/etc/caddy/Caddyfile'] }\n  api: { image: python, command: api, ports: ['22088:8000'] }\n";
    let first = "{\n  email a@b\n}\n:80 {\n  root * /srv\n  file_server\n  reverse_proxy /api/* api:8000\n}\n";
    let second = "example.com {\n  tls internal\n  reverse_proxy api:8000\n}\n";
    let converted = import(&[("compose.yaml", yaml), ("Caddyfile", first), ("two", second)]);
    let text = file(&converted, "cad", "Caddyfile");
    for part in [
        "http://:${cad.port} {",
        "bind 127.0.0.1",
        "root * ${dir.project}/html",
        "reverse_proxy /api/* ${api.addr}",
        "auto_https off",
    ] {
        assert!(text.contains(part), "{part}\n{text}");
    }
    assert!(!text.contains("email"), "{text}");
    let text = file(&converted, "two", "Caddyfile");
    assert!(text.contains("http://:${two.port} {") && !text.contains("tls"), "{text}");
    says(&converted, KeyOutcome::NotMapped, "example.com is served without TLS");
}

#[test]
fn a_dockerfile_on_a_server_is_that_server() {
    let yaml = "services:\n  mysql: { build: mysql }\n  front: { build: front, ports: ['22080:80'] }\n";
    let mysql = "FROM mysql:5.7\nENV MYSQL_DATABASE=cities MYSQL_USER=ship MYSQL_PASSWORD=secret\nCOPY scripts/* /docker-entrypoint-initdb.d/\n";
    let front = "FROM node:20 AS b\nWORKDIR /app\nCOPY . .\nRUN npm ci && npm run build\nFROM nginx:alpine\nCOPY --from=b /app/dist /usr/share/nginx/html\nCOPY nginx.conf /etc/nginx/conf.d/default.conf\nCMD [\"nginx\", \"-g\", \"daemon off;\"]\n";
    let converted = import(&[
        ("compose.yaml", yaml),
        ("mysql/Dockerfile", mysql),
        ("front/Dockerfile", front),
        ("front/nginx.conf", "server { listen 80; root /usr/share/nginx/html; }\n"),
    ]);
    for (key, expected) in
        [("use", "mariadb"), ("database", "cities"), ("user", "ship"), ("password", "secret"), ("init", "mysql/scripts")]
    {
        has(&converted, &["services", "mysql", key], expected);
    }
    let text = file(&converted, "front", "nginx.conf");
    assert!(text.contains("root ${dir.project}/front/dist;") && text.contains("listen ${front.addr};"), "{text}");
    has(&converted, &["services", "front", "build"], "(cd front && npm ci) && (cd front && npm run build)");
}

#[test]
fn build_steps_become_a_proposed_build() {
    let yaml = "services:\n  api: { build: ./api, ports: ['22080:8080'] }\n  j: { build: ./j }\n  n: { build: ./n }\n  p: { build: { context: ./p, target: dev } }\n";
    let converted = import(&[
        ("compose.yaml", yaml),
        (
            "api/Dockerfile",
            "FROM golang AS build\nWORKDIR /src\nCOPY . .\nRUN go build -o /bin/server ./cmd/server\nFROM alpine\nCOPY --from=build /bin/server /server\nCMD [\"/server\"]\n",
        ),
        (
            "j/Dockerfile",
            "FROM maven AS b\nWORKDIR /app\nCOPY pom.xml .\nRUN mvn clean package\nFROM jre\nWORKDIR /app\nCOPY --from=b /app/target/*.jar app.jar\nENTRYPOINT [\"java\",\"-jar\",\"app.jar\"]\n",
        ),
        (
            "n/Dockerfile",
            "FROM node\nWORKDIR /app\nCOPY package*.json ./\nRUN npm ci\nCOPY . .\nHEALTHCHECK --interval=5s CMD curl -f http://localhost:3000/h || exit 1\nEXPOSE 3000\nUSER node\nCMD [\"npm\",\"start\"]\n",
        ),
        (
            "p/Dockerfile",
            "FROM python AS base\nWORKDIR /app\nCOPY requirements.txt .\nRUN pip install -r requirements.txt\nFROM base AS dev\nCOPY run.sh /run.sh\nENTRYPOINT [\"/run.sh\"]\nCMD [\"serve\"]\nFROM base\nCMD [\"prod\"]\n",
        ),
        ("p/run.sh", "#!/bin/bash\nexec \"$@\"\n"),
    ]);
    has(&converted, &["services", "api", "build"], "go build -o bin/server ./cmd/server");
    has(&converted, &["services", "api", "run"], "./bin/server");
    has(&converted, &["services", "j", "build"], "mvn clean package && cp target/*.jar app.jar");
    has(&converted, &["services", "j", "run"], "java -jar app.jar");
    has(&converted, &["services", "n", "build"], "npm ci");
    has(&converted, &["services", "n", "ready", "http"], "/h");
    has(&converted, &["services", "n", "ready", "interval"], "5s");
    has(&converted, &["services", "p", "build"], "python3 -m venv --clear .venv && .venv/bin/pip install -r requirements.txt");
    has(&converted, &["services", "p", "run"], "bash run.sh serve");
    says(&converted, KeyOutcome::Mapped, "services.api.build: proposed from the RUN lines");
}

#[test]
fn heredocs_are_no_instructions() {
    let yaml = "services:\n  w:\n    build:\n      context: .\n      dockerfile_inline: |\n        FROM python\n        CMD [\"app\"]\n        RUN <<EOT\n        CMD fake\n        ENV NOPE=1\n        EOT\n";
    let converted = import(&[("compose.yaml", yaml)]);
    has(&converted, &["services", "w", "run"], "app");
    assert_eq!(value(&converted, &["services", "w", "env"]), None);
}

#[test]
fn an_entrypoint_for_containers_is_left_out() {
    let yaml = "services:\n  a: { build: . }\n";
    let docker =
        "FROM x\nCOPY docker-entrypoint.sh /\nENTRYPOINT [\"tini\", \"--\", \"/docker-entrypoint.sh\"]\nCMD [\"app\", \"--x\"]\n";
    let converted = import(&[
        ("compose.yaml", yaml),
        ("Dockerfile", docker),
        ("docker-entrypoint.sh", "#!/bin/sh\nchown -R a /data\nexec gosu a \"$@\"\n"),
    ]);
    has(&converted, &["services", "a", "run"], "app --x");
    says(&converted, KeyOutcome::NotMapped, "is left out: it uses gosu");
}

#[test]
fn process_compose_means_what_it_says() {
    let yaml = "version: '0.5'\nprocesses:\n  one: { command: exec ./run.sh }\n  two: { command: \"cd sub\\nexec x\" }\n  three: { command: FOO=bar ./run.sh, is_dotenv_disabled: true }\n  four: { command: source ./vars.sh }\n  db: { command: sleep 9, readiness_probe: { exec: { command: 'true' } } }\n  mig: { command: 'false', availability: { restart: on_failure } }\n  app: { command: 'echo $A', depends_on: { mig: { condition: process_completed_successfully } } }\n";
    let converted = project("process-compose.yaml", &[("process-compose.yaml", yaml), (".env", "A=1\n")]);
    for name in ["one", "two", "three"] {
        has(&converted, &["services", name, "shell"], true);
    }
    has(&converted, &["services", "four", "run"], vec!["bash", "-c", "source ./vars.sh"]);
    has(&converted, &["services", "one", "env_file"], vec![".env"]);
    assert_eq!(value(&converted, &["services", "three", "env_file"]), None);
    has(&converted, &["services", "app", "run"], vec!["sh", "-c", "echo $$A"]);
    has(&converted, &["services", "db", "ready", "interval"], "10s");
    says(&converted, KeyOutcome::NotMapped, "processes.mig.availability.restart");
}

#[test]
fn a_kafka_has_one_listener_and_its_settings() {
    let yaml = "x-kafka: &kafka\n  KAFKA_LISTENERS: INTERNAL://0.0.0.0:19094,EXTERNAL://0.0.0.0:9094,CONTROLLER://0.0.0.0:9093\n  KAFKA_ADVERTISED_LISTENERS: INTERNAL://broker:19094,EXTERNAL://localhost:9094\n  KAFKA_CONTROLLER_LISTENER_NAMES: CONTROLLER\n  KAFKA_ZOOKEEPER_CONNECT: zk:2181\n  KAFKA_LOG_RETENTION_HOURS: 24\n  KAFKA_OFFSETS_TOPIC_REPLICATION_FACTOR: 1\nservices:\n  zk: { image: 'confluentinc/cp-zookeeper:7.5.0', environment: { ZOOKEEPER_CLIENT_PORT: 2181, ZOOKEEPER_TICK_TIME: 3000 } }\n  broker:\n    image: confluentinc/cp-kafka:7.5.0\n    ports: ['9094:9094', '19094:19094']\n    environment: { <<: *kafka }\n    volumes: ['kd:/var/lib/kafka/data']\n  app: { image: node:20, command: node app.js, environment: { KAFKA: 'broker:19094', KAFKA_BROKERS: 'broker:9094', ZK: 'zk:2181' } }\nvolumes: { kd: {} }\n";
    let converted = import(&[("compose.yaml", yaml)]);
    has(&converted, &["services", "broker", "use"], "kafka");
    has(&converted, &["services", "broker", "port"], 9094);
    has(&converted, &["services", "broker", "data"], "kd");
    has(&converted, &["services", "broker", "set", "log.retention.hours"], "24");
    assert_eq!(value(&converted, &["services", "broker", "env"]), None);
    has(&converted, &["services", "app", "env", "KAFKA"], "${broker.addr}");
    has(&converted, &["services", "app", "env", "KAFKA_BROKERS"], "${broker.addr}");
    has(&converted, &["services", "app", "env", "ZK"], "${zk.addr}");
    has(&converted, &["services", "zk", "use"], "zookeeper");
    has(&converted, &["services", "zk", "set", "tick_time"], "3000");
    says(&converted, KeyOutcome::NotMapped, "services.zk.image: ZooKeeper 3 itself takes its place");
    says(&converted, KeyOutcome::NotMapped, "19094 is another listener of the same broker");
}

#[test]
fn servers_in_the_place_of_others_are_named() {
    let yaml = "services:\n  mongo: { image: 'mongo:6', command: [--replSet, rs0], environment: [MONGO_INITDB_ROOT_USERNAME=root, MONGO_INITDB_ROOT_PASSWORD=example] }\n  open: { image: 'mongo:4.4', ports: ['27018:27017'] }\n  app: { image: node, command: x, environment: { URL: 'mongodb://root:example@mongo:27017/' } }\n  pma: { image: phpmyadmin, ports: ['8081:80'], environment: { PMA_HOST: sql, PMA_PORT: 3306 } }\n  sql: { image: 'mysql:8', environment: { MYSQL_ROOT_PASSWORD: x } }\n  kv: { image: 'quay.io/coreos/etcd:v3.5.9', command: etcd --name e --data-dir /d, ports: ['2379:2379'], environment: { ETCD_LISTEN_CLIENT_URLS: 'http://0.0.0.0:2379', ETCD_AUTO_COMPACTION_MODE: revision, ETCD_QUOTA_BACKEND_BYTES: 67108864 } }\n  az: { image: mcr.microsoft.com/azure-storage/azurite, ports: ['10000:10000', '10001:10001'], environment: { AZURITE_ACCOUNTS: 'acc:a2V5' } }\n  am: { image: 'prom/alertmanager:v0.25.0', volumes: ['./am.yml:/etc/alertmanager/config.yml'], command: ['--config.file=/etc/alertmanager/config.yml'] }\n";
    let converted = import(&[
        ("compose.yaml", yaml),
        ("am.yml", "route: { receiver: r }\nreceivers: [{ name: r, webhook_configs: [{ url: 'http://app:80/' }] }]\n"),
    ]);
    has(&converted, &["services", "mongo", "use"], "ferretdb");
    has(&converted, &["services", "mongo", "user"], "root");
    has(&converted, &["services", "mongo", "password"], "example");
    has(&converted, &["services", "open", "port"], 27018);
    has(&converted, &["services", "app", "env", "URL"], "mongodb://root:example@${mongo.addr}/");
    says(&converted, KeyOutcome::NotMapped, "FerretDB takes MongoDB's place");
    says(&converted, KeyOutcome::NotMapped, "--replSet rs0");
    has(&converted, &["services", "pma", "use"], "adminer");
    has(&converted, &["services", "pma", "port"], 8081);
    has(&converted, &["services", "pma", "set", "server"], "${sql.addr}");
    has(&converted, &["services", "pma", "set", "driver"], "server");
    has(&converted, &["services", "kv", "use"], "etcd@3");
    has(&converted, &["services", "kv", "set", "quota_backend_bytes"], "67108864");
    has(&converted, &["services", "kv", "env", "ETCD_AUTO_COMPACTION_MODE"], "revision");
    assert_eq!(value(&converted, &["services", "kv", "env", "ETCD_LISTEN_CLIENT_URLS"]), None);
    has(&converted, &["services", "az", "user"], "acc");
    has(&converted, &["services", "az", "ports", "queue"], 10001);
    has(&converted, &["services", "am", "use"], "alertmanager");
    assert!(value(&converted, &["services", "am", "files", "alertmanager.yml"]).is_some(), "{}", converted.text);
}

#[test]
fn logins_stay_what_they_were() {
    let yaml = "services:\n  mq: { image: 'rabbitmq:3-management', environment: [RABBITMQ_DEFAULT_VHOST=orders, RABBITMQ_DEFAULT_USER=u, RABBITMQ_DEFAULT_PASS=p] }\n  quiet: { image: 'rabbitmq:3-management', environment: { RABBITMQ_DEFAULT_VHOST: / } }\n  sql: { image: 'mariadb:11', environment: { MYSQL_ROOT_PASSWORD: r, MYSQL_USER: u, MYSQL_PASSWORD: p } }\n  empty: { image: 'mariadb:11', environment: { MYSQL_ROOT_PASSWORD: '', MYSQL_USER: u, MYSQL_PASSWORD: p } }\n  rooted: { image: 'mysql:8', environment: { MYSQL_ROOT_PASSWORD: r, MYSQL_USER: root } }\n  bus: { image: nats, command: '-js --user=me --pass=secret -m 8222 --cluster x' }\n  app: { image: node, command: x, environment: { API: 'http://mq:15672/api' } }\n";
    let converted = import(&[("compose.yaml", yaml)]);
    has(&converted, &["services", "mq", "database"], "orders");
    has(&converted, &["services", "mq", "ports", "management"], "auto");
    has(&converted, &["services", "mq", "set", "plugins"], "rabbitmq_management");
    has(&converted, &["services", "app", "env", "API"], "http://${mq.host}:${mq.ports.management}/api");
    assert_eq!(value(&converted, &["services", "quiet", "database"]), None);
    has(&converted, &["services", "sql", "user"], "u");
    has(&converted, &["services", "sql", "set", "root_password"], "r");
    assert_eq!(value(&converted, &["services", "empty", "set"]), None);
    has(&converted, &["services", "rooted", "user"], "root");
    has(&converted, &["services", "rooted", "password"], "r");
    has(&converted, &["services", "bus", "user"], "me");
    has(&converted, &["services", "bus", "password"], "secret");
    assert_eq!(value(&converted, &["services", "bus", "files"]), None);
    says(&converted, KeyOutcome::NotMapped, "--cluster x");
}

#[test]
fn images_are_known_by_mirrors_and_by_what_their_names_say() {
    let yaml = "services:\n  a: { image: 'public.ecr.aws/docker/library/postgres:16-alpine', environment: { POSTGRES_PASSWORD: x } }\n  b: { image: 'ghcr.io/acme/shop-postgres:14-extra', environment: { POSTGRES_PASSWORD: x, POSTGRES_USER: u } }\n  own: { image: 'acme/example-postgres:2.6', environment: { POSTGRES_PASSWORD: x } }\n  c: { image: acme/postgres-exporter }\n  fl: { image: acme/flink-kafka }\n  d: { image: 'acme/mysql-backup' }\n  e: { image: 'pgvector/pgvector:pg16', environment: { POSTGRES_PASSWORD: x } }\n  f: { image: 'pgvector/pgvector:pg15', environment: { POSTGRES_PASSWORD: x } }\n  g: { image: maildev/maildev, ports: ['1080:1080', '1025:1025'] }\n  h: { image: 'jaegertracing/all-in-one:1.5', ports: ['4318:4318', '16686:16686'] }\n  i: { image: docker.dragonflydb.io/dragonflydb/dragonfly, ports: ['6380:6379'] }\n";
    let converted = import(&[("compose.yaml", yaml)]);
    has(&converted, &["services", "a", "use"], "postgres@16");
    has(&converted, &["services", "b", "use"], "postgres@14");
    has(&converted, &["services", "b", "user"], "u");
    has(&converted, &["services", "own", "use"], "postgres");
    says(&converted, KeyOutcome::NotMapped, "services.b.image: taken for the server that its name says");
    for name in ["c", "d", "fl"] {
        assert_eq!(value(&converted, &["services", name]), None, "{}", converted.text);
    }
    has(&converted, &["services", "e", "extensions"], vec!["vector"]);
    assert_eq!(value(&converted, &["services", "f", "extensions"]), None);
    says(&converted, KeyOutcome::NotMapped, "services.f.image: pgvector must be installed");
    has(&converted, &["services", "g", "use"], "mailpit");
    has(&converted, &["services", "g", "ports", "http"], 1080);
    has(&converted, &["services", "h", "use"], "telemetry");
    has(&converted, &["services", "h", "port"], 4318);
    has(&converted, &["services", "i", "use"], "valkey");
    has(&converted, &["services", "i", "port"], 6380);
}

#[test]
fn patterns_older_keys_and_ports_to_listen_on() {
    let yaml = "services:\n  db: { build: ./db, ports: ['15432:5432'] }\n  api: { image: python, command: x, ports: ['9100:8000'], environment: { BIND: '0.0.0.0:8000', LISTEN: 'tcp://0.0.0.0:8000', OTHER: '0.0.0.0:80001', PEER: 'http://host.docker.internal:9000' } }\n  same: { image: python, command: x, ports: ['8000:8000'], environment: { BIND: '0.0.0.0:8000' } }\n  lim: { image: python, command: x, mem_limit: 0, deploy: { resources: { limits: { memory: 0M } } } }\n";
    let docker = "FROM postgres:15\nENV POSTGRES_PASSWORD=x\nCOPY ./sql/*.sql /docker-entrypoint-initdb.d/\n";
    let converted = import(&[("compose.yaml", yaml), ("db/Dockerfile", docker)]);
    has(&converted, &["services", "db", "init"], "db/sql");
    has(&converted, &["services", "api", "env", "BIND"], "127.0.0.1:${api.port}");
    has(&converted, &["services", "api", "env", "LISTEN"], "tcp://127.0.0.1:${api.port}");
    has(&converted, &["services", "api", "env", "OTHER"], "127.0.0.1:80001");
    has(&converted, &["services", "same", "env", "BIND"], "127.0.0.1:8000");
    assert!(!converted.text.contains("nothing was made of it"), "{}", converted.text);
}

#[test]
fn several_of_a_kind_and_a_test_of_nothing() {
    let yaml = "services:\n  a: { image: 'mongo:5' }\n  b: { image: 'mongo:5', ports: ['27018:27017'] }\n  k1: { image: 'apache/kafka:3.9' }\n  k2: { image: 'apache/kafka:3.9' }\n  w: { image: python, command: x, healthcheck: { test: [CMD], interval: 5s } }\n  app: { image: node, command: x, environment: { BROKERS: 'k1:9092,k2:9092' } }\n";
    let converted = import(&[("compose.yaml", yaml)]);
    has(&converted, &["services", "b", "ports", "debug"], "auto");
    has(&converted, &["services", "k2", "port"], "auto");
    has(&converted, &["services", "k2", "ports", "controller"], "auto");
    has(&converted, &["services", "app", "env", "BROKERS"], "${k1.addr},${k2.addr}");
    says(&converted, KeyOutcome::NotMapped, "services.k1.image: each of the 2 brokers of the file is a cluster of its own here");
    assert_eq!(value(&converted, &["services", "w", "ready"]), None);
    says(&converted, KeyOutcome::NotMapped, "services.w.healthcheck: its `test` names no command");
}

#[test]
fn variables_of_a_process_are_filled_in() {
    let yaml =
        "processes:\n  one:\n    command: echo $A\n    environment: ['A=${GREETING} all', 'B=$NOWHERE', 'C=a$$b', 'D=${E:-d}']\n";
    let converted = project("process-compose.yaml", &[("process-compose.yaml", yaml), (".env", "GREETING=hello\n")]);
    has(&converted, &["services", "one", "env", "A"], "${GREETING:-} all");
    has(&converted, &["services", "one", "env", "B"], "${NOWHERE:-}");
    has(&converted, &["services", "one", "env", "C"], "a$$b");
    has(&converted, &["services", "one", "env", "D"], "${E:-d}");
    has(&converted, &["services", "one", "run"], vec!["sh", "-c", "echo $$A"]);
}

#[test]
fn connect_search_and_logins_are_recipes() {
    let yaml = "services:\n  kafka: { image: 'quay.io/debezium/kafka:${V}', ports: ['9092:9092'] }\n  connect: { image: 'quay.io/debezium/connect:${V}', ports: ['8084:8083'], environment: [BOOTSTRAP_SERVERS=kafka:9092, GROUP_ID=1, CONNECT_KEY_CONVERTER_SCHEMAS_ENABLE=false, CONNECT_REST_ADVERTISED_HOST_NAME=connect, 'CONNECT_SASL_JAAS_CONFIG=$JAAS', 'CONNECT_PEER_URL=http://es:9200/$$1'] }\n  own: { build: own, environment: { BOOTSTRAP_SERVERS: 'kafka:9092' } }\n  strimzi: { build: strimzi, environment: ['KAFKA_CONNECT_BOOTSTRAP_SERVERS=kafka:9092', \"KAFKA_CONNECT_CONFIGURATION=\\ngroup.id=g\\nkey.converter=K\\n\", GROUP_ID=2] }\n  es: { image: 'docker.elastic.co/elasticsearch/elasticsearch:7.3.0', ports: ['9200:9200'], environment: [discovery.type=single-node, 'ES_JAVA_OPTS=-Xms512m -Xmx768m'], volumes: ['es:/usr/share/elasticsearch/data'] }\n  login: { image: 'quay.io/keycloak/keycloak:25.0', command: start-dev, ports: ['8090:8080'], environment: { KEYCLOAK_ADMIN: boss, KEYCLOAK_ADMIN_PASSWORD: pw, KC_LOG_LEVEL: debug } }\n  broker: { image: '${DOCKER_REGISTRY}confluentinc/cp-server:${TAG}' }\n  app: { image: node, command: x, environment: { C: 'http://connect:8083', E: 'http://es:9200', K: 'http://login:8080/realms/x' } }\nvolumes: { es: {} }\n";
    let converted = import(&[
        ("compose.yaml", yaml),
        ("own/Dockerfile", "ARG V\nFROM quay.io/debezium/connect:${V}\nCOPY x.jar /kafka/connect/x/\n"),
        ("strimzi/Dockerfile", "FROM quay.io/strimzi/kafka:latest-kafka-3.4.0\nENV KAFKA_CONNECT_PLUGIN_PATH=/tmp/x\n"),
    ]);
    has(&converted, &["services", "connect", "use"], "kafka_connect");
    has(&converted, &["services", "connect", "port"], 8084);
    has(&converted, &["services", "connect", "set", "bootstrap_servers"], "${kafka.addr}");
    has(&converted, &["services", "connect", "set", "group.id"], "1");
    has(&converted, &["services", "connect", "set", "key.converter.schemas.enable"], "false");
    has(&converted, &["services", "connect", "set", "sasl.jaas.config"], "${JAAS:-}");
    has(&converted, &["services", "connect", "set", "peer.url"], "http://${es.addr}/$$1");
    says(&converted, KeyOutcome::NotMapped, "${JAAS}: is in no .env here");
    says(&converted, KeyOutcome::NotMapped, "services.login.image: the recipe `keycloak` has one version, and 25 may be another");
    has(&converted, &["services", "own", "use"], "kafka_connect");
    has(&converted, &["services", "strimzi", "use"], "kafka_connect");
    has(&converted, &["services", "strimzi", "set", "group.id"], "g");
    says(&converted, KeyOutcome::NotMapped, "a second value for set.\"group.id\" is left out");
    has(&converted, &["services", "es", "use"], "opensearch");
    has(&converted, &["services", "es", "set", "heap"], "768m");
    has(&converted, &["services", "es", "data"], "es");
    says(&converted, KeyOutcome::NotMapped, "OpenSearch 2 takes Elasticsearch's place");
    has(&converted, &["services", "login", "use"], "keycloak");
    has(&converted, &["services", "login", "user"], "boss");
    has(&converted, &["services", "login", "password"], "pw");
    has(&converted, &["services", "login", "env", "KC_LOG_LEVEL"], "debug");
    has(&converted, &["services", "broker", "use"], "kafka");
    has(&converted, &["services", "app", "env", "C"], "http://${connect.addr}");
    has(&converted, &["services", "app", "env", "E"], "http://${es.addr}");
    has(&converted, &["services", "app", "env", "K"], "http://${login.addr}/realms/x");
}

#[test]
fn two_ports_of_one_name_are_one_and_a_line() {
    let yaml = "services:\n  mail: { image: maildev/maildev, ports: ['1080:1080', '8081:80', '1025:1025'] }\n  fake: { image: 'gessnerfl/fake-smtp-server:2.2.1', ports: ['8025:8025', '8080:8080'] }\n";
    let converted = import(&[("compose.yaml", yaml)]);
    has(&converted, &["services", "mail", "ports", "http"], 1080);
    has(&converted, &["services", "mail", "port"], 1025);
    says(&converted, KeyOutcome::NotMapped, "port 80 is not one that the recipe `mailpit` opens");
    has(&converted, &["services", "fake", "port"], 8025);
    has(&converted, &["services", "fake", "ports", "http"], 8080);
}

#[test]
fn a_base_image_that_starts_the_jar_is_java() {
    let yaml = "services:\n  q: { build: { context: q, dockerfile: src/Dockerfile.jvm }, ports: ['8080:8080'] }\n  g: { build: g }\n  none: { build: none }\n";
    let converted = import(&[
        ("compose.yaml", yaml),
        (
            "q/src/Dockerfile.jvm",
            "FROM registry.access.redhat.com/ubi9/openjdk-21:1.21\nCOPY --chown=185 target/quarkus-app/ /deployments/\nENV JAVA_OPTS_APPEND=\"-Dquarkus.http.host=0.0.0.0\"\nENV JAVA_APP_JAR=\"/deployments/quarkus-run.jar\"\n",
        ),
        ("q/pom.xml", "<project/>"),
        ("g/Dockerfile", "FROM acme/base\nCOPY build/libs/shop.jar service.jar\n"),
        ("g/build.gradle", ""),
        ("gradlew", ""),
        ("none/Dockerfile", "FROM acme/base\nCOPY a.war /x/\n"),
    ]);
    has(&converted, &["services", "q", "run"], "java -Dquarkus.http.host=127.0.0.1 -jar target/quarkus-app/quarkus-run.jar");
    has(&converted, &["services", "q", "dir"], "q");
    has(&converted, &["services", "q", "build"], "mvn -q -DskipTests package");
    has(&converted, &["services", "g", "run"], "java -jar build/libs/shop.jar");
    has(&converted, &["services", "g", "build"], "sh ../gradlew assemble");
    says(&converted, KeyOutcome::Mapped, "proposed from the jar that its Dockerfile copies");
    assert_eq!(value(&converted, &["services", "none"]), None);
}
