import os

import psycopg
import redis

cache = redis.Redis.from_url(os.environ["REDIS_URL"])
print("waiting for notes", flush=True)
while True:
    # Less than the time after which redis-py gives up on an answer.
    item = cache.blpop("notes", timeout=1)
    if item is None:
        continue
    text = item[1].decode()
    with psycopg.connect(os.environ["DATABASE_URL"]) as connection:
        connection.execute("INSERT INTO notes (text) VALUES (%s)", (text,))
    print(f"wrote {text}", flush=True)
