"""Second factor: enrolment by QR code at the first login, then a code at each login."""

from __future__ import annotations

import base64
from typing import Any, Final

import django_otp
import segno
from django import forms
from django.contrib.auth.decorators import login_required
from django.core.exceptions import ValidationError
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.template.response import TemplateResponse
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from django.views.decorators.cache import never_cache
from django_otp.plugins.otp_totp.models import TOTPDevice

from vigie_department.console.services import audit
from vigie_department.console.web.login import actor
from vigie_department.console.web.middleware import verified

DEVICE: Final = "totp"


class CodeForm(forms.Form):
    """The six digits."""

    code = forms.CharField(
        label=gettext_lazy("Code à six chiffres"),
        max_length=8,
        widget=forms.TextInput(
            attrs={"autocomplete": "one-time-code", "inputmode": "numeric", "pattern": "[0-9 ]*", "autofocus": True}
        ),
    )

    def __init__(self, device: Any, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._device = device

    def clean_code(self) -> str:
        """Checked against the device, which slows guesses down by itself."""
        allowed, _why = self._device.verify_is_allowed()
        if not allowed:
            raise ValidationError(_("Trop d'essais : attendez un peu avant le suivant."))
        code = str(self.cleaned_data["code"]).replace(" ", "")
        if not self._device.verify_token(code):
            raise ValidationError(_("Ce code n'est pas le bon, ou il n'est plus valable."))
        return code


@never_cache
@login_required
def view(request: HttpRequest) -> HttpResponse:
    """Enrolment while there is no confirmed device, else the question."""
    user: Any = request.user
    if verified(user):
        return redirect("admin:index")
    device = TOTPDevice.objects.filter(user=user, confirmed=True).first()
    enrolling = device is None
    if device is None:
        device, _made = TOTPDevice.objects.get_or_create(user=user, confirmed=False, defaults={"name": DEVICE})
    form = CodeForm(device, request.POST or None)
    if request.method == "POST" and form.is_valid():
        if enrolling:
            device.confirmed = True
            device.save()
            audit.record(actor(request), "user.enrol-factor", user)
        django_otp.login(request, device)
        audit.record(actor(request), "login.second-factor")
        return redirect("admin:index")
    if request.method == "POST":
        audit.record(actor(request), "login.second-factor-failed")
    context: dict[str, Any] = {
        "form": form,
        "enrolling": enrolling,
        "title": _("Second facteur"),
        "site_header": "Vigie",
    }
    if enrolling:
        context |= {"image": _image(device.config_url), "secret": _groups(device)}
    return TemplateResponse(request, "console/second_factor.html", context)


def _image(url: str) -> str:
    """The QR code as a data URL (the content policy lets those through for images)."""
    svg = segno.make(url, error="m").svg_inline(scale=5, border=4, dark="#000", light="#fff")
    # an inline SVG has no namespace, which an image needs
    svg = svg.replace("<svg ", '<svg xmlns="http://www.w3.org/2000/svg" ', 1)
    return "data:image/svg+xml;base64," + base64.b64encode(svg.encode()).decode()


def _groups(device: Any) -> str:
    """The secret in base 32, in groups of four, for those who type it."""
    text = base64.b32encode(device.bin_key).decode().rstrip("=")
    return " ".join(text[start : start + 4] for start in range(0, len(text), 4))
