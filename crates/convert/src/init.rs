//! A first procfile from what lies around: the project's directory and one level below it. Scripts of a `package.json`, Python
//! applications and their requirements, a Django, Cargo or Go project, SQL for the first start of a database.

use std::collections::{BTreeMap, BTreeSet};

use super::toml_writer::{Procfile, Section, Toml, quoted};

/// A command that was found, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Script {
    /// The service's name.
    pub name: String,
    /// Its directory below the project's; empty is that one.
    pub dir: String,
    /// Its command.
    pub run: String,
    /// Its port, where one is known or usual.
    pub port: Option<u16>,
    /// The file that says so.
    pub from: String,
    /// What `devrun build` would do.
    pub build: Option<String>,
    /// The task that installs what it needs.
    install: Option<Install>,
    /// Recipes that its dependencies name.
    uses: Vec<String>,
}

/// A task that fetches dependencies, once.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Install {
    /// `venv` or `npm`.
    kind: &'static str,
    run: String,
    /// The directory that it fills.
    fills: &'static str,
    /// The files that say what is installed.
    inputs: Vec<&'static str>,
}

/// What was found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FoundProgram {
    /// What is known of each directory, by its path below the project's.
    places: BTreeMap<String, ProgramDirectory>,
    /// Directories with SQL for an empty database.
    init: BTreeSet<String>,
    /// Directories with migrations in SQL.
    migrations: BTreeSet<String>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct ProgramDirectory {
    env_file: bool,
    package: Option<String>,
    django: bool,
    cargo: bool,
    go: bool,
    /// `requirements.txt` or `pyproject.toml`, and its text in lower case.
    python: Option<(String, String)>,
    /// Module, framework and variable of an application.
    app: Option<(String, &'static str, String)>,
    /// Python modules, with or without an application in sight.
    modules: BTreeSet<String>,
    /// Those that do something when they are run, and whether they read PORT.
    programs: BTreeMap<String, bool>,
    /// A lock file of npm's, so that `npm ci` works.
    is_locked: bool,
    recipes: Vec<&'static str>,
}

/// Files worth a look in each directory. Python modules come with any name that ends in `.py`.
pub const LOOKED_AT: &[&str] = &[
    ".env",
    "manage.py",
    "package.json",
    "package-lock.json",
    "pyproject.toml",
    "requirements.txt",
    "Cargo.toml",
    "go.mod",
    "Gemfile",
    "main.py",
    "app.py",
    "server.py",
    "api.py",
    "asgi.py",
    "wsgi.py",
];

/// Directories in which SQL scripts are meant for an empty database, or are migrations.
pub const SQL_DIRS: &[&str] = &[
    "db/init",
    "db/init.d",
    "db/initdb",
    "database/init",
    "docker-entrypoint-initdb.d",
    "initdb",
    "initdb.d",
    "postgres/init",
    "sql/init",
    "db/migrations",
    "migrations",
];

/// Directories of which SQL scripts are taken for an empty database where none of [`SQL_DIRS`] has any.
pub const PLAIN_SQL_DIRS: &[&str] = &["sql", "db", "."];

impl FoundProgram {
    /// Looks at one file of a directory by its name. `dir` is below the project's; empty is that one.
    pub fn look(&mut self, dir: &str, name: &str, text: &str) {
        let place = self.places.entry(dir.to_owned()).or_default();
        match name {
            ".env" => place.env_file = true,
            "package.json" => place.package = Some(text.to_owned()),
            "package-lock.json" => place.is_locked = true,
            "manage.py" => place.django = true,
            "Cargo.toml" => place.cargo = text.contains("[package]"),
            "go.mod" => place.go = true,
            "pyproject.toml" | "requirements.txt" => place.python = Some((name.to_owned(), text.to_ascii_lowercase())),
            name => {
                if let Some(module) = name.strip_suffix(".py") {
                    place.modules.insert(module.to_owned());
                    if ["__main__", "serve_forever(", ".run("].iter().any(|sign| text.contains(sign)) {
                        place.programs.insert(module.to_owned(), text.contains("PORT"));
                    }
                    place.app = place.app.take().or_else(|| application(module, text));
                }
            }
        }
        if matches!(name, "package.json" | "pyproject.toml" | "requirements.txt" | "Cargo.toml" | "go.mod" | "Gemfile") {
            let lower = text.to_ascii_lowercase();
            let says = |words: &[&str]| words.iter().any(|word| lower.contains(word));
            if says(&["psycopg", "asyncpg", "\"pg\"", "tokio-postgres", "pgx", "gem \"pg\"", "gem 'pg'", "\"postgres\""]) {
                place.recipes.push("postgres");
            }
            if says(&["redis"]) && !place.recipes.contains(&"redis") {
                place.recipes.push("redis");
            }
        }
    }

    /// Notes a directory with SQL scripts.
    pub fn sql(&mut self, dir: &str) {
        if dir.ends_with("migrations") { &mut self.migrations } else { &mut self.init }.insert(dir.to_owned());
    }

    /// Recipes that the dependencies name, or that a directory with SQL needs.
    #[must_use]
    pub fn recipes(&self) -> Vec<String> {
        let mut recipes: BTreeSet<&str> = self.places.values().flat_map(|place| place.recipes.iter().copied()).collect();
        if !self.init.is_empty() {
            recipes.insert("postgres");
        }
        recipes.into_iter().map(str::to_owned).collect()
    }

    /// Why a recipe is proposed.
    #[must_use]
    pub fn evidence(&self, recipe: &str) -> String {
        let dir = self.init.first().filter(|_| recipe == "postgres");
        match dir.filter(|_| !self.places.values().any(|place| place.recipes.contains(&recipe))) {
            Some(dir) if dir == "." => "for the SQL scripts in this directory".to_owned(),
            Some(dir) => format!("for the scripts in {dir}"),
            None => format!("as the dependencies name {recipe}"),
        }
    }

    /// What git must not track, of what is there or will be made.
    #[must_use]
    pub fn to_ignore(&self) -> Vec<String> {
        let mut all = BTreeSet::new();
        for place in self.places.values() {
            if place.env_file {
                all.insert(".env".to_owned());
            }
        }
        all.extend(self.scripts().into_iter().filter_map(|script| Some(format!("{}/", script.install?.fills))));
        all.into_iter().collect()
    }

    /// Commands, those of the project's own directory first.
    #[must_use]
    pub fn scripts(&self) -> Vec<Script> {
        let mut scripts: Vec<Script> = Vec::new();
        for (dir, place) in &self.places {
            for (role, mut script) in place.scripts() {
                let last = dir.rsplit('/').next().unwrap_or_default();
                let wanted = if last.is_empty() { role.to_owned() } else { service_name(last) };
                let taken = |name: &str| scripts.iter().any(|script| script.name == name);
                script.name = match wanted {
                    name if !taken(&name) => name,
                    name if !taken(&format!("{name}-{role}")) => format!("{name}-{role}"),
                    name => format!("{name}{}", scripts.len() + 1),
                };
                script.dir.clone_from(dir);
                script.uses = place.recipes.iter().map(|name| (*name).to_owned()).collect();
                scripts.push(script);
            }
        }
        scripts
    }
}

impl ProgramDirectory {
    /// What can be started in one directory, each with the name that it has where the directory has none.
    fn scripts(&self) -> Vec<(&'static str, Script)> {
        let mut scripts = Vec::new();
        let venv = self.python.as_ref().map(|(file, _)| Install {
            kind: "venv",
            run: format!(
                "python3 -m venv .venv && .venv/bin/pip install {}",
                if file == "requirements.txt" { "-r requirements.txt" } else { "-e ." }
            ),
            fills: ".venv",
            inputs: vec![if file == "requirements.txt" { "requirements.txt" } else { "pyproject.toml" }],
        });
        let says = |word: &str| self.python.as_ref().is_some_and(|(_, text)| text.contains(word));
        if self.django {
            let run = "python manage.py runserver 127.0.0.1:$PORT".to_owned();
            scripts.push(("web", Script { install: venv, ..script(run, Some(8000), "manage.py") }));
        } else if let Some((run, port, from)) = self.python_server(&says) {
            scripts.push(("web", Script { install: venv, ..script(run, Some(port), &from) }));
        } else if let Some((module, reads_port)) = self.python_program() {
            let python = if venv.is_some() { "python" } else { "python3" };
            let (file, port) = (format!("{module}.py"), reads_port.then_some(8000));
            let role = if reads_port { "web" } else { "app" };
            scripts.push((role, Script { install: venv, ..script(format!("{python} {file}"), port, &file) }));
        }
        if let Some((run, port)) = self.package.as_deref().and_then(package) {
            let run_install = if self.is_locked { "npm ci" } else { "npm install" };
            let inputs = if self.is_locked { vec!["package.json", "package-lock.json"] } else { vec!["package.json"] };
            let npm = Install { kind: "npm", run: run_install.to_owned(), fills: "node_modules", inputs };
            scripts.push(("web", Script { install: Some(npm), ..script(run, port, "package.json") }));
        }
        if self.cargo {
            scripts.push((
                "app",
                Script { build: Some("cargo build".to_owned()), ..script("cargo run".to_owned(), None, "Cargo.toml") },
            ));
        }
        if self.go {
            scripts.push((
                "app",
                Script { build: Some("go build ./...".to_owned()), ..script("go run .".to_owned(), None, "go.mod") },
            ));
        }
        scripts
    }

    /// A module that is started by itself, and whether it reads PORT.
    fn python_program(&self) -> Option<(&str, bool)> {
        let usual = ["main", "app", "server", "api"];
        usual.into_iter().find_map(|module| self.programs.get_key_value(module)).map(|(module, port)| (module.as_str(), *port))
    }

    /// Command, port and file of a Python server.
    fn python_server(&self, says: &dyn Fn(&str) -> bool) -> Option<(String, u16, String)> {
        let uvicorn = |target: &str| format!("uvicorn {target} --reload --host 127.0.0.1 --port $PORT");
        match &self.app {
            Some((module, "flask", _)) => Some((format!("flask --app {module} run --port $PORT"), 5000, format!("{module}.py"))),
            Some((module, _, variable)) => Some((uvicorn(&format!("{module}:{variable}")), 8000, format!("{module}.py"))),
            None => {
                let from = self.python.as_ref()?.0.clone();
                if says("fastapi") || says("uvicorn") || says("starlette") {
                    let usual = ["main", "app", "server", "api", "asgi", "wsgi"];
                    let module = usual.into_iter().find(|module| self.modules.contains(*module)).unwrap_or("main");
                    Some((uvicorn(&format!("{module}:app")), 8000, from))
                } else if says("flask") {
                    Some(("flask run --port $PORT".to_owned(), 5000, from))
                } else {
                    None
                }
            }
        }
    }
}

fn script(run: String, port: Option<u16>, from: &str) -> Script {
    Script {
        name: String::new(),
        dir: String::new(),
        run,
        port,
        from: from.to_owned(),
        build: None,
        install: None,
        uses: Vec::new(),
    }
}

/// Module, framework and variable of `app = FastAPI(…)`.
fn application(module: &str, text: &str) -> Option<(String, &'static str, String)> {
    text.lines().find_map(|line| {
        let (variable, value) = line.split_once('=')?;
        // An annotation stands between the name and the sign.
        let variable = variable.split(':').next().unwrap_or_default().trim_end();
        let is_name = !variable.is_empty() && variable.chars().all(|c| c.is_alphanumeric() || c == '_');
        let value = value.trim_start();
        let framework = [("FastAPI(", "asgi"), ("fastapi.FastAPI(", "asgi"), ("Starlette(", "asgi"), ("Flask(", "flask")]
            .into_iter()
            .find(|(call, _)| value.starts_with(call))?
            .1;
        is_name.then(|| (module.to_owned(), framework, variable.to_owned()))
    })
}

/// The script of a `package.json` that serves, with its port.
fn package(text: &str) -> Option<(String, Option<u16>)> {
    let json = serde_json::from_str::<serde_json::Value>(text).ok()?;
    let scripts = json.get("scripts")?.as_object()?;
    let name = ["dev", "start", "serve", "watch"].into_iter().find(|name| scripts.contains_key(*name))?;
    let command = scripts.get(name)?.as_str().unwrap_or_default();
    // These take no PORT variable, but an option.
    let known = [
        ("vite", 5173, " -- --port $PORT --strictPort"),
        ("next", 3000, ""),
        ("react-scripts", 3000, ""),
        ("ng ", 4200, " -- --port $PORT"),
        ("astro", 4321, " -- --port $PORT"),
    ];
    let found = known.into_iter().find(|(word, ..)| command.contains(word));
    let options = found.map_or("", |(_, _, options)| options);
    Some((format!("npm run {name}{options}"), found.map(|(_, port, _)| port)))
}

/// A directory's name as that of a service.
fn service_name(dir: &str) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() || c == '_' || c == '-' { c.to_ascii_lowercase() } else { '-' };
    let name: String = dir.chars().map(plain).collect();
    let name = name.trim_matches('-');
    // These have a meaning in placeholders.
    let is_free = !name.is_empty() && !["secret", "dir", "replica", "project", "mode", "instance"].contains(&name);
    if is_free { name.to_owned() } else { "web".to_owned() }
}

/// The procfile's text. `schema` is where the JSON Schema of procfiles can be read.
#[must_use]
pub fn draft(found: &FoundProgram, schema: &str) -> String {
    let mut file = Procfile {
        above: vec![
            "A first procfile, written by `devrun init`. `devrun up` starts it, `devrun check` looks for mistakes.".to_owned(),
            "Every key is in docs/; the ones below are what was found in this directory.".to_owned(),
        ],
        ..Procfile::default()
    };
    if found.places.get("").is_some_and(|place| place.env_file) {
        file.project.set("env_file", Toml::texts([".env"]));
    }
    let (recipes, scripts) = (found.recipes(), found.scripts());
    for recipe in &recipes {
        let mut section = Section {
            above: vec![format!("Proposed {}; a version goes behind an @: {recipe}@…", found.evidence(recipe))],
            ..Section::default()
        };
        section.set("use", Toml::text(recipe.clone()));
        if recipe == "postgres" {
            if let Some(dir) = found.init.first() {
                section.set("init", Toml::text(dir.clone()));
                section.below.push(format!("{dir} is run once, when the database is made"));
            }
            if let Some(dir) = found.migrations.first() {
                section.set("migrations", Toml::text(dir.clone()));
            }
        }
        file.services.push((recipe.clone(), section));
    }
    for script in &scripts {
        let from = if script.dir.is_empty() { script.from.clone() } else { format!("{}/{}", script.dir, script.from) };
        let mut section = Section { above: vec![format!("From {from}.")], ..Section::default() };
        section.set("run", Toml::text(script.run.clone()));
        if !script.dir.is_empty() {
            section.set("dir", Toml::text(script.dir.clone()));
        }
        if let Some(build) = &script.build {
            section.below.push(format!("build = {}  # run by `devrun build`", quoted(build)));
        }
        if let Some(port) = script.port {
            section.set("port", Toml::Integer(i64::from(port)));
            section
                .below
                .push("ready = { http = \"/\" }  # a path that answers once it serves; without it, an open port".to_owned());
        }
        let mut needs: Vec<String> = recipes.iter().filter(|recipe| script.uses.contains(recipe)).cloned().collect();
        let env = needs.iter().filter_map(|recipe| match recipe.as_str() {
            "postgres" => Some(("DATABASE_URL".to_owned(), Toml::text("${postgres.url}"))),
            "redis" => Some(("REDIS_URL".to_owned(), Toml::text("${redis.url}"))),
            _ => None,
        });
        let env: Vec<(String, Toml)> = env.collect();
        if let Some(install) = &script.install {
            let name = task_name(install, &scripts, script);
            add_install(&mut file, &name, install, script);
            needs.push(name);
        }
        if !needs.is_empty() {
            section.set("depends_on", Toml::texts(needs));
        }
        if !env.is_empty() {
            section.set("env", Toml::Table(env));
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
    format!("#:schema {schema}\n{}", file.text())
}

/// `venv` where there is one, else `api-venv`.
fn task_name(install: &Install, scripts: &[Script], script: &Script) -> String {
    let same = scripts.iter().filter(|other| other.install.as_ref().is_some_and(|other| other.kind == install.kind));
    let is_taken = scripts.iter().any(|other| other.name == install.kind);
    if same.count() == 1 && !is_taken { install.kind.to_owned() } else { format!("{}-{}", script.name, install.kind) }
}

/// The task, and the volume with its sentinel: the directory that it fills, so that one that is deleted is made again.
fn add_install(file: &mut Procfile, name: &str, install: &Install, script: &Script) {
    let below = |path: &str| if script.dir.is_empty() { path.to_owned() } else { format!("{}/{path}", script.dir) };
    let path = below(install.fills);
    let volume = vec![("path".to_owned(), Toml::text(path)), ("class".to_owned(), Toml::text("cache"))];
    file.volumes.set(name, Toml::Table(volume));
    let above = "Runs once, and again when its inputs have changed".to_owned();
    let mut section = Section { above: vec![above], ..Section::default() };
    section.set("run", Toml::text(install.run.clone()));
    if !script.dir.is_empty() {
        section.set("dir", Toml::text(script.dir.clone()));
    }
    section.set("once", Toml::text(format!("{name}/.installed")));
    section.set("inputs", Toml::texts(install.inputs.iter().map(|file| below(file))));
    section.set("on_change", Toml::text("rerun"));
    section.set("idempotent", Toml::Bool(true));
    section.set("timeout", Toml::text("15m"));
    file.tasks.push((name.to_owned(), section));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_monorepo_is_looked_into_one_level_down() {
        let mut found = FoundProgram::default();
        found.look("", ".env", "A=1\n");
        found.look("api", "app.py", "from fastapi import FastAPI\napi: FastAPI = FastAPI(title=\"x\")\n");
        found.look("api", "requirements.txt", "fastapi\nuvicorn\npsycopg[binary]\n");
        found.look("frontend", "package.json", "{\"scripts\": {\"dev\": \"vite\", \"build\": \"vite build\"}}");
        found.look("frontend", "package-lock.json", "{}");
        found.sql("db/init");
        let text = draft(&found, "https://example.com/schema.json");
        assert!(text.starts_with("#:schema https://example.com/schema.json\n"), "{text}");
        let table: toml::Table = toml::from_str(&text).unwrap_or_else(|error| panic!("{error}\n{text}"));
        let service = |name: &str| table["services"][name].clone();
        assert_eq!(service("api")["run"].as_str(), Some("uvicorn app:api --reload --host 127.0.0.1 --port $PORT"));
        assert_eq!(service("api")["dir"].as_str(), Some("api"));
        assert_eq!(service("api")["env"]["DATABASE_URL"].as_str(), Some("${postgres.url}"));
        assert_eq!(service("frontend")["run"].as_str(), Some("npm run dev -- --port $PORT --strictPort"));
        assert!(service("frontend").get("env").is_none(), "it names no database");
        assert_eq!(service("postgres")["init"].as_str(), Some("db/init"));
        let depends = |name: &str| service(name)["depends_on"].to_string();
        assert_eq!((depends("api").as_str(), depends("frontend").as_str()), ("[\"postgres\", \"venv\"]", "[\"npm\"]"));
        assert_eq!(table["tasks"]["npm"]["run"].as_str(), Some("npm ci"));
        assert_eq!(table["tasks"]["npm"]["on_change"].as_str(), Some("rerun"));
        let inputs = |task: &str| table["tasks"][task]["inputs"].to_string();
        assert_eq!(inputs("npm"), "[\"frontend/package.json\", \"frontend/package-lock.json\"]");
        assert_eq!(inputs("venv"), "[\"api/requirements.txt\"]");
        assert_eq!(table["volumes"]["venv"]["path"].as_str(), Some("api/.venv"));
        assert_eq!(found.to_ignore(), [".env", ".venv/", "node_modules/"]);
        assert!(text.contains("# Proposed as the dependencies name postgres; a version"), "{text}");
        let mut sql = FoundProgram::default();
        sql.sql("db/init");
        assert!(draft(&sql, "x").contains("# Proposed for the scripts in db/init; a version"));
    }

    #[test]
    fn a_module_is_guessed_only_where_it_is_there() {
        let run = |files: &[&str]| {
            let mut found = FoundProgram::default();
            found.look("", "requirements.txt", "fastapi\n");
            for file in files {
                found.look("", file, "from factory import make\n");
            }
            found.scripts()[0].run.clone()
        };
        assert!(run(&["app.py"]).starts_with("uvicorn app:app "));
        assert!(run(&["app.py", "main.py"]).starts_with("uvicorn main:app "));
        assert!(run(&[]).starts_with("uvicorn main:app "));
    }

    #[test]
    fn a_program_without_a_framework_is_run_as_it_is() {
        let server = "import http.server, os\nport = int(os.environ['PORT'])\nServer(('', port)).serve_forever()\n";
        let (mut found, mut worker) = (FoundProgram::default(), FoundProgram::default());
        found.look("", "app.py", server);
        found.sql(".");
        let text = draft(&found, "x");
        let table: toml::Table = toml::from_str(&text).unwrap_or_else(|error| panic!("{error}\n{text}"));
        let web = &table["services"]["web"];
        assert_eq!((web["run"].as_str(), web["port"].as_integer()), (Some("python3 app.py"), Some(8000)));
        assert_eq!(table["services"]["postgres"]["init"].as_str(), Some("."));
        worker.look("", "main.py", "if __name__ == \"__main__\":\n    work()\n");
        worker.look("", "requirements.txt", "six\n");
        let scripts = worker.scripts();
        assert_eq!((scripts[0].name.as_str(), scripts[0].run.as_str(), scripts[0].port), ("app", "python main.py", None));
        // A module that only defines something is none.
        let mut library = FoundProgram::default();
        library.look("", "app.py", "def add(a, b):\n    return a + b\n");
        assert!(library.scripts().is_empty());
    }

    #[test]
    fn one_directory_with_two_servers_gives_them_two_names() {
        let mut found = FoundProgram::default();
        found.look("site", "package.json", "{\"scripts\": {\"start\": \"node .\"}}");
        found.look("site", "manage.py", "");
        let names: Vec<String> = found.scripts().into_iter().map(|script| script.name).collect();
        assert_eq!(names, ["site", "site-web"]);
        assert_eq!(service_name("My App"), "my-app");
        assert_eq!(service_name("dir"), "web");
    }
}
