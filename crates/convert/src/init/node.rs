//! Programs of a `package.json`, started and installed by the package manager whose lock file is there.

use super::script::{Install, Script};
use super::source_directory::SourceDirectory;

/// A package manager.
struct Manager {
    program: &'static str,
    /// With and without a lock file.
    install: [&'static str; 2],
    locks: &'static [&'static str],
    /// What stands between a script's name and its options.
    options: &'static str,
}

const NPM: Manager =
    Manager { program: "npm", install: ["npm ci", "npm install"], locks: &["package-lock.json"], options: " --" };
const OTHERS: &[Manager] = &[
    Manager {
        program: "pnpm",
        install: ["pnpm install --frozen-lockfile", "pnpm install"],
        locks: &["pnpm-lock.yaml"],
        options: "",
    },
    Manager { program: "yarn", install: ["yarn install", "yarn install"], locks: &["yarn.lock"], options: "" },
    Manager { program: "bun", install: ["bun install", "bun install"], locks: &["bun.lock", "bun.lockb"], options: "" },
];

impl Manager {
    /// The one of a directory: by its lock file, by what `package.json` names, by that of the directory above.
    fn of(directory: &SourceDirectory, above: Option<&SourceDirectory>) -> &'static Self {
        let named = |package: &str| {
            let json = serde_json::from_str::<serde_json::Value>(package).ok()?;
            let name = json.get("packageManager")?.as_str()?.split('@').next()?.to_owned();
            OTHERS.iter().find(|manager| manager.program == name)
        };
        let in_one = |directory: &SourceDirectory| {
            let locked = OTHERS.iter().find(|manager| directory.first_of(manager.locks).is_some());
            locked.or_else(|| directory.text("package.json").and_then(named))
        };
        if directory.has("package-lock.json") {
            return &NPM;
        }
        in_one(directory).or_else(|| above.and_then(in_one)).unwrap_or(&NPM)
    }

    fn install(&self, directory: &SourceDirectory) -> Install {
        let lock = directory.first_of(self.locks);
        let [locked, plain] = self.install;
        // As `npm ci` does: `npm install` takes a package for complete of which an interrupted run has left a part.
        let run = match lock {
            Some(_) => locked.to_owned(),
            None if self.program == "npm" => format!("rm -rf node_modules && {plain}"),
            None => plain.to_owned(),
        };
        Install {
            kind: self.program,
            run,
            fills: Some("node_modules"),
            inputs: ["package.json"].into_iter().chain(lock).collect(),
        }
    }
}

/// What installs the packages of a directory.
pub(super) fn install(directory: &SourceDirectory, above: Option<&SourceDirectory>) -> Option<Install> {
    directory.has("package.json").then(|| Manager::of(directory, above).install(directory))
}

/// The script that serves. `above` is the directory above, which may be a workspace with this one in it.
pub(super) fn scripts(directory: &SourceDirectory, above: Option<&SourceDirectory>, role: &str) -> Option<Script> {
    let manager = Manager::of(directory, above);
    let package = directory.text("package.json")?;
    let Served { name, options, port, command } = served(package)?;
    let reads_port = port.is_none() && reads_port(directory, package, &command);
    let options = options.map_or(String::new(), |options| format!("{} {options}", manager.options));
    let run = format!("{} run {name}{options}", manager.program);
    let script = Script { reads_port, ..Script::new(role, run, port, "package.json") };
    Some(script.after(install(directory, above)))
}

/// Programs that run a source file.
const RUNNERS: &[&str] =
    &["node", "nodemon", "tsx", "ts-node", "ts-node-dev", "tsnd", "bun", "nest", "babel-node", "vite-node", "swc-node"];
/// Files that usually start a server, where the script names none that is there.
const USUAL: &[&str] = &["server", "index", "app", "main", "src/server", "src/index", "src/main", "src/app"];

/// Files of the directory that a `package.json` names: the words of its scripts and its `main`.
#[must_use]
pub fn named_files(package: &str) -> Vec<String> {
    let Ok(json) = serde_json::from_str::<serde_json::Value>(package) else { return Vec::new() };
    let scripts = json.get("scripts").and_then(serde_json::Value::as_object);
    let commands = scripts.into_iter().flat_map(|scripts| scripts.values()).filter_map(serde_json::Value::as_str);
    let main = json.get("main").and_then(serde_json::Value::as_str);
    commands.chain(main).flat_map(files_of).take(MAX_NAMED_FILES).collect()
}

/// The most files that a `package.json` is asked for.
const MAX_NAMED_FILES: usize = 20;

/// The words of a command that are source files below the directory.
fn files_of(command: &str) -> impl Iterator<Item = String> {
    let words = command.split(|char: char| char.is_whitespace() || matches!(char, '"' | '\'' | ';' | '&'));
    words.filter_map(|word| {
        let word = word.strip_prefix("./").unwrap_or(word);
        let is_source = word == "bin/www" || word.rsplit_once('.').is_some_and(|(_, end)| SOURCES.contains(&end));
        let is_below = !word.starts_with(['/', '-']) && !word.split('/').any(|part| part == "..");
        (is_source && is_below).then(|| word.to_owned())
    })
}

/// Endings of source files.
const SOURCES: &[&str] = &["js", "mjs", "cjs", "ts", "mts", "cts"];

/// Whether the source that a command runs takes its port from PORT.
fn reads_port(directory: &SourceDirectory, package: &str, command: &str) -> bool {
    let is_runner = |word: &str| RUNNERS.contains(&word.rsplit('/').next().unwrap_or(word));
    if !command.split(|char: char| char.is_whitespace() || matches!(char, '"' | '\'')).any(is_runner) {
        return false;
    }
    // A command that sets the variable itself listens where it says.
    if command.split_whitespace().any(|word| word.starts_with("PORT=")) {
        return false;
    }
    let named: Vec<String> = files_of(command).filter(|file| directory.has(file)).collect();
    if !named.is_empty() {
        return named.iter().filter_map(|file| directory.text(file)).any(names_port);
    }
    let main = serde_json::from_str::<serde_json::Value>(package).ok();
    let main = main.and_then(|json| json.get("main")?.as_str().map(str::to_owned));
    let usual = USUAL.iter().flat_map(|name| SOURCES.iter().map(move |end| format!("{name}.{end}")));
    main.into_iter().chain(usual).filter_map(|file| directory.text(&file)).any(names_port)
}

/// `process.env.PORT`, `process.env["PORT"]`, `const { PORT } = process.env`, `Bun.env.PORT`.
fn names_port(text: &str) -> bool {
    let is_word = |line: &str| line.split(|char: char| !char.is_ascii_alphanumeric() && char != '_').any(|word| word == "PORT");
    text.lines().map(str::trim_start).filter(|line| !line.starts_with("//")).any(|line| {
        let of_environment = ["process.env", "Bun.env", "env.PORT"].iter().any(|sign| line.contains(sign));
        of_environment && is_word(line)
    })
}

/// The script that serves.
struct Served {
    name: &'static str,
    /// By which it gets its port.
    options: Option<&'static str>,
    port: Option<u16>,
    command: String,
}

fn served(text: &str) -> Option<Served> {
    let json = serde_json::from_str::<serde_json::Value>(text).ok()?;
    let scripts = json.get("scripts")?.as_object()?;
    let name = ["dev", "start:dev", "start", "serve", "watch"].into_iter().find(|name| scripts.contains_key(*name))?;
    let command = scripts.get(name)?.as_str().unwrap_or_default();
    // Those with options do not read PORT.
    let known = [
        ("vite", 5173, Some("--port $PORT --strictPort")),
        ("next", 3000, None),
        ("nuxt", 3000, None),
        ("react-scripts", 3000, None),
        ("ng ", 4200, Some("--port $PORT")),
        ("astro", 4321, Some("--port $PORT")),
    ];
    let found = known.into_iter().find(|(word, ..)| command.contains(word));
    Some(Served {
        name,
        options: found.and_then(|(_, _, options)| options),
        port: found.map(|(_, port, _)| port),
        command: command.to_owned(),
    })
}
