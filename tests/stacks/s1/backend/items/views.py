import json
import os

from celery.result import AsyncResult
from django.conf import settings
from django.core.cache import cache
from django.db import connection
from django.http import FileResponse, HttpResponseNotFound, JsonResponse
from django.views.decorators.csrf import csrf_exempt

from .models import Item
from .tasks import count_items


def index(request):
    return JsonResponse({"items": "/api/v1/items/", "jobs": "/api/v1/jobs/", "address": request.build_absolute_uri("/api/")})


def health(request):
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1")
    cache.set("health", "ok", 10)
    return JsonResponse({"status": cache.get("health")})


def frontend(request):
    return JsonResponse(
        {
            "apiUrl": os.environ["FRONTEND_API_URL"],
            "appName": os.environ["FRONTEND_APP_NAME"],
            "debug": os.environ["FRONTEND_ENABLE_DEBUG"] == "true",
        }
    )


@csrf_exempt
def items(request):
    if request.method == "POST":
        item = Item.objects.create(name=json.loads(request.body)["name"])
        return JsonResponse({"id": item.pk, "name": item.name}, status=201)
    return JsonResponse({"items": list(Item.objects.order_by("pk").values_list("name", flat=True))})


@csrf_exempt
def start_job(request):
    if request.method == "GET":
        return JsonResponse({"ticks": cache.get("ticks", 0)})
    return JsonResponse({"job": count_items.delay().id}, status=202)


def job(request, job):
    result = AsyncResult(job)
    return JsonResponse({"state": result.state, "result": result.result if result.successful() else None})


@csrf_exempt
def media(request, name):
    file = settings.MEDIA_ROOT / os.path.basename(name)
    if request.method == "PUT":
        settings.MEDIA_ROOT.mkdir(exist_ok=True)
        size = 0
        with open(file, "wb") as out:
            while part := request.read(1 << 20):
                size += out.write(part)
        return JsonResponse({"size": size}, status=201)
    return FileResponse(open(file, "rb")) if file.exists() else HttpResponseNotFound()
