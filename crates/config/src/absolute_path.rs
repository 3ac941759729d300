//! Paths as procfiles write them.

use std::path::{Component, Path, PathBuf};

/// A path relative to the procfile's directory, without `.` and with `..` resolved by name.
pub(crate) fn absolute(root: &Path, text: &str) -> PathBuf {
    let mut path = PathBuf::new();
    for part in root.join(text).components() {
        match part {
            Component::CurDir => {}
            Component::ParentDir => {
                path.pop();
            }
            part => path.push(part),
        }
    }
    path
}
