//! Ports for tests. The kernel gives the ports of `bind` to 0 to the source of any connection as well, so one that a test has let go
//! of may be taken when it is wanted again. These come from where it takes none, and below those that devrun chooses.

use std::net::TcpListener;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::harness::PATIENCE;
use crate::waits::eventually;

/// First port, and how many.
const RANGE: (u32, u32) = (10_000, 10_000);

/// The next to look at: each test has ports of its own, and other runs of the tests mostly begin elsewhere.
static NEXT: AtomicU32 = AtomicU32::new(0);

/// A listener on a port of loopback.
pub fn listener() -> TcpListener {
    let begin = std::process::id().wrapping_mul(101);
    (0..RANGE.1)
        .find_map(|_| {
            let next = begin.wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed));
            let port = u16::try_from(RANGE.0 + next % RANGE.1).expect("the range ends below 65536");
            TcpListener::bind(("127.0.0.1", port)).ok()
        })
        .expect("one of ten thousand ports is free")
}

/// A port of loopback that is free.
pub fn free_port() -> u16 {
    close(listener())
}

/// Ends a listener; its port. A child that another test is just starting has a copy of it until it executes its program, so the port
/// is free a moment later only.
pub fn close(listener: TcpListener) -> u16 {
    let port = listener.local_addr().expect("bound").port();
    drop(listener);
    // In `/proc/net/tcp` a socket that listens has the state 0A. Without that file there is nothing to wait for.
    let local = format!(":{port:04X} 00000000:0000 0A");
    let is_free = || !std::fs::read_to_string("/proc/net/tcp").unwrap_or_default().contains(&local);
    eventually("the port is free", PATIENCE, || is_free().then_some(()));
    port
}
