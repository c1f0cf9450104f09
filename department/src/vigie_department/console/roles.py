"""Three roles, as Django groups: a reader looks, an operator runs the fleet, an administrator also removes and admits.

They are brought in line after each migration, so that a permission added by an update reaches them. What a person may
do beyond that is given by the administrator, in the console.
"""

from __future__ import annotations

from typing import Any, Final

READER: Final = "Lecteur"
OPERATOR: Final = "Opérateur"
ADMINISTRATOR: Final = "Administrateur"
ROLES: Final = (READER, OPERATOR, ADMINISTRATOR)

_READ: Final = (
    "alert",
    "baserelease",
    "box",
    "boxstatus",
    "certificate",
    "claim",
    "command",
    "commune",
    "counter",
    "desiredstate",
    "essentialservice",
    "exceptionrequest",
    "freeze",
    "isolation",
    "neverblock",
    "policyexception",
    "quarantine",
    "rollout",
    "rolloutbox",
)
_READER: Final = frozenset(f"view_{name}" for name in _READ)
_OPERATOR: Final = _READER | {
    "add_commune",
    "change_commune",
    "change_box",
    "change_alert",
    "change_exceptionrequest",
    "add_policyexception",
    "release_box",
    "isolate_box",
    "command_box",
    "view_auditentry",
    "view_diagnostic",
}
_ADMINISTRATOR: Final = _OPERATOR | {
    "delete_commune",
    "revoke_box",
    *(f"{verb}_{name}" for verb in ("add", "change", "delete") for name in ("neverblock", "essentialservice")),
    "view_aside",
    "view_outgoing",
    "view_receipt",
}
_USERS: Final = frozenset({"view_user", "add_user", "change_user"})

PERMISSIONS: Final = {READER: _READER, OPERATOR: _OPERATOR, ADMINISTRATOR: _ADMINISTRATOR | _USERS}


def needs_second_factor(user: Any) -> bool:
    """True for who can change something: everybody but plain readers."""
    if user.is_superuser:
        return True
    return any(not name.split(".", 1)[1].startswith("view_") for name in user.get_all_permissions())


def after_migrate(**_: Any) -> None:
    """Give each role its permissions. Idempotent; permissions that an administrator added to a role stay."""
    from django.apps import apps
    from django.contrib.auth.management import create_permissions
    from django.contrib.auth.models import Group, Permission

    for label in ("auth", "otp_totp", "console"):
        create_permissions(apps.get_app_config(label), verbosity=0)
    for role, wanted in PERMISSIONS.items():
        group, _made = Group.objects.get_or_create(name=role)
        group.permissions.add(*Permission.objects.filter(codename__in=wanted))
