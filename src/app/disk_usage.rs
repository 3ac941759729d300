//! How much room files take, for everything that shows or deletes data.

use std::fs;
use std::path::Path;

/// Bytes below a path as the disk counts them; links are not followed. What cannot be read counts as nothing.
#[must_use]
pub fn size(path: &Path) -> u64 {
    use std::os::unix::fs::MetadataExt;
    let Ok(meta) = fs::symlink_metadata(path) else { return 0 };
    let own = meta.blocks() * 512;
    if !meta.is_dir() {
        return own;
    }
    own + fs::read_dir(path).into_iter().flatten().flatten().map(|entry| size(&entry.path())).sum::<u64>()
}
