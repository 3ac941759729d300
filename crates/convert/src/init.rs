//! A first procfile from what lies around: scripts of a `package.json`, a Django or Cargo project, a `go.mod`.

use super::toml_writer::{Procfile, Section, Toml};

/// A command that was found, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Script {
    /// The service's name.
    pub name: String,
    /// Its command.
    pub run: String,
    /// Its port, where one is known or usual.
    pub port: Option<u16>,
    /// The file that says so.
    pub from: String,
    /// What `devrun build` would do.
    pub build: Option<String>,
}

/// What was found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Found {
    /// Commands.
    pub scripts: Vec<Script>,
    /// Recipes that the dependencies speak of.
    pub recipes: Vec<String>,
    /// There is a `.env`.
    pub env_file: bool,
}

impl Found {
    /// Looks at one file of the project's folder by its name.
    pub fn look(&mut self, name: &str, text: &str) {
        match name {
            ".env" => self.env_file = true,
            "package.json" => self.package(text),
            "manage.py" => self.script("web", "python manage.py runserver 127.0.0.1:$PORT", Some(8000), name, None),
            "Cargo.toml" if text.contains("[package]") => self.script("app", "cargo run", None, name, Some("cargo build")),
            "go.mod" => self.script("app", "go run .", None, name, Some("go build ./...")),
            "pyproject.toml" | "requirements.txt" if !self.scripts.iter().any(|script| script.from == "manage.py") => {
                let lower = text.to_ascii_lowercase();
                if lower.contains("fastapi") || lower.contains("uvicorn") {
                    self.script("web", "uvicorn main:app --reload --port $PORT", Some(8000), name, None);
                } else if lower.contains("flask") {
                    self.script("web", "flask run --port $PORT", Some(5000), name, None);
                }
            }
            _ => {}
        }
        let lower = text.to_ascii_lowercase();
        if matches!(name, "package.json" | "pyproject.toml" | "requirements.txt" | "Cargo.toml" | "go.mod" | "Gemfile") {
            let says = |words: &[&str]| words.iter().any(|word| lower.contains(word));
            if says(&["psycopg", "asyncpg", "\"pg\"", "tokio-postgres", "pgx", "gem \"pg\"", "gem 'pg'", "\"postgres\""]) {
                self.recipe("postgres");
            }
            if says(&["redis"]) {
                self.recipe("redis");
            }
        }
    }

    fn recipe(&mut self, name: &str) {
        if !self.recipes.iter().any(|known| known == name) {
            self.recipes.push(name.to_owned());
        }
    }

    fn script(&mut self, name: &str, run: &str, port: Option<u16>, from: &str, build: Option<&str>) {
        let taken = |name: &str| self.scripts.iter().any(|script| script.name == name);
        let name = if taken(name) { format!("{name}{}", self.scripts.len() + 1) } else { name.to_owned() };
        self.scripts.push(Script { name, run: run.to_owned(), port, from: from.to_owned(), build: build.map(str::to_owned) });
    }

    fn package(&mut self, text: &str) {
        let Ok(json) = serde_json::from_str::<serde_json::Value>(text) else { return };
        let Some(scripts) = json.get("scripts").and_then(serde_json::Value::as_object) else { return };
        let Some(name) = ["dev", "start", "serve", "watch"].into_iter().find(|name| scripts.contains_key(*name)) else { return };
        let command = scripts.get(name).and_then(serde_json::Value::as_str).unwrap_or_default();
        let port = [("vite", 5173), ("next", 3000), ("react-scripts", 3000), ("ng ", 4200), ("astro", 4321)]
            .into_iter()
            .find(|(word, _)| command.contains(word))
            .map(|(_, port)| port);
        self.script("web", &format!("npm run {name}"), port, "package.json", Some("npm install"));
    }
}

/// The procfile's text.
#[must_use]
pub fn draft(found: &Found) -> String {
    let mut file = Procfile {
        above: vec![
            "A first procfile, written by `devrun init`. `devrun up` starts it, `devrun check` looks for mistakes.".to_owned(),
            "Every key is in docs/; the ones below are what was found in this folder.".to_owned(),
        ],
        ..Procfile::default()
    };
    if found.env_file {
        file.project.set("env_file", Toml::texts([".env"]));
    }
    for recipe in &found.recipes {
        let mut section = Section {
            above: vec![format!("The dependencies speak of {recipe}; a version goes behind an @: {recipe}@…")],
            ..Section::default()
        };
        section.set("use", Toml::text(recipe.clone()));
        file.services.push((recipe.clone(), section));
    }
    for script in &found.scripts {
        let mut section = Section { above: vec![format!("From {}.", script.from)], ..Section::default() };
        section.set("run", Toml::text(script.run.clone()));
        if let Some(build) = &script.build {
            section.below.push(format!("build = {}  # run by `devrun build`", super::toml_writer::quoted(build)));
        }
        if let Some(port) = script.port {
            section.set("port", Toml::Integer(i64::from(port)));
            section.below.push("ready = { http = \"/\" }  # a path that answers once it serves".to_owned());
        }
        if !found.recipes.is_empty() {
            section.set("depends_on", Toml::texts(found.recipes.clone()));
            let env = found.recipes.iter().filter_map(|recipe| match recipe.as_str() {
                "postgres" => Some(("DATABASE_URL".to_owned(), Toml::text("${postgres.url}"))),
                "redis" => Some(("REDIS_URL".to_owned(), Toml::text("${redis.url}"))),
                _ => None,
            });
            section.set("env", Toml::Table(env.collect()));
        }
        file.services.push((script.name.clone(), section));
    }
    if file.services.is_empty() {
        let mut section = Section {
            above: vec!["Nothing was found that starts by itself: put your command here.".to_owned()],
            ..Section::default()
        };
        section.set("run", Toml::text("echo hello from devrun; sleep 3600"));
        file.services.push(("app".to_owned(), section));
    }
    file.below = vec![
        "More:".to_owned(),
        "[services.worker]".to_owned(),
        "run        = \"COMMAND\"".to_owned(),
        "depends_on = [\"web\"]         # waits until web is healthy, or started where it has no probe".to_owned(),
        "restart    = \"on-failure\"    # no, on-failure[:n], always, unless-stopped".to_owned(),
    ];
    file.text()
}
