//! Sums of files, and the pin that an artifact is held to.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use sha2::{Digest, Sha256};

use devrun_model::hex::hex;

/// Size and sha256 of one artifact; of several, their sizes' sum and the sha256 of their list.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Pin {
    /// Bytes.
    pub size: u64,
    /// Hexadecimal, lower case.
    pub sha256: String,
}

/// The pin of what a reader gives.
///
/// # Errors
/// When it cannot be read.
pub fn of_reader(mut reader: impl Read) -> std::io::Result<Pin> {
    let mut hash = Sha256::new();
    let mut size = 0;
    let mut buffer = vec![0_u8; 128 * 1024];
    loop {
        let count = match reader.read(&mut buffer) {
            Ok(0) => break,
            Ok(count) => count,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        hash.update(&buffer[..count]);
        size += count as u64;
    }
    Ok(Pin { size, sha256: hex(&hash.finalize()) })
}

/// The pin of a file.
///
/// # Errors
/// When it cannot be read.
pub fn of_file(path: &Path) -> std::io::Result<Pin> {
    of_reader(File::open(path)?)
}

/// The pin of several artifacts that make one entry: order does not matter, names do.
#[must_use]
pub fn combined(parts: &[(String, Pin)]) -> Pin {
    if let [(_, only)] = parts {
        return only.clone();
    }
    let mut lines: Vec<String> = parts.iter().map(|(name, pin)| format!("{}  {name}\n", pin.sha256)).collect();
    lines.sort();
    let mut hash = Sha256::new();
    for line in lines {
        hash.update(line.as_bytes());
    }
    Pin { size: parts.iter().map(|(_, pin)| pin.size).sum(), sha256: hex(&hash.finalize()) }
}

impl Pin {
    /// How `found` differs, as a fragment; `None` when it does not.
    #[must_use]
    pub fn differs(&self, found: &Self) -> Option<String> {
        if self.size != found.size {
            return Some(format!("it has {} bytes, {} are pinned", found.size, self.size));
        }
        if !self.sha256.eq_ignore_ascii_case(&found.sha256) {
            return Some(format!("its sha256 is {}, pinned is {}", found.sha256, self.sha256));
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pins_tell_size_and_sum_apart() {
        let empty = of_reader(&b""[..]).unwrap();
        assert_eq!(empty.sha256, "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
        let one = of_reader(&b"a"[..]).unwrap();
        let other = of_reader(&b"b"[..]).unwrap();
        assert!(one.differs(&empty).unwrap().contains("bytes"));
        assert!(one.differs(&other).unwrap().contains("sha256"));
        assert_eq!(one.differs(&one.clone()), None);
    }

    #[test]
    fn several_artifacts_have_one_pin_whatever_their_order() {
        let part = |name: &str, bytes: &[u8]| (name.to_owned(), of_reader(bytes).unwrap());
        let ab = combined(&[part("a", b"1"), part("b", b"22")]);
        assert_eq!(ab, combined(&[part("b", b"22"), part("a", b"1")]));
        assert_eq!(ab.size, 3);
        assert_ne!(ab.sha256, combined(&[part("a", b"22"), part("b", b"1")]).sha256);
    }
}
