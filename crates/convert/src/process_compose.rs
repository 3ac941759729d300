//! `process-compose.yaml` → procfile: its processes are programs already, so most keys have a twin.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::Converted;
use super::compose::syntax;
use super::open_quote::open_quote;
use super::process_variables;
use super::procfile_names::{ensure_distinct, is_called, procfile_name};
use super::report::{At, ConversionReport};
use super::toml_writer::{Procfile, Section, Toml};
use super::yaml::{self, Map, YamlNode, YamlValue, get};
use devrun_model::{Failure, FailureKind};

/// What stands before a name that begins with another character than a procfile's may.
const NAME_START: char = 'p';

/// Reads and maps.
pub(crate) fn import(paths: &[PathBuf], root: &Path, read: &dyn Fn(&Path) -> Option<String>) -> Result<Converted, Failure> {
    let mut report = ConversionReport::default();
    let mut processes = Map::new();
    let mut out = Procfile::default();
    let mut shell: Option<(String, String)> = None;
    let mut dotenv = true;
    let mut vars: Vec<(String, String)> = Vec::new();
    for (index, path) in paths.iter().enumerate() {
        let name = path.strip_prefix(root).unwrap_or(path).display().to_string();
        let file = u32::try_from(index).unwrap_or(u32::MAX);
        report.files.push(name.clone());
        let fail = |message: String, help: &str| Failure::new(FailureKind::Config, message).help(help);
        let text = read(path).ok_or_else(|| fail(format!("{name} cannot be read"), "check the path"))?;
        let node = yaml::parse(&text, file).map_err(|bad| {
            fail(format!("{name}:{}:{}: {}", bad.line, bad.column, bad.message), "fix the YAML there, then run the command again")
        })?;
        let Some(map) = node.map() else {
            return Err(fail(
                format!("{name}: the file holds {} where a table is wanted", node.kind()),
                "it has `processes:` and, below it, a name each",
            ));
        };
        for (key, node) in map {
            match key.name.as_str() {
                "processes" => {
                    for (key, node) in node.map().into_iter().flatten() {
                        // A later file replaces key by key.
                        match processes.iter_mut().find(|(known, _)| known.name == key.name) {
                            Some((_, old)) => {
                                if let (YamlValue::Map(old), Some(more)) = (&mut old.value, node.map()) {
                                    old.retain(|(known, _)| get(more, &known.name).is_none());
                                    old.extend(more.iter().cloned());
                                }
                            }
                            None => processes.push((key.clone(), node.clone())),
                        }
                    }
                }
                "environment" => {
                    let env: Vec<(String, Toml)> = variables(node);
                    report.mapped(key.at, "environment", format!("[env]: {} variables", env.len()));
                    env.into_iter().for_each(|(name, value)| out.env.set(&name, value));
                }
                "version" | "is_strict" | "log_level" | "log_length" | "log_configuration" | "log_location"
                | "is_tui_disabled" => {
                    report.dropped(key.at, key.name.clone(), "devrun has its own");
                }
                "shell" => {
                    let text = |key: &str| node.get(key).and_then(YamlNode::scalar);
                    let argument = text("shell_argument").unwrap_or_else(|| "-c".to_owned());
                    if let Some(program) = text("shell_command") {
                        report.mapped(key.at, "shell", format!("commands go through {program} {argument}"));
                        shell = Some((program, argument));
                    }
                }
                "is_dotenv_disabled" => dotenv = node.truth() != Some(true),
                "vars" => {
                    let mut more = process_variables::values(node);
                    report.mapped(key.at, "vars", "filled in where {{.NAME}} stands");
                    vars.retain(|(name, _)| !more.iter().any(|(other, _)| other == name));
                    vars.append(&mut more);
                }
                name if name.starts_with("x-") => {}
                other => report.not_mapped(key.at, other.to_owned(), "unknown key"),
            }
        }
    }
    for (key, process) in &mut processes {
        process_variables::fill_process(process, &vars);
        if process_variables::is_left(process) {
            let text = "a {{template}} other than {{.NAME}} of `vars` stays as it is: write its value";
            report.not_mapped(key.at, format!("processes.{}", key.name), text);
        }
    }
    if processes.is_empty() {
        let name = report.files.first().cloned().unwrap_or_default();
        return Err(Failure::new(FailureKind::Config, format!("{name} has no process below `processes:`"))
            .help("it has `processes:` and, below it, a name each"));
    }
    ensure_distinct(&processes, NAME_START, &report)?;
    let completed: BTreeSet<String> = processes
        .iter()
        .flat_map(|(_, node)| node.get("depends_on").and_then(YamlNode::map).into_iter().flatten())
        .filter(|(name, edge)| {
            get(&processes, &name.name).is_some_and(|target| target.get("disabled").and_then(YamlNode::truth) != Some(true))
                && edge.get("condition").and_then(YamlNode::scalar).is_some_and(|text| text.starts_with("process_completed"))
        })
        .map(|(name, _)| name.name.clone())
        .collect();
    let mut import = Import {
        report,
        processes: processes.clone(),
        completed,
        ports: BTreeSet::new(),
        shell,
        dotenv: dotenv && read(&root.join(".env")).is_some(),
    };
    for (key, node) in &processes {
        let name = our_name(&key.name);
        if name != key.name {
            import.report.mapped(key.at, format!("processes.{}", key.name), is_called(&name));
        }
        let mut section = Section { behind: import.report.place(key.at), ..Section::default() };
        let task = import.completed.contains(&key.name);
        if import.process(&key.name, key.at, node, task, &mut section) {
            if task { out.tasks.push((name, section)) } else { out.services.push((name, section)) }
        }
    }
    out.above = vec!["Made from a process-compose file by `devrun import`.".to_owned()];
    if root.join(".env").to_str().is_some() && read(&root.join(".env")).is_some() {
        out.project.set("env_file", Toml::texts([".env"]));
    }
    let left: Vec<_> = import.report.lines.iter().filter(|line| line.outcome == super::KeyOutcome::NotMapped).cloned().collect();
    if !left.is_empty() {
        out.below.push("Not mapped:".to_owned());
        out.below.extend(left.iter().map(|line| format!("  {}: {}: {}", import.report.place(line.at), line.what, line.text)));
    }
    let services = out.services.len() + out.tasks.len();
    Ok(Converted { text: out.text(), report: import.report, faults: Vec::new(), services })
}

struct Import {
    report: ConversionReport,
    processes: Map,
    completed: BTreeSet<String>,
    ports: BTreeSet<i64>,
    /// The shell that was asked for, and its option.
    shell: Option<(String, String)>,
    /// `.env` reaches every process.
    dotenv: bool,
}

fn our_name(name: &str) -> String {
    procfile_name(name, NAME_START)
}

fn variables(node: &YamlNode) -> Vec<(String, Toml)> {
    // It fills its file in when it reads it, from the shell and `.env`; a name that is nowhere is empty.
    let text = |text: &str| Toml::text(syntax::placeholders(text, &mut |_| true));
    match &node.value {
        YamlValue::Map(map) => map.iter().filter_map(|(key, node)| Some((key.name.clone(), text(&node.scalar()?)))).collect(),
        _ => node
            .texts()
            .iter()
            .filter_map(|(pair, _)| pair.split_once('='))
            .map(|(name, value)| (name.to_owned(), text(value)))
            .collect(),
    }
}

/// A word of a list: every dollar is the shell's, and what was escaped against process-compose no longer needs it.
fn for_shell(text: &str) -> String {
    text.replace("$$", "$").replace('$', "$$")
}

fn seconds(node: Option<&YamlNode>) -> Option<String> {
    let number = node?.scalar()?.parse::<u64>().ok()?;
    Some(format!("{number}s"))
}

impl Import {
    fn process(&mut self, process: &str, at: At, node: &YamlNode, task: bool, section: &mut Section) -> bool {
        let what = |key: &str| format!("processes.{process}.{key}");
        let Some(map) = node.map() else {
            self.report.not_mapped(at, format!("processes.{process}"), format!("is {} where a table is wanted", node.kind()));
            return false;
        };
        let words = node.get("entrypoint").map(YamlNode::texts).unwrap_or_default();
        let run = match node.get("command").and_then(YamlNode::scalar) {
            // The shell looks its own variables up, as it did before.
            Some(command) if !command.trim().is_empty() => {
                // In a here-document it may be text.
                if let Some(quote) = open_quote(&command).filter(|_| !command.contains("<<")) {
                    let at = node.get("command").map_or(at, |command| command.at);
                    self.report.not_mapped(at, what("command"), format!("a {quote} is never closed: correct it in `run`"));
                }
                self.command(command.trim(), section)
            }
            _ if !words.is_empty() => Toml::texts(words.into_iter().map(|(word, _)| for_shell(&word))),
            _ => {
                self.report.not_mapped(at, format!("processes.{process}"), "has no `command`: give it run = \"COMMAND\"");
                return false;
            }
        };
        self.report.mapped(at, what("command"), "run");
        section.set("run", run);
        if section.has("shell") {
            // The command stands first.
            let shell = section.take("shell");
            shell.into_iter().for_each(|shell| section.set("shell", shell));
        }
        let own_file = node.get("env_file").or(node.get("dotenv")).is_some();
        if self.dotenv && !own_file && node.get("is_dotenv_disabled").and_then(YamlNode::truth) != Some(true) {
            section.set("env_file", Toml::texts([".env"]));
        }
        for (key, value) in map {
            let (name, at) = (key.name.as_str(), key.at);
            match name {
                "command" | "entrypoint" => {}
                "working_dir" => {
                    let dir = value.scalar().unwrap_or_default();
                    self.report.mapped(at, what(name), format!("dir = {dir}"));
                    section.set("dir", Toml::text(dir.replace('$', "$$").replacen("$$HOME", "${HOME}", 1)));
                }
                "environment" => {
                    self.report.mapped(at, what(name), "env");
                    section.set("env", Toml::Table(variables(value)));
                }
                "env_file" | "dotenv" => {
                    self.report.mapped(at, what(name), "env_file");
                    let mut files: Vec<String> = value.texts().into_iter().map(|(text, _)| text).collect();
                    let disabled = node.get("is_dotenv_disabled").and_then(YamlNode::truth) == Some(true);
                    if self.dotenv && !disabled && !files.iter().any(|file| file == ".env") {
                        files.insert(0, ".env".to_owned());
                    }
                    section.set("env_file", Toml::texts(files));
                }
                "depends_on" => self.edges(process, value, section),
                "readiness_probe" | "liveness_probe" if task => self.report.dropped(at, what(name), "a task completes"),
                "readiness_probe" => self.probe(process, name, value, section),
                "liveness_probe" => self.probe(process, name, value, section),
                "ready_log_line" if task => self.report.dropped(at, what(name), "a task completes"),
                "ready_log_line" => {
                    let pattern: String = value
                        .scalar()
                        .unwrap_or_default()
                        .chars()
                        .flat_map(|char| {
                            let escape = "\\.+*?()|[]{}^$".contains(char);
                            escape.then_some('\\').into_iter().chain(std::iter::once(char))
                        })
                        .collect();
                    self.report.mapped(at, what(name), "ready.log");
                    section.set("ready", Toml::Table(vec![("log".to_owned(), Toml::text(pattern.replace('$', "$$")))]));
                }
                "availability" => self.availability(process, value, task, section),
                "shutdown" => self.shutdown(process, value, section),
                "namespace" => {
                    self.report.dropped(at, what(name), "a group by name; `profiles` turns services on and off");
                }
                "disabled" if value.truth() == Some(true) => {
                    self.report.mapped(at, what(name), "profiles = [\"disabled\"]: started when it is named");
                    section.set("profiles", Toml::texts(["disabled"]));
                }
                "disabled" => {}
                "replicas" => match value.scalar().and_then(|text| text.parse::<i64>().ok()) {
                    Some(number) if number > 1 && !task => {
                        self.report.mapped(at, what(name), format!("replicas = {number}"));
                        section.set("replicas", Toml::Integer(number));
                    }
                    _ => self.report.dropped(at, what(name), "one"),
                },
                "description" => section.set("description", Toml::text(value.scalar().unwrap_or_default().replace('$', "$$"))),
                "is_tty" if value.truth() == Some(true) => {
                    self.report.mapped(at, what(name), "tty = true");
                    section.set("tty", Toml::Bool(true));
                }
                "log_location"
                | "logger"
                | "log_configuration"
                | "disable_ansi_colors"
                | "is_tty"
                | "is_foreground"
                | "is_elevated" => {
                    self.report.dropped(at, what(name), "devrun keeps the logs and the terminal");
                }
                "is_daemon" | "launch_timeout_seconds" => self.report.not_mapped(
                    at,
                    what(name),
                    "run it in the foreground: devrun looks after processes, not after files with numbers",
                ),
                "is_dotenv_disabled" => self.report.mapped(at, what(name), "env_file"),
                "vars" => self.report.mapped(at, what(name), "filled in where {{.NAME}} stands"),
                name if name.starts_with("x-") => {}
                name => self.report.not_mapped(at, what(name), "unknown key"),
            }
        }
        true
    }

    /// process-compose gives every command to a shell, by itself to bash.
    fn command(&self, command: &str, section: &mut Section) -> Toml {
        let list = |shell: &str, option: &str| Toml::texts([shell.to_owned(), option.to_owned(), for_shell(command)]);
        if let Some((shell, option)) = &self.shell {
            return list(shell, option);
        }
        let words: Vec<&str> = command.split([' ', '\n', ';', '&', '(']).collect();
        if words.iter().any(|word| matches!(*word, "source" | "[[" | "shopt" | "declare" | "pushd" | "popd"))
            || command.contains("<(")
            || command.contains("<<<")
            // `check` refuses a line for a shell that has such a quote; here the shell does.
            || open_quote(command).is_some()
        {
            return list("bash", "-c");
        }
        // The shell looks its own variables up, as it did before.
        if command.contains('$') {
            return list("sh", "-c");
        }
        section.set("shell", Toml::Bool(true));
        Toml::text(command)
    }

    fn edges(&mut self, process: &str, node: &YamlNode, section: &mut Section) {
        let mut edges = Vec::new();
        for (key, edge) in node.map().into_iter().flatten() {
            let what = format!("processes.{process}.depends_on");
            let Some(target) = get(&self.processes, &key.name).cloned() else {
                self.report.not_mapped(key.at, what, format!("unknown process `{}`", key.name));
                continue;
            };
            if target.get("disabled").and_then(YamlNode::truth) == Some(true) && !self.completed.contains(&key.name) {
                self.report.not_mapped(key.at, what, format!("`{}` is disabled: it is not waited for", key.name));
                continue;
            }
            let condition = edge.get("condition").and_then(YamlNode::scalar).unwrap_or_default();
            let probed = ["readiness_probe", "ready_log_line"].iter().any(|probe| target.get(probe).is_some());
            let ours = match condition.as_str() {
                "process_healthy" | "process_log_ready" if probed => "healthy",
                "process_completed" | "process_completed_successfully" => "completed",
                "process_healthy" | "process_log_ready" => {
                    self.report.not_mapped(
                        key.at,
                        what.clone(),
                        format!("`{}` has no readiness probe: it is waited for until it is started", key.name),
                    );
                    "started"
                }
                _ => "started",
            };
            if condition == "process_completed" {
                self.report.not_mapped(key.at, what.clone(), "devrun wants it to end well, not only to end");
            }
            let ours = if self.completed.contains(&key.name) { "completed" } else { ours };
            self.report.mapped(key.at, what, format!("{}:{ours}", key.name));
            edges.push(format!("{}:{ours}", our_name(&key.name)));
        }
        if !edges.is_empty() {
            section.set("depends_on", Toml::texts(edges));
        }
    }

    fn probe(&mut self, process: &str, key: &str, node: &YamlNode, section: &mut Section) {
        let what = format!("processes.{process}.{key}");
        let mut ready = Vec::new();
        if let Some(http) = node.get("http_get") {
            let text = |key: &str| http.get(key).and_then(YamlNode::scalar);
            let host = text("host").unwrap_or_else(|| "127.0.0.1".to_owned());
            let scheme = text("scheme").unwrap_or_else(|| "http".to_owned());
            let path = text("path").unwrap_or_else(|| "/".to_owned());
            let port = text("port").and_then(|port| port.parse::<i64>().ok()).unwrap_or(80);
            let own =
                matches!(host.as_str(), "localhost" | "127.0.0.1" | "0.0.0.0") && scheme == "http" && (1..=65535).contains(&port);
            let owned = section.get("port") == Some(&Toml::Integer(port));
            if own && (owned || (!section.has("port") && self.ports.insert(port))) {
                section.set("port", Toml::Integer(port));
                ready.push(("http".to_owned(), Toml::text(path)));
            } else {
                ready.push(("http".to_owned(), Toml::text(format!("{scheme}://{host}:{port}{path}"))));
            }
        } else if let Some(command) = node.get("exec").and_then(|exec| exec.get("command")).and_then(YamlNode::scalar) {
            ready.push(("cmd".to_owned(), Toml::texts(["sh".to_owned(), "-c".to_owned(), for_shell(&command)])));
        } else {
            self.report.not_mapped(node.at, what, "has neither `http_get` nor `exec`");
            return;
        }
        for (theirs, ours) in
            [("period_seconds", "interval"), ("timeout_seconds", "timeout"), ("initial_delay_seconds", "start_period")]
        {
            // Theirs is asked every ten seconds where nothing is said.
            let usual = (ours == "interval").then(|| "10s".to_owned());
            if let Some(time) = seconds(node.get(theirs)).filter(|time| ours != "interval" || time != "0s").or(usual) {
                ready.push((ours.to_owned(), Toml::text(time)));
            }
        }
        if let Some(number) =
            node.get("failure_threshold").and_then(YamlNode::scalar).and_then(|text| text.parse::<i64>().ok()).filter(|n| *n > 0)
        {
            ready.push(("retries".to_owned(), Toml::Integer(number)));
        }
        let ours = if key == "liveness_probe" { "alive" } else { "ready" };
        self.report.mapped(node.at, what, ours);
        section.set(ours, Toml::Table(ready));
    }

    fn availability(&mut self, process: &str, node: &YamlNode, task: bool, section: &mut Section) {
        let what = |key: &str| format!("processes.{process}.availability.{key}");
        let most =
            node.get("max_restarts").and_then(YamlNode::scalar).and_then(|text| text.parse::<u32>().ok()).filter(|n| *n > 0);
        for (key, value) in node.map().into_iter().flatten() {
            match key.name.as_str() {
                "restart" if task && value.scalar().as_deref() == Some("no") => {
                    self.report.dropped(key.at, what("restart"), "a task runs once")
                }
                "restart" if task => {
                    let text = "a task is not tried again, and what waits for it is blocked when it fails: put the retry into its command";
                    self.report.not_mapped(key.at, what("restart"), text);
                }
                "restart" => {
                    let policy = match value.scalar().unwrap_or_default().as_str() {
                        "always" => "always".to_owned(),
                        "on_failure" => most.map_or_else(|| "on-failure".to_owned(), |n| format!("on-failure:{n}")),
                        "exit_on_failure" => {
                            self.report.not_mapped(key.at, what("restart"), "exit_on_failure: devrun up --abort-on-failure");
                            continue;
                        }
                        _ => continue,
                    };
                    self.report.mapped(key.at, what("restart"), policy.clone());
                    section.set("restart", Toml::text(policy));
                }
                "backoff_seconds" if !task => {
                    if let Some(time) = seconds(Some(value)).filter(|time| time != "0s") {
                        self.report.mapped(key.at, what("backoff_seconds"), format!("backoff.initial = {time}"));
                        section.set(
                            "backoff",
                            Toml::Table(vec![("initial".to_owned(), Toml::text(time)), ("max".to_owned(), Toml::text("60s"))]),
                        );
                    }
                }
                "max_restarts" | "backoff_seconds" => {}
                "exit_on_end" => {
                    self.report.not_mapped(key.at, what("exit_on_end"), format!("devrun up --exit-code-from {process}"))
                }
                other => self.report.not_mapped(key.at, what(other), "unknown key"),
            }
        }
    }

    fn shutdown(&mut self, process: &str, node: &YamlNode, section: &mut Section) {
        let mut stop = Vec::new();
        for (key, value) in node.map().into_iter().flatten() {
            let text = value.scalar().unwrap_or_default();
            match key.name.as_str() {
                "command" => stop.push(("command".to_owned(), Toml::texts(["sh".to_owned(), "-c".to_owned(), for_shell(&text)]))),
                "timeout_seconds" => stop.extend(seconds(Some(value)).map(|time| ("grace".to_owned(), Toml::text(time)))),
                "signal" => {
                    let signal = match text.as_str() {
                        "1" => "HUP",
                        "2" => "INT",
                        "3" => "QUIT",
                        "9" => "KILL",
                        "10" => "USR1",
                        "12" => "USR2",
                        _ => "TERM",
                    };
                    stop.push(("signal".to_owned(), Toml::text(signal)));
                }
                "parent_only" => self.report.dropped(
                    key.at,
                    format!("processes.{process}.shutdown.parent_only"),
                    "the leader gets the signal first anyway",
                ),
                other => self.report.not_mapped(key.at, format!("processes.{process}.shutdown.{other}"), "unknown key"),
            }
        }
        if !stop.is_empty() {
            self.report.mapped(node.at, format!("processes.{process}.shutdown"), "stop");
            section.set("stop", Toml::Table(stop));
        }
    }
}
