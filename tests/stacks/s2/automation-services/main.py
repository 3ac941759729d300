"""Files and workflows."""
import os

import httpx
import psycopg
import redis
from fastapi import FastAPI, Request

app = FastAPI()
tools = httpx.Client(base_url=os.environ["MCP_SERVER_URL"])
cache = redis.from_url(os.environ["REDIS_URL"], decode_responses=True)


def database():
    return psycopg.connect(os.environ["DATABASE_URL"])


with database() as connection:
    connection.execute("CREATE TABLE IF NOT EXISTS files (name text PRIMARY KEY, body bytea)")


@app.get("/health")
def health():
    cache.ping()
    return tools.get("/health").raise_for_status().json()


@app.put("/files/{name}", status_code=201)
async def upload(name: str, request: Request):
    body = await request.body()
    with database() as connection:
        connection.execute("INSERT INTO files VALUES (%s, %s)", [name, body])
    return {"size": len(body)}
