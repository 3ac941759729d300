//! Keys and values that people bring along from compose files and other tools, and what they are called here.

use super::schema::TableKind;
use super::toml_node::{TomlNode, TomlValue};
use devrun_model::suggest;

/// Keys of a service, with what to write in their place.
const OF_SERVICES: &[(&str, &str)] = &[
    ("configs", "files are used where they are, and `render` fills templates in: leave it out"),
    ("container_name", "containers are not used: a service is called by its name in [services.NAME]; remove it"),
    ("cpus", "write limits = { cpu = 1.0 }"),
    ("deploy", "write replicas = 2, limits = { cpu = 1.0, memory = \"512M\" } and restart = \"on-failure\""),
    ("expose", "did you mean `port`?"),
    (
        "extends",
        "services take nothing over from each other: env_from = \"api\" takes its variables; several files are merged with -f",
    ),
    ("extra_hosts", "names are those of this machine: leave it out, or add them to /etc/hosts"),
    ("health", PROBE),
    ("gpus", "services use the devices of this machine: leave it out"),
    ("group_add", "write user_id = \"USER:GROUP\", as root, or leave it out"),
    ("healthcheck", PROBE),
    ("hostname", "every service is reached on this machine: ${api.host}; leave it out"),
    ("instances", "did you mean `replicas`?"),
    ("labels", "write description = \"…\" and links = { Docs = \"/docs\" } for the table of addresses, or leave it out"),
    ("liveness_probe", "the liveness probe is `alive`"),
    ("logging", "did you mean `log`?"),
    ("mem_limit", "write limits = { memory = \"512M\" }"),
    ("memory", "write limits = { memory = \"512M\" }"),
    ("network_mode", "every service is on this machine's network: leave it out"),
    ("networks", "every service is on this machine's network and reached as ${db.host}:${db.port}: leave it out"),
    ("pids_limit", "write limits = { pids = 100 }"),
    ("platform", "services run on this machine: leave it out"),
    ("privileged", "services run as an ordinary process: leave it out"),
    ("probe", PROBE),
    ("processes", "did you mean `replicas`?"),
    ("pull_policy", "images are not used: leave it out"),
    ("readiness_probe", PROBE),
    ("cap_add", RIGHTS),
    ("cap_drop", RIGHTS),
    ("devices", "services use the devices of this machine: leave it out"),
    ("security_opt", RIGHTS),
    ("shm_size", "shared memory is that of this machine: leave it out"),
    ("sysctls", "the kernel's settings are those of this machine: leave it out, or sudo sysctl"),
    ("scale", "did you mean `replicas`?"),
    ("secrets", "generated secrets stand in [secrets]: generate = [\"db-password\"], and are read as ${secret.db-password}"),
    ("stdin_open", "did you mean `tty`?"),
    ("stop_grace_period", "write stop = { grace = \"10s\" }"),
    ("stop_signal", "write stop = { signal = \"TERM\" }"),
    ("tmpfs", "write [volumes.NAME] class = \"scratch\" and volumes = [\"NAME\"]"),
    ("ulimits", "write limits = { nofile = 65536 }"),
    ("user", "did you mean `user_id`?"),
];

/// Keys of a service or a task.
const OF_BOTH: &[(&str, &str)] = &[
    ("cmd", COMMAND),
    ("command", COMMAND),
    ("cwd", "did you mean `dir`?"),
    ("directory", "did you mean `dir`?"),
    ("entrypoint", COMMAND),
    ("environment", "did you mean `env`?"),
    ("exec", COMMAND),
    ("start", COMMAND),
    ("workdir", "did you mean `dir`?"),
    ("working_dir", "did you mean `dir`?"),
];

const RIGHTS: &str = "services have your own rights: leave it out";
const COMMAND: &str = "the command stands in `run`: run = \"…\"";
const PROBE: &str = "the probe is `ready`: ready = { http = \"/health\" }";

fn known(place: TableKind) -> impl Iterator<Item = &'static (&'static str, &'static str)> {
    let services: &[_] = if place == TableKind::Service { OF_SERVICES } else { &[] };
    let both: &[_] = if matches!(place, TableKind::Service | TableKind::Task) { OF_BOTH } else { &[] };
    services.iter().chain(both)
}

/// What to write in the place of such a key.
pub(crate) fn key(name: &str, place: TableKind) -> Option<&'static str> {
    match (place, name) {
        (TableKind::Ready, "test") => Some("a command that must exit 0 is `cmd`"),
        // Of Kubernetes, Consul and others.
        (TableKind::Ready, "every" | "period" | "period_seconds") => Some("did you mean `interval`?"),
        (TableKind::Ready, "delay" | "initial_delay" | "initial_delay_seconds") => Some("did you mean `start_period`?"),
        (TableKind::Ready, "timeout_seconds") => Some("did you mean `timeout`?"),
        (TableKind::Ready, "failure_threshold") => Some("did you mean `retries`?"),
        // Too short for a key that is nearly one of them.
        (TableKind::Service, "dns" | "ipc" | "pid") => {
            Some("services share the names, processes and network of this machine: leave it out")
        }
        (TableKind::Root, "service") => Some("did you mean `services`?"),
        (TableKind::Root, "version") => Some("a procfile has no version: leave it out"),
        (TableKind::Root, "include" | "extends") => {
            Some("further files are named on the command line: devrun -f procfile.toml -f FILE up")
        }
        (TableKind::Root, "configs") => Some("files are used where they are, and `render` fills templates in: leave it out"),
        (TableKind::Root, "processes") => Some("did you mean `services`?"),
        (TableKind::Volume, "driver" | "driver_opts" | "external" | "labels" | "name") => {
            Some("a volume is a directory of this machine: write path = \"./data\", or leave it out")
        }
        (TableKind::Root, "name") => Some("the project's name stands in [project]: name = \"…\""),
        (TableKind::Root, "networks") => Some("every service is on this machine's network: leave it out"),
        _ => known(place).find(|(key, _)| *key == name).map(|(_, help)| *help),
    }
}

/// The same for a key that is nearly one of them.
pub(crate) fn misspelt(name: &str, place: TableKind) -> Option<&'static str> {
    let near = suggest::nearest(name, known(place).map(|(key, _)| *key))?;
    key(near, place)
}

/// What to write in the place of a value of the wrong shape, where compose has it so.
pub(crate) fn value(path: &str, node: &TomlNode) -> Option<String> {
    let (before, key) = path.rsplit_once('.')?;
    if !before.starts_with("services.") {
        return None;
    }
    match (key, &node.value) {
        ("port", TomlValue::Text(text)) => published(text).map(|port| format!("only the number on this machine: port = {port}")),
        ("ports", TomlValue::Array(elements)) => {
            let port = elements.first().and_then(|first| published(&first.scalar()?)).unwrap_or(8080);
            Some(format!("the main port is `port = {port}`; further ones have names: ports = {{ metrics = 9100 }}"))
        }
        ("build", TomlValue::Table(_)) => Some(BUILD.to_owned()),
        ("restart", TomlValue::Bool(true)) => Some("write restart = \"on-failure\", or \"always\"".to_owned()),
        ("restart", TomlValue::Bool(false)) => Some("write restart = \"no\"".to_owned()),
        _ => None,
    }
}

const BUILD: &str = "nothing is built from a Dockerfile: write the command, as build = \"npm install\", or leave it out";

/// `build = "."`, which is a directory for compose and a command here.
pub(crate) fn build_context(place: TableKind, name: &str, node: &TomlNode) -> Option<&'static str> {
    let is_directory = |text: &str| matches!(text.trim_end_matches('/'), "." | "..");
    (place == TableKind::Service && name == "build" && node.text().is_some_and(is_directory)).then_some(BUILD)
}

/// The port on this machine of `8080:80`, `127.0.0.1:8080:80`, `80/tcp` and the like.
fn published(text: &str) -> Option<u16> {
    let text = text.split('/').next()?;
    let mut parts = text.rsplit(':');
    let last = parts.next()?;
    parts.next().unwrap_or(last).parse().ok()
}

#[cfg(test)]
mod tests {
    use super::super::source_map::Span;
    use super::*;

    #[test]
    fn the_port_on_this_machine() {
        for (text, port) in [("8080:80", Some(8080)), ("127.0.0.1:8080:80", Some(8080)), ("80/tcp", Some(80)), ("auto", None)] {
            assert_eq!(published(text), port, "{text}");
        }
    }

    #[test]
    fn restart_takes_words() {
        for (value, word) in [(true, "\"on-failure\""), (false, "\"no\"")] {
            let span = Span { file: 0, start: 0, end: 0 };
            let node = TomlNode { span, key: span, value: TomlValue::Bool(value) };
            assert!(super::value("services.a.restart", &node).is_some_and(|help| help.contains(word)), "{value}");
        }
    }

    #[test]
    fn a_misspelt_word_of_compose_is_answered_as_the_word() {
        assert_eq!(misspelt("comand", TableKind::Service), Some(COMMAND));
        assert_eq!(misspelt("image", TableKind::Task), None, "a task has none");
        assert!(key("version", TableKind::Root).is_some_and(|help| help.contains("leave it out")));
        assert!(key("driver", TableKind::Volume).is_some() && key("security_opt", TableKind::Service).is_some());
    }
}
