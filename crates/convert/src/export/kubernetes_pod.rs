//! The pod of a workload: its container, what must be there first as init containers, its probes and its files.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::time::Duration;

use devrun_model::Condition;
use devrun_model::secret_name::is_secret;
use devrun_model::service::Limits;

use super::health::shell_quote;
use super::losses::Losses;
use super::references::{ExportSource, shout, strict_name};
use super::stack::{Health, MountSource, Origin, Probe, Stack, Workload};
use super::template::{ExportText, Piece, PlaceholderOperator};
use super::yaml::Yaml;
use toml::Value;

/// Waits for ports.
const WAIT_IMAGE: &str = "busybox:1.36";
/// Waits for Jobs.
const KUBECTL_IMAGE: &str = "registry.k8s.io/kubectl:v1.32.0";
/// The most that a ConfigMap holds.
const LARGEST_FILE: usize = 900_000;

/// What pods are made of.
pub(crate) struct PodSource<'a> {
    source: &'a ExportSource<'a>,
    stack: &'a Stack,
    project: &'a str,
    /// Keys of the Secret, and the option of `kubectl create secret` that fills one.
    secrets: RefCell<BTreeMap<String, String>>,
}

/// What a pod needs of the objects around it.
pub(crate) struct Pod {
    pub template: Yaml,
    pub ports: Vec<(String, u16)>,
    /// Of its ConfigMap.
    pub files: Vec<(String, String)>,
    pub waits_for_jobs: bool,
}

impl<'a> PodSource<'a> {
    pub(crate) fn new(source: &'a ExportSource<'a>, stack: &'a Stack, project: &'a str) -> Self {
        Self { source, stack, project, secrets: RefCell::default() }
    }
    pub(crate) fn secret_keys(&self) -> BTreeMap<String, String> {
        self.secrets.borrow().clone()
    }
    fn secret(&self, name: &str) -> String {
        let file = self.source.secret_file(name);
        let file = file.strip_prefix(&self.source.plan.root).map_or_else(|_| file.clone(), std::path::Path::to_path_buf);
        self.secrets.borrow_mut().entry(name.to_owned()).or_insert_with(|| format!("file=KEY={}", file.display()));
        name.to_owned()
    }
    /// Variables whose names say that their values are secret become keys of the Secret; all others are filled in now.
    fn fixed(&self, text: &ExportText, key: &str, losses: &mut Losses) -> ExportText {
        let mut out = ExportText::default();
        for piece in &text.0 {
            match piece {
                Piece::Variable(name, _) if is_secret(name) => {
                    let entry = strict_name(name);
                    self.secrets.borrow_mut().entry(entry.clone()).or_insert_with(|| format!("literal=KEY=\"${name}\""));
                    out.push(Piece::Secret(entry));
                }
                Piece::Variable(name, operator) => {
                    let value = (self.source.variable)(name);
                    let given = |empty: bool| value.clone().filter(|value| !(empty && value.is_empty()));
                    match operator {
                        PlaceholderOperator::None | PlaceholderOperator::Required(..) => match value {
                            Some(value) => out.push(Piece::Literal(value)),
                            None => losses.add(key, format!("the variable {name} is not set; set it and export again")),
                        },
                        PlaceholderOperator::Default(empty, word) => match given(*empty) {
                            Some(value) => out.push(Piece::Literal(value)),
                            None => out.append(self.fixed(word, key, losses)),
                        },
                        PlaceholderOperator::Alternative(empty, word) => {
                            if given(*empty).is_some() {
                                out.append(self.fixed(word, key, losses));
                            }
                        }
                    }
                }
                piece => out.push(piece.clone()),
            }
        }
        out
    }
    fn literal(&self, text: &ExportText, key: &str, losses: &mut Losses) -> String {
        let fixed = self.fixed(text, key, losses);
        if !fixed.secrets().is_empty() {
            losses.add(key, "a secret cannot stand here; pass it in a variable");
        }
        let lookup = |_: &str| None;
        fixed.resolve(&lookup, &|_| String::new()).unwrap_or_default()
    }
    fn number(&self, text: &ExportText, key: &str, losses: &mut Losses) -> Option<u16> {
        self.literal(text, key, losses).trim().parse().ok()
    }
}

/// The variable by which a secret gets into a command or another variable.
fn secret_variable(name: &str) -> String {
    format!("DEVRUN_SECRET_{}", shout(name))
}

/// Literal text where Kubernetes expands `$(NAME)`.
fn expanded(text: &ExportText) -> String {
    let piece = |piece: &Piece| match piece {
        Piece::Literal(text) => text.replace("$(", "$$("),
        Piece::Secret(name) => format!("$({})", secret_variable(name)),
        Piece::Variable(..) => String::new(),
    };
    text.0.iter().map(piece).collect()
}

/// Makes a workload's pod.
pub(crate) fn pod(source: &PodSource<'_>, workload: &Workload, losses: &mut Losses) -> Pod {
    let path = format!("{}.{}", if workload.is_task { "tasks" } else { "services" }, workload.name);
    let name = strict_name(&workload.name);
    let mut container: Vec<(&str, Yaml)> = vec![("name", Yaml::text(&name))];
    let image = match &workload.origin {
        Origin::ContainerImage(image) => source.literal(image, &path, losses),
        Origin::Build(_) => {
            losses.add(path.clone(), format!("needs an image in a registry: image = \"registry/{name}:1\""));
            format!("{}/{name}:latest", source.project)
        }
    };
    container.push(("image", Yaml::text(image)));
    let mut fixed =
        |words: &[ExportText]| -> Vec<ExportText> { words.iter().map(|word| source.fixed(word, &path, losses)).collect() };
    let (entrypoint, command) = (fixed(&workload.entrypoint), fixed(&workload.command));
    // A program's words stand in the place of an image's entry point, as its Dockerfile's is not known to pass them on.
    let (command, args) =
        if entrypoint.is_empty() && !workload.is_recipe { (command, Vec::new()) } else { (entrypoint, command) };
    for (key, words) in [("command", &command), ("args", &args)] {
        if !words.is_empty() {
            container.push((key, Yaml::List(words.iter().map(|word| Yaml::text(expanded(word))).collect())));
        }
    }
    let mut env = Environment::default();
    for text in command.iter().chain(&args) {
        env.secrets_of(source, text);
    }
    environment(source, workload, &path, &mut env, losses);
    if !env.0.is_empty() {
        container.push(("env", Yaml::List(env.0)));
    }
    let ports: Vec<(String, u16)> = workload
        .ports
        .iter()
        .filter_map(|port| Some((port_name(&port.name), source.number(&port.inside, &format!("{path}.port"), losses)?)))
        .collect();
    if !ports.is_empty() {
        let port = |(name, number): &(String, u16)| {
            Yaml::map([("name", Yaml::text(name)), ("containerPort", Yaml::Integer(i64::from(*number)))])
        };
        container.push(("ports", Yaml::List(ports.iter().map(port).collect())));
    }
    probes(source, workload, &path, &mut container, losses);
    let resources: Vec<(&str, Yaml)> = [("limits", amounts(&workload.limits)), ("requests", amounts(&workload.reserve))]
        .into_iter()
        .filter(|(_, amounts)| !amounts.is_empty())
        .collect();
    if !resources.is_empty() {
        container.push(("resources", Yaml::map(resources)));
    }
    if let Some(user) = &workload.user {
        match user.split(':').next().and_then(|user| user.parse::<i64>().ok()) {
            Some(uid) => container.push(("securityContext", Yaml::map([("runAsUser", Yaml::Integer(uid))]))),
            None => losses.add(format!("{path}.user_id"), "a user must be a number"),
        }
    }
    if workload.tty {
        container.push(("tty", Yaml::Bool(true)));
        container.push(("stdin", Yaml::Bool(true)));
    }
    let (mounts, volumes, files) = storage(source, workload, &name, &path, losses);
    if !mounts.is_empty() {
        container.push(("volumeMounts", Yaml::List(mounts)));
    }
    let (first, waits_for_jobs) = waits(source, workload, &path, losses);
    let mut spec: Vec<(&str, Yaml)> = Vec::new();
    if waits_for_jobs {
        spec.push(("serviceAccountName", Yaml::text(format!("{}-waits", source.project))));
    } else {
        spec.push(("automountServiceAccountToken", Yaml::Bool(false)));
    }
    // Services named like the variables of a program would be taken for its settings.
    spec.push(("enableServiceLinks", Yaml::Bool(false)));
    if let Some(grace) = workload.grace {
        spec.push(("terminationGracePeriodSeconds", Yaml::Integer(seconds(grace))));
    }
    if workload.is_task {
        spec.push(("restartPolicy", Yaml::text("OnFailure")));
    }
    for (key, list) in [("initContainers", first), ("containers", vec![Yaml::map(container)]), ("volumes", volumes)] {
        if !list.is_empty() {
            spec.push((key, Yaml::List(list)));
        }
    }
    Pod { template: Yaml::map(spec), ports, files, waits_for_jobs }
}

fn port_name(name: &str) -> String {
    let name = strict_name(name);
    name.chars().take(15).collect()
}

#[derive(Default)]
struct Environment(Vec<Yaml>);

impl Environment {
    fn secret(&mut self, source: &PodSource<'_>, variable: &str, name: &str, is_generated: bool) {
        if is_generated {
            let _known = source.secret(name);
        }
        let key = Yaml::map([("name", Yaml::text(format!("{}-secrets", source.project))), ("key", Yaml::text(name))]);
        let from = Yaml::map([("secretKeyRef", key)]);
        let entry = Yaml::map([("name", Yaml::text(variable)), ("valueFrom", from)]);
        if !self.0.contains(&entry) {
            self.0.push(entry);
        }
    }
    /// What a text refers to stands before it.
    fn secrets_of(&mut self, source: &PodSource<'_>, text: &ExportText) {
        for name in text.secrets() {
            self.secret(source, &secret_variable(name), name, source.stack.secrets.contains_key(name));
        }
    }
    fn set(&mut self, source: &PodSource<'_>, name: &str, value: &ExportText) {
        if let Some(secret) = value.as_secret() {
            return self.secret(source, name, secret, source.stack.secrets.contains_key(secret));
        }
        self.secrets_of(source, value);
        self.0.push(Yaml::map([("name", Yaml::text(name)), ("value", Yaml::text(expanded(value)))]));
    }
}

fn environment(source: &PodSource<'_>, workload: &Workload, path: &str, env: &mut Environment, losses: &mut Losses) {
    let own: Vec<&String> = workload.env.iter().map(|(name, _)| name).collect();
    for (file, required) in &workload.env_files {
        match (source.source.read)(&source.source.plan.root.join(file)) {
            Some(text) => {
                for (name, value) in super::environment::template_lines(&text) {
                    if own.contains(&&name) {
                        continue;
                    }
                    // A file that is written by hand may hold secrets, and a manifest must not.
                    let value = if is_secret(&name) && !value.is_empty() {
                        source
                            .secrets
                            .borrow_mut()
                            .entry(strict_name(&name))
                            .or_insert_with(|| format!("literal=KEY=\"${name}\""));
                        ExportText::secret(strict_name(&name))
                    } else {
                        ExportText::literal(value)
                    };
                    env.set(source, &name, &value);
                }
            }
            None if *required => losses.add(format!("{path}.env_file"), format!("{file} cannot be read")),
            None => losses.add(format!("{path}.env_file"), format!("{file} is not there")),
        }
    }
    for (name, value) in &workload.env {
        let key = format!("{path}.env.{name}");
        env.set(source, name, &source.fixed(value, &key, losses));
    }
}

fn amounts(limits: &Limits) -> Yaml {
    let cpu = limits.cpu.map(|cpu| ("cpu", Yaml::text(cpu.to_string())));
    let memory = limits.memory.map(|memory| ("memory", Yaml::text(bytes(memory.0))));
    Yaml::map(cpu.into_iter().chain(memory))
}

fn bytes(bytes: u64) -> String {
    for (unit, size) in [("Gi", 1_u64 << 30), ("Mi", 1 << 20), ("Ki", 1 << 10)] {
        if bytes >= size && bytes.is_multiple_of(size) {
            return format!("{}{unit}", bytes / size);
        }
    }
    bytes.to_string()
}

/// Whole seconds, at least one.
fn seconds(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis().div_ceil(1000)).unwrap_or(i64::MAX).max(1)
}

fn probes(source: &PodSource<'_>, workload: &Workload, path: &str, container: &mut Vec<(&str, Yaml)>, losses: &mut Losses) {
    if let Some(ready) = &workload.ready {
        let handler = handler(source, ready, &format!("{path}.ready"), losses);
        let period = |handler: &[(&'static str, Yaml)], period: i64, failures: i64| {
            let timing = [
                ("periodSeconds", Yaml::Integer(period)),
                ("timeoutSeconds", Yaml::Integer(seconds(ready.timeout))),
                ("failureThreshold", Yaml::Integer(failures)),
            ];
            Yaml::map(handler.iter().cloned().chain(timing))
        };
        // As often as every second until its first pass, and no longer than `within`.
        container.push(("startupProbe", period(&handler, 1, seconds(ready.within))));
        let steady = period(&handler, seconds(ready.interval), i64::from(ready.retries.max(1)));
        container.push(("readinessProbe", steady.clone()));
        if workload.restarts_unhealthy && workload.alive.is_none() {
            container.push(("livenessProbe", steady));
        }
    }
    if let Some(alive) = &workload.alive {
        let handler = handler(source, alive, &format!("{path}.alive"), losses);
        let timing = [
            ("periodSeconds", Yaml::Integer(seconds(alive.interval))),
            ("timeoutSeconds", Yaml::Integer(seconds(alive.timeout))),
            ("failureThreshold", Yaml::Integer(i64::from(alive.retries.max(1)))),
            ("initialDelaySeconds", Yaml::Integer(i64::try_from(alive.start_period.as_secs()).unwrap_or(i64::MAX))),
        ];
        container.push(("livenessProbe", Yaml::map(handler.into_iter().chain(timing))));
    }
}

fn handler(source: &PodSource<'_>, health: &Health, path: &str, losses: &mut Losses) -> Vec<(&'static str, Yaml)> {
    if health.probes.len() > 1 {
        losses.add(path, "a container has one probe of a kind: the first one is asked");
    }
    let number =
        |port: &ExportText, losses: &mut Losses| Yaml::Integer(i64::from(source.number(port, path, losses).unwrap_or(0)));
    let exec = |words: Vec<String>| vec![("exec", Yaml::map([("command", Yaml::texts(words))]))];
    match health.probes.first() {
        Some(Probe::Http { port, tls, path: page, headers, .. }) => {
            let mut get = vec![("path", Yaml::text(page)), ("port", number(port, losses))];
            if *tls {
                get.push(("scheme", Yaml::text("HTTPS")));
            }
            let header =
                |(name, value): (&String, &String)| Yaml::map([("name", Yaml::text(name)), ("value", Yaml::text(value))]);
            if !headers.is_empty() {
                get.push(("httpHeaders", Yaml::List(headers.iter().map(header).collect())));
            }
            vec![("httpGet", Yaml::map(get))]
        }
        Some(Probe::Tcp { port, .. }) => vec![("tcpSocket", Yaml::map([("port", number(port, losses))]))],
        Some(Probe::Grpc { port, service }) => {
            let mut ask = vec![("port", number(port, losses))];
            if !service.is_empty() {
                ask.push(("service", Yaml::text(service)));
            }
            vec![("grpc", Yaml::map(ask))]
        }
        Some(Probe::Shell(line)) => {
            let line = source.literal(line, path, losses);
            let login = ["redis-cli", "valkey-cli"].iter().any(|client| line.starts_with(client));
            // The variable is empty where the server has no password.
            let line = if login { format!("REDISCLI_AUTH=\"${{REDIS_PASSWORD:-$VALKEY_PASSWORD}}\" {line}") } else { line };
            exec(vec!["sh".to_owned(), "-c".to_owned(), line])
        }
        Some(Probe::Exec(words)) => exec(words.iter().map(|word| source.literal(word, path, losses)).collect()),
        None => Vec::new(),
    }
}

/// Mounts, volumes, and the files of the ConfigMap.
fn storage(
    source: &PodSource<'_>,
    workload: &Workload,
    name: &str,
    path: &str,
    losses: &mut Losses,
) -> (Vec<Yaml>, Vec<Yaml>, Vec<(String, String)>) {
    let (mut mounts, mut volumes, mut files) = (Vec::new(), Vec::new(), Vec::<(String, String)>::new());
    let mut file = |target: &str, text: String, mounts: &mut Vec<Yaml>, losses: &mut Losses| {
        if text.len() > LARGEST_FILE {
            return losses.add(path, format!("{target} is too large for a ConfigMap; put it into an image"));
        }
        let base = target.rsplit('/').next().unwrap_or(target);
        let plain: String = base
            .chars()
            .map(|char| if char.is_ascii_alphanumeric() || matches!(char, '.' | '-' | '_') { char } else { '-' })
            .collect();
        let key = if files.iter().any(|(known, _)| *known == plain) { format!("{}-{plain}", files.len()) } else { plain };
        mounts.push(Yaml::map([
            ("name", Yaml::text("files")),
            ("mountPath", Yaml::text(target)),
            ("subPath", Yaml::text(&key)),
            ("readOnly", Yaml::Bool(true)),
        ]));
        files.push((key, text));
    };
    for (target, content) in &workload.files {
        file(target, source.literal(content, path, losses), &mut mounts, losses);
    }
    for mount in &workload.mounts {
        match &mount.source {
            MountSource::Volume(volume) => {
                let volume = strict_name(volume);
                // Not the root of a file system, in which a server would find `lost+found`.
                mounts.push(Yaml::map([
                    ("name", Yaml::text(&volume)),
                    ("mountPath", Yaml::text(&mount.target)),
                    ("subPath", Yaml::text("data")),
                ]));
                let claim = Yaml::map([("claimName", Yaml::text(&volume))]);
                volumes.push(Yaml::map([("name", Yaml::text(&volume)), ("persistentVolumeClaim", claim)]));
            }
            MountSource::Path(local) => {
                let place = source.source.plan.root.join(local);
                let inside = (source.source.list)(&place);
                let all: Vec<(String, std::path::PathBuf)> = if inside.is_empty() {
                    vec![(mount.target.clone(), place)]
                } else {
                    let target = |file: &std::path::PathBuf| {
                        format!(
                            "{}/{}",
                            mount.target,
                            file.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
                        )
                    };
                    inside.into_iter().map(|file| (target(&file), file)).collect()
                };
                for (target, place) in all {
                    match (source.source.read)(&place) {
                        Some(text) => file(&target, text, &mut mounts, losses),
                        None => losses.add(path, format!("{} is not text, or not there; put it into an image", place.display())),
                    }
                }
            }
        }
    }
    if !files.is_empty() {
        let map = Yaml::map([("name", Yaml::text(format!("{name}-files")))]);
        volumes.push(Yaml::map([("name", Yaml::text("files")), ("configMap", map)]));
    }
    (mounts, volumes, files)
}

/// Whether `depends_on` of a service names another one.
fn is_written(source: &PodSource<'_>, name: &str, on: &str) -> bool {
    let service = source.source.merged.get("services").and_then(|services| services.get(name));
    match service.and_then(|service| service.get("depends_on")) {
        Some(Value::Array(list)) => list.iter().any(|item| item.as_str() == Some(on)),
        Some(Value::Table(table)) => table.contains_key(on),
        _ => false,
    }
}

/// Init containers that wait for what must be there first.
fn waits(source: &PodSource<'_>, workload: &Workload, path: &str, losses: &mut Losses) -> (Vec<Yaml>, bool) {
    let mut out = Vec::new();
    let mut for_jobs = false;
    for edge in &workload.edges {
        let on = strict_name(&edge.on);
        let key = format!("{path}.depends_on");
        if !edge.required {
            // The edges of a gateway's routes are its own: no line of the procfile says them.
            if !workload.is_gateway || is_written(source, &workload.name, &edge.on) {
                losses.add(key, format!("`{}` is optional, so it is not waited for", edge.on));
            }
            continue;
        }
        if edge.restart {
            losses.add(key.clone(), format!("it is not restarted with `{}`", edge.on));
        }
        let (image, command) = match edge.condition {
            Condition::Completed => {
                for_jobs = true;
                let words = ["kubectl", "wait", "--for=condition=complete", "--timeout=-1s"];
                (KUBECTL_IMAGE, words.map(str::to_owned).into_iter().chain([format!("job/{on}")]).collect::<Vec<_>>())
            }
            // All of it is started at once.
            Condition::Started => continue,
            Condition::Healthy => {
                let target = source.stack.workloads.iter().find(|other| other.name == edge.on);
                let port =
                    target.and_then(|target| target.ports.first()).and_then(|port| source.number(&port.inside, &key, losses));
                let Some(port) = port else {
                    losses.add(key, format!("`{}` has no port by which it could be waited for", edge.on));
                    continue;
                };
                // Only pods that are ready stand behind a Service.
                let script = format!("until nc -z {} {port}; do sleep 1; done", shell_quote(&on));
                (WAIT_IMAGE, vec!["sh".to_owned(), "-c".to_owned(), script])
            }
        };
        out.push(Yaml::map([
            ("name", Yaml::text(format!("wait-for-{on}").chars().take(63).collect::<String>())),
            ("image", Yaml::text(image)),
            ("command", Yaml::texts(command)),
        ]));
    }
    (out, for_jobs)
}
