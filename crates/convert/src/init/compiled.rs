//! Programs that a compiler makes: Go, Rust, and Java with Spring Boot or Quarkus.

use super::script::Script;
use super::source_directory::SourceDirectory;

pub(super) fn scripts(directory: &SourceDirectory) -> Vec<Script> {
    let mut found = Vec::new();
    if let Some(manifest) = directory.text("Cargo.toml")
        && manifest.contains("[package]")
        && (directory.has("src/main.rs") || manifest.contains("[[bin]]") || !directory.has("src/lib.rs"))
    {
        found.push(Script { build: Some("cargo build".to_owned()), ..Script::new("app", "cargo run", None, "Cargo.toml") });
    }
    if directory.has("go.mod") {
        found.extend(go(directory));
    }
    found.extend(java(directory));
    found
}

/// A program for each directory of `cmd/`, or the one of the module itself.
fn go(directory: &SourceDirectory) -> Vec<Script> {
    let build = Some("go build ./...".to_owned());
    let reads_port = |file: &str| directory.text(file).is_some_and(go_reads_port);
    let of_commands = |name: &str| {
        let file = format!("cmd/{name}/main.go");
        let command = Script::new(name, format!("go run ./cmd/{name}"), None, &file);
        Script { build: build.clone(), reads_port: reads_port(&file), ..command }
    };
    let mut found: Vec<Script> = directory.below("cmd", "main.go").map(of_commands).collect();
    if found.is_empty() || directory.has("main.go") {
        let own = Script::new("app", "go run .", None, "go.mod");
        found.insert(0, Script { build, reads_port: reads_port("main.go"), ..own });
    }
    // Where there are several, the configuration that they share does not say which of them listens.
    if let [only] = found.as_mut_slice() {
        only.reads_port |= ["config/config.go", "internal/config/config.go"].into_iter().any(reads_port);
    }
    found
}

/// `os.Getenv("PORT")`, `os.LookupEnv("PORT")`, or the tag of a field.
fn go_reads_port(text: &str) -> bool {
    ["Getenv(\"PORT\")", "LookupEnv(\"PORT\")", "env:\"PORT\"", "envconfig:\"PORT\"", "env:\"PORT,"]
        .iter()
        .any(|sign| text.contains(sign))
}

fn java(directory: &SourceDirectory) -> Option<Script> {
    let gradle = directory.first_of(&["build.gradle.kts", "build.gradle"]);
    let (file, tool, wrapper) = match (directory.has("pom.xml"), gradle) {
        (true, _) => ("pom.xml", "mvn", "mvnw"),
        (false, Some(file)) => (file, "gradle", "gradlew"),
        (false, None) => return None,
    };
    let tool = if directory.has(wrapper) { format!("./{wrapper}") } else { tool.to_owned() };
    let text = directory.text(file)?;
    let is_maven = file == "pom.xml";
    let run = if text.contains("spring-boot") || text.contains("org.springframework.boot") {
        let port = "--server.port=$PORT";
        if is_maven {
            format!("{tool} spring-boot:run -Dspring-boot.run.arguments={port}")
        } else {
            format!("{tool} bootRun --args={port}")
        }
    } else if text.contains("quarkus") {
        let task = if is_maven { "quarkus:dev" } else { "quarkusDev" };
        format!("{tool} {task} -Dquarkus.http.port=$PORT")
    } else {
        return None;
    };
    let mut script = Script::new("web", run, Some(8080), file);
    let is_spring = script.run.contains("server.port");
    for (recipe, scheme) in [("postgres", "postgresql"), ("mariadb", "mariadb")] {
        if is_spring && super::needs::recipes(directory).contains(&recipe) {
            let url = format!("jdbc:{scheme}://${{{recipe}.host}}:${{{recipe}.port}}/${{{recipe}.database}}");
            script.env.push(("SPRING_DATASOURCE_URL", url));
            script.env.push(("SPRING_DATASOURCE_USERNAME", format!("${{{recipe}.user}}")));
            script.env.push(("SPRING_DATASOURCE_PASSWORD", format!("${{{recipe}.password}}")));
        }
    }
    Some(script)
}
