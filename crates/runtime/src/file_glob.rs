//! Globs of a procfile (`watch`, a task's `inputs`): the files that they mean.
//!
//! They are relative to the procfile's directory, a directory stands for everything in it, and links to directories are not
//! followed: a loop of them has no end.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::path::{Component, Path, PathBuf};

use globset::{GlobBuilder, GlobSetBuilder};

/// Directories that hold what tools write, not what people do. A glob that names one outright sees it all the same.
const SKIPPED: &[&str] = &[".git", ".hg", ".svn", ".devrun", "node_modules", "__pycache__"];

/// Adds an absolute glob, and everything below what it means.
pub(crate) fn add(set: &mut GlobSetBuilder, full: &str) -> Result<(), globset::Error> {
    for text in [full.to_owned(), format!("{}/**", full.trim_end_matches('/'))] {
        set.add(GlobBuilder::new(&text).literal_separator(true).build()?);
    }
    Ok(())
}

/// Each glob with the files that it means.
pub type GlobMatches = Vec<(String, BTreeSet<PathBuf>)>;

/// The files that each glob means, in order of their paths. Sockets, FIFOs and devices have no content.
///
/// # Errors
/// The glob that is invalid, with the reason.
pub fn matching(root: &Path, globs: &[String]) -> Result<GlobMatches, (String, String)> {
    let mut found = Vec::new();
    for glob in globs {
        let full = absolute(root, glob);
        let invalid = |error: globset::Error| (glob.clone(), error.kind().to_string());
        let mut set = GlobSetBuilder::new();
        add(&mut set, &full).map_err(invalid)?;
        let set = set.build().map_err(invalid)?;
        let base = base(&full);
        let below = walk(&base, true, Vec::new()).flat_map(|directory| files_in(&directory));
        let files =
            below.chain(base.is_file().then(|| base.clone())).filter(|file| set.is_match(file) && file.is_file()).collect();
        found.push((glob.clone(), files));
    }
    Ok(found)
}

/// The glob as an absolute one without `.` and `..`; characters of the root's own path mean themselves.
pub(crate) fn absolute(root: &Path, glob: &str) -> String {
    let escaped = |path: &Path| {
        path.to_string_lossy().chars().fold(String::new(), |mut text, c| {
            if matches!(c, '*' | '?' | '[' | ']' | '{' | '}' | '\\') {
                text.push('\\');
            }
            text.push(c);
            text
        })
    };
    if glob.starts_with('/') {
        return glob.to_owned();
    }
    let (mut base, mut rest) = (root.to_path_buf(), glob);
    loop {
        match rest.split_once('/') {
            Some((".", after)) => rest = after.trim_start_matches('/'),
            Some(("..", after)) => {
                base.pop();
                rest = after.trim_start_matches('/');
            }
            _ => break,
        }
    }
    let base = escaped(&base);
    if rest.is_empty() || rest == "." { base } else { format!("{}/{rest}", base.trim_end_matches('/')) }
}

/// The part of a glob that means itself.
pub(crate) fn base(glob: &str) -> PathBuf {
    let mut base = PathBuf::new();
    for part in Path::new(glob).components() {
        let text = part.as_os_str().to_string_lossy();
        let special = |c| matches!(c, '*' | '?' | '[' | '{');
        if matches!(part, Component::Normal(_))
            && text.replace("\\*", "").replace("\\?", "").replace("\\[", "").replace("\\{", "").contains(special)
        {
            break;
        }
        base.push(text.replace('\\', ""));
    }
    base
}

/// A directory and those in it, as far as they count. A directory is given before it is read, so that one who watches it then
/// misses nothing that comes into it. `named`: the glob means this very directory, whatever it is called.
pub(crate) fn walk(top: &Path, named: bool, own: Vec<PathBuf>) -> impl Iterator<Item = PathBuf> + use<> {
    let top = top.to_path_buf();
    let mut left = vec![top.clone()];
    let mut given: Option<PathBuf> = None;
    std::iter::from_fn(move || {
        let entries = given.take().and_then(|folder| std::fs::read_dir(folder).ok()).into_iter().flatten().flatten();
        let folders = entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
        left.extend(folders.map(|entry| entry.path()));
        loop {
            let folder = left.pop()?;
            let skipped = folder.file_name().and_then(OsStr::to_str).is_some_and(|name| SKIPPED.contains(&name));
            if own.iter().any(|own| folder.starts_with(own)) || (skipped && !(named && folder == top)) {
                continue;
            }
            given = Some(folder.clone());
            return Some(folder);
        }
    })
}

/// The files of a directory, those of the directories in it not.
pub(crate) fn files_in(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    entries.filter(|entry| entry.file_type().is_ok_and(|kind| !kind.is_dir())).map(|entry| entry.path()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn globs_have_a_base() {
        for (glob, expected) in [
            ("src/**/*.py", "/p/src"),
            ("./src", "/p/src"),
            ("../other/*.rs", "/other"),
            ("*.toml", "/p"),
            ("/etc/x.conf", "/etc/x.conf"),
            ("a/{b,c}/d", "/p/a"),
        ] {
            assert_eq!(base(&absolute(Path::new("/p"), glob)), Path::new(expected), "{glob}");
        }
        assert_eq!(base(&absolute(Path::new("/p [1]"), "a/*")), Path::new("/p [1]/a"));
    }

    #[test]
    fn globs_mean_files_in_order_without_what_tools_write() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().canonicalize().unwrap();
        for file in ["db/a.sql", "db/deep/b.sql", "db/c.txt", "node_modules/x.sql", "requirements.txt"] {
            std::fs::create_dir_all(root.join(file).parent().unwrap()).unwrap();
            std::fs::write(root.join(file), "x").unwrap();
        }
        let names = |globs: &[&str]| -> Vec<Vec<String>> {
            let globs: Vec<String> = globs.iter().map(|glob| (*glob).to_owned()).collect();
            let name = |path: &PathBuf| path.strip_prefix(&root).unwrap().display().to_string();
            matching(&root, &globs).unwrap().iter().map(|(_, files)| files.iter().map(name).collect()).collect()
        };
        assert_eq!(names(&["**/*.sql", "requirements.txt"]), [vec!["db/a.sql", "db/deep/b.sql"], vec!["requirements.txt"]]);
        assert_eq!(names(&["db"]), [vec!["db/a.sql", "db/c.txt", "db/deep/b.sql"]]);
        nix::unistd::mkfifo(&root.join("db/fifo.sql"), nix::sys::stat::Mode::S_IRWXU).unwrap();
        assert_eq!(names(&["db/*.sql"]), [vec!["db/a.sql"]], "a FIFO has no content");
        assert_eq!(names(&["node_modules", "no/such"]), [vec!["node_modules/x.sql"], vec![]]);
        let (glob, reason) = matching(&root, &["a[".to_owned()]).unwrap_err();
        assert!(glob == "a[" && !reason.is_empty(), "{reason}");
    }
}
