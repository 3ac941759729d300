//! `export systemd`: the demo and the five stacks with their applications, as running units of a real user manager. Their order is
//! that of `graph`, a service that is killed is back, and `stop` leaves nothing.
//!
//! Those whose programs are built first, or whose packages take a minute, are part of the long run only:
//! `DEVRUN_SOAK_ROUNDS=1 cargo test --test real -- export_systemd_stacks`.

use crate::applications::{Checkout, checkout};
use crate::harness::{Project, long, skipped};
use crate::systemd_manager::{Times, under_a_user_manager, units};

trials![
    the_demo_runs_as_units,
    s0_an_api_over_all_stores,
    s1_django_and_vite_behind_one_port,
    s2_ten_services_in_seven_tiers,
    s3_a_website_and_what_watches_it,
    s4_workers_that_share_a_queue,
];

/// `$NAME` is the project, `$KILLED` the units whose processes are killed. Prints the state of each unit after the start, and the
/// names of those that are not what they should be after the kills.
const STACK: &str = r#"
PATIENCE=3000
target=devrun-$NAME.target
verify "$1"/devrun-$NAME.*
systemctl --user start $target && echo started
for unit in $(units $NAME); do echo "unit $unit $(show "$unit" ActiveState) $(show "$unit" Result)"; done
times $NAME
for unit in $KILLED; do
  before=$(show "$unit" MainPID)
  # 0 would be this process group.
  [ "$before" -gt 1 ] && kill -9 "$before"
  until_true '[ "$(systemctl --user is-active "$unit")" = active ] && [ "$(show "$unit" MainPID)" != "$before" ]' && echo "back $unit"
done
systemctl --user stop $target && echo stopped
until_true '[ -z "$(systemctl --user list-units --plain --no-legend "devrun-$NAME*")" ]'
until_true '[ -z "$(processes)" ]' && echo nothing-left
"#;

/// Starts the stack as units and looks at it. `absent`: optional ones that this machine may lack; `killed`: services that are killed,
/// a copy by `NAME@1`. Returns what was seen of the start, `None` where no manager can run.
fn runs(project: &Project, flags: &[&str], name: &str, absent: &[&str], killed: &[&str]) -> Option<Times> {
    let with = |words: &[&str]| flags.iter().chain(words).map(|word| (*word).to_owned()).collect::<Vec<String>>();
    let run = |words: &[&str]| project.run(&with(words).iter().map(String::as_str).collect::<Vec<_>>()).code(0);
    run(&["export", "systemd", "-o", &units(project).display().to_string()])
        .says(&format!("install: systemctl --user enable --now devrun-{name}.target"));
    let unit = |service: &&str| format!("devrun-{name}.{service}.service");
    let all = killed.iter().map(unit).collect::<Vec<_>>().join(" ");
    let script = format!("cd {}\nNAME={name}\nKILLED=\"{all}\"\n{STACK}", project.dir().display());
    let token = format!("{name}-{}", std::process::id());
    let (lines, log) = match under_a_user_manager(project, &token, &script) {
        Ok(ran) => ran,
        Err(why) => {
            skipped(&why);
            return None;
        }
    };
    let (states, said): (Vec<&String>, Vec<&String>) =
        lines.iter().filter(|line| !line.starts_with("time ")).partition(|line| line.starts_with("unit "));
    let mut expected = vec!["verified".to_owned(), "started".to_owned()];
    expected.extend(killed.iter().map(|service| format!("back {}", unit(service))));
    expected.extend(["stopped", "nothing-left"].map(str::to_owned));
    assert_eq!(said.into_iter().cloned().collect::<Vec<_>>(), expected, "{states:#?}\n{log}");
    let mut left_out = Vec::new();
    for line in &states {
        let words: Vec<&str> = line.split(' ').collect();
        match words.as_slice() {
            ["unit", _, "active", _] => {}
            ["unit", unit, "inactive", "exec-condition"] => left_out.push(unit.trim_start_matches(&format!("devrun-{name}."))),
            _ => panic!("{line}\n{states:#?}\n{log}"),
        }
    }
    assert!(left_out.iter().all(|unit| absent.iter().any(|name| *unit == format!("{name}.service"))), "{left_out:?}\n{log}");
    let left_out: Vec<&str> = left_out.iter().map(|unit| unit.trim_end_matches(".service")).collect();
    let graph = run(&["graph", "--format", "json"]).json();
    let times = Times::of(name, &lines);
    assert!(times.follow(&graph, &left_out) > 0, "{graph:#}");
    project.nothing_left();
    Some(times)
}

fn stack_runs(stack: &Checkout, name: &str, absent: &[&str], killed: &[&str]) -> Option<Times> {
    runs(&stack.project, &stack.files, name, absent, killed)
}

fn is_long() -> bool {
    if !long() {
        skipped("part of the long run: DEVRUN_SOAK_ROUNDS=1 cargo test --test real -- export_systemd_stacks");
    }
    long()
}

/// Shows: export.
fn the_demo_runs_as_units() {
    if crate::demo::servers() {
        // Its stores have no `restart`: what is killed of them stays down.
        runs(&crate::demo::shop(), &crate::demo::FILES, "shop", &[], &["api", "frontend"]);
    }
}

fn s0_an_api_over_all_stores() {
    if !is_long() {
        return;
    }
    let Some(mut stack) = checkout("s0", &["python3", "curl"], &["postgres@16", "redis"]) else { return };
    crate::applications::without_neo4j(&mut stack);
    stack_runs(&stack, "an-app", &["neo4j", "minio", "qdrant", "ollama"], &["api", "redis"]);
    // The template's file is written for units as well.
    assert!(stack.project.read(".env.generated").contains("DATABASE_URL=postgres"));
}

fn s1_django_and_vite_behind_one_port() {
    if !is_long() {
        return;
    }
    let Some(stack) = checkout("s1", &["python3", "npm", "node", "curl"], &["postgres@16", "redis"]) else { return };
    stack.run(&["up", "-d", "--build"]).code(0);
    stack.down(&[]);
    stack_runs(&stack, "app", &[], &["backend", "proxy"]);
}

fn s2_ten_services_in_seven_tiers() {
    if !is_long() {
        return;
    }
    let Some(stack) = checkout("s2", &["python3", "npm", "node", "curl"], &["postgres@16", "redis"]) else { return };
    stack.run(&["build"]).code(0);
    let Some(times) = stack_runs(&stack, "pyairtable", &[], &["saga-orchestrator"]) else { return };
    let graph = stack.run(&["graph", "--format", "json"]).code(0).json();
    let nodes = graph["nodes"].as_array().expect("nodes");
    let of = |tier: u64| nodes.iter().filter(move |node| node["tier"] == tier).filter_map(|node| node["name"].as_str());
    for tier in 2..=7 {
        for (then, first) in of(tier).flat_map(|then| of(tier - 1).map(move |first| (then, first))) {
            times.is_before(first, then);
        }
    }
}

fn s3_a_website_and_what_watches_it() {
    if !is_long() {
        return;
    }
    let recipes = ["postgres@16", "caddy", "prometheus", "blackbox_exporter", "node_exporter"];
    let Some(mut stack) = checkout("s3", &["python3", "curl"], &recipes) else { return };
    crate::applications::website(&stack);
    stack.files.extend(["--profile", "observability", "--profile", "gateway"]);
    let absent = ["meilisearch", "minio", "grafana", "loki", "promtail"];
    stack_runs(&stack, "pretamane", &absent, &["fastapi-app", "edge"]);
}

/// Four workers and two copies of the API behind the gateway.
fn s4_workers_that_share_a_queue() {
    let Some(mut stack) = checkout("s4", &["python3", "curl"], &["postgres@16", "redis"]) else { return };
    stack.files.extend(["--mode", "prod"]);
    stack_runs(&stack, "ordinaut", &[], &["worker@2", "api@1", "redis"]);
}
