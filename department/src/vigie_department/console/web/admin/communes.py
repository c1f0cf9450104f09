"""Pages of communes."""

from __future__ import annotations

from typing import Any

from django.contrib.admin import display, register
from django.core.exceptions import ValidationError
from django.db import transaction
from django.db.models import Count, QuerySet
from django.http import HttpRequest
from django.utils.translation import gettext_lazy as _

from vigie_department.console.models import Claim, Commune
from vigie_department.console.services import audit, communes
from vigie_department.console.web.admin.common import ModelForm, ReadOnly, listing, only_yes
from vigie_department.console.web.login import actor
from vigie_department.console.web.site import site
from vigie_department.errors import DepartmentError


class CommuneForm(ModelForm):
    """Says what is wrong before anything is saved."""

    class Meta:
        model = Commune
        fields = "__all__"

    def clean(self) -> dict[str, Any]:
        """Opening hours too."""
        cleaned = super().clean() or {}
        candidate = Commune(**{name: cleaned.get(name) for name in ("insee", "name", "opening") if cleaned.get(name)})
        try:
            communes.check_opening(candidate)
        except DepartmentError as error:
            raise ValidationError({"opening": str(error)}) from error
        return cleaned


@register(Commune, site=site)
class CommuneAdmin(ReadOnly):
    """Communes: edited by operators, deleted by administrators when nothing refers to them."""

    form = CommuneForm
    list_display = ("name", "insee", "epci", "boxes_", "volunteer_", "contact_phone")
    list_filter = ("volunteer", "epci")
    search_fields = ("name", "insee", "epci", "contact_name")
    readonly_fields = ("boxes_",)

    def get_queryset(self, request: HttpRequest) -> QuerySet[Commune]:
        """With the number of boxes."""
        found: QuerySet[Commune] = super().get_queryset(request).annotate(number=Count("boxes"))
        return found

    def has_add_permission(self, request: HttpRequest, *_: Any) -> bool:
        """By role."""
        return self.may(request, "add_commune")

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """By role."""
        return self.may(request, "change_commune")

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """By role."""
        return self.may(request, "delete_commune")

    @display(description=_("essaie les nouvelles bases"), ordering="volunteer")
    def volunteer_(self, obj: Commune) -> str:
        """Few do."""
        return only_yes(obj.volunteer)

    def boxes_(self, obj: Commune) -> Any:
        """Its boxes."""
        return listing([(box.pk, box.get_state_display()) for box in obj.boxes.all()]) if obj.pk else "-"

    boxes_.short_description = _("boîtiers")  # type: ignore[attr-defined]

    def save_model(self, request: HttpRequest, obj: Commune, form: Any, change: bool) -> None:
        """The documents of its boxes follow."""
        changed = {name: str(form.cleaned_data.get(name)) for name in form.changed_data}
        communes.edit(actor(request), obj, changed)

    def delete_model(self, request: HttpRequest, obj: Commune) -> None:
        """Refused by the database while a box is there."""
        with transaction.atomic():
            audit.record(actor(request), "commune.delete", obj, insee=obj.insee)
            obj.delete()


@register(Claim, site=site)
class ClaimAdmin(ReadOnly):
    """Labels that wait for their box."""

    list_display = ("claim_id", "commune", "at", "by")
    search_fields = ("claim_id", "commune__name")
