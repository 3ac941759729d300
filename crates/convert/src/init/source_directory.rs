//! The files of one directory that say how its program is started.

use std::collections::BTreeMap;

/// Files worth a look in each directory.
pub const LOOKED_AT: &[&str] = &[
    ".env",
    ".env.dist",
    ".env.example",
    ".env.sample",
    ".env.template",
    ".flaskenv",
    "Cargo.toml",
    "Gemfile",
    "Makefile",
    "Pipfile",
    "Procfile",
    "Procfile.dev",
    "__init__.py",
    "api.py",
    "app.py",
    "artisan",
    "app.js",
    "app.mjs",
    "app.ts",
    "asgi.py",
    "bin/rails",
    "bin/www",
    "build.gradle",
    "build.gradle.kts",
    "bun.lock",
    "bun.lockb",
    "celery_app.py",
    "composer.json",
    "config/config.go",
    "deno.json",
    "deno.jsonc",
    "go.mod",
    "gradlew",
    "index.js",
    "index.mjs",
    "index.ts",
    "internal/config/config.go",
    "main.go",
    "main.js",
    "main.py",
    "main.ts",
    "manage.py",
    "mix.exs",
    "mvnw",
    "package-lock.json",
    "package.json",
    "pnpm-lock.yaml",
    "pnpm-workspace.yaml",
    "poetry.lock",
    "pom.xml",
    "prisma/schema.prisma",
    "pyproject.toml",
    "requirements-dev.txt",
    "requirements.txt",
    "requirements/base.txt",
    "requirements/dev.txt",
    "requirements/local.txt",
    "server.js",
    "server.mjs",
    "server.py",
    "server.ts",
    "src/app.js",
    "src/app.ts",
    "src/index.js",
    "src/index.ts",
    "src/lib.rs",
    "src/main.js",
    "src/main.rs",
    "src/main.ts",
    "src/server.js",
    "src/server.ts",
    "tasks.py",
    "uv.lock",
    "vite.config.js",
    "vite.config.mjs",
    "vite.config.ts",
    "worker.py",
    "wsgi.py",
    "yarn.lock",
];

/// Files in directories of any name: what stands before and after that name.
pub const LOOKED_BELOW: &[(&str, &str)] = &[
    ("", "__init__.py"),
    ("", "api.py"),
    ("", "app.py"),
    ("", "asgi.py"),
    ("", "celery.py"),
    ("", "celery_app.py"),
    ("", "main.py"),
    ("", "server.py"),
    ("", "tasks.py"),
    ("", "worker.py"),
    ("", "wsgi.py"),
    ("app", "celery_app.py"),
    ("cmd", "main.go"),
    ("src", "api.py"),
    ("src", "app.py"),
    ("src", "asgi.py"),
    ("src", "main.py"),
    ("src", "server.py"),
    ("src", "wsgi.py"),
];

/// Directories with what was installed or built: nothing of the project's own.
const NOT_OURS: &[&str] = &["node_modules", "target", "venv", "dist", "build", "vendor", "__pycache__"];

/// Whether a directory of this name can hold source files of the project.
#[must_use]
pub fn may_hold_source(name: &str) -> bool {
    !name.starts_with('.') && !NOT_OURS.contains(&name)
}

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

/// Files of one directory, by their paths below it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct SourceDirectory {
    files: BTreeMap<String, String>,
}

impl SourceDirectory {
    pub(super) fn add(&mut self, name: &str, text: &str) {
        // Of a lock file it counts that it is there.
        let is_lock =
            name.ends_with(".lock") || name.ends_with("-lock.json") || name.ends_with("-lock.yaml") || name == "bun.lockb";
        self.files.insert(name.to_owned(), if is_lock { String::new() } else { text.to_owned() });
    }
    pub(super) fn has(&self, name: &str) -> bool {
        self.files.contains_key(name)
    }
    pub(super) fn text(&self, name: &str) -> Option<&str> {
        self.files.get(name).map(String::as_str)
    }
    /// Each file that was read.
    pub(super) fn texts(&self) -> impl Iterator<Item = (&str, &str)> {
        self.files.iter().map(|(name, text)| (name.as_str(), text.as_str()))
    }
    /// The first of these that is there.
    pub(super) fn first_of(&self, names: &[&'static str]) -> Option<&'static str> {
        names.iter().find(|name| self.has(name)).copied()
    }
    /// The names of the directories `before/NAME` that have this file.
    pub(super) fn below<'a>(&'a self, before: &'a str, file: &'a str) -> impl Iterator<Item = &'a str> {
        self.files.keys().filter_map(move |path| {
            let rest = if before.is_empty() { path.as_str() } else { path.strip_prefix(before)?.strip_prefix('/')? };
            let name = rest.strip_suffix(file)?.strip_suffix('/')?;
            (!name.is_empty() && !name.contains('/')).then_some(name)
        })
    }
    /// The directories one level below, with the Python modules that lie in them.
    pub(super) fn packages(&self) -> Vec<(String, Self)> {
        let mut found: BTreeMap<String, Self> = BTreeMap::new();
        for (path, text) in &self.files {
            if let Some((name, file)) = path.split_once('/')
                && file.ends_with(".py")
                && !file.contains('/')
            {
                found.entry(name.to_owned()).or_default().add(file, text);
            }
        }
        found.into_iter().collect()
    }
}
