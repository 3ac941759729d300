//! Which connections of a server wait for a request, and which of them give way. The servers of the gateway, of the dashboard and of
//! telemetry use it.
//!
//! A client can open connections and send nothing, or half a request. A server that refuses further ones, or lets them queue, is
//! then blocked until those time out. Here every connection is accepted, those that wait are limited in number, and the one that has
//! waited for the longest is closed for a newer one. One with a request in progress, or a response that is still being sent, does not
//! wait. An idle connection that is kept for a next request does: clients expect that such a one can be closed at any time
//! (RFC 9112, 9.5).

#![forbid(unsafe_code)]

mod client_connections;
mod held_body;

pub use client_connections::{ActiveRequest, ClientConnection, ClientConnections};
pub use held_body::HeldBody;
