from django.contrib import admin
from django.urls import path

from items import views

urlpatterns = [
    path("admin/", admin.site.urls),
    path("api/", views.index),
    path("api/v1/health/", views.health),
    path("api/v1/config/frontend/", views.frontend),
    path("api/v1/items/", views.items),
    path("api/v1/jobs/", views.start_job),
    path("api/v1/jobs/<str:job>/", views.job),
    path("media/<str:name>", views.media),
]
