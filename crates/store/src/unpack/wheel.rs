//! Zip entries into a tree: wheels of the Python index, jars, and what some vendors publish.

use std::fs::File;
use std::io::Read;

use super::unpack_tree::{UnpackError, UnpackTree};

/// Reads all entries.
///
/// # Errors
/// What is refused, or where the archive is broken.
pub fn read(file: File, tree: &mut UnpackTree<'_>) -> Result<(), UnpackError> {
    let broken = |error: zip::result::ZipError| UnpackError::format(&format!("the archive is broken: {error}"));
    let mut archive = zip::ZipArchive::new(file).map_err(broken)?;
    if archive.is_empty() {
        return Err(UnpackError::format("the archive is empty"));
    }
    if archive.has_duplicate_names() {
        return Err(UnpackError::format("a name is there twice"));
    }
    // Entries that share bytes are how a small file becomes a very large one.
    if archive.has_overlapping_files().map_err(broken)? {
        return Err(UnpackError::format("entries overlap"));
    }
    let names: Vec<Vec<u8>> = archive.file_names_raw().map(<[u8]>::to_vec).collect();
    for (index, name) in names.iter().enumerate() {
        tree.count()?;
        let mut entry = archive.by_index(index).map_err(broken)?;
        if entry.encrypted() {
            return Err(UnpackError::format("an entry is encrypted"));
        }
        let mode = entry.unix_mode().unwrap_or(0o644);
        match mode & 0o170_000 {
            0o120_000 => {
                let mut target = Vec::new();
                entry
                    .by_ref()
                    .take(4097)
                    .read_to_end(&mut target)
                    .map_err(|error| UnpackError::format(&format!("a link: {error}")))?;
                if target.len() > 4096 {
                    return Err(UnpackError::format("a link's target is longer than a path can be"));
                }
                tree.link(name, &target)?;
            }
            0o040_000 => tree.folder(name)?,
            0 | 0o100_000 if name.ends_with(b"/") => tree.folder(name)?,
            0 | 0o100_000 => tree.file(name, mode, &mut entry)?,
            _ => return Err(tree.special(name, "a special file")),
        }
    }
    Ok(())
}
