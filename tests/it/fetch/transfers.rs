//! Downloads: what is fetched, what gives way to the next source, and what ends everything.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use devrun_model::FailureKind;
use devrun_store::download::download;
use devrun_store::pin::{Pin, of_reader};
use devrun_store::transfer::FetchError;

use super::Place;
use super::server::{Answer, Server};

fn body() -> Vec<u8> {
    (0..400_000_u32).flat_map(|number| number.wrapping_mul(2_654_435_761).to_le_bytes()).collect()
}

async fn fetched(answer: Answer, pin: Option<&Pin>, place: &Place) -> (Result<Pin, FetchError>, PathBuf, Server) {
    let server = Server::new(&[("/f.tgz", answer)]);
    let target = place.path().join("f.tgz");
    let got = download(&server.url("/f.tgz"), &target, pin, "f", &place.options).await;
    (got, target, server)
}

fn gives_way(got: Result<Pin, FetchError>, says: &str) {
    match got {
        Err(FetchError::TryNextSource(reason)) => assert!(reason.contains(says), "{reason}"),
        other => panic!("expected to give way ({says}), got {other:?}"),
    }
}

fn integrity(got: Result<Pin, FetchError>, says: &str) {
    match got {
        Err(FetchError::Fatal(failure)) => {
            assert_eq!(failure.kind, FailureKind::Integrity);
            assert!(failure.reason.contains(says), "{}", failure.reason);
        }
        other => panic!("expected an integrity failure ({says}), got {other:?}"),
    }
}

#[test]
async fn a_whole_file_arrives() {
    let place = Place::new();
    let pin = of_reader(&body()[..]).unwrap();
    for answer in [Answer::Body(body()), Answer::NoLength(body())] {
        let (got, target, _server) = fetched(answer, Some(&pin), &place).await;
        assert_eq!(got.unwrap(), pin);
        assert_eq!(std::fs::read(target).unwrap(), body());
    }
}

#[test]
async fn a_cut_download_goes_on_where_it_was_cut() {
    let place = Place::new();
    let pin = of_reader(&body()[..]).unwrap();
    let (got, target, server) = fetched(Answer::CutOnce(body(), 1_000_000), Some(&pin), &place).await;
    assert_eq!(got.unwrap(), pin);
    assert_eq!(std::fs::read(target).unwrap(), body());
    let ranges = server.ranges.lock().unwrap().clone();
    assert_eq!(ranges.len(), 1, "{ranges:?}");
    assert_ne!(ranges[0], "bytes=0-", "it began anew");
}

#[test]
async fn a_download_that_is_always_cut_gives_way_and_leaves_nothing() {
    let place = Place::new();
    let pin = of_reader(&body()[..]).unwrap();
    let (got, target, server) = fetched(Answer::CutAlways(body(), 5000), Some(&pin), &place).await;
    gives_way(got, "3 tries");
    assert_eq!(server.hits(), 3);
    assert!(!target.exists());
}

#[test]
async fn a_stalled_download_gives_way() {
    let mut place = Place::new();
    place.options.env.insert("DEVRUN_TEST_IDLE_MS".to_owned(), "200".to_owned());
    let begun = Instant::now();
    let (got, target, _server) = fetched(Answer::Stall(body(), 100), None, &place).await;
    gives_way(got, "no data");
    assert!(begun.elapsed() < Duration::from_secs(30));
    assert!(!target.exists());
}

#[test]
async fn d04_what_is_not_pinned_is_refused_and_removed() {
    let place = Place::new();
    let pin = of_reader(&body()[..]).unwrap();
    let mut other = body();
    other[77] ^= 1;
    let mut longer = body();
    longer.extend_from_slice(b"more");
    for (answer, says) in [
        (Answer::Body(other), "sha256"),
        (Answer::Body(longer.clone()), "are pinned"),
        (Answer::NoLength(longer), "more than"),
        (Answer::Body(body()[..1000].to_vec()), "are pinned"),
    ] {
        let (got, target, _server) = fetched(answer, Some(&pin), &place).await;
        integrity(got, says);
        assert!(!target.exists(), "{says}");
    }
}

#[test]
async fn redirects_are_followed_five_times_and_never_inwards() {
    let place = Place::new();
    let server = Server::new(&[("/f", Answer::Body(body())), ("/loop", Answer::Redirect("/loop".to_owned()))]);
    for hop in 0..7 {
        let to = if hop == 0 { "/f".to_owned() } else { format!("/r{}", hop - 1) };
        server.set(&format!("/r{hop}"), Answer::Redirect(to));
    }
    let target = place.path().join("f");
    let get = |path: &str| {
        let (url, target, options) = (server.url(path), target.clone(), place.options.clone());
        async move { download(&url, &target, None, "f", &options).await }
    };
    assert!(get("/r4").await.is_ok(), "five redirects are allowed");
    gives_way(get("/r5").await, "more than 5 redirects");
    gives_way(get("/loop").await, "more than 5 redirects");
    for inward in [
        "https://10.0.0.1/x",
        "https://169.254.169.254/latest/meta-data/",
        "https://[fd00::1]/x",
        "https://127.0.0.1:1/x",
        "https://localhost:1/x",
        "http://192.0.2.1/x",
        "file:///etc/passwd",
        "ftp://example.test/x",
    ] {
        server.set("/inward", Answer::Redirect(inward.to_owned()));
        match get("/inward").await {
            Err(FetchError::Fatal(failure)) => assert_eq!(failure.kind, FailureKind::Integrity, "{inward}"),
            Err(FetchError::TryNextSource(reason)) => assert!(reason.contains("is not https"), "{inward}: {reason}"),
            Ok(_) => panic!("{inward} was followed"),
        }
        assert!(!target.exists(), "{inward}");
    }
}

#[test]
async fn what_is_out_of_reach_gives_way_at_once() {
    let place = Place::new();
    let target = place.path().join("f");
    let refused = {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        format!("http://{}/f", listener.local_addr().unwrap())
    };
    let server = Server::new(&[]);
    let missing = server.url("/gone");
    for (url, says) in [
        (refused.as_str(), "cannot be reached"),
        ("https://no-such-host.invalid/f", "cannot be reached"),
        (missing.as_str(), "404"),
        ("http://example.test/f", "is not https"),
        ("not a url", "invalid URL"),
    ] {
        let begun = Instant::now();
        gives_way(download(url, &target, None, "f", &place.options).await, says);
        assert!(begun.elapsed() < Duration::from_secs(10), "{url} took {:?}", begun.elapsed());
    }
    assert_eq!(server.hits(), 1, "a 404 is not asked for again");
}

#[test]
async fn a_server_in_trouble_is_asked_again() {
    let place = Place::new();
    let (got, _, server) = fetched(Answer::Status(503), None, &place).await;
    gives_way(got, "503");
    assert_eq!(server.hits(), 3);
}

#[test]
async fn plain_http_needs_the_tests_own_switch() {
    let mut place = Place::new();
    place.options.env.remove("DEVRUN_TEST_ALLOW_HTTP");
    let (got, _, server) = fetched(Answer::Body(body()), None, &place).await;
    gives_way(got, "is not https");
    assert_eq!(server.hits(), 0);
}
