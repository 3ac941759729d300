//! A file is replaced in one step: a reader sees the old text or the new one.

use std::io::Write;
use std::path::Path;

/// Replaces a file of ours by a temporary file and a rename, so that a reader sees the old text or the new one.
///
/// # Errors
/// As the file system says.
pub fn replace(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let folder = path.parent().unwrap_or(Path::new("."));
    let mut file = tempfile::Builder::new().prefix(".new-").tempfile_in(folder)?;
    file.write_all(bytes)?;
    file.persist(path).map_err(|error| error.error)?;
    Ok(())
}
