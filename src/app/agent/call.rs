//! What each tool does.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use serde::Deserialize;
use serde_json::{Value, json};

use devrun_logs::scroll::{LogCursor, LogPositions, LogWindow, ScrollStart};
use devrun_model::mask::Masker;
use devrun_model::{Failure, FailureKind, ServiceId, State, exit};
use devrun_runtime::engine::clock::stamp_of_micros;

use super::log_digest::digest;
use crate::app::log_pages::{self, PageLine};
use crate::app::log_selection;
use crate::app::observer::Observer;
use crate::app::service_details;
use crate::app::viewer_command::{self, CommandOutput};

/// Bytes of log lines, unless more is asked for.
const BUDGET: usize = 8000;
/// The most that may be asked for.
const MAX_BUDGET: usize = 200_000;
/// Lines that one call looks at.
const MAX_LINES: usize = 20_000;
/// Lines of a first call.
const FIRST: usize = 500;
/// Lines of a failed service.
const LAST_LINES: usize = 20;

/// Carries out calls; remembers how far the logs have been read.
pub(super) struct AgentStack {
    observer: Observer,
    read_to: Mutex<BTreeMap<String, LogPositions>>,
}

/// The parameters of every tool; each uses some of them.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Parameters {
    services: Vec<String>,
    service: String,
    grep: String,
    all: bool,
    budget: Option<usize>,
    sql: String,
    on: String,
    #[serde(rename = "for")]
    until: Option<String>,
    timeout_seconds: Option<u64>,
    only: String,
    confirm: String,
}

fn words(first: &[&str], names: &[String]) -> Vec<String> {
    first.iter().map(|word| (*word).to_owned()).chain(names.iter().cloned()).collect()
}

fn usage(reason: impl Into<String>) -> Failure {
    Failure::new(FailureKind::Config, reason)
}

impl AgentStack {
    /// For this project.
    #[must_use]
    pub(super) fn new(observer: Observer) -> Self {
        Self { observer, read_to: Mutex::new(BTreeMap::new()) }
    }

    /// Calls a tool.
    ///
    /// # Errors
    /// What the command of that name would fail with.
    pub(super) async fn call(&self, tool: &str, arguments: Value) -> Result<Value, Failure> {
        let given: Parameters =
            serde_json::from_value(arguments).map_err(|error| usage(format!("invalid arguments: {error}")))?;
        let names = [given.services.as_slice(), std::slice::from_ref(&given.service), std::slice::from_ref(&given.on)];
        // A name that begins with `-` would be read as an option.
        if let Some(odd) = names.iter().copied().flatten().find(|name| name.starts_with('-')) {
            return Err(usage(format!("unknown service or task `{odd}`")));
        }
        match tool {
            "status" => self.status().await,
            "up" => self.act(words(&["up", "-d"], &given.services)).await,
            "restart" => self.act(words(&["restart"], &given.services)).await,
            "stop" => self.act(words(&["stop"], &given.services)).await,
            "down" => self.act(words(&["down"], &[])).await,
            "logs" => self.logs(given).await,
            "why" => Ok(json!(self.observer.explain(&given.service).await?)),
            "explain_failure" => self.explain_failure().await,
            "query" => self.query(&given).await,
            "urls" => self.printed(words(&["urls", "--json"], &[])).await,
            "env" => Ok(json!(service_details::details(&self.observer, &given.service).await?.env)),
            "wait" => self.wait(&given).await,
            "clean" => self.clean(&given).await,
            other => Err(usage(format!("unknown tool `{other}`"))),
        }
    }

    fn masker(&self) -> Masker {
        self.observer.plan().map_or_else(Masker::default, |plan| Masker::new(&plan, false))
    }

    async fn run(&self, words: Vec<String>) -> Result<CommandOutput, Failure> {
        viewer_command::run_aside(self.observer.globals(), words).await
    }

    async fn status(&self) -> Result<Value, Failure> {
        let status = self.observer.status().await?;
        let services: Vec<Value> = status
            .snapshot
            .services
            .iter()
            .map(|one| {
                let waiting = ServiceId::parse(&one.name).ok().and_then(|id| status.waiting.get(&id)).cloned();
                let mut value = json!({
                    "name": one.name, "kind": one.kind, "state": one.state, "health": one.health, "restarts": one.restarts,
                });
                let optional = [
                    ("reason", json!(one.reason)),
                    ("waits_for", json!(waiting)),
                    ("exit_code", json!(one.exit_code)),
                    ("signal", json!(one.signal)),
                    ("url", json!(one.url)),
                    ("ports", if one.ports.is_empty() { Value::Null } else { json!(one.ports) }),
                ];
                for (name, field) in optional.into_iter().filter(|(_, field)| !field.is_null()) {
                    value[name] = field;
                }
                value
            })
            .collect();
        Ok(json!({
            "project": status.snapshot.project,
            "running": status.snapshot.supervisor_pid.is_some(),
            "services": services,
        }))
    }

    /// Runs a command that starts or stops something, and says how things are after it.
    async fn act(&self, words: Vec<String>) -> Result<Value, Failure> {
        let output = self.run(words).await?;
        let said = self.masker().text(output.stderr.trim());
        let mut answer =
            json!({ "ok": output.code == exit::DONE, "exit_code": output.code, "meaning": exit::meaning(output.code) });
        if output.code != exit::DONE {
            answer["output"] = json!(last_part(&said, BUDGET));
            answer["next"] = json!("explain_failure");
        }
        // Nothing may run any more, or never have run.
        if let Ok(status) = self.status().await {
            answer["status"] = status;
        }
        Ok(answer)
    }

    async fn printed(&self, words: Vec<String>) -> Result<Value, Failure> {
        let output = self.run(words).await?;
        if output.code != exit::DONE {
            return Err(Failure::new(FailureKind::Service, self.masker().text(output.last_line())));
        }
        serde_json::from_str(&output.stdout)
            .map_err(|error| Failure::new(FailureKind::Internal, format!("the answer is not JSON: {error}")))
    }

    async fn logs(&self, given: Parameters) -> Result<Value, Failure> {
        let project = self.observer.project().clone();
        let masker = self.masker();
        let before = self.read_to.lock().unwrap_or_else(PoisonError::into_inner).get(&given.service).cloned();
        let service = given.service.clone();
        let budget = given.budget.unwrap_or(BUDGET).min(MAX_BUDGET);
        let read = move || -> Result<(Vec<PageLine>, LogPositions), Failure> {
            log_selection::check(&project)?;
            let folder = project.places.logs();
            let ids = log_pages::files_of(&project, &given.service);
            let filter = log_pages::pattern(&given.grep)?;
            let end = LogCursor::new(&folder, &ids, &ScrollStart::Newest).positions();
            let mut window = match before.filter(|_| !given.all) {
                Some(before) => {
                    let mut window = LogWindow::new(&folder, &ids, &ScrollStart::At(before), filter);
                    while window.extend_down(MAX_LINES) == MAX_LINES {
                        window.trim_top(MAX_LINES);
                    }
                    window
                }
                None => {
                    let mut window = LogWindow::new(&folder, &ids, &ScrollStart::Newest, filter);
                    window.extend_up(if given.all { MAX_LINES } else { FIRST });
                    window
                }
            };
            window.trim_top(MAX_LINES);
            Ok((window.lines().map(|line| log_pages::page_line(line, &masker)).collect(), end))
        };
        let (lines, end) = aside(read).await?;
        self.read_to.lock().unwrap_or_else(PoisonError::into_inner).insert(service, end);
        Ok(json!(digest(&lines, budget)))
    }

    async fn explain_failure(&self) -> Result<Value, Failure> {
        let status = self.observer.status().await?;
        let masker = self.masker();
        let outcome = status.settled.clone().unwrap_or_default();
        let mut failures = Vec::new();
        for one in &status.snapshot.services {
            let failed_start = outcome.failures.iter().find(|failed| failed.id.as_str() == one.name);
            if !matches!(one.state, State::Failed | State::BackingOff) && one.health != devrun_model::Health::Unhealthy {
                continue;
            }
            let why = self.observer.explain(&one.name).await?;
            let blocked: Vec<&str> = status
                .snapshot
                .services
                .iter()
                .filter(|other| {
                    let root = outcome.blocked.iter().any(|(id, root)| id.as_str() == other.name && root.as_str() == one.name);
                    let waits = ServiceId::parse(&other.name).ok().and_then(|id| status.waiting.get(&id));
                    root || waits.is_some_and(|on| on.iter().any(|id| id.as_str() == one.name))
                })
                .map(|other| other.name.as_str())
                .collect();
            failures.push(json!({
                "service": one.name,
                "state": one.state,
                "reason": failed_start.map(|failed| failed.failure.reason.clone()).or_else(|| one.reason.clone()).map(|text| masker.text(&text)),
                "help": failed_start.and_then(|failed| failed.failure.help.clone()).or(why.help),
                "exit_code": one.exit_code,
                "signal": one.signal,
                "last_probe_answer": why.last_answer,
                "blocks": blocked,
                "last_lines": self.last_lines(&one.name).await?,
            }));
        }
        let blocked: Vec<Value> = status
            .snapshot
            .services
            .iter()
            .filter(|one| one.state == State::Blocked)
            .map(|one| json!({ "service": one.name, "reason": one.reason }))
            .collect();
        let mut answer = json!({ "failures": failures, "blocked": blocked, "running": status.snapshot.supervisor_pid.is_some() });
        if status.snapshot.supervisor_pid.is_none() {
            // Nothing ran, so the procfile or the machine may be in the way.
            let check = self.run(words(&["check"], &[])).await?;
            if check.code != exit::DONE {
                answer["procfile"] = json!(last_part(&masker.text(check.stderr.trim()), BUDGET));
            } else if let Ok(found) = self.run(words(&["doctor", "--json"], &[])).await
                && let Ok(findings) = serde_json::from_str::<Value>(&found.stdout)
            {
                answer["doctor"] = failing(&findings);
            }
        }
        Ok(answer)
    }

    async fn last_lines(&self, name: &str) -> Result<Vec<String>, Failure> {
        let project = self.observer.project().clone();
        let (masker, name) = (self.masker(), name.to_owned());
        let read = move || {
            let ids = log_pages::files_of(&project, &name);
            let mut window = LogWindow::new(&project.places.logs(), &ids, &ScrollStart::Newest, None);
            window.extend_up(LAST_LINES);
            let text = |line| {
                let line: PageLine = log_pages::page_line(line, &masker);
                format!("{} {}", stamp_of_micros(line.micros), line.text)
            };
            Ok(window.lines().map(text).collect())
        };
        aside(read).await
    }

    async fn query(&self, given: &Parameters) -> Result<Value, Failure> {
        if given.sql.trim().is_empty() {
            return Err(usage("`sql` is missing"));
        }
        let mut command = words(&["sql", "--read-only", "--json"], &[]);
        if !given.on.is_empty() {
            command.extend(["--on".to_owned(), given.on.clone()]);
        }
        command.extend(["--".to_owned(), given.sql.clone()]);
        let output = self.run(command).await?;
        if output.code != exit::DONE {
            return Err(Failure::new(FailureKind::Task, self.masker().text(output.stderr.trim())));
        }
        let rows: Value = serde_json::from_str(&output.stdout)
            .map_err(|error| Failure::new(FailureKind::Internal, format!("the answer is not JSON: {error}")))?;
        Ok(json!({ "rows": rows }))
    }

    async fn wait(&self, given: &Parameters) -> Result<Value, Failure> {
        let mut command = words(&["wait"], &given.services);
        if given.services.is_empty() {
            command.push("--all".to_owned());
        }
        let until = given.until.as_deref().unwrap_or("ready");
        let seconds = given.timeout_seconds.unwrap_or(60).min(3600);
        command.extend(["--for".to_owned(), until.to_owned(), "--timeout".to_owned(), format!("{seconds}s")]);
        let output = self.run(command).await?;
        let mut answer = json!({ "ok": output.code == exit::DONE, "exit_code": output.code });
        if output.code != exit::DONE {
            answer["output"] = json!(last_part(&self.masker().text(output.stderr.trim()), BUDGET));
        }
        Ok(answer)
    }

    async fn clean(&self, given: &Parameters) -> Result<Value, Failure> {
        let mut command = words(&["clean"], &[]);
        if !given.only.is_empty() {
            command.push(format!("--only={}", given.only));
        }
        let looked = self.run(command.clone()).await?;
        let Some(confirm) = confirmation(&looked.stderr) else {
            return Ok(json!({ "deleted": false, "output": looked.stderr.trim() }));
        };
        if given.confirm != confirm {
            return Ok(json!({ "deleted": false, "would_delete": looked.stderr.trim(), "confirm": confirm }));
        }
        command.push("--yes".to_owned());
        let output = self.run(command).await?;
        Ok(json!({ "deleted": output.code == exit::DONE, "output": output.stderr.trim() }))
    }
}

/// What confirms a deletion: the question that `clean` would ask.
fn confirmation(said: &str) -> Option<String> {
    let line = said.lines().find_map(|line| line.strip_prefix("error: deleting ")?.split_once(" needs confirmation"))?;
    Some(format!("delete {}", line.0))
}

fn failing(findings: &Value) -> Value {
    let list = findings.get("checks").or_else(|| findings.get("findings")).unwrap_or(findings);
    let bad = |one: &&Value| one.get("status").and_then(Value::as_str) == Some("fail");
    list.as_array().map_or(Value::Null, |list| list.iter().filter(bad).cloned().collect())
}

/// The end of a text, at a line where there is one.
fn last_part(text: &str, most: usize) -> &str {
    let from = text.len().saturating_sub(most);
    let from = (from..text.len()).find(|at| text.is_char_boundary(*at)).unwrap_or(text.len());
    text.get(from..).unwrap_or_default()
}

async fn aside<T: Send + 'static>(work: impl FnOnce() -> Result<T, Failure> + Send + 'static) -> Result<T, Failure> {
    tokio::task::spawn_blocking(work)
        .await
        .unwrap_or_else(|error| Err(Failure::new(FailureKind::Internal, format!("cannot read logs: {error}"))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_deletion_is_confirmed_by_its_question() {
        let said = "GOES  SIZE  WHERE\npersistent volume db  40 MiB  /x\nerror: deleting 40 MiB needs confirmation, and stdin is not a terminal\n";
        assert_eq!(confirmation(said).as_deref(), Some("delete 40 MiB"));
        assert_eq!(confirmation("nothing to delete\n"), None);
        assert_eq!(last_part("añb", 2), "b");
    }
}
