"""The address of all: checks the token, and passes requests on."""
import os

import httpx
from fastapi import FastAPI, Header, HTTPException

app = FastAPI()
answers = httpx.Client(base_url=os.environ["LLM_URL"])
users = httpx.Client(base_url=os.environ["AUTH_URL"])
sagas = httpx.Client(base_url=os.environ["SAGA_URL"])


def passed(answer):
    if answer.is_error:
        raise HTTPException(answer.status_code, answer.text)
    return answer.json()


@app.get("/health")
def health():
    for one in [answers, users, sagas]:
        one.get("/health").raise_for_status()
    return {"status": "ok", "copy": os.environ["DEVRUN_REPLICA"]}


@app.post("/users/{name}", status_code=201)
def register(name: str):
    return passed(users.post(f"/users/{name}"))


@app.get("/answers/{table}")
def answer(table: str, authorization: str = Header()):
    name = passed(users.get(f"/tokens/{authorization.removeprefix('Bearer ')}"))["name"]
    return {"for": name, **passed(answers.get(f"/answers/{table}"))}


@app.post("/sagas/{name}", status_code=201)
def saga(name: str, fail: bool = False):
    return passed(sagas.post(f"/sagas/{name}", params={"fail": fail}))


@app.get("/sagas/{name}")
def steps(name: str):
    return passed(sagas.get(f"/sagas/{name}"))
