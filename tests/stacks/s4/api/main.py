import os

import psycopg
import redis
from fastapi import FastAPI

app = FastAPI()
cache = redis.from_url(os.environ["REDIS_URL"], decode_responses=True)
VERSION = "one"


def database():
    return psycopg.connect(os.environ["DATABASE_URL"])


@app.get("/health")
def health():
    with database() as connection:
        connection.execute("SELECT 1 FROM work LIMIT 1")
    cache.ping()
    return {"status": "ok", "version": VERSION, "copy": os.environ["DEVRUN_REPLICA"]}


@app.post("/work", status_code=201)
def create(title: str, count: int = 1):
    with database() as connection:
        connection.execute("INSERT INTO work (title) SELECT %s FROM generate_series(1, %s)", [title, count])
    return {"created": count}


@app.get("/work")
def work():
    with database() as connection:
        rows = connection.execute(
            "SELECT title, count(*), count(done_at), array_agg(DISTINCT done_by) FILTER (WHERE done_by IS NOT NULL)"
            " FROM work GROUP BY title ORDER BY title"
        ).fetchall()
    return {row[0]: {"all": row[1], "done": row[2], "by": row[3] or []} for row in rows}
