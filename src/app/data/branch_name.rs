//! The directory of a git branch's data, the branch that is checked out, and whether a branch has data yet. Loading a project
//! needs it, so it imports nothing that does.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use devrun_data::GitHead;
use devrun_model::{Failure, FailureKind};

/// Makes a directory of data a branch's: it is written last.
pub const ABOUT: &str = "branch.json";
/// Names the directory of the branch whose data were used last.
pub const LAST: &str = "last";

/// Where the data of all branches lie.
#[must_use]
pub fn root(state: &Path) -> PathBuf {
    state.join("branches")
}

/// The directory of the branch whose data were used last, where they still exist.
#[must_use]
pub fn last(state: &Path) -> Option<String> {
    let root = root(state);
    std::fs::read_to_string(root.join(LAST)).ok().filter(|last| root.join(last).join(ABOUT).exists())
}

/// The data that a branch without data starts with, in words.
#[must_use]
pub fn parent(last: Option<&str>) -> String {
    last.map_or_else(|| "the usual data".to_owned(), |last| format!("the data of branch {}", branch(last)))
}

/// Fails where a stack that is up would be changed to the data of a branch that has none yet: they would begin empty.
///
/// # Errors
/// `Elsewhere`, naming both.
pub fn check_while_up(state: &Path, own: Option<&str>) -> Result<(), Failure> {
    let Some(own) = own.filter(|own| !root(state).join(own).join(ABOUT).exists()) else { return Ok(()) };
    let parent = parent(last(state).as_deref());
    let reason = format!("branch {} has no data yet, and the stack is up on {parent}", branch(own));
    Err(Failure::new(FailureKind::Elsewhere, reason).help("devrun down, then devrun up"))
}

/// The directory that belongs to the branch of this checkout; `None` outside a repository and where HEAD is detached: the
/// usual data are used then.
#[must_use]
pub fn checked_out(root: &Path) -> Option<String> {
    GitHead::of(root)?.branch.map(|branch| directory(&branch))
}

/// A branch's name as one name of a directory: everything but letters, digits, `.`, `_` and `-` is percent-encoded, and so is
/// a dot in front, and the first letter of a branch that is called like the file beside the directories ([`LAST`]).
#[must_use]
pub fn directory(branch: &str) -> String {
    let mut name = String::with_capacity(branch.len());
    for (at, byte) in branch.bytes().enumerate() {
        let is_reserved = at == 0 && branch == LAST;
        if !is_reserved && byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_') || (byte == b'.' && at > 0) {
            name.push(char::from(byte));
        } else {
            // Writing to a string cannot fail.
            let _ = write!(name, "%{byte:02X}");
        }
    }
    name
}

/// The branch that a directory belongs to.
#[must_use]
pub fn branch(directory: &str) -> String {
    let mut bytes = Vec::with_capacity(directory.len());
    let mut rest = directory;
    while let Some((before, after)) = rest.split_once('%') {
        bytes.extend_from_slice(before.as_bytes());
        match after.get(..2).and_then(|digits| u8::from_str_radix(digits, 16).ok()) {
            Some(byte) => {
                bytes.push(byte);
                rest = after.get(2..).unwrap_or_default();
            }
            None => {
                bytes.push(b'%');
                rest = after;
            }
        }
    }
    bytes.extend_from_slice(rest.as_bytes());
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_branch_is_one_directory_and_comes_back() {
        for (name, expected) in [
            ("main", "main"),
            ("feature/x", "feature%2Fx"),
            (".x", "%2Ex"),
            ("v1.2", "v1.2"),
            ("ä%", "%C3%A4%25"),
            ("a b", "a%20b"),
            ("last", "%6Cast"),
            ("lastly", "lastly"),
        ] {
            assert_eq!(directory(name), expected);
            assert_eq!(branch(expected), name);
        }
    }
}
