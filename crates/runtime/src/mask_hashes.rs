//! What was secret in earlier runs, without the values: `report` masks what a log has kept of the shell that ran `up`, also from
//! another shell and with the stack down.
//!
//! A file (0600) in the state directory holds a random key and, for each value, its length, the sum of its bytes and a hash under
//! the key. The sum rules out nearly every place of a text before anything is hashed.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::ops::Range;
use std::path::Path;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use devrun_model::hex::hex;
use devrun_store::atomic_file::replace;

/// Values that are kept; the oldest go first.
const MOST: usize = 4096;
/// Longer values are known by this much of their beginning.
const LONGEST: usize = 512;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Hashed {
    length: usize,
    sum: u16,
    hash: String,
}

/// The values of earlier runs.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct MaskHashes {
    key: String,
    values: Vec<Hashed>,
}

fn sum(bytes: &[u8]) -> u16 {
    bytes.iter().fold(0, |sum: u16, byte| sum.wrapping_add(u16::from(*byte)))
}

impl MaskHashes {
    /// Reads the file; one that is missing or damaged knows nothing.
    #[must_use]
    pub fn load(path: &Path) -> Self {
        devrun_keeper::regular_file::read(path).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or_default()
    }

    /// Adds values to the file.
    ///
    /// # Errors
    /// When it cannot be written, or when there are no random bytes.
    pub fn remember(path: &Path, values: &BTreeSet<String>) -> io::Result<()> {
        let mut known = Self::load(path);
        if known.key.is_empty() {
            let mut key = [0u8; 32];
            getrandom::fill(&mut key).map_err(io::Error::other)?;
            known.key = hex(&key);
        }
        let before = known.values.len();
        for value in values {
            let bytes = value.as_bytes();
            let bytes = bytes.get(..LONGEST).unwrap_or(bytes);
            let hashed = Hashed { length: bytes.len(), sum: sum(bytes), hash: known.hash(bytes) };
            if !bytes.is_empty() && !known.values.contains(&hashed) {
                known.values.push(hashed);
            }
        }
        if known.values.len() == before {
            return Ok(());
        }
        let over = known.values.len().saturating_sub(MOST);
        known.values.drain(..over);
        // A temporary file of its own is made with mode 0600.
        replace(path, &serde_json::to_vec(&known)?)
    }

    fn hash(&self, bytes: &[u8]) -> String {
        let digest = Sha256::new().chain_update(&self.key).chain_update(bytes).finalize();
        hex(&digest[..16])
    }

    /// Where a text holds one of the values.
    #[must_use]
    pub fn find(&self, text: &str) -> Vec<Range<usize>> {
        let bytes = text.as_bytes();
        let mut lengths: BTreeMap<usize, BTreeMap<u16, Vec<&str>>> = BTreeMap::new();
        for value in &self.values {
            lengths.entry(value.length).or_default().entry(value.sum).or_default().push(&value.hash);
        }
        let mut found = Vec::new();
        for (length, sums) in lengths.into_iter().filter(|(length, _)| *length > 0) {
            let Some(first) = bytes.get(..length) else { continue };
            let mut now = sum(first);
            for (at, window) in bytes.windows(length).enumerate() {
                if at > 0 {
                    now = now.wrapping_sub(u16::from(bytes[at - 1])).wrapping_add(u16::from(bytes[at + length - 1]));
                }
                if let Some(hashes) = sums.get(&now)
                    && text.is_char_boundary(at)
                    && text.is_char_boundary(at + length)
                    && hashes.contains(&self.hash(window).as_str())
                {
                    found.push(at..at + length);
                }
            }
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn values_are_found_again_and_not_kept() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("masks.json");
        let values = |list: &[&str]| list.iter().map(|value| (*value).to_owned()).collect::<BTreeSet<_>>();
        MaskHashes::remember(&path, &values(&["hunter22", "pässwörd"])).unwrap();
        MaskHashes::remember(&path, &values(&["of another run"])).unwrap();
        let file = std::fs::read_to_string(&path).unwrap();
        assert!(!file.contains("hunter22") && !file.contains("another"), "{file}");
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let known = MaskHashes::load(&path);
        let text = "a hunter22, pässwörd; 22retnuh of another run hunter2";
        let found: BTreeSet<&str> = known.find(text).into_iter().map(|range| &text[range]).collect();
        assert_eq!(found, BTreeSet::from(["hunter22", "pässwörd", "of another run"]));
        let inode = |path: &Path| std::os::unix::fs::MetadataExt::ino(&std::fs::metadata(path).unwrap());
        let before = inode(&path);
        MaskHashes::remember(&path, &values(&["hunter22"])).unwrap();
        assert_eq!(inode(&path), before, "nothing new, nothing written");
        assert!(MaskHashes::load(&dir.path().join("absent")).find(text).is_empty());
    }
}
