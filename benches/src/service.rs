//! `svc`: a server that does nothing but say when things happened to it.
//!
//! Stamps: `S` main entered, `R` ready, `T` TERM seen, `X` about to end. Options: `delay=MS` before it is ready; `port=N`
//! answers every connection with an HTTP 200; `fd=N` writes a newline there when ready; `ignore=1` outlives TERM; `life=MS`
//! ends with 1 so long after it was ready; `say=1` prints `ready` when it is.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::os::fd::AsRawFd;
use std::time::Duration;

use crate::{option, sys};

/// Runs until told to stop.
pub fn run(begun: u64, events: &str, name: &str, options: &[&str]) -> i32 {
    let log = sys::append(events);
    sys::event(log, begun, 'S', name);
    let stop = sys::signals(&[libc::SIGTERM, libc::SIGINT]);
    let delay = option(options, "delay", 0) * 1_000_000;
    let mut fds = [sys::input(stop), sys::input(-1)];
    let ready_at = begun + delay;
    while sys::now() < ready_at {
        sys::poll(&mut fds[..1], Some(ready_at - sys::now().min(ready_at)));
        if fds[0].revents != 0 {
            return end(log, name);
        }
    }
    let port = option(options, "port", 0);
    let listener = (port > 0).then(|| TcpListener::bind(("127.0.0.1", port as u16)).unwrap_or_else(|error| panic!("port {port}: {error}")));
    // Ready is the moment at which a connection would be taken, before anybody can have been told.
    let ready = sys::now();
    let fd = option(options, "fd", 0);
    if fd > 0 {
        sys::write(fd as i32, b"\n");
        sys::close(fd as i32);
    }
    if option(options, "say", 0) > 0 {
        sys::write(1, b"ready\n");
    }
    sys::event(log, ready, 'R', name);
    if let Some(listener) = &listener {
        fds[1] = sys::input(listener.as_raw_fd());
    }
    let life = option(options, "life", 0) * 1_000_000;
    loop {
        let left = (life > 0).then(|| (ready + life).saturating_sub(sys::now()));
        if left == Some(0) {
            sys::event(log, sys::now(), 'X', name);
            return 1;
        }
        sys::poll(&mut fds, left);
        if fds[0].revents != 0 {
            if option(options, "ignore", 0) > 0 {
                sys::event(log, sys::now(), 'T', name);
                drain(stop);
                continue;
            }
            return end(log, name);
        }
        if fds[1].revents != 0
            && let Some(Ok((mut stream, _))) = listener.as_ref().map(TcpListener::accept)
        {
            let _ = stream.set_read_timeout(Some(Duration::from_millis(100)));
            let mut request = [0; 2048];
            // A probe that only connects sends nothing and is gone: then there is nobody to answer.
            if matches!(stream.read(&mut request), Ok(n) if n > 0) {
                let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok");
            }
        }
    }
}

fn drain(signals: i32) {
    let mut bytes = [0_u8; 128];
    // SAFETY: the buffer outlives the call.
    unsafe { libc::read(signals, bytes.as_mut_ptr().cast(), bytes.len()) };
}

fn end(log: i32, name: &str) -> i32 {
    let now = sys::now();
    sys::event(log, now, 'T', name);
    sys::event(log, sys::now(), 'X', name);
    0
}
