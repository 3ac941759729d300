//! `scope = "user"` without a server: what cannot be shared is an error with its place, and looking makes nothing.

use crate::harness::Project;

#[test]
fn what_cannot_be_shared_is_named_with_its_place() {
    let project = Project::new().procfile(
        "[services.cache]\nuse = \"redis\"\nscope = \"user\"\n\
         [services.db]\nuse = \"postgres\"\nscope = \"user\"\ninit = [\"a.sql\"]\nport = 5432\n\
         [services.api]\nrun = \"true\"\nscope = \"user\"\n\
         [services.odd]\nuse = \"postgres\"\nscope = \"machine\"\n",
    );
    project.write("a.sql", "select 1;\n");
    project
        .run(&["check"])
        .code(2)
        .says("procfile.toml:3:9: error: `scope = \"user\"` is not supported for recipe redis")
        .says("a login cannot be confined to one logical database")
        .says("only a postgres can be shared")
        .says("procfile.toml:7:1: error: `init` is not supported with `scope = \"user\"`")
        .says("[tasks.schema] sql = \"FILE.sql\"")
        .says("procfile.toml:8:1: error: `port` is not supported with `scope = \"user\"`")
        .says("service `api` has `scope = \"user\"` and no recipe")
        .says("procfile.toml:14:9: error:");
    project.nothing_left();
}

#[test]
fn every_other_recipe_is_refused_with_its_reason() {
    let project = Project::new();
    for recipe in ["valkey", "mariadb", "minio", "versitygw", "neo4j", "qdrant", "nginx", "rabbitmq"] {
        project.rewrite(&format!("[services.x]\nuse = \"{recipe}\"\nscope = \"user\"\n"));
        let refused = project.run(&["check"]).code(2);
        refused
            .says(&format!("procfile.toml:3:9: error: `scope = \"user\"` is not supported for recipe {recipe}"))
            .says("help: remove `scope`: ");
    }
    project.nothing_left();
}

#[test]
fn looking_at_a_shared_service_makes_nothing() {
    let project = Project::new().procfile(
        "[services.db]\nuse = \"postgres@16\"\nscope = \"user\"\nuser = \"app\"\ndatabase = \"shop\"\n\
         [services.api]\nrun = \"true\"\nenv = { DATABASE = \"${db.database}\", LOGIN = \"${db.user}\" }\n",
    );
    let value = |instance: &str, name: &str| {
        let env = project.run(&["--instance", instance, "env", "api", "--format", "json"]).code(0).json();
        env[name].as_str().unwrap_or_default().to_owned()
    };
    project.run(&["check"]).code(0);
    // Each instance has a database and a login of its own, with an ending that stays.
    let (one, other) = (value("a", "DATABASE"), value("b", "DATABASE"));
    assert!(one.starts_with("shop_") && other.starts_with("shop_") && one != other, "{one} {other}");
    assert_eq!(one, value("a", "DATABASE"));
    assert_eq!(value("a", "LOGIN"), one.replace("shop_", "app_"));
    assert!(!project.root().join("home/.state/devrun").exists());
    project.nothing_left();
}

/// A file where the directory of all shared servers has to be.
#[test]
fn a_state_directory_that_cannot_be_used_is_named() {
    let project = Project::new();
    let state = project.root().join("state-of-the-user");
    std::fs::write(&state, "").expect("our own directory");
    let project = project
        .env("XDG_STATE_HOME", &state.display().to_string())
        .procfile("[services.db]\nuse = \"postgres@16\"\nscope = \"user\"\n");
    project.run(&["up", "-d"]).code(2).says(&state.display().to_string()).says("help: ");
    project.nothing_left();
}
