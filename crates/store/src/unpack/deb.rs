//! Debian packages into a tree: an `ar` archive whose member `data.tar.*` holds the files. No maintainer script is ever run.

use std::io::Read;

use super::decoder::decoder;
use super::tarball;
use super::unpack_tree::{UnpackError, UnpackTree};

/// Reads the data member.
///
/// # Errors
/// What is refused, or where the package is broken.
pub fn read(mut package: impl Read, tree: &mut UnpackTree<'_>) -> Result<(), UnpackError> {
    let broken = |what: &str| UnpackError::format(&format!("the package is broken: {what}"));
    let mut magic = [0_u8; 8];
    package.read_exact(&mut magic).map_err(|error| broken(&error.to_string()))?;
    if &magic != b"!<arch>\n" {
        return Err(broken("not an ar archive"));
    }
    let mut has_data = false;
    // A package has three members; the bound keeps a forged one from being read for ever.
    for _ in 0..16 {
        let mut header = [0_u8; 60];
        match package.read(&mut header[..1]).map_err(|error| broken(&error.to_string()))? {
            0 if has_data => return Ok(()),
            _ => package.read_exact(&mut header[1..]).map_err(|_| broken("it has no data member"))?,
        }
        if &header[58..] != b"`\n" {
            return Err(broken("a member has no header"));
        }
        let text = |range: std::ops::Range<usize>| String::from_utf8_lossy(&header[range]).trim_end().to_owned();
        let name = text(0..16).trim_end_matches('/').to_owned();
        let size: u64 = text(48..58).parse().map_err(|_| broken("a member has no size"))?;
        let mut member = package.by_ref().take(size);
        if let Some(ending) = name.strip_prefix("data.tar") {
            if std::mem::replace(&mut has_data, true) {
                return Err(broken("it has two data members"));
            }
            tarball::read(decoder(&mut member, ending)?, tree)?;
        }
        std::io::copy(&mut member, &mut std::io::sink()).map_err(|error| broken(&error.to_string()))?;
        if size % 2 == 1 {
            let mut padding = [0_u8; 1];
            // The last member of some packages has none.
            let count = package.read(&mut padding).map_err(|error| broken(&error.to_string()))?;
            if count == 0 && !has_data {
                return Err(broken("it has no data member"));
            }
        }
    }
    if has_data { Ok(()) } else { Err(broken("it has no data member")) }
}
