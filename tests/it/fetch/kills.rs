//! Installers that are killed at any moment: an entry is complete or absent, and the next installer succeeds.

use std::process::{Command, Stdio};
use std::time::Instant;

use devrun_model::recipe::SourceSpec;
use devrun_store::locate;

use crate::harness::PATIENCE;
use crate::waits::{eventually, let_time_pass};

use super::archives::{Entry, SERVER, file, gz, program, tar};
use super::server::{Answer, Server};
use super::{Place, from_url, recipe, tree_of};

const STORE: &str = "DEVRUN_TEST_INSTALL_INTO";
const URL: &str = "DEVRUN_TEST_INSTALL_FROM";

/// Many files and some megabytes, so that an install has a middle to be killed in.
fn package() -> Vec<u8> {
    let names: Vec<String> = (0..150).map(|number| format!("share/{}/file{number}", number % 10)).collect();
    let large: Vec<u8> = (0..500_000_u32).flat_map(|number| number.wrapping_mul(2_654_435_761).to_le_bytes()).collect();
    let mut entries: Vec<Entry<'_>> = vec![program("bin/made-upd", SERVER.as_bytes()), file("lib/libmade.so", &large)];
    entries.extend(names.iter().map(|name| file(name, name.as_bytes())));
    gz(&tar(&entries))
}

/// The body of the child: this test binary again, asked for this test alone.
#[test(only_with = "DEVRUN_TEST_INSTALL_INTO")]
async fn an_installer_in_a_process_of_its_own() {
    let (store, url) = (std::env::var(STORE).unwrap(), std::env::var(URL).unwrap());
    let mut place = Place::new();
    place.options.store = store.into();
    if let Err(failure) = locate(&from_url(&url), &place.options).await {
        panic!("{:?}: {}; help: {}", failure.kind, failure.reason, failure.help.unwrap_or_default());
    }
}

fn installer(place: &Place, url: &str) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command
        .args(["--exact", "fetch::kills::an_installer_in_a_process_of_its_own", "--test-threads=1"])
        .env(STORE, &place.options.store)
        .env(URL, url)
        // What a killed one leaves behind goes with the parent's own folder.
        .env("TMPDIR", place.path())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    command
}

#[test]
fn d06_a_killed_installer_leaves_a_complete_entry_or_none() {
    let server = Server::new(&[("/x.tgz", Answer::Body(package()))]);
    let url = server.url("/x.tgz");
    let whole = Place::new();
    let begun = Instant::now();
    assert!(installer(&whole, &url).status().unwrap().success());
    let took = begun.elapsed();
    let entry = |place: &Place| {
        let mut names = place.stored();
        names.retain(|name| !name.starts_with(".stage"));
        assert!(names.len() <= 1, "{names:?}");
        names.pop().map(|name| place.options.store.join("made-up").join(name))
    };
    let right = tree_of(&entry(&whole).unwrap());
    assert!(right.len() > 150, "{}", right.len());
    let (mut complete, mut absent, mut staged) = (0, 0, 0);
    let place = Place::new();
    // 50 in `scripts/soak`.
    let rounds = if crate::harness::long() { 50 } else { 24_u32 };
    for round in 0..rounds {
        let mut child = installer(&place, &url).spawn().unwrap();
        // Spread over the whole of an install, whatever the machine's speed.
        let moment = took.mul_f64(f64::from(round) * 1.1 / f64::from(rounds));
        let_time_pass("the moment of the kill is what is varied", moment);
        child.kill().unwrap();
        child.wait().unwrap();
        staged += usize::from(place.stored().iter().any(|name| name.starts_with(".stage")));
        match entry(&place) {
            None => absent += 1,
            Some(folder) => {
                assert_eq!(tree_of(&folder), right, "round {round} left half an entry");
                complete += 1;
                std::fs::remove_dir_all(folder).unwrap();
            }
        }
    }
    assert!(absent > 0, "no kill came before the end");
    assert!(installer(&place, &url).status().unwrap().success(), "complete {complete}, absent {absent}, staged {staged}");
    assert_eq!(tree_of(&entry(&place).unwrap()), right);
    assert_eq!(place.stored().len(), 1, "stages of the dead are left: {:?}", place.stored());
}

/// A registry client that takes its time is the child of a process that is killed with KILL: it is killed too.
#[test(only_with = "DEVRUN_TEST_INSTALL_INTO")]
async fn a_client_in_a_process_of_its_own() {
    let mut place = Place::new();
    place.options.store = std::env::var(STORE).unwrap().into();
    let pid_file = std::env::var(URL).unwrap();
    place.programs(&[("npm", &format!("echo $$ > {pid_file}.new\nmv {pid_file}.new {pid_file}\nexec sleep 1000"))]);
    let source = SourceSpec { npm: Some("made-up@1.2.3".to_owned()), version: Some("1.2.3".to_owned()), ..SourceSpec::default() };
    let ended = locate(&recipe(source, None), &place.options).await;
    panic!("it was to be killed: {ended:?}");
}

#[test]
fn a_client_does_not_outlive_the_process_that_waits_for_it() {
    let place = Place::new();
    let pid_file = place.path().join("client");
    let mut command = Command::new(std::env::current_exe().unwrap());
    command
        .args(["--exact", "fetch::kills::a_client_in_a_process_of_its_own", "--test-threads=1"])
        .env(STORE, &place.options.store)
        .env(URL, &pid_file)
        .env("TMPDIR", place.path())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    let mut child = command.spawn().unwrap();
    let client = eventually("the client runs", PATIENCE, || {
        assert!(child.try_wait().unwrap().is_none(), "the process that fetches has ended by itself");
        std::fs::read_to_string(&pid_file).ok()
    });
    let stat = format!("/proc/{}/stat", client.trim());
    assert!(std::fs::read_to_string(&stat).is_ok(), "the client is not running");
    child.kill().unwrap();
    child.wait().unwrap();
    let lives = || std::fs::read_to_string(&stat).is_ok_and(|stat| !stat.contains(") Z"));
    eventually("the client is gone", PATIENCE, || (!lives()).then_some(()));
}

/// The store lies in a file system that is too small: for the download, and for what is unpacked from it.
#[test]
fn a_full_disk_is_said_with_the_way_out_and_leaves_the_store_as_it_was() {
    let server = Server::new(&[("/x.tgz", Answer::Body(package()))]);
    let url = server.url("/x.tgz");
    for (size, what) in [("1m", "the store cannot be written"), ("3m", "cannot be unpacked")] {
        let place = Place::new();
        std::fs::create_dir_all(&place.options.store).unwrap();
        // In a mount namespace of its own, so that nobody else ever sees the disk.
        let script = format!(
            "mount -t tmpfs -o size={size},mode=755 tmpfs \"{STORE}\" || exit 77\n\"$@\"\ncode=$?\n\
             [ -z \"$(find \"{STORE}\" -type f ! -name .lock)\" ] || {{ find \"{STORE}\" -type f; exit 78; }}\nexit $code"
        )
        .replace(STORE, &format!("${STORE}"));
        let installer = installer(&place, &url);
        let mut command = Command::new("unshare");
        command.args(["--user", "--map-root-user", "--mount", "sh", "-c", &script, "sh"]);
        command.arg(installer.get_program()).args(installer.get_args());
        command.envs(installer.get_envs().filter_map(|(name, value)| Some((name, value?))));
        let ended = command.output().unwrap();
        let said = String::from_utf8_lossy(&[ended.stdout, ended.stderr].concat()).into_owned();
        if ended.status.code() == Some(77) || said.contains("unshare: ") {
            return crate::harness::skipped("no file system can be mounted here, not even for one process");
        }
        assert_eq!(ended.status.code(), Some(101), "{said}");
        assert!(said.contains("Binary: ") && said.contains(what) && said.contains("No space left"), "{said}");
        assert!(said.contains("help: free some space, or move the store with DEVRUN_BIN_CACHE=DIRECTORY"), "{said}");
    }
}

#[test]
fn d06_two_processes_that_install_at_once_agree() {
    let server = Server::new(&[("/x.tgz", Answer::Body(package()))]);
    let url = server.url("/x.tgz");
    let place = Place::new();
    let children: Vec<_> = (0..3).map(|_| installer(&place, &url).spawn().unwrap()).collect();
    for mut child in children {
        assert!(child.wait().unwrap().success());
    }
    assert_eq!(place.stored().len(), 1, "{:?}", place.stored());
    assert_eq!(server.hits(), 1, "the second did not wait for the first");
}
