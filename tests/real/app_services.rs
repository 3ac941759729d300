//! Recipes of what stands in front of servers, and of finished applications, with their real servers: pools, broken networks, time
//! series, pages. They come from Debian, npm, PyPI and Go's modules, and run where they were fetched.

use std::time::Duration;

use crate::harness::eventually;
use crate::more_services::{send, send_as};
use crate::services::{down, get, is_there, port, project, up};

trials![
    pgbouncer_passes_queries_on_and_asks_for_the_password,
    toxiproxy_cuts_a_connection,
    influxdb_keeps_its_points,
    moto_has_tables_of_dynamodb,
    changedetection_shows_its_list,
    ghost_keeps_its_site,
    n8n_keeps_its_owner,
];

/// Starts on a busy machine.
const LONG: Duration = Duration::from_secs(120);

fn pgbouncer_passes_queries_on_and_asks_for_the_password() {
    let Some(project) = project("pgbouncer", false) else { return };
    if !is_there("postgres@16") {
        crate::harness::skipped("a Postgres 16 is absent; scripts/real-services fetches it");
        return;
    }
    project.rewrite(
        "[services.db]\nuse = \"postgres@16\"\nport = \"auto\"\nuser = \"app\"\npassword = \"p w\"\ndatabase = \"shop\"\n\
         [services.x]\nuse = \"pgbouncer\"\nport = \"auto\"\nuser = \"app\"\npassword = \"p w\"\ndepends_on = [\"db\"]\n\
         set = { host = \"${db.host}\", port = \"${db.port}\" }\n\
         [tasks.ask]\nrun = [\"sh\", \"-c\", \"psql -Atc 'select 40 + 2' > answer\"]\ndepends_on = [\"x\"]\n\
         env = { PGHOST = \"${x.host}\", PGPORT = \"${x.port}\", PGUSER = \"app\", PGDATABASE = \"shop\", PGPASSWORD = \"p w\" }\n",
    );
    if !crate::installed("psql") {
        crate::harness::skipped("psql is absent");
        return;
    }
    for _ in 0..2 {
        up(&project);
        assert_eq!(project.read("answer").trim(), "42");
        let ran = std::process::Command::new("psql")
            .args(["-h", "127.0.0.1", "-p", &port(&project, "main").to_string(), "-U", "app", "-d", "shop", "-Atc", "select 1"])
            .env("PGPASSWORD", "wrong")
            .output()
            .expect("psql starts");
        assert!(!ran.status.success(), "a wrong password is refused");
        down(&project);
    }
}

fn toxiproxy_cuts_a_connection() {
    let Some(project) = project("toxiproxy", false) else { return };
    project.rewrite("[services.x]\nuse = \"toxiproxy\"\nport = \"auto\"\n");
    for _ in 0..2 {
        up(&project);
        let own = port(&project, "main");
        // A proxy in front of its own interface, on any free port.
        let proxy = format!(r#"{{"name":"own","listen":"127.0.0.1:0","upstream":"127.0.0.1:{own}"}}"#);
        let (status, body) = send(own, "POST", "/proxies", &proxy);
        assert_eq!(status, 201, "{body}");
        let listens: serde_json::Value = serde_json::from_str(&body).expect("JSON");
        let through = listens["listen"].as_str().and_then(|at| at.rsplit(':').next()?.parse().ok()).expect("a port");
        assert_eq!(get(through, "/version").0, 200);
        let (status, body) = send(own, "POST", "/proxies/own", r#"{"enabled":false}"#);
        assert_eq!(status, 200, "{body}");
        assert!(std::net::TcpStream::connect(("127.0.0.1", through)).is_err(), "the way is cut");
        down(&project);
    }
}

fn influxdb_keeps_its_points() {
    let Some(project) = project("influxdb", false) else { return };
    project.rewrite("[services.x]\nuse = \"influxdb\"\nport = \"auto\"\nports = { backup = \"auto\" }\n");
    up(&project);
    let (status, body) = send(port(&project, "main"), "POST", "/query?q=create%20database%20shop", "");
    assert_eq!(status, 200, "{body}");
    let (status, body) = send(port(&project, "main"), "POST", "/write?db=shop", "orders,word=kept value=42");
    assert_eq!(status, 204, "{body}");
    down(&project);
    up(&project);
    eventually("the point is there", LONG, || {
        let (_, body) = get(port(&project, "main"), "/query?db=shop&q=select%20value%20from%20orders");
        body.contains(",42]").then_some(())
    });
    down(&project);
}

fn moto_has_tables_of_dynamodb() {
    let Some(project) = project("moto", false) else { return };
    project.rewrite("[services.x]\nuse = \"moto\"\nport = \"auto\"\n");
    let signed = "AWS4-HMAC-SHA256 Credential=test/20260101/us-east-1/dynamodb/aws4_request, SignedHeaders=host, Signature=0";
    for _ in 0..2 {
        up(&project);
        let asks = |action: &str, body: &str| {
            let headers = [
                ("X-Amz-Target", format!("DynamoDB_20120810.{action}")),
                ("Authorization", signed.to_owned()),
                ("Content-Type", "application/x-amz-json-1.0".to_owned()),
            ];
            let headers: Vec<(&str, &str)> = headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
            send_as(port(&project, "main"), "POST", "/", &headers, body)
        };
        let table = r#"{"TableName":"orders","BillingMode":"PAY_PER_REQUEST","AttributeDefinitions":[{"AttributeName":"id","AttributeType":"S"}],"KeySchema":[{"AttributeName":"id","KeyType":"HASH"}]}"#;
        let (status, body) = asks("CreateTable", table);
        assert_eq!(status, 200, "{body}");
        let (_, body) = asks("ListTables", "{}");
        assert!(body.contains(r#""orders""#), "{body}");
        down(&project);
    }
}

fn changedetection_shows_its_list() {
    let Some(project) = project("changedetection", false) else { return };
    project.rewrite("[services.x]\nuse = \"changedetection\"\nport = \"auto\"\n");
    for _ in 0..2 {
        up(&project);
        let (status, body) = get(port(&project, "main"), "/");
        assert_eq!(status, 200, "{body}");
        assert!(body.contains("<title>Change Detection"), "{body}");
        down(&project);
    }
}

fn ghost_keeps_its_site() {
    let Some(project) = project("ghost", false) else { return };
    project.rewrite("[services.x]\nuse = \"ghost\"\nport = \"auto\"\n");
    up(&project);
    let setup =
        r#"{"setup":[{"name":"Boss","email":"boss@shop.example","password":"correct horse battery","blogTitle":"kept"}]}"#;
    let (status, body) = send(port(&project, "main"), "POST", "/ghost/api/admin/authentication/setup/", setup);
    assert_eq!(status, 201, "{body}");
    down(&project);
    up(&project);
    assert!(get(port(&project, "main"), "/ghost/api/admin/site/").1.contains("\"title\":\"kept\""));
    down(&project);
}

fn n8n_keeps_its_owner() {
    let Some(project) = project("n8n", false) else { return };
    project.rewrite("[services.x]\nuse = \"n8n\"\nport = \"auto\"\nports = { broker = \"auto\" }\n");
    let settings = |project: &crate::harness::Project| get(port(project, "main"), "/rest/settings").1;
    up(&project);
    assert!(settings(&project).contains("\"showSetupOnFirstLoad\":true"));
    let owner = r#"{"email":"boss@shop.example","firstName":"B","lastName":"Oss","password":"Correct8horse"}"#;
    let (status, body) = send(port(&project, "main"), "POST", "/rest/owner/setup", owner);
    assert_eq!(status, 200, "{body}");
    down(&project);
    up(&project);
    assert!(settings(&project).contains("\"showSetupOnFirstLoad\":false"));
    down(&project);
}
