"""Telling the boxes to look, through the queue of the process that owns the broker session."""

from __future__ import annotations

import time

from vigie.contract import topics
from vigie.contract.downward import Announcement
from vigie.contract.words import Look


def announce(version: int) -> None:
    """An unsigned hint: what there is to have, and whether it is right, boxes learn from TUF. Needs Django."""
    from vigie_department.console.outgoing import enqueue

    enqueue(topics.announcement(Look.BASE), Announcement(version, int(time.time())).to_bytes())
