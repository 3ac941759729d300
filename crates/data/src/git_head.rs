//! The git branch and commit of a checkout, read from its files: no git is needed, and no hook or configuration of the
//! repository runs. A linked worktree has a file `.git` that names its own directory (gitrepository-layout(5)).

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

/// Where HEAD points.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct GitHead {
    /// The branch; absent where HEAD is detached.
    pub branch: Option<String>,
    /// The commit, where one exists.
    pub commit: Option<String>,
}

impl GitHead {
    /// Reads HEAD of the repository that holds a directory; `None` outside one.
    #[must_use]
    pub fn of(directory: &Path) -> Option<Self> {
        let git = directory.ancestors().map(|above| above.join(".git")).find(|git| git.exists())?;
        let own = git_directory(&git)?;
        let head = std::fs::read_to_string(own.join("HEAD")).ok()?;
        let head = head.trim();
        let Some(reference) = head.strip_prefix("ref: ") else {
            return Some(Self { branch: None, commit: is_hash(head).then(|| head.to_owned()) });
        };
        let branch = reference.strip_prefix("refs/heads/").unwrap_or(reference).to_owned();
        // Branches of a linked worktree lie in the repository that it was made from.
        let common = std::fs::read_to_string(own.join("commondir")).map_or_else(|_| own.clone(), |text| own.join(text.trim()));
        Some(Self { branch: Some(branch), commit: commit_of(&own, reference).or_else(|| commit_of(&common, reference)) })
    }
}

fn git_directory(git: &Path) -> Option<PathBuf> {
    if git.is_dir() {
        return Some(git.to_owned());
    }
    let text = std::fs::read_to_string(git).ok()?;
    let target = text.trim().strip_prefix("gitdir: ")?;
    Some(git.parent()?.join(target))
}

fn commit_of(repository: &Path, reference: &str) -> Option<String> {
    if let Ok(text) = std::fs::read_to_string(repository.join(reference)) {
        return Some(text.trim().to_owned()).filter(|text| is_hash(text));
    }
    let packed = std::fs::read_to_string(repository.join("packed-refs")).ok()?;
    packed.lines().find_map(|line| line.split_once(' ').filter(|(_, name)| *name == reference).map(|(hash, _)| hash.to_owned()))
}

fn is_hash(text: &str) -> bool {
    text.len() >= 40 && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

#[cfg(test)]
mod tests {
    use super::*;

    const HASH: &str = "0123456789abcdef0123456789abcdef01234567";

    #[test]
    fn a_branch_a_detached_head_and_a_linked_worktree() {
        let folder = tempfile::tempdir().unwrap();
        let git = folder.path().join("repo/.git");
        std::fs::create_dir_all(git.join("refs/heads/feature")).unwrap();
        std::fs::create_dir_all(folder.path().join("repo/sub")).unwrap();
        std::fs::write(git.join("HEAD"), "ref: refs/heads/feature/x\n").unwrap();
        let head = GitHead::of(&folder.path().join("repo/sub")).unwrap();
        assert_eq!(head, GitHead { branch: Some("feature/x".to_owned()), commit: None });
        std::fs::write(git.join("refs/heads/feature/x"), format!("{HASH}\n")).unwrap();
        assert_eq!(GitHead::of(&folder.path().join("repo")).unwrap().commit.as_deref(), Some(HASH));
        std::fs::write(git.join("HEAD"), format!("{HASH}\n")).unwrap();
        let head = GitHead::of(&folder.path().join("repo")).unwrap();
        assert_eq!(head, GitHead { branch: None, commit: Some(HASH.to_owned()) });
        // A worktree, whose branch stands among the packed ones of the repository.
        let own = git.join("worktrees/wt");
        std::fs::create_dir_all(&own).unwrap();
        std::fs::write(own.join("HEAD"), "ref: refs/heads/other\n").unwrap();
        std::fs::write(own.join("commondir"), "../..\n").unwrap();
        std::fs::write(git.join("packed-refs"), format!("# pack-refs with: peeled\n{HASH} refs/heads/other\n")).unwrap();
        std::fs::create_dir(folder.path().join("wt")).unwrap();
        std::fs::write(folder.path().join("wt/.git"), format!("gitdir: {}\n", own.display())).unwrap();
        let head = GitHead::of(&folder.path().join("wt")).unwrap();
        assert_eq!(head, GitHead { branch: Some("other".to_owned()), commit: Some(HASH.to_owned()) });
    }
}
