//! Terminals that show little: narrow ones, and those that take neither colours nor movements of the cursor (`TERM=dumb`).

use crate::harness::Project;

/// What a script wrote on a terminal between its own two marks, as lines.
fn shown(project: &Project, script: &str) -> Vec<String> {
    project.write("shown.sh", &format!("printf 'be%s\\n' gin\n{script}\nprintf 'fin%s\\n' ish\n"));
    let mut shell = project.shell_on_terminal();
    shell.send(b"sh shown.sh; exit\n");
    let outcome = shell.outcome();
    let (_, after) = outcome.stdout.split_once("begin\r\n").unwrap_or_else(|| panic!("it began\n{outcome}"));
    let (text, _) = after.split_once("finish").unwrap_or_else(|| panic!("it ended\n{outcome}"));
    text.lines().map(str::to_owned).collect()
}

#[test]
fn ps_fits_a_narrow_terminal_and_is_whole_in_a_pipe() {
    let project = Project::new().procfile(
        "[services.a-service-with-quite-a-long-name]\nrun = \"{svc:a} --listen $PORT\"\nport = \"auto\"\nready = { tcp = true }\n\
         [services.b]\nrun = \"{svc:b}\"\n",
    );
    project.run(&["up", "-d"]).code(0);
    let script = |options: &str| format!("stty cols 72\nNO_COLOR=1 $DEVRUN ps {options}");
    let lines = shown(&project, &script(""));
    assert!(lines.len() == 3 && lines.iter().all(|line| line.chars().count() <= 72), "{lines:#?}");
    assert!(lines[0].starts_with("NAME") && !lines[0].contains("RESTARTS"), "{lines:#?}");
    assert!(lines[1].contains("a-service-with-quite-a-long-name") && lines[1].contains("running"), "{lines:#?}");
    let whole = project.run(&["ps"]).code(0).says("RESTARTS").says("UPTIME");
    assert!(shown(&project, &script("--no-trunc"))[0].contains("RESTARTS"));
    assert!(whole.stdout.lines().next().is_some_and(|head| head.ends_with("URL")), "{whole}");
    project.run(&["down"]).code(0);
}

#[test]
fn a_dumb_terminal_gets_no_colours_and_no_movements_of_the_cursor() {
    let project = Project::new().procfile("[services.a]\nrun = \"sh -c 'echo up; exec {svc:a}'\"\n");
    let lines = shown(
        &project,
        "export TERM=dumb\n$DEVRUN up -d\n$DEVRUN ps\n$DEVRUN logs\n$DEVRUN top\n$DEVRUN ui\n$DEVRUN why nothing\n$DEVRUN down",
    );
    let text = lines.join("\n");
    for part in ["ready in", "RESTARTS", "MEMORY", "TERM is dumb", "unknown service or task `nothing`"] {
        assert!(text.contains(part), "{part}\n{text}");
    }
    assert!(!text.contains('\u{1b}'), "{text:?}");
    project.nothing_left();
}
