//! Whether this process runs inside a service of the run that it is asked to end, so that the end of the run is its own.
//!
//! Descent decides: whatever a service starts stays below its keeper, or below the supervisor once that has lost a keeper. A
//! shell of `devrun exec` and the command of `devrun run` wear the run's marks and are below neither, so they are outside.

use devrun_model::ServiceId;
use devrun_model::keeper::ProcessId;

use crate::journal::Journal;
use crate::ownership::OwnershipIndex;
use crate::{identity, identity_check, process_list, scan};

/// This process as a part of the run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    /// Its number.
    pub pid: i32,
    /// Its command name.
    pub command: String,
    /// The service that it is a process of; `None` where only the run is known.
    pub service: Option<ServiceId>,
}

/// This process, where it runs inside the run of this journal and a keeper or supervisor of it lives.
#[must_use]
pub fn inside(journal: &Journal) -> Option<Caller> {
    let pid = std::process::id().cast_signed();
    let chain = process_list::ancestors(pid);
    let supervisor = journal.header.as_ref().map(|header| &header.supervisor);
    let place = |who: Option<&devrun_model::keeper::Identity>| {
        who.filter(|who| identity::holds(who)).and_then(|who| chain.iter().position(|above| *above == who.pid))
    };
    let (below, by_descent) = match (place(journal.keeper.as_ref()), place(supervisor)) {
        (Some(at), _) => (chain.get(..at)?, true),
        // A command of the user's own may be below it as well.
        (None, Some(at)) if journal.replaced => (chain.get(..at)?, false),
        _ => return None,
    };
    let mut ownership = OwnershipIndex::default();
    for entry in scan::current_entries(journal) {
        ownership.add(&entry, identity_check::is_recorded_leader(&entry));
    }
    let attributions: Vec<Option<ProcessId>> = below
        .iter()
        .filter_map(|pid| process_list::stat(*pid))
        .filter_map(|stat| ownership.of(&stat))
        .map(|(of, _)| of)
        .collect();
    if !by_descent && attributions.is_empty() {
        return None;
    }
    let service = attributions.into_iter().flatten().find_map(|process| journal.live.get(&process));
    Some(Caller { pid, command: process_list::command(pid), service: service.map(|entry| entry.service.clone()) })
}
