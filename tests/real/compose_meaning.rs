//! Whether two compose files mean the same, as the real tool reads them: what a service runs, waits for, is asked, may use and
//! shows. Names of build directories and of networks do not count here.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

/// One service, key by key, each as text.
pub type Meaning = BTreeMap<String, String>;

/// Every service of a resolved file.
pub fn meaning(config: &Value) -> BTreeMap<String, Meaning> {
    let services = config["services"].as_object().cloned().unwrap_or_default();
    services.iter().map(|(name, service)| (name.to_ascii_lowercase(), of_service(service))).collect()
}

fn of_service(service: &Value) -> Meaning {
    let mut out = Meaning::new();
    let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let mut set = |key: &str, value: String| {
        out.insert(key.to_owned(), value);
    };
    for (on, edge) in service["depends_on"].as_object().into_iter().flatten() {
        let required = edge["required"].as_bool().unwrap_or(true);
        let restart = edge["restart"].as_bool().unwrap_or(false);
        set(&format!("depends_on.{on}"), format!("{} required={required} restart={restart}", text(&edge["condition"])));
    }
    for key in ["interval", "timeout", "retries", "start_period"] {
        if let Some(value) = service["healthcheck"].get(key) {
            set(&format!("healthcheck.{key}"), text(value));
        }
    }
    for (name, value) in service["environment"].as_object().into_iter().flatten() {
        set(&format!("environment.{name}"), text(value));
    }
    if let Some(command) = service["command"].as_array() {
        set("command", command.iter().map(text).collect::<Vec<_>>().join("\u{0}"));
    }
    set("restart", service.get("restart").map_or_else(|| "no".to_owned(), text));
    let profiles: BTreeSet<String> = service["profiles"].as_array().into_iter().flatten().map(text).collect();
    set("profiles", format!("{profiles:?}"));
    let deploy = &service["deploy"];
    let replicas = deploy.get("replicas").or_else(|| service.get("scale")).map_or_else(|| "1".to_owned(), text);
    set("deploy.replicas", replicas);
    for (kind, amounts) in deploy["resources"].as_object().into_iter().flatten() {
        for (amount, value) in amounts.as_object().into_iter().flatten() {
            set(&format!("deploy.resources.{kind}.{amount}"), text(value));
        }
    }
    for key in ["stop_grace_period", "stop_signal"] {
        if let Some(value) = service.get(key) {
            set(key, text(value));
        }
    }
    if let Some(image) = service.get("image") {
        // Of an engine the major version counts: `redis:7.2-alpine` and `redis:7`.
        let image = text(image);
        let (name, tag) = image.rsplit_once(':').unwrap_or((&image, "latest"));
        set("image", format!("{name}:{}", tag.split(['.', '-']).next().unwrap_or(tag)));
    }
    for port in service["ports"].as_array().into_iter().flatten() {
        set(&format!("ports.{}", port["target"]), port.get("published").map_or_else(String::new, text));
    }
    for mount in service["volumes"].as_array().into_iter().flatten() {
        set(&format!("volumes.{}", text(&mount["target"])), format!("{} {}", text(&mount["type"]), text(&mount["source"])));
    }
    out
}

/// What `after` has not, or has otherwise; further keys of it are what devrun says more precisely. `told` are the lines that
/// import and export printed: a difference with a line about that key of that service, or about the service, is none.
pub fn differences(before: &BTreeMap<String, Meaning>, after: &BTreeMap<String, Meaning>, told: &str) -> Vec<String> {
    let mut out = Vec::new();
    for (name, service) in before {
        let is_told = |key: &str| {
            let key = key.split('.').next().unwrap_or(key);
            let about = [format!("services.{name}.{key}"), format!("services.{name}: "), format!("tasks.{name}: ")];
            told.lines().filter(|line| !line.contains(": mapped: ")).any(|line| about.iter().any(|about| line.contains(about)))
        };
        let Some(then) = after.get(name) else {
            if !is_told("") {
                out.push(format!("{name} is gone"));
            }
            continue;
        };
        for (key, value) in service {
            let other = then.get(key);
            if other != Some(value) && !is_told(key) {
                out.push(format!("{name}.{key}: {value:?} became {other:?}"));
            }
        }
    }
    out
}
