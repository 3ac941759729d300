//! Secrets that a `git add` would commit are said before they are in the repository.

use crate::harness::Project;

fn git(project: &Project, script: &str) {
    let status = std::process::Command::new("sh").args(["-c", script]).current_dir(project.dir()).status();
    assert!(status.expect("sh runs").success(), "{script}");
}

#[test]
fn secrets_that_git_does_not_ignore_are_said_by_check_and_doctor() {
    let text = "[project]\nenv_file = [\".env\"]\n[config]\nkeys = \"secrets/api\"\noutput = \".env.generated\"\n\
                [services.a]\nrun = \"{svc:a}\"\n";
    let project = Project::new().procfile(text);
    project.write(".env", "A=1\n");
    project.write(".env.example", "A=\n");
    project.write("secrets/api/OPENAI_KEY", "x");
    project.run(&["check"]).code(0).says_not("git does not ignore");

    git(&project, "git init -q .");
    let all = ".env, .env.generated, secrets/api/OPENAI_KEY";
    let lines = "add to .gitignore: .env .env.generated secrets/api/";
    for command in ["check", "doctor"] {
        let said = project.run(&[command]);
        assert!(said.to_string().contains(&format!("git does not ignore {all}")) && said.to_string().contains(lines), "{said}");
    }
    // A directory of the repository that lies above the project ignores for it as well.
    project.write(".gitignore", ".env\n.env.*\n");
    project.run(&["check"]).code(0).says("git does not ignore secrets/api/OPENAI_KEY:").says_not(".env.generated");
    project.write(".gitignore", ".env\n.env.*\nsecrets/api/\n");
    project.run(&["check"]).code(0).says_not("git does not ignore");
    project.run(&["doctor"]).says("git tracks none and ignores all");
    // What is tracked already is another matter, and said so.
    git(&project, "git add -f .env");
    project.run(&["doctor"]).says("git tracks .env").says_not("git does not ignore");
}

#[test]
fn files_of_secrets_are_named_too() {
    let text = "[secrets]\nfiles = { pw = \"./secrets/pg_pw\", far = \"/etc/hostname\" }\n[services.a]\nrun = \"{svc:a}\"\nenv = { PW = \"${secret.pw}\" }\n";
    let project = Project::new().procfile(text);
    project.write("secrets/pg_pw", "x");
    git(&project, "git init -q .");
    for command in ["check", "doctor"] {
        let said = project.run(&[command]);
        assert!(said.to_string().contains("git does not ignore secrets/pg_pw"), "{said}");
    }
    git(&project, "git add -f secrets/pg_pw");
    project.run(&["doctor"]).says("git tracks secrets/pg_pw");
}
