//! The text of a first procfile.

use std::collections::BTreeSet;

use super::super::toml_writer::{Procfile, Section, Toml, quoted};
use super::found::FoundProgram;
use super::needs;
use super::script::{Install, Script};
use super::service_names::service_name;

/// The procfile's text. `schema` is where the JSON Schema of procfiles can be read.
#[must_use]
pub fn draft(found: &FoundProgram, schema: &str) -> String {
    let mut file = Procfile {
        above: vec![
            "A first procfile, written by `devrun init`. `devrun up` starts it, `devrun check` looks for mistakes.".to_owned(),
            "The keys below are what was found in this directory; `devrun help --markdown procfile` lists all there are."
                .to_owned(),
        ],
        ..Procfile::default()
    };
    let sample = found.env_sample();
    if found.has_env_file() || sample.is_some() {
        file.project.set("env_file", Toml::texts([".env"]));
    }
    if let Some(sample) = sample {
        file.project.set("env_sample", Toml::text(sample));
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
        let mut section = section_of(script, &recipes, &scripts);
        // Programs of such projects expect it in their environment; `[project] env_file` is for placeholders alone.
        if found.has_env_file() || sample.is_some() {
            section.set("env_file", Toml::texts([".env"]));
        }
        file.services.push((script.name.clone(), section));
        for install in &script.installs {
            let name = task_name(install, &scripts, script);
            if !file.tasks.iter().any(|(known, _)| *known == name) {
                add_install(&mut file, &name, install, script);
            }
        }
    }
    if file.services.is_empty() {
        let mut section = Section {
            above: vec!["Nothing was found that starts by itself: put your command here.".to_owned()],
            ..Section::default()
        };
        section.set("run", Toml::text("echo hello from devrun; sleep 3600"));
        file.services.push(("app".to_owned(), section));
    }
    for missing in found.missing_modules() {
        let name = service_name(missing.dir.rsplit('/').next().unwrap_or_default());
        file.below.push(format!("{missing}. Put its module in the place of MODULE:"));
        file.below.push(format!("[services.{name}]"));
        file.below.push(format!("run = {}", quoted(missing.run)));
        if !missing.dir.is_empty() {
            file.below.push(format!("dir = {}", quoted(&missing.dir)));
        }
        file.below.push(format!("port = {}", missing.port));
        file.below.push(String::new());
    }
    if !file.services.iter().any(|(name, _)| name == "worker") {
        let on = scripts.first().map(|script| script.name.as_str()).or(file.services.first().map(|(name, _)| name.as_str()));
        let on = on.unwrap_or("web");
        file.below.extend([
            "More:".to_owned(),
            "[services.worker]".to_owned(),
            "run        = \"COMMAND\"".to_owned(),
            format!("depends_on = [\"{on}\"]         # waits until {on} is healthy, or started where it has no probe"),
            "restart    = \"on-failure\"    # no, on-failure[:n], always, unless-stopped".to_owned(),
        ]);
    }
    format!("#:schema {schema}\n{}", file.text())
}

fn section_of(script: &Script, recipes: &[String], scripts: &[Script]) -> Section {
    let from = if script.dir.is_empty() { script.from.clone() } else { format!("{}/{}", script.dir, script.from) };
    let mut section = Section { above: vec![format!("From {from}.")], ..Section::default() };
    match &script.fault {
        // A line for a shell that `check` would refuse is left to the shell.
        Some(fault) => {
            section.above.push(format!("{fault}."));
            section.set("run", Toml::texts(["sh", "-c", &script.run]));
        }
        None => section.set("run", Toml::text(script.run.clone())),
    }
    if script.is_shell && script.fault.is_none() {
        section.set("shell", Toml::Bool(true));
    }
    if !script.dir.is_empty() {
        section.set("dir", Toml::text(script.dir.clone()));
    }
    section.below.extend(script.proposals.iter().cloned());
    if let Some(build) = &script.build {
        section.below.push(format!("build = {}  # run by `devrun build`", quoted(build)));
    }
    let port = script.port.map(|port| Toml::Integer(i64::from(port)));
    if let Some(port) = port.or_else(|| script.reads_port.then(|| Toml::text("auto"))) {
        section.set("port", port);
        section.below.push("ready = { http = \"/\" }  # a path that answers once it serves; without it, an open port".to_owned());
    }
    let mut needed: Vec<String> = recipes.iter().filter(|recipe| script.uses.contains(&recipe.as_str())).cloned().collect();
    let usual =
        needed.iter().flat_map(|recipe| needs::variables(recipe)).map(|(name, value)| ((*name).to_owned(), Toml::text(*value)));
    let mut env: Vec<(String, Toml)> = usual.collect();
    env.extend(script.env.iter().map(|(name, value)| ((*name).to_owned(), Toml::text(value.clone()))));
    needed.extend(script.installs.iter().map(|install| task_name(install, scripts, script)));
    if !needed.is_empty() {
        section.set("depends_on", Toml::texts(needed));
    }
    if !env.is_empty() {
        section.set("env", Toml::Table(env));
    }
    section
}

/// `venv` where only one directory has such a task, else `api-venv`.
fn task_name(install: &Install, scripts: &[Script], script: &Script) -> String {
    let with_it = scripts.iter().filter(|other| other.installs.iter().any(|other| other.kind == install.kind));
    let directories: BTreeSet<&str> = with_it.clone().map(|other| other.dir.as_str()).collect();
    let is_taken = scripts.iter().any(|other| other.name == install.kind);
    if directories.len() == 1 && !is_taken {
        return install.kind.to_owned();
    }
    // Scripts of one directory share it, under the name of the first.
    let first = with_it.clone().find(|other| other.dir == script.dir).unwrap_or(script);
    format!("{}-{}", first.name, install.kind)
}

/// The task, and the volume with its sentinel: the directory that it fills, so that one that is deleted is made again.
fn add_install(file: &mut Procfile, name: &str, install: &Install, script: &Script) {
    let below = |path: &str| if script.dir.is_empty() { path.to_owned() } else { format!("{}/{path}", script.dir) };
    let mut section = Section::default();
    section.set("run", Toml::text(install.run.clone()));
    if !script.dir.is_empty() {
        section.set("dir", Toml::text(script.dir.clone()));
    }
    if let Some(fills) = install.fills {
        let volume = vec![("path".to_owned(), Toml::text(below(fills))), ("class".to_owned(), Toml::text("cache"))];
        file.volumes.set(name, Toml::Table(volume));
        section.above.push("Runs once, and again when its inputs have changed".to_owned());
        section.set("once", Toml::text(format!("{name}/.installed")));
        section.set("inputs", Toml::texts(install.inputs.iter().map(|file| below(file))));
        section.set("on_change", Toml::text("rerun"));
    }
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
            (found.scripts().first().map(|script| script.run.clone()).unwrap_or_default(), draft(&found, "x"))
        };
        assert!(run(&["app.py"]).0.starts_with("uvicorn app:app "));
        assert!(run(&["app.py", "main.py"]).0.starts_with("uvicorn main:app "));
        let (command, text) = run(&[]);
        assert_eq!(command, "");
        let comment = "# requirements.txt names FastAPI, but no module with its application was found. Put its module in the place of MODULE:\n# [services.web]\n# run = \"uvicorn MODULE:app --reload";
        assert!(text.contains(comment), "{text}");
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
    fn a_program_that_reads_port_gets_a_free_one() {
        let express = "const app = express();\napp.listen(process.env.PORT || 3000);\n";
        let other = "setInterval(work, 1000);\n";
        let dev = |command: &str| format!("{{\"main\": \"lib/start.js\", \"scripts\": {{\"dev\": \"{command}\"}}}}");
        let go = "func main() { http.ListenAndServe(\":\"+os.Getenv(\"PORT\"), nil) }\n";
        let port = |files: &[(&str, &str)]| {
            let mut found = FoundProgram::default();
            files.iter().for_each(|(name, text)| found.look("", name, text));
            let text = draft(&found, "x");
            let table: toml::Table = toml::from_str(&text).unwrap_or_else(|error| panic!("{error}\n{text}"));
            let services = table["services"].as_table().cloned().unwrap_or_default();
            services.values().map(|service| service.get("port").map(ToString::to_string).unwrap_or_default()).collect::<Vec<_>>()
        };
        let auto = ["\"auto\""];
        assert_eq!(port(&[("package.json", &dev("nodemon src/index.js")), ("src/index.js", express)]), auto);
        assert_eq!(port(&[("package.json", &dev("node --watch .")), ("lib/start.js", express)]), auto);
        assert_eq!(
            port(&[("package.json", &dev("nest start --watch")), ("src/main.ts", "listen(process.env.PORT ?? 3000)")]),
            auto
        );
        assert_eq!(port(&[("package.json", &dev("tsx a.ts")), ("a.ts", "const { PORT = 3000 } = process.env\n")]), auto);
        // The file that is named counts, and what only compiles listens nowhere.
        assert_eq!(port(&[("package.json", &dev("node worker.js")), ("worker.js", other), ("server.js", express)]), [""]);
        assert_eq!(port(&[("package.json", &dev("tsc --watch")), ("src/index.ts", express)]), [""]);
        assert_eq!(port(&[("package.json", &dev("PORT=4000 node server.js")), ("server.js", express)]), [""]);
        assert_eq!(port(&[("package.json", &dev("node server.js")), ("server.js", "x(process.env.DB_PORT)\n")]), [""]);
        // Where a proxy expects it, as an address in a file does not follow another port.
        let server = "app.listen(process.env.PORT || 3001)\n";
        let proxy = "server: { proxy: { '/api': 'http://localhost:3001' } }";
        assert_eq!(port(&[("package.json", &dev("node server.js")), ("server.js", server), ("vite.config.ts", proxy)]), ["3001"]);
        assert_eq!(port(&[("package.json", &dev("node server.js")), ("server.js", express), ("vite.config.ts", proxy)]), auto);
        assert_eq!(port(&[("go.mod", ""), ("main.go", go)]), auto);
        assert_eq!(port(&[("go.mod", ""), ("main.go", "func main() {}")]), [""]);
        assert_eq!(port(&[("go.mod", ""), ("cmd/api/main.go", go), ("cmd/job/main.go", "")]), ["\"auto\"", ""]);
        assert_eq!(super::super::named_files(&dev("node ./a.js ../b.js /c.js && x d.txt")), ["a.js", "lib/start.js"]);
    }

    #[test]
    fn a_procfile_keeps_what_it_has_without_one() {
        let table = |env: &str| {
            let mut found = FoundProgram::default();
            found.look("", "Procfile", "web: node web.js\nworker: node worker.js\necho: echo $PORT && sleep 1000\n");
            if !env.is_empty() {
                found.look("", ".env", env);
            }
            let text = draft(&found, "x");
            toml::from_str::<toml::Table>(&text).unwrap_or_else(|error| panic!("{error}\n{text}"))["services"].clone()
        };
        let plain = table("");
        assert_eq!(plain["web"]["port"].as_integer(), Some(5000));
        assert!(plain["worker"].get("port").is_none() && plain["worker"].get("env").is_none());
        assert!(plain["echo"].get("port").is_none(), "nothing says that it listens");
        assert_eq!(plain["echo"]["env"]["PORT"].as_str(), Some("5200"));
        assert!(plain["web"].get("env_file").is_none());
        let with = table("A=1\nexport PORT=7000\n");
        assert_eq!((with["web"]["port"].as_integer(), with["echo"]["env"]["PORT"].as_str()), (Some(7000), Some("7200")));
        for name in ["web", "worker", "echo"] {
            assert_eq!(with[name]["env_file"].to_string(), "[\".env\"]", "{name}");
        }
    }

    #[test]
    fn the_text_around_what_was_found_fits_the_project() {
        let mut found = FoundProgram::default();
        found.look("", "Procfile", "web: ./serve\nworker: ./work\n");
        found.look("", ".env.example", "A=1\n");
        let text = draft(&found, "x");
        assert!(!text.contains("# [services.worker]") && !text.contains("docs/"), "{text}");
        assert!(text.contains("`devrun help --markdown procfile`"), "{text}");
        let table: toml::Table = toml::from_str(&text).unwrap_or_else(|error| panic!("{error}\n{text}"));
        assert_eq!(table["project"]["env_sample"].as_str(), Some(".env.example"));
        assert_eq!(table["project"]["env_file"].to_string(), "[\".env\"]");
        assert_eq!(found.to_ignore(), [".env"]);
        let mut other = FoundProgram::default();
        other.look("", "go.mod", "");
        other.look("", "cmd/api/main.go", "");
        let text = draft(&other, "x");
        assert!(text.contains("# [services.worker]") && text.contains("# depends_on = [\"api\"]"), "{text}");
    }

    #[test]
    fn one_directory_with_two_servers_gives_them_two_names() {
        let mut found = FoundProgram::default();
        found.look("site", "package.json", "{\"scripts\": {\"start\": \"node .\"}}");
        found.look("site", "manage.py", "");
        let names: Vec<String> = found.scripts().into_iter().map(|script| script.name).collect();
        assert_eq!(names, ["site", "site-assets"]);
        assert_eq!(service_name("My App"), "my-app");
        assert_eq!(service_name("dir"), "web");
    }
}
