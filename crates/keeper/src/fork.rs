//! Forks and execs, raw: everything is prepared before, and the child makes only async-signal-safe calls.
//!
//! std's `Command` returns only after exec, which would deadlock with the release pipe: the child waits on that pipe until
//! the journal holds its line. What fails in the child before or at exec comes back over a close-on-exec pipe as a step and
//! an errno; its end without a word means that exec worked. The parent never waits for either.
//!
//! Copying the keeper's memory for a child that is about to throw it away is half the price of a start. So the child runs
//! in that memory itself, as after `vfork`, but on a stack of its own and with the parent continuing, which must wait for no
//! file system (`in_flight`). It makes system calls only by `syscall`, since errno is shared too. Some children get a copy:
//!
//! - one that becomes another user, as that step would change whether the keeper's memory may be dumped
//! - one with a memory limit, as the kernel kills every process that shares the memory of one that exceeds its limit
//! - all of them where the kernel refuses clone3, or `DEVRUN_PLAIN_FORK` is set

use super::default_limits::DefaultLimits;
use std::ffi::CString;
use std::fmt;
use std::fs::File;
use std::io::{self, Seek};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::MetadataExt;

use crate::lock;
use devrun_model::keeper::{RunAs, SpawnSpec};
use devrun_model::os_text;

use super::c_strings::{c_pointers, c_string};
use super::child::{PreparedChild, STEPS};
use super::drivers::launch::Launcher;
use super::drivers::{child_calls, pidfd};
use super::passed_sockets::{self, PassedSockets};
use super::pipes::{enlarge_pipe, pipe, set_nonblocking};
use super::silent_stdin;

/// Which step failed, and with what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SpawnError {
    /// `fork`, `chdir`, `exec`, …
    pub step: String,
    /// errno.
    pub errno: i32,
}

impl fmt::Display for SpawnError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.step, io::Error::from_raw_os_error(self.errno))
    }
}

impl std::error::Error for SpawnError {}

impl SpawnError {
    fn at(step: &str) -> impl Fn(io::Error) -> Self + '_ {
        move |error| Self { step: step.to_owned(), errno: error.raw_os_error().unwrap_or(libc::EIO) }
    }
}

/// A forked child that waits for its release.
#[derive(Debug)]
pub struct ForkedChild {
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

impl ForkedChild {
    /// Lets the child go on to exec.
    ///
    /// # Errors
    /// When the child is gone already.
    pub fn release(self) -> io::Result<StartedChild> {
        let result = nix::unistd::write(&self.release, &[1]);
        let started = StartedChild { pidfd: self.pidfd, stdout: self.stdout, stderr: self.stderr, errors: self.errors };
        match result {
            // The child is dead: its exit and its error pipe tell how.
            Ok(_) | Err(nix::Error::EPIPE) => Ok(started),
            Err(error) => Err(error.into()),
        }
    }
}

/// A released child.
#[derive(Debug)]
pub struct StartedChild {
    /// See [`ForkedChild`].
    pub pidfd: Option<OwnedFd>,
    /// See [`ForkedChild`].
    pub stdout: OwnedFd,
    /// See [`ForkedChild`].
    pub stderr: Option<OwnedFd>,
    /// See [`ForkedChild`].
    pub errors: OwnedFd,
}

/// What every fork needs of its parent.
#[derive(Debug)]
pub struct Forker {
    null: OwnedFd,
    default_limits: Option<DefaultLimits>,
    changed_signals: Vec<i32>,
    launcher: Launcher,
}

/// A lock that is ready to be inherited. Descriptors 0 to 2 are taken in the keeper, so it survives the child's shuffle.
#[derive(Debug)]
pub struct InheritedLock {
    file: File,
    /// Its device and inode.
    pub key: (u64, u64),
}

impl InheritedLock {
    /// Opens and locks the alive lock of a process. The offset is moved to the process's number, which everybody can read
    /// in `fdinfo`, so a holder tells exactly whose it is.
    ///
    /// # Errors
    /// The step and errno.
    pub fn open(spec: &SpawnSpec) -> Result<Self, SpawnError> {
        let open = || {
            let mut file = lock::lock_shared(&spec.lock)?;
            file.seek(io::SeekFrom::Start(spec.process))?;
            let meta = file.metadata()?;
            Ok(Self { key: (meta.dev(), meta.ino()), file })
        };
        open().map_err(SpawnError::at("lock"))
    }
}

/// The child's ends of stdout and stderr; one, where both are the terminal.
type ChildOutput = (OwnedFd, Option<OwnedFd>);

impl Forker {
    /// `default_limits`: the limits that children get where their spec asks for none; `plain`: every child is an ordinary fork.
    /// Signals that are ignored or handled now, and only those, have their default back in the children: make it when this
    /// process has settled its own.
    ///
    /// # Errors
    /// When `/dev/null` cannot be opened.
    pub fn new(default_limits: Option<DefaultLimits>, plain: bool) -> io::Result<Self> {
        let null = File::options().read(true).write(true).open("/dev/null")?.into();
        Ok(Self { null, default_limits, changed_signals: child_calls::changed_signals(), launcher: Launcher::new(plain) })
    }
    /// Forks. The child waits for its release and dies with ours if that never comes.
    ///
    /// Of the threads that share a descriptor table only one may fork: a child inherits every release pipe that is open at
    /// its birth and closes only its own before exec. Two children that hold each other's never see the end of theirs.
    ///
    /// # Errors
    /// The step and errno.
    pub fn fork(
        &self,
        spec: &SpawnSpec,
        lock: &InheritedLock,
        cgroup: Option<&File>,
        sockets: &[OwnedFd],
    ) -> Result<ForkedChild, SpawnError> {
        let words: Vec<CString> = spec
            .argv
            .iter()
            .map(|word| c_string(os_text::to_os(word)))
            .collect::<io::Result<_>>()
            .map_err(SpawnError::at("exec"))?;
        let mut variables = Vec::with_capacity(spec.env.len());
        for (name, value) in spec.env.iter().filter(|(name, _)| sockets.is_empty() || !passed_sockets::is_variable(name)) {
            variables.push(c_string(os_text::to_os(&format!("{name}={value}"))).map_err(SpawnError::at("exec"))?);
        }
        let passed = PassedSockets::prepare(&spec.sockets, sockets).map_err(SpawnError::at("sockets"))?;
        variables.extend(passed.variables().map_err(SpawnError::at("sockets"))?);
        let argv = c_pointers(&words);
        let mut envp = c_pointers(&variables);
        if let Some(listen_pid) = passed.listen_pid() {
            envp.insert(0, listen_pid);
        }
        let mut all = words;
        all.extend(variables);
        let (release, release_writer) = pipe().map_err(SpawnError::at("pipe"))?;
        let (errors, errors_writer) = pipe().map_err(SpawnError::at("pipe"))?;
        // What the child uses until its exec must not lie where the sockets go.
        let release = passed.out_of_the_way(release).map_err(SpawnError::at("pipe"))?;
        let errors_writer = passed.out_of_the_way(errors_writer).map_err(SpawnError::at("pipe"))?;
        let moved_lock = passed.duplicate_out_of_the_way(&lock.file).map_err(SpawnError::at("lock"))?;
        set_nonblocking(&errors).map_err(SpawnError::at("pipe"))?;
        let (stdout, stderr, ends) = self.output(spec).map_err(SpawnError::at(if spec.tty { "tty" } else { "pipe" }))?;
        // Held until the child has its copy.
        let stdin =
            spec.open_stdin.then(|| silent_stdin::open(&spec.run_as, &spec.lock)).transpose().map_err(SpawnError::at("stdin"))?;
        let prepared = PreparedChild {
            program: c_string(&spec.program).map_err(SpawnError::at("exec"))?,
            argv,
            envp,
            dir: c_string(&spec.dir).map_err(SpawnError::at("chdir"))?,
            umask: spec.umask,
            nofile: spec.nofile,
            run_as: spec.run_as.clone(),
            maps: maps(&spec.run_as),
            stdin: stdin.as_ref().unwrap_or(&self.null).as_raw_fd(),
            stdout: ends.0.as_raw_fd(),
            stderr: ends.1.as_ref().map_or(ends.0.as_raw_fd(), AsRawFd::as_raw_fd),
            terminal: spec.tty.then(|| ends.0.as_raw_fd()),
            lock: moved_lock.as_ref().map_or(lock.file.as_raw_fd(), AsRawFd::as_raw_fd),
            cgroup: cgroup.map(AsRawFd::as_raw_fd),
            release: release.as_raw_fd(),
            release_writer: release_writer.as_raw_fd(),
            errors: errors_writer.as_raw_fd(),
            last_descriptor: child_calls::last_descriptor(),
            default_limits: self.default_limits,
            changed_signals: self.changed_signals.clone(),
            sockets: passed,
            words: all,
        };
        let copy = spec.memory.is_some() || spec.run_as != RunAs::Same;
        let pid = self.launcher.launch(prepared, copy).map_err(SpawnError::at("fork"))?;
        Ok(ForkedChild { pid, pidfd: pidfd::open(pid), stdout, stderr, errors, release: release_writer })
    }

    /// Waits for the children that have left this process's memory.
    pub fn reap_in_flight(&self) {
        self.launcher.reap_in_flight();
    }

    /// Gives the stacks back that no child uses.
    pub fn free_stacks(&self) {
        self.launcher.free_stacks();
    }

    fn output(&self, spec: &SpawnSpec) -> io::Result<(OwnedFd, Option<OwnedFd>, ChildOutput)> {
        if spec.tty {
            // Programs that draw want a size before anybody attaches.
            let size = nix::pty::Winsize { ws_row: 24, ws_col: 80, ws_xpixel: 0, ws_ypixel: 0 };
            let pair = nix::pty::openpty(Some(&size), None)?;
            for end in [&pair.master, &pair.slave] {
                close_on_exec(end)?;
            }
            set_nonblocking(&pair.master)?;
            return Ok((pair.master, None, (pair.slave, None)));
        }
        let (stdout, stdout_writer) = pipe()?;
        let (stderr, stderr_writer) = pipe()?;
        for end in [&stdout, &stderr] {
            set_nonblocking(end)?;
            enlarge_pipe(end);
        }
        Ok((stdout, Some(stderr), (stdout_writer, Some(stderr_writer))))
    }
}

fn close_on_exec(fd: &OwnedFd) -> io::Result<()> {
    nix::fcntl::fcntl(fd, nix::fcntl::FcntlArg::F_SETFD(nix::fcntl::FdFlag::FD_CLOEXEC))?;
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

/// What the error pipe has said: `None` nothing yet, `Some(Ok)` exec worked (or the child died before it could say),
/// `Some(Err)` the step that failed.
#[must_use]
pub fn exec_status(errors: &OwnedFd) -> Option<Result<(), SpawnError>> {
    let mut message = [0u8; 5];
    match nix::unistd::read(errors, &mut message) {
        Ok(5) => {
            let step = STEPS.get(usize::from(message[0])).copied().unwrap_or("start");
            let errno = i32::from_ne_bytes([message[1], message[2], message[3], message[4]]);
            Some(Err(SpawnError { step: step.to_owned(), errno }))
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
    use crate::own_descriptors::unshare_descriptors;
    use devrun_model::keeper::StopOrder;
    use devrun_model::{ServiceId, ServiceName};

    fn spec(folder: &Path, process: u64, program: &str) -> SpawnSpec {
        let service = ServiceId::single(&ServiceName::new("a").unwrap());
        let lock = folder.join(format!("{process}.alive"));
        SpawnSpec {
            argv: vec![program.to_owned()],
            env: vec![("A".to_owned(), "b".to_owned())],
            dir: folder.to_owned(),
            ..SpawnSpec::plain(process, service, 1, program.into(), lock, StopOrder::plain(1000))
        }
    }

    #[test]
    fn children_in_our_memory_execute_fail_or_are_let_go_of_and_leave_it() {
        unshare_descriptors();
        let folder = tempfile::tempdir().unwrap();
        let forker = Forker::new(None, false).unwrap();
        let mut born = Vec::new();
        for process in 0..60 {
            let program = if process % 3 == 1 { "/nowhere/at all" } else { "/bin/true" };
            let spec = spec(folder.path(), process, program);
            let forked = forker.fork(&spec, &InheritedLock::open(&spec).unwrap(), None, &[]).unwrap();
            let pid = forked.pid;
            // Every third one never gets its word.
            let started = (process % 3 != 2).then(|| forked.release().unwrap());
            born.push((process, pid, started));
        }
        for (process, pid, started) in born {
            let code = if process % 3 == 0 { 0 } else { 127 };
            let pid = nix::unistd::Pid::from_raw(pid);
            assert_eq!(waitpid(pid, None), Ok(WaitStatus::Exited(pid, code)), "{process}");
            let failed = started.and_then(|started| exec_status(&started.errors)?.err());
            let wanted = (process % 3 == 1).then(|| SpawnError { step: "exec".to_owned(), errno: libc::ENOENT });
            assert_eq!(failed, wanted, "{process}");
        }
        forker.free_stacks();
        assert_eq!(forker.launcher.counts(), (0, 0), "a child is still in our memory");
    }

    fn end(forked: ForkedChild) {
        let pid = nix::unistd::Pid::from_raw(forked.pid);
        drop(forked);
        assert_eq!(waitpid(pid, None), Ok(WaitStatus::Exited(pid, 127)));
    }

    /// Whether two processes share their memory; `None` where the kernel does not say.
    fn share_memory(one: i32, other: i32) -> Option<bool> {
        const KCMP_VM: i32 = 1;
        // SAFETY: a query with integer arguments.
        match unsafe { libc::syscall(libc::SYS_kcmp, one, other, KCMP_VM, 0, 0) } {
            -1 => None,
            order => Some(order == 0),
        }
    }

    /// The kernel kills all who share the memory of a process that exceeds its limit.
    #[test]
    #[cfg_attr(feature = "portable", ignore = "every child has a copy of the keeper's memory")]
    fn a_child_with_a_memory_limit_has_memory_of_its_own() {
        unshare_descriptors();
        let folder = tempfile::tempdir().unwrap();
        let us = std::process::id().cast_signed();
        for (limit, plain, in_flight) in [(None, false, 1), (Some(64 << 20), false, 0), (None, true, 0)] {
            let forker = Forker::new(None, plain).unwrap();
            let spec = SpawnSpec { memory: limit, ..spec(folder.path(), 1, "/bin/true") };
            let forked = forker.fork(&spec, &InheritedLock::open(&spec).unwrap(), None, &[]).unwrap();
            assert_eq!(forker.launcher.counts().0, in_flight, "{limit:?} {plain}");
            if let Some(shared) = share_memory(us, forked.pid) {
                assert_eq!(shared, in_flight == 1, "{limit:?} {plain}");
            }
            end(forked);
        }
    }

    /// Makes system calls fail in this thread and in the children that it makes.
    fn refuse(calls: &[(libc::c_long, i32)]) {
        let statement = |code: u32, k: u32| libc::sock_filter { code: code as u16, jt: 0, jf: 0, k };
        let mut filter = vec![statement(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0)];
        for (call, errno) in calls {
            let code = (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16;
            filter.push(libc::sock_filter { code, jt: 0, jf: 1, k: *call as u32 });
            filter.push(statement(libc::BPF_RET | libc::BPF_K, libc::SECCOMP_RET_ERRNO | errno.cast_unsigned()));
        }
        filter.push(statement(libc::BPF_RET | libc::BPF_K, libc::SECCOMP_RET_ALLOW));
        let program = libc::sock_fprog { len: filter.len() as u16, filter: filter.as_mut_ptr() };
        // SAFETY: prctl with integers and a filter that the kernel copies.
        unsafe {
            assert_eq!(libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), 0);
            assert_eq!(libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const program), 0);
        }
    }

    /// Old kernels do not know the calls; old seccomp profiles of container runtimes refuse what they do not know.
    #[test]
    fn children_start_and_inherit_nothing_without_clone3_and_close_range() {
        unshare_descriptors();
        let folder = tempfile::tempdir().unwrap();
        // Close-on-exec is taken off, as a library may have forgotten it.
        let leaked: Vec<OwnedFd> = (0..200).map(|_| File::open("/dev/zero").unwrap().into()).collect();
        for fd in &leaked {
            nix::fcntl::fcntl(fd, nix::fcntl::FcntlArg::F_SETFD(nix::fcntl::FdFlag::empty())).unwrap();
        }
        for (number, errno) in [libc::ENOSYS, libc::EPERM].into_iter().enumerate() {
            let folder = folder.path().to_owned();
            let work = move || {
                let forker = Forker::new(None, false).unwrap();
                refuse(&[(libc::SYS_clone3, errno), (libc::SYS_close_range, errno)]);
                let mut spec = spec(&folder, number as u64, "/bin/ls");
                spec.argv.extend(["-l".to_owned(), "/proc/self/fd".to_owned()]);
                let forked = forker.fork(&spec, &InheritedLock::open(&spec).unwrap(), None, &[]).unwrap();
                let pid = nix::unistd::Pid::from_raw(forked.pid);
                assert_eq!(forker.launcher.counts().0, 0);
                let started = forked.release().unwrap();
                assert_eq!(waitpid(pid, None), Ok(WaitStatus::Exited(pid, 0)));
                let mut text = vec![0; 1 << 16];
                let length = nix::unistd::read(&started.stdout, &mut text).unwrap();
                String::from_utf8_lossy(&text[..length]).into_owned()
            };
            let text = std::thread::spawn(work).join().unwrap();
            let open: Vec<&str> = text.lines().filter(|line| line.contains(" -> ") && !line.contains(" -> /proc/")).collect();
            assert_eq!(open.len(), 4, "0, 1, 2 and the lock:\n{text}");
            assert!(open.iter().any(|line| line.ends_with(&format!("/{number}.alive"))), "{text}");
        }
    }

    #[test]
    #[cfg_attr(feature = "portable", ignore = "every child has a copy of the keeper's memory")]
    fn a_child_that_hangs_holds_back_no_memory_of_others() {
        unshare_descriptors();
        let folder = tempfile::tempdir().unwrap();
        let forker = Forker::new(None, false).unwrap();
        let start = |process| {
            let spec = spec(folder.path(), process, "/bin/true");
            forker.fork(&spec, &InheritedLock::open(&spec).unwrap(), None, &[]).unwrap()
        };
        let hangs = start(0);
        for process in 1..20 {
            end(start(process));
        }
        forker.reap_in_flight();
        assert_eq!(forker.launcher.counts(), (1, 1), "one stack serves one child after the other");
        end(hangs);
        forker.free_stacks();
        assert_eq!(forker.launcher.counts().0, 0);
    }
}
