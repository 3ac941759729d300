//! Tar entries into a tree. The `tar` crate only parses here; it never writes.

use std::io::Read;

use tar::{Archive, EntryType};

use super::long_name::LongNames;
use super::unpack_tree::{UnpackError, UnpackTree};

/// Reads all entries.
///
/// # Errors
/// What is refused, or where the archive is broken.
pub fn read(stream: impl Read, tree: &mut UnpackTree<'_>) -> Result<(), UnpackError> {
    let broken = |error: std::io::Error| UnpackError::format(&format!("the archive is broken: {error}"));
    let mut ended = EndedStream { inner: stream, left: tree.stream_limit(), past: false };
    let mut seen = false;
    {
        let mut archive = Archive::new(&mut ended);
        let mut long_names = LongNames::default();
        // Raw: the parser's own reading of long names passes over what it does not understand.
        for entry in archive.entries().map_err(broken)?.raw(true) {
            let mut entry = entry.map_err(broken)?;
            tree.count()?;
            if long_names.take_up(entry.header().entry_type(), &mut entry)? {
                continue;
            }
            seen = true;
            let (name, target) = long_names.hand_out();
            let name = name.unwrap_or_else(|| entry.path_bytes().into_owned());
            let mode = entry.header().mode().map_err(broken)?;
            match entry.header().entry_type() {
                EntryType::Regular | EntryType::Continuous => tree.file(&name, mode, &mut entry)?,
                EntryType::Directory => tree.folder(&name)?,
                kind @ (EntryType::Symlink | EntryType::Link) => {
                    let target = target.or_else(|| entry.link_name_bytes().map(std::borrow::Cow::into_owned));
                    let target = target.ok_or_else(|| UnpackError::format("a link has no target"))?;
                    if kind == EntryType::Symlink { tree.link(&name, &target)? } else { tree.hard_link(&name, &target)? }
                }
                EntryType::Char | EntryType::Block => return Err(tree.special(&name, "a device")),
                EntryType::Fifo => return Err(tree.special(&name, "a fifo")),
                other => return Err(tree.special(&name, &format!("an entry of kind {other:?}"))),
            }
        }
        long_names.finish()?;
    }
    if !seen {
        return Err(UnpackError::format("the archive is empty"));
    }
    // The rest of the stream holds the checksum of the compression; reading on is what checks it.
    std::io::copy(&mut ended, &mut std::io::sink()).map_err(broken)?;
    Ok(())
}

/// Gives out at most `left` bytes: long-name records are read whole into memory by the parser, so the stream itself is what
/// has to end.
struct EndedStream<R> {
    inner: R,
    left: u64,
    past: bool,
}

impl<R: Read> Read for EndedStream<R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        if self.past {
            return Err(std::io::Error::other("it unpacks to more than is allowed"));
        }
        let count = self.inner.read(buffer)?;
        match self.left.checked_sub(count as u64) {
            Some(left) => self.left = left,
            None => {
                self.past = true;
                return Err(std::io::Error::other("it unpacks to more than is allowed"));
            }
        }
        Ok(count)
    }
}
