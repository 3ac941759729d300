"""Tools over tables."""
import os

import httpx
from fastapi import FastAPI

app = FastAPI()
tables = httpx.Client(base_url=os.environ["AIRTABLE_GATEWAY_URL"], headers={"X-Api-Key": os.environ["API_KEY"]})


@app.get("/health")
def health():
    return tables.get("/health").raise_for_status().json()


@app.get("/tools/list/{table}")
def list_records(table: str):
    return tables.get(f"/tables/{table}").raise_for_status().json()
