"""One adapter a rival: how it is found, configured at its best, started, asked and stopped.

Every adapter gets the same list of services and writes what its own format needs for it. Nothing is asked of a rival
about itself but its version; all times come from the stamps of the services.
"""

import os
import shlex
import shutil
import subprocess
from dataclasses import dataclass, field


@dataclass
class Service:
    """What is to be run; the same for everybody."""
    name: str
    argv: list
    deps: list = field(default_factory=list)
    ready: tuple = None       # ("tcp", port), ("http", port), ("fd", 3)
    restart: bool = False
    grace: float = None       # seconds


def write(path, text, mode=0o644):
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "w") as file:
        file.write(text)
    os.chmod(path, mode)


class Rival:
    name = ""
    binary = ""
    also = ()                 # further programs it needs
    source = ""               # where --install gets it
    configured = ""           # its best fair setting, for the reader
    readiness = ()            # kinds of ready a dependent can wait for
    restarts = False
    graced = False            # its grace can be set
    captures = None           # "files" or "merged": where log lines go
    stop_signal = 15
    limit = 1000              # the largest N it is asked for
    terminal = False          # needs a pty
    variant = False           # the same program in another setting: asked only where that setting matters

    def __init__(self, folder):
        self.folder = folder

    def find(self, name=None):
        name = name or self.binary
        for place in ("bin", "py/bin", "npm/node_modules/.bin"):
            path = os.path.join(self.folder, place, name)
            if os.access(path, os.X_OK):
                return path
        return shutil.which(name)

    def missing(self):
        gone = [name for name in (self.binary, *self.also) if not self.find(name)]
        return f"{', '.join(gone)} not found; {self.source}" if gone else None

    def version(self):
        return "?"

    def ask(self, *words):
        try:
            done = subprocess.run(words, capture_output=True, text=True, timeout=20, stdin=subprocess.DEVNULL)
        except (OSError, subprocess.TimeoutExpired):
            return "?"
        lines = (done.stdout + done.stderr).strip().splitlines()
        return lines[0].strip() if lines else "?"

    def environment(self, work):
        return {}

    def prepare(self, work, services):
        """Writes the configuration; returns the command line."""
        raise NotImplementedError

    def stop_command(self, work):
        return None

    def status_command(self, work):
        return None

    def log_files(self, work, services):
        return []


class Devrun(Rival):
    name = "devrun"
    binary = "devrun"
    configured = "attached `up`, logs kept in files (log throughput: `up -d`; «merged»: what the attached one prints); `log.max_size` raised for it; restart: `always` with `backoff.reset` 1 s; containment on"
    readiness = ("tcp", "http")
    restarts = graced = True
    captures = "files"

    def __init__(self, folder, path):
        super().__init__(folder)
        self.path = path
        self.interval = None

    def find(self, name=None):
        return self.path

    def version(self):
        return self.ask(self.path, "--version")

    def environment(self, work):
        return {"XDG_RUNTIME_DIR": f"{work}/run", "CI": "true"}

    def prepare(self, work, services):
        os.makedirs(f"{work}/run", mode=0o700, exist_ok=True)
        text = ['[project]\nname = "bench"\n']
        for service in services:
            words = ", ".join('"' + word.replace("\\", "\\\\").replace('"', '\\"') + '"' for word in service.argv)
            text.append(f"[services.{service.name}]\nrun = [{words}]\n")
            if service.deps:
                text.append("depends_on = [" + ", ".join(f'"{name}"' for name in service.deps) + "]\n")
            interval = f', interval = "{self.interval}"' if self.interval else ""
            if service.ready and service.ready[0] == "tcp":
                text.append(f'ready = {{ tcp = {service.ready[1]}{interval} }}\n')
            if service.ready and service.ready[0] == "http":
                text.append(f'ready = {{ http = "http://127.0.0.1:{service.ready[1]}/"{interval} }}\n')
            if service.argv[1] == "spew":
                # Rotation would throw away what is to be read back.
                text.append('log = { max_size = "8G" }\n')
            if service.restart:
                text.append('restart = "always"\nbackoff = { reset = "1s" }\n')
            if service.grace is not None:
                text.append(f'stop = {{ grace = "{int(service.grace * 1000)}ms" }}\n')
        write(f"{work}/procfile.toml", "".join(text))
        if self.captures == "files" and any(service.argv[1] == "spew" for service in services):
            # Attached it would show the lines as well; the shell stands for the supervisor that goes on in the background.
            write(f"{work}/start", f"#!/bin/sh\n{self.path} -C {work} up -d --no-wait >/dev/null 2>&1\n"
                  f"trap '{self.path} -C {work} down >/dev/null 2>&1; exit 0' TERM\nsleep 1000 &\nwait $!\n", 0o755)
            return [f"{work}/start"]
        return [self.path, "-C", work, "up"]

    def status_command(self, work):
        return [self.path, "-C", work, "ps"]

    def log_files(self, work, services):
        return [f"{work}/.devrun/logs/{service.name}.log" for service in services]


class DevrunMerged(Devrun):
    """The same program, measured by what it prints."""
    name = "devrun, merged"
    variant = True
    captures = "merged"


class Ideal(Rival):
    name = "ideal"
    configured = "benches/src/ideal.rs: posix_spawn, pidfd and poll with perfect knowledge; captures no logs"
    readiness = ("fd", "tcp")
    restarts = graced = True

    def __init__(self, folder, helper):
        super().__init__(folder)
        self.helper = helper

    def find(self, name=None):
        return self.helper

    def prepare(self, work, services):
        # The graph is always tiers of one width; the services' own words are taken over.
        tiers, names = [], {service.name: service for service in services}
        for service in services:
            depth = 0
            while names[service.name].deps and depth < len(services):
                depth, service = depth + 1, names[service.deps[0]]
            tiers.append(depth)
        first = services[0]
        words = [word for word in first.argv[4:] if word.split("=")[0] in ("delay", "life", "ignore")]
        mode = {"tcp": "tcp", "fd": "notify"}.get(first.ready[0]) if first.ready else "flat"
        if mode == "tcp":
            words.append(f"port={first.ready[1]}")
        return [self.helper, "ideal", f"svc={self.helper}", f"events={first.argv[2]}", f"tiers={max(tiers) + 1}",
                f"width={tiers.count(0)}", f"mode={mode}", f"restart={int(first.restart)}",
                f"grace={int((first.grace or 10) * 1000)}", *words]


class Dinit(Rival):
    name = "dinit"
    binary = "dinit"
    also = ("dinitctl",)
    source = "from its source, put into the folder's bin/"
    configured = "ready by descriptor (it has no TCP or HTTP probe: the service is changed for it); `restart-delay = 0`; logs: none, or the file is handed to the service"
    readiness = ("fd",)
    restarts = graced = True
    captures = "files"

    def version(self):
        return self.ask(self.find(), "--version")

    def prepare(self, work, services):
        for service in services:
            text = "type = process\ncommand = " + shlex.join(service.argv) + "\n"
            text += f"logfile = {work}/{service.name}.log\n" if service.argv[1] == "spew" else ""
            text += "".join(f"depends-on = {name}\n" for name in service.deps)
            if service.ready and service.ready[0] == "fd":
                text += f"ready-notification = pipefd:{service.ready[1]}\n"
            text += "restart = true\nrestart-delay = 0\nrestart-limit-interval = 0\n" if service.restart else "restart = false\n"
            if service.grace is not None:
                text += f"stop-timeout = {service.grace}\n"
            write(f"{work}/d/{service.name}", text)
        write(f"{work}/d/boot", "type = internal\n" + "".join(f"waits-for = {service.name}\n" for service in services))
        return [self.find(), "--user", "--quiet", "-d", f"{work}/d", "-p", f"{work}/s", "boot"]

    def status_command(self, work):
        return [self.find("dinitctl"), "-p", f"{work}/s", "list"]

    def log_files(self, work, services):
        return [f"{work}/{service.name}.log" for service in services]


class S6(Rival):
    name = "s6"
    binary = "s6-svscan"
    also = ("s6-supervise",)
    source = "Debian: s6"
    configured = "run script execs the service; `timeout-kill` for the grace; it restarts everything, at most once a second"
    restarts = graced = True

    def version(self):
        return self.ask("dpkg-query", "-W", "-f", "${Version}", "s6")

    def prepare(self, work, services):
        for service in services:
            write(f"{work}/scan/{service.name}/run", "#!/bin/sh\nexec " + shlex.join(service.argv) + "\n", 0o755)
            if service.grace is not None:
                write(f"{work}/scan/{service.name}/timeout-kill", f"{int(service.grace * 1000)}\n")
        return [self.find(), "-c", "2000", f"{work}/scan"]


class Runit(Rival):
    name = "runit"
    binary = "runsvdir"
    also = ("runsv", "sv")
    source = "Debian: runit"
    configured = "run script execs the service; stopped by SIGHUP (it does not wait: the last service's end counts)"
    restarts = True
    stop_signal = 1

    def version(self):
        return self.ask("dpkg-query", "-W", "-f", "${Version}", "runit")

    def prepare(self, work, services):
        for service in services:
            write(f"{work}/sv/{service.name}/run", "#!/bin/sh\nexec " + shlex.join(service.argv) + "\n", 0o755)
        return [self.find(), f"{work}/sv"]

    def status_command(self, work):
        return ["/bin/sh", "-c", f"exec {self.find('sv')} status {work}/sv/*"]


class Supervisord(Rival):
    name = "supervisord"
    binary = "supervisord"
    also = ("supervisorctl",)
    source = "PyPI: supervisor"
    configured = "`startsecs = 0` unless it restarts; log files without rotation"
    restarts = graced = True
    captures = "files"
    limit = 500

    def version(self):
        return self.ask(self.find(), "--version")

    def prepare(self, work, services):
        text = [f"[supervisord]\nnodaemon=true\nlogfile=/dev/null\nlogfile_maxbytes=0\npidfile={work}/pid\nminfds=8192\nminprocs=200\n"
                f"[unix_http_server]\nfile={work}/sock\n"
                "[rpcinterface:supervisor]\nsupervisor.rpcinterface_factory=supervisor.rpcinterface:make_main_rpcinterface\n"
                f"[supervisorctl]\nserverurl=unix://{work}/sock\n"]
        for service in services:
            log = f"{work}/{service.name}.log" if service.argv[1] == "spew" else "AUTO"
            text.append(f"[program:{service.name}]\ncommand={shlex.join(service.argv)}\nautorestart={'true' if service.restart else 'false'}\n"
                        f"startsecs={1 if service.restart else 0}\nstartretries=100\nstdout_logfile={log}\nstdout_logfile_maxbytes=0\n"
                        f"stderr_logfile=NONE\nstopwaitsecs={int(service.grace or 10)}\n")
        write(f"{work}/supervisord.conf", "".join(text))
        return [self.find(), "-c", f"{work}/supervisord.conf"]

    def status_command(self, work):
        return [self.find("supervisorctl"), "-c", f"{work}/supervisord.conf", "status"]

    def log_files(self, work, services):
        return [f"{work}/{service.name}.log" for service in services]


class Procfile(Rival):
    captures = "merged"

    def procfile(self, work, services):
        write(f"{work}/Procfile", "".join(f"{service.name}: exec {shlex.join(service.argv)}\n" for service in services))


class Honcho(Procfile):
    name = "honcho"
    binary = "honcho"
    source = "PyPI: honcho"
    configured = "no option bears on speed"
    limit = 100

    def version(self):
        return self.ask(self.find(), "version")

    def prepare(self, work, services):
        self.procfile(work, services)
        return [self.find(), "-d", work, "start"]


class Foreman(Procfile):
    name = "foreman"
    binary = "foreman"
    source = "Debian: ruby-foreman"
    configured = "`-t` for the grace"
    graced = True
    limit = 100

    def version(self):
        return self.ask(self.find(), "--version")

    def prepare(self, work, services):
        self.procfile(work, services)
        return [self.find(), "start", "-d", work, "-f", f"{work}/Procfile", "-t", str(int(services[0].grace or 5))]


class Hivemind(Procfile):
    name = "hivemind"
    binary = "hivemind"
    source = "Go modules: github.com/DarthSim/hivemind"
    configured = "`-t` for the grace; a pty for each process is its only way"
    graced = True
    limit = 500

    def version(self):
        return self.ask(self.find(), "--version")

    def prepare(self, work, services):
        self.procfile(work, services)
        return [self.find(), "-d", work, "-t", str(int(services[0].grace or 5)), f"{work}/Procfile"]


class Goreman(Procfile):
    name = "goreman"
    binary = "goreman"
    source = "Go modules: github.com/mattn/goreman, or from its source into the folder's bin/"
    configured = "no server for its own status; no option bears on speed; its grace is fixed at 10 s"
    limit = 500

    def version(self):
        return self.ask(self.find(), "version")

    def prepare(self, work, services):
        self.procfile(work, services)
        return [self.find(), "-rpc-server=false", "-set-ports=false", "-f", f"{work}/Procfile", "start"]


class Overmind(Procfile):
    name = "overmind"
    binary = "overmind"
    also = ("tmux",)
    source = "Go modules: github.com/DarthSim/overmind/v2; needs tmux"
    configured = "`-t` for the grace; one tmux pane for each process is its only way"
    graced = True
    limit = 100

    def version(self):
        return self.ask(self.find(), "--version")

    def environment(self, work):
        return {"TMUX_TMPDIR": work, "TERM": "xterm"}

    def prepare(self, work, services):
        self.procfile(work, services)
        return [self.find(), "start", "-d", work, "-f", f"{work}/Procfile", "-s", f"{work}/sock", "-t", str(int(services[0].grace or 5)), "-N"]


class ProcessCompose(Rival):
    name = "process-compose"
    binary = "process-compose"
    source = "Go modules: github.com/f1bonacc1/process-compose"
    configured = "no TUI; probe period 1 s (the smallest it takes; its default is 10 s), restart backoff 1 s (the smallest); log files flushed by line, as otherwise their last lines are never written"
    readiness = ("tcp", "http")
    restarts = graced = True
    captures = "files"
    limit = 500
    period = "      period_seconds: 1\n      initial_delay_seconds: 0\n"

    def version(self):
        # Built from a module, it does not know its own version.
        try:
            with open(os.path.join(self.folder, "process-compose.version")) as file:
                return file.read().strip()
        except OSError:
            return self.ask(self.find(), "version", "--short")

    def environment(self, work):
        return {"HOME": work}

    def prepare(self, work, services):
        text = ['version: "0.5"\nlog_level: fatal\nprocesses:\n']
        for service in services:
            text.append(f"  {service.name}:\n    command: {shlex.join(['exec', *service.argv])!r}\n")
            if service.argv[1] == "spew":
                text.append(f"    log_location: {work}/{service.name}.log\n    log_configuration:\n      no_metadata: true\n      disable_json: true\n      flush_each_line: true\n")
            if service.deps:
                text.append("    depends_on:\n" + "".join(f"      {name}: {{condition: process_healthy}}\n" for name in service.deps))
            if service.ready and service.ready[0] == "http":
                text.append(f"    readiness_probe:\n      http_get: {{host: 127.0.0.1, scheme: http, path: /, port: {service.ready[1]}}}\n{self.period}")
            if service.ready and service.ready[0] == "tcp":
                text.append(f"    readiness_probe:\n      exec: {{command: \"exec 3<>/dev/tcp/127.0.0.1/{service.ready[1]}\"}}\n{self.period}")
            if service.restart:
                text.append("    availability: {restart: always, backoff_seconds: 1}\n")
            if service.grace is not None:
                text.append(f"    shutdown: {{signal: 15, timeout_seconds: {int(service.grace)}}}\n")
        write(f"{work}/process-compose.yaml", "".join(text))
        # /dev/tcp is bash's, and its own shell is what SHELL or this option says.
        return ["/usr/bin/env", "COMPOSE_SHELL=bash", self.find(), "up", "-t=false", "-U", "-u", f"{work}/sock", "-L", f"{work}/own.log",
                "--keep-project", "-f", f"{work}/process-compose.yaml"]

    def status_command(self, work):
        return [self.find(), "-U", "-u", f"{work}/sock", "process", "list"]

    def log_files(self, work, services):
        return [f"{work}/{service.name}.log" for service in services]


class ProcessComposeDefault(ProcessCompose):
    """What one gets who sets nothing."""
    name = "process-compose, default"
    configured = "as above with its own probe period of 10 s; only asked for one pair"
    period = ""
    captures = None
    variant = True


class Mprocs(Rival):
    name = "mprocs"
    binary = "mprocs"
    source = "npm: mprocs"
    configured = "on a pty of 200 × 50, as it is a full-screen program; stopped by its own `quit`"
    terminal = True
    limit = 500

    def version(self):
        return self.ask(self.find(), "--version")

    def prepare(self, work, services):
        import json
        procs = {service.name: {"cmd": service.argv, "autorestart": service.restart, "stop": "SIGTERM"} for service in services}
        self.port = 20000 + os.getpid() % 5000
        write(f"{work}/mprocs.json", json.dumps({"procs": procs, "server": f"127.0.0.1:{self.port}", "hide_keymap_window": True}))
        return [self.find(), "-c", f"{work}/mprocs.json"]

    def environment(self, work):
        return {"TERM": "xterm-256color"}

    def stop_command(self, work):
        return [self.find(), "--server", f"127.0.0.1:{self.port}", "--ctl", "{c: quit}"]


class Horust(Rival):
    name = "horust"
    binary = "horust"
    source = "cargo: horust"
    configured = "its 300 ms loop and 1 s health period cannot be set"
    readiness = ("http",)
    restarts = graced = True
    captures = "files"
    limit = 100

    def version(self):
        return self.ask(self.find(), "--version")

    def prepare(self, work, services):
        for service in services:
            log = f"{work}/{service.name}.log" if service.argv[1] == "spew" else "/dev/null"
            text = f"command = {shlex.join(service.argv)!r}\nstdout = {log!r}\n"
            if service.deps:
                text += "start-after = [" + ", ".join(f'"{name}.toml"' for name in service.deps) + "]\n"
            text += "[environment]\nkeep-env = true\n"
            text += f'[restart]\nstrategy = "{"always" if service.restart else "never"}"\nbackoff = "0s"\nattempts = 1000\n'
            if service.ready:
                text += f'[healthiness]\nhttp-endpoint = "http://127.0.0.1:{service.ready[1]}/"\nmax-failed = 100\n'
            if service.grace is not None:
                text += f'[termination]\nsignal = "TERM"\nwait = "{int(service.grace)}s"\n'
            write(f"{work}/services/{service.name}.toml", text)
        return [self.find(), "--uds-folder-path", f"{work}/uds", "--services-path", f"{work}/services"]

    def log_files(self, work, services):
        return [f"{work}/{service.name}.log" for service in services]


class Circus(Rival):
    name = "circus"
    binary = "circusd"
    also = ("circusctl",)
    source = "PyPI: circus"
    configured = "`check_delay = 0.1`, `warmup_delay = 0`; no stats process"
    restarts = graced = True
    limit = 100

    def version(self):
        return self.ask(self.find(), "--version")

    def prepare(self, work, services):
        text = [f"[circus]\ncheck_delay = 0.1\nendpoint = ipc://{work}/ep\npubsub_endpoint = ipc://{work}/ps\nstatsd = 0\nwarmup_delay = 0\n"]
        for service in services:
            text.append(f"[watcher:{service.name}]\ncmd = {shlex.join(service.argv)}\nnumprocesses = 1\nrespawn = {service.restart}\n"
                        f"graceful_timeout = {service.grace or 10}\nmax_retry = -1\n")
        write(f"{work}/circus.ini", "".join(text))
        return [self.find(), "--log-level", "critical", f"{work}/circus.ini"]

    def status_command(self, work):
        return [self.find("circusctl"), "--endpoint", f"ipc://{work}/ep", "status"]


class Pitchfork(Rival):
    name = "pitchfork"
    binary = "pitchfork"
    source = "cargo: pitchfork-cli"
    configured = "probe period 10 ms instead of 500, no limit on its requests; `retry = 1000`; `ready_delay = 0` where nothing is probed"
    readiness = ("tcp", "http")
    restarts = True
    limit = 100

    def version(self):
        return self.ask(self.find(), "--version")

    def environment(self, work):
        return {"HOME": work, "PITCHFORK_IPC_RATE_LIMIT": "100000", "PITCHFORK_READY_CHECK_INTERVAL": "10ms",
                "PITCHFORK_STATE_DIR": f"{work}/state", "XDG_STATE_HOME": f"{work}/state", "PITCHFORK_LOG": "error"}

    def prepare(self, work, services):
        text = []
        for service in services:
            text.append(f"[daemons.{service.name}]\nrun = {shlex.join(['exec', *service.argv])!r}\n")
            if service.deps:
                text.append("depends = [" + ", ".join(f'"{name}"' for name in service.deps) + "]\n")
            if service.ready and service.ready[0] == "tcp":
                text.append(f"ready_port = {service.ready[1]}\n")
            elif service.ready:
                text.append(f'ready_http = "http://127.0.0.1:{service.ready[1]}/"\n')
            else:
                text.append("ready_delay = 0\n")
            if service.restart:
                text.append("retry = 1000\n")
        write(f"{work}/pitchfork.toml", "".join(text))
        # Its supervisor is a process of its own; the shell stands for both, and stops both.
        write(f"{work}/start", f"#!/bin/sh\ncd {work}\n{self.find()} supervisor run >/dev/null 2>&1 &\nsupervisor=$!\n"
              "trap 'kill -TERM $supervisor; wait $supervisor; exit 0' TERM\n"
              f"{self.find()} start --all >/dev/null 2>&1 &\nwait $supervisor\n", 0o755)
        return [f"{work}/start"]

    def status_command(self, work):
        return [self.find(), "list"]


RIVALS = [Dinit, ProcessCompose, ProcessComposeDefault, Pitchfork, Hivemind, Goreman, Overmind, Supervisord, S6, Runit, Foreman, Honcho, Circus, Horust, Mprocs]
