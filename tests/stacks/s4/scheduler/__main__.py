"""Puts work that is due into the table, once a second."""
import os

import psycopg
from apscheduler.schedulers.blocking import BlockingScheduler


def heartbeat():
    with psycopg.connect(os.environ["DATABASE_URL"]) as connection:
        connection.execute("INSERT INTO work (title) VALUES ('heartbeat')")


scheduler = BlockingScheduler(job_defaults={"misfire_grace_time": int(os.environ["SCHEDULER_MISFIRE_GRACE_TIME"])})
scheduler.add_job(heartbeat, "interval", seconds=1)
print(f"scheduler with {os.environ['SCHEDULER_MAX_WORKERS']} workers", flush=True)
scheduler.start()
