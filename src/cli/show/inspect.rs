//! `devrun inspect`: all that is known of one service.

use clap::Args;

use crate::ui::term::{Term, safe};
use devrun_model::mask::Masker;
use devrun_model::{Failure, Launch, ServiceSpec, ServiceStatus, duration};
use devrun_runtime::init::hash_file;
use devrun_runtime::local_time::local;

use crate::app::host_requirements;
use crate::app::readonly::{self, Seen};
use crate::globals::Globals;

// `inspect`.
#[derive(Debug, Args)]
pub struct InspectArgs {
    /// Service or task
    #[arg(value_name = "SERVICE")]
    pub service: String,
    /// Output as JSON
    #[arg(long)]
    pub json: bool,
}

/// Runs it.
///
/// # Errors
/// `Config` when there is no such service.
pub fn run(globals: &Globals, args: &InspectArgs, _term: Term) -> Result<i32, Failure> {
    let seen = Seen::new(globals, std::slice::from_ref(&args.service))?;
    let spec = readonly::one(&seen.plan, &args.service)?;
    let live = crate::app::runtime::runtime()?.block_on(async {
        match crate::app::connect::supervisor(&seen.project.places).await {
            Ok(Some(mut client)) => client.inspect(&spec.id).await,
            Ok(None) => Ok(None),
            Err(failure) => Err(failure),
        }
    })?;
    let masker = Masker::new(&seen.plan, false);
    let value = masked(describe(spec, seen.status(spec), live.as_ref(), &masker, &seen), &masker);
    if args.json {
        return readonly::json(&value);
    }
    let mut out = String::new();
    print(&for_people(value, spec), 0, &mut out);
    Ok(readonly::text(&out))
}

fn describe(
    spec: &ServiceSpec,
    status: Option<&ServiceStatus>,
    live: Option<&serde_json::Value>,
    masker: &Masker,
    seen: &Seen,
) -> serde_json::Value {
    // What was asked for, where it is known; a recipe's words are made at its start, and the kernel has them.
    let words = match &spec.launch {
        Launch::Run(command) => Some(command.argv.clone()),
        _ => status.and_then(|status| status.pid).and_then(argv_of),
    };
    let argv = masker.words(&words.unwrap_or_default());
    let binary = status.and_then(|status| status.binary.clone());
    let from_live = |key: &str| live.and_then(|live| live.get(key)).cloned().unwrap_or(serde_json::Value::Null);
    let located = |key: &str| from_live("located").get(key).cloned().unwrap_or(serde_json::Value::Null);
    serde_json::json!({
        "name": spec.id,
        "service": spec.service,
        "replica": spec.replica,
        "kind": spec.kind,
        "state": status.map(|status| status.state),
        "health": status.map(|status| status.health),
        "reason": status.and_then(|status| status.reason.clone()),
        "pid": status.and_then(|status| status.pid),
        "exit_code": status.and_then(|status| status.exit_code),
        "signal": status.and_then(|status| status.signal.clone()),
        "restarts": status.map_or(0, |status| status.restarts),
        "started_at": status.and_then(|status| status.started_at.clone()),
        "ready_at": status.and_then(|status| status.ready_at.clone()),
        "generation": from_live("generation"),
        "argv": argv,
        "dir": spec.dir,
        "env": masker.variables(&spec.env),
        "ports": seen.ports(spec),
        "url": readonly::public_url(spec),
        "depends_on": spec.depends_on.iter().map(|edge| serde_json::json!({
            "on": edge.on, "condition": edge.condition.as_str(), "required": edge.required,
        })).collect::<Vec<_>>(),
        "probe": spec.ready.as_ref().map(|ready| ready.checks.iter().map(devrun_model::Check::kind).collect::<Vec<_>>()),
        "last_answer": last_answer(live),
        "probes": from_live("probes"),
        "restart": spec.restart.to_string(),
        "stop": {
            "signal": spec.stop.signal.to_string(),
            "grace_ms": u64::try_from(spec.stop.grace.as_millis()).unwrap_or(u64::MAX),
        },
        "limits": {
            "cpu": spec.limits.cpu, "memory": spec.limits.memory.map(|memory| memory.0), "nofile": spec.limits.nofile,
            "pids": spec.limits.pids,
        },
        "limits_not_enforced": not_enforced(spec, seen),
        "data": spec.data.as_ref().and_then(|name| seen.plan.volumes.get(name)).map(|volume| &volume.path),
        "log": devrun_logs::rotating_log_file::path(&seen.project.places.logs(), &spec.id),
        "binary": binary,
        "sha256": binary.as_ref().and_then(|path| hash_file(std::path::Path::new(path)).ok()),
        "version": status.and_then(|status| status.version.clone()),
        "origin": located("origin"),
        "why": located("why"),
        "timeout": spec.task_timeout().map(duration::format),
    })
}

/// What the probe was answered last, whether it passed or not.
fn last_answer(live: Option<&serde_json::Value>) -> serde_json::Value {
    let probes = live.and_then(|live| live.get("probes")).and_then(serde_json::Value::as_array);
    let last = probes.and_then(|probes| probes.last()).and_then(|probe| probe.get("answer"));
    last.or_else(|| live?.get("last_answer")).cloned().unwrap_or_default()
}

/// The limits that this system does not keep, with the reason.
fn not_enforced(spec: &ServiceSpec, seen: &Seen) -> serde_json::Map<String, serde_json::Value> {
    let reason = |controller| Some((str::to_owned(controller), host_requirements::not_enforced(controller, &seen.project.env)?));
    spec.limits
        .of_cgroup()
        .into_iter()
        .filter(|(_, is_set)| *is_set)
        .filter_map(|(name, _)| reason(name))
        .map(|(name, why)| (name, why.into()))
        .collect()
}

/// The order in which people ask; what is not named here comes after it, and the environment last.
const ORDER: &[&str] = &[
    "name",
    "kind",
    "state",
    "health",
    "reason",
    "exit_code",
    "signal",
    "url",
    "ports",
    "pid",
    "started_at",
    "ready_at",
    "restarts",
    "last_answer",
    "probe",
    "depends_on",
    "argv",
    "dir",
    "binary",
    "version",
    "why",
    "data",
    "log",
];

/// As people read it: the variables that are merely inherited counted, limits with what holds.
fn for_people(value: serde_json::Value, spec: &ServiceSpec) -> Vec<(String, serde_json::Value)> {
    let serde_json::Value::Object(mut object) = value else { return Vec::new() };
    for key in ["started_at", "ready_at"] {
        if let Some(at) = object.get_mut(key)
            && let Some(stamp) = at.as_str()
        {
            *at = local(stamp).into();
        }
    }
    for probe in object.get_mut("probes").and_then(serde_json::Value::as_array_mut).into_iter().flatten() {
        if let Some(took) = probe.get_mut("took_ms")
            && let Some(ms) = took.as_f64()
        {
            *took = ((ms * 10.0).round() / 10.0).into();
        }
    }
    let unenforced = object.remove("limits_not_enforced");
    if let Some(limits) = object.get_mut("limits").and_then(serde_json::Value::as_object_mut) {
        limits.retain(|_, limit| !limit.is_null());
        if let (Some(memory), Some(size)) = (limits.get_mut("memory"), spec.limits.memory) {
            *memory = size.to_string().into();
        }
        for (name, why) in unenforced.as_ref().and_then(serde_json::Value::as_object).into_iter().flatten() {
            if let (Some(limit), Some(why)) = (limits.get_mut(name), why.as_str()) {
                *limit = format!("{} (not enforced here: {why})", short(limit)).into();
            }
        }
    }
    let inherited = match object.get_mut("env").and_then(serde_json::Value::as_object_mut) {
        Some(env) => {
            let all = env.len();
            env.retain(|name, _| !spec.inherited.contains(name));
            all - env.len()
        }
        None => 0,
    };
    let env = object.remove("env").unwrap_or_default();
    let mut ordered: Vec<(String, serde_json::Value)> =
        ORDER.iter().filter_map(|key| Some(((*key).to_owned(), object.remove(*key)?))).collect();
    ordered.extend(object.into_iter().filter(|(key, _)| !matches!(key.as_str(), "service" | "generation")));
    ordered.push(("env".to_owned(), env));
    if inherited > 0 {
        ordered
            .push(("inherited variables".to_owned(), format!("{inherited} (devrun exec {} -- env lists all)", spec.id).into()));
    }
    ordered
}

/// The words of a process as the kernel has them.
fn argv_of(pid: i32) -> Option<Vec<String>> {
    let words = devrun_keeper::process_list::arguments(pid);
    (!words.is_empty()).then(|| words.iter().map(|word| String::from_utf8_lossy(word).into_owned()).collect())
}

fn masked(mut value: serde_json::Value, masker: &Masker) -> serde_json::Value {
    match &mut value {
        serde_json::Value::String(text) => *text = masker.text(text),
        serde_json::Value::Array(list) => list.iter_mut().for_each(|item| *item = masked(item.take(), masker)),
        serde_json::Value::Object(object) => object.iter_mut().for_each(|(_, item)| *item = masked(item.take(), masker)),
        _ => {}
    }
    value
}

/// Key and value, one a line, what is nested indented.
fn print(object: &[(String, serde_json::Value)], depth: usize, out: &mut String) {
    for (key, value) in object {
        let pad = "  ".repeat(depth);
        match value {
            serde_json::Value::Null => {}
            serde_json::Value::Object(inner) if inner.is_empty() => {}
            serde_json::Value::Object(inner) => {
                out.push_str(&format!("{pad}{key}:\n"));
                let inner: Vec<_> = inner.iter().map(|(key, value)| (key.clone(), value.clone())).collect();
                print(&inner, depth + 1, out);
            }
            serde_json::Value::Array(list) if list.is_empty() => {}
            serde_json::Value::Array(list) if list.iter().any(serde_json::Value::is_object) => {
                out.push_str(&format!("{pad}{key}:\n"));
                for item in list {
                    let fields = item.as_object().into_iter().flatten().map(|(name, field)| format!("{name} {}", short(field)));
                    out.push_str(&format!("{pad}  - {}\n", fields.collect::<Vec<_>>().join(", ")));
                }
            }
            serde_json::Value::Array(list) => {
                out.push_str(&format!("{pad}{key}: {}\n", list.iter().map(short).collect::<Vec<_>>().join(" ")));
            }
            other => out.push_str(&format!("{pad}{key}: {}\n", short(other))),
        }
    }
}

fn short(value: &serde_json::Value) -> String {
    match value {
        serde_json::Value::String(text) => safe(text),
        other => other.to_string(),
    }
}
