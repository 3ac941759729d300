"""Answers questions from what the tools give; no model is asked, as the key is a made-up one."""
import os

import httpx
import redis
from fastapi import FastAPI

app = FastAPI()
assert os.environ["GEMINI_API_KEY"]
tools = httpx.Client(base_url=os.environ["MCP_SERVER_URL"])
cache = redis.from_url(os.environ["REDIS_URL"], decode_responses=True)


@app.get("/health")
def health():
    return tools.get("/health").raise_for_status().json()


@app.get("/answers/{table}")
def answer(table: str):
    found = tools.get(f"/tools/list/{table}").raise_for_status().json()
    text = f"{table} has {len(found['records'])} records"
    cache.rpush("answers", text)
    return {"answer": text, "asked": cache.llen("answers")}
