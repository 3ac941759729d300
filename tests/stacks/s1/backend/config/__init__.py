from .queue import app as celery

__all__ = ["celery"]
