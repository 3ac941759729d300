//! Records in front of a tar entry that name it: pax headers and GNU long names. Read strictly: where two readers could take an
//! archive for two different trees, it is refused.
//!
//! So: one record of each name in front of an entry, no name for all entries (a global header), no record that is not as POSIX
//! has it (`LENGTH KEY=VALUE`, a newline at that length), no size and no sparse map by pax, nothing longer than any path.

use std::io::Read;

use tar::EntryType;

use super::unpack_tree::UnpackError;

/// The longest record block; the longest path of Linux is 4096 bytes.
const MAX_RECORDS: u64 = 64 * 1024;

/// What stands in front of the next entry.
#[derive(Debug, Default)]
pub(super) struct LongNames {
    name: Option<Vec<u8>>,
    target: Option<Vec<u8>>,
    has_pax: bool,
}

impl LongNames {
    /// Takes up an entry that speaks of the next one, or of all. False: it is an entry of its own.
    ///
    /// # Errors
    /// What is refused.
    pub(super) fn take_up(&mut self, kind: EntryType, content: &mut dyn Read) -> Result<bool, UnpackError> {
        match kind {
            EntryType::XHeader => {
                if std::mem::replace(&mut self.has_pax, true) {
                    return Err(refused("an entry has two pax headers"));
                }
                for (key, value) in records(&read(content)?)? {
                    match key.as_str() {
                        "path" => set(&mut self.name, value, "name")?,
                        "linkpath" => set(&mut self.target, value, "target")?,
                        key => harmless(key)?,
                    }
                }
            }
            EntryType::XGlobalHeader => {
                for (key, _) in records(&read(content)?)? {
                    if matches!(key.as_str(), "path" | "linkpath") {
                        return Err(refused(&format!("a pax header gives all entries one {key}")));
                    }
                    harmless(&key)?;
                }
            }
            EntryType::GNULongName => set(&mut self.name, text(&read(content)?), "name")?,
            EntryType::GNULongLink => set(&mut self.target, text(&read(content)?), "target")?,
            _ => return Ok(false),
        }
        Ok(true)
    }

    /// Hands out what was said of the entry that follows: name and target.
    pub(super) fn hand_out(&mut self) -> (Option<Vec<u8>>, Option<Vec<u8>>) {
        let said = std::mem::take(self);
        (said.name, said.target)
    }

    /// At the end of the archive.
    ///
    /// # Errors
    /// Something was said of an entry that never came.
    pub(super) fn finish(self) -> Result<(), UnpackError> {
        if self.has_pax || self.name.is_some() || self.target.is_some() {
            return Err(refused("its last header has no entry"));
        }
        Ok(())
    }
}

fn refused(what: &str) -> UnpackError {
    UnpackError::format(&format!("the archive is broken: {what}"))
}

fn read(content: &mut dyn Read) -> Result<Vec<u8>, UnpackError> {
    let mut bytes = Vec::new();
    content.take(MAX_RECORDS + 1).read_to_end(&mut bytes).map_err(|error| refused(&error.to_string()))?;
    if bytes.len() as u64 > MAX_RECORDS {
        return Err(refused("a name is longer than 64 KiB"));
    }
    Ok(bytes)
}

/// A GNU name ends at the first NUL.
fn text(bytes: &[u8]) -> Vec<u8> {
    bytes.split(|byte| *byte == 0).next().unwrap_or_default().to_vec()
}

fn set(slot: &mut Option<Vec<u8>>, value: Vec<u8>, what: &str) -> Result<(), UnpackError> {
    if value.is_empty() || value.contains(&0) {
        return Err(refused(&format!("an entry has an unusable {what}")));
    }
    if slot.replace(value).is_some() {
        return Err(refused(&format!("an entry has two {what}s")));
    }
    Ok(())
}

/// Times, owners and comments are passed over; what changes where the next entry begins is not.
fn harmless(key: &str) -> Result<(), UnpackError> {
    if key == "size" || key.starts_with("GNU.sparse.") || key.starts_with("SCHILY.realsize") {
        return Err(refused(&format!("a pax header sets {}", key.escape_debug())));
    }
    Ok(())
}

/// The records of a pax header, each key once.
fn records(mut bytes: &[u8]) -> Result<Vec<(String, Vec<u8>)>, UnpackError> {
    let mut found: Vec<(String, Vec<u8>)> = Vec::new();
    while !bytes.is_empty() {
        let (record, rest) = record(bytes).ok_or_else(|| refused("a pax record is not as its length says"))?;
        let equals = record.iter().position(|byte| *byte == b'=');
        let (key, value) =
            equals.map(|at| (&record[..at], &record[at + 1..])).ok_or_else(|| refused("a pax record has no key"))?;
        let key = std::str::from_utf8(key).ok().filter(|key| !key.is_empty() && !key.contains('\0'));
        let key = key.ok_or_else(|| refused("a pax record has no key"))?.to_owned();
        if found.iter().any(|(other, _)| *other == key) {
            return Err(refused(&format!("a pax header has {} twice", key.escape_debug())));
        }
        found.push((key, value.to_vec()));
        bytes = rest;
    }
    Ok(found)
}

/// The first record without its length and its newline, and what follows it.
fn record(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let blank = bytes.iter().take(8).position(|byte| *byte == b' ')?;
    let digits = bytes.get(..blank)?;
    if digits.is_empty() || digits[0] == b'0' || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let length: usize = std::str::from_utf8(digits).ok()?.parse().ok()?;
    let (record, rest) = bytes.split_at_checked(length)?;
    Some((record.get(blank + 1..)?.strip_suffix(b"\n")?, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_are_read_to_the_byte() {
        let text = b"13 path=a\nb=\n17 comment=a b=c\n";
        let found = records(text).unwrap();
        assert_eq!(found[0], ("path".to_owned(), b"a\nb=".to_vec()));
        assert_eq!(found[1], ("comment".to_owned(), b"a b=c".to_vec()));
        for broken in [
            &b"8 path=a\n"[..],
            b"11 path=a\n",
            b"10 path=a",
            b"10 path=ab",
            b"010 path=a\n",
            b"+9 path=a\n",
            b" 9 path=a\n",
            b"10  path=a",
            b"99999999999999999999 path=a\n",
            b"9 no key\n",
            b"5 =a\n",
            b"9 path=b\n\0",
            b"path=a\n",
        ] {
            assert!(records(broken).is_err(), "{:?}", String::from_utf8_lossy(broken));
        }
    }
}
