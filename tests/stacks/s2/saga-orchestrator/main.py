"""Transactions of several steps: all of them, or none."""
import os

import psycopg
import redis
from fastapi import FastAPI, HTTPException

app = FastAPI()
cache = redis.from_url(os.environ["REDIS_URL"], decode_responses=True)


def database():
    return psycopg.connect(os.environ["DATABASE_URL"])


with database() as connection:
    connection.execute("CREATE TABLE IF NOT EXISTS steps (saga text, step text)")


@app.get("/health")
def health():
    with database() as connection:
        connection.execute("SELECT 1")
    return {"status": "ok" if cache.ping() else "down"}


@app.post("/sagas/{name}", status_code=201)
def run(name: str, fail: bool = False):
    try:
        with database() as connection:
            for step in ["reserve", "charge", "send"]:
                connection.execute("INSERT INTO steps VALUES (%s, %s)", [name, step])
                if fail and step == "charge":
                    raise RuntimeError(step)
    except RuntimeError as failed:
        raise HTTPException(409, f"{failed} was undone")
    return {"steps": 3}


@app.get("/sagas/{name}")
def steps(name: str):
    with database() as connection:
        return {"steps": connection.execute("SELECT count(*) FROM steps WHERE saga = %s", [name]).fetchone()[0]}
