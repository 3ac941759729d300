//! Archives into a folder, whatever is in them.
//!
//! Owns: which format a file is, the readers of each, and the rules of the catalogue (`strip`, `subdir`, …). All writing
//! goes through [`tree::UnpackTree`], which trusts no name, link or size, so a new format gets the same safety for nothing. No
//! archive library ever writes to disk here.

pub mod deb;
pub mod glob;
mod long_name;
pub mod tarball;
pub mod tree;
pub mod wheel;

use std::fs::File;
use std::io::{BufReader, Read};
use std::path::Path;

use super::catalog::UnpackRules;
use tree::{UnpackError, UnpackLimits, UnpackTree};

/// What kind of archive a file's name says it is.
#[must_use]
pub fn kind_of(file_name: &str) -> &'static str {
    let lower = file_name.to_ascii_lowercase();
    for (ending, kind) in [
        (".tar.gz", "tar.gz"),
        (".tgz", "tar.gz"),
        (".tar.xz", "tar.xz"),
        (".txz", "tar.xz"),
        (".tar.zst", "tar.zst"),
        (".tar", "tar"),
        (".zip", "zip"),
        (".whl", "zip"),
        (".jar", "zip"),
        (".deb", "deb"),
    ] {
        if lower.ends_with(ending) {
            return kind;
        }
    }
    "raw"
}

/// Unpacks `archives` one after the other into the empty folder `into`.
///
/// # Errors
/// What was refused and why; `into` is then to be thrown away.
pub fn unpack(archives: &[(&Path, &str)], rules: &UnpackRules, raw_name: &str, into: &Path) -> Result<(), UnpackError> {
    let mut packed = 0;
    for (path, _) in archives {
        packed += std::fs::metadata(path).map_err(|error| UnpackError::io(path, &error))?.len();
    }
    let mut tree = UnpackTree::new(into, rules, UnpackLimits::for_packed(packed));
    for (path, name) in archives {
        let kind = rules.kind.as_deref().unwrap_or_else(|| kind_of(name));
        let file = File::open(path).map_err(|error| UnpackError::io(path, &error))?;
        one(file, kind, raw_name, &mut tree).map_err(|refused| refused.within(name))?;
    }
    tree.finish()
}

fn one(file: File, kind: &str, raw_name: &str, tree: &mut UnpackTree<'_>) -> Result<(), UnpackError> {
    match kind {
        "zip" => wheel::read(file, tree),
        "deb" => deb::read(BufReader::new(file), tree),
        "raw" => tree.whole_file(raw_name, &mut BufReader::new(file)),
        tar => tarball::read(decoder(BufReader::new(file), tar.strip_prefix("tar").unwrap_or(tar))?, tree),
    }
}

/// The stream behind a compression's ending (`.gz`, `.xz`, or none).
///
/// # Errors
/// When nothing here can read it.
pub fn decoder<'a>(packed: impl Read + 'a, ending: &str) -> Result<Box<dyn Read + 'a>, UnpackError> {
    match ending {
        "" => Ok(Box::new(packed)),
        ".gz" => Ok(Box::new(flate2::read::MultiGzDecoder::new(packed))),
        // A dictionary that an honest archive never asks for would be memory at the archive's word.
        ".xz" => Ok(Box::new(lzma_rust2::XzReader::new_mem_limit(packed, true, 256 * 1024))),
        ".zst" => Ok(Box::new(ZstdFrames { state: Some(FrameState::Between(packed)) })),
        other => Err(UnpackError::format(&format!("unknown archive format {other:?}"))),
    }
}

/// A zstd stream: one frame after the other, as parallel packers write them.
struct ZstdFrames<R: Read> {
    /// Absent only after an error.
    state: Option<FrameState<R>>,
}

enum FrameState<R: Read> {
    Between(R),
    // Its tables are large.
    Within(Box<ruzstd::decoding::StreamingDecoder<Peeked<R>, ruzstd::decoding::FrameDecoder>>),
    End,
}

type Peeked<R> = std::io::Chain<std::io::Cursor<[u8; 1]>, R>;

impl<R: Read> Read for ZstdFrames<R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let broken = |error: &dyn std::fmt::Display| std::io::Error::new(std::io::ErrorKind::InvalidData, error.to_string());
        loop {
            match self.state.take().ok_or_else(|| broken(&"it is read on after an error"))? {
                FrameState::Between(mut packed) => {
                    let mut first = [0u8; 1];
                    if packed.read(&mut first)? == 0 {
                        self.state = Some(FrameState::End);
                        return Ok(0);
                    }
                    let frame = std::io::Cursor::new(first).chain(packed);
                    let decoder = ruzstd::decoding::StreamingDecoder::new(frame).map_err(|error| broken(&error))?;
                    self.state = Some(FrameState::Within(Box::new(decoder)));
                }
                FrameState::Within(mut decoder) => match decoder.read(buffer)? {
                    0 if !buffer.is_empty() => {
                        let (_, packed) = decoder.into_inner().into_inner();
                        self.state = Some(FrameState::Between(packed));
                    }
                    count => {
                        self.state = Some(FrameState::Within(decoder));
                        return Ok(count);
                    }
                },
                FrameState::End => {
                    self.state = Some(FrameState::End);
                    return Ok(0);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zstd_frames_are_read_one_after_the_other() {
        let frame = |text: &[u8]| {
            let size = u8::try_from(text.len()).unwrap();
            // Magic; a single segment whose size is one byte; a last raw block of that size.
            let mut bytes = vec![0x28, 0xb5, 0x2f, 0xfd, 0x20, size, size << 3 | 1, 0, 0];
            bytes.extend(text);
            bytes
        };
        let read = |packed: &[u8]| {
            let mut out = Vec::new();
            decoder(packed, ".zst").unwrap().read_to_end(&mut out).map(|_| out)
        };
        assert_eq!(read(&[frame(b"one"), frame(b"two")].concat()).unwrap(), b"onetwo");
        assert_eq!(read(b"").unwrap(), b"");
        assert!(read(&frame(b"cut")[..9]).is_err());
        assert!(read(b"no zstd at all").is_err());
    }

    #[test]
    fn kinds_come_from_names() {
        for (name, kind) in
            [("a.TGZ", "tar.gz"), ("b-1.2.tar.xz", "tar.xz"), ("c.whl", "zip"), ("d.deb", "deb"), ("minio", "raw")]
        {
            assert_eq!(kind_of(name), kind, "{name}");
        }
    }
}
