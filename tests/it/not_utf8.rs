//! Variables and paths that are not UTF-8: variables reach processes as the bytes that they are, a path that cannot be used is
//! refused before anything starts.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;

use crate::harness::{PATIENCE, Project, eventually};

fn bytes(text: &[u8]) -> &OsStr {
    OsStr::from_bytes(text)
}

/// Waits for a file and looks for a line in it.
#[track_caller]
fn has_line(project: &Project, name: &str, line: &[u8]) {
    eventually(&format!("{line:?} in {name}"), PATIENCE, || {
        let text = fs::read(project.path(name)).ok()?;
        text.split(|byte| *byte == b'\n').any(|one| one == line).then_some(())
    });
}

#[test]
fn variables_that_are_not_utf8_reach_services_as_they_are() {
    let project = Project::new().procfile(
        r#"
        [services.a]
        run = ["sh", "-c", "env > env.a; printf '%s\\n' \"$1\" > arg.a; exec sleep 1000", "{token}", "${FOO}"]
        pre_start = "sh -c 'env > env.pre'"
        env = { COPY = "<${FOO}>" }
        [tasks.names]
        run = ["env"]
        [services.b]
        run = "sh -c 'env > env.b; exec sleep 1000'"
        pass_env = ["FO*"]
        "#,
    );
    let up = |words: &[&str], value: &[u8]| {
        let running = project.start_prepared(words, |command| {
            command.env("FOO", bytes(value)).env(bytes(b"N\xe9ME"), bytes(b"1\xfe")).env("END", bytes("\u{10ff80}".as_bytes()));
        });
        running.outcome()
    };
    up(&["up", "-d"], b"\xe9x").code(0);
    for (file, line) in [
        ("env.a", &b"FOO=\xe9x"[..]),
        // A shell passes no name on that it could not set itself.
        (".devrun/logs/names.log", b"N\xe9ME=1\xfe"),
        ("env.a", b"COPY=<\xe9x>"),
        ("env.a", "END=\u{10ff80}".as_bytes()),
        ("arg.a", b"\xe9x"),
        ("env.pre", b"FOO=\xe9x"),
        ("env.b", b"FOO=\xe9x"),
    ] {
        has_line(&project, file, line);
    }
    let b = fs::read(project.path("env.b")).expect("it was written");
    assert!(!b.windows(4).any(|part| part == b"\xe9ME="), "pass_env lets it not through");
    // Another client, whose plan goes over the socket.
    up(&["restart", "a"], b"\xff\xfe").code(0);
    has_line(&project, "env.a", b"FOO=\xff\xfe");
    up(&["exec", "a", "--", "sh", "-c", "env > env.exec"], b"\xe8").code(0);
    has_line(&project, "env.exec", b"COPY=<\xe8>");
    let script = "FOO=$(printf '\\351') \"$0\" env a --format shell > env.out";
    project.run_in_shell(script).code(0);
    has_line(&project, "env.out", b"export COPY='<\xe9>'");
    project.run(&["ps", "--json"]).code(0).json();
    project.run(&["down"]).code(0);
    project.nothing_left();
}

#[test]
fn a_path_that_is_not_utf8_is_refused() {
    let project = Project::new();
    let folder = project.dir().join(bytes(b"caf\xe9"));
    fs::create_dir(&folder).expect("our own folder");
    fs::write(folder.join("procfile.toml"), "[services.a]\nrun = \"sleep 1000\"\n").expect("our own file");
    for words in [&["up", "-d"][..], &["check"], &["ps"], &["down"]] {
        let running = project.start_prepared(words, |command| {
            command.current_dir(&folder);
        });
        running.outcome().code(2).says("is not valid UTF-8").says("rename");
    }
    assert!(!folder.join(".devrun").exists(), "nothing was made");
}

/// A file in another encoding is an error at its first byte that is not UTF-8.
#[test]
fn files_that_are_not_utf8_have_a_place() {
    let compose = &b"services:\n  a: { image: alpine, command: sleep 1000 }\n"[..];
    /// A file with its content.
    type Written<'a> = (&'a str, &'a [u8]);
    let cases: [(&[Written<'_>], &str); 5] = [
        (&[("procfile.toml", &b"# caf\xe9\n[services.a]\nrun = \"sleep 1000\"\n"[..])], "procfile.toml:1:6: not valid UTF-8"),
        (&[("compose.yaml", &b"services:\n  a:\n    image: caf\xe9\n"[..])], "compose.yaml:3:15: not valid UTF-8"),
        (&[("compose.yaml", compose), (".env", &b"A=1\nNAME=Ren\xe9\n"[..])], ".env:2:9: not valid UTF-8"),
        (&[("Procfile", &b"web: echo \xff\n"[..])], "Procfile:1:11: not valid UTF-8"),
        (
            &[
                ("procfile.toml", &b"[project]\nenv_file = \"x.env\"\n[services.a]\nrun = \"sleep 1000\"\n"[..]),
                ("x.env", &b"B=\xfe\n"[..]),
            ],
            "x.env:1:3: not valid UTF-8",
        ),
    ];
    for (files, place) in cases {
        let project = Project::new();
        for (name, bytes) in files {
            fs::write(project.path(name), bytes).expect("our own file");
        }
        for words in [&["check"][..], &["up", "-d"]] {
            project.run(words).code(2).says(place).says("save the file as UTF-8");
        }
    }
}
