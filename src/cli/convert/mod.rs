//! Commands that read and write the formats of other programs.

pub mod export;
pub mod import;
