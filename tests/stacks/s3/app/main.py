import os
import time

import psycopg
from fastapi import FastAPI, Response
from prometheus_client import CONTENT_TYPE_LATEST, Counter, generate_latest

app = FastAPI()
created = Counter("posts_created", "posts that were created here")


def database():
    """The stack starts it beside its database: it tries until that answers."""
    for attempt in range(100):
        try:
            return psycopg.connect(
                host=os.environ["DB_HOST"],
                port=os.environ["DB_PORT"],
                user=os.environ["DB_USER"],
                dbname=os.environ["DB_NAME"],
                password=os.environ["DB_PASSWORD"],
            )
        except psycopg.OperationalError:
            if attempt == 99:
                raise
            time.sleep(0.3)


@app.get("/health")
def health():
    with database() as connection:
        connection.execute("SELECT 1")
    return {"status": "ok", "environment": os.environ["ENVIRONMENT"]}


@app.get("/api/posts")
def posts():
    with database() as connection:
        return {"posts": [row[0] for row in connection.execute("SELECT title FROM posts ORDER BY id")]}


@app.post("/api/posts", status_code=201)
def create(title: str):
    with database() as connection:
        connection.execute("INSERT INTO posts (title) VALUES (%s)", [title])
    created.inc()
    return {"title": title}


@app.get("/metrics")
def metrics():
    return Response(generate_latest(), media_type=CONTENT_TYPE_LATEST)
