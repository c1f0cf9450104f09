"""Who acts, and the record of it."""

from __future__ import annotations

import contextlib
import getpass
import os
from dataclasses import dataclass
from typing import Any

from django.db import models
from django.utils import timezone

from vigie_department.console.models import AuditEntry


@dataclass(frozen=True, slots=True)
class Actor:
    """A person of the console (`name` is the login), a person at the machine (`root@shell`), or a process."""

    name: str
    address: str | None = None


def shell() -> Actor:
    """Whoever types a command on the server: through sudo, the one who called it."""
    name = os.environ.get("SUDO_USER", "")
    if not name:
        with contextlib.suppress(OSError, KeyError):
            name = getpass.getuser()
    return Actor(f"{name or os.getuid()}@shell"[:150])


AUTHORITY = Actor("authority")
INGEST = Actor("ingest")
PUBLISHER = Actor("publisher")
ROLLOUT = Actor("rollout")


def record(actor: Actor, action: str, what: models.Model | None = None, *, box: str = "", **detail: Any) -> AuditEntry:
    """One entry. In the caller's transaction, so that what happened and its record stand or fall together.

    action: `box.revoke`, `exception.add`...; what: the object; box: the box concerned, found from `what` when it has
    one; detail: anything JSON can hold, and no secret.
    """
    kind = object_id = ""
    if what is not None:
        kind, object_id = what._meta.model_name or "", str(what.pk)
        if not box:
            box = object_id if kind == "box" else str(getattr(what, "box_id", None) or "")
    return AuditEntry.objects.create(
        at=timezone.now(),
        actor=actor.name,
        address=actor.address,
        action=action,
        kind=kind,
        object_id=object_id[:64],
        box=box,
        detail=detail,
    )
