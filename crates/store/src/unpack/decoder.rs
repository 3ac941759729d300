//! The stream behind a compression.

use std::io::Read;

use super::unpack_tree::UnpackError;

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
}
