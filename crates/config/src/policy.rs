//! `restart`, `backoff`, `stop`, `limits` and `log`.

use super::command;
use super::declared_service::DeclaredService;
use super::interpolate::{Resolved, Resolver};
use super::reader::Reader;
use devrun_model::ByteSize;
use devrun_model::policy::{Backoff, RestartPolicy, Signal, StopSpec, StopTo};
use devrun_model::service::{Limits, LogSpec};
use devrun_model::suggest;

/// `restart`.
pub(crate) fn restart(keys: &Reader<'_, '_, '_>) -> Resolved<RestartPolicy> {
    let Some(node) = keys.node("restart") else { return Ok(RestartPolicy::No) };
    let text = keys.resolver.text(node, keys.scope)?;
    Ok(match text.as_str() {
        "no" => RestartPolicy::No,
        "always" => RestartPolicy::Always,
        "unless-stopped" => RestartPolicy::UnlessStopped,
        "on-failure" => RestartPolicy::OnFailure { max: None },
        other => match other.strip_prefix("on-failure:").map(str::parse::<u32>) {
            Some(Ok(max)) => RestartPolicy::OnFailure { max: Some(max) },
            Some(Err(_)) => {
                return Err(keys.bad(
                    node,
                    format!("{other:?} has no number after the colon"),
                    "write restart = \"on-failure:5\"",
                ));
            }
            None => {
                let words = ["no", "on-failure", "always", "unless-stopped"];
                let help = suggest::nearest(other, words)
                    .map_or_else(|| format!("known: {}", suggest::list(words)), |near| format!("did you mean \"{near}\"?"));
                return Err(keys.bad(node, format!("`restart` cannot be {other:?}"), &help));
            }
        },
    })
}

/// `backoff`.
pub(crate) fn backoff(keys: &Reader<'_, '_, '_>) -> Resolved<Backoff> {
    let mut backoff = Backoff::default();
    let Some(inner) = keys.inner("backoff") else { return Ok(backoff) };
    backoff.initial = inner.duration("initial")?.unwrap_or(backoff.initial);
    backoff.max = inner.duration("max")?.unwrap_or(backoff.max);
    backoff.reset = inner.duration("reset")?.unwrap_or(backoff.reset);
    backoff.factor = inner.float("factor")?.unwrap_or(backoff.factor);
    if backoff.factor < 1.0
        && let Some(node) = inner.node("factor")
    {
        return Err(inner.bad(node, "a factor below 1 would make the waits shorter", "factor = 2"));
    }
    Ok(backoff)
}

/// `stop`.
pub(crate) fn stop(resolver: &Resolver<'_>, service: &DeclaredService, keys: &Reader<'_, '_, '_>) -> Resolved<StopSpec> {
    let mut stop = StopSpec::default();
    let Some(inner) = keys.inner("stop") else { return Ok(stop) };
    let signal = |key: &str| -> Resolved<Option<Signal>> {
        let Some(node) = inner.node(key) else { return Ok(None) };
        let text = resolver.text(node, keys.scope)?;
        Signal::parse(&text).map(Some).ok_or_else(|| {
            let names = Signal::names();
            let upper = text.to_ascii_uppercase();
            let help = suggest::nearest(upper.strip_prefix("SIG").unwrap_or(&upper), names.iter().copied()).map_or_else(
                || "write TERM, INT, QUIT, HUP, USR1, USR2 or a number".to_owned(),
                |near| format!("did you mean \"{near}\"?"),
            );
            inner.bad(node, format!("invalid signal {text:?}"), &help)
        })
    };
    let first = signal("signal");
    let second = signal("then");
    let grace = inner.duration("grace");
    let command = command::inside(resolver, service, inner.table, "command", keys.scope);
    let to = inner.choice("to", &[("leader", StopTo::Leader), ("all", StopTo::All)]);
    stop.signal = first?.unwrap_or(stop.signal);
    stop.then = second?;
    stop.grace = grace?.unwrap_or(stop.grace);
    stop.command = command?;
    stop.to = to?.unwrap_or_default();
    stop.check = inner.flag("check", false)?;
    stop.spare = inner.texts("spare")?;
    Ok(stop)
}

/// The kernel charges a process with what its exec needs. The same minimum as Docker's.
const LEAST_MEMORY: u64 = 6 << 20;

/// Standard input, output and error, and the one through which the program is read.
const LEAST_FILES: u64 = 4;

/// `limits` and `reserve`.
pub(crate) fn limits(keys: &Reader<'_, '_, '_>, key: &str) -> Resolved<Limits> {
    let Some(inner) = keys.inner(key) else { return Ok(Limits::default()) };
    let (cpu, memory, nofile) = (inner.float("cpu"), inner.size("memory"), inner.long("nofile"));
    let pids = inner.integer("pids", 1).map(|pids| pids.map(u64::from));
    let limits = Limits { cpu: cpu?, memory: memory?, nofile: nofile?, pids: pids? };
    if key == "limits"
        && let (Some(ByteSize(bytes)), Some(node)) = (limits.memory, inner.node("memory"))
        && bytes < LEAST_MEMORY
    {
        // Numbers that make sense in megabytes were most likely meant so.
        let megabytes = if bytes < 64 << 10 { bytes.max(6) } else { 6 };
        let help = format!("the minimum is 6M, and a number without a unit is bytes: memory = \"{megabytes}M\"");
        return Err(inner.bad(node, format!("memory limit of {bytes} bytes is less than a process needs to start"), &help));
    }
    if key == "limits"
        && let (Some(files), Some(node)) = (limits.nofile, inner.node("nofile"))
        && files < LEAST_FILES
    {
        let message = format!("a limit of {files} open files is less than a process needs to start");
        return Err(inner.bad(node, message, &format!("the minimum is {LEAST_FILES}, and usual is nofile = 1024")));
    }
    Ok(limits)
}

/// `log` and `log_files`.
pub(crate) fn log(keys: &Reader<'_, '_, '_>) -> Resolved<LogSpec> {
    let mut log = LogSpec { files: keys.paths("log_files")?, ..LogSpec::default() };
    let Some(inner) = keys.inner("log") else { return Ok(log) };
    log.json = inner.choice("format", &[("text", false), ("json", true)])?.unwrap_or(false);
    log.max_size = inner.size("max_size")?.unwrap_or(log.max_size);
    log.max_files = inner.integer("max_files", 1)?.unwrap_or(log.max_files);
    if log.max_size.0 < 1024
        && let Some(node) = inner.node("max_size")
    {
        return Err(inner.bad(node, "a log smaller than 1K would be rotated with every line", "max_size = \"10M\""));
    }
    Ok(log)
}
