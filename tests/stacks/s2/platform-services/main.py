"""Users and tokens."""
import base64
import hashlib
import hmac
import os

import psycopg
import redis
from fastapi import FastAPI, HTTPException

app = FastAPI()
cache = redis.from_url(os.environ["REDIS_URL"], decode_responses=True)


def database():
    return psycopg.connect(os.environ["DATABASE_URL"])


with database() as connection:
    connection.execute("CREATE TABLE IF NOT EXISTS users (name text PRIMARY KEY)")


def signed(name):
    digest = hmac.new(os.environ["JWT_SECRET"].encode(), name.encode(), hashlib.sha256).digest()
    return f"{name}.{base64.urlsafe_b64encode(digest).decode()}"


@app.get("/health")
def health():
    with database() as connection:
        connection.execute("SELECT 1")
    return {"status": "ok" if cache.ping() else "down"}


@app.post("/users/{name}", status_code=201)
def register(name: str):
    with database() as connection:
        connection.execute("INSERT INTO users VALUES (%s) ON CONFLICT DO NOTHING", [name])
    return {"token": signed(name)}


@app.get("/tokens/{token}")
def check(token: str):
    name = token.rsplit(".", 1)[0]
    with database() as connection:
        known = connection.execute("SELECT 1 FROM users WHERE name = %s", [name]).fetchone()
    if not known or not hmac.compare_digest(signed(name), token):
        raise HTTPException(401)
    return {"name": name}
