//! To come.

pub mod wait_url;
