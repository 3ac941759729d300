//! Who holds a lock on a file or a directory, as `/proc/locks` lists them.
//!
//! A supervisor holds the instance lock and a keeper its state directory: evidence that no journal can give. The list names the
//! process that took the lock (proc_locks(5)), which may have ended since while a child holds the descriptor, so whoever
//! signals compares the identity as well.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// Processes that have a lock on what lies at this path; a link is not followed. Empty where the kernel has no such list.
#[must_use]
pub fn pids(path: &Path) -> Vec<i32> {
    let Ok(meta) = std::fs::symlink_metadata(path) else { return Vec::new() };
    let text = locks().unwrap_or_default();
    let device = (!devices_differ(path)).then(|| device_numbers(meta.dev()));
    parse(&text, device, meta.ino())
}

/// Passes over a list that one read(2) does not give as a whole.
const PASSES: usize = 3;

/// The kernel's list of locks. A read(2) gives at most a page of it (some seventy locks), whatever room there is, and the next one
/// walks the list from the number of the entry that it has come to: where one before it has gone in between, another is left out.
/// So a longer list is read several times, and what any pass has counts.
fn locks() -> io::Result<String> {
    let mut text = String::new();
    for _ in 0..PASSES {
        let reads = read_list(&mut File::open("/proc/locks")?, &mut text)?;
        if reads <= 1 {
            break;
        }
    }
    Ok(text)
}

/// Appends the list; how many reads it took.
fn read_list(list: &mut impl Read, text: &mut String) -> io::Result<usize> {
    let mut page = [0u8; 8 << 10];
    let mut reads = 0;
    loop {
        match list.read(&mut page)? {
            0 => return Ok(reads),
            count => text.push_str(&String::from_utf8_lossy(&page[..count])),
        }
        reads += 1;
    }
}

/// Major and minor number, as the list names a device.
#[cfg(target_os = "linux")]
fn device_numbers(device: u64) -> (u32, u32) {
    (rustix::fs::major(device), rustix::fs::minor(device))
}

/// There is no such list elsewhere.
#[cfg(not(target_os = "linux"))]
fn device_numbers(_device: u64) -> (u32, u32) {
    (0, 0)
}

fn parse(text: &str, device: Option<(u32, u32)>, inode: u64) -> Vec<i32> {
    let held = |line: &str| {
        // `1: FLOCK ADVISORY WRITE 4711 fe:00:12345 0 EOF`; one that waits has an arrow in front.
        let words: Vec<&str> = line.split_ascii_whitespace().collect();
        if words.get(1) != Some(&"FLOCK") {
            return None;
        }
        let mut file = words.get(5)?.split(':');
        let (major, minor) = (file.next()?, file.next()?);
        let there = (u32::from_str_radix(major, 16).ok()?, u32::from_str_radix(minor, 16).ok()?);
        if file.next()?.parse::<u64>().ok()? != inode || device.is_some_and(|device| device != there) {
            return None;
        }
        words.get(4)?.parse::<i32>().ok().filter(|pid| *pid > 1)
    };
    let mut pids: Vec<i32> = text.lines().filter_map(held).collect();
    pids.sort_unstable();
    pids.dedup();
    pids
}

/// Whether files of this file system have another device than the one in the kernel's list (btrfs(5), subvolumes;
/// overlayfs of the kernel's documentation).
#[cfg(target_os = "linux")]
fn devices_differ(path: &Path) -> bool {
    const BTRFS: u32 = 0x9123_683e;
    const OVERLAY: u32 = 0x794c_7630;
    rustix::fs::statfs(path).is_ok_and(|stat| [BTRFS, OVERLAY].contains(&(stat.f_type as u64 as u32)))
}

#[cfg(not(target_os = "linux"))]
fn devices_differ(_path: &Path) -> bool {
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn holders_are_read_and_waiters_are_not() {
        let text = "1: FLOCK  ADVISORY  WRITE 4711 fe:00:12345 0 EOF\n1: -> FLOCK  ADVISORY  WRITE 4712 fe:00:12345 0 EOF\n\
                    2: POSIX  ADVISORY  WRITE 4713 fe:00:12345 0 EOF\n3: FLOCK  ADVISORY  READ 4714 fd:00:12345 0 EOF\nx\n";
        assert_eq!(parse(text, Some((0xfe, 0)), 12345), [4711]);
        assert_eq!(parse(text, None, 12345), [4711, 4714]);
        assert!(parse(text, Some((0xfe, 0)), 1).is_empty());
    }

    #[test]
    fn our_own_lock_on_a_folder_is_found() {
        let dir = tempfile::tempdir().unwrap();
        assert!(pids(dir.path()).is_empty());
        let folder = std::fs::File::open(dir.path()).unwrap();
        folder.lock_shared().unwrap();
        assert_eq!(pids(dir.path()), [std::process::id().cast_signed()]);
    }

    #[test]
    fn a_list_of_several_pages_is_read_whole() {
        let dir = tempfile::tempdir().unwrap();
        let held: Vec<_> = (0..200)
            .map(|number| {
                let file = File::create(dir.path().join(number.to_string())).unwrap();
                file.lock().unwrap();
                file
            })
            .collect();
        for number in 0..held.len() {
            assert_eq!(pids(&dir.path().join(number.to_string())), [std::process::id().cast_signed()], "{number}");
        }
        let mut text = String::new();
        let reads = read_list(&mut File::open("/proc/locks").unwrap(), &mut text).unwrap();
        assert!(reads > 1 && text.lines().count() >= held.len(), "{reads} reads");
    }
}
