"""Pages of the department's own records: all read-only."""

from __future__ import annotations

from typing import Any

from django.contrib.admin import display, register
from django.utils.translation import gettext_lazy

from vigie_department.console.models import Aside, AuditEntry, Outgoing, Receipt
from vigie_department.console.web import history, words
from vigie_department.console.web.admin.common import ReadOnly, in_words, only_yes
from vigie_department.console.web.site import site


@register(AuditEntry, site=site)
class AuditEntryAdmin(ReadOnly):
    """Who did what, when, from where."""

    list_display = ("at", "actor", "address", "action_", "detail_", "box")
    list_filter = (("action", in_words(words.action)), "actor")
    search_fields = ("actor", "box", "object_id", "action")
    date_hierarchy = "at"

    def name_of(self, obj: AuditEntry) -> str:
        """What was done, by whom, when."""
        return f"{words.action(obj.action)} · {obj.actor} · {history.moment(obj.at)}"

    @display(description=gettext_lazy("quoi"), ordering="action")
    def action_(self, obj: AuditEntry) -> str:
        """In words."""
        return words.action(obj.action)

    @display(description=gettext_lazy("précisions"))
    def detail_(self, obj: AuditEntry) -> str:
        """In words; the entry's page has all of it as it was recorded."""
        return history.line(obj)


@register(Aside, site=site)
class AsideAdmin(ReadOnly):
    """Messages that could not be read."""

    list_display = ("at", "topic", "size", "reason")
    search_fields = ("topic", "reason")
    fields = ("at", "topic", "size", "reason", "text")

    @display(description=gettext_lazy("contenu"))
    def text(self, obj: Aside) -> Any:
        """As far as it can be shown."""
        return bytes(obj.payload)[:4096].decode("utf-8", "backslashreplace")


@register(Outgoing, site=site)
class OutgoingAdmin(ReadOnly):
    """What went to boxes, and what waits."""

    list_display = ("created", "topic", "retain_", "sent")
    search_fields = ("topic",)
    exclude = ("payload",)

    @display(description="retain")
    def retain_(self, obj: Outgoing) -> str:
        """Kept by the broker for boxes that come later."""
        return only_yes(obj.retain)


@register(Receipt, site=site)
class ReceiptAdmin(ReadOnly):
    """How far each box has been received."""

    list_display = ("box", "boot", "upto", "updated")
    search_fields = ("box",)
