"""Records of tables, kept in the cache. Callers show the API key."""
import os

import redis
from fastapi import FastAPI, Header, HTTPException

app = FastAPI()
cache = redis.from_url(os.environ["REDIS_URL"], decode_responses=True)


@app.get("/health")
def health():
    return {"status": "ok" if cache.ping() and os.environ["AIRTABLE_TOKEN"] else "down"}


@app.get("/tables/{table}")
def records(table: str, x_api_key: str = Header()):
    if x_api_key != os.environ["API_KEY"]:
        raise HTTPException(401)
    reads = cache.incr(f"reads:{table}")
    return {"table": table, "records": [f"{table}-1", f"{table}-2"], "reads": reads}
