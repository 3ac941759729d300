//! Package sources, through clients that only pretend: what they are asked, and what is made of their answers.

use devrun_model::FailureKind;
use devrun_model::recipe::SourceSpec;
use devrun_store::{locate, which};

use crate::harness::PATIENCE;
use crate::waits::eventually_async;

use super::archives::{SERVER, gz, program, tar, zip};
use super::{Place, recipe};

fn npm() -> devrun_model::RecipeUse {
    recipe(SourceSpec { npm: Some("made-up@1.2.3".to_owned()), version: Some("1.2.3".to_owned()), ..SourceSpec::default() }, None)
}

/// Shows: source.npm.
#[test]
async fn npm_only_packs_and_no_script_of_a_package_runs() {
    let mut place = Place::new();
    let package = place.path().join("package.tgz");
    let ran = place.path().join("ran");
    let script = format!(r#"{{"name":"made-up","scripts":{{"postinstall":"touch {}"}}}}"#, ran.display());
    let bytes = gz(&tar(&[
        super::archives::file("package/package.json", script.as_bytes()),
        program("package/bin/made-upd", SERVER.as_bytes()),
    ]));
    std::fs::write(&package, bytes).unwrap();
    let asked = place.path().join("asked");
    place.programs(&[(
        "npm",
        &format!(
            "echo \"$@\" > {}\nwhile [ \"$1\" != --pack-destination ]; do shift; done\ncp {} \"$2/made-up-1.2.3.tgz\"",
            asked.display(),
            package.display()
        ),
    )]);
    let located = locate(&npm(), &place.options).await.unwrap();
    assert_eq!(located.version, "1.2.3");
    let asked = std::fs::read_to_string(asked).unwrap();
    assert!(!ran.exists(), "a script of the package ran");
    assert!(asked.starts_with("pack made-up@1.2.3 --ignore-scripts --pack-destination "), "{asked}");
    assert!(place.lock().contains("npm made-up@1.2.3"));
    // Once it is there the client is not asked any more.
    place.options.env.insert("PATH".to_owned(), "/nonexistent".to_owned());
    assert_eq!(which(&npm(), &place.options).await.unwrap().tools, located.tools);
}

#[test]
async fn a_client_that_is_missing_or_fails_is_named() {
    let mut place = Place::new();
    place.options.env.insert("PATH".to_owned(), "/nonexistent".to_owned());
    let failure = locate(&npm(), &place.options).await.unwrap_err();
    assert_eq!(failure.kind, FailureKind::Binary);
    assert!(failure.reason.contains("npm is not installed"), "{}", failure.reason);
    place.programs(&[("npm", "echo npm error code ECONNREFUSED >&2; exit 1")]);
    let failure = locate(&npm(), &place.options).await.unwrap_err();
    assert!(failure.reason.contains("ECONNREFUSED"), "{}", failure.reason);
    place.programs(&[("npm", "exit 0")]);
    let failure = locate(&npm(), &place.options).await.unwrap_err();
    assert!(failure.reason.contains("left 0 files"), "{}", failure.reason);
    assert_eq!((place.stored(), place.lock()), (Vec::new(), String::new()));
}

/// Shows: source.pypi.
#[test]
async fn a_python_without_pip_gives_way_to_one_that_has_it() {
    let mut place = Place::new();
    let wheel = place.path().join("wheel");
    std::fs::write(&wheel, zip(&[("made_up/bin/made-upd", 0o755, SERVER.as_bytes())])).unwrap();
    place.programs(&[
        // As a Python without the module answers: 44 is what the question itself exits with.
        ("python3", "[ \"$2\" = -c ] && exit 44; echo \"$0: No module named pip\" >&2; exit 1"),
        (
            "python",
            &format!(
                "[ \"$2\" = -c ] && exit 0; while [ \"$1\" != -d ]; do shift; done\ncp {} \"$2/made_up-1.2.3-py3-none-any.whl\"",
                wheel.display()
            ),
        ),
    ]);
    let wanted = recipe(SourceSpec { pypi: Some("made-up==1.2.3".to_owned()), ..SourceSpec::default() }, Some("1.2"));
    assert_eq!(locate(&wanted, &place.options).await.unwrap().version, "1.2.3");
    assert!(place.lock().contains("version = \"1.2.3\""), "the version comes from the server: {}", place.lock());
}

fn build() -> devrun_model::RecipeUse {
    let build = ["go", "install", "example.test/made-up@v1.2.3"].map(ToOwned::to_owned).to_vec();
    recipe(SourceSpec { build, version: Some("1.2.3".to_owned()), ..SourceSpec::default() }, None)
}

/// Shows: source.build.
#[test]
async fn a_build_runs_in_an_empty_folder_and_its_binary_is_pinned() {
    let mut place = Place::new();
    place.options.env.insert("PATH".to_owned(), "/nonexistent".to_owned());
    let failure = locate(&build(), &place.options).await.unwrap_err();
    assert_eq!(failure.kind, FailureKind::Binary);
    assert!(failure.reason.contains("go is not installed"), "{}", failure.reason);
    place.programs(&[(
        "go",
        "[ -z \"$(ls -A)\" ] || exit 9\n[ \"$1 $2\" = 'install example.test/made-up@v1.2.3' ] || exit 8\n\
         printf '#!/bin/sh\\necho made-up 1.2.3\\n' > \"$GOBIN/made-upd\"",
    )]);
    let located = locate(&build(), &place.options).await.unwrap();
    assert!(located.tools["made-upd"].ends_with("bin/made-upd"));
    // Another toolchain builds other bytes: not what is pinned.
    std::fs::remove_dir_all(&place.options.store).unwrap();
    place.programs(&[("go", "printf '#!/bin/sh\\necho made-up 1.2.3 again\\n' > \"$GOBIN/made-upd\"")]);
    assert_eq!(locate(&build(), &place.options).await.unwrap_err().kind, FailureKind::Integrity);
    place.programs(&[("go", "exit 0")]);
    let failure = locate(&build(), &place.options).await.unwrap_err();
    assert!(failure.reason.contains("holds no made-upd"), "{}", failure.reason);
}

/// Shows: source.module.
#[test]
async fn a_build_in_a_module_finds_its_source_and_no_workspace_of_others() {
    let mut place = Place::new();
    let archive = place.path().join("v1.2.3.zip");
    let names = ["example.test/made-up@v1.2.3/go.mod", "example.test/made-up@v1.2.3/cmd/made-upd/main.go"];
    std::fs::write(&archive, zip(&names.map(|name| (name, 0o644, b"text".as_slice())))).unwrap();
    let source = SourceSpec {
        build: ["go", "install", "./cmd/made-upd"].map(ToOwned::to_owned).to_vec(),
        module: Some("example.test/made-up@v1.2.3".to_owned()),
        version: Some("1.2.3".to_owned()),
        ..SourceSpec::default()
    };
    let wanted = recipe(source, None);
    let answers = |answer: &str| {
        format!(
            "if [ \"$*\" = 'mod download -json example.test/made-up@v1.2.3' ]; then\n{answer}\nexit\nfi\n\
             [ \"$* $GOWORK\" = 'install ./cmd/made-upd off' ] && [ -f go.mod ] && [ -f cmd/made-upd/main.go ] || exit 8\n\
             printf '#!/bin/sh\\necho made-up 1.2.3\\n' > \"$GOBIN/made-upd\""
        )
    };
    // What the client cannot get, and what is no archive, is said and leaves nothing.
    let broken = place.path().join("broken.zip");
    std::fs::write(&broken, "no archive").unwrap();
    for (answer, says) in [
        ("echo '{\"Error\": \"not found: unknown revision\"}'; exit 1".to_owned(), "unknown revision"),
        ("echo '{}'".to_owned(), "did not say where"),
        (format!("echo '{{\"Zip\": \"{}\"}}'", broken.display()), "cannot be unpacked"),
    ] {
        place.programs(&[("go", &answers(&answer))]);
        let failure = locate(&wanted, &place.options).await.unwrap_err();
        assert!(failure.kind == FailureKind::Binary && failure.reason.contains(says), "{says}: {}", failure.reason);
        assert_eq!((place.stored(), place.lock()), (Vec::new(), String::new()));
    }
    place.programs(&[("go", &answers(&format!("echo '{{\"Zip\": \"{}\"}}'", archive.display())))]);
    assert_eq!(locate(&wanted, &place.options).await.unwrap().version, "1.2.3");
    assert!(place.lock().contains("build go install ./cmd/made-upd in example.test/made-up@v1.2.3"), "{}", place.lock());
}

/// Then an optional service is left out, instead of failing for a store that nothing would have come into.
#[test]
async fn a_store_that_is_not_ours_to_fill_counts_only_where_something_could_be_fetched() {
    let mut place = Place::new();
    std::fs::write(place.path().join("file"), "").unwrap();
    place.options.store = place.path().join("file/store");
    let failure = locate(&npm(), &place.options).await.unwrap_err();
    assert_eq!(failure.kind, FailureKind::Config, "{}", failure.reason);
    place.options.offline = true;
    let failure = locate(&npm(), &place.options).await.unwrap_err();
    assert_eq!(failure.kind, FailureKind::Binary, "{}", failure.reason);
    assert!(
        failure.reason.contains("offline none is fetched") && failure.reason.contains("cannot be used"),
        "{}",
        failure.reason
    );
}

#[test]
async fn giving_up_ends_the_client() {
    let mut place = Place::new();
    let pid_file = place.path().join("pid");
    place.programs(&[("npm", &format!("echo $$ > {0}.new && mv {0}.new {0}\nexec sleep 600", pid_file.display()))]);
    let options = place.options.clone();
    let waiting = tokio::spawn(async move { locate(&npm(), &options).await });
    eventually_async("the client is started", PATIENCE, || pid_file.exists()).await;
    let pid = std::fs::read_to_string(&pid_file).unwrap();
    waiting.abort();
    let alive = || std::fs::read_to_string(format!("/proc/{}/stat", pid.trim())).is_ok_and(|stat| !stat.contains(") Z"));
    eventually_async("the client does not outlive the wait", PATIENCE, || !alive()).await;
    eventually_async("its stage goes with it", PATIENCE, || place.stored().is_empty()).await;
}
