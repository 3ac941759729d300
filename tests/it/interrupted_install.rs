//! Commands that fill `.venv`, as `init` and `import` write them and the documentation shows them: an interruption at any moment is made
//! good by the next run.

use std::os::unix::fs::PermissionsExt as _;

use crate::harness::Project;

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

/// Like Python's `venv`, which takes a package that is there for an installed one, and makes its command only afterwards. It is killed
/// in between, with the shell that called it, for as long as there are files named `interrupt`.
const PYTHON: &str = "#!/bin/sh
[ $3 = --clear ] && rm -rf .venv
[ -e .venv/lib/pip ] && exit 0
mkdir -p .venv/lib .venv/bin; touch .venv/lib/pip
if [ -e interrupt-venv ]; then rm interrupt-venv; kill -9 $PPID $$; fi
cat > .venv/bin/pip <<'END'
#!/bin/sh
if [ -e .venv/lib/flask ]; then exit 0; fi
touch .venv/lib/flask
if [ -e interrupt-pip ]; then rm interrupt-pip; kill -9 $PPID $$; fi
touch .venv/bin/flask
END
chmod +x .venv/bin/pip
";

#[test]
fn an_interrupted_installation_is_finished_by_the_next_run() {
    let project = Project::new();
    project.write("app.py", "from flask import Flask\napp = Flask(__name__)\n");
    project.write("requirements.txt", "flask\n");
    project.write("tools/python3", PYTHON);
    let executable = std::fs::Permissions::from_mode(0o755);
    std::fs::set_permissions(project.path("tools/python3"), executable).expect("our own file");
    drop(project.run(&["init"]).code(0));
    let of_init: toml::Table = toml::from_str(&project.read("procfile.toml")).expect("TOML");
    project.write("compose.yaml", "services:\n  web:\n    build: .\n    command: flask run\n");
    project.write("Dockerfile", "FROM python:3.12\nWORKDIR /app\nCOPY . .\nRUN pip install -r requirements.txt\n");
    drop(project.run(&["import", "compose.yaml", "-o", "imported.toml"]).code(0));
    let of_import: toml::Table = toml::from_str(&project.read("imported.toml")).expect("TOML");
    for (table, command) in [(&of_init, &of_init["tasks"]["venv"]["run"]), (&of_import, &of_import["services"]["web"]["build"])] {
        let command = command.as_str().unwrap_or_else(|| panic!("{table}"));
        for mark in ["interrupt-venv", "interrupt-pip"] {
            let _absent = std::fs::remove_dir_all(project.path(".venv"));
            project.write(mark, "");
            let again = format!("PATH=\"$PWD/tools:$PATH\"; sh -c '{command}'; sh -c '{command}' && test -e .venv/bin/flask");
            project.run_in_shell(&again).code(0);
            assert!(!project.path(mark).exists(), "the first run was not interrupted");
        }
    }
}

#[test]
fn every_environment_in_the_documentation_is_made_by_such_a_command() {
    let mut seen = 0;
    let stacks = ["s0", "s1", "s2", "s3", "s4"].map(|stack| format!("tests/stacks/{stack}/overlay.toml"));
    for file in ["docs/walkthrough.md", "docs/guide.md"].map(str::to_owned).into_iter().chain(stacks) {
        let text = std::fs::read_to_string(format!("{ROOT}/{file}")).expect("our own file");
        for (at, _) in text.match_indices("-m venv") {
            assert!(text[at..].starts_with("-m venv --clear"), "{file}: an interrupted run is not made good");
            seen += 1;
        }
    }
    assert!(seen >= 7, "{seen}");
}
