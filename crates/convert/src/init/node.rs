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
        let run = if lock.is_some() { locked } else { plain }.to_owned();
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
    let (name, options, port) = served(directory.text("package.json")?)?;
    let options = options.map_or(String::new(), |options| format!("{} {options}", manager.options));
    let run = format!("{} run {name}{options}", manager.program);
    Some(Script::new(role, run, port, "package.json").after(install(directory, above)))
}

/// The name of the script that serves, the options by which it gets its port, and the port.
fn served(text: &str) -> Option<(&'static str, Option<&'static str>, Option<u16>)> {
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
    Some((name, found.and_then(|(_, _, options)| options), found.map(|(_, port, _)| port)))
}
