//! What a database of a recipe does at its first boot → files where the images of databases look for them.

use std::path::{Path, PathBuf};

use devrun_model::RecipeUse;

use super::procfile_values::relative;
use super::references::References;
use super::stack::{ContainerMount, MountSource, Workload};
use super::template::ExportText;

/// Its files run there in the order of their names, as the recipe's do.
const DIRECTORY: &str = "/docker-entrypoint-initdb.d";

/// Mounts the files of `init`, writes one for `extensions`, and hands `locale` and `encoding` on.
pub(crate) fn fill(references: &References<'_>, name: &str, used: &RecipeUse, recipe: &str, workload: &mut Workload) {
    // Of files that have one name the recipe goes by their paths.
    let mut files: Vec<(bool, &PathBuf)> =
        used.init.iter().map(|file| ((references.source.list)(file).is_empty(), file)).collect();
    files.sort_by(|(is_file, a), (other, b)| (is_file, a.file_name(), a).cmp(&(other, b.file_name(), b)));
    for (at, (is_file, file)) in files.into_iter().enumerate() {
        mount(references, name, file, (at, is_file), recipe, workload);
    }
    let options = [("--locale", &used.locale), ("--encoding", &used.encoding)];
    let words: Vec<String> =
        options.into_iter().filter_map(|(option, value)| Some(format!("{option}={}", value.as_ref()?))).collect();
    if recipe == "postgres" && !words.is_empty() {
        workload.env.push(("POSTGRES_INITDB_ARGS".to_owned(), ExportText::literal(words.join(" "))));
    }
    if !used.extensions.is_empty() {
        let text: String =
            used.extensions.iter().map(|one| format!("CREATE EXTENSION IF NOT EXISTS \"{one}\" CASCADE;\n")).collect();
        workload.files.push((format!("{DIRECTORY}/000-extensions.sql"), ExportText::literal(text)));
    }
}

fn mount(
    references: &References<'_>,
    name: &str,
    file: &Path,
    (at, is_file): (usize, bool),
    recipe: &str,
    workload: &mut Workload,
) {
    let path = references.path(name);
    if !matches!(recipe, "postgres" | "mariadb") {
        references.lose(format!("{path}.init"), "the image runs no files at its first boot");
        return;
    }
    let Some(relative) = relative(references, file) else {
        references.lose(format!("{path}.init"), format!("{} lies outside the project", file.display()));
        return;
    };
    let target = if is_file {
        let name = file.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let (stem, ending) = name.split_once('.').unwrap_or((&name, ""));
        // `a_2.sql` comes behind `a.sql`.
        let names = std::iter::once(name.clone()).chain((2..).map(|number| format!("{stem}_{number}.{ending}")));
        let is_taken = |target: &String| workload.mounts.iter().any(|mount| mount.target == *target);
        names.map(|name| format!("{DIRECTORY}/{name}")).find(|target| !is_taken(target)).unwrap_or_default()
    } else if at == 0 {
        DIRECTORY.to_owned()
    } else {
        references
            .lose(format!("{path}.init"), format!("only the first directory is taken; copy the files of {relative} into it"));
        return;
    };
    workload.mounts.push(ContainerMount { source: MountSource::Path(relative), target, read_only: true });
}
