//! Copies of a service behind the address that they share: balancing, `scale`, restarts and kills under load.

use std::collections::BTreeSet;

use nix::sys::signal::Signal;
use serde_json::Value;

use crate::harness::{PATIENCE, Project, eventually, rounds, signal};
use crate::load::{Load, SERVER, get};

fn api(replicas: &str, more: &str) -> String {
    format!(
        r#"
        [services.api]
        run = ["python3", "srv.py", "{{token}}-api-"]
        port = "auto"
        {replicas}
        {more}
        "#
    )
}

fn project(replicas: &str, more: &str) -> Project {
    let project = Project::new().procfile(&api(replicas, more));
    project.write("srv.py", SERVER);
    project
}

const HTTP: &str = "ready = { http = \"/\" }";

/// The copies by name, with pid and own port.
fn copies(project: &Project) -> Vec<(String, i64, u64)> {
    let services = project.ps()["services"].as_array().cloned().unwrap_or_default();
    let of = |service: &Value| {
        let live = service["pid"].as_i64()?;
        Some((service["name"].as_str()?.to_owned(), live, service["ports"]["main"].as_u64()?))
    };
    services.iter().filter(|service| service["service"] == "api").filter_map(of).collect()
}

fn names(project: &Project) -> Vec<String> {
    copies(project).into_iter().map(|(name, ..)| name).collect()
}

/// The port of the address that `ps` shows for a copy.
fn shared(project: &Project, name: &str) -> u16 {
    let url = project.service(name)["url"].as_str().expect("its address").to_owned();
    url.rsplit(':').next().and_then(|port| port.trim_end_matches('/').parse().ok()).expect("a port")
}

/// Shows: service.replicas.
#[test]
fn copies_have_ports_of_their_own_and_share_an_address() {
    let project = project("replicas = 2", HTTP);
    project.run(&["up", "-d"]).code(0);
    let address = shared(&project, "api.1");
    assert_eq!(shared(&project, "api.2"), address);
    let all = copies(&project);
    assert_eq!(names(&project), ["api.1", "api.2"]);
    assert!(all.iter().all(|(_, _, port)| *port != u64::from(address)), "{all:?}, shared {address}");
    let answered: BTreeSet<String> =
        (0..10).map(|_| get(address, "/").expect("an answer").split(' ').next().unwrap_or_default().to_owned()).collect();
    assert_eq!(answered.into_iter().collect::<Vec<_>>(), ["api.1", "api.2"]);
    for (name, _, port) in all {
        let own = get(u16::try_from(port).expect("a port"), "/env").expect("an answer");
        assert!(own.starts_with(&name) && own.ends_with(&port.to_string()), "{own}");
    }
    // It is a process of the run, and ends with it.
    project.run(&["down"]).code(0);
    assert!(get(address, "/").is_err());
    project.nothing_left();
}

/// What does not say that it speaks HTTP is balanced by connections.
#[test]
fn other_protocols_are_balanced_by_connections() {
    let project = project("replicas = 2", "ready = { tcp = true }");
    project.run(&["up", "-d"]).code(0);
    let load = Load::begin(shared(&project, "api.1"), 4, "/");
    load.answered(40);
    let tally = load.end();
    assert_eq!((tally.failed.as_slice(), tally.names().len()), (&[] as &[String], 2), "{:?}", tally.by);
    project.run(&["down"]).code(0);
    project.nothing_left();
}

#[test]
fn a_rolling_restart_under_load_fails_no_request() {
    let project = project("replicas = 2", HTTP);
    project.run(&["up", "-d"]).code(0);
    // Requests that take long are in flight on a copy when its turn comes.
    let address = shared(&project, "api.1");
    let (quick, slow) = (Load::begin(address, 4, "/"), Load::begin(address, 2, "/slow"));
    quick.answered(20);
    let count = rounds(4);
    for _ in 0..count {
        project.run(&["restart", "api"]).code(0);
        quick.answered(20);
    }
    let (quick, slow) = (quick.end(), slow.end());
    assert_eq!(quick.failed, Vec::<String>::new(), "of {}", quick.good);
    assert_eq!(slow.failed, Vec::<String>::new(), "of {}", slow.good);
    assert!(quick.pids().len() as u64 > 2 * count, "{:?}", quick.by);
    project.run(&["down"]).code(0);
    project.nothing_left();
}

#[test]
fn a_killed_copy_breaks_only_what_it_was_answering() {
    let project = project("replicas = 2", &format!("{HTTP}\nrestart = \"always\""));
    project.run(&["up", "-d"]).code(0);
    let load = Load::begin(shared(&project, "api.1"), 4, "/");
    load.answered(20);
    let killed = copies(&project)[0].1;
    signal(i32::try_from(killed).expect("a pid"), Signal::SIGKILL);
    eventually("it is back", PATIENCE, || {
        let service = project.service("api.1");
        (service["pid"].as_i64()? != killed && service["state"] == "running").then_some(())
    });
    load.answered(40);
    let tally = load.end();
    assert!(tally.failed.len() <= 4, "one in flight for each thread: {:?}", tally.failed);
    project.run(&["down"]).code(0);
    project.nothing_left();
}

/// The balancer is restarted, and its socket is held meanwhile.
#[test]
fn the_end_of_the_balancer_refuses_no_connection() {
    let project = project("replicas = 2", HTTP);
    project.run(&["up", "-d"]).code(0);
    let address = shared(&project, "api.1");
    let balancers = || crate::harness::processes_with("balancer.json").into_iter().filter(|one| is_of(&project, one.pid));
    let old = balancers().next().expect("a balancer").pid;
    let load = Load::begin(address, 4, "/");
    load.answered(20);
    signal(old, Signal::SIGKILL);
    eventually("another one", PATIENCE, || balancers().find(|one| one.pid != old).map(drop));
    load.answered(20);
    let tally = load.end();
    assert!(tally.failed.len() <= 4, "{:?}", tally.failed);
    assert!(tally.failed.iter().all(|why| !why.starts_with("connect:")), "{:?}", tally.failed);
    project.run(&["down"]).code(0);
    project.nothing_left();
}

/// Whether a process belongs to this project's run.
fn is_of(project: &Project, pid: i32) -> bool {
    let words = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let file = String::from_utf8_lossy(&words).split('\0').find(|word| word.ends_with("balancer.json")).map(str::to_owned);
    let config = file.and_then(|file| std::fs::read_to_string(file).ok()).unwrap_or_default();
    config.contains(&project.root().display().to_string())
}

#[test]
fn scaling_under_load_fails_no_request_and_touches_no_copy_that_stays() {
    let project = project("replicas = 2", HTTP);
    project.run(&["up", "-d"]).code(0);
    let load = Load::begin(shared(&project, "api.1"), 4, "/");
    load.answered(20);
    let first = copies(&project)[0].clone();
    for count in [1, 8, 3, 5, 2] {
        project.run(&["scale", &format!("api={count}")]).code(0);
        let wanted: Vec<String> = (1..=count).map(|number| format!("api.{number}")).collect();
        eventually("as many copies", PATIENCE, || (names(&project) == wanted).then_some(()));
        assert_eq!(copies(&project)[0], first, "the first one is the same process");
        load.answered(20);
    }
    let tally = load.end();
    assert_eq!(tally.failed, Vec::<String>::new(), "of {}", tally.good);
    let events = project.run(&["events", "--json"]).code(0).json_lines();
    let reasons: BTreeSet<&str> = events
        .iter()
        .filter(|event| event["to"] == "stopping" && event["service"] == "api")
        .filter_map(|event| event["reason"].as_str())
        .collect();
    assert_eq!(reasons.into_iter().collect::<Vec<_>>(), ["scaled down"]);
    project.run(&["down"]).code(0);
    project.nothing_left();
}

/// Shows: scale.
#[test]
fn a_scale_is_remembered_until_the_procfile_changes_or_it_is_reset() {
    let project = project("replicas = 2", HTTP);
    project.run(&["up", "-d"]).code(0);
    project.run(&["scale", "api=3"]).code(0);
    let three = ["api.1", "api.2", "api.3"];
    assert_eq!(names(&project), three);
    let before = copies(&project);
    project.run(&["up", "-d"]).code(0);
    assert_eq!(copies(&project), before, "`up` keeps it, and restarts nothing");
    project.run(&["restart", "api"]).code(0);
    assert_eq!(names(&project), three);
    project.run(&["down"]).code(0);
    project.run(&["up", "-d"]).code(0);
    assert_eq!(names(&project), three, "the next run too");
    project.run(&["scale", "api="]).code(0);
    eventually("back to the procfile", PATIENCE, || (names(&project) == three[..2]).then_some(()));
    project.run(&["scale", "api=4"]).code(0);
    project.rewrite(&api("replicas = 1", HTTP));
    project.run(&["up", "-d"]).code(0);
    eventually("the procfile's new number counts", PATIENCE, || (names(&project) == three[..1]).then_some(()));
    project.run(&["down"]).code(0);
    project.nothing_left();
}

/// `replicas = 1` says that the number may change: the address is shared from the first copy on.
#[test]
fn one_copy_of_many_to_come_has_the_shared_address() {
    let project = project("replicas = 1", HTTP);
    project.run(&["up", "-d"]).code(0);
    let alone = copies(&project);
    let address = shared(&project, "api");
    assert!(alone[0].2 != u64::from(address), "{alone:?}, shared {address}");
    let load = Load::begin(address, 2, "/");
    load.answered(10);
    project.run(&["scale", "api=2"]).code(0);
    assert_eq!(names(&project), ["api", "api.2"]);
    assert_eq!(copies(&project)[0], alone[0]);
    eventually("both answer on one port", PATIENCE, || (load.so_far().names().len() == 2).then_some(()));
    project.run(&["scale", "api=1"]).code(0);
    let tally = load.end();
    assert_eq!(tally.failed, Vec::<String>::new(), "of {}", tally.good);
    project.run(&["down"]).code(0);
    project.nothing_left();
}

/// `scale` starts new copies of what runs only, and says what does not.
#[test]
fn copies_that_are_not_running_are_named() {
    let other = "[services.other]\nrun = \"{svc:other}\"";
    let project = project("", &format!("{HTTP}\n{other}"));
    project.run(&["up", "-d", "other"]).code(0);
    let scale = |what: &str| project.run(&["scale", what]).code(0).says_not("nothing to do");
    scale("api=3").says("api has 3 copies and is not running (devrun start api)");
    assert_eq!(names(&project), [""; 0]);
    scale("api=1").says("api has 1 copy and is not running (devrun start api)\n");
    project.run(&["start", "api"]).code(0);
    assert_eq!(names(&project), ["api"]);
    scale("api=3").says("started api.2 and api.3\n");
    project.run(&["stop", "api.2"]).code(0);
    scale("api=3").says("api.2 is not running (devrun start api)\n");
    scale("api=4").says("started api.4; api.2 is not running (devrun start api)\n");
    project.run(&["stop", "api"]).code(0);
    scale("api=2").says("api has 2 copies and is not running (devrun start api)");
    project.run(&["start", "api"]).code(0);
    assert_eq!(names(&project), ["api", "api.2"]);
    project.run(&["down"]).code(0);
    project.nothing_left();
}

/// Next to a copy that was started alone the others have ports of their own, which are named; the note tells what gives them one address.
#[test]
fn copies_that_share_no_address_are_named_with_their_ports() {
    let project = project("", HTTP);
    project.run(&["up", "-d"]).code(0);
    for command in [&["scale", "api=2"][..], &["up", "-d", "--scale", "api=3"]] {
        let run = project.run(command).code(0).says("note: nothing balances between api and the ports of api.");
        let (name, _, port) = copies(&project).pop().expect("a copy");
        run.says(&format!("of {name} (port {port}); for one address of all copies set `replicas = 1` in [services.api]"));
    }
    project.run(&["scale", "api="]).code(0).says_not("note:");
    project.rewrite(&api("replicas = 1", HTTP));
    project.run(&["up", "-d"]).code(0).says_not("note:");
    project.run(&["scale", "api=2"]).code(0).says("started api.2\n").says_not("note:");
    let address = shared(&project, "api");
    assert!(copies(&project).iter().all(|(_, _, port)| *port != u64::from(address)));
    project.run(&["down"]).code(0);
    project.nothing_left();
}

/// A copy that was started alone keeps its name and its port; what it is behind a gateway is balanced with the others.
#[test]
fn a_copy_that_was_started_alone_is_not_touched() {
    let front = "[services.front]\nuse = \"gateway\"\nport = \"auto\"\nroutes = { \"/\" = \"api\" }";
    let project = project("", &format!("{HTTP}\n{front}"));
    project.run(&["up", "-d"]).code(0);
    let alone = copies(&project);
    let port = u16::try_from(project.service("front")["ports"]["main"].as_u64().expect("its port")).expect("a port");
    let load = Load::begin(port, 4, "/");
    load.answered(20);
    project.run(&["scale", "api=3"]).code(0).says("started api.2 and api.3").says_not("nothing balances");
    assert_eq!(names(&project), ["api", "api.2", "api.3"]);
    assert_eq!(copies(&project)[0], alone[0]);
    project.run(&["scale", "api=3"]).code(0).says("nothing to do: api has 3 copies");
    eventually("all three answer", PATIENCE, || (load.so_far().names().len() == 3).then_some(()));
    project.run(&["scale", "api=1"]).code(0).says("stopped api.2 and api.3").says_not("nothing to do");
    eventually("the others are gone", PATIENCE, || (names(&project) == ["api"]).then_some(()));
    project.run(&["scale", "api=1"]).code(0).says("nothing to do: api has 1 copy\n");
    let tally = load.end();
    assert_eq!(tally.failed, Vec::<String>::new(), "of {}", tally.good);
    project.run(&["down"]).code(0);
    project.nothing_left();
}

#[test]
fn copies_that_listen_share_the_socket() {
    let project = project("replicas = 2", "listen = true");
    project.run(&["up", "-d"]).code(0);
    let all = copies(&project);
    assert_eq!(all[0].2, all[1].2);
    let load = Load::begin(u16::try_from(all[0].2).expect("a port"), 4, "/slow");
    eventually("both answer", PATIENCE, || (load.so_far().names().len() == 2).then_some(()));
    project.run(&["restart", "api"]).code(0);
    let tally = load.end();
    assert_eq!(tally.failed, Vec::<String>::new(), "of {}", tally.good);
    project.run(&["down"]).code(0);
    project.nothing_left();
}

#[test]
fn what_cannot_be_scaled_is_refused() {
    let project = project("", "[services.db]\nrun = \"{svc:db}\"\ndata = \"rows\"\n[tasks.once]\nrun = \"true\"");
    project.run(&["scale", "api=2"]).code(6);
    project.run(&["up", "-d"]).code(0);
    project.run(&["scale", "web=2"]).code(2).says("web");
    project.run(&["scale", "once=2"]).code(2).says("once");
    project.run(&["scale", "db=2"]).code(2).says("keeps data");
    project.run(&["scale", "api=0"]).code(2).says("devrun stop api");
    assert_eq!(names(&project), ["api"]);
    // A refused one is not remembered.
    project.run(&["up", "-d"]).code(0);
    project.run(&["down"]).code(0);
    project.nothing_left();
}

#[test]
fn a_scale_that_is_refused_while_the_stack_stops_is_not_remembered() {
    let project = Project::new().procfile(
        r#"
        [services.slow]
        run = "{svc:slow} --ignore-term"
        stop = { grace = "3s" }
        port = "auto"
        ready = false
        "#,
    );
    project.run(&["up", "-d"]).code(0);
    let down = project.start(&["down"]);
    project.wait_state("slow", "stopping");
    assert_ne!(project.run(&["scale", "slow=2"]).code, Some(0));
    down.outcome().code(0);
    project.run(&["up", "-d"]).code(0);
    assert_eq!(project.ps()["services"].as_array().map(Vec::len), Some(1));
    project.run(&["down"]).code(0);
    project.nothing_left();
}

/// Shows: service.update, update.parallel, update.pause.
#[test]
fn an_update_takes_so_many_copies_at_a_time_and_pauses() {
    let project = project("replicas = 3", &format!("{HTTP}\nupdate = {{ parallel = 2, pause = \"100ms\" }}"));
    project.run(&["up", "-d"]).code(0);
    let before = copies(&project);
    let mut restart = project.start(&["restart", "api"]);
    eventually("two are stopped together", PATIENCE, || {
        let events = project.run(&["events", "--json"]).json_lines();
        let stopping = |event: &&Value| event["service"] == "api" && event["to"] == "stopping";
        (events.iter().filter(stopping).count() >= 2).then_some(())
    });
    restart.close_stdout();
    restart.outcome().code(0);
    assert!(copies(&project).iter().zip(&before).all(|(new, old)| new.0 == old.0 && new.1 != old.1));
    project.run(&["config", "api"]).code(0).says("parallel = 2").says("pause = \"100ms\"");
    project.run(&["down"]).code(0);
    project.nothing_left();
}

/// A new version that does not come up ends the restart: the copies that were not replaced yet stay.
#[test]
fn a_version_that_does_not_come_up_keeps_the_others() {
    let project = project("replicas = 2", HTTP);
    project.run(&["up", "-d"]).code(0);
    let before = copies(&project);
    let load = Load::begin(shared(&project, "api.1"), 2, "/");
    load.answered(10);
    project.write("broken", "");
    project.run(&["restart", "api"]).code(1).says("kept the previous version of api.2");
    load.answered(20);
    assert_eq!(copies(&project), before[1..], "the second copy is the same process");
    let tally = load.end();
    assert_eq!(tally.failed, Vec::<String>::new(), "of {}", tally.good);
    std::fs::remove_file(project.path("broken")).expect("the file");
    project.run(&["restart", "api"]).code(0);
    assert_eq!(names(&project), ["api.1", "api.2"]);
    project.run(&["down"]).code(0);
    project.nothing_left();
}
