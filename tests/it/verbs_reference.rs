//! What the program says about itself.

use crate::harness::Project;

/// Shows: completions.
#[test]
fn completions_for_every_shell_name_the_verbs() {
    let project = Project::new();
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let out = project.run(&["completions", shell]).code(0);
        assert!(out.stdout.contains("restart") && !out.stdout.contains("__keeper"), "{shell}");
    }
    project.run(&["completions", "tcsh"]).code(2);
    let bash = project.run_in_shell("\"$0\" completions bash > c && bash -n c").code(0);
    assert_eq!(bash.stderr, "");
}

/// Shows: man, man --dir.
#[test]
fn man_pages_for_every_verb() {
    let project = Project::new();
    assert!(project.run(&["man"]).code(0).stdout.contains(".TH devrun 1"));
    project.run(&["man", "--dir", "pages"]).code(0);
    for name in ["devrun.1", "devrun-up.1", "devrun-exec.1"] {
        assert!(project.read(&format!("pages/{name}")).contains(".TH"), "{name}");
    }
}

/// Shows: schema.
#[test]
fn schema_knows_every_key_of_a_procfile() {
    let project = Project::new();
    let schema = project.run(&["schema"]).code(0).json();
    let service = &schema["definitions"]["service"]["properties"];
    for key in ["run", "use", "port", "depends_on", "ready", "stop", "replicas"] {
        assert!(service[key].is_object(), "{key}");
    }
    assert_eq!(schema["additionalProperties"], false);
    assert_eq!(schema["definitions"]["stop"]["additionalProperties"], false);
    // Every reference leads somewhere.
    let text = schema.to_string();
    for part in text.split("\"#/definitions/").skip(1) {
        let name = part.split('"').next().unwrap_or_default();
        assert!(schema["definitions"][name].is_object(), "{name}");
    }
}

#[test]
fn a_command_that_does_not_exist_is_refused() {
    let project = Project::new();
    project.run(&["nonsense"]).code(2).says("unknown command `nonsense`");
}
