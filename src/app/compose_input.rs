//! Compose and process-compose files in a procfile's place: mapped on the fly, and what was not mapped is said.

use std::cell::RefCell;
use std::path::{Path, PathBuf};

use crate::ui::term::{safe, say};
use devrun_config::Source;
use devrun_convert::{Converted, Format, Outcome};
use devrun_model::{Failure, FailureKind};
use devrun_store::input;

use crate::app::project::Project;
use crate::globals::Globals;

/// Whether a path has the ending of YAML.
fn is_yaml(path: &Path) -> bool {
    path.extension().is_some_and(|ending| ending == "yml" || ending == "yaml")
}

/// The file that compose reads beside one of its usual names without being told.
fn override_of(path: &Path) -> Option<PathBuf> {
    let stem = path.file_stem()?.to_str().filter(|stem| matches!(*stem, "compose" | "docker-compose"))?;
    let names = [format!("{stem}.override.yml"), format!("{stem}.override.yaml")];
    names.into_iter().map(|name| path.with_file_name(name)).find(|path| path.is_file())
}

/// Reads a file that is mapped: [`input::trusted`] where the result is obeyed, [`input::untrusted`] where it is only shown.
pub type Reader = fn(&Path) -> Result<Option<String>, Failure>;

/// Maps files that belong together.
///
/// # Errors
/// `Config`: not readable, no YAML, or no such format.
pub fn convert(paths: &[PathBuf], root: &Path, read: Reader) -> Result<Converted, Failure> {
    let first = paths.first().ok_or_else(|| Failure::new(FailureKind::Config, "no file was named"))?;
    let text = read(first)?.ok_or_else(|| input::missing(first))?;
    let format = devrun_convert::format_of(first, &text).ok_or_else(|| {
        Failure::new(FailureKind::Config, format!("{} is no file that can be mapped", first.display()))
            .help("docker-compose.yml, compose.yaml and process-compose.yaml can")
    })?;
    let mut paths = paths.to_vec();
    if format == Format::Compose
        && paths.len() == 1
        && let Some(more) = override_of(first)
    {
        paths.push(more);
    }
    // The mapping asks for files as it meets their names. One that is there and may not be read is no absent one.
    let refused = RefCell::new(None);
    let text_of = |path: &Path| match read(path) {
        Ok(text) => text,
        Err(failure) => {
            refused.borrow_mut().get_or_insert(failure);
            None
        }
    };
    let converted = devrun_convert::import(format, &paths, root, &text_of);
    match refused.into_inner() {
        Some(failure) => Err(failure),
        None => converted,
    }
}

/// The leading foreign files of a project as one source; how many there are.
///
/// # Errors
/// As of `convert`.
pub fn leading(globals: &Globals, project: &Project, warn: bool) -> Result<(usize, Option<Source>), Failure> {
    let paths: Vec<PathBuf> = project.files.iter().take_while(|path| is_yaml(path)).cloned().collect();
    let Some(first) = paths.first() else { return Ok((0, None)) };
    let count = if globals.file.is_empty() { 1 } else { paths.len() };
    let converted = convert(&paths[..count.min(paths.len())], &project.root, input::trusted)?;
    let name = first.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    if warn {
        say(format!("{name}: {}; `devrun import {name}` writes a procfile.toml and the whole list", converted.report.summary()));
        // What each image became, and what wants a look; the rest is in the list.
        let mut shown = converted.report.clone();
        shown.lines.retain(|line| line.outcome == Outcome::NotMapped || line.what.ends_with(".image"));
        let left = shown.render(&[Outcome::Mapped, Outcome::NotMapped]);
        if !left.is_empty() {
            left.lines().for_each(|line| say(safe(line)));
        }
    }
    if converted.services == 0 {
        return Err(Failure::new(FailureKind::Config, format!("nothing in {name} can be run without containers"))
            .help(format!("`devrun import {name}` writes a draft with the reasons, to put your own commands into")));
    }
    let source = Source { name: format!("{name} (as mapped)"), path: first.clone(), text: converted.text };
    Ok((count, Some(source)))
}
