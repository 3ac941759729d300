"""Takes work with SKIP LOCKED under a lease, so that two workers never do the same and a killed one loses nothing."""
import os
import signal
import threading

import psycopg

LEASE = int(os.environ["WORKER_LEASE_SECONDS"])
NAME = os.environ["WORKER_ID"]
stopping = threading.Event()
for one in (signal.SIGTERM, signal.SIGINT):
    signal.signal(one, lambda *_: stopping.set())


def take(connection):
    with connection.transaction():
        row = connection.execute(
            "SELECT id, title FROM work WHERE done_at IS NULL AND due <= now() AND (leased_until IS NULL OR leased_until < now())"
            " ORDER BY id LIMIT 1 FOR UPDATE SKIP LOCKED"
        ).fetchone()
        if row:
            connection.execute("UPDATE work SET leased_until = now() + make_interval(secs => %s) WHERE id = %s", [LEASE, row[0]])
    return row


with psycopg.connect(os.environ["DATABASE_URL"], autocommit=True) as connection:
    print(f"{NAME} looks for work", flush=True)
    while not stopping.is_set():
        row = take(connection)
        if row is None:
            stopping.wait(float(os.environ["WORKER_POLL_INTERVAL"]))
            continue
        connection.execute("UPDATE work SET done_by = %s, done_at = now(), leased_until = NULL WHERE id = %s", [NAME, row[0]])
print(f"{NAME} has stopped", flush=True)
