"""The console is Django's admin at the root, the page of the second factor, and the choice of a language."""

from __future__ import annotations

from django.urls import path
from django.views.decorators.http import require_POST
from django.views.i18n import set_language

from vigie_department.console.web import admin, second_factor
from vigie_department.console.web.site import site

__all__ = ["admin", "urlpatterns"]

urlpatterns = [
    path("second-facteur/", second_factor.view, name="second-factor"),
    path("langue/", require_POST(set_language), name="language"),
    path("", site.urls),
]
