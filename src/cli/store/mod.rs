//! Commands about binaries.

pub mod binaries;
