//! What the reverse proxies of `scripts/bench gateway` lead to: one thread, epoll, answers that are made beforehand, so that it is
//! never what limits them. It ends as a good server does: on TERM it accepts nothing more, each connection gets one last answer.
//!
//! `/` is 1 KiB, `/pid` the process, `/big` 100 MB; a request body is read and thrown away; an upgrade is answered 101 and then idle.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::sys::now;

const BIG: u64 = 100 << 20;
const CHUNK: usize = 256 << 10;
/// How long a connection without a request is kept after TERM, in nanoseconds: its next request may be on its way.
const LINGER: u64 = 300_000_000;
const MOST: u64 = 5_000_000_000;

static STOPPING: AtomicBool = AtomicBool::new(false);

extern "C" fn stop(_: libc::c_int) {
    STOPPING.store(true, Ordering::Relaxed);
}

#[derive(Default)]
struct Connection {
    input: Vec<u8>,
    /// Of a request body, to be thrown away.
    discard: u64,
    /// Of the response: what is written at once, then so many bytes of anything.
    output: Vec<u8>,
    rest: u64,
    is_last: bool,
    is_upgraded: bool,
}

enum Next {
    Wait,
    Close,
}

fn listener() -> i32 {
    let passed = std::env::var("LISTEN_PID").is_ok_and(|pid| pid == std::process::id().to_string());
    if passed {
        return 3;
    }
    let port: u16 = std::env::var("PORT").expect("PORT or a passed socket").parse().expect("a port");
    // SAFETY: plain calls on a descriptor that is ours; the address outlives them.
    unsafe {
        let fd = libc::socket(libc::AF_INET, libc::SOCK_STREAM | libc::SOCK_CLOEXEC, 0);
        let one: libc::c_int = 1;
        libc::setsockopt(fd, libc::SOL_SOCKET, libc::SO_REUSEADDR, (&raw const one).cast(), 4);
        let mut address: libc::sockaddr_in = std::mem::zeroed();
        address.sin_family = libc::AF_INET as u16;
        address.sin_port = port.to_be();
        address.sin_addr.s_addr = u32::from_be_bytes([127, 0, 0, 1]).to_be();
        assert!(libc::bind(fd, (&raw const address).cast(), 16) == 0, "port {port} is taken");
        assert!(libc::listen(fd, 4096) == 0);
        fd
    }
}

pub fn run() -> i32 {
    // SAFETY: the handler only stores a flag; without SA_RESTART the wait below ends.
    let (epoll, listener) = unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = stop as *const () as usize;
        libc::sigaction(libc::SIGTERM, &raw const action, std::ptr::null_mut());
        libc::signal(libc::SIGPIPE, libc::SIG_IGN);
        (libc::epoll_create1(libc::EPOLL_CLOEXEC), listener())
    };
    nonblocking(listener);
    let watch = |fd: i32, how: i32| {
        let mut event = libc::epoll_event { events: how as u32, u64: fd as u64 };
        // SAFETY: both descriptors are open, the event outlives the call.
        unsafe { libc::epoll_ctl(epoll, libc::EPOLL_CTL_ADD, fd, &raw mut event) };
    };
    watch(listener, libc::EPOLLIN);
    let small = answer("200 OK", &[b'x'; 1024]);
    let filler = vec![b'x'; CHUNK];
    let mut buffer = vec![0; CHUNK];
    let mut connections: HashMap<i32, Connection> = HashMap::new();
    let mut stopped_at = None;
    // SAFETY: an array of plain numbers.
    let mut events: [libc::epoll_event; 256] = unsafe { std::mem::zeroed() };
    loop {
        let pause = if stopped_at.is_some() { 20 } else { -1 };
        // SAFETY: the array is as long as said.
        let count = unsafe { libc::epoll_wait(epoll, events.as_mut_ptr(), 256, pause) };
        for event in &events[..usize::try_from(count).unwrap_or(0)] {
            let fd = event.u64 as i32;
            if fd == listener {
                loop {
                    let flags = libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC;
                    // SAFETY: no address is asked for.
                    let new = unsafe { libc::accept4(listener, std::ptr::null_mut(), std::ptr::null_mut(), flags) };
                    if new < 0 {
                        break;
                    }
                    let one: libc::c_int = 1;
                    // SAFETY: the option outlives the call.
                    unsafe { libc::setsockopt(new, libc::IPPROTO_TCP, libc::TCP_NODELAY, (&raw const one).cast(), 4) };
                    connections.insert(new, Connection::default());
                    watch(new, libc::EPOLLIN | libc::EPOLLOUT | libc::EPOLLRDHUP | libc::EPOLLET);
                }
                continue;
            }
            let Some(connection) = connections.get_mut(&fd) else { continue };
            if matches!(connection.go_on(fd, &small, &filler, &mut buffer), Next::Close) {
                connections.remove(&fd);
                close(fd);
            }
        }
        if STOPPING.load(Ordering::Relaxed) && stopped_at.is_none() {
            stopped_at = Some(now());
            // What is in its queue is taken first: an accepted connection is answered.
            close_listener(epoll, listener, &mut connections, &watch);
        }
        if let Some(stopped) = stopped_at {
            let since = now() - stopped;
            let ended: Vec<i32> = connections
                .iter()
                .filter(|(_, one)| since > MOST || one.is_upgraded || since > LINGER && one.is_idle())
                .map(|(fd, _)| *fd)
                .collect();
            for fd in ended {
                connections.remove(&fd);
                close(fd);
            }
            if connections.is_empty() {
                return 0;
            }
        }
    }
}

fn close_listener(epoll: i32, listener: i32, connections: &mut HashMap<i32, Connection>, watch: &impl Fn(i32, i32)) {
    // A socket that was passed is another process's as well, which accepts what comes next.
    let is_passed = listener == 3;
    while !is_passed {
        // SAFETY: no address is asked for.
        let new = unsafe { libc::accept4(listener, std::ptr::null_mut(), std::ptr::null_mut(), libc::SOCK_NONBLOCK) };
        if new < 0 {
            break;
        }
        connections.insert(new, Connection::default());
        watch(new, libc::EPOLLIN | libc::EPOLLOUT | libc::EPOLLRDHUP | libc::EPOLLET);
    }
    // SAFETY: the listener is in the set until now.
    unsafe { libc::epoll_ctl(epoll, libc::EPOLL_CTL_DEL, listener, std::ptr::null_mut()) };
    close(listener);
}

impl Connection {
    fn is_idle(&self) -> bool {
        self.input.is_empty() && self.output.is_empty() && self.rest == 0 && self.discard == 0
    }

    /// Reads and writes until the kernel has no more, or no more room.
    fn go_on(&mut self, fd: i32, small: &[u8], filler: &[u8], buffer: &mut [u8]) -> Next {
        loop {
            while !self.output.is_empty() || self.rest > 0 {
                let piece = if self.output.is_empty() { &filler[..self.rest.min(CHUNK as u64) as usize] } else { &self.output };
                // SAFETY: the piece is as long as said.
                let sent = unsafe { libc::write(fd, piece.as_ptr().cast(), piece.len()) };
                let Ok(sent) = usize::try_from(sent) else {
                    return if would_block() { Next::Wait } else { Next::Close };
                };
                if self.output.is_empty() {
                    self.rest -= sent as u64;
                } else {
                    self.output.drain(..sent);
                }
                if self.output.is_empty() && self.rest == 0 && self.is_last {
                    return Next::Close;
                }
            }
            // SAFETY: the buffer is as long as said.
            let got = unsafe { libc::read(fd, buffer.as_mut_ptr().cast(), buffer.len()) };
            let got = match usize::try_from(got) {
                Ok(0) => return Next::Close,
                Ok(got) => got,
                Err(_) => return if would_block() { Next::Wait } else { Next::Close },
            };
            if self.is_upgraded {
                continue;
            }
            let mut got = &buffer[..got];
            if self.discard > 0 {
                let part = self.discard.min(got.len() as u64);
                self.discard -= part;
                got = &got[part as usize..];
                if self.discard == 0 {
                    self.respond(answer("200 OK", b""), 0);
                }
            }
            self.input.extend_from_slice(got);
            if let Some(end) = self.input.windows(4).position(|four| four == b"\r\n\r\n") {
                let body = self.input.split_off(end + 4);
                let head = std::mem::take(&mut self.input);
                self.request(&head, &body, small);
            }
        }
    }

    fn request(&mut self, head: &[u8], body: &[u8], small: &[u8]) {
        let text = String::from_utf8_lossy(head);
        let path = text.split(' ').nth(1).unwrap_or("/");
        if head.first() == Some(&b'P') {
            let length = text.lines().find_map(|line| line.to_ascii_lowercase().strip_prefix("content-length:")?.trim().parse().ok());
            self.discard = length.unwrap_or(0u64).saturating_sub(body.len() as u64);
            if self.discard == 0 {
                self.respond(answer("200 OK", b""), 0);
            }
        } else if text.to_ascii_lowercase().contains("\r\nupgrade: websocket") {
            self.is_upgraded = true;
            self.output = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n".to_vec();
        } else {
            match path {
                "/big" => {
                    let head = format!("HTTP/1.1 200 OK\r\nContent-Type: application/octet-stream\r\nContent-Length: {BIG}\r\n\r\n");
                    self.respond(head.into_bytes(), BIG);
                }
                "/pid" => self.respond(answer("200 OK", std::process::id().to_string().as_bytes()), 0),
                _ => self.respond(small.to_vec(), 0),
            }
        }
    }

    /// After TERM the response says that it is the last one of its connection.
    fn respond(&mut self, mut response: Vec<u8>, rest: u64) {
        if STOPPING.load(Ordering::Relaxed) {
            let line = response.iter().position(|byte| *byte == b'\n').unwrap_or(0) + 1;
            response.splice(line..line, *b"Connection: close\r\n");
            self.is_last = true;
        }
        (self.output, self.rest) = (response, rest);
    }
}

fn answer(status: &str, body: &[u8]) -> Vec<u8> {
    let mut all = format!("HTTP/1.1 {status}\r\nContent-Type: text/plain\r\nContent-Length: {}\r\n\r\n", body.len()).into_bytes();
    all.extend_from_slice(body);
    all
}

fn would_block() -> bool {
    matches!(std::io::Error::last_os_error().raw_os_error(), Some(libc::EAGAIN | libc::EINTR))
}

fn nonblocking(fd: i32) {
    // SAFETY: a flag of a descriptor that is ours.
    unsafe { libc::fcntl(fd, libc::F_SETFL, libc::fcntl(fd, libc::F_GETFL) | libc::O_NONBLOCK) };
}

fn close(fd: i32) {
    // SAFETY: it is open and no one uses it any more.
    unsafe { libc::close(fd) };
}
