import os

import psycopg
import redis
from fastapi import FastAPI

app = FastAPI()
cache = redis.Redis.from_url(os.environ["REDIS_URL"])


def database():
    return psycopg.connect(os.environ["DATABASE_URL"])


@app.get("/api/health")
def health():
    cache.ping()
    return {"status": "ok"}


@app.post("/api/notes/{text}")
def add(text: str):
    """Queues a note; the worker writes it into the database."""
    cache.rpush("notes", text)
    return {"queued": text}


@app.get("/api/notes")
def notes():
    with database() as connection:
        return [text for (text,) in connection.execute("SELECT text FROM notes ORDER BY id")]
