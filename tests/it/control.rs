//! The control socket against callers that say nothing, too much or nonsense: the supervisor goes on, and so do the others.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use devrun_config::{Facts, Options, Source};
use devrun_keeper::state_location::StateLocation;
use devrun_model::Paths;
use devrun_runtime::control::protocol::MAX_LINE;
use devrun_runtime::recipes::RecipeRegistry;

use crate::harness::{PATIENCE, Project, eventually};

const ONE: &str = "[services.a]\nrun = \"{svc:a}\"\n";

fn socket(project: &Project) -> PathBuf {
    let mut folders = vec![project.root().join("run")];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).expect("our own folder").flatten() {
            use std::os::unix::fs::FileTypeExt;
            match entry.file_type() {
                Ok(kind) if kind.is_dir() => folders.push(entry.path()),
                // Only the control socket is a listener that greets; a recipe would have its own.
                Ok(kind) if kind.is_socket() => return entry.path(),
                _ => {}
            }
        }
    }
    panic!("no socket below {}", project.root().display());
}

fn called(project: &Project) -> (UnixStream, BufReader<UnixStream>) {
    let stream = UnixStream::connect(socket(project)).expect("it listens");
    stream.set_read_timeout(Some(PATIENCE)).expect("a time-out");
    stream.set_write_timeout(Some(PATIENCE)).expect("a time-out");
    let mut reader = BufReader::new(stream.try_clone().expect("a descriptor"));
    let mut hello = String::new();
    reader.read_line(&mut hello).expect("it greets");
    assert!(hello.contains("devrun"), "{hello}");
    (stream, reader)
}

#[test]
fn nonsense_is_refused_and_ends_nothing() {
    let project = Project::new().procfile(ONE);
    project.run(&["up", "-d"]).code(0);
    for nonsense in ["", "{", "null", "{\"do\":{}}", "\u{1b}[2J", "[[[[[[[["] {
        let (mut stream, mut reader) = called(&project);
        stream.write_all(format!("{nonsense}\n\"status\"\n").as_bytes()).expect("it reads");
        let mut lines = String::new();
        reader.read_line(&mut lines).and_then(|_| reader.read_line(&mut lines)).expect("two answers");
        assert!(lines.contains("refused") && lines.contains("status"), "{nonsense:?}: {lines}");
    }
    // Deep nesting, no text, and half a line that its writer leaves behind.
    for bytes in ["[".repeat(100_000).into_bytes(), vec![0xff; 100], b"{\"do\":{\"token\":1".to_vec()] {
        let (mut stream, _reader) = called(&project);
        stream.write_all(&bytes).expect("it reads");
    }
    assert_eq!(project.run(&["ps", "--json"]).code(0).json()["services"][0]["state"], "running");
    project.run(&["down"]).code(0);
    project.nothing_left();
}

#[test]
fn a_line_that_never_ends_ends_its_connection_only() {
    let project = Project::new().procfile(ONE);
    project.run(&["up", "-d"]).code(0);
    let (mut stream, _reader) = called(&project);
    let chunk = vec![b'x'; 1 << 20];
    let mut sent = 0;
    // It hangs up soon after the limit. "Soon": its buffer grows by doubling, and one read may fill all of it while
    // we keep on writing, so up to twice the limit is read before anyone looks at the length.
    while stream.write_all(&chunk).is_ok() {
        sent += chunk.len();
        assert!(sent < 3 * MAX_LINE, "{sent} bytes were taken");
    }
    assert_eq!(project.run(&["ps", "--json"]).code(0).json()["services"][0]["state"], "running");
    project.run(&["down"]).code(0);
    project.nothing_left();
}

#[test]
fn callers_that_say_nothing_lose_their_seat() {
    let project = Project::new().procfile(ONE);
    project.run(&["up", "-d"]).code(0);
    let mut silent: Vec<_> = (0..64).map(|_| UnixStream::connect(socket(&project)).expect("it listens")).collect();
    let begun = Instant::now();
    eventually("a seat is free again", PATIENCE, || (project.run(&["ps", "--json"]).code == Some(0)).then_some(()));
    assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());
    for stream in &mut silent {
        stream.set_read_timeout(Some(PATIENCE)).expect("a time-out");
        // The greeting, or nothing for one that came too late, and then the end.
        let mut rest = Vec::new();
        let _reset = stream.read_to_end(&mut rest);
    }
    project.run(&["down"]).code(0);
    project.nothing_left();
}

/// More than there is room for, some in the middle of a line, and new ones all the time.
#[test]
fn slow_clients_keep_nobody_waiting() {
    let project = Project::new().procfile(ONE);
    project.run(&["up", "-d"]).code(0);
    let socket = socket(&project);
    let slow = |at: usize| {
        let mut stream = UnixStream::connect(&socket).expect("it listens");
        if at.is_multiple_of(2) {
            // Turned away already is as good.
            let _reset = stream.write_all(b"\"sta");
        }
        stream
    };
    let mut clients: Vec<UnixStream> = (0..200).map(slow).collect();
    let begun = Instant::now();
    for round in 0..8 {
        assert_eq!(project.run(&["ps", "--json"]).code(0).json()["services"][0]["state"], "running");
        clients.extend((0..40).map(|at| slow(at + round)));
    }
    // Each waited five seconds when a silent client kept its place for so long.
    assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());
    drop(clients);
    project.run(&["down"]).code(0);
    project.nothing_left();
}

/// Those that watch keep their places, and leave some to others.
#[test]
fn watchers_leave_room_for_questions() {
    let project = Project::new().procfile(ONE);
    project.run(&["up", "-d"]).code(0);
    let mut watching = Vec::new();
    let refused = (0..70).any(|_| {
        let (mut stream, mut reader) = called(&project);
        stream.write_all(b"\"watch\"\n").expect("it reads");
        let mut answer = String::new();
        reader.read_line(&mut answer).expect("it answers");
        watching.push((stream, reader));
        answer.contains("clients watch already")
    });
    assert!(refused, "{} watch", watching.len());
    assert_eq!(project.run(&["ps", "--json"]).code(0).json()["services"][0]["state"], "running");
    drop(watching);
    project.run(&["down"]).code(0);
    project.nothing_left();
}

/// Any number of supervisors that say nothing cost one wait.
/// Shows: ls.
#[test]
fn ls_asks_all_stacks_at_once() {
    let project = Project::new().procfile(ONE);
    project.run(&["up", "-d"]).code(0);
    let own = socket(&project);
    let base = own.parent().and_then(|run| run.parent()).expect("runtime directories lie in one");
    let stuck: Vec<_> = (0..8)
        .map(|number| {
            let root = project.root().join(format!("stuck{number}"));
            let places = Paths { state: root.join(".devrun"), run: base.join(format!("{number:012x}")), root };
            for folder in [&places.state, &places.run] {
                std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder).expect("our own folder");
            }
            let located = StateLocation::of(&places).expect("our own folder").text();
            std::fs::write(places.run.join(".state"), located).expect("our own file");
            UnixListener::bind(places.socket()).expect("our own folder")
        })
        .collect();
    let begun = Instant::now();
    let listed = project.run(&["ls", "--json"]).code(0).json();
    assert!(begun.elapsed() < Duration::from_secs(15), "{:?}", begun.elapsed());
    let status = |name: &str| {
        let stacks = listed.as_array().into_iter().flatten();
        let named = stacks.filter(|stack| stack["root"].as_str().is_some_and(|root| root.contains(name)));
        named.map(|stack| stack["status"].as_str().unwrap_or_default().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(status("/stuck"), vec!["silent"; stuck.len()], "{listed:#}");
    assert_eq!(status(&project.fill("{dir}")), ["running"], "{listed:#}");
    project.run(&["ls"]).code(0).says("silent: the supervisor runs and did not answer within 2.0s; `devrun down --emergency`");
    project.run(&["down"]).code(0);
}

#[test]
fn the_plan_of_a_thousand_services_fits_a_line_four_times() {
    let mut text = "[env]\n".to_owned();
    for n in 0..20 {
        text.push_str(&format!("A_VARIABLE_OF_ALL_{n} = \"a value of some length, as a database's url has {n}\"\n"));
    }
    for n in 0..1000 {
        text.push_str(&format!("[services.service-{n}]\nrun = \"node server.js --name service-{n}\"\nready = {{ http = \"/health\" }}\nport = {}\nenv = {{ NAME = \"service-{n}\" }}\n", 20_000 + n));
    }
    let source = Source { name: "procfile.toml".to_owned(), path: PathBuf::from("/p/procfile.toml"), text };
    let document = devrun_config::read(&[source], &Options::default(), &RecipeRegistry::new())
        .unwrap_or_else(|report| panic!("{}", report.render(false)));
    let facts = Facts {
        places: Paths { root: "/p".into(), state: "/p/.devrun".into(), run: "/r".into() },
        shell: (0..20).map(|n| (format!("SHELL_{n}"), "of some length".to_owned())).collect(),
        env_files: BTreeMap::new(),
        unread_env: None,
        env_file_flag: None,
        secrets: BTreeMap::new(),
        ports: document
            .required_values(&Facts {
                places: Paths { root: "/p".into(), state: "/p/.devrun".into(), run: "/r".into() },
                shell: BTreeMap::new(),
                env_files: BTreeMap::new(),
                unread_env: None,
                env_file_flag: None,
                secrets: BTreeMap::new(),
                ports: BTreeMap::new(),
                recipe_files: BTreeMap::new(),
                keys: BTreeMap::new(),
                seed: 1,
                branch: None,
                shared: BTreeMap::new(),
                local_ca: None,
            })
            .map(|wants| {
                wants
                    .ports
                    .into_iter()
                    .enumerate()
                    .map(|(n, want)| ((want.service, want.name), 20_000 + u16::try_from(n).expect("few")))
                    .collect()
            })
            .unwrap_or_default(),
        recipe_files: BTreeMap::new(),
        keys: BTreeMap::new(),
        seed: 1,
        branch: None,
        shared: BTreeMap::new(),
        local_ca: None,
    };
    let (plan, _) = document.lower(&facts).unwrap_or_else(|report| panic!("{}", report.render(false)));
    let length = serde_json::to_string(&plan).expect("a plan is JSON").len();
    assert!(length > 1 << 20, "so little ({length} bytes) that the limit could be smaller");
    assert!(length * 4 < MAX_LINE, "{length} bytes");
}
