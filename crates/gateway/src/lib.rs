//! The HTTP entry point of a stack: a routing table, a reverse proxy, static directories, replies and redirects.
//!
//! It knows paths, services and their copies, and nothing of how they are supervised: somebody else puts what is known of each
//! copy into [`Upstreams`], and it decides nothing about health. `devrun __gateway` joins the two (`src/app/gateway.rs`).
//!
//! - `route_table`, `request_path`, `request_check`, `proxy_headers`: pure
//! - `upstreams`: which copy gets a request, and who has to wait
//! - `stream_proxy`: whole connections to the copies of a service, for what does not speak HTTP
//! - `gateway`, `gateway_client`, `client_peer`: the way of a request from the client of a connection to its answer
//! - `proxy`, `upstream_client`, `connection_pool`, `connect`, `tunnel`, `request_body`, `response_body`: requests to services, upgrades
//! - `local_ca`, `certificates`, `certificate_fields`: HTTPS with certificates of the user's own authority
//! - `static_files`, `own_response`: what the gateway answers itself
//! - `server`, `workers`, `framing_watch`: connections, threads, limits, the orderly end
//! - `request_record`, `access_log`: one line a request
//! - `route_check`: asks a running gateway which service answers a path

#![forbid(unsafe_code)]

mod access_log;
mod certificate_fields;
mod certificates;
mod client_peer;
mod connect;
mod connection_pool;
mod framing_watch;
mod gateway;
mod gateway_client;
mod local_ca;
mod own_response;
mod proxy;
mod proxy_headers;
mod request_body;
mod request_check;
mod request_path;
mod request_record;
mod response_body;
mod route_check;
mod route_counts;
mod route_table;
mod server;
mod static_files;
mod stream_proxy;
#[cfg(test)]
mod tests;
mod tunnel;
mod upstream_client;
mod upstreams;
mod workers;

pub use access_log::AccessLog;
pub use gateway::Gateway;
pub use local_ca::{LocalCa, LocalCaChange, LocalCaError, LocalCaPaths};
pub use route_check::{CheckedRoute, check_route};
pub use route_counts::RouteCounts;
pub use route_table::RouteTable;
pub use server::serve;
pub use stream_proxy::serve_streams;
pub use upstreams::{Availability, Upstream, Upstreams};
