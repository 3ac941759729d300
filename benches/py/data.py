"""The figures of docs/data.md: `scripts/bench data`. One process at a time unless it says otherwise; the median of several rounds.

A stack of Postgres, Redis and a volume of files, 200 MB in all, on a given directory (`--on DIR`, for a file system with
copy-on-write); forks of a database of 27 MB; and tests with a database each against the same tests with a rollback.
"""

import argparse
import json
import os
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
"""


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


def tests(stack, url, count):
    """The same body: three inserts and a count, through one psql process each."""
    body = "insert into orders (note) select 't' from generate_series(1, 3); select count(*) from orders"
    begun = time.monotonic()
    for _ in range(count):
        psql(url, f"begin; {body}; rollback")
    rollback = time.monotonic() - begun
    row(f"{count} tests on one database, rolled back", f"{rollback:.1f} s", "")
    sys.path.insert(0, os.path.join(os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))), "integrations", "pytest", "src"))
    try:
        from devrun_pytest.plugin import Pool, Stack as Plugin
        from pathlib import Path
    except ImportError as error:
        row(f"{count} tests with a database each", "-", f"left out: {error}")
        return
    begun = time.monotonic()
    pool = Pool(Plugin([stack.devrun], Path(stack.folder)), None, 8)
    for _ in range(count):
        database = pool.take()
        psql(database.url, body)
        pool.give_back(database)
    each = time.monotonic() - begun
    pool.close()
    row(f"{count} tests with a database each", f"{each:.1f} s", f"pytest plugin's pool of 8; {each / rollback:.1f} times the rollback")


def main(words):
    parser = argparse.ArgumentParser(prog="scripts/bench data", description="figures of snapshots, restores and databases for tests")
    parser.add_argument("--devrun", default=os.environ.get("DEVRUN"), help="binary [cargo build --release]")
    parser.add_argument("--on", help="directory for the data, on the file system to be measured [a temporary one]")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--many", type=int, default=200)
    parser.add_argument("--tests", type=int, default=500)
    parser.add_argument("--only", default="snapshots,forks,tests")
    options = parser.parse_args(words)
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
            tests(stack, url, options.tests)
    finally:
        stack.run("down", check=False)
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main(sys.argv[1:])
