import os

import neo4j
import psycopg
import redis
from fastapi import FastAPI, Request
from minio import Minio

app = FastAPI()
cache = redis.from_url(os.environ["REDIS_URL"], decode_responses=True)
VERSION = "one"


def database():
    return psycopg.connect(os.environ["DATABASE_URL"])


@app.get("/version")
def version():
    return {"version": VERSION, "key": os.environ["OPENAI_API_KEY"]}


@app.post("/items", status_code=201)
def create(name: str):
    with database() as connection:
        row = connection.execute("INSERT INTO items (name) VALUES (%s) RETURNING id::text", [name]).fetchone()
    cache.incr("created")
    return {"id": row[0]}


@app.get("/items")
def items():
    with database() as connection:
        names = [row[0] for row in connection.execute("SELECT name FROM items ORDER BY name")]
    return {"items": names, "created": int(cache.get("created") or 0)}


@app.get("/things")
def things():
    auth = ("neo4j", os.environ["NEO4J_PASSWORD"])
    with neo4j.GraphDatabase.driver("bolt://" + os.environ["NEO4J_ADDRESS"], auth=auth) as driver:
        records, _, _ = driver.execute_query("MATCH (t:Thing) RETURN t.name AS name ORDER BY name")
    return {"things": [record["name"] for record in records]}


def store():
    return Minio(os.environ["S3_ADDRESS"], os.environ["S3_USER"], os.environ["S3_PASSWORD"], secure=False)


@app.put("/files/{name}", status_code=201)
async def upload(name: str, request: Request):
    import io

    body = await request.body()
    store().put_object("uploads", name, io.BytesIO(body), len(body))
    return {"size": len(body)}


@app.get("/files/{name}")
def download(name: str):
    return {"size": len(store().get_object("uploads", name).read())}
