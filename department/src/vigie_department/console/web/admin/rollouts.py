"""Pages of firmware rollouts: read-only, they are led by `vigie-department rollout`."""

from __future__ import annotations

from typing import Any

from django.contrib.admin import display, register
from django.db.models import Count, Q, QuerySet
from django.http import HttpRequest
from django.urls import reverse
from django.utils.html import format_html
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from vigie_department.console.models import Freeze, Rollout, RolloutBox
from vigie_department.console.web import words
from vigie_department.console.web.admin.common import ReadOnly, only_yes
from vigie_department.console.web.site import site

_FAILED = (RolloutBox.Outcome.FAILED, RolloutBox.Outcome.SILENT, RolloutBox.Outcome.LATE)


@register(Rollout, site=site)
class RolloutAdmin(ReadOnly):
    """Releases, how far they went, and why one stopped."""

    list_display = ("version", "stage", "changed", "wave_", "good_", "failed_", "boxes_", "reason")
    list_filter = ("stage",)
    search_fields = ("version", "reason", "created_by")
    search_help_text = gettext_lazy("Version, raison, personne")
    fields = (
        *("version", "stage", "changed", "reason", "wave_", "wave_since", "waves_", "boxes_", "good_", "failed_"),
        *("created", "created_by", "started"),
    )

    def get_queryset(self, request: HttpRequest) -> QuerySet[Rollout]:
        """With the figures of the list."""
        found: QuerySet[Rollout] = super().get_queryset(request)
        return found.annotate(
            boxes=Count("members"),
            good=Count("members", filter=Q(members__outcome=RolloutBox.Outcome.GOOD)),
            failed=Count("members", filter=Q(members__outcome__in=_FAILED)),
        )

    @display(description=gettext_lazy("vague"), ordering="wave")
    def wave_(self, obj: Rollout) -> str:
        """From 1, as people count."""
        return str(obj.wave + 1) if obj.started else "–"

    @display(description=gettext_lazy("vagues prévues"))
    def waves_(self, obj: Rollout) -> str:
        """As the plan has them."""
        return " → ".join([*map(str, obj.plan.get("waves", ())), _("le reste")])

    @display(description=gettext_lazy("installée"))
    def good_(self, obj: Any) -> Any:
        """How many, and which."""
        return self._link(obj, obj.good, RolloutBox.Outcome.GOOD)

    @display(description=gettext_lazy("échecs"))
    def failed_(self, obj: Any) -> Any:
        """How many, and which."""
        return self._link(obj, obj.failed, *_FAILED)

    @display(description=gettext_lazy("boîtiers"))
    def boxes_(self, obj: Any) -> Any:
        """How many, and which."""
        return self._link(obj, obj.boxes)

    @staticmethod
    def _link(obj: Rollout, number: int, *outcomes: str) -> Any:
        url = f"{reverse('admin:console_rolloutbox_changelist')}?rollout__id__exact={obj.pk}"
        if outcomes:
            url += "&outcome__in=" + ",".join(outcomes)
        return format_html('<a href="{}">{}</a>', url, number)


@register(RolloutBox, site=site)
class RolloutBoxAdmin(ReadOnly):
    """What became of a release on each box."""

    list_display = ("box_", "commune_", "version_", "wave_", "outcome", "code_", "check_", "forgiven_", "changed")
    list_filter = ("outcome", "rollout", "wave", "box__commune__epci")
    list_select_related = ("box__commune", "rollout")
    search_fields = ("box__id", "box__serial", "box__commune__name", "box__commune__insee", "rollout__version", "code")
    search_help_text = gettext_lazy("Boîtier, numéro de série, commune, code INSEE, version, code")
    fields = (
        *("box_", "commune_", "version_", "wave_", "outcome", "code_", "check_", "forgiven_"),
        *("step", "order", "ordered", "stands", "changed"),
    )

    def lookup_allowed(self, lookup: str, value: str, request: HttpRequest) -> bool:
        """The links of a rollout's page name several results."""
        return lookup == "outcome__in" or super().lookup_allowed(lookup, value, request)

    @display(description=gettext_lazy("boîtier"), ordering="box")
    def box_(self, obj: RolloutBox) -> Any:
        """With a way to its page."""
        return format_html('<a href="{}">{}</a>', reverse("admin:console_box_change", args=[obj.box_id]), obj.box_id)

    @display(description=gettext_lazy("commune"), ordering="box__commune__name")
    def commune_(self, obj: RolloutBox) -> str:
        """Where."""
        return obj.box.commune.name if obj.box.commune else "–"

    @display(description=gettext_lazy("version"), ordering="rollout__version")
    def version_(self, obj: RolloutBox) -> str:
        """Of the rollout."""
        return obj.rollout.version

    @display(description=gettext_lazy("vague"), ordering="wave")
    def wave_(self, obj: RolloutBox) -> int:
        """From 1, as people count."""
        return obj.wave + 1

    @display(description=gettext_lazy("raison"), ordering="code")
    def code_(self, obj: RolloutBox) -> str:
        """Why it failed."""
        return words.update_code(obj.code)

    @display(description=gettext_lazy("contrôle échoué"), ordering="health")
    def check_(self, obj: RolloutBox) -> str:
        """What the new system did not manage."""
        return words.update_check(obj.health)

    @display(description=gettext_lazy("échec admis"), ordering="forgiven")
    def forgiven_(self, obj: RolloutBox) -> str:
        """Most are not."""
        return only_yes(obj.forgiven)


@register(Freeze, site=site)
class FreezeAdmin(ReadOnly):
    """Days without updates."""

    list_display = ("first", "last", "reason", "created_by", "removed", "removed_by")
    search_fields = ("reason", "created_by")
