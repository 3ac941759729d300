//! Where the requests of a connection come from.

use std::net::IpAddr;

use http::header::HeaderValue;

/// Where a request comes from.
#[derive(Debug, Clone)]
pub(crate) struct Peer {
    pub address: IpAddr,
    /// The address as a header's value.
    pub name: HeaderValue,
    /// It is on this machine.
    pub is_local: bool,
    /// It speaks TLS with the gateway.
    pub is_secure: bool,
}

impl Peer {
    /// One that does not speak TLS.
    pub(crate) fn new(address: IpAddr, is_local: bool) -> Self {
        // An address has no character that a header may not have.
        let name = HeaderValue::try_from(address.to_string()).unwrap_or(HeaderValue::from_static("unknown"));
        Self { address, name, is_local, is_secure: false }
    }
}
