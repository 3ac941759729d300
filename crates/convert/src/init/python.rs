//! Python programs: Django, ASGI and Flask applications, Celery workers, plain scripts; installed by uv, Poetry, Pipenv or pip.

use super::script::{Install, MissingModule, Script};
use super::source_directory::SourceDirectory;

/// Names of modules that usually hold the application, the likeliest first.
const USUAL: &[&str] = &["main", "app", "server", "api", "asgi", "wsgi"];
/// Names of modules that usually hold a Celery application.
const WORKERS: &[&str] = &["celery_app", "worker", "tasks"];

/// An application object of a module.
struct Application {
    module: String,
    /// Where the module is looked for; `None`: in the directory itself.
    root: Option<&'static str>,
    is_flask: bool,
    variable: String,
    file: String,
}

/// The directory's list of dependencies, by name.
fn list(directory: &SourceDirectory) -> Option<&'static str> {
    directory.first_of(&[
        "requirements.txt",
        "requirements/local.txt",
        "requirements/dev.txt",
        "requirements/base.txt",
        "requirements-dev.txt",
        "pyproject.toml",
        "Pipfile",
    ])
}

/// Whether a directory has dependencies of its own; one that has none belongs to the directory above it.
pub(super) fn has_dependencies(directory: &SourceDirectory) -> bool {
    list(directory).is_some() || directory.has("manage.py")
}

/// Whether it holds an application.
pub(super) fn has_application(directory: &SourceDirectory) -> bool {
    USUAL.iter().any(|module| directory.text(&format!("{module}.py")).is_some_and(|text| variable(text).is_some()))
}

/// What installs the dependencies of a directory, into `.venv` there, which is on the PATH of its services.
pub(super) fn install(directory: &SourceDirectory) -> Option<Install> {
    let project = directory.text("pyproject.toml").unwrap_or_default();
    let kind = "venv";
    let fills = Some(".venv");
    // Empty, as what an interrupted run has left passes for complete.
    let of = |run: &str, inputs: Vec<&'static str>| Some(Install { kind, run: run.to_owned(), fills, inputs });
    if directory.has("uv.lock") {
        // The directory is there when the task runs, which uv would refuse.
        return of("uv venv --allow-existing --quiet && uv sync", vec!["pyproject.toml", "uv.lock"]);
    }
    if directory.has("poetry.lock") || project.contains("[tool.poetry]") {
        let lock = directory.first_of(&["poetry.lock"]);
        let inputs = ["pyproject.toml"].into_iter().chain(lock).collect();
        return of("python3 -m venv --clear .venv && POETRY_VIRTUALENVS_IN_PROJECT=true poetry install --no-interaction", inputs);
    }
    let file = list(directory)?;
    match file {
        "Pipfile" => of("python3 -m venv --clear .venv && PIPENV_VENV_IN_PROJECT=1 pipenv install --dev", vec![file]),
        "pyproject.toml" => of("python3 -m venv --clear .venv && .venv/bin/pip install -e .", vec![file]),
        _ => of(&format!("python3 -m venv --clear .venv && .venv/bin/pip install -r {file}"), vec![file]),
    }
}

/// The names of dependencies, in lower case.
fn dependencies(directory: &SourceDirectory) -> String {
    let lists = [list(directory), Some("pyproject.toml")];
    lists.into_iter().flatten().filter_map(|file| directory.text(file)).collect::<String>().to_ascii_lowercase()
}

/// What can be started. `packages` are directories one level below that have no dependencies of their own, by name.
pub(super) fn scripts(directory: &SourceDirectory, packages: &[(String, SourceDirectory)]) -> Vec<Script> {
    let text = dependencies(directory);
    let mut found = Vec::new();
    if directory.has("manage.py") {
        let run = "python manage.py runserver 127.0.0.1:$PORT";
        let migrate = "pre_start = \"python manage.py migrate\"  # migrates the database before each start";
        found.push(Script::new("web", run, Some(8000), "manage.py").propose(migrate));
    } else if let Some(server) = server(directory, packages, &text) {
        found.push(server);
    } else if let Some(program) = program(directory) {
        found.push(program);
    }
    if text.contains("celery") {
        found.extend(celery(directory, packages, &text));
    }
    found.into_iter().map(|script| script.after(install(directory))).collect()
}

/// Names of packages that make an ASGI application.
const ASGI: &[&str] = &["fastapi", "uvicorn", "starlette"];

/// A server made with a framework.
fn server(directory: &SourceDirectory, packages: &[(String, SourceDirectory)], dependencies: &str) -> Option<Script> {
    let uvicorn = |target: &str| format!("uvicorn {target} --reload --host 127.0.0.1 --port $PORT");
    if let Some(application) = application(directory, packages) {
        let Application { module, root, is_flask, variable, file } = application;
        let at = root.map_or(String::new(), |root| format!(" --app-dir {root}"));
        return Some(match (is_flask, root) {
            (true, Some(root)) => {
                Script::new("web", format!("flask --app {root}/{} run --port $PORT", module.replace('.', "/")), Some(5000), &file)
            }
            (true, None) => Script::new("web", format!("flask --app {module} run --port $PORT"), Some(5000), &file),
            (false, _) => Script::new("web", format!("{}{at}", uvicorn(&format!("{module}:{variable}"))), Some(8000), &file),
        });
    }
    let from = list(directory)?;
    let says = |words: &[&str]| words.iter().any(|word| dependencies.contains(word));
    if says(ASGI) {
        let usual = |place: &SourceDirectory| USUAL.iter().find(|module| place.has(&format!("{module}.py")));
        let in_package = || packages.iter().find_map(|(name, package)| Some(format!("{name}.{}", usual(package)?)));
        let module = usual(directory).map(|module| (*module).to_owned()).or_else(in_package);
        // Without a file no command could work.
        return module.map(|module| Script::new("web", uvicorn(&format!("{module}:app")), Some(8000), from));
    }
    says(&["flask"]).then(|| flask(directory, packages, from)).flatten()
}

/// What `flask run` finds by itself, or a package whose `__init__.py` makes the application.
fn flask(directory: &SourceDirectory, packages: &[(String, SourceDirectory)], from: &str) -> Option<Script> {
    let names_it = |file: &str| directory.text(file).is_some_and(|text| text.contains("FLASK_APP"));
    if directory.has("app.py") || directory.has("wsgi.py") || names_it(".env") || names_it(".flaskenv") {
        return Some(Script::new("web", "flask run --port $PORT", Some(5000), from));
    }
    let makes_it = |text: &str| ["def create_app(", "def make_app(", "Flask("].iter().any(|sign| text.contains(sign));
    let (name, _) = packages.iter().find(|(_, package)| package.text("__init__.py").is_some_and(makes_it))?;
    Some(Script::new("web", format!("flask --app {name} run --port $PORT"), Some(5000), &format!("{name}/__init__.py")))
}

/// The command of an application that was not found, where the dependencies name its framework and no program is there.
pub(super) fn missing_module(directory: &SourceDirectory, packages: &[(String, SourceDirectory)]) -> Option<MissingModule> {
    let (from, text) = (list(directory)?, dependencies(directory));
    let (framework, run, port) = if ASGI.iter().any(|name| text.contains(name)) {
        let framework = if text.contains("fastapi") { "FastAPI" } else { "an ASGI server" };
        (framework, "uvicorn MODULE:app --reload --host 127.0.0.1 --port $PORT", 8000)
    } else if text.contains("flask") {
        ("Flask", "flask --app MODULE run --port $PORT", 5000)
    } else {
        return None;
    };
    let is_started = directory.has("manage.py") || server(directory, packages, &text).is_some() || program(directory).is_some();
    (!is_started).then(|| MissingModule { dir: String::new(), from, framework, run, port })
}

/// The application in the directory itself, below `src`, or in a package.
fn application(directory: &SourceDirectory, packages: &[(String, SourceDirectory)]) -> Option<Application> {
    let look = |file: String, module: String, root: Option<&'static str>, text: &str| {
        variable(text).map(|(variable, is_flask)| Application { module, root, is_flask, variable, file })
    };
    let own = USUAL.iter().find_map(|name| {
        let file = format!("{name}.py");
        let text = directory.text(&file)?;
        look(file, (*name).to_owned(), None, text)
    });
    let below_src = || {
        USUAL.iter().find_map(|name| {
            let file = format!("{name}.py");
            directory.below("src", &file).find_map(|package| {
                let path = format!("src/{package}/{file}");
                let text = directory.text(&path)?;
                look(path, format!("{package}.{name}"), Some("src"), text)
            })
        })
    };
    let in_package = || {
        packages.iter().find_map(|(package, inner)| {
            USUAL.iter().find_map(|name| {
                let text = inner.text(&format!("{name}.py"))?;
                look(format!("{package}/{name}.py"), format!("{package}.{name}"), None, text)
            })
        })
    };
    own.or_else(below_src).or_else(in_package)
}

/// The variable of `app = FastAPI(…)`, and whether it is Flask's.
fn variable(text: &str) -> Option<(String, bool)> {
    text.lines().find_map(|line| {
        let (variable, value) = line.split_once('=')?;
        // An annotation stands between the name and the sign.
        let variable = variable.split(':').next().unwrap_or_default().trim_end();
        let is_name = !variable.is_empty() && variable.chars().all(|c| c.is_alphanumeric() || c == '_');
        let value = value.trim_start();
        let calls =
            [("FastAPI(", false), ("fastapi.FastAPI(", false), ("Starlette(", false), ("Flask(", true), ("flask.Flask(", true)];
        let (_, is_flask) = calls.into_iter().find(|(call, _)| value.starts_with(call))?;
        is_name.then(|| (variable.to_owned(), is_flask))
    })
}

/// A module that is started by itself.
fn program(directory: &SourceDirectory) -> Option<Script> {
    let python = if list(directory).is_some() { "python" } else { "python3" };
    ["main", "app", "server", "api"].into_iter().find_map(|module| {
        let file = format!("{module}.py");
        let text = directory.text(&file)?;
        let is_program = ["__main__", "serve_forever(", ".run("].iter().any(|sign| text.contains(sign));
        let port = text.contains("PORT").then_some(8000);
        let role = if port.is_some() { "web" } else { "app" };
        is_program.then(|| Script::new(role, format!("{python} {file}"), port, &file))
    })
}

/// The worker of a Celery application, and its scheduler where tasks have a schedule.
fn celery(directory: &SourceDirectory, packages: &[(String, SourceDirectory)], dependencies: &str) -> Vec<Script> {
    // The module, its file and its text.
    type Worker<'a> = (String, String, &'a str);
    fn worker<'a>(place: &'a SourceDirectory, package: Option<&str>) -> Option<Worker<'a>> {
        WORKERS.iter().find_map(|module| {
            let file = format!("{module}.py");
            let text = place.text(&file).filter(|text| text.contains("Celery("))?;
            Some(match package {
                Some(package) => (format!("{package}.{module}"), format!("{package}/{file}"), text),
                None => ((*module).to_owned(), file, text),
            })
        })
    }
    let of_package = || {
        directory.below("", "celery.py").find_map(|package| {
            let file = format!("{package}/celery.py");
            let text = directory.text(&file)?;
            Some((package.to_owned(), file, text))
        })
    };
    let in_package = || packages.iter().find_map(|(name, package)| worker(package, Some(name)));
    // `app/core/celery_app.py`.
    let deeper = || {
        directory.below("app", "celery_app.py").find_map(|package| {
            let file = format!("app/{package}/celery_app.py");
            let text = directory.text(&file)?;
            Some((format!("app.{package}.celery_app"), file, text))
        })
    };
    let Some((module, file, text)) = worker(directory, None).or_else(of_package).or_else(in_package).or_else(deeper) else {
        return Vec::new();
    };
    let one = |role: &str, what: &str| {
        let mut script = Script::new(role, format!("celery -A {module} {what}"), None, &file);
        if dependencies.contains("redis") {
            script.env.push(("CELERY_BROKER_URL", "${redis.url}".to_owned()));
        }
        script
    };
    let mut found = vec![one("worker", "worker --loglevel info")];
    if text.contains("beat_schedule") || dependencies.contains("celery-beat") || dependencies.contains("celery_beat") {
        found.push(one("beat", "beat --loglevel info"));
    }
    found
}
