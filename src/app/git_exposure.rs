//! Files with secrets that git tracks, or would track with the next `git add`: key files, env files, the generated env file, the
//! directory of generated secrets, and the files of `[secrets]`.
//!
//! Nothing of the project is run by a command that only looks: no git that lies in it, and no hook that it configures.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::io::Write as _;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::app::load::{Project, Read};

/// What git hands to others, as paths below the project.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct GitExposure {
    /// In the repository already.
    pub tracked: Vec<String>,
    /// Not in it, and not ignored.
    pub not_ignored: Vec<String>,
}

impl GitExposure {
    /// Asks git. `None` where there is no git or no repository.
    #[must_use]
    pub fn find(project: &Project, read: &Read) -> Option<Self> {
        if !project.root.ancestors().any(|directory| directory.join(".git").exists()) {
            return None;
        }
        let outside = |path: &Path| path.canonicalize().is_ok_and(|real| !real.starts_with(&project.root));
        let git = devrun_store::system::on_path("git", &project.env, &outside)?;
        let listed = names(&run(&git, project, &["ls-files", "-z", "--"], &search_paths(project, read), &[])?);
        let tracked: Vec<String> = listed.into_iter().filter(|name| !is_sample(name)).collect();
        let asked: BTreeSet<String> =
            candidates(project, read).into_iter().filter(|name| !is_sample(name) && !tracked.contains(name)).collect();
        let input: Vec<u8> = asked.iter().flat_map(|name| [name.as_bytes(), b"\0"].concat()).collect();
        let ignored = names(&run(&git, project, &["check-ignore", "-z", "--stdin"], &[], &input)?);
        Some(Self { tracked, not_ignored: asked.into_iter().filter(|name| !ignored.contains(name)).collect() })
    }

    /// The lines that `.gitignore` lacks: a directory stands for the files in it.
    #[must_use]
    pub fn to_ignore(&self, read: &Read, project: &Project) -> Vec<String> {
        let keys = read.document.generated_paths().and_then(|paths| paths.keys).map(|keys| below(project, &keys));
        let line = |name: &String| match &keys {
            Some(Some(keys)) if name.starts_with(&format!("{keys}/")) => format!("{keys}/"),
            _ => name.clone(),
        };
        self.not_ignored.iter().map(line).collect::<BTreeSet<_>>().into_iter().collect()
    }
}

/// Output of a git command in the project; `None` where it fails. `check-ignore` exits with 1 where nothing is ignored.
fn run(git: &Path, project: &Project, words: &[&str], paths: &[PathBuf], input: &[u8]) -> Option<Vec<u8>> {
    let mut child = Command::new(git)
        .args(["-c", "core.fsmonitor=false", "-c", "core.hooksPath=/dev/null"])
        .args(words)
        .args(paths)
        .current_dir(&project.root)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .ok()?;
    // One that ends without reading says so by its exit code.
    let _not_read = child.stdin.take()?.write_all(input);
    let output = child.wait_with_output().ok()?;
    matches!(output.status.code(), Some(0 | 1)).then_some(output.stdout)
}

fn names(bytes: &[u8]) -> Vec<String> {
    let text = |name: &[u8]| OsString::from_vec(name.to_vec()).to_string_lossy().into_owned();
    bytes.split(|byte| *byte == 0).filter(|name| !name.is_empty()).map(text).collect()
}

fn is_sample(name: &str) -> bool {
    ["example", "sample", "template", "dist", ".gitignore"].iter().any(|word| name.contains(word))
}

fn below(project: &Project, path: &Path) -> Option<String> {
    let name = path.strip_prefix(&project.root).ok()?;
    std::str::from_utf8(name.as_os_str().as_bytes()).ok().map(str::to_owned)
}

/// Where secrets may lie, for `ls-files`.
fn search_paths(project: &Project, read: &Read) -> Vec<PathBuf> {
    let dir = read.required_values().map(|wants| wants.secrets_dir).unwrap_or_else(|_| project.root.join("secrets/infra"));
    let generated = read.document.generated_paths().into_iter().flat_map(|paths| paths.keys.into_iter().chain([paths.output]));
    let files = read.document.secret_files().into_iter().map(|(_, path)| path).filter(|path| path.starts_with(&project.root));
    std::iter::once(dir).chain(generated).chain(files).chain([".env", "*.env", ".env.*"].map(PathBuf::from)).collect()
}

/// Files that are there, or that the next start writes.
fn candidates(project: &Project, read: &Read) -> Vec<String> {
    let mut found = Vec::new();
    let generated = read.document.generated_paths();
    found.extend(generated.iter().map(|paths| paths.output.clone()));
    for keys in generated.into_iter().filter_map(|paths| paths.keys) {
        let entries = std::fs::read_dir(&keys).into_iter().flatten().flatten().map(|entry| entry.path());
        found.extend(entries.filter(|path| path.is_file()));
    }
    found.extend(read.document.secret_files().into_iter().map(|(_, path)| path).filter(|path| path.is_file()));
    found.extend(read.document.files().0.into_iter().chain([project.root.join(".env")]).filter(|path| path.is_file()));
    found.iter().filter_map(|path| below(project, path)).collect()
}
