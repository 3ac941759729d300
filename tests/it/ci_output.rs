//! What a GitHub runner is given next to the log: annotations and the summary of the step.

use crate::harness::Project;

fn on_github() -> Project {
    let project = Project::new();
    let summary = project.path("summary.md").display().to_string();
    project.env("GITHUB_ACTIONS", "true").env("GITHUB_STEP_SUMMARY", &summary)
}

#[test]
fn an_error_of_the_procfile_is_marked_at_its_line() {
    let project = on_github().procfile("[services.a]\nrun = \"true\"\nprot = 80\n");
    let outcome = project.run(&["check"]).code(2);
    assert!(
        outcome.stderr.lines().any(|line| line.starts_with("::error file=procfile.toml,line=3,col=1,title=devrun::")),
        "{}",
        outcome.stderr
    );
    assert!(!outcome.stdout.contains("::error"), "standard output is data");
}

#[test]
fn a_failed_service_is_named_and_the_summary_has_its_log() {
    let project = on_github()
        .procfile("[services.a]\nrun = \"sh -c 'echo last; exit 3'\"\nrestart = \"no\"\n[services.b]\nrun = \"{svc:b}\"\n");
    let outcome = project.run(&["up", "-d"]).code(1);
    assert!(outcome.stderr.lines().any(|line| line.starts_with("::error title=a failed::")), "{}", outcome.stderr);
    let summary = project.read("summary.md");
    assert!(summary.contains("| a | failed |"), "{summary}");
    assert!(summary.contains("| b | running |"), "{summary}");
    assert!(summary.contains("**a** failed") && summary.contains("last\n```"), "{summary}");
    project.run(&["down"]).code(0);
}

#[test]
fn elsewhere_nothing_of_it_is_written() {
    let project = Project::new().procfile("[services.a]\nrun = \"true\"\nprot = 80\n");
    project.run(&["check"]).code(2).says_not("::error");
}
