"""The admin site of the department: who may enter, and what the first page says."""

from __future__ import annotations

from datetime import timedelta
from typing import Any, Final
from urllib.parse import urlencode

from django.contrib.admin import AdminSite
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.urls import path
from django.utils import timezone
from django.utils.translation import gettext_lazy
from django.utils.translation import gettext_lazy as _

from vigie.contract.words import FilterHealth
from vigie_department.console.models import Alert, BaseRelease, Box, BoxStatus, ExceptionRequest, Rollout
from vigie_department.console.web.login import LoginForm

UNWELL: Final = (FilterHealth.DEGRADED.value, FilterHealth.DOWN.value)
CONFLICTS: Final = (Box.State.CONFLICT.value, Box.State.CLONE.value)


GROUPS: Final = (
    (gettext_lazy("Au quotidien"), ("Alert", "Box", "Commune", "PolicyException", "ExceptionRequest")),
    (
        gettext_lazy("Décisions et suivi"),
        (
            *("Isolation", "Quarantine", "NeverBlock", "EssentialService", "Command", "Diagnostic"),
            *("BaseRelease", "Rollout", "RolloutBox", "Freeze", "AuditEntry", "User"),
        ),
    ),
)
"""the first page; tables that are in neither come last"""


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

    def get_app_list(self, request: HttpRequest, app_label: str | None = None) -> list[Any]:
        """The tables by use rather than by package: those of every day first, an engineer's last."""
        found = super().get_app_list(request, app_label)
        if app_label:
            return found
        models = {model["object_name"]: model for app in found for model in app["models"]}
        named = {name for _title, names in GROUPS for name in names}
        rest = tuple(name for name in models if name not in named)
        groups = []
        for number, (title, names) in enumerate((*GROUPS, (gettext_lazy("Technique"), rest))):
            rows = [models[name] for name in names if name in models]
            if rows:
                groups.append({"name": title, "app_label": f"group{number}", "models": rows, "app_url": ""})
        return groups

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
    """Numbers that link to the rows they count; `bad` ones want somebody."""
    states = (Box.State.ACTIVE.value, Box.State.PENDING.value)
    serving = Box.objects.filter(state__in=states)
    online = BoxStatus.objects.filter(box__in=serving, online=True)
    down = online.filter(filter__in=UNWELL).count()
    conflicts = Box.objects.filter(state__in=CONFLICTS).count()
    day = timezone.now() - timedelta(days=1)
    serious = Alert.objects.filter(handled=None, severity__gte=Alert.Severity.MEDIUM, received__gte=day).count()
    requests = ExceptionRequest.objects.filter(state=ExceptionRequest.State.OPEN).count()
    base = BaseRelease.objects.filter(stage__in=("wave", "all")).order_by("-version").first()
    rollout = Rollout.objects.filter(stage__in=("running", "paused", "stopped")).first()
    stopped = rollout is not None and rollout.stage == Rollout.Stage.STOPPED
    box = "console_box_changelist"
    counted = {"state__in": ",".join(states)}
    connected = {**counted, "status__online__exact": "1"}
    rows: list[tuple[Any, Any, bool, str, dict[str, str]]] = [
        (_("boîtiers en service"), serving.count(), False, box, counted),
        (_("en ligne"), online.count(), False, box, connected),
        (_("filtrage dégradé"), down, down > 0, box, {**connected, "status__filter__in": ",".join(UNWELL)}),
        (_("conflits d'identité"), conflicts, conflicts > 0, box, {"state__in": ",".join(CONFLICTS)}),
        (
            _("alertes graves non traitées, 24 h"),
            serious,
            serious > 0,
            "console_alert_changelist",
            {
                "handled__isempty": "1",
                "severity__gte": str(Alert.Severity.MEDIUM.value),
                "received__gte": day.strftime("%Y-%m-%dT%H:%M:%SZ"),
            },
        ),
        (
            _("demandes de mairies"),
            requests,
            requests > 0,
            "console_exceptionrequest_changelist",
            {"state__exact": str(ExceptionRequest.State.OPEN.value)},
        ),
        (_("base toxique"), base.version if base else "-", False, "console_baserelease_changelist", {}),
        (_("déploiement du logiciel"), str(rollout) if rollout else "-", stopped, "console_rollout_changelist", {}),
    ]
    return [
        {"label": label, "value": value, "bad": bad, "url": url, "query": urlencode(query)}
        for label, value, bad, url, query in rows
    ]


site = Site(name="admin")
