//! I07: many first starts at once share one secrets folder and end up with one value.

use std::os::unix::fs::PermissionsExt as _;
use std::process::{Command, Stdio};

use devrun_runtime::secrets::{read, read_or_create};

use crate::harness::Project;

/// Not a test of its own: one of the racing processes.
#[test(only_with = "DEVRUN_TEST_SECRETS")]
fn one_racer() {
    let dir = std::path::PathBuf::from(std::env::var_os("DEVRUN_TEST_SECRETS").unwrap());
    // The gate opens for all at once.
    while !dir.with_extension("go").exists() {
        std::thread::yield_now();
    }
    let value = read_or_create(&dir, "db-password", 32).unwrap();
    std::fs::write(dir.with_extension(format!("{}.value", std::process::id())), value).unwrap();
}

#[test]
fn ten_processes_get_one_value() {
    let folder = tempfile::tempdir().unwrap();
    for round in 0..3 {
        let dir = folder.path().join(format!("infra{round}"));
        let racers: Vec<_> = (0..10)
            .map(|_| {
                Command::new(std::env::current_exe().unwrap())
                    .args(["--exact", "secrets::one_racer"])
                    .env("DEVRUN_TEST_SECRETS", &dir)
                    .stdout(Stdio::null())
                    .stderr(Stdio::null())
                    .spawn()
                    .unwrap()
            })
            .collect();
        std::fs::write(dir.with_extension("go"), "").unwrap();
        for mut racer in racers {
            assert!(racer.wait().unwrap().success());
        }
        let value = read(&dir, "db-password").unwrap().unwrap();
        assert_eq!(value.len(), 32);
        let values: Vec<_> = std::fs::read_dir(folder.path())
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .filter(|path| {
                path.to_string_lossy().contains(&format!("infra{round}.")) && path.to_string_lossy().ends_with(".value")
            })
            .map(|path| std::fs::read_to_string(path).unwrap())
            .collect();
        assert_eq!(values.len(), 10);
        assert!(values.iter().all(|other| *other == value), "two values: {values:?}");
        let files = std::fs::read_dir(&dir).unwrap().filter(|entry| entry.as_ref().unwrap().file_name() != ".gitignore");
        assert_eq!(files.count(), 1, "a temporary file was left");
        assert_eq!(std::fs::metadata(&dir).unwrap().permissions().mode() & 0o777, 0o700);
        assert_eq!(std::fs::metadata(dir.join("db-password")).unwrap().permissions().mode() & 0o777, 0o600);
    }
}

#[test]
fn threads_of_one_process_get_one_value() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("infra");
    let values: Vec<String> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..10).map(|_| scope.spawn(|| read_or_create(&dir, "x", 24).unwrap())).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert!(values.windows(2).all(|pair| pair[0] == pair[1]), "{values:?}");
}

#[test]
fn clean_leaves_no_empty_directory_of_secrets() {
    let project = Project::new()
        .procfile("[secrets]\ngenerate = [\"pw\"]\n[services.a]\nrun = \"{svc:a}\"\nenv = { PW = \"${secret.pw}\" }\n");
    project.run(&["up", "-d"]).code(0);
    project.run(&["down"]).code(0);
    assert!(project.path("secrets/infra/pw").exists());
    project.run(&["clean", "--yes"]).code(0);
    assert!(!project.path("secrets").exists());
}
