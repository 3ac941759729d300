//! Requests on connections that stay open, as fast as they are answered: `wrk` with the time of each failure.
//!
//! `load PORT METHOD CONNECTIONS MS` asks for `/pid` and prints a JSON object: how many were answered with 200, by which bodies where they are short, and
//! each failure with its time, the time its request was sent, and the reason. Times are those of the monotonic clock.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::sys::now;

#[derive(Default)]
struct Tally {
    good: u64,
    bodies: BTreeMap<String, u64>,
    failed: Vec<(u64, u64, String)>,
}

pub fn run(port: &str, method: &str, connections: u64, ms: u64) -> i32 {
    let end = now() + ms * 1_000_000;
    let all = Arc::new(Mutex::new(Tally::default()));
    let threads: Vec<_> = (0..connections)
        .map(|_| {
            let (all, port, method) = (Arc::clone(&all), port.to_owned(), method.to_owned());
            std::thread::Builder::new().stack_size(128 << 10).spawn(move || one(&port, &method, end, &all)).expect("a thread")
        })
        .collect();
    for thread in threads {
        thread.join().expect("it does not panic");
    }
    let all = all.lock().expect("no thread panics");
    let bodies: Vec<String> = all.bodies.iter().map(|(body, count)| format!("{body:?}: {count}")).collect();
    let failed: Vec<String> =
        all.failed.iter().map(|(at, sent, why)| format!("{{\"at\": {at}, \"sent\": {sent}, \"why\": {why:?}}}")).collect();
    println!("{{\"good\": {}, \"bodies\": {{{}}}, \"failed\": [{}]}}", all.good, bodies.join(", "), failed.join(", "));
    0
}

fn one(port: &str, method: &str, end: u64, all: &Mutex<Tally>) {
    let length = if method == "GET" { "" } else { "Content-Length: 0\r\n" };
    let request = format!("{method} /pid HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n{length}\r\n");
    let (mut stream, mut own) = (None, Tally::default());
    while now() < end {
        let sent = now();
        match ask(&mut stream, port, &request) {
            Ok(body) => {
                own.good += 1;
                if body.len() < 32 {
                    *own.bodies.entry(body).or_default() += 1;
                }
            }
            Err(why) => {
                stream = None;
                own.failed.push((now(), sent, why));
            }
        }
    }
    let mut all = all.lock().expect("no thread panics");
    all.good += own.good;
    for (body, count) in own.bodies {
        *all.bodies.entry(body).or_default() += count;
    }
    all.failed.append(&mut own.failed);
}

fn ask(stream: &mut Option<TcpStream>, port: &str, request: &str) -> Result<String, String> {
    let said = |what: &'static str| move |error: std::io::Error| format!("{what}: {error}");
    let mut connection = match stream.take() {
        Some(connection) => connection,
        None => {
            let connection = TcpStream::connect(format!("127.0.0.1:{port}")).map_err(said("connect"))?;
            connection.set_read_timeout(Some(Duration::from_secs(20))).map_err(said("connect"))?;
            connection
        }
    };
    connection.write_all(request.as_bytes()).map_err(said("write"))?;
    let (mut input, mut buffer) = (Vec::new(), [0; 16 << 10]);
    loop {
        let got = connection.read(&mut buffer).map_err(said("read"))?;
        if got == 0 {
            return Err("closed".to_owned());
        }
        input.extend_from_slice(&buffer[..got]);
        let Some(end) = input.windows(4).position(|four| four == b"\r\n\r\n") else { continue };
        let head = String::from_utf8_lossy(&input[..end]).to_ascii_lowercase();
        let length: usize =
            head.lines().find_map(|line| line.strip_prefix("content-length:")?.trim().parse().ok()).ok_or("no length")?;
        if input.len() < end + 4 + length {
            continue;
        }
        if !head.starts_with("http/1.1 200") {
            return Err(head.lines().next().unwrap_or_default().to_owned());
        }
        if !head.contains("connection: close") {
            *stream = Some(connection);
        }
        return Ok(String::from_utf8_lossy(&input[end + 4..]).into_owned());
    }
}
