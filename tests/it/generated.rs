//! `[config]`: the generated env file, what stands in it, whose it is, and who waits for a missing key.

use std::os::unix::fs::PermissionsExt as _;

use crate::harness::{Project, eventually};

const STACK: &str = r#"
    [project]
    name = "app"
    env_file = [".env"]
    [config]
    template = "secrets/env-template.txt"
    output = ".env.generated"
    keys = "secrets/api"
    [secrets]
    generate = ["db-password", "jwt-secret"]
    [services.db]
    run = "{svc:db} --listen $PORT"
    port = "auto"
    user = "app"
    password = "${secret.db-password}"
    ready = { tcp = true }
    [services.api]
    run = "sh -c 'env > api.env; exec {svc:api}'"
    env_file = [".env.generated"]
    [services.worker]
    run = "{svc:worker}"
    env = { LEVEL = "info" }
"#;

const TEMPLATE: &str = "# The only source.\n\n\
     export OPENAI_API_KEY=${OPENAI_API_KEY}\n\
     DB_PASSWORD=\"${db.password}\"   # from the cache\n\
     DB_ADDR=${db.addr}\n\
     DB_URL=${db.url}/${DB_NAME:-app}\n\
     JWT=${secret.jwt-secret}\n\
     GREETING='$NOT ${a} placeholder'\n\
     NAME=Application (Dev)\n";

fn stack() -> Project {
    let project = Project::new().procfile(STACK);
    project.write("secrets/env-template.txt", TEMPLATE);
    project.write("secrets/api/OPENAI_API_KEY", "sk-1 #\"'$x\n");
    project.write("secrets/api/README.md", "keys go here\n");
    project
}

fn mode(project: &Project, name: &str) -> u32 {
    std::fs::metadata(project.path(name)).expect("it is there").permissions().mode() & 0o777
}

/// The generated file by name, as any reader of env files would have it.
fn variable(project: &Project, name: &str) -> String {
    let env = project.run(&["env", "api", "--format", "json"]).code(0).json();
    env[name].as_str().unwrap_or_else(|| panic!("{name} in {env:#}")).to_owned()
}

/// Shows: file.config, config.template, config.output, config.keys.
#[test]
fn it_is_written_with_keys_secrets_and_addresses_and_never_differs_by_a_byte() {
    let project = stack();
    project.run(&["config", "write"]).code(0).says(".env.generated is written");
    let first = project.read(".env.generated");
    let password = project.read("secrets/infra/db-password");
    let port = project.run(&["env", "db", "--format", "json"]).code(0).json()["PORT"].as_str().expect("chosen").to_owned();
    for line in [
        "# The only source.\n\nexport OPENAI_API_KEY=",
        "OPENAI_API_KEY=\"sk-1 #\\\"'\\$x\"\n",
        &format!("DB_PASSWORD={password}\n"),
        &format!("DB_ADDR=127.0.0.1:{port}\n"),
        "GREETING='$NOT ${a} placeholder'\n",
        "NAME='Application (Dev)'\n",
    ] {
        assert!(first.contains(line), "{line:?} in\n{first}");
    }
    assert_eq!(mode(&project, ".env.generated"), 0o600);
    assert_eq!((mode(&project, "secrets/infra"), mode(&project, "secrets/infra/db-password")), (0o700, 0o600));
    let written = std::fs::metadata(project.path(".env.generated")).and_then(|meta| meta.modified()).expect("a time");
    project.run(&["config", "write"]).code(0).says("up to date");
    assert_eq!(project.read(".env.generated"), first);
    let again = std::fs::metadata(project.path(".env.generated")).and_then(|meta| meta.modified()).expect("a time");
    assert_eq!(written, again, "an unchanged file is not even touched");
    // The child has the very values, and `up` wrote the same bytes.
    project.run(&["up", "-d"]).code(0);
    assert_eq!(project.read(".env.generated"), first);
    let env = eventually("the child's environment", crate::harness::PATIENCE, || {
        Some(project.read("api.env")).filter(|text| text.contains("DEVRUN_SERVICE"))
    });
    for line in ["OPENAI_API_KEY=sk-1 #\"'$x\n", "GREETING=$NOT ${a} placeholder\n", "NAME=Application (Dev)\n"] {
        assert!(env.contains(line), "{line:?} in\n{env}");
    }
    assert_eq!(variable(&project, "JWT"), project.read("secrets/infra/jwt-secret"));
    // A template with another line is another file; nobody but its reader is restarted.
    project.write("secrets/env-template.txt", &format!("{TEMPLATE}MORE=1\n"));
    project.run(&["up", "--plan"]).code(0).says("restart").says("env MORE");
    let before = (project.service("api")["pid"].clone(), project.service("worker")["pid"].clone());
    project.run(&["up", "-d"]).code(0);
    assert!(project.read(".env.generated").contains("MORE=1\n"));
    assert_ne!(project.service("api")["pid"], before.0);
    assert_eq!(project.service("worker")["pid"], before.1);
    project.run(&["down"]).code(0);
    assert!(project.path(".env.generated").exists());
}

/// Shows: config.missing.
#[test]
fn a_missing_key_is_named_with_its_readers_and_blocks_only_those() {
    let project = stack();
    std::fs::remove_file(project.path("secrets/api/OPENAI_API_KEY")).expect("our own file");
    project
        .run(&["config", "write"])
        .code(0)
        .says("OPENAI_API_KEY has no value: api stays blocked; write it to secrets/api/OPENAI_API_KEY");
    assert!(project.read(".env.generated").contains("OPENAI_API_KEY=NEED-API-KEY\n"));
    let up = project.run(&["up", "-d"]).code(2).says("OPENAI_API_KEY has no value: api stays blocked");
    assert!(up.last_line().contains("api") && up.last_line().contains("OPENAI_API_KEY"), "{up}");
    assert_eq!(project.service("api")["state"], "blocked");
    assert!(project.service("api")["reason"].as_str().unwrap_or_default().contains("OPENAI_API_KEY"));
    assert_eq!(project.service("worker")["state"], "running");
    assert_eq!(project.service("db")["health"], "healthy");
    assert!(!project.path("api.env").exists(), "the reader was never started");
    // The key arrives: the next up starts its reader and leaves the rest alone.
    let worker = project.service("worker")["pid"].clone();
    project.write("secrets/api/OPENAI_API_KEY", "sk-2\n");
    project.write("secrets/api/NEWER_KEY", "n-1\n");
    project.run(&["up", "-d"]).code(0).says_not("has no value");
    assert_eq!(project.service("api")["state"], "running");
    assert_eq!(project.service("worker")["pid"], worker);
    assert_eq!(variable(&project, "OPENAI_API_KEY"), "sk-2");
    assert_eq!(variable(&project, "NEWER_KEY"), "n-1", "a key that the template does not name is a variable too");
    // Another one, and only its reader is restarted.
    let api = project.service("api")["pid"].clone();
    project.write("secrets/api/NEWER_KEY", "n-2\n");
    project.run(&["up", "-d"]).code(0);
    assert_ne!(project.service("api")["pid"], api);
    assert_eq!(project.service("worker")["pid"], worker);
}

#[test]
fn samples_and_empty_keys_count_as_missing_and_hand_written_values_do_not() {
    let project = stack();
    project.write(
        "secrets/env-template.txt",
        "A_KEY=your-key-here\nB_KEY=\nC_KEY=${C_KEY}\nD_KEY=${D_KEY:-none}\nE=${HAND}\nF=${A_KEY}!\n",
    );
    project.write("secrets/api/B_KEY", "from the file\n");
    project.write("secrets/api/C_KEY", "changeme\n");
    project.write("secrets/api/OPENAI_API_KEY", "  \n");
    project.write(".env", "HAND=written\n");
    let said = project.run(&["config", "write"]).code(0);
    for name in ["A_KEY", "C_KEY", "OPENAI_API_KEY"] {
        assert!(said.stderr.contains(&format!("{name} has no value")), "{name}: {said}");
    }
    let text = project.read(".env.generated");
    for line in [
        "A_KEY=NEED-API-KEY\n",
        "B_KEY='from the file'\n",
        "C_KEY=NEED-API-KEY\n",
        "D_KEY=none\n",
        "E=written\n",
        "F='NEED-API-KEY!'\n",
    ] {
        assert!(text.contains(line), "{line:?} in\n{text}");
    }
    assert_eq!(project.read(".env"), "HAND=written\n");
    let faulty = "A=${nobody.url}\nB=${open\n";
    project.write("secrets/env-template.txt", faulty);
    project.run(&["config", "write"]).code(2).says("secrets/env-template.txt:1:3").says("secrets/env-template.txt:2:");
    assert_eq!(project.read(".env.generated"), text, "a faulty template changes nothing");
}

/// It would count as a missing key, and nothing would say why.
#[test]
fn what_is_not_a_file_among_the_keys_is_named() {
    let project = stack();
    std::fs::remove_file(project.path("secrets/api/OPENAI_API_KEY")).expect("our own file");
    nix::unistd::mkfifo(&project.path("secrets/api/OPENAI_API_KEY"), nix::sys::stat::Mode::S_IRWXU).expect("a FIFO");
    for words in [&["config", "write"][..], &["up", "-d"], &["check"]] {
        project.run(words).code(2).says("secrets/api/OPENAI_API_KEY: it is a FIFO, not a regular file").says_not("has no value");
    }
    std::fs::remove_file(project.path("secrets/api/OPENAI_API_KEY")).expect("our own file");
    std::os::unix::fs::symlink("nowhere", project.path("secrets/api/OPENAI_API_KEY")).expect("a link");
    project.run(&["check"]).code(2).says("secrets/api/OPENAI_API_KEY: it is a link to a file that cannot be found");
    std::fs::remove_file(project.path("secrets/api/OPENAI_API_KEY")).expect("our own file");
    std::fs::create_dir(project.path("secrets/api/OPENAI_API_KEY")).expect("a directory is not a key");
    project.run(&["check"]).code(0).says("OPENAI_API_KEY has no value");
}

#[test]
fn the_header_decides_what_may_be_overwritten_and_deleted() {
    let project = stack();
    // Somebody's own file is neither overwritten nor deleted, and nothing is started over it.
    project.write(".env.generated", "MINE=1\n");
    for verb in [&["config", "write"][..], &["up", "-d"]] {
        project.run(verb).code(2).says("was not written by devrun");
    }
    assert!(project.alive("").is_empty() && !project.path("secrets/infra").exists());
    project.run(&["clean", "--yes"]).code(0);
    assert_eq!(project.read(".env.generated"), "MINE=1\n");
    std::fs::remove_file(project.path(".env.generated")).expect("our own file");

    // Ours, edited: reported by name, never by value, and kept beside the new one.
    project.run(&["config", "write"]).code(0);
    let ours = project.read(".env.generated");
    let edited = ours.replace("NAME='Application (Dev)'", "NAME=by-hand-value").replace("JWT=", "JWT2=");
    project.write(".env.generated", &edited);
    project
        .run(&["config", "write"])
        .code(0)
        .says(".env.generated was edited by hand")
        .says("kept as .env.generated.bak")
        .says("~ NAME")
        .says("- JWT")
        .says("+ JWT2")
        .says_not("by-hand-value");
    assert_eq!((project.read(".env.generated"), project.read(".env.generated.bak")), (ours.clone(), edited.clone()));
    assert_eq!(mode(&project, ".env.generated.bak"), 0o600);
    // An older backup is not lost to a newer one.
    project.write(".env.generated", &ours.replace("NAME=", "NAME2="));
    project.run(&["config", "write"]).code(0).says("kept as .env.generated.bak2");
    assert_eq!(project.read(".env.generated.bak"), edited);

    // `down --volumes` keeps it with the secrets; `clean` takes both and leaves keys and template.
    project.run(&["up", "-d"]).code(0);
    project.run(&["down", "--volumes"]).code(0);
    assert!(project.path(".env.generated").exists() && project.path("secrets/infra/db-password").exists());
    project.run(&["clean", "--yes"]).code(0).says("generated env file");
    assert!(!project.path(".env.generated").exists() && !project.path("secrets/infra").exists());
    assert!(project.path("secrets/api/OPENAI_API_KEY").exists() && project.path("secrets/env-template.txt").exists());
}

#[test]
fn what_is_printed_masks_keys_and_the_file_is_named_as_origin() {
    let project = stack();
    project.write("secrets/api/OPENAI_API_KEY", "sk-very-secret-value\n");
    project.run(&["config", "write"]).code(0).says_not("sk-very-secret-value");
    for verb in [&["config"][..], &["config", "--json"], &["config", "--origin"], &["config", "api", "--origin", "--json"]] {
        project.run(verb).code(0).says_not("sk-very-secret-value");
    }
    project.run(&["config", "--reveal"]).code(0).says("sk-very-secret-value");
    let rows = project.run(&["config", "api", "--origin", "--json"]).code(0).json();
    let row = rows.as_array().into_iter().flatten().find(|row| row["key"] == "services.api.env.DB_ADDR").expect("listed").clone();
    let line = project.read(".env.generated").lines().position(|line| line.starts_with("DB_ADDR=")).expect("there") + 1;
    assert_eq!(row["origin"], format!(".env.generated:{line}"));
    // Looking writes nothing.
    std::fs::remove_file(project.path(".env.generated")).expect("our own file");
    project.run(&["config"]).code(0);
    project.run(&["check"]).code(0);
    assert!(!project.path(".env.generated").exists());
}
