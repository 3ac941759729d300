//! Reads the process table of macOS through libproc and sysctl. Owns calls and parsing only; `process_list.rs` says what the answers
//! are worth. Compiled and checked on other systems, never run yet.

use std::ffi::{CStr, OsStr, c_char, c_int, c_void};
use std::mem::MaybeUninit;
use std::net::SocketAddr;
use std::os::fd::RawFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use super::process_arguments::ProcessArguments;
use super::process_stat::{Activity, Marks, Stat, Usage, variable_among};
use super::socket_info;

/// `PROC_PIDFDVNODEPATHINFO` of sys/proc_info.h, which libc lacks.
const FILE_WITH_PATH: c_int = 2;
/// `PROX_FDTYPE_VNODE`.
const VNODE: u32 = 1;
/// `PROC_PIDFDSOCKETINFO` and `PROX_FDTYPE_SOCKET`.
const SOCKET_INFO: c_int = 3;
const SOCKET: u32 = 2;
/// A name as `Stat` holds it.
const NAME: usize = 15;

/// `struct proc_fileinfo` of sys/proc_info.h.
#[repr(C)]
struct OpenFile {
    flags: u32,
    status: u32,
    offset: libc::off_t,
    kind: i32,
    guard: u32,
}

/// `struct vnode_fdinfowithpath`.
#[repr(C)]
struct OpenFileWithPath {
    file: OpenFile,
    vnode: libc::vnode_info_path,
}

/// Asks for a structure of a process; `None` unless the whole of it is filled.
///
/// `T` is a plain structure of the system's, for which all bytes are valid.
fn info<T>(pid: i32, flavor: c_int, argument: u64) -> Option<T> {
    let mut answer = MaybeUninit::<T>::zeroed();
    let size = c_int::try_from(size_of::<T>()).ok()?;
    // SAFETY: the buffer is as long as is said, and the system writes no more.
    let filled = unsafe { libc::proc_pidinfo(pid, flavor, argument, answer.as_mut_ptr().cast::<c_void>(), size) };
    // SAFETY: filled as a whole, and zeroes were valid before.
    (filled == size).then(|| unsafe { answer.assume_init() })
}

fn basic(pid: i32) -> Option<libc::proc_bsdinfo> {
    // An argument of 1 asks for zombies as well (xnu, bsd/kern/proc_info.c).
    if pid <= 0 { None } else { info(pid, libc::PROC_PIDTBSDINFO, 1) }
}

/// A string in an array, up to its NUL.
fn text(bytes: &[c_char]) -> Vec<u8> {
    bytes.iter().take_while(|byte| **byte != 0).map(|byte| byte.cast_unsigned()).collect()
}

/// One process.
#[must_use]
pub fn stat(pid: i32) -> Option<Stat> {
    let found = basic(pid)?;
    let name = text(&found.pbi_comm);
    let state = match found.pbi_status {
        libc::SZOMB => b'Z',
        libc::SSTOP => b'T',
        _ => b'S',
    };
    // SAFETY: a query with an integer. A zombie has no session any more.
    let session = unsafe { libc::getsid(pid) }.max(0);
    Some(Stat {
        pid,
        comm: String::from_utf8_lossy(&name[..name.len().min(NAME)]).into_owned(),
        state,
        ppid: i32::try_from(found.pbi_ppid).ok()?,
        pgrp: i32::try_from(found.pbi_pgid).ok()?,
        session,
        kernel: false,
        threads: 1,
        start: found.pbi_start_tvsec * 1_000_000 + found.pbi_start_tvusec,
    })
}

/// What a process does. Whether it waits for a disk is not reported.
#[must_use]
pub fn activity(pid: i32) -> Option<Activity> {
    let state = stat(pid)?.state;
    let Some(task) = info::<libc::proc_taskinfo>(pid, libc::PROC_PIDTASKINFO, 0) else {
        return Some(Activity { state, switches: 0 });
    };
    let state = if state == b'S' && task.pti_numrunning > 0 { b'R' } else { state };
    Some(Activity { state, switches: u64::from(task.pti_csw.cast_unsigned()) })
}

/// The boot's id; empty where it cannot be read.
pub(super) fn boot_id() -> String {
    let mut bytes = [0u8; 64];
    let mut length = bytes.len();
    // SAFETY: a name that ends in NUL, and a buffer with its length.
    let done = unsafe {
        libc::sysctlbyname(
            c"kern.bootsessionuuid".as_ptr(),
            bytes.as_mut_ptr().cast::<c_void>(),
            &raw mut length,
            std::ptr::null_mut(),
            0,
        )
    };
    let read = CStr::from_bytes_until_nul(&bytes).ok().filter(|_| done == 0);
    read.map(|text| text.to_string_lossy().into_owned()).unwrap_or_default()
}

/// Every process of the system.
#[must_use]
pub fn pids() -> Vec<i32> {
    // SAFETY: without a buffer the answer is how many there are.
    let count = unsafe { libc::proc_listallpids(std::ptr::null_mut(), 0) };
    // Some may begin in between.
    let mut pids = vec![0i32; usize::try_from(count).unwrap_or(0) + 64];
    let size = c_int::try_from(size_of_val(pids.as_slice())).unwrap_or(c_int::MAX);
    // SAFETY: a buffer with its length in bytes.
    let filled = unsafe { libc::proc_listallpids(pids.as_mut_ptr().cast::<c_void>(), size) };
    pids.truncate(usize::try_from(filled).unwrap_or(0));
    pids
}

/// Arguments and environment of a process of this user.
fn process_arguments(pid: i32) -> Option<ProcessArguments> {
    let mut name = [libc::CTL_KERN, libc::KERN_PROCARGS2, pid];
    let mut ask = |buffer: *mut c_void, length: &mut usize| {
        // SAFETY: a name of three numbers, and a buffer with its length or none.
        unsafe { libc::sysctl(name.as_mut_ptr(), 3, buffer, length, std::ptr::null_mut(), 0) == 0 }
    };
    let mut length = 0;
    if !ask(std::ptr::null_mut(), &mut length) {
        return None;
    }
    let mut bytes = vec![0u8; length + 4096];
    length = bytes.len();
    if !ask(bytes.as_mut_ptr().cast::<c_void>(), &mut length) {
        return None;
    }
    bytes.truncate(length);
    ProcessArguments::parse(&bytes)
}

/// The marks of a process, where its environment can be read and holds a run.
#[must_use]
pub fn marks(pid: i32) -> Option<Marks> {
    Marks::of(process_arguments(pid)?.environment.iter().map(Vec::as_slice))
}

/// One variable of the environment of a process, where that can be read.
#[must_use]
pub fn variable(pid: i32, name: &str) -> Option<String> {
    variable_among(process_arguments(pid)?.environment.iter().map(Vec::as_slice), name)
}

/// The arguments of a process, the first being its name; empty where they cannot be read.
#[must_use]
pub fn arguments(pid: i32) -> Vec<Vec<u8>> {
    process_arguments(pid).map(|found| found.arguments).unwrap_or_default()
}

/// Whether the environment of a process may not be read: other users' processes and programs that the system protects.
#[must_use]
pub fn environment_is_closed(pid: i32) -> bool {
    process_arguments(pid).is_none_or(|found| found.environment.is_empty())
}

/// There are no cgroups.
#[must_use]
pub fn cgroup(_pid: i32) -> Option<String> {
    None
}

/// The open descriptors of a process of this user, with their kinds.
fn descriptors(pid: i32) -> Vec<libc::proc_fdinfo> {
    let ask = |buffer: *mut c_void, size: c_int| {
        // SAFETY: a buffer with its length in bytes, or none.
        unsafe { libc::proc_pidinfo(pid, libc::PROC_PIDLISTFDS, 0, buffer, size) }
    };
    let one = size_of::<libc::proc_fdinfo>();
    let room = usize::try_from(ask(std::ptr::null_mut(), 0)).unwrap_or(0) / one;
    if room == 0 {
        return Vec::new();
    }
    let mut list: Vec<libc::proc_fdinfo> = Vec::with_capacity(room + 16);
    let size = c_int::try_from(list.capacity() * one).unwrap_or(c_int::MAX);
    let filled = usize::try_from(ask(list.as_mut_ptr().cast::<c_void>(), size)).unwrap_or(0) / one;
    // SAFETY: so many of them the system has written, and there is room for them.
    unsafe { list.set_len(filled.min(list.capacity())) };
    list
}

/// The highest open descriptor of this process.
#[must_use]
pub(super) fn last_descriptor() -> RawFd {
    descriptors(std::process::id().cast_signed()).iter().map(|one| one.proc_fd).max().unwrap_or(0)
}

/// The open files of a process: device and inode, the path that each was opened by, and its offset.
fn open_files(pid: i32) -> impl Iterator<Item = ((u64, u64), PathBuf, u64)> {
    descriptors(pid).into_iter().filter(|one| one.proc_fdtype == VNODE).filter_map(move |one| {
        let mut answer = MaybeUninit::<OpenFileWithPath>::zeroed();
        let size = c_int::try_from(size_of::<OpenFileWithPath>()).ok()?;
        // SAFETY: the buffer is as long as is said.
        let filled =
            unsafe { libc::proc_pidfdinfo(pid, one.proc_fd, FILE_WITH_PATH, answer.as_mut_ptr().cast::<c_void>(), size) };
        if filled != size {
            return None;
        }
        // SAFETY: filled as a whole, and zeroes were valid before.
        let found = unsafe { answer.assume_init() };
        let vnode = &found.vnode.vip_vi.vi_stat;
        // A device is a signed number of 32 bits in stat(2), which the standard library extends.
        let device = i64::from(vnode.vst_dev.cast_signed()).cast_unsigned();
        let path = PathBuf::from(OsStr::from_bytes(&text(found.vnode.vip_path.as_flattened())));
        Some(((device, vnode.vst_ino), path, u64::try_from(found.file.offset).unwrap_or(0)))
    })
}

/// Where a process of this user listens (TCP).
#[must_use]
pub fn listening_sockets(pid: i32) -> Vec<SocketAddr> {
    /// As aligned as the structure.
    #[repr(C, align(8))]
    struct Buffer([u8; socket_info::SIZE]);
    let sockets = descriptors(pid).into_iter().filter(|one| one.proc_fdtype == SOCKET);
    let listens = |one: libc::proc_fdinfo| {
        let mut answer = Buffer([0; socket_info::SIZE]);
        let size = c_int::try_from(socket_info::SIZE).ok()?;
        // SAFETY: the buffer is as long as is said.
        let filled = unsafe { libc::proc_pidfdinfo(pid, one.proc_fd, SOCKET_INFO, answer.0.as_mut_ptr().cast::<c_void>(), size) };
        // Another size would be another structure.
        if filled == size { socket_info::listening_address(&answer.0) } else { None }
    };
    sockets.filter_map(listens).collect()
}

/// The first descriptor that is open on one of these files (device, inode, and the name it was opened by), with its offset.
#[must_use]
pub fn holds_file(pid: i32, wanted: impl Fn((u64, u64), &Path) -> bool) -> Option<((u64, u64), u64)> {
    open_files(pid).find(|(key, path, _)| wanted(*key, path)).map(|(key, _, offset)| (key, offset))
}

/// Whether a process has this file or directory open.
#[must_use]
pub(super) fn has_open(pid: i32, wanted: (u64, u64)) -> bool {
    open_files(pid).any(|(key, ..)| key == wanted)
}

/// The real uid.
#[must_use]
pub fn uid(pid: i32) -> Option<u32> {
    basic(pid).map(|found| found.pbi_ruid)
}

/// The working directory of a process.
#[must_use]
pub fn working_directory(pid: i32) -> Option<PathBuf> {
    let found: libc::proc_vnodepathinfo = info(pid, libc::PROC_PIDVNODEPATHINFO, 0)?;
    let path = text(found.pvi_cdir.vip_path.as_flattened());
    (!path.is_empty()).then(|| PathBuf::from(OsStr::from_bytes(&path)))
}

/// The command name, for people.
#[must_use]
pub fn command(pid: i32) -> String {
    stat(pid).map(|found| found.comm).unwrap_or_default()
}

/// The memory of this machine in bytes, where it can be known.
#[must_use]
pub fn memory_total() -> Option<u64> {
    let mut bytes = 0u64;
    let mut length = size_of::<u64>();
    // SAFETY: a name that ends in NUL, and a number with its length.
    let done = unsafe {
        let answer = (&raw mut bytes).cast::<c_void>();
        libc::sysctlbyname(c"hw.memsize".as_ptr(), answer, &raw mut length, std::ptr::null_mut(), 0)
    };
    (done == 0 && bytes > 0).then_some(bytes)
}

/// Not a single number: caches, compressed and purgeable memory are counted in several.
#[must_use]
pub fn memory_available() -> Option<u64> {
    None
}

/// What a process has used; `None` for one that has ended. The memory is its footprint, as Activity Monitor shows it.
#[must_use]
pub fn usage(pid: i32) -> Option<Usage> {
    if !stat(pid)?.lives() {
        return None;
    }
    let mut answer = MaybeUninit::<libc::rusage_info_v2>::zeroed();
    // SAFETY: the structure of the version that is asked for.
    let done = unsafe { libc::proc_pid_rusage(pid, libc::RUSAGE_INFO_V2, answer.as_mut_ptr().cast::<libc::rusage_info_t>()) };
    if done != 0 {
        return None;
    }
    // SAFETY: filled, and zeroes were valid before.
    let used = unsafe { answer.assume_init() };
    let ticks = u128::from(used.ri_user_time) + u128::from(used.ri_system_time);
    // The times are in ticks of the machine's clock, which are nanoseconds on Intel only.
    let mut base = Timebase { numerator: 0, denominator: 0 };
    // SAFETY: a structure of ours.
    let known = unsafe { mach_timebase_info(&raw mut base) } == 0 && base.denominator > 0;
    let nanoseconds = if known { ticks * u128::from(base.numerator) / u128::from(base.denominator) } else { ticks };
    Some(Usage {
        cpu_ms: u64::try_from(nanoseconds / 1_000_000).unwrap_or(u64::MAX),
        memory: used.ri_phys_footprint,
        read: used.ri_diskio_bytesread,
        written: used.ri_diskio_byteswritten,
    })
}

/// `struct mach_timebase_info` of mach/mach_time.h; what libc has of that file is deprecated.
#[repr(C)]
struct Timebase {
    numerator: u32,
    denominator: u32,
}

unsafe extern "C" {
    fn mach_timebase_info(info: *mut Timebase) -> c_int;
}
