#!/usr/bin/env python3
"""The contract as somebody sees it who has only its text: exit codes, JSON keys, where data and talk go.

    contract.py DEVRUN      in an empty folder; says each step, ends with 0 or at the first thing that is not so
"""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time

DEVRUN = sys.argv[1]
PS = ["project", "instance", "mode", "supervisor_pid", "supervisor_version", "services"]
SERVICE = ["name", "service", "replica", "kind", "tier", "state", "health", "pid", "exit_code", "signal", "restarts",
           "started_at", "ready_at", "uptime_ms", "ready_ms", "ports", "url", "binary", "version", "reason"]
EVENT = ["ts", "seq", "service", "replica", "from", "to", "health", "reason", "pid", "exit_code"]
LINE = ["ts", "service", "replica", "stream", "line"]
STATES = set("waiting fetching initialising starting running backing-off stopping stopped completed failed blocked skipped".split())
HEALTH = {"none", "starting", "healthy", "unhealthy"}
MEANING = {2: "configuration", 3: "not ready in time", 4: "task", 5: "port taken", 6: "running", 7: "binary", 124: "timeout"}
TIME = re.compile(r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z$")


def write(text, path="procfile.toml"):
    with open(path, "w", encoding="utf-8") as file:
        file.write(text)


def run(*words, code=0, env=None, stdin=None):
    print("$ devrun", *words, flush=True)
    done = subprocess.run([DEVRUN, *words], capture_output=True, text=True, timeout=60, stdin=stdin or subprocess.DEVNULL,
                          env={**os.environ, **(env or {})}, check=False)
    said = f"devrun {' '.join(words)}: exit {done.returncode}, wanted {code}\n-- stdout\n{done.stdout}\n-- stderr\n{done.stderr}"
    assert done.returncode == code, said
    assert "\x1b" not in done.stdout + done.stderr, "escape codes though nobody looks\n" + said
    if code in MEANING:
        last = [line for line in done.stderr.splitlines() if line.strip()][-1]
        assert MEANING[code] in last, f"the last line does not name the code's meaning: {last!r}\n{said}"
    return done


def same(got, wanted, what):
    assert got == wanted, f"{what}: {got!r}, wanted {wanted!r}"


def lines(text):
    return [json.loads(line) for line in text.splitlines()]


def ps():
    shown = json.loads(run("ps", "--json").stdout)
    same(list(shown), PS, "keys of ps --json")
    for one in shown["services"]:
        same(list(one), SERVICE, "keys of a service")
        assert one["state"] in STATES and one["health"] in HEALTH and one["kind"] in ("service", "task"), one
        for key in ("started_at", "ready_at"):
            assert one[key] is None or TIME.match(one[key]), one
        for key in ("uptime_ms", "ready_ms", "pid", "exit_code"):
            assert one[key] is None or isinstance(one[key], int), one
        for key in ("restarts", "tier", "replica"):
            assert isinstance(one[key], int), one
        assert isinstance(one["ports"], dict) and all(isinstance(port, int) for port in one["ports"].values()), one
    return shown


def service(name):
    return next(one for one in ps()["services"] if one["name"] == name)


def the_happy_path():
    write("""
[project]
name = "outside"
[env]
API_TOKEN = "hidden-value"
[services.web]
run = "python3 -u -m http.server $PORT --bind 127.0.0.1"
port = "auto"
ready = { http = "/" }
depends_on = ["seed"]
[services.worker]
run = ["sh", "-c", "echo out; echo err >&2; exec sleep 1000"]
replicas = 2
[services.rare]
run = "sleep 1000"
profiles = ["rare"]
[tasks.seed]
run = "true"
""")
    nothing = ps()
    same(nothing["supervisor_pid"], None, "nothing runs")
    run("ps", "--check", code=6)
    run("up", "-d")
    up = ps()
    same((up["project"], up["instance"], up["mode"]), ("outside", "", None), "the project")
    same(sorted(one["name"] for one in up["services"]), ["seed", "web", "worker.1", "worker.2"], "no inactive profile")
    os.kill(up["supervisor_pid"], 0)
    web, seed, worker = service("web"), service("seed"), service("worker.2")
    same((web["state"], web["health"], web["kind"], web["replica"]), ("running", "healthy", "service", 1), "web")
    same((seed["state"], seed["exit_code"], seed["kind"], seed["pid"]), ("completed", 0, "task", None), "seed")
    same((worker["service"], worker["replica"], worker["health"]), ("worker", 2, "none"), "worker.2")
    assert web["url"].startswith(f"http://127.0.0.1:{web['ports']['main']}"), web
    with socket.create_connection(("127.0.0.1", web["ports"]["main"]), 5):
        pass
    run("ps", "--check")
    run("up", "-d")
    same(ps()["supervisor_pid"], up["supervisor_pid"], "a second up starts no twin")
    same(service("web")["pid"], web["pid"], "nor a second copy")
    run("wait", "web", "worker")
    run("wait", f"http://127.0.0.1:{web['ports']['main']}/")

    events = lines(run("events", "--json").stdout)
    for event in events:
        same(list(event), EVENT, "keys of an event")
        assert TIME.match(event["ts"]) and event["to"] in STATES and event["health"] in HEALTH, event
    seqs = [event["seq"] for event in events]
    same(seqs, sorted(seqs), "events stand in their order")
    logs = lines(run("logs", "--json", "worker").stdout)
    for line in logs:
        same(list(line), LINE, "keys of a line")
        assert TIME.match(line["ts"]) and line["stream"] in ("stdout", "stderr", "devrun"), line
    same({(one["stream"], one["line"]) for one in logs if one["stream"] != "devrun"}, {("stdout", "out"), ("stderr", "err")}, "lines")
    same({one["replica"] for one in logs}, {1, 2}, "replicas count from 1")

    for words in (["config"], ["config", "--json"], ["inspect", "web"], ["inspect", "web", "--json"]):
        assert "hidden-value" not in run(*words).stdout, f"{words} tells a secret"
    assert "hidden-value" in run("config", "--reveal").stdout
    same(json.loads(run("env", "web", "--format", "json").stdout)["API_TOKEN"], "hidden-value", "env is never masked")
    for form in ("dotenv", "shell", "fish", "github"):
        assert "hidden-value" in run("env", "web", "--format", form).stdout, form
    for words in (["urls"], ["ports"], ["volumes"], ["df"], ["ls"], ["doctor"], ["catalog"], ["lock"], ["top", "--once"], ["task", "--status"],
                  ["secret", "list"], ["inspect", "web"], ["config"]):
        if words == ["doctor"]:
            done = subprocess.run([DEVRUN, "doctor", "--json"], capture_output=True, text=True, check=False)
            json.loads(done.stdout)
        else:
            json.loads(run(*words, "--json").stdout)
    json.loads(run("graph", "--format", "json").stdout)
    json.loads(run("schema").stdout)

    same(run("exec", "worker", "--", "sh", "-c", "exit 42", code=42).stdout, "", "the child's own code")
    run("exec", "worker", "--", "sh", "-c", "kill -TERM $$", code=143)
    run("exec", "worker", "--", "no-such-program", code=127)
    run("exec", "worker", "--", "/etc/passwd", code=126)
    same(run("exec", "web", "--", "printf", r"a\0b").stdout, "a\0b", "byte-clean when piped")
    run("run", "--", "true", code=6)

    before = service("worker.1")["pid"]
    run("kill", "-s", "TERM", "worker.1")
    deadline = time.monotonic() + 30
    while service("worker.1")["state"] != "failed":
        assert time.monotonic() < deadline, service("worker.1")
        time.sleep(0.05)
    same((service("worker.1")["signal"], service("worker.1")["pid"]), ("SIGTERM", None), "how it ended")
    run("ps", "--check", code=1)
    run("ps")
    run("restart", "worker.1")
    assert service("worker.1")["pid"] not in (None, before)
    run("stop", "worker")
    same(service("worker.1")["state"], "stopped", "stopped by hand")
    run("up", "-d", "web")
    same(service("worker.1")["state"], "stopped", "a manual stop is remembered")
    run("start", "worker")
    run("down")
    run("down")
    after = ps()
    same(after["supervisor_pid"], None, "nothing runs")
    same({one["state"] for one in after["services"]}, {"stopped", "completed"}, "the last state")
    assert lines(run("logs", "--json", "worker").stdout), "logs work after the stack is down"
    for verb in (["stop"], ["restart"], ["kill", "-s", "TERM", "web"]):
        run(*verb, code=6)


def the_codes_of_failures():
    base = '[services.ok]\nrun = "sleep 1000"\n'

    def fails(text, code, *words):
        write(base + text)
        run(*(words or ("up", "-d")), code=code)
        run("down")

    fails('[services.a]\nrun = "sh -c \'exit 3\'"\nready = { uptime = "5s" }\n', 1)
    fails('[services.a]\nrun = "x"\nrestrat = "no"\n', 2)
    fails("", 2, "up", "-d", "nobody")
    fails("", 2, "up", "--no-such-option")
    fails("", 2, "nonsense")
    fails('[services.a]\nrun = "sleep 1000"\nready = { file = "never", within = "300ms" }\n', 3)
    fails('[tasks.a]\nrun = "false"\n', 4)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        fails(f'[services.a]\nrun = "sleep 1000"\nport = {taken.getsockname()[1]}\n', 5)
    fails('[services.a]\nrun = "no-such-program-anywhere"\n', 7)
    fails('[services.a]\nrun = "sleep 1000"\nready = { file = "never" }\n', 124, "up", "-d", "--timeout", "300ms")
    fails("", 0, "run", "--", "true")
    fails("", 77, "run", "--", "sh", "-c", "exit 77")
    fails("", 127, "run", "--", "no-such-program")
    fails('[services.a]\nrun = "sh -c \'exit 9\'"\n', 9, "up", "--exit-code-from", "a")
    fails('[services.a]\nrun = "sh -c \'exit 9\'"\n', 1, "up", "--abort-on-container-exit")


def signals_end_an_attached_up():
    write('[services.a]\nrun = "sleep 1000"\n')
    for number, code in ((signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)):
        with subprocess.Popen([DEVRUN, "up"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True) as up:
            deadline = time.monotonic() + 30
            while ps()["supervisor_pid"] is None or service("a")["state"] != "running":
                assert time.monotonic() < deadline
                time.sleep(0.05)
            same(ps()["supervisor_pid"], up.pid, "an attached up is the supervisor")
            up.send_signal(number)
            up.communicate(timeout=30)
            same(up.returncode, code, f"the code of {number!r}")
        same(ps()["supervisor_pid"], None, "nothing runs")


the_happy_path()
the_codes_of_failures()
signals_end_an_attached_up()
print("the contract holds")
