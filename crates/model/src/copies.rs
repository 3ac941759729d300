//! The copies of a service: what they are called, the address that they share, how many there are.

use serde::{Deserialize, Serialize};

/// What the first copy of a service is called in a run; it keeps its name for as long as the run lasts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FirstCopy {
    /// By the service's name: it was started alone.
    Alone,
    /// With a number, as all others.
    Numbered,
}

/// The address that the copies of a service share; none of them has it itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct SharedAddress {
    /// The port, on the address that the service is bound to.
    pub port: u16,
    /// Requests are balanced; else whole connections.
    pub is_http: bool,
}

/// A number of copies that `devrun scale` has set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct RememberedScale {
    /// How many copies.
    pub copies: u32,
    /// The number of the procfile at that time: another one there ends it.
    pub procfile: u32,
}
