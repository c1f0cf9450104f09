"""Pages of what boxes report."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlencode

from django.contrib.admin import action, display, register
from django.db import transaction
from django.db.models import QuerySet
from django.forms import Form
from django.http import HttpRequest, HttpResponse
from django.urls import reverse
from django.utils import timezone
from django.utils.html import format_html
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from vigie_department.console.models import Alert, Counter, Diagnostic, ExceptionRequest
from vigie_department.console.services import audit, orders
from vigie_department.console.web import words
from vigie_department.console.web.admin.common import Consulted, ReadOnly, ask, in_words, only_yes, two_ways
from vigie_department.console.web.login import actor
from vigie_department.console.web.site import site


@register(Alert, site=site)
class AlertAdmin(Consulted):
    """Alerts, in words; marked as dealt with, or turned into an exception."""

    list_display = ("last", "commune_", "severity", "rule_", "indicator", "category_", "device_", "count", "handled")
    list_filter = (
        "severity",
        ("rule", in_words(words.rule)),
        ("handled", two_ways(gettext_lazy("suite donnée"), gettext_lazy("à traiter"), gettext_lazy("traitée"))),
        "incident",
        "box__commune__epci",
    )
    list_select_related = ("box__commune",)
    search_fields = ("box__id", "box__commune__name", "box__commune__insee", "indicator", "device")
    search_help_text = gettext_lazy("Boîtier, commune, indicateur, pseudonyme d'un appareil")
    date_hierarchy = "received"
    actions = ("mark",)
    fields = (
        *("commune_", "box", "severity", "rule_", "indicator", "category_", "direction_", "device_", "count"),
        *("first", "last", "incident_", "received", "sent", "clock", "handled", "handled_by", "exception_"),
    )

    def has_mark_permission(self, request: HttpRequest) -> bool:
        """By role."""
        return self.may(request, "change_alert")

    def name_of(self, obj: Alert) -> str:
        """What happened, and where."""
        return f"{words.rule(obj.rule)} · {self.commune_(obj)}"

    @display(description=gettext_lazy("incident"))
    def incident_(self, obj: Alert) -> str:
        """Most are none."""
        return only_yes(obj.incident)

    @display(description=gettext_lazy("commune"), ordering="box__commune__name")
    def commune_(self, obj: Alert) -> str:
        """Where."""
        return obj.box.commune.name if obj.box.commune else obj.box_id

    @display(description=gettext_lazy("règle"), ordering="rule")
    def rule_(self, obj: Alert) -> str:
        """What raised it."""
        return words.rule(obj.rule)

    @display(description=gettext_lazy("catégorie"), ordering="category")
    def category_(self, obj: Alert) -> str:
        """What the indicator is held to be."""
        return words.category(obj.category)

    @display(description=gettext_lazy("sens"), ordering="direction")
    def direction_(self, obj: Alert) -> str:
        """Who opened it."""
        return words.direction(obj.direction)

    @display(description=gettext_lazy("appareil"), ordering="device")
    def device_(self, obj: Alert) -> str:
        """What it is, and its pseudonym."""
        kind = words.device_class(obj.device_class)
        return f"{kind} {obj.device}" if obj.device else kind

    @display(description=gettext_lazy("faire une exception"))
    def exception_(self, obj: Alert) -> Any:
        """A form that is filled in already."""
        if not obj.indicator:
            return "-"
        known = {"target": obj.indicator, "box": obj.box_id, "device": obj.device, "action": "allow"}
        query = urlencode({name: value for name, value in known.items() if value})
        url = reverse("admin:console_policyexception_add")
        return format_html('<a href="{}?{}">{}</a>', url, query, _("laisser passer cet indicateur ici"))

    @action(description=gettext_lazy("Marquer comme traitées"), permissions=["mark"])
    def mark(self, request: HttpRequest, queryset: QuerySet[Alert]) -> None:
        """By whom and when is kept."""
        who = actor(request)
        with transaction.atomic():
            for alert in queryset.filter(handled=None):
                alert.handled, alert.handled_by = timezone.now(), who.name
                alert.save(update_fields=["handled", "handled_by"])
                audit.record(who, "alert.handled", alert)


@register(ExceptionRequest, site=site)
class ExceptionRequestAdmin(Consulted):
    """What mairies ask for."""

    list_display = ("received", "commune_", "indicator", "days", "words", "state", "answered_by")
    list_filter = ("state",)
    list_select_related = ("box__commune",)
    search_fields = ("box__id", "box__commune__name", "indicator")
    exclude = ("boot", "seq")
    actions = ("grant", "refuse")

    def name_of(self, obj: ExceptionRequest) -> str:
        """What is asked for, and by whom."""
        return f"{obj.indicator} · {self.commune_(obj)}"

    @display(description=gettext_lazy("commune"), ordering="box__commune__name")
    def commune_(self, obj: ExceptionRequest) -> str:
        """Who asks."""
        return obj.box.commune.name if obj.box.commune else obj.box_id

    def has_answer_permission(self, request: HttpRequest) -> bool:
        """By role."""
        return self.may(request, "change_exceptionrequest") and self.may(request, "add_policyexception")

    @action(description=gettext_lazy("Accorder"), permissions=["answer"])
    def grant(self, request: HttpRequest, queryset: QuerySet[ExceptionRequest]) -> HttpResponse | None:
        """An exception for that box, as long as it asked."""
        return self._answer(request, queryset, "grant", True, _("accordée"))

    @action(description=gettext_lazy("Refuser"), permissions=["answer"])
    def refuse(self, request: HttpRequest, queryset: QuerySet[ExceptionRequest]) -> HttpResponse | None:
        """Nothing changes on the box."""
        return self._answer(request, queryset, "refuse", False, _("refusée"))

    def _answer(
        self, request: HttpRequest, queryset: QuerySet[ExceptionRequest], name: str, grant: bool, title: str
    ) -> HttpResponse | None:
        return ask(
            self,
            request,
            queryset,
            action=name,
            title=title,
            text=_("Vérifiez que l'indicateur n'est pas dangereux avant d'accorder."),
            form=Form,
            labels={},
            apply=lambda who, row, _values: orders.answer_request(who, row, grant=grant),
        )


@register(Diagnostic, site=site)
class DiagnosticAdmin(Consulted):
    """Sent with the mairie's consent; kept for a month."""

    list_display = ("received", "box", "command", "consent")
    list_select_related = ("box__commune",)
    search_fields = ("box__id", "box__commune__name")
    exclude = ("boot", "seq")


@register(Counter, site=site)
class CounterAdmin(ReadOnly):
    """Hourly numbers."""

    list_display = ("hour", "box", "name", "value")
    list_filter = ("name",)
    list_select_related = ("box__commune",)
    search_fields = ("box__id", "box__commune__name")
    date_hierarchy = "hour"
