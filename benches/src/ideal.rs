//! The perfect program: it knows the whole graph, starts each service the instant the last one it waits for is ready, and does
//! nothing else. What it takes is what the kernel takes. Readiness comes by a descriptor (`mode=notify`), or, as for servers
//! that nobody changed, by a connect every millisecond (`mode=tcp`).
//!
//! `svc=PROGRAM events=FILE tiers=T width=W delay=MS mode=flat|notify|tcp port=BASE restart=1 life=MS grace=MS ignore=1`

use std::collections::HashMap;
use std::ffi::CString;
use std::os::fd::RawFd;

use crate::{option, sys, text};

struct Child {
    tier: u64,
    pid: i32,
    ended: RawFd,
    /// The read end of its ready pipe, or -1.
    ready: RawFd,
    /// The port that is still asked, or 0.
    port: u64,
    kill_at: Option<u64>,
}

struct Ideal<'a> {
    options: &'a [&'a str],
    children: HashMap<i32, Child>,
    open: HashMap<u64, u64>,
}

/// Starts, waits for TERM, stops.
pub fn run(options: &[&str]) -> i32 {
    let signals = sys::signals(&[libc::SIGTERM, libc::SIGINT]);
    let (tiers, width) = (option(options, "tiers", 1), option(options, "width", 1));
    let mut world = Ideal { options, children: HashMap::new(), open: HashMap::new() };
    for index in 0..width {
        world.start(0, index);
    }
    let mut stopping = false;
    loop {
        let mut fds = vec![sys::input(signals)];
        let mut owners = vec![0];
        for child in world.children.values() {
            fds.push(sys::input(child.ended));
            owners.push(child.pid);
            if child.ready >= 0 {
                fds.push(sys::input(child.ready));
                owners.push(-child.pid);
            }
        }
        let asking = world.children.values().any(|child| child.port > 0);
        let kill = world.children.values().filter_map(|child| child.kill_at).min();
        let wait = kill.map(|at| at.saturating_sub(sys::now()));
        sys::poll(&mut fds, if asking { Some(1_000_000) } else { wait });
        for (fd, owner) in fds.iter().zip(&owners).skip(1).filter(|(fd, _)| fd.revents != 0) {
            if *owner < 0 {
                world.passed(-owner, fd.fd);
            } else if let Some(child) = world.children.remove(owner) {
                sys::close(child.ended);
                sys::reap(child.pid);
                if option(options, "restart", 0) > 0 && !stopping {
                    world.start(child.tier, 0);
                }
            }
        }
        let open: Vec<i32> = world.children.values().filter(|child| child.port > 0 && connects(child.port)).map(|child| child.pid).collect();
        for pid in open {
            world.passed(pid, -1);
        }
        // A tier begins when all of the one before it are ready, as in the graph every rival is given.
        for tier in 1..tiers {
            if world.open.get(&(tier - 1)) == Some(&width) && !world.open.contains_key(&tier) {
                world.open.insert(tier, 0);
                for index in 0..width {
                    world.start(tier, index);
                }
            }
        }
        if fds[0].revents != 0 && !stopping {
            stopping = true;
            let grace = option(options, "grace", 10_000) * 1_000_000;
            for child in world.children.values_mut() {
                // SAFETY: a child that we have not reaped, so the number is its.
                unsafe { libc::kill(child.pid, libc::SIGTERM) };
                child.kill_at = Some(sys::now() + grace);
            }
        }
        for child in world.children.values_mut().filter(|child| child.kill_at.is_some_and(|at| at <= sys::now())) {
            // SAFETY: as above.
            unsafe { libc::kill(child.pid, libc::SIGKILL) };
            child.kill_at = None;
        }
        if stopping && world.children.is_empty() {
            return 0;
        }
    }
}

impl Ideal<'_> {
    fn start(&mut self, tier: u64, index: u64) {
        let width = option(self.options, "width", 1);
        let number = tier * width + index;
        let mode = text(self.options, "mode").unwrap_or("flat");
        let mut argv = vec![text(self.options, "svc").expect("svc=").to_owned(), "svc".to_owned()];
        argv.push(text(self.options, "events").expect("events=").to_owned());
        argv.push(format!("s{number}"));
        for key in ["delay", "life", "ignore"] {
            argv.extend(text(self.options, key).map(|value| format!("{key}={value}")));
        }
        let mut port = 0;
        let mut pipe = None;
        match mode {
            "notify" => {
                argv.push("fd=3".to_owned());
                pipe = Some(sys::pipe());
            }
            "tcp" => {
                port = option(self.options, "port", 0) + number;
                argv.push(format!("port={port}"));
            }
            _ => {}
        }
        let argv: Vec<CString> = argv.into_iter().map(|word| CString::new(word).expect("no zero byte")).collect();
        let pid = sys::spawn(&argv, pipe.map(|(_, write)| write));
        let ready = pipe.map_or(-1, |(read, write)| {
            sys::close(write);
            read
        });
        self.children.insert(pid, Child { tier, pid, ended: sys::pidfd(pid), ready, port, kill_at: None });
    }

    fn passed(&mut self, pid: i32, pipe: RawFd) {
        if pipe >= 0 {
            sys::close(pipe);
        }
        if let Some(child) = self.children.get_mut(&pid) {
            child.ready = -1;
            child.port = 0;
            *self.open.entry(child.tier).or_insert(0) += 1;
        }
    }
}

fn connects(port: u64) -> bool {
    std::net::TcpStream::connect(("127.0.0.1", port as u16)).is_ok()
}
