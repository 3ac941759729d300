//! Where the server of `scope = "user"` is, and what a checkout calls its own part of it.

/// A shared server as one checkout sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SharedServer {
    /// Its port on the loopback interface.
    pub port: u16,
    /// The ending of the checkout's names.
    pub suffix: String,
}
