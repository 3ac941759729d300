//! Writing numbered lines as fast as a pipe takes them, and proving afterwards that each of them arrived whole.

use std::fs::File;
use std::io::Read;

use crate::sys;

/// Bytes of one write.
const BLOCK: usize = 64 * 1024;
/// Digits of the counter.
const DIGITS: usize = 10;
/// What no supervisor's prefix contains.
const MARK: &[u8] = b"@@";

/// Lines `@@NAME SEQ LENGTH xxx…`, `length` bytes each with the newline. The block is built once and only its counters are
/// patched, so the writer is not what is measured. Its first and last stamp go to the file that `DEVRUN_BENCH_EVENTS` names.
pub fn spew(name: &str, bytes: u64, length: usize) -> i32 {
    let head = format!("@@{name} {:0DIGITS$} {length:07} ", 0);
    assert!(length > head.len(), "lines of {length} bytes do not hold their head");
    let mut line = head.clone().into_bytes();
    line.resize(length - 1, b'x');
    line.push(b'\n');
    let per_block = (BLOCK / length).max(1);
    let mut block = line.repeat(per_block);
    let counter = 2 + name.len() + 1;
    let total = bytes / length as u64;
    let events = std::env::var("DEVRUN_BENCH_EVENTS").ok().map(|path| sys::append(&path));
    if let Some(events) = events {
        sys::event(events, sys::now(), 'B', name);
    }
    let mut sequence = 0;
    while sequence < total {
        let lines = (total - sequence).min(per_block as u64) as usize;
        for index in 0..lines {
            digits(&mut block[index * length + counter..][..DIGITS], sequence + index as u64);
        }
        if !sys::write(1, &block[..lines * length]) {
            return 1;
        }
        sequence += lines as u64;
    }
    if let Some(events) = events {
        sys::event(events, sys::now(), 'E', name);
    }
    // Some lose what is in the pipe when a service ends; that is not what is measured here.
    std::thread::sleep(std::time::Duration::from_secs(1));
    0
}

fn digits(to: &mut [u8], mut value: u64) {
    for digit in to.iter_mut().rev() {
        *digit = b'0' + (value % 10) as u8;
        value /= 10;
    }
}

/// Reads files with lines of the comma-separated names, whatever stands before the mark, and prints one JSON object:
/// lines found, torn (shorter or longer than they say, or with other bytes in them) and the gaps of each name's sequence.
pub fn check(names: &str, files: &[&str]) -> i32 {
    let names: Vec<&str> = names.split(',').collect();
    let mut next = vec![0_u64; names.len()];
    let (mut lines, mut torn, mut missing, mut reordered, mut payload) = (0_u64, 0_u64, 0_u64, 0_u64, 0_u64);
    for path in files {
        let Ok(mut file) = File::open(path) else { continue };
        let mut buffer = vec![0_u8; 8 << 20];
        let mut held = 0;
        loop {
            let n = file.read(&mut buffer[held..]).unwrap_or(0);
            held += n;
            let mut at = 0;
            while let Some(end) = find(&buffer[at..held], b'\n') {
                let line = &buffer[at..at + end];
                at += end + 1;
                match parse(line, &names) {
                    Some((name, sequence, length)) => {
                        lines += 1;
                        payload += length;
                        if sequence >= next[name] {
                            missing += sequence - next[name];
                            next[name] = sequence + 1;
                        } else {
                            reordered += 1;
                        }
                    }
                    // Lines of the supervisor itself carry no mark and do not count.
                    None => torn += u64::from(line.windows(2).any(|pair| pair == MARK) || line.ends_with(b"xxxxxxxx")),
                }
            }
            buffer.copy_within(at..held, 0);
            held -= at;
            if n == 0 {
                break;
            }
            if held == buffer.len() {
                buffer.resize(buffer.len() * 2, 0);
            }
        }
    }
    println!("{{\"lines\": {lines}, \"payload\": {payload}, \"torn\": {torn}, \"missing\": {missing}, \"reordered\": {reordered}}}");
    0
}

fn find(bytes: &[u8], wanted: u8) -> Option<usize> {
    // SAFETY: the slice outlives the call, and a hit lies within it.
    unsafe {
        let hit = libc::memchr(bytes.as_ptr().cast(), i32::from(wanted), bytes.len());
        (!hit.is_null()).then(|| hit.cast::<u8>().offset_from(bytes.as_ptr()) as usize)
    }
}

/// Name, sequence and length of a whole line.
fn parse(line: &[u8], names: &[&str]) -> Option<(usize, u64, u64)> {
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    let mark = line.windows(2).position(|pair| pair == MARK)?;
    let line = &line[mark..];
    let name = names.iter().position(|name| line[2..].starts_with(name.as_bytes()) && line.get(2 + name.len()) == Some(&b' '))?;
    let rest = &line[3 + names[name].len()..];
    let sequence = value(rest.get(..DIGITS)?)?;
    let length = value(rest.get(DIGITS + 1..DIGITS + 8)?)?;
    let filler = rest.get(DIGITS + 9..)?;
    let whole = line.len() as u64 + 1 == length && filler.iter().all(|byte| *byte == b'x');
    whole.then_some((name, sequence, length))
}

fn value(digits: &[u8]) -> Option<u64> {
    std::str::from_utf8(digits).ok()?.parse().ok()
}
