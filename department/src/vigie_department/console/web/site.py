"""The admin site of the department: who may enter, and what the first page says."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from django.contrib.admin import AdminSite
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.urls import path
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from vigie_department.console.models import Alert, BaseRelease, Box, BoxStatus, ExceptionRequest
from vigie_department.console.web.login import LoginForm


class Site(AdminSite):
    """Django's admin, with our name, our login and a summary."""

    site_header = _("Vigie, parc de boîtiers")
    site_title = "Vigie"
    site_url = None
    # the lists are wide, and the first page names every table
    enable_nav_sidebar = False
    index_title = _("Le parc aujourd'hui")
    login_form = LoginForm
    index_template = "console/index.html"

    def index(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> TemplateResponse:
        """The first page, with what waits for somebody on top."""
        return super().index(request, {**(extra_context or {}), "summary": summary(request)})

    def get_urls(self) -> list[Any]:
        """Beside the tables: what candidate bases met."""
        own = [path("observations/", self.admin_view(self.observations), name="observations")]
        return [*own, *super().get_urls()]

    def observations(self, request: HttpRequest) -> HttpResponse:
        """Counts per candidate indicator, from 3 communes up: never who met what."""
        from vigie_department.console.services import privacy

        context = {**self.each_context(request), "title": _("Bases à l'essai"), "rows": privacy.observed()}
        return TemplateResponse(request, "console/observations.html", context)


def summary(request: HttpRequest) -> list[dict[str, Any]]:
    """Numbers that link to their list; `bad` ones want somebody."""
    serving = Box.objects.filter(state__in=(Box.State.ACTIVE, Box.State.PENDING))
    online = BoxStatus.objects.filter(box__in=serving, online=True).count()
    day = timezone.now() - timedelta(days=1)
    conflicts = Box.objects.filter(state__in=(Box.State.CONFLICT, Box.State.CLONE)).count()
    serious = Alert.objects.filter(handled=None, severity__gte=Alert.Severity.MEDIUM, received__gte=day).count()
    requests = ExceptionRequest.objects.filter(state=ExceptionRequest.State.OPEN).count()
    down = BoxStatus.objects.filter(box__in=serving, online=True).exclude(filter__in=("ok", "")).count()
    base = BaseRelease.objects.filter(stage__in=("wave", "all")).order_by("-version").first()
    box, alert = "console_box_changelist", "console_alert_changelist"
    rows: list[dict[str, Any]] = [
        {"label": _("boîtiers en service"), "value": serving.count(), "url": box, "query": ""},
        {"label": _("en ligne"), "value": online, "url": box, "query": "status__online__exact=1"},
        {"label": _("filtrage dégradé"), "value": down, "url": box, "query": "", "bad": down},
        {"label": _("conflits d'identité"), "value": conflicts, "url": box, "query": "", "bad": conflicts},
        {
            "label": _("alertes graves non traitées, 24 h"),
            "value": serious,
            "url": alert,
            "query": "handled__isempty=1&severity__exact=3",
            "bad": serious,
        },
        {
            "label": _("demandes de mairies"),
            "value": requests,
            "url": "console_exceptionrequest_changelist",
            "query": "state__exact=open",
            "bad": requests,
        },
        {
            "label": _("base toxique"),
            "value": base.version if base else "-",
            "url": "console_baserelease_changelist",
            "query": "",
        },
    ]
    return rows


site = Site(name="admin")
