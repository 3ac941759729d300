//! `devrun scale`: another number of copies while the stack runs, remembered until the procfile's own number changes.

use std::collections::BTreeMap;
use std::sync::Arc;

use clap::Args;
use devrun_model::{Command, Failure, FailureKind, Paths, ServiceName, exit};

use crate::app::load::{self, Purpose, Wanted};
use crate::app::remembered_scale;
use crate::app::request::{session, settle_with};
use crate::app::unknown_service::unknown_or_inactive;
use crate::globals::Globals;
use crate::ui::copies_summary;
use crate::ui::start_times::StartTimes;
use crate::ui::term::Term;

/// As many copies as a service may have.
const MOST: u32 = 1000;

#[derive(Debug, Args)]
pub struct ScaleArgs {
    /// Service and number of copies: S=N; S= returns to the number of the procfile
    #[arg(value_name = "S=N", required = true)]
    pub services: Vec<String>,
    /// Compose's option for what is always so here
    #[arg(long, hide = true)]
    pub no_deps: bool,
}

/// Runs it.
///
/// # Errors
/// `Elsewhere` when nothing runs, `Config` for what is not a number of copies.
pub fn run(globals: &Globals, args: &ScaleArgs, term: Term) -> Result<i32, Failure> {
    let wanted = parse(&args.services)?;
    let project = load::project(globals)?;
    if !load::is_running(&project.places)? {
        return Err(Failure::new(FailureKind::Elsewhere, "nothing is running").help("devrun up -d"));
    }
    let scale: BTreeMap<String, u32> = wanted.iter().filter_map(|(name, count)| Some((name.clone(), (*count)?))).collect();
    let forgotten: Vec<&String> = wanted.iter().filter(|(_, count)| count.is_none()).map(|(name, _)| name).collect();
    let before = remembered_scale::saved(&project.places);
    remembered_scale::forget(&project.places, &forgotten)?;
    // As what it is for is named alone, what belongs to inactive profiles stays out.
    let look = Wanted { purpose: Purpose::Start, scale: scale.clone(), warn: true, ..Wanted::act() };
    let changed = load::read(globals, &project, &look).and_then(|read| {
        let names = wanted.keys().map(|name| service(&read.plan, name)).collect::<Result<Vec<_>, _>>()?;
        remembered_scale::remember(&project.places, &scale, &read.document.declared_replicas(&read.facts))?;
        Ok((read.plan, names))
    });
    let (plan, services) = match changed {
        Ok(changed) => changed,
        Err(failure) => {
            // Nothing was changed, so nothing is forgotten.
            remembered_scale::restore(&project.places, &before)?;
            return Err(failure);
        }
    };
    let copies_wanted: Vec<(ServiceName, usize)> =
        services.iter().map(|name| (name.clone(), plan.ids_of(name).count())).collect();
    crate::app::runtime::waiting_runtime()?.block_on(async {
        let asked = async {
            let (session, status) = session(&project).await?;
            let done = |times: &StartTimes| {
                let scaled = copies_summary::scaled(&plan, &services, &status.snapshot, times);
                let notes = copies_summary::without_shared_address(&plan, times);
                Some([vec![scaled], notes].concat().join("\n"))
            };
            let command = Command::Scale { plan: Arc::clone(&plan), services: services.clone() };
            settle_with(session, &status, command, term, done).await
        };
        let result = asked.await;
        if !matches!(result, Ok(exit::DONE)) && !is_in_force(&project.places, &copies_wanted).await {
            // Refused, as while the stack is being stopped.
            remembered_scale::restore(&project.places, &before)?;
        }
        result
    })
}

/// Whether the supervisor has these copies, whatever became of them: a copy that fails to start is one of them.
async fn is_in_force(places: &Paths, wanted: &[(ServiceName, usize)]) -> bool {
    let Ok(Some(mut client)) = crate::app::connect::supervisor(places).await else { return false };
    let Ok(Some(status)) = client.status().await else { return false };
    let copies = |name: &ServiceName| status.snapshot.services.iter().filter(|one| one.service == name.as_str()).count();
    wanted.iter().all(|(name, count)| copies(name) == *count)
}

fn service(plan: &devrun_model::Plan, name: &str) -> Result<ServiceName, Failure> {
    let known = plan.services.values().find(|spec| spec.service.as_str() == name).map(|spec| spec.service.clone());
    let all = plan.services.values().map(|spec| spec.service.as_str());
    known.ok_or_else(|| unknown_or_inactive(Some(plan), name, "the procfile has", all))
}

/// `None`: back to the procfile's number.
fn parse(words: &[String]) -> Result<BTreeMap<String, Option<u32>>, Failure> {
    let bad = |word: &str, what: &str| {
        Failure::new(FailureKind::Config, format!("invalid scale `{word}`: {what}")).help("devrun scale worker=4")
    };
    let mut wanted = BTreeMap::new();
    for word in words {
        let (name, count) = word.split_once('=').ok_or_else(|| bad(word, "write SERVICE=N"))?;
        let count = match count {
            "" => None,
            "0" => {
                return Err(bad(word, "a service has one copy at least").help(format!("devrun stop {name}")));
            }
            count => {
                let number = count.parse::<u32>().map_err(|_| bad(word, "not a number of copies"))?;
                if number > MOST {
                    return Err(bad(word, &format!("at most {MOST} copies are allowed")));
                }
                Some(number)
            }
        };
        wanted.insert(name.to_owned(), count);
    }
    Ok(wanted)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_numbers_of_copies_or_nothing() {
        let words = |text: &str| parse(&text.split(' ').map(str::to_owned).collect::<Vec<_>>());
        let wanted = words("api=3 worker=").unwrap();
        assert_eq!(wanted, BTreeMap::from([("api".to_owned(), Some(3)), ("worker".to_owned(), None)]));
        for (text, said) in
            [("api", "write SERVICE=N"), ("api=0", "one copy"), ("api=x", "not a number"), ("api=1001", "at most")]
        {
            assert!(words(text).unwrap_err().reason.contains(said), "{text}");
        }
    }
}
