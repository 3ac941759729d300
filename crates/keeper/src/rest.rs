//! What only a start needs, given back when it is over: memory that was freed and that the allocator keeps, and the mapped
//! pages of the program file. The next thing that happens takes those from the page cache again, a few dozen faults of a
//! microsecond; between a start and a stop lie hours in which nothing happens.

/// Gives back what is not needed at rest. Costs about a millisecond: for moments in which nobody waits.
pub fn rest() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    linux::rest();
}

/// Lets the allocator keep what is freed until [`rest`] is called, instead of giving the end of the heap back to the system at
/// every second message and taking it anew: a system call each, and a fault for each page.
pub fn keep() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    linux::keep();
}

#[cfg(all(target_os = "linux", target_env = "gnu"))]
mod linux {
    use std::ffi::{c_int, c_void};

    pub fn keep() {
        // SAFETY: sets three numbers of the allocator (mallopt(3)); one that it refuses stays as it was.
        unsafe {
            libc::mallopt(libc::M_TRIM_THRESHOLD, 8 << 20);
            libc::mallopt(libc::M_MMAP_THRESHOLD, 1 << 20);
            libc::mallopt(libc::M_TOP_PAD, 256 << 10);
        }
    }

    pub fn rest() {
        // SAFETY: both take no memory of ours; the callback reads only what it is handed for the length of its call.
        unsafe {
            libc::malloc_trim(0);
            libc::dl_iterate_phdr(Some(let_go), std::ptr::null_mut());
        }
    }

    /// Lets go of the read-only segments of one loaded file. What the loader has written into (relocations) lies in writable
    /// segments and stays.
    unsafe extern "C" fn let_go(info: *mut libc::dl_phdr_info, _: usize, _: *mut c_void) -> c_int {
        // SAFETY: the loader hands out a valid description with that many headers.
        let (base, headers) = unsafe {
            let info = &*info;
            if info.dlpi_phdr.is_null() {
                return 0;
            }
            (info.dlpi_addr, std::slice::from_raw_parts(info.dlpi_phdr, usize::from(info.dlpi_phnum)))
        };
        let page = nix::unistd::sysconf(nix::unistd::SysconfVar::PAGE_SIZE).ok().flatten().unwrap_or(4096).unsigned_abs();
        for header in headers.iter().filter(|header| header.p_type == libc::PT_LOAD && header.p_flags & libc::PF_W == 0) {
            // Whole pages inside: the last one may be shared with the next segment.
            let begin = (base + header.p_vaddr).next_multiple_of(page);
            let end = (base + header.p_vaddr + header.p_memsz) / page * page;
            if let (Ok(address), Ok(length @ 1..)) = (usize::try_from(begin), usize::try_from(end.saturating_sub(begin))) {
                // SAFETY: a private, read-only mapping of a file: what is dropped is read from that file again.
                unsafe { libc::madvise(address as *mut c_void, length, libc::MADV_DONTNEED) };
            }
        }
        0
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn everything_is_still_there_afterwards() {
        let text = "constants and code".repeat(1000);
        super::rest();
        assert_eq!(text.len(), 18_000);
        assert!(format!("{:?}", regex::Regex::new("co.e").map(|found| found.is_match(&text))).contains("true"));
    }
}
