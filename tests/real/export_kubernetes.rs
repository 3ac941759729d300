//! `export kubernetes`: every object of the demo and the five stacks against the schemas of Kubernetes, strictly; what
//! Kustomize makes of each overlay, where `kubectl` is there; and all of it sent to a real API server, which checks it and stores nothing.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::harness::{Project, skipped};
use crate::kubernetes_server::ApiServer;
use crate::stack::skip;

trials![every_object_of_the_demo_and_the_five_stacks_fits_the_schemas, a_real_api_server_accepts_every_object_and_overlay];

const STACKS: [&str; 6] = ["demo", "s0", "s1", "s2", "s3", "s4"];

/// The validator, with the schemas inside.
const VALIDATOR: &str = "kubernetes-validate==1.37.0";

/// Installed once into a virtual environment of the tests' store.
fn validator() -> Result<PathBuf, String> {
    let place = crate::services::store().join("tools/kubernetes-validate");
    let program = place.join("bin/kubernetes-validate");
    let run = |command: &mut Command| {
        let output = command.output().map_err(|error| error.to_string())?;
        if output.status.success() { Ok(()) } else { Err(String::from_utf8_lossy(&output.stderr).trim().to_owned()) }
    };
    if run(Command::new(&program).arg("--version")).is_ok() {
        return Ok(program);
    }
    if std::env::var_os("DEVRUN_OFFLINE").is_some_and(|value| !value.is_empty()) {
        return Err("it is not installed, and DEVRUN_OFFLINE is set".to_owned());
    }
    run(Command::new("python3").args(["-m", "venv"]).arg(&place))?;
    run(Command::new(place.join("bin/python")).args(["-m", "pip", "install", "--quiet", VALIDATOR]))?;
    Ok(program)
}

fn manifests(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).expect("the export").flatten() {
        let path = entry.path();
        if path.is_dir() {
            manifests(&path, found);
        } else if path.file_name().is_some_and(|name| name != "kustomization.yaml") {
            found.push(path);
        }
    }
}

fn every_object_of_the_demo_and_the_five_stacks_fits_the_schemas() {
    let program = match validator() {
        Ok(program) => program,
        Err(why) => return skip(&format!("kubernetes-validate: {why}")),
    };
    let fits = |files: &[PathBuf]| {
        let output = Command::new(&program).args(["--strict", "--quiet"]).args(files).output().expect("the validator runs");
        let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success() && said.trim().is_empty(), "{said}");
    };
    let has_kustomize =
        Command::new("kubectl").arg("kustomize").arg("--help").output().is_ok_and(|output| output.status.success());
    for name in STACKS {
        let project = exported(name);
        let mut files = Vec::new();
        manifests(&project.path("k8s"), &mut files);
        assert!(files.len() > 10, "{name}: {files:?}");
        fits(&files);
        project.run(&["export", "kubernetes", "-o", "k8s", "--check"]).code(0);
        if !has_kustomize {
            continue;
        }
        for overlay in std::iter::once("base".to_owned()).chain(overlays(&project)) {
            let built =
                Command::new("kubectl").arg("kustomize").arg(project.path("k8s").join(&overlay)).output().expect("kubectl");
            assert!(built.status.success(), "{name} {overlay}: {}", String::from_utf8_lossy(&built.stderr));
            let place = project.path("built.yaml");
            std::fs::write(&place, &built.stdout).expect("our own file");
            fits(&[place]);
            let text = String::from_utf8_lossy(&built.stdout).into_owned();
            if name == "s4" && overlay == "overlays/prod" {
                assert!(text.contains("replicas: 4") && text.contains("kind: Ingress"), "{text}");
            }
        }
    }
}

/// A stack with its export in `k8s`.
fn exported(name: &str) -> Project {
    let mut project = Project::new();
    for (variable, value) in crate::export_compose::VARIABLES {
        project = project.env(variable, value);
    }
    project.rewrite(&crate::export_compose::stack(name));
    for (path, text) in crate::export_compose::FILES {
        project.write(path, text);
    }
    project.run(&["export", "kubernetes", "-o", "k8s"]).code(0);
    project
}

/// `--dry-run=server` runs the whole request but for the write: decoding (strictly), defaults, validation and admission.
///
/// Shows: export.
fn a_real_api_server_accepts_every_object_and_overlay() {
    let server = match ApiServer::start() {
        Ok(server) => server,
        Err(why) => return skipped(&why),
    };
    let send = |option: &str, place: &Path| {
        server.kubectl(&["create", "--dry-run=server", "--validate=strict", "-o", "name", option, &place.display().to_string()])
    };
    let mut sent = 0;
    for name in STACKS {
        let project = exported(name);
        let mut files = Vec::new();
        manifests(&project.path("k8s"), &mut files);
        for file in &files {
            let (accepted, said) = send("-f", file);
            assert!(accepted, "{name} {}: {said}", file.display());
            sent += said.lines().count();
        }
        for overlay in std::iter::once("base".to_owned()).chain(overlays(&project)) {
            let (accepted, said) = send("-k", &project.path("k8s").join(&overlay));
            assert!(accepted && said.lines().count() >= 8, "{name} {overlay}: {said}");
        }
        // What it does not know, and what it does not allow, it refuses.
        let mut texts = files.iter().map(|file| std::fs::read_to_string(file).expect("our own file"));
        let text = texts.find(|text| text.contains("containerPort: 5432")).expect("the database");
        for (from, to) in [("containers:", "contaniers:"), ("containerPort: 5432", "containerPort: 543210")] {
            assert!(text.contains(from), "{text}");
            project.write("broken.yaml", &text.replace(from, to));
            let (accepted, said) = send("-f", &project.path("broken.yaml"));
            assert!(!accepted, "{name}: {said}");
        }
    }
    assert!(sent > 100, "{sent}");
    crate::harness::figures(&format!("{sent} objects accepted"));
}

fn overlays(project: &Project) -> Vec<String> {
    let entries = std::fs::read_dir(project.path("k8s/overlays")).into_iter().flatten().flatten();
    entries.map(|entry| format!("overlays/{}", entry.file_name().to_string_lossy())).collect()
}
