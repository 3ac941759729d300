//! Whole runs, in virtual time.

use std::time::{Duration, Instant};

use super::fake_world::{Behaviour, in_fake_world, probed, service, times_of};
use crate::engine::TimeSource;
use devrun_model::{FailureKind, ReadySpec, RestartPolicy, ServiceSpec, Signal, StopSpec};

const fn seconds(count: u64) -> Duration {
    Duration::from_secs(count)
}

fn ready_after(delay: Duration) -> Behaviour {
    Behaviour { ready_after: Some(delay), ..Behaviour::default() }
}

#[test]
fn ten_services_start_in_the_order_of_their_dependencies() {
    let began = Instant::now();
    // A binary tree: each waits for the one at half its number.
    let name = |number: usize| format!("s{number}");
    let services = (1..=10)
        .map(|number| {
            let parent = name(number / 2);
            let needs: &[&str] = if number == 1 { &[] } else { &[&parent] };
            (probed(&name(number), needs), ready_after(seconds(60)))
        })
        .collect();
    in_fake_world(services, async |world| {
        let outcome = world.up().await;
        assert!(outcome.failures.is_empty() && outcome.blocked.is_empty(), "{outcome:?}");
        for number in 1..=10usize {
            let depth = u64::from(number.ilog2());
            let spawned = world.times_of(&format!("spawn {}", name(number)));
            assert_eq!(spawned, [seconds(60 * depth)], "{}", name(number));
        }
        assert_eq!(world.time.elapsed(), seconds(240));
        let record = world.record();
        let exit = world.down().await;
        assert!(exit.survivors.is_empty());
        let stops = |number: usize| times_of(&record, &format!("stop {}", name(number)))[0];
        assert!((2..=10).all(|number| stops(number) < stops(number / 2)), "{:?}", record.lock().unwrap());
    });
    assert!(began.elapsed() < seconds(10), "four virtual minutes took {:?}", began.elapsed());
}

#[test]
fn a_service_that_crashes_over_and_over_is_restarted_less_and_less_often() {
    let api = ServiceSpec { restart: RestartPolicy::OnFailure { max: None }, ..service("api", &[]) };
    let crashes = Behaviour { exits: Some((Duration::from_millis(100), 1)), ..Behaviour::default() };
    in_fake_world(vec![(api, crashes)], async |world| {
        let (_, mut feed) = world.engine.subscribe().await.unwrap();
        world.engine.command(
            1,
            devrun_model::Command::Up { plan: None, targets: Vec::new(), options: devrun_model::UpOptions::default() },
        );
        TimeSource::sleep(&world.time, seconds(300)).await;
        let spawns = world.times_of("spawn api");
        let waits: Vec<Duration> = spawns.windows(2).map(|pair| pair[1] - pair[0]).collect();
        // 250 ms, doubled each time up to 30 s; the jitter is a fraction of the wait.
        assert!((10..30).contains(&spawns.len()), "{spawns:?}");
        assert!(waits[0] < seconds(1), "{waits:?}");
        assert!(waits.iter().rev().take(3).all(|wait| *wait > seconds(10) && *wait < seconds(60)), "{waits:?}");
        let mut said = Vec::new();
        while let Ok(item) = feed.try_recv() {
            if let devrun_model::feed::FeedItem::Said { text, .. } = &*item {
                said.push(text.clone());
            }
        }
        assert_eq!(said.iter().filter(|text| text.starts_with("crash loop: ended 5 times")).count(), 1, "{said:?}");
        assert!(world.down().await.survivors.is_empty());
    });
}

#[test]
fn a_service_that_never_becomes_ready_times_out_and_blocks_what_needs_it() {
    let db = probed("db", &[]);
    let db = ServiceSpec { ready: db.ready.map(|ready| ReadySpec { within: seconds(90), ..ready }), ..db };
    let services = vec![(db, Behaviour::default()), (probed("api", &["db"]), ready_after(seconds(1)))];
    in_fake_world(services, async |world| {
        let outcome = world.up().await;
        let failed: Vec<_> = outcome.failures.iter().map(|failed| (failed.id.as_str(), failed.failure.kind)).collect();
        assert_eq!(failed, [("db", FailureKind::NotReady)], "{outcome:?}");
        assert_eq!(outcome.failures[0].last_answer.as_deref(), Some("connection refused"));
        assert_eq!(outcome.blocked.len(), 1, "{outcome:?}");
        assert!((seconds(90)..seconds(110)).contains(&world.time.elapsed()), "{:?}", world.time.elapsed());
        assert!(world.times_of("spawn api").is_empty());
        world.down().await;
    });
}

#[test]
fn a_stop_escalates_and_names_what_survives_it() {
    let stop = StopSpec { grace: seconds(20), then: Signal::parse("QUIT"), ..StopSpec::default() };
    let db = ServiceSpec { stop, ..probed("db", &[]) };
    let stuck = Behaviour { unstoppable: true, ..ready_after(seconds(1)) };
    in_fake_world(vec![(db, stuck), (probed("api", &["db"]), ready_after(seconds(1)))], async |world| {
        assert!(world.up().await.failures.is_empty());
        let record = world.record();
        let exit = world.down().await;
        let at = |request: &str| times_of(&record, request)[0];
        assert!(at("stop api") < at("stop db"), "{:?}", record.lock().unwrap());
        assert_eq!(at("signal-tree SIGQUIT db") - at("stop db"), seconds(20));
        assert_eq!(at("kill db") - at("signal-tree SIGQUIT db"), seconds(2));
        assert_eq!(exit.survivors.iter().map(|(_, name)| name.as_str()).collect::<Vec<_>>(), ["db"]);
    });
}
