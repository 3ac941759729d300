//! FNV-1a: a number for bytes, the same on every machine and in every version, which the standard library's hashers do not
//! promise. Every single changed byte changes it, and it needs no table.

/// Returns the hash of the bytes, 64 bits of it.
#[must_use]
pub fn fnv1a(bytes: impl IntoIterator<Item = u8>) -> u64 {
    bytes.into_iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// From the authors' own test vectors.
    #[test]
    fn it_is_the_published_function() {
        for (text, hash) in [("", 0xcbf2_9ce4_8422_2325), ("a", 0xaf63_dc4c_8601_ec8c), ("foobar", 0x8594_4171_f739_67e8)] {
            assert_eq!(fnv1a(text.bytes()), hash, "{text:?}");
        }
    }
}
