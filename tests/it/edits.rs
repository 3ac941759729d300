//! Editing one key of a stack that runs: `up --plan` says what `up` then does, and why, and nothing else is touched.

use std::collections::BTreeMap;

use crate::harness::Project;
use crate::test_ports;

const STACK: &str = r#"
    [secrets]
    generate = ["token"]
    [env]
    TZ = "UTC"
    [services.db]
    run = "{svc:db} --listen $PORT"
    port = "auto"
    ready = { tcp = true }
    [services.api]
    run = "{svc:api}"
    depends_on = { db = { restart = true } }
    env = { LEVEL = "info", TOKEN = "${secret.token}" }
    [services.worker]
    run = "{svc:worker}"
    depends_on = ["db"]
    env = { DB_PORT = "${db.port}" }
    [services.lonely]
    run = "{svc:lonely}"
    [tasks.once]
    run = "true"
"#;

fn pids(project: &Project) -> BTreeMap<String, i64> {
    let ps = project.ps();
    let services = ps["services"].as_array().cloned().unwrap_or_default();
    services.iter().filter_map(|one| Some((one["name"].as_str()?.to_owned(), one["pid"].as_i64()?))).collect()
}

/// What `--plan` says: service → word and why.
fn planned(project: &Project) -> BTreeMap<String, (String, String)> {
    let said = project.run(&["up", "--plan"]).code(0);
    let rows = said.stdout.lines().skip(1).filter_map(|line| {
        let mut words = line.split_whitespace();
        let (word, name) = (words.next()?.to_owned(), words.next()?.to_owned());
        Some((name, (word, words.collect::<Vec<_>>().join(" "))))
    });
    rows.collect()
}

/// Applies an edit; checks that the plan had named exactly the services that were then restarted, started and stopped.
#[track_caller]
fn edit(project: &Project, text: &str, expected: &[(&str, &str, &str)]) {
    project.rewrite(text);
    let plan = planned(project);
    let rows: Vec<(&str, &str)> =
        plan.iter().filter(|(_, (word, _))| word != "keep").map(|(name, (word, _))| (name.as_str(), word.as_str())).collect();
    let wanted: Vec<(&str, &str)> = expected.iter().map(|(name, word, _)| (*name, *word)).collect();
    assert_eq!(rows, wanted, "{plan:#?}");
    for (name, _, why) in expected {
        assert!(plan[*name].1.contains(why), "{name}: {why:?} in {:?}", plan[*name].1);
    }
    let before = pids(project);
    project.run(&["up", "-d"]).code(0);
    let after = pids(project);
    for name in before.keys().chain(after.keys()) {
        let word = plan.get(name).map_or("keep", |(word, _)| word.as_str());
        match word {
            "keep" => assert_eq!(before.get(name), after.get(name), "{name} was to be left alone"),
            "restart" => assert!(after.contains_key(name) && before.get(name) != after.get(name), "{name} was to be restarted"),
            "start" => assert!(!before.contains_key(name) && after.contains_key(name), "{name} was to be started"),
            _ => assert!(!after.contains_key(name), "{name} was to be stopped"),
        }
    }
    // Once it is done, nothing is left to do.
    assert!(planned(project).values().all(|(word, _)| word == "keep"), "{:#?}", planned(project));
}

#[test]
fn one_edit_restarts_one_service_and_the_plan_had_said_so() {
    let project = Project::new().procfile(STACK);
    assert!(planned(&project).values().all(|(word, _)| word == "start"), "{:#?}", planned(&project));
    project.run(&["up", "-d"]).code(0);
    assert!(planned(&project).values().all(|(word, _)| word == "keep"), "{:#?}", planned(&project));

    let mut text = STACK.replace("LEVEL = \"info\"", "LEVEL = \"debug\"");
    edit(&project, &text, &[("api", "restart", "changed: env LEVEL")]);
    // What no process sees restarts nobody.
    text = text.replace("[services.lonely]", "[services.lonely]\n    description = \"alone\"");
    edit(&project, &text, &[]);
    text = text.replace("depends_on = [\"db\"]", "depends_on = [\"db\", \"once\"]");
    edit(&project, &text, &[]);
    // A policy counts for the process that runs; another grace, another definition.
    text = text.replace("run = \"{svc:lonely}\"", "run = \"{svc:lonely}\"\n    restart = \"always\"");
    edit(&project, &text, &[("lonely", "restart", "changed: restart")]);
    // A port moves its server, whoever has it in its environment, and whoever asked to be restarted with it.
    let port = test_ports::free_port();
    text = text.replace("port = \"auto\"", &format!("port = {port}"));
    edit(
        &project,
        &text,
        &[
            ("api", "restart", "what it needs"),
            ("db", "restart", &format!("→ {port}")),
            ("worker", "restart", "changed: env DB_PORT"),
        ],
    );
    // A service comes, another goes.
    text =
        format!("{}\n    [services.more]\n    run = \"{{svc:more}}\"\n", text.replace("[services.lonely]", "[services.other]"));
    edit(&project, &text, &[("lonely", "stop", "no longer in the procfile"), ("more", "start", ""), ("other", "start", "")]);
    assert!(project.alive("lonely").len() == 1, "the new service runs what the old one ran");
    // A shared variable is everybody's.
    let shared = text.replace("TZ = \"UTC\"", "TZ = \"CET\"");
    project.rewrite(&shared);
    let plan = planned(&project);
    assert!(["api", "db", "more", "other", "worker"].iter().all(|name| plan[*name].1.contains("env TZ")), "{plan:#?}");
    project.rewrite(&text);
    // A new value of a secret restarts who reads it; its text is told by no plan.
    std::fs::write(project.path("secrets/infra/token"), "another-value").expect("our own file");
    project.run(&["up", "--plan"]).code(0).says("changed: env TOKEN").says_not("another-value");
    edit(&project, &text, &[("api", "restart", "changed: env TOKEN")]);
    // A command by another name.
    edit(&project, &text.replace("{svc:worker}", "{svc:worker} --children 1"), &[("worker", "restart", "changed: run")]);
    project.run(&["down"]).code(0);
    project.nothing_left();
}

#[test]
fn a_volume_that_lies_elsewhere_restarts_whoever_has_it() {
    let text = r#"
        [volumes.media]
        path = "first"
        [services.a]
        run = "{svc:a}"
        volumes = ["media"]
        [services.b]
        run = "{svc:b}"
        "#;
    let project = Project::new().procfile(text);
    project.run(&["up", "-d"]).code(0);
    edit(&project, &text.replace("\"first\"", "\"second\""), &[("a", "restart", "changed: directory of a volume")]);
    project.run(&["down"]).code(0);
    project.nothing_left();
}

#[test]
fn a_variable_of_the_shell_is_no_change_unless_the_procfile_names_it() {
    let project = Project::new()
        .procfile("[services.a]\nrun = \"{svc:a}\"\nenv = { LEVEL = \"${LEVEL:-info}\" }\n[services.b]\nrun = \"{svc:b}\"\n");
    project.run(&["up", "-d"]).code(0);
    project.run_in_shell("STRAY=1 \"$0\" up --plan").code(0).says_not("restart");
    let planned = project.run_in_shell("LEVEL=debug \"$0\" up --plan").code(0).says("env LEVEL");
    assert_eq!(planned.stdout.matches("restart").count(), 1, "{planned}");
    let before = pids(&project);
    project.run_in_shell("LEVEL=debug \"$0\" up -d").code(0);
    let after = pids(&project);
    assert!(before["a"] != after["a"] && before["b"] == after["b"]);
    project.run(&["down"]).code(0);
}
