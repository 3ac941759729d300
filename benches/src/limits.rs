//! What the kernel of this machine can do, measured in the same session as everything else; printed as one JSON object.

use std::ffi::CString;
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{FromRawFd, IntoRawFd};

use crate::sys;

/// Bytes that go through the pipe.
const PIPED: u64 = 1 << 30;

/// Prints the limits; `folder` takes the file that the pipe is written to.
pub fn run(folder: &str) -> i32 {
    let me = std::env::current_exe().expect("our own path").display().to_string();
    let idle: Vec<CString> = [me.as_str(), "true"].iter().map(|word| CString::new(*word).expect("no zero byte")).collect();
    let mut spawn_wait = Vec::new();
    for _ in 0..50 {
        let begun = sys::now();
        sys::reap(sys::spawn(&idle, None));
        spawn_wait.push(sys::now() - begun);
    }
    let mut killed = Vec::new();
    let events = format!("{folder}/limits.events");
    let service: Vec<CString> =
        [me.as_str(), "svc", events.as_str(), "limit"].iter().map(|word| CString::new(*word).expect("no zero byte")).collect();
    for _ in 0..20 {
        let pid = sys::spawn(&service, None);
        let pidfd = sys::pidfd(pid);
        std::thread::sleep(std::time::Duration::from_millis(5));
        let begun = sys::now();
        // SAFETY: our own child, not reaped yet.
        unsafe { libc::kill(pid, libc::SIGKILL) };
        sys::poll(&mut [sys::input(pidfd)], None);
        killed.push(sys::now() - begun);
        sys::reap(pid);
        sys::close(pidfd);
    }
    let (seconds, cpu) = pipe_to_file(folder, &me);
    println!(
        "{{\"spawn_wait_us\": {}, \"kill_seen_us\": {}, \"pipe_mib_s\": {:.0}, \"pipe_cpu_s_per_gib\": {:.3}}}",
        median(spawn_wait) / 1000,
        median(killed) / 1000,
        PIPED as f64 / 1_048_576.0 / seconds,
        cpu
    );
    0
}

fn median(mut values: Vec<u64>) -> u64 {
    values.sort_unstable();
    values[values.len() / 2]
}

/// Reads what `spew` writes through a pipe of 1 MiB and writes it to a file: what capturing a log costs at least. Returns
/// seconds and CPU seconds of the reader.
fn pipe_to_file(folder: &str, me: &str) -> (f64, f64) {
    let (read, write) = sys::pipe();
    // SAFETY: a pipe of ours.
    unsafe { libc::fcntl(read, libc::F_SETPIPE_SZ, 1 << 20) };
    let path = format!("{folder}/limits.log");
    let mut file = File::create(&path).expect("a file in the folder");
    // SAFETY: the descriptors are ours and not used otherwise.
    let (mut read, write) = unsafe { (File::from_raw_fd(read), File::from_raw_fd(write)) };
    let begun = sys::now();
    let mut child = std::process::Command::new(me)
        .args(["spew", "limit", &PIPED.to_string(), "100"])
        .stdout(write)
        .spawn()
        .expect("our own program starts");
    let before = cpu();
    let mut buffer = vec![0; 1 << 20];
    let mut left = PIPED / 100 * 100;
    while left > 0 {
        let n = read.read(&mut buffer).unwrap_or(0);
        if n == 0 || file.write_all(&buffer[..n]).is_err() {
            break;
        }
        left -= n as u64;
    }
    let used = cpu() - before;
    let seconds = (sys::now() - begun) as f64 / 1e9;
    let _ = child.wait();
    sys::close(file.into_raw_fd());
    let _ = std::fs::remove_file(path);
    (seconds, used)
}

/// CPU seconds of this process.
fn cpu() -> f64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the structure outlives the call.
    unsafe { libc::clock_gettime(libc::CLOCK_PROCESS_CPUTIME_ID, &mut time) };
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}
