"""What a compiled base must say, worked out place by place from the words of the rules."""

from __future__ import annotations

from collections.abc import Sequence

from vigie.contract.codes import Action, Category, Direction
from vigie.filter.base.columns import Feed
from vigie.filter.base.model import CLASS_NEVER, CLASS_PORTS, NOT_LISTED, ClassEntry

#: The categories that the tests use, the most severe first.
_SEVERE = [Category.C2, Category.SCANNER, Category.SPAM]


def verdict(covering: Sequence[tuple[Feed, int]]) -> tuple[ClassEntry, set[int]]:
    """Class of a place and its listed ports, from the (feed, port) entries that cover it."""
    groups = (
        [e for e in covering if e[0].action == Action.ALLOW],
        [e for e in covering if e[0].action == Action.BLOCK and e[1] == 0],
        [e for e in covering if e[0].action == Action.BLOCK and e[1] != 0],
        [e for e in covering if e[0].action == Action.OBSERVE and e[1] == 0],
        [e for e in covering if e[0].action == Action.OBSERVE and e[1] != 0],
    )
    winners = next((group for group in groups if group), [])
    if not winners:
        return NOT_LISTED, set()
    if winners[0][0].action == Action.ALLOW:
        return ClassEntry(flags=CLASS_NEVER), set()
    ports = {port for _, port in winners if port}
    directions = {feed.direction for feed, _ in winners}
    return ClassEntry(
        CLASS_PORTS if ports else 0,
        next(iter(directions)) if len(directions) == 1 else Direction.BOTH,
        winners[0][0].action,
        min((feed.category for feed, _ in winners), key=_SEVERE.index),
    ), ports
