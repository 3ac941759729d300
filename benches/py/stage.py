"""Runs one rival once: in a folder of its own, below a subreaper, and leaves nothing of it behind."""

import ctypes
import os
import pty
import select
import shutil
import signal
import subprocess
import tempfile
import threading
import time

PR_SET_CHILD_SUBREAPER = 36


def become_subreaper():
    """Whatever a rival leaves behind becomes our child, so we can end exactly that and nothing else."""
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def read(path):
    try:
        with open(path) as file:
            return file.read()
    except OSError:
        return ""


def children(pid):
    found = []
    try:
        tasks = os.listdir(f"/proc/{pid}/task")
    except OSError:
        return found
    for task in tasks:
        found += [int(word) for word in read(f"/proc/{pid}/task/{task}/children").split()]
    return found


def tree(pid):
    found, todo = [], [pid]
    while todo:
        pid = todo.pop()
        found.append(pid)
        todo += children(pid)
    return found


def sweep(keep=()):
    """Kills and reaps all that is left below us but the trees in `keep`."""
    for _ in range(200):
        left = [pid for pid in children(os.getpid()) if pid not in keep]
        if not left:
            return
        for child in left:
            for pid in tree(child):
                try:
                    os.kill(pid, signal.SIGKILL)
                except OSError:
                    pass
            try:
                os.waitpid(child, os.WNOHANG)
            except OSError:
                pass
        time.sleep(0.01)


def busy():
    """Share of the machine that was busy in the last quarter of a second, in percent."""
    def look():
        numbers = [int(word) for word in read("/proc/stat").splitlines()[0].split()[1:]]
        return sum(numbers), numbers[3] + numbers[4]
    total, idle = look()
    time.sleep(0.25)
    total2, idle2 = look()
    return 100 * (1 - (idle2 - idle) / max(1, total2 - total))


class Noise:
    """Waits for a quiet moment, for a while; counts the samples that had none. All the waiting together has a limit, so that a
    machine that is never quiet does not eat the time of the whole run."""

    def __init__(self, patience, altogether):
        self.patience, self.left, self.samples, self.noisy = patience, altogether, 0, 0

    def gate(self):
        begun = time.monotonic()
        self.samples += 1
        while busy() > 12:
            waited = time.monotonic() - begun
            if waited > min(self.patience, self.left):
                self.left = max(0, self.left - waited)
                self.noisy += 1
                return


class Run:
    """One rival with its services."""

    def __init__(self, bench, rival, services_of, output=None):
        self.rival = rival
        self.work = tempfile.mkdtemp(prefix="db", dir=bench.shm)
        self.events = f"{self.work}/events"
        open(self.events, "w").close()
        self.services = services_of(self.events)
        argv = rival.prepare(self.work, self.services)
        environment = dict(PATH=os.environ["PATH"], HOME=f"{self.work}/home", LC_ALL="C.UTF-8", TZ="UTC",
                           DEVRUN_BENCH_EVENTS=self.events, CIRCUS_PLUGIN="0")
        environment.update(rival.environment(self.work))
        os.makedirs(environment["HOME"], exist_ok=True)
        self.begun = time.monotonic_ns()
        self.reader = None
        if rival.terminal:
            self.pid, master = pty.fork()
            if self.pid == 0:
                os.chdir(self.work)
                os.execvpe(argv[0], argv, environment)
            self.reader = threading.Thread(target=drain, args=(master,), daemon=True)
            self.reader.start()
        else:
            out = os.open(output or "/dev/null", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
            error = os.open(f"{self.work}/stderr", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
            self.process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=out, stderr=error, cwd=self.work, env=environment,
                                            start_new_session=True, close_fds=True)
            self.pid = self.process.pid
            os.close(out)
            os.close(error)
        self.pidfd = os.pidfd_open(self.pid)

    def stamps(self, kind):
        """All stamps of one kind: (nanoseconds, service, pid), in order of time."""
        rows = [line.split() for line in read(self.events).splitlines()]
        return sorted((int(row[0]), row[2], int(row[3])) for row in rows if len(row) == 4 and row[1] == kind)

    def wait_for(self, kind, count, timeout):
        """Waits until so many stamps of a kind are there; false when they do not come."""
        end = time.monotonic() + timeout
        size = -1
        while time.monotonic() < end:
            now = os.stat(self.events).st_size
            if now != size:
                size = now
                if len(self.stamps(kind)) >= count:
                    return True
            elif self.gone(0):
                return len(self.stamps(kind)) >= count
            time.sleep(0.004)
        return False

    def gone(self, timeout):
        """Whether the supervisor has ended."""
        return bool(select.select([self.pidfd], [], [], timeout)[0])

    def stop(self, timeout=30):
        """Asks it to stop as its users would; returns nanoseconds until supervisor and services are gone, or None."""
        begun = time.monotonic_ns()
        command = self.rival.stop_command(self.work)
        if command:
            subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, timeout=20, cwd=self.work)
        else:
            os.kill(self.pid, self.rival.stop_signal)
        if not self.gone(timeout):
            return None
        ended = time.monotonic_ns()
        services = self.pids()
        while any(alive(pid) for pid in services):
            if time.monotonic_ns() - begun > timeout * 1e9:
                return None
            time.sleep(0.001)
        last = self.stamps("X")
        return max(ended, last[-1][0] if last else 0) - begun

    def pids(self):
        """The services that have stamped their beginning; those that only write lines have a stamp of their own for it."""
        return {pid for kind in "SB" for _, _, pid in self.stamps(kind)}

    def supervisors(self):
        """Processes of the supervisor's side: its tree without the services."""
        services = self.pids()
        roots = [self.pid] + [pid for pid in children(os.getpid()) if pid != self.pid and work_of(pid, self.work)]
        return [pid for root in roots for pid in tree(root) if pid not in services]

    def close(self, keep=()):
        os.close(self.pidfd)
        if self.rival.terminal or self.process.poll() is None:
            for pid in tree(self.pid):
                try:
                    os.kill(pid, signal.SIGKILL)
                except OSError:
                    pass
        sweep(keep)
        shutil.rmtree(self.work, ignore_errors=True)

    def said(self):
        return read(f"{self.work}/stderr").strip()[-300:]


def work_of(pid, work):
    try:
        return os.readlink(f"/proc/{pid}/cwd").startswith(work) or work in read(f"/proc/{pid}/cmdline")
    except OSError:
        return False


def alive(pid):
    text = read(f"/proc/{pid}/stat")
    return bool(text) and text.rsplit(")", 1)[1].split()[0] not in "ZX"


def drain(master):
    import fcntl
    import struct
    import termios
    fcntl.ioctl(master, termios.TIOCSWINSZ, struct.pack("HHHH", 50, 200, 0, 0))
    while True:
        try:
            if not os.read(master, 65536):
                return
        except OSError:
            return


def usage(pids):
    """Now: CPU nanoseconds and context switches of each thread, RSS and PSS bytes of the processes together."""
    threads, rss, pss, own = {}, 0, 0, 0
    for pid in pids:
        try:
            tasks = os.listdir(f"/proc/{pid}/task")
        except OSError:
            continue
        for task in tasks:
            words = read(f"/proc/{pid}/task/{task}/schedstat").split()
            switches = sum(int(line.split()[1]) for line in read(f"/proc/{pid}/task/{task}/status").splitlines() if "ctxt_switches" in line)
            threads[task] = (int(words[0]) if words else 0, switches)
        for line in read(f"/proc/{pid}/smaps_rollup").splitlines():
            if line.startswith("Rss:"):
                rss += int(line.split()[1]) * 1024
            if line.startswith("Pss:"):
                pss += int(line.split()[1]) * 1024
            if line.startswith("Pss_Anon:"):
                own += int(line.split()[1]) * 1024
    return {"threads": threads, "cpu": sum(cpu for cpu, _ in threads.values()), "rss": rss, "pss": pss, "own": own}


def spent(before, after):
    """CPU nanoseconds and switches between two looks; a thread that ended meanwhile took its numbers with it and counts as
    one switch."""
    cpu = switches = 0
    for task, (now, count) in after["threads"].items():
        then, counted = before["threads"].get(task, (0, 0))
        cpu += now - then
        switches += count - counted
    return cpu, switches + len(before["threads"].keys() - after["threads"].keys())
