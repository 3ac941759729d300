//! The promises of the core, one function each. They read what was asked, what happened and what the world's own books say.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use devrun_core::event::Generation;
use devrun_core::{Action, Event, ServiceView, Tick};
use devrun_model::{
    Command, Condition, FailureKind, Health, Kind, RestartPolicy, ServiceId, ServiceSpec, State, UpdateOrder, graph,
};

use super::on_demand;
use super::project::Request;
use super::world::{Key, Moment, Record};

type Invariant = fn(&Record) -> Result<(), String>;

/// All of them, by name.
pub const ALL: &[(&str, Invariant)] = &[
    ("no_service_starts_before_its_dependencies_hold", no_service_starts_before_its_dependencies_hold),
    ("no_numbered_tier_starts_before_the_lower_ones", no_numbered_tier_starts_before_the_lower_ones),
    ("nothing_starts_while_stopping_or_after_finish", nothing_starts_while_stopping_or_after_finish),
    ("at_most_one_live_generation", at_most_one_live_generation),
    ("a_dependency_outlives_its_dependents", a_dependency_outlives_its_dependents),
    ("every_started_tree_ends_or_is_killed", every_started_tree_ends_or_is_killed),
    ("the_stop_is_bounded_by_the_longest_path_of_graces", the_stop_is_bounded_by_the_longest_path_of_graces),
    ("restarts_stay_within_the_policy", restarts_stay_within_the_policy),
    ("deadlines_make_progress", deadlines_make_progress),
    ("the_second_interrupt_kills_everything_at_once", the_second_interrupt_kills_everything_at_once),
    ("each_generation_does_each_thing_once", each_generation_does_each_thing_once),
    ("every_start_is_settled_exactly_once", every_start_is_settled_exactly_once),
    ("every_world_ends", every_world_ends),
    ("what_is_kept_of_all_services_is_what_they_say", what_is_kept_of_all_services_is_what_they_say),
    ("optional_services_never_count", optional_services_never_count),
    ("a_renewal_leaves_nobody_with_the_old_login", a_renewal_leaves_nobody_with_the_old_login),
    ("what_is_asleep_starts_when_it_is_needed_only", on_demand::what_is_asleep_starts_when_it_is_needed_only),
    ("what_is_in_use_does_not_fall_asleep", on_demand::what_is_in_use_does_not_fall_asleep),
];

/// After this time without an answer the core gives a killed process up.
const UNANSWERED_KILL: Duration = Duration::from_secs(30);

fn holds(condition: Condition, view: &ServiceView) -> bool {
    // The address of one that is asleep takes connections.
    let is_asleep = view.state == State::Asleep;
    match condition {
        Condition::Started => is_asleep || matches!(view.state, State::Starting | State::Running | State::Completed),
        Condition::Healthy => is_asleep || view.state == State::Running && matches!(view.health, Health::Healthy | Health::None),
        Condition::Completed => view.state == State::Completed,
    }
}

fn inits(record: &Record) -> impl Iterator<Item = (&Moment, &ServiceId, Generation)> {
    record.moments.iter().flat_map(|moment| {
        moment.actions.iter().filter_map(move |action| match action {
            Action::RunInit(id, generation) => Some((moment, id, *generation)),
            _ => None,
        })
    })
}

/// Work for a server begins only where the server is.
fn works_on(spec: &ServiceSpec, server: &ServiceId) -> bool {
    spec.kind == Kind::Task && (spec.optional || spec.task.as_ref().is_some_and(|task| task.on.as_ref() == Some(server)))
}

fn asked_without_deps(record: &Record) -> bool {
    record
        .project
        .requests
        .iter()
        .any(|(_, request)| matches!(request, Request::Send(Command::Up { options, .. }) if options.no_deps))
}

fn no_service_starts_before_its_dependencies_hold(record: &Record) -> Result<(), String> {
    let no_deps = asked_without_deps(record);
    for (moment, id, generation) in inits(record) {
        let views: BTreeMap<&ServiceId, &ServiceView> = moment.views.iter().map(|view| (&view.id, view)).collect();
        let Some(spec) = moment.specs.get(id) else { return Err(format!("{id} is unknown")) };
        for edge in &spec.depends_on {
            let Some(target) = views.get(&edge.on) else {
                if edge.required {
                    return Err(format!("{id}#{generation} begins without {}", edge.on));
                }
                continue;
            };
            let excused = !edge.required
                || target.state == State::Skipped
                || moment.specs.get(&edge.on).is_some_and(|spec| spec.optional) && !works_on(spec, &edge.on);
            // What nobody wants any more is on its way out, even before its turn to stop comes.
            let over = target.state.is_final() || target.state == State::Stopping || !target.wanted;
            // A rollback in the same step ends what is asleep at once, and what began is cancelled.
            let slept = moment.stopping
                && target.state == State::Stopped
                && moment.specs.get(&edge.on).is_some_and(|spec| spec.on_demand.is_some());
            if !(holds(edge.condition, target) || slept || excused && over || no_deps && !target.wanted) {
                return Err(format!("{id}#{generation} begins while {} is {} ({})", edge.on, target.state, target.health));
            }
        }
    }
    Ok(())
}

fn no_numbered_tier_starts_before_the_lower_ones(record: &Record) -> Result<(), String> {
    if asked_without_deps(record) {
        return Ok(());
    }
    let asked: BTreeSet<Key> = record
        .moments
        .iter()
        .flat_map(|moment| &moment.actions)
        .filter_map(|action| match action {
            Action::Fetch(id, generation) => Some((id.clone(), *generation)),
            _ => None,
        })
        .collect();
    // Who connects to one that is asleep does not wait for tiers.
    let slept = slept(record);
    let counts = |id: &ServiceId, generation| {
        let key = (id.clone(), generation);
        asked.contains(&key) && !slept.contains(&key)
    };
    for (moment, id, generation) in inits(record).filter(|(_, id, generation)| counts(id, *generation)) {
        let Some(number) = moment.specs.get(id).and_then(|spec| spec.tier) else { continue };
        for view in moment.views.iter().filter(|view| view.wanted && !view.is_stopped_manually) {
            let Some(spec) = moment.specs.get(&view.id) else { continue };
            let ready = matches!(view.state, State::Completed | State::Asleep) || view.ready_at.is_some();
            let excused = spec.optional || view.state == State::Skipped;
            if spec.tier.is_some_and(|tier| tier < number) && !ready && !excused {
                return Err(format!("{id}#{generation} of tier {number} begins while {} is {}", view.id, view.state));
            }
        }
    }
    Ok(())
}

/// The generations that have been asleep.
fn slept(record: &Record) -> BTreeSet<Key> {
    let actions = record.moments.iter().flat_map(|moment| &moment.actions);
    actions
        .filter_map(|action| match action {
            Action::AwaitDemand(id, generation) => Some((id.clone(), *generation)),
            _ => None,
        })
        .collect()
}

fn nothing_starts_while_stopping_or_after_finish(record: &Record) -> Result<(), String> {
    for pair in record.moments.windows(2) {
        let (before, after) = (&pair[0], &pair[1]);
        if before.finished && !after.actions.is_empty() {
            return Err(format!("{:?} after the finish", after.actions));
        }
        let start = after
            .actions
            .iter()
            .find(|a| matches!(a, Action::Fetch(..) | Action::AwaitDemand(..) | Action::RunInit(..) | Action::Spawn(..)));
        if before.stopping
            && let Some(start) = start
        {
            return Err(format!("{start:?} while stopping"));
        }
    }
    Ok(())
}

fn at_most_one_live_generation(record: &Record) -> Result<(), String> {
    let mut killed: BTreeMap<Key, Tick> = BTreeMap::new();
    let mut stuck: BTreeSet<Key> = BTreeSet::new();
    for moment in &record.moments {
        if let Event::Survived(id, generation, _) = &moment.event {
            stuck.insert((id.clone(), *generation));
        }
        stuck.extend(killed.iter().filter(|(_, at)| moment.at >= **at + UNANSWERED_KILL).map(|(key, _)| key.clone()));
        for action in &moment.actions {
            if let Action::KillTree(id, generation) = action {
                killed.entry((id.clone(), *generation)).or_insert(moment.at);
            }
            let Action::Spawn(id, generation) = action else { continue };
            let gone = match &moment.event {
                Event::TreeEmpty(id, generation) | Event::SpawnFailed(id, generation, _) => Some((id.clone(), *generation)),
                _ => None,
            };
            // One more where a restart starts the next one first; a process that was replaced and cannot be killed does
            // not hold up the next one there.
            let overlaps = moment.specs.get(id).is_some_and(|spec| spec.update.order == UpdateOrder::StartFirst);
            let counts = |key: &&Key| key.0 == *id && gone.as_ref() != Some(*key) && !(overlaps && stuck.contains(*key));
            if let Some(old) = moment.alive.iter().filter(counts).skip(usize::from(overlaps)).last() {
                return Err(format!("{id}#{generation} is spawned while #{} lives", old.1));
            }
        }
    }
    Ok(())
}

fn needs(upper: &ServiceSpec, lower: &ServiceSpec) -> bool {
    upper.depends_on.iter().any(|edge| edge.on == lower.id)
        || matches!((upper.tier, lower.tier), (Some(upper), Some(lower)) if upper > lower)
}

/// The definitions by which the trees that live were spawned.
fn spawned_by(record: &Record) -> BTreeMap<Key, ServiceSpec> {
    let mut specs = BTreeMap::new();
    for moment in &record.moments {
        for action in &moment.actions {
            if let Action::Spawn(id, generation) = action
                && let Some(spec) = moment.specs.get(id)
            {
                specs.insert((id.clone(), *generation), (**spec).clone());
            }
        }
    }
    specs
}

fn a_dependency_outlives_its_dependents(record: &Record) -> Result<(), String> {
    let specs = spawned_by(record);
    let mut given_up: BTreeSet<ServiceId> = BTreeSet::new();
    let mut killed: BTreeMap<Key, Tick> = BTreeMap::new();
    for pair in record.moments.windows(2) {
        let (before, moment) = (&pair[0], &pair[1]);
        // A replaced process is given up without a notice: the service itself has not failed.
        for (key, at) in &killed {
            if moment.at >= *at + UNANSWERED_KILL {
                given_up.insert(key.0.clone());
            }
        }
        for action in &moment.actions {
            if let Action::KillTree(id, generation) = action {
                killed.entry((id.clone(), *generation)).or_insert(moment.at);
            }
        }
        if let Event::Survived(id, ..) = &moment.event {
            given_up.insert(id.clone());
        }
        for action in &moment.actions {
            if let Action::Notify(notice) = action
                && notice.to == State::Failed
                && let Ok(id) = ServiceId::parse(&notice.service)
            {
                given_up.insert(id);
            }
        }
        if !before.stopping {
            continue;
        }
        for action in &moment.actions {
            let Action::StopTree(id, generation) = action else { continue };
            // One that ended by itself is cleaned up at once, whoever needs it.
            let fell = match &moment.event {
                Event::Exited(other, ..) | Event::TreeEmpty(other, _) => other == id,
                _ => false,
            };
            let Some(lower) = specs.get(&(id.clone(), *generation)) else { continue };
            // The next process of the service serves already: only the one that it replaces is stopped.
            if moment.alive.iter().any(|(other, later)| other == id && later > generation) {
                continue;
            }
            let gone = match &moment.event {
                Event::TreeEmpty(id, generation) | Event::SpawnFailed(id, generation, _) => Some((id.clone(), *generation)),
                _ => None,
            };
            for key in moment.alive.iter().filter(|key| key.0 != *id && gone.as_ref() != Some(key) && !given_up.contains(&key.0))
            {
                if !fell && specs.get(key).is_some_and(|upper| needs(upper, lower)) {
                    return Err(format!("{id} is asked to stop while {}#{} lives", key.0, key.1));
                }
            }
        }
    }
    Ok(())
}

fn killed(record: &Record) -> BTreeSet<Key> {
    let actions = record.moments.iter().flat_map(|moment| &moment.actions);
    actions
        .filter_map(|action| match action {
            Action::KillTree(id, generation) => Some((id.clone(), *generation)),
            _ => None,
        })
        .collect()
}

fn every_started_tree_ends_or_is_killed(record: &Record) -> Result<(), String> {
    let killed = killed(record);
    match record.left.iter().find(|key| !killed.contains(key)) {
        Some(key) => Err(format!("{}#{} lives on and was never killed", key.0, key.1)),
        None => Ok(()),
    }
}

fn the_stop_is_bounded_by_the_longest_path_of_graces(record: &Record) -> Result<(), String> {
    let Some(begin) = record.moments.iter().find(|moment| moment.stopping) else { return Ok(()) };
    let Some(end) = record.moments.iter().find(|moment| moment.finished) else { return Ok(()) };
    let specs: Vec<&ServiceSpec> =
        record.project.plan.services.values().chain(record.project.later.services.values()).map(AsRef::as_ref).collect();
    // Of two processes of a service the next one is stopped before the previous one: a step more for each such service.
    let two = |id: &ServiceId| specs.iter().any(|spec| spec.id == *id && spec.update.order == UpdateOrder::StartFirst);
    let mut edges: BTreeMap<(ServiceId, bool), Vec<(ServiceId, bool)>> = BTreeMap::new();
    for upper in &specs {
        let last = (upper.id.clone(), two(&upper.id));
        if last.1 {
            edges.insert((upper.id.clone(), false), vec![last.clone()]);
        }
        let lower = specs.iter().filter(|lower| needs(upper, lower)).map(|lower| (lower.id.clone(), false));
        edges.entry(last).or_default().extend(lower);
    }
    let depth = graph::depths(&edges).into_values().max().unwrap_or(1);
    let longest =
        specs.iter().map(|spec| spec.stop.grace + Duration::from_secs(if spec.stop.then.is_some() { 2 } else { 0 })).max();
    // The world's own slowness, and the wait for a word about what never dies.
    let slow = Duration::from_millis(200 + 2 * record.project.slow_ms);
    let word = Duration::from_secs(if record.project.immortal > 0 { 30 } else { 0 })
        + Duration::from_secs(if record.project.forgets() { 60 } else { 0 });
    let bound = (longest.unwrap_or_default() + slow + word) * depth;
    let took = end.at.since(begin.at);
    if took > bound { Err(format!("the stop took {took:?}, more than {bound:?}")) } else { Ok(()) }
}

fn what_is_kept_of_all_services_is_what_they_say(record: &Record) -> Result<(), String> {
    let astray = record.moments.iter().find_map(|moment| Some((moment, moment.astray.as_ref()?)));
    astray.map_or(Ok(()), |(moment, what)| Err(format!("after {:?}: {what}", moment.event)))
}

fn restarts_stay_within_the_policy(record: &Record) -> Result<(), String> {
    let mut asked: BTreeSet<Key> = BTreeSet::new();
    let mut born: BTreeMap<Key, Tick> = BTreeMap::new();
    let mut ended: BTreeMap<Key, Tick> = BTreeMap::new();
    let mut row: BTreeMap<ServiceId, u32> = BTreeMap::new();
    for moment in &record.moments {
        if let Event::Spawned(id, generation, _) = &moment.event {
            born.entry((id.clone(), *generation)).or_insert(moment.at);
        }
        if let Event::Exited(id, generation, ..) | Event::TreeEmpty(id, generation) = &moment.event {
            ended.entry((id.clone(), *generation)).or_insert(moment.at);
        }
        for action in &moment.actions {
            match action {
                // A connection starts it whatever its policy.
                Action::Fetch(id, generation) | Action::AwaitDemand(id, generation) => {
                    asked.insert((id.clone(), *generation));
                    row.insert(id.clone(), 0);
                }
                Action::StopTree(id, generation) => {
                    ended.entry((id.clone(), *generation)).or_insert(moment.at);
                }
                Action::RunInit(id, generation) if !asked.contains(&(id.clone(), *generation)) => {
                    let Some(spec) = moment.specs.get(id) else { continue };
                    // The one before it may have been dropped for one that was kept.
                    let before = born.keys().filter(|key| key.0 == *id && key.1 < *generation && ended.contains_key(key));
                    let previous = before.max_by_key(|key| ended.get(key)).cloned().unwrap_or((id.clone(), 0));
                    let ran = match (born.get(&previous), ended.get(&previous)) {
                        (Some(born), Some(ended)) => ended.since(*born),
                        _ => Duration::ZERO,
                    };
                    let count = row.entry(id.clone()).or_default();
                    *count = if ran >= spec.backoff.reset { 0 } else { *count + 1 };
                    let allowed = match (spec.kind, spec.restart) {
                        (_, RestartPolicy::No) | (Kind::Task, RestartPolicy::Always | RestartPolicy::UnlessStopped) => false,
                        (_, RestartPolicy::OnFailure { max: Some(max) }) => *count <= max,
                        (_, RestartPolicy::OnFailure { max: None } | RestartPolicy::Always | RestartPolicy::UnlessStopped) => {
                            true
                        }
                    };
                    if !allowed {
                        return Err(format!("{id}#{generation}: restart {count} in a row under {}", spec.restart));
                    }
                }
                _ => {}
            }
        }
    }
    Ok(())
}

fn deadlines_make_progress(record: &Record) -> Result<(), String> {
    let past = |moment: &Moment| moment.deadline.is_some_and(|deadline| deadline <= moment.at);
    for pair in record.moments.windows(2) {
        if past(&pair[0]) && past(&pair[1]) {
            return Err(format!("the deadline {:?} is past at {:?}, twice running", pair[1].deadline, pair[1].at));
        }
    }
    Ok(())
}

fn the_second_interrupt_kills_everything_at_once(record: &Record) -> Result<(), String> {
    let mut interrupts = 0;
    let mut killed: BTreeSet<Key> = BTreeSet::new();
    let mut cleared: BTreeSet<Key> = BTreeSet::new();
    for moment in &record.moments {
        if let Event::Survived(id, generation, _) = &moment.event {
            cleared.insert((id.clone(), *generation));
        }
        for action in &moment.actions {
            if let Action::KillTree(id, generation) = action {
                killed.insert((id.clone(), *generation));
            }
        }
        if moment.event == Event::Interrupted {
            interrupts += 1;
            if interrupts == 2
                && let Some(key) = moment.alive.iter().find(|key| !killed.contains(key) && !cleared.contains(key))
            {
                return Err(format!("{}#{} was not killed by the second interrupt", key.0, key.1));
            }
        }
        if moment.finished {
            break;
        }
    }
    Ok(())
}

fn each_generation_does_each_thing_once(record: &Record) -> Result<(), String> {
    let mut done: BTreeSet<(&str, ServiceId, Generation)> = BTreeSet::new();
    for action in record.moments.iter().flat_map(|moment| &moment.actions) {
        let (what, id, generation) = match action {
            Action::Fetch(id, generation) => ("fetch", id, generation),
            Action::AwaitDemand(id, generation) => ("opening the socket", id, generation),
            Action::RunInit(id, generation) => ("init", id, generation),
            Action::Spawn(id, generation) => ("spawn", id, generation),
            Action::StartProbes(id, generation) => ("probes", id, generation),
            Action::StopTree(id, generation) => ("stop", id, generation),
            _ => continue,
        };
        if !done.insert((what, id.clone(), *generation)) {
            return Err(format!("{what} of {id}#{generation} twice"));
        }
    }
    Ok(())
}

fn every_start_is_settled_exactly_once(record: &Record) -> Result<(), String> {
    let (mut asked, mut settled, mut finished) = (0, 0, false);
    for moment in &record.moments {
        let start = matches!(
            &moment.event,
            Event::Command(Command::Up { .. } | Command::Start { .. } | Command::Restart { .. } | Command::RotateSecret { .. })
        );
        if start && !finished {
            asked += 1;
        }
        settled += moment.actions.iter().filter(|action| matches!(action, Action::StartFinished(_))).count();
        finished = moment.finished;
    }
    if asked == settled { Ok(()) } else { Err(format!("{asked} starts, {settled} answers")) }
}

fn every_world_ends(record: &Record) -> Result<(), String> {
    let finishes: Vec<_> = record
        .moments
        .iter()
        .flat_map(|moment| &moment.actions)
        .filter_map(|action| match action {
            Action::Shutdown(outcome) => Some(outcome),
            _ => None,
        })
        .collect();
    let [outcome] = finishes.as_slice() else { return Err(format!("{} finishes", finishes.len())) };
    for (id, generation) in &record.left {
        if !outcome.failures.iter().any(|(failed, failure)| failed == id && failure.kind == FailureKind::Survivors) {
            return Err(format!("{id}#{generation} is left and the outcome does not say so"));
        }
    }
    Ok(())
}

fn optional_services_never_count(record: &Record) -> Result<(), String> {
    for action in record.moments.iter().flat_map(|moment| &moment.actions) {
        let (Action::StartFinished(outcome) | Action::Shutdown(outcome)) = action else { continue };
        for (id, failure) in &outcome.failures {
            let optional = record.project.plan.services.get(id).is_some_and(|spec| spec.optional);
            let own = matches!(failure.kind, FailureKind::Survivors | FailureKind::Cancelled);
            // Asking for what a later plan has not is the request's fault.
            if optional && !own && failure.reason != "is not in the procfile" {
                return Err(format!("{id} is optional, and its failure counts: {failure}"));
            }
        }
    }
    Ok(())
}

fn password(spec: Option<&std::sync::Arc<ServiceSpec>>) -> Option<&String> {
    spec.and_then(|spec| spec.attributes.get("password"))
}

/// The definition of a running process with the new password, and with all of the new definition that acts on its dependents, its
/// later starts and stops, or on people.
fn with_what_no_process_sees(old: &ServiceSpec, new: &ServiceSpec) -> ServiceSpec {
    let mut attributes = old.attributes.clone();
    attributes.extend(new.attributes.get("password").map(|password| ("password".to_owned(), password.clone())));
    ServiceSpec {
        attributes,
        depends_on: new.depends_on.clone(),
        depth: new.depth,
        tier: new.tier,
        optional: new.optional,
        update: new.update,
        ..old.clone()
    }
}

/// Who was given the new password runs on by the new definition, or restarts; nobody else is taken for renewed, and nobody
/// who is to have the new password keeps the old one.
fn a_renewal_leaves_nobody_with_the_old_login(record: &Record) -> Result<(), String> {
    // Who runs by the old login, and is to be restarted when what needs it is out of the way.
    let mut owed: BTreeSet<Key> = BTreeSet::new();
    for pair in record.moments.windows(2) {
        let (before, moment) = (&pair[0], &pair[1]);
        let command = match &moment.event {
            Event::Command(Command::RotateSecret { plan, given, targets }) => Some((plan, given, targets)),
            _ => None,
        };
        for action in &moment.actions {
            let Action::UpdateSpec(id, generation) = action else { continue };
            let (old, new) = (before.specs.get(id), moment.specs.get(id));
            let meant = command.is_some_and(|(plan, given, _)| given.contains(id) && new == plan.services.get(id));
            let lives = moment.alive.contains(&(id.clone(), *generation));
            let (Some(old), Some(new)) = (old, new) else { return Err(format!("{id}#{generation}: no definition")) };
            // One without a password takes over what no process sees, as an edge that has changed.
            let is_renewed = match (old.attributes.get("password"), new.attributes.get("password")) {
                (None, None) => old != new,
                (old, new) => new.is_some() && old != new,
            };
            if !(meant && lives && is_renewed) {
                return Err(format!(
                    "{id}#{generation} goes on with {:?} in the place of {:?}",
                    password(Some(new)),
                    password(Some(old))
                ));
            }
            if *new.as_ref() != with_what_no_process_sees(old, new) {
                return Err(format!("{id}#{generation} goes on by a definition that its process was not started with"));
            }
        }
        if moment.stopping {
            return Ok(());
        }
        if let Some((plan, given, targets)) = command {
            for view in moment.views.iter().filter(|view| given.contains(&view.id) || targets.contains(&view.id)) {
                if view.pid.is_some() && password(moment.specs.get(&view.id)) != password(plan.services.get(&view.id)) {
                    owed.insert((view.id.clone(), view.generation));
                }
            }
        }
        // Another plan has another word on it.
        if matches!(&moment.event, Event::Command(Command::Up { plan: Some(_), .. })) {
            owed.clear();
        }
        for action in &moment.actions {
            if let Action::StopTree(id, generation) | Action::KillTree(id, generation) = action {
                owed.remove(&(id.clone(), *generation));
            }
        }
        owed.retain(|key| moment.alive.contains(key));
        // While another process serves the stop of the next one is not shown.
        let overlaps = |view: &ServiceView| view.reason.as_deref() == Some("its next process is starting");
        // Nor is that of the previous one, while its replacement serves.
        let retires =
            |view: &ServiceView| moment.alive.iter().any(|(id, generation)| *id == view.id && *generation < view.generation);
        let passing = moment.views.iter().any(|view| view.state == State::Stopping || overlaps(view) || retires(view));
        if let Some(key) = owed.first().filter(|_| !moment.views.is_empty() && !passing) {
            return Err(format!("{}#{} runs on by the old login", key.0, key.1));
        }
    }
    Ok(())
}
