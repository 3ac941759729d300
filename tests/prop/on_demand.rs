//! The promises about services that start on demand.

use std::collections::{BTreeMap, BTreeSet};

use devrun_core::{Action, Event, Tick};
use devrun_model::{Command, ServiceId};

use super::world::{Key, Record};

/// Whether a request is for this service by its name.
fn names(command: &Command, id: &ServiceId) -> bool {
    match command {
        Command::Up { targets, .. } | Command::Start { targets, .. } => targets.contains(id),
        _ => false,
    }
}

/// A connection or a request by name; a start of the whole stack, a restart and another definition leave it asleep.
pub fn what_is_asleep_starts_when_it_is_needed_only(record: &Record) -> Result<(), String> {
    let mut asleep: BTreeSet<ServiceId> = BTreeSet::new();
    for moment in &record.moments {
        match &moment.event {
            Event::Demanded(id, _) => _ = asleep.remove(id),
            Event::Command(command) => asleep.retain(|id| !names(command, id)),
            _ => {}
        }
        for action in &moment.actions {
            match action {
                Action::AwaitDemand(id, _) => _ = asleep.insert(id.clone()),
                Action::RunInit(id, generation) if asleep.contains(id) => {
                    return Err(format!("{id}#{generation} begins, without a connection or a request since it fell asleep"));
                }
                // By another definition it may start with the stack.
                Action::Fetch(id, _) if moment.specs.get(id).is_some_and(|spec| spec.on_demand.is_none()) => {
                    asleep.remove(id);
                }
                _ => {}
            }
        }
    }
    Ok(())
}

/// It is stopped only when `idle` has passed since the last connection that is known.
pub fn what_is_in_use_does_not_fall_asleep(record: &Record) -> Result<(), String> {
    let mut used: BTreeMap<Key, Tick> = BTreeMap::new();
    for moment in &record.moments {
        if let Event::LastUse(id, generation, Some(age)) = &moment.event {
            let key = (id.clone(), *generation);
            let at = Tick(moment.at.0.saturating_sub(*age));
            used.entry(key).and_modify(|last| *last = (*last).max(at)).or_insert(at);
        }
        let Event::LastUse(id, generation, _) = &moment.event else { continue };
        let stops = moment.actions.contains(&Action::StopTree(id.clone(), *generation));
        let Some(idle) = moment.specs.get(id).and_then(|spec| spec.on_demand).filter(|_| stops) else { continue };
        let last = used.get(&(id.clone(), *generation)).copied().unwrap_or(Tick::ZERO);
        if idle.is_zero() || moment.at.since(last) < idle {
            return Err(format!("{id}#{generation} is stopped at {:?}, was in use at {last:?}, idle = {idle:?}", moment.at));
        }
    }
    Ok(())
}
