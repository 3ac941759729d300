//! Forks and execs, raw: everything is prepared before, and the child makes only async-signal-safe calls.
//!
//! std's `Command` returns only after exec, which would deadlock with the release pipe: the child waits on that pipe until
//! the journal holds its line. What fails in the child before or at exec comes back over a close-on-exec pipe as a step and
//! an errno; its end without a word means that exec worked. The parent never waits for either.
//!
//! Copying the keeper's memory for a child that is about to throw it away is half the price of a start. So the child runs
//! in that memory itself, as after `vfork`, but on a stack of its own and with the parent going on beside it, which must
//! stand still for no file system. What it uses stays in a `Flight` until the kernel says that it has left the memory, at
//! its exec or its end (`CLONE_CHILD_CLEARTID` of clone(2), by which threads are joined), and it makes system calls only by
//! `raw`, since errno is shared too. A child that becomes another user has a copy: that step would change
//! whether the keeper's memory may be dumped.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::ffi::{CString, OsStr};
use std::fs::File;
use std::io::{self, Seek};
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::drivers::lock;
use crate::model::keeper::{RunAs, SpawnSpec};

use super::newborn::{Prepared, STEPS, child};
use super::priority::Before;
use super::raw::{Stack, clone_on};

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
    flying: RefCell<VecDeque<Box<Flight>>>,
    stacks: RefCell<Vec<Stack>>,
}

/// What a child uses in our memory, from its birth to its exec.
struct Flight {
    prepared: Prepared,
    stack: Stack,
    /// Not zero as long as the child is there; the kernel sets it.
    tid: AtomicU32,
}

impl std::fmt::Debug for Flight {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Flight").field("tid", &self.tid).finish_non_exhaustive()
    }
}

/// The limits that children get back where their spec asks for none: the supervisor has changed its own.
#[derive(Debug, Clone, Copy)]
pub struct Given {
    /// Open files, soft and hard; raised as far as it goes.
    pub nofile: (u64, u64),
    /// Size of core files, soft; we write none, as secrets would be in them.
    pub core: u64,
    /// Size of any file, soft and hard; raised as far as it goes.
    pub file_size: (u64, u64),
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
        Ok(Self { null: null.into(), given, before, ignored: ignored(), flying: RefCell::default(), stacks: RefCell::default() })
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
            umask: spec.umask,
            nofile: spec.nofile,
            run_as: spec.run_as.clone(),
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
            ignored: self.ignored.clone(),
            words: all,
        };
        let pid = match spec.run_as {
            RunAs::Same => self.launch(prepared),
            RunAs::Namespace { .. } | RunAs::User { .. } => copy(prepared),
        };
        let pid = pid.map_err(Failed::at("fork"))?;
        Ok(Forked { pid, pidfd: super::signal::open(pid), stdout, stderr, errors, release: release_writer })
    }

    /// A child in our memory; a copy of us, where the kernel will not have it.
    fn launch(&self, mut prepared: Prepared) -> io::Result<i32> {
        self.land();
        let stack = self.stacks.borrow_mut().pop().unwrap_or_else(Stack::new);
        let group = prepared.cgroup.take();
        let mut flight = Box::new(Flight { prepared, stack, tid: AtomicU32::new(0) });
        // SAFETY: all that the child uses is in `flight`, which stays until the child has left our memory.
        let mut born = unsafe { fly(&mut flight, group) };
        if born.is_none() && group.is_some() {
            flight.prepared.cgroup = group;
            // SAFETY: as above.
            born = unsafe { fly(&mut flight, None) };
        }
        match born {
            Some(pid) => {
                self.flying.borrow_mut().push_back(flight);
                Ok(pid)
            }
            None => {
                let Flight { mut prepared, stack, .. } = *flight;
                self.stacks.borrow_mut().push(stack);
                prepared.cgroup = group;
                copy(prepared)
            }
        }
    }

    /// Takes back what those have left behind that are programs of their own by now, or have ended.
    fn land(&self) {
        let mut flying = self.flying.borrow_mut();
        while flying.front().is_some_and(|flight| flight.tid.load(Ordering::Acquire) == 0) {
            self.stacks.borrow_mut().extend(flying.pop_front().map(|flight| flight.stack));
        }
    }

    /// Gives back memory that only a start needs.
    pub fn rest(&self) {
        self.land();
        *self.stacks.borrow_mut() = Vec::new();
        self.flying.borrow_mut().shrink_to_fit();
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

/// `CLONE_INTO_CGROUP` of linux/sched.h; libc's constant is too narrow for it.
const INTO_CGROUP: u64 = 0x2_0000_0000;

/// A copy of this process as the child.
fn copy(mut prepared: Prepared) -> io::Result<i32> {
    // SAFETY: the process has one thread; the child runs `child`, which makes only bare system calls and never returns.
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
        -1 => Err(io::Error::last_os_error()),
        // SAFETY: we are the child of the fork above; everything it uses was prepared before.
        0 => unsafe { child(&prepared) },
        _ => Ok(pid),
    }
}

/// The child runs in its parent's memory, and the kernel notes when it has left.
pub(super) const IN_OUR_MEMORY: u64 = (libc::CLONE_VM | libc::CLONE_PARENT_SETTID | libc::CLONE_CHILD_CLEARTID) as u64;

pub(super) fn arguments(flags: u64, folder: Option<RawFd>) -> Option<libc::clone_args> {
    Some(libc::clone_args {
        flags: if folder.is_some() { flags | INTO_CGROUP } else { flags },
        pidfd: 0,
        child_tid: 0,
        parent_tid: 0,
        exit_signal: libc::SIGCHLD as u64,
        stack: 0,
        stack_size: 0,
        tls: 0,
        set_tid: 0,
        set_tid_size: 0,
        cgroup: folder.map_or(Some(0), |folder| u64::try_from(folder).ok())?,
    })
}

/// Forks straight into a cgroup (clone3(2), Linux 5.7). A child that moves itself there by a write makes the kernel wait for
/// all processors first, 10 to 30 ms unless another one has just done so. `None`: not to be had, nothing was forked.
///
/// # Safety
/// As for `fork`: only in a process with one thread.
unsafe fn clone_into(folder: RawFd) -> Option<libc::pid_t> {
    let mut arguments = arguments(0, Some(folder))?;
    // SAFETY: without a stack of its own the child goes on in a copy of ours, as after `fork`; the structure is the size that
    // is passed along.
    let pid = unsafe { libc::syscall(libc::SYS_clone3, &raw mut arguments, size_of::<libc::clone_args>()) };
    if pid < 0 { None } else { libc::pid_t::try_from(pid).ok() }
}

/// A child that runs in our memory, on the flight's stack, straight in a cgroup if one is named. `None`: not to be had,
/// nothing was begun.
///
/// # Safety
/// The flight must stay where it is until its `tid` is zero again.
unsafe fn fly(flight: &mut Flight, folder: Option<RawFd>) -> Option<i32> {
    let mut arguments = arguments(IN_OUR_MEMORY, folder)?;
    // Both calls of the kernel: the number is there before the parent goes on, and gone when the child has left.
    arguments.parent_tid = flight.tid.as_ptr() as u64;
    arguments.child_tid = arguments.parent_tid;
    arguments.stack = flight.stack.begin();
    arguments.stack_size = Stack::BYTES as u64;
    // SAFETY: stack and flight stay, as the caller promises; the child never comes back from `begin`.
    let pid = unsafe { clone_on(&mut arguments, begin, std::ptr::from_ref(&flight.prepared)) };
    if pid < 0 { None } else { i32::try_from(pid).ok() }
}

/// # Safety
/// Only as the beginning of a child of [`fly`].
unsafe extern "C" fn begin(prepared: *const Prepared) -> ! {
    // SAFETY: it stays until this child has left.
    unsafe { child(&*prepared) }
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
    use std::path::Path;

    use nix::sys::wait::{WaitStatus, waitpid};

    use super::*;
    use crate::model::keeper::{Role, StopOrder};
    use crate::model::{ServiceId, ServiceName, Signal, StopTo};

    fn spec(folder: &Path, process: u64, program: &str) -> SpawnSpec {
        SpawnSpec {
            process,
            service: ServiceId::single(&ServiceName::new("a").unwrap()),
            generation: 1,
            role: Role::Main,
            program: program.into(),
            argv: vec![program.to_owned()],
            env: vec![("A".to_owned(), "b".to_owned())],
            dir: folder.to_owned(),
            run_as: RunAs::Same,
            nofile: None,
            cpu: None,
            memory: None,
            umask: None,
            tty: false,
            lock: folder.join(format!("{process}.alive")),
            log: None,
            spare: Vec::new(),
            stop: StopOrder {
                signal: Signal::TERM,
                to: StopTo::Leader,
                grace_ms: 1000,
                then: None,
                command: None,
                before: Vec::new(),
                tier: None,
            },
        }
    }

    #[test]
    fn children_in_our_memory_execute_fail_or_are_let_go_of_and_leave_it() {
        let folder = tempfile::tempdir().unwrap();
        let forker = Forker::new(None, None).unwrap();
        let mut born = Vec::new();
        for process in 0..60 {
            let program = if process % 3 == 1 { "/nowhere/at all" } else { "/bin/true" };
            let spec = spec(folder.path(), process, program);
            let forked = forker.fork(&spec, &Inherited::open(&spec).unwrap(), None).unwrap();
            let pid = forked.pid;
            // Every third one never gets its word.
            let started = (process % 3 != 2).then(|| forked.release().unwrap());
            born.push((process, pid, started));
        }
        for (process, pid, started) in born {
            let code = if process % 3 == 0 { 0 } else { 127 };
            let pid = nix::unistd::Pid::from_raw(pid);
            assert_eq!(waitpid(pid, None), Ok(WaitStatus::Exited(pid, code)), "{process}");
            let failed = started.and_then(|started| verdict(&started.errors)?.err());
            let wanted = (process % 3 == 1).then(|| Failed { step: "exec".to_owned(), errno: libc::ENOENT });
            assert_eq!(failed, wanted, "{process}");
        }
        forker.rest();
        assert_eq!((forker.flying.borrow().len(), forker.stacks.borrow().len()), (0, 0), "somebody is still in our memory");
    }
}
