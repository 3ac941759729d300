//! What to do where a server refuses the login that the procfile gives: which file the password came from, and both ways out.

use std::collections::BTreeMap;

use devrun_model::feed::Outcome;
use devrun_model::{FailureKind, ServiceId};

use crate::app::load::Read;

/// A cached secret that does not fit the data it was made with: both ways out.
#[must_use]
pub fn of(read: &Read) -> BTreeMap<ServiceId, String> {
    let mut advice = BTreeMap::new();
    for (id, spec) in &read.plan.services {
        let (Some(data), Some(password)) = (&spec.data, spec.attributes.get("password")) else { continue };
        let secret = read.facts.secrets.iter().find(|(_, value)| !value.is_empty() && password.contains(value.as_str()));
        let text = match secret {
            Some((name, _)) => format!(
                "the data in volume {data} was made with another password: put that one back into {}; or have a new one set \
                 through the server's private socket: devrun secret rotate {name}",
                read.secrets_dir.join(name).display()
            ),
            None => format!(
                "the data in volume {data} was made with another password: put that one back where the procfile takes it \
                 from; or let devrun keep one: take `password` out, then devrun secret rotate {}-password",
                spec.service
            ),
        };
        advice.insert(id.clone(), text);
    }
    advice
}

/// Adds what only the client knows: which file a refused password came from.
pub fn add(outcome: &mut Outcome, advice: &BTreeMap<ServiceId, String>) {
    for failed in &mut outcome.failures {
        if failed.failure.kind == FailureKind::Credentials
            && let Some(text) = advice.get(&failed.id)
        {
            failed.failure.help = Some(text.clone());
        }
    }
}
