//! Paths that the caller has named for output. A link in one is the caller's word (`/dev/stdout` is one), unless another user has
//! put it there: in a directory that others can write to, it would have us write where they may not.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Component, Path, PathBuf};

/// As many links as the kernel follows.
const LINKS: usize = 40;

/// The path without the links in it, as far as it exists. An empty one, as the parent of a bare name is, is the working directory.
///
/// # Errors
/// As the file system says, and where a link belongs neither to us nor to root.
pub fn resolve(path: &Path) -> io::Result<PathBuf> {
    let us = nix::unistd::geteuid().as_raw();
    let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
    let mut rest: VecDeque<OsString> = parts(&std::path::absolute(path)?);
    let (mut found, mut links) = (PathBuf::from("/"), 0);
    while let Some(part) = rest.pop_front() {
        if part == ".." {
            found.pop();
            continue;
        }
        let next = found.join(&part);
        let meta = match fs::symlink_metadata(&next) {
            Ok(meta) => meta,
            // What is not there has no links; it may be made.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                found = next;
                continue;
            }
            Err(error) => return Err(error),
        };
        // What the kernel shows as links there are open files.
        if !meta.is_symlink() || found.starts_with("/proc") {
            found = next;
            continue;
        }
        if meta.uid() != us && meta.uid() != 0 {
            return Err(io::Error::other(format!("{} is a symbolic link of another user (uid {})", next.display(), meta.uid())));
        }
        links += 1;
        if links > LINKS {
            return Err(io::Error::from_raw_os_error(libc::ELOOP));
        }
        let target = fs::read_link(&next)?;
        if target.is_absolute() {
            found = PathBuf::from("/");
        }
        for part in parts(&target).into_iter().rev() {
            rest.push_front(part);
        }
    }
    Ok(found)
}

fn parts(path: &Path) -> VecDeque<OsString> {
    path.components()
        .filter(|part| matches!(part, Component::Normal(_) | Component::ParentDir))
        .map(|part| part.as_os_str().to_owned())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_of_ours_are_followed_and_those_of_others_are_not() {
        let folder = tempfile::tempdir().unwrap();
        let top = folder.path().canonicalize().unwrap();
        fs::create_dir(top.join("real")).unwrap();
        let link = |to: &str, name: &str| std::os::unix::fs::symlink(to, top.join(name)).unwrap();
        link("real", "own");
        link("../x/real/f", "real/up");
        link("loop", "loop");
        assert_eq!(resolve(&top.join("own/new/f")).unwrap(), top.join("real/new/f"));
        assert_eq!(resolve(&top.join("own/up")).unwrap(), top.join("x/real/f"));
        assert!(resolve(&top.join("loop")).is_err());
        assert!(resolve(Path::new("/dev/stdout")).is_ok());
        let here = std::env::current_dir().unwrap().canonicalize().unwrap();
        assert_eq!(resolve(Path::new("")).unwrap(), here);
        assert_eq!(resolve(Path::new("new.yaml")).unwrap(), here.join("new.yaml"));
        if nix::unistd::geteuid().is_root() {
            std::os::unix::fs::lchown(top.join("own"), Some(65_534), None).unwrap();
            let error = resolve(&top.join("own/f")).unwrap_err().to_string();
            assert!(error.contains("a symbolic link of another user (uid 65534)"), "{error}");
        }
    }
}
