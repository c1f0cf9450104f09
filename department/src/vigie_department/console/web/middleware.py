"""What stands before every page: security headers, and the second factor of those who can change something."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from django.http import HttpRequest, HttpResponseBase
from django.shortcuts import redirect
from django.urls import reverse

from vigie_department.console import roles

Handler = Callable[[HttpRequest], HttpResponseBase]

POLICY: Final = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self' data:",
        "font-src 'self'",
        "connect-src 'self'",
        "form-action 'self'",
        "base-uri 'none'",
        "frame-ancestors 'none'",
    )
)


def headers(get_response: Handler) -> Handler:
    """Content security policy, and no page of the fleet in a cache."""

    def middleware(request: HttpRequest) -> HttpResponseBase:
        response = get_response(request)
        response["Content-Security-Policy"] = POLICY
        response["Permissions-Policy"] = "camera=(), geolocation=(), microphone=()"
        response.headers.setdefault("Cache-Control", "no-store")
        return response

    return middleware


def verified(user: Any) -> bool:
    """Whether the second factor was given in this session (django_otp's middleware puts `is_verified` on users)."""
    return bool(user.is_verified())


def second_factor(get_response: Handler) -> Handler:
    """Whoever can change something sees nothing before the second factor; a plain reader needs none."""

    def middleware(request: HttpRequest) -> HttpResponseBase:
        user = request.user
        if user.is_authenticated and not verified(user) and roles.needs_second_factor(user):
            allowed = {reverse("second-factor"), reverse("admin:logout"), reverse("admin:jsi18n"), reverse("language")}
            if request.path not in allowed:
                return redirect("second-factor")
        return get_response(request)

    return middleware
