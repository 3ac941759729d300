//! Forks and execs, raw: everything is prepared before, and the child makes only async-signal-safe calls.
//!
//! std's `Command` returns only after exec, which would deadlock with the release pipe: the child waits on that pipe until
//! the journal holds its line. What fails in the child before or at exec comes back over a close-on-exec pipe as a step and
//! an errno; its end without a word means that exec worked. The parent never waits for either.

use std::ffi::{CString, OsStr};
use std::fs::File;
use std::io::{self, Seek};
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;

use crate::drivers::lock;
use crate::model::keeper::{RunAs, SpawnSpec};

use super::priority::{self, Before};

/// Steps of the child by number, as they travel over the error pipe.
const STEPS: [&str; 9] = ["session", "limits", "namespace", "user", "chdir", "fds", "tty", "exec", "release"];
const SESSION: u8 = 0;
const LIMITS: u8 = 1;
const NAMESPACE: u8 = 2;
const USER: u8 = 3;
const CHDIR: u8 = 4;
pub(super) const FDS: u8 = 5;
const TTY: u8 = 6;
pub(super) const EXEC: u8 = 7;

/// Which step failed, and with what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failed {
    /// `fork`, `chdir`, `exec`, …
    pub step: String,
    /// errno.
    pub errno: i32,
}

impl Failed {
    fn at(step: &str) -> impl Fn(io::Error) -> Self + '_ {
        move |error| Self { step: step.to_owned(), errno: error.raw_os_error().unwrap_or(libc::EIO) }
    }
}

/// A forked child that waits for its release.
#[derive(Debug)]
pub struct Forked {
    /// Its number.
    pub pid: i32,
    /// Opened before anybody could have waited for it; absent where the kernel has no pidfds.
    pub pidfd: Option<OwnedFd>,
    /// Read end of its standard output, or the terminal's other side.
    pub stdout: OwnedFd,
    /// Read end of its standard error.
    pub stderr: Option<OwnedFd>,
    /// Says which step failed, or ends without a word at exec. Non-blocking.
    pub errors: OwnedFd,
    release: OwnedFd,
}

impl Forked {
    /// Lets the child go on to exec.
    ///
    /// # Errors
    /// When the child is gone already.
    pub fn release(self) -> io::Result<Started> {
        let result = nix::unistd::write(&self.release, &[1]);
        let started = Started { pidfd: self.pidfd, stdout: self.stdout, stderr: self.stderr, errors: self.errors };
        match result {
            // The child is dead: its exit and its error pipe tell how.
            Ok(_) | Err(nix::Error::EPIPE) => Ok(started),
            Err(error) => Err(error.into()),
        }
    }
}

/// A released child.
#[derive(Debug)]
pub struct Started {
    /// See [`Forked`].
    pub pidfd: Option<OwnedFd>,
    /// See [`Forked`].
    pub stdout: OwnedFd,
    /// See [`Forked`].
    pub stderr: Option<OwnedFd>,
    /// See [`Forked`].
    pub errors: OwnedFd,
}

/// What every fork needs of its parent.
#[derive(Debug)]
pub struct Forker {
    null: OwnedFd,
    given: Option<Given>,
    before: Option<Before>,
    ignored: Vec<i32>,
}

/// The limits that children get back where their spec asks for none: the supervisor has changed its own.
#[derive(Debug, Clone, Copy)]
pub struct Given {
    /// Open files, soft and hard; raised as far as it goes.
    pub nofile: (u64, u64),
    /// Size of core files, soft; we write none, as secrets would be in them.
    pub core: u64,
}

/// A lock that is ready to be inherited. Descriptors 0 to 2 are taken in the keeper, so it survives the child's shuffle.
#[derive(Debug)]
pub struct Inherited {
    file: File,
    /// Its device and inode.
    pub key: (u64, u64),
}

impl Inherited {
    /// Opens and locks the alive lock of a process. The offset is moved to the process's number, which everybody can read
    /// in `fdinfo`, so a holder tells exactly whose it is.
    ///
    /// # Errors
    /// The step and errno.
    pub fn open(spec: &SpawnSpec) -> Result<Self, Failed> {
        let open = || {
            let mut file = lock::share(&spec.lock)?;
            file.seek(io::SeekFrom::Start(spec.process))?;
            let meta = file.metadata()?;
            Ok(Self { key: (meta.dev(), meta.ino()), file })
        };
        open().map_err(Failed::at("lock"))
    }
}

/// The child's ends of stdout and stderr; one, where both are the terminal.
type Ends = (OwnedFd, Option<OwnedFd>);

/// Everything that the child needs, ready before the fork.
struct Prepared<'a> {
    program: CString,
    argv: Vec<*const libc::c_char>,
    envp: Vec<*const libc::c_char>,
    dir: CString,
    spec: &'a SpawnSpec,
    maps: Option<(Vec<u8>, Vec<u8>)>,
    null: RawFd,
    stdout: RawFd,
    stderr: RawFd,
    terminal: Option<RawFd>,
    lock: RawFd,
    cgroup: Option<RawFd>,
    release: RawFd,
    release_writer: RawFd,
    errors: RawFd,
    given: Option<Given>,
    before: Option<Before>,
    ignored: &'a [i32],
    // The pointers above point into these.
    _words: Vec<CString>,
}

pub(super) fn text(value: impl AsRef<OsStr>) -> io::Result<CString> {
    CString::new(value.as_ref().as_bytes()).map_err(|_| io::Error::from_raw_os_error(libc::EINVAL))
}

pub(super) fn pointers(words: &[CString]) -> Vec<*const libc::c_char> {
    words.iter().map(|word| word.as_ptr()).chain([std::ptr::null()]).collect()
}

impl Forker {
    /// `given`: the limits that children get where their spec asks for none; `before`: what they get back where this
    /// process hurries. Signals that are ignored now, and only those, have their default back in the children: make it when
    /// this process has settled its own.
    ///
    /// # Errors
    /// When `/dev/null` cannot be opened.
    pub fn new(given: Option<Given>, before: Option<Before>) -> io::Result<Self> {
        let null = File::options().read(true).write(true).open("/dev/null")?;
        Ok(Self { null: null.into(), given, before, ignored: ignored() })
    }
    /// Forks. The child waits for its release and dies with ours if that never comes.
    ///
    /// # Errors
    /// The step and errno.
    pub fn fork(&self, spec: &SpawnSpec, lock: &Inherited, cgroup: Option<&File>) -> Result<Forked, Failed> {
        let words: Vec<CString> = spec.argv.iter().map(text).collect::<io::Result<_>>().map_err(Failed::at("exec"))?;
        let mut variables = Vec::with_capacity(spec.env.len());
        for (name, value) in &spec.env {
            variables.push(text(format!("{name}={value}")).map_err(Failed::at("exec"))?);
        }
        let argv = pointers(&words);
        let envp = pointers(&variables);
        let mut all = words;
        all.extend(variables);
        let (release, release_writer) = pipe().map_err(Failed::at("pipe"))?;
        let (errors, errors_writer) = pipe().map_err(Failed::at("pipe"))?;
        unblock(&errors).map_err(Failed::at("pipe"))?;
        let (stdout, stderr, ends) = self.output(spec).map_err(Failed::at(if spec.tty { "tty" } else { "pipe" }))?;
        let prepared = Prepared {
            program: text(&spec.program).map_err(Failed::at("exec"))?,
            argv,
            envp,
            dir: text(&spec.dir).map_err(Failed::at("chdir"))?,
            spec,
            maps: maps(&spec.run_as),
            null: self.null.as_raw_fd(),
            stdout: ends.0.as_raw_fd(),
            stderr: ends.1.as_ref().map_or(ends.0.as_raw_fd(), AsRawFd::as_raw_fd),
            terminal: spec.tty.then(|| ends.0.as_raw_fd()),
            lock: lock.file.as_raw_fd(),
            cgroup: cgroup.map(AsRawFd::as_raw_fd),
            release: release.as_raw_fd(),
            release_writer: release_writer.as_raw_fd(),
            errors: errors_writer.as_raw_fd(),
            given: self.given,
            before: self.before,
            ignored: &self.ignored,
            _words: all,
        };
        let mut prepared = prepared;
        // SAFETY: the process has one thread; the child runs `child`, which makes only async-signal-safe calls and never
        // returns.
        let pid = unsafe {
            match prepared.cgroup.and_then(|folder| clone_into(folder)) {
                Some(pid) => {
                    prepared.cgroup = None;
                    pid
                }
                None => libc::fork(),
            }
        };
        match pid {
            -1 => Err(Failed::at("fork")(io::Error::last_os_error())),
            0 => {
                // SAFETY: we are the child of the fork above; everything it uses was prepared before.
                unsafe { child(&prepared) }
            }
            _ => Ok(Forked { pid, pidfd: super::signal::open(pid), stdout, stderr, errors, release: release_writer }),
        }
    }
    fn output(&self, spec: &SpawnSpec) -> io::Result<(OwnedFd, Option<OwnedFd>, Ends)> {
        if spec.tty {
            // Programs that draw want a size before anybody attaches.
            let size = nix::pty::Winsize { ws_row: 24, ws_col: 80, ws_xpixel: 0, ws_ypixel: 0 };
            let pair = nix::pty::openpty(Some(&size), None)?;
            for end in [&pair.master, &pair.slave] {
                close_on_exec(end)?;
            }
            unblock(&pair.master)?;
            return Ok((pair.master, None, (pair.slave, None)));
        }
        let (stdout, stdout_writer) = pipe()?;
        let (stderr, stderr_writer) = pipe()?;
        for end in [&stdout, &stderr] {
            unblock(end)?;
            widen(end);
        }
        Ok((stdout, Some(stderr), (stdout_writer, Some(stderr_writer))))
    }
}

/// A pipe of 1 MiB carries 1.8 times what a default one does. Ordinary users may have about 64 of them, hence the steps
/// down; the default is no error.
fn widen(pipe: &OwnedFd) {
    for size in [1 << 20, 1 << 18] {
        // SAFETY: an fcntl with an integer argument on an open descriptor.
        if unsafe { libc::fcntl(pipe.as_raw_fd(), libc::F_SETPIPE_SZ, size) } >= 0 {
            return;
        }
    }
}

pub(super) fn pipe() -> io::Result<(OwnedFd, OwnedFd)> {
    Ok(nix::unistd::pipe2(nix::fcntl::OFlag::O_CLOEXEC)?)
}

fn close_on_exec(fd: &OwnedFd) -> io::Result<()> {
    nix::fcntl::fcntl(fd, nix::fcntl::FcntlArg::F_SETFD(nix::fcntl::FdFlag::FD_CLOEXEC))?;
    Ok(())
}

/// Makes one end non-blocking. Each end of a pipe has its own flags, so the service's own end keeps blocking.
fn unblock(fd: &OwnedFd) -> io::Result<()> {
    nix::fcntl::fcntl(fd, nix::fcntl::FcntlArg::F_SETFL(nix::fcntl::OFlag::O_NONBLOCK))?;
    Ok(())
}

fn maps(run_as: &RunAs) -> Option<(Vec<u8>, Vec<u8>)> {
    match run_as {
        RunAs::Namespace { uid, gid } => {
            let (own_uid, own_gid) = (nix::unistd::geteuid(), nix::unistd::getegid());
            Some((format!("{uid} {own_uid} 1").into_bytes(), format!("{gid} {own_gid} 1").into_bytes()))
        }
        RunAs::Same | RunAs::User { .. } => None,
    }
}

/// Writes a step and the errno, and ends the child.
///
/// # Safety
/// Only in a forked child.
pub(super) unsafe fn give_up(errors: RawFd, step: u8) -> ! {
    // SAFETY: errno, write and _exit are async-signal-safe; the buffer is on our stack.
    unsafe {
        let errno = *libc::__errno_location();
        let bytes = errno.to_ne_bytes();
        let message = [step, bytes[0], bytes[1], bytes[2], bytes[3]];
        libc::write(errors, message.as_ptr().cast(), message.len());
        libc::_exit(127)
    }
}

/// # Safety
/// Only in a forked child.
unsafe fn write_file(path: &std::ffi::CStr, bytes: &[u8]) -> bool {
    // SAFETY: open, write and close are async-signal-safe; the path ends in NUL and the length is the slice's.
    unsafe {
        let fd = libc::open(path.as_ptr(), libc::O_WRONLY | libc::O_CLOEXEC);
        if fd < 0 {
            return false;
        }
        let written = libc::write(fd, bytes.as_ptr().cast(), bytes.len());
        let kept = *libc::__errno_location();
        libc::close(fd);
        *libc::__errno_location() = kept;
        usize::try_from(written).is_ok_and(|written| written == bytes.len())
    }
}

/// The signals that this process ignores: a `nohup`'s HUP, and what a keeper does not listen to. Handlers end with exec; what
/// is ignored stays so (execve(2)) and must not leak into a service.
fn ignored() -> Vec<i32> {
    // The C library keeps 32 and 33 for its threads and answers nothing about them, hence the bare call. The structure is
    // the kernel's: the handler, flags, a restorer and the mask.
    let ignores = |number: &i32| {
        let mut now = [0u64; 8];
        // SAFETY: a query into a buffer that is larger than the kernel's structure.
        let asked = unsafe { libc::syscall(libc::SYS_rt_sigaction, *number, std::ptr::null::<u64>(), now.as_mut_ptr(), 8usize) };
        asked == 0 && now[0] == libc::SIG_IGN as u64
    };
    (1..=64).filter(ignores).collect()
}

/// These to their default, and an empty mask.
///
/// # Safety
/// Only in a forked child.
pub(super) unsafe fn reset_signals(numbers: impl Iterator<Item = i32>) {
    // SAFETY: bare system calls on buffers of ours; all zero is the default disposition in the kernel's structure.
    unsafe {
        let plain = [0u64; 8];
        for number in numbers {
            // KILL and STOP are refused, as they should be.
            libc::syscall(libc::SYS_rt_sigaction, number, plain.as_ptr(), std::ptr::null_mut::<u64>(), 8usize);
        }
        let mut mask: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&raw mut mask);
        libc::sigprocmask(libc::SIG_SETMASK, &raw const mask, std::ptr::null_mut());
    }
}

/// `CLONE_INTO_CGROUP` of linux/sched.h; libc's constant is too narrow for it.
const INTO_CGROUP: u64 = 0x2_0000_0000;

/// Forks straight into a cgroup (clone3(2), Linux 5.7). A child that moves itself there by a write makes the kernel wait for
/// all processors first, 10 to 30 ms unless another one has just done so. `None`: not to be had, nothing was forked.
///
/// # Safety
/// As for `fork`: only in a process with one thread.
unsafe fn clone_into(folder: RawFd) -> Option<libc::pid_t> {
    let mut arguments: libc::clone_args = libc::clone_args {
        flags: INTO_CGROUP,
        pidfd: 0,
        child_tid: 0,
        parent_tid: 0,
        exit_signal: libc::SIGCHLD as u64,
        stack: 0,
        stack_size: 0,
        tls: 0,
        set_tid: 0,
        set_tid_size: 0,
        cgroup: u64::try_from(folder).ok()?,
    };
    // SAFETY: without a stack of its own the child goes on in a copy of ours, as after `fork`; the structure is the size that
    // is passed along.
    let pid = unsafe { libc::syscall(libc::SYS_clone3, &raw mut arguments, size_of::<libc::clone_args>()) };
    if pid < 0 { None } else { libc::pid_t::try_from(pid).ok() }
}

/// The child, from fork to exec.
///
/// # Safety
/// Only in a forked child of a process with one thread, or with everything in `p` prepared before.
unsafe fn child(p: &Prepared<'_>) -> ! {
    // SAFETY: every call below is async-signal-safe or a bare system call, and every pointer leads into `p`, which the
    // parent prepared and the fork copied.
    unsafe {
        libc::close(p.release_writer);
        if let Some(folder) = p.cgroup {
            // Refused: the tree is followed without it.
            let fd = libc::openat(folder, c"cgroup.procs".as_ptr(), libc::O_WRONLY | libc::O_CLOEXEC);
            if fd >= 0 {
                libc::write(fd, c"0".as_ptr().cast(), 1);
                libc::close(fd);
            }
        }
        if libc::setsid() < 0 {
            give_up(p.errors, SESSION);
        }
        reset_signals(p.ignored.iter().copied());
        if let Some(before) = &p.before {
            priority::calm_down(before);
        }
        limits(p);
        become_user(p);
        if libc::chdir(p.dir.as_ptr()) != 0 {
            give_up(p.errors, CHDIR);
        }
        if let Some(mask) = p.spec.umask {
            libc::umask(mask);
        }
        descriptors(p);
        let mut byte = 0u8;
        loop {
            match libc::read(p.release, (&raw mut byte).cast(), 1) {
                1 => break,
                -1 if *libc::__errno_location() == libc::EINTR => {}
                _ => libc::_exit(127),
            }
        }
        // A binary that was unpacked a moment ago may still be open for writing in a forked sibling.
        for _ in 0..200 {
            libc::execve(p.program.as_ptr(), p.argv.as_ptr(), p.envp.as_ptr());
            if *libc::__errno_location() != libc::ETXTBSY {
                break;
            }
            let pause = libc::timespec { tv_sec: 0, tv_nsec: 10_000_000 };
            libc::nanosleep(&raw const pause, std::ptr::null_mut());
            *libc::__errno_location() = libc::ETXTBSY;
        }
        give_up(p.errors, EXEC)
    }
}

/// # Safety
/// Only in a forked child.
unsafe fn limits(p: &Prepared<'_>) {
    if let Some(given) = p.given {
        // SAFETY: as below.
        unsafe {
            let mut now: libc::rlimit = std::mem::zeroed();
            libc::getrlimit(libc::RLIMIT_CORE, &raw mut now);
            let back = libc::rlimit { rlim_cur: given.core.min(now.rlim_max), rlim_max: now.rlim_max };
            // Raising it to the hard limit cannot be refused, and without a core file a service runs as well.
            libc::setrlimit(libc::RLIMIT_CORE, &raw const back);
        }
    }
    // SAFETY: setrlimit and getrlimit are bare system calls on a structure of ours.
    unsafe {
        let mut now: libc::rlimit = std::mem::zeroed();
        libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut now);
        let wanted = match (p.spec.nofile, p.given.map(|given| given.nofile)) {
            (Some(wanted), _) => libc::rlimit { rlim_cur: wanted, rlim_max: wanted },
            (None, Some((soft, hard))) => libc::rlimit { rlim_cur: soft, rlim_max: hard },
            (None, None) => return,
        };
        if libc::setrlimit(libc::RLIMIT_NOFILE, &raw const wanted) != 0 {
            let allowed = libc::rlimit { rlim_cur: wanted.rlim_cur.min(now.rlim_max), rlim_max: now.rlim_max };
            if libc::setrlimit(libc::RLIMIT_NOFILE, &raw const allowed) != 0 {
                give_up(p.errors, LIMITS);
            }
        }
    }
}

/// # Safety
/// Only in a forked child.
unsafe fn become_user(p: &Prepared<'_>) {
    // SAFETY: bare system calls; the group list is the spec's own vector with its own length.
    unsafe {
        match &p.spec.run_as {
            RunAs::Same => {}
            RunAs::Namespace { .. } => {
                let Some((uids, gids)) = &p.maps else { give_up(p.errors, NAMESPACE) };
                // The keeper is not dumpable, under which our own files in /proc would be root's and closed to us.
                libc::prctl(libc::PR_SET_DUMPABLE, 1, 0, 0, 0);
                if libc::unshare(libc::CLONE_NEWUSER) != 0
                    || !write_file(c"/proc/self/setgroups", b"deny")
                    || !write_file(c"/proc/self/uid_map", uids)
                    || !write_file(c"/proc/self/gid_map", gids)
                {
                    give_up(p.errors, NAMESPACE);
                }
            }
            RunAs::User { uid, gid, groups } => {
                // Bare calls: the C library's would have to speak to other threads.
                if libc::syscall(libc::SYS_setgroups, groups.len(), groups.as_ptr()) != 0
                    || libc::syscall(libc::SYS_setresgid, *gid, *gid, *gid) != 0
                    || libc::syscall(libc::SYS_setresuid, *uid, *uid, *uid) != 0
                    || libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0
                {
                    give_up(p.errors, USER);
                }
                if libc::geteuid() != *uid || libc::getegid() != *gid {
                    *libc::__errno_location() = libc::EPERM;
                    give_up(p.errors, USER);
                }
            }
        }
    }
}

/// # Safety
/// Only in a forked child.
unsafe fn descriptors(p: &Prepared<'_>) {
    // SAFETY: bare calls on descriptors that the fork copied. None of them is 0, 1 or 2, as the parent keeps those open.
    unsafe {
        if let Some(terminal) = p.terminal
            && libc::ioctl(terminal, libc::TIOCSCTTY, 0) != 0
        {
            give_up(p.errors, TTY);
        }
        if libc::dup2(p.terminal.unwrap_or(p.null), 0) < 0 || libc::dup2(p.stdout, 1) < 0 || libc::dup2(p.stderr, 2) < 0 {
            give_up(p.errors, FDS);
        }
        // Everything is close-on-exec from birth; this is for what a library may have opened. An old kernel refuses.
        libc::syscall(libc::SYS_close_range, 3u32, u32::MAX, libc::CLOSE_RANGE_CLOEXEC);
        if libc::fcntl(p.lock, libc::F_SETFD, 0) < 0 {
            give_up(p.errors, FDS);
        }
    }
}

/// What the error pipe has said: `None` nothing yet, `Some(Ok)` exec worked (or the child died before it could say),
/// `Some(Err)` the step that failed.
#[must_use]
pub fn verdict(errors: &OwnedFd) -> Option<Result<(), Failed>> {
    let mut message = [0u8; 5];
    match nix::unistd::read(errors, &mut message) {
        Ok(5) => {
            let step = STEPS.get(usize::from(message[0])).copied().unwrap_or("start");
            let errno = i32::from_ne_bytes([message[1], message[2], message[3], message[4]]);
            Some(Err(Failed { step: step.to_owned(), errno }))
        }
        Err(nix::Error::EAGAIN | nix::Error::EINTR) => None,
        Ok(_) | Err(_) => Some(Ok(())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_have_their_numbers() {
        for (number, name) in
            [(SESSION, "session"), (LIMITS, "limits"), (NAMESPACE, "namespace"), (USER, "user"), (CHDIR, "chdir")]
        {
            assert_eq!(STEPS[usize::from(number)], name);
        }
        assert_eq!((STEPS[usize::from(FDS)], STEPS[usize::from(TTY)], STEPS[usize::from(EXEC)]), ("fds", "tty", "exec"));
    }
}
