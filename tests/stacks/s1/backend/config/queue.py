import os

from celery import Celery

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")
app = Celery("config", broker=os.environ.get("REDIS_URL"), backend=os.environ.get("REDIS_URL"))
app.conf.broker_connection_retry_on_startup = True
app.autodiscover_tasks(["items"])
app.conf.beat_schedule = {"tick": {"task": "items.tasks.tick", "schedule": 1.0}}
