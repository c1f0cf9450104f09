"""The console as a Django application."""

from __future__ import annotations

from django.apps import AppConfig
from django.db.models.signals import post_migrate
from django.utils.translation import gettext_lazy as _


class ConsoleConfig(AppConfig):
    """Label `console`: prefix of every table."""

    name = "vigie_department.console"
    label = "console"
    verbose_name = _("Parc de boîtiers")
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        """Roles follow the permissions, which Django itself makes after each migration."""
        from vigie_department.console import roles

        post_migrate.connect(roles.after_migrate, sender=self, dispatch_uid="vigie-roles")
