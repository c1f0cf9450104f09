"""The admin site of the department."""

from __future__ import annotations

from django.contrib.admin import AdminSite


class Site(AdminSite):
    """Django's admin with our name."""


site = Site(name="admin")
