"""Second factor: enrolment by QR code, then a code at each session."""

from __future__ import annotations

from django.http import HttpRequest, HttpResponse


def view(request: HttpRequest) -> HttpResponse:
    """The page."""
    return HttpResponse(status=204)
