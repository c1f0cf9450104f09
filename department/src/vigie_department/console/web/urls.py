"""The console is Django's admin at the root, and the page of the second factor."""

from __future__ import annotations

from django.urls import path

from vigie_department.console.web import admin, second_factor
from vigie_department.console.web.site import site

__all__ = ["admin", "urlpatterns"]

urlpatterns = [
    path("second-facteur/", second_factor.view, name="second-factor"),
    path("", site.urls),
]
