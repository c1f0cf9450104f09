"""Pages of the console's users. An administrator gives one of three roles, and nothing beyond."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.contrib.admin import RelatedFieldListFilter, action, display, register
from django.contrib.auth.admin import UserAdmin
from django.contrib.auth.models import Group, User
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from django_otp.plugins.otp_totp.models import TOTPDevice

from vigie_department.console import roles
from vigie_department.console.services import audit, people
from vigie_department.console.web import words
from vigie_department.console.web.login import actor
from vigie_department.console.web.site import site

if TYPE_CHECKING:
    Base = UserAdmin[User]
else:
    # Django's class takes a parameter in its stubs only
    Base = UserAdmin


class RoleFilter(RelatedFieldListFilter):
    """By role, in the reader's language."""

    def field_choices(self, field: Any, request: HttpRequest, model_admin: Any) -> list[tuple[str, Any]]:
        """The roles' names are French in the database."""
        return [(key, words.role(str(name))) for key, name in super().field_choices(field, request, model_admin)]


@register(User, site=site)
class PersonAdmin(Base):
    """Neither superusers nor single permissions: what a person may do is its role."""

    list_display = ("username", "first_name", "last_name", "role_", "factor_", "is_active", "last_login")
    list_filter = ("is_active", ("groups", RoleFilter))
    readonly_fields = ("last_login", "date_joined", "factor_")
    filter_horizontal = ()
    fieldsets = (
        (None, {"fields": ("username", "password")}),
        (gettext_lazy("Personne"), {"fields": ("first_name", "last_name", "email")}),
        (gettext_lazy("Droits"), {"fields": ("is_active", "groups", "factor_", "last_login", "date_joined")}),
    )
    add_fieldsets = ((None, {"fields": ("username", "usable_password", "password1", "password2", "groups")}),)
    actions = ("reset_factor",)

    def get_queryset(self, request: HttpRequest) -> QuerySet[User]:
        """A superuser, if somebody made one by hand, is out of an administrator's reach."""
        found = super().get_queryset(request)
        return found if request.user.is_superuser else found.filter(is_superuser=False)

    def get_actions(self, request: HttpRequest) -> dict[str, Any]:
        """People are made inactive, not deleted: the audit names them."""
        actions = super().get_actions(request)
        actions.pop("delete_selected", None)
        return actions

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Nobody."""
        return False

    def formfield_for_manytomany(self, db_field: Any, request: HttpRequest, **kwargs: Any) -> Any:
        """The three roles."""
        if db_field.name == "groups":
            kwargs["queryset"] = Group.objects.filter(name__in=roles.ROLES)
        field: Any = super().formfield_for_manytomany(db_field, request, **kwargs)
        if db_field.name == "groups":
            field.label_from_instance = lambda group: words.role(group.name)
        return field

    def save_model(self, request: HttpRequest, obj: User, form: Any, change: bool) -> None:
        """Everybody in here uses the console."""
        obj.is_staff = True
        super().save_model(request, obj, form, change)

    def save_related(self, request: HttpRequest, form: Any, formsets: Any, change: bool) -> None:
        """The role is known only now."""
        super().save_related(request, form, formsets, change)
        user = form.instance
        groups = sorted(user.groups.values_list("name", flat=True))
        changed = [name for name in form.changed_data if not name.startswith("password")]
        audit.record(
            actor(request),
            "user.edit" if change else "user.add",
            user,
            name=user.username,
            role=groups,
            changed=changed,
        )

    def log_change(self, request: HttpRequest, obj: Any, message: Any) -> None:  # type: ignore[override]
        """A password's change is not in `save_related`."""
        if "password" in str(message).lower() or "mot de passe" in str(message).lower():
            audit.record(actor(request), "user.password", obj, name=obj.username)

    def log_addition(self, request: HttpRequest, obj: Any, message: Any) -> None:  # type: ignore[override]
        """In the audit already."""

    @display(description=gettext_lazy("rôle"))
    def role_(self, obj: User) -> str:
        """One of three."""
        return ", ".join(words.role(name) for name in obj.groups.values_list("name", flat=True)) or "-"

    @display(description=gettext_lazy("second facteur"), boolean=True)
    def factor_(self, obj: User) -> bool:
        """Enrolled or not."""
        return bool(TOTPDevice.objects.filter(user=obj, confirmed=True).exists())

    @action(description=gettext_lazy("Oublier le second facteur (téléphone perdu)"), permissions=["change"])
    def reset_factor(self, request: HttpRequest, queryset: QuerySet[User]) -> None:
        """The next login enrols a new one."""
        for user in queryset:
            people.reset_factor(actor(request), user)
            self.message_user(request, _("{name} : second facteur oublié").format(name=user.username))
