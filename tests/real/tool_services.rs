//! Recipes of servers around a stack's data, with their real servers: Pushgateway, which is a
//! Debian package; Kafka Connect, OpenSearch and Keycloak, which are built by Maven and run where they are built.

use std::process::Command;
use std::time::Duration;

use crate::harness::{PATIENCE, Project, eventually};
use crate::more_services::send;
use crate::services::{down, get, port, project, up};

trials![
    pushgateway_keeps_what_was_pushed,
    kafka_connect_carries_the_rows_of_a_postgres,
    opensearch_keeps_its_documents_and_runs_scripts,
    keycloak_keeps_its_realms_and_asks_for_its_login,
];

fn pushgateway_keeps_what_was_pushed() {
    let Some(project) = project("pushgateway", true) else { return };
    project.rewrite("[services.x]\nuse = \"pushgateway\"\nport = \"auto\"\n");
    up(&project);
    let (status, body) = send(port(&project, "main"), "POST", "/metrics/job/shop", "orders_total 3\n");
    assert_eq!(status, 200, "{body}");
    down(&project);
    up(&project);
    let (_, metrics) = get(port(&project, "main"), "/metrics");
    assert!(metrics.contains("orders_total{instance=\"\",job=\"shop\"} 3"), "{metrics}");
    down(&project);
}

/// Starts of Java on a busy machine.
const LONG: Duration = Duration::from_secs(120);

fn kafka_connect_carries_the_rows_of_a_postgres() {
    let (Some(_), Some(_)) = (project("kafka", false), project("postgres", false)) else { return };
    let Some(project) = project("kafka_connect", false) else { return };
    std::fs::write(
        project.path("rows.sql"),
        "create table orders (id int primary key, word text); insert into orders values (1, 'kept');",
    )
    .expect("our own folder");
    project.rewrite(
        "[services.kafka]\nuse = \"kafka\"\nport = \"auto\"\nports = { controller = \"auto\" }\n\
         [services.db]\nuse = \"postgres@16\"\nport = \"auto\"\nuser = \"app\"\npassword = \"p w\"\ndatabase = \"shop\"\ninit = \"rows.sql\"\n\
         set = { wal_level = \"logical\" }\n\
         [services.x]\nuse = \"kafka_connect\"\nport = \"auto\"\ndepends_on = [\"kafka\"]\n\
         set = { bootstrap_servers = \"${kafka.addr}\", \"key.converter.schemas.enable\" = \"false\", \"value.converter.schemas.enable\" = \"false\" }\n",
    );
    up(&project);
    let of = |name: &str| project.service(name)["ports"]["main"].as_u64().expect("a port");
    let config = serde_json::json!({ "name": "rows", "config": {
        "connector.class": "io.debezium.connector.postgresql.PostgresConnector", "plugin.name": "pgoutput", "topic.prefix": "t",
        "database.hostname": "127.0.0.1", "database.port": of("db").to_string(), "database.dbname": "shop",
        "database.user": "app", "database.password": "p w", "table.include.list": "public.orders",
    } });
    let (status, body) = send(port(&project, "main"), "POST", "/connectors", &config.to_string());
    assert_eq!(status, 201, "{body}");
    let runs = || get(port(&project, "main"), "/connectors/rows/status").1;
    eventually("the connector's task runs", LONG, || runs().contains(r#""id":0,"state":"RUNNING""#).then_some(()));
    let found = project.run(&["which", "kafka", "--json"]).json();
    let server = std::path::PathBuf::from(found[0]["path"].as_str().expect("a path"));
    let output = Command::new(server.with_file_name("kafka-console-consumer.sh"))
        .args(["--bootstrap-server", &format!("127.0.0.1:{}", of("kafka"))])
        .args(["--topic", "t.public.orders", "--from-beginning", "--max-messages", "1", "--timeout-ms", "120000"])
        .output()
        .expect("the tool runs");
    let read = String::from_utf8_lossy(&output.stdout);
    assert!(read.contains(r#""after":{"id":1,"word":"kept"}"#), "{read}");
    down(&project);
    up(&project);
    eventually("the connector runs again", LONG, || runs().contains(r#""id":0,"state":"RUNNING""#).then_some(()));
    down(&project);
    project.rewrite("[services.x]\nuse = \"kafka_connect\"\nset = { \"rest.port\" = \"1\" }\n");
    let refused = project.run(&["up"]);
    assert_ne!(refused.code, Some(0));
    assert!(refused.stderr.contains("belongs to `port`"), "{}", refused.stderr);
}

fn opensearch_keeps_its_documents_and_runs_scripts() {
    let Some(project) = project("opensearch", false) else { return };
    project.rewrite(
        "[services.x]\nuse = \"opensearch\"\nport = \"auto\"\nports = { transport = \"auto\" }\n\
         set = { heap = \"384m\", cluster_name = \"shop\", \"http.max_content_length\" = \"7mb\" }\n",
    );
    up(&project);
    let ask = |method: &str, path: &str, body: &str| send(port(&project, "main"), method, path, body);
    let (status, body) = ask("PUT", "/notes/_doc/1?refresh=true", r#"{"word":"kept apples","number":3}"#);
    assert_eq!(status, 201, "{body}");
    down(&project);
    up(&project);
    eventually("the index is open", PATIENCE, || (ask("GET", "/notes/_count", "").0 == 200).then_some(()));
    let script =
        r#"{"query":{"match":{"word":"apples"}},"script_fields":{"twice":{"script":{"source":"doc['number'].value * 2"}}}}"#;
    let (status, body) = ask("POST", "/notes/_search", script);
    assert_eq!(status, 200, "{body}");
    assert!(body.contains(r#""twice":[6]"#), "{body}");
    let (_, settings) = get(port(&project, "main"), "/_nodes/settings");
    assert!(settings.contains(r#""max_content_length":"7mb""#), "{settings}");
    assert!(get(port(&project, "main"), "/").1.contains(r#""cluster_name" : "shop""#));
    down(&project);
}

/// What the token endpoint of the realm `master` answers to a login.
fn token(project: &Project, password: &str) -> (u16, String) {
    let port = port(project, "main");
    let form = format!("grant_type=password&client_id=admin-cli&username=boss&password={password}");
    crate::more_services::send_as(
        port,
        "POST",
        "/realms/master/protocol/openid-connect/token",
        &[("Content-Type", "application/x-www-form-urlencoded")],
        &form,
    )
}

fn keycloak_keeps_its_realms_and_asks_for_its_login() {
    let Some(project) = project("keycloak", false) else { return };
    project.rewrite("[services.x]\nuse = \"keycloak\"\nport = \"auto\"\nports = { management = \"auto\" }\nuser = \"boss\"\npassword = \"odd#1\"\n");
    up(&project);
    let (status, body) = token(&project, "wrong");
    assert_eq!(status, 401, "{body}");
    let (status, body) = token(&project, "odd%231");
    assert_eq!(status, 200, "{body}");
    let answer: serde_json::Value = serde_json::from_str(&body).expect("JSON");
    let login = format!("Bearer {}", answer["access_token"].as_str().expect("a token"));
    let headers = [("Content-Type", "application/json"), ("Authorization", login.as_str())];
    let (status, body) = crate::more_services::send_as(
        port(&project, "main"),
        "POST",
        "/admin/realms",
        &headers,
        r#"{"realm":"shop","enabled":true}"#,
    );
    assert_eq!(status, 201, "{body}");
    down(&project);
    up(&project);
    let (status, body) = get(port(&project, "main"), "/realms/shop/.well-known/openid-configuration");
    assert_eq!(status, 200, "{body}");
    let (status, body) = get(port(&project, "management"), "/health/ready");
    assert_eq!(status, 200, "{body}");
    down(&project);
}
