//! All that viewers show of one service: definition, environment with secrets masked, probe history, explanation.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::{Value, json};

use devrun_model::mask::Masker;
use devrun_model::why::Explanation;
use devrun_model::{Failure, Launch, ServiceId, duration};

use crate::app::observer::Observer;
use crate::app::readonly;
use crate::ui::local_time::local_time;

/// One service.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ServiceDetails {
    /// Why it is in its state.
    pub why: Explanation,
    /// The same as lines.
    pub why_lines: Vec<String>,
    /// Its definition, by name.
    pub about: serde_json::Map<String, Value>,
    /// The last attempts of its probe.
    pub probes: Vec<Value>,
    /// Its environment, secrets masked.
    pub env: BTreeMap<String, String>,
}

/// Looks at one service.
///
/// # Errors
/// `Config` when there is none of that name, `Elsewhere` when a supervisor does not answer.
pub async fn details(observer: &Observer, name: &str) -> Result<ServiceDetails, Failure> {
    let why = observer.explain(name).await?;
    let plan = observer.plan();
    let masker = plan.as_ref().map_or_else(Masker::default, |plan| Masker::new(plan, false));
    let id = ServiceId::parse(&why.name).ok();
    let inspected = match &id {
        Some(id) => observer.inspect(id).await?,
        None => None,
    };
    let spec = id.as_ref().and_then(|id| plan.as_ref()?.services.get(id));
    let mut about = serde_json::Map::new();
    let mut env = BTreeMap::new();
    if let Some(spec) = spec {
        let command = match &spec.launch {
            Launch::Run(command) => Some(masker.words(&command.argv).join(" ")),
            Launch::Recipe(recipe) => Some(format!("recipe {}", recipe.recipe.name)),
            Launch::External { url } => Some(masker.text(url)),
            Launch::Work => None,
        };
        let edges: Vec<String> =
            spec.depends_on.iter().map(|edge| format!("{} ({})", edge.on, edge.condition.as_str())).collect();
        let checks: Vec<&str> = spec.ready.iter().flat_map(|ready| ready.checks.iter().map(devrun_model::Check::kind)).collect();
        for (key, value) in [
            ("command", json!(command)),
            ("directory", json!(spec.dir.display().to_string())),
            ("address", json!(readonly::public_url(spec))),
            ("ports", json!(spec.ports.iter().map(|(name, port)| format!("{name}:{port}")).collect::<Vec<_>>())),
            ("depends on", json!(edges)),
            ("probe", json!(checks)),
            ("restart", json!(spec.restart.to_string())),
            ("stop", json!(format!("{}, then SIGKILL after {}", spec.stop.signal, duration::format(spec.stop.grace)))),
            ("terminal", json!(if spec.tty { "yes: devrun attach" } else { "" })),
        ] {
            about.insert(key.to_owned(), value);
        }
        let own = spec.env.iter().filter(|(name, _)| !spec.inherited.contains(*name));
        env = masker.variables(&own.map(|(name, value)| (name.clone(), value.clone())).collect());
    }
    let list = inspected.as_ref().and_then(|value| value.get("probes")?.as_array().cloned()).unwrap_or_default();
    let probes = list
        .into_iter()
        .map(|mut probe| {
            if let Some(answer) = probe.get("answer").and_then(Value::as_str).map(|answer| masker.text(answer)) {
                probe["answer"] = answer.into();
            }
            probe
        })
        .collect();
    Ok(ServiceDetails { why_lines: why.lines(local_time), why, about, probes, env })
}
