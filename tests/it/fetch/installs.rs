//! From a source to an entry of the store, and what the lock and the store say afterwards.

use std::os::unix::fs::PermissionsExt;

use devrun_model::FailureKind;
use devrun_model::recipe::SourceSpec;
use devrun_store::catalog::{Catalog, CatalogSource};
use devrun_store::install::{InstallJob, install};
use devrun_store::store::Store;
use devrun_store::subprocess::Cancel;
use devrun_store::transfer::FetchError;
use devrun_store::version::VersionRequest;
use devrun_store::{catalog, fetch_all, locate, lock_update, pin, which};

use super::archives::{self, SERVER, executable, gz, program, tar, zip};
use super::server::{Answer, Server};
use super::{Place, from_url, recipe, tree_of};

#[test]
async fn fetched_once_it_is_there_without_a_network() {
    let mut place = Place::new();
    let server = Server::new(&[("/made-up-1.2.3.tgz", Answer::Body(archives::good()))]);
    let wanted = from_url(&server.url("/made-up-{version}.tgz"));
    place.options.offline = true;
    let failure = locate(&wanted, &place.options).await.unwrap_err();
    assert_eq!(failure.kind, FailureKind::Binary);
    assert!(failure.reason.contains("offline"), "{}", failure.reason);
    assert!(failure.help.unwrap().contains("devrun fetch made-up"));
    assert_eq!(server.hits(), 0, "offline asked the network");

    place.options.offline = false;
    let first = locate(&wanted, &place.options).await.unwrap();
    assert_eq!((first.version.as_str(), first.origin.as_str()), ("1.2.3", "store"));
    let server_path = &first.tools["made-upd"];
    assert!(server_path.is_absolute() && server_path.starts_with(&place.options.store));
    assert_eq!(std::fs::read_to_string(server_path).unwrap(), SERVER);
    let lock = place.lock();
    assert!(lock.contains("name = \"made-up\"") && lock.contains("version = \"1.2.3\""), "{lock}");

    drop(server);
    place.options.offline = true;
    let again = locate(&wanted, &place.options).await.unwrap();
    assert_eq!(again.tools, first.tools);
    assert!(again.why.contains("devrun.lock pins"), "{}", again.why);
    // Without its lock the project takes what is in the store, and pins it again.
    std::fs::remove_file(&place.options.lock_file).unwrap();
    assert_eq!(which(&wanted, &place.options).await.unwrap().tools, first.tools);
    assert_eq!(place.lock(), "", "looking wrote the lock");
    assert_eq!(locate(&wanted, &place.options).await.unwrap().tools, first.tools);
    assert_eq!(place.lock(), lock);
}

#[test]
async fn a_dropped_user_can_pass_through_and_execute() {
    let place = Place::new();
    let server = Server::new(&[("/x.tgz", Answer::Body(archives::good()))]);
    let located = locate(&from_url(&server.url("/x.tgz")), &place.options).await.unwrap();
    let mut path = located.tools["made-upd"].as_path();
    while path != place.path() {
        let mode = std::fs::metadata(path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o755, "{}", path.display());
        path = path.parent().unwrap();
    }
}

#[test]
async fn the_lock_holds_until_it_is_updated() {
    let place = Place::new();
    let server = Server::new(&[("/x.tgz", Answer::Body(archives::good()))]);
    let wanted = from_url(&server.url("/x.tgz"));
    locate(&wanted, &place.options).await.unwrap();
    let lock = place.lock();
    // The publisher replaces the file, and this machine's store is gone.
    let other = gz(&tar(&[program("bin/made-upd", b"#!/bin/sh\necho made-up 1.2.3 # other\n")]));
    server.set("/x.tgz", Answer::Body(other.clone()));
    std::fs::remove_dir_all(&place.options.store).unwrap();
    let failure = locate(&wanted, &place.options).await.unwrap_err();
    assert_eq!(failure.kind, FailureKind::Integrity, "{failure:?}");
    assert_eq!(place.lock(), lock, "a fetch changed the lock");
    assert_eq!(place.stored(), Vec::<String>::new());
    let updated = lock_update(&wanted, &place.options).await.unwrap();
    assert!(std::fs::read_to_string(&updated.tools["made-upd"]).unwrap().contains("other"));
    assert!(place.lock().contains(&pin::of_reader(&other[..]).unwrap().sha256));
    assert_eq!(locate(&wanted, &place.options).await.unwrap().tools, updated.tools);
}

/// Shows: source.sha256, source.url, source.version.
#[test]
async fn a_pinned_sum_in_the_procfile_is_held() {
    let place = Place::new();
    let server = Server::new(&[("/x.tgz", Answer::Body(archives::good()))]);
    let mut wanted = from_url(&server.url("/x.tgz"));
    let source = wanted.source.as_mut().unwrap();
    source.sha256 = Some("0".repeat(64));
    let failure = locate(&wanted, &place.options).await.unwrap_err();
    assert_eq!(failure.kind, FailureKind::Integrity);
    assert_eq!((place.stored(), place.lock()), (Vec::new(), String::new()));
    wanted.source.as_mut().unwrap().sha256 = Some(pin::of_reader(&archives::good()[..]).unwrap().sha256);
    locate(&wanted, &place.options).await.unwrap();
}

#[test]
async fn d04_a_tampered_entry_is_refused_with_the_fix() {
    let place = Place::new();
    let server = Server::new(&[("/x.tgz", Answer::Body(archives::good()))]);
    let wanted = from_url(&server.url("/x.tgz"));
    let located = locate(&wanted, &place.options).await.unwrap();
    let library = located.tools["made-upd"].parent().unwrap().parent().unwrap().join("lib/libmade.so.1.2");
    for tampered in [&located.tools["made-upd"], &library] {
        let good = std::fs::read(tampered).unwrap();
        std::fs::write(tampered, "#!/bin/sh\nrm -rf /\n").unwrap();
        let failure = locate(&wanted, &place.options).await.unwrap_err();
        assert_eq!(failure.kind, FailureKind::Integrity);
        assert!(failure.reason.contains(&tampered.display().to_string()), "{}", failure.reason);
        assert!(failure.help.unwrap().contains("devrun fetch made-up"));
        std::fs::write(tampered, good).unwrap();
    }
    locate(&wanted, &place.options).await.unwrap();
}

#[test]
async fn many_at_once_fetch_once() {
    let place = Place::new();
    let server = Server::new(&[("/x.tgz", Answer::Body(archives::good()))]);
    let wanted = vec![from_url(&server.url("/x.tgz")); 8];
    let results = fetch_all(&wanted, &place.options).await;
    let folders: std::collections::BTreeSet<_> =
        results.into_iter().map(|located| located.unwrap().tools["made-upd"].clone()).collect();
    assert_eq!(folders.len(), 1);
    assert_eq!(server.hits(), 1);
    assert_eq!(place.stored().len(), 1, "{:?}", place.stored());
}

#[test]
async fn a_mirror_stands_in_for_the_vendor() {
    let mut place = Place::new();
    let mirror = place.path().join("mirror/vendor.invalid/releases");
    std::fs::create_dir_all(&mirror).unwrap();
    std::fs::write(mirror.join("made-up-1.2.3.tgz"), archives::good()).unwrap();
    place.options.mirror = Some(format!("file://{}", place.path().join("mirror").display()));
    place.options.offline = true;
    let by_path = from_url("https://vendor.invalid/releases/made-up-{version}.tgz");
    let located = locate(&by_path, &place.options).await.unwrap();
    assert_eq!(located.version, "1.2.3");
    // A flat folder of files serves as well, and so does a web server.
    let server = Server::new(&[("/flat.tgz", Answer::Body(archives::good()))]);
    let mut other = Place::new();
    other.options.mirror = Some(server.base.clone());
    locate(&from_url("https://vendor.invalid/deep/flat.tgz"), &other.options).await.unwrap();
    assert_eq!(server.hits(), 2);
}

#[test]
async fn the_publishers_sum_is_the_pin_of_a_first_fetch() {
    let place = Place::new();
    let good = archives::good();
    let server = Server::new(&[("/x.tgz", Answer::Body(good.clone()))]);
    let job = || InstallJob {
        recipe: from_url("").recipe,
        catalog: Catalog::of("made-up").unwrap(),
        request: VersionRequest::new(None),
        version: Some("1.2.3".to_owned()),
        source: CatalogSource { platform: "any".to_owned(), url: Some(server.url("/x.tgz")), ..CatalogSource::default() },
        pinned: None,
        vouched: false,
    };
    let store = Store::at(&place.options.store);
    let cancel = Cancel::default();
    assert!(
        matches!(install(job(), &store, &place.options, &cancel).await, Err(FetchError::TryNextSource(_))),
        "no sum, and taken"
    );
    server.set("/x.tgz.sha256", Answer::Body("0".repeat(64).into_bytes()));
    match install(job(), &store, &place.options, &cancel).await {
        Err(FetchError::Fatal(failure)) => assert_eq!(failure.kind, FailureKind::Integrity),
        other => panic!("a wrong sum gave {other:?}"),
    }
    assert_eq!(place.stored(), Vec::<String>::new());
    let sum = pin::of_reader(&good[..]).unwrap().sha256;
    server.set("/x.tgz.sha256", Answer::Body(format!("{sum}  x.tgz\n").into_bytes()));
    let entry = install(job(), &store, &place.options, &cancel).await.unwrap();
    assert_eq!(entry.manifest.pin.sha256, sum);
    let names: Vec<_> = tree_of(&entry.folder).into_keys().map(|name| name.display().to_string()).collect();
    assert!(names.contains(&"bin/made-upd".to_owned()), "the top folder was kept: {names:?}");
}

#[test]
async fn what_does_not_run_here_gives_way() {
    let place = Place::new();
    let broken = gz(&tar(&[program("bin/made-upd", b"#!/bin/sh\necho version GLIBC_2.99 not found >&2\nexit 1\n")]));
    let server = Server::new(&[("/x.tgz", Answer::Body(broken))]);
    let failure = locate(&from_url(&server.url("/x.tgz")), &place.options).await.unwrap_err();
    assert_eq!(failure.kind, FailureKind::Binary);
    assert!(failure.reason.contains("does not run here"), "{}", failure.reason);
    assert!(failure.help.unwrap().contains("install made-up"));
    assert_eq!((place.stored(), place.lock()), (Vec::new(), String::new()));
    // A program of another architecture: a good header whose machine is one that this is not.
    let mut foreign = std::fs::read("/proc/self/exe").unwrap()[..64].to_vec();
    foreign[18..20].copy_from_slice(&22_u16.to_ne_bytes());
    server.set("/x.tgz", Answer::Body(gz(&tar(&[program("bin/made-upd", &foreign)]))));
    let failure = locate(&from_url(&server.url("/x.tgz")), &place.options).await.unwrap_err();
    assert_eq!(failure.kind, FailureKind::Binary);
    assert!(failure.reason.contains("does not run here"), "{}", failure.reason);
    assert_eq!((place.stored(), place.lock()), (Vec::new(), String::new()));
}

/// Keeps what is said between the steps.
#[derive(Default)]
struct Notes(std::sync::Mutex<Vec<String>>);

impl devrun_store::DownloadProgress for Notes {
    fn begin(&self, _: &str, _: Option<u64>) {}
    fn advance(&self, _: u64) {}
    fn end(&self, _: &str) {}
    fn note(&self, text: &str) {
        self.0.lock().unwrap().push(text.to_owned());
    }
}

#[test]
async fn a_source_that_gives_way_to_the_next_one_is_said() {
    let mut place = Place::new();
    let notes = std::sync::Arc::new(Notes::default());
    place.options.progress = notes.clone();
    // No client of any registry, and no host.
    place.options.env.insert("PATH".to_owned(), place.path().display().to_string());
    place.options.mirror = Some(format!("file://{}/nothing", place.path().display()));
    let mut valkey = recipe(SourceSpec::default(), None);
    valkey.recipe.name = "valkey".to_owned();
    valkey.source = None;
    let failure = locate(&valkey, &place.options).await.unwrap_err();
    assert_eq!(failure.kind, FailureKind::Binary);
    let notes = notes.0.lock().unwrap().clone();
    assert!(!notes.is_empty() && notes.iter().all(|note| note.ends_with("; trying the next source")), "{notes:?}: {failure:?}");
    let first = notes[0].trim_end_matches("; trying the next source");
    assert!(failure.reason.contains(first), "{notes:?}: {failure:?}");
}

#[test]
async fn a_number_in_a_servers_own_path_is_not_its_version() {
    let place = Place::new();
    let says_its_path = gz(&tar(&[program("bin/9.9.9/made-upd", b"#!/bin/sh\necho \"$0 dev\"\n")]));
    let server = Server::new(&[("/x.tgz", Answer::Body(says_its_path))]);
    let located = locate(&from_url(&server.url("/x.tgz")), &place.options).await.unwrap();
    assert_eq!(located.version, "1.2.3");
}

#[test]
async fn a_raw_binary_and_a_wheel_are_sources_too() {
    for (name, bytes) in [
        ("made-upd", SERVER.as_bytes().to_vec()),
        (
            "made_up-1.2.3-py3-none-any.whl",
            zip(&[("made_up/bin/made-upd", 0o644, SERVER.as_bytes()), ("made_up/x.py", 0o644, b"")]),
        ),
    ] {
        let place = Place::new();
        let server = Server::new(&[(&format!("/{name}"), Answer::Body(bytes))]);
        let located = locate(&from_url(&server.url(&format!("/{name}"))), &place.options).await;
        assert_eq!(located.unwrap_or_else(|failure| panic!("{name}: {failure:?}")).version, "1.2.3");
    }
}

#[test]
async fn a_path_is_used_in_place_and_checked() {
    let place = Place::new();
    let bin = place.path().join("opt/bin");
    std::fs::create_dir_all(&bin).unwrap();
    let by_path =
        |path: &str, version: Option<&str>| recipe(SourceSpec { path: Some(path.into()), ..SourceSpec::default() }, version);
    let missing = locate(&by_path("opt", None), &place.options).await.unwrap_err();
    assert_eq!(missing.kind, FailureKind::Binary);
    assert!(missing.help.unwrap().contains("[sources.made-up]"));
    executable(&bin.join("made-upd"), SERVER);
    for path in ["opt", "opt/bin", "opt/bin/made-upd"] {
        let located = locate(&by_path(path, Some("1.2")), &place.options).await.unwrap();
        assert_eq!((located.origin.as_str(), located.version.as_str()), ("path", "1.2.3"), "{path}");
        assert_eq!(located.tools["made-upd"], bin.join("made-upd"));
    }
    let wrong = locate(&by_path("opt", Some("2")), &place.options).await.unwrap_err();
    assert!(wrong.reason.contains("is 1.2.3, wanted is 2"), "{}", wrong.reason);
}

#[test]
async fn the_system_comes_before_the_network_and_only_in_the_right_version() {
    let mut place = Place::new();
    place.programs(&[("made-upd", "echo made-up 1.2.3")]);
    let any = recipe(SourceSpec::default(), None);
    let located = locate(&any, &place.options).await.unwrap();
    assert_eq!((located.origin.as_str(), located.version.as_str()), ("system", "1.2.3"));
    let newer = recipe(SourceSpec::default(), Some("2"));
    let failure = locate(&newer, &place.options).await.unwrap_err();
    assert_eq!(failure.kind, FailureKind::Binary);
    assert!(failure.reason.contains("has 1.2.3"), "{}", failure.reason);
    let help = failure.help.unwrap();
    assert!(help.contains("install made-up") && help.contains("[sources.made-up]"), "{help}");
}

#[test]
async fn a_recipe_without_a_binary_needs_none() {
    let place = Place::new();
    let mut gateway = recipe(SourceSpec::default(), None);
    gateway.recipe.bin.clear();
    assert!(locate(&gateway, &place.options).await.unwrap().tools.is_empty());
}

#[test]
fn the_catalogue_lists_what_can_be_had() {
    let place = Place::new();
    let lines = catalog(&place.options.store).unwrap();
    let redis: Vec<_> = lines.iter().filter(|line| line.recipe == "redis").collect();
    assert!(redis.iter().any(|line| line.version == "6.2.5"), "{redis:?}");
    assert!(lines.iter().all(|line| !line.stored && !line.platforms.is_empty()));
}
