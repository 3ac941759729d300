from django.db import models


class Item(models.Model):
    name = models.CharField(max_length=200)
    made = models.DateTimeField(auto_now_add=True)

    def __str__(self):
        return self.name
