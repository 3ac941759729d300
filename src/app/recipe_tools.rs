//! The programs of the recipes of a stack (`psql`, `redis-cli`) for commands that run next to it: those that the caller's PATH does
//! not have, and those of the versions that were fetched.
//!
//! A fetched program may need variables of its own, such as `LD_LIBRARY_PATH`. The command gets none of them: a script of the
//! program's name sets them for it.

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use devrun_model::{Failure, FailureKind, Launch, ServiceSpec};
use devrun_runtime::runtime_dir;
use devrun_store::Located;

use crate::app::load;
use crate::app::project::Project;

/// Below the runtime directory, which ends with the stack.
const DIRECTORY: &str = "tools";

/// Puts the recipes' programs before the PATH of `env`.
///
/// # Errors
/// `Config` where the scripts cannot be written.
pub async fn add_to_path<'a>(
    project: &Project,
    specs: impl Iterator<Item = &'a ServiceSpec>,
    env: &mut BTreeMap<String, String>,
) -> Result<(), Failure> {
    let options = load::fetch_options(project, true, None, Arc::new(devrun_store::NoDownloadProgress));
    let path = env.get("PATH").cloned().unwrap_or_default();
    let mut scripts: BTreeMap<String, String> = BTreeMap::new();
    for spec in specs {
        let Launch::Recipe(recipe) = &spec.launch else { continue };
        // What is not there was said by the start of its service.
        let Ok(located) = devrun_store::which(recipe, &options).await else { continue };
        for (name, program) in wanted(&located, &path) {
            scripts.entry(name.to_owned()).or_insert_with(|| script(program, &located.env));
        }
    }
    if scripts.is_empty() {
        return Ok(());
    }
    let directory = project.places.run.join(DIRECTORY);
    write(project, &directory, &scripts).map_err(|error| {
        Failure::new(FailureKind::Config, format!("cannot write {}: {error}", directory.display()))
            .help("check the permissions and the space of the runtime directory")
    })?;
    let joined = if path.is_empty() { directory.display().to_string() } else { format!("{}:{path}", directory.display()) };
    env.insert("PATH".to_owned(), joined);
    Ok(())
}

/// Names of programs that a recipe may bring.
#[must_use]
pub fn names<'a>(specs: impl Iterator<Item = &'a ServiceSpec>) -> BTreeSet<String> {
    let recipes = specs.filter_map(|spec| match &spec.launch {
        Launch::Recipe(recipe) => Some(&recipe.recipe),
        _ => None,
    });
    recipes.flat_map(devrun_store::tool_names).collect()
}

/// What the caller's PATH lacks, or has in another version than the fetched one.
fn wanted<'a>(located: &'a Located, path: &'a str) -> impl Iterator<Item = (&'a str, &'a Path)> {
    let is_on_path = move |name: &str| std::env::split_paths(path).any(|directory| directory.join(name).is_file());
    let is_system = located.origin == "system";
    let tools = located.tools.iter().map(|(name, program)| (name.as_str(), program.as_path()));
    tools.filter(move |(name, _)| !is_system || !is_on_path(name))
}

fn script(program: &Path, env: &BTreeMap<String, String>) -> String {
    let quoted = |text: &str| format!("'{}'", text.replace('\'', r"'\''"));
    let variables: String = env.iter().map(|(name, value)| format!("export {name}={}\n", quoted(value))).collect();
    format!("#!/bin/sh\n{variables}exec {} \"$@\"\n", quoted(&program.display().to_string()))
}

fn write(project: &Project, directory: &PathBuf, scripts: &BTreeMap<String, String>) -> std::io::Result<()> {
    runtime_dir::prepare(&project.places).map_err(|failure| std::io::Error::other(failure.reason))?;
    std::fs::create_dir_all(directory)?;
    for (name, text) in scripts {
        let file = directory.join(name);
        if std::fs::read(&file).is_ok_and(|there| there == text.as_bytes()) {
            continue;
        }
        // By a rename: another command may run the script at this moment.
        runtime_dir::replace(&file, text.as_bytes())?;
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o700))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_script_sets_what_its_program_needs_and_keeps_the_words() {
        let env = BTreeMap::from([("LD_LIBRARY_PATH".to_owned(), "/a b/it's".to_owned())]);
        assert_eq!(
            script(Path::new("/s/bin/psql"), &env),
            "#!/bin/sh\nexport LD_LIBRARY_PATH='/a b/it'\\''s'\nexec '/s/bin/psql' \"$@\"\n"
        );
    }

    #[test]
    fn the_callers_own_programs_stay_unless_another_version_was_fetched() {
        let tools = BTreeMap::from([("sh".to_owned(), "/x/sh".into()), ("no-such-tool".to_owned(), "/x/no-such-tool".into())]);
        let mut located = Located {
            recipe: "x".to_owned(),
            version: String::new(),
            tools,
            env: BTreeMap::new(),
            origin: "system".to_owned(),
            why: String::new(),
        };
        let names = |located: &Located| wanted(located, "/bin:/usr/bin").map(|(name, _)| name.to_owned()).collect::<Vec<_>>();
        assert_eq!(names(&located), ["no-such-tool"]);
        located.origin = "store".to_owned();
        assert_eq!(names(&located), ["no-such-tool", "sh"]);
    }
}
