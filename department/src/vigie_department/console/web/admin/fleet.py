"""Pages of boxes and certificates."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

from django import forms
from django.contrib import messages
from django.contrib.admin import action, display, register
from django.db import transaction
from django.db.models import OuterRef, QuerySet, Subquery
from django.http import HttpRequest, HttpResponse
from django.urls import reverse
from django.utils import timezone
from django.utils.html import format_html
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from vigie.contract.words import Service
from vigie_department.console.models import (
    Alert,
    AuditEntry,
    Box,
    BoxStatus,
    Certificate,
    DesiredState,
    Isolation,
    PolicyException,
)
from vigie_department.console.services import desired, fleet, orders
from vigie_department.console.web import history, words
from vigie_department.console.web.admin.common import Consulted, ReadOnly, ReasonForm, ask, in_words, listing
from vigie_department.console.web.login import actor
from vigie_department.console.web.site import site
from vigie_department.errors import DepartmentError

EDITABLE = ("commune", "location", "spare", "lot", "warranty_until", "inbound", "notes")
HISTORY = 30


class IsolateForm(ReasonForm):
    """Level and duration."""

    level = forms.TypedChoiceField(
        coerce=int,
        choices=[
            (1, gettext_lazy("1 : vigilance")),
            (2, gettext_lazy("2 : services essentiels seulement")),
            (3, gettext_lazy("3 : coupé (téléphone et alarmes restent)")),
        ],
    )
    hours = forms.FloatField(min_value=0.1, max_value=4, initial=4)


class RestartForm(ReasonForm):
    """Which service."""

    service = forms.ChoiceField(choices=[(name.value, name.value) for name in Service])


@register(Box, site=site)
class BoxAdmin(Consulted):
    """Boxes: what they say, what is ordered, their history; and everything that may be done to them."""

    list_display = ("id", "commune", "state", "online_", "filter_", "base_", "orders_", "isolation_", "seen_")
    list_filter = (
        *("state", "status__online", ("status__filter", in_words(words.health)), "spare", "lot"),
        *("status__base_version", "commune__epci"),
    )
    list_select_related = ("commune", "status")
    search_fields = ("id", "serial", "claim_id", "commune__name", "commune__insee", "location")
    search_help_text = gettext_lazy("Identifiant, numéro de série, code d'étiquette, commune, code INSEE")
    autocomplete_fields = ("commune",)
    actions = ("release", "revoke", "isolate", "lift", "self_test", "restart")
    readonly_fields = (
        *("id", "serial", "claim_id", "model", "state", "registered", "enrolled", "replaced_by"),
        *("status_", "document_", "exceptions_", "certificates_", "alerts_", "history_"),
    )
    fieldsets = (
        (None, {"fields": ("id", "state", "commune", "location", "spare", "inbound", "notes")}),
        (
            gettext_lazy("Matériel"),
            {
                "fields": (
                    "serial",
                    "claim_id",
                    "model",
                    "lot",
                    "warranty_until",
                    "registered",
                    "enrolled",
                    "replaced_by",
                )
            },
        ),
        (gettext_lazy("Ce que dit le boîtier"), {"fields": ("status_", "alerts_")}),
        (gettext_lazy("Ce qui lui est ordonné"), {"fields": ("document_", "exceptions_")}),
        (gettext_lazy("Certificats et histoire"), {"fields": ("certificates_", "history_")}),
    )

    def get_queryset(self, request: HttpRequest) -> QuerySet[Box]:
        """With what was sent last, and the isolation that is wanted: what the box says may be older."""
        last = DesiredState.objects.filter(box=OuterRef("pk")).order_by("-version")
        wanted = Isolation.objects.filter(box=OuterRef("pk"), lifted=None, until__gt=timezone.now()).order_by("-id")
        found: QuerySet[Box] = super().get_queryset(request)
        return found.annotate(
            sent=Subquery(last.values("version")[:1]),
            answer=Subquery(last.values("result")[:1]),
            wanted=Subquery(wanted.values("level")[:1]),
        )

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """By role."""
        return self.may(request, "change_box")

    def has_release_permission(self, request: HttpRequest) -> bool:
        """By role."""
        return self.may(request, "release_box")

    def has_revoke_permission(self, request: HttpRequest) -> bool:
        """By role."""
        return self.may(request, "revoke_box")

    def has_isolate_permission(self, request: HttpRequest) -> bool:
        """By role."""
        return self.may(request, "isolate_box")

    def has_command_permission(self, request: HttpRequest) -> bool:
        """By role."""
        return self.may(request, "command_box")

    def save_model(self, request: HttpRequest, obj: Box, form: Any, change: bool) -> None:
        """Edits go through the services; what they refuse is said and nothing is saved."""
        box = Box.objects.get(pk=obj.pk)
        changes = {name: form.cleaned_data[name] for name in form.changed_data if name in EDITABLE}
        try:
            with transaction.atomic():
                if "commune" in changes:
                    fleet.bind(actor(request), box, changes.pop("commune"))
                if changes:
                    fleet.edit(actor(request), box, changes)
        except DepartmentError as error:
            self.message_user(request, str(error), messages.ERROR)

    # -- columns

    @display(description=gettext_lazy("en ligne"), boolean=True, ordering="status__online")
    def online_(self, obj: Box) -> bool | None:
        """Unknown when it never spoke."""
        status = _status(obj)
        return status.online if status else None

    @display(description=gettext_lazy("filtrage"), ordering="status__filter")
    def filter_(self, obj: Box) -> str:
        """How its filter is."""
        status = _status(obj)
        return words.health(status.filter) if status else "-"

    @display(description=gettext_lazy("base"), ordering="status__base_version")
    def base_(self, obj: Box) -> Any:
        """Version in force."""
        status = _status(obj)
        return status.base_version if status and status.base_version else "-"

    @display(description=gettext_lazy("ordres"))
    def orders_(self, obj: Any) -> str:
        """Whether the last ones are on the box."""
        status = _status(obj)
        return words.orders(obj.sent, status.desired_version if status else None, obj.answer or "")

    @display(description=gettext_lazy("isolement"), ordering="status__isolation")
    def isolation_(self, obj: Any) -> str:
        """Level in force, and the one on its way."""
        status = _status(obj)
        waits = words.waits(obj.sent, status.desired_version if status else None, obj.answer or "")
        return words.isolated(status.isolation if status else 0, (obj.wanted or 0) if waits else None)

    @display(description=gettext_lazy("vu le"), ordering="status__seen")
    def seen_(self, obj: Box) -> Any:
        """Last sign of life."""
        status = _status(obj)
        return status.seen if status else None

    # -- parts of the page

    @display(description=gettext_lazy("état"))
    def status_(self, obj: Box) -> Any:
        """What it last said."""
        status = _status(obj)
        if status is None:
            return _("n'a encore rien dit")
        names: tuple[str, ...] = (
            "online",
            "seen",
            "version",
            "filter",
            "base_version",
            "base_entries",
            "candidate",
            "inbound",
        )
        more: tuple[str, ...] = (
            "isolation",
            "quarantined",
            "exceptions",
            "uptime_s",
            "disk_free_mb",
            "mem_free_mb",
            "load",
            "losses",
        )
        if status.firmware_order:
            more += ("firmware_phase", "firmware_version", "firmware_code", "firmware_check")
        rows = [(_label(name), _said(name, getattr(status, name))) for name in names + more]
        place = (names + more).index("isolation")
        rows[place] = (_label("isolation"), self.isolation_(obj))
        return listing(rows)

    @display(description=gettext_lazy("document"))
    def document_(self, obj: Box) -> Any:
        """What was signed last, and what the box made of it."""
        document = obj.documents.order_by("-version").first()
        if document is None:
            return "-"
        status = _status(obj)
        has = status.desired_version if status else None
        return listing(
            [
                (_("ordres"), words.orders(document.version, has, document.result)),
                (_("version envoyée"), document.version),
                (_("version sur le boîtier"), _cell(has)),
                (_("état sur le boîtier"), words.result(status.desired_status if status else "")),
                (_("réponse"), _answer(document)),
                (_("expire le"), _cell(document.expires)),
            ]
        )

    @display(description=gettext_lazy("exceptions"))
    def exceptions_(self, obj: Box) -> Any:
        """Those of the box itself."""
        found = PolicyException.objects.filter(box=obj, removed=None).order_by("until")[:20]
        return listing([(row.get_action_display(), row.target, _cell(row.until), row.note) for row in found])

    @display(description=gettext_lazy("certificats"))
    def certificates_(self, obj: Box) -> Any:
        """The last ones."""
        found = obj.certificates.all()[:5]
        return listing([(row.number[:16], row.get_state_display(), _cell(row.not_after)) for row in found])

    @display(description=gettext_lazy("dernières alertes"))
    def alerts_(self, obj: Box) -> Any:
        """The last ones, each with its page."""
        found = Alert.objects.filter(box=obj).order_by("-id")[:10]
        return listing(
            [
                (
                    format_html(
                        '<a href="{}">{}</a>', reverse("admin:console_alert_change", args=[row.pk]), _cell(row.last)
                    ),
                    row.get_severity_display(),
                    words.rule(row.rule),
                    row.indicator or "",
                )
                for row in found
            ]
        )

    @display(description=gettext_lazy("histoire"))
    def history_(self, obj: Box) -> Any:
        """The audit of this box."""
        found = AuditEntry.objects.filter(box=obj.pk).order_by("-id")[:HISTORY]
        return listing([(_cell(row.at), row.actor, words.action(row.action), history.line(row)) for row in found])

    # -- actions

    @action(description=gettext_lazy("Débloquer (conflit, clone)"), permissions=["release"])
    def release(self, request: HttpRequest, queryset: QuerySet[Box]) -> HttpResponse | None:
        """After checking that it is the real box."""
        return ask(
            self,
            request,
            queryset,
            action="release",
            title=_("débloqué : il peut s'inscrire une fois"),
            text=_("Vérifiez d'abord avec la mairie que c'est bien son boîtier : un voleur se présenterait ainsi."),
            form=ReasonForm,
            labels={"why": _("Comment l'avez-vous vérifié ?")},
            apply=lambda who, box, values: fleet.release(who, box, values["why"]),
        )

    @action(description=gettext_lazy("Révoquer (volé, perdu)"), permissions=["revoke"])
    def revoke(self, request: HttpRequest, queryset: QuerySet[Box]) -> HttpResponse | None:
        """For ever."""
        return ask(
            self,
            request,
            queryset,
            action="revoke",
            title=_("révoqué"),
            text=_("Le boîtier continue de filtrer, mais ne reçoit plus ni base ni ordre et ne s'inscrira plus."),
            form=ReasonForm,
            labels={"why": _("Pourquoi ?")},
            apply=lambda who, box, values: fleet.revoke(who, box, values["why"]),
            most=10,
        )

    @action(description=gettext_lazy("Isoler"), permissions=["isolate"])
    def isolate(self, request: HttpRequest, queryset: QuerySet[Box]) -> HttpResponse | None:
        """At most 5 at once from here."""
        return ask(
            self,
            request,
            queryset,
            action="isolate",
            title=_("isolement ordonné ; il vaut dès que le boîtier l'a reçu"),
            text=_(
                "5 boîtiers au plus ; au-delà, deux détenteurs de clés signent (vigie-department isolate --export)."
            ),
            form=IsolateForm,
            labels={"why": _("Pourquoi ?"), "level": _("Niveau"), "hours": _("Durée en heures (4 au plus)")},
            apply=lambda who, box, values: orders.isolate(
                who, box, values["level"], timedelta(hours=values["hours"]), values["why"]
            ),
            most=desired.MASS_FREE,
        )

    @action(description=gettext_lazy("Lever l'isolement"), permissions=["isolate"])
    def lift(self, request: HttpRequest, queryset: QuerySet[Box]) -> HttpResponse | None:
        """Traffic comes back."""
        return ask(
            self,
            request,
            queryset,
            action="lift",
            title=_("levée de l'isolement envoyée"),
            text=_("Le trafic repasse dès que le boîtier a reçu l'ordre."),
            form=ReasonForm,
            labels={"why": _("Pourquoi ?")},
            apply=lambda who, box, values: orders.isolate(who, box, 0, timedelta(0), values["why"]),
        )

    @action(description=gettext_lazy("Demander un autotest"), permissions=["command"])
    def self_test(self, request: HttpRequest, queryset: QuerySet[Box]) -> HttpResponse | None:
        """The answer comes in the commands."""
        return ask(
            self,
            request,
            queryset,
            action="self_test",
            title=_("autotest demandé"),
            text=_("Le boîtier vérifie son filtrage et répond dans les commandes."),
            form=ReasonForm,
            labels={"why": _("Pourquoi ?")},
            apply=lambda who, box, _values: orders.command(who, box, "self-test"),
        )

    @action(description=gettext_lazy("Redémarrer un service"), permissions=["command"])
    def restart(self, request: HttpRequest, queryset: QuerySet[Box]) -> HttpResponse | None:
        """Traffic goes on meanwhile."""
        return ask(
            self,
            request,
            queryset,
            action="restart",
            title=_("redémarrage demandé"),
            text=_("Le filtrage continue pendant le redémarrage."),
            form=RestartForm,
            labels={"why": _("Pourquoi ?"), "service": _("Service")},
            apply=lambda who, box, values: orders.command(who, box, "restart", service=values["service"]),
        )


def _status(obj: Box) -> BoxStatus | None:
    found: BoxStatus | None = getattr(obj, "status", None)
    return found


def _label(name: str) -> str:
    if name == "uptime_s":
        return _("en marche depuis")
    field: Any = BoxStatus._meta.get_field(name)
    return str(field.verbose_name)


def _said(name: str, value: Any) -> Any:
    """A code in words, seconds in days and hours."""
    say: dict[str, Callable[[Any], str]] = {
        "filter": words.health,
        "inbound": words.inbound,
        "isolation": words.isolation,
        "firmware_phase": words.update_phase,
        "firmware_code": words.update_code,
        "firmware_check": words.update_check,
    }
    if name == "uptime_s" and value is not None:
        return _("{days} j {hours} h").format(days=value // 86400, hours=value % 86400 // 3600)
    return say[name](value) if name in say else _cell(value)


def _answer(document: DesiredState) -> str:
    """What the box made of a document: in words, then the codes."""
    if not document.result:
        return "-"
    return " ".join((words.result(document.result), document.code, ", ".join(document.detail))).strip()


def _cell(value: Any) -> Any:
    if value is None or value == "":
        return "-"
    if isinstance(value, bool):
        return _("oui") if value else _("non")
    if hasattr(value, "astimezone"):
        return history.moment(value)
    return value


@register(Certificate, site=site)
class CertificateAdmin(ReadOnly):
    """Who had which certificate when."""

    list_display = ("number", "box", "state", "issued", "not_after", "reason")
    list_filter = ("state",)
    search_fields = ("number", "box__id", "box__serial")
    list_select_related = ("box__commune",)
