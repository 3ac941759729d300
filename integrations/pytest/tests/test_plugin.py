"""The plugin under the real pytest and the real devrun. `DEVRUN` names the binary; `psql` is the client."""

import json
import os
import shutil
import subprocess

import pytest

from devrun_pytest.plugin import KEPT, Database, Pool

pytest_plugins = ["pytester"]
DEVRUN = os.environ.get("DEVRUN", "devrun")

PROCFILE = """
[project]
name = "shop"
[services.db]
use = "postgres"
port = "auto"
user = "app"
database = "app"
init = ["10.sql"]
"""

TESTS = """
import os, subprocess, pytest

def ask(url, sql):
    done = subprocess.run(["psql", "-X", "-A", "-t", "-q", "-c", sql, url], capture_output=True, text=True, check=True)
    return done.stdout.strip()

seen = set()

@pytest.mark.parametrize("turn", range(6))
def test_each_has_its_own(devrun_database, turn):
    assert devrun_database.name not in seen
    seen.add(devrun_database.name)
    assert os.environ["DATABASE_URL"] == devrun_database.url
    assert ask(devrun_database.url, "select count(*) from orders") == "3"
    ask(devrun_database.url, f"delete from orders where id <= {turn}")

def test_the_worker_shares_one(devrun_session_database, devrun_stack):
    ask(devrun_session_database.url, "delete from orders")
    assert devrun_stack.is_running and "DATABASE_URL" in devrun_stack.env

def test_still_shared(devrun_session_database):
    assert ask(devrun_session_database.url, "select count(*) from orders") == "0"
"""


@pytest.fixture
def project(pytester):
    if not shutil.which("psql"):
        pytest.skip("psql is not installed")
    pytester.makefile(".toml", procfile=PROCFILE)
    pytester.makefile(".sql", **{"10": "create table orders (id serial); insert into orders default values; "
                                       "insert into orders default values; insert into orders default values;"})
    pytester.makeini(f"[pytest]\ndevrun_command = {DEVRUN}\n")
    pytester.makepyfile(TESTS)
    yield pytester
    subprocess.run([DEVRUN, "down"], cwd=pytester.path, check=False)


def ps(project):
    done = subprocess.run([DEVRUN, "ps", "--json"], cwd=project.path, capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


def test_a_stack_that_was_down_is_started_and_stopped(project):
    project.runpytest_subprocess("-q").assert_outcomes(passed=8)
    assert ps(project)["supervisor_pid"] is None


def test_a_stack_that_was_up_stays_up(project):
    subprocess.run([DEVRUN, "up", "-d"], cwd=project.path, check=True)
    project.runpytest_subprocess("-q").assert_outcomes(passed=8)
    assert ps(project)["supervisor_pid"] is not None
    left = subprocess.run([DEVRUN, "db", "list", "--json"], cwd=project.path, capture_output=True, text=True, check=True)
    assert json.loads(left.stdout) == []


def test_workers_have_databases_of_their_own(project):
    pytest.importorskip("xdist")
    result = project.runpytest_subprocess("-q", "-n", "2", "--dist", "loadscope")
    result.assert_outcomes(passed=8)
    assert ps(project)["supervisor_pid"] is None


def test_a_failure_of_devrun_is_shown(project):
    project.makefile(".toml", procfile="[services.db]\nuse = \"no-such-recipe\"\n")
    result = project.runpytest_subprocess("-q")
    result.assert_outcomes(errors=8)
    result.stdout.fnmatch_lines(["*no-such-recipe*"])


class Recorder:
    """In the place of a stack: what the pool asks of it."""

    def __init__(self, size):
        self.size, self.made, self.dropped = size, 0, []

    def databases(self, service, count):
        self.made += count
        return [Database(f"d{self.made - count + index}", "", {}, self.size) for index in range(count)]

    def drop(self, databases):
        if databases:
            self.dropped.append(len(databases))


@pytest.mark.parametrize("size, first", [(KEPT, 8), (KEPT // 20, 20), (KEPT // 1000, None)])
def test_databases_are_dropped_when_they_fill_some_space(size, first):
    stack = Recorder(size)
    pool = Pool(stack, None, 4)
    for _ in range(60):
        pool.give_back(pool.take())
    during = list(stack.dropped)
    pool.close()
    # The pool looks when it makes the next ones, four tests later at most.
    assert (first is None and not during) or first <= during[0] <= first + 4
    assert sum(stack.dropped) == stack.made, "none is left"
