from celery import shared_task
from django.core.cache import cache

from .models import Item


@shared_task
def count_items():
    return Item.objects.count()


@shared_task
def tick():
    cache.set("ticks", cache.get("ticks", 0) + 1, None)
