//! Commands about data: volumes, secrets, database clients.

pub mod client;
pub mod secret;
pub mod volumes;
