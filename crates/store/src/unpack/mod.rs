//! Archives into a folder, whatever is in them.
//!
//! Owns: which format a file is, the readers of each, and the rules of the catalogue (`strip`, `subdir`, …). All writing
//! goes through [`unpack_tree::UnpackTree`], which trusts no name, link or size, so a new format gets the same safety for nothing. No
//! archive library ever writes to disk here.

mod archive;
pub mod deb;
mod decoder;
pub mod glob;
mod long_name;
pub mod tarball;
pub mod unpack_tree;
pub mod wheel;

pub use archive::{kind_of, unpack};
pub use decoder::decoder;
