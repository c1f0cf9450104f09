"""`python -m tests.support.rollout_program CONFIG N`: N boxes in service, online, in a department's database."""

from __future__ import annotations

import sys
from pathlib import Path

from vigie_department import config as configuration
from vigie_department.console import setup


def main(path: str, number: str) -> None:
    """Everything in one transaction."""
    setup.start(configuration.load(Path(path)))
    from django.db import transaction
    from django.utils import timezone

    from tests.support.messages import box_id
    from tests.support.rolloutfleet import OLD
    from vigie_department.console.models import Box, BoxStatus, Commune

    now = timezone.now()
    with transaction.atomic():
        communes = Commune.objects.bulk_create(
            Commune(insee=f"{n:05}", name=f"Commune {n}", epci=f"EPCI {n % 20}", opening="lu-ve 9h-17h")
            for n in range(int(number))
        )
        boxes = Box.objects.bulk_create(
            Box(id=box_id(f"rollout-{n}"), state=Box.State.ACTIVE, commune=commune)
            for n, commune in enumerate(communes)
        )
        BoxStatus.objects.bulk_create(
            BoxStatus(box=box, online=True, session=1, seen=now, version=str(OLD)) for box in boxes
        )


if __name__ == "__main__":
    main(*sys.argv[1:])
