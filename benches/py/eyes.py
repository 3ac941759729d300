"""What it costs to look: `scripts/bench eyes`.

A stack of ten services with `devrun ui` on a terminal of 120 × 40 and `devrun web` with its page open, in Chromium where there is one,
otherwise in a client that asks what the page asks. First nothing changes for 30 s: the wake-ups of both dashboards are counted, which
are the context switches of all their threads. Then a service writes 1000 lines a second for 20 s: the CPU time of both is taken. The
supervisor is shown beside them. Nothing is written into docs/.
"""

import argparse
import fcntl
import http.client
import json
import os
import pty
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import termios
import threading
import time

import stage

IDLE, WRITING, LINES = 30, 20, 1000
WRITER = f"""
import sys, time
begun, written = time.monotonic(), 0
while True:
    due = int((time.monotonic() - begun) * {LINES})
    sys.stdout.write("".join(f"GET /api/orders/{{n}} 200 in {{n % 90}} ms\\n" for n in range(written, due)))
    sys.stdout.flush()
    written = due
    time.sleep(0.005)
"""


def switches(pids):
    """Context switches, asked for or not, by thread."""
    found = {}
    for pid in pids:
        for task in os.listdir(f"/proc/{pid}/task"):
            lines = stage.read(f"/proc/{pid}/task/{task}/status").splitlines()
            found[task] = sum(int(line.split()[1]) for line in lines if "ctxt_switches" in line)
    return found


def woken(before, pids):
    """Context switches since then; a thread that has ended meanwhile woke at least once for that."""
    now = switches(pids)
    return sum(count - before.get(task, 0) for task, count in now.items()) + sum(task not in now for task in before)


def cpu(pids):
    """Seconds of CPU time."""
    total = 0
    for pid in pids:
        numbers = stage.read(f"/proc/{pid}/stat").rsplit(")", 1)[1].split()
        total += int(numbers[11]) + int(numbers[12])
    return total / os.sysconf("SC_CLK_TCK")


class Screen:
    """`devrun ui` on a terminal; what it draws is read and counted."""

    def __init__(self, argv, work, environment):
        self.pid, self.master = pty.fork()
        if self.pid == 0:
            os.chdir(work)
            os.execvpe(argv[0], argv, {**environment, "TERM": "xterm-256color"})
        fcntl.ioctl(self.master, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 120, 0, 0))
        self.seen, self.last = 0, b""
        threading.Thread(target=self.read, daemon=True).start()

    def read(self):
        try:
            while chunk := os.read(self.master, 65536):
                self.seen += len(chunk)
                self.last = (self.last + chunk)[-65536:]
        except OSError:
            pass


class Client:
    """Asks what the page asks when it follows the log of all services."""

    def __init__(self, address):
        where, token = address.removesuffix("/logs/").split("/#token=")
        self.host = where.split("//")[1]
        self.cookie = {"Cookie": f"devrun_{self.host.split(':')[1]}={token}"}
        self.lines = 0
        threading.Thread(target=self.follow, daemon=True).start()

    def ask(self, path):
        connection = http.client.HTTPConnection(self.host)
        connection.request("GET", path, headers=self.cookie)
        return json.load(connection.getresponse())

    def follow(self):
        bottom = self.ask("/api/logs?service=&filter=&older=200")["bottom"]
        stream = http.client.HTTPConnection(self.host)
        stream.request("GET", "/api/stream", headers=self.cookie)
        answer, last = stream.getresponse(), None
        while line := answer.readline():
            if not line.startswith(b"data: "):
                continue
            now = json.loads(line[6:])
            if last is None or now["state"] != last["state"]:
                self.ask("/api/status")
            last = now
            found = self.ask(f"/api/logs?service=&filter=&at={bottom.replace(',', '%2C')}&newer=600")
            self.lines += len(found["lines"])
            bottom = found["bottom"]


def main(arguments):
    parser = argparse.ArgumentParser(prog="scripts/bench eyes", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--no-browser", action="store_true", help="use the scripted client although there is a Chromium")
    parser.add_argument("--idle", type=int, default=IDLE, help="seconds in which nothing changes")
    options = parser.parse_args(arguments)
    root = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    devrun = os.environ.get("DEVRUN")
    if not devrun:
        subprocess.run(["cargo", "build", "--release", "--bin", "devrun"], check=True, cwd=root)
        devrun = f"{root}/target/release/devrun"
    devrun = os.path.abspath(devrun)
    stage.become_subreaper()
    work = tempfile.mkdtemp(prefix="devrun-eyes-")
    environment = dict(PATH=os.environ["PATH"], HOME=f"{work}/home", LC_ALL="C.UTF-8", XDG_RUNTIME_DIR=f"{work}/run")
    for name in ("home", "run", "stack"):
        os.makedirs(f"{work}/{name}", mode=0o700)
    stack = f"{work}/stack"
    with open(f"{stack}/writer.py", "w") as file:
        file.write(WRITER)
    with open(f"{stack}/procfile.toml", "w") as file:
        # Nine that are silent, and one that writes once it is started.
        file.write("".join(f"[services.quiet{number}]\nrun = \"sleep 100000\"\n" for number in range(9)))
        file.write(f"[services.writer]\nrun = \"{sys.executable} -u writer.py\"\nprofiles = [\"writing\"]\n")
    run = lambda *words: subprocess.run([devrun, *words], cwd=stack, env=environment, check=True, capture_output=True, text=True)
    browser, told = None, []
    try:
        run("up", "-d")
        screen = Screen([devrun, "ui"], stack, environment)
        web = subprocess.Popen([devrun, "web"], cwd=stack, env=environment, stdout=subprocess.PIPE, text=True)
        address = web.stdout.readline().strip() + "/logs/"
        chromium = None if options.no_browser else shutil.which("chromium") or shutil.which("google-chrome")
        if chromium:
            browser = subprocess.Popen(
                [chromium, "--headless=new", "--no-sandbox", "--disable-gpu", "--remote-debugging-port=0", f"--user-data-dir={work}/browser", address],
                env={**environment, "HOME": f"{work}/home"}, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
        else:
            Client(address)
        supervisor = [json.loads(run("ps", "--json").stdout)["supervisor_pid"]]
        deadline = time.monotonic() + 60
        while b"quiet0" not in screen.last or not page_is_open(address):
            if time.monotonic() > deadline:
                raise SystemExit("the dashboards did not open")
            time.sleep(0.1)
        # What the beginning left to do: threads that wait for more to do end after 10 s, connections that the browser keeps after 30 s.
        time.sleep(45)
        rows = {"ui": [screen.pid], "web": [web.pid], "supervisor": supervisor}
        before = {name: (switches(pids), cpu(pids)) for name, pids in rows.items()}
        time.sleep(options.idle)
        for name, pids in rows.items():
            spent = cpu(pids) - before[name][1]
            told.append(f"nothing changes for {options.idle} s: {name:10} {woken(before[name][0], pids)} wake-ups, {spent * 1000:.0f} ms of CPU")
        run("start", "writer")
        time.sleep(3)
        before = {name: (switches(pids), cpu(pids)) for name, pids in rows.items()}
        drawn, begun = screen.seen, time.monotonic()
        time.sleep(WRITING)
        took = time.monotonic() - begun
        for name, pids in rows.items():
            spent = cpu(pids) - before[name][1]
            told.append(f"{LINES} lines a second are shown: {name:10} {100 * spent / took:.1f} % of one core, {woken(before[name][0], pids) / took:.0f} wake-ups a second")
        told.append(f"the screen drew {(screen.seen - drawn) / took / 1024:.0f} KiB a second; the page was open in {'Chromium' if chromium else 'a scripted client'}")
        print("\n".join(told))
        print(subprocess.run([devrun, "--version"], capture_output=True, text=True).stdout.strip(), "on", os.cpu_count(), "cores")
        os.kill(screen.pid, signal.SIGTERM)
        web.send_signal(signal.SIGINT)
    finally:
        if browser:
            os.killpg(browser.pid, signal.SIGKILL)
        subprocess.run([devrun, "down"], cwd=stack, env=environment, capture_output=True)
        stage.sweep()
        shutil.rmtree(work, ignore_errors=True)
    return 0


def page_is_open(address):
    """Whether somebody is connected to the port of an address on loopback."""
    port = int(address.split("/")[2].split(":")[1])
    rows = [line.split() for line in stage.read("/proc/net/tcp").splitlines()[1:]]
    return any(row[1].endswith(f":{port:04X}") and row[3] == "01" for row in rows)
