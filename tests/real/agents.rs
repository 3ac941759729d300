//! An agent at a stack with a real database.

use std::path::Path;

use serde_json::json;

use crate::harness::{Project, figures, skipped};
use crate::mcp_client::McpClient;
use crate::test_ports;

trials![a_scripted_agent_repairs_a_database_stack_in_ten_calls];

/// The port is taken, the migration is cut off, the password is another one.
fn stack(port: u16) -> String {
    format!(
        r#"
[project]
name = "shop"
[services.db]
use = "postgres"
port = "auto"
user = "app"
database = "app"
migrations = "migrations"
[services.api]
run = ["sh", "-c", "psql -X -q -c 'select count(*) from orders' \"$DATABASE_URL\" && exec {{svc:api}} --listen $PORT"]
port = {port}
env = {{ DATABASE_URL = "postgres://app:outdated@127.0.0.1:${{db.port}}/app" }}
depends_on = ["db"]
restart = "no"
"#
    )
}

/// It reads what the tools answer, and nothing else.
fn a_scripted_agent_repairs_a_database_stack_in_ten_calls() {
    if !crate::case_init::postgres() || !Path::new("/usr/bin/psql").exists() {
        return skipped("no Postgres is installed");
    }
    let taken = test_ports::listener();
    let port = taken.local_addr().expect("an address").port();
    let mut text = stack(port);
    let project = Project::new().procfile(&text);
    project.write("migrations/001_orders.sql", "create tabel orders (id serial primary key);\n");
    let mut client = McpClient::start(project.spawn_piped(&["mcp"]));
    let mut repaired = Vec::new();
    loop {
        let up = client.call("up", json!({}));
        if up["ok"] == true {
            break;
        }
        let read = format!("{} {}", up["output"].as_str().unwrap_or_default(), client.call("explain_failure", json!({})));
        if read.contains("password authentication failed") && read.contains("api") && !repaired.contains(&"password") {
            text = text.replace("postgres://app:outdated@127.0.0.1:${db.port}/app", "${db.url}");
            repaired.push("password");
        } else if read.contains("001_orders.sql") && read.contains("syntax error") && !repaired.contains(&"migration") {
            project.write("migrations/001_orders.sql", "create table orders (id serial primary key);\n");
            repaired.push("migration");
        } else if read.contains(&port.to_string()) && read.contains("is held by") && !repaired.contains(&"port") {
            text = text.replace(&format!("port = {port}"), "port = \"auto\"");
            repaired.push("port");
        } else {
            panic!("after {repaired:?} this names no fault to repair: {read}");
        }
        project.rewrite(&text);
        assert!(client.calls < 10, "{repaired:?}: {read}");
    }
    figures(&format!("repaired {repaired:?} in {} calls", client.calls));
    assert_eq!(repaired.len(), 3, "{repaired:?}");
    assert!(client.calls <= 10, "{}", client.calls);
    client.call("down", json!({}));
    drop(client);
    project.nothing_left();
}
