//! The hash that ties a sentinel to what it was made from.

use std::collections::BTreeMap;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};

use devrun_keeper::regular_file;
use devrun_model::hex::hex;

/// sha256 of a file's content.
///
/// # Errors
/// When it cannot be read, and for a FIFO, a device or a socket, whose opening could wait without end.
pub fn hash_file(path: &Path) -> std::io::Result<String> {
    let mut file = regular_file::open_linked(path)?;
    let mut hasher = Sha256::new();
    let mut buffer = vec![0u8; 128 * 1024];
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(hex(&hasher.finalize())),
            read => hasher.update(&buffer[..read]),
        }
    }
}

/// How much of a large file is looked at.
const START: u64 = 8 * 1024 * 1024;

/// sha256 of a file's length and its first 8 MiB: enough to notice an edit, and soon done for a dump of any size.
///
/// # Errors
/// As [`hash_file`].
pub fn hash_start_of_file(path: &Path) -> std::io::Result<String> {
    let file = regular_file::open_linked(path)?;
    let mut hasher = Sha256::new();
    hasher.update(file.metadata()?.len().to_le_bytes());
    let mut start = Vec::new();
    file.take(START).read_to_end(&mut start)?;
    hasher.update(&start);
    Ok(hex(&hasher.finalize()))
}

/// One hash over words and the content of files, in the given order. Lengths go in too, so that no two lists of words
/// look alike. A file that cannot be read counts by that fact: it is the step itself that reports it.
#[must_use]
pub fn hash_inputs(argv: &[String], files: &[PathBuf]) -> String {
    let mut hasher = Sha256::new();
    let mut add = |bytes: &[u8]| {
        hasher.update((bytes.len() as u64).to_le_bytes());
        hasher.update(bytes);
    };
    for word in argv {
        add(word.as_bytes());
    }
    for file in files {
        add(file.file_name().map(std::ffi::OsStr::as_encoded_bytes).unwrap_or_default());
        match hash_file(file) {
            Ok(content) => add(content.as_bytes()),
            Err(error) => add(format!("unreadable: {:?}", error.kind()).as_bytes()),
        }
    }
    hex(&hasher.finalize())
}

/// The content of each file as a hash, by file name. One that cannot be read counts by that fact.
#[must_use]
pub fn hash_files(files: &[PathBuf]) -> BTreeMap<String, String> {
    let name = |file: &Path| file.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let hash = |file: &Path| hash_file(file).unwrap_or_else(|error| format!("unreadable: {:?}", error.kind()));
    files.iter().map(|file| (name(file), hash(file))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_do_not_run_together() {
        let words = |list: &[&str]| hash_inputs(&list.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>(), &[]);
        assert_ne!(words(&["ab", "c"]), words(&["a", "bc"]));
        assert_ne!(words(&[]), words(&[""]));
        assert_eq!(words(&["a"]), words(&["a"]));
    }

    /// The opening of a FIFO waits for a writer.
    #[test]
    fn a_fifo_is_not_waited_for() {
        let folder = tempfile::tempdir().unwrap();
        let fifo = folder.path().join("fifo.sql");
        nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).unwrap();
        assert!(hash_file(&fifo).is_err());
        assert!(hash_start_of_file(&fifo).is_err());
        assert_eq!(hash_inputs(&[], std::slice::from_ref(&fifo)), hash_inputs(&[], std::slice::from_ref(&fifo)));
    }

    #[test]
    fn content_counts_and_folders_do_not() {
        let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let (a, b) = (one.path().join("01.sql"), two.path().join("01.sql"));
        std::fs::write(&a, "SELECT 1").unwrap();
        std::fs::write(&b, "SELECT 1").unwrap();
        let hash = |file: &PathBuf| hash_inputs(&[], std::slice::from_ref(file));
        assert_eq!(hash(&a), hash(&b));
        std::fs::write(&b, "SELECT 2").unwrap();
        assert_ne!(hash(&a), hash(&b));
        std::fs::remove_file(&b).unwrap();
        assert_ne!(hash(&a), hash(&b));
    }
}
