"""Persons of the console: a login, a role, a second factor."""

from __future__ import annotations

from typing import Final

from django.contrib.auth.models import Group, User
from django.contrib.auth.password_validation import validate_password
from django.core.exceptions import ValidationError
from django.db import transaction
from django_otp.plugins.otp_totp.models import TOTPDevice

from vigie_department.console import roles
from vigie_department.console.services import audit
from vigie_department.console.services.audit import Actor
from vigie_department.errors import UsageError
from vigie_department.texts import _

ROLES: Final = {"reader": roles.READER, "operator": roles.OPERATOR, "administrator": roles.ADMINISTRATOR}


def find(name: str) -> User:
    """By login. UsageError."""
    found = User.objects.filter(username=name).first()
    if found is None:
        raise UsageError(_("« {name} » : personne n'a ce nom").format(name=name))
    return found


def add(actor: Actor, name: str, role: str, password: str) -> User:
    """A person; who can change something enrols a second factor at the first login."""
    if User.objects.filter(username=name).exists():
        raise UsageError(_("« {name} » existe déjà").format(name=name))
    user = User(username=name, is_staff=True)
    try:
        user.full_clean(exclude=["password"])
        validate_password(password, user)
    except ValidationError as error:
        raise UsageError(" ".join(error.messages)) from error
    with transaction.atomic():
        user.set_password(password)
        user.save()
        user.groups.add(Group.objects.get(name=ROLES[role]))
        audit.record(actor, "user.add", user, name=name, role=ROLES[role])
    return user


def reset_factor(actor: Actor, user: User) -> None:
    """Forget the second factor: the next login enrols a new one."""
    with transaction.atomic():
        TOTPDevice.objects.filter(user=user).delete()
        audit.record(actor, "user.reset-factor", user, name=user.username)
