//! Generated secrets: one file each, 0600 in a 0700 folder, made once whatever races.

use std::path::Path;

use crate::model::Failure;

/// Reads the secret, or makes it. Two processes that race get one value.
///
/// # Errors
/// `Config` when folder or file belong to somebody else or are open to others.
pub fn read_or_create(_dir: &Path, _name: &str, _length: usize) -> Result<String, Failure> {
    unimplemented!()
}
/// Reads the secret if it is there.
///
/// # Errors
/// As above.
pub fn read(_dir: &Path, _name: &str) -> Result<Option<String>, Failure> {
    unimplemented!()
}
