//! Compose and process-compose files in a procfile's place: mapped on the fly, and what was not mapped is said.

use std::cell::RefCell;
use std::path::{Path, PathBuf};

use crate::ui::term::say;
use devrun_config::{ForeignFault, Report, Source};
use devrun_convert::{Converted, ForeignFormat, Surroundings};
use devrun_model::{Failure, FailureKind};
use devrun_store::trusted_file;

use crate::app::mapping_report::{MappingDetail, MappingReport};
use crate::app::procfile_errors;
use crate::app::project::{self, Project};
use crate::app::trust;
use crate::globals::Globals;

/// Whether a path has the ending of YAML.
#[must_use]
pub fn is_yaml(path: &Path) -> bool {
    path.extension().is_some_and(|ending| ending == "yml" || ending == "yaml")
}

/// The file that compose reads beside one of its usual names without being told.
fn override_of(path: &Path) -> Option<PathBuf> {
    let stem = path.file_stem()?.to_str().filter(|stem| matches!(*stem, "compose" | "docker-compose"))?;
    let names = [format!("{stem}.override.yml"), format!("{stem}.override.yaml")];
    names.into_iter().map(|name| path.with_file_name(name)).find(|path| path.is_file())
}

/// Reads a file that is mapped: [`trusted_file::read_trusted`] where the result is obeyed, [`trusted_file::read_untrusted`] where it is only shown.
pub type DirectoryReader = fn(&Path) -> Result<Option<String>, Failure>;

/// What the mapping looks variables up in: our environment, then the env file that was named, then `.env`.
#[must_use]
pub fn surroundings(globals: &Globals, root: &Path) -> Surroundings {
    let env_files = globals.env_file.iter().map(|file| root.join(file)).collect();
    Surroundings { shell: project::environment(), env_files, list: Some(files_of) }
}

/// The files of a directory, in the order of their names; none where it cannot be read.
fn files_of(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.path()).collect();
    files.sort();
    files
}

fn is_below_file(path: &Path) -> bool {
    std::fs::symlink_metadata(path).is_err_and(|error| error.kind() == std::io::ErrorKind::NotADirectory)
}

/// Maps files that belong together.
///
/// # Errors
/// `Config`: not readable, no YAML, no such format, or refused by the tool that they are written for; those faults have been shown.
pub fn convert(paths: &[PathBuf], root: &Path, read: DirectoryReader, around: &Surroundings) -> Result<Converted, Failure> {
    let first = paths.first().ok_or_else(|| Failure::new(FailureKind::Config, "no file was named"))?;
    let text = read(first)?.ok_or_else(|| trusted_file::missing(first))?;
    let format = devrun_convert::format_of(first, &text).ok_or_else(|| {
        Failure::new(FailureKind::Config, format!("cannot convert {}: unknown format", first.display()))
            .help("docker-compose.yml, compose.yaml and process-compose.yaml can")
    })?;
    let mut paths = paths.to_vec();
    if format == ForeignFormat::Compose
        && paths.len() == 1
        && let Some(more) = override_of(first)
    {
        paths.push(more);
    }
    // The mapping asks for files as it meets their names. One that is there and may not be read is no absent one.
    let refused = RefCell::new(None);
    let text_of = |path: &Path| match read(path) {
        // A mounted directory is listed, not read, and nothing lies below a file.
        _ if path.is_dir() || is_below_file(path) => None,
        Ok(text) => text,
        Err(failure) => {
            refused.borrow_mut().get_or_insert(failure);
            None
        }
    };
    // The list that COMPOSE_FILE gives counts where one of its files was found or named.
    if format == ForeignFormat::Compose
        && let [only] = paths.as_slice()
        && let Some(listed) = devrun_convert::compose_files(root, &text_of, around)
        && listed.contains(only)
    {
        paths = listed;
    }
    let converted = devrun_convert::import_with(format, &paths, root, &text_of, around);
    match refused.into_inner() {
        Some(failure) => Err(failure),
        None => {
            let converted = converted?;
            refuse_faults(&converted, root, read)?;
            Ok(converted)
        }
    }
}

/// Shows what is wrong with the files themselves; the first fault is the failure.
fn refuse_faults(converted: &Converted, root: &Path, read: DirectoryReader) -> Result<(), Failure> {
    if converted.faults.is_empty() {
        return Ok(());
    }
    let cwd = std::env::current_dir().unwrap_or_default();
    let files = converted.report.files.iter().map(|name| {
        let path = root.join(name);
        let shown = path.strip_prefix(&cwd).unwrap_or(&path).display().to_string();
        (shown, read(&path).ok().flatten().unwrap_or_default())
    });
    let faults = converted.faults.iter().map(|fault| ForeignFault {
        file: usize::try_from(fault.at.file).unwrap_or(usize::MAX),
        line: fault.at.line,
        column: fault.at.column,
        message: fault.message.clone(),
        help: fault.help.clone(),
    });
    let color = std::io::IsTerminal::is_terminal(&std::io::stderr()) && std::env::var_os("NO_COLOR").is_none();
    let report = Report::of_foreign_files(files.collect(), faults.collect());
    Err(procfile_errors::show(&report, color))
}

/// The foreign files of a project as one source, and where its lines come from.
pub struct MappedSource {
    /// It stands where the first of the files does.
    pub source: Source,
    /// For errors.
    pub origins: LineOrigins,
    /// What became of the keys.
    pub report: MappingReport,
}

/// Where the lines of a mapped text come from: an error's place is in that text, which is not a file of the user.
pub struct LineOrigins {
    name: String,
    text: String,
    /// Prints that text.
    command: String,
}

impl LineOrigins {
    /// Where the errors of a report are in the foreign file, and how that text is printed. `None`: none of them is in it.
    #[must_use]
    pub fn note(&self, report: &Report) -> Option<String> {
        let mut lines: Vec<usize> = report
            .error_places()
            .into_iter()
            .filter(|place| place.file.as_ref() == Some(&self.name))
            .map(|place| place.line)
            .collect();
        lines.dedup();
        lines.first()?;
        let known = lines.into_iter().filter_map(|line| Some(format!("line {line} comes from {}", self.origin(line)?)));
        let known: Vec<String> = known.take(MAX_ORIGINS).chain([format!("{} prints the mapped text", self.command)]).collect();
        Some(format!("note: {}", known.join("; ")))
    }

    /// `compose.yml:4` for a place in the mapped text. `None`: it is in another file.
    #[must_use]
    pub fn own_place(&self, place: &str) -> Option<String> {
        let (line, _column) = place.strip_prefix(&self.name)?.strip_prefix(':')?.split_once(':')?;
        let origin = self.origin(line.parse().ok()?)?;
        origin.rsplit_once(" at ").map(|(_, place)| place.to_owned())
    }

    /// `services.db at compose.yml:4`: the header above the line, behind which that stands.
    fn origin(&self, line: usize) -> Option<String> {
        let above: Vec<&str> = self.text.lines().take(line).collect();
        above.into_iter().rev().find_map(|line| {
            let (header, place) = line.strip_prefix('[')?.split_once("]  # ")?;
            Some(format!("{header} at {place}"))
        })
    }
}

/// Errors of which a note says where they come from.
const MAX_ORIGINS: usize = 5;

/// The foreign files of a project as one source, which stands where the first of them does. `detail`: what became of their keys is said.
///
/// # Errors
/// As of `convert`.
pub fn mapped(globals: &Globals, project: &Project, detail: Option<MappingDetail>) -> Result<Option<MappedSource>, Failure> {
    let paths: Vec<PathBuf> = project.files.iter().filter(|path| is_yaml(path)).cloned().collect();
    let Some(first) = paths.first() else { return Ok(None) };
    let around = surroundings(globals, &project.root);
    let converted = convert(&paths, &project.root, trusted_file::read_trusted, &around)?;
    let name = first.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let report = MappingReport::new(&name, &converted.report);
    if let Some(detail) = detail {
        report.show(detail, &project.places);
        // Rails keeps its databases in one file and its programs in the other.
        if globals.file.is_empty()
            && let Some(beside) = ["Procfile.dev", "Procfile"].iter().find(|file| project.root.join(file).is_file())
        {
            say(format!("{beside} exists as well; to use both: devrun -f {name} -f {beside} up"));
        }
    }
    if converted.services == 0 {
        return Err(Failure::new(FailureKind::Config, format!("nothing in {name} can be run without containers"))
            .help(format!("`devrun import {name}` writes a draft with the reasons, to put your own commands into")));
    }
    let cwd = std::env::current_dir().unwrap_or_default();
    let files: Vec<String> = paths.iter().map(|path| trust::quoted(path.strip_prefix(&cwd).unwrap_or(path))).collect();
    let command = format!("`devrun import {} -o -`", files.join(" "));
    let source = Source { name: format!("{name} (as mapped)"), path: first.clone(), text: converted.text };
    let origins = LineOrigins { name: source.name.clone(), text: source.text.clone(), command };
    Ok(Some(MappedSource { source, origins, report }))
}
