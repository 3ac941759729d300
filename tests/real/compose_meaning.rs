//! Whether two compose files mean the same, as the real tool reads them: what a service runs, waits for, is asked, may use and
//! shows. Names of build directories and of networks do not count here.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

/// Where the images of databases look for files to run at their first boot.
const FIRST_BOOT: &str = "/docker-entrypoint-initdb.d/";
/// Before the name of a variable: where the file that it names is on this machine.
const HERE: &str = "here.";

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
    let engine = service.get("image").and_then(|image| engine(image.as_str()?));
    for (name, value) in service["environment"].as_object().into_iter().flatten() {
        if let Some(path) = path_here(service, &text(value)) {
            set(&format!("{HERE}{name}"), path);
        }
        // MariaDB's image takes both names.
        let name =
            if engine.is_some_and(|engine| engine == "mariadb") { name.replace("MYSQL_", "MARIADB_") } else { name.clone() };
        set(&format!("environment.{name}"), without_usual_port(&text(value)));
    }
    if let Some(command) = service["command"].as_array() {
        let words: Vec<String> = command.iter().map(text).collect();
        set("command", if engine.is_some() { options(&words) } else { own_command(&words, service) });
    }
    let policy = service["deploy"]["restart_policy"].get("condition").map(text).map(|condition| match condition.as_str() {
        "any" => "always".to_owned(),
        "none" => "no".to_owned(),
        _ => condition,
    });
    set("restart", policy.or_else(|| service.get("restart").map(text)).unwrap_or_else(|| "no".to_owned()));
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
        set("image", image_meaning(&text(image)));
    }
    let published: BTreeSet<String> = service["ports"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|port| port.get("published").map_or_else(|| text(&port["target"]), text))
        .collect();
    // What the program listens on inside is its own affair: `$PORT` or the image's.
    published.into_iter().for_each(|port| set(&format!("ports.{port}"), "published".to_owned()));
    for config in service["configs"].as_array().into_iter().flatten() {
        set(&format!("configs.{}", text(&config["target"])), String::new());
    }
    let mounts = service["volumes"].as_array().cloned().unwrap_or_default();
    // First-boot files run in the order of their names; the names themselves say nothing.
    let mut scripts: Vec<String> =
        mounts.iter().map(|mount| text(&mount["target"])).filter(|target| target.starts_with(FIRST_BOOT)).collect();
    scripts.sort();
    for mount in &mounts {
        let target = text(&mount["target"]);
        let number = scripts.iter().position(|script| *script == target);
        let target = number.map_or(target, |number| format!("{FIRST_BOOT}{number}"));
        // From version 18 on the image of Postgres keeps its data one level up.
        let target = if engine == Some("postgres") { target.trim_end_matches("/data").to_owned() } else { target };
        set(&format!("volumes.{target}"), format!("{} {}", text(&mount["type"]), text(&mount["source"])));
    }
    out
}

/// Where the file is on this machine that a variable of an own program names: below a directory that is mounted there, or
/// relative to the directory that its image is built from.
fn path_here(service: &Value, value: &str) -> Option<String> {
    let below = |folder: &str, path: &str| {
        let path = path.trim_start_matches("./").trim_matches('/');
        if path.is_empty() { folder.to_owned() } else { format!("{}/{path}", folder.trim_end_matches('/')) }
    };
    if !value.starts_with('/') {
        return service["build"]["context"].as_str().filter(|_| !value.is_empty()).map(|context| below(context, value));
    }
    service["volumes"].as_array()?.iter().filter(|mount| mount["type"] == "bind").find_map(|mount| {
        let rest = value.strip_prefix(mount["target"].as_str()?.trim_end_matches('/'))?;
        (rest.is_empty() || rest.starts_with('/')).then_some(())?;
        Some(below(mount["source"].as_str()?, rest))
    })
}

/// `redis://cache:6379/0` is `redis://cache/0`.
fn without_usual_port(value: &str) -> String {
    const PORTS: [(&str, &str); 5] =
        [("postgresql", ":5432"), ("postgres", ":5432"), ("redis", ":6379"), ("mysql", ":3306"), ("mongodb", ":27017")];
    let Some((before, after)) = value.split_once("://") else { return value.to_owned() };
    let (authority, rest) = after.split_at(after.find(['/', '?']).unwrap_or(after.len()));
    let usual = PORTS.iter().find(|(scheme, _)| before.ends_with(scheme)).map_or("", |(_, port)| port);
    format!("{before}://{}{rest}", authority.strip_suffix(usual).unwrap_or(authority))
}

/// The engine of an image that devrun has a recipe for, from any publisher.
fn engine(image: &str) -> Option<&'static str> {
    let name = image.split('@').next()?.rsplit('/').next()?.split(':').next()?;
    match name {
        "postgres" | "postgresql" | "postgis" | "pgvector" => Some("postgres"),
        "mysql" | "mariadb" => Some("mariadb"),
        "redis" => Some("redis"),
        "valkey" => Some("valkey"),
        "minio" => Some("minio"),
        "nginx" => Some("nginx"),
        "grafana" => Some("grafana"),
        "prometheus" => Some("prometheus"),
        "ollama" => Some("ollama"),
        "zookeeper" => Some("zookeeper"),
        "alertmanager" => Some("alertmanager"),
        "node-exporter" => Some("node-exporter"),
        _ => None,
    }
}

/// Of an engine the major version counts, where one is named: `redis:7.2-alpine` and `redis:7`, `redis:alpine` and any.
fn image_meaning(image: &str) -> String {
    let plain = image.split('@').next().unwrap_or(image);
    let (name, tag) = match plain.rsplit_once(':') {
        Some((name, tag)) if !tag.contains('/') => (name, tag),
        _ => (plain, "latest"),
    };
    let Some(engine) = engine(image) else { return format!("{name}:{}", tag.split(['.', '-']).next().unwrap_or(tag)) };
    let major: String = tag.trim_start_matches('v').chars().take_while(char::is_ascii_digit).collect();
    format!("{engine}:{major}")
}

/// The command of an own program. Where it lies differs between a container and a checkout, so of a path the last part counts; and what it
/// listens on follows the port that is published.
fn own_command(words: &[String], service: &Value) -> String {
    let short = |word: &str| {
        let is_path = word.starts_with(['/', '.']) || !word.contains(':');
        if is_path { word.rsplit('/').next().unwrap_or(word).to_owned() } else { word.to_owned() }
    };
    // A script's words count one by one.
    let mut text: String = words
        .iter()
        .map(|line| line.split_inclusive(char::is_whitespace).map(short).collect::<String>())
        .collect::<Vec<_>>()
        .join("\u{0}");
    for port in service["ports"].as_array().into_iter().flatten() {
        if let (Some(inside), Some(outside)) = (port["target"].as_u64(), port["published"].as_str()) {
            text = text.replace(&format!("={inside}"), &format!("={outside}"));
        }
    }
    text
}

/// Options of an engine in any order and spelling: `--binlog-format=ROW`, `--save 60 1`, `-c fsync=off`.
fn options(words: &[String]) -> String {
    let mut all: Vec<String> = Vec::new();
    for word in words {
        let is_option = word.starts_with('-');
        let joined = all.last().is_some_and(|last| last.starts_with('-') && !last.contains('='));
        match all.last_mut() {
            Some(last) if !is_option && joined => {
                last.push(' ');
                last.push_str(word);
            }
            _ if is_option => {
                let (name, value) = word.split_once('=').map_or((word.as_str(), None), |(name, value)| (name, Some(value)));
                let name = format!("--{}", name.trim_start_matches('-').replace('-', "_"));
                all.push(value.map_or_else(|| name.clone(), |value| format!("{name}={value}")));
            }
            // The program itself.
            _ => {}
        }
    }
    all.sort();
    all.join("\u{0}")
}

/// Whether a line is about a key of a service, or about the service as a whole. `web, worker.volumes: …` is about two.
fn is_about(line: &str, name: &str, key: &str) -> bool {
    let Some(subject) = [": mapped: ", ": dropped: ", ": not mapped: ", "not exported: ", "by hand: "]
        .into_iter()
        .find_map(|kind| line.split_once(kind).map(|(_, rest)| rest).or_else(|| line.strip_prefix(kind)))
    else {
        return false;
    };
    if let Some(listeners) = subject.strip_prefix("the program must listen on $PORT: ") {
        // The port that it is known by stays, and what it listens on follows it.
        return key.starts_with("ports") && listeners.split(", ").any(|one| one.split(' ').next() == Some(name));
    }
    let subject = subject.split(": ").next().unwrap_or_default();
    let subject = subject.trim_start_matches("services.").trim_start_matches("tasks.");
    let names: Vec<&str> = subject.split(", ").collect();
    let Some((last, others)) = names.split_last() else { return false };
    let (last, of_key) = last.split_once('.').unwrap_or((last, ""));
    let same = |one: &&str| one.eq_ignore_ascii_case(name);
    let (of_key, of_variable) = of_key.split_once('.').unwrap_or((of_key, ""));
    let (key, variable) = key.split_once('.').unwrap_or((key, ""));
    // What runs is `command` in one file and `run` in the other; what is mounted, `files`; what is asked, `ready`.
    let of_key = match of_key {
        "run" => "command",
        "files" => "volumes",
        "ready" => "healthcheck",
        other => other,
    };
    // A line about one variable says nothing of the others.
    let plain = |name: &str| name.replace("MYSQL_", "MARIADB_");
    let is_same = key != "environment" || of_variable.is_empty() || plain(of_variable) == plain(variable);
    (same(&last) || others.iter().any(same)) && (of_key.is_empty() || of_key == key && is_same)
}

/// What `after` has not, or has otherwise; further keys of it are what devrun says more precisely. `told` are the lines that
/// import and export printed: a difference with a line about that key of that service, or about the service, is none.
pub fn differences(before: &BTreeMap<String, Meaning>, after: &BTreeMap<String, Meaning>, said: &str) -> Vec<String> {
    let mut out = Vec::new();
    let is_broker = |service: &Meaning| service.get("image").is_some_and(|image| image.starts_with("apache/kafka:"));
    let brokers: Vec<&str> = after.iter().filter(|(_, one)| is_broker(one)).map(|(name, _)| name.as_str()).collect();
    for (name, service) in before {
        let is_told = |key: &str| {
            // What an image of a language or a system ran is run natively then: by the project's own files.
            let native = matches!(key, "image" | "command")
                && said.lines().any(|line| line.contains("runs natively") && is_about(line, name, "image"));
            native || said.lines().filter(|line| !line.contains(": mapped: ")).any(|line| is_about(line, name, key))
        };
        let Some(then) = after.get(name) else {
            if !is_told("") {
                out.push(format!("{name} is gone"));
            }
            continue;
        };
        for (key, value) in service {
            let other = then.get(key);
            let means_any =
                key == "image" && value.ends_with(':') && other.is_some_and(|other| other.starts_with(value.as_str()));
            // A mounted configuration, whole or as a directory, may come as a config with its text.
            let is_config = key.strip_prefix("volumes.").is_some_and(|target| {
                value.starts_with("bind")
                    && then.keys().filter_map(|key| key.strip_prefix("configs.")).any(|at| {
                        // The parts of a nginx configuration become one file.
                        at.starts_with(target) || target.starts_with("/etc/nginx/") && at == "/etc/nginx/nginx.conf"
                    })
            });
            let is_elsewhere = is_elsewhere(service, then, (key, value), is_told("image"), &brokers);
            // A service that was left out is waited for by no other one.
            let is_of_one_left_out =
                key.strip_prefix("depends_on.").is_some_and(|on| !after.contains_key(&on.to_ascii_lowercase()));
            if other != Some(value)
                && !means_any
                && !is_config
                && !key.starts_with("configs.")
                && !key.starts_with(HERE)
                && !is_elsewhere
                && !is_of_one_left_out
                && !is_told(key)
            {
                out.push(format!("{name}.{key}: {value:?} became {other:?}"));
            }
        }
    }
    out
}

/// Whether a value stands under another name in `after`, or in other words, and means the same there. `is_other_image`: a line
/// names the image that took the place of the service's own. `brokers`: the Kafkas, each of which has one listener.
fn is_elsewhere(before: &Meaning, after: &Meaning, (key, value): (&str, &str), is_other_image: bool, brokers: &[&str]) -> bool {
    let Some(name) = key.strip_prefix("environment.") else {
        // Another image keeps its data in another directory: the volume is what counts.
        return key.starts_with("volumes.")
            && value.starts_with("volume ")
            && is_other_image
            && after.iter().any(|(key, other)| key.starts_with("volumes.") && other == value);
    };
    let here = |of: &Meaning| of.get(&format!("{HERE}{name}")).cloned();
    if here(before).is_some() && here(before) == here(after) {
        return true;
    }
    let has = |name: &str, value: &str| {
        let other = after.get(&format!("environment.{name}"));
        other.is_some_and(|other| without_listeners(other, brokers) == without_listeners(value, brokers))
    };
    let image = after.get("image").map(String::as_str).unwrap_or_default();
    if name == "KAFKA_CONNECT_CONFIGURATION" {
        // A line of it is a variable of the other image.
        let variable = |key: &str| key.trim().replace('.', "_").to_ascii_uppercase();
        return value
            .lines()
            .filter_map(|line| line.split_once('='))
            .all(|(key, value)| has(&variable(key), value.trim()) || has(&format!("CONNECT_{}", variable(key)), value.trim()));
    }
    has(name, value) || other_name(image, name).is_some_and(|name| has(&name, value))
}

/// What an image calls a variable that another one, or an older one, calls `name`.
fn other_name(image: &str, name: &str) -> Option<String> {
    let image = image.rsplit_once(':').map_or(image, |(name, _)| name);
    let image = image.rsplit_once('/').map_or(image, |(_, last)| last);
    Some(match (image, name.split_once('_')?) {
        ("mariadb", ("MYSQL", rest)) => format!("MARIADB_{rest}"),
        // Its entry point makes the one of the other.
        ("connect", ("CONNECT", rest)) => rest.to_owned(),
        ("connect", ("KAFKA", rest)) => rest.strip_prefix("CONNECT_")?.to_owned(),
        ("keycloak", ("KEYCLOAK", "ADMIN" | "USER")) => "KC_BOOTSTRAP_ADMIN_USERNAME".to_owned(),
        ("keycloak", ("KEYCLOAK", "ADMIN_PASSWORD" | "PASSWORD")) => "KC_BOOTSTRAP_ADMIN_PASSWORD".to_owned(),
        ("zookeeper", ("ZOOKEEPER", rest)) => format!("ZOO_{rest}"),
        ("opensearch", ("ES", "JAVA_OPTS")) => "OPENSEARCH_JAVA_OPTS".to_owned(),
        _ => return None,
    })
}

/// A text without the ports of brokers: which of several listeners of one broker is meant.
fn without_listeners(text: &str, brokers: &[&str]) -> String {
    brokers.iter().fold(text.to_owned(), |text, broker| {
        let with_colon = format!("{broker}:");
        let mut parts = text.split(&with_colon);
        let first = parts.next().unwrap_or_default().to_owned();
        parts.fold(first, |before, rest| before + broker + rest.trim_start_matches(|char: char| char.is_ascii_digit()))
    })
}
