//! Commands about data: volumes, snapshots, secrets, database clients.

pub mod backup;
pub mod branch;
pub mod client;
pub mod db;
pub mod secret;
pub mod snapshot;
pub mod volumes;
