//! `devrun mcp`, spoken to by a scripted client.

use serde_json::json;

use crate::harness::{PATIENCE, Project, eventually};
use crate::mcp_client::McpClient;
use crate::test_ports;

const STACK: &str = r#"
    [services.api]
    run = ["sh", "-c", "echo starting; echo 'ERROR: no database'; exec sleep 1000", "{token}"]
    env = { API_TOKEN = "t0psecretvalue", PLAIN = "seen" }
    [services.web]
    run = "{svc:web}"
    depends_on = ["api"]
"#;

/// Shows: mcp.
#[test]
fn every_tool_is_listed_and_answers() {
    let project = Project::new().procfile(STACK);
    let mut client = McpClient::start(project.spawn_piped(&["mcp"]));
    let tools = client.request("tools/list", json!({}));
    let names: Vec<&str> = tools["tools"].as_array().unwrap().iter().filter_map(|tool| tool["name"].as_str()).collect();
    for name in
        ["status", "up", "restart", "stop", "down", "logs", "why", "explain_failure", "query", "urls", "env", "wait", "clean"]
    {
        assert!(names.contains(&name), "{names:?}");
    }
    // With the stack down.
    assert_eq!(client.call("status", json!({}))["running"], false);
    assert!(client.call("why", json!({ "service": "api" }))["summary"].as_str().unwrap().contains("the stack is down"));

    let up = client.call("up", json!({}));
    assert_eq!((up["ok"].as_bool(), up["status"]["running"].as_bool()), (Some(true), Some(true)), "{up:#}");
    let logs = eventually("its lines", PATIENCE, || {
        let logs = client.call("logs", json!({ "service": "api" }));
        (!logs["errors"].as_array().unwrap().is_empty()).then_some(logs)
    });
    assert!(logs["errors"][0].as_str().unwrap().ends_with("api ERROR: no database"), "{logs:#}");
    let again = client.call("logs", json!({ "service": "api" }));
    assert_eq!(again["errors"], json!([]), "only what came since: {again:#}");
    let grep = client.call("logs", json!({ "service": "api", "all": true, "grep": "start" }));
    assert_eq!((grep["errors"].as_array().unwrap().len(), grep["lines"].as_array().unwrap().len()), (0, 1), "{grep:#}");

    let env = client.call("env", json!({ "service": "api" }));
    assert_eq!(env["PLAIN"], "seen");
    assert!(!env.to_string().contains("t0psecretvalue"), "{env:#}");
    assert_eq!(client.call("wait", json!({ "services": ["web"], "timeout_seconds": 30 }))["ok"], true);
    assert!(client.call("urls", json!({})).is_array());
    assert_eq!(client.call("explain_failure", json!({}))["failures"], json!([]));
    assert_eq!(client.call("restart", json!({ "services": ["web"] }))["ok"], true);
    assert_eq!(client.call("stop", json!({ "services": ["web"] }))["ok"], true);
    assert_eq!(project.service("web")["state"], "stopped");

    // No server to ask, a name that is none, a name that is an option, arguments of the wrong type.
    for (tool, arguments, said) in [
        ("query", json!({ "sql": "SELECT 1" }), "postgres"),
        ("why", json!({ "service": "nothing" }), "unknown service or task `nothing`"),
        ("stop", json!({ "services": ["--timeout=0"] }), "unknown service or task `--timeout=0`"),
        ("stop", json!({ "services": "web" }), "invalid arguments"),
    ] {
        let (answer, failed) = client.try_call(tool, arguments);
        assert!(failed && answer.to_string().to_lowercase().contains(said), "{tool}: {answer}");
    }
    let unknown = client.answer("tools/call", json!({ "name": "frobnicate", "arguments": {} }));
    assert!(unknown["error"]["message"].as_str().unwrap().contains("frobnicate"), "{unknown:#}");

    assert_eq!(client.call("down", json!({}))["ok"], true);
    // Data goes only with the text that the first call has named.
    let asked = client.call("clean", json!({}));
    assert_eq!(asked["deleted"], false, "{asked:#}");
    let confirm = asked["confirm"].as_str().expect("a text").to_owned();
    assert_eq!(client.call("clean", json!({ "confirm": "yes" }))["deleted"], false);
    assert!(project.path(".devrun/logs").exists());
    assert_eq!(client.call("clean", json!({ "confirm": confirm }))["deleted"], true);
    drop(client);
    project.nothing_left();
}

/// A port that is taken, a wrong password, a migration that fails: what an agent reads is enough to repair each.
#[test]
fn a_scripted_agent_repairs_three_faults_in_ten_calls() {
    let taken = test_ports::listener();
    let port = taken.local_addr().expect("an address").port();
    let procfile = format!(
        r#"
        [services.api]
        run = "{{svc:api}} --listen $PORT"
        port = {port}
        depends_on = ["migrate"]
        [services.login]
        run = ["sh", "-c", "[ \"$LOGIN\" = right ] || {{ echo 'FATAL: password authentication failed for user app'; exit 1; }}; exec sleep 1000", "{{token}}"]
        env = {{ LOGIN = "wrong" }}
        restart = "no"
        ready = {{ uptime = "300ms" }}
        [tasks.migrate]
        run = ["sh", "-c", "grep -q ';$' {{dir}}/001.sql || {{ echo 'ERROR: syntax error at end of 001.sql'; exit 1; }}"]
        "#
    );
    let project = Project::new().procfile(&procfile);
    project.write("001.sql", "CREATE TABLE t (id int)\n");
    let mut text = procfile;
    let mut client = McpClient::start(project.spawn_piped(&["mcp"]));
    let mut repaired = Vec::new();
    loop {
        let up = client.call("up", json!({}));
        if up["ok"] == true {
            break;
        }
        let found = client.call("explain_failure", json!({}));
        // What an agent would read, and nothing else.
        let read = format!("{} {}", up["output"].as_str().unwrap_or_default(), found);
        if read.contains("password authentication failed") && !repaired.contains(&"password") {
            text = text.replace("LOGIN = \"wrong\"", "LOGIN = \"right\"");
            project.rewrite(&text);
            repaired.push("password");
        }
        if read.contains("syntax error at end of 001.sql") && !repaired.contains(&"migration") {
            project.write("001.sql", "CREATE TABLE t (id int);\n");
            repaired.push("migration");
        }
        if read.contains(&port.to_string()) && !repaired.contains(&"port") {
            text = text.replace(&format!("port = {port}"), "port = \"auto\"");
            project.rewrite(&text);
            repaired.push("port");
        }
        assert!(client.calls < 10, "{repaired:?}: {read}");
    }
    repaired.sort_unstable();
    assert_eq!(repaired, ["migration", "password", "port"]);
    assert!(client.calls <= 10, "{}", client.calls);
    client.call("down", json!({}));
    drop(client);
    project.nothing_left();
}
