//! A client of an S3 server: buckets with their policies, and objects with their metadata. Path style, plain HTTP: these are the
//! servers of a stack.
//!
//! - `client`: the calls
//! - `listing`: the XML of their answers

mod client;
mod listing;

pub use client::{ObjectClient, StoredObject};
pub use listing::{ListedObject, ObjectPage};
