"""The fixtures. Everything is asked of the command `devrun`, so this file holds no protocol and needs no driver."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import tempfile
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import Dict, Iterator, List, Optional

import pytest

MARKER = "devrun_started_marker"
# Bytes of databases that are done with and still there.
KEPT = 512 << 20


class DevrunError(RuntimeError):
    """A devrun command failed; the message is what it printed."""


@dataclass(frozen=True)
class Database:
    """A database of one test, worker or session."""

    name: str
    url: str
    env: Dict[str, str] = field(repr=False)
    bytes: int = field(default=KEPT, repr=False)


class Stack:
    """The stack of the procfile above the tests."""

    def __init__(self, command: List[str], directory: Path) -> None:
        self._command = command
        self._directory = directory

    def run(self, *words: str) -> str:
        """Runs a devrun command and returns its standard output."""
        done = subprocess.run(
            [*self._command, *words], cwd=self._directory, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
        )
        if done.returncode != 0:
            raise DevrunError(f"devrun {' '.join(words)} exited with {done.returncode}:\n{done.stderr.strip()}")
        return done.stdout

    @property
    def is_running(self) -> bool:
        """Whether a supervisor runs."""
        return json.loads(self.run("ps", "--json"))["supervisor_pid"] is not None

    @property
    def env(self) -> Dict[str, str]:
        """The variables for clients of the stack."""
        return json.loads(self.run("env", "--format", "json"))

    def databases(self, service: Optional[str], count: int) -> List[Database]:
        """Fresh databases, which go with this process."""
        words = ["db", "fork", *([service] if service else []), "--pid", str(os.getpid()), "--count", str(count), "--json"]
        made = json.loads(self.run(*words))
        made = made if isinstance(made, list) else [made]
        return [Database(one["database"], one["url"], one["env"], one.get("bytes", KEPT)) for one in made]

    def drop(self, databases: List[Database]) -> None:
        """Drops databases before the process ends."""
        if databases:
            self.run("db", "drop", *[database.name for database in databases])


class Pool:
    """Makes databases ahead of the tests, and drops those that are done with, in one thread of its own.

    The first one comes alone, so that the first test need not wait for others. From then on a command makes half of `ahead` or more, and
    drops twice as many as are made ahead, or as many as fill half a gigabyte: each command is a process, on a server that waits for the
    disk the databases of one command share its checkpoint, and some file systems (ext4) make files slowly for seconds after others were
    deleted.
    """

    def __init__(self, stack: Stack, service: Optional[str], ahead: int) -> None:
        self._stack, self._service, self._ahead = stack, service, ahead
        self._ready: List[Database] = []
        self._done: List[Database] = []
        self._error: Optional[BaseException] = None
        self._waiting = 0
        self._closing = False
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._work, name="devrun-pool", daemon=True)
        self._thread.start()

    def take(self) -> Database:
        with self._changed:
            self._waiting += 1
            self._changed.notify_all()
            self._changed.wait_for(lambda: self._ready or self._error)
            self._waiting -= 1
            if self._ready:
                self._changed.notify_all()
                return self._ready.pop(0)
            error, self._error = self._error, None
            assert error is not None
            raise error

    def give_back(self, database: Database) -> None:
        with self._changed:
            self._done.append(database)

    def _missing(self) -> int:
        """How many are to be made now; none while the last failure was not raised."""
        missing = self._ahead - len(self._ready)
        return missing if self._error is None and (missing >= (self._ahead + 1) // 2 or self._waiting > len(self._ready)) else 0

    def _work(self) -> None:
        first = True
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._closing or self._missing())
                if self._closing:
                    return
                count = 1 if first else self._missing()
                first = False
                full = len(self._done) >= 2 * self._ahead and sum(database.bytes for database in self._done) >= KEPT
                done = self._done if full else []
                self._done = self._done if not done else []
            made: List[Database] = []
            error: Optional[BaseException] = None
            try:
                self._stack.drop(done)
                made = self._stack.databases(self._service, count)
            except BaseException as caught:  # noqa: BLE001 - it is raised where a database is taken
                error = caught
            with self._changed:
                self._ready += made
                self._error = error
                self._changed.notify_all()

    def close(self) -> None:
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        self._thread.join()
        self._stack.drop(self._done + self._ready)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addini("devrun_command", "the devrun command [devrun]", default="devrun")
    parser.addini("devrun_service", "the Postgres service [the only one]", default="")
    parser.addini("devrun_pool", "databases that are made ahead [4]", default="4")
    parser.addini("devrun_set_env", "set the variables of a database while its fixture is in use", type="bool", default=True)


def pytest_configure(config: pytest.Config) -> None:
    if not hasattr(config, "workerinput"):
        folder = tempfile.mkdtemp(prefix="devrun-pytest-")
        config.stash[_marker] = Path(folder) / "started"


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node) -> None:
    """xdist: workers write into the same marker, and the controller stops the stack after the last of them."""
    node.workerinput[MARKER] = str(node.config.stash[_marker])


def pytest_unconfigure(config: pytest.Config) -> None:
    if hasattr(config, "workerinput") or _marker not in config.stash:
        return
    marker = config.stash[_marker]
    if marker.exists():
        _stack(config).run("down")
        marker.unlink()
    marker.parent.rmdir()


_marker: "pytest.StashKey[Path]" = pytest.StashKey()


def _stack(config: pytest.Config) -> Stack:
    return Stack(shlex.split(str(config.getini("devrun_command"))), config.rootpath)


@pytest.fixture(scope="session")
def devrun_stack(request: pytest.FixtureRequest) -> Iterator[Stack]:
    """The running stack; it is stopped at the end of the session if it was down at its start."""
    stack = _stack(request.config)
    if not stack.is_running:
        worker = getattr(request.config, "workerinput", None)
        marker = Path(worker[MARKER]) if worker else request.config.stash[_marker]
        marker.touch()
    # A second `up` starts no second stack, and waits until the first is ready.
    stack.run("up", "-d")
    yield stack


@pytest.fixture(scope="session")
def _devrun_pool(request: pytest.FixtureRequest, devrun_stack: Stack) -> Iterator[Pool]:
    ahead = max(1, int(request.config.getini("devrun_pool")))
    pool = Pool(devrun_stack, str(request.config.getini("devrun_service")) or None, ahead)
    yield pool
    pool.close()


def _with_variables(config: pytest.Config, database: Database) -> Iterator[Database]:
    with pytest.MonkeyPatch.context() as patch:
        if config.getini("devrun_set_env"):
            for name, value in database.env.items():
                patch.setenv(name, value)
        yield database


@pytest.fixture(scope="session")
def devrun_session_database(request: pytest.FixtureRequest, devrun_stack: Stack) -> Iterator[Database]:
    """One database for the session; under xdist, for each worker."""
    database = devrun_stack.databases(str(request.config.getini("devrun_service")) or None, 1)[0]
    yield from _with_variables(request.config, database)
    devrun_stack.drop([database])


@pytest.fixture
def devrun_database(request: pytest.FixtureRequest, _devrun_pool: Pool) -> Iterator[Database]:
    """A fresh copy of the database for this test."""
    database = _devrun_pool.take()
    yield from _with_variables(request.config, database)
    _devrun_pool.give_back(database)
