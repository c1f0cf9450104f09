"""Pages of exceptions, protections, isolation, documents, commands, bases."""

from __future__ import annotations

from datetime import timedelta
from typing import Any, Final, cast

from django import forms
from django.contrib import messages
from django.contrib.admin import action, display, register
from django.core.exceptions import ValidationError
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from vigie_department.console.models import (
    BaseRelease,
    Command,
    DesiredState,
    EssentialService,
    Isolation,
    NeverBlock,
    PolicyException,
    Quarantine,
)
from vigie_department.console.services import orders
from vigie_department.console.web import words
from vigie_department.console.web.admin.common import ModelForm, ReadOnly, ask, in_force, in_words, only_yes
from vigie_department.console.web.login import actor
from vigie_department.console.web.site import site
from vigie_department.errors import DepartmentError

SCOPE = ("box", "commune")
EVERYBODY: Final = {
    "box": gettext_lazy("Ce boîtier seulement. Vide, avec la commune vide : tout le parc."),
    "commune": gettext_lazy("Le boîtier de la commune, même remplacé. Vide, avec le boîtier vide : tout le parc."),
}
DAYS: Final = 30
"""what the form proposes; the end of that day"""


class OrderForm(ModelForm):
    """A form whose row is made by a service: `make` calls it, and what it refuses is the form's own error."""

    request: HttpRequest

    def clean(self) -> dict[str, Any]:
        """Makes the row: a service checks and does in one step."""
        cleaned = super().clean() or {}
        if self.errors:
            return cleaned
        if cleaned.get("box") and cleaned.get("commune"):
            raise ValidationError(_("Un boîtier ou une commune, pas les deux ; ni l'un ni l'autre : tout le parc."))
        scope = orders.Scope(cleaned.get("box"), cleaned.get("commune"))
        try:
            self.made = self.make(scope, cleaned)
        except DepartmentError as error:
            raise ValidationError(str(error)) from error
        return cleaned

    def make(self, scope: orders.Scope, values: dict[str, Any]) -> Any:
        """The service."""
        raise NotImplementedError

    def _post_clean(self) -> None:
        """The row is made already, and checked by the service."""

    def save(self, commit: bool = True) -> Any:
        """The row that was made."""
        return self.made

    def save_m2m(self) -> None:
        """Nothing of the kind."""


class ExceptionForm(OrderForm):
    """An exception."""

    class Meta:
        model = PolicyException
        fields = (*SCOPE, "action", "target", "device", "proto", "port", "until", "note")
        help_texts = EVERYBODY

    def make(self, scope: orders.Scope, values: dict[str, Any]) -> Any:
        """Signed for every box concerned."""
        return orders.add_exception(
            actor(self.request),
            scope,
            values["action"],
            values["target"],
            values["until"],
            values["note"],
            device=values["device"],
            proto=values["proto"],
            port=values["port"],
        )


class NeverBlockForm(OrderForm):
    """A protection."""

    class Meta:
        model = NeverBlock
        fields = (*SCOPE, "target", "note")
        help_texts = EVERYBODY

    def make(self, scope: orders.Scope, values: dict[str, Any]) -> Any:
        """Signed for every box concerned."""
        return orders.protect(actor(self.request), scope, values["target"], values["note"])


class EssentialForm(OrderForm):
    """An essential service."""

    class Meta:
        model = EssentialService
        fields = (*SCOPE, "name", "rank", "note")
        help_texts = EVERYBODY

    def make(self, scope: orders.Scope, values: dict[str, Any]) -> Any:
        """Signed for every box concerned."""
        return orders.essential(actor(self.request), scope, values["name"], values["rank"], values["note"])


class Ordered(ReadOnly):
    """Added by a form of ours, shown afterwards."""

    autocomplete_fields = SCOPE
    add_permission = ""
    made_by: type[OrderForm]

    def has_add_permission(self, request: HttpRequest, *_: Any) -> bool:
        """By role."""
        return self.may(request, self.add_permission)

    def get_form(self, request: HttpRequest, obj: Any = None, change: bool = False, **kwargs: Any) -> Any:
        """The form knows who asks."""
        if change:
            return super().get_form(request, obj, change, **kwargs)
        made = super().get_form(request, obj, change, form=self.made_by, **kwargs)
        return type(made.__name__, (made,), {"request": request})

    def save_model(self, request: HttpRequest, obj: Any, form: Any, change: bool) -> None:
        """Done by the form."""


@register(PolicyException, site=site)
class PolicyExceptionAdmin(Ordered):
    """Exceptions."""

    made_by = ExceptionForm
    add_permission = "add_policyexception"
    list_display = ("target", "action", "scope_", "until", "note", "created_by", "removed")
    list_filter = (
        "action",
        in_force(
            "removed",
            (
                ("now", gettext_lazy("en vigueur")),
                ("soon", gettext_lazy("expire dans les 7 jours")),
                ("over", gettext_lazy("finie")),
            ),
        ),
    )
    list_select_related = ("box__commune", "commune")
    search_fields = ("target", "note", "box__id", "commune__name")
    actions = ("remove",)

    def get_changeform_initial_data(self, request: HttpRequest) -> dict[str, Any]:
        """An end, which people would otherwise put far away; what an alert's page filled in goes before."""
        end = timezone.localtime() + timedelta(days=DAYS)
        end = end.replace(hour=23, minute=59, second=0, microsecond=0)
        return {"until": end, **super().get_changeform_initial_data(request)}

    @display(description=gettext_lazy("pour"))
    def scope_(self, obj: PolicyException) -> str:
        """Whom it is for."""
        return scope(obj)

    def has_remove_permission(self, request: HttpRequest) -> bool:
        """By role."""
        return self.may(request, "add_policyexception")

    @action(description=gettext_lazy("Retirer"), permissions=["remove"])
    def remove(self, request: HttpRequest, queryset: QuerySet[PolicyException]) -> HttpResponse | None:
        """Now, on every box concerned."""
        return ask(
            self,
            request,
            queryset,
            action="remove",
            title=_("retirée"),
            text=_("Les boîtiers concernés bloquent de nouveau, dans les secondes qui suivent."),
            form=forms.Form,
            labels={},
            apply=lambda who, row, _values: orders.remove_exception(who, row),
        )


def scope(obj: Any) -> str:
    """A box, a commune, or everybody."""
    return str(obj.box or obj.commune or _("tout le parc"))


class Protection(Ordered):
    """Never-block and essential services: deleted one by one, through the service."""

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """By role."""
        return self.may(request, self.add_permission.replace("add_", "delete_"))

    def delete_model(self, request: HttpRequest, obj: Any) -> None:
        """The documents follow."""
        try:
            orders.forget(actor(request), cast("NeverBlock | EssentialService", obj))
        except DepartmentError as error:
            self.message_user(request, str(error), messages.ERROR)


@register(NeverBlock, site=site)
class NeverBlockAdmin(Protection):
    """Names and addresses that no base may block."""

    made_by = NeverBlockForm
    add_permission = "add_neverblock"
    list_display = ("target", "note", "created", "created_by")
    search_fields = ("target", "note")


@register(EssentialService, site=site)
class EssentialServiceAdmin(Protection):
    """What stays reachable at isolation level 2."""

    made_by = EssentialForm
    add_permission = "add_essentialservice"
    list_display = ("name", "rank", "note", "created_by")
    search_fields = ("name", "note")


@register(Isolation, site=site)
class IsolationAdmin(ReadOnly):
    """What was ordered; ordered from the list of boxes."""

    list_display = ("box", "level", "until", "reason", "created_by", "lifted")
    list_filter = (
        "level",
        in_force("lifted", (("now", gettext_lazy("en vigueur")), ("over", gettext_lazy("fini")))),
    )
    list_select_related = ("box__commune",)


@register(Quarantine, site=site)
class QuarantineAdmin(ReadOnly):
    """What was ordered."""

    list_display = ("box", "device", "until", "reason", "created_by", "lifted")
    list_filter = (in_force("lifted", (("now", gettext_lazy("en vigueur")), ("over", gettext_lazy("finie")))),)
    list_select_related = ("box__commune",)


@register(DesiredState, site=site)
class DesiredStateAdmin(ReadOnly):
    """Every document that was signed."""

    list_display = ("box", "version", "issued", "expires", "operator", "result_", "code")
    list_filter = (("result", in_words(words.result)),)
    list_select_related = ("box__commune",)
    search_fields = ("box__id", "box__commune__name", "operator")
    exclude = ("envelope", "digest")

    @display(description=gettext_lazy("résultat"), ordering="result")
    def result_(self, obj: DesiredState) -> str:
        """In words."""
        return words.result(obj.result)


@register(Command, site=site)
class CommandAdmin(ReadOnly):
    """Every command, and its answer."""

    list_display = ("issued", "box", "op_", "state", "code", "operator")
    list_filter = (("op", in_words(words.op)), "state")
    list_select_related = ("box__commune",)
    search_fields = ("box__id", "box__commune__name", "id")
    exclude = ("envelope",)

    def name_of(self, obj: Command) -> str:
        """What was asked, and of whom."""
        return f"{words.op(obj.op)} · {obj.box}"

    @display(description=gettext_lazy("commande"), ordering="op")
    def op_(self, obj: Command) -> str:
        """In words."""
        return words.op(obj.op)


@register(BaseRelease, site=site)
class BaseReleaseAdmin(ReadOnly):
    """Toxic bases and how far they went; published by `vigie-department base`."""

    list_display = ("version", "stage", "stage_since", "created", "emergency_", "operator", "note")
    list_filter = ("stage", "emergency")

    @display(description=gettext_lazy("en urgence"), ordering="emergency")
    def emergency_(self, obj: BaseRelease) -> str:
        """Most are not."""
        return only_yes(obj.emergency)
