"""Login with a limit on guesses. Failures are counted in the audit: the limit outlives a restart."""

from __future__ import annotations

import ipaddress
from datetime import timedelta
from typing import Any, Final

from django.contrib.admin.forms import AdminAuthenticationForm
from django.contrib.auth.models import User
from django.contrib.auth.signals import user_logged_in, user_logged_out
from django.core.exceptions import ValidationError
from django.dispatch import receiver
from django.http import HttpRequest
from django.utils import timezone
from django.utils.translation import gettext as _

from vigie_department.console.models import AuditEntry
from vigie_department.console.services import audit
from vigie_department.console.services.audit import Actor

WINDOW: Final = timedelta(minutes=15)
SAME_NAME: Final = 5
"""failures for one name from one address: other addresses are not locked out by them"""
SAME_ADDRESS: Final = 20
FAILED: Final = "login.failed"


def actor(request: HttpRequest) -> Actor:
    """Who is at the other end of a request."""
    user = request.user
    return Actor(user.get_username() if user.is_authenticated else "", address(request))


def address(request: HttpRequest) -> str | None:
    """The client's address: nginx says it, and nobody else reaches our socket."""
    return request.META.get("REMOTE_ADDR") or None


def source(address: str | None) -> str | None:
    """Whom failures are counted for: an address, of IPv6 its /64, of which every subscriber has 2^64 addresses."""
    if address is None:
        return None
    ip = ipaddress.ip_address(address)
    if isinstance(ip, ipaddress.IPv4Address):
        return address
    return str(ip.ipv4_mapped or ipaddress.IPv6Network((ip, 64), strict=False).network_address)


class LoginForm(AdminAuthenticationForm):
    """Django's form, that refuses to try once there were too many failures."""

    def clean(self) -> dict[str, Any]:
        """The limit is checked before the password: what is refused says nothing about it."""
        assert self.request is not None  # noqa: S101 - Django gives it to every login form
        name = str(self.cleaned_data.get("username") or "")[:150]
        here = source(address(self.request))
        recent = AuditEntry.objects.filter(action=FAILED, address=here, at__gte=timezone.now() - WINDOW)
        if recent.count() >= SAME_ADDRESS or recent.filter(actor=known(name)).count() >= SAME_NAME:
            raise ValidationError(_("Trop d'essais. Attendez un quart d'heure, ou voyez un administrateur."))
        try:
            return super().clean()
        except ValidationError:
            audit.record(Actor(known(name), here), FAILED)
            raise


def known(name: str) -> str:
    """The name of somebody we know, else nothing: people type their password in the wrong field."""
    return name if User.objects.filter(username=name).exists() else "?"


@receiver(user_logged_in, dispatch_uid="vigie-login")
def _logged_in(request: HttpRequest, user: Any, **_more: Any) -> None:
    audit.record(Actor(user.get_username(), address(request)), "login")


@receiver(user_logged_out, dispatch_uid="vigie-logout")
def _logged_out(request: HttpRequest, user: Any, **_more: Any) -> None:
    if user is not None:
        audit.record(Actor(user.get_username(), address(request)), "logout")
