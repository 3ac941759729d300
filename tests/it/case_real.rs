//! The cases that need real servers: Postgres and Redis beside a tree, daemons that fork away and one-time work, killed at
//! random moments (N05), and what a stop and a crash mean to a database (O12, O13, Q01).
//!
//! The rounds of N05 are few here and a hundred in `scripts/soak`. Moments come from a seed, which a failure names.

use std::fs;
use std::process::Command;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use crate::case_init::{half_made, postgres};
use crate::harness::{LONG, Outcome, PATIENCE, Project, Running, eventually, figures, is_root, rounds, signal, skipped};
use crate::services::installed;
use crate::waits::{let_time_pass, within};

trials![
    n05_a_real_stack_survives_kills_of_its_supervisor,
    n05_a_real_stack_survives_kills_of_both,
    n05_a_real_stack_survives_kills_of_its_keeper,
    o12_an_open_transaction_does_not_hold_up_the_stop,
    o13_a_killed_supervisor_costs_no_data_and_leaves_no_server,
    q01_as_root_below_a_private_home
];

/// Postgres, Redis, a process tree, two daemons that fork away (one without descriptors, one without environment) and a
/// one-time task between them.
const STACK: &str = r#"
[defaults]
stop = { grace = "5s" }
[volumes]
work = { class = "persistent" }
[services.db]
use = "postgres"
port = "auto"
init = ["10.sql"]
ready = { sql = "select count(*) from marks" }
[services.cache]
use = "redis"
port = "auto"
[services.tree]
run = "{svc:tree} --children 4"
depends_on = ["cache"]
[services.daemon]
run = "{svc:daemon} --setsid-escape --close-fds"
[services.other]
run = "{svc:other} --setsid-escape --clobber-env"
[tasks.seed]
run = "sh -c 'sleep 0.1; echo ran >> seeds'"
once = "work/.seeded"
idempotent = true
depends_on = ["db"]
[services.last]
run = "{svc:last}"
depends_on = ["seed"]
"#;

/// How many live processes each service has once all is up.
const COUNTS: [(&str, usize); 4] = [("tree", 5), ("daemon", 2), ("other", 2), ("last", 1)];

fn redis() -> bool {
    installed("redis-server")
}

fn stack() -> Project {
    let project = Project::new().procfile(STACK);
    project.write("10.sql", "create table marks (id int); insert into marks values (1);\n");
    project
}

#[track_caller]
fn run(project: &Project, args: &[&str]) -> Outcome {
    project.start(args).outcome_within(LONG)
}

/// Who is killed.
#[derive(Clone, Copy, PartialEq)]
enum Victim {
    Supervisor,
    Keeper,
    Both,
}

/// Kills them; how many were hit.
fn kill_ours(project: &Project, attached: Option<&Running>, victim: Victim) -> usize {
    let mut supervisors = project.supervisors();
    supervisors.extend(attached.map(Running::pid));
    if victim == Victim::Both {
        // A stopped supervisor starts no new keeper, and a dead keeper stops no service.
        supervisors.iter().for_each(|pid| signal(*pid, Signal::SIGSTOP));
    }
    let keepers = if victim == Victim::Supervisor { Vec::new() } else { project.keepers() };
    keepers.iter().for_each(|keeper| signal(keeper.pid, Signal::SIGKILL));
    if victim == Victim::Keeper {
        return keepers.len();
    }
    supervisors.iter().for_each(|pid| signal(*pid, Signal::SIGKILL));
    supervisors.len()
}

/// One round after the other: a start, a kill at a random moment of start, run or stop, a look at what is left, and a clean
/// `up` and `down`.
fn killed_at_random(victim: Victim, short: u64) {
    if !postgres() || !redis() {
        return skipped("no Postgres or no Redis is installed");
    }
    let project = stack();
    // What a whole first start takes here, so that the moments are spread over all of it.
    let begun = Instant::now();
    run(&project, &["up", "-d"]).code(0);
    let first = begun.elapsed();
    run(&project, &["down"]).code(0);
    project.nothing_left();
    let mut seed = 0x9e37_79b9_7f4a_7c15_u64 ^ victim as u64;
    let mut random = |most: Duration| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        most.mul_f64(f64::from(u32::try_from(seed >> 33).unwrap_or(0)) / f64::from(u32::MAX >> 1))
    };
    let (mut starting, mut steady, mut stopping, mut missed, mut worst) = (0, 0, 0, 0, Duration::ZERO);
    let all = rounds(short);
    for round in 0..all {
        // Every other round begins with an empty disk, so that first boots are hit too.
        if round % 2 == 0 {
            let _absent = fs::remove_dir_all(project.path(".devrun/data"));
        }
        // Every fifth start stays in the foreground, where the client itself is the supervisor.
        let attached = round % 5 == 4;
        let up = project.start(if attached { &["up"][..] } else { &["up", "-d"] });
        let mut down = None;
        let_time_pass("the moment of the kill is what is varied", random(first.mul_f64(1.2)));
        if round % 4 == 3 && !attached {
            // Hit in the stop instead.
            let _whole = within(LONG, || (!project.alive("last").is_empty()).then_some(()));
            down = Some(project.start(&["down"]));
            let_time_pass("the moment of the kill is what is varied", random(Duration::from_millis(400)));
        }
        // A start that has no supervisor yet is hit as soon as it has one; a stop may be over before it is hit.
        if down.is_none() && !attached {
            let _supervised = within(Duration::from_secs(2), || (!project.supervisors().is_empty()).then_some(()));
        }
        let whole = !project.alive("last").is_empty();
        let hit = kill_ours(&project, attached.then_some(&up), victim);
        let killed = Instant::now();
        match (hit, down.is_some(), whole) {
            (0, ..) => missed += 1,
            (_, true, _) => stopping += 1,
            (_, _, true) => steady += 1,
            _ => starting += 1,
        }
        if attached && victim == Victim::Keeper {
            // Its stack goes on without one, so somebody has to end it.
            up.signal(Signal::SIGTERM);
        }
        drop(up.outcome_within(LONG));
        drop(down.map(|down| down.outcome_within(LONG)));
        match victim {
            Victim::Both => {
                let emergency = run(&project, &["down", "--emergency"]);
                assert!(matches!(emergency.code, Some(0 | 6)), "round {round}: {emergency}");
                project.nothing_left();
            }
            Victim::Keeper => {
                let down = run(&project, &["down"]);
                assert!(matches!(down.code, Some(0 | 6)), "round {round}: {down}");
                project.nothing_left();
            }
            // The longest grace is that of the Postgres recipe, which ends long before.
            Victim::Supervisor if hit > 0 => project.nothing_left_within(Duration::from_secs(30)),
            Victim::Supervisor => {}
        }
        worst = worst.max(killed.elapsed());
        let next = run(&project, &["up", "-d"]);
        assert_eq!(next.code, Some(0), "round {round}: {next}");
        assert_eq!(half_made(&project), Vec::<String>::new(), "round {round}");
        for (name, count) in COUNTS {
            eventually(name, PATIENCE, || (project.alive(name).len() == count).then_some(()));
        }
        run(&project, &["down"]).code(0);
        project.nothing_left();
    }
    figures(&format!(
        "{all} rounds: {starting} starting, {steady} steady, {stopping} stopping, {missed} before or after; 0 orphans, 0 half-made, gone within {:.1} s",
        worst.as_secs_f64()
    ));
}

fn n05_a_real_stack_survives_kills_of_its_supervisor() {
    killed_at_random(Victim::Supervisor, 4);
}

fn n05_a_real_stack_survives_kills_of_both() {
    killed_at_random(Victim::Both, 4);
}

fn n05_a_real_stack_survives_kills_of_its_keeper() {
    killed_at_random(Victim::Keeper, 4);
}

/// A database that a client can reach from outside.
fn database() -> Project {
    let project = Project::new().procfile(
        "[services.db]\nuse = \"postgres\"\nport = \"auto\"\nuser = \"app\"\npassword = \"pass\"\ndatabase = \"app\"\ninit = [\"10.sql\"]\n[services.cache]\nuse = \"redis\"\nport = \"auto\"\n",
    );
    project.write("10.sql", "create table marks (id int); insert into marks values (1);\n");
    project
}

/// `psql` at the database, one answer.
fn psql(project: &Project, sql: &str) -> Command {
    let port = &project.service("db")["ports"]["main"];
    let mut command = Command::new("psql");
    command.args(["-X", "-A", "-t", "-c", sql, &format!("postgres://app:pass@127.0.0.1:{port}/app")]);
    command
}

fn answer(project: &Project, sql: &str) -> String {
    let output = psql(project, sql).output().expect("psql runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

fn with_psql() -> bool {
    postgres() && redis() && Command::new("psql").arg("--version").output().is_ok_and(|done| done.status.success())
}

fn o12_an_open_transaction_does_not_hold_up_the_stop() {
    if !with_psql() {
        return skipped("no Postgres, no psql or no Redis is installed");
    }
    let project = database();
    run(&project, &["up", "-d"]).code(0);
    let mut client = psql(&project, "begin; insert into marks values (2); select pg_sleep(1000)");
    let mut client = client.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null()).spawn().expect("psql runs");
    eventually("the transaction is open", PATIENCE, || {
        let open = "select count(*) from pg_stat_activity where query like '%pg_sleep%' and pid <> pg_backend_pid()";
        (answer(&project, open) == "1").then_some(())
    });
    let down = run(&project, &["down"]).code(0);
    client.wait().expect("our own child");
    project.nothing_left();
    // 3 s on a quiet machine; the smart shutdown that this must not be would take 1000.
    assert!(down.took < Duration::from_secs(60), "{down}");
    run(&project, &["up", "-d"]).code(0);
    project.run(&["logs", "db"]).code(0).says_not("was not properly shut down");
    assert_eq!(answer(&project, "select count(*) from marks"), "1", "the open transaction was rolled back");
    run(&project, &["down"]).code(0);
    project.nothing_left();
}

fn o13_a_killed_supervisor_costs_no_data_and_leaves_no_server() {
    if !with_psql() {
        return skipped("no Postgres, no psql or no Redis is installed");
    }
    let project = database();
    run(&project, &["up", "-d"]).code(0);
    answer(&project, "insert into marks values (2)");
    signal(project.supervisor(), Signal::SIGKILL);
    project.nothing_left_within(Duration::from_secs(15));
    run(&project, &["up", "-d"]).code(0);
    project.run(&["logs", "db"]).code(0).says_not("was not properly shut down");
    assert_eq!(answer(&project, "select count(*) from marks"), "2", "data is intact");
    run(&project, &["down"]).code(0);
    project.nothing_left();
}

fn q01_as_root_below_a_private_home() {
    use std::os::unix::fs::{MetadataExt, PermissionsExt};
    if !is_root() {
        return skipped("only root can run Postgres as another user");
    }
    if !postgres() {
        return skipped("no Postgres is installed");
    }
    let text = "[services.db]\nuse = \"postgres\"\nport = \"auto\"\ninit = [\"10.sql\"]\nready = { sql = \"select count(*) from marks\" }\n";
    let project = Project::new().procfile(text);
    fs::set_permissions(project.root(), fs::Permissions::from_mode(0o700)).expect("our own folder");
    project.write("10.sql", "create table marks (id int); insert into marks values (1);\n");
    for _ in 0..2 {
        // The probe asks the table, so the second start proves that the data is there.
        run(&project, &["up", "-d"]).code(0);
        let pid = project.service("db")["pid"].as_i64().expect("a pid");
        let map = fs::read_to_string(format!("/proc/{pid}/uid_map")).expect("it lives");
        let inside = map.split_whitespace().next().map(ToOwned::to_owned);
        let owner = fs::metadata(project.path(".devrun/data/db/postgres")).expect("it was made").uid();
        assert!(inside.as_deref() != Some("0"), "not root inside its namespace: {map}");
        assert_eq!(owner, 0, "files stay root's");
        run(&project, &["down"]).code(0);
        project.nothing_left();
    }
    let forbidden = Project::new().procfile(text).env("DEVRUN_NO_USERNS", "1");
    forbidden.write("10.sql", "create table marks (id int);\n");
    fs::set_permissions(forbidden.root(), fs::Permissions::from_mode(0o700)).expect("our own folder");
    let up = run(&forbidden, &["up", "-d"]).code(2);
    assert!(up.stderr.contains(&forbidden.root().display().to_string()), "names the folder\n{up}");
    forbidden.nothing_left_within(PATIENCE);
}
