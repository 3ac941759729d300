//! The generated env file on disk: its keys are read, it is compared with what stands there, and it is written.
//!
//! Our header alone decides whether a file may be overwritten or deleted: without it the file is somebody's own. A file
//! of ours that was edited by hand is kept beside the new one, and said.

use std::collections::BTreeMap;
use std::fs;
use std::io::{ErrorKind, Read as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use crate::ui::term::say;
use devrun_config::{Generated, GeneratedPaths};
use devrun_model::{Failure, FailureKind, Paths, Plan};
use devrun_runtime::runtime_dir;
use devrun_store::trusted_file;

/// Long enough for any key or certificate.
const LARGEST: u64 = 64 * 1024;

/// Where the file of this instance lies: beside the procfile, as `output` says; further instances and throw-away copies
/// have other ports and other data, so theirs lies in their own state folder.
#[must_use]
pub fn place(paths: &GeneratedPaths, places: &Paths, instance: &str) -> PathBuf {
    if instance.is_empty() && !runtime_dir::is_ephemeral(places) {
        return paths.output.clone();
    }
    places.state.join(paths.output.file_name().unwrap_or_default())
}

/// The files of the keys folder by name; hidden ones, folders and what editors leave behind are no keys.
///
/// # Errors
/// `Config` for one that cannot be read, is not a regular file, is not text, or is too long for a key.
pub fn keys(folder: Option<&Path>) -> Result<BTreeMap<String, String>, Failure> {
    let mut keys = BTreeMap::new();
    let Some(folder) = folder else { return Ok(keys) };
    let failed = |path: &Path, why: String| Failure::new(FailureKind::Config, format!("the key {}: {why}", path.display()));
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(keys),
        Err(error) => return Err(failed(folder, error.to_string()).help("check the directory's permissions")),
    };
    for entry in entries {
        let path = entry.map_err(|error| failed(folder, error.to_string()))?.path();
        let Some(name) = path.file_name().and_then(|name| name.to_str()) else { continue };
        let skipped = name.starts_with('.') || name.ends_with('~') || name.ends_with(".md");
        if skipped {
            continue;
        }
        match fs::metadata(&path) {
            Ok(meta) if meta.is_dir() => continue,
            Ok(meta) => {
                if let Some(kind) = trusted_file::special_kind(&meta) {
                    return Err(failed(&path, format!("it is {kind}, not a regular file"))
                        .help("write the key to a regular file of this name, or move it out of the directory"));
                }
            }
            Err(_) if fs::symlink_metadata(&path).is_ok_and(|meta| meta.is_symlink()) => {
                return Err(failed(&path, "it is a link to a file that cannot be found".to_owned())
                    .help("correct the link, or remove it"));
            }
            // Removed meanwhile.
            Err(_) => continue,
        }
        let mut text = String::new();
        fs::File::open(&path).and_then(|file| file.take(LARGEST + 1).read_to_string(&mut text)).map_err(|error| {
            failed(&path, error.to_string()).help("a key is a short text; check the file and its permissions")
        })?;
        if text.len() as u64 > LARGEST || text.contains('\0') {
            return Err(failed(&path, "it is longer than 64 KiB, or no text".to_owned()).help("move it out of the directory"));
        }
        // Editors on Windows begin a file with a byte order mark.
        let text = text.strip_prefix('\u{feff}').map(str::to_owned).unwrap_or(text);
        keys.insert(name.to_owned(), text);
    }
    Ok(keys)
}

/// The file that is there, where it is ours.
///
/// # Errors
/// `Config` for a file without our header.
pub fn existing(path: &Path) -> Result<Option<String>, Failure> {
    let Some(text) = trusted_file::read_untrusted(path)? else { return Ok(None) };
    if devrun_config::is_untouched(&text).is_none() {
        return Err(Failure::new(
            FailureKind::Config,
            format!("{} was not written by devrun, so it is not overwritten", path.display()),
        )
        .help("move it away, or name another file: [config] output = \".env.generated\""));
    }
    Ok(Some(text))
}

/// Whether a file carries our header, so that `clean` may delete it.
#[must_use]
pub fn is_ours(path: &Path) -> bool {
    matches!(existing(path), Ok(Some(_)))
}

/// Writes it, 0600, where it differs from what is there. Hand edits are said, and kept beside it. Whether it was written.
///
/// # Errors
/// `Config` when the file is somebody's own or cannot be written.
pub fn write(path: &Path, generated: &Generated, places: &Paths) -> Result<bool, Failure> {
    let failed = |path: &Path, error: &std::io::Error| {
        Failure::new(FailureKind::Config, format!("{} cannot be written: {error}", path.display()))
            .help("check the directory's permissions")
    };
    let before = existing(path)?;
    if before.as_deref() == Some(generated.text.as_str()) {
        let private = fs::Permissions::from_mode(0o600);
        return fs::set_permissions(path, private).map(|()| false).map_err(|error| failed(path, &error));
    }
    if let Some(before) = before
        && devrun_config::is_untouched(&before) == Some(false)
    {
        let backup = backup(path, &before).map_err(|error| failed(path, &error))?;
        let edits = devrun_config::edits(&before, &generated.text);
        say(format!(
            "{} was edited by hand and is overwritten; the edited file is kept as {}",
            shown(path, places),
            shown(&backup, places)
        ));
        edits.iter().for_each(|line| say(format!("  {line}")));
        let template = "what is to stay belongs into the template";
        say(if edits.is_empty() {
            "  no value differs".to_owned()
        } else {
            format!("  (+ added, ~ changed, - taken out) {template}")
        });
    }
    runtime_dir::prepare(places)?;
    replace(path, &generated.text, &places.state).map_err(|error| failed(path, &error))?;
    Ok(true)
}

/// Keeps the edited text under the first name that is free.
fn backup(path: &Path, text: &str) -> std::io::Result<PathBuf> {
    let mut number = 1;
    loop {
        let ending = if number == 1 { ".bak".to_owned() } else { format!(".bak{number}") };
        let candidate = PathBuf::from(format!("{}{ending}", path.display()));
        let made =
            std::os::unix::fs::OpenOptionsExt::mode(fs::OpenOptions::new().write(true).create_new(true), 0o600).open(&candidate);
        match made {
            Ok(mut file) => return file.write_all(text.as_bytes()).map(|()| candidate),
            Err(error) if error.kind() == ErrorKind::AlreadyExists && number < 1000 => number += 1,
            Err(error) => return Err(error),
        }
    }
}

/// By a rename out of the state folder, which git ignores: a kill in between leaves no half a file full of passwords in
/// the project. Where that is another file system, beside the file itself.
fn replace(path: &Path, text: &str, state: &Path) -> std::io::Result<()> {
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent)?;
    }
    let mut file = tempfile::Builder::new().prefix(".new-").tempfile_in(state)?;
    file.write_all(text.as_bytes())?;
    match file.persist(path) {
        Err(error) if error.error.kind() == ErrorKind::CrossesDevices => runtime_dir::replace(path, text.as_bytes()),
        Err(error) => Err(error.error),
        Ok(_) => Ok(()),
    }
}

/// Says which keys are missing, and who reads them. Called before anything starts.
pub fn warn(paths: &GeneratedPaths, generated: &Generated, plan: &Plan, places: &Paths) {
    for (name, holders) in &generated.missing {
        let reads =
            |spec: &&std::sync::Arc<devrun_model::ServiceSpec>| spec.missing.iter().any(|variable| holders.contains(variable));
        let mut readers: Vec<String> = plan.services.values().filter(reads).map(|spec| spec.service.to_string()).collect();
        readers.dedup();
        let who = match readers.as_slice() {
            [] => "no started service reads it".to_owned(),
            [one] => format!("{one} stays blocked"),
            many => format!("{} stay blocked", many.join(", ")),
        };
        let way = match &paths.keys {
            Some(folder) => format!("write it to {}", shown(&folder.join(name), places)),
            None => format!("set {name} in the shell or an env file"),
        };
        say(format!("{name} has no value: {who}; {way}"));
    }
    for name in &generated.ignored {
        say(format!("the key file {name:?} names no variable and is left out"));
    }
}

fn shown(path: &Path, places: &Paths) -> String {
    path.strip_prefix(&places.root).unwrap_or(path).display().to_string()
}
