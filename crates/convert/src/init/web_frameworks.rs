//! Applications whose framework says how they are started: Rails, Laravel, Phoenix.

use super::script::{Install, Script};
use super::source_directory::SourceDirectory;

/// How Rails makes and migrates its database.
pub(super) const PREPARE: &str = "pre_start = \"bin/rails db:prepare\"  # makes and migrates the database before each start";

/// What installs the packages of such an application.
pub(super) fn install(directory: &SourceDirectory) -> Option<Install> {
    if directory.has("Gemfile") {
        // Where gems go is bundler's own setting.
        let run = "bundle check || bundle install".to_owned();
        return Some(Install { kind: "bundle", run, fills: None, inputs: Vec::new() });
    }
    if directory.has("composer.json") {
        let run = "composer install --no-interaction".to_owned();
        return Some(Install { kind: "composer", run, fills: Some("vendor"), inputs: vec!["composer.json"] });
    }
    if directory.has("mix.exs") {
        return Some(Install { kind: "mix", run: "mix deps.get".to_owned(), fills: Some("deps"), inputs: vec!["mix.exs"] });
    }
    None
}

pub(super) fn scripts(directory: &SourceDirectory) -> Vec<Script> {
    let mut found = Vec::new();
    let install = || install(directory);
    let gems = directory.text("Gemfile").unwrap_or_default();
    if directory.has("bin/rails") {
        let web = Script::new("web", "bin/rails server -b 127.0.0.1 -p $PORT", Some(3000), "bin/rails");
        found.push(web.after(install()).propose(PREPARE));
        if gems.contains("sidekiq") {
            found.push(Script::new("worker", "bundle exec sidekiq", None, "Gemfile").after(install()));
        }
    }
    if directory.has("artisan") {
        let web = Script::new("web", "php artisan serve --host 127.0.0.1 --port $PORT", Some(8000), "artisan");
        let mut web = web
            .after(install())
            .propose("pre_start = \"php artisan migrate --force\"  # migrates the database before each start");
        for recipe in super::needs::recipes(directory) {
            web.env.extend(of_laravel(recipe));
        }
        found.push(web);
    }
    if directory.text("mix.exs").is_some_and(|text| text.contains(":phoenix")) {
        found.push(Script::new("web", "mix phx.server", Some(4000), "mix.exs").after(install()));
    }
    found
}

/// The variables of Laravel's `.env`, which it takes before those of the file.
fn of_laravel(recipe: &str) -> Vec<(&'static str, String)> {
    let attribute = |name: &str| format!("${{{recipe}.{name}}}");
    match recipe {
        "postgres" | "mariadb" => vec![
            ("DB_HOST", attribute("host")),
            ("DB_PORT", attribute("port")),
            ("DB_DATABASE", attribute("database")),
            ("DB_USERNAME", attribute("user")),
            ("DB_PASSWORD", attribute("password")),
        ],
        "redis" => vec![("REDIS_HOST", attribute("host")), ("REDIS_PORT", attribute("port"))],
        _ => Vec::new(),
    }
}
