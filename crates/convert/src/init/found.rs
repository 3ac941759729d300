//! What was found in the project's directory and one level below it.

use std::collections::{BTreeMap, BTreeSet};

use super::script::{Install, MissingModule, Script};
use super::service_names::{LONGEST_NAME, limited, service_name};
use super::source_directory::SourceDirectory;
use super::{command_files, compiled, needs, node, python, web_frameworks};

/// The role of a bundler next to a server that has its own.
const ASSETS: &str = "assets";

/// What was found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FoundProgram {
    /// What is known of each directory, by its path below the project's.
    places: BTreeMap<String, SourceDirectory>,
    /// Directories with SQL for an empty database.
    pub(super) init: BTreeSet<String>,
    /// Directories with migrations in SQL.
    pub(super) migrations: BTreeSet<String>,
}

impl FoundProgram {
    /// Looks at one file of a directory, by its path below that. `dir` is below the project's; empty is that one.
    pub fn look(&mut self, dir: &str, name: &str, text: &str) {
        self.places.entry(dir.to_owned()).or_default().add(name, text);
    }

    /// Notes a directory with SQL scripts.
    pub fn sql(&mut self, dir: &str) {
        if dir.ends_with("migrations") { &mut self.migrations } else { &mut self.init }.insert(dir.to_owned());
    }

    /// Whether the project's directory has a `.env`.
    pub(super) fn has_env_file(&self) -> bool {
        self.places.get("").is_some_and(|place| place.has(".env"))
    }

    /// The example of an env file in the project's directory.
    pub(super) fn env_sample(&self) -> Option<&'static str> {
        self.places.get("")?.first_of(&[".env.example", ".env.sample", ".env.template", ".env.dist"])
    }

    fn named(&self) -> BTreeSet<&'static str> {
        self.places.values().flat_map(needs::recipes).collect()
    }

    /// Recipes that the dependencies name, or that a directory with SQL needs.
    #[must_use]
    pub fn recipes(&self) -> Vec<String> {
        let mut recipes = self.named();
        if !self.init.is_empty() {
            recipes.insert("postgres");
        }
        recipes.into_iter().map(str::to_owned).collect()
    }

    /// Why a recipe is proposed.
    #[must_use]
    pub fn evidence(&self, recipe: &str) -> String {
        let dir = self.init.first().filter(|_| recipe == "postgres");
        match dir.filter(|_| !self.named().contains(recipe)) {
            Some(dir) if dir == "." => "for the SQL scripts in this directory".to_owned(),
            Some(dir) => format!("for the scripts in {dir}"),
            None => format!("as the dependencies name {}", if recipe == "ferretdb" { "MongoDB" } else { recipe }),
        }
    }

    /// What git must not track, of what is there or will be made.
    #[must_use]
    pub fn to_ignore(&self) -> Vec<String> {
        let mut all = BTreeSet::new();
        for place in self.places.values() {
            if place.has(".env") {
                all.insert(".env".to_owned());
            }
        }
        if self.env_sample().is_some() {
            all.insert(".env".to_owned());
        }
        let filled = self.scripts().into_iter().flat_map(|script| script.installs).filter_map(|install| install.fills);
        all.extend(filled.map(|directory| format!("{directory}/")));
        all.into_iter().collect()
    }

    /// Commands, those of the project's own directory first.
    #[must_use]
    pub fn scripts(&self) -> Vec<Script> {
        let mut scripts: Vec<Script> = Vec::new();
        for (dir, place) in &self.places {
            for mut script in self.scripts_of(dir, place) {
                let last = dir.rsplit('/').next().unwrap_or_default();
                let role = service_name(&script.role);
                let wanted = if last.is_empty() { role.clone() } else { service_name(last) };
                let taken = |name: &str| scripts.iter().any(|script| script.name == name);
                let with_role = limited(&format!("{wanted}-{role}"), LONGEST_NAME);
                script.name = match wanted {
                    name if !taken(&name) => name,
                    _ if !taken(&with_role) => with_role,
                    name => (scripts.len() + 1..)
                        .map(|number| format!("{}{number}", limited(&name, LONGEST_NAME - 6)))
                        .find(|name| !taken(name))
                        .unwrap_or(name),
                };
                script.dir.clone_from(dir);
                if script.reads_port {
                    script.port = self.expected_port(place);
                }
                // What is bundled for a browser has no use for a database.
                script.uses = if script.role == ASSETS { Vec::new() } else { needs::recipes(place) };
                scripts.push(script);
            }
        }
        scripts
    }

    /// The port that a program takes without PORT, where the proxy of a bundler expects it there: an address that is written in a file
    /// does not follow another port.
    fn expected_port(&self, place: &SourceDirectory) -> Option<u16> {
        let is_proxy = |name: &str| name.starts_with("vite.config.") || name == "package.json";
        let proxies = self.places.values().flat_map(SourceDirectory::texts).filter(|(name, _)| is_proxy(name));
        let addresses =
            proxies.flat_map(|(_, text)| ["localhost:", "127.0.0.1:"].into_iter().flat_map(|host| text.split(host).skip(1)));
        let numbers = addresses.filter_map(|rest| rest.split(|char: char| !char.is_ascii_digit()).next()?.parse::<u16>().ok());
        let is_usual = |number: &u16| {
            let number = number.to_string();
            let is_word = |line: &str| line.split(|char: char| !char.is_ascii_alphanumeric()).any(|word| word == number);
            place.texts().flat_map(|(_, text)| text.lines()).any(|line| line.contains("PORT") && is_word(line))
        };
        numbers.into_iter().find(is_usual)
    }

    /// Applications that cannot be started, as it is not known where they are.
    #[must_use]
    pub fn missing_modules(&self) -> Vec<MissingModule> {
        let mut found = Vec::new();
        // The lines of a Procfile say what runs.
        for (dir, place) in self.places.iter().filter(|(_, place)| command_files::procfile(place).is_empty()) {
            let packages = self.packages_of(dir, place);
            found.extend(python::missing_module(place, &packages).map(|missing| MissingModule { dir: dir.clone(), ..missing }));
        }
        found
    }

    /// The directories below one with dependencies that have none of their own, by name.
    fn packages_of(&self, dir: &str, place: &SourceDirectory) -> Vec<(String, SourceDirectory)> {
        if !python::has_dependencies(place) {
            return Vec::new();
        }
        if !dir.is_empty() {
            return place.packages();
        }
        let below = self.places.iter().filter(|(name, place)| !name.is_empty() && !python::has_dependencies(place));
        below.map(|(name, place)| (name.clone(), place.clone())).collect()
    }

    /// What is started in one directory.
    fn scripts_of(&self, dir: &str, place: &SourceDirectory) -> Vec<Script> {
        let above = self.places.get("").filter(|_| !dir.is_empty());
        let python_above = above.is_some_and(python::has_dependencies);
        let packages = self.packages_of(dir, place);
        let lines = command_files::procfile(place);
        if !lines.is_empty() {
            // They say what runs; what they need is installed all the same.
            let installs: Vec<Install> = [python::install(place), web_frameworks::install(place), node::install(place, above)]
                .into_iter()
                .flatten()
                .collect();
            let proposals = |line: &Script| {
                let of_rails = place.has("bin/rails") && line.run.contains("rails s");
                if of_rails { vec![web_frameworks::PREPARE.to_owned()] } else { Vec::new() }
            };
            return lines
                .into_iter()
                .map(|line| Script { installs: installs.clone(), proposals: proposals(&line), ..line })
                .collect();
        }
        let mut found = web_frameworks::scripts(place);
        // A package of the program above is started from there.
        let is_package = python_above && !python::has_dependencies(place) && python::has_application(place);
        if !is_package {
            found.extend(python::scripts(place, &packages));
        }
        found.extend(node::scripts(place, above, if found.is_empty() { "web" } else { ASSETS }));
        found.extend(compiled::scripts(place));
        if found.is_empty() {
            found.extend(command_files::others(place));
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::FoundProgram;

    /// What is found in a tree of files: `NAME: COMMAND` for each service, the tasks that install, and the recipes.
    fn found(files: &[(&str, &str)]) -> String {
        let mut found = FoundProgram::default();
        for (path, text) in files {
            let (dir, name) = path.split_once("//").unwrap_or(("", path));
            found.look(dir, name, text);
        }
        let mut lines: Vec<String> = found.scripts().iter().map(|script| format!("{}: {}", script.name, script.run)).collect();
        let mut installs: Vec<String> =
            found.scripts().into_iter().flat_map(|script| script.installs).map(|install| install.run).collect();
        installs.dedup();
        lines.extend(installs);
        lines.extend(found.recipes());
        lines.join("\n")
    }

    #[test]
    fn each_kind_of_project_gets_its_own_commands() {
        let vite = r#"{"scripts": {"dev": "vite"}}"#;
        let fastapi = "from fastapi import FastAPI\napp = FastAPI()\n";
        let spring = "<artifactId>spring-boot-starter-parent</artifactId> <artifactId>postgresql</artifactId>";
        let laravel = "DB_CONNECTION=mysql\nQUEUE_CONNECTION=redis\n";
        for (files, expected) in [
            (
                &[("package.json", vite), ("pnpm-lock.yaml", "")][..],
                "web: pnpm run dev --port $PORT --strictPort\npnpm install --frozen-lockfile",
            ),
            (&[("package.json", vite), ("package-lock.json", "")], "web: npm run dev -- --port $PORT --strictPort\nnpm ci"),
            (
                &[("package.json", r#"{"packageManager": "yarn@4.1.0", "scripts": {"start": "node ."}}"#)],
                "web: yarn run start\nyarn install",
            ),
            (
                &[("package.json", "{}"), ("yarn.lock", ""), ("site//package.json", vite)],
                "site: yarn run dev --port $PORT --strictPort\nyarn install",
            ),
            (
                &[("pyproject.toml", "fastapi"), ("uv.lock", ""), ("src/x/main.py", fastapi)],
                "web: uvicorn x.main:app --reload --host 127.0.0.1 --port $PORT --app-dir src\nuv venv --allow-existing --quiet && uv sync",
            ),
            (
                &[("requirements.txt", "fastapi"), ("app//main.py", fastapi)],
                "web: uvicorn app.main:app --reload --host 127.0.0.1 --port $PORT\npython3 -m venv --clear .venv && .venv/bin/pip install -r requirements.txt",
            ),
            (
                &[("backend//requirements.txt", "fastapi"), ("backend//app/main.py", fastapi)],
                "backend: uvicorn app.main:app --reload --host 127.0.0.1 --port $PORT\npython3 -m venv --clear .venv && .venv/bin/pip install -r requirements.txt",
            ),
            // A guess without a file does not become a command.
            (&[("backend//requirements.txt", "fastapi"), ("backend//deep/er/main.py", fastapi)], ""),
            (&[("requirements.txt", "flask")], ""),
            (
                &[("requirements.txt", "flask"), ("shop//__init__.py", "def create_app():\n")],
                "web: flask --app shop run --port $PORT\npython3 -m venv --clear .venv && .venv/bin/pip install -r requirements.txt",
            ),
            (
                &[
                    ("backend//requirements.txt", "fastapi\ncelery\n"),
                    ("backend//app/main.py", fastapi),
                    ("backend//app/worker.py", "celery = Celery('x')\n"),
                ],
                "backend: uvicorn app.main:app --reload --host 127.0.0.1 --port $PORT\nbackend-worker: celery -A app.worker worker --loglevel info\npython3 -m venv --clear .venv && .venv/bin/pip install -r requirements.txt",
            ),
            (
                &[("requirements.txt", "celery"), ("app/core/celery_app.py", "app = Celery('x')\n")],
                "worker: celery -A app.core.celery_app worker --loglevel info\npython3 -m venv --clear .venv && .venv/bin/pip install -r requirements.txt",
            ),
            (
                &[("requirements.txt", "celery"), ("app//tasks.py", "app = Celery('x')\n")],
                "worker: celery -A app.tasks worker --loglevel info\npython3 -m venv --clear .venv && .venv/bin/pip install -r requirements.txt",
            ),
            (
                &[
                    ("manage.py", ""),
                    ("requirements.txt", "django\ncelery[redis]\n"),
                    ("proj/celery.py", "app = Celery('proj')\napp.conf.beat_schedule = {}\n"),
                ],
                "web: python manage.py runserver 127.0.0.1:$PORT\nworker: celery -A proj worker --loglevel info\nbeat: celery -A proj beat --loglevel info\npython3 -m venv --clear .venv && .venv/bin/pip install -r requirements.txt\nredis",
            ),
            (
                &[("go.mod", "require github.com/jackc/pgx/v5"), ("cmd/api/main.go", ""), ("cmd/worker/main.go", "")],
                "api: go run ./cmd/api\nworker: go run ./cmd/worker\npostgres",
            ),
            (&[("go.mod", ""), ("main.go", "")], "app: go run ."),
            (&[("Cargo.toml", "[package]"), ("src/main.rs", "")], "app: cargo run"),
            (&[("Cargo.toml", "[package]"), ("src/lib.rs", "")], ""),
            (
                &[("pom.xml", spring), ("mvnw", "")],
                "web: ./mvnw spring-boot:run -Dspring-boot.run.arguments=--server.port=$PORT\npostgres",
            ),
            (&[("build.gradle", "id 'org.springframework.boot'")], "web: gradle bootRun --args=--server.port=$PORT"),
            (
                &[("artisan", ""), ("composer.json", "{}"), (".env", laravel), ("package.json", vite)],
                "web: php artisan serve --host 127.0.0.1 --port $PORT\nassets: npm run dev -- --port $PORT --strictPort\ncomposer install --no-interaction\nrm -rf node_modules && npm install\nmariadb\nredis",
            ),
            (
                &[("Gemfile", "gem 'pg'\ngem 'sidekiq'"), ("bin/rails", "")],
                "web: bin/rails server -b 127.0.0.1 -p $PORT\nworker: bundle exec sidekiq\nbundle check || bundle install\npostgres\nredis",
            ),
            (
                &[
                    ("Gemfile", ""),
                    ("bin/rails", ""),
                    ("Procfile.dev", "# dev\nweb: bin/rails server -p $PORT\ncss: yarn watch\nrelease: x\n"),
                ],
                "web: bin/rails server -p $PORT\ncss: yarn watch\nbundle check || bundle install",
            ),
            (&[("mix.exs", "{:phoenix, \"~> 1.7\"}, {:postgrex, \">= 0.0.0\"}")], "web: mix phx.server\nmix deps.get\npostgres"),
            (&[("deno.json", r#"{"tasks": {"dev": "deno run main.ts"}}"#)], "app: deno task dev"),
            (&[("Makefile", "run := x\nserve: build\n\t./x\n")], "app: make serve"),
            (
                &[
                    ("package.json", r#"{"dependencies": {"@prisma/client": "5"}}"#),
                    ("prisma/schema.prisma", "provider = \"postgresql\""),
                ],
                "postgres",
            ),
            (&[("package.json", r#"{"dependencies": {"mongoose": "8", "amqplib": "0.10"}}"#)], "ferretdb\nrabbitmq"),
        ] {
            assert_eq!(found(files), expected, "{files:?}");
        }
    }
}
