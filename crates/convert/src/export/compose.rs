//! A container stack → `compose.yaml`.
//!
//! Every dollar that is not compose's own is doubled. A secret is a file of the project, mounted under `/run/secrets`: an image
//! that takes `NAME_FILE` reads it itself, any other command is started through a shell that does.

use std::collections::BTreeSet;
use std::time::Duration;

use devrun_model::service::Limits;
use devrun_model::{Condition, RestartPolicy, duration};

use super::health::shell_quote;
use super::procfile_values::texts;
use super::references::{ExportSource, host_name, shout};
use super::stack::{ContainerEdge, ContainerMount, Health, MountSource, Origin, Port, Probe, Publish, Stack, Workload};
use super::template::{ExportText, Piece, PlaceholderOperator};
use super::yaml::Yaml;
use super::{Exported, workload};

/// Where compose puts secrets.
const SECRETS: &str = "/run/secrets";
/// Where the volume of a sentinel lies.
const SENTINELS: &str = "/devrun/once";

/// Makes the file.
#[must_use]
pub fn compose(source: &ExportSource<'_>) -> Exported {
    let mut stack = workload::stack(source, false);
    for workload in &mut stack.workloads {
        wrap_once(workload);
        stack.volumes.extend(workload.once.iter().map(|(volume, _)| volume.clone()));
    }
    let mut configs: Vec<(String, Yaml)> = Vec::new();
    let mut needs: BTreeSet<String> = BTreeSet::new();
    let mut services: Vec<(String, Yaml)> = Vec::new();
    for workload in &stack.workloads {
        services.push((host_name(&workload.name), service(workload, &mut configs, &mut needs)));
    }
    target_losses(&mut stack);
    let mut document = vec![("name", Yaml::text(&stack.project)), ("services", Yaml::Map(services))];
    let volumes: Vec<(String, Yaml)> = stack.volumes.iter().map(|name| (name.clone(), Yaml::Map(Vec::new()))).collect();
    let secrets: Vec<(String, Yaml)> = stack
        .secrets
        .iter()
        .map(|(name, file)| {
            let relative =
                file.strip_prefix(&source.plan.root).map_or_else(|_| file.clone(), |file| std::path::Path::new(".").join(file));
            (name.clone(), Yaml::map([("file", Yaml::text(escaped(&relative.display().to_string())))]))
        })
        .collect();
    for (key, map) in [("volumes", volumes), ("configs", configs), ("secrets", secrets)] {
        if !map.is_empty() {
            document.push((key, Yaml::Map(map)));
        }
    }
    for name in stack.secrets.keys().filter(|name| source.own_secret(name).is_none()) {
        needs.insert(format!("the file of the secret {name}: devrun up, or devrun secret show {name}, makes it"));
    }
    // Compose fills in from `.env` alone; further files of the project are named on its command line.
    let files = source.merged.get("project").and_then(|project| project.get("env_file"));
    let further: Vec<String> = texts(files).into_iter().filter(|file| file != ".env").collect();
    if !further.is_empty() {
        let options: String = further.iter().map(|file| format!(" --env-file {file}")).collect();
        needs.insert(format!("variables of the project's env files: docker compose{options} up"));
    }
    let text = format!(
        "# Written by `devrun export compose`; `devrun export compose --check -o FILE` tells when it is stale.\n{}",
        Yaml::map(document).document()
    );
    Exported { files: vec![(String::new(), text)], losses: stack.losses.into_vec(), needs: needs.into_iter().collect() }
}

/// Wraps a task's command: it runs only where its sentinel is absent, and leaves it behind.
fn wrap_once(workload: &mut Workload) {
    let Some((volume, name)) = &workload.once else { return };
    let file = shell_quote(&format!("{SENTINELS}/{name}"));
    workload.mounts.push(ContainerMount {
        source: MountSource::Volume(volume.clone()),
        target: SENTINELS.to_owned(),
        read_only: false,
    });
    let script = format!("if [ -e {file} ]; then exit 0; fi\n\"$@\"\ntouch {file}");
    let inner = std::mem::take(&mut workload.entrypoint).into_iter().chain(std::mem::take(&mut workload.command));
    workload.command = [ExportText::literal(script), ExportText::literal("--")].into_iter().chain(inner).collect();
    workload.entrypoint = ["sh", "-ec"].map(ExportText::literal).into();
}

/// What compose alone cannot say.
fn target_losses(stack: &mut Stack) {
    let group = |workload: &Workload| if workload.is_task { "tasks" } else { "services" };
    let mut found = Vec::new();
    for workload in &stack.workloads {
        let path = format!("{}.{}", group(workload), workload.name);
        if workload.alive.is_some() {
            found.push((format!("{path}.alive"), "a container has one health check, and that is `ready`"));
        }
        if workload.restarts_unhealthy {
            found.push((format!("{path}.on_unhealthy"), "an unhealthy container is not restarted"));
        }
        if workload.limits.nofile.is_some() && workload.reserve.nofile.is_some() {
            found.push((format!("{path}.reserve.nofile"), "open files have a limit alone"));
        }
    }
    for (key, reason) in found {
        stack.losses.add(key, reason);
    }
}

fn service(workload: &Workload, configs: &mut Vec<(String, Yaml)>, needs: &mut BTreeSet<String>) -> Yaml {
    let mut out: Vec<(&str, Yaml)> = Vec::new();
    match &workload.origin {
        Origin::ContainerImage(image) => out.push(("image", Yaml::text(text(image)))),
        Origin::Build(dir) => {
            let dir = if dir.starts_with(['.', '/']) { dir.clone() } else { format!("./{dir}") };
            out.push(("build", Yaml::map([("context", Yaml::text(escaped(&dir)))])));
        }
    }
    let started = Command::of(workload);
    let words = |words: &[ExportText]| Yaml::List(words.iter().map(|word| Yaml::text(text(word))).collect());
    if !started.entrypoint.is_empty() {
        out.push(("entrypoint", words(&started.entrypoint)));
    }
    if !started.command.is_empty() {
        out.push(("command", words(&started.command)));
    }
    if !workload.edges.is_empty() {
        out.push(("depends_on", Yaml::Map(workload.edges.iter().map(|edge| (host_name(&edge.on), condition(edge))).collect())));
    }
    let ports: Vec<Yaml> = workload.ports.iter().filter_map(port).collect();
    let env: Vec<(String, Yaml)> = started.env.iter().map(|(name, value)| (name.clone(), Yaml::text(text(value)))).collect();
    let mut mounts: Vec<Yaml> = workload.mounts.iter().map(mount).collect();
    let mut read = Vec::new();
    for (index, (target, content)) in workload.files.iter().enumerate() {
        let name = format!("{}-{}", host_name(&workload.name), file_name(target, index));
        configs.push((name.clone(), Yaml::map([("content", Yaml::text(text(content)))])));
        read.push(Yaml::map([("source", Yaml::text(name)), ("target", Yaml::text(escaped(target)))]));
    }
    let env_files = workload
        .env_files
        .iter()
        .map(|(path, required)| Yaml::map([("path", Yaml::text(escaped(path))), ("required", Yaml::Bool(*required))]));
    for (key, value) in [
        ("ports", Yaml::List(ports)),
        ("environment", Yaml::Map(env)),
        ("env_file", Yaml::List(env_files.collect())),
        ("volumes", Yaml::List(std::mem::take(&mut mounts))),
        ("configs", Yaml::List(read)),
        ("secrets", Yaml::texts(started.secrets)),
    ] {
        if !value.is_empty() {
            out.push((key, value));
        }
    }
    if let Some(health) = &workload.ready
        && let Some(check) = healthcheck(health, workload)
    {
        out.push(("healthcheck", check));
    }
    policies(workload, &mut out);
    needs.extend(started.needs);
    Yaml::map(out)
}

fn policies(workload: &Workload, out: &mut Vec<(&str, Yaml)>) {
    match workload.restart {
        RestartPolicy::No if workload.is_task => out.push(("restart", Yaml::text("no"))),
        RestartPolicy::No => {}
        policy => out.push(("restart", Yaml::text(policy.to_string()))),
    }
    if !workload.profiles.is_empty() {
        out.push(("profiles", Yaml::texts(workload.profiles.clone())));
    }
    if let Some(signal) = workload.signal {
        let name = signal.to_string();
        let name = name.strip_prefix("signal ").map_or(name.clone(), str::to_owned);
        out.push(("stop_signal", Yaml::text(name)));
    }
    if let Some(grace) = workload.grace {
        out.push(("stop_grace_period", Yaml::text(duration::format(grace))));
    }
    if let Some(user) = &workload.user {
        out.push(("user", Yaml::text(escaped(user))));
    }
    if workload.tty {
        out.push(("tty", Yaml::Bool(true)));
        out.push(("stdin_open", Yaml::Bool(true)));
    }
    if workload.reaches_host {
        out.push(("extra_hosts", Yaml::texts(["host.docker.internal:host-gateway"])));
    }
    if let Some(nofile) = workload.limits.nofile {
        let nofile = i64::try_from(nofile).unwrap_or(i64::MAX);
        let both = Yaml::map([("soft", Yaml::Integer(nofile)), ("hard", Yaml::Integer(nofile))]);
        out.push(("ulimits", Yaml::map([("nofile", both)])));
    }
    if let Some((size, files)) = workload.log {
        let options = Yaml::map([("max-size", Yaml::text(bytes(size))), ("max-file", Yaml::text(files.to_string()))]);
        out.push(("logging", Yaml::map([("driver", Yaml::text("json-file")), ("options", options)])));
    }
    let description = workload.description.iter().map(|text| ("devrun.description".to_owned(), text));
    let links = workload.links.iter().map(|(label, path)| (format!("devrun.link.{label}"), path));
    let labels: Vec<(String, Yaml)> = description.chain(links).map(|(key, text)| (key, Yaml::text(escaped(text)))).collect();
    if !labels.is_empty() {
        out.push(("labels", Yaml::Map(labels)));
    }
    let mut deploy: Vec<(&str, Yaml)> = Vec::new();
    if workload.replicas != 1 {
        deploy.push(("replicas", Yaml::Integer(i64::from(workload.replicas))));
    }
    if let Some(start_first) = workload.start_first {
        let order = if start_first { "start-first" } else { "stop-first" };
        deploy.push(("update_config", Yaml::map([("order", Yaml::text(order))])));
    }
    let resources: Vec<(&str, Yaml)> = [("limits", amounts(&workload.limits)), ("reservations", amounts(&workload.reserve))]
        .into_iter()
        .filter(|(_, amounts)| !amounts.is_empty())
        .collect();
    if !resources.is_empty() {
        deploy.push(("resources", Yaml::map(resources)));
    }
    if !deploy.is_empty() {
        out.push(("deploy", Yaml::map(deploy)));
    }
}

fn amounts(limits: &Limits) -> Yaml {
    let cpu = limits.cpu.map(|cpu| ("cpus", Yaml::text(cpu.to_string())));
    let memory = limits.memory.map(|memory| ("memory", Yaml::text(bytes(memory.0))));
    let pids = limits.pids.map(|pids| ("pids", Yaml::Integer(i64::try_from(pids).unwrap_or(i64::MAX))));
    Yaml::map(cpu.into_iter().chain(memory).chain(pids))
}

/// `512M`, in the largest unit that is exact.
fn bytes(bytes: u64) -> String {
    for (unit, size) in [("G", 1_u64 << 30), ("M", 1 << 20), ("K", 1 << 10)] {
        if bytes >= size && bytes.is_multiple_of(size) {
            return format!("{}{unit}", bytes / size);
        }
    }
    format!("{bytes}b")
}

fn condition(edge: &ContainerEdge) -> Yaml {
    let condition = match edge.condition {
        Condition::Started => "service_started",
        Condition::Healthy => "service_healthy",
        Condition::Completed => "service_completed_successfully",
    };
    let mut out = vec![("condition", Yaml::text(condition))];
    if !edge.required {
        out.push(("required", Yaml::Bool(false)));
    }
    if edge.restart {
        out.push(("restart", Yaml::Bool(true)));
    }
    Yaml::map(out)
}

fn port(port: &Port) -> Option<Yaml> {
    let inside = text(&port.inside);
    let host = |host: &str| match host {
        "" => String::new(),
        host if host.contains(':') && !host.starts_with('[') => format!("[{host}]:"),
        host => format!("{host}:"),
    };
    match &port.publish {
        Publish::No => None,
        Publish::Any { host: at } if at.is_empty() => Some(Yaml::text(inside)),
        Publish::Any { host: at } => Some(Yaml::text(format!("{}:{inside}", host(at)))),
        Publish::At { host: at, port } => Some(Yaml::text(format!("{}{}:{inside}", host(at), text(port)))),
    }
}

/// In the long form: a volume whose name is a single letter would be read as a drive of Windows.
fn mount(mount: &ContainerMount) -> Yaml {
    let (kind, source) = match &mount.source {
        MountSource::Volume(name) => ("volume", name.clone()),
        MountSource::Path(path) if path.starts_with(['.', '/']) => ("bind", path.clone()),
        MountSource::Path(path) => ("bind", format!("./{path}")),
    };
    let mut out = vec![
        ("type", Yaml::text(kind)),
        ("source", Yaml::text(escaped(&source))),
        ("target", Yaml::text(escaped(&mount.target))),
    ];
    if mount.read_only {
        out.push(("read_only", Yaml::Bool(true)));
    }
    Yaml::map(out)
}

fn file_name(target: &str, index: usize) -> String {
    let name = target.rsplit('/').next().unwrap_or(target).to_ascii_lowercase();
    let name: String =
        name.chars().map(|char| if char.is_ascii_alphanumeric() || matches!(char, '.' | '-') { char } else { '-' }).collect();
    if index == 0 { name } else { format!("{index}-{name}") }
}

fn healthcheck(health: &Health, workload: &Workload) -> Option<Yaml> {
    let tests: Vec<Vec<ExportText>> = health.probes.iter().filter_map(|probe| test(probe, workload)).collect();
    let test = match tests.as_slice() {
        [] => return None,
        [one] => one.clone(),
        several => {
            let sign = if health.any { " || " } else { " && " };
            let mut line = ExportText::default();
            for (at, words) in several.iter().enumerate() {
                if at > 0 {
                    line.append(ExportText::literal(sign));
                }
                line.append(ExportText::literal("( "));
                line.append(as_script(words));
                line.append(ExportText::literal(" )"));
            }
            vec![ExportText::literal("CMD-SHELL"), line]
        }
    };
    let time = |duration: Duration| Yaml::text(duration::format(duration));
    let mut out = vec![
        ("test", Yaml::List(test.iter().map(|word| Yaml::text(text(word))).collect())),
        ("interval", time(health.interval)),
        ("timeout", time(health.timeout)),
        ("retries", Yaml::Integer(i64::from(health.retries))),
    ];
    if !health.start_period.is_zero() {
        out.push(("start_period", time(health.start_period)));
        out.push(("start_interval", time(health.start_interval)));
    }
    Some(Yaml::map(out))
}

fn test(probe: &Probe, workload: &Workload) -> Option<Vec<ExportText>> {
    let shell = |line: ExportText| vec![ExportText::literal("CMD-SHELL"), line];
    match probe {
        Probe::Http { command, .. } | Probe::Tcp { command, .. } => command.clone().map(shell),
        Probe::Grpc { port, .. } => Some(vec![
            ExportText::literal("CMD"),
            ExportText::literal("grpc_health_probe"),
            ExportText::join([ExportText::literal("-addr=127.0.0.1:"), port.clone()]),
        ]),
        Probe::Shell(line) => {
            // A server with a password refuses the question without it.
            let ask = |variable: &str| {
                workload
                    .env
                    .iter()
                    .any(|(name, _)| name == variable)
                    .then(|| format!("REDISCLI_AUTH=\"{}\" ", from(workload, variable)))
            };
            let login = ask("REDIS_PASSWORD").or_else(|| ask("VALKEY_PASSWORD")).unwrap_or_default();
            Some(shell(ExportText::join([ExportText::literal(login), line.clone()])))
        }
        Probe::Exec(words) => Some(std::iter::once(ExportText::literal("CMD")).chain(words.iter().cloned()).collect()),
    }
}

/// A variable's value in a health check, which does not have what a wrapped command exports.
fn from(workload: &Workload, variable: &str) -> String {
    let secret = workload.env.iter().find(|(name, _)| name == variable).and_then(|(_, value)| value.as_secret());
    secret.map_or_else(|| format!("${variable}"), |name| format!("$(cat {SECRETS}/{name})"))
}

fn as_script(words: &[ExportText]) -> ExportText {
    match words {
        [kind, line] if kind.as_literal() == Some("CMD-SHELL") => line.clone(),
        words => ExportText::join(words.iter().skip(1).enumerate().flat_map(|(at, word)| {
            let word = word.as_literal().map_or_else(|| word.clone(), |text| ExportText::literal(shell_quote(text)));
            [ExportText::literal(if at == 0 { "" } else { " " }), word]
        })),
    }
}

/// A service's command and environment with its secrets as files.
struct Command {
    entrypoint: Vec<ExportText>,
    command: Vec<ExportText>,
    env: Vec<(String, ExportText)>,
    secrets: Vec<String>,
    needs: Vec<String>,
}

impl Command {
    fn of(workload: &Workload) -> Self {
        let mut out = Self {
            entrypoint: workload.entrypoint.clone(),
            command: workload.command.clone(),
            env: Vec::new(),
            secrets: Vec::new(),
            needs: Vec::new(),
        };
        let mut exports: Vec<String> = Vec::new();
        let mut secrets: BTreeSet<String> = BTreeSet::new();
        // An image's own entry point must stay what is started, where one is known.
        let program: Vec<ExportText> = workload.program.iter().map(|word| ExportText::literal(*word)).collect();
        let is_wrapped = if workload.is_recipe { !program.is_empty() } else { !workload.command.is_empty() };
        let words: Vec<ExportText> =
            program.into_iter().chain(workload.entrypoint.iter().chain(&workload.command).cloned()).collect();
        for (name, value) in &workload.env {
            let used = value.secrets();
            match value.as_secret() {
                _ if used.is_empty() => out.env.push((name.clone(), value.clone())),
                Some(secret) if workload.secret_paths.contains(name) => {
                    secrets.insert(secret.to_owned());
                    out.env.push((name.clone(), ExportText::literal(format!("{SECRETS}/{secret}"))));
                }
                Some(secret) if workload.reads_files.contains(name) => {
                    secrets.insert(secret.to_owned());
                    out.env.push((format!("{name}_FILE"), ExportText::literal(format!("{SECRETS}/{secret}"))));
                }
                _ if is_wrapped && is_plain(value) => {
                    secrets.extend(used.iter().map(|name| (*name).to_owned()));
                    exports.push(format!("export {name}={}", in_shell(value)));
                }
                // The image's own command is not known, so nothing can be put before it.
                _ => {
                    out.needs.extend(used.iter().map(|name| format!("the variable {}: the secret {name}", shout(name))));
                    out.env.push((name.clone(), value.clone()));
                }
            }
        }
        let in_words = out.command.iter().flat_map(ExportText::secrets).map(str::to_owned).collect::<Vec<_>>();
        if !exports.is_empty() || (!in_words.is_empty() && is_wrapped) {
            secrets.extend(in_words);
            let quoted: Vec<String> = words.iter().map(in_shell_or_variable).collect();
            exports.push(format!("exec {}", quoted.join(" ")));
            // Variables of compose stand in the environment, where no shell takes their values apart.
            for (index, word) in words.iter().enumerate() {
                if word.secrets().is_empty() && word.as_literal().is_none() {
                    out.env.push((format!("DEVRUN_WORD_{index}"), word.clone()));
                }
            }
            let script = number_words(&exports.join("\n"), &words);
            out.entrypoint = vec![ExportText::literal("sh"), ExportText::literal("-ec")];
            out.command = vec![ExportText::literal(script)];
        }
        out.secrets = secrets.into_iter().collect();
        out
    }
}

/// Nothing but literals and secrets.
fn is_plain(value: &ExportText) -> bool {
    value.0.iter().all(|piece| !matches!(piece, Piece::Variable(..)))
}

/// Literals and secrets as one word of a shell script.
fn in_shell(value: &ExportText) -> String {
    let pieces = value.0.iter().map(|piece| match piece {
        Piece::Literal(text) => shell_quote(text),
        Piece::Secret(name) => format!("\"$(cat {SECRETS}/{name})\""),
        Piece::Variable(..) => String::new(),
    });
    pieces.collect()
}

/// The mark of a word that is a variable of the container; see [`number_words`].
const WORD: &str = "\u{0}";

fn in_shell_or_variable(word: &ExportText) -> String {
    if is_plain(word) { in_shell(word) } else { WORD.to_owned() }
}

fn number_words(script: &str, words: &[ExportText]) -> String {
    let mut out = script.to_owned();
    for (index, word) in words.iter().enumerate() {
        if !is_plain(word) {
            out = out.replacen(WORD, &format!("\"$DEVRUN_WORD_{index}\""), 1);
        }
    }
    out
}

fn escaped(text: &str) -> String {
    text.replace('$', "$$")
}

/// A text in compose's own words.
fn text(text: &ExportText) -> String {
    text.0.iter().map(piece).collect()
}

fn piece(piece: &Piece) -> String {
    match piece {
        Piece::Literal(text) => escaped(text),
        Piece::Secret(name) => format!("${{{}:?the secret {name}}}", shout(name)),
        Piece::Variable(name, operator) => {
            let (sign, word) = match operator {
                PlaceholderOperator::None => ("?", "is not set".to_owned()),
                PlaceholderOperator::Required(true, word) => (":?", text(word)),
                PlaceholderOperator::Required(false, word) => ("?", text(word)),
                PlaceholderOperator::Default(true, word) => (":-", text(word)),
                PlaceholderOperator::Default(false, word) => ("-", text(word)),
                PlaceholderOperator::Alternative(true, word) => (":+", text(word)),
                PlaceholderOperator::Alternative(false, word) => ("+", text(word)),
            };
            format!("${{{name}{sign}{word}}}")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_dollar_that_is_not_composes_is_doubled() {
        let variable = |operator| ExportText(vec![Piece::Variable("X".to_owned(), operator)]);
        for (given, expected) in [
            (ExportText::literal("a$b"), "a$$b"),
            (variable(PlaceholderOperator::None), "${X?is not set}"),
            (variable(PlaceholderOperator::Default(true, ExportText::literal("5$"))), "${X:-5$$}"),
            (
                variable(PlaceholderOperator::Default(
                    false,
                    variable(PlaceholderOperator::Alternative(true, ExportText::literal("y"))),
                )),
                "${X-${X:+y}}",
            ),
            (ExportText::secret("db-password"), "${DB_PASSWORD:?the secret db-password}"),
        ] {
            assert_eq!(text(&given), expected);
        }
    }

    #[test]
    fn sizes_stand_in_the_largest_exact_unit() {
        for (size, expected) in [(512 << 20, "512M"), (1 << 30, "1G"), (1536 << 20, "1536M"), (1000, "1000b"), (2048, "2K")] {
            assert_eq!(bytes(size), expected);
        }
    }
}
