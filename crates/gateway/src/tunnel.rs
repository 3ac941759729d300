//! After a change of protocol (WebSocket and others) the two connections are one: bytes go both ways until either ends.

use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::io::copy_bidirectional_with_sizes;

use super::upstreams::Lease;

/// For each direction. Small, as thousands of WebSockets are idle at a time, each with two of these.
const BUFFER: usize = 4 * 1024;

/// Joins the two once both have changed.
pub(crate) fn join(client: OnUpgrade, upstream: OnUpgrade, lease: Lease) {
    tokio::spawn(async move {
        // One that never comes about has ended, and with it the other: both are dropped.
        let (Ok(client), Ok(upstream)) = tokio::join!(client, upstream) else { return };
        let (mut client, mut upstream) = (TokioIo::new(client), TokioIo::new(upstream));
        // A reset is how many clients hang up.
        let _ended = copy_bidirectional_with_sizes(&mut client, &mut upstream, BUFFER, BUFFER).await;
        drop(lease);
    });
}
